#include "client/base/hash.h"
#include "client/base/op.h"
#include "client/base/text.h"
#include "client/wire/resp.h"
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* Sends the same commands to redis-server and kvd and compares the replies byte for byte, in
 * RESP2 and in RESP3, pipelined in batches.
 *
 *   differential REDIS_HOST:PORT KVD_HOST:PORT COMMANDS EXCEPTIONS [GENERATED [SEED]]
 *
 * COMMANDS holds one command a line, words as redis-cli takes them; EXCEPTIONS holds
 * `mode | pattern | reason` lines, see that file. An exception that no command needed is a
 * failure too, so that the table cannot rot. Prints the differences and `N passed, N failed`;
 * exits 1 if any failed, 2 if it could not run. */
enum { BATCH = 50, WORDS_MAX = 64, EXCEPTIONS_MAX = 128, SHOWN_MAX = 30, RESYNC_EVERY = 250 };

static void die(const char *what, const char *detail)
{
    fprintf(stderr, "differential: %s: %s\n", what, detail);
    exit(2);
}

/* ---- one server ---- */

struct server {
    const char *name;
    int socket;
    struct kv_buf in, out;
};

static void server_dial(struct server *s, const char *name, const char *address)
{
    char host[64];
    const char *colon = strrchr(address, ':');
    if (colon == NULL || (size_t)(colon - address) >= sizeof host) die("not HOST:PORT", address);
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10))};
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1) die("not an IPv4 address", host);
    *s = (struct server){.name = name, .socket = socket(AF_INET, SOCK_STREAM, 0)};
    if (s->socket < 0 || connect(s->socket, (struct sockaddr *)&to, sizeof to) != 0)
        die(address, strerror(errno));
    int on = 1;
    struct timeval patience = {.tv_sec = 10};
    setsockopt(s->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(s->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    kv_buf_init(&s->in, 0);
    kv_buf_init(&s->out, 0);
}

static void server_hang_up(struct server *s)
{
    close(s->socket);
    kv_buf_free(&s->in);
    kv_buf_free(&s->out);
}

static void server_send(struct server *s)
{
    while (s->out.size > 0) {
        ssize_t sent = send(s->socket, kv_buf_slice(&s->out).data, s->out.size, MSG_NOSIGNAL);
        if (sent <= 0) die(s->name, "closed the connection while it was sent commands");
        kv_buf_consume(&s->out, (size_t)sent);
    }
}

/* The size of the whole reply at the front of `in`; 0: not all here. */
static size_t reply_size(struct kv_slice in, const char *name)
{
    struct kv_slice rest = in;
    for (int64_t open = 1; open > 0; open--) {
        struct resp_value v;
        enum kv_err err = resp_next(&rest, SIZE_MAX, &v);
        if (err == KV_BUSY) return 0;
        if (err != KV_OK) die(name, "sent a reply that does not parse");
        if (v.is_null) continue;
        if (v.type == RESP_ARRAY || v.type == RESP_SET || v.type == RESP_PUSH) open += v.number;
        if (v.type == RESP_MAP) open += 2 * v.number;
    }
    return in.size - rest.size;
}

/* Appends the next reply to `reply`. */
static void server_receive(struct server *s, struct kv_buf *reply)
{
    size_t size;
    while ((size = reply_size(kv_buf_slice(&s->in), s->name)) == 0) {
        uint8_t *room = kv_buf_reserve(&s->in, 65536);
        if (room == NULL) die(s->name, "out of memory");
        ssize_t got = recv(s->socket, room, 65536, 0);
        if (got <= 0)
            die(s->name, got == 0 ? "closed the connection" : "did not answer within 10 s");
        kv_buf_commit(&s->in, (size_t)got);
    }
    kv_buf_clear(reply);
    kv_buf_append(reply, kv_buf_slice(&s->in).data, size);
    kv_buf_consume(&s->in, size);
}

/* ---- commands ---- */

struct command {
    struct kv_buf bytes; /* the words, one after another */
    size_t sizes[WORDS_MAX];
    uint32_t count;
};

static void command_clear(struct command *c)
{
    kv_buf_clear(&c->bytes);
    c->count = 0;
}

static void command_word(struct command *c, struct kv_slice word)
{
    assert(c->count < WORDS_MAX);
    kv_buf_append_slice(&c->bytes, word);
    c->sizes[c->count++] = word.size;
}

static void command_encode(const struct command *c, struct kv_buf *out)
{
    size_t at = 0;
    resp_put_array(out, c->count);
    for (uint32_t i = 0; i < c->count; at += c->sizes[i++])
        resp_put_bulk(out, kv_slice(kv_buf_slice(&c->bytes).data + at, c->sizes[i]));
}

/* As redis-cli would print it; also what the patterns of the exceptions match. */
static void command_show(const struct command *c, struct kv_buf *out)
{
    size_t at = 0;
    for (uint32_t i = 0; i < c->count; at += c->sizes[i++]) {
        if (i > 0) kv_buf_append_u8(out, ' ');
        if (c->sizes[i] == 0) kv_buf_append_text(out, "\"\"");
        for (size_t j = 0; j < c->sizes[i]; j++) {
            struct kv_slice bytes = kv_buf_slice(&c->bytes);
            assert(at + j < bytes.size);
            uint8_t byte = bytes.data[at + j];
            if (byte > ' ' && byte < 127)
                kv_buf_append_u8(out, byte);
            else
                kv_buf_printf(out, "\\x%02x", byte);
        }
    }
}

/* Words between spaces; "..." with \xHH \r \n \\ \" inside, and "..."*N repeats N times. */
static bool command_parse(struct command *c, const char *line)
{
    struct kv_buf word;
    kv_buf_init(&word, 0);
    command_clear(c);
    while (*line != '\0') {
        while (*line == ' ')
            line++;
        if (*line == '\0') break;
        kv_buf_clear(&word);
        if (*line != '"') {
            size_t size = strcspn(line, " ");
            command_word(c, kv_slice(line, size));
            line += size;
            continue;
        }
        for (line++; *line != '"'; line++) {
            if (*line == '\0') return false;
            uint8_t byte = (uint8_t)*line;
            if (byte == '\\') {
                line++;
                byte = (uint8_t)(*line == 'n' ? '\n' : *line == 'r' ? '\r' : *line);
                if (*line == 'x') {
                    if (!kv_hex_decode(kv_slice(line + 1, 2), &byte, 1)) return false;
                    line += 2;
                }
            }
            kv_buf_append_u8(&word, byte);
        }
        line++;
        uint64_t times = 1;
        if (*line == '*') {
            char *end;
            times = strtoull(line + 1, &end, 10);
            line = end;
        }
        size_t once = word.size;
        for (uint64_t i = 1; i < times; i++) {
            uint8_t *room = kv_buf_reserve(&word, once);
            const uint8_t *first = kv_buf_slice(&word).data;
            assert(room != NULL && first != NULL);
            memcpy(room, first, once);
            kv_buf_commit(&word, once);
        }
        command_word(c, kv_buf_slice(&word));
    }
    kv_buf_free(&word);
    return c->count > 0;
}

/* ---- exceptions ---- */

enum mode { MODE_SKIP, MODE_ERROR, MODE_CROSSSLOT, MODE_SHAPE, MODE_SET, MODE_NEAR };
struct exception {
    enum mode mode;
    int64_t tolerance; /* NEAR */
    char pattern[160];
    uint32_t uses;
};
struct exceptions {
    struct exception rows[EXCEPTIONS_MAX];
    uint32_t count;
};

static void exceptions_load(struct exceptions *e, const char *path)
{
    static const char *const names[] = {"skip", "error", "crossslot", "shape", "set", "near"};
    FILE *f = fopen(path, "r");
    char line[1024];
    if (f == NULL) die(path, strerror(errno));
    while (fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '\0' || line[0] == '#') continue;
        char *pattern = strstr(line, " | ");
        char *reason = pattern == NULL ? NULL : strstr(pattern + 3, " | ");
        if (reason == NULL || reason[3] == '\0' || e->count == EXCEPTIONS_MAX)
            die("bad exception", line);
        *pattern = *reason = '\0';
        pattern += 3;
        struct exception *row = &e->rows[e->count++];
        *row = (struct exception){.mode = MODE_NEAR + 1};
        char *number = strchr(line, ':');
        if (number != NULL) {
            *number = '\0';
            row->tolerance = strtoll(number + 1, NULL, 10);
        }
        for (unsigned m = 0; m <= MODE_NEAR; m++)
            if (strcmp(line, names[m]) == 0) row->mode = m;
        if (row->mode > MODE_NEAR || strlen(pattern) >= sizeof row->pattern)
            die("bad exception", line);
        strcpy(row->pattern, pattern);
    }
    fclose(f);
}

static struct exception *exception_find(struct exceptions *e, struct kv_slice shown)
{
    for (uint32_t i = 0; i < e->count; i++)
        if (kv_glob_match(kv_str(e->rows[i].pattern), shown, true)) return &e->rows[i];
    return NULL;
}

static int element_order(const void *a, const void *b)
{
    return kv_slice_cmp(*(const struct kv_slice *)a, *(const struct kv_slice *)b);
}

/* Whether two replies hold the same values, headers included, in any order. */
static bool same_set(struct kv_slice a, struct kv_slice b)
{
    enum { VALUES_MAX = 4096 };
    static struct kv_slice values[2][VALUES_MAX];
    struct kv_slice in[2] = {a, b};
    size_t counts[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        while (in[i].size > 0 && counts[i] < VALUES_MAX) {
            struct resp_value v;
            const uint8_t *start = in[i].data;
            if (resp_next(&in[i], SIZE_MAX, &v) != KV_OK) return false;
            values[i][counts[i]++] = kv_slice(start, (size_t)(in[i].data - start));
        }
        qsort(values[i], counts[i], sizeof values[i][0], element_order);
    }
    bool same = counts[0] == counts[1];
    for (size_t i = 0; same && i < counts[0]; i++)
        same = kv_slice_eq(values[0][i], values[1][i]);
    return same;
}

static bool excused(const struct exception *x, struct kv_slice redis, struct kv_slice kvd)
{
    struct resp_value a, b;
    struct kv_slice left = redis, right = kvd;
    bool both = resp_next(&left, SIZE_MAX, &a) == KV_OK && resp_next(&right, SIZE_MAX, &b) == KV_OK;
    if (!both) return false;
    switch (x->mode) {
    case MODE_SKIP: return true;
    case MODE_ERROR: return a.type == RESP_ERROR && b.type == RESP_ERROR;
    case MODE_CROSSSLOT: {
        static const char word[] = "CROSSSLOT ";
        return b.type == RESP_ERROR && b.text.size > sizeof word &&
               memcmp(b.text.data, word, sizeof word - 1) == 0;
    }
    case MODE_SHAPE: return a.type == b.type && a.is_null == b.is_null;
    case MODE_SET: return same_set(redis, kvd);
    case MODE_NEAR:
        return a.type == RESP_INTEGER && b.type == RESP_INTEGER && a.number > 0 && b.number > 0 &&
               llabs(a.number - b.number) <= x->tolerance;
    }
    return false;
}

/* ---- comparing ---- */

struct run {
    struct server redis, kvd;
    struct exceptions *exceptions;
    struct command batch[BATCH];
    uint32_t batched;
    int protocol;
    uint64_t passed, failed;
};

static void show(const char *who, struct kv_slice reply)
{
    printf("    %-6s", who);
    for (size_t i = 0; i < reply.size && i < 240; i++) {
        if (reply.data[i] >= ' ' && reply.data[i] < 127)
            putchar(reply.data[i]);
        else if (reply.data[i] == '\r')
            printf("\\r");
        else if (reply.data[i] == '\n')
            printf("\\n");
        else
            printf("\\x%02x", reply.data[i]);
    }
    printf("%s\n", reply.size > 240 ? " .." : "");
}

static void run_flush(struct run *r)
{
    struct kv_buf replies[2], text;
    kv_buf_init(&replies[0], 0);
    kv_buf_init(&replies[1], 0);
    kv_buf_init(&text, 0);
    for (uint32_t i = 0; i < r->batched; i++) {
        command_encode(&r->batch[i], &r->redis.out);
        command_encode(&r->batch[i], &r->kvd.out);
    }
    server_send(&r->redis);
    server_send(&r->kvd);
    for (uint32_t i = 0; i < r->batched; i++) {
        server_receive(&r->redis, &replies[0]);
        server_receive(&r->kvd, &replies[1]);
        struct kv_slice a = kv_buf_slice(&replies[0]), b = kv_buf_slice(&replies[1]);
        kv_buf_clear(&text);
        command_show(&r->batch[i], &text);
        struct exception *x = exception_find(r->exceptions, kv_buf_slice(&text));
        bool same = kv_slice_eq(a, b);
        /* Order, time and ids may happen to agree; every other exception must be needed. */
        bool by_chance = x != NULL && x->mode >= MODE_SHAPE;
        if (!same || by_chance) {
            bool is_excused = x != NULL && excused(x, a, b);
            if (is_excused) x->uses++;
            same = same || is_excused;
        }
        if (same) {
            r->passed++;
        } else if (r->failed++ < SHOWN_MAX) {
            printf("RESP%d  %.*s\n", r->protocol, (int)(text.size < 300 ? text.size : 300),
                   (const char *)kv_buf_slice(&text).data);
            show("redis", a);
            show("kvd", b);
        }
    }
    r->batched = 0;
    kv_buf_free(&replies[0]);
    kv_buf_free(&replies[1]);
    kv_buf_free(&text);
}

static struct command *run_next(struct run *r)
{
    if (r->batched == BATCH) run_flush(r);
    struct command *c = &r->batch[r->batched++];
    command_clear(c);
    return c;
}

static void run_line(struct run *r, const char *line)
{
    if (!command_parse(run_next(r), line)) die("bad command line", line);
}

static void run_file(struct run *r, const char *path)
{
    static char line[8192];
    FILE *f = fopen(path, "r");
    if (f == NULL) die(path, strerror(errno));
    while (fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] != '\0' && line[0] != '#') run_line(r, line);
    }
    fclose(f);
    run_flush(r);
}

/* ---- generated commands ---- */

static const char *const keys[] = {"{t}a", "{t}b", "{t}c", "{t}d", "{t}e", "{t}missing", "{t}"};
#define TEXT(literal)                                                                              \
    {                                                                                              \
        (const uint8_t *)(literal), sizeof(literal) - 1                                            \
    }
static const struct kv_slice texts[] = {
    TEXT("0"),
    TEXT("1"),
    TEXT("-1"),
    TEXT("2"),
    TEXT("7"),
    TEXT("8"),
    TEXT("9"),
    TEXT("100"),
    TEXT("-100"),
    TEXT("4095"),
    TEXT("9223372036854775807"),
    TEXT("1.5"),
    TEXT("1e3"),
    TEXT("-3.14"),
    TEXT("0x10"),
    TEXT("inf"),
    TEXT("-inf"),
    TEXT("nan"),
    TEXT("abc"),
    TEXT(""),
    TEXT(" 1"),
    TEXT("+1"),
    TEXT("01"),
    TEXT("-0"),
    TEXT("-9223372036854775808"),
    TEXT("9223372036854775808"),
    TEXT("foobar"),
    TEXT("hello world"),
    TEXT("\xff\x00\x80"),
    TEXT("99999999999999999999"),
    TEXT("foo"),
    TEXT("bar"),
    TEXT("5"),
    TEXT("#1"),
    TEXT("#0"),
    TEXT("3.0e-3"),
    TEXT("1 "),
    TEXT("1\x00"),
};
static const char *const options[] = {
    "EX",      "PX",   "EXAT",    "PXAT",         "NX",          "XX",       "GT",       "LT",
    "KEEPTTL", "GET",  "PERSIST", "SET",          "INCRBY",      "OVERFLOW", "WRAP",     "SAT",
    "FAIL",    "u8",   "i16",     "u63",          "i64",         "u64",      "i1",       "u1",
    "i65",     "AND",  "OR",      "XOR",          "NOT",         "BIT",      "BYTE",     "REPLACE",
    "DB",      "LEN",  "IDX",     "WITHMATCHLEN", "MINMATCHLEN", "ENCODING", "REFCOUNT", "COUNT",
    "MATCH",   "TYPE", "ASYNC",   "SYNC",
};
#define PICK(list, state) (list)[kv_random_next(state) % (sizeof(list) / sizeof(list)[0])]

/* Whether a number in this place is a short time to live, which could pass between the two. */
static bool is_lifetime(const char *name, uint32_t at, const char *before)
{
    bool by_position = (strstr(name, "EXPIRE") != NULL || strstr(name, "SETEX") != NULL) && at == 2;
    return by_position || strcmp(before, "EX") == 0 || strcmp(before, "PX") == 0;
}

static void generate(struct command *c, uint64_t *random)
{
    const struct kv_op_info *info;
    do { /* RANDOMKEY, DBSIZE and SCAN depend on more than the commands before */
        info = kv_op_info((uint32_t)(kv_random_next(random) % KV_OP_FLUSHALL) + 1);
    } while (info == NULL || info->key_first == 0);
    uint32_t min = (uint32_t)info->arity_min;
    uint32_t max = info->arity_max < 0 ? min + 5 : (uint32_t)info->arity_max;
    bool is_wrong = kv_random_next(random) % 12 == 0;
    uint32_t n = is_wrong ? (uint32_t)(kv_random_next(random) % 8)
                          : min + (uint32_t)(kv_random_next(random) % (max - min + 1));
    uint32_t first, step, key_count = kv_op_keys(info, n, &first, &step);
    const char *before = "";
    command_word(c, kv_str(info->name));
    for (uint32_t i = 0; i < n; i++) {
        bool is_key = key_count > 0 && i >= first && (i - first) % step == 0 &&
                      (i - first) / step < key_count;
        uint64_t dice = kv_random_next(random) % 10;
        bool is_option = !is_key && (i >= min ? dice < 6 : dice < 2);
        const char *option = is_key ? "" : PICK(options, random);
        struct kv_slice word = is_key      ? kv_str(PICK(keys, random))
                               : is_option ? kv_str(option)
                                           : PICK(texts, random);
        int64_t number;
        if (!is_key && is_lifetime(info->name, i + 1, before) && kv_parse_i64(word, &number) &&
            number > 0 && number < 10000)
            word = kv_str("100000");
        command_word(c, word);
        before = is_option ? option : "";
    }
}

static void run_generated(struct run *r, uint64_t count, uint64_t seed)
{
    uint64_t random = seed;
    for (uint64_t i = 0; i < count; i++) {
        if (i % RESYNC_EVERY == 0) { /* one difference must not cause a thousand */
            run_line(r, "FLUSHALL");
            run_line(r, "MSET {t}a foobar {t}b 10 {t}c 3.25 {t}d \"\\xff\\xf0\\x00\" {t}e \"\"");
        }
        generate(run_next(r), &random);
    }
    run_flush(r);
}

/* Every spelling of every command with no arguments and with too many. */
static void run_arity(struct run *r)
{
    for (uint32_t code = 1; code < KV_OP_KVGET; code++) {
        const struct kv_op_info *info = kv_op_info(code);
        if (info == NULL) continue;
        for (uint32_t n = 0; n <= 4; n++) {
            bool fits = n >= (uint32_t)info->arity_min &&
                        (info->arity_max < 0 || n <= (uint32_t)info->arity_max);
            if (fits) continue;
            struct command *c = run_next(r);
            command_word(c, kv_str(info->name));
            for (uint32_t i = 0; i < n; i++)
                command_word(c, kv_str("{t}x"));
        }
    }
    run_flush(r);
}

int main(int argc, char **argv)
{
    static struct run r;
    static struct exceptions exceptions;
    if (argc < 5 || argc > 7)
        die("usage", "differential REDIS KVD COMMANDS EXCEPTIONS [GENERATED [SEED]]");
    uint64_t generated = argc > 5 ? strtoull(argv[5], NULL, 10) : 5000;
    uint64_t seed = argc > 6 ? strtoull(argv[6], NULL, 10) : 1;
    exceptions_load(&exceptions, argv[4]);
    r.exceptions = &exceptions;
    for (r.protocol = 2; r.protocol <= 3; r.protocol++) {
        server_dial(&r.redis, "redis", argv[1]);
        server_dial(&r.kvd, "kvd", argv[2]);
        run_line(&r, r.protocol == 2 ? "HELLO 2" : "HELLO 3");
        run_line(&r, "FLUSHALL");
        run_flush(&r);
        run_file(&r, argv[3]);
        run_line(&r, "FLUSHALL");
        run_arity(&r);
        run_generated(&r, generated, seed + (uint64_t)r.protocol);
        server_hang_up(&r.redis);
        server_hang_up(&r.kvd);
    }
    for (uint32_t i = 0; i < exceptions.count; i++) {
        if (exceptions.rows[i].uses > 0) continue;
        printf("exception without a use: %s\n", exceptions.rows[i].pattern);
        r.failed++;
    }
    for (uint32_t i = 0; i < BATCH; i++)
        kv_buf_free(&r.batch[i].bytes);
    printf("seed %llu\n%llu passed, %llu failed\n", (unsigned long long)seed,
           (unsigned long long)r.passed, (unsigned long long)r.failed);
    return r.failed > 0;
}

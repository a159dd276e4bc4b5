#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "client/base/hash.h"
#include "client/base/text.h"
#include "client/kv_client.h"
#include "tools/kvctl/journey.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/lines.h"
#include "tools/kvctl/progress.h"

/* Import: a window of open puts over a file read in bounded memory.
 * (1) Rows are acknowledged in any order, but count as done only without a gap: `journey.offset`
 *     lies behind the last row before which all are acknowledged.
 * (2) Two rows of one key are never open at once: the later one must win.
 * (3) Row n goes under the idempotency key (journey.client, n), in every run (journey.h). */
enum {
    IMPORT_WINDOW_DEFAULT = 256,
    IMPORT_WINDOW_MAX = 1024,
    IMPORT_BYTES_MAX = 16 << 20,   /* of open rows; one larger row goes alone */
    IMPORT_TIMEOUT_MS = 30000,     /* of a row: longer than a failover */
    IMPORT_SAVE_NS = 500 * 1000000 /* between two saves of the journey */
};

struct import;
struct row {
    struct kv_call call;
    struct import *import;
    struct kv_buf bytes;
    struct kv_slice args[3];
    char deadline[21];
    uint64_t key_hash, end_offset, sequence, line;
    bool is_open, is_done;
};

struct import {
    struct kvctl *k;
    const char *path;
    char journey_path[1100];
    bool has_journey; /* stdin has none */
    struct lines_reader reader;
    enum lines_format format;
    struct journey journey;
    struct row *rows; /* ring: row n lies at n % window */
    uint32_t window;
    uint64_t first, next; /* rows first .. next-1 were sent and are not all done */
    uint64_t open_bytes, size_bytes;
    struct kv_buf parked; /* a row read that must wait for another of its key, or for room */
    struct lines_row parked_row;
    uint64_t parked_offset, parked_line;
    bool is_parked, at_end;
    int code;
    uint64_t done, resumed, bytes, tries, saved_ns;
};

static void row_done(struct kv_call *call)
{
    struct row *row = container_of(call, struct row, call);
    struct import *m = row->import;
    row->is_open = false;
    m->open_bytes -= row->bytes.size;
    m->tries += call->result.tries;
    if (call->result.err == KV_OK) {
        row->is_done = true;
        m->done++;
        m->bytes += row->bytes.size;
    } else if (m->code == EXIT_OK) {
        char place[1200];
        snprintf(place, sizeof place, "%.1100s:%llu: ", m->path, (unsigned long long)row->line);
        m->code = kvctl_fail_at(m->k, place, &call->result);
    }
    while (m->first < m->next && m->rows[m->first % m->window].is_done) {
        struct row *head = &m->rows[m->first % m->window];
        m->journey.offset = head->end_offset;
        m->journey.sequence = head->sequence;
        m->first++;
    }
}

static bool key_is_open(const struct import *m, uint64_t hash)
{
    for (uint64_t n = m->first; n < m->next; n++) {
        const struct row *row = &m->rows[n % m->window];
        if (row->is_open && row->key_hash == hash) return true;
    }
    return false;
}

/* Reads the next row of the file into `parked`. */
static void row_read(struct import *m)
{
    char why[LINES_WHY_BYTES] = "";
    struct kv_slice line;
    enum kv_err err;
    do {
        err = lines_next(&m->reader, &line);
    } while (err == KV_OK && line.size == 0);
    if (err == KV_OK) err = lines_parse(m->format, line, &m->parked, &m->parked_row, why);
    m->parked_offset = m->reader.offset;
    m->parked_line = m->reader.number;
    if (err == KV_OK && m->parked_row.key.size > KV_USER_KEY_BYTES_MAX) {
        err = KV_MALFORMED;
        snprintf(why, sizeof why, "a key of %zu bytes; %d are the most", m->parked_row.key.size, KV_USER_KEY_BYTES_MAX);
    }
    m->is_parked = err == KV_OK;
    if (err == KV_OK) return;
    m->at_end = true;
    if (err == KV_NOT_FOUND) return;
    unsigned long long number = m->reader.number + (err == KV_TOO_BIG);
    m->code = err == KV_IO || err == KV_NO_SPACE ? EXIT_INTERNAL : EXIT_USAGE;
    kvctl_say(m->k, "%s:%llu: %s", m->path, number, why[0] != 0 ? why : kv_err_text(err));
}

/* Sends the parked row if the window, the memory and its key allow. */
static bool row_send(struct import *m)
{
    uint64_t hash = kv_hash64(m->parked_row.key, 0);
    if (m->next - m->first == m->window) return false;
    if (m->open_bytes > 0 && m->open_bytes + m->parked.size > IMPORT_BYTES_MAX) return false;
    if (key_is_open(m, hash)) return false;
    struct row *row = &m->rows[m->next % m->window];
    struct kv_buf swap = row->bytes;
    row->bytes = m->parked;
    m->parked = swap;
    m->is_parked = false;
    uint64_t ttl = m->parked_row.ttl_ms;
    uint64_t expire = ttl == 0 ? 0 : env_wall_ms(kv_client_env(kv_client_of(m->k->kv))) + ttl;
    row->import = m;
    row->key_hash = hash;
    row->end_offset = m->parked_offset;
    row->line = m->parked_line;
    row->sequence = m->journey.sequence + (m->next - m->first) + 1;
    row->is_open = true;
    row->is_done = false;
    row->args[0] = m->parked_row.key;
    row->args[1] = m->parked_row.value;
    row->args[2] = kv_slice(row->deadline, kv_format_i64((int64_t)expire, row->deadline));
    row->call.op = KV_OP_KVPUT;
    row->call.args = row->args;
    row->call.arg_count = 3;
    row->call.timeout_ms = m->k->timeout_given ? m->k->timeout_ms : IMPORT_TIMEOUT_MS;
    row->call.idempotency_client = m->journey.client;
    row->call.idempotency_sequence = row->sequence;
    row->call.done = row_done;
    m->open_bytes += row->bytes.size;
    m->next++;
    kv_client_call(kv_client_of(m->k->kv), &row->call);
    return true;
}

static void journey_keep(struct import *m, bool now)
{
    char why[JOURNEY_WHY_BYTES];
    uint64_t now_ns = env_now_ns(kv_client_env(kv_client_of(m->k->kv)));
    if (!m->has_journey || (!now && now_ns - m->saved_ns < IMPORT_SAVE_NS)) return;
    m->saved_ns = now_ns;
    if (journey_save(m->journey_path, &m->journey, why) == KV_OK || m->code != EXIT_OK) return;
    kvctl_say(m->k, "%s", why);
    m->code = EXIT_INTERNAL;
}

static void import_loop(struct import *m)
{
    struct progress bar;
    double total = m->size_bytes > 0 ? (double)m->size_bytes : 1;
    progress_start(&bar, m->k->progress && m->size_bytes > 0, "import", (double)m->journey.offset / total);
    m->saved_ns = env_now_ns(kv_client_env(kv_client_of(m->k->kv)));
    for (;;) {
        while (m->code == EXIT_OK && (m->is_parked || !m->at_end)) {
            if (!m->is_parked) row_read(m);
            if (!m->is_parked || m->code != EXIT_OK || !row_send(m)) break;
        }
        bool open = false;
        for (uint64_t n = m->first; n < m->next && !open; n++) open = m->rows[n % m->window].is_open;
        if (!open && (m->code != EXIT_OK || (m->at_end && !m->is_parked))) break;
        kv_turn(m->k->kv);
        journey_keep(m, false);
        progress_show(&bar, (double)m->journey.offset / total, m->done);
    }
    progress_end(&bar);
    journey_keep(m, true);
    double seconds = progress_seconds(&bar);
    if (m->k->format == FORMAT_JSON)
        printf("{\"rows\":%llu,\"resumed\":%llu,\"bytes\":%llu,\"tries\":%llu,\"seconds\":%.3f,\"complete\":%s}\n",
               (unsigned long long)m->done, (unsigned long long)m->resumed, (unsigned long long)m->bytes,
               (unsigned long long)m->tries, seconds, m->code == EXIT_OK ? "true" : "false");
    else if (!m->k->quiet)
        fprintf(stderr, "imported %llu rows, %llu bytes in %.1f s (%.0f/s), %llu requests; %llu rows were there\n",
                (unsigned long long)m->done, (unsigned long long)m->bytes, seconds,
                seconds > 0 ? (double)m->done / seconds : 0, (unsigned long long)m->tries,
                (unsigned long long)m->resumed);
    if (m->code != EXIT_OK && m->has_journey)
        kvctl_say(m->k, "stopped behind byte %llu; the same command goes on from there",
                  (unsigned long long)m->journey.offset);
}

/* ---- before the first row ---- */

/* Hashes the first `size` bytes of the file, or as many as there are. */
static bool head_hash(FILE *f, uint32_t *size, uint64_t *hash)
{
    uint8_t bytes[JOURNEY_HEAD_BYTES];
    if (fseek(f, 0, SEEK_SET) != 0) return false;
    size_t got = fread(bytes, 1, *size, f);
    *size = (uint32_t)got;
    *hash = kv_hash64(kv_slice(bytes, got), 0);
    return !ferror(f);
}

static int journey_check(struct import *m, const uint8_t cluster[16])
{
    uint32_t size = m->journey.head_bytes;
    uint64_t hash;
    if (m->journey.keyspace != kv_client_rule(kv_client_of(m->k->kv))->keyspace)
        return kvctl_usage(m->k, "%s is of an import into another keyspace; next: --restart", m->journey_path);
    if (memcmp(m->journey.cluster, cluster, 16) != 0)
        return kvctl_usage(m->k, "%s is of an import into another cluster; next: --restart", m->journey_path);
    if (!head_hash(m->reader.file, &size, &hash) || size != m->journey.head_bytes || hash != m->journey.head ||
        m->journey.offset > m->size_bytes)
        return kvctl_usage(m->k, "%s is of an import of another file; next: --restart", m->journey_path);
    m->resumed = m->journey.sequence;
    return EXIT_OK;
}

static int journey_begin(struct import *m, bool restart)
{
    char why[JOURNEY_WHY_BYTES];
    const struct kv_map_info *map;
    struct kv_result r;
    uint8_t cluster[16] = {0};
    struct env *env = kv_client_env(kv_client_of(m->k->kv));
    /* The map makes a node tell its cluster. */
    if (kv_map_read(m->k->kv, false, &map, &r) != KV_OK) return kvctl_fail(m->k, &r);
    const struct kv_key_rule *rule = kv_client_rule(kv_client_of(m->k->kv));
    if (rule == NULL) {
        kvctl_say(m->k, "no such keyspace: %s; next: kvctl keyspace list", m->k->keyspace);
        return EXIT_NOT_FOUND;
    }
    (void)kv_client_cluster(kv_client_of(m->k->kv), cluster);
    static const uint8_t unnamed[16];
    if (memcmp(cluster, unnamed, sizeof cluster) == 0 && map->nodes[0].key.size == 32)
        memcpy(cluster, map->nodes[0].key.data, sizeof cluster); /* a node that has no cluster id has its own key */
    enum kv_err err = KV_NOT_FOUND;
    if (m->has_journey && !restart) err = journey_load(m->journey_path, &m->journey, why);
    if (err == KV_OK) {
        int code = journey_check(m, cluster);
        if (code != EXIT_OK) return code;
    } else if (err == KV_NOT_FOUND) {
        memset(&m->journey, 0, sizeof m->journey);
        memcpy(m->journey.cluster, cluster, sizeof cluster);
        m->journey.keyspace = rule->keyspace;
        for (size_t i = 0; i < sizeof m->journey.client; i += 8) {
            uint64_t random = env->ops->random(env);
            memcpy(m->journey.client + i, &random, 8);
        }
        m->journey.head_bytes = JOURNEY_HEAD_BYTES;
        if (m->has_journey && !head_hash(m->reader.file, &m->journey.head_bytes, &m->journey.head)) {
            kvctl_say(m->k, "%s: %s", m->path, strerror(errno));
            return EXIT_INTERNAL;
        }
    } else {
        kvctl_say(m->k, "%s; next: --restart", why);
        return EXIT_USAGE;
    }
    /* Before the first row: a run that dies at once must find its client id again. */
    if (m->has_journey && journey_save(m->journey_path, &m->journey, why) != KV_OK) {
        kvctl_say(m->k, "%s", why);
        return EXIT_INTERNAL;
    }
    if (m->has_journey && fseek(m->reader.file, (long)m->journey.offset, SEEK_SET) != 0) {
        kvctl_say(m->k, "%s: %s", m->path, strerror(errno));
        return EXIT_INTERNAL;
    }
    m->reader.offset = m->journey.offset;
    return EXIT_OK;
}

static bool import_options(struct import *m, const struct args *a)
{
    const char *format = args_get(a, "format"), *window = args_get(a, "in-flight");
    uint64_t n = IMPORT_WINDOW_DEFAULT;
    m->format = lines_format_of(m->path);
    if (format != NULL && strcmp(format, "tsv") == 0) m->format = LINES_TSV;
    else if (format != NULL && strcmp(format, "jsonl") == 0) m->format = LINES_JSONL;
    else if (format != NULL) {
        kvctl_usage(m->k, "--format %s: not tsv or jsonl", format);
        return false;
    }
    if (window != NULL && (!kv_parse_u64(kv_str(window), &n) || n < 1 || n > IMPORT_WINDOW_MAX)) {
        kvctl_usage(m->k, "--in-flight %s: not a number from 1 to %d", window, IMPORT_WINDOW_MAX);
        return false;
    }
    m->window = (uint32_t)n;
    return true;
}

static int import_file(struct import *m)
{
    struct stat st;
    m->reader.file = m->has_journey ? fopen(m->path, "rbe") : stdin;
    if (m->reader.file == NULL || fstat(fileno(m->reader.file), &st) != 0)
        return kvctl_usage(m->k, "%s: %s", m->path, strerror(errno));
    if (S_ISDIR(st.st_mode)) return kvctl_usage(m->k, "%s: %s", m->path, strerror(EISDIR));
    m->has_journey = m->has_journey && S_ISREG(st.st_mode); /* a pipe cannot be resumed */
    m->size_bytes = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    /* Two imports of one file would overwrite each other's journey. */
    if (m->has_journey && flock(fileno(m->reader.file), LOCK_EX | LOCK_NB) != 0) {
        kvctl_say(m->k, "%s: another import of it is running", m->path);
        return EXIT_CONDITION;
    }
    int n = snprintf(m->journey_path, sizeof m->journey_path, "%s.kvprogress", m->path);
    if (n > 0 && (size_t)n < sizeof m->journey_path) return EXIT_OK;
    return kvctl_usage(m->k, "the file's name is too long");
}

int import_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)count;
    struct import m = {.k = k, .path = words[0], .has_journey = strcmp(words[0], "-") != 0};
    int code = EXIT_USAGE;
    if (!import_options(&m, a)) goto done;
    code = import_file(&m);
    if (code != EXIT_OK) goto done;
    m.rows = calloc(m.window, sizeof *m.rows);
    code = EXIT_INTERNAL;
    if (m.rows == NULL) {
        kvctl_say(k, "out of memory");
        goto done;
    }
    code = kvctl_open(k);
    if (code == EXIT_OK) code = journey_begin(&m, args_get(a, "restart") != NULL);
    if (code != EXIT_OK) goto done;
    import_loop(&m);
    code = m.code;
done:
    for (uint32_t i = 0; m.rows != NULL && i < m.window; i++) kv_buf_free(&m.rows[i].bytes);
    free(m.rows);
    kv_buf_free(&m.parked);
    kv_buf_free(&m.reader.buf);
    if (m.reader.file != NULL && m.reader.file != stdin) fclose(m.reader.file);
    return code;
}

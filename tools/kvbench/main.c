#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "client/base/text.h"
#include "client/env/env_uv.h"
#include "client/pool.h"
#include "tools/kvbench/kvbench.h"

/* Options and the life of the process. Exit codes: 0 all answered, 1 errors, wrong values or
 * nobody there, 2 usage. */

static const char help[] =
    "usage: kvbench [OPTION..]\n"
    "  --protocol resp|native|etcd   default resp\n"
    "  --addr HOST:PORT,..           default 127.0.0.1 and the protocol's port (7400, 7401, 2379)\n"
    "  --key FILE                    client's secret key, native\n"
    "  --clients N                   connections (native: callers), default 50\n"
    "  --depth N                     open operations of each, default 1\n"
    "  --keys N                      default 100000\n"
    "  --keyspace NAME               of kvd, default `default`; RESP: by SELECT\n"
    "  --prefix TEXT                 of keys, default key:\n"
    "  --value MIN[-MAX]             bytes, default 100\n"
    "  --mix read=50,write=50        per cent of read, write, insert, scan, modify; default write=100\n"
    "  --ycsb A|B|C|D|E|F            a mix and its distribution, as YCSB has them\n"
    "  --level L                     of native reads: linearizable (default), lease, bounded:MS, any\n"
    "  --writers N                   instead of a mix: N clients only write, the others only read\n"
    "  --uniform | --zipf THETA | --latest   which keys, default uniform; YCSB's theta is 0.99\n"
    "  --fill                        write every key once, in random order, and end\n"
    "  --rate R                      open loop: R operations a second, latency from their due time\n"
    "  --poisson                     with --rate: random gaps instead of even ones\n"
    "  --seconds S                   default 8, after --warmup S, default 1; SIGINT and SIGTERM end it earlier\n"
    "  --ops N                       end after N operations instead\n"
    "  --timeout D                   of one operation, default 10s\n"
    "  --seed N                      of everything random, default 1\n"
    "  --json                        one JSON object instead of text\n"
    "A Redis password comes from KVBENCH_PASSWORD.\n"
    "example: kvbench --clients 64 --mix read=90,write=10 --zipf 0.99 --seconds 10\n";

static int usage(const char *format, const char *what, const char *value)
{
    (void)fprintf(stderr, "kvbench: ");
    (void)fprintf(stderr, format, what, value);
    (void)fprintf(stderr, ", see kvbench --help\n");
    return 3;
}

static bool parse_u32(const char *text, uint64_t low, uint64_t high, uint32_t *out)
{
    uint64_t v;
    if (!kv_parse_u64(kv_str(text), &v) || v < low || v > high) return false;
    *out = (uint32_t)v;
    return true;
}

static bool parse_real(const char *text, double *out)
{
    char *end;
    errno = 0;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && errno == 0 && isfinite(*out) && *out > 0;
}

static bool parse_seconds(const char *text, uint64_t *ns)
{
    double s;
    if (strcmp(text, "0") == 0) {
        *ns = 0;
        return true;
    }
    if (!parse_real(text, &s) || s > 1e6) return false;
    *ns = (uint64_t)(s * 1e9);
    return true;
}

static bool parse_value(const char *text, uint32_t *low, uint32_t *high)
{
    char first[32];
    const char *dash = strchr(text, '-');
    size_t size = dash == NULL ? strlen(text) : (size_t)(dash - text);
    uint64_t a, b;
    if (size >= sizeof first) return false;
    memcpy(first, text, size);
    first[size] = '\0';
    if (!kv_parse_size(first, &a) || !kv_parse_size(dash == NULL ? first : dash + 1, &b)) return false;
    if (a > b || b > 8u << 20) return false;
    *low = (uint32_t)a;
    *high = (uint32_t)b;
    return true;
}

static bool parse_addresses(struct options *o, const char *text)
{
    o->address_text = text;
    o->address_count = 0;
    while (true) {
        size_t size = strcspn(text, ",");
        if (o->address_count == ADDRESSES_MAX ||
            !pool_addr_parse(kv_slice(text, size), &o->addresses[o->address_count++]))
            return false;
        if (text[size] == '\0') return true;
        text += size + 1;
    }
}

static bool parse_mix(struct options *o, const char *text)
{
    static const char *const names[OP_KINDS] = {"read", "write", "insert", "scan", "modify"};
    uint32_t sum = 0;
    if (strlen(text) >= sizeof o->mix) return false;
    (void)snprintf(o->mix, sizeof o->mix, "%s", text);
    memset(o->share, 0, sizeof o->share);
    while (true) {
        size_t size = strcspn(text, ","), name = strcspn(text, "=");
        uint64_t percent = 0;
        int kind = 0;
        while (kind < OP_KINDS &&
               !kv_slice_eq(kv_str(names[kind]), kv_slice(text, name < size ? name : size)))
            kind++;
        if (kind == OP_KINDS || name >= size ||
            !kv_parse_u64(kv_slice(text + name + 1, size - name - 1), &percent) || percent > 100)
            return false;
        o->share[kind] += (uint32_t)percent * 10;
        sum += (uint32_t)percent * 10;
        if (text[size] == '\0') return sum == 1000;
        text += size + 1;
    }
}

static bool parse_ycsb(struct options *o, const char *text)
{
    static const struct {
        const char *mix;
        enum distribution distribution;
    } mixes[] = {{"read=50,write=50", KEYS_ZIPF}, {"read=95,write=5", KEYS_ZIPF}, {"read=100", KEYS_ZIPF}, {"read=95,insert=5", KEYS_LATEST}, {"scan=95,insert=5", KEYS_ZIPF}, {"read=50,modify=50", KEYS_ZIPF}};
    if (strlen(text) != 1 || text[0] < 'A' || text[0] > 'F') return false;
    size_t i = (size_t)(text[0] - 'A');
    o->distribution = mixes[i].distribution;
    bool parsed = parse_mix(o, mixes[i].mix);
    (void)snprintf(o->mix, sizeof o->mix, "YCSB %s", text);
    return parsed;
}

static bool parse_protocol(struct options *o, const char *text)
{
    static const struct protocol *const all[] = {&protocol_resp, &protocol_native, &protocol_etcd};
    for (size_t i = 0; i < 3; i++)
        if (strcmp(all[i]->name, text) == 0) {
            o->protocol = all[i];
            return true;
        }
    return false;
}

/* Whether `name` is an option with a value, and whether that value is good. */
static bool parse_option(struct options *o, const char *name, const char *value, bool *known)
{
    *known = true;
    if (strcmp(name, "--protocol") == 0) return parse_protocol(o, value);
    if (strcmp(name, "--addr") == 0) return parse_addresses(o, value);
    if (strcmp(name, "--key") == 0) return (o->key_file = value)[0] != '\0';
    if (strcmp(name, "--clients") == 0) return parse_u32(value, 1, CLIENTS_MAX, &o->clients);
    if (strcmp(name, "--depth") == 0) return parse_u32(value, 1, DEPTH_MAX, &o->depth);
    if (strcmp(name, "--keys") == 0)
        return kv_parse_u64(kv_str(value), &o->keys) && o->keys > 0 && o->keys <= 1000000000;
    if (strcmp(name, "--keyspace") == 0) return kv_str(o->keyspace = value).size - 1 < KV_NAME_BYTES_MAX;
    if (strcmp(name, "--prefix") == 0) return strlen(o->prefix = value) <= KEY_BYTES_MAX - 12;
    if (strcmp(name, "--value") == 0) return parse_value(value, &o->value_min, &o->value_max);
    if (strcmp(name, "--mix") == 0) return parse_mix(o, value);
    if (strcmp(name, "--level") == 0) return kv_level_parse(kv_str(value), &o->level, &o->bounded_ms);
    if (strcmp(name, "--ycsb") == 0) return parse_ycsb(o, value);
    if (strcmp(name, "--writers") == 0)
        return o->split = parse_u32(value, 0, CLIENTS_MAX, &o->writers);
    if (strcmp(name, "--zipf") == 0) {
        o->distribution = KEYS_ZIPF;
        return parse_real(value, &o->theta) && o->theta < 1;
    }
    if (strcmp(name, "--rate") == 0) return parse_real(value, &o->rate) && o->rate <= 1e8;
    if (strcmp(name, "--seconds") == 0) return parse_seconds(value, &o->run_ns) && o->run_ns > 0;
    if (strcmp(name, "--warmup") == 0) return parse_seconds(value, &o->warmup_ns);
    if (strcmp(name, "--ops") == 0) return kv_parse_u64(kv_str(value), &o->ops_max) && o->ops_max > 0;
    if (strcmp(name, "--timeout") == 0)
        return kv_parse_duration(value, &o->timeout_ns) && o->timeout_ns >= KV_MS(1) &&
               o->timeout_ns <= KV_SECONDS(3600);
    if (strcmp(name, "--seed") == 0) return kv_parse_u64(kv_str(value), &o->seed);
    *known = false;
    return false;
}

static bool parse_flag(struct options *o, const char *name)
{
    if (strcmp(name, "--uniform") == 0) o->distribution = KEYS_UNIFORM;
    else if (strcmp(name, "--latest") == 0) o->distribution = KEYS_LATEST;
    else if (strcmp(name, "--fill") == 0) o->fill = true;
    else if (strcmp(name, "--poisson") == 0) o->poisson = true;
    else if (strcmp(name, "--json") == 0) o->json = true;
    else return false;
    return true;
}

static int check(struct options *o)
{
    if (o->split && o->writers > o->clients)
        return usage("%s%s", "--writers: more than --clients", "");
    if (o->split) (void)snprintf(o->mix, sizeof o->mix, "%" PRIu32 " writers", o->writers);
    if (o->fill) {
        (void)snprintf(o->mix, sizeof o->mix, "fill");
        o->ops_max = o->keys;
    }
    if (o->ops_max > 0) {
        o->warmup_ns = 0;
        o->run_ns = KV_SECONDS(7 * 86400);
    }
    if (o->share[OP_SCAN] > 0 && !o->split && !o->fill && !o->protocol->scans)
        return usage("%s%s", "scans in key order are not possible over RESP; try --protocol native or etcd", "");
    if (o->protocol == &protocol_native && o->key_file == NULL)
        return usage("%s%s", "--protocol native needs --key FILE", "");
    if (o->level != KV_LEVEL_LINEARIZABLE && o->protocol != &protocol_native)
        return usage("%s%s", "--level needs --protocol native; over RESP a client sends READONLY to the cluster port", "");
    if (o->keyspace != NULL && (strcmp(o->protocol->name, "etcd") == 0 || o->share[OP_SCAN] > 0))
        return usage("%s%s", "--keyspace: only kvd has them, and scans go over that named default", "");
    if (o->poisson && o->rate == 0) return usage("%s%s", "--poisson needs --rate", "");
    if (o->address_count == 0) {
        o->addresses[0] = (struct env_addr){.host = "127.0.0.1", .port = o->protocol->port};
        o->address_count = 1;
        o->address_text = "127.0.0.1";
    }
    return 0;
}

int options_parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){.protocol = &protocol_resp,
                          .password = getenv("KVBENCH_PASSWORD"),
                          .prefix = "key:",
                          .clients = 50,
                          .depth = 1,
                          .keys = 100000,
                          .value_min = 100,
                          .value_max = 100,
                          .share = {[OP_WRITE] = 1000},
                          .mix = "write=100",
                          .theta = 0.99,
                          .scan_max = 100,
                          .warmup_ns = KV_SECONDS(1),
                          .run_ns = KV_SECONDS(8),
                          .timeout_ns = KV_SECONDS(10),
                          .seed = 1};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            (void)fputs(help, stdout);
            return 1;
        }
        if (parse_flag(o, argv[i])) continue;
        bool known;
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        bool good = parse_option(o, argv[i], value, &known);
        if (!known) return usage("unknown option %s%s", argv[i], "");
        if (i + 1 == argc) return usage("%s needs a value%s", argv[i], "");
        if (!good) return usage("%s: bad value '%s'", argv[i], value);
        i++;
    }
    return check(o);
}

static void stop(struct bench *b)
{
    env_uv_stop(b->loop);
}

static void end_early(void *context, int signum)
{
    (void)signum;
    bench_end(context);
}

static enum kv_err make_lanes(struct bench *b)
{
    const struct options *o = &b->options;
    b->lanes = calloc(o->clients, sizeof *b->lanes);
    if (b->lanes == NULL) return KV_NO_SPACE;
    for (uint32_t i = 0; i < o->clients; i++) {
        struct lane *l = &b->lanes[i];
        l->bench = b;
        l->number = i;
        l->to = o->addresses[i % o->address_count];
        kv_buf_init(&l->out, 0);
        kv_buf_init(&l->sending, 0);
        if ((l->ops = calloc(o->depth, sizeof *l->ops)) == NULL) return KV_NO_SPACE;
        for (uint32_t k = o->depth; k-- > 0;) {
            l->ops[k].lane = l;
            l->ops[k].free_next = l->free;
            l->free = &l->ops[k];
        }
    }
    return KV_OK;
}

static void free_lanes(struct bench *b)
{
    for (uint32_t i = 0; b->lanes != NULL && i < b->options.clients; i++) {
        kv_buf_free(&b->lanes[i].out);
        kv_buf_free(&b->lanes[i].sending);
        free(b->lanes[i].ops);
    }
    free(b->lanes);
}

/* Each client is a descriptor: ask for as many as the system gives. */
static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
    struct bench *b = calloc(1, sizeof *b);
    struct env_uv *uv = NULL;
    int code = 1;
    if (b == NULL) goto out_of_memory;
    int parsed = options_parse(&b->options, argc, argv);
    if (parsed != 0) {
        free(b);
        return parsed - 1;
    }
    raise_descriptors();
    if (env_uv_create(&uv) != KV_OK) goto out_of_memory;
    b->env = env_uv_env(uv);
    b->loop = uv;
    b->stop = stop;
    env_uv_signal(uv, SIGTERM, end_early, b);
    env_uv_signal(uv, SIGINT, end_early, b);
    if (work_init(b) != KV_OK || make_lanes(b) != KV_OK) goto out_of_memory;

    bench_start(b);
    if (b->phase != PHASE_OVER) env_uv_run(uv);
    if (b->failure[0] != '\0') {
        (void)fprintf(stderr, "kvbench: %s\n", b->failure);
    } else {
        if (b->options.json)
            report_json(b, stdout);
        else
            report_text(b, stdout);
        code = b->errors > 0 || b->wrong > 0 ? 1 : 0;
    }
    bool ended = b->options.protocol->end == NULL;
    if (!ended) b->options.protocol->end(b, &ended);
    while (!ended) env_uv_run_once(uv);
    goto done;
out_of_memory:
    (void)fprintf(stderr, "kvbench: out of memory\n");
done:
    if (uv != NULL) env_uv_destroy(uv);
    if (b != NULL) {
        free_lanes(b);
        work_free(b);
    }
    free(b);
    return code;
}

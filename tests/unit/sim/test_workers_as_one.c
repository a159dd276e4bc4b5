#include "server/map.h"
#include "server/siblings.h"
#include "tests/unit/sim/workers.h"

/* What is asked of a node of several workers is answered for all of them, and a limit given for a node holds for all together. */
enum { SNAPSHOT_RATE = 1 << 20,
       VALUE_BYTES = 500 << 10 };

static void tune(void *context, struct config *c)
{
    (void)context;
    c->snapshot_rate = SNAPSHOT_RATE;
}

static void begin(uint32_t nodes)
{
    begin_tuned(nodes, 2, tune);
}

START_TEST(what_is_left_of_a_keyspace)
{
    begin(1);
    ask(1, KV_OP_KVLEFT, "1", NULL, NULL);
    run(100);
    ck_assert_int_eq(last, KV_OK);
    ck_assert_str_eq(said, "$1\r\n8\r\n"); /* partitions of `default`, of which no worker has all */
    ask(1, KV_OP_KVLEFT, "x", NULL, NULL);
    ck_assert_int_eq(last, KV_BAD_ARGUMENT);
    end();
}
END_TEST

/* Keys of partitions that the one worker has and the other, in turn. */
static void keys_find(uint32_t count, char keys[][16])
{
    for (uint32_t i = 0, n = 0; i < count; n++) {
        snprintf(keys[i], sizeof keys[i], "k%u", n);
        const struct partition *p = map_slot(cluster_worker(cluster, 1), kv_slot(kv_str(keys[i])));
        i += worker_group(worker_of(1, i % 2), p->id) != NULL;
    }
}

START_TEST(the_hottest_keys)
{
    enum { KEYS = 20 };
    char keys[KEYS][16];
    begin(1);
    keys_find(KEYS, keys);
    for (uint32_t round = 0; round < 1500; round++) { /* the more often the lower its number */
        for (uint32_t i = 0; i < KEYS; i++)
            if (round % (i + 1) == 0) ask(1, KV_OP_SET, keys[i], "1", NULL);
        run(2);
    }
    run(500);
    ask(1, KV_OP_KVHOT, "5", NULL, NULL);
    run(100);
    ck_assert_int_eq(last, KV_OK);
    uint32_t count = 0, workers = 0;
    double before = 1e9;
    for (const char *at = said; (at = strstr(at, "\"partition\":")) != NULL; at++, count++) {
        const char *ops = strstr(at, "\"ops\":");
        uint32_t id = (uint32_t)strtoul(at + strlen("\"partition\":"), NULL, 10);
        ck_assert_ptr_nonnull(ops);
        ck_assert(strtod(ops + strlen("\"ops\":"), NULL) <= before);
        before = strtod(ops + strlen("\"ops\":"), NULL);
        workers |= worker_group(worker_of(1, 0), id) != NULL ? 1 : 2;
    }
    ck_assert_msg(count == 5, "%s", said);
    ck_assert_msg(workers == 3, "%s", said);
    end();
}
END_TEST

/* A partition that the node leads, on that worker. */
static uint32_t led_on(uint32_t node, uint32_t worker)
{
    for (uint32_t id = 1; id <= KV_PARTITIONS_DEFAULT; id++) {
        const struct group *g = worker_group(worker_of(node, worker), id);
        if (g != NULL && group_leads(g)) return id;
    }
    ck_abort_msg("worker %u of node %u leads nothing", worker, node);
    return 0;
}

static void fill(uint32_t node, uint32_t partition)
{
    char *value = malloc(VALUE_BYTES + 1), key[16];
    memset(value, 'x', VALUE_BYTES);
    value[VALUE_BYTES] = '\0';
    for (uint32_t i = 0, found = 0; found < 4; i++) {
        snprintf(key, sizeof key, "k%u", i);
        if (map_slot(cluster_worker(cluster, node), kv_slot(kv_str(key)))->id != partition) continue;
        found++;
        ask(node, KV_OP_SET, key, value, NULL);
        run(500);
        ck_assert_int_eq(last, KV_OK);
    }
    free(value);
}

static bool has_moved(uint32_t node, uint32_t partition, uint32_t from)
{
    return worker_group(worker_of(node, from), partition) == NULL && worker_group(worker_of(node, !from), partition) != NULL;
}

/* Both workers of a node send a snapshot at once, 2 MB each. The first chunk of each leaves before they know of each other. */
START_TEST(snapshots_share_a_rate)
{
    begin(3);
    uint32_t node = 1, ids[2], before[2];
    char text[2][16];
    for (uint32_t k = 0; k < 2; k++) {
        fill(node, ids[k] = led_on(node, k));
        before[k] = worker_group(worker_of(2, 0), ids[k]) == NULL;
    }
    uint64_t from_ns = sim_now_ns(sim);
    for (uint32_t k = 0; k < 2; k++) {
        snprintf(text[k], sizeof text[k], "%u", ids[k]);
        ask(node, KV_OP_KVMOVE, text[k], "2", "2");
    }
    for (uint32_t i = 0; i < 20000; i++) {
        bool done = true;
        for (uint32_t k = 0; k < 2; k++) done = done && has_moved(2, ids[k], before[k]);
        if (done) break;
        run(1);
    }
    for (uint32_t k = 0; k < 2; k++) ck_assert(has_moved(2, ids[k], before[k]));
    uint64_t took_ms = (sim_now_ns(sim) - from_ns) / 1000000u, least_ms = 2 * 3 * VALUE_BYTES / (SNAPSHOT_RATE / 1000) * 3 / 4;
    ck_assert_msg(took_ms >= least_ms && took_ms < 3 * least_ms, "both in %u ms, at least %u", (unsigned)took_ms, (unsigned)least_ms);
    end();
}
END_TEST

UNIT_MAIN("workers as one", what_is_left_of_a_keyspace, the_hottest_keys, snapshots_share_a_rate)

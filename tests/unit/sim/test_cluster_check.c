#include "server/node.h"
#include "server/map.h"
#include "tests/sim/cluster.h"
#include "tests/sim/workload.h"
#include "tests/unit/unit.h"
#include <sodium.h>

/* What is said of replicas that agree, and of some that do not. */
static struct sim *sim;
static struct cluster *cluster;
static struct workload *workload;

static void begin(void)
{
    sim = sim_create(&(struct sim_options){.seed = 1,
                                           .wall_start_ms = 1767225600000,
                                           .net = {.delay_min_ns = KV_MS(1), .delay_max_ns = KV_MS(3)}});
    ck_assert_ptr_nonnull(sim);
    cluster = cluster_create(&(struct cluster_options){
        .sim = sim, .nodes = 3, .seed = 2, .sync_min_ns = KV_MS(1), .sync_max_ns = KV_MS(2)});
    ck_assert_ptr_nonnull(cluster);
    workload = workload_create(&(struct workload_options){.sim = sim,
                                                          .cluster = cluster,
                                                          .clients = 2,
                                                          .native_ppm = 1000000,
                                                          .seed = 3,
                                                          .registers = 2,
                                                          .counters = 2,
                                                          .read_ppm = 200000,
                                                          .think_max_ns = KV_MS(30),
                                                          .timeout_ns = KV_SECONDS(3)});
    ck_assert_ptr_nonnull(workload);
    for (uint32_t i = 1; i <= 3; i++) ck_assert(cluster_start(cluster, i));
    workload_start(workload);
}

static void end(void)
{
    workload_destroy(workload);
    cluster_destroy(cluster);
    sim_destroy(sim);
}

static void settle(void)
{
    char why[256] = "";
    for (uint32_t i = 0; i < 100000; i++) {
        sim_run_until(sim, sim_now_ns(sim) + KV_MS(1));
        if (cluster_settled(cluster, why, sizeof why)) return;
    }
    ck_abort_msg("never settled: %s", why);
}

START_TEST(writes_while_the_rows_are_read_make_no_difference)
{
    for (uint32_t i = 0; i < 100; i++) {
        char why[256] = "";
        settle();
        ck_assert_msg(cluster_same_rows(cluster, why, sizeof why), "comparison %u: %s", i, why);
    }
    struct workload_counts counts;
    workload_counts(workload, &counts);
    ck_assert_uint_gt(counts.ok, 50); /* there were writes */
}
END_TEST

START_TEST(a_row_that_one_replica_alone_has_is_seen)
{
    static const uint8_t sub[STORE_SUB_BYTES] = {1}, value[8] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F};
    struct worker *w = cluster_worker(cluster, 2);
    struct store_group g;
    workload_stop(workload);
    settle();
    ck_assert(store_group_get(w->store, 1, &g));
    struct kv_key key = w->ranges[1]->group->descriptor.from; /* of the first partition behind the system's */
    memcpy(key.bytes + key.size, "stray", 5);
    key.size += 5;
    struct store_op stray = {.kind = STORE_PUT,
                             .row = {.class = (enum store_class)_i,
                                     .key = kv_key_slice(&key),
                                     .sub = kv_slice(sub, _i == STORE_DEDUP ? sizeof sub : 0),
                                     .value = kv_slice(value, sizeof value)}};
    store_apply(w->store, 1, g.applied + 1, g.applied_term, g.clock_ms, &stray, 1);
    char why[256] = "";
    ck_assert(!cluster_same_rows(cluster, why, sizeof why));
    ck_assert_ptr_nonnull(strstr(why, "node 2 holds"));
}
END_TEST

int main(void)
{
    if (sodium_init() < 0) return 1;
    Suite *suite = suite_create("cluster_check");
    TCase *c = tcase_create("cluster_check");
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_test(c, writes_while_the_rows_are_read_make_no_difference);
    tcase_add_loop_test(c, a_row_that_one_replica_alone_has_is_seen, 0, STORE_CLASSES);
    tcase_set_timeout(c, 60);
    suite_add_tcase(suite, c);
    return unit_finish(suite);
}

#include "server/group.h"
#include "server/map.h"
#include "server/node.h"
#include "tests/sim/cluster.h"
#include "tests/unit/unit.h"
#include <sodium.h>

/* Who may open a replica: nobody one whose log is damaged, however it came here, be it at a start or when the
 * install of a snapshot is taken up again. It could neither vote nor take an entry (R4). */
static struct sim *sim;
static struct cluster *cluster;

static void begin(void)
{
    sim = sim_create(&(struct sim_options){.seed = 1,
                                           .wall_start_ms = 1767225600000,
                                           .net = {.delay_min_ns = KV_MS(1), .delay_max_ns = KV_MS(3)}});
    ck_assert_ptr_nonnull(sim);
    cluster = cluster_create(&(struct cluster_options){
        .sim = sim, .nodes = 3, .seed = 2, .sync_min_ns = KV_MS(1), .sync_max_ns = KV_MS(2)});
    ck_assert_ptr_nonnull(cluster);
    for (uint32_t i = 1; i <= 3; i++) ck_assert(cluster_start(cluster, i));
    sim_run_until(sim, sim_now_ns(sim) + KV_SECONDS(2));
}

static void end(void)
{
    cluster_destroy(cluster);
    sim_destroy(sim);
}

START_TEST(a_damaged_log_is_not_opened)
{
    struct worker *w = cluster_worker(cluster, 2);
    struct store_group sg;
    struct group *g = NULL;
    ck_assert(store_group_get(w->store, 1, &sg));
    ck_assert(!sg.log.damaged);
    ck_assert_int_eq(group_open(w, &sg, false, &g), KV_OK);
    group_close(g);
    store_group_damage(w->store, 1, "a test says so");
    ck_assert(store_group_get(w->store, 1, &sg));
    ck_assert_int_eq(group_open(w, &sg, false, &g), KV_CORRUPT);
}
END_TEST

/* As its leader tells of a partition that this node has no replica of any more: it is to end, also one that would never ask. */
static struct descriptor without(const struct worker *w, uint32_t group)
{
    struct store_group sg;
    struct descriptor d;
    uint32_t kept = 0;
    ck_assert(store_group_get(w->store, group, &sg));
    ck_assert_int_eq(descriptor_decode(sg.descriptor, &d), KV_OK);
    for (uint32_t i = 0; i < d.replica_count; i++)
        if (d.replicas[i].node != w->node_id) d.replicas[kept++] = d.replicas[i];
    d.replica_count = kept;
    d.conf_epoch++;
    return d;
}

/* Its fellows, who know nothing of it, have another one made there soon. */
static bool is_buried_soon(const struct worker *w, uint32_t group)
{
    struct store_group sg;
    bool is_buried = false;
    for (int ms = 0; ms < 50 && !is_buried; ms++) {
        sim_run_until(sim, sim_now_ns(sim) + KV_MS(1));
        is_buried = store_group_get(w->store, group, &sg) && sg.state == CHECKPOINT_GROUP_TOMBSTONE;
    }
    return is_buried;
}

START_TEST(one_that_was_removed_goes)
{
    struct worker *w = cluster_worker(cluster, 2);
    struct descriptor d = without(w, 1);
    map_learn(w, &d, 1, 9);
    ck_assert(worker_group(w, 1)->is_gone);
    ck_assert(is_buried_soon(w, 1));
}
END_TEST

START_TEST(a_damaged_one_that_was_removed_goes)
{
    struct worker *w = cluster_worker(cluster, 2);
    struct descriptor d = without(w, 1);
    group_corrupt(worker_group(w, 1), "a test says so", 1);
    for (int i = 0; i < 100 && worker_group(w, 1) != NULL; i++) sim_run_until(sim, sim_now_ns(sim) + KV_MS(1));
    ck_assert_ptr_null(worker_group(w, 1));
    map_learn(w, &d, 1, 9);
    ck_assert(is_buried_soon(w, 1));
}
END_TEST

int main(void)
{
    if (sodium_init() < 0) return 1;
    Suite *suite = suite_create("group_open");
    TCase *c = tcase_create("group_open");
    tcase_add_checked_fixture(c, begin, end);
    tcase_add_test(c, a_damaged_log_is_not_opened);
    tcase_add_test(c, one_that_was_removed_goes);
    tcase_add_test(c, a_damaged_one_that_was_removed_goes);
    suite_add_tcase(suite, c);
    return unit_finish(suite);
}

#include "server/map.h"
#include "tests/sim/cluster.h"
#include "tests/unit/unit.h"
#include <sodium.h>

/* A node that heard of a partition while that was frozen for a merge, and holds no replica of it, hears that it is no more:
 * a freeze and its end change neither epoch, and a coordinator leaves alone what is frozen. */
START_TEST(what_is_thawed_is_heard_of)
{
    enum { NODES = 4,
           REPLICAS = 3 };
    struct sim *sim = sim_create(&(struct sim_options){.seed = 7, .wall_start_ms = 1767225600000, .net = {.delay_min_ns = 100000, .delay_max_ns = 300000}});
    ck_assert_ptr_nonnull(sim);
    struct cluster *c = cluster_create(&(struct cluster_options){
        .sim = sim, .nodes = NODES, .replicas = REPLICAS, .seed = 7, .sync_min_ns = 100000, .sync_max_ns = 200000});
    ck_assert_ptr_nonnull(c);
    for (uint32_t i = 1; i <= NODES; i++) ck_assert(cluster_start(c, i));
    sim_run_until(sim, sim_now_ns(sim) + KV_SECONDS(3));
    struct worker *w = NULL;
    const struct partition *p = NULL;
    for (uint32_t i = 1; i <= NODES && p == NULL; i++) {
        w = cluster_worker(c, i);
        for (uint32_t k = 0; p == NULL && map_at(w, k) != NULL; k++)
            if (map_at(w, k)->group == NULL) p = map_at(w, k);
    }
    ck_assert_ptr_nonnull(p);
    uint32_t leader = map_leader(p);
    struct descriptor d = *map_descriptor(p);
    d.frozen_merge = 1;
    map_learn(w, &d, leader, p->term - 1); /* of a leader before: not any more */
    ck_assert_uint_eq(map_descriptor(p)->frozen_merge, 0);
    map_learn(w, &d, leader, p->term);
    ck_assert_uint_eq(map_descriptor(p)->frozen_merge, 1);
    sim_run_until(sim, sim_now_ns(sim) + KV_SECONDS(15)); /* leaders tell again every ten */
    ck_assert_uint_eq(map_descriptor(p)->frozen_merge, 0);
    cluster_destroy(c);
    sim_destroy(sim);
}
END_TEST

int main(void)
{
    if (sodium_init() < 0) return EXIT_FAILURE;
    Suite *suite = suite_create("frozen");
    TCase *tc = tcase_create("frozen");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, what_is_thawed_is_heard_of);
    suite_add_tcase(suite, tc);
    return unit_finish(suite);
}

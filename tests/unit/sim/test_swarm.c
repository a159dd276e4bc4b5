#include "tests/sim/swarm.h"
#include "tests/unit/unit.h"
#include <sodium.h>
#include <stdlib.h>

/* The whole cluster from a seed, for a few simulated seconds. kvsim does this at length. */
static struct swarm_result run(uint64_t seed, uint64_t faults, uint32_t nodes)
{
    struct swarm_result r;
    swarm_run(&(struct swarm_options){.seed = seed,
                                      .safety_ns = KV_SECONDS(4),
                                      .nodes = nodes,
                                      .faults = faults,
                                      .clients_max = 4},
              &r);
    ck_assert_msg(!r.failed, "seed %llu: %s", (unsigned long long)seed, r.why);
    ck_assert(r.done);
    return r;
}

START_TEST(calm_clusters_serve)
{
    struct swarm_result r = run((uint64_t)_i, 0, (uint32_t)(1 + 2 * (_i % 3)));
    ck_assert_uint_gt(r.ok, 20);
    ck_assert_uint_eq(r.info, 0); /* nobody was left in doubt */
    ck_assert(!r.undecided);
}
END_TEST

START_TEST(a_seed_is_one_story)
{
    struct swarm_result one = run((uint64_t)_i, UINT64_MAX, 3), two = run((uint64_t)_i, UINT64_MAX, 3);
    ck_assert_uint_eq(one.hash, two.hash);
    ck_assert_uint_eq(one.events, two.events);
    ck_assert_uint_eq(one.ok, two.ok);
    ck_assert_uint_ne(one.hash, run((uint64_t)_i + 1000, UINT64_MAX, 3).hash);
}
END_TEST

START_TEST(faults_happen)
{
    uint32_t all = 0;
    struct swarm_result r = run((uint64_t)_i, (uint64_t)1 << SWARM_KILL | (uint64_t)1 << SWARM_ISOLATE, 3);
    for (uint32_t f = 0; f < SWARM_FAULT_COUNT; f++) {
        ck_assert(f == SWARM_KILL || f == SWARM_ISOLATE || r.faults[f] == 0);
        all += r.faults[f];
    }
    ck_assert_uint_ge(r.ok, all);
}
END_TEST

START_TEST(names_are_found)
{
    for (uint32_t f = 0; f < SWARM_FAULT_COUNT; f++) {
        enum swarm_fault found = SWARM_FAULT_COUNT;
        ck_assert(swarm_fault_find(swarm_fault_text((enum swarm_fault)f), &found));
        ck_assert_uint_eq(found, f);
    }
    enum swarm_fault none;
    ck_assert(!swarm_fault_find("earthquake", &none));
}
END_TEST

int main(void)
{
    if (sodium_init() < 0) return 1;
    Suite *suite = suite_create("swarm");
    TCase *c = tcase_create("swarm");
    tcase_add_loop_test(c, calm_clusters_serve, 1, 4);
    tcase_add_loop_test(c, a_seed_is_one_story, 1, 4);
    tcase_add_loop_test(c, faults_happen, 1, 4);
    tcase_add_test(c, names_are_found);
    tcase_set_timeout(c, 60);
    suite_add_tcase(suite, c);
    return unit_finish(suite);
}

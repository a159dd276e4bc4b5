#include "server/load.h"
#include "server/map.h"
#include "server/peer_codec.h"
#include "server/shape.h"
#include "tests/sim/cluster.h"
#include "tests/unit/unit.h"
#include <sodium.h>

/* What the coordinator asks for in vain it asks for again after twice as long, up to a bound: else what cannot be would fill the list of
 * jobs and keep its partition from being moved. */
enum { NODES = 3,
       SETTLE_S = 1,
       FIRST_S = 3 * SETTLE_S, /* three times coordinator.settle, */
       LONGEST = 64,           /* and at most so many times that */
       STEP_MS = 100 };

static void tune(void *context, struct config *c)
{
    (void)context;
    c->coordinator_enabled = false; /* the test looks in its place */
    c->coordinator_settle = KV_SECONDS(SETTLE_S);
}

static struct worker *coordinator(const struct cluster *c)
{
    uint32_t node = cluster_coordinator(c);
    ck_assert_msg(node != 0, "nobody leads partition 0");
    return cluster_worker((struct cluster *)(uintptr_t)c, node);
}

/* As its leaders would tell: the first partition is far too busy, and can be halved; the others have nothing to do. */
static void tell_loads(struct worker *w)
{
    const struct partition *p;
    bool is_first = true;
    for (uint32_t i = 0; (p = map_at(w, i)) != NULL; i++) {
        const struct descriptor *d = map_descriptor(p);
        struct kv_key middle;
        if (d->keyspace == KV_KEYSPACE_SYSTEM) continue;
        kv_key_slot_start(d->keyspace, (uint16_t)(kv_key_slot(kv_key_slice(&d->from)) + 1), &middle);
        load_learn(w, &(struct peer_load){.group = d->id, .range_epoch = d->range_epoch, .rate = is_first ? 1000000 : 0, .median = is_first ? kv_key_slice(&middle) : kv_slice(NULL, 0)});
        is_first = false;
    }
}

static bool asks(struct worker *w)
{
    struct shape s;
    struct shaping_step steps[SHAPING_STEPS_MAX];
    uint64_t now_ns = env_now_ns(w->env);
    tell_loads(w);
    ck_assert(shape_see(w, NODES, now_ns, &s));
    uint32_t count = shape_plan(w, &s, now_ns, steps, SHAPING_STEPS_MAX);
    for (uint32_t i = 0; i < count; i++) ck_assert_int_eq(steps[i].reason, SHAPING_SPLIT_LOAD);
    shape_free(&s);
    return count > 0;
}

START_TEST(in_vain_is_ever_more_seldom)
{
    struct sim *sim = sim_create(&(struct sim_options){.seed = 3, .wall_start_ms = 1767225600000, .net = {.delay_min_ns = 100000, .delay_max_ns = 300000}});
    ck_assert_ptr_nonnull(sim);
    struct cluster *c = cluster_create(&(struct cluster_options){
        .sim = sim, .nodes = NODES, .replicas = NODES, .seed = 3, .tune = tune, .sync_min_ns = 100000, .sync_max_ns = 200000});
    ck_assert_ptr_nonnull(c);
    for (uint32_t i = 1; i <= NODES; i++) ck_assert(cluster_start(c, i));
    sim_run_until(sim, sim_now_ns(sim) + KV_SECONDS(5));
    struct worker *w = coordinator(c);
    ck_assert(asks(w));
    uint64_t last_ns = sim_now_ns(sim);
    for (uint64_t times = 1, bound = 0; bound < 2; times = times < LONGEST ? 2 * times : times) {
        uint64_t gap_ns = KV_SECONDS(FIRST_S) * times;
        bound += times == LONGEST;
        do sim_run_until(sim, sim_now_ns(sim) + KV_MS(STEP_MS));
        while (!asks(w) && sim_now_ns(sim) - last_ns < 2 * gap_ns);
        uint64_t took_ns = sim_now_ns(sim) - last_ns;
        ck_assert_msg(took_ns + KV_MS(STEP_MS) >= gap_ns && took_ns <= gap_ns + 2 * KV_MS(STEP_MS), "asked again after %.1f s instead of %.1f", (double)took_ns / 1e9,
                      (double)gap_ns / 1e9);
        last_ns = sim_now_ns(sim);
    }
    ck_assert(coordinator(c) == w);
    cluster_destroy(c);
    sim_destroy(sim);
}
END_TEST

int main(void)
{
    if (sodium_init() < 0) return EXIT_FAILURE;
    Suite *suite = suite_create("shape");
    TCase *tc = tcase_create("shape");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, in_vain_is_ever_more_seldom);
    suite_add_tcase(suite, tc);
    return unit_finish(suite);
}

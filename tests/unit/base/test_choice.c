#include "client/base/choice.h"
#include "tests/unit/unit.h"
#include <string.h>

enum { NODES = 3 };
#define MS UINT64_C(1000000)

struct world { /* nodes that answer after a fixed time, and one client that asks one after the other */
    struct kv_choice nodes[NODES];
    uint64_t latency_ns[NODES];
    uint64_t now_ns, asked[NODES];
};

static uint32_t pick(const struct world *w, uint32_t start)
{
    uint32_t best = start % NODES;
    for (uint32_t i = 1; i < NODES; i++) {
        uint32_t at = (start + i) % NODES;
        if (kv_choice_cost(&w->nodes[at], w->now_ns) < kv_choice_cost(&w->nodes[best], w->now_ns)) best = at;
    }
    return best;
}

static void run(struct world *w, uint64_t for_ns)
{
    uint64_t end_ns = w->now_ns + for_ns;
    memset(w->asked, 0, sizeof w->asked);
    for (uint32_t start = 0; w->now_ns < end_ns; start++) {
        uint32_t at = pick(w, start);
        w->asked[at]++;
        kv_choice_asked(&w->nodes[at], w->now_ns);
        w->now_ns += w->latency_ns[at];
        kv_choice_answered(&w->nodes[at], w->latency_ns[at], w->now_ns);
    }
}

static double share(const struct world *w, uint32_t node)
{
    return (double)w->asked[node] / (double)(w->asked[0] + w->asked[1] + w->asked[2]);
}

START_TEST(equals_share_evenly)
{
    struct world w = {.latency_ns = {MS, MS, MS}, .now_ns = 1};
    run(&w, 1000 * MS);
    for (uint32_t i = 0; i < NODES; i++) ck_assert(share(&w, i) > 0.25);
}
END_TEST

START_TEST(a_slow_node_is_left_and_comes_back)
{
    struct world w = {.latency_ns = {MS / 2, MS / 2, MS / 2}, .now_ns = 1};
    run(&w, 1000 * MS);
    w.latency_ns[2] += 50 * MS;
    run(&w, 1000 * MS); /* of five that there are */
    run(&w, 1000 * MS);
    ck_assert(share(&w, 2) < 0.01);
    run(&w, 60000 * MS);
    ck_assert(share(&w, 2) < 0.01);
    ck_assert(w.asked[2] > 5); /* but it is tried */
    w.latency_ns[2] = MS / 2;
    run(&w, 5000 * MS);
    run(&w, 1000 * MS);
    ck_assert(share(&w, 2) > 0.25);
}
END_TEST

START_TEST(what_is_under_way_counts)
{
    struct kv_choice a = {0}, b = {0};
    for (int i = 0; i < 50; i++) {
        kv_choice_asked(&a, 1);
        kv_choice_answered(&a, 2 * MS, 1);
        kv_choice_asked(&b, 1);
        kv_choice_answered(&b, 3 * MS, 1);
    }
    ck_assert(kv_choice_cost(&a, 1) < kv_choice_cost(&b, 1));
    kv_choice_asked(&a, 1);
    ck_assert(kv_choice_cost(&a, 1) > kv_choice_cost(&b, 1));
    kv_choice_forgotten(&a);
    ck_assert(kv_choice_cost(&a, 1) < kv_choice_cost(&b, 1));
}
END_TEST

/* It never answers: no average tells, the wait does. */
START_TEST(who_owes_an_answer_is_slow)
{
    struct kv_choice stopped = {0}, slow = {0};
    kv_choice_asked(&slow, 1);
    kv_choice_answered(&slow, 20 * MS, 1);
    kv_choice_asked(&stopped, 1);
    ck_assert(kv_choice_cost(&stopped, 1 + MS) < kv_choice_cost(&slow, 1 + MS));
    ck_assert(kv_choice_cost(&stopped, 1 + 30 * MS) > kv_choice_cost(&slow, 1 + 30 * MS));
}
END_TEST

START_TEST(a_clock_that_stands_is_no_trouble)
{
    struct kv_choice c = {.latency_ns = 5, .heard_ns = 100};
    ck_assert_uint_eq(kv_choice_latency_ns(&c, 1), 5);
    ck_assert_uint_eq(kv_choice_latency_ns(&c, UINT64_MAX), 0);
}
END_TEST

UNIT_MAIN("choice", equals_share_evenly, a_slow_node_is_left_and_comes_back, what_is_under_way_counts, who_owes_an_answer_is_slow,
          a_clock_that_stands_is_no_trouble)

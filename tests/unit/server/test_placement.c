#include "server/placement.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "client/base/hash.h"
#include "tests/unit/unit.h"

/* Plans are carried out at once here, so that what they come to is seen: a model of the cluster without the cluster. */
enum { NODES_MAX = 1100, STEPS_MAX = 1 << 20 };

struct model {
    struct placement_node nodes[NODES_MAX];
    struct placement_partition *parts;
    uint32_t node_count, part_count;
    struct placement_step *steps;
};

static void model_make(struct model *m, uint32_t nodes, uint32_t zones, uint32_t partitions, uint32_t replicas)
{
    *m = (struct model){.node_count = nodes, .part_count = partitions};
    m->parts = calloc(partitions, sizeof *m->parts);
    m->steps = calloc(STEPS_MAX, sizeof *m->steps);
    ck_assert_ptr_nonnull(m->parts);
    ck_assert_ptr_nonnull(m->steps);
    for (uint32_t i = 0; i < nodes; i++) m->nodes[i] = (struct placement_node){.id = 10 + i, .zone = i % zones, .may_take = true};
    for (uint32_t i = 0; i < partitions; i++) {
        m->parts[i] = (struct placement_partition){.id = i, .wanted = replicas, .count = replicas};
        for (uint32_t k = 0; k < replicas; k++) m->parts[i].nodes[k] = 10 + (i + k) % nodes;
    }
}

static void model_free(struct model *m)
{
    free(m->parts);
    free(m->steps);
}

static bool holds(const struct placement_partition *p, uint32_t node)
{
    for (uint32_t i = 0; i < p->count; i++)
        if (p->nodes[i] == node) return true;
    return false;
}

static void carry_out(struct model *m, const struct placement_step *s)
{
    struct placement_partition *p = &m->parts[s->partition];
    if (s->reason == PLACEMENT_LEAD) {
        uint32_t at = 0;
        while (at < p->count && p->nodes[at] != s->to) at++;
        ck_assert_uint_lt(at, p->count);
        p->nodes[at] = p->nodes[0];
        p->nodes[0] = s->to;
        return;
    }
    ck_assert(s->to == 0 || !holds(p, s->to));
    if (s->from != 0) {
        uint32_t at = 0;
        while (at < p->count && p->nodes[at] != s->from) at++;
        ck_assert_uint_lt(at, p->count);
        memmove(p->nodes + at, p->nodes + at + 1, (p->count - at - 1) * sizeof *p->nodes);
        p->count--;
    }
    if (s->to != 0) p->nodes[p->count++] = s->to;
}

/* Until nothing is left to do; how many replicas moved. */
static uint32_t settle(struct model *m, uint32_t at_once)
{
    uint32_t moved = 0;
    for (uint32_t round = 0; round < 100000; round++) {
        uint32_t count = placement_plan(m->nodes, m->node_count, m->parts, m->part_count, 2, m->steps, at_once);
        ck_assert_uint_ne(count, UINT32_MAX);
        if (count == 0) return moved;
        for (uint32_t i = 0; i < count; i++) {
            carry_out(m, &m->steps[i]);
            moved += m->steps[i].reason != PLACEMENT_LEAD;
        }
    }
    ck_abort_msg("never settled");
}

static uint32_t load(const struct model *m, uint32_t node, bool leads)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->part_count; i++) count += leads ? m->parts[i].nodes[0] == node : holds(&m->parts[i], node);
    return count;
}

static void spreads_evenly(const struct model *m, uint32_t by)
{
    for (int leads = 0; leads < 2; leads++) {
        uint32_t least = UINT32_MAX, most = 0;
        for (uint32_t n = 0; n < m->node_count; n++) {
            uint32_t l = load(m, m->nodes[n].id, leads != 0);
            if (m->nodes[n].must_leave) {
                ck_assert_uint_eq(l, 0);
                continue;
            }
            if (!m->nodes[n].may_take) continue;
            if (l < least) least = l;
            if (l > most) most = l;
        }
        ck_assert_msg(most - least <= by, "%s: %u to %u", leads ? "leaders" : "replicas", least, most);
    }
}

START_TEST(what_is_even_stays)
{
    struct model m;
    model_make(&m, 5, 5, 40, 3);
    ck_assert_uint_eq(settle(&m, 100), 0);
    model_free(&m);
}
END_TEST

START_TEST(a_new_node_gets_its_share)
{
    struct model m;
    model_make(&m, 4, 4, 64, 3);
    for (uint32_t i = 0; i < m.part_count; i++) /* the fourth came later */
        for (uint32_t k = 0; k < 3; k++) m.parts[i].nodes[k] = 10 + (i + k) % 3;
    ck_assert_uint_eq(settle(&m, 4), 64 * 3 / 4); /* not one more than it has to take */
    spreads_evenly(&m, 2);
    model_free(&m);
}
END_TEST

START_TEST(a_node_is_left)
{
    struct model m;
    model_make(&m, 6, 6, 60, 3);
    m.nodes[2].must_leave = true;
    m.nodes[2].may_take = false;
    uint32_t had = load(&m, 12, false);
    ck_assert_uint_le(settle(&m, 3), had + had / 4);
    spreads_evenly(&m, 3);
    model_free(&m);
}
END_TEST

START_TEST(nobody_to_take_it_is_no_reason_to_drop_it)
{
    struct model m;
    model_make(&m, 3, 3, 8, 3);
    m.nodes[0].must_leave = true;
    ck_assert_uint_eq(placement_plan(m.nodes, 3, m.parts, 8, 2, m.steps, 100), 0);
    model_free(&m);
}
END_TEST

START_TEST(zones_are_kept_apart)
{
    struct model m;
    model_make(&m, 9, 3, 90, 3);
    for (uint32_t i = 0; i < m.part_count; i++) /* all three in one zone */
        for (uint32_t k = 0; k < 3; k++) m.parts[i].nodes[k] = 10 + i % 3 + 3 * k;
    settle(&m, 7);
    for (uint32_t i = 0; i < m.part_count; i++) {
        uint32_t seen = 0;
        for (uint32_t k = 0; k < 3; k++) seen |= 1u << m.nodes[m.parts[i].nodes[k] - 10].zone;
        ck_assert_uint_eq(seen, 7);
    }
    spreads_evenly(&m, 3);
    model_free(&m);
}
END_TEST

START_TEST(too_few_replicas_become_more)
{
    struct model m;
    model_make(&m, 5, 5, 20, 3);
    for (uint32_t i = 0; i < m.part_count; i++) m.parts[i].count = 1 + i % 2;
    m.parts[7].is_busy = true; /* somebody is at it */
    settle(&m, 50);
    for (uint32_t i = 0; i < m.part_count; i++) ck_assert_uint_eq(m.parts[i].count, i == 7 ? 2 : 3);
    spreads_evenly(&m, 3);
    model_free(&m);
}
END_TEST

/* A thousand nodes, a hundred thousand partitions: a tenth of the nodes came a moment ago. */
START_TEST(a_large_cluster_converges)
{
    struct model m;
    model_make(&m, 1000, 20, 100000, 3);
    for (uint32_t i = 0; i < m.part_count; i++)
        for (uint32_t k = 0; k < 3; k++) m.parts[i].nodes[k] = 10 + (i * 7 + k) % 900;
    uint64_t bound = 0;
    for (uint32_t n = 0; n < 1000; n++) {
        m.nodes[n].zone = n % 20;
        uint32_t share = 3 * m.part_count / 1000;
        uint32_t l = n < 900 ? (3 * m.part_count) / 900 : 0;
        if (l > share) bound += l - share;
    }
    uint32_t moved = settle(&m, STEPS_MAX);
    printf("%u moves, of which %llu are needed in any case\n", moved, (unsigned long long)bound);
    ck_assert_uint_le(moved, bound + bound / 10);
    uint32_t loads[NODES_MAX] = {0}, least = UINT32_MAX, most = 0;
    for (uint32_t i = 0; i < m.part_count; i++)
        for (uint32_t k = 0; k < 3; k++) loads[m.parts[i].nodes[k] - 10]++;
    for (uint32_t n = 0; n < 1000; n++) {
        if (loads[n] < least) least = loads[n];
        if (loads[n] > most) most = loads[n];
    }
    ck_assert_uint_le(most - least, 2);
    model_free(&m);
}
END_TEST

START_TEST(too_many_replicas_become_fewer)
{
    struct model m;
    model_make(&m, 6, 3, 60, 5);
    for (uint32_t i = 0; i < m.part_count; i++) m.parts[i].wanted = 3;
    uint32_t moved = settle(&m, 8);
    ck_assert_uint_ge(moved, 60 * 2); /* each loses two */
    for (uint32_t i = 0; i < m.part_count; i++) {
        ck_assert_uint_eq(m.parts[i].count, 3);
        for (uint32_t k = 0; k < 3; k++)
            for (uint32_t o = 0; o < k; o++) ck_assert_uint_ne((m.parts[i].nodes[k] - 10) % 3, (m.parts[i].nodes[o] - 10) % 3); /* one in each zone */
    }
    spreads_evenly(&m, 2);
    model_free(&m);
}
END_TEST

START_TEST(replicas_go_where_their_keyspace_may_be)
{
    struct model m;
    model_make(&m, 6, 3, 30, 2);
    for (uint32_t i = 0; i < 15; i++) m.parts[i].zones = 1u << 1 | 1u << 2;
    for (uint32_t i = 15; i < 20; i++) m.parts[i].zones = 1u << 5; /* nobody is there */
    settle(&m, 8);
    for (uint32_t i = 0; i < 15; i++)
        for (uint32_t k = 0; k < 2; k++) ck_assert_uint_ne((m.parts[i].nodes[k] - 10) % 3, 0);
    for (uint32_t i = 15; i < 20; i++) ck_assert_uint_eq(m.parts[i].count, 2); /* none is given up for want of a place */
    model_free(&m);
}
END_TEST

static double plan_seconds(uint32_t nodes, uint32_t partitions)
{
    struct model m;
    model_make(&m, nodes, 20, partitions, 3);
    for (uint32_t i = 0; i < partitions; i++)
        for (uint32_t k = 0; k < 3; k++) m.parts[i].nodes[k] = 10 + (i * 7 + k) % (nodes - nodes / 10);
    double best = 1e9;
    for (int again = 0; again < 3; again++) {
        clock_t start = clock();
        ck_assert_uint_gt(placement_plan(m.nodes, nodes, m.parts, partitions, 2, m.steps, STEPS_MAX), 0);
        double took = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (took < best) best = took;
    }
    model_free(&m);
    return best;
}

/* Eight times as much takes at most eight times as long, by log n more, and twice that for caches. */
START_TEST(time_grows_as_n_log_n)
{
    double small = plan_seconds(125, 12500), large = plan_seconds(1000, 100000);
    printf("%.1f ms for 12,500 partitions, %.1f ms for 100,000\n", small * 1e3, large * 1e3);
    ck_assert_msg(large <= small * 8 * 1.4 * 2 + 0.005, "%.4f s after %.4f s", large, small);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("placement");
    TCase *tc = tcase_create("placement");
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, what_is_even_stays);
    tcase_add_test(tc, a_new_node_gets_its_share);
    tcase_add_test(tc, a_node_is_left);
    tcase_add_test(tc, nobody_to_take_it_is_no_reason_to_drop_it);
    tcase_add_test(tc, zones_are_kept_apart);
    tcase_add_test(tc, too_few_replicas_become_more);
    tcase_add_test(tc, too_many_replicas_become_fewer);
    tcase_add_test(tc, replicas_go_where_their_keyspace_may_be);
    tcase_add_test(tc, a_large_cluster_converges);
    tcase_add_test(tc, time_grows_as_n_log_n);
    tcase_set_timeout(tc, 120);
    return unit_finish(suite);
}

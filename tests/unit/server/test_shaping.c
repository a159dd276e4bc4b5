#include "server/shaping.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/base/hash.h"
#include "tests/unit/unit.h"

/* A model of keyspaces by slots, each of which has some load and some bytes; plans are carried out at once, as leaders would
 * split: at the slot that leaves the sides most alike, if the lighter one has a fifth. */
enum { SLOTS = 512,
       KEYSPACES = 3,
       ROUNDS_MAX = 200 };

struct part {
    uint32_t id, keyspace, from, to;
    bool was_split; /* it is a side of one */
};
struct model {
    uint64_t load[KEYSPACES][SLOTS], bytes[KEYSPACES][SLOTS];
    struct part parts[KEYSPACES * SLOTS];
    struct shaping_partition seen[KEYSPACES * SLOTS];
    uint32_t count, created, next_id;
    struct shaping_limits limits;
};

static void model_make(struct model *m, uint32_t created)
{
    memset(m, 0, sizeof *m);
    m->created = created;
    m->limits = (struct shaping_limits){.split_bytes = 100000, .split_load = 1000, .partitions_max = 64, .nodes = 3};
    for (uint32_t k = 0; k < KEYSPACES; k++)
        for (uint32_t i = 0; i < created; i++)
            m->parts[m->count++] = (struct part){m->next_id++, k, i * SLOTS / created, (i + 1) * SLOTS / created, false};
}

static uint64_t sum(const uint64_t *of, uint32_t from, uint32_t to)
{
    uint64_t s = 0;
    for (uint32_t i = from; i < to; i++) s += of[i];
    return s;
}

static uint32_t border(const uint64_t *of, const struct part *p, double lighter_min)
{
    uint64_t all = sum(of, p->from, p->to), left = 0, best = 0;
    uint32_t at = 0;
    for (uint32_t i = p->from + 1; i < p->to; i++) {
        left += of[i - 1];
        uint64_t lighter = left < all - left ? left : all - left;
        if (lighter > best) {
            best = lighter;
            at = i;
        }
    }
    return (double)best >= lighter_min * (double)all ? at : 0;
}

static uint32_t plan(struct model *m, struct shaping_step *steps)
{
    for (uint32_t i = 0; i < m->count; i++) {
        const struct part *p = &m->parts[i];
        uint64_t load = sum(m->load[p->keyspace], p->from, p->to), bytes = sum(m->bytes[p->keyspace], p->from, p->to);
        m->seen[i] = (struct shaping_partition){.id = p->id, .keyspace = p->keyspace, .created = m->created, .load = load, .bytes = bytes, .is_known = true, .halves_load = border(m->load[p->keyspace], p, 0.2) != 0, .halves_bytes = border(m->bytes[p->keyspace], p, 0) != 0, .is_cold = shaping_is_cold(&m->limits, load, bytes), .meets_next = i + 1 < m->count && m->parts[i + 1].keyspace == p->keyspace};
    }
    return shaping_plan(&m->limits, m->seen, m->count, steps, SHAPING_STEPS_MAX);
}

static void part_insert(struct model *m, uint32_t at, struct part p)
{
    memmove(m->parts + at + 1, m->parts + at, (m->count - at) * sizeof *m->parts);
    m->parts[at] = p;
    m->count++;
}

static int last_first(const void *a, const void *b)
{
    const struct shaping_step *x = a, *y = b;
    return x->at > y->at ? -1 : x->at < y->at;
}

/* `merges_split`: how often two sides of a split were merged. */
static void carry_out(struct model *m, struct shaping_step *steps, uint32_t count, uint32_t *splits, uint32_t *merges, uint32_t *undone)
{
    qsort(steps, count, sizeof *steps, last_first); /* places further left stay */
    for (uint32_t i = 0; i < count; i++) {
        struct part *p = &m->parts[steps[i].at];
        if (i > 0) ck_assert_uint_lt(steps[i].at + (steps[i].reason == SHAPING_MERGE), steps[i - 1].at); /* one step each */
        if (steps[i].reason == SHAPING_MERGE) {
            ck_assert_uint_eq(p->to, p[1].from);
            *undone += p->was_split || p[1].was_split;
            ++*merges;
            p->to = p[1].to;
            memmove(p + 1, p + 2, (m->count - steps[i].at - 2) * sizeof *p);
            m->count--;
            continue;
        }
        const uint64_t *of = steps[i].reason == SHAPING_SPLIT_LOAD ? m->load[p->keyspace] : m->bytes[p->keyspace];
        uint32_t at = border(of, p, steps[i].reason == SHAPING_SPLIT_LOAD ? 0.2 : 0);
        ck_assert_uint_gt(at, p->from);
        struct part right = {m->next_id++, p->keyspace, at, p->to, true};
        p->to = at;
        p->was_split = true;
        ++*splits;
        part_insert(m, steps[i].at + 1, right);
    }
}

static uint32_t of_keyspace(const struct model *m, uint32_t k)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->count; i++) count += m->parts[i].keyspace == k;
    return count;
}

/* Until nothing is left to do; how many rounds that took. */
static uint32_t settle(struct model *m, uint32_t *splits, uint32_t *merges, uint32_t *undone)
{
    struct shaping_step steps[SHAPING_STEPS_MAX];
    for (uint32_t round = 0; round < ROUNDS_MAX; round++) {
        uint32_t count = plan(m, steps);
        if (count == 0) return round;
        carry_out(m, steps, count, splits, merges, undone);
        for (uint32_t k = 0; k < KEYSPACES; k++) {
            ck_assert_uint_le(of_keyspace(m, k), m->limits.partitions_max);
            ck_assert_uint_ge(of_keyspace(m, k), m->created);
        }
    }
    ck_abort_msg("never settled");
}

static void load_draw(struct model *m, uint64_t *random)
{
    for (uint32_t k = 0; k < KEYSPACES; k++) {
        uint32_t kind = (uint32_t)(kv_random_next(random) % 5), scale = 1 + (uint32_t)(kv_random_next(random) % 200);
        for (uint32_t i = 0; i < SLOTS; i++) {
            uint64_t r = kv_random_next(random);
            m->load[k][i] = kind == 0 ? 0 : kind == 1 ? r % scale
                                        : kind == 2   ? (r % 50 == 0 ? r % (50 * scale) : 0)
                                        : kind == 3   ? scale * SLOTS / (1 + i)
                                                      : (i == 77 ? 1000 * scale : 1);
            m->bytes[k][i] = (r >> 32) % (kind == 1 ? 2000 : 20 * scale);
        }
    }
}

/* Under any load that stays it comes to an end, and nothing that was split is merged again. */
START_TEST(it_comes_to_an_end_and_undoes_nothing)
{
    struct model *m = malloc(sizeof *m);
    uint64_t random = 1000 + (uint64_t)_i;
    uint32_t splits = 0, merges = 0, undone = 0;
    ck_assert_ptr_nonnull(m);
    model_make(m, 1 + (uint32_t)(kv_random_next(&random) % 8));
    m->limits.nodes = 2 + (uint32_t)(kv_random_next(&random) % 5);
    load_draw(m, &random);
    settle(m, &splits, &merges, &undone);
    ck_assert_uint_eq(undone, 0);
    for (uint32_t i = 0; i < m->count; i++) m->parts[i].was_split = false;
    load_draw(m, &random); /* another load: what was right before may not be */
    splits = merges = 0;
    uint32_t rounds = settle(m, &splits, &merges, &undone);
    ck_assert_uint_eq(undone, 0);
    ck_assert_uint_le(rounds, 40);
    struct shaping_step steps[SHAPING_STEPS_MAX];
    ck_assert_uint_eq(plan(m, steps), 0);
    free(m);
}
END_TEST

/* What is left after that can be dealt out: no part is large that could be halved. */
START_TEST(what_is_left_can_be_spread)
{
    struct model *m = malloc(sizeof *m);
    uint32_t splits = 0, merges = 0, undone = 0;
    model_make(m, 8);
    for (uint32_t i = 0; i < SLOTS; i++) m->load[0][(i * 37) % SLOTS] = 40000 / (i + 1);
    settle(m, &splits, &merges, &undone);
    ck_assert_uint_gt(splits, 0);
    uint64_t all = sum(m->load[0], 0, SLOTS);
    for (uint32_t i = 0; i < m->count; i++) {
        const struct part *p = &m->parts[i];
        if (p->keyspace != 0 || border(m->load[0], p, 0.2) == 0) continue;
        ck_assert_uint_le(sum(m->load[0], p->from, p->to), all * SHAPING_SHARE_PERCENT / 100 / 3 + 1);
    }
    free(m);
}
END_TEST

START_TEST(cold_again_it_is_as_created)
{
    struct model *m = malloc(sizeof *m);
    uint32_t splits = 0, merges = 0, undone = 0;
    model_make(m, 4);
    for (uint32_t i = 0; i < SLOTS; i++) m->load[1][i] = 100;
    settle(m, &splits, &merges, &undone);
    ck_assert_uint_gt(of_keyspace(m, 1), 4);
    memset(m->load, 0, sizeof m->load);
    settle(m, &splits, &merges, &undone);
    ck_assert_uint_eq(of_keyspace(m, 1), 4);
    ck_assert_uint_eq(merges, splits);
    free(m);
}
END_TEST

static struct shaping_partition hot(uint32_t id)
{
    return (struct shaping_partition){.id = id, .keyspace = 1, .created = 8, .load = 5000, .bytes = 10, .is_known = true, .halves_load = true, .halves_bytes = true};
}

START_TEST(who_is_left_alone)
{
    struct shaping_limits limits = {.split_bytes = 100000, .split_load = 1000, .partitions_max = 64, .nodes = 3};
    struct shaping_partition p[2] = {hot(1), hot(2)};
    struct shaping_step steps[SHAPING_STEPS_MAX];
    p[1].load = 100;
    ck_assert_uint_eq(shaping_plan(&limits, p, 2, steps, 4), 1);
    ck_assert(steps[0].at == 0 && steps[0].reason == SHAPING_SPLIT_LOAD);
    p[0].halves_load = false; /* a single hot key */
    ck_assert_uint_eq(shaping_plan(&limits, p, 2, steps, 4), 0);
    p[0] = hot(1);
    p[0].is_known = false;
    ck_assert_uint_eq(shaping_plan(&limits, p, 2, steps, 4), 0);
    p[0] = hot(1);
    p[0].is_busy = true;
    ck_assert_uint_eq(shaping_plan(&limits, p, 2, steps, 4), 0);
    p[0] = hot(1);
    limits.nodes = 1; /* nowhere to spread it */
    ck_assert_uint_eq(shaping_plan(&limits, p, 2, steps, 4), 0);
    p[0].bytes = 100001;
    ck_assert_uint_eq(shaping_plan(&limits, p, 2, steps, 4), 1);
    ck_assert(steps[0].reason == SHAPING_SPLIT_BYTES);
    limits.partitions_max = 2;
    ck_assert_uint_eq(shaping_plan(&limits, p, 2, steps, 4), 0);
    limits.partitions_max = 64;
    ck_assert_uint_eq(shaping_plan(&limits, p, 2, steps, 0), 0);
}
END_TEST

START_TEST(the_most_urgent_come_first)
{
    struct shaping_limits limits = {.split_bytes = 1000, .split_load = 1000, .partitions_max = 100, .nodes = 100};
    struct shaping_partition p[40];
    struct shaping_step steps[SHAPING_STEPS_MAX];
    for (uint32_t i = 0; i < 40; i++) {
        p[i] = hot(i);
        p[i].load = 2000 + (i * 17) % 40;
    }
    p[23].bytes = 100000;
    ck_assert_uint_eq(shaping_plan(&limits, p, 40, steps, 3), 3);
    ck_assert(steps[0].at == 23 && steps[0].reason == SHAPING_SPLIT_BYTES);
    ck_assert_uint_ge(p[steps[1].at].load, p[steps[2].at].load);
    ck_assert_uint_eq(p[steps[1].at].load, 2039);
}
END_TEST

START_TEST(merges_need_both_sides_cold_and_together)
{
    struct shaping_limits limits = {.split_bytes = 1000, .split_load = 1000, .partitions_max = 100, .nodes = 3};
    struct shaping_partition p[3];
    struct shaping_step steps[SHAPING_STEPS_MAX];
    for (uint32_t i = 0; i < 3; i++)
        p[i] = (struct shaping_partition){.id = i, .keyspace = 1, .created = 1, .load = 60, .bytes = 120, .is_known = true, .is_cold = true, .meets_next = i < 2};
    ck_assert_uint_eq(shaping_plan(&limits, p, 3, steps, 4), 1); /* one of them has only one left neighbour */
    ck_assert(steps[0].reason == SHAPING_MERGE && steps[0].at == 0);
    p[0].load = 70; /* 130 together, of 125 */
    ck_assert_uint_eq(shaping_plan(&limits, p, 3, steps, 4), 1);
    ck_assert_uint_eq(steps[0].at, 1);
    p[1].meets_next = false;
    ck_assert_uint_eq(shaping_plan(&limits, p, 3, steps, 4), 0);
    p[1].meets_next = true;
    p[2].is_cold = false;
    ck_assert_uint_eq(shaping_plan(&limits, p, 3, steps, 4), 0);
    p[2].is_cold = true;
    for (uint32_t i = 0; i < 3; i++) p[i].created = 3;
    ck_assert_uint_eq(shaping_plan(&limits, p, 3, steps, 4), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shaping");
    TCase *tc = tcase_create("shaping");
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, it_comes_to_an_end_and_undoes_nothing, 0, 500);
    tcase_add_test(tc, what_is_left_can_be_spread);
    tcase_add_test(tc, cold_again_it_is_as_created);
    tcase_add_test(tc, who_is_left_alone);
    tcase_add_test(tc, the_most_urgent_come_first);
    tcase_add_test(tc, merges_need_both_sides_cold_and_together);
    return unit_finish(suite);
}

/* The log as runs against a plain array of terms. */
#include "raft/internal.h"
#include "tests/unit/unit.h"
#include <stdlib.h>

enum { INDEX_MAX = 600, ROUNDS = 300, STEPS = 400 };

struct model {
    raft_term term[INDEX_MAX + 1];
    bool is_conf[INDEX_MAX + 1];
    raft_index base, last;
};

static uint64_t random_state;
static uint64_t roll(uint64_t bound)
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % bound;
}

static void compare(const struct runs *l, const struct model *m)
{
    ck_assert_uint_eq(l->base, m->base);
    ck_assert_uint_eq(l->last, m->last);
    ck_assert_uint_eq(runs_last_term(l), m->term[m->last]);
    raft_index at = roll(m->last + 3), low = roll(m->last + 1), high = low + roll(10), conf = 0;
    ck_assert_uint_eq(runs_term(l, at), at < m->base || at > m->last ? 0 : m->term[at]);
    for (raft_index i = low + 1; i <= high && i <= m->last; i++)
        if (i > m->base && m->is_conf[i]) conf = i;
    if (low >= m->base) ck_assert_uint_eq(runs_conf_last(l, low, high), conf);

    raft_term term = roll(m->term[m->last] + 2);
    raft_index agree = at < m->last ? at : m->last;
    while (agree > m->base && m->term[agree] > term)
        agree--;
    ck_assert_uint_eq(runs_back_up(l, at, term), agree);

    if (m->last == m->base) return;
    raft_index first = m->base + 1 + roll(m->last - m->base);
    struct raft_run out[3];
    uint32_t count, want = 1 + (uint32_t)roll(m->last + 1 - first);
    uint32_t covered = runs_slice(l, first, want, out, 3, &count);
    ck_assert(covered > 0 && covered <= want && count > 0 && count <= 3);
    ck_assert(covered == want || count == 3);
    raft_index i = first;
    for (uint32_t k = 0; k < count; k++)
        for (uint32_t n = 0; n < out[k].count; n++, i++) {
            ck_assert_uint_eq(out[k].term, m->term[i]);
            ck_assert_int_eq(out[k].is_conf, m->is_conf[i]);
        }
    ck_assert_uint_eq(i, first + covered);

    /* What a leader would send is equal to us up to where we change its last run. */
    ck_assert_uint_eq(runs_differ(l, first, out, count), first + covered);
    out[count - 1].term++;
    ck_assert_uint_eq(runs_differ(l, first, out, count), first + covered - out[count - 1].count);
}

START_TEST(runs_follow_the_model)
{
    random_state = (uint64_t)_i;
    static struct runs l;
    struct model m = {.last = 0};
    runs_init(&l, 0, 0);
    for (int step = 0; step < STEPS; step++) {
        uint64_t what = roll(10);
        if (what < 6) {
            struct raft_run run = {m.term[m.last] + (m.last == 0) + (roll(3) == 0),
                                   1 + (uint32_t)roll(4), roll(6) == 0};
            if (m.last + run.count > INDEX_MAX) continue;
            ck_assert(runs_append(&l, &run) || runs_room(&l) == 0);
            for (uint32_t i = 0; i < run.count && m.last < l.last; i++) {
                m.term[++m.last] = run.term;
                m.is_conf[m.last] = run.is_conf;
            }
        } else if (what < 8) {
            raft_index from = m.base + 1 + roll(m.last - m.base + 2);
            runs_truncate(&l, from);
            if (from <= m.last) m.last = from - 1;
        } else {
            m.base += roll(m.last - m.base + 1) / 4;
            runs_compact(&l, m.base);
        }
        compare(&l, &m);
    }
}
END_TEST

/* Full: committed spans fold into the base, which remembers the last configuration. */
START_TEST(committed_runs_fold_when_full)
{
    static struct runs l;
    runs_init(&l, 0, 0);
    for (raft_term term = 1; term <= RAFT_RUNS_MAX; term++) {
        struct raft_run run = {term, 2, term == 3};
        ck_assert(runs_append(&l, &run));
    }
    struct raft_run more = {RAFT_RUNS_MAX + 1, 1, false};
    ck_assert(!runs_append(&l, &more));
    runs_fold(&l, 1, 1); /* half a span is not a span */
    ck_assert(!runs_append(&l, &more));
    runs_fold(&l, 9, 4);
    ck_assert_uint_eq(l.base, 8);
    ck_assert_uint_eq(runs_room(&l), 4);
    ck_assert(runs_append(&l, &more));
    ck_assert_uint_eq(runs_conf_last(&l, 2, 8), 6);
    ck_assert_uint_eq(runs_conf_last(&l, 6, l.last), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft runs");
    TCase *tcase = tcase_create("model");
    tcase_add_loop_test(tcase, runs_follow_the_model, 0, ROUNDS);
    tcase_add_test(tcase, committed_runs_fold_when_full);
    suite_add_tcase(suite, tcase);
    return unit_finish(suite);
}

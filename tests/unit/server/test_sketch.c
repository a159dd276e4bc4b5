#include "server/sketch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/base/hash.h"
#include "tests/unit/unit.h"

/* Streams by Zipf's law beside exact counts. */
enum { KEYS = 20000 };
struct stream {
    double *cumulated; /* of the probabilities */
    double *exact, total;
    uint64_t random;
};

static void stream_make(struct stream *s, double theta, uint64_t seed)
{
    *s = (struct stream){.cumulated = calloc(KEYS, sizeof(double)), .exact = calloc(KEYS, sizeof(double)), .random = seed};
    double sum = 0;
    for (int i = 0; i < KEYS; i++) s->cumulated[i] = sum += pow(i + 1, -theta);
    for (int i = 0; i < KEYS; i++) s->cumulated[i] /= sum;
}

static void stream_free(struct stream *s)
{
    free(s->cumulated);
    free(s->exact);
}

static uint32_t stream_next(struct stream *s)
{
    double at = (double)(kv_random_next(&s->random) >> 11) / 9007199254740992.0;
    uint32_t low = 0, high = KEYS - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (s->cumulated[middle] < at) low = middle + 1;
        else high = middle;
    }
    s->exact[low] += 1;
    s->total += 1;
    return low;
}

/* Of another order than their ranks. */
static struct kv_slice key_of(uint32_t rank, char text[24])
{
    return kv_slice(text, (size_t)snprintf(text, 24, "user%05u", (rank * 7919u + 13) % KEYS));
}

static const struct sketch_counter *counter_of(const struct sketch *s, struct kv_slice key)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (kv_slice_eq(s->counters[i].key, key)) return &s->counters[i];
    return NULL;
}

/* What the paper promises, and what it is used for: the hottest keys in their order. */
START_TEST(counts_are_bounded_from_both_sides)
{
    static const double thetas[] = {0.0, 0.6, 0.99, 1.3};
    struct stream s;
    stream_make(&s, thetas[_i], 17);
    struct sketch *sketch = calloc(1, sizeof *sketch);
    char text[24];
    for (uint32_t n = 0; n < 300000; n++) sketch_add(sketch, key_of(stream_next(&s), text), 1, n % 4 == 0);
    for (uint32_t rank = 0; rank < KEYS; rank++) {
        const struct sketch_counter *c = counter_of(sketch, key_of(rank, text));
        if (s.exact[rank] > s.total / SKETCH_COUNTERS) ck_assert_ptr_nonnull(c);
        if (c == NULL) continue;
        ck_assert_double_ge(c->weight, s.exact[rank]);
        ck_assert_double_le(c->weight - c->error, s.exact[rank]);
        ck_assert_double_le(c->reads, c->weight - c->error);
        ck_assert_double_le(c->error, s.total / SKETCH_COUNTERS);
    }
    uint32_t at[SKETCH_COUNTERS];
    ck_assert_uint_eq(sketch_order(sketch, at), SKETCH_COUNTERS);
    for (uint32_t i = 0; thetas[_i] > 0.9 && i < 4; i++)
        ck_assert(kv_slice_eq(sketch->counters[at[i]].key, key_of(i, text)));
    sketch_clear(sketch);
    free(sketch);
    stream_free(&s);
}
END_TEST

START_TEST(who_was_hot_before_is_forgotten)
{
    struct sketch *sketch = calloc(1, sizeof *sketch);
    uint32_t at[SKETCH_COUNTERS];
    for (int i = 0; i < 10000; i++) sketch_add(sketch, kv_str("before"), 1, true);
    for (int second = 0; second < 60; second++) {
        sketch_decay(sketch, 10.0 / 11.0);
        for (int i = 0; i < 100; i++) sketch_add(sketch, kv_str("now"), 1, false);
    }
    sketch_order(sketch, at);
    ck_assert(kv_slice_eq(sketch->counters[at[0]].key, kv_str("now")));
    ck_assert_double_eq_tol(sketch->counters[at[0]].weight, 1100, 10); /* 100 a second over 11 s */
    sketch_clear(sketch);
    free(sketch);
}
END_TEST

static struct kv_range range_of(const char *from, const char *to)
{
    return (struct kv_range){kv_str(from), kv_str(to)};
}

/* The share on the left of the border, of all that the stream would ever bring. */
static double left_of(const struct stream *s, struct kv_slice border)
{
    double left = 0;
    char text[24];
    for (uint32_t rank = 0; rank < KEYS; rank++) {
        double p = s->cumulated[rank] - (rank == 0 ? 0 : s->cumulated[rank - 1]);
        if (kv_slice_cmp(key_of(rank, text), border) < 0) left += p;
    }
    return left;
}

START_TEST(the_median_halves_the_load)
{
    static const double thetas[] = {0.0, 0.6, 0.99};
    struct stream s;
    struct sample *sample = calloc(1, sizeof *sample);
    char text[24];
    struct kv_slice at;
    stream_make(&s, thetas[_i % 3], 100 + (uint64_t)_i);
    for (uint32_t n = 0; n < 5000; n++) sample_add(sample, key_of(stream_next(&s), text), 1 + n % 3);
    double lighter = sample_median(sample, range_of("", ""), 0, &at), left = left_of(&s, at);
    ck_assert_double_ge(lighter, 0.35);
    ck_assert_msg(left > 0.3 && left < 0.7, "theta %g: %g of the load lies left of %.*s", thetas[_i % 3], left, (int)at.size, (const char *)at.data);
    sample_clear(sample);
    free(sample);
    stream_free(&s);
}
END_TEST

START_TEST(one_hot_key_has_no_median)
{
    struct sample *sample = calloc(1, sizeof *sample);
    struct kv_slice at = kv_str("");
    for (int i = 0; i < 1000; i++) sample_add(sample, kv_str(i % 20 == 0 ? (i % 40 == 0 ? "a" : "z") : "hot"), 1);
    double lighter = sample_median(sample, range_of("", ""), 0, &at);
    ck_assert_double_lt(lighter, 0.1); /* there are borders, and none that spreads it */
    sample_clear(sample);
    for (int i = 0; i < 1000; i++) sample_add(sample, kv_str("hot"), 1);
    ck_assert_double_eq(sample_median(sample, range_of("hot", ""), 0, &at), 0); /* where the range begins is no border */
    sample_clear(sample);
    free(sample);
}
END_TEST

START_TEST(a_border_is_a_slots_start_and_inside_the_range)
{
    struct sample *sample = calloc(1, sizeof *sample);
    struct kv_slice at;
    static const char *const keys[] = {"slot01aa", "slot01zz", "slot02aa", "slot03aa", "other", "slot09zz"};
    for (int i = 0; i < 120; i++) sample_add(sample, kv_str(keys[i % 6]), 1);
    double lighter = sample_median(sample, range_of("slot01", "slot09"), 6, &at);
    ck_assert_double_eq_tol(lighter, 0.5, 1e-9);
    ck_assert(kv_slice_eq(at, kv_str("slot02")));
    ck_assert_double_eq(sample_median(sample, range_of("t", "u"), 6, &at), 0); /* it knows nothing of there */
    sample_clear(sample);
    free(sample);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sketch");
    TCase *tc = tcase_create("sketch");
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, counts_are_bounded_from_both_sides, 0, 4);
    tcase_add_test(tc, who_was_hot_before_is_forgotten);
    tcase_add_loop_test(tc, the_median_halves_the_load, 0, 30);
    tcase_add_test(tc, one_hot_key_has_no_median);
    tcase_add_test(tc, a_border_is_a_slots_start_and_inside_the_range);
    return unit_finish(suite);
}

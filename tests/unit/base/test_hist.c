#include "client/base/hist.h"

#include "client/base/hash.h"
#include "tests/unit/unit.h"

static struct kv_hist h, other;

START_TEST(empty_and_single)
{
    kv_hist_init(&h);
    ck_assert_uint_eq(kv_hist_quantile(&h, 0.5), 0);
    kv_hist_add(&h, 123456789);
    ck_assert_uint_eq(kv_hist_quantile(&h, 0.0), 123456789); /* clamped to what was seen */
    ck_assert_uint_eq(kv_hist_quantile(&h, 1.0), 123456789);
    ck_assert(h.min_ns == 123456789 && h.max_ns == 123456789 && h.sum_ns == 123456789);
}
END_TEST

START_TEST(small_values_are_exact)
{
    kv_hist_init(&h);
    for (uint64_t v = 0; v < 128; v++) kv_hist_add(&h, v);
    for (uint64_t v = 1; v <= 128; v++) {
        ck_assert_uint_eq(kv_hist_quantile(&h, (double)v / 128.0), v - 1);
    }
}
END_TEST

START_TEST(every_value_is_within_its_error)
{
    for (int bit = 0; bit < 40; bit++) {
        for (uint64_t k = 0; k < 7; k++) {
            uint64_t v = (UINT64_C(1) << bit) + k * ((UINT64_C(1) << bit) / 7);
            kv_hist_init(&h);
            kv_hist_add(&h, v);
            kv_hist_add(&h, (UINT64_C(1) << 40) - 1); /* so that the maximum does not clamp */
            uint64_t q = kv_hist_quantile(&h, 0.5);
            ck_assert_uint_ge(q, v);
            ck_assert_uint_le(q - v, v / 64);
        }
    }
}
END_TEST

START_TEST(larger_values_count_as_the_largest)
{
    kv_hist_init(&h);
    kv_hist_add(&h, UINT64_MAX);
    kv_hist_add(&h, UINT64_C(1) << 40);
    ck_assert_uint_eq(h.counts[KV_HIST_BUCKETS - 1], 2);
    ck_assert_uint_eq(h.max_ns, (UINT64_C(1) << 40) - 1);
}
END_TEST

START_TEST(quantiles_of_a_uniform_flow)
{
    kv_hist_init(&h);
    for (uint64_t v = 1; v <= 100000; v++) kv_hist_add(&h, v * 1000);
    static const double qs[] = {0.01, 0.5, 0.9, 0.99, 0.999};
    for (int i = 0; i < 5; i++) {
        double truth = qs[i] * 100000000.0, got = (double)kv_hist_quantile(&h, qs[i]);
        ck_assert(got >= truth * 0.999 && got <= truth * 1.017);
    }
    ck_assert_uint_eq(kv_hist_quantile(&h, 1.0), 100000000);
}
END_TEST

START_TEST(merging_equals_adding)
{
    static struct kv_hist both;
    uint64_t seed = 4;
    kv_hist_init(&h);
    kv_hist_init(&other);
    kv_hist_init(&both);
    for (int i = 0; i < 10000; i++) {
        uint64_t v = kv_random_next(&seed) >> (kv_random_next(&seed) % 60);
        uint64_t n = kv_random_next(&seed) % 3;
        kv_hist_add_n(i % 2 == 0 ? &h : &other, v, n);
        kv_hist_add_n(&both, v, n);
    }
    kv_hist_merge(&h, &other);
    ck_assert_mem_eq(&h, &both, sizeof h);
    kv_hist_init(&other);
    kv_hist_merge(&h, &other); /* an empty one changes nothing, not even the minimum */
    ck_assert_mem_eq(&h, &both, sizeof h);
    kv_hist_merge(&other, &both);
    ck_assert_mem_eq(&other, &both, sizeof h);
}
END_TEST

UNIT_MAIN("hist", empty_and_single, small_values_are_exact, every_value_is_within_its_error,
          larger_values_count_as_the_largest, quantiles_of_a_uniform_flow, merging_equals_adding)

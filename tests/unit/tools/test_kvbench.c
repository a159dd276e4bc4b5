#include <math.h>
#include <stdlib.h>

#include "tools/kvbench/work.c" /* kvbench is a program, not a library */
#include "tests/unit/unit.h"

static struct bench bench;
static struct lane lane;

static void setup(void)
{
    memset(&bench, 0, sizeof bench);
    memset(&lane, 0, sizeof lane);
    bench.options = (struct options){.prefix = "key:",
                                     .clients = 4,
                                     .depth = 2,
                                     .keys = 10000,
                                     .value_min = 10,
                                     .value_max = 40,
                                     .share = {[OP_READ] = 500, [OP_WRITE] = 500},
                                     .theta = 0.99,
                                     .scan_max = 100,
                                     .seed = 7};
    lane.bench = &bench;
}

static void start(void)
{
    ck_assert_int_eq(work_init(&bench), KV_OK);
}

static void teardown(void)
{
    work_free(&bench);
    bench.pool = NULL;
}

START_TEST(permutation_hits_every_number_once)
{
    static const uint64_t sizes[] = {1, 2, 3, 17, 1000, 4096, 4097};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        uint64_t n = sizes[s], still = 0;
        uint8_t *seen = calloc(n, 1);
        ck_assert_ptr_nonnull(seen);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t to = work_permute(i, n, 42);
            ck_assert_uint_lt(to, n);
            ck_assert_uint_eq(seen[to], 0);
            seen[to] = 1;
            still += to == i;
        }
        if (n >= 1000) ck_assert_uint_lt(still, 20); /* it does move them */
        free(seen);
    }
}
END_TEST

START_TEST(zipf_has_the_shape_it_claims)
{
    bench.options.distribution = KEYS_ZIPF;
    start();
    enum { DRAWS = 200000 };
    uint64_t *hits = calloc(bench.options.keys, sizeof *hits);
    ck_assert_ptr_nonnull(hits);
    for (int i = 0; i < DRAWS; i++) {
        uint64_t rank = zipf_next(&bench.zipf, work_uniform(&bench));
        ck_assert_uint_lt(rank, bench.options.keys);
        hits[rank]++;
    }
    /* P(rank r) = (r+1)^-theta / zeta(n) */
    for (uint64_t rank = 0; rank < 2; rank++) {
        double want = DRAWS * pow((double)rank + 1, -0.99) / bench.zipf.zeta_n;
        ck_assert_msg(fabs((double)hits[rank] - want) < want * 0.05, "rank %d: %d, not %f", (int)rank,
                      (int)hits[rank], want);
    }
    uint64_t first_hundred = 0;
    double share = 0;
    for (uint64_t rank = 0; rank < 100; rank++) {
        first_hundred += hits[rank];
        share += pow((double)rank + 1, -0.99) / bench.zipf.zeta_n;
    }
    ck_assert_double_eq_tol((double)first_hundred / DRAWS, share, 0.02);
    free(hits);
}
END_TEST

START_TEST(values_name_their_key)
{
    start();
    uint8_t value[64], again[64];
    for (uint32_t size = 0; size <= 40; size++) {
        struct op op = {.key = 0x123456789abcdef0, .value_size = size};
        memset(value, 0xee, sizeof value);
        work_value(&bench, &op, value);
        ck_assert_uint_eq(value[size], 0xee);
        ck_assert(work_check(op.key, kv_slice(value, size)));
        if (size > 0) ck_assert(!work_check(~op.key, kv_slice(value, size)));
        work_value(&bench, &op, again);
        if (size == 40) ck_assert_mem_ne(value, again, size); /* no two writes are alike */
    }
    char key[KEY_BYTES_MAX];
    ck_assert_uint_eq(work_key(&bench, 42, key), 16);
    ck_assert_mem_eq(key, "key:000000000042", 16);
}
END_TEST

START_TEST(mix_and_fill_do_what_they_say)
{
    start();
    struct op op = {.lane = &lane};
    uint32_t writes = 0;
    for (int i = 0; i < 10000; i++) {
        work_choose(&bench, &op);
        ck_assert(op.kind == OP_READ || op.kind == OP_WRITE);
        ck_assert(op.writes == (op.kind == OP_WRITE));
        ck_assert_uint_lt(op.key, bench.options.keys);
        ck_assert_uint_ge(op.value_size, 10);
        ck_assert_uint_le(op.value_size, 40);
        writes += op.writes;
    }
    ck_assert_uint_gt(writes, 4700);
    ck_assert_uint_lt(writes, 5300);

    bench.options.split = true;
    bench.options.writers = 1;
    work_choose(&bench, &op);
    ck_assert_int_eq(op.kind, OP_WRITE);
    lane.number = 1;
    work_choose(&bench, &op);
    ck_assert_int_eq(op.kind, OP_READ);

    bench.options.split = false;
    memset(bench.options.share, 0, sizeof bench.options.share);
    bench.options.share[OP_INSERT] = 1000;
    for (uint64_t i = 0; i < 10; i++) {
        work_choose(&bench, &op);
        ck_assert_uint_eq(op.key, bench.options.keys + i);
        ck_assert(op.writes);
    }
    bench.options.distribution = KEYS_LATEST; /* only keys that are surely there */
    zipf_init(&bench.zipf, bench.options.keys, 0.99);
    bench.options.share[OP_INSERT] = 0;
    bench.options.share[OP_READ] = 1000;
    for (int i = 0; i < 1000; i++) {
        work_choose(&bench, &op);
        ck_assert_uint_lt(op.key, bench.options.keys + 10 - 8);
    }
}
END_TEST

START_TEST(arrivals_keep_their_rate)
{
    start();
    bench.options.rate = 1000;
    ck_assert_uint_eq(work_gap_ns(&bench), 1000000);
    bench.options.poisson = true;
    uint64_t sum = 0, least = UINT64_MAX;
    for (int i = 0; i < 20000; i++) {
        uint64_t gap = work_gap_ns(&bench);
        sum += gap;
        if (gap < least) least = gap;
    }
    ck_assert_double_eq_tol((double)sum / 20000, 1e6, 5e4);
    ck_assert_uint_lt(least, 10000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kvbench");
    TCase *c = tcase_create("work");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, permutation_hits_every_number_once);
    tcase_add_test(c, zipf_has_the_shape_it_claims);
    tcase_add_test(c, values_name_their_key);
    tcase_add_test(c, mix_and_fill_do_what_they_say);
    tcase_add_test(c, arrivals_keep_their_rate);
    suite_add_tcase(suite, c);
    return unit_finish(suite);
}

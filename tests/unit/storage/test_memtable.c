#include <stdio.h>
#include <time.h>

#include "storage/memtable.h"
#include "tests/unit/storage/model.h"
#include "tests/unit/unit.h"

/* The table against the model; what the table does not know it leaves to what lies below,
 * so a second model plays that part. */
struct pair {
    struct memtable *t;
    struct model now, below;
};

static void pair_check_points(const struct pair *p, struct chance *c)
{
    struct store_row row = chance_row(c);
    struct kv_slice value = {0};
    const struct model_row *expect = model_get(&p->now, &row);
    switch (memtable_get(p->t, row.class, row.key, row.sub, &value)) {
    case MEMTABLE_VALUE:
        ck_assert_ptr_nonnull(expect);
        ck_assert(kv_slice_eq(value, kv_slice(expect->value, expect->value_size)));
        break;
    case MEMTABLE_DELETED: ck_assert_ptr_null(expect); break;
    case MEMTABLE_NOTHING: {
        const struct model_row *below = model_get(&p->below, &row);
        ck_assert((below == NULL) == (expect == NULL));
        break;
    }
    }
}

/* Deleted ranges, then rows, over what lies below, must give the whole state. */
static void pair_check_all(const struct pair *p)
{
    struct model folded = {0};
    model_copy(&folded, &p->below);
    for (int k = 0; k < STORE_CLASSES; k++) {
        uint32_t count;
        const struct kv_range *ranges = memtable_ranges(p->t, (enum store_class)k, &count);
        for (uint32_t i = 0; i < count; i++) {
            if (i > 0) ck_assert_int_lt(kv_slice_cmp(ranges[i - 1].to, ranges[i].from), 0);
            if (i + 1 < count) ck_assert_uint_gt(ranges[i].to.size, 0);
            model_delete_range(&folded, (enum store_class)k, ranges[i]);
        }
        struct memtable_cursor i;
        struct store_row row, last = {0};
        bool deleted, first = true;
        uint64_t rows = 0;
        ck_assert(memtable_seek(p->t, (enum store_class)k, kv_slice(NULL, 0), &i));
        for (; memtable_next(&i, &row, &deleted); first = false, last = row, rows++) {
            ck_assert_int_eq(row.class, k);
            if (!first) ck_assert_int_lt(row_order(&last, &row), 0);
            if (deleted)
                model_del(&folded, &row);
            else
                model_put(&folded, &row);
        }
        ck_assert_uint_eq(rows, memtable_rows(p->t, (enum store_class)k));
    }
    ck_assert_uint_eq(folded.count, p->now.count);
    for (size_t i = 0; i < folded.count; i++) {
        struct store_row a = model_view(&folded.rows[i]), b = model_view(&p->now.rows[i]);
        ck_assert_int_eq(row_order(&a, &b), 0);
        ck_assert(kv_slice_eq(a.value, b.value));
    }
    model_free(&folded);
}

static void pair_check_seek(const struct pair *p, struct chance *c)
{
    struct store_row want = chance_row(c), row;
    struct memtable_cursor i;
    bool deleted;
    ck_assert(memtable_seek(p->t, want.class, want.key, &i));
    if (!memtable_next(&i, &row, &deleted)) return;
    ck_assert_int_ge(kv_slice_cmp(row.key, want.key), 0);
    struct kv_slice value;
    if (memtable_get(p->t, want.class, want.key, want.sub, &value) == MEMTABLE_VALUE)
        ck_assert(kv_slice_eq(row.key, want.key));
}

/* What a checkpoint sees of a frozen table is what its writer sees. */
static void pair_check_sorted(const struct pair *p)
{
    memtable_freeze(p->t);
    for (int k = 0; k < STORE_CLASSES; k++) {
        struct memtable_sorted *s = memtable_sorted_create(p->t, (enum store_class)k);
        struct memtable_cursor i;
        struct store_row got, want;
        bool got_deleted, want_deleted;
        ck_assert_ptr_nonnull(s);
        ck_assert(memtable_seek(p->t, (enum store_class)k, kv_slice(NULL, 0), &i));
        while (memtable_next(&i, &want, &want_deleted)) {
            ck_assert(memtable_sorted_next(s, &got, &got_deleted));
            ck_assert_int_eq(row_order(&got, &want), 0);
            ck_assert(kv_slice_eq(got.value, want.value));
            ck_assert(got_deleted == want_deleted);
        }
        ck_assert(!memtable_sorted_next(s, &got, &got_deleted));
        memtable_sorted_destroy(s);
    }
}

/* The order is asked for after every operation, now and then, or hardly ever; and kept where the
 * table before was asked for it. */
START_TEST(random_operations)
{
    struct chance c = {.seed = (uint64_t)_i + 1, .keys = _i % 2 == 0 ? 300 : 5000};
    struct pair p = {.t = memtable_create(1 << 16)};
    uint64_t seeks_of = _i % 3 == 0 ? 1 : _i % 3 == 1 ? 60 : 5000;
    ck_assert_ptr_nonnull(p.t);
    if (_i % 4 == 3) {
        struct memtable *before = memtable_create(1 << 16);
        struct memtable_cursor any;
        ck_assert_ptr_nonnull(before);
        ck_assert(memtable_seek(before, STORE_DATA, kv_slice(NULL, 0), &any));
        memtable_succeed(p.t, before);
        memtable_destroy(before);
    }
    for (int i = 0; i < 500; i++) {
        struct store_row row = chance_row(&c);
        model_put(&p.below, &row);
        model_put(&p.now, &row);
    }
    ck_assert(memtable_is_empty(p.t));
    for (int step = 0; step < 20000; step++) {
        uint64_t what = chance_below(&c, 1000);
        if (what < 700) {
            struct store_row row = chance_row(&c);
            ck_assert(memtable_put(p.t, &row));
            model_put(&p.now, &row);
        } else if (what < 997) {
            struct store_row row = chance_row(&c);
            ck_assert(memtable_delete(p.t, &row));
            model_del(&p.now, &row);
        } else {
            struct kv_range range = chance_range(&c);
            enum store_class class = (enum store_class)chance_below(&c, STORE_CLASSES);
            ck_assert(memtable_delete_range(p.t, class, range));
            model_delete_range(&p.now, class, range);
        }
        pair_check_points(&p, &c);
        if (chance_below(&c, seeks_of) == 0) pair_check_seek(&p, &c);
        if (step % 1000 == 0) pair_check_all(&p);
    }
    pair_check_sorted(&p);
    pair_check_all(&p);
    memtable_destroy(p.t);
    model_free(&p.now);
    model_free(&p.below);
}
END_TEST

/* Rising, falling and middle inserts split nodes in every place. */
START_TEST(ordered_inserts)
{
    struct memtable *t = memtable_create(1 << 20);
    enum { COUNT = 50000 };
    for (uint32_t n = 0; n < COUNT; n++) {
        uint32_t k = _i == 0 ? n : _i == 1 ? COUNT - 1 - n : n % 2 == 0 ? n / 2 : COUNT - 1 - n / 2;
        char key[16];
        snprintf(key, sizeof key, "%c%c%c%c%08u", 0, 0, 0, 1, k);
        struct store_row row = {
            .class = STORE_DATA, .key = kv_slice(key, 12), .value = kv_str("v")};
        ck_assert(memtable_put(t, &row));
    }
    struct memtable_cursor i;
    struct store_row row;
    bool deleted;
    uint32_t n = 0;
    ck_assert(memtable_seek(t, STORE_DATA, kv_slice(NULL, 0), &i));
    for (; memtable_next(&i, &row, &deleted); n++)
        ck_assert_int_eq(atoi((const char[9]){(char)row.key.data[4], (char)row.key.data[5],
                                              (char)row.key.data[6], (char)row.key.data[7],
                                              (char)row.key.data[8], (char)row.key.data[9],
                                              (char)row.key.data[10], (char)row.key.data[11], 0}),
                         (int)n);
    ck_assert_uint_eq(n, COUNT);
    memtable_destroy(t);
}
END_TEST

START_TEST(overwriting_reuses_memory)
{
    struct memtable *t = memtable_create(1 << 16);
    uint8_t value[1000] = {0};
    struct store_row row = {.class = STORE_DATA, .key = kv_str("counter")};
    row.value = kv_slice(value, sizeof value);
    ck_assert(memtable_put(t, &row));
    size_t bytes = memtable_bytes(t);
    for (int n = 0; n < 100000; n++) {
        value[n % 1000]++;
        row.value.size = 1 + (size_t)n % sizeof value;
        ck_assert(memtable_put(t, &row));
    }
    ck_assert_uint_eq(memtable_bytes(t), bytes);
    ck_assert(memtable_delete(t, &row));
    ck_assert(memtable_put(t, &row));
    ck_assert_uint_eq(memtable_bytes(t), bytes);
    memtable_destroy(t);
}
END_TEST

START_TEST(values_of_every_size)
{
    struct memtable *t = memtable_create(1 << 16);
    static uint8_t big[3 << 20];
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (uint8_t)(i * 7);
    size_t sizes[] = {0, 1, 65535, 65536, 65537, 262143, 1 << 20, sizeof big};
    for (int round = 0; round < 2; round++)
        for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++) {
            char key[16];
            int size = snprintf(key, sizeof key, "k%zu", n);
            size_t bytes = sizes[round == 0 ? n : sizeof sizes / sizeof *sizes - 1 - n];
            struct store_row row = {.class = STORE_DATA,
                                    .key = kv_slice(key, (size_t)size),
                                    .value = kv_slice(big, bytes)};
            struct kv_slice value;
            ck_assert(memtable_put(t, &row));
            ck_assert_int_eq(memtable_get(t, STORE_DATA, row.key, row.sub, &value), MEMTABLE_VALUE);
            ck_assert(kv_slice_eq(value, row.value));
        }
    ck_assert_uint_gt(memtable_bytes(t), sizeof big);
    memtable_destroy(t);
}
END_TEST

/* For people: `BENCH=1 test_memtable` prints what a point costs. */
static void bench(void)
{
    enum { COUNT = 250000 };
    struct memtable *t = memtable_create(32 << 20);
    uint64_t seed = 1;
    uint8_t value[100] = {0};
    struct timespec a, b;
    for (int round = 0; round < 3; round++) {
        clock_gettime(CLOCK_MONOTONIC, &a);
        uint64_t found = 0;
        for (uint32_t n = 0; n < COUNT; n++) {
            uint64_t id = round == 0 ? n : kv_random_next(&seed) % COUNT;
            uint32_t slot = (uint32_t)(kv_hash64(kv_slice(&id, 8), 0) % 16384);
            char key[64];
            int size = snprintf(key + 6, sizeof key - 6, "key:%012lu", (unsigned long)id);
            memcpy(key, (const uint8_t[6]){0, 0, 0, 1, (uint8_t)(slot >> 8), (uint8_t)slot}, 6);
            struct store_row row = {.class = STORE_DATA,
                                    .key = kv_slice(key, 6 + (size_t)size),
                                    .value = kv_slice(value, sizeof value)};
            struct kv_slice out;
            if (round < 2)
                memtable_put(t, &row);
            else
                found += memtable_get(t, STORE_DATA, row.key, row.sub, &out) == MEMTABLE_VALUE;
        }
        clock_gettime(CLOCK_MONOTONIC, &b);
        double ns = (double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec);
        static const char *const names[] = {"insert", "overwrite", "get"};
        printf("%s: %.0f ns (with 150 ns of printf), %zu bytes, %lu found\n", names[round],
               ns / COUNT, memtable_bytes(t), (unsigned long)found);
    }
    memtable_destroy(t);
}

int main(void)
{
    if (getenv("BENCH") != NULL) {
        bench();
        return EXIT_SUCCESS;
    }
    Suite *suite = suite_create("memtable");
    TCase *tc = tcase_create("memtable");
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, random_operations, 0, 6);
    tcase_add_loop_test(tc, ordered_inserts, 0, 3);
    tcase_add_test(tc, overwriting_reuses_memory);
    tcase_add_test(tc, values_of_every_size);
    tcase_set_timeout(tc, 20);
    return unit_finish(suite);
}

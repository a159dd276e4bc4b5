#include "client/base/arena.h"

#include "client/base/hash.h"
#include "tests/unit/unit.h"

START_TEST(pieces_are_aligned_and_do_not_overlap)
{
    enum { N = 2000 };
    struct kv_arena a = {0};
    static struct kv_slice pieces[N];
    uint64_t seed = 3;
    for (uint32_t i = 0; i < N; i++) {
        size_t size = kv_random_next(&seed) % (i % 100 == 0 ? 20000 : 200);
        uint8_t *p = kv_arena_alloc(&a, size);
        ck_assert_ptr_nonnull(p);
        ck_assert_uint_eq((uintptr_t)p % 16, 0);
        memset(p, (int)(i % 251), size);
        pieces[i] = kv_slice(p, size);
    }
    for (uint32_t i = 0; i < N; i++) {
        for (size_t k = 0; k < pieces[i].size; k++) ck_assert_uint_eq(pieces[i].data[k], i % 251);
    }
    kv_arena_free(&a);
    kv_arena_free(&a);
}
END_TEST

START_TEST(the_limit_counts_what_is_handed_out)
{
    struct kv_arena a;
    kv_arena_init(&a, 1000);
    ck_assert_ptr_nonnull(kv_arena_alloc(&a, 500));
    ck_assert_ptr_null(kv_arena_alloc(&a, 500)); /* 512 + 512 */
    ck_assert_ptr_nonnull(kv_arena_alloc(&a, 480));
    ck_assert_ptr_null(kv_arena_alloc(&a, 1));
    ck_assert_ptr_null(kv_arena_alloc(&a, SIZE_MAX));
    ck_assert_ptr_null(kv_arena_alloc(&a, SIZE_MAX - 20));
    kv_arena_reset(&a);
    ck_assert_ptr_nonnull(kv_arena_alloc(&a, 990));
    kv_arena_free(&a);
    ck_assert_uint_eq(a.size_max, 1000);
}
END_TEST

START_TEST(a_reset_keeps_the_first_block_only)
{
    struct kv_arena a = {0};
    void *first = kv_arena_alloc(&a, 10);
    size_t block = a.size;
    for (int i = 0; i < 100; i++) ck_assert_ptr_nonnull(kv_arena_alloc(&a, 5000));
    ck_assert_uint_gt(a.size, block);
    kv_arena_reset(&a);
    ck_assert_uint_eq(a.size, block);
    ck_assert_ptr_eq(kv_arena_alloc(&a, 10), first);
    kv_arena_free(&a);
}
END_TEST

START_TEST(copies_are_copies)
{
    struct kv_arena a;
    kv_arena_init(&a, 64);
    char text[] = "hello";
    struct kv_slice copy = kv_arena_copy(&a, kv_str(text));
    text[0] = 'j';
    ck_assert(kv_slice_eq(copy, kv_str("hello")));
    struct kv_slice empty = kv_arena_copy(&a, kv_slice(NULL, 0));
    ck_assert(empty.data != NULL && empty.size == 0); /* unlike a refusal */
    ck_assert_ptr_null(kv_arena_copy(&a, kv_slice(text, 60)).data);
    kv_arena_free(&a);
}
END_TEST

UNIT_MAIN("arena", pieces_are_aligned_and_do_not_overlap, the_limit_counts_what_is_handed_out,
          a_reset_keeps_the_first_block_only, copies_are_copies)

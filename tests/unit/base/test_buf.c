#include "client/base/buf.h"

#include "client/base/hash.h"
#include "tests/unit/unit.h"

START_TEST(a_zeroed_buffer_is_usable)
{
    struct kv_buf b = {0};
    ck_assert_uint_eq(kv_buf_slice(&b).size, 0);
    ck_assert_ptr_nonnull(kv_buf_reserve(&b, 0)); /* NULL would mean failed */
    kv_buf_append_text(&b, "abc");
    kv_buf_append_u8(&b, 'd');
    kv_buf_printf(&b, "%d-%s", 7, "x");
    kv_buf_append(&b, NULL, 0);
    ck_assert(kv_slice_eq(kv_buf_slice(&b), kv_str("abcd7-x")));
    kv_buf_free(&b);
    kv_buf_free(&b);
    ck_assert_ptr_null(b.data);
}
END_TEST

START_TEST(beyond_the_limit_it_fails_and_keeps_what_it_had)
{
    struct kv_buf b;
    kv_buf_init(&b, 5);
    kv_buf_append_text(&b, "12345");
    ck_assert(!b.failed);
    kv_buf_append_u8(&b, '6');
    ck_assert(b.failed);
    kv_buf_append(&b, "", 0);
    kv_buf_consume(&b, 3);
    kv_buf_append_u8(&b, '7'); /* there would be room, but the writer has lost a byte already */
    ck_assert(b.failed && kv_slice_eq(kv_buf_slice(&b), kv_str("45")));
    ck_assert_ptr_null(kv_buf_reserve(&b, 1));
    kv_buf_clear(&b);
    kv_buf_append_text(&b, "abcde");
    ck_assert(!b.failed && kv_slice_eq(kv_buf_slice(&b), kv_str("abcde")));
    ck_assert_ptr_null(kv_buf_reserve(&b, SIZE_MAX)); /* no overflow */
    kv_buf_free(&b);
    ck_assert_uint_eq(b.size_max, 5);
}
END_TEST

START_TEST(a_long_print_is_whole)
{
    struct kv_buf b = {0};
    char long_text[1000];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    kv_buf_printf(&b, "<%s>", long_text);
    ck_assert_uint_eq(b.size, 1001);
    ck_assert_int_eq(kv_buf_slice(&b).data[1000], '>');
    kv_buf_free(&b);
    kv_buf_init(&b, 1000); /* exactly as long as needed: the NUL is not content */
    kv_buf_printf(&b, "%s%c", long_text, 'y');
    ck_assert(!b.failed);
    kv_buf_free(&b);
}
END_TEST

/* Against the plain truth: a queue of bytes numbered from 0. */
START_TEST(random_appends_and_consumes_keep_the_order)
{
    uint64_t seed = 1;
    struct kv_buf b;
    kv_buf_init(&b, 10000);
    uint64_t in = 0, out = 0;
    for (int i = 0; i < 20000; i++) {
        size_t size = kv_random_next(&seed) % 300;
        if (kv_random_next(&seed) % 2 == 0) {
            if (b.size + size > b.size_max) continue;
            uint8_t *p = kv_buf_reserve(&b, size + (b.size + size < b.size_max));
            ck_assert_ptr_nonnull(p);
            for (size_t k = 0; k < size; k++) p[k] = (uint8_t)(in++ * 31);
            kv_buf_commit(&b, size);
        } else {
            if (size > b.size) size = b.size;
            for (size_t k = 0; k < size; k++) {
                ck_assert_uint_eq(kv_buf_slice(&b).data[k], (uint8_t)(out++ * 31));
            }
            kv_buf_consume(&b, size);
        }
        ck_assert_uint_eq(b.size, in - out);
        ck_assert_uint_le(b.capacity, 4 * b.size_max); /* it does not creep */
    }
    ck_assert_uint_gt(out, 100000);
    kv_buf_free(&b);
}
END_TEST

START_TEST(memory_is_given_back_only_when_empty)
{
    struct kv_buf b = {0};
    ck_assert_ptr_nonnull(kv_buf_reserve(&b, 100000));
    kv_buf_commit(&b, 1);
    kv_buf_shrink(&b, 4096);
    ck_assert_uint_ge(b.capacity, 100000);
    kv_buf_consume(&b, 1);
    kv_buf_shrink(&b, 4096);
    ck_assert(b.capacity == 0 && b.data == NULL);
    kv_buf_append_u8(&b, 1);
    size_t small = b.capacity;
    kv_buf_consume(&b, 1);
    kv_buf_shrink(&b, 4096);
    ck_assert_uint_eq(b.capacity, small);
    kv_buf_free(&b);
}
END_TEST

UNIT_MAIN("buf", a_zeroed_buffer_is_usable, beyond_the_limit_it_fails_and_keeps_what_it_had,
          a_long_print_is_whole, random_appends_and_consumes_keep_the_order,
          memory_is_given_back_only_when_empty)

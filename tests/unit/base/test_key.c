#include "client/base/key.h"

#include "tests/unit/unit.h"

#include <stdio.h>

START_TEST(slots_are_those_of_redis_cluster)
{
    ck_assert_uint_eq(kv_slot(kv_str("123456789")), 12739); /* the specification: 0x31C3 */
    ck_assert_uint_eq(kv_slot(kv_str("foo")), 12182);       /* the cluster tutorial */
    ck_assert_uint_eq(kv_slot(kv_str("hello")), 866);
    ck_assert_uint_eq(kv_slot(kv_str("")), 0);
}
END_TEST

START_TEST(hash_tags_follow_the_specification)
{
    uint16_t tag = kv_slot(kv_str("user1000"));
    ck_assert_uint_eq(kv_slot(kv_str("{user1000}.following")), tag);
    ck_assert_uint_eq(kv_slot(kv_str("{user1000}.followers")), tag);
    ck_assert_uint_eq(kv_slot(kv_str("x{user1000}{other}")), tag);
    /* An empty first tag means the whole key, whatever follows. */
    ck_assert_uint_ne(kv_slot(kv_str("foo{}{bar}")), kv_slot(kv_str("bar")));
    ck_assert_uint_eq(kv_slot(kv_str("foo{{bar}}zap")), kv_slot(kv_str("{bar")));
    ck_assert_uint_eq(kv_slot(kv_str("foo{bar}{zap}")), kv_slot(kv_str("bar")));
    ck_assert_uint_ne(kv_slot(kv_str("{open")), kv_slot(kv_str("open")));
    ck_assert_uint_eq(kv_slot(kv_str("}{a}")), kv_slot(kv_str("a")));
}
END_TEST

START_TEST(encoded_keys_are_big_endian_and_read_back)
{
    struct kv_key k;
    ck_assert_int_eq(kv_key_hash(0x01020304, kv_str("123456789"), &k), KV_OK);
    ck_assert_uint_eq(k.size, 15);
    ck_assert_mem_eq(k.bytes, "\x01\x02\x03\x04\x31\xC3" "123456789", 15);
    struct kv_slice s = kv_key_slice(&k);
    ck_assert_uint_eq(kv_key_keyspace(s), 0x01020304);
    ck_assert_uint_eq(kv_key_slot(s), 0x31C3);
    ck_assert(kv_slice_eq(kv_key_user_hash(s), kv_str("123456789")));
    ck_assert_int_eq(kv_key_range(1, kv_str("ab"), &k), KV_OK);
    ck_assert_uint_eq(k.size, 6);
    ck_assert_mem_eq(k.bytes, "\0\0\0\1ab", 6);
    ck_assert_int_eq(kv_key_hash(1, kv_slice(NULL, 0), &k), KV_OK);
    ck_assert_uint_eq(k.size, 6);
}
END_TEST

START_TEST(long_keys_are_refused_untouched)
{
    uint8_t bytes[KV_USER_KEY_BYTES_MAX + 1] = {0};
    struct kv_key k, before;
    memset(&k, 0xAB, sizeof k);
    before = k;
    struct kv_slice fits = kv_slice(bytes, KV_USER_KEY_BYTES_MAX);
    struct kv_slice over = kv_slice(bytes, sizeof bytes);
    ck_assert_int_eq(kv_key_hash(1, over, &k), KV_TOO_BIG);
    ck_assert_int_eq(kv_key_range(1, over, &k), KV_TOO_BIG);
    ck_assert_mem_eq(&k, &before, sizeof k);
    ck_assert_int_eq(kv_key_hash(1, fits, &k), KV_OK);
    ck_assert_uint_eq(k.size, KV_KEY_BYTES_MAX);
}
END_TEST

START_TEST(every_key_lies_between_its_slot_and_the_next)
{
    for (int i = 0; i < 2000; i++) {
        char text[16];
        int size = snprintf(text, sizeof text, "key%d", i);
        struct kv_key k, from, to, end, next_keyspace;
        ck_assert_int_eq(kv_key_hash(7, kv_slice(text, (size_t)size), &k), KV_OK);
        uint16_t slot = kv_key_slot(kv_key_slice(&k));
        kv_key_slot_start(7, slot, &from);
        kv_key_slot_start(7, (uint16_t)(slot + 1), &to);
        kv_key_slot_start(7, KV_SLOTS, &end);
        kv_key_slot_start(8, 0, &next_keyspace);
        struct kv_range r = {kv_key_slice(&from), kv_key_slice(&to)};
        ck_assert(kv_range_has(r, kv_key_slice(&k)));
        ck_assert_int_lt(kv_slice_cmp(kv_key_slice(&k), kv_key_slice(&end)), 0);
        ck_assert_int_lt(kv_slice_cmp(kv_key_slice(&end), kv_key_slice(&next_keyspace)), 0);
    }
}
END_TEST

UNIT_MAIN("key", slots_are_those_of_redis_cluster, hash_tags_follow_the_specification,
          encoded_keys_are_big_endian_and_read_back, long_keys_are_refused_untouched,
          every_key_lies_between_its_slot_and_the_next)

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
    ck_assert_mem_eq(k.bytes, "\x01\x02\x03\x04\x31\xC3"
                              "123456789",
                     15);
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

static struct kv_label labels[] = {
    {{(const uint8_t *)"us", 2}, 2}, {{(const uint8_t *)"de", 2}, 0}, {{(const uint8_t *)"", 0}, 3}, {{(const uint8_t *)"fr", 2}, 1}};

static void encodes(const struct kv_key_rule *rule, const char *user, int bucket)
{
    struct kv_key k, start, end;
    enum kv_err err = kv_key_encode(rule, kv_str(user), &k);
    if (bucket < 0) {
        ck_assert_int_eq(err, KV_NOT_FOUND);
        return;
    }
    ck_assert_int_eq(err, KV_OK);
    ck_assert_uint_eq(kv_key_keyspace(kv_key_slice(&k)), rule->keyspace);
    if (rule->kind == KV_KEY_LIST) ck_assert_uint_eq(kv_key_slot(kv_key_slice(&k)), (unsigned)bucket);
    ck_assert(kv_slice_eq(kv_key_user(rule->kind, kv_key_slice(&k)), kv_str(user)));
    kv_key_start(rule->kind, rule->keyspace, &start);
    kv_key_end(rule->kind, rule->keyspace, &end);
    ck_assert(kv_range_has((struct kv_range){kv_key_slice(&start), kv_key_slice(&end)}, kv_key_slice(&k)));
}

START_TEST(one_rule_encodes_every_kind)
{
    struct kv_key_rule rule = {.keyspace = 9, .kind = KV_KEY_LIST, .delimiter = '/', .labels = labels, .label_count = 4};
    struct kv_key k, old;
    kv_labels_sort(labels, 4);
    encodes(&rule, "de/1", 0);
    encodes(&rule, "fr/a/b", 1);
    encodes(&rule, "us", 2); /* no delimiter: all of it is the label */
    encodes(&rule, "/x", 3); /* the empty label is one too */
    encodes(&rule, "", 3);
    encodes(&rule, "uk/1", -1);
    encodes(&rule, "u/1", -1);
    encodes(&rule, "use/1", -1);
    rule.has_rest = true;
    rule.rest = 65535;
    encodes(&rule, "uk/1", 65535);
    encodes(&rule, "de/1", 0);
    rule.delimiter = ':';
    encodes(&rule, "de:1", 0);
    encodes(&rule, "de/1", 65535);
    rule.kind = KV_KEY_RANGE;
    encodes(&rule, "de/1", 0);
    encodes(&rule, "", 0);
    encodes(&rule, "\xff\xff\xff\xff\xff\xff\xff", 0);
    rule.kind = KV_KEY_HASH;
    encodes(&rule, "{de}1", 0);
    ck_assert_int_eq(kv_key_encode(&kv_key_rule_default, kv_str("k"), &k), KV_OK);
    ck_assert_int_eq(kv_key_hash(KV_KEYSPACE_DEFAULT, kv_str("k"), &old), KV_OK);
    ck_assert(kv_slice_eq(kv_key_slice(&k), kv_key_slice(&old)));
    uint8_t over[KV_USER_KEY_BYTES_MAX + 1] = {0};
    for (enum kv_key_kind kind = KV_KEY_RANGE; kind <= KV_KEY_LIST; kind++) {
        rule.kind = kind;
        ck_assert_int_eq(kv_key_encode(&rule, kv_slice(over, sizeof over), &k), KV_TOO_BIG);
        ck_assert_int_eq(kv_key_encode(&rule, kv_slice(over, sizeof over - 1), &k), KV_OK);
    }
}
END_TEST

START_TEST(names_need_no_quotes)
{
    char over[KV_NAME_BYTES_MAX + 2];
    static const char *const good[] = {"a", "users", "Users-2.x_y"};
    static const char *const bad[] = {"", "1", "1a", "-a", "a b", "a/b", "a\n", "\xc3\xa4"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) ck_assert(kv_name_is_valid(kv_str(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) ck_assert(!kv_name_is_valid(kv_str(bad[i])));
    memset(over, 'a', sizeof over);
    ck_assert(kv_name_is_valid(kv_slice(over, KV_NAME_BYTES_MAX)));
    ck_assert(!kv_name_is_valid(kv_slice(over, KV_NAME_BYTES_MAX + 1)));
}
END_TEST

UNIT_MAIN("key", slots_are_those_of_redis_cluster, hash_tags_follow_the_specification,
          encoded_keys_are_big_endian_and_read_back, long_keys_are_refused_untouched,
          every_key_lies_between_its_slot_and_the_next, one_rule_encodes_every_kind, names_need_no_quotes)

#include <stdlib.h>

#include "client/base/hash.h"
#include "command.pb-c.h"
#include "storage/command.h"
#include "tests/unit/unit.h"

static void command_check_same(const struct command *a, const struct command *b)
{
    ck_assert_int_eq(a->op, b->op);
    ck_assert_uint_eq(a->arg_count, b->arg_count);
    for (uint32_t i = 0; i < a->arg_count; i++)
        ck_assert(kv_slice_eq(a->args[i], b->args[i]));
    ck_assert_uint_eq(a->keyspace, b->keyspace);
    ck_assert_uint_eq(a->range_epoch, b->range_epoch);
    ck_assert_uint_eq(a->stamp_ms, b->stamp_ms);
    ck_assert_uint_eq(a->seed, b->seed);
    ck_assert_uint_eq(a->feature, b->feature);
    ck_assert_uint_eq(a->sequence, b->sequence);
    ck_assert_mem_eq(a->client, b->client, sizeof a->client);
}

static void round_trip(const struct command *c)
{
    struct kv_buf buf;
    struct kv_arena arena;
    kv_buf_init(&buf, 0);
    kv_arena_init(&arena, 16 << 20);
    command_encode(c, &buf);
    ck_assert(!buf.failed);
    struct command back;
    ck_assert_int_eq(command_decode(kv_buf_slice(&buf), &arena, &back), KV_OK);
    command_check_same(c, &back);
    kv_arena_free(&arena);
    kv_buf_free(&buf);
}

START_TEST(commands_round_trip)
{
    struct kv_slice args[100];
    for (size_t i = 0; i < 100; i++)
        args[i] = kv_slice("0123456789", i % 11);
    struct command c = {
        .op = KV_OP_SET,
        .args = args,
        .keyspace = 1,
        .range_epoch = 3,
        .stamp_ms = 1700000000000,
        .seed = UINT64_MAX,
        .feature = COMMAND_FEATURE,
        .client = "0123456789abcde",
        .sequence = 77,
    };
    for (c.arg_count = 0; c.arg_count <= 100; c.arg_count++)
        round_trip(&c);
    c.arg_count = 100;
    c.sequence = 0;
    memset(c.client, 0, sizeof c.client);
    round_trip(&c);
    round_trip(&(struct command){.op = KV_OP_NOOP});
}
END_TEST

/* The hand-written bytes are those of the generated code, and are read by it. */
START_TEST(commands_are_command_proto)
{
    uint64_t seed = 7;
    for (int round = 0; round < 20000; round++) {
        uint64_t r = kv_random_next(&seed), bits = kv_random_next(&seed) % 64;
        struct kv_slice args[4];
        struct command c = {.op = r & 1 ? KV_OP_SET : KV_OP_KVPUT, .args = args, .arg_count = r >> 1 & 3};
        static const uint8_t data[300];
        for (uint32_t i = 0; i < c.arg_count; i++) args[i] = kv_slice(data, kv_random_next(&seed) % 300);
        if (r & 16) c.keyspace = (uint32_t)(kv_random_next(&seed) >> (bits | 32));
        if (r & 32) c.range_epoch = (uint32_t)(kv_random_next(&seed) >> (bits | 32));
        if (r & 64) c.stamp_ms = kv_random_next(&seed);
        if (r & 128) c.seed = kv_random_next(&seed);
        if (r & 256) c.feature = COMMAND_FEATURE;
        if (r & 512) {
            c.sequence = (kv_random_next(&seed) >> bits) | 1;
            memset(c.client, (int)(r >> 20 & 0xFF), sizeof c.client);
        }
        Kv__Store__Command m = KV__STORE__COMMAND__INIT;
        ProtobufCBinaryData list[4];
        m.op = (uint32_t)c.op;
        m.args = list;
        m.n_args = c.arg_count;
        for (uint32_t i = 0; i < c.arg_count; i++)
            list[i] = (ProtobufCBinaryData){.len = args[i].size, .data = (uint8_t *)(uintptr_t)args[i].data};
        m.has_keyspace = c.keyspace != 0, m.keyspace = c.keyspace;
        m.has_range_epoch = c.range_epoch != 0, m.range_epoch = c.range_epoch;
        m.has_stamp_ms = c.stamp_ms != 0, m.stamp_ms = c.stamp_ms;
        m.has_seed = c.seed != 0, m.seed = c.seed;
        m.has_feature = c.feature != 0, m.feature = c.feature;
        m.has_sequence = m.has_client = c.sequence != 0, m.sequence = c.sequence;
        m.client = (ProtobufCBinaryData){.len = sizeof c.client, .data = c.client};
        uint8_t packed[2048];
        ck_assert_uint_le(kv__store__command__get_packed_size(&m), sizeof packed);
        size_t size = kv__store__command__pack(&m, packed);
        struct kv_buf buf;
        kv_buf_init(&buf, 0);
        command_encode(&c, &buf);
        ck_assert(kv_slice_eq(kv_buf_slice(&buf), kv_slice(packed, size)));
        kv_buf_free(&buf);
        round_trip(&c);
    }
}
END_TEST

START_TEST(encode_appends_after_what_is_there)
{
    struct kv_buf buf;
    kv_buf_init(&buf, 0);
    kv_buf_append_text(&buf, "kept");
    command_encode(&(struct command){.op = KV_OP_NOOP, .feature = 1}, &buf);
    ck_assert_mem_eq(kv_buf_slice(&buf).data, "kept", 4);
    ck_assert_uint_gt(buf.size, 4);
    kv_buf_free(&buf);
}
END_TEST

START_TEST(a_full_buffer_fails_once)
{
    struct kv_buf buf;
    kv_buf_init(&buf, 8);
    struct kv_slice arg = kv_str("longer than eight bytes");
    command_encode(&(struct command){.op = KV_OP_SET, .args = &arg, .arg_count = 1}, &buf);
    ck_assert(buf.failed);
    ck_assert_uint_eq(buf.size, 0);
    kv_buf_free(&buf);
}
END_TEST

static enum kv_err decode(const void *bytes, size_t size, size_t arena_max)
{
    struct kv_arena arena;
    kv_arena_init(&arena, arena_max);
    struct command c;
    enum kv_err err = command_decode(kv_slice(bytes, size), &arena, &c);
    kv_arena_free(&arena);
    return err;
}

START_TEST(refusals)
{
    ck_assert_int_eq(decode("", 0, 1 << 16), KV_MALFORMED);                 /* op is required */
    ck_assert_int_eq(decode("\x08\x7f", 2, 1 << 16), KV_MALFORMED);         /* no such op */
    ck_assert_int_eq(decode("\x08\x02\x38\x02", 4, 1 << 16), KV_VERSION);   /* feature 2 */
    ck_assert_int_eq(decode("\x08\x7f\x38\x02", 4, 1 << 16), KV_VERSION);   /* its op too */
    ck_assert_int_eq(decode("\x08\x02\x12\x7f", 4, 1 << 16), KV_MALFORMED); /* arg cut off */
    ck_assert_int_eq(decode("\x08\x02\x48\x05", 4, 1 << 16), KV_MALFORMED); /* sequence alone */
    ck_assert_int_eq(decode("\x08\x02\x42\x01x\x48\x05", 7, 1 << 16), KV_MALFORMED);
    ck_assert_int_eq(decode("\x08\x02", 2, 1 << 16), KV_OK);
    ck_assert_int_eq(decode("\x08\x03\x08\x02", 4, 1 << 16), KV_OK);        /* the last op counts */
    ck_assert_int_eq(decode("\x08\x02\xA2\x06\x01x", 6, 1 << 16), KV_OK);   /* unknown field 100 */
    ck_assert_int_eq(decode("\x08\x02\x02\x00", 4, 1 << 16), KV_MALFORMED); /* field 0 */
    ck_assert_int_eq(decode("\x08\x02\x13", 3, 1 << 16), KV_MALFORMED);     /* a group */
    ck_assert_int_eq(decode("\x0A\x00", 2, 1 << 16), KV_MALFORMED);         /* op as bytes */
    ck_assert_int_eq(decode("\x08\x02\x10\x05", 4, 1 << 16), KV_MALFORMED); /* an arg as number */
    ck_assert_int_eq(decode("\x08\x82", 2, 1 << 16), KV_MALFORMED);         /* a number cut off */
    ck_assert_int_eq(decode("\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", 11, 1 << 16), KV_MALFORMED);

    uint8_t many[2 + 2 * 40] = {0x08, 0x02};
    for (int i = 0; i < 40; i++) many[2 + 2 * i] = 0x12; /* empty arguments */
    ck_assert_int_eq(decode(many, sizeof many, 1 << 16), KV_OK);
    ck_assert_int_eq(decode(many, sizeof many, 40 * sizeof(struct kv_slice) - 1), KV_TOO_BIG);
}
END_TEST

START_TEST(descriptor_round_trip)
{
    struct descriptor d = {
        .id = 9,
        .keyspace = 1,
        .kind = DESCRIPTOR_HASH,
        .range_epoch = 2,
        .conf_epoch = 5,
        .replica_next = 18,
        .replica_count = DESCRIPTOR_REPLICAS_MAX,
        .value_bytes_max = 1 << 20,
        .dedup_retention_ms = 3600000,
    };
    kv_key_slot_start(1, 0, &d.from);
    kv_key_slot_start(1, 2048, &d.to);
    for (uint32_t i = 0; i < d.replica_count; i++)
        d.replicas[i] = (struct descriptor_replica){i + 1, i + 100, (enum descriptor_role)(i % 4), i * 3, i * 7};
    struct kv_buf buf;
    kv_buf_init(&buf, 0);
    descriptor_encode(&d, &buf);
    struct descriptor back;
    ck_assert_int_eq(descriptor_decode(kv_buf_slice(&buf), &back), KV_OK);
    ck_assert_uint_eq(back.id, 9);
    ck_assert_int_eq(back.kind, DESCRIPTOR_HASH);
    ck_assert(kv_slice_eq(kv_key_slice(&back.from), kv_key_slice(&d.from)));
    ck_assert(kv_slice_eq(kv_key_slice(&back.to), kv_key_slice(&d.to)));
    ck_assert_uint_eq(back.range_epoch, 2);
    ck_assert_uint_eq(back.conf_epoch, 5);
    ck_assert_uint_eq(back.replica_next, 18);
    ck_assert_uint_eq(back.replica_count, d.replica_count);
    for (uint32_t i = 0; i < d.replica_count; i++) {
        ck_assert_uint_eq(back.replicas[i].id, i + 1);
        ck_assert_uint_eq(back.replicas[i].node, i + 100);
        ck_assert_int_eq(back.replicas[i].role, (int)(i % 4));
        ck_assert_uint_eq(back.replicas[i].succeeds, i * 3);
        ck_assert_uint_eq(back.replicas[i].store, i * 7);
    }
    ck_assert_uint_eq(back.value_bytes_max, 1 << 20);
    ck_assert_uint_eq(back.dedup_retention_ms, 3600000);
    ck_assert(descriptor_is_joint(&back));
    for (size_t size = 0; size < buf.size;
         size++) /* cut anywhere: refused or a shorter list, no crash */
        (void)descriptor_decode(kv_slice(kv_buf_slice(&buf).data, size), &back);
    kv_buf_free(&buf);
}
END_TEST

/* A list partition knows the labels of its own buckets, and the rest if it holds that. */
START_TEST(descriptors_carry_their_labels)
{
    static const struct kv_label labels[] = {
        {{(const uint8_t *)"at", 2}, 3}, {{(const uint8_t *)"de", 2}, 0}, {{(const uint8_t *)"fr", 2}, 1}};
    struct kv_key_rule rule = {.keyspace = 7, .kind = KV_KEY_LIST, .delimiter = ':', .has_rest = true, .rest = 2, .labels = labels, .label_count = 3}, back;
    struct kv_buf list = {0}, bytes = {0};
    struct kv_arena arena = {0};
    struct kv_key key;
    descriptor_list_encode(&rule, 1, 3, &list);
    struct descriptor d = {.id = 9, .keyspace = 7, .kind = DESCRIPTOR_LIST, .range_epoch = 1, .conf_epoch = 1, .replica_next = 2, .list = kv_buf_slice(&list)}, other;
    kv_key_bucket_start(7, 1, &d.from);
    kv_key_bucket_start(7, 3, &d.to);
    descriptor_encode(&d, &bytes);
    ck_assert_int_eq(descriptor_decode(kv_buf_slice(&bytes), &other), KV_OK);
    ck_assert(kv_slice_eq(other.list, d.list));
    const uint8_t *in = kv_buf_slice(&bytes).data; /* borrowed from what was decoded, not from memory that is gone */
    ck_assert(other.list.data > in && other.list.data + other.list.size <= in + bytes.size);
    ck_assert_int_eq(descriptor_rule(&other, &arena, &back), KV_OK);
    ck_assert_uint_eq(back.label_count, 1);
    ck_assert_int_eq(kv_key_encode(&back, kv_str("fr:1"), &key), KV_OK);
    ck_assert_uint_eq(kv_key_slot(kv_key_slice(&key)), 1);
    ck_assert_int_eq(kv_key_encode(&back, kv_str("xx:1"), &key), KV_OK);
    ck_assert_uint_eq(kv_key_slot(kv_key_slice(&key)), 2);
    kv_buf_clear(&list);
    descriptor_list_encode(&rule, 0, 1, &list);
    other.list = kv_buf_slice(&list);
    ck_assert_int_eq(descriptor_rule(&other, &arena, &back), KV_OK);
    ck_assert_int_eq(kv_key_encode(&back, kv_str("fr:1"), &key), KV_NOT_FOUND);
    for (size_t size = 1; size < bytes.size; size++) {
        struct kv_slice cut = kv_slice(in, size);
        if (descriptor_decode(cut, &other) == KV_OK) (void)descriptor_rule(&other, &arena, &back);
    }
    static const struct kv_label twice[] = {{{(const uint8_t *)"de", 2}, 0}, {{(const uint8_t *)"de", 2}, 1}};
    rule.labels = twice;
    rule.label_count = 2;
    kv_buf_clear(&list);
    descriptor_list_encode(&rule, 0, 2, &list);
    other.kind = DESCRIPTOR_LIST;
    other.list = kv_buf_slice(&list);
    ck_assert_int_eq(descriptor_rule(&other, &arena, &back), KV_MALFORMED);
    kv_arena_free(&arena);
    kv_buf_free(&list);
    kv_buf_free(&bytes);
}
END_TEST

START_TEST(random_bytes_never_crash)
{
    uint64_t seed = 42;
    uint8_t bytes[64];
    for (int round = 0; round < 200000; round++) {
        size_t size = kv_random_next(&seed) % sizeof bytes;
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)(kv_random_next(&seed) % 96);
        struct descriptor d;
        (void)decode(bytes, size, 1 << 16);
        (void)descriptor_decode(kv_slice(bytes, size), &d);
    }
}
END_TEST

/* Records of one client at one key stand in the order they came. */
START_TEST(subs_are_sorted_by_sequence)
{
    static const uint64_t sequences[] = {1, 2, 255, 256, 65535, 65536, UINT32_MAX, (uint64_t)UINT32_MAX + 1, UINT64_MAX};
    uint8_t before[COMMAND_SUB_BYTES] = {0};
    for (size_t i = 0; i < sizeof sequences / sizeof *sequences; i++) {
        struct command c = {.client = {7, 1}, .sequence = sequences[i]};
        uint8_t sub[COMMAND_SUB_BYTES];
        command_sub(&c, sub);
        ck_assert_mem_eq(sub, c.client, COMMAND_CLIENT_BYTES);
        ck_assert_int_lt(memcmp(before, sub, sizeof sub), 0);
        memcpy(before, sub, sizeof sub);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("command");
    TCase *tc = tcase_create("command");
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, commands_round_trip);
    tcase_add_test(tc, commands_are_command_proto);
    tcase_add_test(tc, encode_appends_after_what_is_there);
    tcase_add_test(tc, a_full_buffer_fails_once);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, descriptor_round_trip);
    tcase_add_test(tc, descriptors_carry_their_labels);
    tcase_add_test(tc, subs_are_sorted_by_sequence);
    tcase_add_test(tc, random_bytes_never_crash);
    tcase_set_timeout(tc, 20);
    return unit_finish(suite);
}

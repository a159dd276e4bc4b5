#include <stdlib.h>

#include "storage/value.h"
#include "tests/unit/unit.h"

static struct kv_slice row_make(struct kv_slice key, const struct value *v, uint8_t *out)
{
    value_header_write(key, v, out);
    if (v->payload.size > 0) memcpy(out + VALUE_HEADER_BYTES, v->payload.data, v->payload.size);
    return kv_slice(out, VALUE_HEADER_BYTES + v->payload.size);
}

static const struct value sample = {
    .type = VALUE_STRING,
    .flags = VALUE_FLAG_RAW,
    .version_epoch = 7,
    .version_index = UINT64_C(0x1122334455667788),
    .expire_ms = 1234567890123,
    .payload = {(const uint8_t *)"payload", 7},
};

START_TEST(round_trip)
{
    uint8_t bytes[64];
    struct kv_slice row = row_make(kv_str("key"), &sample, bytes);
    struct value v;
    ck_assert_int_eq(value_read(kv_str("key"), row, &v), KV_OK);
    ck_assert_int_eq(v.type, VALUE_STRING);
    ck_assert_uint_eq(v.flags, VALUE_FLAG_RAW);
    ck_assert_uint_eq(v.version_epoch, 7);
    ck_assert_uint_eq(v.version_index, sample.version_index);
    ck_assert_uint_eq(v.expire_ms, sample.expire_ms);
    ck_assert(kv_slice_eq(v.payload, sample.payload));

    struct value empty = {.type = VALUE_STRING};
    row = row_make(kv_str("key"), &empty, bytes);
    ck_assert_int_eq(value_read(kv_str("key"), row, &v), KV_OK);
    ck_assert_uint_eq(v.payload.size, 0);
}
END_TEST

/* The layout is on disk for good: these bytes must never change. */
START_TEST(golden_bytes)
{
    static const uint8_t golden[] = {
        1,    1,    0,    0,    7,    0,    0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
        0xCB, 0x04, 0xFB, 0x71, 0x1F, 0x01, 0, 0, 'p',  'a',  'y',  'l',  'o',  'a',  'd',
    };
    uint8_t bytes[64];
    struct kv_slice row = row_make(kv_str("key"), &sample, bytes);
    ck_assert_uint_eq(row.size, 4 + sizeof golden);
    ck_assert_mem_eq(bytes + 4, golden, sizeof golden);
}
END_TEST

START_TEST(every_flipped_bit_is_noticed)
{
    uint8_t bytes[64];
    struct kv_slice row = row_make(kv_str("key"), &sample, bytes);
    struct value v;
    for (size_t bit = 0; bit < row.size * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_eq(value_read(kv_str("key"), row, &v), KV_CORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_int_eq(value_read(kv_str("kez"), row, &v), KV_CORRUPT);
    for (size_t size = 0; size < row.size; size++)
        ck_assert_int_eq(value_read(kv_str("key"), kv_slice(bytes, size), &v), KV_CORRUPT);
    ck_assert_int_eq(value_read(kv_str("key"), row, &v), KV_OK);
}
END_TEST

/* A later version's row: intact, but of a type this one does not know. */
START_TEST(unknown_type)
{
    struct value later = sample;
    later.type = (enum value_type)2;
    uint8_t bytes[64];
    struct value v;
    ck_assert_int_eq(value_read(kv_str("key"), row_make(kv_str("key"), &later, bytes), &v),
                     KV_CORRUPT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("value");
    TCase *tc = tcase_create("value");
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, round_trip);
    tcase_add_test(tc, golden_bytes);
    tcase_add_test(tc, every_flipped_bit_is_noticed);
    tcase_add_test(tc, unknown_type);
    return unit_finish(suite);
}

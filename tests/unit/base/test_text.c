#include "client/base/text.h"

#include "client/base/hash.h"
#include "tests/unit/unit.h"

#include <inttypes.h>
#include <stdio.h>

START_TEST(integers_parse_strictly)
{
    int64_t i = 77;
    uint64_t u = 77;
    const char *bad[] = {"", "-", "+1", "01", "-0", "-01", " 1", "1 ", "1a", "0x1",
                         "9223372036854775808", "-9223372036854775809", "99999999999999999999999"};
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        ck_assert_msg(!kv_parse_i64(kv_str(bad[k]), &i), "%s", bad[k]);
        ck_assert_int_eq(i, 77);
    }
    ck_assert(kv_parse_i64(kv_str("0"), &i) && i == 0);
    ck_assert(kv_parse_i64(kv_str("-1"), &i) && i == -1);
    ck_assert(kv_parse_i64(kv_str("9223372036854775807"), &i) && i == INT64_MAX);
    ck_assert(kv_parse_i64(kv_str("-9223372036854775808"), &i) && i == INT64_MIN);
    ck_assert(kv_parse_u64(kv_str("18446744073709551615"), &u) && u == UINT64_MAX);
    u = 77;
    ck_assert(!kv_parse_u64(kv_str("18446744073709551616"), &u) && u == 77);
    ck_assert(!kv_parse_u64(kv_str("-1"), &u) && u == 77);
    ck_assert(!kv_parse_u64(kv_slice("1\0", 2), &u));
}
END_TEST

START_TEST(integers_survive_the_round_trip)
{
    uint64_t seed = 9;
    for (int k = 0; k < 100000; k++) {
        int64_t v = (int64_t)(kv_random_next(&seed) >> (kv_random_next(&seed) % 64)) *
                    (k % 2 == 0 ? 1 : -1);
        char text[21], expected[32];
        size_t size = kv_format_i64(v, text);
        snprintf(expected, sizeof expected, "%" PRId64, v);
        ck_assert(kv_slice_eq(kv_slice(text, size), kv_str(expected)));
        int64_t back;
        ck_assert(kv_parse_i64(kv_slice(text, size), &back) && back == v);
    }
    char text[21];
    ck_assert_uint_eq(kv_format_i64(INT64_MIN, text), 20);
    ck_assert_mem_eq(text, "-9223372036854775808", 20);
}
END_TEST

START_TEST(sizes_and_durations_need_their_unit)
{
    uint64_t v = 0;
    ck_assert(kv_parse_size("512", &v) && v == 512);
    ck_assert(kv_parse_size("64MiB", &v) && v == UINT64_C(64) << 20);
    ck_assert(kv_parse_size("3GiB", &v) && v == UINT64_C(3) << 30);
    ck_assert(kv_parse_duration("250ms", &v) && v == 250000000);
    ck_assert(kv_parse_duration("2s", &v) && v == UINT64_C(2000000000));
    ck_assert(kv_parse_duration("7d", &v) && v == UINT64_C(7) * 86400 * 1000000000);
    ck_assert(kv_parse_duration("0s", &v) && v == 0);
    v = 5;
    const char *bad_sizes[] = {"", "MiB", "-1", "1MB", "1 MiB", "1mib", "9999999TiB", "1.5GiB"};
    for (size_t k = 0; k < 8; k++) ck_assert(!kv_parse_size(bad_sizes[k], &v));
    const char *bad_durations[] = {"", "5", "s", "1sec", "1 s", "-1s", "300000000000s", "1.5s"};
    for (size_t k = 0; k < 8; k++) ck_assert(!kv_parse_duration(bad_durations[k], &v));
    ck_assert_uint_eq(v, 5);
}
END_TEST

START_TEST(utf8_is_judged_by_the_standard)
{
    const char *good[] = {"", "plain", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF",
                          "\xEE\x80\x80", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"};
    const char *bad[] = {"\x80",             "\xC0\x80",     "\xC1\xBF",         "\xC2",
                         "\xE0\x9F\xBF",     "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
                         "\xF5\x80\x80\x80", "\xFF",         "\xE2\x82",         "\xE2\x28\xA1"};
    for (size_t k = 0; k < sizeof good / sizeof good[0]; k++) {
        ck_assert(kv_utf8_valid(kv_str(good[k])));
    }
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        ck_assert_msg(!kv_utf8_valid(kv_str(bad[k])), "case %zu", k);
    }
}
END_TEST

START_TEST(json_strings_are_escaped)
{
    struct kv_buf b = {0};
    kv_json_string(&b, kv_slice("a\"b\\c\n\r\t\x01\x1F\xC3\xA9\0z", 14));
    static const char expected[] = "\"a\\\"b\\\\c\\n\\r\\t\\u0001\\u001f\xC3\xA9\\u0000z\"";
    ck_assert(kv_slice_eq(kv_buf_slice(&b), kv_str(expected)));
    kv_buf_clear(&b);
    kv_json_string(&b, kv_slice(NULL, 0));
    ck_assert(kv_slice_eq(kv_buf_slice(&b), kv_str("\"\"")));
    kv_buf_free(&b);
}
END_TEST

START_TEST(base64_is_that_of_the_rfc)
{
    /* RFC 4648, section 10 */
    const char *plain[] = {"", "f", "fo", "foo", "foob", "fooba", "foobar"};
    const char *text[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    struct kv_buf b = {0};
    for (size_t k = 0; k < 7; k++) {
        kv_buf_clear(&b);
        kv_base64_encode(&b, kv_str(plain[k]));
        ck_assert(kv_slice_eq(kv_buf_slice(&b), kv_str(text[k])));
        kv_buf_clear(&b);
        ck_assert(kv_base64_decode(&b, kv_str(text[k])));
        ck_assert(kv_slice_eq(kv_buf_slice(&b), kv_str(plain[k])));
    }
    const char *bad[] = {"Zg", "Zg=", "Zg===", "Z===", "====", "Zh==", "Zm9=", "Zm=v",
                         "Zg==Zg==", "Z g="};
    kv_buf_clear(&b);
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        ck_assert_msg(!kv_base64_decode(&b, kv_str(bad[k])), "%s", bad[k]);
        ck_assert_uint_eq(b.size, 0);
    }
    kv_buf_free(&b);
}
END_TEST

START_TEST(hex_there_and_back)
{
    struct kv_buf b = {0};
    const uint8_t bytes[] = {0x00, 0x1F, 0xAB, 0xFF};
    kv_hex_encode(&b, kv_slice(bytes, 4));
    ck_assert(kv_slice_eq(kv_buf_slice(&b), kv_str("001fabff")));
    uint8_t back[4];
    ck_assert(kv_hex_decode(kv_str("001FabFF"), back, 4));
    ck_assert_mem_eq(back, bytes, 4);
    ck_assert(!kv_hex_decode(kv_str("001fabf"), back, 4));
    ck_assert(!kv_hex_decode(kv_str("001fabff0"), back, 4));
    ck_assert(!kv_hex_decode(kv_str("001fabfg"), back, 4));
    ck_assert(!kv_hex_decode(kv_str("001fab"), back, 4));
    kv_buf_free(&b);
}
END_TEST

UNIT_MAIN("text", integers_parse_strictly, integers_survive_the_round_trip,
          sizes_and_durations_need_their_unit, utf8_is_judged_by_the_standard,
          json_strings_are_escaped, base64_is_that_of_the_rfc, hex_there_and_back)

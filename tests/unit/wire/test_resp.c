#include "client/wire/resp.h"

#include "client/base/hash.h"
#include "tests/unit/unit.h"

#include <stdio.h>

static struct resp_value one(const char *text)
{
    struct kv_slice in = kv_str(text);
    struct resp_value v;
    enum kv_err err = resp_next(&in, 1000, &v);
    ck_assert_msg(err == KV_OK, "%s: %s", text, kv_err_name(err));
    ck_assert_uint_eq(in.size, 0);
    return v;
}

START_TEST(each_type_is_read)
{
    ck_assert(kv_slice_eq(one("+OK\r\n").text, kv_str("OK")));
    ck_assert(kv_slice_eq(one("-ERR no\r\n").text, kv_str("ERR no")));
    ck_assert_int_eq(one(":-42\r\n").number, -42);
    ck_assert_int_eq(one(":+42\r\n").number, 42);
    ck_assert_int_eq(one(":-9223372036854775808\r\n").number, INT64_MIN);
    ck_assert_int_eq(one(":999999999\r\n").number, 999999999); /* the last of the short ones */
    ck_assert_int_eq(one(":1000000000\r\n").number, 1000000000);
    ck_assert(kv_slice_eq(one("$5\r\na\r\nbc\r\n").text, kv_str("a\r\nbc")));
    ck_assert(!one("$0\r\n\r\n").is_null && one("$0\r\n\r\n").text.size == 0);
    ck_assert(one("$-1\r\n").is_null && one("*-1\r\n").is_null && one("_\r\n").is_null);
    ck_assert_int_eq(one("*3\r\n").number, 3);
    ck_assert_int_eq(one("%2\r\n").number, 2);
    ck_assert_int_eq(one("~0\r\n").number, 0);
    ck_assert_int_eq(one(">1\r\n").number, 1);
    ck_assert_int_eq(one("|1\r\n").number, 1);
    ck_assert(one("#t\r\n").number == 1 && one("#f\r\n").number == 0);
    ck_assert(kv_slice_eq(one(",-1.5e+10\r\n").text, kv_str("-1.5e+10")));
    ck_assert(kv_slice_eq(one(",inf\r\n").text, kv_str("inf")));
    ck_assert(kv_slice_eq(one("(-123456789012345678901234567890\r\n").text,
                          kv_str("-123456789012345678901234567890")));
    ck_assert(kv_slice_eq(one("!5\r\nERR x\r\n").text, kv_str("ERR x")));
    ck_assert(kv_slice_eq(one("=7\r\ntxt:abc\r\n").text, kv_str("txt:abc")));
    ck_assert_int_eq(one("=7\r\ntxt:abc\r\n").type, RESP_VERBATIM);
}
END_TEST

START_TEST(what_is_no_value_is_refused_untouched)
{
    static const struct {
        const char *text;
        enum kv_err err;
    } rows[] = {
        {"PING\r\n", KV_MALFORMED}, {"$\r\n", KV_MALFORMED}, {"$-2\r\n", KV_MALFORMED},
        {"$01\r\nx\r\n", KV_MALFORMED}, {"$1 \r\nx\r\n", KV_MALFORMED},
        {"$1\r\nxy\r\n", KV_MALFORMED}, {"$1\rx", KV_MALFORMED}, {"$1\n", KV_MALFORMED},
        {"*-2\r\n", KV_MALFORMED}, {"%-1\r\n", KV_MALFORMED}, {"$?\r\n", KV_MALFORMED},
        {"*?\r\n", KV_MALFORMED}, {"#x\r\n", KV_MALFORMED}, {"_x\r\n", KV_MALFORMED},
        {",1.\r\n", KV_MALFORMED}, {",\r\n", KV_MALFORMED}, {",1e\r\n", KV_MALFORMED},
        {"(1.5\r\n", KV_MALFORMED}, {"(-\r\n", KV_MALFORMED}, {":\r\n", KV_MALFORMED},
        {":+-1\r\n", KV_MALFORMED}, {":9223372036854775808\r\n", KV_MALFORMED},
        {"+a\nb\r\n", KV_MALFORMED}, {"+a\rb\r\n", KV_MALFORMED}, {"=3\r\ntxt\r\n", KV_MALFORMED},
        {"=4\r\ntext\r\n", KV_MALFORMED}, {"!-1\r\n", KV_MALFORMED}, {"$1001\r\n", KV_TOO_BIG},
        {"*2147483648\r\n", KV_TOO_BIG},
        {"%1073741824\r\n", KV_TOO_BIG}, /* flattened it would be over the limit */
        {"$111111111111111111111111", KV_MALFORMED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kv_slice in = kv_str(rows[i].text);
        struct resp_value v = {.number = 77};
        enum kv_err err = resp_next(&in, 1000, &v);
        ck_assert_msg(err == rows[i].err, "%s: %s", rows[i].text, kv_err_name(err));
        ck_assert(in.size == strlen(rows[i].text) && v.number == 77);
    }
}
END_TEST

START_TEST(a_prefix_asks_for_more)
{
    const char *values[] = {"+OK\r\n", ":12\r\n", "$3\r\nabc\r\n", "*2\r\n", "_\r\n", "#t\r\n",
                            ",1.5\r\n", "=5\r\ntxt:a\r\n", "!1\r\nx\r\n", "$-1\r\n"};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        size_t whole = strlen(values[i]);
        for (size_t size = 0; size <= whole; size++) {
            uint8_t *copy = malloc(size + 1); /* exact, so that ASan sees a read beyond */
            memcpy(copy, values[i], size);
            copy = realloc(copy, size == 0 ? 1 : size);
            struct kv_slice in = kv_slice(copy, size);
            struct resp_value v;
            enum kv_err err = resp_next(&in, 1000, &v);
            ck_assert_int_eq(err, size == whole ? KV_OK : KV_BUSY);
            ck_assert_uint_eq(in.size, size == whole ? 0 : size);
            free(copy);
        }
    }
}
END_TEST

START_TEST(an_endless_line_is_cut)
{
    enum { SIZE = 70000 };
    char *text = malloc(SIZE);
    memset(text, 'x', SIZE);
    text[0] = '+';
    struct kv_slice in = kv_slice(text, 60000);
    struct resp_value v;
    ck_assert_int_eq(resp_next(&in, 1000, &v), KV_BUSY);
    in = kv_slice(text, SIZE);
    ck_assert_int_eq(resp_next(&in, 1000, &v), KV_TOO_BIG);
    free(text);
}
END_TEST

START_TEST(what_is_written_reads_back)
{
    struct kv_buf b = {0};
    resp_put_status(&b, "OK");
    resp_put_error(&b, "ERR %s", "bad\r\n+OK\r\n"); /* must not forge a second reply */
    resp_put_integer(&b, INT64_MIN);
    resp_put_bulk(&b, kv_slice("a\0b", 3));
    resp_put_bulk(&b, kv_slice(NULL, 0));
    resp_put_null(&b);
    resp_put_array(&b, 2);
    resp_put_map(&b, 1);
    struct kv_slice all = kv_str("+OK\r\n-ERR bad  +OK  \r\n:-9223372036854775808\r\n$3\r\na");
    ck_assert_mem_eq(kv_buf_slice(&b).data, all.data, all.size);
    struct kv_slice in = kv_buf_slice(&b);
    static const enum resp_type types[] = {RESP_STATUS, RESP_ERROR, RESP_INTEGER, RESP_BULK,
                                           RESP_BULK, RESP_NULL, RESP_ARRAY, RESP_MAP};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct resp_value v;
        ck_assert_int_eq(resp_next(&in, 1000, &v), KV_OK);
        ck_assert_int_eq(v.type, types[i]);
    }
    ck_assert_uint_eq(in.size, 0);
    kv_buf_free(&b);

    char long_text[2000];
    memset(long_text, 'e', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    resp_put_error(&b, "%s", long_text);
    ck_assert_uint_eq(b.size, 1 + 511 + 2);
    kv_buf_free(&b);
}
END_TEST

START_TEST(resp2_has_the_same_meaning)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"", ""},
        {"+OK\r\n:1\r\n", "+OK\r\n:1\r\n"},
        {"_\r\n", "$-1\r\n"},
        {"*-1\r\n", "*-1\r\n"},
        {"*2\r\n$1\r\na\r\n_\r\n", "*2\r\n$1\r\na\r\n$-1\r\n"},
        {"%1\r\n+k\r\n~2\r\n:1\r\n:2\r\n", "*2\r\n+k\r\n*2\r\n:1\r\n:2\r\n"},
        {"#t\r\n#f\r\n", ":1\r\n:0\r\n"},
        {",3.25\r\n", "$4\r\n3.25\r\n"},
        {"(12345\r\n", "$5\r\n12345\r\n"},
        {"=7\r\ntxt:abc\r\n", "$3\r\nabc\r\n"},
        {"!8\r\nERR a\r\nb\r\n", "-ERR a  b\r\n"},
        {">2\r\n+a\r\n+b\r\n", "*2\r\n+a\r\n+b\r\n"},
        /* An attribute vanishes with everything in it, wherever it stands. */
        {"|1\r\n+k\r\n*2\r\n:1\r\n|1\r\n+x\r\n+y\r\n:2\r\n+value\r\n", "+value\r\n"},
        {"*2\r\n:1\r\n|1\r\n+k\r\n%1\r\n+a\r\n+b\r\n:2\r\n", "*2\r\n:1\r\n:2\r\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kv_buf b = {0};
        resp_to_resp2(kv_str(rows[i].in), &b);
        ck_assert(!b.failed);
        ck_assert_msg(kv_slice_eq(kv_buf_slice(&b), kv_str(rows[i].out)), "row %zu: %.*s", i,
                      (int)b.size, (const char *)kv_buf_slice(&b).data);
        kv_buf_free(&b);
    }
    struct kv_buf b = {0};
    resp_to_resp2(kv_str("+OK\r\n$5\r\nab"), &b);
    ck_assert(b.failed);
    kv_buf_free(&b);
}
END_TEST

UNIT_MAIN("resp", each_type_is_read, what_is_no_value_is_refused_untouched, a_prefix_asks_for_more,
          an_endless_line_is_cut, what_is_written_reads_back, resp2_has_the_same_meaning)

#include "client/base/err.h"

#include "tests/unit/unit.h"

#include <string.h>

START_TEST(every_code_has_its_own_name_and_a_text)
{
    static const enum kv_err all[] = {
#define X(name, code, text) KV_##name,
        KV_ERRORS(X)
#undef X
    };
    size_t count = sizeof all / sizeof all[0];
    for (size_t i = 0; i < count; i++) {
        ck_assert_uint_eq((unsigned)all[i], i); /* dense: a gap would be a renumbering */
        ck_assert_uint_gt(strlen(kv_err_text(all[i])), 0);
        for (size_t k = 0; k < i; k++) ck_assert_str_ne(kv_err_name(all[i]), kv_err_name(all[k]));
    }
    ck_assert_str_eq(kv_err_name(KV_NOT_FOUND), "NOT_FOUND");
    ck_assert_str_eq(kv_err_name(KV_CROSS_SHARD), "CROSS_SHARD");
}
END_TEST

START_TEST(unknown_codes_are_told_apart)
{
    ck_assert_str_eq(kv_err_name((enum kv_err)9999), "UNKNOWN");
    ck_assert_str_eq(kv_err_text((enum kv_err)9999), "unknown error");
    ck_assert_str_eq(kv_applied_text(KV_APPLIED_NO), "no");
    ck_assert_str_eq(kv_applied_text(KV_APPLIED_MAYBE), "maybe");
    ck_assert_str_eq(kv_applied_text(KV_APPLIED_YES), "yes");
    ck_assert_str_eq(kv_applied_text((enum kv_applied)7), "maybe");
}
END_TEST

UNIT_MAIN("err", every_code_has_its_own_name_and_a_text, unknown_codes_are_told_apart)

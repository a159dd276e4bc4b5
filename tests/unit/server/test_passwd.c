#include <string.h>

#include "server/passwd.h"
#include "tests/unit/unit.h"

START_TEST(a_line_checks_its_own_password_only)
{
    char line[PASSWD_LINE_BYTES], second[PASSWD_LINE_BYTES];
    ck_assert_int_eq(passwd_make(kv_str("correct horse"), line), KV_OK);
    ck_assert_int_eq(strncmp(line, "$argon2id$v=19$m=65536,t=3,p=1$", 31), 0);
    ck_assert(passwd_line_valid(line));
    ck_assert_int_eq(passwd_check(line, kv_str("correct horse")), KV_OK);
    ck_assert_int_eq(passwd_check(line, kv_str("correct horsf")), KV_AUTH);
    ck_assert_int_eq(passwd_check(line, kv_slice(NULL, 0)), KV_AUTH);
    ck_assert_int_eq(passwd_make(kv_str("correct horse"), second), KV_OK);
    ck_assert_str_ne(line, second); /* salted */

    char *digit = strrchr(line, '$') + 1; /* the hash no longer matches, the line is still one */
    *digit = *digit == 'A' ? 'B' : 'A';
    ck_assert_int_eq(passwd_check(line, kv_str("correct horse")), KV_AUTH);
}
END_TEST

START_TEST(empty_and_binary_passwords)
{
    char line[PASSWD_LINE_BYTES];
    ck_assert_int_eq(passwd_make(kv_slice("a\0b", 3), line), KV_OK);
    ck_assert_int_eq(passwd_check(line, kv_slice("a\0b", 3)), KV_OK);
    ck_assert_int_eq(passwd_check(line, kv_slice("a\0c", 3)), KV_AUTH);
    ck_assert_int_eq(passwd_make(kv_slice(NULL, 0), line), KV_OK);
    ck_assert_int_eq(passwd_check(line, kv_slice(NULL, 0)), KV_OK);
}
END_TEST

START_TEST(other_lines_are_refused_before_any_work)
{
    static const char *const bad[] = {
        "", "secret", "$argon2id$", "$argon2id$v=19$m=65536,t=3,p=1$",
        "$argon2id$v=19$m=65536,t=3,p=1$!!!$???",
        /* gigabytes or minutes of work */
        "$argon2id$v=19$m=4194304,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$"
        "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE",
        "$argon2id$v=19$m=65536,t=9999,p=1$c29tZXNhbHRzb21lc2FsdA$"
        "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE",
        "$argon2i$v=19$m=65536,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$"
        "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(!passwd_line_valid(bad[i]), "%s", bad[i]);
        ck_assert_int_eq(passwd_check(bad[i], kv_str("secret")), KV_AUTH);
    }
    char long_line[512];
    memset(long_line, 'a', sizeof long_line - 1);
    memcpy(long_line, "$argon2id$v=19$m=65536,t=3,p=1$", 31);
    long_line[sizeof long_line - 1] = '\0';
    ck_assert(!passwd_line_valid(long_line));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("passwd");
    TCase *c = tcase_create("passwd");
    tcase_set_timeout(c, 20);
    tcase_add_test(c, a_line_checks_its_own_password_only);
    tcase_add_test(c, empty_and_binary_passwords);
    tcase_add_test(c, other_lines_are_refused_before_any_work);
    suite_add_tcase(suite, c);
    return unit_finish(suite);
}

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/keys.h"
#include "tests/unit/unit.h"

static char directory[64], path[96], why[512];

static void setup(void)
{
    unit_temporary(directory, sizeof directory, "kvd-keys");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/node.key", directory);
}

static void teardown(void)
{
    unlink(path);
    rmdir(directory); /* fails, and the next setup shows it, if a file was left over */
}

static void write_file(const char *text, mode_t mode)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
    ck_assert_int_eq(chmod(path, mode), 0);
}

#define DIGITS "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

START_TEST(a_key_made_is_the_key_loaded)
{
    uint8_t secret[CHANNEL_KEY_BYTES];
    for (size_t i = 0; i < sizeof secret; i++) secret[i] = (uint8_t)(i * 7 + 1);
    ck_assert_int_eq(keys_make(path, secret, why, sizeof why), KV_OK);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    ck_assert_uint_eq((unsigned)st.st_size, 65);
    struct channel_identity made, loaded;
    channel_identity_make(&made, secret);
    ck_assert_int_eq(keys_load(path, &loaded, why, sizeof why), KV_OK);
    ck_assert_mem_eq(&made, &loaded, sizeof made);

    secret[0] ^= 1; /* a second one never replaces the first */
    ck_assert_int_eq(keys_make(path, secret, why, sizeof why), KV_CONFLICT);
    ck_assert_int_eq(keys_load(path, &loaded, why, sizeof why), KV_OK);
    ck_assert_mem_eq(&made, &loaded, sizeof made);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(rmdir(directory), 0); /* nothing else was left there */
    ck_assert_int_eq(keys_make(path, secret, why, sizeof why), KV_NOT_FOUND);
}
END_TEST

/* Whole or not there, as a half one would lock out the only client for good. */
START_TEST(a_list_of_allowed_keys_is_made_with_one)
{
    uint8_t key[CHANNEL_KEY_BYTES] = {9, 8, 7}, other[CHANNEL_KEY_BYTES] = {1};
    struct keys_allowed allowed;
    ck_assert_int_eq(keys_allowed_make(path, key, why, sizeof why), KV_OK);
    ck_assert_int_eq(keys_allowed_make(path, other, why, sizeof why), KV_CONFLICT);
    ck_assert_int_eq(keys_allowed_load(path, &allowed, why, sizeof why), KV_OK);
    ck_assert_uint_eq(allowed.count, 1);
    ck_assert(keys_allowed_has(&allowed, key) && !keys_allowed_has(&allowed, other));
    keys_allowed_free(&allowed);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(rmdir(directory), 0); /* nothing else was left there */
}
END_TEST

START_TEST(bad_key_files_are_refused_with_the_reason)
{
    struct channel_identity id;
    ck_assert_int_eq(keys_load(path, &id, why, sizeof why), KV_NOT_FOUND);
    write_file(DIGITS "\n", 0644);
    ck_assert_int_eq(keys_load(path, &id, why, sizeof why), KV_DENIED);
    ck_assert_ptr_nonnull(strstr(why, "chmod 600"));
    static const char *const bad[] = {"", "\n", DIGITS "0\n", DIGITS "\n\n", ("zz" DIGITS),
                                      "0011\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_file(bad[i], 0600);
        ck_assert_int_eq(keys_load(path, &id, why, sizeof why), KV_MALFORMED);
        ck_assert_ptr_nonnull(strstr(why, path));
    }
    write_file(DIGITS, 0600); /* an editor without a last newline is no error */
    ck_assert_int_eq(keys_load(path, &id, why, sizeof why), KV_OK);
}
END_TEST

START_TEST(allowed_keys)
{
    struct keys_allowed a;
    write_file("# clients\n" DIGITS "  # alice\n\n"
               "  ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\r\n"
               "0a112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
               0644);
    ck_assert_int_eq(keys_allowed_load(path, &a, why, sizeof why), KV_OK);
    ck_assert_uint_eq(a.count, 3);
    uint8_t key[CHANNEL_KEY_BYTES];
    for (size_t i = 0; i < sizeof key; i++) key[i] = (uint8_t)(i % 16 * 0x11);
    ck_assert(keys_allowed_has(&a, key));
    key[0] = 0xff;
    ck_assert(keys_allowed_has(&a, key));
    key[0] = 0x0b;
    ck_assert(!keys_allowed_has(&a, key));
    keys_allowed_free(&a);
    ck_assert(!keys_allowed_has(&a, key));

    write_file(DIGITS "\n" DIGITS " alice\n", 0644);
    ck_assert_int_eq(keys_allowed_load(path, &a, why, sizeof why), KV_MALFORMED);
    ck_assert_ptr_nonnull(strstr(why, "node.key:2: "));
    ck_assert_uint_eq(a.count, 0);
    write_file("", 0644);
    ck_assert_int_eq(keys_allowed_load(path, &a, why, sizeof why), KV_OK);
    ck_assert(!keys_allowed_has(&a, key));
    unlink(path);
    ck_assert_int_eq(keys_allowed_load(path, &a, why, sizeof why), KV_NOT_FOUND);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("keys");
    TCase *c = tcase_create("keys");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, a_key_made_is_the_key_loaded);
    tcase_add_test(c, a_list_of_allowed_keys_is_made_with_one);
    tcase_add_test(c, bad_key_files_are_refused_with_the_reason);
    tcase_add_test(c, allowed_keys);
    suite_add_tcase(suite, c);
    return unit_finish(suite);
}

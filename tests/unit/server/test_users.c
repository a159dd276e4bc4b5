#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/users.h"
#include "tests/unit/unit.h"

#define LINE  "$argon2id$v=19$m=65536,t=3,p=1$AtfY4yTgwVIRJrsklazO5g$Hx5DAhfPSHnjzL4jyEWganRUzNWd+ry63pGxpXZLJHo"
#define OTHER "$argon2id$v=19$m=65536,t=3,p=1$kdZ4X6WFkzXxburFw1BP9w$omA4KJGHOaK6gI70NaFAwg7umV4V+do//mk/4t6S710"

static struct users users;
static char why[256];

static enum kv_err parse(const char *text)
{
    why[0] = '\0';
    return users_parse("users", kv_str(text), &users, why, sizeof why);
}

START_TEST(lines_with_blanks_and_comments)
{
    ck_assert_int_eq(parse("# who may\n\n  zoe orders " LINE "  # since May\n\tanna\t*\t" OTHER "\r\n   \nq.1-x_ default " LINE), KV_OK);
    ck_assert_uint_eq(users.count, 3);
    const struct user *u = users_find(&users, kv_str("zoe"));
    ck_assert_ptr_nonnull(u);
    ck_assert_str_eq(u->keyspace, "orders");
    ck_assert_str_eq(u->line, LINE);
    u = users_find(&users, kv_str("anna"));
    ck_assert_ptr_nonnull(u);
    ck_assert_str_eq(u->keyspace, "");
    ck_assert_str_eq(u->line, OTHER);
    ck_assert_ptr_nonnull(users_find(&users, kv_str("q.1-x_")));
    ck_assert_ptr_null(users_find(&users, kv_str("zo")));
    ck_assert_ptr_null(users_find(&users, kv_slice("zoe\0", 4)));
    ck_assert_ptr_null(users_find(&users, kv_slice(NULL, 0)));
    ck_assert_ptr_null(users_find(&users, kv_str("a123456789a123456789a123456789a123456789a123456789a123456789a123456789")));
    users_free(&users);
    ck_assert_ptr_null(users_find(&users, kv_str("zoe")));
    ck_assert_int_eq(parse(""), KV_OK);
    ck_assert_uint_eq(users.count, 0);
}
END_TEST

START_TEST(hostile_lines_are_refused_by_number)
{
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"anna\n", "users:1: not NAME KEYSPACE ARGON2ID-LINE"},
        {"\n\nanna * \n", "users:3: not NAME"},
        {"anna * " LINE " more\n", "users:1: not NAME"},
        {"anna orders secret\n", "users:1: the third word is no Argon2id line"},
        {"anna orders $argon2id$v=19$m=4194304,t=3,p=1$AtfY4yTgwVIRJrsklazO5g$Hx5DAhfPSHnjzL4jyEWganRUzNWd+ry63pGxpXZLJHo\n", "users:1: the third word"},
        {"9anna * " LINE, "users:1: the user's name"},
        {"an/na * " LINE, "users:1: the user's name"},
        {"* * " LINE, "users:1: the user's name"},
        {"a123456789a123456789a123456789a123456789a123456789a123456789a1234 * " LINE, "users:1: the user's name"},
        {"anna 7 " LINE, "users:1: the keyspace is neither"},
        {"anna ** " LINE, "users:1: the keyspace is neither"},
        {"default * " LINE, "users:1: user default is the one of resp.password"},
        {"anna * " LINE "\nzoe * " LINE "\nanna orders " OTHER "\n", "users:3: user anna stands in the file twice"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_ne(parse(bad[i].text), KV_OK);
        ck_assert_msg(strncmp(why, bad[i].why, strlen(bad[i].why)) == 0, "%zu: %s", i, why);
        ck_assert_ptr_null(strstr(why, "secret")); /* what somebody typed where the hash belongs */
        ck_assert_uint_eq(users.count, 0);
    }
    ck_assert_int_eq(users_parse("users", kv_slice("anna * " LINE "\0x", sizeof "anna * " LINE + 1), &users, why, sizeof why), KV_MALFORMED);
    ck_assert_int_eq(users_parse("users", kv_slice("an\0na * " LINE, sizeof "an\0na * " LINE - 1), &users, why, sizeof why), KV_MALFORMED);
}
END_TEST

START_TEST(so_many_and_no_more)
{
    char *text = malloc((USERS_MAX + 1) * 160), *at = text;
    ck_assert_ptr_nonnull(text);
    for (int i = 0; i < USERS_MAX; i++) at += sprintf(at, "user%d * %s\n", USERS_MAX - i, LINE);
    ck_assert_int_eq(parse(text), KV_OK);
    ck_assert_uint_eq(users.count, USERS_MAX);
    ck_assert_ptr_nonnull(users_find(&users, kv_str("user1")));
    users_free(&users);
    sprintf(at, "onemore * %s\n", LINE);
    ck_assert_int_eq(parse(text), KV_TOO_BIG);
    ck_assert_str_eq(why, "users:1025: more than 1024 users");
    free(text);
}
END_TEST

START_TEST(files_and_their_modes)
{
    char path[256], text[256];
    unit_temporary(path, sizeof path, "users");
    ck_assert_int_eq(users_load(path, &users, why, sizeof why), KV_NOT_FOUND);
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    int size = snprintf(text, sizeof text, "anna orders %s\n", LINE);
    ck_assert_int_eq(write(fd, text, (size_t)size), size);
    ck_assert_int_eq(users_load(path, &users, why, sizeof why), KV_OK);
    ck_assert_uint_eq(users.count, 1);
    users_free(&users);
    static const mode_t modes[] = {0640, 0604, 0620, 0666};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        ck_assert_int_eq(fchmod(fd, modes[i]), 0);
        ck_assert_int_eq(users_load(path, &users, why, sizeof why), KV_DENIED);
        ck_assert_ptr_nonnull(strstr(why, "chmod 600"));
    }
    ck_assert_int_eq(fchmod(fd, 0600), 0);
    ck_assert_int_eq(ftruncate(fd, USERS_FILE_BYTES_MAX + 1), 0);
    ck_assert_int_eq(users_load(path, &users, why, sizeof why), KV_TOO_BIG);
    close(fd);
    unlink(path);
    ck_assert_int_eq(users_load("/", &users, why, sizeof why), KV_MALFORMED);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(users_load(path, &users, why, sizeof why), KV_MALFORMED); /* nor does it wait for a writer */
    unlink(path);
}
END_TEST

UNIT_MAIN("users", lines_with_blanks_and_comments, hostile_lines_are_refused_by_number, so_many_and_no_more, files_and_their_modes)

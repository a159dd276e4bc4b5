#include "tests/unit/server/exec_mem.h"
#include "tests/unit/unit.h"

/* Commands as stories: each line runs against the state that the lines before left. */
struct line {
    const char *command, *reply;
};

static void tell(struct mem *m, const struct line *lines)
{
    for (; lines->command != NULL; lines++) {
        const char *reply = mem_line(m, lines->command);
        ck_assert_msg(strcmp(reply, lines->reply) == 0, "%s\n  want %s  got  %s", lines->command,
                      lines->reply, reply);
    }
}

#define STORY(...)                                                                                 \
    do {                                                                                           \
        struct mem m;                                                                              \
        mem_init(&m);                                                                              \
        tell(&m, (const struct line[]){__VA_ARGS__, {NULL, NULL}});                                \
        mem_free(&m);                                                                              \
    } while (0)

START_TEST(set_and_get)
{
    STORY({"GET k", "_\r\n"}, {"SET k v", "+OK\r\n"}, {"GET k", "$1\r\nv\r\n"},
          {"SET k w NX", "_\r\n"}, {"SET k w XX", "+OK\r\n"}, {"SET k x GET", "$1\r\nw\r\n"},
          {"SET n x XX", "_\r\n"}, {"SET n x XX GET", "_\r\n"}, {"EXISTS n", ":0\r\n"},
          {"SET k v NX XX", "-ERR syntax error\r\n"}, {"SET k ''", "+OK\r\n"},
          {"GET k", "$0\r\n\r\n"}, {"SET '' empty", "+OK\r\n"}, {"GET ''", "$5\r\nempty\r\n"},
          {"GETDEL ''", "$5\r\nempty\r\n"}, {"GETDEL ''", "_\r\n"}, {"GETSET k z", "$0\r\n\r\n"},
          {"SETNX k 1", ":0\r\n"}, {"SETNX j 1", ":1\r\n"});
}
END_TEST

START_TEST(set_with_deadline)
{
    struct mem m;
    mem_init(&m); /* the clock stands at 1,000,000 ms */
    tell(&m,
         (const struct line[]){{"SET k v EX 10", "+OK\r\n"},
                               {"PTTL k", ":10000\r\n"},
                               {"SET k w KEEPTTL", "+OK\r\n"},
                               {"PEXPIRETIME k", ":1010000\r\n"},
                               {"SET k x", "+OK\r\n"},
                               {"PTTL k", ":-1\r\n"},
                               {"SET k v PX 0", "-ERR invalid expire time in 'set' command\r\n"},
                               {"SET k v EX a", "-ERR value is not an integer or out of range\r\n"},
                               {"SETEX k 0 v", "-ERR invalid expire time in 'setex' command\r\n"},
                               {"GET k", "$1\r\nx\r\n"},
                               {"PSETEX k 500 y", "+OK\r\n"},
                               {NULL, NULL}});
    m.exec.clock_ms += 499;
    ck_assert_str_eq(mem_line(&m, "GET k"), "$1\r\ny\r\n");
    m.exec.clock_ms += 1; /* a deadline is reached, not passed */
    ck_assert_str_eq(mem_line(&m, "GET k"), "_\r\n");
    ck_assert_str_eq(mem_line(&m, "SET k z NX"), "+OK\r\n");
    ck_assert_str_eq(mem_line(&m, "PTTL k"), ":-1\r\n");
    mem_free(&m);
}
END_TEST

START_TEST(deadline_overflow_is_judged_at_apply)
{
    struct mem m;
    struct kv_slice args[] = {kv_str("k"), kv_str("v"), kv_str("PX"),
                              kv_str("9223372036854775000")};
    mem_init(&m); /* relative: fits at clock 0, where a check stands, and not at 1,000,000 */
    ck_assert_int_eq(mem_run(&m, KV_OP_SET, args, 4), KV_OK);
    ck_assert_int_eq(m.exec.op_count, 0);
    ck_assert(kv_slice_eq(kv_buf_slice(&m.reply),
                          kv_str("-ERR invalid expire time in 'set' command\r\n")));
    mem_free(&m);
}
END_TEST

START_TEST(many_keys)
{
    STORY({"MSET a 1 b 2 a 3", "+OK\r\n"}, {"MGET a b c", "*3\r\n$1\r\n3\r\n$1\r\n2\r\n_\r\n"},
          {"MSET a 1 b", "-ERR wrong number of arguments for 'mset' command\r\n"},
          {"MSETNX c 1 a 2", ":0\r\n"}, {"EXISTS c", ":0\r\n"}, {"MSETNX c 1 d 2", ":1\r\n"},
          {"EXISTS a a b x", ":3\r\n"}, {"TOUCH a x", ":1\r\n"}, {"DEL a a x", ":1\r\n"},
          {"UNLINK b b c d x", ":3\r\n"}, {"EXISTS a b c d", ":0\r\n"});
}
END_TEST

START_TEST(delete_counts_each_key_once)
{
    enum { KEYS = 40 };
    struct mem m;
    struct kv_slice args[2 * KEYS];
    char names[KEYS][8];
    mem_init(&m);
    for (int i = 0; i < KEYS; i++) {
        snprintf(names[i], sizeof names[i], "key%d", i);
        args[i] = args[2 * KEYS - 1 - i] = kv_str(names[i]); /* every key twice, far apart */
        struct kv_slice set[] = {args[i], kv_str("v")};
        ck_assert_int_eq(mem_run(&m, KV_OP_SET, set, 2), KV_OK);
    }
    ck_assert_int_eq(mem_run(&m, KV_OP_DEL, args, 2 * KEYS), KV_OK);
    ck_assert(kv_slice_eq(kv_buf_slice(&m.reply), kv_str(":40\r\n")));
    ck_assert_int_eq(m.exec.op_count, KEYS);
    ck_assert_int_eq(m.rows.count, 0);
    mem_free(&m);
}
END_TEST

START_TEST(ranges)
{
    STORY({"SET k Hello_World", "+OK\r\n"}, {"GETRANGE k 0 4", "$5\r\nHello\r\n"},
          {"GETRANGE k -5 -1", "$5\r\nWorld\r\n"}, {"SUBSTR k -100 100", "$11\r\nHello_World\r\n"},
          {"GETRANGE k -1 -5", "$0\r\n\r\n"}, {"GETRANGE none 0 -1", "$0\r\n\r\n"},
          {"SETRANGE k 6 Redis", ":11\r\n"}, {"GET k", "$11\r\nHello_Redis\r\n"},
          {"SETRANGE none 0 ''", ":0\r\n"}, {"EXISTS none", ":0\r\n"}, {"APPEND k !", ":12\r\n"},
          {"STRLEN k", ":12\r\n"}, {"SETRANGE k -1 x", "-ERR offset is out of range\r\n"},
          {"SETRANGE k 1048576 x",
           "-ERR string exceeds maximum allowed size of 1048576 bytes (limit.value) (applied: no)\r\n"},
          {"SETRANGE k 9223372036854775807 x",
           "-ERR string exceeds maximum allowed size of 1048576 bytes (limit.value) (applied: no)\r\n"},
          {"STRLEN k", ":12\r\n"});
}
END_TEST

START_TEST(holes_are_zero)
{
    struct mem m;
    mem_init(&m);
    ck_assert_str_eq(mem_line(&m, "SETRANGE k 3 x"), ":4\r\n");
    mem_line(&m, "GET k");
    ck_assert_mem_eq(kv_buf_slice(&m.reply).data, "$4\r\n\0\0\0x\r\n", 10);
    mem_free(&m);
}
END_TEST

START_TEST(getex)
{
    STORY({"SET k v", "+OK\r\n"}, {"GETEX k", "$1\r\nv\r\n"}, {"PTTL k", ":-1\r\n"},
          {"GETEX k EX 10", "$1\r\nv\r\n"}, {"PTTL k", ":10000\r\n"},
          {"GETEX k PERSIST", "$1\r\nv\r\n"}, {"PTTL k", ":-1\r\n"},
          {"GETEX k PX 5 PERSIST", "-ERR syntax error\r\n"}, {"GETEX none EX nonsense", "_\r\n"},
          {"GETEX k PXAT 1000000", "$1\r\nv\r\n"}, {"EXISTS k", ":0\r\n"});
}
END_TEST

START_TEST(rename_and_copy)
{
    STORY({"RENAME a b", "-ERR no such key\r\n"}, {"SET a 1 EX 10", "+OK\r\n"},
          {"RENAME a b", "+OK\r\n"}, {"EXISTS a", ":0\r\n"}, {"PTTL b", ":10000\r\n"},
          {"RENAME b b", "+OK\r\n"}, {"GET b", "$1\r\n1\r\n"}, {"RENAMENX b b", ":0\r\n"},
          {"SET c 2", "+OK\r\n"}, {"RENAMENX b c", ":0\r\n"}, {"RENAMENX b d", ":1\r\n"},
          {"COPY d c", ":0\r\n"}, {"COPY d c REPLACE", ":1\r\n"}, {"PTTL c", ":10000\r\n"},
          {"GET d", "$1\r\n1\r\n"},
          {"COPY d d", "-ERR source and destination objects are the same\r\n"},
          {"COPY d e DB 1", "-ERR DB index is out of range\r\n"}, {"COPY none e", ":0\r\n"});
}
END_TEST

START_TEST(encodings)
{
    STORY({"SET k 12", "+OK\r\n"}, {"OBJECT ENCODING k", "$3\r\nint\r\n"}, {"APPEND k 3", ":3\r\n"},
          {"OBJECT ENCODING k", "$3\r\nraw\r\n"}, {"INCR k", ":124\r\n"},
          {"OBJECT ENCODING k", "$3\r\nint\r\n"}, {"INCRBYFLOAT k 1", "$3\r\n125\r\n"},
          {"OBJECT ENCODING k", "$6\r\nembstr\r\n"}, {"SET k 007", "+OK\r\n"},
          {"OBJECT encoding k", "$6\r\nembstr\r\n"}, {"OBJECT ENCODING none", "_\r\n"},
          {"OBJECT FOO k", "-ERR unknown subcommand 'FOO'. Try OBJECT HELP.\r\n"},
          {"TYPE k", "+string\r\n"}, {"TYPE none", "+none\r\n"});
}
END_TEST

START_TEST(lcs)
{
    STORY({"MSET a ohmytext b mynewtext", "+OK\r\n"}, {"LCS a b", "$6\r\nmytext\r\n"},
          {"LCS a b LEN", ":6\r\n"},
          {"LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN",
           "%2\r\n$7\r\nmatches\r\n*1\r\n*3\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n:4\r\n$"
           "3\r\nlen\r\n:6\r\n"},
          {"LCS a none", "$0\r\n\r\n"},
          {"LCS a b IDX LEN",
           "-ERR If you want both the length and indexes, please just use IDX.\r\n"});
}
END_TEST

START_TEST(lcs_table_is_bounded)
{
    struct mem m;
    static uint8_t text[8192];
    mem_init(&m);
    struct kv_slice a[] = {kv_str("a"), kv_slice(text, sizeof text)}, b[] = {kv_str("b"), a[1]};
    ck_assert_int_eq(mem_run(&m, KV_OP_SET, a, 2), KV_OK);
    ck_assert_int_eq(mem_run(&m, KV_OP_SET, b, 2), KV_OK);
    ck_assert_str_eq(
        mem_line(&m, "LCS a b LEN"),
        "-ERR Insufficient memory, transient memory for LCS exceeds 67108864 bytes\r\n");
    mem_free(&m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("exec_string");
    TCase *t = tcase_create("stories");
    tcase_add_test(t, set_and_get);
    tcase_add_test(t, set_with_deadline);
    tcase_add_test(t, deadline_overflow_is_judged_at_apply);
    tcase_add_test(t, many_keys);
    tcase_add_test(t, delete_counts_each_key_once);
    tcase_add_test(t, ranges);
    tcase_add_test(t, holes_are_zero);
    tcase_add_test(t, getex);
    tcase_add_test(t, rename_and_copy);
    tcase_add_test(t, encodings);
    tcase_add_test(t, lcs);
    tcase_add_test(t, lcs_table_is_bounded);
    suite_add_tcase(s, t);
    return unit_finish(s);
}

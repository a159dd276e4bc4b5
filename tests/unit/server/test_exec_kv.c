#include "tests/unit/server/exec_mem.h"
#include "tests/unit/unit.h"

/* kvd's own operations, and the contract of exec_run() and exec_check() themselves. */

static void expect(struct mem *m, const char *line, const char *reply, enum kv_err err)
{
    const char *got = mem_line(m, line);
    ck_assert_msg(strcmp(got, reply) == 0, "%s\n  want %s  got  %s", line, reply, got);
    ck_assert_msg(m->exec.err == err, "%s: err %s", line, kv_err_name(m->exec.err));
}

static void expect_version(const struct mem *m, uint32_t epoch, uint64_t index)
{
    ck_assert_int_eq(m->exec.read_version.epoch, epoch);
    ck_assert_int_eq((int64_t)m->exec.read_version.index, (int64_t)index);
}

START_TEST(put_get_delete)
{
    struct mem m;
    mem_init(&m);
    expect(&m, "KVPUT k v 0", "+OK\r\n", KV_OK); /* index 1 */
    expect_version(&m, 1, 1);
    expect(&m, "KVGET k", "$1\r\nv\r\n", KV_OK);
    expect_version(&m, 1, 1);
    expect(&m, "KVPUT k w 0 NX", "_\r\n", KV_CONDITION);
    expect_version(&m, 1, 1);
    expect(&m, "KVPUT k w 2000000", "+OK\r\n", KV_OK);
    expect(&m, "KVGET k", "$1\r\nw\r\n", KV_OK);
    ck_assert_int_eq((int64_t)m.exec.expire_ms, 2000000);
    expect(&m, "KVDEL k 1:1", ":0\r\n", KV_CONDITION);
    expect(&m, "KVDEL k 1:4", ":1\r\n", KV_OK);
    expect_version(&m, 0, 0);
    expect(&m, "KVDEL k", ":0\r\n", KV_OK);
    expect(&m, "KVGET k", "_\r\n", KV_OK);
    expect_version(&m, 0, 0);
    mem_free(&m);
}
END_TEST

START_TEST(compare_and_set)
{
    struct mem m;
    mem_init(&m);
    expect(&m, "KVCAS k v OLD x", "_\r\n", KV_NOT_FOUND);
    expect(&m, "KVCAS k v VERSION 1:7", "_\r\n", KV_NOT_FOUND);
    expect(&m, "KVCAS k v VERSION 0:0", "+OK\r\n", KV_OK); /* 0:0 is the version of nothing */
    expect_version(&m, 1, 3);
    expect(&m, "KVCAS k w VERSION 0:0", "_\r\n", KV_CONDITION);
    expect_version(&m, 1, 3);
    expect(&m, "KVCAS k w VERSION 1:3", "+OK\r\n", KV_OK);
    expect(&m, "KVCAS k x OLD v", "_\r\n", KV_CONDITION);
    expect(&m, "KVCAS k x OLD w", "+OK\r\n", KV_OK);
    expect(&m, "GET k", "$1\r\nx\r\n", KV_OK);
    expect(&m, "PEXPIREAT k 2000000", ":1\r\n", KV_OK);
    expect(&m, "KVCAS k y OLD x", "+OK\r\n", KV_OK);
    ck_assert_int_eq((int64_t)m.exec.expire_ms, 2000000);
    mem_free(&m);
}
END_TEST

START_TEST(increment)
{
    struct mem m;
    mem_init(&m);
    expect(&m, "KVINCR n 5", ":5\r\n", KV_OK);
    expect(&m, "KVINCR n -7", ":-2\r\n", KV_OK);
    expect_version(&m, 1, 2);
    expect(&m, "KVPUT n text 0", "+OK\r\n", KV_OK);
    expect(&m, "KVINCR n 1", "-ERR value is not an integer or out of range\r\n", KV_BAD_ARGUMENT);
    mem_free(&m);
}
END_TEST

START_TEST(bad_arguments_never_reach_the_log)
{
    static const struct {
        const char *line;
        enum kv_err err;
    } cases[] = {
        {"SET", KV_BAD_ARGUMENT},
        {"SET k v EX", KV_BAD_ARGUMENT},
        {"SET k v EX 0", KV_BAD_ARGUMENT},
        {"INCRBY k x", KV_BAD_ARGUMENT},
        {"MSET k v k", KV_BAD_ARGUMENT},
        {"EXPIRE k x", KV_BAD_ARGUMENT},
        {"SETBIT k 0 2", KV_BAD_ARGUMENT},
        {"BITOP FOO d k", KV_BAD_ARGUMENT},
        {"COPY k k", KV_BAD_ARGUMENT},
        {"KVPUT k v x", KV_BAD_ARGUMENT},
        {"KVPUT k v 0 XX", KV_BAD_ARGUMENT},
        {"KVCAS k v FOO 1", KV_BAD_ARGUMENT},
        {"KVCAS k v VERSION 1", KV_BAD_ARGUMENT},
        {"KVDEL k 1:x", KV_BAD_ARGUMENT},
        {"SCAN x", KV_BAD_ARGUMENT},
        {"SCAN 0 COUNT 0", KV_BAD_ARGUMENT},
        {"FLUSHALL FOO", KV_BAD_ARGUMENT},
        {"SCAN 0 MATCH * COUNT 5", KV_OK},
        {"FLUSHALL async", KV_OK},
        {"SET k v", KV_OK},
        {"GET k", KV_OK},
        {"SET k v EX 10 NX GET", KV_OK},
        {"INCR k", KV_OK},
    };
    struct kv_buf reply;
    kv_buf_init(&reply, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kv_slice words[16];
        uint32_t count = 0;
        for (const char *at = cases[i].line; *at != '\0'; at += strspn(at, " ")) {
            words[count] = kv_slice(at, strcspn(at, " "));
            at += words[count++].size;
        }
        kv_buf_clear(&reply);
        enum kv_err err = exec_check(kv_op_find(words[0]), words + 1, count - 1, 1 << 20, &reply);
        ck_assert_msg(err == cases[i].err, "%s: %s", cases[i].line, kv_err_name(err));
        ck_assert_int_eq(reply.size > 0, err != KV_OK);
    }
    kv_buf_free(&reply);
}
END_TEST

START_TEST(limits_are_named)
{
    struct mem m;
    static uint8_t bytes[4096];
    mem_init(&m);
    m.exec.value_bytes_max = 1024;
    struct kv_slice args[] = {kv_str("k"), kv_slice(bytes, 1024)};
    ck_assert_int_eq(mem_run(&m, KV_OP_SET, args, 2), KV_OK);
    args[1].size = 1025;
    static const enum kv_op writers[] = {KV_OP_SET, KV_OP_SETNX, KV_OP_GETSET, KV_OP_APPEND,
                                         KV_OP_MSET};
    for (size_t i = 0; i < sizeof writers / sizeof writers[0]; i++) {
        ck_assert_int_eq(mem_run(&m, writers[i], args, 2), KV_TOO_BIG);
        ck_assert_mem_eq(kv_buf_slice(&m.reply).data,
                         "-ERR string exceeds maximum allowed size of 1024 bytes", 53);
    }
    ck_assert_str_eq(mem_line(&m, "APPEND k x"),
                     "-ERR string exceeds maximum allowed size of 1024 bytes (limit.value) (applied: no)\r\n");
    ck_assert_str_eq(mem_line(&m, "STRLEN k"), ":1024\r\n");
    args[0] = kv_slice(bytes, KV_USER_KEY_BYTES_MAX);
    args[1].size = 1;
    ck_assert_int_eq(mem_run(&m, KV_OP_SET, args, 2), KV_OK);
    args[0].size++;
    ck_assert_int_eq(mem_run(&m, KV_OP_SET, args, 2), KV_TOO_BIG);
    ck_assert_int_eq(mem_run(&m, KV_OP_GET, args, 1), KV_TOO_BIG);
    mem_free(&m);
}
END_TEST

/* A refusal in the middle leaves one reply and no change. */
START_TEST(refused_commands_change_nothing)
{
    struct mem m;
    mem_init(&m);
    mem_line(&m, "MSET a 1 b x");
    uint32_t before = m.rows.count;
    static const char *const lines[] = {"BITFIELD a SET u8 0 1 SET u8 9 x", "MSET c 1 d", "INCR b",
                                        "RENAME none a", "SETRANGE a 99999999 x"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        const char *reply = mem_line(&m, lines[i]);
        ck_assert_msg(reply[0] == '-' && strchr(reply, '\n')[1] == '\0', "%s: %s", lines[i], reply);
        ck_assert_int_eq(m.rows.count, before);
        ck_assert_str_eq(mem_line(&m, "MGET a b"), "*2\r\n$1\r\n1\r\n$1\r\nx\r\n");
    }
    mem_free(&m);
}
END_TEST

START_TEST(state_failures_are_returned)
{
    struct mem m;
    mem_init(&m);
    mem_line(&m, "SET k v");
    struct kv_slice key = kv_str("k");
    m.fails = KV_IO;
    ck_assert_int_eq(mem_run(&m, KV_OP_GET, &key, 1), KV_IO);
    ck_assert_int_eq(mem_run(&m, KV_OP_GETDEL, &key, 1), KV_IO);
    ck_assert_int_eq(m.exec.op_count, 0);
    m.fails = KV_OK;
    struct kv_key encoded;
    ck_assert_int_eq(kv_key_hash(KV_KEYSPACE_DEFAULT, key, &encoded), KV_OK);
    mem_find(&m, kv_key_slice(&encoded))->value[VALUE_HEADER_BYTES] ^= 1; /* a flipped bit (R21) */
    ck_assert_int_eq(mem_run(&m, KV_OP_GET, &key, 1), KV_CORRUPT);
    ck_assert_int_eq(mem_run(&m, KV_OP_INCR, &key, 1), KV_CORRUPT);
    ck_assert_int_eq(m.exec.op_count, 0);
    mem_free(&m);
}
END_TEST

/* The same entries give the same bytes on every replica, whatever lies in memory. */
START_TEST(replicas_agree)
{
    static const char *const names[] = {"SET",    "APPEND", "INCRBY",      "SETRANGE", "EXPIRE",
                                        "GETDEL", "SETBIT", "INCRBYFLOAT", "RENAME",   "BITOP",
                                        "KVCAS",  "KVINCR", "GETEX",       "COPY"};
    static const char *const words[] = {"a",   "b",  "c",   "1",       "7",  "100",
                                        "3.5", "OR", "OLD", "VERSION", "EX", "NX"};
    struct mem replicas[2];
    uint64_t random = 42;
    mem_init(&replicas[0]);
    mem_init(&replicas[1]);
    uint8_t *noise = kv_buf_reserve(&replicas[1].new_rows, 65536);
    memset(noise, 0xA5, 65536);
    for (int i = 0; i < 20000; i++) {
        struct kv_slice args[6];
        enum kv_op op =
            kv_op_find(kv_str(names[kv_random_next(&random) % (sizeof names / sizeof names[0])]));
        uint32_t n = (uint32_t)(kv_random_next(&random) % 4) + 1;
        for (uint32_t j = 0; j < n; j++)
            args[j] = kv_str(words[kv_random_next(&random) % (sizeof words / sizeof words[0])]);
        for (int r = 0; r < 2; r++) {
            replicas[r].exec.clock_ms = 1000000 + (uint64_t)i * 500;
            mem_run(&replicas[r], op, args, n);
        }
        ck_assert(kv_slice_eq(kv_buf_slice(&replicas[0].reply), kv_buf_slice(&replicas[1].reply)));
        ck_assert(
            kv_slice_eq(kv_buf_slice(&replicas[0].new_rows), kv_buf_slice(&replicas[1].new_rows)));
        ck_assert_int_eq(replicas[0].exec.op_count, replicas[1].exec.op_count);
    }
    mem_free(&replicas[0]);
    mem_free(&replicas[1]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("exec_kv");
    TCase *t = tcase_create("all");
    tcase_add_test(t, put_get_delete);
    tcase_add_test(t, compare_and_set);
    tcase_add_test(t, increment);
    tcase_add_test(t, bad_arguments_never_reach_the_log);
    tcase_add_test(t, limits_are_named);
    tcase_add_test(t, refused_commands_change_nothing);
    tcase_add_test(t, state_failures_are_returned);
    tcase_add_test(t, replicas_agree);
    suite_add_tcase(s, t);
    return unit_finish(s);
}

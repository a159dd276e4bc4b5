#include "tests/unit/server/exec_mem.h"
#include "tests/unit/unit.h"

/* Counters, deadlines and bits. */
struct line {
    const char *command, *reply;
};

static void tell(const struct line *lines)
{
    struct mem m;
    mem_init(&m);
    for (; lines->command != NULL; lines++) {
        const char *reply = mem_line(&m, lines->command);
        ck_assert_msg(strcmp(reply, lines->reply) == 0, "%s\n  want %s  got  %s", lines->command,
                      lines->reply, reply);
    }
    mem_free(&m);
}
#define STORY(...) tell((const struct line[]){__VA_ARGS__, {NULL, NULL}})

START_TEST(integers)
{
    static const char not_integer[] = "-ERR value is not an integer or out of range\r\n";
    static const char overflow[] = "-ERR increment or decrement would overflow\r\n";
    STORY({"INCR n", ":1\r\n"}, {"DECR n", ":0\r\n"}, {"INCRBY n 41", ":41\r\n"},
          {"DECRBY n -1", ":42\r\n"}, {"INCRBY n 1.5", not_integer}, {"INCRBY n +1", not_integer},
          {"INCRBY n 01", not_integer}, {"SET n 9223372036854775807", "+OK\r\n"},
          {"INCR n", overflow}, {"DECRBY n -1", overflow},
          {"DECRBY n -9223372036854775808", "-ERR decrement would overflow\r\n"},
          {"SET n 1x", "+OK\r\n"}, {"INCR n", not_integer}, {"GET n", "$2\r\n1x\r\n"},
          {"SET n 5 EX 10", "+OK\r\n"}, {"INCR n", ":6\r\n"}, {"PTTL n", ":10000\r\n"});
}
END_TEST

START_TEST(floats)
{
    static const char not_float[] = "-ERR value is not a valid float\r\n";
    STORY(
        {"INCRBYFLOAT f 10.5", "$4\r\n10.5\r\n"}, {"INCRBYFLOAT f 0.1", "$4\r\n10.6\r\n"},
        {"INCRBYFLOAT f -5", "$3\r\n5.6\r\n"}, {"SET f 5.0e3", "+OK\r\n"},
        {"INCRBYFLOAT f 2.0e2", "$4\r\n5200\r\n"}, {"INCRBYFLOAT f abc", not_float},
        {"INCRBYFLOAT f nan", not_float}, {"INCRBYFLOAT f ''", not_float},
        {"INCRBYFLOAT f inf", "-ERR increment would produce NaN or Infinity\r\n"},
        {"INCRBYFLOAT f 1e5000", not_float}, {"SET f 0", "+OK\r\n"},
        {"INCRBYFLOAT f -0.0", "$1\r\n0\r\n"},
        /* more digits than a double has: the x87 format is what Redis on x86-64 computes in (R7) */
        {"SET f 0.12345678901234567", "+OK\r\n"},
        {"INCRBYFLOAT f 0", "$19\r\n0.12345678901234567\r\n"}, {"SET f 1e300", "+OK\r\n"},
        {"INCRBYFLOAT f -1e300", "$1\r\n0\r\n"});
}
END_TEST

START_TEST(expire)
{
    static const char range[] = "-ERR invalid expire time in 'expire' command\r\n";
    STORY({"EXPIRE k 10", ":0\r\n"}, {"SET k v", "+OK\r\n"}, {"TTL k", ":-1\r\n"},
          {"TTL none", ":-2\r\n"}, {"EXPIRE k 10 XX", ":0\r\n"}, {"EXPIRE k 10 GT", ":0\r\n"},
          {"EXPIRE k 10 LT", ":1\r\n"}, {"EXPIRE k 10 NX", ":0\r\n"}, {"EXPIRE k 5 GT", ":0\r\n"},
          {"EXPIRE k 20 GT", ":1\r\n"}, {"TTL k", ":20\r\n"}, {"PEXPIRETIME k", ":1020000\r\n"},
          {"EXPIRETIME k", ":1020\r\n"},
          {"EXPIRE k 1 NX XX",
           "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n"},
          {"EXPIRE k 1 GT LT", "-ERR GT and LT options at the same time are not compatible\r\n"},
          {"EXPIRE k 1 FOO", "-ERR Unsupported option FOO\r\n"},
          {"EXPIRE k 9223372036854775807", range}, {"PERSIST k", ":1\r\n"}, {"PERSIST k", ":0\r\n"},
          {"PEXPIREAT k 1000000", ":1\r\n"}, {"EXISTS k", ":0\r\n"}, {"SET k v", "+OK\r\n"},
          {"EXPIRE k -9223372036854775", ":1\r\n"}, {"EXISTS k", ":0\r\n"});
}
END_TEST

/* A read between the group clock and the wall clock must have the clock moved first (R14). */
START_TEST(reads_ask_for_the_clock)
{
    struct mem m;
    mem_init(&m);
    ck_assert_str_eq(mem_line(&m, "SET k v PX 100"), "+OK\r\n");
    struct kv_slice key = kv_str("k");
    struct exec *x = &m.exec;
    static const struct {
        uint64_t clock_ms, wall_ms;
        bool needs_clock, is_there;
    } cases[] = {{1000000, 0, false, true},        {1000000, 1000099, false, true},
                 {1000000, 1000100, true, true},   {1000099, 2000000, true, true},
                 {1000100, 1000100, false, false}, {1000100, 0, false, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kv_buf_clear(&m.reply);
        x->clock_ms = cases[i].clock_ms;
        x->wall_ms = cases[i].wall_ms;
        ck_assert_int_eq(exec_run(x, KV_OP_GET, &key, 1), KV_OK);
        ck_assert_int_eq(x->needs_clock, cases[i].needs_clock);
        ck_assert_int_eq(kv_buf_slice(&m.reply).data[0], cases[i].is_there ? '$' : '_');
    }
    /* The time left is told by the wall clock, never negative. */
    x->clock_ms = 1000000;
    x->wall_ms = 1000060;
    kv_buf_clear(&m.reply);
    exec_run(x, KV_OP_PTTL, &key, 1);
    ck_assert(kv_slice_eq(kv_buf_slice(&m.reply), kv_str(":40\r\n")));
    mem_free(&m);
}
END_TEST

START_TEST(bits)
{
    static const char range[] = "-ERR bit offset is not an integer or out of range\r\n";
    STORY({"SETBIT b 7 1", ":0\r\n"}, {"SETBIT b 7 0", ":1\r\n"}, {"GETBIT b 7", ":0\r\n"},
          {"GETBIT b 1000", ":0\r\n"},
          {"SETBIT b 0 2", "-ERR bit is not an integer or out of range\r\n"},
          {"SETBIT b -1 1", range}, {"SETBIT b 8388608 1", range}, {"STRLEN b", ":1\r\n"},
          {"SET b foobar", "+OK\r\n"}, {"BITCOUNT b", ":26\r\n"}, {"BITCOUNT b 1 1", ":6\r\n"},
          {"BITCOUNT b 5 30 BIT", ":17\r\n"}, {"BITCOUNT none 0", ":0\r\n"},
          {"BITCOUNT b 0", "-ERR syntax error\r\n"}, {"BITPOS b 1", ":1\r\n"},
          {"BITPOS b 0 1", ":8\r\n"}, {"BITPOS none 0", ":0\r\n"}, {"BITPOS none 1", ":-1\r\n"},
          {"BITPOS b 2", "-ERR The bit argument must be 1 or 0.\r\n"}, {"SET c abcdef", "+OK\r\n"},
          {"BITOP AND d b c", ":6\r\n"}, {"GET d", "$6\r\n`bc`ab\r\n"},
          {"BITOP NOT d b c", "-ERR BITOP NOT must be called with a single source key.\r\n"},
          {"BITOP OR d none", ":0\r\n"}, {"EXISTS d", ":0\r\n"});
}
END_TEST

START_TEST(bitfields)
{
    STORY({"BITFIELD f SET u8 0 255 GET u8 0 INCRBY u8 0 10", "*3\r\n:0\r\n:255\r\n:9\r\n"},
          {"BITFIELD f OVERFLOW SAT INCRBY u8 0 250 OVERFLOW FAIL INCRBY u8 0 1",
           "*2\r\n:255\r\n_\r\n"},
          {"BITFIELD f SET i8 #1 -1 GET i4 10", "*2\r\n:0\r\n:-1\r\n"},
          {"BITFIELD f SET i64 64 9223372036854775807 INCRBY i64 64 1",
           "*2\r\n:0\r\n:-9223372036854775808\r\n"},
          {"BITFIELD f GET u64 0",
           "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not "
           "supported but i64 is.\r\n"},
          {"BITFIELD_RO f SET u8 0 1", "-ERR BITFIELD_RO only supports the GET subcommand\r\n"},
          {"BITFIELD_RO none GET u8 0", "*1\r\n:0\r\n"}, {"EXISTS none", ":0\r\n"},
          {"BITFIELD f SET u8 0 1 FOO", "-ERR syntax error\r\n"},
          {"BITFIELD_RO f GET u8 0", "*1\r\n:255\r\n"});
}
END_TEST

int main(void)
{
    Suite *s = suite_create("exec_number");
    TCase *t = tcase_create("stories");
    tcase_add_test(t, integers);
    tcase_add_test(t, floats);
    tcase_add_test(t, expire);
    tcase_add_test(t, reads_ask_for_the_clock);
    tcase_add_test(t, bits);
    tcase_add_test(t, bitfields);
    suite_add_tcase(s, t);
    return unit_finish(s);
}

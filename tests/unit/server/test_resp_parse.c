#include "client/base/hash.h"
#include "tests/unit/server/gate_fake.h"
#include "tests/unit/unit.h"

/* The parser through the gate: cut anywhere, over every limit, hostile. */
static uint64_t wall(struct env *e)
{
    (void)e;
    return 0;
}
static const struct env_ops env_ops = {.now_ns = fake_now, .wall_ns = wall};

static struct fake f;
static void setup(void)
{
    f = (struct fake){.answers_at_once = true};
    fake_open(&f, &env_ops);
}
static void teardown(void)
{
    fake_close(&f);
}

static void again(void)
{
    teardown();
    setup();
}

static const char pipeline[] =
    "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\na\r\nb\n\r\n*0\r\n*-1\r\nGET  k \r\n\r\n"
    "*2\r\n$4\r\nECHO\r\n$0\r\n\r\nECHO \"x\\x41 \" \r\nPING\n*1\r\n$6\r\nNOSUCH\r\n";
static const char answers[] =
    "$11\r\nSET k a\r\nb\n\r\n$5\r\nGET k\r\n$0\r\n\r\n$3\r\nxA \r\n+PONG\r\n"
    "-ERR unknown command 'NOSUCH', with args beginning with: \r\n";

START_TEST(cut_anywhere)
{
    size_t size = sizeof pipeline - 1;
    for (size_t first = 0; first <= size; first++) {
        again();
        fake_feed(&f, pipeline, first);
        fake_feed(&f, pipeline + first, size - first);
        ck_assert_str_eq(fake_heard(&f), answers);
    }
    again();
    for (size_t i = 0; i < size; i++)
        fake_feed(&f, pipeline + i, 1);
    ck_assert_str_eq(fake_heard(&f), answers);
}
END_TEST

START_TEST(inline_quotes)
{
    static const struct {
        const char *line, *reply;
    } cases[] = {
        {"ECHO \"a b\"\r\n", "$3\r\na b\r\n"},
        {"ECHO 'a b'\n", "$3\r\na b\r\n"},
        {"ECHO \"\\x41\\t\\\"\"\r\n", "$3\r\nA\t\"\r\n"},
        {"ECHO 'it\\'s'\r\n", "$4\r\nit's\r\n"},
        {"ECHO \"\"\r\n", "$0\r\n\r\n"},
        {"ECHO a\"b c\"\r\n", "$4\r\nab c\r\n"},
        {"  ECHO   x  \r\n", "$1\r\nx\r\n"},
        {"ECHO '\\x41'\r\n", "$4\r\n\\x41\r\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        again();
        fake_say(&f, cases[i].line);
        ck_assert_str_eq(fake_heard(&f), cases[i].reply);
    }
}
END_TEST

START_TEST(protocol_errors_close)
{
    static const struct {
        const char *text, *reply;
    } cases[] = {
        {"*1\r\n:1\r\n", "expected '$', got ':'"},
        {"*abc\r\n", "invalid multibulk length"},
        {"*1048577\r\n", "invalid multibulk length"},
        {"*99999999999999999999\r\n", "invalid multibulk length"},
        {"*1\r\n$-1\r\n", "invalid bulk length"},
        {"*1\r\n$abc\r\n", "invalid bulk length"},
        {"*1\r\n$4294967296\r\n", "invalid bulk length"},
        {"*1\r\n$9223372036854775808\r\n", "invalid bulk length"},
        {"*1\r\n$4\r\nPINGxx", "expected a line end behind a bulk"},
        {"GET \"k\r\n", "unbalanced quotes in request"},
        {"GET \"k\"x\r\n", "unbalanced quotes in request"},
        {"*1\r\n*1\r\n$4\r\nPING\r\n", "expected '$', got '*'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char want[96];
        again();
        fake_say(&f, "PING\r\n");
        ck_assert_int_eq(fake_say(&f, cases[i].text), KV_MALFORMED);
        snprintf(want, sizeof want, "+PONG\r\n-ERR Protocol error: %s\r\n", cases[i].reply);
        ck_assert_str_eq(fake_heard(&f), want);
        ck_assert_uint_eq(f.in.size, 0);
    }
}
END_TEST

START_TEST(a_protocol_error_waits_its_turn)
{
    f.answers_at_once = false;
    ck_assert_int_eq(fake_say(&f, "GET k\r\n*1\r\n$-1\r\n"), KV_MALFORMED);
    ck_assert_str_eq(fake_heard(&f), "");
    fake_answer(&f, 0);
    ck_assert_str_eq(fake_heard(&f), "$5\r\nGET k\r\n-ERR Protocol error: invalid bulk length\r\n");
}
END_TEST

START_TEST(endless_lines_close)
{
    static char text[70000];
    memset(text, 'x', sizeof text);
    ck_assert_int_eq(fake_feed(&f, text, 60000), KV_OK);
    ck_assert_int_eq(fake_feed(&f, text, 6000), KV_MALFORMED);
    ck_assert_str_eq(fake_heard(&f), "-ERR Protocol error: too big inline request\r\n");
    again();
    memset(text, '1', sizeof text);
    text[0] = '*';
    ck_assert_int_eq(fake_feed(&f, text, 500), KV_MALFORMED);
    ck_assert_str_eq(fake_heard(&f), "-ERR Protocol error: too big mbulk count string\r\n");
}
END_TEST

/* An argument over the limit passes through without being kept; the connection lives. */
START_TEST(a_large_argument_is_skipped)
{
    enum { CHUNK = 10000 };
    static const size_t sizes[] = {(1 << 20) + 1025, 5 << 20, 100 << 20};
    static char chunk[CHUNK];
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        again();
        char head[64];
        snprintf(head, sizeof head, "PING\r\n*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$%zu\r\n", sizes[i]);
        fake_say(&f, head);
        for (size_t sent = 0; sent < sizes[i]; sent += CHUNK) {
            size_t size = sizes[i] - sent < CHUNK ? sizes[i] - sent : CHUNK;
            ck_assert_int_eq(fake_feed(&f, chunk, size), KV_OK);
            ck_assert_uint_eq(f.in.size, 0);
        }
        static const char tail[] = "\r\n$2\r\nNX\r\nPING\r\n";
        for (size_t j = 0; j < sizeof tail - 1; j++)
            fake_feed(&f, tail + j, 1);
        ck_assert_str_eq(fake_heard(&f), "+PONG\r\n-ERR argument exceeds the maximum of 1048576 "
                                         "bytes (limit.value) (applied: no)\r\n"
                                         "+PONG\r\n");
        ck_assert_int_eq(f.count, 0);
        ck_assert(!f.gate.closing);
    }
}
END_TEST

START_TEST(a_large_command_is_skipped)
{
    static char value[1 << 20];
    fake_say(&f, "*33\r\n$4\r\nMSET\r\n");
    for (int i = 0; i < 16; i++) {
        fake_say(&f, "$1\r\nk\r\n$1048576\r\n");
        fake_feed(&f, value, sizeof value);
        fake_say(&f, "\r\n");
    }
    ck_assert_str_eq(
        fake_heard(&f),
        "-ERR command exceeds the maximum of 15728640 bytes (fixed) (applied: no)\r\n");
    fake_say(&f, "PING\r\n");
    ck_assert_str_eq(fake_heard(&f), "+PONG\r\n");
    ck_assert_int_eq(f.count, 0);
}
END_TEST

START_TEST(a_value_of_just_the_limit_passes)
{
    static char value[1 << 20];
    memset(value, 'v', sizeof value);
    fake_say(&f, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048576\r\n");
    fake_feed(&f, value, sizeof value);
    fake_say(&f, "\r\n");
    ck_assert_int_eq(f.count, 1);
}
END_TEST

START_TEST(browsers_are_hung_up_on)
{
    static const char *const texts[] = {
        "POST / HTTP/1.1\r\nHost: x\r\n\r\nSET k v\r\n", "Host: 127.0.0.1:7400\r\nSET k v\r\n",
        "post / HTTP/1.1\r\nSET k v\r\n", "*2\r\n$4\r\nPOST\r\n$1\r\n/\r\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        again();
        ck_assert_int_eq(fake_say(&f, texts[i]), KV_MALFORMED);
        ck_assert_str_eq(fake_heard(&f), "");
        ck_assert_int_eq(f.count, 0);
    }
}
END_TEST

/* Random bytes and mutated commands: no crash, no endless loop, no reply without a command. */
START_TEST(noise)
{
    uint64_t random = 99;
    for (int round = 0; round < 4000; round++) {
        char text[160];
        size_t size = sizeof pipeline - 1;
        memcpy(text, pipeline, size);
        for (uint64_t i = kv_random_next(&random) % 6; i > 0; i--)
            text[kv_random_next(&random) % size] =
                (char)(kv_random_next(&random) % 3 == 0
                           ? "*$\r\n0123456789-"[kv_random_next(&random) % 15]
                           : (int)(kv_random_next(&random) & 0xFF));
        again();
        f.answers_at_once = round % 2 == 0;
        for (size_t at = 0; at < size && !f.gate.closing;) {
            size_t step = 1 + kv_random_next(&random) % 40;
            if (step > size - at) step = size - at;
            fake_feed(&f, text + at, step);
            at += step;
        }
        for (uint32_t i = 0; i < f.count; i++)
            if (!f.requests[i].is_answered) fake_answer(&f, i);
        struct kv_slice heard = kv_buf_slice(&f.out);
        struct resp_value v;
        while (heard.size > 0)
            ck_assert_int_eq(resp_next(&heard, 1 << 20, &v), KV_OK);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("resp_parse");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, cut_anywhere);
    tcase_add_test(t, inline_quotes);
    tcase_add_test(t, protocol_errors_close);
    tcase_add_test(t, a_protocol_error_waits_its_turn);
    tcase_add_test(t, endless_lines_close);
    tcase_add_test(t, a_large_argument_is_skipped);
    tcase_add_test(t, a_large_command_is_skipped);
    tcase_add_test(t, a_value_of_just_the_limit_passes);
    tcase_add_test(t, browsers_are_hung_up_on);
    tcase_add_test(t, noise);
    suite_add_tcase(s, t);
    return unit_finish(s);
}

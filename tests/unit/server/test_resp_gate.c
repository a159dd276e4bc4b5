#include "tests/unit/server/gate_fake.h"
#include "tests/unit/unit.h"

static uint64_t wall(struct env *e)
{
    (void)e;
    return UINT64_C(1795478400123456000);
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

#define HEARD(text) ck_assert_str_eq(fake_heard(&f), text)

/* ---- order ---- */

START_TEST(answers_at_once)
{
    ck_assert_int_eq(fake_say(&f, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\nGET j\r\n"),
                     KV_OK);
    HEARD("$5\r\nGET k\r\n+PONG\r\n$5\r\nGET j\r\n");
    ck_assert_int_eq(f.gate.pending, 0);
}
END_TEST

START_TEST(replies_keep_the_order)
{
    f.answers_at_once = false;
    fake_say(&f, "GET a\r\nGET b\r\nPING\r\nGET c\r\nECHO x\r\n");
    ck_assert_int_eq(f.count, 3);
    HEARD("");
    fake_answer(&f, 2);
    fake_answer(&f, 1);
    HEARD("");
    fake_answer(&f, 0);
    HEARD("$5\r\nGET a\r\n$5\r\nGET b\r\n+PONG\r\n$5\r\nGET c\r\n$1\r\nx\r\n");
    fake_say(&f, "GET d\r\n");
    fake_answer(&f, 3);
    HEARD("$5\r\nGET d\r\n");
}
END_TEST

START_TEST(any_order_of_replies)
{
    uint64_t random = 7;
    f.answers_at_once = false;
    for (int round = 0; round < 50; round++) {
        uint32_t order[40], n = 1 + (uint32_t)(kv_random_next(&random) % 40);
        struct kv_buf want;
        kv_buf_init(&want, 0);
        f.count = 0;
        for (uint32_t i = 0; i < n; i++) {
            char line[32];
            snprintf(line, sizeof line, "GET k%u\r\n", i);
            fake_say(&f, line);
            kv_buf_printf(&want, "$%zu\r\nGET k%u\r\n", strlen(line) - 2, i);
            order[i] = i;
        }
        for (uint32_t i = n; i > 1; i--) {
            uint32_t j = (uint32_t)(kv_random_next(&random) % i), swap = order[i - 1];
            order[i - 1] = order[j];
            order[j] = swap;
        }
        for (uint32_t i = 0; i < n; i++)
            fake_answer(&f, order[i]);
        ck_assert(kv_slice_eq(kv_buf_slice(&f.out), kv_buf_slice(&want)));
        kv_buf_clear(&f.out);
        kv_buf_free(&want);
    }
}
END_TEST

START_TEST(a_read_does_not_overtake_a_write)
{
    f.answers_at_once = false;
    ck_assert_int_eq(fake_say(&f, "SET k 1\r\nSET k 2\r\nGET other\r\nGET k\r\nGET z\r\n"),
                     KV_BUSY);
    ck_assert_int_eq(f.count, 3); /* writes follow writes, other slots go on, GET k waits */
    fake_answer(&f, 0);
    ck_assert_int_eq(fake_say(&f, ""), KV_BUSY);
    ck_assert_int_eq(f.count, 3);
    fake_answer(&f, 1);
    ck_assert_int_eq(fake_say(&f, ""), KV_OK);
    ck_assert_int_eq(f.count, 5);
    ck_assert_str_eq(f.requests[3].text, "GET k");
    for (uint32_t i = 2; i < 5; i++)
        fake_answer(&f, i);
    HEARD("$7\r\nSET k 1\r\n$7\r\nSET k 2\r\n$9\r\nGET other\r\n$5\r\nGET k\r\n$5\r\nGET z\r\n");
}
END_TEST

START_TEST(a_write_does_not_overtake_a_read)
{
    f.answers_at_once = false;
    ck_assert_int_eq(fake_say(&f, "GET k\r\nSET k 2\r\n"), KV_BUSY);
    ck_assert_int_eq(f.count, 1);
    fake_answer(&f, 0);
    ck_assert_int_eq(fake_say(&f, ""), KV_OK);
    ck_assert_int_eq(f.count, 2);
}
END_TEST

START_TEST(wide_commands_wait_for_all)
{
    static const char *const reads[] = {"DBSIZE\r\n", "MGET a b\r\n", "KEYS *\r\n", "SCAN 0\r\n"};
    f.answers_at_once = false;
    for (size_t i = 0; i < sizeof reads / sizeof reads[0]; i++) {
        f.count = 0;
        fake_say(&f, "SET k 1\r\n");
        ck_assert_int_eq(fake_say(&f, reads[i]), KV_BUSY);
        fake_answer(&f, 0);
        ck_assert_int_eq(fake_say(&f, ""), KV_OK);
        fake_answer(&f, 1);
        fake_heard(&f);
    }
    f.count = 0;
    fake_say(&f, "FLUSHALL\r\n");
    ck_assert_int_eq(fake_say(&f, "GET anything\r\n"), KV_BUSY);
    fake_answer(&f, 0);
    ck_assert_int_eq(fake_say(&f, ""), KV_OK);
}
END_TEST

START_TEST(a_full_node_stops_the_reading)
{
    f.is_full = true;
    ck_assert_int_eq(fake_say(&f, "SET k 1\r\n"), KV_BUSY);
    ck_assert_uint_eq(f.in.size, 9);
    f.is_full = false;
    ck_assert_int_eq(fake_say(&f, ""), KV_OK);
    HEARD("$7\r\nSET k 1\r\n");
}
END_TEST

START_TEST(full_output_stops_the_reading)
{
    f.services.output_bytes_max = 400;
    char line[128] = "ECHO ";
    memset(line + 5, 'x', 50);
    strcpy(line + 55, "\r\nPING\r\nPING\r\nPING\r\n");
    fake_say(&f, line);
    HEARD(
        "$50\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n+PONG\r\n+PONG\r\n+PONG\r\n");
    for (int i = 0; i < 2; i++) {
        kv_buf_append_text(&f.out, line);
        ck_assert_int_eq(fake_say(&f, "PING\r\n"), i == 0 ? KV_OK : KV_BUSY);
    }
    kv_buf_clear(&f.out); /* sent */
    ck_assert_int_eq(fake_say(&f, ""), KV_OK);
    HEARD("+PONG\r\n");
}
END_TEST

/* ---- protocols ---- */

START_TEST(resp2_lacks_types)
{
    static const struct {
        const char *resp3, *resp2;
    } cases[] = {{"_\r\n", "$-1\r\n"},
                 {"%1\r\n$1\r\na\r\n_\r\n", "*2\r\n$1\r\na\r\n$-1\r\n"},
                 {"*2\r\n_\r\n:1\r\n", "*2\r\n$-1\r\n:1\r\n"},
                 {"#t\r\n", ":1\r\n"},
                 {",1.5\r\n", "$3\r\n1.5\r\n"},
                 {"=6\r\ntxt:hi\r\n", "$2\r\nhi\r\n"},
                 {"-ERR no\r\n", "-ERR no\r\n"}};
    f.answers_at_once = false;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        f.count = 0;
        fake_say(&f, "GET k\r\n");
        fake_answer_value(&f, 0, cases[i].resp3);
        HEARD(cases[i].resp2);
    }
    fake_say(&f, "HELLO 3\r\n");
    ck_assert_mem_eq(fake_heard(&f), "%7\r\n$6\r\nserver\r\n", 16);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        f.count = 0;
        fake_say(&f, "GET k\r\n");
        fake_answer_value(&f, 0, cases[i].resp3);
        HEARD(cases[i].resp3);
    }
}
END_TEST

START_TEST(a_reply_has_the_protocol_of_its_command)
{
    f.answers_at_once = false;
    fake_say(&f, "GET k\r\nHELLO 3\r\nGET k\r\nHELLO 2\r\nGET k\r\n");
    for (uint32_t i = 3; i-- > 0;)
        fake_answer_value(&f, i, "_\r\n");
    const char *heard = fake_heard(&f);
    ck_assert_mem_eq(heard, "$-1\r\n%7\r\n", 9);
    ck_assert_ptr_nonnull(strstr(heard, "*0\r\n_\r\n*14\r\n"));
    ck_assert_str_eq(heard + strlen(heard) - 9, "*0\r\n$-1\r\n");
}
END_TEST

START_TEST(client_reply_modes)
{
    fake_say(&f, "CLIENT REPLY OFF\r\nPING\r\nGET k\r\nNOSUCH\r\nCLIENT REPLY ON\r\nPING\r\n");
    HEARD("+OK\r\n+PONG\r\n");
    fake_say(&f, "CLIENT REPLY SKIP\r\nECHO 1\r\nECHO 2\r\n");
    HEARD("$1\r\n2\r\n");
    f.answers_at_once = false;
    f.count = 0;
    fake_say(&f, "GET a\r\nCLIENT REPLY SKIP\r\nGET b\r\nGET c\r\n");
    for (uint32_t i = 3; i-- > 0;)
        fake_answer(&f, i);
    HEARD("$5\r\nGET a\r\n$5\r\nGET c\r\n");
    f.count = 0; /* what is not taken yet is still the one to skip */
    f.is_full = true;
    ck_assert_int_eq(fake_say(&f, "CLIENT REPLY SKIP\r\nGET d\r\n"), KV_BUSY);
    f.is_full = false;
    ck_assert_int_eq(fake_say(&f, "PING\r\n"), KV_OK);
    fake_answer(&f, 0);
    HEARD("+PONG\r\n");
}
END_TEST

/* ---- errors ---- */

START_TEST(errors_of_the_cluster)
{
    static const struct {
        const char *command;
        struct kv_reply reply;
        const char *begins, *ends;
    } cases[] = {
        {"SET k v\r\n", {.err = KV_NO_LEADER}, "-NOLEADER ", " (applied: no)\r\n"},
        {"SET k v\r\n", {.err = KV_NOT_LEADER}, "-NOLEADER ", " (applied: no)\r\n"},
        {"SET k v\r\n",
         {.err = KV_TIMEOUT, .phase = KV_PHASE_WAIT_LEADER},
         "-NOLEADER ",
         " (applied: no)\r\n"},
        {"SET k v\r\n",
         {.err = KV_TIMEOUT, .applied = KV_APPLIED_MAYBE},
         "-UNCERTAIN ",
         " (applied: maybe)\r\n"},
        {"GET k\r\n", {.err = KV_TIMEOUT, .phase = KV_PHASE_READ}, "-NOQUORUM ", "\r\n"},
        {"SET k v\r\n", {.err = KV_UNAVAILABLE}, "-NOQUORUM ", " (applied: no)\r\n"},
        {"SET k v\r\n",
         {.err = KV_UNAVAILABLE, .detail = {(const uint8_t *)"no contact to any peer", 22}},
         "-CLUSTERDOWN ",
         " (applied: no)\r\n"},
        {"GET k\r\n",
         {.err = KV_NO_LEADER, .detail = {(const uint8_t *)"no contact with any other node", 30}},
         "-CLUSTERDOWN ",
         ": no contact with any other node\r\n"},
        {"SET k v\r\n", {.err = KV_WRONG_SHARD}, "-TRYAGAIN ", " (applied: no)\r\n"},
        {"SET k v\r\n", {.err = KV_LOADING}, "-LOADING ", " (applied: no)\r\n"},
        {"SET k v\r\n", {.err = KV_NO_SPACE}, "-READONLY ", " (applied: no)\r\n"},
        {"SET k v\r\n", {.err = KV_POISONED}, "-READONLY ", " (applied: no)\r\n"},
        {"SET k v\r\n",
         {.err = KV_BUSY, .retry_after_ms = 20},
         "-BUSY ",
         " retry after 20 ms (applied: no)\r\n"},
        {"MSET k v j w\r\n",
         {.err = KV_CROSS_SHARD},
         "-CROSSSLOT ",
         "{user1}:mail (applied: no)\r\n"},
        {"SET k v\r\n",
         {.err = KV_CLOSED, .applied = KV_APPLIED_MAYBE},
         "-UNCERTAIN ",
         " (applied: maybe)\r\n"},
        {"GET k\r\n",
         {.err = KV_BUSY, .detail = {(const uint8_t *)"a\r\nb", 4}},
         "-BUSY ",
         ": a  b\r\n"},
    };
    f.answers_at_once = false;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        f.count = 0;
        fake_say(&f, cases[i].command);
        fake_fail(&f, 0, cases[i].reply);
        const char *heard = fake_heard(&f);
        size_t size = strlen(heard), tail = strlen(cases[i].ends);
        ck_assert_msg(strncmp(heard, cases[i].begins, strlen(cases[i].begins)) == 0 &&
                          size > tail && strcmp(heard + size - tail, cases[i].ends) == 0,
                      "%zu: %s", i, heard);
        ck_assert_ptr_eq(strchr(heard, '\n'), heard + size - 1); /* one line */
    }
}
END_TEST

START_TEST(errors_of_the_caller)
{
    fake_say(&f, "GET\r\nget a b\r\nNOSUCH a\r\nKVGET k\r\nMULTI\r\nSELECT 1\r\nCONFIG FOO\r\n");
    HEARD("-ERR wrong number of arguments for 'get' command\r\n"
          "-ERR wrong number of arguments for 'get' command\r\n"
          "-ERR unknown command 'NOSUCH', with args beginning with: 'a' \r\n"
          "-ERR unknown command 'KVGET', with args beginning with: 'k' \r\n"
          "-ERR unknown command 'MULTI', with args beginning with: \r\n"
          "-ERR DB index is out of range\r\n"
          "-ERR unknown subcommand 'FOO'. Try CONFIG HELP.\r\n");
    ck_assert_int_eq(f.count, 0);
    ck_assert(!f.gate.closing);
}
END_TEST

/* ---- authentication ---- */

START_TEST(strangers_are_kept_out)
{
    fake_close(&f);
    f = (struct fake){.answers_at_once = true, .needs_password = true};
    fake_open(&f, &env_ops);
    fake_say(&f, "GET k\r\nPING\r\nNOSUCH\r\n");
    ck_assert_mem_eq(fake_heard(&f), "-NOAUTH Authentication required.\r\n-NOAUTH", 40);
    fake_say(&f, "GET\r\nECHO\r\nFLUSHALL 1 2 3\r\n"); /* counted first, as in Redis */
    HEARD("-ERR wrong number of arguments for 'get' command\r\n-ERR wrong number of arguments for 'echo' command\r\n"
          "-NOAUTH Authentication required.\r\n");
    fake_say(&f, "HELLO 3\r\n");
    ck_assert_mem_eq(fake_heard(&f), "-NOAUTH HELLO must be called", 28);
    fake_say(&f, "AUTH wrong\r\n");
    HEARD("-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    fake_say(&f, "AUTH secret\r\nGET k\r\n");
    HEARD("+OK\r\n$5\r\nGET k\r\n");
    fake_say(&f, "RESET\r\nGET k\r\n");
    HEARD("+RESET\r\n-NOAUTH Authentication required.\r\n");
    fake_say(&f, "HELLO 3 AUTH default secret SETNAME me\r\nCLIENT GETNAME\r\n");
    const char *heard = fake_heard(&f);
    ck_assert_mem_eq(heard, "%7\r\n", 4);
    ck_assert_str_eq(heard + strlen(heard) - 8, "$2\r\nme\r\n");
}
END_TEST

START_TEST(nothing_is_taken_while_a_password_is_checked)
{
    fake_close(&f);
    f = (struct fake){.answers_at_once = true, .needs_password = true, .auth_waits = true};
    fake_open(&f, &env_ops);
    ck_assert_int_eq(fake_say(&f, "HELLO 3 AUTH default secret\r\nGET k\r\n"), KV_BUSY);
    ck_assert_str_eq(f.auth_text, "default/secret");
    ck_assert_int_eq(fake_say(&f, ""), KV_BUSY);
    HEARD("");
    f.auth_done(&f.gate, KV_OK, &(struct gate_user){"default", "", 0});
    ck_assert_int_eq(fake_say(&f, ""), KV_OK);
    const char *heard = fake_heard(&f);
    ck_assert_mem_eq(heard, "%7\r\n", 4); /* already in the protocol it asked for */
    ck_assert_ptr_nonnull(strstr(heard, "$5\r\nGET k\r\n"));
}
END_TEST

START_TEST(a_bound_user_has_its_keyspace_and_no_other)
{
    fake_close(&f);
    f = (struct fake){.answers_at_once = true, .needs_password = true};
    fake_open(&f, &env_ops);
    fake_say(&f, "AUTH lost lost-secret\r\nGET k\r\n"); /* the keyspace is not there: not let in at all */
    HEARD("-ERR no such keyspace: 'gone', which user 'lost' is bound to, is not known to this node; next: kvctl keyspace list, then AUTH again\r\n"
          "-NOAUTH Authentication required.\r\n");
    ck_assert(f.gate.is_stranger);
    fake_say(&f, "AUTH app secret\r\nAUTH app-secret\r\n");
    HEARD("-WRONGPASS invalid username-password pair or user is disabled.\r\n-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    fake_say(&f, "AUTH app app-secret\r\nGET k\r\nACL WHOAMI\r\n");
    HEARD("+OK\r\n$5\r\nGET k\r\n$3\r\napp\r\n");
    ck_assert_uint_eq(f.requests[f.count - 1].keyspace, 7);
    fake_say(&f, "CLIENT INFO\r\n");
    const char *heard = fake_heard(&f);
    ck_assert_msg(strstr(heard, " db=7 ") != NULL && strstr(heard, " user=app ") != NULL, "%s", heard);
    uint32_t asked = f.count;
    fake_say(&f, "SELECT 0\r\nSELECT default\r\nSELECT 1\r\nSELECT nope\r\nCLUSTER GETKEYSINSLOT 1 9\r\nCLUSTER COUNTKEYSINSLOT 1\r\n");
    const char refusal[] = "-NOPERM user 'app' is bound to keyspace 'users'\r\n";
    for (heard = fake_heard(&f); *heard != '\0'; heard += sizeof refusal - 1) ck_assert_msg(strncmp(heard, refusal, sizeof refusal - 1) == 0, "%s", heard);
    ck_assert_uint_eq(f.count, asked);
    fake_say(&f, "SELECT users\r\nSELECT 7\r\nGET k\r\n");
    HEARD("+OK\r\n+OK\r\n$5\r\nGET k\r\n");
    ck_assert_uint_eq(f.requests[f.count - 1].keyspace, 7);
    fake_say(&f, "AUTH default wrong\r\nGET k\r\n"); /* a failure changes nothing */
    ck_assert_ptr_nonnull(strstr(fake_heard(&f), "GET k"));
    ck_assert_uint_eq(f.requests[f.count - 1].keyspace, 7);
    fake_say(&f, "HELLO 3 AUTH default secret\r\nSELECT 0\r\nGET k\r\n");
    ck_assert_ptr_nonnull(strstr(fake_heard(&f), "+OK\r\n$5\r\nGET k\r\n"));
    ck_assert_uint_eq(f.requests[f.count - 1].keyspace, KV_KEYSPACE_DEFAULT);
    fake_say(&f, "AUTH app app-secret\r\nRESET\r\nGET k\r\nAUTH default secret\r\nGET k\r\nACL WHOAMI\r\n");
    HEARD("+OK\r\n+RESET\r\n-NOAUTH Authentication required.\r\n+OK\r\n$5\r\nGET k\r\n$7\r\ndefault\r\n");
    ck_assert_uint_eq(f.requests[f.count - 1].keyspace, KV_KEYSPACE_DEFAULT);
}
END_TEST

START_TEST(a_user_that_is_gone_is_not_welcome)
{
    fake_close(&f);
    f = (struct fake){.answers_at_once = true, .needs_password = true};
    fake_open(&f, &env_ops);
    f.users_are_gone = true;
    ck_assert(gate_resp_is_welcome(&f.gate)); /* it may try */
    fake_say(&f, "AUTH secret\r\n");
    ck_assert(gate_resp_is_welcome(&f.gate));
    f.users_are_gone = false;
    fake_say(&f, "AUTH app app-secret\r\n");
    HEARD("+OK\r\n+OK\r\n");
    ck_assert(gate_resp_is_welcome(&f.gate));
    f.users_are_gone = true;
    ck_assert(!gate_resp_is_welcome(&f.gate));
    fake_say(&f, "RESET\r\n");
    ck_assert(gate_resp_is_welcome(&f.gate));
}
END_TEST

START_TEST(strangers_cannot_make_us_remember)
{
    static const char *const texts[] = {
        "*11\r\n",
        "*2\r\n$4\r\nAUTH\r\n$16385\r\n",
        "*1\r\n$4294967296\r\n",
        "*1048577\r\n",
        "*2\r\n$4\r\nAUTH\r\n$536870912\r\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        fake_close(&f);
        f = (struct fake){.needs_password = true};
        fake_open(&f, &env_ops);
        ck_assert_int_eq(fake_say(&f, texts[i]), KV_MALFORMED);
        ck_assert_mem_eq(fake_heard(&f), "-ERR Protocol error: ", 21);
        ck_assert_uint_eq(f.in.size, 0);
    }
}
END_TEST

/* ---- connections ---- */

START_TEST(client_list_and_kill)
{
    struct fake other = {.now_ns = 0};
    fake_open(&other, &env_ops);
    other.gate.id = 8;
    other.gate.peer.port = 50001;
    f.others[f.other_count++] = &other.gate;
    f.now_ns = KV_SECONDS(5);
    fake_say(&f, "CLIENT SETNAME me\r\nCLIENT SETINFO LIB-NAME lib\r\n");
    HEARD("+OK\r\n+OK\r\n");
    fake_say(&f, "CLIENT LIST\r\n");
    const char *heard = fake_heard(&f);
    ck_assert_ptr_nonnull(
        strstr(heard, "id=7 addr=127.0.0.1:50000 laddr=127.0.0.1:7400 name=me age=5 idle=0 "));
    ck_assert_ptr_nonnull(strstr(heard, "lib-name=lib"));
    ck_assert_ptr_nonnull(strstr(heard, "\nid=8 addr=127.0.0.1:50001 "));
    fake_say(&f, "CLIENT LIST ID 8\r\n");
    heard = fake_heard(&f);
    ck_assert_ptr_null(strstr(heard, "id=7 "));
    ck_assert_ptr_nonnull(strstr(heard, "id=8 "));
    fake_say(&f, "CLIENT KILL ID 99\r\nCLIENT KILL 127.0.0.1:50001\r\n");
    HEARD(":0\r\n+OK\r\n");
    ck_assert(other.gate.closing);
    ck_assert(!f.gate.closing);
    fake_say(&f, "CLIENT KILL ID 7 SKIPME no\r\nPING\r\n");
    HEARD(":1\r\n");
    ck_assert(f.gate.closing);
    fake_close(&other);
}
END_TEST

START_TEST(quit_answers_and_closes)
{
    f.answers_at_once = false;
    fake_say(&f, "GET k\r\nQUIT\r\nGET ignored\r\n");
    ck_assert(f.gate.closing);
    ck_assert_int_eq(f.count, 1);
    fake_answer(&f, 0);
    HEARD("$5\r\nGET k\r\n+OK\r\n");
}
END_TEST

START_TEST(wait_waits_for_the_writes)
{
    f.answers_at_once = false;
    fake_say(&f, "WAIT 1 0\r\n"); /* nothing written: who is connected */
    HEARD(":2\r\n");
    ck_assert_int_eq(fake_say(&f, "SET k v\r\nWAIT 1 250\r\n"), KV_BUSY);
    fake_answer_at(&f, 0, 3, 70);
    ck_assert_int_eq(fake_say(&f, ""), KV_OK); /* now it asks who holds it */
    ck_assert_str_eq(f.requests[1].text, "KVAWAIT 1 250 3 70");
    fake_answer_value(&f, 1, ":1\r\n");
    HEARD("$7\r\nSET k v\r\n:1\r\n");
    fake_say(&f, "SET a 1\r\nSET b 2\r\nSET c 3\r\n");
    fake_answer_at(&f, 3, 3, 72); /* answers of one partition in another order */
    fake_answer_at(&f, 2, 3, 71);
    fake_answer_at(&f, 4, 5, 9);
    fake_say(&f, "WAIT 2 0\r\n");
    ck_assert_str_eq(f.requests[5].text, "KVAWAIT 2 60000 3 72 5 9");
    fake_answer_value(&f, 5, ":2\r\n");
    fake_say(&f, "DEL a b\r\n");
    fake_answer_at(&f, 6, 0, 0); /* of several partitions: all are asked */
    fake_say(&f, "WAIT 2 100\r\n");
    ck_assert_str_eq(f.requests[7].text, "KVAWAIT 2 100");
}
END_TEST

START_TEST(node_commands)
{
    fake_say(&f, "TIME\r\n");
    HEARD("*2\r\n$10\r\n1795478400\r\n$6\r\n123456\r\n");
    fake_say(&f, "INFO\r\n");
    HEARD("$11\r\n# default\r\n\r\n");
    fake_say(&f, "INFO Server CLIENTS\r\n");
    HEARD("$21\r\n# server\r\n# clients\r\n\r\n");
    fake_say(&f, "CONFIG GET log.* save\r\n");
    HEARD("*4\r\n$4\r\nsave\r\n$0\r\n\r\n$9\r\nlog.level\r\n$4\r\ninfo\r\n");
    fake_say(&f, "CONFIG SET log.level debug\r\nCONFIG SET resp.port 1\r\nCONFIG SET resp.port "
                 "7400\r\nCONFIG SET save x\r\n");
    HEARD("+OK\r\n-ERR CONFIG SET failed (possibly related to argument 'resp.port') - it is read "
          "at start\r\n+OK\r\n"
          "-ERR CONFIG SET failed (possibly related to argument 'save') - can't set immutable "
          "config\r\n");
    fake_say(&f, "COMMAND INFO get mset nosuch\r\n");
    HEARD("*3\r\n*10\r\n$3\r\nget\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n*0\r\n*0\r\n*0\r\n*"
          "0\r\n"
          "*10\r\n$4\r\nmset\r\n:-3\r\n*1\r\n+write\r\n:1\r\n:-1\r\n:2\r\n*0\r\n*0\r\n*0\r\n*0\r\n$"
          "-1\r\n");
    fake_say(&f, "COMMAND GETKEYS BITOP AND d a b\r\n");
    HEARD("*3\r\n$1\r\nd\r\n$1\r\na\r\n$1\r\nb\r\n");
    fake_say(&f, "COMMAND COUNT\r\nCOMMAND\r\n");
    int64_t count = 0, rows = 0;
    struct kv_slice heard = kv_str(fake_heard(&f));
    struct resp_value v;
    ck_assert_int_eq(resp_next(&heard, 1 << 20, &v), KV_OK);
    count = v.number;
    ck_assert_int_eq(resp_next(&heard, 1 << 20, &v), KV_OK);
    rows = v.number;
    ck_assert_int_eq(count, rows);
    ck_assert_int_gt(count, 60);
    fake_say(&f, "OBJECT HELP\r\n");
    ck_assert_mem_eq(fake_heard(&f), "*10\r\n+OBJECT <subcommand>", 25);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("resp_gate");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, answers_at_once);
    tcase_add_test(t, replies_keep_the_order);
    tcase_add_test(t, any_order_of_replies);
    tcase_add_test(t, a_read_does_not_overtake_a_write);
    tcase_add_test(t, a_write_does_not_overtake_a_read);
    tcase_add_test(t, wide_commands_wait_for_all);
    tcase_add_test(t, a_full_node_stops_the_reading);
    tcase_add_test(t, full_output_stops_the_reading);
    tcase_add_test(t, resp2_lacks_types);
    tcase_add_test(t, a_reply_has_the_protocol_of_its_command);
    tcase_add_test(t, client_reply_modes);
    tcase_add_test(t, errors_of_the_cluster);
    tcase_add_test(t, errors_of_the_caller);
    tcase_add_test(t, strangers_are_kept_out);
    tcase_add_test(t, nothing_is_taken_while_a_password_is_checked);
    tcase_add_test(t, a_bound_user_has_its_keyspace_and_no_other);
    tcase_add_test(t, a_user_that_is_gone_is_not_welcome);
    tcase_add_test(t, strangers_cannot_make_us_remember);
    tcase_add_test(t, client_list_and_kill);
    tcase_add_test(t, quit_answers_and_closes);
    tcase_add_test(t, wait_waits_for_the_writes);
    tcase_add_test(t, node_commands);
    suite_add_tcase(s, t);
    return unit_finish(s);
}

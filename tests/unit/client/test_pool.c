#include "client/pool.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <time.h>

#include "client/base/hash.h"
#include "tests/unit/client/fake_node.h"
#include "tests/unit/unit.h"

/* Connections on loopback against a node that does what each test wants. */

static struct env_uv *uv;
static struct env *env;
static struct fake node;
static struct pool *pool;
static struct pool_options options;
static bool pool_is_closed;
static uint32_t drained;

struct call {
    struct pool_call wire;
    struct kv_slice arg;
    char text[32], why[200];
    uint32_t ended;
    enum kv_err err, reply_err;
    char echoed[64];
    uint64_t echoed_hash; /* of the whole value */
    struct call *then; /* started inside done() */
};

static void call_done(struct pool_call *w, enum kv_err err, const struct kv_reply *reply, const char *why)
{
    struct call *c = container_of(w, struct call, wire);
    c->ended++;
    c->err = err;
    snprintf(c->why, sizeof c->why, "%s", why);
    if (err == KV_OK) {
        c->reply_err = reply->err;
        c->echoed_hash = kv_hash64(reply->value, 0);
        snprintf(c->echoed, sizeof c->echoed, "%.*s", (int)reply->value.size, (const char *)reply->value.data);
    }
    if (c->then != NULL) pool_call(pool, &node.addr, NULL, &c->then->wire);
}

static void call_make(struct call *c, const char *text, uint64_t timeout_ns)
{
    memset(c, 0, sizeof *c);
    snprintf(c->text, sizeof c->text, "%s", text);
    c->arg = kv_str(c->text);
    c->wire.request = (struct kv_request){.op = KV_OP_KVPING, .args = &c->arg, .arg_count = 1};
    c->wire.deadline_ns = env_now_ns(env) + timeout_ns;
    c->wire.done = call_done;
}

static void call_start(struct call *c, const char *text, uint64_t timeout_ns)
{
    call_make(c, text, timeout_ns);
    pool_call(pool, &node.addr, NULL, &c->wire);
    ck_assert_uint_eq(c->ended, 0); /* never inside the call */
}

static bool echo(struct fake *f, const struct kv_request *q, struct kv_reply *reply, struct kv_buf *value)
{
    (void)f;
    (void)reply;
    kv_buf_append_slice(value, q->args[0]);
    return !kv_slice_eq(q->args[0], kv_str("silence"));
}

static void on_drained(void *context, const struct env_addr *addr)
{
    (void)context;
    ck_assert(pool_addr_eq(addr, &node.addr));
    drained++;
}

static void on_closed(void *context)
{
    *(bool *)context = true;
}

static void pool_open(void)
{
    ck_assert_int_eq(pool_create(&options, &pool), KV_OK);
}

static void pool_reopen(void)
{
    pool_close(pool, on_closed, &pool_is_closed);
    RUN_UNTIL(uv, pool_is_closed);
    pool_is_closed = false;
    pool_open();
}

/* Asks so often, and so impatiently, that only tests about it do. */
static void pool_that_pings(void)
{
    options.ping_after_ns = KV_MS(50);
    options.ping_timeout_ns = KV_MS(150);
    options.ping_idle_ns = KV_MS(300);
    pool_reopen();
}

static void setup(void)
{
    static const uint8_t secret[32] = {5};
    (void)signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(env_uv_create(&uv), KV_OK);
    env = env_uv_env(uv);
    fake_start(&node, env, 1);
    node.handle = echo;
    pool_is_closed = false;
    drained = 0;
    options = (struct pool_options){.env = env,
                                    .hello = {.role = HELLO_CLIENT, .name = kv_str("test")},
                                    .connections_max = 1,
                                    .calls_max = 8,
                                    .connect_timeout_ns = KV_SECONDS(2),
                                    .ping_after_ns = KV_SECONDS(5),
                                    .ping_timeout_ns = KV_SECONDS(5),
                                    .ping_idle_ns = KV_SECONDS(10),
                                    .drained = on_drained};
    channel_identity_make(&options.identity, secret);
    pool_open();
}

static void teardown(void)
{
    if (!pool_is_closed) {
        pool_close(pool, on_closed, &pool_is_closed);
        RUN_UNTIL(uv, pool_is_closed);
    }
    fake_stop(&node);
    RUN_UNTIL(uv, node.open == 0);
    env_uv_destroy(uv);
}

START_TEST(one_connection_carries_many_calls)
{
    struct call calls[8];
    char name[8];
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "n%d", i);
        call_start(&calls[i], name, KV_SECONDS(5));
    }
    for (int i = 0; i < 8; i++) {
        RUN_UNTIL(uv, calls[i].ended == 1);
        ck_assert_int_eq(calls[i].err, KV_OK);
        ck_assert_str_eq(calls[i].echoed, calls[i].text);
        ck_assert(calls[i].wire.sent);
    }
    ck_assert_uint_eq(node.accepted, 1);
    struct call late;
    call_start(&late, "again", KV_SECONDS(5));
    RUN_UNTIL(uv, late.ended == 1);
    ck_assert_uint_eq(node.accepted, 1);
    ck_assert_uint_eq(pool_stats(pool).calls, 0);
}
END_TEST

START_TEST(done_may_start_another)
{
    struct call first, second;
    call_make(&second, "second", KV_SECONDS(5));
    call_start(&first, "first", KV_SECONDS(5));
    first.then = &second;
    RUN_UNTIL(uv, second.ended == 1);
    ck_assert_str_eq(second.echoed, "second");
    ck_assert_str_eq(first.echoed, "first"); /* its bytes were not disturbed */
}
END_TEST

START_TEST(beyond_the_bound_calls_are_busy)
{
    struct call calls[9];
    for (int i = 0; i < 9; i++) call_start(&calls[i], "x", KV_SECONDS(5));
    for (int i = 0; i < 9; i++) RUN_UNTIL(uv, calls[i].ended == 1);
    for (int i = 0; i < 8; i++) ck_assert_int_eq(calls[i].err, KV_OK);
    ck_assert_int_eq(calls[8].err, KV_BUSY);
    ck_assert(!calls[8].wire.sent);
}
END_TEST

START_TEST(a_full_connection_gets_a_sister)
{
    options.connections_max = 2;
    pool_reopen();
    struct call calls[16];
    for (int i = 0; i < 16; i++) call_start(&calls[i], "x", KV_SECONDS(5));
    for (int i = 0; i < 16; i++) {
        RUN_UNTIL(uv, calls[i].ended == 1);
        ck_assert_int_eq(calls[i].err, KV_OK);
    }
    ck_assert_uint_eq(node.accepted, 2);
}
END_TEST

START_TEST(it_dials_from_the_address_it_was_given)
{
    options.from = (struct env_addr){.host = "127.0.1.9"};
    pool_reopen();
    struct call call;
    call_start(&call, "x", KV_SECONDS(5));
    RUN_UNTIL(uv, call.ended == 1);
    ck_assert_int_eq(call.err, KV_OK);
    ck_assert_str_eq(node.last_peer.host, "127.0.1.9");
}
END_TEST

START_TEST(a_deadline_ends_the_call_and_the_late_reply_is_dropped)
{
    struct call call, next;
    call_start(&call, "silence", KV_MS(40));
    RUN_UNTIL(uv, call.ended == 1);
    ck_assert_int_eq(call.err, KV_TIMEOUT);
    ck_assert(call.wire.sent);
    ck_assert_ptr_nonnull(strstr(call.why, "127.0.0.1"));
    call_start(&next, "alive", KV_SECONDS(5));
    RUN_UNTIL(uv, next.ended == 1);
    ck_assert_int_eq(next.err, KV_OK);
    ck_assert_uint_eq(call.ended, 1);
    ck_assert_uint_eq(node.accepted, 1);
}
END_TEST

START_TEST(a_cancelled_call_is_never_heard_of)
{
    struct call early, late, last;
    call_start(&early, "early", KV_SECONDS(5)); /* not even connected */
    pool_cancel(&early.wire);
    pool_cancel(&early.wire);
    call_start(&late, "late", KV_SECONDS(5));
    RUN_UNTIL(uv, node.requests == 1);
    pool_cancel(&late.wire);
    call_start(&last, "last", KV_SECONDS(5));
    RUN_UNTIL(uv, last.ended == 1);
    ck_assert_uint_eq(early.ended + late.ended, 0);
    ck_assert_uint_eq(pool_stats(pool).calls, 0);
}
END_TEST

START_TEST(a_closed_door_is_unavailable_and_not_sent)
{
    struct call call;
    env->ops->unlisten(env, &node.listener);
    call_start(&call, "x", KV_SECONDS(5));
    RUN_UNTIL(uv, call.ended == 1);
    ck_assert_int_eq(call.err, KV_UNAVAILABLE);
    ck_assert(!call.wire.sent);
    fake_again(&node);
    call_start(&call, "x", KV_SECONDS(5)); /* dialled anew */
    RUN_UNTIL(uv, call.ended == 1);
    ck_assert_int_eq(call.err, KV_OK);
}
END_TEST

START_TEST(a_cut_connection_leaves_sent_calls_unknown)
{
    struct call sent;
    call_start(&sent, "silence", KV_SECONDS(5));
    RUN_UNTIL(uv, node.requests == 1);
    fake_cut(&node);
    RUN_UNTIL(uv, sent.ended == 1);
    ck_assert_int_eq(sent.err, KV_CLOSED);
    ck_assert(sent.wire.sent);
}
END_TEST

/* Whoever it was, it was not the node: that says nothing about the request. */
START_TEST(a_tampered_stream_leaves_sent_calls_unknown)
{
    struct call sent;
    node.tampered = true;
    call_start(&sent, "x", KV_SECONDS(5));
    RUN_UNTIL(uv, sent.ended == 1);
    ck_assert_uint_eq(node.requests, 1);
    ck_assert_int_eq(sent.err, KV_CLOSED);
    ck_assert(sent.wire.sent);
}
END_TEST

START_TEST(a_silent_peer_is_found_dead_by_its_pings)
{
    pool_that_pings();
    struct call call;
    call_start(&call, "hello", KV_SECONDS(5));
    RUN_UNTIL(uv, call.ended == 1);
    node.mute = true; /* the process is stopped: TCP still acknowledges */
    uint64_t start = env_now_ns(env);
    call_start(&call, "x", KV_SECONDS(10));
    RUN_UNTIL(uv, call.ended == 1);
    ck_assert_int_eq(call.err, KV_CLOSED);
    ck_assert_ptr_nonnull(strstr(call.why, "ping"));
    ck_assert_uint_lt(env_now_ns(env) - start, KV_SECONDS(3)); /* far before its deadline */
    ck_assert_uint_eq(pool_stats(pool).dead, 1);
}
END_TEST

START_TEST(a_slow_answer_of_a_living_peer_is_waited_for)
{
    pool_that_pings();
    struct call call;
    call_start(&call, "silence", KV_MS(900)); /* the node pongs and does not answer */
    RUN_UNTIL(uv, call.ended == 1);
    ck_assert_int_eq(call.err, KV_TIMEOUT);
    ck_assert_uint_gt(node.pings, 2);
    ck_assert_uint_eq(node.open, 1); /* the connection lives */
}
END_TEST

START_TEST(an_idle_connection_is_asked_too_and_replaced_when_dead)
{
    pool_that_pings();
    struct call call;
    call_start(&call, "x", KV_SECONDS(5));
    RUN_UNTIL(uv, call.ended == 1);
    RUN_UNTIL(uv, node.pings >= 1);
    node.mute = true;
    RUN_UNTIL(uv, pool_stats(pool).connections == 0);
    node.mute = false;
    call_start(&call, "x", KV_SECONDS(5));
    RUN_UNTIL(uv, call.ended == 1);
    ck_assert_int_eq(call.err, KV_OK);
    ck_assert_uint_eq(node.accepted, 2);
}
END_TEST

START_TEST(a_loop_that_slept_judges_nobody)
{
    pool_that_pings();
    struct call call;
    call_start(&call, "x", KV_SECONDS(5));
    RUN_UNTIL(uv, call.ended == 1);
    RUN_UNTIL(uv, pool_stats(pool).pings >= 1); /* a ping is on its way, then the program is busy */
    struct timespec nap = {.tv_nsec = 600 * 1000000};
    nanosleep(&nap, NULL);
    call_start(&call, "after", KV_SECONDS(5));
    RUN_UNTIL(uv, call.ended == 1);
    ck_assert_int_eq(call.err, KV_OK);
    ck_assert_uint_eq(pool_stats(pool).dead, 0);
    ck_assert_uint_eq(node.accepted, 1);
}
END_TEST

START_TEST(a_drained_connection_finishes_and_new_calls_dial_anew)
{
    struct call open, next;
    call_start(&open, "silence", KV_MS(400));
    RUN_UNTIL(uv, node.requests == 1);
    fake_drain(&node);
    RUN_UNTIL(uv, drained == 1);
    call_start(&next, "new", KV_SECONDS(5));
    RUN_UNTIL(uv, next.ended == 1);
    ck_assert_int_eq(next.err, KV_OK);
    ck_assert_uint_eq(node.accepted, 2);
    RUN_UNTIL(uv, open.ended == 1);
    ck_assert_int_eq(open.err, KV_TIMEOUT); /* by its own deadline, not by the drain */
    RUN_UNTIL(uv, node.open == 1);          /* the drained one is closed once it is empty */
}
END_TEST

START_TEST(a_refusal_carries_its_reason)
{
    struct call call;
    node.judgement = KV_AUTH;
    call_start(&call, "x", KV_SECONDS(5));
    RUN_UNTIL(uv, call.ended == 1);
    ck_assert_int_eq(call.err, KV_AUTH);
    ck_assert_ptr_nonnull(strstr(call.why, "the test refuses this client"));
}
END_TEST

START_TEST(another_cluster_is_refused_by_name)
{
    struct call call;
    node.hello.name = kv_str("other");
    call_start(&call, "x", KV_SECONDS(5));
    RUN_UNTIL(uv, call.ended == 1);
    ck_assert_int_eq(call.err, KV_WRONG_CLUSTER);
    ck_assert_ptr_nonnull(strstr(call.why, "names differ"));
    ck_assert_uint_eq(node.requests, 0);
}
END_TEST

START_TEST(a_node_with_another_key_than_the_map_says_is_refused)
{
    static const uint8_t wrong[32] = {9};
    struct call call;
    call_make(&call, "x", KV_SECONDS(5));
    pool_call(pool, &node.addr, wrong, &call.wire);
    RUN_UNTIL(uv, call.ended == 1);
    ck_assert_int_eq(call.err, KV_AUTH);
    ck_assert_uint_eq(node.requests, 0);
    call_make(&call, "x", KV_SECONDS(5));
    pool_call(pool, &node.addr, node.identity.public_key, &call.wire);
    RUN_UNTIL(uv, call.ended == 1);
    ck_assert_int_eq(call.err, KV_OK);
}
END_TEST

START_TEST(a_port_that_speaks_something_else_is_an_error_not_a_hang)
{
    struct call call;
    node.raw_garbage = true;
    call_start(&call, "x", KV_SECONDS(10));
    RUN_UNTIL(uv, call.ended == 1);
    ck_assert_int_ne(call.err, KV_OK);
    ck_assert_int_ne(call.err, KV_TIMEOUT);
}
END_TEST

START_TEST(a_handshake_that_never_ends_is_cut_off)
{
    struct call call;
    struct env_addr addr = node.addr;
    fake_stop(&node);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1; /* a backlog that nobody accepts from */
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(addr.port), .sin_addr = {htonl(0x7F000001)}};
    RUN_UNTIL(uv, node.open == 0);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    ck_assert_int_eq(listen(fd, 8), 0);
    call_start(&call, "x", KV_SECONDS(10));
    RUN_UNTIL(uv, call.ended == 1);
    ck_assert_int_eq(call.err, KV_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(call.why, "handshake"));
    close(fd);
}
END_TEST

START_TEST(closing_ends_every_call)
{
    struct call sent, waiting;
    call_start(&sent, "silence", KV_SECONDS(5));
    RUN_UNTIL(uv, node.requests == 1);
    call_start(&waiting, "x", KV_SECONDS(5));
    pool_close(pool, on_closed, &pool_is_closed);
    RUN_UNTIL(uv, pool_is_closed);
    ck_assert_uint_eq(sent.ended, 1);
    ck_assert_uint_eq(waiting.ended, 1);
    ck_assert_int_eq(sent.err, KV_CLOSED);
    ck_assert_int_eq(waiting.err, KV_CLOSED);
}
END_TEST

START_TEST(a_large_value_arrives_whole)
{
    struct call small;
    static uint8_t big[3 << 20];
    static struct kv_slice arg;
    for (size_t i = 0; i < sizeof big; i++) big[i] = (uint8_t)(i * 31 >> 3);
    arg = kv_slice(big, sizeof big);
    struct call call;
    call_make(&call, "x", KV_SECONDS(10));
    call.wire.request.args = &arg;
    pool_call(pool, &node.addr, NULL, &call.wire);
    call_start(&small, "small", KV_SECONDS(10));
    RUN_UNTIL(uv, call.ended == 1 && small.ended == 1);
    ck_assert_int_eq(call.err, KV_OK);
    ck_assert_uint_eq(call.echoed_hash, kv_hash64(arg, 0));
    ck_assert_str_eq(small.echoed, "small");
}
END_TEST

START_TEST(addresses_are_literal)
{
    struct env_addr a;
    ck_assert(pool_addr_parse(kv_str("127.0.0.1:7401"), &a));
    ck_assert_str_eq(a.host, "127.0.0.1");
    ck_assert_uint_eq(a.port, 7401);
    ck_assert(pool_addr_parse(kv_str("[::1]:1"), &a));
    ck_assert_str_eq(a.host, "::1");
    ck_assert(pool_addr_parse(kv_str("localhost:9"), &a));
    ck_assert_str_eq(a.host, "127.0.0.1");
    static const char *const bad[] = {"", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", ":7401",
                                      "::1:7401", "example.org:7401", "127.0.0.1:07401", "127.0.0.1: 1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) ck_assert_msg(!pool_addr_parse(kv_str(bad[i]), &a), "%s", bad[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pool");
    TCase *t = tcase_create("pool");
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, one_connection_carries_many_calls);
    tcase_add_test(t, done_may_start_another);
    tcase_add_test(t, beyond_the_bound_calls_are_busy);
    tcase_add_test(t, a_full_connection_gets_a_sister);
    tcase_add_test(t, it_dials_from_the_address_it_was_given);
    tcase_add_test(t, a_deadline_ends_the_call_and_the_late_reply_is_dropped);
    tcase_add_test(t, a_cancelled_call_is_never_heard_of);
    tcase_add_test(t, a_closed_door_is_unavailable_and_not_sent);
    tcase_add_test(t, a_cut_connection_leaves_sent_calls_unknown);
    tcase_add_test(t, a_tampered_stream_leaves_sent_calls_unknown);
    tcase_add_test(t, a_silent_peer_is_found_dead_by_its_pings);
    tcase_add_test(t, a_slow_answer_of_a_living_peer_is_waited_for);
    tcase_add_test(t, an_idle_connection_is_asked_too_and_replaced_when_dead);
    tcase_add_test(t, a_loop_that_slept_judges_nobody);
    tcase_add_test(t, a_drained_connection_finishes_and_new_calls_dial_anew);
    tcase_add_test(t, a_refusal_carries_its_reason);
    tcase_add_test(t, another_cluster_is_refused_by_name);
    tcase_add_test(t, a_node_with_another_key_than_the_map_says_is_refused);
    tcase_add_test(t, a_port_that_speaks_something_else_is_an_error_not_a_hang);
    tcase_add_test(t, a_handshake_that_never_ends_is_cut_off);
    tcase_add_test(t, closing_ends_every_call);
    tcase_add_test(t, a_large_value_arrives_whole);
    tcase_add_test(t, addresses_are_literal);
    suite_add_tcase(suite, t);
    return unit_finish(suite);
}

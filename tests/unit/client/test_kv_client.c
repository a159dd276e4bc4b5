#include "client/kv_client.h"

#include "client/base/text.h"
#include "tests/unit/client/fake_node.h"
#include "tests/unit/unit.h"

/* The asynchronous client against two nodes that hold one partition each: what it sends, how
 * often, under which key, and what it says of the outcome. */

static struct env_uv *uv;
static struct env *env;
static struct fake nodes[2];
static struct kv_client *client;
static bool client_is_closed;

/* What the nodes do. */
static uint32_t epoch;          /* of both partitions */
static uint32_t told_leader[2]; /* by the map, of partition 1 and 2 */
static uint32_t leader[2];      /* in truth */
static enum kv_err failures[8]; /* the next answers to data requests, before the real one */
static enum kv_applied failures_applied;
static uint32_t failure_count, retry_after_ms;
static bool swallow;   /* data requests get no answer */
static bool cut_after; /* data requests get the connection cut */
static uint32_t maps, data_requests;
static uint8_t seen_client[16];
static uint64_t seen_sequences[16];
static uint32_t seen_pinned_epoch, seen_deadline_ms;

static void slot_key(uint16_t slot, struct kv_key *out)
{
    kv_key_slot_start(KV_KEYSPACE_DEFAULT, slot, out);
}

static void answer_map(struct kv_buf *value)
{
    struct kv_key edges[3];
    struct kv_buf bytes;
    slot_key(0, &edges[0]);
    slot_key(8192, &edges[1]);
    slot_key(KV_SLOTS, &edges[2]);
    struct kv_node_info n[2];
    struct kv_partition_info p[2];
    for (uint32_t i = 0; i < 2; i++) {
        n[i] = (struct kv_node_info){.id = i + 1, .host = kv_str(nodes[i].addr.host), .port = nodes[i].addr.port, .key = kv_slice(nodes[i].identity.public_key, 32)};
        p[i] = (struct kv_partition_info){.id = i + 1, .keyspace = KV_KEYSPACE_DEFAULT, .range_epoch = epoch, .conf_epoch = 1, .leader = told_leader[i], .from = kv_key_slice(&edges[i]), .to = kv_key_slice(&edges[i + 1]), .nodes = {1, 2}, .node_count = 2};
    }
    struct kv_map_info map = {.nodes = n, .node_count = 2, .partitions = p, .partition_count = 2};
    kv_buf_init(&bytes, 0);
    kv_map_encode(&map, &bytes);
    resp_put_bulk(value, kv_buf_slice(&bytes));
    kv_buf_free(&bytes);
    maps++;
}

/* Three rows in each partition, two a page. */
static void answer_scan(const struct kv_request *q, struct kv_reply *reply, struct kv_buf *value)
{
    static const char *const names[2][3] = {{"{3}a", "{3}b", "{3}c"}, {"{1}a", "{1}b", "{1}c"}};
    struct kv_key keys[3], next = {0};
    struct kv_buf rows;
    uint32_t part = reply->partition - 1, count = 0;
    uint64_t rows_max;
    ck_assert(kv_parse_u64(q->args[2], &rows_max));
    kv_buf_init(&rows, 0);
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert_int_eq(kv_key_hash(KV_KEYSPACE_DEFAULT, kv_str(names[part][i]), &keys[i]), KV_OK);
        if (!kv_range_has((struct kv_range){q->args[0], q->args[1]}, kv_key_slice(&keys[i]))) continue;
        if (count == 2 || count == rows_max) {
            next = keys[i];
            break;
        }
        resp_put_bulk(&rows, kv_str(names[part][i]));
        resp_put_bulk(&rows, kv_str("v"));
        resp_put_bulk(&rows, kv_str("3:77"));
        resp_put_integer(&rows, 0);
        count++;
    }
    resp_put_array(value, 1 + 4 * count);
    resp_put_bulk(value, kv_key_slice(&next));
    kv_buf_append_slice(value, kv_buf_slice(&rows));
    kv_buf_free(&rows);
}

static bool serve(struct fake *f, const struct kv_request *q, struct kv_reply *reply, struct kv_buf *value)
{
    if (q->op == KV_OP_KVMAP) {
        answer_map(value);
        return true;
    }
    if (q->op == KV_OP_KVSTATUS) {
        resp_put_bulk(value, kv_str("{\"node\":1}"));
        return true;
    }
    if (data_requests < 16) seen_sequences[data_requests] = q->sequence;
    data_requests++;
    memcpy(seen_client, q->client, sizeof seen_client);
    seen_pinned_epoch = q->pinned ? q->range_epoch : 0;
    seen_deadline_ms = q->deadline_ms;
    ck_assert(q->pinned);
    reply->partition = q->partition;
    reply->range_epoch = epoch;
    reply->phase = KV_PHASE_APPLY;
    if (swallow) return false;
    if (cut_after) {
        fake_cut(f);
        return false;
    }
    if (failure_count > 0) {
        reply->err = failures[--failure_count];
        reply->applied = failures_applied;
        reply->retry_after_ms = retry_after_ms;
        reply->detail = kv_str("the test says so");
        return true;
    }
    if (q->range_epoch != epoch) {
        reply->err = KV_WRONG_SHARD;
        return true;
    }
    if (leader[q->partition - 1] != f->hello.node) {
        reply->err = KV_NOT_LEADER;
        reply->leader = leader[q->partition - 1];
        return true;
    }
    reply->version = (struct kv_version){3, 77};
    reply->applied = KV_APPLIED_YES;
    switch (q->op) {
    case KV_OP_KVGET: resp_put_bulk(value, q->args[0]); break; /* every key holds its own name */
    case KV_OP_KVPUT: resp_put_status(value, "OK"); break;
    case KV_OP_KVINCR: resp_put_integer(value, 42); break;
    case KV_OP_KVSCAN: answer_scan(q, reply, value); break;
    default: resp_put_error(value, "WRONGTYPE not that kind of value"); break;
    }
    return true;
}

static void on_closed(void *context)
{
    *(bool *)context = true;
}

static void client_open(uint32_t seed)
{
    static const uint8_t secret[32] = {5};
    struct kv_client_options o = {.env = env, .seed_count = 1, .timeout_ms = 3000};
    o.seeds[0] = nodes[seed].addr;
    channel_identity_make(&o.identity, secret);
    ck_assert_int_eq(kv_client_create(&o, &client), KV_OK);
    client_is_closed = false;
}

static void setup(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(env_uv_create(&uv), KV_OK);
    env = env_uv_env(uv);
    for (uint32_t i = 0; i < 2; i++) {
        fake_start(&nodes[i], env, i + 1);
        nodes[i].handle = serve;
        leader[i] = told_leader[i] = i + 1;
    }
    epoch = 1;
    failures_applied = KV_APPLIED_NO;
    client_open(0);
}

static void teardown(void)
{
    if (!client_is_closed) {
        kv_client_close(client, on_closed, &client_is_closed);
        RUN_UNTIL(uv, client_is_closed);
    }
    for (int i = 0; i < 2; i++) fake_stop(&nodes[i]);
    RUN_UNTIL(uv, nodes[0].open + nodes[1].open == 0);
    env_uv_destroy(uv);
}

struct ask {
    struct kv_call call;
    struct kv_slice args[3];
    uint32_t ended;
    struct kv_result result;
    char value[64];
};

static void ask_done(struct kv_call *call)
{
    struct ask *a = container_of(call, struct ask, call);
    a->ended++;
    a->result = call->result;
    snprintf(a->value, sizeof a->value, "%.*s", (int)call->result.value.size, (const char *)call->result.value.data);
}

static void ask_start(struct ask *a, enum kv_op op, const char *key, uint32_t timeout_ms)
{
    memset(a, 0, sizeof *a);
    a->args[0] = kv_str(key);
    a->args[1] = kv_str("1");
    a->args[2] = kv_str("0");
    a->call.op = op;
    a->call.args = a->args;
    a->call.arg_count = (uint32_t)kv_op_info((uint32_t)op)->arity_min;
    a->call.timeout_ms = timeout_ms;
    a->call.done = ask_done;
    kv_client_call(client, &a->call);
    ck_assert_uint_eq(a->ended, 0);
}

static struct ask ask(enum kv_op op, const char *key)
{
    static struct ask a;
    ask_start(&a, op, key, 0);
    RUN_UNTIL(uv, a.ended == 1);
    return a;
}

/* "{1}.." lies in slot 9842, partition 2; "{3}.." in slot 1584, partition 1. */

START_TEST(the_test_s_keys_lie_where_it_thinks)
{
    ck_assert_uint_gt(kv_slot(kv_str("{1}k")), 8192);
    ck_assert_uint_lt(kv_slot(kv_str("{3}k")), 8192);
}
END_TEST

START_TEST(one_map_then_straight_to_the_leaders)
{
    struct ask a[6];
    for (int i = 0; i < 6; i++) ask_start(&a[i], KV_OP_KVGET, i % 2 == 0 ? "{3}k" : "{1}k", 0);
    for (int i = 0; i < 6; i++) {
        RUN_UNTIL(uv, a[i].ended == 1);
        ck_assert_int_eq(a[i].result.err, KV_OK);
        ck_assert_uint_eq(a[i].result.node, i % 2 == 0 ? 1 : 2);
        ck_assert_uint_eq(a[i].result.tries, 1);
        ck_assert_str_eq(a[i].value, i % 2 == 0 ? "{3}k" : "{1}k");
        ck_assert_str_eq(a[i].result.text, "");
        ck_assert_uint_eq(a[i].result.version.index, 77);
    }
    ck_assert_uint_eq(maps, 1);
    ck_assert_uint_eq(nodes[0].accepted + nodes[1].accepted, 2);
    ck_assert_uint_gt(seen_deadline_ms, 1000);
    ck_assert_uint_le(seen_deadline_ms, 3000);
}
END_TEST

START_TEST(a_leader_is_learned_from_its_refusal)
{
    leader[0] = 2; /* the map does not know yet */
    struct ask a = ask(KV_OP_KVPUT, "{3}k");
    ck_assert_int_eq(a.result.err, KV_OK);
    ck_assert_uint_eq(a.result.node, 2);
    ck_assert_uint_eq(a.result.tries, 2);
    a = ask(KV_OP_KVPUT, "{3}k");
    ck_assert_uint_eq(a.result.tries, 1);
}
END_TEST

START_TEST(a_retry_keeps_its_idempotency_key)
{
    leader[0] = 2;
    failures[0] = KV_NO_LEADER;
    failures[1] = KV_BUSY;
    failure_count = 2;
    struct ask a = ask(KV_OP_KVINCR, "{3}k");
    ck_assert_int_eq(a.result.err, KV_OK);
    ck_assert_int_eq(a.result.number, 42);
    ck_assert_int_eq(a.result.applied, KV_APPLIED_YES);
    ck_assert_uint_eq(a.result.tries, data_requests);
    ck_assert_uint_ge(data_requests, 3);
    static const uint8_t none[16];
    ck_assert_mem_ne(seen_client, none, 16);
    for (uint32_t i = 0; i < data_requests; i++) ck_assert_uint_eq(seen_sequences[i], seen_sequences[0]);
    uint64_t before = seen_sequences[0];
    data_requests = 0;
    a = ask(KV_OP_KVINCR, "{3}k");
    ck_assert_uint_ne(seen_sequences[0], before); /* another mutation, another key */
    ck_assert_uint_ne(seen_sequences[0], 0);
}
END_TEST

/* What no node remembers any more would take effect twice. */
START_TEST(a_mutation_is_not_repeated_for_longer_than_it_is_remembered)
{
    static const uint32_t hour = 60 * 60 * 1000;
    struct ask a;
    ask_start(&a, KV_OP_KVPUT, "{3}k", hour);
    RUN_UNTIL(uv, a.ended == 1);
    ck_assert_uint_le(seen_deadline_ms, KV_REPEAT_MS_MAX);
    ask_start(&a, KV_OP_KVGET, "{3}k", hour);
    RUN_UNTIL(uv, a.ended == 1);
    ck_assert_uint_gt(seen_deadline_ms, hour / 2);
}
END_TEST

START_TEST(reads_carry_no_key)
{
    struct ask a = ask(KV_OP_KVGET, "{3}k");
    ck_assert_int_eq(a.result.err, KV_OK);
    ck_assert_uint_eq(seen_sequences[0], 0);
}
END_TEST

START_TEST(a_caller_s_own_key_is_used)
{
    static const uint8_t id[16] = {1, 2, 3, 4};
    struct ask a;
    memset(&a, 0, sizeof a);
    a.call.idempotency_client = id;
    a.call.idempotency_sequence = 4711;
    a.args[0] = kv_str("{3}k");
    a.args[1] = kv_str("1");
    a.call.op = KV_OP_KVINCR;
    a.call.args = a.args;
    a.call.arg_count = 2;
    a.call.done = ask_done;
    kv_client_call(client, &a.call);
    RUN_UNTIL(uv, a.ended == 1);
    ck_assert_mem_eq(seen_client, id, 16);
    ck_assert_uint_eq(seen_sequences[0], 4711);
}
END_TEST

START_TEST(a_moved_range_is_looked_up_again)
{
    struct ask a = ask(KV_OP_KVGET, "{3}k");
    epoch = 2;
    a = ask(KV_OP_KVGET, "{3}k");
    ck_assert_int_eq(a.result.err, KV_OK);
    ck_assert_uint_eq(a.result.tries, 2);
    ck_assert_uint_eq(maps, 2);
    ck_assert_uint_eq(seen_pinned_epoch, 2);
}
END_TEST

START_TEST(verdicts_come_back_at_once)
{
    failures[0] = KV_CONDITION;
    failure_count = 1;
    struct ask a = ask(KV_OP_KVPUT, "{3}k");
    ck_assert_int_eq(a.result.err, KV_CONDITION);
    ck_assert_int_eq(a.result.applied, KV_APPLIED_NO);
    ck_assert_uint_eq(a.result.tries, 1);
    ck_assert_ptr_nonnull(strstr(a.result.text, "the test says so"));
    ck_assert_ptr_nonnull(strstr(a.result.text, "node 1"));
    ck_assert_ptr_nonnull(strstr(a.result.text, "applied: no"));
}
END_TEST

START_TEST(a_redis_error_inside_is_an_error)
{
    struct ask a = ask(KV_OP_KVDEL, "{3}k");
    ck_assert_int_eq(a.result.err, KV_WRONG_TYPE);
    ck_assert_ptr_nonnull(strstr(a.result.text, "WRONGTYPE"));
}
END_TEST

START_TEST(no_answer_means_maybe_for_writes_and_nothing_for_reads)
{
    struct ask a;
    swallow = true;
    ask_start(&a, KV_OP_KVPUT, "{3}k", 150);
    RUN_UNTIL(uv, a.ended == 1);
    ck_assert_int_eq(a.result.err, KV_TIMEOUT);
    ck_assert_int_eq(a.result.applied, KV_APPLIED_MAYBE);
    ck_assert_ptr_nonnull(strstr(a.result.text, "applied: maybe"));
    ask_start(&a, KV_OP_KVGET, "{3}k", 150);
    RUN_UNTIL(uv, a.ended == 1);
    ck_assert_int_eq(a.result.err, KV_TIMEOUT);
    ck_assert_int_eq(a.result.applied, KV_APPLIED_NO);
    ck_assert_ptr_null(strstr(a.result.text, "applied"));
}
END_TEST

START_TEST(what_a_node_said_of_the_partition_outlives_that_none_is_reached)
{
    struct ask a;
    failures[0] = KV_NO_LEADER;
    failure_count = 1;
    retry_after_ms = 100;
    ask_start(&a, KV_OP_KVPUT, "{3}k", 500);
    RUN_UNTIL(uv, a.call.result.text[0] != 0);
    for (int i = 0; i < 2; i++) fake_stop(&nodes[i]);
    RUN_UNTIL(uv, a.ended == 1);
    ck_assert_int_eq(a.result.err, KV_NO_LEADER);
    ck_assert_int_eq(a.result.applied, KV_APPLIED_NO);
    ck_assert_uint_ge(a.result.tries, 2);
    ck_assert_ptr_nonnull(strstr(a.result.text, "the test says so"));
    for (int i = 0; i < 2; i++) fake_again(&nodes[i]);
}
END_TEST

START_TEST(maybe_is_not_washed_off_by_a_later_no)
{
    struct ask a;
    cut_after = true; /* the first try's outcome stays unknown */
    ask_start(&a, KV_OP_KVPUT, "{3}k", 600);
    RUN_UNTIL(uv, data_requests == 1);
    cut_after = false;
    leader[0] = 99; /* from then on nobody leads: surely not applied, says each answer */
    RUN_UNTIL(uv, a.ended == 1);
    ck_assert_int_eq(a.result.err, KV_NO_LEADER);
    ck_assert_int_eq(a.result.applied, KV_APPLIED_MAYBE);
    ck_assert_uint_ge(a.result.tries, 2);
}
END_TEST

START_TEST(after_a_maybe_the_retry_s_own_answer_settles_it)
{
    struct ask a;
    cut_after = true;
    ask_start(&a, KV_OP_KVPUT, "{3}k", 3000);
    RUN_UNTIL(uv, data_requests == 1);
    cut_after = false;
    leader[0] = 2; /* the other took over and knows the key */
    RUN_UNTIL(uv, a.ended == 1);
    ck_assert_int_eq(a.result.err, KV_OK);
    ck_assert_int_eq(a.result.applied, KV_APPLIED_YES);
    ck_assert_uint_eq(seen_sequences[0], seen_sequences[data_requests - 1]);
}
END_TEST

START_TEST(a_hint_beyond_the_deadline_ends_the_call_now)
{
    struct ask a;
    (void)ask(KV_OP_KVGET, "{3}k");
    failures[0] = KV_THROTTLED;
    failure_count = 1;
    retry_after_ms = 60000;
    uint64_t start = env_now_ns(env);
    ask_start(&a, KV_OP_KVPUT, "{3}k", 3000);
    RUN_UNTIL(uv, a.ended == 1);
    ck_assert_int_eq(a.result.err, KV_THROTTLED);
    ck_assert_uint_eq(a.result.retry_after_ms, 60000);
    ck_assert_uint_lt(env_now_ns(env) - start, KV_SECONDS(1));
}
END_TEST

START_TEST(a_dead_node_is_left_for_its_peer)
{
    (void)ask(KV_OP_KVGET, "{3}k");
    fake_stop(&nodes[0]);
    leader[0] = 2;
    struct ask a = ask(KV_OP_KVPUT, "{3}k");
    ck_assert_int_eq(a.result.err, KV_OK);
    ck_assert_uint_eq(a.result.node, 2);
}
END_TEST

START_TEST(without_any_node_the_text_says_so)
{
    struct ask a;
    fake_stop(&nodes[0]);
    fake_stop(&nodes[1]);
    ask_start(&a, KV_OP_KVPUT, "{3}k", 200);
    RUN_UNTIL(uv, a.ended == 1);
    ck_assert_int_eq(a.result.err, KV_UNAVAILABLE);
    ck_assert_int_eq(a.result.applied, KV_APPLIED_NO);
    ck_assert_ptr_nonnull(strstr(a.result.text, "cannot be reached"));
    ck_assert_ptr_nonnull(strstr(a.result.text, "next:"));
}
END_TEST

START_TEST(bad_calls_are_refused_without_a_request)
{
    struct ask a;
    static char key[KV_USER_KEY_BYTES_MAX + 2];
    memset(key, 'k', sizeof key - 1);
    ask_start(&a, KV_OP_KVGET, key, 0);
    RUN_UNTIL(uv, a.ended == 1);
    ck_assert_int_eq(a.result.err, KV_TOO_BIG);
    key[KV_USER_KEY_BYTES_MAX] = 0;
    ask_start(&a, KV_OP_KVGET, key, 0);
    RUN_UNTIL(uv, a.ended == 1);
    ck_assert_int_eq(a.result.err, KV_OK);
    memset(&a, 0, sizeof a);
    a.call.op = KV_OP_KVGET;
    a.call.done = ask_done; /* no key */
    kv_client_call(client, &a.call);
    RUN_UNTIL(uv, a.ended == 1);
    ck_assert_int_eq(a.result.err, KV_BAD_ARGUMENT);
    ck_assert_uint_eq(data_requests, 1);
}
END_TEST

START_TEST(cancelled_calls_are_silent_in_every_state)
{
    struct ask a;
    ask_start(&a, KV_OP_KVGET, "{3}k", 0); /* waits for the map */
    kv_client_cancel(client, &a.call);
    (void)ask(KV_OP_KVGET, "{3}k");
    swallow = true;
    ask_start(&a, KV_OP_KVPUT, "{3}k", 0);
    RUN_UNTIL(uv, data_requests == 2);
    kv_client_cancel(client, &a.call);
    swallow = false;
    leader[0] = 99;
    ask_start(&a, KV_OP_KVPUT, "{3}k", 0);
    RUN_UNTIL(uv, data_requests >= 5); /* backs off */
    kv_client_cancel(client, &a.call);
    leader[0] = 1;
    (void)ask(KV_OP_KVGET, "{3}k");
    ck_assert_uint_eq(a.ended, 0);
}
END_TEST

START_TEST(closing_ends_calls_in_every_state)
{
    struct ask sent, resting;
    (void)ask(KV_OP_KVGET, "{3}k");
    swallow = true;
    ask_start(&sent, KV_OP_KVPUT, "{1}k", 0);
    RUN_UNTIL(uv, data_requests == 2);
    swallow = false;
    failures[0] = KV_BUSY;
    failure_count = 1;
    retry_after_ms = 2000;
    ask_start(&resting, KV_OP_KVPUT, "{3}k", 0);
    RUN_UNTIL(uv, data_requests == 3);
    RUN_FOR(uv, KV_MS(30));
    kv_client_close(client, on_closed, &client_is_closed);
    RUN_UNTIL(uv, client_is_closed);
    ck_assert_uint_eq(sent.ended, 1);
    ck_assert_int_eq(sent.result.applied, KV_APPLIED_MAYBE);
    ck_assert_uint_eq(resting.ended, 1);
    ck_assert_int_eq(resting.result.applied, KV_APPLIED_NO);
}
END_TEST

START_TEST(operations_of_a_node_go_to_that_node)
{
    struct ask a;
    memset(&a, 0, sizeof a);
    a.call.op = KV_OP_KVSTATUS;
    a.call.node = 2;
    a.call.done = ask_done;
    kv_client_call(client, &a.call);
    RUN_UNTIL(uv, a.ended == 1);
    ck_assert_int_eq(a.result.err, KV_OK);
    ck_assert_str_eq(a.value, "{\"node\":1}");
    ck_assert_uint_eq(nodes[1].requests, 1);
    a.call.node = 7;
    a.ended = 0;
    kv_client_call(client, &a.call);
    RUN_UNTIL(uv, a.ended == 1);
    ck_assert_int_eq(a.result.err, KV_NOT_FOUND);
}
END_TEST

/* ---- scans, page by page over both partitions ---- */

struct pages {
    struct kv_call call;
    uint32_t rows, pages;
    char names[128];
    bool ended;
    enum kv_err err;
};

static void page_done(struct kv_call *call)
{
    struct pages *p = container_of(call, struct pages, call);
    struct kv_slice rows, cursor;
    struct kv_row row;
    p->pages++;
    p->err = call->result.err;
    if (p->err == KV_OK) p->err = kv_scan_rows(call->result.value, &rows, &cursor);
    while (p->err == KV_OK && kv_scan_row(&rows, &row) == KV_OK) {
        p->rows++;
        ck_assert_uint_eq(row.version.epoch, 3);
        ck_assert_uint_eq(row.version.index, 77);
        snprintf(p->names + strlen(p->names), sizeof p->names - strlen(p->names), "%.*s ", (int)row.key.size,
                 (const char *)row.key.data);
    }
    p->ended = p->err != KV_OK || call->next.size == 0;
    if (!p->ended) kv_client_scan(client, call, kv_key_slice(&call->next), kv_slice(NULL, 0), 100, 1 << 20);
}

START_TEST(a_scan_crosses_partitions_and_ends)
{
    struct pages p;
    memset(&p, 0, sizeof p);
    p.call.done = page_done;
    kv_client_scan(client, &p.call, kv_slice(NULL, 0), kv_slice(NULL, 0), 100, 1 << 20);
    RUN_UNTIL(uv, p.ended);
    ck_assert_int_eq(p.err, KV_OK);
    ck_assert_str_eq(p.names, "{3}a {3}b {3}c {1}a {1}b {1}c ");
    ck_assert_uint_eq(p.pages, 4);
}
END_TEST

START_TEST(a_scan_stops_where_it_was_told)
{
    struct pages p;
    struct kv_key to;
    memset(&p, 0, sizeof p);
    ck_assert_int_eq(kv_key_hash(KV_KEYSPACE_DEFAULT, kv_str("{3}c"), &to), KV_OK);
    p.call.done = page_done;
    kv_client_scan(client, &p.call, kv_slice(NULL, 0), kv_key_slice(&to), 100, 1 << 20);
    RUN_UNTIL(uv, p.ended);
    ck_assert_str_eq(p.names, "{3}a {3}b ");
    ck_assert_uint_eq(p.pages, 1);
}
END_TEST

START_TEST(rows_that_do_not_parse_are_an_error)
{
    static const char *const bad[] = {"", "*0\r\n", "*2\r\n$0\r\n\r\n$1\r\nk\r\n", "+OK\r\n",
                                      "*5\r\n$0\r\n\r\n$1\r\nk\r\n$1\r\nv\r\n$1\r\n3\r\n:0\r\n",
                                      "*5\r\n$0\r\n\r\n$1\r\nk\r\n$1\r\nv\r\n$3\r\n3:1\r\n:-1\r\n",
                                      "*5\r\n$0\r\n\r\n$1\r\nk\r\n_\r\n$3\r\n3:1\r\n:0\r\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct kv_slice rows, cursor;
        struct kv_row row;
        enum kv_err err = kv_scan_rows(kv_str(bad[i]), &rows, &cursor);
        if (err == KV_OK) err = kv_scan_row(&rows, &row);
        ck_assert_msg(err == KV_MALFORMED, "%zu: %s", i, kv_err_name(err));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kv_client");
    TCase *t = tcase_create("kv_client");
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, the_test_s_keys_lie_where_it_thinks);
    tcase_add_test(t, one_map_then_straight_to_the_leaders);
    tcase_add_test(t, a_leader_is_learned_from_its_refusal);
    tcase_add_test(t, a_retry_keeps_its_idempotency_key);
    tcase_add_test(t, a_mutation_is_not_repeated_for_longer_than_it_is_remembered);
    tcase_add_test(t, reads_carry_no_key);
    tcase_add_test(t, a_caller_s_own_key_is_used);
    tcase_add_test(t, a_moved_range_is_looked_up_again);
    tcase_add_test(t, verdicts_come_back_at_once);
    tcase_add_test(t, a_redis_error_inside_is_an_error);
    tcase_add_test(t, no_answer_means_maybe_for_writes_and_nothing_for_reads);
    tcase_add_test(t, what_a_node_said_of_the_partition_outlives_that_none_is_reached);
    tcase_add_test(t, maybe_is_not_washed_off_by_a_later_no);
    tcase_add_test(t, after_a_maybe_the_retry_s_own_answer_settles_it);
    tcase_add_test(t, a_hint_beyond_the_deadline_ends_the_call_now);
    tcase_add_test(t, a_dead_node_is_left_for_its_peer);
    tcase_add_test(t, without_any_node_the_text_says_so);
    tcase_add_test(t, bad_calls_are_refused_without_a_request);
    tcase_add_test(t, cancelled_calls_are_silent_in_every_state);
    tcase_add_test(t, closing_ends_calls_in_every_state);
    tcase_add_test(t, operations_of_a_node_go_to_that_node);
    tcase_add_test(t, a_scan_crosses_partitions_and_ends);
    tcase_add_test(t, a_scan_stops_where_it_was_told);
    tcase_add_test(t, rows_that_do_not_parse_are_an_error);
    suite_add_tcase(suite, t);
    return unit_finish(suite);
}

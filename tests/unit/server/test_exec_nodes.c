#include "server/exec_nodes.h"

#include "tests/unit/server/exec_system.h"

static uint8_t keys[100][32];

static void setup(void)
{
    system_setup(&(struct exec_place){.nodes = {1}, .node_count = 1});
    for (uint8_t i = 0; i < 100; i++) memset(keys[i], i + 1, sizeof keys[i]);
}

static enum kv_err run(enum kv_op op, struct kv_slice a, struct kv_slice b, uint32_t n)
{
    struct kv_slice args[2] = {a, b};
    return system_run(op, args, n);
}

static struct kv_node_info node(uint32_t id, const char *host, uint32_t key)
{
    return (struct kv_node_info){.id = id, .host = kv_str(host), .port = 7401, .resp = 7400, .key = kv_slice(keys[key], 32)};
}

static struct kv_map_info map_told(void)
{
    struct kv_slice in = kv_buf_slice(&m.reply);
    struct resp_value v;
    struct kv_map_info map;
    ck_assert_int_eq(resp_next(&in, SIZE_MAX, &v), KV_OK);
    struct kv_slice own = kv_arena_copy(&arena, v.text);
    ck_assert_int_eq(kv_map_decode(own, &arena, &map), KV_OK);
    return map;
}

static enum kv_err seed(uint32_t count)
{
    struct kv_node_info list[3] = {node(1, "10.0.0.1", 1), node(2, "10.0.0.2", 2), node(5, "10.0.0.5", 5)};
    struct kv_buf bytes = {0};
    kv_map_encode(&(struct kv_map_info){.nodes = list, .node_count = count}, &bytes);
    enum kv_err err = run(KV_OP_KSSEED, kv_buf_slice(&bytes), kv_slice(NULL, 0), 1);
    kv_buf_free(&bytes);
    return err;
}

static struct kv_slice hash_of(uint32_t token)
{
    return kv_slice(keys[token], EXEC_TOKEN_HASH_BYTES);
}

static enum kv_err make_token(uint32_t token, const char *ttl_ms)
{
    return run(KV_OP_KSTOKEN, hash_of(token), kv_str(ttl_ms), 2);
}

static enum kv_err join_of(enum kv_op op, uint32_t token, struct kv_node_info n)
{
    struct kv_buf bytes = {0};
    kv_node_encode(&n, &bytes);
    enum kv_err err = run(op, hash_of(token), kv_buf_slice(&bytes), 2);
    kv_buf_free(&bytes);
    return err;
}

static enum kv_err join(uint32_t token, const char *host, uint32_t key)
{
    return join_of(KV_OP_KSJOIN, token, node(99, host, key));
}

static enum kv_err set_state(const char *id, const char *state)
{
    return run(KV_OP_KSNODE, kv_str(id), kv_str(state), 2);
}

START_TEST(a_token_lets_one_node_in)
{
    ck_assert_int_eq(seed(3), KV_OK);
    ck_assert_int_eq(seed(2), KV_OK); /* by a later leader: nothing */
    ck_assert_int_eq(make_token(50, "60000"), KV_OK);
    refused(make_token(50, "60000"), KV_CONFLICT, "there already");
    ck_assert_int_eq(join_of(KV_OP_KSWELCOME, 50, node(99, "10.0.0.9", 9)), KV_OK);
    ck_assert_str_eq(reply(), "+OK\r\n");
    ck_assert_int_eq(join(50, "10.0.0.9", 9), KV_OK);
    struct kv_map_info map = map_told();
    ck_assert_uint_eq(map.node_count, 4);
    ck_assert_uint_eq(map.nodes_version, m.index);
    ck_assert_uint_eq(map.nodes[3].id, 6); /* behind the highest */
    ck_assert(kv_slice_eq(map.nodes[3].host, kv_str("10.0.0.9")));
    uint64_t version = map.nodes_version;

    ck_assert_int_eq(join(50, "10.0.0.9", 9), KV_OK); /* the answer was lost */
    map = map_told();
    ck_assert_uint_eq(map.nodes_version, version);
    ck_assert_uint_eq(map.nodes[3].id, 6);
    m.exec.clock_ms += 1000000; /* so was its disk, long after */
    ck_assert_int_eq(join(50, "10.0.0.19", 9), KV_OK);
    map = map_told();
    ck_assert_uint_gt(map.nodes_version, version);
    ck_assert_uint_eq(map.nodes[3].id, 6);
    ck_assert(kv_slice_eq(map.nodes[3].host, kv_str("10.0.0.19")));
    refused(join(50, "10.0.0.8", 8), KV_AUTH, "was used by node 6");
}
END_TEST

START_TEST(others_are_refused)
{
    refused(make_token(50, "0"), KV_BAD_ARGUMENT, "1 s to 30 days");
    ck_assert_int_eq(make_token(50, "60000"), KV_OK);
    refused(join(50, "10.0.0.9", 9), KV_UNAVAILABLE, "not written down yet");
    ck_assert_int_eq(seed(3), KV_OK);
    refused(join(51, "10.0.0.9", 9), KV_AUTH, "not known");
    refused(join(50, "10.0.0.9", 2), KV_CONFLICT, "that of node 2, which is up");
    refused(join(50, "10.0.0.2", 9), KV_CONFLICT, "that of node 2");
    refused(join(50, "0.0.0.0", 9), KV_BAD_ARGUMENT, "all addresses");
    refused(join(50, "example.org", 9), KV_BAD_ARGUMENT, "literal");
    struct kv_node_info n = node(99, "10.0.0.9", 9);
    n.port = 0;
    refused(join_of(KV_OP_KSJOIN, 50, n), KV_BAD_ARGUMENT, "native port 0");
    n = node(99, "10.0.0.9", 9);
    n.zone = kv_str("1 2");
    refused(join_of(KV_OP_KSJOIN, 50, n), KV_BAD_ARGUMENT, "zone");
    refused(run(KV_OP_KSJOIN, kv_str("short"), kv_str(""), 2), KV_BAD_ARGUMENT, "hash");
    refused(run(KV_OP_KSJOIN, hash_of(50), kv_str("\xff"), 2), KV_BAD_ARGUMENT, "does not parse");
    m.exec.clock_ms += 60000;
    refused(join(50, "10.0.0.9", 9), KV_AUTH, "has expired");
    refused(join_of(KV_OP_KSWELCOME, 50, node(99, "10.0.0.9", 9)), KV_AUTH, "has expired");
    m.exec.place = NULL;
    refused(make_token(52, "60000"), KV_BAD_ARGUMENT, "partition 0's");
}
END_TEST

START_TEST(states_change_and_removal_is_for_good)
{
    ck_assert_int_eq(seed(3), KV_OK);
    ck_assert_int_eq(set_state("2", "cordoned"), KV_OK);
    ck_assert_str_eq(reply(), "$2\r\nup\r\n");
    ck_assert_int_eq(set_state("2", "draining"), KV_OK);
    ck_assert_int_eq(set_state("2", "draining"), KV_OK); /* again */
    ck_assert_int_eq(set_state("1", "cordoned"), KV_OK);
    refused(set_state("5", "draining"), KV_CONDITION, "no other node may take");
    refused(set_state("7", "up"), KV_NOT_FOUND, "no node 7");
    refused(set_state("0", "up"), KV_BAD_ARGUMENT, "node id");
    refused(set_state("1", "asleep"), KV_BAD_ARGUMENT, "one of");
    ck_assert_int_eq(set_state("2", "removed"), KV_OK);
    refused(set_state("2", "up"), KV_CONDITION, "removed, for good");
    ck_assert_int_eq(make_token(50, "60000"), KV_OK);
    refused(join(50, "10.0.0.9", 2), KV_CONFLICT, "which is removed");
    ck_assert_int_eq(join(50, "10.0.0.2", 9), KV_OK); /* the address is free again */
    ck_assert_uint_eq(map_told().nodes[3].id, 6);
    ck_assert_int_eq(set_state("6", "removed"), KV_OK);
    refused(join(50, "10.0.0.2", 9), KV_AUTH, "node 6 was removed");
    ck_assert_int_eq(set_state("1", "removed"), KV_OK);
    refused(set_state("5", "removed"), KV_CONDITION, "the last one");
}
END_TEST

static enum kv_err say(const char *id, uint32_t roles, uint16_t resp)
{
    struct kv_node_info n = node(99, "10.0.0.99", 3); /* of what it says only roles and Redis ports count */
    struct kv_buf bytes = {0};
    n.roles = roles;
    n.resp = resp;
    kv_node_encode(&n, &bytes);
    struct kv_slice args[3] = {kv_str(id), kv_str(EXEC_NODE_SELF), kv_buf_slice(&bytes)};
    enum kv_err err = mem_run(&m, KV_OP_KSNODE, args, 3);
    kv_buf_free(&bytes);
    kv_buf_append_u8(&m.reply, 0);
    return err != KV_OK ? err : m.exec.err;
}

/* Whoever asks what the nodes are: a joiner that was let in before. */
static struct kv_node_info told(uint32_t token, uint32_t id)
{
    ck_assert_int_eq(join(token, "10.0.0.9", 9), KV_OK);
    struct kv_map_info map = map_told();
    for (uint32_t i = 0; i < map.node_count; i++)
        if (map.nodes[i].id == id) return map.nodes[i];
    ck_abort_msg("no node %u", id);
}

START_TEST(roles_change_while_others_have_them)
{
    ck_assert_int_eq(seed(3), KV_OK);
    ck_assert_int_eq(make_token(50, "60000"), KV_OK);
    struct kv_node_info n = node(99, "10.0.0.9", 9);
    n.roles = 8;
    refused(join_of(KV_OP_KSJOIN, 50, n), KV_BAD_ARGUMENT, "roles 8");
    n.roles = KV_NODE_GATEWAY;
    ck_assert_int_eq(join_of(KV_OP_KSJOIN, 50, n), KV_OK);
    ck_assert_uint_eq(told(50, 6).roles, KV_NODE_GATEWAY); /* it came again without saying any: they stay */
    ck_assert_uint_eq(told(50, 6).resp, 7400);
    ck_assert_int_eq(say("6", KV_NODE_STORAGE, 0), KV_OK);
    ck_assert_uint_eq(told(50, 6).roles, KV_NODE_STORAGE);
    ck_assert_uint_eq(told(50, 6).resp, 0);
    ck_assert(kv_slice_eq(told(50, 6).host, kv_str("10.0.0.9")));

    ck_assert_int_eq(say("1", KV_NODE_STORAGE, 0), KV_OK);
    ck_assert_int_eq(say("2", KV_NODE_STORAGE | KV_NODE_GATEWAY, 7400), KV_OK);
    refused(say("5", KV_NODE_STORAGE | KV_NODE_GATEWAY, 7400), KV_CONDITION, "no node but 5 has the role coordinator");
    refused(set_state("5", "draining"), KV_CONDITION, "no node but 5 has the role coordinator");
    ck_assert_int_eq(say("5", KV_NODE_COORDINATOR, 0), KV_OK);
    refused(say("2", KV_NODE_STORAGE, 0), KV_CONDITION, "no node but 2 has the role gateway");
    refused(set_state("2", "removed"), KV_CONDITION, "no node but 2 has the role gateway");
    ck_assert_int_eq(set_state("2", "draining"), KV_OK); /* it goes on taking clients */
    ck_assert_int_eq(set_state("1", "cordoned"), KV_OK);
    refused(set_state("6", "draining"), KV_CONDITION, "no node but 6 has the role storage");
    ck_assert_int_eq(say("6", KV_NODE_STORAGE | KV_NODE_GATEWAY, 7400), KV_OK);
    ck_assert_int_eq(say("6", KV_NODE_STORAGE, 0), KV_OK); /* 2 takes clients still */
    refused(say("6", 0, 0), KV_BAD_ARGUMENT, "roles 0");
    refused(say("7", 1, 0), KV_NOT_FOUND, "no node 7");
    refused(run(KV_OP_KSNODE, kv_str("1"), kv_str(EXEC_NODE_SELF), 2), KV_BAD_ARGUMENT, "one of up");
}
END_TEST

START_TEST(there_is_room_for_a_limited_number)
{
    char host[32];
    ck_assert_int_eq(seed(3), KV_OK);
    for (uint32_t i = 10; i < 10 + KV_NODES_MAX - 3; i++) {
        snprintf(host, sizeof host, "10.0.1.%u", i);
        ck_assert_int_eq(make_token(i, "60000"), KV_OK);
        ck_assert_int_eq(join(i, host, i), KV_OK);
    }
    ck_assert_int_eq(make_token(90, "60000"), KV_OK);
    refused(join(90, "10.0.2.1", 90), KV_CONDITION, "the limit");
    ck_assert_int_eq(set_state("5", "removed"), KV_OK);
    ck_assert_int_eq(join(90, "10.0.2.1", 90), KV_OK);
    struct kv_map_info map = map_told();
    ck_assert_uint_eq(map.node_count, KV_NODES_MAX);
    ck_assert_uint_eq(map.nodes[2].id, 6); /* 5 is forgotten */
    ck_assert_uint_eq(map.nodes[KV_NODES_MAX - 1].id, 5 + KV_NODES_MAX - 3 + 1);
}
END_TEST

START_TEST(the_list_of_ids_is_read_strictly)
{
    uint32_t next, ids[KV_NODES_MAX], count;
    ck_assert(exec_node_ids(kv_str("7 1 2 6"), &next, ids, &count));
    ck_assert(next == 7 && count == 3 && ids[2] == 6);
    ck_assert(!exec_node_ids(kv_str(""), &next, ids, &count));
    ck_assert(!exec_node_ids(kv_str("7  1"), &next, ids, &count));
    ck_assert(!exec_node_ids(kv_str("x"), &next, ids, &count));
    ck_assert(!exec_node_ids(kv_str("7 0"), &next, ids, &count));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exec_nodes");
    TCase *tc = tcase_create("exec_nodes");
    tcase_add_checked_fixture(tc, setup, system_teardown);
    tcase_add_test(tc, a_token_lets_one_node_in);
    tcase_add_test(tc, others_are_refused);
    tcase_add_test(tc, states_change_and_removal_is_for_good);
    tcase_add_test(tc, roles_change_while_others_have_them);
    tcase_add_test(tc, there_is_room_for_a_limited_number);
    tcase_add_test(tc, the_list_of_ids_is_read_strictly);
    suite_add_tcase(suite, tc);
    return unit_finish(suite);
}

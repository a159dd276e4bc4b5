#include <stdio.h>
#include <stdlib.h>

#include "client/router.h"
#include "tests/unit/unit.h"

/* The router is pure: every test is a table of what it was told and what it answered. */

static struct router *router;
static const uint8_t key_of_node[32] = {7};
static struct kv_node_info nodes[4] = {{.id = 1, .host = {(const uint8_t *)"127.0.0.1", 9}, .port = 7401},
                                       {.id = 2, .host = {(const uint8_t *)"127.0.0.2", 9}, .port = 7401},
                                       {.id = 3, .host = {(const uint8_t *)"127.0.0.3", 9}, .port = 7401, .key = {key_of_node, 32}}};
static struct kv_partition_info parts[3];
static struct kv_map_info map;

static struct kv_partition_info part(uint32_t id, const char *from, const char *to, uint32_t epoch, uint32_t leader)
{
    return (struct kv_partition_info){.id = id, .keyspace = 1, .range_epoch = epoch, .conf_epoch = 1, .leader = leader, .from = kv_str(from), .to = kv_str(to), .nodes = {1, 2, 3}, .node_count = 3};
}

static void setup(void)
{
    static const struct env_addr seed = {.host = "127.0.0.9", .port = 7401};
    router = router_create(&(struct router_options){.seeds = &seed, .seed_count = 1, .seed = 42});
    parts[0] = part(1, "a", "h", 1, 1);
    parts[1] = part(2, "h", "p", 1, 2);
    parts[2] = part(3, "p", "", 1, 0);
    map = (struct kv_map_info){.nodes = nodes, .node_count = 3, .partitions = parts, .partition_count = 3};
}

static void teardown(void)
{
    router_destroy(router);
}

static struct route_attempt attempt(const char *key)
{
    return (struct route_attempt){.key = kv_str(key), .deadline_ns = KV_SECONDS(5), .idempotent = true};
}

static struct route_attempt after(const char *key, enum kv_err err, uint32_t tries)
{
    struct route_attempt a = attempt(key);
    a.last_err = err;
    a.tries = tries;
    return a;
}

START_TEST(without_a_map_it_asks_a_seed_for_one)
{
    struct route_attempt a = attempt("b");
    struct route r = router_next(router, &a, 0);
    ck_assert_int_eq(r.action, ROUTE_REFRESH);
    ck_assert_str_eq(r.to.host, "127.0.0.9");
    ck_assert_uint_eq(r.node, 0);
}
END_TEST

START_TEST(a_key_goes_to_the_leader_of_its_partition_with_its_epoch)
{
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    struct route_attempt a = attempt("i");
    struct route r = router_next(router, &a, 0);
    ck_assert_int_eq(r.action, ROUTE_SEND);
    ck_assert_uint_eq(r.node, 2);
    ck_assert(r.pinned);
    ck_assert_uint_eq(r.partition, 2);
    ck_assert_uint_eq(r.range_epoch, 1);
    a = attempt("h"); /* a range begins with `from` and ends before `to` */
    ck_assert_uint_eq(router_next(router, &a, 0).partition, 2);
    a = attempt("gz");
    ck_assert_uint_eq(router_next(router, &a, 0).partition, 1);
    a = attempt("zz");
    ck_assert_uint_eq(router_next(router, &a, 0).partition, 3);
}
END_TEST

START_TEST(without_a_leader_replicas_are_asked_in_turn)
{
    bool seen[4] = {false};
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    struct route_attempt a = attempt("q");
    for (int i = 0; i < 3; i++) seen[router_next(router, &a, 0).node] = true;
    ck_assert(seen[1] && seen[2] && seen[3]);
}
END_TEST

START_TEST(a_learned_leader_is_used_and_its_key_told)
{
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    router_learn_leader(router, 3, 3);
    struct route_attempt a = attempt("q");
    struct route r = router_next(router, &a, 0);
    ck_assert_uint_eq(r.node, 3);
    ck_assert_mem_eq(r.key, key_of_node, 32);
    router_learn_leader(router, 3, 77); /* a node nobody knows is no leader to dial */
    ck_assert_uint_eq(router_next(router, &a, 0).node, 3);
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK); /* that map knows no leader: keep ours */
    ck_assert_uint_eq(router_next(router, &a, 0).node, 3);
}
END_TEST

START_TEST(a_failed_leader_is_avoided_and_returned_to)
{
    static const struct env_addr one = {.host = "127.0.0.1", .port = 7401};
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    router_learn_failure(router, &one, 0);
    struct route_attempt a = after("b", KV_CLOSED, 1);
    struct route r = router_next(router, &a, KV_MS(10));
    ck_assert_int_eq(r.action, ROUTE_SEND); /* another may know better: at once */
    ck_assert_uint_ne(r.node, 1);
    a = attempt("b");
    ck_assert_uint_eq(router_next(router, &a, KV_MS(51)).node, 1);
    router_learn_failure(router, &one, KV_MS(60)); /* twice: for 100 ms */
    ck_assert_uint_ne(router_next(router, &a, KV_MS(150)).node, 1);
    router_learn_success(router, &one);
    ck_assert_uint_eq(router_next(router, &a, KV_MS(150)).node, 1);
}
END_TEST

START_TEST(with_all_down_the_soonest_is_tried)
{
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    for (int i = 1; i <= 3; i++) {
        struct env_addr to = {.port = 7401};
        snprintf(to.host, sizeof to.host, "127.0.0.%d", i);
        router_learn_failure(router, &to, KV_MS(10 * (4 - i)));
    }
    struct route_attempt a = attempt("b");
    static const struct env_addr seed = {.host = "127.0.0.9", .port = 7401};
    router_learn_failure(router, &seed, KV_MS(30));
    struct route r = router_next(router, &a, KV_MS(35));
    ck_assert_int_eq(r.action, ROUTE_SEND);
    ck_assert_uint_eq(r.node, 3);
}
END_TEST

START_TEST(pauses_grow_stay_below_their_cap_and_differ)
{
    uint64_t longest = 0, shortest = UINT64_MAX;
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    for (uint32_t tries = 2; tries < 200; tries++) {
        struct route_attempt a = after("b", KV_NO_LEADER, tries);
        struct route r = router_next(router, &a, 0);
        ck_assert_int_eq(r.action, ROUTE_WAIT);
        uint64_t cap = tries - 1 < 6 ? KV_MS(5) << (tries - 1) : KV_MS(250);
        ck_assert_uint_le(r.delay_ns, cap < KV_MS(250) ? cap : KV_MS(250));
        if (r.delay_ns > longest) longest = r.delay_ns;
        if (r.delay_ns < shortest) shortest = r.delay_ns;
    }
    ck_assert_uint_gt(longest, KV_MS(200)); /* full jitter: from nothing up to the cap */
    ck_assert_uint_lt(shortest, KV_MS(20));
}
END_TEST

START_TEST(after_a_pause_it_sends)
{
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    struct route_attempt a = after("b", KV_NO_LEADER, 3);
    ck_assert_int_eq(router_next(router, &a, 0).action, ROUTE_WAIT);
    a.rested = true;
    ck_assert_int_eq(router_next(router, &a, 0).action, ROUTE_SEND);
}
END_TEST

START_TEST(a_hint_is_the_least_to_wait)
{
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    struct route_attempt a = after("b", KV_BUSY, 1);
    a.retry_after_ns = KV_MS(700);
    struct route r = router_next(router, &a, 0);
    ck_assert_int_eq(r.action, ROUTE_WAIT);
    ck_assert_uint_ge(r.delay_ns, KV_MS(700));
    a.retry_after_ns = KV_SECONDS(6); /* beyond the deadline: say so now */
    r = router_next(router, &a, 0);
    ck_assert_int_eq(r.action, ROUTE_GIVE_UP);
    ck_assert_int_eq(r.err, KV_BUSY);
}
END_TEST

START_TEST(the_deadline_ends_everything_with_the_last_cause)
{
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    struct route_attempt a = attempt("b");
    struct route r = router_next(router, &a, KV_SECONDS(5));
    ck_assert_int_eq(r.action, ROUTE_GIVE_UP);
    ck_assert_int_eq(r.err, KV_TIMEOUT);
    a = after("b", KV_NO_LEADER, 9);
    r = router_next(router, &a, KV_SECONDS(5));
    ck_assert_int_eq(r.err, KV_NO_LEADER);
    r = router_next(router, &a, KV_SECONDS(5) - KV_MS(110)); /* never sleeps past it */
    ck_assert_int_eq(r.action, ROUTE_WAIT);
    ck_assert_uint_lt(r.delay_ns, KV_MS(110));
    /* Too late for a node to say more than that: a try without an answer would hide the cause. */
    r = router_next(router, &a, KV_SECONDS(5) - KV_MS(30));
    ck_assert_int_eq(r.action, ROUTE_GIVE_UP);
    ck_assert_int_eq(r.err, KV_NO_LEADER);
    a = after("b", KV_NOT_LEADER, 1); /* another node may answer at once */
    r = router_next(router, &a, KV_SECONDS(5) - KV_MS(30));
    ck_assert_int_eq(r.action, ROUTE_SEND);
}
END_TEST

START_TEST(verdicts_are_final_and_unsafe_repeats_refused)
{
    static const enum kv_err finals[] = {KV_NOT_FOUND, KV_CONDITION, KV_WRONG_TYPE, KV_AUTH, KV_DENIED,
                                         KV_TOO_BIG, KV_BAD_ARGUMENT, KV_CROSS_SHARD, KV_NO_SPACE, KV_WRONG_CLUSTER};
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    for (size_t i = 0; i < sizeof finals / sizeof finals[0]; i++) {
        struct route_attempt a = after("b", finals[i], 1);
        struct route r = router_next(router, &a, 0);
        ck_assert_int_eq(r.action, ROUTE_GIVE_UP);
        ck_assert_int_eq(r.err, finals[i]);
    }
    struct route_attempt a = after("b", KV_CLOSED, 1);
    a.maybe = true;
    ck_assert_int_eq(router_next(router, &a, 0).action, ROUTE_SEND);
    a.idempotent = false;
    ck_assert_int_eq(router_next(router, &a, 0).action, ROUTE_GIVE_UP);
}
END_TEST

START_TEST(a_stale_map_is_refreshed_once)
{
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    router_learn_stale(router);
    struct route_attempt a = after("b", KV_WRONG_SHARD, 1);
    ck_assert_int_eq(router_next(router, &a, 0).action, ROUTE_REFRESH);
    parts[0].range_epoch = 2;
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    a.rested = true;
    struct route r = router_next(router, &a, 0);
    ck_assert_int_eq(r.action, ROUTE_SEND);
    ck_assert_uint_eq(r.range_epoch, 2);
}
END_TEST

START_TEST(a_map_that_was_behind_is_asked_for_again)
{
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    router_learn_stale(router);
    struct route_attempt a = after("b", KV_WRONG_SHARD, 2);
    ck_assert_int_eq(router_next(router, &a, 0).action, ROUTE_WAIT);
    a.rested = true;
    ck_assert_int_eq(router_next(router, &a, 0).action, ROUTE_REFRESH);
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    ck_assert_int_eq(router_next(router, &a, 0).action, ROUTE_SEND);
}
END_TEST

START_TEST(an_older_descriptor_never_replaces_a_newer_one)
{
    parts[0].range_epoch = 5;
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    parts[0].range_epoch = 4;
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    ck_assert_uint_eq(router_partition(router, kv_str("b"))->range_epoch, 5);
    parts[0].range_epoch = 5;
    parts[0].conf_epoch = 9;
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    ck_assert_uint_eq(router_partition(router, kv_str("b"))->conf_epoch, 9);
}
END_TEST

START_TEST(of_two_that_overlap_the_higher_epoch_stays)
{
    parts[0] = part(1, "a", "p", 1, 1); /* not yet told of its split */
    parts[1] = part(2, "h", "p", 2, 2);
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    ck_assert_uint_eq(router_partition(router, kv_str("i"))->id, 2);
    ck_assert_ptr_null(router_partition(router, kv_str("b"))); /* rather ask again than guess */
    struct route_attempt a = attempt("b");
    ck_assert_int_eq(router_next(router, &a, 0).action, ROUTE_REFRESH);
    a.rested = true; /* the map cannot say: any node routes it */
    struct route r = router_next(router, &a, 0);
    ck_assert_int_eq(r.action, ROUTE_SEND);
    ck_assert(!r.pinned);
}
END_TEST

START_TEST(an_empty_map_makes_nothing_forgotten)
{
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    struct kv_map_info empty = {.nodes = nodes, .node_count = 3, .partitions = parts, .partition_count = 0}; /* of a node that has just lost its disk */
    ck_assert_int_eq(router_learn_map(router, &empty), KV_OK);
    ck_assert_uint_eq(router_partition(router, kv_str("i"))->id, 2);
    parts[0] = part(1, "a", "p", 2, 1); /* 1 has absorbed 2 */
    struct kv_map_info merged = {.nodes = nodes, .node_count = 3, .partitions = parts, .partition_count = 1};
    ck_assert_int_eq(router_learn_map(router, &merged), KV_OK);
    ck_assert_uint_eq(router_partition(router, kv_str("i"))->id, 1);
    ck_assert_uint_eq(router_partition(router, kv_str("q"))->id, 3);
    ck_assert_uint_eq(router_map(router)->partition_count, 2);
}
END_TEST

START_TEST(with_all_its_nodes_down_a_seed_is_tried)
{
    parts[2].node_count = 1;
    parts[2].leader = 1;
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    for (int i = 1; i <= 3; i++) {
        struct env_addr to = {.port = 7401};
        snprintf(to.host, sizeof to.host, "127.0.0.%d", i);
        router_learn_failure(router, &to, 0);
    }
    struct route_attempt a = attempt("q");
    ck_assert_str_eq(router_next(router, &a, KV_MS(1)).to.host, "127.0.0.9");
}
END_TEST

START_TEST(a_bad_map_changes_nothing)
{
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    struct kv_map_info bad = map;
    bad.node_count = 0;
    ck_assert_int_eq(router_learn_map(router, &bad), KV_MALFORMED);
    parts[0].to = kv_str("A"); /* before its from */
    ck_assert_int_eq(router_learn_map(router, &map), KV_MALFORMED);
    parts[0].to = kv_str("h");
    parts[0].node_count = 0;
    ck_assert_int_eq(router_learn_map(router, &map), KV_MALFORMED);
    ck_assert_uint_eq(router_partition(router, kv_str("b"))->node_count, 3);
}
END_TEST

/* Nodes 1 and 2 hold the data, 3 takes clients. */
START_TEST(only_gateways_are_asked)
{
    struct kv_node_info roled[3] = {nodes[0], nodes[1], nodes[2]};
    roled[0].roles = KV_NODE_STORAGE;
    roled[1].roles = KV_NODE_STORAGE | KV_NODE_COORDINATOR;
    roled[2].roles = KV_NODE_GATEWAY;
    struct env_addr seeds[2] = {{.host = "127.0.0.1", .port = 7401}, {.host = "127.0.0.3", .port = 7401}};
    struct router *r = router_create(&(struct router_options){.seeds = seeds, .seed_count = 2, .seed = 7});
    map.nodes = roled;
    for (uint32_t i = 0; i < 3; i++) parts[i].nodes[0] = 1, parts[i].nodes[1] = 2, parts[i].node_count = 2;
    ck_assert_int_eq(router_learn_map(r, &map), KV_OK);
    const char *const keys[] = {"b", "i", "q", ""};
    for (int again = 0; again < 3; again++)
        for (size_t k = 0; k < 4; k++) {
            struct route_attempt a = attempt(keys[k]);
            struct route to = router_next(r, &a, 0);
            ck_assert_int_eq(to.action, ROUTE_SEND);
            ck_assert_uint_eq(to.node, 3);
            ck_assert(k == 3 || to.pinned);
        }
    router_learn_failure(r, &seeds[1], 0);
    struct route_attempt a = attempt("b");
    struct route to = router_next(r, &a, 1); /* others may be gateways by now, and whoever is up knows */
    ck_assert_int_eq(to.action, ROUTE_REFRESH);
    ck_assert_uint_ne(to.node, 3);
    ck_assert_int_eq(router_learn_map(r, &map), KV_OK);
    to = router_next(r, &a, 1);
    ck_assert_int_eq(to.action, ROUTE_SEND);
    ck_assert_uint_eq(to.node, 3); /* whoever holds it would not answer */
    a = attempt("");
    a.node = 1; /* an operator asks that node itself */
    ck_assert_uint_eq(router_next(r, &a, 1).node, 1);
    parts[0].keyspace = KV_KEYSPACE_SYSTEM; /* what is asked of the cluster any node answers when there is no gateway */
    parts[0].conf_epoch = 2;
    ck_assert_int_eq(router_learn_map(r, &map), KV_OK);
    a = attempt("b");
    ck_assert_uint_ne(router_next(r, &a, 1).node, 3);
    router_destroy(r);
}
END_TEST

START_TEST(a_named_node_and_no_other)
{
    struct route_attempt a = attempt("");
    a.node = 2;
    ck_assert_int_eq(router_next(router, &a, 0).action, ROUTE_REFRESH);
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    a.rested = true;
    for (int i = 0; i < 5; i++) ck_assert_uint_eq(router_next(router, &a, 0).node, 2);
    a.node = 9;
    struct route r = router_next(router, &a, 0);
    ck_assert_int_eq(r.action, ROUTE_GIVE_UP);
    ck_assert_int_eq(r.err, KV_NOT_FOUND);
}
END_TEST

START_TEST(the_map_outlives_the_bytes_it_came_from)
{
    char from[] = "a", to[] = "h";
    parts[0].from = kv_str(from);
    parts[0].to = kv_str(to);
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    from[0] = to[0] = 'z';
    ck_assert_uint_eq(router_partition(router, kv_str("b"))->id, 1);
}
END_TEST

static struct kv_keyspace keyspace(uint32_t id, const char *name, enum kv_key_kind kind)
{
    return (struct kv_keyspace){.id = id, .name = kv_str(name), .kind = kind};
}

/* A node may be behind, or know none: what is told of the later state of partition 0 stays. */
START_TEST(keyspaces_are_those_of_the_later_state)
{
    struct kv_keyspace all[] = {keyspace(1, "default", KV_KEY_HASH), keyspace(2, "users", KV_KEY_RANGE)}, made = keyspace(3, "users", KV_KEY_RANGE);
    parts[2].keyspace = 2;
    map.keyspaces = all;
    map.keyspace_count = 2;
    map.directory = 5;
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    const struct kv_keyspace *k = router_keyspace(router, 0, kv_str("users"));
    ck_assert_ptr_nonnull(k);
    ck_assert_uint_eq(k->rule.keyspace, 2);
    ck_assert_int_eq((int)k->rule.kind, KV_KEY_RANGE);
    ck_assert_ptr_eq(router_keyspace(router, 2, kv_slice(NULL, 0)), k);
    ck_assert_ptr_null(router_keyspace(router, 7, kv_slice(NULL, 0)));
    ck_assert_ptr_nonnull(router_partition(router, kv_str("x")));
    map.keyspace_count = 1; /* of a node that is behind, then of one that knows nothing */
    map.directory = 4;
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    ck_assert_ptr_nonnull(router_keyspace(router, 0, kv_str("users")));
    map.keyspace_count = 0;
    map.directory = 0;
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    ck_assert_ptr_nonnull(router_keyspace(router, 0, kv_str("users")));
    ck_assert_ptr_nonnull(router_partition(router, kv_str("x")));
    map.keyspaces = &made; /* dropped, and made anew: its old partitions are no more */
    map.keyspace_count = 1;
    map.directory = 9;
    map.partition_count = 2;
    ck_assert_int_eq(router_learn_map(router, &map), KV_OK);
    ck_assert_uint_eq(router_keyspace(router, 0, kv_str("users"))->id, 3);
    ck_assert_ptr_null(router_partition(router, kv_str("x")));
}
END_TEST

static struct env_addr at(uint32_t node)
{
    struct env_addr a = {.port = 7401};
    snprintf(a.host, sizeof a.host, "127.0.0.%u", node);
    return a;
}

static uint32_t asked_at_a_level(struct route_attempt a, uint64_t now_ns)
{
    a.is_anywhere = true;
    struct route r = router_next(router, &a, now_ns);
    ck_assert_int_eq(r.action, ROUTE_SEND);
    return r.node;
}

START_TEST(a_read_of_any_replica_goes_to_the_one_that_answers_soonest)
{
    uint32_t met = 0;
    router_learn_map(router, &map);
    for (uint32_t i = 0; i < 3; i++) met |= 1u << asked_at_a_level(attempt("b"), 0);
    ck_assert_uint_eq(met, 1u << 1 | 1u << 2 | 1u << 3); /* nothing known: in turns */
    for (uint32_t node = 1; node <= 3; node++) {
        struct env_addr to = at(node);
        router_read_asked(router, &to, 1);
        router_read_answered(router, &to, KV_MS(node == 2 ? 1 : 20), 1);
    }
    for (uint32_t i = 0; i < 3; i++) ck_assert_uint_eq(asked_at_a_level(attempt("b"), 1), 2);
    ck_assert_uint_eq(router_nearest(router, &parts[0], 1), 2);
    struct env_addr two = at(2);
    for (uint32_t i = 0; i < 20; i++) router_read_asked(router, &two, 1); /* busy: 21 x 1 ms is more than 20 */
    ck_assert_uint_ne(asked_at_a_level(attempt("b"), 1), 2);
    router_learn_map(router, &map); /* what is known outlives a new map */
    ck_assert_uint_ne(asked_at_a_level(attempt("b"), 1), 2);
    for (uint32_t i = 0; i < 20; i++) router_read_answered(router, &two, 0, 1);
    ck_assert_uint_eq(asked_at_a_level(attempt("b"), 1), 2);
    router_learn_failure(router, &two, 1);
    ck_assert_uint_ne(asked_at_a_level(attempt("b"), 1), 2);
}
END_TEST

START_TEST(a_replica_that_refused_such_a_read_sends_it_to_the_leader)
{
    router_learn_map(router, &map);
    struct route_attempt a = after("b", KV_NOT_LEADER, 1);
    for (uint32_t i = 0; i < 5; i++) ck_assert_uint_eq(asked_at_a_level(a, 1), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("router");
    TCase *t = tcase_create("router");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, without_a_map_it_asks_a_seed_for_one);
    tcase_add_test(t, a_key_goes_to_the_leader_of_its_partition_with_its_epoch);
    tcase_add_test(t, without_a_leader_replicas_are_asked_in_turn);
    tcase_add_test(t, a_learned_leader_is_used_and_its_key_told);
    tcase_add_test(t, a_failed_leader_is_avoided_and_returned_to);
    tcase_add_test(t, with_all_down_the_soonest_is_tried);
    tcase_add_test(t, pauses_grow_stay_below_their_cap_and_differ);
    tcase_add_test(t, after_a_pause_it_sends);
    tcase_add_test(t, a_hint_is_the_least_to_wait);
    tcase_add_test(t, the_deadline_ends_everything_with_the_last_cause);
    tcase_add_test(t, verdicts_are_final_and_unsafe_repeats_refused);
    tcase_add_test(t, a_stale_map_is_refreshed_once);
    tcase_add_test(t, a_map_that_was_behind_is_asked_for_again);
    tcase_add_test(t, an_older_descriptor_never_replaces_a_newer_one);
    tcase_add_test(t, of_two_that_overlap_the_higher_epoch_stays);
    tcase_add_test(t, an_empty_map_makes_nothing_forgotten);
    tcase_add_test(t, keyspaces_are_those_of_the_later_state);
    tcase_add_test(t, with_all_its_nodes_down_a_seed_is_tried);
    tcase_add_test(t, a_bad_map_changes_nothing);
    tcase_add_test(t, only_gateways_are_asked);
    tcase_add_test(t, a_named_node_and_no_other);
    tcase_add_test(t, the_map_outlives_the_bytes_it_came_from);
    tcase_add_test(t, a_read_of_any_replica_goes_to_the_one_that_answers_soonest);
    tcase_add_test(t, a_replica_that_refused_such_a_read_sends_it_to_the_leader);
    suite_add_tcase(suite, t);
    return unit_finish(suite);
}

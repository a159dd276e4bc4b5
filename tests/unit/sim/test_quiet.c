#include "client/base/text.h"
#include "server/map.h"
#include "server/request.h"
#include "tests/sim/cluster_impl.h"
#include "tests/unit/unit.h"
#include <sodium.h>
#include <stdio.h>

/* Partitions that nobody uses send nothing, and are there all the same: for clients, and for the death, the
 * silence, the return and the loss of any node. */
enum { NODES = 3,
       QUIET_MS = 500,
       SETTLE_MS = 12000,   /* leaderships are where they belong, and all groups quiet */
       ANSWER_MS = 100,     /* of a quiet group whose leader is there */
       ELECTED_MS = 500,    /* once its leader is known to be gone */
       NOTICED_MS = 1000 }; /* once its leader's node is silent */
static struct cluster *cluster;
static struct sim *sim;
static uint32_t leader, follower, third, partition;

static void tune(void *context, struct config *c)
{
    (void)context;
    c->raft_quiet = KV_MS(QUIET_MS);
}

static void run(uint64_t ms)
{
    sim_run_until(sim, sim_now_ns(sim) + KV_MS(ms));
}

static struct group *replica(uint32_t node)
{
    return worker_group(cluster_worker(cluster, node), partition);
}

/* Is every replica on every node that runs quiet, and looked at by nobody? */
static bool all_quiet(void)
{
    for (uint32_t i = 1; i <= NODES; i++) {
        const struct worker *w = cluster_worker(cluster, i);
        uint32_t cursor = 0;
        uint64_t id;
        void *v;
        if (w == NULL) continue;
        if (w->active != NULL) return false;
        while (kv_map_next(&w->groups, &cursor, &id, &v))
            if (!raft_is_quiet(((struct group *)v)->raft)) return false;
    }
    return true;
}

static bool await_quiet(uint64_t ms)
{
    for (uint64_t end = sim_now_ns(sim) + KV_MS(ms); !all_quiet() && sim_now_ns(sim) < end;) run(10);
    return all_quiet();
}

/* Does some node but `but` lead every group? */
static bool all_led(uint32_t but)
{
    const struct worker *any = cluster_worker(cluster, but % NODES + 1);
    uint32_t cursor = 0;
    uint64_t id;
    void *v;
    while (kv_map_next(&any->groups, &cursor, &id, &v)) {
        bool led = false;
        for (uint32_t i = 1; i <= NODES; i++) {
            const struct worker *w = cluster_worker(cluster, i);
            const struct group *g = w == NULL || i == but ? NULL : worker_group(w, (uint32_t)id);
            led = led || (g != NULL && group_leads(g) && g->lead_index != 0 && g->applied >= g->lead_index);
        }
        if (!led) return false;
    }
    return true;
}

static void heal(void)
{
    for (uint32_t i = 1; i <= NODES; i++)
        for (uint32_t k = 1; k <= NODES; k++)
            if (i != k) sim_link_open(sim, cluster_host(cluster, i), cluster_host(cluster, k));
}

static uint64_t await_led(uint32_t but)
{
    uint64_t from = sim_now_ns(sim);
    while (!all_led(but) && sim_now_ns(sim) < from + KV_SECONDS(10)) run(1);
    return (sim_now_ns(sim) - from) / 1000000;
}

struct answer {
    bool is_done;
    enum kv_err err;
};
static void on_answer(struct request *r, const struct kv_reply *reply)
{
    *(struct answer *)r->owner = (struct answer){true, reply->err};
}

/* The milliseconds that took. */
static uint64_t ask(uint32_t node, enum kv_op op, enum kv_err *err)
{
    struct answer a = {0};
    struct kv_slice args[] = {kv_str("key"), kv_str("value")};
    struct request *r = request_make(cluster_worker(cluster, node));
    ck_assert_ptr_nonnull(r);
    r->body = (struct kv_request){.op = op, .args = args, .arg_count = op == KV_OP_SET ? 2 : 1, .keyspace = KV_KEYSPACE_DEFAULT};
    r->done = on_answer;
    r->owner = &a;
    uint64_t from = sim_now_ns(sim);
    request_start(r);
    while (!a.is_done && sim_step(sim)) {
    }
    *err = a.err;
    return (sim_now_ns(sim) - from) / 1000000;
}

/* WAIT for more replicas than there are: the milliseconds until it is told how many. */
static uint64_t await_acks(uint64_t wait_ms, enum kv_err *err)
{
    struct answer a = {0};
    char text[21];
    struct kv_slice args[] = {kv_str("0"), kv_str("9"), kv_slice(text, kv_format_i64((int64_t)wait_ms, text))};
    struct request *r = request_make(cluster_worker(cluster, leader));
    ck_assert_ptr_nonnull(r);
    r->body = (struct kv_request){.op = KV_OP_KVAWAIT,
                                  .args = args,
                                  .arg_count = 3,
                                  .keyspace = KV_KEYSPACE_DEFAULT,
                                  .pinned = true,
                                  .partition = partition,
                                  .range_epoch = replica(leader)->descriptor.range_epoch};
    r->done = on_answer;
    r->owner = &a;
    uint64_t from = sim_now_ns(sim);
    request_start(r);
    while (!a.is_done && sim_step(sim)) {
    }
    *err = a.err;
    return (sim_now_ns(sim) - from) / 1000000;
}

static void begin(uint64_t seed)
{
    char why[256];
    sim = sim_create(&(struct sim_options){
        .seed = seed, .wall_start_ms = 1767225600000, .net = {.delay_min_ns = 100000, .delay_max_ns = 300000}});
    cluster = cluster_create(&(struct cluster_options){
        .sim = sim, .nodes = NODES, .seed = seed, .tune = tune, .sync_min_ns = 100000, .sync_max_ns = 200000});
    for (uint32_t node = 1; node <= NODES; node++) ck_assert(cluster_start(cluster, node));
    run(SETTLE_MS);
    ck_assert_msg(cluster_settled(cluster, why, sizeof why), "%s", why);
    ck_assert(all_quiet());
    partition = map_slot(cluster_worker(cluster, 1), kv_slot(kv_str("key")))->group->id;
    leader = group_leader_node(replica(1));
    follower = leader % NODES + 1;
    third = follower % NODES + 1;
}

static void end(void)
{
    char why[256];
    run(5000);
    ck_assert_msg(cluster_settled(cluster, why, sizeof why), "%s", why);
    ck_assert(await_quiet(SETTLE_MS));
    cluster_destroy(cluster);
    sim_destroy(sim);
}

START_TEST(clients_wake_it)
{
    enum kv_err err;
    begin(1);
    uint32_t nodes[] = {leader, follower, third};
    for (uint32_t i = 0; i < 2 * NODES; i++) {
        ck_assert(!raft_lease_held(replica(leader)->raft, env_now_ns(cluster_worker(cluster, leader)->env)));
        ck_assert_uint_le(ask(nodes[i / 2], i % 2 == 0 ? KV_OP_SET : KV_OP_GET, &err), ANSWER_MS);
        ck_assert_int_eq(err, KV_OK);
        run(2);
        ck_assert(!raft_is_quiet(replica(leader)->raft) && !raft_is_quiet(replica(third)->raft));
        ck_assert(await_quiet(2 * QUIET_MS));
        run(QUIET_MS); /* the lease ends */
    }
    end();
}
END_TEST

START_TEST(who_waits_is_told)
{
    enum kv_err err;
    begin(3);
    ck_assert_uint_le(await_acks(300, &err), 300 + ANSWER_MS);
    ck_assert_int_eq(err, KV_OK);
    end();
}
END_TEST

START_TEST(nobody_asks_and_nothing_is_sent)
{
    begin(2);
    raft_term term = raft_term_now(replica(leader)->raft);
    for (uint32_t i = 0; i < 600; i++) {
        run(100);
        ck_assert(all_quiet());
    }
    ck_assert_uint_eq(raft_term_now(replica(leader)->raft), term);
    end();
}
END_TEST

START_TEST(its_leader_is_killed)
{
    begin((uint64_t)_i);
    cluster_crash(cluster, leader, SIM_KILL);
    ck_assert_uint_le(await_led(leader), ELECTED_MS);
    run(2000);
    ck_assert(cluster_start(cluster, leader));
    end();
}
END_TEST

START_TEST(its_leader_is_cut_off)
{
    enum kv_err err;
    begin((uint64_t)_i);
    for (uint32_t i = 1; i <= NODES; i++)
        if (i != leader) sim_link_block(sim, cluster_host(cluster, i), cluster_host(cluster, leader));
    if (_i % 2 == 0)
        for (uint32_t i = 1; i <= NODES; i++)
            if (i != leader) sim_link_block(sim, cluster_host(cluster, leader), cluster_host(cluster, i));
    if (_i % 3 == 0) { /* a client comes to the others at once */
        ask(follower, KV_OP_SET, &err);
        ck_assert_int_eq(err, KV_OK);
    }
    ck_assert_uint_le(await_led(leader), NOTICED_MS);
    ask(leader, KV_OP_GET, &err); /* it has heard of nothing */
    ck_assert_int_ne(err, KV_OK);
    heal();
    end();
}
END_TEST

/* What breaks between its leader and one follower changes no leader. */
START_TEST(one_connection_breaks)
{
    begin((uint64_t)_i);
    raft_term term = raft_term_now(replica(third)->raft);
    sim_link_block(sim, cluster_host(cluster, leader), cluster_host(cluster, follower));
    sim_link_block(sim, cluster_host(cluster, follower), cluster_host(cluster, leader));
    run(3000);
    ck_assert_uint_eq(group_leader_node(replica(third)), leader);
    heal();
    run(1000);
    ck_assert_uint_eq(raft_term_now(replica(third)->raft), term);
    end();
}
END_TEST

START_TEST(a_follower_restarts)
{
    begin((uint64_t)_i);
    cluster_crash(cluster, follower, _i % 2 == 0 ? SIM_KILL : SIM_POWER);
    if (_i % 3 == 0) run(3000);
    ck_assert(cluster_start(cluster, follower));
    end();
}
END_TEST

/* A replica is found damaged while its group is quiet: the others have to be told. */
static void damage(uint32_t node)
{
    raft_id before = replica(node)->replica;
    group_corrupt(replica(node), "as a test wants it", 0);
    run(10000);
    ck_assert_ptr_nonnull(replica(node));
    ck_assert_uint_gt(replica(node)->replica, before);
}

START_TEST(a_replica_is_replaced)
{
    enum kv_err err;
    begin((uint64_t)_i);
    damage(_i % 2 == 0 ? leader : follower);
    ask(leader, KV_OP_SET, &err);
    ck_assert_int_eq(err, KV_OK);
    end();
}
END_TEST

int main(void)
{
    if (sodium_init() < 0) return EXIT_FAILURE;
    Suite *suite = suite_create("quiet");
    TCase *tc = tcase_create("quiet");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, clients_wake_it);
    tcase_add_test(tc, who_waits_is_told);
    tcase_add_test(tc, nobody_asks_and_nothing_is_sent);
    tcase_add_loop_test(tc, its_leader_is_killed, 0, 6);
    tcase_add_loop_test(tc, its_leader_is_cut_off, 0, 6);
    tcase_add_loop_test(tc, one_connection_breaks, 0, 6);
    tcase_add_loop_test(tc, a_follower_restarts, 0, 6);
    tcase_add_loop_test(tc, a_replica_is_replaced, 0, 6);
    suite_add_tcase(suite, tc);
    return unit_finish(suite);
}

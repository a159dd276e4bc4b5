#include "server/map.h"
#include "server/request.h"
#include "server/transfer.h"
#include "tests/sim/cluster.h"
#include "tests/unit/unit.h"
#include <sodium.h>

/* A snapshot whose last piece is still on its way to the disk when the log brings all that it holds. Whoever
 * sends it must hear that it is there, and no replica is refused, let alone replaced. */
static struct cluster *cluster;
static struct sim *sim;
static struct group *g, *leader; /* of one partition, and where it leads */
static uint32_t refused, answered, follower;

static void on_event(void *context, uint32_t node, const char *event)
{
    (void)context, (void)node;
    refused += strcmp(event, "snapshot-refused") == 0;
}

static void on_answer(struct request *r, const struct kv_reply *reply)
{
    (void)r;
    ck_assert_int_eq(reply->err, KV_OK);
    answered++;
}

static void run(uint64_t ms)
{
    sim_run_until(sim, sim_now_ns(sim) + KV_MS(ms));
}

static void write_at(uint32_t node)
{
    struct request *r = request_make(cluster_worker(cluster, node));
    struct kv_slice args[] = {kv_str("key"), kv_str("value")};
    ck_assert_ptr_nonnull(r);
    r->body = (struct kv_request){.op = KV_OP_SET, .args = args, .arg_count = 2};
    r->done = on_answer;
    request_start(r);
}

static void begin(uint64_t seed)
{
    char why[256];
    refused = answered = 0;
    sim = sim_create(&(struct sim_options){
        .seed = seed, .wall_start_ms = 1767225600000, .net = {.delay_min_ns = KV_MS(1), .delay_max_ns = KV_MS(1)}});
    cluster = cluster_create(&(struct cluster_options){
        .sim = sim, .nodes = 3, .seed = seed, .event = on_event, .sync_min_ns = KV_MS(1), .sync_max_ns = KV_MS(1)});
    for (uint32_t node = 1; node <= 3; node++) ck_assert(cluster_start(cluster, node));
    run(8000); /* leaderships stand where they belong */
    ck_assert_msg(cluster_settled(cluster, why, sizeof why), "%s", why);
    g = leader = NULL;
    uint32_t slot = kv_slot(kv_str("key"));
    for (uint32_t node = 1; node <= 3; node++) {
        struct group *at = map_slot(cluster_worker(cluster, node), slot)->group;
        if (group_leads(at)) leader = at;
        else g = at, follower = node;
    }
    ck_assert(g != NULL && leader != NULL);
}

static void end(void)
{
    cluster_destroy(cluster);
    sim_destroy(sim);
}

/* The first four bytes of a snapshot come to the follower. */
static void receive(uint64_t index, uint64_t term, uint64_t size)
{
    struct kv_buf descriptor = {0};
    descriptor_encode(&g->descriptor, &descriptor);
    transfer_receive(g->w, leader->w->node_id,
                     &(struct peer_snapshot){.group = g->id, .from = leader->replica, .to = g->replica, .id = 7, .term = term, .index = index, .index_term = term, .descriptor = kv_buf_slice(&descriptor), .size = size, .data = kv_str("rows")});
    kv_buf_free(&descriptor);
}

START_TEST(the_log_may_be_quicker)
{
    begin((uint64_t)_i);
    struct raft_status now;
    raft_status(g->raft, env_now_ns(g->w->env), &now);
    disk_sim_slow(cluster_disk(cluster, follower), 1, 400000); /* 0.4 s for what takes a microsecond */
    receive(now.last + 1, now.term, 4);
    for (int i = 0; i < 3; i++) write_at(leader->w->node_id);
    run(100);
    ck_assert_uint_eq(answered, 3);
    ck_assert_uint_ge(g->applied, now.last + 1);
    ck_assert_ptr_nonnull(g->w->inbound); /* its write is not over, or this proves nothing */
    run(20000);
    ck_assert_ptr_null(g->w->inbound);
    ck_assert(!g->installing);
    ck_assert_uint_eq(refused, 0);
    end();
}
END_TEST

/* What a sender began and did not end goes again: it takes up the disk. */
START_TEST(what_is_never_ended_is_forgotten)
{
    begin((uint64_t)_i);
    struct raft_status now;
    raft_status(g->raft, env_now_ns(g->w->env), &now);
    uint64_t before = disk_mem_bytes(disk_sim_mem(cluster_disk(cluster, follower)));
    receive(now.last + 1000, now.term, 100 << 10);
    run(1000);
    ck_assert_ptr_nonnull(g->w->inbound);
    ck_assert_uint_gt(disk_mem_bytes(disk_sim_mem(cluster_disk(cluster, follower))), before);
    run(70000);
    ck_assert_ptr_null(g->w->inbound);
    ck_assert_uint_eq(disk_mem_bytes(disk_sim_mem(cluster_disk(cluster, follower))), before);
    end();
}
END_TEST

/* A piece is proof of a leader to who takes it. Its sender may lose its place while the piece is read. */
START_TEST(who_is_deposed_sends_no_more)
{
    begin((uint64_t)_i);
    disk_sim_slow(cluster_disk(cluster, leader->w->node_id), 1, 5000); /* 5 ms for what takes a microsecond */
    for (uint64_t attempt = 0; attempt < 40 && group_leads(leader); attempt++) {
        transfer_send(leader, g->replica);
        sim_run_until(sim, sim_now_ns(sim) + attempt * 250000);
        raft_term next = raft_term_now(leader->raft) + 1;
        struct raft_msg outdated = {.type = RAFT_HEARTBEAT_REPLY, .from = g->replica, .to = leader->replica, .term = next, .reject = true};
        raft_step(leader->raft, &outdated, env_now_ns(leader->w->env));
        group_touch(leader);
        for (uint64_t end = sim_now_ns(sim) + KV_MS(30); sim_now_ns(sim) < end && sim_step(sim);)
            ck_assert(raft_term_now(g->raft) != next || raft_leader_now(g->raft) != leader->replica);
        run(6000); /* it leads again */
    }
    ck_assert(group_leads(leader));
    end();
}
END_TEST

int main(void)
{
    if (sodium_init() < 0) return 1;
    Suite *suite = suite_create("transfer");
    TCase *c = tcase_create("transfer");
    tcase_add_loop_test(c, the_log_may_be_quicker, 1, 4);
    tcase_add_loop_test(c, what_is_never_ended_is_forgotten, 1, 4);
    tcase_add_loop_test(c, who_is_deposed_sends_no_more, 1, 4);
    tcase_set_timeout(c, 60);
    suite_add_tcase(suite, c);
    return unit_finish(suite);
}

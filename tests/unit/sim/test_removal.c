#include "server/nodes.h"
#include "server/request.h"
#include "tests/sim/cluster.h"
#include "tests/unit/unit.h"
#include <stdio.h>

/* Who leads partition 0 after a restart has heard of no partition yet: nothing says that a node holds no replica. */
enum { COORDINATORS = 3, /* nodes 1 to 3; the others hold the data */
       NODES = 6 };
static struct sim *sim;
static struct cluster *cluster;
static enum kv_err last;
static char said[256];
static uint32_t answers;

static void run(uint64_t ms)
{
    sim_run_until(sim, sim_now_ns(sim) + KV_MS(ms));
}

static void answered(struct request *r, const struct kv_reply *reply)
{
    (void)r;
    answers++;
    last = reply->err;
    snprintf(said, sizeof said, "%.*s", (int)reply->detail.size, reply->detail.size == 0 ? "" : (const char *)reply->detail.data);
}

static void ask_for_removal(uint32_t node, const char *of)
{
    struct kv_slice args[] = {kv_str(of), kv_str("removed")};
    struct request *r = request_make(cluster_worker(cluster, node));
    ck_assert_ptr_nonnull(r);
    answers = 0;
    r->done = answered;
    r->body = (struct kv_request){.op = KV_OP_KSNODE, .args = args, .arg_count = 2, .keyspace = KV_KEYSPACE_DEFAULT};
    request_start(r);
    for (uint32_t i = 0; i < 200 && answers == 0; i++) run(100);
    ck_assert_uint_eq(answers, 1);
}

static void begin(void)
{
    static const uint32_t roles[] = {0, KV_NODE_COORDINATOR | KV_NODE_GATEWAY, KV_NODE_COORDINATOR | KV_NODE_GATEWAY, KV_NODE_COORDINATOR | KV_NODE_GATEWAY,
                                     KV_NODE_STORAGE, KV_NODE_STORAGE, KV_NODE_STORAGE};
    sim = sim_create(&(struct sim_options){.seed = 5, .wall_start_ms = 1767225600000, .net = {.delay_min_ns = 100000, .delay_max_ns = 300000}});
    cluster = cluster_create(&(struct cluster_options){
        .sim = sim, .nodes = NODES, .replicas = 3, .roles_of = roles, .seed = 5, .sync_min_ns = 100000, .sync_max_ns = 200000});
    for (uint32_t i = 1; i <= NODES; i++) ck_assert(cluster_start(cluster, i));
    run(5000);
}

static void end(void)
{
    cluster_destroy(cluster);
    sim_destroy(sim);
}

START_TEST(replicas_that_are_known_keep_a_node)
{
    begin();
    ask_for_removal(1, "4");
    ck_assert_int_eq(last, KV_CONDITION);
    ck_assert_msg(strstr(said, "still holds") != NULL, "%s", said);
    end();
}
END_TEST

START_TEST(partitions_that_are_not_known_keep_it_too)
{
    begin();
    for (uint32_t i = 1; i <= NODES; i++) cluster_crash(cluster, i, SIM_KILL);
    for (uint32_t i = 1; i <= COORDINATORS; i++) ck_assert(cluster_start(cluster, i));
    run(5000);
    ask_for_removal(1, "4");
    ck_assert_int_eq(last, KV_UNAVAILABLE);
    ck_assert_msg(strstr(said, "whether node 4 holds a replica of keyspace default") != NULL, "%s", said);
    for (uint32_t i = COORDINATORS + 1; i <= NODES; i++) ck_assert(cluster_start(cluster, i));
    run(5000);
    ask_for_removal(1, "4");
    ck_assert_int_eq(last, KV_CONDITION);
    end();
}
END_TEST

UNIT_MAIN("removal", replicas_that_are_known_keep_a_node, partitions_that_are_not_known_keep_it_too)

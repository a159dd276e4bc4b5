#include "client/kv_client.h"
#include "server/group.h"
#include "tests/sim/cluster.h"
#include "tests/unit/unit.h"
#include <sodium.h>
#include <string.h>

/* Reads of levels below linearizable where libkv would not go by itself: at a node without a replica, over several
 * partitions, and where a follower meets a deadline. */
enum { NODES = 5,
       REPLICAS = 3 };
#define VALUE "$5\r\nvalue\r\n"

struct world {
    struct sim *sim;
    struct cluster *cluster;
    struct env *env;
    struct kv_client *kv;
    struct kv_call call;
    struct kv_result result;
    struct kv_slice value; /* of it */
    uint8_t bytes[512];
    bool is_done;
};

static void world_make(struct world *w, uint64_t seed)
{
    *w = (struct world){.is_done = false};
    w->sim = sim_create(&(struct sim_options){
        .seed = seed, .wall_start_ms = 1767225600000, .net = {.delay_min_ns = 100000, .delay_max_ns = 300000}});
    ck_assert_ptr_nonnull(w->sim);
    w->cluster = cluster_create(&(struct cluster_options){
        .sim = w->sim, .nodes = NODES, .replicas = REPLICAS, .seed = seed, .sync_min_ns = 100000, .sync_max_ns = 200000});
    ck_assert_ptr_nonnull(w->cluster);
    struct kv_client_options o = {.timeout_ms = 3000, .seed_count = NODES};
    for (uint32_t i = 0; i < NODES; i++) {
        ck_assert(cluster_start(w->cluster, i + 1));
        snprintf(o.seeds[i].host, sizeof o.seeds[i].host, "10.0.0.%u", i + 1);
        o.seeds[i].port = CLUSTER_NATIVE_PORT;
    }
    cluster_client_identity(w->cluster, &o.identity);
    o.env = w->env = sim_host_env(sim_host_add(w->sim, "10.0.1.1"));
    ck_assert_int_eq(kv_client_create(&o, &w->kv), KV_OK);
}

static void world_end(struct world *w)
{
    kv_client_close(w->kv, NULL, NULL);
    sim_run_until(w->sim, sim_now_ns(w->sim) + KV_SECONDS(1));
    cluster_destroy(w->cluster);
    sim_destroy(w->sim);
}

static void on_done(struct kv_call *call)
{
    struct world *w = call->context;
    w->result = call->result;
    w->value.size = call->result.value.size < sizeof w->bytes ? call->result.value.size : 0;
    if (w->value.size > 0) memcpy(w->bytes, call->result.value.data, w->value.size);
    w->value.data = w->bytes;
    w->is_done = true;
}

/* At that node, 0: wherever libkv goes. */
static enum kv_err ask(struct world *w, uint32_t node, enum kv_op op, const struct kv_slice *args, uint32_t count, enum kv_level level)
{
    w->call = (struct kv_call){.op = op, .args = args, .arg_count = count, .node = node, .level = level, .bounded_ms = 10000, .done = on_done, .context = w};
    w->is_done = false;
    kv_client_call(w->kv, &w->call);
    while (!w->is_done && sim_step(w->sim)) {
    }
    return w->result.err;
}

static void put(struct world *w, const char *key, uint64_t ttl_ms)
{
    char deadline[24];
    snprintf(deadline, sizeof deadline, "%llu",
             (unsigned long long)(ttl_ms == 0 ? 0 : w->env->ops->wall_ns(w->env) / 1000000 + ttl_ms));
    struct kv_slice args[] = {kv_str(key), kv_str("value"), kv_str(deadline)};
    ck_assert_msg(ask(w, 0, KV_OP_KVPUT, args, 3, KV_LEVEL_LINEARIZABLE) == KV_OK, "%s", w->result.text);
}

/* A node that holds the partition and does not lead it, or, `holds` false, one that does not hold it. */
static uint32_t other_node(struct world *w, uint32_t partition, bool holds)
{
    for (uint32_t i = 1; i <= NODES; i++) {
        struct group *g = worker_group(cluster_worker(w->cluster, i), partition);
        if (holds ? g != NULL && !group_leads(g) : g == NULL) return i;
    }
    ck_abort_msg("no such node");
    return 0;
}

START_TEST(a_node_without_a_replica_passes_it_to_one)
{
    struct world w;
    struct kv_slice key = kv_str("k");
    world_make(&w, 1);
    put(&w, "k", 0);
    uint32_t partition = w.result.partition, asked = other_node(&w, partition, false), seen = 0;
    sim_run_until(w.sim, sim_now_ns(w.sim) + KV_SECONDS(1)); /* all replicas have it, and `any` finds it anywhere */
    for (uint32_t n = 0; n < 30; n++) {
        enum kv_level level = n % 3 == 0 ? KV_LEVEL_LEASE : n % 3 == 1 ? KV_LEVEL_BOUNDED
                                                                       : KV_LEVEL_ANY;
        ck_assert_msg(ask(&w, asked, KV_OP_KVGET, &key, 1, level) == KV_OK, "%s", w.result.text);
        ck_assert_int_eq(w.result.level, level);
        ck_assert_ptr_nonnull(worker_group(cluster_worker(w.cluster, w.result.node), partition));
        seen |= 1u << w.result.node;
    }
    ck_assert_uint_gt(cluster_worker(w.cluster, asked)->reads_sent, 29);
    ck_assert_uint_ne(seen & (seen - 1), 0); /* not one alone */
    world_end(&w);
}
END_TEST

START_TEST(many_keys_are_of_the_level_each)
{
    struct world w;
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    struct kv_slice keys[8];
    uint64_t before = 0, after = 0;
    world_make(&w, 2);
    for (uint32_t i = 0; i < 8; i++) {
        keys[i] = kv_str(names[i]);
        put(&w, names[i], 0);
    }
    for (uint32_t i = 1; i <= NODES; i++) before += cluster_worker(w.cluster, i)->reads[KV_LEVEL_BOUNDED];
    for (int level = KV_LEVEL_LINEARIZABLE; level <= KV_LEVEL_BOUNDED; level++) {
        ck_assert_msg(ask(&w, 0, KV_OP_MGET, keys, 8, (enum kv_level)level) == KV_OK, "%s", w.result.text);
        ck_assert(kv_slice_eq(w.value, kv_str("*8\r\n" VALUE VALUE VALUE VALUE VALUE VALUE VALUE VALUE)));
    }
    ck_assert_int_eq(w.result.level, KV_LEVEL_BOUNDED);
    ck_assert_uint_le(w.result.stale_ms, 10000);
    for (uint32_t i = 1; i <= NODES; i++) after += cluster_worker(w.cluster, i)->reads[KV_LEVEL_BOUNDED];
    ck_assert_uint_gt(after, before + 1); /* partitions */
    world_end(&w);
}
END_TEST

/* R14: its own clock is past the deadline, the partition's is not. */
START_TEST(what_has_expired_is_for_the_leader_to_say)
{
    struct world w;
    struct kv_slice key = kv_str("k");
    world_make(&w, 3);
    put(&w, "other", 0); /* and all are led */
    put(&w, "k", 100);
    uint32_t leader = w.result.node, partition = w.result.partition, asked = other_node(&w, partition, true);
    ck_assert_int_eq(ask(&w, asked, KV_OP_KVGET, &key, 1, KV_LEVEL_BOUNDED), KV_OK);
    ck_assert_uint_eq(w.result.node, asked);
    sim_run_until(w.sim, sim_now_ns(w.sim) + KV_MS(300));
    ck_assert_int_eq(ask(&w, asked, KV_OP_KVGET, &key, 1, KV_LEVEL_ANY), KV_NOT_FOUND);
    ck_assert_uint_eq(w.result.node, asked);
    ck_assert_int_eq(ask(&w, asked, KV_OP_KVGET, &key, 1, KV_LEVEL_BOUNDED), KV_NOT_FOUND);
    ck_assert_uint_eq(w.result.node, leader);
    ck_assert_int_eq(ask(&w, asked, KV_OP_KVGET, &key, 1, KV_LEVEL_LEASE), KV_NOT_FOUND);
    world_end(&w);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {a_node_without_a_replica_passes_it_to_one, many_keys_are_of_the_level_each,
                                  what_has_expired_is_for_the_leader_to_say};
    if (sodium_init() < 0) return EXIT_FAILURE;
    return unit_run("levels", tests, sizeof tests / sizeof tests[0]);
}

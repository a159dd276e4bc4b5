#include "client/kv_client.h"
#include "client/wire/join_token.h"
#include "server/node.h"
#include "server/nodes.h"
#include "tests/sim/cluster.h"
#include "tests/unit/unit.h"
#include <sodium.h>
#include <string.h>

/* Two nodes join three others while nodes die and links are cut, the joiners in the middle of their joining among
 * them. When all is healed everybody knows the same five, each token let in one of them, and the new ones serve. */
enum { FOUNDERS = 3,
       NODES = 5,
       STEPS = 60 };

struct world {
    struct sim *sim;
    struct cluster *cluster;
    struct kv_client *kv;
    struct kv_slice args[3];
    struct kv_call call;
    struct kv_result result;
    bool is_done;
    char keep[128];
};

static void tune(void *context, struct config *c)
{
    (void)context;
    c->coordinator_enabled = false;
    c->cluster_join_time = KV_SECONDS(3600);
}

static void run(struct world *w, uint64_t ms)
{
    uint64_t end_ns = sim_now_ns(w->sim) + KV_MS(ms);
    while (sim_now_ns(w->sim) < end_ns) {
        sim_run_until(w->sim, sim_now_ns(w->sim) + KV_MS(5));
        cluster_reap(w->cluster);
    }
}

static void on_done(struct kv_call *call)
{
    struct world *w = call->context;
    w->result = call->result;
    w->is_done = true;
}

static void ask(struct world *w, enum kv_op op, struct kv_slice a, struct kv_slice b, struct kv_slice c, uint32_t count)
{
    w->args[0] = a;
    w->args[1] = b;
    w->args[2] = c;
    w->call = (struct kv_call){.op = op, .args = w->args, .arg_count = count, .done = on_done, .context = w};
    w->is_done = false;
    kv_client_call(w->kv, &w->call);
    while (!w->is_done) run(w, 5);
    ck_assert_msg(w->result.err == KV_OK, "%s", w->result.text);
}

static void world_make(struct world *w, uint64_t seed)
{
    *w = (struct world){.is_done = false};
    w->sim = sim_create(&(struct sim_options){.seed = seed,
                                              .wall_start_ms = 1767225600000,
                                              .net = {.delay_min_ns = 100000, .delay_max_ns = 2000000}});
    ck_assert_ptr_nonnull(w->sim);
    w->cluster = cluster_create(&(struct cluster_options){
        .sim = w->sim, .nodes = NODES, .late = NODES - FOUNDERS, .seed = seed, .tune = tune, .sync_min_ns = 100000, .sync_max_ns = 2000000});
    ck_assert_ptr_nonnull(w->cluster);
    struct kv_client_options o = {.timeout_ms = 5000, .seed_count = FOUNDERS};
    for (uint32_t i = 0; i < FOUNDERS; i++) {
        ck_assert(cluster_start(w->cluster, i + 1));
        snprintf(o.seeds[i].host, sizeof o.seeds[i].host, "10.0.0.%u", i + 1);
        o.seeds[i].port = CLUSTER_NATIVE_PORT;
    }
    cluster_client_identity(w->cluster, &o.identity);
    o.env = sim_host_env(sim_host_add(w->sim, "10.0.1.1"));
    ck_assert_int_eq(kv_client_create(&o, &w->kv), KV_OK);
    ask(w, KV_OP_KVPUT, kv_str("greeting"), kv_str("hello"), kv_str("0"), 3);
}

static void invite(struct world *w, uint32_t node)
{
    struct join_token t = {.cluster = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, .secret = {(uint8_t)node}};
    uint8_t hash[JOIN_TOKEN_HASH_BYTES];
    char text[JOIN_TOKEN_TEXT_BYTES];
    join_token_hash(t.secret, hash);
    ask(w, KV_OP_KSTOKEN, kv_slice(hash, sizeof hash), kv_str("3600000"), kv_slice(NULL, 0), 2);
    join_token_print(&t, text);
    cluster_invite(w->cluster, node, text);
}

static bool runs(struct world *w, uint32_t node)
{
    return sim_host_up(cluster_host(w->cluster, node));
}

/* One more fault, or the end of one; of the founders at most one is away. */
static void trouble(struct world *w)
{
    uint32_t node = 1 + (uint32_t)(sim_random(w->sim) % NODES), founders = 0;
    for (uint32_t i = 1; i <= FOUNDERS; i++) founders += runs(w, i);
    if (!runs(w, node)) (void)cluster_start(w->cluster, node);
    else if (sim_random(w->sim) % 3 == 0 && (node > FOUNDERS || founders == FOUNDERS)) cluster_crash(w->cluster, node, sim_random(w->sim) % 2 == 0 ? SIM_KILL : SIM_POWER);
    uint32_t a = 1 + (uint32_t)(sim_random(w->sim) % NODES), b = 1 + (uint32_t)(sim_random(w->sim) % NODES);
    if (a == b) return;
    if (sim_random(w->sim) % 3 == 0) sim_link_block(w->sim, cluster_host(w->cluster, a), cluster_host(w->cluster, b));
    else sim_link_open(w->sim, cluster_host(w->cluster, a), cluster_host(w->cluster, b));
}

static void heal(struct world *w)
{
    for (uint32_t a = 1; a <= NODES; a++)
        for (uint32_t b = 1; b <= NODES; b++)
            if (a != b) sim_link_open(w->sim, cluster_host(w->cluster, a), cluster_host(w->cluster, b));
    for (uint32_t i = 1; i <= NODES; i++)
        if (!runs(w, i)) ck_assert_msg(cluster_start(w->cluster, i), "node %u: %s", i, cluster_why(w->cluster, i));
}

static void agreed(struct world *w)
{
    uint64_t version = 0;
    for (uint32_t i = 1; i <= NODES; i++) {
        const struct worker *k = cluster_worker(w->cluster, i);
        ck_assert_msg(k != NULL, "node %u does not run: %s", i, cluster_why(w->cluster, i));
        if (i == 1) version = nodes_version(k);
        ck_assert_uint_gt(version, 0);
        ck_assert_uint_eq(nodes_version(k), version);
        uint32_t count = 0;
        const struct nodes_entry *n;
        for (; (n = nodes_at(k, count)) != NULL; count++) {
            ck_assert_uint_eq(n->id, count + 1);
            ck_assert_int_eq(n->state, KV_NODE_UP);
        }
        ck_assert_uint_eq(count, NODES);
        ck_assert(!nodes_are_one(k));
    }
}

START_TEST(nodes_join_among_faults)
{
    struct world w;
    world_make(&w, (uint64_t)_i);
    for (uint32_t i = FOUNDERS + 1; i <= NODES; i++) {
        invite(&w, i);
        ck_assert(cluster_start(w.cluster, i));
    }
    for (uint32_t i = 0; i < STEPS; i++) {
        run(&w, sim_random(w.sim) % 60);
        trouble(&w);
    }
    heal(&w);
    run(&w, 10000);
    agreed(&w);
    /* They serve, and hold nothing. */
    kv_client_close(w.kv, NULL, NULL);
    struct kv_client_options o = {.timeout_ms = 5000, .seed_count = 1};
    snprintf(o.seeds[0].host, sizeof o.seeds[0].host, "10.0.0.%u", NODES);
    o.seeds[0].port = CLUSTER_NATIVE_PORT;
    cluster_client_identity(w.cluster, &o.identity);
    o.env = sim_host_env(sim_host_add(w.sim, "10.0.1.2"));
    ck_assert_int_eq(kv_client_create(&o, &w.kv), KV_OK);
    ask(&w, KV_OP_KVGET, kv_str("greeting"), kv_slice(NULL, 0), kv_slice(NULL, 0), 1);
    /* And a restart of all needs nobody to ask. */
    for (uint32_t i = 1; i <= NODES; i++) cluster_crash(w.cluster, i, SIM_KILL);
    for (uint32_t i = 1; i <= NODES; i++) ck_assert(cluster_start(w.cluster, i));
    for (uint32_t i = FOUNDERS + 1; i <= NODES; i++) ck_assert_ptr_nonnull(cluster_worker(w.cluster, i));
    run(&w, 5000);
    agreed(&w);
    kv_client_close(w.kv, NULL, NULL);
    run(&w, 100);
    cluster_destroy(w.cluster);
    sim_destroy(w.sim);
}
END_TEST

int main(void)
{
    if (sodium_init() < 0) return EXIT_FAILURE;
    Suite *suite = suite_create("join");
    TCase *tc = tcase_create("join");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, nodes_join_among_faults, 0, 20);
    suite_add_tcase(suite, tc);
    return unit_finish(suite);
}

#include "client/kv_client.h"
#include "tests/sim/cluster.h"
#include "tests/unit/unit.h"
#include <sodium.h>

/* Nodes cut from their peers, and clients that are not: what these have open there, and what they ask
 * there later, goes elsewhere long before their deadline, and takes effect once. */
enum { NODES = 5,
       TIMEOUT_MS = 3000,
       FAILOVER_MS = 1000,
       LEASE_MS = 200,
       KNOWN_MS = 100,
       STRANGERS = 8 };

struct client {
    struct kv_client *kv;
    struct sim *sim;
    struct kv_slice args[2];
    struct kv_call call;
    struct kv_result result;
    bool is_done;
    uint64_t took_ns;
};

struct world {
    struct sim *sim;
    struct cluster *cluster;
    struct client early, late;
};

static void client_open(struct world *w, struct client *c, const char *address)
{
    struct kv_client_options o = {.timeout_ms = TIMEOUT_MS, .seed_count = NODES};
    for (uint32_t i = 0; i < NODES; i++) {
        snprintf(o.seeds[i].host, sizeof o.seeds[i].host, "10.0.0.%u", i + 1);
        o.seeds[i].port = CLUSTER_NATIVE_PORT;
    }
    cluster_client_identity(w->cluster, &o.identity);
    o.env = sim_host_env(sim_host_add(w->sim, address));
    *c = (struct client){.sim = w->sim};
    ck_assert_int_eq(kv_client_create(&o, &c->kv), KV_OK);
}

static void on_done(struct kv_call *call)
{
    struct client *c = call->context;
    c->result = call->result;
    c->is_done = true;
    c->took_ns = sim_now_ns(c->sim) - c->took_ns;
}

static void begin(struct client *c, enum kv_op op)
{
    c->args[0] = kv_str("k");
    c->args[1] = kv_str("1");
    c->call = (struct kv_call){
        .op = op, .args = c->args, .arg_count = op == KV_OP_KVINCR ? 2 : 1, .done = on_done, .context = c};
    c->is_done = false;
    c->took_ns = sim_now_ns(c->sim);
    kv_client_call(c->kv, &c->call);
}

static void finish(struct client *c, uint64_t ms_max)
{
    while (!c->is_done && sim_step(c->sim)) {
    }
    ck_assert_msg(c->result.err == KV_OK, "%s", c->result.text);
    ck_assert_msg(c->took_ns <= KV_MS(ms_max), "%u ms", (unsigned)(c->took_ns / 1000000));
}

static void world_make(struct world *w, uint64_t seed)
{
    w->sim = sim_create(&(struct sim_options){.seed = seed,
                                              .wall_start_ms = 1767225600000,
                                              .net = {.delay_min_ns = 100000, .delay_max_ns = 300000}});
    ck_assert_ptr_nonnull(w->sim);
    w->cluster = cluster_create(&(struct cluster_options){
        .sim = w->sim, .nodes = NODES, .seed = seed, .sync_min_ns = 100000, .sync_max_ns = 200000});
    ck_assert_ptr_nonnull(w->cluster);
    for (uint32_t i = 1; i <= NODES; i++) ck_assert(cluster_start(w->cluster, i));
    client_open(w, &w->early, "10.0.1.1");
    client_open(w, &w->late, "10.0.1.2");
}

static void world_free(struct world *w)
{
    kv_client_close(w->early.kv, NULL, NULL);
    kv_client_close(w->late.kv, NULL, NULL);
    sim_run_until(w->sim, sim_now_ns(w->sim) + KV_SECONDS(1));
    cluster_destroy(w->cluster);
    sim_destroy(w->sim);
}

/* Silence between one node and the others, whole or of one direction. */
enum direction { BOTH,
                 DEAF,
                 MUTE,
                 DIRECTIONS };
static void isolate(struct world *w, uint32_t node, enum direction d)
{
    struct sim_host *h = cluster_host(w->cluster, node);
    for (uint32_t i = 1; i <= NODES; i++) {
        if (i == node) continue;
        if (d != MUTE) sim_link_block(w->sim, cluster_host(w->cluster, i), h);
        if (d != DEAF) sim_link_block(w->sim, h, cluster_host(w->cluster, i));
    }
}

START_TEST(calls_leave_a_leader_without_peers)
{
    struct world w;
    enum direction d = (enum direction)(_i % DIRECTIONS);
    enum kv_op op = _i / DIRECTIONS % 2 == 0 ? KV_OP_KVINCR : KV_OP_KVGET;
    world_make(&w, (uint64_t)_i);
    begin(&w.early, KV_OP_KVINCR);
    finish(&w.early, TIMEOUT_MS);
    begin(&w.late, KV_OP_KVINCR); /* both know the leader now */
    finish(&w.late, TIMEOUT_MS);
    uint32_t leader = w.late.result.node;
    isolate(&w, leader, d);

    if (op == KV_OP_KVGET) sim_run_until(w.sim, sim_now_ns(w.sim) + KV_MS(LEASE_MS)); /* until then it may be read */
    begin(&w.early, op);                                                              /* proposed there, or waiting for a confirmation, when the links are given up */
    finish(&w.early, FAILOVER_MS);
    if (op == KV_OP_KVINCR) ck_assert_int_eq(w.early.result.number, 3);
    ck_assert_uint_ne(w.early.result.node, leader);

    begin(&w.late, KV_OP_KVINCR); /* asked there first, by who has not heard of it */
    finish(&w.late, KNOWN_MS);
    ck_assert_int_eq(w.late.result.number, op == KV_OP_KVINCR ? 4 : 3);
    ck_assert_uint_ne(w.late.result.node, leader);
    world_free(&w);
}
END_TEST

/* In a ring each node hears two others, which is a majority, but two of them not the leader. */
START_TEST(calls_leave_a_node_without_a_leader)
{
    struct world w;
    struct client strangers[STRANGERS];
    world_make(&w, (uint64_t)_i);
    begin(&w.early, KV_OP_KVINCR);
    finish(&w.early, TIMEOUT_MS);
    for (uint32_t i = 1; i <= NODES; i++)
        for (uint32_t step = 2; step <= 3; step++)
            sim_link_block(w.sim, cluster_host(w.cluster, i), cluster_host(w.cluster, (i - 1 + step) % NODES + 1));
    sim_run_until(w.sim, sim_now_ns(w.sim) + KV_SECONDS(2));
    for (uint32_t i = 0; i < STRANGERS; i++) { /* who knows no leader asks any node */
        char address[16];
        snprintf(address, sizeof address, "10.0.2.%u", i + 1);
        client_open(&w, &strangers[i], address);
        begin(&strangers[i], KV_OP_KVINCR);
        finish(&strangers[i], KNOWN_MS);
        ck_assert_int_eq(strangers[i].result.number, 2 + (int)i);
    }
    for (uint32_t i = 0; i < STRANGERS; i++) kv_client_close(strangers[i].kv, NULL, NULL);
    world_free(&w);
}
END_TEST

int main(void)
{
    if (sodium_init() < 0) return EXIT_FAILURE;
    Suite *suite = suite_create("stranded");
    TCase *tc = tcase_create("stranded");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, calls_leave_a_leader_without_peers, 0, 4 * DIRECTIONS);
    tcase_add_loop_test(tc, calls_leave_a_node_without_a_leader, 0, 8);
    suite_add_tcase(suite, tc);
    return unit_finish(suite);
}

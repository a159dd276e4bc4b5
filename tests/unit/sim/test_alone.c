#include "client/kv_client.h"
#include "client/wire/join_token.h"
#include "server/group.h"
#include "server/map.h"
#include "tests/sim/cluster.h"
#include "tests/unit/unit.h"
#include <sodium.h>
#include <string.h>

/* Partitions of a single replica move: the one who is to go has no other voter to hand over to, but the one that comes. */
struct world {
    struct sim *sim;
    struct cluster *cluster;
    struct kv_client *kv;
    struct kv_call call;
    struct kv_slice args[3];
    bool is_done;
};

static void tune(void *context, struct config *c)
{
    (void)context;
    c->coordinator_enabled = false;
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
    ((struct world *)call->context)->is_done = true;
}

static void ask(struct world *w, enum kv_op op, const char *a, const char *b, const char *c)
{
    w->args[0] = kv_str(a);
    w->args[1] = kv_str(b);
    w->args[2] = kv_str(c);
    w->call = (struct kv_call){.op = op, .args = w->args, .arg_count = op == KV_OP_KVGET ? 1 : 3, .done = on_done, .context = w};
    w->is_done = false;
    kv_client_call(w->kv, &w->call);
    while (!w->is_done) run(w, 5);
    ck_assert_msg(w->call.result.err == KV_OK, "%s", w->call.result.text);
}

static void world_make(struct world *w, uint64_t seed)
{
    *w = (struct world){.is_done = false};
    w->sim = sim_create(&(struct sim_options){.seed = seed, .wall_start_ms = 1767225600000, .net = {.delay_min_ns = 100000, .delay_max_ns = 2000000}});
    ck_assert_ptr_nonnull(w->sim);
    w->cluster = cluster_create(&(struct cluster_options){
        .sim = w->sim, .nodes = 2, .late = 1, .replicas = 1, .seed = seed, .tune = tune, .sync_min_ns = 100000, .sync_max_ns = 2000000});
    ck_assert_ptr_nonnull(w->cluster);
    struct kv_client_options o = {.timeout_ms = 5000, .seed_count = 1, .seeds = {{.host = "10.0.0.1", .port = CLUSTER_NATIVE_PORT}}};
    ck_assert(cluster_start(w->cluster, 1));
    cluster_client_identity(w->cluster, &o.identity);
    o.env = sim_host_env(sim_host_add(w->sim, "10.0.1.1"));
    ck_assert_int_eq(kv_client_create(&o, &w->kv), KV_OK);
    run(w, 1000);
    ck_assert(cluster_join(w->cluster, 1));
    run(w, 2000);
    ck_assert(cluster_up(w->cluster, 2));
}

START_TEST(the_only_replica_moves_there_and_back)
{
    struct world w;
    world_make(&w, (uint64_t)_i);
    ask(&w, KV_OP_KVPUT, "greeting", "hello", "0");
    for (uint32_t from = 1; from <= 2; from++) {
        uint32_t to = 3 - from;
        for (uint32_t id = 0; id <= KV_PARTITIONS_DEFAULT; id++) {
            char text[3][8];
            snprintf(text[0], sizeof text[0], "%u", id);
            snprintf(text[1], sizeof text[1], "%u", from);
            snprintf(text[2], sizeof text[2], "%u", to);
            ask(&w, KV_OP_KVMOVE, text[0], text[1], text[2]);
        }
        run(&w, 5000);
        for (uint32_t id = 0; id <= KV_PARTITIONS_DEFAULT; id++) {
            const struct group *g = worker_group(cluster_worker(w.cluster, to), id);
            ck_assert_msg(g != NULL && group_leads(g), "group %u is not led by node %u", id, to);
            ck_assert_uint_eq(g->descriptor.replica_count, 1);
            ck_assert_uint_eq(g->descriptor.replicas[0].node, to);
            ck_assert_ptr_null(worker_group(cluster_worker(w.cluster, from), id));
        }
        ask(&w, KV_OP_KVGET, "greeting", "", "");
        ck_assert(kv_slice_eq(w.call.result.value, kv_str("hello")));
    }
    kv_client_close(w.kv, NULL, NULL);
    run(&w, 100);
    cluster_destroy(w.cluster);
    sim_destroy(w.sim);
}
END_TEST

int main(void)
{
    if (sodium_init() < 0) return EXIT_FAILURE;
    Suite *suite = suite_create("alone");
    TCase *tc = tcase_create("alone");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, the_only_replica_moves_there_and_back, 0, 5);
    suite_add_tcase(suite, tc);
    return unit_finish(suite);
}

#include "client/kv_client.h"
#include "tests/sim/cluster.h"
#include "tests/unit/unit.h"
#include <sodium.h>
#include <string.h>

/* What a write is told whose entry its node never sees committed, since a snapshot comes instead: the
 * snapshot may hold it, so nobody may be told that it was not applied. */
enum { NODES = 3, ROWS = 300, ROW_BYTES = 1000 };

struct world {
    struct sim *sim;
    struct cluster *cluster;
    struct kv_client *kv;
    struct kv_slice args[3];
    struct kv_call call;
    struct kv_result result;
    bool is_done, is_open;
    uint32_t installed;
    struct env_conn conn; /* a Redis client */
    struct env_write write;
    struct kv_slice part;
    char told[512];
};

static void tune(void *context, struct config *c)
{
    (void)context;
    c->storage_segment = c->storage_segment_max = 16 << 10;
    c->storage_memtable = 32 << 10;
    c->storage_log_cache = 16 << 10;
    c->raft_log_keep = 4 << 10;
}

static void on_event(void *context, uint32_t node, const char *event)
{
    (void)node;
    if (strcmp(event, "snapshot-installed") == 0) ((struct world *)context)->installed++;
}

static void world_make(struct world *w, uint64_t seed)
{
    *w = (struct world){.is_done = false};
    w->sim = sim_create(&(struct sim_options){.seed = seed,
                                              .wall_start_ms = 1767225600000,
                                              .net = {.delay_min_ns = 100000, .delay_max_ns = 300000}});
    ck_assert_ptr_nonnull(w->sim);
    w->cluster = cluster_create(&(struct cluster_options){.sim = w->sim,
                                                          .nodes = NODES,
                                                          .seed = seed,
                                                          .tune = tune,
                                                          .sync_min_ns = 100000,
                                                          .sync_max_ns = 200000,
                                                          .event = on_event,
                                                          .event_context = w});
    ck_assert_ptr_nonnull(w->cluster);
    struct kv_client_options o = {.timeout_ms = 3000, .seed_count = NODES};
    for (uint32_t i = 0; i < NODES; i++) {
        ck_assert(cluster_start(w->cluster, i + 1));
        snprintf(o.seeds[i].host, sizeof o.seeds[i].host, "10.0.0.%u", i + 1);
        o.seeds[i].port = CLUSTER_NATIVE_PORT;
    }
    cluster_client_identity(w->cluster, &o.identity);
    o.env = sim_host_env(sim_host_add(w->sim, "10.0.1.1"));
    ck_assert_int_eq(kv_client_create(&o, &w->kv), KV_OK);
}

static void on_done(struct kv_call *call)
{
    struct world *w = call->context;
    w->result = call->result;
    w->is_done = true;
}

static void ask(struct world *w, enum kv_op op, const char *key, struct kv_slice value)
{
    w->args[0] = kv_str(key);
    w->args[1] = value;
    w->args[2] = kv_str("0");
    w->call = (struct kv_call){.op = op,
                               .args = w->args,
                               .arg_count = op == KV_OP_KVPUT ? 3 : 2,
                               .done = on_done,
                               .context = w};
    w->is_done = false;
    kv_client_call(w->kv, &w->call);
    while (!w->is_done && sim_step(w->sim)) {}
    ck_assert_msg(w->result.err == KV_OK, "%s", w->result.text);
}

static void on_open(struct env_conn *c, enum kv_err err)
{
    container_of(c, struct world, conn)->is_open = err == KV_OK;
}

static void on_bytes(struct env_conn *c, struct kv_slice bytes)
{
    struct world *w = container_of(c, struct world, conn);
    size_t used = strlen(w->told);
    snprintf(w->told + used, sizeof w->told - used, "%.*s", (int)bytes.size, (const char *)bytes.data);
}

static void on_close(struct env_conn *c, enum kv_err err)
{
    (void)c, (void)err;
}

static void on_written(struct env_write *write, enum kv_err err)
{
    (void)write, (void)err;
}

START_TEST(a_snapshot_may_hold_it)
{
    struct world w;
    char row[ROW_BYTES];
    memset(row, 'x', sizeof row);
    world_make(&w, (uint64_t)_i);
    ask(&w, KV_OP_KVINCR, "{k}", kv_str("1"));
    uint32_t leader = w.result.node;

    struct env *env = sim_host_env(sim_host_add(w.sim, "10.0.1.2"));
    struct env_addr to = {.port = CLUSTER_RESP_PORT};
    snprintf(to.host, sizeof to.host, "10.0.0.%u", leader);
    w.conn = (struct env_conn){.on_open = on_open, .on_bytes = on_bytes, .on_close = on_close};
    env->ops->connect(env, &w.conn, &to, NULL);
    while (!w.is_open && sim_step(w.sim)) {}

    /* The leader is heard and hears nobody: the entry reaches the others, who elect one of themselves. */
    for (uint32_t i = 1; i <= NODES; i++)
        if (i != leader) sim_link_block(w.sim, cluster_host(w.cluster, i), cluster_host(w.cluster, leader));
    w.part = kv_str("INCR {k}\r\n");
    w.write = (struct env_write){.done = on_written, .parts = &w.part, .part_count = 1};
    env->ops->write(env, &w.conn, &w.write);
    sim_run_until(w.sim, sim_now_ns(w.sim) + KV_MS(50));
    for (uint32_t i = 0; i < ROWS; i++) {
        char key[24];
        snprintf(key, sizeof key, "{k}%u", i);
        ask(&w, KV_OP_KVPUT, key, kv_slice(row, sizeof row));
    }
    sim_run_until(w.sim, sim_now_ns(w.sim) + KV_MS(300));
    ck_assert_str_eq(w.told, "");
    for (uint32_t i = 1; i <= NODES; i++)
        if (i != leader) sim_link_open(w.sim, cluster_host(w.cluster, i), cluster_host(w.cluster, leader));
    uint64_t end_ns = sim_now_ns(w.sim) + KV_SECONDS(5);
    while (strchr(w.told, '\n') == NULL && sim_now_ns(w.sim) < end_ns && sim_step(w.sim)) {}
    ck_assert_uint_gt(w.installed, 0);
    ask(&w, KV_OP_KVINCR, "{k}", kv_str("0"));
    ck_assert_int_eq(w.result.number, 2); /* it took effect */
    ck_assert_msg(strstr(w.told, "(applied: maybe)") != NULL || w.told[0] == ':', "told: %s", w.told);
    kv_client_close(w.kv, NULL, NULL);
    env->ops->close(env, &w.conn);
    sim_run_until(w.sim, sim_now_ns(w.sim) + KV_SECONDS(1));
    cluster_destroy(w.cluster);
    sim_destroy(w.sim);
}
END_TEST

int main(void)
{
    if (sodium_init() < 0) return EXIT_FAILURE;
    Suite *suite = suite_create("told");
    TCase *tc = tcase_create("told");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, a_snapshot_may_hold_it, 0, 6);
    suite_add_tcase(suite, tc);
    return unit_finish(suite);
}

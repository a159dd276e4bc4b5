#include "client/kv_client.h"
#include "tests/sim/cluster.h"
#include "tests/unit/unit.h"
#include <sodium.h>

/* limit.service_rate: a node answers so many operations a second in the order in which they came, not faster, hardly
 * slower; who would wait beyond its deadline is refused before anything is done; and what a client sent keeps its order. */
enum { RATE = 100,
       CALLS = 50,
       TIMEOUT_MS = 3000 };

struct call {
    struct kv_call call;
    struct kv_slice args[2];
    struct kv_result result;
    uint64_t done_ns;
    bool is_done;
};

static struct sim *sim;
static struct cluster *cluster;
static struct kv_client *client;

static void tune(void *context, struct config *c)
{
    (void)context;
    c->service_rate = RATE;
}

static void world_make(uint32_t nodes, uint32_t workers)
{
    struct kv_client_options o = {.timeout_ms = TIMEOUT_MS, .seed_count = nodes};
    sim = sim_create(&(struct sim_options){.seed = nodes, .wall_start_ms = 1767225600000, .net = {.delay_min_ns = 100000, .delay_max_ns = 300000}});
    cluster = cluster_create(&(struct cluster_options){.sim = sim, .nodes = nodes, .workers = workers, .seed = 1, .sync_min_ns = 100000, .sync_max_ns = 200000, .tune = tune});
    for (uint32_t i = 1; i <= nodes; i++) {
        ck_assert(cluster_start(cluster, i));
        snprintf(o.seeds[i - 1].host, sizeof o.seeds[i - 1].host, "10.0.0.%u", i);
        o.seeds[i - 1].port = CLUSTER_NATIVE_PORT;
    }
    cluster_client_identity(cluster, &o.identity);
    o.env = sim_host_env(sim_host_add(sim, "10.0.1.1"));
    ck_assert_int_eq(kv_client_create(&o, &client), KV_OK);
}

static void world_free(void)
{
    kv_client_close(client, NULL, NULL);
    sim_run_until(sim, sim_now_ns(sim) + KV_SECONDS(1));
    cluster_destroy(cluster);
    sim_destroy(sim);
}

static void on_done(struct kv_call *call)
{
    struct call *c = call->context;
    c->result = call->result;
    c->done_ns = sim_now_ns(sim);
    c->is_done = true;
}

static void begin(struct call *c, enum kv_op op, uint32_t timeout_ms)
{
    *c = (struct call){.args = {kv_str("k"), kv_str("1")}};
    c->call = (struct kv_call){.op = op, .args = c->args, .arg_count = op == KV_OP_KVINCR ? 2 : 1, .timeout_ms = timeout_ms, .done = on_done, .context = c};
    kv_client_call(client, &c->call);
}

static void await(struct call *c)
{
    while (!c->is_done && sim_step(sim)) {
    }
}

/* Of several workers too: whichever of them has the partition. */
static const struct {
    uint32_t nodes, workers;
} worlds[] = {{1, 1}, {3, 1}, {1, 2}, {3, 3}};

START_TEST(answers_keep_rate_and_order)
{
    struct call first, calls[CALLS];
    world_make(worlds[_i].nodes, worlds[_i].workers);
    begin(&first, KV_OP_KVINCR, TIMEOUT_MS); /* finds the leader */
    await(&first);
    ck_assert_msg(first.result.err == KV_OK, "%s", first.result.text);
    sim_run_until(sim, sim_now_ns(sim) + KV_MS(100));
    uint64_t from_ns = sim_now_ns(sim);
    for (int i = 0; i < CALLS; i++) begin(&calls[i], i % 5 == 4 ? KV_OP_KVGET : KV_OP_KVINCR, TIMEOUT_MS);
    for (int i = 0; i < CALLS; i++) await(&calls[i]);
    uint64_t last_ns = 0;
    for (int i = 0, count = 1; i < CALLS; i++) {
        const struct kv_result *r = &calls[i].result;
        ck_assert_msg(r->err == KV_OK, "%s", r->text);
        if (calls[i].done_ns > last_ns) last_ns = calls[i].done_ns;
        if (i % 5 != 4) ck_assert_int_eq(r->number, ++count); /* as they were sent */
    }
    uint64_t took_ms = (last_ns - from_ns) / 1000000u;
    ck_assert_msg(took_ms >= 1000u * CALLS / RATE && took_ms <= 1100u * CALLS / RATE, "%d operations in %u ms", CALLS, (unsigned)took_ms);
    world_free();
}
END_TEST

START_TEST(who_would_wait_too_long_is_refused)
{
    struct call first, calls[CALLS], late;
    world_make(3, (uint32_t)_i);
    begin(&first, KV_OP_KVINCR, TIMEOUT_MS);
    await(&first);
    for (int i = 0; i < CALLS; i++) begin(&calls[i], KV_OP_KVINCR, TIMEOUT_MS);
    sim_run_until(sim, sim_now_ns(sim) + KV_MS(5));
    uint64_t from_ns = sim_now_ns(sim);
    begin(&late, KV_OP_KVINCR, 200); /* half a second stands before it */
    await(&late);
    ck_assert_int_ne(late.result.err, KV_OK);
    ck_assert_int_eq(late.result.applied, KV_APPLIED_NO);
    ck_assert_uint_le(late.done_ns - from_ns, KV_MS(200));
    for (int i = 0; i < CALLS; i++) await(&calls[i]);
    begin(&late, KV_OP_KVGET, TIMEOUT_MS);
    await(&late);
    ck_assert_uint_eq(late.result.value.size, 2); /* 51: what was refused left nothing behind */
    world_free();
}
END_TEST

/* What is done already is answered at once, with what came of it. */
START_TEST(a_node_that_stops_answers_at_once)
{
    struct call first, calls[CALLS];
    world_make(1, (uint32_t)_i);
    begin(&first, KV_OP_KVINCR, TIMEOUT_MS);
    await(&first);
    for (int i = 0; i < CALLS; i++) begin(&calls[i], KV_OP_KVINCR, TIMEOUT_MS);
    sim_run_until(sim, sim_now_ns(sim) + KV_MS(50));
    uint64_t from_ns = sim_now_ns(sim);
    cluster_stop(cluster, 1);
    for (int i = 0; i < CALLS; i++) {
        await(&calls[i]);
        ck_assert_msg(calls[i].result.err == KV_OK, "%s", calls[i].result.text);
        ck_assert_uint_le(calls[i].done_ns, from_ns + KV_MS(50));
    }
    world_free();
}
END_TEST

int main(void)
{
    if (sodium_init() < 0) return EXIT_FAILURE;
    Suite *s = suite_create("pace");
    TCase *t = tcase_create("pace");
    tcase_add_loop_test(t, answers_keep_rate_and_order, 0, sizeof worlds / sizeof *worlds);
    tcase_add_loop_test(t, who_would_wait_too_long_is_refused, 1, 3); /* workers */
    tcase_add_loop_test(t, a_node_that_stops_answers_at_once, 1, 3);
    suite_add_tcase(s, t);
    return unit_finish(s);
}

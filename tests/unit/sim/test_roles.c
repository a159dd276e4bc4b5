#include "client/kv_client.h"
#include "tests/sim/cluster.h"
#include "tests/unit/unit.h"
#include <sodium.h>
#include <string.h>

/* A node that is no gateway has a native port all the same, for the others and for who operates it: what concerns data is refused there,
 * by a text that names the reason and the next step. */
enum { NODES = 3,
       PLAIN = 2 }; /* it holds data, and takes no clients */

static struct sim *sim;
static struct cluster *cluster;
static struct kv_client *client;
static struct kv_call call;
static struct kv_result result;
static bool is_done;

static void setup(void)
{
    static const uint32_t roles[] = {0, KV_NODE_ROLES_ALL, KV_NODE_STORAGE | KV_NODE_COORDINATOR, KV_NODE_ROLES_ALL};
    sim = sim_create(&(struct sim_options){.seed = 5, .wall_start_ms = 1767225600000, .net = {.delay_min_ns = 100000, .delay_max_ns = 300000}});
    ck_assert_ptr_nonnull(sim);
    cluster = cluster_create(&(struct cluster_options){
        .sim = sim, .nodes = NODES, .replicas = NODES, .roles_of = roles, .seed = 5, .sync_min_ns = 100000, .sync_max_ns = 200000});
    ck_assert_ptr_nonnull(cluster);
    struct kv_client_options o = {.timeout_ms = 3000, .seeds = {{.host = "10.0.0.2", .port = CLUSTER_NATIVE_PORT}}, .seed_count = 1};
    for (uint32_t i = 1; i <= NODES; i++) ck_assert(cluster_start(cluster, i));
    cluster_client_identity(cluster, &o.identity);
    o.env = sim_host_env(sim_host_add(sim, "10.0.1.1"));
    ck_assert_int_eq(kv_client_create(&o, &client), KV_OK);
    sim_run_until(sim, sim_now_ns(sim) + KV_SECONDS(5));
}

static void teardown(void)
{
    kv_client_close(client, NULL, NULL);
    sim_run_until(sim, sim_now_ns(sim) + KV_SECONDS(1));
    cluster_destroy(cluster);
    sim_destroy(sim);
}

static void on_done(struct kv_call *c)
{
    result = c->result;
    is_done = true;
}

/* Of that node and no other; 0: wherever libkv goes. */
static enum kv_err ask(uint32_t node, enum kv_op op, const struct kv_slice *args, uint32_t count)
{
    call = (struct kv_call){.op = op, .args = args, .arg_count = count, .node = node, .done = on_done};
    is_done = false;
    kv_client_call(client, &call);
    while (!is_done && sim_step(sim)) {
    }
    return result.err;
}

START_TEST(data_is_refused_with_the_reason_and_the_next_step)
{
    struct kv_slice put[] = {kv_str("k"), kv_str("v"), kv_str("0")};
    static const char refusal[] = "node 2 takes no clients, it has not the role gateway; next: another node, see kvctl node list";
    ck_assert_int_ne(ask(PLAIN, KV_OP_KVPUT, put, 3), KV_OK);
    ck_assert_int_eq(result.applied, KV_APPLIED_NO);
    ck_assert_msg(strstr(result.text, refusal) != NULL, "not told '%s': %s", refusal, result.text);
    ck_assert_int_ne(ask(PLAIN, KV_OP_KVGET, put, 1), KV_OK);
    ck_assert_msg(strstr(result.text, refusal) != NULL, "not told '%s': %s", refusal, result.text);
}
END_TEST

START_TEST(what_concerns_the_cluster_is_answered)
{
    struct kv_slice name = kv_str("default");
    ck_assert_msg(ask(PLAIN, KV_OP_KVSTATUS, NULL, 0) == KV_OK, "%s", result.text);
    ck_assert_msg(ask(PLAIN, KV_OP_KSSHOW, &name, 1) == KV_OK, "%s", result.text);
}
END_TEST

/* Its only address so far is that of such a node, which tells it the map. */
START_TEST(who_knows_no_other_node_learns_where_to_go)
{
    struct kv_slice put[] = {kv_str("k"), kv_str("v"), kv_str("0")};
    ck_assert_msg(ask(0, KV_OP_KVPUT, put, 3) == KV_OK, "%s: %s", kv_err_name(result.err), result.text);
    ck_assert_msg(ask(0, KV_OP_KVGET, put, 1) == KV_OK, "%s: %s", kv_err_name(result.err), result.text);
}
END_TEST

int main(void)
{
    if (sodium_init() < 0) return EXIT_FAILURE;
    Suite *suite = suite_create("roles");
    TCase *tc = tcase_create("roles");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, data_is_refused_with_the_reason_and_the_next_step);
    tcase_add_test(tc, what_concerns_the_cluster_is_answered);
    tcase_add_test(tc, who_knows_no_other_node_learns_where_to_go);
    suite_add_tcase(suite, tc);
    return unit_finish(suite);
}

#ifndef TESTS_UNIT_SIM_WORKERS_H
#define TESTS_UNIT_SIM_WORKERS_H
#include "server/request.h"
#include "tests/sim/cluster_impl.h"
#include "tests/unit/unit.h"
#include <stdio.h>

/* Nodes of several workers, without faults, and one who asks them. */
static struct sim *sim;
static struct cluster *cluster;
static uint32_t answers;
static enum kv_err last;
static char said[4096]; /* the last answer's value, or why there is none */

static void run(uint64_t ms)
{
    sim_run_until(sim, sim_now_ns(sim) + KV_MS(ms));
}

static void begin_tuned(uint32_t nodes, uint32_t workers, void (*tune)(void *context, struct config *c))
{
    answers = 0;
    sim = sim_create(&(struct sim_options){
        .seed = 17, .wall_start_ms = 1767225600000, .net = {.delay_min_ns = KV_MS(1), .delay_max_ns = KV_MS(2)}});
    cluster = cluster_create(&(struct cluster_options){
        .sim = sim, .nodes = nodes, .workers = workers, .seed = 17, .sync_min_ns = KV_MS(1), .sync_max_ns = KV_MS(1), .tune = tune});
    for (uint32_t node = 1; node <= nodes; node++) ck_assert(cluster_start(cluster, node));
    run(5000);
}

static void end(void)
{
    char why[256];
    ck_assert_msg(cluster_check(cluster, why, sizeof why), "%s", why);
    cluster_destroy(cluster);
    sim_destroy(sim);
}

static void answered(struct request *r, const struct kv_reply *reply)
{
    struct kv_slice text = reply->err == KV_OK ? reply->value : reply->detail;
    (void)r;
    answers++;
    last = reply->err;
    snprintf(said, sizeof said, "%.*s", (int)text.size, text.size == 0 ? "" : (const char *)text.data);
}

static void ask(uint32_t node, enum kv_op op, const char *a, const char *b, const char *c)
{
    struct kv_slice args[3] = {kv_str(a), kv_str(b == NULL ? "" : b), kv_str(c == NULL ? "" : c)};
    struct request *r = request_make(cluster_worker(cluster, node));
    ck_assert_ptr_nonnull(r);
    r->done = answered;
    r->body = (struct kv_request){.op = op, .args = args, .arg_count = 1u + (b != NULL) + (c != NULL), .keyspace = KV_KEYSPACE_DEFAULT};
    request_start(r);
}

static inline struct worker *worker_of(uint32_t node, uint32_t worker)
{
    return node_of(cluster, node)->desks[worker].worker;
}
#endif

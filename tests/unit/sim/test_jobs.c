#include "server/jobs_impl.h"
#include "server/map.h"
#include "tests/sim/cluster.h"
#include "tests/unit/unit.h"
#include <sodium.h>

/* Who runs a job judges by its map, which may be behind: that a partition's replicas once were as a move wants them says nothing
 * about a move that was planned later, after they had changed again. */
enum { NODES = 4,
       REPLICAS = 3 };

static void tune(void *context, struct config *c)
{
    (void)context;
    c->coordinator_enabled = false; /* no jobs but the test's */
}

static struct worker *coordinator(struct cluster *c)
{
    for (uint32_t i = 1; i <= NODES; i++) {
        const struct group *g = worker_group(cluster_worker(c, i), KV_PARTITION_SYSTEM);
        if (g != NULL && group_leads(g)) return cluster_worker(c, i);
    }
    ck_abort_msg("nobody leads partition 0");
}

/* From a node that has none to one that has a voter: as if that had been done. */
static struct kv_job done_before(const struct descriptor *d)
{
    struct kv_job j = {.kind = KV_JOB_MOVE, .partition = d->id, .keyspace = d->keyspace, .to = d->replicas[0].node, .range_epoch = d->range_epoch, .reason = kv_str("a test")};
    for (uint32_t node = 1; node <= NODES; node++) {
        uint32_t at = 0;
        while (at < d->replica_count && d->replicas[at].node != node) at++;
        if (at == d->replica_count) j.from = node;
    }
    return j;
}

START_TEST(a_move_is_not_done_by_an_earlier_epoch)
{
    struct sim *sim = sim_create(&(struct sim_options){.seed = 9, .wall_start_ms = 1767225600000, .net = {.delay_min_ns = 100000, .delay_max_ns = 300000}});
    ck_assert_ptr_nonnull(sim);
    struct cluster *c = cluster_create(&(struct cluster_options){
        .sim = sim, .nodes = NODES, .replicas = REPLICAS, .seed = 9, .tune = tune, .sync_min_ns = 100000, .sync_max_ns = 200000});
    ck_assert_ptr_nonnull(c);
    for (uint32_t i = 1; i <= NODES; i++) ck_assert(cluster_start(c, i));
    sim_run_until(sim, sim_now_ns(sim) + KV_SECONDS(10));
    struct worker *w = coordinator(c);
    const struct descriptor *d = map_descriptor(map_get(w, 1));
    struct kv_job j = done_before(d);
    ck_assert_uint_ne(j.from, 0);
    j.conf_epoch = d->conf_epoch + 1; /* which this node has yet to hear of */
    jobs_open(w, &j);
    sim_run_until(sim, sim_now_ns(sim) + KV_SECONDS(5));
    ck_assert(coordinator(c) == w);
    ck_assert_uint_eq(w->placements->open_count, 1);
    ck_assert_int_eq(w->placements->open[0].state, KV_JOB_RUNNING);
    d = map_descriptor(map_get(w, 2));
    j = done_before(d);
    j.conf_epoch = d->conf_epoch;
    jobs_open(w, &j);
    sim_run_until(sim, sim_now_ns(sim) + KV_SECONDS(5));
    ck_assert_uint_eq(w->placements->open_count, 1); /* that one was done, and is */
    ck_assert_uint_eq(w->placements->open[0].partition, 1);
    cluster_destroy(c);
    sim_destroy(sim);
}
END_TEST

int main(void)
{
    if (sodium_init() < 0) return EXIT_FAILURE;
    Suite *suite = suite_create("jobs");
    TCase *tc = tcase_create("jobs");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_move_is_not_done_by_an_earlier_epoch);
    suite_add_tcase(suite, tc);
    return unit_finish(suite);
}

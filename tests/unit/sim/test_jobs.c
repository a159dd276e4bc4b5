#include "server/jobs_impl.h"
#include "server/map.h"
#include "tests/sim/cluster.h"
#include "tests/unit/unit.h"
#include <sodium.h>

/* Who runs a job judges by its map, which may be behind: that a partition's replicas once were as a move wants them, or that one began
 * or did not begin at a key, says nothing about a job that was planned later, after that had changed again. */
enum { NODES = 5,
       REPLICAS = 3 };

static void tune(void *context, struct config *c)
{
    (void)context;
    c->coordinator_enabled = false; /* no jobs but the test's */
}

static struct sim *sim;
static struct cluster *c;

static void run_for(uint64_t seconds)
{
    sim_run_until(sim, sim_now_ns(sim) + KV_SECONDS(seconds));
}

static void setup(void)
{
    sim = sim_create(&(struct sim_options){.seed = 9, .wall_start_ms = 1767225600000, .net = {.delay_min_ns = 100000, .delay_max_ns = 300000}});
    ck_assert_ptr_nonnull(sim);
    c = cluster_create(&(struct cluster_options){
        .sim = sim, .nodes = NODES, .replicas = REPLICAS, .seed = 9, .tune = tune, .sync_min_ns = 100000, .sync_max_ns = 200000});
    ck_assert_ptr_nonnull(c);
    for (uint32_t i = 1; i <= NODES; i++) ck_assert(cluster_start(c, i));
    run_for(10);
}

static void teardown(void)
{
    cluster_destroy(c);
    sim_destroy(sim);
}

static struct worker *coordinator(void)
{
    uint32_t node = cluster_coordinator(c);
    ck_assert_msg(node != 0, "nobody leads partition 0");
    return cluster_worker(c, node);
}

static void ck_assert_runs(const struct worker *w, uint64_t fence)
{
    ck_assert_uint_eq(w->placements->open_count, 1);
    ck_assert_int_eq(w->placements->open[0].state, KV_JOB_RUNNING);
    ck_assert_uint_eq(w->placements->open[0].fence, fence);
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
    struct worker *w = coordinator();
    const struct descriptor *d = map_descriptor(map_get(w, 1));
    struct kv_job j = done_before(d);
    ck_assert_uint_ne(j.from, 0);
    j.conf_epoch = d->conf_epoch + 1; /* which this node has yet to hear of */
    jobs_open(w, &j);
    run_for(5);
    ck_assert(coordinator() == w);
    ck_assert_runs(w, 1);
    d = map_descriptor(map_get(w, 2));
    j = done_before(d);
    j.conf_epoch = d->conf_epoch;
    jobs_open(w, &j);
    run_for(5);
    ck_assert_uint_eq(w->placements->open_count, 1); /* that one was done, and is */
    ck_assert_uint_eq(w->placements->open[0].partition, 1);
}
END_TEST

/* The second runner cannot know what the first one asked for, so it goes by the map alone. */
static struct worker *succeeded(struct worker *w)
{
    uint32_t before = w->node_id;
    cluster_crash(c, before, SIM_KILL);
    run_for(10);
    ck_assert_uint_ne(coordinator()->node_id, before);
    return coordinator();
}

START_TEST(a_split_is_not_done_by_an_earlier_epoch)
{
    struct worker *w = coordinator();
    const struct descriptor *d = map_descriptor(map_get(w, 2));
    struct kv_job j = {.kind = KV_JOB_SPLIT, .partition = d->id, .keyspace = d->keyspace, .key = kv_key_slice(&d->from), .reason = kv_str("a test")};
    j.range_epoch = d->range_epoch + 1; /* it was merged with the one before it, and this node has yet to hear of that */
    jobs_open(w, &j);
    run_for(5);
    ck_assert_runs(w, 1);
    w = succeeded(w);
    ck_assert_runs(w, 2);
    run_for(60); /* nobody ever tells */
    ck_assert_uint_eq(coordinator()->placements->open_count, 0);
}
END_TEST

START_TEST(a_merge_is_not_refused_by_an_earlier_epoch)
{
    struct worker *w = coordinator();
    const struct descriptor *d = map_descriptor(map_get(w, 2));
    struct kv_key inside;
    kv_key_slot_start(d->keyspace, (uint16_t)(kv_key_slot(kv_key_slice(&d->from)) + 1), &inside);
    struct kv_job j = {.kind = KV_JOB_MERGE, .partition = 99, .other = d->id, .keyspace = d->keyspace, .key = kv_key_slice(&inside), .reason = kv_str("a test")};
    j.range_epoch = d->range_epoch + 1; /* it was split there, and this node has yet to hear of that */
    jobs_open(w, &j);
    run_for(5);
    ck_assert_runs(w, 1);
    w = succeeded(w);
    ck_assert_runs(w, 2);
    run_for(60);
    ck_assert_uint_eq(coordinator()->placements->open_count, 0);
}
END_TEST

/* It was absorbed before this runner began, and nobody tells of what is no more; but the partitions it heard of have all keys. */
START_TEST(a_move_of_a_partition_that_is_no_more_ends)
{
    struct worker *w = coordinator();
    struct kv_job j = done_before(map_descriptor(map_get(w, 1)));
    j.partition = 99;
    j.automatic = true;
    jobs_open(w, &j);
    run_for(10);
    ck_assert_uint_eq(coordinator()->placements->open_count, 0);
}
END_TEST

/* The replica that it was to move has gone another way since; the coordinator, whose plan it was, makes another. */
START_TEST(a_plan_whose_replica_has_left_is_given_up_at_once)
{
    struct worker *w = coordinator();
    const struct descriptor *d = map_descriptor(map_get(w, 1));
    struct kv_job j = done_before(d);
    j.to = 0;
    for (uint32_t node = 1; node <= NODES; node++) {
        uint32_t at = 0;
        while (at < d->replica_count && d->replicas[at].node != node) at++;
        if (at == d->replica_count && node != j.from) j.to = node;
    }
    ck_assert_uint_ne(j.to, 0);
    j.conf_epoch = d->conf_epoch;
    j.automatic = true;
    jobs_open(w, &j);
    run_for(10);
    ck_assert_uint_eq(coordinator()->placements->open_count, 0);
}
END_TEST

int main(void)
{
    if (sodium_init() < 0) return EXIT_FAILURE;
    Suite *suite = suite_create("jobs");
    TCase *tc = tcase_create("jobs");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_move_is_not_done_by_an_earlier_epoch);
    tcase_add_test(tc, a_split_is_not_done_by_an_earlier_epoch);
    tcase_add_test(tc, a_merge_is_not_refused_by_an_earlier_epoch);
    tcase_add_test(tc, a_move_of_a_partition_that_is_no_more_ends);
    tcase_add_test(tc, a_plan_whose_replica_has_left_is_given_up_at_once);
    suite_add_tcase(suite, tc);
    return unit_finish(suite);
}

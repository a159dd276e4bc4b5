#include "server/map.h"
#include "server/request.h"
#include "tests/sim/cluster.h"
#include "tests/unit/unit.h"
#include <sodium.h>

/* A follower that lacks entries which its leader must read back from a disk that takes longer for all of them than
 * the leader waits between two heartbeats. */
enum { NODES = 3,
       ROWS = 400,
       ROW_BYTES = 1000,
       ELECTIONS = 2 * RAFT_RUNS_MAX };

struct world {
    struct sim *sim;
    struct cluster *cluster;
    struct group *leader; /* of the partition that is written */
    uint32_t leads, follows, answered;
};

static struct world w;

static void tune(void *context, struct config *c)
{
    c->raft_batch = *(const uint32_t *)context;
    c->storage_log_cache = 16 << 10; /* and the log keeps it all: no snapshot is needed */
    c->raft_log_keep = 16 << 20;
}

static void run(uint64_t ms)
{
    sim_run_until(w.sim, sim_now_ns(w.sim) + KV_MS(ms));
}

static void on_answer(struct request *r, const struct kv_reply *reply)
{
    (void)r;
    ck_assert_int_eq(reply->err, KV_OK);
    w.answered++;
}

static void write_row(void)
{
    static uint8_t row[ROW_BYTES];
    struct kv_slice args[] = {kv_str("key"), kv_slice(row, sizeof row)};
    struct request *r = request_make(w.leader->w);
    ck_assert_ptr_nonnull(r);
    r->body = (struct kv_request){.op = KV_OP_SET, .args = args, .arg_count = 2};
    r->done = on_answer;
    request_start(r);
}

static void world_make(uint64_t seed, uint32_t batch_entries)
{
    char why[256];
    w = (struct world){.sim = sim_create(&(struct sim_options){.seed = seed, .wall_start_ms = 1767225600000, .net = {.delay_min_ns = 100000, .delay_max_ns = 300000}})};
    w.cluster = cluster_create(&(struct cluster_options){.sim = w.sim,
                                                         .nodes = NODES,
                                                         .seed = seed,
                                                         .tune = tune,
                                                         .context = &batch_entries,
                                                         .sync_min_ns = 100000,
                                                         .sync_max_ns = 200000,
                                                         .work_max_ns = KV_MS(8)});
    for (uint32_t node = 1; node <= NODES; node++) ck_assert(cluster_start(w.cluster, node));
    run(8000); /* leaderships stand where they belong */
    ck_assert_msg(cluster_settled(w.cluster, why, sizeof why), "%s", why);
    for (uint32_t node = 1; node <= NODES; node++) {
        struct group *g = map_slot(cluster_worker(w.cluster, node), kv_slot(kv_str("key")))->group;
        if (group_leads(g)) w.leader = g, w.leads = node;
        else w.follows = node;
    }
    ck_assert_ptr_nonnull(w.leader);
}

/* Each entry is read about once, not again with each heartbeat behind all the reads that nobody needs any more. */
START_TEST(what_is_slow_to_be_read_is_not_lost)
{
    char why[256];
    world_make((uint64_t)_i, _i % 2 == 0 ? 1 : 8);
    cluster_crash(w.cluster, w.follows, SIM_KILL);
    for (uint32_t i = 1; i <= ROWS; i++) {
        write_row();
        for (uint32_t ms = 0; ms < 2000 && w.answered < i; ms++) run(1);
        ck_assert_uint_eq(w.answered, i);
    }
    ck_assert(cluster_start(w.cluster, w.follows));
    struct disk_mem *disk = disk_sim_mem(cluster_disk(w.cluster, w.leads));
    const struct group *g = map_slot(cluster_worker(w.cluster, w.follows), kv_slot(kv_str("key")))->group;
    uint32_t pending_max = 0;
    for (uint32_t ms = 0; ms < 4000 && g->applied < w.leader->applied; ms++) {
        run(1);
        if (disk_mem_pending(disk) > pending_max) pending_max = disk_mem_pending(disk);
    }
    ck_assert_uint_eq(g->applied, w.leader->applied);
    ck_assert_uint_le(pending_max, 16);
    run(2000);
    ck_assert_msg(cluster_settled(w.cluster, why, sizeof why), "%s", why);
    ck_assert_msg(cluster_same_rows(w.cluster, why, sizeof why), "%s", why);
    cluster_destroy(w.cluster);
    sim_destroy(w.sim);
}
END_TEST

/* After so many elections the core knows the terms of the last entries only, though its last checkpoint is of before them: the
 * leader has no entries to send and must not send a snapshot of long ago. */
START_TEST(who_missed_many_elections_catches_up)
{
    char why[256];
    world_make((uint64_t)_i, 8);
    for (uint32_t node = 1; node <= NODES; node++) store_checkpoint(cluster_worker(w.cluster, node)->store, NULL);
    run(1000);
    cluster_crash(w.cluster, 3, SIM_KILL);
    for (uint32_t i = 0; i < ELECTIONS; i++) {
        cluster_transfer(w.cluster, 1 + i % 2);
        run(200);
    }
    ck_assert(cluster_start(w.cluster, 3));
    run(10000);
    ck_assert_msg(cluster_settled(w.cluster, why, sizeof why), "%s", why);
    ck_assert_msg(cluster_same_rows(w.cluster, why, sizeof why), "%s", why);
    cluster_destroy(w.cluster);
    sim_destroy(w.sim);
}
END_TEST

int main(void)
{
    if (sodium_init() < 0) return 1;
    Suite *suite = suite_create("catch-up");
    TCase *c = tcase_create("catch-up");
    tcase_add_loop_test(c, what_is_slow_to_be_read_is_not_lost, 1, 5);
    tcase_add_loop_test(c, who_missed_many_elections_catches_up, 0, 2);
    tcase_set_timeout(c, 60);
    suite_add_tcase(suite, c);
    return unit_finish(suite);
}

#include "server/map.h"
#include "server/request.h"
#include "tests/sim/cluster_impl.h"
#include "tests/unit/unit.h"
#include <sodium.h>
#include <stdio.h>

/* A replica that dies in the middle of an install has no rows until it gets another snapshot. It is still a
 * member: its vote may be the one that is missing. */
enum { NODES = 3,
       ROWS = 300,
       ROW_BYTES = 1000 };
static struct cluster *cluster;
static struct sim *sim;
static uint32_t leader, follower, third, partition;
static uint32_t answered, refused;

static void tune(void *context, struct config *c)
{
    (void)context;
    c->storage_segment = c->storage_segment_max = 16 << 10;
    c->storage_memtable = 32 << 10;
    c->storage_log_cache = 16 << 10;
    c->raft_log_keep = 4 << 10;
}

static void on_answer(struct request *r, const struct kv_reply *reply)
{
    (void)r;
    if (reply->err == KV_OK) answered++;
    else refused++;
}

/* True: within 20 s. */
static bool write_rows(uint32_t node, uint32_t count)
{
    static char row[ROW_BYTES];
    for (uint32_t i = 0; i < count; i++) {
        char key[32];
        struct request *r = request_make(cluster_worker(cluster, node));
        ck_assert_ptr_nonnull(r);
        snprintf(key, sizeof key, "{key}%u", i);
        struct kv_slice args[] = {kv_str(key), kv_slice(row, sizeof row)};
        r->body = (struct kv_request){.op = KV_OP_SET, .args = args, .arg_count = 2};
        r->done = on_answer;
        uint32_t before = answered, late = refused;
        uint64_t end = sim_now_ns(sim) + KV_SECONDS(20);
        request_start(r);
        while (answered == before && refused == late && sim_now_ns(sim) < end && sim_step(sim)) {
        }
        if (answered == before) return false;
    }
    return true;
}

static void run(uint64_t ms)
{
    sim_run_until(sim, sim_now_ns(sim) + KV_MS(ms));
}

static const struct group *replica(uint32_t node)
{
    return worker_group(cluster_worker(cluster, node), partition);
}

static void begin(uint64_t seed)
{
    char why[256];
    sim = sim_create(&(struct sim_options){
        .seed = seed, .wall_start_ms = 1767225600000, .net = {.delay_min_ns = 100000, .delay_max_ns = 300000}});
    cluster = cluster_create(&(struct cluster_options){
        .sim = sim, .nodes = NODES, .seed = seed, .tune = tune, .sync_min_ns = 100000, .sync_max_ns = 200000});
    for (uint32_t node = 1; node <= NODES; node++) ck_assert(cluster_start(cluster, node));
    run(8000); /* leaderships stand where they belong */
    ck_assert_msg(cluster_settled(cluster, why, sizeof why), "%s", why);
    partition = map_slot(cluster_worker(cluster, 1), kv_slot(kv_str("key")))->group->id;
    leader = group_leader_node(replica(1));
    follower = leader % NODES + 1;
    third = follower % NODES + 1;
    ck_assert(write_rows(leader, ROWS));
}

static void end(void)
{
    cluster_destroy(cluster);
    sim_destroy(sim);
}

static void mark_look(void *context, const struct checkpoint_mark *m)
{
    if (m->group == partition) *(bool *)context = m->state == CHECKPOINT_GROUP_INSTALLING;
}

static bool is_marked(void)
{
    struct checkpoint *c = node_of(cluster, follower)->desks[0].checkpoint;
    struct checkpoint_view *v;
    bool marked = false;
    ck_assert_int_eq(c->ops->view_open(c, &v), KV_OK);
    ck_assert_int_eq(c->ops->marks(v, mark_look, &marked), KV_OK);
    c->ops->view_close(v);
    return marked;
}

/* The follower dies in the middle of an install, its mark on the disk, and is there again. */
static void interrupt_install(void)
{
    uint64_t end = sim_now_ns(sim) + KV_SECONDS(30);
    while (!is_marked() && sim_now_ns(sim) < end && sim_step(sim)) {
    }
    ck_assert(is_marked());
    cluster_crash(cluster, follower, SIM_KILL);
    ck_assert(cluster_start(cluster, follower));
}

START_TEST(its_vote_counts)
{
    begin((uint64_t)_i);
    cluster_crash(cluster, follower, SIM_KILL);
    ck_assert(write_rows(leader, ROWS)); /* and the log behind which it stopped is gone */
    ck_assert(cluster_start(cluster, follower));
    interrupt_install();
    cluster_crash(cluster, leader, SIM_KILL); /* for good */
    ck_assert(replica(follower)->rowless);

    ck_assert(write_rows(third, 1));
    run(5000);
    ck_assert(!replica(follower)->rowless);
    ck_assert_uint_eq(replica(follower)->applied, replica(third)->applied);
    end();
}
END_TEST

/* Damaged as well it is not asked to go on: its node gets a replica under another id. */
START_TEST(what_is_damaged_is_replaced)
{
    char why[256];
    begin((uint64_t)_i);
    cluster_crash(cluster, follower, SIM_KILL);
    cluster_wipe(cluster, follower);
    ck_assert(cluster_start(cluster, follower));
    interrupt_install();
    struct worker *w = cluster_worker(cluster, follower);
    store_group_damage(w->store, partition, "as if its log were rotten");
    worker_turn(w);
    while (log_bytes_undurable(store_log(w->store)) > 0 && sim_step(sim)) {
    }
    cluster_crash(cluster, follower, SIM_KILL);
    ck_assert(cluster_start(cluster, follower));
    ck_assert(is_marked());
    ck_assert_ptr_null(replica(follower));

    run(20000);
    ck_assert_msg(cluster_settled(cluster, why, sizeof why), "%s", why);
    end();
}
END_TEST

int main(void)
{
    if (sodium_init() < 0) return 1;
    Suite *suite = suite_create("rowless");
    TCase *c = tcase_create("rowless");
    tcase_add_loop_test(c, its_vote_counts, 1, 5);
    tcase_add_loop_test(c, what_is_damaged_is_replaced, 1, 5);
    tcase_set_timeout(c, 60);
    suite_add_tcase(suite, c);
    return unit_finish(suite);
}

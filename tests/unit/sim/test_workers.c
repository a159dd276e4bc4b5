#include "server/map.h"
#include "server/seats.h"
#include "server/siblings.h"
#include "storage/checkpoint_mem.h"
#include "tests/unit/sim/workers.h"

/* Nodes of several workers, without faults: where replicas are, what moves them, what a full way does, and which
 * directories are refused. */

static void begin(uint32_t nodes, uint32_t workers)
{
    begin_tuned(nodes, workers, NULL);
}

/* The worker that has the only replica of the partition on that node; UINT32_MAX: none, or two. */
static uint32_t place(uint32_t node, uint32_t partition)
{
    uint32_t at = UINT32_MAX;
    for (uint32_t k = 0; k < workers_of(cluster); k++) {
        if (worker_group(worker_of(node, k), partition) == NULL) continue;
        if (at != UINT32_MAX) return UINT32_MAX;
        at = k;
    }
    return at;
}

START_TEST(partitions_are_spread_from_the_start)
{
    begin(3, 3);
    for (uint32_t node = 1; node <= 3; node++) {
        uint32_t count[3] = {0}, leads[3] = {0};
        ck_assert_uint_eq(place(node, KV_PARTITION_SYSTEM), 0);
        for (uint32_t p = 0; p <= KV_PARTITIONS_DEFAULT; p++) {
            uint32_t at = place(node, p);
            ck_assert_uint_lt(at, 3);
            count[at]++;
            leads[at] += group_leads(worker_group(node_of(cluster, node)->desks[at].worker, p));
        }
        for (uint32_t k = 0; k < 3; k++) ck_assert(count[k] == 3 && leads[k] == 1);
        for (uint32_t k = 1; k < 3; k++) { /* and worker 0 knows */
            const struct seat_counts *told = seats_counts(cluster_worker(cluster, node), k);
            ck_assert(told->replicas == 3 && told->leads == 1 && told->led_by == 3);
        }
    }
    end();
}
END_TEST

/* Moved on its own node: copied to the other worker, then swapped; its leader is asked wherever it is. */
START_TEST(a_replica_moves_to_the_other_worker)
{
    begin(3, 2);
    for (uint32_t node = 1; node <= 3; node++) {
        char text[8];
        snprintf(text, sizeof text, "%u", node);
        ask(1, KV_OP_KVMOVE, "1", text, text);
        run(4000);
        ck_assert_int_eq(last, KV_OK);
        ck_assert_uint_eq(place(node, 1), 0);
    }
    ask(2, KV_OP_SET, "a", "1", NULL);
    run(1000);
    ck_assert_int_eq(last, KV_OK);
    end();
}
END_TEST

static void set_some(uint32_t count) /* in all partitions */
{
    for (uint32_t i = 0; i < count; i++) {
        char key[8];
        snprintf(key, sizeof key, "k%u", i);
        ask(1, KV_OP_SET, key, "1", NULL);
    }
}

START_TEST(the_only_replica_moves_too)
{
    enum { SOME = 20 };
    begin(1, 2);
    set_some(SOME);
    run(500);
    uint64_t rows = worker_group(cluster_worker(cluster, 1), 2)->applied;
    ask(1, KV_OP_KVMOVE, "2", "1", "1");
    for (uint32_t i = 0; i < 5000 && (i < 10 || place(1, 2) != 1); i++) run(1);
    ck_assert_int_eq(last, KV_OK);
    ck_assert_uint_eq(place(1, 2), 1);
    answers = 0;
    set_some(SOME); /* at once: it is known where it went */
    run(200);
    ck_assert_uint_eq(answers, SOME);
    const struct group *g = worker_group(node_of(cluster, 1)->desks[1].worker, 2);
    ck_assert(group_leads(g) && g->applied > rows && g->descriptor.replica_count == 1);
    struct worker *w = cluster_worker(cluster, 1);
    ck_assert_uint_eq(map_leader(map_get(w, 2)), 1); /* worker 0 has none of it any more, and knows who leads */
    end();
}
END_TEST

/* A successor whose place was chosen when nothing was there, before the replica that it succeeds was born on that worker. */
START_TEST(a_place_that_is_taken_by_then_costs_an_id)
{
    begin(3, 2);
    struct worker *w = cluster_worker(cluster, 1);
    ck_assert_uint_eq(place(1, 2), 0);
    raft_id next = worker_group(w, 2)->descriptor.replica_next;
    seats_placed_here(w, 2, next);
    ask(1, KV_OP_KVMOVE, "2", "1", "1");
    run(5000);
    ck_assert_int_eq(last, KV_OK);
    ck_assert_uint_eq(place(1, 2), 1);
    ck_assert_uint_eq(worker_group(node_of(cluster, 1)->desks[1].worker, 2)->replica, next + 1);
    end();
}
END_TEST

START_TEST(a_node_of_one_worker_has_nowhere_to_move_to)
{
    begin(3, 1);
    ask(1, KV_OP_KVMOVE, "2", "1", "1");
    run(1000);
    ck_assert_int_eq(last, KV_CONDITION);
    ck_assert_ptr_nonnull(strstr(said, "one worker"));
    end();
}
END_TEST

/* Partitions 1 and 2 are neighbours, on workers 1 and 0 of each node. */
START_TEST(sides_of_a_merge_come_together_first)
{
    begin(3, 2);
    struct kv_key edge;
    kv_key_slot_start(KV_KEYSPACE_DEFAULT, KV_SLOTS / KV_PARTITIONS_DEFAULT, &edge);
    for (int tries = 0; tries < 5 && (answers == 0 || last != KV_OK); tries++) {
        struct kv_slice arg = kv_key_slice(&edge);
        struct request *r = request_make(cluster_worker(cluster, 1));
        r->done = answered;
        r->body = (struct kv_request){.op = KV_OP_KVMERGE, .args = &arg, .arg_count = 1, .keyspace = KV_KEYSPACE_DEFAULT, .deadline_ms = 10000};
        request_start(r);
        run(8000);
    }
    ck_assert_msg(last == KV_OK, "%s", said);
    for (uint32_t node = 1; node <= 3; node++) {
        ck_assert_uint_eq(place(node, 1), 1);
        ck_assert_uint_eq(place(node, 2), UINT32_MAX);
    }
    end();
}
END_TEST

/* What one worker has for another piles up while that does not run; then requests are refused, unapplied. */
START_TEST(a_full_way_refuses)
{
    enum { VALUE_BYTES = 1 << 20,
           TRIES = 70 };
    begin(1, 2);
    struct worker *w = cluster_worker(cluster, 1);
    char *value = calloc(1, VALUE_BYTES + 1);
    memset(value, 'x', VALUE_BYTES);
    uint32_t refused = 0;
    char key[16] = "";
    for (int i = 0; key[0] == '\0' || map_slot(w, kv_slot(kv_str(key)))->id % 2 == 0; i++) snprintf(key, sizeof key, "k%d", i);
    for (int i = 0; i < TRIES; i++) { /* no event in between: the other worker does not get to run */
        last = KV_OK;
        ask(1, KV_OP_SET, key, value, NULL);
        refused += last == KV_BUSY;
    }
    ck_assert_uint_gt(refused, 0);
    ck_assert_uint_lt(refused, TRIES);
    run(10000);
    ask(1, KV_OP_SET, key, "1", NULL);
    run(1000);
    ck_assert_int_eq(last, KV_OK);
    ck_assert_uint_eq(w->open_count, 0);
    free(value);
    end();
}
END_TEST

START_TEST(a_directory_is_of_so_many_workers)
{
    begin(3, 2);
    cluster_crash(cluster, 2, SIM_KILL);
    /* One part of it is another one. */
    struct desk *d = &cluster->nodes[1].desks[1];
    disk_sim_destroy(d->disk);
    d->checkpoint->ops->destroy(d->checkpoint);
    d->checkpoint = checkpoint_mem_create();
    d->disk = disk_sim_create(&(struct disk_sim_options){.sim = sim, .host = d->host, .seed = 5, .sync_min_ns = KV_MS(1), .sync_max_ns = KV_MS(1)});
    ck_assert(!cluster_start(cluster, 2));
    ck_assert_ptr_nonnull(strstr(cluster_why(cluster, 2), "worker-1 is not the directory that belongs there"));
    /* Another number of them. */
    cluster->o.workers = 1;
    ck_assert(!cluster_start(cluster, 2));
    ck_assert_ptr_nonnull(strstr(cluster_why(cluster, 2), "holds the data of 2 workers, not of 1"));
    cluster->o.workers = 2;
    cluster_destroy(cluster);
    sim_destroy(sim);
}
END_TEST

UNIT_MAIN("workers", partitions_are_spread_from_the_start, a_replica_moves_to_the_other_worker, the_only_replica_moves_too,
          a_place_that_is_taken_by_then_costs_an_id, a_node_of_one_worker_has_nowhere_to_move_to, sides_of_a_merge_come_together_first, a_full_way_refuses, a_directory_is_of_so_many_workers)

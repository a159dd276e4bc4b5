#include "server/map.h"
#include "server/request.h"
#include "tests/sim/cluster.h"
#include "tests/unit/unit.h"
#include <sodium.h>

/* What a node says of a write whose way was long. A scripted story in the simulated world: node 1 forwards it
 * to the leader, node 2, which dies with it; node 1 is elected, takes the write into its own log, and
 * is cut off; the others commit something else at that index. That entry surely had no effect, but of
 * the first sending node 1 knows nothing. */
struct story {
    struct sim *sim;
    struct cluster *cluster;
    char key[8]; /* of a partition that node 1 leads when it can */
    struct answer {
        bool here;
        enum kv_err err;
        enum kv_applied applied;
    } first, second;
};

static void patient(void *context, struct config *c)
{
    (void)context;
    c->resp_deadline = KV_SECONDS(3600);
    c->raft_log_keep = 0; /* who was away for a while needs a snapshot */
    c->storage_segment = c->storage_segment_max = 64 << 10;
}

static void answered(struct request *r, const struct kv_reply *reply)
{
    *(struct answer *)r->owner = (struct answer){true, reply->err, reply->applied};
}

static void write_at(struct story *s, uint32_t node, const char *value, struct answer *to)
{
    struct request *r = request_make(cluster_worker(s->cluster, node));
    ck_assert_ptr_nonnull(r);
    struct kv_slice args[] = {kv_str(s->key), kv_str(value)};
    r->body = (struct kv_request){.op = KV_OP_SET, .args = args, .arg_count = 2};
    r->done = answered;
    r->owner = to;
    request_start(r);
}

static struct group *group_at(struct story *s, uint32_t node)
{
    const struct partition *p = map_slot(cluster_worker(s->cluster, node), kv_slot(kv_str(s->key)));
    return p == NULL ? NULL : p->group;
}

static bool leads(struct story *s, uint32_t node)
{
    return group_leads(group_at(s, node));
}

static void until_(struct story *s, bool (*holds)(struct story *s), const char *what)
{
    uint64_t end = sim_now_ns(s->sim) + KV_SECONDS(20);
    while (!holds(s)) {
        ck_assert_msg(sim_now_ns(s->sim) < end, "it does not come to that: %s", what);
        ck_assert(sim_step(s->sim));
    }
}

#define until(s, holds) until_(s, holds, #holds)

static bool settled(struct story *s)
{
    char why[256];
    return group_at(s, 1) != NULL && cluster_settled(s->cluster, why, sizeof why);
}
static bool second_leads(struct story *s)
{
    if (!leads(s, 2) && group_at(s, 1)->leader != 0 && !leads(s, 3) && leads(s, 1)) {
        struct group *g = group_at(s, 1);
        raft_transfer(g->raft, g->descriptor.replicas[1].id, env_now_ns(g->w->env));
        group_touch(g);
    }
    return leads(s, 2) && group_at(s, 1)->leader == group_at(s, 2)->replica;
}
static bool first_leads(struct story *s)
{
    return leads(s, 1);
}
static bool first_proposed(struct story *s)
{
    return group_at(s, 1)->waiting_head != NULL;
}
static bool other_leads(struct story *s)
{
    return leads(s, 2) || leads(s, 3);
}
static bool second_answered(struct story *s)
{
    return s->second.here;
}
static bool first_answered(struct story *s)
{
    return s->first.here;
}

static void cut(struct story *s, bool open)
{
    void (*set)(struct sim *, struct sim_host *, struct sim_host *) = open ? sim_link_open : sim_link_block;
    for (uint32_t node = 2; node <= 3; node++) {
        set(s->sim, cluster_host(s->cluster, 1), cluster_host(s->cluster, node));
        set(s->sim, cluster_host(s->cluster, node), cluster_host(s->cluster, 1));
    }
}

static void start(struct story *s, uint64_t seed)
{
    *s = (struct story){0};
    s->sim = sim_create(&(struct sim_options){
        .seed = seed, .wall_start_ms = 1767225600000, .net = {.delay_min_ns = KV_MS(1), .delay_max_ns = KV_MS(1)}});
    ck_assert_ptr_nonnull(s->sim);
    s->cluster = cluster_create(&(struct cluster_options){
        .sim = s->sim, .nodes = 3, .seed = seed, .tune = patient, .sync_min_ns = KV_MS(1), .sync_max_ns = KV_MS(1)});
    ck_assert_ptr_nonnull(s->cluster);
    for (uint32_t node = 1; node <= 3; node++) ck_assert(cluster_start(s->cluster, node));
    until(s, settled);
    for (int i = 0; group_at(s, 1)->descriptor.replicas[0].node != 1; i++)
        snprintf(s->key, sizeof s->key, "key%d", i % 100);
}

/* Node 1 has forwarded to node 2, which dies with it. */
static void begin(struct story *s, uint64_t seed)
{
    start(s, seed);
    until(s, second_leads);
    cluster_crash(s->cluster, 2, SIM_POWER); /* unheard: node 1 sends into the void */
    write_at(s, 1, "first", &s->first);
    ck_assert_uint_eq(group_at(s, 1)->at->line.sent, 1);
}

static void end(struct story *s)
{
    cluster_destroy(s->cluster);
    sim_destroy(s->sim);
}

/* Where node 1 is elected: others end early. */
START_TEST(an_earlier_sending_is_not_forgotten)
{
    struct story s;
    begin(&s, (uint64_t)_i);
    while (!first_leads(&s) && !s.first.here) ck_assert(sim_step(s.sim));
    if (s.first.here) { /* the other one was elected, and answered */
        end(&s);
        return;
    }
    cut(&s, false);
    until(&s, first_proposed);
    ck_assert(cluster_start(s.cluster, 2));
    until(&s, other_leads);
    for (int i = 0; i < 3; i++) {
        s.second.here = false;
        write_at(&s, leads(&s, 2) ? 2 : 3, "second", &s.second);
        until(&s, second_answered);
        ck_assert_int_eq(s.second.err, KV_OK);
    }
    ck_assert(!s.first.here);
    cut(&s, true);
    until(&s, first_answered);
    ck_assert(s.first.err == KV_OK || s.first.applied == KV_APPLIED_MAYBE);
    ck_assert_int_ne(s.first.err, KV_OK); /* or the story went another way, and proves nothing */
    end(&s);
}
END_TEST

/* Node 1 leads, its write reaches the others, their answers do not reach it: they commit it without node 1,
 * go on, and forget the log of it. The snapshot that node 1 is given holds the effect and does not say so. */
START_TEST(what_a_snapshot_may_hold_is_not_denied)
{
    struct story s;
    start(&s, (uint64_t)_i);
    until(&s, first_leads);
    sim_run_until(s.sim, sim_now_ns(s.sim) + KV_SECONDS(1));
    for (uint32_t node = 2; node <= 3; node++)
        sim_link_block(s.sim, cluster_host(s.cluster, node), cluster_host(s.cluster, 1));
    uint64_t before = group_at(&s, 1)->applied;
    write_at(&s, 1, "first", &s.first);
    sim_run_until(s.sim, sim_now_ns(s.sim) + KV_MS(50));
    cut(&s, false);
    until(&s, other_leads);
    static char big[32 << 10];
    memset(big, 'x', sizeof big - 1);
    for (int i = 0; i < 20; i++) {
        s.second.here = false;
        write_at(&s, leads(&s, 2) ? 2 : 3, i == 0 ? "second" : big, &s.second);
        until(&s, second_answered);
        ck_assert_int_eq(s.second.err, KV_OK);
        for (uint32_t node = 2; node <= 3; node++) store_checkpoint(cluster_worker(s.cluster, node)->store, NULL);
        sim_run_until(s.sim, sim_now_ns(s.sim) + KV_MS(100));
    }
    struct group *g = group_at(&s, leads(&s, 2) ? 2 : 3);
    ck_assert_uint_gt(log_first(store_log(g->w->store), g->id), before + 1); /* or there is no need for a snapshot */
    ck_assert(!s.first.here);
    cut(&s, true);
    until(&s, first_answered);
    ck_assert_int_ne(s.first.err, KV_OK);
    ck_assert_int_eq(s.first.applied, KV_APPLIED_MAYBE);
    end(&s);
}
END_TEST

/* A write is sent again only while its idempotency key is surely remembered, however patient its client. */
START_TEST(nothing_is_sent_again_for_ever)
{
    struct story s;
    begin(&s, (uint64_t)_i);
    cut(&s, false);
    sim_run_until(s.sim, sim_now_ns(s.sim) + KV_MS(KV_DEDUP_MS));
    ck_assert(s.first.here);
    ck_assert_int_eq(s.first.applied, KV_APPLIED_MAYBE);
    end(&s);
}
END_TEST

/* Node 1 leads with six entries that nobody else has, loses its place, has it again, and proposes where those stood. */
START_TEST(a_leader_proposes_below_what_it_queued)
{
    enum { OLD = 6 };
    struct story s;
    struct answer old[OLD] = {0};
    start(&s, (uint64_t)_i);
    until(&s, first_leads);
    cut(&s, false);
    uint64_t before = group_at(&s, 1)->applied;
    for (int i = 0; i < OLD; i++) write_at(&s, 1, "old", &old[i]);
    until(&s, first_proposed);
    until(&s, other_leads);
    cut(&s, true);
    until(&s, first_leads); /* as it belongs there */
    sim_run_until(s.sim, sim_now_ns(s.sim) + KV_MS(100));
    ck_assert(!old[OLD - 1].here && group_at(&s, 1)->applied < before + OLD); /* or there is nothing below */
    for (int i = 0; i < OLD; i++) {
        s.second.here = false;
        write_at(&s, 1, "second", &s.second);
        until(&s, second_answered);
        ck_assert_int_eq(s.second.err, KV_OK);
    }
    for (int i = 0; i < OLD; i++) {
        ck_assert(old[i].here);
        ck_assert_int_ne(old[i].err, KV_OK);
        ck_assert_int_eq(old[i].applied, KV_APPLIED_NO); /* another stands in its place */
    }
    end(&s);
}
END_TEST

int main(void)
{
    if (sodium_init() < 0) return 1;
    Suite *suite = suite_create("uncertain");
    TCase *c = tcase_create("uncertain");
    tcase_add_loop_test(c, an_earlier_sending_is_not_forgotten, 1, 10);
    tcase_add_loop_test(c, what_a_snapshot_may_hold_is_not_denied, 1, 4);
    tcase_add_loop_test(c, nothing_is_sent_again_for_ever, 1, 3);
    tcase_add_loop_test(c, a_leader_proposes_below_what_it_queued, 1, 4);
    tcase_set_timeout(c, 60);
    suite_add_tcase(suite, c);
    return unit_finish(suite);
}

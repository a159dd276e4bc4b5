#include "tests/sim/swarm.h"
#include "client/base/hash.h"
#include "tests/sim/swarm_impl.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* The run of one seed. All choices are drawn from the world's stream, in a fixed order. */

enum {
    SETTLE_SECONDS_MAX = 20,   /* healed: every client must have had an answer by then */
    CONVERGE_SECONDS_MAX = 30, /* and all replicas the same state, */
    PLACE_SECONDS_MAX = 150,   /* where replicas have to move first, four partitions at a time */
    CHECK_EVENTS = 64          /* between two checks of all invariants: nine groups are too many for each step */
};

static const char *const fault_texts[] = {
#define X(name, text, help) text,
    SWARM_FAULTS(X)
#undef X
};

const char *swarm_fault_text(enum swarm_fault f)
{
    return fault_texts[f];
}

bool swarm_fault_find(const char *text, enum swarm_fault *f)
{
    for (uint32_t i = 0; i < SWARM_FAULT_COUNT; i++) {
        if (strcmp(text, fault_texts[i]) != 0) continue;
        *f = (enum swarm_fault)i;
        return true;
    }
    return false;
}

void swarm_trace_print(const struct sim_trace *t, uint32_t count, FILE *out)
{
    uint64_t have = t->count < SIM_TRACE_EVENTS ? t->count : SIM_TRACE_EVENTS;
    if (count > have) count = (uint32_t)have;
    for (uint64_t i = t->count - count; i < t->count; i++) {
        const struct sim_trace_event *e = &t->events[i % SIM_TRACE_EVENTS];
        fprintf(out, "%11.6f  ", (double)e->time_ns / 1e9);
        if (e->host == 0) fputs("world   ", out);
        else fprintf(out, "host %-2u ", e->host);
        fprintf(out, "%.*s\n", SIM_TRACE_TEXT_BYTES, e->text);
    }
}

void swarm_fail(struct swarm *w, const char *format, ...)
{
    if (w->out->failed) return;
    w->out->failed = true;
    va_list args;
    va_start(args, format);
    vsnprintf(w->out->why, sizeof w->out->why, format, args);
    va_end(args);
    sim_note(w->sim, NULL, "FAILED: %.60s", w->out->why);
}

static void on_step(void *context)
{
    struct swarm *w = context;
    char why[256];
    swarm_faults_step(w);
    for (uint32_t i = 1; i <= w->plan.nodes && w->counted != 0; i++)
        if ((w->counted >> i & 1) != 0 && !cluster_commit_check(w->cluster, i, why, sizeof why)) swarm_fail(w, "%s", why);
    w->counted = 0;
    if (w->out->failed || sim_events(w->sim) % CHECK_EVENTS != 0) return;
    if (!cluster_check(w->cluster, why, sizeof why)) swarm_fail(w, "%s", why);
}

static void on_event(void *context, uint32_t node, const char *event)
{
    struct swarm *w = context;
    enum sim_mark m = sim_mark_find(event);
    if (m == SIM_MARK_COUNT) return;
    w->out->marks[m]++;
    if (m == SIM_MARK_COMMIT) w->counted |= UINT64_C(1) << node;
    swarm_moment(w, m, node);
}

static void tune(void *context, struct config *c)
{
    const struct swarm_plan *p = context;
    c->storage_segment = c->storage_segment_max = p->segment_bytes;
    c->storage_memtable = p->memtable_bytes;
    c->storage_log_cache = p->log_cache_bytes;
    c->raft_log_keep = p->log_keep_bytes;
    c->raft_batch = p->batch_entries;
    c->raft_heartbeat = c->raft_heartbeat * p->pace_percent / 100;
    c->raft_lease = c->raft_lease * p->pace_percent / 100;
    c->raft_election = c->raft_election * p->pace_percent / 100;
    c->raft_quiet = p->quiet_ns;
    c->coordinator_settle = p->settle_ns;
    c->coordinator_split_load = p->split_load;
    c->coordinator_split_bytes = p->split_bytes;
    c->coordinator_merge_after = p->merge_after_ns;
    c->coordinator_partitions = p->partitions_max;
    c->coordinator_balance_load = p->balance_load;
    c->service_rate = p->service_rate;
    c->coordinator_dead = p->dead_ns;
}

/* A number that is small more often than large: 2^k, k uniform. */
static uint64_t power(struct sim *s, uint32_t from, uint32_t to)
{
    return (uint64_t)1 << (from + sim_below(s, to - from + 1));
}

static bool plan_has(const struct swarm_plan *p, enum swarm_fault f)
{
    for (uint32_t i = 0; i < p->fault_kinds; i++)
        if (p->faults[i] == f) return true;
    return false;
}

/* Nodes that are not for everything: enough for the replicas to hold data, at least one to hold partition 0 and one to take
 * clients, the others as it comes. */
static void roles_draw(struct sim *s, struct swarm_plan *p)
{
    uint32_t storage = 0, coordinators = 0, gateways = 0;
    p->replicas = p->nodes < 3 ? p->nodes : 3;
    for (uint32_t i = 1; i <= p->nodes; i++) {
        p->roles[i] = 1 + (uint32_t)sim_below(s, KV_NODE_ROLES_ALL);
        if (storage + p->nodes - i < p->replicas) p->roles[i] |= KV_NODE_STORAGE;
        if (coordinators == 0 && i == p->nodes) p->roles[i] |= KV_NODE_COORDINATOR;
        if (gateways == 0 && i == p->nodes) p->roles[i] |= KV_NODE_GATEWAY;
        storage += kv_node_has(p->roles[i], KV_NODE_STORAGE);
        coordinators += kv_node_has(p->roles[i], KV_NODE_COORDINATOR);
        gateways += kv_node_has(p->roles[i], KV_NODE_GATEWAY);
    }
}

static void plan_draw(struct swarm *w)
{
    struct sim *s = w->sim;
    struct swarm_plan *p = &w->plan;
    uint64_t kind = sim_below(s, 100);
    p->nodes = w->o.nodes != 0 ? w->o.nodes : kind < 60 ? 3
                                          : kind < 92   ? 5
                                                        : 1;
    p->replicas = p->nodes > 3 && sim_chance(s, 500000) ? 3 : p->nodes;
    if (w->o.roles || (p->nodes > 3 && sim_chance(s, 400000))) {
        if (w->o.nodes == 0) p->nodes = 4 + (uint32_t)sim_below(s, 5);
        roles_draw(s, p);
    }
    p->clients = 1 + (uint32_t)sim_below(s, w->o.clients_max);
    p->segment_bytes = power(s, 14, 20); /* small: checkpoints, snapshots and recycling are frequent */
    p->memtable_bytes = power(s, 15, 22);
    p->log_cache_bytes = power(s, 14, 20);
    p->log_keep_bytes = power(s, 12, 20);
    p->net.delay_min_ns = power(s, 15, 19);
    p->net.delay_max_ns = p->net.delay_min_ns + power(s, 15, 23);
    p->net.loss_ppm = sim_chance(s, 500000) ? (uint32_t)power(s, 4, 13) : 0;
    p->net.reset_ppm = sim_chance(s, 300000) ? (uint32_t)power(s, 4, 9) : 0;
    p->net.heal_break_ppm = (uint32_t)sim_below(s, 1000001);
    p->net.stall_break_ns = sim_chance(s, 500000) ? KV_SECONDS(1 + sim_below(s, 20)) : 0;
    if (w->o.faults == 0) p->net.loss_ppm = p->net.reset_ppm = 0; /* none means none */
    p->sync_min_ns = power(s, 14, 21);
    p->sync_max_ns = p->sync_min_ns + power(s, 14, 24);
    p->work_max_ns = power(s, 18, 23);
    p->pace_percent = sim_chance(s, 500000) ? 100 : 40 + (uint32_t)sim_below(s, 121);
    p->quiet_ns = sim_chance(s, 150000) ? 0 : power(s, 23, 31); /* 8 ms, within any pause of the clients, to 2 s */
    p->cuts_reset = sim_chance(s, 300000);
    p->batch_entries = sim_chance(s, 300000) ? (uint32_t)power(s, 0, 4) : 1024; /* few: inherited entries are counted before our own */
    for (uint32_t i = 0; i <= CLUSTER_NODES_MAX; i++) p->log_factor[i] = 1;
    for (uint32_t i = 0; i < (p->nodes - 1) / 2; i++) {
        uint64_t node = 1 + sim_below(s, p->nodes), factor = power(s, 1, 3);
        if (sim_chance(s, 400000)) p->log_factor[node] = (uint32_t)factor;
    }
    for (uint32_t f = 0; f < SWARM_FAULT_COUNT; f++)
        if ((w->o.faults >> f & 1) != 0 && sim_chance(s, 500000)) p->faults[p->fault_kinds++] = (enum swarm_fault)f;
    bool is_eager = sim_chance(s, 600000); /* the coordinator's limits are within what a handful of clients does */
    p->split_load = is_eager ? power(s, 2, 7) : 1000;
    p->split_bytes = is_eager ? power(s, 9, 14) : UINT64_C(4) << 30;
    p->merge_after_ns = is_eager ? power(s, 29, 32) : KV_SECONDS(600);
    p->settle_ns = is_eager ? power(s, 27, 32) : KV_SECONDS(5);
    p->partitions_max = 8 + (uint32_t)sim_below(s, 25);
    p->balance_load = is_eager ? power(s, 0, 6) : 100;
    p->dead_ns = sim_chance(s, 500000) ? power(s, 31, 34) : KV_SECONDS(600); /* 2 s .. 17 s, or none is */
    if (plan_has(p, SWARM_JOIN) && p->roles[1] == 0) p->late = 1 + (uint32_t)sim_below(s, 2);
    if (p->nodes + p->late > CLUSTER_NODES_MAX) p->late = CLUSTER_NODES_MAX - p->nodes;
    p->nodes += p->late;
    sim_net(s, &p->net);
    w->random = sim_random(s);
    uint64_t many = sim_below(s, 12);
    p->workers = w->o.workers != 0 ? w->o.workers : many < 8 ? 1
                                                : many < 11  ? 2
                                                             : 3;
    p->service_rate = w->o.seed % 8 == 7 ? (uint64_t)100 << (w->o.seed / 8 % 5) : 0;
}

static bool world_make(struct swarm *w)
{
    struct sim *s = w->sim;
    const struct swarm_plan *p = &w->plan;
    w->cluster = cluster_create(&(struct cluster_options){.sim = s,
                                                          .nodes = p->nodes,
                                                          .replicas = p->replicas,
                                                          .workers = p->workers,
                                                          .late = p->late,
                                                          .roles_of = p->roles,
                                                          .seed = sim_random(s),
                                                          .tune = tune,
                                                          .context = &w->plan,
                                                          .sync_min_ns = p->sync_min_ns,
                                                          .sync_max_ns = p->sync_max_ns,
                                                          .work_max_ns = p->work_max_ns,
                                                          .event = on_event,
                                                          .event_context = w,
                                                          .log_levels = w->o.log_levels});
    if (w->cluster == NULL) return false;
    uint32_t kinds = 1 + (uint32_t)sim_below(s, 15); /* bits: registers, counters, lists, mortals */
    struct workload_options wl = {.sim = s,
                                  .cluster = w->cluster,
                                  .clients = p->clients,
                                  .native_ppm = (uint32_t)sim_below(s, 1000001),
                                  .read_ppm = 200000 + (uint32_t)sim_below(s, 600000),
                                  .level_ppm = (uint32_t)sim_below(s, 1000001),
                                  .think_max_ns = power(s, 20, 26),
                                  .timeout_ns = KV_SECONDS(3),
                                  .seed = sim_random(s),
                                  .wall_is_sane = !plan_has(p, SWARM_WALL),
                                  .skip_ops = w->o.skips == NULL ? NULL : w->o.skips->ops};
    wl.registers = (kinds & 1) != 0 ? 1 + (uint32_t)sim_below(s, 4) : 0;
    wl.counters = (kinds & 2) != 0 ? 1 + (uint32_t)sim_below(s, 3) : 0;
    wl.lists = (kinds & 4) != 0 ? 1 + (uint32_t)sim_below(s, 3) : 0;
    wl.mortals = (kinds & 8) != 0 ? 1 + (uint32_t)sim_below(s, 3) : 0;
    if (sim_chance(s, 400000)) { /* one key that everybody wants: what is stale is seen */
        wl.registers = 1;
        wl.counters = wl.lists = wl.mortals = 0;
    }
    w->workload = workload_create(&wl);
    return w->workload != NULL;
}

/* Healed: every client gets an answer within the bound. */
static void liveness(struct swarm *w)
{
    uint64_t start = sim_now_ns(w->sim);
    struct workload_counts counts;
    workload_mark(w->workload);
    for (uint32_t step = 0; step < 10 * SETTLE_SECONDS_MAX && !w->out->failed; step++) {
        sim_run_until(w->sim, start + (step + 1) * KV_MS(100));
        workload_counts(w->workload, &counts);
        if (counts.ok_min > 0) {
            w->out->recovery_ns = sim_now_ns(w->sim) - start;
            return;
        }
    }
    uint64_t applied;
    char who[96];
    cluster_tell(w->cluster);
    workload_silent(w->workload, who, sizeof who);
    swarm_fail(w, "liveness: a client had no answer for %d s after healing: %s (%u leaders)", SETTLE_SECONDS_MAX, who,
               cluster_leaders(w->cluster, &applied));
}

/* All replicas of one state and, after a while, where they have to be; from then on nobody moves them. */
static bool at_rest(struct swarm *w, bool moves, char *why, size_t why_size)
{
    struct workload_counts counts;
    workload_counts(w->workload, &counts);
    snprintf(why, why_size, "%u operations are still open", counts.open);
    if (counts.open != 0 || !cluster_settled(w->cluster, why, why_size)) return false;
    return !moves || cluster_drained(w->cluster, why, why_size);
}

static bool come_to_rest(struct swarm *w, bool moves)
{
    char why[256] = "";
    bool has_moves = plan_has(&w->plan, SWARM_DRAIN) || w->out->faults[SWARM_ROLE] > 0;
    int seconds_max = moves && has_moves ? PLACE_SECONDS_MAX : CONVERGE_SECONDS_MAX;
    for (int step = 0; step < 10 * seconds_max && !w->out->failed; step++) {
        sim_run_until(w->sim, sim_now_ns(w->sim) + KV_MS(100));
        if (at_rest(w, moves, why, sizeof why)) return true;
    }
    cluster_tell(w->cluster);
    swarm_fail(w, "convergence: not within %d s: %s", seconds_max, why);
    return false;
}

static void convergence(struct swarm *w)
{
    char why[256] = "";
    workload_stop(w->workload);
    if (!come_to_rest(w, true)) return;
    cluster_coordinate(w->cluster, false);
    workload_read_all(w->workload);
    if (!come_to_rest(w, false)) return;
    if (!cluster_same_rows(w->cluster, why, sizeof why)) swarm_fail(w, "replicas differ: %s", why);
}

static void judge(struct swarm *w)
{
    const struct history *h = workload_history(w->workload);
    if (w->o.history_path != NULL) {
        FILE *f = fopen(w->o.history_path, "w");
        if (f != NULL) {
            history_save(h, f, false);
            fclose(f);
        }
    }
    struct check_result r;
    check_history(h, &(struct check_options){.limit = 5000000}, &r);
    if (r.verdict != CHECK_VALID && r.verdict != CHECK_UNDECIDED) {
        char *text = NULL;
        size_t size = 0;
        FILE *f = open_memstream(&text, &size);
        if (f != NULL) {
            check_print(h, &r, "history", f);
            fclose(f);
        }
        swarm_fail(w, "%s", text == NULL ? r.why : text);
        free(text);
    }
    w->out->undecided = r.verdict == CHECK_UNDECIDED;
    struct workload_counts counts;
    workload_counts(w->workload, &counts);
    if (counts.wrong != NULL) swarm_fail(w, "%s", counts.wrong);
    check_result_free(&r);
}

void swarm_run(const struct swarm_options *o, struct swarm_result *out)
{
    *out = (struct swarm_result){.failed = false};
    struct swarm w = {.o = *o, .out = out};
    w.sim = sim_create(&(struct sim_options){.seed = o->seed, .wall_start_ms = 1767225600000, .trace = o->trace});
    if (w.sim == NULL) {
        out->failed = out->done = true;
        snprintf(out->why, sizeof out->why, "out of memory");
        return;
    }
    plan_draw(&w);
    out->nodes = w.plan.nodes;
    out->workers = w.plan.workers;
    if (world_make(&w)) {
        sim_on_step(w.sim, on_step, &w);
        for (uint32_t i = 1; i <= w.plan.nodes; i++) {
            for (uint32_t k = 0; k < w.plan.workers; k++)
                disk_sim_slow(cluster_disk_of(w.cluster, i, k), w.plan.log_factor[i], 1);
            if (cluster_is_member(w.cluster, i)) swarm_start_node(&w, i);
        }
        workload_start(w.workload);
        swarm_faults_begin(&w);
        while (!out->failed && sim_now_ns(w.sim) < o->safety_ns)
            sim_run_until(w.sim, sim_now_ns(w.sim) + KV_MS(100));
        swarm_faults_heal(&w);
        if (!out->failed) liveness(&w);
        if (!out->failed) convergence(&w);
        judge(&w);
        for (uint32_t i = 0; i < w.plan.nodes * w.plan.workers; i++) {
            struct disk_sim *disk = cluster_disk_of(w.cluster, 1 + i / w.plan.workers, i % w.plan.workers);
            uint64_t digest = disk_mem_digest(disk_sim_mem(disk));
            sim_mix(w.sim, kv_slice(&digest, sizeof digest));
        }
        struct workload_counts counts;
        workload_counts(w.workload, &counts);
        out->ok = counts.ok;
        out->fail = counts.fail;
        out->info = counts.info;
        memcpy(out->reads, counts.reads, sizeof out->reads);
        out->op_count = counts.ops;
        out->fault_count = w.fault_total;
    } else {
        swarm_fail(&w, "the world could not be made: out of memory");
    }
    out->hash = sim_hash(w.sim);
    out->events = sim_events(w.sim);
    out->sim_ns = sim_now_ns(w.sim);
    sim_on_step(w.sim, NULL, NULL);
    sim_trace_end(w.sim);
    workload_destroy(w.workload);
    cluster_destroy(w.cluster);
    sim_destroy(w.sim);
    out->done = true;
}

#include "client/base/hash.h"
#include "client/base/key.h"
#include "tests/sim/swarm_impl.h"
#include <assert.h>
#include <stdio.h>

/* Faults of a run: they come by the clock, or in ambush right after a moment (marks.h). Links,
 * pauses and deaths may hit any number of nodes at once, since safety must hold anyway; of what
 * destroys synced data the atlas keeps count (atlas.c). */

uint64_t swarm_below(struct swarm *w, uint64_t n)
{
    assert(n > 0);
    return kv_random_next(&w->random) % n;
}

bool swarm_chance(struct swarm *w, uint32_t ppm)
{
    return ppm != 0 && swarm_below(w, 1000000) < ppm;
}

static void fault_note(struct swarm *w, enum swarm_fault f, uint32_t number, uint32_t node)
{
    w->out->faults[f]++;
    sim_note(w->sim, node == 0 ? NULL : cluster_host(w->cluster, node), "fault %u: %s", number, swarm_fault_text(f));
}

void swarm_start_node(struct swarm *w, uint32_t node)
{
    if (cluster_start(w->cluster, node)) {
        char why[256];
        swarm_untaint(w, node);
        if (!w->struck[node] && !cluster_intact(w->cluster, node, why, sizeof why)) swarm_fail(w, "%s", why);
        return;
    }
    if (w->full[node]) { /* nothing is lost by not starting on a full disk: its owner tries again */
        sim_after(w->sim, NULL, &w->restarts[node].event, KV_SECONDS(1));
        return;
    }
    w->out->starts_failed++;
    swarm_fail(w, "node %u does not start: %s", node, cluster_why(w->cluster, node));
}

static void crash(struct swarm *w, uint32_t node, enum sim_death how)
{
    if (!cluster_is_member(w->cluster, node) && !cluster_is_removed(w->cluster, node)) return;
    if (cluster_runs(w->cluster, node)) cluster_crash(w->cluster, node, how);
    /* A device that owes it writes takes them into its grave (atlas.c). */
    bool astray = disk_mem_since_misdirected(disk_sim_mem(cluster_disk(w->cluster, node))) > 0;
    if (w->tainted[node] && (how == SIM_POWER || astray)) swarm_wipe(w, node);
    bool soon = swarm_chance(w, 500000);
    sim_after(w->sim, NULL, &w->restarts[node].event, KV_MS(1) + swarm_below(w, soon ? KV_MS(60) : KV_SECONDS(4)));
}

static void restart_fires(struct sim_event *e)
{
    struct restart *r = container_of(e, struct restart, event);
    struct swarm *w = r->w;
    if (cluster_runs(w->cluster, r->node)) { /* it dies again before it got far */
        crash(w, r->node, SIM_POWER);
        return;
    }
    swarm_start_node(w, r->node);
    if (!w->healed && cluster_runs(w->cluster, r->node) && swarm_chance(w, w->season.again_ppm))
        sim_after(w->sim, NULL, e, 1 + swarm_below(w, KV_MS(500)));
}

static void wipe(struct swarm *w, uint32_t node, enum sim_death how)
{
    crash(w, node, how);
    swarm_wipe(w, node);
}

void swarm_faults_step(struct swarm *w)
{
    for (uint32_t i = 1; i <= w->plan.nodes; i++) {
        if (!cluster_runs(w->cluster, i)) continue;
        bool crashed = false;
        for (uint32_t k = 0; k < cluster_workers(w->cluster); k++)
            crashed = crashed || disk_mem_is_crashed(disk_sim_mem(cluster_disk_of(w->cluster, i, k)));
        if (crashed) crash(w, i, SIM_POWER);
        else if (w->tainted[i] && swarm_misdirection_is_proven(w, i)) crash(w, i, SIM_KILL);
    }
    if (cluster_reap(w->cluster) == 0) return;
    for (uint32_t i = 1; i <= w->plan.nodes; i++)
        if (cluster_is_member(w->cluster, i) && !cluster_runs(w->cluster, i) && w->restarts[i].event.heap_index == 0) crash(w, i, SIM_KILL);
}

static void calm_fires(struct sim_event *e)
{
    struct calm *c = container_of(e, struct calm, event);
    struct sim_host *h = cluster_host(c->w->cluster, c->node);
    sim_host_stutter(h, 0, 0);
    sim_host_slow(h, 0);
    struct disk_mem *d = disk_sim_mem(cluster_disk(c->w->cluster, c->node));
    for (uint32_t k = 0; k < cluster_workers(c->w->cluster); k++) {
        disk_sim_slow(cluster_disk_of(c->w->cluster, c->node, k), c->w->plan.log_factor[c->node], 1);
        disk_mem_capacity_set(disk_sim_mem(cluster_disk_of(c->w->cluster, c->node, k)), 0);
    }
    c->w->full[c->node] = false;
    if (c->w->lying[c->node]) {
        c->w->lying[c->node] = false;
        disk_mem_faults_set(d, &(struct disk_mem_faults){0});
        swarm_untaint(c->w, c->node);
    }
    for (uint32_t i = 1; i <= c->w->plan.nodes; i++) {
        sim_link_delay(c->w->sim, h, cluster_host(c->w->cluster, i), 0);
        sim_link_delay(c->w->sim, cluster_host(c->w->cluster, i), h, 0);
    }
}

static void calm_later(struct swarm *w, uint32_t node)
{
    sim_after(w->sim, NULL, &w->calms[node].event, KV_MS(100) + swarm_below(w, KV_SECONDS(5)));
}

static void links_open(struct swarm *w)
{
    for (uint32_t i = 1; i <= w->plan.nodes; i++)
        for (uint32_t k = 1; k <= w->plan.nodes; k++)
            sim_link_open(w->sim, cluster_host(w->cluster, i), cluster_host(w->cluster, k));
    for (uint32_t i = 1; i <= w->plan.nodes; i++)
        for (uint32_t k = 1; k <= w->plan.clients; k++) {
            sim_link_open(w->sim, cluster_host(w->cluster, i), workload_host(w->workload, k));
            sim_link_open(w->sim, workload_host(w->workload, k), cluster_host(w->cluster, i));
        }
}

static void heal_fires(struct sim_event *e)
{
    struct swarm *w = container_of(e, struct swarm, heal_links);
    sim_note(w->sim, NULL, "links heal");
    links_open(w);
}

static void block(struct swarm *w, uint32_t from, uint32_t to)
{
    struct sim_host *a = cluster_host(w->cluster, from), *b = cluster_host(w->cluster, to);
    sim_link_block(w->sim, a, b);
    if (w->plan.cuts_reset) sim_cut_connections(w->sim, a, b);
}

/* `first`: who is isolated, or the bridge. */
static void partition(struct swarm *w, enum swarm_fault f, uint32_t first)
{
    uint32_t n = w->plan.nodes, order[CLUSTER_NODES_MAX];
    for (uint32_t i = 0; i < n; i++) order[i] = i + 1;
    for (uint32_t i = n; i-- > 1;) {
        uint32_t k = (uint32_t)swarm_below(w, i + 1), t = order[i];
        order[i] = order[k];
        order[k] = t;
    }
    for (uint32_t i = 0; i < n; i++)
        if (order[i] == first) order[i] = order[0];
    order[0] = first;
    uint32_t half = 1 + (uint32_t)swarm_below(w, n - 1), way = (uint32_t)swarm_below(w, 3);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < n; k++) {
            bool cut = false;
            if (f == SWARM_SPLIT) cut = (i < half) != (k < half);
            else if (f == SWARM_ISOLATE) cut = (i == 0 && way != 1) || (k == 0 && way != 2);
            else if (f == SWARM_BRIDGE) cut = i != 0 && k != 0 && (i <= n / 2) != (k <= n / 2);
            else if (f == SWARM_RING) cut = (i + 1) % n != k && (k + 1) % n != i;
            if (cut && i != k) block(w, order[i], order[k]);
        }
    }
    sim_after(w->sim, NULL, &w->heal_links, KV_MS(50) + swarm_below(w, swarm_chance(w, 400000) ? KV_MS(600) : KV_SECONDS(8)));
}

/* Clients and nodes lose sight of each other, both ways or one; the nodes go on. */
static void client_cut(struct swarm *w, uint32_t node)
{
    uint32_t way = (uint32_t)swarm_below(w, 3);
    bool all_nodes = swarm_chance(w, 200000);
    for (uint32_t k = 1; k <= w->plan.clients; k++) {
        if (swarm_chance(w, 500000)) continue;
        for (uint32_t i = 1; i <= w->plan.nodes; i++) {
            if (i != node && !all_nodes) continue;
            if (way != 1) sim_link_block(w->sim, cluster_host(w->cluster, i), workload_host(w->workload, k));
            if (way != 2) sim_link_block(w->sim, workload_host(w->workload, k), cluster_host(w->cluster, i));
        }
    }
    sim_after(w->sim, NULL, &w->heal_links, KV_MS(50) + swarm_below(w, KV_SECONDS(4)));
}

static void slow_something(struct swarm *w, enum swarm_fault f, uint32_t node)
{
    struct sim *s = w->sim;
    struct sim_host *h = cluster_host(w->cluster, node);
    if (f == SWARM_STUTTER) {
        sim_host_stutter(h, 20 + (uint32_t)swarm_below(w, 2000), KV_MS(1) + swarm_below(w, KV_MS(400)));
    } else if (f == SWARM_SLOW) {
        sim_host_slow(h, 10000 + swarm_below(w, 300000));
    } else if (f == SWARM_DISK_SLOW) {
        uint32_t least = UINT32_C(2) << swarm_below(w, 6), which = (uint32_t)swarm_below(w, 3);
        uint32_t factor = least + (uint32_t)swarm_below(w, least);
        for (uint32_t k = 0; k < cluster_workers(w->cluster); k++)
            disk_sim_slow(cluster_disk_of(w->cluster, node, k), which == 0 ? 1 : factor, which == 1 ? 1 : factor);
    } else {
        uint32_t other = 1 + (uint32_t)swarm_below(w, w->plan.nodes);
        uint64_t extra = (UINT64_C(1) << (20 + swarm_below(w, 10))) + swarm_below(w, KV_MS(20)); /* 1 ms .. half a second */
        sim_link_delay(s, h, cluster_host(w->cluster, other), extra);
        if (swarm_chance(w, 500000)) sim_link_delay(s, cluster_host(w->cluster, other), h, extra);
    }
    calm_later(w, node);
}

static void disk_full(struct swarm *w, uint32_t node)
{
    bool all = swarm_chance(w, 200000);
    for (uint32_t i = 1; i <= w->plan.nodes; i++) {
        if (i != node && !all) continue;
        for (uint32_t k = 0; k < cluster_workers(w->cluster); k++) {
            struct disk_mem *d = disk_sim_mem(cluster_disk_of(w->cluster, i, k));
            disk_mem_capacity_set(d, disk_mem_bytes(d) + 1 + swarm_below(w, 2 * w->plan.segment_bytes));
        }
        w->full[i] = true;
        calm_later(w, i);
    }
}

/* False: the atlas does not allow it now. */
static bool disk_fault(struct swarm *w, enum swarm_fault f, uint32_t node)
{
    struct disk_mem_faults x = {0};
    uint64_t when = 1 + swarm_below(w, 20);
    if (w->tainted[node]) return false; /* one broken promise at a time */
    if (f == SWARM_LIE || f == SWARM_MISDIRECT) {
        if (!swarm_may_lose(w, node)) return false;
        w->tainted[node] = true;
        w->lying[node] = f == SWARM_LIE;
    }
    if (f == SWARM_DISK_CRASH) x.crash_at = when;
    else if (f == SWARM_LIE) x.lies = true;
    else if (f == SWARM_MISDIRECT) x.misdirect_append_at = 1;
    else if (swarm_chance(w, 500000)) x.fail_sync_at = when;
    else x.fail_write_at = when;
    disk_mem_faults_set(disk_sim_mem(cluster_disk(w->cluster, node)), &x);
    if (f == SWARM_LIE) calm_later(w, node);
    return true;
}

static bool rot(struct swarm *w, uint32_t node)
{
    if (!swarm_may_lose(w, node)) return false;
    if (swarm_rot(w, node) > 0) crash(w, node, SIM_KILL); /* and finds it when it reads its log again */
    return true;
}

static void drift(struct swarm *w)
{
    bool at_bounds = swarm_chance(w, 500000);
    for (uint32_t i = 1; i <= w->plan.nodes; i++) {
        int32_t bound = (int32_t)cluster_config(w->cluster, i)->raft_drift;
        int32_t ppm = (int32_t)swarm_below(w, 2 * (uint64_t)bound + 1) - bound;
        if (at_bounds) ppm = ppm < 0 ? -bound : bound;
        sim_host_drift(cluster_host(w->cluster, i), ppm);
    }
}

/* Often at the slot of a key in use, or behind it. */
static bool divide(struct swarm *w, uint32_t node)
{
    enum { DIVISIONS_MAX = 48 };
    if (w->out->faults[SWARM_DIVIDE] >= DIVISIONS_MAX) return false;
    char key[16];
    snprintf(key, sizeof key, "%c%u", "rclt"[swarm_below(w, 4)], (uint32_t)swarm_below(w, 4));
    uint32_t slot = (uint32_t)swarm_below(w, KV_SLOTS);
    if (swarm_chance(w, 700000)) slot = ((uint32_t)kv_slot(kv_str(key)) + (uint32_t)swarm_below(w, 2)) % KV_SLOTS;
    cluster_divide(w->cluster, node, (uint16_t)slot);
    return true;
}

static bool move(struct swarm *w, uint32_t node)
{
    if (w->plan.replicas >= w->plan.nodes && w->plan.workers == 1) return false;
    cluster_move(w->cluster, node, swarm_below(w, 1 << 16), swarm_below(w, 1 << 16), swarm_below(w, 1 << 16));
    return true;
}

/* Few names, so that they meet: made while they are there, made anew, written to while they go. */
static bool keyspace(struct swarm *w, uint32_t node)
{
    enum { KEYSPACES_MAX = 40 };
    if (w->out->faults[SWARM_KEYSPACE] >= KEYSPACES_MAX) return false;
    cluster_keyspace(w->cluster, node, (uint32_t)swarm_below(w, 3), swarm_below(w, UINT64_MAX));
    return true;
}

/* Often the partition of a key in use, or the one before it. */
static bool unite(struct swarm *w, uint32_t node)
{
    char key[16];
    snprintf(key, sizeof key, "%c%u", "rclt"[swarm_below(w, 4)], (uint32_t)swarm_below(w, 4));
    uint32_t slot = (uint32_t)swarm_below(w, KV_SLOTS), way = (uint32_t)swarm_below(w, 2);
    if (swarm_chance(w, 700000)) slot = kv_slot(kv_str(key));
    cluster_unite(w->cluster, node, (uint16_t)slot, way == 0);
    return true;
}

static enum swarm_fault coordinator_blow(struct swarm *w)
{
    static const enum swarm_fault blows[] = {SWARM_KILL, SWARM_POWER, SWARM_PAUSE, SWARM_ISOLATE};
    return blows[swarm_below(w, w->plan.nodes < 3 ? 3 : 4)];
}

/* Where nodes have not all roles. Few: each is followed by moves. */
static bool role(struct swarm *w, uint32_t node)
{
    enum { CHANGES_MAX = 4 };
    enum kv_node_role r = (enum kv_node_role)(1u << swarm_below(w, 3));
    if (w->plan.roles[1] == 0 || w->out->faults[SWARM_ROLE] >= CHANGES_MAX || !cluster_change_role(w->cluster, node, r)) return false;
    sim_note(w->sim, cluster_host(w->cluster, node), "role %u is %s", r, cluster_has_role(w->cluster, node, r) ? "given" : "taken");
    crash(w, node, SIM_KILL);
    return true;
}

/* False: it did not happen after all. */
static bool fault_apply(struct swarm *w, enum swarm_fault f, uint32_t node)
{
    struct sim *s = w->sim;
    struct sim_host *h = cluster_host(w->cluster, node);
    switch (f) {
    case SWARM_KILL: crash(w, node, SIM_KILL); return true;
    case SWARM_POWER:
        crash(w, node, SIM_POWER);
        for (uint32_t i = 1; i <= w->plan.nodes; i++) /* now and then the whole room goes dark */
            if (i != node && swarm_chance(w, 250000)) crash(w, i, SIM_POWER);
        return true;
    case SWARM_STOP: cluster_stop(w->cluster, node); return true;
    case SWARM_TRANSFER: cluster_transfer(w->cluster, node); return true;
    case SWARM_PAUSE:
        sim_host_pause(h, KV_MS(10) + swarm_below(w, swarm_chance(w, 500000) ? KV_MS(400) : KV_SECONDS(4)));
        return true;
    case SWARM_SPLIT:
    case SWARM_ISOLATE:
    case SWARM_BRIDGE:
    case SWARM_RING: partition(w, f, node); return true;
    case SWARM_CUT: sim_cut_connections(s, h, NULL); return true;
    case SWARM_CLIENT_CUT: client_cut(w, node); return true;
    case SWARM_STUTTER:
    case SWARM_LAG:
    case SWARM_SLOW:
    case SWARM_DISK_SLOW: slow_something(w, f, node); return true;
    case SWARM_DISK_FULL: disk_full(w, node); return true;
    case SWARM_DISK_FAIL:
    case SWARM_DISK_CRASH:
    case SWARM_LIE:
    case SWARM_MISDIRECT: return disk_fault(w, f, node);
    case SWARM_ROT: return rot(w, node);
    case SWARM_WIPE:
        if (!swarm_may_lose(w, node)) return false;
        wipe(w, node, swarm_chance(w, 500000) ? SIM_KILL : SIM_POWER);
        return true;
    case SWARM_WALL: sim_host_wall_jump(h, (int64_t)swarm_below(w, KV_SECONDS(20)) - (int64_t)KV_SECONDS(10)); return true;
    case SWARM_DRIFT: drift(w); return true;
    case SWARM_DIVIDE: return divide(w, node);
    case SWARM_MOVE: return move(w, node);
    case SWARM_KEYSPACE: return keyspace(w, node);
    case SWARM_UNITE: return unite(w, node);
    case SWARM_JOIN: return cluster_join(w->cluster, node);
    case SWARM_DRAIN: return cluster_drain(w->cluster, node, swarm_below(w, UINT64_MAX));
    case SWARM_REMOVE: return cluster_remove(w->cluster, node, swarm_below(w, UINT64_MAX));
    case SWARM_COORDINATOR: return fault_apply(w, coordinator_blow(w), node);
    case SWARM_ROLE: return role(w, node);
    case SWARM_FAULT_COUNT: break;
    }
    return false;
}

static bool fault_is_skipped(const struct swarm *w, uint32_t number)
{
    const struct swarm_skips *k = w->o.skips;
    return k != NULL && number < SWARM_FAULTS_MAX && (k->faults[number / 64] >> number % 64 & 1) != 0;
}

/* A node that is on its way to join has no worker yet. */
static bool may_strike(struct swarm *w, enum swarm_fault f, uint32_t node)
{
    if (f == SWARM_WALL || f == SWARM_DRIFT) return true;
    /* Who was removed may go on, end and come back; what its disk loses is nobody's. */
    if (cluster_is_removed(w->cluster, node) && f != SWARM_KILL && f != SWARM_POWER && f != SWARM_PAUSE && f != SWARM_CUT && f != SWARM_LAG) return false;
    bool any = f == SWARM_KILL || f == SWARM_POWER || f == SWARM_PAUSE || f == SWARM_CUT || f == SWARM_ISOLATE;
    return any ? cluster_runs(w->cluster, node) : cluster_up(w->cluster, node);
}

static void fault_strikes(struct swarm *w, uint32_t node, uint32_t kinds)
{
    /* A fault left out is drawn all the same, so that the others stay as they are. */
    enum swarm_fault f = w->season.faults[swarm_below(w, kinds)];
    uint64_t fork = kv_random_next(&w->random);
    uint32_t number = w->fault_total++;
    if (fault_is_skipped(w, number)) return;
    bool links = f == SWARM_SPLIT || f == SWARM_ISOLATE || f == SWARM_BRIDGE || f == SWARM_RING || f == SWARM_LAG;
    if (links && w->plan.nodes < 3) return;
    if (f == SWARM_COORDINATOR && cluster_coordinator(w->cluster) != 0) node = cluster_coordinator(w->cluster);
    if (!may_strike(w, f, node)) return;
    uint64_t stream = w->random;
    w->random = fork;
    if (fault_apply(w, f, node)) fault_note(w, f, number, f == SWARM_DRIFT || (links && f != SWARM_LAG) ? 0 : node);
    w->random = stream;
}

static void next_fault_fires(struct sim_event *e)
{
    struct swarm *w = container_of(e, struct swarm, next_fault);
    if (w->healed || w->plan.fault_kinds == 0) return;
    sim_after(w->sim, NULL, &w->next_fault, KV_MS(1) + swarm_below(w, 2 * w->season.gap_ns));
    uint32_t node = 1 + (uint32_t)swarm_below(w, w->plan.nodes), busy = cluster_busy_node(w->cluster);
    if (swarm_chance(w, 400000) && busy != 0) node = busy; /* leaders have more to lose */
    fault_strikes(w, node, w->season.fault_kinds);
}

static void ambush_fires(struct sim_event *e)
{
    struct swarm *w = container_of(e, struct swarm, ambush);
    if (!w->healed) fault_strikes(w, w->ambush_node, w->season.ambush_alike ? 1 : w->season.fault_kinds);
}

/* Its draws are of the world's stream: how many moments there are depends on everything. */
void swarm_moment(struct swarm *w, enum sim_mark m, uint32_t node)
{
    if (w->healed || w->plan.fault_kinds == 0 || (w->season.ambush_marks >> m & 1) == 0) return;
    if (w->ambush.heap_index != 0 || sim_now_ns(w->sim) < KV_SECONDS(1)) return;
    uint32_t ppm = m == SIM_MARK_COMMIT ? w->season.ambush_ppm / 256 : w->season.ambush_ppm; /* some are all the time */
    if (!sim_chance(w->sim, ppm)) return;
    bool elsewhere = sim_chance(w->sim, 250000);
    w->ambush_node = elsewhere ? 1 + (uint32_t)sim_below(w->sim, w->plan.nodes) : node;
    sim_after(w->sim, NULL, &w->ambush, sim_below(w->sim, w->season.ambush_delay_ns));
}

void swarm_faults_begin(struct swarm *w)
{
    w->next_fault.fire = next_fault_fires;
    w->heal_links.fire = heal_fires;
    w->ambush.fire = ambush_fires;
    for (uint32_t i = 0; i <= CLUSTER_NODES_MAX; i++) {
        w->restarts[i] = (struct restart){.event.fire = restart_fires, .w = w, .node = i};
        w->calms[i] = (struct calm){.event.fire = calm_fires, .w = w, .node = i};
    }
    swarm_season_begin(w);
    sim_after(w->sim, NULL, &w->next_fault, KV_SECONDS(1) + swarm_below(w, KV_SECONDS(2)));
}

void swarm_faults_heal(struct swarm *w)
{
    w->healed = true;
    sim_note(w->sim, NULL, "all faults heal");
    sim_cancel(w->sim, &w->next_fault);
    sim_cancel(w->sim, &w->ambush);
    sim_cancel(w->sim, &w->next_season);
    sim_cancel(w->sim, &w->heal_links);
    links_open(w);
    struct sim_net calm = w->plan.net;
    calm.loss_ppm = calm.reset_ppm = 0;
    sim_net(w->sim, &calm);
    for (uint32_t i = 1; i <= w->plan.nodes; i++) {
        sim_cancel(w->sim, &w->calms[i].event);
        calm_fires(&w->calms[i].event);
        disk_mem_faults_set(disk_sim_mem(cluster_disk(w->cluster, i)), &(struct disk_mem_faults){0});
        swarm_untaint(w, i);
        if (w->restarts[i].event.heap_index != 0) sim_cancel(w->sim, &w->restarts[i].event);
        if (!w->out->failed && cluster_is_member(w->cluster, i) && !cluster_runs(w->cluster, i)) swarm_start_node(w, i);
    }
}

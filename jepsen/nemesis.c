#include "jepsen/nemesis.h"
#include "client/base/hash.h"
#include "jepsen/run.h"
#include <assert.h>

enum { QUIET_MS_MIN = 600,
       QUIET_MS_SPAN = 1200,
       FAULT_MS_MIN = 1200,
       FAULT_MS_SPAN = 2400,
       WATCH_MS = 300 };

static const char *clock_lacks(void)
{
    char path[NODES_PATH_BYTES];
    return nodes_faketime(path) ? NULL : "libfaketime is not installed (make deps-dev)";
}

static const char *everything_lacks(void)
{
    const char *lack = clock_lacks();
    return lack != NULL ? lack : delay_lacks();
}

static const struct nemesis_kind kinds[] = {
    {.name = "none", .help = "no fault: what the others are compared with"},
    {.name = "kill", .help = "kill -9 of one, some or all nodes, then start", .kinds = {&fault_kill}, .at_once = 1},
    {.name = "pause", .help = "SIGSTOP of one, some or all nodes, then SIGCONT", .kinds = {&fault_pause}, .at_once = 1},
    {.name = "restart", .help = "SIGTERM, a clean stop, then start", .kinds = {&fault_restart}, .at_once = 1},
    {.name = "split", .help = "a minority cut from a majority", .kinds = {&fault_split}, .at_once = 1},
    {.name = "leader", .help = "a leader cut from everybody", .kinds = {&fault_leader}, .at_once = 1},
    {.name = "oneway",
     .help = "packets between two groups arrive one way only",
     .kinds = {&fault_oneway},
     .at_once = 1},
    {.name = "bridge", .help = "two halves that only one node connects", .kinds = {&fault_bridge}, .at_once = 1},
    {.name = "ring",
     .help = "each node sees its neighbours: everybody a majority, no two the same",
     .kinds = {&fault_ring},
     .at_once = 1},
    {.name = "loss", .help = "a share of the packets between nodes is lost", .kinds = {&fault_loss}, .at_once = 1},
    {.name = "delay",
     .help = "packets between nodes wait, overtake one another, come twice",
     .kinds = {&fault_delay},
     .at_once = 1,
     .lacks = delay_lacks},
    {.name = "clock",
     .help = "wall clocks of a minority jump, up to an hour each way",
     .kinds = {&fault_clock},
     .at_once = 1,
     .lacks = clock_lacks,
     .moves_clocks = true},
    {.name = "full",
     .help = "disks of one, some or all nodes are full, then not",
     .kinds = {&fault_full},
     .at_once = 1,
     .wants_tmpfs = true},
    {.name = "slow",
     .help = "syncs of one, some or all nodes take up to 0.3 s",
     .kinds = {&fault_slow},
     .at_once = 1,
     .wants_disk_shim = true},
    {.name = "power",
     .help = "kill -9, and what was not synced is gone",
     .kinds = {&fault_power},
     .at_once = 1,
     .wants_disk_shim = true},
    {.name = "divide", .help = "partitions are split, mostly at a key in use", .kinds = {&fault_divide}, .at_once = 1},
    {.name = "unite", .help = "partitions absorb their neighbours", .kinds = {&fault_unite}, .at_once = 1},
    {.name = "move",
     .help = "replicas go to other nodes",
     .kinds = {&fault_move},
     .at_once = 1,
     .nodes_min = 4},
    {.name = "join",
     .help = "nodes join, and are killed on their way",
     .kinds = {&fault_join},
     .at_once = 1},
    {.name = "drain",
     .help = "nodes are drained and set up again",
     .kinds = {&fault_drain},
     .at_once = 1,
     .nodes_min = 4},
    {.name = "coordinator",
     .help = "kill -9 of who leads partition 0, right after it was asked for a split or merge",
     .kinds = {&fault_coordinator},
     .at_once = 1},
    {.name = "churn",
     .help = "two or three of splits, merges, moves, joins, drains, and deaths, pauses and cuts at once",
     .kinds = {&fault_divide, &fault_unite, &fault_move, &fault_join, &fault_drain, &fault_coordinator, &fault_kill, &fault_pause,
               &fault_restart, &fault_split, &fault_leader},
     .at_once = FAULTS_AT_ONCE_MAX,
     .nodes_min = 4},
    {.name = "mix",
     .help = "two or three of the above at once",
     .kinds = {&fault_kill, &fault_pause, &fault_restart, &fault_split, &fault_leader, &fault_oneway, &fault_bridge,
               &fault_ring, &fault_loss, &fault_delay, &fault_clock, &fault_slow, &fault_power, &fault_divide, &fault_unite,
               &fault_move, &fault_join, &fault_drain, &fault_coordinator},
     .at_once = FAULTS_AT_ONCE_MAX,
     .lacks = everything_lacks,
     .moves_clocks = true,
     .wants_disk_shim = true},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

const struct nemesis_kind *nemesis_at(uint32_t i)
{
    return i < KINDS ? &kinds[i] : NULL;
}

const struct nemesis_kind *nemesis_find(const char *name)
{
    for (uint32_t i = 0; i < KINDS; i++)
        if (strcmp(kinds[i].name, name) == 0) return &kinds[i];
    return NULL;
}

bool nemesis_moves_clocks(const struct nemesis_kind *k)
{
    return k->moves_clocks;
}

/* ---- for the kinds ---- */

uint64_t nemesis_below(struct nemesis *n, uint64_t bound)
{
    assert(bound > 0);
    return kv_random_next(&n->random) % bound;
}

static uint32_t count_of(net_nodes nodes)
{
    return (uint32_t)__builtin_popcount(nodes);
}

static net_nodes some_of(struct nemesis *n, net_nodes among, uint32_t count)
{
    net_nodes chosen = 0;
    while (count_of(chosen) < count && chosen != among) chosen |= among & (1u << nemesis_below(n, n->run->nodes.count));
    return chosen;
}

net_nodes nemesis_some(struct nemesis *n, uint32_t count)
{
    return some_of(n, (1u << n->run->nodes.count) - 1, count);
}

net_nodes nemesis_victims(struct nemesis *n, net_nodes among)
{
    uint64_t dice = nemesis_below(n, 10);
    uint32_t minority = (n->run->nodes.count - 1) / 2;
    if (dice < 5) return some_of(n, among, 1);
    return dice < 8 || n->kind->at_once > 1 ? some_of(n, among, minority) : among;
}

net_nodes nemesis_up(const struct nemesis *n)
{
    net_nodes up = 0;
    for (uint32_t i = 0; i < n->run->nodes.count; i++) {
        const struct node *node = &n->run->nodes.node[i];
        if (node->pid != 0 && node->is_wanted && !node->is_paused) up |= 1u << i;
    }
    for (uint32_t i = n->first_on; i < n->fault_count; i++)
        if (n->faults[i].is_on && n->faults[i].kind->has_victims) up &= ~n->faults[i].nodes;
    return up;
}

uint32_t nemesis_leader(struct nemesis *n)
{
    const struct kv_map_info *map = kv_client_map(n->watch);
    uint32_t leaders[64], count = 0;
    for (uint32_t i = 0; map != NULL && i < map->partition_count && count < 64; i++)
        if (map->partitions[i].leader != 0 && map->partitions[i].keyspace != KV_KEYSPACE_SYSTEM)
            leaders[count++] = map->partitions[i].leader;
    if (count == 0) return (uint32_t)nemesis_below(n, n->run->nodes.count);
    return leaders[nemesis_below(n, count)] - 1;
}

void nodes_text(net_nodes nodes, char out[FAULT_TEXT_BYTES])
{
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < NODES_MAX; i++)
        if ((nodes & (1u << i)) != 0)
            used += (size_t)snprintf(out + used, FAULT_TEXT_BYTES - used, "%s%u", used == 0 ? "" : " ", i + 1);
}

/* ---- watching who leads ---- */

static void watch_done(struct kv_call *call)
{
    struct nemesis *n = container_of(call, struct nemesis, map_call);
    n->watch_is_asking = false;
    n->run->env->ops->timer_start(n->run->env, &n->watch_timer, KV_MS(WATCH_MS));
}

static void watch_fire(struct env_timer *t)
{
    struct nemesis *n = container_of(t, struct nemesis, watch_timer);
    n->map_call = (struct kv_call){.op = KV_OP_KVMAP, .timeout_ms = 1000, .done = watch_done};
    n->watch_is_asking = true;
    kv_client_call(n->watch, &n->map_call);
}

static void watch_closed(void *context)
{
    *(bool *)context = true;
}

/* ---- the schedule ---- */

static void fault_end(struct nemesis *n, struct fault *f)
{
    if (!f->is_on) return;
    f->is_on = false;
    bool proved = f->kind->end(n, f);
    f->to_ns = run_now_ns(n->run);
    if (!proved)
        run_fail(n->run, "fault %u, %s %s, shows no effect: %s", f->number, f->kind->name, f->detail, f->proof);
}

static bool kind_is_on(const struct nemesis *n, const struct fault_kind *k)
{
    for (uint32_t i = n->first_on; i < n->fault_count; i++)
        if (n->faults[i].kind == k && n->faults[i].is_on) return true;
    return false;
}

static void fault_begin(struct nemesis *n)
{
    uint32_t count = 0;
    while (n->kind->kinds[count] != NULL) count++;
    const struct fault_kind *k;
    do k = n->kind->kinds[nemesis_below(n, count)];
    while (kind_is_on(n, k));
    struct fault *f = &n->faults[n->fault_count];
    *f = (struct fault){.kind = k, .number = n->fault_count + 1, .from_ns = run_now_ns(n->run)};
    n->fault_count++;
    f->is_on = k->begin(n, f);
    f->to_ns = run_now_ns(n->run);
    if (!f->is_on) run_fail(n->run, "fault %u, %s, could not be made: %s", f->number, k->name, f->detail);
}

static bool is_quiet(const struct nemesis *n)
{
    for (uint32_t i = n->first_on; i < n->fault_count; i++)
        if (n->faults[i].is_on) return false;
    return true;
}

/* Quiet, then all faults of an episode, then quiet again. */
static void nemesis_fire(struct env_timer *t)
{
    struct nemesis *n = container_of(t, struct nemesis, timer);
    if (n->is_over) return;
    if (!is_quiet(n)) {
        for (uint32_t i = n->fault_count; i-- > n->first_on;) fault_end(n, &n->faults[i]);
        n->run->env->ops->timer_start(n->run->env, t, KV_MS(QUIET_MS_MIN + nemesis_below(n, QUIET_MS_SPAN)));
        return;
    }
    n->first_on = n->fault_count;
    if (n->fault_count + n->kind->at_once > FAULTS_MAX) return;
    if (run_now_ns(n->run) + KV_MS(FAULT_MS_MIN) > n->until_ns) return; /* too late to show an effect */
    uint32_t count = n->kind->at_once < 2 ? n->kind->at_once : 2 + (uint32_t)nemesis_below(n, n->kind->at_once - 1);
    for (uint32_t i = 0; i < count; i++) fault_begin(n);
    n->run->env->ops->timer_start(n->run->env, t, KV_MS(FAULT_MS_MIN + nemesis_below(n, FAULT_MS_SPAN)));
}

bool nemesis_open(struct nemesis *n, struct run *r)
{
    char why[NET_WHY_BYTES];
    *n = (struct nemesis){.run = r,
                          .kind = r->options.nemesis,
                          .random = r->options.seed ^ 0x6E656D65736973u,
                          .timer.fire = nemesis_fire,
                          .watch_timer.fire = watch_fire};
    if (!net_open(why)) {
        run_fail(r, "nftables: %s", why);
        return false;
    }
    return true;
}

void nemesis_begin(struct nemesis *n)
{
    struct run *r = n->run;
    struct kv_client_options o = {.env = r->env, .from = {.host = "127.0.1.200"}, .seed_count = r->nodes.count};
    channel_identity_make(&o.identity, r->nodes.client_key);
    for (uint32_t i = 0; i < r->nodes.count; i++) o.seeds[i] = nodes_native(&r->nodes.node[i]);
    if (kv_client_create(&o, &n->watch) != KV_OK) {
        run_fail(r, "no client for the nemesis: out of memory");
        return;
    }
    r->env->ops->timer_start(r->env, &n->watch_timer, 0);
    n->until_ns = run_now_ns(r) + KV_SECONDS(r->options.seconds);
    if (n->kind->at_once > 0) r->env->ops->timer_start(r->env, &n->timer, KV_MS(QUIET_MS_MIN));
}

void nemesis_end(struct nemesis *n)
{
    n->is_over = true;
    for (uint32_t i = n->fault_count; i-- > 0;) fault_end(n, &n->faults[i]);
    if (n->kind->at_once > 0 && n->fault_count == 0 && !n->run->interrupted)
        run_fail(n->run, "the time was too short for a single fault");
}

void nemesis_close(struct nemesis *n)
{
    struct env *env = n->run->env;
    env->ops->timer_stop(env, &n->timer);
    env->ops->timer_stop(env, &n->watch_timer);
    if (n->watch == NULL) return;
    if (n->watch_is_asking) kv_client_cancel(n->watch, &n->map_call);
    for (uint32_t i = 0; i < n->errand_count; i++) errand_stop(&n->errands[i]);
    kv_client_close(n->watch, watch_closed, &n->watch_is_closed);
    while (!n->watch_is_closed) env_uv_run_once(n->run->uv);
    n->watch = NULL;
}

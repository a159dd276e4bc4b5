#include "client/router.h"

#include <assert.h>
#include <stdlib.h>

#include "client/base/hash.h"

/* Invariants:
 * (1) `map` is NULL or whole: partitions sorted by `from`, disjoint, each with at least one node.
 * (2) `ends` holds every node of the map, then every seed that is no node of it; never empty.
 * (3) Everything `map` points to lives in `arenas[live]`; a new map is built in the other arena
 *     and becomes visible only when it is whole. */
enum {
    ROUTER_ENDS_MAX = KV_NODES_MAX + 16,
    ROUTER_MAP_BYTES_MAX = 64 << 20,
    ROUTER_ANSWER_MS = 100 /* the least that a node needs to say no inside our deadline */
};

struct endpoint {
    struct env_addr addr;
    uint32_t id;        /* 0: a seed whose id we do not know */
    const uint8_t *key; /* 32 B in the live arena, or NULL */
    bool takes_clients; /* it has the role gateway, as far as we know */
    uint32_t failures;
    uint64_t down_until_ns;
    struct kv_choice choice;
};

struct router {
    struct env_addr seeds[16];
    uint32_t seed_count;
    struct endpoint ends[ROUTER_ENDS_MAX];
    uint32_t end_count;
    struct kv_arena arenas[2];
    uint32_t live;
    struct kv_map_info *map;
    bool stale;
    uint32_t rotate; /* spreads requests without a known leader */
    uint64_t random;
    uint64_t backoff_base_ns, backoff_max_ns;
};

static bool addr_eq(const struct env_addr *a, const struct env_addr *b)
{
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

struct router *router_create(const struct router_options *o)
{
    assert(o->seed_count > 0);
    struct router *r = calloc(1, sizeof *r);
    if (r == NULL) return NULL;
    for (uint32_t i = 0; i < o->seed_count && r->seed_count < 16; i++)
        r->seeds[r->seed_count++] = o->seeds[i];
    for (uint32_t i = 0; i < r->seed_count; i++) r->ends[r->end_count++] = (struct endpoint){.addr = r->seeds[i], .takes_clients = true};
    for (int i = 0; i < 2; i++) kv_arena_init(&r->arenas[i], ROUTER_MAP_BYTES_MAX);
    r->random = o->seed;
    r->rotate = (uint32_t)kv_random_next(&r->random);
    r->backoff_base_ns = o->backoff_base_ns != 0 ? o->backoff_base_ns : KV_MS(5);
    r->backoff_max_ns = o->backoff_max_ns != 0 ? o->backoff_max_ns : KV_MS(250);
    return r;
}

void router_destroy(struct router *r)
{
    if (r == NULL) return;
    for (int i = 0; i < 2; i++) kv_arena_free(&r->arenas[i]);
    free(r);
}

/* ---- choosing ---- */

bool router_retryable(enum kv_err err)
{
    switch (err) {
    case KV_NOT_LEADER:
    case KV_WRONG_SHARD:
    case KV_BUSY:
    case KV_UNAVAILABLE:
    case KV_TIMEOUT:
    case KV_CLOSED:
    case KV_THROTTLED:
    case KV_POISONED: /* that node steps down, another takes over */
    case KV_CORRUPT:  /* likewise: the replica leaves, its peers are whole (R4) */
    case KV_IO:
    case KV_NO_LEADER:
    case KV_LOADING:
        return true;
    case KV_OK:
    case KV_NOT_FOUND:
    case KV_CONFLICT:
    case KV_TOO_BIG:
    case KV_MALFORMED:
    case KV_NO_SPACE:
    case KV_AUTH:
    case KV_DENIED:
    case KV_CONDITION:
    case KV_WRONG_TYPE:
    case KV_BAD_ARGUMENT:
    case KV_WRONG_CLUSTER:
    case KV_VERSION:
    case KV_CROSS_SHARD:
    case KV_NO_KEYSPACE:
        return false;
    }
    return false; /* a code from a newer node: do not hammer it */
}

/* Errors that another node, or the same one a moment later, may well answer differently at once:
 * the first retry does not wait. */
static bool at_once(enum kv_err err)
{
    return err == KV_NOT_LEADER || err == KV_WRONG_SHARD || err == KV_CLOSED || err == KV_UNAVAILABLE;
}

static uint64_t backoff(struct router *r, const struct route_attempt *a)
{
    uint32_t doublings = a->tries == 0 ? 0 : a->tries - 1;
    uint64_t cap = r->backoff_max_ns;
    if (doublings < 32 && (r->backoff_base_ns << doublings) < cap) cap = r->backoff_base_ns << doublings;
    uint64_t delay = kv_random_next(&r->random) % (cap + 1);
    return delay < a->retry_after_ns ? a->retry_after_ns : delay;
}

static struct endpoint *end_by_id(struct router *r, uint32_t id)
{
    for (uint32_t i = 0; i < r->end_count; i++)
        if (r->ends[i].id == id) return &r->ends[i];
    return NULL;
}

static struct endpoint *end_by_addr(struct router *r, const struct env_addr *addr)
{
    for (uint32_t i = 0; i < r->end_count; i++)
        if (addr_eq(&r->ends[i].addr, addr)) return &r->ends[i];
    return NULL;
}

static bool is_down(const struct endpoint *e, uint64_t now_ns)
{
    return e->down_until_ns > now_ns;
}

/* Of two candidates the one that is up, else the one that will be sooner. */
static struct endpoint *better(struct endpoint *best, struct endpoint *e, uint64_t now_ns)
{
    if (e == NULL) return best;
    if (best == NULL) return e;
    if (!is_down(best, now_ns)) return best;
    if (!is_down(e, now_ns) || e->down_until_ns < best->down_until_ns) return e;
    return best;
}

/* Nodes that take clients; `any`: where none of those is up, others, which answer questions about the cluster. */
static struct endpoint *pick(struct router *r, bool any, uint64_t now_ns)
{
    struct endpoint *best = NULL, *other = NULL;
    uint32_t start = r->rotate++;
    for (uint32_t i = 0; i < r->end_count; i++) {
        struct endpoint *e = &r->ends[(start + i) % r->end_count];
        if (e->takes_clients) best = better(best, e, now_ns);
        else other = better(other, e, now_ns);
    }
    if (best == NULL || (any && is_down(best, now_ns))) best = better(best, other, now_ns);
    assert(best != NULL); /* invariant 2 */
    return best;
}

static struct endpoint *pick_any(struct router *r, uint64_t now_ns)
{
    return pick(r, false, now_ns);
}

/* By a node's id; NULL: unknown, or it takes no clients and a gateway forwards to it. */
static struct endpoint *gateway_by_id(struct router *r, uint32_t id)
{
    struct endpoint *e = end_by_id(r, id);
    return e != NULL && e->takes_clients ? e : NULL;
}

/* The leader if it is up, else any replica that is: it forwards, or knows better. Those that take no clients are left to
 * the gateways. */
static struct endpoint *pick_replica(struct router *r, const struct kv_partition_info *p,
                                     uint64_t now_ns)
{
    bool is_system = p->keyspace == KV_KEYSPACE_SYSTEM;
    struct endpoint *best = p->leader == 0 ? NULL : gateway_by_id(r, p->leader);
    if (best != NULL && !is_down(best, now_ns)) return best;
    uint32_t start = r->rotate++;
    for (uint32_t i = 0; i < p->node_count; i++)
        best = better(best, gateway_by_id(r, p->nodes[(start + i) % p->node_count]), now_ns);
    /* None is up as far as the map's addresses go: a seed may be, and any node forwards. */
    return best == NULL || is_down(best, now_ns) ? better(best, pick(r, is_system, now_ns), now_ns) : best;
}

/* Of the replicas that are up the one that answers soonest; NULL: none is up. */
static struct endpoint *pick_nearest(struct router *r, const struct kv_partition_info *p, uint64_t now_ns)
{
    struct endpoint *best = NULL;
    uint64_t least = UINT64_MAX;
    uint32_t start = r->rotate++; /* equals take turns */
    for (uint32_t i = 0; i < p->node_count; i++) {
        struct endpoint *e = gateway_by_id(r, p->nodes[(start + i) % p->node_count]);
        uint64_t cost = e == NULL || is_down(e, now_ns) ? UINT64_MAX : kv_choice_cost(&e->choice, now_ns);
        if (cost >= least) continue;
        least = cost;
        best = e;
    }
    return best;
}

static struct route towards(enum route_action action, const struct endpoint *e)
{
    return (struct route){.action = action, .to = e->addr, .node = e->id, .key = e->key};
}

static struct route give_up(enum kv_err err)
{
    return (struct route){.action = ROUTE_GIVE_UP, .err = err};
}

struct route router_next(struct router *r, const struct route_attempt *a, uint64_t now_ns)
{
    bool failed = a->last_err != KV_OK;
    if (failed && !router_retryable(a->last_err)) return give_up(a->last_err);
    if (failed && a->maybe && !a->idempotent) return give_up(a->last_err);
    uint64_t left = a->deadline_ns > now_ns ? a->deadline_ns - now_ns : 0;
    if (left < KV_MS(1)) return give_up(failed ? a->last_err : KV_TIMEOUT);
    /* A node that has nothing but its deadline to wait for would answer too late, and we could only say
     * "no answer": what it said before is the better word, and a write's outcome stays known. */
    if (failed && !at_once(a->last_err) && left < KV_MS(ROUTER_ANSWER_MS)) return give_up(a->last_err);

    if (failed && !a->rested && (a->tries > 1 || a->retry_after_ns > 0 || !at_once(a->last_err))) {
        /* A hint beyond the deadline ends the operation now: waiting could not help. */
        if (a->retry_after_ns >= left) return give_up(a->last_err);
        uint64_t delay = backoff(r, a);
        if (delay >= left) delay = left / 2;
        return (struct route){.action = ROUTE_WAIT, .delay_ns = delay};
    }

    if (a->node != 0) {
        struct endpoint *e = end_by_id(r, a->node);
        if (e != NULL) return towards(ROUTE_SEND, e);
        /* A map that has just been fetched and does not name it settles the matter. */
        if (a->rested && r->map != NULL) return give_up(KV_NOT_FOUND);
        return towards(ROUTE_REFRESH, pick_any(r, now_ns));
    }
    if (a->key.size == 0) return towards(ROUTE_SEND, pick_any(r, now_ns));

    const struct kv_partition_info *p = router_partition(r, a->key);
    /* Also after a WAIT: whoever told us the map may have been behind itself. A REFRESH that came through made it fresh. */
    if (r->stale || (p == NULL && !a->rested)) return towards(ROUTE_REFRESH, pick(r, true, now_ns));
    if (p == NULL) return towards(ROUTE_SEND, pick_any(r, now_ns)); /* the node routes */
    struct endpoint *nearest = a->is_anywhere && !failed ? pick_nearest(r, p, now_ns) : NULL;
    struct route route = towards(ROUTE_SEND, nearest != NULL ? nearest : pick_replica(r, p, now_ns));
    route.pinned = true;
    route.partition = p->id;
    route.range_epoch = p->range_epoch;
    return route;
}

/* ---- learning ---- */

static int epoch_cmp(const struct kv_partition_info *a, const struct kv_partition_info *b)
{
    if (a->range_epoch != b->range_epoch) return a->range_epoch < b->range_epoch ? -1 : 1;
    return a->conf_epoch < b->conf_epoch ? -1 : a->conf_epoch > b->conf_epoch;
}

static int partition_order(const void *a, const void *b)
{
    const struct kv_partition_info *x = a, *y = b;
    int order = kv_slice_cmp(x->from, y->from);
    return order != 0 ? order : -epoch_cmp(x, y);
}

static bool map_valid(const struct kv_map_info *m)
{
    if (m->node_count == 0 || m->node_count > KV_NODES_MAX) return false;
    for (uint32_t i = 0; i < m->node_count; i++) {
        const struct kv_node_info *n = &m->nodes[i];
        if (n->id == 0 || n->host.size == 0 || n->host.size >= sizeof(((struct env_addr *)0)->host))
            return false;
        if (n->port == 0 || (n->key.size != 0 && n->key.size != 32)) return false;
    }
    for (uint32_t i = 0; i < m->partition_count; i++) {
        const struct kv_partition_info *p = &m->partitions[i];
        if (p->node_count == 0 || p->node_count > KV_REPLICAS_MAX) return false;
        if (p->to.size > 0 && kv_slice_cmp(p->from, p->to) >= 0) return false;
    }
    return true;
}

static bool copy_slice(struct kv_arena *arena, struct kv_slice *s)
{
    if (s->size == 0) return true;
    *s = kv_arena_copy(arena, *s);
    return s->data != NULL;
}

static const struct kv_partition_info *known(const struct kv_map_info *m, uint32_t id)
{
    for (uint32_t i = 0; m != NULL && i < m->partition_count; i++)
        if (m->partitions[i].id == id) return &m->partitions[i];
    return NULL;
}

/* Where two overlap one is out of date; the higher range epoch stays (R12). */
static void drop_overlaps(struct kv_map_info *m)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->partition_count; i++) {
        struct kv_partition_info *p = &m->partitions[i];
        bool wins = true;
        while (kept > 0) {
            struct kv_partition_info *before = &m->partitions[kept - 1];
            if (before->to.size > 0 && kv_slice_cmp(before->to, p->from) <= 0) break;
            wins = p->range_epoch > before->range_epoch;
            if (!wins) break;
            kept--;
        }
        if (wins) m->partitions[kept++] = *p;
    }
    m->partition_count = kept;
}

static bool partition_copy(struct kv_arena *arena, struct kv_map_info *m, const struct kv_partition_info *from)
{
    struct kv_partition_info *p = &m->partitions[m->partition_count++];
    *p = *from;
    return copy_slice(arena, &p->from) && copy_slice(arena, &p->to);
}

/* Those of the later state of partition 0: a node may be behind, or not know any. */
static bool keyspaces_merge(const struct kv_map_info *old, const struct kv_map_info *from, struct kv_map_info *m,
                            struct kv_arena *arena)
{
    const struct kv_map_info *best = old != NULL && old->directory > from->directory ? old : from;
    m->directory = best->directory;
    m->keyspaces = kv_arena_alloc(arena, sizeof *m->keyspaces * ((size_t)best->keyspace_count + 1));
    if (m->keyspaces == NULL) return false;
    for (uint32_t i = 0; i < best->keyspace_count; i++)
        if (!kv_keyspace_copy(&best->keyspaces[i], arena, &m->keyspaces[m->keyspace_count++])) return false;
    return true;
}

static bool has_keyspace(const struct kv_map_info *m, uint32_t id)
{
    if (m->directory == 0 || id == KV_KEYSPACE_SYSTEM) return true; /* nobody said what there is */
    for (uint32_t i = 0; i < m->keyspace_count; i++)
        if (m->keyspaces[i].id == id) return true;
    return false;
}

/* Partitions of keyspaces that were dropped. */
static void drop_gone(struct kv_map_info *m)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->partition_count; i++)
        if (has_keyspace(m, m->partitions[i].keyspace)) m->partitions[kept++] = m->partitions[i];
    m->partition_count = kept;
}

/* The map told, and what we knew that it does not contradict: a node that has just lost its disk
 * tells of no partitions at all. */
static struct kv_map_info *map_merge(const struct router *r, const struct kv_map_info *from,
                                     struct kv_arena *arena)
{
    uint32_t old_count = r->map == NULL ? 0 : r->map->partition_count;
    struct kv_map_info *m = kv_arena_alloc(arena, sizeof *m);
    if (m == NULL) return NULL;
    const struct kv_map_info *nodes = r->map != NULL && r->map->nodes_version > from->nodes_version ? r->map : from;
    *m = (struct kv_map_info){.node_count = nodes->node_count, .nodes_version = nodes->nodes_version, .cluster = from->cluster};
    if (!copy_slice(arena, &m->cluster)) return NULL;
    m->nodes = kv_arena_alloc(arena, sizeof *m->nodes * m->node_count);
    m->partitions = kv_arena_alloc(arena, sizeof *m->partitions * ((size_t)from->partition_count + old_count + 1));
    if (m->nodes == NULL || m->partitions == NULL) return NULL;
    for (uint32_t i = 0; i < m->node_count; i++) {
        struct kv_node_info *n = &m->nodes[i];
        *n = nodes->nodes[i];
        if (!copy_slice(arena, &n->host) || !copy_slice(arena, &n->key) || !copy_slice(arena, &n->zone)) return NULL;
    }
    for (uint32_t i = 0; i < from->partition_count; i++) {
        const struct kv_partition_info *p = &from->partitions[i], *old = known(r->map, p->id);
        if (!partition_copy(arena, m, old != NULL && epoch_cmp(old, p) > 0 ? old : p)) return NULL;
        /* A node that knows no leader does not make us forget one that answered us. */
        if (old != NULL && p->leader == 0) m->partitions[i].leader = old->leader;
        else m->partitions[i].leader = p->leader;
    }
    for (uint32_t i = 0; i < old_count; i++)
        if (known(from, r->map->partitions[i].id) == NULL)
            if (!partition_copy(arena, m, &r->map->partitions[i])) return NULL;
    if (!keyspaces_merge(r->map, from, m, arena)) return NULL;
    drop_gone(m);
    qsort(m->partitions, m->partition_count, sizeof *m->partitions, partition_order);
    drop_overlaps(m);
    return m;
}

static void ends_rebuild(struct router *r)
{
    struct endpoint old[ROUTER_ENDS_MAX];
    uint32_t old_count = r->end_count;
    memcpy(old, r->ends, sizeof old);
    r->end_count = 0;
    for (uint32_t i = 0; i < r->map->node_count; i++) {
        const struct kv_node_info *n = &r->map->nodes[i];
        struct endpoint e = {.id = n->id, .key = n->key.size == 32 ? n->key.data : NULL, .takes_clients = kv_node_has(n->roles, KV_NODE_GATEWAY)};
        memcpy(e.addr.host, n->host.data, n->host.size);
        e.addr.port = n->port;
        r->ends[r->end_count++] = e;
    }
    for (uint32_t i = 0; i < r->seed_count; i++)
        if (end_by_addr(r, &r->seeds[i]) == NULL)
            r->ends[r->end_count++] = (struct endpoint){.addr = r->seeds[i], .takes_clients = true};
    for (uint32_t i = 0; i < old_count; i++) { /* what we know of their health stays */
        struct endpoint *e = end_by_addr(r, &old[i].addr);
        if (e == NULL) continue;
        e->failures = old[i].failures;
        e->down_until_ns = old[i].down_until_ns;
        e->choice = old[i].choice;
    }
}

enum kv_err router_learn_map(struct router *r, const struct kv_map_info *map)
{
    if (!map_valid(map)) return KV_MALFORMED;
    uint32_t spare = 1 - r->live;
    kv_arena_reset(&r->arenas[spare]);
    struct kv_map_info *copy = map_merge(r, map, &r->arenas[spare]);
    if (copy == NULL) return KV_NO_SPACE;
    r->map = copy;
    r->live = spare;
    r->stale = false;
    ends_rebuild(r);
    return KV_OK;
}

void router_learn_leader(struct router *r, uint32_t partition, uint32_t node)
{
    for (uint32_t i = 0; r->map != NULL && i < r->map->partition_count; i++)
        if (r->map->partitions[i].id == partition)
            if (node == 0 || end_by_id(r, node) != NULL) r->map->partitions[i].leader = node;
}

void router_learn_stale(struct router *r)
{
    r->stale = true;
}

void router_learn_failure(struct router *r, const struct env_addr *to, uint64_t now_ns)
{
    struct endpoint *e = end_by_addr(r, to);
    if (e == NULL || is_down(e, now_ns)) return; /* many calls fail with one connection: count it once */
    uint64_t pause = KV_MS(50) << (e->failures < 5 ? e->failures : 5);
    if (pause > KV_SECONDS(1)) pause = KV_SECONDS(1);
    e->failures++;
    e->down_until_ns = now_ns + pause;
    bool is_open = false, is_any_up = false;
    for (uint32_t i = 0; i < r->end_count; i++) {
        bool is_up = !is_down(&r->ends[i], now_ns);
        is_open |= is_up && r->ends[i].takes_clients;
        is_any_up |= is_up;
    }
    if (!is_open && is_any_up) r->stale = true; /* others may take clients by now: whoever is up knows */
}

void router_learn_success(struct router *r, const struct env_addr *to)
{
    struct endpoint *e = end_by_addr(r, to);
    if (e == NULL) return;
    e->failures = 0;
    e->down_until_ns = 0;
}

void router_read_asked(struct router *r, const struct env_addr *to, uint64_t now_ns)
{
    struct endpoint *e = end_by_addr(r, to);
    if (e != NULL) kv_choice_asked(&e->choice, now_ns);
}

void router_read_answered(struct router *r, const struct env_addr *to, uint64_t took_ns, uint64_t now_ns)
{
    struct endpoint *e = end_by_addr(r, to);
    if (e == NULL || e->choice.in_flight == 0) return; /* it had left the map meanwhile */
    if (took_ns == 0) kv_choice_forgotten(&e->choice);
    else kv_choice_answered(&e->choice, took_ns, now_ns);
}

uint32_t router_nearest(struct router *r, const struct kv_partition_info *p, uint64_t now_ns)
{
    const struct endpoint *e = pick_nearest(r, p, now_ns);
    return e == NULL ? 0 : e->id;
}

const struct kv_choice *router_choice(struct router *r, uint32_t node)
{
    const struct endpoint *e = end_by_id(r, node);
    return e == NULL ? NULL : &e->choice;
}

const struct kv_map_info *router_map(const struct router *r)
{
    return r->map;
}

const struct kv_keyspace *router_keyspace(const struct router *r, uint32_t id, struct kv_slice name)
{
    for (uint32_t i = 0; r->map != NULL && i < r->map->keyspace_count; i++) {
        const struct kv_keyspace *k = &r->map->keyspaces[i];
        if (name.size > 0 ? kv_slice_eq(k->name, name) : k->id == id) return k;
    }
    return NULL;
}

const struct kv_partition_info *router_partition(const struct router *r, struct kv_slice key)
{
    if (r->map == NULL) return NULL;
    uint32_t low = 0, high = r->map->partition_count; /* first partition that starts behind key */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (kv_slice_cmp(r->map->partitions[middle].from, key) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0) return NULL;
    const struct kv_partition_info *p = &r->map->partitions[low - 1];
    return kv_range_has((struct kv_range){p->from, p->to}, key) ? p : NULL;
}

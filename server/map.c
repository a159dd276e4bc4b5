#include "server/map.h"

#include <stdlib.h>

#include "server/keyspaces.h"
#include "server/leave.h"
#include "server/nodes.h"
#include "server/peer.h"
#include "server/seats.h"
#include "server/siblings.h"

enum { TELL_MAX = 256, /* descriptors a tick, to each node */
       TELL_AGAIN_S = 10 };

struct partition *map_get(const struct worker *w, uint32_t id)
{
    return kv_map_get(&w->partitions, id);
}

struct partition *map_make(struct worker *w, uint32_t id)
{
    struct partition *p = map_get(w, id);
    if (p != NULL) return p;
    p = calloc(1, sizeof *p);
    if (p == NULL || !kv_map_put(&w->partitions, id, p)) {
        free(p);
        return NULL;
    }
    p->id = id;
    return p;
}

const struct descriptor *map_descriptor(const struct partition *p)
{
    return p->group != NULL ? &p->group->descriptor : p->told;
}

uint32_t map_leader(const struct partition *p)
{
    return p->group != NULL ? group_leader_node(p->group) : p->leader;
}

uint32_t map_way(const struct worker *w, const struct partition *p)
{
    uint32_t leader = map_leader(p);
    if (!siblings_is_face(w)) return sibling_way(0);                 /* which knows, and waits */
    if (p->seats != NULL && (leader == w->node_id || leader == 0)) { /* 0: a replica here that goes may not know */
        uint32_t beside = seats_leader(w, p);
        if (beside != 0 || leader != 0) return beside;
    }
    if (p->group != NULL || p->told == NULL) return leader;
    if (leader != 0 && peer_connected(w->peers, leader)) return leader;
    for (uint32_t i = 0; i < p->told->replica_count; i++)
        if (peer_connected(w->peers, p->told->replicas[i].node)) return p->told->replicas[i].node;
    return 0;
}

bool map_serves(const struct partition *p)
{
    return p->group != NULL && !p->group->installing && !p->group->rowless && !p->group->dead;
}

uint32_t map_nearest(const struct worker *w, const struct partition *p)
{
    const struct descriptor *d = map_descriptor(p);
    uint64_t now_ns = env_now_ns(w->env), least = UINT64_MAX;
    uint32_t node = 0, start = (uint32_t)(w->reads_sent % DESCRIPTOR_REPLICAS_MAX); /* equals take turns */
    for (uint32_t i = 0; d != NULL && i < d->replica_count; i++) {
        const struct descriptor_replica *r = &d->replicas[(start + i) % d->replica_count];
        const struct kv_choice *c = peer_choice(w->peers, r->node);
        if (c == NULL || r->role == DESCRIPTOR_LEARNER) continue;
        uint64_t cost = kv_choice_cost(c, now_ns);
        if (cost >= least) continue;
        least = cost;
        node = r->node;
    }
    return node;
}

bool map_is_out_of_touch(const struct worker *w, const struct partition *p, uint64_t now_ns)
{
    uint32_t beside, stranded = seats_stranded(w, p, &beside);
    if (stranded < beside) return false;
    if (p->group != NULL) return group_is_out_of_touch(p->group, now_ns);
    return beside > 0 || (siblings_is_face(w) && map_way(w, p) == 0);
}

/* ---- looking up ---- */

static struct kv_range range_of(const struct partition *p)
{
    const struct descriptor *d = map_descriptor(p);
    return (struct kv_range){kv_key_slice(&d->from), kv_key_slice(&d->to)};
}

static int range_order(const void *a, const void *b)
{
    const struct partition *x = *(struct partition *const *)a, *y = *(struct partition *const *)b;
    int order = kv_slice_cmp(range_of(x).from, range_of(y).from);
    if (order != 0) return order;
    uint32_t ex = map_descriptor(x)->range_epoch, ey = map_descriptor(y)->range_epoch;
    return ex != ey ? (ex < ey ? -1 : 1) : x->id < y->id ? -1
                                                         : x->id > y->id;
}

static void paint_slots(struct worker *w, uint16_t colour, const struct descriptor *d)
{
    uint32_t from = kv_key_slot(kv_key_slice(&d->from));
    uint32_t to = d->to.size == 0 ? KV_SLOTS : kv_key_slot(kv_key_slice(&d->to));
    for (uint32_t slot = from; slot < to && slot < KV_SLOTS; slot++) {
        const struct partition *there = map_slot(w, slot);
        if (there == NULL || map_descriptor(there)->range_epoch <= d->range_epoch) w->slots[slot] = colour;
    }
}

/* Told of long ago: a later owner has all of its keys. Its writes under way come back, and then go there. */
static bool is_overtaken(const struct worker *w, struct partition *p)
{
    if (p->group != NULL) return false;
    struct kv_range own = range_of(p);
    struct partition *owner = map_find(w, own.from);
    if (owner == NULL || owner == p || map_descriptor(owner)->range_epoch <= p->told->range_epoch) return false;
    struct kv_range all = range_of(owner);
    if (all.to.size != 0 && (own.to.size == 0 || kv_slice_cmp(own.to, all.to) > 0)) return false;
    map_join_line(owner, p);
    return true;
}

/* Else they would pile up behind merges, until map_find() does not look far enough back any more. */
static void forget_overtaken(struct worker *w)
{
    for (uint32_t before = UINT32_MAX; before != w->range_count;) {
        before = w->range_count;
        for (uint32_t i = 0; i < w->range_count;) {
            struct partition *p = w->ranges[i];
            if (!is_overtaken(w, p)) {
                i++;
                continue;
            }
            memmove(w->ranges + i, w->ranges + i + 1, (w->range_count - i - 1) * sizeof(struct partition *));
            w->range_count--;
            free(p->told);
            p->told = NULL;
            p->has_ended = true;
        }
    }
}

void map_settle(struct worker *w)
{
    w->map_is_stale = false;
    struct partition **ranges = realloc(w->ranges, (w->partitions.count + 1) * sizeof *ranges);
    if (ranges == NULL) abort(); /* nothing could be found any more; the log replays all of it */
    w->ranges = ranges;
    w->range_count = 0;
    memset(w->slots, 0, sizeof w->slots);
    uint32_t cursor = 0;
    uint16_t colours = 0; /* at most one a slot */
    uint64_t id;
    void *v;
    while (kv_map_next(&w->partitions, &cursor, &id, &v)) {
        struct partition *p = v;
        const struct descriptor *d = map_descriptor(p);
        if (d == NULL) continue;
        ranges[w->range_count++] = p;
    }
    qsort(ranges, w->range_count, sizeof *ranges, range_order);
    forget_overtaken(w);
    for (uint32_t i = 0; i < w->range_count; i++) {
        struct partition *p = ranges[i];
        const struct descriptor *d = map_descriptor(p);
        if (d->kind != DESCRIPTOR_HASH || d->keyspace != KV_KEYSPACE_DEFAULT || colours == KV_SLOTS) continue;
        w->slot_partitions[++colours] = p;
        paint_slots(w, colours, d);
    }
}

void map_changed(struct worker *w)
{
    w->map_is_stale = true;
    worker_turn(w);
}

struct partition *map_at(const struct worker *w, uint32_t index)
{
    return index < w->range_count ? w->ranges[index] : NULL;
}

/* What begins last before a key holds it, unless that is a part of something wider of which we know only from before. */
struct partition *map_find(const struct worker *w, struct kv_slice encoded)
{
    uint32_t low = 0, high = w->range_count; /* the first that begins behind the key */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (kv_slice_cmp(range_of(w->ranges[middle]).from, encoded) <= 0) low = middle + 1;
        else high = middle;
    }
    struct partition *best = NULL;
    for (uint32_t back = 0; low-- > 0 && back < 16; back++) {
        struct partition *p = w->ranges[low];
        if (!kv_range_has(range_of(p), encoded)) continue;
        if (best != NULL && map_descriptor(best)->range_epoch >= map_descriptor(p)->range_epoch) continue;
        best = p;
    }
    return best;
}

bool map_has_ended(const struct worker *w, uint32_t id)
{
    const struct partition *p = map_get(w, id);
    struct store_group sg;
    if (p != NULL && (p->group != NULL || p->has_ended)) return p->group == NULL;
    return store_group_get(w->store, id, &sg) && sg.absorbed != 0;
}

bool map_is_whole(const struct worker *w, const struct kv_keyspace *k)
{
    struct kv_key at, end;
    kv_key_start(k->kind, k->id, &at);
    kv_key_end(k->kind, k->id, &end);
    while (kv_slice_cmp(kv_key_slice(&at), kv_key_slice(&end)) < 0) {
        const struct partition *p = map_find(w, kv_key_slice(&at));
        if (p == NULL) return false;
        if (map_descriptor(p)->to.size == 0) return true;
        at = map_descriptor(p)->to;
    }
    return true;
}

struct partition *map_ending(const struct worker *w, struct kv_slice encoded)
{
    struct partition *best = NULL;
    for (uint32_t i = 0; i < w->range_count; i++) {
        struct partition *p = w->ranges[i];
        struct kv_range r = range_of(p);
        if (kv_slice_cmp(r.from, encoded) >= 0 || (r.to.size != 0 && kv_slice_cmp(r.to, encoded) < 0)) continue;
        if (best == NULL || map_descriptor(best)->range_epoch < map_descriptor(p)->range_epoch) best = p;
    }
    return best != NULL && kv_slice_eq(range_of(best).to, encoded) ? best : NULL;
}

/* ---- lines ---- */

void map_inherit_line(struct partition *parent, struct partition *child)
{
    child->line.is_held = child->line.is_held || parent->line.is_held;
    child->line.blocked_walk = parent->line.blocked_walk;
    child->line.after = parent->id;
    if (parent->line.sent > 0) parent->line.is_refused = true; /* all of them come back before anything else goes */
}

void map_join_line(struct partition *whole, struct partition *part)
{
    struct line *l = &whole->line;
    if (part->line.is_held && (!l->is_held || part->line.blocked_walk > l->blocked_walk)) l->blocked_walk = part->line.blocked_walk;
    l->is_held = l->is_held || part->line.is_held;
    if (part->line.sent > 0) {
        l->after = part->id;
        part->line.is_refused = true;
    } else if (l->after == 0 && part->line.after != whole->id) {
        l->after = part->line.after;
    }
}

/* ---- replicas here ---- */

static bool is_newer(const struct descriptor *d, const struct descriptor *old)
{
    if (old == NULL) return true;
    return d->range_epoch != old->range_epoch ? d->range_epoch > old->range_epoch : d->conf_epoch > old->conf_epoch;
}

/* A freeze and its end are of the same epochs: of these the word of the leader that was heard last counts. */
static bool is_frozen_otherwise(const struct partition *p, const struct descriptor *d, uint64_t term)
{
    const struct descriptor *told = p->told;
    return told != NULL && term >= p->term && told->frozen_merge != d->frozen_merge && told->range_epoch == d->range_epoch && told->conf_epoch == d->conf_epoch;
}

static void forget_told(struct partition *p)
{
    free(p->told);
    p->told = NULL;
}

void map_add_group(struct worker *w, struct group *g)
{
    struct partition *p = map_make(w, g->id);
    if (p == NULL) abort(); /* out of memory at a start, or amid an entry: the log replays it exactly */
    p->group = g;
    p->has_ended = false;
    g->at = p;
    if (p->told != NULL && !is_newer(p->told, &g->descriptor)) forget_told(p);
    map_settle(w);
}

/* What was told meanwhile may be newer than what the replica came to know before it went. */
void map_remove_group(struct worker *w, struct group *g)
{
    struct partition *p = g->at;
    if (raft_term_now(g->raft) >= p->term) {
        p->leader = group_leader_node(g);
        p->term = raft_term_now(g->raft);
    }
    if (p->told == NULL || !is_newer(p->told, &g->descriptor)) {
        forget_told(p);
        p->told = malloc(sizeof *p->told);
        if (p->told != NULL) {
            *p->told = g->descriptor;
            p->told->list = kv_slice(NULL, 0);
        }
    }
    p->group = NULL;
    seats_keep_leader(w, p);
    map_settle(w);
}

/* ---- telling and learning ---- */

void map_tell(struct group *g)
{
    if (!group_leads(g) || (nodes_are_one(g->w) && siblings_count(g->w) == 1)) return;
    g->is_to_tell = g->w->is_telling = true;
}

void map_tell_again(struct worker *w)
{
    uint32_t cursor = 0;
    uint64_t id;
    void *v;
    while (kv_map_next(&w->groups, &cursor, &id, &v)) map_tell(v);
}

static void tell(struct group *g, struct kv_buf *bytes)
{
    kv_buf_clear(bytes);
    struct descriptor d = g->descriptor;
    d.list = kv_slice(NULL, 0);
    descriptor_encode(&d, bytes);
    if (bytes->failed) return; /* short of memory: again with the next change */
    peers_send_descriptor(g->w->peers, kv_buf_slice(bytes), raft_term_now(g->raft));
}

void map_tick(struct worker *w, uint64_t now_ns)
{
    if (now_ns - w->told_ns > KV_SECONDS(TELL_AGAIN_S)) { /* a full link drops what it is told */
        w->told_ns = now_ns;
        map_tell_again(w);
    }
    if (!w->is_telling || w->poisoned) return;
    struct kv_buf bytes = {0};
    uint32_t cursor = 0, told = 0;
    uint64_t id;
    void *v;
    w->is_telling = false;
    while (kv_map_next(&w->groups, &cursor, &id, &v)) {
        struct group *g = v;
        if (!g->is_to_tell) continue;
        if (told == TELL_MAX) {
            w->is_telling = true;
            break;
        }
        g->is_to_tell = false;
        if (!group_leads(g)) continue;
        if (g->id == KV_PARTITION_SYSTEM) keyspaces_tell(w, 0);
        tell(g, &bytes);
        told++;
    }
    kv_buf_free(&bytes);
}

/* A partition that takes a place of one we knew was a part of it. */
static void learn_parents(struct worker *w, struct partition *child, const struct descriptor *d)
{
    struct partition *p = map_find(w, kv_key_slice(&d->from));
    if (p != NULL && p != child && map_descriptor(p)->range_epoch < d->range_epoch) map_inherit_line(p, child);
}

void map_learn(struct worker *w, const struct descriptor *d, uint32_t leader, uint64_t term)
{
    struct partition *p = map_make(w, d->id);
    if (p == NULL || keyspaces_is_gone(w, d->keyspace)) return;
    if (term >= p->term) {
        p->term = term;
        p->leader = leader;
    }
    leave_told(w, d);
    /* Removed while it was cut off. A voter would ask its fellows, and hear it from them; a learner or a quiet one never asks. */
    if (p->group != NULL && is_newer(d, &p->group->descriptor)) leave_described(p->group, d);
    /* Who has a replica knows by itself, or will; unless that goes before it knew. */
    if ((!is_newer(d, p->told) && !is_frozen_otherwise(p, d, term)) || (p->group != NULL && !is_newer(d, &p->group->descriptor))) return;
    if (p->told == NULL && p->group == NULL) learn_parents(w, p, d);
    struct descriptor *copy = p->told == NULL ? malloc(sizeof *copy) : p->told;
    if (copy == NULL) return;
    *copy = *d;
    copy->list = kv_slice(NULL, 0); /* borrowed, and of no use to who only looks keys up */
    p->told = copy;
    p->has_ended = false;
    map_changed(w);
}

void map_learn_leader(struct worker *w, uint32_t id, uint32_t leader)
{
    struct partition *p = map_get(w, id);
    if (p != NULL && p->group == NULL && leader != 0) p->leader = leader;
}

void map_forget(struct worker *w)
{
    uint32_t cursor = 0;
    bool any = false;
    uint64_t id;
    void *v;
    while (kv_map_next(&w->partitions, &cursor, &id, &v)) {
        struct partition *p = v;
        if (p->told == NULL || !keyspaces_is_gone(w, p->told->keyspace)) continue;
        free(p->told);
        p->told = NULL; /* the line stays: what is under way comes back to it */
        any = true;
    }
    if (any) map_settle(w); /* at once: nothing may be found without a descriptor */
}

void map_free(struct worker *w)
{
    uint32_t cursor = 0;
    uint64_t id;
    void *v;
    while (kv_map_next(&w->partitions, &cursor, &id, &v)) {
        free(((struct partition *)v)->told);
        seats_free(v);
        load_report_free(((struct partition *)v)->load);
        free(v);
    }
    kv_map_free(&w->partitions);
    free(w->ranges);
}

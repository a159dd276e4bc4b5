#include <stdio.h>
#include <stdlib.h>

#include "server/leave.h"
#include "server/peer_codec.h"
#include "server/request.h"
#include "server/seats_impl.h"

/* Where replicas go: new ones to the worker with the fewest, and later some of those that are there, until each worker has as many. */
enum { MOVES_MAX = 2, /* under way for the sake of balance */
       BALANCE_MS = 500,
       WISH_S = 60, /* a replica may take so long to get where it is to be, */
       STAY_S = 20, /* and is left there for so long: it was moved by hand, or to the other side of a merge */
       ASK_AGAIN_MS = 1000 };

static struct seat_wish *wish_of(struct worker *w, uint32_t group)
{
    struct seat_plan *m = seats_plan(w);
    for (uint32_t i = 0; i < SEAT_WISHES; i++)
        if (m->wishes[i].group == group) return &m->wishes[i];
    return NULL;
}

/* Replicas of each worker, as they will be when what moves has moved. */
static void counts_take(struct worker *w, uint32_t counts[WORKERS_MAX])
{
    struct seat_plan *m = seats_plan(w);
    counts[0] = w->groups.count;
    for (uint32_t k = 1; k < siblings_count(w); k++) counts[k] = m->counts[k].replicas;
    for (uint32_t i = 0; i < SEAT_WISHES; i++) {
        const struct partition *p = m->wishes[i].group == 0 ? NULL : map_get(w, m->wishes[i].group);
        uint32_t to = m->wishes[i].to;
        if (p == NULL) continue;
        if (!seat_is_live(p, to)) counts[to]++;
        for (uint32_t k = 0; k < siblings_count(w); k++)
            if (k != to && seat_is_live(p, k) && counts[k] > 0) counts[k]--;
    }
}

static uint32_t leads_on(const struct worker *w, uint32_t index)
{
    uint32_t cursor = 0, leads = 0;
    uint64_t id;
    void *v;
    if (index != 0) return seats_counts(w, index)->leads;
    while (kv_map_next(&w->groups, &cursor, &id, &v)) leads += group_leads(v);
    return leads;
}

/* Of the workers without it the one with the fewest replicas; of these the one that leads the fewest. */
static uint32_t emptiest(struct worker *w, const struct partition *p)
{
    uint32_t counts[WORKERS_MAX] = {0}, best = UINT32_MAX;
    counts_take(w, counts);
    for (uint32_t k = 0; k < siblings_count(w); k++) {
        if (seat_is_live(p, k)) continue;
        if (best == UINT32_MAX || counts[k] < counts[best] || (counts[k] == counts[best] && leads_on(w, k) < leads_on(w, best))) best = k;
    }
    return best;
}

static void place(struct worker *w, struct partition *p, raft_id replica, uint32_t at)
{
    struct seats *s = seats_make(w, p);
    s->placed = replica;
    s->placed_at = at;
    s->placed_ns = env_now_ns(w->env);
    JOURNAL(w->journal, raft, DEBUG, "replica-placed", "group=%u replica=%u worker=%u", p->id, replica, at);
}

void seats_placed_here(struct worker *w, uint32_t group, raft_id replica)
{
    struct partition *p = siblings_count(w) == 1 ? NULL : map_make(w, group);
    if (p != NULL) place(w, p, replica, 0);
}

uint32_t seats_place(struct worker *w, uint32_t group, raft_id replica, struct kv_slice descriptor)
{
    struct descriptor d;
    if (group == KV_PARTITION_SYSTEM) return 0;
    struct partition *p = map_make(w, group);
    if (p == NULL) abort();
    struct seats *s = seats_make(w, p);
    struct store_group sg;
    if (p->group != NULL && p->group->replica == replica) return 0;
    if (s->placed == replica) return s->placed_at;
    if (descriptor_decode(descriptor, &d) != KV_OK) return 0; /* which refuses it */
    for (uint32_t k = 1; k < siblings_count(w); k++)
        if (s->of[k].state != SEAT_NONE && s->of[k].replica == replica) return k;
    /* One that stands in the way closed goes to make room, as on a node of one worker. */
    uint32_t at = UINT32_MAX;
    if (p->group == NULL && store_group_get(w->store, group, &sg) && sg.state != CHECKPOINT_GROUP_TOMBSTONE) at = 0;
    for (uint32_t k = 1; k < siblings_count(w) && at == UINT32_MAX; k++)
        if (s->of[k].state == SEAT_CLOSED) at = k;
    uint32_t holders = seats_holders(w, &d);
    if (store_overlap(w->store, (struct kv_range){kv_key_slice(&d.from), kv_key_slice(&d.to)}, d.range_epoch, group) != UINT32_MAX) holders |= 1;
    if ((holders & (holders - 1)) != 0) return UINT32_MAX; /* until all but one of them are told of what happened */
    for (uint32_t k = 0; k < siblings_count(w) && at == UINT32_MAX; k++)
        if (holders == 1u << k) at = k;
    const struct seat_wish *wish = wish_of(w, group);
    if (at == UINT32_MAX) at = wish != NULL && !seat_is_live(p, wish->to) ? wish->to : emptiest(w, p);
    if (at == UINT32_MAX || seat_is_live(p, at)) return UINT32_MAX; /* until one of those that are there has left */
    place(w, p, replica, at);
    return at;
}

static void asked(struct request *r, const struct kv_reply *reply)
{
    struct worker *w = r->owner;
    if (reply->err != KV_OK)
        JOURNAL(w->journal, raft, DEBUG, "seat-move-refused", "err=%s why=\"%.*s\"", kv_err_name(reply->err),
                (int)(reply->detail.size < 80 ? reply->detail.size : 80), reply->detail.size == 0 ? "" : (const char *)reply->detail.data);
}

static void ask(struct worker *w, struct seat_wish *wish, uint64_t now_ns)
{
    char group[24], node[24];
    if (wish->asked_ns != 0 && now_ns - wish->asked_ns < KV_MS(ASK_AGAIN_MS)) return;
    wish->asked_ns = now_ns;
    struct request *r = request_make(w);
    if (r == NULL) return;
    snprintf(group, sizeof group, "%u", wish->group);
    snprintf(node, sizeof node, "%u", w->node_id);
    struct kv_slice args[3] = {kv_str(group), kv_str(node), kv_str(node)};
    r->done = asked;
    r->owner = w;
    r->internal = true;
    r->body = (struct kv_request){.op = KV_OP_KVMOVE, .args = args, .arg_count = 3, .keyspace = KV_KEYSPACE_DEFAULT};
    request_start(r);
}

static void move(struct worker *w, uint32_t group, uint32_t to, uint64_t now_ns)
{
    struct seat_wish *wish = wish_of(w, group);
    if (wish == NULL) wish = wish_of(w, 0);
    if (wish == NULL) return; /* again later */
    if (wish->group != group || wish->to != to) {
        *wish = (struct seat_wish){.group = group, .to = to, .since_ns = now_ns};
        JOURNAL(w->journal, raft, INFO, "seat-move", "group=%u worker=%u", group, to);
    }
    ask(w, wish, now_ns);
}

static uint32_t seats_taken(const struct worker *w, const struct partition *p)
{
    uint32_t count = 0;
    for (uint32_t k = 0; p != NULL && k < siblings_count(w); k++) count += seat_is_live(p, k);
    return count;
}

/* The only worker with a live replica of it; UINT32_MAX: none, or it is moving. */
static uint32_t only_seat(const struct worker *w, const struct partition *p)
{
    if (seats_taken(w, p) != 1) return UINT32_MAX;
    uint32_t at = 0;
    while (!seat_is_live(p, at)) at++;
    return at;
}

bool seats_are_beside(struct worker *w, uint32_t left, uint32_t right)
{
    if (siblings_count(w) == 1) return true;
    uint64_t now = env_now_ns(w->env);
    uint32_t l = only_seat(w, map_get(w, left)), r = only_seat(w, map_get(w, right));
    if (l == UINT32_MAX || r == UINT32_MAX) return false;
    if (l == r) return true;
    move(w, right, l, now);
    return false;
}

/* ---- who was removed and has not heard ---- */

/* The only member by that descriptor has it in a checkpoint. */
static bool is_lasting(const struct worker *w, const struct partition *p, const struct descriptor *d)
{
    raft_id only = d->replicas[0].id;
    if (p->group != NULL && p->group->replica == only)
        return leave_is_lasting(p->group) && p->group->descriptor.conf_epoch >= d->conf_epoch;
    for (uint32_t k = 1; k < siblings_count(w); k++)
        if (seat_is_live(p, k) && p->seats->of[k].replica == only)
            return p->seats->of[k].is_lasting && p->seats->of[k].conf_epoch >= d->conf_epoch;
    return false;
}

/* One that is no member any more asks nobody if it was a learner; and one waits to be told (leave_waits()). */
static void tell_removed(struct worker *w, struct partition *p, const struct descriptor *d)
{
    struct kv_buf *batch;
    if (d == NULL || p->seats == NULL || (leave_waits(w, d) && !is_lasting(w, p, d))) return;
    if (p->group != NULL && !p->group->installing && leave_is_due(d, p->group->replica)) leave_group(p->group);
    for (uint32_t k = 1; k < siblings_count(w); k++) {
        struct peer_lost gone = {.group = p->id, .replica = p->seats->of[k].replica, .gone = true};
        if (seat_is_live(p, k) && leave_is_due(d, gone.replica) && (batch = siblings_batch(w, k, w->node_id)) != NULL)
            peer_put_lost(batch, &gone);
    }
}

static void tell_all_removed(struct worker *w)
{
    uint32_t cursor = 0;
    uint64_t id;
    void *v;
    while (kv_map_next(&w->partitions, &cursor, &id, &v)) {
        struct partition *p = v;
        tell_removed(w, p, p->told);
        if (p->group != NULL && !p->group->installing && !p->group->rowless) tell_removed(w, p, &p->group->descriptor);
    }
}

/* ---- balance ---- */

static bool may_move(struct worker *w, const struct partition *p, uint32_t from, uint64_t now_ns)
{
    const struct descriptor *d = map_descriptor(p);
    if (p->seats != NULL && p->seats->placed != 0 && now_ns - p->seats->placed_ns < KV_SECONDS(STAY_S)) return false;
    if (p->id == KV_PARTITION_SYSTEM || d == NULL || d->frozen_merge != 0 || map_leader(p) == 0 || wish_of(w, p->id) != NULL ||
        only_seat(w, p) != from)
        return false;
    bool here = false;
    for (uint32_t i = 0; i < d->replica_count; i++) {
        if (d->replicas[i].role != DESCRIPTOR_VOTER) return false;
        here = here || d->replicas[i].node == w->node_id;
    }
    return here;
}

/* One more replica goes from the fullest worker to the emptiest; of those that may, one of the kind, leading here or not, of which
 * there are more than over there. False: nothing to do. */
static bool balance(struct worker *w, uint64_t now_ns)
{
    struct seat_plan *m = seats_plan(w);
    uint32_t counts[WORKERS_MAX] = {0}, fullest = 0, least = 0;
    const struct partition *chosen = NULL;
    counts_take(w, counts);
    for (uint32_t k = 1; k < siblings_count(w); k++) {
        if (counts[k] > counts[fullest]) fullest = k;
        if (counts[k] < counts[least]) least = k;
    }
    if (counts[fullest] < counts[least] + 2) return false;
    bool is_leader_wanted = leads_on(w, fullest) > leads_on(w, least);
    for (uint32_t tried = 0; tried < w->range_count; tried++) {
        const struct partition *p = map_at(w, m->cursor++ % w->range_count);
        bool suits = (map_leader(p) == w->node_id) == is_leader_wanted;
        if ((chosen != NULL && !suits) || !may_move(w, p, fullest, now_ns)) continue;
        chosen = p;
        if (suits) break;
    }
    if (chosen != NULL) move(w, chosen->id, least, now_ns);
    return chosen != NULL;
}

void seats_tick(struct worker *w, uint64_t now_ns)
{
    struct seat_plan *m = seats_plan(w);
    uint32_t under_way = 0;
    if (now_ns < m->balance_ns || w->stopping || w->poisoned) return;
    m->balance_ns = now_ns + KV_MS(BALANCE_MS);
    tell_all_removed(w);
    for (uint32_t i = 0; i < SEAT_WISHES; i++) {
        struct seat_wish *wish = &m->wishes[i];
        const struct partition *p = wish->group == 0 ? NULL : map_get(w, wish->group);
        if (p == NULL) continue;
        bool is_void = seats_taken(w, p) == 0 || now_ns - wish->since_ns > KV_SECONDS(WISH_S);
        if (is_void || only_seat(w, p) == wish->to) { /* or done */
            *wish = (struct seat_wish){0};
            continue;
        }
        under_way++;
        if (!seat_is_live(p, wish->to)) ask(w, wish, now_ns); /* refused before, or its leader changed */
    }
    while (under_way < MOVES_MAX && balance(w, now_ns)) under_way++;
}

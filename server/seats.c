#include "server/seats.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/leave.h"
#include "server/peer_codec.h"
#include "server/request.h"
#include "server/siblings.h"

/* (1) A replica (group, id) is on one worker for all of its life: it would vote twice otherwise. Who was not there
 *     before is put where seats_place() said first. One that could be born here too, by an entry of another partition that this node has
 *     not applied yet, is put where that is: there the store tells the two apart. Such a parent holds its range; or is
 *     partition 0, on worker 0, whose births ask seats_has_elsewhere(). What is born late begins at worker 0.
 * (2) Two replicas of one partition may be here for a while: one that moves to another worker, under a new id as any
 *     that moves (member.c).
 * (3) What worker 0 knows is late by a message, never wrong: it only decides who is asked. */
enum { WISHES = 16,
       MOVES_MAX = 2, /* under way for the sake of balance */
       BALANCE_MS = 500,
       WISH_S = 60, /* it stays where it was wished to be for so long */
       ASK_AGAIN_MS = 1000 };

struct seats {          /* of one partition */
    raft_id placed;     /* the last that was placed here, */
    uint32_t placed_at; /* and on which worker */
    struct seat of[];   /* by worker; [0] is not used */
};

struct seat_moves {
    struct seat_wish {
        uint32_t group, to; /* group 0: none */
        uint64_t since_ns, asked_ns;
    } wishes[WISHES];
    uint64_t balance_ns;
    uint32_t cursor; /* over the map */
};

/* ---- a sibling's ---- */

static void say(struct worker *w, const struct seat *seat, const struct descriptor *d)
{
    struct kv_buf bytes = {0};
    if (d != NULL) {
        struct descriptor plain = *d;
        plain.list = kv_slice(NULL, 0); /* as map_tell() */
        descriptor_encode(&plain, &bytes);
    }
    siblings_say_seat(w, seat, sizeof *seat, kv_buf_slice(&bytes));
    kv_buf_free(&bytes);
}

/* Learners are behind, and who was removed falls behind. */
static bool is_voter(const struct group *g)
{
    for (uint32_t i = 0; i < g->descriptor.replica_count; i++)
        if (g->descriptor.replicas[i].id == g->replica) return g->descriptor.replicas[i].role != DESCRIPTOR_LEARNER;
    return false;
}

void seats_tell(struct group *g)
{
    struct worker *w = g->w;
    struct seat_told *t = &g->seat_told;
    if (siblings_is_face(w)) return;
    struct seat_told now = {.is_told = true,
                            .leads = group_leads(g),
                            .is_stranded = group_is_out_of_touch(g, env_now_ns(w->env)),
                            .serves = !g->installing && !g->rowless && is_voter(g),
                            .is_lasting = leave_is_lasting(g),
                            .leader = group_leader_node(g),
                            .range_epoch = g->descriptor.range_epoch,
                            .conf_epoch = g->descriptor.conf_epoch,
                            .term = raft_term_now(g->raft)};
    bool is_old = t->is_told && t->leads == now.leads && t->is_stranded == now.is_stranded && t->serves == now.serves && t->is_lasting == now.is_lasting &&
                  t->leader == now.leader && t->range_epoch == now.range_epoch && t->conf_epoch == now.conf_epoch && t->term == now.term;
    if (is_old) return;
    *t = now;
    struct seat seat = {.group = g->id,
                        .replica = g->replica,
                        .state = SEAT_LIVE,
                        .leads = now.leads,
                        .is_stranded = now.is_stranded,
                        .serves = now.serves,
                        .is_lasting = now.is_lasting,
                        .leader = now.leader,
                        .term = now.term,
                        .range_epoch = now.range_epoch,
                        .conf_epoch = now.conf_epoch,
                        .from = g->descriptor.from,
                        .to = g->descriptor.to};
    say(w, &seat, &g->descriptor);
}

static void tell_stored(struct worker *w, uint32_t group)
{
    struct store_group sg;
    struct descriptor d;
    if (!store_group_get(w->store, group, &sg)) return;
    struct seat seat = {.group = group, .replica = sg.replica, .state = SEAT_GONE};
    if (sg.state != CHECKPOINT_GROUP_TOMBSTONE) {
        seat.state = SEAT_CLOSED;
        if (descriptor_decode(sg.descriptor, &d) == KV_OK) {
            seat.range_epoch = d.range_epoch;
            seat.from = d.from;
            seat.to = d.to;
        }
    }
    say(w, &seat, NULL);
}

void seats_tell_gone(struct worker *w, uint32_t group)
{
    if (!siblings_is_face(w)) tell_stored(w, group);
}

void seats_tell_all(struct worker *w)
{
    uint32_t cursor = 0, id;
    if (siblings_is_face(w)) return;
    while (store_group_next_known(w->store, &cursor, &id)) {
        struct group *g = worker_group(w, id);
        if (g != NULL) seats_tell(g);
        else tell_stored(w, id);
    }
}

/* ---- what is where ---- */

static struct seats *make(struct worker *w, struct partition *p)
{
    if (p->seats == NULL) p->seats = calloc(1, sizeof *p->seats + siblings_count(w) * sizeof(struct seat));
    if (p->seats == NULL) abort(); /* out of memory: nobody could be found here any more */
    return p->seats;
}

void seats_free(struct partition *p)
{
    free(p->seats);
    p->seats = NULL;
}

void seats_learn(struct worker *w, uint32_t index, const struct seat *seat, struct kv_slice descriptor)
{
    struct partition *p = map_make(w, seat->group);
    struct descriptor d;
    if (p == NULL) abort();
    make(w, p)->of[index] = *seat;
    if (seat->state == SEAT_LIVE && descriptor_decode(descriptor, &d) == KV_OK) map_learn(w, &d, seat->leader, seat->term);
    if (p->leader == w->node_id && p->group == NULL && seats_leader(w, p) == 0) p->leader = 0;
    request_wake(w); /* what waits for a leader, or for this one to lead no more */
}

uint32_t seats_leader(const struct worker *w, const struct partition *p)
{
    uint32_t best = 0;
    for (uint32_t k = 1; p->seats != NULL && k < siblings_count(w); k++) {
        const struct seat *s = &p->seats->of[k];
        if (s->state == SEAT_LIVE && s->leads && (best == 0 || s->term > p->seats->of[best].term)) best = k;
    }
    return best == 0 ? 0 : sibling_way(best);
}

uint32_t seats_server(const struct worker *w, const struct partition *p)
{
    for (uint32_t k = 1; p->seats != NULL && k < siblings_count(w); k++)
        if (p->seats->of[k].state == SEAT_LIVE && p->seats->of[k].serves) return sibling_way(k);
    return 0;
}

bool seats_are_stranded(const struct worker *w, const struct partition *p)
{
    bool any = false;
    for (uint32_t k = 1; p->seats != NULL && k < siblings_count(w); k++) {
        if (p->seats->of[k].state != SEAT_LIVE) continue;
        if (!p->seats->of[k].is_stranded) return false;
        any = true;
    }
    return any;
}

bool seats_is_live(const struct worker *w, uint32_t index, uint32_t group)
{
    const struct partition *p = map_get(w, group);
    return p != NULL && p->seats != NULL && p->seats->of[index].state == SEAT_LIVE;
}

uint32_t seats_of(struct worker *w, uint32_t group, raft_id replica)
{
    const struct partition *p = map_get(w, group);
    if (p == NULL || p->seats == NULL || group == KV_PARTITION_SYSTEM) return 0;
    if (p->group != NULL && p->group->replica == replica) return 0;
    struct store_group sg;
    uint32_t best = 0;
    raft_id highest = store_group_get(w->store, group, &sg) ? sg.replica : 0;
    for (uint32_t k = 1; k < siblings_count(w); k++) {
        const struct seat *s = &p->seats->of[k];
        if (s->state == SEAT_NONE) continue;
        if (s->replica == replica) return k;
        if (s->replica > highest) {
            highest = s->replica;
            best = k;
        }
    }
    return best;
}

bool seats_has_elsewhere(const struct worker *w, uint32_t group, raft_id replica)
{
    const struct partition *p = map_get(w, group);
    if (p == NULL || p->seats == NULL) return false;
    if (p->seats->placed >= replica && p->seats->placed_at != 0) return true;
    for (uint32_t k = 1; k < siblings_count(w); k++)
        if (p->seats->of[k].state != SEAT_NONE && p->seats->of[k].replica >= replica) return true;
    return false;
}

static bool is_inside(struct kv_range inner, struct kv_range outer)
{
    if (kv_slice_cmp(inner.from, outer.from) < 0) return false;
    return outer.to.size == 0 || (inner.to.size != 0 && kv_slice_cmp(inner.to, outer.to) <= 0);
}

/* The siblings that hold some of its range, as bits, for another partition, and will not just give way to it (R9). */
static uint32_t holders_of(const struct worker *w, const struct descriptor *d)
{
    struct kv_range range = {kv_key_slice(&d->from), kv_key_slice(&d->to)};
    uint32_t cursor = 0, holders = 0;
    uint64_t id;
    void *v;
    while (kv_map_next(&w->partitions, &cursor, &id, &v)) {
        const struct partition *p = v;
        for (uint32_t k = 1; p->seats != NULL && p->id != d->id && k < siblings_count(w); k++) {
            const struct seat *s = &p->seats->of[k];
            struct kv_range own = {kv_key_slice(&s->from), kv_key_slice(&s->to)};
            if (s->state == SEAT_NONE || s->state == SEAT_GONE || !kv_range_meets(range, own)) continue;
            if (s->range_epoch < d->range_epoch && is_inside(own, range)) continue;
            holders |= 1u << k;
        }
    }
    return holders;
}

bool seats_forbid_birth(const struct worker *w, const struct descriptor *d, raft_id replica)
{
    const struct partition *p = map_get(w, d->id);
    for (uint32_t k = 1; p != NULL && p->seats != NULL && k < siblings_count(w); k++)
        if (p->seats->of[k].state != SEAT_NONE) return true;
    return seats_has_elsewhere(w, d->id, replica) || holders_of(w, d) != 0;
}

/* ---- where to ---- */

static struct seat_moves *moves_of(struct worker *w)
{
    if (w->seat_moves == NULL) w->seat_moves = calloc(1, sizeof *w->seat_moves);
    if (w->seat_moves == NULL) abort();
    return w->seat_moves;
}

static struct seat_wish *wish_of(struct worker *w, uint32_t group)
{
    struct seat_moves *m = moves_of(w);
    for (uint32_t i = 0; i < WISHES; i++)
        if (m->wishes[i].group == group) return &m->wishes[i];
    return NULL;
}

static bool is_live_on(const struct partition *p, uint32_t index)
{
    if (index == 0) return p->group != NULL;
    return p->seats != NULL && p->seats->of[index].state == SEAT_LIVE;
}

/* Replicas of each worker, as they will be when what moves has moved. */
static void counts_take(struct worker *w, uint32_t counts[WORKERS_MAX])
{
    struct seat_moves *m = moves_of(w);
    counts[0] = w->groups.count;
    for (uint32_t k = 1; k < siblings_count(w); k++) counts[k] = siblings_state(w, k)->groups;
    for (uint32_t i = 0; i < WISHES; i++) {
        const struct partition *p = m->wishes[i].group == 0 ? NULL : map_get(w, m->wishes[i].group);
        uint32_t to = m->wishes[i].to;
        if (p == NULL) continue;
        if (!is_live_on(p, to)) counts[to]++;
        for (uint32_t k = 0; k < siblings_count(w); k++)
            if (k != to && is_live_on(p, k) && counts[k] > 0) counts[k]--;
    }
}

static uint32_t emptiest(struct worker *w, const struct partition *p)
{
    uint32_t counts[WORKERS_MAX], best = UINT32_MAX;
    counts_take(w, counts);
    for (uint32_t k = 0; k < siblings_count(w); k++)
        if (!is_live_on(p, k) && (best == UINT32_MAX || counts[k] < counts[best])) best = k;
    return best;
}

static void place(struct worker *w, struct partition *p, raft_id replica, uint32_t at)
{
    struct seats *s = make(w, p);
    s->placed = replica;
    s->placed_at = at;
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
    struct seats *s = make(w, p);
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
    uint32_t holders = holders_of(w, &d);
    if (store_overlap(w->store, (struct kv_range){kv_key_slice(&d.from), kv_key_slice(&d.to)}, d.range_epoch, group) != UINT32_MAX) holders |= 1;
    if ((holders & (holders - 1)) != 0) return UINT32_MAX; /* until all but one of them are told of what happened */
    for (uint32_t k = 0; k < siblings_count(w) && at == UINT32_MAX; k++)
        if (holders == 1u << k) at = k;
    const struct seat_wish *wish = wish_of(w, group);
    if (at == UINT32_MAX) at = wish != NULL && !is_live_on(p, wish->to) ? wish->to : emptiest(w, p);
    if (at == UINT32_MAX || is_live_on(p, at)) return UINT32_MAX; /* until one of those that are there has left */
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

static struct seat_wish *wish_make(struct worker *w, uint32_t group, uint32_t to, uint64_t now_ns)
{
    struct seat_wish *wish = wish_of(w, group);
    if (wish == NULL) wish = wish_of(w, 0);
    if (wish == NULL || (wish->group == group && wish->to == to)) return wish;
    *wish = (struct seat_wish){.group = group, .to = to, .since_ns = now_ns};
    JOURNAL(w->journal, raft, INFO, "seat-move", "group=%u worker=%u", group, to);
    return wish;
}

/* The only worker with a live replica of it; UINT32_MAX: none, or it is moving. */
static uint32_t only_seat(const struct worker *w, const struct partition *p)
{
    uint32_t at = UINT32_MAX;
    for (uint32_t k = 0; p != NULL && k < siblings_count(w); k++) {
        if (!is_live_on(p, k)) continue;
        if (at != UINT32_MAX) return UINT32_MAX;
        at = k;
    }
    return at;
}

bool seats_are_beside(struct worker *w, uint32_t left, uint32_t right)
{
    if (siblings_count(w) == 1) return true;
    uint64_t now = env_now_ns(w->env);
    uint32_t l = only_seat(w, map_get(w, left)), r = only_seat(w, map_get(w, right));
    if (l == UINT32_MAX || r == UINT32_MAX) return false;
    if (l == r) return true;
    struct seat_wish *wish = wish_make(w, right, l, now);
    if (wish != NULL) ask(w, wish, now);
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
        if (is_live_on(p, k) && p->seats->of[k].replica == only)
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
        if (is_live_on(p, k) && leave_is_due(d, gone.replica) && (batch = siblings_batch(w, k, w->node_id)) != NULL)
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

static bool may_move(struct worker *w, const struct partition *p, uint32_t from)
{
    const struct descriptor *d = map_descriptor(p);
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

static void balance(struct worker *w, uint64_t now_ns)
{
    struct seat_moves *m = moves_of(w);
    uint32_t counts[WORKERS_MAX], fullest = 0, least = 0;
    counts_take(w, counts);
    for (uint32_t k = 1; k < siblings_count(w); k++) {
        if (counts[k] > counts[fullest]) fullest = k;
        if (counts[k] < counts[least]) least = k;
    }
    if (counts[fullest] < counts[least] + 2) return;
    for (uint32_t tried = 0; tried < w->range_count; tried++) {
        const struct partition *p = map_at(w, m->cursor++ % w->range_count);
        if (!may_move(w, p, fullest)) continue;
        struct seat_wish *wish = wish_make(w, p->id, least, now_ns);
        if (wish != NULL) ask(w, wish, now_ns);
        return;
    }
}

void seats_tick(struct worker *w, uint64_t now_ns)
{
    struct seat_moves *m = moves_of(w);
    uint32_t under_way = 0;
    if (now_ns < m->balance_ns || w->stopping || w->poisoned) return;
    m->balance_ns = now_ns + KV_MS(BALANCE_MS);
    tell_all_removed(w);
    for (uint32_t i = 0; i < WISHES; i++) {
        struct seat_wish *wish = &m->wishes[i];
        const struct partition *p = wish->group == 0 ? NULL : map_get(w, wish->group);
        if (p == NULL) continue;
        if (now_ns - wish->since_ns > KV_SECONDS(WISH_S)) {
            *wish = (struct seat_wish){0};
            continue;
        }
        if (only_seat(w, p) == wish->to) continue;
        under_way++;
        if (!is_live_on(p, wish->to)) ask(w, wish, now_ns); /* refused before, or its leader changed */
    }
    if (under_way < MOVES_MAX) balance(w, now_ns);
}

#include "server/seats_impl.h"

#include <stdlib.h>

#include "server/leave.h"
#include "server/request.h"
#include "server/siblings.h"

/* (1) A replica (group, id) is on one worker for all of its life: it would vote twice otherwise. Who was not there
 *     before is put where seats_place() said first. One that could be born here too, by an entry of another partition that this node has
 *     not applied yet, is put where that is: there the store tells the two apart. Such a parent holds its range; or is
 *     partition 0, on worker 0, whose births ask seats_has_elsewhere(). What is born late begins at worker 0.
 * (2) Two replicas of one partition may be here for a while: one that moves to another worker, under a new id as any
 *     that moves (member.c).
 * (3) What worker 0 knows is late by a message, never wrong: it only decides who is asked. */

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

struct seats *seats_make(struct worker *w, struct partition *p)
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

struct seat_plan *seats_plan(struct worker *w)
{
    if (w->seat_plan == NULL) w->seat_plan = calloc(1, sizeof *w->seat_plan);
    if (w->seat_plan == NULL) abort();
    return w->seat_plan;
}

void seats_destroy(struct worker *w)
{
    free(w->seat_plan);
    w->seat_plan = NULL;
}

const struct seat_counts *seats_counts(const struct worker *w, uint32_t index)
{
    static const struct seat_counts none = {0};
    return w->seat_plan == NULL ? &none : &w->seat_plan->counts[index];
}

static struct seat_counts count_of(const struct seat *s)
{
    bool is_live = s->state == SEAT_LIVE;
    return (struct seat_counts){.replicas = is_live, .leads = is_live && s->leads, .led_by = is_live && s->leader != 0};
}

void seats_learn(struct worker *w, uint32_t index, const struct seat *seat, struct kv_slice descriptor)
{
    struct partition *p = map_make(w, seat->group);
    struct descriptor d;
    if (p == NULL) abort();
    struct seat *s = &seats_make(w, p)->of[index];
    struct seat_counts *all = &seats_plan(w)->counts[index], was = count_of(s), now = count_of(seat);
    all->replicas += now.replicas - was.replicas;
    all->leads += now.leads - was.leads;
    all->led_by += now.led_by - was.led_by;
    *s = *seat;
    if (seat->state == SEAT_LIVE && descriptor_decode(descriptor, &d) == KV_OK) map_learn(w, &d, seat->leader, seat->term);
    if (p->group == NULL) seats_keep_leader(w, p);
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

uint32_t seats_stranded(const struct worker *w, const struct partition *p, uint32_t *live)
{
    uint32_t stranded = 0;
    *live = 0;
    for (uint32_t k = 1; p->seats != NULL && k < siblings_count(w); k++) {
        if (p->seats->of[k].state != SEAT_LIVE) continue;
        ++*live;
        stranded += p->seats->of[k].is_stranded;
    }
    return stranded;
}

void seats_keep_leader(const struct worker *w, struct partition *p)
{
    if (p->leader == 0 || p->leader == w->node_id) p->leader = seats_leader(w, p) != 0 ? w->node_id : 0;
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

uint32_t seats_holders(const struct worker *w, const struct descriptor *d)
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
    return seats_has_elsewhere(w, d->id, replica) || seats_holders(w, d) != 0;
}

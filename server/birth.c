#include "server/birth.h"

#include <stdlib.h>

#include "server/keyspaces.h"
#include "server/map.h"
#include "server/peer.h"
#include "server/request.h"
#include "server/seats.h"
#include "server/siblings.h"

/* What a split must not break, beside the rows:
 *
 *   reads     A leader reads by its lease only while all that is committed is applied here
 *             (group_read): a child may be led elsewhere as soon as anybody has applied its birth.
 *   writes    Entries behind the split carry the old range epoch and do nothing (R12); their requests go again,
 *             with the arguments that the entries kept.
 *   order     A child begins with what the parent's line of writes owed: held while an earlier write of
 *             that line is parked, under way (request_route.c), or on its way back from behind the split.
 *   votes     A replica whose birth is to be applied again after a restart is unborn until then: its log
 *             says how it voted (store_recover.c). */
enum { YOUNG_MS = 5000,
       AGAIN_MS = 20 };

bool birth_has_room(const struct group *parent, uint32_t count)
{
    return store_has_room(parent->w->store, count);
}

/* A replica that came to the parent later goes through entries of before its time: whoever was here then may have voted
 * in the child, and lost its disk (R4). */
static bool is_member(const struct group *g)
{
    for (uint32_t i = 0; i < g->descriptor.replica_count; i++)
        if (g->descriptor.replicas[i].id == g->replica) return true;
    return false;
}

/* The sides of a split have the same replicas: one that was replaced here is not born by its successor. */
static raft_id replica_here(const struct group *parent, const struct descriptor *child)
{
    if (!is_member(parent)) return 0;
    bool is_side = child->keyspace == parent->descriptor.keyspace;
    for (uint32_t i = 0; i < child->replica_count; i++) {
        const struct descriptor_replica *r = &child->replicas[i];
        if (r->node == parent->w->node_id && (!is_side || r->id == parent->replica)) return r->id;
    }
    return 0;
}

static void stays_away(struct group *parent, uint32_t child, raft_id replica, enum kv_err err)
{
    JOURNAL(parent->w->journal, raft, WARN, "birth-void", "group=%u replica=%u parent=%u err=%s", child, replica,
            parent->id, kv_err_name(err));
}

bool birth_apply(struct group *parent, const struct descriptor *child)
{
    struct worker *w = parent->w;
    raft_id replica = replica_here(parent, child);
    if (replica == 0) return false;
    if (seats_has_elsewhere(w, child->id, replica)) { /* its snapshot was quicker */
        stays_away(parent, child->id, replica, KV_CONFLICT);
        return true;
    }
    struct kv_buf bytes = {0};
    descriptor_encode(child, &bytes);
    if (bytes.failed) abort(); /* mid-apply: the log replays it exactly */
    enum kv_err err = store_group_birth(w->store, child->id, replica, kv_buf_slice(&bytes), parent->clock_ms);
    kv_buf_free(&bytes);
    struct store_group sg;
    struct group *g = NULL;
    if (err == KV_OK && store_group_get(w->store, child->id, &sg))
        err = group_open(w, &sg, sg.log.last == STORE_BIRTH_INDEX && sg.log.term == STORE_BIRTH_TERM && sg.log.vote == 0, &g);
    if (g == NULL) { /* a later replica is here; or its log is damaged, and it gets a successor (R4) */
        stays_away(parent, child->id, replica, err);
        return true;
    }
    uint64_t now = env_now_ns(w->env);
    g->born_ns = now;
    /* Of a split the parent's leader knows that the replicas are there; of a new keyspace each partition's first is
     * to lead, so that they spread from the start. */
    bool is_side = child->keyspace == parent->descriptor.keyspace;
    if (is_side ? group_leads(parent) : child->replicas[0].node == w->node_id) {
        g->campaigned_ns = now;
        raft_campaign(g->raft, now);
    }
    worker_add_group(w, g);
    if (is_side) map_inherit_line(parent->at, g->at);
    JOURNAL(w->journal, raft, INFO, "born", "group=%u replica=%u parent=%u range_epoch=%u", g->id, replica, parent->id,
            child->range_epoch);
    return true;
}

void birth_settle(struct group *parent)
{
    parent->astray_until = parent->waiting_tail == NULL ? 0 : parent->waiting_tail->index;
    request_wake(parent->w); /* those parked are routed by their keys again, the oldest first */
}

static bool has_astray(struct group *g)
{
    if (g->astray_until == 0) return false;
    if (g->waiting_head != NULL && g->waiting_head->index <= g->astray_until) return true;
    g->astray_until = 0;
    request_wake(g->w);
    return false;
}

/* What was sent for the partition that this one was split from, or proposed in it, and is not back yet, may be meant
 * for here. */
bool birth_holds_writes(struct worker *w, struct partition *p)
{
    if (p->group != NULL && has_astray(p->group)) return true;
    if (p->line.after == 0) return false;
    const struct partition *parent = map_get(w, p->line.after);
    if (parent != NULL && (parent->line.sent > 0 || (parent->group != NULL && has_astray(parent->group)))) return true;
    p->line.after = 0;
    return false;
}

bool birth_is_unknown(const struct worker *w, uint32_t group)
{
    struct store_group sg;
    return siblings_is_face(w) && peer_birthmark(w->peers, w->node_id) != 0 && !store_group_get(w->store, group, &sg);
}

static const struct descriptor_replica *voter_of(const struct descriptor *d, raft_id replica)
{
    for (uint32_t i = 0; i < d->replica_count; i++)
        if (d->replicas[i].id == replica) return d->replicas[i].role == DESCRIPTOR_LEARNER ? NULL : &d->replicas[i];
    return NULL;
}

bool birth_is_due(const struct group *g, raft_id replica, uint64_t birthmark)
{
    const struct descriptor_replica *r = voter_of(&g->descriptor, replica);
    return r != NULL && birthmark != 0 && r->store == birthmark;
}

void birth_send(struct group *g, raft_id replica)
{
    struct kv_buf bytes = {0};
    const struct kv_keyspace *k = keyspaces_find(g->w, g->descriptor.keyspace);
    /* Its fellows began with nothing, so it does: with a snapshot to come it would vote for none of them. */
    bool founds = k != NULL && k->has_stores && g->descriptor.range_epoch == 1 && g->descriptor.conf_epoch == 1;
    descriptor_encode(&g->descriptor, &bytes);
    if (!bytes.failed) peer_send_birth(g->w->peers, group_node_of(g, replica), kv_buf_slice(&bytes), replica, founds);
    kv_buf_free(&bytes);
}

/* It waits for a snapshot of any index, unless nobody can have rows of it (place.h), and votes as one that was born in time. While another replica here holds a part of the range, that
 * has a split to apply, perhaps this very birth. */
void birth_receive(struct worker *w, struct kv_slice descriptor, raft_id replica, bool founds)
{
    struct descriptor d;
    if (w->poisoned || descriptor_decode(descriptor, &d) != KV_OK || !birth_is_unknown(w, d.id) ||
        (d.keyspace != KV_KEYSPACE_SYSTEM && keyspaces_find(w, d.keyspace) == NULL)) /* dropped; or about to be applied here */
        return;
    const struct descriptor_replica *r = voter_of(&d, replica);
    struct kv_range range = {kv_key_slice(&d.from), kv_key_slice(&d.to)};
    if (r == NULL || r->node != w->node_id || r->store != peer_birthmark(w->peers, w->node_id) || seats_forbid_birth(w, &d, replica) ||
        store_overlap(w->store, range, 0, d.id) != UINT32_MAX)
        return;
    if (!worker_create_replica(w, &d, replica, founds ? 0 : STORE_BIRTH_INDEX, founds ? 0 : STORE_BIRTH_TERM)) return;
    seats_placed_here(w, d.id, replica);
    JOURNAL(w->journal, raft, INFO, founds ? "born" : "born-late", "group=%u replica=%u range_epoch=%u", d.id, replica, d.range_epoch);
}

static bool is_young(const struct group *g, uint64_t now_ns)
{
    return g->born_ns != 0 && now_ns - g->born_ns < KV_MS(YOUNG_MS);
}

void birth_tick(struct group *g, uint64_t now_ns)
{
    if (g->campaigned_ns == 0 || !is_young(g, now_ns) || now_ns - g->campaigned_ns < KV_MS(AGAIN_MS)) return;
    if (g->leader != 0) {
        g->campaigned_ns = 0;
        return;
    }
    g->campaigned_ns = now_ns;
    raft_campaign(g->raft, now_ns);
    group_touch(g);
}

bool birth_excuses(const struct group *g)
{
    return is_young(g, env_now_ns(g->w->env));
}

enum kv_err split_of(const struct descriptor *whole, struct kv_slice key, uint32_t id, struct descriptor *left,
                     struct descriptor *right, const char **why)
{
    if (id <= KV_PARTITIONS_DEFAULT || id == whole->id) {
        *why = "not an id that partition 0 gave out";
        return KV_BAD_ARGUMENT;
    }
    if (key.size > KV_KEY_BYTES_MAX ||
        !kv_range_has((struct kv_range){kv_key_slice(&whole->from), kv_key_slice(&whole->to)}, key)) {
        *why = "the key is not in the partition any more; ask again";
        return KV_CONDITION;
    }
    if (kv_slice_eq(key, kv_key_slice(&whole->from))) {
        *why = "a partition begins at that key already";
        return KV_CONDITION;
    }
    if (whole->kind == DESCRIPTOR_HASH && key.size != KV_KEY_PREFIX_BYTES_MAX) {
        *why = "partitions of a hash keyspace begin at a slot";
        return KV_BAD_ARGUMENT;
    }
    if (descriptor_is_joint(whole)) {
        *why = "its replicas are being changed; try again in a moment";
        return KV_CONDITION;
    }
    *left = *right = *whole;
    left->to.size = (uint16_t)key.size;
    memcpy(left->to.bytes, key.data, key.size);
    right->from = left->to;
    left->range_epoch = right->range_epoch = left->to_epoch = whole->range_epoch + 1; /* R9, R16: versions go on rising on both sides */
    right->id = id;
    right->conf_epoch = 1;
    right->merge_index = right->merge_void = right->merge_done = 0;
    right->replica_count = 0;
    for (uint32_t i = 0; i < whole->replica_count; i++)
        if (whole->replicas[i].role == DESCRIPTOR_VOTER) right->replicas[right->replica_count++] = whole->replicas[i];
    return KV_OK;
}

#include <string.h>

#include "server/birth.h"
#include "server/group.h"
#include "server/peer.h"

/* Replicas that are gone get a successor under a new id (R4). Nothing is remembered: every
 * step follows from the descriptor and what the leader sees, so a new leader goes on where
 * the old one stopped.
 *
 *   voter lost, no learner on its node   -> add a learner there, under the next id
 *   learner says it holds nothing        -> stream it a snapshot
 *   any says that it has no rows         -> likewise: it never stopped to be a member
 *   learner's node refuses it            -> what stands there under its id is damaged: a new id
 *   learner caught up, its voter lost    -> joint: the learner comes in, the lost voter goes
 *   joint applied                        -> leave joint
 *
 * Leadership goes back to the first voter of the descriptor once that has been stable. */
enum { CAUGHT_UP_ENTRIES = 200 };

static int replica_at(const struct group *g, raft_id id)
{
    for (uint32_t i = 0; i < g->descriptor.replica_count; i++)
        if (g->descriptor.replicas[i].id == id) return (int)i;
    return -1;
}

void member_forget(struct group *g)
{
    memset(g->lost, 0, sizeof g->lost);
    memset(g->refused, 0, sizeof g->refused);
}

void member_lost(struct group *g, raft_id replica)
{
    int at = replica_at(g, replica);
    if (at < 0 || !group_leads(g) || birth_excuses(g)) return;
    struct descriptor_replica *r = &g->descriptor.replicas[at];
    if (r->role == DESCRIPTOR_LEARNER) transfer_send(g, replica);
    else if (r->role == DESCRIPTOR_VOTER_INCOMING) transfer_send(g, replica);
    if (!g->lost[at])
        JOURNAL(g->w->journal, raft, WARN, "replica-lost", "group=%u replica=%u node=%u", g->id, replica, r->node);
    g->lost[at] = true;
}

void member_rowless(struct group *g, raft_id replica, uint64_t owed)
{
    if (replica_at(g, replica) < 0 || !group_leads(g)) return;
    if (g->checkpointed >= owed) transfer_send(g, replica);
    else store_checkpoint(g->w->store, NULL); /* an older snapshot would be refused */
}

void member_refused(struct group *g, raft_id replica)
{
    int at = replica_at(g, replica);
    if (at >= 0 && g->descriptor.replicas[at].role == DESCRIPTOR_LEARNER) g->refused[at] = true;
}

static const struct raft_peer_status *peer_of(const struct raft_status *s, raft_id id)
{
    for (uint8_t i = 0; i < s->peer_count; i++)
        if (s->peers[i].id == id) return &s->peers[i];
    return NULL;
}

static void propose(struct group *g, struct descriptor *d, const char *step)
{
    d->conf_epoch++;
    enum kv_err err = group_propose_descriptor(g, d);
    if (err == KV_OK)
        JOURNAL(g->w->journal, raft, INFO, "member-change", "group=%u step=%s conf_epoch=%u", g->id, step, d->conf_epoch);
}

static void leave_joint(struct group *g)
{
    struct descriptor d = g->descriptor;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < d.replica_count; i++) {
        if (d.replicas[i].role == DESCRIPTOR_VOTER_OUTGOING) continue;
        d.replicas[kept] = d.replicas[i];
        if (d.replicas[kept].role == DESCRIPTOR_VOTER_INCOMING) d.replicas[kept].role = DESCRIPTOR_VOTER;
        kept++;
    }
    d.replica_count = kept;
    propose(g, &d, "leave-joint");
}

/* The healthy voters must make a quorum without the lost one, or nothing could commit. */
static bool quorum_without(const struct group *g, const struct raft_status *s, uint32_t lost)
{
    uint32_t voters = 0, healthy = 0;
    for (uint32_t i = 0; i < g->descriptor.replica_count; i++) {
        if (g->descriptor.replicas[i].role != DESCRIPTOR_VOTER) continue;
        voters++;
        const struct raft_peer_status *p = peer_of(s, g->descriptor.replicas[i].id);
        healthy += i != lost && (g->descriptor.replicas[i].id == g->replica || (p != NULL && p->active && !g->lost[i]));
    }
    return 2 * healthy > voters;
}

static bool replace_lost(struct group *g, const struct raft_status *s)
{
    for (uint32_t i = 0; i < g->descriptor.replica_count; i++) {
        const struct descriptor_replica *r = &g->descriptor.replicas[i];
        if (r->role != DESCRIPTOR_VOTER) continue;
        int learner = -1;
        for (uint32_t k = 0; k < g->descriptor.replica_count; k++)
            if (g->descriptor.replicas[k].role == DESCRIPTOR_LEARNER && g->descriptor.replicas[k].node == r->node)
                learner = (int)k;
        struct descriptor d = g->descriptor;
        if (learner < 0) {
            if (!g->lost[i] || r->id == g->replica || d.replica_count == DESCRIPTOR_REPLICAS_MAX ||
                !quorum_without(g, s, i))
                continue;
            d.replicas[d.replica_count++] =
                (struct descriptor_replica){.id = d.replica_next++, .node = r->node, .role = DESCRIPTOR_LEARNER, .store = peer_birthmark(g->w->peers, r->node)};
            propose(g, &d, "add-learner");
            return true;
        }
        if (g->refused[learner]) {
            d.replicas[learner].id = d.replica_next++;
            d.replicas[learner].store = peer_birthmark(g->w->peers, r->node);
            propose(g, &d, "renew-learner");
            return true;
        }
        /* A learner on a voter's node stands there to succeed it. */
        const struct raft_peer_status *p = peer_of(s, d.replicas[learner].id);
        if (p == NULL || !p->active || p->match == 0 || p->match + CAUGHT_UP_ENTRIES < s->last) continue;
        d.replicas[learner].role = DESCRIPTOR_VOTER_INCOMING;
        d.replicas[i].role = DESCRIPTOR_VOTER_OUTGOING;
        propose(g, &d, "joint");
        return true;
    }
    return false;
}

/* A leader without room would refuse what the others can hold. */
static bool give_away(struct group *g, const struct raft_status *s, uint64_t now_ns)
{
    if (!store_is_full(g->w->store)) return false;
    for (uint32_t i = 0; i < g->descriptor.replica_count; i++) {
        const struct descriptor_replica *r = &g->descriptor.replicas[i];
        const struct raft_peer_status *p = peer_of(s, r->id);
        if (r->role != DESCRIPTOR_VOTER || r->id == g->replica || p == NULL || !p->active || p->match + 64 < s->last ||
            !peer_connected(g->w->peers, r->node) || peer_is_full(g->w->peers, r->node))
            continue;
        raft_transfer(g->raft, r->id, now_ns);
        group_touch(g);
        return true;
    }
    return false;
}

static void give_back(struct group *g, const struct raft_status *s, uint64_t now_ns)
{
    const struct descriptor_replica *first = NULL;
    for (uint32_t i = 0; i < g->descriptor.replica_count && first == NULL; i++)
        if (g->descriptor.replicas[i].role == DESCRIPTOR_VOTER) first = &g->descriptor.replicas[i];
    if (first == NULL || first->id == g->replica || now_ns - g->leader_since_ns < KV_SECONDS(3)) return;
    const struct raft_peer_status *p = peer_of(s, first->id);
    if (p == NULL || !p->active || p->match + 64 < s->last || !peer_connected(g->w->peers, first->node) ||
        peer_is_full(g->w->peers, first->node))
        return;
    g->leader_since_ns = now_ns; /* not again at once if it fails */
    raft_transfer(g->raft, first->id, now_ns);
    group_touch(g);
}

void member_tick(struct group *g, const struct raft_status *s)
{
    if (g->w->stopping || g->lead_index == 0 || g->applied < g->lead_index || s->conf_pending || s->transferring) return;
    if (descriptor_is_joint(&g->descriptor)) leave_joint(g);
    else if (!replace_lost(g, s) && !give_away(g, s, env_now_ns(g->w->env))) give_back(g, s, env_now_ns(g->w->env));
}

#include <string.h>

#include "client/base/text.h"
#include "client/wire/resp.h"
#include "server/birth.h"
#include "server/group.h"
#include "server/nodes.h"
#include "server/peer.h"
#include "server/request.h"
#include "server/rest.h"
#include "server/siblings.h"

/* Replicas that are gone get a successor under a new id (R4). Nothing is remembered: every
 * step follows from the descriptor and what the leader sees, so a new leader goes on where
 * the old one stopped.
 *
 *   voter lost, nobody to succeed it     -> add a learner on its node, under the next id
 *   a move is asked for (KVMOVE)         -> likewise on another node, to succeed one or none; or on its own node, on another worker
 *   learner says it holds nothing        -> stream it a snapshot
 *   any says that it has no rows         -> likewise: it never stopped to be a member
 *   learner's node refuses it            -> what stands there under its id is damaged: a new id
 *   learner caught up                    -> joint: the learner comes in, whom it succeeds goes
 *   who is to go leads                   -> it hands over first
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
    rest_wake(g);
}

void member_rowless(struct group *g, raft_id replica, uint64_t owed)
{
    if (replica_at(g, replica) < 0 || !group_leads(g)) return;
    rest_wake(g);
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

static bool is_outgoing(const struct group *g)
{
    int at = replica_at(g, g->replica);
    return at >= 0 && g->descriptor.replicas[at].role == DESCRIPTOR_VOTER_OUTGOING;
}

/* The only voter makes way for another one. Were it to go on by itself, that one would hold an entry that it can never know to be
 * committed, since the vote it needs for that is gone. The next leader finds everything in the descriptor. */
static void hand_over_to_incoming(struct group *g)
{
    for (uint32_t i = 0; i < g->descriptor.replica_count; i++)
        if (g->descriptor.replicas[i].role == DESCRIPTOR_VOTER_INCOMING &&
            raft_transfer(g->raft, g->descriptor.replicas[i].id, env_now_ns(g->w->env)) == RAFT_OK)
            group_touch(g);
}

static void leave_joint(struct group *g, const struct raft_status *s)
{
    if (is_outgoing(g) && s->conf.voter_count == 1) {
        hand_over_to_incoming(g);
        return;
    }
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

/* Of the voters but one, how many there are and how many can be counted on. */
static uint32_t healthy_without(const struct group *g, const struct raft_status *s, uint32_t lost, uint32_t *voters)
{
    uint32_t healthy = 0;
    *voters = 0;
    for (uint32_t i = 0; i < g->descriptor.replica_count; i++) {
        if (g->descriptor.replicas[i].role != DESCRIPTOR_VOTER) continue;
        if (i == lost) continue;
        ++*voters;
        const struct raft_peer_status *p = peer_of(s, g->descriptor.replicas[i].id);
        healthy += g->descriptor.replicas[i].id == g->replica || (p != NULL && p->active && !g->lost[i]);
    }
    return healthy;
}

/* The healthy voters must make a quorum without the lost one, or nothing could commit. */
static bool quorum_without(const struct group *g, const struct raft_status *s, uint32_t lost)
{
    uint32_t others, healthy = healthy_without(g, s, lost, &others);
    return 2 * healthy > others + 1;
}

/* One that is there helps to decide that it goes; the others are on their own then. */
static bool quorum_after(const struct group *g, const struct raft_status *s, uint32_t leaves)
{
    uint32_t others, healthy = healthy_without(g, s, leaves, &others);
    const struct raft_peer_status *p = peer_of(s, g->descriptor.replicas[leaves].id);
    bool helps = g->descriptor.replicas[leaves].id == g->replica || (p != NULL && p->active && !g->lost[leaves]);
    return 2 * healthy > others && 2 * (healthy + helps) > others + 1;
}

/* The voter whose place a learner takes: the one it names, or, before there were moves, the one on its node. -1: none, it
 * comes beside the others. */
static int predecessor(const struct descriptor *d, const struct descriptor_replica *learner)
{
    for (uint32_t i = 0; i < d->replica_count; i++) {
        const struct descriptor_replica *v = &d->replicas[i];
        if (v->role != DESCRIPTOR_VOTER) continue;
        if (learner->succeeds != 0 ? v->id == learner->succeeds : v->node == learner->node) return (int)i;
    }
    return -1;
}

/* -1: nobody is on the way to take the voter's place. */
static int successor(const struct descriptor *d, uint32_t voter)
{
    for (uint32_t i = 0; i < d->replica_count; i++)
        if (d->replicas[i].role == DESCRIPTOR_LEARNER && predecessor(d, &d->replicas[i]) == (int)voter) return (int)i;
    return -1;
}

static bool is_caught_up(const struct raft_status *s, raft_id id)
{
    const struct raft_peer_status *p = peer_of(s, id);
    return p != NULL && p->active && p->match != 0 && p->match + CAUGHT_UP_ENTRIES >= s->last;
}

/* Who is to go does not lead: the next leader finds everything in the descriptor. */
static bool lead_elsewhere(struct group *g)
{
    if (raft_transfer(g->raft, 0, env_now_ns(g->w->env)) == RAFT_OK) group_touch(g);
    return true;
}

static bool raise_learner(struct group *g, const struct raft_status *s, uint32_t learner)
{
    struct descriptor d = g->descriptor;
    struct descriptor_replica *l = &d.replicas[learner];
    if (g->refused[learner]) {
        l->id = d.replica_next++;
        l->store = peer_birthmark(g->w->peers, l->node);
        propose(g, &d, "renew-learner");
        return true;
    }
    if (!is_caught_up(s, l->id) && !MUTANT(move_in_one_step)) return false;
    int goes = predecessor(&d, l);
    if (goes >= 0 && d.replicas[goes].id == g->replica && s->conf.voter_count > 1) return lead_elsewhere(g); /* alone: once the other votes */
    l->role = DESCRIPTOR_VOTER_INCOMING;
    l->succeeds = 0;
    if (MUTANT(move_in_one_step) && goes >= 0) {
        l->role = DESCRIPTOR_VOTER;
        d.replicas[goes] = *l;
        d.replica_count--;
        propose(g, &d, "swap");
        return true;
    }
    if (goes >= 0) {
        d.replicas[goes].role = DESCRIPTOR_VOTER_OUTGOING;
        if (d.replicas[goes].node == l->node) { /* who led by preference goes on to */
            struct descriptor_replica was = d.replicas[goes];
            d.replicas[goes] = *l;
            *l = was;
        }
    }
    propose(g, &d, "joint");
    return true;
}

static bool add_learner(struct group *g, uint32_t node, raft_id succeeds)
{
    struct descriptor d = g->descriptor;
    if (d.replica_count == DESCRIPTOR_REPLICAS_MAX) return false;
    d.replicas[d.replica_count++] = (struct descriptor_replica){.id = d.replica_next++,
                                                                .node = node,
                                                                .role = DESCRIPTOR_LEARNER,
                                                                .succeeds = succeeds,
                                                                .store = peer_birthmark(g->w->peers, node)};
    propose(g, &d, "add-learner");
    return true;
}

static bool step(struct group *g, const struct raft_status *s)
{
    for (uint32_t i = 0; i < g->descriptor.replica_count; i++) {
        const struct descriptor_replica *r = &g->descriptor.replicas[i];
        bool done = false;
        if (r->role == DESCRIPTOR_LEARNER) done = raise_learner(g, s, i);
        else if (r->role == DESCRIPTOR_VOTER && g->lost[i] && r->id != g->replica && successor(&g->descriptor, i) < 0 &&
                 quorum_without(g, s, i))
            done = add_learner(g, r->node, r->id);
        if (done) return true;
    }
    return false;
}

/* ---- moves ---- */

static int on_node(const struct descriptor *d, uint32_t node, bool learner)
{
    for (uint32_t i = 0; i < d->replica_count; i++)
        if (d->replicas[i].node == node && (d->replicas[i].role == DESCRIPTOR_LEARNER) == learner) return (int)i;
    return -1;
}

/* Of a runner that was deposed what it planned is of before; `as_of` 0: whatever it is. */
static bool is_as_of(const struct descriptor *d, uint64_t as_of, const char **why)
{
    *why = "its replicas have changed since that was planned; ask again";
    return as_of == 0 || as_of == d->conf_epoch;
}

static enum kv_err end_replica(struct group *g, const struct raft_status *s, uint32_t from, uint64_t as_of, const char **why)
{
    struct descriptor d = g->descriptor;
    if (!is_as_of(&d, as_of, why)) return KV_CONFLICT;
    int learner = on_node(&d, from, true), voter = on_node(&d, from, false);
    if (learner >= 0) { /* a move that is taken back */
        d.replicas[learner] = d.replicas[--d.replica_count];
        propose(g, &d, "drop-learner");
        return KV_OK;
    }
    *why = "no replica on that node";
    if (voter < 0) return KV_NOT_FOUND;
    *why = "without it the partition would have no quorum; next: add a replica elsewhere first";
    if (s->conf.voter_count < 2 || !quorum_after(g, s, (uint32_t)voter)) return KV_CONDITION;
    *why = "it leads, and hands over now; ask again in a moment";
    if (d.replicas[voter].id == g->replica) {
        lead_elsewhere(g);
        return KV_BUSY;
    }
    d.replicas[voter].role = DESCRIPTOR_VOTER_OUTGOING;
    propose(g, &d, "joint");
    return KV_OK;
}

static bool is_node(const struct worker *w, uint32_t id) /* or 0, which stands for none */
{
    const struct nodes_entry *n = id == 0 ? NULL : nodes_find(w, id);
    return id == 0 || (n != NULL && n->state != KV_NODE_REMOVED);
}

static enum kv_err move(struct group *g, const struct raft_status *s, uint32_t from, uint32_t to, uint64_t as_of, const char **why)
{
    const struct descriptor *d = &g->descriptor;
    *why = "the cluster has no such node; next: kvctl node list";
    bool holds = on_node(d, from, false) >= 0 || on_node(d, from, true) >= 0; /* one that was removed may, and is to lose it */
    if ((!holds && !is_node(g->w, from)) || !is_node(g->w, to)) return KV_NOT_FOUND;
    if (to == 0) return end_replica(g, s, from, as_of, why);
    int there = on_node(d, to, false), coming = on_node(d, to, true), goes = from == 0 ? -1 : on_node(d, from, false);
    *why = "a voter of it is on that node already";
    if (there >= 0 && from != to) return from != 0 && goes < 0 ? KV_OK : KV_CONDITION; /* done before */
    raft_id succeeds = goes < 0 ? 0 : d->replicas[goes].id;
    *why = "that node has one worker: there is nowhere else on it";
    if (from == to && peer_workers(g->w->peers, to) < 2) return KV_CONDITION;
    *why = "another replica is on its way to that node";
    if (coming >= 0) return d->replicas[coming].succeeds == succeeds ? KV_OK : KV_CONDITION; /* asked before */
    if (!is_as_of(d, as_of, why)) return KV_CONFLICT;
    *why = "no voter of it is on the node that it is to leave";
    if (from != 0 && goes < 0) return KV_NOT_FOUND;
    *why = "another replica is on its way to take that one's place";
    if (goes >= 0 && successor(d, (uint32_t)goes) >= 0) return KV_CONDITION;
    *why = g->id == KV_PARTITION_SYSTEM ? "that node has not the role coordinator; next: kvctl node list"
                                        : "that node has not the role storage; next: kvctl node list";
    if (!nodes_may_hold(g->w, to, g->id)) return KV_CONDITION;
    *why = "this partition's leader is not connected to that node";
    if (!peer_connected(g->w->peers, to) && to != g->w->node_id) return KV_CONDITION;
    *why = "it has as many replicas as there may be";
    return add_learner(g, to, succeeds) ? KV_OK : KV_TOO_BIG;
}

static enum kv_err prefer(struct group *g, uint32_t node, const char **why)
{
    struct descriptor d = g->descriptor;
    int at = on_node(&d, node, false);
    *why = "no voter of it is on that node";
    if (at < 0) return KV_NOT_FOUND;
    if (at == 0) return KV_OK; /* asked before */
    struct descriptor_replica first = d.replicas[at];
    memmove(d.replicas + 1, d.replicas, (size_t)at * sizeof *d.replicas);
    d.replicas[0] = first;
    propose(g, &d, "prefer");
    return KV_OK;
}

/* The last partition of a list keyspace, where labels that come later have their buckets, is told of them. */
static enum kv_err list(struct group *g, struct kv_slice labels, const char **why)
{
    struct descriptor d = g->descriptor;
    struct kv_arena arena = {0};
    struct kv_key_rule rule;
    struct kv_key end;
    kv_key_end(KV_KEY_LIST, d.keyspace, &end);
    *why = "it is not the last partition of a list keyspace any more";
    if (d.kind != DESCRIPTOR_LIST || !kv_slice_eq(kv_key_slice(&d.to), kv_key_slice(&end))) return KV_CONFLICT;
    if (kv_slice_eq(d.list, labels)) return KV_OK; /* asked before */
    d.list = labels;
    *why = "the list of labels does not parse";
    enum kv_err err = descriptor_rule(&d, &arena, &rule);
    kv_arena_free(&arena);
    if (err != KV_OK) return KV_BAD_ARGUMENT;
    propose(g, &d, "labels");
    *why = "it is being told; ask again in a moment";
    return KV_BUSY;
}

/* Asked for once; what follows is in the descriptor, so it goes on under any leader. */
void member_move(struct group *g, struct request *r)
{
    uint64_t from, to, as_of = 0, sent, total;
    struct raft_status s;
    bool leads = r->body.op == KV_OP_KVLEAD;
    const char *why = leads ? "KVLEAD partition node" : "KVMOVE partition node node";
    raft_status(g->raft, env_now_ns(g->w->env), &s);
    enum kv_err err = KV_BAD_ARGUMENT;
    bool lists = r->body.op == KV_OP_KVLABELS;
    if (lists) from = 1, to = 0;
    bool parsed = lists || (kv_parse_u64(r->body.args[1], &from) && (leads || kv_parse_u64(r->body.args[2], &to)) &&
                            (r->body.arg_count < 4 || kv_parse_u64(r->body.args[3], &as_of)));
    if (leads) to = 0;
    if (parsed && from <= UINT32_MAX && to <= UINT32_MAX && from + to > 0) {
        why = "its replicas are being changed; ask again in a moment";
        bool busy = s.conf_pending || s.transferring || descriptor_is_joint(&g->descriptor) || g->lead_index == 0 ||
                    g->applied < g->lead_index || g->descriptor.frozen_merge != 0;
        err = busy    ? KV_BUSY
              : lists ? list(g, r->body.args[1], &why)
              : leads ? prefer(g, (uint32_t)from, &why)
                      : move(g, &s, (uint32_t)from, (uint32_t)to, as_of, &why);
    }
    if (err != KV_OK) {
        request_fail(r, err, why);
        return;
    }
    struct kv_buf value = {0};
    int coming = leads || lists ? -1 : on_node(&g->descriptor, (uint32_t)to, true);
    if (coming >= 0 && transfer_progress(g, g->descriptor.replicas[coming].id, &sent, &total)) {
        resp_put_array(&value, 2);
        resp_put_integer(&value, (int64_t)sent);
        resp_put_integer(&value, (int64_t)total);
    } else {
        resp_put_status(&value, "OK");
    }
    request_finish(r, &(struct kv_reply){.value = kv_buf_slice(&value), .node = g->w->node_id, .partition = g->id});
    kv_buf_free(&value);
}

/* A leader without room would refuse what the others can hold, one without the role is about to leave. */
static bool give_away(struct group *g, const struct raft_status *s, uint64_t now_ns)
{
    if (!siblings_node_is_full(g->w) && nodes_may_hold(g->w, g->w->node_id, g->id)) return false;
    for (uint32_t i = 0; i < g->descriptor.replica_count; i++) {
        const struct descriptor_replica *r = &g->descriptor.replicas[i];
        const struct raft_peer_status *p = peer_of(s, r->id);
        if (r->role != DESCRIPTOR_VOTER || r->id == g->replica || p == NULL || !p->active || p->match + 64 < s->last ||
            !peer_connected(g->w->peers, r->node) || peer_is_full(g->w->peers, r->node) || !nodes_may_hold(g->w, r->node, g->id))
            continue;
        raft_transfer(g->raft, r->id, now_ns);
        group_touch(g);
        return true;
    }
    return false;
}

/* Who is to lead instead, as far as its node can; NULL: nobody. */
static const struct descriptor_replica *preferred(const struct group *g)
{
    const struct descriptor_replica *first = NULL;
    for (uint32_t i = 0; i < g->descriptor.replica_count && first == NULL; i++)
        if (g->descriptor.replicas[i].role == DESCRIPTOR_VOTER) first = &g->descriptor.replicas[i];
    bool can = first != NULL && first->id != g->replica &&
               successor(&g->descriptor, (uint32_t)(first - g->descriptor.replicas)) < 0 && peer_connected(g->w->peers, first->node) &&
               !peer_is_full(g->w->peers, first->node) && nodes_may_hold(g->w, first->node, g->id);
    return can ? first : NULL;
}

bool member_wants(const struct group *g)
{
    for (uint32_t i = 0; i < g->descriptor.replica_count; i++)
        if (g->lost[i] || g->descriptor.replicas[i].role != DESCRIPTOR_VOTER) return true;
    return preferred(g) != NULL || !nodes_may_hold(g->w, g->w->node_id, g->id);
}

static void give_back(struct group *g, const struct raft_status *s, uint64_t now_ns)
{
    const struct descriptor_replica *first = preferred(g);
    if (first == NULL || now_ns - g->leader_since_ns < KV_SECONDS(3)) return;
    const struct raft_peer_status *p = peer_of(s, first->id);
    if (p == NULL || !p->active || p->match + 64 < s->last) return;
    g->leader_since_ns = now_ns; /* not again at once if it fails */
    raft_transfer(g->raft, first->id, now_ns);
    group_touch(g);
}

void member_tick(struct group *g, const struct raft_status *s)
{
    if (g->w->stopping || g->lead_index == 0 || g->applied < g->lead_index || s->conf_pending || s->transferring) return;
    if (descriptor_is_joint(&g->descriptor)) leave_joint(g, s);
    else if ((g->descriptor.frozen_merge != 0 || !step(g, s)) && !give_away(g, s, env_now_ns(g->w->env))) give_back(g, s, env_now_ns(g->w->env));
}

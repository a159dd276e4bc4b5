#include "server/coordinator.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/jobs.h"
#include "server/keyspaces.h"
#include "server/map.h"
#include "server/nodes.h"
#include "server/peer.h"
#include "server/placement.h"
#include "server/request.h"
#include "server/shape.h"

enum { SLACK = 2,
       STEPS_MAX = 16 };

static const char *const reasons[] = {"leave", "complete", "shrink", "spread", "balance", "lead"};

/* A number for its zone: that of the first node that says the same; one that says nothing is a zone of its own. */
static uint32_t zone_of(const struct worker *w, const struct nodes_entry *node, uint32_t at)
{
    for (uint32_t i = 0; i < at && node->zone[0] != '\0'; i++)
        if (strcmp(nodes_at(w, i)->zone, node->zone) == 0) return i;
    return at;
}

static uint8_t lacks_of(const struct nodes_entry *node)
{
    unsigned lacks = 0;
    if (!kv_node_has(node->roles, KV_NODE_STORAGE)) lacks |= 1u << PLACEMENT_STORAGE;
    if (!kv_node_has(node->roles, KV_NODE_COORDINATOR)) lacks |= 1u << PLACEMENT_COORDINATOR;
    return (uint8_t)lacks;
}

/* A node that was removed has no replicas to speak of; should one show up there yet, it must leave. */
static void node_see(const struct worker *w, const struct nodes_entry *node, uint32_t at, uint64_t now_ns, struct placement_node *out)
{
    bool drains = node->state == KV_NODE_DRAINING && !jobs_is_paused(w, KV_JOB_DRAIN, node->id);
    bool leaves = drains || node->state == KV_NODE_REMOVED;
    uint64_t gone_ns = node->id == w->node_id || node->state == KV_NODE_REMOVED ? 0 : peer_gone_ns(w->peers, node->id, now_ns);
    *out = (struct placement_node){.id = node->id,
                                   .zone = zone_of(w, node, at),
                                   .is_away = gone_ns > 0 || node->state == KV_NODE_REMOVED,
                                   .may_take = gone_ns == 0 && node->state == KV_NODE_UP && !peer_is_full(w->peers, node->id),
                                   .lacks = lacks_of(node),
                                   .must_leave = leaves || gone_ns >= w->config->coordinator_dead};
}

/* One that drains counts: its replicas wait for another place, they are not given up. */
static uint32_t nodes_left(const struct worker *w, enum kv_node_role role)
{
    const struct nodes_entry *n;
    uint32_t count = 0;
    for (uint32_t i = 0; (n = nodes_at(w, i)) != NULL; i++) count += n->state != KV_NODE_REMOVED && kv_node_has(n->roles, role);
    return count;
}

static uint32_t wanted(const struct worker *w, uint32_t keyspace, uint32_t left)
{
    const struct kv_keyspace *k = keyspaces_find(w, keyspace);
    uint32_t replicas = k == NULL || k->replicas == 0 ? (uint32_t)w->config->cluster_replicas : k->replicas;
    return replicas < left ? replicas : left;
}

/* Those that its keyspace names, by the numbers of zone_of(); none, if no node is in any of them. */
static uint64_t zones_of(const struct worker *w, const struct kv_keyspace *k)
{
    uint64_t zones = 0;
    const struct nodes_entry *n;
    for (uint32_t z = 0; z < k->zone_count; z++)
        for (uint32_t i = 0; (n = nodes_at(w, i)) != NULL; i++) /* KV_NODES_MAX of them at most */
            if (kv_slice_eq(kv_str(n->zone), k->zones[z])) zones |= UINT64_C(1) << zone_of(w, n, i);
    return zones;
}

/* Of its voters those on nodes that may have them for good. */
static uint32_t placed(const struct worker *w, uint32_t partition, const struct placement_partition *p)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct nodes_entry *n = nodes_find(w, p->nodes[i]);
        count += n != NULL && n->state != KV_NODE_REMOVED && nodes_may_hold(w, n->id, partition);
    }
    return count;
}

/* Busy: somebody is at it, or nobody could be asked. Where an alteration is paused its replicas are right as they are. */
static void partition_see(const struct worker *w, const struct partition *p, const uint32_t left_of[PLACEMENT_ROLES], struct placement_partition *out)
{
    const struct descriptor *d = map_descriptor(p);
    const struct kv_keyspace *k = keyspaces_find(w, d->keyspace);
    enum placement_role role = p->id == KV_PARTITION_SYSTEM ? PLACEMENT_COORDINATOR : PLACEMENT_STORAGE;
    *out = (struct placement_partition){.id = p->id, .role = role, .is_busy = map_leader(p) == 0 || d->frozen_merge != 0 || jobs_are_on(w, p->id)};
    for (uint32_t i = 0; i < d->replica_count; i++) {
        if (d->replicas[i].role == DESCRIPTOR_VOTER) out->nodes[out->count++] = d->replicas[i].node;
        else out->is_busy = true;
    }
    bool is_paused = k != NULL && jobs_is_paused(w, KV_JOB_ALTER, k->id);
    out->wanted = is_paused ? out->count : wanted(w, d->keyspace, left_of[role]);
    bool is_declared = k != NULL && k->replicas != 0;
    uint32_t own = is_declared ? 0 : placed(w, p->id, out); /* of `default` those that came by hand stay */
    if (out->wanted < own) out->wanted = own;
    out->is_zoned = !is_paused && k != NULL && k->zone_count > 0;
    if (out->is_zoned) out->zones = zones_of(w, k);
}

static void answered(struct request *r, const struct kv_reply *reply)
{
    struct worker *w = r->owner;
    if (reply->err != KV_OK)
        JOURNAL(w->journal, main, DEBUG, "placement-refused", "err=%s why=\"%.*s\"", kv_err_name(reply->err),
                (int)(reply->detail.size < 80 ? reply->detail.size : 80), reply->detail.size == 0 ? "" : (const char *)reply->detail.data);
}

/* Whom a partition prefers as its leader is one entry of its log: it is asked for at once, and is no job. */
static void prefer(struct worker *w, const struct placement_step *s)
{
    char text[2][24];
    struct request *r = request_make(w);
    if (r == NULL) return;
    snprintf(text[0], sizeof text[0], "%u", s->partition);
    snprintf(text[1], sizeof text[1], "%u", s->to);
    struct kv_slice args[2] = {kv_str(text[0]), kv_str(text[1])};
    JOURNAL(w->journal, main, INFO, "placement", "kind=lead partition=%u reason=lead from=%u to=%u", s->partition, s->from, s->to);
    r->done = answered;
    r->owner = w;
    r->internal = true;
    r->body = (struct kv_request){.op = KV_OP_KVLEAD, .args = args, .arg_count = 2, .keyspace = KV_KEYSPACE_DEFAULT};
    request_start(r);
}

static void ask_place(struct worker *w, const struct placement_step *s)
{
    const struct partition *p = map_get(w, s->partition);
    const struct descriptor *d = p == NULL ? NULL : map_descriptor(p);
    if (s->reason == PLACEMENT_LEAD) prefer(w, s);
    else if (d != NULL)
        jobs_open(w, &(struct kv_job){.kind = KV_JOB_MOVE,
                                      .partition = s->partition,
                                      .keyspace = d->keyspace,
                                      .from = s->from,
                                      .to = s->to,
                                      .range_epoch = d->range_epoch,
                                      .conf_epoch = d->conf_epoch,
                                      .reason = kv_str(reasons[s->reason])});
}

/* A merge's job is about the right one, whose first key is where they meet, and into the left one. */
static void ask_shape(struct worker *w, const struct shape *shape, const struct shaping_step *s)
{
    static const char *const why[] = {"split-load", "split-bytes", "merge"};
    const struct shaping_partition *p = &shape->partitions[s->at];
    bool merges = s->reason == SHAPING_MERGE;
    const struct partition *about = map_at(w, s->at + merges);
    const struct descriptor *d = map_descriptor(about);
    JOURNAL(w->journal, main, INFO, "shaping", "partition=%u reason=%s rate=%llu bytes=%llu", p->id, why[s->reason], (unsigned long long)p->load,
            (unsigned long long)p->bytes);
    jobs_open(w, &(struct kv_job){.kind = merges ? KV_JOB_MERGE : KV_JOB_SPLIT,
                                  .partition = about->id,
                                  .other = merges ? p->id : 0,
                                  .keyspace = d->keyspace,
                                  .key = shape_key(w, s),
                                  .range_epoch = d->range_epoch,
                                  .reason = kv_str(why[s->reason])});
}

/* By load from so much on, and until it is half of that: the two would send leaders to and fro. */
static bool weighs(struct worker *w, const struct shape *s, uint32_t nodes)
{
    uint64_t least = nodes * w->config->coordinator_balance_load;
    w->loads.weighs = s->load_all >= (w->loads.weighs ? least / 2 : least);
    return w->loads.weighs;
}

static void look(struct worker *w, uint64_t now_ns)
{
    uint32_t busy = 0, nodes = 0, takers = 0;
    uint32_t left[PLACEMENT_ROLES] = {[PLACEMENT_STORAGE] = nodes_left(w, KV_NODE_STORAGE), [PLACEMENT_COORDINATOR] = nodes_left(w, KV_NODE_COORDINATOR)};
    if (w->map_is_stale) map_settle(w); /* places in it are good for all of this */
    while (nodes_at(w, nodes) != NULL) nodes++;
    struct placement_node *n = calloc(nodes + 1, sizeof *n);
    for (uint32_t i = 0; n != NULL && i < nodes; i++) {
        node_see(w, nodes_at(w, i), i, now_ns, &n[i]);
        takers += n[i].may_take && (n[i].lacks >> PLACEMENT_STORAGE & 1) == 0;
    }
    struct shape s;
    struct shaping_step shapes[SHAPING_STEPS_MAX];
    struct placement_step places[STEPS_MAX];
    struct placement_partition *p = NULL;
    if (n == NULL || !shape_see(w, takers, now_ns, &s)) goto out; /* no memory, next time */
    p = calloc(s.count + 1, sizeof *p);
    if (p == NULL) goto seen;
    bool is_quiet = !weighs(w, &s, takers);
    for (uint32_t i = 0; i < s.count; i++) {
        partition_see(w, map_at(w, i), left, &p[i]);
        if (!is_quiet) p[i].load = s.partitions[i].load;
        bool is_system = p[i].id == KV_PARTITION_SYSTEM; /* its leader is who knows all loads */
        p[i].keeps_lead = is_system ? !is_quiet || s.known == 0 : !s.partitions[i].is_known;
        busy += p[i].is_busy;
    }
    uint32_t room = w->config->coordinator_moves > busy ? (uint32_t)w->config->coordinator_moves - busy : 0;
    if (room > STEPS_MAX) room = STEPS_MAX;
    /* Splits and merges first: what they concern is not moved meanwhile. */
    uint32_t shaped = shape_plan(w, &s, now_ns, shapes, room);
    for (uint32_t i = 0; i < shaped; i++) {
        p[shapes[i].at].is_busy = true;
        if (shapes[i].reason == SHAPING_MERGE) p[shapes[i].at + 1].is_busy = true;
        ask_shape(w, &s, &shapes[i]);
    }
    uint32_t placed = room == shaped ? 0 : placement_plan(n, nodes, p, s.count, SLACK, places, room - shaped);
    for (uint32_t i = 0; placed != UINT32_MAX && i < placed; i++) ask_place(w, &places[i]); /* UINT32_MAX: no memory */
seen:
    shape_free(&s);
out:
    free(n);
    free(p);
}

void coordinator_tick(struct worker *w, uint64_t now_ns)
{
    const struct group *g = worker_group(w, KV_PARTITION_SYSTEM);
    if (!w->config->coordinator_enabled || nodes_are_one(w) || now_ns < w->coordinate_ns) return;
    w->coordinate_ns = now_ns + KV_SECONDS(1);
    /* A while after it began to lead it has heard of all partitions and all nodes. */
    bool settled = g != NULL && group_leads(g) && now_ns - g->leader_since_ns > w->config->coordinator_settle;
    if (settled && !w->stopping && !w->poisoned) look(w, now_ns);
}

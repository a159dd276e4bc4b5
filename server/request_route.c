#include "server/request_impl.h"

#include <stdio.h>

#include "client/base/text.h"
#include "server/birth.h"
#include "server/group.h"
#include "server/jobs.h"
#include "server/keyspaces.h"
#include "server/map.h"
#include "server/merge.h"
#include "server/nodes.h"
#include "server/pace.h"
#include "server/peer.h"
#include "server/seats.h"
#include "server/siblings.h"

/* Routing. A request goes to its partition's leader: here, or over a link, or it waits for
 * one to appear. It may go round several times inside its deadline, but never again once
 * its effect is uncertain and nothing makes a repeat harmless. */

enum {
    NEWS_MS = 20, /* how long, so many times, news of a keyspace may take to come here */
    NEWS_TRIES = 25
};

/* Must this write wait behind earlier ones? Those parked are walked in the order they came, so in a
 * walk only those met before count. What was sent to one node must be back before anything goes
 * to another, or here. */
static bool stands_in_line(const struct request *r, struct partition *p)
{
    struct worker *w = r->w;
    const struct line *l = &p->line;
    if (!r->stands) return false;
    if ((l->after != 0 || (p->group != NULL && p->group->astray_until != 0)) && birth_holds_writes(w, p)) return true;
    if (r->body.hops > 0) return false;
    if (w->open_iter_runs ? l->is_held && l->blocked_walk == w->walk : l->is_held) return true;
    return l->sent > 0 && (l->is_refused || l->sent_to != map_way(w, p));
}

/* Made by a worker that is not the node's face: it stands in line there. */
static bool is_siblings_own(const struct request *r)
{
    return !siblings_is_face(r->w) && r->body.hops == 0;
}

static void send_to(struct request *r, struct partition *p, uint32_t node)
{
    struct worker *w = r->w;
    struct partition *in_line = r->stands ? p : NULL; /* not known is one of a sibling's own, which stands in line at worker 0 */
    if (sibling_is_way(node) && !pace_admit(r)) return;
    w->reads_sent += request_is_anywhere(r) && !sibling_is_way(node);
    if (r->is_write && r->body.sequence == 0 && !sibling_is_way(node)) { /* so that a repeat is harmless */
        memcpy(r->body.client, w->client_id, sizeof r->body.client);
        r->body.sequence = ++w->sequence;
        r->stamped = true;
    }
    if (!request_own(r)) return;
    r->phase = KV_PHASE_FORWARD;
    if (in_line != NULL) {
        r->body.line = in_line->id;
        r->body.round = in_line->line.round + 1;
    }
    enum kv_err err = peer_forward(w->peers, node, r);
    if (err == KV_BUSY) {
        request_fail(r, err, "too much waits for the worker of its partition");
    } else if (err != KV_OK) {
        request_park(r, KV_MS(20));
    } else if (in_line != NULL) {
        r->is_in_line = true;
        in_line->line.sent++;
        in_line->line.sent_to = node;
    }
}

static void route(struct request *r, struct partition *p)
{
    struct worker *w = r->w;
    struct group *g = p->group;
    bool is_anywhere = request_is_anywhere(r) && !r->wants_leader;
    r->partition = p->id;
    r->tries++;
    if (w->poisoned) {
        request_fail(r, KV_POISONED, "this node's disk failed; ask another node");
        return;
    }
    /* Frozen rows stand as they were until they are absorbed: old, and so good enough for `any` alone. */
    if (g != NULL && merge_holds(g, r->body.op) && !(is_anywhere && r->body.level == KV_LEVEL_ANY)) {
        request_park(r, KV_MS(20));
        return;
    }
    if (is_anywhere && map_serves(p)) {
        if (!pace_admit(r)) return;
        group_read(g, r);
        return;
    }
    if (is_anywhere && seats_server(w, p) != 0) {
        send_to(r, p, seats_server(w, p));
        return;
    }
    if (stands_in_line(r, p)) {
        request_park(r, 1);
        return;
    }
    if (g != NULL && group_leads(g)) {
        if (!pace_admit(r)) return;
        if (r->is_write) group_write(g, r);
        else group_read(g, r);
        return;
    }
    uint32_t way = map_way(w, p);
    if (g == NULL && nodes_are_one(w) && !sibling_is_way(way)) {
        request_absent(r);
        return;
    }
    if (is_anywhere && siblings_is_face(w) && map_nearest(w, p) != 0) way = map_nearest(w, p);
    /* Worker 0 hands over what it was sent; the others send back what was sent to them. */
    bool is_far = r->body.hops >= NODE_FORWARD_HOPS_MAX && !(sibling_is_way(way) && siblings_is_face(w));
    if (is_far || way == 0 || way == w->node_id) {
        request_park(r, g != NULL ? 0 : KV_MS(50)); /* nobody says when one we have no replica of gets a leader */
        return;
    }
    send_to(r, p, way);
}

void request_to_leader(struct request *r)
{
    struct partition *p = map_get(r->w, r->partition);
    r->wants_leader = true;
    if (p == NULL || r->body.hops > 0) request_park(r, 0); /* who forwarded it asks the leader next */
    else route(r, p);
}

static void finish_resp_error(struct request *r, enum kv_err err, struct kv_buf *text)
{
    struct kv_reply reply = {.err = err,
                             .applied = KV_APPLIED_NO,
                             .phase = KV_PHASE_PARSE,
                             .node = r->w->node_id,
                             .value = kv_buf_slice(text)};
    request_finish(r, &reply);
}

struct partition *request_partition(const struct worker *w, struct kv_slice encoded)
{
    bool has_slot = encoded.size >= KV_KEY_PREFIX_BYTES_MAX && kv_key_keyspace(encoded) == KV_KEYSPACE_DEFAULT &&
                    kv_key_slot(encoded) < KV_SLOTS;
    return has_slot ? map_slot(w, kv_key_slot(encoded)) : map_find(w, encoded);
}

enum kv_err request_partition_of(const struct worker *w, const struct kv_key_rule *rule, struct kv_slice key,
                                 struct partition **out)
{
    if (rule == &kv_key_rule_default) {
        if (key.size > KV_USER_KEY_BYTES_MAX) return KV_TOO_BIG;
        *out = map_slot(w, kv_slot(key));
    } else {
        struct kv_key encoded;
        enum kv_err err = kv_key_encode(rule, key, &encoded);
        if (err != KV_OK) return err;
        *out = map_find(w, kv_key_slice(&encoded));
    }
    return *out == NULL ? KV_NO_LEADER : KV_OK;
}

/* The partition of every key if they agree. KV_CROSS_SHARD; KV_TOO_BIG, KV_NOT_FOUND: a key; KV_NO_LEADER: no such
 * partition is known. *at: the key that could not be. */
static enum kv_err one_partition(struct request *r, const struct kv_key_rule *rule, const struct kv_op_info *info,
                                 struct partition **out, struct kv_slice *at)
{
    uint32_t first, step;
    uint32_t count = kv_op_keys(info, r->body.arg_count, &first, &step);
    struct partition *p = NULL, *of = NULL;
    for (uint32_t i = 0; i < count; i++) {
        *at = r->body.args[first + i * step];
        enum kv_err err = request_partition_of(r->w, rule, *at, &of);
        if (err != KV_OK) return err;
        if (p != NULL && of != p) return KV_CROSS_SHARD;
        p = of;
    }
    *out = p;
    if (p != NULL) group_prefetch_write(p->group);
    return KV_OK;
}

/* Its partition is not known: the first ones are still being made, or it was damaged and its successor is on the way. */
void request_absent(struct request *r)
{
    struct worker *w = r->w;
    if (nodes_are_one(w) && siblings_node_is_damaged(w)) {
        request_fail(r, KV_CORRUPT, "the only replica of that partition is damaged: stop the node, then kvlog salvage");
        return;
    }
    r->partition = UINT32_MAX;
    request_park(r, KV_MS(50));
}

static bool is_trusted(const struct request *r)
{
    return r->internal || r->body.hops > 0;
}

/* By which its keys are encoded. NULL: it has been answered, or waits for this node to hear of a keyspace that
 * somebody else knows already. */
static const struct kv_key_rule *rule_of(struct request *r)
{
    struct worker *w = r->w;
    char text[80];
    if (r->body.keyspace == KV_KEYSPACE_DEFAULT) return &kv_key_rule_default;
    const struct kv_keyspace *k = keyspaces_find(w, r->body.keyspace);
    if (k != NULL) return &k->rule;
    if (!keyspaces_is_gone(w, r->body.keyspace) && (!keyspaces_are_known(w) || r->tries < NEWS_TRIES)) {
        r->tries++;
        r->partition = UINT32_MAX;
        request_park(r, KV_MS(NEWS_MS));
        return NULL;
    }
    snprintf(text, sizeof text, "%u %s", r->body.keyspace,
             keyspaces_is_gone(w, r->body.keyspace) ? "was dropped" : "was never created");
    request_fail(r, KV_NO_KEYSPACE, text);
    return NULL;
}

static void refuse_keys(struct request *r, const struct kv_key_rule *rule, enum kv_err err, struct kv_slice key)
{
    char text[240];
    const struct kv_keyspace *k = keyspaces_find(r->w, rule->keyspace);
    struct kv_slice name = k == NULL ? kv_str("?") : k->name;
    if (err == KV_TOO_BIG) {
        request_fail(r, err, "key over 480 bytes");
        return;
    }
    if (err == KV_NOT_FOUND) {
        struct kv_slice label = kv_key_label(rule, key);
        snprintf(text, sizeof text, "label '%.*s' is in no group of keyspace %.*s, which has no default group",
                 (int)(label.size < 40 ? label.size : 40), label.size == 0 ? "" : (const char *)label.data, (int)name.size,
                 (const char *)name.data);
        request_fail(r, KV_BAD_ARGUMENT, text);
        return;
    }
    if (rule->kind == KV_KEY_HASH) {
        request_fail(r, err, NULL);
        return;
    }
    snprintf(text, sizeof text, "Keys in request live in different partitions of keyspace %.*s", (int)name.size,
             (const char *)name.data);
    request_fail(r, err, text);
}

/* Of all keyspaces some partitions are not known here; the first of them, or NULL. */
static const struct kv_keyspace *first_unknown(const struct worker *w)
{
    uint32_t count;
    uint64_t directory;
    const struct kv_keyspace *all = keyspaces_all(w, &count, &directory);
    for (uint32_t i = 0; i < count; i++)
        if (!map_is_whole(w, &all[i])) return &all[i];
    return NULL;
}

/* A node that the map still shows replicas on stays; its partitions would lose a voter each. So it does while who decides, the
 * leader of partition 0, has not heard of all partitions: it may have been started just now. */
static bool refuse_removal(struct request *r)
{
    uint64_t id;
    char text[256];
    if (r->body.op != KV_OP_KSNODE || !kv_slice_eq(r->body.args[1], kv_str("removed"))) return false;
    if (!kv_parse_u64(r->body.args[0], &id) || id > UINT32_MAX) return false;
    uint32_t count = nodes_replicas(r->w, (uint32_t)id);
    const struct group *system = worker_group(r->w, KV_PARTITION_SYSTEM);
    const struct kv_keyspace *unknown = count == 0 && system != NULL && group_leads(system) ? first_unknown(r->w) : NULL;
    if (count == 0 && unknown == NULL) return false;
    if (unknown != NULL) {
        snprintf(text, sizeof text, "whether node %u holds a replica of keyspace %.*s is not known yet; next: kvctl status, and again when all its partitions have a leader",
                 (uint32_t)id, (int)(unknown->name.size < 64 ? unknown->name.size : 64), (const char *)unknown->name.data);
        request_fail(r, KV_UNAVAILABLE, text);
        return true;
    }
    snprintf(text, sizeof text, "node %u still holds %u replica%s; next: kvctl node drain %u, and remove it when they are gone", (uint32_t)id,
             count, count == 1 ? "" : "s", (uint32_t)id);
    request_fail(r, KV_CONDITION, text);
    return true;
}

/* Entries by which partitions begin and end, routed by a key in them or, of merges, where they meet. */
static bool is_partitions_own(enum kv_op op)
{
    return op >= KV_OP_SPLIT && op <= KV_OP_VOID;
}

/* The partition that the request names has ended, here or by what its keys' owner said. */
static bool is_elsewhere(struct request *r, const struct partition *p, const struct kv_key_rule *rule, const struct kv_op_info *info)
{
    struct partition *owner = NULL;
    struct kv_slice at;
    if (p != NULL && p->group != NULL) return false;
    if (map_has_ended(r->w, r->body.partition)) return true;
    return one_partition(r, rule, info, &owner, &at) == KV_OK && owner != NULL && owner != p;
}

static void dispatch(struct request *r, const struct kv_op_info *info)
{
    struct worker *w = r->w;
    struct partition *p = NULL;
    struct kv_slice key = {0};
    if (w->map_is_stale) map_settle(w);
    if (refuse_removal(r) || jobs_refuse(r)) return;
    if (info->kind == KV_OP_KIND_A) { /* was for another node, whose link broke */
        request_fail(r, KV_UNAVAILABLE, NULL);
        return;
    }
    bool is_system = request_is_of_system(r);
    const struct kv_key_rule *rule = is_system ? &kv_key_rule_system : rule_of(r);
    if (rule == NULL) return;
    uint32_t first, step;
    /* Several keys may lie anywhere: by the partition of the first alone, the others would be said not to be there. */
    bool is_named = r->body.pinned && !is_system && kv_op_keys(info, r->body.arg_count, &first, &step) <= 1;
    if (is_named) {
        p = map_get(w, r->body.partition);
        const struct descriptor *d = p == NULL ? NULL : map_descriptor(p);
        if (d == NULL) p = NULL;
        /* Keys are encoded by the partition's own rule: those of another keyspace have no business there. */
        bool is_foreign = d != NULL && d->keyspace != r->body.keyspace && r->body.op != KV_OP_KVAWAIT;
        bool is_hearsay = d != NULL && p->group == NULL && d->range_epoch < r->body.range_epoch; /* the sender knows more */
        bool is_stale = d != NULL && (d->range_epoch != r->body.range_epoch || is_foreign);
        if (!is_hearsay && (is_stale || is_elsewhere(r, p, rule, info))) {
            request_fail(r, KV_WRONG_SHARD, NULL);
            return;
        }
    } else if (r->body.op == KV_OP_VOID) {
        p = map_ending(w, r->body.args[0]);
    } else if (r->body.op == KV_OP_KVSCAN || r->body.op == KV_OP_KVCOUNT || is_partitions_own(r->body.op) ||
               (r->body.op == KV_OP_KVFLUSH && r->body.arg_count > 0)) {
        p = map_find(w, r->body.args[0]);
    } else if (r->body.op == KV_OP_KVMOVE || r->body.op == KV_OP_KVLEAD || r->body.op == KV_OP_KVLABELS) {
        uint64_t id;
        p = kv_parse_u64(r->body.args[0], &id) && id <= UINT32_MAX ? map_get(w, (uint32_t)id) : NULL;
        if (p == NULL || map_descriptor(p) == NULL) {
            request_fail(r, KV_NOT_FOUND, "no such partition; next: kvctl status");
            return;
        }
    } else if (is_system) {
        p = map_get(w, KV_PARTITION_SYSTEM);
        if (p != NULL && map_descriptor(p) == NULL) p = NULL;
    } else {
        if (fan_start(r, rule)) return;
        enum kv_err err = one_partition(r, rule, info, &p, &key);
        if (err != KV_OK && err != KV_NO_LEADER) {
            refuse_keys(r, rule, err, key);
            return;
        }
    }
    if (p != NULL) route(r, p);
    else if (is_siblings_own(r)) send_to(r, NULL, sibling_way(0)); /* which knows all partitions */
    else request_absent(r);
}

void request_start(struct request *r)
{
    struct worker *w = r->w;
    const struct kv_op_info *info = kv_op_info(r->body.op);
    r->phase = KV_PHASE_ROUTE;
    bool is_nodes_own = r->body.op >= KV_OP_NOOP && r->body.op < KV_OP_KVMAP;
    if (info == NULL || (is_nodes_own && !(is_partitions_own(r->body.op) && is_trusted(r)))) {
        request_fail(r, KV_BAD_ARGUMENT, "no such operation");
        return;
    }
    uint64_t wait = r->body.deadline_ms != 0 ? KV_MS(r->body.deadline_ms) : w->config->resp_deadline;
    r->deadline_ns = worker_event_now_ns(w) + wait;
    r->is_write = info->kind == KV_OP_KIND_W;
    if (r->body.keyspace == KV_KEYSPACE_SYSTEM && !is_trusted(r)) r->body.keyspace = KV_KEYSPACE_DEFAULT; /* not said */
    r->stands = r->is_write && !merge_is_op(r->body.op) && !is_siblings_own(r);
    if (r->body.arg_count < (uint32_t)info->arity_min ||
        (info->arity_max >= 0 && r->body.arg_count > (uint32_t)info->arity_max)) {
        request_fail(r, KV_BAD_ARGUMENT, "wrong number of arguments");
        return;
    }
    if (r->body.op == KV_OP_KVSPLIT) {
        split_start(r);
        return;
    }
    if (r->body.op == KV_OP_KVMERGE) {
        merge_start(r);
        return;
    }
    if (info->kind == KV_OP_KIND_A && siblings_gather(r)) return;
    if (info->kind == KV_OP_KIND_A) {
        if (!request_answer_here(r)) request_fail(r, KV_BAD_ARGUMENT, "no such operation");
        return;
    }
    /* A Redis client knows of no other node: it is served as long as its connection is there. */
    if (w->stopping && r->is_write && (r->body.roams || r->internal)) {
        request_fail(r, KV_UNAVAILABLE, "this node is shutting down; ask another");
        return;
    }
    if (r->body.hops == 0 && !is_partitions_own(r->body.op) && r->body.op != KV_OP_KVMOVE &&
        r->body.op != KV_OP_KVLEAD && r->body.op != KV_OP_KVLABELS) {
        kv_buf_clear(&w->exec_reply);
        enum kv_err err = exec_check(r->body.op, r->body.args, r->body.arg_count,
                                     (uint32_t)w->config->value_max, &w->exec_reply);
        if (err != KV_OK) {
            finish_resp_error(r, w->exec_reply.size > 0 && w->exec_reply.data[w->exec_reply.start] == '-' && r->body.op < KV_OP_KVGET ? KV_OK : err,
                              &w->exec_reply);
            return;
        }
    }
    dispatch(r, info);
}

/* By its keys again: their partition may be another one by now. */
void request_reroute(struct request *r)
{
    r->state = REQUEST_NEW;
    dispatch(r, kv_op_info(r->body.op));
}

void request_redirect(struct request *r)
{
    if (r->body.pinned || r->body.hops > 0) {
        r->phase = KV_PHASE_ROUTE;
        request_fail(r, KV_WRONG_SHARD, NULL);
        return;
    }
    request_reroute(r);
}

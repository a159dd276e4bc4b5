#include "server/request.h"
#include "server/nodes.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/base/text.h"
#include "client/wire/resp.h"
#include "server/birth.h"
#include "server/group.h"
#include "server/jobs.h"
#include "server/keyspaces.h"
#include "server/map.h"
#include "server/merge.h"
#include "server/pace.h"
#include "server/peer.h"
#include "server/seats.h"
#include "server/siblings.h"

/* Routing. A request goes to its partition's leader: here, or over a link, or it waits for
 * one to appear. It may go round several times inside its deadline, but never again once
 * its effect is uncertain and nothing makes a repeat harmless. */

enum {
    SPARES_MAX = 4096, /* about 1 MiB */
    DEADLINES_MS = 50, /* how often all open requests are walked if none of them is parked */
    NEWS_MS = 20,      /* how long, so many times, news of a keyspace may take to come here */
    NEWS_TRIES = 25
};

static void open_add(struct request *r)
{
    struct worker *w = r->w;
    r->prev = w->open_tail;
    r->next = NULL;
    if (w->open_tail != NULL) w->open_tail->next = r;
    else w->open_head = r;
    w->open_tail = r;
    w->open_count++;
}

struct request *request_make(struct worker *w)
{
    if (w->open_count >= w->config->queue_max) return NULL;
    struct request *r = w->spare_requests;
    if (r != NULL) {
        w->spare_requests = r->next;
        if (r->next != NULL) request_prefetch(r->next);
        w->spare_count--;
    } else {
        r = aligned_alloc(REQUEST_LINE_BYTES, sizeof *r);
    }
    if (r == NULL) return NULL;
    *r = (struct request){.w = w};
    open_add(r);
    return r;
}

bool request_own(struct request *r)
{
    if (r->memory != NULL || r->body.arg_count == 0) return true;
    size_t bytes = r->body.arg_count * sizeof(struct kv_slice);
    for (uint32_t i = 0; i < r->body.arg_count; i++) bytes += r->body.args[i].size;
    r->memory = malloc(bytes);
    if (r->memory == NULL) {
        request_fail(r, KV_BUSY, "out of memory");
        return false;
    }
    struct kv_slice *args = r->memory;
    uint8_t *to = (uint8_t *)(args + r->body.arg_count);
    for (uint32_t i = 0; i < r->body.arg_count; i++) {
        struct kv_slice from = r->body.args[i];
        if (from.size > 0) memcpy(to, from.data, from.size);
        args[i] = kv_slice(to, from.size);
        to += from.size;
    }
    r->body.args = args;
    return true;
}

void request_finish(struct request *r, struct kv_reply *reply)
{
    struct worker *w = r->w;
    if (r->is_admitted && pace_hold(r, reply)) return;
    if (r->prev != NULL) r->prev->next = r->next;
    else w->open_head = r->next;
    if (r->next != NULL) r->next->prev = r->prev;
    else w->open_tail = r->prev;
    w->open_count--;
    if (w->open_iter == r) w->open_iter = r->next;
    reply->id = r->owner_id;
    r->done(r, reply);
    free(r->memory);
    if (w->spare_count == SPARES_MAX) {
        free(r);
        return;
    }
    w->spare_count++;
    r->next = w->spare_requests;
    w->spare_requests = r;
}

void request_free_spares(struct worker *w)
{
    for (struct request *r = w->spare_requests, *next; r != NULL; r = next) {
        next = r->next;
        free(r);
    }
    w->spare_requests = NULL;
    w->spare_count = 0;
}

void request_fail(struct request *r, enum kv_err err, const char *detail)
{
    if (r->is_admitted) pace_excuse(r);
    const struct partition *p = map_get(r->w, r->partition);
    bool maybe = r->is_write && r->maybe && !MUTANT(maybe_said_no);
    struct kv_reply reply = {.err = err,
                             .applied = maybe ? KV_APPLIED_MAYBE : KV_APPLIED_NO,
                             .phase = r->phase,
                             .node = r->w->node_id,
                             .partition = r->body.line != 0 ? r->body.line : r->partition, /* as who sent it in line calls it */
                             .leader = p != NULL && err != KV_NO_LEADER ? map_leader(p) : 0,
                             .retry_after_ms = err == KV_BUSY ? 20 : 0,
                             .detail = detail != NULL ? kv_str(detail) : kv_slice(NULL, 0)};
    request_finish(r, &reply);
}

static bool is_of_system(const struct request *r)
{
    return kv_op_is_directory(r->body.op) || r->body.keyspace == KV_KEYSPACE_SYSTEM;
}

/* It would wait for its deadline here, where its client knows other nodes that may not be cut off. Or for partition 0, of which
 * nobody has told although there was time. */
static bool is_stranded(const struct request *r, uint64_t now_ns)
{
    if (!r->body.roams) return false;
    const struct partition *p = map_get(r->w, r->partition);
    if (p == NULL && r->partition == UINT32_MAX && is_of_system(r)) return now_ns - r->w->started_ns > KV_SECONDS(1);
    return p != NULL && map_is_out_of_touch(r->w, p, now_ns);
}

/* What it was for says what to do; NULL: the partition is like any other. */
static const char *leaderless(const struct request *r)
{
    return is_of_system(r) ? "it is partition 0, of nodes, keyspaces and ids; next: start the nodes that hold it (role coordinator)" : NULL;
}

static void strand(struct request *r)
{
    r->phase = KV_PHASE_WAIT_LEADER;
    const char *why = leaderless(r);
    request_fail(r, KV_NO_LEADER, why != NULL ? why : "no contact with a leader, or with a majority, of the partition");
}

void request_park(struct request *r, uint64_t delay_ns)
{
    if (r->body.hops > 0) { /* the node that forwarded it waits and asks again */
        r->phase = KV_PHASE_ROUTE;
        request_fail(r, KV_NOT_LEADER, NULL);
        return;
    }
    if (is_stranded(r, env_now_ns(r->w->env))) {
        strand(r);
        return;
    }
    if (!request_own(r)) return;
    struct partition *p = r->stands ? map_get(r->w, r->partition) : NULL;
    if (p != NULL) {
        p->line.is_held = true;
        p->line.blocked_walk = r->w->walk;
    }
    r->state = REQUEST_PARKED;
    r->w->has_parked = true;
    r->phase = KV_PHASE_WAIT_LEADER;
    r->retry_ns = env_now_ns(r->w->env) + (delay_ns == 0 ? KV_SECONDS(3600) : delay_ns);
}

void request_returned(struct request *r, bool refused)
{
    struct worker *w = r->w;
    if (!r->is_in_line) return;
    r->is_in_line = false;
    struct line *l = &map_get(w, r->partition)->line;
    assert(l->sent > 0);
    l->sent--;
    l->is_refused |= refused;
    if (l->sent > 0 || (!l->is_refused && !l->is_held)) return;
    l->round += l->is_refused;
    l->is_refused = false;
    w->woken = true; /* who stands in line goes on */
    worker_turn(w);
}

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
    if (sibling_is_way(node) && !pace_admit(r)) return;
    w->reads_sent += request_is_anywhere(r) && !sibling_is_way(node);
    if (r->is_write && r->body.sequence == 0 && !sibling_is_way(node)) { /* so that a repeat is harmless */
        memcpy(r->body.client, w->client_id, sizeof r->body.client);
        r->body.sequence = ++w->sequence;
        r->stamped = true;
    }
    if (!request_own(r)) return;
    r->phase = KV_PHASE_FORWARD;
    if (r->stands) {
        r->body.line = p->id;
        r->body.round = p->line.round + 1;
    }
    enum kv_err err = peer_forward(w->peers, node, r);
    if (err == KV_BUSY) {
        request_fail(r, err, "too much waits for the worker of its partition");
    } else if (err != KV_OK) {
        request_park(r, KV_MS(20));
    } else if (r->stands) {
        r->is_in_line = true;
        p->line.sent++;
        p->line.sent_to = node;
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

uint32_t request_replace(struct worker *w, struct kv_slice digits)
{
    uint64_t node = 0, id;
    uint32_t marked = 0, cursor = 0;
    void *v;
    if (!kv_parse_u64(digits, &node) || node == w->node_id) return 0;
    while (kv_map_next(&w->groups, &cursor, &id, &v)) {
        struct group *g = v;
        if (!group_leads(g)) continue;
        for (uint32_t i = 0; i < g->descriptor.replica_count; i++)
            if (g->descriptor.replicas[i].node == node) {
                member_lost(g, g->descriptor.replicas[i].id);
                marked++;
            }
    }
    return marked;
}

void request_to_leader(struct request *r)
{
    struct partition *p = map_get(r->w, r->partition);
    r->wants_leader = true;
    if (p == NULL || r->body.hops > 0) request_park(r, 0); /* who forwarded it asks the leader next */
    else route(r, p);
}

static bool answer_locally(struct request *r)
{
    struct worker *w = r->w;
    struct kv_reply reply = {.applied = KV_APPLIED_YES, .node = w->node_id};
    struct kv_buf text = {0}, value = {0};
    char levels[256] = "", unknown[256]; /* `why` may point into `levels` */
    const char *why = NULL;
    switch (r->body.op) {
    case KV_OP_KVMAP: status_map(w, &text); break;
    case KV_OP_KVSTATUS:
        if (siblings_is_face(w)) status_json(w, &text, kv_slice(NULL, 0));
        else status_groups(w, &text);
        break;
    case KV_OP_KVLEFT: {
        uint64_t id;
        if (kv_parse_u64(r->body.args[0], &id) && id <= UINT32_MAX) kv_buf_printf(&text, "%u", jobs_left(w, (uint32_t)id));
        else reply.err = KV_BAD_ARGUMENT;
        break;
    }
    case KV_OP_KVPING:
        if (r->body.arg_count > 0) kv_buf_append_slice(&text, r->body.args[0]);
        break;
    case KV_OP_KVHOT: {
        uint64_t limit = 0, keyspace = UINT32_MAX;
        bool good = kv_parse_u64(r->body.args[0], &limit) && limit >= 1 && limit <= REQUEST_HOT_MAX;
        if (r->body.arg_count > 1) good = good && kv_parse_u64(r->body.args[1], &keyspace) && keyspace <= UINT32_MAX;
        if (!good) reply.err = KV_BAD_ARGUMENT;
        else if (siblings_is_face(w)) load_hot_json(w, (uint32_t)keyspace, (uint32_t)limit, &text, kv_slice(NULL, 0));
        else load_hot_lines(w, (uint32_t)keyspace, (uint32_t)limit, &text);
        if (!good) why = "KVHOT limit [keyspace]: a number of keys, 1 to 1000, and the id of a keyspace";
        break;
    }
    case KV_OP_KVLOGLEVEL: {
        struct kv_slice a = r->body.args[0];
        if (a.size < sizeof levels) memcpy(levels, a.data, a.size);
        reply.err = a.size < sizeof levels ? worker_log_levels(w, levels, &why) : KV_TOO_BIG;
        if (reply.err == KV_OK) kv_buf_append_text(&text, "OK");
        if (reply.err != KV_BAD_ARGUMENT) break;
        snprintf(unknown, sizeof unknown, "%.*s; " JOURNAL_MODULES_TEXT ", levels error warn info debug",
                 (int)(strcspn(why, ",") < 32 ? strcspn(why, ",") : 32), why);
        why = unknown;
        break;
    }
    case KV_OP_KVREPLACE: kv_buf_printf(&text, "%u", request_replace(w, r->body.args[0])); break;
    default: return false;
    }
    if (reply.err != KV_OK && why != NULL) reply.detail = kv_str(why);
    resp_put_bulk(&value, kv_buf_slice(&text));
    reply.value = kv_buf_slice(&value);
    request_finish(r, &reply);
    kv_buf_free(&text);
    kv_buf_free(&value);
    return true;
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

/* A node that the map still shows replicas on stays; its partitions would lose a voter each. */
static bool refuse_removal(struct request *r)
{
    uint64_t id;
    char text[160];
    if (r->body.op != KV_OP_KSNODE || !kv_slice_eq(r->body.args[1], kv_str("removed"))) return false;
    if (!kv_parse_u64(r->body.args[0], &id) || id > UINT32_MAX) return false;
    uint32_t count = nodes_replicas(r->w, (uint32_t)id);
    if (count == 0) return false;
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
    const struct partition *named = map_get(r->w, r->body.partition);
    struct kv_slice at;
    struct store_group sg;
    if (p != NULL && p->group != NULL) return false;
    if (named != NULL && named->has_ended) return true;
    if (store_group_get(r->w->store, r->body.partition, &sg) && sg.absorbed != 0) return true;
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
    bool is_system = is_of_system(r);
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
        if (!answer_locally(r)) request_fail(r, KV_BAD_ARGUMENT, "no such operation");
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

/* Takes it out of whatever queue holds it. */
static void unqueue(struct request *r)
{
    struct group *g = worker_group(r->w, r->partition);
    if (r->state == REQUEST_FORWARDED) {
        peer_forget(r->w->peers, r);
        request_returned(r, false);
    }
    if (r->state == REQUEST_FANNED) r->abandon(r);
    if (g != NULL && r->state == REQUEST_AWAITING) acks_forget(g, r);
    if (g == NULL || (r->state != REQUEST_PROPOSED && r->state != REQUEST_READING)) return;
    bool waits = r->state == REQUEST_PROPOSED;
    struct request **link = waits ? &g->waiting_head : &g->reads_head;
    struct request **tail = waits ? &g->waiting_tail : &g->reads_tail;
    struct request *last = NULL;
    for (; *link != NULL; last = *link, link = &(*link)->queue_next) {
        if (*link != r) continue;
        *link = r->queue_next;
        if (*tail == r) *tail = last;
        r->queue_next = NULL;
        return;
    }
}

static bool waits_for_peers(const struct request *r)
{
    return r->state == REQUEST_PARKED || r->state == REQUEST_PROPOSED || r->state == REQUEST_READING;
}

/* By its keys again: their partition may be another one by now. */
static void reroute(struct request *r)
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
    reroute(r);
}

void request_wake(struct worker *w)
{
    for (struct request *r = w->open_head; r != NULL; r = r->next)
        if (r->state == REQUEST_PARKED) r->retry_ns = 0;
    w->woken = true;
    worker_turn(w);
}

static void lines_clear(struct worker *w)
{
    uint32_t cursor = 0;
    uint64_t id;
    void *v;
    while (kv_map_next(&w->partitions, &cursor, &id, &v)) {
        struct line *l = &((struct partition *)v)->line;
        l->is_held = l->is_held && l->blocked_walk == w->walk;
    }
}

void request_tick(struct worker *w, uint64_t now_ns)
{
    if (!w->has_parked && now_ns < w->deadlines_ns) return;
    w->has_parked = false;
    w->deadlines_ns = now_ns + KV_MS(DEADLINES_MS);
    w->walk++;
    w->open_iter_runs = true;
    struct request *last = w->open_tail; /* what is added meanwhile waits for the next tick */
    w->open_iter = w->open_head;
    for (bool more = last != NULL; more && w->open_iter != NULL;) {
        struct request *r = w->open_iter;
        more = r != last;
        w->open_iter = r->next;
        if (r->deadline_ns <= now_ns && r->done != NULL && r->state != REQUEST_PACED) {
            enum request_state state = r->state;
            unqueue(r);
            const struct partition *p = map_get(w, r->partition);
            if (state == REQUEST_PARKED)
                request_fail(r, p != NULL && map_leader(p) != 0 ? KV_UNAVAILABLE : KV_NO_LEADER,
                             peer_connected_count(w->peers) == 0 && !nodes_are_one(w)
                                 ? "no contact with any other node"
                                 : leaderless(r));
            else request_fail(r, KV_UNAVAILABLE, NULL);
        } else if (waits_for_peers(r) && is_stranded(r, now_ns)) {
            unqueue(r);
            strand(r);
        } else if (r->state == REQUEST_PARKED) {
            struct partition *p = r->stands ? map_get(w, r->partition) : NULL;
            w->has_parked = true;
            if (r->retry_ns <= now_ns) reroute(r); /* parks again where it must */
            else if (p != NULL) p->line.blocked_walk = w->walk;
        }
    }
    w->open_iter = NULL;
    w->open_iter_runs = false;
    lines_clear(w);
}

void request_drop_all(struct worker *w)
{
    while (w->open_head != NULL) {
        struct request *r = w->open_head;
        unqueue(r);
        request_fail(r, KV_CLOSED, "the node is stopping");
    }
}

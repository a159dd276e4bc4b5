#include "server/merge.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/base/mutant.h"
#include "client/base/text.h"
#include "client/wire/resp.h"
#include "server/birth.h"
#include "server/map.h"
#include "server/request.h"
#include "server/seats.h"
#include "server/siblings.h"

/* KVMERGE, at the node that was asked: each node of several workers is asked until its replicas of both are on one of them (R20), then
 * come an id from partition 0's allocator, FREEZE, then all nodes are asked until each has
 * it in a checkpoint, ABSORB. Whatever goes wrong behind the FREEZE, VOID says how it stands, and UNFREEZE follows where
 * nothing can happen any more. A driver that dies leaves that to whoever leads the right side. */
enum { MERGE_MS = 10000,     /* for all of it */
       CLEANUP_MS = 5000,    /* for each step back */
       ASK_MS = 40,          /* between two questions to a node */
       FROZEN_MS_MAX = 5000, /* then the leader asks what became of it; safe at any time, see README.md */
       RESOLVE_MS = 3000,    /* for the answer, and before it asks again */
       GONE_MS = 5000 };     /* until one that nobody can need any more goes */

/* What a merge is called, as arguments. */
struct merge_words {
    struct merge_name name;
    char id[24], left[16], epoch[16], right_epoch[16];
};

static void words_put(struct merge_words *w)
{
    snprintf(w->id, sizeof w->id, "%llu", (unsigned long long)w->name.id);
    snprintf(w->left, sizeof w->left, "%u", w->name.left);
    snprintf(w->epoch, sizeof w->epoch, "%u", w->name.epoch);
    snprintf(w->right_epoch, sizeof w->right_epoch, "%u", w->name.right_epoch);
}

static uint32_t words_args(const struct merge_words *w, enum kv_op op, const struct kv_key *at, struct kv_slice args[5])
{
    args[0] = kv_key_slice(at);
    args[1] = kv_str(w->id);
    args[2] = kv_str(w->left);
    args[3] = kv_str(w->epoch);
    args[4] = kv_str(w->right_epoch);
    return op == KV_OP_UNFREEZE ? 2 : op == KV_OP_VOID ? 5
                                                       : 4;
}

struct merge {
    struct merge *next, **link;
    struct worker *w;
    struct request *asker; /* NULL: gave up waiting */
    enum merge_phase { MERGE_BESIDE,
                       MERGE_ID,
                       MERGE_FREEZE,
                       MERGE_ASK,
                       MERGE_ABSORB,
                       MERGE_VOID,
                       MERGE_UNFREEZE } phase;
    uint64_t until_ns, asked_ns;
    uint32_t conf_epoch;
    struct merge_words words;
    struct kv_key at, from; /* where the sides meet, and where the left one begins */
    struct descriptor right;
    bool frozen[DESCRIPTOR_REPLICAS_MAX]; /* of its replicas, durably */
    uint32_t left_count;
    struct {
        uint32_t node;
        raft_id replica; /* of the left side, as of conf_epoch */
        bool is_beside;
    } lefts[DESCRIPTOR_REPLICAS_MAX];
    struct kv_slice right_bytes; /* of `right`, owned */
    char conf_text[16];
    struct kv_slice args[5];
    enum kv_err err; /* what the asker is told in the end */
    char why[160];
};

static void merge_free(struct merge *m)
{
    *m->link = m->next;
    if (m->next != NULL) m->next->link = m->link;
    free((void *)(uintptr_t)m->right_bytes.data);
    free(m);
}

void merge_drop(struct worker *w)
{
    while (w->merges != NULL) merge_free(w->merges);
}

static void abandon(struct request *r)
{
    struct merge *m = r->children;
    m->asker = NULL;
    r->children = NULL;
}

static void end(struct merge *m)
{
    struct request *r = m->asker;
    JOURNAL(m->w->journal, raft, INFO, "merge-end", "left=%u right=%u merge=%llu err=%s why=\"%s\"", m->words.name.left, m->right.id,
            (unsigned long long)m->words.name.id, kv_err_name(m->err), m->why);
    if (r != NULL) {
        struct kv_buf out = {0};
        resp_put_integer(&out, m->words.name.left);
        r->children = NULL;
        r->maybe = m->err == KV_UNAVAILABLE; /* nobody knows */
        struct kv_reply reply = {.applied = KV_APPLIED_YES, .value = kv_buf_slice(&out), .node = m->w->node_id};
        if (m->err == KV_OK) request_finish(r, &reply);
        else request_fail(r, m->err, m->why[0] == '\0' ? NULL : m->why);
        kv_buf_free(&out);
    }
    merge_free(m);
}

static void fail(struct merge *m, enum kv_err err, struct kv_slice why)
{
    m->err = err;
    snprintf(m->why, sizeof m->why, "%.*s", (int)(why.size < sizeof m->why ? why.size : sizeof m->why - 1),
             why.size == 0 ? "" : (const char *)why.data);
}

/* An operation of the node's own; `done` always comes. False: none can be made now. */
static bool ask(struct worker *w, void *owner, enum kv_op op, const struct kv_slice *args, uint32_t count, uint32_t keyspace,
                uint64_t wait_ns, void (*done)(struct request *r, const struct kv_reply *reply))
{
    struct request *r = request_make(w);
    if (r == NULL) return false;
    r->done = done;
    r->owner = owner;
    r->internal = true;
    r->body = (struct kv_request){.op = op, .args = args, .arg_count = count, .keyspace = keyspace, .deadline_ms = (uint32_t)(wait_ns / 1000000u + 1)};
    request_start(r);
    return true;
}

static void answered(struct request *r, const struct kv_reply *reply);

static void step(struct merge *m, enum merge_phase phase)
{
    static const enum kv_op ops[] = {KV_OP_NONE, KV_OP_KVINCR, KV_OP_FREEZE, KV_OP_NONE, KV_OP_ABSORB, KV_OP_VOID, KV_OP_UNFREEZE};
    uint64_t now = env_now_ns(m->w->env), left_ns = m->until_ns > now ? m->until_ns - now : 1;
    uint32_t keyspace = KV_KEYSPACE_SYSTEM, count = 2;
    m->phase = phase;
    if (phase == MERGE_ID) {
        m->args[0] = kv_str("a/merge");
        m->args[1] = kv_str("1");
    } else {
        keyspace = m->right.keyspace;
        count = words_args(&m->words, ops[phase], &m->at, m->args);
    }
    if (phase == MERGE_ABSORB) {
        m->args[0] = kv_key_slice(&m->from);
        m->args[1] = m->right_bytes;
        m->args[2] = kv_str(m->conf_text);
        count = 3;
    }
    if (phase >= MERGE_VOID) left_ns = KV_MS(CLEANUP_MS);
    if (ask(m->w, m, ops[phase], m->args, count, keyspace, left_ns, answered)) return;
    if (m->err == KV_OK) fail(m, KV_BUSY, kv_slice(NULL, 0)); /* what is frozen is resolved by its leader */
    end(m);
}

static bool id_take(struct merge *m, struct kv_slice value)
{
    struct resp_value v;
    if (resp_next(&value, SIZE_MAX, &v) != KV_OK || v.type != RESP_INTEGER || v.number < 1) return false;
    m->words.name.id = (uint64_t)v.number;
    words_put(&m->words);
    return true;
}

static bool right_take(struct merge *m, struct kv_slice value)
{
    struct resp_value v;
    if (resp_next(&value, SIZE_MAX, &v) != KV_OK || v.type != RESP_BULK || v.text.size == 0) return false;
    uint8_t *own = malloc(v.text.size); /* its list lies in them */
    if (own == NULL) return false;
    memcpy(own, v.text.data, v.text.size);
    m->right_bytes = kv_slice(own, v.text.size);
    if (descriptor_decode(m->right_bytes, &m->right) != KV_OK || m->right.frozen_merge != m->words.name.id)
        return false;
    m->words.name.right_epoch = m->right.range_epoch;
    words_put(&m->words);
    return true;
}

static void voided(struct merge *m, const struct kv_reply *reply)
{
    struct kv_slice value = reply->value;
    struct resp_value v;
    bool known = reply->err == KV_OK && resp_next(&value, SIZE_MAX, &v) == KV_OK && v.type == RESP_INTEGER;
    if (known && v.number == MERGE_VOIDED) {
        step(m, MERGE_UNFREEZE);
        return;
    }
    if (known && v.number == MERGE_DONE && m->right.frozen_merge == m->words.name.id) m->err = KV_OK;
    else m->err = KV_UNAVAILABLE;
    end(m);
}

static void answered(struct request *r, const struct kv_reply *reply)
{
    struct merge *m = r->owner;
    bool ok = reply->err == KV_OK;
    if (!ok && m->phase < MERGE_VOID) fail(m, reply->err, reply->detail);
    switch (m->phase) {
    case MERGE_ID:
        if (ok && m->asker != NULL && id_take(m, reply->value)) {
            step(m, MERGE_FREEZE);
            return;
        }
        if (ok) fail(m, KV_UNAVAILABLE, kv_str("nobody waits for it"));
        end(m);
        return;
    case MERGE_FREEZE:
        if (ok && right_take(m, reply->value)) m->phase = MERGE_ASK; /* merge_tick_all() goes on */
        else if (!ok && reply->applied == KV_APPLIED_NO && reply->err == KV_CONDITION) end(m);
        else step(m, MERGE_VOID);
        return;
    case MERGE_ABSORB:
        if (ok) end(m);
        else step(m, MERGE_VOID);
        return;
    case MERGE_VOID: voided(m, reply); return;
    case MERGE_UNFREEZE: end(m); return;
    case MERGE_BESIDE:
    case MERGE_ASK: break;
    }
}

/* ---- is it frozen everywhere ---- */

/* It stays so: a replica never changes its worker, the frozen side's are not replaced, and ABSORB takes effect only while the left
 * side's are those that were asked for. */
static bool is_beside_left(const struct worker *w, const struct peer_merge *q)
{
    const struct group *left = worker_group(w, q->left);
    return siblings_count(w) == 1 || (left != NULL && left->replica == q->left_replica && !left->dead);
}

static bool is_frozen(struct worker *w, const struct peer_merge *q)
{
    const struct group *g = worker_group(w, q->group);
    struct store_group sg;
    return g != NULL && g->replica == q->replica && !g->dead && !g->installing && !g->rowless && g->descriptor.frozen_merge == q->merge &&
           is_beside_left(w, q) && store_group_get(w->store, q->group, &sg) && sg.state == CHECKPOINT_GROUP_LIVE && sg.checkpointed >= q->index;
}

static raft_id left_at(const struct merge *m, uint32_t node)
{
    for (uint32_t i = 0; i < m->left_count; i++)
        if (m->lefts[i].node == node) return m->lefts[i].replica;
    return 0;
}

/* Before anything stands still for it. */
static void beside_all(struct merge *m, uint64_t now_ns)
{
    struct worker *w = m->w;
    uint32_t missing = 0, node = 0;
    bool asks = now_ns >= m->asked_ns + KV_MS(ASK_MS);
    if (asks) m->asked_ns = now_ns;
    for (uint32_t i = 0; i < m->left_count; i++) {
        struct peer_merge q = {.kind = PEER_MERGE_BESIDE, .group = m->right.id, .left = m->words.name.left};
        bool is_one = peer_workers(w->peers, m->lefts[i].node) == 1;
        if (is_one || (m->lefts[i].node == w->node_id && seats_are_beside(w, q.left, q.group))) m->lefts[i].is_beside = true;
        if (m->lefts[i].is_beside) continue;
        missing++;
        node = m->lefts[i].node;
        if (asks && node != w->node_id) peer_send_merge(w->peers, node, &q);
    }
    if (missing == 0) {
        step(m, MERGE_ID);
    } else if (now_ns >= m->until_ns || m->asker == NULL) {
        m->err = KV_CONDITION;
        snprintf(m->why, sizeof m->why, "its replicas on node %u are on different workers, and move to one now; ask again in a moment", node);
        end(m);
    }
}

static void ask_all(struct merge *m, uint64_t now_ns)
{
    struct worker *w = m->w;
    uint32_t missing = 0;
    bool asks = now_ns >= m->asked_ns + KV_MS(ASK_MS);
    if (asks) m->asked_ns = now_ns;
    for (uint32_t i = 0; i < m->right.replica_count; i++) {
        const struct descriptor_replica *r = &m->right.replicas[i];
        struct peer_merge q = {.kind = PEER_MERGE_ASK,
                               .group = m->right.id,
                               .replica = r->id,
                               .merge = m->words.name.id,
                               .index = m->right.frozen_index,
                               .left = m->words.name.left,
                               .left_replica = left_at(m, r->node)};
        bool is_here = r->node == w->node_id && w->siblings == NULL;
        if (is_here) m->frozen[i] = is_frozen(w, &q);
        if (m->frozen[i]) continue;
        missing++;
        if (asks && !is_here) peer_send_merge(w->peers, r->node, &q);
    }
    if (missing == 0 || (missing == 1 && m->right.replica_count > 1 && MUTANT(absorb_without_one))) {
        step(m, MERGE_ABSORB);
    } else if (now_ns >= m->until_ns || m->asker == NULL) {
        fail(m, KV_UNAVAILABLE, kv_str("not every replica of the partition behind it answered in time"));
        step(m, MERGE_VOID);
    }
}

void merge_tick_all(struct worker *w, uint64_t now_ns)
{
    for (struct merge *m = w->merges, *next; m != NULL; m = next) {
        next = m->next;
        if (m->phase == MERGE_BESIDE) beside_all(m, now_ns);
        else if (m->phase == MERGE_ASK) ask_all(m, now_ns);
    }
}

void merge_receive(struct worker *w, uint32_t node, const struct peer_merge *q)
{
    struct group *g = worker_group(w, q->group);
    switch (q->kind) {
    case PEER_MERGE_ASK: {
        struct peer_merge a = *q;
        a.kind = PEER_MERGE_FROZEN;
        if (is_frozen(w, q)) peer_send_merge(w->peers, node, &a);
        break;
    }
    case PEER_MERGE_BESIDE: {
        struct peer_merge a = *q;
        a.kind = PEER_MERGE_IS_BESIDE;
        if (seats_are_beside(w, q->left, q->group)) peer_send_merge(w->peers, node, &a);
        break;
    }
    case PEER_MERGE_IS_BESIDE:
        for (struct merge *m = w->merges; m != NULL; m = m->next)
            for (uint32_t i = 0; i < m->left_count && m->words.name.left == q->left && m->right.id == q->group; i++)
                if (m->lefts[i].node == node) m->lefts[i].is_beside = true;
        break;
    case PEER_MERGE_FROZEN:
        for (struct merge *m = w->merges; m != NULL; m = m->next)
            for (uint32_t i = 0; i < m->right.replica_count && m->words.name.id == q->merge && m->right.id == q->group; i++)
                if (m->right.replicas[i].id == q->replica && m->right.replicas[i].node == node) m->frozen[i] = true;
        break;
    case PEER_MERGE_GONE:
        if (g == NULL || g->gone_ns != 0 || q->range_epoch <= g->descriptor.range_epoch) break;
        JOURNAL(w->journal, raft, INFO, "gone", "group=%u replica=%u node=%u range_epoch=%u", g->id, g->replica, node, q->range_epoch);
        g->gone_ns = env_now_ns(w->env);
        g->gone_epoch = q->range_epoch;
        store_group_gone(w->store, g->id);
        group_touch(g); /* ticks look at it until it goes */
        break;
    }
}

bool merge_tells_gone(struct worker *w, uint32_t node, uint32_t group)
{
    struct store_group sg;
    if (!store_group_get(w->store, group, &sg) || sg.state != CHECKPOINT_GROUP_TOMBSTONE || sg.absorbed == 0) return false;
    struct peer_merge m = {.kind = PEER_MERGE_GONE, .group = group, .range_epoch = sg.absorbed};
    peer_send_merge(w->peers, node, &m);
    return true;
}

/* ---- what a driver left behind ---- */

struct resolve {
    struct worker *w;
    struct kv_key at;
    uint32_t keyspace;
    struct merge_words words;
    struct kv_slice args[5];
};

static void unfrozen(struct request *r, const struct kv_reply *reply)
{
    (void)reply; /* else it is asked again */
    free(r->owner);
}

/* Whoever leads by now: what is void stays so. */
static void resolved(struct request *r, const struct kv_reply *reply)
{
    struct resolve *s = r->owner;
    struct kv_slice value = reply->value;
    struct resp_value v;
    bool known = reply->err == KV_OK && resp_next(&value, SIZE_MAX, &v) == KV_OK && v.type == RESP_INTEGER;
    bool is_void = known && v.number == MERGE_VOIDED;
    if (is_void && ask(s->w, s, KV_OP_UNFREEZE, s->args, 2, s->keyspace, KV_MS(RESOLVE_MS), unfrozen)) return;
    free(s);
}

static void resolve_start(struct group *g)
{
    struct resolve *s = calloc(1, sizeof *s);
    if (s == NULL) return;
    s->w = g->w;
    s->keyspace = g->descriptor.keyspace;
    s->at = g->descriptor.from;
    s->words.name = (struct merge_name){g->descriptor.frozen_merge, g->descriptor.frozen_left, g->descriptor.frozen_epoch,
                                        g->descriptor.range_epoch};
    words_put(&s->words);
    JOURNAL(g->w->journal, raft, INFO, "merge-resolve", "group=%u merge=%s", g->id, s->words.id);
    uint32_t count = words_args(&s->words, KV_OP_VOID, &s->at, s->args);
    if (!ask(g->w, s, KV_OP_VOID, s->args, count, s->keyspace, KV_MS(RESOLVE_MS), resolved)) free(s);
}

/* It ends when whoever has its keys comes: by the log of the left side, or by a snapshot. If neither is near, nobody can
 * need its rows any more. */
static void go(struct group *g)
{
    struct kv_range own = {kv_key_slice(&g->descriptor.from), kv_key_slice(&g->descriptor.to)};
    JOURNAL(g->w->journal, raft, INFO, "evicted", "group=%u replica=%u by=none", g->id, g->replica);
    store_evict(g->w->store, own, g->gone_epoch, UINT32_MAX);
    g->dead = true;
    group_touch(g);
}

static bool has_left_side(const struct group *g)
{
    uint32_t cursor = 0;
    uint64_t id;
    void *v;
    while (kv_map_next(&g->w->groups, &cursor, &id, &v))
        if (kv_slice_eq(kv_key_slice(&((struct group *)v)->descriptor.to), kv_key_slice(&g->descriptor.from))) return true;
    return false;
}

void merge_tick(struct group *g, uint64_t now_ns)
{
    if (g->gone_ns != 0 && now_ns - g->gone_ns > KV_MS(GONE_MS) && !has_left_side(g)) {
        go(g);
        return;
    }
    if (g->descriptor.frozen_merge == 0 || !group_leads(g) || g->lead_index == 0 || g->applied < g->lead_index) return;
    uint64_t since = g->frozen_ns > g->led_ns ? g->frozen_ns : g->led_ns;
    if (now_ns < since + KV_MS(FROZEN_MS_MAX) || now_ns < g->resolve_ns) return;
    g->resolve_ns = now_ns + KV_MS(RESOLVE_MS);
    resolve_start(g);
}

/* ---- KVMERGE ---- */

void merge_start(struct request *r)
{
    struct worker *w = r->w;
    if (w->map_is_stale) map_settle(w);
    const struct partition *p = map_ending(w, r->body.args[0]), *q = map_find(w, r->body.args[0]);
    const struct descriptor *left = p == NULL ? NULL : map_descriptor(p), *right = q == NULL ? NULL : map_descriptor(q);
    if (right == NULL || !kv_slice_eq(kv_key_slice(&right->from), r->body.args[0])) {
        request_fail(r, KV_CONDITION, "no partition begins there");
        return;
    }
    if (left == NULL || left->keyspace == KV_KEYSPACE_SYSTEM || right->keyspace != left->keyspace) {
        request_fail(r, KV_CONDITION, "no partition of its keyspace comes before it");
        return;
    }
    if (!merge_has_same_nodes(left, right)) {
        request_fail(r, KV_CONDITION, "the replicas of both are not on the same nodes; move them there first");
        return;
    }
    struct merge *m = calloc(1, sizeof *m);
    if (m == NULL) {
        request_fail(r, KV_BUSY, NULL);
        return;
    }
    m->w = w;
    m->asker = r;
    m->words.name = (struct merge_name){
        .left = left->id, .epoch = left->range_epoch, .right_epoch = right->range_epoch};
    m->conf_epoch = left->conf_epoch;
    for (uint32_t i = 0; i < left->replica_count; i++) {
        m->lefts[i].node = left->replicas[i].node;
        m->lefts[i].replica = left->replicas[i].id;
    }
    m->left_count = left->replica_count;
    m->at = left->to;
    m->from = left->from;
    m->right = *right; /* until FREEZE says it as of then */
    m->right.list = kv_slice(NULL, 0);
    uint64_t now = env_now_ns(w->env), wait_ns = r->deadline_ns > now ? r->deadline_ns - now : 0;
    m->until_ns = now + (wait_ns < KV_MS(MERGE_MS) ? wait_ns - wait_ns / 4 : KV_MS(MERGE_MS));
    snprintf(m->conf_text, sizeof m->conf_text, "%u", m->conf_epoch);
    m->next = w->merges;
    m->link = &w->merges;
    if (m->next != NULL) m->next->link = &m->next;
    w->merges = m;
    r->is_write = r->maybe = true; /* what is not known in the end may have happened */
    r->state = REQUEST_FANNED;
    r->children = m;
    r->abandon = abandon;
    m->phase = MERGE_BESIDE;
    beside_all(m, now);
}

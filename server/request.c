#include "server/request_impl.h"

#include <stdlib.h>

#include "server/map.h"
#include "server/nodes.h"
#include "server/pace.h"
#include "server/peer.h"

/* Lives of requests: each is open from request_make() until it ends, once, and meanwhile it may be parked, until a leader
 * appears or its deadline passes. Where it goes: request_route.c. */
enum {
    SPARES_MAX = 4096, /* about 1 MiB */
    DEADLINES_MS = 50  /* how often all open requests are walked if none of them is parked */
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

bool request_is_of_system(const struct request *r)
{
    return kv_op_is_directory(r->body.op) || r->body.keyspace == KV_KEYSPACE_SYSTEM;
}

/* It would wait for its deadline here, where its client knows other nodes that may not be cut off; or none would ever talk to
 * this one again. Or for partition 0, of which nobody has told although there was time. */
static bool is_stranded(const struct request *r, uint64_t now_ns)
{
    bool is_shunned = peers_shun(r->w->peers);
    if (!r->body.roams && !is_shunned) return false;
    const struct partition *p = map_get(r->w, r->partition);
    if (p == NULL && r->partition == UINT32_MAX && (request_is_of_system(r) || is_shunned)) return now_ns - r->w->started_ns > KV_SECONDS(1);
    return p != NULL && map_is_out_of_touch(r->w, p, now_ns);
}

/* What it was for says what to do; NULL: the partition is like any other. */
static const char *leaderless(const struct request *r)
{
    return request_is_of_system(r) ? "it is partition 0, of nodes, keyspaces and ids; next: start the nodes that hold it (role coordinator)" : NULL;
}

static void strand(struct request *r)
{
    r->phase = KV_PHASE_WAIT_LEADER;
    const char *why = peers_shun(r->w->peers) ? "the other nodes refuse this one, as if it had been removed; next: kvctl node list, asking another node" : leaderless(r);
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
            if (r->retry_ns <= now_ns) request_reroute(r); /* parks again where it must */
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

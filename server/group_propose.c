#include "server/group_impl.h"

#include <stdlib.h>

#include "server/peer.h"
#include "server/place.h"
#include "server/request.h"
#include "server/rest.h"

/* Writes: from a request to an entry that the core has taken. */
enum { FULL_ROOM_BYTES = 256 << 10 };

static uint64_t stamp_now(struct group *g, struct clock_stamp *s)
{
    struct worker *w = g->w;
    uint64_t now = worker_event_now_ns(w), wall_ms = worker_event_wall_ms(w);
    return clock_stamp_now(s, g->clock_ms, clock_believed_ms(&w->clock, now, wall_ms), now);
}

uint64_t group_time_ms(struct group *g)
{
    struct clock_stamp s = g->stamp; /* looking at the clock leaves no trace */
    return stamp_now(g, &s);
}

static enum kv_err verdict_err(enum raft_verdict v)
{
    switch (v) {
    case RAFT_OK: return KV_OK;
    case RAFT_NOT_LEADER: return KV_NOT_LEADER;
    case RAFT_WINDOW_FULL:
    case RAFT_CONF_PENDING: return KV_BUSY;
    case RAFT_STALE: return KV_NOT_LEADER;
    }
    return KV_NOT_LEADER;
}

/* No segment can be claimed, and what was claimed before is almost used up: what came now would wait. */
bool log_is_short(const struct log *l)
{
    return log_is_full(l) && log_bytes_claimed(l) < FULL_ROOM_BYTES;
}

/* Space and pressure are asked before the core is: what it took must reach the log. */
static enum kv_err propose_refusal(struct group *g, enum kv_op op)
{
    struct worker *w = g->w;
    if (w->poisoned) return KV_POISONED;
    if (g->stalled != NULL) return KV_THROTTLED;
    bool frees = op == KV_OP_DEL || op == KV_OP_UNLINK || op == KV_OP_KVDEL || op == KV_OP_GETDEL ||
                 op == KV_OP_FLUSHALL || op == KV_OP_FLUSHDB || op == KV_OP_KVFLUSH;
    if (op >= KV_OP_NOOP) return KV_OK; /* raft's own: without them nobody could even read (R15) */
    if (!frees) {
        uint32_t room = g->descriptor.replica_count, full = 0;
        for (uint32_t i = 0; i < room; i++) full += peer_is_full(w->peers, g->descriptor.replicas[i].node);
        if (full > 0 && 2 * (room - full) <= room) return KV_NO_SPACE; /* one more could lose the quorum */
        if (store_is_full(w->store)) return KV_THROTTLED;              /* until one with room leads: member.c */
    }
    if (store_pressure(w->store) > 100 || log_is_busy(store_log(w->store))) return KV_BUSY;
    return log_is_short(store_log(w->store)) ? KV_NO_SPACE : KV_OK;
}

static enum kv_err propose(struct group *g, const struct command *c, bool is_conf, uint64_t *index)
{
    enum kv_err err = propose_refusal(g, c->op);
    if (err != KV_OK) return err;
    struct worker *w = g->w;
    struct command stamped = *c;
    stamped.keyspace = g->descriptor.keyspace;
    stamped.range_epoch = g->descriptor.range_epoch;
    stamped.stamp_ms = stamp_now(g, &g->stamp);
    stamped.feature = COMMAND_FEATURE;
    struct group_staged *staged = &g->staged;
    command_encode(&stamped, &staged->bytes);
    if (staged->bytes.failed || staged->bytes.size - staged->used > LOG_ENTRY_BYTES_MAX) {
        staged_undo(staged);
        return KV_TOO_BIG;
    }
    raft_index first;
    enum raft_verdict v = raft_propose(g->raft, 1, is_conf, &first, worker_event_now_ns(w));
    if (v != RAFT_OK) {
        staged_undo(staged);
        return v == RAFT_WINDOW_FULL ? KV_THROTTLED : verdict_err(v); /* a full window, or a transfer, passes by itself */
    }
    bool added = staged_add(staged, first, raft_term_now(g->raft), is_conf ? LOG_ENTRY_CONF : 0);
    if (!added) abort(); /* out of memory between the core and the log: crash, recovery is exact */
    *index = first;
    group_touch(g);
    return KV_OK;
}

enum kv_err group_propose_descriptor(struct group *g, const struct descriptor *d)
{
    struct kv_buf bytes = {0};
    descriptor_encode(d, &bytes);
    struct kv_slice arg = kv_buf_slice(&bytes);
    uint64_t index;
    enum kv_err err = bytes.failed ? KV_NO_SPACE
                                   : propose(g, &(struct command){.op = KV_OP_DESCRIBE, .args = &arg, .arg_count = 1},
                                             true, &index);
    kv_buf_free(&bytes);
    return err;
}

enum kv_err group_propose_clock(struct group *g)
{
    if (g->clock_index != 0) return KV_OK;
    JOURNAL(g->w->journal, raft, DEBUG, "clock-entry", "group=%u", g->id);
    return propose(g, &(struct command){.op = KV_OP_CLOCK}, false, &g->clock_index);
}

/*
 * By index: a leader that lost its place and has it again may propose below what it queued before. What was queued
 * for the same index in an older term waits on, as a third node could still bring it to be committed (figure 8).
 */
static void waiting_add(struct group *g, struct request *r)
{
    struct request **at = &g->waiting_head;
    if (g->waiting_tail != NULL && g->waiting_tail->index <= r->index) at = &g->waiting_tail->queue_next;
    while (*at != NULL && (*at)->index <= r->index) at = &(*at)->queue_next;
    r->queue_next = *at;
    *at = r;
    if (r->queue_next == NULL) g->waiting_tail = r;
}

void group_write(struct group *g, struct request *r)
{
    struct command c = {.op = r->body.op,
                        .args = r->body.args,
                        .arg_count = r->body.arg_count,
                        .sequence = r->body.sequence};
    memcpy(c.client, r->body.client, sizeof c.client);
    r->phase = KV_PHASE_PROPOSE;
    rest_wake(g); /* also for what is refused: member.c may have to find a leader that can take it */
    uint64_t index;
    struct kv_buf chosen = {0};
    struct kv_slice args[2];
    if (c.op == KV_OP_KSCREATE && !place_choose(g, c.args[1], &chosen)) {
        kv_buf_free(&chosen);
        request_fail(r, KV_UNAVAILABLE, "no node with the role storage is there to hold its partitions; next: kvctl node list");
        return;
    }
    if (chosen.size > 0) {
        args[0] = c.args[0];
        args[1] = kv_buf_slice(&chosen);
        c.args = args;
    }
    enum kv_err err = propose(g, &c, false, &index);
    kv_buf_free(&chosen);
    if (err == KV_NOT_LEADER || err == KV_THROTTLED) {
        request_park(r, err == KV_THROTTLED ? KV_MS(5) : 0);
        return;
    }
    if (err != KV_OK) {
        request_fail(r, err, NULL);
        return;
    }
    r->state = REQUEST_PROPOSED;
    r->phase = KV_PHASE_REPLICATE;
    r->doubted = r->maybe;
    r->maybe = true;
    r->index = index;
    r->term = raft_term_now(g->raft);
    r->partition = g->id;
    waiting_add(g, r);
}

enum kv_err group_propose_noop(struct group *g, uint64_t *index)
{
    return propose(g, &(struct command){.op = KV_OP_NOOP}, false, index);
}

/* A leader's first entry; until it is applied nothing is served (R2). */
void lead_begin(struct group *g)
{
    uint64_t index;
    if (propose(g, &(struct command){.op = KV_OP_NOOP}, false, &index) == KV_OK) g->lead_index = index;
}

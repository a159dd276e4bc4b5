#include "server/group_impl.h"

#include "server/merge.h"
#include "server/request.h"
#include "server/rest.h"

/* Reads: at once under a held lease, else after a round of ReadIndex. */

static void read_queue(struct group *g, struct request *r, uint64_t index)
{
    r->state = REQUEST_READING;
    r->phase = KV_PHASE_READ;
    r->index = index;
    r->partition = g->id;
    r->queue_next = NULL;
    if (g->reads_tail != NULL) g->reads_tail->queue_next = r;
    else g->reads_head = r;
    g->reads_tail = r;
}

/* Answers from the applied state. The lease is asked after the value was copied out (R1, R6);
 * a read confirmed by ReadIndex needs no lease. */
static bool read_now(struct group *g, struct request *r, bool confirmed)
{
    struct kv_reply reply = {0};
    if (g->dead) {
        request_park(r, KV_MS(20));
        return true;
    }
    if (merge_holds(g, r->body.op)) {
        request_park(r, KV_MS(20));
        return true;
    }
    if (r->range_epoch != g->descriptor.range_epoch) { /* split since: who leads the other side decides (R12) */
        request_redirect(r);
        return true;
    }
    if (r->body.op == KV_OP_KVSCAN || r->body.op == KV_OP_KVCOUNT) {
        if (!confirmed && !raft_lease_held(g->raft, env_now_ns(g->w->env))) return false;
        scan_start(g, r);
        return true;
    }
    bool done = apply_read(g, r, &reply);
    if (g->dead) { /* its successor, or another leader, answers */
        request_park(r, KV_MS(20));
        return true;
    }
    if (!done) {
        enum kv_err err = group_leads(g) ? group_propose_clock(g) : KV_NOT_LEADER;
        if (err == KV_NOT_LEADER || err == KV_THROTTLED) request_park(r, KV_MS(10));
        else if (err != KV_OK) request_fail(r, err, NULL);
        else if (request_own(r)) read_queue(g, r, g->clock_index);
        return true;
    }
    if (!confirmed && !MUTANT(read_without_lease) && !raft_lease_held(g->raft, env_now_ns(g->w->env))) return false;
    reply.partition = g->id;
    reply.range_epoch = g->descriptor.range_epoch;
    reply.node = g->w->node_id;
    request_finish(r, &reply);
    return true;
}

void group_read(struct group *g, struct request *r)
{
    r->phase = KV_PHASE_READ;
    r->partition = g->id;
    r->range_epoch = g->descriptor.range_epoch;
    g->w->read_turn = g->w->turns;
    if (r->body.level == KV_LEVEL_ANY && r->body.op != KV_OP_KVAWAIT && r->body.op != KV_OP_KVMOVE &&
        r->body.op != KV_OP_KVLEAD) {
        read_now(g, r, true);
        return;
    }
    g->was_read = true;
    rest_wake(g);
    if (r->body.op == KV_OP_KVAWAIT) {
        acks_await(g, r);
        return;
    }
    if (r->body.op == KV_OP_KVMOVE || r->body.op == KV_OP_KVLEAD || r->body.op == KV_OP_KVLABELS) {
        member_move(g, r);
        return;
    }
    /* Not by the lease while a committed split may be unapplied: who was born by it may lead elsewhere. */
    bool current = g->role == RAFT_LEADER && g->lead_index != 0 && g->applied >= g->lead_index && g->applied == g->apply_to;
    if (current && read_now(g, r, false)) return;
    if (current) JOURNAL(g->w->journal, raft, DEBUG, "lease-missed", "group=%u", g->id);
    if (g->role != RAFT_LEADER) {
        request_park(r, 0);
        return;
    }
    /* One ReadIndex round serves every read that came before it was asked. */
    if (!g->is_asked && raft_read_index(g->raft, g->read_context + 1, env_now_ns(g->w->env)) != RAFT_OK) {
        request_park(r, KV_MS(2)); /* no own-term commit yet, or too many rounds under way */
        return;
    }
    if (!g->is_asked) g->read_context++;
    g->is_asked = true; /* until the next pump takes it */
    r->context = g->read_context;
    if (!request_own(r)) return;
    read_queue(g, r, UINT64_MAX);
    group_touch(g);
}

/* Reads whose index is confirmed and applied, in order. */
void reads_serve(struct group *g)
{
    struct request *r = g->reads_head;
    struct request *kept_head = NULL, *kept_tail = NULL;
    g->reads_head = g->reads_tail = NULL;
    while (r != NULL) {
        struct request *next = r->queue_next;
        r->queue_next = NULL;
        if (r->index <= g->applied) {
            /* May queue it again behind a clock entry; and the lease may be over by now. */
            if (!read_now(g, r, r->context != 0 || r->index == 0)) request_park(r, KV_MS(2));
        } else {
            if (kept_tail != NULL) kept_tail->queue_next = r;
            else kept_head = r;
            kept_tail = r;
        }
        r = next;
    }
    if (kept_tail != NULL) {
        kept_tail->queue_next = g->reads_head;
        g->reads_head = kept_head;
        if (g->reads_tail == NULL) g->reads_tail = kept_tail;
    }
}

void reads_confirm(struct group *g, const struct raft_read *reads, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct request **link = &g->reads_head, *last = NULL;
        while (*link != NULL) {
            struct request *r = *link;
            if (r->context != reads[i].context || r->index != UINT64_MAX) {
                last = r;
                link = &r->queue_next;
            } else if (reads[i].index != 0) {
                r->index = reads[i].index;
                last = r;
                link = &r->queue_next;
            } else {
                *link = r->queue_next;
                if (g->reads_tail == r) g->reads_tail = last;
                request_park(r, KV_MS(2));
            }
        }
    }
}

void reads_park(struct group *g)
{
    struct request *r = g->reads_head;
    g->reads_head = g->reads_tail = NULL;
    while (r != NULL) {
        struct request *next = r->queue_next;
        r->queue_next = NULL;
        r->context = 0;
        request_park(r, 0);
        r = next;
    }
}

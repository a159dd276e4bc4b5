#include "server/group_impl.h"

#include "server/merge.h"
#include "server/request.h"
#include "server/rest.h"

/* Reads (README, "Levels"). What a read rests on:
 *
 *   lease    a leader that holds it, asked after the value was copied out (R1, R6)
 *   round    an index that the leader named after the read was asked, by its lease or by ReadIndex; on any replica
 *   recent   the last such index, young enough for the read's bound; its age is asked after the value was copied out
 *   nothing  level any
 *
 * In any case the range is asked last (R12), and whoever is being installed, rowless or dead does not come here. */
enum proof { PROOF_NONE,
             PROOF_LEASE,
             PROOF_ROUND,
             PROOF_RECENT };

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

static uint32_t age_ms(uint64_t since_ns, uint64_t now_ns)
{
    uint64_t ms = now_ns > since_ns ? (now_ns - since_ns + 999999) / 1000000 : 0;
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

static bool is_recent(const struct group *g, const struct request *r, uint64_t now_ns)
{
    return g->recent_ns != 0 && g->applied >= g->recent_index && age_ms(g->recent_ns, now_ns) <= r->body.bounded_ms;
}

/* Whether it holds now, and since when nothing can have been missed. */
static bool proof_holds(const struct group *g, const struct request *r, enum proof proof, uint32_t *stale_ms)
{
    uint64_t now_ns = env_now_ns(g->w->env);
    *stale_ms = 0;
    switch (proof) {
    case PROOF_NONE: return true;
    case PROOF_LEASE: return MUTANT(read_without_lease) || raft_lease_held(g->raft, now_ns);
    case PROOF_ROUND: *stale_ms = age_ms(r->asked_ns, now_ns); return true;
    case PROOF_RECENT: *stale_ms = age_ms(g->recent_ns, now_ns); return is_recent(g, r, now_ns);
    }
    return false;
}

void read_account(const struct request *r, uint32_t stale_ms, struct kv_reply *reply)
{
    r->w->reads[r->body.level]++;
    reply->level = r->body.level;
    reply->stale_ms = reply->level == KV_LEVEL_LEASE || reply->level == KV_LEVEL_BOUNDED ? stale_ms : 0;
}

/* Answers from the applied state, or sends the request where it can be answered. False: the proof does not hold (any more). */
static bool read_now(struct group *g, struct request *r, enum proof proof)
{
    struct kv_reply reply = {0};
    uint32_t stale_ms;
    if (g->dead) {
        request_park(r, KV_MS(20));
        return true;
    }
    if (proof != PROOF_NONE && merge_holds(g, r->body.op)) {
        request_park(r, KV_MS(20));
        return true;
    }
    if (r->range_epoch != g->descriptor.range_epoch) { /* split since: who leads the other side decides (R12) */
        request_redirect(r);
        return true;
    }
    if (r->body.op == KV_OP_KVSCAN || r->body.op == KV_OP_KVCOUNT) {
        if (!proof_holds(g, r, proof, &stale_ms)) return false;
        (void)load_count(&g->w->loads, &g->load, LOAD_READ); /* of no one key */
        scan_start(g, r, stale_ms);
        return true;
    }
    bool done = apply_read(g, r, &reply);
    if (g->dead) { /* its successor, or another leader, answers */
        request_park(r, KV_MS(20));
        return true;
    }
    if (!done && !group_leads(g) && request_is_anywhere(r)) { /* whether it has expired is the leader's to say (R14) */
        request_to_leader(r);
        return true;
    }
    if (!done) {
        enum kv_err err = group_leads(g) ? group_propose_clock(g) : KV_NOT_LEADER;
        if (err == KV_NOT_LEADER || err == KV_THROTTLED) request_park(r, KV_MS(10));
        else if (err != KV_OK) request_fail(r, err, NULL);
        else if (request_own(r)) read_queue(g, r, g->clock_index);
        return true;
    }
    if (!proof_holds(g, r, proof, &stale_ms)) return false;
    read_account(r, stale_ms, &reply);
    if (load_count(&g->w->loads, &g->load, LOAD_READ)) load_sample_request(g, LOAD_READ, r);
    reply.partition = g->id;
    reply.range_epoch = g->descriptor.range_epoch;
    reply.node = g->w->node_id;
    request_finish(r, &reply);
    return true;
}

/* One ReadIndex serves every read that came before it left, at the end of this turn: a round of a leader's, or a
 * follower's question to it. */
static void ask_index(struct group *g, struct request *r)
{
    uint64_t now_ns = env_now_ns(g->w->env);
    if (!g->is_asked) {
        enum raft_verdict verdict = raft_read_index(g->raft, g->read_context + 1, now_ns);
        if (verdict != RAFT_OK) { /* no leader; or no own-term commit yet, or too many under way */
            request_park(r, verdict == RAFT_NOT_LEADER ? 0 : KV_MS(2));
            return;
        }
        g->read_context++;
        g->w->read_rounds++;
    }
    g->is_asked = true; /* until the next pump takes it */
    r->context = g->read_context;
    r->asked_ns = now_ns;
    if (!request_own(r)) return;
    read_queue(g, r, UINT64_MAX);
    group_touch(g);
}

void group_read(struct group *g, struct request *r)
{
    bool is_anywhere = request_is_anywhere(r);
    r->phase = KV_PHASE_READ;
    r->context = 0;
    r->partition = g->id;
    r->range_epoch = g->descriptor.range_epoch;
    g->w->read_turn = g->w->turns;
    if (is_anywhere && (r->body.level == KV_LEVEL_ANY || (r->body.level == KV_LEVEL_BOUNDED && MUTANT(bounded_unconfirmed)))) {
        (void)read_now(g, r, PROOF_NONE);
        return;
    }
    if (g->role == RAFT_LEADER) {
        g->was_read = true;
        rest_wake(g);
    }
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
    if (current && read_now(g, r, PROOF_LEASE)) return;
    if (current) JOURNAL(g->w->journal, raft, DEBUG, "lease-missed", "group=%u", g->id);
    if (r->body.level == KV_LEVEL_BOUNDED && is_recent(g, r, env_now_ns(g->w->env)) && read_now(g, r, PROOF_RECENT)) return;
    if (g->role != RAFT_LEADER && !is_anywhere) {
        request_park(r, 0);
        return;
    }
    ask_index(g, r);
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
            if (!read_now(g, r, r->context != 0 || r->index == 0 ? PROOF_ROUND : PROOF_LEASE)) request_park(r, KV_MS(2));
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
                if (r->asked_ns >= g->recent_ns) {
                    g->recent_ns = r->asked_ns;
                    g->recent_index = r->index;
                }
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

/* Rounds, the lease and ReadIndex (dissertation 6.4).
 *
 * A round is a point in the leader's time; every heartbeat and append carries the
 * current one and its answer returns it. An answer to round n proves that its sender
 * still followed us after n began. So
 *   - a lease held by a quorum's answers counts from when their rounds began, before
 *     anything was sent (R2), and is shortened by what two clocks may differ;
 *   - a read is confirmed by a quorum's answers to a round begun after it was asked.
 * Nothing is served before an entry of our own term is committed: until then we do not
 * know what our predecessors committed. */
#include "raft/internal.h"
#include <assert.h>
#include <string.h>

void round_begin(struct raft *r)
{
    r->round++;
    r->round_at = r->now;
    r->round_ns[r->round % ROUNDS_MAX] = r->now;
}

void round_acked(struct raft *r, struct peer *p, uint64_t round)
{
    if (round == 0 || round > r->round) return;
    if (round > p->acked_round) p->acked_round = round;
    if (r->round - round >= ROUNDS_MAX) return; /* too old to remember when it began */
    uint64_t began = MUTANT(lease_from_answer) ? r->now : r->round_ns[round % ROUNDS_MAX];
    if (began > p->lease_from_ns) p->lease_from_ns = began;
}

bool lease_is_live(const struct raft *r, uint64_t now_ns)
{
    if (r->role != RAFT_LEADER || r->lease_forfeited) return false;
    if (MUTANT(lease_while_quiet) && r->quiet) return true;
    uint64_t from = conf_quorum(r, peer_lease);
    if (from == RAFT_NEVER) return true; /* we are the quorum */
    /* Their clock may run fast and ours slow: (1 - d) / (1 + d) > 1 - 2d. */
    uint64_t margin = r->o.lease_ns * 2 * r->o.drift_ppm / 1000000 + 1;
    return from != 0 && r->o.lease_ns > margin && now_ns < from + (r->o.lease_ns - margin);
}

static bool own_term_committed(const struct raft *r)
{
    return r->commit > r->inherited || MUTANT(read_before_own_term);
}

bool raft_lease_held(const struct raft *r, uint64_t now_ns)
{
    if (MUTANT(lease_by_old_clock)) now_ns = r->now;
    return lease_is_live(r, now_ns > r->now ? now_ns : r->now) && own_term_committed(r);
}

static void answer(struct raft *r, const struct pending_read *q, raft_index index)
{
    if (q->from == r->o.id) {
        assert(r->answer_count < RAFT_READS_MAX);
        r->answers[r->answer_count++] = (struct raft_read){q->context, index};
        return;
    }
    struct raft_msg *m = r->role == RAFT_LEADER ? raft_send(r, RAFT_READ_REPLY, q->from)
                                                : raft_reply(r, RAFT_READ_REPLY, q->from);
    const struct peer *p = conf_peer_const(r, q->from);
    m->context = q->context;
    m->index = index;
    m->reject = index == 0;
    /* Saves the reader the wait for the next heartbeat. */
    if (p != NULL && r->role == RAFT_LEADER)
        m->commit = p->match < r->commit ? p->match : r->commit;
}

static void drop_first(struct raft *r, uint32_t count)
{
    r->reads_count -= count;
    memmove(r->reads, r->reads + count, r->reads_count * sizeof r->reads[0]);
}

void read_refuse(struct raft *r)
{
    for (uint32_t i = 0; i < r->reads_count; i++)
        answer(r, &r->reads[i], 0);
    r->reads_count = 0;
}

/* What waited an election timeout was lost on the way; who asked may ask again. */
void read_expire(struct raft *r)
{
    uint32_t n = 0;
    while (n < r->reads_count && r->now >= r->reads[n].asked_ns + r->o.election_ns)
        answer(r, &r->reads[n++], 0);
    if (n > 0) drop_first(r, n);
}

uint64_t read_deadline(const struct raft *r)
{
    return r->reads_count > 0 ? r->reads[0].asked_ns + r->o.election_ns : RAFT_NEVER;
}

static bool enqueue(struct raft *r, raft_id from, uint64_t context)
{
    if (r->reads_count + r->answer_count >= RAFT_READS_MAX) return false;
    r->reads[r->reads_count++] =
        (struct pending_read){.context = context, .asked_ns = r->now, .from = from};
    return true;
}

enum raft_verdict raft_read_index(struct raft *r, uint64_t context, uint64_t now_ns)
{
    if (now_ns > r->now) r->now = now_ns;
    if (r->leader == 0) return RAFT_NOT_LEADER;
    quiet_end(r, false); /* a follower's question wakes its leader */
    return enqueue(r, r->o.id, context) ? RAFT_OK : RAFT_WINDOW_FULL;
}

/* Before a ready: all reads asked since the last one share one round, or one message. */
void read_flush(struct raft *r)
{
    uint32_t first = r->reads_count;
    while (first > 0 && r->reads[first - 1].round == 0)
        first--;
    if (first == r->reads_count) return;
    if (r->role == RAFT_LEADER) {
        if (!own_term_committed(r)) return;
        round_begin(r);
        for (uint32_t i = first; i < r->reads_count; i++) {
            r->reads[i].round = r->round;
            r->reads[i].index = r->commit;
        }
        for (uint32_t i = 0; i < r->peer_count; i++)
            if (conf_is_voter(&r->conf, r->peers[i].id)) r->peers[i].beat_due = true;
        read_confirm(r); /* a sole voter needs nobody */
    } else if (r->leader != 0 && r->send_count < RAFT_READY_MAX) {
        if (++r->read_batch == 0) r->read_batch = 1; /* 0 means not sent */
        for (uint32_t i = first; i < r->reads_count; i++)
            r->reads[i].round = r->read_batch;
        raft_send(r, RAFT_READ, r->leader)->context = r->read_batch;
    }
}

void read_confirm(struct raft *r)
{
    if (r->reads_count == 0 || r->reads[0].round == 0) return;
    uint64_t confirmed = MUTANT(read_unconfirmed) ? r->round : conf_quorum(r, peer_round);
    uint32_t n = 0;
    for (; n < r->reads_count && r->reads[n].round != 0 && r->reads[n].round <= confirmed; n++)
        answer(r, &r->reads[n], r->reads[n].index);
    if (n > 0) drop_first(r, n);
}

/* A follower's batch of reads, forwarded to us: answered by the lease, or after a round as our own. */
enum raft_verdict read_asked(struct raft *r, const struct raft_msg *m)
{
    if (r->role == RAFT_LEADER && conf_peer(r, m->from) == NULL) return RAFT_STALE;
    if (r->role == RAFT_LEADER && lease_is_live(r, r->now) && own_term_committed(r)) {
        /* Asked before now, and now nobody else can have committed anything. */
        answer(r, &(struct pending_read){.context = m->context, .from = m->from}, r->commit);
        return RAFT_OK;
    }
    if (r->role == RAFT_LEADER && enqueue(r, m->from, m->context)) return RAFT_OK;
    struct raft_msg *reply = raft_reply(r, RAFT_READ_REPLY, m->from);
    reply->context = m->context;
    reply->reject = true;
    return r->role == RAFT_LEADER ? RAFT_WINDOW_FULL : RAFT_NOT_LEADER;
}

enum raft_verdict read_answered(struct raft *r, const struct raft_msg *m)
{
    if (r->role == RAFT_LEADER || m->from != r->leader || m->context == 0 ||
        (!m->reject && m->index == 0))
        return RAFT_STALE;
    uint32_t kept = 0;
    bool found = false;
    for (uint32_t i = 0; i < r->reads_count; i++) {
        if (r->reads[i].round == m->context) {
            answer(r, &r->reads[i], m->reject ? 0 : m->index);
            found = true;
        } else {
            r->reads[kept++] = r->reads[i];
        }
    }
    r->reads_count = kept;
    raft_commit_to(r, m->commit < r->verified ? m->commit : r->verified);
    return found ? RAFT_OK : RAFT_STALE;
}

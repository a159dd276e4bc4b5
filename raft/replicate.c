/* The leader's half of replication.
 *
 *   PROBE      where the peer's log agrees with ours is unknown: one message at a time
 *   REPLICATE  it agrees up to `match`: entries are streamed, `next` runs ahead
 *   SNAPSHOT   it needs entries that are compacted: the caller streams a snapshot
 *
 * A lost message shows as a gap (the peer rejects what follows) or, if nothing follows,
 * in the answer to the next heartbeat, which says how far the peer really got. */
#include "raft/internal.h"
#include <assert.h>

void peer_reset(struct raft *r, struct peer *p)
{
    raft_id id = p->id;
    enum ballot ballot = p->ballot;
    *p = (struct peer){.id = id, .ballot = ballot, .next = r->log.last + 1};
    p->heard_ns = r->now; /* as if: a full election timeout to answer */
}

void peer_probe(const struct raft *r, struct peer *p, bool paused)
{
    p->progress = PROGRESS_PROBE;
    p->next = p->match + 1;
    p->inflight = 0;
    p->paused = paused;
    p->probe_round = r->round;
    p->verify = true;
}

static raft_index min_index(raft_index a, raft_index b)
{
    return a < b ? a : b;
}

void replicate_commit(struct raft *r)
{
    raft_index reached = conf_quorum(r, peer_match);
    /* Only entries of our own term are committed by counting (5.4.2, figure 8). */
    if (reached <= r->commit) return;
    if (runs_term(&r->log, reached) != r->term && !MUTANT(commit_old_term)) return;
    raft_commit_to(r, reached);
    /* The next append tells the followers; if there is none, a notice soon after does. */
    if (r->notice_at == RAFT_NEVER) r->notice_at = r->now + r->o.heartbeat_ns / 8;
}

void replicate_tick(struct raft *r)
{
    if (r->quiet) return;
    if (r->resting && !quiet_is_sound(r)) quiet_end(r, false);
    for (uint32_t i = 0; i < r->peer_count; i++)
        if (r->now >= r->peers[i].sent_ns + r->o.heartbeat_ns) r->peers[i].beat_due = true;
    if (r->now >= r->notice_at) {
        r->notice_due = true;
        r->notice_at = RAFT_NEVER;
    }
}

uint64_t replicate_deadline(const struct raft *r)
{
    uint64_t at = r->notice_at;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        uint64_t beat = r->peers[i].sent_ns + r->o.heartbeat_ns;
        if (r->peers[i].id != r->o.id && beat < at) at = beat;
    }
    if (r->transferee != 0 && r->transfer_until < at) at = r->transfer_until;
    uint64_t heard = conf_quorum(r, peer_heard);
    if (r->o.check_quorum && heard != RAFT_NEVER && heard + r->o.election_ns < at)
        at = heard + r->o.election_ns;
    return at;
}

static void send_beat(struct raft *r, struct peer *p, bool answered)
{
    struct raft_msg *m = raft_send(r, RAFT_HEARTBEAT, p->id);
    m->commit = min_index(r->commit, p->match);
    p->commit_told = m->commit;
    if (!answered) return;
    m->context = r->round;
    m->quiet = r->resting;
    p->beat_due = false;
    p->beat_round = r->round;
    p->beat_last = p->progress == PROGRESS_REPLICATE ? p->next - 1 : p->match;
    p->inflight_after_beat = 0;
    p->sent_ns = r->now;
}

/* The peer lacks entries we no longer hold. No snapshot is made for one that is gone. */
static void send_snapshot(struct raft *r, struct peer *p)
{
    if (p->acked_round == 0 || r->now - p->heard_ns > r->o.election_ns) return;
    struct raft_msg *m = raft_send(r, RAFT_SNAPSHOT, p->id);
    m->index = r->log.base;
    m->index_term = r->log.base_term;
    m->commit = r->commit;
    m->context = r->round;
    p->progress = PROGRESS_SNAPSHOT;
    p->next = r->log.base + 1;
    p->inflight = 0;
    raft_trace(r, "snapshot", p->id, m->index);
}

static bool may_append(const struct raft *r, const struct peer *p)
{
    switch (p->progress) {
    case PROGRESS_PROBE: return !p->paused && (p->next <= r->log.last || p->verify);
    case PROGRESS_REPLICATE:
        return p->next <= r->log.last && p->inflight < RAFT_INFLIGHT_MAX &&
               p->next - 1 - p->match < r->o.window_entries;
    case PROGRESS_SNAPSHOT: return false;
    }
    return false;
}

static void send_append(struct raft *r, struct peer *p)
{
    uint64_t want = r->log.last + 1 - p->next;
    uint64_t window = r->o.window_entries - (p->next - 1 - p->match);
    if (p->progress == PROGRESS_REPLICATE && window < want) want = window;
    if (want > r->o.batch_entries) want = r->o.batch_entries;
    assert(r->run_pool_used + RUNS_PER_MSG <= sizeof r->run_pool / sizeof r->run_pool[0]);

    struct raft_msg *m = raft_send(r, RAFT_APPEND, p->id);
    struct raft_run *runs = &r->run_pool[r->run_pool_used];
    m->index = p->next - 1;
    m->index_term = runs_term(&r->log, m->index);
    m->commit = r->commit;
    m->context = r->round;
    m->entry_count =
        runs_slice(&r->log, p->next, (uint32_t)want, runs, RUNS_PER_MSG, &m->run_count);
    m->runs = runs;
    r->run_pool_used += m->run_count;

    p->commit_told = min_index(r->commit, m->index + m->entry_count);
    p->beat_due = false; /* it carries the round as well */
    p->sent_ns = r->now;
    if (p->progress == PROGRESS_REPLICATE) {
        p->next += m->entry_count;
        p->inflight++;
        p->inflight_after_beat++;
    } else {
        p->paused = true;
        p->probe_round = r->round;
        p->verify = false;
    }
}

/* Before a ready: appends are made here, not when proposed, so that whatever was proposed
 * in one turn travels together. At most one per peer: see raft_sent(). */
void replicate_send(struct raft *r)
{
    /* A round lasts a fraction of a heartbeat, so that answered appends renew the lease. */
    if (r->now >= r->round_at + r->o.heartbeat_ns / 16) round_begin(r);
    for (uint32_t i = 0; i < r->peer_count; i++) {
        struct peer *p = &r->peers[i];
        if (p->id == r->o.id) continue;
        if (r->send_count + 2 > RAFT_READY_MAX) return; /* the rest with the next ready */
        if (may_append(r, p)) {
            if (p->next > r->log.base)
                send_append(r, p);
            else
                send_snapshot(r, p);
        }
        if (p->beat_due)
            send_beat(r, p, true);
        else if (r->notice_due && p->progress == PROGRESS_REPLICATE &&
                 p->commit_told < min_index(r->commit, p->match))
            send_beat(r, p, false);
    }
    r->notice_due = false;
}

void replicate_farewell(struct raft *r)
{
    for (uint32_t i = 0; i < r->peer_count; i++)
        if (r->peers[i].id != r->o.id) send_beat(r, &r->peers[i], false);
    elect_hand_over(r);
}

static void acked(struct raft *r, struct peer *p, raft_index index)
{
    if (index > p->match) p->match = index;
    if (p->next <= p->match) p->next = p->match + 1;
    switch (p->progress) {
    case PROGRESS_SNAPSHOT:
        if (p->match < r->log.base) return;
        peer_probe(r, p, false);
        return;
    case PROGRESS_PROBE:
    case PROGRESS_REPLICATE: return;
    }
}

static enum raft_verdict append_rejected(struct raft *r, struct peer *p, const struct raft_msg *m)
{
    raft_index refused = m->commit;
    switch (p->progress) {
    case PROGRESS_SNAPSHOT: return RAFT_STALE;
    case PROGRESS_REPLICATE:
        if (refused <= p->match || refused >= p->next) return RAFT_STALE;
        peer_probe(r, p, false);
        return RAFT_OK;
    case PROGRESS_PROBE: break;
    }
    if (refused + 1 != p->next || refused <= p->match) return RAFT_STALE;
    /* Skip whole terms at a time (5.3): the peer named the last place where its log could
     * agree with `refused`; go back to where ours could agree with that. */
    raft_index agree = runs_back_up(&r->log, min_index(m->index, refused - 1), m->index_term);
    p->next = (agree > p->match ? agree : p->match) + 1;
    p->paused = false;
    p->verify = true;
    return RAFT_OK;
}

static void append_accepted(struct raft *r, struct peer *p, const struct raft_msg *m)
{
    acked(r, p, m->index);
    if (p->progress == PROGRESS_PROBE && m->index + 1 >= p->next) {
        p->progress = PROGRESS_REPLICATE;
        p->next = p->match + 1;
        p->inflight = 0;
        p->verify = false;
    } else if (p->inflight > 0) {
        p->inflight = p->match + 1 == p->next ? 0 : p->inflight - 1;
    }
}

static void heartbeat_answered(struct raft *r, struct peer *p, const struct raft_msg *m)
{
    acked(r, p, m->index);
    switch (p->progress) {
    case PROGRESS_SNAPSHOT: return;
    case PROGRESS_PROBE:
        if (!p->paused || m->context <= p->probe_round) return;
        p->paused = false; /* heard since, so the probe or its answer was lost */
        p->verify = true;
        return;
    case PROGRESS_REPLICATE:
        if (m->context != p->beat_round) return;
        if (m->commit < p->beat_last) /* what was sent before was lost, or forgotten in a restart */
            peer_probe(r, p, false);
        else if (p->inflight > p->inflight_after_beat)
            p->inflight = p->inflight_after_beat;
        return;
    }
}

/* APPEND_REPLY, HEARTBEAT_REPLY, SNAPSHOT_REPLY of our term. */
enum raft_verdict replicate_answered(struct raft *r, const struct raft_msg *m)
{
    struct peer *p = conf_peer(r, m->from);
    if (r->role != RAFT_LEADER || p == NULL || m->index > r->log.last || m->context > r->round)
        return RAFT_STALE;
    p->heard_ns = r->now;
    round_acked(r, p, m->context);
    enum raft_verdict verdict = RAFT_OK;
    if (m->type == RAFT_APPEND_REPLY) {
        if (m->reject)
            verdict = append_rejected(r, p, m);
        else
            append_accepted(r, p, m);
    } else if (m->type == RAFT_HEARTBEAT_REPLY) {
        heartbeat_answered(r, p, m);
    } else if (m->reject) {
        if (p->progress == PROGRESS_SNAPSHOT) peer_probe(r, p, true);
    } else {
        acked(r, p, m->index);
    }
    replicate_commit(r);
    read_confirm(r);
    elect_transfer_step(r);
    if (m->type == RAFT_HEARTBEAT_REPLY) quiet_answered(r, p, m);
    return verdict;
}

void raft_sent(struct raft *r, raft_id peer, raft_index first, uint32_t sent)
{
    struct peer *p = conf_peer(r, peer);
    if (r->role != RAFT_LEADER || p == NULL || p->progress != PROGRESS_REPLICATE) return;
    if (first + sent > p->match && first + sent < p->next) p->next = first + sent;
}

void raft_unreachable(struct raft *r, raft_id peer)
{
    struct peer *p = conf_peer(r, peer);
    if (r->role != RAFT_LEADER || p == NULL || p->id == r->o.id) return;
    quiet_end(r, false);
    if (p->progress == PROGRESS_REPLICATE) peer_probe(r, p, true);
}

void raft_snapshot_done(struct raft *r, raft_id peer, bool ok)
{
    struct peer *p = conf_peer(r, peer);
    if (r->role != RAFT_LEADER || p == NULL || p->progress != PROGRESS_SNAPSHOT) return;
    raft_index next = p->next; /* behind the snapshot we asked for */
    peer_probe(r, p, !ok);     /* failed: begin again when the peer is heard */
    if (ok && next > p->next) p->next = next;
}

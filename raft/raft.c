/* The frame around the algorithm: what goes in (tick, step, propose), what comes out
 * (ready, advance) and what was made of it (durable, applied).
 *
 * Several readies may be awaiting their sync at once, so a truncation can come between
 * a ready that wrote an index and the news that it is durable. What such a ready is then
 * worth ends before the truncation: crediting more would acknowledge an entry that a
 * later ready, still unsynced, has put in its place (R18). */
#include "raft/internal.h"
#include <assert.h>
#include <stddef.h>
#include <string.h>

static_assert(sizeof(struct raft) < 24 * 1024, "thousands of groups live on one node");
enum { CACHE_LINE_BYTES = 64 };

const char *raft_options_fault(const struct raft_options *o)
{
    if (o->id == 0) return "the replica id must not be 0";
    if (o->election_ns == 0 || o->election_ns > RAFT_LIMIT / 4)
        return "the election timeout is out of range";
    if (o->heartbeat_ns == 0 || o->heartbeat_ns >= o->election_ns / 3)
        return "the heartbeat interval must be below a third of the election timeout";
    if (o->lease_ns > o->election_ns) return "the lease must not exceed the election timeout";
    if (o->drift_ppm > 100000) return "the clock drift bound must be at most 100000 ppm";
    if (o->window_entries == 0 || o->window_entries > RAFT_WINDOW_MAX)
        return "the window is out of range";
    if (o->batch_entries == 0 || o->batch_entries > RAFT_WINDOW_MAX)
        return "the batch is out of range";
    return NULL;
}

const char *raft_boot_fault(const struct raft_boot *b)
{
    raft_index last = b->snapshot_index;
    raft_term term = b->snapshot_term;
    if ((last == 0) != (term == 0)) return "the compaction point has an index or a term, not both";
    for (uint32_t i = 0; i < b->run_count; i++) {
        if (b->runs[i].count == 0) continue;
        if (b->runs[i].term < term || b->runs[i].term == 0) return "the terms of the log fall";
        term = b->runs[i].term;
        last += b->runs[i].count;
    }
    if (term > b->hard.term) return "the log holds entries of a term that has not begun";
    if (b->applied < b->snapshot_index || b->applied > last)
        return "what is applied is not in the log";
    if (b->owed_index != 0 && last != 0) return "it waits for a snapshot and has a log";
    return raft_conf_is_valid(&b->conf) ? NULL : "the configuration is not valid";
}

size_t raft_memory(void)
{
    return sizeof(struct raft);
}

struct raft *raft_init(void *memory, const struct raft_options *o, const struct raft_boot *b,
                       uint64_t now_ns)
{
    assert(raft_options_fault(o) == NULL);
    assert(raft_boot_fault(b) == NULL);
    struct raft *r = memory;
    memset(r, 0, sizeof *r);
    r->o = *o;
    r->now = now_ns;
    r->random = o->seed ^ ((uint64_t)o->id << 32) ^ now_ns;
    r->term = r->durable_term = b->hard.term;
    r->vote = b->hard.vote;
    r->owed_index = b->owed_index;
    r->owed_term = b->owed_term;
    r->notice_at = RAFT_NEVER;

    runs_init(&r->log, b->snapshot_index, b->snapshot_term);
    r->commit = b->hard.commit > b->applied ? b->hard.commit : b->applied;
    for (uint32_t i = 0; i < b->run_count; i++) {
        if (b->runs[i].count == 0) continue;
        if (runs_append(&r->log, &b->runs[i])) continue;
        runs_fold(&r->log, r->commit < r->log.last ? r->commit : r->log.last, 1);
        bool fits = runs_append(&r->log, &b->runs[i]);
        assert(fits); /* or the core has written more runs than it keeps */
    }
    if (r->commit > r->log.last) r->commit = r->log.last;
    /* A configuration is proposed only once the one before was applied: of two unapplied
     * ones the first is committed, even if the commit index did not reach the disk. */
    raft_index newest = runs_conf_last(&r->log, b->applied, r->log.last);
    raft_index before = newest == 0 ? 0 : runs_conf_last(&r->log, b->applied, newest - 1);
    if (before > r->commit) r->commit = before;
    r->applied = r->applying = b->applied;
    r->durable = r->log.last;
    r->verified = r->commit;

    conf_install(r, &b->conf);
    elect_timer(r);
    r->read_batch = raft_random(r); /* answers to questions of an earlier life must not fit */
    r->busy_ns = now_ns;
    if (!b->fresh) r->promise_until = now_ns + o->lease_ns;
    r->role_dirty = true;
    return r;
}

void raft_trace(const struct raft *r, const char *event, uint64_t a, uint64_t b)
{
    if (r->o.trace != NULL) r->o.trace(r->o.trace_context, event, a, b);
}

void raft_commit_to(struct raft *r, raft_index index)
{
    if (index <= r->commit) return;
    assert(index <= r->log.last);
    r->commit = index;
    raft_trace(r, "commit", index, r->term);
}

/* ---- out ------------------------------------------------------------------- */

static struct raft_msg *fill(struct raft *r, struct raft_msg *m, enum raft_msg_type type,
                             raft_id to)
{
    *m = (struct raft_msg){.type = type, .from = r->o.id, .to = to, .term = r->term};
    return m;
}

static struct raft_msg *spill(struct raft *r, enum raft_msg_type type, raft_id to)
{
    raft_trace(r, "drop", type, to); /* as a network may; every message is repeated or asked anew */
    return fill(r, &r->spill, type, to);
}

struct raft_msg *raft_send(struct raft *r, enum raft_msg_type type, raft_id to)
{
    if (r->send_count == RAFT_READY_MAX) return spill(r, type, to);
    return fill(r, &r->send[r->send_count++], type, to);
}

struct raft_msg *raft_send_durable(struct raft *r, enum raft_msg_type type, raft_id to)
{
    if (r->send_durable_count == DURABLE_QUEUE_MAX) return spill(r, type, to);
    return fill(r, &r->send_durable[r->send_durable_count++], type, to);
}

bool raft_unwritten(const struct raft *r)
{
    return r->hard_dirty || r->truncate_from != 0 || r->append_count > 0;
}

static bool hard_is_unsynced(const struct raft *r)
{
    return r->hard_sequence > r->durable_sequence;
}

struct raft_msg *raft_reply(struct raft *r, enum raft_msg_type type, raft_id to)
{
    if (r->hard_dirty) return raft_send_durable(r, type, to);
    if (!hard_is_unsynced(r)) return raft_send(r, type, to);
    if (r->held_count == HELD_MAX) return spill(r, type, to);
    return fill(r, &r->held[r->held_count++], type, to);
}

struct raft_msg *raft_reply_log(struct raft *r, enum raft_msg_type type, raft_id to, bool *waits)
{
    *waits = raft_unwritten(r) && !MUTANT(ack_before_sync);
    return *waits ? raft_send_durable(r, type, to) : raft_reply(r, type, to);
}

static void release_held(struct raft *r)
{
    for (uint32_t i = 0; i < r->held_count; i++)
        *raft_send(r, r->held[i].type, r->held[i].to) = r->held[i];
    r->held_count = 0;
}

void raft_log_truncate(struct raft *r, raft_index from)
{
    assert(from > r->commit && from <= r->log.last);
    raft_trace(r, "truncate", from, r->log.last);
    runs_truncate(&r->log, from);
    if (r->verified >= from) r->verified = from - 1;
    if (r->durable >= from) r->durable = from - 1;
    for (uint32_t i = 0; i < r->unsynced_count; i++)
        if (r->unsynced[i].last >= from && !MUTANT(credit_across_truncation)) r->unsynced[i].last = from - 1;
    /* What was never handed out needs no truncation. */
    raft_index handed_out = r->append_count > 0 ? r->append_first - 1 : RAFT_NEVER;
    if (r->append_count > 0 && from > r->append_first) {
        r->append_count = (uint32_t)(from - r->append_first);
        return;
    }
    r->append_count = 0;
    if (MUTANT(truncation_dropped)) return;
    if (from <= handed_out && (r->truncate_from == 0 || from < r->truncate_from))
        r->truncate_from = from;
}

void raft_log_appended(struct raft *r, raft_index first)
{
    if (r->append_count == 0) r->append_first = first;
    r->append_count = (uint32_t)(r->log.last + 1 - r->append_first);
}

bool raft_ready(struct raft *r, struct raft_ready *out)
{
    if (r->taken) {
        *out = r->out;
        return true;
    }
    read_flush(r);
    if (r->role == RAFT_LEADER) replicate_send(r);
    /* What it was to wait for is gone (truncated again): the hard state once more serves. */
    bool anchor = r->send_durable_count > 0 && !raft_unwritten(r);
    bool must_sync = raft_unwritten(r) || anchor;
    if (!must_sync && r->send_count == 0 && r->send_durable_count == 0 && r->commit <= r->applying && r->answer_count == 0 &&
        !r->role_dirty)
        return false;

    r->sequence++;
    r->out = (struct raft_ready){
        .sequence = r->sequence,
        .hard_changed = r->hard_dirty || anchor,
        .hard = {r->term, r->vote, r->commit},
        .truncate_from = r->truncate_from,
        .append_first = r->append_count > 0 ? r->append_first : 0,
        .append_count = r->append_count,
        .must_sync = must_sync,
        .send = r->send,
        .send_count = r->send_count,
        .send_durable = r->send_durable,
        .send_durable_count = r->send_durable_count,
        .apply_first = r->commit > r->applying ? r->applying + 1 : 0,
        .apply_last = r->commit > r->applying ? r->commit : 0,
        .reads = r->answers,
        .read_count = r->answer_count,
        .role_changed = r->role_dirty,
        .role = r->role,
        .leader = r->leader,
    };
    if (must_sync) {
        if (r->hard_dirty) r->hard_sequence = r->sequence;
        if (r->unsynced_count == UNSYNCED_MAX)
            r->unsynced_count--; /* the last two become one */
        else
            r->unsynced[r->unsynced_count] = (struct unsynced){0};
        struct unsynced *u = &r->unsynced[r->unsynced_count++];
        u->sequence = r->sequence;
        if (r->append_count > 0) u->last = r->append_first + r->append_count - 1;
        if (r->out.hard_changed) u->term = r->term;
    }
    r->hard_dirty = r->role_dirty = false;
    r->truncate_from = r->append_first = 0;
    r->append_count = 0;
    r->applying = r->commit;
    r->taken = true;
    *out = r->out;
    return true;
}

static inline __attribute__((always_inline)) void prefetch(const void *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += CACHE_LINE_BYTES) __builtin_prefetch((const char *)from + i, 1);
}

void raft_prefetch(const struct raft *r, uint32_t peers)
{
    prefetch(r, offsetof(struct raft, log.spans));
    prefetch(&r->conf, sizeof r->conf.voter_count);
    prefetch(&r->unsynced[0], sizeof r->unsynced[0]);
    prefetch(r->peers, peers * sizeof r->peers[0]);
}

void raft_prefetch_propose(const struct raft *r)
{
    prefetch(&r->now, offsetof(struct raft, send_count) - offsetof(struct raft, now));
    prefetch(&r->log.last, sizeof r->log.last);
}

void raft_advance(struct raft *r)
{
    assert(r->taken);
    r->taken = false;
    r->send_count -= r->out.send_count;
    memmove(r->send, r->send + r->out.send_count, r->send_count * sizeof r->send[0]);
    r->send_durable_count -= r->out.send_durable_count;
    memmove(r->send_durable, r->send_durable + r->out.send_durable_count,
            r->send_durable_count * sizeof r->send_durable[0]);
    r->answer_count -= r->out.read_count;
    memmove(r->answers, r->answers + r->out.read_count, r->answer_count * sizeof r->answers[0]);
    r->run_pool_used = 0;
}

/* ---- what became of it ------------------------------------------------------ */

void raft_durable(struct raft *r, uint64_t sequence)
{
    assert(sequence <= r->sequence);
    uint32_t done = 0;
    for (; done < r->unsynced_count && r->unsynced[done].sequence <= sequence; done++) {
        const struct unsynced *u = &r->unsynced[done];
        if (u->last > r->durable) r->durable = u->last;
        if (u->term > r->durable_term) r->durable_term = u->term;
    }
    if (sequence > r->durable_sequence) r->durable_sequence = sequence;
    if (!hard_is_unsynced(r)) release_held(r);
    if (done == 0) return;
    r->unsynced_count -= done;
    memmove(r->unsynced, r->unsynced + done, r->unsynced_count * sizeof r->unsynced[0]);
    if (r->role == RAFT_LEADER)
        replicate_commit(r);
    else if (r->role == RAFT_CANDIDATE)
        elect_tally(r); /* our own vote counts from here on */
}

void raft_applied(struct raft *r, raft_index index)
{
    assert(index <= r->applying);
    if (index <= r->applied) return;
    r->applied = index;
    elect_resume(r);
}

void raft_compacted(struct raft *r, raft_index index)
{
    assert(index <= r->applied);
    if (index > r->log.base) runs_compact(&r->log, index);
}

/* ---- in --------------------------------------------------------------------- */

void raft_tick(struct raft *r, uint64_t now_ns)
{
    if (now_ns > r->now) r->now = now_ns;
    elect_tick(r);
    if (r->role == RAFT_LEADER) replicate_tick(r);
    read_expire(r);
}

uint64_t raft_deadline(const struct raft *r)
{
    uint64_t at = read_deadline(r), other = RAFT_NEVER;
    if (r->quiet) return at;
    if (r->role == RAFT_LEADER)
        other = replicate_deadline(r);
    else if (conf_is_voter(&r->conf, r->o.id) && !r->yielded &&
             !(r->role == RAFT_CANDIDATE && conf_is_sole(&r->conf, r->o.id)))
        other = r->elect_at;
    return other < at ? other : at;
}

enum raft_verdict raft_propose(struct raft *r, uint32_t count, bool is_conf, raft_index *first,
                               uint64_t now_ns)
{
    assert(count > 0 && (!is_conf || count == 1));
    if (now_ns > r->now) r->now = now_ns;
    if (r->role != RAFT_LEADER) return RAFT_NOT_LEADER;
    if (r->transferee != 0) return RAFT_WINDOW_FULL; /* or the transferee would never catch up */
    if (r->log.last - r->commit + count > RAFT_UNCOMMITTED_MAX) return RAFT_WINDOW_FULL;
    if (is_conf && conf_is_pending(r)) return RAFT_CONF_PENDING;
    runs_fold(&r->log, r->commit, 1);
    struct raft_run run = {r->term, count, is_conf};
    raft_index at = r->log.last + 1;
    if (!runs_append(&r->log, &run)) return RAFT_WINDOW_FULL;
    raft_log_appended(r, at);
    quiet_end(r, false);
    if (first != NULL) *first = at;
    return RAFT_OK;
}

/* The sender is behind: it learns our term, and with it that its own is over. */
static enum raft_verdict step_outdated(struct raft *r, const struct raft_msg *m)
{
    struct raft_msg *reply = NULL;
    switch (m->type) {
    case RAFT_APPEND:
    case RAFT_SNAPSHOT: reply = raft_reply(r, RAFT_APPEND_REPLY, m->from); break;
    case RAFT_HEARTBEAT: reply = raft_reply(r, RAFT_HEARTBEAT_REPLY, m->from); break;
    case RAFT_PREVOTE: reply = raft_reply(r, RAFT_PREVOTE_REPLY, m->from); break;
    case RAFT_VOTE: reply = raft_reply(r, RAFT_VOTE_REPLY, m->from); break;
    case RAFT_READ: reply = raft_reply(r, RAFT_READ_REPLY, m->from); break;
    case RAFT_PREVOTE_REPLY:
    case RAFT_VOTE_REPLY:
    case RAFT_APPEND_REPLY:
    case RAFT_SNAPSHOT_REPLY:
    case RAFT_HEARTBEAT_REPLY:
    case RAFT_TIMEOUT_NOW:
    case RAFT_READ_REPLY: break;
    }
    if (reply == NULL) return RAFT_STALE;
    reply->reject = true;
    reply->context = m->context;
    return RAFT_STALE;
}

/* The leader of our term was heard: promise it a lease. */
static bool heard_leader(struct raft *r, raft_id from)
{
    if (r->role == RAFT_LEADER || (r->leader != 0 && r->leader != from)) return false;
    if (r->role != RAFT_FOLLOWER || r->leader != from) elect_follow(r, r->term, from);
    r->elect_at = r->now + r->timeout;
    if (r->now + r->o.lease_ns > r->promise_until) r->promise_until = r->now + r->o.lease_ns;
    return true;
}

enum raft_verdict raft_step(struct raft *r, const struct raft_msg *m, uint64_t now_ns)
{
    if (now_ns > r->now) r->now = now_ns;
    if (!follow_is_sane(m) || m->to != r->o.id || m->from == r->o.id) return RAFT_STALE;
    if (m->type == RAFT_PREVOTE || m->type == RAFT_VOTE) {
        enum raft_verdict verdict = m->term < r->term ? step_outdated(r, m) : elect_asked(r, m);
        quiet_step(r, m); /* afterwards: a quiet group does not change its leader for the first who asks */
        return verdict;
    }
    quiet_step(r, m);
    if (m->term < r->term) return step_outdated(r, m);
    if (m->term > r->term && (m->type != RAFT_PREVOTE_REPLY || m->reject))
        elect_follow(r, m->term, 0);

    switch (m->type) {
    case RAFT_PREVOTE:
    case RAFT_VOTE: break; /* above */
    case RAFT_PREVOTE_REPLY:
    case RAFT_VOTE_REPLY: return elect_answered(r, m);
    case RAFT_APPEND: return heard_leader(r, m->from) ? follow_append(r, m) : RAFT_STALE;
    case RAFT_HEARTBEAT: return heard_leader(r, m->from) ? follow_heartbeat(r, m) : RAFT_STALE;
    case RAFT_SNAPSHOT: return heard_leader(r, m->from) ? follow_snapshot(r, m) : RAFT_STALE;
    case RAFT_APPEND_REPLY:
    case RAFT_HEARTBEAT_REPLY:
    case RAFT_SNAPSHOT_REPLY: return replicate_answered(r, m);
    case RAFT_TIMEOUT_NOW: return elect_timeout_now(r, m);
    case RAFT_READ: return read_asked(r, m);
    case RAFT_READ_REPLY: return read_answered(r, m);
    }
    return RAFT_STALE;
}

/* ---- questions --------------------------------------------------------------- */

void raft_status(const struct raft *r, uint64_t now_ns, struct raft_status *out)
{
    *out = (struct raft_status){
        .role = r->role,
        .id = r->o.id,
        .leader = r->leader,
        .vote = r->vote,
        .term = r->term,
        .commit = r->commit,
        .applied = r->applied,
        .last = r->log.last,
        .compacted = r->log.base,
        .lease_held = raft_lease_held(r, now_ns),
        .transferring = r->transferee != 0,
        .conf_pending = conf_is_pending(r),
        .quiet = r->quiet,
        .conf = r->conf,
    };
    if (r->role != RAFT_LEADER) return;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct peer *p = &r->peers[i];
        bool self = p->id == r->o.id;
        out->peers[out->peer_count++] = (struct raft_peer_status){
            .id = p->id,
            .voter = conf_is_voter(&r->conf, p->id),
            .learner = conf_is_learner(&r->conf, p->id),
            .active = self || r->quiet || now_ns < p->heard_ns + r->o.election_ns,
            .snapshot = p->progress == PROGRESS_SNAPSHOT,
            .match = peer_match(r, p),
            .next = self ? r->log.last + 1 : p->next,
            .heard_ns = self ? now_ns : p->heard_ns,
        };
    }
}

raft_term raft_term_now(const struct raft *r)
{
    return r->term;
}

enum raft_role raft_role_now(const struct raft *r)
{
    return r->role;
}

raft_index raft_owed_now(const struct raft *r)
{
    return r->owed_index;
}

raft_id raft_leader_now(const struct raft *r)
{
    return r->leader;
}

const char *raft_role_text(enum raft_role role)
{
    switch (role) {
    case RAFT_FOLLOWER: return "follower";
    case RAFT_PRECANDIDATE: return "precandidate";
    case RAFT_CANDIDATE: return "candidate";
    case RAFT_LEADER: return "leader";
    }
    return "?";
}

const char *raft_msg_text(enum raft_msg_type type)
{
    static const char *const text[] = {
        "PREVOTE", "PREVOTE_REPLY", "VOTE", "VOTE_REPLY", "APPEND",
        "APPEND_REPLY", "SNAPSHOT", "SNAPSHOT_REPLY", "HEARTBEAT", "HEARTBEAT_REPLY",
        "TIMEOUT_NOW", "READ", "READ_REPLY"};
    return (unsigned)type <= RAFT_READ_REPLY ? text[type] : "?";
}

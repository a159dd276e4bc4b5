/* Groups with nothing to do send nothing (R13).
 *
 * A leader whose members hold, know to be committed and have applied all that it has asks them with a heartbeat to be
 * quiet. Who agrees stops its timers; once all have agreed so does the leader, until then it goes on as before.
 * (1) Only liveness rests on it. A quiet leader has no lease but the one that runs out by the clock, and a vote is given
 *     for the same reasons as ever.
 * (2) A quiet replica lacks nothing, so that nothing has to be sent to it.
 * (3) Whatever is done to a quiet replica wakes it. A follower woken by anybody but its leader tells that, whose
 *     heartbeats then wake all, or stay away, and there is an election.
 * (4) Who is quiet hears no leader die: the owner hears nodes, and says which are gone. */
#include "raft/internal.h"
#include <assert.h>

/* All that it has is on its disk, committed and applied, and nothing waits. */
static bool is_settled(const struct raft *r)
{
    raft_index last = r->log.last;
    return r->commit == last && r->applied == last && r->durable == last && !raft_unwritten(r) &&
           r->durable_sequence >= r->hard_sequence && r->unsynced_count == 0 && r->reads_count == 0 &&
           r->conf.old_count == 0 && r->conf.learner_count == 0;
}

static bool all_hold_all(const struct raft *r)
{
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct peer *p = &r->peers[i];
        if (p->id == r->o.id) continue;
        if (p->progress != PROGRESS_REPLICATE || p->match != r->log.last || p->inflight > 0) return false;
        if (!r->quiet && r->now >= p->heard_ns + r->o.election_ns) return false;
    }
    return true;
}

bool quiet_is_sound(const struct raft *r)
{
    if (r->o.quiet_ns == 0 || !is_settled(r)) return false;
    if (r->role != RAFT_LEADER) return r->leader != 0 && r->verified == r->log.last && conf_is_voter(&r->conf, r->o.id);
    return r->commit > r->inherited && r->transferee == 0 && all_hold_all(r);
}

static void become_quiet(struct raft *r)
{
    r->quiet = true;
    r->resting = false;
    r->notice_at = RAFT_NEVER;
    r->notice_due = false;
    for (uint32_t i = 0; i < r->peer_count; i++) r->peers[i].beat_due = false;
    raft_trace(r, "quiet", r->log.last, r->term);
}

/* A leader: all were heard in one round, and agreed. */
static void try_quiet(struct raft *r)
{
    for (uint32_t i = 0; i < r->peer_count; i++)
        if (r->peers[i].id != r->o.id && !r->peers[i].agreed) return;
    if (quiet_is_sound(r)) become_quiet(r);
    else quiet_end(r, false);
}

void raft_rest(struct raft *r, uint64_t now_ns)
{
    if (now_ns > r->now) r->now = now_ns;
    if (r->role != RAFT_LEADER || r->quiet || r->resting || r->now < r->busy_ns + r->o.quiet_ns || !quiet_is_sound(r))
        return;
    r->resting = true;
    round_begin(r);
    r->rest_round = r->round;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        r->peers[i].agreed = false;
        r->peers[i].beat_due = true;
    }
    try_quiet(r); /* alone there is nobody to ask */
}

bool quiet_agree(struct raft *r, const struct raft_msg *m)
{
    bool sound = quiet_is_sound(r) && m->commit == r->log.last && !r->yielded;
    if (sound && !r->quiet) become_quiet(r);
    else if (!sound) quiet_end(r, false);
    return sound;
}

void quiet_answered(struct raft *r, struct peer *p, const struct raft_msg *m)
{
    if (!r->resting || m->context < r->rest_round) return;
    p->agreed = m->quiet;
    if (m->quiet) try_quiet(r);
    else quiet_end(r, false); /* asked again after a while; those who agreed are woken by the next heartbeat */
}

void quiet_end(struct raft *r, bool tell)
{
    r->busy_ns = r->now;
    r->resting = false;
    if (!r->quiet) return;
    r->quiet = false;
    raft_trace(r, "woken", r->log.last, r->term);
    if (r->role == RAFT_LEADER) {
        for (uint32_t i = 0; i < r->peer_count; i++) {
            r->peers[i].heard_ns = r->now; /* as if: a full election timeout to answer */
            r->peers[i].beat_due = true;
        }
        return;
    }
    elect_timer(r);
    if (!tell || r->leader == 0) return;
    struct raft_msg *m = raft_send(r, RAFT_HEARTBEAT_REPLY, r->leader);
    m->index = m->commit = r->log.last;
}

/* Heartbeats are no business, nor are the answers that were asked for. */
void quiet_step(struct raft *r, const struct raft_msg *m)
{
    bool is_ours = m->term == r->term;
    if (is_ours && m->type == RAFT_HEARTBEAT && m->quiet) return;
    if (is_ours && m->type == RAFT_HEARTBEAT_REPLY && (m->quiet || (!r->quiet && m->context != 0))) return;
    quiet_end(r, m->from != r->leader);
}

void raft_wake(struct raft *r, uint64_t now_ns)
{
    if (now_ns > r->now) r->now = now_ns;
    quiet_end(r, true);
}

bool raft_is_quiet(const struct raft *r)
{
    return r->quiet;
}

bool raft_beat(struct raft *r, uint64_t now_ns)
{
    bool any = false;
    if (now_ns > r->now) r->now = now_ns;
    if (r->role != RAFT_LEADER || r->quiet) return false;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        struct peer *p = &r->peers[i];
        if (p->id != r->o.id && r->now >= p->sent_ns + r->o.heartbeat_ns / 4) p->beat_due = true;
        any |= p->id != r->o.id && p->beat_due;
    }
    return any;
}

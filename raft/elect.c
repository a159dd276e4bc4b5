/* Roles, timers and votes.
 * (1) A replica votes once a term, and its own vote counts only once it is durable.
 * (2) Until its promise to a leader ran out on its own clock it grants neither vote nor
 *     pre-vote, and does not even learn the term of who asks; only a VOTE flagged
 *     `transfer` overrides that, since the old leader gave up its lease before (R2).
 * (3) After a restart it does not know what it promised: it keeps silent for a lease.
 *     Even a sole voter: it may be the only one left of a configuration whose leader, not
 *     yet aware that it was removed, still reads by the lease promised to it.
 * (4) With a committed configuration not yet applied it does not campaign (R18).
 * (5) A quiet replica does not help to replace its leader at the first question: it wakes and looks for itself.
 * (6) One whose log was given up for a snapshot that did not become whole votes by that
 *     snapshot: what it acknowledged lies below it, or can never be committed. */
#include "raft/internal.h"
#include <assert.h>

uint64_t raft_random(struct raft *r) /* splitmix64 */
{
    uint64_t z = r->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void elect_timer(struct raft *r)
{
    r->timeout = r->o.election_ns + raft_random(r) % r->o.election_ns;
    r->elect_at = conf_is_sole(&r->conf, r->o.id) ? r->now : r->now + r->timeout;
}

static bool may_campaign(const struct raft *r)
{
    return conf_is_voter(&r->conf, r->o.id) && !r->yielded && r->owed_index == 0 &&
           r->term < RAFT_LIMIT - 1 && runs_conf_last(&r->log, r->applied, r->commit) == 0;
}

static void new_term(struct raft *r, raft_term term)
{
    assert(term > r->term);
    r->term = term;
    r->vote = 0;
    r->hard_dirty = true;
    r->role_dirty = true;
    r->verified = r->commit;
    r->deferred_term = 0;
}

static void new_role(struct raft *r, enum raft_role role, raft_id leader)
{
    if (r->role != role || r->leader != leader) {
        r->role_dirty = true;
        read_refuse(r); /* whoever was to answer them no longer does */
    }
    r->role = role;
    r->leader = leader;
    r->quiet = r->resting = false;
    r->transferee = 0;
    r->notice_at = RAFT_NEVER;
    r->notice_due = false;
}

void elect_follow(struct raft *r, raft_term term, raft_id leader)
{
    if (r->role != RAFT_FOLLOWER || term > r->term) raft_trace(r, "follower", term, leader);
    if (term > r->term) new_term(r, term);
    new_role(r, RAFT_FOLLOWER, leader);
    elect_timer(r);
}

static void lead(struct raft *r)
{
    raft_trace(r, "leader", r->term, r->log.last);
    new_role(r, RAFT_LEADER, r->o.id);
    r->inherited = r->log.last;
    r->busy_ns = r->now;
    r->lease_forfeited = false;
    round_begin(r); /* an older round belongs to an older term */
    for (uint32_t i = 0; i < r->peer_count; i++) {
        struct peer *p = &r->peers[i];
        peer_reset(r, p);
        p->beat_due = true; /* announce ourselves */
    }
}

static void ask_votes(struct raft *r, enum raft_msg_type type, bool transfer)
{
    for (uint32_t i = 0; i < r->peer_count; i++) {
        struct peer *p = &r->peers[i];
        p->ballot = BALLOT_NONE;
        if (p->id == r->o.id || !conf_is_voter(&r->conf, p->id)) continue;
        struct raft_msg *m =
            type == RAFT_VOTE ? raft_send_durable(r, type, p->id) : raft_send(r, type, p->id);
        m->term = type == RAFT_VOTE ? r->term : r->term + 1;
        m->index = r->log.last;
        m->index_term = runs_last_term(&r->log);
        m->transfer = transfer;
    }
}

static void campaign(struct raft *r, bool transfer)
{
    new_term(r, r->term + 1);
    new_role(r, RAFT_CANDIDATE, 0);
    r->vote = r->o.id; /* counted by raft_durable() */
    raft_trace(r, "candidate", r->term, transfer);
    elect_timer(r);
    ask_votes(r, RAFT_VOTE, transfer);
}

/* Ask first whether an election could be won, without disturbing anybody (dissertation 9.6). */
static void campaign_softly(struct raft *r)
{
    new_role(r, RAFT_PRECANDIDATE, 0);
    raft_trace(r, "precandidate", r->term, 0);
    elect_timer(r);
    ask_votes(r, RAFT_PREVOTE, false);
    conf_peer(r, r->o.id)->ballot = BALLOT_YES;
    elect_tally(r);
}

void elect_tally(struct raft *r)
{
    if (r->role == RAFT_CANDIDATE && r->durable_term == r->term)
        conf_peer(r, r->o.id)->ballot = BALLOT_YES;
    switch (conf_tally(r)) {
    case TALLY_OPEN: break;
    case TALLY_LOST: elect_follow(r, r->term, 0); break;
    case TALLY_WON:
        if (r->role == RAFT_PRECANDIDATE)
            campaign(r, false);
        else if (r->durable_term == r->term) /* or a crash could make us lead one term twice */
            lead(r);
        break;
    }
}

/* A leader that a quorum has not answered for an election timeout leads nobody. */
static void check_quorum(struct raft *r)
{
    uint64_t heard = conf_quorum(r, peer_heard);
    if (!r->o.check_quorum || heard == RAFT_NEVER || r->now < heard + r->o.election_ns) return;
    raft_trace(r, "no-quorum", r->term, heard);
    elect_follow(r, r->term, 0);
}

void elect_tick(struct raft *r)
{
    if (r->quiet) return;
    if (r->role == RAFT_LEADER) {
        if (r->transferee != 0 && r->now >= r->transfer_until) r->transferee = 0;
        check_quorum(r);
        return;
    }
    bool sole = conf_is_sole(&r->conf, r->o.id);
    if (r->now < r->elect_at || (sole && r->role == RAFT_CANDIDATE)) return;
    if (r->now < r->promise_until) {
        r->elect_at = r->promise_until;
    } else if (!may_campaign(r)) {
        r->elect_at = r->now + r->timeout;
    } else if (r->o.prevote && !sole) {
        campaign_softly(r);
    } else {
        campaign(r, false);
    }
}

void elect_resume(struct raft *r)
{
    if (r->role != RAFT_FOLLOWER || !may_campaign(r)) return;
    if (r->deferred_term == r->term && r->term != 0)
        campaign(r, true);
    else if (conf_is_sole(&r->conf, r->o.id))
        r->elect_at = r->now;
}

/* Bound by a promise to a leader, or by the lease it holds itself. */
static bool is_bound(const struct raft *r)
{
    if (r->role == RAFT_LEADER) return lease_is_live(r, r->now);
    return r->now < r->promise_until;
}

/* VOTE or PREVOTE with a term not below ours. */
enum raft_verdict elect_asked(struct raft *r, const struct raft_msg *m)
{
    bool soft = m->type == RAFT_PREVOTE;
    if (((is_bound(r) && !(m->transfer && !soft)) || (r->quiet && soft)) && m->term > r->term) {
        raft_trace(r, "bound", m->from, m->term);
        return RAFT_STALE;
    }
    if (!soft && m->term > r->term) elect_follow(r, m->term, 0);
    bool free = soft ? m->term > r->term : r->vote == m->from || (r->vote == 0 && r->leader == 0);
    /* 5.4.1: the log of a leader is at least as complete as those of a quorum */
    raft_term last_term = r->owed_index != 0 ? r->owed_term : runs_last_term(&r->log);
    raft_index last = r->owed_index != 0 ? r->owed_index : r->log.last;
    bool complete = m->index_term > last_term || (m->index_term == last_term && m->index >= last);
    if (MUTANT(vote_for_any_log)) complete = true;
    bool bound = is_bound(r) && !(m->transfer && !soft); /* a term may be learned while bound */
    bool grant = free && complete && !bound;
    if (grant && !soft) {
        if (r->vote != m->from) r->hard_dirty = true;
        r->vote = m->from;
        if (MUTANT(vote_not_persisted)) r->hard_dirty = false;
        elect_timer(r);
    }
    raft_trace(r, grant ? "grant" : "refuse", m->from, m->term);
    struct raft_msg *reply = raft_reply(r, soft ? RAFT_PREVOTE_REPLY : RAFT_VOTE_REPLY, m->from);
    /* A refused pre-candidate is told its own term, or it would not hear us. */
    if (soft) reply->term = grant || m->term == r->term ? m->term : m->term - 1;
    reply->reject = !grant;
    reply->index = r->commit;
    reply->index_term = runs_term(&r->log, r->commit);
    return RAFT_OK;
}

/* The sender knows that entry to be committed. If we hold it, so do we: true. */
static bool learn_commit(struct raft *r, const struct raft_msg *m)
{
    if (m->index_term == 0 || runs_term(&r->log, m->index) != m->index_term) return false;
    raft_commit_to(r, m->index);
    return true;
}

/* Refusals are listened to, or a group can lock itself out: the only voter of a configuration that it does not know to be
 * committed asks the voters of the one before, who know, hold longer logs, refuse, and may not campaign themselves. */
enum raft_verdict elect_answered(struct raft *r, const struct raft_msg *m)
{
    bool soft = m->type == RAFT_PREVOTE_REPLY;
    if (m->reject && m->term == r->term && r->role != RAFT_LEADER && r->leader == 0 && learn_commit(r, m) && !may_campaign(r))
        elect_follow(r, r->term, 0); /* a configuration is to be applied first */
    struct peer *p = conf_peer(r, m->from);
    raft_term expected = soft && !m->reject ? r->term + 1 : r->term;
    if (r->role != (soft ? RAFT_PRECANDIDATE : RAFT_CANDIDATE) || p == NULL ||
        m->term != expected || p->ballot != BALLOT_NONE)
        return RAFT_STALE;
    p->ballot = m->reject ? BALLOT_NO : BALLOT_YES;
    elect_tally(r);
    return RAFT_OK;
}

/* The leader hands over: campaign at once, promise or not. What it knows to be committed goes along: if that ends a joint configuration,
 * those who left by it are gone, and the leader may be too before it tells anybody else. */
enum raft_verdict elect_timeout_now(struct raft *r, const struct raft_msg *m)
{
    if (r->role == RAFT_LEADER || r->yielded || !conf_is_voter(&r->conf, r->o.id) ||
        (r->leader != 0 && r->leader != m->from))
        return RAFT_STALE;
    (void)learn_commit(r, m);
    if (may_campaign(r))
        campaign(r, true);
    else
        r->deferred_term = r->term; /* as soon as the configuration is applied */
    return RAFT_OK;
}

void raft_campaign(struct raft *r, uint64_t now_ns)
{
    if (now_ns > r->now) r->now = now_ns;
    if (r->role == RAFT_LEADER || r->leader != 0 || r->now < r->promise_until || !may_campaign(r)) return;
    campaign(r, false);
}

static struct peer *most_advanced(struct raft *r)
{
    struct peer *best = NULL;
    for (uint32_t i = 0; i < r->conf.voter_count; i++) {
        struct peer *p = conf_peer(r, r->conf.voters[i]);
        if (p->id == r->o.id || p->acked_round == 0 || r->now - p->heard_ns > r->o.election_ns)
            continue;
        if (best == NULL || p->match > best->match) best = p;
    }
    return best;
}

static void hand_over(struct raft *r, raft_id to)
{
    r->lease_forfeited = !MUTANT(lease_kept_in_hand_over); /* before the message leaves, and for the rest of the term (R2) */
    raft_trace(r, "hand-over", to, r->term);
    struct raft_msg *m = raft_send(r, RAFT_TIMEOUT_NOW, to);
    m->index = r->commit;
    m->index_term = runs_term(&r->log, r->commit);
}

void elect_transfer_step(struct raft *r)
{
    if (r->transferee == 0) return;
    const struct peer *p = conf_peer_const(r, r->transferee);
    assert(p != NULL);
    if (p->match < r->log.last || r->now < r->transfer_again) return;
    hand_over(r, p->id);
    r->transfer_again = r->now + r->o.heartbeat_ns; /* should it be lost */
}

void elect_hand_over(struct raft *r)
{
    const struct peer *p = most_advanced(r);
    if (p != NULL) hand_over(r, p->id);
}

enum raft_verdict raft_transfer(struct raft *r, raft_id target, uint64_t now_ns)
{
    if (now_ns > r->now) r->now = now_ns;
    if (r->role != RAFT_LEADER) return RAFT_NOT_LEADER;
    if (target == r->o.id) return RAFT_OK;
    quiet_end(r, false);
    struct peer *p = target != 0 ? conf_peer(r, target) : most_advanced(r);
    if (p == NULL) return RAFT_STALE;
    bool is_voter = false; /* of the new configuration, not only of the one it leaves */
    for (uint32_t i = 0; i < r->conf.voter_count; i++)
        is_voter |= r->conf.voters[i] == p->id;
    if (!is_voter) return RAFT_STALE;
    if (r->transferee == p->id) return RAFT_OK;
    raft_trace(r, "transfer", p->id, p->match);
    r->transferee = p->id;
    r->transfer_until = r->now + r->o.election_ns;
    r->transfer_again = r->now;
    elect_transfer_step(r);
    return RAFT_OK;
}

void raft_yield(struct raft *r, uint64_t now_ns)
{
    if (now_ns > r->now) r->now = now_ns;
    quiet_end(r, true);
    r->yielded = true;
    if (r->role == RAFT_FOLLOWER) return;
    if (r->role == RAFT_LEADER) elect_hand_over(r);
    elect_follow(r, r->term, 0);
}

/* The k-th of the remaining voters waits k x stagger after its promise (R13), so that the
 * first to ask finds the promises of the others run out and nobody to compete with. */
void raft_peer_closed(struct raft *r, raft_id peer, uint64_t after_ns, uint64_t now_ns)
{
    if (now_ns > r->now) r->now = now_ns;
    if (r->role == RAFT_LEADER) {
        if (conf_peer(r, peer) != NULL) quiet_end(r, false);
        raft_unreachable(r, peer);
        return;
    }
    if (r->role != RAFT_FOLLOWER || r->leader != peer || !conf_is_voter(&r->conf, r->o.id)) return;
    quiet_end(r, false);
    uint64_t k = 0;
    for (uint32_t i = 0; i < r->peer_count && r->peers[i].id != r->o.id; i++)
        k += r->peers[i].id != peer && conf_is_voter(&r->conf, r->peers[i].id);
    uint64_t from = (r->promise_until > r->now ? r->promise_until : r->now) + after_ns;
    if (from + k * r->o.stagger_ns < r->elect_at) r->elect_at = from + k * r->o.stagger_ns;
    raft_trace(r, "peer-closed", peer, k);
}

/* Members and quorums. A configuration is in force from the moment it is applied
 * (R18): decisions need a majority of `voters` and, while joint, one of `old` too.
 * Safe because configurations follow each other one at a time: whoever has entry k+1 in
 * its log knows that k is committed, and nobody campaigns on a committed one unapplied. */
#include "raft/internal.h"
#include <assert.h>
#include <string.h>

static bool listed(const raft_id *ids, uint32_t count, raft_id id)
{
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] == id) return true;
    return false;
}

bool conf_is_voter(const struct raft_conf *c, raft_id id)
{
    return listed(c->voters, c->voter_count, id) || listed(c->old, c->old_count, id);
}

bool conf_is_learner(const struct raft_conf *c, raft_id id)
{
    return listed(c->learners, c->learner_count, id);
}

bool conf_is_sole(const struct raft_conf *c, raft_id id)
{
    return c->voter_count == 1 && c->voters[0] == id && c->old_count == 0;
}

static bool list_is_valid(const raft_id *ids, uint32_t count)
{
    if (count > RAFT_MEMBERS_MAX) return false;
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] == 0 || listed(ids, i, ids[i])) return false;
    return true;
}

bool raft_conf_is_valid(const struct raft_conf *c)
{
    if (!list_is_valid(c->voters, c->voter_count) || !list_is_valid(c->old, c->old_count) ||
        !list_is_valid(c->learners, c->learner_count) || c->voter_count == 0)
        return false;
    uint32_t members = c->voter_count;
    for (uint32_t i = 0; i < c->old_count; i++)
        members += !listed(c->voters, c->voter_count, c->old[i]);
    for (uint32_t i = 0; i < c->learner_count; i++) {
        if (listed(c->voters, c->voter_count, c->learners[i])) return false;
        members += !listed(c->old, c->old_count, c->learners[i]);
    }
    return members <= RAFT_MEMBERS_MAX;
}

const struct peer *conf_peer_const(const struct raft *r, raft_id id)
{
    for (uint32_t i = 0; i < r->peer_count; i++)
        if (r->peers[i].id == id) return &r->peers[i];
    return NULL;
}

struct peer *conf_peer(struct raft *r, raft_id id)
{
    for (uint32_t i = 0; i < r->peer_count; i++)
        if (r->peers[i].id == id) return &r->peers[i];
    return NULL;
}

/* What each member contributes to a quorum; this replica speaks for itself. */
uint64_t peer_match(const struct raft *r, const struct peer *p)
{
    raft_index own = MUTANT(commit_before_own_sync) ? r->log.last : r->durable;
    return p->id == r->o.id ? own : p->match;
}

uint64_t peer_round(const struct raft *r, const struct peer *p)
{
    return p->id == r->o.id ? r->round : p->acked_round;
}

uint64_t peer_lease(const struct raft *r, const struct peer *p)
{
    return p->id == r->o.id ? RAFT_NEVER : p->lease_from_ns;
}

uint64_t peer_heard(const struct raft *r, const struct peer *p)
{
    return p->id == r->o.id ? RAFT_NEVER : p->heard_ns;
}

static uint64_t majority(const struct raft *r, const raft_id *ids, uint32_t count,
                         peer_value *value)
{
    uint64_t sorted[RAFT_MEMBERS_MAX]; /* descending */
    assert(count > 0);
    for (uint32_t i = 0; i < count; i++) {
        const struct peer *p = conf_peer_const(r, ids[i]);
        assert(p != NULL);
        uint64_t v = value(r, p);
        uint32_t at = i;
        for (; at > 0 && sorted[at - 1] < v; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = v;
    }
    return sorted[count / 2];
}

uint64_t conf_quorum(const struct raft *r, peer_value *value)
{
    uint64_t reached = majority(r, r->conf.voters, r->conf.voter_count, value);
    if (r->conf.old_count > 0) {
        uint64_t before = majority(r, r->conf.old, r->conf.old_count, value);
        if (before < reached) reached = before;
    }
    return reached;
}

static enum tally tally_of(const struct raft *r, const raft_id *ids, uint32_t count)
{
    uint32_t yes = 0, no = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct peer *p = conf_peer_const(r, ids[i]);
        assert(p != NULL);
        yes += p->ballot == BALLOT_YES;
        no += p->ballot == BALLOT_NO;
    }
    if (yes > count / 2) return TALLY_WON;
    return no >= count - count / 2 ? TALLY_LOST : TALLY_OPEN;
}

enum tally conf_tally(const struct raft *r)
{
    enum tally now = tally_of(r, r->conf.voters, r->conf.voter_count);
    if (r->conf.old_count == 0 || now == TALLY_LOST) return now;
    enum tally before = tally_of(r, r->conf.old, r->conf.old_count);
    return before == TALLY_WON ? now : before;
}

static void keep_or_add(struct raft *r, const struct peer *old, uint32_t old_count, raft_id id)
{
    if (conf_peer(r, id) != NULL) return;
    assert(r->peer_count < RAFT_MEMBERS_MAX);
    struct peer *p = &r->peers[r->peer_count++];
    for (uint32_t i = 0; i < old_count; i++)
        if (old[i].id == id) {
            *p = old[i];
            return;
        }
    memset(p, 0, sizeof *p);
    p->id = id;
    peer_reset(r, p);
    p->verify = true;
}

void conf_install(struct raft *r, const struct raft_conf *c)
{
    assert(raft_conf_is_valid(c));
    struct peer old[RAFT_MEMBERS_MAX];
    uint32_t old_count = r->peer_count;
    memcpy(old, r->peers, sizeof old);
    r->conf = *c;
    r->peer_count = 0;
    for (uint32_t i = 0; i < c->voter_count; i++)
        keep_or_add(r, old, old_count, c->voters[i]);
    for (uint32_t i = 0; i < c->old_count; i++)
        keep_or_add(r, old, old_count, c->old[i]);
    for (uint32_t i = 0; i < c->learner_count; i++)
        keep_or_add(r, old, old_count, c->learners[i]);
}

bool conf_is_pending(const struct raft *r)
{
    if (runs_conf_last(&r->log, r->applied, r->log.last) != 0) return true;
    return r->role == RAFT_LEADER && r->applied < r->inherited;
}

void raft_conf_applied(struct raft *r, const struct raft_conf *c)
{
    r->hard_dirty = true; /* that it is committed must outlive a loss of power: whom it removes may be gone by then */
    quiet_end(r, false);
    conf_install(r, c);
    raft_trace(r, "conf", c->voter_count, c->old_count);
    if (r->role == RAFT_LEADER) {
        if (!conf_is_voter(c, r->o.id)) {
            /* Removed or demoted: whoever remains must learn that it is committed. */
            replicate_farewell(r);
            elect_follow(r, r->term, 0);
            return;
        }
        if (r->transferee != 0 && !listed(c->voters, c->voter_count, r->transferee))
            r->transferee = 0;
        replicate_commit(r); /* the quorum may have shrunk */
        read_confirm(r);
    } else if (r->role != RAFT_FOLLOWER) {
        if (conf_is_voter(c, r->o.id))
            elect_tally(r);
        else
            elect_follow(r, r->term, 0);
    }
}

/* Every invariant of one replica, asserted. What holds between replicas is checked by
 * the simulator, which sees them all. */
#include "raft/internal.h"
#include <assert.h>

static void check_log(const struct raft *r)
{
    const struct runs *l = &r->log;
    assert(l->count <= RAFT_RUNS_MAX && (l->count == 0) == (l->last == l->base));
    raft_index expected = l->base + 1;
    raft_term before = l->base_term;
    for (uint32_t i = 0; i < l->count; i++) {
        const struct span *s = &l->spans[i];
        assert(i == 0 ? s->first == expected : s->first > l->spans[i - 1].first);
        assert(s->first <= l->last && s->term >= before && s->term > 0);
        assert(i == 0 || s->term != before || s->is_conf != l->spans[i - 1].is_conf);
        before = s->term;
    }
    assert(before <= r->term); /* nobody logs in the future */
}

static void check_indices(const struct raft *r)
{
    assert(r->applied <= r->applying && r->applying <= r->commit && r->commit <= r->log.last);
    assert(r->log.base <= r->commit);
    assert(r->durable <= r->log.last);
    assert(r->verified <= r->log.last);
    assert(r->owed_index == 0 || r->log.last == 0);
    if (r->append_count > 0) assert(r->append_first + r->append_count - 1 == r->log.last);
    if (r->truncate_from != 0) assert(r->truncate_from > r->applying);
    for (uint32_t i = 0; i < r->unsynced_count; i++) {
        assert(r->unsynced[i].last <= r->log.last && r->unsynced[i].term <= r->term);
        assert(r->unsynced[i].sequence <= r->sequence);
        assert(i == 0 || r->unsynced[i].sequence > r->unsynced[i - 1].sequence);
    }
    assert(r->durable_sequence <= r->sequence && r->hard_sequence <= r->sequence);
}

static void check_role(const struct raft *r)
{
    switch (r->role) {
    case RAFT_FOLLOWER: assert(r->leader != r->o.id); break;
    case RAFT_PRECANDIDATE: assert(r->leader == 0); break;
    case RAFT_CANDIDATE: assert(r->leader == 0 && r->vote == r->o.id); break;
    case RAFT_LEADER:
        assert(r->leader == r->o.id && r->vote == r->o.id && r->durable_term == r->term);
        assert(conf_is_voter(&r->conf, r->o.id) && !r->yielded);
        assert(r->inherited <= r->log.last);
        break;
    }
    assert(r->durable_term <= r->term);
    if (r->role != RAFT_LEADER) assert(r->transferee == 0 && r->notice_at == RAFT_NEVER);
    assert(!r->resting || (r->role == RAFT_LEADER && !r->quiet));
    assert(!r->quiet || quiet_is_sound(r));
}

static void check_peers(const struct raft *r)
{
    assert(raft_conf_is_valid(&r->conf) && r->peer_count <= RAFT_MEMBERS_MAX);
    if (r->role != RAFT_LEADER) return;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct peer *p = &r->peers[i];
        if (p->id == r->o.id) continue;
        assert(p->match < p->next && p->next <= r->log.last + 1);
        assert(p->acked_round <= r->round && p->lease_from_ns <= r->now);
        assert(p->inflight <= RAFT_INFLIGHT_MAX);
        assert(p->next - 1 - p->match <= r->o.window_entries || p->progress != PROGRESS_REPLICATE);
    }
    /* What we committed by counting is held by a quorum. */
    assert(r->transferee == 0 || conf_peer_const(r, r->transferee) != NULL);
}

static void check_reads(const struct raft *r)
{
    assert(r->reads_count + r->answer_count <= RAFT_READS_MAX);
    for (uint32_t i = 1; i < r->reads_count; i++) {
        assert(r->reads[i].asked_ns >= r->reads[i - 1].asked_ns);
        if (r->reads[i].round != 0) assert(r->reads[i - 1].round != 0);
        if (r->reads[i].round != 0) assert(r->reads[i].round >= r->reads[i - 1].round);
    }
    for (uint32_t i = 0; i < r->reads_count; i++)
        if (r->role == RAFT_LEADER) assert(r->reads[i].index <= r->commit);
}

void raft_check(const struct raft *r)
{
    check_log(r);
    check_indices(r);
    check_role(r);
    check_peers(r);
    check_reads(r);
    assert(r->send_count <= RAFT_READY_MAX && r->send_durable_count <= DURABLE_QUEUE_MAX);
    assert(r->held_count == 0 || r->hard_sequence > r->durable_sequence);
}

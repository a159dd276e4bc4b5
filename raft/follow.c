/* The follower's half of replication: what a leader of our term sends us.
 * (1) Committed entries are never touched; a message that would is a lie and is dropped.
 * (2) `verified` is how far our log is known to equal this leader's; only below it may
 *     the leader's commit index be believed.
 * (3) An answer claims nothing that is not durable when it leaves. */
#include "raft/internal.h"
#include <assert.h>

bool follow_is_sane(const struct raft_msg *m)
{
    if ((unsigned)m->type > RAFT_READ_REPLY || m->from == 0 || m->term == 0 ||
        m->term >= RAFT_LIMIT || m->index >= RAFT_LIMIT || m->commit >= RAFT_LIMIT ||
        m->index_term > m->term || (m->index == 0 && m->index_term != 0))
        return false;
    if (m->type == RAFT_SNAPSHOT) return m->index > 0 && m->index_term > 0;
    if (m->type != RAFT_APPEND) return true;
    /* Term 0 stands for "unknown" in our own log: it must not match. */
    if (m->index > 0 && m->index_term == 0) return false;
    if (m->entry_count > RAFT_WINDOW_MAX || m->run_count > m->entry_count ||
        (m->run_count > 0 && m->runs == NULL))
        return false;
    uint64_t sum = 0;
    raft_term before = m->index_term > 0 ? m->index_term : 1;
    for (uint32_t i = 0; i < m->run_count; i++) {
        const struct raft_run *run = &m->runs[i];
        if (run->count == 0 || run->term < before || run->term > m->term) return false;
        sum += run->count;
        before = run->term;
    }
    return sum == m->entry_count;
}

static raft_index min_index(raft_index a, raft_index b)
{
    return a < b ? a : b;
}

static void reject(struct raft *r, const struct raft_msg *m)
{
    raft_index hint = runs_back_up(&r->log, min_index(m->index, r->log.last), m->index_term);
    if (hint < r->commit) hint = r->commit;
    raft_trace(r, "reject", m->index, hint);
    bool waits;
    struct raft_msg *reply = raft_reply_log(r, RAFT_APPEND_REPLY, m->from, &waits);
    reply->reject = true;
    reply->context = m->context;
    reply->commit = m->index;
    reply->index = hint;
    reply->index_term = runs_term(&r->log, hint);
}

/* Appends what `m` holds from index `from` on, as far as there is room for runs. */
static void take(struct raft *r, const struct raft_msg *m, raft_index from)
{
    runs_fold(&r->log, r->commit, m->run_count);
    raft_index at = m->index + 1;
    for (uint32_t i = 0; i < m->run_count; i++) {
        raft_index end = at + m->runs[i].count;
        if (end > from) {
            raft_index skip = from > at ? from - at : 0;
            struct raft_run rest = m->runs[i];
            rest.count -= (uint32_t)skip;
            if (!runs_append(&r->log, &rest)) break;
        }
        at = end;
    }
    if (r->log.last >= from) raft_log_appended(r, from);
}

enum raft_verdict follow_append(struct raft *r, const struct raft_msg *m)
{
    if (m->index > r->commit && runs_term(&r->log, m->index) != m->index_term) {
        reject(r, m);
        return RAFT_OK;
    }
    if (m->index >= r->log.base && runs_term(&r->log, m->index) != m->index_term) return RAFT_STALE;

    if (r->owed_index != 0 && m->entry_count > 0) return RAFT_STALE; /* the rows below are missing */
    raft_index end = m->index + m->entry_count;
    raft_index from = runs_differ(&r->log, m->index + 1, m->runs, m->run_count);
    if (from <= r->commit && from <= end) return RAFT_STALE;
    if (from <= end) {
        if (from <= r->log.last) raft_log_truncate(r, from);
        take(r, m, from);
        if (r->log.last < from && from == m->index + 1) return RAFT_WINDOW_FULL;
        end = min_index(end, r->log.last);
    }
    if (end > r->verified) r->verified = end;
    raft_commit_to(r, min_index(m->commit, r->verified));

    bool waits;
    struct raft_msg *reply = raft_reply_log(r, RAFT_APPEND_REPLY, m->from, &waits);
    reply->context = m->context;
    reply->index = waits || MUTANT(ack_before_sync) ? end : min_index(end, r->durable);
    return RAFT_OK;
}

enum raft_verdict follow_heartbeat(struct raft *r, const struct raft_msg *m)
{
    raft_commit_to(r, min_index(m->commit, r->verified));
    if (m->context == 0) return RAFT_OK;
    struct raft_msg *reply = raft_reply(r, RAFT_HEARTBEAT_REPLY, m->from);
    reply->context = m->context;
    reply->index = min_index(r->verified, r->durable);
    reply->commit = r->verified;
    reply->quiet = m->quiet && quiet_agree(r, m);
    return RAFT_OK;
}

/* The caller streams snapshots; here we only say when none is needed. */
enum raft_verdict follow_snapshot(struct raft *r, const struct raft_msg *m)
{
    if (raft_needs_snapshot(r, m->index, m->index_term)) return RAFT_OK;
    if (m->index > r->verified && m->index <= r->log.last) r->verified = m->index;
    struct raft_msg *reply = raft_reply(r, RAFT_SNAPSHOT_REPLY, m->from);
    reply->context = m->context;
    reply->index = min_index(r->verified, r->durable);
    return RAFT_OK;
}

bool raft_needs_snapshot(const struct raft *r, raft_index index, raft_term term)
{
    return index > r->commit && index >= r->owed_index && runs_term(&r->log, index) != term;
}

void raft_restored(struct raft *r, raft_index index, raft_term term, const struct raft_conf *c,
                   uint64_t now_ns)
{
    assert(r->role != RAFT_LEADER && raft_needs_snapshot(r, index, term));
    if (now_ns > r->now) r->now = now_ns;
    raft_trace(r, "restored", index, term);
    quiet_end(r, false);
    if (r->role != RAFT_FOLLOWER || term > r->term)
        elect_follow(r, term > r->term ? term : r->term, 0);
    runs_init(&r->log, index, term);
    r->owed_index = r->owed_term = 0;
    r->commit = r->applied = r->applying = r->durable = r->verified = index;
    /* Readies from before speak of a log that is gone (R18). */
    r->unsynced_count = 0;
    r->truncate_from = r->append_first = 0;
    r->append_count = 0;
    if (r->hard_sequence > r->durable_sequence) r->hard_dirty = true;
    conf_install(r, c);
    if (r->leader == 0) return;
    raft_reply(r, RAFT_SNAPSHOT_REPLY, r->leader)->index = index;
}

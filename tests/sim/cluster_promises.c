#include "raft/internal.h"
#include "storage/log_private.h"
#include "tests/sim/cluster_impl.h"
#include <stdio.h>

/* What replicas count on, judged while it is still a promise. A rule broken here harms nobody
 * yet: it takes the wrong death at the right moment before a client sees it, and a run has few of
 * those. So the world, which sees all nodes at one instant, asks for the promise itself:
 *   lease       at most one replica of a group holds one, each by its own clock (R2)
 *   durable     what the core counts as durable is (R18)
 *   checkpoint  its marks are not ahead of what the log would still have after a power loss (R8)
 *   commit      a leader counts only what it can be sure of (5.4.2) */

static const struct group *replica_of(const struct desk *n, uint32_t group)
{
    const struct group *g = n->worker == NULL || n->worker->poisoned ? NULL : worker_group(n->worker, group);
    return g == NULL || g->dead || g->installing ? NULL : g;
}

static bool holds_lease(const struct desk *n, const struct group *g)
{
    return raft_role_now(g->raft) == RAFT_LEADER && raft_lease_held(g->raft, env_now_ns(n->worker->env));
}

static bool lease_check(const struct cluster *c, const struct desk *n, const struct group *g, char *why, size_t why_size)
{
    if (!holds_lease(n, g)) return true;
    for (uint32_t i = 1; i <= desks_of(c); i++) {
        const struct desk *other = desk_of(c, i);
        if (other == n) continue;
        const struct group *h = replica_of(other, g->id);
        if (h == NULL || !holds_lease(other, h)) continue;
        snprintf(why, why_size, "leases: group %u: node %u of term %llu and node %u of term %llu both hold one", g->id, n->id,
                 (unsigned long long)raft_term_now(g->raft), other->id, (unsigned long long)raft_term_now(h->raft));
        return false;
    }
    return true;
}

static bool stands_before(const struct log_slot *s, const struct log_batch *b)
{
    return s->segment < b->segment->id || (s->segment == b->segment->id && s->offset < b->offset);
}

/* Does the entry stand before the first batch that is not durable? Entries that were all written
 * anew (log_release.c) stand behind it and are durable where they stood before: not judged. */
static bool log_holds(const struct log *l, uint32_t group, uint64_t index)
{
    const struct log_life *life = log_life_get(l, group);
    if (life == NULL || l->batch_count == 0 || index <= life->compacted_index) return true;
    if (index > log_life_last(life)) return false;
    const struct log_batch *first = &l->batches[l->batch_head];
    return stands_before(log_life_slot(life, index), first) ||
           !stands_before(log_life_slot(life, life->compacted_index + 1), first);
}

static bool durable_check(const struct desk *n, const struct group *g, char *why, size_t why_size)
{
    const struct log *l = store_log(n->worker->store);
    const char *what = NULL;
    uint64_t index = 0;
    if (!log_holds(l, g->id, g->checkpointed)) {
        what = "is in a checkpoint";
        index = g->checkpointed;
    } else if (!log_holds(l, g->id, g->raft->durable)) {
        what = "counts as durable";
        index = g->raft->durable;
    }
    if (what == NULL) return true;
    snprintf(why, why_size, "durability: group %u: index %llu %s on node %u and is not yet on its disk", g->id,
             (unsigned long long)index, what, n->id);
    return false;
}

/* What a leader counts is of its own term: an entry of an earlier one, however many hold it, may still be
 * overwritten by a leader that has none of it (5.4.2, figure 8). What it knew to be committed when it was
 * elected had been counted before. */
static bool commit_check(const struct desk *leader, const struct group *g, char *why, size_t why_size)
{
    const struct raft *r = g->raft;
    uint64_t term = runs_term(&r->log, r->commit);
    if (term == r->term || term == 0) return true;
    snprintf(why, why_size, "commit: group %u: node %u leads term %llu and counted index %llu, of term %llu, as committed",
             g->id, leader->id, (unsigned long long)r->term, (unsigned long long)r->commit, (unsigned long long)term);
    return false;
}

static bool desk_commit_check(struct cluster *c, const struct desk *n, char *why, size_t why_size)
{
    uint32_t cursor = 0;
    uint64_t id;
    void *v;
    if (n->worker == NULL) return true;
    while (kv_map_next(&n->worker->groups, &cursor, &id, &v)) {
        const struct group *g = replica_of(n, (uint32_t)id);
        if (g == NULL || id >= GROUPS_MAX) continue;
        struct annals *a = annals_of(c, g->id);
        if (g->raft->commit <= a->counted || g->raft->commit <= STORE_BIRTH_INDEX) continue; /* what it was born with */
        a->counted = g->raft->commit;
        if (g->raft->role != RAFT_LEADER) continue; /* it counted, and met a higher term behind that in the same message */
        c->busy_node = n->id;
        if (!commit_check(n, g, why, why_size)) return false;
    }
    return true;
}

bool cluster_commit_check(struct cluster *c, uint32_t node, char *why, size_t why_size)
{
    for (uint32_t k = 0; k < workers_of(c); k++)
        if (!desk_commit_check(c, &node_of(c, node)->desks[k], why, why_size)) return false;
    return true;
}

bool promises_check(struct cluster *c, const struct desk *n, const struct group *g, char *why, size_t why_size)
{
    if (replica_of(n, g->id) == NULL) return true;
    return lease_check(c, n, g, why, why_size) && durable_check(n, g, why, why_size);
}

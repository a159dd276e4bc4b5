#include "server/group_impl.h"

#include <stddef.h>
#include <stdlib.h>

#include "server/leave.h"
#include "server/nodes.h"
#include "server/peer.h"
#include "server/rest.h"

enum { CACHE_LINE_BYTES = 64,
       PREFETCHED_PEERS = 3, /* as many as most groups have */
       GROUP_BYTES = (sizeof(struct group) + CACHE_LINE_BYTES - 1) / CACHE_LINE_BYTES * CACHE_LINE_BYTES };

/* The life of a replica's object, from what the store recovered to the end. */

void conf_from_descriptor(const struct descriptor *d, struct raft_conf *out)
{
    *out = (struct raft_conf){0};
    bool joint = descriptor_is_joint(d);
    for (uint32_t i = 0; i < d->replica_count; i++) {
        raft_id id = d->replicas[i].id;
        switch (d->replicas[i].role) {
        case DESCRIPTOR_VOTER:
            out->voters[out->voter_count++] = id;
            if (joint) out->old[out->old_count++] = id;
            break;
        case DESCRIPTOR_LEARNER: out->learners[out->learner_count++] = id; break;
        case DESCRIPTOR_VOTER_INCOMING: out->voters[out->voter_count++] = id; break;
        case DESCRIPTOR_VOTER_OUTGOING: out->old[out->old_count++] = id; break;
        }
    }
}

static void raft_traced(void *context, const char *event, uint64_t a, uint64_t b)
{
    struct group *g = context;
    JOURNAL(g->w->journal, raft, DEBUG, event, "group=%u a=%llu b=%llu", g->id, (unsigned long long)a,
            (unsigned long long)b);
}

/* A group that never had a second member owes nobody a promise: ids are never reused, so the next
 * one tells (R2). An unapplied entry may be just adding one. */
static bool was_always_alone(const struct descriptor *d, const struct store_group *sg)
{
    for (uint32_t i = 0; i < sg->log.run_count; i++)
        if (sg->log.runs[i].is_conf) return false;
    return d->replica_count == 1 && d->replica_next == d->replicas[0].id + 1 && d->replicas[0].id == 1;
}

enum kv_err group_describe(struct group *g, const struct descriptor *d)
{
    if (d->list.data == g->descriptor.list.data) { /* none, or the same */
        if (d->list.size == 0) (void)descriptor_rule(d, NULL, &g->rule);
        g->descriptor = *d;
        return KV_OK;
    }
    struct kv_arena memory = {0};
    struct kv_key_rule rule;
    struct descriptor own = *d;
    own.list = kv_arena_copy(&memory, d->list);
    if (d->list.size > 0 && own.list.data == NULL) abort(); /* out of memory: the log replays it exactly */
    enum kv_err err = descriptor_rule(&own, &memory, &rule);
    if (err != KV_OK) {
        kv_arena_free(&memory);
        return err;
    }
    kv_arena_free(&g->rule_memory);
    g->rule_memory = memory;
    g->rule = rule;
    g->descriptor = own;
    return KV_OK;
}

/* The core lies behind it: one piece of memory, and where it is is known before any of it is read. */
static struct raft *raft_of(const struct group *g)
{
    return (struct raft *)((uintptr_t)g + GROUP_BYTES);
}

static struct group *group_make(void)
{
    size_t bytes = GROUP_BYTES + raft_memory();
    struct group *g = aligned_alloc(CACHE_LINE_BYTES, (bytes + CACHE_LINE_BYTES - 1) / CACHE_LINE_BYTES * CACHE_LINE_BYTES);
    if (g != NULL) memset(g, 0, sizeof *g);
    return g;
}

enum kv_err group_open(struct worker *w, const struct store_group *sg, bool fresh, struct group **out)
{
    bool rowless = sg->state == CHECKPOINT_GROUP_INSTALLING;
    if (sg->log.damaged) return KV_CORRUPT;                /* it could neither vote nor take an entry (R4) */
    if (rowless && sg->owed_index == 0) return KV_CORRUPT; /* nor this one: its mark does not say what it votes by */
    struct group *g = group_make();
    if (g == NULL) return KV_NO_SPACE;
    g->w = w;
    g->id = sg->log.group;
    g->replica = sg->replica;
    g->life = ++w->lives;
    g->rowless = rowless;
    struct descriptor d;
    enum kv_err err = descriptor_decode(sg->descriptor, &d);
    if (err == KV_OK) err = group_describe(g, &d);
    if (err != KV_OK) {
        free(g);
        return KV_CORRUPT;
    }
    conf_from_descriptor(&g->descriptor, &g->conf);
    g->applied = sg->applied;
    g->applied_term = sg->applied_term;
    g->clock_ms = sg->clock_ms;
    g->stamp.ms = sg->clock_ms;
    g->checkpointed = sg->checkpointed;
    g->apply_to = g->applied;
    g->is_gone = leave_is_due(&g->descriptor, g->replica) && !leave_waits(w, &g->descriptor); /* stopped before its tombstone was durable */
    g->leaderless_ns = env_now_ns(w->env);
    const struct config *c = w->config;
    struct raft_options o = {.id = g->replica,
                             .election_ns = c->raft_election,
                             .heartbeat_ns = c->raft_heartbeat,
                             .lease_ns = c->raft_lease,
                             .quiet_ns = c->raft_quiet,
                             .stagger_ns = KV_MS(20),
                             .drift_ppm = (uint32_t)c->raft_drift,
                             .window_entries = RAFT_WINDOW_MAX,
                             .batch_entries = (uint32_t)c->raft_batch,
                             .seed = worker_random(w),
                             .prevote = true,
                             .check_quorum = true,
                             .trace = raft_traced,
                             .trace_context = g};
    struct raft_run *runs = calloc(sg->log.run_count + 1, sizeof *runs);
    if (runs == NULL) {
        kv_arena_free(&g->rule_memory);
        free(g);
        return KV_NO_SPACE;
    }
    for (uint32_t i = 0; i < sg->log.run_count; i++)
        runs[i] = (struct raft_run){sg->log.runs[i].term, sg->log.runs[i].count, sg->log.runs[i].is_conf};
    struct raft_boot boot = {.hard = {.term = sg->log.term, .vote = sg->log.vote, .commit = sg->log.commit},
                             .conf = g->conf,
                             .snapshot_index = sg->log.compacted_index,
                             .snapshot_term = sg->log.compacted_term,
                             .applied = g->applied,
                             .runs = runs,
                             .run_count = sg->log.run_count,
                             .fresh = fresh || was_always_alone(&g->descriptor, sg)};
    if (rowless) /* of a log nothing counts without the rows beneath it: the next install resets it */
        boot = (struct raft_boot){.hard = {.term = sg->log.term, .vote = sg->log.vote},
                                  .conf = g->conf,
                                  .owed_index = sg->owed_index,
                                  .owed_term = sg->owed_term};
    const char *fault = raft_boot_fault(&boot);
    if (fault == NULL) g->raft = raft_init(raft_of(g), &o, &boot, env_now_ns(w->env));
    free(runs);
    if (fault != NULL) {
        JOURNAL(w->journal, store, ERROR, "replica-not-intact", "group=%u replica=%u why=\"%s\"", g->id, g->replica, fault);
        group_close(g);
        return KV_CORRUPT;
    }
    *out = g;
    return KV_OK;
}

void group_close(struct group *g)
{
    rest_forget(g);
    load_end(g);
    transfer_close(g);
    sends_close(g);
    if (g->stalled != NULL) append_free(g->stalled);
    staged_free(&g->staged);
    kv_arena_free(&g->rule_memory);
    free(g);
}

static inline __attribute__((always_inline)) void prefetch(const struct group *g, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += CACHE_LINE_BYTES) __builtin_prefetch((const char *)g + i, 1);
    __builtin_prefetch(&g->descriptor);
}

void group_prefetch(const struct worker *w, const struct group *g)
{
    if (g == NULL) return;
    prefetch(g, offsetof(struct group, scrub) + 1);
    raft_prefetch(raft_of(g), nodes_are_one(w) ? 1 : PREFETCHED_PEERS);
}

void group_prefetch_write(const struct group *g)
{
    if (g == NULL) return;
    prefetch(g, offsetof(struct group, lead_index));
    raft_prefetch_propose(raft_of(g));
}

void group_touch(struct group *g)
{
    if (!g->is_dirty) {
        g->is_dirty = true;
        g->dirty_next = g->w->dirty;
        g->w->dirty = g;
    }
    rest_activate(g);
    worker_turn(g->w);
}

uint32_t group_node_of(const struct group *g, raft_id replica)
{
    for (uint32_t i = 0; i < g->descriptor.replica_count; i++)
        if (g->descriptor.replicas[i].id == replica) return g->descriptor.replicas[i].node;
    return replica == g->heard_replica ? g->heard_node : 0;
}

uint32_t group_leader_node(const struct group *g)
{
    return g->leader == 0 ? 0 : group_node_of(g, g->leader);
}

bool group_leads(const struct group *g)
{
    return g->role == RAFT_LEADER;
}

static bool hears_majority(const struct group *g)
{
    uint32_t voters = 0, heard = 0;
    for (uint32_t i = 0; i < g->descriptor.replica_count; i++) {
        const struct descriptor_replica *r = &g->descriptor.replicas[i];
        if (r->role == DESCRIPTOR_LEARNER) continue;
        voters++;
        heard += r->node == g->w->node_id || peer_connected(g->w->peers, r->node);
    }
    return 2 * heard > voters;
}

bool group_is_out_of_touch(const struct group *g, uint64_t now_ns)
{
    uint64_t patience_ns = 2 * g->w->config->raft_election;
    return !hears_majority(g) || (g->leaderless_ns != 0 && now_ns - g->leaderless_ns > patience_ns);
}

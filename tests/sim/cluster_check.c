#include "client/base/endian.h"
#include "client/base/hash.h"
#include "server/exec_directory.h"
#include "server/keyspaces.h"
#include "server/leave.h"
#include "server/map.h"
#include "server/nodes.h"
#include "tests/sim/cluster_impl.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* What must hold between the replicas of a group (Ongaro's dissertation, figure 3.2), over
 * the whole run and all deaths:
 *   election safety       a term has at most one leader
 *   log matching          where two logs hold an entry of one term, all before agree
 *   leader completeness   a leader's log holds every entry committed before its term
 *   state machine safety  what is committed at an index never becomes another
 *   jobs                  cluster_jobs.c
 *   roles                 no node holds a replica of a partition that it never had the role for
 * Who owns which keys is cluster_owners.c.
 * An entry is named by (index, term); with election safety that names its bytes. */

struct annals *annals_of(struct cluster *c, uint32_t group)
{
    if (group >= GROUPS_MAX) return NULL;
    if (c->annals[group] == NULL) c->annals[group] = calloc(1, sizeof **c->annals);
    assert(c->annals[group] != NULL);
    return c->annals[group];
}

static bool committed_check(struct annals *a, const struct desk *n, const struct group *g, uint64_t index,
                            uint64_t term, char *why, size_t why_size)
{
    if (index == 0 || term == 0) return true; /* compacted: judged when it was applied */
    struct point *p = &a->committed[index % POINTS_PER_GROUP];
    if (p->index < index) *p = (struct point){.index = index, .term = term, .node = n->id};
    if (a->committed_max < index) a->committed_max = index;
    if (p->index != index || p->term == term) return true;
    snprintf(why, why_size, "state machine safety: group %u: node %u committed index %llu of term %llu, node %u of term %llu",
             g->id, n->id, (unsigned long long)index, (unsigned long long)term, p->node, (unsigned long long)p->term);
    return false;
}

static bool leader_check(struct annals *a, const struct desk *n, const struct group *g, char *why, size_t why_size)
{
    if (raft_role_now(g->raft) != RAFT_LEADER) return true;
    uint64_t term = raft_term_now(g->raft);
    struct reign *r = &a->leaders[term % TERMS_PER_GROUP];
    if (r->term < term) { /* a new reign: it must know everything that is committed */
        *r = (struct reign){.term = term, .replica = g->replica, .node = n->id};
        const struct point *p = &a->committed[a->committed_max % POINTS_PER_GROUP];
        uint64_t holds = log_term(store_log(n->worker->store), g->id, p->index);
        bool known = p->index < log_first(store_log(n->worker->store), g->id) || holds == p->term;
        if (p->index != a->committed_max || p->term > term || known) return true;
        snprintf(why, why_size, "leader completeness: group %u: node %u leads term %llu without index %llu of term %llu",
                 g->id, n->id, (unsigned long long)term, (unsigned long long)p->index, (unsigned long long)p->term);
        return false;
    }
    if (r->term != term || r->replica == g->replica) return true;
    snprintf(why, why_size, "election safety: group %u: node %u and node %u both lead term %llu", g->id, r->node, n->id,
             (unsigned long long)term);
    return false;
}

/* At one place below a place where they agree, another with each check. */
static bool matching_check(const struct cluster *c, const struct desk *n, const struct group *g, char *why, size_t why_size)
{
    for (uint32_t i = 1; i <= desks_of(c); i++) {
        const struct desk *other = desk_of(c, i);
        if (other <= n) continue;
        const struct group *h = other->worker == NULL ? NULL : worker_group(other->worker, g->id);
        if (h == NULL || g->installing || h->installing) continue;
        const struct log *a = store_log(n->worker->store), *b = store_log(other->worker->store);
        uint64_t first = log_first(a, g->id), last = log_last(a, g->id);
        if (log_first(b, g->id) > first) first = log_first(b, g->id);
        if (log_last(b, g->id) < last) last = log_last(b, g->id);
        if (last <= first || log_term(a, g->id, last) != log_term(b, g->id, last)) continue;
        uint64_t at = first + c->checks % (last - first);
        if (log_term(a, g->id, at) == log_term(b, g->id, at)) continue;
        snprintf(why, why_size, "log matching: group %u: nodes %u and %u agree at index %llu and differ at %llu", g->id,
                 n->id, other->id, (unsigned long long)last, (unsigned long long)at);
        return false;
    }
    return true;
}

static bool group_check(struct cluster *c, const struct desk *n, const struct group *g, char *why, size_t why_size)
{
    struct annals *a = annals_of(c, g->id);
    if (a == NULL || g->installing || g->rowless) return true;
    if (g->descriptor.conf_epoch > a->conf_epoch) {
        a->conf_epoch = g->descriptor.conf_epoch;
        a->conf_index = a->conf_epoch == 1 ? 0 : g->applied;
    }
    job_epochs_see(a, &g->descriptor);
    if (g->descriptor.frozen_merge != 0) a->frozen = g->descriptor;
    if (descriptor_is_joint(&g->descriptor) && g->descriptor.conf_epoch > a->joint_epoch) {
        a->joint_epoch = g->descriptor.conf_epoch;
        if (c->o.event != NULL) c->o.event(c->o.event_context, n->id, "joint");
    }
    uint64_t behind = log_term(store_log(n->worker->store), g->id, g->apply_to);
    return committed_check(a, n, g, g->applied, g->applied_term, why, why_size) &&
           committed_check(a, n, g, g->apply_to, behind, why, why_size) && leader_check(a, n, g, why, why_size) &&
           matching_check(c, n, g, why, why_size) && promises_check(c, n, g, why, why_size);
}

/* `now`: it has had the time to give away what it held before it lost a role. */
static bool role_check(const struct cluster *c, const struct desk *n, const struct group *g, bool now, char *why, size_t why_size)
{
    if (((now ? c->roles : c->had)[n->id] & (uint32_t)nodes_role_for(g->id)) != 0) return true;
    snprintf(why, why_size, "roles: node %u holds a replica of group %u", n->id, g->id);
    return false;
}

bool cluster_check(struct cluster *c, char *why, size_t why_size)
{
    if (!ownership_check(c, why, why_size)) return false;
    c->checks++;
    for (uint32_t i = 1; i <= desks_of(c); i++) {
        struct desk *n = desk_of(c, i);
        if (n->worker == NULL) continue;
        worker_check(n->worker);
        if (n->worker->checkpoints_seen != n->checkpoints_seen) {
            n->checkpoints_seen = n->worker->checkpoints_seen;
            if (c->o.event != NULL) c->o.event(c->o.event_context, n->id, "checkpoint");
        }
        uint32_t cursor = 0;
        uint64_t id;
        void *g;
        while (kv_map_next(&n->worker->groups, &cursor, &id, &g))
            if (!group_check(c, n, g, why, why_size) || !role_check(c, n, g, false, why, why_size)) return false;
        if (n->index == 0 && !jobs_check(c, n->node, why, why_size)) return false;
    }
    return true;
}

uint32_t cluster_leaders(const struct cluster *c, uint64_t *applied_sum)
{
    uint32_t leaders = 0;
    *applied_sum = 0;
    for (uint32_t i = 1; i <= desks_of(c); i++) {
        const struct desk *n = desk_of(c, i);
        uint32_t cursor = 0, group;
        uint64_t applied, hash;
        bool leader;
        while (n->worker != NULL && worker_group_next(n->worker, &cursor, &group, &applied, &hash, &leader)) {
            leaders += leader;
            *applied_sum += applied;
        }
    }
    return leaders;
}

const struct descriptor *descriptor_newest(const struct cluster *c, uint32_t group)
{
    const struct descriptor *newest = NULL;
    for (uint32_t i = 1; i <= desks_of(c); i++) {
        const struct desk *n = desk_of(c, i);
        const struct group *g = n->worker == NULL ? NULL : worker_group(n->worker, group);
        if (g == NULL || g->installing) continue;
        if (newest == NULL || g->descriptor.conf_epoch > newest->conf_epoch) newest = &g->descriptor;
    }
    return newest;
}

static bool desk_is_intact(const struct worker *w, uint32_t node, char *why, size_t why_size)
{
    uint32_t cursor = 0, group;
    while (w != NULL && store_group_next(w->store, &cursor, &group)) {
        struct store_group sg;
        if (!store_group_get(w->store, group, &sg) || sg.state != CHECKPOINT_GROUP_LIVE) continue;
        if (sg.unborn || (!sg.log.damaged && worker_group(w, group) != NULL)) continue;
        const char *damage = store_damage(w->store);
        snprintf(why, why_size, "durability: node %u calls its replica of group %u damaged (%s), and nothing harmed its disk",
                 node, group, damage == NULL ? "log and state contradict each other" : damage);
        return false;
    }
    return true;
}

bool cluster_intact(const struct cluster *c, uint32_t node, char *why, size_t why_size)
{
    for (uint32_t k = 0; k < workers_of(c); k++)
        if (!desk_is_intact(node_of(c, node)->desks[k].worker, node, why, why_size)) return false;
    return true;
}

static uint64_t conf_index(const struct cluster *c, uint32_t group)
{
    return c->annals[group] == NULL ? 0 : c->annals[group]->conf_index;
}

bool cluster_whole(const struct cluster *c, bool lasting, char *why, size_t why_size)
{
    for (uint32_t group = 0; group < GROUPS_MAX; group++) {
        const struct descriptor *d = descriptor_newest(c, group);
        if (d == NULL && group != KV_PARTITION_SYSTEM) continue; /* no such partition, or none any more: see owners_tile() */
        uint32_t wanted = cluster_replicas(c, group);
        uint32_t least = lasting ? wanted : cluster_replicas_least(c, group); /* nothing is lost while any is missing */
        bool good = d != NULL && d->replica_count <= wanted && d->replica_count >= least;
        snprintf(why, why_size, "group %u has %u replicas of %u", group, d == NULL ? 0 : d->replica_count, wanted);
        for (uint32_t i = 0; good && i < d->replica_count; i++) {
            const struct group *g = replica_at(c, d->replicas[i].node, group, d->replicas[i].id);
            struct store_group sg;
            good = d->replicas[i].role == DESCRIPTOR_VOTER && g != NULL && !g->installing && !g->rowless &&
                   g->descriptor.conf_epoch == d->conf_epoch && store_group_get(g->w->store, group, &sg) &&
                   (!lasting || sg.checkpointed >= conf_index(c, group));
            snprintf(why, why_size, "group %u: replica %u of node %u is not whole", group, d->replicas[i].id, d->replicas[i].node);
        }
        if (!good) return false;
    }
    return true;
}

static void group_tell(struct cluster *c, const struct desk *n, const struct group *g)
{
    struct raft_status s;
    raft_status(g->raft, env_now_ns(n->worker->env), &s);
    sim_note(c->o.sim, n->host, "group %u replica %u %s term %llu commit %llu applied %llu last %llu compacted %llu epoch %u%s%s%s%s%s",
             g->id, g->replica, raft_role_text(s.role), (unsigned long long)s.term, (unsigned long long)s.commit,
             (unsigned long long)g->applied, (unsigned long long)s.last, (unsigned long long)s.compacted,
             g->descriptor.conf_epoch, g->installing ? " installing" : "", g->rowless ? " rowless" : "", g->stalled != NULL ? " stalled" : "",
             g->fetching ? " fetching" : "", n->worker->poisoned ? " poisoned" : "");
    for (uint32_t i = 0; i < s.peer_count; i++) {
        const struct raft_peer_status *p = &s.peers[i];
        sim_note(c->o.sim, n->host, "  peer %u of node %u: match %llu next %llu%s%s%s%s", p->id, group_node_of(g, p->id),
                 (unsigned long long)p->match, (unsigned long long)p->next, p->voter ? " voter" : "",
                 p->learner ? " learner" : "", p->active ? " active" : "", p->snapshot ? " snapshot" : "");
    }
}

void cluster_tell(struct cluster *c)
{
    for (uint32_t i = 1; i <= desks_of(c); i++) {
        const struct desk *n = desk_of(c, i);
        uint32_t cursor = 0;
        uint64_t id;
        void *v;
        sim_note(c->o.sim, n->host, "%s, %u requests wait for the disk", n->worker == NULL ? "down" : "up",
                 disk_mem_pending(disk_sim_mem(n->disk)));
        while (n->worker != NULL && kv_map_next(&n->worker->groups, &cursor, &id, &v)) group_tell(c, n, v);
    }
}

/* All nodes know the same keyspaces; each is covered by partitions, and of no other is one left. */
static bool keyspaces_agree(const struct cluster *c, char *why, size_t why_size)
{
    uint32_t count, others;
    uint64_t directory, theirs;
    const struct kv_keyspace *k = keyspaces_all(face_of(c, 1), &count, &directory);
    for (uint32_t i = 1; i <= c->o.nodes; i++) {
        if (!cluster_is_member(c, i)) continue;
        const struct worker *w = face_of(c, i);
        const struct kv_keyspace *other = keyspaces_all(w, &others, &theirs);
        snprintf(why, why_size, "node %u knows %u keyspaces as of %llu, node 1 %u as of %llu", i, others, (unsigned long long)theirs,
                 count, (unsigned long long)directory);
        if (others != count || theirs != directory) return false;
        for (uint32_t n = 1; n < count; n++)
            for (uint32_t p = 0; p < k[n].partitions; p++) {
                struct descriptor d;
                exec_partition(&k[n], p, &d);
                const struct partition *at = map_find(w, kv_key_slice(&d.from));
                if (other[n].id == k[n].id && at != NULL && map_descriptor(at)->keyspace == k[n].id) continue;
                snprintf(why, why_size, "node %u lacks partition %u of keyspace %u", i, d.id, k[n].id);
                return false;
            }
    }
    for (uint32_t i = 1; i <= desks_of(c); i++) {
        const struct worker *w = desk_of(c, i)->worker;
        if (!cluster_is_member(c, desk_of(c, i)->id)) continue;
        uint32_t cursor = 0;
        uint64_t id;
        void *v;
        while (kv_map_next(&w->groups, &cursor, &id, &v)) {
            const struct group *g = v;
            if (id == KV_PARTITION_SYSTEM || keyspaces_find(w, g->descriptor.keyspace) != NULL) continue;
            snprintf(why, why_size, "node %u still has partition %u of keyspace %u, which is gone", desk_of(c, i)->id, g->id, g->descriptor.keyspace);
            return false;
        }
    }
    return true;
}

/* Nobody follows a leader that does not lead: a quiet group would not notice. */
static bool all_led(const struct cluster *c, char *why, size_t why_size)
{
    for (uint32_t i = 1; i <= desks_of(c); i++) {
        if (!cluster_is_member(c, desk_of(c, i)->id)) continue;
        uint32_t cursor = 0;
        uint64_t id;
        void *v;
        while (kv_map_next(&desk_of(c, i)->worker->groups, &cursor, &id, &v)) {
            const struct group *g = v, *h = NULL;
            uint32_t node = group_leader_node(g);
            if (node != 0) h = replica_at(c, node, g->id, g->leader);
            if (h != NULL && group_leads(h) && raft_term_now(h->raft) == raft_term_now(g->raft)) continue;
            snprintf(why, why_size, "group %u: node %u follows node %u, which does not lead", g->id, desk_of(c, i)->id, node);
            return false;
        }
    }
    return true;
}

bool cluster_settled(struct cluster *c, char *why, size_t why_size)
{
    uint64_t first[GROUPS_MAX] = {0};
    for (uint32_t i = 1; i <= desks_of(c); i++) {
        const struct desk *n = desk_of(c, i);
        if (n->worker != NULL || !cluster_is_member(c, n->id)) continue;
        snprintf(why, why_size, "node %u is down: %s", n->id, n->node->why);
        return false;
    }
    if (!cluster_whole(c, false, why, why_size) || !keyspaces_agree(c, why, why_size) || !owners_tile(c, why, why_size) ||
        !all_led(c, why, why_size) || !cluster_nodes_agree(c, why, why_size) || !cluster_jobs_over(c, why, why_size))
        return false;
    for (uint32_t i = 1; i <= desks_of(c); i++) {
        if (!cluster_is_member(c, desk_of(c, i)->id)) continue;
        uint32_t cursor = 0;
        uint64_t id;
        void *v;
        while (kv_map_next(&desk_of(c, i)->worker->groups, &cursor, &id, &v)) {
            const struct group *g = v;
            if (g->id >= GROUPS_MAX) continue;
            if (leave_is_due(descriptor_newest(c, g->id), g->replica)) { /* nobody has told it yet */
                snprintf(why, why_size, "group %u: node %u still has replica %u, which was removed", g->id, desk_of(c, i)->id, g->replica);
                return false;
            }
            if (!role_check(c, desk_of(c, i), g, drains_can_end(c), why, why_size)) return false;
            if (g->descriptor.frozen_merge != 0) {
                snprintf(why, why_size, "group %u is frozen on node %u", g->id, desk_of(c, i)->id);
                return false;
            }
            if (first[g->id] == 0) first[g->id] = g->applied;
            if (g->applied == first[g->id]) continue;
            snprintf(why, why_size, "group %u: node %u applied up to %llu, another up to %llu", g->id, desk_of(c, i)->id,
                     (unsigned long long)g->applied, (unsigned long long)first[g->id]);
            return false;
        }
    }
    return true;
}

/* Every row of every node, class by class and group by group, all as they are at this instant: a write whose client has
 * long given up may be applied while the scans are read. A class is read in one page: records of one key would
 * not fit two. Dedup records near the end of their retention are left out: each replica sweeps them when it
 * will. Rows of a group that has no replica on the node are nobody's: a snapshot deletes them if one comes. */
enum { ROWS_MAX = 1 << 20,
       ROWS_BYTES_MAX = 256 << 20,
       DEDUP_SURE_MS = 150000 };
struct rows {
    struct store_scan scan;
    const struct worker *w;
    struct of_group {
        uint64_t hash, count;
        bool is_there; /* when the scans began: one that comes meanwhile, to another worker, has its rows later */
    } groups[GROUPS_MAX];
    uint64_t stamp_least_ms; /* of dedup records */
    struct written found[KEYSPACES_KEPT];
    bool done;
    enum kv_err err;
};

static void note_found(struct rows *r, uint32_t keyspace, struct kv_slice key)
{
    struct written *f = &r->found[keyspace % KEYSPACES_KEPT];
    if (keyspace <= KV_KEYSPACE_DEFAULT) return;
    f->keyspace = keyspace;
    f->keys |= (uint8_t)(1u << (key.data[key.size - 1] - (uint8_t)'0'));
}

static void rows_done(struct store_scan *s, enum kv_err err)
{
    struct rows *r = container_of(s, struct rows, scan);
    for (uint32_t i = 0; err == KV_OK && i < s->row_count; i++) {
        const struct store_row *row = &s->rows[i];
        if (s->class == STORE_DEDUP && (row->value.size < 8 || le64_get(row->value.data) < r->stamp_least_ms)) continue;
        const struct partition *p = map_find(r->w, row->key);
        if (p == NULL || p->group == NULL || p->id >= GROUPS_MAX) continue;
        if (s->class == STORE_DATA) note_found(r, map_descriptor(p)->keyspace, row->key);
        struct of_group *g = &r->groups[p->id];
        g->hash = kv_hash64(row->key, g->hash);
        g->hash = kv_hash64(row->sub, g->hash);
        g->hash = kv_hash64(row->value, g->hash);
        g->count++;
    }
    r->err = err == KV_OK && s->more ? KV_TOO_BIG : err;
    r->done = true;
    store_scan_free(s);
}

static uint64_t clock_newest(const struct cluster *c)
{
    uint64_t newest = 0;
    for (uint32_t i = 1; i <= desks_of(c); i++) {
        if (!cluster_is_member(c, desk_of(c, i)->id)) continue;
        uint32_t cursor = 0;
        uint64_t id;
        void *v;
        while (kv_map_next(&desk_of(c, i)->worker->groups, &cursor, &id, &v))
            if (((struct group *)v)->clock_ms > newest) newest = ((struct group *)v)->clock_ms;
    }
    return newest;
}

static void rows_read(struct cluster *c, struct rows *all)
{
    uint64_t clock_ms = clock_newest(c);
    struct rows *r = all;
    for (uint32_t k = 0; k < STORE_CLASSES; k++)
        for (uint32_t i = 0; i < desks_of(c); i++, r++) {
            r->w = desk_of(c, i + 1)->worker;
            r->done = r->w == NULL; /* one that is yet to join */
            if (r->done) continue;
            for (uint32_t id = 0; id < GROUPS_MAX; id++) r->groups[id].is_there = worker_group(r->w, id) != NULL;
            r->stamp_least_ms = clock_ms > DEDUP_SURE_MS ? clock_ms - DEDUP_SURE_MS : 0;
            r->scan = (struct store_scan){.done = rows_done, .class = (enum store_class)k, .rows_max = ROWS_MAX, .bytes_max = ROWS_BYTES_MAX};
            store_scan(r->w->store, &r->scan);
        }
    for (struct rows *end = r, *at = all; at != end; at++) /* a node that never answers would hang it: bounded */
        for (uint32_t step = 0; step < 1000 && !at->done; step++)
            sim_run_until(c->o.sim, sim_now_ns(c->o.sim) + KV_MS(10));
}

/* One class of one node, against the first node that has each group. */
static bool rows_agree(struct cluster *c, const struct rows *of_class, uint32_t node, const char *class, char *why, size_t why_size)
{
    const struct rows *r = &of_class[node];
    if (r->w == NULL) return true;
    if (!r->done || r->err != KV_OK) {
        snprintf(why, why_size, "node %u: its %s rows cannot be read: %s", node + 1, class, r->done ? kv_err_name(r->err) : "the scan has not ended");
        return false;
    }
    for (uint32_t id = 0; id < GROUPS_MAX; id++) {
        uint32_t first = 0;
        while (first < node && !of_class[first].groups[id].is_there) first++;
        sim_mix(c->o.sim, kv_slice(&r->groups[id].hash, sizeof r->groups[id].hash));
        if (!r->groups[id].is_there || worker_group(r->w, id) == NULL || r->groups[id].hash == of_class[first].groups[id].hash) continue;
        snprintf(why, why_size, "group %u: node %u holds %llu %s rows, hash %016llx; node %u %llu rows, hash %016llx", id, node + 1,
                 (unsigned long long)r->groups[id].count, class, (unsigned long long)r->groups[id].hash, first + 1,
                 (unsigned long long)of_class[first].groups[id].count, (unsigned long long)of_class[first].groups[id].hash);
        return false;
    }
    return true;
}

/* What was written into other keyspaces, which no client reads, is there, wherever its partitions are now. */
static bool all_found(const struct cluster *c, const struct rows *data, char *why, size_t why_size)
{
    for (uint32_t i = 0; i < KEYSPACES_KEPT; i++) {
        const struct written *w = &c->written[i];
        uint8_t found = 0;
        for (uint32_t n = 0; n < desks_of(c); n++)
            if (data[n].found[i].keyspace == w->keyspace) found |= data[n].found[i].keys;
        if ((w->keys & ~found) == 0 || keyspaces_find(desk_of(c, 1)->worker, w->keyspace) == NULL) continue;
        snprintf(why, why_size, "keys of keyspace %u that were acknowledged are gone: %02x of %02x are there", w->keyspace, found, w->keys);
        return false;
    }
    return true;
}

bool cluster_same_rows(struct cluster *c, char *why, size_t why_size)
{
    static const char *const classes[STORE_CLASSES] = {"data", "lock", "dedup"};
    uint32_t nodes = desks_of(c);
    struct rows *all = calloc((size_t)STORE_CLASSES * nodes, sizeof *all);
    assert(all != NULL);
    rows_read(c, all);
    bool good = true;
    for (uint32_t k = 0; k < STORE_CLASSES && good; k++)
        for (uint32_t i = 0; i < nodes && good; i++) good = rows_agree(c, all + k * nodes, i, classes[k], why, why_size);
    good = good && all_found(c, all + STORE_DATA * nodes, why, why_size);
    free(all);
    return good;
}

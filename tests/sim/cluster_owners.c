#include "client/base/hash.h"
#include "server/keyspaces.h"
#include "server/leave.h"
#include "server/map.h"
#include "tests/sim/cluster_impl.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* Who owns which keys, over all nodes and deaths (R9, R12):
 *   reach     a partition's range epoch means one range, whoever says so, for the whole run
 *   overlap   on a node no two groups share a key; over all nodes those that do are of different range epochs
 *   serving   of two partitions that share a key at most one would answer now: it leads, is not frozen, has applied
 *             all it knows to be committed, and holds its lease by its own clock
 *   ended     one that was absorbed serves nothing anywhere
 *   tiling    in the end the partitions of each keyspace lie side by side from its first key to its last: every key
 *             has one owner, by the replicas and by every node's map the same */

static struct kv_range range_of(const struct descriptor *d)
{
    return (struct kv_range){kv_key_slice(&d->from), kv_key_slice(&d->to)};
}

bool reach_check(struct cluster *c, const struct descriptor *d, char *why, size_t why_size)
{
    struct annals *a = annals_of(c, d->id);
    if (a == NULL) return true;
    uint64_t hash = kv_hash64(kv_key_slice(&d->to), kv_hash64(kv_key_slice(&d->from), d->keyspace));
    struct reach *r = &a->reaches[d->range_epoch % EPOCHS_PER_GROUP];
    if (r->range_epoch < d->range_epoch) *r = (struct reach){.range_epoch = d->range_epoch, .hash = hash};
    if (r->range_epoch != d->range_epoch || r->hash == hash) return true;
    snprintf(why, why_size, "ownership: range epoch %u of group %u means two ranges", d->range_epoch, d->id);
    return false;
}

/* What a node was told of partitions that it has no replica of. */
static bool told_check(struct cluster *c, const struct node *n, char *why, size_t why_size)
{
    const struct partition *p;
    for (uint32_t i = 0; n->worker != NULL && (p = map_at(n->worker, i)) != NULL; i++)
        if (p->told != NULL && !reach_check(c, p->told, why, why_size)) return false;
    return true;
}

/* The rule by which group_read() answers by the lease. */
static bool serves(const struct node *n, const struct group *g)
{
    return !n->worker->poisoned && !g->rowless && g->descriptor.frozen_merge == 0 && group_leads(g) && g->lead_index != 0 &&
           g->applied >= g->lead_index && g->applied == g->apply_to && raft_lease_held(g->raft, env_now_ns(n->worker->env));
}

static bool owner_check(const struct node *n, const struct group *g, const struct node *m, const struct group *h, char *why,
                        size_t why_size)
{
    const struct descriptor *a = &g->descriptor, *b = &h->descriptor;
    const char *what = "share keys";
    if (a->id == b->id || !kv_range_meets(range_of(a), range_of(b))) return true;
    bool good = n != m && a->range_epoch != b->range_epoch;
    if (good && serves(n, g) && serves(m, h)) {
        good = false;
        what = "both serve some keys";
    }
    if (!good)
        snprintf(why, why_size, "ownership: group %u of range epoch %u on node %u, and group %u of range epoch %u on node %u, %s",
                 a->id, a->range_epoch, n->id, b->id, b->range_epoch, m->id, what);
    return good;
}

/* A partition that ended by a merge, anywhere, is frozen wherever it still is: nobody else serves its keys. */
static bool ended_check(const struct cluster *c, const struct node *n, const struct group *g, char *why, size_t why_size)
{
    if (g->descriptor.frozen_merge != 0 || g->rowless) return true;
    const struct annals *a = g->id < GROUPS_MAX ? c->annals[g->id] : NULL;
    if (a != NULL && leave_is_due(&a->frozen, g->replica)) return true; /* it had been moved away, and was not told */
    for (uint32_t i = 1; i <= c->o.nodes; i++) {
        const struct node *m = node_of(c, i);
        struct store_group sg;
        if (m->worker == NULL || !store_group_get(m->worker->store, g->id, &sg) || sg.absorbed == 0) continue;
        snprintf(why, why_size, "ownership: group %u was absorbed on node %u, and is not frozen on node %u", g->id, m->id, n->id);
        return false;
    }
    return true;
}

/* One node's groups against those of all, another node with each check. */
bool ownership_check(struct cluster *c, char *why, size_t why_size)
{
    const struct node *n = node_of(c, 1 + (uint32_t)(c->checks % c->o.nodes));
    uint32_t at = 0;
    uint64_t id;
    void *v, *u;
    if (!told_check(c, n, why, why_size)) return false;
    while (n->worker != NULL && kv_map_next(&n->worker->groups, &at, &id, &v)) {
        const struct group *g = v;
        if (g->installing || g->dead) continue;
        if (!reach_check(c, &g->descriptor, why, why_size) || !ended_check(c, n, g, why, why_size)) return false;
        for (uint32_t i = 1; i <= c->o.nodes; i++) {
            const struct node *m = node_of(c, i);
            uint32_t cursor = 0;
            while (m->worker != NULL && kv_map_next(&m->worker->groups, &cursor, &id, &u)) {
                const struct group *h = u;
                if (u == v || h->installing || h->dead) continue;
                if (!owner_check(n, g, m, h, why, why_size)) return false;
            }
        }
    }
    return true;
}

/* ---- in the end ---- */

static int by_range(const void *a, const void *b)
{
    const struct descriptor *x = *(const struct descriptor *const *)a, *y = *(const struct descriptor *const *)b;
    return kv_slice_cmp(kv_key_slice(&x->from), kv_key_slice(&y->from));
}

/* From a key to where the partitions that follow it end, as long as they lie side by side. */
static uint32_t tiles_until(const struct descriptor *const *all, uint32_t count, uint32_t at, struct kv_slice end, struct kv_slice *next)
{
    while (at < count && kv_slice_eq(kv_key_slice(&all[at]->from), *next)) {
        *next = kv_key_slice(&all[at++]->to);
        if (kv_slice_eq(*next, end)) break;
    }
    return at;
}

static bool keyspace_tiles(const struct descriptor *const *all, uint32_t count, uint32_t *at, const struct kv_keyspace *k, char *why,
                           size_t why_size)
{
    struct kv_key start, end;
    kv_key_start((enum kv_key_kind)k->kind, k->id, &start);
    kv_key_end((enum kv_key_kind)k->kind, k->id, &end);
    struct kv_slice next = kv_key_slice(&start);
    *at = tiles_until(all, count, *at, kv_key_slice(&end), &next);
    if (kv_slice_eq(next, kv_key_slice(&end))) return true;
    snprintf(why, why_size, "ownership: keyspace %u: behind group %u is a gap, or an overlap with group %u", k->id, *at == 0 ? 0 : all[*at - 1]->id,
             *at < count ? all[*at]->id : 0);
    return false;
}

static int by_id(const void *a, const void *b)
{
    const struct kv_keyspace *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Every node's map says of each partition what its replicas say, and where its keys begin finds it. */
static bool maps_say(const struct cluster *c, const struct descriptor *d, char *why, size_t why_size)
{
    for (uint32_t i = 1; i <= c->o.nodes; i++) {
        const struct worker *w = node_of(c, i)->worker;
        if (!cluster_is_member(c, i)) continue;
        const struct partition *p = map_find(w, kv_key_slice(&d->from));
        const struct descriptor *said = p == NULL ? NULL : map_descriptor(p);
        if (said != NULL && said->id == d->id && said->range_epoch == d->range_epoch && kv_slice_eq(kv_key_slice(&said->to), kv_key_slice(&d->to)))
            continue;
        snprintf(why, why_size, "ownership: node %u takes group %u of range epoch %u for the owner of keys that group %u of range epoch %u owns", i,
                 said == NULL ? 0 : said->id, said == NULL ? 0 : said->range_epoch, d->id, d->range_epoch);
        return false;
    }
    return true;
}

bool owners_tile(const struct cluster *c, char *why, size_t why_size)
{
    const struct descriptor *all[GROUPS_MAX];
    struct kv_keyspace keyspaces[KV_KEYSPACES_MAX + 1];
    uint32_t count = 0, at = 0, keyspace_count;
    uint64_t directory;
    for (uint32_t group = KV_PARTITION_SYSTEM + 1; group < GROUPS_MAX; group++) {
        const struct descriptor *d = descriptor_newest(c, group);
        if (d != NULL) all[count++] = d;
    }
    qsort(all, count, sizeof all[0], by_range);
    const struct kv_keyspace *known = keyspaces_all(node_of(c, 1)->worker, &keyspace_count, &directory);
    assert(keyspace_count <= KV_KEYSPACES_MAX + 1);
    memcpy(keyspaces, known, keyspace_count * sizeof *known);
    qsort(keyspaces, keyspace_count, sizeof keyspaces[0], by_id);
    for (uint32_t i = 0; i < keyspace_count; i++)
        if (!keyspace_tiles(all, count, &at, &keyspaces[i], why, why_size)) return false;
    if (at < count) {
        snprintf(why, why_size, "ownership: group %u owns keys that another one owns, or of a keyspace that is gone", all[at]->id);
        return false;
    }
    for (uint32_t i = 0; i < count; i++)
        if (!maps_say(c, all[i], why, why_size)) return false;
    return true;
}

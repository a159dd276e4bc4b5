#include "client/base/hash.h"
#include "server/group.h"
#include "tests/sim/workload_impl.h"
#include <stdio.h>

/* What a replica shows of one key never goes back, at whatever level it is read: a read that began after another had
 * ended, of the same replica in the same life of its process, sees no older version. After a restart it may, since what it
 * had applied need not all be in its log as committed. */

static struct replica_at replica_at(const struct client *c, uint32_t node)
{
    const struct worker *w = cluster_worker(c->w->o.cluster, node);
    return w == NULL ? (struct replica_at){0} : (struct replica_at){w->started_ns, w->lives};
}

void versions_begin(struct client *c)
{
    for (uint32_t i = 0; i < cluster_size(c->w->o.cluster); i++) c->replicas[i] = replica_at(c, i + 1);
}

void versions_seen(struct client *c, const struct kv_result *result)
{
    struct workload *w = c->w;
    uint32_t node = result->node;
    if (node == 0 || node > cluster_size(w->o.cluster) || result->version.index == 0) return;
    struct replica_at before = c->replicas[node - 1], now = replica_at(c, node);
    struct group *g = now.started_ns == 0 ? NULL : worker_group(cluster_worker(w->o.cluster, node), result->partition);
    if (g == NULL || now.started_ns != before.started_ns || g->life > before.lives) return; /* it may have been another */
    uint64_t place = kv_hash64(kv_str(c->op.key), g->life * 64 + node);
    struct sighting *s = &w->sightings[place % WORKLOAD_SIGHTINGS_MAX];
    bool is_same = s->node == node && s->started_ns == now.started_ns && s->life == g->life && strcmp(s->key, c->op.key) == 0;
    int order = is_same ? kv_version_cmp(result->version, s->version) : 1;
    if (order < 0 && s->at_ns <= c->op.asked_ns && w->wrong[0] == '\0')
        snprintf(w->wrong, sizeof w->wrong, "versions: node %u's replica of group %u shows %s at %u:%llu after %u:%llu", node, g->id,
                 c->op.key, result->version.epoch, (unsigned long long)result->version.index, s->version.epoch,
                 (unsigned long long)s->version.index);
    if (order <= 0) return;
    *s = (struct sighting){.node = node, .started_ns = now.started_ns, .life = g->life, .at_ns = sim_now_ns(w->o.sim), .version = result->version};
    memcpy(s->key, c->op.key, sizeof s->key);
}

#include "server/node.h"
#include "storage/log_private.h"
#include "tests/sim/swarm_impl.h"
#include <assert.h>

/* The fault atlas: what destroys synced data strikes no more nodes than replication survives,
 * a minority, and strikes again only when the cluster is whole.
 *     A minority of the replicas that a partition has, since all of them may be on the nodes struck.
 * (1) Lost counts the nodes struck since the cluster was last whole: wiped, rotten, or with a
 *     device that lied or wrote elsewhere.
 * (2) A log can prove that an earlier batch is gone, never that the last one is. So a tainted
 *     node, whose device owes it writes that no later batch testifies to, is given an empty
 *     disk if it loses power before that is over: its owner knows the device is broken. */

bool swarm_may_lose(struct swarm *w, uint32_t node)
{
    char why[128];
    uint32_t data = cluster_replicas(w->cluster, 1), system = cluster_replicas(w->cluster, KV_PARTITION_SYSTEM), fewest = data < system ? data : system;
    bool whole = cluster_whole(w->cluster, true, why, sizeof why);
    if (whole)
        for (uint32_t i = 1; i <= w->plan.nodes; i++) whole = whole && !w->tainted[i] && cluster_intact(w->cluster, i, why, sizeof why);
    if (whole) {
        w->lost = 0;
        for (uint32_t i = 1; i <= w->plan.nodes; i++) /* one that is down finds it when it starts: the others have replaced it meanwhile */
            if (cluster_up(w->cluster, i)) w->struck[i] = false;
    }
    /* The first strike needs a whole cluster; a second one is for five nodes and more. */
    if (w->tainted[node] || (w->lost == 0 && !whole) || w->lost >= (fewest - 1) / 2) return false;
    w->lost++;
    w->struck[node] = true;
    return true;
}

void swarm_wipe(struct swarm *w, uint32_t node)
{
    w->tainted[node] = w->lying[node] = w->struck[node] = false; /* nothing is left to be harmed */
    cluster_wipe(w->cluster, node);
}

/* A lying device that is well again writes out what it had promised. */
void swarm_untaint(struct swarm *w, uint32_t node)
{
    struct disk_mem *d = disk_sim_mem(cluster_disk(w->cluster, node));
    if (!w->tainted[node] || w->lying[node] || !cluster_up(w->cluster, node) || disk_mem_since_misdirected(d) > 0) return;
    disk_mem_settle(d);
    w->tainted[node] = false;
}

/* Two batches behind one that went astray prove that it was synced: now the node may find out. */
bool swarm_misdirection_is_proven(struct swarm *w, uint32_t node)
{
    if (!w->tainted[node] || disk_mem_since_misdirected(disk_sim_mem(cluster_disk(w->cluster, node))) < 4) return false;
    w->tainted[node] = false;
    return true;
}

/* Flips bits in segments that are full, of which every later batch says that they are synced. */
uint32_t swarm_rot(struct swarm *w, uint32_t node)
{
    const struct worker *worker = cluster_worker_struck(w->cluster, node);
    const struct log *l = store_log(worker->store);
    struct disk_mem *d = disk_sim_mem(cluster_disk(w->cluster, node));
    uint32_t flipped = 0;
    if (l->segments.count < 2) return 0;
    for (uint64_t i = 1 + swarm_below(w, 3); i > 0; i--) {
        const struct log_segment *s = l->segments.at[swarm_below(w, l->segments.count - 1)];
        if (!s->ready || s->used == 0) continue;
        char name[LOG_NAME_BYTES];
        log_segment_name(s->id, name);
        flipped += disk_mem_flip(d, name, swarm_below(w, s->used), (uint8_t)(1 << swarm_below(w, 8)));
    }
    return flipped;
}

#include "server/founding.h"

#include "server/group.h"
#include "server/nodes.h"
#include "server/siblings.h"

static void describe(const struct worker *w, uint32_t partition, struct descriptor *d)
{
    const struct config *c = w->config;
    *d = (struct descriptor){.id = partition,
                             .range_epoch = 1,
                             .conf_epoch = 1,
                             .value_bytes_max = (uint32_t)c->value_max,
                             .dedup_retention_ms = KV_DEDUP_MS};
    if (partition == KV_PARTITION_SYSTEM) {
        d->keyspace = KV_KEYSPACE_SYSTEM;
        d->kind = DESCRIPTOR_RANGE;
        kv_key_range(KV_KEYSPACE_SYSTEM, kv_slice(NULL, 0), &d->from);
        kv_key_range(KV_KEYSPACE_SYSTEM + 1, kv_slice(NULL, 0), &d->to);
    } else {
        uint32_t width = KV_SLOTS / KV_PARTITIONS_DEFAULT, k = partition - 1;
        d->keyspace = KV_KEYSPACE_DEFAULT;
        d->kind = DESCRIPTOR_HASH;
        kv_key_slot_start(KV_KEYSPACE_DEFAULT, (uint16_t)(k * width), &d->from);
        kv_key_slot_start(KV_KEYSPACE_DEFAULT, (uint16_t)((k + 1) * width), &d->to);
    }
    /* Rotated, so that the first voters, who lead by preference, spread over the nodes. */
    uint32_t nodes = c->node_count == 0 ? 1 : c->node_count, fit[CONFIG_NODES_MAX] = {0}, fits = 0;
    for (uint32_t i = 0; i < c->node_count; i++)
        if (kv_node_has(c->nodes[i].roles, nodes_role_for(partition))) fit[fits++] = i;
    if (c->node_count == 0) fits = 1;
    for (uint32_t i = 0; i < fits && i < c->cluster_replicas; i++) {
        uint32_t at = fit[(partition + i) % fits];
        d->replicas[d->replica_count++] = (struct descriptor_replica){
            .id = at + 1, .node = c->node_count == 0 ? w->node_id : c->nodes[at].id, .role = DESCRIPTOR_VOTER, .store = STORE_ORIGINAL};
    }
    d->replica_next = nodes + 1;
}

static const struct descriptor_replica *own_replica(const struct worker *w, const struct descriptor *d)
{
    for (uint32_t i = 0; i < d->replica_count; i++)
        if (d->replicas[i].node == w->node_id) return &d->replicas[i];
    return NULL;
}

static void create(struct worker *w, const struct descriptor *d, raft_id replica)
{
    struct store_group sg;
    if (store_group_get(w->store, d->id, &sg)) return;
    if (!worker_create_replica(w, d, replica, 0, 0)) worker_open_failed(w, d->id, KV_NO_SPACE);
}

/* Each goes to the worker that has the fewest, of these to the one with the fewest of its kind: those that lead by preference have
 * most of the work. All workers come to the same without asking each other. */
void founding_begin(struct worker *w)
{
    uint32_t count[WORKERS_MAX] = {0}, of_kind[2][WORKERS_MAX] = {{0}};
    for (uint32_t p = 0; p <= KV_PARTITIONS_DEFAULT; p++) {
        struct descriptor d;
        describe(w, p, &d);
        const struct descriptor_replica *own = own_replica(w, &d);
        if (own == NULL) continue;
        uint32_t *kind = of_kind[own == d.replicas], at = 0;
        for (uint32_t k = 1; p != KV_PARTITION_SYSTEM && k < siblings_count(w); k++)
            if (count[k] < count[at] || (count[k] == count[at] && kind[k] < kind[at])) at = k;
        count[at]++;
        kind[at]++;
        if (at == w->o.index) create(w, &d, own->id);
    }
}

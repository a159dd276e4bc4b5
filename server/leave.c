#include "server/leave.h"

#include <stdlib.h>

#include "server/transfer.h"

struct leaving {
    struct leaving *next;
    struct worker *w;
    struct store_destroy destroy;
    struct kv_key from, to;
};

bool leave_is_due(const struct descriptor *d, raft_id replica)
{
    for (uint32_t i = 0; i < d->replica_count; i++)
        if (d->replicas[i].id == replica) return false;
    return replica < d->replica_next;
}

void leave_group(struct group *g)
{
    if (g->is_gone || g->dead) return;
    JOURNAL(g->w->journal, raft, INFO, "replica-leaves", "group=%u replica=%u", g->id, g->replica);
    g->is_gone = true;
    group_touch(g);
}

static void destroyed(struct store_destroy *d, enum kv_err err)
{
    struct leaving *l = container_of(d, struct leaving, destroy);
    if (err == KV_OK) JOURNAL(l->w->journal, store, INFO, "replica-left", "group=%u", d->group);
    struct leaving **link = &l->w->leaving;
    while (*link != l) link = &(*link)->next;
    *link = l->next;
    free(l);
}

/* Short of memory it stays until the next start, which finds a descriptor without it. */
void leave_begin(struct worker *w, const struct descriptor *d)
{
    struct leaving *l = calloc(1, sizeof *l);
    if (l == NULL) return;
    l->w = w;
    l->from = d->from;
    l->to = d->to;
    l->destroy = (struct store_destroy){
        .done = destroyed, .group = d->id, .range = {kv_key_slice(&l->from), kv_key_slice(&l->to)}};
    l->next = w->leaving;
    w->leaving = l;
    store_group_destroy(w->store, &l->destroy);
}

static bool is_inside(const struct descriptor *inner, const struct descriptor *outer)
{
    struct kv_slice end = kv_key_slice(&inner->to), limit = kv_key_slice(&outer->to);
    bool ends = limit.size == 0 || (end.size != 0 && kv_slice_cmp(end, limit) <= 0);
    return ends && kv_slice_cmp(kv_key_slice(&inner->from), kv_key_slice(&outer->from)) >= 0;
}

static bool is_placed_on(const struct descriptor *d, uint32_t node)
{
    for (uint32_t i = 0; i < d->replica_count; i++)
        if (d->replicas[i].node == node) return true;
    return false;
}

void leave_told(struct worker *w, const struct descriptor *d)
{
    if (store_damage(w->store) == NULL) return;
    uint32_t cursor = 0, id;
    while (store_group_next(w->store, &cursor, &id)) {
        struct store_group sg;
        struct descriptor own;
        if (!store_group_get(w->store, id, &sg) || sg.state != CHECKPOINT_GROUP_LIVE || !sg.log.damaged || worker_group(w, id) != NULL ||
            transfer_is_inbound(w, id) || descriptor_decode(sg.descriptor, &own) != KV_OK)
            continue;
        if (id == d->id && leave_is_due(d, sg.replica)) leave_begin(w, &own);
        /* Its keys have another owner, whose snapshot, should one come, would do the same. */
        else if (id != d->id && d->range_epoch > own.range_epoch && is_inside(&own, d) && !is_placed_on(d, w->node_id))
            store_evict(w->store, (struct kv_range){kv_key_slice(&own.from), kv_key_slice(&own.to)}, d->range_epoch, UINT32_MAX);
    }
}

void leave_drop(struct worker *w)
{
    while (w->leaving != NULL) {
        struct leaving *l = w->leaving;
        w->leaving = l->next;
        free(l);
    }
}

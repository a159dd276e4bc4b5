#include "server/leave.h"

#include <stdlib.h>

#include "server/seats.h"

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
    seats_tell_gone(l->w, d->group);
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

void leave_drop(struct worker *w)
{
    while (w->leaving != NULL) {
        struct leaving *l = w->leaving;
        w->leaving = l->next;
        free(l);
    }
}

#include <stdlib.h>

#include "server/group.h"
#include "server/map.h"

/* Sizes are taken anew after each checkpoint, for all replicas here at once. */
enum { SIZE_AGAIN_S = 5 };

struct sized {
    uint32_t group, range_epoch;
    struct kv_key from, to;
    uint64_t written; /* when it was asked */
};
struct sizing {
    struct worker_job job;
    struct store_sizes io;
    struct worker *w;
    struct sized *groups; /* as io.of */
};

static void sizing_free(struct sizing *s)
{
    free(s->io.of);
    free(s->groups);
    free(s);
}

static void discard(struct worker_job *j)
{
    sizing_free(container_of(j, struct sizing, job));
}

static void take(struct group *g, const struct sized *s, const struct checkpoint_size *size, uint64_t worth)
{
    struct load *l = &g->load;
    if (g->descriptor.range_epoch != s->range_epoch) return;
    l->written -= s->written < l->written ? s->written : l->written;
    l->bytes = size->bytes;
    l->sized_epoch = s->range_epoch;
    bool keeps = size->bytes >= worth && size->middle.size > 0;
    if (keeps && l->middle == NULL) l->middle = malloc(sizeof *l->middle);
    if (keeps && l->middle != NULL) {
        *l->middle = size->middle;
        return;
    }
    free(l->middle);
    l->middle = NULL;
}

static void sized(struct store_sizes *x, enum kv_err err)
{
    struct sizing *s = container_of(x, struct sizing, io);
    struct worker *w = s->w;
    for (uint32_t i = 0; err == KV_OK && i < x->count; i++) {
        struct group *g = worker_group(w, s->groups[i].group);
        if (g != NULL) take(g, &s->groups[i], &x->of[i], w->config->coordinator_split_bytes / 2);
    }
    if (err != KV_OK) JOURNAL(w->journal, store, DEBUG, "sizes-unknown", "err=%s", kv_err_name(err));
    w->loads.is_sizing = false;
    worker_job_end(&s->job);
    sizing_free(s);
}

static bool fill(struct sizing *s, struct worker *w)
{
    uint32_t count = 0;
    s->groups = calloc(w->groups.count + 1, sizeof *s->groups);
    s->io.of = calloc(w->groups.count + 1, sizeof *s->io.of);
    if (s->groups == NULL || s->io.of == NULL) return false;
    const struct partition *p;
    for (uint32_t i = 0; (p = map_at(w, i)) != NULL; i++) { /* in the order of their ranges */
        const struct group *g = p->group;
        if (g == NULL || g->dead || g->installing || count == w->groups.count) continue;
        struct sized *x = &s->groups[count];
        *x = (struct sized){.group = g->id, .range_epoch = g->descriptor.range_epoch, .from = g->descriptor.from, .to = g->descriptor.to, .written = g->load.written};
        s->io.of[count++].range = (struct kv_range){kv_key_slice(&x->from), kv_key_slice(&x->to)};
    }
    s->io.count = count;
    return true;
}

void load_size(struct worker *w, uint64_t now_ns)
{
    struct loads *l = &w->loads;
    struct store_stats st;
    store_stats(w->store, &st);
    if (l->is_sizing || w->poisoned || w->stopping || w->map_is_stale || l->checkpoint == st.checkpoints + 1 || now_ns < l->size_ns) return;
    struct sizing *s = calloc(1, sizeof *s);
    l->size_ns = now_ns + KV_SECONDS(SIZE_AGAIN_S);
    if (s == NULL || !fill(s, w)) {
        if (s != NULL) sizing_free(s);
        return;
    }
    l->checkpoint = st.checkpoints + 1;
    l->is_sizing = true;
    s->w = w;
    s->io.done = sized;
    s->job.discard = discard;
    worker_job_begin(w, &s->job);
    store_sizes(w->store, &s->io);
}

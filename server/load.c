#include "server/load.h"

#include <stdlib.h>

#include "client/base/hash.h"
#include "server/group.h"
#include "server/request.h"

/*
 * (1) A replica that serves anything is in the worker's list `active` from its first request on, until its rates are next to nothing.
 * (2) `sums` and `seconds` forget alike with each tick, so that their quotient is the rate from the first second on.
 * (3) What was counted under another range, or as another role, is forgotten.
 */
static const double hot_rate = 1.0, cold_rate = 0.2, silent_rate = 0.02; /* requests a second */

void load_activate(struct loads *w, struct load *l)
{
    l->next = w->active;
    l->link = &w->active;
    if (w->active != NULL) w->active->link = &l->next;
    w->active = l;
}

static void deactivate(struct load *l)
{
    if (l->link == NULL) return;
    *l->link = l->next;
    if (l->next != NULL) l->next->link = l->link;
    l->link = NULL;
}

/* At random distances, or a client that takes turns between keys would always be met at the same one. */
void load_rearm(struct loads *w)
{
    if (++w->samples % (LOAD_SAMPLES_MAX / 4) == 0) w->gap *= 2; /* more than the last second let expect */
    if (w->gap == 0) w->gap = 1;
    w->countdown = w->gap == 1 ? 1 : 1 + (uint32_t)(kv_random_next(&w->random) % (2 * (uint64_t)w->gap - 1));
}

void load_sample(struct group *g, enum load_kind kind, struct kv_slice encoded)
{
    struct load_hot *hot = g->load.hot;
    if (hot == NULL) return;
    double weight = g->w->loads.gap;
    sketch_add(&hot->keys, encoded, weight, kind == LOAD_READ);
    sample_add(&hot->sample, encoded, weight);
}

void load_sample_request(struct group *g, enum load_kind kind, const struct request *r)
{
    struct kv_key key;
    uint32_t first, step;
    if (g->load.hot == NULL || kv_op_keys(kv_op_info(r->body.op), r->body.arg_count, &first, &step) == 0) return;
    if (kv_key_encode(&g->rule, r->body.args[first], &key) == KV_OK) load_sample(g, kind, kv_key_slice(&key));
}

static void hot_free(struct load *l)
{
    if (l->hot == NULL) return;
    sketch_clear(&l->hot->keys);
    sample_clear(&l->hot->sample);
    free(l->hot);
    l->hot = NULL;
}

static void forget(struct group *g, uint64_t now_ns)
{
    struct load *l = &g->load;
    hot_free(l);
    l->range_epoch = g->descriptor.range_epoch;
    l->leads = group_leads(g);
    l->since_ns = now_ns;
    l->seconds = 0;
    for (int k = 0; k < LOAD_KINDS; k++) {
        l->seen[k] = l->counts[k];
        l->sums[k] = l->rates[k] = 0;
    }
}

static void step(struct group *g, double seconds, uint64_t now_ns)
{
    struct load *l = &g->load;
    double keep = LOAD_WINDOW_S / (LOAD_WINDOW_S + seconds), total = 0;
    if (l->range_epoch != g->descriptor.range_epoch || l->leads != group_leads(g)) {
        forget(g, now_ns);
        return;
    }
    l->seconds += seconds;
    for (int k = 0; k < LOAD_KINDS; k++) {
        l->sums[k] += (double)(l->counts[k] - l->seen[k]);
        l->seen[k] = l->counts[k];
        l->rates[k] = l->sums[k] / l->seconds;
        l->sums[k] *= keep;
        total += l->rates[k];
    }
    l->seconds *= keep;
    if (l->hot != NULL) {
        l->hot->seconds = (l->hot->seconds + seconds) * keep;
        sketch_decay(&l->hot->keys, keep);
        if (total < cold_rate) hot_free(l);
    } else if (total >= hot_rate) {
        l->hot = calloc(1, sizeof *l->hot); /* NULL: again with the next tick */
    }
    if (total >= silent_rate) return;
    deactivate(l);
    forget(g, l->since_ns);
}

void load_end(struct group *g)
{
    deactivate(&g->load);
    hot_free(&g->load);
    free(g->load.middle);
}

bool load_is_sized(const struct group *g)
{
    return g->load.sized_epoch == g->descriptor.range_epoch;
}

uint64_t load_bytes(const struct group *g)
{
    return (load_is_sized(g) ? g->load.bytes : 0) + g->load.written;
}

double load_rate(const struct load *l)
{
    return l->rates[LOAD_READ] + l->rates[LOAD_WRITE];
}

void load_tick(struct worker *w, uint64_t now_ns)
{
    struct loads *l = &w->loads;
    uint64_t served = l->served[LOAD_READ] + l->served[LOAD_WRITE];
    if (l->tick_ns == 0) l->tick_ns = now_ns;
    if (now_ns - l->tick_ns < KV_SECONDS(1)) return;
    double seconds = (double)(now_ns - l->tick_ns) / 1e9;
    l->tick_ns = now_ns;
    /* Not at once less: a load that comes in bursts would be met as if it were new each time. */
    uint32_t fits = 1 + (uint32_t)((double)(served - l->served_seen) / seconds / LOAD_SAMPLES_MAX);
    l->gap = fits > l->gap / 2 ? fits : l->gap / 2;
    l->served_seen = served;
    l->samples = 0;
    if (l->countdown > 2 * l->gap) l->countdown = l->gap; /* it was set while much more was served */
    for (struct load *at = l->active, *next; at != NULL; at = next) {
        next = at->next;
        step(container_of(at, struct group, load), seconds, now_ns);
    }
    load_size(w, now_ns);
    load_tell(w, now_ns);
}

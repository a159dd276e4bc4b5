#include <stdlib.h>

#include "server/group.h"
#include "server/map.h"
#include "server/nodes.h"
#include "server/peer.h"
#include "server/peer_codec.h"

/* What a partition serves is known some time after its leader or its range changed: coordinator.settle. All else is measured by that:
 * everything is told as often, what is in use twice as often, and what was told holds six times as long. */
enum { STALE = 6 };
static const double lighter_side_min = 0.2; /* of the load: with less a split spreads nothing */

/* The border between two slots of a hash keyspace, any key else. */
static size_t border_bytes(const struct descriptor *d)
{
    return d->kind == DESCRIPTOR_HASH ? KV_KEY_PREFIX_BYTES_MAX : 0;
}

static struct kv_slice border_of(const struct descriptor *d, struct kv_slice key)
{
    size_t size = border_bytes(d) != 0 && key.size > border_bytes(d) ? border_bytes(d) : key.size;
    struct kv_slice border = kv_slice(key.data, size);
    return kv_slice_cmp(border, kv_key_slice(&d->from)) > 0 ? border : kv_slice(NULL, 0);
}

/* Where to halve it is told only of what may have to be. */
static void report_of(const struct group *g, struct peer_load *out)
{
    const struct load *l = &g->load;
    const struct config *c = g->w->config;
    const struct descriptor *d = &g->descriptor;
    double rate = load_rate(l);
    *out = (struct peer_load){.group = g->id, .range_epoch = d->range_epoch, .rate = (uint64_t)(rate + 0.999), .has_bytes = load_is_sized(g)};
    if (out->has_bytes) out->bytes = load_bytes(g);
    if (rate >= (double)c->coordinator_split_load && l->hot != NULL) {
        struct kv_range range = {kv_key_slice(&d->from), kv_key_slice(&d->to)};
        double lighter = sample_median(&l->hot->sample, range, border_bytes(d), &out->median);
        out->is_lone = lighter < lighter_side_min;
        if (out->is_lone) out->median = kv_slice(NULL, 0);
    }
    if (out->has_bytes && out->bytes > c->coordinator_split_bytes && l->middle != NULL) out->middle = border_of(d, kv_key_slice(l->middle));
}

static void tell(struct group *g, uint32_t node, uint64_t now_ns)
{
    struct peer_load l;
    uint64_t since = g->led_ns > g->load.since_ns ? g->led_ns : g->load.since_ns;
    if (!group_leads(g) || g->id == KV_PARTITION_SYSTEM || now_ns - since < g->w->config->coordinator_settle) return;
    if (g->load.link != NULL && (g->load.range_epoch != g->descriptor.range_epoch || !g->load.leads)) return; /* noticed with the next tick */
    report_of(g, &l);
    if (node == g->w->node_id) load_learn(g->w, &l);
    else peer_send_load(g->w->peers, node, &l);
}

void load_tell(struct worker *w, uint64_t now_ns)
{
    struct loads *l = &w->loads;
    const struct partition *system = map_get(w, KV_PARTITION_SYSTEM);
    uint32_t node = system == NULL ? 0 : map_leader(system), cursor = 0;
    uint64_t id;
    void *v;
    if (node == 0 || nodes_are_one(w) || w->poisoned || now_ns < l->tell_ns) return;
    l->tell_ns = now_ns + w->config->coordinator_settle / 2;
    if (now_ns < l->tell_all_ns && node == l->told_node) {
        for (const struct load *at = l->active; at != NULL; at = at->next) tell(container_of((struct load *)(uintptr_t)at, struct group, load), node, now_ns);
        return;
    }
    l->tell_all_ns = now_ns + w->config->coordinator_settle;
    l->told_node = node;
    while (kv_map_next(&w->groups, &cursor, &id, &v)) {
        struct group *g = v;
        if (!load_is_sized(g)) l->checkpoint = 0; /* sizes are to be taken, though none was written */
        tell(g, node, now_ns);
    }
}

/* ---- at who leads partition 0 ---- */

static void key_keep(struct kv_slice *key, struct kv_slice told)
{
    uint8_t *own = told.size == 0 ? NULL : malloc(told.size);
    if (own != NULL) memcpy(own, told.data, told.size);
    free((void *)(uintptr_t)key->data);
    *key = kv_slice(own, own == NULL ? 0 : told.size);
}

void load_report_free(struct load_report *r)
{
    if (r == NULL) return;
    key_keep(&r->median, kv_slice(NULL, 0));
    key_keep(&r->middle, kv_slice(NULL, 0));
    free(r);
}

void load_learn(struct worker *w, const struct peer_load *l)
{
    struct partition *p = map_get(w, l->group);
    const struct descriptor *d = p == NULL ? NULL : map_descriptor(p);
    if (d == NULL || d->range_epoch != l->range_epoch) return;
    struct load_report *r = p->load;
    if (r != NULL && r->range_epoch != l->range_epoch) { /* another range: nothing of it is known */
        load_report_free(r);
        r = p->load = NULL;
    }
    if (r == NULL) r = p->load = calloc(1, sizeof *r);
    if (r == NULL) return;
    r->range_epoch = l->range_epoch;
    r->told_ns = env_now_ns(w->env);
    r->rate = l->rate;
    r->has_bytes = l->has_bytes;
    r->bytes = l->bytes;
    r->is_lone = l->is_lone;
    key_keep(&r->median, l->median);
    key_keep(&r->middle, l->middle);
}

struct load_report *load_report_of(const struct worker *w, const struct partition *p, uint64_t now_ns)
{
    struct load_report *r = p->load;
    const struct descriptor *d = map_descriptor(p);
    bool holds = r != NULL && d != NULL && r->range_epoch == d->range_epoch && now_ns - r->told_ns < STALE * w->config->coordinator_settle;
    return holds ? r : NULL;
}

#include "server/shape.h"

#include <stdlib.h>

#include "server/keyspaces.h"
#include "server/map.h"
#include "server/merge.h"

enum { AGAIN = 3, /* times coordinator.settle: until what was asked for is done, or refused, and loads are told of what became of it */
       DOUBLED_MAX = 6 };

static bool may_meet(const struct worker *w, uint32_t at, const struct descriptor *left)
{
    const struct partition *next = map_at(w, at + 1);
    const struct descriptor *right = next == NULL ? NULL : map_descriptor(next);
    if (right == NULL || left->to.size == 0 || !kv_slice_eq(kv_key_slice(&left->to), kv_key_slice(&right->from))) return false;
    bool other_labels = left->kind == DESCRIPTOR_LIST && right->from.size == KV_KEY_PREFIX_BYTES_MAX;
    return left->keyspace == right->keyspace && !other_labels && merge_has_same_nodes(left, right);
}

static bool is_changing(const struct partition *p, const struct descriptor *d)
{
    bool changes = map_leader(p) == 0 || d->frozen_merge != 0;
    for (uint32_t i = 0; i < d->replica_count; i++) changes = changes || d->replicas[i].role != DESCRIPTOR_VOTER;
    return changes;
}

/* What was refused will be again, likely: each time it waits twice as long. */
static bool is_asked(const struct worker *w, const struct load_report *r, uint64_t now_ns)
{
    uint32_t doubled = r->asked_times < 1 ? 0 : r->asked_times - 1 < DOUBLED_MAX ? r->asked_times - 1
                                                                                 : DOUBLED_MAX;
    return r->asked_ns != 0 && now_ns - r->asked_ns < (AGAIN * w->config->coordinator_settle) << doubled;
}

/* Until its leader has told: half of what it had as a larger one; and of what was split off, as much as its parent, the one before. */
static uint64_t guess(const struct partition *p, const struct shaping_partition *before)
{
    const struct descriptor *d = map_descriptor(p);
    if (d->keyspace == KV_KEYSPACE_SYSTEM) return 0;
    if (p->load != NULL) return p->load->range_epoch == d->range_epoch ? p->load->rate : p->load->rate / 2;
    return before != NULL && !before->is_known && before->keyspace == d->keyspace ? before->load : 0;
}

static void partition_see(struct worker *w, uint32_t at, const struct shaping_limits *limits, uint64_t now_ns, struct shaping_partition *out)
{
    const struct partition *p = map_at(w, at);
    const struct descriptor *d = map_descriptor(p);
    const struct kv_keyspace *k = keyspaces_find(w, d->keyspace);
    struct load_report *r = load_report_of(w, p, now_ns);
    *out = (struct shaping_partition){.id = p->id,
                                      .keyspace = d->keyspace,
                                      .created = k == NULL ? KV_PARTITIONS_DEFAULT : k->partitions,
                                      .is_known = r != NULL,
                                      .is_busy = d->keyspace == KV_KEYSPACE_SYSTEM || is_changing(p, d),
                                      .meets_next = may_meet(w, at, d)};
    if (r == NULL) {
        out->load = guess(p, at == 0 ? NULL : out - 1);
        return;
    }
    out->load = r->rate;
    out->bytes = r->has_bytes ? r->bytes : 0;
    out->is_busy = out->is_busy || is_asked(w, r, now_ns);
    out->halves_load = r->median.size > 0;
    out->halves_bytes = r->middle.size > 0;
    bool is_cold = r->has_bytes && shaping_is_cold(limits, r->rate, r->bytes);
    if (!is_cold) r->cold_ns = 0;
    else if (r->cold_ns == 0) r->cold_ns = now_ns;
    uint64_t after = w->config->coordinator_merge_after;
    out->is_cold = is_cold && after != 0 && now_ns - r->cold_ns >= after;
}

/* Said once of each: nothing can be done but by those who use that key. */
static void say_lone(struct worker *w, const struct shape *s, uint32_t at, uint64_t now_ns)
{
    struct load_report *r = load_report_of(w, map_at(w, at), now_ns);
    bool is_lone = r != NULL && r->is_lone && shaping_is_hot(&s->limits, r->rate, s->load_all);
    if (is_lone && !r->is_lone_said)
        JOURNAL(w->journal, main, WARN, "hot-key", "partition=%u rate=%llu why=\"one key has most of it, so that no split can spread it\" next=\"kvctl hot\"",
                s->partitions[at].id, (unsigned long long)r->rate);
    if (r != NULL) r->is_lone_said = is_lone || (r->is_lone_said && r->is_lone);
}

bool shape_see(struct worker *w, uint32_t nodes, uint64_t now_ns, struct shape *out)
{
    *out = (struct shape){.limits = {.split_bytes = w->config->coordinator_split_bytes,
                                     .split_load = w->config->coordinator_split_load,
                                     .partitions_max = (uint32_t)w->config->coordinator_partitions,
                                     .nodes = nodes}};
    while (map_at(w, out->count) != NULL) out->count++;
    out->partitions = calloc(out->count + 1, sizeof *out->partitions);
    if (out->partitions == NULL) return false;
    for (uint32_t i = 0; i < out->count; i++) {
        partition_see(w, i, &out->limits, now_ns, &out->partitions[i]);
        out->load_all += out->partitions[i].load;
        out->known += out->partitions[i].is_known;
    }
    /* With much unknown a node's share of it all looks smaller than it is. */
    bool is_partial = (uint64_t)(out->known + 1) * 10 < (uint64_t)out->count * 9;
    for (uint32_t i = 0; is_partial && i < out->count; i++) out->partitions[i].halves_load = false;
    return true;
}

uint32_t shape_plan(struct worker *w, struct shape *s, uint64_t now_ns, struct shaping_step *steps, uint32_t steps_max)
{
    uint32_t count = shaping_plan(&s->limits, s->partitions, s->count, steps, steps_max);
    for (uint32_t i = 0; i < s->count; i++) say_lone(w, s, i, now_ns);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t at = steps[i].at; at <= steps[i].at + (steps[i].reason == SHAPING_MERGE); at++) {
            struct load_report *r = load_report_of(w, map_at(w, at), now_ns);
            r->asked_ns = now_ns;
            r->asked_times++;
            s->partitions[at].is_busy = true;
        }
    return count;
}

struct kv_slice shape_key(const struct worker *w, const struct shaping_step *step)
{
    const struct partition *p = map_at(w, step->at);
    if (step->reason == SHAPING_MERGE) return kv_key_slice(&map_descriptor(p)->to);
    return step->reason == SHAPING_SPLIT_LOAD ? p->load->median : p->load->middle;
}

void shape_free(struct shape *s)
{
    free(s->partitions);
    *s = (struct shape){0};
}

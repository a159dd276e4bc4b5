#include "server/shaping.h"

enum { COLD_LOAD = 8, /* two cold ones serve together at most 1 / 8 of split_load */
       COLD_BYTES = 4 };

struct plan {
    const struct shaping_limits *limits;
    const struct shaping_partition *p;
    uint32_t count;
    uint64_t load_all;
    struct shaping_step *steps;
    double urgency[SHAPING_STEPS_MAX];
    uint32_t step_count, steps_max;
};

bool shaping_is_cold(const struct shaping_limits *limits, uint64_t load, uint64_t bytes)
{
    return load <= limits->split_load / COLD_LOAD && bytes <= limits->split_bytes / COLD_BYTES;
}

static double load_max(const struct shaping_limits *limits, uint64_t load_all)
{
    double share = (double)load_all / (limits->nodes == 0 ? 1 : limits->nodes) * SHAPING_SHARE_PERCENT / 100;
    return share > (double)limits->split_load ? share : (double)limits->split_load;
}

bool shaping_is_hot(const struct shaping_limits *limits, uint64_t load, uint64_t load_all)
{
    return limits->nodes > 1 && (double)load > load_max(limits, load_all);
}

static uint32_t keyspace_end(const struct plan *x, uint32_t from)
{
    uint32_t end = from;
    while (end < x->count && x->p[end].keyspace == x->p[from].keyspace) end++;
    return end;
}

/* How far it is above a limit, 1 being at it; 0: it is not, or cannot be split. */
static double urgency_of(const struct plan *x, const struct shaping_partition *p, enum shaping_reason *reason)
{
    if (p->is_busy || !p->is_known) return 0;
    double by_bytes = p->halves_bytes && p->bytes > x->limits->split_bytes ? (double)p->bytes / (double)x->limits->split_bytes : 0;
    double by_load = p->halves_load && shaping_is_hot(x->limits, p->load, x->load_all) ? (double)p->load / load_max(x->limits, x->load_all) : 0;
    *reason = by_load >= by_bytes ? SHAPING_SPLIT_LOAD : SHAPING_SPLIT_BYTES;
    return by_load >= by_bytes ? by_load : by_bytes;
}

/* The most urgent steps_max, in order. */
static void split_add(struct plan *x, uint32_t at, enum shaping_reason reason, double urgency)
{
    uint32_t i = x->step_count;
    if (i == x->steps_max && x->urgency[i - 1] >= urgency) return;
    if (i < x->steps_max) x->step_count++;
    else i--;
    for (; i > 0 && x->urgency[i - 1] < urgency; i--) {
        x->urgency[i] = x->urgency[i - 1];
        x->steps[i] = x->steps[i - 1];
    }
    x->urgency[i] = urgency;
    x->steps[i] = (struct shaping_step){reason, at};
}

static void splits(struct plan *x)
{
    for (uint32_t from = 0, end; from < x->count; from = end) {
        end = keyspace_end(x, from);
        uint32_t room = end - from < x->limits->partitions_max ? x->limits->partitions_max - (end - from) : 0;
        for (uint32_t i = from; i < end && room > 0; i++) {
            enum shaping_reason reason = SHAPING_SPLIT_LOAD;
            double urgency = urgency_of(x, &x->p[i], &reason);
            if (urgency == 0) continue;
            split_add(x, i, reason, urgency);
            room--;
        }
    }
}

static bool may_merge(const struct plan *x, const struct shaping_partition *left)
{
    const struct shaping_partition *right = left + 1;
    bool idle = !left->is_busy && !right->is_busy && left->is_known && right->is_known;
    return idle && left->meets_next && left->is_cold && right->is_cold &&
           shaping_is_cold(x->limits, left->load + right->load, left->bytes + right->bytes);
}

static void merges(struct plan *x)
{
    for (uint32_t from = 0, end; from < x->count; from = end) {
        end = keyspace_end(x, from);
        uint32_t created = x->p[from].created == 0 ? 1 : x->p[from].created, left = end - from;
        for (uint32_t i = from; i + 1 < end && left > created && x->step_count < x->steps_max; i++) {
            if (!may_merge(x, &x->p[i])) continue;
            x->steps[x->step_count++] = (struct shaping_step){SHAPING_MERGE, i};
            left--;
            i++; /* the right one has its step too */
        }
    }
}

uint32_t shaping_plan(const struct shaping_limits *limits, const struct shaping_partition *p, uint32_t count,
                      struct shaping_step *steps, uint32_t steps_max)
{
    struct plan x = {.limits = limits, .p = p, .count = count, .steps = steps, .steps_max = steps_max};
    if (steps_max > SHAPING_STEPS_MAX) x.steps_max = SHAPING_STEPS_MAX;
    if (x.steps_max == 0) return 0;
    for (uint32_t i = 0; i < count; i++) x.load_all += p[i].load;
    splits(&x);
    merges(&x);
    return x.step_count;
}

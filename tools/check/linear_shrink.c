#include "tools/check/linear.h"
#include <assert.h>
#include <stdlib.h>

/* From a failing history to a small one that still fails. Each step is sound: what it
 * takes away cannot turn a linearizable history into one that is not.
 *  - the tail: a prefix of a linearizable history is linearizable, with what is open made optional;
 *  - the front: operations completed before a moment go, and the state there is any;
 *  - reads: they constrain others and change nothing;
 *  - a class of register values: with all operations that touch any of them, and all
 *    values these touch; what is left never saw them. */

struct shrink {
    struct linear_op *trial;
    const struct linear_limit *limit;
    uint64_t *states;
};

static bool fails(struct shrink *s, uint32_t count, int64_t initial)
{
    return linear_check(s->trial, count, initial, s->limit, s->states) == LINEAR_NO;
}

static uint32_t cut_tail(struct shrink *s, const struct linear_op *ops, uint32_t count, uint32_t place)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (ops[i].call > place) continue;
        struct linear_op x = ops[i];
        if (x.ret != HISTORY_NEVER && x.ret > place) {
            x.ret = HISTORY_NEVER;
            if (x.f == LINEAR_READ) continue;
        }
        s->trial[kept++] = x;
    }
    return kept;
}

static uint32_t cut_front(struct shrink *s, const struct linear_op *ops, uint32_t count, uint32_t place)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++)
        if (ops[i].ret >= place) s->trial[kept++] = ops[i];
    return kept;
}

static void take(struct shrink *s, struct linear_op *ops, uint32_t *count, uint32_t kept)
{
    memcpy(ops, s->trial, kept * sizeof *ops);
    *count = kept;
}

/* Without the value `v` and all that hangs together with it; `count` if it is the initial one. */
static uint32_t drop_class(struct shrink *s, const struct linear_op *ops, uint32_t count, int64_t v, int64_t initial)
{
    bool *gone = calloc((size_t)count + 1, sizeof *gone);
    int64_t *class = calloc(2 * (size_t)count + 2, sizeof *class);
    uint32_t values = 1, kept = 0;
    bool good = gone != NULL && class != NULL;
    if (good) class[0] = v;
    for (uint32_t k = 0; good && k < values; k++) {
        if (class[k] == initial) good = false;
        for (uint32_t i = 0; i < count && good; i++) {
            bool cas = ops[i].f == LINEAR_CAS;
            if (gone[i] || (ops[i].a != class[k] && !(cas && ops[i].b == class[k]))) continue;
            gone[i] = true;
            if (cas) class[values++] = ops[i].a == class[k] ? ops[i].b : ops[i].a;
        }
    }
    for (uint32_t i = 0; i < count && good; i++)
        if (!gone[i]) s->trial[kept++] = ops[i];
    free(gone);
    free(class);
    return good ? kept : count;
}

uint32_t linear_shrink(struct linear_op *ops, uint32_t count, int64_t *initial, const struct linear_limit *limit,
                       uint64_t *states)
{
    struct linear_op *trial = calloc((size_t)count + 1, sizeof *trial);
    if (trial == NULL) return count;
    struct shrink s = {.trial = trial, .limit = limit, .states = states};
    uint32_t last = 0;
    for (uint32_t i = 0; i < count; i++)
        if (ops[i].ret != HISTORY_NEVER && ops[i].ret > last) last = ops[i].ret;
    /* The shortest failing prefix, then the latest failing start: both are monotone. */
    uint32_t low = 0, high = last;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (fails(&s, cut_tail(&s, ops, count, middle), *initial)) high = middle;
        else low = middle + 1;
    }
    uint32_t kept = cut_tail(&s, ops, count, high);
    if (fails(&s, kept, *initial)) take(&s, ops, &count, kept);
    low = 0;
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (fails(&s, cut_front(&s, ops, count, middle), LINEAR_ANY)) low = middle;
        else high = middle - 1;
    }
    kept = cut_front(&s, ops, count, low);
    if (kept < count && fails(&s, kept, LINEAR_ANY)) {
        take(&s, ops, &count, kept);
        *initial = LINEAR_ANY;
    }
    bool is_register = true;
    for (uint32_t i = 0; i < count; i++) is_register = is_register && ops[i].f != LINEAR_INCR;
    for (uint32_t i = 0; is_register && i < count;) {
        kept = drop_class(&s, ops, count, ops[i].a, *initial);
        if (kept < count && fails(&s, kept, *initial)) take(&s, ops, &count, kept);
        else i++;
    }
    for (uint32_t i = 0; i < count;) {
        kept = 0;
        for (uint32_t k = 0; k < count; k++)
            if (k != i) trial[kept++] = ops[k];
        if (ops[i].f == LINEAR_READ && fails(&s, kept, *initial)) take(&s, ops, &count, kept);
        else i++;
    }
    /* Optional operations that were seen by no one have played no part. */
    kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool seen = ops[i].ret != HISTORY_NEVER || ops[i].f == LINEAR_INCR;
        for (uint32_t k = 0; k < count && !seen; k++)
            seen = (ops[k].f == LINEAR_READ || ops[k].f == LINEAR_CAS) && k != i &&
                   ops[k].a == (ops[i].f == LINEAR_CAS ? ops[i].b : ops[i].a);
        if (seen) trial[kept++] = ops[i];
    }
    if (kept < count && fails(&s, kept, *initial)) take(&s, ops, &count, kept);
    free(trial);
    return count;
}

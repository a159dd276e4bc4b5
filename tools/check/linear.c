#include "tools/check/linear.h"
#include "client/base/hash.h"
#include <assert.h>
#include <stdlib.h>

/* Each required operation is two entries, call and return, in one list ordered by time.
 * An operation may be linearized next if its call stands before the first return left in
 * the list. Linearizing lifts both entries out; backtracking puts them back.
 *
 * (1) A configuration is (set of linearized operations, state); none is searched twice.
 *     Sets are remembered by 128 bits of a sum of random words, one pair per operation:
 *     two sets of one run meet by chance less often than memory flips bits.
 * (2) Optional operations (info) are no entries: they may come any time after their
 *     call, or never. They are tried after the required ones.
 * (3) Of equal optional operations the earliest called goes first: any order with
 *     another first can be swapped into this one.
 * (4) An optional write that no one can have seen is left out: taking it out of a legal
 *     order leaves a legal order. */

struct entry {
    struct entry *next, *previous;
    struct entry *ret; /* of a call: its return; NULL: this is a return */
    uint32_t op, place;
};

struct config {
    uint64_t low, high;
    int64_t state;
    bool used;
};

struct frame {
    uint32_t op;
    bool is_optional;
    int64_t state;
    struct entry *entry;
    uint32_t optional;
};

struct search {
    const struct linear_op *ops;
    uint32_t count;
    struct entry *entries, head;
    uint32_t *optionals, optional_count; /* in order of call */
    uint32_t *twins;                     /* per optional: the previous equal one + 1, or 0 */
    bool *taken;                         /* per optional */
    uint64_t (*words)[2];
    struct config *configs;
    uint64_t config_count, config_capacity;
    struct frame *frames;
    uint32_t frame_count;
};

static bool op_step(const struct linear_op *op, int64_t state, int64_t *next)
{
    switch (op->f) {
    case LINEAR_READ:
        *next = op->a;
        return state == LINEAR_ANY || state == op->a;
    case LINEAR_WRITE:
        *next = op->a;
        return true;
    case LINEAR_CAS:
        *next = op->b;
        return state == LINEAR_ANY || state == op->a;
    case LINEAR_INCR:
        if (state == LINEAR_ANY) {
            *next = op->b == LINEAR_NONE ? LINEAR_ANY : op->b;
            return true;
        }
        if (__builtin_add_overflow(state, op->a, next)) return false;
        return op->b == LINEAR_NONE || op->b == *next;
    }
    return false;
}

static bool op_equal(const struct linear_op *x, const struct linear_op *y)
{
    return x->f == y->f && x->a == y->a && x->b == y->b;
}

/* Rule 4: which optional operations someone may have seen. */
static void optional_choose(struct search *s)
{
    bool *kept = s->taken; /* all false; borrowed until the search begins */
    bool changed = true;
    while (changed) {
        changed = false;
        for (uint32_t i = 0; i < s->count; i++) {
            const struct linear_op *x = &s->ops[i];
            if (x->ret != HISTORY_NEVER || kept[i] || x->f == LINEAR_READ) continue;
            bool seen = x->f == LINEAR_INCR;
            int64_t value = x->f == LINEAR_CAS ? x->b : x->a;
            for (uint32_t k = 0; k < s->count && !seen; k++) {
                const struct linear_op *y = &s->ops[k];
                bool counts = y->ret != HISTORY_NEVER || kept[k];
                seen = counts && (y->f == LINEAR_READ || y->f == LINEAR_CAS) && y->a == value;
            }
            if (seen) kept[i] = changed = true;
        }
    }
    for (uint32_t i = 0; i < s->count; i++)
        if (kept[i]) s->optionals[s->optional_count++] = i;
    memset(kept, 0, s->count * sizeof *kept);
    for (uint32_t i = 0; i < s->optional_count; i++) {
        for (uint32_t k = i; k-- > 0 && s->twins[i] == 0;)
            if (op_equal(&s->ops[s->optionals[i]], &s->ops[s->optionals[k]])) s->twins[i] = k + 1;
    }
}

static int entry_compare(const void *a, const void *b)
{
    const struct entry *x = *(const struct entry *const *)a, *y = *(const struct entry *const *)b;
    return x->place < y->place ? -1 : x->place > y->place;
}

static bool search_init(struct search *s)
{
    size_t n = (size_t)s->count + 1;
    s->entries = calloc(2 * n, sizeof *s->entries);
    s->optionals = calloc(n, sizeof *s->optionals);
    s->twins = calloc(n, sizeof *s->twins);
    s->taken = calloc(n, sizeof *s->taken);
    s->words = calloc(n, sizeof *s->words);
    s->frames = calloc(n, sizeof *s->frames);
    struct entry **order = calloc(2 * n, sizeof(struct entry *));
    s->config_capacity = 1024;
    s->configs = calloc(s->config_capacity, sizeof *s->configs);
    if (s->entries == NULL || s->optionals == NULL || s->twins == NULL || s->taken == NULL || s->words == NULL ||
        s->frames == NULL || order == NULL || s->configs == NULL) {
        free(order);
        return false;
    }
    optional_choose(s);
    uint64_t seed = 0x6B76;
    uint32_t entries = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        s->words[i][0] = kv_random_next(&seed);
        s->words[i][1] = kv_random_next(&seed);
        if (s->ops[i].ret == HISTORY_NEVER) continue;
        struct entry *call = &s->entries[entries], *ret = &s->entries[entries + 1];
        *call = (struct entry){.ret = ret, .op = i, .place = s->ops[i].call};
        *ret = (struct entry){.op = i, .place = s->ops[i].ret};
        order[entries] = call;
        order[entries + 1] = ret;
        entries += 2;
    }
    qsort(order, entries, sizeof(struct entry *), entry_compare);
    struct entry *last = &s->head;
    for (uint32_t i = 0; i < entries; i++) {
        last->next = order[i];
        order[i]->previous = last;
        last = order[i];
    }
    free(order);
    return true;
}

static void search_free(struct search *s)
{
    free(s->entries);
    free(s->optionals);
    free(s->twins);
    free(s->taken);
    free(s->words);
    free(s->configs);
    free(s->frames);
}

static void lift(struct entry *call)
{
    struct entry *ret = call->ret;
    call->previous->next = call->next;
    call->next->previous = call->previous; /* its return is behind it */
    ret->previous->next = ret->next;
    if (ret->next != NULL) ret->next->previous = ret->previous;
}

static void unlift(struct entry *call)
{
    struct entry *ret = call->ret;
    ret->previous->next = ret;
    if (ret->next != NULL) ret->next->previous = ret;
    call->previous->next = call;
    call->next->previous = call;
}

static struct config *config_slot(struct config *configs, uint64_t capacity, const struct config *c)
{
    uint64_t i = (c->low ^ (uint64_t)c->state * 0x9E3779B97F4A7C15u) & (capacity - 1);
    while (configs[i].used && (configs[i].low != c->low || configs[i].high != c->high || configs[i].state != c->state))
        i = (i + 1) & (capacity - 1);
    return &configs[i];
}

enum config_seen { CONFIG_NEW, CONFIG_KNOWN, CONFIG_MEMORY };
static enum config_seen config_insert(struct search *s, const struct config *c)
{
    if (4 * (s->config_count + 1) > 3 * s->config_capacity) {
        uint64_t capacity = 2 * s->config_capacity;
        struct config *configs = calloc(capacity, sizeof *configs);
        if (configs == NULL) return CONFIG_MEMORY;
        for (uint64_t i = 0; i < s->config_capacity; i++)
            if (s->configs[i].used) *config_slot(configs, capacity, &s->configs[i]) = s->configs[i];
        free(s->configs);
        s->configs = configs;
        s->config_capacity = capacity;
    }
    struct config *slot = config_slot(s->configs, s->config_capacity, c);
    if (slot->used) return CONFIG_KNOWN;
    *slot = *c;
    slot->used = true;
    s->config_count++;
    return CONFIG_NEW;
}

static uint32_t first_return(const struct search *s)
{
    const struct entry *e = s->head.next;
    while (e != NULL && e->ret != NULL) e = e->next;
    assert(e != NULL); /* every call in the list has its return behind it */
    return e->place;
}

enum linear_verdict linear_check(const struct linear_op *ops, uint32_t count, int64_t initial,
                                 const struct linear_limit *limit, uint64_t *states)
{
    uint64_t searched = 0;
    struct search s = {.ops = ops, .count = count};
    enum linear_verdict verdict = LINEAR_LIMIT;
    if (!search_init(&s)) goto out;
    struct config now = {.state = initial};
    struct entry *e = s.head.next;
    uint32_t optional = 0;
    while (s.head.next != NULL) {
        /* The next candidate: calls up to the first return, then the optional ones before it. */
        uint32_t chosen = count;
        bool is_optional = e == NULL || e->ret == NULL;
        if (!is_optional) {
            chosen = e->op;
        } else {
            uint32_t bound = first_return(&s);
            e = NULL;
            for (; optional < s.optional_count; optional++) {
                if (ops[s.optionals[optional]].call > bound) break;
                if (s.taken[optional] || (s.twins[optional] != 0 && !s.taken[s.twins[optional] - 1])) continue;
                chosen = s.optionals[optional];
                break;
            }
        }
        if (chosen == count) { /* none: take the last one back */
            if (s.frame_count == 0) {
                verdict = LINEAR_NO;
                goto out;
            }
            struct frame f = s.frames[--s.frame_count];
            now.low -= s.words[f.op][0];
            now.high -= s.words[f.op][1];
            now.state = f.state;
            if (f.is_optional) {
                s.taken[f.optional] = false;
                e = NULL;
                optional = f.optional + 1;
            } else {
                unlift(f.entry);
                e = f.entry->next;
                optional = 0;
            }
            continue;
        }
        struct config then = {.low = now.low + s.words[chosen][0], .high = now.high + s.words[chosen][1]};
        enum config_seen seen = CONFIG_KNOWN;
        if (op_step(&ops[chosen], now.state, &then.state)) {
            if (searched >= limit->states) goto out;
            if (limit->stop != NULL && searched % LINEAR_STOP_STATES == 0 && limit->stop(limit->stop_arg)) goto out;
            searched++;
            seen = config_insert(&s, &then);
            if (seen == CONFIG_MEMORY) goto out;
        }
        if (seen == CONFIG_KNOWN) {
            if (is_optional) optional++;
            else e = e->next;
            continue;
        }
        s.frames[s.frame_count++] = (struct frame){
            .op = chosen, .is_optional = is_optional, .state = now.state, .entry = e, .optional = optional};
        if (is_optional) s.taken[optional] = true;
        else lift(e);
        now = then;
        e = s.head.next;
        optional = 0;
    }
    verdict = LINEAR_YES;
out:
    search_free(&s);
    *states += searched;
    return verdict;
}

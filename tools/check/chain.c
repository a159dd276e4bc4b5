#include "tools/check/chain.h"
#include "client/base/map.h"
#include <assert.h>
#include <stdlib.h>

/* What grows only can be judged without a search. The reads of a linearizable history
 * form a chain: of two, one contains the other (a list: is a prefix of it). So every
 * operation has a rank: a read that of the elements it saw, an addition one below the
 * first read that saw it, or, unseen, above all reads. The order must go by rank, and
 * within a rank anything goes. It exists exactly if no operation that returned before
 * another was called has the higher rank. */

struct element {
    char *name;                 /* owned: its JSON text */
    uint32_t first_rank;        /* of the first read that saw it; NEVER: unseen */
    uint32_t adder, first_read; /* ops */
    uint32_t seen_by;           /* the last read that saw it, as op + 1; 0: none yet */
    bool added, failed;
};

struct chain {
    const struct history *h;
    const uint32_t *ops;
    uint32_t count;
    bool is_list;
    struct check_result *out;
    struct element *elements;
    uint32_t element_count, element_capacity;
    struct kv_map numbers;       /* integers -> element, as number + 1: nearly all there is, and lists are long */
    json_t *index;               /* of all others: name -> element */
    uint32_t **seen;             /* per op: the elements a read saw; sets: sorted */
    uint32_t *ranks;             /* per op */
    uint32_t *reads, read_count; /* places in ops, in chain order */
};

static void blame(struct chain *c, uint32_t a, uint32_t b, uint32_t d)
{
    uint32_t wanted[3] = {a, b, d};
    c->out->verdict = CHECK_VIOLATION;
    c->out->op_count = 0;
    c->out->ops = calloc(3, sizeof *c->out->ops);
    if (c->out->ops == NULL) return;
    for (uint32_t i = 0; i < c->count; i++) /* in order of call, each once */
        if (i == wanted[0] || i == wanted[1] || i == wanted[2]) c->out->ops[c->out->op_count++] = c->ops[i];
}

static const struct history_op *op_at(const struct chain *c, uint32_t i)
{
    return &c->h->ops[c->ops[i]];
}

static struct element *element_new(struct chain *c, char *name)
{
    if (c->element_count == c->element_capacity) {
        uint32_t capacity = c->element_capacity == 0 ? 64 : 2 * c->element_capacity;
        struct element *moved = realloc(c->elements, capacity * sizeof *moved);
        if (moved == NULL) return NULL;
        c->elements = moved;
        c->element_capacity = capacity;
    }
    struct element *e = &c->elements[c->element_count];
    *e = (struct element){.name = name, .first_rank = HISTORY_NEVER};
    return e; /* not yet counted: it may find no place in an index */
}

static struct element *element_of(struct chain *c, const json_t *value)
{
    bool is_number = json_is_integer(value);
    uint64_t number = is_number ? (uint64_t)json_integer_value(value) : 0;
    uintptr_t place = is_number ? (uintptr_t)kv_map_get(&c->numbers, number) : 0;
    if (place != 0) return &c->elements[place - 1];
    char *name = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
    if (name == NULL) return NULL;
    const json_t *known = is_number ? NULL : json_object_get(c->index, name);
    if (known != NULL) {
        free(name);
        return &c->elements[json_integer_value(known)];
    }
    struct element *e = element_new(c, name);
    place = (uintptr_t)c->element_count + 1;
    bool good = e != NULL && (is_number ? kv_map_put(&c->numbers, number, (void *)place)
                                        : json_object_set_new(c->index, name, json_integer(c->element_count)) == 0);
    if (!good) {
        free(name);
        return NULL;
    }
    c->element_count++;
    return e;
}

static bool additions(struct chain *c)
{
    for (uint32_t i = 0; i < c->count; i++) {
        const struct history_op *op = op_at(c, i);
        if (op->f == HISTORY_READ) continue;
        struct element *e = element_of(c, op->value);
        if (e == NULL) return false;
        if (op->outcome == HISTORY_FAIL) {
            if (!e->added) {
                e->failed = true;
                e->adder = i;
            }
            continue;
        }
        if (e->added && c->is_list) {
            c->out->verdict = CHECK_UNSUPPORTED;
            c->out->line = op->call_line;
            snprintf(c->out->why, sizeof c->out->why, "%.64s is appended in line %u already: values must be unique",
                     e->name, op_at(c, e->adder)->call_line);
            return false;
        }
        if (e->added) continue; /* of equal additions the first called may be the one that counts */
        e->added = true;
        e->adder = i;
    }
    return true;
}

static int u32_compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* What each read saw: only what was added, and nothing twice. */
static bool read_elements(struct chain *c, uint32_t i)
{
    const struct history_op *op = op_at(c, i);
    size_t size = json_is_array(op->value) ? json_array_size(op->value) : 0;
    if (!json_is_array(op->value) && !json_is_null(op->value)) {
        c->out->verdict = CHECK_MALFORMED;
        c->out->line = op->ret_line;
        snprintf(c->out->why, sizeof c->out->why, "a read of a %s must return an array", c->is_list ? "list" : "set");
        return false;
    }
    c->seen[i] = calloc(size + 1, sizeof **c->seen);
    if (c->seen[i] == NULL) return false;
    c->ranks[i] = (uint32_t)size;
    for (size_t k = 0; k < size; k++) {
        struct element *e = element_of(c, json_array_get(op->value, k));
        if (e == NULL) return false;
        c->seen[i][k] = (uint32_t)(e - c->elements);
        if (!e->added || op_at(c, e->adder)->call > op->ret) {
            blame(c, i, e->added || e->failed ? e->adder : i, i);
            snprintf(c->out->why, sizeof c->out->why, "the read returns %.64s, %s", e->name,
                     e->added ? "which was only added later" : e->failed ? "whose addition failed"
                                                                         : "which nobody added");
            return false;
        }
        if (e->seen_by == i + 1) {
            blame(c, i, e->adder, i);
            snprintf(c->out->why, sizeof c->out->why, "the read returns %.64s twice", e->name);
            return false;
        }
        e->seen_by = i + 1;
    }
    if (!c->is_list) qsort(c->seen[i], size, sizeof *c->seen[i], u32_compare);
    return true;
}

/* The reads by the count of what they saw: each must contain the one before. */
static bool chain_reads(struct chain *c)
{
    uint32_t *buckets = NULL, most = 0;
    for (uint32_t i = 0; i < c->count; i++)
        if (c->seen[i] != NULL && c->ranks[i] > most) most = c->ranks[i];
    buckets = calloc((size_t)most + 2, sizeof *buckets);
    if (buckets == NULL) return false;
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->seen[i] == NULL) continue;
        buckets[c->ranks[i] + 1]++;
        c->read_count++;
    }
    for (uint32_t k = 1; k <= most + 1; k++) buckets[k] += buckets[k - 1];
    for (uint32_t i = 0; i < c->count; i++)
        if (c->seen[i] != NULL) c->reads[buckets[c->ranks[i]]++] = i;
    free(buckets);
    for (uint32_t r = 0; r < c->read_count; r++) {
        uint32_t i = c->reads[r], before = r == 0 ? i : c->reads[r - 1];
        uint32_t have = c->ranks[before], k = 0;
        for (uint32_t x = 0; x < have; x++) {
            if (c->is_list) {
                if (c->seen[before][x] == c->seen[i][x]) continue;
            } else {
                while (k < c->ranks[i] && c->seen[i][k] < c->seen[before][x]) k++;
                if (k < c->ranks[i] && c->seen[i][k] == c->seen[before][x]) continue;
            }
            blame(c, before, i, i);
            snprintf(c->out->why, sizeof c->out->why,
                     c->is_list ? "two reads disagree about the order: neither is a prefix of the other (%.64s)"
                                : "two reads contradict each other: one lacks %.64s, the other something else",
                     c->elements[c->seen[before][x]].name);
            return false;
        }
        for (uint32_t x = 0; x < c->ranks[i]; x++) {
            struct element *e = &c->elements[c->seen[i][x]];
            if (e->first_rank != HISTORY_NEVER) continue;
            e->first_rank = c->is_list ? x + 1 : c->ranks[i];
            e->first_read = i;
        }
    }
    return true;
}

struct moment {
    uint32_t place, op;
    bool is_call;
};

static int moment_compare(const void *a, const void *b)
{
    const struct moment *x = a, *y = b;
    return x->place < y->place ? -1 : x->place > y->place;
}

/* No operation that returned may have a higher rank than one called after. */
static bool sweep(struct chain *c)
{
    struct moment *moments = calloc(2 * (size_t)c->count + 1, sizeof *moments);
    uint64_t *keys = calloc((size_t)c->count + 1, sizeof *keys);
    bool good = moments != NULL && keys != NULL;
    size_t count = 0;
    for (uint32_t i = 0; i < c->count && good; i++) {
        const struct history_op *op = op_at(c, i);
        bool is_read = op->f == HISTORY_READ, calls = true;
        if (is_read && c->seen[i] == NULL) continue;
        if (is_read) {
            keys[i] = 2 * (uint64_t)c->ranks[i] + 1;
        } else {
            if (op->outcome == HISTORY_FAIL) continue;
            const struct element *e = element_of(c, op->value);
            if (e == NULL) {
                good = false;
                break;
            }
            if (e->first_rank == HISTORY_NEVER && op->outcome == HISTORY_INFO) continue;
            keys[i] = e->first_rank == HISTORY_NEVER ? UINT64_MAX : 2 * (uint64_t)e->first_rank;
            calls = e->adder == i; /* an equal addition later on may stand anywhere above */
        }
        if (calls) moments[count++] = (struct moment){op->call, i, true};
        if (op->outcome == HISTORY_OK) moments[count++] = (struct moment){op->ret, i, false};
    }
    if (good) qsort(moments, count, sizeof *moments, moment_compare);
    uint32_t highest = 0;
    bool any = false;
    for (size_t m = 0; m < count && good; m++) {
        uint32_t i = moments[m].op;
        if (!moments[m].is_call) {
            if (!any || keys[i] > keys[highest]) highest = i;
            any = true;
        } else if (any && keys[highest] > keys[i]) {
            const struct history_op *early = op_at(c, highest), *late = op_at(c, i);
            uint32_t witness = i;
            if (late->f != HISTORY_READ) {
                const struct element *e = element_of(c, late->value);
                if (e != NULL && e->first_rank != HISTORY_NEVER) witness = e->first_read;
            }
            blame(c, highest, i, witness);
            snprintf(c->out->why, sizeof c->out->why, "the %s of line %u misses the %s completed in line %u",
                     history_f_text(late->f), late->f == HISTORY_READ ? late->ret_line : late->call_line,
                     history_f_text(early->f), early->ret_line);
            if (early->f == HISTORY_READ && late->f == HISTORY_READ)
                snprintf(c->out->why, sizeof c->out->why, "the read of line %u returns less than the one of line %u before it",
                         late->ret_line, early->ret_line);
            good = false;
        }
    }
    free(moments);
    free(keys);
    return good;
}

void chain_check(const struct history *h, const uint32_t *ops, uint32_t count, bool is_list,
                 struct check_result *out)
{
    struct chain c = {.h = h, .ops = ops, .count = count, .is_list = is_list, .out = out};
    size_t n = (size_t)count + 1;
    c.index = json_object();
    c.seen = calloc(n, sizeof *c.seen);
    c.ranks = calloc(n, sizeof *c.ranks);
    c.reads = calloc(n, sizeof *c.reads);
    out->verdict = CHECK_UNDECIDED; /* what stays if memory runs out */
    bool good = c.index != NULL && c.seen != NULL && c.ranks != NULL && c.reads != NULL && additions(&c);
    for (uint32_t i = 0; i < count && good; i++)
        if (op_at(&c, i)->f == HISTORY_READ && op_at(&c, i)->outcome == HISTORY_OK) good = read_elements(&c, i);
    if (good && chain_reads(&c) && sweep(&c)) out->verdict = CHECK_VALID;
    if (out->verdict == CHECK_UNDECIDED) snprintf(out->why, sizeof out->why, "out of memory");
    for (uint32_t i = 0; i < count && c.seen != NULL; i++) free(c.seen[i]);
    for (uint32_t i = 0; i < c.element_count; i++) free(c.elements[i].name);
    free(c.elements);
    free(c.seen);
    free(c.ranks);
    free(c.reads);
    kv_map_free(&c.numbers);
    json_decref(c.index);
}

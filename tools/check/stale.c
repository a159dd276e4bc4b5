#include "tools/check/stale.h"
#include <assert.h>
#include <stdlib.h>

/* A key may have a hundred thousand operations, half of them such reads, so each read is judged by a few binary searches in what is
 * gathered once: `by_value` and `gone` for registers, sums for counters. */
struct source { /* of a value, in order of (value, call) */
    uint32_t value, op;
    uint32_t latest; /* of those of its value up to this one: whose end comes last */
    bool is_open;    /* any of them never ended, so nobody knows until when it may take effect */
};
struct gone { /* of the operations from here on that left a value and were acknowledged: which was over first, and which of another value */
    uint32_t first, other;
};
struct sum { /* up to here, of increments and of decrements */
    int64_t up, down;
};
struct key { /* one key's operations, as indices among the history's, in order of call */
    const struct history *h;
    const uint32_t *ops;
    uint32_t count;
    json_t *ids;    /* of the values of a register, by their text */
    uint32_t *left; /* by operation: the id of what it left; 0: it does not say */
    uint32_t *seen; /* by id: the place by which the first read of it was over */
    struct source *sources;
    uint32_t source_count;
    struct gone *gone;
    struct sum *begun, *over; /* by call; by end, of those in `ends` */
    uint32_t *ends;
    uint32_t end_count;
};
struct stale { /* one read */
    const struct key *k;
    const struct history *h;
    const uint32_t *ops;
    uint32_t count, read; /* index among the history's */
    uint64_t since_ns;    /* what was gone by then must not be seen */
    struct check_result *out;
};

static void blame(struct stale *s, uint32_t first, uint32_t second, const char *why)
{
    struct check_result *out = s->out;
    out->verdict = CHECK_VIOLATION;
    snprintf(out->why, sizeof out->why, "%s", why);
    out->ops = calloc(3, sizeof *out->ops);
    if (out->ops == NULL) return;
    if (first != HISTORY_NEVER) out->ops[out->op_count++] = first;
    if (second != HISTORY_NEVER && second != first) out->ops[out->op_count++] = second;
    out->ops[out->op_count++] = s->read;
}

static bool may_have_been(const struct stale *s, const struct history_op *op)
{
    return op->outcome != HISTORY_FAIL && op->call < s->h->ops[s->read].completed;
}

static bool was_before(const struct stale *s, const struct history_op *op)
{
    return op->outcome == HISTORY_OK && op->ret_ns < s->since_ns;
}

/* ---- registers ---- */

/* What the register holds behind it; NULL: it does not say. */
static const json_t *left_by(const struct history_op *op)
{
    if (op->f == HISTORY_WRITE) return op->value;
    if (op->f == HISTORY_CAS) return json_array_get(op->value, 1);
    return op->f == HISTORY_READ && op->outcome == HISTORY_OK && !stale_is_weak(op) ? op->value : NULL;
}

/* From 1; 0: no such value, or no memory. `make`: the next free one if it is new. */
static uint32_t value_id(json_t *ids, const json_t *value, bool make)
{
    char *text = value == NULL ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
    json_t *known = text == NULL ? NULL : json_object_get(ids, text);
    if (known == NULL && text != NULL && make) {
        known = json_integer((json_int_t)json_object_size(ids) + 1);
        if (json_object_set_new(ids, text, known) != 0) known = NULL;
    }
    free(text);
    return (uint32_t)json_integer_value(known);
}

static int source_order(const void *a, const void *b)
{
    const struct source *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? -1 : 1;
    return x->op < y->op ? -1 : x->op > y->op;
}

static void sources_gather(struct key *k)
{
    for (uint32_t i = 0; i < k->count; i++) {
        const struct history_op *op = &k->h->ops[k->ops[i]];
        if (k->left[i] == 0 || op->outcome == HISTORY_FAIL) continue;
        if (op->f == HISTORY_READ) {
            if (op->ret < k->seen[k->left[i]]) k->seen[k->left[i]] = op->ret;
        } else {
            k->sources[k->source_count++] = (struct source){.value = k->left[i], .op = k->ops[i]};
        }
    }
    qsort(k->sources, k->source_count, sizeof *k->sources, source_order);
    for (uint32_t i = 0; i < k->source_count; i++) {
        struct source *s = &k->sources[i];
        const struct source *before = i > 0 && k->sources[i - 1].value == s->value ? s - 1 : NULL;
        const struct history_op *ops = k->h->ops;
        s->is_open = ops[s->op].outcome != HISTORY_OK || (before != NULL && before->is_open);
        s->latest = before != NULL && ops[before->latest].ret > ops[s->op].ret ? before->latest : s->op;
    }
}

static bool is_earlier(const struct key *k, uint32_t op, uint32_t than)
{
    return than == HISTORY_NEVER || k->h->ops[k->ops[op]].ret_ns < k->h->ops[k->ops[than]].ret_ns;
}

static void gone_gather(struct key *k)
{
    struct gone g = {HISTORY_NEVER, HISTORY_NEVER};
    k->gone[k->count] = g;
    for (uint32_t i = k->count; i-- > 0;) {
        if (k->left[i] != 0 && k->h->ops[k->ops[i]].outcome == HISTORY_OK) {
            if (is_earlier(k, i, g.first)) {
                if (g.first != HISTORY_NEVER && k->left[g.first] != k->left[i]) g.other = g.first;
                g.first = i;
            } else if (k->left[i] != k->left[g.first] && is_earlier(k, i, g.other)) {
                g.other = i;
            }
        }
        k->gone[i] = g;
    }
}

static bool register_gather(struct key *k)
{
    k->ids = json_object();
    k->left = calloc((size_t)k->count + 1, sizeof *k->left);
    k->sources = calloc((size_t)k->count + 1, sizeof *k->sources);
    k->gone = calloc((size_t)k->count + 1, sizeof *k->gone);
    if (k->ids == NULL || k->left == NULL || k->sources == NULL || k->gone == NULL) return false;
    for (uint32_t i = 0; i < k->count; i++) k->left[i] = value_id(k->ids, left_by(&k->h->ops[k->ops[i]]), true);
    size_t ids = json_object_size(k->ids) + 1;
    k->seen = malloc(ids * sizeof *k->seen);
    if (k->seen == NULL) return false;
    for (size_t i = 0; i < ids; i++) k->seen[i] = HISTORY_NEVER;
    sources_gather(k);
    gone_gather(k);
    return true;
}

/* An operation that proves what took effect by place `effect` gone in time; HISTORY_NEVER: none. */
static uint32_t gone_by(const struct stale *s, int64_t effect, uint32_t value)
{
    const struct key *k = s->k;
    uint32_t low = 0, high = k->count; /* the first that began behind it */
    assert(k->gone != NULL && k->left != NULL); /* register_gather() */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((int64_t)k->h->ops[k->ops[middle]].call > effect) high = middle;
        else low = middle + 1;
    }
    uint32_t by = k->gone[low].first;
    if (by != HISTORY_NEVER && k->left[by] == value) by = k->gone[low].other;
    return by != HISTORY_NEVER && k->h->ops[k->ops[by]].ret_ns < s->since_ns ? k->ops[by] : HISTORY_NEVER;
}

/* The last source of the value that had begun before the read was over; its place behind the first of them in `nth`. NULL: none. */
static const struct source *source_of(const struct stale *s, uint32_t value, uint32_t *nth)
{
    const struct key *k = s->k;
    uint32_t low = 0, high = k->source_count, first;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (k->sources[middle].value < value) low = middle + 1;
        else high = middle;
    }
    first = low;
    for (high = k->source_count; low < high;) {
        uint32_t middle = low + (high - low) / 2;
        const struct source *x = &k->sources[middle];
        if (x->value == value && k->h->ops[x->op].call < k->h->ops[s->read].completed) low = middle + 1;
        else high = middle;
    }
    *nth = low - first;
    return low == first ? NULL : &k->sources[low - 1];
}

static void register_read(struct stale *s)
{
    const json_t *value = s->h->ops[s->read].value;
    uint32_t id = value_id(s->k->ids, value, false), nth = 0, gone = HISTORY_NEVER;
    const struct source *source = id == 0 ? NULL : source_of(s, id, &nth);
    if (json_is_null(value)) { /* as it was at the beginning */
        gone = gone_by(s, -1, id);
        if (gone == HISTORY_NEVER) return;
    } else if (source == NULL) {
        blame(s, HISTORY_NEVER, HISTORY_NEVER, "a read returns a value that nobody had written");
        return;
    }
    if (source != NULL) {
        /* By then it had surely taken effect: its own end, or that of the first read of a value that nobody else wrote. */
        bool is_only = nth == 1 && !json_is_null(value);
        uint32_t effect = source->is_open ? HISTORY_NEVER : s->h->ops[source->latest].ret;
        if (is_only && s->k->seen[id] < effect) effect = s->k->seen[id];
        if (effect == HISTORY_NEVER) return;
        gone = gone_by(s, effect, id);
        if (gone == HISTORY_NEVER) return;
    }
    blame(s, source == NULL ? HISTORY_NEVER : source->latest, gone, "a read returns a value that was gone for longer than its bound allows");
}

/* ---- counters ---- */

static int64_t amount(const struct history_op *op)
{
    if (op->f != HISTORY_INCR || op->outcome == HISTORY_FAIL) return 0;
    return json_integer_value(json_is_array(op->value) ? json_array_get(op->value, 0) : op->value);
}

static struct sum sum_add(struct sum s, int64_t by)
{
    if (by > 0) s.up += by;
    else s.down += by;
    return s;
}

struct ended {
    uint64_t ret_ns;
    uint32_t op;
};

static int ended_order(const void *a, const void *b)
{
    const struct ended *x = a, *y = b;
    if (x->ret_ns != y->ret_ns) return x->ret_ns < y->ret_ns ? -1 : 1;
    return x->op < y->op ? -1 : x->op > y->op;
}

static bool counter_gather(struct key *k)
{
    struct ended *ended = calloc((size_t)k->count + 1, sizeof *ended);
    k->begun = calloc((size_t)k->count + 1, sizeof *k->begun);
    k->over = calloc((size_t)k->count + 1, sizeof *k->over);
    k->ends = calloc((size_t)k->count + 1, sizeof *k->ends);
    bool is_done = ended != NULL && k->begun != NULL && k->over != NULL && k->ends != NULL;
    for (uint32_t i = 0; is_done && i < k->count; i++) {
        const struct history_op *op = &k->h->ops[k->ops[i]];
        k->begun[i + 1] = sum_add(k->begun[i], amount(op));
        if (op->f == HISTORY_INCR && op->outcome == HISTORY_OK) ended[k->end_count++] = (struct ended){op->ret_ns, k->ops[i]};
    }
    if (is_done) qsort(ended, k->end_count, sizeof *ended, ended_order);
    for (uint32_t i = 0; is_done && i < k->end_count; i++) {
        k->ends[i] = ended[i].op;
        k->over[i + 1] = sum_add(k->over[i], amount(&k->h->ops[ended[i].op]));
    }
    free(ended);
    return is_done;
}

static void counter_read(struct stale *s)
{
    const struct key *k = s->k;
    uint32_t begun = 0, over = 0;
    assert(k->begun != NULL && k->over != NULL); /* counter_gather() */
    for (uint32_t high = k->count; begun < high;) {
        uint32_t middle = begun + (high - begun) / 2;
        if (k->h->ops[k->ops[middle]].call < k->h->ops[s->read].completed) begun = middle + 1;
        else high = middle;
    }
    for (uint32_t high = k->end_count; over < high;) {
        uint32_t middle = over + (high - over) / 2;
        if (k->h->ops[k->ends[middle]].ret_ns < s->since_ns) over = middle + 1;
        else high = middle;
    }
    int64_t got = json_integer_value(s->h->ops[s->read].value), low = k->over[over].up + k->begun[begun].down,
            high = k->begun[begun].up + k->over[over].down;
    if (got < low) blame(s, HISTORY_NEVER, HISTORY_NEVER, "a read lacks increments that were over for longer than its bound allows");
    else if (got > high) blame(s, HISTORY_NEVER, HISTORY_NEVER, "a read returns more than all increments that had begun");
}

/* ---- sets and lists ---- */

/* Elements by their text; NULL: one stands there twice, or no memory. */
static json_t *elements_of(const json_t *value, bool *is_twice)
{
    json_t *index = json_object();
    *is_twice = false;
    for (size_t i = 0; i < json_array_size(value) && index != NULL && !*is_twice; i++) {
        char *text = json_dumps(json_array_get(value, i), JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
        *is_twice = text != NULL && json_object_get(index, text) != NULL;
        if (text == NULL || json_object_set_new(index, text, json_false()) != 0) *is_twice = true;
        free(text);
    }
    return index;
}

static void chain_read(struct stale *s)
{
    const json_t *value = s->h->ops[s->read].value;
    bool is_twice;
    json_t *index = elements_of(value, &is_twice);
    size_t known = 0;
    if (is_twice) blame(s, HISTORY_NEVER, HISTORY_NEVER, "a read returns an element twice");
    for (uint32_t i = 0; i < s->count && !is_twice && s->out->verdict == CHECK_VALID; i++) {
        const struct history_op *op = &s->h->ops[s->ops[i]];
        if ((op->f != HISTORY_ADD && op->f != HISTORY_APPEND) || !may_have_been(s, op)) continue;
        char *text = json_dumps(op->value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
        json_t *seen = text == NULL ? NULL : json_object_get(index, text);
        if (seen == NULL && text != NULL && was_before(s, op))
            blame(s, s->ops[i], HISTORY_NEVER, "a read lacks an element that was there for longer than its bound allows");
        if (json_is_false(seen)) {
            known++;
            (void)json_object_set_new(index, text, json_true());
        }
        free(text);
    }
    if (s->out->verdict == CHECK_VALID && known < json_array_size(value))
        blame(s, HISTORY_NEVER, HISTORY_NEVER, "a read returns an element that nobody had added");
    json_decref(index);
}

static bool key_gather(struct key *k, enum check_model model)
{
    switch (model) {
    case CHECK_SET:
    case CHECK_LIST: return true;
    case CHECK_COUNTER: return counter_gather(k);
    case CHECK_INFER:
    case CHECK_REGISTER:
    case CHECK_MODELS: break;
    }
    return register_gather(k);
}

static void key_free(struct key *k)
{
    json_decref(k->ids);
    free(k->left);
    free(k->seen);
    free(k->sources);
    free(k->gone);
    free(k->begun);
    free(k->over);
    free(k->ends);
}

void stale_check(const struct history *h, const uint32_t *ops, uint32_t count, struct check_result *out)
{
    struct key k = {.h = h, .ops = ops, .count = count};
    if (!key_gather(&k, out->model)) {
        out->verdict = CHECK_UNDECIDED;
        snprintf(out->why, sizeof out->why, "out of memory");
    }
    for (uint32_t i = 0; i < count && out->verdict == CHECK_VALID; i++) {
        const struct history_op *op = &h->ops[ops[i]];
        if (!stale_is_weak(op) || op->outcome != HISTORY_OK) continue;
        uint64_t bound_ns = op->stale_ms * UINT64_C(1000000);
        bool is_bounded = op->level == HISTORY_BOUNDED && op->call_ns > bound_ns;
        struct stale s = {.k = &k, .h = h, .ops = ops, .count = count, .read = ops[i], .since_ns = is_bounded ? op->call_ns - bound_ns : 0, .out = out};
        switch (out->model) {
        case CHECK_SET:
        case CHECK_LIST: chain_read(&s); break;
        case CHECK_COUNTER: counter_read(&s); break;
        case CHECK_INFER:
        case CHECK_REGISTER:
        case CHECK_MODELS: register_read(&s); break;
        }
    }
    key_free(&k);
}

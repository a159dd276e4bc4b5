#include "tools/check/stale.h"
#include <stdlib.h>

struct stale { /* one read, and the key's operations */
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

static bool equal(const json_t *a, const json_t *b)
{
    return json_equal((json_t *)(uintptr_t)a, (json_t *)(uintptr_t)b) != 0 || (json_is_null(a) && json_is_null(b));
}

/* The place by which it had surely taken effect: its own end, or that of the first read of a value that nobody else wrote. */
static uint32_t effect_of(const struct stale *s, uint32_t source, const json_t *value, bool is_only)
{
    uint32_t at = s->h->ops[source].outcome == HISTORY_OK ? s->h->ops[source].ret : HISTORY_NEVER;
    for (uint32_t i = 0; is_only && i < s->count; i++) {
        const struct history_op *op = &s->h->ops[s->ops[i]];
        if (op->f == HISTORY_READ && left_by(op) != NULL && op->ret < at && equal(op->value, value)) at = op->ret;
    }
    return at;
}

/* An operation that proves what took effect by place `effect` gone in time; HISTORY_NEVER: none. */
static uint32_t gone_by(const struct stale *s, uint32_t source, int64_t effect, const json_t *value)
{
    for (uint32_t i = 0; i < s->count; i++) {
        const struct history_op *op = &s->h->ops[s->ops[i]];
        const json_t *left = s->ops[i] == source || !was_before(s, op) || (int64_t)op->call <= effect ? NULL : left_by(op);
        if (left != NULL && !equal(left, value)) return s->ops[i];
    }
    return HISTORY_NEVER;
}

static void register_read(struct stale *s)
{
    const json_t *value = s->h->ops[s->read].value;
    uint32_t sources = 0, source = HISTORY_NEVER, gone = HISTORY_NEVER;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct history_op *op = &s->h->ops[s->ops[i]];
        sources += op->f != HISTORY_READ && may_have_been(s, op) && equal(left_by(op), value);
    }
    if (json_is_null(value)) { /* as it was at the beginning */
        gone = gone_by(s, HISTORY_NEVER, -1, value);
        if (gone == HISTORY_NEVER) return;
    } else if (sources == 0) {
        blame(s, HISTORY_NEVER, HISTORY_NEVER, "a read returns a value that nobody had written");
        return;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        const struct history_op *op = &s->h->ops[s->ops[i]];
        if (op->f == HISTORY_READ || !may_have_been(s, op) || !equal(left_by(op), value)) continue;
        source = s->ops[i];
        uint32_t effect = effect_of(s, source, value, sources == 1 && !json_is_null(value));
        gone = effect == HISTORY_NEVER ? HISTORY_NEVER : gone_by(s, source, effect, value);
        if (gone == HISTORY_NEVER) return;
    }
    blame(s, source, gone, "a read returns a value that was gone for longer than its bound allows");
}

/* ---- counters ---- */

static void counter_read(struct stale *s)
{
    int64_t low = 0, high = 0, got = json_integer_value(s->h->ops[s->read].value);
    for (uint32_t i = 0; i < s->count; i++) {
        const struct history_op *op = &s->h->ops[s->ops[i]];
        if (op->f != HISTORY_INCR || !may_have_been(s, op)) continue;
        int64_t by = json_integer_value(json_is_array(op->value) ? json_array_get(op->value, 0) : op->value);
        bool counts = was_before(s, op);
        low += counts || by < 0 ? by : 0;
        high += counts || by > 0 ? by : 0;
    }
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

void stale_check(const struct history *h, const uint32_t *ops, uint32_t count, struct check_result *out)
{
    for (uint32_t i = 0; i < count && out->verdict == CHECK_VALID; i++) {
        const struct history_op *op = &h->ops[ops[i]];
        if (!stale_is_weak(op) || op->outcome != HISTORY_OK) continue;
        uint64_t bound_ns = op->stale_ms * UINT64_C(1000000);
        bool is_bounded = op->level == HISTORY_BOUNDED && op->call_ns > bound_ns;
        struct stale s = {.h = h, .ops = ops, .count = count, .read = ops[i], .since_ns = is_bounded ? op->call_ns - bound_ns : 0, .out = out};
        switch (out->model) {
        case CHECK_SET:
        case CHECK_LIST: chain_read(&s); break;
        case CHECK_COUNTER: counter_read(&s); break;
        case CHECK_INFER:
        case CHECK_REGISTER:
        case CHECK_MODELS: register_read(&s); break;
        }
    }
}

#include "tools/check/check.h"
#include "tools/check/chain.h"
#include "tools/check/linear.h"
#include "tools/check/stale.h"
#include <assert.h>
#include <stdlib.h>

/* Splits a history by key, finds each key's model and hands it to its checker. */

static const char *const model_texts[] = {"infer", "register", "counter", "set", "list"};
static const char *const verdict_texts[] = {"valid", "violation", "undecided", "malformed", "unsupported"};

const char *check_verdict_text(enum check_verdict v)
{
    return verdict_texts[v];
}

const char *check_model_text(enum check_model m)
{
    return model_texts[m];
}

bool check_model_find(const char *text, enum check_model *m)
{
    for (uint32_t i = 1; i < CHECK_MODELS; i++) {
        if (strcmp(text, model_texts[i]) != 0) continue;
        *m = (enum check_model)i;
        return true;
    }
    return false;
}

/* The model that has operation `f`; CHECK_INFER: any (read). */
static enum check_model model_of(enum history_f f)
{
    switch (f) {
    case HISTORY_WRITE:
    case HISTORY_CAS: return CHECK_REGISTER;
    case HISTORY_INCR: return CHECK_COUNTER;
    case HISTORY_ADD: return CHECK_SET;
    case HISTORY_APPEND: return CHECK_LIST;
    case HISTORY_READ:
    case HISTORY_TXN: return CHECK_INFER;
    }
    return CHECK_INFER;
}

static bool model_find(const struct history *h, const uint32_t *ops, uint32_t count, enum check_model wanted,
                       struct check_result *out)
{
    out->model = wanted;
    for (uint32_t i = 0; i < count; i++) {
        const struct history_op *op = &h->ops[ops[i]];
        enum check_model m = model_of(op->f);
        if (op->f == HISTORY_TXN) {
            out->verdict = CHECK_UNSUPPORTED;
            out->line = op->call_line;
            snprintf(out->why, sizeof out->why, "transactions cannot be judged yet");
            return false;
        }
        if (m == CHECK_INFER) continue;
        if (out->model == CHECK_INFER) out->model = m;
        if (out->model == m) continue;
        out->verdict = CHECK_UNSUPPORTED;
        out->line = op->call_line;
        snprintf(out->why, sizeof out->why, "%s does not belong to a %s", history_f_text(op->f),
                 check_model_text(out->model));
        return false;
    }
    if (out->model != CHECK_INFER) return true;
    /* Reads alone: nothing can have been there. */
    out->model = CHECK_REGISTER;
    for (uint32_t i = 0; i < count; i++)
        if (json_is_array(h->ops[ops[i]].value)) out->model = CHECK_SET;
    return true;
}

/* Register values as numbers: the same JSON text, the same number; null is 0. */
struct values {
    json_t *index;
    int64_t count;
};

static bool value_number(struct values *v, const json_t *value, int64_t *number)
{
    if (value == NULL || json_is_null(value)) {
        *number = 0;
        return true;
    }
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
    if (text == NULL) return false;
    const json_t *known = json_object_get(v->index, text);
    bool good = true;
    if (known != NULL) *number = json_integer_value(known);
    else good = json_object_set_new(v->index, text, json_integer(*number = ++v->count)) == 0;
    free(text);
    return good;
}

/* False: out of memory, or out->why says what is wrong with the value. */
static bool linear_op_make(const struct history_op *op, uint32_t source, struct values *v, struct linear_op *x,
                           struct check_result *out)
{
    *x = (struct linear_op){.call = op->call, .ret = op->outcome == HISTORY_OK ? op->ret : HISTORY_NEVER, .source = source, .b = LINEAR_NONE};
    bool counter = out->model == CHECK_COUNTER;
    switch (op->f) {
    case HISTORY_READ:
        x->f = LINEAR_READ;
        if (!counter) return value_number(v, op->value, &x->a);
        if (!json_is_integer(op->value) && !json_is_null(op->value)) {
            out->verdict = CHECK_MALFORMED;
            out->line = op->ret_line;
            snprintf(out->why, sizeof out->why, "a read of a counter must return an integer");
            return false;
        }
        x->a = json_integer_value(op->value); /* 0 of a null */
        return true;
    case HISTORY_WRITE: x->f = LINEAR_WRITE; return value_number(v, op->value, &x->a);
    case HISTORY_CAS:
        x->f = LINEAR_CAS;
        return value_number(v, json_array_get(op->value, 0), &x->a) &&
               value_number(v, json_array_get(op->value, 1), &x->b);
    case HISTORY_INCR:
        x->f = LINEAR_INCR;
        x->a = json_integer_value(json_is_array(op->value) ? json_array_get(op->value, 0) : op->value);
        if (json_is_array(op->value)) x->b = json_integer_value(json_array_get(op->value, 1));
        return true;
    case HISTORY_ADD:
    case HISTORY_APPEND:
    case HISTORY_TXN: break;
    }
    return false;
}

static void linear_key(const struct history *h, const uint32_t *ops, uint32_t count, const struct check_options *o,
                       struct check_result *out)
{
    struct values v = {.index = json_object()};
    struct linear_op *list = calloc((size_t)count + 1, sizeof *list);
    struct linear_limit limit = {
        .states = o->limit == 0 ? CHECK_LIMIT_DEFAULT : o->limit, .stop = o->stop, .stop_arg = o->stop_arg};
    uint64_t states = 0;
    uint32_t n = 0;
    out->verdict = CHECK_UNDECIDED;
    snprintf(out->why, sizeof out->why, "out of memory");
    if (v.index == NULL || list == NULL) goto out;
    for (uint32_t i = 0; i < count; i++) {
        const struct history_op *op = &h->ops[ops[i]];
        bool counts = op->outcome == HISTORY_OK || (op->outcome == HISTORY_INFO && op->f != HISTORY_READ);
        if (!counts) continue;
        if (!linear_op_make(op, ops[i], &v, &list[n++], out)) goto out;
    }
    int64_t initial = 0;
    switch (linear_check(list, n, initial, &limit, &states)) {
    case LINEAR_YES: out->verdict = CHECK_VALID; break;
    case LINEAR_LIMIT:
        snprintf(out->why, sizeof out->why, "key %.64s: %llu states of its search, %u operations", h->keys[out->key],
                 (unsigned long long)states, n);
        break;
    case LINEAR_NO:
        out->verdict = CHECK_VIOLATION;
        if (!o->no_shrink) n = linear_shrink(list, n, &initial, &limit, &states);
        snprintf(out->why, sizeof out->why, "no order of these operations explains what they returned%s",
                 initial == LINEAR_ANY ? ", whatever the value before" : "");
        out->ops = calloc((size_t)n + 1, sizeof *out->ops);
        for (uint32_t i = 0; i < n && out->ops != NULL; i++) out->ops[out->op_count++] = list[i].source;
        break;
    }
    if (out->verdict == CHECK_VALID) out->why[0] = '\0';
out:
    out->states += states;
    free(list);
    json_decref(v.index);
}

void check_history(const struct history *h, const struct check_options *o, struct check_result *out)
{
    *out = (struct check_result){.verdict = CHECK_VALID};
    /* Operations by key, each key's in order of call: a counting sort. */
    uint32_t *starts = calloc((size_t)h->key_count + 2, sizeof *starts);
    uint32_t *order = calloc((size_t)h->op_count + 1, sizeof *order), *strong = calloc((size_t)h->op_count + 1, sizeof *strong);
    if (starts == NULL || order == NULL || strong == NULL) {
        out->verdict = CHECK_UNDECIDED;
        snprintf(out->why, sizeof out->why, "out of memory");
        goto out;
    }
    for (uint32_t i = 0; i < h->op_count; i++) starts[h->ops[i].key + 1]++;
    for (uint32_t k = 1; k <= h->key_count; k++) starts[k] += starts[k - 1];
    for (uint32_t i = 0; i < h->op_count; i++) order[starts[h->ops[i].key]++] = i;
    struct check_result kept = {.verdict = CHECK_VALID};
    for (uint32_t k = 0; k < h->key_count; k++) {
        uint32_t from = k == 0 ? 0 : starts[k - 1], count = starts[k] - from; /* starts moved one on */
        struct check_result r = {.key = k, .states = kept.states, .keys = kept.keys + 1};
        if (model_find(h, &order[from], count, o->model, &r)) {
            uint32_t strong_count = 0;
            for (uint32_t i = from; i < from + count; i++)
                if (!stale_is_weak(&h->ops[order[i]])) strong[strong_count++] = order[i];
            if (r.model == CHECK_SET || r.model == CHECK_LIST)
                chain_check(h, strong, strong_count, r.model == CHECK_LIST, &r);
            else
                linear_key(h, strong, strong_count, o, &r);
            if (r.verdict == CHECK_VALID && strong_count < count) stale_check(h, &order[from], count, &r);
        }
        if (kept.verdict == CHECK_UNDECIDED && r.verdict == CHECK_VALID) {
            kept.states = r.states;
            kept.keys = r.keys;
            continue;
        }
        if (kept.verdict == CHECK_UNDECIDED && r.verdict == CHECK_UNDECIDED) continue;
        kept = r;
        if (r.verdict != CHECK_VALID && r.verdict != CHECK_UNDECIDED) break;
    }
    *out = kept;
out:
    free(starts);
    free(order);
    free(strong);
}

void check_result_free(struct check_result *r)
{
    free(r->ops);
    r->ops = NULL;
    r->op_count = 0;
}

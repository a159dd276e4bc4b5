#include "tools/check/history.h"
#include <assert.h>
#include <stdlib.h>

/* Pairing of events to operations.
 * (1) A process has at most one operation open.
 * (2) After an info it is over: another invoke under its number is malformed.
 * (3) ops are in order of their invokes. */

static const char *const f_texts[] = {"read", "write", "cas", "add", "incr", "append", "txn"};
static const char *const type_texts[] = {"invoke", "ok", "fail", "info"};

const char *history_f_text(enum history_f f)
{
    return f_texts[f];
}

const char *history_type_text(enum history_type t)
{
    return type_texts[t];
}

bool history_f_find(const char *text, enum history_f *f)
{
    for (uint32_t i = 0; i < HISTORY_FS; i++) {
        if (strcmp(text, f_texts[i]) != 0) continue;
        *f = (enum history_f)i;
        return true;
    }
    return false;
}

bool history_type_find(const char *text, enum history_type *t)
{
    for (uint32_t i = 0; i < 4; i++) {
        if (strcmp(text, type_texts[i]) != 0) continue;
        *t = (enum history_type)i;
        return true;
    }
    return false;
}

struct history *history_create(void)
{
    struct history *h = calloc(1, sizeof *h);
    if (h == NULL) return NULL;
    h->key_index = json_object();
    if (h->key_index == NULL) {
        free(h);
        return NULL;
    }
    return h;
}

void history_free(struct history *h)
{
    if (h == NULL) return;
    for (uint32_t i = 0; i < h->op_count; i++) {
        json_decref(h->ops[i].value);
        free(h->ops[i].error);
    }
    for (uint32_t i = 0; i < h->key_count; i++) free(h->keys[i]);
    free(h->ops);
    free(h->keys);
    free(h->open);
    json_decref(h->key_index);
    free(h);
}

static bool grow(void **array, uint32_t *capacity, uint32_t count, size_t item)
{
    if (count < *capacity) return true;
    uint32_t wanted = *capacity == 0 ? 64 : 2 * *capacity;
    void *moved = realloc(*array, wanted * item);
    if (moved == NULL) return false;
    *array = moved;
    *capacity = wanted;
    return true;
}

static bool key_find(struct history *h, const char *name, uint32_t *key)
{
    const json_t *known = json_object_get(h->key_index, name);
    if (known != NULL) {
        *key = (uint32_t)json_integer_value(known);
        return true;
    }
    if (!grow((void **)&h->keys, &h->key_capacity, h->key_count, sizeof *h->keys)) return false;
    char *copy = strdup(name);
    if (copy == NULL) return false;
    *key = h->key_count;
    h->keys[h->key_count++] = copy;
    return json_object_set_new(h->key_index, name, json_integer(*key)) == 0;
}

/* Open processes are few and sorted by number. */
static struct history_open *open_find(struct history *h, int64_t process)
{
    uint32_t low = 0, high = h->open_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (h->open[middle].process < process) low = middle + 1;
        else high = middle;
    }
    if (low < h->open_count && h->open[low].process == process) return &h->open[low];
    if (!grow((void **)&h->open, &h->open_capacity, h->open_count, sizeof *h->open)) return NULL;
    memmove(&h->open[low + 1], &h->open[low], (h->open_count - low) * sizeof *h->open);
    h->open_count++;
    h->open[low] = (struct history_open){.process = process, .op = HISTORY_NEVER};
    return &h->open[low];
}

static enum kv_err invoke(struct history *h, const struct history_event *e, uint32_t line, struct history_open *o,
                          char *why, size_t why_size)
{
    if (o->op != HISTORY_NEVER) {
        const struct history_op *open = &h->ops[o->op];
        snprintf(why, why_size, "process %lld invokes while its %s of line %u is %s", (long long)e->process,
                 history_f_text(open->f), open->call_line, open->ret_line == 0 ? "open" : "undetermined");
        return KV_MALFORMED;
    }
    if (!grow((void **)&h->ops, &h->op_capacity, h->op_count, sizeof *h->ops)) return KV_NO_SPACE;
    struct history_op *op = &h->ops[h->op_count];
    *op = (struct history_op){.process = e->process, .f = e->f, .outcome = HISTORY_INFO, .call = h->event_count, .ret = HISTORY_NEVER, .completed = HISTORY_NEVER, .call_line = line, .call_ns = e->time_ns, .level = e->f == HISTORY_READ ? e->level : HISTORY_STRONG, .stale_ms = e->stale_ms};
    if (!key_find(h, e->key == NULL ? "" : e->key, &op->key)) return KV_NO_SPACE;
    op->value = e->value == NULL ? json_null() : json_incref(e->value);
    o->op = h->op_count++;
    return KV_OK;
}

static enum kv_err complete(struct history *h, const struct history_event *e, uint32_t line,
                            struct history_open *o, char *why, size_t why_size)
{
    struct history_op *op = o->op == HISTORY_NEVER ? NULL : &h->ops[o->op];
    if (op == NULL || op->ret_line != 0 || op->f != e->f) {
        snprintf(why, why_size, "%s of a %s that process %lld has not invoked", history_type_text(e->type),
                 history_f_text(e->f), (long long)e->process);
        return KV_MALFORMED;
    }
    if (e->key != NULL && strcmp(e->key, h->keys[op->key]) != 0) {
        snprintf(why, why_size, "completes key %s, invoked was %s (line %u)", e->key, h->keys[op->key],
                 op->call_line);
        return KV_MALFORMED;
    }
    op->outcome = e->type;
    op->ret_line = line;
    op->completed = h->event_count;
    op->ret_ns = e->time_ns;
    if (e->stale_ms < op->stale_ms) op->stale_ms = e->stale_ms;
    if (e->error != NULL && (op->error = strdup(e->error)) == NULL) return KV_NO_SPACE;
    if (e->type == HISTORY_INFO) return KV_OK; /* the process stays taken */
    op->ret = h->event_count;
    o->op = HISTORY_NEVER;
    if (e->type == HISTORY_OK && (op->f == HISTORY_READ || (e->value != NULL && !json_is_null(e->value)))) {
        json_decref(op->value);
        op->value = e->value == NULL ? json_null() : json_incref(e->value);
    }
    return KV_OK;
}

static bool number_pair(const json_t *v)
{
    return json_is_array(v) && json_array_size(v) == 2 && json_is_integer(json_array_get(v, 0)) &&
           json_is_integer(json_array_get(v, 1));
}

static enum kv_err value_check(const struct history_event *e, char *why, size_t why_size)
{
    const json_t *v = e->value;
    bool good = true;
    const char *wanted = "";
    switch (e->f) {
    case HISTORY_CAS:
        good = (e->type != HISTORY_INVOKE && (v == NULL || json_is_null(v))) ||
               (json_is_array(v) && json_array_size(v) == 2);
        wanted = "[old, new]";
        break;
    case HISTORY_INCR:
        good = json_is_integer(v) ||
               (e->type != HISTORY_INVOKE && (v == NULL || json_is_null(v) || number_pair(v)));
        wanted = "an integer, of an ok also [delta, result]";
        break;
    case HISTORY_WRITE:
    case HISTORY_ADD:
    case HISTORY_APPEND:
        good = e->type != HISTORY_INVOKE || (v != NULL && !json_is_null(v));
        wanted = "not null";
        break;
    case HISTORY_READ:
    case HISTORY_TXN:
        break;
    }
    if (good) return KV_OK;
    snprintf(why, why_size, "the value of %s must be %s", history_f_text(e->f), wanted);
    return KV_MALFORMED;
}

enum kv_err history_add(struct history *h, const struct history_event *e, uint32_t line, char *why, size_t why_size)
{
    why[0] = '\0';
    if (h->event_count == HISTORY_EVENTS_MAX) {
        snprintf(why, why_size, "more than %d events", HISTORY_EVENTS_MAX);
        return KV_TOO_BIG;
    }
    enum kv_err err = value_check(e, why, why_size);
    if (err != KV_OK) return err;
    struct history_open *o = open_find(h, e->process);
    if (o == NULL) return KV_NO_SPACE;
    if (line == 0) line = h->event_count + 1;
    err = e->type == HISTORY_INVOKE ? invoke(h, e, line, o, why, why_size)
                                    : complete(h, e, line, o, why, why_size);
    if (err == KV_OK) h->event_count++;
    return err;
}

#include "tools/check/history.h"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

/* Files: JSON lines and EDN, both brought to the same JSON object per event. All events are read before
 * the first is added: threads that share a file may write them out of the order of their indices. */
struct loaded {
    struct history_event event;  /* its pointers into the values below */
    json_t *value, *key, *error; /* owned; NULL: none */
    int64_t index;
    uint32_t line;
};
struct loader {
    struct loaded *events;
    uint32_t count, capacity;
    bool indexed, disorder;
};

static bool loader_grow(struct loader *l)
{
    if (l->count < l->capacity) return true;
    uint32_t capacity = l->capacity == 0 ? 1024 : 2 * l->capacity;
    struct loaded *moved = realloc(l->events, capacity * sizeof *moved);
    if (moved == NULL) return false;
    l->events = moved;
    l->capacity = capacity;
    return true;
}

static void loader_free(struct loader *l)
{
    for (uint32_t i = 0; i < l->count; i++) {
        json_decref(l->events[i].value);
        json_decref(l->events[i].key);
        json_decref(l->events[i].error);
    }
    free(l->events);
}

static const char *level_text(enum history_level level)
{
    return level == HISTORY_BOUNDED ? "bounded" : level == HISTORY_ANY ? "any"
                                                                       : "linearizable";
}

static bool level_find(const char *text, enum history_level *level)
{
    if (text == NULL) return false;
    *level = strcmp(text, "bounded") == 0 ? HISTORY_BOUNDED : strcmp(text, "any") == 0 ? HISTORY_ANY
                                                                                       : HISTORY_STRONG;
    return *level != HISTORY_STRONG || strcmp(text, "linearizable") == 0 || strcmp(text, "lease") == 0;
}

static enum kv_err event_read(struct loader *l, const json_t *o, uint32_t line, char *why, size_t why_size)
{
    if (!json_is_object(o)) {
        snprintf(why, why_size, "an event must be an object");
        return KV_MALFORMED;
    }
    const json_t *process = json_object_get(o, "process"), *type = json_object_get(o, "type");
    const json_t *f = json_object_get(o, "f"), *index = json_object_get(o, "index");
    json_t *key = json_object_get(o, "key"), *error = json_object_get(o, "error");
    const json_t *time = json_object_get(o, "time");
    if (json_is_string(process)) return KV_OK; /* the nemesis */
    const json_t *level = json_object_get(o, "level"), *stale = json_object_get(o, "stale_ms");
    struct loaded x = {.line = line, .index = json_integer_value(index)};
    bool indexed = index != NULL && !json_is_null(index);
    const char *wrong = NULL;
    if (!json_is_integer(process)) wrong = "process: a number is needed";
    else if (!json_is_string(type) || !history_type_find(json_string_value(type), &x.event.type))
        wrong = "type: one of invoke, ok, fail, info is needed";
    else if (!json_is_string(f) || !history_f_find(json_string_value(f), &x.event.f))
        wrong = "f: one of read, write, cas, add, incr, append, txn is needed";
    else if (key != NULL && !json_is_string(key) && !json_is_integer(key) && !json_is_null(key))
        wrong = "key: a string or a number is needed";
    else if (time != NULL && (!json_is_integer(time) || json_integer_value(time) < 0))
        wrong = "time: nanoseconds are needed";
    else if (indexed && (!json_is_integer(index) || json_integer_value(index) < 0))
        wrong = "index: a number from 0 on is needed";
    else if (level != NULL && !json_is_null(level) && !level_find(json_string_value(level), &x.event.level))
        wrong = "level: one of linearizable, lease, bounded, any is needed";
    else if (stale != NULL && !json_is_null(stale) &&
             (!json_is_integer(stale) || json_integer_value(stale) < 0 || json_integer_value(stale) > UINT32_MAX))
        wrong = "stale_ms: milliseconds are needed";
    else if (l->count > 0 && indexed != l->indexed)
        wrong = indexed ? "index: the events before have none" : "index: is missing, the events before have one";
    if (wrong != NULL) {
        snprintf(why, why_size, "%s", wrong);
        return KV_MALFORMED;
    }
    if (l->count == HISTORY_EVENTS_MAX) {
        snprintf(why, why_size, "more than %d events", HISTORY_EVENTS_MAX);
        return KV_TOO_BIG;
    }
    if (!loader_grow(l)) return KV_NO_SPACE;
    x.event.process = json_integer_value(process);
    x.event.time_ns = (uint64_t)json_integer_value(time);
    x.event.stale_ms = json_is_integer(stale) ? (uint32_t)json_integer_value(stale) : x.event.type == HISTORY_INVOKE ? 0
                                                                                                                     : UINT32_MAX;
    if (json_is_integer(key)) {
        char number[24];
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(key));
        if ((x.key = json_string(number)) == NULL) return KV_NO_SPACE;
    } else if (json_is_string(key)) {
        x.key = json_incref(key);
    }
    x.value = json_incref(json_object_get(o, "value"));
    if (json_is_string(error)) x.error = json_incref(error);
    x.event.value = x.value;
    x.event.key = json_string_value(x.key);
    x.event.error = json_string_value(x.error);
    l->indexed = indexed;
    if (indexed && l->count > 0 && x.index <= l->events[l->count - 1].index) l->disorder = true;
    l->events[l->count++] = x;
    return KV_OK;
}

static int loaded_compare(const void *a, const void *b)
{
    const struct loaded *x = a, *y = b;
    if (x->index != y->index) return x->index < y->index ? -1 : 1;
    return x->line < y->line ? -1 : x->line > y->line;
}

/* In order of index, else of lines. On an error *line is the event's. */
static enum kv_err loader_add(struct loader *l, struct history *h, uint32_t *line, char *why, size_t why_size)
{
    if (l->disorder) qsort(l->events, l->count, sizeof *l->events, loaded_compare);
    for (uint32_t i = 0; i < l->count; i++) {
        const struct loaded *x = &l->events[i];
        *line = x->line;
        if (l->disorder && i > 0 && x->index == l->events[i - 1].index) {
            snprintf(why, why_size, "index %lld stands in line %u already", (long long)x->index, x[-1].line);
            return KV_MALFORMED;
        }
        enum kv_err err = history_add(h, &x->event, x->line, why, why_size);
        if (err != KV_OK) return err;
    }
    return KV_OK;
}

static enum kv_err load_json(struct loader *l, FILE *f, uint32_t *line, char *why, size_t why_size)
{
    char *text = NULL;
    size_t capacity = 0;
    ssize_t size;
    enum kv_err err = KV_OK;
    while (err == KV_OK && (size = getline(&text, &capacity, f)) >= 0) {
        ++*line;
        if (size > HISTORY_LINE_BYTES_MAX) {
            snprintf(why, why_size, "longer than %d bytes", HISTORY_LINE_BYTES_MAX);
            err = KV_TOO_BIG;
            break;
        }
        while (size > 0 && isspace((unsigned char)text[size - 1])) size--;
        if (size == 0) continue;
        json_error_t error;
        json_t *o = json_loadb(text, (size_t)size, JSON_REJECT_DUPLICATES, &error);
        if (o == NULL) {
            snprintf(why, why_size, "%s", error.text);
            err = KV_MALFORMED;
            break;
        }
        err = event_read(l, o, *line, why, why_size);
        json_decref(o);
    }
    if (err == KV_OK && ferror(f)) err = KV_IO;
    free(text);
    return err;
}

/* Past blanks and comments. */
static const char *edn_skip(const char *at, const char *end, uint32_t *line)
{
    while (at < end && (isspace((unsigned char)*at) || *at == ',' || *at == ';')) {
        if (*at == ';')
            while (at < end && *at != '\n') at++;
        if (at < end) *line += *at++ == '\n';
    }
    return at;
}

static enum kv_err load_edn(struct loader *l, FILE *f, uint32_t *line, char *why, size_t why_size)
{
    struct kv_buf all;
    kv_buf_init(&all, (size_t)1 << 32);
    enum kv_err err = KV_OK;
    for (;;) {
        uint8_t *into = kv_buf_reserve(&all, 65536);
        if (into == NULL) {
            snprintf(why, why_size, "larger than 4 GiB");
            err = KV_TOO_BIG;
            break;
        }
        size_t got = fread(into, 1, 65536, f);
        kv_buf_commit(&all, got);
        if (got == 0) break;
    }
    const char *at = (const char *)kv_buf_slice(&all).data, *end = at == NULL ? at : at + all.size;
    if (err == KV_OK && ferror(f)) err = KV_IO;
    *line = 1;
    at = edn_skip(at, end, line);
    /* One vector of maps, or maps one behind the other: step into the vector, so that
     * each map is named by its own line. */
    bool vector = at < end && *at == '[';
    if (vector) at++;
    while (err == KV_OK) {
        why[0] = '\0';
        at = edn_skip(at, end, line);
        if (at >= end || (vector && *at == ']')) break;
        uint32_t event_line = *line;
        json_t *o = edn_parse(&at, end, line, why, why_size);
        if (o == NULL) {
            err = KV_MALFORMED;
            break;
        }
        uint32_t parsed = *line;
        *line = event_line;
        err = event_read(l, o, event_line, why, why_size);
        if (err == KV_OK) *line = parsed;
        json_decref(o);
    }
    kv_buf_free(&all);
    return err;
}

enum kv_err history_load(struct history *h, const char *path, char *why, size_t why_size)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        snprintf(why, why_size, "%s: %s", path, strerror(errno));
        return errno == ENOENT ? KV_NOT_FOUND : KV_IO;
    }
    int first = fgetc(f), second;
    while (first != EOF && isspace(first)) first = fgetc(f);
    second = first == EOF ? EOF : fgetc(f);
    while (second != EOF && isspace(second)) second = fgetc(f);
    bool json = first == EOF || (first == '{' && (second == '"' || second == '}'));
    rewind(f);
    char reason[256] = "";
    uint32_t line = 0;
    struct loader l = {0};
    enum kv_err err =
        json ? load_json(&l, f, &line, reason, sizeof reason) : load_edn(&l, f, &line, reason, sizeof reason);
    fclose(f);
    if (err == KV_OK) err = loader_add(&l, h, &line, reason, sizeof reason);
    loader_free(&l);
    if (err != KV_OK)
        snprintf(why, why_size, "%s:%u: %s", path, line, reason[0] != '\0' ? reason : kv_err_text(err));
    return err;
}

void history_write_json(FILE *out, uint64_t index, const struct history_event *e)
{
    fprintf(out, "{\"index\":%llu,\"process\":%lld,\"type\":\"%s\",\"f\":\"%s\"", (unsigned long long)index,
            (long long)e->process, history_type_text(e->type), history_f_text(e->f));
    if (e->key != NULL && e->key[0] != '\0') {
        json_t *key = json_string(e->key);
        fputs(",\"key\":", out);
        if (key == NULL || json_dumpf(key, out, JSON_ENCODE_ANY | JSON_COMPACT) != 0) fputs("null", out);
        json_decref(key);
    }
    fputs(",\"value\":", out);
    if (e->value == NULL || json_dumpf(e->value, out, JSON_ENCODE_ANY | JSON_COMPACT) != 0) fputs("null", out);
    if (e->level != HISTORY_STRONG) fprintf(out, ",\"level\":\"%s\"", level_text(e->level));
    if (e->level == HISTORY_BOUNDED) fprintf(out, ",\"stale_ms\":%u", (unsigned)e->stale_ms);
    fprintf(out, ",\"time\":%llu}\n", (unsigned long long)e->time_ns);
}

void history_write_edn(FILE *out, uint64_t index, const struct history_event *e)
{
    fprintf(out, "{:index %llu, :process %lld, :type :%s, :f :%s", (unsigned long long)index,
            (long long)e->process, history_type_text(e->type), history_f_text(e->f));
    if (e->key != NULL && e->key[0] != '\0') {
        json_t *key = json_string(e->key);
        fputs(", :key ", out);
        edn_write(out, key);
        json_decref(key);
    }
    fputs(", :value ", out);
    edn_write(out, e->value);
    if (e->level != HISTORY_STRONG) fprintf(out, ", :level :%s", level_text(e->level));
    if (e->level == HISTORY_BOUNDED) fprintf(out, ", :stale_ms %u", (unsigned)e->stale_ms);
    fprintf(out, ", :time %llu}\n", (unsigned long long)e->time_ns);
}

struct place {
    uint32_t at;
    const struct history_op *op;
    bool ret;
};

static int place_compare(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

void history_save(const struct history *h, FILE *out, bool edn)
{
    struct place *places = calloc(2 * (size_t)h->op_count + 1, sizeof *places);
    if (places == NULL) return;
    size_t count = 0;
    for (uint32_t i = 0; i < h->op_count; i++) {
        const struct history_op *op = &h->ops[i];
        places[count++] = (struct place){op->call, op, false};
        if (op->completed != HISTORY_NEVER) places[count++] = (struct place){op->completed, op, true};
    }
    qsort(places, count, sizeof *places, place_compare);
    for (size_t i = 0; i < count; i++) {
        const struct history_op *op = places[i].op;
        struct history_event e = {
            .process = op->process,
            .type = places[i].ret ? op->outcome : HISTORY_INVOKE,
            .f = op->f,
            .key = h->keys[op->key],
            .value = op->value,
            .time_ns = places[i].ret ? op->ret_ns : op->call_ns,
            .level = op->level,
            .stale_ms = op->stale_ms,
        };
        /* What only the reply knew is not in the invoke. */
        if (!places[i].ret && op->f == HISTORY_READ) e.value = NULL;
        if (!places[i].ret && op->f == HISTORY_INCR && json_is_array(op->value))
            e.value = json_array_get(op->value, 0);
        if (edn) history_write_edn(out, i, &e);
        else history_write_json(out, i, &e);
    }
    free(places);
}

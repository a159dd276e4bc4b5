#include "server/exec_impl.h"
#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* The command table and what all commands share.
 * (1) A refused command leaves no change and exactly one error reply.
 * (2) The rows of a run are laid out in x->rows as key, header, payload; their pointers
 *     are set once at the end, because the buffer moves while it grows.
 * (3) Expiry is judged by clock_ms alone: the wall clock can only ask for a clock entry. */

static exec_command *const commands[KV_OP_CODE_MAX + 1] = {
#define X(op, function) [KV_OP_##op] = exec_##function,
    EXEC_COMMANDS(X)
#undef X
};

bool exec_runs(enum kv_op op)
{
    return (unsigned)op <= KV_OP_CODE_MAX && commands[op] != NULL;
}

void exec_free(struct exec *x)
{
    free(x->ops);
    free(x->op_offsets);
    x->ops = NULL;
    x->op_offsets = NULL;
    x->op_count = x->op_capacity = 0;
    kv_arena_free(&x->born_memory);
    x->born = NULL;
    x->born_count = 0;
}

static void begin(struct exec *x)
{
    x->op_count = 0;
    x->read_version = (struct kv_version){0};
    x->expire_ms = 0;
    x->needs_clock = false;
    if (x->born != NULL) kv_arena_free(&x->born_memory);
    x->born = NULL;
    x->born_count = 0;
    x->err = x->failed = x->refused = KV_OK;
    x->reply_start = x->reply->size;
}

/* Keeps (1): a command may well go on replying after it was refused. */
static void finish(struct exec *x)
{
    if (x->refused != KV_OK) x->reply->size = x->reply_end;
    if (x->refused != KV_OK || x->failed != KV_OK) x->op_count = x->born_count = 0;
}

enum kv_err exec_run(struct exec *x, enum kv_op op, const struct kv_slice *args, uint32_t arg_count)
{
    assert(exec_runs(op));
    begin(x);
    x->probing = false;
    x->is_write = kv_op_info((uint32_t)op)->kind == KV_OP_KIND_W;
    commands[op](x, args, arg_count);
    finish(x);

    const uint8_t *base = x->op_count > 0 ? x->rows->data + x->rows->start : NULL;
    for (uint32_t i = 0; i < x->op_count; i++) {
        struct store_row *row = &x->ops[i].row;
        row->key.data = base + x->op_offsets[i];
        if (x->ops[i].kind == STORE_PUT) row->value.data = row->key.data + row->key.size;
    }
    return x->failed;
}

enum kv_err exec_check(enum kv_op op, const struct kv_slice *args, uint32_t arg_count,
                       uint32_t value_bytes_max, struct kv_buf *reply)
{
    const struct kv_op_info *info = kv_op_info((uint32_t)op);
    assert(info != NULL);
    if (arg_count < (uint32_t)info->arity_min ||
        (info->arity_max >= 0 && arg_count > (uint32_t)info->arity_max)) {
        char name[16];
        size_t i = 0;
        for (; info->name[i] != '\0' && i < sizeof name - 1; i++)
            name[i] = (char)tolower((unsigned char)info->name[i]);
        name[i] = '\0';
        resp_put_error(reply, "ERR wrong number of arguments for '%s' command", name);
        return KV_BAD_ARGUMENT;
    }
    struct exec x = {.reply = reply,
                     .rule = &kv_key_rule_default,
                     .value_bytes_max = value_bytes_max,
                     .is_write = info->kind == KV_OP_KIND_W};
    begin(&x);
    x.probing = true;
    if (exec_runs(op))
        commands[op](&x, args, arg_count);
    else
        exec_check_keyspace(&x, op, args, arg_count);
    finish(&x);
    assert(x.failed == KV_OK && x.op_count == 0);
    if (x.refused == KV_OK) reply->size = x.reply_start;
    return x.refused;
}

bool exec_key(struct exec *x, struct kv_slice user_key, struct kv_key *out)
{
    /* A check needs no encoded key: it stops before anybody reads it. */
    if (x->probing && user_key.size <= KV_USER_KEY_BYTES_MAX) return true;
    if (x->known_key != NULL && user_key.data == x->known.data && user_key.size == x->known.size) {
        memcpy(out->bytes, x->known_key->bytes, x->known_key->size);
        out->size = x->known_key->size;
        return true;
    }
    enum kv_err err = kv_key_encode(x->rule, user_key, out);
    if (err == KV_OK) return true;
    if (err == KV_NOT_FOUND) { /* routed by another list of labels than this partition's */
        struct kv_slice label = kv_key_label(x->rule, user_key);
        return exec_refuse(x, KV_BAD_ARGUMENT, "ERR label '%.*s' is not listed in this partition%s",
                           label.size < KV_LABEL_BYTES_MAX ? (int)label.size : KV_LABEL_BYTES_MAX,
                           label.size == 0 ? "" : (const char *)label.data, x->is_write ? " (applied: no)" : "");
    }
    return exec_refuse(x, KV_TOO_BIG, "ERR key exceeds maximum allowed size of %d bytes%s",
                       KV_USER_KEY_BYTES_MAX, x->is_write ? " (applied: no)" : "");
}

bool exec_load(struct exec *x, struct kv_slice user_key, struct exec_entry *e)
{
    e->live = e->stored = false;
    if (x->failed != KV_OK || x->refused != KV_OK) return false;
    if (!exec_key(x, user_key, &e->key)) return false;
    if (x->probing) return false;

    struct kv_slice row;
    enum kv_err err = x->state->get(x->state, kv_key_slice(&e->key), &row);
    if (err == KV_OK)
        err = value_read(kv_key_slice(&e->key), row, &e->value);
    else if (err == KV_NOT_FOUND) {
        x->read_version = (struct kv_version){0};
        x->expire_ms = 0;
        return true;
    }
    if (err != KV_OK) {
        x->failed = err;
        return false;
    }
    e->stored = true;
    uint64_t deadline = e->value.expire_ms;
    e->live = deadline == 0 || deadline > x->clock_ms;
    if (deadline > x->clock_ms && deadline <= x->wall_ms) x->needs_clock = true; /* R14 */
    x->read_version = (struct kv_version){0};
    if (e->live)
        x->read_version = (struct kv_version){e->value.version_epoch, e->value.version_index};
    x->expire_ms = e->live ? deadline : 0;
    return true;
}

/* Room for one more change, and `size` bytes of rows behind the key's copy. */
static uint8_t *op_add(struct exec *x, enum store_op_kind kind, const struct kv_key *key,
                       size_t size)
{
    if (x->failed != KV_OK || x->refused != KV_OK || x->probing) return NULL;
    if (x->op_count == x->op_capacity) {
        uint32_t capacity = x->op_capacity == 0 ? 4 : x->op_capacity * 2;
        struct store_op *ops = realloc(x->ops, capacity * sizeof *ops);
        if (ops != NULL) x->ops = ops;
        size_t *offsets = realloc(x->op_offsets, capacity * sizeof *offsets);
        if (offsets != NULL) x->op_offsets = offsets;
        if (ops == NULL || offsets == NULL) {
            x->failed = KV_IO;
            return NULL;
        }
        x->op_capacity = capacity;
    }
    uint8_t *room = kv_buf_reserve(x->rows, key->size + size);
    if (room == NULL) {
        x->failed = KV_IO;
        return NULL;
    }
    memcpy(room, key->bytes, key->size);
    x->op_offsets[x->op_count] = x->rows->size;
    x->ops[x->op_count] = (struct store_op){
        .kind = kind,
        .row = {.class = STORE_DATA, .key = {NULL, key->size}, .value = {NULL, size}}};
    x->op_count++;
    kv_buf_commit(x->rows, key->size + size);
    return room + key->size;
}

uint8_t *exec_put_begin(struct exec *x, const struct kv_key *key, size_t size)
{
    if (size > x->value_bytes_max) {
        exec_refuse_size(x);
        return NULL;
    }
    uint8_t *room = op_add(x, STORE_PUT, key, VALUE_HEADER_BYTES + size);
    return room == NULL ? NULL : room + VALUE_HEADER_BYTES;
}

void exec_put_end(struct exec *x, const struct kv_key *key, uint8_t flags, uint64_t expire_ms)
{
    assert(x->op_count > 0 && x->ops[x->op_count - 1].kind == STORE_PUT);
    size_t size = x->ops[x->op_count - 1].row.value.size;
    uint8_t *row = x->rows->data + x->rows->start + x->op_offsets[x->op_count - 1] + key->size;
    struct value v = {
        .type = VALUE_STRING,
        .flags = flags,
        .version_epoch = x->version.epoch,
        .version_index = x->version.index,
        .expire_ms = expire_ms,
        .payload = kv_slice(row + VALUE_HEADER_BYTES, size - VALUE_HEADER_BYTES),
    };
    value_header_write(kv_key_slice(key), &v, row);
    x->read_version = x->version;
    x->expire_ms = expire_ms;
}

bool exec_put(struct exec *x, const struct kv_key *key, struct kv_slice payload, uint8_t flags,
              uint64_t expire_ms)
{
    uint8_t *room = exec_put_begin(x, key, payload.size);
    if (room == NULL) return x->probing && x->refused == KV_OK;
    if (payload.size > 0) memcpy(room, payload.data, payload.size);
    exec_put_end(x, key, flags, expire_ms);
    return true;
}

bool exec_delete(struct exec *x, const struct kv_key *key)
{
    if (op_add(x, STORE_DELETE, key, 0) == NULL) return false;
    x->read_version = (struct kv_version){0};
    x->expire_ms = 0;
    return true;
}

bool exec_refuse(struct exec *x, enum kv_err why, const char *format, ...)
{
    if (x->refused != KV_OK || x->failed != KV_OK) return false; /* the first refusal stands */
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    for (char *c = text; *c != '\0'; c++)
        if (*c == '\r' || *c == '\n') *c = ' '; /* a quoted argument must not end the line */
    x->reply->size = x->reply_start;
    resp_put_error(x->reply, "%s", text);
    x->reply_end = x->reply->size;
    x->refused = why;
    return false;
}

bool exec_refuse_syntax(struct exec *x)
{
    return exec_refuse(x, KV_BAD_ARGUMENT, "ERR syntax error");
}

bool exec_refuse_integer(struct exec *x)
{
    return exec_refuse(x, KV_BAD_ARGUMENT, "ERR value is not an integer or out of range");
}

bool exec_refuse_size(struct exec *x)
{
    return exec_refuse(x, KV_TOO_BIG,
                       "ERR string exceeds maximum allowed size of %u bytes (limit.value)%s",
                       x->value_bytes_max, x->is_write ? " (applied: no)" : "");
}

bool exec_deny(struct exec *x, enum kv_err why, const char *format, ...)
{
    char text[320];
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text, sizeof text, format, list);
    va_end(list);
    exec_refuse(x, why, "ERR %s", text);
    exec_outcome(x, why);
    return false;
}

void exec_outcome(struct exec *x, enum kv_err err)
{
    x->err = err;
}

bool exec_integer(struct exec *x, struct kv_slice text, int64_t *out)
{
    return kv_parse_i64(text, out) || exec_refuse_integer(x);
}

bool exec_word(struct kv_slice text, const char *upper)
{
    size_t i = 0;
    for (; i < text.size && upper[i] != '\0'; i++)
        if (toupper(text.data[i]) != upper[i]) return false;
    return i == text.size && upper[i] == '\0';
}

void exec_reply_value(struct exec *x, const struct exec_entry *e)
{
    if (e->live)
        resp_put_bulk(x->reply, e->value.payload);
    else
        resp_put_null(x->reply);
}

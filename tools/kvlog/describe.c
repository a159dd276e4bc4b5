#include "client/base/arena.h"
#include "client/base/op.h"
#include "storage/command.h"
#include "tools/kvlog/kvlog.h"
#include <inttypes.h>
#include <stdio.h>

enum { KEYS_SHOWN = 3, KEY_BYTES_SHOWN = 64, ARENA_BYTES = 64 << 20 };

struct text {
    char *out;
    size_t size, used;
};

static void put(struct text *t, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size && t->used + 1 < t->size; i++) t->out[t->used++] = bytes[i];
    t->out[t->used] = '\0';
}

static void put_bytes(struct text *t, struct kv_slice key)
{
    size_t shown = key.size < KEY_BYTES_SHOWN ? key.size : KEY_BYTES_SHOWN;
    for (size_t i = 0; i < shown; i++) {
        char escaped[5] = {(char)key.data[i], '\0'};
        if (key.data[i] <= ' ' || key.data[i] >= 0x7F || key.data[i] == '\\')
            snprintf(escaped, sizeof escaped, "\\x%02x", key.data[i]);
        put(t, escaped, strlen(escaped));
    }
    if (shown < key.size) put(t, "..", 2);
}

static void put_key(struct text *t, struct kv_slice key)
{
    put(t, " ", 1);
    put_bytes(t, key);
}

void kvlog_key_text(struct kv_slice key, char *out, size_t size)
{
    struct text t = {.out = out, .size = size};
    out[0] = '\0';
    put_bytes(&t, key);
}

static void put_descriptor(struct text *t, struct kv_slice bytes)
{
    struct descriptor d;
    char line[160];
    if (descriptor_decode(bytes, &d) != KV_OK) {
        put(t, " (no descriptor)", 16);
        return;
    }
    int size = snprintf(line, sizeof line, " partition %" PRIu32 " epoch %" PRIu32 ".%" PRIu32 " replicas", d.id,
                        d.range_epoch, d.conf_epoch);
    put(t, line, (size_t)size);
    for (uint32_t i = 0; i < d.replica_count; i++) {
        size = snprintf(line, sizeof line, " %" PRIu32 "@%" PRIu32 "%s", d.replicas[i].id, d.replicas[i].node,
                        d.replicas[i].role == DESCRIPTOR_LEARNER ? "(learner)" : "");
        put(t, line, (size_t)size);
    }
}

static void put_command(struct text *t, const struct command *c)
{
    const struct kv_op_info *info = kv_op_info(c->op);
    char rest[64];
    if (info == NULL) {
        int size = snprintf(rest, sizeof rest, "operation %d, unknown here", (int)c->op);
        put(t, rest, (size_t)size);
        return;
    }
    put(t, info->name, strlen(info->name));
    if (c->op == KV_OP_DESCRIBE && c->arg_count == 1) {
        put_descriptor(t, c->args[0]);
        return;
    }
    uint32_t first, step, count = kv_op_keys(info, c->arg_count, &first, &step);
    for (uint32_t i = 0; i < count && i < KEYS_SHOWN; i++) put_key(t, c->args[first + i * step]);
    int size = count > KEYS_SHOWN ? snprintf(rest, sizeof rest, " and %" PRIu32 " more keys", count - KEYS_SHOWN) : 0;
    put(t, rest, (size_t)size);
}

enum kv_err kvlog_describe(struct kv_slice bytes, char *out, size_t size)
{
    struct text t = {.out = out, .size = size};
    struct kv_arena arena;
    struct command c;
    out[0] = '\0';
    kv_arena_init(&arena, ARENA_BYTES);
    enum kv_err err = command_decode(bytes, &arena, &c);
    if (err == KV_OK) put_command(&t, &c);
    kv_arena_free(&arena);
    return err;
}

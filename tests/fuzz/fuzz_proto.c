#include "client/wire/message.h"

#include <stdlib.h>

/* Whatever decodes is in range and survives another round. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_BYTES = 1 << 20 };

static struct kv_slice behind_kind(const struct kv_buf *b)
{
    struct kv_slice s = kv_buf_slice(b);
    if (b->failed || s.size == 0) abort();
    return kv_slice(s.data + 1, s.size - 1);
}

static void fuzz_request(struct kv_slice bytes, struct kv_arena *arena, struct kv_buf *buf)
{
    struct kv_request a, b;
    if (kv_request_decode(bytes, arena, &a) != KV_OK) return;
    if (kv_op_info(a.op) == NULL || a.level > KV_LEVEL_ANY) abort();
    kv_request_encode(&a, buf);
    if (kv_request_decode(behind_kind(buf), arena, &b) != KV_OK) abort();
    if (a.id != b.id || a.op != b.op || a.arg_count != b.arg_count || a.sequence != b.sequence ||
        a.pinned != b.pinned || a.partition != b.partition || a.range_epoch != b.range_epoch ||
        a.line != b.line || a.round != b.round || memcmp(a.client, b.client, sizeof a.client) != 0) {
        abort();
    }
    for (uint32_t i = 0; i < a.arg_count; i++) {
        if (!kv_slice_eq(a.args[i], b.args[i])) abort();
    }
}

static void fuzz_reply(struct kv_slice bytes, struct kv_arena *arena, struct kv_buf *buf)
{
    struct kv_reply a, b;
    if (kv_reply_decode(bytes, arena, &a) != KV_OK) return;
    if (strcmp(kv_err_name(a.err), "UNKNOWN") == 0 || a.applied > KV_APPLIED_YES) abort();
    kv_reply_encode(&a, buf);
    if (kv_reply_decode(behind_kind(buf), arena, &b) != KV_OK) abort();
    if (a.id != b.id || a.err != b.err || a.applied != b.applied || a.phase != b.phase ||
        !kv_slice_eq(a.value, b.value) || !kv_slice_eq(a.detail, b.detail) ||
        kv_version_cmp(a.version, b.version) != 0) {
        abort();
    }
}

static void fuzz_map(struct kv_slice bytes, struct kv_arena *arena, struct kv_buf *buf)
{
    struct kv_map_info a, b;
    if (kv_map_decode(bytes, arena, &a) != KV_OK) return;
    kv_map_encode(&a, buf);
    if (buf->failed || kv_map_decode(kv_buf_slice(buf), arena, &b) != KV_OK) abort();
    if (a.node_count != b.node_count || a.partition_count != b.partition_count) abort();
    for (uint32_t i = 0; i < a.node_count; i++) {
        if (!kv_slice_eq(a.nodes[i].host, b.nodes[i].host)) abort();
    }
    for (uint32_t i = 0; i < a.partition_count; i++) {
        if (!kv_slice_eq(a.partitions[i].to, b.partitions[i].to)) abort();
        if (a.partitions[i].node_count > KV_REPLICAS_MAX) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const targets[])(struct kv_slice, struct kv_arena *, struct kv_buf *) = {
        fuzz_request, fuzz_reply, fuzz_map};
    if (size == 0) return 0;
    struct kv_arena arena;
    struct kv_buf buf;
    /* Twice what the input may take: the second round must not run out. */
    kv_arena_init(&arena, size < ARENA_BYTES / 256 ? ARENA_BYTES : 0);
    kv_buf_init(&buf, 0);
    targets[data[0] % 3](kv_slice(data + 1, size - 1), &arena, &buf);
    kv_buf_free(&buf);
    kv_arena_free(&arena);
    return 0;
}

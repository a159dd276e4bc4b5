#include <stdlib.h>

#include "storage/command.h"

/* Whatever decodes must encode and decode again to the same thing. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_command(struct kv_slice bytes)
{
    struct kv_arena arena, again;
    struct kv_buf buf;
    struct command a, b;
    kv_arena_init(&arena, 1 << 20);
    kv_arena_init(&again, 1 << 20);
    kv_buf_init(&buf, 0);
    if (command_decode(bytes, &arena, &a) == KV_OK) {
        command_encode(&a, &buf);
        enum kv_err err = command_decode(kv_buf_slice(&buf), &again, &b);
        if (err != KV_OK || a.op != b.op || a.arg_count != b.arg_count || a.stamp_ms != b.stamp_ms)
            abort();
        for (uint32_t i = 0; i < a.arg_count; i++)
            if (!kv_slice_eq(a.args[i], b.args[i])) abort();
    }
    kv_buf_free(&buf);
    kv_arena_free(&again);
    kv_arena_free(&arena);
}

static void fuzz_descriptor(struct kv_slice bytes)
{
    struct descriptor a, b;
    struct kv_buf buf;
    kv_buf_init(&buf, 0);
    if (descriptor_decode(bytes, &a) == KV_OK) {
        descriptor_encode(&a, &buf);
        if (descriptor_decode(kv_buf_slice(&buf), &b) != KV_OK) abort();
        if (a.id != b.id || a.replica_count != b.replica_count) abort();
        if (!kv_slice_eq(kv_key_slice(&a.from), kv_key_slice(&b.from))) abort();
    }
    kv_buf_free(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_command(kv_slice(data, size));
    fuzz_descriptor(kv_slice(data, size));
    return 0;
}

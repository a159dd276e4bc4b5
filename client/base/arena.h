#ifndef KV_ARENA_H
#define KV_ARENA_H
#include "client/base/slice.h"

/* A bump allocator for memory that dies together: one message's fields, one
 * request's arguments. Reset keeps the first block. Never zeroed, 16-byte
 * aligned. Bounded: NULL beyond `size_max`. */
struct kv_arena_block;
struct kv_arena {
    struct kv_arena_block *blocks;
    size_t used, size, size_max; /* bytes */
};
void kv_arena_init(struct kv_arena *a, size_t size_max);
void kv_arena_free(struct kv_arena *a);
void kv_arena_reset(struct kv_arena *a);
void *kv_arena_alloc(struct kv_arena *a, size_t size);
struct kv_slice kv_arena_copy(struct kv_arena *a, struct kv_slice s); /* data NULL if refused */
#endif

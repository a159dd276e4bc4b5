/* Blocks form a list, newest first; only the newest has room. `used` counts the
 * bytes handed out since the last reset, rounded up to the alignment, and is
 * what size_max bounds; `size` counts the bytes of all blocks.
 * The oldest block survives a reset, so that a steady flow of small messages
 * never allocates. */
#include "client/base/arena.h"

#include <assert.h>
#include <stdlib.h>

enum { ALIGNMENT = 16, BLOCK_BYTES_MIN = 4096, BLOCK_BYTES_MAX = 64 << 10 };

struct kv_arena_block {
    struct kv_arena_block *older;
    size_t used, size; /* bytes behind this header */
};
enum { HEADER_BYTES = (sizeof(struct kv_arena_block) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT };

void kv_arena_init(struct kv_arena *a, size_t size_max)
{
    *a = (struct kv_arena){.size_max = size_max};
}

void kv_arena_free(struct kv_arena *a)
{
    for (struct kv_arena_block *b = a->blocks; b != NULL;) {
        struct kv_arena_block *older = b->older;
        free(b);
        b = older;
    }
    kv_arena_init(a, a->size_max);
}

void kv_arena_reset(struct kv_arena *a)
{
    a->used = 0;
    struct kv_arena_block *b = a->blocks;
    if (b == NULL) return;
    while (b->older != NULL) {
        struct kv_arena_block *older = b->older;
        a->size -= b->size;
        free(b);
        b = older;
    }
    b->used = 0;
    a->blocks = b;
    assert(a->size == b->size);
}

static struct kv_arena_block *arena_block_add(struct kv_arena *a, size_t need)
{
    /* Doubling bounds the number of blocks by the logarithm of what is used. */
    size_t size = a->size < BLOCK_BYTES_MIN ? BLOCK_BYTES_MIN : a->size;
    if (size > BLOCK_BYTES_MAX) size = BLOCK_BYTES_MAX;
    if (a->size_max != 0 && size > a->size_max) size = a->size_max;
    if (size < need) size = need;
    if (size > SIZE_MAX - HEADER_BYTES) return NULL;
    struct kv_arena_block *b = malloc(HEADER_BYTES + size);
    if (b == NULL) return NULL;
    *b = (struct kv_arena_block){.older = a->blocks, .size = size};
    a->blocks = b;
    a->size += size;
    return b;
}

void *kv_arena_alloc(struct kv_arena *a, size_t size)
{
    if (size > SIZE_MAX - ALIGNMENT) return NULL;
    if (size == 0) size = 1; /* a pointer that is not NULL and nobody else's */
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (a->size_max != 0 && (a->used > a->size_max || size > a->size_max - a->used)) return NULL;
    struct kv_arena_block *b = a->blocks;
    if (b == NULL || size > b->size - b->used) {
        b = arena_block_add(a, size);
        if (b == NULL) return NULL;
    }
    void *p = (uint8_t *)b + HEADER_BYTES + b->used;
    b->used += size;
    a->used += size;
    return p;
}

struct kv_slice kv_arena_copy(struct kv_arena *a, struct kv_slice s)
{
    uint8_t *p = kv_arena_alloc(a, s.size);
    if (p == NULL) return kv_slice(NULL, 0);
    if (s.size > 0) memcpy(p, s.data, s.size);
    return kv_slice(p, s.size);
}

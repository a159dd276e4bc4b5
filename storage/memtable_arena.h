#ifndef STORAGE_MEMTABLE_ARENA_H
#define STORAGE_MEMTABLE_ARENA_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

/* A bump allocator over anonymous mappings. Not malloc: tens of MiB come and go with every
 * checkpoint, and only an unmapped page is certain to be given back. Large tables ask for huge
 * pages: rows are met at random, and with small ones most of them miss the TLB too. */
struct arena_chunk {
    struct arena_chunk *older;
    size_t used, size; /* bytes, this header included */
};
struct memtable_arena {
    struct arena_chunk *chunks; /* newest first; only the first has room */
    struct arena_chunk *spares; /* of the usual size, from before a reset; not zero any more */
    size_t bytes;               /* handed out */
    size_t mapped;
    bool is_large;
};
enum { ARENA_CHUNK_BYTES = 256 << 10, ARENA_HUGE_BYTES = 2 << 20, ARENA_ALIGN = 16 };

/* Zeroed; NULL: no memory. Whole huge pages are aligned as such, where the system has them. */
static inline void *pages_map(size_t size)
{
    size_t extra = size % ARENA_HUGE_BYTES == 0 ? ARENA_HUGE_BYTES : 0;
    char *p = mmap(NULL, size + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    if (extra == 0) return p;
    size_t before = (ARENA_HUGE_BYTES - (uintptr_t)p % ARENA_HUGE_BYTES) % ARENA_HUGE_BYTES;
    if (before > 0) munmap(p, before);
    if (extra > before) munmap(p + before + size, extra - before);
    madvise(p + before, size, MADV_HUGEPAGE);
    return p + before;
}

/* Not zeroed. NULL: no memory. */
static inline void *memtable_arena_alloc(struct memtable_arena *a, size_t size)
{
    size = (size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    struct arena_chunk *c = a->chunks;
    if (c == NULL || size > c->size - c->used) {
        size_t header = (sizeof *c + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
        size_t usual = a->is_large ? ARENA_HUGE_BYTES : ARENA_CHUNK_BYTES;
        size_t map = size + header > usual / 4 ? size + header : usual;
        c = map == usual ? a->spares : NULL;
        if (c != NULL) a->spares = c->older;
        else c = pages_map(map);
        if (c == NULL) return NULL;
        if (c->size == 0) a->mapped += map; /* fresh */
        *c = (struct arena_chunk){.used = header, .size = map};
        if (map != usual && a->chunks != NULL) {
            c->older = a->chunks->older; /* a large one of its own: the first keeps its room */
            a->chunks->older = c;
        } else {
            c->older = a->chunks;
            a->chunks = c;
        }
    }
    void *p = (char *)c + c->used;
    c->used += size;
    a->bytes += size;
    return p;
}

/* What was handed out is gone; chunks of the usual size stay, to be used again, up to `keep` bytes. */
static inline void memtable_arena_reset(struct memtable_arena *a, size_t keep)
{
    size_t usual = a->is_large ? ARENA_HUGE_BYTES : ARENA_CHUNK_BYTES;
    for (struct arena_chunk *c = a->chunks, *older; c != NULL; c = older) {
        older = c->older;
        if (c->size != usual || a->mapped > keep) {
            a->mapped -= c->size;
            munmap(c, c->size);
            continue;
        }
        c->older = a->spares;
        a->spares = c;
    }
    a->chunks = NULL;
    a->bytes = 0;
}

static inline void memtable_arena_free(struct memtable_arena *a)
{
    memtable_arena_reset(a, 0);
    for (struct arena_chunk *c = a->spares, *older; c != NULL; c = older) {
        older = c->older;
        munmap(c, c->size);
    }
    a->spares = NULL;
    a->mapped = 0;
}
#endif

#include "storage/log_private.h"
#include <assert.h>
#include <stdlib.h>

/* Images of pieces of segments, oldest first. Batches are built in them and written from
 * them; afterwards they serve reads until memory is short.
 * (1) Chunks are ascending by (segment, offset) and do not overlap.
 * (2) Bytes of a batch being written never move; the open batch may. */

static uint32_t chunk_bytes_default(const struct log *l)
{
    uint64_t bytes = l->o.cache_bytes_max / 8;
    if (bytes > LOG_CHUNK_BYTES) return LOG_CHUNK_BYTES;
    return bytes < LOG_PAGE_BYTES ? LOG_PAGE_BYTES : (uint32_t)bytes;
}

static struct log_chunk *chunk_add(struct log *l, uint64_t segment, uint32_t offset, size_t size)
{
    uint32_t capacity = chunk_bytes_default(l);
    if (size > UINT32_MAX / 2) return NULL;
    if (size > capacity) capacity = (uint32_t)size;
    if (l->chunk_count == l->chunk_capacity) {
        size_t more = l->chunk_capacity * 2 + 16;
        struct log_chunk **grown = realloc(l->chunks, more * sizeof *grown);
        if (grown == NULL) return NULL;
        l->chunks = grown;
        l->chunk_capacity = more;
    }
    struct log_chunk *c = malloc(sizeof *c);
    uint8_t *data = malloc(capacity);
    if (c == NULL || data == NULL) {
        free(c);
        free(data);
        return NULL;
    }
    *c = (struct log_chunk){.segment = segment, .offset = offset, .capacity = capacity, .data = data};
    l->chunks[l->chunk_count++] = c;
    l->chunk_bytes += capacity;
    return c;
}

static void chunk_free(struct log *l, size_t at)
{
    l->dropped++;
    l->chunk_bytes -= l->chunks[at]->capacity;
    free(l->chunks[at]->data);
    free(l->chunks[at]);
    l->chunk_count--;
    memmove(l->chunks + at, l->chunks + at + 1, (l->chunk_count - at) * sizeof(struct log_chunk *));
}

struct log_chunk *log_cache_begin(struct log *l, struct log_segment *s, uint32_t offset, size_t size)
{
    struct log_chunk *c = l->chunk_count == 0 ? NULL : l->chunks[l->chunk_count - 1];
    if (c != NULL && c->segment == s->id && c->offset + c->size <= offset &&
        offset - c->offset + size <= c->capacity) {
        uint32_t at = offset - c->offset;
        memset(c->data + c->size, 0, at - c->size); /* the gap before an aligned batch */
        c->size = at;
        return c;
    }
    return chunk_add(l, s->id, offset, size);
}

uint8_t *log_cache_room(struct log *l, struct log_batch *open, size_t size)
{
    struct log_chunk *c = open->chunk;
    uint32_t at = open->offset - c->offset;
    if (at + open->size + size > c->capacity) {
        struct log_chunk *bigger = chunk_add(l, c->segment, open->offset, (open->size + size) * 2);
        if (bigger == NULL) return NULL;
        memcpy(bigger->data, c->data + at, open->size);
        bigger->size = open->size;
        bigger->sequence = open->sequence;
        c->size = at;
        open->chunk = bigger;
        if (at == 0) chunk_free(l, l->chunk_count - 2); /* nothing else was in it */
        c = bigger;
        at = 0;
    }
    return c->data + at + open->size;
}

const struct log_chunk *log_cache_find(const struct log *l, const struct log_slot *slot)
{
    const struct log_chunk *newest = l->chunk_count == 0 ? NULL : l->chunks[l->chunk_count - 1];
    if (log_chunk_get(newest, slot) != NULL) return newest; /* mostly what was appended just now is asked for */
    size_t low = 0, high = l->chunk_count;                  /* the first chunk behind the record */
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct log_chunk *c = l->chunks[middle];
        if (c->segment < slot->segment || (c->segment == slot->segment && c->offset <= slot->offset))
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && log_chunk_get(l->chunks[low - 1], slot) != NULL ? l->chunks[low - 1] : NULL;
}

void log_cache_evict(struct log *l)
{
    while (l->chunk_bytes > l->o.cache_bytes_max && l->chunk_count > 1 && l->chunks[0]->sequence <= l->durable)
        chunk_free(l, 0);
}

void log_cache_free(struct log *l)
{
    while (l->chunk_count > 0) chunk_free(l, l->chunk_count - 1);
    free(l->chunks);
}

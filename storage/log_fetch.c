#include "storage/log_private.h"
#include <assert.h>
#include <stdlib.h>

/* Entries read back from segments, on the checkpoint thread. The loop plans: which entries,
 * where each stands, whose bytes it still has. The thread reads through a window,
 * since entries of one group mostly stand close to each other, and checks each
 * record by its own checksum. Everything lives in one allocation, f->memory. */
enum { WINDOW_BYTES = 256 << 10, FETCH_ENTRIES_MAX = 1 << 16 };

struct piece {
    struct disk_file file; /* none: the bytes are there already */
    uint32_t offset;
};
struct job {
    struct log *log;
    struct disk *disk;
    enum kv_err err;
    struct log_entry *entries;
    struct piece *pieces;
    uint8_t *bytes; /* of all entries: each its record header and its body */
    uint8_t *window;
};

/* Entries from f->first on, at least one, within bytes_max, all of them readable now. */
static uint32_t plan_count(const struct log *l, const struct log_life *g, const struct log_fetch *f, size_t *bytes)
{
    uint32_t count = 0;
    size_t sum = 0;
    *bytes = 0;
    for (uint64_t i = f->first; i <= log_life_last(g) && count < FETCH_ENTRIES_MAX; i++, count++) {
        const struct log_slot *slot = log_life_slot(g, i);
        if (count > 0 && sum + slot->size > f->bytes_max) break;
        sum += slot->size;
        *bytes += LOG_RECORD_HEADER_BYTES + (size_t)slot->size;
    }
    (void)l;
    return count;
}

static void plan(const struct log *l, const struct log_life *g, const struct log_fetch *f, struct job *j)
{
    uint8_t *to = j->bytes;
    for (uint32_t k = 0; k < f->entry_count; k++) {
        const struct log_slot *slot = log_life_slot(g, f->first + k);
        const uint8_t *cached = log_chunk_get(log_cache_find(l, slot), slot); /* undurable ones always are */
        j->pieces[k] = (struct piece){.file = {.handle = -1}, .offset = slot->offset};
        if (cached != NULL)
            memcpy(to, cached - LOG_RECORD_HEADER_BYTES, LOG_RECORD_HEADER_BYTES + (size_t)slot->size);
        else
            j->pieces[k].file = log_segment_find(l, slot->segment)->file;
        j->entries[k] = (struct log_entry){.term = log_life_term(g, f->first + k),
                                           .flags = (uint8_t)slot->flags,
                                           .bytes = kv_slice(to + LOG_RECORD_HEADER_BYTES, slot->size)};
        to += LOG_RECORD_HEADER_BYTES + (size_t)slot->size;
    }
}

static void fetch_run(struct disk_request *q)
{
    struct log_fetch *f = container_of(q, struct log_fetch, io);
    struct job *j = f->memory;
    struct disk_file window_file = {.handle = -1};
    uint64_t window_at = 0;
    size_t window_size = 0, got;
    uint8_t *to = j->bytes;
    for (uint32_t k = 0; k < f->entry_count && j->err == KV_OK; k++) {
        const struct piece *p = &j->pieces[k];
        size_t size = LOG_RECORD_HEADER_BYTES + j->entries[k].bytes.size;
        if (p->file.handle >= 0 && size > WINDOW_BYTES) {
            j->err = j->disk->ops->read(j->disk, p->file, p->offset, to, size, &got);
            if (j->err == KV_OK && got < size) j->err = KV_CORRUPT;
        } else if (p->file.handle >= 0) {
            if (p->file.handle != window_file.handle || p->offset < window_at ||
                p->offset + size > window_at + window_size) {
                j->err = j->disk->ops->read(j->disk, p->file, p->offset, j->window, WINDOW_BYTES, &window_size);
                window_file = p->file;
                window_at = p->offset;
                if (j->err == KV_OK && window_size < size) j->err = KV_CORRUPT;
            }
            if (j->err == KV_OK) memcpy(to, j->window + (p->offset - window_at), size);
        }
        if (j->err == KV_OK &&
            !log_record_is_entry(kv_slice(to, size), f->group, f->first + k, j->entries[k].term))
            j->err = KV_CORRUPT;
        to += size;
    }
}

static void fetch_done(struct disk_request *q, enum kv_err err)
{
    struct log_fetch *f = container_of(q, struct log_fetch, io);
    struct job *j = f->memory;
    if (err == KV_OK) err = j->err;
    /* Released meanwhile, its segment may hold something else by now: not damage. */
    if (err == KV_CORRUPT && log_first(j->log, f->group) > f->first) err = KV_NOT_FOUND;
    if (err != KV_OK) log_fetch_free(f);
    f->done(f, err);
}

static void fetch_refused(struct disk_request *q, enum kv_err err)
{
    struct log_fetch *f = container_of(q, struct log_fetch, io);
    f->done(f, err == KV_OK ? KV_NOT_FOUND : err);
}

static void fetch_refused_run(struct disk_request *q)
{
    (void)q; /* only to answer later, never inside the call */
}

void log_fetch(struct log *l, struct log_fetch *f)
{
    const struct log_life *g = log_life_get(l, f->group);
    size_t bytes;
    f->entries = NULL;
    f->entry_count = 0;
    f->memory = NULL;
    f->io.run = fetch_refused_run;
    f->io.done = fetch_refused;
    if (g != NULL && f->first > g->compacted_index && f->first <= log_life_last(g)) {
        uint32_t count = plan_count(l, g, f, &bytes);
        size_t head = sizeof(struct job) + count * (sizeof(struct log_entry) + sizeof(struct piece));
        struct job *j = malloc(head + bytes + WINDOW_BYTES);
        if (j != NULL) {
            j->log = l;
            j->disk = l->disk;
            j->err = KV_OK;
            j->entries = (struct log_entry *)(void *)(j + 1);
            j->pieces = (struct piece *)(void *)(j->entries + count);
            j->bytes = (uint8_t *)(j->pieces + count);
            j->window = j->bytes + bytes;
            f->memory = j;
            f->entries = j->entries;
            f->entry_count = count;
            f->io.run = fetch_run;
            f->io.done = fetch_done;
            plan(l, g, f, j);
        }
    }
    l->disk->ops->work(l->disk, &f->io);
}

void log_fetch_free(struct log_fetch *f)
{
    free(f->memory);
    f->memory = NULL;
    f->entries = NULL;
    f->entry_count = 0;
}

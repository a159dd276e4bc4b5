#include "storage/log_private.h"
#include <assert.h>
#include <stdlib.h>

/* Appending. Records go into the open batch; a flush seals it and has it written and
 * synced; whatever is appended meanwhile collects in the next one (group commit).
 * (1) One batch is being written at a time, in the order of sequence numbers: so a valid
 *     batch proves that all before it were synced.
 * (2) A batch stands whole in one segment; the batch that does not fit begins the next.
 * (3) Nothing is taken from an append before there is room for all of it.
 * (4) After a failed write or sync nothing is written any more, ever (R15). */
static const uint8_t zero_page[LOG_PAGE_BYTES];

enum kv_err log_create(const struct log_options *o, struct log **out)
{
    struct log *l = calloc(1, sizeof *l);
    if (l == NULL) return KV_IO;
    l->o = *o;
    l->disk = o->disk;
    if (l->o.segment_bytes == 0) l->o.segment_bytes = LOG_SEGMENT_BYTES_MIN;
    if (l->o.segment_bytes_max == 0) l->o.segment_bytes_max = LOG_SEGMENT_BYTES_MAX;
    if (l->o.cache_bytes_max == 0) l->o.cache_bytes_max = 16 << 20;
    if (l->o.append_bytes_max == 0) l->o.append_bytes_max = 256 << 20;
    if (l->o.reserve_segments == 0) l->o.reserve_segments = 2;
    if (l->o.segment_bytes_max < l->o.segment_bytes) l->o.segment_bytes_max = l->o.segment_bytes;
    assert(l->o.segment_bytes % LOG_PAGE_BYTES == 0 && l->o.segment_bytes >= 2 * LOG_PAGE_BYTES);
    assert(l->o.segment_bytes_max % LOG_PAGE_BYTES == 0 && l->o.segment_bytes_max <= UINT32_MAX / 2);
    kv_map_init(&l->by_group);
    l->segment_next = 1;
    l->sequence_next = 1;
    l->idle_last = &l->idle;
    *out = l;
    return KV_OK;
}

static void segments_free(struct log *l, struct log_segments *s)
{
    for (size_t i = 0; i < s->count; i++) {
        if (s->at[i]->file.handle >= 0) l->disk->ops->close(l->disk, s->at[i]->file);
        log_segment_free(s->at[i]);
    }
    free(s->at);
}

void log_destroy(struct log *l)
{
    if (l == NULL) return;
    l->disk->ops->drain(l->disk);
    if (l->job.busy) {
        if (l->job.file.handle >= 0) l->disk->ops->close(l->disk, l->job.file);
        if (!l->job.promised) log_segment_free(l->job.segment);
    }
    if (l->rebasing) log_fetch_free(&l->rebase);
    segments_free(l, &l->segments);
    segments_free(l, &l->spares);
    segments_free(l, &l->dead);
    for (size_t i = 0; i < l->life_count; i++) {
        free(l->lives[i]->slots);
        free(l->lives[i]->runs);
        free(l->lives[i]);
    }
    free(l->lives);
    kv_map_free(&l->by_group);
    log_cache_free(l);
    free(l->tail);
    free(l->destroyed);
    free(l);
}

/* Batches */

static struct log_batch *batch_at(struct log *l, uint32_t i)
{
    return &l->batches[(l->batch_head + i) % LOG_BATCHES_MAX];
}

struct log_batch *log_batch_last(struct log *l)
{
    return l->batch_count == 0 ? NULL : batch_at(l, l->batch_count - 1);
}

static uint64_t batch_offset_next(const struct log_segment *s)
{
    return s->used == 0 ? LOG_PAGE_BYTES : log_align(s->used, LOG_ALIGN_BYTES);
}

enum kv_err log_room(const struct log *l, size_t bytes)
{
    /* One append larger than the limit must not wait for ever: alone it may pass. */
    bool too_much = l->bytes_undurable > 0 && l->bytes_undurable + bytes > l->o.append_bytes_max;
    /* Any two neighbouring segments hold more than the smaller one's bytes; a spare too small
     * for a record takes an empty batch. */
    uint64_t batches = 4 + l->spares.count + 2 * (uint64_t)bytes / l->o.segment_bytes;
    if (!too_much && (l->batch_count == 0 || l->batch_count + batches <= LOG_BATCHES_MAX)) return KV_OK;
    return l->full ? KV_NO_SPACE : KV_BUSY;
}

static void batch_seal(struct log *l)
{
    struct log_batch *b = log_batch_last(l);
    assert(l->open && b->size - LOG_BATCH_HEADER_BYTES <= UINT32_MAX);
    b->segment->used = (uint64_t)b->offset + b->size;
    l->open = false;
}

static bool batch_begin(struct log *l, size_t size)
{
    struct log_segment *s = log_active(l);
    uint32_t offset = (uint32_t)batch_offset_next(s);
    assert(!l->open);
    if (l->batch_count == LOG_BATCHES_MAX) return false;
    struct log_chunk *c = log_cache_begin(l, s, offset, LOG_BATCH_HEADER_BYTES + size);
    if (c == NULL) return false;
    struct log_batch *b = batch_at(l, l->batch_count++);
    *b = (struct log_batch){.sequence = l->sequence_next++,
                            .segment = s,
                            .chunk = c,
                            .offset = offset,
                            .size = LOG_BATCH_HEADER_BYTES};
    b->last = &b->first;
    c->size += LOG_BATCH_HEADER_BYTES;
    c->sequence = b->sequence;
    l->bytes_undurable += LOG_BATCH_HEADER_BYTES;
    l->open = true;
    return true;
}

/* Makes the open batch one that has room for `size` more bytes in its segment. */
static bool batch_provide(struct log *l, size_t size)
{
    for (;;) {
        struct log_segment *s = log_active(l);
        uint64_t end = l->open ? (uint64_t)log_batch_last(l)->offset + log_batch_last(l)->size
                               : batch_offset_next(s) + LOG_BATCH_HEADER_BYTES;
        bool fits = end + size <= s->bytes;
        if (fits && l->open) return true;
        /* Even a spare too small for this record gets an (empty) batch: without one, recovery
         * would take it for a damaged segment. */
        if (!l->open && (fits || s->used == 0)) {
            if (!batch_begin(l, fits ? size : 0)) return false;
            continue;
        }
        if (l->open) batch_seal(l);
        if (log_segment_next(l, LOG_PAGE_BYTES + LOG_BATCH_HEADER_BYTES + size) == NULL) return false;
    }
}

bool log_put(struct log *l, const struct log_record *r, uint64_t hard_term, struct log_slot *slot)
{
    size_t size = log_record_bytes(r->kind, r->bytes.size);
    uint8_t *to = NULL;
    if (batch_provide(l, size)) to = log_cache_room(l, log_batch_last(l), size);
    if (to == NULL) {
        log_poison(l, KV_IO);
        return false;
    }
    struct log_batch *b = log_batch_last(l);
    log_record_put(to, r, hard_term);
    if (slot != NULL)
        *slot = (struct log_slot){.segment = (uint32_t)b->segment->id,
                                  .offset = b->offset + b->size,
                                  .size = (uint32_t)r->bytes.size,
                                  .flags = r->flags};
    b->size += (uint32_t)size;
    b->records++;
    b->chunk->size += (uint32_t)size;
    l->bytes_undurable += size;
    l->unflushed = true;
    return true;
}

bool log_put_together(struct log *l, size_t size)
{
    if (batch_provide(l, size)) return true;
    log_poison(l, KV_IO);
    return false;
}

bool log_put_anchor(struct log *l, struct log_life *g, uint8_t flags)
{
    struct log_record r = {.kind = LOG_RECORD_GROUP,
                           .flags = (uint8_t)(flags | (g->damaged ? LOG_GROUP_DAMAGED : 0)),
                           .group = g->group,
                           .replica = g->replica,
                           .index = g->compacted_index,
                           .term = g->compacted_term,
                           .commit = g->commit,
                           .vote = g->vote};
    if (!log_put(l, &r, g->term, NULL)) return false;
    g->anchor_segment = log_active(l)->id;
    g->anchor_compacted = g->compacted_index;
    g->anchor_term = g->compacted_term;
    g->anchored = true;
    return true;
}

/* Writing */

static void waiters_done(struct log_append *a, enum kv_err err)
{
    while (a != NULL) {
        struct log_append *next = a->next; /* `a` is its owner's again in done */
        if (next != NULL) __builtin_prefetch(next->next, 1);
        a->done(a, err);
        a = next;
    }
}

static void idle_done(struct log *l, enum kv_err err)
{
    struct log_append *a = l->idle;
    l->idle = NULL;
    l->idle_last = &l->idle;
    waiters_done(a, err);
}

void log_poison(struct log *l, enum kv_err err)
{
    if (l->poisoned) return;
    l->poisoned = true;
    l->poison_err = err;
    struct log_append *first = NULL, **last = &first;
    for (uint32_t i = 0; i < l->batch_count; i++) {
        struct log_batch *b = batch_at(l, i);
        if (b->first == NULL) continue;
        *last = b->first;
        last = b->last;
        b->first = NULL;
        b->last = &b->first;
    }
    /* Those behind it in an append that just failed are told by its return value. */
    if (l->o.poisoned != NULL) l->o.poisoned(l->o.context, err);
    waiters_done(first, KV_POISONED);
    idle_done(l, KV_POISONED);
}

static void batch_written(struct disk_request *q, enum kv_err err);

static void batch_submit(struct log *l, bool inline_ok)
{
    struct log_batch *b = batch_at(l, 0);
    if (l->batch_count == 1 && l->open) {
        batch_seal(l);
        l->flush_wanted = false;
    }
    uint8_t *data = b->chunk->data + (b->offset - b->chunk->offset);
    struct log_batch_header h = {.payload = b->size - LOG_BATCH_HEADER_BYTES,
                                 .records = b->records,
                                 .sequence = b->sequence,
                                 .synced = l->durable,
                                 .previous = l->checksum,
                                 .offset = b->offset,
                                 .segment = b->segment->id};
    l->checksum = log_batch_seal(data, &h, l->o.store_id);
    /* Whole pages are written, so that the kernel never has to read one back first. */
    uint64_t end = (uint64_t)b->offset + b->size;
    l->parts[0] = kv_slice(data, b->size);
    l->parts[1] = kv_slice(zero_page, (size_t)(log_align(end, LOG_PAGE_BYTES) - end));
    l->io.done = batch_written;
    l->io.run = NULL;
    l->io.file = b->segment->file;
    l->io.offset = b->offset;
    l->io.parts = l->parts;
    l->io.part_count = 2;
    l->io.sync = !MUTANT(append_not_synced);
    l->in_flight = true;
    if (inline_ok && b->size <= LOG_INLINE_BYTES_MAX && log_sync_ns_max(l) <= LOG_INLINE_SYNC_NS_MAX)
        batch_written(&l->io, l->disk->ops->append_now(l->disk, &l->io));
    else
        l->disk->ops->append(l->disk, &l->io);
}

static void batch_written(struct disk_request *q, enum kv_err err)
{
    struct log *l = container_of(q, struct log, io);
    l->in_flight = false;
    if (err != KV_OK) {
        log_poison(l, err);
        return;
    }
    if (l->poisoned) return; /* something else failed meanwhile: no acknowledgement any more */
    l->sync_ns[l->sync_count++ % LOG_SYNC_SAMPLES] = q->ns;
    struct log_batch *b = batch_at(l, 0);
    struct log_append *done = b->first;
    assert(b->sequence == l->durable + 1);
    l->durable = b->sequence;
    l->bytes_undurable -= b->size;
    l->batch_head = (l->batch_head + 1) % LOG_BATCHES_MAX;
    l->batch_count--;
    log_recycle(l); /* may put records that wait for the next flush */
    log_batches_kick(l, false);
    waiters_done(done, KV_OK); /* the disk works while the owner does */
}

void log_batches_kick(struct log *l, bool inline_ok)
{
    if (l->poisoned || l->in_flight || l->batch_count == 0) return;
    if (l->batch_count == 1 && l->open && !l->flush_wanted) return;
    if (batch_at(l, 0)->segment->ready) batch_submit(l, inline_ok && l->batch_count == 1);
}

void log_flush(struct log *l, bool inline_ok)
{
    if (l->full) l->flushes_since_full++;
    log_segments_tend(l);
    log_cache_evict(l);
    log_destroys_put(l);
    l->unflushed = false;
    l->flush_wanted = l->open;
    log_batches_kick(l, inline_ok);
    if (l->idle != NULL) idle_done(l, l->poisoned ? KV_POISONED : KV_OK);
}

bool log_has_queued(const struct log *l)
{
    return l->unflushed;
}

/* Appending */

/* Only the commit is new, and not too far behind to be said with the first entry. */
static bool commit_rides(const struct log_life *g, const struct log_append *a)
{
    return a->hard_changed && a->entry_count > 0 && a->term == g->term && a->vote == g->vote && a->first > a->commit &&
           a->first - a->commit <= UINT16_MAX;
}

static bool put_entries(struct log *l, struct log_life *g, const struct log_append *a, bool rides)
{
    struct log_record r = {.kind = LOG_RECORD_ENTRY, .group = g->group, .index = a->first};
    if (rides) r.behind = (uint16_t)(a->first - a->commit);
    for (uint32_t i = 0; i < a->entry_count; i++, r.index++) {
        struct log_slot slot;
        r.term = a->entries[i].term;
        r.flags = a->entries[i].flags;
        r.bytes = a->entries[i].bytes;
        if (!log_put(l, &r, 0, &slot)) return false;
        log_life_push(l, g, &slot, r.term);
        r.behind = 0;
    }
    return true;
}

static bool put_all(struct log *l, struct log_life *g, const struct log_append *a, const struct log_record *reset)
{
    if (reset != NULL) {
        if (!log_put(l, reset, 0, NULL)) return false;
        log_life_rebase(l, g, reset->index, reset->term);
    }
    bool rides = commit_rides(g, a);
    if (a->hard_changed && !rides) {
        struct log_record r = {.kind = LOG_RECORD_HARD,
                               .group = g->group,
                               .term = a->term,
                               .commit = a->commit,
                               .vote = a->vote};
        if (!log_put(l, &r, 0, NULL)) return false;
    }
    if (a->hard_changed) {
        g->term = a->term;
        g->commit = a->commit;
        g->vote = a->vote;
    }
    if (a->truncate_from != 0 && a->truncate_from <= log_life_last(g)) {
        struct log_record r = {.kind = LOG_RECORD_TRUNCATE, .group = g->group, .index = a->truncate_from};
        if (!MUTANT(truncation_not_logged) && !log_put(l, &r, 0, NULL)) return false;
        log_life_truncate(l, g, a->truncate_from);
    }
    assert(a->entry_count == 0 || a->first == log_life_last(g) + 1);
    return put_entries(l, g, a, rides);
}

static enum kv_err append(struct log *l, struct log_append *a, const struct log_record *reset)
{
    struct log_life *g = log_life_get(l, a->group);
    size_t bytes = 0;
    if (l->poisoned) return KV_POISONED;
    if (g == NULL) return KV_NOT_FOUND;
    if (g->damaged) return KV_CORRUPT; /* nothing may be built on it (R4) */
    if (reset != NULL) bytes += log_record_bytes(LOG_RECORD_RESET, 0);
    if (a->hard_changed) bytes += log_record_bytes(LOG_RECORD_HARD, 0);
    if (a->truncate_from != 0) bytes += log_record_bytes(LOG_RECORD_TRUNCATE, 0);
    for (uint32_t i = 0; i < a->entry_count; i++) {
        if (a->entries[i].bytes.size > LOG_ENTRY_BYTES_MAX) return KV_TOO_BIG;
        bytes += log_record_bytes(LOG_RECORD_ENTRY, a->entries[i].bytes.size);
    }
    enum kv_err err = log_room(l, bytes);
    if (err == KV_OK && !log_life_reserve(g, a->entry_count)) err = KV_BUSY;
    if (err != KV_OK) return err;
    a->next = NULL;
    if (bytes > 0 && !put_all(l, g, a, reset)) return KV_POISONED;
    struct log_batch *b = log_batch_last(l);
    struct log_append ***last = b == NULL ? &l->idle_last : &b->last;
    **last = a;
    *last = &a->next;
    l->unflushed = true;
    return KV_OK;
}

enum kv_err log_append(struct log *l, struct log_append *a)
{
    return append(l, a, NULL);
}

enum kv_err log_reset(struct log *l, uint32_t group, uint64_t index, uint64_t term, struct log_append *a)
{
    assert(a->group == group && a->truncate_from == 0);
    struct log_record r = {.kind = LOG_RECORD_RESET, .group = group, .index = index, .term = term};
    return append(l, a, &r);
}

/* Questions */

const struct log_damage *log_damage(const struct log *l)
{
    return l->has_damage ? &l->damage : NULL;
}

uint64_t log_bytes_undurable(const struct log *l)
{
    return l->bytes_undurable;
}

bool log_is_poisoned(const struct log *l)
{
    return l->poisoned;
}

bool log_is_full(const struct log *l)
{
    return l->full && l->spares.count < l->o.reserve_segments;
}

uint64_t log_bytes_claimed(const struct log *l)
{
    const struct log_segment *active = log_active(l);
    if (!active->ready) return 0; /* promised: what stands in it waits */
    uint64_t bytes = active->bytes > active->used ? active->bytes - active->used : 0;
    for (size_t i = 0; i < l->spares.count; i++) bytes += l->spares.at[i]->bytes;
    return bytes;
}

bool log_is_busy(const struct log *l)
{
    return l->bytes_undurable > l->o.append_bytes_max / 4;
}

uint64_t log_syncs(const struct log *l)
{
    return l->sync_count;
}

uint64_t log_sync_ns_max(const struct log *l)
{
    uint64_t max = 0;
    for (uint32_t i = 0; i < LOG_SYNC_SAMPLES && i < l->sync_count; i++)
        if (l->sync_ns[i] > max) max = l->sync_ns[i];
    return max;
}

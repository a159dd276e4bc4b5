#include "client/base/endian.h"
#include "storage/log_private.h"
#include "storage/log_walk.h"
#include <assert.h>
#include <stdlib.h>

/* Recovery: the records of all batches applied in order to an empty index.
 * (1) What log_recover() tells is what the log will hold: the batches not proven synced
 *     are part of it, and log_start() makes that true on the disk before it returns.
 * (2) Segments leave from the beginning, so records of a group may come before its GROUP
 *     record, and entries may be missing whose truncation is still to come. So a life is
 *     built on whatever entry comes first, and judged at the end: it is whole if it has
 *     its GROUP record and begins no later than its compaction point.
 * (3) After damage every group known so far, and every one first heard of without its
 *     beginning, is marked; nothing more is believed about it until a new life (R4). */

static void damage_note(struct log *l, const struct log_damage *d)
{
    if (!l->has_damage) l->damage = *d;
    l->has_damage = true;
}

static const char *apply_group(struct log *l, struct log_life *g, const struct log_record *r,
                               uint64_t hard_term, uint64_t segment)
{
    bool begins = (r->flags & LOG_GROUP_BEGINS) != 0;
    bool is_behind = g->slot_count == 0 && r->index > log_life_last(g); /* of entries long gone */
    if (g->damaged && !begins) return NULL;
    if (begins || is_behind || (r->flags & LOG_GROUP_REBASE) != 0) {
        log_life_reset(l, g, r->index, r->term);
    } else if (r->index > log_life_last(g)) {
        g->damaged = true;
        return "entries are missing before this record";
    } else if (r->index >= g->compacted_index) {
        log_life_compact(l, g, r->index);
        g->compacted_term = r->term;
    }
    g->replica = r->replica;
    g->term = hard_term;
    g->commit = r->commit;
    g->vote = r->vote;
    g->anchor_segment = segment;
    g->anchor_compacted = r->index;
    g->anchor_term = r->term;
    g->anchored = true;
    g->damaged = (r->flags & LOG_GROUP_DAMAGED) != 0;
    return NULL;
}

static const char *apply_truncate(struct log *l, struct log_life *g, const struct log_record *r)
{
    if (r->index > g->compacted_index) {
        log_life_truncate(l, g, r->index);
        return NULL;
    }
    if (r->index == 0 || (g->anchored && r->index <= g->anchor_compacted)) {
        g->damaged = true;
        return "a truncation reaches below the compaction point";
    }
    /* What it cut off began in segments long gone. */
    bool connects = g->anchored && r->index - 1 == g->anchor_compacted;
    log_life_reset(l, g, r->index - 1, connects ? g->anchor_term : 0);
    return NULL;
}

static const char *apply_entry(struct log *l, struct log_life *g, const struct log_record *r, uint64_t segment)
{
    if (g->slot_count == 0 && r->index > log_life_last(g) + 1) log_life_reset(l, g, r->index - 1, 0);
    if (r->index != log_life_last(g) + 1) {
        g->damaged = true;
        return "an entry is out of order";
    }
    if (!log_life_reserve(g, 1)) {
        l->out_of_memory = true;
        return NULL;
    }
    struct log_slot slot = {.segment = (uint32_t)segment,
                            .offset = (uint32_t)r->offset,
                            .size = (uint32_t)r->bytes.size,
                            .flags = r->flags};
    log_life_push(l, g, &slot, r->term);
    if (r->behind > 0) g->commit = r->commit;
    return NULL;
}

static const char *apply(struct log *l, const struct log_record *r, uint64_t hard_term, uint64_t segment)
{
    struct log_life *g = log_life_get(l, r->group);
    if (g == NULL) {
        if (r->kind == LOG_RECORD_DESTROY) return NULL;
        g = log_life_add(l, r->group);
        if (g == NULL) {
            l->out_of_memory = true;
            return NULL;
        }
        g->damaged = l->has_damage; /* unless this record begins its life */
    }
    if (g->damaged && r->kind != LOG_RECORD_GROUP && r->kind != LOG_RECORD_DESTROY) return NULL;
    switch (r->kind) {
    case LOG_RECORD_ENTRY: return apply_entry(l, g, r, segment);
    case LOG_RECORD_HARD:
        g->term = r->term;
        g->commit = r->commit;
        g->vote = r->vote;
        return NULL;
    case LOG_RECORD_TRUNCATE: return apply_truncate(l, g, r);
    case LOG_RECORD_GROUP: return apply_group(l, g, r, hard_term, segment);
    case LOG_RECORD_RESET: log_life_rebase(l, g, r->index, r->term); return NULL;
    case LOG_RECORD_DESTROY: log_life_remove(l, g); return NULL;
    }
    return NULL;
}

static const char *on_record(void *context, const struct log_record *r, uint64_t hard_term,
                             const struct log_batch_header *h)
{
    return apply(context, r, hard_term, h->segment);
}

static void on_segment(void *context, const struct log_walk_file *f)
{
    struct log *l = context;
    struct log_segment *s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->id = f->id;
        s->bytes = f->bytes;
        s->file = f->file;
        s->ready = true;
        if (log_segments_add(&l->segments, s)) return;
        free(s);
    }
    l->out_of_memory = true;
}

/* Keeps the headers of the batches that no later one proves synced: all but one go at once. */
static void on_batch(void *context, const struct log_batch_header *h)
{
    struct log *l = context;
    size_t proven = 0;
    while (proven < l->tail_count && l->tail[proven].sequence <= h->synced) proven++;
    l->tail_count -= proven;
    if (proven > 0) memmove(l->tail, l->tail + proven, l->tail_count * sizeof *l->tail);
    if (l->tail_count == l->tail_capacity) {
        size_t capacity = l->tail_capacity * 2 + 4;
        struct log_batch_header *grown = realloc(l->tail, capacity * sizeof *grown);
        if (grown == NULL) {
            l->out_of_memory = true;
            return;
        }
        l->tail = grown;
        l->tail_capacity = capacity;
    }
    l->tail[l->tail_count++] = *h;
}

static void on_problem(void *context, const struct log_damage *d, enum log_problem kind)
{
    struct log *l = context;
    if (kind != LOG_PROBLEM_DAMAGE) return;
    damage_note(l, d);
    for (size_t i = 0; i < l->life_count; i++) l->lives[i]->damaged = true;
}

/* Segments of the log are l->segments by now; the other files wait to be recycled. */
static enum kv_err files_take(struct log *l, struct log_walk *w)
{
    enum kv_err err = KV_OK;
    for (size_t i = 0; i < w->file_count; i++) {
        struct log_walk_file *f = &w->files[i];
        struct log_segment *s = f->is_dead ? NULL : log_segment_find(l, f->id);
        if (s != NULL) {
            s->used = f->used;
        } else if (f->file.handle >= 0) {
            s = calloc(1, sizeof *s);
            if (s != NULL) *s = (struct log_segment){.id = f->id, .bytes = f->bytes, .file = f->file};
            if (s == NULL || !log_segments_add(&l->dead, s)) {
                free(s);
                err = KV_IO;
            }
        }
        if (f->id >= l->segment_next) l->segment_next = f->id + 1;
    }
    return err;
}

static void lives_check(struct log *l)
{
    for (size_t i = 0; i < l->life_count; i++) {
        struct log_life *g = l->lives[i];
        if (!g->damaged && (!g->anchored || g->compacted_index > g->anchor_compacted)) {
            struct log_damage d = {.what = "the beginning of a group's log is missing"};
            if (l->segments.count > 0) log_segment_name(l->segments.at[0]->id, d.file);
            g->damaged = true;
            damage_note(l, &d);
        }
        /* Entries above the last were never acknowledged, so the commit that names them was
         * only ever heard of. */
        if (g->commit > log_life_last(g)) g->commit = log_life_last(g);
        if (g->commit < g->compacted_index) g->commit = g->compacted_index;
    }
}

enum kv_err log_recover(struct log *l)
{
    struct log_walk w = {.disk = l->disk,
                         .store_id = l->o.store_id,
                         .context = l,
                         .segment = on_segment,
                         .batch = on_batch,
                         .record = on_record,
                         .problem = on_problem};
    assert(!l->started && l->segments.count == 0);
    enum kv_err err = log_walk(&w);
    enum kv_err taken = files_take(l, &w);
    if (err == KV_OK) err = taken;
    if (err == KV_OK && l->out_of_memory) err = KV_IO;
    l->sequence_next = w.sequence + 1;
    l->durable = w.sequence;
    l->checksum = w.checksum;
    log_walk_free(&w);
    if (err != KV_OK) return err;
    lives_check(l);
    return l->has_damage ? KV_CORRUPT : KV_OK;
}

/* Starting */

static enum kv_err read_exactly(struct log *l, struct disk_file f, uint64_t offset, uint8_t *into, size_t size)
{
    size_t got;
    enum kv_err err = l->disk->ops->read(l->disk, f, offset, into, size, &got);
    return err == KV_OK && got != size ? KV_IO : err;
}

/* An entry, hard state or group that was in the tail stands in the active segment now. */
static void repoint(struct log *l, const struct log_record *r, uint64_t old_segment, uint64_t old_offset,
                    uint64_t new_offset)
{
    struct log_life *g = log_life_get(l, r->group);
    struct log_segment *active = log_active(l), *old = log_segment_find(l, old_segment);
    if (g == NULL) return;
    if (r->kind == LOG_RECORD_GROUP) g->anchor_segment = active->id;
    if (r->kind != LOG_RECORD_ENTRY || r->index <= g->compacted_index || r->index > log_life_last(g)) return;
    struct log_slot *slot = log_life_slot(g, r->index);
    if (slot->segment != old_segment || slot->offset != old_offset) return; /* cut off and written anew */
    slot->segment = (uint32_t)active->id;
    slot->offset = (uint32_t)new_offset;
    old->live--;
    active->live++;
}

/* One batch, so that a crash in the middle leaves either all or none of it; it takes the
 * place of the tail in the sequence and overrules it (rule 3 of log_walk.c). */
static enum kv_err tail_copy(struct log *l, uint8_t *batch, size_t payload)
{
    struct log_segment *active = log_active(l);
    struct log_batch_header h = {.payload = (uint32_t)payload,
                                 .sequence = l->tail[0].sequence,
                                 .synced = l->tail[0].sequence - 1,
                                 .previous = l->tail[0].previous,
                                 .offset = LOG_PAGE_BYTES,
                                 .segment = active->id};
    size_t at = LOG_BATCH_HEADER_BYTES;
    for (size_t i = 0; i < l->tail_count; i++) {
        const struct log_batch_header *t = &l->tail[i];
        struct log_segment *s = log_segment_find(l, t->segment);
        enum kv_err err = read_exactly(l, s->file, t->offset + LOG_BATCH_HEADER_BYTES, batch + at, t->payload);
        if (err != KV_OK) return err;
        at += t->payload;
        h.records += t->records;
    }
    l->checksum = log_batch_seal(batch, &h, l->o.store_id);
    enum kv_err err = l->disk->ops->write(l->disk, active->file, LOG_PAGE_BYTES,
                                          kv_slice(batch, (size_t)log_align(at, LOG_PAGE_BYTES)));
    if (err == KV_OK) err = l->disk->ops->sync(l->disk, active->file);
    if (err != KV_OK) return err;
    active->used = LOG_PAGE_BYTES + at;
    l->durable = h.sequence;
    l->sequence_next = h.sequence + 1;
    at = LOG_BATCH_HEADER_BYTES;
    for (size_t i = 0; i < l->tail_count; i++) {
        struct kv_slice records = kv_slice(batch + at, l->tail[i].payload);
        for (size_t k = 0; k < records.size;) {
            struct log_record r;
            uint64_t hard_term;
            size_t from = k;
            if (log_record_get(records, &k, &r, &hard_term) != KV_OK) break; /* told by log_recover */
            repoint(l, &r, l->tail[i].segment, l->tail[i].offset + LOG_BATCH_HEADER_BYTES + from,
                    LOG_PAGE_BYTES + at + from);
        }
        at += records.size;
    }
    return KV_OK;
}

/* Cuts what was copied, and whatever follows the end of the log. Cut by shortening the
 * file: what is gone cannot be misread. */
static enum kv_err tail_cut(struct log *l)
{
    struct log_segment *active = log_active(l);
    for (size_t i = 0; i < l->tail_count; i++) {
        struct log_segment *s = log_segment_find(l, l->tail[i].segment);
        if (s->used > l->tail[i].offset) s->used = l->tail[i].offset;
    }
    /* A segment that held nothing but the tail goes as a whole. */
    while (l->segments.count > 1 && l->segments.at[l->segments.count - 2]->used <= LOG_PAGE_BYTES) {
        struct log_segment *s = l->segments.at[l->segments.count - 2];
        assert(s->live == 0);
        if (!log_segments_add(&l->dead, s)) return KV_IO;
        l->segments.count--;
        l->segments.at[l->segments.count - 1] = active;
    }
    if (l->segments.count < 2) return KV_OK;
    struct log_segment *end = l->segments.at[l->segments.count - 2];
    if (end->bytes <= end->used) return KV_OK;
    enum kv_err err = l->disk->ops->truncate(l->disk, end->file, end->used);
    if (err == KV_OK) err = l->disk->ops->sync(l->disk, end->file);
    if (err == KV_OK) end->bytes = end->used;
    return err;
}

enum kv_err log_start(struct log *l)
{
    assert(!l->started);
    uint64_t payload = 0, bytes = l->o.segment_bytes;
    if (MUTANT(tail_trusted)) l->tail_count = 0;
    for (size_t i = 0; i < l->tail_count; i++) payload += l->tail[i].payload;
    if (payload > UINT32_MAX / 2) return KV_TOO_BIG;
    uint64_t need = log_align(LOG_PAGE_BYTES + LOG_BATCH_HEADER_BYTES + payload, LOG_PAGE_BYTES);
    bytes = log_align(bytes < need ? need : bytes, LOG_PAGE_BYTES);
    enum kv_err err = log_segment_start(l, bytes);
    if (err == KV_OK && l->tail_count > 0) {
        uint8_t *batch = calloc(1, (size_t)log_align(LOG_BATCH_HEADER_BYTES + payload, LOG_PAGE_BYTES));
        err = batch == NULL ? KV_IO : tail_copy(l, batch, (size_t)payload);
        free(batch);
    }
    if (err == KV_OK && !MUTANT(tail_trusted)) err = tail_cut(l);
    if (err != KV_OK) return err;
    free(l->tail);
    l->tail = NULL;
    l->tail_count = l->tail_capacity = 0;
    l->started = true;
    return KV_OK;
}

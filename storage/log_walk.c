#include "storage/log_walk.h"
#include "client/base/endian.h"
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* The rules of R3 as they stand here:
 * (1) Batches follow each other without gaps in their sequence, each naming the checksum
 *     of the one before, through a segment and on into the next.
 * (2) Where that ends, any later whole batch that says "synced up to here or beyond" makes
 *     it corruption; without one it is a tail that was never acknowledged.
 * (3) A segment that begins with sequence s overrules batches from s on in the segments
 *     before it: a restart copied them there (log_start).
 * (4) A segment without any whole batch is a spare, or an unfinished claim. At the
 *     beginning of the log, with a header, it is damage. */

static void tell(struct log_walk *w, uint64_t segment, uint64_t offset, enum log_problem kind, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static void tell(struct log_walk *w, uint64_t segment, uint64_t offset, enum log_problem kind, const char *format, ...)
{
    struct log_damage d = {.offset = offset};
    va_list arguments;
    log_segment_name(segment, d.file);
    va_start(arguments, format);
    vsnprintf(d.what, sizeof d.what, format, arguments);
    va_end(arguments);
    w->problem(w->context, &d, kind);
}

static void file_found(void *context, const char *name, uint64_t size)
{
    struct log_walk *w = context;
    uint64_t id;
    if (!log_segment_name_parse(name, &id)) return;
    if (w->file_count == w->file_capacity) {
        size_t capacity = w->file_capacity * 2 + 16;
        struct log_walk_file *grown = realloc(w->files, capacity * sizeof *grown);
        if (grown == NULL) {
            w->out_of_memory = true;
            return;
        }
        w->files = grown;
        w->file_capacity = capacity;
    }
    w->files[w->file_count++] = (struct log_walk_file){.id = id, .bytes = size, .file = {.handle = -1}};
}

/* Reads [offset, offset+size) of the file into the buffer; short files give less. */
static enum kv_err load(struct log_walk *w, const struct log_walk_file *f, uint64_t offset, size_t size,
                        struct kv_slice *out)
{
    size_t got;
    if (size > w->buffer_bytes) {
        free(w->buffer);
        w->buffer = malloc(size);
        w->buffer_bytes = w->buffer == NULL ? 0 : size;
        if (w->buffer == NULL) return KV_IO;
    }
    enum kv_err err = w->disk->ops->read(w->disk, f->file, offset, w->buffer, size, &got);
    *out = kv_slice(w->buffer, got);
    return err;
}

static enum kv_err header_read(struct log_walk *w, struct log_walk_file *f)
{
    char name[LOG_NAME_BYTES];
    struct log_segment_header h;
    struct kv_slice bytes;
    log_segment_name(f->id, name);
    enum kv_err err = w->disk->ops->open(w->disk, name, false, &f->file);
    if (err == KV_OK) err = load(w, f, 0, LOG_SEGMENT_HEADER_BYTES, &bytes);
    if (err != KV_OK) return err;
    if (bytes.size < LOG_SEGMENT_HEADER_BYTES) return KV_OK;
    err = log_segment_header_get(bytes.data, &h);
    if (err == KV_VERSION) tell(w, f->id, 0, LOG_PROBLEM_DAMAGE, "written by a later version");
    if (err != KV_OK) return err == KV_CORRUPT ? KV_OK : err;
    if (w->store_id == 0) w->store_id = h.store_id;
    if (h.store_id != w->store_id) {
        tell(w, f->id, 0, LOG_PROBLEM_DAMAGE, "belongs to another data directory: store id %016" PRIx64 ", not %016" PRIx64,
             h.store_id, w->store_id);
        return KV_BAD_ARGUMENT;
    }
    f->has_header = true;
    f->is_dead = h.id != f->id; /* a crash came between its new header and its new name */
    return KV_OK;
}

/* The sequence number with which the file begins, if that batch is whole. */
static enum kv_err first_read(struct log_walk *w, struct log_walk_file *f)
{
    struct log_batch_header h;
    struct kv_slice bytes;
    enum kv_err err = load(w, f, LOG_PAGE_BYTES, LOG_BATCH_HEADER_BYTES, &bytes);
    if (err != KV_OK || bytes.size < LOG_BATCH_HEADER_BYTES) return err;
    uint64_t size = LOG_BATCH_HEADER_BYTES + (uint64_t)le32_get(bytes.data + 12);
    if (f->bytes < LOG_PAGE_BYTES || size > f->bytes - LOG_PAGE_BYTES) return KV_OK;
    err = load(w, f, LOG_PAGE_BYTES, (size_t)size, &bytes);
    if (err == KV_OK && log_batch_get(bytes, w->store_id, f->id, LOG_PAGE_BYTES, &h))
        f->first_sequence = h.sequence;
    return err;
}

static bool batch_at(const struct log_walk *w, const struct log_walk_file *f, struct kv_slice bytes,
                     uint64_t at, struct log_batch_header *out)
{
    if (at >= bytes.size) return false;
    return log_batch_get(kv_slice(bytes.data + at, bytes.size - (size_t)at), w->store_id, f->id, at, out);
}

/* The first whole batch from `at` on that proves `sequence` to have been synced. With 0,
 * nothing before being known, any batch will do. */
static bool proof_find(const struct log_walk *w, const struct log_walk_file *f, struct kv_slice bytes,
                       uint64_t at, uint64_t sequence, struct log_batch_header *out)
{
    for (at = log_align(at, LOG_ALIGN_BYTES); at + LOG_BATCH_HEADER_BYTES <= bytes.size; at += LOG_ALIGN_BYTES)
        if (batch_at(w, f, bytes, at, out) &&
            (sequence == 0 || (out->synced >= sequence && out->sequence > sequence)))
            return true;
    return false;
}

/* From which sequence on later segments overrule file `i` (3). */
static uint64_t limit_of(const struct log_walk *w, size_t i)
{
    uint64_t limit = UINT64_MAX;
    for (size_t k = i + 1; k < w->file_count; k++)
        if (!w->files[k].is_dead && w->files[k].first_sequence != 0 && w->files[k].first_sequence < limit)
            limit = w->files[k].first_sequence;
    return limit;
}

static void records_tell(struct log_walk *w, const struct log_walk_file *f, struct kv_slice bytes,
                         const struct log_batch_header *h)
{
    char name[LOG_NAME_BYTES];
    struct kv_slice payload = kv_slice(bytes.data + h->offset + LOG_BATCH_HEADER_BYTES, h->payload);
    size_t at = 0;
    uint32_t count = 0;
    log_segment_name(f->id, name);
    while (at < payload.size) {
        struct log_record r;
        uint64_t hard_term, offset = h->offset + LOG_BATCH_HEADER_BYTES + at;
        if (log_record_get(payload, &at, &r, &hard_term) != KV_OK) {
            tell(w, f->id, offset, LOG_PROBLEM_DAMAGE, "a record does not parse in a batch that is whole");
            return;
        }
        r.file = name;
        r.offset = offset;
        r.batch = h->sequence;
        const char *wrong = w->record(w->context, &r, hard_term, h);
        if (wrong != NULL) tell(w, f->id, offset, LOG_PROBLEM_DAMAGE, "group %" PRIu32 ": %s", r.group, wrong);
        count++;
    }
    if (count != h->records) tell(w, f->id, h->offset, LOG_PROBLEM_DAMAGE, "%u records, not %u", count, h->records);
}

struct position { /* what must come next */
    uint64_t sequence, previous;
    bool any; /* whatever comes: nothing before it is known */
};

static bool continues(const struct position *p, const struct log_batch_header *h)
{
    return p->any || (h->sequence == p->sequence && h->previous == p->previous);
}

enum found { FOUND_NEXT_FILE, FOUND_HERE, FOUND_TAIL };

static void damage_tell(struct log_walk *w, uint64_t segment, uint64_t at, uint64_t sequence,
                        const struct log_batch_header *proof)
{
    char name[LOG_NAME_BYTES];
    if (sequence == 0) sequence = proof->sequence - 1;
    if (sequence == 0) return; /* the log begins with `proof`: nothing is missing */
    log_segment_name(proof->segment, name);
    tell(w, segment, at, LOG_PROBLEM_DAMAGE,
         "batch %" PRIu64 " is damaged: batch %" PRIu64 " in %s at %" PRIu64 " proves it was synced", sequence,
         proof->sequence, name, proof->offset);
}

/* The chain ends at `at` of file `i`: with the segment, by damage, or for good. */
static enum found chain_ends(struct log_walk *w, size_t i, struct kv_slice bytes, uint64_t at,
                             const struct position *p, struct log_batch_header *resume, enum kv_err *err)
{
    const struct log_walk_file *f = &w->files[i];
    uint64_t sequence = p->any ? 0 : p->sequence, torn = 0;
    if (!p->any && limit_of(w, i) == p->sequence) return FOUND_NEXT_FILE; /* judged there */
    if (proof_find(w, f, bytes, at, sequence, resume)) {
        damage_tell(w, f->id, at, sequence, resume);
        return FOUND_HERE;
    }
    if (at + LOG_BATCH_HEADER_BYTES <= bytes.size) {
        const uint8_t *b = bytes.data + at; /* a batch of the file's own life, or zeros and old bytes? */
        if (le64_get(b + 48) == f->id && le64_get(b + 40) == at) torn = le64_get(b + 16);
    }
    for (size_t k = i + 1; k < w->file_count; k++) {
        const struct log_walk_file *later = &w->files[k];
        if (later->is_dead) continue;
        *err = load(w, later, 0, (size_t)later->bytes, &bytes); /* `bytes` of file i are gone */
        if (*err != KV_OK) return FOUND_TAIL;
        if (!proof_find(w, later, bytes, LOG_PAGE_BYTES, sequence, resume)) continue;
        damage_tell(w, f->id, at, sequence, resume);
        return FOUND_NEXT_FILE;
    }
    if (torn != 0) tell(w, f->id, at, LOG_PROBLEM_TAIL, "batch %" PRIu64 " is not whole", torn);
    return FOUND_TAIL;
}

/* Walks one file from its beginning; *ended: the log ends here. */
static enum kv_err file_walk(struct log_walk *w, size_t i, struct position *p, bool *ended)
{
    struct log_walk_file *f = &w->files[i];
    struct log_batch_header h;
    struct kv_slice bytes;
    uint64_t at = LOG_PAGE_BYTES, limit = limit_of(w, i);
    enum kv_err err = load(w, f, 0, (size_t)f->bytes, &bytes);
    if (err != KV_OK) return err;
    for (;;) {
        if (!batch_at(w, f, bytes, at, &h) || !continues(p, &h)) {
            enum found found = chain_ends(w, i, bytes, at, p, &h, &err);
            if (err != KV_OK) return err;
            *ended = found == FOUND_TAIL;
            if (found == FOUND_NEXT_FILE) p->any = limit != p->sequence || p->any;
            if (found != FOUND_HERE) return KV_OK;
            at = h.offset;
        }
        if (h.sequence >= limit) return KV_OK; /* overruled (3) */
        if (f->used == 0) w->segment(w->context, f);
        w->batch(w->context, &h);
        records_tell(w, f, bytes, &h);
        f->used = at + log_batch_bytes(&h);
        at = log_align(f->used, LOG_ALIGN_BYTES);
        w->sequence = h.sequence;
        w->checksum = h.checksum;
        *p = (struct position){.sequence = h.sequence + 1, .previous = h.checksum};
    }
}

/* Has the file any whole batch? Decides spare or damage where its first batch is none. */
static enum kv_err is_used(struct log_walk *w, const struct log_walk_file *f, bool *used)
{
    struct log_batch_header h;
    struct kv_slice bytes;
    *used = f->first_sequence != 0;
    if (*used) return KV_OK;
    enum kv_err err = load(w, f, 0, (size_t)f->bytes, &bytes);
    for (uint64_t at = LOG_PAGE_BYTES; err == KV_OK && !*used && at < bytes.size; at += LOG_ALIGN_BYTES)
        *used = batch_at(w, f, bytes, at, &h);
    return err;
}

/* Marks the files in which nothing counts: after this only segments of the log are left. */
static enum kv_err files_sort_out(struct log_walk *w)
{
    size_t last = 0; /* behind the last used file */
    enum kv_err err = KV_OK;
    for (size_t i = 0; i < w->file_count && err == KV_OK; i++) {
        struct log_walk_file *f = &w->files[i];
        if (!f->is_dead) err = first_read(w, f);
    }
    bool seen = false;
    for (size_t i = 0; i < w->file_count && err == KV_OK; i++) {
        struct log_walk_file *f = &w->files[i];
        bool used = false;
        if (!f->is_dead) err = is_used(w, f, &used);
        if (used) last = i + 1;
        if (used && !f->has_header) tell(w, f->id, 0, LOG_PROBLEM_HEADER, "the header is damaged; its batches are whole");
        seen = seen || used;
        if (!used && (seen || !f->has_header)) f->is_dead = true; /* spares in front wait for `last` */
    }
    for (size_t i = 0; i < w->file_count; i++)
        if (i >= last) w->files[i].is_dead = true;
    return err;
}

enum kv_err log_walk(struct log_walk *w)
{
    enum kv_err err = w->disk->ops->list(w->disk, file_found, w);
    if (err == KV_OK && w->out_of_memory) err = KV_IO;
    for (size_t i = 0; i < w->file_count && err == KV_OK; i++) err = header_read(w, &w->files[i]);
    if (err == KV_OK) err = files_sort_out(w);
    struct position p = {.any = true};
    bool ended = false;
    for (size_t i = 0; i < w->file_count && err == KV_OK; i++) {
        struct log_walk_file *f = &w->files[i];
        if (f->is_dead) continue;
        if (!ended) err = file_walk(w, i, &p, &ended);
        f->is_dead = f->used == 0;
    }
    free(w->buffer);
    w->buffer = NULL;
    w->buffer_bytes = 0;
    return err;
}

void log_walk_free(struct log_walk *w)
{
    free(w->files);
    free(w->buffer);
}

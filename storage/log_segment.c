#include "storage/log_private.h"
#include <assert.h>
#include <stdlib.h>

/* Segment files. Their life: created and zero-written, or recycled -> spare -> active
 * -> full -> dead -> recycled or removed.
 * (1) A file gets its header last, with everything before it synced: a file without a
 *     valid header and batches is an unfinished claim.
 * (2) Recycling writes the new id into the header first: from then on the old batches are
 *     dead, since the id is in their checksum and in the header.
 * (3) Dead segments go in the order of the log, each durably: what is left after a crash
 *     is always the end of the log without a gap.
 * (4) Every segment but the active one and the spares holds a batch.
 * (5) When appends outrun claiming, or the disk is full, records go into a segment that is only
 *     promised: its id and size are fixed, its file is not there yet, its batches wait. */
enum { ZEROS_BYTES = 64 << 10 };
static const uint8_t zeros[ZEROS_BYTES];

bool log_segments_reserve(struct log_segments *s, size_t more)
{
    if (s->count + more <= s->capacity) return true;
    size_t capacity = (s->count + more) * 2;
    struct log_segment **grown = realloc(s->at, capacity * sizeof *grown);
    if (grown == NULL) return false;
    s->at = grown;
    s->capacity = capacity;
    return true;
}

bool log_segments_add(struct log_segments *s, struct log_segment *segment)
{
    if (!log_segments_reserve(s, 1)) return false;
    s->at[s->count++] = segment;
    return true;
}

struct log_segment *log_segments_take_first(struct log_segments *s)
{
    assert(s->count > 0);
    struct log_segment *first = s->at[0];
    s->count--;
    memmove(s->at, s->at + 1, s->count * sizeof(struct log_segment *));
    return first;
}

struct log_segment *log_segment_find(const struct log *l, uint64_t id)
{
    size_t low = 0, high = l->segments.count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (l->segments.at[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < l->segments.count && l->segments.at[low]->id == id ? l->segments.at[low] : NULL;
}

void log_segment_free(struct log_segment *s)
{
    free(s);
}

static enum kv_err header_write(struct log_job *j)
{
    uint8_t page[LOG_PAGE_BYTES] = {0};
    log_segment_header_put(page, &(struct log_segment_header){j->store_id, j->id, j->bytes});
    enum kv_err err = j->disk->ops->write(j->disk, j->file, 0, kv_slice(page, sizeof page));
    if (err == KV_OK) err = j->disk->ops->sync(j->disk, j->file);
    return err;
}

static enum kv_err create_begin(struct log_job *j)
{
    char name[LOG_NAME_BYTES];
    uint64_t space;
    enum kv_err err = j->disk->ops->space(j->disk, &space);
    if (err == KV_OK && (space < j->bytes || space - j->bytes < j->reserve_bytes)) err = KV_NO_SPACE;
    if (err != KV_OK) return err;
    log_segment_name(j->id, name);
    return j->disk->ops->open(j->disk, name, true, &j->file);
}

/* A step of at most LOG_ZERO_BYTES, synced by itself: a sync of a whole segment would
 * hold up the log's own syncs on the same device. */
static enum kv_err create_step(struct log_job *j)
{
    enum kv_err err = j->file.handle < 0 ? create_begin(j) : KV_OK;
    uint64_t end = j->zeroed + LOG_ZERO_BYTES < j->bytes ? j->zeroed + LOG_ZERO_BYTES : j->bytes;
    while (err == KV_OK && j->zeroed < end) {
        size_t size = end - j->zeroed < ZEROS_BYTES ? (size_t)(end - j->zeroed) : ZEROS_BYTES;
        err = j->disk->ops->write(j->disk, j->file, j->zeroed, kv_slice(zeros, size));
        j->zeroed += size;
    }
    if (err == KV_OK) err = j->disk->ops->sync(j->disk, j->file);
    if (err != KV_OK || j->zeroed < j->bytes) return err;
    j->finished = true;
    err = header_write(j);
    return err == KV_OK ? j->disk->ops->sync_dir(j->disk) : err;
}

static enum kv_err recycle(struct log_job *j)
{
    char from[LOG_NAME_BYTES], to[LOG_NAME_BYTES];
    log_segment_name(j->old_id, from);
    log_segment_name(j->id, to);
    j->finished = true;
    enum kv_err err = header_write(j);
    if (err == KV_OK) err = j->disk->ops->rename(j->disk, from, to);
    return err == KV_OK ? j->disk->ops->sync_dir(j->disk) : err;
}

static enum kv_err discard(struct log_job *j, uint64_t id)
{
    char name[LOG_NAME_BYTES];
    log_segment_name(id, name);
    if (j->file.handle >= 0) j->disk->ops->close(j->disk, j->file);
    j->file.handle = -1;
    j->finished = true;
    enum kv_err err = j->disk->ops->remove(j->disk, name);
    if (err == KV_OK) err = j->disk->ops->sync_dir(j->disk);
    return err == KV_NOT_FOUND ? KV_OK : err;
}

static void job_run(struct disk_request *q)
{
    struct log_job *j = container_of(q, struct log_job, io);
    switch (j->kind) {
    case LOG_JOB_CREATE:
        j->err = create_step(j);
        if (j->err != KV_OK) discard(j, j->id); /* gives back what a full disk needs most */
        break;
    case LOG_JOB_RECYCLE:
        j->err = recycle(j);
        if (j->err != KV_OK) discard(j, j->old_id);
        break;
    case LOG_JOB_REMOVE: j->err = discard(j, j->old_id); break;
    }
}

static struct log_segment *segment_new(struct log *l, uint64_t bytes)
{
    struct log_segment *s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    s->id = l->segment_next++;
    s->bytes = bytes;
    s->file.handle = -1;
    return s;
}

/* Takes over what is needed of `dead`. `s`: what it becomes, or what is created; NULL: nothing. */
static void job_begin(struct log *l, struct log_segment *s, struct log_segment *dead)
{
    struct log_job *j = &l->job;
    j->kind = s == NULL ? LOG_JOB_REMOVE : dead == NULL ? LOG_JOB_CREATE : LOG_JOB_RECYCLE;
    j->segment = s;
    j->disk = l->disk;
    j->store_id = l->o.store_id;
    j->reserve_bytes = l->started ? l->o.reserve_bytes : 0; /* a start on a full disk may use all there is */
    j->file.handle = -1;
    j->zeroed = 0;
    j->finished = false;
    j->err = KV_OK;
    if (dead != NULL) {
        j->old_id = dead->id;
        j->file = dead->file;
        if (s != NULL) s->bytes = dead->bytes;
        log_segment_free(dead);
    }
    if (s != NULL) {
        j->id = s->id;
        j->bytes = s->bytes;
    }
}

static void job_done(struct disk_request *q, enum kv_err err)
{
    struct log_job *j = container_of(q, struct log_job, io);
    struct log *l = container_of(j, struct log, job);
    if (err == KV_OK && j->err == KV_OK && !j->finished) {
        l->disk->ops->work(l->disk, q);
        return;
    }
    if (err == KV_OK) err = j->err;
    struct log_segment *s = j->segment;
    bool was_promised = j->promised;
    j->busy = j->promised = false;
    j->segment = NULL;
    if (err == KV_OK && s != NULL) {
        s->file = j->file;
        s->ready = true;
        l->full = false;
        if (!was_promised && !log_segments_add(&l->spares, s)) err = KV_IO;
    } else if (!was_promised) {
        log_segment_free(s);
    }
    if (err == KV_NO_SPACE) { /* nothing is at risk: only claiming failed (R15) */
        l->full = true;
        l->flushes_since_full = 0;
    } else if (err != KV_OK) {
        log_poison(l, err);
    }
    log_segments_tend(l);
    if (was_promised && err == KV_OK) log_batches_kick(l, false);
}

static uint64_t claim_bytes(const struct log *l)
{
    const struct log_segment *last = l->spares.count > 0 ? l->spares.at[l->spares.count - 1] : log_active(l);
    uint64_t bytes = l->full ? l->o.segment_bytes : 2 * last->bytes; /* short of space: any will do */
    return bytes > l->o.segment_bytes_max ? l->o.segment_bytes_max : bytes;
}

struct log_segment *log_segment_next(struct log *l, uint64_t bytes)
{
    bool can_adopt = l->job.busy && l->job.segment != NULL && !l->job.promised;
    if (!log_segments_reserve(&l->segments, 1)) return NULL;
    struct log_segment *s;
    if (l->spares.count > 0) {
        s = log_segments_take_first(&l->spares);
    } else if (can_adopt) {
        s = l->job.segment; /* its id is the next one */
        l->job.promised = true;
    } else {
        uint64_t claim = claim_bytes(l);
        s = segment_new(l, log_align(bytes > claim ? bytes : claim, LOG_PAGE_BYTES));
        if (s == NULL) return NULL;
    }
    log_segments_add(&l->segments, s);
    log_segments_tend(l);
    return s;
}

static struct log_segment *first_promised(const struct log *l)
{
    size_t i = l->segments.count;
    while (i > 0 && !l->segments.at[i - 1]->ready) i--;
    return i < l->segments.count ? l->segments.at[i] : NULL;
}

/* Chooses what the next job makes, and of what. */
static bool job_choose(struct log *l, struct log_segment **s, struct log_segment **dead)
{
    bool may_create = !l->full || l->flushes_since_full >= LOG_CLAIM_RETRY_FLUSHES;
    size_t spares_max = l->dead.count > 0 ? 2 * (size_t)l->o.reserve_segments : l->o.reserve_segments;
    uint64_t bytes = claim_bytes(l);
    *s = first_promised(l);
    *dead = l->dead.count > 0 ? l->dead.at[0] : NULL;
    if (*s != NULL) {
        l->job.promised = true;
        if (*dead != NULL && (*dead)->bytes >= (*s)->bytes) return true;
        if (may_create) {
            *dead = NULL;
            return true;
        }
        l->job.promised = false;
        *s = NULL; /* a dead one too small: its removal gives space */
        return *dead != NULL;
    }
    if (*dead != NULL && ((*dead)->bytes < bytes || l->spares.count >= spares_max)) return true; /* of no use */
    if (l->spares.count >= spares_max || (*dead == NULL && !may_create)) return false;
    *s = segment_new(l, bytes);
    return *s != NULL;
}

void log_segments_tend(struct log *l)
{
    struct log_segment *s, *dead;
    if (l->job.busy || l->poisoned || !l->started || !job_choose(l, &s, &dead)) return;
    if (dead != NULL) log_segments_take_first(&l->dead);
    if (s != NULL && dead == NULL) l->flushes_since_full = 0;
    job_begin(l, s, dead);
    l->job.busy = true;
    l->job.io.run = job_run;
    l->job.io.done = job_done;
    l->disk->ops->work(l->disk, &l->job.io);
}

static enum kv_err job_now(struct log *l, struct log_segment *s, struct log_segment *dead)
{
    job_begin(l, s, dead);
    do job_run(&l->job.io);
    while (l->job.err == KV_OK && !l->job.finished);
    l->job.segment = NULL;
    if (s == NULL) return l->job.err;
    s->file = l->job.file;
    s->ready = l->job.err == KV_OK;
    return l->job.err;
}

/* The first that will do becomes the active segment, the next ones spares. What is of no use
 * goes before the first batch is written, which keeps (4). */
enum kv_err log_segment_start(struct log *l, uint64_t bytes)
{
    struct log_segments *to = &l->segments;
    enum kv_err err = KV_OK;
    while (err == KV_OK && (l->dead.count > 0 || to == &l->segments)) {
        struct log_segment *dead = l->dead.count > 0 ? log_segments_take_first(&l->dead) : NULL;
        bool of_use = dead == NULL || (dead->bytes >= bytes && l->spares.count < l->o.reserve_segments);
        struct log_segment *s = of_use ? segment_new(l, bytes) : NULL;
        if (of_use && s == NULL) err = KV_IO;
        if (err == KV_OK) err = job_now(l, s, dead);
        if (s == NULL) continue;
        if (err == KV_OK && !log_segments_add(to, s)) err = KV_IO;
        if (err != KV_OK)
            log_segment_free(s);
        else
            to = &l->spares;
    }
    return err;
}

#ifndef STORAGE_LOG_PRIVATE_H
#define STORAGE_LOG_PRIVATE_H
#include "client/base/map.h"
#include "client/base/mutant.h"
#include "storage/log_format.h"

/* What storage/log*.c share:
 *   log.c          create, destroy, small queries, append and flush of batches
 *   log_group.c    begin and end of lives, questions about groups
 *   log_format.c   bytes
 *   log_index.c    lives of groups: entry slots and runs, in memory
 *   log_cache.c    images of what was written lately
 *   log_segment.c  files: claim ahead, recycle, remove
 *   log_release.c  what is no longer needed; appending again what pins old segments
 *   log_walk.c     the files in order, and what is wrong with them
 *   log_recover.c  reading it all back, starting anew behind it
 *   log_fetch.c    entries read back from segments
 *   log_scan.c     offline */
enum {
    LOG_BATCHES_MAX = 128,    /* written, waiting and open */
    LOG_SYNC_SAMPLES = 16,    /* R5 */
    LOG_ZERO_BYTES = 1 << 20, /* zero-written per step */
    LOG_CHUNK_BYTES = 256 << 10,
    LOG_CLAIM_RETRY_FLUSHES = 64,
    LOG_INLINE_BYTES_MAX = 64 << 10 /* a larger batch means that the loop has more to do than wait for it */
};
#define LOG_INLINE_SYNC_NS_MAX UINT64_C(1000000) /* R5 */

struct log_slot { /* one entry: where its record stands */
    uint32_t segment, offset;
    uint32_t size; /* of the entry's bytes */
    uint32_t flags;
};

struct log_life { /* one group */
    uint32_t group, replica;
    uint64_t term, commit;
    uint32_t vote;
    uint64_t compacted_index, compacted_term;
    struct log_slot *slots; /* entries compacted_index+1 ..; slots[slot_head] is the first */
    size_t slot_head, slot_count, slot_capacity;
    struct log_run *runs;
    uint32_t run_head, run_count, run_capacity;
    /* Where the latest GROUP record stands, and the compaction point known from there on. */
    uint64_t anchor_segment, anchor_compacted, anchor_term;
    uint64_t version; /* rises with every change of its entries */
    bool anchored;    /* recovery: a GROUP record was seen */
    bool damaged;
};

struct log_segment {
    uint64_t id, bytes, used; /* bytes: of the file; used: end of the last batch */
    uint64_t live;            /* needed entries in it */
    uint64_t free_after;      /* 0, or recyclable once this batch is durable */
    struct disk_file file;    /* when ready */
    bool ready;               /* false: promised; its batches wait until it is claimed */
};
struct log_segments {
    struct log_segment **at;
    size_t count, capacity;
};

struct log_chunk { /* an image of segment[offset .. offset+size) */
    uint64_t segment, sequence; /* sequence: of the last batch in it */
    uint32_t offset, size, capacity;
    uint8_t *data;
};

struct log_batch {
    uint64_t sequence;
    struct log_segment *segment;
    struct log_chunk *chunk;
    uint32_t offset, size, records; /* offset: in the segment; size with header */
    struct log_append *first, **last; /* done when this batch is durable */
};

enum log_job_kind { LOG_JOB_CREATE, LOG_JOB_RECYCLE, LOG_JOB_REMOVE };
struct log_job { /* one at a time on the checkpoint thread, which owns all from `disk` on then */
    struct disk_request io;
    bool busy, promised; /* promised: the segment is in l->segments already */
    enum log_job_kind kind;
    struct log_segment *segment; /* what comes of it; NULL for REMOVE */
    struct disk *disk;
    uint64_t store_id, reserve_bytes;
    uint64_t id, old_id, bytes, zeroed;
    struct disk_file file;
    bool finished;
    enum kv_err err;
};

struct log {
    struct log_options o;
    struct disk *disk;

    struct log_life **lives; /* ascending by group */
    size_t life_count, life_capacity;
    struct kv_map by_group;

    struct log_segments segments; /* in order; the last one is active */
    struct log_segments spares;   /* claimed, in order */
    struct log_segments dead;     /* waiting to be recycled or removed, in order */
    uint64_t segment_next;        /* id */
    struct log_job job;
    bool full; /* the last claim found no space */
    uint32_t flushes_since_full;

    struct log_chunk **chunks; /* in log order */
    size_t chunk_count, chunk_capacity;
    uint64_t chunk_bytes;
    uint64_t dropped; /* chunks so far */

    struct log_batch batches[LOG_BATCHES_MAX]; /* a ring */
    uint32_t batch_head, batch_count;
    bool open;         /* the last batch still takes records */
    bool in_flight;    /* the first batch is being written */
    bool flush_wanted; /* the open batch goes as soon as it can */
    bool unflushed;    /* something was put since the last flush */
    struct log_append *idle, **idle_last; /* appends that wait for nothing */
    uint64_t sequence_next, durable;    /* next batch to begin; last durable one */
    uint64_t checksum;                  /* of the last sealed batch */
    uint64_t bytes_undurable;
    struct disk_request io;
    struct kv_slice parts[2];
    uint64_t sync_ns[LOG_SYNC_SAMPLES];
    uint64_t sync_count;

    uint32_t *destroyed; /* groups whose DESTROY record had no room yet */
    size_t destroyed_count;

    struct log_fetch rebase; /* reads a pinning group's entries to append them again */
    uint64_t rebase_version; /* of the life when the read began */
    bool rebasing;
    uint64_t live_bytes; /* of all needed entries */
    bool poisoned, has_damage, started, out_of_memory;
    enum kv_err poison_err;
    struct log_damage damage;
    struct log_batch_header *tail; /* recovery: batches not proven synced */
    size_t tail_count, tail_capacity;
};

/* log_index.c */
struct log_life *log_life_get(const struct log *l, uint32_t group);
struct log_life *log_life_add(struct log *l, uint32_t group); /* NULL: out of memory */
void log_life_remove(struct log *l, struct log_life *g);
bool log_life_reserve(struct log_life *g, size_t more); /* room for `more` slots and runs */
void log_life_push(struct log *l, struct log_life *g, const struct log_slot *slot, uint64_t term);
void log_life_truncate(struct log *l, struct log_life *g, uint64_t from);
void log_life_compact(struct log *l, struct log_life *g, uint64_t index);
void log_life_reset(struct log *l, struct log_life *g, uint64_t index, uint64_t term);
/* What a RESET record means. A committed entry of `term` proves that the term has begun: a hard
 * state of before would contradict the log, should the node die before its next one is written. */
void log_life_rebase(struct log *l, struct log_life *g, uint64_t index, uint64_t term);
uint64_t log_life_term(const struct log_life *g, uint64_t index); /* 0: not there */
static inline uint64_t log_life_last(const struct log_life *g)
{
    return g->compacted_index + g->slot_count;
}
static inline struct log_slot *log_life_slot(const struct log_life *g, uint64_t index)
{
    return &g->slots[g->slot_head + (size_t)(index - g->compacted_index - 1)];
}

/* log_segment.c */
bool log_segments_reserve(struct log_segments *s, size_t more); /* false: out of memory */
bool log_segments_add(struct log_segments *s, struct log_segment *segment);
struct log_segment *log_segments_take_first(struct log_segments *s);
struct log_segment *log_segment_find(const struct log *l, uint64_t id); /* among l->segments */
static inline struct log_segment *log_active(const struct log *l)
{
    return l->segments.count == 0 ? NULL : l->segments.at[l->segments.count - 1];
}
/* The segment behind the active one, ready or promised, of at least `bytes` if promised;
 * it is active then. NULL: out of memory. */
struct log_segment *log_segment_next(struct log *l, uint64_t bytes);
/* Blocking: makes the next active segment for log_start, of at least `bytes`. */
enum kv_err log_segment_start(struct log *l, uint64_t bytes);
void log_segments_tend(struct log *l); /* starts the next job if one is due */
void log_segment_free(struct log_segment *s);

/* log_cache.c */
uint8_t *log_cache_room(struct log *l, struct log_batch *open, size_t size); /* behind the open batch */
struct log_chunk *log_cache_begin(struct log *l, struct log_segment *s, uint32_t offset, size_t size);
const struct log_chunk *log_cache_find(const struct log *l, const struct log_slot *slot); /* holds the entry; NULL: none */
static inline const uint8_t *log_chunk_get(const struct log_chunk *c, const struct log_slot *slot) /* its bytes; NULL: not in it */
{
    if (c == NULL || c->segment != slot->segment || slot->offset < c->offset) return NULL;
    uint32_t at = slot->offset - c->offset;
    return at < c->size ? c->data + at + LOG_RECORD_HEADER_BYTES : NULL;
}
void log_cache_evict(struct log *l);
void log_cache_free(struct log *l);

/* log.c */
struct log_batch *log_batch_last(struct log *l);
/* KV_OK: `bytes` of records may be put; KV_BUSY, KV_NO_SPACE: too much waits already. */
enum kv_err log_room(const struct log *l, size_t bytes);
/* Writes what waits for nothing but the disk; after a segment became ready. */
void log_batches_kick(struct log *l, bool inline_ok);
/* Appends one record, room for which was checked; false: out of memory, poisoned. */
bool log_put(struct log *l, const struct log_record *r, uint64_t hard_term, struct log_slot *slot);
bool log_put_anchor(struct log *l, struct log_life *g, uint8_t flags);
/* What is put next, up to `size` bytes, stands in one batch; room was checked in one piece. */
bool log_put_together(struct log *l, size_t size);
void log_poison(struct log *l, enum kv_err err);

/* log_group.c */
void log_destroys_put(struct log *l); /* those that had no room */

/* log_release.c */
void log_recycle(struct log *l);
#endif

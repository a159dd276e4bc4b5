#ifndef STORAGE_LOG_H
#define STORAGE_LOG_H
#include "client/base/buf.h"
#include "storage/disk.h"

/* The shared segmented append log of one worker: entries, hard states, truncations
 * and lives of all its groups, in one sequence of batches. One write and one
 * fdatasync per loop turn for all groups. Formats stand in storage/README.md, rules R3, R4, R8, R15.
 *
 * The log knows groups by {group, replica}: log_group_create() begins a life; all
 * records of an earlier life of that group are dead. Entry bytes are copied in by
 * log_append(), kept in memory for a while, and read back by log_cached() or,
 * when no longer in memory, log_fetch().
 *
 * Limits: log_options. Not thread-safe; belongs to its worker's loop. */
struct log;

enum {
    LOG_ENTRY_BYTES_MAX = 16 << 20,
    LOG_SEGMENT_BYTES_MIN = 4 << 20, /* first segments; they double up to LOG_SEGMENT_BYTES_MAX */
    LOG_SEGMENT_BYTES_MAX = 64 << 20,
    LOG_ENTRY_CONF = 1 /* entry flag: changes the raft configuration (R18) */
};

struct log_options {
    struct disk *disk;
    uint64_t store_id;                                /* random, of this data directory; inside every checksum (R4) */
    uint64_t segment_bytes;                           /* of the first segments; 0 = LOG_SEGMENT_BYTES_MIN */
    uint64_t segment_bytes_max;                       /* 0 = LOG_SEGMENT_BYTES_MAX */
    uint64_t cache_bytes_max;                         /* entry bytes kept in memory; 0 = 16 MiB. Undurable entries are kept beyond it */
    uint64_t append_bytes_max;                        /* not yet durable; beyond it log_append refuses; 0 = 256 MiB */
    uint32_t reserve_segments;                        /* zero-written ahead; 0 = 2 (R15) */
    uint64_t reserve_bytes;                           /* of the device, left free by claiming: for checkpoints (R15); 0 = none */
    void (*poisoned)(void *context, enum kv_err err); /* a write or sync failed: final (R15) */
    void *context;
};

struct log_entry {
    uint64_t term;
    uint8_t flags;
    struct kv_slice bytes;
};

struct log_append {                                      /* embed it; entries are copied at once, the struct stays yours until done */
    void (*done)(struct log_append *a, enum kv_err err); /* durable, or KV_POISONED */
    uint32_t group;
    bool hard_changed; /* term, vote, commit below are new; a commit alone rides on the first entry (R8) */
    uint64_t term, commit;
    uint32_t vote;
    uint64_t truncate_from; /* drop entries >= this first; 0 = keep */
    uint64_t first;         /* index of entries[0] */
    const struct log_entry *entries;
    uint32_t entry_count;
    struct log_append *next; /* private */
};

struct log_fetch {                                      /* an asynchronous read of entries no longer cached */
    void (*done)(struct log_fetch *f, enum kv_err err); /* KV_NOT_FOUND: compacted meanwhile; KV_CORRUPT */
    uint32_t group;
    uint64_t first;
    size_t bytes_max;
    /* out: owned by the fetch, freed by log_fetch_free() */
    struct log_entry *entries;
    uint32_t entry_count;
    void *memory;
    struct disk_request io;
};

struct log_run { /* as raft_run: count consecutive entries of one term */
    uint64_t term;
    uint32_t count;
    bool is_conf;
};
struct log_group { /* what recovery found, or what stands now */
    uint32_t group, replica;
    uint64_t term, commit; /* hard state */
    uint32_t vote;
    uint64_t compacted_index, compacted_term; /* entries <= this are gone */
    uint64_t last;
    const struct log_run *runs; /* entries compacted_index+1 .. last; valid until the next append */
    uint32_t run_count;
    bool damaged; /* not proven intact: neither votes nor serves (R4) */
};

struct log_damage { /* where and what, for people and for kvlog */
    char file[64];
    uint64_t offset;
    char what[160];
};

enum kv_err log_create(const struct log_options *o, struct log **out);
/* Reads all segments; blocking: call inside work() or before the loop runs. KV_CORRUPT: see
 * log_damage(); the groups that may have a record in the damage are marked, all others are well, and log_start() may follow.
 * KV_VERSION: newer format; KV_BAD_ARGUMENT: the files are of another store id; KV_IO. */
enum kv_err log_recover(struct log *l);
const struct log_damage *log_damage(const struct log *l); /* NULL: none */
/* Starts segments ahead, cleans the tail as R3 says. Blocking, as log_recover. */
enum kv_err log_start(struct log *l);
void log_destroy(struct log *l);

/* Groups. Created and destroyed by records in the log, durable with the next append's sync. */
enum kv_err log_group_create(struct log *l, uint32_t group, uint32_t replica,
                             uint64_t compacted_index, uint64_t compacted_term);
bool log_takes(const struct log *l, size_t bytes); /* records of that size would not be refused now */
void log_group_destroy(struct log *l, uint32_t group);
/* Its rows turned out not to be intact: from now on it is damaged, as if the log were (R4). An error
 * means only that a restart may have to find out again. */
enum kv_err log_group_damage(struct log *l, uint32_t group);
bool log_group_get(const struct log *l, uint32_t group, struct log_group *out);
bool log_group_next(const struct log *l, uint32_t *cursor, uint32_t *group); /* ascending; *cursor from 0 */

/* Queues for this turn; log_flush() at the end of the turn writes and syncs everything
 * queued as one batch. Entries are readable at once. An error takes nothing: KV_BUSY, append_bytes_max
 * are not yet durable; KV_NO_SPACE, the same, and they wait for space (R15: on a full disk
 * appends beyond what was claimed wait, unacknowledged, until there is some; refuse users'
 * writes while log_is_full(), or log_is_busy()); KV_POISONED; KV_NOT_FOUND, no such group;
 * KV_CORRUPT, a damaged one; KV_TOO_BIG. */
enum kv_err log_append(struct log *l, struct log_append *a);
/* `inline_ok`: fdatasync may run on the loop if R5 allows it now. */
void log_flush(struct log *l, bool inline_ok);
bool log_has_queued(const struct log *l); /* something was put since the last log_flush() */

uint64_t log_first(const struct log *l, uint32_t group); /* compacted_index + 1 */
uint64_t log_last(const struct log *l, uint32_t group);
uint64_t log_term(const struct log *l, uint32_t group, uint64_t index); /* 0: not there */
/* Up to `count_max` entries from `first`, at least one, more only while within `bytes_max`.
 * Bytes are owned by the log and valid until the next call that is not a query; those of committed entries as long as
 * log_dropped() stays the same.
 * KV_NOT_FOUND: compacted or beyond the end; KV_BUSY: not in memory, use log_fetch(). */
enum kv_err log_cached(const struct log *l, uint32_t group, uint64_t first, uint32_t count_max,
                       size_t bytes_max, struct log_entry *out, uint32_t *out_count);
uint64_t log_dropped(const struct log *l); /* how many pieces of memory with entries were given back */
void log_fetch(struct log *l, struct log_fetch *f);
void log_fetch_free(struct log_fetch *f);

/* Entries <= index are in a committed checkpoint and wanted by nobody. Segments whose
 * entries are all released are recycled; live hard states in them are appended again
 * first (R8), as are the few unreleased entries of slow groups when they pin more
 * than half of log_bytes(). */
void log_release(struct log *l, uint32_t group, uint64_t index);
/* A snapshot replaces the log: all entries are gone, the log goes on behind `index`. A hard
 * state of an earlier term than `term` becomes {term, no vote} with it. */
enum kv_err log_reset(struct log *l, uint32_t group, uint64_t index, uint64_t term, struct log_append *a);
/* Segments that hold needed entries, oldest first, their ids above *segment (0: from the beginning). False: no more. */
bool log_live_next(const struct log *l, uint64_t *segment);
/* Up to where the group would have to be released for that segment to be rid of it; 0: it has no needed entry there. */
uint64_t log_index_in(const struct log *l, uint32_t group, uint64_t segment);
uint64_t log_bytes(const struct log *l);      /* of all segments on disk */
uint64_t log_bytes_live(const struct log *l); /* in segments that hold needed entries */
uint64_t log_bytes_undurable(const struct log *l);
bool log_is_poisoned(const struct log *l);
bool log_is_full(const struct log *l);           /* no segment can be claimed now: refuse users' writes */
bool log_is_busy(const struct log *l);           /* a quarter of append_bytes_max waits: refuse them with KV_BUSY */
uint64_t log_bytes_claimed(const struct log *l); /* on disk and still empty: what an append finds at once */
uint64_t log_syncs(const struct log *l);         /* done since log_create() */
uint64_t log_sync_ns_max(const struct log *l);   /* slowest of the last 16 syncs */

/* Offline: every record of a segment file, for kvlog and the tests. */
enum log_record_kind { LOG_RECORD_ENTRY = 1,
                       LOG_RECORD_HARD,
                       LOG_RECORD_TRUNCATE,
                       LOG_RECORD_GROUP,
                       LOG_RECORD_RESET,
                       LOG_RECORD_DESTROY };
enum {                       /* flags of LOG_RECORD_GROUP */
       LOG_GROUP_BEGINS = 1, /* a new life: whatever was before is dead */
       LOG_GROUP_REBASE = 2, /* all its entries follow again in the same batch */
       LOG_GROUP_DAMAGED = 4 /* not proven intact: stays so until a new life begins (R4) */
};
struct log_record {
    enum log_record_kind kind;
    const char *file;
    uint64_t offset, batch;
    uint32_t group, replica;
    uint64_t index, term, commit;
    uint32_t vote;
    uint16_t behind; /* of an entry: how far the commit was behind it, which `commit` then is; 0: that is not said */
    uint8_t flags;
    struct kv_slice bytes;
};
enum kv_err log_scan(struct disk *d, void (*each)(void *context, const struct log_record *r),
                     void (*problem)(void *context, const struct log_damage *d, bool is_tail), void *context);
#endif

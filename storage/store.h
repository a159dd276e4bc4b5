#ifndef STORAGE_STORE_H
#define STORAGE_STORE_H
#include "storage/checkpoint.h"
#include "storage/disk.h"
#include "storage/log.h"

/* One store per worker: a log shared by all its groups, one memtable and one
 * checkpoint keyed by encoded key, so that splits and merges rewrite nothing.
 * Not thread-safe; belongs to its worker's loop. Path of a write:
 *
 *   store_append -> (durable, raft commits) -> store_apply -> memtable
 *   -> frozen memtable -> one sorted checkpoint transaction off the loop
 *
 * Rows found anywhere shadow the same row further right: memtable, frozen
 * memtable, checkpoint. Deletions are rows too until they reach the checkpoint. */
struct store;

struct store_options {
    struct disk *disk;
    struct checkpoint *checkpoint;     /* owned by the caller, outlives the store */
    uint64_t (*now_ns)(void *context); /* env time, for the rate of checkpoints and sync times */
    void (*poisoned)(void *context, enum kv_err err);
    void *context;
    uint64_t memtable_bytes_max;   /* active and frozen together; 0 = 64 MiB; a checkpoint starts at half */
    uint64_t checkpoint_bytes_log; /* also when this much log is live; 0 = 128 MiB */
    uint64_t dedup_retention_ms;   /* of groups whose descriptor does not say; 0 = keep */
    bool is_original;              /* of a directory that is made now: the cluster begins with it */
    uint64_t reserve_bytes;        /* claimed of the device; users' writes end when it had to be given back; 0 = 64 MiB (R15) */
    struct log_options log;        /* disk, poisoned and context are filled in by the store */
};

/* Recovery. Blocking; call inside work() or before the loop runs. Reads the identity
 * file (created with `store_id_seed` when the directory is empty), the checkpoint's
 * marks, the log. KV_VERSION: a newer format; KV_CONFLICT: another node's directory;
 * KV_CORRUPT: identity or checkpoint. After an error *out, if not NULL, is good only
 * for store_damage() and store_close(). Damage in the log alone is no error: the groups it
 * may have hurt have log.damaged set, and store_damage() says where. */
enum kv_err store_open(const struct store_options *o, uint64_t store_id_seed, uint32_t node_id,
                       struct store **out);
uint64_t store_id(const struct store *s);
/* What a descriptor calls the directory that holds a replica: STORE_ORIGINAL if it was made when the cluster began, else
 * its id; another each time damage is found in it, since it may then have forgotten replicas that it held. A directory
 * remembers each replica that it was given under its birthmark, so one it does not know was never here (R4). */
uint64_t store_birthmark(const struct store *s);
bool store_is_fresh(const struct store *s);      /* the directory was empty */
const char *store_damage(const struct store *s); /* text for people, NULL: intact */
/* Drains the disk; requests under way are forgotten without done. Before the checkpoint is
 * destroyed (or crashed) and before the disk is. */
void store_close(struct store *s);
bool store_is_idle(const struct store *s); /* nothing is under way, everything appended is durable */

/* Groups: what recovery found and what was made since. */
struct store_group {
    struct log_group log; /* hard state, runs, compaction point */
    uint64_t applied, applied_term, clock_ms;
    uint64_t checkpointed;          /* index of the last committed mark: entries above it are needed */
    uint64_t owed_index, owed_term; /* INSTALLING: the snapshot that its rows and log were given up for */
    struct kv_slice descriptor;     /* as of `applied`; valid until the next store_describe */
    uint32_t replica;
    enum checkpoint_group_state state;
    bool unborn;       /* see store_group_birth(); counts as damaged until then */
    uint32_t absorbed; /* TOMBSTONE: the range epoch of who owns its rows; 0: it did not end by a merge */
};
/* Tombstoned groups are found (state TOMBSTONE, `replica` the highest that was here, no
 * descriptor, no log), groups still being created are not. */
bool store_group_get(const struct store *s, uint32_t group, struct store_group *out);
bool store_group_next(const struct store *s, uint32_t *cursor, uint32_t *group); /* ascending; without tombstones */
/* Begins a life: refused (KV_CONFLICT) if this or a later replica of the group was here
 * (R4), KV_BUSY while an earlier one still is; else as log_append(). The group exists when
 * done(KV_OK), which comes after a checkpoint. The descriptor is that of index 0; or, `owed_index` not 0, that of the
 * snapshot which is to be installed: until then it is INSTALLING, also after a restart, as applying the log from its
 * beginning under a later descriptor would not give the same rows. `a` may carry a hard state; its entries must be none. */
enum kv_err store_group_create(struct store *s, uint32_t group, uint32_t replica, struct kv_slice descriptor,
                               uint64_t owed_index, uint64_t owed_term, struct log_append *a);
/* A group comes to life by an entry of another one, as part of applying that: its rows are those which stand in its
 * range already. Exists at once; no disk is waited for. It becomes durable as rows do, with the checkpoint that holds the
 * parent's entry, or by applying that again: a life that the log then knows already goes on (unborn until then).
 * All replicas begin alike behind an index of its own, so that one can be sent to who was not there.
 * KV_CONFLICT: this or a later replica is or was here (R4), nothing happens. Other errors poison. */
enum { STORE_BIRTH_INDEX = 1,
       STORE_BIRTH_TERM = 1 };
enum kv_err store_group_birth(struct store *s, uint32_t group, uint32_t replica, struct kv_slice descriptor,
                              uint64_t clock_ms);
bool store_has_room(const struct store *s, uint32_t groups); /* for so many births; else apply the entry later */
/* One group takes over another that lives here, as part of applying an entry of its own which also describes it anew
 * (store_describe): `right` is a tombstone from now on, its rows stay. Both become durable with one checkpoint, then the log
 * of `right` goes. `range_epoch`: of the new owner. Errors poison. */
enum kv_err store_group_absorb(struct store *s, uint32_t right, uint32_t range_epoch);
/* The partition does not exist any more, says a node that knows (R9). Forgotten by a restart. */
void store_group_gone(struct store *s, uint32_t group);
/* A group other than `except` that has rows in the range by its descriptor, and may not be evicted by who owns the range
 * as of `range_epoch` (R9); UINT32_MAX: none. Evicted may be who is of a lower range epoch and wholly inside, or gone. */
uint32_t store_overlap(const struct store *s, struct kv_range range, uint32_t range_epoch, uint32_t except);
/* Ends those groups and deletes all their rows, durably with the next checkpoint. */
void store_evict(struct store *s, struct kv_range range, uint32_t range_epoch, uint32_t except);
/* Tombstones the replica durably and deletes the rows of `range`, with the next checkpoint;
 * done on the loop. The rows are gone at once. KV_NOT_FOUND: no such group. */
struct store_destroy {
    void (*done)(struct store_destroy *d, enum kv_err err);
    uint32_t group;
    struct kv_range range;
    struct disk_request io;
};
void store_group_destroy(struct store *s, struct store_destroy *d);
/* A row of the group was found rotten (R21): the group is damaged from now on, durably with the next
 * flush, and may only be destroyed. What is there stays for kvlog salvage. */
void store_group_damage(struct store *s, uint32_t group, const char *why);

/* The log; see log.h. Appends of many groups share one write and one fdatasync:
 * call store_flush() once at the end of each turn. */
enum kv_err store_append(struct store *s, struct log_append *a);
void store_flush(struct store *s, bool inline_ok);
struct log *store_log(struct store *s); /* for queries, log_cached() and log_fetch() */
/* Nobody else needs the group's entries <= index. The store releases them from the log as
 * far as they are in a committed checkpoint, now and after each later one. */
void store_release(struct store *s, uint32_t group, uint64_t index);

/* The state. Rows of one applied entry become visible together and in memory;
 * the log makes them durable. `index` = applied + 1. */
enum store_op_kind { STORE_PUT,
                     STORE_DELETE,
                     STORE_DELETE_RANGE };
struct store_op {
    enum store_op_kind kind;
    struct store_row row;  /* PUT, DELETE */
    struct kv_range range; /* DELETE_RANGE: rows of row.class */
};
/* memtable_hint() for the table that the next store_apply() writes. */
uint32_t store_hint(const struct store *s, enum store_class class, struct kv_slice key, struct kv_slice sub);
void store_hint_row(const struct store *s, uint32_t hint);
void store_hint_next(const struct store *s, uint32_t hint);
void store_apply(struct store *s, uint32_t group, uint64_t index, uint64_t term, uint64_t clock_ms,
                 const struct store_op *ops, uint32_t op_count);
void store_describe(struct store *s, uint32_t group, struct kv_slice descriptor); /* part of the entry being applied */
/* The row as of now. The slice is valid until the next store_apply or callback on the loop.
 * KV_NOT_FOUND; KV_CORRUPT, KV_IO: the checkpoint is damaged, and the store poisoned. */
enum kv_err store_get(struct store *s, enum store_class class, struct kv_slice key,
                      struct kv_slice sub, struct kv_slice *value);

/* A scan sees one instant (R6): memtables are copied within the budget on the loop, the
 * checkpoint's part is read in work(), and the merge is done before `done`. */
struct store_scan {
    void (*done)(struct store_scan *s, enum kv_err err);
    enum store_class class;
    struct kv_range range; /* borrowed until done */
    uint32_t rows_max;     /* budgets: stops after either; at least one row */
    size_t bytes_max;
    bool keys_only; /* values are returned without their payload: VALUE_HEADER_BYTES at most */
    /* out, owned by the scan until store_scan_free() */
    struct store_row *rows;
    uint32_t row_count;
    bool more; /* the range may hold rows behind the last one */
    void *memory;
    struct disk_request io;
};
void store_scan(struct store *s, struct store_scan *scan);
void store_scan_free(struct store_scan *scan);

/* Checkpoints start by themselves from store_flush(); this asks for one at
 * the next flush. `w` and its done may be NULL. */
struct store_wait {
    void (*done)(struct store_wait *w, enum kv_err err);
    struct store_wait *next;
};
void store_checkpoint(struct store *s, struct store_wait *w); /* waits for one that covers all applied now */
/* 0: none; beyond 100 the caller must refuse new writes with KV_BUSY. */
uint32_t store_pressure(const struct store *s);
bool store_is_full(const struct store *s); /* the disk is: refuse writes with KV_NO_SPACE (R15) */

/* Snapshots of one group (R11). Export copies under one view into a sealed file whose index, and range, are those of
 * that view's mark; chunks of it are then read and sent. */
struct store_snapshot {
    uint64_t index, term, clock_ms; /* the mark */
    struct kv_slice descriptor;     /* owned by the snapshot */
    uint64_t bytes;
    uint64_t checksum; /* XXH3-64 of the whole file */
    char file[64];
};
struct store_export {
    void (*done)(struct store_export *e, enum kv_err err); /* KV_NOT_FOUND: nothing applied yet, or no such group */
    uint32_t group;
    struct store_snapshot out; /* descriptor freed, file removed by store_export_free() */
    struct disk_request io;
    void *impl;
};
void store_export(struct store *s, struct store_export *e);
void store_export_free(struct store *s, struct store_export *e);
struct store_chunk { /* reads or writes a piece of a snapshot file, off the loop */
    void (*done)(struct store_chunk *c, enum kv_err err);
    char file[64];
    uint64_t offset;
    uint8_t *bytes; /* the caller's */
    size_t size, got;
    struct disk_request io;
    void *impl;
};
/* Snapshot files end in ".snap" (else KV_BAD_ARGUMENT) and live as long as the process: store_open
 * removes them. Exports take names that begin with "export-". */
void store_chunk_read(struct store *s, struct store_chunk *c);
void store_chunk_write(struct store *s, struct store_chunk *c); /* creates the file at offset 0 */
void store_file_remove(struct store *s, const char *file);      /* behind what is under way */
/* Installs a received file: checks it whole first (KV_CORRUPT), marks the group
 * `installing`, replaces the rows of `range`, sets the mark; the log is reset behind
 * the snapshot's index, term and vote are kept. A crash in between is found by
 * store_open (state INSTALLING, rows wiped) and the install begins anew.
 * The group must exist (KV_NOT_FOUND), and neither apply nor append from the call to done.
 * KV_BUSY: an install is under way, or out of memory; KV_CONFLICT: the snapshot is not ahead of
 * what is applied; KV_NO_SPACE: try again later. After an error the group is as it was if
 * its state is still LIVE, else it has no rows and waits for another install. */
struct store_install {
    void (*done)(struct store_install *i, enum kv_err err);
    uint32_t group;
    struct kv_range range;          /* borrowed until done */
    bool keep_rows;                 /* the snapshot has the same: only mark and log move on. A merge counts on what is here (R9) */
    uint32_t range_epoch;           /* of the snapshot: who is in its way is evicted with the mark, in one step (R9) */
    struct store_snapshot snapshot; /* what the sender said; index, term, bytes, checksum, file are looked at */
    struct disk_request io;
    void *impl;
};
void store_install(struct store *s, struct store_install *i);

/* A hash of the group's rows (data and locks) as they are at this call: right after an entry was applied,
 * every whole replica has the same. */
struct store_hash {
    void (*done)(struct store_hash *h, enum kv_err err); /* KV_BUSY: try again; KV_CORRUPT: a row is rotten */
    uint32_t group;
    struct kv_range range;      /* borrowed until done */
    uint64_t index, hash, rows; /* out */
};
/* An error is told at once, and done not called. KV_BUSY: a checkpoint is under way. */
enum kv_err store_hash(struct store *s, struct store_hash *h);

/* About how large ranges are, in order and disjoint, as of the last checkpoint; off the loop. The caller's memory until done, or
 * until store_close(). KV_CORRUPT, KV_IO: not known. */
struct store_sizes {
    void (*done)(struct store_sizes *x, enum kv_err err);
    struct checkpoint_size *of;
    uint32_t count;
    struct checkpoint *checkpoint; /* private, as are the rest */
    enum kv_err err;
    struct disk_request io;
};
void store_sizes(struct store *s, struct store_sizes *x);

struct store_stats {
    uint64_t memtable_bytes, frozen_bytes, checkpoint_bytes, log_bytes, checkpoints, checkpoint_ns_last;
    uint64_t appends, syncs, append_bytes, rows_folded;
};
void store_stats(const struct store *s, struct store_stats *out);
#endif

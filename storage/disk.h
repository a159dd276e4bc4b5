#ifndef STORAGE_DISK_H
#define STORAGE_DISK_H
#include "client/base/err.h"
#include "client/base/slice.h"

/* The one way to the disk. Three implementations: disk_uv.c (real files and two
 * threads), disk_mem.c (files in memory with every fault, for tests and the
 * simulator), and whatever a test wraps around them.
 *
 * A disk is one directory, flat; names are at most 63 bytes without '/'.
 *
 * Two kinds of calls (R5):
 *  - blocking ones, legal only inside work(), or before the owner's loop runs;
 *  - append() and work(), asynchronous, called on the owner's loop.
 */
struct disk;
struct disk_file {
    int32_t handle; /* < 0: none */
};

struct disk_request { /* embed it; buffers stay borrowed until done */
    void (*done)(struct disk_request *q, enum kv_err err); /* on the owner's loop */
    void (*run)(struct disk_request *q); /* work() only: on the checkpoint thread */
    struct disk_request *next;           /* private, as are the rest */
    struct disk_file file;
    uint64_t offset;
    const struct kv_slice *parts;
    uint32_t part_count;
    bool sync;
    enum kv_err err;
    uint64_t ns; /* out: how long the write and sync of an append took */
};

/* Errors: KV_NOT_FOUND (no such file), KV_IO (the device failed), KV_NO_SPACE, KV_CLOSED
 * (the machine "crashed": tests only), KV_DENIED (permissions), KV_BUSY (locked by another process). */
struct disk_ops {
    /* Blocking. open creates if asked; remove and rename replace silently; sync_dir makes
     * creations, renames and removals durable. read stores how much it got: less than
     * `size` only at the end of the file. sync is fdatasync. */
    enum kv_err (*open)(struct disk *d, const char *name, bool create, struct disk_file *out);
    enum kv_err (*close)(struct disk *d, struct disk_file f);
    enum kv_err (*size)(struct disk *d, struct disk_file f, uint64_t *bytes);
    enum kv_err (*read)(struct disk *d, struct disk_file f, uint64_t offset, uint8_t *into, size_t size, size_t *got);
    enum kv_err (*write)(struct disk *d, struct disk_file f, uint64_t offset, struct kv_slice bytes);
    enum kv_err (*sync)(struct disk *d, struct disk_file f);
    enum kv_err (*truncate)(struct disk *d, struct disk_file f, uint64_t size);
    enum kv_err (*rename)(struct disk *d, const char *from, const char *to);
    enum kv_err (*remove)(struct disk *d, const char *name);
    enum kv_err (*sync_dir)(struct disk *d);
    /* Calls `each` for every file, in byte order of the names. */
    enum kv_err (*list)(struct disk *d, void (*each)(void *context, const char *name, uint64_t size), void *context);
    enum kv_err (*space)(struct disk *d, uint64_t *free_bytes);
    /* Keeps `bytes` of the device that neither we nor anybody else can use until a smaller claim
     * gives them back; in place of the claim before, also one of an earlier process. KV_NO_SPACE:
     * nothing is claimed now. */
    enum kv_err (*claim)(struct disk *d, uint64_t bytes);

    /* Writes `parts` at q->offset of q->file, then fdatasyncs if q->sync: on the log
     * thread, in the order given. A failed write or sync is final for that file. */
    void (*append)(struct disk *d, struct disk_request *q);
    /* The same at once, blocking the loop: only where R5 allows it. */
    enum kv_err (*append_now)(struct disk *d, struct disk_request *q);
    /* Runs q->run on the checkpoint thread, one at a time in order, then done(KV_OK). */
    void (*work)(struct disk *d, struct disk_request *q);
    /* Blocking: waits for the append and the work that run, forgets all that wait; their
     * done is never called. Before the memory behind them is freed. */
    void (*drain)(struct disk *d);
};
struct disk {
    const struct disk_ops *ops;
};

/* Blocking: the file holds these bytes, durably, or what it held before. `temporary` is written first, and may be left behind. */
enum kv_err disk_replace(struct disk *d, const char *name, const char *temporary, struct kv_slice bytes);
#endif

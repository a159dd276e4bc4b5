#ifndef STORAGE_DISK_MEM_H
#define STORAGE_DISK_MEM_H
#include "storage/disk.h"

/* A directory in memory with every fault a real one has, for tests and the
 * simulator. All its chance comes from a seed: same calls, same outcome.
 *
 * What is written but not synced is known page by page (4 KiB). A power loss keeps,
 * drops or tears (by 512 B sectors) each such page on its own; file sizes and names
 * changed since the last sync or sync_dir survive or not, names in the order of the
 * changes. A kill (of the process) loses nothing written, only what waits.
 *
 * Asynchronous requests take effect when they are completed: disk_mem_step() takes the
 * oldest; or a `schedule` hook is told of each request and its owner calls
 * disk_mem_complete() at a moment and in an order of its choosing. Appends must be
 * completed in the order given among themselves, and work among itself (disk.h says so);
 * the two kinds may overtake one another. */
struct disk_mem;
enum disk_mem_kind { DISK_MEM_APPEND, DISK_MEM_WORK };
enum disk_mem_crash { DISK_MEM_KILL, DISK_MEM_POWER_LOSS };

struct disk_mem_options {
    uint64_t seed;
    uint64_t capacity;    /* bytes of all files; 0 = no limit */
    uint64_t sync_ns;     /* what an append says it took, unless the hook sets q->ns */
    /* Called once for each append and work; NULL: they wait for disk_mem_step(). */
    void (*schedule)(void *context, struct disk_request *q, enum disk_mem_kind kind);
    void *context;
};

/* Faults count operations from the moment they are set; 0 = never. A crash happens in
 * the middle of the operation: a write may be half there, a sync half done. Operations
 * are writes, truncations, syncs, creations, renames, removals and directory syncs. */
struct disk_mem_faults {
    uint64_t crash_at;       /* this operation, 1 = the next: power loss, then KV_CLOSED */
    uint64_t fail_write_at;  /* this write gives KV_IO and leaves any part of itself */
    uint64_t fail_sync_at;   /* this sync gives KV_IO; its pages are clean but lost (as Linux does) */
    uint64_t misdirect_append_at; /* this append lands on other pages of its file, and says KV_OK */
    bool lies;               /* syncs say KV_OK and do nothing: what a broken device does */
};

struct disk_mem *disk_mem_create(const struct disk_mem_options *o); /* NULL: out of memory */
void disk_mem_destroy(struct disk_mem *d);
struct disk *disk_mem_disk(struct disk_mem *d);

void disk_mem_faults_set(struct disk_mem *d, const struct disk_mem_faults *f);
void disk_mem_capacity_set(struct disk_mem *d, uint64_t bytes);
void disk_mem_sync_ns_set(struct disk_mem *d, uint64_t ns);
/* Everything written reaches the medium after all: a device that lied writes its cache out. */
void disk_mem_settle(struct disk_mem *d);
uint64_t disk_mem_bytes(const struct disk_mem *d); /* of all files */
/* Appends completed since one was misdirected; 0: none was. */
uint64_t disk_mem_since_misdirected(const struct disk_mem *d);
uint64_t disk_mem_operations(const struct disk_mem *d); /* so far, as the faults count them */

/* Requests that wait, oldest first. complete runs and finishes one of them: write, sync
 * or run, then done. After a crash they are done with KV_CLOSED. */
bool disk_mem_step(struct disk_mem *d); /* false: none waits */
void disk_mem_complete(struct disk_mem *d, struct disk_request *q);
uint32_t disk_mem_pending(const struct disk_mem *d);

/* The machine stops: every call gives KV_CLOSED until restart. Waiting appends may be
 * written in part; all that waits is forgotten (done is never called). Handles die. */
void disk_mem_crash(struct disk_mem *d, enum disk_mem_crash kind);
bool disk_mem_is_crashed(const struct disk_mem *d);
void disk_mem_restart(struct disk_mem *d);

/* Bit rot: flips `mask` in one byte, in memory and on the medium. False: no such byte. */
bool disk_mem_flip(struct disk_mem *d, const char *name, uint64_t offset, uint8_t mask);
/* A hash of everything durable and everything written, to compare two runs. */
uint64_t disk_mem_digest(const struct disk_mem *d);
#endif

#ifndef STORAGE_SNAPSHOT_FILE_H
#define STORAGE_SNAPSHOT_FILE_H
#include "client/base/buf.h"
#include "storage/checkpoint.h"
#include "storage/disk.h"

/* Snapshot files: one group's rows and mark, sealed. Layout in storage/README.md. All
 * calls block: on the checkpoint thread only. */
struct snapshot_writer {
    struct disk *disk;
    struct disk_file file;
    uint64_t offset, rows;
    void *hash; /* of the whole file so far */
    struct kv_buf block;
    uint32_t block_rows;
};
enum kv_err snapshot_begin(struct snapshot_writer *w, struct disk *d, const char *name,
                           const struct checkpoint_mark *mark, struct kv_range range);
/* Rows come in order of (class, key, sub). */
enum kv_err snapshot_put(struct snapshot_writer *w, const struct store_row *row);
enum kv_err snapshot_seal(struct snapshot_writer *w, uint64_t *bytes, uint64_t *checksum);
void snapshot_close(struct snapshot_writer *w); /* idempotent; frees, whether sealed or not */

struct snapshot_reader {
    struct disk *disk;
    struct disk_file file;
    uint64_t offset, rows;
    void *hash;
    struct kv_buf header, block;
    struct kv_slice rest; /* of the block */
    struct checkpoint_mark mark; /* descriptor in `header`, as is the range */
    struct kv_range range;
    struct store_row last;   /* of the block: to check the order */
    struct kv_buf last_copy; /* of the block before */
};
/* KV_NOT_FOUND, KV_VERSION, KV_CORRUPT, KV_IO, KV_BUSY. */
enum kv_err snapshot_open(struct snapshot_reader *r, struct disk *d, const char *name);
/* The next row, valid until the next call. KV_NOT_FOUND: the sealed end. KV_CORRUPT: anything that
 * a writer would not have written: sums, order, keys outside the range, damaged values. */
enum kv_err snapshot_next(struct snapshot_reader *r, struct store_row *row);
/* At the end: size and checksum of the whole file. */
void snapshot_totals(const struct snapshot_reader *r, uint64_t *bytes, uint64_t *checksum);
void snapshot_finish(struct snapshot_reader *r); /* idempotent */
#endif

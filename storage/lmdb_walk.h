#ifndef STORAGE_LMDB_WALK_H
#define STORAGE_LMDB_WALK_H
#include "client/base/err.h"
#include "client/base/slice.h"

/* Reads an LMDB data file page by page without LMDB, which believes every page it meets and
 * crashes, or answers wrongly, on one that is damaged. Here every length, order, bound and page
 * number is checked before it is used (R21). The file must not change meanwhile, or be looked at
 * by its owner's thread between two commits.
 *
 * The format is that of LMDB 0.9 on 64-bit little-endian machines, data version 1. */
struct lmdb_damage {
    const char *database; /* "" for the file as a whole */
    uint64_t page, offset;
    const char *what;
    /* Keys that were beneath it, `from` <= key < `to`; empty: from the first, to the last. */
    bool has_range;
    struct kv_slice from, to;
};
struct lmdb_walk {
    void *context;
    /* Every row that can be read, in order; `page` is where it stands. NULL: none wanted. Not KV_OK
     * ends the walk. In a database with duplicates each one is a row. */
    enum kv_err (*row)(void *context, const char *database, struct kv_slice key, struct kv_slice value, uint64_t page);
    /* Every whole page of a tree; NULL: not told. Its least key may be empty in an inner one. */
    void (*page)(void *context, const char *database, uint64_t page, bool is_leaf, uint32_t entries, struct kv_slice first);
    void (*damage)(void *context, const struct lmdb_damage *d); /* the walk goes on behind it */
    uint64_t pages_max; /* a larger file: only its inner pages are read, no rows; 0 = all of it */
    /* out */
    bool inner_only; /* pages_max was too small */
    uint64_t page_bytes, pages, rows, damages;
};
/* KV_CORRUPT: damage was told; KV_NOT_FOUND: no file; KV_VERSION: another format; KV_IO; KV_BUSY:
 * memory; or what row() returned. */
enum kv_err lmdb_walk(const char *path, struct lmdb_walk *w);
#endif

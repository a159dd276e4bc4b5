#ifndef STORAGE_LMDB_CHECK_H
#define STORAGE_LMDB_CHECK_H
#include "client/base/key.h"
#include "storage/checkpoint.h"
#include "storage/lmdb_walk.h"

/* The walk with judgement: marks carry a checksum, and the caller may know one in rows. Damage to
 * pages or marks concerns the whole file; a row only the group it belongs to. */
enum { LMDB_ROTTEN_MAX = 64 };
struct lmdb_check {
    struct kv_key rotten[LMDB_ROTTEN_MAX]; /* encoded keys of rows of STORE_DATA that are not intact */
    uint32_t rotten_count;
    uint64_t damages;
    bool inner_only; /* larger than pages_max: rows were not read */
    char why[200];   /* the first thing wrong: file, offset, page, what; "" if nothing is */
};
/* KV_OK, also with rotten rows; KV_CORRUPT: pages, marks, or more rotten rows than are counted;
 * else as lmdb_walk(). */
enum kv_err lmdb_check(const char *path, uint64_t pages_max,
                       bool (*is_intact)(enum store_class class, struct kv_slice key, struct kv_slice value),
                       struct lmdb_check *out);
/* What is wrong, as a line: `state/data.mdb: offset 8192: page 2 of data: ..`. */
void lmdb_damage_text(const struct lmdb_damage *d, char *out, size_t size);
#endif

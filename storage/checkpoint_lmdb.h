#ifndef STORAGE_CHECKPOINT_LMDB_H
#define STORAGE_CHECKPOINT_LMDB_H
#include "storage/checkpoint.h"

struct checkpoint_lmdb_options {
    const char *directory;
    uint64_t map_bytes; /* address space claimed; 0 = 1 TiB, which costs nothing */
    /* Whether a row is what was written, from what stands in it; NULL: any is. */
    bool (*is_intact)(enum store_class class, struct kv_slice key, struct kv_slice value);
};
/* The checkpoint in one LMDB environment: `DIRECTORY/state/` (data.mdb, lock.mdb), flags
 * MDB_NOTLS | MDB_NORDAHEAD | MDB_NOMEMINIT, synced at commit. KV_CORRUPT,
 * KV_VERSION, KV_IO, KV_NO_SPACE.
 * The file is walked first, so that LMDB meets no damaged page (R21): KV_CORRUPT says in `why`
 * (may be NULL) what is wrong where. A few rows that are not intact do not fail it: see
 * checkpoint_ops.rotten. */
enum kv_err checkpoint_lmdb_create(const struct checkpoint_lmdb_options *o, struct checkpoint **out, char *why,
                                   size_t why_size);
/* A byte written here (and synced) makes the next start read everything: for the handler of a
 * crash, which may have happened inside LMDB. Open as long as the checkpoint. */
int checkpoint_lmdb_suspect_fd(const struct checkpoint *c);
/* Renames a damaged `state` to `state.damaged`, in place of an earlier one, for kvlog salvage; the
 * next create begins with an empty one, and every replica of this node is rebuilt. */
enum kv_err checkpoint_lmdb_set_aside(const char *directory);
#endif

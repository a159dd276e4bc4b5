#ifndef STORAGE_LMDB_SIZE_H
#define STORAGE_LMDB_SIZE_H
#include "storage/checkpoint.h"

/* About how many bytes of rows the ranges hold, disjoint and in order, of one database of an LMDB file, read without LMDB,
 * which does not tell where in its tree a cursor stands. Inner pages are read from the root down until there are
 * LMDB_SIZE_PAGES of them on a level, at most; what lies beneath each then counts alike, and LMDB_SIZE_LEAVES leaves, taken evenly from the
 * range, say how much is in one, values in pages of their own included. So files of up to a thousand leaves or so are counted exactly, and of
 * larger ones a range of 100 leaves and more is off by the unevenness of its leaves over 8 times, some per cent.
 *
 * As lmdb_walk(): the file must not change meanwhile. KV_OK; KV_NOT_FOUND: no file, no such database; KV_CORRUPT; KV_IO; KV_BUSY: memory. */
enum { LMDB_SIZE_PAGES = 256,
       LMDB_SIZE_LEAVES = 64,
       LMDB_SIZE_READS = 4096 /* of leaves for all ranges; each gets two */ };
enum kv_err lmdb_size(const char *path, const char *database, struct checkpoint_size *of, uint32_t count);
#endif

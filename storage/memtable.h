#ifndef STORAGE_MEMTABLE_H
#define STORAGE_MEMTABLE_H
#include "storage/checkpoint.h"

/* The newest rows since the last checkpoint, by (class, key, sub): a hash index for points, and a
 * B+tree for order that is made when first asked for, because most tables only ever see points
 * and one checkpoint. A deleted row stays as a row that says so, and a
 * deleted range as a mark beneath the rows, because both must shadow what lies further
 * down. All memory comes from one arena of anonymous mappings and goes back to the
 * system at once with memtable_destroy(), or serves again after memtable_reset().
 *
 * One writer; after memtable_freeze() any number of readers on any thread. */
struct memtable;

enum memtable_found {
    MEMTABLE_NOTHING, /* look further down */
    MEMTABLE_VALUE,
    MEMTABLE_DELETED
};

/* Sized for about `bytes_expected` of rows; more only makes it slower. NULL: no memory. */
struct memtable *memtable_create(size_t bytes_expected);
void memtable_destroy(struct memtable *t); /* NULL is fine */
void memtable_reset(struct memtable *t, size_t bytes_kept); /* as created; keeps so much of its memory */
void memtable_freeze(struct memtable *t);  /* never written again */
void memtable_thaw(struct memtable *t);    /* no other thread reads it any more */
/* Where the table before was read in order, this one keeps its order with every row, so that
 * the first seek has not to make up for all of them. */
void memtable_succeed(struct memtable *t, const struct memtable *before);

/* All three: false if there is no memory; then the table is as it was before, except that
 * memtable_delete_range() may have deleted rows. Bytes are copied; they may not
 * be those of a row of this table. */
bool memtable_put(struct memtable *t, const struct store_row *row);
bool memtable_delete(struct memtable *t, const struct store_row *row); /* the value is ignored */
bool memtable_delete_range(struct memtable *t, enum store_class class, struct kv_range range);

/* `value` is valid until that row is written or the table destroyed. */
enum memtable_found memtable_get(const struct memtable *t, enum store_class class,
                                 struct kv_slice key, struct kv_slice sub, struct kv_slice *value);

/* Fetches what memtable_get() or memtable_put() of this key will touch into the processor's cache:
 * first the place in the index, once that has come the row, and then the one behind it, if the first is
 * another key's. Several keys at a time, or each would wait for memory alone. */
uint32_t memtable_hint(const struct memtable *t, enum store_class class, struct kv_slice key, struct kv_slice sub);
void memtable_hint_row(const struct memtable *t, uint32_t hint);
void memtable_hint_next(const struct memtable *t, uint32_t hint);

/* Rows of one class in order of (key, sub), deleted ones included. Any write makes a
 * cursor invalid. Slices are valid as long as those of memtable_get(). The writer's thread alone
 * may seek, also in a frozen table. False: no memory for the tree. */
struct memtable_cursor {
    const void *leaf;
    uint32_t slot;
};
bool memtable_seek(struct memtable *t, enum store_class class, struct kv_slice from,
                   struct memtable_cursor *out);
bool memtable_next(struct memtable_cursor *i, struct store_row *row, bool *deleted);

/* All rows of a class of a frozen table in that order, for a reader on any thread. NULL: no memory. */
struct memtable_sorted;
struct memtable_sorted *memtable_sorted_create(const struct memtable *t, enum store_class class);
bool memtable_sorted_next(struct memtable_sorted *s, struct store_row *row, bool *deleted);
void memtable_sorted_destroy(struct memtable_sorted *s); /* NULL is fine */

/* The deleted ranges of a class, disjoint and in order. Rows of the table inside them are newer. */
const struct kv_range *memtable_ranges(const struct memtable *t, enum store_class class,
                                       uint32_t *count);
bool memtable_range_has(const struct memtable *t, enum store_class class, struct kv_slice key);

size_t memtable_bytes(const struct memtable *t); /* held by rows, values and the tree */
size_t memtable_bytes_mapped(const struct memtable *t); /* held from the system; NULL: none */
uint64_t memtable_rows(const struct memtable *t, enum store_class class);
bool memtable_is_empty(const struct memtable *t); /* neither rows nor ranges */
#endif

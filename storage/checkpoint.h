#ifndef STORAGE_CHECKPOINT_H
#define STORAGE_CHECKPOINT_H
#include "client/base/err.h"
#include "client/base/key.h"
#include "client/base/slice.h"

/* The durable base state of one worker: the rows of three classes and one mark
 * per group, as of one instant. Two implementations under one conformance test:
 * checkpoint_lmdb.c, and checkpoint_mem.c (sorted rows in memory, the model).
 *
 * Classes are separate LMDB databases keyed by exactly the encoded key, so that a
 * range is the same interval in all (R10). STORE_DEDUP holds several rows per
 * key (MDB_DUPSORT), told apart by `sub`, 24 bytes; the other classes have an
 * empty `sub`. */
enum store_class { STORE_DATA,
                   STORE_LOCKS,
                   STORE_DEDUP,
                   STORE_CLASSES };
enum { STORE_SUB_BYTES = 24,
       STORE_DEDUP_VALUE_BYTES_MAX = 8 + 400 };

struct store_row {
    enum store_class class;
    struct kv_slice key, sub, value;
};

enum checkpoint_group_state {
    CHECKPOINT_GROUP_LIVE,       /* the mark is the truth as of its index */
    CHECKPOINT_GROUP_INSTALLING, /* a snapshot was being installed: wipe its range and begin again (R11) */
    CHECKPOINT_GROUP_TOMBSTONE   /* replicas up to `replica` must never come back (R4) */
};
#define CHECKPOINT_NO_GROUP UINT32_MAX /* a tombstone of it is in each state from the first start on: one without any mark was lost */
struct checkpoint_mark {               /* R8 */
    uint32_t group, replica;
    enum checkpoint_group_state state;
    uint64_t index, term;
    uint64_t clock_ms;          /* group clock: highest applied stamp (R14) */
    struct kv_slice descriptor; /* opaque here; configuration and range are in it */
};

struct checkpoint_size { /* ranges in order, and disjoint */
    struct kv_range range;
    uint64_t bytes;       /* of keys and values, about */
    struct kv_key middle; /* inside of the range, about half of the bytes before it; size 0: none */
};

struct checkpoint;
struct checkpoint_view;   /* a consistent read view */
struct checkpoint_cursor; /* a position in a view */

struct checkpoint_ops {
    /* One write transaction at a time; inside disk work() only. begin .. commit are
     * all durable or none. Rows are cheapest in key order. delete_range and
     * wipe affect all rows of the range, of one class or of all.
     * Errors: KV_NO_SPACE and KV_TOO_BIG (map full) leave the old state and may be
     * retried; KV_IO poisons; KV_CORRUPT: the environment is damaged (R21). */
    enum kv_err (*begin)(struct checkpoint *c);
    enum kv_err (*put)(struct checkpoint *c, const struct store_row *row);
    enum kv_err (*del)(struct checkpoint *c, const struct store_row *row); /* absent is fine */
    enum kv_err (*delete_range)(struct checkpoint *c, enum store_class class, struct kv_range range);
    enum kv_err (*mark)(struct checkpoint *c, const struct checkpoint_mark *mark);
    enum kv_err (*commit)(struct checkpoint *c);
    void (*abort)(struct checkpoint *c); /* idempotent */

    /* Views: opened, renewed and closed on the loop; used for point reads on the loop
     * or handed to one work() at a time for cursors. Returned slices are valid until
     * the view is renewed or closed. Renewing moves a view to the last commit. */
    enum kv_err (*view_open)(struct checkpoint *c, struct checkpoint_view **out);
    enum kv_err (*view_renew)(struct checkpoint_view *v);
    void (*view_close)(struct checkpoint_view *v);
    enum kv_err (*get)(struct checkpoint_view *v, enum store_class class, struct kv_slice key,
                       struct kv_slice sub, struct kv_slice *value); /* KV_NOT_FOUND */
    enum kv_err (*seek)(struct checkpoint_view *v, enum store_class class, struct kv_slice from,
                        struct checkpoint_cursor **out);                     /* first row at or after `from` */
    enum kv_err (*next)(struct checkpoint_cursor *i, struct store_row *row); /* KV_NOT_FOUND: the end */
    void (*close)(struct checkpoint_cursor *i);
    enum kv_err (*marks)(struct checkpoint_view *v, void (*each)(void *context, const struct checkpoint_mark *m),
                         void *context);

    /* Walks every page and row; no transaction is open. KV_CORRUPT: `why` says what is wrong where. */
    enum kv_err (*verify)(struct checkpoint *c, char *why, size_t why_size);
    /* Keys of STORE_DATA whose values were found rotten when it was opened: their groups are not
     * intact (R21). */
    void (*rotten)(const struct checkpoint *c, void (*each)(void *context, struct kv_slice key, const char *where),
                   void *context);
    uint64_t (*bytes)(const struct checkpoint *c); /* on disk */
    /* About how large ranges of STORE_DATA are, as of the last commit; inside disk work(). KV_CORRUPT, KV_IO: it could not be read,
     * which says nothing about rows. */
    enum kv_err (*sizes)(struct checkpoint *c, struct checkpoint_size *of, uint32_t count);
    /* Gives back memory that past transactions left behind for reuse. On the loop, with neither
     * view nor transaction open. After an error only destroy() is legal. */
    enum kv_err (*trim)(struct checkpoint *c);
    void (*destroy)(struct checkpoint *c);
};
struct checkpoint {
    const struct checkpoint_ops *ops;
};
#endif

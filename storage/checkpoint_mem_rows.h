#ifndef STORAGE_CHECKPOINT_MEM_ROWS_H
#define STORAGE_CHECKPOINT_MEM_ROWS_H
#include "storage/checkpoint.h"

/* The rows of one class in a version of the checkpoint in memory: in order of (key, sub), in leaves
 * that versions share until one of them writes. So a transaction costs what it touches and not what
 * there is: the simulator commits thousands of small ones beside tens of thousands of rows. */
struct mem_row {
    uint32_t references;
    uint32_t key_size, sub_size, value_size;
    uint8_t bytes[];
};
struct mem_leaf;
struct mem_rows {
    struct mem_leaf **leaves;
    size_t count, room;
    uint64_t bytes; /* of all rows */
};
struct mem_place { /* of a row; behind the last of a leaf is as good as before the first of the next */
    size_t leaf;
    uint32_t row;
};

static inline struct kv_slice mem_key(const struct mem_row *r)
{
    return kv_slice(r->bytes, r->key_size);
}
static inline struct kv_slice mem_sub(const struct mem_row *r)
{
    return kv_slice(r->bytes + r->key_size, r->sub_size);
}
static inline struct kv_slice mem_value(const struct mem_row *r)
{
    return kv_slice(r->bytes + r->key_size + r->sub_size, r->value_size);
}

bool mem_rows_share(const struct mem_rows *from, struct mem_rows *to); /* false: out of memory, and `to` is empty */
void mem_rows_free(struct mem_rows *rows);
struct mem_place mem_rows_find(const struct mem_rows *rows, struct kv_slice key, struct kv_slice sub);     /* the first at or after */
const struct mem_row *mem_rows_get(const struct mem_rows *rows, struct kv_slice key, struct kv_slice sub); /* NULL: none */
const struct mem_row *mem_rows_next(const struct mem_rows *rows, struct mem_place *at);                    /* and steps on; NULL: the end */
/* False: out of memory; the version is then only good for mem_rows_free(). */
bool mem_rows_put(struct mem_rows *rows, const struct store_row *row);
bool mem_rows_remove(struct mem_rows *rows, struct mem_place from, struct mem_place to);
#endif

#ifndef KV_MAP_H
#define KV_MAP_H
#include "client/base/slice.h"

/* u64 -> pointer, open addressing with linear probing and backward-shift
 * deletion; grows at 3/4 full. Iteration order depends only on the history of
 * inserts and removes, never on addresses. NULL is not a legal value. */
struct kv_map {
    uint64_t *keys;
    void **values;
    uint32_t capacity, count; /* capacity is a power of two or 0 */
};
void kv_map_init(struct kv_map *m);
void kv_map_free(struct kv_map *m);
void *kv_map_get(const struct kv_map *m, uint64_t key); /* NULL: absent */
bool kv_map_put(struct kv_map *m, uint64_t key, void *value); /* false: out of memory */
void *kv_map_remove(struct kv_map *m, uint64_t key); /* the value, or NULL */
bool kv_map_next(const struct kv_map *m, uint32_t *cursor, uint64_t *key, void **value); /* *cursor from 0 */
#endif

#ifndef TESTS_STORAGE_MODEL_H
#define TESTS_STORAGE_MODEL_H
#include <check.h>
#include <stdlib.h>

#include "client/base/hash.h"
#include "storage/checkpoint.h"

/* The simplest thing that holds rows: a sorted array. What memtable, checkpoint and store
 * must agree with after the same operations. */
enum { MODEL_KEY_MAX = 24, MODEL_VALUE_MAX = 64 };
struct model_row {
    enum store_class class;
    uint8_t key[MODEL_KEY_MAX], sub[STORE_SUB_BYTES], value[MODEL_VALUE_MAX];
    size_t key_size, sub_size, value_size;
};
struct model {
    struct model_row *rows;
    size_t count, room;
};

static inline struct store_row model_view(const struct model_row *r)
{
    return (struct store_row){.class = r->class,
                              .key = kv_slice(r->key, r->key_size),
                              .sub = kv_slice(r->sub, r->sub_size),
                              .value = kv_slice(r->value, r->value_size)};
}

static inline int row_order(const struct store_row *a, const struct store_row *b)
{
    if (a->class != b->class) return a->class < b->class ? -1 : 1;
    int order = kv_slice_cmp(a->key, b->key);
    return order != 0 ? order : kv_slice_cmp(a->sub, b->sub);
}

static inline size_t model_find(const struct model *m, const struct store_row *row)
{
    size_t low = 0, high = m->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        struct store_row r = model_view(&m->rows[mid]);
        if (row_order(&r, row) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static inline const struct model_row *model_get(const struct model *m, const struct store_row *row)
{
    size_t at = model_find(m, row);
    if (at == m->count) return NULL;
    struct store_row r = model_view(&m->rows[at]);
    return row_order(&r, row) == 0 ? &m->rows[at] : NULL;
}

static inline void model_del(struct model *m, const struct store_row *row)
{
    if (model_get(m, row) == NULL) return;
    size_t at = model_find(m, row);
    memmove(m->rows + at, m->rows + at + 1, (m->count - at - 1) * sizeof *m->rows);
    m->count--;
}

static inline void model_put(struct model *m, const struct store_row *row)
{
    ck_assert_uint_le(row->key.size, MODEL_KEY_MAX);
    ck_assert_uint_le(row->value.size, MODEL_VALUE_MAX);
    size_t at = model_find(m, row);
    if (model_get(m, row) == NULL) {
        if (m->count == m->room) {
            m->room = m->room == 0 ? 64 : m->room * 2;
            m->rows = realloc(m->rows, m->room * sizeof *m->rows);
            ck_assert_ptr_nonnull(m->rows);
        }
        memmove(m->rows + at + 1, m->rows + at, (m->count - at) * sizeof *m->rows);
        m->count++;
    }
    struct model_row *r = &m->rows[at];
    *r = (struct model_row){.class = row->class,
                            .key_size = row->key.size,
                            .sub_size = row->sub.size,
                            .value_size = row->value.size};
    if (row->key.size > 0) memcpy(r->key, row->key.data, row->key.size);
    if (row->sub.size > 0) memcpy(r->sub, row->sub.data, row->sub.size);
    if (row->value.size > 0) memcpy(r->value, row->value.data, row->value.size);
}

static inline void model_delete_range(struct model *m, enum store_class class,
                                      struct kv_range range)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct model_row *r = &m->rows[i];
        if (r->class == class && kv_range_has(range, kv_slice(r->key, r->key_size))) continue;
        m->rows[kept++] = *r;
    }
    m->count = kept;
}

static inline void model_copy(struct model *to, const struct model *from)
{
    free(to->rows);
    *to = (struct model){.rows = malloc((from->count + 1) * sizeof *from->rows),
                         .count = from->count,
                         .room = from->count + 1};
    ck_assert_ptr_nonnull(to->rows);
    if (from->count > 0) memcpy(to->rows, from->rows, from->count * sizeof *from->rows);
}

static inline void model_free(struct model *m)
{
    free(m->rows);
    *m = (struct model){0};
}

/* Random operations over few keys, so that they meet. */
struct chance {
    uint64_t seed;
    uint32_t keys; /* distinct keys, about */
    uint8_t key[MODEL_KEY_MAX], end[MODEL_KEY_MAX], sub[STORE_SUB_BYTES], value[MODEL_VALUE_MAX];
};

static inline uint64_t chance_below(struct chance *c, uint64_t n)
{
    return kv_random_next(&c->seed) % n;
}

/* Keys of several lengths with shared beginnings, some with large keyspace ids. */
static inline struct kv_slice chance_key(struct chance *c, uint8_t *into)
{
    uint64_t n = chance_below(c, c->keys);
    memset(into, 0, 4);
    into[3] = n % 7 == 6 ? 2 : 1;
    if (n % 31 == 30) into[0] = 1;
    int size = snprintf((char *)into + 4, MODEL_KEY_MAX - 4, n % 3 == 0 ? "%lu" : "prefix:%lu",
                        (unsigned long)n);
    return kv_slice(into, 4 + (size_t)size);
}

static inline struct store_row chance_row(struct chance *c)
{
    struct store_row row = {.class = (enum store_class)chance_below(c, STORE_CLASSES)};
    row.key = chance_key(c, c->key);
    if (row.class == STORE_DEDUP) {
        memset(c->sub, 's', sizeof c->sub);
        c->sub[chance_below(c, 2) * 23] = (uint8_t)chance_below(c, 4);
        row.sub = kv_slice(c->sub, sizeof c->sub);
    }
    size_t size = chance_below(c, MODEL_VALUE_MAX + 1);
    for (size_t i = 0; i < size; i++)
        c->value[i] = (uint8_t)kv_random_next(&c->seed);
    row.value = kv_slice(c->value, size);
    return row;
}

static inline struct kv_range chance_range(struct chance *c)
{
    struct kv_slice from = chance_key(c, c->key), to = chance_key(c, c->end);
    if (chance_below(c, 8) == 0) from.size = 0;
    if (chance_below(c, 8) == 0) to.size = 0;
    if (to.size != 0 && kv_slice_cmp(from, to) > 0) return (struct kv_range){to, from};
    return (struct kv_range){from, to};
}
#endif

/* (1) A slot is empty exactly if its value is NULL.
 * (2) Between a key's home slot and where it lies no slot is empty; removal
 *     shifts later keys back instead of leaving tombstones, so probes stay short. */
#include "client/base/map.h"

#include <assert.h>
#include <stdlib.h>

enum { CAPACITY_MIN = 8 };

void kv_map_init(struct kv_map *m)
{
    *m = (struct kv_map){0};
}

void kv_map_free(struct kv_map *m)
{
    free(m->keys);
    free(m->values);
    kv_map_init(m);
}

/* Ids are counted up from 1: the multiplication spreads them, the top bits are best mixed. */
static uint32_t map_home(const struct kv_map *m, uint64_t key)
{
    uint64_t z = (key ^ (key >> 32)) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(z >> 32) & (m->capacity - 1);
}

/* The key's slot, or the empty one where it would go. */
static uint32_t map_slot(const struct kv_map *m, uint64_t key)
{
    uint32_t i = map_home(m, key);
    while (m->values[i] != NULL && m->keys[i] != key) i = (i + 1) & (m->capacity - 1);
    return i;
}

static bool map_grow(struct kv_map *m)
{
    if (m->capacity > UINT32_MAX / 4) return false;
    struct kv_map bigger = {.capacity = m->capacity == 0 ? CAPACITY_MIN : m->capacity * 2,
                            .count = m->count};
    bigger.keys = malloc(bigger.capacity * sizeof *bigger.keys);
    bigger.values = calloc(bigger.capacity, sizeof *bigger.values);
    if (bigger.keys == NULL || bigger.values == NULL) {
        kv_map_free(&bigger);
        return false;
    }
    for (uint32_t i = 0; i < m->capacity; i++) {
        if (m->values[i] == NULL) continue;
        uint32_t slot = map_slot(&bigger, m->keys[i]);
        bigger.keys[slot] = m->keys[i];
        bigger.values[slot] = m->values[i];
    }
    kv_map_free(m);
    *m = bigger;
    return true;
}

void *kv_map_get(const struct kv_map *m, uint64_t key)
{
    return m->count == 0 ? NULL : m->values[map_slot(m, key)];
}

bool kv_map_put(struct kv_map *m, uint64_t key, void *value)
{
    assert(value != NULL);
    if (m->capacity > 0) {
        uint32_t slot = map_slot(m, key);
        if (m->values[slot] != NULL) { /* replacing never allocates, so it never fails */
            m->values[slot] = value;
            return true;
        }
    }
    if (m->count >= m->capacity / 4 * 3 && !map_grow(m)) return false;
    uint32_t slot = map_slot(m, key);
    m->keys[slot] = key;
    m->values[slot] = value;
    m->count++;
    return true;
}

void *kv_map_remove(struct kv_map *m, uint64_t key)
{
    if (m->count == 0) return NULL;
    uint32_t mask = m->capacity - 1;
    uint32_t hole = map_slot(m, key);
    void *value = m->values[hole];
    if (value == NULL) return NULL;
    for (uint32_t i = (hole + 1) & mask; m->values[i] != NULL; i = (i + 1) & mask) {
        uint32_t home = map_home(m, m->keys[i]);
        /* It may move back only if its home is not behind the hole (cyclically). */
        if (((i - home) & mask) < ((i - hole) & mask)) continue;
        m->keys[hole] = m->keys[i];
        m->values[hole] = m->values[i];
        hole = i;
    }
    m->values[hole] = NULL;
    m->count--;
    return value;
}

bool kv_map_next(const struct kv_map *m, uint32_t *cursor, uint64_t *key, void **value)
{
    for (; *cursor < m->capacity; ++*cursor) {
        if (m->values[*cursor] == NULL) continue;
        *key = m->keys[*cursor];
        *value = m->values[*cursor];
        ++*cursor;
        return true;
    }
    return false;
}

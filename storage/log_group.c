#include "storage/log_private.h"
#include <assert.h>
#include <stdlib.h>

/* Groups of the log: their lives begin and end by records, and what is known of them is
 * answered from the index and the cache. */

bool log_takes(const struct log *l, size_t bytes)
{
    return !l->poisoned && log_room(l, bytes) == KV_OK;
}

enum kv_err log_group_create(struct log *l, uint32_t group, uint32_t replica, uint64_t compacted_index,
                             uint64_t compacted_term)
{
    if (l->poisoned) return KV_POISONED;
    struct log_life *g = log_life_get(l, group);
    if (g != NULL && g->replica >= replica) return KV_CONFLICT; /* replica ids only rise (R4) */
    enum kv_err err = log_room(l, log_record_bytes(LOG_RECORD_GROUP, 0));
    if (err != KV_OK) return err;
    if (g != NULL) log_life_remove(l, g);
    g = log_life_add(l, group);
    if (g == NULL) return KV_BUSY;
    g->replica = replica;
    g->compacted_index = g->commit = compacted_index;
    g->term = g->compacted_term = compacted_term;
    return log_put_anchor(l, g, LOG_GROUP_BEGINS) ? KV_OK : KV_POISONED;
}

static bool destroy_put(struct log *l, uint32_t group)
{
    if (log_room(l, log_record_bytes(LOG_RECORD_DESTROY, 0)) != KV_OK) return false;
    return log_put(l, &(struct log_record){.kind = LOG_RECORD_DESTROY, .group = group}, 0, NULL);
}

void log_destroys_put(struct log *l)
{
    while (l->destroyed_count > 0 && !l->poisoned) {
        uint32_t group = l->destroyed[l->destroyed_count - 1];
        /* A life begun since has made the record needless, and wrong. */
        if (log_life_get(l, group) == NULL && !destroy_put(l, group)) return;
        l->destroyed_count--;
    }
}

void log_group_destroy(struct log *l, uint32_t group)
{
    struct log_life *g = log_life_get(l, group);
    if (g == NULL) return;
    log_life_remove(l, g);
    if (l->poisoned || destroy_put(l, group)) return;
    /* No room now: it follows with a later flush. Should a crash come first, the group's
     * owner has a tombstone and sends it away again (R4). */
    uint32_t *grown = realloc(l->destroyed, (l->destroyed_count + 1) * sizeof *grown);
    if (grown == NULL) return;
    l->destroyed = grown;
    l->destroyed[l->destroyed_count++] = group;
}

enum kv_err log_group_damage(struct log *l, uint32_t group)
{
    struct log_life *g = log_life_get(l, group);
    if (g == NULL) return KV_NOT_FOUND;
    if (g->damaged) return KV_OK;
    g->damaged = true;
    if (l->poisoned) return KV_POISONED;
    enum kv_err err = log_room(l, log_record_bytes(LOG_RECORD_GROUP, 0));
    if (err != KV_OK) return err;
    return log_put_anchor(l, g, 0) ? KV_OK : KV_POISONED;
}

bool log_group_get(const struct log *l, uint32_t group, struct log_group *out)
{
    const struct log_life *g = log_life_get(l, group);
    if (g == NULL) return false;
    *out = (struct log_group){.group = group,
                              .replica = g->replica,
                              .term = g->term,
                              .commit = g->commit,
                              .vote = g->vote,
                              .compacted_index = g->compacted_index,
                              .compacted_term = g->compacted_term,
                              .last = log_life_last(g),
                              .runs = g->run_count == 0 ? NULL : g->runs + g->run_head,
                              .run_count = g->run_count,
                              .damaged = g->damaged};
    return true;
}

bool log_group_next(const struct log *l, uint32_t *cursor, uint32_t *group)
{
    size_t low = 0, high = l->life_count; /* the cursor is the lowest id not yet told */
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (l->lives[middle]->group < *cursor)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == l->life_count) return false;
    *group = l->lives[low]->group;
    assert(*group < UINT32_MAX);
    *cursor = *group + 1;
    return true;
}

uint64_t log_first(const struct log *l, uint32_t group)
{
    const struct log_life *g = log_life_get(l, group);
    return g == NULL ? 1 : g->compacted_index + 1;
}

uint64_t log_last(const struct log *l, uint32_t group)
{
    const struct log_life *g = log_life_get(l, group);
    return g == NULL ? 0 : log_life_last(g);
}

uint64_t log_term(const struct log *l, uint32_t group, uint64_t index)
{
    const struct log_life *g = log_life_get(l, group);
    return g == NULL ? 0 : log_life_term(g, index);
}

uint64_t log_dropped(const struct log *l)
{
    return l->dropped;
}

enum kv_err log_cached(const struct log *l, uint32_t group, uint64_t first, uint32_t count_max,
                       size_t bytes_max, struct log_entry *out, uint32_t *out_count)
{
    const struct log_life *g = log_life_get(l, group);
    *out_count = 0;
    if (g == NULL || first <= g->compacted_index || first > log_life_last(g)) return KV_NOT_FOUND;
    uint64_t last = log_life_last(g), run_end = 0, term = 0;
    size_t bytes = 0;
    const struct log_chunk *chunk = NULL; /* most entries stand in that of the one before */
    for (uint64_t i = first; i <= last && *out_count < count_max; i++) {
        const struct log_slot *slot = log_life_slot(g, i);
        if (*out_count > 0 && bytes + slot->size > bytes_max) break;
        const uint8_t *data = log_chunk_get(chunk, slot);
        if (data == NULL) {
            chunk = log_cache_find(l, slot);
            data = log_chunk_get(chunk, slot);
        }
        if (data == NULL) return *out_count > 0 ? KV_OK : KV_BUSY;
        if (i > run_end) { /* terms come in runs: look up once per run */
            uint64_t from = g->compacted_index + 1;
            uint32_t k = g->run_head;
            while (i >= from + g->runs[k].count) from += g->runs[k++].count;
            run_end = from + g->runs[k].count - 1;
            term = g->runs[k].term;
        }
        out[(*out_count)++] = (struct log_entry){
            .term = term, .flags = (uint8_t)slot->flags, .bytes = kv_slice(data, slot->size)};
        bytes += slot->size;
    }
    return KV_OK;
}

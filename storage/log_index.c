#include "storage/log_private.h"
#include <assert.h>
#include <stdlib.h>

/* The lives of groups: for each entry where it stands, and the terms as runs.
 * (1) Slots hold exactly the entries compacted_index+1 .. last.
 * (2) The counts of the runs add up to the number of slots.
 * (3) A segment's `live` is the number of slots that point into it. */
enum { SLOTS_SHRINK_MIN = 4096 };

static size_t life_at(const struct log *l, uint32_t group)
{
    size_t low = 0, high = l->life_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (l->lives[middle]->group < group)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct log_life *log_life_get(const struct log *l, uint32_t group)
{
    return kv_map_get(&l->by_group, group);
}

struct log_life *log_life_add(struct log *l, uint32_t group)
{
    assert(log_life_get(l, group) == NULL);
    if (l->life_count == l->life_capacity) {
        size_t capacity = l->life_capacity * 2 + 8;
        struct log_life **grown = realloc(l->lives, capacity * sizeof *grown);
        if (grown == NULL) return NULL;
        l->lives = grown;
        l->life_capacity = capacity;
    }
    struct log_life *g = calloc(1, sizeof *g);
    if (g == NULL) return NULL;
    g->group = group;
    if (!kv_map_put(&l->by_group, group, g)) {
        free(g);
        return NULL;
    }
    size_t at = life_at(l, group);
    memmove(l->lives + at + 1, l->lives + at, (l->life_count - at) * sizeof(struct log_life *));
    l->lives[at] = g;
    l->life_count++;
    return g;
}

/* The slots [from, from+count) of a life are needed no more. Those that follow each other
 * mostly stand in one segment: count them up first. */
static void live_drop(struct log *l, struct log_life *g, size_t from, size_t count)
{
    g->version++;
    for (size_t i = from, end = from + count; i < end;) {
        uint32_t id = g->slots[i].segment;
        size_t first = i;
        for (; i < end && g->slots[i].segment == id; i++) l->live_bytes -= g->slots[i].size;
        struct log_segment *s = log_segment_find(l, id);
        assert(s != NULL && s->live >= i - first);
        s->live -= i - first;
    }
}

void log_life_remove(struct log *l, struct log_life *g)
{
    live_drop(l, g, g->slot_head, g->slot_count);
    kv_map_remove(&l->by_group, g->group);
    size_t at = life_at(l, g->group);
    assert(l->lives[at] == g);
    memmove(l->lives + at, l->lives + at + 1, (l->life_count - at - 1) * sizeof(struct log_life *));
    l->life_count--;
    free(g->slots);
    free(g->runs);
    free(g);
}

/* A log that was long for a while gives back what a shorter one does not need. */
static void slots_shrink(struct log_life *g, size_t more)
{
    size_t enough = (g->slot_count + more) * 2;
    if (g->slot_capacity < SLOTS_SHRINK_MIN || g->slot_capacity / 2 < enough) return;
    struct log_slot *fewer = realloc(g->slots, enough * sizeof *fewer);
    if (fewer == NULL) return;
    g->slots = fewer;
    g->slot_capacity = enough;
}

static bool slots_reserve(struct log_life *g, size_t more)
{
    if (g->slot_head + g->slot_count + more <= g->slot_capacity) return true;
    if (g->slot_head > 0 && g->slot_head >= g->slot_count) { /* at least half is free in front */
        memmove(g->slots, g->slots + g->slot_head, g->slot_count * sizeof *g->slots);
        g->slot_head = 0;
        slots_shrink(g, more);
        if (g->slot_count + more <= g->slot_capacity) return true;
    }
    size_t capacity = (g->slot_head + g->slot_count + more) * 2;
    struct log_slot *grown = realloc(g->slots, capacity * sizeof *grown);
    if (grown == NULL) return false;
    g->slots = grown;
    g->slot_capacity = capacity;
    return true;
}

bool log_life_reserve(struct log_life *g, size_t more)
{
    if (!slots_reserve(g, more)) return false;
    if (g->run_head > 0 && g->run_head >= g->run_count) {
        memmove(g->runs, g->runs + g->run_head, g->run_count * sizeof *g->runs);
        g->run_head = 0;
    }
    /* Entries that change term or kind are rare: room for the worst case only if it is small. */
    size_t worst = g->run_head + g->run_count + more;
    if (worst <= g->run_capacity) return true;
    size_t capacity = worst + worst / 2;
    if (capacity > UINT32_MAX) return false;
    struct log_run *grown = realloc(g->runs, capacity * sizeof *grown);
    if (grown == NULL) return false;
    g->runs = grown;
    g->run_capacity = (uint32_t)capacity;
    return true;
}

void log_life_push(struct log *l, struct log_life *g, const struct log_slot *slot, uint64_t term)
{
    struct log_run *run = g->run_count == 0 ? NULL : &g->runs[g->run_head + g->run_count - 1];
    bool is_conf = (slot->flags & LOG_ENTRY_CONF) != 0;
    assert(g->slot_head + g->slot_count < g->slot_capacity);
    g->slots[g->slot_head + g->slot_count++] = *slot;
    struct log_segment *active = log_active(l);
    struct log_segment *s =
        active != NULL && active->id == slot->segment ? active : log_segment_find(l, slot->segment);
    assert(s != NULL);
    s->live++;
    l->live_bytes += slot->size;
    g->version++;
    if (run != NULL && run->term == term && run->is_conf == is_conf && run->count < UINT32_MAX) {
        run->count++;
        return;
    }
    assert(g->runs != NULL && g->run_head + g->run_count < g->run_capacity);
    g->runs[g->run_head + g->run_count++] = (struct log_run){.term = term, .count = 1, .is_conf = is_conf};
}

void log_life_truncate(struct log *l, struct log_life *g, uint64_t from)
{
    uint64_t last = log_life_last(g);
    if (from > last) return;
    assert(from > g->compacted_index); /* what is in a checkpoint is never taken back */
    size_t drop = (size_t)(last - from + 1);
    live_drop(l, g, g->slot_head + g->slot_count - drop, drop);
    g->slot_count -= drop;
    while (drop > 0) {
        struct log_run *run = &g->runs[g->run_head + g->run_count - 1];
        if (run->count > drop) {
            run->count -= (uint32_t)drop;
            break;
        }
        drop -= run->count;
        g->run_count--;
    }
}

void log_life_compact(struct log *l, struct log_life *g, uint64_t index)
{
    if (index <= g->compacted_index) return;
    assert(index <= log_life_last(g));
    uint64_t term = log_life_term(g, index);
    size_t drop = (size_t)(index - g->compacted_index);
    live_drop(l, g, g->slot_head, drop);
    g->slot_head += drop;
    g->slot_count -= drop;
    while (drop > 0) {
        struct log_run *run = &g->runs[g->run_head];
        if (run->count > drop) {
            run->count -= (uint32_t)drop;
            break;
        }
        drop -= run->count;
        g->run_head++;
        g->run_count--;
    }
    g->compacted_index = index;
    g->compacted_term = term;
}

void log_life_reset(struct log *l, struct log_life *g, uint64_t index, uint64_t term)
{
    live_drop(l, g, g->slot_head, g->slot_count);
    g->slot_head = g->slot_count = 0;
    g->run_head = g->run_count = 0;
    g->compacted_index = index;
    g->compacted_term = term;
}

void log_life_rebase(struct log *l, struct log_life *g, uint64_t index, uint64_t term)
{
    log_life_reset(l, g, index, term);
    if (g->commit < index) g->commit = index;
    if (g->term < term && !MUTANT(install_forgets_term)) {
        g->term = term;
        g->vote = 0;
    }
    g->anchor_compacted = index;
    g->anchor_term = term;
}

uint64_t log_life_term(const struct log_life *g, uint64_t index)
{
    if (index == g->compacted_index) return g->compacted_term;
    if (index < g->compacted_index || index > log_life_last(g)) return 0;
    uint64_t from = log_life_last(g) + 1; /* mostly the latest are asked for */
    for (uint32_t i = g->run_head + g->run_count;; i--) {
        assert(i > g->run_head);
        from -= g->runs[i - 1].count;
        if (index >= from) return g->runs[i - 1].term;
    }
}

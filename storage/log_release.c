#include "client/base/mutant.h"
#include "storage/log_private.h"
#include <assert.h>

/* What is no longer needed. Segments leave the log strictly from its beginning.
 * (1) A segment leaves once no needed entry is in it, and every group's hard state and
 *     compaction point can be learned from the segments behind it (R8): groups for
 *     which that does not hold get a GROUP record at the end of the log first.
 * (2) It is recycled only when everything queued at that moment is durable.
 * (3) A slow group's entries that pin a log made mostly of waste are appended again, all
 *     of them in one batch behind a GROUP record that says so: a crash leaves the old
 *     ones or the new ones. */
enum { REBASE_BYTES_MAX = 1 << 20 };

/* Would recovery without the oldest segment know less about this group? Its hard state stands
 * in its GROUP record or behind it. */
static bool needs_anchor(const struct log_life *g, uint64_t oldest)
{
    return (g->anchor_segment <= oldest && !MUTANT(hard_state_recycled)) || g->anchor_compacted < g->compacted_index;
}

static bool anchors_put(struct log *l, uint64_t oldest)
{
    size_t count = 0;
    for (size_t i = 0; i < l->life_count; i++)
        if (needs_anchor(l->lives[i], oldest)) count++;
    if (count == 0) return true;
    if (log_room(l, count * log_record_bytes(LOG_RECORD_GROUP, 0)) != KV_OK) return false;
    for (size_t i = 0; i < l->life_count; i++)
        if (needs_anchor(l->lives[i], oldest) && !log_put_anchor(l, l->lives[i], 0)) return false;
    return true;
}

void log_recycle(struct log *l)
{
    if (l->poisoned || !l->started) return;
    size_t leaving = 0;
    while (leaving + 1 < l->segments.count) {
        struct log_segment *s = l->segments.at[leaving];
        if (s->free_after == 0) {
            struct log_batch *first = &l->batches[l->batch_head];
            if (s->live > 0 || (l->batch_count > 0 && first->segment->id <= s->id)) break;
            if (!anchors_put(l, s->id)) break;
            s->free_after = l->sequence_next - 1;
        }
        leaving++;
    }
    bool any = false;
    while (l->segments.count > 1 && log_segments_reserve(&l->dead, 1) && l->segments.at[0]->free_after != 0 &&
           l->segments.at[0]->free_after <= l->durable) {
        log_segments_add(&l->dead, log_segments_take_first(&l->segments));
        any = true;
    }
    if (any) log_segments_tend(l);
}

static uint64_t bytes_used(const struct log *l)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < l->segments.count; i++) bytes += l->segments.at[i]->used;
    return bytes;
}

static size_t slots_in(const struct log_life *g, uint64_t segment) /* and in those before it */
{
    size_t low = 0, high = g->slot_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (g->slots[g->slot_head + middle].segment <= segment) low = middle + 1;
        else high = middle;
    }
    return low;
}

static struct log_life *pinner(const struct log *l, uint64_t segment)
{
    for (size_t i = 0; i < l->life_count; i++)
        if (slots_in(l->lives[i], segment) > 0) return l->lives[i];
    return NULL;
}

/* The group that pins the oldest segment, if moving it is worth its while. */
static struct log_life *rebase_choose(const struct log *l, size_t *record_bytes)
{
    uint64_t bytes = 0;
    if (l->segments.count < 3 || l->live_bytes * 2 > bytes_used(l)) return NULL;
    if (l->segments.at[0]->live == 0) return NULL;
    struct log_life *g = pinner(l, l->segments.at[0]->id);
    if (g == NULL || g->damaged) return NULL;
    for (size_t i = 0; i < g->slot_count && bytes <= REBASE_BYTES_MAX; i++)
        bytes += log_record_bytes(LOG_RECORD_ENTRY, g->slots[g->slot_head + i].size);
    *record_bytes = (size_t)bytes + log_record_bytes(LOG_RECORD_GROUP, 0);
    return bytes <= REBASE_BYTES_MAX && bytes <= l->o.segment_bytes / 4 ? g : NULL;
}

static void rebase_put(struct log *l, struct log_life *g, const struct log_fetch *f, size_t bytes)
{
    if (!log_life_reserve(g, f->entry_count) || !log_put_together(l, bytes)) return;
    if (!log_put_anchor(l, g, LOG_GROUP_REBASE)) return;
    log_life_reset(l, g, g->compacted_index, g->compacted_term);
    for (uint32_t i = 0; i < f->entry_count; i++) {
        struct log_slot slot;
        struct log_record r = {.kind = LOG_RECORD_ENTRY,
                               .flags = f->entries[i].flags,
                               .group = g->group,
                               .index = f->first + i,
                               .term = f->entries[i].term,
                               .bytes = f->entries[i].bytes};
        if (!log_put(l, &r, 0, &slot)) return;
        log_life_push(l, g, &slot, r.term);
    }
}

static void rebase_read(struct log_fetch *f, enum kv_err err)
{
    struct log *l = container_of(f, struct log, rebase);
    struct log_life *g = log_life_get(l, f->group);
    size_t bytes;
    l->rebasing = false;
    /* A read that fails is told to whoever needs these entries; here it only ends the try. */
    if (err == KV_OK && !l->poisoned && g != NULL && g->version == l->rebase_version &&
        f->entry_count == g->slot_count && rebase_choose(l, &bytes) == g &&
        log_room(l, bytes) == KV_OK) {
        rebase_put(l, g, f, bytes);
        log_recycle(l);
    }
    log_fetch_free(f);
}

static void rebase_try(struct log *l)
{
    size_t bytes;
    if (l->rebasing || l->poisoned || !l->started) return;
    const struct log_life *g = rebase_choose(l, &bytes);
    if (g == NULL) return;
    l->rebasing = true;
    l->rebase_version = g->version;
    l->rebase.done = rebase_read;
    l->rebase.group = g->group;
    l->rebase.first = g->compacted_index + 1;
    l->rebase.bytes_max = bytes;
    log_fetch(l, &l->rebase);
}

void log_release(struct log *l, uint32_t group, uint64_t index)
{
    struct log_life *g = log_life_get(l, group);
    if (g == NULL) return;
    uint64_t last = log_life_last(g);
    log_life_compact(l, g, index < last ? index : last);
    log_recycle(l);
    rebase_try(l);
}

bool log_live_next(const struct log *l, uint64_t *segment)
{
    for (size_t i = 0; i < l->segments.count; i++) {
        const struct log_segment *s = l->segments.at[i];
        if (s->id <= *segment || s->live == 0) continue;
        *segment = s->id;
        return true;
    }
    return false;
}

uint64_t log_index_in(const struct log *l, uint32_t group, uint64_t segment)
{
    const struct log_life *g = log_life_get(l, group);
    size_t count = g == NULL ? 0 : slots_in(g, segment);
    return count == 0 ? 0 : g->compacted_index + count;
}

uint64_t log_bytes(const struct log *l)
{
    uint64_t bytes = l->job.busy && l->job.segment != NULL ? l->job.bytes : 0;
    for (size_t i = 0; i < l->segments.count; i++)
        if (l->segments.at[i]->ready) bytes += l->segments.at[i]->bytes;
    for (size_t i = 0; i < l->spares.count; i++) bytes += l->spares.at[i]->bytes;
    for (size_t i = 0; i < l->dead.count; i++) bytes += l->dead.at[i]->bytes;
    return bytes;
}

uint64_t log_bytes_live(const struct log *l)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < l->segments.count; i++)
        if (l->segments.at[i]->live > 0) bytes += l->segments.at[i]->used;
    return bytes;
}

#include <assert.h>
#include <stdlib.h>

#include "storage/command.h"
#include "storage/store_impl.h"

/* The groups that the store knows, and what it says of them. Their lives: store_life.c; what a start makes of what stands
 * on disk: store_recover.c. */

void slice_free(struct kv_slice *s)
{
    free((void *)(uintptr_t)s->data);
    *s = kv_slice(NULL, 0);
}

bool slice_dup(struct kv_slice from, struct kv_slice *to)
{
    uint8_t *copy = NULL;
    if (from.size > 0) {
        copy = malloc(from.size);
        if (copy == NULL) return false;
        memcpy(copy, from.data, from.size);
    }
    slice_free(to);
    *to = kv_slice(copy, from.size);
    return true;
}

struct group *group_find(const struct store *s, uint32_t group)
{
    return kv_map_get(&s->groups, group);
}

struct group *group_add(struct store *s, uint32_t group)
{
    if (s->group_count == s->group_room) {
        uint32_t room = s->group_room == 0 ? 16 : s->group_room * 2;
        struct group **ordered = realloc(s->ordered, room * sizeof *ordered);
        if (ordered == NULL) return NULL;
        s->ordered = ordered;
        s->group_room = room;
    }
    struct group *g = calloc(1, sizeof *g);
    if (g == NULL || !kv_map_put(&s->groups, group, g)) {
        free(g);
        return NULL;
    }
    g->group = group;
    uint32_t at = s->group_count++;
    for (; at > 0 && s->ordered[at - 1]->group > group; at--)
        s->ordered[at] = s->ordered[at - 1];
    s->ordered[at] = g;
    return g;
}

void groups_free(struct store *s)
{
    for (uint32_t i = 0; i < s->group_count; i++) {
        slice_free(&s->ordered[i]->descriptor);
        slice_free(&s->ordered[i]->wipe);
        free(s->ordered[i]);
    }
    free(s->ordered);
    kv_map_free(&s->groups);
}

/* Range and retention are all the store wants to know of a descriptor, and only for the
 * dedup sweep: one that does not decode is kept all the same, its records are not swept. */
bool group_descriptor_set(struct group *g, struct kv_slice descriptor)
{
    if (!slice_dup(descriptor, &g->descriptor)) return false;
    struct descriptor d;
    g->has_range = descriptor_decode(descriptor, &d) == KV_OK;
    if (!g->has_range) return true;
    g->from = d.from;
    g->to = d.to;
    g->range_epoch = d.range_epoch;
    g->retention_ms = d.dedup_retention_ms;
    return true;
}

struct checkpoint_mark group_mark(const struct group *g)
{
    return (struct checkpoint_mark){
        .group = g->group,
        .replica = g->replica,
        .state = g->state,
        .index = g->state == CHECKPOINT_GROUP_INSTALLING  ? g->owed_index
                 : g->state == CHECKPOINT_GROUP_TOMBSTONE ? g->absorbed
                                                          : g->applied,
        .term = g->state == CHECKPOINT_GROUP_INSTALLING ? g->owed_term : g->applied_term,
        .clock_ms = g->clock_ms,
        .descriptor = g->state == CHECKPOINT_GROUP_INSTALLING ? g->wipe : g->descriptor,
    };
}

void group_bury(struct group *g, uint32_t replica)
{
    slice_free(&g->descriptor);
    slice_free(&g->wipe);
    *g = (struct group){.group = g->group,
                        .replica = replica,
                        .state = CHECKPOINT_GROUP_TOMBSTONE,
                        .dirty = g->dirty};
}

void group_damaged(struct store *s, struct group *g, const char *why)
{
    g->damaged = true;
    store_damage_set(s, "group %u: %s", g->group, why);
}

void store_group_damage(struct store *s, uint32_t group, const char *why)
{
    struct group *g = group_find(s, group);
    if (g == NULL || g->state == CHECKPOINT_GROUP_TOMBSTONE) return;
    group_damaged(s, g, why);
    (void)log_group_damage(s->log, group); /* if it has no room, the next reader finds the row again */
}

bool store_group_get(const struct store *s, uint32_t group, struct store_group *out)
{
    const struct group *g = group_find(s, group);
    if (g == NULL || g->creating) return false;
    *out = (struct store_group){
        .applied = g->applied,
        .applied_term = g->applied_term,
        .clock_ms = g->clock_ms,
        .checkpointed = g->checkpointed,
        .owed_index = g->owed_index,
        .owed_term = g->owed_term,
        .descriptor = g->descriptor,
        .replica = g->replica,
        .state = g->state,
        .unborn = g->unborn,
        .absorbed = g->absorbed,
    };
    if (g->state == CHECKPOINT_GROUP_TOMBSTONE || !log_group_get(s->log, group, &out->log))
        out->log = (struct log_group){.group = group, .replica = g->replica};
    out->log.damaged = out->log.damaged || g->damaged || g->unborn;
    return true;
}

bool store_group_next(const struct store *s, uint32_t *cursor, uint32_t *group)
{
    while (*cursor < s->group_count) {
        const struct group *g = s->ordered[(*cursor)++];
        if (g->creating || g->state == CHECKPOINT_GROUP_TOMBSTONE) continue;
        *group = g->group;
        return true;
    }
    return false;
}

bool store_group_next_known(const struct store *s, uint32_t *cursor, uint32_t *group)
{
    while (*cursor < s->group_count) {
        const struct group *g = s->ordered[(*cursor)++];
        if (g->creating) continue;
        *group = g->group;
        return true;
    }
    return false;
}

void store_describe(struct store *s, uint32_t group, struct kv_slice descriptor)
{
    struct group *g = group_find(s, group);
    assert(g != NULL && g->state == CHECKPOINT_GROUP_LIVE);
    if (!group_descriptor_set(g, descriptor)) store_poison(s, KV_BUSY);
    g->dirty = true;
}

/* Releasing */

static void group_release(struct store *s, struct group *g)
{
    uint64_t index = g->released < g->checkpointed ? g->released : g->checkpointed;
    if (index >= log_first(s->log, g->group)) log_release(s->log, g->group, index);
}

void store_release(struct store *s, uint32_t group, uint64_t index)
{
    struct group *g = group_find(s, group);
    if (g == NULL || g->state != CHECKPOINT_GROUP_LIVE || g->creating || g->damaged || g->unborn) return;
    if (index > g->released) g->released = index;
    group_release(s, g);
}

void group_checkpointed(struct store *s, const struct checkpoint_mark *m)
{
    struct group *g = group_find(s, m->group);
    assert(g != NULL);
    if (g->state != CHECKPOINT_GROUP_LIVE || m->state != CHECKPOINT_GROUP_LIVE ||
        g->replica != m->replica || m->index < g->checkpointed)
        return;
    g->checkpointed = m->index;
    g->checkpointed_clock_ms = m->clock_ms;
    g->newborn = false;
    if (!g->creating && !g->damaged) group_release(s, g);
}

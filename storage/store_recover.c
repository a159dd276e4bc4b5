#include <assert.h>
#include <stdlib.h>

#include "storage/store_impl.h"

/* Lives of groups as they stand on disk when the store is opened (store_life.c): what is whole goes on, what was cut halfway
 * is undone, and all else is damage. */

struct marks {
    struct store *s;
    enum kv_err err;
};

static void mark_load(void *context, const struct checkpoint_mark *m)
{
    struct marks *marks = context;
    if (marks->err != KV_OK || m->group == CHECKPOINT_NO_GROUP) return;
    struct group *g = group_add(marks->s, m->group);
    if (g == NULL) {
        marks->err = KV_BUSY;
        return;
    }
    g->replica = m->replica;
    g->state = m->state;
    g->applied = g->checkpointed = m->index;
    g->applied_term = m->term;
    g->clock_ms = g->checkpointed_clock_ms = m->clock_ms;
    struct kv_slice descriptor = m->descriptor;
    struct kv_range range;
    if (m->state == CHECKPOINT_GROUP_TOMBSTONE) {
        g->absorbed = (uint32_t)m->index;
        g->applied = g->checkpointed = 0;
    }
    if (m->state == CHECKPOINT_GROUP_INSTALLING) {
        if (!install_mark_read(m->descriptor, &range, &descriptor)) {
            store_damage_set(marks->s, "group %u: its mark does not parse", m->group);
            marks->err = KV_CORRUPT;
            return;
        }
        g->owed_index = m->index;
        g->owed_term = m->term;
        g->applied = g->applied_term = g->checkpointed = 0;
        if (!slice_dup(m->descriptor, &g->wipe)) marks->err = KV_BUSY;
    }
    if (!group_descriptor_set(g, descriptor)) marks->err = KV_BUSY;
}

struct reset {
    struct job job;
    struct log_append append;
};

static void reset_done(struct log_append *a, enum kv_err err)
{
    (void)err; /* done again by the next recovery if it was not durable */
    struct reset *r = container_of(a, struct reset, append);
    job_end(&r->job);
    free(r);
}

static void reset_discard(struct job *j)
{
    free(container_of(j, struct reset, job));
}

/* Durable with the first flush, which comes before any vote or acknowledgement. */
static enum kv_err log_reset_queue(struct store *s, uint32_t group, uint64_t index, uint64_t term)
{
    struct reset *r = calloc(1, sizeof *r);
    if (r == NULL) return KV_BUSY;
    r->job.discard = reset_discard;
    r->append = (struct log_append){.done = reset_done, .group = group};
    job_begin(s, &r->job);
    enum kv_err err = log_reset(s->log, group, index, term, &r->append);
    if (err != KV_OK) {
        job_end(&r->job);
        free(r);
    }
    return err;
}

static enum kv_err live_reconcile(struct store *s, struct group *g, const struct log_group *lg)
{
    if (lg->compacted_index > g->applied) {
        group_damaged(s, g, "the log begins behind the checkpoint");
        return KV_OK;
    }
    uint64_t term = g->applied == lg->compacted_index ? lg->compacted_term
                                                      : log_term(s->log, g->group, g->applied);
    if (lg->last >= g->applied && term == g->applied_term) return KV_OK;
    return log_reset_queue(s, g->group, g->applied, g->applied_term);
}

static enum kv_err installing_reconcile(struct store *s, struct group *g,
                                        const struct log_group *lg)
{
    struct kv_range range;
    struct kv_slice descriptor;
    bool parsed = install_mark_read(g->wipe, &range, &descriptor);
    assert(parsed); /* mark_load() looked */
    enum kv_err err = range_wipe(s->o.checkpoint, s->view, range);
    /* A full disk does not keep the others from starting: nobody reads these rows, and the
     * next install begins by deleting them. */
    if (err != KV_OK && err != KV_NO_SPACE && err != KV_TOO_BIG) return err;
    return lg->last == 0 ? KV_OK : log_reset_queue(s, g->group, 0, 0);
}

static enum kv_err group_reconcile(struct store *s, struct group *g)
{
    struct log_group lg;
    bool logged = log_group_get(s->log, g->group, &lg);
    if (g->state == CHECKPOINT_GROUP_TOMBSTONE) {
        if (logged) log_group_destroy(s->log, g->group);
        return KV_OK;
    }
    if (!logged) {
        group_damaged(s, g, "the log knows nothing of it");
        return KV_OK;
    }
    if (lg.replica != g->replica) {
        group_damaged(s, g, "the log is that of another replica");
        return KV_OK;
    }
    if (lg.damaged) {                                          /* also in the middle of an install: nothing may be built on it (R4) */
        group_damaged(s, g, "it was found not intact before"); /* unless this start knows more */
        return KV_OK;
    }
    return g->state == CHECKPOINT_GROUP_LIVE ? live_reconcile(s, g, &lg)
                                             : installing_reconcile(s, g, &lg);
}

/* A group that only the log knows. Its parent has a mark, if it has one. */
static enum kv_err group_adopt(struct store *s, uint32_t group, bool has_parent)
{
    struct log_group lg;
    if (!log_group_get(s->log, group, &lg)) return KV_OK;
    if (lg.last == 0 && lg.vote == 0) {
        log_group_destroy(s->log, group);
        return KV_OK;
    }
    struct group *g = group_add(s, group);
    if (g == NULL) return KV_BUSY;
    g->replica = lg.replica;
    g->state = CHECKPOINT_GROUP_LIVE;
    if (has_parent) g->unborn = true;
    else group_damaged(s, g, "the checkpoint knows nothing of it");
    return KV_OK;
}

/* The checkpoint knows keys that rotted; whose range holds one is not intact (R21). */
static void rotten_found(void *context, struct kv_slice key, const char *where)
{
    struct store *s = context;
    for (uint32_t i = 0; i < s->group_count; i++) {
        struct group *g = s->ordered[i];
        struct kv_range range = {kv_key_slice(&g->from), kv_key_slice(&g->to)};
        if (g->state == CHECKPOINT_GROUP_LIVE && g->has_range && kv_range_has(range, key)) group_damaged(s, g, where);
    }
}

enum kv_err groups_recover(struct store *s)
{
    struct checkpoint *c = s->o.checkpoint;
    struct marks marks = {.s = s, .err = KV_OK};
    enum kv_err err = c->ops->marks(s->view, mark_load, &marks);
    if (err == KV_OK) err = marks.err;
    bool has_parent = false;
    for (uint32_t i = 0; i < s->group_count && err == KV_OK; i++) {
        has_parent = has_parent || s->ordered[i]->state == CHECKPOINT_GROUP_LIVE;
        err = group_reconcile(s, s->ordered[i]);
    }

    uint32_t cursor = 0, group, count = 0, room = 0, *unknown = NULL;
    while (err == KV_OK && log_group_next(s->log, &cursor, &group)) {
        if (group_find(s, group) != NULL) continue;
        if (count == room) {
            room = room == 0 ? 16 : room * 2;
            uint32_t *grown = realloc(unknown, room * sizeof *grown);
            if (grown == NULL) {
                err = KV_BUSY;
                break;
            }
            unknown = grown;
        }
        unknown[count++] = group;
    }
    for (uint32_t i = 0; i < count && err == KV_OK; i++)
        err = group_adopt(s, unknown[i], has_parent);
    free(unknown);
    if (err == KV_OK) c->ops->rotten(c, rotten_found, s);
    return err == KV_OK ? c->ops->view_renew(s->view) : err;
}

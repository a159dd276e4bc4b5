#include <assert.h>
#include <stdlib.h>

#include "storage/store_impl.h"

/* Lives of groups. A life needs two things on disk, a group record in the log and a mark in
 * the checkpoint, and no disk writes both at once. The mark is the later one, because a fold
 * waits for the log: with it the life begins, with a TOMBSTONE mark it ends, and
 * recovery (store_recover.c) undoes what stands halfway:
 *
 *   log without entries, no mark     the creation was cut: the replica was never here
 *   log with entries, no mark        born by an entry of another group, which is not in that group's mark
 *                                    either: it waits, unborn, until that entry is applied again
 *   mark TOMBSTONE, log              the destruction was cut: the log follows
 *   mark LIVE beyond the log's end   an install was cut before its log reset (R8 excludes
 *                                    all else: a checkpoint holds only what the log had)
 *   mark INSTALLING                  rows of two states: wiped; term and vote stay (R11), and
 *                                    what the replica goes on to vote by: the snapshot's index
 *
 * Everything else that does not fit is damage: the group neither votes nor serves (R4). */

/* Creating */

struct create {
    struct job job;
    struct log_append append;
    struct store_wait wait;
    struct log_append *user;
    uint32_t group, missing;
    enum kv_err err;
};

static void create_discard(struct job *j)
{
    free(container_of(j, struct create, job));
}

static void create_step(struct create *c, enum kv_err err)
{
    if (err != KV_OK && c->err == KV_OK) c->err = err;
    if (--c->missing > 0) return;
    struct store *s = c->job.store;
    struct group *g = group_find(s, c->group);
    assert(g != NULL && g->creating);
    if (c->err == KV_OK) g->creating = false; /* else poisoned: the next start clears it up */
    struct log_append *user = c->user;
    err = c->err;
    job_end(&c->job);
    free(c);
    user->done(user, err);
}

static void create_logged(struct log_append *a, enum kv_err err)
{
    create_step(container_of(a, struct create, append), err);
}

static void create_marked(struct store_wait *w, enum kv_err err)
{
    create_step(container_of(w, struct create, wait), err);
}

static enum kv_err create_check(const struct store *s, uint32_t group, uint32_t replica)
{
    const struct group *g = group_find(s, group);
    if (s->poisoned) return KV_POISONED;
    if (g == NULL) return replica == 0 ? KV_BAD_ARGUMENT : KV_OK;
    if (replica <= g->replica) return KV_CONFLICT;
    if (g->state != CHECKPOINT_GROUP_TOMBSTONE || g->destroying) return KV_BUSY;
    return KV_OK;
}

/* As an install that was interrupted before its first row. */
static bool owe(struct group *g, uint64_t index, uint64_t term)
{
    struct kv_range range = {kv_key_slice(&g->from), kv_key_slice(&g->to)};
    g->state = CHECKPOINT_GROUP_INSTALLING;
    g->owed_index = index;
    g->owed_term = term;
    return g->has_range && install_mark_write(range, g->descriptor, &g->wipe);
}

enum kv_err store_group_create(struct store *s, uint32_t group, uint32_t replica, struct kv_slice descriptor,
                               uint64_t owed_index, uint64_t owed_term, struct log_append *a)
{
    enum kv_err err = create_check(s, group, replica);
    if (err != KV_OK) return err;
    assert(a->entry_count == 0 && a->truncate_from == 0);
    struct group *g = group_find(s, group);
    uint32_t tombstone = g == NULL ? 0 : g->replica; /* 0: none */
    struct create *c = calloc(1, sizeof *c);
    if (c == NULL) return KV_BUSY;
    if (g == NULL) g = group_add(s, group);
    if (g != NULL) g->state = CHECKPOINT_GROUP_LIVE;
    if (g == NULL || !group_descriptor_set(g, descriptor) || (owed_index != 0 && !owe(g, owed_index, owed_term))) {
        free(c);
        if (g != NULL) group_bury(g, tombstone);
        return KV_BUSY;
    }
    err = log_group_create(s->log, group, replica, 0, 0);
    if (err == KV_OK) {
        c->append = *a;
        c->append.done = create_logged;
        c->append.group = group;
        c->append.hard_changed = true; /* never empty, so that it has something to wait for */
        err = log_append(s->log, &c->append);
        if (err != KV_OK) log_group_destroy(s->log, group);
    }
    if (err != KV_OK) {
        group_bury(g, tombstone);
        free(c);
        return err;
    }
    g->replica = replica;
    g->creating = g->dirty = true;
    g->applied = g->applied_term = g->clock_ms = g->checkpointed = g->released = g->checkpointed_clock_ms = 0;
    c->job.discard = create_discard;
    c->user = a;
    c->group = group;
    c->missing = 2;
    c->wait.done = create_marked;
    job_begin(s, &c->job);
    store_checkpoint(s, &c->wait);
    return KV_OK;
}

/* Birth: no disk is waited for. If the machine stops before the next checkpoint, the parent's entry is
 * applied again, and with it this; what the log holds of the life by then goes on. */

enum { BIRTH_BYTES = 64 }; /* in the log */

bool store_has_room(const struct store *s, uint32_t groups)
{
    return !s->poisoned && log_takes(s->log, (size_t)groups * BIRTH_BYTES);
}

static enum kv_err birth_of_new(struct store *s, uint32_t group, uint32_t replica, struct kv_slice descriptor)
{
    struct group *g = group_add(s, group);
    if (g == NULL || !group_descriptor_set(g, descriptor)) return KV_BUSY;
    g->replica = replica;
    return log_group_create(s->log, group, replica, STORE_BIRTH_INDEX, STORE_BIRTH_TERM);
}

enum kv_err store_group_birth(struct store *s, uint32_t group, uint32_t replica, struct kv_slice descriptor,
                              uint64_t clock_ms)
{
    if (s->poisoned) return KV_POISONED;
    struct group *g = group_find(s, group);
    if (g != NULL && !(g->unborn && g->replica == replica)) return KV_CONFLICT;
    enum kv_err err = KV_OK;
    if (g == NULL) err = birth_of_new(s, group, replica, descriptor);
    else if (!group_descriptor_set(g, descriptor)) err = KV_BUSY;
    if (err != KV_OK) { /* half a group is in memory: as in store_apply() */
        store_poison(s, err);
        return err;
    }
    g = group_find(s, group);
    g->state = CHECKPOINT_GROUP_LIVE;
    g->unborn = false;
    g->newborn = g->dirty = true;
    g->applied = STORE_BIRTH_INDEX;
    g->applied_term = STORE_BIRTH_TERM;
    g->clock_ms = clock_ms;
    store_checkpoint(s, NULL); /* until then what is released of the parent's log ends before that entry */
    return KV_OK;
}

/* Endings that are part of something else: a tombstone with the next checkpoint, and then the log follows. */

struct ending {
    struct job job;
    struct store_wait wait;
    uint32_t group;
};

static void ending_discard(struct job *j)
{
    free(container_of(j, struct ending, job));
}

static void ending_marked(struct store_wait *w, enum kv_err err)
{
    struct ending *e = container_of(w, struct ending, wait);
    struct store *s = e->job.store;
    if (err == KV_OK) {
        group_find(s, e->group)->destroying = false;
        log_group_destroy(s->log, e->group);
    }
    job_end(&e->job);
    free(e);
}

static enum kv_err group_end(struct store *s, struct group *g, uint32_t range_epoch)
{
    struct ending *e = calloc(1, sizeof *e);
    if (e == NULL) {
        store_poison(s, KV_BUSY); /* as in store_apply() */
        return KV_BUSY;
    }
    group_bury(g, g->replica);
    g->absorbed = range_epoch;
    g->destroying = g->dirty = true;
    e->job.discard = ending_discard;
    e->group = g->group;
    e->wait.done = ending_marked;
    job_begin(s, &e->job);
    store_checkpoint(s, &e->wait);
    return KV_OK;
}

enum kv_err store_group_absorb(struct store *s, uint32_t right, uint32_t range_epoch)
{
    struct group *g = group_find(s, right);
    if (s->poisoned) return KV_POISONED;
    assert(g != NULL && g->state == CHECKPOINT_GROUP_LIVE && !g->creating && !g->installing && !g->unborn);
    return group_end(s, g, range_epoch);
}

void store_group_gone(struct store *s, uint32_t group)
{
    struct group *g = group_find(s, group);
    if (g != NULL) g->gone = true;
}

/* Eviction: rows of keys that have a later owner are nobody's here, once that owner's snapshot comes. */

/* The rows it has or, being installed, would wipe when it is opened again. */
static struct kv_range held(const struct group *g)
{
    struct kv_range own = {kv_key_slice(&g->from), kv_key_slice(&g->to)}, wipe;
    struct kv_slice descriptor;
    if (g->state != CHECKPOINT_GROUP_INSTALLING || !install_mark_read(g->wipe, &wipe, &descriptor)) return own;
    if (kv_slice_cmp(wipe.from, own.from) < 0) own.from = wipe.from;
    if (wipe.to.size == 0 || (own.to.size != 0 && kv_slice_cmp(wipe.to, own.to) > 0)) own.to = wipe.to;
    return own;
}

static bool is_met(const struct group *g, struct kv_range range, uint32_t except)
{
    return g->group != except && g->state != CHECKPOINT_GROUP_TOMBSTONE && g->has_range && kv_range_meets(range, held(g));
}

static bool is_inside(struct kv_range inner, struct kv_range outer)
{
    bool ends = outer.to.size == 0 || (inner.to.size != 0 && kv_slice_cmp(inner.to, outer.to) <= 0);
    return ends && kv_slice_cmp(inner.from, outer.from) >= 0;
}

static bool may_evict(const struct group *g, struct kv_range range, uint32_t range_epoch)
{
    return g->range_epoch < range_epoch && (g->gone || is_inside(held(g), range)) && !g->creating && !g->installing;
}

uint32_t store_overlap(const struct store *s, struct kv_range range, uint32_t range_epoch, uint32_t except)
{
    for (uint32_t i = 0; i < s->group_count; i++) {
        const struct group *g = s->ordered[i];
        if (is_met(g, range, except) && !may_evict(g, range, range_epoch)) return g->group;
    }
    return UINT32_MAX;
}

void store_evict(struct store *s, struct kv_range range, uint32_t range_epoch, uint32_t except)
{
    for (uint32_t i = 0; i < s->group_count && !s->poisoned; i++) {
        struct group *g = s->ordered[i];
        if (!is_met(g, range, except) || !may_evict(g, range, range_epoch)) continue;
        bool ok = true;
        for (int k = 0; k < STORE_CLASSES && ok; k++) ok = memtable_delete_range(s->active, (enum store_class)k, held(g));
        if (!ok) store_poison(s, KV_BUSY);
        else group_end(s, g, range_epoch);
    }
}

/* Destroying: the rows go as deleted ranges through the memtable, and the tombstone with
 * the same transaction; then the log follows. */

struct destroy {
    struct job job;
    struct store_wait wait;
    struct store_destroy *user;
    bool missing;
};

static void destroy_discard(struct job *j)
{
    free(container_of(j, struct destroy, job));
}

static void destroy_finish(struct destroy *d, enum kv_err err)
{
    struct store_destroy *user = d->user;
    job_end(&d->job);
    free(d);
    user->done(user, err);
}

static void destroy_missing(struct job *j)
{
    destroy_finish(container_of(j, struct destroy, job), KV_NOT_FOUND);
}

static void destroy_refused(struct disk_request *q, enum kv_err err)
{
    struct store_destroy *user = container_of(q, struct store_destroy, io);
    user->done(user, err == KV_OK ? KV_BUSY : err);
}

static void destroy_marked(struct store_wait *w, enum kv_err err)
{
    struct destroy *d = container_of(w, struct destroy, wait);
    struct store *s = d->job.store;
    if (err == KV_OK) {
        struct group *g = group_find(s, d->user->group);
        g->destroying = false;
        struct log_group lg;
        if (log_group_get(s->log, g->group, &lg)) log_group_destroy(s->log, g->group);
    }
    destroy_finish(d, err);
}

void store_group_destroy(struct store *s, struct store_destroy *user)
{
    struct destroy *d = calloc(1, sizeof *d);
    if (d == NULL) {
        store_refuse(s, &user->io, destroy_refused);
        return;
    }
    d->job.discard = destroy_discard;
    d->job.done = destroy_missing;
    d->user = user;
    d->wait.done = destroy_marked;
    job_begin(s, &d->job);
    struct group *g = group_find(s, user->group);
    if (g == NULL || g->state == CHECKPOINT_GROUP_TOMBSTONE || g->creating || g->installing) {
        job_work(&d->job);
        return;
    }
    bool ok = true;
    for (int k = 0; k < STORE_CLASSES && ok; k++)
        ok = memtable_delete_range(s->active, (enum store_class)k, user->range);
    if (!ok) store_poison(s, KV_BUSY);
    group_bury(g, g->replica);
    g->destroying = g->dirty = true;
    store_checkpoint(s, &d->wait);
}

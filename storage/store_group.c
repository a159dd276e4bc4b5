#include <assert.h>
#include <stdlib.h>

#include "storage/command.h"
#include "storage/store_impl.h"

/* Lives of groups. A life needs two things on disk, a group record in the log and a mark in
 * the checkpoint, and no disk writes both at once. The mark is the later one, because a fold
 * waits for the log: with it the life begins, with a TOMBSTONE mark it ends, and
 * recovery undoes what stands halfway:
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

static void group_bury(struct group *g, uint32_t replica)
{
    slice_free(&g->descriptor);
    slice_free(&g->wipe);
    *g = (struct group){.group = g->group,
                        .replica = replica,
                        .state = CHECKPOINT_GROUP_TOMBSTONE,
                        .dirty = g->dirty};
}

/* Recovery */

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

static void group_damaged(struct store *s, struct group *g, const char *why)
{
    g->damaged = true;
    store_damage_set(s, "group %u: %s", g->group, why);
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

void store_group_damage(struct store *s, uint32_t group, const char *why)
{
    struct group *g = group_find(s, group);
    if (g == NULL || g->state == CHECKPOINT_GROUP_TOMBSTONE) return;
    group_damaged(s, g, why);
    (void)log_group_damage(s->log, group); /* if it has no room, the next reader finds the row again */
}

/* Queries */

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

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/store_impl.h"

/* The store:
 * (1) State as of now = checkpoint, shadowed by the frozen memtable, shadowed by the active one.
 *     The retired table says what the checkpoint says, and is quicker to ask.
 * (2) Both memtables hold only applied log entries; losing them loses nothing, since
 *     entries above a group's committed mark are never released from the log.
 * (3) The loop's view stands at or after the commit that dropped the last frozen table,
 *     and is renewed before a frozen table is dropped, in the same turn (R6). */
#define MEMTABLE_BYTES_DEFAULT (UINT64_C(64) << 20)
#define CHECKPOINT_LOG_DEFAULT (UINT64_C(128) << 20)
#define RESERVE_DEFAULT        (UINT64_C(64) << 20)
#define CACHE_BYTES_MAX        (UINT64_C(32) << 20)
#define CACHED_VALUE_MAX       (UINT64_C(16) << 10)

/* Jobs */

void job_begin(struct store *s, struct job *j)
{
    j->store = s;
    j->next = s->jobs;
    j->link = &s->jobs;
    if (s->jobs != NULL) s->jobs->link = &j->next;
    s->jobs = j;
    s->job_count++;
}

void job_end(struct job *j)
{
    *j->link = j->next;
    if (j->next != NULL) j->next->link = j->link;
    j->store->job_count--;
}

static void job_ran(struct disk_request *q)
{
    struct job *j = container_of(q, struct job, io);
    if (j->run != NULL) j->run(j);
}

static void job_done(struct disk_request *q, enum kv_err err)
{
    struct job *j = container_of(q, struct job, io);
    if (err != KV_OK) j->err = err;
    j->done(j);
}

void job_work(struct job *j)
{
    j->err = KV_OK;
    j->io.run = job_ran;
    j->io.done = job_done;
    j->store->o.disk->ops->work(j->store->o.disk, &j->io);
}

static void nothing(struct disk_request *q)
{
    (void)q;
}

void store_refuse(struct store *s, struct disk_request *io,
                  void (*done)(struct disk_request *q, enum kv_err err))
{
    io->run = nothing;
    io->done = done;
    s->o.disk->ops->work(s->o.disk, io);
}

/* Opening and closing */

void store_poison(struct store *s, enum kv_err err)
{
    if (s->poisoned) return;
    s->poisoned = true;
    if (s->o.poisoned != NULL) s->o.poisoned(s->o.context, err);
}

static void log_poisoned(void *context, enum kv_err err)
{
    store_poison(context, err);
}

void store_damage_set(struct store *s, const char *format, ...)
{
    if (s->damage[0] != '\0') return; /* the first is the cause */
    va_list args;
    va_start(args, format);
    vsnprintf(s->damage, sizeof s->damage, format, args);
    va_end(args);
}

static void mark_seen(void *context, const struct checkpoint_mark *m)
{
    (void)m;
    *(bool *)context = false;
}

struct leftovers {
    char (*names)[SNAPSHOT_FILE_BYTES];
    size_t count;
    bool failed;
};

static void leftover_note(void *context, const char *name, uint64_t size)
{
    (void)size;
    struct leftovers *l = context;
    size_t length = strlen(name);
    if (length < 5 || length >= SNAPSHOT_FILE_BYTES || strcmp(name + length - 5, ".snap") != 0)
        return;
    void *grown = realloc(l->names, (l->count + 1) * sizeof *l->names);
    if (grown == NULL) {
        l->failed = true;
        return;
    }
    l->names = grown;
    memcpy(l->names[l->count++], name, length + 1);
}

/* Snapshot files serve one process: a stream that was cut begins anew. */
static enum kv_err leftovers_remove(struct disk *d)
{
    struct leftovers l = {0};
    enum kv_err err = d->ops->list(d, leftover_note, &l);
    if (err == KV_OK && l.failed) err = KV_BUSY;
    for (size_t i = 0; err == KV_OK && i < l.count; i++)
        err = d->ops->remove(d, l.names[i]);
    free(l.names);
    return err;
}

static enum kv_err log_open(struct store *s)
{
    struct log_options o = s->o.log;
    o.disk = s->o.disk;
    o.store_id = s->id;
    o.poisoned = log_poisoned;
    if (o.reserve_bytes == 0) o.reserve_bytes = s->o.reserve_bytes / 4; /* of what is given back, the rest is for checkpoints */
    o.context = s;
    enum kv_err err = log_create(&o, &s->log);
    if (err != KV_OK) return err;
    err = log_recover(s->log);
    if (err != KV_CORRUPT && err != KV_VERSION) return err;
    const struct log_damage *d = log_damage(s->log);
    if (d != NULL)
        store_damage_set(s, "%s at %llu: %s", d->file, (unsigned long long)d->offset, d->what);
    else
        store_damage_set(s, "log: %s", kv_err_text(err));
    /* Damage is the groups' affair: those that may have lost something are marked and
     * neither vote nor serve, the others go on (R4). */
    return err == KV_CORRUPT ? KV_OK : err;
}

/* Short of room it stays without: starting comes first. */
static enum kv_err state_begin(struct store *s)
{
    struct checkpoint *c = s->o.checkpoint;
    struct checkpoint_mark m = {.group = CHECKPOINT_NO_GROUP, .state = CHECKPOINT_GROUP_TOMBSTONE};
    enum kv_err err = c->ops->begin(c);
    if (err == KV_OK) err = c->ops->mark(c, &m);
    if (err == KV_OK) err = c->ops->commit(c);
    if (err != KV_OK) c->ops->abort(c);
    if (err == KV_OK) return c->ops->view_renew(s->view);
    return err == KV_NO_SPACE || err == KV_TOO_BIG ? KV_OK : err;
}

static enum kv_err store_recover(struct store *s, uint64_t id_seed)
{
    struct checkpoint *c = s->o.checkpoint;
    enum kv_err err = c->ops->view_open(c, &s->view);
    if (err != KV_OK) return err;
    bool state_is_empty = true;
    err = c->ops->marks(s->view, mark_seen, &state_is_empty);
    if (err != KV_OK) {
        store_damage_set(s, "state/: %s", kv_err_text(err));
        return err;
    }
    err = identity_load(s, id_seed, state_is_empty);
    if (err == KV_OK && !s->fresh && state_is_empty) err = identity_impair(s); /* tombstones are gone with it */
    if (err == KV_OK && state_is_empty) err = state_begin(s);
    if (err == KV_OK) err = leftovers_remove(s->o.disk);
    if (err == KV_OK) err = log_open(s);
    if (err == KV_OK && log_damage(s->log) != NULL) err = identity_impair(s);
    if (err == KV_OK) err = log_start(s->log);
    if (err == KV_OK) space_open(s); /* starting comes first, also on a full disk */
    if (err == KV_OK) err = groups_recover(s);
    return err;
}

enum kv_err store_open(const struct store_options *o, uint64_t store_id_seed, uint32_t node_id,
                       struct store **out)
{
    *out = NULL;
    struct store *s = calloc(1, sizeof *s);
    if (s == NULL) return KV_BUSY;
    s->o = *o;
    if (s->o.memtable_bytes_max == 0) s->o.memtable_bytes_max = MEMTABLE_BYTES_DEFAULT;
    if (s->o.checkpoint_bytes_log == 0) s->o.checkpoint_bytes_log = CHECKPOINT_LOG_DEFAULT;
    if (s->o.reserve_bytes == 0) s->o.reserve_bytes = RESERVE_DEFAULT;
    s->node_id = node_id;
    s->waiting_end = &s->waiting;
    kv_map_init(&s->groups);
    s->active = memtable_create(s->o.memtable_bytes_max / 2);
    enum kv_err err = s->active == NULL ? KV_BUSY : store_recover(s, store_id_seed);
    *out = s; /* also on an error: it knows the damage */
    return err;
}

void store_close(struct store *s)
{
    if (s == NULL) return;
    s->o.disk->ops->drain(s->o.disk);
    if (s->log != NULL) log_destroy(s->log);
    while (s->jobs != NULL) {
        struct job *j = s->jobs;
        job_end(j);
        j->discard(j);
    }
    memtable_destroy(s->active);
    memtable_destroy(s->frozen);
    memtable_destroy(s->retired);
    if (s->view != NULL) s->o.checkpoint->ops->view_close(s->view);
    groups_free(s);
    free(s);
}

uint64_t store_id(const struct store *s)
{
    return s->id;
}

bool store_is_fresh(const struct store *s)
{
    return s->fresh;
}

const char *store_damage(const struct store *s)
{
    return s->damage[0] == '\0' ? NULL : s->damage;
}

bool store_is_idle(const struct store *s)
{
    return s->job_count == 0 && s->fold == NULL && log_bytes_undurable(s->log) == 0;
}

struct log *store_log(struct store *s)
{
    return s->log;
}

/* Appending */

enum kv_err store_append(struct store *s, struct log_append *a)
{
    if (s->poisoned) return KV_POISONED;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < a->entry_count; i++)
        bytes += a->entries[i].bytes.size;
    enum kv_err err = log_append(s->log, a);
    if (err != KV_OK) return err;
    s->stats.appends++;
    s->stats.append_bytes += bytes;
    return KV_OK;
}

void store_flush(struct store *s, bool inline_ok)
{
    fold_step(s);
    if (s->o.now_ns != NULL) space_step(s);
    if (!s->poisoned) log_flush(s->log, inline_ok);
}

/* State */

uint32_t store_hint(const struct store *s, enum store_class class, struct kv_slice key, struct kv_slice sub)
{
    return memtable_hint(s->active, class, key, sub);
}

void store_hint_row(const struct store *s, uint32_t hint)
{
    memtable_hint_row(s->active, hint);
}

void store_hint_next(const struct store *s, uint32_t hint)
{
    memtable_hint_next(s->active, hint);
}

void store_apply(struct store *s, uint32_t group, uint64_t index, uint64_t term, uint64_t clock_ms,
                 const struct store_op *ops, uint32_t op_count)
{
    struct group *g = group_find(s, group);
    assert(g != NULL && g->state == CHECKPOINT_GROUP_LIVE && !g->creating && !g->installing);
    assert(index == g->applied + 1 && term >= g->applied_term);
    bool ok = true;
    for (uint32_t i = 0; i < op_count && ok; i++) {
        const struct store_op *op = &ops[i];
        switch (op->kind) {
        case STORE_PUT: ok = memtable_put(s->active, &op->row); break;
        case STORE_DELETE: ok = memtable_delete(s->active, &op->row); break;
        case STORE_DELETE_RANGE:
            ok = memtable_delete_range(s->active, op->row.class, op->range);
            break;
        }
    }
    if (!ok) { /* half an entry is in memory: nothing may be served or checkpointed from here on */
        store_poison(s, KV_BUSY);
        return;
    }
    g->applied = index;
    g->applied_term = term;
    if (clock_ms > g->clock_ms) g->clock_ms = clock_ms;
    g->dirty = true;
}

enum kv_err store_get(struct store *s, enum store_class class, struct kv_slice key,
                      struct kv_slice sub, struct kv_slice *value)
{
    const struct memtable *tables[] = {s->active, s->frozen, s->retired};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        if (tables[i] == NULL) continue;
        switch (memtable_get(tables[i], class, key, sub, value)) {
        case MEMTABLE_VALUE: return KV_OK;
        case MEMTABLE_DELETED: return KV_NOT_FOUND;
        case MEMTABLE_NOTHING: break;
        }
    }
    if (s->view == NULL) return KV_IO; /* poisoned */
    enum kv_err err = s->o.checkpoint->ops->get(s->view, class, key, sub, value);
    if (err == KV_CORRUPT || err == KV_IO) store_poison(s, err); /* not this row alone: nothing in it is to be trusted */
    /* It says the same as the checkpoint: a row of that may join it. */
    bool joins = err == KV_OK && class == STORE_DATA && s->retired != NULL && value->size <= CACHED_VALUE_MAX;
    if (joins && memtable_bytes(s->retired) < CACHE_BYTES_MAX)
        memtable_put(s->retired, &(struct store_row){.class = class, .key = key, .sub = sub, .value = *value});
    return err;
}

/* Limits and numbers */

static uint64_t memtables_bytes(const struct store *s)
{
    return memtable_bytes(s->active) + (s->frozen == NULL ? 0 : memtable_bytes(s->frozen));
}

uint32_t store_pressure(const struct store *s)
{
    uint64_t percent = memtables_bytes(s) * 100 / s->o.memtable_bytes_max;
    return percent > UINT32_MAX ? UINT32_MAX : (uint32_t)percent;
}

bool store_is_full(const struct store *s)
{
    return s->space_low || s->retry_full || log_is_full(s->log);
}

void store_stats(const struct store *s, struct store_stats *out)
{
    *out = s->stats;
    out->memtable_bytes = memtable_bytes(s->active);
    out->frozen_bytes = s->frozen == NULL ? 0 : memtable_bytes(s->frozen);
    out->checkpoint_bytes = s->o.checkpoint->ops->bytes(s->o.checkpoint);
    out->log_bytes = log_bytes(s->log);
    out->syncs = log_syncs(s->log);
}

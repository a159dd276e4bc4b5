#include <assert.h>
#include <malloc.h>
#include <stdlib.h>

#include "client/base/mutant.h"
#include "storage/store_impl.h"
#include "storage/store_sweep.h"

/* A checkpoint, called a fold:
 *
 *   cut      at one instant for all groups: the active table is frozen, marks are copied
 *   barrier  until every entry applied so far is durable in this node's own log (R8)
 *   running  on the checkpoint thread: swept records, then group by group deleted ranges, rows in
 *            key order, and the mark. LMDB holds the dirty pages of a transaction in memory, and
 *            a table of random keys touches nearly every page; so large tables take several
 *            transactions, each with all of one or more groups. A crash in between leaves some
 *            groups further on than others, as replay knows them anyway
 *   retry    no space: the frozen table stays, and so does everything it shadows
 *
 * and back on the loop: the view is renewed, only then the table dropped (R6). Its
 * memory is given back off the loop, as unmapping takes milliseconds. */
enum fold_state { FOLD_CUT,
                  FOLD_BARRIER,
                  FOLD_RUNNING,
                  FOLD_RETRY };
enum {
    FOLD_ROWS = 8192,          /* in a transaction, before one more group may wait for the next */
    TABLE_ROWS_MAX = 128 << 10 /* each may dirty a page of 4 KiB */
};
#define FOLD_RETRY_NS UINT64_C(1000000000)
#define FOLD_TRIM_NS  UINT64_C(5000000000)

struct fold {
    struct job job;
    enum fold_state state;
    struct checkpoint *checkpoint;
    const struct memtable *table; /* the store's frozen one; NULL: only marks */
    struct fold_part {
        struct kv_slice from;        /* in `bytes`; rows up to the next part's are of this group, if of any */
        struct checkpoint_mark mark; /* its descriptor too */
    } * parts;                       /* of groups that changed, by `from` */
    uint32_t part_count;
    uint8_t *bytes;
    bool is_whole; /* parts may not be told apart: one transaction */
    struct sweep sweep;
    struct store_wait *waiters;
    struct log_append barrier;
    uint64_t started_ns, rows;
};

/* Off the loop */

struct fold_rows { /* of one class, in order */
    struct memtable_sorted *sorted;
    struct store_row row;
    bool deleted, valid;
};

static void rows_next(struct fold_rows *r)
{
    r->valid = memtable_sorted_next(r->sorted, &r->row, &r->deleted);
}

static struct kv_slice later(struct kv_slice a, struct kv_slice b)
{
    return kv_slice_cmp(a, b) >= 0 ? a : b;
}

/* Of ends, of which an empty one is the latest. */
static struct kv_slice earlier_end(struct kv_slice a, struct kv_slice b)
{
    if (a.size == 0 || b.size == 0) return a.size == 0 ? b : a;
    return kv_slice_cmp(a, b) <= 0 ? a : b;
}

static enum kv_err fold_class(struct fold *f, enum store_class class, struct kv_range part, struct fold_rows *rows)
{
    struct checkpoint *c = f->checkpoint;
    uint32_t count;
    const struct kv_range *ranges = memtable_ranges(f->table, class, &count);
    for (uint32_t i = 0; i < count; i++) { /* beneath the rows: those are newer */
        struct kv_range r = {later(ranges[i].from, part.from), earlier_end(ranges[i].to, part.to)};
        if (r.to.size != 0 && kv_slice_cmp(r.from, r.to) >= 0) continue;
        enum kv_err err = c->ops->delete_range(c, class, r);
        if (err != KV_OK) return err;
    }
    for (; rows->valid && (part.to.size == 0 || kv_slice_cmp(rows->row.key, part.to) < 0); rows_next(rows)) {
        enum kv_err err = rows->deleted ? c->ops->del(c, &rows->row) : c->ops->put(c, &rows->row);
        if (err != KV_OK) return err;
        f->rows++;
    }
    return KV_OK;
}

/* A mark and all rows of its group stand in one transaction; so do all of a fold that is whole. */
static enum kv_err fold_parts(struct fold *f, struct fold_rows *rows)
{
    struct checkpoint *c = f->checkpoint;
    uint64_t committed = 0;
    for (uint32_t i = 0; i == 0 || i < f->part_count; i++) {
        bool last = i + 1 >= f->part_count;
        struct kv_range part = {i == 0 ? kv_slice(NULL, 0) : f->parts[i].from,
                                last ? kv_slice(NULL, 0) : f->parts[i + 1].from};
        enum kv_err err = KV_OK;
        for (int k = 0; k < STORE_CLASSES && err == KV_OK && f->table != NULL; k++)
            err = fold_class(f, (enum store_class)k, part, &rows[k]);
        if (err == KV_OK && i < f->part_count) err = c->ops->mark(c, &f->parts[i].mark);
        if (err != KV_OK) return err;
        if (last || f->is_whole || f->rows - committed < FOLD_ROWS) continue;
        committed = f->rows;
        err = c->ops->commit(c);
        if (err == KV_OK) err = c->ops->begin(c);
        if (err != KV_OK) return err;
    }
    return KV_OK;
}

static void fold_run(struct job *j)
{
    struct fold *f = container_of(j, struct fold, job);
    struct checkpoint *c = f->checkpoint;
    struct fold_rows rows[STORE_CLASSES] = {{.valid = false}};
    f->rows = 0;
    enum kv_err err = KV_OK;
    for (int k = 0; k < STORE_CLASSES && err == KV_OK && f->table != NULL; k++) {
        rows[k].sorted = memtable_sorted_create(f->table, (enum store_class)k);
        if (rows[k].sorted == NULL) err = KV_BUSY;
        else rows_next(&rows[k]);
    }
    if (err == KV_OK) err = c->ops->begin(c);
    if (err == KV_OK) err = sweep_run(&f->sweep, c);
    if (err == KV_OK) err = fold_parts(f, rows);
    if (err == KV_OK) err = c->ops->commit(c);
    if (err != KV_OK) c->ops->abort(c);
    for (int k = 0; k < STORE_CLASSES; k++) memtable_sorted_destroy(rows[k].sorted);
    j->err = err;
}

/* Once writes have become rare, the memory of the checkpoints behind goes back too. While they
 * keep coming it would only have to be fetched again. */

static void trim_run(struct job *j)
{
    (void)j;
    malloc_trim(0);
}

static void trim_discard(struct job *j)
{
    free(j);
}

static void trim_done(struct job *j)
{
    job_end(j);
    free(j);
}

static void fold_trim(struct store *s)
{
    if (s->trim_ns == 0 || store_now(s) < s->trim_ns || s->job_count > 0) return;
    struct job *j = calloc(1, sizeof *j);
    if (j == NULL) return;
    s->trim_ns = 0;
    const struct checkpoint_ops *ops = s->o.checkpoint->ops;
    ops->view_close(s->view);
    s->view = NULL;
    enum kv_err err = ops->trim(s->o.checkpoint);
    if (err == KV_OK) err = ops->view_open(s->o.checkpoint, &s->view);
    if (err != KV_OK) store_poison(s, err);
    /* Only now is free what is to go back: asked before, malloc would find nothing. */
    *j = (struct job){.run = trim_run, .done = trim_done, .discard = trim_discard};
    job_begin(s, j);
    job_work(j);
}

/* On the loop again */

static void waiters_finish(struct store_wait *w, enum kv_err err)
{
    for (struct store_wait *next; w != NULL; w = next) {
        next = w->next;
        if (w->done != NULL) w->done(w, err);
    }
}

static void fold_discard(struct job *j)
{
    struct fold *f = container_of(j, struct fold, job);
    sweep_free(&f->sweep, f->checkpoint);
    free(f->parts);
    free(f->bytes);
    free(f);
}

static void fold_finish(struct fold *f)
{
    struct store *s = f->job.store;
    enum kv_err err = s->o.checkpoint->ops->view_renew(s->view);
    if (err != KV_OK) {
        f->state = FOLD_RETRY;
        store_poison(s, err);
        return;
    }
    if (f->table != NULL) {           /* still what the checkpoint says of its keys */
        memtable_destroy(s->retired); /* left over where it was not needed for the active one */
        s->retired = s->frozen;
        s->frozen = NULL;
        memtable_thaw(s->retired);
    }
    for (uint32_t i = 0; i < f->part_count; i++)
        group_checkpointed(s, &f->parts[i].mark);
    s->sweep = f->sweep.at;
    s->retry_full = false;
    s->stats.checkpoints++;
    s->stats.checkpoint_ns_last = store_now(s) - f->started_ns;
    s->stats.rows_folded += f->rows;
    s->trim_ns = store_now(s) + FOLD_TRIM_NS;
    struct store_wait *waiters = f->waiters;
    s->fold = NULL;
    job_end(&f->job);
    fold_discard(&f->job);
    waiters_finish(waiters, KV_OK);
}

static void fold_done(struct job *j)
{
    struct fold *f = container_of(j, struct fold, job);
    struct store *s = j->store;
    assert(f == s->fold && f->state == FOLD_RUNNING);
    if (j->err == KV_OK) {
        fold_finish(f);
        return;
    }
    f->state = FOLD_RETRY;
    sweep_free(&f->sweep, f->checkpoint); /* a view held for long keeps old pages from reuse */
    if (j->err == KV_NO_SPACE || j->err == KV_TOO_BIG || j->err == KV_BUSY) {
        s->retry_full = j->err != KV_BUSY;
        s->retry_ns = store_now(s) + FOLD_RETRY_NS;
    } else {
        store_poison(s, j->err);
    }
}

/* Starting */

static bool fold_wanted(const struct store *s)
{
    if (s->fold_asked) return true;
    if (memtable_bytes(s->active) >= s->o.memtable_bytes_max / 2) return true;
    if (memtable_rows(s->active, STORE_DATA) >= TABLE_ROWS_MAX) return true;
    uint64_t appended = s->stats.append_bytes - s->log_bytes_cut;
    if (appended == 0) return false;
    if (log_is_full(s->log)) return store_now(s) >= s->retry_ns;
    return appended >= s->o.checkpoint_bytes_log / 2 &&
           log_bytes_live(s->log) >= s->o.checkpoint_bytes_log;
}

static int part_cmp(const void *a, const void *b)
{
    const struct fold_part *x = a, *y = b;
    return kv_slice_cmp(x->from, y->from);
}

static struct kv_slice bytes_copy(uint8_t **at, struct kv_slice from)
{
    struct kv_slice to = kv_slice(*at, from.size);
    if (from.size > 0) memcpy(*at, from.data, from.size);
    *at += from.size;
    return to;
}

static bool parts_copy(struct fold *f, const struct store *s)
{
    size_t size = 0, count = 0;
    for (uint32_t i = 0; i < s->group_count; i++) {
        if (!s->ordered[i]->dirty) continue;
        count++;
        size += group_mark(s->ordered[i]).descriptor.size + s->ordered[i]->from.size;
    }
    f->parts = calloc(count + 1, sizeof *f->parts);
    f->bytes = malloc(size + 1);
    if (f->parts == NULL || f->bytes == NULL) return false;
    uint8_t *at = f->bytes;
    for (uint32_t i = 0; i < s->group_count; i++) {
        const struct group *g = s->ordered[i];
        if (!g->dirty) continue;
        struct fold_part *p = &f->parts[f->part_count++];
        /* A group on its way in or out deletes a range that is not, or no longer, its own. */
        bool owns = g->state == CHECKPOINT_GROUP_LIVE && g->has_range;
        f->is_whole |= !owns || g->newborn; /* with its parent's mark, or the entry that it was born by is lost */
        p->mark = group_mark(g);
        p->mark.descriptor = bytes_copy(&at, p->mark.descriptor);
        if (owns) p->from = bytes_copy(&at, kv_key_slice(&g->from));
    }
    qsort(f->parts, f->part_count, sizeof *f->parts, part_cmp);
    return true;
}

/* Short of memory nothing changes, and the next flush tries again. */
void fold_cut(struct store *s)
{
    struct fold *f = calloc(1, sizeof *f);
    if (f == NULL) return;
    struct memtable *fresh = NULL;
    bool has_table = !memtable_is_empty(s->active);
    if (has_table && s->retired == NULL) fresh = memtable_create(s->o.memtable_bytes_max / 2);
    if ((has_table && s->retired == NULL && fresh == NULL) || !parts_copy(f, s)) {
        memtable_destroy(fresh);
        free(f->parts);
        free(f->bytes);
        free(f);
        return;
    }
    for (uint32_t i = 0; i < s->group_count; i++)
        s->ordered[i]->dirty = false;
    f->job = (struct job){.run = fold_run, .done = fold_done, .discard = fold_discard};
    f->checkpoint = s->o.checkpoint;
    f->started_ns = store_now(s);
    uint64_t dedup_rows = 0;
    if (has_table) {
        assert(s->frozen == NULL);
        if (fresh == NULL) { /* its pages are warm, and need no zeroing */
            fresh = s->retired;
            s->retired = NULL;
            memtable_reset(fresh, (size_t)s->o.memtable_bytes_max / 2);
        }
        memtable_succeed(fresh, s->active);
        memtable_freeze(s->active);
        dedup_rows = memtable_rows(s->active, STORE_DEDUP);
        f->table = s->frozen = s->active;
        s->active = fresh;
    }
    sweep_prepare(&f->sweep, s, dedup_rows);
    f->waiters = s->waiting;
    s->waiting = NULL;
    s->waiting_end = &s->waiting;
    s->fold_asked = false;
    s->log_bytes_cut = s->stats.append_bytes;
    s->fold = f;
    job_begin(s, &f->job);
}

static void fold_start(struct fold *f)
{
    f->state = FOLD_RUNNING;
    job_work(&f->job);
}

static void barrier_done(struct log_append *a, enum kv_err err)
{
    struct fold *f = container_of(a, struct fold, barrier);
    assert(f->state == FOLD_BARRIER);
    f->state = FOLD_CUT;
    if (err == KV_OK) fold_start(f); /* else poisoned: fold_step() tells the waiters */
}

/* Batches become durable in order, so any record behind the cut will do: a group's hard state
 * as it stands. If the log takes none, the turn in which nothing is undurable comes. */
static void fold_barrier(struct store *s, struct fold *f)
{
    if (log_bytes_undurable(s->log) == 0 || MUTANT(checkpoint_ahead_of_log)) {
        fold_start(f);
        return;
    }
    struct log_group lg;
    uint32_t cursor = 0, group;
    if (!log_group_next(s->log, &cursor, &group) || !log_group_get(s->log, group, &lg)) return;
    f->barrier = (struct log_append){.done = barrier_done,
                                     .group = group,
                                     .hard_changed = true,
                                     .term = lg.term,
                                     .vote = lg.vote,
                                     .commit = lg.commit};
    f->state = FOLD_BARRIER;
    if (log_append(s->log, &f->barrier) != KV_OK) f->state = FOLD_CUT;
}

/* A cache is the first to go when writes need the memory. */
static void retired_bound(struct store *s)
{
    if (s->retired == NULL) return;
    uint64_t held = memtable_bytes_mapped(s->active) + memtable_bytes_mapped(s->frozen) + memtable_bytes_mapped(s->retired);
    if (held <= s->o.memtable_bytes_max + s->o.memtable_bytes_max / 8) return;
    memtable_destroy(s->retired);
    s->retired = NULL;
}

void fold_step(struct store *s)
{
    struct fold *f = s->fold;
    if (s->poisoned) {
        struct store_wait *waiting = s->waiting;
        s->waiting = NULL;
        s->waiting_end = &s->waiting;
        waiters_finish(waiting, KV_POISONED);
        if (f != NULL && f->state != FOLD_RUNNING) { /* it never will */
            waiting = f->waiters;
            f->waiters = NULL;
            waiters_finish(waiting, KV_POISONED);
        }
        return;
    }
    retired_bound(s);
    if (f == NULL && fold_wanted(s)) fold_cut(s);
    f = s->fold;
    if (f == NULL) {
        fold_trim(s);
        return;
    }
    switch (f->state) {
    case FOLD_CUT: fold_barrier(s, f); break;
    case FOLD_RETRY:
        if (store_now(s) >= s->retry_ns) fold_start(f);
        break;
    case FOLD_BARRIER:
    case FOLD_RUNNING: break;
    }
}

void store_checkpoint(struct store *s, struct store_wait *w)
{
    s->fold_asked = true;
    if (w == NULL) return;
    w->next = NULL;
    *s->waiting_end = w;
    s->waiting_end = &w->next;
}

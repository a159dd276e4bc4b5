#include <assert.h>
#include <stdlib.h>

#include "client/base/mutant.h"
#include "storage/snapshot_file.h"
#include "storage/store_impl.h"

/* An install, in order; a crash between any two steps is found by groups_recover():
 *
 *   check   the whole file is read and judged; nothing has changed yet
 *   mark    the range is deleted in the memtable and the group marked INSTALLING, both
 *           with one ordinary checkpoint: from then on neither table holds a row of it
 *   write   rows go into the checkpoint, a few MiB per transaction, others take turns
 *   done    the last transaction also sets the LIVE mark at the snapshot's index
 *   log     is reset behind it; term and vote stay (R11)
 *
 * The group's own log up to the index is given up: those entries are committed by a quorum without
 * it, or it would not be sent a snapshot of them. From the mark on it votes by the snapshot, and not by
 * what log is left: a member of an older configuration may lack what it had acknowledged. */
enum { STEP_BYTES = 4 << 20 };
enum install_phase { INSTALL_CHECK,
                     INSTALL_WRITE,
                     INSTALL_DONE };

struct install {
    struct job job;
    struct store_wait wait;
    struct log_append append;
    struct store_install *user;
    struct disk *disk;
    struct checkpoint *checkpoint;
    enum install_phase phase;
    uint32_t group, replica;
    struct kv_range range;
    uint32_t range_epoch;
    struct snapshot_reader reader;
    bool reading, at_end;
    struct checkpoint_mark mark; /* as read; descriptor owned */
};

/* Off the loop */

static bool install_is_as_announced(const struct install *i)
{
    const struct store_snapshot *said = &i->user->snapshot;
    uint64_t bytes, checksum;
    snapshot_totals(&i->reader, &bytes, &checksum);
    return bytes == said->bytes && checksum == said->checksum;
}

static bool header_is_as_announced(const struct install *i)
{
    const struct store_snapshot *said = &i->user->snapshot;
    const struct checkpoint_mark *m = &i->reader.mark;
    return m->group == i->group && m->index == said->index && m->term == said->term &&
           kv_slice_eq(i->reader.range.from, i->range.from) &&
           kv_slice_eq(i->reader.range.to, i->range.to);
}

static enum kv_err install_open(struct install *i)
{
    i->reading = true;
    enum kv_err err = snapshot_open(&i->reader, i->disk, i->user->snapshot.file);
    if (err != KV_OK) return err;
    return header_is_as_announced(i) ? KV_OK : KV_CORRUPT;
}

static enum kv_err install_check(struct install *i)
{
    if (!i->reading) {
        enum kv_err err = install_open(i);
        if (err != KV_OK) return err;
        i->mark = i->reader.mark;
        i->mark.descriptor = kv_slice(NULL, 0);
        if (!slice_dup(i->reader.mark.descriptor, &i->mark.descriptor)) return KV_BUSY;
    }
    struct store_row row;
    uint64_t until = i->reader.offset + STEP_BYTES;
    while (i->reader.offset < until) {
        enum kv_err err = snapshot_next(&i->reader, &row);
        if (err == KV_NOT_FOUND) {
            i->at_end = true;
            return install_is_as_announced(i) ? KV_OK : KV_CORRUPT;
        }
        if (err != KV_OK) return err;
    }
    return KV_OK;
}

static enum kv_err install_rows(struct install *i)
{
    struct checkpoint *c = i->checkpoint;
    struct store_row row;
    uint64_t until = i->reader.offset + STEP_BYTES;
    while (i->reader.offset < until) {
        enum kv_err err = snapshot_next(&i->reader, &row);
        if (err == KV_NOT_FOUND) {
            if (!install_is_as_announced(i)) return KV_CORRUPT; /* it was, a moment ago */
            i->at_end = true;
            i->mark.replica = i->replica;
            i->mark.state = CHECKPOINT_GROUP_LIVE;
            return c->ops->mark(c, &i->mark);
        }
        if (err == KV_OK) err = c->ops->put(c, &row);
        if (err != KV_OK) return err;
    }
    return KV_OK;
}

static enum kv_err install_write(struct install *i)
{
    struct checkpoint *c = i->checkpoint;
    enum kv_err err = i->reading ? KV_OK : install_open(i);
    if (err == KV_OK) err = c->ops->begin(c);
    if (err != KV_OK) return err;
    err = install_rows(i);
    if (err == KV_OK) err = c->ops->commit(c);
    if (err != KV_OK) c->ops->abort(c);
    return err;
}

static void install_run(struct job *j)
{
    struct install *i = container_of(j, struct install, job);
    switch (i->phase) {
    case INSTALL_CHECK: j->err = install_check(i); break;
    case INSTALL_WRITE: j->err = install_write(i); break;
    case INSTALL_DONE: break;
    }
}

/* On the loop */

static void install_discard(struct job *j)
{
    struct install *i = container_of(j, struct install, job);
    if (i->reading) snapshot_finish(&i->reader);
    slice_free(&i->mark.descriptor);
    free(i);
}

static void install_finish(struct install *i, enum kv_err err)
{
    struct store_install *user = i->user;
    struct store *s = i->job.store;
    struct group *g = group_find(s, i->group);
    if (g != NULL) g->installing = false;
    if (err == KV_IO) store_poison(s, err);
    job_end(&i->job);
    install_discard(&i->job);
    user->done(user, err);
}

static void install_marked(struct store_wait *w, enum kv_err err)
{
    struct install *i = container_of(w, struct install, wait);
    if (err != KV_OK) {
        install_finish(i, err);
        return;
    }
    i->phase = INSTALL_WRITE;
    job_work(&i->job);
}

static void install_written(struct install *i);

static void install_kept(struct store_wait *w, enum kv_err err)
{
    struct install *i = container_of(w, struct install, wait);
    if (err != KV_OK) install_finish(i, err);
    else install_written(i);
}

/* One mark instead of another, and rows that are those of both: a checkpoint like any other. */
static void install_keep(struct install *i)
{
    struct store *s = i->job.store;
    struct group *g = group_find(s, i->group);
    snapshot_finish(&i->reader);
    i->reading = i->at_end = false;
    if (!group_descriptor_set(g, i->mark.descriptor)) {
        store_poison(s, KV_BUSY);
        install_finish(i, KV_POISONED);
        return;
    }
    g->applied = i->mark.index;
    g->applied_term = i->mark.term;
    if (i->mark.clock_ms > g->clock_ms) g->clock_ms = i->mark.clock_ms;
    g->dirty = true;
    i->wait.done = install_kept;
    store_checkpoint(s, &i->wait);
}

/* The file is good: from here on there is no way back. */
static void install_mark(struct install *i)
{
    struct store *s = i->job.store;
    struct group *g = group_find(s, i->group);
    snapshot_finish(&i->reader);
    i->reading = i->at_end = false;
    bool ok = install_mark_write(i->range, g->descriptor, &g->wipe);
    if (ok) store_evict(s, i->range, i->range_epoch, i->group);
    for (int k = 0; k < STORE_CLASSES && ok && !MUTANT(install_over_old_rows); k++)
        ok = memtable_delete_range(s->active, (enum store_class)k, i->range);
    if (!ok || s->poisoned) { /* some of the rows may be gone: no more may be said about them */
        store_poison(s, KV_BUSY);
        install_finish(i, KV_POISONED);
        return;
    }
    g->state = CHECKPOINT_GROUP_INSTALLING;
    g->applied = g->applied_term = g->checkpointed = 0;
    g->owed_index = i->mark.index;
    g->owed_term = i->mark.term;
    g->dirty = true;
    i->wait.done = install_marked;
    store_checkpoint(s, &i->wait);
}

static void install_logged(struct log_append *a, enum kv_err err)
{
    struct install *i = container_of(a, struct install, append);
    struct group *g = group_find(i->job.store, i->group);
    if (err == KV_OK) {
        g->state = CHECKPOINT_GROUP_LIVE;
        g->applied = g->checkpointed = i->mark.index;
        g->applied_term = i->mark.term;
        g->clock_ms = g->checkpointed_clock_ms = i->mark.clock_ms;
        g->released = g->owed_index = g->owed_term = 0;
        slice_free(&g->wipe);
    }
    install_finish(i, err);
}

static void install_written(struct install *i)
{
    struct store *s = i->job.store;
    struct group *g = group_find(s, i->group);
    enum kv_err err = s->o.checkpoint->ops->view_renew(s->view);
    if (err != KV_OK || !group_descriptor_set(g, i->mark.descriptor)) {
        store_poison(s, err == KV_OK ? KV_BUSY : err);
        install_finish(i, KV_POISONED);
        return;
    }
    if (s->retired != NULL) memtable_reset(s->retired, 0); /* it still says that the range is empty */
    i->phase = INSTALL_DONE;
    i->append = (struct log_append){.done = install_logged, .group = i->group};
    err = log_reset(s->log, i->group, i->mark.index, i->mark.term, &i->append);
    if (err != KV_OK) install_finish(i, err);
}

static void install_done(struct job *j)
{
    struct install *i = container_of(j, struct install, job);
    if (j->err != KV_OK)
        install_finish(i, j->err);
    else if (!i->at_end)
        job_work(j);
    else if (i->phase == INSTALL_CHECK && i->user->keep_rows)
        install_keep(i);
    else if (i->phase == INSTALL_CHECK)
        install_mark(i);
    else
        install_written(i);
}

/* Answers that are known at once, but may not come inside the call. */

static void refuse_missing(struct disk_request *q, enum kv_err err)
{
    struct store_install *user = container_of(q, struct store_install, io);
    user->done(user, err == KV_OK ? KV_NOT_FOUND : err);
}
static void refuse_conflict(struct disk_request *q, enum kv_err err)
{
    struct store_install *user = container_of(q, struct store_install, io);
    user->done(user, err == KV_OK ? KV_CONFLICT : err);
}
static void refuse_busy(struct disk_request *q, enum kv_err err)
{
    struct store_install *user = container_of(q, struct store_install, io);
    user->done(user, err == KV_OK ? KV_BUSY : err);
}

static void refuse_poisoned(struct disk_request *q, enum kv_err err)
{
    struct store_install *user = container_of(q, struct store_install, io);
    user->done(user, err == KV_OK ? KV_POISONED : err);
}

void store_install(struct store *s, struct store_install *user)
{
    struct group *g = group_find(s, user->group);
    struct install *i = NULL;
    void (*refuse)(struct disk_request * q, enum kv_err err) = NULL;
    if (s->poisoned)
        refuse = refuse_poisoned;
    else if (g == NULL || g->creating || g->damaged || g->state == CHECKPOINT_GROUP_TOMBSTONE)
        refuse = refuse_missing;
    else if (!g->installing && user->snapshot.index <= g->applied)
        refuse = refuse_conflict;
    else if (g->installing || (i = calloc(1, sizeof *i)) == NULL)
        refuse = refuse_busy;
    if (refuse != NULL) {
        store_refuse(s, &user->io, refuse);
        return;
    }
    i->job = (struct job){.run = install_run, .done = install_done, .discard = install_discard};
    i->user = user;
    i->disk = s->o.disk;
    i->checkpoint = s->o.checkpoint;
    i->group = user->group;
    i->replica = g->replica;
    i->range = user->range;
    i->range_epoch = user->range_epoch;
    g->installing = true;
    job_begin(s, &i->job);
    job_work(&i->job);
}

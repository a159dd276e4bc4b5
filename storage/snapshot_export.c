#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/base/mutant.h"
#include "storage/command.h"
#include "storage/snapshot_file.h"
#include "storage/store_impl.h"
#include "storage/value.h"

/* Exports copy one view into one file, in steps, so that checkpoints and scans get their turns
 * on the checkpoint thread. The view keeps the pages it reads from being reused, but
 * nothing waits for it. */
enum { STEP_BYTES = 4 << 20 };

struct outgoing {
    struct job job;
    struct store_wait wait;
    struct store_export *user;
    struct disk *disk;
    struct checkpoint *checkpoint;
    struct checkpoint_view *view;
    struct checkpoint_cursor *cursor; /* of `class`; NULL: not yet sought */
    enum store_class class;
    uint32_t group;
    struct kv_key from, to; /* as of the mark: by now the group may have been split */
    char file[SNAPSHOT_FILE_BYTES];
    struct snapshot_writer writer;
    bool begun, sealed, found, rotten;
    struct checkpoint_mark mark;   /* descriptor owned */
    enum kv_err mark_err, refused; /* refused: known before the work began, told after it */
    uint64_t bytes, checksum;
};

static void export_mark(void *context, const struct checkpoint_mark *m)
{
    struct outgoing *e = context;
    if (m->group != e->group || m->state != CHECKPOINT_GROUP_LIVE) return;
    e->found = true;
    e->mark = *m;
    e->mark.descriptor = kv_slice(NULL, 0);
    if (!slice_dup(m->descriptor, &e->mark.descriptor)) e->mark_err = KV_BUSY;
}

static struct kv_range export_range(const struct outgoing *e)
{
    return (struct kv_range){kv_key_slice(&e->from), kv_key_slice(&e->to)};
}

static enum kv_err export_begin(struct outgoing *e)
{
    enum kv_err err = e->checkpoint->ops->marks(e->view, export_mark, e);
    if (err != KV_OK) return err;
    if (!e->found) return KV_NOT_FOUND;
    if (e->mark_err != KV_OK) return e->mark_err;
    struct descriptor d;
    err = descriptor_decode(e->mark.descriptor, &d);
    if (err != KV_OK) return err;
    e->from = d.from;
    e->to = d.to;
    if (MUTANT(snapshot_wrong_index)) e->mark.index++;
    e->begun = true;
    return snapshot_begin(&e->writer, e->disk, e->file, &e->mark, export_range(e));
}

/* One row, or the step to the next class. KV_NOT_FOUND: all classes are through. */
static enum kv_err export_row(struct outgoing *e)
{
    const struct checkpoint_ops *ops = e->checkpoint->ops;
    if (e->class == STORE_CLASSES) return KV_NOT_FOUND;
    enum kv_err err;
    if (e->cursor == NULL) {
        err = ops->seek(e->view, e->class, export_range(e).from, &e->cursor);
        if (err != KV_OK) return err;
    }
    struct store_row row;
    struct value v;
    err = ops->next(e->cursor, &row);
    if (err == KV_OK && kv_range_has(export_range(e), row.key)) {
        e->rotten = row.class == STORE_DATA && value_read(row.key, row.value, &v) != KV_OK;
        if (e->rotten) return KV_CORRUPT; /* R21: bit rot is not passed on */
        return snapshot_put(&e->writer, &row);
    }
    if (err != KV_OK && err != KV_NOT_FOUND) return err;
    ops->close(e->cursor);
    e->cursor = NULL;
    e->class = (enum store_class)(e->class + 1);
    return KV_OK;
}

static void export_run(struct job *j)
{
    struct outgoing *e = container_of(j, struct outgoing, job);
    if (e->refused != KV_OK) {
        j->err = e->refused;
        return;
    }
    if (!e->begun) {
        j->err = export_begin(e);
        if (j->err != KV_OK) return;
    }
    uint64_t until = e->writer.offset + STEP_BYTES;
    while (j->err == KV_OK && e->writer.offset < until)
        j->err = export_row(e);
    if (j->err == KV_NOT_FOUND) {
        j->err = snapshot_seal(&e->writer, &e->bytes, &e->checksum);
        e->sealed = j->err == KV_OK;
    }
}

static void export_discard(struct job *j)
{
    struct outgoing *e = container_of(j, struct outgoing, job);
    if (e->cursor != NULL) e->checkpoint->ops->close(e->cursor);
    if (e->view != NULL) e->checkpoint->ops->view_close(e->view);
    if (e->begun) snapshot_close(&e->writer);
    slice_free(&e->mark.descriptor);
    free(e);
}

static void export_finish(struct outgoing *e, enum kv_err err)
{
    struct store *s = e->job.store;
    struct store_export *user = e->user;
    if (err == KV_OK) {
        user->out = (struct store_snapshot){
            .index = e->mark.index,
            .term = e->mark.term,
            .clock_ms = e->mark.clock_ms,
            .descriptor = e->mark.descriptor,
            .bytes = e->bytes,
            .checksum = e->checksum,
        };
        memcpy(user->out.file, e->file, sizeof user->out.file);
        e->mark.descriptor = kv_slice(NULL, 0); /* now the user's */
    } else if (e->begun) {
        store_file_remove(s, e->file);
    }
    if (err == KV_CORRUPT && !e->rotten) store_poison(s, err); /* pages, not a row */
    job_end(&e->job);
    export_discard(&e->job);
    user->done(user, err);
}

static void export_done(struct job *j)
{
    struct outgoing *e = container_of(j, struct outgoing, job);
    if (j->err == KV_OK && !e->sealed)
        job_work(j);
    else
        export_finish(e, j->err);
}

static void export_go(struct store_wait *w, enum kv_err err)
{
    struct outgoing *e = container_of(w, struct outgoing, wait);
    e->refused = err == KV_OK ? e->checkpoint->ops->view_open(e->checkpoint, &e->view) : err;
    job_work(&e->job);
}

static void export_refused(struct disk_request *q, enum kv_err err)
{
    struct store_export *user = container_of(q, struct store_export, io);
    user->done(user, err == KV_OK ? KV_BUSY : err);
}

static void export_missing(struct disk_request *q, enum kv_err err)
{
    struct store_export *user = container_of(q, struct store_export, io);
    user->done(user, err == KV_OK ? KV_NOT_FOUND : err);
}

void store_export(struct store *s, struct store_export *user)
{
    user->out = (struct store_snapshot){0};
    struct group *g = group_find(s, user->group);
    if (g == NULL || g->state != CHECKPOINT_GROUP_LIVE || g->creating || g->damaged ||
        g->applied == 0) {
        store_refuse(s, &user->io, export_missing);
        return;
    }
    struct outgoing *e = calloc(1, sizeof *e);
    if (e == NULL) {
        store_refuse(s, &user->io, export_refused);
        return;
    }
    e->job = (struct job){.run = export_run, .done = export_done, .discard = export_discard};
    e->wait.done = export_go;
    e->user = user;
    e->disk = s->o.disk;
    e->checkpoint = s->o.checkpoint;
    e->group = user->group;
    snprintf(e->file, sizeof e->file, "export-%u-%llu.snap", user->group,
             (unsigned long long)++s->names);
    job_begin(s, &e->job);
    if (g->checkpointed > 0)
        export_go(&e->wait, KV_OK);
    else
        store_checkpoint(s, &e->wait); /* a group so young has nothing to send yet */
}

void store_export_free(struct store *s, struct store_export *user)
{
    if (user->out.file[0] != '\0') store_file_remove(s, user->out.file);
    slice_free(&user->out.descriptor);
    user->out = (struct store_snapshot){0};
}

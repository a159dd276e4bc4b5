#include <stdlib.h>

#include "client/base/hash.h"
#include "storage/store_impl.h"
#include "storage/value.h"

/* The hash of a group's rows at one applied index, for the scrub (R21). A checkpoint is cut at the
 * call, and a view opened in the turn in which it commits: before any later one can. Idempotency
 * records are left out, each replica sweeps them in its own time. */
enum { STEP_BYTES = 4 << 20 };

struct hashing {
    struct job job;
    struct store_wait wait;
    struct store_hash *user;
    struct checkpoint *checkpoint;
    struct checkpoint_view *view;
    struct checkpoint_cursor *cursor;
    enum store_class class;
    uint64_t index; /* of the mark that the view has */
    enum kv_err refused;
    bool rotten, at_end;
};

/* Off the loop */

static void mark_find(void *context, const struct checkpoint_mark *m)
{
    struct hashing *h = context;
    if (m->group == h->user->group && m->state == CHECKPOINT_GROUP_LIVE) h->index = m->index;
}

/* One row, or the step to the next class. */
static enum kv_err hash_row(struct hashing *h, uint64_t *bytes)
{
    const struct checkpoint_ops *ops = h->checkpoint->ops;
    struct store_hash *user = h->user;
    struct store_row row;
    struct value v;
    enum kv_err err = h->cursor != NULL ? KV_OK : ops->seek(h->view, h->class, user->range.from, &h->cursor);
    if (err == KV_OK) err = ops->next(h->cursor, &row);
    if (err == KV_OK && kv_range_has(user->range, row.key)) {
        h->rotten = row.class == STORE_DATA && value_read(row.key, row.value, &v) != KV_OK;
        if (h->rotten) return KV_CORRUPT;
        user->hash = kv_hash64(row.value, kv_hash64(row.key, user->hash + (uint64_t)row.class));
        user->rows++;
        *bytes += row.key.size + row.value.size;
        return KV_OK;
    }
    if (err != KV_OK && err != KV_NOT_FOUND) return err;
    ops->close(h->cursor);
    h->cursor = NULL;
    h->at_end = h->class == STORE_LOCKS;
    h->class = STORE_LOCKS;
    return KV_OK;
}

static void hash_run(struct job *j)
{
    struct hashing *h = container_of(j, struct hashing, job);
    uint64_t bytes = 0;
    j->err = h->refused;
    if (j->err == KV_OK && h->index == 0) {
        j->err = h->checkpoint->ops->marks(h->view, mark_find, h);
        if (j->err == KV_OK && h->index != h->user->index) j->err = KV_BUSY; /* another checkpoint came first */
    }
    while (j->err == KV_OK && !h->at_end && bytes < STEP_BYTES) j->err = hash_row(h, &bytes);
}

/* On the loop */

static void hash_discard(struct job *j)
{
    struct hashing *h = container_of(j, struct hashing, job);
    if (h->cursor != NULL) h->checkpoint->ops->close(h->cursor);
    if (h->view != NULL) h->checkpoint->ops->view_close(h->view);
    free(h);
}

static void hash_done(struct job *j)
{
    struct hashing *h = container_of(j, struct hashing, job);
    struct store_hash *user = h->user;
    enum kv_err err = j->err;
    if (err == KV_OK && !h->at_end) {
        job_work(j);
        return;
    }
    if (err == KV_IO || (err == KV_CORRUPT && !h->rotten)) store_poison(j->store, err);
    job_end(j);
    hash_discard(j);
    user->done(user, err);
}

static void hash_go(struct store_wait *w, enum kv_err err)
{
    struct hashing *h = container_of(w, struct hashing, wait);
    h->refused = err == KV_OK ? h->checkpoint->ops->view_open(h->checkpoint, &h->view) : err;
    job_work(&h->job);
}

enum kv_err store_hash(struct store *s, struct store_hash *user)
{
    const struct group *g = group_find(s, user->group);
    if (s->poisoned) return KV_POISONED;
    if (g == NULL || g->state != CHECKPOINT_GROUP_LIVE || g->creating || g->damaged || g->installing) return KV_NOT_FOUND;
    if (s->fold != NULL) return KV_BUSY;
    struct hashing *h = calloc(1, sizeof *h);
    if (h == NULL) return KV_BUSY;
    h->job = (struct job){.run = hash_run, .done = hash_done, .discard = hash_discard};
    h->wait.done = hash_go;
    h->user = user;
    h->checkpoint = s->o.checkpoint;
    h->class = STORE_DATA;
    user->index = g->applied;
    user->hash = user->rows = 0;
    job_begin(s, &h->job);
    store_checkpoint(s, &h->wait);
    fold_cut(s); /* now, not at the flush: more entries may be applied in this turn */
    return KV_OK;
}

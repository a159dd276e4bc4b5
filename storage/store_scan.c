#include <assert.h>
#include <stdlib.h>

#include "client/base/arena.h"
#include "storage/store_impl.h"
#include "storage/value.h"

/* A scan of one instant (R6). On the loop, the part of it that stands in the memtables is
 * copied: rows in order, the active table's over the frozen one's, as many values as the
 * budget can use, but every deletion up to there. The view opened in the same turn is the
 * rest of that instant; it may already hold what the frozen table holds, which then
 * shadows itself. Off the loop the two are merged. */
struct scan_row {
    struct store_row row;
    bool deleted;
};

struct scan {
    struct job job;
    struct store_scan *user;
    struct checkpoint *checkpoint;
    struct checkpoint_view *view;
    enum store_class class;
    struct kv_range range;
    uint32_t rows_max;
    size_t bytes_max, value_max;
    struct kv_arena copies; /* of the memtables; dies with the scan */
    struct scan_row *rows;
    size_t row_count, row_room;
    bool cut_off;               /* the tables hold more behind rows[row_count - 1] */
    struct kv_range *ranges[2]; /* deleted ones, of active and frozen table */
    uint32_t range_counts[2];
    struct scan_out *out;
    enum kv_err refused; /* known before the work began, told after it */
};
struct scan_out { /* what store_scan.memory points to */
    struct kv_arena arena;
    struct store_row *rows;
    uint32_t count, room;
    size_t bytes;
    bool more;
};

static size_t row_bytes(const struct store_row *r)
{
    return r->key.size + r->sub.size + r->value.size;
}

static bool slice_copy(struct kv_arena *a, struct kv_slice *s)
{
    *s = kv_arena_copy(a, *s);
    return s->data != NULL;
}

static bool row_copy(struct kv_arena *a, struct store_row *r)
{
    return slice_copy(a, &r->key) && slice_copy(a, &r->sub) && slice_copy(a, &r->value);
}

/* On the loop */

struct table_part { /* a table, read in order */
    struct memtable_cursor cursor;
    struct store_row row;
    bool deleted, valid;
};

static void part_next(struct table_part *p, const struct scan *s)
{
    p->valid =
        memtable_next(&p->cursor, &p->row, &p->deleted) && kv_range_has(s->range, p->row.key);
}

static bool part_begin(struct table_part *p, struct scan *s, struct memtable *t, int which)
{
    *p = (struct table_part){0};
    if (t == NULL) return true;
    if (!memtable_seek(t, s->class, s->range.from, &p->cursor)) return false;
    part_next(p, s);
    uint32_t count;
    const struct kv_range *ranges = memtable_ranges(t, s->class, &count);
    if (count == 0) return true;
    s->ranges[which] = kv_arena_alloc(&s->copies, count * sizeof *ranges);
    if (s->ranges[which] == NULL) return false;
    for (uint32_t i = 0; i < count; i++) {
        struct kv_range *r = &s->ranges[which][s->range_counts[which]];
        *r = ranges[i];
        if (!slice_copy(&s->copies, &r->from) || !slice_copy(&s->copies, &r->to)) return false;
        s->range_counts[which]++;
    }
    return true;
}

static bool scan_add(struct scan *s, const struct table_part *p)
{
    if (s->row_count == s->row_room) {
        size_t room = s->row_room == 0 ? 64 : s->row_room * 2;
        struct scan_row *rows = realloc(s->rows, room * sizeof *rows);
        if (rows == NULL) return false;
        s->rows = rows;
        s->row_room = room;
    }
    struct scan_row *r = &s->rows[s->row_count];
    *r = (struct scan_row){p->row, p->deleted};
    if (r->row.value.size > s->value_max) r->row.value.size = s->value_max;
    if (!row_copy(&s->copies, &r->row)) return false;
    s->row_count++;
    return true;
}

static int row_order(const struct store_row *a, const struct store_row *b)
{
    int order = kv_slice_cmp(a->key, b->key);
    return order != 0 ? order : kv_slice_cmp(a->sub, b->sub);
}

/* One value more than the budget is copied, so that the merge sees that there is more. */
static bool tables_copy(struct scan *s, const struct store *store)
{
    struct table_part active, frozen;
    if (!part_begin(&active, s, store->active, 0) || !part_begin(&frozen, s, store->frozen, 1))
        return false;
    size_t values = 0, bytes = 0;
    while (active.valid || frozen.valid) {
        if (values > s->rows_max || bytes > s->bytes_max) {
            s->cut_off = true;
            return true;
        }
        int order = !active.valid ? 1 : !frozen.valid ? -1 : row_order(&active.row, &frozen.row);
        struct table_part *p = order <= 0 ? &active : &frozen;
        bool hidden = p == &frozen && memtable_range_has(store->active, s->class, p->row.key);
        if (!hidden) {
            if (!scan_add(s, p)) return false;
            if (!p->deleted) {
                values++;
                bytes += row_bytes(&s->rows[s->row_count - 1].row);
            }
        }
        if (order == 0) part_next(&frozen, s);
        part_next(p, s);
    }
    return true;
}

/* Off the loop */

static bool ranges_pass(const struct scan *s, int which, uint32_t *at, struct kv_slice key)
{
    while (*at < s->range_counts[which]) {
        struct kv_range r = s->ranges[which][*at];
        if (kv_range_has(r, key)) return true;
        if (kv_slice_cmp(key, r.from) < 0) return false;
        ++*at;
    }
    return false;
}

/* False: the budget is used up. A first row is always taken. */
static bool out_take(struct scan_out *out, const struct scan *s, struct store_row row,
                     enum kv_err *err)
{
    if (row.value.size > s->value_max) row.value.size = s->value_max;
    size_t bytes = row_bytes(&row);
    if (out->count > 0 && (out->count >= s->rows_max || out->bytes + bytes > s->bytes_max)) {
        out->more = true;
        return false;
    }
    if (out->count == out->room) {
        uint32_t room = out->room == 0 ? 64 : out->room * 2;
        struct store_row *rows = realloc(out->rows, room * sizeof *rows);
        if (rows == NULL) {
            *err = KV_BUSY;
            return false;
        }
        out->rows = rows;
        out->room = room;
    }
    if (!row_copy(&out->arena, &row)) {
        *err = KV_BUSY;
        return false;
    }
    out->rows[out->count++] = row;
    out->bytes += bytes;
    return true;
}

static enum kv_err scan_merge(struct scan *s, struct checkpoint_cursor *i)
{
    const struct checkpoint_ops *ops = s->checkpoint->ops;
    struct store_row below;
    enum kv_err err = ops->next(i, &below), failed = KV_OK;
    uint32_t range_at[2] = {0};
    size_t at = 0;
    for (;;) {
        bool has_below = err == KV_OK && kv_range_has(s->range, below.key);
        if (err != KV_OK && err != KV_NOT_FOUND) return err;
        if (has_below && (ranges_pass(s, 0, &range_at[0], below.key) ||
                          ranges_pass(s, 1, &range_at[1], below.key))) {
            err = ops->next(i, &below);
            continue;
        }
        if (at == s->row_count) {
            if (s->cut_off) { /* what follows in the tables was not copied */
                s->out->more = true;
                return KV_OK;
            }
            if (!has_below) return KV_OK;
        }
        int order = at == s->row_count ? 1 : !has_below ? -1 : row_order(&s->rows[at].row, &below);
        if (order <= 0) {
            const struct scan_row *r = &s->rows[at++];
            if (!r->deleted && !out_take(s->out, s, r->row, &failed)) return failed;
        } else if (!out_take(s->out, s, below, &failed)) {
            return failed;
        }
        if (order >= 0) err = ops->next(i, &below);
    }
}

static void scan_run(struct job *j)
{
    struct scan *s = container_of(j, struct scan, job);
    struct checkpoint_cursor *i;
    if (s->refused != KV_OK) {
        j->err = s->refused;
        return;
    }
    j->err = s->checkpoint->ops->seek(s->view, s->class, s->range.from, &i);
    if (j->err != KV_OK) return;
    j->err = scan_merge(s, i);
    s->checkpoint->ops->close(i);
}

/* On the loop again */

static void out_free(struct scan_out *out)
{
    if (out == NULL) return;
    kv_arena_free(&out->arena);
    free(out->rows);
    free(out);
}

static void scan_discard(struct job *j)
{
    struct scan *s = container_of(j, struct scan, job);
    if (s->view != NULL) s->checkpoint->ops->view_close(s->view);
    kv_arena_free(&s->copies);
    free(s->rows);
    out_free(s->out);
    free(s);
}

static void scan_done(struct job *j)
{
    struct scan *s = container_of(j, struct scan, job);
    struct store_scan *user = s->user;
    enum kv_err err = j->err;
    if (err == KV_CORRUPT || err == KV_IO) store_poison(j->store, err);
    if (err == KV_OK) {
        user->memory = s->out;
        user->rows = s->out->rows;
        user->row_count = s->out->count;
        user->more = s->out->more;
        s->out = NULL;
    }
    job_end(j);
    scan_discard(j);
    user->done(user, err);
}

static enum kv_err scan_prepare(struct scan *s, const struct store *store)
{
    s->out = calloc(1, sizeof *s->out);
    if (s->out == NULL) return KV_BUSY;
    kv_arena_init(&s->out->arena, 0);
    if (!tables_copy(s, store)) return KV_BUSY;
    return s->checkpoint->ops->view_open(s->checkpoint, &s->view);
}

/* Without memory even for a job, the caller's own request brings the error back. */
static void scan_refused(struct disk_request *q, enum kv_err err)
{
    struct store_scan *user = container_of(q, struct store_scan, io);
    user->done(user, err == KV_OK ? KV_BUSY : err);
}

void store_scan(struct store *store, struct store_scan *user)
{
    user->rows = NULL;
    user->row_count = 0;
    user->more = false;
    user->memory = NULL;
    struct scan *s = calloc(1, sizeof *s);
    if (s == NULL) {
        store_refuse(store, &user->io, scan_refused);
        return;
    }
    s->job = (struct job){.run = scan_run, .done = scan_done, .discard = scan_discard};
    s->user = user;
    s->checkpoint = store->o.checkpoint;
    s->class = user->class;
    s->range = user->range;
    s->rows_max = user->rows_max == 0 ? 1 : user->rows_max;
    s->bytes_max = user->bytes_max;
    s->value_max = user->keys_only ? VALUE_HEADER_BYTES : SIZE_MAX;
    kv_arena_init(&s->copies, 0);
    job_begin(store, &s->job);
    s->refused = scan_prepare(s, store);
    job_work(&s->job);
}

void store_scan_free(struct store_scan *user)
{
    out_free(user->memory);
    user->memory = NULL;
    user->rows = NULL;
    user->row_count = 0;
}

#include "storage/checkpoint_mem.h"
#include "storage/checkpoint_mem_rows.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* The model of a checkpoint:
 * (1) A version is the whole state: per class its rows in order, and the marks.
 * (2) A committed version is never written again; views share it by counting.
 * (3) A transaction edits a copy, which shares what it does not touch (checkpoint_mem_rows.h).
 * Simple on purpose: what LMDB does is judged by it. Single-threaded. */
struct mem_mark {
    struct checkpoint_mark mark; /* descriptor owned */
};
struct mem_version {
    uint32_t references;
    struct mem_rows classes[STORE_CLASSES];
    struct mem_mark *marks; /* by group */
    size_t mark_count, mark_room;
};

struct checkpoint_mem {
    struct checkpoint base;
    struct mem_version *current, *open; /* open: of the transaction, or NULL */
    struct checkpoint_view *views;
};
struct checkpoint_view {
    struct checkpoint_mem *owner;
    struct mem_version *version;
    struct checkpoint_view *next;
    struct checkpoint_cursor *cursors;
};
struct checkpoint_cursor {
    struct checkpoint_view *view;
    struct checkpoint_cursor *next;
    enum store_class class;
    struct mem_place at;
};

static struct checkpoint_mem *mem(const struct checkpoint *c)
{
    return container_of((struct checkpoint *)(uintptr_t)c, struct checkpoint_mem, base);
}

static void version_release(struct mem_version *v)
{
    if (v == NULL || --v->references > 0) return;
    for (int c = 0; c < STORE_CLASSES; c++) mem_rows_free(&v->classes[c]);
    for (size_t i = 0; i < v->mark_count; i++)
        free((void *)(uintptr_t)v->marks[i].mark.descriptor.data);
    free(v->marks);
    free(v);
}

static bool descriptor_copy(struct kv_slice from, struct kv_slice *to)
{
    *to = kv_slice(NULL, 0);
    if (from.size == 0) return true;
    uint8_t *copy = malloc(from.size);
    if (copy == NULL) return false;
    memcpy(copy, from.data, from.size);
    *to = kv_slice(copy, from.size);
    return true;
}

static struct mem_version *version_copy(const struct mem_version *from)
{
    struct mem_version *v = calloc(1, sizeof *v);
    if (v == NULL) return NULL;
    v->references = 1;
    for (int c = 0; c < STORE_CLASSES; c++)
        if (!mem_rows_share(&from->classes[c], &v->classes[c])) goto fail;
    if (from->mark_count > 0) {
        v->marks = calloc(from->mark_count, sizeof *v->marks);
        if (v->marks == NULL) goto fail;
        v->mark_room = from->mark_count;
        for (; v->mark_count < from->mark_count; v->mark_count++) {
            struct mem_mark *m = &v->marks[v->mark_count];
            *m = from->marks[v->mark_count];
            if (!descriptor_copy(m->mark.descriptor, &m->mark.descriptor)) goto fail;
        }
    }
    return v;
fail:
    version_release(v);
    return NULL;
}

/* Transactions */

static void mem_abort(struct checkpoint *c)
{
    version_release(mem(c)->open);
    mem(c)->open = NULL;
}

static enum kv_err mem_begin(struct checkpoint *c)
{
    struct checkpoint_mem *m = mem(c);
    assert(m->open == NULL);
    m->open = version_copy(m->current);
    return m->open == NULL ? KV_BUSY : KV_OK;
}

static enum kv_err mem_put(struct checkpoint *c, const struct store_row *row)
{
    assert((row->class == STORE_DEDUP) == (row->sub.size == STORE_SUB_BYTES));
    return mem_rows_put(&mem(c)->open->classes[row->class], row) ? KV_OK : KV_BUSY;
}

static enum kv_err mem_del(struct checkpoint *c, const struct store_row *row)
{
    struct mem_rows *rows = &mem(c)->open->classes[row->class];
    if (mem_rows_get(rows, row->key, row->sub) == NULL) return KV_OK;
    struct mem_place from = mem_rows_find(rows, row->key, row->sub), to = from;
    mem_rows_next(rows, &to);
    return mem_rows_remove(rows, from, to) ? KV_OK : KV_BUSY;
}

static enum kv_err mem_delete_range(struct checkpoint *c, enum store_class class, struct kv_range range)
{
    struct mem_rows *rows = &mem(c)->open->classes[class];
    struct kv_slice none = kv_slice(NULL, 0);
    struct mem_place from = mem_rows_find(rows, range.from, none), to = {.leaf = rows->count};
    if (range.to.size != 0) to = mem_rows_find(rows, range.to, none);
    return mem_rows_remove(rows, from, to) ? KV_OK : KV_BUSY;
}

static enum kv_err mem_mark(struct checkpoint *c, const struct checkpoint_mark *mark)
{
    struct mem_version *v = mem(c)->open;
    struct mem_mark copy = {.mark = *mark};
    if (!descriptor_copy(mark->descriptor, &copy.mark.descriptor)) return KV_BUSY;
    size_t at = 0;
    while (at < v->mark_count && v->marks[at].mark.group < mark->group)
        at++;
    if (at < v->mark_count && v->marks[at].mark.group == mark->group) {
        free((void *)(uintptr_t)v->marks[at].mark.descriptor.data);
        v->marks[at] = copy;
        return KV_OK;
    }
    if (v->mark_count == v->mark_room) {
        size_t room = v->mark_room == 0 ? 16 : v->mark_room * 2;
        struct mem_mark *grown = realloc(v->marks, room * sizeof *grown);
        if (grown == NULL) {
            free((void *)(uintptr_t)copy.mark.descriptor.data);
            return KV_BUSY;
        }
        v->marks = grown;
        v->mark_room = room;
    }
    memmove(v->marks + at + 1, v->marks + at, (v->mark_count - at) * sizeof *v->marks);
    v->marks[at] = copy;
    v->mark_count++;
    return KV_OK;
}

static enum kv_err mem_commit(struct checkpoint *c)
{
    struct checkpoint_mem *m = mem(c);
    assert(m->open != NULL);
    version_release(m->current);
    m->current = m->open;
    m->open = NULL;
    return KV_OK;
}

/* Views */

static enum kv_err mem_view_open(struct checkpoint *c, struct checkpoint_view **out)
{
    struct checkpoint_mem *m = mem(c);
    struct checkpoint_view *v = calloc(1, sizeof *v);
    if (v == NULL) return KV_BUSY;
    v->owner = m;
    v->version = m->current;
    v->version->references++;
    v->next = m->views;
    m->views = v;
    *out = v;
    return KV_OK;
}

static enum kv_err mem_view_renew(struct checkpoint_view *v)
{
    assert(v->cursors == NULL); /* as LMDB: a cursor does not outlive its transaction */
    struct mem_version *old = v->version;
    v->version = v->owner->current;
    v->version->references++;
    version_release(old);
    return KV_OK;
}

static void mem_close(struct checkpoint_cursor *i)
{
    if (i == NULL) return;
    struct checkpoint_cursor **p = &i->view->cursors;
    while (*p != i)
        p = &(*p)->next;
    *p = i->next;
    free(i);
}

static void mem_view_close(struct checkpoint_view *v)
{
    if (v == NULL) return;
    assert(v->cursors == NULL);
    struct checkpoint_view **p = &v->owner->views;
    while (*p != v)
        p = &(*p)->next;
    *p = v->next;
    version_release(v->version);
    free(v);
}

static enum kv_err mem_get(struct checkpoint_view *v, enum store_class class, struct kv_slice key,
                           struct kv_slice sub, struct kv_slice *value)
{
    const struct mem_row *r = mem_rows_get(&v->version->classes[class], key, sub);
    if (r == NULL) return KV_NOT_FOUND;
    *value = mem_value(r);
    return KV_OK;
}

static enum kv_err mem_seek(struct checkpoint_view *v, enum store_class class, struct kv_slice from,
                            struct checkpoint_cursor **out)
{
    struct checkpoint_cursor *i = malloc(sizeof *i);
    if (i == NULL) return KV_BUSY;
    *i = (struct checkpoint_cursor){
        .view = v,
        .next = v->cursors,
        .class = class,
        .at = mem_rows_find(&v->version->classes[class], from, kv_slice(NULL, 0)),
    };
    v->cursors = i;
    *out = i;
    return KV_OK;
}

static enum kv_err mem_next(struct checkpoint_cursor *i, struct store_row *row)
{
    const struct mem_row *r = mem_rows_next(&i->view->version->classes[i->class], &i->at);
    if (r == NULL) return KV_NOT_FOUND;
    *row = (struct store_row){.class = i->class, .key = mem_key(r), .sub = mem_sub(r), .value = mem_value(r)};
    return KV_OK;
}

static enum kv_err mem_marks(struct checkpoint_view *v,
                             void (*each)(void *context, const struct checkpoint_mark *m),
                             void *context)
{
    for (size_t i = 0; i < v->version->mark_count; i++)
        each(context, &v->version->marks[i].mark);
    return KV_OK;
}

static void mem_rotten(const struct checkpoint *c, void (*each)(void *context, struct kv_slice key, const char *where),
                       void *context)
{
    (void)c; /* memory does not rot */
    (void)each;
    (void)context;
}

static enum kv_err mem_verify(struct checkpoint *c, char *why, size_t why_size)
{
    const struct mem_version *v = mem(c)->current;
    for (int k = 0; k < STORE_CLASSES; k++) {
        struct mem_place at = {0};
        const struct mem_row *a = NULL, *b;
        for (size_t i = 0; (b = mem_rows_next(&v->classes[k], &at)) != NULL; a = b, i++) {
            int order = a == NULL ? -1 : kv_slice_cmp(mem_key(a), mem_key(b));
            if (order < 0 || (order == 0 && kv_slice_cmp(mem_sub(a), mem_sub(b)) < 0)) continue;
            snprintf(why, why_size, "class %d: row %zu is out of order", k, i);
            return KV_CORRUPT;
        }
    }
    return KV_OK;
}

static uint64_t mem_bytes(const struct checkpoint *c)
{
    uint64_t bytes = 0;
    for (int k = 0; k < STORE_CLASSES; k++) bytes += mem(c)->current->classes[k].bytes;
    return bytes;
}

static enum kv_err mem_sizes(struct checkpoint *c, struct checkpoint_size *of, uint32_t count)
{
    const struct mem_rows *rows = &mem(c)->current->classes[STORE_DATA];
    for (uint32_t i = 0; i < count; i++) {
        const struct mem_row *r;
        uint64_t half = 0;
        of[i].bytes = 0;
        of[i].middle.size = 0;
        for (int pass = 0; pass < 2; pass++) {
            struct mem_place at = mem_rows_find(rows, of[i].range.from, kv_slice(NULL, 0));
            while ((r = mem_rows_next(rows, &at)) != NULL && kv_range_has(of[i].range, mem_key(r))) {
                if (pass == 0) {
                    of[i].bytes += r->key_size + r->value_size;
                    continue;
                }
                if (2 * half >= of[i].bytes && kv_slice_cmp(mem_key(r), of[i].range.from) > 0 && r->key_size <= sizeof of[i].middle.bytes) {
                    of[i].middle.size = (uint16_t)r->key_size;
                    memcpy(of[i].middle.bytes, r->bytes, r->key_size);
                    break;
                }
                half += r->key_size + r->value_size;
            }
        }
    }
    return KV_OK;
}

static enum kv_err mem_trim(struct checkpoint *c)
{
    assert(mem(c)->views == NULL && mem(c)->open == NULL);
    return KV_OK;
}

void checkpoint_mem_crash(struct checkpoint *c)
{
    struct checkpoint_mem *m = mem(c);
    mem_abort(c);
    while (m->views != NULL) {
        while (m->views->cursors != NULL)
            mem_close(m->views->cursors);
        mem_view_close(m->views);
    }
}

static void mem_destroy(struct checkpoint *c)
{
    checkpoint_mem_crash(c);
    version_release(mem(c)->current);
    free(mem(c));
}

struct checkpoint *checkpoint_mem_create(void)
{
    static const struct checkpoint_ops ops = {
        .begin = mem_begin,
        .put = mem_put,
        .del = mem_del,
        .delete_range = mem_delete_range,
        .mark = mem_mark,
        .commit = mem_commit,
        .abort = mem_abort,
        .view_open = mem_view_open,
        .view_renew = mem_view_renew,
        .view_close = mem_view_close,
        .get = mem_get,
        .seek = mem_seek,
        .next = mem_next,
        .close = mem_close,
        .marks = mem_marks,
        .verify = mem_verify,
        .rotten = mem_rotten,
        .bytes = mem_bytes,
        .sizes = mem_sizes,
        .trim = mem_trim,
        .destroy = mem_destroy,
    };
    struct checkpoint_mem *m = calloc(1, sizeof *m);
    if (m == NULL) return NULL;
    m->base.ops = &ops;
    m->current = calloc(1, sizeof *m->current);
    if (m->current == NULL) {
        free(m);
        return NULL;
    }
    m->current->references = 1;
    return &m->base;
}

#include "storage/checkpoint_mem_rows.h"

#include <assert.h>
#include <stdlib.h>

/* (1) No leaf is empty; rows rise within a leaf and from leaf to leaf.
 * (2) A leaf with several references is never written: the writer gets a copy.
 * (3) Rows are never written; leaves share them by counting.
 * Leaves that became small are not merged: each holds a row at least. */
enum { LEAF_ROWS = 64 };
struct mem_leaf {
    uint32_t references, count;
    struct mem_row *rows[LEAF_ROWS];
};

static uint64_t row_bytes(const struct mem_row *r)
{
    return sizeof *r + r->key_size + r->sub_size + r->value_size;
}

static void row_release(struct mem_row *r)
{
    assert(r->references > 0);
    if (--r->references == 0) free(r);
}

static void leaf_release(struct mem_leaf *l)
{
    assert(l->references > 0);
    if (--l->references > 0) return;
    for (uint32_t i = 0; i < l->count; i++) row_release(l->rows[i]);
    free(l);
}

bool mem_rows_share(const struct mem_rows *from, struct mem_rows *to)
{
    *to = (struct mem_rows){0};
    if (from->count == 0) return true;
    to->leaves = malloc(from->count * sizeof(struct mem_leaf *));
    if (to->leaves == NULL) return false;
    for (size_t i = 0; i < from->count; i++) {
        to->leaves[i] = from->leaves[i];
        to->leaves[i]->references++;
    }
    to->count = to->room = from->count;
    to->bytes = from->bytes;
    return true;
}

void mem_rows_free(struct mem_rows *rows)
{
    for (size_t i = 0; i < rows->count; i++) leaf_release(rows->leaves[i]);
    free(rows->leaves);
    *rows = (struct mem_rows){0};
}

static int row_cmp(const struct mem_row *r, struct kv_slice key, struct kv_slice sub)
{
    int order = kv_slice_cmp(mem_key(r), key);
    return order != 0 ? order : kv_slice_cmp(mem_sub(r), sub);
}

struct mem_place mem_rows_find(const struct mem_rows *rows, struct kv_slice key, struct kv_slice sub)
{
    size_t low = 0, high = rows->count; /* the first leaf that begins behind it; what is sought is in the one before */
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (row_cmp(rows->leaves[middle]->rows[0], key, sub) <= 0) low = middle + 1;
        else high = middle;
    }
    if (low == 0) return (struct mem_place){0, 0};
    const struct mem_leaf *l = rows->leaves[low - 1];
    uint32_t first = 0, end = l->count;
    while (first < end) {
        uint32_t middle = (first + end) / 2;
        if (row_cmp(l->rows[middle], key, sub) < 0) first = middle + 1;
        else end = middle;
    }
    return (struct mem_place){low - 1, first};
}

const struct mem_row *mem_rows_next(const struct mem_rows *rows, struct mem_place *at)
{
    if (at->leaf < rows->count && at->row == rows->leaves[at->leaf]->count) *at = (struct mem_place){at->leaf + 1, 0};
    return at->leaf < rows->count ? rows->leaves[at->leaf]->rows[at->row++] : NULL;
}

const struct mem_row *mem_rows_get(const struct mem_rows *rows, struct kv_slice key, struct kv_slice sub)
{
    struct mem_place at = mem_rows_find(rows, key, sub);
    const struct mem_row *r = mem_rows_next(rows, &at);
    return r != NULL && row_cmp(r, key, sub) == 0 ? r : NULL;
}

/* The leaf, for writing. */
static struct mem_leaf *leaf_own(struct mem_rows *rows, size_t at)
{
    struct mem_leaf *shared = rows->leaves[at];
    if (shared->references == 1) return shared;
    struct mem_leaf *own = malloc(sizeof *own);
    if (own == NULL) return NULL;
    *own = *shared;
    own->references = 1;
    for (uint32_t i = 0; i < own->count; i++) own->rows[i]->references++;
    shared->references--;
    rows->leaves[at] = own;
    return own;
}

static struct mem_leaf *leaf_insert(struct mem_rows *rows, size_t at)
{
    if (rows->count == rows->room) {
        size_t room = rows->room == 0 ? 16 : rows->room * 2;
        struct mem_leaf **grown = realloc(rows->leaves, room * sizeof *grown);
        if (grown == NULL) return NULL;
        rows->leaves = grown;
        rows->room = room;
    }
    struct mem_leaf *l = calloc(1, sizeof *l);
    if (l == NULL) return NULL;
    l->references = 1;
    memmove(rows->leaves + at + 1, rows->leaves + at, (rows->count - at) * sizeof *rows->leaves);
    rows->leaves[at] = l;
    rows->count++;
    return l;
}

/* A leaf with room for a row at *at, which may move. */
static struct mem_leaf *leaf_with_room(struct mem_rows *rows, struct mem_place *at)
{
    if (rows->count == 0) return leaf_insert(rows, 0);
    struct mem_leaf *l = leaf_own(rows, at->leaf);
    if (l == NULL || l->count < LEAF_ROWS) return l;
    struct mem_leaf *upper = leaf_insert(rows, at->leaf + 1);
    if (upper == NULL) return NULL;
    upper->count = LEAF_ROWS / 2;
    l->count -= upper->count;
    memcpy(upper->rows, l->rows + l->count, upper->count * sizeof(struct mem_row *));
    if (at->row <= l->count) return l;
    *at = (struct mem_place){at->leaf + 1, at->row - l->count};
    return upper;
}

static struct mem_row *row_make(const struct store_row *row)
{
    struct mem_row *r = malloc(sizeof *r + row->key.size + row->sub.size + row->value.size);
    if (r == NULL) return NULL;
    *r = (struct mem_row){.references = 1,
                          .key_size = (uint32_t)row->key.size,
                          .sub_size = (uint32_t)row->sub.size,
                          .value_size = (uint32_t)row->value.size};
    uint8_t *to = r->bytes;
    if (row->key.size > 0) memcpy(to, row->key.data, row->key.size);
    if (row->sub.size > 0) memcpy(to + row->key.size, row->sub.data, row->sub.size);
    if (row->value.size > 0) memcpy(to + row->key.size + row->sub.size, row->value.data, row->value.size);
    return r;
}

bool mem_rows_put(struct mem_rows *rows, const struct store_row *row)
{
    struct mem_place at = mem_rows_find(rows, row->key, row->sub);
    const struct mem_leaf *there = at.leaf < rows->count ? rows->leaves[at.leaf] : NULL;
    bool replaces = there != NULL && at.row < there->count && row_cmp(there->rows[at.row], row->key, row->sub) == 0;
    struct mem_leaf *l = replaces ? leaf_own(rows, at.leaf) : leaf_with_room(rows, &at);
    struct mem_row *r = l == NULL ? NULL : row_make(row);
    if (r == NULL) return false;
    if (replaces) {
        rows->bytes -= row_bytes(l->rows[at.row]);
        row_release(l->rows[at.row]);
    } else {
        memmove(l->rows + at.row + 1, l->rows + at.row, (l->count - at.row) * sizeof(struct mem_row *));
        l->count++;
    }
    l->rows[at.row] = r;
    rows->bytes += row_bytes(r);
    return true;
}

static bool leaf_cut(struct mem_rows *rows, size_t at, uint32_t from, uint32_t to)
{
    struct mem_leaf *l = rows->leaves[at];
    for (uint32_t i = from; i < to; i++) rows->bytes -= row_bytes(l->rows[i]);
    if (from == 0 && to == l->count) {
        leaf_release(l);
        rows->count--;
        memmove(rows->leaves + at, rows->leaves + at + 1, (rows->count - at) * sizeof *rows->leaves);
        return true;
    }
    l = leaf_own(rows, at);
    if (l == NULL) return false;
    for (uint32_t i = from; i < to; i++) row_release(l->rows[i]);
    memmove(l->rows + from, l->rows + to, (l->count - to) * sizeof(struct mem_row *));
    l->count -= to - from;
    return true;
}

bool mem_rows_remove(struct mem_rows *rows, struct mem_place from, struct mem_place to)
{
    for (size_t i = to.leaf + 1; i-- > from.leaf;) { /* backwards: a leaf that goes moves only those done */
        if (i >= rows->count) continue;
        uint32_t first = i == from.leaf ? from.row : 0, end = i == to.leaf ? to.row : rows->leaves[i]->count;
        if (first < end && !leaf_cut(rows, i, first, end)) return false;
    }
    return true;
}

#include "storage/memtable.h"

#include <assert.h>
#include <stdlib.h>

#include "client/base/hash.h"
#include "storage/memtable_arena.h"

/* The memtable:
 * (1) Every row stands in one hash chain and in its class's list of rows by age, and never moves;
 *     those at or behind `treed` stand in one leaf too. The tree catches up when somebody seeks.
 * (2) Leaves hold rows in order of (key, sub) and are chained in that order.
 * (3) Below an inner node, child i holds rows >= separator i; separator 0 is not looked at.
 * (4) Nothing is ever removed, so the tree only splits.
 * (5) A deleted range says nothing about the rows of this table: they are newer.
 *
 * Chains are sized once, from the bytes expected, so that no insert ever waits for a
 * rehash. A value is overwritten in place if it fits, else given new room; the old room
 * stays counted until the table is dropped. */
enum { FANOUT = 32, DEPTH_MAX = 16, ROW_BYTES_EXPECTED = 128 };

struct row {
    struct row *chain, *older;
    uint8_t *value;
    uint32_t hash, value_size, value_room;
    uint16_t key_size;
    uint8_t sub_size;
    uint8_t class : 7, deleted : 1;
    bool in_tree; /* the writer's alone, also in a frozen table */
    uint8_t bytes[]; /* key, sub; then the first value's room */
};

struct node {
    bool is_leaf;
    uint32_t count;
    uint64_t prefix[FANOUT]; /* of rows[i]: most comparisons end here, without a cache miss */
    struct row *rows[FANOUT];
    struct node *next; /* leaves */
};
struct inner {
    struct node node;
    struct node *child[FANOUT];
};

struct memtable {
    struct memtable_arena arena;
    struct row **chains;
    uint32_t chain_mask;
    bool frozen;
    struct table_class {
        struct row *newest, *treed; /* all rows by `older`; the newest one in the tree */
        bool sought, eager;         /* in this table; in the one before: the tree keeps up */
        struct node *root;          /* NULL: no rows in it */
        uint64_t rows;
        struct kv_range *ranges;
        uint32_t range_count, range_room;
    } classes[STORE_CLASSES];
};

struct target { /* what is searched for */
    uint64_t prefix;
    struct kv_slice key, sub;
};

/* The first bytes of a key as a number of the same order. Keyspace ids rarely use their
 * upper half, so that is skipped, and the few keys that do all count as the largest. */
static uint64_t key_prefix(struct kv_slice key)
{
    uint8_t b[10] = {0};
    if (key.size > 0) memcpy(b, key.data, key.size < sizeof b ? key.size : sizeof b);
    if (b[0] != 0 || b[1] != 0) return UINT64_MAX;
    uint64_t prefix = 0;
    for (size_t i = 2; i < sizeof b; i++)
        prefix = prefix << 8 | b[i];
    return prefix;
}

static struct kv_slice row_key(const struct row *r)
{
    return kv_slice(r->bytes, r->key_size);
}
static struct kv_slice row_sub(const struct row *r)
{
    return kv_slice(r->bytes + r->key_size, r->sub_size);
}

static int target_cmp(const struct target *t, uint64_t prefix, const struct row *r)
{
    if (t->prefix != prefix) return t->prefix < prefix ? -1 : 1;
    int order = kv_slice_cmp(t->key, row_key(r));
    return order != 0 ? order : kv_slice_cmp(t->sub, row_sub(r));
}

struct memtable *memtable_create(size_t bytes_expected)
{
    struct memtable *t = calloc(1, sizeof *t);
    if (t == NULL) return NULL;
    uint32_t chains = 1024;
    while (chains < bytes_expected / ROW_BYTES_EXPECTED && chains < 1u << 24)
        chains *= 2;
    t->chain_mask = chains - 1;
    t->arena.is_large = bytes_expected >= 8 * ARENA_HUGE_BYTES;
    t->chains = pages_map(chains * sizeof *t->chains);
    if (t->chains == NULL) {
        free(t);
        return NULL;
    }
    return t;
}

void memtable_destroy(struct memtable *t)
{
    if (t == NULL) return;
    for (int c = 0; c < STORE_CLASSES; c++)
        free(t->classes[c].ranges);
    munmap(t->chains, ((size_t)t->chain_mask + 1) * sizeof *t->chains);
    memtable_arena_free(&t->arena);
    free(t);
}

void memtable_reset(struct memtable *t, size_t bytes_kept)
{
    for (int c = 0; c < STORE_CLASSES; c++)
        free(t->classes[c].ranges);
    memset(t->classes, 0, sizeof t->classes);
    memset(t->chains, 0, ((size_t)t->chain_mask + 1) * sizeof *t->chains);
    memtable_arena_reset(&t->arena, bytes_kept);
    t->frozen = false;
}

void memtable_thaw(struct memtable *t)
{
    t->frozen = false;
}

void memtable_freeze(struct memtable *t)
{
    assert(!t->frozen);
    t->frozen = true;
}

void memtable_succeed(struct memtable *t, const struct memtable *before)
{
    for (int c = 0; c < STORE_CLASSES; c++) t->classes[c].eager = before->classes[c].sought;
}

/* The tree */

static struct node *leaf_create(struct memtable *t)
{
    struct node *n = memtable_arena_alloc(&t->arena, sizeof *n);
    if (n != NULL) *n = (struct node){.is_leaf = true};
    return n;
}

static struct node *inner_create(struct memtable *t)
{
    struct inner *n = memtable_arena_alloc(&t->arena, sizeof *n);
    if (n == NULL) return NULL;
    n->node = (struct node){.is_leaf = false};
    return &n->node;
}

static struct node **node_children(struct node *n)
{
    assert(!n->is_leaf);
    return container_of(n, struct inner, node)->child;
}

/* How many of rows[from..] are not after the target. */
static uint32_t node_upper(const struct node *n, uint32_t from, const struct target *target)
{
    uint32_t low = from, high = n->count;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (target_cmp(target, n->prefix[mid], n->rows[mid]) >= 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void node_insert(struct node *n, uint32_t at, uint64_t prefix, struct row *row,
                        struct node *child)
{
    assert(n->count < FANOUT && at <= n->count);
    uint32_t behind = n->count - at;
    memmove(n->prefix + at + 1, n->prefix + at, behind * sizeof *n->prefix);
    memmove(n->rows + at + 1, n->rows + at, behind * sizeof *n->rows);
    n->prefix[at] = prefix;
    n->rows[at] = row;
    if (child != NULL) {
        struct node **children = node_children(n);
        memmove(children + at + 1, children + at, behind * sizeof *children);
        children[at] = child;
    }
    n->count++;
}

/* Moves the upper part of a full node into the fresh node `to`. A node that is filled at
 * its end stays full, so that rising keys make dense trees. */
static void node_split(struct node *n, uint32_t insert_at, struct node *to)
{
    uint32_t keep = insert_at == FANOUT ? FANOUT - 1 : FANOUT / 2, move = FANOUT - keep;
    assert(to->is_leaf == n->is_leaf);
    memcpy(to->prefix, n->prefix + keep, move * sizeof *n->prefix);
    memcpy(to->rows, n->rows + keep, move * sizeof *n->rows);
    if (!n->is_leaf)
        memcpy(node_children(to), node_children(n) + keep, move * sizeof(struct node *));
    to->count = move;
    n->count = keep;
    if (n->is_leaf) {
        to->next = n->next;
        n->next = to;
    }
}

/* All nodes a split needs are allocated before anything changes. */
static bool tree_insert(struct memtable *t, struct table_class *tc, struct row *row)
{
    struct target target = {key_prefix(row_key(row)), row_key(row), row_sub(row)};
    struct node *path[DEPTH_MAX], *spare[DEPTH_MAX + 1];
    uint32_t at[DEPTH_MAX], depth = 0, splits = 0;
    if (tc->root == NULL) {
        tc->root = leaf_create(t);
        if (tc->root == NULL) return false;
    }
    for (struct node *n = tc->root;; depth++) {
        assert(depth < DEPTH_MAX);
        path[depth] = n;
        if (n->is_leaf) {
            at[depth] = node_upper(n, 0, &target);
            break;
        }
        at[depth] = node_upper(n, 1, &target);
        n = node_children(n)[at[depth] - 1];
    }
    while (splits <= depth && path[depth - splits]->count == FANOUT) {
        spare[splits] = splits == 0 ? leaf_create(t) : inner_create(t);
        if (spare[splits++] == NULL) return false;
    }
    bool grows = splits == depth + 1;
    if (grows && (spare[splits] = inner_create(t)) == NULL) return false;

    struct node *child = NULL; /* to be entered at this level together with `row` */
    uint64_t prefix = target.prefix;
    for (uint32_t i = 0; i < splits; i++) {
        struct node *n = path[depth - i], *right = spare[i];
        uint32_t slot = at[depth - i];
        node_split(n, slot, right);
        if (slot > n->count)
            node_insert(right, slot - n->count, prefix, row, child);
        else
            node_insert(n, slot, prefix, row, child);
        child = right;
        prefix = right->prefix[0];
        row = right->rows[0];
    }
    if (grows) {
        struct node *root = spare[splits];
        node_insert(root, 0, tc->root->prefix[0], tc->root->rows[0], tc->root);
        node_insert(root, 1, prefix, row, child);
        tc->root = root;
    } else {
        node_insert(path[depth - splits], at[depth - splits], prefix, row, child);
    }
    return true;
}

/* What has come since the last seek; if memory runs out on the way, the rest is still to come. */
static bool tree_catch_up(struct memtable *t, struct table_class *tc)
{
    for (struct row *r = tc->newest; r != tc->treed; r = r->older) {
        if (r->in_tree) continue; /* of an attempt that ran out of memory */
        if (!tree_insert(t, tc, r)) return false;
        r->in_tree = true;
    }
    tc->treed = tc->newest;
    return true;
}

/* Rows */

static uint32_t row_hash(enum store_class class, struct kv_slice key, struct kv_slice sub)
{
    uint64_t hash = kv_hash64(key, class);
    if (sub.size > 0) hash = kv_hash64(sub, hash);
    return (uint32_t)hash;
}

static struct row *row_find(const struct memtable *t, uint32_t hash, enum store_class class,
                            struct kv_slice key, struct kv_slice sub)
{
    for (struct row *r = t->chains[hash & t->chain_mask]; r != NULL; r = r->chain)
        if (r->hash == hash && r->class == class && kv_slice_eq(row_key(r), key) &&
            kv_slice_eq(row_sub(r), sub))
            return r;
    return NULL;
}

uint32_t memtable_hint(const struct memtable *t, enum store_class class, struct kv_slice key, struct kv_slice sub)
{
    uint32_t hash = row_hash(class, key, sub);
    __builtin_prefetch(&t->chains[hash & t->chain_mask]);
    return hash;
}

/* Always inlined: gcc drops calls of a function that does nothing else. */
static inline __attribute__((always_inline)) void row_prefetch(const struct row *r)
{
    if (r == NULL) return;
    for (size_t line = 0; line < 4; line++) __builtin_prefetch((const uint8_t *)r + line * 64);
}

void memtable_hint_row(const struct memtable *t, uint32_t hint)
{
    row_prefetch(t->chains[hint & t->chain_mask]);
}

void memtable_hint_next(const struct memtable *t, uint32_t hint)
{
    const struct row *r = t->chains[hint & t->chain_mask];
    if (r != NULL && r->hash != hint) row_prefetch(r->chain);
}

static struct row *row_create(struct memtable *t, uint32_t hash, const struct store_row *from,
                              size_t value_room)
{
    assert(from->key.size <= UINT16_MAX && from->sub.size <= UINT8_MAX);
    struct row *r = memtable_arena_alloc(&t->arena, offsetof(struct row, bytes) + from->key.size +
                                                        from->sub.size + value_room);
    if (r == NULL) return NULL;
    for (size_t ahead = 256; ahead < 512; ahead += 64) /* where the next rows will stand */
        __builtin_prefetch(r->bytes + ahead, 1);
    r->in_tree = false;
    r->deleted = false;
    r->hash = hash;
    r->class = (unsigned)from->class & 0x7Fu;
    r->key_size = (uint16_t)from->key.size;
    r->sub_size = (uint8_t)from->sub.size;
    r->value = r->bytes + from->key.size + from->sub.size;
    r->value_room = (uint32_t)value_room;
    if (from->key.size > 0) memcpy(r->bytes, from->key.data, from->key.size);
    if (from->sub.size > 0) memcpy(r->bytes + from->key.size, from->sub.data, from->sub.size);
    struct table_class *tc = &t->classes[from->class];
    r->older = tc->newest;
    tc->newest = r;
    if (tc->eager && !tree_catch_up(t, tc)) {
        tc->newest = r->older;
        return NULL;
    }
    struct row **chain = &t->chains[hash & t->chain_mask];
    r->chain = *chain;
    *chain = r;
    tc->rows++;
    return r;
}

bool memtable_put(struct memtable *t, const struct store_row *row)
{
    assert(!t->frozen && row->value.size <= UINT32_MAX);
    uint32_t hash = row_hash(row->class, row->key, row->sub);
    struct row *r = row_find(t, hash, row->class, row->key, row->sub);
    if (r == NULL) {
        r = row_create(t, hash, row, row->value.size);
        if (r == NULL) return false;
    } else if (r->value_room < row->value.size) {
        size_t room = row->value.size + row->value.size / 8; /* values that grow grow again */
        if (room > UINT32_MAX) room = row->value.size;
        uint8_t *value = memtable_arena_alloc(&t->arena, room);
        if (value == NULL) return false;
        r->value = value;
        r->value_room = (uint32_t)room;
    }
    if (row->value.size > 0) memcpy(r->value, row->value.data, row->value.size);
    r->value_size = (uint32_t)row->value.size;
    r->deleted = false;
    return true;
}

bool memtable_delete(struct memtable *t, const struct store_row *row)
{
    assert(!t->frozen);
    uint32_t hash = row_hash(row->class, row->key, row->sub);
    struct row *r = row_find(t, hash, row->class, row->key, row->sub);
    if (r == NULL) {
        if (memtable_range_has(t, row->class, row->key)) return true;
        r = row_create(t, hash, row, 0);
        if (r == NULL) return false;
    }
    r->deleted = true;
    r->value_size = 0;
    return true;
}

enum memtable_found memtable_get(const struct memtable *t, enum store_class class,
                                 struct kv_slice key, struct kv_slice sub, struct kv_slice *value)
{
    const struct row *r = row_find(t, row_hash(class, key, sub), class, key, sub);
    if (r == NULL) return memtable_range_has(t, class, key) ? MEMTABLE_DELETED : MEMTABLE_NOTHING;
    if (r->deleted) return MEMTABLE_DELETED;
    *value = kv_slice(r->value, r->value_size);
    return MEMTABLE_VALUE;
}

/* Order */

bool memtable_seek(struct memtable *t, enum store_class class, struct kv_slice from,
                   struct memtable_cursor *out)
{
    *out = (struct memtable_cursor){0};
    t->classes[class].sought = true;
    if (!tree_catch_up(t, &t->classes[class])) return false;
    struct node *n = t->classes[class].root;
    if (n == NULL) return true;
    struct target target = {key_prefix(from), from, kv_slice(NULL, 0)};
    while (!n->is_leaf)
        n = node_children(n)[node_upper(n, 1, &target) - 1];
    uint32_t slot = node_upper(n, 0, &target);
    /* A row with an empty sub may be the target itself. */
    if (slot > 0 && target_cmp(&target, n->prefix[slot - 1], n->rows[slot - 1]) == 0) slot--;
    *out = (struct memtable_cursor){.leaf = n, .slot = slot};
    return true;
}

static const struct row *cursor_next(struct memtable_cursor *i)
{
    const struct node *n = i->leaf;
    while (n != NULL && i->slot == n->count) {
        n = n->next;
        i->leaf = n;
        i->slot = 0;
    }
    return n == NULL ? NULL : n->rows[i->slot++];
}

static bool row_out(const struct row *r, struct store_row *row, bool *deleted)
{
    if (r == NULL) return false;
    *row = (struct store_row){
        .class = (enum store_class)r->class,
        .key = row_key(r),
        .sub = row_sub(r),
        .value = kv_slice(r->value, r->value_size),
    };
    *deleted = r->deleted;
    return true;
}

bool memtable_next(struct memtable_cursor *i, struct store_row *row, bool *deleted)
{
    return row_out(cursor_next(i), row, deleted);
}

struct memtable_sorted {
    uint64_t count, at;
    struct sorted_row {
        uint64_t prefix;
        const struct row *row;
    } rows[];
};

static int sorted_cmp(const void *a, const void *b)
{
    const struct sorted_row *x = a, *y = b;
    struct target target = {x->prefix, row_key(x->row), row_sub(x->row)};
    return target_cmp(&target, y->prefix, y->row);
}

struct memtable_sorted *memtable_sorted_create(const struct memtable *t, enum store_class class)
{
    assert(t->frozen);
    const struct table_class *tc = &t->classes[class];
    struct memtable_sorted *s = malloc(sizeof *s + tc->rows * sizeof *s->rows);
    if (s == NULL) return NULL;
    s->count = s->at = 0;
    for (const struct row *r = tc->newest; r != NULL; r = r->older)
        s->rows[s->count++] = (struct sorted_row){key_prefix(row_key(r)), r};
    assert(s->count == tc->rows);
    qsort(s->rows, s->count, sizeof *s->rows, sorted_cmp);
    return s;
}

bool memtable_sorted_next(struct memtable_sorted *s, struct store_row *row, bool *deleted)
{
    return row_out(s->at == s->count ? NULL : s->rows[s->at++].row, row, deleted);
}

void memtable_sorted_destroy(struct memtable_sorted *s)
{
    free(s);
}

/* Deleted ranges */

static bool range_ends_before(struct kv_range r, struct kv_slice key)
{
    return r.to.size != 0 && kv_slice_cmp(r.to, key) < 0;
}

/* The first range that does not end before `key`. */
static uint32_t ranges_find(const struct table_class *tc, struct kv_slice key)
{
    uint32_t low = 0, high = tc->range_count;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (range_ends_before(tc->ranges[mid], key))
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

bool memtable_range_has(const struct memtable *t, enum store_class class, struct kv_slice key)
{
    const struct table_class *tc = &t->classes[class];
    if (tc->range_count == 0) return false;
    uint32_t i = ranges_find(tc, key);
    if (i < tc->range_count && kv_range_has(tc->ranges[i], key)) return true;
    /* A range that ends exactly at `key` is found first; the next may begin there. */
    return i + 1 < tc->range_count && kv_range_has(tc->ranges[i + 1], key);
}

static struct kv_slice arena_copy(struct memtable *t, struct kv_slice s)
{
    uint8_t *p = s.size == 0 ? NULL : memtable_arena_alloc(&t->arena, s.size);
    if (p == NULL) return kv_slice(NULL, 0);
    memcpy(p, s.data, s.size);
    return kv_slice(p, s.size);
}

/* Enters the range, joined with those it touches. */
static bool ranges_add(struct memtable *t, struct table_class *tc, struct kv_range range)
{
    if (tc->range_count == tc->range_room) {
        uint32_t room = tc->range_room == 0 ? 8 : tc->range_room * 2;
        struct kv_range *ranges = realloc(tc->ranges, room * sizeof *ranges);
        if (ranges == NULL) return false;
        tc->ranges = ranges;
        tc->range_room = room;
    }
    struct kv_range joined = {arena_copy(t, range.from), arena_copy(t, range.to)};
    if (joined.from.size != range.from.size || joined.to.size != range.to.size) return false;
    uint32_t first = ranges_find(tc, range.from), end = first;
    while (end < tc->range_count &&
           (range.to.size == 0 || kv_slice_cmp(tc->ranges[end].from, range.to) <= 0))
        end++;
    if (end > first) {
        struct kv_range left = tc->ranges[first], right = tc->ranges[end - 1];
        if (kv_slice_cmp(left.from, joined.from) < 0) joined.from = left.from;
        if (right.to.size == 0 || (joined.to.size != 0 && kv_slice_cmp(right.to, joined.to) > 0))
            joined.to = right.to;
    }
    memmove(tc->ranges + first + 1, tc->ranges + end, (tc->range_count - end) * sizeof *tc->ranges);
    tc->ranges[first] = joined;
    tc->range_count += 1 - (end - first);
    return true;
}

bool memtable_delete_range(struct memtable *t, enum store_class class, struct kv_range range)
{
    assert(!t->frozen);
    if (range.to.size != 0 && kv_slice_cmp(range.from, range.to) >= 0) return true; /* empty */
    struct memtable_cursor i;
    if (!memtable_seek(t, class, range.from, &i)) return false;
    for (;;) {
        const struct row *seen = cursor_next(&i);
        if (seen == NULL || !kv_range_has(range, row_key(seen))) break;
        struct row *r = ((struct node *)(uintptr_t)i.leaf)->rows[i.slot - 1];
        r->deleted = true;
        r->value_size = 0;
    }
    return ranges_add(t, &t->classes[class], range);
}

const struct kv_range *memtable_ranges(const struct memtable *t, enum store_class class,
                                       uint32_t *count)
{
    *count = t->classes[class].range_count;
    return t->classes[class].ranges;
}

size_t memtable_bytes(const struct memtable *t)
{
    return t->arena.bytes;
}

size_t memtable_bytes_mapped(const struct memtable *t)
{
    return t == NULL ? 0 : t->arena.mapped + ((size_t)t->chain_mask + 1) * sizeof *t->chains;
}

uint64_t memtable_rows(const struct memtable *t, enum store_class class)
{
    return t->classes[class].rows;
}

bool memtable_is_empty(const struct memtable *t)
{
    for (int c = 0; c < STORE_CLASSES; c++)
        if (t->classes[c].rows != 0 || t->classes[c].range_count != 0) return false;
    return true;
}

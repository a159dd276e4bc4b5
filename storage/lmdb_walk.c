#include "storage/lmdb_walk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/base/endian.h"

/* Pages as LMDB lays them out:
 *
 *   page    u64 number, u16 pad, u16 flags, u16 lower, u16 upper (overflow: u32 pages); then u16
 *           offsets of nodes up to `lower`; nodes from `upper` to the end, without a gap
 *   node    u16 low, u16 high, u16 flags, u16 bytes of key; key; data
 *           branch: low, high, flags are the child's number, and the first key is empty
 *           leaf: low, high are the size of the data
 *   meta    pages 0 and 1, the higher transaction id counts: magic, version, two databases (free
 *           pages, names), last page, transaction id
 *
 * A page may be reached once, and a free one never: two users of a page would overwrite each other
 * with the next commit. */
enum {
    PAGE_BYTES_MIN = 512,
    PAGE_BYTES_MAX = 65536,
    PAGE_HEADER = 16,
    NODE_HEADER = 8,
    DB_BYTES = 48,
    META_BYTES = 136,
    META_VERSION = 1,
    DEPTH_MAX = 32,            /* LMDB's own */
    BUFFERS = 2 * DEPTH_MAX + 1, /* a tree in each leaf's node; and names above */
    NAME_BYTES_MAX = 32,

    PAGE_BRANCH = 0x01,
    PAGE_LEAF = 0x02,
    PAGE_OVERFLOW = 0x04,
    PAGE_META = 0x08,
    PAGE_DIRTY = 0x10, /* left in the pages inside of nodes */
    PAGE_SUB = 0x40,

    NODE_BIG = 0x01, /* data stand in overflow pages */
    NODE_TREE = 0x02,
    NODE_DUPS = 0x04,

    DB_DUPS = 0x04
};
static const uint32_t magic = 0xBEEFC0DE;
/* Pages at the end that were given back before they were ever written; also keeps a damaged
 * number from asking for memory. */
static const uint64_t pages_unwritten_max = 1 << 20;
static const uint64_t no_page = UINT64_MAX;

struct db {
    uint16_t flags, depth;
    uint64_t entries, root;
};
struct state {
    struct lmdb_walk *w;
    int fd;
    uint64_t file_bytes, last;
    uint32_t page_bytes;
    uint8_t *seen; /* a bit a page */
    uint8_t *buffers[BUFFERS];
    uint8_t *big; /* a value that spans pages */
    size_t big_bytes;
    enum kv_err failed; /* ends the walk */
};
struct tree {
    const char *name;
    struct db db;
    bool is_integer; /* keys are u64, the list of free pages */
    bool is_names;   /* its data are databases */
    bool is_dups;    /* the keys are duplicates of `key` */
    struct kv_slice key;
    uint64_t entries;
    uint32_t level; /* of the root, in buffers */
    bool broken;    /* something was told: the count cannot fit */
};
struct page { /* a checked one, or one inside a node */
    const uint8_t *bytes;
    uint32_t size, count;
    uint64_t number;
    bool is_leaf;
};
struct node {
    struct kv_slice key, data;
    uint64_t child;
    uint32_t data_size;
    uint16_t flags;
};
struct bounds {
    struct kv_slice from, to;
    bool has_from, has_to;
};

static void tell(struct state *s, const char *database, uint64_t page, const char *what, const struct bounds *b)
{
    struct lmdb_damage d = {.database = database, .page = page, .offset = page * s->page_bytes, .what = what};
    if (b != NULL) {
        d.has_range = true;
        if (b->has_from) d.from = b->from;
        if (b->has_to) d.to = b->to;
    }
    s->w->damages++;
    if (s->w->damage != NULL) s->w->damage(s->w->context, &d);
}

static bool tree_damaged(struct state *s, struct tree *t, uint64_t page, const char *what, const struct bounds *b)
{
    t->broken = true;
    struct bounds whole = {.from = t->key, .to = t->key, .has_from = true, .has_to = true};
    tell(s, t->name, page, what, t->is_dups ? &whole : b);
    return false;
}

static bool page_take(struct state *s, uint64_t number)
{
    uint8_t bit = (uint8_t)(1u << (number % 8));
    if ((s->seen[number / 8] & bit) != 0) return false;
    s->seen[number / 8] |= bit;
    return true;
}

/* What is wrong with reading it, or NULL. */
static const char *bytes_read(struct state *s, uint64_t offset, uint8_t *into, size_t size)
{
    size_t got = 0;
    while (got < size) {
        ssize_t n = pread(s->fd, into + got, size - got, (off_t)(offset + got));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return "the device cannot read it";
        if (n == 0) return "the file ends before it";
        got += (size_t)n;
    }
    return NULL;
}

static int key_order(const struct tree *t, struct kv_slice a, struct kv_slice b)
{
    if (!t->is_integer) return kv_slice_cmp(a, b);
    uint64_t x = a.size == 8 ? le64_get(a.data) : 0, y = b.size == 8 ? le64_get(b.data) : 0;
    return x < y ? -1 : x > y;
}

/* Nodes */

static uint32_t node_bytes(const uint8_t *at, bool is_leaf)
{
    uint32_t size = NODE_HEADER + le16_get(at + 6);
    if (!is_leaf) return size;
    uint32_t data = le16_get(at) | (uint32_t)le16_get(at + 2) << 16;
    return size + ((le16_get(at + 4) & NODE_BIG) != 0 ? 8 : data);
}

static struct node node_at(const struct page *p, uint32_t i)
{
    const uint8_t *at = p->bytes + le16_get(p->bytes + PAGE_HEADER + 2 * i);
    uint64_t low = le16_get(at) | (uint32_t)le16_get(at + 2) << 16;
    struct node n = {.key = kv_slice(at + NODE_HEADER, le16_get(at + 6)), .flags = le16_get(at + 4)};
    if (!p->is_leaf) {
        n.child = low | (uint64_t)n.flags << 32;
        n.flags = 0;
        return n;
    }
    n.data_size = (uint32_t)low;
    n.data = kv_slice(n.key.data + n.key.size, (n.flags & NODE_BIG) != 0 ? 8 : low);
    return n;
}

/* Every node lies inside and they fill the page to its last byte. What is wrong, or NULL. */
static const char *shape_fault(struct page *p)
{
    uint32_t lower = le16_get(p->bytes + 12), upper = le16_get(p->bytes + 14);
    if (lower < PAGE_HEADER || lower % 2 != 0 || upper < lower || upper > p->size) return "its header is damaged";
    p->count = (lower - PAGE_HEADER) / 2;
    uint64_t filled = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t at = le16_get(p->bytes + PAGE_HEADER + 2 * i);
        if (at < upper || at % 2 != 0 || at + NODE_HEADER > p->size) return "an entry lies outside of it";
        uint64_t size = node_bytes(p->bytes + at, p->is_leaf);
        if (at + size > p->size) return "an entry reaches beyond its end";
        filled += size + size % 2;
    }
    return filled == p->size - upper ? NULL : "its entries overlap or leave gaps";
}

static const char *order_fault(const struct tree *t, const struct page *p, const struct bounds *b)
{
    struct kv_slice last = {0};
    for (uint32_t i = 0; i < p->count; i++) {
        struct node n = node_at(p, i);
        if (t->is_integer && n.key.size != 8 && (p->is_leaf || i > 0)) return "a key has the wrong size";
        if (!p->is_leaf && i == 0) continue; /* stands for all below the next */
        bool first = p->is_leaf ? i == 0 : i == 1;
        if (!first && key_order(t, last, n.key) >= 0) return "its keys are out of order";
        if (first && b->has_from && key_order(t, n.key, b->from) < 0) return "a key belongs to another page";
        if (b->has_to && key_order(t, n.key, b->to) >= 0) return "a key belongs to another page";
        last = n.key;
    }
    return NULL;
}

/* Reads and judges page `number` of the tree into the buffer of its level. */
static bool page_load(struct state *s, struct tree *t, uint64_t number, uint32_t depth, const struct bounds *b,
                      struct page *out)
{
    uint32_t level = t->level + depth;
    if (number < 2 || number > s->last) return tree_damaged(s, t, number, "no such page", b);
    if (!page_take(s, number)) return tree_damaged(s, t, number, "used twice", b);
    if (s->buffers[level] == NULL) s->buffers[level] = malloc(s->page_bytes);
    if (s->buffers[level] == NULL) {
        s->failed = KV_BUSY;
        return false;
    }
    uint8_t *bytes = s->buffers[level];
    const char *fault = bytes_read(s, number * s->page_bytes, bytes, s->page_bytes);
    if (fault != NULL) return tree_damaged(s, t, number, fault, b);
    s->w->pages++;
    bool is_leaf = depth + 1 == t->db.depth;
    if (le64_get(bytes) != number) return tree_damaged(s, t, number, "it says it is another page", b);
    if (le16_get(bytes + 10) != (is_leaf ? PAGE_LEAF : PAGE_BRANCH))
        return tree_damaged(s, t, number, "it is of another kind", b);
    *out = (struct page){.bytes = bytes, .size = s->page_bytes, .number = number, .is_leaf = is_leaf};
    fault = shape_fault(out);
    if (fault == NULL && out->count < 1) fault = "it is empty";
    if (fault == NULL) fault = order_fault(t, out, b);
    if (fault != NULL) return tree_damaged(s, t, number, fault, b);
    if (s->w->page != NULL) s->w->page(s->w->context, t->name, number, is_leaf, out->count, node_at(out, 0).key);
    return true;
}

/* Leaves */

static void tree_walk(struct state *s, struct tree *t);

static void row(struct state *s, struct tree *t, struct kv_slice key, struct kv_slice value, uint64_t page)
{
    t->entries++;
    s->w->rows++;
    if (s->w->row == NULL || t->is_integer) return;
    enum kv_err err = s->w->row(s->w->context, t->name, key, value, page);
    if (err != KV_OK) s->failed = err;
}

/* A value in pages of its own. */
static bool big_read(struct state *s, struct tree *t, const struct node *n, struct kv_slice *value)
{
    uint64_t first = le64_get(n->data.data), size = n->data_size;
    uint64_t pages = (PAGE_HEADER + size + s->page_bytes - 1) / s->page_bytes;
    struct bounds one = {.from = n->key, .to = n->key, .has_from = true, .has_to = true};
    if (first < 2 || first > s->last || pages > s->last - first + 1)
        return tree_damaged(s, t, first, "no such page", &one);
    for (uint64_t i = 0; i < pages; i++)
        if (!page_take(s, first + i)) return tree_damaged(s, t, first + i, "used twice", &one);
    size_t bytes = (size_t)pages * s->page_bytes;
    if (bytes > s->big_bytes) {
        uint8_t *grown = realloc(s->big, bytes);
        if (grown == NULL) {
            s->failed = KV_BUSY;
            return false;
        }
        s->big = grown;
        s->big_bytes = bytes;
    }
    const char *fault = bytes_read(s, first * s->page_bytes, s->big, bytes);
    if (fault != NULL) return tree_damaged(s, t, first, fault, &one);
    s->w->pages += pages;
    if (le64_get(s->big) != first || le16_get(s->big + 10) != PAGE_OVERFLOW || le32_get(s->big + 12) != pages)
        return tree_damaged(s, t, first, "its header is damaged", &one);
    *value = kv_slice(s->big + PAGE_HEADER, (size_t)size);
    return true;
}

static bool db_read(struct kv_slice bytes, struct db *out)
{
    if (bytes.size != DB_BYTES) return false;
    *out = (struct db){.flags = le16_get(bytes.data + 4),
                       .depth = le16_get(bytes.data + 6),
                       .entries = le64_get(bytes.data + 32),
                       .root = le64_get(bytes.data + 40)};
    return true;
}

static void dups_page(struct state *s, struct tree *t, const struct node *n, uint64_t number)
{
    struct page p = {.bytes = n->data.data, .size = (uint32_t)n->data.size, .number = number, .is_leaf = true};
    struct tree dups = {.name = t->name, .is_dups = true, .key = n->key};
    struct bounds none = {0};
    const char *fault = n->data.size < PAGE_HEADER ? "its duplicates are damaged" : NULL;
    if (fault == NULL && (le16_get(p.bytes + 10) & ~PAGE_DIRTY) != (PAGE_LEAF | PAGE_SUB)) fault = "its duplicates are damaged";
    if (fault == NULL) fault = shape_fault(&p);
    if (fault == NULL) fault = order_fault(&dups, &p, &none);
    if (fault != NULL) {
        tree_damaged(s, &dups, number, fault, NULL);
        t->broken = true;
        return;
    }
    for (uint32_t i = 0; i < p.count && s->failed == KV_OK; i++) row(s, t, n->key, node_at(&p, i).key, number);
}

static void dups_tree(struct state *s, struct tree *t, const struct node *n, uint32_t level, uint64_t number)
{
    struct tree dups = {.name = t->name, .is_dups = true, .key = n->key, .level = level};
    if (!db_read(n->data, &dups.db)) tree_damaged(s, &dups, number, "its duplicates are damaged", NULL);
    else tree_walk(s, &dups);
    t->entries += dups.entries;
    t->broken = t->broken || dups.broken;
}

static void names_leaf(struct state *s, struct tree *t, const struct node *n, uint32_t level, uint64_t number)
{
    char name[NAME_BYTES_MAX + 1] = "";
    struct tree of = {.name = name, .level = level};
    t->entries++;
    if (n->flags != NODE_TREE || n->key.size == 0 || n->key.size > NAME_BYTES_MAX || !db_read(n->data, &of.db)) {
        tree_damaged(s, t, number, "the name of a database is damaged", NULL);
        return;
    }
    memcpy(name, n->key.data, n->key.size);
    tree_walk(s, &of);
}

/* The pages that the next commits will overwrite: u64 count, u64 page numbers. */
static void free_pages(struct state *s, struct tree *t, struct kv_slice list, uint64_t number)
{
    uint64_t count = list.size >= 8 ? le64_get(list.data) : no_page;
    if (list.size % 8 != 0 || count > list.size / 8 - 1) {
        tree_damaged(s, t, number, "the list of free pages is damaged", NULL);
        return;
    }
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t page = le64_get(list.data + 8 * i);
        if (page < 2 || page > s->last || !page_take(s, page))
            tree_damaged(s, t, page, "called free, but in use or not there", NULL);
    }
}

static void leaf_node(struct state *s, struct tree *t, const struct node *n, uint32_t level, uint64_t number)
{
    bool may_dup = (t->db.flags & DB_DUPS) != 0;
    struct kv_slice value = n->data;
    struct bounds one = {.from = n->key, .to = n->key, .has_from = true, .has_to = true};
    if (t->is_dups) {
        row(s, t, t->key, n->key, number);
    } else if (t->is_names) {
        names_leaf(s, t, n, level, number);
    } else if (may_dup && n->flags == (NODE_DUPS | NODE_TREE)) {
        dups_tree(s, t, n, level, number);
    } else if (may_dup && n->flags == NODE_DUPS) {
        dups_page(s, t, n, number);
    } else if (n->flags == 0 || (n->flags == NODE_BIG && !may_dup)) {
        if (n->flags == NODE_BIG && !big_read(s, t, n, &value)) return;
        if (t->is_integer) free_pages(s, t, value, number);
        row(s, t, n->key, value, number);
    } else {
        tree_damaged(s, t, number, "an entry is of no known kind", &one);
    }
}

/* Trees */

static void page_walk(struct state *s, struct tree *t, uint64_t number, uint32_t depth, struct bounds b)
{
    struct page p = {0};
    if (s->w->inner_only && depth + 1 == t->db.depth && !t->is_names) {
        if (number >= s->file_bytes / s->page_bytes) tree_damaged(s, t, number, "the file ends before it", &b);
        return;
    }
    if (!page_load(s, t, number, depth, &b, &p)) return;
    for (uint32_t i = 0; i < p.count && s->failed == KV_OK; i++) {
        struct node n = node_at(&p, i);
        if (p.is_leaf) {
            leaf_node(s, t, &n, t->level + depth + 1, number);
            continue;
        }
        struct bounds child = b;
        if (i > 0) {
            child.from = n.key;
            child.has_from = true;
        }
        if (i + 1 < p.count) {
            child.to = node_at(&p, i + 1).key;
            child.has_to = true;
        }
        page_walk(s, t, n.child, depth + 1, child);
    }
}

static void tree_walk(struct state *s, struct tree *t)
{
    struct bounds all = {0};
    if (t->db.root == no_page && t->db.depth == 0 && t->db.entries == 0) return;
    if (t->db.depth == 0 || t->db.depth > DEPTH_MAX || t->level + t->db.depth > BUFFERS) {
        tree_damaged(s, t, t->db.root, "its depth is impossible", &all);
        return;
    }
    page_walk(s, t, t->db.root, 0, all);
    bool counted = !s->w->inner_only || t->is_names;
    if (s->failed == KV_OK && counted && !t->broken && t->entries != t->db.entries)
        tree_damaged(s, t, t->db.root, "rows are missing, or too many", &all);
}

/* The file */

static bool meta_good(const uint8_t *page, uint64_t number, enum kv_err *err)
{
    if (le32_get(page + PAGE_HEADER) != magic || le64_get(page) != number || le16_get(page + 10) != PAGE_META)
        return false;
    if (le32_get(page + PAGE_HEADER + 4) != META_VERSION) *err = KV_VERSION;
    return true;
}

static enum kv_err metas_read(struct state *s, struct db *free_db, struct db *names)
{
    uint8_t first[PAGE_HEADER + META_BYTES], second[PAGE_HEADER + META_BYTES];
    enum kv_err err = KV_OK;
    const char *fault = bytes_read(s, 0, first, sizeof first);
    bool good = fault == NULL && meta_good(first, 0, &err);
    s->page_bytes = good ? le32_get(first + 40) : 0;
    if (s->page_bytes < PAGE_BYTES_MIN || s->page_bytes > PAGE_BYTES_MAX || (s->page_bytes & (s->page_bytes - 1)) != 0)
        good = false;
    if (!good) {
        s->page_bytes = 0;
        tell(s, "", 0, fault != NULL ? fault : "its header is damaged", NULL);
        return KV_CORRUPT;
    }
    fault = bytes_read(s, s->page_bytes, second, sizeof second);
    if (fault != NULL || !meta_good(second, 1, &err)) {
        tell(s, "", 1, fault != NULL ? fault : "its header is damaged", NULL);
        return KV_CORRUPT;
    }
    if (err != KV_OK) return err;
    const uint8_t *meta = (le64_get(second + 144) > le64_get(first + 144) ? second : first) + PAGE_HEADER;
    s->last = le64_get(meta + 120);
    db_read(kv_slice(meta + 24, DB_BYTES), free_db);
    db_read(kv_slice(meta + 24 + DB_BYTES, DB_BYTES), names);
    if (s->last >= 1 && s->last <= s->file_bytes / s->page_bytes + pages_unwritten_max) return KV_OK;
    tell(s, "", 0, "its last page is far behind the file's end", NULL);
    return KV_CORRUPT;
}

static enum kv_err file_walk(struct state *s)
{
    struct tree names = {.name = "names", .is_names = true}, unused = {.name = "free", .is_integer = true};
    enum kv_err err = metas_read(s, &unused.db, &names.db);
    s->w->page_bytes = s->page_bytes;
    if (err != KV_OK) return err;
    s->seen = calloc(1, (size_t)(s->last / 8 + 1));
    if (s->seen == NULL) return KV_BUSY;
    s->w->inner_only = s->w->pages_max != 0 && s->last + 1 > s->w->pages_max;
    tree_walk(s, &names);
    if (s->failed == KV_OK) tree_walk(s, &unused); /* last: it must name none of the others' pages */
    return s->failed != KV_OK ? s->failed : s->w->damages > 0 ? KV_CORRUPT : KV_OK;
}

enum kv_err lmdb_walk(const char *path, struct lmdb_walk *w)
{
    struct stat st;
    struct state s = {.w = w};
    w->pages = w->rows = w->damages = w->page_bytes = 0;
    w->inner_only = false;
    s.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (s.fd < 0) return errno == ENOENT ? KV_NOT_FOUND : errno == EACCES ? KV_DENIED : KV_IO;
    enum kv_err err = fstat(s.fd, &st) == 0 ? KV_OK : KV_IO;
    if (err == KV_OK) {
        s.file_bytes = (uint64_t)st.st_size;
        err = file_walk(&s);
    }
    for (int i = 0; i < BUFFERS; i++) free(s.buffers[i]);
    free(s.big);
    free(s.seen);
    close(s.fd);
    return err;
}

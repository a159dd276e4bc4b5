#include "storage/lmdb_size.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/base/arena.h"
#include "client/base/endian.h"

/* Pages as lmdb_walk.c describes them. Nothing here judges a page: what does not fit ends the estimate. */
enum {
    PAGE_BYTES_MIN = 512,
    PAGE_BYTES_MAX = 65536,
    PAGE_HEADER = 16,
    NODE_HEADER = 8,
    DB_BYTES = 48,
    META_BYTES = 136,
    DEPTH_MAX = 32,
    PAGE_BRANCH = 0x01,
    PAGE_LEAF = 0x02,
    NODE_BIG = 0x01
};
static const uint32_t magic = 0xBEEFC0DE;

struct db {
    uint32_t depth;
    uint64_t leaves, root;
};
struct child { /* a page, and the least key that may be beneath it */
    uint64_t page;
    struct kv_slice key;
};
struct level {
    struct child *pages;
    uint32_t count, room, height; /* height: 1 of leaves */
};
struct file {
    int fd;
    uint32_t page_bytes;
    struct kv_arena keys;
};
struct page {
    uint8_t bytes[PAGE_BYTES_MAX];
    uint32_t size, count;
    bool is_leaf;
};
struct node {
    struct kv_slice key, data;
    uint64_t child, data_bytes;
};

static enum kv_err bytes_read(const struct file *f, uint64_t offset, uint8_t *into, size_t size)
{
    for (size_t got = 0; got < size;) {
        ssize_t n = pread(f->fd, into + got, size - got, (off_t)(offset + got));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? KV_IO : KV_CORRUPT;
        got += (size_t)n;
    }
    return KV_OK;
}

static enum kv_err page_read(const struct file *f, uint64_t number, struct page *p)
{
    if (number < 2 || number > (uint64_t)INT64_MAX / f->page_bytes) return KV_CORRUPT;
    enum kv_err err = bytes_read(f, number * f->page_bytes, p->bytes, f->page_bytes);
    if (err != KV_OK) return err;
    uint32_t flags = le16_get(p->bytes + 10), lower = le16_get(p->bytes + 12);
    p->size = f->page_bytes;
    p->is_leaf = (flags & PAGE_LEAF) != 0;
    bool good = le64_get(p->bytes) == number && (flags & (PAGE_LEAF | PAGE_BRANCH)) != 0 && lower > PAGE_HEADER && lower <= p->size;
    p->count = good ? (lower - PAGE_HEADER) / 2 : 0;
    return good ? KV_OK : KV_CORRUPT;
}

static enum kv_err node_read(const struct page *p, uint32_t i, struct node *out)
{
    uint32_t at = le16_get(p->bytes + PAGE_HEADER + 2 * i);
    if (at < PAGE_HEADER || at + NODE_HEADER > p->size) return KV_CORRUPT;
    const uint8_t *n = p->bytes + at;
    uint32_t key_bytes = le16_get(n + 6), flags = le16_get(n + 4), low = le16_get(n) | (uint32_t)le16_get(n + 2) << 16;
    uint32_t rest = p->size - at - NODE_HEADER;
    if (key_bytes > rest) return KV_CORRUPT;
    *out = (struct node){.key = kv_slice(n + NODE_HEADER, key_bytes), .child = low | (uint64_t)flags << 32, .data_bytes = low};
    uint32_t here = !p->is_leaf ? 0 : (flags & NODE_BIG) != 0 ? 8
                                                              : low;
    if (here > rest - key_bytes) return KV_CORRUPT;
    out->data = kv_slice(n + NODE_HEADER + key_bytes, here);
    return KV_OK;
}

static struct db db_read(const uint8_t *bytes)
{
    return (struct db){.depth = le16_get(bytes + 6), .leaves = le64_get(bytes + 16), .root = le64_get(bytes + 40)};
}

/* The names of databases as of the last commit. */
static enum kv_err names_find(struct file *f, struct db *out)
{
    uint8_t metas[2][PAGE_HEADER + META_BYTES];
    enum kv_err err = bytes_read(f, 0, metas[0], sizeof metas[0]);
    if (err != KV_OK) return err;
    f->page_bytes = le32_get(metas[0] + 40);
    if (le32_get(metas[0] + PAGE_HEADER) != magic || f->page_bytes < PAGE_BYTES_MIN || f->page_bytes > PAGE_BYTES_MAX) return KV_CORRUPT;
    err = bytes_read(f, f->page_bytes, metas[1], sizeof metas[1]);
    if (err != KV_OK) return err;
    const uint8_t *meta = metas[le64_get(metas[1] + 144) > le64_get(metas[0] + 144)];
    *out = db_read(meta + PAGE_HEADER + 24 + DB_BYTES);
    return KV_OK;
}

static enum kv_err database_find(const struct file *f, const struct db *names, const char *name, struct page *p, struct db *out)
{
    struct node n;
    if (names->depth != 1) return names->depth == 0 ? KV_NOT_FOUND : KV_CORRUPT; /* a handful of names */
    enum kv_err err = page_read(f, names->root, p);
    for (uint32_t i = 0; err == KV_OK && i < p->count; i++) {
        err = node_read(p, i, &n);
        if (err != KV_OK || !kv_slice_eq(n.key, kv_str(name))) continue;
        if (n.data.size != DB_BYTES) return KV_CORRUPT;
        *out = db_read(n.data.data);
        return KV_OK;
    }
    return err == KV_OK ? KV_NOT_FOUND : err;
}

static enum kv_err level_add(struct file *f, struct level *l, uint64_t page, struct kv_slice key)
{
    if (l->count == l->room) {
        uint32_t room = l->room == 0 ? 256 : l->room * 2;
        struct child *pages = realloc(l->pages, room * sizeof *pages);
        if (pages == NULL) return KV_BUSY;
        l->pages = pages;
        l->room = room;
    }
    struct kv_slice own = kv_arena_copy(&f->keys, key);
    if (own.data == NULL) return KV_BUSY;
    l->pages[l->count++] = (struct child){page, own};
    return KV_OK;
}

/* Replaces inner pages by those right beneath them. */
static enum kv_err level_down(struct file *f, struct level *l, struct page *p)
{
    struct level below = {.height = l->height - 1};
    enum kv_err err = KV_OK;
    struct node n;
    for (uint32_t i = 0; err == KV_OK && i < l->count; i++) {
        err = page_read(f, l->pages[i].page, p);
        if (err == KV_OK && p->is_leaf) err = KV_CORRUPT;
        for (uint32_t k = 0; err == KV_OK && k < p->count; k++) {
            err = node_read(p, k, &n);
            if (err == KV_OK) err = level_add(f, &below, n.child, k == 0 ? l->pages[i].key : n.key);
        }
    }
    free(l->pages);
    *l = below;
    return err;
}

/* Bytes of the rows of `range` in a leaf that lies somewhere below the page. */
static enum kv_err leaf_bytes(const struct file *f, uint64_t page, uint32_t height, struct kv_range range, struct page *p, uint64_t *bytes)
{
    struct node n;
    enum kv_err err = page_read(f, page, p);
    bool is_all = height > 1; /* it stands for others, which are not at the edge */
    for (; err == KV_OK && height > 1; height--) {
        if (p->is_leaf) return KV_CORRUPT;
        err = node_read(p, p->count / 2, &n);
        if (err == KV_OK) err = page_read(f, n.child, p);
    }
    if (err == KV_OK && !p->is_leaf) err = KV_CORRUPT;
    for (uint32_t i = 0; err == KV_OK && i < p->count; i++) {
        err = node_read(p, i, &n);
        if (err == KV_OK && (is_all || kv_range_has(range, n.key))) *bytes += n.key.size + n.data_bytes;
    }
    return err;
}

/* Of level pages [first, end), which all have something to do with the range. */
static enum kv_err range_size(const struct file *f, const struct level *l, uint32_t first, uint32_t end, double leaves_each, uint32_t reads,
                              struct page *p, struct checkpoint_size *of)
{
    uint32_t count = end - first, taken = count < reads ? count : reads;
    uint64_t bytes = 0;
    enum kv_err err = KV_OK;
    for (uint32_t i = 0; err == KV_OK && i < taken; i++) {
        uint32_t at = first + (uint32_t)((uint64_t)i * count / taken);
        err = leaf_bytes(f, l->pages[at].page, l->height, of->range, p, &bytes);
    }
    of->bytes = taken == 0 ? 0 : (uint64_t)((double)bytes / taken * count * leaves_each);
    struct kv_slice middle = count < 2 ? kv_slice(NULL, 0) : l->pages[first + count / 2].key;
    of->middle.size = 0;
    if (middle.size > sizeof of->middle.bytes || middle.size == 0 || kv_slice_cmp(middle, of->range.from) <= 0 || !kv_range_has(of->range, middle))
        return err;
    of->middle.size = (uint16_t)middle.size;
    memcpy(of->middle.bytes, middle.data, middle.size);
    return err;
}

static enum kv_err ranges_size(struct file *f, const struct db *db, struct page *p, struct checkpoint_size *of, uint32_t count)
{
    struct level l = {.height = db->depth};
    if (db->depth > DEPTH_MAX) return KV_CORRUPT;
    enum kv_err err = db->depth == 0 ? KV_OK : level_add(f, &l, db->root, kv_slice("", 0));
    while (err == KV_OK && l.height > 1 && l.count < LMDB_SIZE_PAGES) err = level_down(f, &l, p);
    double leaves_each = l.height <= 1 || l.count == 0 ? 1.0 : (double)db->leaves / l.count;
    uint32_t reads = LMDB_SIZE_READS / (count == 0 ? 1 : count), first = 0;
    if (reads > LMDB_SIZE_LEAVES) reads = LMDB_SIZE_LEAVES;
    if (reads < 2) reads = 2;
    for (uint32_t i = 0; err == KV_OK && i < count; i++) {
        struct kv_range r = of[i].range;
        while (first + 1 < l.count && kv_slice_cmp(l.pages[first + 1].key, r.from) <= 0) first++;
        uint32_t end = first;
        while (end < l.count && (r.to.size == 0 || kv_slice_cmp(l.pages[end].key, r.to) < 0)) end++;
        err = range_size(f, &l, first, end, leaves_each, reads, p, &of[i]);
    }
    free(l.pages);
    return err;
}

enum kv_err lmdb_size(const char *path, const char *database, struct checkpoint_size *of, uint32_t count)
{
    struct file f = {.fd = open(path, O_RDONLY | O_CLOEXEC)};
    struct db names, db;
    if (f.fd < 0) return errno == ENOENT ? KV_NOT_FOUND : KV_IO;
    struct page *p = malloc(sizeof *p);
    kv_arena_init(&f.keys, 0);
    enum kv_err err = p == NULL ? KV_BUSY : names_find(&f, &names);
    if (err == KV_OK) err = database_find(&f, &names, database, p, &db);
    if (err == KV_OK) err = ranges_size(&f, &db, p, of, count);
    kv_arena_free(&f.keys);
    free(p);
    close(f.fd);
    return err;
}

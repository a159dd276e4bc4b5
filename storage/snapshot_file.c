#include "storage/snapshot_file.h"

#include <assert.h>
#include <xxhash.h>

#include "client/base/endian.h"
#include "client/base/hash.h"
#include "client/base/key.h"
#include "storage/value.h"

enum {
    FORMAT = 1,
    HEADER_BYTES = 48, /* then descriptor, from, to, u64 checksum */
    BLOCK_HEADER_BYTES = 16,
    ROW_HEADER_BYTES = 8,
    BLOCK_BYTES = 256 << 10, /* a block is closed when it has as much */
    BLOCK_BYTES_MAX = 32 << 20,
    DESCRIPTOR_BYTES_MAX = 64 << 10
};
static const char magic[8] = {'k', 'v', 's', 'n', 'a', 'p', '1', '\n'};

/* Writing */

static enum kv_err writer_write(struct snapshot_writer *w, struct kv_slice bytes)
{
    enum kv_err err = w->disk->ops->write(w->disk, w->file, w->offset, bytes);
    if (err != KV_OK) return err;
    XXH3_64bits_update(w->hash, bytes.data, bytes.size);
    w->offset += bytes.size;
    return KV_OK;
}

static enum kv_err header_write(struct snapshot_writer *w, const struct checkpoint_mark *m,
                                struct kv_range range)
{
    if (m->descriptor.size > DESCRIPTOR_BYTES_MAX) return KV_TOO_BIG;
    if (range.from.size > KV_KEY_BYTES_MAX || range.to.size > KV_KEY_BYTES_MAX) return KV_TOO_BIG;
    uint8_t h[HEADER_BYTES], sum[8];
    memcpy(h, magic, sizeof magic);
    le32_put(h + 8, FORMAT);
    le32_put(h + 12, m->group);
    le64_put(h + 16, m->index);
    le64_put(h + 24, m->term);
    le64_put(h + 32, m->clock_ms);
    le32_put(h + 40, (uint32_t)m->descriptor.size);
    le16_put(h + 44, (uint16_t)range.from.size);
    le16_put(h + 46, (uint16_t)range.to.size);
    struct kv_buf *b = &w->block;
    kv_buf_append(b, h, sizeof h);
    kv_buf_append_slice(b, m->descriptor);
    kv_buf_append_slice(b, range.from);
    kv_buf_append_slice(b, range.to);
    le64_put(sum, kv_hash64(kv_buf_slice(b), 0));
    kv_buf_append(b, sum, sizeof sum);
    enum kv_err err = b->failed ? KV_BUSY : writer_write(w, kv_buf_slice(b));
    kv_buf_clear(b);
    return err;
}

enum kv_err snapshot_begin(struct snapshot_writer *w, struct disk *d, const char *name,
                           const struct checkpoint_mark *mark, struct kv_range range)
{
    *w = (struct snapshot_writer){.disk = d, .file = {-1}};
    kv_buf_init(&w->block, 0);
    XXH3_state_t *hash = XXH3_createState();
    if (hash == NULL) return KV_BUSY;
    XXH3_64bits_reset(hash);
    w->hash = hash;
    enum kv_err err = d->ops->open(d, name, true, &w->file);
    if (err != KV_OK) {
        w->file.handle = -1;
        return err;
    }
    err = d->ops->truncate(d, w->file, 0);
    return err == KV_OK ? header_write(w, mark, range) : err;
}

static enum kv_err block_write(struct snapshot_writer *w)
{
    struct kv_slice payload = kv_buf_slice(&w->block);
    if (w->block.failed) return KV_BUSY;
    if (payload.size == 0) return KV_OK;
    uint8_t h[BLOCK_HEADER_BYTES];
    le32_put(h, (uint32_t)payload.size);
    le32_put(h + 4, w->block_rows);
    le64_put(h + 8, kv_hash64(payload, w->offset)); /* no block is valid at another place */
    enum kv_err err = writer_write(w, kv_slice(h, sizeof h));
    if (err == KV_OK) err = writer_write(w, payload);
    kv_buf_clear(&w->block);
    w->block_rows = 0;
    return err;
}

enum kv_err snapshot_put(struct snapshot_writer *w, const struct store_row *row)
{
    uint8_t h[ROW_HEADER_BYTES];
    size_t bytes = sizeof h + row->key.size + row->sub.size + row->value.size;
    if (bytes > BLOCK_BYTES_MAX - BLOCK_BYTES) return KV_TOO_BIG;
    h[0] = (uint8_t)row->class;
    h[1] = (uint8_t)row->sub.size;
    le16_put(h + 2, (uint16_t)row->key.size);
    le32_put(h + 4, (uint32_t)row->value.size);
    kv_buf_append(&w->block, h, sizeof h);
    kv_buf_append_slice(&w->block, row->key);
    kv_buf_append_slice(&w->block, row->sub);
    kv_buf_append_slice(&w->block, row->value);
    w->block_rows++;
    w->rows++;
    return w->block.size >= BLOCK_BYTES ? block_write(w) : KV_OK;
}

enum kv_err snapshot_seal(struct snapshot_writer *w, uint64_t *bytes, uint64_t *checksum)
{
    enum kv_err err = block_write(w);
    if (err != KV_OK) return err;
    uint8_t end[BLOCK_HEADER_BYTES] = {0};
    le64_put(end + 8, w->rows);
    err = writer_write(w, kv_slice(end, sizeof end));
    *bytes = w->offset;
    *checksum = XXH3_64bits_digest(w->hash);
    return err;
}

void snapshot_close(struct snapshot_writer *w)
{
    if (w->disk != NULL && w->file.handle >= 0) w->disk->ops->close(w->disk, w->file);
    w->file.handle = -1;
    XXH3_freeState(w->hash);
    w->hash = NULL;
    kv_buf_free(&w->block);
}

/* Reading */

/* Appends exactly `size` bytes of the file to `b`. */
static enum kv_err reader_read(struct snapshot_reader *r, struct kv_buf *b, size_t size)
{
    uint8_t *into = kv_buf_reserve(b, size);
    size_t got = 0;
    if (into == NULL) return KV_BUSY;
    enum kv_err err = r->disk->ops->read(r->disk, r->file, r->offset, into, size, &got);
    if (err != KV_OK) return err;
    if (got != size) return KV_CORRUPT;
    XXH3_64bits_update(r->hash, into, size);
    kv_buf_commit(b, size);
    r->offset += size;
    return KV_OK;
}

static enum kv_err header_read(struct snapshot_reader *r)
{
    struct kv_buf *b = &r->header;
    enum kv_err err = reader_read(r, b, HEADER_BYTES);
    if (err != KV_OK) return err;
    const uint8_t *h = kv_buf_slice(b).data;
    assert(h != NULL);
    if (memcmp(h, magic, sizeof magic) != 0) return KV_CORRUPT;
    if (le32_get(h + 8) != FORMAT) return le32_get(h + 8) > FORMAT ? KV_VERSION : KV_CORRUPT;
    size_t descriptor = le32_get(h + 40), from = le16_get(h + 44), to = le16_get(h + 46);
    if (descriptor > DESCRIPTOR_BYTES_MAX || from > KV_KEY_BYTES_MAX || to > KV_KEY_BYTES_MAX)
        return KV_CORRUPT;
    size_t size = HEADER_BYTES + descriptor + from + to;
    err = reader_read(r, b, size - HEADER_BYTES + 8);
    if (err != KV_OK) return err;
    h = kv_buf_slice(b).data;
    assert(h != NULL);
    if (le64_get(h + size) != kv_hash64(kv_slice(h, size), 0)) return KV_CORRUPT;
    r->mark = (struct checkpoint_mark){
        .group = le32_get(h + 12),
        .index = le64_get(h + 16),
        .term = le64_get(h + 24),
        .clock_ms = le64_get(h + 32),
        .descriptor = kv_slice(h + HEADER_BYTES, descriptor),
    };
    r->range.from = kv_slice(h + HEADER_BYTES + descriptor, from);
    r->range.to = kv_slice(h + HEADER_BYTES + descriptor + from, to);
    return KV_OK;
}

enum kv_err snapshot_open(struct snapshot_reader *r, struct disk *d, const char *name)
{
    *r = (struct snapshot_reader){.disk = d, .file = {-1}};
    kv_buf_init(&r->header, 0);
    kv_buf_init(&r->block, 0);
    kv_buf_init(&r->last_copy, 0);
    XXH3_state_t *hash = XXH3_createState();
    if (hash == NULL) return KV_BUSY;
    XXH3_64bits_reset(hash);
    r->hash = hash;
    enum kv_err err = d->ops->open(d, name, false, &r->file);
    if (err != KV_OK) {
        r->file.handle = -1;
        return err;
    }
    return header_read(r);
}

/* The last row's key and sub live in the block that is about to go. */
static enum kv_err last_keep(struct snapshot_reader *r)
{
    if (r->rows == 0) return KV_OK;
    struct kv_buf copy;
    kv_buf_init(&copy, 0);
    kv_buf_append_slice(&copy, r->last.key);
    kv_buf_append_slice(&copy, r->last.sub);
    if (copy.failed) {
        kv_buf_free(&copy);
        return KV_BUSY;
    }
    kv_buf_free(&r->last_copy);
    r->last_copy = copy;
    const uint8_t *at = kv_buf_slice(&r->last_copy).data;
    r->last.key.data = at;
    r->last.sub.data = at + r->last.key.size;
    return KV_OK;
}

/* KV_NOT_FOUND: that was the end, and everything agrees. */
static enum kv_err block_read(struct snapshot_reader *r)
{
    enum kv_err err = last_keep(r);
    if (err != KV_OK) return err;
    kv_buf_clear(&r->block);
    uint64_t at = r->offset;
    err = reader_read(r, &r->block, BLOCK_HEADER_BYTES);
    if (err != KV_OK) return err;
    const uint8_t *h = kv_buf_slice(&r->block).data;
    assert(h != NULL);
    uint32_t size = le32_get(h), rows = le32_get(h + 4);
    uint64_t sum = le64_get(h + 8), file_bytes = 0;
    if (size == 0) {
        err = r->disk->ops->size(r->disk, r->file, &file_bytes);
        if (err != KV_OK) return err;
        return rows == 0 && sum == r->rows && file_bytes == r->offset ? KV_NOT_FOUND : KV_CORRUPT;
    }
    if (size > BLOCK_BYTES_MAX || rows == 0) return KV_CORRUPT;
    kv_buf_clear(&r->block);
    err = reader_read(r, &r->block, size);
    if (err != KV_OK) return err;
    r->rest = kv_buf_slice(&r->block);
    return kv_hash64(r->rest, at) == sum ? KV_OK : KV_CORRUPT;
}

static bool row_parse(struct kv_slice *rest, struct store_row *row)
{
    if (rest->size < ROW_HEADER_BYTES) return false;
    const uint8_t *h = rest->data;
    size_t sub = h[1], key = le16_get(h + 2), value = le32_get(h + 4);
    if (h[0] >= STORE_CLASSES || value > rest->size ||
        ROW_HEADER_BYTES + key + sub + value > rest->size)
        return false;
    *row = (struct store_row){
        .class = (enum store_class)h[0],
        .key = kv_slice(h + ROW_HEADER_BYTES, key),
        .sub = kv_slice(h + ROW_HEADER_BYTES + key, sub),
        .value = kv_slice(h + ROW_HEADER_BYTES + key + sub, value),
    };
    *rest = kv_slice(row->value.data + value,
                     (size_t)(rest->data + rest->size - row->value.data) - value);
    return true;
}

static bool row_is_legal(const struct snapshot_reader *r, const struct store_row *row)
{
    if (row->key.size == 0 || row->key.size > KV_KEY_BYTES_MAX) return false;
    if (!kv_range_has(r->range, row->key)) return false;
    if (row->sub.size != (row->class == STORE_DEDUP ? STORE_SUB_BYTES : 0u)) return false;
    if (row->class == STORE_DEDUP && row->value.size > STORE_DEDUP_VALUE_BYTES_MAX) return false;
    struct value v;
    if (row->class == STORE_DATA && value_read(row->key, row->value, &v) != KV_OK) return false;
    if (r->rows == 0) return true;
    if (row->class != r->last.class) return row->class > r->last.class;
    int order = kv_slice_cmp(r->last.key, row->key);
    return order < 0 || (order == 0 && kv_slice_cmp(r->last.sub, row->sub) < 0);
}

enum kv_err snapshot_next(struct snapshot_reader *r, struct store_row *row)
{
    if (r->rest.size == 0) {
        enum kv_err err = block_read(r);
        if (err != KV_OK) return err;
    }
    if (!row_parse(&r->rest, row) || !row_is_legal(r, row)) return KV_CORRUPT;
    r->last = *row;
    r->rows++;
    return KV_OK;
}

void snapshot_totals(const struct snapshot_reader *r, uint64_t *bytes, uint64_t *checksum)
{
    *bytes = r->offset;
    *checksum = XXH3_64bits_digest(r->hash);
}

void snapshot_finish(struct snapshot_reader *r)
{
    if (r->disk != NULL && r->file.handle >= 0) r->disk->ops->close(r->disk, r->file);
    r->file.handle = -1;
    XXH3_freeState(r->hash);
    r->hash = NULL;
    kv_buf_free(&r->header);
    kv_buf_free(&r->block);
    kv_buf_free(&r->last_copy);
}

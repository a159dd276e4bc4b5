#include <stdlib.h>

#include "client/base/endian.h"
#include "storage/store_impl.h"

/* One transaction over a large range would hold all its dirty pages in memory. */
enum { WIPE_ROWS = 20000 };

/* Finds where the next WIPE_ROWS rows from `from` on end: `*to` is the key behind them, or
 * empty if the class ends before. */
static enum kv_err wipe_end(struct checkpoint *c, struct checkpoint_view *v, enum store_class class,
                            struct kv_slice from, struct kv_key *to)
{
    struct checkpoint_cursor *i;
    to->size = 0;
    enum kv_err err = c->ops->seek(v, class, from, &i);
    if (err != KV_OK) return err;
    struct store_row row;
    for (uint32_t rows = 0; rows <= WIPE_ROWS && err == KV_OK; rows++)
        err = c->ops->next(i, &row);
    if (err == KV_OK && row.key.size <= sizeof to->bytes) {
        to->size = (uint16_t)row.key.size;
        memcpy(to->bytes, row.key.data, row.key.size);
        if (kv_slice_eq(kv_key_slice(to), from)) { /* one key with more records than that */
            while (err == KV_OK && kv_slice_eq(row.key, from))
                err = c->ops->next(i, &row);
            to->size = 0;
            if (err == KV_OK) {
                to->size = (uint16_t)row.key.size;
                memcpy(to->bytes, row.key.data, row.key.size);
            }
        }
    }
    c->ops->close(i);
    return err == KV_NOT_FOUND ? KV_OK : err;
}

static enum kv_err wipe_class(struct checkpoint *c, struct checkpoint_view *v,
                              enum store_class class, struct kv_range range)
{
    struct kv_key from = {0}, to;
    if (range.from.size > sizeof from.bytes) return KV_TOO_BIG;
    from.size = (uint16_t)range.from.size;
    if (from.size > 0) memcpy(from.bytes, range.from.data, from.size);
    for (;;) {
        enum kv_err err = wipe_end(c, v, class, kv_key_slice(&from), &to);
        if (err != KV_OK) return err;
        bool last = to.size == 0 || !kv_range_has(range, kv_key_slice(&to));
        struct kv_range piece = {kv_key_slice(&from), last ? range.to : kv_key_slice(&to)};
        err = c->ops->begin(c);
        if (err != KV_OK) return err;
        err = c->ops->delete_range(c, class, piece);
        if (err == KV_OK) err = c->ops->commit(c);
        if (err != KV_OK) {
            c->ops->abort(c);
            return err;
        }
        if (last) return KV_OK;
        from = to; /* the view is of before, which is as good for finding keys */
    }
}

enum kv_err range_wipe(struct checkpoint *c, struct checkpoint_view *v, struct kv_range range)
{
    enum kv_err err = KV_OK;
    for (int k = 0; k < STORE_CLASSES && err == KV_OK; k++)
        err = wipe_class(c, v, (enum store_class)k, range);
    return err;
}

static uint8_t *key_write(uint8_t *to, struct kv_slice key)
{
    le16_put(to, (uint16_t)key.size);
    if (key.size > 0) memcpy(to + 2, key.data, key.size);
    return to + 2 + key.size;
}

bool install_mark_write(struct kv_range range, struct kv_slice descriptor, struct kv_slice *out)
{
    size_t size = 2 + range.from.size + 2 + range.to.size + descriptor.size;
    uint8_t *bytes = malloc(size);
    if (bytes == NULL) return false;
    uint8_t *at = key_write(key_write(bytes, range.from), range.to);
    if (descriptor.size > 0) memcpy(at, descriptor.data, descriptor.size);
    slice_free(out);
    *out = kv_slice(bytes, size);
    return true;
}

static bool key_read(struct kv_slice *bytes, struct kv_slice *key)
{
    if (bytes->size < 2) return false;
    size_t size = le16_get(bytes->data);
    if (size > bytes->size - 2 || size > KV_KEY_BYTES_MAX) return false;
    *key = kv_slice(bytes->data + 2, size);
    *bytes = kv_slice(bytes->data + 2 + size, bytes->size - 2 - size);
    return true;
}

bool install_mark_read(struct kv_slice bytes, struct kv_range *range, struct kv_slice *descriptor)
{
    if (!key_read(&bytes, &range->from) || !key_read(&bytes, &range->to)) return false;
    *descriptor = bytes;
    return true;
}

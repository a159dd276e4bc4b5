#ifndef KV_BUF_H
#define KV_BUF_H
#include "client/base/slice.h"
#include <assert.h>

/* A growable byte buffer with a hard limit. Appending beyond `size_max` or out
 * of memory sets `failed` and changes nothing more, so that a writer checks once
 * at the end. Bytes are consumed at the front with kv_buf_consume(). The
 * pointers it hands out are valid until the next append, reserve or consume. */
struct kv_buf {
    uint8_t *data;   /* owned; data[start .. start+size) is the content */
    size_t start;    /* consumed bytes in front */
    size_t size;     /* bytes of content */
    size_t capacity; /* bytes allocated */
    size_t size_max; /* bytes of content allowed; 0 = no limit */
    bool failed;
};

void kv_buf_init(struct kv_buf *b, size_t size_max);
void kv_buf_free(struct kv_buf *b);            /* leaves an empty usable buffer */
void kv_buf_shrink(struct kv_buf *b, size_t capacity); /* give memory back if empty and larger */
void kv_buf_append_text(struct kv_buf *b, const char *text);
void kv_buf_append_u8(struct kv_buf *b, uint8_t v);
void kv_buf_printf(struct kv_buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void kv_buf_consume(struct kv_buf *b, size_t size);     /* drop from the front; size <= b->size */
uint8_t *kv_buf_reserve_slowly(struct kv_buf *b, size_t size); /* kv_buf_reserve() where there is no room yet */

static inline struct kv_slice kv_buf_slice(const struct kv_buf *b)
{
    if (b->data != NULL) return kv_slice(b->data + b->start, b->size);
    assert(b->size == 0);
    return kv_slice(NULL, 0);
}

static inline void kv_buf_clear(struct kv_buf *b) /* keeps memory, clears `failed` */
{
    b->start = 0;
    b->size = 0;
    b->failed = false;
}

static inline uint8_t *kv_buf_reserve(struct kv_buf *b, size_t size) /* room for `size` bytes, NULL if failed */
{
    bool fits = b->data != NULL && size <= b->capacity - b->start - b->size;
    if (!fits || b->size_max != 0 || b->failed) return kv_buf_reserve_slowly(b, size);
    return b->data + b->start + b->size;
}

static inline void kv_buf_commit(struct kv_buf *b, size_t size) /* `size` <= reserved, now content */
{
    assert(!b->failed && size <= b->capacity - b->start - b->size);
    b->size += size;
}

static inline void kv_buf_append(struct kv_buf *b, const void *data, size_t size)
{
    if (size == 0) return;
    uint8_t *to = kv_buf_reserve(b, size);
    if (to == NULL) return;
    assert(data != NULL);
    memcpy(to, data, size);
    b->size += size;
}

static inline void kv_buf_append_slice(struct kv_buf *b, struct kv_slice s)
{
    kv_buf_append(b, s.data, s.size);
}
#endif

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
void kv_buf_clear(struct kv_buf *b);           /* keeps memory, clears `failed` */
void kv_buf_shrink(struct kv_buf *b, size_t capacity); /* give memory back if empty and larger */
void kv_buf_append(struct kv_buf *b, const void *data, size_t size);
void kv_buf_append_slice(struct kv_buf *b, struct kv_slice s);
void kv_buf_append_text(struct kv_buf *b, const char *text);
void kv_buf_append_u8(struct kv_buf *b, uint8_t v);
void kv_buf_printf(struct kv_buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
uint8_t *kv_buf_reserve(struct kv_buf *b, size_t size); /* room for `size` bytes, NULL if failed */
void kv_buf_commit(struct kv_buf *b, size_t size);      /* `size` <= reserved, now content */
void kv_buf_consume(struct kv_buf *b, size_t size);     /* drop from the front; size <= b->size */

static inline struct kv_slice kv_buf_slice(const struct kv_buf *b)
{
    if (b->data != NULL) return kv_slice(b->data + b->start, b->size);
    assert(b->size == 0);
    return kv_slice(NULL, 0);
}
#endif

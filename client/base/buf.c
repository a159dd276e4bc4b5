/* The content is data[start .. start+size).
 * (1) start + size <= capacity; start is 0 whenever size is.
 * (2) size <= size_max, unless size_max is 0.
 * (3) Once failed, nothing changes but by consume, clear and free. */
#include "client/base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { CAPACITY_MIN = 64 };

void kv_buf_init(struct kv_buf *b, size_t size_max)
{
    *b = (struct kv_buf){.size_max = size_max};
}

void kv_buf_free(struct kv_buf *b)
{
    free(b->data);
    kv_buf_init(b, b->size_max);
}

void kv_buf_shrink(struct kv_buf *b, size_t capacity)
{
    if (b->size != 0 || b->capacity <= capacity) return;
    free(b->data);
    b->data = NULL;
    b->start = 0;
    b->capacity = 0;
}

/* Makes room for `size` more bytes behind the content. */
static bool buf_grow(struct kv_buf *b, size_t size)
{
    size_t need = b->size + size;
    /* Sliding down pays only if the gap is at least what has to move: then each
     * byte moves at most once per byte consumed. */
    if (b->data != NULL && need <= b->capacity && b->start >= b->size) {
        if (b->size > 0) memmove(b->data, b->data + b->start, b->size);
        b->start = 0;
        return true;
    }
    size_t capacity = b->capacity < CAPACITY_MIN ? CAPACITY_MIN : b->capacity;
    while (capacity < need) {
        if (capacity > SIZE_MAX / 2) return false;
        capacity *= 2;
    }
    /* A buffer that drains slower than it fills still has room in front. */
    if (capacity == b->capacity) {
        if (capacity > SIZE_MAX / 2) return false;
        capacity *= 2;
    }
    assert(capacity >= need);
    uint8_t *data;
    if (b->start == 0) {
        data = realloc(b->data, capacity);
        if (data == NULL) return false;
    } else {
        assert(b->data != NULL); /* what was consumed stood there */
        data = malloc(capacity);
        if (data == NULL) return false;
        if (b->size > 0) memcpy(data, b->data + b->start, b->size);
        free(b->data);
    }
    b->data = data;
    b->start = 0;
    b->capacity = capacity;
    return true;
}

uint8_t *kv_buf_reserve_slowly(struct kv_buf *b, size_t size)
{
    if (b->failed) return NULL;
    bool fits = size <= SIZE_MAX - b->size && (b->size_max == 0 || b->size + size <= b->size_max);
    if (!fits) {
        b->failed = true;
        return NULL;
    }
    if (b->data == NULL || size > b->capacity - b->start - b->size) {
        if (!buf_grow(b, size)) {
            b->failed = true;
            return NULL;
        }
    }
    assert(b->start + b->size + size <= b->capacity);
    return b->data + b->start + b->size;
}

void kv_buf_consume(struct kv_buf *b, size_t size)
{
    assert(size <= b->size);
    b->size -= size;
    b->start = b->size == 0 ? 0 : b->start + size;
}

void kv_buf_append_text(struct kv_buf *b, const char *text)
{
    kv_buf_append(b, text, strlen(text));
}

void kv_buf_append_u8(struct kv_buf *b, uint8_t v)
{
    uint8_t *to = kv_buf_reserve(b, 1);
    if (to == NULL) return;
    *to = v;
    b->size++;
}

void kv_buf_printf(struct kv_buf *b, const char *format, ...)
{
    char stack[256];
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int size = vsnprintf(stack, sizeof stack, format, args);
    if (size < 0) {
        b->failed = true;
    } else if ((size_t)size < sizeof stack) {
        kv_buf_append(b, stack, (size_t)size);
    } else {
        /* Not straight into the reserve alone: vsnprintf writes a NUL behind the text. */
        char *heap = malloc((size_t)size + 1);
        if (heap == NULL) {
            b->failed = true;
        } else {
            vsnprintf(heap, (size_t)size + 1, format, again);
            kv_buf_append(b, heap, (size_t)size);
            free(heap);
        }
    }
    va_end(again);
    va_end(args);
}

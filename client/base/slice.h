#ifndef KV_SLICE_H
#define KV_SLICE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Borrowed bytes: pointer and length, never owned, never NUL-terminated. */
struct kv_slice {
    const uint8_t *data;
    size_t size; /* bytes */
};

#define container_of(pointer, type, member) \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static inline struct kv_slice kv_slice(const void *data, size_t size)
{
    return (struct kv_slice){.data = data, .size = size};
}

static inline struct kv_slice kv_str(const char *text)
{
    return kv_slice(text, strlen(text));
}

static inline bool kv_slice_eq(struct kv_slice a, struct kv_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Byte order, the order of encoded keys: negative, zero or positive, as memcmp. */
static inline int kv_slice_cmp(struct kv_slice a, struct kv_slice b)
{
    size_t shorter = a.size < b.size ? a.size : b.size;
    int order = shorter == 0 ? 0 : memcmp(a.data, b.data, shorter);
    if (order != 0) return order;
    return a.size < b.size ? -1 : a.size > b.size;
}

/* Half-open [from, to); an empty `to` means "to the end". */
struct kv_range {
    struct kv_slice from, to;
};

static inline bool kv_range_meets(struct kv_range a, struct kv_range b) /* have a key in common, neither being empty */
{
    return (a.to.size == 0 || kv_slice_cmp(b.from, a.to) < 0) && (b.to.size == 0 || kv_slice_cmp(a.from, b.to) < 0);
}
static inline bool kv_range_has(struct kv_range r, struct kv_slice key)
{
    return kv_slice_cmp(key, r.from) >= 0 && (r.to.size == 0 || kv_slice_cmp(key, r.to) < 0);
}
#endif

#include "client/wire/hello.h"

#include <assert.h>
#include <stdio.h>

#include "client/base/endian.h"

void hello_encode(const struct hello *h, struct kv_buf *out)
{
    assert(h->name.size <= HELLO_NAME_BYTES_MAX);
    uint8_t *p = kv_buf_reserve(out, HELLO_BYTES_MIN + h->name.size);
    if (p == NULL) return; /* `failed` tells the caller */
    p[0] = HELLO_VERSION;
    p[1] = (uint8_t)h->role;
    le16_put(p + 2, 0);
    memcpy(p + 4, h->cluster, HELLO_CLUSTER_BYTES);
    le32_put(p + 20, h->node);
    le64_put(p + 24, h->store);
    p[32] = (uint8_t)h->name.size;
    if (h->name.size > 0) memcpy(p + HELLO_BYTES_MIN, h->name.data, h->name.size);
    kv_buf_commit(out, HELLO_BYTES_MIN + h->name.size);
}

enum kv_err hello_decode(struct kv_slice payload, struct hello *out)
{
    const uint8_t *p = payload.data;
    if (payload.size < 1) return KV_MALFORMED;
    /* The version is read alone: later versions may look different behind it. */
    if (p[0] != HELLO_VERSION) return KV_VERSION;
    if (payload.size < HELLO_BYTES_MIN) return KV_MALFORMED;
    if (p[1] < HELLO_CLIENT || p[1] > HELLO_JOIN) return KV_MALFORMED;
    if (p[32] > HELLO_NAME_BYTES_MAX || payload.size != (size_t)HELLO_BYTES_MIN + p[32])
        return KV_MALFORMED;
    uint32_t node = le32_get(p + 20);
    if (p[1] == HELLO_NODE && node == 0) return KV_MALFORMED;
    out->role = (enum hello_role)p[1];
    memcpy(out->cluster, p + 4, HELLO_CLUSTER_BYTES);
    out->node = node;
    out->store = le64_get(p + 24);
    out->name = kv_slice(p + HELLO_BYTES_MIN, p[32]);
    return KV_OK;
}

enum kv_err hello_match(const struct hello *self, const struct hello *peer, const char **why)
{
    static const uint8_t any[HELLO_CLUSTER_BYTES];
    if (memcmp(self->cluster, any, sizeof any) != 0 && memcmp(peer->cluster, any, sizeof any) != 0 &&
        memcmp(self->cluster, peer->cluster, sizeof any) != 0) {
        *why = "the cluster ids differ";
        return KV_WRONG_CLUSTER;
    }
    if (self->name.size > 0 && peer->name.size > 0 && !kv_slice_eq(self->name, peer->name)) {
        *why = "the cluster names differ";
        return KV_WRONG_CLUSTER;
    }
    return KV_OK;
}

/* A name is what a cluster likes to be called; the id tells two of one name apart. */
static void cluster_text(const struct hello *h, char out[HELLO_NAME_BYTES_MAX + 16])
{
    snprintf(out, HELLO_NAME_BYTES_MAX + 16, "'%.*s' (%02x%02x%02x%02x..)", (int)h->name.size,
             h->name.size == 0 ? "" : (const char *)h->name.data, h->cluster[0], h->cluster[1], h->cluster[2],
             h->cluster[3]);
}

void hello_mismatch(const struct hello *self, const struct hello *peer, char out[HELLO_MISMATCH_BYTES])
{
    char ours[HELLO_NAME_BYTES_MAX + 16], theirs[HELLO_NAME_BYTES_MAX + 16];
    cluster_text(self, ours);
    cluster_text(peer, theirs);
    snprintf(out, HELLO_MISMATCH_BYTES, "cluster %s is not %s", theirs, ours);
}

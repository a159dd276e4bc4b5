#include "client/wire/channel.h"

#include <stdlib.h>

/* Bytes of a stranger. The first chooses our role and how the rest is cut. Without the keys
 * nobody gets to know ours, is judged, or gets a frame through; and what we hold and say
 * stays small. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum kv_err judge(void *context, const uint8_t key[CHANNEL_KEY_BYTES],
                         struct kv_slice payload, const char **why)
{
    (void)context, (void)key, (void)payload, (void)why;
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct channel_identity self;
    uint8_t secret[CHANNEL_KEY_BYTES] = {1};
    channel_identity_make(&self, secret);
    struct channel_options o = {
        .role = data[0] & 1 ? CHANNEL_DIAL : CHANNEL_ACCEPT,
        .self = &self,
        .ephemeral_seed = {2},
        .prologue = kv_str("fuzz"),
        .payload = kv_str("payload"),
        .judge = judge,
    };
    struct channel *c = channel_init(malloc(channel_memory()), &o);
    struct kv_buf out;
    kv_buf_init(&out, 4096);
    if (o.role == CHANNEL_DIAL) channel_start(c, &out);
    size_t piece = 1 + (data[0] >> 1);
    for (size_t at = 1; at < size;) {
        size_t n = size - at < piece ? size - at : piece;
        enum kv_err err = channel_feed(c, kv_slice(data + at, n), &out);
        struct kv_slice frame;
        if (channel_established(c) || channel_next(c, &frame) || out.failed) abort();
        if (err != KV_OK) {
            if (channel_feed(c, kv_slice(data, 1), &out) != err) abort();
            break;
        }
        at += n;
    }
    if (out.size > 200) abort();
    channel_wipe(c);
    free(c);
    kv_buf_free(&out);
    return 0;
}

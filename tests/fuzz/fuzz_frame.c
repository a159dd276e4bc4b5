#include "client/base/endian.h"
#include "client/wire/channel.h"
#include "client/wire/noise.h"

#include <stdlib.h>

/* A peer that knows its keys, and then says anything: the input is its plaintext, sealed in
 * pieces of the size that the first byte tells. The frames that come out must be exactly those
 * that a plain reading of the stream finds before the first illegal header. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FRAME_BYTES_MAX = 300 };

static enum kv_err judge(void *context, const uint8_t key[CHANNEL_KEY_BYTES],
                         struct kv_slice payload, const char **why)
{
    (void)context, (void)key, (void)payload, (void)why;
    return KV_OK;
}

static enum kv_err feed_message(struct channel *c, const uint8_t *message, size_t size,
                                struct kv_buf *out)
{
    uint8_t bytes[2 + 1024];
    be16_put(bytes, (uint16_t)size);
    memcpy(bytes + 2, message, size);
    return channel_feed(c, kv_slice(bytes, size + 2), out);
}

static struct noise_cipher shake_hands(struct channel *c, struct kv_buf *out)
{
    struct noise n;
    struct noise_pair pair;
    uint8_t secret[NOISE_KEY_BYTES] = {3}, message[1024];
    noise_pair_make(&pair, secret);
    secret[0] = 4;
    noise_init(&n, true, kv_str("fuzz"), &pair, secret);
    if (!noise_write(&n, kv_slice(NULL, 0), message)) abort();
    if (feed_message(c, message, 32, out) != KV_OK) abort();
    struct kv_slice answer = kv_buf_slice(out);
    if (!noise_read(&n, kv_slice(answer.data + 2, answer.size - 2), message)) abort();
    size_t size = noise_overhead(&n) + 1;
    if (!noise_write(&n, kv_slice("\0", 1), message)) abort();
    if (feed_message(c, message, size, out) != KV_OK || !channel_established(c)) abort();
    struct noise_cipher send, receive;
    noise_split(&n, &send, &receive);
    return send;
}

/* The next frame of the plain stream, or false: incomplete or illegal. */
static bool plain_next(struct kv_slice *stream, struct kv_slice *frame)
{
    if (stream->size < 4) return false;
    uint32_t size = le32_get(stream->data);
    if (size == 0 || size > FRAME_BYTES_MAX || stream->size - 4 < size) return false;
    *frame = kv_slice(stream->data + 4, size);
    *stream = kv_slice(stream->data + 4 + size, stream->size - 4 - size);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct channel_identity self;
    uint8_t secret[CHANNEL_KEY_BYTES] = {1};
    channel_identity_make(&self, secret);
    struct channel_options o = {
        .role = CHANNEL_ACCEPT,
        .self = &self,
        .ephemeral_seed = {2},
        .prologue = kv_str("fuzz"),
        .judge = judge,
        .frame_bytes_max = FRAME_BYTES_MAX,
    };
    struct channel *c = channel_init(malloc(channel_memory()), &o);
    struct kv_buf out;
    kv_buf_init(&out, 0);
    struct noise_cipher send = shake_hands(c, &out);

    struct kv_slice stream = kv_slice(data + 1, size - 1), frame, expected;
    size_t piece = 1 + (size_t)data[0];
    enum kv_err err = KV_OK;
    for (size_t at = 1; at < size && err == KV_OK;) {
        size_t n = size - at < piece ? size - at : piece;
        uint8_t sealed[256 + NOISE_TAG_BYTES];
        noise_seal(&send, kv_slice(NULL, 0), kv_slice(data + at, n), sealed);
        err = feed_message(c, sealed, n + NOISE_TAG_BYTES, &out);
        at += n;
        while (channel_next(c, &frame)) {
            if (!plain_next(&stream, &expected) || !kv_slice_eq(frame, expected)) abort();
        }
    }
    if (err == KV_OK && plain_next(&stream, &expected)) abort(); /* one was withheld */
    if (err != KV_OK && err != KV_MALFORMED && err != KV_TOO_BIG) abort();
    channel_wipe(c);
    free(c);
    kv_buf_free(&out);
    return 0;
}

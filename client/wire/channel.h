#ifndef KV_CHANNEL_H
#define KV_CHANNEL_H
#include "client/base/buf.h"
#include "client/base/err.h"

/* Framing and Noise_XX_25519_ChaChaPoly_SHA256 (Noise Protocol Framework rev 34)
 * with no socket inside: bytes go in, frames come out, and the reverse. One
 * channel per connection.
 *
 * On the wire: Noise messages, each with a 2-byte big-endian length before it,
 * at most 65,535 B. Inside the transport messages runs one stream of frames:
 * 4-byte little-endian length, then that many bytes. Frames sent in one turn are
 * sealed together by channel_flush() (R25). Before the handshake ends a peer can
 * make us hold one handshake message (at most CHANNEL_HANDSHAKE_BYTES_MAX). */
enum {
    CHANNEL_KEY_BYTES = 32,
    CHANNEL_PAYLOAD_BYTES_MAX = 512,    /* handshake payload */
    CHANNEL_HANDSHAKE_BYTES_MAX = 1024, /* one handshake message */
    CHANNEL_FRAME_BYTES_MAX = 16 << 20  /* one frame */
};
enum channel_role { CHANNEL_DIAL,
                    CHANNEL_ACCEPT };

struct channel_identity {
    uint8_t public_key[CHANNEL_KEY_BYTES];
    uint8_t secret_key[CHANNEL_KEY_BYTES];
};

struct channel_options {
    enum channel_role role;
    const struct channel_identity *self;       /* outlives the channel */
    uint8_t ephemeral_seed[CHANNEL_KEY_BYTES]; /* from env random: keeps us deterministic; the secret key itself */
    struct kv_slice prologue;                  /* protocol name and version, bound into the handshake */
    /* Sent encrypted: by the acceptor in message 2, by the dialler in message 3.
     * Cluster id and name, node id and store id travel here. Copied. */
    struct kv_slice payload;
    /* Judges the peer once its key and payload are known. The acceptor judges
     * before it admits any frame; KV_AUTH (unknown key) and KV_WRONG_CLUSTER are
     * told to the peer by an encrypted refusal {code, text} before closing; of other
     * errors the peer hears KV_VERSION or KV_AUTH. `why` may be set to a static text, of
     * which the peer sees the first 200 bytes. Must not be NULL. */
    enum kv_err (*judge)(void *context, const uint8_t peer_key[CHANNEL_KEY_BYTES],
                         struct kv_slice payload, const char **why);
    void *judge_context;
    size_t frame_bytes_max; /* larger inbound frames are KV_TOO_BIG; 0 = CHANNEL_FRAME_BYTES_MAX */
};
struct channel;

size_t channel_memory(void);
struct channel *channel_init(void *memory, const struct channel_options *o);
/* Starts a dialler's handshake: appends message 1 to `out`. */
void channel_start(struct channel *c, struct kv_buf *out);
/* Takes bytes from the peer; may append handshake answers to `out`. After an error
 * flush `out` and close: KV_MALFORMED, KV_TOO_BIG, KV_AUTH (decryption failed, the
 * peer refused us, or we refused it), KV_WRONG_CLUSTER, KV_VERSION, KV_BUSY (out of memory
 * or `out` full); whatever judge() said. channel_refusal() says why: judge()'s words, or
 * "refused by the peer: " and its. Take all frames with channel_next() after each call, also
 * after an error: those before it are good. */
enum kv_err channel_feed(struct channel *c, struct kv_slice bytes, struct kv_buf *out);
/* Lowers the limit of inbound frames, once judge() has seen who the peer is; legal inside it. */
void channel_limit(struct channel *c, size_t frame_bytes_max);
const char *channel_refusal(const struct channel *c);         /* never NULL; "" if none */
bool channel_next(struct channel *c, struct kv_slice *frame); /* borrowed until the next call on c */
bool channel_established(const struct channel *c);
const uint8_t *channel_peer_key(const struct channel *c); /* legal once established */
struct kv_slice channel_peer_payload(const struct channel *c);
/* Appends one frame to the plaintext of this turn. KV_TOO_BIG (over
 * CHANNEL_FRAME_BYTES_MAX); KV_CLOSED before established or after an error; KV_BUSY: out of
 * memory, nothing appended. An empty frame is not legal: it is asserted here, and
 * KV_MALFORMED from a peer. */
enum kv_err channel_send(struct channel *c, const struct kv_slice *parts, uint32_t part_count);
size_t channel_pending(const struct channel *c); /* plaintext bytes not yet sealed */
/* Seals everything pending into as few Noise messages as possible, into `out`; all or,
 * with out->failed, nothing. */
void channel_flush(struct channel *c, struct kv_buf *out);
void channel_wipe(struct channel *c); /* zeroes every key, frees buffers; idempotent */

/* A fresh key pair from a 32-byte secret. */
void channel_identity_make(struct channel_identity *out, const uint8_t secret[CHANNEL_KEY_BYTES]);
#endif

#ifndef KV_NOISE_H
#define KV_NOISE_H
#include "client/base/slice.h"

/* Noise_XX_25519_ChaChaPoly_SHA256, Noise Protocol Framework revision 34: the
 * handshake and the ciphers, as pure functions of their inputs. Private to
 * channel.c, and open to the published test vectors.
 *
 *   XX:  -> e      <- e, ee, s, es      -> s, se */
enum { NOISE_KEY_BYTES = 32, NOISE_TAG_BYTES = 16, NOISE_MESSAGES = 3 };

struct noise_pair {
    uint8_t public_key[NOISE_KEY_BYTES], secret_key[NOISE_KEY_BYTES];
};
struct noise_cipher {
    uint8_t key[NOISE_KEY_BYTES];
    uint64_t nonce; /* of the next message; counts up, never repeats under one key */
};
struct noise { /* a handshake under way: sections 5.2 and 5.3 */
    struct noise_cipher cipher;
    bool has_key;
    uint8_t chaining_key[NOISE_KEY_BYTES], hash[NOISE_KEY_BYTES];
    struct noise_pair s, e;
    uint8_t rs[NOISE_KEY_BYTES], re[NOISE_KEY_BYTES];
    bool initiator;
    uint32_t message; /* 0..2: the next one; 3: done */
};

void noise_pair_make(struct noise_pair *out, const uint8_t secret_key[NOISE_KEY_BYTES]);
void noise_init(struct noise *n, bool initiator, struct kv_slice prologue,
                const struct noise_pair *s, const uint8_t ephemeral_secret[NOISE_KEY_BYTES]);
bool noise_writes(const struct noise *n); /* whether the next message is ours */
/* What the next message adds to its payload. */
size_t noise_overhead(const struct noise *n);
/* Writes the next message into `out`: noise_overhead() + payload.size bytes. False if the
 * peer's key is of low order. A handshake that failed must be given up. */
bool noise_write(struct noise *n, struct kv_slice payload, uint8_t *out);
/* Reads the peer's next message; its payload, message.size - noise_overhead() bytes, goes to
 * `payload`. False: too short, not authentic, or a key of low order. */
bool noise_read(struct noise *n, struct kv_slice message, uint8_t *payload);
/* After the last message. */
void noise_split(const struct noise *n, struct noise_cipher *send, struct noise_cipher *receive);

/* out: plain.size + NOISE_TAG_BYTES bytes. */
void noise_seal(struct noise_cipher *c, struct kv_slice ad, struct kv_slice plain, uint8_t *out);
/* out: sealed.size - NOISE_TAG_BYTES bytes. False: not authentic; the nonce stays. */
bool noise_open(struct noise_cipher *c, struct kv_slice ad, struct kv_slice sealed, uint8_t *out);
#endif

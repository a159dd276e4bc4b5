#include "client/wire/noise.h"

#include "client/base/endian.h"

#include <assert.h>
#include <sodium.h>

/* 32 bytes, so by section 5.2 it is the first handshake hash as it stands. */
static const char protocol_name[] = "Noise_XX_25519_ChaChaPoly_SHA256";
static_assert(sizeof protocol_name - 1 == NOISE_KEY_BYTES, "HASHLEN");
static_assert(crypto_scalarmult_curve25519_BYTES == NOISE_KEY_BYTES, "DHLEN");
static_assert(crypto_hash_sha256_BYTES == NOISE_KEY_BYTES, "HASHLEN");
static_assert(crypto_aead_chacha20poly1305_ietf_ABYTES == NOISE_TAG_BYTES, "tag");

enum noise_token { TOKEN_END, TOKEN_E, TOKEN_S, TOKEN_EE, TOKEN_ES, TOKEN_SE };
static const enum noise_token pattern[NOISE_MESSAGES][5] = {
    {TOKEN_E, TOKEN_END},
    {TOKEN_E, TOKEN_EE, TOKEN_S, TOKEN_ES, TOKEN_END},
    {TOKEN_S, TOKEN_SE, TOKEN_END},
};

/* --- ciphers (section 5.1) --- */

static void noise_nonce(uint64_t n, uint8_t out[crypto_aead_chacha20poly1305_ietf_NPUBBYTES])
{
    assert(n != UINT64_MAX); /* reserved by the specification; 2^64 messages never happen */
    le32_put(out, 0);
    le64_put(out + 4, n);
}

void noise_seal(struct noise_cipher *c, struct kv_slice ad, struct kv_slice plain, uint8_t *out)
{
    uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
    noise_nonce(c->nonce++, nonce);
    crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, plain.data, plain.size, ad.data, ad.size,
                                              NULL, nonce, c->key);
}

bool noise_open(struct noise_cipher *c, struct kv_slice ad, struct kv_slice sealed, uint8_t *out)
{
    if (sealed.size < NOISE_TAG_BYTES) return false;
    uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
    noise_nonce(c->nonce, nonce);
    if (crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, sealed.data, sealed.size,
                                                  ad.data, ad.size, nonce, c->key) != 0) {
        return false;
    }
    c->nonce++;
    return true;
}

/* --- the symmetric state (section 5.2) --- */

static void noise_mix_hash(struct noise *n, struct kv_slice data)
{
    crypto_hash_sha256_state s;
    crypto_hash_sha256_init(&s);
    crypto_hash_sha256_update(&s, n->hash, sizeof n->hash);
    crypto_hash_sha256_update(&s, data.data, data.size);
    crypto_hash_sha256_final(&s, n->hash);
}

static void noise_hmac(const uint8_t key[NOISE_KEY_BYTES], struct kv_slice a, uint8_t b,
                       bool with_b, uint8_t out[NOISE_KEY_BYTES])
{
    crypto_auth_hmacsha256_state s;
    crypto_auth_hmacsha256_init(&s, key, NOISE_KEY_BYTES);
    crypto_auth_hmacsha256_update(&s, a.data, a.size);
    if (with_b) crypto_auth_hmacsha256_update(&s, &b, 1);
    crypto_auth_hmacsha256_final(&s, out);
    sodium_memzero(&s, sizeof s);
}

/* HKDF with two outputs (section 4.3). */
static void noise_hkdf(const uint8_t chaining_key[NOISE_KEY_BYTES], struct kv_slice input,
                       uint8_t out1[NOISE_KEY_BYTES], uint8_t out2[NOISE_KEY_BYTES])
{
    uint8_t temp[NOISE_KEY_BYTES], first[NOISE_KEY_BYTES];
    noise_hmac(chaining_key, input, 0, false, temp);
    noise_hmac(temp, kv_slice(NULL, 0), 1, true, first);
    noise_hmac(temp, kv_slice(first, sizeof first), 2, true, out2);
    memcpy(out1, first, sizeof first); /* late: out1 may be chaining_key */
    sodium_memzero(temp, sizeof temp);
    sodium_memzero(first, sizeof first);
}

static void noise_mix_key(struct noise *n, const uint8_t secret[NOISE_KEY_BYTES])
{
    noise_hkdf(n->chaining_key, kv_slice(secret, NOISE_KEY_BYTES), n->chaining_key, n->cipher.key);
    n->cipher.nonce = 0;
    n->has_key = true;
}

static size_t noise_tag(const struct noise *n)
{
    return n->has_key ? NOISE_TAG_BYTES : 0;
}

static uint8_t *noise_encrypt_and_hash(struct noise *n, struct kv_slice plain, uint8_t *out)
{
    size_t size = plain.size + noise_tag(n);
    if (n->has_key) {
        noise_seal(&n->cipher, kv_slice(n->hash, sizeof n->hash), plain, out);
    } else if (plain.size > 0) {
        memcpy(out, plain.data, plain.size);
    }
    noise_mix_hash(n, kv_slice(out, size));
    return out + size;
}

static bool noise_decrypt_and_hash(struct noise *n, struct kv_slice sealed, uint8_t *out)
{
    if (n->has_key) {
        if (!noise_open(&n->cipher, kv_slice(n->hash, sizeof n->hash), sealed, out)) return false;
    } else if (sealed.size > 0) {
        memcpy(out, sealed.data, sealed.size);
    }
    noise_mix_hash(n, sealed);
    return true;
}

/* --- the handshake (section 5.3) --- */

void noise_pair_make(struct noise_pair *out, const uint8_t secret_key[NOISE_KEY_BYTES])
{
    memcpy(out->secret_key, secret_key, NOISE_KEY_BYTES);
    int failed = crypto_scalarmult_curve25519_base(out->public_key, out->secret_key);
    assert(failed == 0); /* the base point has prime order */
}

void noise_init(struct noise *n, bool initiator, struct kv_slice prologue,
                const struct noise_pair *s, const uint8_t ephemeral_secret[NOISE_KEY_BYTES])
{
    *n = (struct noise){.initiator = initiator, .s = *s};
    noise_pair_make(&n->e, ephemeral_secret);
    memcpy(n->hash, protocol_name, sizeof n->hash);
    memcpy(n->chaining_key, n->hash, sizeof n->chaining_key);
    noise_mix_hash(n, prologue);
}

bool noise_writes(const struct noise *n)
{
    return n->message < NOISE_MESSAGES && (n->message % 2 == 0) == n->initiator;
}

size_t noise_overhead(const struct noise *n)
{
    static const size_t bytes[NOISE_MESSAGES] = {
        NOISE_KEY_BYTES,
        NOISE_KEY_BYTES + NOISE_KEY_BYTES + NOISE_TAG_BYTES + NOISE_TAG_BYTES,
        NOISE_KEY_BYTES + NOISE_TAG_BYTES + NOISE_TAG_BYTES,
    };
    assert(n->message < NOISE_MESSAGES);
    return bytes[n->message];
}

static bool noise_dh(struct noise *n, const struct noise_pair *ours,
                     const uint8_t theirs[NOISE_KEY_BYTES])
{
    uint8_t shared[NOISE_KEY_BYTES];
    /* Fails for points of low order: then the secret would not depend on our key. */
    if (crypto_scalarmult_curve25519(shared, ours->secret_key, theirs) != 0) return false;
    noise_mix_key(n, shared);
    sodium_memzero(shared, sizeof shared);
    return true;
}

/* Of "es" and "se" the first letter is the initiator's key. */
static bool noise_mix(struct noise *n, enum noise_token token)
{
    switch (token) {
    case TOKEN_EE: return noise_dh(n, &n->e, n->re);
    case TOKEN_ES: return n->initiator ? noise_dh(n, &n->e, n->rs) : noise_dh(n, &n->s, n->re);
    case TOKEN_SE: return n->initiator ? noise_dh(n, &n->s, n->re) : noise_dh(n, &n->e, n->rs);
    case TOKEN_E:
    case TOKEN_S:
    case TOKEN_END: break;
    }
    return true;
}

bool noise_write(struct noise *n, struct kv_slice payload, uint8_t *out)
{
    assert(noise_writes(n));
    const uint8_t *start = out;
    size_t size = noise_overhead(n) + payload.size;
    for (const enum noise_token *t = pattern[n->message]; *t != TOKEN_END; t++) {
        if (*t == TOKEN_E) {
            memcpy(out, n->e.public_key, NOISE_KEY_BYTES);
            noise_mix_hash(n, kv_slice(out, NOISE_KEY_BYTES));
            out += NOISE_KEY_BYTES;
        } else if (*t == TOKEN_S) {
            out = noise_encrypt_and_hash(n, kv_slice(n->s.public_key, NOISE_KEY_BYTES), out);
        } else if (!noise_mix(n, *t)) {
            return false;
        }
    }
    out = noise_encrypt_and_hash(n, payload, out);
    assert(out == start + size);
    n->message++;
    return true;
}

bool noise_read(struct noise *n, struct kv_slice message, uint8_t *payload)
{
    assert(n->message < NOISE_MESSAGES && !noise_writes(n));
    if (message.size < noise_overhead(n)) return false; /* so every read below is inside */
    const uint8_t *p = message.data, *end = p + message.size;
    for (const enum noise_token *t = pattern[n->message]; *t != TOKEN_END; t++) {
        if (*t == TOKEN_E) {
            memcpy(n->re, p, NOISE_KEY_BYTES);
            noise_mix_hash(n, kv_slice(p, NOISE_KEY_BYTES));
            p += NOISE_KEY_BYTES;
        } else if (*t == TOKEN_S) {
            size_t size = NOISE_KEY_BYTES + noise_tag(n);
            if (!noise_decrypt_and_hash(n, kv_slice(p, size), n->rs)) return false;
            p += size;
        } else if (!noise_mix(n, *t)) {
            return false;
        }
    }
    if (!noise_decrypt_and_hash(n, kv_slice(p, (size_t)(end - p)), payload)) return false;
    n->message++;
    return true;
}

void noise_split(const struct noise *n, struct noise_cipher *send, struct noise_cipher *receive)
{
    assert(n->message == NOISE_MESSAGES);
    struct noise_cipher *first = n->initiator ? send : receive; /* initiator to responder */
    struct noise_cipher *second = n->initiator ? receive : send;
    noise_hkdf(n->chaining_key, kv_slice(NULL, 0), first->key, second->key);
    first->nonce = 0;
    second->nonce = 0;
}

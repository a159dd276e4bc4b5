/* The handshake, then one stream of frames each way.
 * (1) Before OPEN nothing but one handshake message of the peer is held, and no frame
 *     goes in or out.
 * (2) `plain` begins at a frame's header; every header in it has been checked up to
 *     `checked`, so channel_next() cannot meet an illegal one.
 * (3) After an error nothing is accepted, opened or sealed any more.
 *
 * Handshake payloads begin with a kind byte: PAYLOAD_HELLO and the owner's bytes, or
 * PAYLOAD_REFUSAL and a refusal. A refusal is {error code 1 B, text size 1 B, text}. An
 * acceptor refuses when the handshake is already complete: as its first and only transport
 * message, where REFUSAL_MARK stands in place of a frame's length. */
#include "client/wire/channel.h"

#include "client/base/endian.h"
#include "client/wire/noise.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>

enum {
    LENGTH_BYTES = 2,
    MESSAGE_BYTES_MAX = 65535,
    PLAIN_BYTES_MAX = MESSAGE_BYTES_MAX - NOISE_TAG_BYTES,
    HEADER_BYTES = 4,
    REFUSAL_TEXT_MAX = 200,
    REFUSAL_BYTES_MAX = 2 + REFUSAL_TEXT_MAX,
    BUFFER_KEPT_BYTES = 16 << 10 /* what an idle connection may hold on to, per buffer */
};
#define REFUSAL_MARK UINT32_MAX
enum { PAYLOAD_HELLO = 0,
       PAYLOAD_REFUSAL = 1 };
static_assert(CHANNEL_HANDSHAKE_BYTES_MAX >=
                  2 * NOISE_KEY_BYTES + 2 * NOISE_TAG_BYTES + 1 + CHANNEL_PAYLOAD_BYTES_MAX,
              "the largest handshake message fits");
static_assert((int)CHANNEL_PAYLOAD_BYTES_MAX >= (int)REFUSAL_BYTES_MAX, "a refusal fits");
static_assert((uint32_t)CHANNEL_FRAME_BYTES_MAX < REFUSAL_MARK, "no frame looks like a refusal");
static_assert((int)CHANNEL_KEY_BYTES == (int)NOISE_KEY_BYTES, "one size of key");

enum channel_state { STATE_NEW,
                     STATE_HANDSHAKE,
                     STATE_OPEN,
                     STATE_FAILED };

struct channel {
    enum channel_state state;
    enum channel_role role;
    enum kv_err err; /* STATE_FAILED: why */
    size_t frame_bytes_max;
    struct noise noise; /* wiped once open */
    uint8_t peer_key[CHANNEL_KEY_BYTES];
    struct noise_cipher send, receive;
    bool received; /* a transport message: a refusal may only be the first */
    enum kv_err (*judge)(void *context, const uint8_t peer_key[CHANNEL_KEY_BYTES],
                         struct kv_slice payload, const char **why);
    void *judge_context;
    uint8_t hello[1 + CHANNEL_PAYLOAD_BYTES_MAX]; /* ours, with its kind */
    size_t hello_size;
    uint8_t peer_hello[CHANNEL_HANDSHAKE_BYTES_MAX];
    size_t peer_hello_size;
    char refusal[REFUSAL_TEXT_MAX + 32];
    struct kv_buf in;      /* the part of a message that has come so far */
    struct kv_buf plain;   /* opened, not yet taken by channel_next() */
    size_t checked;        /* where the next unchecked header begins; may lie behind the end */
    struct kv_buf pending; /* frames to seal */
};

size_t channel_memory(void)
{
    return sizeof(struct channel);
}

void channel_identity_make(struct channel_identity *out, const uint8_t secret[CHANNEL_KEY_BYTES])
{
    int ready = sodium_init(); /* idempotent: chooses the fastest code for this machine */
    assert(ready >= 0);
    struct noise_pair pair;
    noise_pair_make(&pair, secret);
    memcpy(out->public_key, pair.public_key, sizeof out->public_key);
    memcpy(out->secret_key, pair.secret_key, sizeof out->secret_key);
    sodium_memzero(&pair, sizeof pair);
}

struct channel *channel_init(void *memory, const struct channel_options *o)
{
    assert(o->judge != NULL && o->payload.size <= CHANNEL_PAYLOAD_BYTES_MAX);
    assert(o->frame_bytes_max <= CHANNEL_FRAME_BYTES_MAX);
    int ready = sodium_init();
    assert(ready >= 0);
    struct channel *c = memory;
    *c = (struct channel){
        .state = o->role == CHANNEL_DIAL ? STATE_NEW : STATE_HANDSHAKE,
        .role = o->role,
        .frame_bytes_max = o->frame_bytes_max == 0 ? CHANNEL_FRAME_BYTES_MAX : o->frame_bytes_max,
        .judge = o->judge,
        .judge_context = o->judge_context,
        .hello_size = 1 + o->payload.size,
    };
    c->hello[0] = PAYLOAD_HELLO;
    if (o->payload.size > 0) memcpy(c->hello + 1, o->payload.data, o->payload.size);
    struct noise_pair s;
    memcpy(s.public_key, o->self->public_key, sizeof s.public_key);
    memcpy(s.secret_key, o->self->secret_key, sizeof s.secret_key);
    noise_init(&c->noise, o->role == CHANNEL_DIAL, o->prologue, &s, o->ephemeral_seed);
    sodium_memzero(&s, sizeof s);
    return c;
}

void channel_wipe(struct channel *c)
{
    kv_buf_free(&c->in);
    kv_buf_free(&c->plain);
    kv_buf_free(&c->pending);
    sodium_memzero(&c->noise, sizeof c->noise);
    sodium_memzero(&c->send, sizeof c->send);
    sodium_memzero(&c->receive, sizeof c->receive);
    if (c->state != STATE_FAILED) c->err = KV_CLOSED;
    c->state = STATE_FAILED;
    c->checked = 0;
}

static enum kv_err channel_fail(struct channel *c, enum kv_err err)
{
    assert(err != KV_OK);
    c->state = STATE_FAILED;
    c->err = err;
    return err;
}

void channel_limit(struct channel *c, size_t frame_bytes_max)
{
    assert(frame_bytes_max > 0 && frame_bytes_max <= c->frame_bytes_max);
    c->frame_bytes_max = frame_bytes_max;
}

const char *channel_refusal(const struct channel *c)
{
    return c->refusal;
}

bool channel_established(const struct channel *c)
{
    return c->state == STATE_OPEN;
}

const uint8_t *channel_peer_key(const struct channel *c)
{
    assert(c->state == STATE_OPEN || c->state == STATE_FAILED);
    return c->peer_key;
}

struct kv_slice channel_peer_payload(const struct channel *c)
{
    assert((c->state == STATE_OPEN || c->state == STATE_FAILED) && c->peer_hello_size > 0);
    return kv_slice(c->peer_hello + 1, c->peer_hello_size - 1);
}

/* --- refusals --- */

/* `text` comes from a stranger and goes to logs: printable ASCII is kept. */
static void channel_note_refusal(struct channel *c, const char *prefix, struct kv_slice text)
{
    size_t at = (size_t)snprintf(c->refusal, sizeof c->refusal, "%s", prefix);
    assert(at + text.size < sizeof c->refusal);
    for (size_t i = 0; i < text.size; i++) {
        c->refusal[at++] = text.data[i] >= 0x20 && text.data[i] < 0x7F ? (char)text.data[i] : '?';
    }
    c->refusal[at] = 0;
}

static size_t refusal_write(uint8_t out[REFUSAL_BYTES_MAX], enum kv_err err, struct kv_slice text)
{
    out[0] = (uint8_t)err;
    out[1] = (uint8_t)text.size;
    if (text.size > 0) memcpy(out + 2, text.data, text.size);
    return 2 + text.size;
}

/* The peer refused us: what it says becomes our error. */
static enum kv_err channel_refused(struct channel *c, struct kv_slice refusal)
{
    if (refusal.size < 2 || refusal.size != (size_t)2 + refusal.data[1] ||
        refusal.data[1] > REFUSAL_TEXT_MAX) {
        return channel_fail(c, KV_MALFORMED);
    }
    channel_note_refusal(c, "refused by the peer: ", kv_slice(refusal.data + 2, refusal.data[1]));
    switch (refusal.data[0]) {
    case KV_WRONG_CLUSTER: return channel_fail(c, KV_WRONG_CLUSTER);
    case KV_VERSION: return channel_fail(c, KV_VERSION);
    default: return channel_fail(c, KV_AUTH); /* a byte from outside */
    }
}

/* --- sealing --- */

static bool channel_seal(struct channel *c, struct kv_slice plain, struct kv_buf *out)
{
    assert(plain.size <= PLAIN_BYTES_MAX);
    size_t size = plain.size + NOISE_TAG_BYTES;
    uint8_t *p = kv_buf_reserve(out, LENGTH_BYTES + size);
    if (p == NULL) return false;
    be16_put(p, (uint16_t)size);
    noise_seal(&c->send, kv_slice(NULL, 0), plain, p + LENGTH_BYTES);
    kv_buf_commit(out, LENGTH_BYTES + size);
    return true;
}

static bool channel_say(struct channel *c, struct kv_slice payload, struct kv_buf *out)
{
    size_t size = noise_overhead(&c->noise) + payload.size;
    assert(size <= CHANNEL_HANDSHAKE_BYTES_MAX);
    uint8_t *p = kv_buf_reserve(out, LENGTH_BYTES + size);
    if (p == NULL) return false;
    be16_put(p, (uint16_t)size);
    if (!noise_write(&c->noise, payload, p + LENGTH_BYTES)) return false;
    kv_buf_commit(out, LENGTH_BYTES + size);
    return true;
}

/* --- the handshake --- */

void channel_start(struct channel *c, struct kv_buf *out)
{
    assert(c->role == CHANNEL_DIAL && c->state == STATE_NEW);
    c->state = STATE_HANDSHAKE;
    /* No payload: nothing in message 1 would be secret. */
    if (!channel_say(c, kv_slice(NULL, 0), out)) channel_fail(c, KV_BUSY);
}

/* Asks the owner about the peer; tells the peer if the answer is no. */
static enum kv_err channel_judge(struct channel *c, struct kv_buf *out)
{
    const char *why = NULL;
    struct kv_slice hello = kv_slice(c->peer_hello + 1, c->peer_hello_size - 1);
    enum kv_err err = c->judge(c->judge_context, c->peer_key, hello, &why);
    if (err == KV_OK) return KV_OK;

    struct kv_slice text = kv_str(why != NULL ? why : kv_err_text(err));
    if (text.size > REFUSAL_TEXT_MAX) text.size = REFUSAL_TEXT_MAX;
    channel_note_refusal(c, "", text);
    uint8_t bytes[HEADER_BYTES + REFUSAL_BYTES_MAX];
    if (c->role == CHANNEL_ACCEPT) {
        le32_put(bytes, REFUSAL_MARK);
        size_t size = HEADER_BYTES + refusal_write(bytes + HEADER_BYTES, err, text);
        channel_seal(c, kv_slice(bytes, size), out);
    } else {
        /* Whom we refuse need not learn who we are: the ephemeral key takes the place of ours. */
        c->noise.s = c->noise.e;
        bytes[0] = PAYLOAD_REFUSAL;
        channel_say(c, kv_slice(bytes, 1 + refusal_write(bytes + 1, err, text)), out);
    }
    return channel_fail(c, err);
}

static enum kv_err channel_handshake(struct channel *c, struct kv_slice message, struct kv_buf *out)
{
    assert(c->state == STATE_HANDSHAKE && !noise_writes(&c->noise));
    uint32_t number = c->noise.message;
    size_t overhead = noise_overhead(&c->noise);
    size_t payload_min = number == 0 ? 0 : 1, payload_max = number == 0 ? 0 : sizeof c->hello;
    if (message.size < overhead + payload_min) return channel_fail(c, KV_MALFORMED);
    if (message.size > overhead + payload_max) return channel_fail(c, KV_TOO_BIG);
    if (!noise_read(&c->noise, message, c->peer_hello)) return channel_fail(c, KV_AUTH);
    c->peer_hello_size = message.size - overhead;

    if (number == 0) { /* the acceptor answers before it knows anybody */
        bool said = channel_say(c, kv_slice(c->hello, c->hello_size), out);
        return said ? KV_OK : channel_fail(c, out->failed ? KV_BUSY : KV_AUTH);
    }
    if (c->peer_hello[0] == PAYLOAD_REFUSAL && c->role == CHANNEL_ACCEPT) {
        return channel_refused(c, kv_slice(c->peer_hello + 1, c->peer_hello_size - 1));
    }
    if (c->peer_hello[0] != PAYLOAD_HELLO) return channel_fail(c, KV_MALFORMED);
    memcpy(c->peer_key, c->noise.rs, sizeof c->peer_key);
    /* The acceptor has all messages now; the dialler judges before it says who it is. */
    if (c->role == CHANNEL_ACCEPT) noise_split(&c->noise, &c->send, &c->receive);
    enum kv_err err = channel_judge(c, out);
    if (err != KV_OK) return err;
    if (c->role == CHANNEL_DIAL) {
        bool said = channel_say(c, kv_slice(c->hello, c->hello_size), out);
        if (!said) return channel_fail(c, out->failed ? KV_BUSY : KV_AUTH);
        noise_split(&c->noise, &c->send, &c->receive);
    }
    sodium_memzero(&c->noise, sizeof c->noise);
    c->state = STATE_OPEN;
    return KV_OK;
}

/* --- frames in --- */

static enum kv_err channel_check_headers(struct channel *c, bool first)
{
    struct kv_slice s = kv_buf_slice(&c->plain);
    if (first && c->role == CHANNEL_DIAL && s.size >= HEADER_BYTES &&
        le32_get(s.data) == REFUSAL_MARK) {
        return channel_refused(c, kv_slice(s.data + HEADER_BYTES, s.size - HEADER_BYTES));
    }
    while (c->checked <= s.size && s.size - c->checked >= HEADER_BYTES) {
        uint32_t size = le32_get(s.data + c->checked);
        if (size == 0) return channel_fail(c, KV_MALFORMED);
        if (size > c->frame_bytes_max) return channel_fail(c, KV_TOO_BIG);
        c->checked += HEADER_BYTES + (size_t)size;
    }
    return KV_OK;
}

static enum kv_err channel_open(struct channel *c, struct kv_slice message)
{
    if (message.size < NOISE_TAG_BYTES) return channel_fail(c, KV_MALFORMED);
    size_t size = message.size - NOISE_TAG_BYTES;
    uint8_t *p = kv_buf_reserve(&c->plain, size);
    if (p == NULL) return channel_fail(c, KV_BUSY);
    if (!noise_open(&c->receive, kv_slice(NULL, 0), message, p)) return channel_fail(c, KV_AUTH);
    kv_buf_commit(&c->plain, size);
    bool first = !c->received;
    c->received = true;
    return channel_check_headers(c, first);
}

static enum kv_err channel_message(struct channel *c, struct kv_slice message, struct kv_buf *out)
{
    return c->state == STATE_OPEN ? channel_open(c, message) : channel_handshake(c, message, out);
}

/* The size of the message whose length is at `p`. */
static enum kv_err channel_length(struct channel *c, const uint8_t *p, size_t *size)
{
    *size = be16_get(p);
    if (*size == 0) return channel_fail(c, KV_MALFORMED);
    if (c->state == STATE_HANDSHAKE && *size > CHANNEL_HANDSHAKE_BYTES_MAX) {
        return channel_fail(c, KV_TOO_BIG);
    }
    return KV_OK;
}

static void channel_take(struct channel *c, struct kv_slice *from, size_t wanted)
{
    size_t size = wanted - c->in.size < from->size ? wanted - c->in.size : from->size;
    kv_buf_append(&c->in, from->data, size);
    *from = kv_slice(from->data + size, from->size - size);
}

/* Completes the message that began in an earlier call, as far as `bytes` go. */
static enum kv_err channel_feed_rest(struct channel *c, struct kv_slice *bytes, struct kv_buf *out)
{
    if (c->in.size < LENGTH_BYTES) channel_take(c, bytes, LENGTH_BYTES);
    if (c->in.failed) return channel_fail(c, KV_BUSY);
    if (c->in.size < LENGTH_BYTES) return KV_OK;
    size_t size;
    enum kv_err err = channel_length(c, kv_buf_slice(&c->in).data, &size);
    if (err != KV_OK) return err;
    channel_take(c, bytes, LENGTH_BYTES + size);
    if (c->in.failed) return channel_fail(c, KV_BUSY);
    if (c->in.size < LENGTH_BYTES + size) return KV_OK;
    err = channel_message(c, kv_slice(kv_buf_slice(&c->in).data + LENGTH_BYTES, size), out);
    kv_buf_clear(&c->in);
    kv_buf_shrink(&c->in, BUFFER_KEPT_BYTES);
    return err;
}

enum kv_err channel_feed(struct channel *c, struct kv_slice bytes, struct kv_buf *out)
{
    assert(c->state != STATE_NEW);
    if (c->state == STATE_FAILED) return c->err;
    kv_buf_shrink(&c->plain, BUFFER_KEPT_BYTES);
    while (bytes.size > 0) {
        enum kv_err err;
        size_t size = 0;
        if (c->in.size == 0 && bytes.size >= LENGTH_BYTES) {
            err = channel_length(c, bytes.data, &size);
            if (err != KV_OK) return err;
        }
        if (size > 0 && bytes.size - LENGTH_BYTES >= size) { /* whole: no need to copy it */
            err = channel_message(c, kv_slice(bytes.data + LENGTH_BYTES, size), out);
            bytes = kv_slice(bytes.data + LENGTH_BYTES + size, bytes.size - LENGTH_BYTES - size);
        } else {
            err = channel_feed_rest(c, &bytes, out);
        }
        if (err != KV_OK) return err;
    }
    return KV_OK;
}

bool channel_next(struct channel *c, struct kv_slice *frame)
{
    struct kv_slice s = kv_buf_slice(&c->plain);
    if (s.size < HEADER_BYTES) return false;
    size_t size = HEADER_BYTES + (size_t)le32_get(s.data);
    /* A header behind an illegal one was never checked. */
    if (size > c->checked || s.size < size) return false;
    *frame = kv_slice(s.data + HEADER_BYTES, size - HEADER_BYTES);
    kv_buf_consume(&c->plain, size); /* the bytes stay until the next append */
    c->checked -= size;
    return true;
}

/* --- frames out --- */

enum kv_err channel_send(struct channel *c, const struct kv_slice *parts, uint32_t part_count)
{
    if (c->state != STATE_OPEN) return KV_CLOSED;
    size_t size = 0;
    for (uint32_t i = 0; i < part_count; i++) {
        if (parts[i].size > CHANNEL_FRAME_BYTES_MAX - size) return KV_TOO_BIG;
        size += parts[i].size;
    }
    assert(size > 0);
    uint8_t *p = kv_buf_reserve(&c->pending, HEADER_BYTES + size);
    if (p == NULL) { /* the frames before it are whole, and stay */
        c->pending.failed = false;
        return KV_BUSY;
    }
    le32_put(p, (uint32_t)size);
    p += HEADER_BYTES;
    for (uint32_t i = 0; i < part_count; i++) {
        if (parts[i].size > 0) memcpy(p, parts[i].data, parts[i].size);
        p += parts[i].size;
    }
    kv_buf_commit(&c->pending, HEADER_BYTES + size);
    return KV_OK;
}

size_t channel_pending(const struct channel *c)
{
    return c->pending.size;
}

void channel_flush(struct channel *c, struct kv_buf *out)
{
    if (c->state != STATE_OPEN) return;
    struct kv_slice s = kv_buf_slice(&c->pending);
    size_t messages = (s.size + PLAIN_BYTES_MAX - 1) / PLAIN_BYTES_MAX;
    if (messages == 0) return;
    /* All of it or nothing, so that no nonce is spent on bytes that never leave. */
    if (kv_buf_reserve(out, s.size + messages * (LENGTH_BYTES + NOISE_TAG_BYTES)) == NULL) return;
    while (s.size > 0) {
        size_t size = s.size < PLAIN_BYTES_MAX ? s.size : PLAIN_BYTES_MAX;
        bool sealed = channel_seal(c, kv_slice(s.data, size), out);
        assert(sealed);
        s = kv_slice(s.data + size, s.size - size);
    }
    kv_buf_clear(&c->pending);
    kv_buf_shrink(&c->pending, BUFFER_KEPT_BYTES);
}

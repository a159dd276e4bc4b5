#ifndef FAKE_NODE_H
#define FAKE_NODE_H
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/base/key.h"
#include "client/env/env_uv.h"
#include "client/wire/channel.h"
#include "client/wire/hello.h"
#include "client/wire/message.h"
#include "client/wire/resp.h"

/* A node that speaks the native protocol on loopback and answers as a test's handler says: real
 * sockets, real Noise, no store. One test program runs all of them on one loop. */
struct fake;
struct fake_conn {
    struct env_conn conn;
    struct env_write write;
    struct fake *fake;
    struct fake_conn *next;
    struct channel *channel;
    struct kv_buf out, writing;
    struct kv_slice part;
    bool busy, gone;
};
struct fake {
    struct env *env;
    struct env_listener listener;
    struct env_addr addr;
    struct channel_identity identity;
    struct hello hello;
    struct fake_conn *conns;
    /* Fills `reply` (id set, KV_OK) and `value`; false: no answer at all. */
    bool (*handle)(struct fake *f, const struct kv_request *q, struct kv_reply *reply, struct kv_buf *value);
    void *context;
    bool mute;             /* hears everything and says nothing, as a stopped process */
    enum kv_err judgement; /* of clients */
    bool raw_garbage;      /* answers the handshake with rubbish */
    bool tampered;         /* answers requests with a message that nobody sealed */
    uint32_t accepted, requests, pings, open;
    struct env_addr last_peer; /* who dialled last, and from where */
};

static void fake_flush(struct fake_conn *k)
{
    if (k->gone || k->busy) return;
    if (channel_established(k->channel)) channel_flush(k->channel, &k->out);
    if (k->out.size == 0) return;
    struct kv_buf swap = k->writing;
    k->writing = k->out;
    k->out = swap;
    k->part = kv_buf_slice(&k->writing);
    k->write.parts = &k->part;
    k->write.part_count = 1;
    k->busy = true;
    k->fake->env->ops->write(k->fake->env, &k->conn, &k->write);
}

static void fake_written(struct env_write *w, enum kv_err err)
{
    struct fake_conn *k = container_of(w, struct fake_conn, write);
    k->busy = false;
    kv_buf_clear(&k->writing);
    if (err == KV_OK) fake_flush(k);
}

static void fake_send(struct fake_conn *k, const void *bytes, size_t size)
{
    struct kv_slice part = kv_slice(bytes, size);
    ck_assert_int_eq(channel_send(k->channel, &part, 1), KV_OK);
    fake_flush(k);
}

static void fake_frame(struct fake_conn *k, struct kv_slice frame)
{
    struct fake *f = k->fake;
    if (f->mute) return;
    if (frame.data[0] == KV_FRAME_PING) {
        uint8_t pong[9] = {KV_FRAME_PONG};
        ck_assert_uint_eq(frame.size, 9);
        memcpy(pong + 1, frame.data + 1, 8);
        f->pings++;
        fake_send(k, pong, sizeof pong);
        return;
    }
    if (frame.data[0] == KV_FRAME_PONG) return;
    if (f->tampered) {
        static const uint8_t unsealed[2 + 32] = {0, 32};
        f->requests++;
        kv_buf_append(&k->out, unsealed, sizeof unsealed);
        return; /* flushed by who feeds us */
    }
    ck_assert_uint_eq(frame.data[0], KV_FRAME_REQUEST);
    struct kv_arena arena;
    struct kv_request q;
    struct kv_buf value, out;
    kv_arena_init(&arena, 8 << 20);
    kv_buf_init(&value, 0);
    kv_buf_init(&out, 0);
    ck_assert_int_eq(kv_request_decode(kv_slice(frame.data + 1, frame.size - 1), &arena, &q), KV_OK);
    struct kv_reply reply = {.id = q.id, .node = f->hello.node};
    f->requests++;
    if (f->handle(f, &q, &reply, &value)) {
        reply.value = kv_buf_slice(&value);
        kv_reply_encode(&reply, &out);
        if (!k->gone) fake_send(k, kv_buf_slice(&out).data, out.size);
    }
    kv_buf_free(&value);
    kv_buf_free(&out);
    kv_arena_free(&arena);
}

static void fake_bytes(struct env_conn *c, struct kv_slice bytes)
{
    struct fake_conn *k = container_of(c, struct fake_conn, conn);
    struct kv_slice frame;
    if (k->fake->raw_garbage) {
        static const uint8_t rubbish[] = "\x00\x60HTTP/1.1 400 Bad Request\r\n\r\n0123456789012345678901234567890123456789012345678901234567890123456789";
        kv_buf_append(&k->out, rubbish, sizeof rubbish);
        fake_flush(k);
        return;
    }
    enum kv_err err = channel_feed(k->channel, bytes, &k->out);
    while (!k->gone && channel_next(k->channel, &frame)) fake_frame(k, frame);
    fake_flush(k);
    if (err != KV_OK) k->fake->env->ops->close(k->fake->env, c);
}

static void fake_closed(struct env_conn *c, enum kv_err err)
{
    struct fake_conn *k = container_of(c, struct fake_conn, conn);
    (void)err;
    struct fake_conn **at = &k->fake->conns;
    while (*at != k) at = &(*at)->next;
    *at = k->next;
    k->fake->open--;
    channel_wipe(k->channel);
    free(k->channel);
    kv_buf_free(&k->out);
    kv_buf_free(&k->writing);
    free(k);
}

static enum kv_err fake_judge(void *context, const uint8_t key[CHANNEL_KEY_BYTES], struct kv_slice payload,
                              const char **why)
{
    struct fake *f = context;
    struct hello hello;
    (void)key;
    ck_assert_int_eq(hello_decode(payload, &hello), KV_OK);
    ck_assert_int_eq(hello.role, HELLO_CLIENT);
    *why = "the test refuses this client";
    return f->judgement;
}

static struct env_conn *fake_accept(struct env_listener *l, const struct env_addr *peer)
{
    struct fake *f = container_of(l, struct fake, listener);
    struct fake_conn *k = calloc(1, sizeof *k);
    struct kv_buf hello;
    f->last_peer = *peer;
    ck_assert_ptr_nonnull(k);
    kv_buf_init(&hello, 0);
    hello_encode(&f->hello, &hello);
    struct channel_options o = {.role = CHANNEL_ACCEPT,
                                .self = &f->identity,
                                .prologue = kv_str(HELLO_PROLOGUE),
                                .payload = kv_buf_slice(&hello),
                                .judge = fake_judge,
                                .judge_context = f};
    for (size_t i = 0; i < sizeof o.ephemeral_seed; i += 8) {
        uint64_t random = f->env->ops->random(f->env);
        memcpy(o.ephemeral_seed + i, &random, 8);
    }
    k->channel = channel_init(malloc(channel_memory()), &o);
    kv_buf_free(&hello);
    kv_buf_init(&k->out, 0);
    kv_buf_init(&k->writing, 0);
    k->fake = f;
    k->conn.on_bytes = fake_bytes;
    k->conn.on_close = fake_closed;
    k->write.done = fake_written;
    k->next = f->conns;
    f->conns = k;
    f->accepted++;
    f->open++;
    return &k->conn;
}

/* Listens on 127.0.0.1 and a port of its own, beside those of the end-to-end tests; node ids from 1. */
static void fake_start(struct fake *f, struct env *env, uint32_t node)
{
    uint8_t secret[32] = {1, (uint8_t)node};
    memset(f, 0, sizeof *f);
    f->env = env;
    channel_identity_make(&f->identity, secret);
    f->hello = (struct hello){.role = HELLO_NODE, .node = node, .store = node, .name = kv_str("test")};
    f->hello.cluster[0] = 0xC1;
    f->listener.accept = fake_accept;
    snprintf(f->addr.host, sizeof f->addr.host, "127.0.0.1");
    for (uint32_t i = 0; i < 1000; i++) {
        f->addr.port = (uint16_t)(10000 + ((uint32_t)getpid() * 7 + node * 131 + i * 17) % 5000);
        if (env->ops->listen(env, &f->listener, &f->addr) == KV_OK) return;
    }
    ck_abort_msg("no free port");
}

static inline void fake_cut(struct fake *f)
{
    for (struct fake_conn *k = f->conns; k != NULL; k = k->next) {
        k->gone = true;
        f->env->ops->close(f->env, &k->conn);
    }
}

static inline void fake_stop(struct fake *f)
{
    f->env->ops->unlisten(f->env, &f->listener);
    fake_cut(f);
}

static inline void fake_again(struct fake *f)
{
    ck_assert_int_eq(f->env->ops->listen(f->env, &f->listener, &f->addr), KV_OK);
}

static inline void fake_drain(struct fake *f)
{
    static const uint8_t drain[] = {KV_FRAME_DRAIN};
    for (struct fake_conn *k = f->conns; k != NULL; k = k->next)
        if (channel_established(k->channel)) fake_send(k, drain, sizeof drain);
}

/* Turns the loop until the condition holds. A watch timer makes sure that it turns at all. */
struct fake_watch {
    struct env_timer timer;
    bool over;
};
static inline void fake_watch_fire(struct env_timer *t)
{
    container_of(t, struct fake_watch, timer)->over = true;
}
#define RUN_UNTIL(uv, condition)                                                \
    do {                                                                        \
        struct fake_watch watch_ = {.timer = {.fire = fake_watch_fire}};        \
        struct env *env_ = env_uv_env(uv);                                      \
        env_->ops->timer_start(env_, &watch_.timer, KV_SECONDS(15));            \
        while (!(condition) && !watch_.over) env_uv_run_once(uv);               \
        env_->ops->timer_stop(env_, &watch_.timer);                             \
        ck_assert_msg(condition, "did not happen within 15 s: %s", #condition); \
    } while (0)
#define RUN_FOR(uv, ns)                                                  \
    do {                                                                 \
        struct fake_watch watch_ = {.timer = {.fire = fake_watch_fire}}; \
        struct env *env_ = env_uv_env(uv);                               \
        env_->ops->timer_start(env_, &watch_.timer, (ns));               \
        while (!watch_.over) env_uv_run_once(uv);                        \
    } while (0)
#endif

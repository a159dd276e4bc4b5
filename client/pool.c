#include "client/pool.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/base/endian.h"
#include "client/base/map.h"
#include "client/base/text.h"

/* Invariants:
 * (1) An open call is in exactly one list: its connection's `waiting` (not yet sealed) or
 *     `asked` (sent, and in `by_id`), or the pool's `refused`.
 * (2) Calls are encoded only in the flush task, never inside pool_call(): a reply's bytes are
 *     borrowed from the channel while done() runs, and done() may start calls.
 * (3) Nothing ends a call inside pool_call() or pool_cancel(); a connection's calls end in its
 *     on_close, so every path out of a connection is one path.
 * (4) A connection is freed after on_close and after its posted flush has run. */
enum {
    POOL_OUT_BYTES_MAX = 4 << 20, /* sealed and not taken by the socket: stop encoding beyond */
    POOL_REPLY_BYTES_MAX = 64 << 20,
    POOL_WHY_BYTES = 192
};

struct call_list {
    struct pool_call *head, *tail;
};

enum conn_state { CONN_DIALLING,
                  CONN_SHAKING,
                  CONN_OPEN,
                  CONN_DRAINING,
                  CONN_CLOSING };

struct pool_conn {
    struct env_conn conn;
    struct pool *pool;
    struct pool_conn *next;
    struct env_addr addr;
    enum conn_state state;
    bool key_known;
    uint8_t key[CHANNEL_KEY_BYTES];
    struct channel *channel;
    struct kv_buf out, writing;
    struct env_write write;
    struct kv_slice part;
    bool write_busy, flush_posted, is_gone;
    struct env_task flush;
    struct env_timer timer;
    uint64_t timer_due_ns, heard_ns, pinged_ns; /* pinged_ns 0: no ping is open */
    struct call_list waiting, asked;
    struct kv_map by_id;
    uint64_t id_last;
    uint32_t call_count;
    enum kv_err err; /* why it closes */
    char why[POOL_WHY_BYTES];
};

struct pool {
    struct pool_options options;
    char name[HELLO_NAME_BYTES_MAX];
    uint8_t cluster[HELLO_CLUSTER_BYTES]; /* told by the last node that shook hands */
    bool cluster_known;
    struct pool_conn *conns;
    struct call_list refused;
    struct env_task task;
    bool task_posted, is_closing;
    void (*closed)(void *context);
    void *closed_context;
    struct kv_buf scratch; /* one encoded request */
    struct kv_arena arena; /* one decoded reply */
    struct pool_stats stats;
};

/* ---- addresses ---- */

bool pool_addr_eq(const struct env_addr *a, const struct env_addr *b)
{
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

bool pool_addr_parse(struct kv_slice text, struct env_addr *out)
{
    size_t colon = text.size;
    while (colon > 0 && text.data[colon - 1] != ':') colon--;
    if (colon < 2) return false;
    struct kv_slice host = kv_slice(text.data, colon - 1);
    uint64_t port;
    if (!kv_parse_u64(kv_slice(text.data + colon, text.size - colon), &port)) return false;
    if (port == 0 || port > UINT16_MAX) return false;
    if (kv_slice_eq(host, kv_str("localhost"))) host = kv_str("127.0.0.1");
    if (host.size > 2 && host.data[0] == '[' && host.data[host.size - 1] == ']')
        host = kv_slice(host.data + 1, host.size - 2);
    else if (memchr(host.data, ':', host.size) != NULL)
        return false; /* an IPv6 address without brackets is ambiguous */
    if (host.size >= sizeof out->host) return false;
    for (size_t i = 0; i < host.size; i++) {
        uint8_t b = host.data[i];
        bool hex = (b >= '0' && b <= '9') || (b >= 'a' && b <= 'f') || (b >= 'A' && b <= 'F');
        if (!hex && b != '.' && b != ':') return false;
    }
    memset(out, 0, sizeof *out);
    memcpy(out->host, host.data, host.size);
    out->port = (uint16_t)port;
    return true;
}

/* ---- lists of calls ---- */

static void list_push(struct call_list *l, struct pool_call *c)
{
    c->prev = l->tail;
    c->next = NULL;
    if (l->tail == NULL)
        l->head = c;
    else
        l->tail->next = c;
    l->tail = c;
}

static void list_remove(struct call_list *l, struct pool_call *c)
{
    if (c->prev == NULL)
        l->head = c->next;
    else
        c->prev->next = c->next;
    if (c->next == NULL)
        l->tail = c->prev;
    else
        c->next->prev = c->prev;
    c->prev = c->next = NULL;
}

static void pool_post(struct pool *p)
{
    if (p->task_posted) return;
    p->task_posted = true;
    p->options.env->ops->post(p->options.env, &p->task);
}

static void conn_post(struct pool_conn *k)
{
    if (k->flush_posted) return;
    k->flush_posted = true;
    k->pool->options.env->ops->post(k->pool->options.env, &k->flush);
}

static void call_unlink(struct pool_call *c)
{
    struct pool *p = c->pool;
    struct pool_conn *k = c->conn;
    if (k == NULL) {
        list_remove(&p->refused, c);
    } else if (c->sent) {
        list_remove(&k->asked, c);
        (void)kv_map_remove(&k->by_id, c->request.id);
        k->call_count--;
    } else {
        list_remove(&k->waiting, c);
        k->call_count--;
    }
    p->options.env->ops->timer_stop(p->options.env, &c->timer);
    p->stats.calls--;
    c->pool = NULL;
    c->conn = NULL;
}

static void call_end(struct pool_call *c, enum kv_err err, const struct kv_reply *reply,
                     const char *why)
{
    call_unlink(c);
    c->done(c, err, reply, why);
}

static void call_expired(struct env_timer *t)
{
    struct pool_call *c = container_of(t, struct pool_call, timer);
    char why[POOL_WHY_BYTES];
    if (c->conn == NULL)
        snprintf(why, sizeof why, "the deadline passed before it was sent");
    else if (c->sent)
        snprintf(why, sizeof why, "no answer from %s:%u before the deadline", c->conn->addr.host,
                 (unsigned)c->conn->addr.port);
    else
        snprintf(why, sizeof why, "not connected to %s:%u before the deadline", c->conn->addr.host,
                 (unsigned)c->conn->addr.port);
    struct pool_conn *k = c->conn;
    call_end(c, KV_TIMEOUT, NULL, why);
    if (k != NULL && k->state == CONN_DRAINING) conn_post(k);
}

/* ---- one connection ---- */

__attribute__((format(printf, 3, 4))) static void conn_fail(struct pool_conn *k, enum kv_err err,
                                                            const char *format, ...)
{
    if (k->state == CONN_CLOSING) return;
    k->state = CONN_CLOSING;
    k->err = err;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(k->why, sizeof k->why, format, args);
    va_end(args);
    k->pool->options.env->ops->timer_stop(k->pool->options.env, &k->timer);
    k->pool->options.env->ops->close(k->pool->options.env, &k->conn);
}

static void conn_timer(struct pool_conn *k, uint64_t delay_ns)
{
    struct env *env = k->pool->options.env;
    k->timer_due_ns = env_now_ns(env) + delay_ns;
    env->ops->timer_start(env, &k->timer, delay_ns);
}

static void conn_write(struct pool_conn *k)
{
    if (k->write_busy || k->out.size == 0 || k->is_gone) return;
    struct kv_buf swap = k->writing;
    k->writing = k->out;
    k->out = swap;
    k->part = kv_buf_slice(&k->writing);
    k->write.parts = &k->part;
    k->write.part_count = 1;
    k->write_busy = true;
    k->pool->options.env->ops->write(k->pool->options.env, &k->conn, &k->write);
}

static void conn_written(struct env_write *w, enum kv_err err)
{
    struct pool_conn *k = container_of(w, struct pool_conn, write);
    k->write_busy = false;
    kv_buf_clear(&k->writing);
    kv_buf_shrink(&k->writing, 64 << 10);
    if (k->state == CONN_CLOSING) return;
    if (err != KV_OK) {
        conn_fail(k, KV_CLOSED, "%s:%u: %s", k->addr.host, (unsigned)k->addr.port, kv_err_text(err));
        return;
    }
    if (k->waiting.head != NULL)
        conn_post(k);
    else
        conn_write(k);
}

/* Encodes one waiting call into this turn's plaintext. */
static void conn_ask(struct pool_conn *k, struct pool_call *c, uint64_t now_ns)
{
    struct pool *p = k->pool;
    uint64_t left_ms = c->deadline_ns > now_ns ? (c->deadline_ns - now_ns) / 1000000u : 0;
    /* The node is told a little less, so that its refusal, which knows the cause and the outcome,
     * arrives before our own clock can only say "no answer". */
    left_ms -= left_ms / 4 < 100 ? left_ms / 4 : 100;
    c->request.deadline_ms = left_ms == 0 ? 1 : left_ms > UINT32_MAX ? UINT32_MAX
                                                                     : (uint32_t)left_ms;
    c->request.id = ++k->id_last;
    kv_buf_clear(&p->scratch);
    kv_request_encode(&c->request, &p->scratch);
    if (p->scratch.failed) {
        call_end(c, KV_NO_SPACE, NULL, "out of memory");
        return;
    }
    struct kv_slice frame = kv_buf_slice(&p->scratch);
    if (!kv_map_put(&k->by_id, c->request.id, c)) {
        call_end(c, KV_NO_SPACE, NULL, "out of memory");
        return;
    }
    enum kv_err err = channel_send(k->channel, &frame, 1);
    if (err != KV_OK) {
        (void)kv_map_remove(&k->by_id, c->request.id);
        call_end(c, err, NULL, "the request does not fit into one frame");
        return;
    }
    list_remove(&k->waiting, c);
    c->sent = true;
    c->sent_ns = now_ns;
    list_push(&k->asked, c);
}

static void conn_free(struct pool_conn *k)
{
    struct pool *p = k->pool;
    assert(k->call_count == 0 && !k->write_busy);
    struct pool_conn **at = &p->conns;
    while (*at != k) at = &(*at)->next;
    *at = k->next;
    p->stats.connections--;
    if (k->channel != NULL) channel_wipe(k->channel);
    free(k->channel);
    kv_buf_free(&k->out);
    kv_buf_free(&k->writing);
    kv_map_free(&k->by_id);
    free(k);
    if (p->is_closing && p->conns == NULL) pool_post(p);
}

static void conn_flush(struct env_task *t)
{
    struct pool_conn *k = container_of(t, struct pool_conn, flush);
    k->flush_posted = false;
    if (k->is_gone) {
        conn_free(k);
        return;
    }
    if (k->state != CONN_OPEN && k->state != CONN_DRAINING) return;
    if (k->state == CONN_DRAINING && k->call_count == 0 && !k->write_busy) {
        conn_fail(k, KV_CLOSED, "%s:%u is going away", k->addr.host, (unsigned)k->addr.port);
        return;
    }
    uint64_t now_ns = env_now_ns(k->pool->options.env);
    while (k->waiting.head != NULL && k->state != CONN_CLOSING &&
           k->out.size + channel_pending(k->channel) < POOL_OUT_BYTES_MAX)
        conn_ask(k, k->waiting.head, now_ns);
    if (k->state == CONN_CLOSING) return;
    channel_flush(k->channel, &k->out);
    if (k->out.failed) {
        conn_fail(k, KV_NO_SPACE, "out of memory");
        return;
    }
    conn_write(k);
}

static void conn_ping(struct pool_conn *k, uint64_t now_ns)
{
    uint8_t bytes[9] = {KV_FRAME_PING};
    le64_put(bytes + 1, now_ns);
    struct kv_slice part = kv_slice(bytes, sizeof bytes);
    if (channel_send(k->channel, &part, 1) != KV_OK) return;
    k->pinged_ns = now_ns;
    k->pool->stats.pings++;
    conn_post(k);
    conn_timer(k, k->pool->options.ping_timeout_ns);
}

static uint64_t ping_interval(const struct pool_conn *k)
{
    return k->call_count > 0 ? k->pool->options.ping_after_ns : k->pool->options.ping_idle_ns;
}

static void conn_tick(struct env_timer *t)
{
    struct pool_conn *k = container_of(t, struct pool_conn, timer);
    const struct pool_options *o = &k->pool->options;
    uint64_t now_ns = env_now_ns(o->env);
    if (k->state == CONN_DIALLING || k->state == CONN_SHAKING) {
        conn_fail(k, KV_UNAVAILABLE, "%s:%u: no %s within %u ms%s", k->addr.host, (unsigned)k->addr.port,
                  k->state == CONN_DIALLING ? "connection" : "handshake",
                  (unsigned)(o->connect_timeout_ns / 1000000u),
                  k->state == CONN_DIALLING ? "" : "; is it the native port of a kvd?");
        return;
    }
    bool slept = now_ns - k->timer_due_ns > o->ping_after_ns; /* we, not the peer: its answer may lie unread */
    bool unanswered = k->pinged_ns != 0 && k->heard_ns < k->pinged_ns;
    if (unanswered && !slept) {
        uint64_t waited_ns = now_ns - k->pinged_ns;
        if (waited_ns < o->ping_timeout_ns) { /* a first call had moved the timer forward */
            conn_timer(k, o->ping_timeout_ns - waited_ns);
            return;
        }
        k->pool->stats.dead++;
        conn_fail(k, KV_CLOSED, "%s:%u: silent for %u ms, ping unanswered", k->addr.host,
                  (unsigned)k->addr.port, (unsigned)((now_ns - k->heard_ns) / 1000000u));
        return;
    }
    uint64_t silent_ns = now_ns - k->heard_ns, interval_ns = ping_interval(k);
    k->pinged_ns = 0;
    if (slept || silent_ns >= interval_ns)
        conn_ping(k, now_ns);
    else
        conn_timer(k, interval_ns - silent_ns);
}

static void conn_drain(struct pool_conn *k)
{
    struct pool *p = k->pool;
    if (k->state != CONN_OPEN) return;
    k->state = CONN_DRAINING;
    p->stats.drains++;
    if (p->options.drained != NULL) p->options.drained(p->options.context, &k->addr);
    /* What was not sent yet goes elsewhere. */
    while (k->waiting.head != NULL)
        call_end(k->waiting.head, KV_UNAVAILABLE, NULL, "the node is going away");
    conn_post(k);
}

static void conn_frame(struct pool_conn *k, struct kv_slice frame)
{
    struct pool *p = k->pool;
    struct kv_slice body = kv_slice(frame.data + 1, frame.size == 0 ? 0 : frame.size - 1);
    uint8_t kind = frame.size == 0 ? 0 : frame.data[0];
    if (kind == KV_FRAME_REPLY) {
        struct kv_reply reply;
        kv_arena_reset(&p->arena);
        enum kv_err err = kv_reply_decode(body, &p->arena, &reply);
        if (err != KV_OK) {
            conn_fail(k, err, "%s:%u sent a reply that does not parse", k->addr.host,
                      (unsigned)k->addr.port);
            return;
        }
        struct pool_call *c = kv_map_get(&k->by_id, reply.id);
        if (c != NULL) call_end(c, KV_OK, &reply, ""); /* else it was given up meanwhile */
        if (k->state == CONN_DRAINING && k->call_count == 0) conn_post(k);
    } else if (kind == KV_FRAME_PING && body.size == 8) {
        uint8_t bytes[9] = {KV_FRAME_PONG};
        memcpy(bytes + 1, body.data, 8);
        struct kv_slice part = kv_slice(bytes, sizeof bytes);
        if (channel_pending(k->channel) < POOL_OUT_BYTES_MAX && channel_send(k->channel, &part, 1) == KV_OK)
            conn_post(k);
    } else if (kind == KV_FRAME_DRAIN) {
        conn_drain(k);
    } else if (kind != KV_FRAME_PONG) {
        conn_fail(k, KV_MALFORMED, "%s:%u sent a frame of unknown kind %u", k->addr.host,
                  (unsigned)k->addr.port, (unsigned)kind);
    }
}

static void conn_bytes(struct env_conn *c, struct kv_slice bytes)
{
    struct pool_conn *k = container_of(c, struct pool_conn, conn);
    if (k->state == CONN_CLOSING) return;
    k->heard_ns = env_now_ns(k->pool->options.env);
    enum kv_err err = channel_feed(k->channel, bytes, &k->out);
    if (err == KV_OK && k->out.failed) err = KV_NO_SPACE;
    if (k->state == CONN_SHAKING && err == KV_OK) {
        conn_write(k);
        if (!channel_established(k->channel)) return;
        k->state = CONN_OPEN;
        conn_timer(k, ping_interval(k));
        conn_post(k);
    }
    struct kv_slice frame;
    while (k->state != CONN_CLOSING && channel_next(k->channel, &frame)) conn_frame(k, frame);
    if (err != KV_OK) {
        const char *refusal = channel_refusal(k->channel), *text = refusal[0] != 0 ? refusal : kv_err_text(err);
        if (err == KV_AUTH && k->state != CONN_SHAKING && refusal[0] == 0) {
            /* Tampered with on the way: no word about us, and none about what was asked before. */
            err = KV_CLOSED;
            text = "sent what does not open";
        }
        if (k->state == CONN_SHAKING && refusal[0] == 0 && (err == KV_MALFORMED || err == KV_TOO_BIG))
            text = "what answers there is not the native port of a kvd";
        conn_write(k); /* our own refusal, told as far as the socket takes it at once */
        conn_fail(k, err, "%s:%u: %s", k->addr.host, (unsigned)k->addr.port, text);
    }
}

static void conn_opened(struct env_conn *c, enum kv_err err)
{
    struct pool_conn *k = container_of(c, struct pool_conn, conn);
    if (k->state == CONN_CLOSING) return;
    if (err != KV_OK) { /* on_close follows */
        if (err == KV_CLOSED)
            conn_fail(k, KV_UNAVAILABLE, "%s:%u cannot be reached", k->addr.host, (unsigned)k->addr.port);
        else
            conn_fail(k, KV_UNAVAILABLE, "%s:%u cannot be reached (%s)", k->addr.host,
                      (unsigned)k->addr.port, kv_err_text(err));
        return;
    }
    k->state = CONN_SHAKING;
    channel_start(k->channel, &k->out);
    conn_write(k);
}

/* What the end of a connection means to a call on it. Refusals are about us, not about this
 * node; after them nothing has been admitted, sent or not. */
static enum kv_err closing_err(const struct pool_conn *k, bool sent)
{
    if (k->err == KV_AUTH || k->err == KV_WRONG_CLUSTER || k->err == KV_VERSION) return k->err;
    if (k->pool->is_closing) return KV_CLOSED;
    return sent ? KV_CLOSED : KV_UNAVAILABLE;
}

static void conn_closed(struct env_conn *c, enum kv_err err)
{
    struct pool_conn *k = container_of(c, struct pool_conn, conn);
    struct pool *p = k->pool;
    if (k->state != CONN_CLOSING) {
        k->err = KV_CLOSED;
        snprintf(k->why, sizeof k->why, "%s:%u closed the connection%s%s", k->addr.host,
                 (unsigned)k->addr.port, err == KV_CLOSED ? "" : ": ", err == KV_CLOSED ? "" : kv_err_text(err));
        p->options.env->ops->timer_stop(p->options.env, &k->timer);
        if (!channel_established(k->channel)) p->stats.dials_failed++;
    } else if (k->err == KV_UNAVAILABLE) {
        p->stats.dials_failed++;
    }
    k->state = CONN_CLOSING;
    k->is_gone = true;
    while (k->asked.head != NULL) call_end(k->asked.head, closing_err(k, true), NULL, k->why);
    while (k->waiting.head != NULL) call_end(k->waiting.head, closing_err(k, false), NULL, k->why);
    if (!k->flush_posted) conn_free(k);
}

static enum kv_err conn_judge(void *context, const uint8_t peer_key[CHANNEL_KEY_BYTES],
                              struct kv_slice payload, const char **why)
{
    struct pool_conn *k = context;
    struct hello peer;
    enum kv_err err = hello_decode(payload, &peer);
    if (err == KV_OK && peer.role != HELLO_NODE) err = KV_MALFORMED;
    if (err != KV_OK) {
        *why = err == KV_VERSION ? "the node speaks another protocol version" : "not a kvd node";
        return err;
    }
    if (k->key_known && memcmp(k->key, peer_key, CHANNEL_KEY_BYTES) != 0) {
        *why = "the node has another key than the cluster's map says";
        return KV_AUTH;
    }
    err = hello_match(&k->pool->options.hello, &peer, why);
    if (err != KV_OK) return err;
    memcpy(k->pool->cluster, peer.cluster, sizeof peer.cluster);
    k->pool->cluster_known = true;
    return KV_OK;
}

static struct pool_conn *conn_dial(struct pool *p, const struct env_addr *to, const uint8_t *key)
{
    struct env *env = p->options.env;
    struct kv_buf hello;
    kv_buf_init(&hello, HELLO_BYTES_MAX);
    hello_encode(&p->options.hello, &hello);
    struct pool_conn *k = calloc(1, sizeof *k);
    struct channel *memory = malloc(channel_memory());
    if (hello.failed || k == NULL || memory == NULL) {
        free(memory);
        free(k);
        kv_buf_free(&hello);
        return NULL;
    }
    k->pool = p;
    k->addr = *to;
    k->key_known = key != NULL;
    if (key != NULL) memcpy(k->key, key, sizeof k->key);
    struct channel_options o = {.role = CHANNEL_DIAL,
                                .self = &p->options.identity,
                                .prologue = kv_str(HELLO_PROLOGUE),
                                .payload = kv_buf_slice(&hello),
                                .judge = conn_judge,
                                .judge_context = k};
    for (size_t i = 0; i < sizeof o.ephemeral_seed; i += 8)
        le64_put(o.ephemeral_seed + i, env->ops->random(env));
    k->channel = channel_init(memory, &o);
    memset(o.ephemeral_seed, 0, sizeof o.ephemeral_seed);
    kv_buf_free(&hello);
    kv_buf_init(&k->out, 0);
    kv_buf_init(&k->writing, 0);
    kv_map_init(&k->by_id);
    k->conn.on_open = conn_opened;
    k->conn.on_bytes = conn_bytes;
    k->conn.on_close = conn_closed;
    k->write.done = conn_written;
    k->flush.run = conn_flush;
    k->timer.fire = conn_tick;
    k->state = CONN_DIALLING;
    k->next = p->conns;
    p->conns = k;
    p->stats.connections++;
    p->stats.dials++;
    conn_timer(k, p->options.connect_timeout_ns);
    const struct env_addr *from = &p->options.from;
    env->ops->connect(env, &k->conn, to, from->host[0] != 0 ? from : NULL);
    return k;
}

/* ---- the pool ---- */

static void pool_run(struct env_task *t)
{
    struct pool *p = container_of(t, struct pool, task);
    p->task_posted = false;
    while (p->refused.head != NULL) {
        struct pool_call *c = p->refused.head;
        call_end(c, c->early, NULL,
                 c->early == KV_BUSY     ? "too many open requests to this node"
                 : c->early == KV_CLOSED ? "the client is closed"
                                         : "out of memory or descriptors");
    }
    if (!p->is_closing || p->conns != NULL || p->task_posted) return;
    void (*closed)(void *context) = p->closed;
    void *context = p->closed_context;
    kv_buf_free(&p->scratch);
    kv_arena_free(&p->arena);
    memset(&p->options.identity, 0, sizeof p->options.identity);
    free(p);
    if (closed != NULL) closed(context);
}

enum kv_err pool_create(const struct pool_options *o, struct pool **out)
{
    assert(o->connections_max > 0 && o->calls_max > 0 && o->hello.name.size <= HELLO_NAME_BYTES_MAX);
    struct pool *p = calloc(1, sizeof *p);
    if (p == NULL) return KV_NO_SPACE;
    p->options = *o;
    if (o->hello.name.size > 0) memcpy(p->name, o->hello.name.data, o->hello.name.size);
    p->options.hello.name = kv_slice(p->name, o->hello.name.size);
    p->task.run = pool_run;
    kv_buf_init(&p->scratch, 0);
    kv_arena_init(&p->arena, POOL_REPLY_BYTES_MAX);
    *out = p;
    return KV_OK;
}

void pool_close(struct pool *p, void (*closed)(void *context), void *context)
{
    assert(!p->is_closing);
    p->is_closing = true;
    p->closed = closed;
    p->closed_context = context;
    for (struct pool_conn *k = p->conns; k != NULL; k = k->next) conn_fail(k, KV_CLOSED, "the client closed");
    pool_post(p);
}

/* The least loaded connection that takes new calls; *count says how many there are. */
static struct pool_conn *conn_pick(struct pool *p, const struct env_addr *to, uint32_t *count)
{
    struct pool_conn *best = NULL;
    *count = 0;
    for (struct pool_conn *k = p->conns; k != NULL; k = k->next) {
        if (k->state == CONN_DRAINING || k->state == CONN_CLOSING || !pool_addr_eq(&k->addr, to)) continue;
        ++*count;
        if (best == NULL || k->call_count < best->call_count) best = k;
    }
    return best;
}

void pool_call(struct pool *p, const struct env_addr *to, const uint8_t *key, struct pool_call *c)
{
    assert(c->pool == NULL); /* not open already */
    struct env *env = p->options.env;
    c->pool = p;
    c->conn = NULL;
    c->sent = false;
    c->early = KV_OK;
    c->timer.fire = call_expired;
    p->stats.calls++;
    uint64_t now_ns = env_now_ns(env);
    env->ops->timer_start(env, &c->timer, c->deadline_ns > now_ns ? c->deadline_ns - now_ns : 0);

    uint32_t count = 0;
    struct pool_conn *k = NULL;
    if (p->is_closing) {
        c->early = KV_CLOSED;
    } else {
        k = conn_pick(p, to, &count);
        if (k == NULL || (k->call_count >= p->options.calls_max && count < p->options.connections_max)) {
            k = conn_dial(p, to, key);
            if (k == NULL) c->early = KV_NO_SPACE;
        } else if (k->call_count >= p->options.calls_max) {
            c->early = KV_BUSY;
        }
    }
    if (c->early != KV_OK) {
        list_push(&p->refused, c);
        pool_post(p);
        return;
    }
    c->conn = k;
    list_push(&k->waiting, c);
    if (k->call_count++ == 0 && k->state == CONN_OPEN) conn_timer(k, p->options.ping_after_ns);
    if (k->state == CONN_OPEN) conn_post(k);
}

void pool_cancel(struct pool_call *c)
{
    if (c->pool == NULL) return;
    struct pool_conn *k = c->conn;
    call_unlink(c);
    if (k != NULL && k->state == CONN_DRAINING && k->call_count == 0) conn_post(k);
}

struct pool_stats pool_stats(const struct pool *p)
{
    return p->stats;
}

const uint8_t *pool_cluster(const struct pool *p)
{
    return p->cluster_known ? p->cluster : NULL;
}

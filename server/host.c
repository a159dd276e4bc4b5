#include "server/host.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/auth.h"
#include "server/cluster_face.h"
#include "server/keyspaces.h"
#include "server/nodes.h"
#include "server/peer.h"
#include "server/request.h"

/* Connections. Invariants:
 * (1) A connection's memory lives until its socket is closed and no request points to it.
 * (2) At most one write is under way; what comes meanwhile collects in `out`.
 *     It leaves in steps of WRITE_BYTES_MAX: who takes one now and then is slow, not stuck.
 * (3) Bytes wait in `in` only while the gate refuses to take them; then reading is off,
 *     so a peer can make us hold one read buffer and one unfinished command. */
enum { WRITE_BYTES_MAX = 1 << 20 };
struct conn {
    struct env_conn socket;
    struct gate gate;
    struct host *h;
    struct conn *prev, *next; /* all connections */
    struct conn *dirty_next;
    bool is_dirty, open, dead, writing, reading, blocked;
    struct kv_buf in, out, sending;
    struct env_write write;
    struct kv_slice part;
    size_t sent;          /* of `sending` */
    uint64_t progress_ns; /* when output last moved, or began to wait */
};

enum { FRONTS = 3 };
static const struct gate_ops *const front_ops[FRONTS] = {&gate_native, &gate_resp, &gate_resp_cluster};
struct front { /* one listening port */
    struct env_listener listener;
    struct host *h;
    const struct gate_ops *ops;
    struct env_addr addr;
    bool listening;
};

struct host {
    struct worker *w;
    struct front fronts[FRONTS];
    struct gate_services services;
    struct conn *conns, *dirty;
    uint32_t count;
    uint64_t next_id;
    uint64_t commands; /* of connections that are gone */
    bool stopping;
};

static struct conn *conn_of(struct gate *g)
{
    return container_of(g, struct conn, gate);
}

struct worker *host_worker(struct gate *g)
{
    return conn_of(g)->h->w;
}

void host_touch(struct gate *g)
{
    struct conn *c = conn_of(g);
    if (!c->is_dirty) {
        c->is_dirty = true;
        c->dirty_next = c->h->dirty;
        c->h->dirty = c;
    }
    worker_turn(c->h->w);
}

static void conn_free(struct conn *c)
{
    struct host *h = c->h;
    assert(c->dead && c->gate.pending == 0 && !c->is_dirty);
    if (c->prev != NULL) c->prev->next = c->next;
    else h->conns = c->next;
    if (c->next != NULL) c->next->prev = c->prev;
    h->count--;
    h->commands += c->gate.commands;
    kv_buf_free(&c->in);
    kv_buf_free(&c->out);
    kv_buf_free(&c->sending);
    free(c->gate.state);
    free(c);
}

static void conn_close(struct conn *c)
{
    if (c->open) c->h->w->env->ops->close(c->h->w->env, &c->socket);
}

static void on_close(struct env_conn *s, enum kv_err err)
{
    struct conn *c = container_of(s, struct conn, socket);
    if (err != KV_OK && err != KV_CLOSED)
        JOURNAL(c->h->w->journal, client, INFO, "client-lost", "peer=%s:%u why=\"%s\"", c->gate.peer.host,
                c->gate.peer.port,
                err == KV_TIMEOUT ? "its machine acknowledges nothing (limit.silence)" : kv_err_text(err));
    c->open = false;
    if (!c->dead) c->gate.ops->close(&c->gate);
    c->dead = true;
    if (c->gate.pending == 0 && !c->is_dirty) conn_free(c);
}

/* Who knows no other node, and cannot be told of one: what was read of it is answered, then it is closed. */
static bool is_leaving(const struct conn *c)
{
    return c->h->stopping && c->gate.ops != &gate_native;
}

/* Feeds the gate; what it leaves waits in `in`. */
static void conn_feed(struct conn *c, struct kv_slice bytes)
{
    if (c->dead || c->gate.closing) return;
    struct env *env = c->h->w->env;
    worker_clock_forget(c->h->w);
    bool buffered = c->in.size > 0;
    if (buffered) {
        kv_buf_append_slice(&c->in, bytes);
        bytes = kv_buf_slice(&c->in);
    }
    size_t consumed = 0;
    bool held = c->blocked; /* the gate may keep whole commands itself */
    enum kv_err err = bytes.size == 0 && !held ? KV_OK : c->gate.ops->feed(&c->gate, bytes, &consumed);
    assert(consumed <= bytes.size);
    if (buffered) kv_buf_consume(&c->in, consumed);
    else if (consumed < bytes.size) kv_buf_append(&c->in, bytes.data + consumed, bytes.size - consumed);
    if (c->in.size == 0) kv_buf_shrink(&c->in, 0);
    c->blocked = err == KV_BUSY;
    if (err != KV_OK && err != KV_BUSY) c->gate.closing = true;
    if (c->in.failed) c->gate.closing = true;
    bool want = !c->blocked && !c->gate.closing && !is_leaving(c);
    if (want != c->reading && c->open) {
        c->reading = want;
        env->ops->read(env, &c->socket, want);
    }
    host_touch(&c->gate);
}

static void on_bytes(struct env_conn *s, struct kv_slice bytes)
{
    conn_feed(container_of(s, struct conn, socket), bytes);
}

static void write_done(struct env_write *write, enum kv_err err);

static void write_next(struct conn *c)
{
    struct kv_slice rest = kv_slice(kv_buf_slice(&c->sending).data + c->sent, c->sending.size - c->sent);
    c->part = kv_slice(rest.data, rest.size < WRITE_BYTES_MAX ? rest.size : WRITE_BYTES_MAX);
    c->write = (struct env_write){.done = write_done, .parts = &c->part, .part_count = 1};
    c->writing = true;
    c->progress_ns = env_now_ns(c->h->w->env);
    c->h->w->env->ops->write(c->h->w->env, &c->socket, &c->write);
}

static void write_done(struct env_write *write, enum kv_err err)
{
    struct conn *c = container_of(write, struct conn, write);
    c->writing = false;
    c->sent += c->part.size;
    if (err == KV_OK && c->open && c->sent < c->sending.size) {
        write_next(c);
        return;
    }
    kv_buf_clear(&c->sending);
    kv_buf_shrink(&c->sending, 64 << 10);
    bool more = c->out.size > 0 || c->blocked || c->gate.closing || is_leaving(c); /* else a turn would find nothing to do */
    if (err != KV_OK) conn_close(c);
    else if (!c->dead && more) host_touch(&c->gate);
}

static void conn_flush(struct conn *c)
{
    if (c->dead) {
        if (c->gate.pending == 0 && !c->open) conn_free(c);
        return;
    }
    if (c->blocked && (c->gate.pending == 0 || c->in.size > 0)) conn_feed(c, kv_slice(NULL, 0));
    if (c->gate.ops == &gate_native) gate_native_seal(&c->gate);
    if (!c->writing && c->out.size > 0 && c->open) {
        struct kv_buf swap = c->sending;
        c->sending = c->out;
        c->out = swap;
        c->sent = 0;
        write_next(c);
    }
    if (c->out.failed) conn_close(c);
    else if ((c->gate.closing || (is_leaving(c) && !c->blocked)) && c->gate.pending == 0 && !c->writing && c->out.size == 0) conn_close(c);
}

void host_flush(struct host *h)
{
    struct conn *c = h->dirty;
    h->dirty = NULL;
    while (c != NULL) {
        struct conn *next = c->dirty_next;
        c->is_dirty = false;
        conn_flush(c);
        c = next;
    }
}

/* ---- services ---- */

bool host_answered(struct gate *g)
{
    struct conn *c = conn_of(g);
    assert(g->pending > 0);
    g->pending--;
    host_touch(g);
    return !c->dead;
}

static void request_done(struct request *r, const struct kv_reply *reply)
{
    struct conn *c = r->owner;
    if (host_answered(&c->gate)) c->gate.ops->reply(&c->gate, reply);
}

static enum kv_err submit(struct gate *g, const struct kv_request *body)
{
    struct conn *c = conn_of(g);
    struct worker *w = c->h->w;
    if (!g->is_node && g->pending >= w->config->requests_max) return KV_BUSY;
    struct request *r = request_make(w);
    if (r == NULL) {
        struct kv_reply reply = {.id = body->id, .err = KV_BUSY, .retry_after_ms = 50, .node = w->node_id, .detail = kv_str("the node is over limit.queue")};
        g->ops->reply(g, &reply);
        return KV_OK;
    }
    r->body = *body;
    r->done = request_done;
    r->owner = c;
    r->owner_id = body->id;
    g->pending++;
    request_start(r);
    return KV_OK;
}

static bool config_next_visible(void *node, uint32_t *cursor, const char **name, char value[256])
{
    struct worker *w = node;
    if (!config_next(w->config, cursor, name, value)) return false;
    if (strcmp(*name, "resp.password") == 0 || strcmp(*name, "cluster.token") == 0) value[0] = '\0';
    static_assert(JOURNAL_TEXT_BYTES <= 256, "levels fit a value");
    if (strcmp(*name, "log.level") == 0) journal_text(w->journal, value); /* it changes at run time */
    return true;
}

static enum kv_err config_change(void *node, struct kv_slice name, struct kv_slice value, const char **why)
{
    struct worker *w = node;
    char text[CONFIG_TEXT_BYTES];
    if (!kv_slice_eq(name, kv_str("log.level"))) {
        *why = "it is read at start";
        return KV_BAD_ARGUMENT;
    }
    if (value.size >= sizeof text) return KV_TOO_BIG;
    memcpy(text, value.data, value.size);
    text[value.size] = '\0';
    return journal_set(w->journal, text, why);
}

static void connections(void *node, const char *name, bool (*each)(void *, struct gate *), void *context)
{
    struct worker *w = node;
    for (struct conn *c = w->host->conns, *next; c != NULL; c = next) {
        next = c->next;
        if (!c->dead && strcmp(c->gate.ops->name, name) == 0 && !each(context, &c->gate)) return;
    }
}

static void kill_conn(void *node, struct gate *g)
{
    (void)node;
    g->closing = true;
    host_touch(g);
}

static bool auth_required(void *node)
{
    return auth_is_required(node);
}

static bool user_is_current(void *node, struct kv_slice user, uint64_t mark)
{
    return auth_is_current(node, user, mark);
}

static uint32_t replicas_connected(void *node)
{
    return peer_connected_count(((struct worker *)node)->peers);
}

static void checkpoint(void *node)
{
    struct worker *w = node;
    store_checkpoint(w->store, NULL);
    worker_turn(w);
}

static struct env_conn *accept_conn(struct env_listener *l, const struct env_addr *peer)
{
    struct front *front = container_of(l, struct front, listener);
    struct host *h = front->h;
    if (h->stopping || h->count >= h->w->config->connections_max) return NULL;
    struct conn *c = calloc(1, sizeof *c);
    void *state = calloc(1, front->ops->state_bytes);
    if (c == NULL || state == NULL) {
        free(c);
        free(state);
        return NULL;
    }
    c->h = h;
    c->open = c->reading = true;
    c->socket.on_bytes = on_bytes;
    c->socket.on_close = on_close;
    c->out.size_max = 0;
    c->progress_ns = env_now_ns(h->w->env);
    c->gate = (struct gate){.ops = front->ops,
                            .services = &h->services,
                            .out = &c->out,
                            .state = state,
                            .id = ++h->next_id,
                            .opened_ns = c->progress_ns};
    c->gate.peer = *peer;
    c->gate.local = front->addr;
    c->next = h->conns;
    if (h->conns != NULL) h->conns->prev = c;
    h->conns = c;
    h->count++;
    if (front->ops->open(&c->gate) != KV_OK) {
        c->dead = true;
        conn_free(c);
        return NULL;
    }
    host_touch(&c->gate);
    return &c->socket;
}

static uint32_t keyspace_named(void *node, struct kv_slice name)
{
    const struct kv_keyspace *k = keyspaces_named(node, name);
    return k == NULL ? 0 : k->id;
}

static bool has_keyspace(void *node, uint32_t id)
{
    return keyspaces_find(node, id) != NULL;
}

/* ---- life ---- */

enum kv_err host_create(struct worker *w, struct host **out)
{
    struct host *h = calloc(1, sizeof *h);
    if (h == NULL) return KV_NO_SPACE;
    h->w = w;
    h->services = (struct gate_services){.env = w->env,
                                         .node = w,
                                         .submit = submit,
                                         .info = status_info,
                                         .config_next = config_next_visible,
                                         .config_set = config_change,
                                         .connections = connections,
                                         .kill = kill_conn,
                                         .auth_required = auth_required,
                                         .auth = auth_start,
                                         .user_is_current = user_is_current,
                                         .replicas_connected = replicas_connected,
                                         .keyspace = keyspace_named,
                                         .has_keyspace = has_keyspace,
                                         .checkpoint = checkpoint,
                                         .owner = cluster_face_owner,
                                         .range_next = cluster_face_range_next,
                                         .node_next = cluster_face_node_next,
                                         .value_bytes_max = (uint32_t)w->config->value_max,
                                         .output_bytes_max = w->config->output_max};
    uint32_t silence_ms = (uint32_t)(w->config->silence_seconds / 1000000u);
    for (int i = 0; i < FRONTS; i++)
        h->fronts[i] = (struct front){.h = h,
                                      .ops = front_ops[i],
                                      .listener = {.accept = accept_conn, .silence_ms = silence_ms}};
    *out = h;
    return KV_OK;
}

static void addr_set(struct env_addr *a, const char *host, uint64_t port)
{
    size_t n = strnlen(host, sizeof a->host - 1);
    memcpy(a->host, host, n);
    a->host[n] = '\0';
    a->port = (uint16_t)port;
}

enum kv_err host_listen(struct host *h, char *why, size_t why_size)
{
    const struct config *c = h->w->config;
    addr_set(&h->fronts[0].addr, c->native_host, c->native_port);
    addr_set(&h->fronts[1].addr, c->resp_host, c->resp_port);
    addr_set(&h->fronts[2].addr, c->resp_host, c->resp_cluster_port);
    for (int i = 0; i < FRONTS; i++) {
        const struct env_addr *addr = &h->fronts[i].addr;
        if (addr->port == 0 || (i > 0 && !nodes_takes_clients(h->w))) continue;
        enum kv_err err = h->w->env->ops->listen(h->w->env, &h->fronts[i].listener, addr);
        if (err != KV_OK) {
            snprintf(why, why_size, "cannot listen on %s port %u: %s", addr->host, addr->port,
                     err == KV_BUSY ? "address in use" : kv_err_text(err));
            return err;
        }
        h->fronts[i].listening = true;
    }
    return KV_OK;
}

/* Bounded output: a reader that lets too much pile up, or takes nothing for too long, is closed. So
 * is who does not say in time who it is. */
void host_tick(struct host *h, uint64_t now_ns)
{
    for (struct conn *c = h->conns, *next; c != NULL; c = next) {
        next = c->next;
        /* One whose password is being checked has said who it is: the check, and the queue before it, is ours. */
        bool is_late = c->gate.is_stranger && c->gate.pending == 0 &&
                       now_ns - c->gate.opened_ns > h->w->config->handshake_seconds;
        if (c->open && is_late) {
            JOURNAL(h->w->journal, client, INFO, "stranger-closed", "peer=%s:%u reason=limit.handshake",
                    c->gate.peer.host, c->gate.peer.port);
            conn_close(c);
            continue;
        }
        size_t unread = c->out.size + (c->writing ? c->sending.size - c->sent : 0);
        bool stuck = c->writing && now_ns - c->progress_ns > h->w->config->output_seconds;
        if (c->open && (unread > h->w->config->output_max || stuck)) {
            JOURNAL(h->w->journal, client, WARN, "slow-reader", "peer=%s:%u unread=%zu reason=%s", c->gate.peer.host,
                    c->gate.peer.port, unread, stuck ? "limit.output_time" : "limit.output");
            conn_close(c);
        }
    }
}

void host_stop(struct host *h)
{
    h->stopping = true;
    for (int i = 0; i < FRONTS; i++)
        if (h->fronts[i].listening) h->w->env->ops->unlisten(h->w->env, &h->fronts[i].listener);
    for (struct conn *c = h->conns; c != NULL; c = c->next) {
        if (!c->dead && c->gate.ops == &gate_native) gate_native_drain(&c->gate);
        if (is_leaving(c) && c->open && c->reading) {
            c->reading = false;
            h->w->env->ops->read(h->w->env, &c->socket, false);
        }
        host_touch(&c->gate);
    }
}

bool host_is_empty(const struct host *h)
{
    return h->count == 0;
}

void host_recheck_clients(struct host *h)
{
    for (struct conn *c = h->conns; c != NULL; c = c->next) {
        bool is_native = c->gate.ops == &gate_native;
        if (c->dead || c->gate.closing || (is_native ? gate_native_is_welcome(&c->gate) : gate_resp_is_welcome(&c->gate))) continue;
        JOURNAL(h->w->journal, client, WARN, is_native ? "native-revoked" : "resp-revoked", "peer=%s:%u", c->gate.peer.host, (unsigned)c->gate.peer.port);
        c->gate.closing = true;
        host_touch(&c->gate);
    }
}

uint32_t host_connections(const struct host *h)
{
    return h->count;
}

struct host_stats host_stats(const struct host *h)
{
    struct host_stats s = {.connections = h->next_id, .commands = h->commands};
    for (const struct conn *c = h->conns; c != NULL; c = c->next) {
        s.commands += c->gate.commands;
        s.waiting += c->gate.pending > 0;
    }
    return s;
}

void host_drop(struct gate *g)
{
    conn_close(conn_of(g));
}

void host_close_all(struct host *h)
{
    for (struct conn *c = h->conns; c != NULL; c = c->next) conn_close(c);
}

void host_destroy(struct host *h)
{
    if (h == NULL) return;
    h->dirty = NULL;
    while (h->conns != NULL) {
        struct conn *c = h->conns;
        if (!c->dead) c->gate.ops->close(&c->gate);
        c->dead = true;
        c->is_dirty = false;
        c->gate.pending = 0;
        conn_free(c);
    }
    free(h);
}

/* Listeners and connections on libuv.
 * (1) A uv_conn lives from connect or accept until libuv's close callback; the owner's
 *     env_conn is its own again inside on_close, which is that callback's last act.
 * (2) At most one write is open; its done() runs before on_close, whatever happens.
 * (3) After on_bytes, on_open and done nothing of the uv_conn is touched but `closing`:
 *     freeing waits for the close callback, which runs in a later phase of the turn. */
#include "client/env/env_uv_impl.h"

#include <assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { BACKLOG = 1024, KEEPALIVE_SECONDS = 60, PARTS_ON_STACK = 64 };

struct uv_conn {
    uv_tcp_t tcp;
    uv_connect_t connecting;
    uv_write_t writing;
    struct env_uv *e;
    struct env_conn *c;
    struct env_write *write;  /* open, or NULL */
    enum kv_err write_err;    /* its result, once `written` is posted */
    struct env_task written;  /* tells done() */
    struct env_task failed;   /* tells on_open() of a dial that failed at once */
    enum kv_err err;          /* `failed`: why; `closing`: for on_close */
    bool open, closing, paused;
    struct uv_conn *next, *previous;
};

struct uv_server {
    uv_tcp_t tcp;
    struct env_uv *e;
    struct env_listener *l; /* NULL once unlistened */
    struct uv_server *next, *previous;
};

/* --- addresses --- */

static bool addr_parse(const struct env_addr *a, const char *any, struct sockaddr_storage *out)
{
    const char *host = a->host[0] == 0 ? any : a->host;
    return uv_ip4_addr(host, a->port, (struct sockaddr_in *)out) == 0 ||
           uv_ip6_addr(host, a->port, (struct sockaddr_in6 *)out) == 0;
}

static void addr_format(const struct sockaddr_storage *from, struct env_addr *out)
{
    *out = (struct env_addr){0};
    char host[sizeof out->host] = "";
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
        uv_ip4_name(v4, host, sizeof host);
        out->port = ntohs(v4->sin_port);
    } else if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
        uv_ip6_name(v6, host, sizeof host);
        out->port = ntohs(v6->sin6_port);
    }
    /* An IPv4 peer of a dual-stack listener: one name for one address. */
    static const char mapped[] = "::ffff:";
    bool v4 = strncmp(host, mapped, sizeof mapped - 1) == 0 && strchr(host, '.') != NULL;
    snprintf(out->host, sizeof out->host, "%s", v4 ? host + sizeof mapped - 1 : host);
}

/* --- connections --- */

static struct uv_conn *conn_new(struct env_uv *e)
{
    struct uv_conn *x = env_uv_alloc(sizeof *x);
    x->e = e;
    x->next = e->conns;
    if (x->next != NULL) x->next->previous = x;
    e->conns = x;
    return x;
}

static void conn_free(struct uv_conn *x)
{
    if (x->next != NULL) x->next->previous = x->previous;
    if (x->previous != NULL) {
        x->previous->next = x->next;
    } else {
        x->e->conns = x->next;
    }
    free(x);
}

static void conn_write_done(struct uv_conn *x, enum kv_err err)
{
    struct env_write *w = x->write;
    if (w == NULL) return;
    env_uv_unpost(x->e, &x->written);
    x->write = NULL;
    w->impl = NULL;
    w->done(w, err);
}

static void on_conn_closed(uv_handle_t *h)
{
    struct uv_conn *x = h->data;
    struct env_conn *c = x->c;
    x->e->ran = true;
    if (c == NULL) { /* never accepted */
        conn_free(x);
        return;
    }
    conn_write_done(x, x->written.queued ? x->write_err : KV_CLOSED);
    assert(x->write == NULL); /* done() may not write again once it is closed, see write */
    enum kv_err err = x->err;
    conn_free(x);
    c->impl = NULL;
    c->on_close(c, err);
}

static void conn_close(struct uv_conn *x, enum kv_err err)
{
    if (x->closing) return;
    x->closing = true;
    x->err = err;
    env_uv_unpost(x->e, &x->failed);
    /* In the middle of a write the stream is cut: a reset says so, and does not wait for a reader who never reads. */
    bool cut = x->write != NULL && !x->written.queued;
    if (!cut || uv_tcp_close_reset(&x->tcp, on_conn_closed) != 0) uv_close((uv_handle_t *)&x->tcp, on_conn_closed);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct uv_conn *x = h->data;
    *buf = uv_buf_init(x->e->read_buffer, sizeof x->e->read_buffer);
}

static void on_read(uv_stream_t *s, ssize_t size, const uv_buf_t *buf)
{
    struct uv_conn *x = s->data;
    if (size == 0) return; /* EAGAIN */
    x->e->ran = true;
    if (size < 0) {
        conn_close(x, env_uv_err((int)size));
        return;
    }
    x->c->on_bytes(x->c, kv_slice(buf->base, (size_t)size));
}

static void conn_read_start(struct uv_conn *x)
{
    int failed = uv_read_start((uv_stream_t *)&x->tcp, on_alloc, on_read);
    if (failed != 0) conn_close(x, env_uv_err(failed));
}

/* Half-open connections: probes find who is silent while idle, the user timeout who leaves bytes
 * unacknowledged. Best effort: what the platform lacks it does later by itself. */
static void conn_bound_silence(struct uv_conn *x, uint32_t silence_ms)
{
    uv_os_fd_t fd;
    if (silence_ms == 0 || uv_fileno((uv_handle_t *)&x->tcp, &fd) != 0) return;
    unsigned limit = silence_ms;
    int idle = (int)(silence_ms / 2000), every = (int)(silence_ms / 8000), probes = 4;
    if (idle < 1) idle = 1;
    if (every < 1) every = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit, sizeof limit);
}

static void conn_opened(struct uv_conn *x, uint32_t silence_ms)
{
    x->open = true;
    uv_tcp_nodelay(&x->tcp, 1);
    uv_tcp_keepalive(&x->tcp, 1, KEEPALIVE_SECONDS);
    conn_bound_silence(x, silence_ms);
    if (!x->paused) conn_read_start(x);
}

static void conn_dial_failed(struct uv_conn *x, enum kv_err err)
{
    conn_close(x, err);
    x->c->on_open(x->c, err);
}

static void on_dial_failed(struct env_task *t)
{
    struct uv_conn *x = container_of(t, struct uv_conn, failed);
    conn_dial_failed(x, x->err);
}

static void on_connect(uv_connect_t *request, int status)
{
    struct uv_conn *x = container_of(request, struct uv_conn, connecting);
    if (x->closing) return; /* cancelled by close: on_close is all there is to say */
    x->e->ran = true;
    if (status != 0) {
        conn_dial_failed(x, env_uv_err(status));
        return;
    }
    conn_opened(x, 0);
    if (!x->closing) x->c->on_open(x->c, KV_OK);
}

/* Many connections from one address to one port: choose the local port as late as the
 * remote end is known, else 28,000 of them use up the address. */
static int conn_bind(struct uv_conn *x, const struct sockaddr_storage *from)
{
    uv_os_fd_t fd;
    int failed = uv_fileno((uv_handle_t *)&x->tcp, &fd);
    if (failed != 0) return failed;
    int on = 1;
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on); /* a courtesy */
    return uv_tcp_bind(&x->tcp, (const struct sockaddr *)from, 0);
}

static int conn_dial(struct uv_conn *x, const struct env_addr *to, const struct env_addr *from)
{
    struct sockaddr_storage remote, local;
    bool legal = to->host[0] != 0 && addr_parse(to, "", &remote);
    int failed = legal ? uv_tcp_init_ex(&x->e->loop, &x->tcp, remote.ss_family) : UV_EINVAL;
    if (failed != 0) {
        uv_tcp_init(&x->e->loop, &x->tcp); /* without a socket: so that closing is one path */
        return failed;
    }
    if (from != NULL && from->host[0] != 0) {
        struct env_addr any_port = *from;
        any_port.port = 0;
        if (!addr_parse(&any_port, "", &local) || local.ss_family != remote.ss_family) {
            return UV_EINVAL;
        }
        failed = conn_bind(x, &local);
        if (failed != 0) return failed;
    }
    return uv_tcp_connect(&x->connecting, &x->tcp, (const struct sockaddr *)&remote, on_connect);
}

void env_uv_connect(struct env *env, struct env_conn *c, const struct env_addr *to,
                    const struct env_addr *from)
{
    struct env_uv *e = env_uv_of(env);
    struct uv_conn *x = conn_new(e);
    x->c = c;
    c->impl = x;
    c->peer = *to;
    int failed = conn_dial(x, to, from);
    x->tcp.data = x;
    if (failed == 0) return;
    x->err = env_uv_err(failed);
    x->failed.run = on_dial_failed;
    env_uv_post(env, &x->failed);
}

/* --- writing --- */

static void on_written(struct env_task *t)
{
    struct uv_conn *x = container_of(t, struct uv_conn, written);
    conn_write_done(x, x->write_err);
}

static void on_write(uv_write_t *request, int status)
{
    struct uv_conn *x = container_of(request, struct uv_conn, writing);
    x->e->ran = true;
    if (x->closing) return; /* on_conn_closed tells */
    enum kv_err err = env_uv_err(status);
    if (err != KV_OK) conn_close(x, err);
    conn_write_done(x, err);
}

static void conn_write_result(struct uv_conn *x, enum kv_err err)
{
    x->write_err = err;
    x->written.run = on_written;
    env_uv_post(&x->e->env, &x->written);
    if (err != KV_OK) conn_close(x, err);
}

void env_uv_write(struct env *env, struct env_conn *c, struct env_write *w)
{
    (void)env;
    struct uv_conn *x = c->impl;
    assert(x != NULL && x->write == NULL);
    x->write = w;
    w->impl = x;
    if (x->closing) return; /* done(CLOSED) comes before on_close */

    uv_buf_t few[PARTS_ON_STACK];
    uv_buf_t *bufs = few;
    if (w->part_count > PARTS_ON_STACK) bufs = env_uv_alloc(w->part_count * sizeof *bufs);
    unsigned count = 0;
    size_t total = 0;
    for (uint32_t i = 0; i < w->part_count; i++) {
        if (w->parts[i].size == 0) continue;
        bufs[count++] = (uv_buf_t){.base = (char *)w->parts[i].data, .len = w->parts[i].size};
        total += w->parts[i].size;
    }
    int taken = total == 0 ? 0 : uv_try_write((uv_stream_t *)&x->tcp, bufs, count);
    if (taken == UV_EAGAIN) taken = 0;
    if (taken < 0 || (size_t)taken == total) {
        conn_write_result(x, taken < 0 ? env_uv_err(taken) : KV_OK);
    } else {
        uv_buf_t *rest = bufs;
        size_t gone = (size_t)taken;
        for (; gone >= rest->len; rest++, count--) gone -= rest->len;
        rest->base += gone;
        rest->len -= gone;
        int failed = uv_write(&x->writing, (uv_stream_t *)&x->tcp, rest, count, on_write);
        if (failed != 0) conn_write_result(x, env_uv_err(failed));
    }
    if (bufs != few) free(bufs);
}

void env_uv_read(struct env *env, struct env_conn *c, bool on)
{
    (void)env;
    struct uv_conn *x = c->impl;
    if (x == NULL || x->closing || x->paused == !on) return;
    x->paused = !on;
    if (!x->open) return;
    if (on) {
        conn_read_start(x);
    } else {
        uv_read_stop((uv_stream_t *)&x->tcp);
    }
}

void env_uv_close(struct env *env, struct env_conn *c)
{
    (void)env;
    struct uv_conn *x = c->impl;
    if (x != NULL) conn_close(x, KV_CLOSED);
}

/* --- listeners --- */

static void on_server_closed(uv_handle_t *h)
{
    struct uv_server *s = h->data;
    if (s->next != NULL) s->next->previous = s->previous;
    if (s->previous != NULL) {
        s->previous->next = s->next;
    } else {
        s->e->servers = s->next;
    }
    free(s);
}

static void server_close(struct uv_server *s)
{
    if (s->l != NULL) s->l->impl = NULL;
    s->l = NULL;
    if (!uv_is_closing((uv_handle_t *)&s->tcp)) uv_close((uv_handle_t *)&s->tcp, on_server_closed);
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct uv_server *s = stream->data;
    struct env_uv *e = s->e;
    if (status != 0 || s->l == NULL) return; /* it broke before we got to it */
    e->ran = true;
    struct uv_conn *x = conn_new(e);
    uv_tcp_init(&e->loop, &x->tcp);
    x->tcp.data = x;
    struct sockaddr_storage from = {0};
    int size = sizeof from;
    if (uv_accept(stream, (uv_stream_t *)&x->tcp) != 0 ||
        uv_tcp_getpeername(&x->tcp, (struct sockaddr *)&from, &size) != 0) {
        conn_close(x, KV_CLOSED);
        return;
    }
    struct env_addr peer;
    addr_format(&from, &peer);
    uint32_t silence_ms = s->l->silence_ms;
    struct env_conn *c = s->l->accept(s->l, &peer);
    if (c == NULL) {
        conn_close(x, KV_CLOSED);
        return;
    }
    x->c = c;
    c->impl = x;
    c->peer = peer;
    conn_opened(x, silence_ms);
}

static int server_bind(struct uv_server *s, const struct env_addr *a, const char *any)
{
    struct sockaddr_storage local;
    if (!addr_parse(a, any, &local)) return UV_EINVAL;
    int failed = uv_tcp_bind(&s->tcp, (const struct sockaddr *)&local, 0);
    return failed != 0 ? failed : uv_listen((uv_stream_t *)&s->tcp, BACKLOG, on_connection);
}

static int server_open(struct env_uv *e, struct env_listener *l, const struct env_addr *a,
                       const char *any)
{
    struct uv_server *s = env_uv_alloc(sizeof *s);
    s->e = e;
    uv_tcp_init(&e->loop, &s->tcp);
    s->tcp.data = s;
    s->next = e->servers;
    if (s->next != NULL) s->next->previous = s;
    e->servers = s;
    int failed = server_bind(s, a, any);
    if (failed != 0) {
        server_close(s);
        return failed;
    }
    s->l = l;
    l->impl = s;
    return 0;
}

enum kv_err env_uv_listen(struct env *env, struct env_listener *l, const struct env_addr *a)
{
    struct env_uv *e = env_uv_of(env);
    int failed = server_open(e, l, a, "::"); /* both families */
    /* A machine without IPv6. */
    if (a->host[0] == 0 && (failed == UV_EAFNOSUPPORT || failed == UV_EADDRNOTAVAIL)) {
        failed = server_open(e, l, a, "0.0.0.0");
    }
    /* "not ours to bind": another machine's address or a privileged port */
    return failed == UV_EADDRNOTAVAIL ? KV_DENIED : env_uv_err(failed);
}

void env_uv_unlisten(struct env *env, struct env_listener *l)
{
    (void)env;
    if (l->impl != NULL) server_close(l->impl);
}

void env_uv_net_close(struct env_uv *e)
{
    for (struct uv_server *s = e->servers; s != NULL; s = s->next) server_close(s);
    for (struct uv_conn *x = e->conns; x != NULL; x = x->next) conn_close(x, KV_CLOSED);
}

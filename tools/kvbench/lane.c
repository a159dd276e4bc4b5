#include "tools/kvbench/kvbench.h"

/* A client's socket: dials, dials again after a loss, writes what the protocol put into `out`
 * while the one before is still leaving. Protocols without a socket are opened at once. */

enum { OUT_BYTES_MAX = 64 << 20 };

static void on_open(struct env_conn *c, enum kv_err err)
{
    struct lane *l = container_of(c, struct lane, conn);
    if (err != KV_OK) return; /* on_close follows */
    l->connected = true;
    err = l->bench->options.protocol->open(l);
    if (err != KV_OK)
        lane_close(l, kv_err_text(err));
    else
        lane_flush(l);
}

static void on_bytes(struct env_conn *c, struct kv_slice bytes)
{
    struct lane *l = container_of(c, struct lane, conn);
    if (!l->connected) return; /* closing */
    enum kv_err err = l->bench->options.protocol->feed(l, bytes);
    if (err != KV_OK)
        lane_close(l, err == KV_MALFORMED ? "the reply does not parse" : kv_err_text(err));
    else
        lane_pull(l);
}

static void redial(struct env_timer *t)
{
    lane_dial(container_of(t, struct lane, redial));
}

static void note_loss(struct lane *l, const char *why)
{
    struct bench *b = l->bench;
    l->connected = false;
    if (b->phase == PHASE_CONNECT) { /* told if the run never begins */
        (void)snprintf(b->error_kinds[0].text, sizeof b->error_kinds[0].text, "%s", why);
        b->error_kinds[0].count = 1;
    }
    lane_lost(l, why);
    b->options.protocol->close(l);
    l->state = NULL;
    kv_buf_clear(&l->out);
}

static void on_close(struct env_conn *c, enum kv_err err)
{
    struct lane *l = container_of(c, struct lane, conn);
    struct bench *b = l->bench;
    note_loss(l, err == KV_OK ? "connection closed by the server" : kv_err_text(err));
    l->writing = false;
    if (b->phase == PHASE_OVER) return;
    l->redial.fire = redial;
    b->env->ops->timer_start(b->env, &l->redial, KV_MS(100));
}

void lane_dial(struct lane *l)
{
    struct bench *b = l->bench;
    if (!b->options.protocol->socket) {
        enum kv_err err = b->options.protocol->open(l);
        if (err != KV_OK) note_loss(l, kv_err_text(err));
        return;
    }
    l->conn = (struct env_conn){.on_open = on_open, .on_bytes = on_bytes, .on_close = on_close};
    b->env->ops->connect(b->env, &l->conn, &l->to, NULL);
}

static void write_done(struct env_write *w, enum kv_err err)
{
    struct lane *l = container_of(w, struct lane, write);
    l->writing = false;
    kv_buf_clear(&l->sending);
    if (err == KV_OK && l->connected) lane_flush(l);
}

void lane_flush(struct lane *l)
{
    struct bench *b = l->bench;
    if (!l->connected || l->writing) return;
    if (b->options.protocol->flush != NULL) b->options.protocol->flush(l);
    if (l->out.failed) {
        lane_close(l, "out of memory");
        return;
    }
    if (l->out.size == 0) return;
    struct kv_buf swap = l->sending;
    l->sending = l->out;
    l->out = swap;
    l->out.size_max = OUT_BYTES_MAX;
    l->part = kv_buf_slice(&l->sending);
    l->write = (struct env_write){.done = write_done, .parts = &l->part, .part_count = 1};
    l->writing = true;
    b->env->ops->write(b->env, &l->conn, &l->write);
}

void lane_close(struct lane *l, const char *why)
{
    if (!l->connected) return;
    note_loss(l, why);
    l->bench->env->ops->close(l->bench->env, &l->conn);
}

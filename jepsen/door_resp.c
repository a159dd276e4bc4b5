#include "client/wire/resp.h"
#include "jepsen/run.h"
#include <stdlib.h>

/* The RESP door: one connection, as a plain Redis client has it. It goes to the next node when one
 * refuses, closes or stays silent. Outcomes are read off the reply as a user would: the text of a
 * failed write says `(applied: no)` or `(applied: maybe)`; a write without a reply is open. */
enum { REDIAL_NS = 100000000, DIAL_NS = 1000000000, REPLY_BYTES_MAX = 1 << 20 };

enum resp_state { RESP_RESTING, RESP_DIALLING, RESP_OPEN, RESP_CLOSING };
struct resp {
    struct worker *worker;
    struct env_conn conn;
    struct env_write write;
    struct kv_slice part;
    struct env_timer timer; /* redial, dial or reply, by state */
    struct kv_buf in, out;
    enum resp_state state;
    uint32_t node; /* index */
    bool is_asked, is_writing, is_ending;
    const char *lost; /* why the connection was given up */
};

static void timer_set(struct resp *s, uint64_t delay_ns)
{
    s->worker->run->env->ops->timer_start(s->worker->run->env, &s->timer, delay_ns);
}

static void give_up(struct resp *s, const char *why)
{
    struct env *env = s->worker->run->env;
    if (s->state == RESP_CLOSING || s->state == RESP_RESTING) return;
    s->state = RESP_CLOSING;
    s->lost = why;
    env->ops->close(env, &s->conn);
}

static void on_close(struct env_conn *c, enum kv_err err)
{
    struct resp *s = container_of(c, struct resp, conn);
    struct worker *w = s->worker;
    (void)err;
    s->state = RESP_RESTING;
    s->node = (s->node + 1) % w->run->nodes.count;
    kv_buf_clear(&s->in);
    w->run->env->ops->timer_stop(w->run->env, &s->timer);
    if (!s->is_ending) timer_set(s, REDIAL_NS);
    if (!s->is_asked) return;
    s->is_asked = false;
    struct answer a = {.outcome = w->op.f == HISTORY_READ ? HISTORY_FAIL : HISTORY_INFO,
                       .error = s->lost != NULL ? s->lost : "connection closed by the node"};
    if (!s->is_ending) worker_answer(w, &a);
}

static void on_open(struct env_conn *c, enum kv_err err)
{
    struct resp *s = container_of(c, struct resp, conn);
    if (err != KV_OK || s->state != RESP_DIALLING) return; /* on_close follows */
    s->state = RESP_OPEN;
    s->worker->run->env->ops->timer_stop(s->worker->run->env, &s->timer);
}

static bool contains(struct kv_slice text, const char *part)
{
    return memmem(text.data, text.size, part, strlen(part)) != NULL;
}

static void answer_error(struct worker *w, struct kv_slice text, struct answer *a, char words[RECORDER_ERROR_BYTES])
{
    snprintf(words, RECORDER_ERROR_BYTES, "%.*s", (int)text.size, (const char *)text.data);
    a->error = words;
    a->outcome = HISTORY_FAIL;
    if (w->op.f == HISTORY_READ) return;
    bool no = contains(text, "(applied: no)"), maybe = contains(text, "(applied: maybe)");
    if (!no) a->outcome = HISTORY_INFO;
    if (no == maybe)
        run_fail(w->run, "a failed write does not say whether it was applied: %.*s", (int)text.size,
                 (const char *)text.data);
}

static void answer(struct resp *s, const struct resp_value *v)
{
    struct worker *w = s->worker;
    struct answer a = {.outcome = HISTORY_OK};
    char words[RECORDER_ERROR_BYTES];
    s->is_asked = false;
    w->run->env->ops->timer_stop(w->run->env, &s->timer);
    if (v->type == RESP_ERROR) {
        answer_error(w, v->text, &a, words);
    } else if (w->op.f == HISTORY_READ) {
        a.is_null = v->is_null;
        a.bytes = v->text;
    } else if (w->op.f == HISTORY_CAS && v->is_null) {
        a.outcome = HISTORY_FAIL; /* SET NX of a key that is there */
    } else if (w->op.f == HISTORY_INCR) {
        a.has_result = v->type == RESP_INTEGER;
        a.result = v->number;
    }
    worker_answer(w, &a);
}

static void on_bytes(struct env_conn *c, struct kv_slice bytes)
{
    struct resp *s = container_of(c, struct resp, conn);
    if (s->state != RESP_OPEN) return;
    kv_buf_append_slice(&s->in, bytes);
    struct kv_slice in = kv_buf_slice(&s->in);
    struct resp_value v;
    enum kv_err err = resp_next(&in, REPLY_BYTES_MAX, &v);
    if (err == KV_BUSY && !s->in.failed) return;
    if (err != KV_OK || !s->is_asked || in.size != 0) { /* one request is open, so one reply and no more */
        run_fail(s->worker->run, "worker %u: node %u sent what is no reply", s->worker->number, s->node + 1);
        give_up(s, "malformed reply");
        return;
    }
    answer(s, &v); /* v points into s->in */
    kv_buf_clear(&s->in);
}

static void timer_fire(struct env_timer *t)
{
    struct resp *s = container_of(t, struct resp, timer);
    struct run *r = s->worker->run;
    if (s->state != RESP_RESTING) {
        give_up(s, s->state == RESP_OPEN ? "no reply in time" : "no connection in time");
        return;
    }
    if (s->is_writing) { /* of the connection before */
        timer_set(s, REDIAL_NS);
        return;
    }
    struct env_addr to = nodes_resp(&r->nodes.node[s->node]);
    s->conn = (struct env_conn){.on_open = on_open, .on_bytes = on_bytes, .on_close = on_close};
    s->state = RESP_DIALLING;
    s->lost = NULL;
    timer_set(s, DIAL_NS);
    r->env->ops->connect(r->env, &s->conn, &to, &s->worker->from);
}

static void on_written(struct env_write *write, enum kv_err err)
{
    container_of(write, struct resp, write)->is_writing = false;
    (void)err; /* on_close tells */
}

static bool resp_open(struct worker *w)
{
    struct resp *s = calloc(1, sizeof *s);
    if (s == NULL) return false;
    s->worker = w;
    s->timer.fire = timer_fire;
    s->write.done = on_written;
    s->node = w->number % w->run->nodes.count;
    kv_buf_init(&s->in, 2 * REPLY_BYTES_MAX);
    kv_buf_init(&s->out, 0);
    w->state = s;
    timer_set(s, 0);
    return true;
}

static bool resp_is_ready(const struct worker *w)
{
    const struct resp *s = w->state;
    return s->state == RESP_OPEN && !s->is_writing;
}

static void put_command(struct kv_buf *out, uint32_t count, const char *const words[])
{
    kv_buf_clear(out);
    kv_buf_printf(out, "*%u\r\n", count);
    for (uint32_t i = 0; i < count; i++) kv_buf_printf(out, "$%zu\r\n%s\r\n", strlen(words[i]), words[i]);
}

static void resp_ask(struct worker *w)
{
    struct resp *s = w->state;
    const struct op *op = &w->op;
    char value[48], ttl[24];
    snprintf(value, sizeof value, "%lld%s", (long long)op->value, op->f == HISTORY_APPEND ? "," : "");
    snprintf(ttl, sizeof ttl, "%u", op->ttl_ms);
    switch (op->f) {
    case HISTORY_READ: put_command(&s->out, 2, (const char *[]){"GET", op->key}); break;
    case HISTORY_WRITE:
        put_command(&s->out, op->ttl_ms != 0 ? 5 : 3, (const char *[]){"SET", op->key, value, "PX", ttl});
        break;
    case HISTORY_CAS: put_command(&s->out, 4, (const char *[]){"SET", op->key, value, "NX"}); break;
    case HISTORY_ADD: put_command(&s->out, 4, (const char *[]){"SETBIT", op->key, value, "1"}); break;
    case HISTORY_INCR: put_command(&s->out, 3, (const char *[]){"INCRBY", op->key, value}); break;
    case HISTORY_APPEND: put_command(&s->out, 3, (const char *[]){"APPEND", op->key, value}); break;
    case HISTORY_TXN: break; /* no workload has it */
    }
    s->is_asked = true;
    s->is_writing = true;
    s->part = kv_buf_slice(&s->out);
    s->write.parts = &s->part;
    s->write.part_count = 1;
    timer_set(s, KV_MS(WORKER_TIMEOUT_MS));
    w->run->env->ops->write(w->run->env, &s->conn, &s->write);
}

static void resp_close(struct worker *w)
{
    struct resp *s = w->state;
    s->is_ending = true;
    w->run->env->ops->timer_stop(w->run->env, &s->timer);
    give_up(s, "the run is over");
    while (s->state != RESP_RESTING) env_uv_run_once(w->run->uv);
    kv_buf_free(&s->in);
    kv_buf_free(&s->out);
    free(s);
    w->state = NULL;
}

const struct door door_resp = {"resp", resp_open, resp_is_ready, resp_ask, resp_close};

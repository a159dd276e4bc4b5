#include "client/base/text.h"
#include "client/wire/resp.h"
#include "tests/sim/workload_impl.h"
#include <assert.h>
#include <stdio.h>

/* The two ways a client speaks. Redis protocol: one connection to one node, another node
 * after each failure. libkv: as any program would use it. */

static struct env *env_of(const struct client *c)
{
    return sim_host_env(c->host);
}

/* What a GET returned, as the key's kind has it. */
static json_t *read_value(const struct client *c, bool is_null, struct kv_slice text)
{
    int64_t v;
    if (c->op.key[0] == 'l') return list_parse(is_null ? kv_slice(NULL, 0) : text);
    if (is_null) return absent_value(c->op.key);
    if (kv_parse_i64(text, &v)) return json_integer(v);
    return json_stringn_nocheck((const char *)text.data, text.size); /* the checker will say it */
}

static json_t *incr_value(const struct client *c, int64_t result)
{
    json_t *pair = json_array();
    json_array_append_new(pair, json_integer(c->op.value));
    json_array_append_new(pair, json_integer(result));
    return pair;
}

/* --- Redis protocol --- */

static void resp_reply(struct client *c, const struct resp_value *v)
{
    static const char uncertain[] = "UNCERTAIN";
    json_t *value = NULL;
    enum client_answer answer = ANSWER_OK;
    if (v->type == RESP_ERROR || v->type == RESP_BULK_ERROR) {
        bool maybe = v->text.size >= sizeof uncertain - 1 &&
                     memcmp(v->text.data, uncertain, sizeof uncertain - 1) == 0;
        answer = maybe ? ANSWER_INFO : ANSWER_FAIL;
    } else {
        switch (c->op.f) {
        case HISTORY_READ: value = read_value(c, v->is_null, v->text); break;
        case HISTORY_INCR: value = incr_value(c, v->number); break;
        case HISTORY_CAS: answer = v->number == 1 ? ANSWER_OK : ANSWER_FAIL; break;
        case HISTORY_WRITE:
        case HISTORY_APPEND:
        case HISTORY_ADD:
        case HISTORY_TXN: break;
        }
    }
    client_answered(c, answer, value);
    json_decref(value);
}

static void on_bytes(struct env_conn *conn, struct kv_slice bytes)
{
    struct client *c = container_of(conn, struct client, conn);
    kv_buf_append_slice(&c->in, bytes);
    struct kv_slice left = kv_buf_slice(&c->in);
    struct resp_value v;
    enum kv_err err = resp_next(&left, 16 << 20, &v);
    if (err == KV_BUSY) return;
    if (err != KV_OK || !c->busy || left.size != 0) { /* nobody asked for this */
        sim_note(c->w->o.sim, c->host, "a reply that fits no request: %.*s", (int)bytes.size, (const char *)bytes.data);
        resp_client_drop(c);
        return;
    }
    resp_reply(c, &v);
    kv_buf_clear(&c->in);
}

static void on_open(struct env_conn *conn, enum kv_err err)
{
    struct client *c = container_of(conn, struct client, conn);
    if (err != KV_OK) return; /* on_close follows */
    c->connected = true;
    client_ready(c);
}

static void on_close(struct env_conn *conn, enum kv_err err)
{
    struct client *c = container_of(conn, struct client, conn);
    (void)err;
    c->connected = c->dialling = false;
    kv_buf_clear(&c->in);
    if (c->busy) client_answered(c, ANSWER_INFO, NULL);
    else client_ready(c);
}

void resp_client_init(struct client *c)
{
    kv_buf_init(&c->in, 0);
    kv_buf_init(&c->out, 0);
}

void resp_client_free(struct client *c)
{
    kv_buf_free(&c->in);
    kv_buf_free(&c->out);
}

void resp_client_dial(struct client *c)
{
    if (c->dialling) return;
    c->dialling = true;
    do c->node = 1 + (uint32_t)client_below(c, cluster_size(c->w->o.cluster));
    while (!cluster_is_member(c->w->o.cluster, c->node) || !cluster_has_role(c->w->o.cluster, c->node, KV_NODE_GATEWAY));
    struct env_addr to = {.port = CLUSTER_RESP_PORT};
    snprintf(to.host, sizeof to.host, "10.0.0.%u", c->node);
    c->conn = (struct env_conn){.on_open = on_open, .on_bytes = on_bytes, .on_close = on_close};
    env_of(c)->ops->connect(env_of(c), &c->conn, &to, NULL);
}

void resp_client_drop(struct client *c)
{
    env_of(c)->ops->close(env_of(c), &c->conn);
}

static void on_written(struct env_write *w, enum kv_err err)
{
    (void)err; /* on_close tells */
    container_of(w, struct client, write)->writing = false;
}

static void command(struct client *c, uint32_t count, const char *const *words)
{
    resp_put_array(&c->out, count);
    for (uint32_t i = 0; i < count; i++) resp_put_bulk(&c->out, kv_str(words[i]));
}

void resp_client_send(struct client *c)
{
    struct client_op *op = &c->op;
    char ttl[24];
    if (c->writing) { /* cannot happen to a request of a few bytes: answer before its write's end */
        resp_client_drop(c);
        return;
    }
    kv_buf_clear(&c->out);
    switch (op->f) {
    case HISTORY_READ: command(c, 2, (const char *[]){"GET", op->key}); break;
    case HISTORY_CAS:
        /* Redis has no compare-and-set but the one from nothing. */
        command(c, 3, (const char *[]){"SETNX", op->key, op->text});
        break;
    case HISTORY_INCR: command(c, 3, (const char *[]){"INCRBY", op->key, op->text}); break;
    case HISTORY_APPEND: command(c, 3, (const char *[]){"APPEND", op->key, op->text}); break;
    case HISTORY_WRITE:
    case HISTORY_ADD:
    case HISTORY_TXN:
        snprintf(ttl, sizeof ttl, "%llu", (unsigned long long)op->ttl_ms);
        if (op->deletes) command(c, 2, (const char *[]){"DEL", op->key});
        else command(c, op->ttl_ms == 0 ? 3 : 5, (const char *[]){"SET", op->key, op->text, "PX", ttl});
        break;
    }
    c->part = kv_buf_slice(&c->out);
    c->write = (struct env_write){.done = on_written, .parts = &c->part, .part_count = 1};
    c->writing = true;
    env_of(c)->ops->write(env_of(c), &c->conn, &c->write);
}

/* --- libkv --- */

static void on_done(struct kv_call *call)
{
    struct client *c = container_of(call, struct client, call);
    const struct kv_result *r = &call->result;
    json_t *value = NULL;
    enum client_answer answer = ANSWER_OK;
    c->op.stale_ms = r->stale_ms;
    if (r->err == KV_OK && c->op.f == HISTORY_READ) versions_seen(c, r);
    if (c->op.f == HISTORY_READ) {
        if (r->err == KV_OK || r->err == KV_NOT_FOUND) value = read_value(c, r->err == KV_NOT_FOUND, r->value);
        else answer = ANSWER_FAIL;
    } else if (r->err == KV_OK) {
        if (c->op.f == HISTORY_INCR) value = incr_value(c, r->number);
    } else if (r->err == KV_CONDITION || r->err == KV_NOT_FOUND) {
        answer = ANSWER_FAIL; /* it was executed, and changed nothing */
    } else {
        switch (r->applied) {
        case KV_APPLIED_NO: answer = ANSWER_FAIL; break;
        case KV_APPLIED_MAYBE: answer = ANSWER_INFO; break;
        case KV_APPLIED_YES: break;
        }
    }
    client_saw_version(c, r->version);
    client_answered(c, answer, value);
    json_decref(value);
}

bool native_client_init(struct client *c)
{
    struct kv_client_options o = {.env = env_of(c),
                                  .timeout_ms = (uint32_t)(c->w->o.timeout_ns / 1000000),
                                  .seed_count = 0};
    for (uint32_t i = 0; i < cluster_size(c->w->o.cluster) && cluster_is_member(c->w->o.cluster, i + 1); i++, o.seed_count++) {
        snprintf(o.seeds[i].host, sizeof o.seeds[i].host, "10.0.0.%u", i + 1);
        o.seeds[i].port = CLUSTER_NATIVE_PORT;
    }
    cluster_client_identity(c->w->o.cluster, &o.identity);
    return kv_client_create(&o, &c->kv) == KV_OK;
}

void native_client_send(struct client *c)
{
    struct client_op *op = &c->op;
    enum kv_op code = KV_OP_KVGET;
    uint32_t count = 0;
    c->args[count++] = kv_str(op->key);
    switch (op->f) {
    case HISTORY_READ: break;
    case HISTORY_CAS:
        code = op->expects_null ? KV_OP_KVPUT : KV_OP_KVCAS;
        c->args[count++] = kv_str(op->text);
        c->args[count++] = kv_str(op->expects_null ? "0" : "OLD");
        c->args[count++] = kv_str(op->expects_null ? "NX" : op->old);
        break;
    case HISTORY_INCR:
        code = KV_OP_KVINCR;
        c->args[count++] = kv_str(op->text);
        break;
    case HISTORY_APPEND:
        code = KV_OP_APPEND;
        c->args[count++] = kv_str(op->text);
        break;
    case HISTORY_WRITE:
    case HISTORY_ADD:
    case HISTORY_TXN:
        code = op->deletes ? KV_OP_KVDEL : KV_OP_KVPUT;
        if (op->deletes) break;
        c->args[count++] = kv_str(op->text);
        c->args[count++] = kv_str(op->deadline);
        break;
    }
    c->call = (struct kv_call){
        .op = code, .args = c->args, .arg_count = count, .level = op->level, .bounded_ms = op->bounded_ms, .done = on_done};
    versions_begin(c);
    kv_client_call(c->kv, &c->call);
}

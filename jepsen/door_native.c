#include "client/base/hash.h"
#include "client/kv_client.h"
#include "client/wire/resp.h"
#include "jepsen/run.h"
#include <stdlib.h>

/* The native door: a libkv client per worker, so that each has connections of its own. libkv
 * retries under its idempotency key until the deadline; what it then says is the outcome. */

struct native {
    struct kv_client *client;
    struct kv_call call;
    struct kv_slice args[4];
    char texts[3][48];
    bool is_closed;
};

static bool native_open(struct worker *w)
{
    struct run *r = w->run;
    struct native *n = calloc(1, sizeof *n);
    if (n == NULL) return false;
    struct kv_client_options o = {.env = r->env, .from = w->from, .timeout_ms = WORKER_TIMEOUT_MS};
    channel_identity_make(&o.identity, r->nodes.client_key);
    for (uint32_t i = 0; i < r->nodes.count && i < KV_ADDRESSES_MAX; i++)
        o.seeds[o.seed_count++] = nodes_native(&r->nodes.node[(i + w->number) % r->nodes.count]);
    if (kv_client_create(&o, &n->client) != KV_OK) {
        free(n);
        return false;
    }
    w->state = n;
    return true;
}

static bool native_is_ready(const struct worker *w)
{
    (void)w;
    return true;
}

static void native_done(struct kv_call *call)
{
    struct worker *w = call->context;
    const struct kv_result *k = &call->result;
    struct answer a = {.outcome = HISTORY_OK, .bytes = k->value, .version = k->version, .stale_ms = k->stale_ms};
    bool refused = w->op.f == HISTORY_CAS && (k->err == KV_CONDITION || k->err == KV_NOT_FOUND);
    if (k->err == KV_OK || (k->applied == KV_APPLIED_YES && !refused)) {
        a.has_result = k->err == KV_OK;
        a.result = k->number;
    } else if (w->op.f == HISTORY_READ && k->err == KV_NOT_FOUND) {
        a.is_null = true;
    } else {
        a.outcome = k->applied == KV_APPLIED_MAYBE ? HISTORY_INFO : HISTORY_FAIL;
        a.error = refused && a.outcome == HISTORY_FAIL ? NULL : kv_err_name(k->err);
    }
    if (call->op == KV_OP_GET && k->err == KV_OK) {
        struct kv_slice in = k->value;
        struct resp_value v;
        bool good = resp_next(&in, SIZE_MAX, &v) == KV_OK;
        a.bytes = good ? v.text : kv_str("not a RESP3 value");
        a.is_null = good && v.is_null;
    }
    worker_answer(w, &a);
}

static struct kv_slice number(struct native *n, uint32_t i, int64_t value, const char *behind)
{
    snprintf(n->texts[i], sizeof n->texts[i], "%lld%s", (long long)value, behind);
    return kv_str(n->texts[i]);
}

static void fill_cas(struct native *n, const struct op *op)
{
    struct kv_call *c = &n->call;
    bool by_version = op->version.index != 0;
    snprintf(n->texts[2], sizeof n->texts[2], "%u:%llu", op->version.epoch, (unsigned long long)op->version.index);
    if (op->new_is_null) {
        c->op = KV_OP_KVDEL;
        n->args[1] = kv_str(n->texts[2]);
        c->arg_count = 2;
        return;
    }
    n->args[1] = number(n, 0, op->value, "");
    if (op->old_is_null) {
        c->op = KV_OP_KVPUT;
        n->args[2] = kv_str("0");
        n->args[3] = kv_str("NX");
    } else {
        c->op = KV_OP_KVCAS;
        n->args[2] = kv_str(by_version ? "VERSION" : "OLD");
        n->args[3] = by_version ? kv_str(n->texts[2]) : number(n, 1, op->old, "");
    }
    c->arg_count = 4;
}

static void native_ask(struct worker *w)
{
    struct native *n = w->state;
    const struct op *op = &w->op;
    n->call = (struct kv_call){.done = native_done, .context = w, .args = n->args, .arg_count = 1};
    n->args[0] = kv_str(op->key);
    switch (op->f) {
    case HISTORY_READ: /* half by either command */
        n->call.level = op->level;
        n->call.bounded_ms = op->bounded_ms;
        n->call.op = kv_random_next(&w->chooser.random) % 2 == 0 ? KV_OP_KVGET : KV_OP_GET;
        break;
    case HISTORY_WRITE:
        if (op->ttl_ms != 0) {
            n->call.op = KV_OP_PSETEX;
            n->args[1] = number(n, 0, op->ttl_ms, "");
            n->args[2] = number(n, 1, op->value, "");
        } else {
            n->call.op = KV_OP_KVPUT;
            n->args[1] = number(n, 0, op->value, "");
            n->args[2] = kv_str("0");
        }
        n->call.arg_count = 3;
        break;
    case HISTORY_CAS: fill_cas(n, op); break;
    case HISTORY_ADD:
        n->call.op = KV_OP_SETBIT;
        n->args[1] = number(n, 0, op->value, "");
        n->args[2] = kv_str("1");
        n->call.arg_count = 3;
        break;
    case HISTORY_INCR:
        n->call.op = KV_OP_KVINCR;
        n->args[1] = number(n, 0, op->value, "");
        n->call.arg_count = 2;
        break;
    case HISTORY_APPEND:
        n->call.op = KV_OP_APPEND;
        n->args[1] = number(n, 0, op->value, ",");
        n->call.arg_count = 2;
        break;
    case HISTORY_TXN: break; /* no workload has it */
    }
    kv_client_call(n->client, &n->call);
}

static void native_closed(void *context)
{
    *(bool *)context = true;
}

static void native_close(struct worker *w)
{
    struct native *n = w->state;
    kv_client_cancel(n->client, &n->call);
    kv_client_close(n->client, native_closed, &n->is_closed);
    while (!n->is_closed) env_uv_run_once(w->run->uv);
    free(n);
    w->state = NULL;
}

const struct door door_native = {"native", native_open, native_is_ready, native_ask, native_close};

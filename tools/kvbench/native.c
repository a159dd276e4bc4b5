#include <inttypes.h>
#include <stdlib.h>

#include "client/kv_client.h"
#include "tools/kvbench/kvbench.h"

/* kvd's own protocol through libkv: all lanes share one client, which routes each operation to
 * its leader and multiplexes them over few connections, as an application would have it. */

struct native_call { /* one per operation slot */
    struct kv_call call;
    struct op *op;
    struct kv_slice args[3];
    char key[KEY_BYTES_MAX];
    struct kv_key from;
    struct kv_buf value;
};

static enum kv_err client_of(struct bench *b, struct kv_client **out)
{
    if (b->shared == NULL) {
        const struct options *o = &b->options;
        struct kv_client_options c = {.env = b->env,
                                      .seed_count = o->address_count,
                                      .timeout_ms = (uint32_t)(o->timeout_ns / 1000000u)};
        uint8_t secret[CHANNEL_KEY_BYTES];
        char why[KV_TEXT_BYTES];
        enum kv_err err = kv_key_file(o->key_file, secret, why);
        if (err == KV_OK) {
            memcpy(c.seeds, o->addresses, sizeof c.seeds);
            if (o->keyspace != NULL) memcpy(c.keyspace_name, o->keyspace, strlen(o->keyspace));
            channel_identity_make(&c.identity, secret);
            explicit_bzero(secret, sizeof secret);
            struct kv_client *client;
            err = kv_client_create(&c, &client);
            if (err == KV_OK) b->shared = client;
        } else {
            (void)snprintf(b->failure, sizeof b->failure, "%.250s", why);
        }
        if (err != KV_OK) return err;
    }
    *out = b->shared;
    return KV_OK;
}

static enum kv_err native_open(struct lane *l)
{
    struct kv_client *client;
    enum kv_err err = client_of(l->bench, &client);
    if (err != KV_OK) return err;
    uint32_t depth = l->bench->options.depth;
    struct native_call *calls = calloc(depth, sizeof *calls);
    if (calls == NULL) return KV_NO_SPACE;
    for (uint32_t i = 0; i < depth; i++) kv_buf_init(&calls[i].value, 0);
    l->state = calls;
    lane_ready(l);
    return KV_OK;
}

static void call_done(struct kv_call *call)
{
    struct native_call *n = container_of(call, struct native_call, call);
    struct op *op = n->op;
    struct lane *l = op->lane;
    const struct kv_result *r = &call->result;
    struct kv_slice none = kv_slice(NULL, 0);
    if (r->err == KV_OK)
        op_done(op, DONE_OK, r->value, NULL);
    else if (r->err == KV_NOT_FOUND && !op->writes)
        op_done(op, DONE_MISSING, none, NULL);
    else
        op_done(op, DONE_ERROR, none, kv_err_text(r->err));
    lane_pull(l);
}

static enum kv_err native_send(struct lane *l, struct op *op)
{
    struct native_call *calls = l->state, *n = &calls[op - l->ops];
    struct kv_client *client = l->bench->shared;
    n->op = op;
    n->call.done = call_done;
    n->call.args = n->args;
    n->call.level = op->writes ? KV_LEVEL_LINEARIZABLE : l->bench->options.level;
    n->call.bounded_ms = l->bench->options.bounded_ms;
    n->args[0] = kv_slice(n->key, work_key(l->bench, op->key, n->key));
    if (op->kind == OP_SCAN) {
        enum kv_err err = kv_key_hash(KV_KEYSPACE_DEFAULT, n->args[0], &n->from);
        if (err != KV_OK) return err;
        kv_client_scan(client, &n->call, kv_key_slice(&n->from), kv_slice(NULL, 0), op->value_size,
                       1 << 20);
        return KV_OK;
    }
    n->call.op = op->writes ? KV_OP_KVPUT : KV_OP_KVGET;
    n->call.arg_count = op->writes ? 3 : 1;
    if (op->writes) {
        kv_buf_clear(&n->value);
        uint8_t *value = kv_buf_reserve(&n->value, op->value_size);
        if (value == NULL) return KV_NO_SPACE;
        work_value(l->bench, op, value);
        kv_buf_commit(&n->value, op->value_size);
        n->args[1] = kv_buf_slice(&n->value);
        n->args[2] = kv_str("0");
    }
    kv_client_call(client, &n->call);
    return KV_OK;
}

static void native_close(struct lane *l)
{
    struct native_call *calls = l->state;
    if (calls == NULL) return;
    for (uint32_t i = 0; i < l->bench->options.depth; i++) {
        if (l->bench->shared != NULL && calls[i].op != NULL)
            kv_client_cancel(l->bench->shared, &calls[i].call);
        kv_buf_free(&calls[i].value);
    }
    free(calls);
    l->state = NULL;
}

static void ended(void *context)
{
    *(bool *)context = true;
}

static void native_end(struct bench *b, bool *done)
{
    for (uint32_t i = 0; i < b->options.clients; i++) native_close(&b->lanes[i]);
    if (b->shared == NULL)
        *done = true;
    else
        kv_client_close(b->shared, ended, done);
    b->shared = NULL;
}

const struct protocol protocol_native = {
    .name = "native",
    .scans = true,
    .port = 7401,
    .open = native_open,
    .send = native_send,
    .close = native_close,
    .end = native_end,
};

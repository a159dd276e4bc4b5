#include <stdlib.h>

#include "client/wire/resp.h"
#include "tools/kvbench/kvbench.h"

/* RESP2, as any Redis client speaks it: replies come in the order of the requests, so the open
 * operations of a connection are a ring. */

enum { VALUE_BYTES_MAX = 512 << 20 };

struct resp_lane {
    struct kv_buf in; /* the beginning of a reply whose end has not arrived */
    uint32_t first, count;
    uint32_t greetings; /* replies to AUTH and SELECT come first */
    struct op *ring[];
};

static enum kv_err resp_open(struct lane *l)
{
    const struct options *o = &l->bench->options;
    struct resp_lane *r = calloc(1, sizeof *r + o->depth * sizeof r->ring[0]);
    if (r == NULL) return KV_NO_SPACE;
    kv_buf_init(&r->in, 0);
    l->state = r;
    if (o->password != NULL) {
        r->greetings++;
        kv_buf_printf(&l->out, "*2\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n", strlen(o->password), o->password);
    }
    if (o->keyspace != NULL) {
        r->greetings++;
        kv_buf_printf(&l->out, "*2\r\n$6\r\nSELECT\r\n$%zu\r\n%s\r\n", strlen(o->keyspace), o->keyspace);
    }
    if (r->greetings == 0) lane_ready(l);
    return KV_OK;
}

static char *put_number(char *p, size_t number)
{
    char digits[20];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + number % 10);
    } while ((number /= 10) > 0);
    while (n > 0) *p++ = digits[--n];
    return p;
}

static enum kv_err resp_send(struct lane *l, struct op *op)
{
    struct resp_lane *r = l->state;
    uint32_t depth = l->bench->options.depth;
    r->ring[(r->first + r->count++) % depth] = op;

    char key[KEY_BYTES_MAX];
    size_t key_size = work_key(l->bench, op->key, key);
    size_t value_size = op->writes ? op->value_size : 0;
    char *start = (char *)kv_buf_reserve(&l->out, key_size + value_size + 80), *p = start;
    if (start == NULL) return KV_NO_SPACE;
    if (op->writes) {
        memcpy(p, "*3\r\n$3\r\nSET\r\n$", 14);
    } else {
        memcpy(p, "*2\r\n$3\r\nGET\r\n$", 14);
    }
    p = put_number(p + 14, key_size);
    memcpy(p, "\r\n", 2);
    memcpy(p + 2, key, key_size);
    p += key_size + 2;
    memcpy(p, "\r\n", 2);
    p += 2;
    if (op->writes) {
        *p++ = '$';
        p = put_number(p, value_size);
        memcpy(p, "\r\n", 2);
        work_value(l->bench, op, (uint8_t *)p + 2);
        p += value_size + 2;
        memcpy(p, "\r\n", 2);
        p += 2;
    }
    kv_buf_commit(&l->out, (size_t)(p - start));
    return KV_OK;
}

static void answer(struct op *op, const struct resp_value *v)
{
    char text[ERROR_TEXT_BYTES];
    struct kv_slice none = kv_slice(NULL, 0);
    if (v->type == RESP_ERROR) {
        (void)snprintf(text, sizeof text, "%.*s", (int)v->text.size, (const char *)v->text.data);
        op_done(op, strncmp(text, "BUSY ", 5) == 0 ? DONE_BUSY : DONE_ERROR, none, text);
    } else if (op->writes && v->type == RESP_STATUS) {
        op_done(op, DONE_OK, none, NULL);
    } else if (!op->writes && (v->type == RESP_BULK || v->type == RESP_NULL)) {
        op_done(op, v->is_null ? DONE_MISSING : DONE_OK, v->text, NULL);
    } else {
        op_done(op, DONE_ERROR, none, "a reply of another type");
    }
}

static enum kv_err take_replies(struct lane *l, struct kv_slice *in)
{
    struct resp_lane *r = l->state;
    struct resp_value v;
    enum kv_err err;
    while ((err = resp_next(in, VALUE_BYTES_MAX, &v)) == KV_OK) {
        if (r->greetings > 0) {
            if (v.type != RESP_STATUS) return l->bench->options.password == NULL ? KV_NO_KEYSPACE : KV_AUTH;
            if (--r->greetings == 0) lane_ready(l);
            if (l->state != r) return KV_OK;
            continue;
        }
        if (r->count == 0) return KV_MALFORMED; /* an answer that nobody asked for */
        struct op *op = r->ring[r->first];
        r->first = (r->first + 1) % l->bench->options.depth;
        r->count--;
        answer(op, &v);
        if (l->state != r) return KV_OK; /* it was closed meanwhile */
    }
    return err == KV_BUSY ? KV_OK : err;
}

static enum kv_err resp_feed(struct lane *l, struct kv_slice bytes)
{
    struct resp_lane *r = l->state;
    struct kv_slice in = bytes;
    if (r->in.size > 0) {
        kv_buf_append_slice(&r->in, bytes);
        in = kv_buf_slice(&r->in);
    }
    size_t before = in.size;
    enum kv_err err = take_replies(l, &in);
    if (err != KV_OK || l->state != r) return err;
    if (r->in.size > 0)
        kv_buf_consume(&r->in, before - in.size);
    else
        kv_buf_append_slice(&r->in, in);
    return r->in.failed ? KV_NO_SPACE : KV_OK;
}

static void resp_close(struct lane *l)
{
    struct resp_lane *r = l->state;
    if (r == NULL) return;
    kv_buf_free(&r->in);
    free(r);
}

const struct protocol protocol_resp = {
    .name = "resp",
    .socket = true,
    .port = 7400,
    .open = resp_open,
    .send = resp_send,
    .feed = resp_feed,
    .close = resp_close,
};

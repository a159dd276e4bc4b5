#include <assert.h>
#include <inttypes.h>
#include <nghttp2/nghttp2.h>
#include <stdlib.h>

#include "client/base/endian.h"
#include "tools/kvbench/kvbench.h"

/* etcd's v3 API: gRPC over plain HTTP/2 (h2c). One stream carries one unary call, whose body is
 * one message behind a 5-byte prefix (flag, big-endian length). Of etcd's rpc.proto we need
 *   PutRequest   {1 key, 2 value}
 *   RangeRequest {1 key, 2 range_end, 3 limit}, linearizable unless told otherwise
 *   RangeResponse{2 repeated KeyValue {1 key, 5 value}}
 * which is little enough to write and read by hand. */

enum { WINDOW_BYTES = 16 << 20, PREFIX_BYTES = 5, REPLY_BYTES_MAX = 64 << 20, AUTHORITY_BYTES = 80 };

struct stream { /* one per operation slot of the lane */
    struct op *op; /* NULL: not open */
    struct kv_buf body, reply;
    size_t sent;
    int status; /* grpc-status; -1 until it came */
    char message[64];
};
struct etcd_lane {
    nghttp2_session *session;
    char authority[AUTHORITY_BYTES];
    uint32_t depth;
    bool feeding, dead; /* closed from inside a callback of the session: freed after it */
    struct stream streams[];
};

/* --- protobuf ------------------------------------------------------------------------------- */

static void put_varint(struct kv_buf *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) kv_buf_append_u8(b, (uint8_t)(v | 0x80));
    kv_buf_append_u8(b, (uint8_t)v);
}

static void put_bytes(struct kv_buf *b, unsigned field, const void *data, size_t size)
{
    kv_buf_append_u8(b, (uint8_t)(field << 3 | 2));
    put_varint(b, size);
    kv_buf_append(b, data, size);
}

static bool get_varint(struct kv_slice *in, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; shift < 64 && in->size > 0; shift += 7) {
        uint8_t byte = *in->data++;
        in->size--;
        *out |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

/* Steps over one field; `bytes` of those with a length, empty of others. */
static bool get_field(struct kv_slice *in, uint64_t *number, struct kv_slice *bytes)
{
    uint64_t tag, size = 0;
    *bytes = kv_slice(NULL, 0);
    if (!get_varint(in, &tag)) return false;
    *number = tag >> 3;
    switch (tag & 7) {
    case 0: return get_varint(in, &size);
    case 1: size = 8; break;
    case 5: size = 4; break;
    case 2:
        if (!get_varint(in, &size)) return false;
        break;
    default: return false;
    }
    if (size > in->size) return false;
    if ((tag & 7) == 2) *bytes = kv_slice(in->data, (size_t)size);
    in->data += size;
    in->size -= (size_t)size;
    return true;
}

/* How many rows a RangeResponse has, and the value of the first; false: it does not parse. */
static bool range_rows(struct kv_slice in, uint64_t *rows, struct kv_slice *value)
{
    uint64_t number;
    struct kv_slice row, field;
    *rows = 0;
    *value = kv_slice(NULL, 0);
    while (in.size > 0) {
        if (!get_field(&in, &number, &row)) return false;
        if (number != 2 || (*rows)++ > 0) continue;
        while (row.size > 0) {
            if (!get_field(&row, &number, &field)) return false;
            if (number == 5) *value = field;
        }
    }
    return true;
}

/* --- calls ---------------------------------------------------------------------------------- */

static struct stream *stream_of(nghttp2_session *session, int32_t id)
{
    struct stream *s = nghttp2_session_get_stream_user_data(session, id);
    return s != NULL && s->op != NULL ? s : NULL;
}

static void finish(struct stream *s)
{
    struct op *op = s->op;
    struct kv_slice reply = kv_buf_slice(&s->reply), value = kv_slice(NULL, 0);
    uint64_t rows = 0;
    bool whole = !s->reply.failed && reply.size >= PREFIX_BYTES && reply.data[0] == 0 &&
                 be32_get(reply.data + 1) == reply.size - PREFIX_BYTES;
    s->op = NULL;
    if (s->status != 0) {
        char text[ERROR_TEXT_BYTES];
        (void)snprintf(text, sizeof text, "grpc status %d: %s", s->status, s->message);
        op_done(op, DONE_ERROR, value, text);
    } else if (!whole || (!op->writes &&
                          !range_rows(kv_slice(reply.data + PREFIX_BYTES, reply.size - PREFIX_BYTES),
                                      &rows, &value))) {
        op_done(op, DONE_ERROR, value, "the reply does not parse");
    } else {
        op_done(op, op->writes || rows > 0 ? DONE_OK : DONE_MISSING, value, NULL);
    }
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *context)
{
    (void)flags;
    (void)context;
    struct stream *s = stream_of(session, frame->hd.stream_id);
    if (s == NULL) return 0;
    if (name_size == 11 && memcmp(name, "grpc-status", 11) == 0)
        s->status = (int)strtol((const char *)value, NULL, 10); /* nghttp2 ends it with a NUL */
    else if (name_size == 12 && memcmp(name, "grpc-message", 12) == 0)
        (void)snprintf(s->message, sizeof s->message, "%.*s", (int)value_size, (const char *)value);
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t size, void *context)
{
    (void)flags;
    (void)context;
    struct stream *s = stream_of(session, id);
    if (s != NULL) kv_buf_append(&s->reply, data, size);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *context)
{
    (void)context;
    struct stream *s = stream_of(session, id);
    if (s == NULL) return 0;
    if (code != NGHTTP2_NO_ERROR && s->status <= 0) {
        s->status = -1;
        (void)snprintf(s->message, sizeof s->message, "stream reset, %s",
                       nghttp2_http2_strerror(code));
    }
    finish(s);
    return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *out, size_t room,
                         uint32_t *flags, nghttp2_data_source *source, void *context)
{
    (void)session;
    (void)id;
    (void)context;
    struct stream *s = source->ptr;
    struct kv_slice body = kv_buf_slice(&s->body);
    assert(s->sent < body.size); /* a body has its prefix at least, and the end is told once */
    size_t size = body.size - s->sent < room ? body.size - s->sent : room;
    if (size > 0) memcpy(out, body.data + s->sent, size);
    s->sent += size;
    if (s->sent == body.size) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)size;
}

static nghttp2_nv header(const char *name, const char *value)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .value = (uint8_t *)(uintptr_t)value,
                        .namelen = strlen(name),
                        .valuelen = strlen(value),
                        .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

static void write_body(struct bench *b, struct stream *s, const struct op *op)
{
    char key[KEY_BYTES_MAX];
    size_t key_size = work_key(b, op->key, key);
    static const uint8_t prefix[PREFIX_BYTES] = {0};
    kv_buf_clear(&s->body);
    kv_buf_append(&s->body, prefix, sizeof prefix);
    put_bytes(&s->body, 1, key, key_size);
    if (op->writes) {
        kv_buf_append_u8(&s->body, 2 << 3 | 2);
        put_varint(&s->body, op->value_size);
        uint8_t *value = kv_buf_reserve(&s->body, op->value_size);
        if (value == NULL) return;
        work_value(b, op, value);
        kv_buf_commit(&s->body, op->value_size);
    } else if (op->kind == OP_SCAN) {
        put_bytes(&s->body, 2, "\0", 1); /* from the key on, to the end */
        kv_buf_append_u8(&s->body, 3 << 3);
        put_varint(&s->body, op->value_size);
    }
    if (!s->body.failed) be32_put(s->body.data + s->body.start + 1, (uint32_t)s->body.size - PREFIX_BYTES);
}

static enum kv_err etcd_send(struct lane *l, struct op *op)
{
    struct etcd_lane *e = l->state;
    struct stream *s = &e->streams[op - l->ops];
    assert(s->op == NULL);
    write_body(l->bench, s, op);
    if (s->body.failed) return KV_NO_SPACE;
    kv_buf_clear(&s->reply);
    s->sent = 0;
    s->status = -1;
    (void)snprintf(s->message, sizeof s->message, "no status");

    nghttp2_nv headers[] = {
        header(":method", "POST"),
        header(":scheme", "http"),
        header(":path", op->writes ? "/etcdserverpb.KV/Put" : "/etcdserverpb.KV/Range"),
        header(":authority", e->authority),
        header("content-type", "application/grpc"),
        header("te", "trailers"),
    };
    nghttp2_data_provider body = {.source.ptr = s, .read_callback = read_body};
    int32_t id = nghttp2_submit_request(e->session, NULL, headers,
                                        sizeof headers / sizeof headers[0], &body, s);
    if (id == NGHTTP2_ERR_NOMEM) return KV_NO_SPACE;
    if (id < 0) return KV_CLOSED; /* stream ids used up, or the server said goodbye: dial anew */
    s->op = op;
    return KV_OK;
}

/* --- connections ------------------------------------------------------------------------------ */

static void free_lane(struct etcd_lane *e)
{
    nghttp2_session_del(e->session);
    for (uint32_t i = 0; i < e->depth; i++) {
        kv_buf_free(&e->streams[i].body);
        kv_buf_free(&e->streams[i].reply);
    }
    free(e);
}

static enum kv_err etcd_open(struct lane *l)
{
    uint32_t depth = l->bench->options.depth;
    struct etcd_lane *e = calloc(1, sizeof *e + depth * sizeof e->streams[0]);
    if (e == NULL) return KV_NO_SPACE;
    e->depth = depth;
    for (uint32_t i = 0; i < depth; i++) {
        kv_buf_init(&e->streams[i].body, 0);
        kv_buf_init(&e->streams[i].reply, REPLY_BYTES_MAX);
    }
    (void)snprintf(e->authority, sizeof e->authority, "%s:%u", l->to.host, l->to.port);

    nghttp2_session_callbacks *callbacks;
    if (nghttp2_session_callbacks_new(&callbacks) != 0) goto no_memory;
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    int failed = nghttp2_session_client_new(&e->session, callbacks, l);
    nghttp2_session_callbacks_del(callbacks);
    if (failed != 0) goto no_memory;

    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_BYTES},
    };
    if (nghttp2_submit_settings(e->session, NGHTTP2_FLAG_NONE, settings, 2) != 0 ||
        nghttp2_session_set_local_window_size(e->session, NGHTTP2_FLAG_NONE, 0, WINDOW_BYTES) != 0)
        goto no_memory;
    l->state = e;
    lane_ready(l);
    return KV_OK;
no_memory:
    free_lane(e);
    return KV_NO_SPACE;
}

static enum kv_err etcd_feed(struct lane *l, struct kv_slice bytes)
{
    struct etcd_lane *e = l->state;
    e->feeding = true;
    ssize_t taken = nghttp2_session_mem_recv(e->session, bytes.data, bytes.size);
    e->feeding = false;
    if (e->dead) {
        free_lane(e);
        return KV_OK;
    }
    if (taken == NGHTTP2_ERR_NOMEM) return KV_NO_SPACE;
    return taken < 0 ? KV_MALFORMED : KV_OK;
}

static void etcd_flush(struct lane *l)
{
    struct etcd_lane *e = l->state;
    if (e == NULL || e->feeding) return;
    const uint8_t *data;
    ssize_t size;
    while ((size = nghttp2_session_mem_send(e->session, &data)) > 0)
        kv_buf_append(&l->out, data, (size_t)size);
}

static void etcd_close(struct lane *l)
{
    struct etcd_lane *e = l->state;
    if (e == NULL) return;
    if (e->feeding)
        e->dead = true;
    else
        free_lane(e);
}

const struct protocol protocol_etcd = {
    .name = "etcd",
    .socket = true,
    .scans = true,
    .port = 2379,
    .open = etcd_open,
    .send = etcd_send,
    .feed = etcd_feed,
    .flush = etcd_flush,
    .close = etcd_close,
};

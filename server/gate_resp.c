#include "server/gate_resp.h"
#include "client/base/hash.h"
#include "server/exec.h"
#include <assert.h>
#include <ctype.h>
#include <stdio.h>

/* The Redis front door: RESP2 and RESP3, pipelined or typed by hand. Invariants:
 * (1) Replies leave in the order of the commands.
 * (2) Of two commands of one connection on one key, a read never overtakes a write, nor a
 *     write a read: the later one is left unread until the earlier is answered. Writes
 *     may follow writes, since the log keeps their order.
 * (3) An unauthenticated peer can have one small command in memory. */

static enum kv_err resp_open(struct gate *g)
{
    struct resp_conn *c = resp_conn(g);
    c->protocol = 2;
    resp_user_leave(g);
    g->is_stranger = !c->is_authenticated;
    c->active_ns = g->opened_ns;
    kv_buf_init(&c->scratch, 0);
    kv_buf_init(&c->parser.words, RESP_INLINE_BYTES_MAX);
    return KV_OK;
}

static enum kv_err resp_open_face(struct gate *g)
{
    resp_conn(g)->is_face = true;
    return resp_open(g);
}

static void resp_close(struct gate *g)
{
    struct resp_conn *c = resp_conn(g);
    resp_slots_free(c);
    resp_parser_free(&c->parser);
    kv_buf_free(&c->scratch);
}

static void mark(struct resp_marks *m, const struct kv_reply *reply)
{
    uint32_t i = 0;
    while (i < m->count && m->partitions[i] != reply->partition) i++;
    if (reply->index == 0 || i == RESP_MARKS_MAX) {
        m->all = true;
        return;
    }
    if (i == m->count) {
        m->partitions[i] = reply->partition;
        m->indexes[i] = 0;
        m->count++;
    }
    if (reply->index > m->indexes[i]) m->indexes[i] = reply->index;
}

static void resp_reply(struct gate *g, const struct kv_reply *reply)
{
    struct resp_conn *c = resp_conn(g);
    if (reply->applied == KV_APPLIED_YES && resp_slot(c, reply->id)->is_write) mark(&c->marks, reply);
    bool is_value = reply->value.size > 0 && (reply->err == KV_OK || reply->value.data[0] == '-');
    if (is_value) {
        resp_slot_answer(g, reply->id, reply->value);
        return;
    }
    struct kv_buf line;
    kv_buf_init(&line, 0);
    resp_error_of(reply, resp_slot(c, reply->id)->is_write, c->is_face, &line);
    resp_slot_answer(g, reply->id, kv_buf_slice(&line));
    kv_buf_free(&line);
}

/* ---- one command ---- */

static uint8_t bucket_of(struct kv_slice key)
{
    return (uint8_t)(kv_hash64(key, 0) % RESP_BUCKETS);
}

static inline bool is_blocked(const struct resp_conn *c, const struct kv_op_info *info,
                              const struct kv_slice *args, uint32_t n)
{
    const struct resp_pending *p = info->kind == KV_OP_KIND_W ? &c->reads : &c->writes;
    if (p->total == 0) return false;
    uint32_t first, step, count = kv_op_keys(info, n, &first, &step);
    return count != 1 || p->all > 0 || p->buckets[bucket_of(args[first])] > 0;
}

/* Only commands that were not answered at once are tracked: nearly no read is. */
static inline void track(struct resp_conn *c, uint64_t id, const struct kv_op_info *info,
                         const struct kv_slice *args, uint32_t n)
{
    struct resp_slot *s = resp_slot(c, id);
    struct resp_pending *p = s->is_write ? &c->writes : &c->reads;
    uint32_t first, step, count = kv_op_keys(info, n, &first, &step);
    p->total++;
    s->track = count == 1 ? RESP_TRACK_BUCKET : RESP_TRACK_ALL;
    if (count != 1)
        p->all++;
    else
        p->buckets[s->bucket = bucket_of(args[first])]++;
}

/* Nearly every command comes this way, so it costs no call of its own. */
__attribute__((always_inline)) static inline enum kv_err start(struct gate *g, const struct kv_op_info *info, struct kv_request *request)
{
    struct resp_conn *c = resp_conn(g);
    const struct kv_slice *args = request->args;
    uint32_t n = request->arg_count;
    uint64_t id;
    if (is_blocked(c, info, args, n) || resp_slot_open(c, info->kind == KV_OP_KIND_W, &id) != KV_OK)
        return KV_BUSY;
    request->id = id;
    enum kv_err err = g->services->submit(g, request);
    if (err != KV_OK) {
        resp_slot_cancel(c, id);
        return KV_BUSY;
    }
    if (id >= c->head && !resp_slot(c, id)->is_done) track(c, id, info, args, n);
    return KV_OK;
}

enum kv_err resp_submit(struct gate *g, const struct kv_op_info *info, struct kv_request *request)
{
    return start(g, info, request);
}

static enum kv_err answer(struct gate *g, const struct kv_buf *value)
{
    uint64_t id;
    if (value->failed || resp_slot_open(resp_conn(g), false, &id) != KV_OK) {
        g->closing = true;
        return KV_BUSY;
    }
    resp_slot_answer(g, id, kv_buf_slice(value));
    return KV_OK;
}

static enum kv_err submit(struct gate *g, enum kv_op op, const struct kv_op_info *info,
                          const struct kv_slice *args, uint32_t n)
{
    struct resp_conn *c = resp_conn(g);
    struct kv_request request = {.op = op, .args = args, .arg_count = n, .keyspace = c->keyspace};
    if (c->is_face && !resp_face_admits(g, info, &request)) return answer(g, &c->scratch);
    return start(g, info, &request);
}

static void unknown_command(struct kv_buf *out, const struct kv_slice *a, uint32_t n)
{
    enum { QUOTED_BYTES_MAX = 128 };
    char text[QUOTED_BYTES_MAX * 2 + 8];
    size_t size = 0;
    for (uint32_t i = 1; i < n && size < QUOTED_BYTES_MAX; i++) {
        size_t left = QUOTED_BYTES_MAX - size;
        int shown = (int)(a[i].size < left ? a[i].size : left);
        size += (size_t)snprintf(text + size, sizeof text - size, "'%.*s' ", shown,
                                 shown == 0 ? "" : (const char *)a[i].data);
    }
    text[size] = '\0';
    char line[512];
    int shown = (int)(a[0].size < QUOTED_BYTES_MAX ? a[0].size : QUOTED_BYTES_MAX);
    snprintf(line, sizeof line, "ERR unknown command '%.*s', with args beginning with: %s", shown,
             (const char *)a[0].data, text);
    for (char *c = line; *c != '\0'; c++)
        if (*c == '\r' || *c == '\n') *c = ' ';
    resp_put_error(out, "%s", line);
}

static bool arity_fits(uint32_t n, int16_t min, int16_t max)
{
    return n >= (uint32_t)min && (max < 0 || n <= (uint32_t)max);
}

static enum kv_err run_local(struct gate *g, const struct resp_command *command,
                             const struct kv_slice *args, uint32_t n)
{
    struct resp_conn *c = resp_conn(g);
    switch (command->run(g, args, n, &c->scratch)) {
    case RESP_RAN: return answer(g, &c->scratch);
    case RESP_LATER: return KV_OK;
    case RESP_WAITS: return KV_BUSY;
    }
    return KV_OK;
}

/* OBJECT and OBJECT HELP have no key to route by. */
static void object_alone(struct kv_buf *out, const struct kv_slice *args, uint32_t n)
{
    static const char *const lines[] = {
        "ENCODING <key>",
        "    Return the kind of internal representation used in order to "
        "store the value",
        "    associated with a <key>.",
        "FREQ <key>",
        "    Always an error: access frequencies are not tracked.",
        "REFCOUNT <key>",
        "    Always 1: values are not shared.",
        NULL};
    if (resp_word(args[0], "HELP"))
        resp_help(out, "OBJECT", lines);
    else
        exec_check(KV_OP_OBJECT, args, n, UINT32_MAX, out);
}

/* A browser tricked into talking to this port sends these first; nothing of it is run. */
static bool is_http(struct kv_slice word)
{
    return resp_word(word, "POST") || resp_word(word, "HOST:");
}

/* KV_BUSY: to be tried again; KV_MALFORMED: this is no client of ours. */
static enum kv_err dispatch(struct gate *g, const struct kv_slice *args, uint32_t n)
{
    struct resp_conn *c = resp_conn(g);
    if (c->mode == RESP_REPLY_SKIP) c->mode = RESP_REPLY_SKIPPING;
    enum kv_op op = kv_op_find(args[0]);
    if (op >= KV_OP_KVGET) op = KV_OP_NONE; /* kvd's own live behind the native port */
    const struct kv_op_info *info = op == KV_OP_NONE ? NULL : kv_op_info(op);
    const struct resp_command *local = info == NULL ? resp_command_find(args[0]) : NULL;

    kv_buf_clear(&c->scratch);
    if (info == NULL && local == NULL) {
        if (is_http(args[0])) return KV_MALFORMED;
        unknown_command(&c->scratch, args, n);
        return answer(g, &c->scratch);
    }
    const char *name = info != NULL ? info->name : local->name;
    bool fits = info != NULL ? arity_fits(n - 1, info->arity_min, info->arity_max)
                             : arity_fits(n - 1, local->arity_min, local->arity_max);
    bool is_flush = op == KV_OP_FLUSHALL || op == KV_OP_FLUSHDB; /* Redis counts their words later */
    if (!fits && !is_flush) {
        resp_bad_arity(&c->scratch, name, NULL);
        return answer(g, &c->scratch);
    }
    if (!c->is_authenticated &&
        (local == NULL || (strcmp(name, "AUTH") != 0 && strcmp(name, "HELLO") != 0 &&
                           strcmp(name, "QUIT") != 0 && strcmp(name, "RESET") != 0))) {
        resp_put_error(&c->scratch, "NOAUTH Authentication required.");
        return answer(g, &c->scratch);
    }
    c->command = name;
    g->commands++;
    if (local != NULL) return run_local(g, local, args + 1, n - 1);
    if (!fits) {
        resp_put_error(&c->scratch, "ERR syntax error");
        return answer(g, &c->scratch);
    }
    if (op == KV_OP_OBJECT && n == 2) {
        object_alone(&c->scratch, args + 1, n - 1);
        return answer(g, &c->scratch);
    }
    return submit(g, op, info, args + 1, n - 1);
}

/* Output in memory, sent or not yet in order; the host closes readers at the whole limit. */
static bool output_is_full(const struct gate *g, const struct resp_conn *c)
{
    return g->out->size + c->held_bytes > g->services->output_bytes_max / 4;
}

static enum kv_err resp_feed(struct gate *g, struct kv_slice in, size_t *consumed)
{
    struct resp_conn *c = resp_conn(g);
    struct resp_parser *p = &c->parser;
    c->active_ns = env_now_ns(g->services->env);
    *consumed = 0;
    while (*consumed < in.size && !g->closing) {
        if (c->auth_pending || output_is_full(g, c)) return KV_BUSY;
        struct resp_limits limits = {!c->is_authenticated, g->services->value_bytes_max};
        size_t dropped = 0;
        enum kv_err err = KV_OK;
        struct kv_slice rest = kv_slice(in.data + *consumed, in.size - *consumed);
        enum resp_parsed parsed = resp_parse(p, &limits, rest, &dropped);
        *consumed += dropped;
        switch (parsed) {
        case RESP_MORE: return KV_OK;
        case RESP_NOTHING: break;
        case RESP_PARSED:
            err = dispatch(g, p->args, p->count);
            if (err == KV_MALFORMED) *consumed = in.size;
            if (err != KV_OK) {
                if (c->mode == RESP_REPLY_SKIPPING) c->mode = RESP_REPLY_SKIP;
                resp_parser_reset(p);
                return g->closing ? KV_OK : err;
            }
            break;
        case RESP_REFUSED:
        case RESP_BROKEN:
            if (c->mode == RESP_REPLY_SKIP) c->mode = RESP_REPLY_SKIPPING;
            kv_buf_clear(&c->scratch);
            resp_put_error(&c->scratch, "%s", p->error);
            answer(g, &c->scratch);
            if (parsed == RESP_BROKEN) {
                *consumed = in.size;
                return KV_MALFORMED;
            }
            break;
        }
        if (c->mode == RESP_REPLY_SKIPPING && parsed != RESP_NOTHING) c->mode = RESP_REPLY_ON;
        if (parsed != RESP_REFUSED) *consumed += p->at;
        resp_parser_reset(p);
    }
    if (g->closing) *consumed = in.size;
    return KV_OK;
}

#define RESP_OPS(opens)                                                                            \
    {                                                                                              \
        .name = "resp", .ordered = true, .state_bytes = sizeof(struct resp_conn), .open = (opens), \
        .feed = resp_feed, .reply = resp_reply, .close = resp_close,                               \
    }
const struct gate_ops gate_resp = RESP_OPS(resp_open);
const struct gate_ops gate_resp_cluster = RESP_OPS(resp_open_face);

#ifndef TESTS_GATE_FAKE_H
#define TESTS_GATE_FAKE_H
#include "client/base/hash.h"
#include "client/wire/resp.h"
#include "server/gate.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* One RESP connection on a node that answers when the test says so. A request's reply is
 * its operation and arguments joined by spaces, as a bulk string, unless a test gives one. */
enum { FAKE_REQUESTS_MAX = 256 };
struct fake_request {
    uint64_t id;
    char text[256]; /* "GET k" */
    uint32_t keyspace;
    enum kv_level level;
    bool led_only;
    uint16_t in_slot;
    uint32_t keys_max;
    bool is_answered;
};
struct fake {
    struct gate gate;
    struct gate_services services;
    struct env env;
    struct kv_buf in, out;
    struct fake_request requests[FAKE_REQUESTS_MAX];
    uint32_t count;
    bool answers_at_once, is_full; /* full: submit says KV_BUSY */
    bool needs_password, auth_waits;
    gate_authenticated *auth_done;
    bool users_are_gone; /* all but `default` */
    char auth_text[64];
    uint64_t now_ns;
    struct gate *others[4];
    uint32_t other_count, killed;
    /* the cluster: `self` among the nodes, and who has what */
    const struct gate_node *nodes;
    const struct gate_range *ranges;
    uint32_t node_count, range_count, self;
};

static inline struct fake *fake_of(struct gate *g)
{
    return container_of(g, struct fake, gate);
}

static inline void fake_answer_value(struct fake *f, uint32_t i, const char *value)
{
    struct kv_reply reply = {
        .id = f->requests[i].id, .applied = KV_APPLIED_YES, .value = kv_str(value)};
    assert(i < f->count && !f->requests[i].is_answered);
    f->requests[i].is_answered = true;
    f->gate.pending--;
    f->gate.ops->reply(&f->gate, &reply);
}

/* A write that stands at `index` of the partition's log; 0: over several partitions. */
static inline void fake_answer_at(struct fake *f, uint32_t i, uint32_t partition, uint64_t index)
{
    struct kv_buf value;
    kv_buf_init(&value, 0);
    resp_put_bulk(&value, kv_str(f->requests[i].text));
    struct kv_reply reply = {.id = f->requests[i].id,
                             .applied = KV_APPLIED_YES,
                             .partition = partition,
                             .index = index,
                             .value = kv_buf_slice(&value)};
    assert(i < f->count && !f->requests[i].is_answered);
    f->requests[i].is_answered = true;
    f->gate.pending--;
    f->gate.ops->reply(&f->gate, &reply);
    kv_buf_free(&value);
}

static inline void fake_answer(struct fake *f, uint32_t i)
{
    struct kv_buf value;
    kv_buf_init(&value, 0);
    resp_put_bulk(&value, kv_str(f->requests[i].text));
    kv_buf_append_u8(&value, '\0');
    fake_answer_value(f, i, (const char *)kv_buf_slice(&value).data);
    kv_buf_free(&value);
}

static inline void fake_fail(struct fake *f, uint32_t i, struct kv_reply reply)
{
    reply.id = f->requests[i].id;
    f->requests[i].is_answered = true;
    f->gate.pending--;
    f->gate.ops->reply(&f->gate, &reply);
}

static inline enum kv_err fake_submit(struct gate *g, const struct kv_request *r)
{
    struct fake *f = fake_of(g);
    if (f->is_full) return KV_BUSY;
    assert(f->count < FAKE_REQUESTS_MAX);
    struct fake_request *request = &f->requests[f->count++];
    *request = (struct fake_request){.id = r->id, .keyspace = r->keyspace, .level = r->level, .led_only = r->led_only, .in_slot = r->in_slot, .keys_max = r->keys_max};
    snprintf(request->text, sizeof request->text, "%s", kv_op_info(r->op)->name);
    for (uint32_t i = 0; i < r->arg_count; i++) {
        size_t used = strlen(request->text);
        int shown = (int)(r->args[i].size < 64 ? r->args[i].size : 64);
        snprintf(request->text + used, sizeof request->text - used, " %.*s", shown,
                 (const char *)r->args[i].data);
    }
    g->pending++;
    if (f->answers_at_once) fake_answer(f, f->count - 1);
    return KV_OK;
}

static inline uint64_t fake_now(struct env *e)
{
    return container_of(e, struct fake, env)->now_ns;
}

static inline void fake_info(void *node, bool on_cluster_face, const char *section, struct kv_buf *out)
{
    (void)node;
    if (on_cluster_face) kv_buf_append_text(out, "cluster ");
    kv_buf_printf(out, "# %s\r\n", section);
}

static inline bool fake_config_next(void *node, uint32_t *cursor, const char **name,
                                    char value[256])
{
    static const char *const names[] = {"log.level", "resp.port"};
    (void)node;
    if (*cursor == 2) return false;
    *name = names[*cursor];
    snprintf(value, 256, "%s", *cursor == 0 ? "info" : "7400");
    (*cursor)++;
    return true;
}

static inline enum kv_err fake_config_set(void *node, struct kv_slice name, struct kv_slice value,
                                          const char **why)
{
    (void)node, (void)value;
    if (kv_slice_eq(name, kv_str("log.level"))) return KV_OK;
    *why = "it is read at start";
    return KV_BAD_ARGUMENT;
}

static inline void fake_connections(void *node, const char *name,
                                    bool (*each)(void *, struct gate *), void *context)
{
    struct fake *f = node;
    assert(strcmp(name, "resp") == 0);
    if (!each(context, &f->gate)) return;
    for (uint32_t i = 0; i < f->other_count; i++)
        if (!each(context, f->others[i])) return;
}

static inline void fake_kill(void *node, struct gate *g)
{
    struct fake *f = node;
    f->killed++;
    g->closing = true;
}

static inline bool fake_auth_required(void *node)
{
    return ((struct fake *)node)->needs_password;
}

/* User default has password secret; app, bound to keyspace users (id 7), app-secret; lost one that is not there. */
static inline void fake_auth(struct gate *g, struct kv_slice user, struct kv_slice password, gate_authenticated *done)
{
    static const struct gate_user users[] = {{"default", "", 0}, {"app", "users", 1}, {"lost", "gone", 1}, {"plain", "default", 1}};
    static const char *const right[] = {"default/secret", "app/app-secret", "lost/lost-secret", "plain/plain-secret"};
    struct fake *f = fake_of(g);
    const struct gate_user *who = NULL;
    snprintf(f->auth_text, sizeof f->auth_text, "%.*s/%.*s", (int)user.size,
             (const char *)user.data, (int)password.size, (const char *)password.data);
    f->auth_done = done;
    for (size_t i = 0; i < sizeof users / sizeof *users; i++)
        if (strcmp(f->auth_text, right[i]) == 0) who = &users[i];
    if (!f->auth_waits) done(g, who != NULL ? KV_OK : KV_AUTH, who);
}

static inline bool fake_user_is_current(void *node, struct kv_slice user, uint64_t mark)
{
    return !((struct fake *)node)->users_are_gone || (kv_slice_eq(user, kv_str("default")) && mark == 0);
}

static inline uint32_t fake_replicas(void *node)
{
    (void)node;
    return 2;
}

static inline bool fake_node_next(void *node, uint32_t *cursor, struct gate_node *out)
{
    struct fake *f = node;
    if (*cursor == f->node_count) return false;
    *out = f->nodes[(*cursor)++];
    out->is_self = out->id == f->self;
    return true;
}

static inline bool fake_range_next(void *node, uint32_t *slot, struct gate_range *out)
{
    struct fake *f = node;
    for (uint32_t i = 0; i < f->range_count; i++)
        if (f->ranges[i].first == *slot) {
            *out = f->ranges[i];
            *slot = out->last + 1u;
            return true;
        }
    return false;
}

static inline struct gate_owner fake_owner(void *node, uint16_t slot)
{
    struct fake *f = node;
    struct gate_owner owner = {0};
    for (uint32_t i = 0; i < f->range_count; i++) {
        const struct gate_range *r = &f->ranges[i];
        if (slot < r->first || slot > r->last) continue;
        owner.leader = r->leader;
        owner.is_led_here = r->leader == f->self;
        for (uint32_t k = 0; k < r->node_count; k++) owner.is_held_here |= r->nodes[k] == f->self;
    }
    return owner;
}

static inline uint32_t fake_keyspace(void *node, struct kv_slice name)
{
    (void)node;
    return kv_slice_eq(name, kv_str("users")) ? 7 : kv_slice_eq(name, kv_str("default")) ? KV_KEYSPACE_DEFAULT
                                                                                         : 0;
}

static inline bool fake_has_keyspace(void *node, uint32_t id)
{
    (void)node;
    return id == 7;
}

static inline void fake_open_as(struct fake *f, const struct env_ops *ops, const struct gate_ops *gate)
{
    f->env = (struct env){.ops = ops};
    f->services = (struct gate_services){.env = &f->env,
                                         .keyspace = fake_keyspace,
                                         .has_keyspace = fake_has_keyspace,
                                         .node = f,
                                         .submit = fake_submit,
                                         .info = fake_info,
                                         .config_next = fake_config_next,
                                         .config_set = fake_config_set,
                                         .connections = fake_connections,
                                         .kill = fake_kill,
                                         .auth_required = fake_auth_required,
                                         .auth = fake_auth,
                                         .user_is_current = fake_user_is_current,
                                         .replicas_connected = fake_replicas,
                                         .owner = fake_owner,
                                         .range_next = fake_range_next,
                                         .node_next = fake_node_next,
                                         .value_bytes_max = 1 << 20,
                                         .output_bytes_max = 64 << 20};
    f->gate = (struct gate){.ops = gate,
                            .services = &f->services,
                            .out = &f->out,
                            .state = calloc(1, gate->state_bytes),
                            .id = 7,
                            .opened_ns = f->now_ns,
                            .peer = {"127.0.0.1", 50000},
                            .local = {"127.0.0.1", 7400}};
    assert(f->gate.state != NULL);
    kv_buf_init(&f->in, 0);
    kv_buf_init(&f->out, 0);
    enum kv_err err = gate->open(&f->gate);
    assert(err == KV_OK);
}

static inline void fake_open(struct fake *f, const struct env_ops *ops)
{
    fake_open_as(f, ops, &gate_resp);
}

static inline void fake_close(struct fake *f)
{
    gate_resp.close(&f->gate);
    free(f->gate.state);
    kv_buf_free(&f->in);
    kv_buf_free(&f->out);
}

/* Feeds as the host does: what was not consumed comes again, with more. */
static inline enum kv_err fake_feed(struct fake *f, const void *bytes, size_t size)
{
    size_t consumed = 0;
    kv_buf_append(&f->in, bytes, size);
    if (f->in.size == 0 || f->gate.closing) return KV_OK;
    /* A copy of exactly the bytes there are, so that a sanitizer sees every read behind them. */
    uint8_t *exact = malloc(f->in.size);
    assert(exact != NULL);
    memcpy(exact, kv_buf_slice(&f->in).data, f->in.size);
    enum kv_err err = gate_resp.feed(&f->gate, kv_slice(exact, f->in.size), &consumed);
    free(exact);
    assert(consumed <= f->in.size);
    kv_buf_consume(&f->in, consumed);
    if (err != KV_OK && err != KV_BUSY) f->gate.closing = true;
    return err;
}

static inline enum kv_err fake_say(struct fake *f, const char *text)
{
    return fake_feed(f, text, strlen(text));
}

/* What was sent to the peer since the last time, as text. Valid until the next call. */
static inline const char *fake_heard(struct fake *f)
{
    static char text[1 << 16];
    assert(f->out.size < sizeof text);
    if (f->out.size > 0) memcpy(text, kv_buf_slice(&f->out).data, f->out.size);
    text[f->out.size] = '\0';
    kv_buf_clear(&f->out);
    return text;
}
#endif

#include "server/join.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/base/endian.h"
#include "client/pool.h"
#include "client/wire/hello.h"
#include "client/wire/join_token.h"
#include "client/wire/message.h"
#include "client/wire/resp.h"
#include "server/nodes.h"

enum { TRY_MS = 3000, /* from dialling to the answer */
       ANSWER_MS = 2500,
       WAIT_MS_MIN = 50,
       WAIT_MS_MAX = 1000,
       WHY_BYTES = 512 };

struct join {
    struct join_options o;
    struct join_token token;
    struct env_addr to, from;
    struct env_timer timer; /* of the try under way, or of the wait before the next */
    uint64_t give_up_ns;
    uint32_t wait_ms;
    struct dialled *dialled; /* NULL: waiting */
    struct membership place; /* what the answer says */
    bool is_over;
    char why[WHY_BYTES];
};

struct dialled { /* its memory lives until on_close */
    struct env_conn socket;
    struct join *j; /* NULL: given up */
    struct channel *channel;
    struct kv_buf out, sending;
    struct env_write write;
    struct kv_slice part;
    bool writing, asked;
    char mismatch[HELLO_MISMATCH_BYTES];
};

const char *join_why(const struct join *j)
{
    return j->why;
}

static void dialled_free(struct dialled *d)
{
    if (d->channel != NULL) channel_wipe(d->channel);
    free(d->channel);
    kv_buf_free(&d->out);
    kv_buf_free(&d->sending);
    free(d);
}

static void drop(struct join *j)
{
    struct dialled *d = j->dialled;
    if (d == NULL) return;
    j->dialled = NULL;
    d->j = NULL;
    j->o.env->ops->close(j->o.env, &d->socket);
}

static void finish(struct join *j, enum kv_err err)
{
    if (j->is_over) return;
    j->is_over = true;
    j->o.env->ops->timer_stop(j->o.env, &j->timer);
    drop(j);
    j->o.done(j->o.context, err);
}

/* Nothing of it is for ever: another try, later. */
static void again(struct join *j, const char *what)
{
    struct env *e = j->o.env;
    (void)snprintf(j->why, sizeof j->why, "cluster.join: %s port %u did not let this node in within cluster.join_time; last: %s", j->to.host,
                   j->to.port, what);
    JOURNAL(j->o.journal, peer, INFO, "join-again", "to=%s:%u why=\"%s\"", j->to.host, j->to.port, what);
    drop(j);
    uint64_t wait_ns = KV_MS(WAIT_MS_MIN) + e->ops->random(e) % KV_MS(j->wait_ms);
    if (j->wait_ms < WAIT_MS_MAX) j->wait_ms *= 2;
    if (env_now_ns(e) + wait_ns >= j->give_up_ns) finish(j, KV_TIMEOUT);
    else e->ops->timer_start(e, &j->timer, wait_ns);
}

static void refused(struct join *j, enum kv_err err, const char *what)
{
    (void)snprintf(j->why, sizeof j->why, "cluster.join: refused by %s port %u: %s", j->to.host, j->to.port, what);
    finish(j, err);
}

/* ---- the answer ---- */

static bool is_final(enum kv_err err)
{
    return err == KV_AUTH || err == KV_DENIED || err == KV_WRONG_CLUSTER || err == KV_VERSION || err == KV_CONFLICT ||
           err == KV_CONDITION || err == KV_BAD_ARGUMENT || err == KV_MALFORMED || err == KV_TOO_BIG;
}

static bool find_self(struct join *j)
{
    for (uint32_t i = 0; i < j->place.count; i++)
        if (memcmp(j->place.list[i].key, j->o.identity->public_key, CHANNEL_KEY_BYTES) == 0) j->place.node = j->place.list[i].id;
    return j->place.node != 0;
}

static void admitted(struct join *j, struct kv_slice map)
{
    struct hello h;
    if (!membership_decode(map, &j->place) || !find_self(j) || j->place.version == 0) {
        again(j, "the answer does not parse");
        return;
    }
    if (hello_decode(channel_peer_payload(j->dialled->channel), &h) == KV_OK && h.name.size < sizeof j->place.name && h.name.size > 0)
        memcpy(j->place.name, h.name.data, h.name.size);
    memcpy(j->place.cluster, j->token.cluster, sizeof j->place.cluster);
    enum kv_err err = membership_write(j->o.disk, &j->place);
    if (err != KV_OK) {
        again(j, "the answer cannot be kept in the data directory");
        return;
    }
    JOURNAL(j->o.journal, peer, INFO, "joined", "node=%u nodes=%u version=%llu", j->place.node, j->place.count,
            (unsigned long long)j->place.version);
    finish(j, KV_OK);
}

static void answered(struct join *j, struct kv_slice body)
{
    struct kv_arena arena;
    struct kv_reply reply;
    struct resp_value v = {.type = RESP_NULL};
    char text[300];
    kv_arena_init(&arena, 1 << 20);
    enum kv_err err = kv_reply_decode(body, &arena, &reply);
    struct kv_slice in = err == KV_OK ? reply.value : kv_slice(NULL, 0);
    if (in.size > 0) (void)resp_next(&in, SIZE_MAX, &v);
    if (err != KV_OK) {
        again(j, "an answer that does not parse");
    } else if (reply.err == KV_OK && v.type == RESP_BULK) {
        admitted(j, v.text);
    } else {
        struct kv_slice said = v.type == RESP_ERROR ? v.text : reply.detail;
        if (said.size > 4 && memcmp(said.data, "ERR ", 4) == 0) said = kv_slice(said.data + 4, said.size - 4);
        (void)snprintf(text, sizeof text, "%.*s", (int)(said.size < 280 ? said.size : 280), said.size == 0 ? "" : (const char *)said.data);
        const char *what = text[0] != '\0' ? text : kv_err_text(reply.err);
        if (is_final(reply.err)) refused(j, reply.err, what);
        else again(j, what);
    }
    kv_arena_free(&arena);
}

/* ---- the question ---- */

static void send_out(struct dialled *d);

static void write_done(struct env_write *w, enum kv_err err)
{
    struct dialled *d = container_of(w, struct dialled, write);
    d->writing = false;
    kv_buf_clear(&d->sending);
    if (d->j != NULL && err == KV_OK) send_out(d);
}

static void send_out(struct dialled *d)
{
    struct env *e = d->j->o.env;
    if (d->writing || d->out.size == 0) return;
    struct kv_buf swap = d->sending;
    d->sending = d->out;
    d->out = swap;
    d->part = kv_buf_slice(&d->sending);
    d->write = (struct env_write){.done = write_done, .parts = &d->part, .part_count = 1};
    d->writing = true;
    e->ops->write(e, &d->socket, &d->write);
}

static void ask(struct dialled *d)
{
    struct join *j = d->j;
    const struct config *c = j->o.config;
    struct kv_buf node = {0}, frame = {0};
    uint32_t roles = config_roles(c);
    bool opens = kv_node_has(roles, KV_NODE_GATEWAY);
    struct kv_node_info self = {.id = UINT32_MAX, /* not known yet */
                                .host = kv_str(c->native_host),
                                .port = (uint16_t)c->native_port,
                                .resp = opens ? (uint16_t)c->resp_port : 0,
                                .resp_cluster = opens ? (uint16_t)c->resp_cluster_port : 0,
                                .roles = roles,
                                .key = kv_slice(j->o.identity->public_key, CHANNEL_KEY_BYTES),
                                .zone = kv_str(c->node_zone)};
    kv_node_encode(&self, &node);
    struct kv_slice args[2] = {kv_slice(j->token.secret, sizeof j->token.secret), kv_buf_slice(&node)};
    kv_request_encode(&(struct kv_request){.id = 1, .op = KV_OP_KSJOIN, .args = args, .arg_count = 2, .deadline_ms = ANSWER_MS}, &frame);
    struct kv_slice part = kv_buf_slice(&frame);
    d->asked = true;
    if (!node.failed && !frame.failed && channel_send(d->channel, &part, 1) == KV_OK) channel_flush(d->channel, &d->out);
    kv_buf_free(&node);
    kv_buf_free(&frame);
}

static enum kv_err judge(void *context, const uint8_t key[CHANNEL_KEY_BYTES], struct kv_slice payload, const char **why)
{
    struct dialled *d = context;
    struct hello self = {.role = HELLO_JOIN}, peer;
    (void)key; /* not known beforehand; that it is of the token's cluster is all that can be asked */
    memcpy(self.cluster, d->j->token.cluster, sizeof self.cluster);
    enum kv_err err = hello_decode(payload, &peer);
    if (err != KV_OK) return err;
    if (peer.role != HELLO_NODE || memcmp(peer.cluster, self.cluster, sizeof self.cluster) != 0) {
        hello_mismatch(&self, &peer, d->mismatch);
        *why = d->mismatch;
        return KV_WRONG_CLUSTER;
    }
    return KV_OK;
}

static void on_open(struct env_conn *s, enum kv_err err)
{
    struct dialled *d = container_of(s, struct dialled, socket);
    if (d->j == NULL || err != KV_OK) return; /* on_close follows */
    struct join *j = d->j;
    struct env *e = j->o.env;
    struct kv_buf hello = {0};
    struct hello h = {.role = HELLO_JOIN};
    memcpy(h.cluster, j->token.cluster, sizeof h.cluster);
    hello_encode(&h, &hello);
    struct channel_options o = {.role = CHANNEL_DIAL,
                                .self = j->o.identity,
                                .prologue = kv_str(HELLO_PROLOGUE),
                                .payload = kv_buf_slice(&hello),
                                .judge = judge,
                                .judge_context = d};
    for (size_t i = 0; i < sizeof o.ephemeral_seed; i += 8) le64_put(o.ephemeral_seed + i, e->ops->random(e));
    void *memory = malloc(channel_memory());
    if (memory == NULL || hello.failed) {
        free(memory);
        again(j, "out of memory");
    } else {
        d->channel = channel_init(memory, &o);
        channel_start(d->channel, &d->out);
        send_out(d);
    }
    kv_buf_free(&hello);
}

static void on_bytes(struct env_conn *s, struct kv_slice bytes)
{
    struct dialled *d = container_of(s, struct dialled, socket);
    struct kv_slice frame;
    if (d->j == NULL || d->channel == NULL) return;
    enum kv_err err = channel_feed(d->channel, bytes, &d->out);
    if (err == KV_OK && channel_established(d->channel) && !d->asked) ask(d);
    send_out(d);
    while (d->j != NULL && channel_next(d->channel, &frame))
        if (frame.size > 0 && frame.data[0] == KV_FRAME_REPLY) answered(d->j, kv_slice(frame.data + 1, frame.size - 1));
    if (err == KV_OK || d->j == NULL) return;
    const char *said = channel_refusal(d->channel);
    if (said[0] == '\0') said = kv_err_text(err);
    if (err == KV_WRONG_CLUSTER || err == KV_VERSION || err == KV_AUTH) refused(d->j, err, said);
    else again(d->j, said);
}

static void on_close(struct env_conn *s, enum kv_err err)
{
    struct dialled *d = container_of(s, struct dialled, socket);
    struct join *j = d->j;
    if (j != NULL) {
        j->dialled = NULL;
        again(j, err == KV_OK ? "the connection was closed" : kv_err_text(err));
    }
    dialled_free(d);
}

static void fire(struct env_timer *t)
{
    struct join *j = container_of(t, struct join, timer);
    struct env *e = j->o.env;
    if (j->dialled != NULL) {
        again(j, "no answer");
        return;
    }
    struct dialled *d = calloc(1, sizeof *d);
    e->ops->timer_start(e, &j->timer, KV_MS(TRY_MS));
    if (d == NULL) return; /* as one without an answer */
    d->j = j;
    d->socket.on_open = on_open;
    d->socket.on_bytes = on_bytes;
    d->socket.on_close = on_close;
    j->dialled = d;
    e->ops->connect(e, &d->socket, &j->to, &j->from);
}

enum kv_err join_start(const struct join_options *o, struct join **out)
{
    struct join *j = calloc(1, sizeof *j);
    if (j == NULL) return KV_NO_SPACE;
    j->o = *o;
    j->wait_ms = WAIT_MS_MIN;
    j->timer.fire = fire;
    bool parsed = pool_addr_parse(kv_str(o->config->cluster_join), &j->to) && join_token_parse(o->config->cluster_token, &j->token);
    assert(parsed); /* config_set() and config_check() saw to it */
    (void)parsed;
    (void)snprintf(j->from.host, sizeof j->from.host, "%.63s", o->config->native_host);
    j->give_up_ns = env_now_ns(o->env) + o->config->cluster_join_time;
    *out = j;
    o->env->ops->timer_start(o->env, &j->timer, 0);
    return KV_OK;
}

void join_destroy(struct join *j, bool is_crash)
{
    if (j == NULL) return;
    struct dialled *d = j->dialled;
    if (is_crash && d != NULL) dialled_free(d);
    else drop(j);
    if (!is_crash) j->o.env->ops->timer_stop(j->o.env, &j->timer);
    free(j);
}

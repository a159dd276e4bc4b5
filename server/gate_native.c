#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/wire/channel.h"
#include "client/wire/hello.h"
#include "client/wire/join_token.h"
#include "client/wire/message.h"
#include "server/exec_nodes.h"
#include "server/gate.h"
#include "server/host.h"
#include "server/lines.h"
#include "server/nodes.h"
#include "server/peer.h"

/* The native front door: frames over a Noise channel, for clients and for other nodes. Who
 * is at the other end is settled by its key during the handshake (R25): a node of ours, a
 * client of ours, or nobody. Replies leave as they come. */
enum { JOIN_FRAME_BYTES_MAX = 1024,
       JOIN_NODE_BYTES_MAX = 512,
       JOIN_ANSWER_MS = 3000 };
struct joiner { /* its question, asked twice: whether it is welcome, which costs no entry, then to join */
    uint64_t id;
    uint8_t hash[JOIN_TOKEN_HASH_BYTES], node[JOIN_NODE_BYTES_MAX];
    size_t node_size;
    bool is_asked, is_welcome;
};

struct native {
    struct channel *channel;
    struct kv_arena arena;
    struct kv_buf frame;   /* being encoded */
    uint32_t node;         /* of a peer node; 0 = a client */
    struct joiner *joiner; /* NULL: not one that asks to join */
    bool draining;
    struct kv_map lines;
    char mismatch[HELLO_MISMATCH_BYTES];
};

static enum kv_err judge(void *context, const uint8_t key[CHANNEL_KEY_BYTES], struct kv_slice payload, const char **why)
{
    struct gate *g = context;
    struct native *n = g->state;
    struct worker *w = host_worker(g);
    struct hello hello;
    enum kv_err err = hello_decode(payload, &hello);
    if (err != KV_OK) {
        *why = "the handshake's hello does not parse";
        return err;
    }
    err = node_match(w, &hello, n->mismatch);
    if (err != KV_OK) {
        *why = n->mismatch;
        return err;
    }
    if (hello.role == HELLO_NODE) {
        const struct nodes_entry *node = nodes_find(w, hello.node);
        if (node == NULL || memcmp(node->key, key, CHANNEL_KEY_BYTES) != 0) {
            *why = "no node of this cluster has that id and key";
            return KV_AUTH;
        }
        if (node->state == KV_NODE_REMOVED) {
            (void)snprintf(n->mismatch, sizeof n->mismatch,
                           "node %u was removed from this cluster; to come back it needs a fresh key and a new token", node->id);
            *why = n->mismatch;
            return KV_AUTH;
        }
        n->node = hello.node;
        g->is_node = true;
        peer_inbound_opened(w->peers, n->node, g);
    } else if (hello.role == HELLO_JOIN) { /* stays a stranger, with one small question */
        n->joiner = calloc(1, sizeof *n->joiner);
        if (n->joiner == NULL) return KV_BUSY;
        channel_limit(n->channel, JOIN_FRAME_BYTES_MAX);
        return KV_OK;
    } else if (!keys_allowed_has(w->o.clients, key)) {
        *why = "the client's key is not in clients.keys of this node";
        return KV_AUTH;
    }
    g->is_stranger = false;
    return KV_OK;
}

bool gate_native_is_welcome(struct gate *g)
{
    const struct native *n = g->state;
    if (n->node != 0 || n->joiner != NULL || !channel_established(n->channel)) return true; /* a peer; or it will be judged yet */
    return keys_allowed_has(host_worker(g)->o.clients, channel_peer_key(n->channel));
}

static enum kv_err native_open(struct gate *g)
{
    struct native *n = g->state;
    struct worker *w = host_worker(g);
    void *memory = malloc(channel_memory());
    if (memory == NULL) return KV_NO_SPACE;
    uint8_t bytes[HELLO_BYTES_MAX];
    struct channel_options o = node_channel(w, CHANNEL_ACCEPT, bytes);
    o.judge = judge;
    o.judge_context = g;
    n->channel = channel_init(memory, &o);
    g->is_stranger = true;
    kv_arena_init(&n->arena, 2 * CHANNEL_FRAME_BYTES_MAX);
    kv_map_init(&n->lines);
    return KV_OK;
}

static void send_frame(struct gate *g, struct kv_slice frame)
{
    struct native *n = g->state;
    if (channel_send(n->channel, &frame, 1) != KV_OK) g->closing = true;
    host_touch(g);
}

static void join_submit(struct gate *g, enum kv_op op)
{
    struct joiner *j = ((struct native *)g->state)->joiner;
    struct kv_slice args[2] = {kv_slice(j->hash, sizeof j->hash), kv_slice(j->node, j->node_size)};
    struct kv_request r = {.id = j->id, .op = op, .args = args, .arg_count = 2, .deadline_ms = JOIN_ANSWER_MS};
    (void)g->services->submit(g, &r); /* the only one open */
}

/* The one request of who joins: the token, of which only the hash goes further, and a node with the key that the handshake proved. */
static enum kv_err join_take(struct gate *g, struct kv_slice body)
{
    struct native *n = g->state;
    struct joiner *j = n->joiner;
    struct kv_request r;
    struct kv_node_info node;
    if (j->is_asked) return KV_DENIED;
    j->is_asked = true;
    kv_arena_reset(&n->arena);
    enum kv_err err = kv_request_decode(body, &n->arena, &r);
    if (err != KV_OK) return err;
    if (r.op != KV_OP_KSJOIN || r.arg_count != 2 || r.args[0].size != JOIN_TOKEN_SECRET_BYTES || r.args[1].size > sizeof j->node)
        return KV_DENIED;
    if (kv_node_decode(r.args[1], &n->arena, &node) != KV_OK) return KV_MALFORMED;
    if (!kv_slice_eq(node.key, kv_slice(channel_peer_key(n->channel), CHANNEL_KEY_BYTES))) return KV_AUTH;
    j->id = r.id;
    join_token_hash(r.args[0].data, j->hash);
    memcpy(j->node, r.args[1].data, j->node_size = r.args[1].size);
    join_submit(g, KV_OP_KSWELCOME);
    return KV_OK;
}

static void native_reply(struct gate *g, const struct kv_reply *reply)
{
    struct native *n = g->state;
    if (n->joiner != NULL && !n->joiner->is_welcome && reply->err == KV_OK) {
        n->joiner->is_welcome = true;
        join_submit(g, KV_OP_KSJOIN);
        return;
    }
    if (peer_refuses(reply)) lines_refuse(&n->lines, reply->partition);
    kv_buf_clear(&n->frame);
    kv_reply_encode(reply, &n->frame);
    if (n->frame.failed) g->closing = true;
    else send_frame(g, kv_buf_slice(&n->frame));
    if (channel_pending(n->channel) > 256 << 10) channel_flush(n->channel, g->out);
}

/* About a node or the cluster, nobody's data: every node answers who shows a client's key, or an operator could not look
 * at one that takes no clients; and KVMAP tells them where to go. */
static bool is_administration(enum kv_op op)
{
    const struct kv_op_info *info = kv_op_info(op);
    return info == NULL || info->kind == KV_OP_KIND_A || kv_op_is_directory(op) || op == KV_OP_KVMOVE || op == KV_OP_KVLEAD;
}

/* With the error that has a client fetch the map: it knows this node by another role. */
static void refuse_client(struct gate *g, const struct kv_request *r)
{
    char text[120];
    (void)snprintf(text, sizeof text, "node %u takes no clients, it has not the role gateway; next: another node, see kvctl node list",
                   host_worker(g)->node_id);
    struct kv_reply reply = {.id = r->id, .err = KV_WRONG_SHARD, .applied = KV_APPLIED_NO, .node = host_worker(g)->node_id, .detail = kv_str(text)};
    native_reply(g, &reply);
}

static enum kv_err frame_take(struct gate *g, struct kv_slice frame)
{
    struct native *n = g->state;
    if (frame.size == 0) return KV_MALFORMED;
    struct kv_slice body = kv_slice(frame.data + 1, frame.size - 1);
    if (n->joiner != NULL) return frame.data[0] == KV_FRAME_REQUEST ? join_take(g, body) : KV_DENIED;
    switch (frame.data[0]) {
    case KV_FRAME_REQUEST: {
        struct kv_request r;
        kv_arena_reset(&n->arena);
        enum kv_err err = kv_request_decode(body, &n->arena, &r);
        if (err == KV_BAD_ARGUMENT) { /* the frame is whole, the operation is unknown here */
            struct kv_reply reply = {.id = r.id, .err = err, .detail = kv_str("no such operation or level")};
            native_reply(g, &reply);
            return KV_OK;
        }
        if (err != KV_OK) return err;
        bool is_nodes_own = r.op == KV_OP_KSJOIN || r.op == KV_OP_KSSEED || r.op == KV_OP_KSWELCOME || r.op == KV_OP_JOBCLAIM ||
                            r.op == KV_OP_JOBSTEP || r.op == KV_OP_KVLABELS ||
                            (r.op == KV_OP_KSNODE && r.arg_count > 2 && kv_slice_eq(r.args[1], kv_str(EXEC_NODE_SELF)));
        if (n->node == 0 && is_nodes_own) {
            struct kv_reply reply = {.id = r.id, .err = KV_DENIED, .detail = kv_str("only a node asks that, for itself")};
            native_reply(g, &reply);
            return KV_OK;
        }
        if (n->node == 0 && !nodes_serves_clients(host_worker(g)) && !is_administration(r.op)) {
            refuse_client(g, &r);
            return KV_OK;
        }
        r.roams = n->node == 0;
        if (r.roams) r.hops = r.round = 0; /* only nodes forward */
        if (r.round != 0 && !lines_go_on(&n->lines, &r)) {
            struct kv_reply reply = {.id = r.id, .err = KV_NOT_LEADER, .partition = r.line, .detail = kv_str("an earlier write of its line was refused")};
            native_reply(g, &reply);
            return KV_OK;
        }
        if (n->node == 0) g->commands++; /* what nodes forward is counted where it came in */
        if (g->services->submit(g, &r) == KV_BUSY) {
            struct kv_reply reply = {.id = r.id, .err = KV_BUSY, .retry_after_ms = 20, .detail = kv_str("over limit.requests on this connection")};
            native_reply(g, &reply);
        }
        return KV_OK;
    }
    case KV_FRAME_PING: {
        uint8_t pong[9] = {KV_FRAME_PONG};
        if (body.size != 8) return KV_MALFORMED;
        memcpy(pong + 1, body.data, 8);
        send_frame(g, kv_slice(pong, sizeof pong));
        return KV_OK;
    }
    case KV_FRAME_PEER: {
        if (n->node == 0) return KV_DENIED;
        kv_buf_clear(&n->frame);
        enum kv_err err = peer_receive(host_worker(g)->peers, n->node, body, &n->frame);
        if (err == KV_OK && n->frame.size > 0) send_frame(g, kv_buf_slice(&n->frame));
        return err;
    }
    default: return KV_MALFORMED;
    }
}

/* Who asks and does not read is not answered further; the host closes readers at the whole limit. */
static bool output_is_full(const struct gate *g)
{
    const struct native *n = g->state;
    return g->out->size + channel_pending(n->channel) > g->services->output_bytes_max / 4;
}

static enum kv_err native_feed(struct gate *g, struct kv_slice in, size_t *consumed)
{
    struct native *n = g->state;
    *consumed = in.size; /* the channel keeps what is incomplete */
    enum kv_err err = channel_feed(n->channel, in, g->out);
    struct kv_slice frame;
    while (err == KV_OK) {
        if (output_is_full(g)) return KV_BUSY; /* the channel keeps the frames for the next call */
        if (!channel_next(n->channel, &frame)) break;
        err = frame_take(g, frame);
    }
    if (err != KV_OK) {
        struct worker *w = host_worker(g);
        JOURNAL(w->journal, client, WARN, "native-refused", "peer=%s:%u err=%s why=\"%s\"", g->peer.host, g->peer.port,
                kv_err_name(err), channel_refusal(n->channel));
        return err;
    }
    if (channel_established(n->channel)) channel_flush(n->channel, g->out);
    return KV_OK;
}

/* Replies of one turn are sealed together. */
void gate_native_seal(struct gate *g)
{
    struct native *n = g->state;
    if (g->ops == &gate_native && n->channel != NULL && channel_pending(n->channel) > 0)
        channel_flush(n->channel, g->out);
}

void gate_native_drain(struct gate *g)
{
    struct native *n = g->state;
    if (n->node == 0 && !n->draining && channel_established(n->channel)) {
        uint8_t drain = KV_FRAME_DRAIN;
        send_frame(g, kv_slice(&drain, 1));
    }
    n->draining = true;
}

static void native_close(struct gate *g)
{
    struct native *n = g->state;
    if (n->node != 0) peer_inbound_closed(host_worker(g)->peers, n->node, g);
    if (n->channel != NULL) channel_wipe(n->channel);
    free(n->channel);
    n->channel = NULL;
    free(n->joiner);
    n->joiner = NULL;
    kv_arena_free(&n->arena);
    kv_buf_free(&n->frame);
    kv_map_free(&n->lines);
}

const struct gate_ops gate_native = {
    .name = "native",
    .ordered = false,
    .state_bytes = sizeof(struct native),
    .open = native_open,
    .feed = native_feed,
    .reply = native_reply,
    .close = native_close,
};

#include "server/peer_impl.h"

#include <assert.h>
#include <stdlib.h>

#include "client/base/endian.h"
#include "server/keyspaces.h"
#include "server/map.h"
#include "server/request.h"
#include "server/siblings.h"

/* One connection to another node: who both sides are, dialling, heartbeats, and what is left of it when it ends. */

static struct hello self(const struct worker *w)
{
    struct hello h = {.role = HELLO_NODE,
                      .node = w->node_id,
                      .store = store_id(w->store),
                      .name = kv_str(w->config->cluster_name)};
    memcpy(h.cluster, w->cluster_id, sizeof h.cluster);
    return h;
}

enum kv_err node_match(const struct worker *w, const struct hello *peer, char why[])
{
    struct hello h = self(w);
    const char *in_short;
    enum kv_err err = hello_match(&h, peer, &in_short);
    if (err != KV_OK) hello_mismatch(&h, peer, why);
    return err;
}

struct channel_options node_channel(struct worker *w, enum channel_role role, uint8_t *hello)
{
    struct hello h = self(w);
    struct kv_buf b = {0};
    hello_encode(&h, &b);
    size_t size = b.size;
    assert(!b.failed && size > 0 && size <= HELLO_BYTES_MAX);
    memcpy(hello, kv_buf_slice(&b).data, size);
    kv_buf_free(&b);
    struct channel_options o = {
        .role = role, .self = w->o.identity, .prologue = kv_str(HELLO_PROLOGUE), .payload = kv_slice(hello, size)};
    for (size_t i = 0; i < sizeof o.ephemeral_seed; i += 8) le64_put(o.ephemeral_seed + i, worker_random(w));
    return o;
}

/* Dialled anew with jitter, at least every 200 ms, so that within a second of healing every
 * link is up again (R13). A dial that met silence has waited already. */
void link_drop(struct peer *peer, const char *why)
{
    struct worker *w = peer->p->w;
    if (peer->socket == NULL) return;
    bool silent = peer->state == LINK_DIALLING && env_now_ns(w->env) - peer->beat_ns >= KV_MS(100);
    struct link *l = container_of(peer->socket, struct link, socket);
    if (peer->state == LINK_UP || !peer->reported)
        JOURNAL(w->journal, peer, WARN, "link-down", "node=%u why=\"%s\"", peer->node.id, why);
    peer->reported = true;
    bool was_up = peer->state == LINK_UP;
    if (was_up) peer->seen_ns = env_now_ns(w->env);
    l->peer = NULL;
    peer->socket = NULL;
    peer->state = LINK_DOWN;
    if (peer->channel != NULL) channel_wipe(peer->channel);
    peer->channel = NULL;
    kv_buf_clear(&peer->batch);
    kv_buf_clear(&peer->out);
    uint64_t jitter = worker_random(w) % KV_MS(150);
    peer->dial_ns = env_now_ns(w->env) + (peer->stranger ? KV_SECONDS(1) + jitter : silent ? jitter / 8
                                                                                           : jitter);
    peer->stranger = false;
    w->env->ops->close(w->env, &l->socket);
    peer_forwards_park(peer);
    if (was_up && !peer->p->stopping) peers_closed(w, peer->node.id);
}

static void on_close(struct env_conn *s, enum kv_err err)
{
    struct link *l = container_of(s, struct link, socket);
    if (l->peer != NULL) link_drop(l->peer, kv_err_text(err));
    kv_buf_free(&l->sending);
    free(l);
}

void link_write(struct peer *peer);

static void write_done(struct env_write *write, enum kv_err err)
{
    struct link *l = container_of(write, struct link, write);
    l->writing = false;
    kv_buf_clear(&l->sending);
    kv_buf_shrink(&l->sending, 256 << 10);
    if (l->peer == NULL) return;
    if (err != KV_OK) link_drop(l->peer, "write failed");
    else link_write(l->peer);
}

void link_write(struct peer *peer)
{
    if (peer->socket == NULL || peer->out.size == 0) return;
    struct link *l = container_of(peer->socket, struct link, socket);
    if (l->writing) return;
    struct kv_buf swap = l->sending;
    l->sending = peer->out;
    peer->out = swap;
    l->part = kv_buf_slice(&l->sending);
    l->write = (struct env_write){.done = write_done, .parts = &l->part, .part_count = 1};
    l->writing = true;
    peer->p->w->env->ops->write(peer->p->w->env, &l->socket, &l->write);
}

static enum kv_err judge(void *context, const uint8_t key[CHANNEL_KEY_BYTES], struct kv_slice payload, const char **why)
{
    struct peer *peer = context;
    struct hello h;
    enum kv_err err = hello_decode(payload, &h);
    if (err != KV_OK) return err;
    err = node_match(peer->p->w, &h, peer->mismatch);
    if (err != KV_OK) {
        *why = peer->mismatch;
        return err;
    }
    if (h.role != HELLO_NODE || h.node != peer->node.id || memcmp(key, peer->node.key, CHANNEL_KEY_BYTES) != 0) {
        *why = "it is not the node that the cluster knows by this id and key";
        return KV_AUTH;
    }
    return KV_OK;
}

static void on_open(struct env_conn *s, enum kv_err err)
{
    struct link *l = container_of(s, struct link, socket);
    struct peer *peer = l->peer;
    if (peer == NULL || err != KV_OK) return; /* on_close follows */
    struct worker *w = peer->p->w;
    uint8_t bytes[HELLO_BYTES_MAX];
    struct channel_options o = node_channel(w, CHANNEL_DIAL, bytes);
    o.judge = judge;
    o.judge_context = peer;
    peer->channel = channel_init(peer->channel_memory, &o);
    peer->state = LINK_HANDSHAKE;
    peer->beat_sent = peer->beat_answered = 0;
    channel_start(peer->channel, &peer->out);
    link_write(peer);
}
static void beat_answered(void *context, const struct peer_beat *beat)
{
    struct peer *peer = context;
    if (beat->answers <= peer->beat_answered || beat->answers > peer->beat_sent) return;
    peer->beat_answered = beat->answers;
    uint64_t now = env_now_ns(peer->p->w->env), took = now - peer->beat_sent_ns[beat->answers % PEER_BEATS];
    if (took > KV_MS(CLOCK_SKEW_MS_MAX / 2)) return; /* too vague: its clock was read at some moment in between */
    peer->clock_ns = now;
    peer->clock_ms = beat->wall_ms + took / 2 / 1000000u;
}
static void lost_ignored(void *context, const struct peer_lost *l)
{
    (void)context, (void)l;
}
static void raft_ignored(void *context, uint32_t group, const struct raft_msg *m, const struct log_entry *e)
{
    (void)context, (void)group, (void)m, (void)e;
}
static void snapshot_ignored(void *context, const struct peer_snapshot *s)
{
    (void)context, (void)s;
}
static void on_bytes(struct env_conn *s, struct kv_slice bytes)
{
    struct link *l = container_of(s, struct link, socket);
    struct peer *peer = l->peer;
    if (peer == NULL) return;
    struct worker *w = peer->p->w;
    worker_clock_forget(w);
    enum kv_err err = channel_feed(peer->channel, bytes, &peer->out);
    if (err == KV_OK && peer->state == LINK_HANDSHAKE && channel_established(peer->channel)) {
        peer->state = LINK_UP;
        peer->reported = peer->refusal_reported = peer->shuns = false;
        peer->beat_ns = 0;
        JOURNAL(w->journal, peer, INFO, "link-up", "node=%u", peer->node.id);
        request_wake(w);
        map_tell_again(w);
        siblings_peer_event(w, peer->node.id, true);
        peer_send_nodes(peer);
        keyspaces_tell(w, peer->node.id);
    }
    link_write(peer);
    struct kv_slice frame;
    while (err == KV_OK && peer->socket == s && channel_next(peer->channel, &frame)) {
        struct kv_slice body = kv_slice(frame.data + 1, frame.size - 1);
        if (frame.size == 0) {
            err = KV_MALFORMED;
        } else if (frame.data[0] == KV_FRAME_REPLY) {
            peer_forward_reply(peer, body);
        } else if (frame.data[0] == KV_FRAME_PEER) {
            struct peer_reader reader = {.context = peer, .beat = beat_answered, .lost = lost_ignored, .raft = raft_ignored, .snapshot = snapshot_ignored};
            kv_arena_reset(&peer->p->arena);
            err = peer_batch_read(body, &peer->p->arena, &reader);
        }
    }
    if (err != KV_OK && peer->socket == s) {
        const char *why = channel_refusal(peer->channel);
        if (!peer->refusal_reported)
            JOURNAL(w->journal, peer, WARN, "link-refused", "node=%u err=%s why=\"%s\"", peer->node.id,
                    kv_err_name(err), why);
        peer->reported = peer->refusal_reported = true;
        peer->stranger = err == KV_AUTH || err == KV_WRONG_CLUSTER || err == KV_VERSION;
        bool is_news = peer->stranger && !peer->shuns;
        peer->shuns |= peer->stranger;
        link_drop(peer, why[0] != '\0' ? why : kv_err_text(err));
        if (is_news) request_wake(w); /* who waited for it need not any more */
    }
}

void link_dial(struct peer *peer)
{
    struct worker *w = peer->p->w;
    struct link *l = calloc(1, sizeof *l);
    if (l == NULL) return;
    l->peer = peer;
    l->socket.on_open = on_open;
    l->socket.on_bytes = on_bytes;
    l->socket.on_close = on_close;
    peer->socket = &l->socket;
    peer->state = LINK_DIALLING;
    peer->beat_ns = env_now_ns(w->env);
    kv_buf_clear(&peer->out);
    struct env_addr to = {.port = peer->node.native}, from = {.port = 0};
    memcpy(to.host, peer->node.host, sizeof to.host);
    size_t n = strlen(w->config->native_host);
    memcpy(from.host, w->config->native_host, n < sizeof from.host ? n : sizeof from.host - 1);
    w->env->ops->connect(w->env, &l->socket, &to, &from);
}

void link_free(struct peer *peer)
{
    if (peer->channel != NULL) channel_wipe(peer->channel);
    if (peer->socket == NULL) return;
    struct link *l = container_of(peer->socket, struct link, socket);
    kv_buf_free(&l->sending);
    free(l);
}

void link_seal(struct peer *peer)
{
    peer->has_directory = false;
    if (peer->batch.size == 0) return;
    if (peer->state == LINK_UP && !peer->batch.failed) {
        uint8_t kind = KV_FRAME_PEER;
        struct kv_slice parts[2] = {kv_slice(&kind, 1), kv_buf_slice(&peer->batch)};
        if (channel_send(peer->channel, parts, 2) != KV_OK) link_drop(peer, "a batch over the frame limit");
    }
    kv_buf_clear(&peer->batch);
}

static void link_beat(struct peer *peer, uint64_t now_ns)
{
    struct worker *w = peer->p->w;
    peer->beat_ns = now_ns;
    peer->beat_sent_ns[++peer->beat_sent % PEER_BEATS] = now_ns;
    struct peer_beat beat = {.sequence = peer->beat_sent,
                             .wall_ms = env_wall_ms(w->env),
                             .birthmark = peer_birthmark(peer->p, w->node_id),
                             .full = siblings_node_is_full(w),
                             .workers = siblings_count(w)};
    peer_put_beat(&peer->batch, &beat);
    worker_turn(w);
}

void link_tick(struct peer *peer, uint64_t now_ns)
{
    const struct worker *w = peer->p->w;
    const struct config *c = w->config;
    uint64_t oldest = peer->beat_answered + 1;
    switch (peer->state) {
    case LINK_DOWN:
        if (now_ns >= peer->dial_ns) link_dial(peer);
        break;
    case LINK_DIALLING: /* one SYN a dial: the kernel repeats it only after 1 s */
        if (now_ns - peer->beat_ns >= KV_MS(150)) link_drop(peer, "no answer to dialling");
        break;
    case LINK_HANDSHAKE:
        if (now_ns - peer->beat_ns > 2 * c->raft_election) link_drop(peer, "no answer to the handshake");
        break;
    case LINK_UP:
        if (oldest <= peer->beat_sent && now_ns - peer->beat_sent_ns[oldest % PEER_BEATS] > c->raft_election)
            link_drop(peer, "heartbeats stayed unanswered");
        else if ((w->is_beat || peer->beat_ns == 0) && peer->beat_sent - peer->beat_answered < PEER_BEATS - 1)
            link_beat(peer, now_ns);
        break;
    }
}

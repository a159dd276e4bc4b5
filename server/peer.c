#include "server/peer.h"

#include <assert.h>
#include <stdlib.h>

#include "client/base/endian.h"
#include "client/wire/channel.h"
#include "client/wire/hello.h"
#include "server/birth.h"
#include "server/group.h"
#include "server/host.h"
#include "server/keyspaces.h"
#include "server/leave.h"
#include "server/map.h"
#include "server/merge.h"
#include "server/nodes.h"
#include "server/peer_codec.h"
#include "server/request.h"
#include "server/rest.h"
#include "server/scrub.h"
#include "server/seats.h"
#include "server/siblings.h"
#include "server/transfer.h"

enum { BACKLOG_MAX = 64 << 20,
       BEATS = 64,
       BATCH_BYTES = 4 << 20 };

struct peer {
    struct peers *p;
    struct nodes_entry node; /* as of the list that peers_sync() saw last */
    enum { LINK_DOWN,
           LINK_DIALLING,
           LINK_HANDSHAKE,
           LINK_UP } state;
    struct env_conn *socket; /* its memory lives until on_close, beyond a closed link */
    void *channel_memory;
    struct channel *channel;
    struct kv_buf batch; /* parts of this turn's frame */
    bool has_directory;  /* among them is one: of two, a reader would make one of all their keyspaces */
    struct kv_buf out;   /* sealed, for the socket */
    struct kv_buf encode;
    struct kv_map forwards; /* id -> struct request */
    uint64_t forward_next;
    struct kv_choice choice; /* of reads that other nodes could answer as well */
    uint64_t beat_sent, beat_answered, beat_ns, beat_sent_ns[BEATS];
    uint64_t dial_ns;            /* not before this */
    uint64_t clock_ns, clock_ms; /* its wall clock, and when it said so; 0: never */
    struct gate *inbound;        /* the connection it dialled, on which it sends; NULL: none */
    char mismatch[HELLO_MISMATCH_BYTES];
    bool is_full;
    uint32_t workers;
    uint64_t seen_ns;                /* when its link was last up; 0: never */
    uint64_t birthmark;              /* of its directory, as its heartbeats say */
    bool reported, refusal_reported; /* since the link was up: said once is enough */
    bool stranger;                   /* refused, by us or by it: no hurry to ask again */
    bool has_requests;               /* frames pending in the channel */
};

struct link { /* one dialled connection */
    struct env_conn socket;
    struct peer *peer; /* NULL: the link was given up */
    struct env_write write;
    struct kv_slice part;
    struct kv_buf sending;
    bool writing;
};

struct peers {
    struct worker *w;
    struct kv_arena arena;
    uint32_t count;
    uint64_t serial; /* of the list of nodes they are made after */
    bool stopping;
    struct kv_buf own, hearing; /* parts of replicas here for others here: of this turn, and those being read */
    struct peer *list[KV_NODES_MAX];
};

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

static struct peer *find(const struct peers *p, uint32_t node)
{
    for (uint32_t i = 0; i < p->count; i++)
        if (p->list[i]->node.id == node) return p->list[i];
    return NULL;
}

/* ---- the link ---- */

/* Forwarded requests carry an idempotency key if they write, so all may be sent again. */
static void forwards_park(struct peer *peer)
{
    uint32_t cursor = 0;
    uint64_t id;
    void *v;
    struct kv_map old = peer->forwards;
    kv_map_init(&peer->forwards);
    while (kv_map_next(&old, &cursor, &id, &v)) {
        struct request *r = v;
        if (r->is_write) r->maybe = true;
        if (request_is_anywhere(r)) kv_choice_forgotten(&peer->choice);
        request_returned(r, false);
        request_park(r, KV_MS(20));
    }
    kv_map_free(&old);
}

static void peer_closed(struct worker *w, uint32_t node)
{
    rest_peer_closed(w, node);
    siblings_peer_event(w, node, false);
}

/* Dialled anew with jitter, at least every 200 ms, so that within a second of healing every
 * link is up again (R13). A dial that met silence has waited already. */
static void link_drop(struct peer *peer, const char *why)
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
    forwards_park(peer);
    if (was_up && !peer->p->stopping) peer_closed(w, peer->node.id);
}

static void on_close(struct env_conn *s, enum kv_err err)
{
    struct link *l = container_of(s, struct link, socket);
    if (l->peer != NULL) link_drop(l->peer, kv_err_text(err));
    kv_buf_free(&l->sending);
    free(l);
}

static void link_write(struct peer *peer);

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

static void link_write(struct peer *peer)
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

bool peer_refuses(const struct kv_reply *reply)
{
    bool elsewhere = reply->err == KV_NOT_LEADER || reply->err == KV_NO_LEADER || reply->err == KV_CLOSED ||
                     reply->err == KV_WRONG_SHARD;
    return elsewhere && reply->applied == KV_APPLIED_NO;
}

/* It leads no more, and a quiet group would not notice. */
static void leader_doubted(const struct worker *w, uint32_t node, uint32_t partition)
{
    struct group *g = worker_group(w, partition);
    if (g != NULL && group_leader_node(g) == node) rest_wake(g);
}

void peer_answered(struct worker *w, uint32_t node, struct request *r, struct kv_reply *reply)
{
    bool refuses = peer_refuses(reply);
    r->wants_leader = r->wants_leader || (refuses && request_is_anywhere(r));
    request_returned(r, refuses);
    if (refuses) leader_doubted(w, node, r->partition);
    if (refuses && sibling_is_way(node)) r->maybe = r->doubted;    /* nothing is lost on that way: it was never taken */
    bool is_told = r->body.pinned && reply->err == KV_WRONG_SHARD; /* who named the partition asks again by itself */
    if (reply->err != KV_OK) map_learn_leader(w, r->partition, reply->leader);
    if (refuses && !is_told) {
        if (r->is_admitted) pace_excuse(r); /* the worker it was handed to has not served it */
        request_park(r, KV_MS(5));
        worker_turn(w);
        return;
    }
    if (r->is_write && reply->applied == KV_APPLIED_NO && r->maybe && reply->err != KV_OK && r->tries > 1 &&
        !(sibling_is_way(node) && !r->doubted))
        reply->applied = KV_APPLIED_MAYBE; /* an earlier sending may have taken effect */
    request_finish(r, reply);
}

static void forward_reply(struct peer *peer, struct kv_slice body)
{
    struct worker *w = peer->p->w;
    struct kv_reply reply;
    kv_arena_reset(&peer->p->arena);
    if (kv_reply_decode(body, &peer->p->arena, &reply) != KV_OK) {
        link_drop(peer, "a reply that does not parse");
        return;
    }
    struct request *r = kv_map_remove(&peer->forwards, reply.id);
    if (r == NULL) return; /* its deadline passed */
    if (request_is_anywhere(r)) {
        uint64_t now_ns = env_now_ns(w->env), took_ns = now_ns - r->asked_ns;
        if (peer_refuses(&reply) && took_ns < KV_CHOICE_REFUSAL_NS) took_ns = KV_CHOICE_REFUSAL_NS;
        kv_choice_answered(&peer->choice, took_ns, now_ns);
    }
    peer_answered(w, peer->node.id, r, &reply);
}

static void beat_answered(void *context, const struct peer_beat *beat)
{
    struct peer *peer = context;
    if (beat->answers <= peer->beat_answered || beat->answers > peer->beat_sent) return;
    peer->beat_answered = beat->answers;
    uint64_t now = env_now_ns(peer->p->w->env), took = now - peer->beat_sent_ns[beat->answers % BEATS];
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

static void send_nodes(struct peer *peer)
{
    struct kv_buf bytes = {0};
    if (peer->state != LINK_UP || nodes_version(peer->p->w) == 0) return; /* it has a configuration of its own */
    nodes_put(peer->p->w, &bytes);
    if (!bytes.failed) peer_put_nodes(&peer->batch, kv_buf_slice(&bytes));
    kv_buf_free(&bytes);
    worker_turn(peer->p->w);
}

void peers_send_nodes(struct peers *p)
{
    struct worker *w = p->w;
    for (uint32_t i = 0; i < p->count; i++) send_nodes(p->list[i]);
    for (uint32_t k = 1; siblings_is_face(w) && k < siblings_count(w); k++) {
        struct kv_buf bytes = {0}, *batch = siblings_batch(w, k, w->node_id);
        nodes_put(w, &bytes);
        if (batch != NULL && !bytes.failed) peer_put_nodes(batch, kv_buf_slice(&bytes));
        kv_buf_free(&bytes);
    }
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
        peer->reported = peer->refusal_reported = false;
        peer->beat_ns = 0;
        JOURNAL(w->journal, peer, INFO, "link-up", "node=%u", peer->node.id);
        request_wake(w);
        map_tell_again(w);
        siblings_peer_event(w, peer->node.id, true);
        send_nodes(peer);
        keyspaces_tell(w, peer->node.id);
    }
    link_write(peer);
    struct kv_slice frame;
    while (err == KV_OK && peer->socket == s && channel_next(peer->channel, &frame)) {
        struct kv_slice body = kv_slice(frame.data + 1, frame.size - 1);
        if (frame.size == 0) {
            err = KV_MALFORMED;
        } else if (frame.data[0] == KV_FRAME_REPLY) {
            forward_reply(peer, body);
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
        link_drop(peer, why[0] != '\0' ? why : kv_err_text(err));
    }
}

static void dial(struct peer *peer)
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

/* ---- life ---- */

static bool peer_add(struct peers *p, const struct nodes_entry *node)
{
    struct peer *peer = calloc(1, sizeof *peer);
    if (peer != NULL) peer->channel_memory = calloc(1, channel_memory());
    if (peer == NULL || peer->channel_memory == NULL || p->count == KV_NODES_MAX) {
        free(peer);
        return false;
    }
    peer->p = p;
    peer->node = *node;
    peer->seen_ns = env_now_ns(p->w->env); /* its absence counts from here on */
    p->list[p->count++] = peer;
    return true;
}

static void peer_free(struct peer *peer)
{
    free(peer->channel_memory);
    kv_buf_free(&peer->batch);
    kv_buf_free(&peer->out);
    kv_buf_free(&peer->encode);
    kv_map_free(&peer->forwards);
    free(peer);
}

/* It belongs to the cluster no more, or its place is another's. */
static void peer_leave(struct peers *p, uint32_t at)
{
    struct peer *peer = p->list[at];
    struct gate *inbound = peer->inbound;
    link_drop(peer, "the node was removed from the cluster");
    p->list[at] = p->list[--p->count];
    if (inbound != NULL) host_drop(inbound);
    if (!p->stopping) peer_closed(p->w, peer->node.id);
    peer_free(peer);
}

static bool same_node(const struct nodes_entry *a, const struct nodes_entry *b)
{
    return strcmp(a->host, b->host) == 0 && a->native == b->native && memcmp(a->key, b->key, sizeof a->key) == 0;
}

/* Links to all nodes of the list but this one. Outside of what peers call: some of them end here. */
static bool peers_sync(struct peers *p)
{
    const struct nodes_entry *n;
    bool ok = true;
    if (p->serial == nodes_serial(p->w) || !siblings_is_face(p->w)) return true;
    for (uint32_t i = p->count; i-- > 0;) {
        n = nodes_find(p->w, p->list[i]->node.id);
        if (n == NULL || n->state == KV_NODE_REMOVED || !same_node(n, &p->list[i]->node)) peer_leave(p, i);
    }
    for (uint32_t i = 0; (n = nodes_at(p->w, i)) != NULL; i++)
        if (n->id != p->w->node_id && n->state != KV_NODE_REMOVED && find(p, n->id) == NULL) ok = peer_add(p, n) && ok;
    if (ok) p->serial = nodes_serial(p->w);
    return ok;
}

enum kv_err peers_create(struct worker *w, struct peers **out)
{
    struct peers *p = calloc(1, sizeof *p);
    if (p == NULL) return KV_NO_SPACE;
    p->w = w;
    kv_arena_init(&p->arena, 4 * CHANNEL_FRAME_BYTES_MAX);
    if (!peers_sync(p)) {
        peers_destroy(p);
        return KV_NO_SPACE;
    }
    *out = p;
    return KV_OK;
}

void peers_start(struct peers *p)
{
    for (uint32_t i = 0; i < p->count; i++) dial(p->list[i]);
}

void peers_stop(struct peers *p)
{
    p->stopping = true;
    for (uint32_t i = 0; i < p->count; i++) link_drop(p->list[i], "this node is stopping");
}

void peers_destroy(struct peers *p)
{
    if (p == NULL) return;
    for (uint32_t i = 0; i < p->count; i++) {
        struct peer *peer = p->list[i];
        if (peer->channel != NULL) channel_wipe(peer->channel);
        if (peer->socket != NULL) {
            struct link *l = container_of(peer->socket, struct link, socket);
            kv_buf_free(&l->sending);
            free(l);
        }
        peer_free(peer);
    }
    kv_arena_free(&p->arena);
    kv_buf_free(&p->own);
    kv_buf_free(&p->hearing);
    free(p);
}

/* R14: our wall clock beside those of the others, as they were told within the last second. */
static void clocks_compare(struct peers *p, uint64_t now_ns)
{
    struct worker *w = p->w;
    uint64_t others[CLOCK_NODES_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct peer *peer = p->list[i];
        if (peer->clock_ns == 0 || now_ns - peer->clock_ns > KV_SECONDS(1)) continue;
        others[count++] = peer->clock_ms + (now_ns - peer->clock_ns) / 1000000u;
    }
    if (2 * (count + 1) <= p->count + 1) return; /* a minority tells nothing */
    if (!clock_judge(&w->clock, others, count, now_ns, env_wall_ms(w->env))) return;
    if (w->clock.alarm)
        JOURNAL(w->journal, main, ERROR, "clock-alarm", "ahead_ms=%lld action=\"set this machine's clock; until then "
                                                        "TTLs go by the monotonic one\"",
                (long long)w->clock.ahead_ms);
    else JOURNAL(w->journal, main, INFO, "clock-alarm-over", "ahead_ms=%lld", (long long)w->clock.ahead_ms);
}

void peers_tick(struct peers *p, uint64_t now_ns)
{
    const struct config *c = p->w->config;
    if (p->stopping) return;
    (void)peers_sync(p); /* short of memory: again with the next tick */
    clocks_compare(p, now_ns);
    for (uint32_t i = 0; i < p->count; i++) {
        struct peer *peer = p->list[i];
        if (peer->state == LINK_DOWN) {
            if (now_ns >= peer->dial_ns) dial(peer);
        } else if (peer->state == LINK_DIALLING) { /* one SYN a dial: the kernel repeats it only after 1 s */
            if (now_ns - peer->beat_ns >= KV_MS(150)) link_drop(peer, "no answer to dialling");
        } else if (peer->state == LINK_HANDSHAKE) {
            if (now_ns - peer->beat_ns > 2 * c->raft_election) link_drop(peer, "no answer to the handshake");
        } else {
            uint64_t oldest = peer->beat_answered + 1;
            if (oldest <= peer->beat_sent && now_ns - peer->beat_sent_ns[oldest % BEATS] > c->raft_election) {
                link_drop(peer, "heartbeats stayed unanswered");
            } else if ((p->w->is_beat || peer->beat_ns == 0) &&
                       peer->beat_sent - peer->beat_answered < BEATS - 1) {
                peer->beat_ns = now_ns;
                peer->beat_sent_ns[++peer->beat_sent % BEATS] = now_ns;
                struct peer_beat beat = {.sequence = peer->beat_sent,
                                         .wall_ms = env_wall_ms(p->w->env),
                                         .birthmark = peer_birthmark(p, p->w->node_id),
                                         .full = siblings_node_is_full(p->w),
                                         .workers = siblings_count(p->w)};
                peer_put_beat(&peer->batch, &beat);
                worker_turn(p->w);
            }
        }
    }
}

static void seal_batch(struct peer *peer)
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

void peers_flush(struct peers *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        struct peer *peer = p->list[i];
        seal_batch(peer);
        if (peer->state != LINK_UP) continue;
        if (channel_pending(peer->channel) > 0) channel_flush(peer->channel, &peer->out);
        if (peer->out.failed) link_drop(peer, "out of memory");
        else link_write(peer);
    }
}

/* ---- sending ---- */

static struct peer *ready_peer(struct peers *p, uint32_t node)
{
    struct peer *peer = find(p, node);
    if (peer == NULL || peer->state != LINK_UP || peer_backlog(p, node) > BACKLOG_MAX) return NULL;
    if (peer->batch.size > BATCH_BYTES) {
        seal_batch(peer);
        if (peer->state != LINK_UP) return NULL;
        channel_flush(peer->channel, &peer->out);
    }
    worker_turn(p->w);
    return peer;
}

/* Where parts for that node go this turn; NULL: nowhere, they are lost. */
static struct kv_buf *ready_batch(struct peers *p, uint32_t node)
{
    struct worker *w = p->w;
    if (!siblings_is_face(w)) {
        const struct peer_facts *f = siblings_facts(w, node);
        return node == w->node_id || (f != NULL && f->is_up) ? siblings_batch(w, 0, node) : NULL;
    }
    if (node == w->node_id && w->siblings != NULL) {
        worker_turn(w);
        return p->own.size < BACKLOG_MAX ? &p->own : NULL;
    }
    struct peer *peer = ready_peer(p, node);
    return peer == NULL ? NULL : &peer->batch;
}

bool peers_hear_own(struct peers *p)
{
    if (p->own.size == 0) return false;
    struct kv_buf swap = p->hearing;
    p->hearing = p->own;
    p->own = swap;
    kv_buf_clear(&p->own);
    if (!p->hearing.failed) (void)peer_receive(p, p->w->node_id, kv_buf_slice(&p->hearing), NULL);
    kv_buf_clear(&p->hearing);
    kv_buf_shrink(&p->hearing, 256 << 10);
    return true;
}

bool peers_say_own(const struct peers *p)
{
    return p->own.size > 0;
}

void peers_pass(struct peers *p, uint32_t node, struct kv_slice parts)
{
    for (uint32_t i = 0; i < p->count; i++) {
        if (node != 0 && p->list[i]->node.id != node) continue;
        struct peer *peer = ready_peer(p, p->list[i]->node.id);
        if (peer != NULL) kv_buf_append_slice(&peer->batch, parts);
    }
}

void peer_send_raft(struct peers *p, uint32_t node, uint32_t group, const struct raft_msg *m,
                    const struct log_entry *entries, uint32_t entry_count)
{
    struct kv_buf *batch = ready_batch(p, node);
    if (batch != NULL) peer_put_raft(batch, group, m, entries, entry_count);
}

void peer_send_lost(struct peers *p, uint32_t node, const struct peer_lost *l)
{
    struct kv_buf *batch = ready_batch(p, node);
    if (batch != NULL) peer_put_lost(batch, l);
}

void peer_send_birth(struct peers *p, uint32_t node, struct kv_slice descriptor, raft_id replica, bool founds)
{
    struct kv_buf *batch = ready_batch(p, node);
    if (batch != NULL) peer_put_birth(batch, descriptor, replica, founds);
}

static void facts_of(const struct peer *peer, struct peer_facts *out)
{
    *out = (struct peer_facts){.node = peer->node.id,
                               .is_up = peer->state == LINK_UP,
                               .is_heard = peer->state == LINK_UP && peer->inbound != NULL,
                               .is_full = peer->is_full,
                               .workers = peer->workers,
                               .birthmark = peer->birthmark,
                               .seen_ns = peer->seen_ns,
                               .backlog = peer_backlog(peer->p, peer->node.id)};
}

bool peers_facts(const struct peers *p, uint32_t index, struct peer_facts *out)
{
    if (index >= p->count) return false;
    facts_of(p->list[index], out);
    return true;
}

uint64_t peer_gone_ns(const struct peers *p, uint32_t node, uint64_t now_ns)
{
    const struct peer *peer = find(p, node);
    if (peer == NULL) return UINT64_MAX;
    return peer->state == LINK_UP ? 0 : now_ns - (peer->seen_ns != 0 ? peer->seen_ns : p->w->started_ns) + 1;
}

uint64_t peer_birthmark(const struct peers *p, uint32_t node)
{
    const struct worker *w = p->w;
    const struct peer *peer = find(p, node);
    const struct peer_facts *f = siblings_facts(w, node);
    if (node == w->node_id) return siblings_node_birthmark(w);
    return peer != NULL ? peer->birthmark : f != NULL ? f->birthmark
                                                      : 0;
}

void peers_send_directory(struct peers *p, uint32_t node, const struct peer_directory *d)
{
    for (uint32_t i = 0; i < p->count; i++) {
        if (node != 0 && p->list[i]->node.id != node) continue;
        struct peer *peer = ready_peer(p, p->list[i]->node.id);
        if (peer != NULL && peer->has_directory) seal_batch(peer);
        if (peer == NULL || peer->state != LINK_UP) continue;
        peer_put_directory(&peer->batch, d);
        peer->has_directory = true;
    }
    const struct worker *w = p->w;
    for (uint32_t k = 1; (node == 0 || node == w->node_id) && siblings_is_face(w) && k < siblings_count(w); k++) {
        struct kv_buf *batch = siblings_batch(p->w, k, w->node_id);
        if (batch != NULL) peer_put_directory(batch, d);
        siblings_batch_end(p->w, k); /* one a batch, likewise */
    }
}

/* What stands damaged in their stores hears nothing else (leave_told()). */
static void tell_damaged(struct worker *w, uint32_t node, struct kv_slice descriptor, uint64_t term)
{
    for (uint32_t k = 1; siblings_is_face(w) && k < siblings_count(w); k++) {
        struct kv_buf *batch = siblings_state(w, k)->damaged ? siblings_batch(w, k, node) : NULL;
        if (batch != NULL) peer_put_descriptor(batch, descriptor, term);
    }
}

void peers_send_descriptor(struct peers *p, struct kv_slice descriptor, uint64_t term)
{
    tell_damaged(p->w, p->w->node_id, descriptor, term);
    struct kv_buf *batch = siblings_is_face(p->w) ? NULL : siblings_batch(p->w, 0, 0);
    if (batch != NULL) peer_put_descriptor(batch, descriptor, term);
    for (uint32_t i = 0; i < p->count; i++) {
        struct peer *peer = ready_peer(p, p->list[i]->node.id);
        if (peer != NULL) peer_put_descriptor(&peer->batch, descriptor, term);
    }
}

void peer_send_scrub(struct peers *p, uint32_t node, const struct peer_scrub *s)
{
    struct kv_buf *batch = ready_batch(p, node);
    if (batch != NULL) peer_put_scrub(batch, s);
}

void peer_send_snapshot(struct peers *p, uint32_t node, const struct peer_snapshot *s)
{
    struct kv_buf *batch = ready_batch(p, node);
    if (batch != NULL) peer_put_snapshot(batch, s);
}

void peer_send_merge(struct peers *p, uint32_t node, const struct peer_merge *m)
{
    struct kv_buf *batch = ready_batch(p, node);
    if (batch != NULL) peer_put_merge(batch, m);
}

const struct kv_choice *peer_choice(const struct peers *p, uint32_t node)
{
    const struct peer *peer = find(p, node);
    return peer != NULL && peer->state == LINK_UP ? &peer->choice : NULL;
}

void peer_send_load(struct peers *p, uint32_t node, const struct peer_load *l)
{
    struct kv_buf *batch = ready_batch(p, node);
    if (batch != NULL) peer_put_load(batch, l);
}

bool peer_connected(const struct peers *p, uint32_t node)
{
    const struct peer *peer = find(p, node);
    const struct peer_facts *f = siblings_facts(p->w, node);
    if (node == p->w->node_id) return p->w->siblings != NULL; /* to a replica on another worker */
    return peer != NULL ? peer->state == LINK_UP : f != NULL && f->is_up;
}

bool peer_is_heard(const struct peers *p, uint32_t node)
{
    const struct peer *peer = find(p, node);
    const struct peer_facts *f = siblings_facts(p->w, node);
    if (node == p->w->node_id) return p->w->siblings != NULL;
    return peer != NULL ? peer->state == LINK_UP && peer->inbound != NULL : f != NULL && f->is_heard;
}

uint32_t peer_connected_count(const struct peers *p)
{
    uint32_t count = siblings_facts_connected(p->w);
    for (uint32_t i = 0; i < p->count; i++) count += p->list[i]->state == LINK_UP;
    return count;
}

uint64_t peer_backlog(const struct peers *p, uint32_t node)
{
    const struct peer *peer = find(p, node);
    const struct peer_facts *f = siblings_facts(p->w, node);
    if (f != NULL) return f->backlog;
    if (peer == NULL || peer->socket == NULL) return 0;
    const struct link *l = container_of(peer->socket, struct link, socket);
    return peer->batch.size + peer->out.size + (l->writing ? l->sending.size : 0);
}

bool peer_is_full(const struct peers *p, uint32_t node)
{
    const struct peer *peer = find(p, node);
    const struct peer_facts *f = siblings_facts(p->w, node);
    if (peer != NULL || f != NULL) return peer != NULL ? peer->is_full : f->is_full;
    return node == p->w->node_id && siblings_node_is_full(p->w);
}

uint32_t peer_workers(const struct peers *p, uint32_t node)
{
    const struct peer *peer = find(p, node);
    const struct peer_facts *f = siblings_facts(p->w, node);
    uint32_t said = peer != NULL ? peer->workers : f != NULL ? f->workers
                                                             : 0;
    if (node == p->w->node_id) return siblings_count(p->w);
    return said > 1 ? said : 1;
}

enum kv_err peer_forward(struct peers *p, uint32_t node, struct request *r)
{
    if (sibling_is_way(node)) return siblings_forward(p->w, node, r);
    struct peer *peer = ready_peer(p, node);
    if (peer == NULL) return KV_UNAVAILABLE;
    uint64_t now = env_now_ns(p->w->env);
    struct kv_request body = r->body;
    body.id = ++peer->forward_next;
    body.hops = r->body.hops + 1;
    body.deadline_ms = (uint32_t)(r->deadline_ns > now ? (r->deadline_ns - now) / 1000000u + 1 : 1);
    kv_buf_clear(&peer->encode);
    kv_request_encode(&body, &peer->encode);
    if (peer->encode.failed || !kv_map_put(&peer->forwards, body.id, r)) return KV_UNAVAILABLE;
    /* In the order of the requests, and behind what the batch holds already. */
    struct kv_slice frame = kv_buf_slice(&peer->encode);
    if (channel_send(peer->channel, &frame, 1) != KV_OK) {
        kv_map_remove(&peer->forwards, body.id);
        return KV_UNAVAILABLE;
    }
    if (r->is_write) {
        uint64_t last = now + KV_MS(KV_REPEAT_MS_MAX); /* it is sent again only while it is surely remembered */
        if (!r->maybe && r->deadline_ns > last) r->deadline_ns = last;
        r->maybe = true;
    }
    if (request_is_anywhere(r)) {
        r->asked_ns = now;
        kv_choice_asked(&peer->choice, now);
    }
    r->state = REQUEST_FORWARDED;
    r->context = body.id;
    r->forward_node = node;
    return KV_OK;
}

void peer_forget(struct peers *p, struct request *r)
{
    if (sibling_is_way(r->forward_node)) {
        siblings_forget(p->w, r);
        return;
    }
    struct peer *peer = find(p, r->forward_node);
    if (peer == NULL || kv_map_remove(&peer->forwards, r->context) == NULL) return;
    if (request_is_anywhere(r)) kv_choice_forgotten(&peer->choice);
}

/* ---- receiving ---- */

struct receiver {
    struct peers *p;
    uint32_t node;
    struct kv_buf *reply;
};

/* Where a part goes on to that is for a replica of another worker of this node. NULL: it is for here, or, `*lost`, for
 * nobody now. */
static struct kv_buf *passed_on(const struct receiver *v, uint32_t index, bool *lost)
{
    struct kv_buf *batch = index == 0 ? NULL : siblings_batch(v->p->w, index, v->node);
    *lost = index != 0 && batch == NULL;
    return batch;
}

static uint32_t worker_of(const struct receiver *v, uint32_t group, raft_id replica)
{
    return siblings_is_face(v->p->w) && v->p->w->siblings != NULL ? seats_of(v->p->w, group, replica) : 0;
}

static void got_beat(void *context, const struct peer_beat *beat)
{
    struct receiver *v = context;
    struct peer *peer = find(v->p, v->node);
    if (peer == NULL || v->reply == NULL) return;
    peer->is_full = beat->full;
    peer->workers = beat->workers;
    peer->birthmark = beat->birthmark;
    struct peer_beat answer = {.answers = beat->sequence, .wall_ms = env_wall_ms(v->p->w->env)};
    kv_buf_append_u8(v->reply, KV_FRAME_PEER);
    peer_put_beat(v->reply, &answer);
}

static void got_lost(void *context, const struct peer_lost *l)
{
    struct receiver *v = context;
    struct group *g = worker_group(v->p->w, l->group);
    struct kv_buf *batch;
    bool lost;
    for (uint32_t k = 1; siblings_is_face(v->p->w) && k < siblings_count(v->p->w); k++) /* whose leader it means is not said */
        if (seats_is_live(v->p->w, k, l->group) && (batch = passed_on(v, k, &lost)) != NULL) peer_put_lost(batch, l);
    if (g != NULL && l->gone && g->replica == l->replica) leave_group(g);
    if (g == NULL || l->gone || group_node_of(g, l->replica) != v->node) return;
    if (l->owed != 0) member_rowless(g, l->replica, l->owed);
    else if (l->unborn && birth_is_due(g, l->replica, peer_birthmark(v->p, v->node))) birth_send(g, l->replica);
    else member_lost(g, l->replica);
}

static void got_birth(void *context, struct kv_slice descriptor, raft_id replica, bool founds)
{
    struct receiver *v = context;
    birth_receive(v->p->w, descriptor, replica, founds);
}

/* Its log is here, and its parent has still to apply its birth again; not for ever, as that may never come. */
static bool awaits_birth(const struct worker *w, uint32_t group, raft_id replica)
{
    struct store_group sg;
    return env_now_ns(w->env) - w->started_ns < KV_SECONDS(10) && store_group_get(w->store, group, &sg) && sg.unborn &&
           sg.replica == replica;
}

static void got_raft(void *context, uint32_t group, const struct raft_msg *m, const struct log_entry *entries)
{
    struct receiver *v = context;
    bool lost_on_the_way;
    struct kv_buf *batch = passed_on(v, worker_of(v, group, m->to), &lost_on_the_way);
    if (batch != NULL) peer_put_raft(batch, group, m, entries, m->entry_count);
    if (batch != NULL || lost_on_the_way) return;
    struct group *g = worker_group(v->p->w, group);
    bool wants = m->type == RAFT_APPEND || m->type == RAFT_HEARTBEAT;
    if (g != NULL && !g->installing && !g->rowless && leave_is_due(&g->descriptor, m->from) &&
        (leave_is_lasting(g) || !leave_waits(g->w, &g->descriptor))) {
        peer_send_lost(v->p, v->node, &(struct peer_lost){.group = group, .replica = m->from, .gone = true});
        return;
    }
    if (g != NULL && g->replica == m->to) {
        g->heard_replica = m->from;
        g->heard_node = v->node;
        if (wants && g->rowless && !g->installing)
            peer_send_lost(v->p, v->node,
                           &(struct peer_lost){.group = group, .replica = m->to, .owed = raft_owed_now(g->raft)});
        group_step(g, m, entries);
        return;
    }
    if (g == NULL && merge_tells_gone(v->p->w, v->node, group)) return;
    bool asks = m->type == RAFT_PREVOTE || m->type == RAFT_VOTE;
    if (g == NULL ? !(wants || asks) || awaits_birth(v->p->w, group, m->to) : !wants || m->to < g->replica) return;
    struct peer_lost lost = {.group = group, .replica = m->to, .unborn = g == NULL && birth_is_unknown(v->p->w, group)};
    if (wants || lost.unborn) peer_send_lost(v->p, v->node, &lost);
}

static void got_told(void *context, struct kv_slice descriptor, uint64_t term)
{
    struct receiver *v = context;
    struct descriptor d;
    tell_damaged(v->p->w, v->node, descriptor, term);
    if (descriptor_decode(descriptor, &d) == KV_OK) map_learn(v->p->w, &d, v->node, term);
}

static void got_nodes(void *context, struct kv_slice map)
{
    nodes_told(((struct receiver *)context)->p->w, map);
}

static void got_directory(void *context, const struct peer_directory *d)
{
    struct receiver *v = context;
    keyspaces_learn(v->p->w, d);
}

static void got_scrub(void *context, const struct peer_scrub *s)
{
    struct receiver *v = context;
    bool lost;
    struct kv_buf *batch = passed_on(v, worker_of(v, s->group, s->to), &lost);
    if (batch != NULL) peer_put_scrub(batch, s);
    else if (!lost) scrub_receive(v->p->w, v->node, s);
}

static void got_merge(void *context, const struct peer_merge *m)
{
    struct receiver *v = context;
    bool lost = false;
    struct kv_buf *batch = m->kind != PEER_MERGE_ASK ? NULL : passed_on(v, worker_of(v, m->group, m->replica), &lost);
    if (batch != NULL) peer_put_merge(batch, m);
    if (batch != NULL || lost) return;
    for (uint32_t k = 1; m->kind == PEER_MERGE_GONE && siblings_is_face(v->p->w) && k < siblings_count(v->p->w); k++)
        if (seats_is_live(v->p->w, k, m->group) && (batch = passed_on(v, k, &lost)) != NULL) peer_put_merge(batch, m);
    merge_receive(v->p->w, v->node, m);
}

static void got_load(void *context, const struct peer_load *l)
{
    struct receiver *v = context;
    const struct partition *system = map_get(v->p->w, KV_PARTITION_SYSTEM);
    uint32_t node = system == NULL ? 0 : map_leader(system);
    bool goes_on = v->node == v->p->w->node_id && node != 0 && node != v->node; /* of another worker of this node, for who coordinates */
    if (goes_on) peer_send_load(v->p, node, l);
    else load_learn(v->p->w, l);
}

static void got_snapshot(void *context, const struct peer_snapshot *s)
{
    struct receiver *v = context;
    struct worker *w = v->p->w;
    bool lost;
    uint32_t index = worker_of(v, s->group, s->to);
    if (!s->answer && siblings_is_face(w) && w->siblings != NULL) index = seats_place(w, s->group, s->to, s->descriptor);
    if (index == UINT32_MAX) return;
    struct kv_buf *batch = passed_on(v, index, &lost);
    if (batch != NULL) peer_put_snapshot(batch, s);
    else if (!lost) transfer_receive(w, v->node, s);
}

enum kv_err peer_receive(struct peers *p, uint32_t node, struct kv_slice bytes, struct kv_buf *reply)
{
    struct receiver v = {p, node, reply};
    if (reply != NULL && find(p, node) == NULL) return KV_AUTH;
    struct peer_reader reader = {.context = &v, .beat = got_beat, .lost = got_lost, .birth = got_birth, .raft = got_raft, .snapshot = got_snapshot, .told = got_told, .directory = got_directory, .scrub = got_scrub, .nodes = got_nodes, .merge = got_merge, .load = got_load};
    kv_arena_reset(&p->arena);
    return peer_batch_read(bytes, &p->arena, &reader);
}

void peer_inbound_opened(struct peers *p, uint32_t node, struct gate *g)
{
    const struct nodes_entry *known = nodes_find(p->w, node);
    struct peer *peer = find(p, node);
    if (peer == NULL && known != NULL && peer_add(p, known)) peer = find(p, node); /* sooner than peers_sync() */
    if (peer == NULL) return;
    if (peer->inbound != NULL) host_drop(peer->inbound);
    peer->inbound = g;
}

void peer_inbound_closed(struct peers *p, uint32_t node, const struct gate *g)
{
    struct peer *peer = find(p, node);
    if (peer == NULL || peer->inbound != g) return; /* it had gone over to another */
    peer->inbound = NULL;
    if (!p->stopping) peer_closed(p->w, node);
}

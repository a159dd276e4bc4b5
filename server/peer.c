#include <stdlib.h>

#include "server/host.h"
#include "server/peer_impl.h"
#include "server/rest.h"
#include "server/siblings.h"

/* Which links there are: to all nodes of the list but this one. And what is known of the nodes behind them. */

struct peer *peer_find(const struct peers *p, uint32_t node)
{
    for (uint32_t i = 0; i < p->count; i++)
        if (p->list[i]->node.id == node) return p->list[i];
    return NULL;
}

void peers_closed(struct worker *w, uint32_t node)
{
    rest_peer_closed(w, node);
    siblings_peer_event(w, node, false);
}

bool peer_add(struct peers *p, const struct nodes_entry *node)
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
    if (!p->stopping) peers_closed(p->w, peer->node.id);
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
        if (n->id != p->w->node_id && n->state != KV_NODE_REMOVED && peer_find(p, n->id) == NULL) ok = peer_add(p, n) && ok;
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
    for (uint32_t i = 0; i < p->count; i++) link_dial(p->list[i]);
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
        link_free(peer);
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
    if (p->stopping) return;
    (void)peers_sync(p); /* short of memory: again with the next tick */
    clocks_compare(p, now_ns);
    for (uint32_t i = 0; i < p->count; i++) link_tick(p->list[i], now_ns);
}

void peers_flush(struct peers *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        struct peer *peer = p->list[i];
        link_seal(peer);
        if (peer->state != LINK_UP) continue;
        if (channel_pending(peer->channel) > 0) channel_flush(peer->channel, &peer->out);
        if (peer->out.failed) link_drop(peer, "out of memory");
        else link_write(peer);
    }
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
    const struct peer *peer = peer_find(p, node);
    if (peer == NULL) return UINT64_MAX;
    return peer->state == LINK_UP ? 0 : now_ns - (peer->seen_ns != 0 ? peer->seen_ns : p->w->started_ns) + 1;
}

uint64_t peer_birthmark(const struct peers *p, uint32_t node)
{
    const struct worker *w = p->w;
    const struct peer *peer = peer_find(p, node);
    const struct peer_facts *f = siblings_facts(w, node);
    if (node == w->node_id) return siblings_node_birthmark(w);
    return peer != NULL ? peer->birthmark : f != NULL ? f->birthmark
                                                      : 0;
}

const struct kv_choice *peer_choice(const struct peers *p, uint32_t node)
{
    const struct peer *peer = peer_find(p, node);
    return peer != NULL && peer->state == LINK_UP ? &peer->choice : NULL;
}

bool peer_connected(const struct peers *p, uint32_t node)
{
    const struct peer *peer = peer_find(p, node);
    const struct peer_facts *f = siblings_facts(p->w, node);
    if (node == p->w->node_id) return p->w->siblings != NULL; /* to a replica on another worker */
    return peer != NULL ? peer->state == LINK_UP : f != NULL && f->is_up;
}

bool peer_is_heard(const struct peers *p, uint32_t node)
{
    const struct peer *peer = peer_find(p, node);
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

bool peers_shun(const struct peers *p)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->count; i++) count += p->list[i]->shuns;
    return count > p->count / 2;
}

uint64_t peer_backlog(const struct peers *p, uint32_t node)
{
    const struct peer *peer = peer_find(p, node);
    const struct peer_facts *f = siblings_facts(p->w, node);
    if (f != NULL) return f->backlog;
    if (peer == NULL || peer->socket == NULL) return 0;
    const struct link *l = container_of(peer->socket, struct link, socket);
    return peer->batch.size + peer->out.size + (l->writing ? l->sending.size : 0);
}

bool peer_is_full(const struct peers *p, uint32_t node)
{
    const struct peer *peer = peer_find(p, node);
    const struct peer_facts *f = siblings_facts(p->w, node);
    if (peer != NULL || f != NULL) return peer != NULL ? peer->is_full : f->is_full;
    return node == p->w->node_id && siblings_node_is_full(p->w);
}

uint32_t peer_workers(const struct peers *p, uint32_t node)
{
    const struct peer *peer = peer_find(p, node);
    const struct peer_facts *f = siblings_facts(p->w, node);
    uint32_t said = peer != NULL ? peer->workers : f != NULL ? f->workers
                                                             : 0;
    if (node == p->w->node_id) return siblings_count(p->w);
    return said > 1 ? said : 1;
}

void peer_inbound_opened(struct peers *p, uint32_t node, struct gate *g)
{
    const struct nodes_entry *known = nodes_find(p->w, node);
    struct peer *peer = peer_find(p, node);
    if (peer == NULL && known != NULL && peer_add(p, known)) peer = peer_find(p, node); /* sooner than peers_sync() */
    if (peer == NULL) return;
    if (peer->inbound != NULL) host_drop(peer->inbound);
    peer->inbound = g;
}

void peer_inbound_closed(struct peers *p, uint32_t node, const struct gate *g)
{
    struct peer *peer = peer_find(p, node);
    if (peer == NULL || peer->inbound != g) return; /* it had gone over to another */
    peer->inbound = NULL;
    if (!p->stopping) peers_closed(p->w, node);
}

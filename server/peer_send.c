#include "server/peer_impl.h"
#include "server/siblings.h"

/* Parts for other nodes, or for other workers of this one: each goes into the batch of the turn that leads there. */

struct peer *peer_ready(struct peers *p, uint32_t node)
{
    struct peer *peer = peer_find(p, node);
    if (peer == NULL || peer->state != LINK_UP || peer_backlog(p, node) > PEER_BACKLOG_MAX) return NULL;
    if (peer->batch.size > PEER_BATCH_BYTES) {
        link_seal(peer);
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
        return p->own.size < PEER_BACKLOG_MAX ? &p->own : NULL;
    }
    struct peer *peer = peer_ready(p, node);
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
        struct peer *peer = peer_ready(p, p->list[i]->node.id);
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

void peer_send_nodes(struct peer *peer)
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
    for (uint32_t i = 0; i < p->count; i++) peer_send_nodes(p->list[i]);
    for (uint32_t k = 1; siblings_is_face(w) && k < siblings_count(w); k++) {
        struct kv_buf bytes = {0}, *batch = siblings_batch(w, k, w->node_id);
        nodes_put(w, &bytes);
        if (batch != NULL && !bytes.failed) peer_put_nodes(batch, kv_buf_slice(&bytes));
        kv_buf_free(&bytes);
    }
}

void peers_send_directory(struct peers *p, uint32_t node, const struct peer_directory *d)
{
    for (uint32_t i = 0; i < p->count; i++) {
        if (node != 0 && p->list[i]->node.id != node) continue;
        struct peer *peer = peer_ready(p, p->list[i]->node.id);
        if (peer != NULL && peer->has_directory) link_seal(peer);
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
void peers_tell_damaged(struct worker *w, uint32_t node, struct kv_slice descriptor, uint64_t term)
{
    for (uint32_t k = 1; siblings_is_face(w) && k < siblings_count(w); k++) {
        struct kv_buf *batch = siblings_state(w, k)->damaged ? siblings_batch(w, k, node) : NULL;
        if (batch != NULL) peer_put_descriptor(batch, descriptor, term);
    }
}

void peers_send_descriptor(struct peers *p, struct kv_slice descriptor, uint64_t term)
{
    peers_tell_damaged(p->w, p->w->node_id, descriptor, term);
    struct kv_buf *batch = siblings_is_face(p->w) ? NULL : siblings_batch(p->w, 0, 0);
    if (batch != NULL) peer_put_descriptor(batch, descriptor, term);
    for (uint32_t i = 0; i < p->count; i++) {
        struct peer *peer = peer_ready(p, p->list[i]->node.id);
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

void peer_send_load(struct peers *p, uint32_t node, const struct peer_load *l)
{
    struct kv_buf *batch = ready_batch(p, node);
    if (batch != NULL) peer_put_load(batch, l);
}

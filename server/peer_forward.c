#include <stdlib.h>

#include "server/group.h"
#include "server/map.h"
#include "server/peer_impl.h"
#include "server/request.h"
#include "server/rest.h"
#include "server/siblings.h"

/* Requests that another node is asked for, and what comes back for them. */

/* Forwarded requests carry an idempotency key if they write, so all may be sent again. */
void peer_forwards_park(struct peer *peer)
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

void peer_forward_reply(struct peer *peer, struct kv_slice body)
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

enum kv_err peer_forward(struct peers *p, uint32_t node, struct request *r)
{
    if (sibling_is_way(node)) return siblings_forward(p->w, node, r);
    struct peer *peer = peer_ready(p, node);
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
    struct peer *peer = peer_find(p, r->forward_node);
    if (peer == NULL || kv_map_remove(&peer->forwards, r->context) == NULL) return;
    if (request_is_anywhere(r)) kv_choice_forgotten(&peer->choice);
}

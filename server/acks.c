#include <assert.h>

#include "client/base/text.h"
#include "client/wire/resp.h"
#include "server/group.h"
#include "server/request.h"

/* WAIT at the leader: how many other voters hold an entry durably, as their match indexes say. A
 * question waits until enough do or its time is over; it is always answered with a number. */
enum { ANSWER_MS = 100 }; /* before the asker's deadline */

static uint32_t holders(const struct group *g, uint64_t index, uint64_t now_ns)
{
    struct raft_status s;
    raft_status(g->raft, now_ns, &s);
    uint32_t count = 0;
    for (uint8_t i = 0; i < s.peer_count; i++)
        count += s.peers[i].id != g->replica && s.peers[i].voter && s.peers[i].match >= index;
    return count;
}

static void answer(const struct group *g, struct request *r, uint32_t count)
{
    struct kv_buf value = {0};
    resp_put_integer(&value, count);
    struct kv_reply reply = {.value = kv_buf_slice(&value),
                             .phase = KV_PHASE_REPLICATE,
                             .partition = g->id,
                             .range_epoch = g->descriptor.range_epoch,
                             .node = g->w->node_id};
    request_finish(r, &reply);
    kv_buf_free(&value);
}

void acks_await(struct group *g, struct request *r)
{
    int64_t index, replicas, wait_ms;
    if (r->body.arg_count != 3 || !kv_parse_i64(r->body.args[0], &index) || !kv_parse_i64(r->body.args[1], &replicas) ||
        !kv_parse_i64(r->body.args[2], &wait_ms) || index < 0 || wait_ms < 0) {
        request_fail(r, KV_BAD_ARGUMENT, "index, replicas and wait ms are numbers");
        return;
    }
    uint64_t now = env_now_ns(g->w->env);
    if (!group_leads(g) || g->lead_index == 0 || g->applied < g->lead_index) { /* who leads knows what is committed */
        request_park(r, group_leads(g) ? KV_MS(2) : 0);
        return;
    }
    r->index = index != 0 ? (uint64_t)index : g->applied;
    r->context = replicas > 0 ? (uint64_t)replicas : 0;
    uint64_t end = now + KV_MS((uint64_t)wait_ms);
    if (end + KV_MS(ANSWER_MS) > r->deadline_ns)
        end = r->deadline_ns > now + KV_MS(ANSWER_MS) ? r->deadline_ns - KV_MS(ANSWER_MS) : now;
    uint32_t count = holders(g, r->index, now);
    if (count >= r->context || end <= now) {
        answer(g, r, count);
        return;
    }
    if (!request_own(r)) return;
    r->retry_ns = end;
    r->state = REQUEST_AWAITING;
    r->phase = KV_PHASE_REPLICATE;
    r->partition = g->id;
    r->queue_next = g->acks_head;
    g->acks_head = r;
}

void acks_serve(struct group *g, uint64_t now_ns)
{
    struct request *r = g->acks_head, *kept = NULL;
    g->acks_head = NULL; /* an answer may bring the next question at once */
    while (r != NULL) {
        struct request *next = r->queue_next;
        r->queue_next = NULL;
        uint32_t count = holders(g, r->index, now_ns);
        if (count >= r->context || now_ns >= r->retry_ns) {
            answer(g, r, count);
        } else {
            r->queue_next = kept;
            kept = r;
        }
        r = next;
    }
    if (kept == NULL) return;
    struct request *last = kept;
    while (last->queue_next != NULL) last = last->queue_next;
    last->queue_next = g->acks_head;
    g->acks_head = kept;
}

void acks_forget(struct group *g, struct request *r)
{
    struct request **link = &g->acks_head;
    assert(r != NULL);
    while (*link != NULL && *link != r) link = &(*link)->queue_next;
    if (*link == r) *link = r->queue_next;
    r->queue_next = NULL;
}

void acks_park(struct group *g)
{
    struct request *r = g->acks_head;
    g->acks_head = NULL;
    while (r != NULL) {
        struct request *next = r->queue_next;
        r->queue_next = NULL;
        request_park(r, 0);
        r = next;
    }
}

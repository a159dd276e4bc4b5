#include "server/gate_resp.h"
#include <assert.h>
#include <stdlib.h>

/* Replies in the order of the requests. The oldest unanswered command writes straight into
 * `out`; a reply that comes too early is rendered into its slot and waits there. */

enum { RING_START = 8, HELD_KEEP_BYTES = 1 << 10 };

struct resp_slot *resp_slot(struct resp_conn *c, uint64_t id)
{
    assert(id >= c->head && id < c->tail);
    return &c->ring[id & (c->capacity - 1)];
}

static bool ring_grow(struct resp_conn *c)
{
    uint32_t capacity = c->capacity == 0 ? RING_START : c->capacity * 2;
    if (capacity > RESP_RING_MAX) return false;
    struct resp_slot *ring = calloc(capacity, sizeof *ring);
    if (ring == NULL) return false;
    for (uint64_t id = c->tail - c->capacity; id != c->tail; id++)
        ring[id & (capacity - 1)] = c->ring[id & (c->capacity - 1)];
    free(c->ring);
    c->ring = ring;
    c->capacity = capacity;
    return true;
}

enum kv_err resp_slot_open(struct resp_conn *c, bool is_write, uint64_t *id)
{
    if (c->tail - c->head == c->capacity && !ring_grow(c)) return KV_BUSY;
    *id = c->tail++;
    struct resp_slot *s = resp_slot(c, *id);
    s->is_done = false;
    s->is_write = is_write;
    s->is_silent = c->mode != RESP_REPLY_ON;
    s->protocol = c->protocol;
    s->track = RESP_TRACK_NONE;
    return KV_OK;
}

void resp_slot_cancel(struct resp_conn *c, uint64_t id)
{
    assert(id + 1 == c->tail && !resp_slot(c, id)->is_done);
    c->tail--;
}

static void untrack(struct resp_conn *c, struct resp_slot *s)
{
    struct resp_pending *p = s->is_write ? &c->writes : &c->reads;
    switch ((enum resp_track)s->track) {
    case RESP_TRACK_NONE: return;
    case RESP_TRACK_BUCKET:
        assert(p->buckets[s->bucket] > 0);
        p->buckets[s->bucket]--;
        break;
    case RESP_TRACK_ALL: p->all--; break;
    }
    p->total--;
    s->track = RESP_TRACK_NONE;
}

/* Most replies are the same in both protocols; null differs in its bytes alone. */
static void render(struct kv_slice value, uint8_t protocol, struct kv_buf *out)
{
    uint8_t type = value.size > 0 ? value.data[0] : 0;
    if (protocol == 3 || type == '$' || type == ':' || type == '+' || type == '-')
        kv_buf_append_slice(out, value);
    else if (type == '_')
        kv_buf_append(out, "$-1\r\n", 5);
    else
        resp_to_resp2(value, out);
}

void resp_slot_answer(struct gate *g, uint64_t id, struct kv_slice value)
{
    struct resp_conn *c = resp_conn(g);
    struct resp_slot *s = resp_slot(c, id);
    assert(!s->is_done);
    untrack(c, s);
    s->is_done = true;
    if (id != c->head) {
        if (s->is_silent) return;
        render(value, s->protocol, &s->held);
        c->held_bytes += s->held.size;
        if (s->held.failed)
            g->closing = true; /* a reply is lost: no later one may take its place */
        return;
    }
    if (!s->is_silent) render(value, s->protocol, g->out);
    for (c->head++; c->head != c->tail; c->head++) {
        s = resp_slot(c, c->head);
        if (!s->is_done) break;
        c->held_bytes -= s->held.size;
        kv_buf_append_slice(g->out, kv_buf_slice(&s->held));
        kv_buf_clear(&s->held);
        kv_buf_shrink(&s->held, HELD_KEEP_BYTES);
    }
}

void resp_slots_free(struct resp_conn *c)
{
    for (uint32_t i = 0; i < c->capacity; i++)
        kv_buf_free(&c->ring[i].held);
    free(c->ring);
    c->ring = NULL;
    c->capacity = 0;
    c->head = c->tail;
}

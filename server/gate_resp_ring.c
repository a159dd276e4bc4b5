#include "server/gate_resp.h"
#include <assert.h>
#include <stdlib.h>

/* Replies in the order of the requests. The oldest unanswered command writes straight into
 * `out`; a reply that comes too early waits in its slot, or beside it if it is long. */

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
    struct kv_buf *held = calloc(capacity, sizeof *held);
    if (ring == NULL || held == NULL) {
        free(ring);
        free(held);
        return false;
    }
    for (uint64_t id = c->tail - c->capacity; id != c->tail; id++) {
        ring[id & (capacity - 1)] = c->ring[id & (c->capacity - 1)];
        held[id & (capacity - 1)] = c->held[id & (c->capacity - 1)];
    }
    free(c->ring);
    free(c->held);
    c->ring = ring;
    c->held = held;
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
    s->brief_size = 0;
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
static bool is_rendered(struct kv_slice value, uint8_t protocol)
{
    uint8_t type = value.size > 0 ? value.data[0] : 0;
    return protocol == 3 || type == '$' || type == ':' || type == '+' || type == '-';
}

static void render(struct kv_slice value, uint8_t protocol, struct kv_buf *out)
{
    if (is_rendered(value, protocol))
        kv_buf_append_slice(out, value);
    else if (value.size > 0 && value.data[0] == '_')
        kv_buf_append(out, "$-1\r\n", 5);
    else
        resp_to_resp2(value, out);
}

static struct kv_buf *slot_held(struct resp_conn *c, uint64_t id)
{
    return &c->held[id & (c->capacity - 1)];
}

static void hold(struct gate *g, uint64_t id, struct kv_slice value)
{
    struct resp_conn *c = resp_conn(g);
    struct resp_slot *s = resp_slot(c, id);
    if (value.size > 0 && value.size <= sizeof s->brief && is_rendered(value, s->protocol)) {
        memcpy(s->brief, value.data, value.size);
        s->brief_size = (uint8_t)value.size;
        c->held_bytes += value.size;
        return;
    }
    struct kv_buf *held = slot_held(c, id);
    render(value, s->protocol, held);
    c->held_bytes += held->size;
    if (held->failed) g->closing = true; /* a reply is lost: no later one may take its place */
}

static void release(struct gate *g, uint64_t id)
{
    struct resp_conn *c = resp_conn(g);
    struct resp_slot *s = resp_slot(c, id);
    if (s->brief_size > 0) {
        c->held_bytes -= s->brief_size;
        kv_buf_append(g->out, s->brief, s->brief_size);
        return;
    }
    struct kv_buf *held = slot_held(c, id);
    c->held_bytes -= held->size;
    kv_buf_append_slice(g->out, kv_buf_slice(held));
    kv_buf_clear(held);
    kv_buf_shrink(held, HELD_KEEP_BYTES);
}

void resp_slot_answer(struct gate *g, uint64_t id, struct kv_slice value)
{
    struct resp_conn *c = resp_conn(g);
    struct resp_slot *s = resp_slot(c, id);
    assert(!s->is_done);
    untrack(c, s);
    s->is_done = true;
    if (id != c->head) {
        if (!s->is_silent) hold(g, id, value);
        return;
    }
    if (!s->is_silent) render(value, s->protocol, g->out);
    for (c->head++; c->head != c->tail && resp_slot(c, c->head)->is_done; c->head++) release(g, c->head);
}

void resp_slots_free(struct resp_conn *c)
{
    for (uint32_t i = 0; i < c->capacity; i++)
        kv_buf_free(&c->held[i]);
    free(c->ring);
    free(c->held);
    c->ring = NULL;
    c->held = NULL;
    c->capacity = 0;
    c->head = c->tail;
}

#include "server/siblings.h"

#include <stdlib.h>

#include "client/base/hash.h"
#include "server/group.h"
#include "server/lines.h"
#include "server/map.h"
#include "server/nodes.h"
#include "server/request.h"
#include "server/rest.h"
#include "server/seats.h"
#include "server/transfer.h"

/* A message is what was said in a turn, one frame behind the other:
 *
 *    0  u32  size of the body
 *    4  u8   kind
 *    5  u8   flags
 *    6  u16  zero
 *    8  u32  a node: see siblings_batch()
 *   12  ..   the body
 *
 * Both ends are one program in one process, so integers and structs are as they lie in memory. Out of memory the process
 * ends: what one worker believes to have said, another has to hear. */
enum frame_kind { FRAME_REQUEST = 1,
                  FRAME_REPLY,
                  FRAME_PARTS,  /* fields of a peer.proto Batch */
                  FRAME_SEAT,   /* up: struct seat, then its descriptor */
                  FRAME_STATE,  /* up: struct sibling_state; down: struct node_state */
                  FRAME_LINK,   /* down: the link to the node came up (flag), or ended */
                  FRAME_LEVELS, /* down: log levels, as text */
                  FRAME_CHECKPOINT,
                  FRAME_END };
enum { REPLIES_BYTES_MAX = 8 << 20,
       WAIT_MS_MAX = 1000 };
enum { FLAG_ROAMS = 1, /* of a request: its client knows other nodes */
       FLAG_UP = 1 };
struct frame_head {
    uint32_t size;
    uint8_t kind, flags;
    uint16_t zero;
    uint32_t node;
};
static_assert(sizeof(struct frame_head) == 12, "as above");

struct node_state { /* of the node, as worker 0 knows it */
    struct clock clock;
    uint64_t birthmark;
    bool stopping, poisoned, full;
    uint32_t senders; /* workers that send snapshots */
    uint32_t count;
    struct peer_facts nodes[KV_NODES_MAX];
};

struct way { /* to one other worker, and back */
    struct siblings *s;
    uint32_t index;
    struct mailbox *in, *out;
    struct kv_buf said;  /* this turn; what found no room stays */
    struct kv_buf heard; /* a message that came, taken up to heard_at: the rest waits for room to answer it */
    size_t heard_at;
    uint64_t waits_ns;      /* since when; 0: it does not */
    size_t open_at;         /* where the head of the last frame stands, if it may go on; SIZE_MAX: none */
    struct kv_map forwards; /* id -> struct request */
    uint64_t forward_next;
    struct kv_map lines;
    struct sibling_state state; /* worker 0: of the other one */
};

struct siblings {
    struct worker *w;
    struct kv_arena arena; /* of the request or reply at hand */
    struct sibling_state told_up;
    struct node_state told_down, node; /* node: what a sibling was told */
    struct way ways[WORKERS_MAX];
};

static bool is_way(const struct worker *w, uint32_t index)
{
    return siblings_is_face(w) ? index > 0 && index < siblings_count(w) : index == 0;
}

enum kv_err siblings_create(struct worker *w)
{
    if (siblings_count(w) == 1) return KV_OK;
    struct siblings *s = calloc(1, sizeof *s);
    if (s == NULL) return KV_NO_SPACE;
    s->w = w;
    w->siblings = s;
    kv_arena_init(&s->arena, 4 * CHANNEL_FRAME_BYTES_MAX);
    for (uint32_t k = 0; k < siblings_count(w); k++) {
        if (!is_way(w, k)) continue;
        s->ways[k] = (struct way){.s = s, .index = k, .in = w->o.in[k], .out = w->o.out[k], .open_at = SIZE_MAX};
    }
    return KV_OK;
}

void siblings_destroy(struct worker *w)
{
    struct siblings *s = w->siblings;
    if (s == NULL) return;
    for (uint32_t k = 0; k < WORKERS_MAX; k++) {
        kv_buf_free(&s->ways[k].said);
        kv_buf_free(&s->ways[k].heard);
        kv_map_free(&s->ways[k].forwards);
        kv_map_free(&s->ways[k].lines);
    }
    kv_arena_free(&s->arena);
    free(s);
    w->siblings = NULL;
    seats_destroy(w);
}

/* ---- saying ---- */

static void frame_end(struct way *y)
{
    if (y->said.failed) abort();
    if (y->open_at == SIZE_MAX) return;
    uint32_t size = (uint32_t)(y->said.size - y->open_at - sizeof(struct frame_head));
    memcpy(y->said.data + y->said.start + y->open_at, &size, sizeof size);
    y->open_at = SIZE_MAX;
}

static struct kv_buf *frame_begin(struct way *y, enum frame_kind kind, uint8_t flags, uint32_t node)
{
    struct frame_head head = {.kind = (uint8_t)kind, .flags = flags, .node = node};
    frame_end(y);
    y->open_at = y->said.size;
    kv_buf_append(&y->said, &head, sizeof head);
    worker_turn(y->s->w);
    return &y->said;
}

static void frame_say(struct way *y, enum frame_kind kind, uint8_t flags, uint32_t node, const void *body, size_t size)
{
    kv_buf_append(frame_begin(y, kind, flags, node), body, size);
    frame_end(y);
}

static bool has_room(const struct way *y)
{
    return y->said.size + mailbox_bytes(y->out) < SIBLING_BYTES_MAX;
}

struct kv_buf *siblings_batch(struct worker *w, uint32_t index, uint32_t node)
{
    struct way *y = &w->siblings->ways[index];
    struct frame_head head;
    if (!has_room(y)) return NULL;
    if (y->open_at != SIZE_MAX) {
        memcpy(&head, y->said.data + y->said.start + y->open_at, sizeof head);
        if (head.kind == FRAME_PARTS && head.node == node) return &y->said;
    }
    return frame_begin(y, FRAME_PARTS, 0, node);
}

void siblings_batch_end(struct worker *w, uint32_t index)
{
    frame_end(&w->siblings->ways[index]);
}

void siblings_say_seat(struct worker *w, const void *seat, size_t size, struct kv_slice descriptor)
{
    struct way *y = &w->siblings->ways[0];
    kv_buf_append(frame_begin(y, FRAME_SEAT, 0, 0), seat, size);
    kv_buf_append_slice(&y->said, descriptor);
    frame_end(y);
}

void siblings_flush(struct worker *w)
{
    for (uint32_t k = 0; w->siblings != NULL && k < siblings_count(w); k++) {
        struct way *y = &w->siblings->ways[k];
        if (!is_way(w, k) || y->said.size == 0) continue;
        frame_end(y);
        (void)mailbox_send(y->out, &y->said); /* full: with the next turn, or tick */
    }
}

/* ---- requests ---- */

enum kv_err siblings_forward(struct worker *w, uint32_t way, struct request *r)
{
    struct way *y = &w->siblings->ways[UINT32_MAX - way];
    uint64_t now = env_now_ns(w->env);
    struct kv_request body = r->body;
    if (!has_room(y) || !kv_map_put(&y->forwards, y->forward_next + 1, r)) return KV_BUSY;
    body.id = ++y->forward_next;
    body.hops = r->body.hops + 1;
    body.deadline_ms = (uint32_t)(r->deadline_ns > now ? (r->deadline_ns - now) / 1000000u + 1 : 1);
    kv_request_encode(&body, frame_begin(y, FRAME_REQUEST, r->body.roams ? FLAG_ROAMS : 0, 0));
    frame_end(y);
    r->doubted = r->maybe;
    r->maybe = r->maybe || r->is_write;
    r->state = REQUEST_FORWARDED;
    r->context = body.id;
    r->forward_node = way;
    return KV_OK;
}

void siblings_forget(struct worker *w, struct request *r)
{
    kv_map_remove(&w->siblings->ways[UINT32_MAX - r->forward_node].forwards, r->context);
}

static void reply_say(struct way *y, const struct kv_reply *reply)
{
    if (peer_refuses(reply)) lines_refuse(&y->lines, reply->partition);
    kv_reply_encode(reply, frame_begin(y, FRAME_REPLY, 0, 0));
    frame_end(y);
}

static void answered(struct request *r, const struct kv_reply *reply)
{
    reply_say(r->owner, reply);
}

static void request_came(struct way *y, uint8_t flags, struct kv_slice frame)
{
    struct worker *w = y->s->w;
    struct kv_request body;
    kv_arena_reset(&y->s->arena);
    enum kv_err err = frame.size == 0 ? KV_MALFORMED : kv_request_decode(kv_slice(frame.data + 1, frame.size - 1), &y->s->arena, &body);
    assert(err == KV_OK); /* of this very program */
    body.roams = (flags & FLAG_ROAMS) != 0;
    if (siblings_is_face(w)) body.hops = body.round = 0; /* one of its own: it waits here, and goes wherever it has to */
    struct kv_reply refusal = {.id = body.id, .err = KV_NOT_LEADER, .partition = body.line, .node = w->node_id};
    if (body.round != 0 && !lines_go_on(&y->lines, &body)) {
        reply_say(y, &refusal);
        return;
    }
    struct request *r = request_make(w);
    if (r == NULL) {
        refusal.err = KV_BUSY;
        refusal.retry_after_ms = 50;
        refusal.detail = kv_str("the node is over limit.queue");
        reply_say(y, &refusal);
        return;
    }
    r->body = body;
    r->done = answered;
    r->owner = y;
    r->owner_id = body.id;
    r->internal = siblings_is_face(w);
    request_start(r);
}

static void reply_came(struct way *y, struct kv_slice frame)
{
    struct kv_reply reply;
    kv_arena_reset(&y->s->arena);
    enum kv_err err = frame.size == 0 ? KV_MALFORMED : kv_reply_decode(kv_slice(frame.data + 1, frame.size - 1), &y->s->arena, &reply);
    assert(err == KV_OK);
    struct request *r = kv_map_remove(&y->forwards, reply.id);
    if (r != NULL) peer_answered(y->s->w, sibling_way(y->index), r, &reply); /* else its deadline passed */
}

/* ---- hearing ---- */

static void parts_came(struct way *y, uint32_t node, struct kv_slice parts)
{
    struct worker *w = y->s->w;
    bool for_here = !siblings_is_face(w) || node == 0 || node == w->node_id;
    if (siblings_is_face(w) && node != w->node_id) peers_pass(w->peers, node, parts);
    if (!for_here) return;
    enum kv_err err = peer_receive(w->peers, siblings_is_face(w) ? w->node_id : node, parts, NULL);
    assert(err == KV_OK || err == KV_TOO_BIG);
}

static void node_state_came(struct worker *w, const struct node_state *n)
{
    struct siblings *s = w->siblings;
    bool stops = n->stopping && !w->stopping;
    s->node = *n;
    w->clock = n->clock;
    if (n->poisoned) worker_poison(w);
    if (stops) worker_stop(w, NULL, NULL);
}

static void link_came(struct worker *w, uint32_t node, bool is_up)
{
    if (!is_up) {
        rest_peer_closed(w, node);
        return;
    }
    request_wake(w);
    map_tell_again(w);
}

static void levels_came(struct worker *w, struct kv_slice text)
{
    char levels[CONFIG_TEXT_BYTES];
    const char *why;
    if (text.size >= sizeof levels) return;
    memcpy(levels, text.data, text.size);
    levels[text.size] = '\0';
    (void)journal_set(w->journal, levels, &why);
}

static void frame_came(struct way *y, const struct frame_head *head, struct kv_slice body)
{
    struct worker *w = y->s->w;
    switch ((enum frame_kind)head->kind) {
    case FRAME_REQUEST: request_came(y, head->flags, body); break;
    case FRAME_REPLY: reply_came(y, body); break;
    case FRAME_PARTS: parts_came(y, head->node, body); break;
    case FRAME_SEAT: {
        struct seat seat;
        assert(body.size >= sizeof seat);
        memcpy(&seat, body.data, sizeof seat);
        seats_learn(w, y->index, &seat, kv_slice(body.data + sizeof seat, body.size - sizeof seat));
        break;
    }
    case FRAME_STATE:
        if (siblings_is_face(w)) {
            assert(body.size == sizeof y->state);
            memcpy(&y->state, body.data, sizeof y->state);
            if (y->state.poisoned) worker_poison(w);
        } else {
            struct node_state n;
            assert(body.size == sizeof n);
            memcpy(&n, body.data, sizeof n);
            node_state_came(w, &n);
        }
        break;
    case FRAME_LINK: link_came(w, head->node, (head->flags & FLAG_UP) != 0); break;
    case FRAME_LEVELS: levels_came(w, body); break;
    case FRAME_CHECKPOINT: store_checkpoint(w->store, NULL); break;
    case FRAME_END: worker_end(w); break;
    }
}

/* A sibling answers no faster than worker 0 takes it: a client that asks for much and reads nothing would fill the memory
 * with replies, before worker 0 sees that it is one. But for ever it does not wait: worker 0 may have ended. */
static bool is_to_wait(struct way *y, enum frame_kind kind)
{
    if (kind != FRAME_REQUEST || siblings_is_face(y->s->w)) return false;
    uint64_t now_ns = env_now_ns(y->s->w->env);
    if (y->said.size + mailbox_bytes(y->out) < REPLIES_BYTES_MAX) y->waits_ns = 0;
    else if (y->waits_ns == 0) y->waits_ns = now_ns;
    return y->waits_ns != 0 && now_ns - y->waits_ns < KV_MS(WAIT_MS_MAX);
}

/* False: some of it has to wait. */
static bool message_came(struct way *y)
{
    struct kv_slice all = kv_buf_slice(&y->heard);
    struct frame_head head;
    while (y->heard_at < all.size) {
        const uint8_t *at = all.data + y->heard_at;
        assert(all.size - y->heard_at >= sizeof head);
        memcpy(&head, at, sizeof head);
        assert(head.size <= all.size - y->heard_at - sizeof head);
        if (is_to_wait(y, (enum frame_kind)head.kind)) return false;
        y->heard_at += sizeof head + head.size;
        frame_came(y, &head, kv_slice(at + sizeof head, head.size));
    }
    return true;
}

void siblings_receive(struct worker *w)
{
    for (uint32_t k = 0; w->siblings != NULL && k < siblings_count(w); k++) {
        struct way *y = &w->siblings->ways[k];
        if (!is_way(w, k)) continue;
        mailbox_look(y->in);
        while (y->heard.size > 0 || mailbox_take(y->in, &y->heard)) {
            worker_clock_forget(w);
            if (!message_came(y)) break;
            mailbox_done(y->in, y->heard.size);
            kv_buf_free(&y->heard);
            y->heard_at = 0;
        }
    }
}

/* ---- how things are ---- */

static void say_up(struct worker *w)
{
    struct siblings *s = w->siblings;
    struct sibling_state now;
    memset(&now, 0, sizeof now); /* compared as bytes */
    now.poisoned = w->poisoned;
    now.full = store_is_full(w->store);
    now.damaged = store_damage(w->store) != NULL;
    now.birthmark = store_birthmark(w->store);
    now.impaired = now.birthmark != STORE_ORIGINAL && now.birthmark != store_id(w->store);
    now.sends = transfer_sends(w);
    store_stats(w->store, &now.stats);
    memcpy(now.reads, w->reads, sizeof now.reads);
    now.read_rounds = w->read_rounds;
    now.served[LOAD_READ] = w->loads.served[LOAD_READ];
    now.served[LOAD_WRITE] = w->loads.served[LOAD_WRITE];
    for (struct group *g = w->active; g != NULL; g = g->active_next) seats_tell(g); /* that it is out of touch comes with time */
    /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-exp42-c,cert-flp37-c): both begin as zeros, padding too */
    if (memcmp(&now, &s->told_up, sizeof now) == 0) return;
    s->told_up = now;
    frame_say(&s->ways[0], FRAME_STATE, 0, 0, &now, sizeof now);
}

static void say_down(struct worker *w)
{
    struct siblings *s = w->siblings;
    struct node_state now;
    memset(&now, 0, sizeof now);
    now.clock.steady_ns = w->clock.steady_ns;
    now.clock.steady_ms = w->clock.steady_ms;
    now.clock.ahead_ms = w->clock.ahead_ms;
    now.clock.alarm = w->clock.alarm;
    now.clock.jumped = w->clock.jumped;
    now.birthmark = peer_birthmark(w->peers, w->node_id);
    now.stopping = w->stopping;
    now.full = siblings_node_is_full(w);
    now.poisoned = w->poisoned;
    now.senders = transfer_sends(w);
    for (uint32_t k = 1; k < siblings_count(w); k++) now.senders += siblings_state(w, k)->sends;
    while (now.count < KV_NODES_MAX && peers_facts(w->peers, now.count, &now.nodes[now.count])) {
        now.nodes[now.count].backlog &= ~(uint64_t)0xfffff; /* roughly is enough */
        now.count++;
    }
    /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-exp42-c,cert-flp37-c): both begin as zeros, padding too */
    if (memcmp(&now, &s->told_down, sizeof now) == 0) return;
    s->told_down = now;
    for (uint32_t k = 1; k < siblings_count(w); k++) frame_say(&s->ways[k], FRAME_STATE, 0, 0, &now, sizeof now);
}

void siblings_tick(struct worker *w, uint64_t now_ns)
{
    if (w->siblings == NULL) return;
    if (!siblings_is_face(w)) {
        siblings_receive(w); /* what waits for room; nobody says when there is some */
        if (w->is_beat || w->stopping || w->poisoned) say_up(w);
        return;
    }
    say_down(w);
    seats_tick(w, now_ns);
}

void siblings_peer_event(struct worker *w, uint32_t node, bool is_up)
{
    if (w->siblings == NULL || !siblings_is_face(w)) return;
    say_down(w); /* first, so that they find it so */
    for (uint32_t k = 1; k < siblings_count(w); k++)
        frame_say(&w->siblings->ways[k], FRAME_LINK, is_up ? FLAG_UP : 0, node, NULL, 0);
}

void siblings_order_levels(struct worker *w, const char *levels)
{
    for (uint32_t k = 1; siblings_is_face(w) && k < siblings_count(w); k++)
        frame_say(&w->siblings->ways[k], FRAME_LEVELS, 0, 0, levels, strlen(levels));
}

void siblings_order_checkpoint(struct worker *w)
{
    for (uint32_t k = 1; siblings_is_face(w) && k < siblings_count(w); k++)
        frame_say(&w->siblings->ways[k], FRAME_CHECKPOINT, 0, 0, NULL, 0);
}

void siblings_end(struct worker *w)
{
    for (uint32_t k = 1; siblings_is_face(w) && k < siblings_count(w); k++)
        frame_say(&w->siblings->ways[k], FRAME_END, 0, 0, NULL, 0);
    siblings_flush(w);
}

const struct sibling_state *siblings_state(const struct worker *w, uint32_t index)
{
    return &w->siblings->ways[index].state;
}

bool siblings_lead(const struct worker *w)
{
    for (uint32_t k = 1; siblings_is_face(w) && k < siblings_count(w); k++)
        if (seats_counts(w, k)->leads > 0) return true;
    return false;
}

bool siblings_node_is_damaged(const struct worker *w)
{
    bool is_damaged = store_damage(w->store) != NULL;
    for (uint32_t k = 1; siblings_is_face(w) && k < siblings_count(w); k++) is_damaged = is_damaged || siblings_state(w, k)->damaged;
    return is_damaged;
}

bool siblings_node_is_full(const struct worker *w)
{
    bool full = store_is_full(w->store) || (!siblings_is_face(w) && w->siblings->node.full);
    for (uint32_t k = 1; siblings_is_face(w) && k < siblings_count(w); k++) full = full || siblings_state(w, k)->full;
    return full;
}

uint32_t siblings_senders(const struct worker *w)
{
    if (w->siblings == NULL) return 1;
    uint32_t others = siblings_is_face(w) ? 0 : w->siblings->node.senders - (w->siblings->node.senders > 0 && w->siblings->told_up.sends);
    for (uint32_t k = 1; siblings_is_face(w) && k < siblings_count(w); k++) others += siblings_state(w, k)->sends;
    return others + 1;
}

const struct peer_facts *siblings_facts(const struct worker *w, uint32_t node)
{
    if (siblings_is_face(w)) return NULL;
    const struct node_state *n = &w->siblings->node;
    for (uint32_t i = 0; i < n->count; i++)
        if (n->nodes[i].node == node) return &n->nodes[i];
    return NULL;
}

uint32_t siblings_facts_connected(const struct worker *w)
{
    uint32_t count = 0;
    for (uint32_t i = 0; !siblings_is_face(w) && i < w->siblings->node.count; i++) count += w->siblings->node.nodes[i].is_up;
    return count;
}

/* All stores of a node are one directory: it has another birthmark as soon as one of them has. */
uint64_t siblings_node_birthmark(const struct worker *w)
{
    if (!siblings_is_face(w)) return w->siblings->node.birthmark;
    uint64_t mark = store_birthmark(w->store);
    for (uint32_t k = 1; k < siblings_count(w); k++)
        if (siblings_state(w, k)->impaired) mark = kv_hash64(kv_slice(&mark, sizeof mark), siblings_state(w, k)->birthmark);
    return mark;
}

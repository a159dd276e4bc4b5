#include "tests/sim/env_sim_impl.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* Connections of the simulated world.
 * (1) A pipe carries the bytes of one direction; its segments arrive in order, each
 *     no earlier than the one before it.
 * (2) A pipe ends once: with `fin`, behind its last segment. The receiver's on_close
 *     comes after that, or after its own close().
 * (3) A blocked path stalls its pipes: nothing arrives until the path heals. What
 *     was under way when it was blocked is stalled too, as a lost packet would be.
 * (4) The acceptor comes to life with the first thing that arrives behind the SYN,
 *     so a path blocked one way gives one side an open connection and the other none.
 * (5) A connection is freed when both ends are gone and no event of it is scheduled. */

enum {
    NET_SOON_NS = 30000,            /* between a call and its callback */
    NET_RTO_NS = 200000000,         /* first retransmission */
    NET_RESUME_NS_MAX = 1000000000, /* after a heal, beyond the share of the time blocked */
    NET_SEGMENT_MAX = 65536,
    NET_SYN_NS_MIN = 1000000000 /* a dial into silence fails after one to four of these */
};

struct segment {
    uint32_t size;
    uint64_t arrival;
};

struct pipe {
    struct kv_buf bytes;
    struct segment *segments; /* a ring */
    uint32_t head, count, capacity;
    uint64_t arrival_last;
    bool syn;     /* the acceptor does not exist yet; the next arrival makes it */
    bool fin;     /* ends behind the last segment, at fin_arrival */
    bool drained; /* fin has arrived */
    bool stalled;
    uint64_t fin_arrival;
    struct sim_event arrive;  /* at the receiver */
    struct sim_event give_up; /* a stalled sender's patience */
};

struct end {
    struct sim_tcp *tcp;
    struct sim_host *host;
    struct env_sim *process;
    struct env_conn *conn; /* NULL: not accepted yet, or gone */
    struct env_addr local;
    struct env_write *write;
    enum kv_err write_err, close_err;
    struct pipe out;
    struct sim_event written, closed, opened;
    bool reading, closing, gone;
};

struct sim_tcp {
    struct sim *sim;
    struct sim_tcp *next, *previous;
    struct end ends[2]; /* dialler, acceptor */
    bool established;
    struct sim_event syn, syn_timeout;
    struct env_addr to;
};

static struct end *peer_of(struct end *e)
{
    return &e->tcp->ends[e == &e->tcp->ends[0] ? 1 : 0];
}

static struct pipe *inbound(struct end *e)
{
    return &peer_of(e)->out;
}

static bool path_blocked(struct end *from)
{
    const struct end *to = peer_of(from);
    return to->host != NULL && sim_link_blocked(from->tcp->sim, from->host, to->host);
}

static void tcp_release(struct sim_tcp *t)
{
    struct sim *s = t->sim;
    for (int i = 0; i < 2; i++) {
        struct end *e = &t->ends[i];
        struct sim_event *events[] = {&e->written, &e->closed, &e->opened, &e->out.arrive, &e->out.give_up};
        for (size_t k = 0; k < sizeof events / sizeof events[0]; k++) sim_cancel(s, events[k]);
        kv_buf_free(&e->out.bytes);
        free(e->out.segments);
    }
    sim_cancel(s, &t->syn);
    sim_cancel(s, &t->syn_timeout);
    if (t->previous != NULL) t->previous->next = t->next;
    else s->tcp_first = t->next;
    if (t->next != NULL) t->next->previous = t->previous;
    else s->tcp_last = t->previous;
    free(t);
}

static void tcp_release_if_done(struct sim_tcp *t)
{
    if (t->ends[0].gone && t->ends[1].gone) tcp_release(t);
}

static void arrive_at(struct end *from, uint64_t time)
{
    struct end *to = peer_of(from);
    sim_schedule(from->tcp->sim, to->process, &from->out.arrive, time);
}

/* Schedules the arrival of what is next in the pipe, if anything and if it is not scheduled. */
static void pipe_kick(struct end *from)
{
    struct pipe *p = &from->out;
    const struct end *to = peer_of(from);
    struct sim *s = from->tcp->sim;
    if (p->arrive.heap_index != 0 || p->stalled || to->gone || !to->process->alive) return;
    if (to->closing || (!to->reading && !p->syn)) return;
    uint64_t at;
    if (p->count > 0) at = p->segments[p->head].arrival;
    else if (p->fin && !p->drained) at = p->fin_arrival;
    else if (p->syn) at = p->arrival_last;
    else return;
    arrive_at(from, at > s->now ? at : s->now + 1);
}

static void pipe_push(struct end *from, uint32_t size)
{
    struct pipe *p = &from->out;
    struct sim *s = from->tcp->sim;
    if (p->count == p->capacity) {
        uint32_t capacity = p->capacity == 0 ? 8 : 2 * p->capacity;
        struct segment *segments = calloc(capacity, sizeof *segments);
        assert(segments != NULL);
        for (uint32_t i = 0; i < p->count; i++) segments[i] = p->segments[(p->head + i) % p->capacity];
        free(p->segments);
        p->segments = segments;
        p->capacity = capacity;
        p->head = 0;
    }
    uint64_t arrival = sim_host_now(from->host) + sim_delay(s, from->host, peer_of(from)->host);
    for (uint32_t tries = 0; tries < 4 && from->host != peer_of(from)->host && sim_chance(s, s->net.loss_ppm); tries++)
        arrival += (uint64_t)NET_RTO_NS << tries;
    if (arrival < p->arrival_last) arrival = p->arrival_last;
    p->arrival_last = arrival;
    p->segments[(p->head + p->count++) % p->capacity] = (struct segment){size, arrival};
}

/* The end of the stream: `keep` segments still arrive. */
static void pipe_fin(struct end *from, uint32_t keep)
{
    struct pipe *p = &from->out;
    if (p->fin) return;
    while (p->count > keep) {
        p->count--;
        p->bytes.size -= p->segments[(p->head + p->count) % p->capacity].size;
    }
    p->fin = true;
    p->fin_arrival = sim_host_now(from->host);
    if (peer_of(from)->host != NULL) p->fin_arrival += sim_delay(from->tcp->sim, from->host, peer_of(from)->host);
    if (p->count > 0 && p->fin_arrival < p->arrival_last) p->fin_arrival = p->arrival_last;
    pipe_kick(from);
}

static void end_closes(struct end *e, enum kv_err err)
{
    if (e->closing || e->gone) return;
    e->closing = true;
    e->close_err = err;
    sim_cancel(e->tcp->sim, &inbound(e)->arrive);
    sim_schedule(e->tcp->sim, e->process, &e->closed,
                 sim_host_now(e->host) + 1 + sim_below(e->tcp->sim, NET_SOON_NS));
}

static void write_finish(struct end *e, enum kv_err err)
{
    if (e->write == NULL || e->written.heap_index != 0) return;
    e->write_err = err;
    sim_schedule(e->tcp->sim, e->process, &e->written,
                 sim_host_now(e->host) + 1 + sim_below(e->tcp->sim, NET_SOON_NS));
}

/* The end is gone: a writer that waited for it to read is refused, if the refusal can reach it. */
static void nobody_reads(struct end *gone)
{
    struct end *writer = peer_of(gone);
    sim_cancel(gone->tcp->sim, &writer->out.arrive);
    if (!writer->gone && writer->host != NULL && !path_blocked(gone)) write_finish(writer, KV_CLOSED);
}

static void end_closed(struct sim_event *event)
{
    struct end *e = container_of(event, struct end, closed);
    struct sim_tcp *t = e->tcp;
    struct env_conn *c = e->conn;
    if (e->write != NULL) {
        struct env_write *w = e->write;
        e->write = NULL;
        w->done(w, KV_CLOSED);
    }
    sim_cancel(t->sim, &e->written);
    e->conn = NULL;
    e->gone = true;
    nobody_reads(e);
    if (c != NULL) {
        c->impl = NULL;
        c->on_close(c, e->close_err);
    }
    tcp_release_if_done(t);
}

static void end_written(struct sim_event *event)
{
    struct end *e = container_of(event, struct end, written);
    struct env_write *w = e->write;
    e->write = NULL;
    if (e->write_err != KV_OK) end_closes(e, e->write_err);
    w->done(w, e->write_err);
}

/* Something breaks the connection: a random part of what is under way arrives, then the end. */
static void tcp_break(struct sim_tcp *t)
{
    struct sim *s = t->sim;
    for (int i = 0; i < 2; i++) {
        struct end *e = &t->ends[i];
        if (e->host == NULL) continue;
        uint32_t count = e->out.count;
        pipe_fin(e, count == 0 ? 0 : (uint32_t)sim_below(s, count + 1));
    }
}

static void pipe_stall(struct end *from)
{
    struct sim *s = from->tcp->sim;
    from->out.stalled = true;
    if (s->net.stall_break_ns == 0 || from->gone || !from->process->alive || from->conn == NULL) return;
    sim_schedule(s, from->process, &from->out.give_up,
                 s->now + s->net.stall_break_ns + sim_below(s, s->net.stall_break_ns));
}

static void pipe_gave_up(struct sim_event *event)
{
    struct end *e = container_of(container_of(event, struct pipe, give_up), struct end, out);
    if (!e->out.stalled) return;
    uint32_t count = e->out.count;
    pipe_fin(e, count == 0 ? 0 : (uint32_t)sim_below(e->tcp->sim, count + 1));
    end_closes(e, KV_CLOSED);
}

static bool accept_now(struct end *e)
{
    struct sim *s = e->tcp->sim;
    struct env_conn *c = NULL;
    for (struct sim_listener *l = s->listeners; l != NULL; l = l->next) {
        if (l->process != e->process || l->port != e->local.port) continue;
        c = l->listener->accept(l->listener, &peer_of(e)->local);
        break;
    }
    if (c == NULL) { /* no longer listening, or refused */
        e->gone = true;
        pipe_fin(e, 0);
        return false;
    }
    c->peer = peer_of(e)->local;
    c->impl = e;
    e->conn = c;
    return true;
}

static void pipe_arrives(struct sim_event *event)
{
    struct end *from = container_of(container_of(event, struct pipe, arrive), struct end, out);
    struct end *to = peer_of(from);
    struct pipe *p = &from->out;
    struct sim_tcp *t = from->tcp;
    struct sim *s = t->sim;
    if (path_blocked(from)) {
        pipe_stall(from);
        return;
    }
    if (p->syn) {
        p->syn = false;
        if (!accept_now(to)) {
            tcp_release_if_done(t);
            return;
        }
    } else if (p->count > 0 && p->segments[p->head].arrival <= s->now) {
        uint32_t size = 0;
        do { /* several segments may be read at once */
            size += p->segments[p->head].size;
            p->head = (p->head + 1) % p->capacity;
            p->count--;
        } while (p->count > 0 && p->segments[p->head].arrival <= s->now && size < NET_SEGMENT_MAX &&
                 sim_below(s, 4) != 0);
        /* Copied: a process connected to itself may write more while it reads. */
        kv_buf_clear(&s->received);
        kv_buf_append(&s->received, kv_buf_slice(&p->bytes).data, size);
        kv_buf_consume(&p->bytes, size);
        assert(!s->received.failed);
        sim_mix(s, kv_buf_slice(&s->received));
        to->conn->on_bytes(to->conn, kv_buf_slice(&s->received));
        if (!from->gone && p->bytes.size <= SIM_SEND_BUFFER_BYTES) write_finish(from, KV_OK);
    } else if (p->count == 0 && p->fin && p->fin_arrival <= s->now && !p->drained) {
        p->drained = true;
        write_finish(to, KV_CLOSED);
        end_closes(to, KV_CLOSED);
        pipe_fin(to, 0);
    }
    pipe_kick(from);
}

/* Dialling. */

static void end_init(struct end *e, struct sim_tcp *t, struct env_sim *process)
{
    e->tcp = t;
    e->host = process->host;
    e->process = process;
    e->reading = true;
    e->written.fire = end_written;
    e->closed.fire = end_closed;
    e->out.arrive.fire = pipe_arrives;
    e->out.give_up.fire = pipe_gave_up;
    kv_buf_init(&e->out.bytes, 0);
}

static struct sim_host *host_find(struct sim *s, const char *address)
{
    for (uint32_t id = 1; id <= s->host_count; id++)
        if (strcmp(s->hosts[id]->address, address) == 0) return s->hosts[id];
    return NULL;
}

static void dial_fails(struct sim_tcp *t, enum kv_err err)
{
    struct end *e = &t->ends[0];
    if (e->closing || e->gone) return;
    sim_cancel(t->sim, &t->syn_timeout);
    e->write_err = err;
    sim_schedule(t->sim, e->process, &e->opened,
                 t->sim->now + 1 + (t->ends[1].host == NULL ? sim_below(t->sim, NET_SOON_NS) : sim_delay(t->sim, t->ends[1].host, e->host)));
}

static void dial_timeout(struct sim_event *event)
{
    struct sim_tcp *t = container_of(event, struct sim_tcp, syn_timeout);
    if (!t->established) dial_fails(t, KV_TIMEOUT);
}

static void dial_opened(struct sim_event *event)
{
    struct end *e = container_of(event, struct end, opened);
    struct sim_tcp *t = e->tcp;
    if (e->closing) return;
    if (e->write_err != KV_OK) {
        end_closes(e, e->write_err);
        e->conn->on_open(e->conn, e->write_err);
        return;
    }
    t->established = true;
    sim_cancel(t->sim, &t->syn_timeout);
    /* The ACK, or data with it, makes the acceptor; and what it says reaches us from now on. */
    e->out.syn = true;
    e->out.arrival_last = t->sim->now + sim_delay(t->sim, e->host, t->ends[1].host);
    e->conn->on_open(e->conn, KV_OK);
    pipe_kick(e);
}

static bool listening(const struct sim *s, const struct env_sim *process, uint16_t port, bool loopback)
{
    for (const struct sim_listener *l = s->listeners; l != NULL; l = l->next)
        if (l->process == process && l->port == port && (loopback || !l->loopback)) return true;
    return false;
}

/* A SYN reaches the kernel of the other host; a blocked path or a dark host lets it be sent again. */
static void dial_syn(struct sim_event *event)
{
    struct sim_tcp *t = container_of(event, struct sim_tcp, syn);
    struct sim *s = t->sim;
    struct end *a = &t->ends[0], *b = &t->ends[1];
    struct sim_host *h = host_find(s, t->to.host);
    if (a->closing || a->gone) return;
    if (h == NULL || !h->process->alive || sim_link_blocked(s, a->host, h) || sim_link_blocked(s, h, a->host)) {
        bool refused = h != NULL && !h->process->alive && !sim_link_blocked(s, a->host, h) &&
                       !sim_link_blocked(s, h, a->host);
        if (refused) dial_fails(t, KV_CLOSED);
        else sim_schedule(s, NULL, &t->syn, s->now + NET_RTO_NS + sim_below(s, NET_RTO_NS));
        return;
    }
    end_init(b, t, h->process);
    b->gone = false;
    snprintf(b->local.host, sizeof b->local.host, "%s", h->address);
    b->local.port = t->to.port;
    if (!listening(s, h->process, t->to.port, h == a->host)) {
        b->gone = true;
        dial_fails(t, KV_CLOSED);
        return;
    }
    a->write_err = KV_OK;
    sim_schedule(s, a->process, &a->opened, s->now + sim_delay(s, h, a->host));
}

void sim_net_connect(struct env *e, struct env_conn *c, const struct env_addr *to, const struct env_addr *from)
{
    struct env_sim *p = container_of(e, struct env_sim, env);
    struct sim *s = p->host->sim;
    c->peer = *to;
    c->impl = NULL;
    if (!p->alive) return;
    struct sim_tcp *t = calloc(1, sizeof *t);
    assert(t != NULL);
    t->sim = s;
    t->previous = s->tcp_last;
    if (s->tcp_last != NULL) s->tcp_last->next = t;
    else s->tcp_first = t;
    s->tcp_last = t;
    struct end *a = &t->ends[0];
    end_init(a, t, p);
    a->conn = c;
    a->opened.fire = dial_opened;
    c->impl = a;
    const char *address = from != NULL && from->host[0] != '\0' ? from->host : p->host->address;
    snprintf(a->local.host, sizeof a->local.host, "%s", address);
    a->local.port = s->port_next;
    s->port_next = s->port_next == 65535 ? 32768 : (uint16_t)(s->port_next + 1);
    t->ends[1].gone = true; /* until the SYN gets there */
    t->ends[1].tcp = t;
    t->to = *to;
    bool loopback = strcmp(to->host, "127.0.0.1") == 0 || strcmp(to->host, "::1") == 0;
    if (loopback) snprintf(t->to.host, sizeof t->to.host, "%s", p->host->address);
    t->syn.fire = dial_syn;
    t->syn_timeout.fire = dial_timeout;
    struct sim_host *h = host_find(s, t->to.host);
    uint64_t now = sim_host_now(p->host);
    sim_schedule(s, NULL, &t->syn, now + (h == NULL ? 1 : sim_delay(s, p->host, h)));
    sim_schedule(s, NULL, &t->syn_timeout, now + NET_SYN_NS_MIN + sim_below(s, 3 * (uint64_t)NET_SYN_NS_MIN));
}

void sim_net_write(struct env *e, struct env_conn *c, struct env_write *w)
{
    struct env_sim *p = container_of(e, struct env_sim, env);
    struct end *x = c->impl;
    if (!p->alive || x == NULL) return;
    struct sim *s = p->host->sim;
    assert(x->write == NULL && x->conn == c);
    x->write = w;
    if (x->closing) return; /* done(CLOSED) comes before on_close */
    const struct pipe *in = &peer_of(x)->out;
    if (x->out.fin || (in->fin && in->fin_arrival <= s->now && !in->stalled)) { /* EPIPE, seen or not */
        write_finish(x, KV_CLOSED);
        return;
    }
    uint64_t total = 0;
    for (uint32_t i = 0; i < w->part_count; i++) {
        kv_buf_append_slice(&x->out.bytes, w->parts[i]);
        total += w->parts[i].size;
    }
    assert(!x->out.bytes.failed);
    if (peer_of(x)->gone) { /* a dead end takes bytes until we hear of it */
        kv_buf_clear(&x->out.bytes);
        write_finish(x, KV_OK);
        return;
    }
    while (total > 0) { /* cut anywhere */
        uint64_t size = total <= NET_SEGMENT_MAX ? total : NET_SEGMENT_MAX;
        if (size > 1 && sim_below(s, 3) == 0) size = 1 + sim_below(s, size - 1);
        pipe_push(x, (uint32_t)size);
        total -= size;
        if (x->host != peer_of(x)->host && sim_chance(s, s->net.reset_ppm)) {
            sim_note(s, x->host, "connection to %s breaks", c->peer.host);
            tcp_break(x->tcp);
            break;
        }
    }
    if (x->out.fin) { /* broken just now: what was not cut into segments is lost */
        uint64_t kept = 0;
        for (uint32_t i = 0; i < x->out.count; i++)
            kept += x->out.segments[(x->out.head + i) % x->out.capacity].size;
        x->out.bytes.size = (size_t)kept;
    }
    if (x->out.fin || x->out.bytes.size <= SIM_SEND_BUFFER_BYTES) write_finish(x, KV_OK);
    pipe_kick(x);
}

void sim_net_read(struct env *e, struct env_conn *c, bool on)
{
    struct env_sim *p = container_of(e, struct env_sim, env);
    struct end *x = c->impl;
    if (!p->alive || x == NULL || x->reading == on) return;
    x->reading = on;
    if (on) pipe_kick(peer_of(x));
    else if (!inbound(x)->syn) sim_cancel(p->host->sim, &inbound(x)->arrive);
}

void sim_net_close(struct env *e, struct env_conn *c)
{
    struct env_sim *p = container_of(e, struct env_sim, env);
    struct end *x = c->impl;
    if (!p->alive || x == NULL || x->closing) return;
    if (!x->out.fin && x->write != NULL && x->written.heap_index == 0 && x->out.count > 0)
        pipe_fin(x, x->out.count - 1); /* bytes the kernel had not taken are lost */
    else
        pipe_fin(x, x->out.count);
    end_closes(x, KV_CLOSED);
}

/* Listeners. */

enum kv_err sim_net_listen(struct env *e, struct env_listener *l, const struct env_addr *a)
{
    struct env_sim *p = container_of(e, struct env_sim, env);
    struct sim *s = p->host->sim;
    bool loopback = strcmp(a->host, "127.0.0.1") == 0 || strcmp(a->host, "::1") == 0;
    bool any = a->host[0] == '\0' || strcmp(a->host, "0.0.0.0") == 0 || strcmp(a->host, "::") == 0;
    l->impl = NULL;
    if (!p->alive) return KV_CLOSED;
    if (a->port == SIM_PORT_ANY) return KV_BAD_ARGUMENT;
    if (!loopback && !any && strcmp(a->host, p->host->address) != 0) return KV_DENIED;
    if (listening(s, p, a->port, true)) return KV_BUSY;
    struct sim_listener *x = calloc(1, sizeof *x);
    if (x == NULL) return KV_NO_SPACE;
    *x = (struct sim_listener){
        .next = s->listeners, .process = p, .listener = l, .loopback = loopback, .port = a->port};
    s->listeners = x;
    l->impl = x;
    return KV_OK;
}

static void listeners_drop(struct sim *s, const struct env_sim *process, const struct sim_listener *one)
{
    struct sim_listener **at = &s->listeners;
    while (*at != NULL) {
        struct sim_listener *x = *at;
        if (x->process == process && (one == NULL || one == x)) {
            *at = x->next;
            x->listener->impl = NULL;
            free(x);
        } else {
            at = &x->next;
        }
    }
}

void sim_net_unlisten(struct env *e, struct env_listener *l)
{
    struct env_sim *p = container_of(e, struct env_sim, env);
    if (l->impl == NULL) return;
    listeners_drop(p->host->sim, p, l->impl);
}

/* Faults. */

static void orphan(struct env_sim *p, struct end *e)
{
    if (p->orphan_count == p->orphan_capacity) {
        p->orphan_capacity = p->orphan_capacity == 0 ? 16 : 2 * p->orphan_capacity;
        p->orphans = realloc(p->orphans, p->orphan_capacity * sizeof *p->orphans);
        assert(p->orphans != NULL);
    }
    p->orphans[p->orphan_count++] = (struct sim_orphan){.conn = e->conn, .write = e->write};
    e->conn->impl = NULL;
    e->conn = NULL;
    e->write = NULL;
}

void sim_net_killed(struct env_sim *p, enum sim_death how)
{
    struct sim *s = p->host->sim;
    listeners_drop(s, p, NULL);
    for (struct sim_tcp *t = s->tcp_first, *next; t != NULL; t = next) {
        next = t->next;
        for (int i = 0; i < 2; i++) {
            struct end *e = &t->ends[i];
            if (e->process != p || e->gone) continue;
            if (e->conn != NULL) orphan(p, e);
            e->gone = true;
            if (how == SIM_KILL) nobody_reads(e);
            else sim_cancel(s, &inbound(e)->arrive);
            uint32_t count = e->out.count;
            if (how == SIM_KILL) pipe_fin(e, count == 0 ? 0 : (uint32_t)sim_below(s, count + 1));
        }
        tcp_release_if_done(t);
    }
}

void sim_net_started(struct sim_host *h)
{
    for (struct sim_tcp *t = h->sim->tcp_first; t != NULL; t = t->next) {
        for (int i = 0; i < 2; i++) {
            struct end *e = &t->ends[i];
            if (e->host == h && e->gone && e->process != h->process && !e->out.fin) pipe_fin(e, 0);
        }
    }
}

void sim_net_healed(struct sim *s, struct sim_host *from, struct sim_host *to)
{
    uint64_t blocked = s->now - s->paths[from->id][to->id].since;
    for (struct sim_tcp *t = s->tcp_first; t != NULL; t = t->next) {
        for (int i = 0; i < 2; i++) {
            struct end *e = &t->ends[i];
            if (e->host != from || peer_of(e)->host != to || !e->out.stalled) continue;
            e->out.stalled = false;
            sim_cancel(s, &e->out.give_up);
            if (sim_chance(s, s->net.heal_break_ppm)) tcp_break(t);
            /* Retransmission has backed off in proportion to the time blocked. */
            uint64_t wait = sim_below(s, blocked + NET_RESUME_NS_MAX);
            if (e->out.count > 0 && e->out.segments[e->out.head].arrival < s->now + wait)
                e->out.segments[e->out.head].arrival = s->now + wait;
            uint64_t floor = s->now + wait;
            for (uint32_t k = 0; k < e->out.count; k++) {
                struct segment *x = &e->out.segments[(e->out.head + k) % e->out.capacity];
                if (x->arrival < floor) x->arrival = floor;
                floor = x->arrival;
            }
            if (e->out.arrival_last < floor) e->out.arrival_last = floor;
            if (e->out.fin && e->out.fin_arrival < floor) e->out.fin_arrival = floor;
            pipe_kick(e);
        }
    }
}

uint32_t sim_cut_connections(struct sim *s, struct sim_host *a, struct sim_host *b)
{
    uint32_t cut = 0;
    for (struct sim_tcp *t = s->tcp_first; t != NULL; t = t->next) {
        const struct sim_host *x = t->ends[0].host, *y = t->ends[1].host;
        if (!t->established || x == y) continue;
        if (!((x == a && (b == NULL || y == b)) || (y == a && (b == NULL || x == b)))) continue;
        tcp_break(t);
        cut++;
    }
    return cut;
}

void sim_net_destroy(struct sim *s)
{
    while (s->tcp_first != NULL) tcp_release(s->tcp_first);
    while (s->listeners != NULL) {
        struct sim_listener *next = s->listeners->next;
        free(s->listeners);
        s->listeners = next;
    }
}

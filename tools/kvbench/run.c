#include <assert.h>
#include <inttypes.h>
#include <sys/resource.h>

#include "tools/kvbench/kvbench.h"

/* The run: connect all lanes, warm up, measure, drain.
 * (1) Rates count what is answered inside the measured time. So do latencies, except in an open
 *     loop: there every arrival inside it counts, however late its answer.
 * (2) An operation that gets no answer is an error, never forgotten.
 * (3) Arrivals of an open loop need no queue: they are the numbers of the clock that no lane
 *     has taken yet.
 * (4) A fill is there to have every key: what is refused as BUSY is sent again, as the server asks. */

static double cpu_seconds(void)
{
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static bool is_open_loop(const struct bench *b)
{
    return b->options.rate > 0;
}

static void note_error(struct bench *b, const char *text)
{
    if (b->phase == PHASE_WARMUP && is_open_loop(b)) return;
    b->errors++;
    for (size_t i = 0; i < ERROR_KINDS_MAX; i++) {
        struct error_kind *k = &b->error_kinds[i];
        if (k->count == 0) (void)snprintf(k->text, sizeof k->text, "%s", text);
        if (strncmp(k->text, text, sizeof k->text - 1) == 0 || i + 1 == ERROR_KINDS_MAX) {
            k->count++;
            return;
        }
    }
}

/* Whether the next operation is due, and since when. */
static bool take(struct bench *b, uint64_t now_ns, uint64_t *arrived_ns)
{
    const struct options *o = &b->options;
    if (o->ops_max != 0 && b->issued >= o->ops_max) return false;
    if (!is_open_loop(b)) {
        if (b->phase != PHASE_WARMUP && b->phase != PHASE_MEASURE) return false;
        if (now_ns >= b->end_ns) return false;
        *arrived_ns = now_ns;
        return true;
    }
    if (b->phase == PHASE_CONNECT || b->phase == PHASE_OVER) return false;
    if (now_ns > b->end_ns + o->timeout_ns) return false; /* the backlog is beyond hope */
    if (b->next_arrival_ns > now_ns || b->next_arrival_ns >= b->end_ns) return false;
    *arrived_ns = b->next_arrival_ns;
    b->next_arrival_ns += work_gap_ns(b);
    return true;
}

static void finish(struct bench *b)
{
    if (b->phase == PHASE_OVER) return;
    if (b->phase == PHASE_MEASURE) {
        b->ended_ns = env_now_ns(b->env);
        b->cpu_seconds = cpu_seconds() - b->cpu_seconds;
    }
    if (b->phase == PHASE_DRAIN && is_open_loop(b) && b->options.ops_max == 0)
        for (; b->next_arrival_ns < b->end_ns; b->next_arrival_ns += work_gap_ns(b)) b->dropped++;
    b->phase = PHASE_OVER;
    b->env->ops->timer_stop(b->env, &b->arrivals);
    b->env->ops->timer_stop(b->env, &b->watch);
    b->stop(b);
}

static bool is_finished(const struct bench *b)
{
    if (b->issued != b->answered) return false;
    if (b->options.ops_max != 0 && b->phase != PHASE_CONNECT && b->issued >= b->options.ops_max)
        return true;
    if (b->phase != PHASE_DRAIN) return false;
    return !is_open_loop(b) || b->next_arrival_ns >= b->end_ns ||
           env_now_ns(b->env) > b->end_ns + b->options.timeout_ns;
}

/* --- lanes -------------------------------------------------------------------------------- */

static void send_op(struct op *op, uint64_t now_ns)
{
    struct lane *l = op->lane;
    const struct protocol *protocol = l->bench->options.protocol;
    op->sent_ns = now_ns;
    enum kv_err err = protocol->send(l, op);
    if (err == KV_OK) return;
    if (protocol->socket)
        lane_close(l, kv_err_text(err));
    else
        op_done(op, DONE_ERROR, kv_slice(NULL, 0), kv_err_text(err));
}

static bool has_room(const struct lane *l)
{
    return l->ready && l->free != NULL;
}

static bool pull_one(struct lane *l, uint64_t now_ns)
{
    struct bench *b = l->bench;
    uint64_t arrived_ns;
    if (!has_room(l) || !take(b, now_ns, &arrived_ns)) return false;
    struct op *op = l->free;
    l->free = op->free_next;
    l->open++;
    op->busy = true;
    op->arrived_ns = arrived_ns;
    work_choose(b, op);
    b->issued++;
    send_op(op, now_ns);
    return true;
}

static void idle_push(struct lane *l)
{
    struct bench *b = l->bench;
    if (l->idle_queued || !is_open_loop(b)) return;
    l->idle_queued = true;
    l->idle_next = NULL;
    if (b->idle_first == NULL)
        b->idle_first = l;
    else
        b->idle_last->idle_next = l;
    b->idle_last = l;
}

static struct lane *idle_pop(struct bench *b)
{
    struct lane *l = b->idle_first;
    if (l == NULL) return NULL;
    b->idle_first = l->idle_next;
    l->idle_queued = false;
    return l;
}

void lane_pull(struct lane *l)
{
    uint64_t now_ns = env_now_ns(l->bench->env);
    while (pull_one(l, now_ns)) {}
    lane_flush(l);
    if (has_room(l)) idle_push(l);
    if (is_finished(l->bench)) finish(l->bench);
}

static void arrivals_due(struct env_timer *t)
{
    struct bench *b = container_of(t, struct bench, arrivals);
    uint64_t now_ns = env_now_ns(b->env);
    struct lane *l;
    while (b->next_arrival_ns <= now_ns && (l = idle_pop(b)) != NULL) {
        if (!has_room(l)) continue; /* lane_pull() queues it again when it has */
        bool sent = pull_one(l, now_ns);
        lane_flush(l);
        if (has_room(l)) idle_push(l);
        if (!sent) break; /* the last arrival of the run is out */
        now_ns = env_now_ns(b->env);
    }
    uint64_t delay_ns = b->next_arrival_ns > now_ns ? b->next_arrival_ns - now_ns : KV_MS(1);
    b->env->ops->timer_start(b->env, t, delay_ns);
}

/* --- operations ----------------------------------------------------------------------------- */

static void record(struct bench *b, const struct op *op, enum outcome outcome, uint64_t now_ns)
{
    bool counts = is_open_loop(b) ? op->arrived_ns >= b->measure_ns
                                  : b->phase == PHASE_MEASURE && now_ns < b->end_ns;
    if (!counts) return;
    struct counters *c = &b->counters[op->kind];
    kv_hist_add(&c->latency, now_ns - op->arrived_ns);
    kv_hist_add(&c->service, now_ns - op->sent_ns);
    c->ok++;
    if (now_ns < b->end_ns) c->in_time++;
    if (outcome == DONE_MISSING) c->missing++;
}

static void release(struct op *op)
{
    assert(op->busy && op->lane->open > 0);
    op->busy = false;
    op->free_next = op->lane->free;
    op->lane->free = op;
    op->lane->open--;
    op->lane->bench->answered++;
}

void op_done(struct op *op, enum outcome outcome, struct kv_slice value, const char *error)
{
    struct bench *b = op->lane->bench;
    if (outcome == DONE_BUSY && b->options.fill) {
        b->refused++;
        b->again += !op->again;
        op->again = true;
        return;
    }
    if (op->again) b->again--;
    op->again = false;
    if (outcome == DONE_ERROR || outcome == DONE_BUSY) {
        note_error(b, error);
        release(op);
        return;
    }
    bool read = !op->writes && op->kind != OP_SCAN;
    if (outcome == DONE_OK && read && !work_check(op->key, value)) b->wrong++;
    uint64_t now_ns = env_now_ns(b->env);
    if (op->kind == OP_MODIFY && !op->writes) {
        uint64_t sent_ns = op->sent_ns;
        op->writes = true;
        send_op(op, now_ns);
        op->sent_ns = sent_ns;
        return;
    }
    record(b, op, outcome, now_ns);
    release(op);
}

void lane_lost(struct lane *l, const char *why)
{
    if (l->ready) l->bench->connected--;
    l->ready = false;
    for (uint32_t i = 0; i < l->bench->options.depth; i++)
        if (l->ops[i].busy) op_done(&l->ops[i], DONE_ERROR, kv_slice(NULL, 0), why);
}

/* --- phases --------------------------------------------------------------------------------- */

static void begin(struct bench *b)
{
    const struct options *o = &b->options;
    b->began_ns = env_now_ns(b->env);
    b->phase = o->warmup_ns > 0 ? PHASE_WARMUP : PHASE_MEASURE;
    b->measure_ns = b->began_ns + o->warmup_ns;
    b->end_ns = b->measure_ns + o->run_ns;
    b->cpu_seconds = cpu_seconds();
    b->next_arrival_ns = b->began_ns;
    for (uint32_t i = 0; i < o->clients; i++) lane_pull(&b->lanes[i]);
    if (is_open_loop(b)) b->env->ops->timer_start(b->env, &b->arrivals, 0);
}

void lane_ready(struct lane *l)
{
    struct bench *b = l->bench;
    assert(!l->ready);
    l->ready = true;
    b->connected++;
    if (b->phase == PHASE_CONNECT) {
        if (b->connected == b->options.clients) begin(b);
    } else {
        lane_pull(l);
    }
}

static void close_overdue(struct bench *b, uint64_t now_ns)
{
    if (!b->options.protocol->socket) return; /* those keep their own deadlines */
    for (uint32_t i = 0; i < b->options.clients; i++) {
        struct lane *l = &b->lanes[i];
        for (uint32_t k = 0; k < b->options.depth && l->open > 0; k++)
            if (l->ops[k].busy && now_ns - l->ops[k].sent_ns > b->options.timeout_ns) {
                lane_close(l, "no answer in time");
                break;
            }
    }
}

/* Every tick of the watch, so that a server that said BUSY has a moment to itself. */
static void send_again(struct bench *b, uint64_t now_ns)
{
    for (uint32_t i = 0; i < b->options.clients && b->again > 0; i++) {
        struct lane *l = &b->lanes[i];
        for (uint32_t k = 0; k < b->options.depth && l->ready; k++) {
            struct op *op = &l->ops[k];
            if (!op->again) continue;
            op->again = false;
            b->again--;
            send_op(op, now_ns);
        }
        lane_flush(l);
    }
}

static void watch(struct env_timer *t)
{
    struct bench *b = container_of(t, struct bench, watch);
    uint64_t now_ns = env_now_ns(b->env);
    switch (b->phase) {
    case PHASE_CONNECT:
        if (b->failure[0] != '\0') {
            finish(b);
        } else if (now_ns - b->began_ns > b->options.timeout_ns) {
            (void)snprintf(b->failure, sizeof b->failure,
                           "%" PRIu32 " of %" PRIu32 " clients connected to %.64s in time: %.100s",
                           b->connected, b->options.clients, b->options.address_text,
                           b->error_kinds[0].count > 0 ? b->error_kinds[0].text : "no answer");
            finish(b);
        }
        break;
    case PHASE_WARMUP:
        if (now_ns >= b->measure_ns) {
            b->phase = PHASE_MEASURE;
            if (!is_open_loop(b)) b->measure_ns = now_ns;
            /* What the warm-up could not keep up with is not the measured time's to work off. */
            if (b->next_arrival_ns < b->measure_ns) b->next_arrival_ns = b->measure_ns;
            b->cpu_seconds = cpu_seconds();
        }
        break;
    case PHASE_MEASURE:
        if (now_ns >= b->end_ns) {
            b->ended_ns = b->end_ns;
            b->cpu_seconds = cpu_seconds() - b->cpu_seconds;
            b->phase = PHASE_DRAIN;
        }
        break;
    case PHASE_DRAIN: /* ends when the last answer came, or its deadline */
    case PHASE_OVER: break;
    }
    close_overdue(b, now_ns);
    send_again(b, now_ns);
    if (is_finished(b)) finish(b);
    if (b->phase != PHASE_OVER) b->env->ops->timer_start(b->env, t, KV_MS(10));
}

void bench_end(struct bench *b)
{
    uint64_t now_ns = env_now_ns(b->env);
    if (b->phase == PHASE_CONNECT) {
        (void)snprintf(b->failure, sizeof b->failure, "stopped before all clients were connected");
    } else if (b->end_ns > now_ns) {
        b->end_ns = now_ns;
        if (b->measure_ns > now_ns) b->measure_ns = now_ns;
    }
}

void bench_start(struct bench *b)
{
    for (int kind = 0; kind < OP_KINDS; kind++) {
        kv_hist_init(&b->counters[kind].latency);
        kv_hist_init(&b->counters[kind].service);
    }
    b->phase = PHASE_CONNECT;
    b->began_ns = env_now_ns(b->env);
    b->arrivals.fire = arrivals_due;
    b->watch.fire = watch;
    b->env->ops->timer_start(b->env, &b->watch, KV_MS(10));
    for (uint32_t i = 0; i < b->options.clients; i++) lane_dial(&b->lanes[i]);
}

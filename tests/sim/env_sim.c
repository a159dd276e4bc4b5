#include "tests/sim/env_sim_impl.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Clock, event heap, hosts.
 * (1) Time moves only in sim_step(), to the time of the earliest entry.
 * (2) Entries with equal times run in the order they were scheduled.
 * (3) A host that is busy (paused, slow, stuttering) receives nothing: its entries
 *     wait for `busy_until` and then run in the order they were scheduled.
 * (4) No decision looks at an address, so the same seed gives the same run. */

enum {
    SIM_READ_COST_NS = 40,          /* of a clock read, so that loops until a time end */
    SIM_TURN_NS_MAX = 20000,        /* how long a loop turn collects events before its tasks run */
    SIM_WORK_NS_MAX = 3000000,      /* of work() off the loop */
    SIM_TIMERS_LATE_NS_MAX = 500000 /* after a pause, behind what came from the network */
};

static void heap_place(struct sim *s, uint32_t i, struct sim_entry x)
{
    s->heap[i] = x;
    switch (x.kind) {
    case SIM_TIMER: ((struct env_timer *)x.what)->heap_index = i; break;
    case SIM_EVENT: ((struct sim_event *)x.what)->heap_index = i; break;
    }
}

static bool entry_before(const struct sim_entry *a, const struct sim_entry *b)
{
    if (a->time != b->time) return a->time < b->time;
    return a->sequence < b->sequence;
}

static void heap_up(struct sim *s, uint32_t i)
{
    struct sim_entry x = s->heap[i];
    for (; i > 1 && entry_before(&x, &s->heap[i / 2]); i /= 2) heap_place(s, i, s->heap[i / 2]);
    heap_place(s, i, x);
}

static void heap_down(struct sim *s, uint32_t i)
{
    struct sim_entry x = s->heap[i];
    for (;;) {
        uint32_t child = 2 * i;
        if (child > s->heap_count) break;
        if (child < s->heap_count && entry_before(&s->heap[child + 1], &s->heap[child])) child++;
        if (!entry_before(&s->heap[child], &x)) break;
        heap_place(s, i, s->heap[child]);
        i = child;
    }
    heap_place(s, i, x);
}

/* With its sequence: what is pushed back keeps the place it was scheduled at. */
static void heap_insert(struct sim *s, struct sim_entry x)
{
    if (s->heap_count + 1 >= s->heap_capacity) {
        uint32_t capacity = s->heap_capacity == 0 ? 256 : 2 * s->heap_capacity;
        s->heap = realloc(s->heap, capacity * sizeof *s->heap);
        assert(s->heap != NULL); /* the simulator has no life without memory */
        s->heap_capacity = capacity;
    }
    s->heap[++s->heap_count] = x;
    heap_up(s, s->heap_count);
}

static void heap_push(struct sim *s, struct sim_entry x)
{
    x.sequence = ++s->sequence;
    heap_insert(s, x);
}

static void heap_forget(struct sim_entry *x)
{
    switch (x->kind) {
    case SIM_TIMER: ((struct env_timer *)x->what)->heap_index = 0; break;
    case SIM_EVENT: ((struct sim_event *)x->what)->heap_index = 0; break;
    }
}

static struct sim_entry heap_remove(struct sim *s, uint32_t i)
{
    assert(i >= 1 && i <= s->heap_count);
    struct sim_entry gone = s->heap[i], last = s->heap[s->heap_count--];
    if (i <= s->heap_count) {
        heap_place(s, i, last);
        heap_up(s, i);
        heap_down(s, i); /* if it went up, what came down is in place already */
    }
    heap_forget(&gone);
    return gone;
}

void sim_schedule(struct sim *s, struct env_sim *process, struct sim_event *e, uint64_t time)
{
    if (e->heap_index != 0) heap_remove(s, e->heap_index);
    heap_push(s, (struct sim_entry){.time = time, .kind = SIM_EVENT, .what = e, .process = process});
}

void sim_after(struct sim *s, struct sim_host *h, struct sim_event *e, uint64_t delay_ns)
{
    if (h != NULL && !sim_host_up(h)) return;
    uint64_t now = h == NULL ? s->now : sim_host_now(h);
    sim_schedule(s, h == NULL ? NULL : h->process, e, now + delay_ns);
}

void sim_cancel(struct sim *s, struct sim_event *e)
{
    if (e->heap_index != 0) heap_remove(s, e->heap_index);
}

uint64_t sim_now_ns(const struct sim *s)
{
    return s->now;
}

uint64_t sim_random(struct sim *s)
{
    return kv_random_next(&s->rng);
}

uint64_t sim_below(struct sim *s, uint64_t n)
{
    assert(n > 0);
    return sim_random(s) % n; /* the bias of a 64-bit modulus is nothing we could measure */
}

bool sim_chance(struct sim *s, uint32_t ppm)
{
    return ppm != 0 && sim_below(s, 1000000) < ppm;
}

uint64_t sim_hash(const struct sim *s)
{
    return s->hash;
}

uint64_t sim_events(const struct sim *s)
{
    return s->dispatched;
}

void sim_mix(struct sim *s, struct kv_slice bytes)
{
    s->hash = kv_hash64(bytes, s->hash);
}

void sim_mix_words(struct sim *s, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t words[3] = {a, b, c};
    sim_mix(s, kv_slice(words, sizeof words));
}

void sim_note(struct sim *s, const struct sim_host *h, const char *format, ...)
{
    if (s->trace == NULL) return;
    struct sim_trace_event *x = &s->trace->events[s->trace->count++ % SIM_TRACE_EVENTS];
    x->time_ns = s->now;
    x->host = h == NULL ? 0 : h->id;
    va_list args;
    va_start(args, format);
    vsnprintf(x->text, sizeof x->text, format, args);
    va_end(args);
}

void sim_trace_end(struct sim *s)
{
    s->trace = NULL;
}

void sim_on_step(struct sim *s, void (*step)(void *context), void *context)
{
    s->on_step = step;
    s->on_step_context = context;
}

void sim_net(struct sim *s, const struct sim_net *n)
{
    assert(n->delay_min_ns <= n->delay_max_ns);
    s->net = *n;
}

/* The host's clocks. */

static uint64_t mono_at(const struct sim_host *h, uint64_t true_ns)
{
    int64_t elapsed = (int64_t)(true_ns - h->anchor_true); /* below 0: the world looks at a host that is busy */
    int64_t drift = elapsed / 1000000 * h->drift_ppm + elapsed % 1000000 * h->drift_ppm / 1000000;
    return h->anchor_mono + (uint64_t)(elapsed + drift);
}

/* The earliest true time at which the host's clock shows `mono`, or a little before:
 * a timer that comes too early is pushed again. */
static uint64_t true_at(const struct sim_host *h, uint64_t mono)
{
    if (mono <= h->anchor_mono) return h->anchor_true;
    uint64_t elapsed = mono - h->anchor_mono, rate = (uint64_t)(1000000 + h->drift_ppm);
    return h->anchor_true + elapsed / rate * 1000000 + elapsed % rate * 1000000 / rate;
}

static uint64_t sim_env_now_ns(struct env *e)
{
    struct env_sim *p = container_of(e, struct env_sim, env);
    struct sim_host *h = p->host;
    if (p->alive && h->sim->running == p) {
        h->lag += SIM_READ_COST_NS;
        if (sim_chance(h->sim, h->stutter_ppm)) h->lag += sim_below(h->sim, h->stutter_max_ns + 1);
    }
    return mono_at(h, sim_host_now(h));
}

static uint64_t sim_env_wall_ns(struct env *e)
{
    struct sim_host *h = container_of(e, struct env_sim, env)->host;
    return mono_at(h, sim_host_now(h)) + (uint64_t)h->wall_offset;
}

static uint64_t sim_env_random(struct env *e)
{
    return kv_random_next(&container_of(e, struct env_sim, env)->random);
}

static void sim_env_timer_stop(struct env *e, struct env_timer *t)
{
    struct env_sim *p = container_of(e, struct env_sim, env);
    if (t->heap_index == 0) return;
    assert(p->alive); /* death forgot all timers */
    heap_remove(p->host->sim, t->heap_index);
}

static void sim_env_timer_start(struct env *e, struct env_timer *t, uint64_t delay_ns)
{
    struct env_sim *p = container_of(e, struct env_sim, env);
    struct sim_host *h = p->host;
    sim_env_timer_stop(e, t);
    t->deadline_ns = mono_at(h, sim_host_now(h)) + delay_ns;
    if (!p->alive) return;
    uint64_t at = true_at(h, t->deadline_ns);
    if (at < sim_host_now(h)) at = sim_host_now(h);
    heap_push(h->sim, (struct sim_entry){.time = at, .kind = SIM_TIMER, .what = t, .process = p});
}

static void run_tasks(struct sim_event *event)
{
    struct env_sim *p = container_of(event, struct env_sim, turn);
    struct env_task *t = p->task_first;
    p->task_first = NULL;
    p->task_last = &p->task_first;
    while (t != NULL) { /* what these post runs in the next turn */
        struct env_task *next = t->next;
        t->queued = false;
        t->run(t);
        t = next;
    }
}

static void sim_env_post(struct env *e, struct env_task *t)
{
    struct env_sim *p = container_of(e, struct env_sim, env);
    if (!p->alive || t->queued) return;
    t->queued = true;
    t->next = NULL;
    *p->task_last = t;
    p->task_last = &t->next;
    struct sim *s = p->host->sim;
    if (p->turn.heap_index == 0)
        sim_schedule(s, p, &p->turn, sim_host_now(p->host) + sim_below(s, SIM_TURN_NS_MAX));
}

struct work_event {
    struct sim_event event;
    struct env_work *work;
    struct sim *sim;
};

static void work_run(struct sim_event *event)
{
    struct work_event *x = container_of(event, struct work_event, event);
    struct env_work *w = x->work;
    free(x);
    w->impl = NULL;
    w->run(w);
    w->done(w);
}

static void sim_env_work(struct env *e, struct env_work *w)
{
    struct env_sim *p = container_of(e, struct env_sim, env);
    if (!p->alive) return;
    struct sim *s = p->host->sim;
    struct work_event *x = calloc(1, sizeof *x);
    assert(x != NULL);
    *x = (struct work_event){.event = {.fire = work_run}, .work = w, .sim = s};
    w->impl = x;
    sim_schedule(s, p, &x->event, sim_host_now(p->host) + sim_below(s, SIM_WORK_NS_MAX));
}

static void wake_run(struct sim_event *event)
{
    struct env_sim *p = container_of(event, struct env_sim, wake);
    if (p->env.on_wake != NULL) p->env.on_wake(&p->env);
}

static void sim_env_wake(struct env *e)
{
    struct env_sim *p = container_of(e, struct env_sim, env);
    struct sim *s = p->host->sim;
    if (!p->alive || p->wake.heap_index != 0) return;
    sim_schedule(s, p, &p->wake, sim_host_now(p->host) + sim_below(s, SIM_TURN_NS_MAX));
}

static const struct env_ops sim_env_ops = {
    .now_ns = sim_env_now_ns,
    .wall_ns = sim_env_wall_ns,
    .random = sim_env_random,
    .timer_start = sim_env_timer_start,
    .timer_stop = sim_env_timer_stop,
    .post = sim_env_post,
    .work = sim_env_work,
    .wake = sim_env_wake,
    .listen = sim_net_listen,
    .unlisten = sim_net_unlisten,
    .connect = sim_net_connect,
    .write = sim_net_write,
    .read = sim_net_read,
    .close = sim_net_close,
};

/* One entry at a time. */

static void dispatch(struct sim *s, struct sim_entry *x)
{
    struct env_sim *p = x->process;
    sim_mix_words(s, x->time, x->sequence, (uint64_t)x->kind << 32 | (p == NULL ? 0 : p->host->id));
    s->dispatched++;
    s->running = p;
    if (p != NULL) p->host->lag = p->host->cost_ns;
    switch (x->kind) {
    case SIM_TIMER: {
        struct env_timer *t = x->what;
        t->fire(t);
        break;
    }
    case SIM_EVENT: {
        struct sim_event *e = x->what;
        e->fire(e);
        break;
    }
    }
    s->running = NULL;
    if (p == NULL) return;
    struct sim_host *h = p->host;
    if (s->now + h->lag > h->busy_until) h->busy_until = s->now + h->lag;
    h->lag = 0;
}

/* The next event not after `limit`. */
static bool step(struct sim *s, uint64_t limit)
{
    assert(s->running == NULL);
    for (;;) {
        if (s->heap_count == 0 || s->heap[1].time > limit) return false;
        struct sim_entry x = s->heap[1];
        assert(x.time >= s->now);
        struct env_sim *p = x.process;
        if (p != NULL && p->host->busy_until > x.time) {
            heap_remove(s, 1);
            /* A loop that was stopped while it waited for the network finds that first. */
            x.time = p->host->busy_until + (x.kind == SIM_TIMER ? p->host->timers_late_ns : 0);
            heap_insert(s, x);
            continue;
        }
        s->now = x.time;
        if (x.kind == SIM_TIMER) {
            /* A clock that was slowed since the timer was set: not yet. */
            const struct env_timer *t = x.what;
            assert(p != NULL); /* timers belong to processes */
            uint64_t due = true_at(p->host, t->deadline_ns);
            if (mono_at(p->host, s->now) < t->deadline_ns) {
                heap_remove(s, 1);
                x.time = due > s->now ? due : s->now + 1;
                heap_insert(s, x);
                continue;
            }
        }
        heap_remove(s, 1);
        dispatch(s, &x);
        if (s->on_step != NULL) s->on_step(s->on_step_context);
        return true;
    }
}

bool sim_step(struct sim *s)
{
    return step(s, UINT64_MAX);
}

void sim_run_until(struct sim *s, uint64_t time_ns)
{
    while (step(s, time_ns)) continue;
    if (s->now < time_ns) s->now = time_ns;
}

/* Hosts and processes. */

static void process_start(struct sim_host *h)
{
    struct env_sim *p = calloc(1, sizeof *p);
    assert(p != NULL);
    p->env.ops = &sim_env_ops;
    p->host = h;
    p->alive = true;
    p->random = sim_random(h->sim);
    p->task_last = &p->task_first;
    p->turn.fire = run_tasks;
    p->wake.fire = wake_run;
    p->next = h->process;
    h->process = p;
    h->busy_until = 0;
}

struct sim_host *sim_host_add(struct sim *s, const char *address)
{
    if (s->host_count == SIM_HOSTS_MAX) return NULL;
    struct sim_host *h = calloc(1, sizeof *h);
    if (h == NULL) return NULL;
    h->sim = s;
    h->id = ++s->host_count;
    snprintf(h->address, sizeof h->address, "%s", address);
    h->anchor_true = s->now;
    h->anchor_mono = KV_SECONDS(1) + sim_below(s, KV_SECONDS(3600)); /* hosts booted at other times */
    h->wall_offset = (int64_t)(s->wall_start_ns + s->now) - (int64_t)h->anchor_mono;
    s->hosts[h->id] = h;
    process_start(h);
    return h;
}

uint32_t sim_host_id(const struct sim_host *h)
{
    return h->id;
}

bool sim_host_up(const struct sim_host *h)
{
    return h->process->alive;
}

struct env *sim_host_env(struct sim_host *h)
{
    return h->process->alive ? &h->process->env : NULL;
}

void sim_host_kill(struct sim_host *h, enum sim_death how)
{
    struct sim *s = h->sim;
    struct env_sim *p = h->process;
    assert(s->running == NULL); /* a callback cannot outlive its process */
    if (!p->alive) return;
    sim_note(s, h, how == SIM_KILL ? "killed" : "power lost");
    sim_net_killed(p, how);
    p->alive = false;
    uint32_t kept = 0;
    for (uint32_t i = 1; i <= s->heap_count; i++) {
        struct sim_entry *x = &s->heap[i];
        if (x->process != p) {
            s->heap[++kept] = *x;
            continue;
        }
        heap_forget(x);
        if (x->kind == SIM_EVENT && ((struct sim_event *)x->what)->fire == work_run)
            free(container_of((struct sim_event *)x->what, struct work_event, event));
    }
    s->heap_count = kept;
    for (uint32_t i = 1; i <= kept; i++) heap_place(s, i, s->heap[i]);
    for (uint32_t i = kept / 2; i >= 1; i--) heap_down(s, i);
    for (struct env_task *t = p->task_first; t != NULL; t = t->next) t->queued = false;
    p->task_first = NULL;
    p->task_last = &p->task_first;
}

void sim_host_start(struct sim_host *h)
{
    assert(!h->process->alive && h->sim->running == NULL);
    process_start(h);
    sim_note(h->sim, h, "started");
    sim_net_started(h);
}

void sim_reap(struct env *dead)
{
    struct env_sim *p = container_of(dead, struct env_sim, env);
    assert(!p->alive);
    for (uint32_t i = 0; i < p->orphan_count; i++) {
        struct sim_orphan o = p->orphans[i];
        if (o.write != NULL) o.write->done(o.write, KV_CLOSED);
        if (o.conn != NULL) o.conn->on_close(o.conn, KV_CLOSED);
    }
    free(p->orphans);
    p->orphans = NULL;
    p->orphan_count = p->orphan_capacity = 0;
}

void sim_host_pause(struct sim_host *h, uint64_t duration_ns)
{
    uint64_t until = h->sim->now + duration_ns;
    h->timers_late_ns = sim_chance(h->sim, 500000) ? sim_below(h->sim, SIM_TIMERS_LATE_NS_MAX) : 0;
    if (until > h->busy_until) h->busy_until = until;
    sim_note(h->sim, h, "paused for %llu ms", (unsigned long long)(duration_ns / 1000000));
}

void sim_host_stutter(struct sim_host *h, uint32_t ppm, uint64_t max_ns)
{
    h->stutter_ppm = ppm;
    h->stutter_max_ns = max_ns;
}

void sim_host_slow(struct sim_host *h, uint64_t cost_ns)
{
    h->cost_ns = cost_ns;
}

void sim_host_wall_jump(struct sim_host *h, int64_t delta_ns)
{
    h->wall_offset += delta_ns;
    sim_note(h->sim, h, "wall clock jumps %lld ms", (long long)(delta_ns / 1000000));
}

void sim_host_drift(struct sim_host *h, int32_t ppm)
{
    assert(ppm > -1000000 && ppm < 1000000);
    uint64_t from = sim_host_now(h); /* or when it is no longer busy: it has read its clock up to there */
    if (h->busy_until > from) from = h->busy_until;
    h->anchor_mono = mono_at(h, from);
    h->anchor_true = from;
    h->drift_ppm = ppm;
}

/* Links. */

uint64_t sim_delay(struct sim *s, const struct sim_host *from, const struct sim_host *to)
{
    if (from == to) return 5000 + sim_below(s, 20000);
    uint64_t span = s->net.delay_max_ns - s->net.delay_min_ns;
    return s->net.delay_min_ns + sim_below(s, span + 1) + s->paths[from->id][to->id].extra_ns;
}

void sim_link_block(struct sim *s, struct sim_host *from, struct sim_host *to)
{
    struct sim_path *p = &s->paths[from->id][to->id];
    if (from == to || p->blocked) return;
    p->blocked = true;
    p->since = s->now;
}

void sim_link_open(struct sim *s, struct sim_host *from, struct sim_host *to)
{
    struct sim_path *p = &s->paths[from->id][to->id];
    if (!p->blocked) return;
    p->blocked = false;
    sim_net_healed(s, from, to);
}

bool sim_link_blocked(const struct sim *s, const struct sim_host *from, const struct sim_host *to)
{
    return s->paths[from->id][to->id].blocked;
}

void sim_link_delay(struct sim *s, struct sim_host *from, struct sim_host *to, uint64_t extra_ns)
{
    if (from != to) s->paths[from->id][to->id].extra_ns = extra_ns;
}

struct sim *sim_create(const struct sim_options *o)
{
    struct sim *s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    s->rng = o->seed;
    s->hash = o->seed;
    s->wall_start_ns = o->wall_start_ms * 1000000;
    s->trace = o->trace;
    s->port_next = 32768;
    kv_buf_init(&s->received, 0);
    sim_net(s, &o->net);
    return s;
}

void sim_destroy(struct sim *s)
{
    if (s == NULL) return;
    for (uint32_t id = 1; id <= s->host_count; id++) sim_host_kill(s->hosts[id], SIM_POWER);
    sim_net_destroy(s);
    for (uint32_t id = 1; id <= s->host_count; id++) {
        struct env_sim *p = s->hosts[id]->process;
        while (p != NULL) {
            struct env_sim *next = p->next;
            free(p->orphans);
            free(p);
            p = next;
        }
        free(s->hosts[id]);
    }
    kv_buf_free(&s->received);
    free(s->heap);
    free(s);
}

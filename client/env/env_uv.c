/* One turn of the loop, in libuv's order: timers, prepare, poll (sleeps, then the I/O
 * callbacks), check, closing callbacks.
 * (1) Posted tasks run in check, behind the turn's I/O, and in prepare, behind the
 *     timers and before the loop sleeps. Each takes the queue as it finds it; what a
 *     task posts waits for the next of the two, and the loop does not sleep meanwhile.
 * (2) `clock` is set in prepare alone, from the earliest timer, after the tasks.
 * (3) No callback of the owner runs inside a call of the owner. */
#include "client/env/env_uv_impl.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { TIMERS_MIN = 256 };
enum {                         /* of lingering */
       YIELD_NS_MAX = 1000000, /* gone longer, and somebody computes */
       CROWDED_NS = 50000000,  /* how long that is believed */
       SOON_MAX = 16,
       SOON_ENOUGH = 4,
       SOON_LATE = 4, /* what one that came late takes off */
};

void *env_uv_alloc(size_t size)
{
    void *p = calloc(1, size);
    if (p == NULL) {
        fprintf(stderr, "out of memory: %zu bytes for the event loop\n", size);
        abort();
    }
    return p;
}

enum kv_err env_uv_err(int uv)
{
    switch (uv) {
    case 0: return KV_OK;
    case UV_EOF:
    case UV_ECANCELED:
    case UV_ECONNREFUSED:
    case UV_ECONNRESET:
    case UV_ECONNABORTED:
    case UV_ENOTCONN:
    case UV_EPIPE: return KV_CLOSED;
    case UV_ETIMEDOUT: return KV_TIMEOUT;
    case UV_EHOSTUNREACH:
    case UV_ENETUNREACH:
    case UV_ENETDOWN:
    case UV_EADDRNOTAVAIL: return KV_UNAVAILABLE;
    case UV_EMFILE:
    case UV_ENFILE:
    case UV_ENOBUFS:
    case UV_ENOMEM: return KV_NO_SPACE;
    case UV_EADDRINUSE: return KV_BUSY;
    case UV_EACCES:
    case UV_EPERM: return KV_DENIED;
    case UV_EAFNOSUPPORT:
    case UV_EINVAL: return KV_BAD_ARGUMENT;
    default: return KV_IO; /* errno is an open set */
    }
}

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t;
    int failed = clock_gettime(id, &t);
    assert(failed == 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* CLOCK_BOOTTIME, because CLOCK_MONOTONIC stands still while a machine is suspended: a
 * lease would seem to last across it (R1). */
static uint64_t env_uv_now_ns(struct env *e)
{
    (void)e;
    return clock_ns(CLOCK_BOOTTIME);
}

static uint64_t env_uv_wall_ns(struct env *e)
{
    (void)e;
    return clock_ns(CLOCK_REALTIME);
}

static uint64_t env_uv_random(struct env *env)
{
    struct env_uv *e = env_uv_of(env);
    if (e->random_count == 0) {
        /* Up to 256 bytes the kernel delivers whole, once its pool is ready. */
        static_assert(sizeof e->randoms <= 256, "getrandom(2)");
        ssize_t n;
        do {
            n = getrandom(e->randoms, sizeof e->randoms, 0);
        } while (n != (ssize_t)sizeof e->randoms);
        e->random_count = ENV_UV_RANDOMS;
    }
    uint64_t v = e->randoms[--e->random_count];
    e->randoms[e->random_count] = 0; /* it may become a secret key */
    return v;
}

/* --- tasks --- */

static void tasks_init(struct env_uv_tasks *q)
{
    q->first = NULL;
    q->last = &q->first;
}

void env_uv_post(struct env *env, struct env_task *t)
{
    struct env_uv *e = env_uv_of(env);
    if (t->queued) return;
    t->queued = true;
    t->next = NULL;
    *e->posted.last = t;
    e->posted.last = &t->next;
}

static bool tasks_remove(struct env_uv_tasks *q, struct env_task *t)
{
    for (struct env_task **link = &q->first; *link != NULL; link = &(*link)->next) {
        if (*link != t) continue;
        *link = t->next;
        if (t->next == NULL) q->last = link;
        t->next = NULL;
        return true;
    }
    return false;
}

void env_uv_unpost(struct env_uv *e, struct env_task *t)
{
    if (!t->queued) return;
    bool found = tasks_remove(&e->posted, t) || tasks_remove(&e->running, t);
    assert(found);
    t->queued = false;
}

static void tasks_run(struct env_uv *e)
{
    assert(e->running.first == NULL);
    if (e->posted.first == NULL) return;
    e->ran = true;
    e->running.first = e->posted.first;
    e->running.last = e->posted.last;
    tasks_init(&e->posted);
    while (e->running.first != NULL) {
        struct env_task *t = e->running.first;
        e->running.first = t->next;
        if (t->next == NULL) e->running.last = &e->running.first;
        t->next = NULL;
        t->queued = false;
        t->run(t); /* may free itself, and may post itself anew */
    }
}

/* --- timers --- */

static void heap_set(struct env_uv *e, uint32_t i, struct env_timer *t)
{
    e->timers[i] = t;
    t->heap_index = i;
}

static void heap_up(struct env_uv *e, uint32_t i, struct env_timer *t)
{
    for (; i > 1 && e->timers[i / 2]->deadline_ns > t->deadline_ns; i /= 2) {
        heap_set(e, i, e->timers[i / 2]);
    }
    heap_set(e, i, t);
}

static void heap_down(struct env_uv *e, uint32_t i, struct env_timer *t)
{
    while (2 * i <= e->timer_count) {
        uint32_t child = 2 * i;
        if (child < e->timer_count &&
            e->timers[child + 1]->deadline_ns < e->timers[child]->deadline_ns) {
            child++;
        }
        if (e->timers[child]->deadline_ns >= t->deadline_ns) break;
        heap_set(e, i, e->timers[child]);
        i = child;
    }
    heap_set(e, i, t);
}

static void env_uv_timer_stop(struct env *env, struct env_timer *t)
{
    struct env_uv *e = env_uv_of(env);
    uint32_t i = t->heap_index;
    if (i == 0) return;
    assert(i <= e->timer_count && e->timers[i] == t);
    t->heap_index = 0;
    struct env_timer *last = e->timers[e->timer_count--];
    if (last == t) return;
    if (i > 1 && e->timers[i / 2]->deadline_ns > last->deadline_ns) {
        heap_up(e, i, last);
    } else {
        heap_down(e, i, last);
    }
}

static void env_uv_timer_start(struct env *env, struct env_timer *t, uint64_t delay_ns)
{
    struct env_uv *e = env_uv_of(env);
    env_uv_timer_stop(env, t);
    if (e->timer_count + 1 == e->timer_capacity) {
        struct env_timer **bigger = env_uv_alloc(2 * (size_t)e->timer_capacity * sizeof(void *));
        memcpy(bigger, e->timers, e->timer_capacity * sizeof *bigger);
        free(e->timers);
        e->timers = bigger;
        e->timer_capacity *= 2;
    }
    uint64_t now = env_uv_now_ns(env);
    t->deadline_ns = delay_ns > UINT64_MAX - now ? UINT64_MAX : now + delay_ns;
    heap_up(e, ++e->timer_count, t);
}

static void on_clock(uv_timer_t *clock)
{
    struct env_uv *e = clock->data;
    e->clock_deadline_ns = 0;
    /* One reading for the whole turn: a timer that starts itself with delay 0 waits for the
     * next one. */
    uint64_t now = env_uv_now_ns(&e->env);
    while (e->timer_count > 0 && e->timers[1]->deadline_ns <= now) {
        struct env_timer *t = e->timers[1];
        env_uv_timer_stop(&e->env, t);
        e->ran = true;
        t->fire(t);
    }
}

static void clock_set(struct env_uv *e)
{
    if (e->timer_count == 0) {
        if (e->clock_deadline_ns != 0) uv_timer_stop(&e->clock);
        e->clock_deadline_ns = 0;
        return;
    }
    uint64_t deadline = e->timers[1]->deadline_ns;
    if (deadline == e->clock_deadline_ns) return;
    uint64_t now = env_uv_now_ns(&e->env);
    uint64_t ms = deadline <= now ? 0 : (deadline - now - 1) / 1000000u + 1; /* never early */
    uv_update_time(&e->loop);                                                /* libuv counts from its cached time */
    int failed = uv_timer_start(&e->clock, on_clock, ms, 0);
    assert(failed == 0);
    e->clock_deadline_ns = deadline;
}

/* --- the turn --- */

static void on_awake(uv_idle_t *idle)
{
    (void)idle; /* being active is all it does */
}

/* Lingering. A processor that has nothing to do halts, and to wake it takes longer, above all in a
 * virtual machine, than a disk or a neighbour often needs to answer. So where the loop has long been
 * through with things soon after it was through with those before, it expects as much of the next
 * one and looks for it again and again. Heartbeats and their answers are too few in a row for that,
 * and turns under load too long. Whoever else wants the processor gets it in between. Who keeps
 * it computes: then nothing halts, and the loop would lose a slice of time with each look. */
static bool lingers(struct env_uv *e)
{
    if (e->linger_ns == 0) return false;
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    if (e->ran) {
        if (now - e->quiet_ns < e->linger_ns) e->soon += e->soon < SOON_MAX;
        else e->soon -= e->soon < SOON_LATE ? e->soon : SOON_LATE;
        e->quiet_ns = now;
        e->ran = false;
    }
    if (e->soon < SOON_ENOUGH || now - e->quiet_ns > e->linger_ns || now < e->crowded_ns) return false;
    sched_yield();
    uint64_t back = clock_ns(CLOCK_MONOTONIC);
    if (back - now > YIELD_NS_MAX) e->crowded_ns = back + CROWDED_NS;
    return true;
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct env_uv *e = prepare->data;
    tasks_run(e);
    clock_set(e);
    if (e->posted.first != NULL || (e->once ? e->ran : lingers(e))) uv_idle_start(&e->awake, on_awake);
}

static void on_check(uv_check_t *check)
{
    struct env_uv *e = check->data;
    uv_idle_stop(&e->awake);
    tasks_run(e);
}

/* Not uv_async_t: a loop that gets to run before the thread that woke it is done with
 * uv_async_send() spins until it is, which is most of the time where both share a processor. */
static void on_wake_fd(uv_poll_t *poll, int status, int events)
{
    struct env_uv *e = poll->data;
    uint64_t count;
    (void)events;
    assert(status == 0);
    /* Emptied before on_wake looks: what comes later wakes again. */
    if (read(e->wake_fd, &count, sizeof count) < 0) return;
    e->ran = true;
    if (e->env.on_wake != NULL) e->env.on_wake(&e->env);
}

static void env_uv_wake(struct env *env)
{
    static const uint64_t one = 1;
    ssize_t n;
    do {
        n = write(env_uv_of(env)->wake_fd, &one, sizeof one);
    } while (n < 0 && errno == EINTR);
    assert(n == (ssize_t)sizeof one); /* EAGAIN would take 2^64 wakes that nobody read */
}

/* --- work off the loop --- */

struct uv_work {
    uv_work_t request;
    struct env_uv *e;
    struct env_work *w;
};

static void on_work(uv_work_t *request)
{
    struct uv_work *x = container_of(request, struct uv_work, request);
    x->w->run(x->w);
}

static void on_work_done(uv_work_t *request, int status)
{
    struct uv_work *x = container_of(request, struct uv_work, request);
    struct env_work *w = x->w;
    assert(status == 0); /* nobody cancels */
    x->e->works--;
    x->e->ran = true;
    free(x);
    w->impl = NULL;
    w->done(w);
}

static void env_uv_work(struct env *env, struct env_work *w)
{
    struct env_uv *e = env_uv_of(env);
    struct uv_work *x = env_uv_alloc(sizeof *x);
    x->e = e;
    x->w = w;
    w->impl = x;
    e->works++;
    int failed = uv_queue_work(&e->loop, &x->request, on_work, on_work_done);
    assert(failed == 0);
}

/* --- signals --- */

struct uv_watch {
    uv_signal_t signal;
    void (*fire)(void *context, int signum);
    void *context;
    struct uv_watch *next;
};

static void on_signal(uv_signal_t *s, int signum)
{
    struct uv_watch *x = container_of(s, struct uv_watch, signal);
    x->fire(x->context, signum);
}

static void on_watch_closed(uv_handle_t *h)
{
    free(container_of(h, struct uv_watch, signal));
}

void env_uv_signal(struct env_uv *e, int signum, void (*fire)(void *context, int signum),
                   void *context)
{
    struct uv_watch *x = env_uv_alloc(sizeof *x);
    x->fire = fire;
    x->context = context;
    x->next = e->watches;
    e->watches = x;
    int failed = uv_signal_init(&e->loop, &x->signal);
    if (failed == 0) failed = uv_signal_start(&x->signal, on_signal, signum);
    assert(failed == 0); /* SIGKILL, SIGSTOP or no such signal */
}

/* --- life --- */

static const struct env_ops env_uv_ops = {
    .now_ns = env_uv_now_ns,
    .wall_ns = env_uv_wall_ns,
    .random = env_uv_random,
    .timer_start = env_uv_timer_start,
    .timer_stop = env_uv_timer_stop,
    .post = env_uv_post,
    .work = env_uv_work,
    .wake = env_uv_wake,
    .listen = env_uv_listen,
    .unlisten = env_uv_unlisten,
    .connect = env_uv_connect,
    .write = env_uv_write,
    .read = env_uv_read,
    .close = env_uv_close,
};

/* libuv writes without MSG_NOSIGNAL. Whoever has a handler of his own keeps it. */
static void ignore_sigpipe(void)
{
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) != 0 || now.sa_handler != SIG_DFL) return;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &ignore, NULL);
}

enum kv_err env_uv_create(struct env_uv **out)
{
    struct env_uv *e = calloc(1, sizeof *e);
    if (e == NULL) return KV_NO_SPACE;
    e->timer_capacity = TIMERS_MIN;
    e->timers = calloc(e->timer_capacity, sizeof(void *));
    if (e->timers == NULL || uv_loop_init(&e->loop) != 0) goto free_all;
    e->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (e->wake_fd < 0) goto close_loop;
    if (uv_poll_init(&e->loop, &e->wake, e->wake_fd) != 0) goto close_wake;
    /* The others take neither memory nor descriptors, so they cannot fail. */
    uv_timer_init(&e->loop, &e->clock);
    uv_prepare_init(&e->loop, &e->prepare);
    uv_check_init(&e->loop, &e->check);
    uv_idle_init(&e->loop, &e->awake);
    e->wake.data = e->clock.data = e->prepare.data = e->check.data = e;
    uv_poll_start(&e->wake, UV_READABLE, on_wake_fd);
    uv_prepare_start(&e->prepare, on_prepare);
    uv_check_start(&e->check, on_check);
    tasks_init(&e->posted);
    tasks_init(&e->running);
    e->env.ops = &env_uv_ops;
    ignore_sigpipe();
    *out = e;
    return KV_OK;

close_wake:
    close(e->wake_fd);
close_loop:
    uv_loop_close(&e->loop);
free_all:
    free(e->timers);
    free(e);
    return KV_NO_SPACE;
}

struct env *env_uv_env(struct env_uv *e)
{
    return &e->env;
}

void env_uv_linger(struct env_uv *e, uint64_t ns)
{
    e->linger_ns = ns;
}

void env_uv_run(struct env_uv *e)
{
    uv_run(&e->loop, UV_RUN_DEFAULT);
}

static void on_thread(void *arg)
{
    env_uv_run(arg);
}

enum kv_err env_uv_spawn(struct env_uv *e)
{
    return uv_thread_create(&e->thread, on_thread, e) == 0 ? KV_OK : KV_NO_SPACE;
}

void env_uv_join(struct env_uv *e)
{
    int failed = uv_thread_join(&e->thread);
    assert(failed == 0);
}

void env_uv_run_once(struct env_uv *e)
{
    e->once = true;
    e->ran = false;
    uv_run(&e->loop, UV_RUN_ONCE);
    e->once = false;
}

void env_uv_stop(struct env_uv *e)
{
    uv_stop(&e->loop);
}

void env_uv_destroy(struct env_uv *e)
{
    while (e->timer_count > 0) env_uv_timer_stop(&e->env, e->timers[1]);
    e->env.on_wake = NULL;
    /* on_close may dial anew; whatever it opens is closed in the next round. */
    while (env_uv_net_close(e), e->conns != NULL || e->servers != NULL || e->works > 0) {
        env_uv_run_once(e);
        while (e->timer_count > 0) env_uv_timer_stop(&e->env, e->timers[1]);
    }
    while (e->watches != NULL) {
        struct uv_watch *x = e->watches;
        e->watches = x->next;
        uv_close((uv_handle_t *)&x->signal, on_watch_closed);
    }
    uv_close((uv_handle_t *)&e->wake, NULL);
    uv_close((uv_handle_t *)&e->clock, NULL);
    uv_close((uv_handle_t *)&e->prepare, NULL);
    uv_close((uv_handle_t *)&e->check, NULL);
    uv_close((uv_handle_t *)&e->awake, NULL);
    uv_run(&e->loop, UV_RUN_DEFAULT);
    close(e->wake_fd);
    int failed = uv_loop_close(&e->loop);
    assert(failed == 0);
    free(e->timers);
    free(e);
}

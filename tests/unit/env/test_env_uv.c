/* The libuv env against the promises of env.h, on real sockets of the loopback. */
#include "client/env/env_uv.h"
#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct env_uv *uv;
static struct env *env;

static void setup(void)
{
    ck_assert_int_eq(env_uv_create(&uv), KV_OK);
    env = env_uv_env(uv);
}

static void teardown(void)
{
    env_uv_destroy(uv);
}

/* Nobody's now, and not of those that the kernel gives to connections: it stays free until we listen. */
static uint16_t free_port(void)
{
    static uint32_t next;
    if (next == 0) next = (uint32_t)getpid() * 7;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < 1000; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        ck_assert_int_ge(fd, 0);
        uint16_t port = (uint16_t)(15000 + next++ % 5000);
        a.sin_port = htons(port);
        bool is_free = bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
        close(fd);
        if (is_free) return port;
    }
    ck_abort_msg("no free port");
}

static struct env_addr addr(const char *host, uint16_t port)
{
    struct env_addr a = {.port = port};
    snprintf(a.host, sizeof a.host, "%s", host);
    return a;
}

/* --- time and chance --- */

START_TEST(clocks_and_chance)
{
    uint64_t a = env_now_ns(env), b = env_now_ns(env);
    ck_assert(a > 0 && a <= b);
    ck_assert(env_wall_ms(env) > UINT64_C(1600000000000));
    uint64_t seen[100];
    for (int i = 0; i < 100; i++) {
        seen[i] = env->ops->random(env);
        for (int k = 0; k < i; k++) ck_assert(seen[i] != seen[k]);
    }
}
END_TEST

/* --- timers --- */

struct probe {
    struct env_timer timer;
    uint64_t deadline_ns;
    int fired;
};
static uint64_t last_deadline;
static int fired_total;

static void probe_fire(struct env_timer *t)
{
    struct probe *p = container_of(t, struct probe, timer);
    ck_assert(env_now_ns(env) >= p->timer.deadline_ns);
    ck_assert(p->timer.deadline_ns >= last_deadline);
    last_deadline = p->timer.deadline_ns;
    p->fired++;
    fired_total++;
}

START_TEST(timers_fire_in_order_and_never_early)
{
    enum { N = 1000 };
    struct probe *probes = calloc(N, sizeof *probes);
    last_deadline = 0;
    fired_total = 0;
    int running = 0;
    for (int i = 0; i < N; i++) {
        probes[i].timer.fire = probe_fire;
        env->ops->timer_start(env, &probes[i].timer, env->ops->random(env) % KV_MS(60));
    }
    for (int i = 0; i < N; i++) {
        if (i % 3 == 0) env->ops->timer_stop(env, &probes[i].timer);
        if (i % 6 == 0) env->ops->timer_stop(env, &probes[i].timer); /* idempotent */
        if (i % 3 == 1) env->ops->timer_start(env, &probes[i].timer, KV_MS(i % 50));
        running += i % 3 != 0;
    }
    while (fired_total < running) env_uv_run_once(uv);
    for (int i = 0; i < N; i++) ck_assert_int_eq(probes[i].fired, i % 3 != 0);
    free(probes);
}
END_TEST

static void again_fire(struct env_timer *t)
{
    struct probe *p = container_of(t, struct probe, timer);
    if (++p->fired < 1000) env->ops->timer_start(env, t, 0);
}

START_TEST(a_timer_that_restarts_itself_does_not_starve_others)
{
    struct probe eager = {.timer.fire = again_fire}, other = {.timer.fire = probe_fire};
    last_deadline = 0;
    env->ops->timer_start(env, &eager.timer, 0);
    env->ops->timer_start(env, &other.timer, 1);
    while (other.fired == 0) env_uv_run_once(uv);
    ck_assert_int_lt(eager.fired, 1000);
    env->ops->timer_stop(env, &eager.timer);
}
END_TEST

/* --- tasks --- */

static char order[64];
static size_t order_size;

struct letter {
    struct env_task task;
    char name;
    struct letter *posts; /* posted when it runs */
};

static void letter_run(struct env_task *t)
{
    struct letter *l = container_of(t, struct letter, task);
    order[order_size++] = l->name;
    if (l->posts != NULL) env->ops->post(env, &l->posts->task);
}

START_TEST(tasks_run_in_order_once_and_before_the_loop_sleeps)
{
    memset(order, 0, sizeof order);
    order_size = 0;
    struct letter c = {{letter_run, NULL, false}, 'c', NULL};
    struct letter a = {{letter_run, NULL, false}, 'a', &c};
    struct letter b = {{letter_run, NULL, false}, 'b', NULL};
    struct probe far = {.timer.fire = probe_fire};
    env->ops->timer_start(env, &far.timer, KV_SECONDS(60));
    uint64_t start = env_now_ns(env);
    env->ops->post(env, &a.task);
    env->ops->post(env, &b.task);
    env->ops->post(env, &a.task); /* queued already */
    ck_assert_uint_eq(order_size, 0);
    while (order_size < 3) env_uv_run_once(uv);
    ck_assert_str_eq(order, "abc");
    ck_assert(env_now_ns(env) - start < KV_SECONDS(10));
    env->ops->timer_stop(env, &far.timer);
}
END_TEST

static void self_run(struct env_task *t)
{
    struct letter *l = container_of(t, struct letter, task);
    order[order_size++ % sizeof order] = l->name;
    if (order_size == 5000) env_uv_stop(uv);
    else env->ops->post(env, t);
}

static void stop_fire(struct env_timer *t)
{
    container_of(t, struct probe, timer)->fired++;
    ck_assert_uint_lt(order_size, 5000); /* timers get their turn between tasks */
}

START_TEST(a_task_that_posts_itself_lets_the_loop_turn)
{
    order_size = 0;
    struct letter s = {{self_run, NULL, false}, 's', NULL};
    struct probe p = {.timer.fire = stop_fire};
    env->ops->timer_start(env, &p.timer, 0);
    env->ops->post(env, &s.task);
    env_uv_run(uv);
    ck_assert_uint_eq(order_size, 5000);
    ck_assert_int_eq(p.fired, 1);
}
END_TEST

/* --- threads --- */

struct job {
    struct env_work work;
    pthread_t ran_on;
    int done;
};

static void job_run(struct env_work *w)
{
    container_of(w, struct job, work)->ran_on = pthread_self();
}

static void job_done(struct env_work *w)
{
    container_of(w, struct job, work)->done++;
}

START_TEST(work_runs_elsewhere_and_ends_here)
{
    struct job jobs[20] = {0};
    for (int i = 0; i < 20; i++) {
        jobs[i].work.run = job_run;
        jobs[i].work.done = job_done;
        env->ops->work(env, &jobs[i].work);
        ck_assert_int_eq(jobs[i].done, 0);
    }
    for (int i = 0; i < 20; i++) {
        while (jobs[i].done == 0) env_uv_run_once(uv);
        ck_assert_int_eq(jobs[i].done, 1);
        ck_assert(!pthread_equal(jobs[i].ran_on, pthread_self()));
    }
}
END_TEST

static int woken;
static void on_wake(struct env *e)
{
    ck_assert_ptr_eq(e, env);
    woken++;
}

static void *waker(void *context)
{
    struct env *e = context;
    e->ops->wake(e);
    return NULL;
}

START_TEST(another_thread_may_wake_the_loop)
{
    woken = 0;
    env->on_wake = on_wake;
    pthread_t t;
    ck_assert_int_eq(pthread_create(&t, NULL, waker, env), 0);
    while (woken == 0) env_uv_run_once(uv);
    pthread_join(t, NULL);
    ck_assert_int_eq(woken, 1);
}
END_TEST

struct mailbox { /* holds one letter */
    pthread_mutex_t mutex;
    pthread_cond_t emptied;
    bool full;
    int taken; /* the loop's */
};
static struct mailbox mailbox;

static void mailbox_empty(struct env *e)
{
    (void)e;
    pthread_mutex_lock(&mailbox.mutex);
    mailbox.taken += mailbox.full;
    mailbox.full = false;
    pthread_cond_signal(&mailbox.emptied);
    pthread_mutex_unlock(&mailbox.mutex);
}

enum { LETTERS = 2000 };
static void *mailbox_fill(void *context)
{
    struct env *e = context;
    for (int i = 0; i < LETTERS; i++) {
        pthread_mutex_lock(&mailbox.mutex);
        while (mailbox.full) pthread_cond_wait(&mailbox.emptied, &mailbox.mutex);
        mailbox.full = true;
        pthread_mutex_unlock(&mailbox.mutex);
        e->ops->wake(e);
    }
    return NULL;
}

/* The next letter comes while the loop is still busy with the one before. */
START_TEST(no_wake_is_lost)
{
    mailbox = (struct mailbox){.mutex = PTHREAD_MUTEX_INITIALIZER, .emptied = PTHREAD_COND_INITIALIZER};
    env->on_wake = mailbox_empty;
    pthread_t sender;
    ck_assert_int_eq(pthread_create(&sender, NULL, mailbox_fill, env), 0);
    while (mailbox.taken < LETTERS) env_uv_run_once(uv); /* one lost, and it sleeps for ever */
    pthread_join(sender, NULL);
}
END_TEST

static uint64_t processor_ns(void)
{
    struct timespec t;
    ck_assert_int_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t), 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct env_timer silence;
static uint64_t silence_from_ns;

static void mailbox_empty_to_the_last(struct env *e)
{
    mailbox_empty(e);
    if (mailbox.taken < LETTERS || silence_from_ns != 0) return;
    silence_from_ns = processor_ns();
    e->ops->timer_start(e, &silence, KV_MS(400));
}

static void silence_over(struct env_timer *t)
{
    (void)t;
    env_uv_stop(uv);
}

START_TEST(a_loop_that_lingers_loses_no_wake_and_sleeps_when_idle)
{
    mailbox = (struct mailbox){.mutex = PTHREAD_MUTEX_INITIALIZER, .emptied = PTHREAD_COND_INITIALIZER};
    silence = (struct env_timer){.fire = silence_over};
    silence_from_ns = 0;
    env->on_wake = mailbox_empty_to_the_last;
    env_uv_linger(uv, KV_MS(1));
    pthread_t sender;
    ck_assert_int_eq(pthread_create(&sender, NULL, mailbox_fill, env), 0);
    env_uv_run(uv);
    pthread_join(sender, NULL);
    ck_assert_int_eq(mailbox.taken, LETTERS);
    ck_assert_uint_lt(processor_ns() - silence_from_ns, KV_MS(50));
}
END_TEST

static int signalled;
static void on_signal(void *context, int signum)
{
    *(int *)context = signum;
}

START_TEST(signals_arrive_on_the_loop)
{
    signalled = 0;
    env_uv_signal(uv, SIGUSR1, on_signal, &signalled);
    raise(SIGUSR1);
    ck_assert_int_eq(signalled, 0);
    while (signalled == 0) env_uv_run_once(uv);
    ck_assert_int_eq(signalled, SIGUSR1);
}
END_TEST

/* --- connections: static, because the fixture closes what a test leaves open --- */

struct end {
    struct env_conn conn;
    struct env_write write;
    struct kv_slice part;
    uint8_t *got; /* compared at the end, if not NULL */
    size_t got_size;
    int opened, closed, writes_done;
    enum kv_err open_err, close_err, write_err;
    struct env_task both; /* posted by on_bytes */
};
static struct end *accepting[4];
static int accepted;
static struct env_addr accepted_peer;
static bool inside; /* a call of ours is on the stack: no callback may run */

static void end_open(struct env_conn *c, enum kv_err err)
{
    struct end *e = container_of(c, struct end, conn);
    ck_assert(!inside && e->opened == 0 && e->closed == 0);
    e->opened++;
    e->open_err = err;
}

static void end_bytes(struct env_conn *c, struct kv_slice bytes)
{
    struct end *e = container_of(c, struct end, conn);
    ck_assert(!inside && e->closed == 0 && bytes.size > 0);
    if (e->got != NULL) memcpy(e->got + e->got_size, bytes.data, bytes.size);
    e->got_size += bytes.size;
    if (e->both.run != NULL) env->ops->post(env, &e->both);
}

static void end_close(struct env_conn *c, enum kv_err err)
{
    struct end *e = container_of(c, struct end, conn);
    ck_assert(!inside && e->closed == 0);
    e->closed++;
    e->close_err = err;
}

static void end_written(struct env_write *w, enum kv_err err)
{
    struct end *e = container_of(w, struct end, write);
    ck_assert(!inside && e->closed == 0);
    e->writes_done++;
    e->write_err = err;
}

static void end_init(struct end *e)
{
    *e = (struct end){.conn = {.on_open = end_open, .on_bytes = end_bytes, .on_close = end_close},
                      .write.done = end_written};
}

static void end_send(struct end *e, const void *data, size_t size)
{
    e->part = kv_slice(data, size);
    e->write.parts = &e->part;
    e->write.part_count = 1;
    inside = true;
    env->ops->write(env, &e->conn, &e->write);
    inside = false;
}

static struct env_conn *take(struct env_listener *l, const struct env_addr *peer)
{
    (void)l;
    accepted_peer = *peer;
    struct end *e = accepting[accepted++];
    return e == NULL ? NULL : &e->conn;
}

/* A listener, `n` dialled and `n` accepted ends, all open. */
static void pairs(struct env_listener *l, struct end *dialled, struct end *taken, int n)
{
    struct env_addr to = addr("127.0.0.1", free_port());
    *l = (struct env_listener){.accept = take};
    accepted = 0;
    ck_assert_int_eq(env->ops->listen(env, l, &to), KV_OK);
    for (int i = 0; i < n; i++) {
        end_init(&dialled[i]);
        end_init(&taken[i]);
        accepting[i] = &taken[i];
        env->ops->connect(env, &dialled[i].conn, &to, NULL);
        while (dialled[i].opened == 0 || accepted <= i) env_uv_run_once(uv);
        ck_assert_int_eq(dialled[i].open_err, KV_OK);
    }
}

START_TEST(bytes_travel_both_ways_from_a_chosen_address)
{
    static struct env_listener l = {.accept = take};
    struct env_addr to = addr("127.0.0.1", free_port()), from = addr("127.0.0.9", 0);
    static struct end a, b;
    end_init(&a);
    end_init(&b);
    accepting[0] = &b;
    accepted = 0;
    ck_assert_int_eq(env->ops->listen(env, &l, &to), KV_OK);
    inside = true;
    env->ops->connect(env, &a.conn, &to, &from);
    inside = false;
    while (a.opened == 0 || accepted == 0) env_uv_run_once(uv);
    ck_assert_str_eq(accepted_peer.host, "127.0.0.9");
    ck_assert_str_eq(a.conn.peer.host, "127.0.0.1");
    ck_assert_uint_eq(a.conn.peer.port, to.port);

    uint8_t at_b[8], at_a[8];
    b.got = at_b;
    a.got = at_a;
    end_send(&a, "ping", 4);
    ck_assert_int_eq(a.writes_done, 0); /* taken at once, told later */
    while (b.got_size < 4 || a.writes_done == 0) env_uv_run_once(uv);
    end_send(&b, "pong", 4);
    while (a.got_size < 4 || b.writes_done == 0) env_uv_run_once(uv);
    ck_assert_mem_eq(at_b, "ping", 4);
    ck_assert_mem_eq(at_a, "pong", 4);
    ck_assert_int_eq(a.write_err, KV_OK);

    env->ops->close(env, &a.conn);
    env->ops->close(env, &a.conn);
    while (a.closed == 0 || b.closed == 0) env_uv_run_once(uv);
    ck_assert_int_eq(a.close_err, KV_CLOSED);
    ck_assert_int_eq(b.close_err, KV_CLOSED);
    env->ops->close(env, &a.conn); /* even now */
    env->ops->unlisten(env, &l);
    env->ops->unlisten(env, &l);
}
END_TEST

START_TEST(a_reader_that_pauses_holds_the_writer)
{
    enum { SIZE = 16 << 20,
           PARTS = 100 };
    static struct env_listener l;
    static struct end a, b;
    pairs(&l, &a, &b, 1);
    uint8_t *sent = malloc(SIZE);
    b.got = malloc(SIZE);
    ck_assert(sent != NULL && b.got != NULL);
    for (size_t i = 0; i < SIZE; i++) sent[i] = (uint8_t)(i * 2654435761u >> 13);
    struct kv_slice parts[PARTS];
    for (size_t i = 0; i < PARTS; i++) {
        size_t from = SIZE / PARTS * i, to = i == PARTS - 1 ? SIZE : from + SIZE / PARTS;
        parts[i] = kv_slice(sent + from, to - from);
    }
    env->ops->read(env, &b.conn, false);
    a.write.parts = parts;
    a.write.part_count = PARTS;
    env->ops->write(env, &a.conn, &a.write);
    struct probe wait = {.timer.fire = probe_fire};
    last_deadline = 0;
    env->ops->timer_start(env, &wait.timer, KV_MS(50));
    while (wait.fired == 0) env_uv_run_once(uv);
    ck_assert_uint_eq(b.got_size, 0);
    ck_assert_int_eq(a.writes_done, 0);
    env->ops->read(env, &b.conn, true);
    while (b.got_size < SIZE || a.writes_done == 0) env_uv_run_once(uv);
    ck_assert_int_eq(a.write_err, KV_OK);
    ck_assert_mem_eq(b.got, sent, SIZE);
    free(sent);
    free(b.got);
}
END_TEST

START_TEST(closing_finishes_the_open_write_first)
{
    static struct env_listener l;
    static struct end a, b;
    pairs(&l, &a, &b, 1);
    env->ops->read(env, &b.conn, false);
    size_t size = 16 << 20;
    uint8_t *big = calloc(1, size);
    end_send(&a, big, size);
    inside = true;
    env->ops->close(env, &a.conn);
    inside = false;
    while (a.closed == 0) env_uv_run_once(uv);
    ck_assert_int_eq(a.writes_done, 1);
    ck_assert_int_eq(a.write_err, KV_CLOSED);
    env->ops->read(env, &b.conn, true);
    while (b.closed == 0) env_uv_run_once(uv);
    free(big);
}
END_TEST

START_TEST(what_was_taken_at_once_still_arrives_after_close)
{
    static struct env_listener l;
    static struct end a, b;
    pairs(&l, &a, &b, 1);
    end_send(&a, "bye", 3);
    env->ops->close(env, &a.conn);
    while (b.closed == 0 || a.closed == 0) env_uv_run_once(uv);
    ck_assert_uint_eq(b.got_size, 3);
    ck_assert_int_eq(a.writes_done, 1);
}
END_TEST

START_TEST(a_write_into_a_dead_connection_is_told)
{
    static struct env_listener l;
    static struct end a, b;
    pairs(&l, &a, &b, 1);
    env->ops->read(env, &a.conn, false); /* so that only the write can notice */
    env->ops->close(env, &b.conn);
    while (b.closed == 0) env_uv_run_once(uv);
    while (a.closed == 0) {
        int before = a.writes_done;
        end_send(&a, "x", 1);
        while (a.writes_done == before) env_uv_run_once(uv);
        if (a.write_err != KV_OK) {
            while (a.closed == 0) env_uv_run_once(uv);
        }
    }
    ck_assert_int_eq(a.write_err, KV_CLOSED);
    ck_assert_int_eq(a.close_err, KV_CLOSED);
}
END_TEST

static struct end *both_of[2];
static int both_ran;
static void both_run(struct env_task *t)
{
    (void)t;
    both_ran++;
    ck_assert(both_of[0]->got_size > 0 && both_of[1]->got_size > 0);
}

START_TEST(tasks_posted_by_io_run_behind_all_ready_io)
{
    static struct env_listener l;
    static struct end dialled[2], taken[2];
    pairs(&l, dialled, taken, 2);
    both_ran = 0;
    for (int i = 0; i < 2; i++) {
        both_of[i] = &taken[i];
        taken[i].both.run = both_run;
        end_send(&dialled[i], "x", 1); /* the loopback delivers before the next poll */
    }
    while (both_ran < 2) env_uv_run_once(uv);
}
END_TEST

static void dial_fails(const char *host, uint16_t port, const char *from, enum kv_err expected)
{
    struct end a;
    end_init(&a);
    struct env_addr to = addr(host, port), local = addr(from == NULL ? "" : from, 0);
    inside = true;
    env->ops->connect(env, &a.conn, &to, from == NULL ? NULL : &local);
    inside = false;
    while (a.closed == 0) env_uv_run_once(uv);
    ck_assert_int_eq(a.opened, 1);
    ck_assert_int_eq(a.open_err, expected);
    ck_assert_int_eq(a.close_err, expected);
}

START_TEST(a_dial_that_fails_says_why_and_closes)
{
    dial_fails("127.0.0.1", free_port(), NULL, KV_CLOSED);
    dial_fails("not an address", 1, NULL, KV_BAD_ARGUMENT);
    dial_fails("", 1, NULL, KV_BAD_ARGUMENT);
    dial_fails("127.0.0.1", 1, "192.0.2.1", KV_UNAVAILABLE);
    dial_fails("127.0.0.1", 1, "::1", KV_BAD_ARGUMENT);
}
END_TEST

START_TEST(a_dial_may_be_given_up)
{
    const char *hosts[] = {"127.0.0.1", "not an address"};
    for (int i = 0; i < 2; i++) {
        struct end a;
        end_init(&a);
        struct env_addr to = addr(hosts[i], free_port());
        env->ops->connect(env, &a.conn, &to, NULL);
        env->ops->close(env, &a.conn);
        while (a.closed == 0) env_uv_run_once(uv);
        ck_assert_int_eq(a.opened, 0);
        ck_assert_int_eq(a.close_err, KV_CLOSED);
    }
}
END_TEST

START_TEST(listening_refuses_with_a_reason)
{
    static struct env_listener l = {.accept = take}, second = {.accept = take};
    struct env_addr a = addr("127.0.0.1", free_port());
    ck_assert_int_eq(env->ops->listen(env, &l, &a), KV_OK);
    ck_assert_int_eq(env->ops->listen(env, &second, &a), KV_BUSY);
    struct env_addr foreign = addr("192.0.2.1", a.port), nonsense = addr("nonsense", 1);
    ck_assert_int_eq(env->ops->listen(env, &second, &foreign), KV_DENIED);
    ck_assert_int_eq(env->ops->listen(env, &second, &nonsense), KV_BAD_ARGUMENT);
    env->ops->unlisten(env, &second);
    env->ops->unlisten(env, &l);
    dial_fails("127.0.0.1", a.port, NULL, KV_CLOSED);
    ck_assert_int_eq(env->ops->listen(env, &l, &a), KV_OK); /* and again */
}
END_TEST

START_TEST(any_address_serves_ipv4_and_names_the_peer_plainly)
{
    static struct env_listener l = {.accept = take};
    struct env_addr any = addr("", free_port()), to = addr("127.0.0.1", any.port);
    struct end a;
    end_init(&a);
    accepting[0] = NULL; /* refused: the dialler is closed */
    accepted = 0;
    ck_assert_int_eq(env->ops->listen(env, &l, &any), KV_OK);
    env->ops->connect(env, &a.conn, &to, NULL);
    while (a.closed == 0) env_uv_run_once(uv);
    ck_assert_int_eq(accepted, 1);
    ck_assert_str_eq(accepted_peer.host, "127.0.0.1");
    ck_assert_int_eq(a.open_err, KV_OK);
}
END_TEST

START_TEST(destroy_closes_what_is_left)
{
    struct env_uv *mine = uv;
    static struct env_listener l;
    static struct end a, b, c;
    pairs(&l, &a, &b, 1);
    end_init(&c);
    struct env_addr to = addr("127.0.0.1", free_port());
    struct probe p = {.timer.fire = probe_fire};
    struct job j = {.work = {.run = job_run, .done = job_done}};
    env->ops->connect(env, &c.conn, &to, NULL);
    env->ops->timer_start(env, &p.timer, KV_SECONDS(100));
    env->ops->work(env, &j.work);
    size_t size = 16 << 20;
    uint8_t *big = calloc(1, size);
    env->ops->read(env, &b.conn, false);
    end_send(&a, big, size);
    setup(); /* the fixture tears down this one */
    env_uv_destroy(mine);
    ck_assert(a.closed == 1 && b.closed == 1 && c.closed == 1);
    ck_assert(a.writes_done == 1 && a.write_err == KV_CLOSED);
    ck_assert(j.done == 1 && p.fired == 0 && l.impl == NULL);
    free(big);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("env_uv");
    TCase *t = tcase_create("env_uv");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 20);
    tcase_add_test(t, clocks_and_chance);
    tcase_add_test(t, timers_fire_in_order_and_never_early);
    tcase_add_test(t, a_timer_that_restarts_itself_does_not_starve_others);
    tcase_add_test(t, tasks_run_in_order_once_and_before_the_loop_sleeps);
    tcase_add_test(t, a_task_that_posts_itself_lets_the_loop_turn);
    tcase_add_test(t, work_runs_elsewhere_and_ends_here);
    tcase_add_test(t, another_thread_may_wake_the_loop);
    tcase_add_test(t, no_wake_is_lost);
    tcase_add_test(t, a_loop_that_lingers_loses_no_wake_and_sleeps_when_idle);
    tcase_add_test(t, signals_arrive_on_the_loop);
    tcase_add_test(t, bytes_travel_both_ways_from_a_chosen_address);
    tcase_add_test(t, a_reader_that_pauses_holds_the_writer);
    tcase_add_test(t, closing_finishes_the_open_write_first);
    tcase_add_test(t, what_was_taken_at_once_still_arrives_after_close);
    tcase_add_test(t, a_write_into_a_dead_connection_is_told);
    tcase_add_test(t, tasks_posted_by_io_run_behind_all_ready_io);
    tcase_add_test(t, a_dial_that_fails_says_why_and_closes);
    tcase_add_test(t, a_dial_may_be_given_up);
    tcase_add_test(t, listening_refuses_with_a_reason);
    tcase_add_test(t, any_address_serves_ipv4_and_names_the_peer_plainly);
    tcase_add_test(t, destroy_closes_what_is_left);
    suite_add_tcase(s, t);
    return unit_finish(s);
}

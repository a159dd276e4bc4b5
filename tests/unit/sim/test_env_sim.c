#include "tests/sim/env_sim.h"
#include "client/base/buf.h"
#include "tests/unit/unit.h"
#include <stdlib.h>

/* One echo server and one client that sends numbered bytes; what comes back must be a
 * prefix of what was sent, in order, whatever the network does. */
struct side {
    struct env *env;
    struct env_conn conn;
    struct env_write write;
    struct env_listener listener;
    struct kv_slice part;
    struct kv_buf pending, sending;
    bool writing, open;
    uint32_t opened, closed;
    uint64_t received, sent;
    enum kv_err open_err;
    struct env_timer timer;
};

static void side_pump(struct side *x);
static void side_written(struct env_write *w, enum kv_err err)
{
    struct side *x = container_of(w, struct side, write);
    x->writing = false;
    if (err == KV_OK) side_pump(x);
}

static void side_pump(struct side *x)
{
    if (x->writing || x->pending.size == 0 || !x->open) return;
    kv_buf_clear(&x->sending);
    kv_buf_append_slice(&x->sending, kv_buf_slice(&x->pending));
    kv_buf_clear(&x->pending);
    x->part = kv_buf_slice(&x->sending);
    x->write = (struct env_write){.done = side_written, .parts = &x->part, .part_count = 1};
    x->writing = true;
    x->env->ops->write(x->env, &x->conn, &x->write);
}

static void on_close(struct env_conn *c, enum kv_err err)
{
    (void)err;
    struct side *x = container_of(c, struct side, conn);
    ck_assert(!x->writing); /* done() comes before on_close() */
    x->open = false;
    x->closed++;
}

static void echo_bytes(struct env_conn *c, struct kv_slice bytes)
{
    struct side *x = container_of(c, struct side, conn);
    x->received += bytes.size;
    kv_buf_append_slice(&x->pending, bytes);
    side_pump(x);
}

static struct env_conn *echo_accept(struct env_listener *l, const struct env_addr *peer)
{
    (void)peer;
    struct side *x = container_of(l, struct side, listener);
    if (x->open) return NULL;
    x->open = true;
    x->opened++;
    x->conn = (struct env_conn){.on_bytes = echo_bytes, .on_close = on_close};
    return &x->conn;
}

static void client_bytes(struct env_conn *c, struct kv_slice bytes)
{
    struct side *x = container_of(c, struct side, conn);
    bool in_order = true; /* judged once a call: each check of the library is a system call */
    for (size_t i = 0; i < bytes.size; i++) in_order = in_order && bytes.data[i] == (uint8_t)(x->received++ % 251);
    ck_assert(in_order);
}

static void client_open(struct env_conn *c, enum kv_err err)
{
    struct side *x = container_of(c, struct side, conn);
    x->open_err = err;
    x->open = err == KV_OK;
    x->opened += err == KV_OK;
    side_pump(x);
}

static void client_tick(struct env_timer *t)
{
    struct side *x = container_of(t, struct side, timer);
    for (uint32_t i = 0; i < 1000 && x->open; i++) kv_buf_append_u8(&x->pending, (uint8_t)(x->sent++ % 251));
    side_pump(x);
    x->env->ops->timer_start(x->env, t, KV_MS(10));
}

struct world {
    struct sim *sim;
    struct sim_host *a, *b;
    struct side client, server;
};

static void world_make(struct world *w, uint64_t seed, struct sim_net net)
{
    memset(w, 0, sizeof *w);
    w->sim = sim_create(&(struct sim_options){.seed = seed, .wall_start_ms = 1700000000000, .net = net});
    w->a = sim_host_add(w->sim, "10.0.0.1");
    w->b = sim_host_add(w->sim, "10.0.0.2");
    w->client.env = sim_host_env(w->a);
    w->server.env = sim_host_env(w->b);
    struct env_addr at = {.host = "10.0.0.2", .port = 7401};
    w->server.listener.accept = echo_accept;
    ck_assert_int_eq(w->server.env->ops->listen(w->server.env, &w->server.listener, &at), KV_OK);
    w->client.conn = (struct env_conn){.on_open = client_open, .on_bytes = client_bytes, .on_close = on_close};
    w->client.env->ops->connect(w->client.env, &w->client.conn, &at, NULL);
    w->client.timer.fire = client_tick;
    w->client.env->ops->timer_start(w->client.env, &w->client.timer, KV_MS(10));
}

static void world_free(struct world *w)
{
    sim_destroy(w->sim);
    kv_buf_free(&w->client.pending);
    kv_buf_free(&w->client.sending);
    kv_buf_free(&w->server.pending);
    kv_buf_free(&w->server.sending);
}

static const struct sim_net calm = {.delay_min_ns = 100000, .delay_max_ns = 2000000};

START_TEST(bytes_arrive_in_order)
{
    struct world w;
    struct sim_net lossy = calm;
    lossy.loss_ppm = 20000;
    world_make(&w, (uint64_t)_i, lossy);
    sim_run_until(w.sim, KV_SECONDS(5));
    ck_assert_uint_eq(w.client.opened, 1);
    ck_assert_uint_eq(w.client.closed, 0);
    ck_assert_uint_gt(w.client.received, 300000);
    ck_assert_uint_le(w.client.received, w.server.received);
    world_free(&w);
}
END_TEST

static uint64_t stormy_hash(uint64_t seed)
{
    struct world w;
    struct sim_net storm = calm;
    storm.loss_ppm = 20000;
    storm.heal_break_ppm = 200000;
    world_make(&w, seed, storm);
    for (uint64_t t = 1; t <= 20; t++) {
        sim_run_until(w.sim, t * KV_MS(200));
        if (sim_chance(w.sim, 300000)) sim_link_block(w.sim, w.a, w.b);
        if (sim_chance(w.sim, 500000)) sim_link_open(w.sim, w.a, w.b);
        if (sim_chance(w.sim, 200000)) sim_host_pause(w.b, KV_MS(50));
        sim_host_drift(w.a, (int32_t)sim_below(w.sim, 1000) - 500);
    }
    uint64_t hash = sim_hash(w.sim);
    world_free(&w);
    return hash;
}

START_TEST(a_seed_replays)
{
    uint64_t one = stormy_hash((uint64_t)_i);
    ck_assert_uint_eq(one, stormy_hash((uint64_t)_i));
    ck_assert_uint_ne(one, stormy_hash((uint64_t)_i + 1000));
}
END_TEST

START_TEST(a_blocked_link_stalls_and_heals)
{
    struct world w;
    world_make(&w, (uint64_t)_i, calm);
    sim_run_until(w.sim, KV_SECONDS(1));
    sim_link_block(w.sim, w.b, w.a); /* one way: the echoes do not come back */
    sim_run_until(w.sim, KV_SECONDS(1) + KV_MS(50));
    uint64_t client = w.client.received, server = w.server.received;
    sim_run_until(w.sim, KV_SECONDS(3));
    ck_assert_uint_eq(w.client.received, client);
    ck_assert_uint_gt(w.server.received, server);
    sim_link_open(w.sim, w.b, w.a);
    sim_run_until(w.sim, KV_SECONDS(8));
    ck_assert_uint_gt(w.client.received, client + 200000);
    ck_assert_uint_eq(w.client.closed + w.server.closed, 0);
    world_free(&w);
}
END_TEST

START_TEST(a_cut_reaches_both_ends)
{
    struct world w;
    world_make(&w, (uint64_t)_i, calm);
    sim_run_until(w.sim, KV_SECONDS(1));
    ck_assert_uint_eq(sim_cut_connections(w.sim, w.a, NULL), 1);
    sim_run_until(w.sim, KV_SECONDS(2));
    ck_assert_uint_eq(w.client.closed, 1);
    ck_assert_uint_eq(w.server.closed, 1);
    world_free(&w);
}
END_TEST

START_TEST(a_killed_process_is_heard_and_reaped)
{
    struct world w;
    world_make(&w, (uint64_t)_i, calm);
    sim_run_until(w.sim, KV_SECONDS(1));
    struct env *dead = w.server.env;
    sim_host_kill(w.b, SIM_KILL);
    uint64_t received = w.server.received;
    sim_run_until(w.sim, KV_SECONDS(2));
    ck_assert_uint_eq(w.client.closed, 1);
    ck_assert_uint_eq(w.server.received, received); /* its callbacks never run again */
    ck_assert_uint_eq(w.server.closed, 0);
    sim_reap(dead);
    ck_assert_uint_eq(w.server.closed, 1);
    world_free(&w);
}
END_TEST

START_TEST(lost_power_is_heard_after_the_restart)
{
    struct world w;
    world_make(&w, (uint64_t)_i, calm);
    sim_run_until(w.sim, KV_SECONDS(1));
    sim_host_kill(w.b, SIM_POWER);
    sim_run_until(w.sim, KV_SECONDS(3));
    ck_assert_uint_eq(w.client.closed, 0);
    sim_host_start(w.b);
    sim_run_until(w.sim, KV_SECONDS(4));
    ck_assert_uint_eq(w.client.closed, 1);
    world_free(&w);
}
END_TEST

START_TEST(a_dial_fails_by_name)
{
    struct world w;
    world_make(&w, (uint64_t)_i, calm);
    struct side x = {.env = w.client.env};
    struct env_addr nobody = {.host = "10.0.0.2", .port = 1}, nowhere = {.host = "10.9.9.9", .port = 1};
    x.conn = (struct env_conn){.on_open = client_open, .on_bytes = client_bytes, .on_close = on_close};
    x.env->ops->connect(x.env, &x.conn, &nobody, NULL);
    sim_run_until(w.sim, KV_MS(100));
    ck_assert_int_eq(x.open_err, KV_CLOSED);
    ck_assert_uint_eq(x.closed, 1);
    x.env->ops->connect(x.env, &x.conn, &nowhere, NULL);
    sim_run_until(w.sim, KV_SECONDS(6));
    ck_assert_int_eq(x.open_err, KV_TIMEOUT);
    ck_assert_uint_eq(x.closed, 2);
    world_free(&w);
}
END_TEST

struct task_probe {
    struct env_task first, second;
    struct env *env;
    uint32_t runs, seconds;
    bool inside;
};
static void second_run(struct env_task *t)
{
    struct task_probe *x = container_of(t, struct task_probe, second);
    ck_assert(!x->inside);
    x->seconds++;
}
static void first_run(struct env_task *t)
{
    struct task_probe *x = container_of(t, struct task_probe, first);
    x->inside = true;
    x->runs++;
    x->env->ops->post(x->env, &x->second); /* next turn */
    x->env->ops->post(x->env, &x->second); /* a queued task: nothing */
    x->inside = false;
}

START_TEST(tasks_run_once_and_later)
{
    struct world w;
    world_make(&w, (uint64_t)_i, calm);
    struct task_probe x = {.first.run = first_run, .second.run = second_run, .env = w.client.env};
    x.env->ops->post(x.env, &x.first);
    x.env->ops->post(x.env, &x.first);
    ck_assert_uint_eq(x.runs, 0);
    sim_run_until(w.sim, KV_MS(1));
    ck_assert_uint_eq(x.runs, 1);
    ck_assert_uint_eq(x.seconds, 1);
    world_free(&w);
}
END_TEST

START_TEST(clocks_drift_jump_and_pause)
{
    struct world w;
    world_make(&w, (uint64_t)_i, calm);
    struct env *e = w.client.env;
    uint64_t mono = env_now_ns(e), wall = e->ops->wall_ns(e);
    sim_host_drift(w.a, 500);
    sim_run_until(w.sim, KV_SECONDS(10));
    ck_assert_uint_eq(env_now_ns(e) - mono, KV_SECONDS(10) + KV_MS(5));
    sim_host_wall_jump(w.a, -(int64_t)KV_SECONDS(60));
    ck_assert(e->ops->wall_ns(e) < wall);
    ck_assert(env_now_ns(e) > mono);
    uint64_t sent = w.client.sent;
    sim_host_pause(w.a, KV_SECONDS(2));
    sim_run_until(w.sim, KV_SECONDS(11) + KV_MS(900));
    ck_assert_uint_eq(w.client.sent, sent); /* held back */
    sim_run_until(w.sim, KV_SECONDS(13));
    ck_assert_uint_gt(w.client.sent, sent);
    sim_host_pause(w.a, KV_SECONDS(2)); /* it may have read its clock up to there: a rate changes only then */
    sim_host_drift(w.a, -500);
    sim_run_until(w.sim, KV_SECONDS(15));
    ck_assert_uint_eq(env_now_ns(e) - mono, KV_SECONDS(15) + 7500000);
    world_free(&w);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("env_sim");
    TCase *c = tcase_create("world");
    tcase_add_loop_test(c, bytes_arrive_in_order, 0, 10);
    tcase_add_loop_test(c, a_seed_replays, 0, 10);
    tcase_add_loop_test(c, a_blocked_link_stalls_and_heals, 0, 10);
    tcase_add_loop_test(c, a_cut_reaches_both_ends, 0, 10);
    tcase_add_loop_test(c, a_killed_process_is_heard_and_reaped, 0, 10);
    tcase_add_loop_test(c, lost_power_is_heard_after_the_restart, 0, 10);
    tcase_add_loop_test(c, a_dial_fails_by_name, 0, 5);
    tcase_add_test(c, tasks_run_once_and_later);
    tcase_add_test(c, clocks_drift_jump_and_pause);
    suite_add_tcase(suite, c);
    return unit_finish(suite);
}

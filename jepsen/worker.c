#include "jepsen/worker.h"
#include "client/base/hash.h"
#include "jepsen/run.h"
#include <assert.h>
#include <stdlib.h>

/* (1) Every invoke is in the history before its first byte leaves, every completion is written when
 *     the answer is read: the interval that is judged contains the true one.
 * (2) After an info the worker goes on under a process number that nobody has had. */
enum {
    THINK_NS_MAX = 12000000,
    NOT_READY_NS = 10000000,
    EXPIRY_EARLY_MS = 2 /* stamps are whole ms */,
    EXPIRY_LATE_MS = 50,
    EXPIRY_CLOCK_SLACK_MS = 1100
};

static const char *const doors_texts[] = {"resp", "native", "mixed"};

const char *doors_text(enum doors d)
{
    return doors_texts[d];
}

bool doors_find(const char *name, enum doors *out)
{
    for (uint32_t i = 0; i < sizeof doors_texts / sizeof doors_texts[0]; i++) {
        if (strcmp(name, doors_texts[i]) != 0) continue;
        *out = (enum doors)i;
        return true;
    }
    return false;
}

static void rest(struct worker *w, uint64_t delay_ns)
{
    w->run->env->ops->timer_start(w->run->env, &w->timer, delay_ns);
}

static int64_t process_new(struct run *r)
{
    return r->process_next++;
}

/* ---- keys that expire ----
 * The history gets a process for the deadline of a key: its cas [v, null] begins when the key may
 * be gone at the earliest, and ends when it must be gone. In between nobody knows. If the write is
 * not known to have happened, it never ends. Between nodes whose wall clocks jump, deadlines are
 * as exact as the rules for clocks allow (half a second each way). */
struct expiry {
    struct env_timer timer;
    struct run *run;
    struct expiry *next; /* in run->expiries, freed at the end */
    struct op op;
    int64_t process;
    uint64_t begin_ns;   /* when it may be gone */
    uint64_t written_ns; /* 0: not known to be */
    bool is_begun;
};

static uint64_t slack_ns(const struct run *r, uint64_t ms)
{
    return KV_MS(nemesis_moves_clocks(r->options.nemesis) ? EXPIRY_CLOCK_SLACK_MS : ms);
}

static void expiry_record(struct expiry *x, enum history_type type)
{
    recorder_event(&x->run->recorder, &(struct history_event){.process = x->process, .type = type, .f = HISTORY_CAS, .key = x->op.key}, op_value(&x->op));
}

static void expiry_may_be(struct expiry *x)
{
    x->is_begun = true;
    expiry_record(x, HISTORY_INVOKE);
}

/* Before each answer is recorded: a timer may be late, and what the answer shows must not come first. */
static void expiries_begin_due(struct run *r)
{
    uint64_t now_ns = env_now_ns(r->env);
    for (struct expiry *x = r->expiries; x != NULL; x = x->next)
        if (!x->is_begun && x->begin_ns <= now_ns) expiry_may_be(x);
}

static void expiry_fire(struct env_timer *t)
{
    struct expiry *x = container_of(t, struct expiry, timer);
    struct run *r = x->run;
    if (!x->is_begun) expiry_may_be(x);
    if (x->written_ns == 0) return; /* expiry_written() goes on from here */
    uint64_t due_ns = x->written_ns + KV_MS(x->op.ttl_ms) + slack_ns(r, EXPIRY_LATE_MS), now_ns = env_now_ns(r->env);
    if (now_ns >= due_ns)
        expiry_record(x, HISTORY_OK);
    else r->env->ops->timer_start(r->env, t, due_ns - now_ns);
}

static void expiry_begin(struct worker *w)
{
    struct run *r = w->run;
    struct expiry *x = calloc(1, sizeof *x);
    if (x == NULL) {
        r->recorder.failed = true;
        return;
    }
    *x = (struct expiry){
        .timer.fire = expiry_fire, .run = r, .next = r->expiries, .op = w->op, .process = process_new(r)};
    x->op.f = HISTORY_CAS;
    x->op.old = w->op.value;
    x->op.new_is_null = true;
    r->expiries = x;
    uint64_t early_ns = slack_ns(r, EXPIRY_EARLY_MS), ttl_ns = KV_MS(w->op.ttl_ms),
             wait_ns = ttl_ns > early_ns ? ttl_ns - early_ns : 0;
    x->begin_ns = env_now_ns(r->env) + wait_ns;
    r->env->ops->timer_start(r->env, &x->timer, wait_ns);
}

static void expiry_written(struct worker *w)
{
    struct run *r = w->run;
    struct expiry *x = r->expiries;
    while (x != NULL && strcmp(x->op.key, w->op.key) != 0) x = x->next;
    if (x == NULL) return; /* memory; told already */
    x->written_ns = env_now_ns(r->env);
    if (x->is_begun) r->env->ops->timer_start(r->env, &x->timer, KV_MS(x->op.ttl_ms) + slack_ns(r, EXPIRY_LATE_MS));
}

static void expiries_free(struct run *r)
{
    while (r->expiries != NULL) {
        struct expiry *x = r->expiries;
        r->expiries = x->next;
        r->env->ops->timer_stop(r->env, &x->timer);
        free(x);
    }
}

/* ---- one operation ---- */

/* `stale_ms`: asked for, or claimed, counted by another clock, which may run a little faster. */
static void record(struct worker *w, enum history_type type, uint32_t stale_ms, json_t *value)
{
    static const enum history_level levels[] = {HISTORY_STRONG, HISTORY_STRONG, HISTORY_BOUNDED, HISTORY_ANY};
    recorder_event(&w->run->recorder,
                   &(struct history_event){.process = w->process, .type = type, .f = w->op.f, .key = w->op.key, .level = levels[w->op.level], .stale_ms = stale_ms + stale_ms / 100 + 1},
                   value);
}

static void ask(struct worker *w)
{
    w->is_asking = true;
    record(w, HISTORY_INVOKE, w->op.bounded_ms, op_value(&w->op));
    if (w->op.ttl_ms != 0) expiry_begin(w);
    w->door->ask(w);
}

static uint32_t door_sharers(const struct run *r, const struct door *d)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->worker_count; i++) n += r->workers[i].door == d;
    return n;
}

static void final_ask(struct worker *w)
{
    if (w->final_next >= plan_keys(&w->run->plan)) return; /* done */
    w->op = (struct op){.f = HISTORY_READ};
    plan_key(&w->run->plan, w->final_next, w->op.key);
    ask(w);
}

static void worker_fire(struct env_timer *t)
{
    struct worker *w = container_of(t, struct worker, timer);
    struct run *r = w->run;
    if (!r->workers_run && !w->is_reading_final) return;
    if (!w->door->is_ready(w)) {
        rest(w, NOT_READY_NS);
        return;
    }
    if (w->is_reading_final) {
        final_ask(w);
        return;
    }
    w->op = *plan_next(&r->plan, &w->chooser);
    ask(w);
}

/* The value of the completion's event; NULL with `why` set: the reply makes no sense. */
static json_t *completion_value(const struct worker *w, const struct answer *a)
{
    const struct op *op = &w->op;
    if (a->outcome != HISTORY_OK) return op_value(op);
    if (w->run->options.sabotage.read && w->is_reading_final && w->final_next == 0) return json_integer(-1);
    bool was_empty = a->is_null || (w->run->options.sabotage.stale && op->level == KV_LEVEL_BOUNDED);
    if (op->f == HISTORY_READ) return shape_value(w->run->plan.workload->shape, a->bytes, was_empty);
    if (op->f == HISTORY_INCR && op->wants_result && a->has_result)
        return json_pack("[I,I]", (json_int_t)op->value, (json_int_t)a->result);
    return op_value(op);
}

static void learn(struct worker *w, const struct answer *a)
{
    const struct op *op = &w->op;
    int64_t value = op->value;
    if (op->f == HISTORY_READ) {
        json_t *v = shape_value(SHAPE_NUMBER, a->bytes, a->is_null);
        value = json_integer_value(v);
        json_decref(v);
        plan_saw(&w->run->plan, &w->chooser, op, a->is_null, value, a->version);
    } else if (op->f == HISTORY_WRITE || op->f == HISTORY_CAS) {
        plan_saw(&w->run->plan, &w->chooser, op, op->f == HISTORY_CAS && op->new_is_null, value, a->version);
    }
}

void worker_answer(struct worker *w, const struct answer *a)
{
    struct run *r = w->run;
    assert(w->is_asking);
    w->is_asking = false;
    expiries_begin_due(r);
    json_t *value = completion_value(w, a);
    if (value == NULL) {
        run_fail(r, "worker %u: the value of %s does not parse: '%.*s'", w->number, w->op.key,
                 (int)(a->bytes.size < 80 ? a->bytes.size : 80), (const char *)a->bytes.data);
        value = json_null();
    }
    record(w, a->outcome, a->stale_ms, value);
    if (a->outcome == HISTORY_OK && w->op.f == HISTORY_READ) r->recorder.reads[w->op.level]++;
    if (a->error != NULL) recorder_error(&r->recorder, a->error);
    if (a->outcome == HISTORY_INFO) w->process = process_new(r);
    if (a->outcome == HISTORY_OK && r->plan.workload->shape == SHAPE_NUMBER) learn(w, a);
    if (a->outcome == HISTORY_OK && w->op.ttl_ms != 0) expiry_written(w);
    if (w->is_reading_final) {
        if (a->outcome == HISTORY_OK) r->finals[w->final_next] = a->is_null ? FINAL_ABSENT : FINAL_THERE;
        if (a->outcome == HISTORY_OK) w->final_next += door_sharers(r, w->door);
        rest(w, a->outcome == HISTORY_OK ? 0 : NOT_READY_NS);
        return;
    }
    if (w->op.ends_script && a->outcome != HISTORY_OK) w->chooser.script_next = w->chooser.script_count;
    rest(w, kv_random_next(&w->chooser.random) % THINK_NS_MAX);
}

/* ---- all of them ---- */

bool workers_open(struct run *r)
{
    for (uint32_t i = 0; i < r->worker_count; i++) {
        struct worker *w = &r->workers[i];
        bool native = r->options.doors == DOORS_NATIVE || (r->options.doors == DOORS_MIXED && i % 2 == 1);
        *w = (struct worker){.run = r,
                             .number = i + 1,
                             .door = native ? &door_native : &door_resp,
                             .process = process_new(r),
                             .timer.fire = worker_fire};
        w->chooser.random = r->options.seed * 1000003 + i;
        w->chooser.native = native;
        snprintf(w->from.host, sizeof w->from.host, "127.0.1.%u", i + 1);
        if (!w->door->open(w)) return false;
    }
    return true;
}

void workers_begin(struct run *r)
{
    r->workers_run = true;
    for (uint32_t i = 0; i < r->worker_count; i++) rest(&r->workers[i], 0);
}

void workers_stop(struct run *r)
{
    r->workers_run = false;
}

bool workers_idle(struct run *r)
{
    for (uint32_t i = 0; i < r->worker_count; i++)
        if (r->workers[i].is_asking) return false;
    return true;
}

void workers_read_final(struct run *r)
{
    uint32_t next_resp = 0, next_native = 0;
    for (uint32_t i = 0; i < r->worker_count; i++) {
        struct worker *w = &r->workers[i];
        w->is_reading_final = true;
        w->final_next = w->door == &door_resp ? next_resp++ : next_native++;
        rest(w, 0);
    }
}

bool workers_have_read(struct run *r)
{
    for (uint32_t i = 0; i < r->worker_count; i++)
        if (r->workers[i].is_asking || r->workers[i].final_next < plan_keys(&r->plan)) return false;
    return true;
}

void workers_close(struct run *r)
{
    for (uint32_t i = 0; i < r->worker_count; i++) {
        struct worker *w = &r->workers[i];
        r->env->ops->timer_stop(r->env, &w->timer);
        if (w->state != NULL) w->door->close(w);
    }
    expiries_free(r);
}

#include "client/base/hash.h"
#include "client/base/text.h"
#include "tests/sim/workload_impl.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* (1) An operation is in the history exactly if a client began it; its answer is there
 *     unless the run ended first.
 * (2) After an info the client goes on under a new process number.
 * (3) Written values are unique, so that every read names its writer.
 * (4) A history writes no null, so a deleted register reads "absent" in it, from the
 *     beginning on.
 * (5) The search pays for every value that may have expired, and every read of a list names all of it,
 *     so such keys are left for new ones after a while: t0.0, t0.1 .. l0.0, l0.1 .. */

enum { CLOCKS_APART_NS = 100000000,
       MORTALS_PER_KEY = 16,
       APPENDS_PER_KEY = 500 }; /* sane wall clocks, after drifting for a whole run */

static struct env *client_env(const struct client *c)
{
    return sim_host_env(c->host);
}

uint64_t client_below(struct client *c, uint64_t n)
{
    return kv_random_next(&c->random) % n;
}

static bool client_chance(struct client *c, uint32_t ppm)
{
    return client_below(c, 1000000) < ppm;
}

static void history_put(struct workload *w, const struct history_event *e)
{
    char why[256] = "";
    enum kv_err err = history_add(w->history, e, 0, why, sizeof why);
    if (err == KV_OK) return;
    fprintf(stderr, "the simulator's own history: %s\n", why);
    abort();
}

static void record(struct client *c, enum history_type type, json_t *value)
{
    struct history_event e = {.process = c->process, .type = type, .f = c->op.f, .key = c->op.key, .value = value, .time_ns = sim_now_ns(c->w->o.sim)};
    if (c->op.f == HISTORY_READ) {
        e.level = c->op.level == KV_LEVEL_BOUNDED ? HISTORY_BOUNDED : c->op.level == KV_LEVEL_ANY ? HISTORY_ANY
                                                                                                  : HISTORY_STRONG;
        e.stale_ms = type == HISTORY_INVOKE ? c->op.bounded_ms : c->op.stale_ms;
        e.stale_ms += e.stale_ms / 100 + 1; /* clocks drift */
    }
    history_put(c->w, &e);
}

static void mortal_expires(struct sim_event *event)
{
    struct mortal *m = container_of(event, struct mortal, expires);
    json_t *pair = json_array();
    json_array_append_new(pair, json_integer(m->value));
    json_array_append_new(pair, json_null());
    history_put(m->w, &(struct history_event){.process = m->w->process_next++, .type = HISTORY_INVOKE, .f = HISTORY_CAS, .key = m->key, .value = pair, .time_ns = sim_now_ns(m->w->o.sim)});
    json_decref(pair);
}

static struct mortal *mortal_make(struct workload *w, const struct client_op *op)
{
    struct mortal *m = &w->mortals[w->mortal_next];
    if (m->expires.heap_index != 0) return NULL; /* so many live at once: this one stays */
    w->mortal_next = (w->mortal_next + 1) % WORKLOAD_MORTALS_MAX;
    *m = (struct mortal){.expires.fire = mortal_expires, .w = w, .value = op->value, .ttl_ns = KV_MS(op->ttl_ms)};
    memcpy(m->key, op->key, sizeof m->key);
    bool later = w->o.wall_is_sane && m->ttl_ns > CLOCKS_APART_NS;
    sim_after(w->o.sim, NULL, &m->expires, later ? m->ttl_ns - CLOCKS_APART_NS : 0);
    return m;
}

/* A read that began long after a value had to be gone. */
static void mortal_read(struct client *c, json_t *value)
{
    struct workload *w = c->w;
    if (!w->o.wall_is_sane || c->op.key[0] != 't' || c->op.f != HISTORY_READ || !json_is_integer(value)) return;
    for (uint32_t i = 0; i < WORKLOAD_MORTALS_MAX; i++) {
        const struct mortal *m = &w->mortals[i];
        if (m->value != json_integer_value(value) || m->ok_ns == 0) continue;
        uint64_t gone = m->ok_ns + m->ttl_ns + CLOCKS_APART_NS;
        if (c->op.asked_ns <= gone || w->wrong[0] != '\0') return;
        snprintf(w->wrong, sizeof w->wrong, "TTL: %s still reads %lld %llu ms after it had to expire", m->key,
                 (long long)m->value, (unsigned long long)((c->op.asked_ns - gone) / 1000000));
    }
}

json_t *absent_value(const char *key)
{
    return key[0] == 'r' ? json_string("absent") : json_null();
}

static void registers_begin(struct workload *w)
{
    for (uint32_t k = 0; k < w->o.registers; k++) {
        char key[16];
        snprintf(key, sizeof key, "r%u", k);
        json_t *absent = absent_value(key);
        struct history_event e = {.process = w->process_next++, .type = HISTORY_INVOKE, .f = HISTORY_WRITE, .key = key, .value = absent};
        history_put(w, &e);
        e.type = HISTORY_OK;
        history_put(w, &e);
        json_decref(absent);
    }
}

static json_t *op_value(const struct client_op *op)
{
    switch (op->f) {
    case HISTORY_READ: return json_null();
    case HISTORY_CAS: {
        json_t *pair = json_array();
        json_array_append_new(pair, op->expects_null ? absent_value(op->key) : json_integer(op->expected));
        json_array_append_new(pair, json_integer(op->value));
        return pair;
    }
    case HISTORY_WRITE:
    case HISTORY_INCR:
    case HISTORY_APPEND:
    case HISTORY_ADD:
    case HISTORY_TXN: break;
    }
    return op->deletes ? absent_value(op->key) : json_integer(op->value);
}

enum key_kind { KEY_REGISTER,
                KEY_COUNTER,
                KEY_LIST,
                KEY_MORTAL };

static uint32_t keys_count(const struct workload *w)
{
    return w->o.registers + w->o.counters + w->o.lists + w->o.mortals;
}

static enum key_kind key_kind(const struct workload *w, uint32_t k)
{
    const struct workload_options *o = &w->o;
    if (k < o->registers) return KEY_REGISTER;
    if (k < o->registers + o->counters) return KEY_COUNTER;
    return k < o->registers + o->counters + o->lists ? KEY_LIST : KEY_MORTAL;
}

static uint32_t generation_now(const struct workload *w, enum key_kind kind, uint32_t k)
{
    if (kind == KEY_MORTAL) return w->mortal_writes[k] / MORTALS_PER_KEY;
    return kind == KEY_LIST ? w->list_appends[k] / APPENDS_PER_KEY : 0;
}

static void key_text(enum key_kind kind, uint32_t k, uint32_t generation, char out[32])
{
    if (kind == KEY_MORTAL || kind == KEY_LIST) snprintf(out, 32, "%c%u.%u", "rclt"[kind], k, generation);
    else snprintf(out, 32, "%c%u", "rclt"[kind], k);
}

static void register_choose(struct client *c, uint32_t key)
{
    struct client_op *op = &c->op;
    op->f = HISTORY_WRITE;
    if (client_chance(c, 400000)) {
        op->f = HISTORY_CAS;
        op->expected = c->w->last_value[key];
        op->expects_null = op->expected == 0 || !c->native; /* Redis: SETNX is all there is */
    } else {
        op->deletes = client_chance(c, 150000);
    }
    c->w->last_value[key] = op->deletes ? 0 : op->value;
}

static void op_choose(struct client *c)
{
    struct workload *w = c->w;
    uint32_t k = (uint32_t)client_below(c, keys_count(w));
    enum key_kind kind = key_kind(w, k);
    c->op = (struct client_op){.f = HISTORY_READ, .asked_ns = sim_now_ns(w->o.sim)};
    c->op.number = k;
    c->op.floor = w->versions[k];
    key_text(kind, k, generation_now(w, kind, k), c->op.key);
    if (client_chance(c, w->o.read_ppm)) {
        if (!c->native || !client_chance(c, w->o.level_ppm)) return;
        c->op.level = KV_LEVEL_LEASE + (enum kv_level)client_below(c, 3);
        if (c->op.level == KV_LEVEL_BOUNDED) c->op.bounded_ms = UINT32_C(50) << client_below(c, 4);
        return;
    }
    c->op.value = w->value_next++;
    switch (kind) {
    case KEY_REGISTER: register_choose(c, k); break;
    case KEY_COUNTER:
        c->op.f = HISTORY_INCR;
        c->op.value = 1 + (int64_t)client_below(c, 3);
        break;
    case KEY_LIST:
        w->list_appends[k]++;
        c->op.f = HISTORY_APPEND;
        break;
    case KEY_MORTAL:
        w->mortal_writes[k]++; /* one in four by SETNX, whose answer depends on whether the value is gone */
        c->op.f = HISTORY_WRITE;
        if (client_chance(c, 250000)) {
            c->op.f = HISTORY_CAS;
            c->op.expects_null = true;
        } else {
            c->op.ttl_ms = 1 + (UINT64_C(16) << client_below(c, 8)) + client_below(c, 16);
        }
        break;
    }
    snprintf(c->op.text, sizeof c->op.text, "%s%lld", kind == KEY_LIST ? "," : "", (long long)c->op.value);
    snprintf(c->op.old, sizeof c->op.old, "%lld", (long long)c->op.expected);
}

/* The key of that number of all that were ever written; false: there are not so many. What expired is not among them. */
static bool key_of_all(const struct workload *w, uint32_t number, char out[32])
{
    for (uint32_t k = 0; k < keys_count(w); k++) {
        enum key_kind kind = key_kind(w, k);
        uint32_t now = generation_now(w, kind, k), first = kind == KEY_MORTAL ? now : 0;
        if (number <= now - first) {
            key_text(kind, k, first + number, out);
            return true;
        }
        number -= now - first + 1;
    }
    return false;
}

static bool final_choose(struct client *c)
{
    c->op = (struct client_op){.f = HISTORY_READ, .number = WORKLOAD_KEYS_MAX, .asked_ns = sim_now_ns(c->w->o.sim)};
    c->stopped = !key_of_all(c->w, c->final_next, c->op.key);
    return !c->stopped;
}

static bool version_is_below(struct kv_version a, struct kv_version b)
{
    return a.epoch != b.epoch ? a.epoch < b.epoch : a.index < b.index;
}

void client_saw_version(struct client *c, struct kv_version v)
{
    struct workload *w = c->w;
    const struct client_op *op = &c->op;
    if (op->level == KV_LEVEL_BOUNDED || op->level == KV_LEVEL_ANY) return; /* they may be older */
    if (v.index == 0 || op->number == WORKLOAD_KEYS_MAX || op->key[0] == 'l' || op->key[0] == 't') return;
    if (version_is_below(v, op->floor) && w->wrong[0] == '\0')
        snprintf(w->wrong, sizeof w->wrong, "version: %s is of %u:%llu, and was of %u:%llu before that was asked", op->key, v.epoch,
                 (unsigned long long)v.index, op->floor.epoch, (unsigned long long)op->floor.index);
    if (version_is_below(w->versions[op->number], v)) w->versions[op->number] = v;
}

static bool op_is_skipped(const struct workload *w, uint32_t number)
{
    return w->o.skip_ops != NULL && number < 1 << 16 && (w->o.skip_ops[number / 64] >> number % 64 & 1) != 0;
}

static void client_patience_ends(struct sim_event *e)
{
    struct client *c = container_of(e, struct client, patience);
    assert(c->busy && !c->native); /* libkv keeps its own deadline */
    client_answered(c, ANSWER_INFO, NULL);
    resp_client_drop(c);
}

static void client_thought(struct sim_event *e)
{
    struct client *c = container_of(e, struct client, think);
    if (c->stopped || c->busy) return;
    if (!c->native && !c->connected) {
        resp_client_dial(c);
        return;
    }
    if (c->w->is_reading_all) {
        if (!final_choose(c)) return;
    } else {
        op_choose(c);
        if (op_is_skipped(c->w, c->w->counts.ops++)) {
            client_ready(c);
            return;
        }
    }
    if (c->op.ttl_ms != 0) c->op.mortal = mortal_make(c->w, &c->op);
    if (c->op.mortal == NULL) c->op.ttl_ms = 0;
    uint64_t wall_ms = client_env(c)->ops->wall_ns(client_env(c)) / 1000000;
    snprintf(c->op.deadline, sizeof c->op.deadline, "%llu",
             (unsigned long long)(c->op.ttl_ms == 0 ? 0 : wall_ms + c->op.ttl_ms));
    json_t *value = op_value(&c->op);
    record(c, HISTORY_INVOKE, value);
    json_decref(value);
    c->busy = true;
    c->w->counts.open++;
    if (c->native) {
        native_client_send(c);
        return;
    }
    sim_after(c->w->o.sim, c->host, &c->patience, c->w->o.timeout_ns);
    resp_client_send(c);
}

void client_ready(struct client *c)
{
    if (c->stopped || c->busy) return;
    sim_after(c->w->o.sim, c->host, &c->think, 1 + client_below(c, c->w->o.think_max_ns));
}

void client_answered(struct client *c, enum client_answer answer, json_t *value)
{
    assert(c->busy);
    struct workload *w = c->w;
    c->busy = false;
    w->counts.open--;
    sim_cancel(w->o.sim, &c->patience);
    switch (answer) {
    case ANSWER_OK:
        w->counts.ok++;
        if (c->op.f == HISTORY_READ) w->counts.reads[c->op.level]++;
        c->ok_since_mark++;
        if (c->op.mortal != NULL) c->op.mortal->ok_ns = sim_now_ns(w->o.sim);
        mortal_read(c, value);
        record(c, HISTORY_OK, value);
        if (w->is_reading_all) c->final_next += w->o.clients;
        break;
    case ANSWER_FAIL:
        w->counts.fail++;
        record(c, HISTORY_FAIL, NULL);
        break;
    case ANSWER_INFO:
        w->counts.info++;
        record(c, HISTORY_INFO, NULL);
        c->process = w->process_next++;
        break;
    }
    client_ready(c);
}

json_t *list_parse(struct kv_slice text)
{
    json_t *list = json_array();
    size_t at = 0;
    while (at < text.size) {
        size_t end = at + 1;
        while (end < text.size && text.data[end] != ',') end++;
        int64_t v;
        if (text.data[at] != ',' || !kv_parse_i64(kv_slice(text.data + at + 1, end - at - 1), &v)) {
            json_array_append_new(list, json_string("not what anyone appended"));
            break;
        }
        json_array_append_new(list, json_integer(v));
        at = end;
    }
    return list;
}

struct workload *workload_create(const struct workload_options *o)
{
    assert(o->clients >= 1 && o->clients <= WORKLOAD_CLIENTS_MAX);
    assert(o->registers + o->counters + o->lists + o->mortals >= 1);
    assert(o->registers + o->counters + o->lists + o->mortals <= WORKLOAD_KEYS_MAX);
    struct workload *w = calloc(1, sizeof *w);
    if (w == NULL) return NULL;
    w->o = *o;
    w->value_next = 1;
    w->process_next = o->clients;
    w->history = history_create();
    bool good = w->history != NULL;
    for (uint32_t i = 0; i < o->clients && good; i++) {
        struct client *c = &w->clients[i];
        char address[32];
        snprintf(address, sizeof address, "10.0.1.%u", i + 1);
        c->w = w;
        c->id = i + 1;
        c->process = i;
        c->host = sim_host_add(o->sim, address);
        c->think.fire = client_thought;
        c->patience.fire = client_patience_ends;
        c->random = o->seed + i;
        c->native = client_chance(c, o->native_ppm);
        resp_client_init(c);
        good = c->host != NULL && (!c->native || native_client_init(c));
    }
    if (good) {
        registers_begin(w);
        return w;
    }
    workload_destroy(w);
    return NULL;
}

void workload_start(struct workload *w)
{
    for (uint32_t i = 0; i < w->o.clients; i++) {
        w->clients[i].stopped = false;
        client_ready(&w->clients[i]);
    }
}

void workload_stop(struct workload *w)
{
    for (uint32_t i = 0; i < w->o.clients; i++) w->clients[i].stopped = true;
}

void workload_read_all(struct workload *w)
{
    w->is_reading_all = true;
    for (uint32_t i = 0; i < w->o.clients; i++) w->clients[i].final_next = i;
    workload_start(w);
}

void workload_mark(struct workload *w)
{
    for (uint32_t i = 0; i < w->o.clients; i++) w->clients[i].ok_since_mark = 0;
}

void workload_counts(const struct workload *w, struct workload_counts *out)
{
    *out = w->counts;
    out->wrong = w->wrong[0] == '\0' ? NULL : w->wrong;
    out->ok_min = UINT64_MAX;
    for (uint32_t i = 0; i < w->o.clients && w->is_reading_all; i++) out->open += !w->clients[i].stopped && !w->clients[i].busy;
    for (uint32_t i = 0; i < w->o.clients; i++)
        if (w->clients[i].ok_since_mark < out->ok_min) out->ok_min = w->clients[i].ok_since_mark;
}

void workload_silent(const struct workload *w, char *out, size_t size)
{
    out[0] = '\0';
    for (uint32_t i = 0; i < w->o.clients; i++) {
        const struct client *c = &w->clients[i];
        if (c->ok_since_mark > 0) continue;
        snprintf(out, size, "client %u, of %s, %s key %s", c->id, c->native ? "libkv" : "a Redis port", c->busy ? "waits for" : "thinks of", c->op.key);
        return;
    }
}

const struct history *workload_history(const struct workload *w)
{
    return w->history;
}

struct sim_host *workload_host(struct workload *w, uint32_t client)
{
    return client >= 1 && client <= w->o.clients ? w->clients[client - 1].host : NULL;
}

static void nothing(void *context)
{
    (void)context;
}

void workload_destroy(struct workload *w)
{
    if (w == NULL) return;
    workload_stop(w);
    for (uint32_t i = 0; i < WORKLOAD_MORTALS_MAX; i++) sim_cancel(w->o.sim, &w->mortals[i].expires);
    for (uint32_t i = 0; i < w->o.clients; i++) {
        struct client *c = &w->clients[i];
        if (c->host == NULL) continue;
        if (c->kv != NULL) kv_client_close(c->kv, nothing, NULL);
        else if (client_env(c) != NULL && (c->connected || c->dialling)) resp_client_drop(c);
    }
    /* The closing callbacks of all clients, so that they free what they hold. */
    sim_run_until(w->o.sim, sim_now_ns(w->o.sim) + KV_MS(100));
    for (uint32_t i = 0; i < w->o.clients; i++) resp_client_free(&w->clients[i]);
    history_free(w->history);
    free(w);
}

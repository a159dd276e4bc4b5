#include "client/kv_client.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/base/endian.h"
#include "client/base/text.h"
#include "client/kv_answer.h"
#include "client/wire/resp.h"

/* Invariants:
 * (1) An open call is in exactly one list, which its state names: ASKED (the pool has it), RESTING
 *     (its timer runs), MAPPING (it waits for the one map request), READY (the task will step it).
 * (2) One KVMAP request is open at a time, however many calls want the map.
 * (3) attempt.maybe is never cleared: once an outcome is unknown, only a verdict of apply, which
 *     has looked at the dedup record, may say "no" or "yes" again. */
enum { NAME_TRIES = 5,
       NAME_MS = 50 }; /* while nobody knows a keyspace of the name */
enum { CLIENT_MAP_TIMEOUT_MS = 400,
       CLIENT_MAP_BYTES_MAX = 64 << 20 };

struct call_list {
    struct kv_call *head, *tail;
};

struct kv_client {
    struct kv_client_options options;
    struct env *env;
    struct router *router;
    struct pool *pool;
    uint8_t id[KV_CLIENT_BYTES];
    uint64_t sequence;
    struct call_list lists[KV_CALL_READY + 1];
    struct env_task task;
    bool task_posted, is_closing, pool_gone;
    struct pool_call map_call;
    struct env_addr map_from;
    bool map_open;
    struct kv_arena arena;
    void (*closed)(void *context);
    void *closed_context;
};

/* ---- lists ---- */

static void call_leave(struct kv_call *call)
{
    struct call_list *l = &call->client->lists[call->state];
    if (call->state == KV_CALL_IDLE) return;
    if (call->prev == NULL)
        l->head = call->following;
    else
        call->prev->following = call->following;
    if (call->following == NULL)
        l->tail = call->prev;
    else
        call->following->prev = call->prev;
    call->prev = call->following = NULL;
    call->state = KV_CALL_IDLE;
}

static void call_enter(struct kv_call *call, enum kv_call_state state)
{
    call_leave(call);
    struct call_list *l = &call->client->lists[state];
    call->state = state;
    call->prev = l->tail;
    if (l->tail == NULL)
        l->head = call;
    else
        l->tail->following = call;
    l->tail = call;
}

static void client_post(struct kv_client *c)
{
    if (c->task_posted) return;
    c->task_posted = true;
    c->env->ops->post(c->env, &c->task);
}

/* ---- how soon replicas answer ---- */

static bool is_anywhere(const struct kv_call *call)
{
    const struct kv_op_info *info = kv_op_info((uint32_t)call->op);
    bool reads = info != NULL && (info->kind == KV_OP_KIND_R || call->op == KV_OP_KVPING);
    return reads && call->level != KV_LEVEL_LINEARIZABLE && !kv_answer_mutates(call->op);
}

static void read_sent(struct kv_call *call, uint64_t now_ns)
{
    if (!is_anywhere(call)) return;
    call->sent_ns = now_ns;
    router_read_asked(call->client->router, &call->sent_to, now_ns);
}

/* It ended, answered or not. A refusal is soon given and no reason to ask there again; a page of rows takes as long as it is large. */
static void read_ended(struct kv_call *call, bool is_answered, bool is_refused)
{
    const struct pool_call *w = &call->wire;
    if (call->sent_ns == 0) return;
    uint64_t now_ns = env_now_ns(call->client->env), took_ns = now_ns - (w->sent ? w->sent_ns : call->sent_ns);
    if (!is_answered || call->op == KV_OP_KVSCAN) took_ns = 0;
    else if (is_refused && took_ns < KV_CHOICE_REFUSAL_NS) took_ns = KV_CHOICE_REFUSAL_NS;
    else if (took_ns == 0) took_ns = 1;
    router_read_answered(call->client->router, &call->sent_to, took_ns, now_ns);
    call->sent_ns = 0;
}

/* ---- ending a call ---- */

static bool is_unreached(enum kv_err err)
{
    return err == KV_CLOSED || err == KV_UNAVAILABLE;
}

static void call_done(struct kv_call *call)
{
    read_ended(call, false, false);
    call->client->env->ops->timer_stop(call->client->env, &call->timer);
    pool_cancel(&call->wire);
    call_leave(call);
    call->client = NULL;
    call->done(call);
}

static void call_give_up(struct kv_call *call, enum kv_err err)
{
    if (is_unreached(err) && call->is_leaderless && !call->client->is_closing) err = KV_NO_LEADER;
    kv_answer_none(call, err, call->client->is_closing);
    call_done(call);
}

static void call_settle(struct kv_call *call, const struct kv_reply *reply)
{
    kv_answer_read(call, reply, call->client->is_closing);
    call_done(call);
}

/* ---- its keyspace ---- */

static void call_step(struct kv_call *call);
static void call_want_map(struct kv_call *call, const struct route *from);

static void key_trouble(struct kv_call *call, enum kv_err err)
{
    const struct kv_client *c = call->client;
    const struct kv_key_rule *rule = kv_client_rule(c);
    char *text = call->result.text;
    size_t size = sizeof call->result.text;
    if (err == KV_TOO_BIG) {
        snprintf(text, size, "the key");
    } else if (err == KV_NOT_FOUND && rule != NULL) {
        uint32_t first, step;
        (void)kv_op_keys(kv_op_info((uint32_t)call->op), call->arg_count, &first, &step);
        struct kv_slice label = kv_key_label(rule, call->args[first]);
        snprintf(text, size, "label '%.*s' is in no group of keyspace %s, which has no default group",
                 (int)(label.size < 40 ? label.size : 40), label.size == 0 ? "" : (const char *)label.data,
                 c->options.keyspace_name);
    } else {
        snprintf(text, size, "the operation's arguments");
    }
}

const struct kv_key_rule *kv_client_rule(const struct kv_client *c)
{
    struct kv_slice name = kv_str(c->options.keyspace_name);
    if (name.size == 0 && c->options.keyspace == KV_KEYSPACE_DEFAULT) return &kv_key_rule_default;
    const struct kv_keyspace *k = router_keyspace(c->router, c->options.keyspace, name);
    return k == NULL ? NULL : &k->rule;
}

/* Where the call goes: by its first key, by the start of its scan, or to any or one node. */
static enum kv_err call_key(struct kv_client *c, struct kv_call *call)
{
    const struct kv_op_info *info = kv_op_info((uint32_t)call->op);
    const struct kv_key_rule *rule = kv_op_is_directory(call->op) ? &kv_key_rule_system : kv_client_rule(c);
    uint32_t first = 0, step = 0;
    call->key.size = 0;
    if (info == NULL || (int64_t)call->arg_count < info->arity_min ||
        (info->arity_max >= 0 && (int64_t)call->arg_count > info->arity_max))
        return KV_BAD_ARGUMENT;
    call->unresolved = rule == NULL && info->kind != KV_OP_KIND_A;
    if (rule == NULL) return KV_OK;
    call->wire.request.keyspace = rule->keyspace == KV_KEYSPACE_SYSTEM ? KV_KEYSPACE_DEFAULT : rule->keyspace;
    if (call->op == KV_OP_KVSCAN) {
        if (call->args[0].size > sizeof call->key.bytes) return KV_TOO_BIG;
        if (call->args[0].size > 0) memmove(call->key.bytes, call->args[0].data, call->args[0].size);
        call->key.size = (uint16_t)call->args[0].size;
        if (call->scan_from_start) kv_key_start(rule->kind, rule->keyspace, &call->key);
        if (call->scan_to_end) kv_key_end(rule->kind, rule->keyspace, &call->scan_to);
        if (call->args == call->scan_args) call->scan_args[0] = kv_key_slice(&call->key);
        return KV_OK;
    }
    if (call->op == KV_OP_KSLIST) return kv_key_encode(rule, kv_slice(NULL, 0), &call->key);
    if (kv_op_keys(info, call->arg_count, &first, &step) == 0) return KV_OK;
    return kv_key_encode(rule, call->args[first], &call->key);
}

/* Encodes the key once the keyspace is known. False: the call goes another way. */
static bool call_resolve(struct kv_call *call)
{
    struct kv_client *c = call->client;
    enum kv_err err = call->outdated ? KV_OK : call_key(c, call);
    if (call->outdated) call->outdated = false;
    else if (err == KV_OK && !call->unresolved) {
        call->attempt.key = kv_key_slice(&call->key);
        return true;
    }
    if (err == KV_OK && call->attempt.rested && call->attempt.last_err == KV_OK) {
        /* A node may hear of a new keyspace a little later than the one that made it. */
        uint64_t now_ns = env_now_ns(c->env);
        if (call->name_tries++ < NAME_TRIES && call->attempt.deadline_ns > now_ns + KV_MS(NAME_MS)) {
            call->attempt.rested = false;
            call_enter(call, KV_CALL_RESTING);
            c->env->ops->timer_start(c->env, &call->timer, KV_MS(NAME_MS));
            return false;
        }
        if (c->options.keyspace_name[0] != 0)
            snprintf(call->result.text, sizeof call->result.text, "%s", c->options.keyspace_name);
        else snprintf(call->result.text, sizeof call->result.text, "%u", c->options.keyspace);
        call_give_up(call, KV_NO_KEYSPACE);
        return false;
    }
    if (err != KV_OK) {
        key_trouble(call, err);
        call_give_up(call, err == KV_NOT_FOUND ? KV_BAD_ARGUMENT : err);
        return false;
    }
    struct route to = router_next(c->router, &call->attempt, env_now_ns(c->env));
    switch (to.action) {
    case ROUTE_SEND:
    case ROUTE_REFRESH:
        call->attempt.last_err = KV_OK;
        call_want_map(call, &to);
        break;
    case ROUTE_WAIT:
        call_enter(call, KV_CALL_RESTING);
        c->env->ops->timer_start(c->env, &call->timer, to.delay_ns);
        break;
    case ROUTE_GIVE_UP: call_give_up(call, to.err); break;
    }
    return false;
}

/* ---- one step of a call ---- */

static void call_failed(struct kv_call *call, enum kv_err err, const char *why)
{
    call->attempt.last_err = err;
    call->attempt.rested = false;
    call->is_leaderless = err == KV_NO_LEADER;
    snprintf(call->result.text, sizeof call->result.text, "%s", why);
}

/* No node heard it. What one said of the partition before tells more than that another was not reached since. */
static void call_unheard(struct kv_call *call, enum kv_err err, const char *why)
{
    if (!call->is_leaderless || !is_unreached(err)) {
        call_failed(call, err, why);
        return;
    }
    call->attempt.last_err = err;
    call->attempt.rested = false;
}

/* That node cannot help anybody now: others are asked first for a while. */
static bool is_unfit(enum kv_err err)
{
    return err == KV_LOADING || err == KV_POISONED || err == KV_CORRUPT || err == KV_IO || err == KV_NO_LEADER;
}

static void wire_done(struct pool_call *w, enum kv_err err, const struct kv_reply *reply, const char *why)
{
    struct kv_call *call = container_of(w, struct kv_call, wire);
    struct kv_client *c = call->client;
    uint64_t now_ns = env_now_ns(c->env);
    /* Without an answer it took at least until now. */
    read_ended(call, err == KV_OK || w->sent, err != KV_OK || router_retryable(reply->err));
    call->attempt.retry_after_ns = 0;
    if (err == KV_TIMEOUT && !w->sent && call->attempt.last_err != KV_OK) {
        call_give_up(call, call->attempt.last_err); /* the last try was not even sent: the one before tells why */
        return;
    }
    if (err != KV_OK) {
        bool refused = err == KV_AUTH || err == KV_WRONG_CLUSTER || err == KV_VERSION;
        if (w->sent && !refused && kv_answer_mutates(call->op)) call->attempt.maybe = true;
        if (is_unreached(err)) router_learn_failure(c->router, &call->sent_to, now_ns);
        if (w->sent) call_failed(call, err, why);
        else call_unheard(call, err, why);
        if (c->is_closing || err == KV_TIMEOUT)
            call_give_up(call, err); /* the pool's deadline is the call's */
        else
            call_step(call);
        return;
    }
    if (is_unfit(reply->err)) router_learn_failure(c->router, &call->sent_to, now_ns);
    else router_learn_success(c->router, &call->sent_to);
    kv_answer_facts(&call->result, reply);
    if (reply->err == KV_OK && w->request.pinned && reply->partition == w->request.partition) {
        const struct kv_partition_info *p = router_partition(c->router, kv_key_slice(&call->key));
        if (p != NULL && p->id == reply->partition && reply->node != 0 && p->leader != reply->node &&
            call->level == KV_LEVEL_LINEARIZABLE)
            router_learn_leader(c->router, p->id, reply->node);
    }
    if (reply->err == KV_NO_KEYSPACE && c->options.keyspace_name[0] != 0 && !call->renewed && !kv_op_is_directory(call->op)) {
        call->renewed = call->unresolved = call->outdated = true; /* the name may be another's by now */
        call->attempt.rested = false;
        call->attempt.last_err = KV_OK;
        call->attempt.key.size = 0;
        call_step(call);
        return;
    }
    if (!router_retryable(reply->err)) {
        call_settle(call, reply);
        return;
    }
    if (reply->err == KV_NOT_LEADER || reply->err == KV_NO_LEADER)
        router_learn_leader(c->router, reply->partition, reply->leader);
    else if (reply->err == KV_WRONG_SHARD)
        router_learn_stale(c->router);
    if (reply->applied != KV_APPLIED_NO && kv_answer_mutates(call->op)) call->attempt.maybe = true;
    call->attempt.retry_after_ns = KV_MS(reply->retry_after_ms);
    char text[160];
    snprintf(text, sizeof text, "%.*s", (int)(reply->detail.size < 150 ? reply->detail.size : 150),
             reply->detail.size > 0 ? (const char *)reply->detail.data : "");
    call_failed(call, reply->err, text);
    call_step(call);
}

static void call_rested(struct env_timer *t)
{
    struct kv_call *call = container_of(t, struct kv_call, timer);
    if (call->state == KV_CALL_MAPPING) { /* its deadline, not a pause */
        if (call->attempt.last_err == KV_OK) call_failed(call, KV_TIMEOUT, "no node told the partitions in time");
        call_give_up(call, call->attempt.last_err);
        return;
    }
    call->attempt.rested = true;
    call_step(call);
}

static void call_send(struct kv_call *call, const struct route *to)
{
    struct kv_client *c = call->client;
    struct kv_request *q = &call->wire.request;
    if (call->op == KV_OP_KVSCAN) { /* one partition a page: cut `to` to its end */
        const struct kv_partition_info *p = router_partition(c->router, kv_key_slice(&call->key));
        call->next = call->scan_to;
        if (p != NULL && p->to.size > 0 && kv_slice_cmp(p->to, kv_key_slice(&call->scan_to)) < 0) {
            memcpy(call->next.bytes, p->to.data, p->to.size);
            call->next.size = (uint16_t)p->to.size;
        }
        call->scan_args[1] = kv_key_slice(&call->next);
    }
    uint32_t first, step; /* several keys may lie in other partitions, which the node finds */
    q->pinned = to->pinned && kv_op_keys(kv_op_info((uint32_t)call->op), call->arg_count, &first, &step) <= 1;
    q->partition = to->partition;
    q->range_epoch = to->range_epoch;
    call->sent_to = to->to;
    call->attempt.tries++;
    call->attempt.rested = false;
    call->wire.done = wire_done;
    call->wire.deadline_ns = call->attempt.deadline_ns;
    call_enter(call, KV_CALL_ASKED);
    read_sent(call, env_now_ns(c->env));
    pool_call(c->pool, &to->to, to->key, &call->wire);
}

/* ---- the map ---- */

static enum kv_err map_read(struct kv_client *c, const struct kv_reply *reply)
{
    struct kv_slice in = reply->value;
    struct resp_value v;
    struct kv_map_info map;
    if (resp_next(&in, SIZE_MAX, &v) != KV_OK || v.type != RESP_BULK || v.is_null) return KV_MALFORMED;
    kv_arena_reset(&c->arena);
    enum kv_err err = kv_map_decode(v.text, &c->arena, &map);
    return err != KV_OK ? err : router_learn_map(c->router, &map);
}

static void map_done(struct pool_call *w, enum kv_err err, const struct kv_reply *reply, const char *why)
{
    struct kv_client *c = container_of(w, struct kv_client, map_call);
    char text[160];
    snprintf(text, sizeof text, "%s", why);
    c->map_open = false;
    if (is_unreached(err) || err == KV_TIMEOUT)
        router_learn_failure(c->router, &c->map_from, env_now_ns(c->env));
    if (err == KV_OK) {
        err = reply->err;
        if (err == KV_OK) err = map_read(c, reply);
        if (err != KV_OK)
            snprintf(text, sizeof text, "%s:%u gave no partitions (%s)", c->map_from.host,
                     (unsigned)c->map_from.port, kv_err_text(err));
    }
    struct call_list *mapping = &c->lists[KV_CALL_MAPPING];
    while (mapping->head != NULL) {
        struct kv_call *call = mapping->head;
        c->env->ops->timer_stop(c->env, &call->timer);
        if (err == KV_OK) {
            call->attempt.rested = true;
        } else {
            call->attempt.tries++;
            call->attempt.retry_after_ns = 0;
            call_unheard(call, err, text);
        }
        call_enter(call, KV_CALL_READY);
    }
    client_post(c);
}

static void call_want_map(struct kv_call *call, const struct route *from)
{
    struct kv_client *c = call->client;
    uint64_t now_ns = env_now_ns(c->env);
    call_enter(call, KV_CALL_MAPPING);
    c->env->ops->timer_start(c->env, &call->timer,
                             call->attempt.deadline_ns > now_ns ? call->attempt.deadline_ns - now_ns : 0);
    if (c->map_open) return;
    c->map_open = true;
    c->map_from = from->to;
    c->map_call.request = (struct kv_request){.op = KV_OP_KVMAP, .keyspace = c->options.keyspace};
    c->map_call.deadline_ns = now_ns + KV_MS(CLIENT_MAP_TIMEOUT_MS);
    c->map_call.done = map_done;
    pool_call(c->pool, &from->to, from->key, &c->map_call);
}

static void call_step(struct kv_call *call)
{
    struct kv_client *c = call->client;
    uint64_t now_ns = env_now_ns(c->env);
    if (c->is_closing) {
        call_give_up(call, KV_CLOSED);
        return;
    }
    if (call->op == KV_OP_KVMAP && call->attempt.rested && call->attempt.last_err == KV_OK) {
        call_settle(call, &(struct kv_reply){.err = KV_OK});
        return;
    }
    if (call->unresolved && !call_resolve(call)) return;
    struct route to = router_next(c->router, &call->attempt, now_ns);
    if (call->op == KV_OP_KVMAP && to.action == ROUTE_SEND) {
        to.action = ROUTE_REFRESH;
        call->attempt.last_err = KV_OK;
    }
    switch (to.action) {
    case ROUTE_SEND: call_send(call, &to); break;
    case ROUTE_WAIT:
        call_enter(call, KV_CALL_RESTING);
        c->env->ops->timer_start(c->env, &call->timer, to.delay_ns);
        break;
    case ROUTE_REFRESH: call_want_map(call, &to); break;
    case ROUTE_GIVE_UP: call_give_up(call, to.err); break;
    }
}

static void client_free(struct kv_client *c)
{
    void (*closed)(void *context) = c->closed;
    void *context = c->closed_context;
    router_destroy(c->router);
    kv_arena_free(&c->arena);
    memset(&c->options.identity, 0, sizeof c->options.identity);
    free(c);
    if (closed != NULL) closed(context);
}

static void client_run(struct env_task *t)
{
    struct kv_client *c = container_of(t, struct kv_client, task);
    c->task_posted = false;
    uint32_t count = 0; /* only those of now: done() may start a call that fails at once, for ever */
    for (struct kv_call *call = c->lists[KV_CALL_READY].head; call != NULL; call = call->following) count++;
    for (; count > 0 && c->lists[KV_CALL_READY].head != NULL; count--) {
        struct kv_call *call = c->lists[KV_CALL_READY].head;
        call_leave(call);
        call_step(call);
    }
    if (c->lists[KV_CALL_READY].head != NULL) client_post(c);
    if (c->is_closing && c->pool_gone && !c->task_posted) client_free(c);
}

/* ---- the face ---- */

static void client_drained(void *context, const struct env_addr *node)
{
    struct kv_client *c = context;
    router_learn_failure(c->router, node, env_now_ns(c->env));
}

enum kv_err kv_client_create(const struct kv_client_options *o, struct kv_client **out)
{
    if (o->seed_count == 0 || o->seed_count > KV_ADDRESSES_MAX) return KV_BAD_ARGUMENT;
    enum kv_err err = KV_NO_SPACE;
    struct kv_client *c = calloc(1, sizeof *c);
    if (c == NULL) return KV_NO_SPACE;
    c->options = *o;
    if (o->keyspace == 0) c->options.keyspace = KV_KEYSPACE_DEFAULT;
    if (o->timeout_ms == 0) c->options.timeout_ms = KV_TIMEOUT_MS_DEFAULT;
    c->env = o->env;
    c->task.run = client_run;
    kv_arena_init(&c->arena, CLIENT_MAP_BYTES_MAX);
    for (size_t i = 0; i < sizeof c->id; i += 8) le64_put(c->id + i, o->env->ops->random(o->env));
    c->router = router_create(&(struct router_options){
        .seeds = o->seeds, .seed_count = o->seed_count, .seed = o->env->ops->random(o->env)});
    if (c->router == NULL) goto fail;
    struct pool_options pool = {
        .env = o->env,
        .from = o->from,
        .identity = o->identity,
        .hello = {.role = HELLO_CLIENT, .name = kv_str(o->cluster_name)},
        .connections_max = o->connections_max != 0 ? o->connections_max : 1,
        .calls_max = o->in_flight_max != 0 ? o->in_flight_max : 1024,
        .connect_timeout_ns = KV_SECONDS(1),
        .ping_after_ns = KV_MS(250), /* with its timeout: a paused leader is left within 1.25 s */
        .ping_timeout_ns = KV_SECONDS(1),
        .ping_idle_ns = KV_SECONDS(5),
        .drained = client_drained,
        .context = c};
    memcpy(pool.hello.cluster, o->cluster_id, sizeof pool.hello.cluster);
    err = pool_create(&pool, &c->pool);
    memset(&pool.identity, 0, sizeof pool.identity);
    if (err != KV_OK) goto fail;
    *out = c;
    return KV_OK;
fail:
    router_destroy(c->router);
    kv_arena_free(&c->arena);
    free(c);
    return err;
}

static void client_pool_closed(void *context)
{
    struct kv_client *c = context;
    c->pool_gone = true;
    client_post(c);
}

void kv_client_close(struct kv_client *c, void (*closed)(void *context), void *context)
{
    assert(!c->is_closing);
    c->is_closing = true;
    c->closed = closed;
    c->closed_context = context;
    static const enum kv_call_state paused[] = {KV_CALL_RESTING, KV_CALL_MAPPING};
    for (size_t i = 0; i < sizeof paused / sizeof paused[0]; i++)
        while (c->lists[paused[i]].head != NULL) {
            struct kv_call *call = c->lists[paused[i]].head;
            c->env->ops->timer_stop(c->env, &call->timer);
            call_enter(call, KV_CALL_READY);
        }
    client_post(c);
    pool_close(c->pool, client_pool_closed, c);
}

void kv_client_call(struct kv_client *c, struct kv_call *call)
{
    assert(call->client == NULL && call->done != NULL);
    uint32_t timeout_ms = call->timeout_ms != 0 ? call->timeout_ms : c->options.timeout_ms;
    call->client = c;
    call->state = KV_CALL_IDLE;
    call->prev = call->following = NULL;
    call->timer.fire = call_rested;
    memset(&call->result, 0, offsetof(struct kv_result, text));
    call->result.text[0] = 0;
    call->wire.request = (struct kv_request){.op = call->op,
                                             .keyspace = KV_KEYSPACE_DEFAULT,
                                             .level = call->level,
                                             .bounded_ms = call->bounded_ms};
    call->sent_ns = 0;
    call->renewed = call->outdated = call->is_leaderless = false;
    call->name_tries = 0;
    if (call->op != KV_OP_KVSCAN || call->args != call->scan_args) call->scan_from_start = call->scan_to_end = false;
    enum kv_err err = call_key(c, call);
    call->wire.request.args = call->args;
    call->wire.request.arg_count = call->arg_count;
    call->attempt = (struct route_attempt){.key = kv_key_slice(&call->key),
                                           .node = call->node,
                                           .deadline_ns = env_now_ns(c->env) + KV_MS(timeout_ms),
                                           .is_anywhere = is_anywhere(call),
                                           .idempotent = true, /* reads are; mutations by their key */
                                           .last_err = err};
    if (kv_answer_mutates(call->op)) {
        /* It may be sent again until its deadline, and no node remembers it for ever. */
        if (timeout_ms > KV_REPEAT_MS_MAX) call->attempt.deadline_ns = env_now_ns(c->env) + KV_MS(KV_REPEAT_MS_MAX);
        const uint8_t *id = call->idempotency_client != NULL ? call->idempotency_client : c->id;
        memcpy(call->wire.request.client, id, KV_CLIENT_BYTES);
        call->wire.request.sequence =
            call->idempotency_client != NULL ? call->idempotency_sequence : ++c->sequence;
    }
    if (err != KV_OK || c->is_closing) { /* told from the loop, never inside this call */
        if (err != KV_OK) key_trouble(call, err);
        if (err == KV_NOT_FOUND) call->attempt.last_err = KV_BAD_ARGUMENT;
        call_enter(call, KV_CALL_READY);
        client_post(c);
        return;
    }
    if (router_map(c->router) == NULL || call->op == KV_OP_KVMAP || call->unresolved) {
        call_enter(call, KV_CALL_READY);
        client_post(c);
        return;
    }
    struct route to = router_next(c->router, &call->attempt, env_now_ns(c->env));
    if (to.action == ROUTE_SEND) {
        call_send(call, &to);
        return;
    }
    call_enter(call, KV_CALL_READY);
    client_post(c);
}

void kv_client_scan(struct kv_client *c, struct kv_call *call, struct kv_slice from, struct kv_slice to,
                    uint32_t rows_max, uint32_t bytes_max)
{
    assert(from.size <= sizeof call->key.bytes && to.size <= sizeof call->key.bytes);
    call->scan_from_start = from.size == 0; /* found when the keyspace is */
    call->scan_to_end = to.size == 0;
    if (to.size > 0) memcpy(call->scan_to.bytes, to.data, to.size);
    call->scan_to.size = (uint16_t)to.size;
    if (from.size > 0) memmove(call->key.bytes, from.data, from.size); /* may be call->next */
    call->key.size = (uint16_t)from.size;
    call->op = KV_OP_KVSCAN;
    call->scan_args[0] = kv_key_slice(&call->key);
    call->scan_args[1] = kv_key_slice(&call->scan_to);
    call->scan_args[2] = kv_slice(call->scan_numbers[0], kv_format_i64(rows_max, call->scan_numbers[0]));
    call->scan_args[3] = kv_slice(call->scan_numbers[1], kv_format_i64(bytes_max, call->scan_numbers[1]));
    call->args = call->scan_args;
    call->arg_count = 4;
    kv_client_call(c, call);
}

void kv_client_cancel(struct kv_client *c, struct kv_call *call)
{
    if (call->client == NULL) return;
    assert(call->client == c);
    read_ended(call, false, false);
    c->env->ops->timer_stop(c->env, &call->timer);
    pool_cancel(&call->wire);
    call_leave(call);
    call->client = NULL;
}

const struct kv_map_info *kv_client_map(const struct kv_client *c)
{
    return router_map(c->router);
}

uint32_t kv_client_nearest(struct kv_client *c, enum kv_level level, const struct kv_partition_info *p)
{
    return level == KV_LEVEL_LINEARIZABLE ? 0 : router_nearest(c->router, p, env_now_ns(c->env));
}

uint64_t kv_client_latency_ns(struct kv_client *c, uint32_t node)
{
    const struct kv_choice *choice = router_choice(c->router, node);
    return choice == NULL ? 0 : kv_choice_latency_ns(choice, env_now_ns(c->env));
}

struct env *kv_client_env(struct kv_client *c)
{
    return c->env;
}

bool kv_client_cluster(const struct kv_client *c, uint8_t cluster_id[HELLO_CLUSTER_BYTES])
{
    const uint8_t *known = pool_cluster(c->pool);
    if (known != NULL) memcpy(cluster_id, known, HELLO_CLUSTER_BYTES);
    return known != NULL;
}

#include "jepsen/ballast.h"
#include "jepsen/run.h"

static void done(struct kv_call *call)
{
    struct ballast *b = container_of(call, struct ballast, call);
    b->is_asking = false;
    b->written += call->result.err == KV_OK;
    if (!b->is_over) b->run->env->ops->timer_start(b->run->env, &b->timer, KV_MS(BALLAST_EVERY_MS));
}

static void fire(struct env_timer *t)
{
    struct ballast *b = container_of(t, struct ballast, timer);
    uint64_t random = b->run->env->ops->random(b->run->env);
    snprintf(b->key, sizeof b->key, "ballast-%u", (unsigned)(random % BALLAST_KEYS));
    for (size_t i = 0; i < sizeof b->value; i += 8) memcpy(b->value + i, &random, 8);
    b->args[0] = kv_str(b->key);
    b->args[1] = kv_slice(b->value, sizeof b->value);
    b->args[2] = kv_str("0");
    b->call = (struct kv_call){.op = KV_OP_KVPUT, .args = b->args, .arg_count = 3, .timeout_ms = 1000, .done = done};
    b->is_asking = true;
    kv_client_call(b->client, &b->call);
}

bool ballast_open(struct ballast *b, struct run *r)
{
    struct kv_client_options o = {.env = r->env, .from = {.host = "127.0.1.201"}, .seed_count = r->nodes.count};
    *b = (struct ballast){.run = r, .timer.fire = fire};
    channel_identity_make(&o.identity, r->nodes.client_key);
    for (uint32_t i = 0; i < r->nodes.count; i++) o.seeds[i] = nodes_native(&r->nodes.node[i]);
    if (kv_client_create(&o, &b->client) != KV_OK) return false;
    r->env->ops->timer_start(r->env, &b->timer, 0);
    return true;
}

void ballast_stop(struct ballast *b)
{
    b->is_over = true;
    b->run->env->ops->timer_stop(b->run->env, &b->timer);
}

static void closed(void *context)
{
    *(bool *)context = true;
}

void ballast_close(struct ballast *b)
{
    if (b->client == NULL) return;
    if (b->is_asking) kv_client_cancel(b->client, &b->call);
    kv_client_close(b->client, closed, &b->is_closed);
    while (!b->is_closed) env_uv_run_once(b->run->uv);
    b->client = NULL;
}

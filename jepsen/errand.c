#include "jepsen/errand.h"
#include "client/base/hash.h"
#include "jepsen/run.h"

enum { CALL_MS = 3000,
       AGAIN_MS = 150,
       LOOK_MS = 100,
       MOVE_S = 5 };

static void again(struct errand *e, uint64_t delay_ns)
{
    struct env *env = e->nemesis->run->env;
    env->ops->timer_start(env, &e->timer, delay_ns);
}

static const struct kv_map_info *map_of(const struct errand *e)
{
    return kv_client_map(e->nemesis->watch);
}

static const struct kv_partition_info *partition_of(const struct kv_map_info *map, uint32_t id)
{
    for (uint32_t i = 0; map != NULL && i < map->partition_count; i++)
        if (map->partitions[i].id == id) return &map->partitions[i];
    return NULL;
}

static bool has_node(const struct kv_partition_info *p, uint32_t node)
{
    for (uint32_t i = 0; i < p->node_count; i++)
        if (p->nodes[i] == node) return true;
    return false;
}

static void done(struct errand *e)
{
    double took_s = (double)(run_now_ns(e->nemesis->run) - e->began_ns) / 1e9;
    e->is_done = true;
    if (e->fault != NULL) snprintf(e->fault->proof, FAULT_TEXT_BYTES, "%.70s: attempt %u, %.1f s", e->what, e->tries, took_s);
    if (e->kind == ERRAND_INVITE) node_join(&e->nemesis->run->nodes, e->token);
}

static void answered(struct kv_call *call);

/* ---- attempts: false if the map shows nothing to ask for now ---- */

static bool ask(struct errand *e, enum kv_op op, uint32_t count)
{
    e->call = (struct kv_call){.op = op, .args = e->args, .arg_count = count, .timeout_ms = CALL_MS, .done = answered, .context = e};
    e->is_asking = true;
    e->is_last = true;
    kv_client_call(e->nemesis->watch, &e->call);
    return true;
}

/* At the slot of a lane, or behind it. */
static bool ask_divide(struct errand *e)
{
    struct nemesis *n = e->nemesis;
    char tag[24];
    uint32_t slot = (uint32_t)nemesis_below(n, KV_SLOTS);
    snprintf(tag, sizeof tag, "t%u", n->run->plan.lanes[nemesis_below(n, LANES)].tag);
    if (nemesis_below(n, 10) < 7) slot = (kv_slot(kv_str(tag)) + (uint32_t)nemesis_below(n, 2)) % KV_SLOTS;
    kv_key_slot_start(KV_KEYSPACE_DEFAULT, (uint16_t)slot, &e->key);
    e->args[0] = kv_key_slice(&e->key);
    snprintf(e->what, sizeof e->what, "split at slot %u", slot);
    return ask(e, KV_OP_KVSPLIT, 1);
}

static bool have_same_nodes(const struct kv_partition_info *a, const struct kv_partition_info *b)
{
    bool same = a->node_count == b->node_count;
    for (uint32_t i = 0; i < a->node_count; i++) same = same && has_node(b, a->nodes[i]);
    return same;
}

static bool ask_unite(struct errand *e)
{
    enum { PAIRS_MAX = 64 };
    const struct kv_map_info *map = map_of(e);
    const struct kv_partition_info *rights[PAIRS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < map->partition_count; i++)
        for (uint32_t k = 0; k < map->partition_count && count < PAIRS_MAX; k++) {
            const struct kv_partition_info *l = &map->partitions[i], *r = &map->partitions[k];
            if (l->keyspace == KV_KEYSPACE_DEFAULT && r->keyspace == l->keyspace && kv_slice_eq(l->to, r->from) && have_same_nodes(l, r))
                rights[count++] = r;
        }
    if (count == 0) {
        ask_divide(e);
        e->is_last = false;
        return true;
    }
    const struct kv_partition_info *r = rights[nemesis_below(e->nemesis, count)];
    e->key.size = (uint16_t)r->from.size;
    memcpy(e->key.bytes, r->from.data, r->from.size);
    e->args[0] = kv_key_slice(&e->key);
    snprintf(e->what, sizeof e->what, "merge of partition %u into its neighbour", r->id);
    return ask(e, KV_OP_KVMERGE, 1);
}

static bool ask_move(struct errand *e)
{
    const struct kv_map_info *map = map_of(e);
    uint32_t others[NODES_MAX], count = 0;
    const struct kv_partition_info *p = &map->partitions[nemesis_below(e->nemesis, map->partition_count)];
    for (uint32_t i = 0; i < map->node_count && count < NODES_MAX; i++)
        if (map->nodes[i].state == KV_NODE_UP && !has_node(p, map->nodes[i].id)) others[count++] = map->nodes[i].id;
    snprintf(e->answer, sizeof e->answer, "no node is without a replica of partition %u", p->id);
    if (count == 0 || p->node_count == 0) return false;
    uint32_t from = p->nodes[nemesis_below(e->nemesis, p->node_count)];
    e->partition = p->id;
    e->to = others[nemesis_below(e->nemesis, count)];
    snprintf(e->texts[0], sizeof e->texts[0], "%u", p->id);
    snprintf(e->texts[1], sizeof e->texts[1], "%u", from);
    snprintf(e->texts[2], sizeof e->texts[2], "%u", e->to);
    for (uint32_t i = 0; i < 3; i++) e->args[i] = kv_str(e->texts[i]);
    snprintf(e->what, sizeof e->what, "partition %u from node %u to %u", p->id, from, e->to);
    return ask(e, KV_OP_KVMOVE, 3);
}

/* Its secret is always the same, so that a token asked for twice is the same one. */
static bool ask_invite(struct errand *e)
{
    uint64_t seed = e->nemesis->run->options.seed;
    struct join_token t = {.secret = {(uint8_t)e->node}};
    for (uint32_t i = 0; i < 8; i++) t.cluster[15 - i] = (uint8_t)((seed | 1u) >> (8 * i)); /* as nodes.c writes it down */
    for (uint32_t i = 0; i < 8; i++) t.secret[8 + i] = (uint8_t)(seed >> (8 * i));
    join_token_print(&t, e->token);
    join_token_hash(t.secret, e->hash);
    e->args[0] = kv_slice(e->hash, sizeof e->hash);
    e->args[1] = kv_str("3600000");
    snprintf(e->what, sizeof e->what, "token for node %u", e->node);
    return ask(e, KV_OP_KSTOKEN, 2);
}

static bool ask_state(struct errand *e, enum kv_node_state state)
{
    snprintf(e->texts[0], sizeof e->texts[0], "%u", e->node);
    e->args[0] = kv_str(e->texts[0]);
    e->args[1] = kv_str(kv_node_state_text(state));
    snprintf(e->what, sizeof e->what, "node %u %s", e->node, kv_node_state_text(state));
    return ask(e, KV_OP_KSNODE, 2);
}

static bool attempt(struct errand *e)
{
    const struct kv_map_info *map = map_of(e);
    if (map == NULL || map->partition_count == 0) return false;
    if (e->gives_up) e->kind = ERRAND_SET_UP;
    e->gives_up = false;
    e->tries++;
    switch (e->kind) {
    case ERRAND_DIVIDE: return ask_divide(e);
    case ERRAND_UNITE: return ask_unite(e);
    case ERRAND_MOVE: return ask_move(e);
    case ERRAND_INVITE: return ask_invite(e);
    case ERRAND_DRAIN: return ask_state(e, KV_NODE_DRAINING);
    case ERRAND_SET_UP: return ask_state(e, KV_NODE_UP);
    }
    return false;
}

/* ---- their end ---- */

static void answered(struct kv_call *call)
{
    struct errand *e = call->context;
    const struct kv_result *r = &call->result;
    bool good = r->err == KV_OK || (e->kind == ERRAND_INVITE && r->err == KV_CONFLICT);
    e->is_asking = false;
    if (!good) snprintf(e->answer, sizeof e->answer, "%.*s", (int)sizeof e->answer - 1, r->text);
    good = good && !e->gives_up;
    if (good && e->is_last && e->kind == ERRAND_MOVE) e->look_until_ns = run_now_ns(e->nemesis->run) + KV_SECONDS(MOVE_S);
    else if (good && e->is_last) {
        done(e);
        return;
    }
    again(e, good ? KV_MS(LOOK_MS) : KV_MS(AGAIN_MS));
}

/* A replica that was asked for is there. It may have been taken back, or its partition be part of another one by now: then another. */
static bool is_seen(struct errand *e)
{
    const struct kv_partition_info *p = partition_of(map_of(e), e->partition);
    if (p != NULL && has_node(p, e->to)) return true;
    if (p == NULL || run_now_ns(e->nemesis->run) > e->look_until_ns) e->look_until_ns = 0;
    return false;
}

static void errand_fire(struct env_timer *t)
{
    struct errand *e = container_of(t, struct errand, timer);
    if (e->look_until_ns != 0) {
        if (is_seen(e)) done(e);
        else again(e, KV_MS(LOOK_MS));
    } else if (!attempt(e)) {
        again(e, KV_MS(AGAIN_MS));
    }
}

void errand_begin(struct errand *e, struct nemesis *n, struct fault *f, enum errand_kind kind, uint32_t node)
{
    *e = (struct errand){.nemesis = n, .fault = f, .kind = kind, .node = node, .timer.fire = errand_fire, .began_ns = run_now_ns(n->run)};
    snprintf(e->answer, sizeof e->answer, "not asked yet");
    again(e, 0);
}

void errand_stop(struct errand *e)
{
    struct env *env = e->nemesis->run->env;
    env->ops->timer_stop(env, &e->timer);
    if (e->is_asking) kv_client_cancel(e->nemesis->watch, &e->call);
    e->is_asking = false;
}

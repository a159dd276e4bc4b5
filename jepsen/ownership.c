#include "jepsen/ownership.h"
#include "client/base/hash.h"
#include "jepsen/run.h"
#include <stdlib.h>

/* Each node is asked by a client that knows no other one, so that the map is its own. Maps are told and may be a moment behind,
 * so they are looked at again until they agree. */
enum { WHY_BYTES = 160,
       AGREE_S = 20,
       LOOK_MS = 200,
       CALL_MS = 3000,
       SCAN_BYTES = 8 << 20 };

struct look {
    struct run *run;
    struct kv_client *client;
    struct kv_call call;
    bool is_answered, is_closed;
};

static void answered(struct kv_call *call)
{
    ((struct look *)call->context)->is_answered = true;
}

static void closed(void *context)
{
    *(bool *)context = true;
}

static int by_range(const void *a, const void *b)
{
    return kv_slice_cmp(((const struct kv_partition_info *)a)->from, ((const struct kv_partition_info *)b)->from);
}

/* Whether they tile the keyspace, and a hash of who owns what at which range epoch. */
static bool tiles(const struct kv_map_info *map, uint64_t *hash, char why[WHY_BYTES])
{
    struct kv_partition_info *all = calloc(map->partition_count + 1u, sizeof *all);
    struct kv_key start, end;
    uint32_t count = 0;
    if (all == NULL) return false;
    for (uint32_t i = 0; i < map->partition_count; i++)
        if (map->partitions[i].keyspace == KV_KEYSPACE_DEFAULT) all[count++] = map->partitions[i];
    qsort(all, count, sizeof *all, by_range);
    kv_key_start(KV_KEY_HASH, KV_KEYSPACE_DEFAULT, &start);
    kv_key_end(KV_KEY_HASH, KV_KEYSPACE_DEFAULT, &end);
    struct kv_slice next = kv_key_slice(&start);
    uint32_t at = 0;
    for (*hash = 0; at < count && kv_slice_eq(all[at].from, next); next = all[at++].to) {
        uint64_t owner = (uint64_t)all[at].id << 32 | all[at].range_epoch;
        *hash = kv_hash64(all[at].from, *hash ^ owner);
    }
    bool good = at == count && kv_slice_eq(next, kv_key_slice(&end));
    if (!good)
        snprintf(why, WHY_BYTES, "a gap or an overlap behind partition %u, of range epoch %u", at == 0 ? 0 : all[at - 1].id,
                 at == 0 ? 0 : all[at - 1].range_epoch);
    free(all);
    return good;
}

static bool look_at(struct run *r, const struct node *node, uint64_t *hash, char why[WHY_BYTES])
{
    struct look l = {.run = r};
    struct kv_client_options o = {.env = r->env, .from = {.host = "127.0.1.202"}, .seed_count = 1, .seeds = {nodes_native(node)}};
    channel_identity_make(&o.identity, r->nodes.client_key);
    snprintf(why, WHY_BYTES, "no answer");
    if (kv_client_create(&o, &l.client) != KV_OK) return false;
    l.call = (struct kv_call){.op = KV_OP_KVMAP, .timeout_ms = CALL_MS, .done = answered, .context = &l};
    kv_client_call(l.client, &l.call);
    while (!l.is_answered) env_uv_run_once(r->uv);
    const struct kv_map_info *map = kv_client_map(l.client);
    bool good = l.call.result.err == KV_OK && map != NULL && tiles(map, hash, why);
    kv_client_close(l.client, closed, &l.is_closed);
    while (!l.is_closed) env_uv_run_once(r->uv);
    return good;
}

static bool maps_agree(struct run *r, char why[RUN_TEXT_BYTES])
{
    uint64_t first = 0, hash = 0;
    for (uint32_t i = 0; i < r->nodes.count; i++) {
        char what[WHY_BYTES];
        if (!look_at(r, &r->nodes.node[i], &hash, what)) {
            snprintf(why, RUN_TEXT_BYTES, "by the map of node %u: %s", i + 1, what);
            return false;
        }
        if (i == 0) first = hash;
        if (hash == first) continue;
        snprintf(why, RUN_TEXT_BYTES, "nodes 1 and %u name different owners", i + 1);
        return false;
    }
    return true;
}

/* ---- each key once ---- */

static uint32_t times_in(const char *text, const char *key)
{
    char line[KEY_BYTES + 16];
    uint32_t times = 0;
    int size = snprintf(line, sizeof line, "\"key\":\"%s\"", key);
    for (const char *at = text; (at = strstr(at, line)) != NULL; at += size) times++;
    return times;
}

static bool kvctl(struct run *r, const char *verb, const char *arg, const char *value, char *out, size_t size)
{
    char program[NODES_PATH_BYTES + 8], address[32], key[NODES_PATH_BYTES + 16];
    snprintf(program, sizeof program, "%s/kvctl", r->options.build);
    snprintf(address, sizeof address, "127.0.0.%u:%d", 1 + (uint32_t)(r->options.seed % r->nodes.count), NODES_NATIVE_PORT);
    snprintf(key, sizeof key, "%s/client.key", r->options.dir);
    return run_program((const char *const[]){program, "--addr", address, "--key", key, "-q", "-o", "json", verb, arg, value, NULL}, NULL, out, size);
}

/* The harness tests itself: the first key that is there goes. */
static void lose_one(struct run *r, char *out)
{
    char key[KEY_BYTES];
    uint32_t i = 0;
    while (i < plan_keys(&r->plan) && r->finals[i] != FINAL_THERE) i++;
    if (i == plan_keys(&r->plan)) return;
    plan_key(&r->plan, i, key);
    kvctl(r, "del", key, NULL, out, SCAN_BYTES);
}

static void keys_judge(struct run *r)
{
    char *out = malloc(SCAN_BYTES);
    if (out == NULL) return;
    if (r->options.sabotage.lost) lose_one(r, out);
    if (!kvctl(r, "scan", "--prefix", "{t", out, SCAN_BYTES)) run_fail(r, "the scan of all keys fails: %.200s", out);
    bool expires = r->plan.workload->ops_per_key == 0;
    for (uint32_t i = 0; i < plan_keys(&r->plan); i++) {
        char key[KEY_BYTES];
        plan_key(&r->plan, i, key);
        uint32_t times = times_in(out, key), wanted = r->finals[i] == FINAL_THERE;
        if (times == wanted || (expires && times < wanted)) continue;
        run_fail(r, "ownership: key %s is in the scan of all keys %u times, and the final read found it %s", key, times, wanted ? "there" : "absent");
        break;
    }
    free(out);
}

void ownership_judge(struct run *r)
{
    char why[RUN_TEXT_BYTES];
    uint64_t until_ns = run_now_ns(r) + KV_SECONDS(AGREE_S);
    while (!maps_agree(r, why)) {
        if (run_now_ns(r) > until_ns || r->interrupted) {
            run_fail(r, "ownership: %d s after the final reads: %.240s", AGREE_S, why);
            return;
        }
        run_until(r, run_never, KV_MS(LOOK_MS));
    }
    keys_judge(r);
}

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "client/base/text.h"
#include "client/kv_client.h"
#include "tools/kvctl/kvctl.h"

/* ready: whether nodes really serve. For every node named by the target, through that node
 * alone: its map tiles the whole keyspace, each partition takes a write and reads it back, and the
 * node votes in every group it has a replica of. Waits for that until the deadline; there
 * is nothing to subscribe to, so it asks again every 20 ms.
 *
 * The probes are keys "kvd:ready:PID:NODE:{n}", removed at once; should that fail, they expire. */
enum { PROBE_KEY_BYTES = 64,
       PROBE_TTL_MS = 60000,
       TRIES_MAX = 1 << 22,
       WHY_BYTES = 400 };

enum step { STEP_PUT,
            STEP_GET,
            STEP_DEL,
            STEP_DONE };
struct probe { /* one partition, through one node */
    struct kv_call call;
    struct kv_slice args[3];
    char key[PROBE_KEY_BYTES], deadline[21];
    uint32_t partition;
    enum step step;
    struct check *check;
};
struct check { /* one node */
    struct kvctl *kvctl;
    uint32_t node, timeout_ms;
    struct probe *probes;
    uint32_t count, open;
    char *why; /* WHY_BYTES: the first thing that is wrong */
};

static void fail(struct check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct check *c, const char *format, ...)
{
    if (c->why[0] != '\0') return;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(c->why, WHY_BYTES, format, args);
    va_end(args);
}

/* --- the probes ------------------------------------------------------------------------------ */

static void probe_start(struct probe *p)
{
    static const enum kv_op ops[] = {KV_OP_KVPUT, KV_OP_KVGET, KV_OP_KVDEL};
    static const uint32_t counts[] = {3, 1, 1};
    p->call.op = ops[p->step];
    p->call.args = p->args;
    p->call.arg_count = counts[p->step];
    p->call.node = p->check->node;
    p->call.timeout_ms = p->check->timeout_ms;
    kv_client_call(kv_client_of(p->check->kvctl->kv), &p->call);
}

static void probe_done(struct kv_call *call)
{
    struct probe *p = container_of(call, struct probe, call);
    const struct kv_result *r = &call->result;
    if (r->err != KV_OK) {
        fail(p->check, "partition %" PRIu32 ": %s", p->partition, r->text);
    } else if (p->step == STEP_GET && !kv_slice_eq(r->value, p->args[1])) {
        fail(p->check, "partition %" PRIu32 ": reads another value than was written", p->partition);
    } else if (++p->step != STEP_DONE) {
        probe_start(p);
        return;
    }
    p->check->open--;
}

/* One user key for each partition, found by trying hashtags. */
static bool find_keys(struct check *c, const struct kv_map_info *map)
{
    uint32_t found = 0;
    for (uint32_t n = 0; n < TRIES_MAX && found < c->count; n++) {
        char text[PROBE_KEY_BYTES];
        struct kv_key key;
        (void)snprintf(text, sizeof text, "kvd:ready:%ld:%" PRIu32 ":{%" PRIu32 "}", (long)getpid(),
                       c->node, n);
        if (kv_key_hash(KV_KEYSPACE_DEFAULT, kv_str(text), &key) != KV_OK) return false;
        for (uint32_t i = 0, at = 0; i < map->partition_count; i++) {
            const struct kv_partition_info *p = &map->partitions[i];
            if (p->keyspace != KV_KEYSPACE_DEFAULT) continue;
            struct probe *probe = &c->probes[at++];
            struct kv_range range = {p->from, p->to};
            if (probe->key[0] != '\0' || !kv_range_has(range, kv_key_slice(&key))) continue;
            memcpy(probe->key, text, sizeof text);
            probe->partition = p->id;
            found++;
        }
    }
    return found == c->count;
}

static void run_probes(struct check *c, const struct kv_map_info *map)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    int64_t expires_ms = (int64_t)now.tv_sec * 1000 + PROBE_TTL_MS;
    if (!find_keys(c, map)) {
        fail(c, "no probe key found for every partition");
        return;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        struct probe *p = &c->probes[i];
        p->check = c;
        p->call.done = probe_done;
        p->args[0] = kv_str(p->key);
        p->args[1] = kv_str(p->key);
        p->args[2] = kv_slice(p->deadline, kv_format_i64(expires_ms, p->deadline));
        c->open++;
        probe_start(p);
    }
    while (c->open > 0) kv_turn(c->kvctl->kv);
}

/* --- what the node says about itself ----------------------------------------------------------- */

static int partition_order(const void *a, const void *b)
{
    const struct kv_partition_info *const *x = a, *const *y = b;
    return kv_slice_cmp((*x)->from, (*y)->from);
}

/* Every slot of keyspace `default` in exactly one partition, each with a leader. */
static void check_map(struct check *c, const struct kv_map_info *map)
{
    const struct kv_partition_info **sorted = calloc(map->partition_count + 1, sizeof *sorted);
    if (sorted == NULL) {
        fail(c, "out of memory");
        return;
    }
    for (uint32_t i = 0; i < map->partition_count; i++) {
        const struct kv_partition_info *p = &map->partitions[i];
        if (p->leader == 0) fail(c, "partition %" PRIu32 " has no leader", p->id);
        if (p->keyspace == KV_KEYSPACE_DEFAULT) sorted[c->count++] = p;
    }
    qsort(sorted, c->count, sizeof *sorted, partition_order);
    struct kv_key edge, end;
    kv_key_slot_start(KV_KEYSPACE_DEFAULT, 0, &edge);
    kv_key_slot_start(KV_KEYSPACE_DEFAULT, KV_SLOTS, &end);
    struct kv_slice next = kv_key_slice(&edge);
    for (uint32_t i = 0; i < c->count; next = sorted[i++]->to)
        if (!kv_slice_eq(sorted[i]->from, next)) fail(c, "knows only a part of the keyspace");
    if (c->count == 0 || !kv_slice_eq(next, kv_key_slice(&end)))
        fail(c, "knows only a part of the keyspace");
    free(sorted);
}

/* Beside a replica that is lost stands its successor, which does not vote yet. */
static bool votes(const json_t *group, uint32_t node)
{
    size_t i;
    json_t *replica;
    json_array_foreach(json_object_get(group, "replicas"), i, replica)
    {
        if (json_integer_value(json_object_get(replica, "node")) != (json_int_t)node) continue;
        const char *role = json_string_value(json_object_get(replica, "role"));
        if (role == NULL || strcmp(role, "voter") != 0) return false;
    }
    return true;
}

static bool is_among(json_t *groups, uint32_t partition)
{
    size_t i;
    json_t *group;
    json_array_foreach(groups, i, group) if (json_integer_value(json_object_get(group, "id")) == (json_int_t)partition) return true;
    return false;
}

/* A damaged replica is not open until its successor is there. */
static void check_held(struct check *c, const struct kv_map_info *map, json_t *groups)
{
    for (uint32_t i = 0; i < map->partition_count; i++) {
        const struct kv_partition_info *p = &map->partitions[i];
        for (uint32_t n = 0; n < p->node_count; n++)
            if (p->nodes[n] == c->node && !is_among(groups, p->id)) fail(c, "has its replica of partition %" PRIu32 " not open yet", p->id);
    }
}

static void check_status(struct check *c, const struct kv_map_info *map)
{
    struct kv_result r;
    if (kv_admin(c->kvctl->kv, c->node, KV_OP_KVSTATUS, NULL, 0, &r) != KV_OK) {
        fail(c, "%s", r.text);
        return;
    }
    json_t *root = json_loadb((const char *)r.value.data, r.value.size, 0, NULL), *group;
    json_t *groups = json_object_get(root, "groups");
    size_t i;
    check_held(c, map, groups);
    json_array_foreach(groups, i, group)
    {
        int id = (int)json_integer_value(json_object_get(group, "id"));
        if (json_integer_value(json_object_get(group, "leader")) == 0)
            fail(c, "group %d has no leader", id);
        if (!votes(group, c->node)) fail(c, "does not vote in group %d yet", id);
    }
    json_decref(root);
}

/* --- the command --------------------------------------------------------------------------------- */

static uint32_t node_at(const struct kv_map_info *map, const struct env_addr *address)
{
    for (uint32_t i = 0; i < map->node_count; i++) {
        const struct kv_node_info *n = &map->nodes[i];
        if (n->port == address->port && kv_slice_eq(n->host, kv_str(address->host))) return n->id;
    }
    return 0;
}

/* One without the role gateway would refuse the probes: others write to what it holds. */
static bool takes_clients(const struct kv_map_info *map, uint32_t node)
{
    for (uint32_t i = 0; i < map->node_count; i++)
        if (map->nodes[i].id == node) return kv_node_has(map->nodes[i].roles, KV_NODE_GATEWAY);
    return true;
}

/* One look at one node. Its address is the handle's only seed, so the map is its own. */
static enum kv_err look(struct kvctl *k, const struct env_addr *address, uint32_t timeout_ms,
                        char why[WHY_BYTES])
{
    struct check c = {.kvctl = k, .timeout_ms = timeout_ms, .why = why};
    struct kv_result r = {0};
    const struct kv_map_info *map;
    why[0] = '\0';
    kv_set_timeout(k->kv, timeout_ms);
    if (kv_map_read(k->kv, true, &map, &r) != KV_OK) {
        fail(&c, "%s", r.text);
        return r.err;
    }
    c.node = node_at(map, address);
    if (c.node == 0) fail(&c, "is not in the cluster's list of nodes");
    check_map(&c, map);
    if (c.why[0] == '\0' && takes_clients(map, c.node)) {
        c.probes = calloc(c.count, sizeof *c.probes);
        if (c.probes == NULL)
            fail(&c, "out of memory");
        else
            run_probes(&c, map);
        free(c.probes);
    }
    if (c.why[0] == '\0') check_status(&c, map);
    return c.why[0] == '\0' ? KV_OK : KV_UNAVAILABLE;
}

static uint64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000u;
}

static int await(struct kvctl *k, const char *address_text, uint64_t deadline_ms)
{
    struct env_addr address;
    char why[WHY_BYTES];
    (void)pool_addr_parse(kv_str(address_text), &address);
    /* A handle of its own, so that no other node can answer. */
    struct kv_options o = {.addresses = address_text, .key_file = k->target.key_file};
    struct kv *before = k->kv;
    int code = EXIT_NO_QUORUM;
    if (kv_open(&o, &k->kv, why) != KV_OK) {
        kvctl_say(k, "%s", why);
        k->kv = before;
        return EXIT_AUTH;
    }
    for (;;) {
        uint64_t now = now_ms(), left = deadline_ms > now ? deadline_ms - now : 1;
        enum kv_err err = look(k, &address, left < 1000 ? (uint32_t)left : 1000, why);
        if (err == KV_OK) {
            code = EXIT_OK;
            break;
        }
        if (err == KV_AUTH || err == KV_WRONG_CLUSTER || err == KV_VERSION) {
            code = kvctl_exit(err, KV_APPLIED_NO);
            break;
        }
        if (now_ms() >= deadline_ms) break;
        (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    if (code != EXIT_OK) kvctl_say(k, "node %s is not ready: %s", address_text, why);
    kv_close(k->kv);
    k->kv = before;
    return code;
}

int ready_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)a;
    (void)words;
    (void)count;
    int code = kvctl_open(k); /* finds the target, and says so if there is none */
    if (code != EXIT_OK) return code;
    uint64_t deadline_ms = now_ms() + k->timeout_ms;
    const char *text = k->target.addresses;
    while (*text != '\0' && code == EXIT_OK) {
        char address[96];
        size_t size = strcspn(text, ",");
        (void)snprintf(address, sizeof address, "%.*s", (int)size, text);
        code = await(k, address, deadline_ms);
        text += size + (text[size] == ',');
    }
    if (code == EXIT_OK && !k->quiet)
        (void)fprintf(stderr, "ready: every partition was written to and read from\n");
    return code;
}

#include "tools/kvctl/nodes.h"

#include <stdlib.h>

#include "client/base/text.h"

enum { NODES_TIMEOUT_MS = 1000 };

static void node_done(struct kv_call *call)
{
    struct node *n = container_of(call, struct node, call);
    n->open = false;
    n->result = call->result;
    n->result.value = kv_slice(NULL, 0);
    if (call->result.err != KV_OK) return;
    if (call->op == KV_OP_KVSTATUS || call->op == KV_OP_KVHOT) {
        json_error_t at;
        n->json = json_loadb((const char *)call->result.value.data, call->result.value.size, 0, &at);
    } else {
        (void)kv_parse_i64(call->result.value, &n->number);
    }
}

/* The nodes of a fresh map; NULL: said why, *code set. */
struct node *nodes_read(struct kvctl *k, uint32_t *count, int *code)
{
    const struct kv_map_info *map;
    struct kv_result r;
    *code = kvctl_open(k);
    if (*code != EXIT_OK) return NULL;
    if (kv_map_read(k->kv, true, &map, &r) != KV_OK) {
        *code = kvctl_fail(k, &r);
        return NULL;
    }
    struct node *nodes = calloc(map->node_count + 1, sizeof *nodes);
    if (nodes == NULL) {
        kvctl_say(k, "out of memory");
        *code = EXIT_INTERNAL;
        return NULL;
    }
    for (uint32_t i = 0; i < map->node_count; i++) {
        const struct kv_node_info *n = &map->nodes[i];
        nodes[i].id = n->id;
        nodes[i].resp = n->resp;
        nodes[i].addr.port = n->port;
        nodes[i].state = n->state;
        nodes[i].roles = n->roles;
        memcpy(nodes[i].addr.host, n->host.data, n->host.size);
        if (n->zone.size > 0 && n->zone.size < sizeof nodes[i].zone) memcpy(nodes[i].zone, n->zone.data, n->zone.size);
        for (uint32_t p = 0; p < map->partition_count; p++) {
            nodes[i].leaders += map->partitions[p].leader == n->id;
            for (uint32_t v = 0; v < map->partitions[p].node_count; v++) nodes[i].replicas += map->partitions[p].nodes[v] == n->id;
        }
    }
    *count = map->node_count;
    return nodes;
}

void nodes_free(struct node *nodes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) json_decref(nodes[i].json);
    free(nodes);
}

/* Asks all of them side by side, each with its own short deadline. */
void nodes_ask(struct kvctl *k, struct node *nodes, uint32_t count, enum kv_op op, const struct kv_slice *args, uint32_t arg_count,
               uint32_t except)
{
    uint32_t open = 1;
    for (uint32_t i = 0; i < count; i++) {
        struct node *n = &nodes[i];
        if (n->id == except) continue;
        n->open = true;
        n->call = (struct kv_call){.op = op,
                                   .args = args,
                                   .arg_count = arg_count,
                                   .node = n->id,
                                   .timeout_ms = k->timeout_ms < NODES_TIMEOUT_MS ? k->timeout_ms : NODES_TIMEOUT_MS,
                                   .done = node_done};
        kv_client_call(kv_client_of(k->kv), &n->call);
    }
    while (open > 0) {
        open = 0;
        for (uint32_t i = 0; i < count; i++) open += nodes[i].open;
        if (open > 0) kv_turn(k->kv);
    }
}

uint64_t nodes_number(json_t *object, const char *name)
{
    json_int_t v = json_integer_value(json_object_get(object, name));
    return v < 0 ? 0 : (uint64_t)v;
}

const char *nodes_text(json_t *object, const char *name)
{
    const char *s = json_string_value(json_object_get(object, name));
    return s == NULL ? "" : s;
}

json_t *nodes_json(const struct node *n)
{
    char roles[KV_NODE_ROLES_TEXT_BYTES];
    kv_node_roles_text(n->roles, roles);
    json_t *o = json_pack("{s:i, s:s, s:i, s:i, s:b, s:s, s:s, s:s, s:i, s:i}", "id", (int)n->id, "host", n->addr.host, "native",
                          (int)n->addr.port, "resp", (int)n->resp, "up", n->json != NULL, "state", kv_node_state_text(n->state),
                          "zone", n->zone, "roles", roles, "replicas", (int)n->replicas, "leaders", (int)n->leaders);
    if (o == NULL) return NULL;
    if (n->json == NULL) (void)json_object_set_new(o, "error", json_string(kv_err_name(n->result.err)));
    static const char *const fields[] = {"store", "cluster", "version", "uptime_ms", "full", "clock_alarm", "served",
                                         "log_bytes", "disk_bytes", "memtable_bytes"};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        json_t *v = json_object_get(n->json, fields[i]);
        if (v != NULL) (void)json_object_set(o, fields[i], v);
    }
    return o;
}

int nodes_json_print(struct kvctl *k, json_t *o, size_t flags)
{
    bool good = o != NULL && json_dumpf(o, stdout, flags | JSON_ENSURE_ASCII) == 0 && fputc('\n', stdout) != EOF;
    json_decref(o);
    if (!good) kvctl_say(k, "stdout cannot be written");
    return good ? EXIT_OK : EXIT_INTERNAL;
}

int nodes_buf_print(struct kvctl *k, struct kv_buf *b)
{
    struct kv_slice s = kv_buf_slice(b);
    bool good = !b->failed && fwrite(s.data, 1, s.size, stdout) == s.size;
    kv_buf_free(b);
    if (!good) kvctl_say(k, "stdout cannot be written");
    return good ? EXIT_OK : EXIT_INTERNAL;
}

void nodes_keyspace(const struct kv_map_info *map, uint64_t id, char out[KV_NAME_BYTES_MAX + 1])
{
    for (uint32_t i = 0; i < map->keyspace_count; i++)
        if (map->keyspaces[i].id == id) {
            snprintf(out, KV_NAME_BYTES_MAX + 1, "%.*s", (int)map->keyspaces[i].name.size,
                     (const char *)map->keyspaces[i].name.data);
            return;
        }
    if (id == KV_KEYSPACE_SYSTEM) snprintf(out, 40, "system");
    else if (id == KV_KEYSPACE_DEFAULT) snprintf(out, 40, "default");
    else snprintf(out, 40, "%llu", (unsigned long long)id);
}

void nodes_size_text(uint64_t bytes, char out[24])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)bytes;
    uint32_t unit = 0;
    while (v >= 1024 && unit < 5) {
        v /= 1024;
        unit++;
    }
    snprintf(out, 24, unit == 0 ? "%.0f %s" : "%.1f %s", v, units[unit]);
}

bool nodes_load(const struct node *nodes, uint32_t count, uint32_t partition, double *ops, uint64_t *bytes)
{
    bool is_sized = false;
    *ops = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t at;
        json_t *group;
        json_array_foreach(json_object_get(nodes[i].json, "groups"), at, group)
        {
            if (nodes_number(group, "id") != partition) continue;
            *ops += json_number_value(json_object_get(group, "reads")) + json_number_value(json_object_get(group, "writes"));
            bool leads = strcmp(nodes_text(group, "role"), "leader") == 0;
            if (!leads || !json_is_integer(json_object_get(group, "bytes"))) continue;
            *bytes = nodes_number(group, "bytes");
            is_sized = true;
        }
    }
    return is_sized;
}

#include <stdlib.h>

#include "client/base/text.h"
#include "tools/kvctl/nodes.h"
#include "tools/kvctl/output.h"

/* kvctl hot: the hottest keys of the cluster, from what every node counts of those it serves. */
enum { LIMIT_DEFAULT = 20,
       LIMIT_MAX = 1000,
       KEY_BYTES_MAX = KV_USER_KEY_BYTES_MAX };

struct hot {
    json_t *json; /* borrowed from a node's answer */
    uint32_t node;
    double ops;
};

static double real(json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

static int ops_order(const void *a, const void *b)
{
    const struct hot *x = a, *y = b;
    return x->ops != y->ops ? (x->ops > y->ops ? -1 : 1) : strcmp(nodes_text(x->json, "key"), nodes_text(y->json, "key"));
}

static struct hot *collect(const struct node *nodes, uint32_t node_count, uint32_t *count)
{
    size_t room = 1, at;
    json_t *o;
    for (uint32_t i = 0; i < node_count; i++) room += json_array_size(json_object_get(nodes[i].json, "hot"));
    struct hot *hot = calloc(room, sizeof *hot);
    *count = 0;
    for (uint32_t i = 0; hot != NULL && i < node_count; i++)
        json_array_foreach(json_object_get(nodes[i].json, "hot"), at, o) hot[(*count)++] = (struct hot){o, nodes[i].id, real(o, "ops")};
    if (hot != NULL) qsort(hot, *count, sizeof *hot, ops_order);
    return hot;
}

/* The bytes of a key, which came as hex digits; none if they are not. */
static struct kv_slice key_of(json_t *o, uint8_t bytes[KEY_BYTES_MAX])
{
    const char *text = nodes_text(o, "key");
    size_t size = strlen(text) / 2;
    bool good = size <= KEY_BYTES_MAX && kv_hex_decode(kv_str(text), bytes, size);
    return kv_slice(bytes, good ? size : 0);
}

static void print_table(struct kvctl *k, const struct hot *hot, uint32_t count, struct kv_buf *out)
{
    static const char *const heads[] = {"KEY", "KEYSPACE", "OPS/S", "READS", "WRITES", "ERROR", "SHARE", "PARTITION", "NODE"};
    const struct kv_map_info *map = kv_client_map(kv_client_of(k->kv));
    struct output_table t;
    output_table_init(&t, 9, "..rrrrrrr");
    for (uint32_t i = 0; i < 9; i++) output_table_cell(&t, "%s", heads[i]);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t bytes[KEY_BYTES_MAX];
        char name[KV_NAME_BYTES_MAX + 1];
        struct kv_buf text = {0};
        json_t *o = hot[i].json;
        output_escaped(&text, key_of(o, bytes));
        struct kv_slice s = kv_buf_slice(&text);
        output_table_cell(&t, "%.*s", (int)s.size, s.size == 0 ? "" : (const char *)s.data);
        kv_buf_free(&text);
        nodes_keyspace(map, nodes_number(o, "keyspace"), name);
        output_table_cell(&t, "%s", name);
        output_table_cell(&t, "%.0f", hot[i].ops);
        output_table_cell(&t, "%.0f", real(o, "reads"));
        output_table_cell(&t, "%.0f", real(o, "writes"));
        output_table_cell(&t, "%.0f", real(o, "error"));
        output_table_cell(&t, "%.0f%%", 100 * real(o, "share"));
        output_table_cell(&t, "%llu", (unsigned long long)nodes_number(o, "partition"));
        output_table_cell(&t, "%u%s", hot[i].node, json_is_true(json_object_get(o, "leads")) ? "" : " (follower)");
    }
    output_table_print(&t, out);
}

static void print_lines(struct kvctl *k, const struct hot *hot, uint32_t count, struct kv_buf *out)
{
    const struct kv_map_info *map = kv_client_map(kv_client_of(k->kv));
    for (uint32_t i = 0; i < count; i++) {
        uint8_t bytes[KEY_BYTES_MAX];
        char name[KV_NAME_BYTES_MAX + 1];
        json_t *o = hot[i].json;
        struct kv_slice key = key_of(o, bytes);
        if (k->format == FORMAT_RAW) {
            kv_buf_append_slice(out, key);
            kv_buf_append_u8(out, '\n');
            continue;
        }
        nodes_keyspace(map, nodes_number(o, "keyspace"), name);
        kv_buf_append_text(out, "{\"key\":");
        output_json_bytes(out, key);
        kv_buf_append_text(out, ",\"keyspace\":");
        kv_json_string(out, kv_str(name));
        kv_buf_printf(out, ",\"ops\":%.1f,\"reads\":%.1f,\"writes\":%.1f,\"error\":%.1f,\"share\":%.3f,\"partition\":%llu,\"node\":%u,\"leads\":%s}\n",
                      hot[i].ops, real(o, "reads"), real(o, "writes"), real(o, "error"), real(o, "share"),
                      (unsigned long long)nodes_number(o, "partition"), hot[i].node, json_is_true(json_object_get(o, "leads")) ? "true" : "false");
    }
}

/* The id of --keyspace, as text; "" without one. */
static int keyspace_id(struct kvctl *k, char out[16])
{
    out[0] = '\0';
    if (k->keyspace[0] == '\0') return EXIT_OK;
    if (strcmp(k->keyspace, "default") == 0) {
        snprintf(out, 16, "%d", KV_KEYSPACE_DEFAULT);
        return EXIT_OK;
    }
    const struct kv_map_info *map = kv_client_map(kv_client_of(k->kv));
    for (uint32_t i = 0; i < map->keyspace_count; i++)
        if (kv_slice_eq(map->keyspaces[i].name, kv_str(k->keyspace))) snprintf(out, 16, "%u", map->keyspaces[i].id);
    if (out[0] != '\0') return EXIT_OK;
    kvctl_say(k, "no keyspace %s; next: kvctl keyspace list", k->keyspace);
    return EXIT_NOT_FOUND;
}

int hot_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)words;
    (void)count;
    char limit_text[24], keyspace[16];
    uint64_t limit = LIMIT_DEFAULT;
    uint32_t node_count, hot_count, silent = 0;
    const char *wanted = args_get(a, "limit");
    if (wanted != NULL && (!kv_parse_u64(kv_str(wanted), &limit) || limit < 1 || limit > LIMIT_MAX))
        return kvctl_usage(k, "--limit %s: not a number of keys from 1 to %d", wanted, LIMIT_MAX);
    int code;
    struct node *nodes = nodes_read(k, &node_count, &code);
    if (nodes == NULL) return code;
    code = keyspace_id(k, keyspace);
    snprintf(limit_text, sizeof limit_text, "%llu", (unsigned long long)limit);
    struct kv_slice argv[2] = {kv_str(limit_text), kv_str(keyspace)};
    if (code == EXIT_OK) nodes_ask(k, nodes, node_count, KV_OP_KVHOT, argv, keyspace[0] == '\0' ? 1 : 2, 0);
    struct hot *hot = code == EXIT_OK ? collect(nodes, node_count, &hot_count) : NULL;
    if (hot != NULL) {
        struct kv_buf out = {0};
        for (uint32_t i = 0; i < node_count; i++) silent += nodes[i].json == NULL;
        if (hot_count > limit) hot_count = (uint32_t)limit;
        if (k->format == FORMAT_TABLE) print_table(k, hot, hot_count, &out);
        else print_lines(k, hot, hot_count, &out);
        code = nodes_buf_print(k, &out);
        if (silent > 0) kvctl_say(k, "%u of %u nodes did not answer: what they serve is missing", silent, node_count);
        if (silent == node_count && code == EXIT_OK) code = EXIT_NO_QUORUM;
    }
    free(hot);
    nodes_free(nodes, node_count);
    return code;
}

#include "client/base/text.h"
#include "tools/kvctl/nodes.h"
#include "tools/kvctl/output.h"

/* kvctl node .. and log level. */

bool nodes_id(struct kvctl *k, const char *word, uint32_t *id)
{
    uint64_t v;
    if (kv_parse_u64(kv_str(word), &v) && v > 0 && v <= UINT32_MAX) {
        *id = (uint32_t)v;
        return true;
    }
    kvctl_usage(k, "%s: not a node id", word);
    return false;
}

int nodes_unknown(struct kvctl *k, uint32_t id)
{
    kvctl_say(k, "the cluster has no node %u; next: kvctl node list", id);
    return EXIT_NOT_FOUND;
}

int node_list_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)a;
    (void)words;
    (void)count;
    int code;
    uint32_t node_count;
    struct node *nodes = nodes_read(k, &node_count, &code);
    if (nodes == NULL) return code;
    nodes_ask(k, nodes, node_count, KV_OP_KVSTATUS, NULL, 0, 0);
    if (k->format == FORMAT_JSON) {
        for (uint32_t i = 0; i < node_count && code == EXIT_OK; i++)
            code = nodes_json_print(k, nodes_json(&nodes[i]), JSON_COMPACT);
    } else {
        struct kv_buf out;
        struct output_table t;
        output_table_init(&t, 9, "r.r...rr.");
        static const char *const heads[] = {"NODE", "NATIVE", "RESP", "STATE", "ROLES", "ZONE", "REPLICAS", "LEADS", "STORE"};
        for (uint32_t i = 0; i < 9; i++) output_table_cell(&t, "%s", heads[i]);
        for (uint32_t i = 0; i < node_count; i++) {
            output_table_cell(&t, "%u", nodes[i].id);
            output_table_cell(&t, "%s:%u", nodes[i].addr.host, (unsigned)nodes[i].addr.port);
            output_table_cell(&t, "%u", (unsigned)nodes[i].resp);
            const char *state = nodes[i].state == KV_NODE_UP ? "" : kv_node_state_text(nodes[i].state);
            output_table_cell(&t, "%s%s%s", state, state[0] != '\0' ? ", " : "", nodes[i].json != NULL ? "up" : "down");
            char roles[KV_NODE_ROLES_TEXT_BYTES];
            kv_node_roles_text(nodes[i].roles, roles);
            output_table_cell(&t, "%s", (nodes[i].roles == 0 || nodes[i].roles == KV_NODE_ROLES_ALL) ? "all" : roles);
            output_table_cell(&t, "%s", nodes[i].zone);
            output_table_cell(&t, "%u", nodes[i].replicas);
            output_table_cell(&t, "%u", nodes[i].leaders);
            output_table_cell(&t, "%s", nodes_text(nodes[i].json, "store"));
        }
        kv_buf_init(&out, 0);
        output_table_print(&t, &out);
        code = nodes_buf_print(k, &out);
    }
    nodes_free(nodes, node_count);
    return code;
}

int node_show_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)a;
    (void)count;
    uint32_t id;
    struct kv_result r;
    if (!nodes_id(k, words[0], &id)) return EXIT_USAGE;
    int code = kvctl_open(k);
    if (code != EXIT_OK) return code;
    if (kv_admin(k->kv, id, KV_OP_KVSTATUS, NULL, 0, &r) != KV_OK)
        return r.err == KV_NOT_FOUND ? nodes_unknown(k, id) : kvctl_fail(k, &r);
    json_error_t at;
    json_t *o = json_loadb((const char *)r.value.data, r.value.size, 0, &at);
    if (o == NULL) {
        kvctl_say(k, "node %u sent a status that is no JSON: %s", id, at.text);
        return EXIT_INTERNAL;
    }
    return nodes_json_print(k, o, k->format == FORMAT_TABLE ? JSON_INDENT(2) : JSON_COMPACT);
}

/* Each leader marks the replicas of its own groups, so every other node is asked. */
int node_replace_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)a;
    (void)count;
    uint32_t id, node_count, expected = 0, unheard = 0;
    int64_t marked = 0;
    int code;
    if (!nodes_id(k, words[0], &id)) return EXIT_USAGE;
    struct node *nodes = nodes_read(k, &node_count, &code);
    if (nodes == NULL) return code;
    bool known = false;
    for (uint32_t i = 0; i < node_count; i++) known = known || nodes[i].id == id;
    const struct kv_map_info *map = kv_client_map(kv_client_of(k->kv));
    for (uint32_t i = 0; known && i < map->partition_count; i++)
        for (uint32_t n = 0; n < map->partitions[i].node_count; n++) expected += map->partitions[i].nodes[n] == id;
    if (!known) {
        nodes_free(nodes, node_count);
        return nodes_unknown(k, id);
    }
    struct kv_slice node = kv_str(words[0]);
    nodes_ask(k, nodes, node_count, KV_OP_KVREPLACE, &node, 1, id);
    for (uint32_t i = 0; i < node_count; i++) {
        if (nodes[i].id == id) continue;
        unheard += nodes[i].result.err != KV_OK;
        marked += nodes[i].number;
    }
    nodes_free(nodes, node_count);
    if (k->format == FORMAT_JSON)
        printf("{\"node\":%u,\"marked\":%lld,\"replicas\":%u}\n", id, (long long)marked, expected);
    else
        printf("%lld of %u replicas of node %u get new ids\n", (long long)marked, expected, id);
    if (marked >= (int64_t)expected) return EXIT_OK;
    if (node_count == 1)
        kvctl_say(k, "there is no other node to take its replicas from");
    else if (unheard > 0)
        kvctl_say(k, "%u nodes did not answer; next: kvctl status, then again", unheard);
    else
        kvctl_say(k, "some groups have no leader, or are led by node %u itself; next: kvctl status, then again", id);
    return EXIT_NO_QUORUM;
}

int log_level_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)a;
    (void)count;
    uint32_t id;
    struct kv_result r;
    struct kv_slice level = kv_str(words[1]);
    if (!nodes_id(k, words[0], &id)) return EXIT_USAGE;
    int code = kvctl_open(k);
    if (code != EXIT_OK) return code;
    if (kv_admin(k->kv, id, KV_OP_KVLOGLEVEL, &level, 1, &r) != KV_OK) {
        return r.err == KV_NOT_FOUND ? nodes_unknown(k, id) : kvctl_fail(k, &r);
    }
    if (k->format == FORMAT_JSON) printf("{\"node\":%u,\"level\":\"%s\"}\n", id, words[1]);
    else printf("node %u logs %s\n", id, words[1]);
    return EXIT_OK;
}

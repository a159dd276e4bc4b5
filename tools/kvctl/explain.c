#include <stdlib.h>

#include "client/kv_client.h"
#include "tools/kvctl/nodes.h"
#include "tools/kvctl/output.h"

/* kvctl explain: which partitions an operation asks, and which it has no need to, by the same routing as the operation
 * itself, and which replica of each. Nothing is read or written. */

enum { PINGS = 4,         /* the first opens the connection */
       PING_MS = 300,     /* of one that does not answer */
       WHY_BYTES = 192 }; /* room for 16 replicas */

/* How soon each node with a replica answers, as a client that reads at this level would come to know. */
static void ping_replicas(struct kvctl *k, const struct kv_map_info *map)
{
    struct kv_result r;
    uint32_t ids[KV_NODES_MAX], count = 0;
    for (uint32_t i = 0; i < map->node_count; i++) ids[count++] = map->nodes[i].id; /* the map may change meanwhile */
    kv_set_timeout(k->kv, PING_MS < k->timeout_ms ? PING_MS : k->timeout_ms);
    for (uint32_t i = 0; i < count; i++)
        for (int n = 0; n < PINGS && kv_admin(k->kv, ids[i], KV_OP_KVPING, NULL, 0, &r) == KV_OK; n++) {
        }
    kv_set_timeout(k->kv, k->timeout_ms);
}

/* The node that would be asked, 0 for none known, and why. */
static uint32_t asked_node(struct kvctl *k, bool writes, const struct kv_partition_info *p, char why[WHY_BYTES])
{
    struct kv_client *c = kv_client_of(k->kv);
    if (writes || k->level == KV_LEVEL_LINEARIZABLE) {
        snprintf(why, WHY_BYTES, p->leader == 0 ? "no leader is known: any replica forwards" : "leads");
        return p->leader;
    }
    uint32_t node = kv_client_nearest(c, k->level, p);
    size_t used = (size_t)snprintf(why, WHY_BYTES, node == 0 ? "no replica answers" : "answers soonest:");
    for (uint32_t i = 0; node != 0 && i < p->node_count && used < WHY_BYTES; i++) {
        uint64_t us = kv_client_latency_ns(c, p->nodes[i]) / 1000;
        int n = us == 0 ? snprintf(why + used, WHY_BYTES - used, "%s %u no answer", i == 0 ? "" : ",", p->nodes[i])
                        : snprintf(why + used, WHY_BYTES - used, "%s %u %llu.%01llu ms", i == 0 ? "" : ",", p->nodes[i],
                                   (unsigned long long)(us / 1000), (unsigned long long)(us % 1000 / 100));
        used += n > 0 ? (size_t)n : 0;
    }
    return node;
}

/* What lies in the range, of the keyspace; in the order of keys. */
static bool is_asked(const struct kv_partition_info *p, struct kv_range range)
{
    return kv_range_meets(range, (struct kv_range){p->from, p->to});
}

static void json_print(struct kvctl *k, const char *op, bool writes, const struct kv_map_info *map, uint32_t keyspace,
                       struct kv_range range, struct kv_buf *out)
{
    const char *comma = "", *pruned_comma = "";
    struct kv_buf pruned = {0};
    kv_buf_printf(out, "{\"op\":\"%s\",\"keyspace\":%u,\"level\":\"%s\",\"asked\":[", op, keyspace, writes ? "write" : kv_level_text(k->level));
    for (uint32_t i = 0; i < map->partition_count; i++) {
        const struct kv_partition_info *p = &map->partitions[i];
        if (p->keyspace != keyspace) continue;
        if (!is_asked(p, range)) {
            kv_buf_printf(&pruned, "%s%u", pruned_comma, p->id);
            pruned_comma = ",";
            continue;
        }
        kv_buf_printf(out, "%s{\"partition\":%u,\"range_epoch\":%u,\"conf_epoch\":%u,\"leader\":", comma, p->id, p->range_epoch, p->conf_epoch);
        if (p->leader == 0) kv_buf_append_text(out, "null");
        else kv_buf_printf(out, "%u", p->leader);
        kv_buf_append_text(out, ",\"nodes\":[");
        for (uint32_t n = 0; n < p->node_count; n++) kv_buf_printf(out, "%s%u", n > 0 ? "," : "", p->nodes[n]);
        char why[WHY_BYTES];
        uint32_t node = asked_node(k, writes, p, why);
        kv_buf_append_text(out, "],\"asks\":");
        if (node == 0) kv_buf_append_text(out, "null");
        else kv_buf_printf(out, "%u", node);
        kv_buf_printf(out, ",\"why\":\"%s\"}", why);
        comma = ",";
    }
    kv_buf_append_text(out, "],\"pruned\":[");
    kv_buf_append_slice(out, kv_buf_slice(&pruned));
    kv_buf_append_text(out, "]}\n");
    kv_buf_free(&pruned);
}

static void table_print(struct kvctl *k, bool writes, const struct kv_map_info *map, uint32_t keyspace, struct kv_range range,
                        struct kv_buf *out)
{
    static const char *const heads[] = {"PARTITION", "RANGE", "CONF", "LEADER", "REPLICAS", "ASKED AS", "NODE", "WHY"};
    struct output_table t;
    uint32_t asked = 0, pruned = 0;
    output_table_init(&t, 8, "rrrr..r.");
    for (uint32_t i = 0; i < 8; i++) output_table_cell(&t, "%s", heads[i]);
    for (uint32_t i = 0; i < map->partition_count; i++) {
        const struct kv_partition_info *p = &map->partitions[i];
        char nodes[128] = "";
        if (p->keyspace != keyspace) continue;
        if (!is_asked(p, range)) {
            pruned++;
            continue;
        }
        asked++;
        for (uint32_t n = 0; n < p->node_count; n++) {
            size_t used = strlen(nodes);
            snprintf(nodes + used, sizeof nodes - used, "%s%u", n > 0 ? "," : "", p->nodes[n]);
        }
        output_table_cell(&t, "%u", p->id);
        output_table_cell(&t, "%u", p->range_epoch);
        output_table_cell(&t, "%u", p->conf_epoch);
        if (p->leader == 0) output_table_cell(&t, "-");
        else output_table_cell(&t, "%u", p->leader);
        output_table_cell(&t, "%s", nodes);
        output_table_cell(&t, "%s", writes ? "write" : kv_level_text(k->level));
        char why[WHY_BYTES];
        uint32_t node = asked_node(k, writes, p, why);
        if (node == 0) output_table_cell(&t, "-");
        else output_table_cell(&t, "%u", node);
        output_table_cell(&t, "%s", why);
    }
    output_table_print(&t, out);
    kv_buf_printf(out, "%u of %u partitions are asked, %u are pruned\n", asked, asked + pruned, pruned);
}

/* The encoded keys that a scan with these options looks through. */
static int scan_range(struct kvctl *k, const struct args *a, struct kv_scan **scan, struct kv_range *range)
{
    static const char *const empty = "";
    const char *prefix = args_get(a, "prefix"), *from = args_get(a, "from"), *to = args_get(a, "to");
    struct kv_result r;
    if (prefix != NULL && (from != NULL || to != NULL)) return kvctl_usage(k, "takes --prefix or --from and --to, not both");
    struct kv_scan_options o = {.prefix = kv_str(prefix != NULL ? prefix : empty),
                                .from = kv_str(from != NULL ? from : empty),
                                .to = kv_str(to != NULL ? to : empty)};
    if (kv_scan_open(k->kv, &o, scan) != KV_OK) {
        kvctl_say(k, "out of memory");
        return EXIT_INTERNAL;
    }
    return kv_scan_range(*scan, range, &r) == KV_OK ? EXIT_OK : kvctl_fail(k, &r);
}

/* The one key of another operation: just its encoded form, and no other. */
static int key_range(struct kvctl *k, const char *word, struct kv_key keys[2], struct kv_range *range)
{
    const struct kv_key_rule *rule = kv_client_rule(kv_client_of(k->kv));
    enum kv_err err = rule == NULL ? KV_NO_KEYSPACE : kv_key_encode(rule, kv_str(word), &keys[0]);
    if (err != KV_OK) {
        if (err == KV_NO_KEYSPACE) kvctl_say(k, "no such keyspace: %s; next: kvctl keyspace list", k->keyspace);
        else if (err == KV_TOO_BIG) kvctl_say(k, "the key has %zu bytes, the limit is %d", strlen(word), KV_USER_KEY_BYTES_MAX);
        else kvctl_say(k, "%s: no group of keyspace %s lists that key's label; next: kvctl keyspace show %s", word, k->keyspace, k->keyspace);
        return err == KV_TOO_BIG ? EXIT_USAGE : EXIT_NOT_FOUND;
    }
    keys[1] = keys[0];
    if (keys[1].size < sizeof keys[1].bytes) keys[1].bytes[keys[1].size++] = 0; /* the least key behind it */
    else keys[1].bytes[keys[1].size - 1]++;
    *range = (struct kv_range){kv_key_slice(&keys[0]), kv_key_slice(&keys[1])};
    return EXIT_OK;
}

int explain_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    static const char *const reads[] = {"get", "scan"}, *const writes[] = {"put", "del", "cas", "incr"};
    bool is_read = false, is_write = false, is_scan = strcmp(words[0], "scan") == 0;
    for (size_t i = 0; i < sizeof reads / sizeof *reads; i++) is_read = is_read || strcmp(words[0], reads[i]) == 0;
    for (size_t i = 0; i < sizeof writes / sizeof *writes; i++) is_write = is_write || strcmp(words[0], writes[i]) == 0;
    if (!is_read && !is_write) return kvctl_usage(k, "%s: can be explained: get, scan, put, del, cas, incr", words[0]);
    if (is_scan ? count != 1 : count != 2) return kvctl_usage(k, is_scan ? "scan takes no key" : "%s takes one key", words[0]);
    const struct kv_map_info *map;
    struct kv_scan *scan = NULL;
    struct kv_key keys[2];
    struct kv_range range;
    struct kv_result r;
    struct kv_buf out = {0};
    int code = kvctl_open(k);
    if (code == EXIT_OK && kv_map_read(k->kv, true, &map, &r) != KV_OK) code = kvctl_fail(k, &r);
    if (code == EXIT_OK) code = is_scan ? scan_range(k, a, &scan, &range) : key_range(k, words[1], keys, &range);
    if (code == EXIT_OK) {
        if (is_read && k->level != KV_LEVEL_LINEARIZABLE) ping_replicas(k, map);
        map = kv_client_map(kv_client_of(k->kv));
        uint32_t keyspace = kv_client_rule(kv_client_of(k->kv))->keyspace;
        if (k->format == FORMAT_TABLE) table_print(k, is_write, map, keyspace, range, &out);
        else json_print(k, words[0], is_write, map, keyspace, range, &out);
        code = nodes_buf_print(k, &out);
    }
    if (scan != NULL) kv_scan_close(scan);
    return code;
}

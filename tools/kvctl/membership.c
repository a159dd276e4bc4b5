#include <sodium.h>
#include <stdlib.h>

#include "client/base/text.h"
#include "client/wire/join_token.h"
#include "tools/kvctl/jobs.h"
#include "tools/kvctl/nodes.h"
#include "tools/kvctl/zones.h"

/* kvctl node token cordon uncordon drain remove. */

enum { TOKEN_TTL_MS = 3600000 };

/* The secret is made here and goes to nobody but who runs the new node: the cluster is told its hash. */
int node_token_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)words;
    (void)count;
    const char *ttl = args_get(a, "ttl");
    uint64_t ttl_ns = KV_MS(TOKEN_TTL_MS);
    const struct kv_map_info *map;
    struct join_token token;
    struct kv_result r;
    uint8_t hash[JOIN_TOKEN_HASH_BYTES];
    char text[JOIN_TOKEN_TEXT_BYTES], digits[21];
    if (ttl != NULL && (!kv_parse_duration(ttl, &ttl_ns) || ttl_ns < KV_SECONDS(1)))
        return kvctl_usage(k, "--ttl %s: not a duration from 1s on, as 10m or 24h", ttl);
    int code = kvctl_open(k);
    if (code != EXIT_OK) return code;
    if (kv_map_read(k->kv, true, &map, &r) != KV_OK) return kvctl_fail(k, &r);
    if (map->cluster.size != sizeof token.cluster || sodium_init() < 0) {
        kvctl_say(k, "the node that answered does not tell its cluster's id; next: all nodes of one version");
        return EXIT_INTERNAL;
    }
    memcpy(token.cluster, map->cluster.data, sizeof token.cluster);
    randombytes_buf(token.secret, sizeof token.secret);
    join_token_hash(token.secret, hash);
    struct kv_slice args[2] = {kv_slice(hash, sizeof hash),
                               kv_slice(digits, kv_format_i64((int64_t)(ttl_ns / 1000000u), digits))};
    if (kv_command(k->kv, KV_OP_KSTOKEN, args, 2, &r) != KV_OK) return kvctl_fail(k, &r);
    join_token_print(&token, text);
    if (k->format == FORMAT_JSON) printf("{\"token\":\"%s\",\"ttl_ms\":%llu}\n", text, (unsigned long long)(ttl_ns / 1000000u));
    else printf("%s\n", text);
    if (!k->quiet && k->format == FORMAT_TABLE)
        fprintf(stderr, "good for one node, for %llu s; on it: kvd --join HOST:PORT --token TOKEN, with the native address of any node\n",
                (unsigned long long)(ttl_ns / 1000000000u));
    sodium_memzero(&token, sizeof token);
    sodium_memzero(text, sizeof text);
    return EXIT_OK;
}

static enum kv_node_state wanted_state(const char *command)
{
    if (strcmp(command, "node cordon") == 0) return KV_NODE_CORDONED;
    if (strcmp(command, "node drain") == 0) return KV_NODE_DRAINING;
    return strcmp(command, "node remove") == 0 ? KV_NODE_REMOVED : KV_NODE_UP;
}

static bool holds(const struct kv_partition_info *p, uint32_t node)
{
    for (uint32_t i = 0; i < p->node_count; i++)
        if (p->nodes[i] == node) return true;
    return false;
}

static enum kv_node_role role_for(const struct kv_partition_info *p)
{
    return p->keyspace == KV_KEYSPACE_SYSTEM ? KV_NODE_COORDINATOR : KV_NODE_STORAGE;
}

/* Nodes that could take its replica of that partition. */
static uint32_t places(const struct node *nodes, uint32_t count, const struct kv_partition_info *p, uint32_t id, const struct kv_keyspace *list, uint32_t list_count)
{
    uint32_t free_nodes = 0;
    for (uint32_t i = 0; i < count; i++)
        free_nodes += nodes[i].id != id && nodes[i].state == KV_NODE_UP && kv_node_has(nodes[i].roles, role_for(p)) && !holds(p, nodes[i].id) &&
                      zones_allow(list, list_count, p->keyspace, nodes[i].zone);
    return free_nodes;
}

/* Partitions with a replica on the node, and whether it has somewhere to go; *stuck: how many have not. An exit code. */
static int blockers(struct kvctl *k, const struct node *nodes, uint32_t count, uint32_t id, uint32_t *replicas, uint32_t *stuck, struct kv_buf *out)
{
    struct kv_arena arena = {0};
    struct kv_keyspace *list;
    uint32_t list_count;
    int code = keyspaces_read(k, &arena, &list, &list_count);
    const struct kv_map_info *map = kv_client_map(kv_client_of(k->kv));
    const char *comma = "";
    for (uint32_t i = 0; code == EXIT_OK && i < map->partition_count; i++) {
        const struct kv_partition_info *p = &map->partitions[i];
        if (!holds(p, id)) continue;
        uint32_t to = places(nodes, count, p, id, list, list_count);
        ++*replicas;
        *stuck += to == 0;
        if (k->format == FORMAT_JSON) {
            kv_buf_printf(out, "%s{\"partition\":%u,\"keyspace\":%u,\"replicas\":%u,\"places\":%u}", comma, p->id, p->keyspace,
                          p->node_count, to);
            comma = ",";
        } else if (to == 0) {
            kv_buf_printf(out, "partition %u: one of %u replicas is on node %u, and no other node with the role %s that is up%s is without one\n",
                          p->id, p->node_count, id, role_for(p) == KV_NODE_STORAGE ? "storage" : "coordinator",
                          zones_allow(list, list_count, p->keyspace, "") ? "" : " and in a zone of its keyspace");
        } else {
            kv_buf_printf(out, "partition %u: one of %u replicas is on node %u; %u nodes could take it\n", p->id, p->node_count, id, to);
        }
    }
    kv_arena_free(&arena);
    return code;
}

int node_state_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)count;
    enum kv_node_state to = wanted_state(k->command);
    bool is_dry = args_get(a, "dry-run") != NULL;
    uint32_t id, node_count, replicas = 0, stuck = 0, at = 0;
    int code;
    struct kv_result r;
    struct kv_buf list = {0}, out = {0};
    if (!nodes_id(k, words[0], &id)) return EXIT_USAGE;
    struct node *nodes = nodes_read(k, &node_count, &code);
    if (nodes == NULL) return code;
    while (at < node_count && nodes[at].id != id) at++;
    if (at == node_count) {
        nodes_free(nodes, node_count);
        return nodes_unknown(k, id);
    }
    const char *before = kv_node_state_text(nodes[at].state);
    code = to == KV_NODE_DRAINING || to == KV_NODE_REMOVED ? blockers(k, nodes, node_count, id, &replicas, &stuck, &list) : EXIT_OK;
    nodes_free(nodes, node_count);
    if (code != EXIT_OK) {
        kv_buf_free(&list);
        return code;
    }
    struct kv_slice args[3] = {kv_str(words[0]), kv_str(kv_node_state_text(to)), kv_str(args_get(a, "force") != NULL ? "FORCE" : "JOB")};
    bool is_blocked = to == KV_NODE_REMOVED ? replicas > 0 : stuck > 0 && args_get(a, "force") == NULL; /* a drain that cannot end does not begin */
    if (!is_dry && !is_blocked && kv_command(k->kv, KV_OP_KSNODE, args, to == KV_NODE_DRAINING ? 3 : 2, &r) != KV_OK) {
        kv_buf_free(&list);
        return kvctl_fail(k, &r);
    }
    struct kv_arena arena = {0};
    struct kv_job j = {.id = 0};
    code = !is_dry && !is_blocked && to == KV_NODE_DRAINING ? jobs_find(k, KV_JOB_DRAIN, id, &arena, &j) : EXIT_OK;
    kv_arena_free(&arena); /* its number is all that is wanted */
    if (code != EXIT_OK) {
        kv_buf_free(&list);
        return code;
    }
    if (k->format == FORMAT_JSON) {
        kv_buf_printf(&out, "{\"node\":%u,\"before\":\"%s\",\"state\":\"%s\",\"changed\":%s,\"replicas\":%u,\"stuck\":%u,\"blockers\":[", id, before,
                      is_blocked ? before : kv_node_state_text(to), is_dry || is_blocked ? "false" : "true", replicas, stuck);
        kv_buf_append_slice(&out, kv_buf_slice(&list));
        if (j.id != 0) kv_buf_printf(&out, "],\"job\":%llu}\n", (unsigned long long)j.id);
        else kv_buf_append_text(&out, "]}\n");
    } else {
        kv_buf_append_slice(&out, kv_buf_slice(&list));
        if (is_dry && !is_blocked) kv_buf_printf(&out, "node %u is %s and would be %s; nothing was changed\n", id, before, kv_node_state_text(to));
        else if (is_blocked) kv_buf_printf(&out, "node %u is %s; nothing was changed\n", id, before);
        else kv_buf_printf(&out, "node %u was %s and is %s\n", id, before, kv_node_state_text(to));
        if (j.id != 0) kv_buf_printf(&out, "its drain is job %llu; next: kvctl job wait %llu --timeout 10m\n", (unsigned long long)j.id, (unsigned long long)j.id);
    }
    kv_buf_free(&list);
    code = nodes_buf_print(k, &out);
    if (to == KV_NODE_REMOVED && is_blocked) kvctl_say(k, "node %u still holds %u replicas; next: kvctl node drain %u, and again when they are gone", id, replicas, id);
    else if (stuck > 0) kvctl_say(k, "%u replicas of node %u have nowhere to go; next: add a node with the role (kvctl node token), or kvctl node uncordon another, then again", stuck, id);
    return code != EXIT_OK ? code : is_blocked ? EXIT_CONDITION
                                               : EXIT_OK;
}

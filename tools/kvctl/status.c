#include <stdlib.h>

#include "tools/kvctl/nodes.h"
#include "tools/kvctl/output.h"

/* kvctl status: groups put together from what every node says of its own replicas. */

enum { GROUPS_MAX = 4096 };

struct group {
    uint32_t id;
    char keyspace[KV_NAME_BYTES_MAX + 1];
    uint32_t leader;
    uint64_t term, commit, applied_min;
    uint32_t voters, active, answered;
    bool led; /* its leader answered */
    double ops;
    uint64_t bytes;
    bool sized;
};

static struct group *group_of(struct group *groups, uint32_t *count, uint32_t id)
{
    for (uint32_t i = 0; i < *count; i++)
        if (groups[i].id == id) return &groups[i];
    if (*count == GROUPS_MAX) return NULL;
    groups[*count] = (struct group){.id = id, .applied_min = UINT64_MAX};
    return &groups[(*count)++];
}

/* A leader counts with the voters it heard lately; of two the one of the later term leads. */
static void group_leader(struct group *g, uint32_t node, json_t *group)
{
    size_t index;
    json_t *replica;
    uint64_t term = nodes_number(group, "term");
    if (g->led && term <= g->term) return;
    g->led = true;
    g->leader = node;
    g->term = term;
    g->commit = nodes_number(group, "commit");
    g->bytes = nodes_number(group, "bytes");
    g->sized = json_is_integer(json_object_get(group, "bytes"));
    g->voters = g->active = 0;
    json_array_foreach(json_object_get(group, "replicas"), index, replica)
    {
        if (strcmp(nodes_text(replica, "role"), "learner") == 0) continue;
        g->voters++;
        g->active += nodes_number(replica, "node") == node || json_is_true(json_object_get(replica, "active"));
    }
}

static int group_order(const void *a, const void *b)
{
    const struct group *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static uint32_t groups_collect(const struct kv_map_info *map, const struct node *nodes, uint32_t count, struct group *groups)
{
    uint32_t group_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t index;
        json_t *group;
        json_array_foreach(json_object_get(nodes[i].json, "groups"), index, group)
        {
            struct group *g = group_of(groups, &group_count, (uint32_t)nodes_number(group, "id"));
            if (g == NULL) break;
            nodes_keyspace(map, nodes_number(group, "keyspace"), g->keyspace);
            g->answered++;
            g->ops += json_number_value(json_object_get(group, "reads")) + json_number_value(json_object_get(group, "writes"));
            if (nodes_number(group, "applied") < g->applied_min) g->applied_min = nodes_number(group, "applied");
            if (strcmp(nodes_text(group, "role"), "leader") == 0) group_leader(g, nodes[i].id, group);
        }
    }
    qsort(groups, group_count, sizeof *groups, group_order);
    return group_count;
}

static bool has_quorum(const struct group *g)
{
    return g->led && 2 * g->active > g->voters;
}

static uint64_t lag_of(const struct group *g)
{
    return g->led && g->commit > g->applied_min ? g->commit - g->applied_min : 0;
}

static void uptime_text(uint64_t ms, char out[24])
{
    uint64_t s = ms / 1000;
    if (s < 60) snprintf(out, 24, "%llus", (unsigned long long)s);
    else if (s < 3600) snprintf(out, 24, "%llum%02llus", (unsigned long long)(s / 60), (unsigned long long)(s % 60));
    else if (s < 86400)
        snprintf(out, 24, "%lluh%02llum", (unsigned long long)(s / 3600), (unsigned long long)(s / 60 % 60));
    else snprintf(out, 24, "%llud%02lluh", (unsigned long long)(s / 86400), (unsigned long long)(s / 3600 % 24));
}

static void version_text(json_t *status, char out[64])
{
    json_t *v = json_object_get(status, "version");
    if (json_is_string(v)) snprintf(out, 64, "%s", json_string_value(v));
    else snprintf(out, 64, "%llu", (unsigned long long)nodes_number(status, "version"));
}

static void nodes_table(struct node *nodes, uint32_t count, struct kv_buf *out)
{
    struct output_table t;
    output_table_init(&t, 9, "r...rrrr.");
    static const char *const heads[] = {"NODE", "ADDRESS", "STATE", "VERSION", "UPTIME", "LOG", "DISK", "MEMTABLE", "REMARK"};
    for (uint32_t i = 0; i < 9; i++) output_table_cell(&t, "%s", heads[i]);
    for (uint32_t i = 0; i < count; i++) {
        json_t *s = nodes[i].json;
        char version[64] = "", uptime[24] = "", sizes[3][24] = {"", "", ""};
        static const char *const fields[] = {"log_bytes", "disk_bytes", "memtable_bytes"};
        if (s != NULL) {
            version_text(s, version);
            uptime_text(nodes_number(s, "uptime_ms"), uptime);
            for (int f = 0; f < 3; f++) nodes_size_text(nodes_number(s, fields[f]), sizes[f]);
        }
        output_table_cell(&t, "%u", nodes[i].id);
        output_table_cell(&t, "%s:%u", nodes[i].addr.host, (unsigned)nodes[i].addr.port);
        output_table_cell(&t, "%s", s != NULL ? "up" : "down");
        output_table_cell(&t, "%s", version);
        output_table_cell(&t, "%s", uptime);
        for (int f = 0; f < 3; f++) output_table_cell(&t, "%s", sizes[f]);
        if (s == NULL && nodes[i].result.err == KV_UNAVAILABLE) output_table_cell(&t, "cannot be reached");
        else if (s == NULL) output_table_cell(&t, "%s", kv_err_text(nodes[i].result.err));
        else
            output_table_cell(&t, "%s%s", json_is_true(json_object_get(s, "full")) ? "disk full " : "",
                              json_is_true(json_object_get(s, "clock_alarm")) ? "clock is off" : "");
    }
    output_table_print(&t, out);
}

static void groups_table(const struct group *groups, uint32_t count, struct kv_buf *out)
{
    struct output_table t;
    output_table_init(&t, 10, "r.rrrrrrr.");
    static const char *const heads[] = {"GROUP", "KEYSPACE", "LEADER", "TERM", "COMMIT", "LAG", "OPS/S", "SIZE", "ACTIVE", "QUORUM"};
    for (uint32_t i = 0; i < 10; i++) output_table_cell(&t, "%s", heads[i]);
    for (uint32_t i = 0; i < count; i++) {
        const struct group *g = &groups[i];
        output_table_cell(&t, "%u", g->id);
        output_table_cell(&t, "%s", g->keyspace);
        if (g->led) output_table_cell(&t, "%u", g->leader);
        else output_table_cell(&t, "-");
        output_table_cell(&t, "%llu", (unsigned long long)g->term);
        output_table_cell(&t, "%llu", (unsigned long long)g->commit);
        output_table_cell(&t, "%llu", (unsigned long long)lag_of(g));
        char size[24] = "";
        if (g->sized) nodes_size_text(g->bytes, size);
        output_table_cell(&t, "%.0f", g->ops);
        output_table_cell(&t, "%s", size);
        output_table_cell(&t, "%u/%u", g->active, g->voters);
        output_table_cell(&t, "%s", has_quorum(g) ? "yes" : "NO");
    }
    output_table_print(&t, out);
}

static json_t *status_json(const struct node *nodes, uint32_t node_count, const struct group *groups,
                           uint32_t group_count, bool quorum)
{
    json_t *node_list = json_array(), *group_list = json_array();
    for (uint32_t i = 0; i < node_count; i++) (void)json_array_append_new(node_list, nodes_json(&nodes[i]));
    for (uint32_t i = 0; i < group_count; i++) {
        const struct group *g = &groups[i];
        json_t *leader = g->led ? json_integer((json_int_t)g->leader) : json_null();
        (void)json_array_append_new(
            group_list, json_pack("{s:i, s:s, s:o, s:I, s:I, s:I, s:f, s:o, s:i, s:i, s:b}", "id", (int)g->id, "keyspace",
                                  g->keyspace, "leader", leader, "term", (json_int_t)g->term, "commit",
                                  (json_int_t)g->commit, "lag", (json_int_t)lag_of(g), "ops", g->ops, "bytes",
                                  g->sized ? json_integer((json_int_t)g->bytes) : json_null(), "voters", (int)g->voters,
                                  "active", (int)g->active, "quorum", has_quorum(g)));
    }
    return json_pack("{s:o, s:o, s:b}", "nodes", node_list, "groups", group_list, "quorum", quorum);
}

int status_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)a;
    (void)words;
    (void)count;
    int code;
    uint32_t node_count, without = 0;
    struct node *nodes = nodes_read(k, &node_count, &code);
    if (nodes == NULL) return code;
    struct group *groups = calloc(GROUPS_MAX, sizeof *groups);
    if (groups == NULL) {
        kvctl_say(k, "out of memory");
        nodes_free(nodes, node_count);
        return EXIT_INTERNAL;
    }
    nodes_ask(k, nodes, node_count, KV_OP_KVSTATUS, NULL, 0, 0);
    uint32_t group_count = groups_collect(kv_client_map(kv_client_of(k->kv)), nodes, node_count, groups);
    for (uint32_t i = 0; i < group_count; i++) without += !has_quorum(&groups[i]);
    bool quorum = group_count > 0 && without == 0;
    if (k->format == FORMAT_JSON) {
        code = nodes_json_print(k, status_json(nodes, node_count, groups, group_count, quorum), JSON_COMPACT);
    } else {
        struct kv_buf out;
        kv_buf_init(&out, 0);
        nodes_table(nodes, node_count, &out);
        kv_buf_append_u8(&out, '\n');
        groups_table(groups, group_count, &out);
        code = nodes_buf_print(k, &out);
    }
    if (code == EXIT_OK && !quorum) {
        kvctl_say(k, "%u of %u groups lack a quorum; next: start the nodes that are down", without, group_count);
        code = EXIT_NO_QUORUM;
    }
    free(groups);
    nodes_free(nodes, node_count);
    return code;
}

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "client/base/text.h"
#include "client/wire/resp.h"
#include "tools/kvctl/jobs.h"
#include "tools/kvctl/keyspace_spec.h"
#include "tools/kvctl/nodes.h"
#include "tools/kvctl/output.h"
#include "tools/kvctl/zones.h"

/* kvctl keyspace create list show drop. */

static void put_text(struct kv_buf *b, struct kv_slice s)
{
    output_json_bytes(b, s);
}

/* The members of a keyspace's object, without the braces. */
static void json_of(struct kv_buf *b, const struct kv_keyspace *k)
{
    kv_buf_printf(b, "\"id\":%u,\"name\":", k->id);
    put_text(b, k->name);
    kv_buf_printf(b, ",\"kind\":\"%s\",\"partitions\":%u,\"replicas\":", kv_key_kind_text(k->kind), k->partitions);
    if (k->replicas == 0) kv_buf_append_text(b, "null"); /* of `default`, as nobody declared it yet */
    else kv_buf_printf(b, "%u", k->replicas);
    if (k->kind == KV_KEY_RANGE) {
        kv_buf_append_text(b, ",\"splits\":[");
        for (uint32_t i = 0; i < k->split_count; i++) {
            if (i > 0) kv_buf_append_u8(b, ',');
            put_text(b, k->splits[i]);
        }
        kv_buf_append_u8(b, ']');
    }
    if (k->zone_count > 0) {
        kv_buf_append_text(b, ",\"zones\":[");
        for (uint32_t i = 0; i < k->zone_count; i++) {
            if (i > 0) kv_buf_append_u8(b, ',');
            put_text(b, k->zones[i]);
        }
        kv_buf_append_u8(b, ']');
    }
    if (k->kind != KV_KEY_LIST) return;
    kv_buf_append_text(b, ",\"delimiter\":");
    put_text(b, kv_slice(&k->delimiter, 1));
    kv_buf_append_text(b, ",\"default\":");
    if (k->default_group.size == 0) kv_buf_append_text(b, "null");
    else put_text(b, k->default_group);
    kv_buf_append_text(b, ",\"groups\":[");
    for (uint32_t i = 0; i < k->group_count; i++) {
        kv_buf_append_text(b, i > 0 ? ",{\"name\":" : "{\"name\":");
        put_text(b, k->groups[i].name);
        kv_buf_append_text(b, ",\"labels\":[");
        for (uint32_t n = 0; n < k->groups[i].label_count; n++) {
            if (n > 0) kv_buf_append_u8(b, ',');
            put_text(b, k->groups[i].labels[n].text);
        }
        kv_buf_append_text(b, "]}");
    }
    kv_buf_append_u8(b, ']');
}

static void line_of(struct output_table *t, const struct kv_keyspace *k)
{
    output_table_cell(t, "%u", k->id);
    output_table_cell(t, "%.*s", (int)k->name.size, (const char *)k->name.data);
    output_table_cell(t, "%s", kv_key_kind_text(k->kind));
    output_table_cell(t, "%u", k->partitions);
    if (k->replicas == 0) output_table_cell(t, "as begun");
    else output_table_cell(t, "%u", k->replicas);
    if (k->kind != KV_KEY_LIST) output_table_cell(t, "%s", "");
    else if (k->default_group.size == 0) output_table_cell(t, "unlisted labels are refused");
    else output_table_cell(t, "unlisted labels: %.*s", (int)k->default_group.size, (const char *)k->default_group.data);
}

static void table_begin(struct output_table *t)
{
    static const char *const heads[] = {"ID", "NAME", "KIND", "PARTITIONS", "REPLICAS", "REMARK"};
    output_table_init(t, 6, "r..rr.");
    for (uint32_t i = 0; i < 6; i++) output_table_cell(t, "%s", heads[i]);
}

/* A description that the cluster sent; the arena holds it. */
static int decode(struct kvctl *k, struct kv_slice bytes, struct kv_arena *arena, struct kv_keyspace *out)
{
    struct kv_slice own = kv_arena_copy(arena, bytes);
    if (own.data != NULL && kv_keyspace_decode(own, arena, out) == KV_OK) return EXIT_OK;
    kvctl_say(k, "the node's answer does not parse");
    return EXIT_INTERNAL;
}

/* ---- create ---- */

static uint64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000u;
}

/* Whether every node that answers has heard of it, and every partition of it is led; or, dropped, is gone. */
static bool is_ready(const struct node *nodes, uint32_t count, const struct kv_keyspace *s, uint64_t directory, bool is_drop)
{
    uint32_t led = 0, up = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t at;
        json_t *group;
        if (nodes[i].json == NULL) continue;
        up++;
        if (nodes_number(nodes[i].json, "directory") < directory) return false;
        json_array_foreach(json_object_get(nodes[i].json, "groups"), at, group)
        {
            bool leads = strcmp(nodes_text(group, "role"), "leader") == 0;
            led += leads && nodes_number(group, "keyspace") == s->id;
        }
    }
    return up > 0 && (is_drop || led >= s->partitions);
}

/* So that the next command, through any node, finds it. */
static int await(struct kvctl *k, const struct kv_keyspace *s, uint64_t directory, bool is_drop)
{
    uint64_t deadline_ms = now_ms() + k->timeout_ms;
    for (;;) {
        int code;
        uint32_t count;
        struct node *nodes = nodes_read(k, &count, &code);
        if (nodes == NULL) return code;
        nodes_ask(k, nodes, count, KV_OP_KVSTATUS, NULL, 0, 0);
        bool ready = is_ready(nodes, count, s, directory, is_drop);
        nodes_free(nodes, count);
        if (ready) return EXIT_OK;
        if (now_ms() >= deadline_ms) break;
        (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return EXIT_NO_QUORUM;
}

int keyspace_create_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)count;
    char why[SPEC_WHY_BYTES];
    struct spec_words spec = {.name = words[0],
                              .partition = args_get(a, "partition"),
                              .replicas = args_get(a, "replicas"),
                              .delimiter = args_get(a, "delimiter"),
                              .default_group = args_get(a, "default")};
    struct kv_arena arena = {0};
    struct kv_buf bytes = {0};
    struct kv_keyspace wanted, made;
    struct kv_result r;
    int code = EXIT_USAGE;
    if (!spec_parse(&spec, &arena, &wanted, why)) {
        kvctl_say(k, "%s", why);
        goto done;
    }
    kv_keyspace_encode(&wanted, &bytes);
    struct kv_slice argv[2] = {kv_str(words[0]), kv_buf_slice(&bytes)};
    code = kvctl_open(k);
    if (code != EXIT_OK) goto done;
    if (kv_command(k->kv, KV_OP_KSCREATE, argv, 2, &r) != KV_OK) {
        code = kvctl_fail(k, &r);
        goto done;
    }
    code = decode(k, r.value, &arena, &made);
    if (code != EXIT_OK) goto done;
    code = await(k, &made, r.version.index + 1, false);
    if (code != EXIT_OK) {
        kvctl_say(k, "keyspace %s is created, but not every partition of it has a leader yet; next: kvctl status", words[0]);
        goto done;
    }
    struct kv_buf out = {0};
    if (k->format == FORMAT_JSON) {
        kv_buf_append_u8(&out, '{');
        json_of(&out, &made);
        kv_buf_append_text(&out, "}\n");
    } else if (k->format == FORMAT_RAW) {
        kv_buf_printf(&out, "%u\n", made.id);
    } else {
        kv_buf_printf(&out, "keyspace %s has id %u and partitions %u to %u\n", words[0], made.id, made.first_partition,
                      made.first_partition + made.partitions - 1);
    }
    code = nodes_buf_print(k, &out);
done:
    kv_buf_free(&bytes);
    kv_arena_free(&arena);
    return code;
}

/* ---- list and show ---- */

int keyspace_list_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)a;
    (void)words;
    (void)count;
    struct kv_keyspace *list = NULL;
    uint32_t list_count = 0;
    struct kv_arena arena = {0};
    struct kv_buf out = {0};
    struct output_table t;
    int code = kvctl_open(k);
    if (code == EXIT_OK) code = keyspaces_read(k, &arena, &list, &list_count);
    if (k->format == FORMAT_TABLE) table_begin(&t);
    for (uint32_t i = 0; code == EXIT_OK && i < list_count; i++) {
        if (k->format == FORMAT_JSON) {
            kv_buf_append_u8(&out, '{');
            json_of(&out, &list[i]);
            kv_buf_append_text(&out, "}\n");
        } else if (k->format == FORMAT_RAW) {
            kv_buf_append_slice(&out, list[i].name);
            kv_buf_append_u8(&out, '\n');
        } else {
            line_of(&t, &list[i]);
        }
    }
    if (k->format == FORMAT_TABLE) output_table_print(&t, &out);
    kv_arena_free(&arena);
    if (code == EXIT_OK) return nodes_buf_print(k, &out);
    kv_buf_free(&out);
    return code;
}

/* Where a partition's range begins or ends, as people know it: a slot, a key, a bucket. */
static void edge_text(struct kv_buf *b, enum kv_key_kind kind, uint32_t keyspace, struct kv_slice edge, bool is_end)
{
    bool inside = edge.size >= 4 && kv_key_keyspace(edge) == keyspace;
    if (!inside || (kind == KV_KEY_RANGE && edge.size == 4)) kv_buf_append_u8(b, '-');
    else if (kind == KV_KEY_RANGE) output_escaped(b, kv_key_user(kind, edge));
    else if (edge.size < KV_KEY_PREFIX_BYTES_MAX) kv_buf_append_u8(b, '-');
    else {
        kv_buf_printf(b, "%u", kv_key_slot(edge) - (is_end && edge.size == KV_KEY_PREFIX_BYTES_MAX ? 1u : 0u));
        if (edge.size > KV_KEY_PREFIX_BYTES_MAX) { /* split inside a slot or bucket */
            kv_buf_append_u8(b, ':');
            output_escaped(b, kv_key_user(kind, edge));
        }
    }
}

static void partition_json(struct kv_buf *b, const struct kv_partition_info *p, const struct kv_keyspace *s, const struct node *all, uint32_t all_count)
{
    static const char *const names[2][3] = {{"from", "first_slot", "first_bucket"}, {"to", "last_slot", "last_bucket"}};
    const struct kv_slice edges[2] = {p->from, p->to};
    kv_buf_printf(b, "{\"id\":%u", p->id);
    for (int e = 0; e < 2; e++) {
        struct kv_buf text = {0};
        edge_text(&text, s->kind, s->id, edges[e], e == 1);
        struct kv_slice t = kv_buf_slice(&text);
        kv_buf_printf(b, ",\"%s\":", names[e][s->kind]);
        bool none = t.size == 1 && t.data[0] == '-' && (s->kind != KV_KEY_RANGE || edges[e].size <= 4);
        if (none) kv_buf_append_text(b, "null");
        else if (s->kind == KV_KEY_RANGE) put_text(b, kv_key_user(s->kind, edges[e]));
        else if (edges[e].size == KV_KEY_PREFIX_BYTES_MAX) kv_buf_append_slice(b, t);
        else put_text(b, t);
        kv_buf_free(&text);
    }
    kv_buf_printf(b, ",\"range_epoch\":%u,\"conf_epoch\":%u,\"leader\":", p->range_epoch, p->conf_epoch);
    if (p->leader == 0) kv_buf_append_text(b, "null");
    else kv_buf_printf(b, "%u", p->leader);
    kv_buf_append_text(b, ",\"nodes\":[");
    for (uint32_t i = 0; i < p->node_count; i++) kv_buf_printf(b, "%s%u", i > 0 ? "," : "", p->nodes[i]);
    double ops;
    uint64_t bytes;
    bool is_sized = nodes_load(all, all_count, p->id, &ops, &bytes);
    kv_buf_printf(b, "],\"ops\":%.1f,\"bytes\":", ops);
    if (is_sized) kv_buf_printf(b, "%llu}", (unsigned long long)bytes);
    else kv_buf_append_text(b, "null}");
}

static void partition_line(struct output_table *t, const struct kv_partition_info *p, const struct kv_keyspace *s, const struct node *all, uint32_t all_count)
{
    double ops;
    uint64_t bytes;
    char size[24] = "";
    char nodes[128] = "";
    const struct kv_slice edges[2] = {p->from, p->to};
    output_table_cell(t, "%u", p->id);
    for (int e = 0; e < 2; e++) {
        struct kv_buf text = {0};
        edge_text(&text, s->kind, s->id, edges[e], e == 1);
        struct kv_slice x = kv_buf_slice(&text);
        output_table_cell(t, "%.*s", (int)x.size, (const char *)x.data);
        kv_buf_free(&text);
    }
    for (uint32_t i = 0; i < p->node_count; i++) {
        size_t used = strlen(nodes);
        snprintf(nodes + used, sizeof nodes - used, "%s%u", i > 0 ? "," : "", p->nodes[i]);
    }
    output_table_cell(t, "%u", p->range_epoch);
    output_table_cell(t, "%u", p->conf_epoch);
    if (p->leader == 0) output_table_cell(t, "-");
    else output_table_cell(t, "%u", p->leader);
    output_table_cell(t, "%s", nodes);
    if (nodes_load(all, all_count, p->id, &ops, &bytes)) nodes_size_text(bytes, size);
    output_table_cell(t, "%.0f", ops);
    output_table_cell(t, "%s", size);
}

static void show_table(const struct kv_keyspace *s, struct kv_slice blocker, const struct kv_map_info *map, const struct node *all, uint32_t all_count, struct kv_buf *out)
{
    static const char *const heads[3][9] = {{"PARTITION", "FROM", "TO", "RANGE", "CONF", "LEADER", "NODES", "OPS/S", "SIZE"},
                                            {"PARTITION", "FIRST SLOT", "LAST SLOT", "RANGE", "CONF", "LEADER", "NODES", "OPS/S", "SIZE"},
                                            {"PARTITION", "FIRST BUCKET", "LAST BUCKET", "RANGE", "CONF", "LEADER", "NODES", "OPS/S", "SIZE"}};
    struct output_table t;
    table_begin(&t);
    line_of(&t, s);
    output_table_print(&t, out);
    if (s->zone_count > 0) kv_buf_append_text(out, "zones:");
    for (uint32_t i = 0; i < s->zone_count; i++) kv_buf_printf(out, " %.*s%s", (int)s->zones[i].size, (const char *)s->zones[i].data, i + 1 == s->zone_count ? "\n" : "");
    if (blocker.size > 0) kv_buf_printf(out, "blocked: %.*s\n", (int)blocker.size, (const char *)blocker.data);
    for (uint32_t i = 0; i < s->group_count; i++) {
        const struct kv_label_group *g = &s->groups[i];
        kv_buf_printf(out, "group %.*s:", (int)g->name.size, (const char *)g->name.data);
        for (uint32_t n = 0; n < g->label_count; n++) {
            kv_buf_append_u8(out, ' ');
            output_escaped(out, g->labels[n].text);
            kv_buf_printf(out, " (%u)", g->labels[n].bucket);
        }
        if (kv_slice_eq(g->name, s->default_group)) kv_buf_printf(out, " and unlisted labels (%u)", s->rest);
        kv_buf_append_u8(out, '\n');
    }
    kv_buf_append_u8(out, '\n');
    output_table_init(&t, 9, s->kind == KV_KEY_RANGE ? "r..rrr.rr" : "rrrrrr.rr");
    for (uint32_t i = 0; i < 9; i++) output_table_cell(&t, "%s", heads[s->kind][i]);
    for (uint32_t i = 0; i < map->partition_count; i++)
        if (map->partitions[i].keyspace == s->id) partition_line(&t, &map->partitions[i], s, all, all_count);
    output_table_print(&t, out);
}

int keyspace_show_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)a;
    (void)count;
    struct kv_result r;
    struct kv_arena arena = {0};
    struct kv_keyspace s;
    struct kv_buf out = {0}, why = {0};
    const struct kv_map_info *map;
    struct kv_slice name = kv_str(words[0]);
    int code = kvctl_open(k);
    if (code != EXIT_OK) return code;
    if (kv_command(k->kv, KV_OP_KSSHOW, &name, 1, &r) != KV_OK) return kvctl_fail(k, &r);
    code = decode(k, r.value, &arena, &s);
    uint32_t all_count = 0;
    struct node *all = code == EXIT_OK ? nodes_read(k, &all_count, &code) : NULL;
    if (code == EXIT_OK) {
        nodes_ask(k, all, all_count, KV_OP_KVSTATUS, NULL, 0, 0);
        map = kv_client_map(kv_client_of(k->kv)); /* it may be a later one by now */
        zones_blocker(&s, all, all_count, &why);
        struct kv_slice blocker = kv_buf_slice(&why);
        if (k->format == FORMAT_TABLE) {
            show_table(&s, blocker, map, all, all_count, &out);
        } else {
            const char *comma = "";
            kv_buf_append_u8(&out, '{');
            json_of(&out, &s);
            kv_buf_append_text(&out, ",\"blocker\":");
            if (blocker.size == 0) kv_buf_append_text(&out, "null");
            else put_text(&out, blocker);
            kv_buf_append_text(&out, ",\"ranges\":[");
            for (uint32_t i = 0; i < map->partition_count; i++) {
                if (map->partitions[i].keyspace != s.id) continue;
                kv_buf_append_text(&out, comma);
                partition_json(&out, &map->partitions[i], &s, all, all_count);
                comma = ",";
            }
            kv_buf_append_text(&out, "]}\n");
        }
        code = nodes_buf_print(k, &out);
    }
    nodes_free(all, all_count);
    kv_buf_free(&why);
    kv_arena_free(&arena);
    return code;
}

/* ---- drop ---- */

/* All its keys go: the name is typed once more, or given by --yes. */
static bool is_confirmed(struct kvctl *k, const char *name, const char *yes)
{
    char line[KV_NAME_BYTES_MAX + 2] = "";
    if (yes != NULL) {
        if (strcmp(yes, name) == 0) return true;
        kvctl_say(k, "--yes %s is not the name of the keyspace to drop, %s", yes, name);
        return false;
    }
    if (!isatty(STDIN_FILENO)) {
        kvctl_say(k, "all keys of keyspace %s would be gone; next: --yes %s", name, name);
        return false;
    }
    fprintf(stderr, "All keys of keyspace %s will be gone. Type its name to drop it: ", name);
    if (fgets(line, sizeof line, stdin) != NULL) line[strcspn(line, "\r\n")] = 0;
    if (strcmp(line, name) == 0) return true;
    kvctl_say(k, "that is not its name; nothing was dropped");
    return false;
}

int keyspace_drop_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)count;
    struct kv_result r;
    struct kv_slice name = kv_str(words[0]);
    int code = kvctl_open(k);
    if (code != EXIT_OK) return code;
    if (kv_command(k->kv, KV_OP_KSSHOW, &name, 1, &r) != KV_OK) return kvctl_fail(k, &r); /* before anybody types */
    if (!is_confirmed(k, words[0], args_get(a, "yes"))) return EXIT_USAGE;
    struct kv_slice argv[2] = {name, kv_str(args_get(a, "force") != NULL ? "FORCE" : "JOB")};
    if (kv_command(k->kv, KV_OP_KSDROP, argv, 2, &r) != KV_OK) return kvctl_fail(k, &r);
    uint64_t directory = r.version.index + 1;
    struct kv_arena arena = {0};
    struct kv_keyspace was;
    struct kv_job j = {.id = 0};
    if (decode(k, r.value, &arena, &was) == EXIT_OK) (void)jobs_find(k, KV_JOB_DROP, was.id, &arena, &j);
    kv_arena_free(&arena); /* its number is all that is wanted */
    struct kv_keyspace none = {0};
    if (await(k, &none, directory, true) != EXIT_OK)
        kvctl_say(k, "dropped, but some nodes have not heard of it yet and may serve old keys until then; next: kvctl status");
    if (k->format == FORMAT_JSON) {
        struct kv_buf out = {0};
        kv_buf_append_text(&out, "{\"name\":");
        put_text(&out, name);
        kv_buf_printf(&out, ",\"dropped\":true,\"job\":%llu}\n", (unsigned long long)j.id);
        return nodes_buf_print(k, &out);
    }
    printf("keyspace %s is dropped; its space is given back in the background, as job %llu\n", words[0], (unsigned long long)j.id);
    return EXIT_OK;
}

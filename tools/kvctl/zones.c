#include "tools/kvctl/zones.h"

#include "client/wire/resp.h"

int keyspaces_read(struct kvctl *k, struct kv_arena *arena, struct kv_keyspace **list, uint32_t *count)
{
    struct kv_result r;
    struct resp_value v;
    *count = 0;
    if (kv_command(k->kv, KV_OP_KSLIST, NULL, 0, &r) != KV_OK) return kvctl_fail(k, &r);
    struct kv_slice in = kv_arena_copy(arena, r.value);
    int64_t left = resp_next(&in, SIZE_MAX, &v) == KV_OK && v.type == RESP_ARRAY ? v.number : 0;
    *list = kv_arena_alloc(arena, ((size_t)left + 1) * sizeof **list);
    bool good = *list != NULL;
    for (; good && left > 0; left--)
        good = resp_next(&in, SIZE_MAX, &v) == KV_OK && kv_keyspace_decode(v.text, arena, &(*list)[(*count)++]) == KV_OK;
    if (good) return EXIT_OK;
    kvctl_say(k, "the node's answer does not parse");
    return EXIT_INTERNAL;
}

static bool is_among(const struct kv_slice *zones, uint32_t count, const char *zone)
{
    for (uint32_t i = 0; i < count; i++)
        if (kv_slice_eq(zones[i], kv_str(zone))) return true;
    return count == 0;
}

bool zones_allow(const struct kv_keyspace *list, uint32_t count, uint32_t keyspace, const char *zone)
{
    for (uint32_t i = 0; i < count; i++)
        if (list[i].id == keyspace) return is_among(list[i].zones, list[i].zone_count, zone);
    return true;
}

static uint32_t places(const struct node *nodes, uint32_t count, const struct kv_slice *zones, uint32_t zone_count)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++)
        found += nodes[i].json != NULL && nodes[i].state == KV_NODE_UP && kv_node_has(nodes[i].roles, KV_NODE_STORAGE) && is_among(zones, zone_count, nodes[i].zone);
    return found;
}

void zones_blocker(const struct kv_keyspace *s, const struct node *nodes, uint32_t count, struct kv_buf *out)
{
    uint32_t found = places(nodes, count, s->zones, s->zone_count);
    if (found >= s->replicas) return;
    kv_buf_printf(out, "%u replicas need as many nodes with the role storage that are up;", s->replicas);
    if (s->zone_count == 0) kv_buf_printf(out, " there are %u", found);
    for (uint32_t i = 0; i < s->zone_count; i++)
        kv_buf_printf(out, "%s %.*s has %u", i == 0 ? " zone" : ",", (int)s->zones[i].size, (const char *)s->zones[i].data, places(nodes, count, &s->zones[i], 1));
    kv_buf_append_text(out, "; next: add nodes there, or kvctl keyspace alter");
}

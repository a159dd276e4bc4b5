#include <stdlib.h>

#include "client/base/text.h"
#include "tools/kvctl/jobs.h"
#include "tools/kvctl/keyspace_spec.h"
#include "tools/kvctl/nodes.h"

/* kvctl keyspace alter. */

static bool replicas_of(struct kvctl *k, const char *word, struct kv_keyspace *s)
{
    uint64_t v;
    if (word == NULL) return true;
    if (!kv_parse_u64(kv_str(word), &v) || v == 0 || v > KV_REPLICAS_MAX) {
        kvctl_say(k, "--replicas %s: not a number from 1 to %d", word, KV_REPLICAS_MAX);
        return false;
    }
    s->replicas = (uint32_t)v;
    return true;
}

static bool zones_of(struct kvctl *k, const char *word, struct kv_keyspace *s)
{
    if (word == NULL) return true;
    s->zone_count = 0;
    if (strcmp(word, "any") == 0) return true;
    for (const char *at = word;; at++) {
        size_t size = strcspn(at, ",");
        struct kv_slice zone = kv_slice(at, size);
        if (!kv_name_is_valid(zone) || s->zone_count == KV_ZONES_MAX) {
            kvctl_say(k, "--zones %s: not names of zones with commas between, at most %d; or any", word, KV_ZONES_MAX);
            return false;
        }
        s->zones[s->zone_count++] = zone;
        at += size;
        if (*at == '\0') return true;
    }
}

/* NAME=LABEL|LABEL as in --partition list: they come behind those that the group has. */
static bool group_of(struct kvctl *k, const char *word, struct kv_arena *arena, struct kv_keyspace *s)
{
    char why[SPEC_WHY_BYTES];
    struct kv_keyspace more;
    struct kv_buf spec = {0};
    if (word == NULL) return true;
    if (s->kind != KV_KEY_LIST) {
        kvctl_say(k, "--group: %.*s is a %s keyspace, only a list has groups", (int)s->name.size, (const char *)s->name.data, kv_key_kind_text(s->kind));
        return false;
    }
    kv_buf_printf(&spec, "list:%s", word);
    kv_buf_append_u8(&spec, 0);
    bool good = !spec.failed && spec_parse(&(struct spec_words){.name = "x", .partition = (const char *)kv_buf_slice(&spec).data}, arena, &more, why);
    kv_buf_free(&spec);
    struct kv_label_group *groups = good ? kv_arena_alloc(arena, (s->group_count + more.group_count) * sizeof *groups) : NULL;
    if (!good) kvctl_say(k, "--group %s: %s", word, why);
    if (groups == NULL) return false;
    memcpy(groups, s->groups, s->group_count * sizeof *groups);
    for (uint32_t i = 0; i < more.group_count; i++) {
        uint32_t at = 0;
        while (at < s->group_count && !kv_slice_eq(groups[at].name, more.groups[i].name)) at++;
        if (at == s->group_count) {
            groups[s->group_count++] = more.groups[i];
            continue;
        }
        struct kv_label_group *g = &groups[at];
        struct kv_label *labels = kv_arena_alloc(arena, (g->label_count + more.groups[i].label_count) * sizeof *labels);
        if (labels == NULL) return false;
        memcpy(labels, g->labels, g->label_count * sizeof *labels);
        memcpy(labels + g->label_count, more.groups[i].labels, more.groups[i].label_count * sizeof *labels);
        g->labels = labels;
        g->label_count += more.groups[i].label_count;
    }
    s->groups = groups;
    return true;
}

/* Of `default` nothing is declared at first: what has to be for its zones to change is as many as it has. */
static bool count_replicas(struct kvctl *k, struct kv_keyspace *s)
{
    const struct kv_map_info *map;
    struct kv_result r;
    if (kv_map_read(k->kv, true, &map, &r) != KV_OK) {
        (void)kvctl_fail(k, &r);
        return false;
    }
    for (uint32_t i = 0; i < map->partition_count; i++)
        if (map->partitions[i].keyspace == s->id && map->partitions[i].node_count > s->replicas) s->replicas = map->partitions[i].node_count;
    return true;
}

/* What the keyspace is now, with what is to be otherwise. */
static int wanted_of(struct kvctl *k, const struct args *a, const char *name, struct kv_arena *arena, struct kv_keyspace *s)
{
    struct kv_result r;
    struct kv_slice arg = kv_str(name);
    const char *kind = args_get(a, "partition");
    if (kv_command(k->kv, KV_OP_KSSHOW, &arg, 1, &r) != KV_OK) return kvctl_fail(k, &r);
    struct kv_slice own = kv_arena_copy(arena, r.value);
    if (own.data == NULL || kv_keyspace_decode(own, arena, s) != KV_OK) {
        kvctl_say(k, "the node's answer does not parse");
        return EXIT_INTERNAL;
    }
    if (kind != NULL) {
        kvctl_say(k, "%s is a %s keyspace, and stays one; next: create another with --partition %s, export and import", name, kv_key_kind_text(s->kind), kind);
        return EXIT_USAGE;
    }
    return (s->replicas != 0 || count_replicas(k, s)) && replicas_of(k, args_get(a, "replicas"), s) && zones_of(k, args_get(a, "zones"), s) && group_of(k, args_get(a, "group"), arena, s) ? EXIT_OK : EXIT_USAGE;
}

int keyspace_alter_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)count;
    struct kv_arena arena = {0};
    struct kv_buf bytes = {0};
    struct kv_keyspace s = {.id = 0};
    struct kv_job j = {.id = 0};
    struct kv_result r;
    if (args_get(a, "replicas") == NULL && args_get(a, "zones") == NULL && args_get(a, "partition") == NULL && args_get(a, "group") == NULL)
        return kvctl_usage(k, "needs what is to change: --replicas N, --zones A,B or --group NAME=LABEL|LABEL");
    int code = kvctl_open(k);
    if (code == EXIT_OK) code = wanted_of(k, a, words[0], &arena, &s);
    if (code != EXIT_OK) goto done;
    kv_keyspace_encode(&s, &bytes);
    struct kv_slice argv[2] = {kv_str(words[0]), kv_buf_slice(&bytes)};
    if (kv_command(k->kv, KV_OP_KSALTER, argv, 2, &r) != KV_OK) {
        code = kvctl_fail(k, &r);
        goto done;
    }
    code = jobs_find(k, KV_JOB_ALTER, s.id, &arena, &j);
    if (code == EXIT_OK && args_get(a, "no-wait") == NULL && j.id != 0) code = jobs_wait(k, j.id, &arena, &j);
    if (code == EXIT_OK) code = jobs_print(k, &j);
done:
    kv_buf_free(&bytes);
    kv_arena_free(&arena);
    return code;
}

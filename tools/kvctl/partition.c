#include <inttypes.h>
#include <stdlib.h>

#include "client/base/text.h"
#include "tools/kvctl/jobs.h"
#include "tools/kvctl/keyspace_spec.h"
#include "tools/kvctl/nodes.h"

/* kvctl keyspace split, merge; kvctl partition move, lead. */

static bool number(struct kvctl *k, const char *word, const char *what, uint64_t least, uint32_t *out)
{
    uint64_t v;
    if (kv_parse_u64(kv_str(word), &v) && v >= least && v <= UINT32_MAX) {
        *out = (uint32_t)v;
        return true;
    }
    kvctl_say(k, "%s: not the number of a %s", word, what);
    return false;
}

/* Where a partition is to begin, for the key that people name: there, in a hash keyspace at the key's slot, in a list at
 * its label. */
static int edge_of(struct kvctl *k, const char *name, struct kv_slice user_key, struct kv_key *out)
{
    struct kv_result r;
    struct kv_arena arena = {0};
    struct kv_keyspace s;
    struct kv_slice arg = kv_str(name);
    int code = kvctl_open(k);
    if (code == EXIT_OK && kv_command(k->kv, KV_OP_KSSHOW, &arg, 1, &r) != KV_OK) code = kvctl_fail(k, &r);
    if (code == EXIT_OK) {
        struct kv_slice own = kv_arena_copy(&arena, r.value);
        enum kv_err err = own.data == NULL ? KV_NO_SPACE : kv_keyspace_decode(own, &arena, &s);
        if (err == KV_OK) err = kv_key_encode(&s.rule, user_key, out);
        if (err == KV_NOT_FOUND) kvctl_say(k, "no group of keyspace %s lists that key's label; next: kvctl keyspace show %s", name, name);
        else if (err == KV_TOO_BIG) kvctl_say(k, "the key has %zu bytes, the limit is %d", user_key.size, KV_USER_KEY_BYTES_MAX);
        else if (err != KV_OK) kvctl_say(k, "the key: %s", kv_err_text(err));
        code = err == KV_OK ? EXIT_OK : err == KV_NOT_FOUND ? EXIT_NOT_FOUND
                                                            : EXIT_USAGE;
        if (err == KV_OK && s.kind != KV_KEY_RANGE) out->size = KV_KEY_PREFIX_BYTES_MAX;
    }
    kv_arena_free(&arena);
    return code;
}

/* The partition that begins at an encoded key, or ends there, or holds it; NULL: none. */
enum edge { BEGINS,
            ENDS,
            HOLDS };
static const struct kv_partition_info *partition_at(const struct kv_map_info *map, struct kv_slice key, enum edge how)
{
    for (uint32_t i = 0; i < map->partition_count; i++) {
        const struct kv_partition_info *p = &map->partitions[i];
        struct kv_range range = {p->from, p->to};
        if (how == BEGINS ? kv_slice_eq(p->from, key) : how == ENDS ? kv_slice_eq(p->to, key)
                                                                    : kv_range_has(range, key))
            return p;
    }
    return NULL;
}

static int map_of(struct kvctl *k, const struct kv_map_info **map)
{
    struct kv_result r;
    int code = kvctl_open(k);
    if (code == EXIT_OK && kv_map_read(k->kv, true, map, &r) != KV_OK) code = kvctl_fail(k, &r);
    return code;
}

/* Opens the job and waits for it, unless nobody wants to. *is_over: the job has ended well. */
static int carry_out(struct kvctl *k, const struct args *a, const struct kv_job *wanted, struct kv_arena *arena, struct kv_job *j, bool *is_over)
{
    *is_over = false;
    int code = jobs_begin(k, wanted, arena, j);
    if (code != EXIT_OK) return code;
    if (args_get(a, "no-wait") != NULL) return jobs_print(k, j);
    code = jobs_wait(k, j->id, arena, j);
    *is_over = code == EXIT_OK;
    return code;
}

int keyspace_split_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)count;
    struct kv_key edge;
    struct kv_arena arena = {0};
    struct kv_job j = {.id = 0};
    bool is_over;
    const struct kv_map_info *map;
    const char *at = args_get(a, "at");
    if (at == NULL) return kvctl_usage(k, "needs --at KEY: the new partition begins there");
    int code = edge_of(k, words[0], kv_str(at), &edge);
    if (code == EXIT_OK) code = map_of(k, &map);
    if (code != EXIT_OK) return code;
    const struct kv_partition_info *p = partition_at(map, kv_key_slice(&edge), HOLDS);
    if (p == NULL || partition_at(map, kv_key_slice(&edge), BEGINS) != NULL) {
        kvctl_say(k, p == NULL ? "no partition holds that key yet; next: again in a moment" : "a partition begins at that key already");
        return EXIT_CONDITION;
    }
    struct kv_job wanted = {.kind = KV_JOB_SPLIT, .partition = p->id, .keyspace = p->keyspace, .key = kv_key_slice(&edge), .range_epoch = p->range_epoch};
    code = carry_out(k, a, &wanted, &arena, &j, &is_over);
    if (is_over) {
        if (k->format == FORMAT_JSON) printf("{\"partition\":%u,\"job\":%" PRIu64 "}\n", j.result, j.id);
        else if (k->format == FORMAT_RAW) printf("%u\n", j.result);
        else printf("partition %u begins at %s\n", j.result, at);
    }
    kv_arena_free(&arena);
    return code;
}

int keyspace_merge_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)count;
    struct kv_key edge;
    struct kv_arena arena = {0};
    struct kv_job j = {.id = 0};
    bool is_over;
    const struct kv_map_info *map;
    const char *at = args_get(a, "at");
    if (at == NULL) return kvctl_usage(k, "needs --at KEY: the partition that begins there ends in the one before it");
    int code = edge_of(k, words[0], kv_str(at), &edge);
    if (code == EXIT_OK) code = map_of(k, &map);
    if (code != EXIT_OK) return code;
    const struct kv_partition_info *right = partition_at(map, kv_key_slice(&edge), BEGINS), *left = partition_at(map, kv_key_slice(&edge), ENDS);
    if (right == NULL || left == NULL || left->keyspace != right->keyspace) {
        kvctl_say(k, right == NULL ? "no partition begins there" : "the partition that begins there is the first of its keyspace");
        return EXIT_CONDITION;
    }
    struct kv_job wanted = {.kind = KV_JOB_MERGE,
                            .partition = right->id,
                            .other = left->id,
                            .keyspace = right->keyspace,
                            .key = kv_key_slice(&edge),
                            .range_epoch = right->range_epoch};
    code = carry_out(k, a, &wanted, &arena, &j, &is_over);
    if (is_over) {
        if (k->format == FORMAT_JSON) printf("{\"partition\":%u,\"job\":%" PRIu64 "}\n", j.other, j.id);
        else if (k->format == FORMAT_RAW) printf("%u\n", j.other);
        else printf("partition %u goes on behind %s\n", j.other, at);
    }
    kv_arena_free(&arena);
    return code;
}

/* The map knows nodes alone, and so do jobs: the partition's leader is asked, and goes on by itself. */
static int to_other_worker(struct kvctl *k, const char *const *words, uint32_t id, uint32_t node)
{
    struct kv_result r;
    struct kv_slice argv[3] = {kv_str(words[0]), kv_str(words[1]), kv_str(words[2])};
    int code = kvctl_open(k);
    if (code != EXIT_OK) return code;
    if (kv_command(k->kv, KV_OP_KVMOVE, argv, 3, &r) != KV_OK) return kvctl_fail(k, &r);
    if (k->format == FORMAT_JSON) printf("{\"partition\":%u,\"from\":%u,\"to\":%u}\n", id, node, node);
    else printf("partition %u moves to another worker of node %u; next: kvctl node show %u\n", id, node, node);
    return EXIT_OK;
}

int partition_move_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)count;
    uint32_t id, from, to, at = 0;
    struct kv_arena arena = {0};
    struct kv_job j = {.id = 0};
    bool is_over;
    const struct kv_map_info *map;
    if (!number(k, words[0], "partition", 0, &id) || !number(k, words[1], "node", 0, &from) || !number(k, words[2], "node", 0, &to))
        return EXIT_USAGE;
    if (from == 0 && to == 0) return kvctl_usage(k, "neither a node that it leaves nor one that it comes to");
    if (from == to) return to_other_worker(k, words, id, to);
    int code = map_of(k, &map);
    if (code != EXIT_OK) return code;
    while (at < map->partition_count && map->partitions[at].id != id) at++;
    if (at == map->partition_count) {
        kvctl_say(k, "no partition %u; next: kvctl status", id);
        return EXIT_NOT_FOUND;
    }
    const struct kv_partition_info *p = &map->partitions[at];
    struct kv_job wanted = {
        .kind = KV_JOB_MOVE, .partition = id, .keyspace = p->keyspace, .from = from, .to = to, .range_epoch = p->range_epoch, .conf_epoch = p->conf_epoch};
    code = carry_out(k, a, &wanted, &arena, &j, &is_over);
    if (is_over) {
        if (k->format == FORMAT_JSON) printf("{\"partition\":%u,\"from\":%u,\"to\":%u,\"job\":%" PRIu64 "}\n", id, from, to, j.id);
        else if (to == 0) printf("partition %u has left node %u\n", id, from);
        else if (from == 0) printf("partition %u has a replica on node %u\n", id, to);
        else printf("partition %u has moved from node %u to node %u\n", id, from, to);
    }
    kv_arena_free(&arena);
    return code;
}

int partition_lead_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)a;
    (void)count;
    uint32_t id, node;
    struct kv_result r;
    if (!number(k, words[0], "partition", 0, &id) || !number(k, words[1], "node", 1, &node)) return EXIT_USAGE;
    int code = kvctl_open(k);
    if (code != EXIT_OK) return code;
    struct kv_slice argv[2] = {kv_str(words[0]), kv_str(words[1])};
    if (kv_command(k->kv, KV_OP_KVLEAD, argv, 2, &r) != KV_OK) return kvctl_fail(k, &r);
    if (k->format == FORMAT_JSON) printf("{\"partition\":%u,\"node\":%u}\n", id, node);
    else printf("node %u is to lead partition %u, and does when it can\n", node, id);
    return EXIT_OK;
}

#include <stdlib.h>
#include <time.h>

#include "client/base/text.h"
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

int keyspace_split_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)count;
    struct kv_key edge;
    struct kv_result r;
    const char *at = args_get(a, "at");
    if (at == NULL) return kvctl_usage(k, "needs --at KEY: the new partition begins there");
    int code = edge_of(k, words[0], kv_str(at), &edge);
    if (code != EXIT_OK) return code;
    struct kv_slice arg = kv_key_slice(&edge);
    if (kv_command(k->kv, KV_OP_KVSPLIT, &arg, 1, &r) != KV_OK) return kvctl_fail(k, &r);
    if (k->format == FORMAT_JSON) printf("{\"partition\":%lld}\n", (long long)r.number);
    else if (k->format == FORMAT_RAW) printf("%lld\n", (long long)r.number);
    else printf("partition %lld begins at %s\n", (long long)r.number, at);
    return EXIT_OK;
}

int keyspace_merge_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)count;
    struct kv_key edge;
    struct kv_result r;
    const char *at = args_get(a, "at");
    if (at == NULL) return kvctl_usage(k, "needs --at KEY: the partition that begins there ends in the one before it");
    int code = edge_of(k, words[0], kv_str(at), &edge);
    if (code != EXIT_OK) return code;
    struct kv_slice arg = kv_key_slice(&edge);
    if (kv_command(k->kv, KV_OP_KVMERGE, &arg, 1, &r) != KV_OK) return kvctl_fail(k, &r);
    if (k->format == FORMAT_JSON) printf("{\"partition\":%lld}\n", (long long)r.number);
    else if (k->format == FORMAT_RAW) printf("%lld\n", (long long)r.number);
    else printf("partition %lld goes on behind %s\n", (long long)r.number, at);
    return EXIT_OK;
}

/* 1: the map shows it done; 0: not yet; -1: it could not be read, said why. */
static int is_moved(struct kvctl *k, uint32_t id, uint32_t from, uint32_t to)
{
    const struct kv_map_info *map;
    struct kv_result r;
    if (kv_map_read(k->kv, true, &map, &r) != KV_OK) {
        (void)kvctl_fail(k, &r);
        return -1;
    }
    for (uint32_t i = 0; i < map->partition_count; i++) {
        const struct kv_partition_info *p = &map->partitions[i];
        bool has_from = false, has_to = to == 0;
        if (p->id != id) continue;
        for (uint32_t n = 0; n < p->node_count; n++) {
            has_from = has_from || p->nodes[n] == from;
            has_to = has_to || p->nodes[n] == to;
        }
        return has_to && !has_from;
    }
    return 0;
}

static uint64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000u;
}

int partition_move_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)a;
    (void)count;
    uint32_t id, from, to;
    struct kv_result r;
    if (!number(k, words[0], "partition", 0, &id) || !number(k, words[1], "node", 0, &from) || !number(k, words[2], "node", 0, &to))
        return EXIT_USAGE;
    if (from == to) return kvctl_usage(k, "it is on node %u already", to);
    int code = kvctl_open(k);
    if (code != EXIT_OK) return code;
    struct kv_slice argv[3] = {kv_str(words[0]), kv_str(words[1]), kv_str(words[2])};
    if (kv_command(k->kv, KV_OP_KVMOVE, argv, 3, &r) != KV_OK) return kvctl_fail(k, &r);
    uint64_t deadline_ms = now_ms() + k->timeout_ms;
    for (int moved = 0; (moved = is_moved(k, id, from, to)) <= 0;) {
        if (moved < 0) return EXIT_INTERNAL;
        if (now_ms() >= deadline_ms) {
            kvctl_say(k, "partition %u is on its way and goes on by itself; next: kvctl status", id);
            return EXIT_TIMEOUT;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    if (k->format == FORMAT_JSON) printf("{\"partition\":%u,\"from\":%u,\"to\":%u}\n", id, from, to);
    else if (to == 0) printf("partition %u has left node %u\n", id, from);
    else if (from == 0) printf("partition %u has a replica on node %u\n", id, to);
    else printf("partition %u has moved from node %u to node %u\n", id, from, to);
    return EXIT_OK;
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

#include <stdlib.h>

#include "client/base/text.h"
#include "tools/kvctl/jobs.h"
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
    return replicas_of(k, args_get(a, "replicas"), s) && zones_of(k, args_get(a, "zones"), s) ? EXIT_OK : EXIT_USAGE;
}

int keyspace_alter_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)count;
    struct kv_arena arena = {0};
    struct kv_buf bytes = {0};
    struct kv_keyspace s;
    struct kv_job j;
    struct kv_result r;
    if (args_get(a, "replicas") == NULL && args_get(a, "zones") == NULL && args_get(a, "partition") == NULL)
        return kvctl_usage(k, "needs what is to change: --replicas N or --zones A,B");
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

/* Splits keyspace `default` at even slots until it has so many partitions, and waits until all have a
 * leader. usage: splits HOST:PORT,.. KEYFILE COUNT. COUNT is 8 to 16384. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "client/base/key.h"
#include "client/kv.h"

enum { TRIES_MAX = 200,
       PAUSE_MS = 50 };

static void pause_ms(long ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* Which slots a partition begins at; the partitions without a leader. */
static uint32_t starts_read(struct kv *kv, bool starts[KV_SLOTS], struct kv_result *r)
{
    const struct kv_map_info *map;
    uint32_t leaderless = 0;
    if (kv_map_read(kv, true, &map, r) != KV_OK) return UINT32_MAX;
    for (uint32_t i = 0; i < map->partition_count; i++) {
        const struct kv_partition_info *p = &map->partitions[i];
        leaderless += p->leader == 0;
        if (p->keyspace == KV_KEYSPACE_DEFAULT) starts[kv_key_slot(p->from)] = true;
    }
    return leaderless;
}

static bool split_at(struct kv *kv, uint32_t slot, struct kv_result *r)
{
    struct kv_key key;
    kv_key_slot_start(KV_KEYSPACE_DEFAULT, (uint16_t)slot, &key);
    struct kv_slice arg = kv_key_slice(&key);
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        enum kv_err err = kv_admin(kv, 0, KV_OP_KVSPLIT, &arg, 1, r);
        /* One that was repeated after a "maybe" finds that a partition begins there. */
        if (err == KV_OK || err == KV_CONDITION) return true;
        pause_ms(PAUSE_MS);
    }
    return false;
}

int main(int argc, char **argv)
{
    static bool starts[KV_SLOTS];
    char why[KV_TEXT_BYTES];
    struct kv *kv;
    struct kv_result r = {0};
    uint32_t count = argc == 4 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0;
    if (count < 1 || count > KV_SLOTS) {
        fputs("usage: splits HOST:PORT,.. KEYFILE COUNT\n", stderr);
        return 2;
    }
    struct kv_options o = {.addresses = argv[1], .key_file = argv[2]};
    if (kv_open(&o, &kv, why) != KV_OK) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    int code = 1;
    uint32_t have = 0;
    if (starts_read(kv, starts, &r) == UINT32_MAX) goto fail;
    for (uint32_t slot = 0; slot < KV_SLOTS; slot++) have += starts[slot];
    /* The coarse cuts first, so that each halves what it meets. */
    for (uint32_t step = KV_SLOTS; step > 0 && have < count; step /= 2)
        for (uint32_t slot = 0; slot < KV_SLOTS && have < count; slot += step) {
            if (starts[slot]) continue;
            if (!split_at(kv, slot, &r)) goto fail;
            starts[slot] = true;
            have++;
        }
    for (int tries = 0; starts_read(kv, starts, &r) != 0; tries++) {
        if (tries == TRIES_MAX) goto fail;
        pause_ms(PAUSE_MS);
    }
    printf("%" PRIu32 " partitions\n", have);
    code = 0;
fail:
    if (code != 0) fprintf(stderr, "splits: %" PRIu32 " partitions, then: %s\n", have, r.text);
    kv_close(kv);
    return code;
}

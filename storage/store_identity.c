#include <stdio.h>

#include "client/base/endian.h"
#include "client/base/hash.h"
#include "storage/command.h"
#include "storage/store_impl.h"

/* `identity`, 40 bytes, little-endian, written once, and again should it be found impaired:
 *
 *    0  8 B  magic "kvstore\n"
 *    8  u32  format
 *   12  u32  node id
 *   16  u64  store id, random: peers refuse a known node that returns with another (R4)
 *   24  u32  flags: 1 = made when the cluster began, 2 = impaired: it may have forgotten replicas that it held
 *   28  u32  how often it was found so; 0: once, if the flag says so
 *   32  u64  XXH3-64 over bytes 0..31
 *
 * It is the first thing in a directory, durable before anything else is written there: a
 * directory with a log or a checkpoint but no identity has lost a file. */
enum { IDENTITY_BYTES = 40,
       IDENTITY_FORMAT = 1,
       IDENTITY_ORIGINAL = 1,
       IDENTITY_IMPAIRED = 2 };
static const char identity_name[] = "identity", identity_new[] = "identity.tmp";
static const char identity_magic[8] = {'k', 'v', 's', 't', 'o', 'r', 'e', '\n'};

static enum kv_err identity_save(struct store *s)
{
    uint8_t bytes[IDENTITY_BYTES] = {0};
    memcpy(bytes, identity_magic, sizeof identity_magic);
    le32_put(bytes + 8, IDENTITY_FORMAT);
    le32_put(bytes + 12, s->node_id);
    le64_put(bytes + 16, s->id);
    le32_put(bytes + 24, (s->is_original ? IDENTITY_ORIGINAL : 0u) | (s->impairments > 0 ? IDENTITY_IMPAIRED : 0u));
    le32_put(bytes + 28, s->impairments);
    le64_put(bytes + 32, kv_hash64(kv_slice(bytes, 32), 0));
    return disk_replace(s->o.disk, identity_name, identity_new, kv_slice(bytes, sizeof bytes));
}

static enum kv_err identity_create(struct store *s, uint64_t id)
{
    s->id = id;
    s->fresh = true;
    s->is_original = s->o.is_original;
    return identity_save(s);
}

enum kv_err identity_impair(struct store *s)
{
    if (s->impairments < UINT32_MAX) s->impairments++;
    return identity_save(s);
}

uint64_t store_birthmark(const struct store *s)
{
    if (s->impairments == 0) return s->is_original ? STORE_ORIGINAL : s->id;
    uint8_t name[12];
    le64_put(name, s->id);
    le32_put(name + 8, s->impairments);
    return kv_hash64(kv_slice(name, sizeof name), 0);
}

static enum kv_err identity_check(struct store *s, const uint8_t *bytes, size_t got)
{
    bool intact =
        got == IDENTITY_BYTES && le64_get(bytes + 32) == kv_hash64(kv_slice(bytes, 32), 0);
    if (got < 12 || memcmp(bytes, identity_magic, sizeof identity_magic) != 0) {
        store_damage_set(s, "identity: not a store's identity file");
        return KV_CORRUPT;
    }
    /* The format stands before all that a later one may lay out otherwise. */
    if (le32_get(bytes + 8) > IDENTITY_FORMAT) {
        store_damage_set(s, "identity: format %u, this program knows %u", le32_get(bytes + 8),
                         IDENTITY_FORMAT);
        return KV_VERSION;
    }
    if (!intact) {
        store_damage_set(s, "identity: the checksum does not match");
        return KV_CORRUPT;
    }
    if (le32_get(bytes + 12) != s->node_id) {
        store_damage_set(s, "identity: the directory belongs to node %u, this is node %u",
                         le32_get(bytes + 12), s->node_id);
        return KV_CONFLICT;
    }
    s->id = le64_get(bytes + 16);
    uint32_t flags = le32_get(bytes + 24), times = le32_get(bytes + 28);
    s->is_original = (flags & IDENTITY_ORIGINAL) != 0;
    s->impairments = (flags & IDENTITY_IMPAIRED) == 0 ? 0 : times > 0 ? times
                                                                      : 1;
    return KV_OK;
}

static void find_orphan(void *context, const char *name, uint64_t size)
{
    (void)size;
    char *orphan = context;
    if (strncmp(name, "log", 3) == 0) snprintf(orphan, SNAPSHOT_FILE_BYTES, "%s", name);
}

enum kv_err identity_load(struct store *s, uint64_t id_seed, bool state_is_empty)
{
    struct disk *d = s->o.disk;
    struct disk_file f;
    enum kv_err err = d->ops->open(d, identity_name, false, &f);
    if (err == KV_NOT_FOUND) {
        char orphan[SNAPSHOT_FILE_BYTES] = "";
        err = d->ops->list(d, find_orphan, orphan);
        if (err != KV_OK) return err;
        if (orphan[0] == '\0' && state_is_empty) return identity_create(s, id_seed);
        store_damage_set(s, "identity: missing beside %s", orphan[0] != '\0' ? orphan : "state/");
        return KV_CORRUPT;
    }
    if (err != KV_OK) return err;
    uint8_t bytes[IDENTITY_BYTES];
    size_t got = 0;
    err = d->ops->read(d, f, 0, bytes, sizeof bytes, &got);
    enum kv_err closed = d->ops->close(d, f);
    if (err == KV_OK) err = closed;
    return err == KV_OK ? identity_check(s, bytes, got) : err;
}

#include <stdio.h>
#include <stdlib.h>

#include "client/base/endian.h"
#include "client/base/hash.h"
#include "server/siblings.h"

/* `workers` in the data directory, little-endian, written whole before the first start of several; where it is not, there is one:
 *
 *    0  8 B  magic "kvworks\n"
 *    8  u32  format
 *   12  u32  workers
 *   16  u64  store id of each, of worker 0 first
 *       u64  XXH3-64 over all before
 *
 * Each worker K above 0 has a store of its own in worker-K/, as complete as that of a node. All of them are one directory: who
 * lost one has forgotten votes (R4), so it does not start with an empty one in its place. */
enum { FILE_FORMAT = 1,
       FILE_HEAD_BYTES = 16,
       FILE_BYTES_MAX = FILE_HEAD_BYTES + 8 * WORKERS_MAX + 8 };
static const char file_name[] = "workers", file_new[] = "workers.tmp";
static const char file_magic[8] = {'k', 'v', 'w', 'o', 'r', 'k', 's', '\n'};

struct record {
    uint32_t count;
    uint64_t stores[WORKERS_MAX];
};

static size_t record_encode(const struct record *r, uint8_t out[FILE_BYTES_MAX])
{
    size_t size = FILE_HEAD_BYTES + 8 * (size_t)r->count;
    memcpy(out, file_magic, sizeof file_magic);
    le32_put(out + 8, FILE_FORMAT);
    le32_put(out + 12, r->count);
    for (uint32_t i = 0; i < r->count; i++) le64_put(out + FILE_HEAD_BYTES + 8 * i, r->stores[i]);
    le64_put(out + size, kv_hash64(kv_slice(out, size), 0));
    return size + 8;
}

static enum kv_err record_decode(const uint8_t *p, size_t size, struct record *out)
{
    if (size < FILE_HEAD_BYTES + 8 || memcmp(p, file_magic, sizeof file_magic) != 0) return KV_CORRUPT;
    if (le32_get(p + 8) > FILE_FORMAT) return KV_VERSION;
    *out = (struct record){.count = le32_get(p + 12)};
    bool intact = out->count >= 1 && out->count <= WORKERS_MAX && size == FILE_HEAD_BYTES + 8 * (size_t)out->count + 8 &&
                  le64_get(p + size - 8) == kv_hash64(kv_slice(p, size - 8), 0);
    if (!intact) return KV_CORRUPT;
    for (uint32_t i = 0; i < out->count; i++) out->stores[i] = le64_get(p + FILE_HEAD_BYTES + 8 * i);
    return KV_OK;
}

/* KV_NOT_FOUND: no such file. */
static enum kv_err record_read(struct disk *d, struct record *out)
{
    uint8_t bytes[FILE_BYTES_MAX + 1];
    struct disk_file f;
    size_t got = 0;
    enum kv_err err = d->ops->open(d, file_name, false, &f);
    if (err != KV_OK) return err;
    err = d->ops->read(d, f, 0, bytes, sizeof bytes, &got);
    if (err == KV_OK) err = record_decode(bytes, got, out);
    (void)d->ops->close(d, f);
    return err;
}

static enum kv_err record_write(struct disk *d, const struct record *r)
{
    uint8_t bytes[FILE_BYTES_MAX];
    size_t size = record_encode(r, bytes);
    return disk_replace(d, file_name, file_new, kv_slice(bytes, size));
}

static bool was_used(const struct worker *w)
{
    uint32_t cursor = 0, group;
    return store_group_next_known(w->store, &cursor, &group);
}

enum kv_err workers_check(struct worker *w, char *why, size_t why_size)
{
    struct record r = {.count = 1};
    enum kv_err err = record_read(w->o.disk, &r);
    if (err == KV_NOT_FOUND) {
        if (siblings_count(w) == 1 || !was_used(w)) return KV_OK;
    } else if (err != KV_OK) {
        (void)snprintf(why, why_size, "%s/%s: %s", w->config->node_data, file_name, kv_err_text(err));
        return err;
    }
    if (r.count == siblings_count(w)) return KV_OK;
    (void)snprintf(why, why_size,
                   "%s holds the data of %u worker%s, not of %u; next: start it with --workers %u, or, while the other nodes hold all of its partitions, "
                   "empty the directory but for node.key and let them fill it again",
                   w->config->node_data, r.count, r.count == 1 ? "" : "s", siblings_count(w), r.count);
    return KV_CONFLICT;
}

enum kv_err worker_record(struct worker *const *workers, uint32_t count, char *why, size_t why_size)
{
    struct worker *first = workers[0];
    struct record was, now = {.count = count};
    if (count == 1) return KV_OK;
    for (uint32_t i = 0; i < count; i++) now.stores[i] = store_id(workers[i]->store);
    enum kv_err err = record_read(first->o.disk, &was);
    if (err == KV_NOT_FOUND) err = record_write(first->o.disk, &now);
    else
        for (uint32_t i = 0; err == KV_OK && i < count; i++) {
            if (was.stores[i] == now.stores[i]) continue;
            (void)snprintf(why, why_size,
                           "%s/worker-%u is not the directory that belongs there: it was lost or replaced; next: put it back, or, while the other nodes "
                           "hold all of this one's partitions, empty %s but for node.key and let them fill it again",
                           first->config->node_data, i, first->config->node_data);
            return KV_CONFLICT;
        }
    if (err != KV_OK) (void)snprintf(why, why_size, "%s/%s: %s", first->config->node_data, file_name, kv_err_text(err));
    return err;
}

#include "server/keyspaces.h"

#include <stdlib.h>

#include "client/base/text.h"
#include "server/exec_directory.h"
#include "server/map.h"
#include "server/nodes.h"
#include "server/peer_codec.h"
#include "server/seats.h"
#include "server/siblings.h"
#include "server/transfer.h"

/* Rows are few and change seldom, so every change reads them all: there is one way to know something, also
 * after a restart or a snapshot. */
struct keyspaces {
    struct kv_arena memory;   /* of the list */
    struct kv_keyspace *list; /* by id; [0] is `default` */
    uint32_t count, next_id;
    uint64_t directory; /* index of the entry that changed it last */
    bool known;         /* from a replica of partition 0, or told */
    bool unswept;       /* partitions of dropped ones may be left */
    struct store_destroy destroy;
    struct kv_key from, to; /* of destroy */
    struct worker *w;
    bool destroying;
};

struct keyspaces *keyspaces_create(struct worker *w)
{
    struct keyspaces *k = calloc(1, sizeof *k);
    if (k == NULL) return NULL;
    k->w = w;
    k->next_id = EXEC_KEYSPACE_FIRST;
    k->list = kv_arena_alloc(&k->memory, sizeof *k->list);
    if (k->list == NULL) {
        free(k);
        return NULL;
    }
    k->list[0] = exec_keyspace_default;
    k->count = 1;
    return k;
}

void keyspaces_destroy(struct keyspaces *k)
{
    if (k == NULL) return;
    kv_arena_free(&k->memory);
    free(k);
}

/* ---- reading the rows ---- */

/* The payload of a row of partition 0, in the arena. KV_NOT_FOUND. */
static enum kv_err row_read(struct worker *w, struct kv_slice row, struct kv_arena *arena, struct value *v)
{
    struct kv_key key;
    struct kv_slice bytes;
    enum kv_err err = kv_key_encode(&kv_key_rule_system, row, &key);
    if (err == KV_OK) err = store_get(w->store, STORE_DATA, kv_key_slice(&key), kv_slice(NULL, 0), &bytes);
    if (err == KV_OK) err = value_read(kv_key_slice(&key), bytes, v);
    if (err != KV_OK) return err;
    v->payload = kv_arena_copy(arena, v->payload);
    return v->payload.data == NULL ? KV_NO_SPACE : KV_OK;
}

static enum kv_err rows_read(struct worker *w, struct keyspaces *into)
{
    struct value names = {0}, v;
    uint64_t next = EXEC_KEYSPACE_FIRST;
    uint32_t count = 1;
    enum kv_err err = row_read(w, kv_str(EXEC_ROW_NAMES), &into->memory, &names);
    if (err != KV_OK && err != KV_NOT_FOUND) return err;
    err = row_read(w, kv_str(EXEC_ROW_KEYSPACE), &into->memory, &v);
    if (err != KV_OK && err != KV_NOT_FOUND) return err;
    if (err == KV_OK && !kv_parse_u64(v.payload, &next)) return KV_CORRUPT;
    struct kv_slice rest = names.payload, name = {0};
    while (exec_names_next(&rest, &name)) count++;
    into->list = kv_arena_alloc(&into->memory, count * sizeof *into->list);
    if (into->list == NULL) return KV_NO_SPACE;
    into->list[into->count++] = exec_keyspace_default;
    uint8_t own[EXEC_ROW_NAME_BYTES_MAX];
    err = row_read(w, exec_keyspace_row(exec_keyspace_default.name, own), &into->memory, &v);
    if (err == KV_OK) err = kv_keyspace_decode(v.payload, &into->memory, &into->list[0]);
    if (err != KV_OK && err != KV_NOT_FOUND) return err;
    for (rest = names.payload; exec_names_next(&rest, &name);) {
        uint8_t row[EXEC_ROW_NAME_BYTES_MAX];
        err = row_read(w, exec_keyspace_row(name, row), &into->memory, &v);
        if (err == KV_OK) err = kv_keyspace_decode(v.payload, &into->memory, &into->list[into->count]);
        if (err != KV_OK) return err;
        into->count++;
    }
    into->next_id = (uint32_t)next;
    into->directory = names.version_index;
    return KV_OK;
}

static void take_over(struct worker *w, const struct keyspaces *fresh)
{
    struct keyspaces *k = w->keyspaces;
    kv_arena_free(&k->memory);
    k->memory = fresh->memory;
    k->list = fresh->list;
    k->count = fresh->count;
    k->next_id = fresh->next_id;
    k->directory = fresh->directory;
    k->unswept = true;
    map_forget(w);
}

void keyspaces_load(struct worker *w)
{
    struct keyspaces fresh = {0};
    nodes_load(w);
    enum kv_err err = rows_read(w, &fresh);
    if (err != KV_OK) {
        kv_arena_free(&fresh.memory);
        struct group *g = worker_group(w, KV_PARTITION_SYSTEM);
        JOURNAL(w->journal, store, ERROR, "keyspaces-unread", "err=%s", kv_err_name(err));
        if (err == KV_NO_SPACE) abort(); /* out of memory: nothing would be right from here on */
        if (g != NULL && !w->poisoned) group_corrupt(g, "a row of a keyspace is not what was written", g->applied);
        return;
    }
    take_over(w, &fresh);
    struct group *g = worker_group(w, KV_PARTITION_SYSTEM);
    if (g == NULL) return;
    w->keyspaces->known = w->keyspaces->known || g->applied > 0;
    if (w->siblings != NULL) keyspaces_tell(w, w->node_id);
    map_tell(g);
}

/* ---- telling and learning ---- */

/* A replica of partition 0 that waits for its rows, or is on its way out, says nothing. */
static bool reads_its_own(const struct worker *w)
{
    const struct group *g = worker_group(w, KV_PARTITION_SYSTEM);
    return g != NULL && g->applied > 0 && !g->installing && !g->rowless;
}

/* `default`, which all know until somebody alters it. */
static bool is_as_ever(const struct kv_keyspace *k)
{
    return k->replicas == 0 && k->zone_count == 0;
}

void keyspaces_tell(struct worker *w, uint32_t node)
{
    const struct keyspaces *k = w->keyspaces;
    if (!keyspaces_are_known(w)) return;
    struct kv_buf *bytes = calloc(k->count, sizeof *bytes);
    struct kv_slice *slices = calloc(k->count, sizeof *slices);
    struct peer_directory d = {.version = k->directory, .next = k->next_id, .keyspaces = slices};
    bool good = bytes != NULL && slices != NULL;
    for (uint32_t i = is_as_ever(&k->list[0]); good && i < k->count; i++) {
        kv_keyspace_encode(&k->list[i], &bytes[i]);
        good = !bytes[i].failed;
        slices[d.count++] = kv_buf_slice(&bytes[i]);
    }
    if (good) peers_send_directory(w->peers, node, &d); /* else again with the next change, or link */
    for (uint32_t i = 0; bytes != NULL && i < k->count; i++) kv_buf_free(&bytes[i]);
    free(bytes);
    free(slices);
}

void keyspaces_learn(struct worker *w, const struct peer_directory *d)
{
    struct keyspaces *k = w->keyspaces, fresh = {.next_id = d->next, .directory = d->version};
    if (reads_its_own(w) || d->version < k->directory || (k->known && d->version == k->directory && d->next == k->next_id)) return;
    fresh.list = kv_arena_alloc(&fresh.memory, (d->count + 1) * sizeof *fresh.list);
    bool good = fresh.list != NULL;
    if (good) fresh.list[fresh.count++] = exec_keyspace_default;
    for (uint32_t i = 0; good && i < d->count; i++) {
        struct kv_slice bytes = kv_arena_copy(&fresh.memory, d->keyspaces[i]);
        struct kv_keyspace *next = &fresh.list[fresh.count];
        good = bytes.data != NULL && kv_keyspace_decode(bytes, &fresh.memory, next) == KV_OK;
        if (good && next->id == KV_KEYSPACE_DEFAULT) fresh.list[0] = *next;
        else fresh.count++;
    }
    if (!good) {
        kv_arena_free(&fresh.memory);
        return;
    }
    take_over(w, &fresh);
    k->known = true;
    if (w->siblings != NULL) keyspaces_tell(w, w->node_id);
}

bool keyspaces_are_known(const struct worker *w)
{
    return w->keyspaces->known || reads_its_own(w);
}

const struct kv_keyspace *keyspaces_find(const struct worker *w, uint32_t id)
{
    const struct keyspaces *k = w->keyspaces;
    uint32_t low = 0, high = k->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (k->list[middle].id == id) return &k->list[middle];
        if (k->list[middle].id < id) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

const struct kv_keyspace *keyspaces_named(const struct worker *w, struct kv_slice name)
{
    for (uint32_t i = 0; i < w->keyspaces->count; i++)
        if (kv_slice_eq(w->keyspaces->list[i].name, name)) return &w->keyspaces->list[i];
    return NULL;
}

bool keyspaces_is_gone(const struct worker *w, uint32_t id)
{
    return id >= EXEC_KEYSPACE_FIRST && id < w->keyspaces->next_id && keyspaces_find(w, id) == NULL;
}

const struct kv_keyspace *keyspaces_all(const struct worker *w, uint32_t *count, uint64_t *directory)
{
    *count = w->keyspaces->count;
    *directory = keyspaces_are_known(w) ? w->keyspaces->directory + 1 : 0; /* nothing was ever created: 1 */
    return w->keyspaces->list;
}

/* ---- what is left of dropped ones ---- */

static void destroyed(struct store_destroy *d, enum kv_err err)
{
    struct keyspaces *k = container_of(d, struct keyspaces, destroy);
    k->destroying = false;
    if (err == KV_OK)
        JOURNAL(k->w->journal, store, INFO, "partition-dropped", "group=%u", d->group);
    seats_tell_gone(k->w, d->group);
}

static void destroy_begin(struct worker *w, uint32_t id, const struct descriptor *d)
{
    struct keyspaces *k = w->keyspaces;
    struct group *g = worker_group(w, id);
    if (g != NULL) worker_remove_group(w, g);
    map_forget(w);
    k->from = d->from;
    k->to = d->to;
    k->destroy = (struct store_destroy){.done = destroyed, .group = id, .range = {kv_key_slice(&k->from), kv_key_slice(&k->to)}};
    k->destroying = true;
    store_group_destroy(w->store, &k->destroy);
}

void keyspaces_look_again(struct worker *w)
{
    w->keyspaces->unswept = true;
}

void keyspaces_tick(struct worker *w)
{
    struct keyspaces *k = w->keyspaces;
    if (!k->unswept || k->destroying || w->poisoned || w->stopping) return;
    uint32_t cursor = 0, id;
    bool left = false;
    while (store_group_next(w->store, &cursor, &id)) {
        struct store_group sg;
        struct descriptor d;
        if (!store_group_get(w->store, id, &sg) || sg.state == CHECKPOINT_GROUP_TOMBSTONE) continue;
        if (descriptor_decode(sg.descriptor, &d) != KV_OK || !keyspaces_is_gone(w, d.keyspace)) continue;
        const struct group *g = worker_group(w, id);
        if ((g != NULL && g->installing) || transfer_is_inbound(w, id)) { /* it runs to its end first */
            left = true;
            continue;
        }
        destroy_begin(w, id, &d);
        return;
    }
    k->unswept = left;
}

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "client/base/endian.h"
#include "client/base/text.h"
#include "client/wire/message.h"
#include "storage/lmdb_check.h"
#include "storage/value.h"
#include "tools/kvctl/output.h"
#include "tools/kvlog/salvage.h"

/* Pass 5: the rows of one keyspace, of one store behind the other, in each those that its log made in place of those of its
 * state. Two stores may have rows of one key: of a replica that was moving from one worker to another. Those count whose replica is
 * ahead. */
enum { OUT_BYTES = 256 << 10 };

struct out {
    struct salvage_rows *rows;
    const struct salvage *stores, *s;  /* s: the one whose rows these are */
    const struct salvage_group **near; /* of each store the group that was met last: keys come in order */
    uint32_t count;
    struct kv_buf text;
    struct memtable_cursor at;
    struct store_row next; /* of the newer rows */
    bool has_next, deleted, failed;
    enum kv_key_kind kind;
    uint64_t wall_ms;
};

static bool is_whole(const struct salvage_group *g)
{
    return g->has_mark && !g->installing;
}

bool salvage_is_ahead(const struct salvage_group *a, const struct salvage_group *b)
{
    if (!is_whole(a) || !is_whole(b)) return is_whole(a);
    if (a->descriptor.range_epoch != b->descriptor.range_epoch) return a->descriptor.range_epoch > b->descriptor.range_epoch;
    return a->applied > b->applied;
}

static bool holds(const struct salvage_group *g, struct kv_slice key)
{
    struct kv_range range = {kv_key_slice(&g->descriptor.from), kv_key_slice(&g->descriptor.to)};
    return is_whole(g) && kv_range_has(range, key);
}

/* Whose key it is in that store; NULL: nobody's. */
static const struct salvage_group *group_at(struct out *o, uint32_t store, struct kv_slice key)
{
    const struct salvage *s = &o->stores[store];
    if (o->near[store] != NULL && holds(o->near[store], key)) return o->near[store];
    const struct salvage_group *best = NULL;
    for (size_t i = 0; i < s->group_count; i++)
        if (holds(s->groups[i], key) && (best == NULL || salvage_is_ahead(s->groups[i], best))) best = s->groups[i];
    return o->near[store] = best;
}

static bool is_anothers(struct out *o, struct kv_slice key)
{
    uint32_t own_at = (uint32_t)(o->s - o->stores);
    const struct salvage_group *own = o->count == 1 ? NULL : group_at(o, own_at, key);
    for (uint32_t i = 0; o->count > 1 && i < o->count; i++) {
        const struct salvage_group *g = i == own_at ? NULL : group_at(o, i, key);
        if (g != NULL && (own == NULL || salvage_is_ahead(g, own) || (i < own_at && !salvage_is_ahead(own, g)))) return true;
    }
    return false;
}

/* Rows of partition 0 come before all others, in the store of worker 0, and say what the keyspaces are called. */
static void keyspace_note(struct out *o, struct kv_slice key, struct kv_slice row)
{
    struct salvage_rows *rows = o->rows;
    struct kv_arena arena = {0};
    struct kv_keyspace k;
    struct value v;
    struct kv_slice user = kv_key_user(KV_KEY_RANGE, key);
    uint64_t id;
    if (user.size < 2 || memcmp(user.data, "k/", 2) != 0 || value_read(key, row, &v) != KV_OK ||
        kv_keyspace_decode(v.payload, &arena, &k) != KV_OK) {
        kv_arena_free(&arena);
        return;
    }
    bool is_id = kv_parse_u64(kv_str(rows->wanted), &id) && id == k.id;
    if (is_id || kv_slice_eq(k.name, kv_str(rows->wanted))) {
        rows->keyspace = k.id;
        o->kind = k.kind;
    } else {
        kv_buf_printf(&rows->names, " %.*s", (int)k.name.size, (const char *)k.name.data);
    }
    kv_arena_free(&arena);
}

static bool text_flush(struct out *o)
{
    struct kv_slice t = kv_buf_slice(&o->text);
    if (o->text.failed || (t.size > 0 && fwrite(t.data, 1, t.size, stdout) != t.size)) o->failed = true;
    kv_buf_clear(&o->text);
    return !o->failed;
}

static bool row_put(struct out *o, struct kv_slice key, struct kv_slice row)
{
    struct value v;
    char name[270];
    if (key.size < 4 || is_anothers(o, key)) return true;
    uint32_t keyspace = be32_get(key.data);
    if (keyspace == KV_KEYSPACE_SYSTEM) {
        keyspace_note(o, key, row);
        return true;
    }
    if (keyspace != o->rows->keyspace) {
        o->rows->others++;
        return true;
    }
    if (value_read(key, row, &v) != KV_OK) {
        kvlog_key_text(key, name, sizeof name);
        fprintf(stderr, "%skey %s: the value is not what was written: lost\n", o->s->k->place, name);
        o->rows->rotten++;
        return true;
    }
    if (v.expire_ms != 0 && v.expire_ms <= o->wall_ms) return true;
    struct output_row out = {.key = kv_key_user(o->kind, key),
                             .value = v.payload,
                             .version = {v.version_epoch, v.version_index},
                             .expire_ms = v.expire_ms};
    output_json_row(&o->text, &out, o->wall_ms);
    o->rows->rows++;
    return o->text.size < OUT_BYTES || text_flush(o);
}

static void next_newer(struct out *o)
{
    o->has_next = memtable_next(&o->at, &o->next, &o->deleted);
}

/* The newer rows before `key`, or all of them. */
static bool newer_until(struct out *o, const struct kv_slice *key)
{
    for (; o->has_next && (key == NULL || kv_slice_cmp(o->next.key, *key) < 0); next_newer(o))
        if (!o->deleted && !row_put(o, o->next.key, o->next.value)) return false;
    return true;
}

static enum kv_err on_row(void *context, const char *database, struct kv_slice key, struct kv_slice value, uint64_t page)
{
    struct out *o = context;
    (void)page;
    if (strcmp(database, "data") != 0) return KV_OK;
    if (!newer_until(o, &key)) return KV_IO;
    if (o->has_next && kv_slice_eq(o->next.key, key)) return KV_OK; /* it comes with the next */
    if (memtable_range_has(o->s->newer, STORE_DATA, key)) return KV_OK;
    return row_put(o, key, value) ? KV_OK : KV_IO;
}

static enum kv_err store_out(struct out *o)
{
    struct lmdb_walk w = {.context = o, .row = on_row};
    if (!memtable_seek(o->s->newer, STORE_DATA, kv_slice(NULL, 0), &o->at)) return KV_BUSY;
    next_newer(o);
    enum kv_err err = salvage_walk(o->s, &w);
    if (err == KV_OK && (!newer_until(o, NULL) || !text_flush(o) || fflush(stdout) != 0)) err = KV_IO;
    return err;
}

enum kv_err salvage_rows_out(const struct salvage *stores, uint32_t count, struct salvage_rows *rows, uint32_t *at)
{
    const struct salvage_group *near[KVLOG_STORES_MAX] = {0};
    struct out o = {.rows = rows, .stores = stores, .near = near, .count = count, .kind = KV_KEY_HASH, .wall_ms = (uint64_t)time(NULL) * 1000};
    enum kv_err err = KV_OK;
    if (strcmp(rows->wanted, "default") == 0) rows->keyspace = KV_KEYSPACE_DEFAULT;
    else kv_buf_append_text(&rows->names, " default");
    for (uint32_t i = 0; i < count && err == KV_OK; i++) {
        o.s = &stores[ *at = i];
        err = store_out(&o);
    }
    kv_buf_free(&o.text);
    return err;
}

#include "storage/lmdb_check.h"

#include <stdio.h>

#include "storage/mark.h"

struct check {
    struct lmdb_check *out;
    struct lmdb_walk walk;
    bool (*is_intact)(enum store_class class, struct kv_slice key, struct kv_slice value);
    bool too_many;
};

void lmdb_damage_text(const struct lmdb_damage *d, char *out, size_t size)
{
    snprintf(out, size, "state/data.mdb: offset %llu: page %llu%s%s: %s", (unsigned long long)d->offset,
             (unsigned long long)d->page, d->database[0] != '\0' ? " of " : "", d->database, d->what);
}

static void on_damage(void *context, const struct lmdb_damage *d)
{
    struct check *k = context;
    k->out->damages++;
    if (k->out->why[0] == '\0') lmdb_damage_text(d, k->out->why, sizeof k->out->why);
}

static void row_damaged(struct check *k, const char *database, uint64_t page, const char *what)
{
    struct lmdb_damage d = {.database = database, .page = page, .offset = page * k->walk.page_bytes, .what = what};
    on_damage(k, &d);
}

static enum kv_err on_row(void *context, const char *database, struct kv_slice key, struct kv_slice value, uint64_t page)
{
    struct check *k = context;
    struct checkpoint_mark m;
    if (strcmp(database, "marks") == 0 && !mark_read(key, value, &m))
        row_damaged(k, database, page, "a mark's checksum does not match");
    if (k->is_intact == NULL || strcmp(database, "data") != 0 || k->is_intact(STORE_DATA, key, value)) return KV_OK;
    if (k->out->rotten_count == LMDB_ROTTEN_MAX || key.size > sizeof k->out->rotten[0].bytes) {
        k->too_many = true;
        return KV_OK;
    }
    if (k->out->why[0] == '\0') {
        row_damaged(k, database, page, "a row is not what was written");
        k->out->damages--;
    }
    struct kv_key *at = &k->out->rotten[k->out->rotten_count++];
    at->size = (uint16_t)key.size;
    memcpy(at->bytes, key.data, key.size);
    return KV_OK;
}

enum kv_err lmdb_check(const char *path, uint64_t pages_max,
                       bool (*is_intact)(enum store_class class, struct kv_slice key, struct kv_slice value),
                       struct lmdb_check *out)
{
    struct check k = {.out = out, .is_intact = is_intact, .walk = {.row = on_row, .damage = on_damage, .pages_max = pages_max}};
    k.walk.context = &k;
    *out = (struct lmdb_check){0};
    enum kv_err err = lmdb_walk(path, &k.walk);
    out->inner_only = k.walk.inner_only;
    return err == KV_OK && (out->damages > 0 || k.too_many) ? KV_CORRUPT : err;
}

#include <inttypes.h>
#include <stdio.h>

#include "client/base/key.h"
#include "storage/lmdb_check.h"
#include "storage/mark.h"
#include "storage/value.h"
#include "tools/kvlog/kvlog.h"

/* The state, page by page and without LMDB, which a damaged page would lead astray. */
enum { TEXT_BYTES = 270 };

struct look {
    const struct kvlog *k;
    struct lmdb_walk walk;
};

static void on_page(void *context, const char *database, uint64_t page, bool is_leaf, uint32_t entries, struct kv_slice first)
{
    const struct look *l = context;
    char text[TEXT_BYTES];
    kvlog_key_text(first, text, sizeof text);
    printf("%sstate/data.mdb:%-9" PRIu64 " page %-6" PRIu64 " %s %s, %" PRIu32 " entries from %s\n", l->k->place, page * l->walk.page_bytes,
           page, database, is_leaf ? "leaf" : "inner", entries, text);
}

void kvlog_damage_print(FILE *to_file, const struct kvlog *k, const struct lmdb_damage *d)
{
    char line[200], from[TEXT_BYTES], to[TEXT_BYTES];
    lmdb_damage_text(d, line, sizeof line);
    fprintf(to_file, "%s%s", k->place, line);
    if (d->has_range) {
        kvlog_key_text(d->from, from, sizeof from);
        kvlog_key_text(d->to, to, sizeof to);
        if (d->from.size > 0 && kv_slice_eq(d->from, d->to)) fprintf(to_file, " (lost: what stands at key %s)", from);
        else fprintf(to_file, " (lost: keys from %s to %s)", d->from.size > 0 ? from : "the first", d->to.size > 0 ? to : "the last");
    }
    putc('\n', to_file);
}

static void on_damage(void *context, const struct lmdb_damage *d)
{
    const struct look *l = context;
    kvlog_damage_print(stdout, l->k, d);
}

static enum kv_err on_row(void *context, const char *database, struct kv_slice key, struct kv_slice value, uint64_t page)
{
    struct look *l = context;
    struct checkpoint_mark m;
    struct value v;
    const char *what = NULL;
    if (strcmp(database, "marks") == 0 && !mark_read(key, value, &m)) what = "a mark's checksum does not match";
    if (strcmp(database, "data") == 0 && value_read(key, value, &v) != KV_OK) what = "a value's checksum does not match";
    if (what == NULL) return KV_OK;
    struct lmdb_damage d = {.database = database, .page = page, .offset = page * l->walk.page_bytes, .what = what, .has_range = true, .from = key, .to = key};
    l->walk.damages++;
    on_damage(l, &d);
    return KV_OK;
}

static enum kv_err look(struct kvlog *k, bool lists_pages, uint64_t *damages)
{
    struct look l = {.k = k, .walk = {.row = on_row, .damage = on_damage}};
    char path[KVLOG_PATH_BYTES + 32];
    int n = snprintf(path, sizeof path, "%s/state/data.mdb", k->directory);
    if (n < 0 || (size_t)n >= sizeof path) return KV_BAD_ARGUMENT;
    if (lists_pages) l.walk.page = on_page;
    l.walk.context = &l;
    enum kv_err err = lmdb_walk(path, &l.walk);
    *damages = l.walk.damages;
    return err == KV_NOT_FOUND || err == KV_CORRUPT ? KV_OK : err;
}

enum kv_err kvlog_state(struct kvlog *k, uint64_t *count)
{
    return look(k, false, count);
}

int kvlog_pages(struct kvlog *k)
{
    uint64_t damages = 0;
    enum kv_err err = look(k, true, &damages);
    if (err != KV_OK) fprintf(stderr, "kvlog: %s/state: %s\n", k->directory, kv_err_text(err));
    return err != KV_OK ? KVLOG_FAILED : damages > 0 ? KVLOG_DAMAGED
                                                     : KVLOG_OK;
}

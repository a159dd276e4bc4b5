#include "tools/kvlog/salvage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "client/base/endian.h"
#include "client/base/text.h"
#include "client/wire/message.h"
#include "storage/lmdb_check.h"
#include "storage/mark.h"
#include "storage/value.h"
#include "tools/kvctl/output.h"

/* What can still be read of a data directory, as JSON lines, and what cannot. In passes, so that
 * memory follows the log behind the last checkpoint and not the data:
 *
 *   1  the state: marks; everything wrong is told
 *   2  the log: entries behind the marks, with truncations and new lives as recovery has them
 *   3  the state: rows of the keys that those entries touch
 *   4  the entries are executed, in each group up to the first that is missing
 *   5  the state again, with those rows in place of its own: out */
enum { TABLE_BYTES = 16 << 20,
       OUT_BYTES = 256 << 10 };

static struct salvage_group *group_of(struct salvage *s, uint32_t id)
{
    for (size_t i = 0; i < s->group_count; i++)
        if (s->groups[i]->group == id) return s->groups[i];
    struct salvage_group *g = calloc(1, sizeof *g);
    void *grown = realloc(s->groups, (s->group_count + 1) * sizeof(void *));
    if (grown != NULL) s->groups = grown;
    if (g == NULL || grown == NULL) {
        s->out_of_memory = true;
        free(g);
        return NULL;
    }
    g->group = id;
    g->first = 1;
    s->groups[s->group_count++] = g;
    return g;
}

/* Pass 1 */

static void damage_tell(void *context, const struct lmdb_damage *d)
{
    struct salvage *s = context;
    s->lost++;
    kvlog_damage_print(stderr, d);
}

bool salvage_describe(struct salvage_group *g, struct kv_slice bytes)
{
    struct descriptor d;
    struct kv_key_rule rule;
    struct kv_slice own = kv_arena_copy(&g->memory, bytes); /* what was there before stays: there are few */
    if (own.data == NULL || descriptor_decode(own, &d) != KV_OK || descriptor_rule(&d, &g->memory, &rule) != KV_OK)
        return false;
    g->descriptor = d;
    g->rule = rule;
    return true;
}

static enum kv_err mark_note(void *context, const char *database, struct kv_slice key, struct kv_slice value, uint64_t page)
{
    struct salvage *s = context;
    struct checkpoint_mark m;
    (void)page;
    if (strcmp(database, "marks") != 0) return KV_OK;
    if (!mark_read(key, value, &m)) {
        s->lost++;
        fprintf(stderr, "state/data.mdb: a mark is damaged: the log of its group cannot be joined to its rows\n");
        return KV_OK;
    }
    struct salvage_group *g = m.state == CHECKPOINT_GROUP_TOMBSTONE ? NULL : group_of(s, m.group);
    if (g == NULL) return KV_OK;
    g->mark = m;
    g->mark.descriptor = kv_slice(NULL, 0);
    g->first = m.index + 1;
    g->installing = m.state == CHECKPOINT_GROUP_INSTALLING;
    g->has_mark = g->installing || salvage_describe(g, m.descriptor);
    return KV_OK;
}

static enum kv_err state_walk(struct salvage *s, struct lmdb_walk *w)
{
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/state/data.mdb", s->k->directory);
    if (n < 0 || (size_t)n >= sizeof path) return KV_BAD_ARGUMENT;
    w->context = s;
    enum kv_err err = lmdb_walk(path, w);
    return err == KV_CORRUPT || err == KV_NOT_FOUND ? KV_OK : err;
}

/* Pass 2 */

static void entries_cut(struct salvage_group *g, uint64_t from)
{
    while (g->count > 0 && g->first + g->count - 1 >= from) free(g->entries[--g->count].bytes);
}

static void entry_note(struct salvage *s, struct salvage_group *g, const struct log_record *r)
{
    if (r->index < g->first) return;
    entries_cut(g, r->index);
    size_t at = (size_t)(r->index - g->first);
    if (at >= g->capacity) {
        size_t capacity = at * 2 + 64;
        struct salvage_entry *grown = realloc(g->entries, capacity * sizeof *grown);
        if (grown == NULL) {
            s->out_of_memory = true;
            return;
        }
        g->entries = grown;
        g->capacity = capacity;
    }
    while (g->count <= at) g->entries[g->count++] = (struct salvage_entry){0}; /* a gap: missing until found */
    uint8_t *copy = malloc(r->bytes.size + 1);
    if (copy == NULL) {
        s->out_of_memory = true;
        return;
    }
    if (r->bytes.size > 0) memcpy(copy, r->bytes.data, r->bytes.size);
    g->entries[at] = (struct salvage_entry){.term = r->term, .bytes = copy, .size = (uint32_t)r->bytes.size};
}

static void on_record(void *context, const struct log_record *r)
{
    struct salvage *s = context;
    struct salvage_group *g = group_of(s, r->group);
    if (g == NULL) return;
    switch (r->kind) {
    case LOG_RECORD_ENTRY:
    case LOG_RECORD_HARD:
        if (r->kind == LOG_RECORD_ENTRY) entry_note(s, g, r);
        g->commit = r->commit > g->commit ? r->commit : g->commit;
        return;
    case LOG_RECORD_TRUNCATE: entries_cut(g, r->index); return;
    case LOG_RECORD_GROUP:
        if ((r->flags & LOG_GROUP_BEGINS) != 0) {
            entries_cut(g, 0);
            g->commit = 0;
        }
        g->commit = r->commit > g->commit ? r->commit : g->commit;
        return;
    case LOG_RECORD_RESET:
    case LOG_RECORD_DESTROY: entries_cut(g, 0); return;
    }
}

static void on_problem(void *context, const struct log_damage *d, bool is_tail)
{
    struct salvage *s = context;
    s->lost += !is_tail;
    fprintf(stderr, "%s: offset %" PRIu64 ": %s%s\n", d->file, d->offset, d->what,
            is_tail ? " (never acknowledged)" : "");
}

/* Pass 3 */

static enum kv_err row_stash(void *context, const char *database, struct kv_slice key, struct kv_slice value, uint64_t page)
{
    struct salvage *s = context;
    struct kv_slice nothing;
    struct store_row row = {.class = STORE_DATA, .key = key, .value = value};
    (void)page;
    if (strcmp(database, "dedup") == 0 && value.size >= STORE_SUB_BYTES) {
        row = (struct store_row){.class = STORE_DEDUP,
                                 .key = key,
                                 .sub = kv_slice(value.data, STORE_SUB_BYTES),
                                 .value = kv_slice(value.data + STORE_SUB_BYTES, value.size - STORE_SUB_BYTES)};
    } else if (strcmp(database, "data") != 0) {
        return KV_OK;
    }
    if (memtable_get(s->wanted, STORE_DATA, key, kv_slice(NULL, 0), &nothing) != MEMTABLE_VALUE) return KV_OK;
    return memtable_put(s->base, &row) ? KV_OK : KV_BUSY;
}

/* Pass 5 */

struct out {
    struct salvage *s;
    struct kv_buf text;
    struct memtable_cursor at;
    struct store_row next; /* of the newer rows */
    bool has_next, deleted;
    uint64_t rows, rotten, wall_ms;
    const char *wanted; /* name or id */
    uint32_t keyspace;  /* its id; 0: not known yet */
    enum kv_key_kind kind;
    uint64_t others;     /* rows of other keyspaces */
    struct kv_buf names; /* of keyspaces met beside it */
    bool failed;
};

/* Rows of partition 0 come before all others, and say what the keyspaces are called. */
static void out_keyspace(struct out *o, struct kv_slice key, struct kv_slice row)
{
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
    bool is_id = kv_parse_u64(kv_str(o->wanted), &id) && id == k.id;
    if (is_id || kv_slice_eq(k.name, kv_str(o->wanted))) {
        o->keyspace = k.id;
        o->kind = k.kind;
    } else {
        kv_buf_printf(&o->names, " %.*s", (int)k.name.size, (const char *)k.name.data);
    }
    kv_arena_free(&arena);
}

static bool out_flush(struct out *o)
{
    struct kv_slice t = kv_buf_slice(&o->text);
    if (o->text.failed || (t.size > 0 && fwrite(t.data, 1, t.size, stdout) != t.size)) o->failed = true;
    kv_buf_clear(&o->text);
    return !o->failed;
}

static bool out_row(struct out *o, struct kv_slice key, struct kv_slice row)
{
    struct value v;
    char name[270];
    if (key.size < 4) return true;
    uint32_t keyspace = be32_get(key.data);
    if (keyspace == KV_KEYSPACE_SYSTEM) {
        out_keyspace(o, key, row);
        return true;
    }
    if (keyspace != o->keyspace) {
        o->others++;
        return true;
    }
    if (value_read(key, row, &v) != KV_OK) {
        kvlog_key_text(key, name, sizeof name);
        fprintf(stderr, "key %s: the value is not what was written: lost\n", name);
        o->rotten++;
        return true;
    }
    if (v.expire_ms != 0 && v.expire_ms <= o->wall_ms) return true;
    struct output_row out = {.key = kv_key_user(o->kind, key),
                             .value = v.payload,
                             .version = {v.version_epoch, v.version_index},
                             .expire_ms = v.expire_ms};
    output_json_row(&o->text, &out, o->wall_ms);
    o->rows++;
    return o->text.size < OUT_BYTES || out_flush(o);
}

static void next_newer(struct out *o)
{
    o->has_next = memtable_next(&o->at, &o->next, &o->deleted);
}

/* The newer rows before `key`, or all of them. */
static bool newer_until(struct out *o, const struct kv_slice *key)
{
    for (; o->has_next && (key == NULL || kv_slice_cmp(o->next.key, *key) < 0); next_newer(o))
        if (!o->deleted && !out_row(o, o->next.key, o->next.value)) return false;
    return true;
}

static enum kv_err row_out(void *context, const char *database, struct kv_slice key, struct kv_slice value, uint64_t page)
{
    struct out *o = context;
    (void)page;
    if (strcmp(database, "data") != 0) return KV_OK;
    if (!newer_until(o, &key)) return KV_IO;
    if (o->has_next && kv_slice_eq(o->next.key, key)) return KV_OK; /* it comes with the next */
    if (memtable_range_has(o->s->newer, STORE_DATA, key)) return KV_OK;
    return out_row(o, key, value) ? KV_OK : KV_IO;
}

static enum kv_err rows_out(struct salvage *s, struct out *o)
{
    char path[4096];
    struct lmdb_walk w = {.context = o, .row = row_out};
    snprintf(path, sizeof path, "%s/state/data.mdb", s->k->directory);
    if (!memtable_seek(s->newer, STORE_DATA, kv_slice(NULL, 0), &o->at)) return KV_BUSY;
    next_newer(o);
    enum kv_err err = lmdb_walk(path, &w);
    if (err == KV_CORRUPT || err == KV_NOT_FOUND) err = KV_OK;
    if (err == KV_OK && (!newer_until(o, NULL) || !out_flush(o) || fflush(stdout) != 0)) err = KV_IO;
    return err;
}

/* The report */

static void group_report(struct salvage *s, const struct salvage_group *g)
{
    uint64_t last = g->count > 0 ? g->first + g->count - 1 : g->first - 1;
    if (!g->has_mark) {
        s->lost += g->count > 0;
        if (g->count > 0)
            fprintf(stderr, "group %" PRIu32 ": %zu log entries up to %" PRIu64 " are not exported: its mark in the state is missing\n",
                    g->group, g->count, last);
        return;
    }
    if (g->installing) {
        s->lost++;
        fprintf(stderr, "group %" PRIu32 ": a snapshot was being installed: its rows are incomplete\n", g->group);
        return;
    }
    if (g->applied < last) {
        s->lost++;
        fprintf(stderr, "group %" PRIu32 ": entry %" PRIu64 " of the log is lost; the %" PRIu64 " behind it, up to %" PRIu64 ", are not exported\n", g->group, g->applied + 1, last - g->applied - 1, last);
    } else if (g->applied < g->commit) {
        s->lost++;
        fprintf(stderr, "group %" PRIu32 ": entries %" PRIu64 " to %" PRIu64 " were committed and are lost\n", g->group,
                g->applied + 1, g->commit);
    } else if (g->applied > g->commit && g->commit > 0) {
        fprintf(stderr, "group %" PRIu32 ": entries %" PRIu64 " to %" PRIu64 " are exported; whether they were committed is not known here\n",
                g->group, g->commit + 1, g->applied);
    }
}

static enum kv_err salvage_read(struct salvage *s)
{
    struct lmdb_walk first = {.row = mark_note, .damage = damage_tell}, again = {.row = row_stash};
    enum kv_err err = state_walk(s, &first);
    if (err == KV_OK) err = log_scan(s->k->disk, on_record, on_problem, s);
    if (err != KV_OK) return err;
    salvage_keys(s);
    err = state_walk(s, &again);
    if (err == KV_OK) salvage_replay(s);
    return err == KV_OK && s->out_of_memory ? KV_BUSY : err;
}

static void salvage_free(struct salvage *s)
{
    for (size_t i = 0; i < s->group_count; i++) {
        entries_cut(s->groups[i], 0);
        free(s->groups[i]->entries);
        kv_arena_free(&s->groups[i]->memory);
        free(s->groups[i]);
    }
    free(s->groups);
    memtable_destroy(s->wanted);
    memtable_destroy(s->base);
    memtable_destroy(s->newer);
}

int kvlog_salvage(struct kvlog *k, const char *keyspace)
{
    struct salvage s = {.k = k, .wanted = memtable_create(TABLE_BYTES), .base = memtable_create(TABLE_BYTES), .newer = memtable_create(TABLE_BYTES)};
    struct out o = {.s = &s, .wall_ms = (uint64_t)time(NULL) * 1000, .wanted = keyspace == NULL ? "default" : keyspace, .kind = KV_KEY_HASH};
    if (strcmp(o.wanted, "default") == 0) o.keyspace = KV_KEYSPACE_DEFAULT;
    else kv_buf_append_text(&o.names, " default");
    enum kv_err err = s.wanted == NULL || s.base == NULL || s.newer == NULL ? KV_BUSY : salvage_read(&s);
    if (err == KV_OK) err = rows_out(&s, &o);
    kv_buf_free(&o.text);
    for (size_t i = 0; i < s.group_count && err == KV_OK; i++) group_report(&s, s.groups[i]);
    uint64_t lost = s.lost + o.rotten;
    bool is_unknown = err == KV_OK && o.keyspace == 0;
    if (o.others > 0)
        fprintf(stderr, "%" PRIu64 " rows of other keyspaces are not exported; next: kvlog salvage %s NAME, for each of:%.*s\n", o.others,
                k->directory, (int)o.names.size, o.names.size == 0 ? "" : (const char *)kv_buf_slice(&o.names).data);
    kv_buf_free(&o.names);
    salvage_free(&s);
    if (is_unknown) {
        fprintf(stderr, "kvlog: %s: no keyspace %s is described there\n", k->directory, o.wanted);
        return KVLOG_FAILED;
    }
    if (err != KV_OK) {
        fprintf(stderr, "kvlog: %s: %s\n", k->directory, err == KV_BUSY ? "out of memory" : kv_err_text(err));
        return KVLOG_FAILED;
    }
    fprintf(stderr, "%s: %" PRIu64 " rows exported; %s\n", k->directory, o.rows,
            lost == 0 ? "nothing is missing" : "what is lost is told above");
    return lost == 0 ? KVLOG_OK : KVLOG_DAMAGED;
}

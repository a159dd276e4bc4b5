#include "tools/kvlog/salvage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/lmdb_check.h"
#include "storage/mark.h"
#include "storage/value.h"

/* What can still be read of a data directory, as JSON lines, and what cannot. In passes, so that
 * memory follows the logs behind the last checkpoints and not the data; each over the stores of all workers:
 *
 *   1  the state: marks; everything wrong is told
 *   2  the log: entries behind the marks, with truncations and new lives as recovery has them
 *   3  the state: rows of the keys that those entries touch
 *   4  the entries are executed, in each group up to the first that is missing
 *   5  the state again, with those rows in place of its own: out */
enum { TABLE_BYTES = 16 << 20 };

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
    kvlog_damage_print(stderr, s->k, d);
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
        fprintf(stderr, "%sstate/data.mdb: a mark is damaged: the log of its group cannot be joined to its rows\n", s->k->place);
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

enum kv_err salvage_walk(const struct salvage *s, struct lmdb_walk *w)
{
    char path[KVLOG_PATH_BYTES + 32];
    snprintf(path, sizeof path, "%s/state/data.mdb", s->k->directory);
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
    fprintf(stderr, "%s%s: offset %" PRIu64 ": %s%s\n", s->k->place, d->file, d->offset, d->what,
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

/* The report */

/* Another worker has this partition too, and more of it: a replica that was moving from one to the other. */
static bool is_behind(const struct salvage *stores, uint32_t count, const struct salvage *s, const struct salvage_group *g)
{
    for (uint32_t i = 0; i < count; i++)
        for (size_t n = 0; &stores[i] != s && n < stores[i].group_count; n++)
            if (stores[i].groups[n]->group == g->group && salvage_is_ahead(stores[i].groups[n], g)) return true;
    return false;
}

static void group_report(struct salvage *s, const struct salvage_group *g)
{
    uint64_t last = g->count > 0 ? g->first + g->count - 1 : g->first - 1;
    const char *place = s->k->place;
    if (!g->has_mark) {
        s->lost += g->count > 0;
        if (g->count > 0)
            fprintf(stderr, "%sgroup %" PRIu32 ": %zu log entries up to %" PRIu64 " are not exported: its mark in the state is missing\n",
                    place, g->group, g->count, last);
        return;
    }
    if (g->installing) {
        s->lost++;
        fprintf(stderr, "%sgroup %" PRIu32 ": a snapshot was being installed: its rows are incomplete\n", place, g->group);
        return;
    }
    if (g->applied < last) {
        s->lost++;
        fprintf(stderr, "%sgroup %" PRIu32 ": entry %" PRIu64 " of the log is lost; the %" PRIu64 " behind it, up to %" PRIu64 ", are not exported\n",
                place, g->group, g->applied + 1, last - g->applied - 1, last);
    } else if (g->applied < g->commit) {
        s->lost++;
        fprintf(stderr, "%sgroup %" PRIu32 ": entries %" PRIu64 " to %" PRIu64 " were committed and are lost\n", place, g->group,
                g->applied + 1, g->commit);
    } else if (g->applied > g->commit && g->commit > 0) {
        fprintf(stderr, "%sgroup %" PRIu32 ": entries %" PRIu64 " to %" PRIu64 " are exported; whether they were committed is not known here\n",
                place, g->group, g->commit + 1, g->applied);
    }
}

static enum kv_err salvage_read(struct salvage *s)
{
    struct lmdb_walk first = {.context = s, .row = mark_note, .damage = damage_tell}, again = {.context = s, .row = row_stash};
    s->wanted = memtable_create(TABLE_BYTES);
    s->base = memtable_create(TABLE_BYTES);
    s->newer = memtable_create(TABLE_BYTES);
    if (s->wanted == NULL || s->base == NULL || s->newer == NULL) return KV_BUSY;
    enum kv_err err = salvage_walk(s, &first);
    if (err == KV_OK) err = log_scan(s->k->disk, on_record, on_problem, s);
    if (err != KV_OK) return err;
    salvage_keys(s);
    err = salvage_walk(s, &again);
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

/* Where it failed last. */
static int failed(const struct kvlog *k, enum kv_err err)
{
    fprintf(stderr, "kvlog: %s: %s\n", k->directory, err == KV_BUSY ? "out of memory" : kv_err_text(err));
    return KVLOG_FAILED;
}

static int report(struct salvage *stores, uint32_t count, const struct salvage_rows *o)
{
    const char *directory = stores[0].k->directory;
    uint64_t lost = o->rotten;
    for (uint32_t i = 0; i < count; i++) {
        struct salvage *s = &stores[i];
        for (size_t n = 0; n < s->group_count; n++)
            if (!is_behind(stores, count, s, s->groups[n])) group_report(s, s->groups[n]);
        lost += s->lost;
    }
    if (o->others > 0)
        fprintf(stderr, "%" PRIu64 " rows of other keyspaces are not exported; next: kvlog salvage %s NAME, for each of:%.*s\n", o->others,
                directory, (int)o->names.size, o->names.size == 0 ? "" : (const char *)kv_buf_slice(&o->names).data);
    if (o->keyspace == 0) {
        fprintf(stderr, "kvlog: %s: no keyspace %s is described there\n", directory, o->wanted);
        return KVLOG_FAILED;
    }
    fprintf(stderr, "%s: %" PRIu64 " rows exported; %s\n", directory, o->rows, lost == 0 ? "nothing is missing" : "what is lost is told above");
    return lost == 0 ? KVLOG_OK : KVLOG_DAMAGED;
}

int kvlog_salvage(struct kvlog *stores, uint32_t count, const char *keyspace)
{
    struct salvage s[KVLOG_STORES_MAX] = {0};
    struct salvage_rows rows = {.wanted = keyspace == NULL ? "default" : keyspace};
    enum kv_err err = KV_OK;
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) s[i].k = &stores[i];
    for (uint32_t i = 0; i < count && err == KV_OK; i++) err = salvage_read(&s[at = i]);
    if (err == KV_OK) err = salvage_rows_out(s, count, &rows, &at);
    int code = err == KV_OK ? report(s, count, &rows) : failed(&stores[at], err);
    kv_buf_free(&rows.names);
    for (uint32_t i = 0; i < count; i++) salvage_free(&s[i]);
    return code;
}

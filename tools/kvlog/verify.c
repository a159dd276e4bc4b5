#include "tools/kvlog/kvlog.h"
#include <inttypes.h>
#include <stdio.h>

struct verify {
    struct kvlog *k;
    struct log *log; /* as a start would find it */
    uint64_t records, entries, damages, tails, marks;
};

static void on_record(void *context, const struct log_record *r)
{
    struct verify *v = context;
    char text[512];
    v->records++;
    if (r->kind != LOG_RECORD_ENTRY) return;
    v->entries++;
    enum kv_err err = kvlog_describe(r->bytes, text, sizeof text);
    if (err == KV_OK) return;
    v->damages++;
    printf("%s%s: offset %" PRIu64 ": entry %" PRIu64 " of group %" PRIu32 ": %s\n", v->k->place, r->file, r->offset, r->index, r->group,
           kv_err_text(err));
}

static void on_problem(void *context, const struct log_damage *d, bool is_tail)
{
    struct verify *v = context;
    if (is_tail)
        v->tails++;
    else
        v->damages++;
    printf("%s%s: offset %" PRIu64 ": %s%s\n", v->k->place, d->file, d->offset, d->what,
           is_tail ? " (not proven synced: the next start cuts it off as an unsynced tail)" : "");
}

/* What the state says of a group must meet what the log still has of it. */
static void on_mark(void *context, const struct checkpoint_mark *m)
{
    struct verify *v = context;
    struct log_group g;
    if (m->group == CHECKPOINT_NO_GROUP) return;
    v->marks++;
    if (m->state != CHECKPOINT_GROUP_LIVE) return;
    bool has_log = v->log != NULL && log_group_get(v->log, m->group, &g) && g.replica == m->replica;
    if (!has_log || g.damaged || g.compacted_index <= m->index) return;
    v->damages++;
    printf("%sgroup %" PRIu32 ": the state ends at entry %" PRIu64 ", the log begins behind entry %" PRIu64
           ": entries between are nowhere\n",
           v->k->place, m->group, m->index, g.compacted_index);
}

static void verify_groups(struct verify *v)
{
    uint32_t cursor = 0, group;
    struct log_group g;
    while (log_group_next(v->log, &cursor, &group)) {
        if (!log_group_get(v->log, group, &g) || !g.damaged) continue;
        v->damages++;
        printf("%sgroup %" PRIu32 ": replica %" PRIu32 " may have lost records: it will neither vote nor serve; next: kvctl member replace\n",
               v->k->place, group, g.replica);
    }
}

static enum kv_err verify_state(struct verify *v)
{
    struct checkpoint *c = v->k->checkpoint;
    struct checkpoint_view *view;
    uint64_t damages = 0;
    enum kv_err err = kvlog_state(v->k, &damages);
    v->damages += damages;
    if (err != KV_OK || c == NULL) return err;
    err = c->ops->view_open(c, &view);
    if (err != KV_OK) return err;
    err = c->ops->marks(view, on_mark, v);
    c->ops->view_close(view);
    return err;
}

static enum kv_err verify_log(struct verify *v)
{
    enum kv_err err = log_scan(v->k->disk, on_record, on_problem, v);
    if (err != KV_OK) return err;
    struct log_options o = {.disk = v->k->disk, .store_id = v->k->store_id};
    if (v->k->store_id == 0) return KV_OK;
    err = log_create(&o, &v->log);
    if (err == KV_OK) err = log_recover(v->log);
    if (err != KV_OK && err != KV_CORRUPT) return err;
    verify_groups(v);
    return KV_OK;
}

int kvlog_verify(struct kvlog *k)
{
    struct verify v = {.k = k};
    enum kv_err err = verify_log(&v);
    if (err == KV_BAD_ARGUMENT) { /* files of another store: log_scan told which, or the identity differs */
        v.damages++;
        printf("%sidentity: store %016" PRIx64 " is not the one the log was written for\n", k->place, k->store_id);
        err = KV_OK;
    }
    if (err == KV_OK) err = verify_state(&v);
    if (k->store_id == 0) {
        v.damages++;
        printf("%sidentity: missing or damaged\n", k->place);
    }
    log_destroy(v.log);
    if (err != KV_OK) {
        fprintf(stderr, "kvlog: %s: %s\n", k->directory, kv_err_text(err));
        return KVLOG_FAILED;
    }
    printf("%s%s%s: %" PRIu64 " records, %" PRIu64 " of them entries; %" PRIu64 " groups in the state; %" PRIu64 " damaged\n",
           k->place, k->place[0] != '\0' ? " " : "", v.damages > 0 ? "DAMAGED" : "ok", v.records, v.entries, v.marks, v.damages);
    return v.damages > 0 ? KVLOG_DAMAGED : KVLOG_OK;
}

#include "tools/kvlog/kvlog.h"
#include <inttypes.h>
#include <stdio.h>

struct dump {
    const char *place;
    const uint32_t *group; /* NULL: all */
    uint64_t records, problems;
};

static void on_record(void *context, const struct log_record *r)
{
    struct dump *d = context;
    char text[512];
    if (d->group != NULL && r->group != *d->group) return;
    d->records++;
    printf("%s%s:%-9" PRIu64 " batch %-6" PRIu64 " group %" PRIu32 " replica %" PRIu32 "  ", d->place, r->file, r->offset, r->batch,
           r->group, r->replica);
    switch (r->kind) {
    case LOG_RECORD_ENTRY: {
        enum kv_err err = kvlog_describe(r->bytes, text, sizeof text);
        printf("entry %" PRIu64 " term %" PRIu64 "%s  %s  (%zu B)", r->index, r->term,
               (r->flags & LOG_ENTRY_CONF) != 0 ? " conf" : "", err == KV_OK ? text : kv_err_text(err), r->bytes.size);
        if (r->behind > 0) printf(" commit %" PRIu64, r->commit);
        putchar('\n');
        return;
    }
    case LOG_RECORD_HARD:
        printf("hard  term %" PRIu64 " vote %" PRIu32 " commit %" PRIu64 "\n", r->term, r->vote, r->commit);
        return;
    case LOG_RECORD_TRUNCATE: printf("cut   entries from %" PRIu64 "\n", r->index); return;
    case LOG_RECORD_GROUP:
        printf("group %s%s, log behind %" PRIu64 " term %" PRIu64 ", vote %" PRIu32 " commit %" PRIu64 "\n",
               (r->flags & LOG_GROUP_BEGINS) != 0 ? "begins" : "goes on",
               (r->flags & LOG_GROUP_DAMAGED) != 0 ? " damaged" : "", r->index, r->term, r->vote, r->commit);
        return;
    case LOG_RECORD_RESET: printf("reset behind snapshot %" PRIu64 " term %" PRIu64 "\n", r->index, r->term); return;
    case LOG_RECORD_DESTROY: printf("group ends\n"); return;
    }
}

static void on_problem(void *context, const struct log_damage *p, bool is_tail)
{
    struct dump *d = context;
    if (!is_tail) d->problems++;
    printf("%s%s:%-9" PRIu64 " %s: %s\n", d->place, p->file, p->offset, is_tail ? "TAIL" : "DAMAGED", p->what);
}

static void on_mark(void *context, const struct checkpoint_mark *m)
{
    static const char *const states[] = {"live", "installing", "tombstone"};
    const struct dump *d = context;
    if (m->group == CHECKPOINT_NO_GROUP || (d->group != NULL && m->group != *d->group)) return;
    printf("%sstate  group %" PRIu32 " replica %" PRIu32 "  %s at %" PRIu64 " term %" PRIu64 " clock %" PRIu64 " ms\n",
           d->place, m->group, m->replica, states[m->state], m->index, m->term, m->clock_ms);
}

static enum kv_err dump_marks(struct kvlog *k, struct dump *d)
{
    struct checkpoint_view *v;
    if (k->checkpoint == NULL) {
        printf("%sstate  none that can be read\n", d->place);
        return KV_OK;
    }
    enum kv_err err = k->checkpoint->ops->view_open(k->checkpoint, &v);
    if (err != KV_OK) return err;
    err = k->checkpoint->ops->marks(v, on_mark, d);
    k->checkpoint->ops->view_close(v);
    return err;
}

int kvlog_dump(struct kvlog *k, const uint32_t *group)
{
    struct dump d = {.place = k->place, .group = group};
    if (k->store_id != 0)
        printf("%sidentity  node %" PRIu32 " store %016" PRIx64 "\n", k->place, k->node_id, k->store_id);
    enum kv_err err = dump_marks(k, &d);
    if (err != KV_OK) {
        fprintf(stderr, "kvlog: %s/state: %s\n", k->directory, kv_err_text(err));
        return err == KV_CORRUPT ? KVLOG_DAMAGED : KVLOG_FAILED;
    }
    err = log_scan(k->disk, on_record, on_problem, &d);
    if (err != KV_OK) {
        fprintf(stderr, "kvlog: %s: %s\n", k->directory, kv_err_text(err));
        return err == KV_BAD_ARGUMENT ? KVLOG_DAMAGED : KVLOG_FAILED;
    }
    printf("%s%s%" PRIu64 " records\n", k->place, k->place[0] != '\0' ? " " : "", d.records);
    return d.problems > 0 ? KVLOG_DAMAGED : KVLOG_OK;
}

#include "client/base/map.h"
#include "storage/log_walk.h"
#include <assert.h>

/* The log as it stands on the disk, for people and tests: nothing is changed. */
struct scan {
    void (*each)(void *context, const struct log_record *r);
    void (*problem)(void *context, const struct log_damage *d, bool is_tail);
    void *context;
    struct kv_map replicas; /* of each group, as of the record at hand */
};

static void on_segment(void *context, const struct log_walk_file *f)
{
    (void)context;
    (void)f;
}

static void on_batch(void *context, const struct log_batch_header *h)
{
    (void)context;
    (void)h;
}

static const char *on_record(void *context, const struct log_record *r, uint64_t hard_term,
                             const struct log_batch_header *h)
{
    struct scan *s = context;
    struct log_record told = *r;
    (void)hard_term;
    (void)h;
    if (r->kind == LOG_RECORD_GROUP)
        kv_map_put(&s->replicas, r->group, (void *)((uintptr_t)r->replica + 1));
    void *replica = kv_map_get(&s->replicas, r->group);
    told.replica = replica == NULL ? 0 : (uint32_t)((uintptr_t)replica - 1);
    s->each(s->context, &told);
    return NULL;
}

static void on_problem(void *context, const struct log_damage *d, enum log_problem kind)
{
    struct scan *s = context;
    s->problem(s->context, d, kind == LOG_PROBLEM_TAIL);
}

enum kv_err log_scan(struct disk *d, void (*each)(void *context, const struct log_record *r),
                     void (*problem)(void *context, const struct log_damage *d, bool is_tail), void *context)
{
    struct scan s = {.each = each, .problem = problem, .context = context};
    struct log_walk w = {.disk = d,
                         .context = &s,
                         .segment = on_segment,
                         .batch = on_batch,
                         .record = on_record,
                         .problem = on_problem};
    kv_map_init(&s.replicas);
    enum kv_err err = log_walk(&w);
    for (size_t i = 0; i < w.file_count; i++)
        if (w.files[i].file.handle >= 0) d->ops->close(d, w.files[i].file);
    log_walk_free(&w);
    kv_map_free(&s.replicas);
    return err;
}

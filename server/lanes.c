#include "server/lanes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/env/env_uv.h"
#include "server/crash.h"
#include "storage/checkpoint_lmdb.h"
#include "storage/disk_uv.h"
#include "storage/value.h"

struct lane {
    struct lanes *lanes;
    char directory[300];
    struct journal journal;
    struct env_uv *uv;
    struct disk_uv *disk;
    struct checkpoint *checkpoint;
    struct worker *worker;
    bool runs;
};

struct lanes {
    struct lanes_options o;
    uint32_t count; /* workers, worker 0 among them */
    struct mailbox *up[WORKERS_MAX], *down[WORKERS_MAX];
    struct lane lanes[WORKERS_MAX]; /* [0] is not used: that one is the caller's */
};

static bool row_is_intact(enum store_class class, struct kv_slice key, struct kv_slice row)
{
    struct value v;
    return class != STORE_DATA || value_read(key, row, &v) == KV_OK;
}

enum kv_err lane_state_open(const struct config *c, const char *directory, bool has_others, struct journal *j,
                            struct checkpoint **out, char *why, size_t why_size)
{
    char what[256] = "";
    struct checkpoint_lmdb_options o = {.directory = directory, .map_bytes = c->storage_map, .is_intact = row_is_intact};
    enum kv_err err = checkpoint_lmdb_create(&o, out, what, sizeof what);
    if (err == KV_CORRUPT && (c->node_count > 1 || has_others)) {
        JOURNAL(j, store, ERROR, "state-damaged",
                "what=\"%s\" action=\"all replicas are rebuilt from other nodes; the files are kept in %s/state.damaged\"", what,
                directory);
        err = checkpoint_lmdb_set_aside(directory);
        if (err == KV_OK) err = checkpoint_lmdb_create(&o, out, what, sizeof what);
    }
    if (err == KV_CORRUPT)
        (void)snprintf(why, why_size, "%s/%s; no other node has a copy. Next: kvlog salvage %s, or restore a backup", directory,
                       what[0] != '\0' ? what : "state: damaged", c->node_data);
    else if (err != KV_OK)
        (void)snprintf(why, why_size, "%s/state: %s", directory, what[0] != '\0' ? what : kv_err_text(err));
    return err;
}

/* On any thread. */
static void wake(void *context)
{
    struct env *e = context;
    e->ops->wake(e);
}

static void on_wake(struct env *e)
{
    struct lane *l = e->owner;
    disk_uv_poll(l->disk);
    worker_mail(l->worker);
}

static void ended(void *context)
{
    env_uv_stop(((struct lane *)context)->uv);
}

enum kv_err lanes_create(const struct lanes_options *o, struct lanes **out)
{
    *out = NULL;
    if (o->config->workers <= 1) return KV_OK;
    struct lanes *l = calloc(1, sizeof *l);
    if (l == NULL) return KV_NO_SPACE;
    l->o = *o;
    l->count = (uint32_t)o->config->workers;
    enum kv_err err = KV_OK;
    for (uint32_t k = 1; k < l->count && err == KV_OK; k++) {
        struct lane *lane = &l->lanes[k];
        lane->lanes = l;
        err = env_uv_create(&lane->uv);
        if (err != KV_OK) break;
        struct env *env = env_uv_env(lane->uv);
        l->down[k] = mailbox_create(&(struct mailbox_options){.messages_max = SIBLING_MESSAGES, .wake = wake, .context = env});
        l->up[k] = mailbox_create(&(struct mailbox_options){.messages_max = SIBLING_MESSAGES, .wake = wake, .context = o->env});
        if (l->down[k] == NULL || l->up[k] == NULL) err = KV_NO_SPACE;
    }
    if (err == KV_OK) *out = l;
    else lanes_destroy(l);
    return err;
}

void lanes_connect(struct lanes *l, struct worker_options *first)
{
    if (l == NULL) return;
    first->count = l->count;
    first->in = l->up;
    first->out = l->down;
}

static enum kv_err lane_open(struct lanes *l, uint32_t k, struct worker *first, char *why, size_t why_size)
{
    struct lane *lane = &l->lanes[k];
    struct env *env = env_uv_env(lane->uv);
    (void)snprintf(lane->directory, sizeof lane->directory, "%s/worker-%u", l->o.config->node_data, k);
    lane->journal = *l->o.journal;
    env_uv_linger(lane->uv, l->o.linger_ns);
    enum kv_err err = disk_uv_create(lane->directory, wake, env, &lane->disk);
    if (err != KV_OK) {
        (void)snprintf(why, why_size, "data directory %s: %s", lane->directory, err == KV_BUSY ? "in use by another process" : strerror(errno));
        return err;
    }
    err = lane_state_open(l->o.config, lane->directory, l->o.has_others, &lane->journal, &lane->checkpoint, why, why_size);
    if (err != KV_OK) return err;
    crash_watch(checkpoint_lmdb_suspect_fd(lane->checkpoint));
    struct worker_options o = {.config = l->o.config,
                               .env = env,
                               .disk = disk_uv_disk(lane->disk),
                               .checkpoint = lane->checkpoint,
                               .identity = l->o.identity,
                               .clients = l->o.clients,
                               .journal = &lane->journal,
                               .context = lane,
                               .ended = ended,
                               .index = k,
                               .count = l->count,
                               .first = first,
                               .in = &l->down[k],
                               .out = &l->up[k]};
    return worker_create(&o, &lane->worker, why, why_size);
}

enum kv_err lanes_open(struct lanes *l, struct worker *first, char *why, size_t why_size)
{
    struct worker *workers[WORKERS_MAX] = {first};
    if (l == NULL) return KV_OK;
    for (uint32_t k = 1; k < l->count; k++) {
        enum kv_err err = lane_open(l, k, first, why, why_size);
        if (err != KV_OK) return err;
        workers[k] = l->lanes[k].worker;
    }
    enum kv_err err = worker_record(workers, l->count, why, why_size);
    for (uint32_t k = 1; k < l->count && err == KV_OK; k++) {
        struct env *env = env_uv_env(l->lanes[k].uv);
        env->owner = &l->lanes[k];
        env->on_wake = on_wake;
        err = worker_start(l->lanes[k].worker, why, why_size);
    }
    return err;
}

enum kv_err lanes_run(struct lanes *l)
{
    for (uint32_t k = 1; l != NULL && k < l->count; k++) {
        enum kv_err err = env_uv_spawn(l->lanes[k].uv);
        if (err != KV_OK) return err;
        l->lanes[k].runs = true;
    }
    return KV_OK;
}

void lanes_join(struct lanes *l)
{
    for (uint32_t k = 1; l != NULL && k < l->count; k++) {
        if (l->lanes[k].runs) env_uv_join(l->lanes[k].uv);
        l->lanes[k].runs = false;
    }
}

void lanes_destroy(struct lanes *l)
{
    if (l == NULL) return;
    for (uint32_t k = 1; k < l->count; k++) {
        struct lane *lane = &l->lanes[k];
        worker_destroy(lane->worker);
        if (lane->disk != NULL) disk_uv_destroy(lane->disk); /* its threads may still use the checkpoint */
        if (lane->checkpoint != NULL) lane->checkpoint->ops->destroy(lane->checkpoint);
        if (lane->uv != NULL) env_uv_destroy(lane->uv);
        mailbox_destroy(l->up[k]);
        mailbox_destroy(l->down[k]);
    }
    free(l);
}

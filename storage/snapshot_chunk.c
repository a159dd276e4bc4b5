#include <stdio.h>
#include <stdlib.h>

#include "storage/store_impl.h"

/* Pieces of snapshot files, read and written on the checkpoint thread. */
struct chunk {
    struct job job;
    struct store_chunk *user;
    struct disk *disk;
    bool writes;
};

bool snapshot_name_is_legal(const char *name)
{
    size_t length = strnlen(name, SNAPSHOT_FILE_BYTES);
    return length > 5 && length < SNAPSHOT_FILE_BYTES && strchr(name, '/') == NULL &&
           strcmp(name + length - 5, ".snap") == 0;
}

static enum kv_err chunk_move(struct disk *d, struct disk_file f, struct store_chunk *u,
                              bool writes)
{
    if (!writes) return d->ops->read(d, f, u->offset, u->bytes, u->size, &u->got);
    enum kv_err err = u->offset == 0 ? d->ops->truncate(d, f, 0) : KV_OK;
    if (err == KV_OK) err = d->ops->write(d, f, u->offset, kv_slice(u->bytes, u->size));
    if (err == KV_OK) u->got = u->size;
    return err;
}

static void chunk_run(struct job *j)
{
    struct chunk *c = container_of(j, struct chunk, job);
    struct store_chunk *u = c->user;
    struct disk_file f;
    u->got = 0;
    j->err = KV_BAD_ARGUMENT;
    if (!snapshot_name_is_legal(u->file)) return;
    j->err = c->disk->ops->open(c->disk, u->file, c->writes && u->offset == 0, &f);
    if (j->err != KV_OK) return;
    j->err = chunk_move(c->disk, f, u, c->writes);
    enum kv_err closed = c->disk->ops->close(c->disk, f);
    if (j->err == KV_OK) j->err = closed;
}

static void chunk_discard(struct job *j)
{
    free(container_of(j, struct chunk, job));
}

static void chunk_done(struct job *j)
{
    struct store_chunk *u = container_of(j, struct chunk, job)->user;
    enum kv_err err = j->err;
    job_end(j);
    chunk_discard(j);
    u->done(u, err);
}

static void chunk_refused(struct disk_request *q, enum kv_err err)
{
    struct store_chunk *u = container_of(q, struct store_chunk, io);
    u->done(u, err == KV_OK ? KV_BUSY : err);
}

static void chunk_start(struct store *s, struct store_chunk *u, bool writes)
{
    struct chunk *c = calloc(1, sizeof *c);
    if (c == NULL) {
        store_refuse(s, &u->io, chunk_refused);
        return;
    }
    c->job = (struct job){.run = chunk_run, .done = chunk_done, .discard = chunk_discard};
    c->user = u;
    c->disk = s->o.disk;
    c->writes = writes;
    job_begin(s, &c->job);
    job_work(&c->job);
}

void store_chunk_read(struct store *s, struct store_chunk *c)
{
    chunk_start(s, c, false);
}

void store_chunk_write(struct store *s, struct store_chunk *c)
{
    chunk_start(s, c, true);
}

struct removal {
    struct job job;
    struct disk *disk;
    char file[SNAPSHOT_FILE_BYTES];
};

static void removal_run(struct job *j)
{
    struct removal *r = container_of(j, struct removal, job);
    r->disk->ops->remove(r->disk, r->file); /* what stays is removed at the next start */
}

static void removal_discard(struct job *j)
{
    free(container_of(j, struct removal, job));
}

static void removal_done(struct job *j)
{
    job_end(j);
    removal_discard(j);
}

void store_file_remove(struct store *s, const char *file)
{
    if (!snapshot_name_is_legal(file)) return;
    struct removal *r = calloc(1, sizeof *r);
    if (r == NULL) return;
    r->job = (struct job){.run = removal_run, .done = removal_done, .discard = removal_discard};
    r->disk = s->o.disk;
    snprintf(r->file, sizeof r->file, "%s", file);
    job_begin(s, &r->job);
    job_work(&r->job);
}

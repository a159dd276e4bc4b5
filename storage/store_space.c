#include <stdlib.h>

#include "storage/store_impl.h"

/* The reserve (R15): a piece of the device that is claimed while all is well, so that nobody else can
 * take it, and given back when space has run out, for checkpoints, deletes and raft's own records.
 * Users' writes are refused until it could be claimed again.
 *
 *   claimed -> given back   less than an eighth of it is free, or a checkpoint found no room
 *   given back -> claimed   it is free, and a quarter more, so that it does not flicker
 *
 * Where claiming fails for another reason than space, what is free counts as if it were claimed. */
struct space_job {
    struct job job;
    struct disk *disk;
    uint64_t reserve, free_bytes;
    bool claimed, give;
};

static void space_run(struct job *j)
{
    struct space_job *p = container_of(j, struct space_job, job);
    const struct disk_ops *ops = p->disk->ops;
    j->err = ops->space(p->disk, &p->free_bytes);
    if (j->err != KV_OK) return;
    if (p->claimed && (p->give || p->free_bytes < p->reserve / 8)) {
        p->claimed = false;
        j->err = ops->claim(p->disk, 0);
    } else if (!p->claimed && !p->give && p->free_bytes >= p->reserve + p->reserve / 4) {
        p->claimed = ops->claim(p->disk, p->reserve) == KV_OK;
    }
}

static void space_done(struct job *j)
{
    struct space_job *p = container_of(j, struct space_job, job);
    struct store *s = j->store;
    s->reserve_claimed = p->claimed;
    if (j->err == KV_OK) s->space_low = !p->claimed && p->free_bytes < p->reserve + p->reserve / 4;
    s->space_asked = false;
    job_end(j);
    free(p);
}

static void space_discard(struct job *j)
{
    free(container_of(j, struct space_job, job));
}

void space_open(struct store *s)
{
    s->reserve_claimed = s->o.disk->ops->claim(s->o.disk, s->o.reserve_bytes) == KV_OK;
}

void space_step(struct store *s)
{
    uint64_t now = store_now(s);
    if (s->space_asked || now < s->space_ns) return;
    struct space_job *p = calloc(1, sizeof *p);
    if (p == NULL) return;
    *p = (struct space_job){.job = {.run = space_run, .done = space_done, .discard = space_discard},
                            .disk = s->o.disk,
                            .reserve = s->o.reserve_bytes,
                            .claimed = s->reserve_claimed,
                            .give = s->retry_full};
    s->space_ns = now + STORE_SPACE_INTERVAL_NS;
    s->space_asked = true;
    job_begin(s, &p->job);
    job_work(&p->job);
}

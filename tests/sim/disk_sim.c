#include "tests/sim/disk_sim.h"
#include <assert.h>
#include <stdlib.h>

/* (1) Appends complete in the order given, and so do works; the two may overtake each other.
 * (2) An operation's cost is drawn when it begins, so a disk that was slow is not slow for what
 *     is still to come.
 * (3) An operation belongs to the process that asked: held back by its pauses, gone with it. */
struct operation {
    struct sim_event event;
    struct disk_sim *disk;
    struct disk_request *request;
    struct operation *next;
    enum disk_mem_kind kind;
};

struct disk_sim {
    struct disk_sim_options o;
    struct disk_mem *mem;
    struct operation *first[2], *last[2]; /* by kind */
    uint32_t append_factor, work_factor;
};

/* The oldest of its kind begins. */
static void operation_begin(struct disk_sim *d, enum disk_mem_kind kind)
{
    struct operation *x = d->first[kind];
    if (x == NULL) return;
    bool syncs = kind == DISK_MEM_APPEND && x->request->sync;
    uint64_t least = syncs ? d->o.sync_min_ns : 1000;
    uint64_t most = kind == DISK_MEM_WORK ? d->o.work_max_ns : syncs ? d->o.sync_max_ns
                                                                     : 20000;
    uint32_t factor = kind == DISK_MEM_WORK ? d->work_factor : d->append_factor;
    uint64_t cost = factor * (least + sim_below(d->o.sim, most > least ? most - least + 1 : 1));
    if (kind == DISK_MEM_APPEND) x->request->ns = cost;
    sim_after(d->o.sim, d->o.host, &x->event, cost);
}

static void operation_run(struct sim_event *e)
{
    struct operation *x = container_of(e, struct operation, event);
    struct disk_sim *d = x->disk;
    struct disk_request *q = x->request;
    enum disk_mem_kind kind = x->kind;
    assert(d->first[kind] == x);
    d->first[kind] = x->next;
    if (x->next == NULL) d->last[kind] = NULL;
    uint64_t words[4] = {(uint64_t)kind, q->offset, q->part_count, q->sync};
    sim_mix(d->o.sim, kv_slice(words, sizeof words));
    for (uint32_t i = 0; kind == DISK_MEM_APPEND && i < q->part_count; i++) sim_mix(d->o.sim, q->parts[i]);
    free(x);
    operation_begin(d, kind); /* the disk goes on while the owner is told */
    disk_mem_complete(d->mem, q);
}

static void operation_schedule(void *context, struct disk_request *q, enum disk_mem_kind kind)
{
    struct disk_sim *d = context;
    struct operation *x = calloc(1, sizeof *x);
    assert(x != NULL);
    *x = (struct operation){.event.fire = operation_run, .disk = d, .request = q, .kind = kind};
    bool idle = d->first[kind] == NULL;
    if (d->last[kind] != NULL) d->last[kind]->next = x;
    else d->first[kind] = x;
    d->last[kind] = x;
    if (idle) operation_begin(d, kind);
}

struct disk_sim *disk_sim_create(const struct disk_sim_options *o)
{
    assert(o->sync_min_ns <= o->sync_max_ns);
    struct disk_sim *d = calloc(1, sizeof *d);
    if (d == NULL) return NULL;
    d->o = *o;
    d->append_factor = d->work_factor = 1;
    d->mem = disk_mem_create(&(struct disk_mem_options){
        .seed = o->seed, .capacity = o->capacity, .schedule = operation_schedule, .context = d});
    if (d->mem == NULL) {
        free(d);
        return NULL;
    }
    return d;
}

static void operations_drop(struct disk_sim *d)
{
    for (int kind = 0; kind < 2; kind++) {
        while (d->first[kind] != NULL) {
            struct operation *next = d->first[kind]->next;
            sim_cancel(d->o.sim, &d->first[kind]->event);
            free(d->first[kind]);
            d->first[kind] = next;
        }
        d->last[kind] = NULL;
    }
}

void disk_sim_destroy(struct disk_sim *d)
{
    if (d == NULL) return;
    operations_drop(d);
    disk_mem_destroy(d->mem);
    free(d);
}

struct disk *disk_sim_disk(struct disk_sim *d)
{
    return disk_mem_disk(d->mem);
}

struct disk_mem *disk_sim_mem(struct disk_sim *d)
{
    return d->mem;
}

void disk_sim_slow(struct disk_sim *d, uint32_t append_factor, uint32_t work_factor)
{
    d->append_factor = append_factor;
    d->work_factor = work_factor;
}

void disk_sim_crash(struct disk_sim *d, enum sim_death how)
{
    operations_drop(d);
    disk_mem_crash(d->mem, how == SIM_POWER ? DISK_MEM_POWER_LOSS : DISK_MEM_KILL);
}

void disk_sim_restart(struct disk_sim *d)
{
    operations_drop(d); /* what the dead process asked while it was taken down */
    disk_mem_restart(d->mem);
}

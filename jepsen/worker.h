#ifndef JEPSEN_WORKER_H
#define JEPSEN_WORKER_H
#include "jepsen/workload.h"

/* A client: one operation at a time, each recorded before it is sent and when its outcome is
 * known. Worker C dials from 127.0.1.C, so that a cut between nodes is no cut of clients.
 *
 * The run has two parts for it: plan_next() until told to stop, then the final reads: every key
 * once through every door in use, asked again until answered. */
struct run;
enum doors { DOORS_RESP,
             DOORS_NATIVE,
             DOORS_MIXED };
enum { WORKER_TIMEOUT_MS = 3000 };

struct answer {                /* what a door made of a reply */
    enum history_type outcome; /* OK, FAIL: surely not applied, INFO */
    bool is_null;
    struct kv_slice bytes; /* READ: the value */
    bool has_result;       /* INCR: */
    int64_t result;
    struct kv_version version; /* native */
    uint32_t stale_ms;         /* READ of level BOUNDED: how old it may be, as the reply claims */
    const char *error;         /* of FAIL and INFO; NULL: none worth telling (a condition did not hold) */
};

struct worker;
struct door { /* door_native.c, door_resp.c */
    const char *name;
    bool (*open)(struct worker *w); /* false: out of memory */
    bool (*is_ready)(const struct worker *w);
    /* Sends w->op; worker_answer() follows exactly once, later. */
    void (*ask)(struct worker *w);
    void (*close)(struct worker *w); /* no callback of its runs after this */
};
extern const struct door door_native, door_resp;

struct worker {
    struct run *run;
    uint32_t number; /* 1.. */
    const struct door *door;
    void *state; /* the door's */
    struct env_addr from;
    int64_t process;
    struct chooser chooser;
    struct env_timer timer; /* think time */
    struct op op;
    bool is_asking, is_reading_final;
    uint32_t final_next; /* index of a key, then by steps of how many share the door */
};

bool workers_open(struct run *r);
void workers_begin(struct run *r);
void workers_stop(struct run *r); /* no new operation; those open end by their deadline */
bool workers_idle(struct run *r);
void workers_read_final(struct run *r);
bool workers_have_read(struct run *r);
void workers_close(struct run *r);

void worker_answer(struct worker *w, const struct answer *a);
bool doors_find(const char *name, enum doors *out);
const char *doors_text(enum doors d);
#endif

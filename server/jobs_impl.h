#ifndef SERVER_JOBS_IMPL_H
#define SERVER_JOBS_IMPL_H
#include "server/exec_jobs.h"
#include "server/jobs.h"

/* What jobs.c (rows, claims, steps) and jobs_drive.c (what each kind does) share. */
enum { JOBS_ASK_MS = 3000,  /* for what a runner asks of a partition */
       JOBS_AGAIN_MS = 500, /* before it asks again */
       JOBS_NOTE_BYTES = 160 };

struct run {        /* what this node does about an open job; forgotten with its leadership */
    uint64_t id;    /* 0: free */
    uint64_t fence; /* of this reign's claim; 0: not claimed yet */
    uint64_t claimed_ns, again_ns, stepped_ns;
    enum kv_job_state state;    /* as last seen: a change of it is acted on at once */
    bool asks;                  /* a request is under way; its end is always heard of */
    bool has_asked;             /* for what the job is about, in this reign */
    bool has_listed;            /* an alteration's: the partition knows the new labels */
    bool is_seen;               /* open, as of the rows last read */
    enum kv_err err;            /* of the last thing asked for */
    char note[JOBS_NOTE_BYTES]; /* and what came with it */
    uint64_t sent, total;       /* bytes of a move's copy; replicas that a drop has left */
    uint32_t cursor;            /* node that is asked next what a drop has left */
};

struct jobs {
    struct worker *w;
    uint64_t term, look_ns; /* the reign that `runs` are of */
    bool is_changed;
    uint64_t parted_ns; /* when a split was last asked for, for the sake of labels */
    uint32_t moves;     /* under way, as of this look */
    struct run runs[KV_JOBS_OPEN_MAX];
    struct kv_arena arena; /* of `open` */
    struct kv_job *open;
    uint32_t open_count;
};

struct request;
/* Asks for `op`; `r->done` clears run->asks and keeps error and note. Partition 0: not pinned. */
struct jobs_ask {
    enum kv_op op;
    const struct kv_slice *args;
    uint32_t arg_count;
    uint32_t keyspace;
    uint32_t partition, range_epoch; /* range_epoch not 0: only as of it */
    uint32_t node;                   /* not 0: of that one, nobody else */
};
void jobs_ask(struct jobs *jobs, struct run *run, const struct jobs_ask *a);
/* How it stands, if that is new; an end is final. */
void jobs_step(struct jobs *jobs, struct run *run, const struct kv_job *j, uint64_t done, uint64_t total, const char *unit, const char *note);
void jobs_end(struct jobs *jobs, struct run *run, const struct kv_job *j, enum kv_job_state state, enum kv_err err, const char *note);
/* KSNODE that drains a node of which a partition has nowhere to go, unless it is forced. True: it has been refused. */
bool jobs_refuse_drain(struct request *r);
/* jobs_drive.c: the next thing about a job that is claimed. */
void jobs_drive(struct jobs *jobs, struct run *run, const struct kv_job *j, uint64_t now_ns);
#endif

#ifndef SERVER_NODE_H
#define SERVER_NODE_H
/* What the files of server/ share about one worker. Private to server/. */
#include "client/base/map.h"
#include "client/base/mutant.h"
#include "client/wire/message.h"
#include "server/clock.h"
#include "server/exec.h"
#include "server/gate.h"
#include "server/load.h"
#include "server/pace.h"
#include "server/worker.h"
#include "storage/command.h"

struct group;
struct partition;
struct host;
struct jobs;
struct keyspaces;
struct nodes;
struct peers;
struct request;
struct seat_plan;
struct siblings;
struct worker_job;

#define KVD_VERSION "0.1.0"

enum { NODE_TICK_MS = 10,
       NODE_FORWARD_HOPS_MAX = 1 };

struct worker {
    struct worker_options o;
    const struct config *config;
    struct env *env;
    struct journal *journal;
    struct store *store;
    uint32_t node_id;
    uint8_t cluster_id[16];
    uint8_t client_id[KV_CLIENT_BYTES]; /* of this process, for the writes it forwards */
    uint64_t sequence;                  /* of those writes */
    uint64_t started_ns;
    struct clock clock; /* how far env's wall clock is to be believed (R14) */

    struct kv_map groups;                            /* partition id -> struct group */
    uint64_t lives;                                  /* groups opened so far */
    struct kv_map partitions;                        /* partition id -> struct partition (map.h) */
    uint16_t slots[KV_SLOTS];                        /* keyspace default: which of slot_partitions; small, since met at random */
    struct partition *slot_partitions[KV_SLOTS + 1]; /* [0]: NULL, none known; a partition has a slot at least */
    struct partition **ranges;                       /* all whose ranges are known, by their start */
    uint32_t range_count;
    bool map_is_stale, is_telling;        /* the above is to be made anew; nodes are to be told of partitions led here */
    struct group *dirty;                  /* groups with something to pump this turn */
    struct group *settling;               /* pumped, and not settled yet */
    struct group *active;                 /* those that ticks look at (rest.c) */
    uint32_t look_cursor;                 /* over `groups`: which quiet ones are looked at next */
    uint64_t beat_ns;                     /* the last heartbeat of all groups led here */
    bool is_beat;                         /* this tick is one */
    struct env_task turn;                 /* the end of this turn */
    uint64_t event_now_ns, event_wall_ms; /* 0: not looked at yet */
    bool in_turn;
    struct env_timer tick;
    struct pace pace; /* limit.service_rate */
    uint64_t checkpoints_seen;

    struct siblings *siblings;   /* the other workers of this node; NULL: it is alone */
    struct seat_plan *seat_plan; /* how replicas are spread among them (seats.c); NULL: not looked at yet */
    struct peers *peers;
    struct host *host;
    struct auth *auth;
    struct merge *merges;                  /* driven from here (merge.c) */
    struct scrub_job *scrubs;              /* hashes under way (scrub.c) */
    struct leaving *leaving;               /* replicas on their way out (leave.c) */
    struct inbound *inbound;               /* snapshots being received (transfer.c) */
    uint64_t snapshot_free_ns;             /* the bandwidth cap allows the next chunk from here on */
    struct request *open_head, *open_tail; /* every request that waits, oldest first */
    struct request *spare_requests;        /* ended ones, kept for the next, by next */
    uint32_t spare_count;
    struct worker_job *append_spares; /* likewise of group_log.c, by next */
    uint32_t append_spare_count;
    bool open_iter_runs;
    struct request *open_iter; /* the walk under way goes on here; finishing a request moves it on */
    uint32_t open_count;
    bool has_parked;                  /* or had, when they were last walked */
    uint64_t deadlines_ns;            /* the next walk in any case */
    uint64_t walk;                    /* number of the last walk, or the one under way */
    uint64_t turns, read_turn;        /* turn counter, and the last turn that served a read (R5) */
    uint64_t reads[KV_LEVEL_ANY + 1]; /* answered from replicas here, by level */
    uint64_t read_rounds;             /* times that a leader was asked for an index, or asked its quorum */
    uint64_t reads_sent;              /* at a level that any replica serves, sent to another node for want of one here */
    struct keyspaces *keyspaces;      /* what partition 0 says there is */
    struct nodes *nodes;              /* who belongs to the cluster */
    struct jobs *placements;          /* changes of placement that it runs while it leads partition 0 (jobs.h) */
    struct scan_cursors *cursors;     /* SCAN handles (fan_walk.c) */

    struct exec exec;        /* reused for every command */
    struct exec_place place; /* of partition 0's commands */
    struct exec_state exec_state;
    struct kv_buf exec_reply, exec_rows;
    struct kv_arena arena;       /* of the commands being applied */
    struct foresight *foresight; /* decoded into it (group_apply.c) */

    struct worker_job *jobs;
    struct loads loads;
    uint64_t told_ns;       /* when all nodes were last told of all partitions led here */
    uint64_t coordinate_ns; /* not before this (coordinator.c) */
    uint64_t place_ns;      /* likewise (place.c) */
    uint64_t placed;        /* all partitions of keyspaces are there as of this state of partition 0; 0: to be looked at */
    bool woken;             /* parked requests are due now */
    bool stopping, host_stopped, closing, poisoned, yielded;
    uint64_t stop_deadline_ns;
    void (*stopped)(void *context);
    void *stopped_context;
};

/* What the store will answer later: a node that is dropped before frees what stayed unanswered. */
struct worker_job {
    struct worker_job *next, **link;
    void (*discard)(struct worker_job *j); /* frees it */
};
void worker_job_begin(struct worker *w, struct worker_job *j);
void worker_job_end(struct worker_job *j);

/* Log levels of all workers of this node, as journal_set(). */
enum kv_err worker_log_levels(struct worker *w, const char *levels, const char **why);
void worker_turn(struct worker *w); /* asks for worker_turn_end at the end of this turn */
/* The clocks as first read since the bytes now at hand came, so that a pipeline asks once: for
 * deadlines and stamps, never for leases. Whoever takes new input forgets them first; a stamp from
 * before a request came would shorten its TTL. */
uint64_t worker_event_now_ns(struct worker *w);
uint64_t worker_event_wall_ms(struct worker *w);
static inline void worker_clock_forget(struct worker *w)
{
    w->event_now_ns = 0;
}
struct group *worker_group(const struct worker *w, uint32_t partition);
uint64_t worker_random(struct worker *w);

void worker_add_group(struct worker *w, struct group *g);
/* Begins a replica, not amid an entry: from its first, or, `owed_index` not 0, with a snapshot to come. False: refused. */
struct descriptor;
bool worker_create_replica(struct worker *w, const struct descriptor *d, uint32_t replica, uint64_t owed_index,
                           uint64_t owed_term);
void worker_open_failed(struct worker *w, uint32_t partition, enum kv_err err);
void worker_remove_group(struct worker *w, struct group *g); /* frees it; its requests are answered */

/* A sibling is poisoned, or worker 0 is: all of the node is given up (R15). */
void worker_poison(struct worker *w);

/* status.c */
void status_groups(struct worker *w, struct kv_buf *out);                       /* of this worker, a line of JSON each */
void status_json(struct worker *w, struct kv_buf *out, struct kv_slice others); /* others: status_groups() of its siblings */
struct kv_slice *status_lines(struct kv_slice text, uint32_t *count);           /* of it, without their ends; to be freed; NULL, 0: no memory */
void status_map(struct worker *w, struct kv_buf *out);                          /* kv_map_encode bytes */
void status_info(void *node, bool on_cluster_face, const char *section, struct kv_buf *out);
#endif

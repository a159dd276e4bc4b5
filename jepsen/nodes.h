#ifndef JEPSEN_NODES_H
#define JEPSEN_NODES_H
#include "client/env/env.h"
#include "jepsen/shim/shim.h"
#include <sys/types.h>

/* The cluster as child processes: node I listens on and dials from 127.0.0.I. Segments and
 * memtable are small, so that a run of seconds rolls, releases and checkpoints.
 *
 * A node that ends without having been told to fails the run. */
enum {
    NODES_MAX = 9,
    NODES_PATH_BYTES = 256,
    NODES_RESP_PORT = 7400,
    NODES_NATIVE_PORT = 7401,
    NODES_TMPFS_BYTES = 256 << 20,
    NODES_SYNC_DELAY_US = 3000 /* under the shim: something is always unsynced */
};
#define NODES_STOP_NS        KV_SECONDS(5)
#define NODES_STOP_FAULTS_NS KV_SECONDS(15) /* where other faults may act at the same time */
struct run;

struct node {
    uint32_t id;    /* 1.. */
    pid_t pid;      /* 0: none */
    bool is_wanted; /* false: told to end, or never started */
    bool is_paused;
    bool starts_again;          /* when it has ended */
    uint64_t told_ns;           /* when SIGTERM was sent */
    int64_t log_bytes;          /* before it was started last */
    bool was_revived;           /* after it had ended by itself: once, so that the run can go on */
    pid_t asked;                /* kvctl ready, 0: none runs */
    bool is_ready;              /* answered for every group since nodes_ask_ready() */
    struct shim_control *shim;  /* NULL without the preloaded disk */
    char dir[NODES_PATH_BYTES]; /* kvd.yaml, node.key, log, data/ */
};

struct nodes {
    struct run *run;
    uint32_t count;
    struct node node[NODES_MAX];
    uint8_t client_key[32];
    bool wants_faketime, wants_disk_shim; /* set before nodes_create(): libraries to preload; */
    bool wants_tmpfs;                     /* and data on a small file system of each node's own */
};

/* Writes keys and configurations. False: run_fail() says why. */
bool nodes_create(struct nodes *n, uint32_t count);
bool node_start(struct nodes *n, struct node *node, bool bootstrap);
/* One more node, the next id, which joins by this token. False: run_fail() says why. */
bool node_join(struct nodes *n, const char *token);
bool node_kill(struct nodes *n, struct node *node);  /* -9; back when it is gone, and by that signal */
bool node_pause(struct nodes *n, struct node *node); /* back when it has stopped */
void node_resume(struct node *node);
/* SIGTERM; node->pid becomes 0 when it has ended, which must be by exit 0 and in time. */
void node_terminate(struct nodes *n, struct node *node);
void nodes_reaped(struct nodes *n); /* on SIGCHLD */

/* Asks every node, through itself, for a write and a read in every group; again until it can. */
void nodes_ask_ready(struct nodes *n);
bool nodes_are_ready(struct run *r);
bool nodes_are_down(struct run *r);
void nodes_end(struct nodes *n); /* kills what is left */

bool nodes_faketime(char path[NODES_PATH_BYTES]); /* the library's path; false: not installed */
struct env_addr nodes_resp(const struct node *node);
struct env_addr nodes_native(const struct node *node);
#endif

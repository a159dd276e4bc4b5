#ifndef SIM_SWARM_H
#define SIM_SWARM_H
#include "tests/sim/cluster.h"
#include "tests/sim/marks.h"
#include <stdio.h>

/* One seed, one story: a cluster, clients and faults drawn from the seed; a phase under
 * faults in which nothing wrong may happen, then healing, and a phase in which the right
 * things must happen within a bound; then the history is judged and the replicas compared. */
#define SWARM_FAULTS(X)                                                          \
    X(KILL, "kill", "kill -9 of a node, restarted later")                        \
    X(POWER, "power", "power loss: unsynced pages lost, torn or kept at will")   \
    X(STOP, "stop", "SIGTERM: a node hands over, stops and is started again")    \
    X(TRANSFER, "transfer", "a node gives its leaderships away and stays")       \
    X(PAUSE, "pause", "a node stands still, also past its lease")                \
    X(STUTTER, "stutter", "pauses between any two clock reads of a node")        \
    X(SPLIT, "split", "two halves that do not hear each other")                  \
    X(ISOLATE, "isolate", "one node cut off, both ways or one way")              \
    X(BRIDGE, "bridge", "two halves joined by one node")                         \
    X(RING, "ring", "each node hears only its neighbours")                       \
    X(CUT, "cut", "connections of a node break")                                 \
    X(LAG, "lag", "one link is slow")                                            \
    X(SLOW, "slow", "one node computes slowly")                                  \
    X(DISK_SLOW, "disk-slow", "one disk is 2 to 128 times slower")               \
    X(DISK_FAIL, "disk-fail", "one sync or write fails; the node is restarted")  \
    X(DISK_CRASH, "disk-crash", "power loss in the middle of a disk operation")  \
    X(DISK_FULL, "disk-full", "one disk, or all, have hardly any room left")     \
    X(LIE, "lie", "one disk says synced and does nothing, for a while")          \
    X(MISDIRECT, "misdirect", "one append lands elsewhere in its segment")       \
    X(ROT, "rot", "bits flip in cold log segments of one node")                  \
    X(WIPE, "wipe", "a node loses its disk and comes back with an empty one")    \
    X(CLIENT_CUT, "client-cut", "clients do not reach some nodes")               \
    X(WALL, "wall", "wall clock jumps either way")                               \
    X(DRIFT, "drift", "monotonic clocks run apart, within their bound")          \
    X(DIVIDE, "divide", "a partition is split, often at a key in use")           \
    X(MOVE, "move", "a replica of a partition goes to another node")             \
    X(KEYSPACE, "keyspace", "a keyspace is made, written to, or dropped")        \
    X(UNITE, "unite", "a partition absorbs its neighbour, often one in use")     \
    X(JOIN, "join", "a node that was not there joins by a token")                \
    X(DRAIN, "drain", "a node is drained or cordoned, or set up again")          \
    X(REMOVE, "remove", "a drained or dead node is removed from the cluster")    \
    X(COORDINATOR, "coordinator", "who leads partition 0 dies, or stands still") \
    X(ROLE, "role", "a node is killed and comes back with a role more or less")
enum swarm_fault {
#define X(name, text, help) SWARM_##name,
    SWARM_FAULTS(X)
#undef X
        SWARM_FAULT_COUNT
};

/* What is left out of a story: faults and operations by their number, as bits. */
enum { SWARM_FAULTS_MAX = 1 << 12,
       SWARM_OPS_MAX = 1 << 16 };
struct swarm_skips {
    uint64_t faults[SWARM_FAULTS_MAX / 64], ops[SWARM_OPS_MAX / 64];
};

struct swarm_options {
    uint64_t seed;
    uint64_t safety_ns;              /* phase under faults */
    uint32_t nodes, workers;         /* 0: drawn */
    bool roles;                      /* always nodes that have not all roles; else sometimes */
    uint64_t faults;                 /* bit per swarm_fault that may be drawn; ~0: all */
    const struct swarm_skips *skips; /* NULL: none (kvsim --minimize) */
    uint32_t clients_max;            /* WORKLOAD_CLIENTS_MAX or fewer */
    const char *log_levels;
    const char *history_path; /* NULL, or where the history goes */
    struct sim_trace *trace;
};
struct swarm_result { /* plain bytes: it crosses processes */
    bool done, failed;
    char why[512];
    uint64_t hash, events, sim_ns;
    uint64_t ok, fail, info;
    uint32_t nodes, workers;
    uint64_t reads[4];                  /* answered, by level */
    bool undecided;                     /* the checker reached its limit */
    uint32_t faults[SWARM_FAULT_COUNT]; /* how often each happened */
    uint32_t fault_count, op_count;     /* drawn, the ones left out included */
    uint64_t marks[SIM_MARK_COUNT];
    uint32_t starts_failed;
    uint64_t recovery_ns; /* from healing until every client had an answer */
};

void swarm_run(const struct swarm_options *o, struct swarm_result *out);
const char *swarm_fault_text(enum swarm_fault f);
bool swarm_fault_find(const char *text, enum swarm_fault *f);
/* The last `count` events, oldest first; events of clients' connections and the like are not in it. */
void swarm_trace_print(const struct sim_trace *t, uint32_t count, FILE *out);
#endif

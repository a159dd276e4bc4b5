#ifndef SIM_CLUSTER_H
#define SIM_CLUSTER_H
#include "client/wire/message.h"
#include "server/worker.h"
#include "tests/sim/disk_sim.h"

/* A whole kvd cluster in one process: per host a worker exactly as server/main.c makes it,
 * over env_sim, disk_sim and the checkpoint in memory. Node i (from 1) lives at 10.0.0.i,
 * native port 7401, Redis port 7400. */
enum { CLUSTER_NODES_MAX = 9,
       CLUSTER_NATIVE_PORT = 7401,
       CLUSTER_RESP_PORT = 7400,
       CLUSTER_WORKERS_MAX = 4 };
struct cluster;

struct cluster_options {
    struct sim *sim;
    uint32_t nodes, replicas; /* replicas 0: one on each node */
    uint32_t workers;         /* of each node; 0: one */
    const uint32_t *roles_of; /* NULL, or by node, from 1: bits of enum kv_node_role; 0: all */
    uint32_t late;            /* so many of them, the last, join when they are started, by a token (cluster_invite()) */
    uint64_t seed;
    void (*tune)(void *context, struct config *c); /* NULL, or changes every node's configuration */
    void *context;
    uint64_t sync_min_ns, sync_max_ns, work_max_ns;
    /* NULL, or told of every event of a node's journal by name, inside its callbacks; and, by the checks,
     * of "joint" and "checkpoint". */
    void (*event)(void *context, uint32_t node, const char *event);
    void *event_context;
    const char *log_levels; /* of the journals, into the trace; NULL: "info" */
};

struct cluster *cluster_create(const struct cluster_options *o);
void cluster_destroy(struct cluster *c);
uint32_t cluster_size(const struct cluster *c);
const struct config *cluster_config(const struct cluster *c, uint32_t node);
bool cluster_has_role(const struct cluster *c, uint32_t node, enum kv_node_role role);  /* as it was last told at a start */
bool cluster_is_needed(const struct cluster *c, uint32_t node, enum kv_node_role role); /* too few others have it, and stay */
/* Gives it the role, or takes it, from its next start on. False: too few others have it, or it would have none. */
bool cluster_change_role(struct cluster *c, uint32_t node, enum kv_node_role role);
/* Replicas that the partition has when all is well: no more than there are nodes for it. */
uint32_t cluster_replicas(const struct cluster *c, uint32_t partition);
struct sim_host *cluster_host(struct cluster *c, uint32_t node); /* node from 1 */
uint32_t cluster_workers(const struct cluster *c);
struct disk_sim *cluster_disk_of(struct cluster *c, uint32_t node, uint32_t worker);
struct disk_sim *cluster_disk(struct cluster *c, uint32_t node);        /* the one that is struck, of several */
struct worker *cluster_worker(struct cluster *c, uint32_t node);        /* worker 0; NULL: down */
struct worker *cluster_worker_struck(struct cluster *c, uint32_t node); /* whose disk that is */
bool cluster_up(const struct cluster *c, uint32_t node);
bool cluster_runs(const struct cluster *c, uint32_t node);      /* up, or on its way to join */
bool cluster_is_member(const struct cluster *c, uint32_t node); /* not one that is yet to be let in, or was removed */

/* Of one of the late nodes, which cluster_start() starts then. */
void cluster_invite(struct cluster *c, uint32_t node, const char *token);
/* False: the node did not start; `why` of the last failure is in the trace and here. */
bool cluster_start(struct cluster *c, uint32_t node);
/* Of a node that just started: no live replica on its disk was refused as damaged. */
bool cluster_intact(const struct cluster *c, uint32_t node, char *why, size_t why_size);
void cluster_crash(struct cluster *c, uint32_t node, enum sim_death how);
/* SIGTERM: cluster_reap() finds it when it is done. */
void cluster_stop(struct cluster *c, uint32_t node);
/* Every leadership of the node goes to the most advanced peer. */
void cluster_transfer(struct cluster *c, uint32_t node);
/* Asks the node to split the partition of that slot of keyspace `default`, there. */
void cluster_divide(struct cluster *c, uint32_t node, uint16_t slot);
/* Asks the node to have a replica moved: of one of the partitions it knows, one of its voters, to one of the nodes
 * without one, or to another worker of its own node, each chosen by a number. */
void cluster_move(struct cluster *c, uint32_t node, uint64_t partition, uint64_t voter, uint64_t to);
/* Asks the node to create or drop the keyspace of that number, or to write into it; `drawn` says which, and its kind. */
void cluster_keyspace(struct cluster *c, uint32_t node, uint32_t number, uint64_t drawn);
/* Asks the node to merge the partition of that slot with the one behind it, or with the one before it. */
void cluster_unite(struct cluster *c, uint32_t node, uint16_t slot, bool before);
/* Asks the node for a token for the next of the late nodes, which starts as soon as it is given. False: none is left, or the
 * one before is not a node yet. */
bool cluster_join(struct cluster *c, uint32_t node);
/* Asks the node to have one of the nodes it knows drained or cordoned, if the others suffice for all replicas, or one that is so set up
 * again; `drawn` says which. False: there is nothing to ask. */
bool cluster_drain(struct cluster *c, uint32_t node, uint64_t drawn);
/* Asks the node to have one removed that is drained or dead and has nothing, if the others suffice; `drawn` says which. False: there is none. */
bool cluster_remove(struct cluster *c, uint32_t node, uint64_t drawn);
bool cluster_is_removed(const struct cluster *c, uint32_t node);
uint32_t cluster_coordinator(const struct cluster *c); /* the node that leads partition 0; 0: none */
/* Coordinators go on, or only look on from now. */
void cluster_coordinate(struct cluster *c, bool goes_on);
/* Of a node that is down: its disk is replaced by an empty one. It is never bootstrapped again. */
void cluster_wipe(struct cluster *c, uint32_t node);
/* Nodes whose worker asked to be stopped (poisoned), or has stopped, are killed, as a supervisor
 * would; call it between events. Returns how many. */
uint32_t cluster_reap(struct cluster *c);
const char *cluster_why(const struct cluster *c, uint32_t node);

/* Invariants of every running replica (an assert fails), and those between them
 * (cluster_check.c names them): false, with `why`. */
bool cluster_check(struct cluster *c, char *why, size_t why_size);
/* What the leaders on this node have just counted as committed: no election may undo it. */
bool cluster_commit_check(struct cluster *c, uint32_t node, char *why, size_t why_size);
/* The node whose leader was the last to commit; 0: none yet. */
uint32_t cluster_busy_node(const struct cluster *c);
/* Every replica in a line of the trace, and what leaders think of their peers. */
void cluster_tell(struct cluster *c);
/* Leaders now, over all groups, and the sum of applied indices: progress. */
uint32_t cluster_leaders(const struct cluster *c, uint64_t *applied_sum);
/* Every group has as many voters as it began with, each on a node of its own, and no other member, and each of them runs. `lasting`: and
 * has checkpointed that this is so: as many nodes may be lost again as the replication promises. */
bool cluster_whole(const struct cluster *c, bool lasting, char *why, size_t why_size);
/* Whole, and all replicas of each group have applied the same index. */
bool cluster_settled(struct cluster *c, char *why, size_t why_size);
/* Nodes that are to be drained are empty, unless too few others may take what they have. Of a cluster that is settled. */
bool cluster_drained(const struct cluster *c, char *why, size_t why_size);
/* Of a cluster that is settled at this instant: all replicas of a group hold the same rows, of data, locks and
 * dedup records. Runs the world a little. */
bool cluster_same_rows(struct cluster *c, char *why, size_t why_size);
/* A client key every node knows. */
void cluster_client_identity(const struct cluster *c, struct channel_identity *out);
#endif

#ifndef SIM_CLUSTER_IMPL_H
#define SIM_CLUSTER_IMPL_H
#include "client/env/mailbox.h"
#include "server/group.h"
#include "server/join.h"
#include "tests/sim/cluster.h"

/* What cluster.c (the nodes) and cluster_check.c (what must hold between them) share. */
struct desk { /* of one worker of a node */
    struct node *node;
    struct cluster *cluster;
    uint32_t id, index; /* of the node; of the worker in it */
    struct sim_host *host;
    struct disk_sim *disk;
    struct checkpoint *checkpoint;
    struct worker *worker;
    uint64_t checkpoints_seen;
    struct mailbox *up, *down; /* not of worker 0 */
    struct sim_event up_wakes, down_wakes;
};
struct node { /* what outlives a process */
    struct cluster *cluster;
    uint32_t id;
    struct sim_host *host;
    struct desk desks[CLUSTER_WORKERS_MAX];
    struct mailbox *up[CLUSTER_WORKERS_MAX], *down[CLUSTER_WORKERS_MAX];
    struct channel_identity identity;
    struct config config;
    struct journal journal;
    struct join *join; /* it asks to join; cluster_reap() goes on when it is over */
    bool is_joined;    /* and it is: with join_err, how it ended */
    bool is_invited;   /* of those that come late: it has a token, and was started */
    bool is_welcome;   /* the token was given since, and it is to be started */
    bool is_to_go;     /* somebody was asked to remove it from the cluster */
    bool is_removed;   /* and it is, as a list of nodes says */
    bool is_told;      /* and it knows */
    enum kv_err join_err;
    bool stop_wanted;
    uint64_t jobs_applied, jobs_life; /* of its replica of partition 0, when jobs were looked at */
    char why[256];
};

enum { GROUPS_MAX = 256,
       POINTS_PER_GROUP = 1 << 14,
       TERMS_PER_GROUP = 1 << 8,
       EPOCHS_PER_GROUP = 1 << 8,
       JOBS_SEEN = 1 << 12,
       KEYSPACES_KEPT = 1 << 6 }; /* by id; a run makes fewer */
/* What is known of a group for the whole run, whoever dies meanwhile. The arrays are rings: old
 * ones are overwritten. */
struct annals {
    struct point {
        uint64_t index, term;
        uint32_t node;
    } committed[POINTS_PER_GROUP]; /* by index: the term first seen committed there */
    struct reign {
        uint64_t term;
        uint32_t replica, node;
    } leaders[TERMS_PER_GROUP]; /* by term */
    uint64_t committed_max;
    uint64_t counted;         /* the highest index a leader counted as committed */
    struct descriptor frozen; /* as last seen frozen for a merge */
    uint32_t joint_epoch;     /* the last joint descriptor seen */
    struct epoch_seen {
        uint32_t conf_epoch;
        uint16_t voters; /* nodes, bits */
        bool is_joint;
    } epochs[EPOCHS_PER_GROUP];
    uint32_t conf_epoch; /* the newest descriptor seen, and an index not before its entry's */
    uint64_t conf_index;
    struct reach { /* of its range epochs, by epoch: which keys they mean */
        uint32_t range_epoch;
        uint64_t hash;
    } reaches[EPOCHS_PER_GROUP];
};

struct cluster {
    struct cluster_options o;
    struct node nodes[CLUSTER_NODES_MAX];
    uint32_t roles[CLUSTER_NODES_MAX + 1], had[CLUSTER_NODES_MAX + 1]; /* by node, bits of enum kv_node_role: now; ever */
    struct channel_identity client;
    struct keys_allowed allowed;
    uint8_t allowed_keys[1][CHANNEL_KEY_BYTES];
    struct annals *annals[GROUPS_MAX];
    struct job_seen {
        uint64_t id, fence, applied;
        uint32_t state;
    } jobs[JOBS_SEEN];
    uint64_t checks;
    uint64_t nodes_seen; /* version of the newest list of nodes that was looked at */
    uint32_t busy_node;  /* whose leader counted an entry last; 0: none yet */
    struct written {     /* into other keyspaces than the clients', and acknowledged */
        uint32_t keyspace;
        uint8_t keys; /* bit I: "a/0" .. "f/7", by their last digit */
    } written[KEYSPACES_KEPT];
};

struct annals *annals_of(struct cluster *c, uint32_t group); /* NULL: none is kept */
/* cluster_jobs.c */
bool jobs_check(struct cluster *c, struct node *n, char *why, size_t why_size);
void job_epochs_see(struct annals *a, const struct descriptor *d);
uint64_t cluster_job_open(struct cluster *c, uint32_t node, uint64_t drawn); /* one of those that its replica knows; 0: none */
bool cluster_jobs_over(const struct cluster *c, char *why, size_t why_size);
/* cluster.c: asks the node, as a client of its own would; the answer goes into the trace. */
void node_ask(struct node *n, enum kv_op op, uint32_t keyspace, const struct kv_slice *args, uint32_t count);
/* cluster_nodes.c: all members have the same list of nodes. */
bool cluster_nodes_agree(const struct cluster *c, char *why, size_t why_size);
/* Of cluster_replicas() as many as have a place: a node may be given a role while who drains it does not know of that yet. */
bool drains_can_end(const struct cluster *c); /* as many nodes may take replicas as each partition has */
void removals_see(struct cluster *c);         /* by the lists of nodes, as they are now */
/* Those that were removed have no links and no replicas, and know it if they run. */
bool removed_are_apart(const struct cluster *c, char *why, size_t why_size);
/* cluster_owners.c */
bool ownership_check(struct cluster *c, char *why, size_t why_size);
bool reach_check(struct cluster *c, const struct descriptor *d, char *why, size_t why_size);
bool owners_tile(const struct cluster *c, char *why, size_t why_size); /* of a cluster at rest */
/* The descriptor of a group that most was done to, of all that are open anywhere; NULL: none is. */
const struct descriptor *descriptor_newest(const struct cluster *c, uint32_t group);
/* cluster_promises.c */
bool promises_check(struct cluster *c, const struct desk *n, const struct group *g, char *why, size_t why_size);

static inline struct node *node_of(const struct cluster *c, uint32_t node)
{
    return (struct node *)(uintptr_t)&c->nodes[node - 1];
}
static inline uint32_t workers_of(const struct cluster *c) /* each node has */
{
    return c->o.workers == 0 ? 1 : c->o.workers;
}
/* All workers of all nodes, from 1, those of a node one behind the other. */
static inline uint32_t desks_of(const struct cluster *c)
{
    return c->o.nodes * workers_of(c);
}
static inline struct desk *desk_of(const struct cluster *c, uint32_t desk)
{
    return &node_of(c, 1 + (desk - 1) / workers_of(c))->desks[(desk - 1) % workers_of(c)];
}
static inline struct worker *face_of(const struct cluster *c, uint32_t node)
{
    return node_of(c, node)->desks[0].worker;
}
/* The node's replica of the group by that id; NULL: none is open. */
static inline struct group *replica_at(const struct cluster *c, uint32_t node, uint32_t group, raft_id replica)
{
    for (uint32_t k = 0; k < workers_of(c); k++) {
        const struct worker *w = node_of(c, node)->desks[k].worker;
        struct group *g = w == NULL ? NULL : worker_group(w, group);
        if (g != NULL && g->replica == replica) return g;
    }
    return NULL;
}
#endif

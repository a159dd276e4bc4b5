#ifndef SIM_CLUSTER_IMPL_H
#define SIM_CLUSTER_IMPL_H
#include "server/group.h"
#include "server/join.h"
#include "tests/sim/cluster.h"

/* What cluster.c (the nodes) and cluster_check.c (what must hold between them) share. */
struct node { /* what outlives a process */
    struct cluster *cluster;
    uint32_t id;
    struct sim_host *host;
    struct disk_sim *disk;
    struct checkpoint *checkpoint;
    struct channel_identity identity;
    struct config config;
    struct journal journal;
    struct worker *worker;
    struct join *join; /* it asks to join; cluster_reap() goes on when it is over */
    bool is_joined;
    enum kv_err join_err;
    bool stop_wanted;
    uint64_t checkpoints_seen;
    uint64_t jobs_applied, jobs_life; /* of its replica of partition 0, when jobs were looked at */
    char why[256];
};

enum { GROUPS_MAX = 256,
       POINTS_PER_GROUP = 1 << 14,
       TERMS_PER_GROUP = 1 << 8,
       EPOCHS_PER_GROUP = 1 << 8,
       JOBS_SEEN = 1 << 12 };
/* What is known of a group for the whole run, whoever dies meanwhile. Both are rings: old
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
        uint16_t nodes; /* bits */
        bool is_whole;  /* voters alone */
    } epochs[EPOCHS_PER_GROUP];
    uint32_t conf_epoch;      /* the newest descriptor seen, and an index not before its entry's */
    uint64_t conf_index;
};

struct cluster {
    struct cluster_options o;
    struct node nodes[CLUSTER_NODES_MAX];
    struct channel_identity client;
    struct keys_allowed allowed;
    uint8_t allowed_keys[1][CHANNEL_KEY_BYTES];
    struct annals *annals[GROUPS_MAX];
    struct job_seen {
        uint64_t id, fence, applied;
        uint32_t state;
    } jobs[JOBS_SEEN];
    uint64_t checks;
    uint32_t busy_node; /* whose leader counted an entry last; 0: none yet */
};

struct annals *annals_of(struct cluster *c, uint32_t group); /* NULL: none is kept */
/* cluster_jobs.c */
bool jobs_check(struct cluster *c, struct node *n, char *why, size_t why_size);
void job_epochs_see(struct annals *a, const struct descriptor *d);
uint64_t cluster_job_open(struct cluster *c, uint32_t node, uint64_t drawn); /* one of those that its replica knows; 0: none */
bool cluster_jobs_over(const struct cluster *c, char *why, size_t why_size);
/* cluster_promises.c */
bool promises_check(struct cluster *c, const struct node *n, const struct group *g, char *why, size_t why_size);

static inline struct node *node_of(const struct cluster *c, uint32_t node)
{
    return (struct node *)(uintptr_t)&c->nodes[node - 1];
}
#endif

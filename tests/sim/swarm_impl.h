#ifndef SIM_SWARM_IMPL_H
#define SIM_SWARM_IMPL_H
#include "tests/sim/swarm.h"
#include "tests/sim/workload.h"
#include <stdarg.h>

struct swarm_plan {                        /* drawn once, at the start */
    uint32_t nodes, clients, replicas;     /* of each partition */
    uint32_t late;                         /* of the nodes: those that are yet to join */
    uint32_t roles[CLUSTER_NODES_MAX + 1]; /* by node, bits of enum kv_node_role; 0: all */
    uint64_t segment_bytes, memtable_bytes, log_cache_bytes, log_keep_bytes;
    uint32_t batch_entries;
    struct sim_net net;
    uint64_t sync_min_ns, sync_max_ns, work_max_ns;
    uint32_t pace_percent;                                                     /* of heartbeat, lease and election timeout */
    uint64_t quiet_ns;                                                         /* without clients, before a group becomes quiet; 0: never */
    uint64_t settle_ns, split_load, split_bytes, merge_after_ns, balance_load; /* the coordinator's limits */
    uint32_t partitions_max;
    uint64_t service_rate;                      /* of each node; 0: no limit. By the seed itself, not drawn */
    uint64_t dead_ns;                           /* a node that is away for so long is replaced */
    bool cuts_reset;                            /* a link that is cut breaks its connections at once */
    uint32_t log_factor[CLUSTER_NODES_MAX + 1]; /* by node: a minority syncs so much slower than the others */
    enum swarm_fault faults[SWARM_FAULT_COUNT];
    uint32_t fault_kinds;
};

struct swarm_season {                           /* drawn anew every few seconds (season.c) */
    enum swarm_fault faults[SWARM_FAULT_COUNT]; /* of the plan's */
    uint32_t fault_kinds;
    uint64_t gap_ns;
    uint32_t again_ppm;    /* of restarts: followed at once by another death */
    uint64_t ambush_marks; /* bits: a fault strikes right after one of these (marks.h) .. */
    uint32_t ambush_ppm;   /* .. so often */
    bool ambush_alike;     /* always the first kind of fault */
    uint64_t ambush_delay_ns;
};

struct swarm {
    struct swarm_options o;
    struct swarm_result *out;
    struct swarm_plan plan;
    struct swarm_season season;
    struct sim_event next_season;
    uint64_t season_random;
    struct sim *sim;
    struct cluster *cluster;
    struct workload *workload;
    /* faults (faults.c) */
    struct sim_event next_fault, heal_links;
    struct restart {
        struct sim_event event;
        struct swarm *w;
        uint32_t node;
    } restarts[CLUSTER_NODES_MAX + 1];
    struct calm { /* ends what slows a node */
        struct sim_event event;
        struct swarm *w;
        uint32_t node;
    } calms[CLUSTER_NODES_MAX + 1];
    struct sim_event ambush;
    uint32_t ambush_node;
    uint32_t fault_total;
    uint64_t random; /* of faults: what clients do does not change what is drawn */
    bool healed;
    uint64_t counted; /* bits: nodes whose leaders may have counted an entry as committed since the last event */
    /* the atlas (atlas.c) */
    uint32_t lost;
    bool struck[CLUSTER_NODES_MAX + 1]; /* synced data was harmed: its logs may call themselves damaged */
    bool tainted[CLUSTER_NODES_MAX + 1], full[CLUSTER_NODES_MAX + 1], lying[CLUSTER_NODES_MAX + 1];
};

void swarm_fail(struct swarm *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void swarm_start_node(struct swarm *w, uint32_t node);
uint64_t swarm_below(struct swarm *w, uint64_t n); /* the faults' own chance */
bool swarm_chance(struct swarm *w, uint32_t ppm);
void swarm_moment(struct swarm *w, enum sim_mark m, uint32_t node); /* something happened that a fault may follow */

bool swarm_may_lose(struct swarm *w, uint32_t node); /* and counts it */
void swarm_wipe(struct swarm *w, uint32_t node);     /* of a node that is down */
void swarm_untaint(struct swarm *w, uint32_t node);
bool swarm_misdirection_is_proven(struct swarm *w, uint32_t node);
uint32_t swarm_rot(struct swarm *w, uint32_t node); /* how many bits */

void swarm_season_begin(struct swarm *w);
void swarm_faults_begin(struct swarm *w);
void swarm_faults_step(struct swarm *w); /* after each event: nodes that died by themselves */
void swarm_faults_heal(struct swarm *w);
#endif

#ifndef SERVER_PLACEMENT_H
#define SERVER_PLACEMENT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where replicas should be and who should lead, as a pure function of what is (DESIGN 8). It remembers nothing: whoever
 * coordinates next comes to the same plan, and one that was half carried out is gone on with.
 *
 * In this order, each step on the result of those before:
 *   leave      a replica on a node that is dead, to be drained or without the role, or outside its partition's zones, goes to a node that may take it
 *   complete   a partition with too few replicas gets another
 *   shrink     one with too many loses one: whom `leave` found no place for; else of the fullest zone, on the node with the most, not whom it
 *              prefers as leader. Only while a majority of those that it wants is left on nodes that are there
 *   spread     two replicas in one zone, and a zone without one: one of them goes there
 *   balance    from the nodes with the most replicas to those with the fewest, until they differ by at most one
 *   lead       likewise for whom the descriptors prefer as leaders: by what the partitions serve, as soon as one of them serves
 *              anything, until no node has over PLACEMENT_LOAD_SLACK_PERCENT more than its share; without any load by their number
 *
 * A replica never goes where its partition has one already, nor into a zone that has one while another has none.
 * Balancing begins only when two nodes differ by more than `slack`, and then goes all the way, so that it does not begin
 * again with each change. Time: n log n in replicas and nodes. */
enum { PLACEMENT_REPLICAS_MAX = 16,
       PLACEMENT_LOAD_SLACK_PERCENT = 15 };
/* What a partition needs of a node; each role's partitions are placed among the nodes that have it. */
enum placement_role { PLACEMENT_STORAGE,
                      PLACEMENT_COORDINATOR,
                      PLACEMENT_ROLES };

struct placement_node {
    uint32_t id;     /* not 0 */
    uint32_t zone;   /* failure domain, a number below the count of nodes; all different where none are named */
    bool may_take;   /* it is there, and neither cordoned nor drained */
    bool is_away;    /* no quorum counts on it now */
    uint8_t lacks;   /* bits of enum placement_role: it holds no partitions of these */
    bool must_leave; /* drained, or dead for long enough */
};
struct placement_partition {
    uint32_t id;
    enum placement_role role; /* that its nodes must have */
    uint32_t wanted;          /* replicas */
    uint32_t count;
    uint32_t nodes[PLACEMENT_REPLICAS_MAX]; /* of the voters, the preferred leader first */
    uint64_t load;                          /* requests a second; 0 in all of them: they are not to be weighed */
    bool is_busy;                           /* its replicas are being changed: counted as it is, left alone */
    bool is_zoned;                          /* its replicas may be in `zones` only, though no node may be there; else anywhere */
    uint64_t zones;                         /* a bit for each below 64 */
    bool keeps_lead;                        /* nothing is done about who leads it */
};
enum placement_reason { PLACEMENT_LEAVE,
                        PLACEMENT_COMPLETE,
                        PLACEMENT_SHRINK,
                        PLACEMENT_SPREAD,
                        PLACEMENT_BALANCE,
                        PLACEMENT_LEAD };
struct placement_step {
    enum placement_reason reason;
    uint32_t partition, from, to; /* nodes; from 0: another replica; to 0: one less. LEAD: `to` is to be preferred */
};

/* Writes up to `steps_max` steps, most urgent first, and returns how many; at most one for each partition. Unknown nodes
 * in partitions count as dead. UINT32_MAX: out of memory. */
uint32_t placement_plan(const struct placement_node *nodes, uint32_t node_count,
                        const struct placement_partition *partitions, uint32_t partition_count, uint32_t slack,
                        struct placement_step *steps, uint32_t steps_max);
#endif

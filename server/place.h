#ifndef SERVER_PLACE_H
#define SERVER_PLACE_H
#include "server/group.h"

/* Where the partitions of a new keyspace begin. While the nodes that hold partition 0 have the role storage and are enough,
 * they are born there, by the entry itself (birth.h). Else partition 0's leader chooses among all nodes with that role, as
 * it proposes the entry (R7), and has the nodes make their replicas: each is told what is its own until the partition is
 * heard of. Nothing is kept for that: the keyspace's row says which nodes were chosen, and the birthmarks of their
 * directories, so that none which lost its disk since begins one anew (R4). */

/* Writes into `out` what is to stand in the entry instead of KSCREATE's description, or leaves it empty: as it is.
 * False: there is nobody to choose. */
bool place_choose(struct group *g, struct kv_slice wanted, struct kv_buf *out);
void place_tick(struct worker *w, uint64_t now_ns);
#endif

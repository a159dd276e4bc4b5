#ifndef SERVER_LEAVE_H
#define SERVER_LEAVE_H
#include "server/group.h"

/* Replicas that are no members of their group any more. They learn so from the entry that removes them, or, if they were
 * behind, from whoever they ask for a vote. Ids are never reused and a configuration is applied only when committed, so an id
 * below `replica_next` that a descriptor does not hold will never be a member again (R4). Then the rows of its range go from
 * this node, and a tombstone stays. */
bool leave_is_due(const struct descriptor *d, raft_id replica);
void leave_group(struct group *g);                              /* at the end of this turn */
void leave_begin(struct worker *w, const struct descriptor *d); /* its group has been closed */
/* Of a partition, by its leader. A damaged replica is not open, so it hears nothing else: it goes where it is no member, or its
 * keys have another owner on other nodes. */
void leave_told(struct worker *w, const struct descriptor *d);
void leave_drop(struct worker *w); /* the store is closed: frees what it never answered */
#endif

#ifndef SERVER_COORDINATOR_H
#define SERVER_COORDINATOR_H
#include "server/node.h"

/* Who leads partition 0 looks, once a second, whether replicas and leaders are where they should be (placement.h), and whether
 * partitions are too large, too hot or too cold (shaping.h), and opens a job (jobs.h) for each move, split and merge that is lacking;
 * who is preferred as leader is asked for at once (KVLEAD). It keeps no state of its own: what is under way
 * stands in jobs and descriptors, so its successor goes on where it stopped, and without one nothing but changes of placement waits. Each look asks for a few
 * changes and the next plans anew, so nodes end up within its slack of each other, not always level. */
void coordinator_tick(struct worker *w, uint64_t now_ns);
#endif

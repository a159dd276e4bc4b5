#ifndef SERVER_FOUNDING_H
#define SERVER_FOUNDING_H
#include "server/node.h"

/* The first start of a cluster, or of a node alone: partition 0 and those of keyspace `default`, of which each node makes its own
 * replicas, and each of its workers its share. Those that are there already stay as they are. */
void founding_begin(struct worker *w);
#endif

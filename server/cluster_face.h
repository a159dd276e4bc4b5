#ifndef SERVER_CLUSTER_FACE_H
#define SERVER_CLUSTER_FACE_H
#include "server/gate.h"

/* Who owns and who leads the hash slots of keyspace `default`, and where its node is: all that the cluster
 * face knows of partitions, for the gate (through gate_services) and for what it asks of all keys (fan.c). */
struct worker;
struct gate_owner cluster_face_owner(void *node, uint16_t slot); /* for every command with keys */
bool cluster_face_leads(const struct worker *w, uint32_t slot);
bool cluster_face_range_next(void *node, uint32_t *slot, struct gate_range *out);
bool cluster_face_node_next(void *node, uint32_t *cursor, struct gate_node *out);
#endif

#ifndef SERVER_EXEC_NODES_H
#define SERVER_EXEC_NODES_H
#include "client/wire/message.h"
#include "server/exec.h"

/* What partition 0 knows of nodes, as rows of its own range keyspace, by user key:
 *
 *   a/nodes   "NEXT ID ID ..": the next id to be given, then those there are, ascending; the version of this row
 *             is the version of the list, and changes with every node
 *   n/ID      an encoded Node. That of a removed one stays, so that its key is refused by name, until there are
 *             KV_NODES_MAX rows and a new node needs the place
 *   t/HASH    a join token by the hash of its secret, 64 hex digits; 44 bytes, little-endian:
 *              0  u64  good until, in ms of the group clock
 *              8  u32  id of the node that used it; 0: nobody yet
 *             12  32 B its key
 *             One that nobody used is forgotten EXEC_TOKEN_KEPT_MS after it expired.
 *
 * Ids are given in order and never again. */
#define EXEC_ROW_NODES "a/nodes"
#define EXEC_NODE_SELF "self" /* KSNODE id self Node: what a node says of itself when its roles have changed: roles, Redis ports */
enum { EXEC_ROW_NODE_BYTES_MAX = 16,
       EXEC_TOKEN_HASH_BYTES = 32,
       EXEC_TOKEN_BYTES = 44,
       EXEC_TOKEN_KEPT_MS = 3600000,
       EXEC_TOKEN_DAYS_MAX = 30 };
struct kv_slice exec_node_row(uint32_t id, char out[EXEC_ROW_NODE_BYTES_MAX]); /* "n/ID" */
/* NEXT and the ids of a/nodes; false: it does not parse. */
bool exec_node_ids(struct kv_slice row, uint32_t *next, uint32_t ids[KV_NODES_MAX], uint32_t *count);
/* For other commands: a draining node is up again; others stay as they are. False: stop. */
bool exec_node_undrain(struct exec *x, uint32_t id);
/* Nodes that are not removed and have the role storage, in one of these zones; without zones all. False: stop. */
bool exec_nodes_in(struct exec *x, const struct kv_slice *zones, uint32_t zone_count, uint32_t *count);
/* NULL: this can be the address that other nodes dial; else what is wrong with it. */
const char *exec_host_fault(struct kv_slice host);
#endif

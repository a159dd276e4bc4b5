#ifndef SERVER_NODES_H
#define SERVER_NODES_H
#include "server/node.h"

/* The nodes of the cluster, as this node knows them: what the configuration says at first, then the rows of partition
 * 0 (exec_nodes.h), read anew after each change where a replica of it is, and told to all other nodes. Of two lists
 * the one of the higher version stays. It is kept in the data directory, so that a restart needs no list; what is
 * written there may be behind, and is caught up with as soon as another node is heard.
 *
 * `membership`, little-endian, replaced whole:
 *
 *    0  8 B  magic "kvnodes\n"
 *    8  u32  format
 *   12  u32  id of this node
 *   16 16 B  cluster id
 *   32  u8   size of the cluster's name, then up to 64 B of it
 *   97  3 B  zero
 *  100  u32  size of the list
 *  104  ..   an encoded Map of the nodes, with their version
 *       u64  XXH3-64 over all before */
struct nodes;
struct nodes_entry {
    uint32_t id;
    char host[64];
    uint16_t native, resp, resp_cluster;
    uint8_t key[32];
    char zone[KV_NAME_BYTES_MAX + 1];
    uint32_t roles; /* bits of enum kv_node_role; 0: all */
    enum kv_node_state state;
};

/* From `membership`, else from the configuration. KV_CORRUPT, KV_VERSION, KV_CONFLICT, KV_IO: `why` says what is wrong. */
enum kv_err nodes_create(struct worker *w, char *why, size_t why_size);
void nodes_destroy(struct nodes *n);

/* In ascending order, removed ones too; NULL at the end. Valid until the next turn. */
const struct nodes_entry *nodes_at(const struct worker *w, uint32_t index);
const struct nodes_entry *nodes_find(const struct worker *w, uint32_t id); /* NULL: never heard of */
/* Whether replicas of that partition belong on that node, by its roles; an unknown one is given the benefit of the doubt. */
bool nodes_may_hold(const struct worker *w, uint32_t id, uint32_t partition);
bool nodes_takes_clients(const struct worker *w); /* this one, as it was started: the rows may not say so yet */
/* Those of the native port: also as long as the rows send them here, since nobody else may take them (exec_nodes.c). */
bool nodes_serves_clients(const struct worker *w);
static inline enum kv_node_role nodes_role_for(uint32_t partition)
{
    return partition == KV_PARTITION_SYSTEM ? KV_NODE_COORDINATOR : KV_NODE_STORAGE;
}
bool nodes_are_one(const struct worker *w);                 /* this node is all there is: nobody else joined yet */
uint64_t nodes_serial(const struct worker *w);              /* another whenever the list is */
void nodes_put(const struct worker *w, struct kv_buf *out); /* an encoded Map, for other nodes */
uint64_t nodes_version(const struct worker *w);

void nodes_load(struct worker *w);                          /* rows of partition 0 may have changed */
void nodes_told(struct worker *w, struct kv_slice encoded); /* by another node */
/* Writes the first rows where this node leads partition 0, and what is new to the disk; has the rows say with which roles
 * this node was started. */
void nodes_tick(struct worker *w);

/* How many replicas of partitions that this node knows of are on that node. */
uint32_t nodes_replicas(const struct worker *w, uint32_t id);

/* ---- before there is a worker; blocking ---- */

struct membership {
    uint32_t node;
    uint8_t cluster[16];
    char name[65];
    uint64_t version;
    uint32_t count;
    struct nodes_entry list[KV_NODES_MAX];
};
/* KV_NOT_FOUND; KV_CORRUPT, KV_VERSION, KV_IO with `why`. */
enum kv_err membership_read(struct disk *d, struct membership *out, char *why, size_t why_size);
enum kv_err membership_write(struct disk *d, const struct membership *m);
bool membership_decode(struct kv_slice map, struct membership *out); /* version, count and list */
/* Takes what the directory says of this node and its cluster into the configuration. KV_NOT_FOUND: it says nothing;
 * KV_CONFLICT: it says otherwise than the configuration; else as membership_read(). */
enum kv_err membership_overlay(struct disk *d, struct config *c, char *why, size_t why_size);
#endif

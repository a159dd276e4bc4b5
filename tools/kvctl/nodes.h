#ifndef KVCTL_NODES_H
#define KVCTL_NODES_H
#include <jansson.h>

#include "client/kv_client.h"
#include "tools/kvctl/kvctl.h"

/* The nodes of a fresh map, asked side by side: what status and node .. share. */
struct node { /* one node of the map and its answer */
    uint32_t id;
    struct env_addr addr;
    uint16_t resp;
    enum kv_node_state state; /* as the cluster says; whether it answers is another matter */
    char zone[KV_NAME_BYTES_MAX + 1];
    uint32_t roles;             /* bits of enum kv_node_role; 0: all */
    uint32_t replicas, leaders; /* of partitions, by the map */
    struct kv_call call;
    bool open;
    struct kv_result result;
    json_t *json; /* of KVSTATUS or KVHOT; NULL: no usable answer */
    int64_t number;
};

/* NULL: said why on stderr, *code is the exit code. Free with nodes_free(). */
struct node *nodes_read(struct kvctl *k, uint32_t *count, int *code);
void nodes_free(struct node *nodes, uint32_t count);
/* Asks every node but `except` (0: none) for `op`, each within a second. */
void nodes_ask(struct kvctl *k, struct node *nodes, uint32_t count, enum kv_op op, const struct kv_slice *args, uint32_t arg_count,
               uint32_t except);
void nodes_keyspace(const struct kv_map_info *map, uint64_t id, char out[KV_NAME_BYTES_MAX + 1]); /* its name; the id if the map has none */

bool nodes_id(struct kvctl *k, const char *word, uint32_t *id); /* false: said why */
int nodes_unknown(struct kvctl *k, uint32_t id);                /* says so, returns the exit code */

/* Members of a JSON object; 0 and "" if they are missing or of another type. */
uint64_t nodes_number(json_t *object, const char *name);
const char *nodes_text(json_t *object, const char *name);
json_t *nodes_json(const struct node *n); /* what is told of one node, for -o json */
/* Print to stdout and free; return an exit code. */
int nodes_json_print(struct kvctl *k, json_t *o, size_t flags);
/* What a partition serves a second, on all nodes that answered; false: its leader knows no size, or did not answer. */
bool nodes_load(const struct node *nodes, uint32_t count, uint32_t partition, double *ops, uint64_t *bytes);
void nodes_size_text(uint64_t bytes, char out[24]); /* "1.5 GiB" */
int nodes_buf_print(struct kvctl *k, struct kv_buf *b);
#endif

#ifndef KVCTL_ZONES_H
#define KVCTL_ZONES_H
#include "client/wire/message.h"
#include "tools/kvctl/nodes.h"

/* Keyspaces, and the zones in which their replicas have to be. */

/* All of them; an exit code, the reason is on stderr. The arena holds them. */
int keyspaces_read(struct kvctl *k, struct kv_arena *arena, struct kv_keyspace **list, uint32_t *count);
/* May replicas of the keyspace be in that zone? Also of one that is not in the list. */
bool zones_allow(const struct kv_keyspace *list, uint32_t count, uint32_t keyspace, const char *zone);
/* Appends why not all replicas of the keyspace have a node, by what nodes say that answered KVSTATUS; nothing if they have. */
void zones_blocker(const struct kv_keyspace *s, const struct node *nodes, uint32_t count, struct kv_buf *out);
#endif

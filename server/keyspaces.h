#ifndef SERVER_KEYSPACES_H
#define SERVER_KEYSPACES_H
#include "server/node.h"

/* What this node knows of keyspaces: a copy of the rows that its replica of partition 0 has applied, read
 * anew after each of them changed, or what it was told of them. It may be behind the leader's, and says so: an id that was never heard of may
 * only be new. What was dropped is destroyed here, partition by partition. */
struct keyspaces *keyspaces_create(struct worker *w); /* NULL: out of memory; knows `default` alone */
void keyspaces_destroy(struct keyspaces *k);

/* From the rows: partition 0 was opened, restored from a snapshot, or one of its commands changed them. */
void keyspaces_load(struct worker *w);
/* A node without a replica of partition 0 is told by who leads it, on each change and now and then; and by any other that
 * knows them when a link comes up, since partition 0 may have no leader then. */
struct peer_directory;
void keyspaces_tell(struct worker *w, uint32_t node); /* node 0: all others */
void keyspaces_learn(struct worker *w, const struct peer_directory *d);
/* Its replica of partition 0 is whole and has applied something, or it was told. */
bool keyspaces_are_known(const struct worker *w);

/* Valid until the next load; NULL: none that this node knows of. */
const struct kv_keyspace *keyspaces_find(const struct worker *w, uint32_t id);
const struct kv_keyspace *keyspaces_named(const struct worker *w, struct kv_slice name);
bool keyspaces_is_gone(const struct worker *w, uint32_t id); /* it was there, and was dropped */
/* All of them, `default` first; and the number of the state of partition 0 they are as of, 0: not known. */
const struct kv_keyspace *keyspaces_all(const struct worker *w, uint32_t *count, uint64_t *directory);

/* Destroys one partition that is left of a dropped keyspace, once the one before is gone. */
void keyspaces_tick(struct worker *w);
void keyspaces_look_again(struct worker *w); /* a group was opened, perhaps of a dropped one */
#endif

#ifndef SERVER_REST_H
#define SERVER_REST_H
#include "server/group.h"

/* Quiet groups (R13), the node's part: which groups a tick looks at, when a group may be quiet, and what
 * wakes it that its core cannot see. */
void rest_activate(struct group *g); /* ticks look at it until it is quiet and nothing of it waits */
void rest_forget(struct group *g);   /* it is about to be freed */
void rest_tick(struct worker *w, uint64_t now_ns);
/* A leader, at the node's heartbeat: lets the core become quiet where nothing here speaks against it. */
void rest_offer(struct group *g, uint64_t now_ns);
bool rest_agrees(const struct group *g, uint32_t node); /* a follower, asked by the leader on that node */
void rest_wake(struct group *g);
bool rest_is_sound(const struct group *g); /* ticks look at it, or need not */
/* No connection to the node any more: groups it led elect, some with each tick, and those led here see who is left. */
void rest_peer_closed(struct worker *w, uint32_t node);
/* A dead replica here that is quiet: its leader would not ask for it, so it is told. */
void rest_lost(struct group *g);
#endif

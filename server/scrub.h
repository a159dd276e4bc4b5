#ifndef SERVER_SCRUB_H
#define SERVER_SCRUB_H
#include "server/group.h"

/* The scrub (R21): the leader has an entry of its own committed, and every voter hashes its rows as of
 * that entry. Whose hash differs from that of a majority is not intact: it leaves and gets a
 * successor (R4). No majority: the journal says so, nobody is touched. */
struct peer_scrub { /* see server/peer.proto */
    uint32_t group;
    raft_id from, to;
    uint64_t index, hash;
    enum peer_scrub_kind { PEER_SCRUB_ASK, PEER_SCRUB_ANSWER, PEER_SCRUB_BUSY, PEER_SCRUB_DIFFERS } kind;
};
void scrub_tick(struct group *g, uint64_t now_ns); /* a leader's */
void scrub_applied(struct group *g);               /* g->applied has just become g->scrub.index */
void scrub_receive(struct worker *w, uint32_t node, const struct peer_scrub *m);
void scrub_drop(struct worker *w); /* what the store never answered; after it was closed */
/* The replicas whose hash is not that of more than half of `voters`, as a bit each; `*majority`
 * false: there is no such half. */
uint32_t scrub_judge(const uint64_t *hashes, uint32_t count, uint32_t voters, bool *majority);
#endif

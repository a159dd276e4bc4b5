#ifndef SERVER_SEATS_H
#define SERVER_SEATS_H
#include "server/map.h"

/* Which worker of this node has a replica of what. A replica stays where it is for life (R20): on the worker of the one it
 * was split from, else where its snapshot was sent. Worker 0 is told by its siblings of each replica they have or ever had, of
 * their own accord, in the order in which it happened; of its own it asks its store. */
enum seat_state { SEAT_NONE,   /* never had one */
                  SEAT_GONE,   /* a tombstone is there */
                  SEAT_CLOSED, /* it is there, damaged or yet to be born again */
                  SEAT_LIVE };
struct seat { /* of a partition, on one worker */
    uint32_t group;
    raft_id replica; /* the highest that was there */
    enum seat_state state;
    bool leads, is_stranded, serves; /* is_stranded: group_is_out_of_touch(); serves: reads of level `any` */
    bool is_lasting;                 /* leave_is_lasting() */
    uint32_t leader;                 /* the node that it takes for the leader */
    uint64_t term;
    uint32_t range_epoch, conf_epoch;
    struct kv_key from, to; /* unless GONE */
};
/* A sibling's: something of the group may have changed; it is gone; all that the store knows, at the start. */
void seats_tell(struct group *g);
void seats_tell_gone(struct worker *w, uint32_t group);
void seats_tell_all(struct worker *w);

/* ---- worker 0's; ways as in siblings.h, 0: none ---- */

void seats_learn(struct worker *w, uint32_t index, const struct seat *seat, struct kv_slice descriptor);
uint32_t seats_leader(const struct worker *w, const struct partition *p);
uint32_t seats_server(const struct worker *w, const struct partition *p); /* can answer reads of level `any` */
/* How many of those on siblings are out of touch, and of how many. */
uint32_t seats_stranded(const struct worker *w, const struct partition *p, uint32_t *live);
/* It is without a replica on worker 0 by now: the node is its leader as far as a sibling leads, unless another node is known to. */
void seats_keep_leader(const struct worker *w, struct partition *p);
struct seat_counts {
    uint32_t replicas, leads, led_by; /* led_by: those that know a leader */
};
const struct seat_counts *seats_counts(const struct worker *w, uint32_t index); /* of a sibling: what is live there */
void seats_destroy(struct worker *w);
void seats_free(struct partition *p);

/* The worker that a message to that replica is for; 0: this one. It may know that the replica is gone, or not there yet. */
uint32_t seats_of(struct worker *w, uint32_t group, raft_id replica);
bool seats_is_live(const struct worker *w, uint32_t index, uint32_t group); /* on that sibling */
/* Where the rows of a replica that is nowhere yet are to go: the same for each piece of them. UINT32_MAX: nowhere now. */
uint32_t seats_place(struct worker *w, uint32_t group, raft_id replica, struct kv_slice descriptor);
/* That replica, or a later one, is on another worker, or on its way there: it is not to begin here. */
bool seats_has_elsewhere(const struct worker *w, uint32_t group, raft_id replica);
/* Likewise, or another worker holds some of that range, and may give birth to it yet. */
bool seats_forbid_birth(const struct worker *w, const struct descriptor *d, raft_id replica);
void seats_placed_here(struct worker *w, uint32_t group, raft_id replica);

/* Moves replicas among the workers until each has as many, a few at a time, by asking their leaders. */
void seats_tick(struct worker *w, uint64_t now_ns);
/* Both are on one worker here; else the right one has been asked to move there. */
bool seats_are_beside(struct worker *w, uint32_t left, uint32_t right);
#endif

#ifndef SERVER_SEATS_IMPL_H
#define SERVER_SEATS_IMPL_H
/* What seats.c (what is where) and seats_plan.c (what goes where) share. */
#include "server/seats.h"
#include "server/siblings.h"

enum { SEAT_WISHES = 16 };

struct seats {          /* of one partition */
    raft_id placed;     /* the last that was placed here, */
    uint32_t placed_at; /* on which worker, */
    uint64_t placed_ns; /* and when */
    struct seat of[];   /* by worker; [0] is not used */
};

struct seat_plan {                          /* of the node */
    struct seat_counts counts[WORKERS_MAX]; /* of siblings, as they told */
    struct seat_wish {
        uint32_t group, to; /* group 0: none */
        uint64_t since_ns, asked_ns;
    } wishes[SEAT_WISHES];
    uint64_t balance_ns;
    uint32_t cursor; /* over the map */
};

struct seats *seats_make(struct worker *w, struct partition *p);
struct seat_plan *seats_plan(struct worker *w);
/* The siblings that hold some of its range, as bits, for another partition, and will not just give way to it (R9). */
uint32_t seats_holders(const struct worker *w, const struct descriptor *d);

static inline bool seat_is_live(const struct partition *p, uint32_t index)
{
    if (index == 0) return p->group != NULL;
    return p->seats != NULL && p->seats->of[index].state == SEAT_LIVE;
}
#endif

#ifndef SERVER_PACE_H
#define SERVER_PACE_H
#include "client/env/env.h"

/* limit.service_rate: this node serves so many operations of users a second on the replicas it holds, reads and writes
 * alike, as a machine would that can do no more; an option for tests of balance and scale. What it only forwards is not
 * counted. Answers leave one by one in the order in which the work was done, each a service time behind the one before.
 * The work itself is not put off, so leases, splits and the order of a partition's writes are those of a node without
 * a limit. Who could not be answered inside its deadline is refused before anything is done. Of several workers worker 0 keeps it for
 * all: what another one serves has come through it, and goes back that way.
 *
 * Off (0) it is one comparison a request. */
struct request;
struct worker;
struct kv_reply;

struct pace {
    struct request *head, *tail; /* REQUEST_PACED: done, their answers not given yet; of limit.queue */
    uint64_t admitted;           /* those, and those at work */
    uint64_t next_ns;            /* the head's turn */
    struct env_timer timer;
};

void pace_init(struct worker *w);
/* `r` is about to be executed here, or on another worker of this node. False: it has been answered BUSY. */
bool pace_admit(struct request *r);
/* An admitted one failed on its way: its answer waits for nobody. */
void pace_excuse(struct request *r);
/* Keeps the reply of an admitted request, with a copy of what it borrows, until its turn; false: it is given now. */
bool pace_hold(struct request *r, const struct kv_reply *reply);
void pace_drain(struct worker *w); /* the node is stopping: all answers at once, and none is kept any more */
void pace_close(struct worker *w);
#endif

#ifndef SERVER_SIBLINGS_H
#define SERVER_SIBLINGS_H
#include "client/env/mailbox.h"
#include "server/node.h"
#include "server/peer.h"

/* A node of several workers. Worker 0 is its face: it listens, dials, holds the links to other nodes, partition 0, the map. The
 * others, its siblings, own partitions and nothing else. Each shares two mailboxes with worker 0, one a way, and nothing with
 * anybody else; what one sibling has to say to another goes through worker 0.
 *
 * A sibling is a very near node: requests handed over, their replies and what replicas say to each other are the frames
 * of the links (message.h, peer.proto). What only workers of one process say to each other are plain structs:
 *
 *   up     what is where (seats.h), how the worker is
 *   down   how the node is: whom it is connected to, what time it believes in, whether it stops; and orders
 *
 * Whatever is said in a turn leaves as one message. A way holds at most SIBLING_BYTES_MAX: behind that requests are
 * refused with BUSY and what replicas say is dropped, as on a link. Of one worker (w->siblings is NULL) nothing of this exists. */
enum { WORKERS_MAX = 16,
       SIBLING_MESSAGES = 1024,
       SIBLING_BYTES_MAX = 64 << 20 };
struct siblings;

enum kv_err siblings_create(struct worker *w); /* as w->siblings, if it has some */
void siblings_destroy(struct worker *w);
void siblings_receive(struct worker *w); /* what came in the mailboxes */
void siblings_flush(struct worker *w);   /* end of turn */
void siblings_tick(struct worker *w, uint64_t now_ns);

static inline uint32_t siblings_count(const struct worker *w) /* workers of this node, itself among them */
{
    return w->o.count > 1 ? w->o.count : 1;
}
static inline bool siblings_is_face(const struct worker *w)
{
    return w->o.index == 0;
}

/* A worker of this node where the id of a node stands: as the way of a request. Such ids are never given to nodes. */
static inline uint32_t sibling_way(uint32_t index)
{
    return UINT32_MAX - index;
}
static inline bool sibling_is_way(uint32_t node)
{
    return node > UINT32_MAX - WORKERS_MAX;
}

/* Parts (peer_put_..) for that worker; at worker 0 `node` says whom they come from, elsewhere whom they are for, 0:
 * everybody. Good until anything else is said. NULL: no room. */
struct kv_buf *siblings_batch(struct worker *w, uint32_t index, uint32_t node);
void siblings_batch_end(struct worker *w, uint32_t index);                                           /* what comes next is read by itself */
void siblings_say_seat(struct worker *w, const void *seat, size_t size, struct kv_slice descriptor); /* to worker 0 */

/* KV_BUSY: no room. Else the request is kept and answered, or parked again later. */
enum kv_err siblings_forward(struct worker *w, uint32_t way, struct request *r);
void siblings_forget(struct worker *w, struct request *r);

void worker_end(struct worker *w); /* a sibling's: worker 0 has stopped */

/* ---- what worker 0 knows of the others ---- */

struct sibling_state {
    bool poisoned, full, damaged; /* store_damage() */
    bool impaired;                /* its store may have forgotten replicas that it held: its birthmark is */
    bool sends;                   /* transfer_sends() */
    uint64_t birthmark;
    struct store_stats stats;
    uint64_t reads[KV_LEVEL_ANY + 1], read_rounds, served[2]; /* served: by load_kind */
};
const struct sibling_state *siblings_state(const struct worker *w, uint32_t index);
bool siblings_lead(const struct worker *w);            /* one of them leads a partition */
bool siblings_node_is_damaged(const struct worker *w); /* its own store, or that of one of them */

void siblings_peer_event(struct worker *w, uint32_t node, bool is_up); /* a link came up, or ended */
void siblings_order_levels(struct worker *w, const char *levels);
void siblings_order_checkpoint(struct worker *w);
void siblings_end(struct worker *w); /* worker 0 is stopped: they end too */
/* Asks all workers of the node, this one among them, what only together is an answer (gather.c). True: taken. */
bool siblings_gather(struct request *r);

/* ---- what the others know of the node ---- */

const struct peer_facts *siblings_facts(const struct worker *w, uint32_t node); /* NULL: not known */
uint32_t siblings_facts_connected(const struct worker *w);
uint64_t siblings_node_birthmark(const struct worker *w); /* worker 0 knows it too */
bool siblings_node_is_full(const struct worker *w);       /* likewise: the disk of one of its workers is */
uint32_t siblings_senders(const struct worker *w);        /* likewise: how many send snapshots, this one counted, and so share snapshot.rate */

/* ---- the record of the data directory: how many workers it is of ---- */

/* KV_CONFLICT, with `why`: it is of another number than w->o.count. */
enum kv_err workers_check(struct worker *w, char *why, size_t why_size);
#endif

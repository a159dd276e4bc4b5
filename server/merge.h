#ifndef SERVER_MERGE_H
#define SERVER_MERGE_H
#include "server/group.h"
#include "server/peer.h"

/* Merges: the partition on the left absorbs its neighbour on the right (R9). README.md argues why it is safe.
 *
 *   FREEZE    in the right's log: nothing is written or read there any more
 *   ABSORB    in the left's log, once every replica of the right has FREEZE in a checkpoint: its rows stay where they are and
 *             are the left's, its replica beside each of the left's ends
 *   VOID      in the log of whoever ends where the right begins: no ABSORB of that merge takes effect from then on, or it has
 *   UNFREEZE  in the right's log, behind a VOID that took effect */

/* absorb.c: what the entries do. */
static inline bool merge_is_op(enum kv_op op)
{
    return op >= KV_OP_FREEZE && op <= KV_OP_VOID;
}
/* Frozen: that entry does nothing, and its request goes again; likewise what would be proposed or read. */
bool merge_voids(const struct group *g, enum kv_op op);
static inline bool merge_holds(const struct group *g, enum kv_op op)
{
    return g->descriptor.frozen_merge != 0 && (group_leads(g) || kv_op_info(op)->kind == KV_OP_KIND_R) && merge_voids(g, op);
}
void merge_apply(struct group *g, uint64_t index, const struct command *c, struct exec *x, struct kv_reply *reply);
/* ABSORB: the right side's replica here is not as far as its FREEZE. */
bool merge_must_wait(const struct group *g, const struct command *c);
/* A descriptor that changes the members leaves all that as it is. */
void merge_keeps(const struct descriptor *now, struct descriptor *next);
/* What a merge is: its id, from partition 0; who is to absorb, as of which range epoch; and the right side's. */
struct merge_name {
    uint64_t id;
    uint32_t left, epoch, right_epoch;
};
bool merge_has_same_nodes(const struct descriptor *a, const struct descriptor *b); /* voters alone, of the same nodes */
/* ABSORB and VOID as pure functions of the descriptor. KV_OK; KV_CONFLICT: it has taken effect before; KV_CONDITION with `why`. */
enum kv_err absorb_of(const struct descriptor *left, const struct descriptor *right, uint32_t conf_epoch, uint64_t index,
                      struct descriptor *out, const char **why);
enum merge_outcome { MERGE_VOIDED,
                     MERGE_DONE };
enum merge_outcome void_of(const struct descriptor *d, const struct merge_name *merge, struct descriptor *out);

/* merge.c: KVMERGE key, driven by the node that was asked; what is left of a driver that died; who hears of the end. */
void merge_start(struct request *r);
void merge_tick_all(struct worker *w, uint64_t now_ns);
void merge_tick(struct group *g, uint64_t now_ns);
void merge_drop(struct worker *w);
void merge_receive(struct worker *w, uint32_t node, const struct peer_merge *m);
bool merge_tells_gone(struct worker *w, uint32_t node, uint32_t group); /* true: it was absorbed here, and `node` is told */
#endif

#ifndef SERVER_BIRTH_H
#define SERVER_BIRTH_H
#include "server/group.h"

/* Partitions that come to life by an entry of another one: the right side of a split. Every replica of the
 * parent makes its own of the child when it applies that entry, without waiting for any disk (store_group_birth), and the
 * node that leads the parent campaigns for the child at once, so that the gap is that of one round of votes. */

/* Room in the log for so many; else the entry is applied later: group_tick() comes back to it. */
bool birth_has_room(const struct group *parent, uint32_t count);
/* Makes this node's replica of `child`; false: it has none by the descriptor. Part of applying the parent's entry. */
bool birth_apply(struct group *parent, const struct descriptor *child);
/* Behind that entry. What was proposed after it has no effect, whoever leads: its range epoch is over (R12). Each such
 * request goes to where its keys are now when its entry is applied, and until the last has come back no other write of
 * either side may overtake them. */
void birth_settle(struct group *parent);
struct partition;
bool birth_holds_writes(struct worker *w, struct partition *p);
/* A replica may be born without its node: the parent's snapshot went past the entry. It has rows to come, but never voted nor
 * acknowledged anything, which its directory can prove (store_birthmark()), so it votes as soon as it hears of itself. Without
 * that a partition would have no quorum when other nodes were merely slow, and nobody could make it whole. */
bool birth_is_unknown(const struct worker *w, uint32_t group);                 /* no replica of it was ever here */
bool birth_is_due(const struct group *g, raft_id replica, uint64_t birthmark); /* there, in the directory it was given to */
void birth_send(struct group *g, raft_id replica);
void birth_receive(struct worker *w, struct kv_slice descriptor, raft_id replica, bool founds); /* founds: by place.h */

/* A young group without a leader asks again soon: others may have been born a little later. */
void birth_tick(struct group *g, uint64_t now_ns);
/* Another node holds no replica of the group: perhaps only because it has not got to its birth yet. */
bool birth_excuses(const struct group *g);

/* SPLIT key id, as a pure function of the descriptor (R7): the left side keeps the id, the log and the learners; the right
 * begins with the voters, by the same ids, and finds out by itself which of them are not there. KV_OK; KV_CONDITION
 * and KV_BAD_ARGUMENT with `why`. */
enum kv_err split_of(const struct descriptor *whole, struct kv_slice key, uint32_t id, struct descriptor *left,
                     struct descriptor *right, const char **why);

/* split.c: KVSPLIT key: an id from partition 0, then SPLIT in the key's partition. */
void split_start(struct request *r);
#endif

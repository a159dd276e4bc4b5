#ifndef SERVER_GROUP_IMPL_H
#define SERVER_GROUP_IMPL_H
#include "server/group.h"

/* What the files of a group share:
 *
 *   group.c          messages and ticks in, readies out
 *   group_open.c     its life
 *   group_propose.c  writes
 *   group_read.c     reads
 *   group_log.c      readies to the log and to peers
 *   group_apply.c    committed entries to the state
 *   group_staged.c   entries on their way into the log */
enum { GROUP_SEND_ENTRIES_MAX = 1024, /* and the bound of raft.batch */
       GROUP_FETCH_BYTES = 4 << 20 }; /* of entries to apply that are looked at, or read back, at a time */

/* An entry of the bytes that were appended to s->bytes since the last one; resolved before the log sees them. False: no memory. */
bool staged_add(struct group_staged *s, uint64_t index, uint64_t term, uint8_t flags);
void staged_undo(struct group_staged *s); /* these bytes become none */
void staged_resolve(struct group_staged *s);
void staged_clear(struct group_staged *s);

bool log_is_short(const struct log *l); /* of room: only what frees some, and raft's own, may go in (R15) */
void lead_begin(struct group *g);       /* a leader's first entry; until it is applied nothing is served (R2) */

void reads_serve(struct group *g); /* those whose index is confirmed and applied, in order */
void reads_confirm(struct group *g, const struct raft_read *reads, uint32_t count);
void reads_park(struct group *g); /* leadership is lost */

void persist(struct group *g, const struct raft_ready *rd);
void append_offer(struct group *g, struct group_append *ga); /* may leave g->stalled set */
void append_free(struct group_append *ga);                   /* one that never reached the store */
void send_message(struct group *g, const struct raft_msg *m);
void sends_expire(struct group *g, uint64_t now_ns); /* entries read back for peers that stopped asking */
void sends_close(struct group *g);
bool fetch_start(struct group *g, uint64_t first, const struct raft_msg *message); /* reads entries back, to apply them or to send *message */
void apply_pump(struct group *g);                                                  /* all that is committed, as far as it is in memory */
void apply_fetched(struct group *g, const struct log_entry *e, uint32_t count);    /* the next ones, read back */
#endif

#ifndef SERVER_TRANSFER_H
#define SERVER_TRANSFER_H
#include "server/peer.h"

/* Snapshots between replicas (R11): the sender exports its range into a sealed file and
 * sends it in chunks, each answered by how much the receiver holds; the receiver checks the
 * whole file, installs it and answers `installed`. A broken transfer resumes at the offset
 * the receiver reports, or starts over. */
void transfer_receive(struct worker *w, uint32_t node, const struct peer_snapshot *s);
bool transfer_sends(const struct worker *w);                      /* or did within the last second */
void transfer_expire_inbound(struct worker *w, uint64_t now_ns);  /* those nobody goes on with */
bool transfer_is_inbound(const struct worker *w, uint32_t group); /* one of the group's is being received */
void transfer_drop_inbound(struct worker *w);                     /* at the end: files and memory of unfinished ones */
#endif

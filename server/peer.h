#ifndef SERVER_PEER_H
#define SERVER_PEER_H
#include "client/base/choice.h"
#include "client/wire/channel.h"
#include "raft/raft.h"
#include "server/node.h"

/* Links to the other nodes of the list (nodes.h), made and dropped as it changes. Each node dials every other one and sends on the connection it
 * dialled; answers to heartbeats and to forwarded requests come back on the same one.
 * Whatever is sent in a turn leaves as one sealed frame per peer. A link whose heartbeats
 * stay unanswered for an election timeout is closed and dialled anew (R13). */
struct peers;
struct peer_snapshot { /* a chunk or an answer; see server/peer.proto */
    uint32_t group;
    raft_id from, to;
    uint64_t id, term, index, index_term, clock_ms, size, checksum, offset;
    struct kv_slice descriptor, data;
    bool answer, installed;
    enum kv_err err;
};

struct peer_merge {                           /* server/merge.h */
    enum peer_merge_kind { PEER_MERGE_ASK,    /* is that replica of yours frozen durably? */
                           PEER_MERGE_FROZEN, /* it is */
                           PEER_MERGE_GONE,   /* mine was absorbed: the group does not exist any more */
                           /* Only of nodes of several workers, which know these: */
                           PEER_MERGE_BESIDE,   /* is that replica of yours on one worker with that of the left side? else it moves there */
                           PEER_MERGE_IS_BESIDE /* it is */
    } kind;
    uint32_t group;
    raft_id replica;
    uint64_t merge, index;
    uint32_t range_epoch;
    uint32_t left;        /* ASK and BESIDE: the left side, */
    raft_id left_replica; /* and which of it is on that node; 0: not said, by a node of before there were workers */
};

struct peer_facts { /* of a node, as its link and its heartbeats say */
    uint32_t node;
    bool is_up, is_heard, is_full;
    uint32_t workers; /* 0: not said yet */
    uint64_t birthmark, seen_ns, backlog;
};

/* A sibling (siblings.h) has no links: what it sends goes through worker 0, whose facts it knows. */
enum kv_err peers_create(struct worker *w, struct peers **out);
void peers_start(struct peers *p);
void peers_stop(struct peers *p);
void peers_destroy(struct peers *p);
void peers_tick(struct peers *p, uint64_t now_ns);
void peers_flush(struct peers *p); /* end of turn */
/* What replicas of this node said to each other since: they are on several workers. False: nothing. */
bool peers_hear_own(struct peers *p);
bool peers_say_own(const struct peers *p);                                       /* something of that waits */
bool peers_facts(const struct peers *p, uint32_t index, struct peer_facts *out); /* false: no more */
/* Parts that a sibling has for that node; 0: for all nodes. */
void peers_pass(struct peers *p, uint32_t node, struct kv_slice parts);

void peer_send_raft(struct peers *p, uint32_t node, uint32_t group, const struct raft_msg *m,
                    const struct log_entry *entries, uint32_t entry_count);
/* "I hold no such replica", and, `unborn`, "never held one of that group"; or, `owed` not 0, "I wait for a snapshot of
 * at least that index"; or, `gone`, "yours is no member any more". */
struct peer_lost;
void peer_send_lost(struct peers *p, uint32_t node, const struct peer_lost *l);
/* "That replica is yours, and was born without you." */
void peer_send_birth(struct peers *p, uint32_t node, struct kv_slice descriptor, raft_id replica, bool founds);
/* For how long there has been no link to it; 0: there is one. */
uint64_t peer_gone_ns(const struct peers *p, uint32_t node, uint64_t now_ns);
uint64_t peer_birthmark(const struct peers *p, uint32_t node); /* store_birthmark(); 0: not known, or impaired */
void peers_send_nodes(struct peers *p);                        /* the list of nodes, to all that are connected */
/* To all that are connected: the keyspaces, as partition 0 has them. */
struct peer_directory;
void peers_send_directory(struct peers *p, uint32_t node, const struct peer_directory *d); /* node 0: to all */
/* Likewise: "I lead this partition". */
void peers_send_descriptor(struct peers *p, struct kv_slice descriptor, uint64_t term);
struct peer_scrub;
void peer_send_scrub(struct peers *p, uint32_t node, const struct peer_scrub *s);
void peer_send_snapshot(struct peers *p, uint32_t node, const struct peer_snapshot *s);
void peer_send_merge(struct peers *p, uint32_t node, const struct peer_merge *m);
/* How fast it answers reads that any replica serves; NULL: no link. */
const struct kv_choice *peer_choice(const struct peers *p, uint32_t node);
struct peer_load;
void peer_send_load(struct peers *p, uint32_t node, const struct peer_load *l);
bool peer_connected(const struct peers *p, uint32_t node); /* to this node itself, if it has several workers */
bool peer_is_heard(const struct peers *p, uint32_t node);  /* connected both ways */
uint32_t peer_connected_count(const struct peers *p);
/* Most of the other nodes refuse this one, or it them, since a link was up last: it was removed, or its directory is of another
 * cluster. Links are worker 0's: others know of none. */
bool peers_shun(const struct peers *p);
uint64_t peer_backlog(const struct peers *p, uint32_t node); /* bytes not yet taken by the socket */
bool peer_is_full(const struct peers *p, uint32_t node);     /* its disk (R15) */
uint32_t peer_workers(const struct peers *p, uint32_t node); /* how many it has, as far as is known: at least one */
/* KV_UNAVAILABLE: no link. The request is kept and answered or parked again later. */
enum kv_err peer_forward(struct peers *p, uint32_t node, struct request *r);
/* It was not applied there, and another node may lead: the request is to be routed again. */
bool peer_refuses(const struct kv_reply *reply);
void peer_forget(struct peers *p, struct request *r); /* its deadline passed */
/* What came back for a request that was forwarded to `node`, which may be a sibling's way. */
void peer_answered(struct worker *w, uint32_t node, struct request *r, struct kv_reply *reply);

/* An inbound frame of kind KV_FRAME_PEER from `node`, or parts from another worker of this one; `reply` gets the answer
 * frame, if any; NULL: there is none to such. */
enum kv_err peer_receive(struct peers *p, uint32_t node, struct kv_slice bytes, struct kv_buf *reply);
void peer_inbound_closed(struct peers *p, uint32_t node, const struct gate *g);
/* How this node begins a native connection: its identity, a fresh seed, and what it says of itself, which is
 * written into `hello` (HELLO_BYTES_MAX of room, needed until channel_init()). The caller adds the judge. */
struct channel_options node_channel(struct worker *w, enum channel_role role, uint8_t *hello);
struct hello;
/* KV_WRONG_CLUSTER, by name, unless the peer is of our cluster, or a client that takes any. */
enum kv_err node_match(const struct worker *w, const struct hello *peer, char why[]); /* HELLO_MISMATCH_BYTES */
/* A node has dialled us: the connection it dialled before is dead, whether or not we heard of that. */
void peer_inbound_opened(struct peers *p, uint32_t node, struct gate *g);
#endif

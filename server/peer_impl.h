#ifndef SERVER_PEER_IMPL_H
#define SERVER_PEER_IMPL_H
#include "client/base/map.h"
#include "client/wire/hello.h"
#include "server/nodes.h"
#include "server/peer.h"
#include "server/peer_codec.h"

/* What the files of the links share. Reading order: peer.c (which links there are, and what is known of the nodes behind
 * them), peer_link.c (one connection), peer_send.c and peer_receive.c (parts of peer.proto), peer_forward.c (requests). */
enum { PEER_BACKLOG_MAX = 64 << 20, /* bytes that wait for a socket, or for another worker of this node */
       PEER_BATCH_BYTES = 4 << 20,
       PEER_BEATS = 64 }; /* sent and not answered yet, at most */

struct peer {
    struct peers *p;
    struct nodes_entry node; /* as of the list that peers_sync() saw last */
    enum { LINK_DOWN,
           LINK_DIALLING,
           LINK_HANDSHAKE,
           LINK_UP } state;
    struct env_conn *socket; /* its memory lives until on_close, beyond a closed link */
    void *channel_memory;
    struct channel *channel;
    struct kv_buf batch; /* parts of this turn's frame */
    bool has_directory;  /* among them is one: of two, a reader would make one of all their keyspaces */
    struct kv_buf out;   /* sealed, for the socket */
    struct kv_buf encode;
    struct kv_map forwards; /* id -> struct request */
    uint64_t forward_next;
    struct kv_choice choice; /* of reads that other nodes could answer as well */
    uint64_t beat_sent, beat_answered, beat_ns, beat_sent_ns[PEER_BEATS];
    uint64_t dial_ns;            /* not before this */
    uint64_t clock_ns, clock_ms; /* its wall clock, and when it said so; 0: never */
    struct gate *inbound;        /* the connection it dialled, on which it sends; NULL: none */
    char mismatch[HELLO_MISMATCH_BYTES];
    bool is_full;
    uint32_t workers;
    uint64_t seen_ns;                /* when its link was last up; 0: never */
    uint64_t birthmark;              /* of its directory, as its heartbeats say */
    bool reported, refusal_reported; /* since the link was up: said once is enough */
    bool stranger;                   /* refused, by us or by it: no hurry to ask again */
    bool shuns;                      /* it refused us, or we it, and the link was not up since */
    bool has_requests;               /* frames pending in the channel */
};

struct link { /* one dialled connection */
    struct env_conn socket;
    struct peer *peer; /* NULL: the link was given up */
    struct env_write write;
    struct kv_slice part;
    struct kv_buf sending;
    bool writing;
};

struct peers {
    struct worker *w;
    struct kv_arena arena;
    uint32_t count;
    uint64_t serial; /* of the list of nodes they are made after */
    bool stopping;
    struct kv_buf own, hearing; /* parts of replicas here for others here: of this turn, and those being read */
    struct peer *list[KV_NODES_MAX];
};

/* peer.c */
struct peer *peer_find(const struct peers *p, uint32_t node);   /* NULL: no link leads there, it may be this node */
bool peer_add(struct peers *p, const struct nodes_entry *node); /* false: out of memory, or of places */
void peers_closed(struct worker *w, uint32_t node);             /* a connection with it ended: groups wake (R13) */

/* peer_link.c */
void link_dial(struct peer *peer);
void link_drop(struct peer *peer, const char *why); /* closed, and dialled anew after a while */
void link_tick(struct peer *peer, uint64_t now_ns); /* dials, beats, gives up on what stays silent */
void link_write(struct peer *peer);                 /* what is sealed, if the socket takes it */
void link_seal(struct peer *peer);                  /* the batch becomes a frame; may drop the link */
void link_free(struct peer *peer);                  /* the loop runs no more, and will not close it */

/* peer_send.c */
struct peer *peer_ready(struct peers *p, uint32_t node); /* parts may be appended to its batch; NULL: they would be lost */
void peer_send_nodes(struct peer *peer);                 /* the list of nodes */
/* What stands damaged in the stores of siblings hears of descriptors by nothing else (leave_told()). */
void peers_tell_damaged(struct worker *w, uint32_t node, struct kv_slice descriptor, uint64_t term);

/* peer_forward.c */
void peer_forwards_park(struct peer *peer); /* the link is gone: all go again, elsewhere */
void peer_forward_reply(struct peer *peer, struct kv_slice body);
#endif

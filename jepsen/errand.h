#ifndef JEPSEN_ERRAND_H
#define JEPSEN_ERRAND_H
#include "client/kv_client.h"
#include "client/wire/join_token.h"

/* What an administrator has the cluster do, by the operations that kvctl sends, asked again until it is done. An attempt that
 * is refused, or ends without an answer, is followed by another one, drawn anew from the map as it is then. */
struct nemesis;
struct fault;
enum errand_kind {
    ERRAND_DIVIDE, /* a partition is split, mostly one that the clients use */
    ERRAND_UNITE,  /* a partition absorbs its neighbour; where no two have their replicas on the same nodes one is split first */
    ERRAND_MOVE,   /* a replica goes to a node without one, and is seen there */
    ERRAND_INVITE, /* a token for one more node, which starts with it */
    ERRAND_DRAIN,  /* all replicas are to leave a node */
    ERRAND_SET_UP  /* and may come back */
};
enum { ERRAND_TEXT_BYTES = 100 };
struct errand {
    struct nemesis *nemesis;
    struct fault *fault; /* whose proof it is */
    enum errand_kind kind;
    uint32_t node; /* INVITE, DRAIN, SET_UP: its id */
    bool is_asking, is_done;
    bool is_last;  /* this attempt is the errand itself, not what has to come before it */
    bool gives_up; /* DRAIN: the node is to be set up again, once this attempt has ended */
    uint32_t tries;
    uint64_t began_ns;
    struct env_timer timer;
    struct kv_call call;
    struct kv_slice args[3];
    struct kv_key key;
    char texts[3][24];
    uint8_t hash[JOIN_TOKEN_HASH_BYTES];
    char token[JOIN_TOKEN_TEXT_BYTES];
    uint32_t partition, to; /* MOVE: what is looked for in the map .. */
    uint64_t look_until_ns; /* .. until then; 0: it was not asked for yet */
    char what[ERRAND_TEXT_BYTES], answer[ERRAND_TEXT_BYTES];
};

void errand_begin(struct errand *e, struct nemesis *n, struct fault *f, enum errand_kind kind, uint32_t node);
void errand_stop(struct errand *e); /* asks no more */
#endif

#ifndef KV_ROUTER_H
#define KV_ROUTER_H
#include "client/base/arena.h"
#include "client/base/choice.h"
#include "client/env/env.h"
#include "client/wire/message.h"

/* Where a request goes next. Pure: no socket, no timer, no clock but the times it is given; the
 * caller acts and reports back. It knows the seeds, the last map, who leads what as far as replies
 * told, and which nodes failed lately.
 *
 * Any node that takes clients (role gateway) forwards a request that is not its own, so a wrong guess costs a hop, never an
 * answer. Nodes without the role are dialled only if they are named, or for questions about the cluster when no gateway is up: the first of
 * these is who takes clients by now. */
enum route_action {
    ROUTE_SEND,    /* to `to` */
    ROUTE_WAIT,    /* `delay_ns`, then ask again with `rested` set */
    ROUTE_REFRESH, /* ask `to` for KVMAP, router_learn_map(), then ask again with `rested` set */
    ROUTE_GIVE_UP  /* the operation ends with `err` */
};
struct route {
    enum route_action action;
    struct env_addr to;
    uint32_t node;      /* id of `to`; 0: a seed whose id we do not know */
    const uint8_t *key; /* its public key if the map told, else NULL; valid until the next learn */
    bool pinned;        /* partition and range_epoch hold and go with the request (R12) */
    uint32_t partition, range_epoch;
    uint64_t delay_ns; /* full jitter: uniform in [0, min(cap, base * 2^tries)] */
    enum kv_err err;
};
struct route_attempt {
    struct kv_slice key; /* encoded; empty: any node will do, or `node` */
    uint32_t node;       /* 0: by key; else this node and no other */
    uint32_t tries;      /* made so far, sent or not */
    uint64_t deadline_ns;
    bool is_anywhere;        /* a read that any replica may serve: first the one that answers soonest, then the leader */
    bool idempotent;         /* may be sent again although an earlier try may have applied */
    bool maybe;              /* an earlier try may have applied */
    bool rested;             /* the WAIT or REFRESH that followed last_err is done */
    enum kv_err last_err;    /* of the last try; KV_OK before the first */
    uint64_t retry_after_ns; /* the node's hint: the least to wait */
};
struct router;

struct router_options {
    const struct env_addr *seeds; /* copied */
    uint32_t seed_count;
    uint64_t seed;                            /* of the jitter */
    uint64_t backoff_base_ns, backoff_max_ns; /* 0: 5 ms, 250 ms */
};
/* NULL: out of memory. */
struct router *router_create(const struct router_options *o);
void router_destroy(struct router *r);

struct route router_next(struct router *r, const struct route_attempt *a, uint64_t now_ns);

/* Whether trying again can help at all. */
bool router_retryable(enum kv_err err);

/* A partition we know with a higher epoch pair keeps its descriptor, one the map does not mention
 * stays; of two that overlap the higher range epoch stays (R12). KV_MALFORMED: ranges upside down, no nodes; KV_NO_SPACE. The
 * router keeps its own copy; a refused map changes nothing. */
enum kv_err router_learn_map(struct router *r, const struct kv_map_info *map);
/* Node 0: nobody leads. Unknown partitions and nodes are ignored. */
void router_learn_leader(struct router *r, uint32_t partition, uint32_t node);
/* WRONG_SHARD: the next route to this key refreshes the map first. */
void router_learn_stale(struct router *r);
/* Could not be reached, or is draining: others are preferred for a while, doubling from 50 ms to 1 s. */
void router_learn_failure(struct router *r, const struct env_addr *to, uint64_t now_ns);
void router_learn_success(struct router *r, const struct env_addr *to);
/* Reads that any replica may serve (choice.h): one left; and was answered, or nobody waits for it any more. `took_ns` 0: it
 * tells nothing of the node's speed, as after a page of rows. */
void router_read_asked(struct router *r, const struct env_addr *to, uint64_t now_ns);
void router_read_answered(struct router *r, const struct env_addr *to, uint64_t took_ns, uint64_t now_ns);
/* The node that such a read of the partition would go to now, and what is known of each; 0: all are down. */
uint32_t router_nearest(struct router *r, const struct kv_partition_info *p, uint64_t now_ns);
const struct kv_choice *router_choice(struct router *r, uint32_t node); /* NULL: no such node */

const struct kv_map_info *router_map(const struct router *r); /* NULL before the first */
/* By its name or, where that is empty, by its id; NULL: not known. Valid until the next map. */
const struct kv_keyspace *router_keyspace(const struct router *r, uint32_t id, struct kv_slice name);
/* The partition that holds an encoded key; NULL: not known. */
const struct kv_partition_info *router_partition(const struct router *r, struct kv_slice key);
#endif

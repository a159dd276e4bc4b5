#ifndef SERVER_REQUEST_H
#define SERVER_REQUEST_H
#include "server/node.h"

/* One operation on its way through the node, from any front door. It is started with
 * borrowed arguments; whoever has to keep it calls request_own() first. It ends exactly
 * once, by request_finish(), inside request_start() or later. */
struct request {
    struct kv_request body;
    /* What few of them need. */
    uint64_t retry_ns;                  /* not routed again before this */
    uint64_t context;                   /* READING: of its ReadIndex; FORWARDED: id on the link */
    void *children;                     /* FANNED: the requests it became (fan.c, split.c) */
    void (*abandon)(struct request *r); /* they go on, and nobody hears of them */
    /* What is looked at again when it ends: request_prefetch(). */
    void (*done)(struct request *r, const struct kv_reply *reply); /* then the request is gone */
    void *owner;                                                   /* of done */
    uint64_t owner_id;
    struct worker *w;
    uint64_t deadline_ns;
    uint64_t index; /* PROPOSED: of its entry; READING: to wait for */
    union {
        uint64_t term;     /* PROPOSED: of its entry */
        uint64_t asked_ns; /* READING: before its index was asked for; FORWARDED: when it was */
    };
    void *memory;                /* owns the arguments once kept */
    struct request *prev, *next; /* worker's open list */
    struct request *queue_next;  /* the group's queue it waits in */
    bool is_write, stands;       /* stands: in its partition's line of writes */
    bool maybe;                  /* bytes of it left and no answer proved it unapplied */
    bool doubted;                /* PROPOSED: it was so already when its entry was made */
    bool stamped;                /* the idempotency key is our own */
    bool internal;               /* asked by the node itself: may use the system keyspace and what only nodes may write */
    bool is_in_line;             /* FORWARDED: a write, counted in its partition's line */
    bool wants_leader : 1;       /* a read at a level that any replica serves, and the one asked could not */
    bool is_admitted : 1;        /* counted by limit.service_rate: its answer has a turn (pace.h) */
    uint32_t tries;
    enum kv_phase phase;
    enum request_state { REQUEST_NEW,
                         REQUEST_PARKED,
                         REQUEST_PROPOSED,
                         REQUEST_READING,
                         REQUEST_FORWARDED,
                         REQUEST_FANNED,
                         REQUEST_AWAITING,
                         REQUEST_PACED } state;
    uint32_t forward_node;
    uint32_t partition;   /* where it was last sent */
    uint32_t range_epoch; /* READING: of the partition when it was routed there */
};
/* Thousands are open at a time, so each is met in memory again, not in the processor's cache. */
enum { REQUEST_LINE_BYTES = 64,
       REQUEST_HOT_MAX = 1000 }; /* keys of one answer to KVHOT */
static_assert(sizeof(struct request) % REQUEST_LINE_BYTES == 0, "no line is shared by two");
static inline __attribute__((always_inline)) void request_prefetch(const struct request *r)
{
    __builtin_prefetch(&r->done);
    __builtin_prefetch(&r->range_epoch);
}

struct group;
struct request *request_make(struct worker *w);                            /* NULL: over limit.queue or out of memory */
void request_start(struct request *r);                                     /* routes and runs it */
bool request_own(struct request *r);                                       /* copies the arguments; false: out of memory, and it has been answered */
void request_finish(struct request *r, struct kv_reply *reply);            /* whose id becomes the one its owner asked under */
void request_fail(struct request *r, enum kv_err err, const char *detail); /* applied: no, or maybe if r->maybe */
void request_absent(struct request *r);                                    /* no replica of its partition is here: waits for one, inside its deadline */
/* A read at a level that any replica may serve, not only the leader. */
static inline bool request_is_anywhere(const struct request *r)
{
    return r->body.level != KV_LEVEL_LINEARIZABLE && !r->is_write && r->body.op != KV_OP_KVAWAIT && r->body.op != KV_OP_KVMOVE &&
           r->body.op != KV_OP_KVLEAD;
}
void request_to_leader(struct request *r); /* such a read that this replica cannot serve: at once to the leader */
/* The partition that holds an encoded key; NULL: none is known. */
struct partition *request_partition(const struct worker *w, struct kv_slice encoded);
/* The same by user key. KV_TOO_BIG, KV_NOT_FOUND (a label nobody listed), KV_NO_LEADER: none is known. */
enum kv_err request_partition_of(const struct worker *w, const struct kv_key_rule *rule, struct kv_slice key, struct partition **out);
void request_park(struct request *r, uint64_t delay_ns); /* waits for a leader inside its deadline */
/* Its partition is not that of its keys any more, and nothing was done: routed anew by them, at once; a sender who named
 * the partition, or forwarded it, is told WRONG_SHARD. */
void request_redirect(struct request *r);
/* A forwarded one came back, was forgotten, or its link broke. Before it is parked or finished. */
void request_returned(struct request *r, bool refused);
void request_wake(struct worker *w);                  /* route again what is parked and due */
void request_tick(struct worker *w, uint64_t now_ns); /* deadlines and due retries */
void request_drop_all(struct worker *w);
void request_free_spares(struct worker *w);

/* KVREPLACE: replicas on that node, of partitions led by this worker, are taken for lost; how many. */
uint32_t request_replace(struct worker *w, struct kv_slice node);

/* fan.c, fan_*.c: operations over many keys or all partitions, as several requests. True: taken. */
bool fan_start(struct request *r, const struct kv_key_rule *rule);
void fan_free_cursors(struct worker *w);
/* scan.c: KVSCAN and KVCOUNT, over one partition's rows and off the loop. */
void scan_start(struct group *g, struct request *r, uint32_t stale_ms); /* of what it will read */
/* group_read.c: counts an answered read, and says of what level it was. */
void read_account(const struct request *r, uint32_t stale_ms, struct kv_reply *reply);
#endif

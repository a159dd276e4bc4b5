#ifndef KV_CLIENT_H
#define KV_CLIENT_H
#include "client/base/key.h"
#include "client/env/env.h"
#include "client/kv.h"
#include "client/pool.h"
#include "client/router.h"

/* libkv, asynchronous face: any number of open calls on one env, so that it runs unchanged
 * on libuv and in a simulator. All calls and callbacks stay on the env's thread; done() never
 * runs inside the call that asked for it, and may start new calls.
 *
 * One call: the router names a node, the pool carries the request, the router judges what came
 * back: send again, wait, refresh the map, or give up. A mutation keeps its (client, sequence)
 * through all of that, and `applied` never says "no" after a try whose outcome is unknown. */
struct kv_client_options {
    struct env *env;
    struct env_addr seeds[KV_ADDRESSES_MAX];
    uint32_t seed_count;  /* at least 1 */
    struct env_addr from; /* local address to dial from; host empty: any */
    struct channel_identity identity;
    uint8_t cluster_id[16];                      /* all zero: any cluster */
    char cluster_name[HELLO_NAME_BYTES_MAX + 1]; /* "": any */
    uint32_t keyspace;                           /* 0: KV_KEYSPACE_DEFAULT */
    char keyspace_name[KV_NAME_BYTES_MAX + 1];   /* instead of its id; "": by id. Looked up in the map, again if it was dropped and made anew */
    uint32_t timeout_ms;                         /* of a call that names none; 0: KV_TIMEOUT_MS_DEFAULT */
    uint32_t in_flight_max;                      /* per connection, 0: 1024; beyond: KV_BUSY, applied no */
    uint32_t connections_max;                    /* per node, 0: 1; another is dialled when the first is full */
};

enum kv_call_state { KV_CALL_IDLE,
                     KV_CALL_ASKED,
                     KV_CALL_RESTING,
                     KV_CALL_MAPPING,
                     KV_CALL_READY };
struct kv_call { /* embed it; zeroed before first use; reusable inside done() */
    /* in: borrowed until done */
    enum kv_op op;
    const struct kv_slice *args; /* as op.h says; keys are user keys. KVSCAN: see kv_client_scan() */
    uint32_t arg_count;
    uint32_t timeout_ms; /* 0: the client's */
    enum kv_level level;
    uint32_t bounded_ms;
    uint32_t node; /* operations of a node (KVSTATUS ..): which; 0: any */
    /* The idempotency key of a mutation, for callers that must keep it across their own restarts.
     * NULL: the client chooses, as it should. The same pair must never name another mutation. */
    const uint8_t *idempotency_client; /* KV_CLIENT_BYTES */
    uint64_t idempotency_sequence;     /* not 0 */
    void (*done)(struct kv_call *call);
    void *context; /* yours */
    /* out: valid until done() returns */
    struct kv_result result;
    struct kv_key next; /* KVSCAN: where the next page starts; size 0: the end */
    /* private */
    struct kv_client *client; /* NULL: not open */
    struct kv_call *prev, *following;
    struct pool_call wire;
    struct env_timer timer;
    enum kv_call_state state;
    struct kv_key key;
    struct route_attempt attempt;
    struct env_addr sent_to;
    uint64_t sent_ns;   /* of a read that any replica may serve; 0: it is not under way */
    bool unresolved;    /* its keyspace is not known yet: it has no encoded key */
    bool renewed;       /* a node said that the keyspace is gone: it was looked up again */
    bool outdated;      /* and so it must be before the map is believed */
    bool is_leaderless; /* a node said last that nobody leads the partition, and none was reached since */
    bool scan_from_start, scan_to_end;
    uint32_t name_tries;
    struct kv_slice scan_args[4];
    struct kv_key scan_to;
    char scan_numbers[2][21];
};

struct kv_client;
/* KV_BAD_ARGUMENT, KV_NO_SPACE. Options are copied; nothing is dialled yet. */
enum kv_err kv_client_create(const struct kv_client_options *o, struct kv_client **out);
/* Ends all open calls with KV_CLOSED, closes the connections, frees, then calls closed().
 * Not from inside done(). */
void kv_client_close(struct kv_client *c, void (*closed)(void *context), void *context);

void kv_client_call(struct kv_client *c, struct kv_call *call);
/* One page of rows from encoded key `from` (empty: the start) up to `to` (empty: the end of the
 * keyspace), never over a partition's end. result.value is the RESP3 array of KVSCAN; `next`
 * already looks past partition ends: the scan is over when next.size == 0. */
void kv_client_scan(struct kv_client *c, struct kv_call *call, struct kv_slice from,
                    struct kv_slice to, uint32_t rows_max, uint32_t bytes_max);
/* Forgets the call: done() will not run. A mutation may still take effect. Idempotent. */
void kv_client_cancel(struct kv_client *c, struct kv_call *call);

/* The map as last learned, NULL before the first reply. Valid until the loop turns. Any
 * call with op KVMAP refreshes it. */
const struct kv_map_info *kv_client_map(const struct kv_client *c);
/* How the client's keyspace encodes keys; NULL before a map told. Valid until the loop turns. */
const struct kv_key_rule *kv_client_rule(const struct kv_client *c);
struct env *kv_client_env(struct kv_client *c);
/* The replica that a read of such a level would ask now for an encoded key, and how long its answers take, as this client
 * has seen; 0: the level's reads go to the leader, or none is known. */
uint32_t kv_client_nearest(struct kv_client *c, enum kv_level level, const struct kv_partition_info *p);
uint64_t kv_client_latency_ns(struct kv_client *c, uint32_t node); /* 0: not asked yet */
/* The id of the cluster that answered last; false before any node did. */
bool kv_client_cluster(const struct kv_client *c, uint8_t cluster_id[HELLO_CLUSTER_BYTES]);

/* The rows of a scan's result.value, one by one: kv_scan_rows() finds the first, kv_scan_row()
 * reads one and steps over it. KV_NOT_FOUND: no more; KV_MALFORMED. */
enum kv_err kv_scan_rows(struct kv_slice value, struct kv_slice *rows, struct kv_slice *cursor);
enum kv_err kv_scan_row(struct kv_slice *rows, struct kv_row *out);
bool kv_version_parse(struct kv_slice text, struct kv_version *out); /* "epoch:index" */
#endif

#ifndef KV_MESSAGE_H
#define KV_MESSAGE_H
#include "client/base/arena.h"
#include "client/base/buf.h"
#include "client/base/err.h"
#include "client/base/key.h"
#include "client/base/op.h"

/* The client protocol as plain structs, and their conversion to and from the
 * protobuf messages of kv.proto. Slices of a decoded message point into the
 * frame or the arena: valid as long as both. */
enum kv_frame_kind { /* the first byte of every frame */
                     KV_FRAME_REQUEST = 1,
                     KV_FRAME_REPLY = 2,
                     KV_FRAME_PING = 3, /* 8 bytes echoed back as PONG: connection health */
                     KV_FRAME_PONG = 4,
                     KV_FRAME_DRAIN = 5, /* the node is going away: finish and dial another */
                     KV_FRAME_PEER = 16  /* from here on node to node only: server/peer.proto */
};

/* What a read may return. All but the first are answered by any replica, which says what it held to. */
enum kv_level { KV_LEVEL_LINEARIZABLE,          /* all that was acknowledged before it was asked; the leader answers */
                KV_LEVEL_LEASE,                 /* the same, by a replica whose leader says under its lease how far it must be */
                KV_LEVEL_BOUNDED,               /* what was true at most `bounded_ms` ago, or since it was asked */
                KV_LEVEL_ANY };                 /* what the replica holds, however old */
const char *kv_level_text(enum kv_level level); /* "linearizable", "lease", "bounded", "any" */
/* "linearizable", "lease", "bounded:MS" or "bounded=MS", "any". False: none of these. */
bool kv_level_parse(struct kv_slice text, enum kv_level *level, uint32_t *bounded_ms);
enum kv_phase { /* where a request ended */
                KV_PHASE_NONE,
                KV_PHASE_PARSE,
                KV_PHASE_ROUTE,
                KV_PHASE_WAIT_LEADER,
                KV_PHASE_PROPOSE,
                KV_PHASE_REPLICATE,
                KV_PHASE_READ,
                KV_PHASE_APPLY,
                KV_PHASE_FORWARD
};
const char *kv_phase_text(enum kv_phase phase);

/* An idempotency key is remembered for five minutes of its partition's clock. Nothing is sent again under it
 * after four, lest it take effect twice. */
enum { KV_DEDUP_MS = 5 * 60 * 1000,
       KV_REPEAT_MS_MAX = 4 * 60 * 1000 };

enum { KV_ARGS_MAX = 1 << 20,
       KV_CLIENT_BYTES = 16,
       KV_NODES_MAX = 64,
       KV_REPLICAS_MAX = 16,
       KV_ZONES_MAX = 16, /* of a keyspace */
       KV_PARTITIONS_MAX = 1 << 16 };

struct kv_version { /* R16: compared lexicographically; {0,0} = no such key */
    uint32_t epoch;
    uint64_t index;
};
static inline int kv_version_cmp(struct kv_version a, struct kv_version b)
{
    if (a.epoch != b.epoch) return a.epoch < b.epoch ? -1 : 1;
    return a.index < b.index ? -1 : a.index > b.index;
}

struct kv_request {
    uint64_t id; /* chosen by the sender, returned in the reply */
    enum kv_op op;
    const struct kv_slice *args;
    uint32_t arg_count;
    uint32_t keyspace;
    bool pinned; /* partition and range_epoch are set: refuse with WRONG_SHARD rather than re-route */
    uint32_t partition, range_epoch;
    uint8_t client[KV_CLIENT_BYTES];
    uint64_t sequence; /* 0 = no idempotency key */
    enum kv_level level;
    uint32_t bounded_ms;
    uint32_t deadline_ms; /* time left; 0 = the node's default */
    uint32_t hops;
    /* Writes that a node forwards: what is refused of a round of a line keeps all behind it in that
     * round from being taken, or a later write could overtake an earlier one that has to be sent again. */
    uint32_t line, round; /* partition; from 1, 0 = in no line */
    /* Not on the wire: */
    bool roams;        /* it came from a client that asks another node when this one cannot help */
    bool led_only;     /* of all keys only those of partitions that this node leads */
    uint16_t in_slot;  /* KEYS, DBSIZE: only this hash slot, plus one; 0: all */
    uint32_t keys_max; /* KEYS: no more than these; 0: all */
};

struct kv_reply {
    uint64_t id;
    enum kv_err err;
    enum kv_applied applied;
    struct kv_slice value; /* one RESP3 value; empty with most errors */
    struct kv_version version;
    uint64_t expire_ms;
    uint32_t partition, range_epoch, node, leader;
    uint64_t index; /* of a write in its partition's log; 0: of several, or of none */
    enum kv_phase phase;
    enum kv_level level; /* achieved, of reads */
    uint32_t stale_ms;   /* at lease and bounded: how old what was read may have been, at most, when it was read */
    uint32_t retry_after_ms;
    struct kv_slice detail;
};

/* What becomes of a node's replicas; as on disk and on the wire. A removed node's row stays, so that it is refused by name. */
enum kv_node_state { KV_NODE_UP,
                     KV_NODE_CORDONED, /* gets no new replicas */
                     KV_NODE_DRAINING, /* and gives its own away */
                     KV_NODE_REMOVED };
/* What a node is for, as bits; as on disk and on the wire. */
enum kv_node_role { KV_NODE_STORAGE = 1,     /* may hold replicas of users' partitions */
                    KV_NODE_COORDINATOR = 2, /* and of partition 0 */
                    KV_NODE_GATEWAY = 4,     /* takes clients */
                    KV_NODE_ROLES_ALL = 7 };
struct kv_node_info {
    uint32_t id;
    struct kv_slice host;
    uint16_t port, resp, resp_cluster;
    struct kv_slice key;
    struct kv_slice zone; /* up to KV_NAME_BYTES_MAX; empty: not told */
    uint32_t roles;       /* 0: not told, all of them */
    enum kv_node_state state;
};
struct kv_partition_info {
    uint32_t id, keyspace, range_epoch, conf_epoch, leader;
    struct kv_slice from, to;
    uint32_t nodes[KV_REPLICAS_MAX];
    uint32_t node_count;
};
struct kv_label_group {
    struct kv_slice name;
    struct kv_label *labels;
    uint32_t label_count;
};
struct kv_keyspace {
    uint32_t id;
    struct kv_slice name;
    enum kv_key_kind kind;
    uint32_t partitions, first_partition; /* as they were at creation */
    struct kv_slice *splits;              /* kind RANGE: user keys; partitions - 1 of them */
    uint32_t split_count;
    struct kv_label_group *groups; /* kind LIST */
    uint32_t group_count;
    struct kv_slice default_group; /* empty: labels that nobody listed are refused */
    uint8_t delimiter;
    uint16_t rest; /* bucket of unlisted labels, if there is a default group */
    uint32_t replicas, value_bytes_max;
    uint64_t dedup_retention_ms;
    uint32_t nodes[KV_REPLICAS_MAX], node_count; /* those there were at creation */
    struct kv_slice zones[KV_ZONES_MAX];         /* where its replicas may be; none: anywhere */
    uint32_t zone_count;
    uint64_t stores[KV_REPLICAS_MAX]; /* has_stores: birthmarks of their directories; they were chosen among all nodes */
    bool has_stores;
    struct kv_key_rule rule; /* made of the above by the decoder and by kv_keyspace_rule() */
};
struct kv_map_info {
    struct kv_node_info *nodes;
    uint32_t node_count;
    struct kv_partition_info *partitions;
    uint32_t partition_count;
    struct kv_keyspace *keyspaces; /* all there are, if directory is not 0 */
    uint32_t keyspace_count;
    uint64_t directory;      /* of two maps the one with the higher number tells later */
    uint64_t nodes_version;  /* likewise, of the nodes; 0: as the configuration says */
    struct kv_slice cluster; /* id, 16 B; empty: not told */
};

/* Encoders append the kind byte and the message to `out`. */
void kv_request_encode(const struct kv_request *r, struct kv_buf *out);
void kv_reply_encode(const struct kv_reply *r, struct kv_buf *out);
void kv_map_encode(const struct kv_map_info *m, struct kv_buf *out); /* no kind byte: it is a reply's value bytes */
/* Decoders take the bytes behind the kind byte. KV_MALFORMED, KV_TOO_BIG (arena or
 * argument limit), KV_BAD_ARGUMENT (unknown op or enum value). */
enum kv_err kv_request_decode(struct kv_slice bytes, struct kv_arena *arena, struct kv_request *out);
enum kv_err kv_reply_decode(struct kv_slice bytes, struct kv_arena *arena, struct kv_reply *out);
enum kv_err kv_map_decode(struct kv_slice bytes, struct kv_arena *arena, struct kv_map_info *out);

void kv_node_encode(const struct kv_node_info *n, struct kv_buf *out);
enum kv_err kv_node_decode(struct kv_slice bytes, struct kv_arena *arena, struct kv_node_info *out);
const char *kv_node_state_text(enum kv_node_state state); /* "up", "cordoned", "draining", "removed" */
bool kv_node_state_parse(struct kv_slice text, enum kv_node_state *out);
/* One that tells no roles has all of them. */
static inline bool kv_node_has(uint32_t roles, enum kv_node_role role)
{
    return roles == 0 || (roles & (uint32_t)role) != 0;
}
enum { KV_NODE_ROLES_TEXT_BYTES = 32 };
/* "storage,coordinator,gateway", those it has in this order. */
void kv_node_roles_text(uint32_t roles, char out[KV_NODE_ROLES_TEXT_BYTES]);
/* Words in any order, each once. False: `bad` is the word at fault, empty: none is there. */
bool kv_node_roles_parse(struct kv_slice text, uint32_t *out, struct kv_slice *bad);

void kv_keyspace_encode(const struct kv_keyspace *k, struct kv_buf *out);
enum kv_err kv_keyspace_decode(struct kv_slice bytes, struct kv_arena *arena, struct kv_keyspace *out);
/* Sets k->rule, its labels in the arena. KV_TOO_BIG: the arena; KV_CONFLICT: a label twice. */
enum kv_err kv_keyspace_rule(struct kv_keyspace *k, struct kv_arena *arena);
/* A copy that lives in the arena alone; false: it refused. */
bool kv_keyspace_copy(const struct kv_keyspace *from, struct kv_arena *arena, struct kv_keyspace *out);
const char *kv_key_kind_text(enum kv_key_kind kind); /* "range", "hash", "list" */
#endif

#ifndef STORAGE_COMMAND_H
#define STORAGE_COMMAND_H
#include <assert.h>

#include "client/base/arena.h"
#include "client/base/buf.h"
#include "client/base/err.h"
#include "client/base/key.h"
#include "client/base/op.h"

/* Log commands and partition descriptors as plain structs, and their conversion to
 * and from the messages of command.proto. */
enum { COMMAND_FEATURE = 1,
       COMMAND_CLIENT_BYTES = 16,
       DESCRIPTOR_REPLICAS_MAX = 16 };
enum { STORE_ORIGINAL = 1 }; /* birthmark of a directory that was made when the cluster began: store_birthmark() */

struct command {
    enum kv_op op;
    const struct kv_slice *args;
    uint32_t arg_count;
    uint32_t keyspace, range_epoch;
    uint64_t stamp_ms, seed;
    uint32_t feature;
    uint8_t client[COMMAND_CLIENT_BYTES];
    uint64_t sequence; /* 0 = no idempotency key */
};
/* Under which a write is remembered beside its first key: client, sequence. Big-endian, as keys are (R10): the records of
 * a client at one key stand in the order they came, new ones behind, and those that expire side by side. */
enum { COMMAND_SUB_BYTES = COMMAND_CLIENT_BYTES + 8 };
void command_sub(const struct command *c, uint8_t sub[COMMAND_SUB_BYTES]);
void command_encode(const struct command *c, struct kv_buf *out);
/* Slices point into `bytes` or the arena. KV_MALFORMED; KV_VERSION: a later feature level; KV_TOO_BIG: arena. */
enum kv_err command_decode(struct kv_slice bytes, struct kv_arena *arena, struct command *out);

enum descriptor_kind { DESCRIPTOR_RANGE,
                       DESCRIPTOR_HASH,
                       DESCRIPTOR_LIST };
enum descriptor_role {
    DESCRIPTOR_VOTER,          /* in the (incoming) configuration */
    DESCRIPTOR_LEARNER,        /* receives the log, does not vote */
    DESCRIPTOR_VOTER_INCOMING, /* joint: votes in the new configuration only */
    DESCRIPTOR_VOTER_OUTGOING  /* joint: votes in the old configuration only, then is gone */
};
struct descriptor_replica {
    uint32_t id, node;
    enum descriptor_role role;
    uint32_t succeeds; /* a learner's: the voter that goes when it comes; 0: none */
    uint64_t store;    /* store_birthmark() of the directory that it was given to; 0: not known */
};
struct descriptor { /* what each write looks at comes first */
    uint32_t id, keyspace;
    enum descriptor_kind kind;
    uint32_t range_epoch, conf_epoch, replica_next, replica_count, value_bytes_max;
    uint64_t frozen_merge; /* the right side's; 0: not frozen */
    struct descriptor_replica replicas[DESCRIPTOR_REPLICAS_MAX];
    uint64_t dedup_retention_ms;
    struct kv_slice list; /* kind LIST: a List, borrowed from the bytes it was decoded from; whoever keeps the descriptor longer keeps those */
    /* Merges (server/merge.h). */
    uint64_t frozen_index, frozen_ms;
    uint32_t frozen_left, frozen_epoch; /* by whom, and as of which range epoch, it may be absorbed */
    uint64_t merge_void, merge_done, merge_index;
    uint32_t to_epoch;      /* whoever ends at `to` has ended there since that range epoch */
    struct kv_key from, to; /* to.size == 0: to the end */
};
static_assert((int)DESCRIPTOR_RANGE == KV_KEY_RANGE && (int)DESCRIPTOR_HASH == KV_KEY_HASH &&
                  (int)DESCRIPTOR_LIST == KV_KEY_LIST,
              "one numbering");
void descriptor_encode(const struct descriptor *d, struct kv_buf *out);
enum kv_err descriptor_decode(struct kv_slice bytes, struct descriptor *out); /* KV_MALFORMED, KV_TOO_BIG */
/* How the partition's user keys are encoded. Its labels lie in the arena. KV_MALFORMED, KV_TOO_BIG. */
enum kv_err descriptor_rule(const struct descriptor *d, struct kv_arena *arena, struct kv_key_rule *out);
/* A List from the labels of a rule whose buckets lie in [first, end), and its rest if that does. */
void descriptor_list_encode(const struct kv_key_rule *rule, uint32_t first, uint32_t end, struct kv_buf *out);
/* command_wire.c: the bytes of a message's last field of that number, inside `message`; size 0: none. */
struct kv_slice command_field_bytes(struct kv_slice message, uint32_t field);
static inline bool descriptor_is_joint(const struct descriptor *d)
{
    for (uint32_t i = 0; i < d->replica_count; i++)
        if (d->replicas[i].role >= DESCRIPTOR_VOTER_INCOMING) return true;
    return false;
}
#endif

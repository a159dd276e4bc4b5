#ifndef SERVER_EXEC_H
#define SERVER_EXEC_H
#include "client/base/buf.h"
#include "client/base/key.h"
#include "client/base/op.h"
#include "client/wire/message.h"
#include "storage/command.h"
#include "storage/store.h"
#include "storage/value.h"

/* Commands as pure functions (R7): exec_run() is a function of (state, clock, arguments)
 * and produces a RESP3 reply and, for writes, the rows to change. It runs a write at
 * apply on every replica with the entry's stamp as clock, so the same entry gives the
 * same bytes everywhere; it runs a read on whoever serves it.
 *
 * Nothing here knows sockets, groups or time. Limits come from the descriptor. */
struct exec_state { /* where rows are read; implemented over store_get(), or by a test */
    /* The live DATA row of an encoded key. KV_NOT_FOUND; KV_CORRUPT, KV_IO. The slices are
     * valid until exec_run() returns. */
    enum kv_err (*get)(struct exec_state *s, struct kv_slice key, struct kv_slice *row);
};

struct exec_place { /* where new partitions may live: what partition 0's descriptor says */
    uint32_t nodes[DESCRIPTOR_REPLICAS_MAX], node_count;
    uint64_t stores[DESCRIPTOR_REPLICAS_MAX]; /* birthmarks of their directories */
    uint64_t dedup_retention_ms;
};

struct exec {
    /* in */
    struct exec_state *state;
    const struct kv_key_rule *rule; /* how the partition's keys are encoded */
    uint64_t clock_ms;              /* expiry is judged by this alone (R14) */
    uint64_t wall_ms;               /* reads only: a deadline in (clock_ms, wall_ms] sets needs_clock */
    struct kv_slice known;          /* the user key that known_key encodes, if its caller has done so; by address */
    const struct kv_key *known_key;
    struct kv_version version; /* of the rows written */
    uint32_t value_bytes_max;
    const struct exec_place *place; /* NULL: not partition 0, which alone holds keyspaces */
    struct kv_buf *reply;           /* one RESP3 value is appended */
    struct kv_buf *rows;            /* memory for new rows; cleared by the caller */
    /* out */
    struct store_op *ops; /* writes: changes in order; points into memory owned by this struct */
    uint32_t op_count, op_capacity;
    size_t *op_offsets;             /* private */
    struct kv_version read_version; /* KVGET, KVPUT, KVCAS, KVINCR..: of the key after the command; GET too */
    uint64_t expire_ms;             /* likewise */
    struct descriptor *born;        /* KSCREATE: the partitions that begin with this entry, in key order */
    uint32_t born_count;
    struct kv_arena born_memory;   /* private: what they borrow; until the next run */
    bool needs_clock;              /* a read met a deadline past clock_ms but not past wall_ms */
    enum kv_err failed;            /* private: what the state, or memory, refused */
    enum kv_err refused;           /* private: why the command was refused: BAD_ARGUMENT, TOO_BIG, WRONG_TYPE */
    size_t reply_start, reply_end; /* private: where the reply begins; where a refusal ends */
    bool probing;                  /* private: exec_check() runs the command up to its first read */
    bool is_write;                 /* private: what exceeds a limit of ours then says that nothing was applied */
    enum kv_err err;               /* KV_OK, also when the reply is a Redis error such as -WRONGTYPE; KVCAS, KVPUT NX, KVDEL: KV_CONDITION, KV_NOT_FOUND */
};
/* Memory that survives between runs (op array): zero the struct once, then only set the fields. */
void exec_free(struct exec *x);

/* Runs one command whose arity was checked with kv_op_info(). The return value is a
 * failure of the state only (KV_CORRUPT, KV_IO; KV_IO also when memory ran out, since a
 * replica that skips a write for want of memory would diverge); what the caller did wrong
 * is in the reply (a Redis error) and, for KV* operations, in x->err too. Writes with an
 * error reply change nothing. `ops` point into `rows` and stay valid until it is changed. */
enum kv_err exec_run(struct exec *x, enum kv_op op, const struct kv_slice *args, uint32_t arg_count);

/* Syntax that can be refused before proposing, so that no bad command enters the log:
 * arity, key and value sizes, option syntax, number ranges, exactly as exec_run() would
 * refuse them. Appends the Redis error to `reply` and returns KV_BAD_ARGUMENT or KV_TOO_BIG;
 * KV_OK: worth running. Relative expiry (EX, PX, EXPIRE ..) stays relative: apply adds the
 * entry's stamp (R14). */
enum kv_err exec_check(enum kv_op op, const struct kv_slice *args, uint32_t arg_count,
                       uint32_t value_bytes_max, struct kv_buf *reply);
/* Whether exec_run() knows the operation; the others concern whole partitions or the node. */
bool exec_runs(enum kv_op op);
#endif

#ifndef KV_OP_H
#define KV_OP_H
#include "client/base/slice.h"

/* Every operation a node can be asked for, once, for all front doors, for the
 * router and for the log. `code` stands in log entries and on the native wire:
 * never renumber, never reuse. Arguments follow the Redis command of that name,
 * without the name; KV* operations are kvd's own.
 *
 *   X(NAME, code, kind, arity_min, arity_max, first, last, step)
 *
 * kind: R reads, W writes through the log, A a command of the node itself (never
 * in the log). arity counts the arguments behind the name (-1: no upper bound).
 * first..last step: which arguments are keys, 1-based; 0 = none, a negative last
 * counts from the end (-1 is the last argument). */
#define KV_OPS(X)                                                                                                                            \
    X(GET, 1, R, 1, 1, 1, 1, 1)                                                                                                              \
    X(SET, 2, W, 2, -1, 1, 1, 1)                                                                                                             \
    X(SETNX, 3, W, 2, 2, 1, 1, 1)                                                                                                            \
    X(SETEX, 4, W, 3, 3, 1, 1, 1)                                                                                                            \
    X(PSETEX, 5, W, 3, 3, 1, 1, 1)                                                                                                           \
    X(GETSET, 6, W, 2, 2, 1, 1, 1)                                                                                                           \
    X(GETDEL, 7, W, 1, 1, 1, 1, 1)                                                                                                           \
    X(GETEX, 8, W, 1, -1, 1, 1, 1)                                                                                                           \
    X(MGET, 9, R, 1, -1, 1, -1, 1)                                                                                                           \
    X(MSET, 10, W, 2, -1, 1, -1, 2)                                                                                                          \
    X(MSETNX, 11, W, 2, -1, 1, -1, 2)                                                                                                        \
    X(DEL, 12, W, 1, -1, 1, -1, 1)                                                                                                           \
    X(UNLINK, 13, W, 1, -1, 1, -1, 1)                                                                                                        \
    X(EXISTS, 14, R, 1, -1, 1, -1, 1)                                                                                                        \
    X(APPEND, 15, W, 2, 2, 1, 1, 1)                                                                                                          \
    X(STRLEN, 16, R, 1, 1, 1, 1, 1)                                                                                                          \
    X(GETRANGE, 17, R, 3, 3, 1, 1, 1)                                                                                                        \
    X(SUBSTR, 18, R, 3, 3, 1, 1, 1)                                                                                                          \
    X(SETRANGE, 19, W, 3, 3, 1, 1, 1)                                                                                                        \
    X(INCR, 20, W, 1, 1, 1, 1, 1)                                                                                                            \
    X(DECR, 21, W, 1, 1, 1, 1, 1)                                                                                                            \
    X(INCRBY, 22, W, 2, 2, 1, 1, 1)                                                                                                          \
    X(DECRBY, 23, W, 2, 2, 1, 1, 1)                                                                                                          \
    X(INCRBYFLOAT, 24, W, 2, 2, 1, 1, 1)                                                                                                     \
    X(EXPIRE, 25, W, 2, -1, 1, 1, 1)                                                                                                         \
    X(PEXPIRE, 26, W, 2, -1, 1, 1, 1)                                                                                                        \
    X(EXPIREAT, 27, W, 2, -1, 1, 1, 1)                                                                                                       \
    X(PEXPIREAT, 28, W, 2, -1, 1, 1, 1)                                                                                                      \
    X(TTL, 29, R, 1, 1, 1, 1, 1)                                                                                                             \
    X(PTTL, 30, R, 1, 1, 1, 1, 1)                                                                                                            \
    X(EXPIRETIME, 31, R, 1, 1, 1, 1, 1)                                                                                                      \
    X(PEXPIRETIME, 32, R, 1, 1, 1, 1, 1)                                                                                                     \
    X(PERSIST, 33, W, 1, 1, 1, 1, 1)                                                                                                         \
    X(TYPE, 34, R, 1, 1, 1, 1, 1)                                                                                                            \
    X(RENAME, 35, W, 2, 2, 1, 2, 1)                                                                                                          \
    X(RENAMENX, 36, W, 2, 2, 1, 2, 1)                                                                                                        \
    X(COPY, 37, W, 2, -1, 1, 2, 1)                                                                                                           \
    X(TOUCH, 38, R, 1, -1, 1, -1, 1)                                                                                                         \
    X(SETBIT, 39, W, 3, 3, 1, 1, 1)                                                                                                          \
    X(GETBIT, 40, R, 2, 2, 1, 1, 1)                                                                                                          \
    X(BITCOUNT, 41, R, 1, -1, 1, 1, 1)                                                                                                       \
    X(BITPOS, 42, R, 2, -1, 1, 1, 1)                                                                                                         \
    X(BITOP, 43, W, 3, -1, 2, -1, 1)                                                                                                         \
    X(BITFIELD, 44, W, 1, -1, 1, 1, 1)                                                                                                       \
    X(BITFIELD_RO, 45, R, 1, -1, 1, 1, 1)                                                                                                    \
    X(LCS, 46, R, 2, -1, 1, 2, 1)                                                                                                            \
    X(OBJECT, 47, R, 1, -1, 2, 2, 1)                                                                                                         \
    X(SCAN, 48, R, 1, -1, 0, 0, 0)                                                                                                           \
    X(KEYS, 49, R, 1, 1, 0, 0, 0)                                                                                                            \
    X(DBSIZE, 50, R, 0, 0, 0, 0, 0)                                                                                                          \
    X(RANDOMKEY, 51, R, 0, 0, 0, 0, 0)                                                                                                       \
    X(FLUSHALL, 52, W, 0, 1, 0, 0, 0)                                                                                                        \
    X(FLUSHDB, 53, W, 0, 1, 0, 0, 0)                                                                                                         \
    /* kvd's own, over the native face and inside the cluster */                                                                             \
    X(KVGET, 64, R, 1, 1, 1, 1, 1)    /* key; the reply carries version and deadline */                                                      \
    X(KVPUT, 65, W, 3, 4, 1, 1, 1)    /* key, value, deadline ms or "0", ["NX"] */                                                           \
    X(KVCAS, 66, W, 4, 4, 1, 1, 1)    /* key, new, "VERSION" "epoch:index" | "OLD" old */                                                    \
    X(KVDEL, 67, W, 1, 2, 1, 1, 1)    /* key, [version "epoch:index"] */                                                                     \
    X(KVINCR, 68, W, 2, 2, 1, 1, 1)   /* key, signed delta */                                                                                \
    X(KVSCAN, 69, R, 4, 4, 0, 0, 0)   /* from, to (encoded keys), rows max, bytes max; one partition */                                      \
    X(KVFLUSH, 70, W, 0, 1, 0, 0, 0)  /* [encoded key]: deletes every key of its partition, and says where that ends */                      \
    X(KVCOUNT, 71, R, 2, 2, 0, 0, 0)  /* from, to (encoded keys): live keys of one partition */                                              \
    X(KVAWAIT, 72, R, 2, -1, 0, 0, 0) /* replicas, wait ms, [partition, index].. : how many followers hold them */                           \
    /* keyspaces: rows of partition 0, and answered by it, whatever keyspace is asked in */                                                  \
    X(KSCREATE, 80, W, 2, 2, 1, 1, 1) /* name, an encoded Keyspace: what is wanted; the reply is what became of it */                        \
    X(KSDROP, 81, W, 1, 2, 1, 1, 1)   /* name, [JOB: it is one | FORCE: so, and jobs of it that people asked for end too] */                 \
    X(KSALTER, 82, W, 2, 2, 1, 1, 1)  /* name, an encoded Keyspace as it is to be: its replicas and zones are taken */                       \
    X(KSLIST, 83, R, 0, 0, 0, 0, 0)   /* encoded Keyspaces, `default` first */                                                               \
    X(KSSHOW, 84, R, 1, 1, 1, 1, 1)   /* name; an encoded Keyspace */                                                                        \
    /* nodes: likewise (server/exec_nodes.h) */                                                                                              \
    X(KSTOKEN, 85, W, 2, 2, 1, 1, 1) /* hash of a join token, how long it is good in ms; until when it is */                                 \
    X(KSJOIN, 86, W, 2, 2, 1, 1, 1)  /* hash of a join token, an encoded Node: asked by nodes only; an encoded Map of nodes */               \
    X(KSNODE, 87, W, 2, 3, 1, 1, 1)  /* node id, its new state, [JOB: a drain is one | FORCE: also with nowhere to go]; the state before. */ \
    /* Or node id, "self", an encoded Node: nodes only */                                                                                    \
    X(KSSEED, 88, W, 1, 1, 0, 0, 0)    /* an encoded Map of the nodes a cluster begins with: asked by nodes only */                          \
    X(KSWELCOME, 89, R, 2, 2, 0, 0, 0) /* as KSJOIN, and only says what that would */                                                        \
    /* jobs: likewise (server/exec_jobs.h); the reply is the encoded Job */                                                                  \
    X(JOBOPEN, 90, W, 2, 2, 1, 1, 1)  /* kind, an encoded Job: what is wanted; or the same one that is there */                              \
    X(JOBCLAIM, 91, W, 3, 3, 1, 1, 1) /* id, node, the fence it has: that node runs it, under the next. Asked by nodes only */               \
    X(JOBSTEP, 92, W, 2, 2, 1, 1, 1)  /* id, an encoded Job: how it stands, under its fence. Asked by nodes only */                          \
    X(JOBSET, 93, W, 2, 2, 1, 1, 1)   /* id, pause | resume | cancel */                                                                      \
    X(JOBLIST, 94, R, 0, 0, 0, 0, 0)  /* encoded Jobs, by id */                                                                              \
    X(JOBSHOW, 95, R, 1, 1, 1, 1, 1)  /* id */                                                                                               \
    /* in the log only: written by the node itself */                                                                                        \
    X(NOOP, 96, W, 0, 0, 0, 0, 0)      /* a leader's first entry of its term */                                                              \
    X(CLOCK, 97, W, 0, 0, 0, 0, 0)     /* moves the group clock to the entry's stamp (R14) */                                                \
    X(DESCRIBE, 98, W, 1, 1, 0, 0, 0)  /* a new partition descriptor; a raft configuration entry */                                          \
    X(SPLIT, 99, W, 2, 2, 0, 0, 0)     /* encoded key, partition id: from that key on it is a partition of its own */                        \
    X(FREEZE, 100, W, 4, 4, 0, 0, 0)   /* encoded key, merge id, left id, left range_epoch: serves nothing (R9) */                           \
    X(UNFREEZE, 101, W, 2, 2, 0, 0, 0) /* encoded key, merge id: it serves again */                                                          \
    X(ABSORB, 102, W, 3, 3, 0, 0, 0)   /* encoded key, the right's descriptor as of its FREEZE, own conf_epoch */                            \
    X(VOID, 103, W, 5, 5, 0, 0, 0)     /* as FREEZE, right range_epoch: no such ABSORB takes effect from then on */                          \
    /* of the node, never in the log */                                                                                                      \
    X(KVMAP, 112, A, 0, 0, 0, 0, 0)      /* the partitions, their leaders, the nodes */                                                      \
    X(KVSTATUS, 113, A, 0, 0, 0, 0, 0)   /* this node's view of its groups, as JSON */                                                       \
    X(KVLOGLEVEL, 114, A, 1, 1, 0, 0, 0) /* "module=level" */                                                                                \
    X(KVREPLACE, 115, A, 1, 1, 0, 0, 0)  /* node id: give its replicas new ids */                                                            \
    X(KVPING, 116, A, 0, 1, 0, 0, 0)     /* echoes its argument */                                                                           \
    X(KVHOT, 122, A, 1, 2, 0, 0, 0)      /* how many, [keyspace id]: the hottest keys this node serves, as JSON */                           \
    X(KVMOVE, 119, R, 3, 4, 0, 0, 0)     /* partition, node, node: a replica goes from here (0: a new one) to there (0: it ends), */         \
    /* [conf_epoch: if nothing changed since]; the reply says how much of it is there */                                                     \
    X(KVLEAD, 120, R, 2, 2, 0, 0, 0)   /* partition, node: its voter there is to lead when it can */                                         \
    X(KVSPLIT, 117, A, 1, 1, 0, 0, 0)  /* encoded key: splits its partition there; the new partition's id */                                 \
    X(KVMERGE, 118, A, 1, 1, 0, 0, 0)  /* encoded key: the partition that begins there ends in the one before; the id of that */             \
    X(KVLEFT, 121, A, 1, 1, 0, 0, 0)   /* keyspace id: how many replicas of it this node still has */                                        \
    X(KVLABELS, 123, R, 2, 2, 0, 0, 0) /* partition, an encoded List: the last partition of a list keyspace lists these too */

enum kv_op {
    KV_OP_NONE = 0,
#define X(name, code, kind, amin, amax, first, last, step) KV_OP_##name = code,
    KV_OPS(X)
#undef X
        KV_OP_CODE_MAX = 127
};

static inline bool kv_op_is_directory(enum kv_op op)
{
    return op >= KV_OP_KSCREATE && op <= KV_OP_JOBSHOW;
}
static inline bool kv_op_is_of_jobs(enum kv_op op)
{
    return op >= KV_OP_JOBOPEN && op <= KV_OP_JOBSHOW;
}
static inline bool kv_op_is_of_keyspaces(enum kv_op op)
{
    return op >= KV_OP_KSCREATE && op <= KV_OP_KSSHOW;
}

enum kv_op_kind { KV_OP_KIND_NONE,
                  KV_OP_KIND_R,
                  KV_OP_KIND_W,
                  KV_OP_KIND_A };
struct kv_op_info {
    const char *name; /* upper case; NULL for an unused code */
    enum kv_op_kind kind;
    int16_t arity_min, arity_max; /* arguments behind the name; arity_max -1: unbounded */
    int16_t key_first, key_last, key_step;
};
/* NULL for an unused code. */
const struct kv_op_info *kv_op_info(uint32_t code);
/* KV_OP_NONE if unknown; case does not matter. */
enum kv_op kv_op_find(struct kv_slice name);

/* The keys among `arg_count` arguments: *first is the 0-based index of the first,
 * the return value how many there are, *step how far apart. 0 keys: whole-keyspace
 * or partition operations. */
uint32_t kv_op_keys(const struct kv_op_info *info, uint32_t arg_count, uint32_t *first, uint32_t *step);
#endif

#ifndef KV_ERR_H
#define KV_ERR_H
/* One error space for every library in this repository. KV_OK is zero; all
 * others are operating errors a caller can act on. Broken invariants are not
 * errors: they are asserts. Wire value = enum value; never renumber once released.
 * Whether a request applied (no, maybe, yes) travels beside the code: see kv_applied. */
#define KV_ERRORS(X)                                                           \
    X(OK, 0, "ok")                                                             \
    X(NOT_FOUND, 1, "no such key")                                             \
    X(CONFLICT, 2, "compare-and-set lost the race")                            \
    X(NOT_LEADER, 3, "this replica does not lead")                             \
    X(WRONG_SHARD, 4, "this node does not own the key, or the epoch is stale") \
    X(BUSY, 5, "limit reached, back off and retry")                            \
    X(UNAVAILABLE, 6, "no quorum answers")                                     \
    X(TIMEOUT, 7, "deadline passed")                                           \
    X(TOO_BIG, 8, "key, value or frame over its limit")                        \
    X(MALFORMED, 9, "bytes do not parse")                                      \
    X(CORRUPT, 10, "checksum or invariant on disk broken")                     \
    X(IO, 11, "the device refused")                                            \
    X(NO_SPACE, 12, "the device is full")                                      \
    X(AUTH, 13, "peer is not who it claims")                                   \
    X(CLOSED, 14, "the other side, or we, closed it")                          \
    X(THROTTLED, 15, "over the rate agreed; see retry_after_ms")               \
    X(DENIED, 16, "the caller's role does not allow it")                       \
    X(CONDITION, 17, "a condition of the request did not hold")                \
    X(WRONG_TYPE, 18, "the value is of another type")                          \
    X(BAD_ARGUMENT, 19, "an argument is out of its range")                     \
    X(WRONG_CLUSTER, 20, "the peer belongs to another cluster")                \
    X(VERSION, 21, "format or protocol version not supported")                 \
    X(POISONED, 22, "a failed sync stopped this worker")                       \
    X(NO_LEADER, 23, "the partition has no leader now")                        \
    X(LOADING, 24, "the node is recovering its data")                          \
    X(CROSS_SHARD, 25, "the keys live in different partitions")                \
    X(NO_KEYSPACE, 26, "no such keyspace")
enum kv_err {
#define X(name, code, text) KV_##name = code,
    KV_ERRORS(X)
#undef X
};

/* What is known of a mutation's effect. MAYBE is an outcome, not an error: the
 * request may still take effect later, once, or never. */
enum kv_applied { KV_APPLIED_NO,
                  KV_APPLIED_MAYBE,
                  KV_APPLIED_YES };

const char *kv_err_text(enum kv_err err);             /* static, never NULL, also for unknown codes */
const char *kv_err_name(enum kv_err err);             /* "NOT_FOUND"; "UNKNOWN" for unknown codes */
const char *kv_applied_text(enum kv_applied applied); /* "no", "maybe", "yes" */
#endif

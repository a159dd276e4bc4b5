#ifndef SERVER_EXEC_IMPL_H
#define SERVER_EXEC_IMPL_H
#include "client/base/text.h"
#include "client/wire/resp.h"
#include "server/exec.h"

/* What the exec_*.c files share. A command is a function that loads keys, replies and
 * records changes; it returns early whenever a helper says false or NULL, because then
 * the refusal or failure is already recorded in `x`:
 *
 *     struct exec_entry e;
 *     if (!exec_load(x, a[0], &e)) return;
 *
 * A command refuses bad syntax before its first exec_load() unless Redis does so after:
 * exec_check() is the same function, stopped at that point. */
typedef void exec_command(struct exec *x, const struct kv_slice *a, uint32_t n);

struct exec_entry { /* a key and what the state has under it */
    struct kv_key key;
    struct value value; /* legal if `live` */
    bool live;          /* there and not expired */
    bool stored;        /* there, perhaps expired */
};

/* False: refused (key too long), failed, or only probing. */
bool exec_load(struct exec *x, struct kv_slice user_key, struct exec_entry *e);
/* The encoded key alone, for commands that write without reading. */
bool exec_key(struct exec *x, struct kv_slice user_key, struct kv_key *out);

/* A value whose text looks like an integer but is none to Redis: INCRBYFLOAT made it. */
enum { EXEC_FLAG_TEXT = 2 };

/* Records a change. A row is built in place: exec_put_begin() returns room for `size`
 * bytes of payload (NULL: stop), legal until exec_put_end() writes its header. */
bool exec_put(struct exec *x, const struct kv_key *key, struct kv_slice payload, uint8_t flags,
              uint64_t expire_ms);
uint8_t *exec_put_begin(struct exec *x, const struct kv_key *key, size_t size);
void exec_put_end(struct exec *x, const struct kv_key *key, uint8_t flags, uint64_t expire_ms);
bool exec_delete(struct exec *x, const struct kv_key *key);
static inline uint64_t exec_expire_of(const struct exec_entry *e)
{
    return e->live ? e->value.expire_ms : 0;
}

/* Replies with a Redis error and drops every change. Always returns false. */
bool exec_refuse(struct exec *x, enum kv_err why, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Likewise of an operation of partition 0's, which reports the error code too. */
bool exec_deny(struct exec *x, enum kv_err why, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool exec_refuse_syntax(struct exec *x);
bool exec_refuse_integer(struct exec *x);
bool exec_refuse_size(struct exec *x);
/* KV* operations report what went wrong as an error code as well. */
void exec_outcome(struct exec *x, enum kv_err err);

bool exec_integer(struct exec *x, struct kv_slice text, int64_t *out); /* refuses if it does not parse */
bool exec_word(struct kv_slice text, const char *upper);               /* case-insensitive equality */
/* The time for replies: writes know only their stamp, reads the wall clock too. */
static inline uint64_t exec_now(const struct exec *x)
{
    return x->wall_ms > x->clock_ms ? x->wall_ms : x->clock_ms;
}

void exec_reply_value(struct exec *x, const struct exec_entry *e); /* bulk, or null if not live */
static inline void exec_reply_ok(struct exec *x)
{
    kv_buf_append(x->reply, "+OK\r\n", 5);
}

/* EX, PX, EXAT, PXAT: `unit_ms` 1000 or 1; relative times count from `base_ms`. */
struct exec_deadline {
    struct kv_slice text;
    int64_t unit_ms;
    bool relative;
};
bool exec_deadline(struct exec *x, const char *command, const struct exec_deadline *d, uint64_t *out);

void exec_check_keyspace(struct exec *x, enum kv_op op, const struct kv_slice *a, uint32_t n);

#define EXEC_COMMANDS(X)                                                                                                                                      \
    X(GET, get)                                                                                                                                               \
    X(SET, set)                                                                                                                                               \
    X(SETNX, setnx)                                                                                                                                           \
    X(SETEX, setex)                                                                                                                                           \
    X(PSETEX, psetex)                                                                                                                                         \
    X(GETSET, getset)                                                                                                                                         \
    X(GETDEL, getdel) X(GETEX, getex) X(MGET, mget) X(MSET, mset)                                                                                             \
        X(MSETNX, msetnx) X(APPEND, append) X(STRLEN, strlen) X(GETRANGE, getrange)                                                                           \
            X(SUBSTR, getrange) X(SETRANGE, setrange)                                                                                                         \
                X(INCR, incr) X(DECR, decr) X(INCRBY, incrby) X(DECRBY, decrby)                                                                               \
                    X(INCRBYFLOAT, incrbyfloat)                                                                                                               \
                        X(EXPIRE, expire) X(PEXPIRE, pexpire) X(EXPIREAT, expireat) X(PEXPIREAT, pexpireat)                                                   \
                            X(TTL, ttl) X(PTTL, pttl) X(EXPIRETIME, expiretime) X(PEXPIRETIME, pexpiretime)                                                   \
                                X(PERSIST, persist)                                                                                                           \
                                    X(DEL, del) X(UNLINK, del) X(EXISTS, exists) X(TOUCH, exists) X(TYPE, type)                                               \
                                        X(RENAME, rename) X(RENAMENX, renamenx) X(COPY, copy) X(OBJECT, object)                                               \
                                            X(SETBIT, setbit) X(GETBIT, getbit) X(BITCOUNT, bitcount) X(BITPOS, bitpos) X(BITOP, bitop)                       \
                                                X(BITFIELD, bitfield) X(BITFIELD_RO, bitfield_ro) X(LCS, lcs)                                                 \
                                                    X(KVGET, get) X(KVPUT, kvput) X(KVCAS, kvcas) X(KVDEL, kvdel) X(KVINCR, kvincr)                           \
                                                        X(KSCREATE, kscreate) X(KSDROP, ksdrop) X(KSALTER, ksalter) X(KSLIST, kslist) X(KSSHOW, ksshow)       \
                                                            X(KSTOKEN, kstoken) X(KSJOIN, ksjoin) X(KSNODE, ksnode) X(KSSEED, ksseed) X(KSWELCOME, kswelcome) \
                                                                X(JOBOPEN, jobopen) X(JOBCLAIM, jobclaim) X(JOBSTEP, jobstep) X(JOBSET, jobset) X(JOBLIST, joblist) X(JOBSHOW, jobshow)
#define X(op, function) exec_command exec_##function;
EXEC_COMMANDS(X)
#undef X
#endif

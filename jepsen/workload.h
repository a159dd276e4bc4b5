#ifndef JEPSEN_WORKLOAD_H
#define JEPSEN_WORKLOAD_H
#include "client/env/env.h"
#include "client/wire/message.h"
#include "tools/check/history.h"

/* What the clients do. A workload works on a few lanes at a time, each pinned by a hashtag to a
 * partition of its own; a lane's key is replaced after some hundred operations, which keeps the
 * search of the checker short. All choices follow from the run's seed.
 *
 * The values a history shows are those of tools/check: numbers, lists of numbers, null. */
enum { LANES = 4,
       KEY_BYTES = 40,
       SCRIPT_MAX = 2 };
enum shape { SHAPE_NUMBER,
             SHAPE_BITS,
             SHAPE_LIST }; /* how a value's bytes are read */

struct op {
    enum history_f f;
    char key[KEY_BYTES];
    enum kv_level level;           /* READ */
    uint32_t bounded_ms;           /* of level BOUNDED: asked for */
    int64_t value;                 /* WRITE, ADD, APPEND, new one of CAS; delta of INCR */
    bool old_is_null, new_is_null; /* CAS */
    int64_t old;                   /* CAS */
    struct kv_version version;     /* CAS: if not {0,0}, compare this version instead of `old`'s bytes */
    uint32_t ttl_ms;               /* WRITE: 0 = none */
    bool wants_result;             /* INCR: the history shows the result too */
    bool ends_script;              /* SEQUENTIAL: the next operation of the script only if this one is ok */
};

struct known { /* what a worker last saw of a lane's key */
    uint32_t generation;
    bool is_seen, is_null;
    int64_t value;
    struct kv_version version;
};

struct chooser { /* a worker's side of it */
    uint64_t random;
    bool native;
    struct known known[LANES];
    struct op script[SCRIPT_MAX];
    uint32_t script_next, script_count;
};

struct plan {
    const struct workload *workload;
    struct env *env;
    struct lane {
        uint32_t tag;        /* its hashtag {t<tag>} */
        uint32_t generation; /* of its key, from 1 */
        uint32_t chosen;     /* operations on this key */
        int64_t next_value;
        uint64_t busy_until_ns; /* TTL: a new key not before */
    } lanes[LANES];
};

struct workload {
    const char *name, *help;
    enum shape shape;
    uint32_t ops_per_key;
    /* Fills ch->script with one to SCRIPT_MAX operations. */
    void (*choose)(struct plan *p, struct chooser *ch);
};

const struct workload *workload_find(const char *name);
const struct workload *workload_at(uint32_t i); /* NULL behind the last */

void plan_init(struct plan *p, const struct workload *w, struct env *env, uint64_t seed);
/* The next operation of a worker; valid until the next call. */
const struct op *plan_next(struct plan *p, struct chooser *ch);
/* What an ok showed, for later choices. */
void plan_saw(struct plan *p, struct chooser *ch, const struct op *op, bool is_null, int64_t value,
              struct kv_version version);
/* All keys ever chosen, 0..plan_keys() - 1: for the final reads. */
uint32_t plan_keys(const struct plan *p);
void plan_key(const struct plan *p, uint32_t i, char key[KEY_BYTES]);

/* The value in the invoke's event, and of an ok read: `bytes` as the workload's shape. NULL: it
 * does not parse, or memory. */
json_t *op_value(const struct op *op);
json_t *shape_value(enum shape shape, struct kv_slice bytes, bool is_null);
#endif

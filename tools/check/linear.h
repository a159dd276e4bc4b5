#ifndef CHECK_LINEAR_H
#define CHECK_LINEAR_H
#include "tools/check/check.h"

/* The search of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with
 * Lowe's memoisation ("Testing for linearizability", 2017), for one register or counter. */
enum linear_f { LINEAR_READ, LINEAR_WRITE, LINEAR_CAS, LINEAR_INCR };
#define LINEAR_ANY INT64_MIN /* a state not known: any first value fits */
#define LINEAR_NONE INT64_MIN /* an increment whose result nobody saw */

struct linear_op {
    uint32_t call, ret; /* ret HISTORY_NEVER: optional, may take effect any time after call */
    uint32_t source;    /* index of the history op */
    enum linear_f f;
    int64_t a, b; /* READ a. WRITE a. CAS a -> b. INCR by a, giving b */
};
enum linear_verdict { LINEAR_YES, LINEAR_NO, LINEAR_LIMIT };
struct linear_limit {
    uint64_t states;       /* of one search */
    bool (*stop)(void *);  /* NULL, or asked every LINEAR_STOP_STATES: true ends the search */
    void *stop_arg;
};
enum { LINEAR_STOP_STATES = 4096 };

/* `ops` in order of call. `*states` grows by what was searched. LINEAR_LIMIT: undecided. */
enum linear_verdict linear_check(const struct linear_op *ops, uint32_t count, int64_t initial,
                                 const struct linear_limit *limit, uint64_t *states);
/* Shrinks `ops`, known to fail from `*initial`, in place to a small failing sub-history;
 * every step removes only what cannot turn a good history bad. Returns the new count; *initial
 * becomes LINEAR_ANY if what was before has been dropped. */
uint32_t linear_shrink(struct linear_op *ops, uint32_t count, int64_t *initial, const struct linear_limit *limit,
                       uint64_t *states);
#endif

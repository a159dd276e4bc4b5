#ifndef CHECK_STALE_H
#define CHECK_STALE_H
#include "tools/check/check.h"

/* The reads of one key that need not be current: `bounded` must return what was true at some time at most stale_ms before
 * it was asked, or later; `any` what was there once. `ops` are indices of all operations of the key in order of call, whose
 * others have been found linearizable under out->model. Fills verdict, why and the operations that contradict each other.
 *
 * A value counts as gone before a moment if an operation that began after it had surely taken effect, and was over by
 * then, wrote or saw another. So what it finds is wrong in every order; what no pair of operations shows, it does not find. */
void stale_check(const struct history *h, const uint32_t *ops, uint32_t count, struct check_result *out);
static inline bool stale_is_weak(const struct history_op *op)
{
    return op->f == HISTORY_READ && op->level != HISTORY_STRONG;
}
#endif

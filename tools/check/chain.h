#ifndef CHECK_CHAIN_H
#define CHECK_CHAIN_H
#include "tools/check/check.h"

/* Grow-only objects, a set or a list, of one key: `ops` are indices of its operations in
 * order of call. Fills verdict, why and the operations that contradict each other. */
void chain_check(const struct history *h, const uint32_t *ops, uint32_t count, bool is_list,
                 struct check_result *out);
#endif

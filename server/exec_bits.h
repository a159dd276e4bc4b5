#ifndef SERVER_EXEC_BITS_H
#define SERVER_EXEC_BITS_H
#include "server/exec_impl.h"

/* What SETBIT and BITFIELD share. */

/* A bit offset, "#7" meaning 7 * scale if `scale` > 0. Refuses what Redis refuses, with
 * limit.value in the place of its proto-max-bulk-len. */
bool exec_bit_offset(struct exec *x, struct kv_slice text, unsigned scale, uint64_t *out);
/* Begins a row with the old value, zero-filled so that it has `last_bit`. NULL: stop. */
uint8_t *exec_bits_grow(struct exec *x, const struct exec_entry *e, uint64_t last_bit);
#endif

#ifndef KV_OP_TABLE_H
#define KV_OP_TABLE_H
/* Private to op.c and its test: the perfect hash over operation names. */
#include "client/base/endian.h"

#define OP_MULTIPLIER UINT64_C(0x52ADDC3CE2FF6EC1)
enum { OP_NAME_BYTES_MAX = 16,
       OP_SLOTS = 512 };

static inline uint16_t op_name_slot(const uint8_t upper[OP_NAME_BYTES_MAX], uint64_t multiplier)
{
    uint64_t low = le64_get(upper), high = le64_get(upper + 8);
    return (uint16_t)(((low ^ (high << 32 | high >> 32)) * multiplier) >> 55);
}
#endif

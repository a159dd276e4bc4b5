#ifndef KV_OP_TABLE_H
#define KV_OP_TABLE_H
/* Private to op.c and its test: the perfect hash over operation names. */
#include "client/base/endian.h"

#define OP_MULTIPLIER UINT64_C(0x758F106905BC40ED)
enum { OP_NAME_BYTES_MAX = 16,
       OP_SLOTS = 256 };

static inline uint8_t op_name_slot(const uint8_t upper[OP_NAME_BYTES_MAX], uint64_t multiplier)
{
    uint64_t low = le64_get(upper), high = le64_get(upper + 8);
    return (uint8_t)(((low ^ (high << 32 | high >> 32)) * multiplier) >> 56);
}
#endif

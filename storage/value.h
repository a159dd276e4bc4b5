#ifndef STORAGE_VALUE_H
#define STORAGE_VALUE_H
#include "client/base/err.h"
#include "client/base/slice.h"

/* What stands in a STORE_DATA row, little-endian (format 1):
 *
 *   0  u32 checksum   low half of XXH3-64 over the payload, seeded with that over bytes
 *                     4..27, seeded with that over the key, seeded with 0 (R21)
 *   4  u8  type       enum value_type
 *   5  u8  flags      enum value_flags
 *   6  u16 reserved   0
 *   8  u32 version epoch   R16: the range epoch and log index of the last write
 *  12  u64 version index
 *  20  u64 expire_ms  absolute deadline, 0 = none
 *  28  payload
 */
enum { VALUE_HEADER_BYTES = 28 };
enum value_type { VALUE_STRING = 1 };
enum value_flags { VALUE_FLAG_RAW = 1 /* made by APPEND, SETRANGE..: OBJECT ENCODING says raw */ };

struct value {
    enum value_type type;
    uint8_t flags;
    uint32_t version_epoch;
    uint64_t version_index;
    uint64_t expire_ms;
    struct kv_slice payload; /* points into the row */
};
void value_header_write(struct kv_slice key, const struct value *v, uint8_t header[VALUE_HEADER_BYTES]);
/* KV_CORRUPT: checksum, size or type. */
enum kv_err value_read(struct kv_slice key, struct kv_slice row, struct value *out);
/* The header alone, unchecked, of a row read with keys_only; row.size >= VALUE_HEADER_BYTES. */
void value_peek(struct kv_slice row, struct value *out);
#endif

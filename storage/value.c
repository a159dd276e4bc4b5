#include "storage/value.h"

#include <assert.h>

#include "client/base/endian.h"
#include "client/base/hash.h"

static_assert(VALUE_HEADER_BYTES == 4 + 1 + 1 + 2 + 4 + 8 + 8, "on-disk layout");

enum { CHECKED_FROM = 4, CHECKED_BYTES = VALUE_HEADER_BYTES - CHECKED_FROM };

/* The key is part of the sum, so that a row found under a wrong key is noticed too. */
static uint32_t value_checksum(struct kv_slice key, const uint8_t *header, struct kv_slice payload)
{
    uint64_t sum = kv_hash64(key, 0);
    sum = kv_hash64(kv_slice(header + CHECKED_FROM, CHECKED_BYTES), sum);
    return kv_hash32(payload, sum);
}

void value_header_write(struct kv_slice key, const struct value *v,
                        uint8_t header[VALUE_HEADER_BYTES])
{
    header[4] = (uint8_t)v->type;
    header[5] = v->flags;
    le16_put(header + 6, 0);
    le32_put(header + 8, v->version_epoch);
    le64_put(header + 12, v->version_index);
    le64_put(header + 20, v->expire_ms);
    le32_put(header, value_checksum(key, header, v->payload));
}

enum kv_err value_read(struct kv_slice key, struct kv_slice row, struct value *out)
{
    if (row.size < VALUE_HEADER_BYTES) return KV_CORRUPT;
    const uint8_t *header = row.data;
    struct kv_slice payload = kv_slice(header + VALUE_HEADER_BYTES, row.size - VALUE_HEADER_BYTES);
    if (le32_get(header) != value_checksum(key, header, payload)) return KV_CORRUPT;
    if (header[4] != VALUE_STRING || le16_get(header + 6) != 0) return KV_CORRUPT;
    value_peek(row, out);
    return KV_OK;
}

void value_peek(struct kv_slice row, struct value *out)
{
    assert(row.size >= VALUE_HEADER_BYTES);
    const uint8_t *header = row.data;
    *out = (struct value){
        .type = VALUE_STRING,
        .flags = header[5],
        .version_epoch = le32_get(header + 8),
        .version_index = le64_get(header + 12),
        .expire_ms = le64_get(header + 20),
        .payload = kv_slice(header + VALUE_HEADER_BYTES, row.size - VALUE_HEADER_BYTES),
    };
}

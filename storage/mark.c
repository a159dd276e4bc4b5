#include "storage/mark.h"

#include "client/base/endian.h"
#include "client/base/hash.h"

static uint64_t checksum(struct kv_slice key, struct kv_slice value)
{
    return kv_hash64(kv_slice(value.data + 8, value.size - 8), kv_hash64(key, 0));
}

enum kv_err mark_write(const struct checkpoint_mark *m, uint8_t key[MARK_KEY_BYTES], struct kv_buf *out)
{
    if (m->descriptor.size > MARK_DESCRIPTOR_BYTES_MAX) return KV_TOO_BIG;
    size_t size = MARK_HEADER_BYTES + m->descriptor.size;
    uint8_t *value = kv_buf_reserve(out, size);
    if (value == NULL) return KV_BUSY;
    be32_put(key, m->group);
    le32_put(value + 8, m->replica);
    le32_put(value + 12, (uint32_t)m->state);
    le64_put(value + 16, m->index);
    le64_put(value + 24, m->term);
    le64_put(value + 32, m->clock_ms);
    if (m->descriptor.size > 0) memcpy(value + MARK_HEADER_BYTES, m->descriptor.data, m->descriptor.size);
    le64_put(value, checksum(kv_slice(key, MARK_KEY_BYTES), kv_slice(value, size)));
    kv_buf_commit(out, size);
    return KV_OK;
}

bool mark_read(struct kv_slice key, struct kv_slice value, struct checkpoint_mark *out)
{
    if (key.size != MARK_KEY_BYTES || value.size < MARK_HEADER_BYTES) return false;
    if (le64_get(value.data) != checksum(key, value)) return false;
    uint32_t state = le32_get(value.data + 12);
    if (state > CHECKPOINT_GROUP_TOMBSTONE) return false;
    *out = (struct checkpoint_mark){
        .group = be32_get(key.data),
        .replica = le32_get(value.data + 8),
        .state = (enum checkpoint_group_state)state,
        .index = le64_get(value.data + 16),
        .term = le64_get(value.data + 24),
        .clock_ms = le64_get(value.data + 32),
        .descriptor = kv_slice(value.data + MARK_HEADER_BYTES, value.size - MARK_HEADER_BYTES),
    };
    return true;
}

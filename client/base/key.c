#include "client/base/key.h"

#include "client/base/endian.h"

#include <assert.h>
#include <stdlib.h>

static_assert(KV_SLOTS == 16384, "as Redis Cluster; the mask below needs a power of two");

/* CRC16 with polynomial 0x1021, initial value 0, not reflected; four bytes a step. A CRC is
 * linear: that of a byte is the sum of those of its bits, so the tables are made of the CRCs of
 * 0x01, 0x02 .. 0x80, each followed by `behind` zero bytes. */
enum { CRC16_SLICES = 4 };
#define CRC16_BYTE(i, b0, b1, b2, b3, b4, b5, b6, b7)                                                \
    ((i & 1 ? b0 : 0) ^ (i & 2 ? b1 : 0) ^ (i & 4 ? b2 : 0) ^ (i & 8 ? b3 : 0) ^ (i & 16 ? b4 : 0) ^ \
     (i & 32 ? b5 : 0) ^ (i & 64 ? b6 : 0) ^ (i & 128 ? b7 : 0))
#define CRC16_1(i, ...) CRC16_BYTE((i), __VA_ARGS__)
#define CRC16_4(i, ...) \
    CRC16_1(i, __VA_ARGS__), CRC16_1(i + 1, __VA_ARGS__), CRC16_1(i + 2, __VA_ARGS__), CRC16_1(i + 3, __VA_ARGS__)
#define CRC16_16(i, ...) \
    CRC16_4(i, __VA_ARGS__), CRC16_4(i + 4, __VA_ARGS__), CRC16_4(i + 8, __VA_ARGS__), CRC16_4(i + 12, __VA_ARGS__)
#define CRC16_64(i, ...)                                                                    \
    CRC16_16(i, __VA_ARGS__), CRC16_16(i + 16, __VA_ARGS__), CRC16_16(i + 32, __VA_ARGS__), \
        CRC16_16(i + 48, __VA_ARGS__)
#define CRC16_256(...)                                                                   \
    {                                                                                    \
        CRC16_64(0, __VA_ARGS__), CRC16_64(64, __VA_ARGS__), CRC16_64(128, __VA_ARGS__), \
            CRC16_64(192, __VA_ARGS__)                                                   \
    }
static const uint16_t crc16_table[CRC16_SLICES][256] = {/* by the zero bytes behind */
                                                        CRC16_256(0x1021, 0x2042, 0x4084, 0x8108, 0x1231, 0x2462, 0x48C4, 0x9188),
                                                        CRC16_256(0x3331, 0x6662, 0xCCC4, 0x89A9, 0x0373, 0x06E6, 0x0DCC, 0x1B98),
                                                        CRC16_256(0x3730, 0x6E60, 0xDCC0, 0xA9A1, 0x4363, 0x86C6, 0x1DAD, 0x3B5A),
                                                        CRC16_256(0x76B4, 0xED68, 0xCAF1, 0x85C3, 0x1BA7, 0x374E, 0x6E9C, 0xDD38)};

static uint16_t crc16(struct kv_slice s)
{
    const uint16_t(*t)[256] = crc16_table;
    const uint8_t *p = s.data;
    size_t left = s.size;
    uint32_t crc = 0;
    for (; left >= CRC16_SLICES; p += CRC16_SLICES, left -= CRC16_SLICES)
        crc = (uint32_t)(t[3][crc >> 8 ^ p[0]] ^ t[2][(crc & 0xFF) ^ p[1]] ^ t[1][p[2]] ^ t[0][p[3]]);
    for (; left > 0; p++, left--) crc = (crc << 8 & 0xFFFF) ^ t[0][crc >> 8 ^ *p];
    return (uint16_t)crc;
}

/* Only the first '{' counts, and only the first '}' behind it: the Redis Cluster
 * specification, "Hash tags". */
static struct kv_slice key_hashtag(struct kv_slice key)
{
    const uint8_t *open = key.size == 0 ? NULL : memchr(key.data, '{', key.size);
    if (open == NULL) return key;
    const uint8_t *tag = open + 1, *end = key.data + key.size;
    const uint8_t *close = memchr(tag, '}', (size_t)(end - tag));
    return close == NULL || close == tag ? key : kv_slice(tag, (size_t)(close - tag));
}

uint16_t kv_slot(struct kv_slice user_key)
{
    return crc16(key_hashtag(user_key)) & (KV_SLOTS - 1);
}

enum kv_err kv_key_hash(uint32_t keyspace, struct kv_slice user_key, struct kv_key *out)
{
    if (user_key.size > KV_USER_KEY_BYTES_MAX) return KV_TOO_BIG;
    be32_put(out->bytes, keyspace);
    be16_put(out->bytes + 4, kv_slot(user_key));
    if (user_key.size > 0) memcpy(out->bytes + 6, user_key.data, user_key.size);
    out->size = (uint16_t)(6 + user_key.size);
    return KV_OK;
}

enum kv_err kv_key_range(uint32_t keyspace, struct kv_slice user_key, struct kv_key *out)
{
    if (user_key.size > KV_USER_KEY_BYTES_MAX) return KV_TOO_BIG;
    be32_put(out->bytes, keyspace);
    if (user_key.size > 0) memcpy(out->bytes + 4, user_key.data, user_key.size);
    out->size = (uint16_t)(4 + user_key.size);
    return KV_OK;
}

void kv_key_slot_start(uint32_t keyspace, uint16_t slot, struct kv_key *out)
{
    assert(slot <= KV_SLOTS); /* one past the last sorts behind every key: the keyspace's end */
    be32_put(out->bytes, keyspace);
    be16_put(out->bytes + 4, slot);
    out->size = 6;
}

uint32_t kv_key_keyspace(struct kv_slice encoded)
{
    assert(encoded.size >= 4);
    return be32_get(encoded.data);
}

uint16_t kv_key_slot(struct kv_slice encoded)
{
    assert(encoded.size >= 6);
    return be16_get(encoded.data + 4);
}

struct kv_slice kv_key_user_hash(struct kv_slice encoded)
{
    assert(encoded.size >= 6);
    return kv_slice(encoded.data + 6, encoded.size - 6);
}

/* ---- one rule for all kinds ---- */

const struct kv_key_rule kv_key_rule_system = {.keyspace = KV_KEYSPACE_SYSTEM, .kind = KV_KEY_RANGE};
const struct kv_key_rule kv_key_rule_default = {.keyspace = KV_KEYSPACE_DEFAULT, .kind = KV_KEY_HASH};

struct kv_slice kv_key_label(const struct kv_key_rule *rule, struct kv_slice user_key)
{
    const uint8_t *end = user_key.size == 0 ? NULL : memchr(user_key.data, rule->delimiter, user_key.size);
    return end == NULL ? user_key : kv_slice(user_key.data, (size_t)(end - user_key.data));
}

static bool bucket_of(const struct kv_key_rule *rule, struct kv_slice user_key, uint16_t *out)
{
    struct kv_slice label = kv_key_label(rule, user_key);
    uint32_t low = 0, high = rule->label_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = kv_slice_cmp(rule->labels[middle].text, label);
        if (order == 0) {
            *out = rule->labels[middle].bucket;
            return true;
        }
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    *out = rule->rest;
    return rule->has_rest;
}

enum kv_err kv_key_encode(const struct kv_key_rule *rule, struct kv_slice user_key, struct kv_key *out)
{
    uint16_t bucket;
    switch (rule->kind) {
    case KV_KEY_HASH: return kv_key_hash(rule->keyspace, user_key, out);
    case KV_KEY_RANGE: return kv_key_range(rule->keyspace, user_key, out);
    case KV_KEY_LIST: break;
    }
    if (user_key.size > KV_USER_KEY_BYTES_MAX) return KV_TOO_BIG;
    if (!bucket_of(rule, user_key, &bucket)) return KV_NOT_FOUND;
    kv_key_bucket_start(rule->keyspace, bucket, out);
    if (user_key.size > 0) memcpy(out->bytes + 6, user_key.data, user_key.size);
    out->size = (uint16_t)(6 + user_key.size);
    return KV_OK;
}

struct kv_slice kv_key_user(enum kv_key_kind kind, struct kv_slice encoded)
{
    size_t prefix = kind == KV_KEY_RANGE ? 4 : 6;
    assert(encoded.size >= prefix);
    return kv_slice(encoded.data + prefix, encoded.size - prefix);
}

void kv_key_bucket_start(uint32_t keyspace, uint16_t bucket, struct kv_key *out)
{
    be32_put(out->bytes, keyspace);
    be16_put(out->bytes + 4, bucket);
    out->size = 6;
}

void kv_key_start(enum kv_key_kind kind, uint32_t keyspace, struct kv_key *out)
{
    kv_key_bucket_start(keyspace, 0, out);
    if (kind == KV_KEY_RANGE) out->size = 4;
}

void kv_key_end(enum kv_key_kind kind, uint32_t keyspace, struct kv_key *out)
{
    assert(keyspace < UINT32_MAX);
    if (kind == KV_KEY_HASH) {
        kv_key_slot_start(keyspace, KV_SLOTS, out);
        return;
    }
    be32_put(out->bytes, keyspace + 1);
    out->size = 4;
}

static int label_order(const void *a, const void *b)
{
    return kv_slice_cmp(((const struct kv_label *)a)->text, ((const struct kv_label *)b)->text);
}

void kv_labels_sort(struct kv_label *labels, uint32_t count)
{
    if (count > 1) qsort(labels, count, sizeof *labels, label_order);
}

bool kv_name_is_valid(struct kv_slice name)
{
    if (name.size == 0 || name.size > KV_NAME_BYTES_MAX) return false;
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool other = (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
        if (!letter && (i == 0 || !other)) return false;
    }
    return true;
}

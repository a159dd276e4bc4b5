#ifndef KV_KEY_H
#define KV_KEY_H
#include "client/base/err.h"
#include "client/base/slice.h"

/* Encoded keys (DESIGN 3): keyspace id (4 B, big-endian), then for hash
 * keyspaces the slot (2 B, big-endian), for list keyspaces the bucket (2 B,
 * big-endian), for range keyspaces nothing, then the user key. Every partition
 * of every kind is one contiguous range of encoded keys. */
enum {
    KV_USER_KEY_BYTES_MAX = 480,
    KV_KEY_PREFIX_BYTES_MAX = 6,
    KV_KEY_BYTES_MAX = KV_USER_KEY_BYTES_MAX + KV_KEY_PREFIX_BYTES_MAX,
    KV_SLOTS = 16384,
    KV_KEYSPACE_SYSTEM = 0,  /* partition 0; range partitioned, never addressed by users */
    KV_KEYSPACE_DEFAULT = 1, /* "default": hash, 16384 slots */
    KV_PARTITION_SYSTEM = 0,
    KV_PARTITIONS_DEFAULT = 8 /* partitions 1..8 of keyspace `default` at creation */
};

struct kv_key { /* an encoded key with its own storage */
    uint16_t size; /* bytes */
    uint8_t bytes[KV_KEY_BYTES_MAX];
};

/* CRC16-CCITT (XMODEM) of the key, or of the part between the first '{' and the
 * next '}' if that is not empty, modulo 16384: Redis Cluster specification. */
uint16_t kv_slot(struct kv_slice user_key);

/* KV_TOO_BIG if the user key is over KV_USER_KEY_BYTES_MAX; `out` is untouched then. */
enum kv_err kv_key_hash(uint32_t keyspace, struct kv_slice user_key, struct kv_key *out);
enum kv_err kv_key_range(uint32_t keyspace, struct kv_slice user_key, struct kv_key *out);
void kv_key_slot_start(uint32_t keyspace, uint16_t slot, struct kv_key *out); /* slot may be 16384: the end */
uint32_t kv_key_keyspace(struct kv_slice encoded);        /* encoded.size >= 4 */
uint16_t kv_key_slot(struct kv_slice encoded);            /* hash keys; encoded.size >= 6 */
struct kv_slice kv_key_user_hash(struct kv_slice encoded); /* the user key inside a hash key */

static inline struct kv_slice kv_key_slice(const struct kv_key *k)
{
    return kv_slice(k->bytes, k->size);
}
#endif

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
/* Limits of keyspaces, named in the errors that keep them. */
enum {
    KV_NAME_BYTES_MAX = 64,            /* of a keyspace, of a group of labels */
    KV_KEYSPACES_MAX = 256,            /* at one time, beside `default` */
    KV_KEYSPACE_PARTITIONS_MAX = 2048, /* of one keyspace at its creation */
    KV_LABELS_MAX = 1024,              /* of one list keyspace */
    KV_LABEL_BYTES_MAX = 64
};

struct kv_key {    /* an encoded key with its own storage */
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
uint32_t kv_key_keyspace(struct kv_slice encoded);                            /* encoded.size >= 4 */
uint16_t kv_key_slot(struct kv_slice encoded);                                /* hash keys; encoded.size >= 6 */
struct kv_slice kv_key_user_hash(struct kv_slice encoded);                    /* the user key inside a hash key */

/* How the user keys of a keyspace are encoded. A list key's label is what stands before its first
 * delimiter, or all of it; the whole key stays in the encoding. */
enum kv_key_kind { KV_KEY_RANGE,
                   KV_KEY_HASH,
                   KV_KEY_LIST }; /* as on disk and on the wire */
struct kv_label {
    struct kv_slice text;
    uint16_t bucket;
};
struct kv_key_rule {
    uint32_t keyspace;
    enum kv_key_kind kind;
    uint8_t delimiter;
    bool has_rest;
    uint16_t rest;                 /* the bucket of labels that nobody listed, if there is one */
    const struct kv_label *labels; /* borrowed; sorted by text */
    uint32_t label_count;
};
/* KV_TOO_BIG: the user key; KV_NOT_FOUND: a label nobody listed. `out` is untouched then. */
enum kv_err kv_key_encode(const struct kv_key_rule *rule, struct kv_slice user_key, struct kv_key *out);
struct kv_slice kv_key_user(enum kv_key_kind kind, struct kv_slice encoded); /* the user key inside */
struct kv_slice kv_key_label(const struct kv_key_rule *rule, struct kv_slice user_key);
/* All keys of the keyspace lie in [start, end). */
void kv_key_start(enum kv_key_kind kind, uint32_t keyspace, struct kv_key *out);
void kv_key_end(enum kv_key_kind kind, uint32_t keyspace, struct kv_key *out);
void kv_key_bucket_start(uint32_t keyspace, uint16_t bucket, struct kv_key *out);
void kv_labels_sort(struct kv_label *labels, uint32_t count);
/* A name: a letter, then letters, digits, '-', '_', '.'; so it is no number and needs no quotes. */
bool kv_name_is_valid(struct kv_slice name);
extern const struct kv_key_rule kv_key_rule_system, kv_key_rule_default;

static inline struct kv_slice kv_key_slice(const struct kv_key *k)
{
    return kv_slice(k->bytes, k->size);
}
#endif

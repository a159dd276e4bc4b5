#ifndef KV_HASH_H
#define KV_HASH_H
#include "client/base/slice.h"

/* xxHash's XXH3, 64 bits, little-endian wherever it is stored. A checksum
 * against accidents, never against an adversary. */
uint64_t kv_hash64(struct kv_slice bytes, uint64_t seed);
static inline uint32_t kv_hash32(struct kv_slice bytes, uint64_t seed)
{
    return (uint32_t)kv_hash64(bytes, seed);
}

/* SplitMix64: the seeded generator for everything that must replay. */
static inline uint64_t kv_random_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}
#endif

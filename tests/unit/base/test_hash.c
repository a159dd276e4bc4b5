#include "client/base/hash.h"

#include "tests/unit/unit.h"

/* Stored checksums depend on these: xxHash's own published XXH3 values. */
START_TEST(published_values)
{
    ck_assert_uint_eq(kv_hash64(kv_slice(NULL, 0), 0), UINT64_C(0x2D06800538D394C2));
    ck_assert_uint_eq(kv_hash32(kv_slice(NULL, 0), 0), 0x38D394C2u);
}
END_TEST

START_TEST(every_bit_and_the_seed_matter)
{
    uint8_t bytes[300] = {0};
    for (size_t size = 1; size <= sizeof bytes; size += 13) {
        uint64_t hash = kv_hash64(kv_slice(bytes, size), 1);
        ck_assert(hash != kv_hash64(kv_slice(bytes, size), 2));
        ck_assert(hash != kv_hash64(kv_slice(bytes, size - 1), 1));
        for (size_t bit = 0; bit < 8 * size; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            ck_assert(hash != kv_hash64(kv_slice(bytes, size), 1));
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}
END_TEST

START_TEST(splitmix_as_published)
{
    /* Steele, Lea, Flood: the first outputs for seed 1234567. */
    uint64_t state = 1234567;
    ck_assert_uint_eq(kv_random_next(&state), UINT64_C(6457827717110365317));
    ck_assert_uint_eq(kv_random_next(&state), UINT64_C(3203168211198807973));
    ck_assert_uint_eq(kv_random_next(&state), UINT64_C(9817491932198370423));
}
END_TEST

UNIT_MAIN("hash", published_values, every_bit_and_the_seed_matter, splitmix_as_published)

#include "client/base/map.h"

#include "client/base/hash.h"
#include "tests/unit/unit.h"

enum { KEYS = 512 };

/* Against an array, with keys close together so that probes collide and wrap. */
START_TEST(random_operations_agree_with_an_array)
{
    struct kv_map m = {0};
    void *truth[KEYS] = {0};
    static int values[KEYS];
    uint32_t count = 0;
    uint64_t seed = 2;
    ck_assert_ptr_null(kv_map_get(&m, 1));
    ck_assert_ptr_null(kv_map_remove(&m, 1));
    for (int i = 0; i < 200000; i++) {
        uint64_t n = kv_random_next(&seed) % KEYS;
        uint64_t key = n < KEYS / 2 ? n : n << 40; /* 0 is a key like any other */
        uint64_t dice = kv_random_next(&seed) % 100;
        uint64_t put_share = i / 20000 % 2 == 0 ? 70 : 30; /* grow, then shrink */
        if (dice < put_share) {
            void *v = &values[kv_random_next(&seed) % KEYS];
            ck_assert(kv_map_put(&m, key, v));
            count += truth[n] == NULL;
            truth[n] = v;
        } else {
            ck_assert_ptr_eq(kv_map_remove(&m, key), truth[n]);
            count -= truth[n] != NULL;
            truth[n] = NULL;
        }
        ck_assert_uint_eq(m.count, count);
        uint64_t k = kv_random_next(&seed) % KEYS;
        ck_assert_ptr_eq(kv_map_get(&m, k < KEYS / 2 ? k : k << 40), truth[k]);
    }
    for (uint64_t n = 0; n < KEYS; n++) {
        ck_assert_ptr_eq(kv_map_get(&m, n < KEYS / 2 ? n : n << 40), truth[n]);
    }
    ck_assert_uint_le(m.count, m.capacity / 4 * 3);
    kv_map_free(&m);
    kv_map_free(&m);
}
END_TEST

START_TEST(iteration_sees_each_once_in_a_repeatable_order)
{
    static int value;
    uint64_t orders[2][100];
    for (int round = 0; round < 2; round++) {
        struct kv_map m;
        kv_map_init(&m);
        for (uint64_t k = 0; k < 130; k++) ck_assert(kv_map_put(&m, k * 977, &value));
        for (uint64_t k = 100; k < 130; k++) ck_assert_ptr_eq(kv_map_remove(&m, k * 977), &value);
        uint32_t cursor = 0, n = 0;
        uint64_t key;
        void *v;
        bool seen[100] = {false};
        while (kv_map_next(&m, &cursor, &key, &v)) {
            ck_assert_uint_lt(n, 100);
            ck_assert(key % 977 == 0 && !seen[key / 977]);
            seen[key / 977] = true;
            orders[round][n++] = key;
        }
        ck_assert_uint_eq(n, 100);
        kv_map_free(&m);
    }
    ck_assert_mem_eq(orders[0], orders[1], sizeof orders[0]);
}
END_TEST

UNIT_MAIN("map", random_operations_agree_with_an_array,
          iteration_sees_each_once_in_a_repeatable_order)

#ifndef SERVER_SHAPING_H
#define SERVER_SHAPING_H
#include <stdbool.h>
#include <stdint.h>

/* Which partitions should be two, and which two should be one, as a pure function of what is (DESIGN 8), beside
 * placement.h, which says where they should be.
 *
 *   split   a partition of more than `split_bytes`, where half of its bytes end; or one that serves more than `split_load` and
 *           more than SHAPING_SHARE_PERCENT of what a node serves on average, where half of its load ends. What serves less can be
 *           spread as it is: the largest part of a sum that is dealt out, heaviest first, bounds how uneven it comes to lie.
 *   merge   two neighbours that have been cold for long: together at most an eighth of `split_load` and a quarter of `split_bytes`
 *
 * Under a constant load it comes to an end, and undoes nothing of its own: a side of a split by load has at most four fifths of
 * it, so each is split a bounded number of times; two sides of a split have together more than may be merged, and
 * what was merged less than is split (tests/unit/server/test_shaping.c). Merges never go below the number of partitions
 * that a keyspace was created with, splits not beyond `partitions_max`. Time: n. */
enum { SHAPING_SHARE_PERCENT = 40,
       SHAPING_STEPS_MAX = 16 };

struct shaping_limits {
    uint64_t split_bytes, split_load; /* requests a second */
    uint32_t partitions_max;          /* of a keyspace */
    uint32_t nodes;                   /* that the load can be spread over */
};
struct shaping_partition {
    uint32_t id, keyspace;
    uint32_t created; /* partitions that its keyspace was created with */
    uint64_t load, bytes;
    bool is_known;                  /* load and bytes are those of its present range, not guesses: else it is left alone */
    bool is_busy;                   /* left alone */
    bool halves_load, halves_bytes; /* it is known where to split it; a single hot key cannot be */
    bool is_cold;                   /* shaping_is_cold() for long enough */
    bool meets_next;                /* the next one begins where it ends, on the same nodes, and may be merged with it */
};
enum shaping_reason { SHAPING_SPLIT_LOAD,
                      SHAPING_SPLIT_BYTES,
                      SHAPING_MERGE };
struct shaping_step {
    enum shaping_reason reason;
    uint32_t at; /* of the partition, in the list; MERGE: of the left one */
};

/* Partitions in the order of their ranges. Writes up to `steps_max` steps, at most SHAPING_STEPS_MAX, the most urgent splits first, and returns how many; at
 * most one for each partition. */
uint32_t shaping_plan(const struct shaping_limits *limits, const struct shaping_partition *p, uint32_t count,
                      struct shaping_step *steps, uint32_t steps_max);
/* Half of what two may have together to be merged. */
bool shaping_is_cold(const struct shaping_limits *limits, uint64_t load, uint64_t bytes);
/* So hot that it would be split, could it be. */
bool shaping_is_hot(const struct shaping_limits *limits, uint64_t load, uint64_t load_all);
#endif

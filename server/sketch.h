#ifndef SERVER_SKETCH_H
#define SERVER_SKETCH_H
#include <stdbool.h>
#include <stdint.h>

#include "client/base/slice.h"

/* The most frequent keys of a stream in bounded memory: Space-Saving (Metwally, Agrawal, El Abbadi: Efficient Computation of
 * Frequent and Top-k Elements in Data Streams, ICDT 2005). A key without a counter takes that of the least weight, and inherits
 * its weight as its error. So of a total weight W
 *
 *   each key of more than W / SKETCH_COUNTERS has a counter, and
 *   what it truly has lies between weight - error and weight.
 *
 * All weights decay alike, which keeps both (Cormode, Korn, Tirthapura: Exponentially Decayed Aggregates on Data Streams,
 * ICDE 2008). */
enum { SKETCH_COUNTERS = 64 };

struct sketch_counter {
    struct kv_slice key; /* owned */
    double weight;       /* at most what the key has had */
    double error;        /* of that so much may be of others */
    double reads;        /* of what is surely its own: weight - error */
};
struct sketch { /* zero: empty */
    uint32_t hashes[SKETCH_COUNTERS];
    struct sketch_counter counters[SKETCH_COUNTERS]; /* in no order */
    uint32_t count;
};

void sketch_add(struct sketch *s, struct kv_slice key, double weight, bool is_read); /* out of memory: not counted */
void sketch_decay(struct sketch *s, double factor);
/* Positions of the counters by weight, the heaviest first; returns how many. */
uint32_t sketch_order(const struct sketch *s, uint32_t at[SKETCH_COUNTERS]);
void sketch_clear(struct sketch *s);

/* A sample of the keys that were met last: where half of their weight lies on either side. */
enum { SAMPLE_KEYS = 128 };
struct sample { /* zero: empty */
    struct sample_key {
        struct kv_slice key; /* owned */
        double weight;
    } keys[SAMPLE_KEYS];
    uint32_t count, next;
};
void sample_add(struct sample *s, struct kv_slice key, double weight); /* out of memory: not taken */
/* The key of those in `range`, or its first `border_bytes` (a slot's start; 0: all of it), at which the two sides are most
 * alike, the key itself being of the right one; inside the range, not where that begins. Returns the share of the lighter side, 0 to 0.5; 0: there is none, as when one
 * key has it all. `out` points into the sample. With n keys of one weight the share is off by about 1 / (2 sqrt n), 0.045. */
double sample_median(const struct sample *s, struct kv_range range, size_t border_bytes, struct kv_slice *out);
void sample_clear(struct sample *s);
#endif

/* Bucket of v: below 64, v itself; from there on the top seven bits of v choose
 * it: six behind the leading one, which stands for the power of two. */
#include "client/base/hist.h"

#include <assert.h>
#include <string.h>

enum { STEP_BITS = 6, STEPS = 1 << STEP_BITS, VALUE_BITS = 40 };
static_assert(KV_HIST_BUCKETS == STEPS * (VALUE_BITS - STEP_BITS + 1), "2^40 ns fit");
static const uint64_t value_max = (UINT64_C(1) << VALUE_BITS) - 1;

static uint32_t hist_bucket(uint64_t v)
{
    if (v < STEPS) return (uint32_t)v;
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(v) - STEP_BITS;
    return (shift << STEP_BITS) + (uint32_t)(v >> shift);
}

/* The largest value that falls into the bucket. */
static uint64_t hist_bucket_end(uint32_t bucket)
{
    if (bucket < STEPS) return bucket;
    uint32_t shift = (bucket >> STEP_BITS) - 1;
    uint64_t steps = STEPS + (bucket & (STEPS - 1));
    return ((steps + 1) << shift) - 1;
}

void kv_hist_init(struct kv_hist *h)
{
    memset(h, 0, sizeof *h);
}

void kv_hist_add(struct kv_hist *h, uint64_t value_ns)
{
    kv_hist_add_n(h, value_ns, 1);
}

void kv_hist_add_n(struct kv_hist *h, uint64_t value_ns, uint64_t n)
{
    if (n == 0) return;
    if (value_ns > value_max) value_ns = value_max;
    uint32_t bucket = hist_bucket(value_ns);
    assert(bucket < KV_HIST_BUCKETS);
    h->counts[bucket] += n;
    if (h->count == 0 || value_ns < h->min_ns) h->min_ns = value_ns;
    if (value_ns > h->max_ns) h->max_ns = value_ns;
    h->count += n;
    h->sum_ns += value_ns * n;
}

void kv_hist_merge(struct kv_hist *into, const struct kv_hist *from)
{
    if (from->count == 0) return;
    for (uint32_t i = 0; i < KV_HIST_BUCKETS; i++) into->counts[i] += from->counts[i];
    if (into->count == 0 || from->min_ns < into->min_ns) into->min_ns = from->min_ns;
    if (from->max_ns > into->max_ns) into->max_ns = from->max_ns;
    into->count += from->count;
    into->sum_ns += from->sum_ns;
}

uint64_t kv_hist_quantile(const struct kv_hist *h, double q)
{
    assert(q >= 0.0 && q <= 1.0);
    if (h->count == 0) return 0;
    double exact = q * (double)h->count;
    uint64_t rank = (uint64_t)exact;
    if ((double)rank < exact || rank == 0) rank++;
    if (rank >= h->count) return h->max_ns;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < KV_HIST_BUCKETS; i++) {
        seen += h->counts[i];
        if (seen < rank) continue;
        uint64_t v = hist_bucket_end(i);
        if (v > h->max_ns) v = h->max_ns;
        return v < h->min_ns ? h->min_ns : v;
    }
    assert(seen == h->count); /* not reached: the rank is below the count */
    return h->max_ns;
}

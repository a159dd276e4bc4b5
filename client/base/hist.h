#ifndef KV_HIST_H
#define KV_HIST_H
#include <stdint.h>

/* A log-linear histogram of durations in ns (after Gil Tene's HdrHistogram):
 * 64 linear steps per power of two, so a quantile is within 1.6 % of the truth,
 * up to 2^40 ns (18 minutes; larger values count as that). Fixed size, mergeable. */
enum { KV_HIST_BUCKETS = 64 * 35 };
struct kv_hist {
    uint64_t counts[KV_HIST_BUCKETS];
    uint64_t count, sum_ns, max_ns, min_ns;
};
void kv_hist_init(struct kv_hist *h);
void kv_hist_add(struct kv_hist *h, uint64_t value_ns);
void kv_hist_add_n(struct kv_hist *h, uint64_t value_ns, uint64_t n);
void kv_hist_merge(struct kv_hist *into, const struct kv_hist *from);
uint64_t kv_hist_quantile(const struct kv_hist *h, double q); /* q in 0..1; 0 if empty */
#endif

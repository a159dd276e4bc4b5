#ifndef BASE_CHOICE_H
#define BASE_CHOICE_H
#include <stdint.h>

/* Which of several replicas to ask, where any may answer: the one of the least latency x (requests
 * under way + 1). The latency is a moving average over answers. Pure: times come in, ns of one clock.
 *
 * Who is not asked cannot prove that it has become fast again, so an average halves with each
 * KV_CHOICE_HALF_NS of silence, and is tried once it is as low as that of the others. Who owes an answer
 * is at least as slow as that has been under way, so one that stopped is left before its first late answer. */
#define KV_CHOICE_HALF_NS    UINT64_C(500000000)
#define KV_CHOICE_REFUSAL_NS UINT64_C(100000000) /* what an answer that did not help counts as, at least */

struct kv_choice { /* zeroed: nothing known, tried first */
    uint64_t latency_ns;
    uint64_t heard_ns; /* of the last answer; or, since nothing was under way, when it was asked */
    uint32_t in_flight;
};

void kv_choice_asked(struct kv_choice *c, uint64_t now_ns);
/* One of those asked was answered after `took_ns`. */
void kv_choice_answered(struct kv_choice *c, uint64_t took_ns, uint64_t now_ns);
void kv_choice_forgotten(struct kv_choice *c); /* nobody waits for that answer any more */
/* Latency x (in flight + 1); the least wins, of equals the one met first. */
uint64_t kv_choice_cost(const struct kv_choice *c, uint64_t now_ns);
uint64_t kv_choice_latency_ns(const struct kv_choice *c, uint64_t now_ns); /* as it counts now */
#endif

#include "client/base/choice.h"

#include <assert.h>

/* Added to every latency: differences far below it are noise, or the load that we ourselves put there; who is that fast is
 * told apart by what it has under way. */
enum { LATENCY_NS_MIN = 500000 };

uint64_t kv_choice_latency_ns(const struct kv_choice *c, uint64_t now_ns)
{
    uint64_t silent_ns = now_ns > c->heard_ns ? now_ns - c->heard_ns : 0;
    if (c->in_flight > 0) return silent_ns > c->latency_ns ? silent_ns : c->latency_ns;
    uint64_t halvings = silent_ns / KV_CHOICE_HALF_NS;
    return halvings < 64 ? c->latency_ns >> halvings : 0;
}

uint64_t kv_choice_cost(const struct kv_choice *c, uint64_t now_ns)
{
    return (kv_choice_latency_ns(c, now_ns) + LATENCY_NS_MIN) * (c->in_flight + UINT64_C(1));
}

void kv_choice_asked(struct kv_choice *c, uint64_t now_ns)
{
    if (c->in_flight == 0) {
        c->latency_ns = kv_choice_latency_ns(c, now_ns);
        c->heard_ns = now_ns;
    }
    c->in_flight++;
}

/* A quarter of what is slower, half of what is faster: one late answer of many is chance, and who is
 * fast again is soon believed. */
void kv_choice_answered(struct kv_choice *c, uint64_t took_ns, uint64_t now_ns)
{
    kv_choice_forgotten(c);
    c->heard_ns = now_ns;
    if (c->latency_ns == 0) c->latency_ns = took_ns;
    else if (took_ns > c->latency_ns) c->latency_ns += (took_ns - c->latency_ns) / 4;
    else c->latency_ns -= (c->latency_ns - took_ns) / 2;
}

void kv_choice_forgotten(struct kv_choice *c)
{
    assert(c->in_flight > 0);
    c->in_flight--;
}

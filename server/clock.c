#include "server/clock.h"

#include <assert.h>

enum { NS_PER_MS = 1000000, PACE_PARTS = 16 }; /* ahead of time, one part in 16 is held back */

static int64_t ahead(uint64_t a_ms, uint64_t b_ms)
{
    return a_ms >= b_ms ? (int64_t)(a_ms - b_ms) : -(int64_t)(b_ms - a_ms);
}

static bool is_off(int64_t ms)
{
    return ms > CLOCK_SKEW_MS_MAX || ms < -CLOCK_SKEW_MS_MAX;
}

/* 0 where a clock that never goes back did: stamps of centuries ahead would expire all that ever expires. */
static uint64_t passed_ms(uint64_t from_ns, uint64_t now_ns)
{
    return now_ns > from_ns ? (now_ns - from_ns) / NS_PER_MS : 0;
}

uint64_t clock_believed_ms(struct clock *c, uint64_t now_ns, uint64_t wall_ms)
{
    if (c->steady_ns == 0) return wall_ms; /* never compared: there is nothing better */
    uint64_t steady_ms = c->steady_ms + passed_ms(c->steady_ns, now_ns);
    if (is_off(ahead(wall_ms, steady_ms))) c->jumped = true;
    return c->alarm || c->jumped ? steady_ms : wall_ms;
}

/* How far the median is ahead of us; of an even number, the mean of the middle two. */
static int64_t median_ahead(const uint64_t *others_ms, uint32_t count, uint64_t wall_ms)
{
    int64_t sorted[CLOCK_NODES_MAX] = {0}; /* ourselves are 0 ahead of us */
    assert(count < CLOCK_NODES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        int64_t a = ahead(others_ms[i], wall_ms);
        uint32_t at = i + 1;
        for (; at > 0 && sorted[at - 1] > a; at--) sorted[at] = sorted[at - 1];
        sorted[at] = a;
    }
    uint32_t n = count + 1;
    return n % 2 == 1 ? sorted[n / 2] : sorted[n / 2 - 1] + (sorted[n / 2] - sorted[n / 2 - 1]) / 2;
}

bool clock_judge(struct clock *c, const uint64_t *others_ms, uint32_t count, uint64_t now_ns, uint64_t wall_ms)
{
    int64_t median = median_ahead(others_ms, count, wall_ms);
    bool was = c->alarm;
    c->ahead_ms = -median;
    c->alarm = is_off(median);
    if (!c->alarm) {
        c->jumped = false;
        c->steady_ns = now_ns;
        c->steady_ms = wall_ms;
    } else if (c->steady_ns == 0) { /* wrong from the start: the others know better */
        c->steady_ns = now_ns;
        c->steady_ms = wall_ms + (uint64_t)median;
    }
    return c->alarm != was;
}

uint64_t clock_stamp_now(struct clock_stamp *s, uint64_t applied_ms, uint64_t believed_ms, uint64_t now_ns)
{
    uint64_t floor_ms = applied_ms > s->ms ? applied_ms : s->ms;
    if (believed_ms >= floor_ms) {
        s->pace_ns = now_ns;
        s->pace_ms = s->ms = believed_ms;
        return s->ms;
    }
    uint64_t passed = passed_ms(s->pace_ns, now_ns), paced_ms = s->pace_ms + passed - passed / PACE_PARTS;
    if (s->pace_ns == 0 || paced_ms < floor_ms) { /* new here, or another leader's stamps overtook us */
        s->pace_ns = now_ns;
        s->pace_ms = paced_ms = floor_ms;
    }
    s->ms = paced_ms;
    return s->ms;
}

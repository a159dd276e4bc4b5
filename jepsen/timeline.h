#ifndef JEPSEN_TIMELINE_H
#define JEPSEN_TIMELINE_H
#include "jepsen/run.h"

/* A run as one picture: every operation's latency on a log axis over time, faults shaded and named,
 * below it what succeeded per second, and a strip for each lane that is dark while its
 * partition does not answer. */
struct timeline_gap { /* the longest outage, framed */
    uint32_t lane;
    uint64_t from_ns, ns;
};
bool timeline_write(const struct run *r, const struct history *h, const struct timeline_gap *gap,
                    const char *headline, const char *facts, const char *path);
/* Which lane a key of this run belongs to; LANES: none. */
uint32_t timeline_lane(const struct run *r, const char *key);
#endif

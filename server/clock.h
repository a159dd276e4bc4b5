#ifndef SERVER_CLOCK_H
#define SERVER_CLOCK_H
#include <stdbool.h>
#include <stdint.h>

/* Wall time as far as a node believes its own clock (R14). Pure: times come in, times go out.
 *
 * A node compares its wall clock with those of the other nodes, which travel in the answers to
 * heartbeats. Within CLOCK_SKEW_MS_MAX of their median it is followed. Otherwise an alarm
 * stands, and believed time goes on by the monotonic clock alone from where it was; likewise
 * for the moment between a jump and the next comparison. */
enum { CLOCK_SKEW_MS_MAX = 500, CLOCK_NODES_MAX = 64 };

struct clock {
    uint64_t steady_ns, steady_ms; /* when the wall clock was last believed, and what it said; 0: never */
    int64_t ahead_ms;              /* our wall clock less the median, as last judged */
    bool alarm, jumped;
};
uint64_t clock_believed_ms(struct clock *c, uint64_t now_ns, uint64_t wall_ms);
/* `others_ms`: what the wall clocks of other nodes say now; a majority with our own, or the old
 * verdict stands (not called). Returns whether the alarm changed. count < CLOCK_NODES_MAX. */
bool clock_judge(struct clock *c, const uint64_t *others_ms, uint32_t count, uint64_t now_ns, uint64_t wall_ms);

/* The stamps of one group's entries: they never go back. R14 asks for max(previous, wall); where
 * all clocks were set back, or a single node's, that would stand still for as long and make every
 * TTL so much longer. So a stamp ahead of believed time goes on at 15/16 of the monotonic
 * pace, until the two meet. */
struct clock_stamp {
    uint64_t ms;                /* the highest given out or applied */
    uint64_t pace_ns, pace_ms;  /* while ahead: where the slower pace began */
};
uint64_t clock_stamp_now(struct clock_stamp *s, uint64_t applied_ms, uint64_t believed_ms, uint64_t now_ns);
#endif

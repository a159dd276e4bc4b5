#ifndef JEPSEN_DELAY_H
#define JEPSEN_DELAY_H
#include "jepsen/net.h"

/* A line that holds packets back: those between nodes are routed into a tun device, wait there each
 * for a time of its own, so that they overtake one another, and some arrive twice. A process of its
 * own carries them. Works where the kernel has neither netem nor NFQUEUE. */
struct delay_line;
const char *delay_lacks(void); /* NULL, or why it cannot be had here */
/* One at a time. NULL: `why`. */
struct delay_line *delay_open(uint32_t nodes, uint64_t seed, uint32_t ms_min, uint32_t ms_max, uint32_t twice_percent,
                              char why[NET_WHY_BYTES]);
uint64_t delay_held(const struct delay_line *d); /* packets that waited */
uint64_t delay_overtaken(const struct delay_line *d);
bool delay_close(struct delay_line *d, char why[NET_WHY_BYTES]); /* those held are lost */
#endif

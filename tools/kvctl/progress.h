#ifndef KVCTL_PROGRESS_H
#define KVCTL_PROGRESS_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* One line on a terminal that says how far long work is: share, rows, rate, time left. Drawn at
 * most ten times a second; draws nothing when off. */
struct progress {
    FILE *out;
    bool on, drawn;
    const char *label;
    uint64_t start_ns, drawn_ns;
    double start_share;
};
void progress_start(struct progress *p, bool on, const char *label, double share);
void progress_show(struct progress *p, double share, uint64_t rows); /* share in 0..1 */
void progress_end(struct progress *p);                               /* clears the line */
double progress_seconds(const struct progress *p);                   /* since the start */
#endif

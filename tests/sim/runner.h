#ifndef SIM_RUNNER_H
#define SIM_RUNNER_H
#include "tests/sim/swarm.h"
#include <sys/types.h>

/* kvsim's seeds, each in a child process, so that an assert of the code under test ends one
 * seed and not the sweep. Trace and result live in memory shared with the parent. */
struct slot {
    struct sim_trace trace;
    struct swarm_result result;
    int status;           /* of the child, as wait() tells */
    int words;            /* the file its stderr goes to; 0: none yet */
    char last_words[256]; /* what an assertion said */
};
struct run_options { /* what a replay line repeats */
    struct swarm_options swarm;
    uint64_t seconds;
    bool twice;
    const char *only; /* text of --faults, or NULL */
    struct swarm_skips skips;
};

struct slot *slots_make(uint32_t count); /* shared; NULL: errno says why */
/* In this process. */
void run_here(const struct run_options *o, uint64_t seed, struct slot *slot);
pid_t run_start(const struct run_options *o, uint64_t seed, struct slot *slot); /* < 0: errno */
void run_ended(struct slot *slot, int status);                                  /* after wait() told */
bool run_failed(const struct slot *slot);
/* One line: why, or what the assertion said. */
const char *run_why(const struct slot *slot);
void replay_print(const struct run_options *o, uint64_t seed, FILE *out);

/* "3,5-9" as bits; false: not understood or out of range. */
bool skips_parse(const char *text, uint64_t *bits, uint32_t bit_count);

/* Looks for a smaller story of the same failure: fewer faults, then fewer operations, each left
 * out singly in the end, fewer seconds. `runs_max` bounds the work. Leaves the smallest in `o` and
 * its trace and result in `slot`. */
void minimize(struct run_options *o, uint64_t seed, struct slot *slot, uint32_t runs_max);
#endif

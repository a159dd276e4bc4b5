#ifndef SIM_WORKLOAD_H
#define SIM_WORKLOAD_H
#include "tests/sim/cluster.h"
#include "tools/check/check.h"

/* Clients of a simulated cluster and the history of what they saw. Client k (from 1) is a
 * host of its own, 10.0.1.k, speaks Redis protocol to one node at a time (which proxies) or
 * uses libkv, and has one operation open at a time. Keys: r0.. are registers (SET, GET,
 * SETNX, KVCAS, DEL), c0.. counters (INCRBY, GET), l0.0, l0.1 .. lists (APPEND of ",v", GET), t0.0 .. registers
 * whose values expire: in the history an expiry is a compare-and-set of that value to null by a
 * process of its own, of unknown outcome, begun at the earliest moment it may happen. */
enum { WORKLOAD_CLIENTS_MAX = 16,
       WORKLOAD_KEYS_MAX = 16 };
struct workload;
struct workload_options {
    struct sim *sim;
    struct cluster *cluster;
    uint32_t clients;
    uint32_t native_ppm; /* of clients: libkv */
    uint64_t seed;
    uint32_t registers, counters, lists, mortals; /* keys of each kind, together 1..WORKLOAD_KEYS_MAX */
    uint32_t read_ppm;                            /* of operations */
    uint64_t think_max_ns;
    uint32_t level_ppm;       /* of libkv's reads: at another level than linearizable */
    uint64_t timeout_ns;      /* after which a client gives up: info */
    bool wall_is_sane;        /* no wall clock jumps: a value lives about as long as it was given */
    const uint64_t *skip_ops; /* NULL, or bits: operations that are not asked */
};
struct workload_counts {
    uint64_t ok, fail, info;
    uint64_t ok_min;   /* of the client with the fewest since workload_mark() */
    uint32_t open;     /* operations without an answer now */
    uint32_t ops;      /* drawn */
    uint64_t reads[4]; /* answered, by level */
    const char *wrong; /* NULL, or what a client saw that no order explains */
};

struct workload *workload_create(const struct workload_options *o);
void workload_destroy(struct workload *w);
void workload_start(struct workload *w);
void workload_stop(struct workload *w); /* no new operations; what is open may finish */
/* After that: every key is read once more, asked again until it is answered; meanwhile `open` is not 0. */
void workload_read_all(struct workload *w);
void workload_mark(struct workload *w); /* ok_min counts from here */
void workload_counts(const struct workload *w, struct workload_counts *out);
void workload_silent(const struct workload *w, char *out, size_t size); /* who had no answer since workload_mark() */
const struct history *workload_history(const struct workload *w);
struct sim_host *workload_host(struct workload *w, uint32_t client); /* from 1; NULL: no such */
#endif

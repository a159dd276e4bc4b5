#ifndef JEPSEN_NEMESIS_H
#define JEPSEN_NEMESIS_H
#include "client/kv_client.h"
#include "jepsen/delay.h"
#include "jepsen/errand.h"
#include "jepsen/net.h"

/* What breaks things: times of quiet, then one or more faults at once, and so on until the time is
 * over; kinds, victims and times follow from the seed. Every fault has to prove that it did
 * something (a process gone by that signal, packets counted as dropped, a clock that reads
 * otherwise): one that did not fails the run. */
struct run;
struct nemesis;
struct fault;

struct fault_kind {
    const char *name;
    bool (*begin)(struct nemesis *n, struct fault *f); /* false: f->detail says why not */
    /* Undoes it. False: there is no proof that it had an effect; f->proof says what there is. */
    bool (*end)(struct nemesis *n, struct fault *f);
    bool has_victims; /* its nodes are no other such fault's meanwhile */
};

enum { FAULTS_AT_ONCE_MAX = 3,
       FAULTS_MAX = 256,
       ERRANDS_MAX = 2 * FAULTS_MAX,
       FAULT_TEXT_BYTES = 120 };
struct fault {
    const struct fault_kind *kind;
    uint32_t number; /* of this run */
    net_nodes nodes; /* victims */
    bool is_on;
    uint64_t from_ns, to_ns; /* since the run's start */
    uint64_t before;         /* kind's own: a count at the beginning */
    char detail[FAULT_TEXT_BYTES], proof[FAULT_TEXT_BYTES];
};

struct nemesis_kind {
    const char *name, *help;
    const struct fault_kind *kinds[24]; /* one is drawn; NULL-ended */
    uint32_t at_once;                   /* how many faults overlap at most, 0: none at all */
    /* What it needs of this machine; returns why it cannot be had, or NULL. */
    const char *(*lacks)(void);
    bool moves_clocks, wants_disk_shim, wants_tmpfs;
    uint32_t nodes_min; /* 0: any number */
};

struct nemesis {
    struct run *run;
    const struct nemesis_kind *kind;
    uint64_t random;
    struct env_timer timer;
    uint64_t until_ns; /* since the run's start: when everything is healed */
    bool is_over;
    struct fault faults[FAULTS_MAX];
    uint32_t fault_count, first_on; /* those of the present episode: from first_on */
    struct delay_line *delay;       /* while one is open */
    /* Who leads, asked now and then by a client of its own. */
    struct kv_client *watch;
    struct kv_call map_call;
    struct env_timer watch_timer;
    bool watch_is_asking, watch_is_closed;
    struct errand errands[ERRANDS_MAX]; /* fault_place.c */
    uint32_t errand_count;
};

const struct nemesis_kind *nemesis_find(const char *name);
const struct nemesis_kind *nemesis_at(uint32_t i); /* NULL behind the last */
bool nemesis_moves_clocks(const struct nemesis_kind *k);

bool nemesis_open(struct nemesis *n, struct run *r);
void nemesis_begin(struct nemesis *n); /* faults from now on */
void nemesis_end(struct nemesis *n);   /* undoes what is on; idempotent */
void nemesis_close(struct nemesis *n);

/* For the kinds (fault_*.c). */
uint64_t nemesis_below(struct nemesis *n, uint64_t bound);
net_nodes nemesis_some(struct nemesis *n, uint32_t count);     /* so many random nodes */
net_nodes nemesis_victims(struct nemesis *n, net_nodes among); /* mostly one, sometimes a minority, rarely all */
net_nodes nemesis_up(const struct nemesis *n);                 /* nodes that run and are no victims of a fault that is on */
uint32_t nemesis_leader(struct nemesis *n);                    /* index of a node that leads some partition */
void nodes_text(net_nodes nodes, char out[FAULT_TEXT_BYTES]);  /* "1 3 4" */

extern const struct fault_kind fault_kill, fault_pause, fault_restart; /* fault_process.c */
extern const struct fault_kind fault_split, fault_leader, fault_oneway, fault_bridge, fault_ring, fault_loss,
    fault_delay;                                                                                                  /* fault_net.c */
extern const struct fault_kind fault_power, fault_slow, fault_full;                                               /* fault_disk.c */
extern const struct fault_kind fault_clock;                                                                       /* fault_clock.c */
extern const struct fault_kind fault_divide, fault_unite, fault_move, fault_join, fault_drain, fault_coordinator; /* fault_place.c */
/* Whatever was asked for has been done. */
bool errands_are_done(struct run *r);
void errands_tell(struct run *r); /* run_fail() of each that is not */
#endif

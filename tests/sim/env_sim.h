#ifndef SIM_ENV_SIM_H
#define SIM_ENV_SIM_H
#include "client/env/env.h"

/* A world of hosts on one virtual clock and one seeded network, in one thread.
 * Every run is a pure function of the options and of the calls made: one heap of
 * events ordered by (time, sequence), integer arithmetic only, no addresses in
 * any decision. The code under test sees an ordinary struct env.
 *
 * Host and process: a host has an address, a clock and links; it outlives its
 * processes. sim_host_kill() ends the process (the struct env it had stays valid
 * but dead: every call on it does nothing), sim_host_start() begins another.
 *
 * The network is TCP as an application sees it: bytes in order, cut anywhere,
 * late, or the connection breaks. A lost packet is a retransmission delay. A
 * blocked link stalls what crosses it; when it heals, stalled connections go on
 * after a while, as retransmission backs off, or break. */
struct sim;
struct sim_host;

struct sim_net {                         /* may be changed at any time with sim_net() */
    uint64_t delay_min_ns, delay_max_ns; /* one way, per segment */
    uint32_t loss_ppm;                   /* of segments: each costs 200 ms or more */
    uint32_t reset_ppm;                  /* of segments: the connection breaks there */
    uint32_t heal_break_ppm;             /* of stalled connections: broken when the link heals */
    uint64_t stall_break_ns;             /* a stalled sender gives up after one to two of these; 0 = never */
};
struct sim_options {
    uint64_t seed;
    uint64_t wall_start_ms; /* of all wall clocks */
    struct sim_net net;
    struct sim_trace *trace; /* NULL, or where the last events go; see below */
};
enum { SIM_HOSTS_MAX = 64,
       SIM_PORT_ANY = 0,
       SIM_SEND_BUFFER_BYTES = 256 << 10 };

/* The last events, for the story of a failure. Lives where the caller wants it (kvsim
 * maps it shared, so that a parent can print it after an assert killed the child). */
enum { SIM_TRACE_EVENTS = 4096,
       SIM_TRACE_TEXT_BYTES = 176 };
struct sim_trace {
    uint64_t count; /* ever written; the ring holds the last SIM_TRACE_EVENTS */
    struct sim_trace_event {
        uint64_t time_ns;
        uint32_t host; /* 1-based; 0: the world */
        char text[SIM_TRACE_TEXT_BYTES];
    } events[SIM_TRACE_EVENTS];
};

struct sim *sim_create(const struct sim_options *o); /* NULL: out of memory */
void sim_destroy(struct sim *s);                     /* runs no callbacks; reap processes first if they own memory */

uint64_t sim_now_ns(const struct sim *s);      /* true time, which no host can see */
uint64_t sim_random(struct sim *s);            /* the world's own stream: faults, schedules */
uint64_t sim_below(struct sim *s, uint64_t n); /* uniform in [0, n); n > 0 */
bool sim_chance(struct sim *s, uint32_t ppm);
bool sim_step(struct sim *s); /* one event; false: nothing is left to happen */
void sim_run_until(struct sim *s, uint64_t time_ns);
uint64_t sim_hash(const struct sim *s); /* over every event so far and every sim_mix() */
void sim_mix(struct sim *s, struct kv_slice bytes);
uint64_t sim_events(const struct sim *s); /* dispatched so far */
void sim_note(struct sim *s, const struct sim_host *h, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void sim_trace_end(struct sim *s); /* what comes now is no part of the story */
/* Called after each event, outside any callback of a host. */
void sim_on_step(struct sim *s, void (*step)(void *context), void *context);
void sim_net(struct sim *s, const struct sim_net *n);

/* Anything else that happens at a moment (disks, faults, clients). Embed it, zeroed. With a
 * host it belongs to the process running there: held back by pauses, dropped when killed. */
struct sim_event {
    void (*fire)(struct sim_event *e);
    uint32_t heap_index; /* private; 0 = not scheduled */
};
void sim_after(struct sim *s, struct sim_host *h, struct sim_event *e, uint64_t delay_ns); /* restarts */
void sim_cancel(struct sim *s, struct sim_event *e);

/* Hosts. `address` is a literal such as "10.0.0.1". The process is started. NULL: too many. */
struct sim_host *sim_host_add(struct sim *s, const char *address);
uint32_t sim_host_id(const struct sim_host *h); /* from 1, in order of adding */
struct env *sim_host_env(struct sim_host *h);   /* of the running process; NULL while down */
bool sim_host_up(const struct sim_host *h);
enum sim_death {
    SIM_KILL, /* kill -9: the kernel lives and resets the connections */
    SIM_POWER /* peers hear nothing until the host is back and refuses their packets */
};
void sim_host_kill(struct sim_host *h, enum sim_death how);
/* For an env whose process is dead: runs done() of pending writes and on_close() of open
 * connections, so that their owners can free them, as env_uv_destroy() does. */
void sim_reap(struct env *dead);
void sim_host_start(struct sim_host *h);

/* Faults of one host. */
void sim_host_pause(struct sim_host *h, uint64_t duration_ns);            /* SIGSTOP .. SIGCONT */
void sim_host_stutter(struct sim_host *h, uint32_t ppm, uint64_t max_ns); /* pauses between clock reads */
void sim_host_slow(struct sim_host *h, uint64_t cost_ns);                 /* each callback takes so long */
void sim_host_wall_jump(struct sim_host *h, int64_t delta_ns);
void sim_host_drift(struct sim_host *h, int32_t ppm); /* of the monotonic clock, from now on */
/* Faults of the links, directed. A host is never cut from itself. */
void sim_link_block(struct sim *s, struct sim_host *from, struct sim_host *to);
void sim_link_open(struct sim *s, struct sim_host *from, struct sim_host *to);
bool sim_link_blocked(const struct sim *s, const struct sim_host *from, const struct sim_host *to);
void sim_link_delay(struct sim *s, struct sim_host *from, struct sim_host *to, uint64_t extra_ns);
uint32_t sim_cut_connections(struct sim *s, struct sim_host *a, struct sim_host *b); /* b NULL: all of a; how many */
#endif

#ifndef SIM_ENV_SIM_IMPL_H
#define SIM_ENV_SIM_IMPL_H
#include "client/base/buf.h"
#include "client/base/hash.h"
#include "tests/sim/env_sim.h"

/* What env_sim.c (clock, heap, hosts) and env_sim_net.c (connections) share. */
enum sim_kind { SIM_TIMER,
                SIM_EVENT };
struct sim_entry {
    uint64_t time, sequence;
    enum sim_kind kind;
    void *what;              /* struct env_timer or struct sim_event */
    struct env_sim *process; /* NULL: of the world */
};

struct sim_orphan { /* what sim_reap() still has to call */
    struct env_conn *conn;
    struct env_write *write;
};

struct env_sim { /* one process */
    struct env env;
    struct sim_host *host;
    bool alive;
    uint64_t random;
    struct env_task *task_first, **task_last;
    struct sim_event turn, wake;
    struct env_sim *next; /* earlier process of the host */
    struct sim_orphan *orphans;
    uint32_t orphan_count, orphan_capacity;
};

struct sim_host {
    struct sim *sim;
    uint32_t id;
    char address[64];
    struct env_sim *process;           /* the newest; alive or not */
    uint64_t anchor_true, anchor_mono; /* mono = anchor_mono + (true - anchor_true) at the drifting rate */
    int64_t wall_offset;
    int32_t drift_ppm;
    uint64_t busy_until; /* true time */
    uint64_t timers_late_ns;
    uint64_t lag; /* true time spent inside the current callback */
    uint64_t cost_ns;
    uint32_t stutter_ppm;
    uint64_t stutter_max_ns;
};

struct sim_path { /* one direction between two hosts */
    bool blocked;
    uint64_t since, extra_ns;
};

struct sim_listener {
    struct sim_listener *next;
    struct env_sim *process;
    struct env_listener *listener;
    bool loopback;
    uint16_t port;
};

struct sim_tcp;
struct sim {
    uint64_t now, sequence, dispatched, hash, rng, wall_start_ns;
    struct sim_net net;
    struct sim_trace *trace;
    struct sim_entry *heap; /* 1-based: heap[1] is next */
    uint32_t heap_count, heap_capacity;
    struct env_sim *running; /* whose callback is on the stack */
    void (*on_step)(void *context);
    void *on_step_context;
    struct sim_host *hosts[SIM_HOSTS_MAX + 1]; /* by id */
    uint32_t host_count;
    struct sim_path paths[SIM_HOSTS_MAX + 1][SIM_HOSTS_MAX + 1];
    struct sim_listener *listeners;
    struct sim_tcp *tcp_first, *tcp_last; /* in order of dialling */
    uint16_t port_next;
    struct kv_buf received; /* what one on_bytes() lends out */
};

/* True time as the host has it: a callback that stuttered is later than the event. */
static inline uint64_t sim_host_now(const struct sim_host *h)
{
    return h->sim->now + h->lag;
}
void sim_schedule(struct sim *s, struct env_sim *process, struct sim_event *e, uint64_t time);
uint64_t sim_delay(struct sim *s, const struct sim_host *from, const struct sim_host *to);
void sim_mix_words(struct sim *s, uint64_t a, uint64_t b, uint64_t c);

enum kv_err sim_net_listen(struct env *e, struct env_listener *l, const struct env_addr *a);
void sim_net_unlisten(struct env *e, struct env_listener *l);
void sim_net_connect(struct env *e, struct env_conn *c, const struct env_addr *to, const struct env_addr *from);
void sim_net_write(struct env *e, struct env_conn *c, struct env_write *w);
void sim_net_read(struct env *e, struct env_conn *c, bool on);
void sim_net_close(struct env *e, struct env_conn *c);
void sim_net_killed(struct env_sim *p, enum sim_death how); /* the process just died */
void sim_net_started(struct sim_host *h);                   /* packets of old connections now get refused */
void sim_net_healed(struct sim *s, struct sim_host *from, struct sim_host *to);
void sim_net_destroy(struct sim *s);
#endif

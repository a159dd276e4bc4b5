#ifndef KV_ENV_H
#define KV_ENV_H
#include "client/base/err.h"
#include "client/base/slice.h"

struct env;

struct env_timer { /* embed it; zeroed before first use */
    void (*fire)(struct env_timer *t);
    uint64_t deadline_ns; /* absolute, in now_ns() time; set by timer_start */
    uint32_t heap_index;  /* private to the implementation; 0 = not running */
};

struct env_task { /* one-shot work on this loop; embed it, zeroed before first use */
    void (*run)(struct env_task *t);
    struct env_task *next; /* private */
    bool queued;           /* private; posting a queued task does nothing */
};

struct env_work { /* CPU-heavy work off the loop, on a small shared pool */
    void (*run)(struct env_work *w);  /* on another thread: touches only memory owned by w */
    void (*done)(struct env_work *w); /* back on the loop */
    struct env_work *next;            /* private */
    void *impl;                       /* private */
};

struct env_addr {
    char host[64]; /* a literal IPv4 or IPv6 address; empty = any */
    uint16_t port;
};

struct env_conn { /* embed it; memory is yours again inside on_close */
    void (*on_open)(struct env_conn *c, enum kv_err err); /* dialled only; on error on_close follows */
    void (*on_bytes)(struct env_conn *c, struct kv_slice bytes); /* valid for the call */
    void (*on_close)(struct env_conn *c, enum kv_err err);       /* exactly once, last */
    struct env_addr peer; /* set before on_open or inside accept */
    void *impl;
};

struct env_write { /* embed it; bytes stay borrowed until done */
    void (*done)(struct env_write *w, enum kv_err err);
    const struct kv_slice *parts;
    uint32_t part_count;
    void *impl;
};

struct env_listener {
    struct env_conn *(*accept)(struct env_listener *l, const struct env_addr *peer); /* NULL refuses */
    /* A peer whose machine acknowledges neither bytes nor probes for about so long is gone:
     * on_close(KV_TIMEOUT). 0: the platform's patience, which is many minutes. */
    uint32_t silence_ms;
    void *impl;
};

/* Everything nondeterministic a node may touch. Two implementations:
 * env_uv.c (one libuv loop) and tests/sim/env_sim.c (virtual time). All calls
 * and callbacks stay on the thread that owns the env; no callback ever runs
 * inside the call that asked for it. */
struct env_ops {
    uint64_t (*now_ns)(struct env *e);  /* CLOCK_BOOTTIME, read at every call, never cached (R1) */
    uint64_t (*wall_ns)(struct env *e); /* may jump either way: stamps, HLC, TIME, logs only */
    uint64_t (*random)(struct env *e);  /* 64 uniform bits */
    void (*timer_start)(struct env *e, struct env_timer *t, uint64_t delay_ns); /* restarts a running one */
    void (*timer_stop)(struct env *e, struct env_timer *t); /* idempotent */
    /* Runs the task after the callbacks of this turn's ready I/O and timers, or,
     * posted from a task, in the next turn, before the loop sleeps. This is where
     * one turn's appends are synced and one turn's frames are sealed. */
    void (*post)(struct env *e, struct env_task *t);
    void (*work)(struct env *e, struct env_work *w);
    void (*wake)(struct env *e); /* the one thread-safe call: runs on_wake on the loop soon */
    /* KV_BUSY: the address is in use; KV_DENIED: not ours to bind; KV_BAD_ARGUMENT: does not parse. */
    enum kv_err (*listen)(struct env *e, struct env_listener *l, const struct env_addr *a);
    void (*unlisten)(struct env *e, struct env_listener *l); /* idempotent; connections live on */
    void (*connect)(struct env *e, struct env_conn *c, const struct env_addr *to,
                    const struct env_addr *from); /* from: local address, NULL = any; its port is ignored */
    void (*write)(struct env *e, struct env_conn *c, struct env_write *w); /* one at a time per connection */
    void (*read)(struct env *e, struct env_conn *c, bool on); /* back-pressure; on at start */
    void (*close)(struct env *e, struct env_conn *c);         /* idempotent; pending write is done(CLOSED) first, and the peer sees a reset */
};
struct env {
    const struct env_ops *ops;
    void (*on_wake)(struct env *e); /* drain mailboxes and disk completions here */
    void *owner;                    /* the worker or the client */
};

static inline uint64_t env_now_ns(struct env *e)
{
    return e->ops->now_ns(e);
}
static inline uint64_t env_wall_ms(struct env *e)
{
    return e->ops->wall_ns(e) / 1000000u;
}
#define KV_MS(n) ((uint64_t)(n) * 1000000u)
#define KV_SECONDS(n) ((uint64_t)(n) * 1000000000u)
#endif

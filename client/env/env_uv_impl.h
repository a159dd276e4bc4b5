#ifndef KV_ENV_UV_IMPL_H
#define KV_ENV_UV_IMPL_H
/* Private to env_uv*.c. env_uv.c: the loop's turn, tasks, timers, work, signals;
 * env_uv_net.c: listeners and connections. */
#include "client/env/env_uv.h"

#include <uv.h>

enum { ENV_UV_READ_BYTES = 64 << 10,
       ENV_UV_RANDOMS = 32 };

struct env_uv_tasks { /* first in, first out */
    struct env_task *first, **last;
};

struct uv_conn;
struct uv_server;
struct uv_watch;

struct env_uv {
    struct env env;
    uv_loop_t loop;
    uv_thread_t thread; /* of env_uv_spawn() */
    int wake_fd;        /* an eventfd, written by whoever wakes the loop */
    uv_poll_t wake;
    uv_timer_t clock;     /* one for the earliest of `timers` */
    uv_prepare_t prepare; /* before the loop sleeps */
    uv_check_t check;     /* after the callbacks of ready I/O */
    uv_idle_t awake;      /* active: the loop must not sleep */
    struct env_uv_tasks posted, running;
    struct env_timer **timers; /* binary heap from [1] on */
    uint32_t timer_count, timer_capacity;
    uint64_t clock_deadline_ns; /* what `clock` is set to; 0 = not running */
    uint64_t randoms[ENV_UV_RANDOMS];
    uint32_t random_count; /* unused ones left */
    uint32_t works;        /* on the pool */
    bool once;             /* env_uv_run_once() is running ... */
    bool ran;              /* something has run, since then or since the loop last had nothing to do */
    uint64_t linger_ns;    /* 0: it sleeps at once */
    uint64_t quiet_ns;     /* since when there is nothing to do */
    uint64_t crowded_ns;   /* until when others are taken to need the processor */
    uint32_t soon;         /* how many came and were done within linger_ns of late, up to SOON_MAX */
    struct uv_conn *conns; /* everything that is open or closing, for destroy */
    struct uv_server *servers;
    struct uv_watch *watches;
    char read_buffer[ENV_UV_READ_BYTES]; /* on_bytes never nests: one is enough */
};

static inline struct env_uv *env_uv_of(struct env *e)
{
    return container_of(e, struct env_uv, env);
}

/* Never NULL. The calls of the seam that need memory (timer, connect, accept, work) cannot
 * refuse; a process that lost a timer would break promises, one that ends breaks none. */
void *env_uv_alloc(size_t size);
enum kv_err env_uv_err(int uv);
void env_uv_post(struct env *e, struct env_task *t);
void env_uv_unpost(struct env_uv *e, struct env_task *t); /* idempotent */

enum kv_err env_uv_listen(struct env *e, struct env_listener *l, const struct env_addr *a);
void env_uv_unlisten(struct env *e, struct env_listener *l);
void env_uv_connect(struct env *e, struct env_conn *c, const struct env_addr *to,
                    const struct env_addr *from);
void env_uv_write(struct env *e, struct env_conn *c, struct env_write *w);
void env_uv_read(struct env *e, struct env_conn *c, bool on);
void env_uv_close(struct env *e, struct env_conn *c);
void env_uv_net_close(struct env_uv *e); /* starts closing every listener and connection */
#endif

#ifndef KV_ENV_UV_H
#define KV_ENV_UV_H
#include "client/env/env.h"

/* The env on libuv: one loop, one thread. TCP_NODELAY and keep-alive are set on
 * every connection; a write that the socket takes at once never allocates. Creating
 * one sets SIGPIPE to be ignored, unless the program handles it. Out of memory in a
 * call that cannot refuse (timer, connect, accept, work) aborts the process.
 * KV_NO_SPACE: out of descriptors or memory. */
struct env_uv;
enum kv_err env_uv_create(struct env_uv **out);
struct env *env_uv_env(struct env_uv *e);
void env_uv_run(struct env_uv *e); /* until env_uv_stop(), from the owning thread */
/* env_uv_run() on a thread of its own, until env_uv_stop() is called there; then env_uv_join(). KV_NO_SPACE: no thread. */
enum kv_err env_uv_spawn(struct env_uv *e);
void env_uv_join(struct env_uv *e);
void env_uv_run_once(struct env_uv *e); /* one turn; blocks until something happens */
/* For env_uv_run(): while things keep coming within `ns` of the loop having nothing to do, it waits for
 * that long awake, yielding, before it sleeps. 0, the default, never does. */
void env_uv_linger(struct env_uv *e, uint64_t ns);
void env_uv_stop(struct env_uv *e); /* from a callback on the loop */
/* Calls `fire` on the loop for every `signum` from now on; not SIGKILL or SIGSTOP. */
void env_uv_signal(struct env_uv *e, int signum, void (*fire)(void *context, int signum),
                   void *context);
void env_uv_destroy(struct env_uv *e); /* closes what is left, runs the callbacks, frees */
#endif

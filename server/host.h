#ifndef SERVER_HOST_H
#define SERVER_HOST_H
#include "server/node.h"

/* The connections of all front doors: accepts, feeds the gates, sends their output at the
 * end of the turn, and enforces limits on connections, open requests and unread output. */
struct host;
enum kv_err host_create(struct worker *w, struct host **out);
enum kv_err host_listen(struct host *h, char *why, size_t why_size);
void host_flush(struct host *h);                 /* end of turn */
void host_tick(struct host *h, uint64_t now_ns); /* slow readers, strangers */
void host_stop(struct host *h);                  /* no new connections; drain notice; closes when answered */
bool host_is_empty(const struct host *h);
void host_close_all(struct host *h);
void host_drop(struct gate *g); /* closes it now, whatever it still has to say */
void host_destroy(struct host *h);
void host_touch(struct gate *g);    /* its `out` has bytes or it wants to close */
bool host_answered(struct gate *g); /* one pending request less; false: whoever asked is gone, and the gate's state */
struct worker *host_worker(struct gate *g);
void host_recheck_clients(struct host *h); /* closes connections whose keys or users are not what they were */
uint32_t host_connections(const struct host *h);
/* What INFO tells: since the start, but for `waiting`, the connections with a request unanswered now. */
struct host_stats {
    uint64_t connections, commands;
    uint32_t waiting;
};
struct host_stats host_stats(const struct host *h);
#endif

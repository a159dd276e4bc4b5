#ifndef SERVER_LANES_H
#define SERVER_LANES_H
#include "server/node.h"
#include "server/siblings.h"

/* What a process of several workers adds to that of one: for each worker above 0 a thread with a loop, a disk and a checkpoint of
 * its own (R5), in worker-K/ of the data directory, and two mailboxes between it and worker 0. Blocking, from the main thread. */
struct lanes;
struct lanes_options { /* all outlive the lanes */
    const struct config *config;
    const struct channel_identity *identity;
    const struct keys_allowed *clients;
    const struct journal *journal; /* each has a copy: levels go their own way afterwards */
    struct env *env;               /* of worker 0 */
    uint64_t linger_ns;
    bool has_others; /* the directory knows of other nodes */
};
/* NULL of a node of one worker is fine with all of them. KV_NO_SPACE. */
enum kv_err lanes_create(const struct lanes_options *o, struct lanes **out);
void lanes_connect(struct lanes *l, struct worker_options *first); /* before worker 0 is created */
/* Creates the other workers and starts them, which are not run yet; worker 0 follows. As worker_create(). */
enum kv_err lanes_open(struct lanes *l, struct worker *first, char *why, size_t why_size);
enum kv_err lanes_run(struct lanes *l);
void lanes_join(struct lanes *l); /* worker 0 has stopped: waits until all have */
void lanes_destroy(struct lanes *l);

/* The checkpoint of one worker, in that directory. A damaged environment is no loss while others hold the same rows: this one begins
 * with an empty one, and its replicas, of which only the log knows now, get successors (R4, R21). */
enum kv_err lane_state_open(const struct config *c, const char *directory, bool has_others, struct journal *j,
                            struct checkpoint **out, char *why, size_t why_size);
#endif

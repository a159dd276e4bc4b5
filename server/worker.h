#ifndef SERVER_WORKER_H
#define SERVER_WORKER_H
#include "client/env/env.h"
#include "client/wire/channel.h"
#include "server/config.h"
#include "server/journal.h"
#include "server/keys.h"
#include "server/users.h"
#include "storage/store.h"

/* A node's worker: one thread, one loop, one store, the raft groups of its partitions,
 * the links to the other nodes and the client connections. Everything it touches comes
 * through env, disk and checkpoint, so the same code runs on libuv and in the simulator. */
struct worker;

struct worker_options { /* all outlive the worker */
    const struct config *config;
    struct env *env;
    struct disk *disk;
    struct checkpoint *checkpoint;
    const struct channel_identity *identity;
    const struct keys_allowed *clients;
    const struct users *users; /* of the Redis ports; NULL: nobody but `default` */
    struct journal *journal;
    void (*stop_wanted)(void *context); /* poisoned or told to stop: call worker_stop() */
    void *context;
    bool keeps_history; /* for worker_group_next(): a hash over every applied entry costs as much as its checksum */
};

/* Recovers the store and its groups; blocking, before the loop runs. KV_CORRUPT, KV_VERSION, KV_CONFLICT
 * (another node's data), KV_IO, KV_BUSY (address in use): `why` says what and where. */
enum kv_err worker_create(const struct worker_options *o, struct worker **out, char *why, size_t why_size);
enum kv_err worker_start(struct worker *w, char *why, size_t why_size); /* listens, dials, ticks */
void worker_recheck_clients(struct worker *w);                          /* o.clients or o.users has changed */
/* Hands leadership over, answers what is open, closes; `stopped` runs once, within 5 s. */
void worker_stop(struct worker *w, void (*stopped)(void *context), void *context);
void worker_destroy(struct worker *w); /* after `stopped`, or to drop a crashed node (no callback runs) */

void worker_check(const struct worker *w); /* asserts every invariant of every group */
/* For tests and the simulator: each group's applied index and a hash of its rows' history. */
bool worker_group_next(const struct worker *w, uint32_t *cursor, uint32_t *group, uint64_t *applied, uint64_t *hash,
                       bool *is_leader);
#endif

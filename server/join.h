#ifndef SERVER_JOIN_H
#define SERVER_JOIN_H
#include "client/env/env.h"
#include "client/wire/channel.h"
#include "server/config.h"
#include "server/journal.h"
#include "storage/disk.h"

/* How a node with an empty directory becomes one of a cluster, before it has a worker: it dials cluster.join, says in the
 * handshake that it wants to join, and sends one request, KSJOIN with the token's secret and what it is. The answer, its id and
 * the list of nodes, is durable in `membership` before anybody hears of success. Asked again with the same key and token a
 * cluster gives the same id, so a joiner that died may begin anew at any point. */
struct join;
struct join_options { /* all outlive it */
    const struct config *config;
    struct env *env;
    struct disk *disk;
    const struct channel_identity *identity;
    struct journal *journal;
    /* Once, on the loop. KV_OK: membership_overlay() finds it now. KV_TIMEOUT: nobody let it in within
     * cluster.join_time; else it was refused, and asking again would not help. join_why() says it in one line. */
    void (*done)(void *context, enum kv_err err);
    void *context;
};
enum kv_err join_start(const struct join_options *o, struct join **out); /* KV_NO_SPACE */
const char *join_why(const struct join *j);
/* Not inside done(). `is_crash`: its machine died, and no callback of a connection is to come. */
void join_destroy(struct join *j, bool is_crash);
#endif

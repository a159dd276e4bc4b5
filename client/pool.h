#ifndef KV_POOL_H
#define KV_POOL_H
#include "client/env/env.h"
#include "client/wire/channel.h"
#include "client/wire/hello.h"
#include "client/wire/message.h"

/* Multiplexed connections to nodes: one Noise channel carries any number of open requests up
 * to a bound; replies come in any order and find their call by id. Requests of one loop turn
 * leave in one sealed write.
 *
 * Health: a connection with open calls that has been silent for `ping_after_ns` is asked with
 * KV_FRAME_PING; if `ping_timeout_ns` more pass in silence it is closed, and its calls end with
 * KV_CLOSED. An idle one is asked every `ping_idle_ns`. A loop that itself slept judges nobody.
 * KV_FRAME_DRAIN: the node goes away; open calls finish on that connection, new ones dial anew.
 *
 * done() never runs inside pool_call() and may start new calls. */
struct pool;
struct pool_conn;

struct pool_call { /* embed it; zeroed before first use */
    /* in: request.args stay borrowed until done; id and deadline_ms are set here */
    struct kv_request request;
    uint64_t deadline_ns; /* absolute */
    /* `reply` only with KV_OK, valid until done() returns. Otherwise `why` is one line and err is
     * KV_TIMEOUT, KV_BUSY (in-flight bound), KV_UNAVAILABLE (not connected), KV_CLOSED (connection
     * lost), KV_TOO_BIG, KV_MALFORMED, KV_AUTH, KV_WRONG_CLUSTER, KV_VERSION, KV_NO_SPACE. */
    void (*done)(struct pool_call *c, enum kv_err err, const struct kv_reply *reply,
                 const char *why);
    /* out */
    bool sent;        /* bytes may have left: without a reply the outcome is unknown */
    uint64_t sent_ns; /* then: when, behind any dialling */
    /* private */
    struct pool *pool;
    struct pool_conn *conn;
    struct pool_call *prev, *next;
    struct env_timer timer;
    enum kv_err early; /* refused inside pool_call(), told from the loop */
};

struct pool_options {
    struct env *env;
    struct env_addr from; /* local address to dial from; host empty: any */
    struct channel_identity identity;
    struct hello hello;          /* role, cluster, name of ours; name is copied */
    uint32_t connections_max;    /* per node, at least 1 */
    uint32_t calls_max;          /* open calls of one connection */
    uint64_t connect_timeout_ns; /* dial and handshake together */
    uint64_t ping_after_ns, ping_timeout_ns, ping_idle_ns;
    void (*drained)(void *context, const struct env_addr *node); /* may be NULL */
    void *context;
};
struct pool_stats {
    uint32_t connections, calls; /* open now */
    uint64_t dials, dials_failed, pings, dead, drains;
};

/* KV_NO_SPACE. Options are copied. */
enum kv_err pool_create(const struct pool_options *o, struct pool **out);
/* Ends every call with KV_CLOSED, closes every connection, frees the pool, then calls closed().
 * Not from inside done(). */
void pool_close(struct pool *p, void (*closed)(void *context), void *context);

/* `key`: the node's public key if known, else NULL; another key there is KV_AUTH. */
void pool_call(struct pool *p, const struct env_addr *to, const uint8_t *key, struct pool_call *c);
void pool_cancel(struct pool_call *c); /* done() will not run; idempotent; a late reply is dropped */
struct pool_stats pool_stats(const struct pool *p);
/* What the node of the last handshake said of its cluster; NULL before the first. */
const uint8_t *pool_cluster(const struct pool *p);

bool pool_addr_eq(const struct env_addr *a, const struct env_addr *b);
/* "host:port", "[v6]:port"; the host must be a literal address or "localhost". */
bool pool_addr_parse(struct kv_slice text, struct env_addr *out);
#endif

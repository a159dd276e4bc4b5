#ifndef KV_HELLO_H
#define KV_HELLO_H
#include "client/base/buf.h"
#include "client/base/err.h"

/* What both sides tell each other inside the encrypted handshake (R25), so that a
 * stranger is refused by name before any frame is admitted. Little-endian:
 *
 *   0  version    u8   HELLO_VERSION
 *   1  role       u8   1 client, 2 node, 3 one that wants to become a node: it may ask to join, and nothing else
 *   2  reserved   u16  zero when sent, ignored when read
 *   4  cluster id 16 B all zero: "any cluster" (a client), or not yet known
 *  20  node id    u32  0 from a client, and from who joins
 *  24  store id   u64  R4: identity of the data directory; 0 from a client
 *  32  name size  u8   at most HELLO_NAME_BYTES_MAX
 *  33  name       cluster name; empty from a client that does not care
 *
 * Fixed-size fields may only be added behind the name, with a new version. */
#define HELLO_PROLOGUE "kvd/1" /* bound into every handshake, client and peer */
enum {
    HELLO_VERSION = 1,
    HELLO_CLUSTER_BYTES = 16,
    HELLO_NAME_BYTES_MAX = 64,
    HELLO_BYTES_MIN = 33,
    HELLO_BYTES_MAX = HELLO_BYTES_MIN + HELLO_NAME_BYTES_MAX
};
enum hello_role { HELLO_CLIENT = 1,
                  HELLO_NODE = 2,
                  HELLO_JOIN = 3 };

struct hello {
    enum hello_role role;
    uint8_t cluster[HELLO_CLUSTER_BYTES];
    uint32_t node;
    uint64_t store;
    struct kv_slice name; /* decoded: points into the payload */
};

/* Appends the payload. name.size <= HELLO_NAME_BYTES_MAX is asserted. */
void hello_encode(const struct hello *h, struct kv_buf *out);
/* KV_VERSION: another version, `out` untouched; KV_MALFORMED: truncated, trailing bytes,
 * unknown role, a node without an id. */
enum kv_err hello_decode(struct kv_slice payload, struct hello *out);

/* Whether two sides belong together: ids must be equal unless one of them is all zero,
 * names must be equal unless one of them is empty. KV_WRONG_CLUSTER and, in `why`, a
 * static text. */
enum kv_err hello_match(const struct hello *self, const struct hello *peer, const char **why);
/* The same said by name: "cluster 'theirs' (0102..) is not 'ours' (0304..)". */
enum { HELLO_MISMATCH_BYTES = 192 };
void hello_mismatch(const struct hello *self, const struct hello *peer, char out[HELLO_MISMATCH_BYTES]);
#endif

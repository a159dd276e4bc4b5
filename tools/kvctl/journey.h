#ifndef KVCTL_JOURNEY_H
#define KVCTL_JOURNEY_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/base/err.h"
#include "client/base/slice.h"

/* FILE.kvprogress: how far an import of FILE has come. Rows up to `offset` are acknowledged. Row n
 * of the file is always sent under the idempotency key (client, n), also after a restart: a row
 * that was sent and not yet written down here is answered from the cluster's dedup record, not
 * stored twice. It names the cluster and the first bytes of the file, so that neither another
 * cluster nor another file is mistaken for the one begun. */
enum { JOURNEY_HEAD_BYTES = 4096,
       JOURNEY_WHY_BYTES = 1400 };
struct journey {
    uint64_t offset;   /* bytes of FILE that are done */
    uint64_t sequence; /* of the last row acknowledged */
    uint8_t client[16], cluster[16];
    uint64_t head;       /* kv_hash64 of the first head_bytes of FILE */
    uint32_t head_bytes; /* at most JOURNEY_HEAD_BYTES */
    uint32_t keyspace;   /* id; files from before there were several: `default` */
};
/* KV_NOT_FOUND; KV_MALFORMED, KV_IO with one line in `why`. */
enum kv_err journey_load(const char *path, struct journey *out, char why[JOURNEY_WHY_BYTES]);
/* Written beside, synced, renamed: either the old or the new one is there. KV_IO. */
enum kv_err journey_save(const char *path, const struct journey *j, char why[JOURNEY_WHY_BYTES]);
#endif

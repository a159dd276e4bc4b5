#ifndef KV_H
#define KV_H
#include "client/base/err.h"
#include "client/base/slice.h"
#include "client/wire/message.h"

/* libkv: the client library of kvd, blocking face. One handle, one thread at a time.
 *
 *     struct kv *kv;
 *     char why[KV_TEXT_BYTES];
 *     struct kv_options o = {.addresses = "127.0.0.1:7401", .key_file = "kvd-data/client.key"};
 *     if (kv_open(&o, &kv, why) != KV_OK) return fprintf(stderr, "%s\n", why);
 *     struct kv_result r;
 *     if (kv_put(kv, kv_str("greeting"), kv_str("hello"), NULL, &r) != KV_OK)
 *         fprintf(stderr, "%s\n", r.text);
 *     kv_close(kv);
 *
 * Every call has a deadline and returns by then. Every mutation carries an idempotency
 * key and is retried under it until the deadline: it takes effect at most once, however
 * often it was sent. When the answer stayed away, `applied` says what is known:
 * KV_APPLIED_MAYBE means that it may have taken effect, or may still, once.
 *
 * Reads are linearizable unless `level` says otherwise.
 * Limits: keys KV_USER_KEY_BYTES_MAX (480), values 1 MiB unless the cluster says otherwise.
 * The asynchronous face, for event loops and simulators, is kv_client.h. */
enum { KV_TEXT_BYTES = 400,
       KV_ADDRESSES_MAX = 16,
       KV_TIMEOUT_MS_DEFAULT = 5000 };

struct kv_options {
    const char *addresses; /* "host:port,host:port": some nodes, the rest is learned; NULL: 127.0.0.1:7401 */
    const char *key_file;  /* secret key, 64 hex digits; NULL: `key` holds it */
    uint8_t key[32];
    uint8_t cluster_id[16];   /* all zero: any cluster */
    const char *cluster_name; /* NULL: any */
    const char *keyspace;     /* name; NULL: "default". Looked up with the first call; KV_NO_KEYSPACE if there is none */
    uint32_t timeout_ms;      /* deadline of one call; 0: KV_TIMEOUT_MS_DEFAULT; of a mutation at most 4 minutes */
    enum kv_level level;      /* of reads (message.h); those below linearizable ask the replica that answers soonest */
    uint32_t bounded_ms;      /* with KV_LEVEL_BOUNDED: how stale a read may be; none is staler than the time it took itself */
    uint32_t in_flight_max;   /* open requests of one connection; 0: 1024, the node's default limit */
};

/* What came back, and who said so. `value` stays valid until the next call on the handle
 * (asynchronous calls: until done() returns). */
struct kv_result {
    enum kv_err err;
    enum kv_applied applied;         /* mutations; reads: KV_APPLIED_NO */
    struct kv_slice value;           /* the value; from generic commands one RESP3 value */
    int64_t number;                  /* kv_incr: the new number; kv_del: keys removed */
    struct kv_version version;       /* of the key, after the call; {0,0}: no such key */
    uint64_t expire_ms;              /* absolute wall-clock deadline of the key, 0 = none */
    uint32_t node, partition, epoch; /* who answered, for which partition and range epoch */
    enum kv_phase phase;             /* where the node was when the request ended */
    enum kv_level level;             /* achieved, of reads */
    uint32_t stale_ms;               /* at lease and bounded: how old the value may have been when it was read, at most */
    uint32_t tries;                  /* requests sent, the last included */
    uint32_t retry_after_ms;         /* KV_BUSY, KV_THROTTLED */
    char text[KV_TEXT_BYTES];        /* one line: what, node, phase, cause, next action; "" when ok */
};

struct kv;

/* Connects to nothing yet: the first call does. `why` gets one line on error.
 * KV_BAD_ARGUMENT: addresses, keyspace or options do not parse; KV_NOT_FOUND, KV_DENIED (readable by
 * others), KV_MALFORMED: the key file; KV_NO_SPACE: memory or descriptors. */
enum kv_err kv_open(const struct kv_options *o, struct kv **out, char why[KV_TEXT_BYTES]);
void kv_close(struct kv *kv); /* NULL is fine */
void kv_set_timeout(struct kv *kv, uint32_t timeout_ms);

/* All return out->err. KV_NOT_FOUND: no such key. */
enum kv_err kv_get(struct kv *kv, struct kv_slice key, struct kv_result *out);

struct kv_put_options {
    uint64_t ttl_ms; /* 0: no expiry */
    bool if_absent;  /* KV_CONDITION if the key exists */
};
enum kv_err kv_put(struct kv *kv, struct kv_slice key, struct kv_slice value,
                   const struct kv_put_options *o, struct kv_result *out); /* o may be NULL */

/* Replaces the value if the key still has this version or this value. KV_CONDITION: it has
 * another, out->version says which; KV_NOT_FOUND. */
enum kv_err kv_cas_version(struct kv *kv, struct kv_slice key, struct kv_version expected,
                           struct kv_slice value, struct kv_result *out);
enum kv_err kv_cas_value(struct kv *kv, struct kv_slice key, struct kv_slice expected,
                         struct kv_slice value, struct kv_result *out);

/* out->number: 1 removed, 0 there was none (KV_OK). With `expected` (may be NULL):
 * KV_CONDITION if the version differs. */
enum kv_err kv_del(struct kv *kv, struct kv_slice key, const struct kv_version *expected,
                   struct kv_result *out);
/* A missing key counts as 0. KV_WRONG_TYPE or KV_BAD_ARGUMENT: not a number, or overflow. */
enum kv_err kv_incr(struct kv *kv, struct kv_slice key, int64_t delta, struct kv_result *out);

/* Rows in the order of encoded keys: in a range keyspace by key, in a hash keyspace by slot and then by key, in a list
 * keyspace by bucket and then by key; each key once, each page at one point in time, the whole scan not. Filters work on
 * user keys and run here, and only partitions that may hold such keys are asked: of a range keyspace those between the
 * bounds, of a hash keyspace that of a {hashtag} which the prefix holds whole, of a list keyspace that of such a label. */
struct kv_row {
    struct kv_slice key, value; /* valid until the next call on the handle */
    struct kv_version version;
    uint64_t expire_ms;
};
struct kv_scan_options {
    struct kv_slice prefix;   /* only keys that begin with it; empty: all */
    struct kv_slice from, to; /* only from <= key < to; empty: no bound */
    struct kv_slice cursor;   /* of kv_scan_cursor(): go on behind it */
    uint32_t page_rows;       /* 0: 1000 */
};
struct kv_scan;
/* KV_MALFORMED: the cursor; KV_NO_SPACE. Options are copied. A cursor of another keyspace is refused by
 * kv_scan_next() (KV_BAD_ARGUMENT). */
enum kv_err kv_scan_open(struct kv *kv, const struct kv_scan_options *o, struct kv_scan **out);
/* KV_NOT_FOUND: the end. After another error (out->err) calling again goes on. */
enum kv_err kv_scan_next(struct kv_scan *s, struct kv_row *row, struct kv_result *out);
/* The encoded keys it looks through from here on: partitions that hold none of them are not asked. Valid until the next call. */
enum kv_err kv_scan_range(struct kv_scan *s, struct kv_range *range, struct kv_result *out);
/* Where the next row would be read, as hex text; "" at the end. Valid until the next call. */
const char *kv_scan_cursor(struct kv_scan *s);
void kv_scan_close(struct kv_scan *s);

/* Any operation of client/base/op.h with at least one key, and KSCREATE .. KSSHOW, of keyspaces (struct kv_keyspace of
 * wire/message.h; a KV* operation's single bulk is unwrapped): out->value is one RESP3 value. */
enum kv_err kv_command(struct kv *kv, enum kv_op op, const struct kv_slice *args, uint32_t arg_count,
                       struct kv_result *out);
/* KVSTATUS, KVLOGLEVEL, KVREPLACE, KVPING of one node (0: any). A single bulk or status reply
 * is unwrapped into out->value. */
enum kv_err kv_admin(struct kv *kv, uint32_t node, enum kv_op op, const struct kv_slice *args,
                     uint32_t arg_count, struct kv_result *out);
/* The partitions and nodes as last learned, fetched if `fresh` or unknown. Valid until the next call. */
enum kv_err kv_map_read(struct kv *kv, bool fresh, const struct kv_map_info **out,
                        struct kv_result *result);

/* Reads a secret key file: 64 hex digits, mode 0600. KV_NOT_FOUND, KV_DENIED, KV_MALFORMED, KV_IO. */
enum kv_err kv_key_file(const char *path, uint8_t secret[32], char why[KV_TEXT_BYTES]);

/* For programs that want many calls open at once on this handle: the asynchronous client
 * behind it (kv_client.h), and one turn of its loop, which blocks until something happens. */
struct kv_client;
struct kv_client *kv_client_of(struct kv *kv);
void kv_turn(struct kv *kv);
#endif

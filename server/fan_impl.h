#ifndef SERVER_FAN_IMPL_H
#define SERVER_FAN_IMPL_H
#include "client/base/key.h"
#include "server/request.h"

/* What the files of a fan share: fan.c (an operation that became several requests, and ends with the last of them),
 * fan_keys.c (many keys), fan_walk.c (partitions in key order), fan_wait.c (KVAWAIT). */
struct descriptor;
struct fan_part {
    struct fan *fan;
    struct kv_slice args_page[4];
    char rows_text[24];    /* SCAN: the budget of a page */
    struct kv_slice mark;  /* KVAWAIT: an index */
    struct kv_slice *args; /* by key: owned */
    uint32_t *positions;   /* by key: of each argument among the parent's */
    uint32_t count;
    uint32_t partition, range_epoch;
    struct kv_buf rows; /* KEYS: of this partition, so that they come in key order whoever answers first */
    struct kv_key from, to;
};

struct fan {
    struct worker *w;
    struct request *parent; /* NULL: abandoned */
    enum kv_op op;
    enum kv_key_kind kind;
    uint32_t keyspace;
    struct kv_buf rows; /* KEYS, SCAN: bulk strings */
    uint64_t row_count, sum;
    size_t bytes;          /* of rows, of all partitions */
    struct kv_buf *values; /* MGET: one a key */
    uint32_t value_count;
    enum kv_err err;
    enum kv_applied applied;
    bool any_done;
    enum kv_level level; /* of all parts, and the oldest of them */
    uint32_t stale_ms;
    char detail[128];
    struct kv_slice pattern;
    bool has_pattern;
    uint64_t patience_ns; /* for a page; 0: the asker's own deadline holds for all of it */
    uint64_t want;        /* SCAN: rows; KVAWAIT: ms */
    bool type_none;       /* SCAN TYPE of something else than string */
    bool led_only;        /* only partitions that this node leads */
    uint32_t keys_max;    /* KEYS: 0 for all */
    uint32_t wrapped;
    uint32_t part_count, open;
    struct fan_part parts[];
};

/* NULL: it has been answered. Else the caller fills in the parts and sends it, in the same turn. */
struct fan *fan_make(struct request *r, const struct kv_key_rule *rule, uint32_t parts);
void fan_send(struct fan *f);
void fan_finish(struct fan *f); /* answers its parent, if that still waits, and frees it */
void fan_free(struct fan *f);
void fan_part_set(struct fan_part *p, const struct descriptor *d);

/* fan_keys.c. False: all keys live in one partition, no fan is needed. */
bool fan_keys(struct request *r, const struct kv_key_rule *rule);
void fan_value_take(struct fan_part *p, struct kv_slice value);

/* fan_walk.c */
void fan_partitions(struct request *r, const struct kv_key_rule *rule); /* one part per partition of the keyspace, in key order */
void fan_slot(struct request *r, const struct kv_key_rule *rule);       /* the keys of one slot, counted or named */
void fan_scan(struct request *r, const struct kv_key_rule *rule);
void fan_random(struct request *r, const struct kv_key_rule *rule);
uint64_t fan_cursor_keep(struct worker *w, const struct kv_key *at);
/* Each takes an answer; true: this part has more to ask for. */
bool fan_page_take(struct fan_part *p, struct kv_slice value); /* KEYS, DBSIZE */
bool fan_scan_take(struct fan_part *p, struct kv_slice value);
bool fan_random_take(struct fan_part *p, struct kv_slice value);
bool fan_flush_take(struct fan_part *p, struct kv_slice value);

/* fan_wait.c */
void fan_wait(struct request *r, const struct kv_key_rule *rule);
void fan_ack_take(struct fan *f, const struct kv_reply *reply);
#endif

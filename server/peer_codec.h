#ifndef SERVER_PEER_CODEC_H
#define SERVER_PEER_CODEC_H
#include "client/base/arena.h"
#include "client/base/buf.h"
#include "server/peer.h"

/* The messages of peer.proto and their plain structs. A batch is the concatenation of its
 * fields, so each writer appends one field and the frame needs no second pass. */
struct peer_beat {
    uint64_t sequence, answers, wall_ms, birthmark;
    bool full;
};
void peer_put_raft(struct kv_buf *b, uint32_t group, const struct raft_msg *m, const struct log_entry *entries,
                   uint32_t entry_count);
void peer_put_beat(struct kv_buf *b, const struct peer_beat *beat);
struct peer_lost {
    uint32_t group;
    raft_id replica;
    uint64_t owed;
    bool unborn, gone;
};
void peer_put_lost(struct kv_buf *b, const struct peer_lost *l);
struct peer_directory {
    uint64_t version;
    uint32_t next, count;
    const struct kv_slice *keyspaces;
};
void peer_put_directory(struct kv_buf *b, const struct peer_directory *d);
void peer_put_birth(struct kv_buf *b, struct kv_slice descriptor, raft_id replica, bool founds);
void peer_put_snapshot(struct kv_buf *b, const struct peer_snapshot *s);
struct peer_scrub;
void peer_put_scrub(struct kv_buf *b, const struct peer_scrub *s);
void peer_put_merge(struct kv_buf *b, const struct peer_merge *m);

void peer_put_descriptor(struct kv_buf *b, struct kv_slice descriptor, uint64_t term);

struct peer_load { /* load.h */
    uint32_t group, range_epoch;
    uint64_t rate, bytes;
    struct kv_slice median, middle;
    bool has_bytes, is_lone;
};
void peer_put_load(struct kv_buf *b, const struct peer_load *l);

void peer_put_nodes(struct kv_buf *b, struct kv_slice map);

struct peer_reader { /* what peer_batch_read() calls for each part, in this order */
    void *context;
    void (*beat)(void *context, const struct peer_beat *beat);
    void (*lost)(void *context, const struct peer_lost *l);
    void (*birth)(void *context, struct kv_slice descriptor, raft_id replica, bool founds); /* NULL: ignored */
    void (*raft)(void *context, uint32_t group, const struct raft_msg *m, const struct log_entry *entries);
    void (*snapshot)(void *context, const struct peer_snapshot *s);
    void (*directory)(void *context, const struct peer_directory *d);       /* NULL: ignored */
    void (*told)(void *context, struct kv_slice descriptor, uint64_t term); /* NULL: ignored */
    void (*scrub)(void *context, const struct peer_scrub *s);               /* before raft: it may concern an entry there; NULL: ignored */
    void (*nodes)(void *context, struct kv_slice map);                      /* last; NULL: ignored */
    void (*merge)(void *context, const struct peer_merge *m);               /* NULL: ignored */
    void (*load)(void *context, const struct peer_load *l);                 /* behind told; NULL: ignored */
};
/* Everything given out points into `bytes` or the arena, for the call only. KV_MALFORMED. */
enum kv_err peer_batch_read(struct kv_slice bytes, struct kv_arena *arena, const struct peer_reader *reader);
#endif

#ifndef STORAGE_STORE_IMPL_H
#define STORAGE_STORE_IMPL_H
#include "client/base/key.h"
#include "client/base/map.h"
#include "storage/memtable.h"
#include "storage/store.h"

/* What the files of the store share. Reading order: store.c (open, apply, get, flush),
 * store_group.c (which groups there are), store_life.c (how they begin and end), store_recover.c (what a start makes of
 * them), store_fold.c (checkpoints), store_scan.c, then snapshot_*.c. */

/* A request under way on the checkpoint thread, listed so that store_close() can free it
 * when the disk has forgotten it. `run` touches only memory of the job (R24). */
struct job {
    struct disk_request io;
    struct store *store;
    enum kv_err err; /* set by run; KV_CLOSED if it never ran, because the machine stopped */
    struct job *next, **link;
    void (*run)(struct job *j);     /* off the loop; NULL: nothing to do there */
    void (*done)(struct job *j);    /* on the loop; ends or submits the job again */
    void (*discard)(struct job *j); /* the store closes: free everything */
};
void job_begin(struct store *s, struct job *j);
void job_work(struct job *j);
void job_end(struct job *j); /* the memory is the caller's again */
/* An answer that is known at once, but may not come inside the call: through the caller's own
 * request, which needs no memory. */
void store_refuse(struct store *s, struct disk_request *io,
                  void (*done)(struct disk_request *q, enum kv_err err));

struct group {
    uint32_t group, replica;
    enum checkpoint_group_state state;
    bool creating;   /* until mark and log record are durable */
    bool destroying; /* a tombstone, but not yet a durable one */
    bool installing; /* a snapshot is on its way in */
    bool damaged;
    bool unborn;  /* the log knows it, and the entry of another group that it was born by is to be applied again */
    bool newborn; /* without a committed mark yet: its first one stands beside its parent's */
    bool dirty;   /* its mark goes with the next checkpoint */
    uint64_t applied, applied_term, clock_ms;
    uint64_t checkpointed, released;
    uint64_t owed_index, owed_term; /* INSTALLING: the snapshot's, of which the mark says them too */
    uint64_t checkpointed_clock_ms; /* of the last committed mark: no entry is applied again with an earlier one */
    struct kv_slice descriptor;     /* owned */
    struct kv_slice wipe;           /* owned; INSTALLING: the mark's descriptor, see install_mark_write() */
    /* From the descriptor, for the dedup sweep; no range if it does not decode. */
    bool has_range;
    struct kv_key from, to;
    uint32_t range_epoch;
    uint64_t retention_ms;
    uint32_t absorbed; /* TOMBSTONE: by whom owns its rows, as of that range epoch */
    bool gone;         /* LIVE: absorbed, says another node */
};

enum { SNAPSHOT_FILE_BYTES = 64 };

struct store {
    struct store_options o;
    uint64_t id;
    uint32_t node_id;
    bool is_original; /* store_birthmark() */
    uint32_t impairments;
    bool fresh, poisoned, space_low, retry_full, reserve_claimed;
    char damage[256]; /* "" = none */
    struct log *log;
    struct checkpoint_view *view;
    struct memtable *active, *frozen;
    struct memtable *retired; /* the one checkpointed last: reads of its keys need no checkpoint, and what they fetched from there joins it; NULL: none */
    struct kv_map groups;     /* -> struct group */
    struct group **ordered;
    uint32_t group_count, group_room;
    struct fold *fold;                         /* the checkpoint under way; owns no more than it says */
    struct store_wait *waiting, **waiting_end; /* for a checkpoint cut from now on */
    bool fold_asked;
    uint64_t retry_ns, space_ns; /* not before */
    uint64_t trim_ns;            /* 0: nothing to give back */
    bool space_asked;
    uint64_t log_bytes_cut; /* appended bytes at the last cut */
    struct job *jobs;
    uint32_t job_count;
    struct kv_key sweep; /* where the next dedup sweep goes on */
    uint64_t names;      /* numbers of export files */
    struct store_stats stats;
};

#define STORE_SPACE_INTERVAL_NS UINT64_C(1000000000)

static inline uint64_t store_now(const struct store *s)
{
    return s->o.now_ns == NULL ? 0 : s->o.now_ns(s->o.context);
}
void store_poison(struct store *s, enum kv_err err);
void store_damage_set(struct store *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* store_identity.c: {store id, node id} of the directory, or a new one. Blocking. */
enum kv_err identity_impair(struct store *s); /* blocking */
enum kv_err identity_load(struct store *s, uint64_t id_seed, bool state_is_empty);

/* store_group.c */
struct group *group_find(const struct store *s, uint32_t group);
struct group *group_add(struct store *s, uint32_t group); /* NULL: no memory */
bool group_descriptor_set(struct group *g, struct kv_slice descriptor);
void groups_free(struct store *s);
void group_checkpointed(struct store *s, const struct checkpoint_mark *m);
/* The mark of a group as of now; borrows the group's memory. */
struct checkpoint_mark group_mark(const struct group *g);
void group_bury(struct group *g, uint32_t replica); /* a tombstone, of that replica id and all below */
void group_damaged(struct store *s, struct group *g, const char *why);
bool slice_dup(struct kv_slice from, struct kv_slice *to); /* owned copy; frees the old `to` */
void slice_free(struct kv_slice *s);

/* store_recover.c */
enum kv_err groups_recover(struct store *s);

/* store_space.c: claims the reserve, blocking; looks after it once a second. */
void space_open(struct store *s);
void space_step(struct store *s);

/* store_fold.c */
void fold_step(struct store *s); /* from store_flush() */
void fold_cut(struct store *s);  /* none is under way: cuts one here and now */

/* store_range.c: ranges wiped in transactions of bounded size. Off the loop or before it runs. */
enum kv_err range_wipe(struct checkpoint *c, struct checkpoint_view *v, struct kv_range range);
/* The descriptor of an INSTALLING mark: u16 size and bytes of `from`, the same of `to`, then
 * the group's descriptor from before. */
bool install_mark_write(struct kv_range range, struct kv_slice descriptor, struct kv_slice *out);
bool install_mark_read(struct kv_slice bytes, struct kv_range *range, struct kv_slice *descriptor);
#endif

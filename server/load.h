#ifndef SERVER_LOAD_H
#define SERVER_LOAD_H
#include "client/base/key.h"
#include "server/sketch.h"

/* What partitions are asked for, and how large they are.
 *
 * Every replica counts what it serves: a leader reads and writes, a follower the reads that may be its; what a node only
 * forwards counts where it is served. On the path of a request that is an increment and the countdown to the next sample, of
 * which a worker takes about LOAD_SAMPLES_MAX a second however much it serves; each stands for the requests since the one before. Once a second
 * counts become rates, averages that forget within LOAD_WINDOW_S. A partition that serves more than one request a second has a
 * sketch of its hottest keys and a sample of its keys (sketch.h), about 7 KB and those keys; others have none.
 *
 *   load.c         counts, rates, samples
 *   load_size.c    sizes, from the last checkpoint (storage/lmdb_size.h)
 *   load_report.c  what leaders tell of that to who leads partition 0
 *   load_hot.c     KVHOT */
enum { LOAD_WINDOW_S = 10,
       LOAD_SAMPLES_MAX = 4096 };
enum load_kind { LOAD_READ,
                 LOAD_WRITE,
                 LOAD_KINDS };

struct group;
struct kv_buf;
struct partition;
struct peer_load;
struct request;
struct worker;

struct load_hot { /* of a partition in use */
    struct sketch keys;
    struct sample sample;
    double seconds; /* forgetting as the sketch does: weight / seconds is a rate */
};
struct load {                    /* of a replica; zero: nothing served */
    struct load *next, **link;   /* in the worker's list of those that serve something; link NULL: not in it */
    uint64_t counts[LOAD_KINDS]; /* ever */
    uint64_t seen[LOAD_KINDS];   /* as of the last tick */
    double sums[LOAD_KINDS];
    double seconds;
    double rates[LOAD_KINDS]; /* requests a second, as of the last tick */
    uint64_t since_ns;        /* what was before counts no more: another role, another range */
    uint32_t range_epoch;
    bool leads;
    struct load_hot *hot; /* NULL: quiet */

    uint32_t sized_epoch;    /* the range epoch for which these hold; another one than the partition's: not known */
    uint64_t bytes, written; /* of keys and values in its range in the checkpoint; and written since */
    struct kv_key *middle;   /* where about half of the bytes end; NULL: not inside, or not worth keeping. Owned */
};
struct loads { /* a worker's */
    struct load *active;
    uint32_t countdown, gap; /* until the next sample; requests that one stands for */
    uint32_t samples;        /* taken since the last tick */
    uint64_t random;
    uint64_t served[LOAD_KINDS], served_seen;
    uint64_t tick_ns, tell_ns, tell_all_ns, size_ns;
    uint64_t checkpoint; /* number of the last one that sizes were taken from, plus one */
    bool weighs;         /* leaders are spread by load at present (coordinator.c) */
    uint32_t told_node;  /* who led partition 0 when all was told last */
    bool is_sizing;
};

/* What a leader told of its partition; kept by who leads partition 0. */
struct load_report {
    uint32_t range_epoch;
    uint64_t told_ns;
    uint64_t rate; /* requests a second, rounded up */
    bool has_bytes;
    uint64_t bytes;
    struct kv_slice median, middle; /* encoded keys where load and bytes are halved; size 0: none was told. Owned */
    bool is_lone;                   /* one key, or one slot, has most of the load: it cannot be halved */
    uint64_t cold_ns;               /* since when it is cold (coordinator.c); 0: it is not */
    uint64_t asked_ns;              /* when it was last asked to split or merge */
    uint32_t asked_times;           /* and how often, to no avail: what is done makes another range */
    bool is_lone_said;
};

void load_activate(struct loads *w, struct load *l);
void load_rearm(struct loads *w);
/* One more request served. True: a sample is due, by load_sample() or load_sample_request(). */
static inline bool load_count(struct loads *w, struct load *l, enum load_kind kind)
{
    l->counts[kind]++;
    w->served[kind]++;
    if (l->link == NULL) load_activate(w, l);
    if (w->countdown-- > 1) return false;
    load_rearm(w);
    return true;
}
void load_sample(struct group *g, enum load_kind kind, struct kv_slice encoded);
void load_sample_request(struct group *g, enum load_kind kind, const struct request *r);
void load_tick(struct worker *w, uint64_t now_ns);
void load_end(struct group *g); /* the replica goes */
double load_rate(const struct load *l);
/* About; what was written since the last checkpoint counts in full, though it may replace what is there. */
bool load_is_sized(const struct group *g); /* not soon after its range changed */
uint64_t load_bytes(const struct group *g);

void load_size(struct worker *w, uint64_t now_ns);
void load_tell(struct worker *w, uint64_t now_ns);
void load_learn(struct worker *w, const struct peer_load *l);
struct load_report *load_report_of(const struct worker *w, const struct partition *p, uint64_t now_ns); /* NULL: none that holds now */
void load_report_free(struct load_report *r);

/* The hottest keys that are served here, of one keyspace (UINT32_MAX: of all): by this worker, a line of JSON each; by the node,
 * as JSON, with the lines of its other workers. */
void load_hot_lines(struct worker *w, uint32_t keyspace, uint32_t limit, struct kv_buf *out);
void load_hot_json(struct worker *w, uint32_t keyspace, uint32_t limit, struct kv_buf *out, struct kv_slice others);
#endif

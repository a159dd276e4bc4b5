#ifndef KVBENCH_H
#define KVBENCH_H
#include <stdio.h>

#include "client/base/buf.h"
#include "client/base/err.h"
#include "client/base/hist.h"
#include "client/env/env.h"
#include "client/wire/message.h"

/* A load generator: one thread, one loop, any number of connections ("clients"), each with up
 * to `depth` operations open.
 *
 * Closed loop (default): a client sends its next operation when one is answered; latency is
 * what a client waits. Open loop (--rate): operations arrive by the clock whether or not
 * the server keeps up, and latency counts from the arrival, not from the sending, so that a
 * stall is charged to every operation it delayed (no coordinated omission). `service` latency,
 * from the sending, is shown beside it.
 *
 * main.c options; work.c what is done to which key; run.c clock, phases, lanes; lane.c sockets;
 * resp.c, etcd.c, native.c protocols; report.c results. */
enum {
    ADDRESSES_MAX = 16,
    CLIENTS_MAX = 60000,
    DEPTH_MAX = 4096,
    KEY_BYTES_MAX = 64,
    MARK_BYTES = 16, /* the value's first bytes name its key, so that reads can be checked */
    ERROR_KINDS_MAX = 8,
    ERROR_TEXT_BYTES = 128
};

enum op_kind { OP_READ,
               OP_WRITE,
               OP_INSERT,
               OP_SCAN,
               OP_MODIFY,
               OP_KINDS };
enum distribution { KEYS_UNIFORM,
                    KEYS_ZIPF,
                    KEYS_LATEST };

struct protocol;
struct options {
    const struct protocol *protocol;
    struct env_addr addresses[ADDRESSES_MAX]; /* clients are spread over them */
    uint32_t address_count;
    const char *address_text;
    const char *key_file; /* native */
    const char *password; /* RESP */
    enum kv_level level;  /* of reads; native */
    uint32_t bounded_ms;
    const char *keyspace; /* NULL: default */
    const char *prefix;   /* of keys */
    uint32_t clients, depth;
    uint32_t writers; /* the first so many clients only write, the others only read */
    bool split;       /* `writers` holds */
    uint64_t keys;
    uint32_t value_min, value_max; /* bytes */
    uint32_t share[OP_KINDS];      /* of 1000 operations */
    char mix[32];                  /* its name, for the report */
    enum distribution distribution;
    double theta;      /* of the Zipf distribution, 0 < theta < 1 */
    uint32_t scan_max; /* rows, uniform from 1 */
    bool fill;         /* write each key once, in random order, and end; a refusal is no end */
    double rate;       /* operations per second; 0: closed loop */
    bool poisson;      /* exponential gaps between arrivals, else even ones */
    uint64_t warmup_ns, run_ns, timeout_ns;
    uint64_t ops_max; /* end after so many; 0: by time */
    uint64_t seed;
    bool json;
};

struct lane;
struct bench;
struct op {
    struct lane *lane;
    uint64_t key;        /* its number */
    uint64_t arrived_ns; /* when it was due */
    uint64_t sent_ns;
    uint32_t value_size; /* of writes; rows of scans */
    enum op_kind kind;
    bool busy;
    bool writes;          /* now: a write, an insert, or the second half of a modify */
    bool again;           /* refused, and to be sent again */
    struct op *free_next; /* of the lane's free operations */
};

enum outcome { DONE_OK,
               DONE_MISSING,
               DONE_ERROR,
               DONE_BUSY }; /* BUSY: an error that surely changed nothing */

/* How to speak to a server. A protocol with a socket fills lane->out and is fed what arrives;
 * the others carry operations themselves and report lane_ready(). */
struct protocol {
    const char *name;
    bool socket;
    bool scans;
    uint16_t port; /* default */
    /* Connected. Makes lane->state and the greeting; calls lane_ready() now or when fed. */
    enum kv_err (*open)(struct lane *l);
    enum kv_err (*send)(struct lane *l, struct op *op);
    enum kv_err (*feed)(struct lane *l, struct kv_slice bytes); /* calls op_done() for each reply */
    void (*flush)(struct lane *l);                              /* may be NULL: fill lane->out before it is written */
    void (*close)(struct lane *l);                              /* frees lane->state, which may be NULL */
    /* After the run; may be NULL. Ends bench->shared and sets *ended, perhaps some turns later. */
    void (*end)(struct bench *b, bool *ended);
};
extern const struct protocol protocol_resp, protocol_etcd, protocol_native;

struct lane { /* one client */
    struct bench *bench;
    struct env_conn conn;
    struct env_timer redial;
    struct env_addr to;
    struct kv_buf out, sending; /* filled while the other is written */
    struct env_write write;
    struct kv_slice part;
    bool connected, ready, writing, idle_queued;
    uint32_t number;
    uint32_t open;         /* operations */
    struct op *ops, *free; /* depth of them */
    void *state;           /* the protocol's */
    struct lane *idle_next;
};

struct counters {
    struct kv_hist latency, service;
    uint64_t ok, missing, in_time; /* in_time: of ok, answered before the end */
};
struct error_kind {
    char text[ERROR_TEXT_BYTES];
    uint64_t count;
};
enum phase { PHASE_CONNECT,
             PHASE_WARMUP,
             PHASE_MEASURE,
             PHASE_DRAIN,
             PHASE_OVER };

struct zipf {
    uint64_t n;
    double theta, alpha, zeta_n, eta;
};

struct bench {
    struct options options;
    struct env *env;
    void *loop;   /* struct env_uv */
    void *shared; /* the protocol's, for all lanes */
    struct lane *lanes;
    struct lane *idle_first, *idle_last; /* open loop: ready lanes with room */
    enum phase phase;
    uint64_t random;
    struct zipf zipf;
    uint8_t *pool;     /* random bytes that values are cut from */
    uint64_t inserted; /* keys beyond options.keys */
    uint64_t issued, answered;
    uint64_t began_ns, measure_ns, end_ns, ended_ns;
    uint64_t next_arrival_ns;
    uint32_t connected;
    struct env_timer arrivals, watch;
    struct counters counters[OP_KINDS];
    uint64_t wrong, errors, dropped; /* dropped: due in the run, never sent */
    uint64_t refused, again;         /* of a fill: refusals so far; operations that wait to be sent again */
    struct error_kind error_kinds[ERROR_KINDS_MAX];
    double cpu_seconds; /* of this process, in the measured time */
    char failure[256];  /* why nothing could be measured */
    void (*stop)(struct bench *b);
};

/* main.c */
int options_parse(struct options *o, int argc, char **argv); /* 0 go on, else exit code + 1 */

/* work.c */
enum { POOL_BYTES = 1 << 20 };
enum kv_err work_init(struct bench *b);
void work_free(struct bench *b);
void work_choose(struct bench *b, struct op *op); /* kind, key, value_size */
size_t work_key(const struct bench *b, uint64_t key, char out[KEY_BYTES_MAX]);
void work_value(struct bench *b, const struct op *op, uint8_t *out); /* value_size bytes */
bool work_check(uint64_t key, struct kv_slice value);                /* is it a value that we wrote there? */
uint64_t work_gap_ns(struct bench *b);                               /* to the next arrival */
uint64_t work_permute(uint64_t i, uint64_t n, uint64_t seed);        /* a bijection of [0, n) */
double work_uniform(struct bench *b);                                /* [0, 1) */

/* run.c */
void bench_start(struct bench *b);               /* then run the loop until b->stop was called */
void bench_end(struct bench *b);                 /* as if its time were over: what is open is waited for and reported */
void lane_ready(struct lane *l);                 /* may send now */
void lane_pull(struct lane *l);                  /* send what is due; after op_done() */
void lane_lost(struct lane *l, const char *why); /* ends its open operations with an error */
/* The reply; `value` of reads. The operation is free afterwards, or sent on (modify). */
void op_done(struct op *op, enum outcome outcome, struct kv_slice value, const char *error);

/* lane.c */
void lane_dial(struct lane *l);
void lane_flush(struct lane *l);
void lane_close(struct lane *l, const char *why); /* a socket's; dialled again while the run goes on */

/* report.c */
void report_text(const struct bench *b, FILE *out);
void report_json(const struct bench *b, FILE *out);
#endif

#ifndef SIM_WORKLOAD_IMPL_H
#define SIM_WORKLOAD_IMPL_H
#include "client/kv_client.h"
#include "tests/sim/workload.h"

/* One client: what it does next (workload.c) and how it says so (workload_resp.c, libkv). */
enum client_answer { ANSWER_OK,
                     ANSWER_FAIL,
                     ANSWER_INFO };

struct client_op {
    enum history_f f;
    char key[32];
    char text[32], old[32]; /* the value, and of a cas the one expected */
    int64_t value, expected;
    bool expects_null, deletes;
    enum kv_level level;           /* of a read */
    uint32_t bounded_ms, stale_ms; /* asked, and claimed */
    uint64_t asked_ns, ttl_ms;     /* ttl_ms 0: it stays */
    struct mortal *mortal;         /* of this write, if its value expires */
    uint32_t number;               /* of the key */
    struct kv_version floor;       /* that the key had before this was asked */
    char deadline[24];             /* libkv: on the client's own clock */
};

/* A value that expires. Used again in turn: the oldest is long gone. */
struct mortal {
    struct sim_event expires; /* the earliest moment: from here on the history allows it */
    struct workload *w;
    char key[32];
    int64_t value;
    uint64_t ttl_ns, ok_ns; /* ok_ns 0: not known to be written */
};
enum { WORKLOAD_MORTALS_MAX = 1024 };

/* Versions of keys as single replicas showed them: they never go back (workload_versions.c). */
struct replica_at { /* a node's process and the replicas that it had opened by then; started_ns 0: down */
    uint64_t started_ns, lives;
};
struct sighting {
    char key[32];
    uint32_t node;
    uint64_t started_ns, life, at_ns;
    struct kv_version version;
};
enum { WORKLOAD_SIGHTINGS_MAX = 4096 };

struct client {
    struct workload *w;
    uint32_t id;
    struct sim_host *host;
    bool native, busy, stopped;
    uint32_t final_next; /* of the keys that are read in the end: which it reads next */
    uint64_t random;     /* its own stream: what others do does not change what it asks */
    int64_t process;
    uint64_t ok_since_mark;
    struct client_op op;
    struct replica_at replicas[CLUSTER_NODES_MAX]; /* when the operation began */
    struct sim_event think, patience;
    /* Redis protocol */
    struct env_conn conn;
    struct env_write write;
    struct kv_slice part;
    struct kv_buf in, out;
    bool connected, dialling, writing;
    uint32_t node; /* dialled last */
    /* libkv */
    struct kv_client *kv;
    struct kv_call call;
    struct kv_slice args[4];
};

struct workload {
    struct workload_options o;
    struct history *history;
    struct client clients[WORKLOAD_CLIENTS_MAX];
    int64_t process_next, value_next;
    int64_t last_value[WORKLOAD_KEYS_MAX];         /* a guess for the next cas; 0: absent */
    struct kv_version versions[WORKLOAD_KEYS_MAX]; /* the highest seen of each register and counter */
    bool is_reading_all;
    struct workload_counts counts;
    struct mortal mortals[WORKLOAD_MORTALS_MAX];
    uint32_t mortal_next, mortal_writes[WORKLOAD_KEYS_MAX], list_appends[WORKLOAD_KEYS_MAX];
    struct sighting sightings[WORKLOAD_SIGHTINGS_MAX];
    char wrong[256];
};

/* The client asked; `value` (borrowed, NULL: null) is what an ok of a read or incr returned. */
/* Of a native answer, before client_answered(): versions of a key never go back (R16); 0:0 says nothing. */
void client_saw_version(struct client *c, struct kv_version v);
void client_answered(struct client *c, enum client_answer answer, json_t *value);
uint64_t client_below(struct client *c, uint64_t n); /* its own chance */
void client_ready(struct client *c);                 /* it may ask (again): thinks, then the next operation */

void versions_begin(struct client *c);                                /* it is about to ask */
void versions_seen(struct client *c, const struct kv_result *result); /* and was answered */

void resp_client_init(struct client *c);
void resp_client_dial(struct client *c); /* client_ready() once connected */
void resp_client_send(struct client *c);
void resp_client_drop(struct client *c); /* closes; on_close dials anew */
void resp_client_free(struct client *c);

bool native_client_init(struct client *c);
void native_client_send(struct client *c);
json_t *absent_value(const char *key);    /* what a read of a key that is not there returns in the history */
json_t *list_parse(struct kv_slice text); /* ",1,2" as [1,2]; empty: [] */
#endif

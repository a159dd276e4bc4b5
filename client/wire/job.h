#ifndef KV_JOB_H
#define KV_JOB_H
#include "client/wire/message.h"

/* A job: one change of placement that somebody asked for, as a row of partition 0 (server/exec_jobs.h). It is run by
 * whoever coordinates; its fence rises with each runner, and only the last one may say how it stands. */
enum kv_job_kind { KV_JOB_MOVE = 1, /* partition, from, to: nodes; from 0: one more replica, to 0: one less */
                   KV_JOB_SPLIT,    /* partition, at key */
                   KV_JOB_MERGE,    /* partition, which begins at key, ends in `other` before it */
                   KV_JOB_DRAIN,    /* node `from` gives its replicas away */
                   KV_JOB_DROP,     /* what is left of a keyspace goes from all nodes */
                   KV_JOB_ALTER     /* a keyspace's partitions become as its row says */
};
enum kv_job_state { KV_JOB_QUEUED,
                    KV_JOB_RUNNING,
                    KV_JOB_PAUSED,
                    KV_JOB_CANCELLING, /* what it began is being taken back */
                    KV_JOB_DONE,
                    KV_JOB_FAILED,
                    KV_JOB_CANCELLED };
enum { KV_JOB_TEXT_BYTES_MAX = 200, /* of a reason or note; longer ones are cut */
       KV_JOBS_OPEN_MAX = 256,
       KV_JOBS_ENDED_MAX = 200 }; /* kept; the oldest go first */

struct kv_job {
    uint64_t id;
    enum kv_job_kind kind;
    enum kv_job_state state;
    uint32_t partition, other, keyspace, from, to;
    struct kv_slice key, name, reason, unit, note, before, after;
    bool automatic; /* the coordinator's own: it may be cancelled for a person's */
    uint64_t fence;
    uint32_t runner;                                      /* node; 0: none yet */
    uint64_t done, total;                                 /* of `unit`; total 0: not known */
    uint64_t opened_ms, started_ms, updated_ms, ended_ms; /* by the group clock; 0: not yet */
    uint32_t range_epoch, conf_epoch;                     /* when it was planned; 0: not said */
    enum kv_err error;                                    /* of one that failed */
    uint32_t result;                                      /* split: the new partition; alter: 1 once `after` is the keyspace's row */
};
static inline bool kv_job_has_ended(const struct kv_job *j)
{
    return j->state >= KV_JOB_DONE;
}
const char *kv_job_kind_text(enum kv_job_kind kind); /* "move", "split", .. */
bool kv_job_kind_parse(struct kv_slice text, enum kv_job_kind *out);
const char *kv_job_state_text(enum kv_job_state state); /* "queued", "running", .. */

void kv_job_encode(const struct kv_job *j, struct kv_buf *out); /* texts are cut to KV_JOB_TEXT_BYTES_MAX */
/* Slices point into the bytes or the arena. KV_MALFORMED, KV_TOO_BIG. */
enum kv_err kv_job_decode(struct kv_slice bytes, struct kv_arena *arena, struct kv_job *out);
#endif

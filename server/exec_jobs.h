#ifndef SERVER_EXEC_JOBS_H
#define SERVER_EXEC_JOBS_H
#include "client/wire/job.h"
#include "server/exec.h"

/* What partition 0 knows of jobs, as rows of its own range keyspace, by user key:
 *
 *   a/jobs      the board, little-endian: u64 the next id, u32 how many are open, u32 how many have ended,
 *               then a u64 for the id of each, open ones first, either kind in the order it came
 *   j/ID        an encoded Job
 *   j/on/WHAT   id of the one open job that changes p4 (a partition), n4 (a node), k4 (a keyspace), as digits
 *
 * queued -> running -> done | failed, by its runner; paused and resumed, cancelled, by people. What its runner
 * began is taken back first: cancelling -> cancelled. A runner claims a job and so raises its fence; steps under a lower one
 * are refused. Ids rise, and are never given again. */
#define EXEC_ROW_JOBS "a/jobs"
enum { EXEC_ROW_JOB_BYTES_MAX = 32,
       EXEC_BOARD_BYTES_MAX = 16 + 8 * (KV_JOBS_OPEN_MAX + KV_JOBS_ENDED_MAX) };
struct kv_slice exec_job_row(uint64_t id, char out[EXEC_ROW_JOB_BYTES_MAX]); /* "j/ID" */

struct exec_board {
    uint64_t next;
    uint64_t open[KV_JOBS_OPEN_MAX], ended[KV_JOBS_ENDED_MAX];
    uint32_t open_count, ended_count;
};
bool exec_board_decode(struct kv_slice row, struct exec_board *out); /* false: it does not parse */

/* For commands that begin or end jobs beside what else they do: load the board, change it, put it back. Each returns false where
 * the command has to stop: refused, failed, or only probing. */
struct exec;
bool exec_board_load(struct exec *x, struct exec_board *b);
bool exec_board_put(struct exec *x, const struct exec_board *b);
bool exec_job_load(struct exec *x, uint64_t id, struct kv_arena *arena, struct kv_job *out); /* one of the board's */
/* *id: of the open job on that partition ('p'), node ('n') or keyspace ('k'); 0: none. */
bool exec_job_on(struct exec *x, char what, uint32_t number, uint64_t *id);
bool exec_job_open(struct exec *x, struct exec_board *b, struct kv_job *j); /* gives it its id */
/* `j->note`, `error` and the rest of it as they are to be. */
bool exec_job_end(struct exec *x, struct exec_board *b, struct kv_job *j, enum kv_job_state state);
#endif

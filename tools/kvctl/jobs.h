#ifndef KVCTL_JOBS_H
#define KVCTL_JOBS_H
#include "client/wire/job.h"
#include "tools/kvctl/kvctl.h"

/* What commands that are jobs share with `kvctl job`. The arena holds what comes out. */
/* EXIT_OK: *out is the job, or the same one that was there already. */
int jobs_begin(struct kvctl *k, const struct kv_job *wanted, struct kv_arena *arena, struct kv_job *out);
/* Until it has ended, or --timeout. EXIT_OK: done; EXIT_TIMEOUT, EXIT_CONDITION ..: said why. */
int jobs_wait(struct kvctl *k, uint64_t id, struct kv_arena *arena, struct kv_job *out);
/* The job of that kind on a keyspace or a node (drop, alter, drain) that is open or ended last; id 0: none. */
int jobs_find(struct kvctl *k, enum kv_job_kind kind, uint32_t number, struct kv_arena *arena, struct kv_job *out);
int jobs_print(struct kvctl *k, const struct kv_job *j); /* one, as `job show` does */
#endif

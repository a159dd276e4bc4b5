#ifndef SERVER_JOBS_H
#define SERVER_JOBS_H
#include "client/wire/job.h"
#include "server/node.h"

/* Jobs (exec_jobs.h) are run by the node that leads partition 0. It claims each, does what the partitions' descriptors lack yet, and
 * ends it when they show it; so a successor claims what is open, under a higher fence, and goes on. What a runner asks for names
 * what it was planned on (an epoch), so that of a deposed one nothing takes effect twice or late. Data traffic never waits for any of it. */
struct jobs *jobs_create(struct worker *w); /* NULL: out of memory */
void jobs_destroy(struct jobs *jobs);
void jobs_changed(struct worker *w); /* rows of partition 0 did: they are looked at with the next tick */
void jobs_tick(struct worker *w, uint64_t now_ns);

/* Asks for a job of the coordinator's own, once: `kind`, what it is about, and `reason`. One that is there already, or that cannot be
 * now, is left to the next look; so are the rest when there is no room. Without `to` and `from` of moves: as struct kv_job says. */
void jobs_open(struct worker *w, const struct kv_job *wanted);
/* Where this node runs jobs: one is open on that partition. */
bool jobs_are_on(const struct worker *w, uint32_t partition);
bool jobs_is_paused(const struct worker *w, enum kv_job_kind kind, uint32_t number); /* a drain, by node; an alteration, by keyspace */

/* JOBSET that would take back what cannot be any more, a drain that could not end. True: it has been refused. */
struct request;
bool jobs_refuse(struct request *r);
/* KVLEFT: replicas of a keyspace that this node still has. */
uint32_t jobs_left(const struct worker *w, uint32_t keyspace);
#endif

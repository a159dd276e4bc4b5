#ifndef SIM_MUTANT_H
#define SIM_MUTANT_H
#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The planted bugs. `make mutants` builds everything once more with this header in front of
 * each file; the environment variable KVD_MUTANT then names the one that lives. A name that is
 * used in the code and not listed here does not compile.
 * X(name, what its author forgot) */
#define MUTANTS(X)                                                                                      \
    X(absorb_without_one, "a merge does not wait for one replica of the right side")                    \
    X(ack_before_sync, "a follower acknowledges an append that is not on its disk yet")                 \
    X(absorb_own_epoch, "a merge goes on from the left side's range epoch, whatever the right's was")   \
    X(append_not_synced, "the log is written and not synced before it is acknowledged")                 \
    X(bounded_unconfirmed, "a follower answers bounded reads without asking how far it must be")        \
    X(checkpoint_ahead_of_log, "a checkpoint does not wait until its entries are durable in the log")   \
    X(checksum_skipped, "recovery believes a batch whose checksum is wrong")                            \
    X(commit_before_own_sync, "a leader counts itself before its own entry is durable")                 \
    X(commit_old_term, "entries of an earlier term are committed by counting (figure 8)")               \
    X(conf_half_applied, "a descriptor is applied and the core not told of its members")                \
    X(credit_across_truncation, "a sync that is late counts for entries put in place since (ABA)")      \
    X(dedup_not_asked, "a retried write is executed once more")                                         \
    X(hard_state_recycled, "a log segment is recycled with the only copy of a vote")                    \
    X(id_given_twice, "the next node that joins gets the id of the one before")                         \
    X(install_forgets_term, "an installed snapshot's term is not written with it")                      \
    X(install_over_old_rows, "a snapshot is installed over the rows that were there")                   \
    X(job_done_early, "a move is called done while its learner is only copying")                        \
    X(job_target_shared, "a job is opened on a partition that another one changes")                     \
    X(lease_by_old_clock, "a lease is judged by the time of the last tick, not of the read")            \
    X(lease_from_answer, "a lease counts from the answer to a heartbeat, not from before it was sent")  \
    X(lease_kept_in_hand_over, "a leader that hands over keeps its lease")                              \
    X(lease_while_quiet, "a quiet leader reads as if it were still followed")                           \
    X(maybe_said_no, "a write given up after it was proposed is said not to be applied")                \
    X(move_in_one_step, "a replica is swapped at once, before the new one caught up and without joint") \
    X(read_before_own_term, "a new leader reads before an entry of its term is committed")              \
    X(read_unconfirmed, "a ReadIndex is answered without asking a quorum: a deposed leader reads")      \
    X(read_without_lease, "a leader reads whether its lease holds or not")                              \
    X(snapshot_wrong_index, "a snapshot says one entry more than it holds")                             \
    X(split_keeps_right, "a split's parent goes on with its whole range")                               \
    X(tail_trusted, "what recovery found behind the last proven sync is taken for synced")              \
    X(truncation_dropped, "a follower does not cut off what its leader does not have")                  \
    X(truncation_not_logged, "a truncation is done in memory and not written to the log")               \
    X(ttl_by_local_clock, "a replica whose own clock is far ahead applies by that, not by the stamp")   \
    X(vote_for_any_log, "a vote is given to a candidate whose log lacks entries")                       \
    X(vote_not_persisted, "a vote is answered but never written")                                       \
    X(write_across_split, "what was proposed before a split takes effect behind it")

enum mutant {
#define X(name, text) MUTANT_##name,
    MUTANTS(X)
#undef X
        MUTANT_COUNT
};

/* Which lives, -1 for none; an unknown name ends the program. */
static inline int mutant_alive(void)
{
    static int alive = -2; /* read once: this build is never shipped */
    if (alive != -2) return alive;
    const char *name = getenv("KVD_MUTANT");
    alive = -1;
    if (name == NULL || name[0] == '\0') return alive;
#define X(mutant, text) \
    if (strcmp(name, #mutant) == 0) alive = MUTANT_##mutant;
    MUTANTS(X)
#undef X
    assert(alive >= 0);
    return alive;
}
#define MUTANT(name) (mutant_alive() == MUTANT_##name)
#endif

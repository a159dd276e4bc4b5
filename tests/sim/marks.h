#ifndef SIM_MARKS_H
#define SIM_MARKS_H
#include <stdbool.h>
#include <stdint.h>

/* Coverage marks: branches that a sweep must have taken, told by the events of the nodes'
 * journals (and "joint" and "checkpoint" by the checks). Those with a topic are moments:
 * right after one a fault hurts most, and a swarm may lie in ambush there.
 * X(name, event, topic) */
#define SIM_MARKS(X)                             \
    X(LEADER, "leader", ELECTION)                \
    X(CANDIDATE, "candidate", ELECTION)          \
    X(PRECANDIDATE, "precandidate", NONE)        \
    X(GRANT, "grant", ELECTION)                  \
    X(REFUSE, "refuse", NONE)                    \
    X(BOUND, "bound", NONE)                      \
    X(NO_QUORUM, "no-quorum", NONE)              \
    X(PEER_CLOSED, "peer-closed", NONE)          \
    X(TRANSFER, "transfer", HAND_OVER)           \
    X(HAND_OVER, "hand-over", HAND_OVER)         \
    X(COMMIT, "commit", LOG)                     \
    X(TRUNCATE, "truncate", LOG)                 \
    X(CONFLICT, "reject", LOG)                   \
    X(SNAPSHOT, "snapshot", NONE)                \
    X(SENT, "snapshot-sent", NONE)               \
    X(RECEIVED, "snapshot-received", SNAPSHOT)   \
    X(INSTALLED, "snapshot-installed", SNAPSHOT) \
    X(REFUSED, "snapshot-refused", NONE)         \
    X(RESUMED, "install-resumed", SNAPSHOT)      \
    X(LOST, "replica-lost", NONE)                \
    X(MEMBER, "member-change", MEMBERS)          \
    X(JOINT, "joint", MEMBERS)                   \
    X(QUIET, "quiet", REST)                      \
    X(WOKEN, "woken", REST)                      \
    X(BORN, "born", MEMBERS)                     \
    X(DIVIDED, "split", NONE)                    \
    X(VOID, "birth-void", NONE)                  \
    X(LATE, "born-late", MEMBERS)                \
    X(WAITS, "snapshot-waits", NONE)             \
    X(LEAVES, "replica-leaves", MEMBERS)         \
    X(LEFT, "replica-left", MEMBERS)             \
    X(FROZEN, "frozen", MERGE)                   \
    X(UNFROZEN, "unfrozen", MERGE)               \
    X(ABSORBED, "absorbed", MERGE)               \
    X(VOIDED, "merge-void", MERGE)               \
    X(RESOLVES, "merge-resolve", MERGE)          \
    X(EVICTED, "evicted", MERGE)                 \
    X(GONE, "gone", NONE)                        \
    X(SHAPED, "shaping", MEMBERS)                \
    X(PLACEMENT, "placement", PLACEMENT)         \
    X(JOB_CLAIMED, "job-claimed", PLACEMENT)     \
    X(JOB_END, "job-end", PLACEMENT)             \
    X(NODES, "nodes", PLACEMENT)                 \
    X(JOINED, "joined", PLACEMENT)               \
    X(JOIN_AGAIN, "join-again", NONE)            \
    X(REMOVED, "removed", NONE)                  \
    X(CHECKPOINT, "checkpoint", LOG)             \
    X(CONF, "conf", MEMBERS)                     \
    X(DEDUP, "dedup-hit", NONE)                  \
    X(CLOCK, "clock-entry", NONE)                \
    X(LEASE, "lease-missed", NONE)               \
    X(STALLED, "append-stalled", LOG)            \
    X(DROP, "drop", NONE)                        \
    X(DAMAGE, "damage", NONE)                    \
    X(UNSOUND, "replica-not-intact", NONE)       \
    X(POISONED, "poisoned", NONE)
enum sim_topic {
    SIM_TOPIC_ELECTION,
    SIM_TOPIC_HAND_OVER,
    SIM_TOPIC_LOG,
    SIM_TOPIC_SNAPSHOT,
    SIM_TOPIC_MEMBERS,
    SIM_TOPIC_REST,
    SIM_TOPIC_MERGE,
    SIM_TOPIC_PLACEMENT,
    SIM_TOPIC_NONE /* the last: how many there are */
};
enum sim_mark {
#define X(name, event, topic) SIM_MARK_##name,
    SIM_MARKS(X)
#undef X
        SIM_MARK_COUNT
};
const char *sim_mark_text(enum sim_mark m);
enum sim_topic sim_mark_topic(enum sim_mark m); /* NONE: no moment */
/* SIM_MARK_COUNT: none of ours. */
enum sim_mark sim_mark_find(const char *event);
#endif

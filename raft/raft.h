#ifndef RAFT_H
#define RAFT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The consensus core (Ongaro and Ousterhout, "In Search of an Understandable
 * Consensus Algorithm"; Ongaro's dissertation for pre-vote 9.6, transfer 3.10, joint
 * consensus 4.3, reads 6.4): a pure function of (state, input). It performs no I/O,
 * reads no clock, calls no allocator and owns no entry bytes: it knows the log only
 * as runs of (term, count). Same inputs, same outputs, on every machine.
 *
 * The owner's loop: step, tick, propose, read_index ...; then while raft_ready() is
 * true: take the ready, raft_advance(). Persistence may be asynchronous: several
 * readies may be under way; raft_durable() and raft_applied() report progress. */
struct raft;
typedef uint64_t raft_index; /* 1-based; 0 means none */
typedef uint64_t raft_term;  /* 0 means none */
typedef uint32_t raft_id;    /* a replica id, never reused (R4); 0 means none */

enum {
    RAFT_MEMBERS_MAX = 16,
    RAFT_WINDOW_MAX = 4096,       /* entries in flight per follower, at most */
    RAFT_INFLIGHT_MAX = 64,       /* append messages in flight per follower */
    RAFT_READY_MAX = 48,          /* messages in one ready; more come with the next */
    RAFT_READS_MAX = 64,          /* ReadIndex requests under way; more are RAFT_WINDOW_FULL */
    RAFT_UNCOMMITTED_MAX = 65536, /* entries a leader takes beyond its commit; more are RAFT_WINDOW_FULL */
    RAFT_RUNS_MAX = 128           /* runs kept; committed ones fold, overflow is RAFT_WINDOW_FULL (R18) */
};
enum raft_role { RAFT_FOLLOWER,
                 RAFT_PRECANDIDATE,
                 RAFT_CANDIDATE,
                 RAFT_LEADER };
enum raft_verdict { /* why an input was refused; the core never fails otherwise */
                    RAFT_OK,
                    RAFT_NOT_LEADER,
                    RAFT_WINDOW_FULL,
                    RAFT_CONF_PENDING, /* a configuration change is under way, or the inherited log is not yet applied */
                    RAFT_STALE         /* the message or the request is outdated; dropped */
};

struct raft_run { /* `count` consecutive entries, all of `term` */
    raft_term term;
    uint32_t count;
    bool is_conf; /* they change the configuration (R18) */
};

/* A joint configuration while old_count > 0: decisions need a majority of `voters` and
 * of `old`. Order is the descriptor's; it decides who campaigns first (R13). */
struct raft_conf {
    uint8_t voter_count, old_count, learner_count;
    raft_id voters[RAFT_MEMBERS_MAX], old[RAFT_MEMBERS_MAX], learners[RAFT_MEMBERS_MAX];
};
/* A voter at least; no id twice in a list; learners are no voters (but may be `old`, on
 * their way out); RAFT_MEMBERS_MAX members in all. Check before proposing: an applied
 * configuration that is not valid is an assert. */
bool raft_conf_is_valid(const struct raft_conf *c);

enum raft_msg_type {
    RAFT_PREVOTE,
    RAFT_PREVOTE_REPLY,
    RAFT_VOTE,
    RAFT_VOTE_REPLY,
    RAFT_APPEND,
    RAFT_APPEND_REPLY,
    RAFT_SNAPSHOT,
    RAFT_SNAPSHOT_REPLY,
    RAFT_HEARTBEAT,
    RAFT_HEARTBEAT_REPLY,
    RAFT_TIMEOUT_NOW,
    RAFT_READ,
    RAFT_READ_REPLY
};

struct raft_msg {
    enum raft_msg_type type;
    raft_id from, to;
    raft_term term;
    raft_index index;     /* APPEND: previous entry. VOTE: last entry. *_REPLY: matched, or, rejecting, the hint */
    raft_term index_term; /* term of the entry at `index` */
    raft_index commit;
    uint64_t context; /* READ, HEARTBEAT, APPEND: echoed back unchanged; HEARTBEAT 0: no answer wanted */
    bool reject;
    bool transfer;               /* VOTE: asked for by the old leader; overrides a lease promise (R2) */
    bool quiet;                  /* HEARTBEAT: be quiet with us; its REPLY: agreed */
    uint32_t entry_count;        /* APPEND: entries index+1 .. index+entry_count;   */
    uint32_t run_count;          /*   outbound: the caller fetches their bytes and may send fewer, see raft_sent();   */
    const struct raft_run *runs; /*   inbound: their terms, borrowed for the call.  */
};
/* APPEND_REPLY rejecting: `commit` is the `index` refused. HEARTBEAT_REPLY: `index` is
 * matched and durable, `commit` matched in memory. (PRE)VOTE_REPLY, TIMEOUT_NOW: `index` is what the
 * sender knows to be committed. Carry all fields of all types.
 * A ready holds at most one APPEND per peer: raft_sent() between ready and advance is
 * heeded by the next one.
 * SNAPSHOT outbound: the receiver needs one of at least `index`; the caller exports,
 * streams and installs it by its own means, the core waits (raft_snapshot_done).
 * RAFT_READ, RAFT_READ_REPLY: a follower's ReadIndex, forwarded to the leader.
 * HEARTBEAT_REPLY with context 0: nobody asked; a follower is quiet no more. */

struct raft_hard {
    raft_term term;
    raft_id vote;
    raft_index commit;
};

struct raft_read { /* serve once applied >= index; index 0: refused, ask again */
    uint64_t context;
    raft_index index;
};

struct raft_ready {    /* what to do now, in this order; borrowed until raft_advance() */
    uint64_t sequence; /* give it back to raft_durable() */
    bool hard_changed; /* 1. persist; a commit change alone is no change (R8), but for that of a configuration */
    struct raft_hard hard;
    raft_index truncate_from;    /* 2. drop index >= this; 0 = none */
    raft_index append_first;     /* 3. persist these entries: on a follower those of the */
    uint32_t append_count;       /*    APPEND just stepped, on a leader those proposed */
    bool must_sync;              /* 1-3 hold something: raft_durable() is awaited */
    const struct raft_msg *send; /* now */
    uint32_t send_count;
    const struct raft_msg *send_durable; /* after 1-3 are durable; copy them before raft_advance() (R18) */
    uint32_t send_durable_count;
    raft_index apply_first, apply_last; /* committed; apply in order; 0,0 = none */
    const struct raft_read *reads;
    uint32_t read_count;
    bool role_changed; /* role, leader or term below are new */
    enum raft_role role;
    raft_id leader;
};

struct raft_options {
    raft_id id;
    uint64_t election_ns;       /* each election waits a random time in [election, 2 x election) */
    uint64_t heartbeat_ns;      /* < election / 3 */
    uint64_t lease_ns;          /* promise made with each heartbeat or append acknowledgement; <= election */
    uint64_t quiet_ns;          /* a leader asks for quiet after so long with nothing to do; 0: it never does, nor agrees */
    uint64_t stagger_ns;        /* k-th voter waits k times this after a known death (R13) */
    uint32_t drift_ppm;         /* bound on the rate error of any clock in the group */
    uint32_t window_entries;    /* unacknowledged entries per follower; <= RAFT_WINDOW_MAX */
    uint32_t batch_entries;     /* entries per append message, at most */
    uint64_t seed;              /* election jitter, ids of reads; different on every node and at every start */
    bool prevote, check_quorum; /* both true in production; false only in transcripts of the bare algorithm */
    void (*trace)(void *context, const char *event, uint64_t a, uint64_t b);
    void *trace_context; /* trace must not call back into the core */
};
struct raft_boot { /* what storage recovered */
    struct raft_hard hard;
    struct raft_conf conf;     /* as of `applied` */
    raft_index snapshot_index; /* compaction point: entries <= this are gone */
    raft_term snapshot_term;
    raft_index applied;
    const struct raft_run *runs; /* entries after the compaction point */
    uint32_t run_count;
    /* No promise to a leader can be outstanding, so the silence of one lease after a restart
     * (R2) is not needed: first start ever, or a group that never had a second member. */
    bool fresh;
    /* Its log was given up for a snapshot that never became whole: with no log it waits for one of at least
     * that index (R11). It votes as one that holds it, for entries it had acknowledged may be committed; it
     * neither campaigns nor takes entries. 0, 0: none. */
    raft_index owed_index;
    raft_term owed_term;
};

/* What is wrong with them, for people; NULL: nothing. raft_init() asserts that. */
const char *raft_options_fault(const struct raft_options *o);
/* Whether what storage recovered can be: a replica that cannot is corrupt (R4). Likewise. */
const char *raft_boot_fault(const struct raft_boot *b);
size_t raft_memory(void); /* bytes; the only memory ever used */
struct raft *raft_init(void *memory, const struct raft_options *o, const struct raft_boot *b, uint64_t now_ns);

/* Time is an input (monotonic ns, R1); the core reads no clock. */
void raft_tick(struct raft *r, uint64_t now_ns);
uint64_t raft_deadline(const struct raft *r); /* when raft_tick() has something to do next */
/* A follower's APPEND: on RAFT_OK the caller looks at the next ready for what to persist. */
enum raft_verdict raft_step(struct raft *r, const struct raft_msg *m, uint64_t now_ns);
enum raft_verdict raft_propose(struct raft *r, uint32_t count, bool is_conf, raft_index *first, uint64_t now_ns);
enum raft_verdict raft_read_index(struct raft *r, uint64_t context, uint64_t now_ns);
/* target 0: the most advanced. While under way (an election timeout at most) proposals are
 * RAFT_WINDOW_FULL. Once the target was told, the lease is gone for the rest of the term, also
 * if the transfer fails: reads go by ReadIndex then. */
enum raft_verdict raft_transfer(struct raft *r, raft_id target, uint64_t now_ns);
/* Asks for votes at once, for a group just born, on the node that led its parent: as far as it knows there is no leader
 * to disturb. Promises hold; nothing happens where it may not campaign or knows a leader. */
void raft_campaign(struct raft *r, uint64_t now_ns);
bool raft_lease_held(const struct raft *r, uint64_t now_ns); /* ask after the value is copied out; implies own-term commit */
/* The connection to its node is gone. `after_ns`: wait so much longer before campaigning, so that not all groups
 * which that node led do at once. */
void raft_peer_closed(struct raft *r, raft_id peer, uint64_t after_ns, uint64_t now_ns);

/* Quiet groups (quiet.c). Of a leader: nothing of the owner's needs this group awake; once nothing of the core's does
 * either, for quiet_ns, its followers are asked to be quiet, and when all are it sends nothing any more. The owner sees
 * to it that the node of each member is heard, calls raft_peer_closed() when one is not, on leader and follower, and
 * lets a follower agree only while it hears the leader's node. */
void raft_rest(struct raft *r, uint64_t now_ns);
bool raft_is_quiet(const struct raft *r); /* raft_tick() has nothing to do, until something else is called */
/* Something is wrong, or to be done, that the core does not see: a follower asks its leader for a sign of life. */
void raft_wake(struct raft *r, uint64_t now_ns);
/* All groups of this node send their heartbeats now, in one turn: so does this one, where the last was not just sent.
 * False: to nobody. */
bool raft_beat(struct raft *r, uint64_t now_ns);

bool raft_ready(struct raft *r, struct raft_ready *out); /* false: nothing to do */
void raft_advance(struct raft *r);                       /* the ready was taken */
/* From memory what the calls above look at, and as many peers; and what raft_propose() does: a node meets another group each time. */
void raft_prefetch(const struct raft *r, uint32_t peers);
void raft_prefetch_propose(const struct raft *r);
void raft_durable(struct raft *r, uint64_t sequence); /* 1-3 of it, and of all before */
void raft_applied(struct raft *r, raft_index index);
void raft_conf_applied(struct raft *r, const struct raft_conf *c); /* while applying its entry, before raft_applied */
void raft_compacted(struct raft *r, raft_index index);             /* entries <= index are gone; index <= applied */
/* A snapshot was installed durably in place of the whole log. Only if raft_needs_snapshot()
 * says so, asked before the install began; no APPEND may be stepped in between, or entries
 * already promised would be lost (an assert). */
bool raft_needs_snapshot(const struct raft *r, raft_index index, raft_term term);
void raft_restored(struct raft *r, raft_index index, raft_term term, const struct raft_conf *c, uint64_t now_ns);
/* Outbound APPEND to `peer` carried only `sent` of its entry_count entries (byte limits). */
void raft_sent(struct raft *r, raft_id peer, raft_index first, uint32_t sent);
void raft_unreachable(struct raft *r, raft_id peer);            /* a message to it was dropped, or is held back */
void raft_snapshot_done(struct raft *r, raft_id peer, bool ok); /* streaming ended; ok: it reported installed */
/* Poison, shutdown: give up lease and leadership for good; the most advanced voter is told by
 * TIMEOUT_NOW. A shutting-down caller goes on for a moment, so that its vote helps; a poisoned
 * one makes nothing durable any more, so nothing that waits for that leaves. */
void raft_yield(struct raft *r, uint64_t now_ns);

struct raft_peer_status {
    raft_id id;
    bool voter, learner, active; /* active: heard from within the election timeout, or quiet */
    bool snapshot;               /* waits for a snapshot */
    raft_index match, next;
    uint64_t heard_ns; /* when an answer last arrived */
};
struct raft_status {
    enum raft_role role;
    raft_id id, leader, vote;
    raft_term term;
    raft_index commit, applied, last, compacted;
    bool lease_held, transferring, conf_pending, quiet;
    struct raft_conf conf;
    struct raft_peer_status peers[RAFT_MEMBERS_MAX]; /* a leader's view */
    uint8_t peer_count;
};
void raft_status(const struct raft *r, uint64_t now_ns, struct raft_status *out);
raft_term raft_term_now(const struct raft *r);
enum raft_role raft_role_now(const struct raft *r);
raft_id raft_leader_now(const struct raft *r);
raft_index raft_owed_now(const struct raft *r); /* the snapshot it waits for; 0: none */
const char *raft_role_text(enum raft_role role);
const char *raft_msg_text(enum raft_msg_type type);

void raft_check(const struct raft *r); /* asserts every invariant; the simulator calls it each step */
#endif

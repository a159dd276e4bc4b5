#ifndef RAFT_INTERNAL_H
#define RAFT_INTERNAL_H
#include "raft/raft.h"

#ifndef MUTANT /* planted bugs; client/base/mutant.h tells */
#define MUTANT(name) false
#endif

/* Private to raft/. Who tells which story:
 *
 *   raft.c       the frame: init, tick, step, ready and advance, durability
 *   runs.c       the log as runs of (term, count)
 *   conf.c       members, quorums, the configuration in force
 *   elect.c      roles, timers, votes, transfer
 *   replicate.c  the leader: progress of each peer, commit
 *   follow.c     the follower: appends, heartbeats, snapshots
 *   read.c       rounds, the lease, ReadIndex
 *   quiet.c      groups with nothing to do
 *   check.c      the invariants */

enum {
    RUNS_PER_MSG = 8,       /* runs one APPEND may carry; it is cut short of more */
    DURABLE_QUEUE_MAX = 32, /* messages that wait for a sync; more are dropped, as a network may */
    HELD_MAX = 16,          /* answers that wait for a ready already handed out; likewise */
    UNSYNCED_MAX = 32,      /* readies awaited one by one; later ones share the last record */
    ROUNDS_MAX = 64         /* rounds whose start time is remembered */
};
/* No honest log gets here; a message beyond is dropped, so that sums never overflow. */
#define RAFT_LIMIT (UINT64_C(1) << 62)
#define RAFT_NEVER UINT64_MAX

/* ---- runs.c ---------------------------------------------------------------- */
struct span { /* entries first .. (next span's first, or last + 1) - 1 */
    raft_index first;
    raft_term term;
    bool is_conf;
};
struct runs {
    raft_index base; /* the compaction point: entries <= base are unknown but for base's term */
    raft_term base_term;
    raft_index base_conf; /* the last configuration change known to be at or below base */
    raft_index last;
    uint32_t count;
    struct span spans[RAFT_RUNS_MAX];
};
void runs_init(struct runs *l, raft_index base, raft_term base_term);
bool runs_append(struct runs *l, const struct raft_run *run); /* false: no room */
uint32_t runs_room(const struct runs *l);                     /* spans that still fit */
void runs_truncate(struct runs *l, raft_index from);          /* from > base */
void runs_compact(struct runs *l, raft_index index);          /* base <= index <= last */
void runs_fold(struct runs *l, raft_index commit,
               uint32_t room);                               /* compacts committed spans to make room */
raft_term runs_term(const struct runs *l, raft_index index); /* 0: unknown */
raft_term runs_last_term(const struct runs *l);
/* Up to `count` entries from `first` on as at most `out_max` runs; returns the entries covered. */
uint32_t runs_slice(const struct runs *l, raft_index first, uint32_t count, struct raft_run *out,
                    uint32_t out_max, uint32_t *out_count);
/* The first index from which `runs`, starting at `first`, differ from the log or go beyond it. */
raft_index runs_differ(const struct runs *l, raft_index first, const struct raft_run *runs,
                       uint32_t run_count);
/* The largest index <= `index` whose term is <= `term`: where two logs may still agree. */
raft_index runs_back_up(const struct runs *l, raft_index index, raft_term term);
/* The last entry in (after, upto] that changes the configuration; 0: none. */
raft_index runs_conf_last(const struct runs *l, raft_index after, raft_index upto);

/* ---- the core --------------------------------------------------------------- */
enum progress { PROGRESS_PROBE,
                PROGRESS_REPLICATE,
                PROGRESS_SNAPSHOT };
enum ballot { BALLOT_NONE,
              BALLOT_YES,
              BALLOT_NO };
enum tally { TALLY_OPEN,
             TALLY_WON,
             TALLY_LOST };

struct peer { /* one member, this replica included */
    raft_id id;
    enum ballot ballot; /* candidates */
    /* leaders */
    enum progress progress;
    raft_index match, next; /* the window is these two indices (R18) */
    raft_index commit_told;
    uint32_t inflight;            /* append messages sent and not answered */
    uint32_t inflight_after_beat; /* those of them sent after the last heartbeat */
    bool paused;                  /* PROBE: one message at a time; its answer resumes, or that to a heartbeat ... */
    uint64_t probe_round;         /* ... of a later round than this */
    bool verify;                  /* PROBE: ask even without entries to send */
    bool beat_due;
    bool agreed;         /* to be quiet, in answer to the round in which it was asked, or a later one */
    uint64_t beat_round; /* of the last heartbeat, and what had been sent before it */
    raft_index beat_last;
    uint64_t acked_round;   /* latest round answered in this term; 0 = none */
    uint64_t lease_from_ns; /* when that round began, by our clock; 0 = none */
    uint64_t heard_ns, sent_ns;
};
struct unsynced { /* a ready handed out whose raft_durable() is awaited */
    uint64_t sequence;
    raft_index last; /* what becomes durable; lowered by later truncations (R18) */
    raft_term term;  /* of its hard state; 0 = none in it */
};
struct pending_read {
    uint64_t context;
    uint64_t round; /* leader: the round that confirms it; follower: the batch; 0 = not sent yet */
    raft_index index;
    uint64_t asked_ns;
    raft_id from;
};

/* What every step looks at stands together, in front of the tables: a node has thousands of these, and meets another one with each
 * operation. */
struct raft {
    struct raft_options o;
    uint64_t now;    /* latest time seen */
    uint64_t random; /* state of the jitter */

    /* quiet groups */
    bool quiet;   /* no timer runs: as a leader all agreed, as a follower it did */
    bool resting; /* a leader's heartbeats ask for it, since rest_round */
    uint64_t rest_round, busy_ns;

    enum raft_role role;
    raft_term term;
    raft_id vote, leader;
    raft_index commit, applied;
    raft_index applying;   /* handed out to be applied: applied <= applying <= commit */
    raft_index durable;    /* our own log is on disk up to here */
    raft_index verified;   /* follower: equal to the leader's log up to here, in memory */
    raft_index owed_index; /* the snapshot its log was given up for; 0: none */
    raft_term owed_term;

    /* elections */
    uint64_t elect_at, timeout;
    uint64_t promise_until;  /* no vote before; also the silence after a restart (R2) */
    raft_term deferred_term; /* a TIMEOUT_NOW that waits for a configuration to be applied */
    bool yielded;

    /* leadership */
    bool lease_forfeited; /* for the rest of the term (R2) */
    bool notice_due;
    raft_id transferee;
    raft_index inherited; /* last index when elected: what lies above is of our term */
    uint64_t transfer_until, transfer_again;
    uint64_t notice_at;                   /* a commit not yet told travels alone from here on; RAFT_NEVER: none */
    uint64_t round, round_at, read_batch; /* round_at: when `round` began */

    /* what the next ready will hold */
    bool hard_dirty, role_dirty;
    uint32_t append_count;
    raft_index truncate_from, append_first;
    uint32_t send_count, send_durable_count, held_count, answer_count, run_pool_used;

    /* the ready handed out */
    bool taken;
    uint32_t unsynced_count;
    uint64_t sequence, durable_sequence, hard_sequence;
    raft_term durable_term;

    struct raft_ready out;
    uint32_t peer_count, reads_count;
    struct runs log; /* its head and first span, most logs have no other, end what stands together */
    struct raft_conf conf;
    struct peer peers[RAFT_MEMBERS_MAX];
    struct unsynced unsynced[UNSYNCED_MAX];
    uint64_t round_ns[ROUNDS_MAX];
    struct pending_read reads[RAFT_READS_MAX];
    struct raft_read answers[RAFT_READS_MAX];
    struct raft_msg send[RAFT_READY_MAX], send_durable[DURABLE_QUEUE_MAX];
    struct raft_msg held[HELD_MAX]; /* rest on a term or vote handed out and not yet durable */
    struct raft_run run_pool[RAFT_MEMBERS_MAX * RUNS_PER_MSG];
    struct raft_msg spill; /* what is written to a full queue lands here */
};

/* raft.c */
void raft_trace(const struct raft *r, const char *event, uint64_t a, uint64_t b);
void raft_commit_to(struct raft *r, raft_index index);
bool raft_unwritten(const struct raft *r); /* the next ready has something to persist */
/* Queue a message: now, or after the next ready is durable. A reply rests on our term and
 * vote and waits until they are durable. One about the log may rest on entries of the next
 * ready as well: then it `*waits` for it, else it must claim no more than is durable. */
struct raft_msg *raft_send(struct raft *r, enum raft_msg_type type, raft_id to);
struct raft_msg *raft_send_durable(struct raft *r, enum raft_msg_type type, raft_id to);
struct raft_msg *raft_reply(struct raft *r, enum raft_msg_type type, raft_id to);
struct raft_msg *raft_reply_log(struct raft *r, enum raft_msg_type type, raft_id to, bool *waits);
void raft_log_truncate(struct raft *r, raft_index from);
void raft_log_appended(struct raft *r, raft_index first); /* first .. last are new */

/* conf.c */
typedef uint64_t peer_value(const struct raft *r, const struct peer *p);
peer_value peer_match, peer_round, peer_lease, peer_heard;
struct peer *conf_peer(struct raft *r, raft_id id);
const struct peer *conf_peer_const(const struct raft *r, raft_id id);
bool conf_is_voter(const struct raft_conf *c, raft_id id);
bool conf_is_learner(const struct raft_conf *c, raft_id id);
bool conf_is_sole(const struct raft_conf *c, raft_id id);
uint64_t conf_quorum(const struct raft *r,
                     peer_value *value); /* reached by a quorum of each configuration */
enum tally conf_tally(const struct raft *r);
void conf_install(struct raft *r, const struct raft_conf *c);
bool conf_is_pending(const struct raft *r);

/* elect.c */
uint64_t raft_random(struct raft *r);
void elect_timer(struct raft *r);
void elect_tick(struct raft *r);
void elect_follow(struct raft *r, raft_term term, raft_id leader); /* become a follower */
void elect_tally(struct raft *r);
void elect_resume(struct raft *r); /* something was applied */
enum raft_verdict elect_asked(struct raft *r, const struct raft_msg *m);
enum raft_verdict elect_answered(struct raft *r, const struct raft_msg *m);
enum raft_verdict elect_timeout_now(struct raft *r, const struct raft_msg *m);
void elect_transfer_step(struct raft *r); /* the transferee caught up? */
void elect_hand_over(struct raft *r);     /* to the most advanced voter, if any is alive */

/* replicate.c */
void peer_reset(struct raft *r, struct peer *p);
void peer_probe(const struct raft *r, struct peer *p, bool paused);
void replicate_tick(struct raft *r);
void replicate_send(struct raft *r);
void replicate_commit(struct raft *r);
uint64_t replicate_deadline(const struct raft *r);
enum raft_verdict replicate_answered(struct raft *r, const struct raft_msg *m);
void replicate_farewell(struct raft *r); /* tell what is committed before stepping down */

/* follow.c */
bool follow_is_sane(const struct raft_msg *m);
enum raft_verdict follow_append(struct raft *r, const struct raft_msg *m);
enum raft_verdict follow_heartbeat(struct raft *r, const struct raft_msg *m);
enum raft_verdict follow_snapshot(struct raft *r, const struct raft_msg *m);

/* quiet.c */
void quiet_end(struct raft *r, bool tell);                  /* `tell`: the leader, who may not know */
void quiet_step(struct raft *r, const struct raft_msg *m);  /* before a message is looked at */
bool quiet_agree(struct raft *r, const struct raft_msg *m); /* a follower, asked */
void quiet_answered(struct raft *r, struct peer *p, const struct raft_msg *m);
bool quiet_is_sound(const struct raft *r); /* what holds while it is quiet, or asks */

/* read.c */
void round_begin(struct raft *r);
void round_acked(struct raft *r, struct peer *p, uint64_t round);
bool lease_is_live(const struct raft *r, uint64_t now_ns); /* whatever has been committed */
void read_flush(struct raft *r);
void read_confirm(struct raft *r);
void read_refuse(struct raft *r);
void read_expire(struct raft *r);
uint64_t read_deadline(const struct raft *r);
enum raft_verdict read_asked(struct raft *r, const struct raft_msg *m);
enum raft_verdict read_answered(struct raft *r, const struct raft_msg *m);
#endif

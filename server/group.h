#ifndef SERVER_GROUP_H
#define SERVER_GROUP_H
#include "raft/raft.h"
#include "server/node.h"

/* One replica of one partition: joins the raft core, the store and the links. It alone
 * calls the core. Invariants:
 * (1) Entries reach the log in the order of the core's readies.
 * (2) `applied` never passes what the core reported as committed.
 * (3) A proposal waits in `waiting`, ordered by index, until its index is applied. */
struct group_read; /* a linearizable read under way */

struct group_staged { /* entries on their way into the log */
    struct log_entry *entries;
    uint32_t count, capacity;
    uint64_t first;
    struct kv_buf bytes;
    size_t used; /* of the bytes, by entries */
};

struct group_scrub { /* scrub.c */
    uint64_t index;  /* to be hashed once applied; 0: none */
    raft_id asker;
    /* a leader's: what it asked for, and what came back */
    uint64_t term, next_ns, asked_ns, asked_index;
    uint32_t asked, answers;
    raft_id replicas[DESCRIPTOR_REPLICAS_MAX];
    uint64_t hashes[DESCRIPTOR_REPLICAS_MAX];
};

struct seat_told { /* what a sibling has told worker 0 of its replica (seats.h) */
    bool is_told, leads, is_stranded, serves, is_lasting;
    uint32_t leader, range_epoch, conf_epoch;
    uint64_t term;
};

/* What each write looks at stands together, in front: a node has thousands of these, and meets another one with each operation. */
struct group {
    struct worker *w;
    uint32_t id;
    raft_id replica;
    struct raft *raft;
    uint64_t life; /* number of this object in the worker, never used again */
    enum raft_role role;
    raft_id leader;
    bool dead;       /* being destroyed */
    bool is_gone;    /* no member any more: leave.c */
    bool installing; /* a snapshot is being installed: nothing else happens */
    bool fetching;   /* apply waits for log_fetch */
    bool is_dirty, settles;
    bool was_read;
    bool is_asked;                          /* the ReadIndex of `read_context` is not yet on its way: later reads share it */
    bool is_to_tell;                        /* other nodes are to know of it (map.c) */
    struct group *dirty_next, *settle_next; /* the next to be pumped, and settled */
    struct group_append *stalled;           /* the log had no room yet: nothing goes on before it is taken */

    struct group_staged *incoming;               /* entries of the APPEND being stepped */
    struct group_staged staged;                  /* proposals of this turn */
    struct request *waiting_head, *waiting_tail; /* PROPOSED, by index */
    struct request *reads_head, *reads_tail;     /* READING */
    struct request *acks_head;                   /* AWAITING (acks.c) */
    uint64_t astray_until;                       /* what waits up to that index was proposed behind a split; 0: nothing is */
    uint64_t apply_to;                           /* committed and handed to us */
    uint64_t applied, applied_term, clock_ms;
    struct clock_stamp stamp; /* of proposals (R14) */
    uint64_t lead_index;      /* our term's first entry; reads need it applied */
    raft_term lead_term;
    uint64_t clock_index;                     /* a CLOCK entry under way, 0 = none */
    uint64_t due_ns;                          /* raft_deadline(), as of the last pump */
    struct kv_key_rule rule;                  /* how its keys are encoded, from the descriptor */
    uint64_t hash;                            /* of every applied entry, in order */
    struct group *active_next, **active_link; /* rest.c: what ticks look at; NULL: not on that list */
    uint32_t appends_open;                    /* log_append under way */
    struct load load;
    struct group_scrub scrub;

    _Alignas(64) struct descriptor descriptor; /* its list lies in rule_memory; its front is met with each write */
    struct kv_arena rule_memory;
    struct raft_conf conf;

    uint64_t checkpointed;
    uint64_t described;              /* index of the entry that last changed its members; 0: one that was in a checkpoint when it was opened */
    uint64_t leader_since_ns;        /* or since it last tried to give that back (member.c) */
    uint64_t led_ns;                 /* since when it leads */
    uint64_t born_ns, campaigned_ns; /* of a child (birth.c); 0: long ago */
    uint64_t frozen_ns, resolve_ns;  /* FREEZE was applied here; a leader asks about the merge not before (merge.c) */
    uint64_t gone_ns;                /* 0, or when another node said that the group does not exist any more, */
    uint32_t gone_epoch;             /* and the range epoch of who has its keys */
    uint64_t leaderless_ns;          /* since when no leader is known; 0: one is */
    /* Who spoke last, and from where: a replica that is far behind knows no member that came
     * since, and has to answer it all the same. */
    raft_id heard_replica;
    uint32_t heard_node;

    struct group_fetch *sends; /* entries read back for peers, at most one run for each */
    bool evicting;             /* a snapshot is being installed for the sake of one of group `evictor` */
    uint32_t evictor;
    bool rowless; /* an install was interrupted: it votes, by the snapshot it owes itself, and waits for another (R11) */

    struct partition *at; /* in the node's map */
    struct seat_told seat_told;

    uint64_t read_context;
    uint64_t read_ns; /* a leader's last read, if it was not since the last heartbeat */
    /* What was acknowledged before recent_ns lies at or below recent_index: a leader said so since; 0: not known */
    uint64_t recent_ns, recent_index;

    /* membership (member.c), a leader's */
    bool lost[DESCRIPTOR_REPLICAS_MAX];    /* the replica said it is gone, or was told to be replaced */
    bool refused[DESCRIPTOR_REPLICAS_MAX]; /* a learner whose node would not take the snapshot */
    struct transfer *transfers;            /* snapshots being sent (transfer.c) */
};

/* Makes the replica that `store` recovered, `rowless` if an install was interrupted. KV_CORRUPT: its log is damaged, or descriptor and log contradict themselves
 * (journaled; such a replica stays away and gets a successor, R4). KV_NO_SPACE: memory. */
enum kv_err group_open(struct worker *w, const struct store_group *sg, bool fresh, struct group **out);
void group_close(struct group *g); /* frees; requests are answered */
/* Takes a new descriptor, with a copy of what it borrows. KV_MALFORMED: its list of labels; nothing has changed. */
enum kv_err group_describe(struct group *g, const struct descriptor *d);
void group_touch(struct group *g);                                  /* something changed: pump at the end of this turn */
void group_pump(struct group *g);                                   /* what the core has to say, to log and peers */
void group_settle(struct group *g);                                 /* applies what is committed, and serves who waited for that */
void group_prefetch(const struct worker *w, const struct group *g); /* what a turn looks at, from memory; NULL: nothing */
void group_prefetch_write(const struct group *g);                   /* likewise group_write() */
void staged_free(struct group_staged *s);
void append_spares_free(struct worker *w);
struct foresight *foresight_create(void); /* of a worker, for its groups in turn; NULL: out of memory. free() ends it */
void group_tick(struct group *g, uint64_t now_ns);
/* Its rows are not what was applied (R21): it neither serves nor votes from here on, durably, and is
 * gone at the end of the turn; the others give it a successor (R4). */
void group_corrupt(struct group *g, const char *what, uint64_t index);
void group_yield(struct group *g, uint64_t now_ns); /* poisoned, not intact: gives leadership away, for good (R15) */

/* Requests. Both answer at once, or keep the request (request_own). */
void group_write(struct group *g, struct request *r);
void group_read(struct group *g, struct request *r);
enum kv_err group_propose_descriptor(struct group *g, const struct descriptor *d);
enum kv_err group_propose_clock(struct group *g);

/* From the links. `entries`: bytes of an APPEND's entries. */
void group_step(struct group *g, const struct raft_msg *m, const struct log_entry *entries);
void group_peer_closed(struct group *g, uint32_t node, uint64_t after_ns);
void group_restored(struct group *g, uint64_t index, uint64_t term, uint64_t clock_ms, const struct descriptor *d);
void group_release_log(struct group *g, uint64_t index);

uint32_t group_node_of(const struct group *g, raft_id replica); /* 0: unknown */
uint32_t group_leader_node(const struct group *g);              /* 0: unknown */
bool group_leads(const struct group *g);
/* It hears too few of its voters to decide anything, or for longer than elections take of no leader: other
 * nodes may know better. */
bool group_is_out_of_touch(const struct group *g, uint64_t now_ns);
uint64_t group_time_ms(struct group *g); /* what a proposal made now would be stamped with */
void conf_from_descriptor(const struct descriptor *d, struct raft_conf *out);

/* apply.c: executes committed entries; on the proposer's node also answers them. They come decoded
 * (group_apply.c). False: it was not applied, and nothing may be behind it; the group is dead or the node poisoned. */
enum { APPLY_AHEAD_MAX = 8 };
struct apply_ahead {
    struct command command; /* in the worker's arena until the next look ahead */
    enum kv_err err;        /* of decoding it */
    bool has_key;
    struct kv_slice user_key; /* its first key, and that encoded */
    struct kv_key key;
    uint8_t sub[STORE_SUB_BYTES]; /* of its idempotency record, if it has a sequence */
};
bool apply_entry(struct group *g, uint64_t index, const struct log_entry *e, const struct apply_ahead *a,
                 struct request *waiting);
/* Runs a read on the applied state; false: it has to wait for a CLOCK entry first (R14). */
bool apply_read(struct group *g, struct request *r, struct kv_reply *reply);

/* acks.c: WAIT, at the leader. */
void acks_await(struct group *g, struct request *r); /* r->body: KVAWAIT index, replicas, wait ms */
void acks_serve(struct group *g, uint64_t now_ns);   /* after match indexes moved or time passed */
void acks_forget(struct group *g, struct request *r);
void acks_park(struct group *g); /* leadership is lost */

/* member.c: replicas that are lost get a new id: learner, joint, leave (R4). */
void member_tick(struct group *g, const struct raft_status *s);
void member_lost(struct group *g, raft_id replica);
void member_rowless(struct group *g, raft_id replica, uint64_t owed); /* it is there, and wants a snapshot */
void member_refused(struct group *g, raft_id replica);
struct request;
void member_move(struct group *g, struct request *r); /* KVMOVE and KVLEAD, at the leader */
bool member_wants(const struct group *g);             /* something is to be done about its members, or who leads */
void member_forget(struct group *g);                  /* what was seen of the replicas of an older configuration */
/* For the scrub: an entry that does nothing. */
enum kv_err group_propose_noop(struct group *g, uint64_t *index);
/* transfer.c: snapshots in chunks. */
void transfer_send(struct group *g, raft_id to);
void transfer_tick(struct group *g, uint64_t now_ns);
void transfer_close(struct group *g);
bool transfer_active(const struct group *g, raft_id to);
bool transfer_progress(const struct group *g, raft_id to, uint64_t *sent, uint64_t *total); /* bytes; false: none is on its way */
#endif

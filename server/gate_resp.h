#ifndef SERVER_GATE_RESP_H
#define SERVER_GATE_RESP_H
#include "client/base/key.h"
#include "client/base/op.h"
#include "client/wire/resp.h"
#include "server/gate.h"

/* What the files of the Redis front door share:
 *
 *   gate_resp.c          feed(), which command goes where, what may not overtake what
 *   gate_resp_parse.c    bytes to arguments
 *   gate_resp_ring.c     replies in the order of the requests
 *   gate_resp_error.c    kv_reply errors as Redis errors
 *   gate_resp_local.c    commands about the connection: PING, HELLO, AUTH ..
 *   gate_resp_user.c     who a connection is, and the keyspace that binds it to; ACL
 *   gate_resp_client.c   CLIENT
 *   gate_resp_node.c     commands about the node: CONFIG, INFO, TIME, BGSAVE, WAIT
 *   gate_resp_cluster.c  CLUSTER, READONLY ..; what the cluster face moves, and what it refuses
 *   gate_resp_command.c  COMMAND */
enum {
    RESP_COMMAND_BYTES_MAX = 15 << 20, /* a whole command: it must fit into one frame to be forwarded */
    RESP_BULK_BYTES_MAX = 512 << 20,   /* longer announcements are a protocol error, as in Redis */
    RESP_INLINE_BYTES_MAX = 64 << 10,
    RESP_STRANGER_ARGS_MAX = 10, /* before authentication, as in Redis */
    RESP_STRANGER_BYTES_MAX = 16 << 10,
    RESP_BULK_SLACK_BYTES = 1 << 10, /* over limit.value: refused by the command, not by the parser */
    RESP_RING_MAX = 1 << 16,         /* requests and local replies not yet sent */
    RESP_BUCKETS = 256,
    RESP_NAME_BYTES = 128,
    RESP_WAIT_MS_MAX = 60 * 1000 /* WAIT with 0, or longer: for ever is not offered */
};

/* ---- parser ---- */
struct resp_span {
    size_t offset, size; /* from the command's first byte */
};
struct resp_parser {
    struct resp_span *spans;  /* owned */
    struct kv_slice *args;    /* owned; legal after RESP_PARSED */
    uint32_t capacity, count; /* count: arguments read so far, then of the command */
    uint32_t want;            /* arguments announced; 0: at the start of a command */
    size_t at;                /* bytes of the command looked at */
    struct kv_buf words;      /* an inline command's words, unquoted */
    /* A command that is refused unread: what is left of it is consumed as it comes. */
    bool discarding;
    uint64_t discard_bytes; /* of the argument being skipped, its line end included */
    char error[160];        /* of RESP_REFUSED and RESP_BROKEN, without the '-' */
};
struct resp_limits {
    bool is_stranger; /* not authenticated */
    uint32_t value_bytes_max;
};
enum resp_parsed {
    RESP_PARSED,  /* parser->args, parser->count; the command has parser->at bytes */
    RESP_NOTHING, /* an empty command of parser->at bytes, to be skipped */
    RESP_MORE,    /* not whole yet; *consumed bytes are not needed again */
    RESP_REFUSED, /* a command was skipped whole: answer parser->error; *consumed as RESP_MORE */
    RESP_BROKEN   /* answer parser->error and close */
};
/* `in` starts at a command, or, after RESP_MORE, *consumed bytes behind where it started then. */
enum resp_parsed resp_parse(struct resp_parser *p, const struct resp_limits *limits, struct kv_slice in,
                            size_t *consumed);
void resp_parser_reset(struct resp_parser *p); /* for the next command */
void resp_parser_free(struct resp_parser *p);

/* ---- replies in order ---- */
enum resp_track { RESP_TRACK_NONE,
                  RESP_TRACK_BUCKET,
                  RESP_TRACK_ALL };
struct resp_slot { /* one command not yet answered on the wire; small, since thousands are */
    bool is_done, is_silent, is_write;
    uint8_t protocol; /* 2 or 3, as of the command */
    uint8_t track;    /* enum resp_track */
    uint8_t bucket;
    uint8_t brief_size, brief[9]; /* its reply, while it waits for those before it, if it is short: "+OK" */
};
struct resp_pending { /* commands under way, by hash of the key: false alarms only */
    uint32_t total, all;
    uint16_t buckets[RESP_BUCKETS];
};
enum resp_reply_mode { RESP_REPLY_ON,
                       RESP_REPLY_OFF,
                       RESP_REPLY_SKIP,
                       RESP_REPLY_SKIPPING };

/* What a connection has written, for WAIT: the last index in each partition's log. */
enum { RESP_MARKS_MAX = 16 };
struct resp_marks {
    uint32_t partitions[RESP_MARKS_MAX];
    uint64_t indexes[RESP_MARKS_MAX];
    uint32_t count;
    bool all; /* too many partitions, or an unknown one */
};

struct resp_conn { /* gate->state */
    struct resp_parser parser;
    struct resp_slot *ring; /* owned; slot of id i: ring[i & (capacity - 1)] */
    struct kv_buf *held;    /* owned, likewise: replies waiting for those before them, but brief ones */
    uint32_t capacity;
    uint64_t head, tail; /* ids: oldest unanswered, next */
    size_t held_bytes;   /* of replies waiting in the ring */
    struct resp_pending reads, writes;
    struct resp_marks marks;
    struct kv_buf scratch; /* of a local reply */
    uint8_t protocol;
    uint32_t keyspace; /* SELECT */
    uint32_t bound;    /* the keyspace that the user is bound to, 0: none; it is `keyspace` then */
    enum resp_reply_mode mode;
    bool is_authenticated;
    char user[KV_NAME_BYTES_MAX + 1], bound_name[KV_NAME_BYTES_MAX + 1];
    uint64_t user_mark; /* what gate_services.user_is_current() is asked with */
    bool is_face;       /* the cluster face: MOVED instead of proxied */
    bool is_readonly;   /* there: reads of level `any` */
    /* AUTH, or HELLO with it, under way: nothing is taken until it is answered. */
    bool auth_pending, auth_is_hello;
    uint64_t auth_id;
    uint8_t hello_protocol;
    bool hello_names;
    char hello_name[RESP_NAME_BYTES];
    char name[RESP_NAME_BYTES], lib_name[RESP_NAME_BYTES], lib_version[RESP_NAME_BYTES];
    const char *command; /* the last one, static; NULL: none yet */
    uint64_t active_ns;
};

static inline struct resp_conn *resp_conn(struct gate *g)
{
    return g->state;
}

/* Opens a slot for one command; *id names it. KV_BUSY: the ring is full or memory is out. */
enum kv_err resp_slot_open(struct resp_conn *c, bool is_write, uint64_t *id);
void resp_slot_cancel(struct resp_conn *c, uint64_t id); /* the newest one, not answered */
struct resp_slot *resp_slot(struct resp_conn *c, uint64_t id);
/* Answers a slot with a RESP3 value; what is then complete at the front goes out. */
void resp_slot_answer(struct gate *g, uint64_t id, struct kv_slice value);
void resp_slots_free(struct resp_conn *c);

/* Appends the reply's error as one Redis error line. On the cluster face whoever waited in vain for a leader or a
 * quorum is told what its clients know. */
void resp_error_of(const struct kv_reply *reply, bool is_write, bool on_face, struct kv_buf *out);

/* Submits a command about keys in its turn; request->id is set here. KV_BUSY: not now, try again later. */
struct kv_op_info;
enum kv_err resp_submit(struct gate *g, const struct kv_op_info *info, struct kv_request *request);
/* On the cluster face: true: submit it, at the level and with the scope set here; false: the answer
 * stands in the connection's scratch. */
bool resp_face_admits(struct gate *g, const struct kv_op_info *info, struct kv_request *request);

/* ---- users ---- */

/* The connection becomes this user's, in the keyspace that it is bound to. False: not; `out` says why. */
bool resp_user_enter(struct gate *g, const struct gate_user *who, struct kv_buf *out);
void resp_user_leave(struct gate *g); /* it is again as nobody has said anything */
/* False: it is bound to another keyspace, `out` says so. */
bool resp_user_may_select(const struct resp_conn *c, uint32_t keyspace, struct kv_buf *out);

/* ---- commands answered here ---- */
enum resp_ran {
    RESP_RAN,   /* the reply stands in `out` */
    RESP_LATER, /* a slot is open and will be answered */
    RESP_WAITS  /* not taken: try again when pending replies are out */
};
typedef enum resp_ran resp_run(struct gate *g, const struct kv_slice *a, uint32_t n, struct kv_buf *out);

/*   X(NAME, function, arity_min, arity_max, flags, group, since, summary)
 * arity counts the arguments behind the name. */
#define RESP_LOCAL_COMMANDS(X)                                                                     \
    X("PING", ping, 0, 1, "fast", "connection", "1.0.0", "Ping the server")                        \
    X("ECHO", echo, 1, 1, "fast", "connection", "1.0.0", "Echo the given string")                  \
    X("HELLO", hello, 0, -1, "fast", "connection", "6.0.0", "Handshake with Redis")                \
    X("AUTH", auth, 1, -1, "fast", "connection", "1.0.0", "Authenticate to the server")            \
    X("ACL", acl, 1, -1, "admin", "server", "6.0.0", "Who a connection is")                        \
    X("SELECT", select, 1, 1, "fast", "connection", "1.0.0", "Change the selected database")       \
    X("QUIT", quit, 0, -1, "fast", "connection", "1.0.0", "Close the connection")                  \
    X("RESET", reset, 0, 0, "fast", "connection", "6.2.0", "Reset the connection")                 \
    X("CLIENT", client, 1, -1, "admin", "connection", "2.4.0", "Inspect and control connections")  \
    X("COMMAND", command, 0, -1, "loading", "server", "2.8.13", "Details of the commands")         \
    X("INFO", info, 0, -1, "loading", "server", "1.0.0", "Information and statistics of the node") \
    X("CONFIG", config, 1, -1, "admin", "server", "2.0.0", "Get or set the node's configuration")  \
    X("BGSAVE", bgsave, 0, 1, "admin", "server", "1.0.0", "Begins a checkpoint of this node")      \
    X("TIME", time, 0, 0, "fast", "server", "2.6.0", "The node's wall clock")                      \
    X("WAIT", wait, 2, 2, "noscript", "generic", "3.0.0", "Followers that hold the writes so far") \
    X("CLUSTER", cluster, 1, -1, "", "cluster", "3.0.0", "Slots, nodes and which has which")       \
    X("READONLY", readonly, 0, 0, "loading stale fast", "cluster", "3.0.0",                        \
      "On the cluster face: reads of this connection may be answered by followers")                \
    X("READWRITE", readwrite, 0, 0, "loading stale fast", "cluster", "3.0.0", "Ends READONLY")     \
    X("ASKING", asking, 0, 0, "fast", "cluster", "3.0.0", "Accepted: ASK is never sent")
#define X(name, function, amin, amax, flags, group, since, summary) resp_run resp_run_##function;
RESP_LOCAL_COMMANDS(X)
#undef X

struct resp_command {
    const char *name;
    resp_run *run;
    int16_t arity_min, arity_max;
    const char *flags, *group, *since, *summary;
};
extern const struct resp_command resp_commands[];
extern const uint32_t resp_command_count;
const struct resp_command *resp_command_find(struct kv_slice name); /* NULL: none */

/* What several of them need. */
bool resp_word(struct kv_slice text, const char *upper);                              /* case-insensitive equality */
bool resp_integer(struct kv_slice text, int64_t *out, struct kv_buf *out_error);      /* else a Redis error */
void resp_bad_arity(struct kv_buf *out, const char *command, const char *subcommand); /* upper case; NULL: none */
void resp_bad_subcommand(struct kv_buf *out, const char *command, struct kv_slice word);
void resp_help(struct kv_buf *out, const char *command, const char *const *lines); /* NULL-terminated */
bool resp_name_set(char name[RESP_NAME_BYTES], struct kv_slice text);
#endif

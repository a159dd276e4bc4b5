#ifndef SERVER_GATE_H
#define SERVER_GATE_H
#include "client/base/buf.h"
#include "client/base/err.h"
#include "client/env/env.h"
#include "client/wire/message.h"

/* A gateway translates one client protocol to kv_request and back. It holds no
 * socket: the connection host (server/host.h) feeds it bytes, drains `out` and
 * enforces the limits on connections and output. Replies arrive in any order,
 * also inside submit(); a gate with `ordered` set (RESP) sends them in the order
 * of its requests, the native gate as they come. */
struct gate;
struct gate_services;

struct gate_ops {
    const char *name; /* "native", "resp" */
    bool ordered;
    size_t state_bytes; /* zeroed memory the host gives to each connection */
    enum kv_err (*open)(struct gate *g);
    /* Takes what it can from `in` and sets *consumed. KV_OK: all whole commands taken;
     * KV_BUSY: stopped early (a read behind a pending write, output or request limit),
     * the host calls again after the next reply or write with what was not consumed and
     * more, perhaps nothing; other errors: send `out`, then close. */
    enum kv_err (*feed)(struct gate *g, struct kv_slice in, size_t *consumed);
    void (*reply)(struct gate *g, const struct kv_reply *reply); /* reply->id: as submitted; borrowed for the call */
    void (*close)(struct gate *g);                               /* frees what state owns; later replies are dropped by the host */
};

struct gate {
    const struct gate_ops *ops;
    const struct gate_services *services;
    struct kv_buf *out; /* bytes for the peer; the host sends them at the end of the turn */
    void *state;
    uint64_t id; /* of the connection, never reused */
    struct env_addr peer, local;
    uint64_t opened_ns;
    bool is_stranger;  /* set by the gate while nobody has shown a right to be here: closed after a while */
    bool is_node;      /* set by the gate: what comes is of all its clients, and limited where they are */
    bool closing;      /* set by the gate: close when `out` is sent and nothing is pending */
    uint64_t commands; /* taken from the peer, counted by the gate */
    uint32_t pending;  /* requests submitted and not replied; kept by the host */
};

/* Who has what, as the node knows it now; for the cluster face. */
struct gate_owner {    /* of one hash slot of keyspace `default` */
    uint32_t leader;   /* node id; 0: none is known, or none that this node can reach */
    bool is_led_here;  /* or where clients who keep to who leads find it: its leader takes none (role gateway), this node stands in */
    bool is_held_here; /* a replica here can answer reads of level `any` */
};
struct gate_range { /* slots that always have one leader: a partition's */
    uint16_t first, last;
    uint32_t leader;                             /* the last one known, or who stands in for it; whether it can be reached or not; 0: unknown */
    uint64_t epoch;                              /* larger with each change of the leader; 0: unknown */
    uint32_t nodes[KV_REPLICAS_MAX], node_count; /* of the voters, the leader's among them */
};
struct gate_node {
    uint32_t id;
    const char *host;         /* where peers and clients find it; lives as long as the node */
    uint16_t native, cluster; /* ports; cluster 0: it has no such face */
    char name[41];            /* 40 hex digits, the same whoever is asked */
    bool is_self, is_connected;
};

struct gate_user {               /* who has shown a password */
    const char *name, *keyspace; /* the one that it is bound to; "": none. Borrowed for the call */
    uint64_t mark;               /* another one once anything about the user changes */
};
typedef void gate_authenticated(struct gate *g, enum kv_err err, const struct gate_user *user); /* user: NULL unless KV_OK */

/* What a gate may ask of the node. */
struct gate_services {
    struct env *env;
    void *node; /* struct worker */
    /* Starts a request; arguments are borrowed for the call. The reply may come inside the
     * call. KV_BUSY: over the connection's limit of open requests, stop reading. */
    enum kv_err (*submit)(struct gate *g, const struct kv_request *request);
    /* INFO sections, CONFIG names, node facts; text is appended to `out`. */
    void (*info)(void *node, bool on_cluster_face, const char *section, struct kv_buf *out);
    bool (*config_next)(void *node, uint32_t *cursor, const char **name, char value[256]);
    enum kv_err (*config_set)(void *node, struct kv_slice name, struct kv_slice value, const char **why);
    /* Every open connection of gates with this name; `each` returns false to stop. */
    void (*connections)(void *node, const char *gate_name, bool (*each)(void *context, struct gate *g), void *context);
    void (*kill)(void *node, struct gate *g); /* closes another connection after its output */
    bool (*auth_required)(void *node);
    /* Checks a password off the loop (R25). done may come inside the call; `g` may be gone:
     * then done is not called. KV_OK, KV_AUTH, KV_THROTTLED. */
    void (*auth)(struct gate *g, struct kv_slice user, struct kv_slice password, gate_authenticated *done);
    /* The user is still what it was when done() told its mark: there, with that password and that binding. */
    bool (*user_is_current)(void *node, struct kv_slice user, uint64_t mark);
    uint32_t (*replicas_connected)(void *node);
    uint32_t (*keyspace)(void *node, struct kv_slice name); /* id of a keyspace by name; 0: this node knows none */
    bool (*has_keyspace)(void *node, uint32_t id);
    void (*checkpoint)(void *node); /* begins one, or one more behind that under way */
    struct gate_owner (*owner)(void *node, uint16_t slot);
    /* Ranges in ascending order, together all slots; *slot from 0. Nodes by id; *cursor from 0. */
    bool (*range_next)(void *node, uint32_t *slot, struct gate_range *out);
    bool (*node_next)(void *node, uint32_t *cursor, struct gate_node *out);
    uint32_t value_bytes_max;
    uint64_t output_bytes_max; /* beyond it feed() returns KV_BUSY until drained */
};

extern const struct gate_ops gate_native, gate_resp;
extern const struct gate_ops gate_resp_cluster; /* RESP too, and foreign keys are moved, not fetched */
void gate_native_seal(struct gate *g);          /* end of turn: what was replied is sealed together */
bool gate_native_is_welcome(struct gate *g);    /* the client's key is still one of client.keys */
void gate_native_drain(struct gate *g);         /* tells the client to go elsewhere; closes once it is answered */
bool gate_resp_is_welcome(struct gate *g);      /* the user it has authenticated as is still the same */
#endif

#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H
#include "client/base/buf.h"
#include "client/base/err.h"

/* Everything a node can be told, once: parser, defaults, bounds, --help-config and
 * CONFIG GET come from these rows. Key `log.level` is also the option `--log-level` and the
 * variable KVD_LOG_LEVEL; the command line wins over the environment, that over the file,
 * that over the default.
 *
 *   X(field, "key", TYPE, default, min, max, "help")
 *
 * TEXT: char[256]. NUMBER: u64. SIZE: bytes ("64MiB"). DURATION: ns ("250ms"). BOOL. */
#define CONFIG_KEYS(X)                                                                                                                                                                                                         \
    X(cluster_name, "cluster.name", TEXT, "kvd", 1, 64, "peers of another name are refused")                                                                                                                                   \
    X(cluster_id, "cluster.id", TEXT, "", 0, 32, "32 hex digits shared by all nodes; empty on a single node: made on first start")                                                                                             \
    X(cluster_replicas, "cluster.replicas", NUMBER, "3", 1, 16, "replicas of each partition that a new cluster begins with, nodes permitting")                                                                                 \
    X(coordinator_enabled, "coordinator.enabled", BOOL, "true", 0, 1, "replicas and leaders are moved to where they should be, partitions split and merged, while this node leads partition 0")                                \
    X(coordinator_dead, "coordinator.dead_after", DURATION, "10m", 1000000000, 31536000000000000, "a node that was gone for so long is taken for dead, its replicas are made anew elsewhere")                                  \
    X(coordinator_moves, "coordinator.moves", NUMBER, "4", 1, 1024, "partitions whose replicas may be changing at once")                                                                                                       \
    X(coordinator_split_bytes, "coordinator.split.bytes", SIZE, "4GiB", 16777216, 1125899906842624, "a partition of more bytes of keys and values is split where half of them end")                                            \
    X(coordinator_split_load, "coordinator.split.load", NUMBER, "1000", 10, 1000000000, "a partition that serves more requests a second, and 0.4 of what nodes serve on average, is split where half of them end")             \
    X(coordinator_merge_after, "coordinator.merge.after", DURATION, "10m", 0, 31536000000000000, "neighbours that for so long had together an eighth of split.load and a quarter of split.bytes at most become one; 0: never") \
    X(coordinator_settle, "coordinator.settle", DURATION, "5s", 100000000, 3600000000000, "how long who leads partition 0 listens before it acts, and who leads a partition counts before it tells what that serves")          \
    X(coordinator_partitions, "coordinator.partitions", NUMBER, "2048", 1, 1000000, "a keyspace of so many partitions is not split by itself")                                                                                 \
    X(coordinator_balance_load, "coordinator.balance.load", NUMBER, "100", 1, 1000000000, "leaders are spread by load from so many requests a second on, on average of all nodes; below that by their number")                 \
    X(cluster_join, "cluster.join", TEXT, "", 0, 127, "HOST:PORT, the native address of a node of the cluster that this one joins on its first start; also --join")                                                            \
    X(cluster_token, "cluster.token", TEXT, "", 0, 127, "what lets it in once, made by `kvctl node token`; also --token")                                                                                                      \
    X(cluster_join_time, "cluster.join_time", DURATION, "60s", 100000000, 3600000000000, "how long it asks before it gives up")                                                                                                \
    X(node_id, "node.id", NUMBER, "1", 1, 4294967295, "this node's id; never reuse one; a node that joins is given one")                                                                                                       \
    X(node_zone, "node.zone", TEXT, "", 0, 64, "failure domain (rack, data centre) that the node tells when it joins")                                                                                                         \
    X(node_roles, "node.roles", TEXT, "storage,coordinator,gateway", 1, 64, "also --role; unless given: as the cluster has it, else as cluster.nodes says")                                   \
    X(node_data, "node.data", TEXT, "./kvd-data", 1, 255, "directory of all data and, unless node.key says otherwise, of the keys")                                                                                            \
    X(node_key, "node.key", TEXT, "", 0, 255, "file of the node's secret key; empty: node.key in the data directory")                                                                                                          \
    X(native_host, "native.host", TEXT, "127.0.0.1", 1, 63, "address of the native port; also the address peers are dialled from")                                                                                             \
    X(native_port, "native.port", NUMBER, "7401", 0, 65535, "native port, for clients and peers")                                                                                                                              \
    X(resp_host, "resp.host", TEXT, "127.0.0.1", 1, 63, "address of the Redis port")                                                                                                                                           \
    X(resp_port, "resp.port", NUMBER, "7400", 0, 65535, "Redis port; 0 turns it off")                                                                                                                                          \
    X(resp_cluster_port, "resp.cluster_port", NUMBER, "7402", 0, 65535, "Redis port for cluster clients, on resp.host, same users; unless given: resp.port + 2; 0 turns it off")                                               \
    X(resp_password, "resp.password", TEXT, "", 0, 255, "of user default: a line made by `kvctl passwd`; beyond loopback it or resp.users is needed")                                                                          \
    X(resp_users, "resp.users", TEXT, "", 0, 255, "file of other users, mode 600: a line of `kvctl passwd --user` each; read again on SIGHUP")                                                                                 \
    X(resp_deadline, "resp.deadline", DURATION, "2s", 1000000, 3600000000000, "how long a Redis request may wait for a leader or a quorum")                                                                                    \
    X(client_keys, "client.keys", TEXT, "", 0, 255, "file with one public key (64 hex digits) a line, read again on SIGHUP; empty: clients.keys in the data directory")                                                        \
    X(log_level, "log.level", TEXT, "info", 1, 255, "error, warn, info or debug, or module=level,..")                                                                                                                          \
    X(log_format, "log.format", TEXT, "text", 1, 255, "text or json")                                                                                                                                                          \
    X(raft_heartbeat, "raft.heartbeat", DURATION, "50ms", 1000000, 10000000000, "between heartbeats of a leader")                                                                                                              \
    X(raft_lease, "raft.lease", DURATION, "200ms", 1000000, 60000000000, "a follower's promise to its leader")                                                                                                                 \
    X(raft_election, "raft.election", DURATION, "300ms", 1000000, 60000000000, "an election starts after one to two of these without a leader")                                                                                \
    X(raft_quiet, "raft.quiet", DURATION, "2s", 0, 3600000000000, "a partition that nobody uses for so long sends no heartbeats; 0: they never end")                                                                           \
    X(raft_drift, "raft.drift_ppm", NUMBER, "500", 0, 100000, "bound on the rate error of any clock, parts per million")                                                                                                       \
    X(raft_batch, "raft.batch", NUMBER, "1024", 1, 1024, "entries in one append message, at most")                                                                                                                             \
    X(raft_log_keep, "raft.log_keep", SIZE, "256MiB", 1048576, 1099511627776, "log kept for slow followers before they need a snapshot")                                                                                       \
    X(storage_memtable, "storage.memtable", SIZE, "64MiB", 1048576, 17179869184, "memory for rows not yet checkpointed")                                                                                                       \
    X(storage_log_cache, "storage.log_cache", SIZE, "16MiB", 65536, 17179869184, "memory for recent log entries")                                                                                                              \
    X(storage_segment, "storage.segment", SIZE, "4MiB", 65536, 1073741824, "size of the first log segments")                                                                                                                   \
    X(storage_segment_max, "storage.segment_max", SIZE, "64MiB", 65536, 1073741824, "size that log segments grow to")                                                                                                          \
    X(storage_map, "storage.map", SIZE, "1TiB", 16777216, 70368744177664, "address space for LMDB, no quota")                                                                                                                  \
    X(storage_scrub, "storage.scrub", DURATION, "6h", 0, 31536000000000000, "how often replicas compare their rows; 0 turns it off")                                                                                           \
    X(storage_reserve, "storage.reserve", SIZE, "64MiB", 1048576, 17179869184, "disk claimed for the time when it is full")                                                                                                    \
    X(snapshot_rate, "snapshot.rate", SIZE, "64MiB", 65536, 17179869184, "bytes per second of snapshots sent, per node")                                                                                                       \
    X(value_max, "limit.value", SIZE, "1MiB", 1024, 8388608, "largest value; taken into the keyspace when it is created")                                                                                                      \
    X(connections_max, "limit.connections", NUMBER, "10000", 1, 1000000, "client connections, all ports together")                                                                                                             \
    X(requests_max, "limit.requests", NUMBER, "1024", 1, 65536, "open requests of one connection")                                                                                                                             \
    X(output_max, "limit.output", SIZE, "64MiB", 65536, 1073741824, "replies a slow reader may leave unread; then it is closed")                                                                                               \
    X(output_seconds, "limit.output_time", DURATION, "10s", 100000000, 3600000000000, "a reader that takes nothing for so long is closed")                                                                                     \
    X(handshake_seconds, "limit.handshake", DURATION, "10s", 100000000, 3600000000000, "who has not shown who it is by then is closed")                                                                                        \
    X(silence_seconds, "limit.silence", DURATION, "20s", 1000000000, 3600000000000, "a client whose machine acknowledges nothing for so long is closed")                                                                       \
    X(queue_max, "limit.queue", NUMBER, "65536", 16, 16777216, "open requests of the whole node; more are BUSY")                                                                              \
    X(service_rate, "limit.service_rate", NUMBER, "0", 0, 1000000000, "operations of users a second that this node serves on its replicas, for tests; 0: as many as it can")

enum { CONFIG_NODES_MAX = 64,
       CONFIG_TEXT_BYTES = 256 };
/* Where a key's value came from: a line of the file, or one of these. */
enum { CONFIG_PLACE_DEFAULT = 0,
       CONFIG_PLACE_OPTION = INT32_MAX - 1,
       CONFIG_PLACE_ENVIRONMENT = INT32_MAX };
#define X(field, key, type, def, min, max, help) CONFIG_ROW_##field,
enum config_row_index { CONFIG_KEYS(X) CONFIG_ROW_nodes,
                        CONFIG_ROW_COUNT };
#undef X
struct config_node { /* cluster.nodes: a list of mappings in the file only */
    uint32_t id;
    char host[64];
    uint16_t native, resp, resp_cluster;
    uint32_t roles;  /* bits of enum kv_node_role; 0: not said, all of them */
    uint8_t key[32]; /* public key, 64 hex digits in the file */
};
struct config {
#define CONFIG_FIELD_TEXT(field)                 char field[CONFIG_TEXT_BYTES];
#define CONFIG_FIELD_NUMBER(field)               uint64_t field;
#define CONFIG_FIELD_SIZE(field)                 uint64_t field;
#define CONFIG_FIELD_DURATION(field)             uint64_t field;
#define CONFIG_FIELD_BOOL(field)                 bool field;
#define X(field, key, type, def, min, max, help) CONFIG_FIELD_##type(field)
    CONFIG_KEYS(X)
#undef X
    struct config_node nodes[CONFIG_NODES_MAX]; /* empty: a single node */
    uint32_t node_count;
    int32_t places[CONFIG_ROW_COUNT];
    const char *file; /* the one read last, NULL: none; borrowed from config_file()'s caller */
    bool bootstrap;   /* --bootstrap: the first start of a new cluster; never in the file */
};

void config_defaults(struct config *c);
/* Remembers where a key's value came from, for what config_check() has to say. */
void config_place(struct config *c, const char *key, int32_t place);
/* Reads one YAML file. On error `why` says "FILE:LINE: key: reason". KV_NOT_FOUND, KV_MALFORMED, KV_BAD_ARGUMENT. */
enum kv_err config_file(struct config *c, const char *path, char *why, size_t why_size);
enum kv_err config_environment(struct config *c, char *const *environ, char *why, size_t why_size);
/* One key as text, as from the file. resp.port takes resp.cluster_port along unless that has a place of its own. */
enum kv_err config_set(struct config *c, const char *key, const char *text, char *why, size_t why_size);
/* The key of a command line option without its dashes: "log-level" -> "log.level"; NULL: none. */
const char *config_option(const char *option);
enum kv_err config_get(const struct config *c, const char *key, char text[CONFIG_TEXT_BYTES]);
/* Rules between keys: lease <= election, RESP beyond loopback without a password, nodes unique ..
 * `why` begins with the place of the key at fault: "FILE:LINE: ", "KVD_RAFT_LEASE: ", "--raft-lease: ". */
enum kv_err config_check(const struct config *c, char *why, size_t why_size);
/* The cluster face of a node whose Redis port is `resp`, unless it is said: two above, 0 without one. */
uint16_t config_cluster_port(uint64_t resp);
void config_help(struct kv_buf *out); /* --help-config: every key, type, default, bounds, meaning */
bool config_next(const struct config *c, uint32_t *cursor, const char **key, char text[CONFIG_TEXT_BYTES]);
const struct config_node *config_node(const struct config *c, uint32_t id); /* NULL: unknown */
uint32_t config_roles(const struct config *c);                              /* what node.roles says, as bits; 0: it is not given */
#endif

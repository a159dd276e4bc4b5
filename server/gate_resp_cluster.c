#include <stdio.h>
#include <stdlib.h>

#include "client/base/key.h"
#include "client/base/text.h"
#include "server/gate_resp.h"

/* The cluster face (R19): what a Redis Cluster's clients and tools ask, in the formats of Redis 7.0.
 * (1) A command there is about one slot. Led here it runs here; led elsewhere it is moved; with no leader that
 *     can be reached it waits for one, as on the other port.
 * (2) Nobody is sent where no cluster face is: such a node's keys are fetched for the client.
 * (3) What a node says of slots and nodes is its own view, and differs from others' only while leaders change. */

/* ---- one command on the cluster face ---- */

static bool find_node(struct gate *g, uint32_t id, struct gate_node *out)
{
    uint32_t cursor = 0;
    while (g->services->node_next(g->services->node, &cursor, out))
        if (out->id == id) return true;
    return false;
}

bool resp_face_admits(struct gate *g, const struct kv_op_info *info, struct kv_request *request)
{
    struct resp_conn *c = resp_conn(g);
    uint32_t first, step, count = kv_op_keys(info, request->arg_count, &first, &step);
    if (count == 0) {
        request->led_only = true;
        return true;
    }
    uint16_t slot = kv_slot(request->args[first]);
    for (uint32_t i = 1; i < count; i++)
        if (kv_slot(request->args[first + i * step]) != slot) {
            resp_put_error(&c->scratch, "CROSSSLOT Keys in request don't hash to the same slot");
            return false;
        }
    struct gate_owner owner = g->services->owner(g->services->node, slot);
    struct gate_node node;
    bool is_replicas = c->is_readonly && info->kind == KV_OP_KIND_R;
    if (is_replicas) request->level = KV_LEVEL_ANY; /* fetched from whichever replica answers soonest, if it is fetched at all */
    if (is_replicas && owner.is_held_here) return true;
    if (owner.is_led_here || owner.leader == 0 || !find_node(g, owner.leader, &node) || node.cluster == 0) return true;
    resp_put_error(&c->scratch, "MOVED %u %s:%u", slot, node.host, node.cluster);
    return false;
}

enum resp_ran resp_run_readonly(struct gate *g, const struct kv_slice *a, uint32_t n, struct kv_buf *out)
{
    (void)a, (void)n;
    struct resp_conn *c = resp_conn(g);
    c->is_readonly = c->is_face;
    if (c->is_face) resp_put_status(out, "OK");
    else resp_put_error(out, "ERR This instance has cluster support disabled");
    return RESP_RAN;
}

enum resp_ran resp_run_readwrite(struct gate *g, const struct kv_slice *a, uint32_t n, struct kv_buf *out)
{
    enum resp_ran ran = resp_run_readonly(g, a, n, out);
    resp_conn(g)->is_readonly = false;
    return ran;
}

enum resp_ran resp_run_asking(struct gate *g, const struct kv_slice *a, uint32_t n, struct kv_buf *out)
{
    (void)a, (void)n;
    if (resp_conn(g)->is_face) resp_put_status(out, "OK");
    else resp_put_error(out, "ERR This instance has cluster support disabled");
    return RESP_RAN;
}

/* ---- all slots and nodes, as of now ---- */

struct view {
    struct gate_range *ranges;
    struct gate_node *nodes;
    uint32_t range_count, node_count;
};

static bool view_open(struct gate *g, struct view *v)
{
    const struct gate_services *s = g->services;
    struct gate_range range;
    struct gate_node node;
    uint32_t slot = 0, cursor = 0;
    *v = (struct view){0};
    while (s->range_next(s->node, &slot, &range)) v->range_count++;
    while (s->node_next(s->node, &cursor, &node)) v->node_count++;
    v->ranges = calloc(v->range_count + 1, sizeof *v->ranges); /* never of nothing */
    v->nodes = calloc(v->node_count + 1, sizeof *v->nodes);
    if (v->ranges == NULL || v->nodes == NULL) return false;
    slot = cursor = 0;
    for (uint32_t i = 0; i < v->range_count; i++) s->range_next(s->node, &slot, &v->ranges[i]);
    for (uint32_t i = 0; i < v->node_count; i++) s->node_next(s->node, &cursor, &v->nodes[i]);
    return true;
}

static void view_close(struct view *v)
{
    free(v->ranges);
    free(v->nodes);
}

static const struct gate_node *view_node(const struct view *v, uint32_t id)
{
    for (uint32_t i = 0; i < v->node_count; i++)
        if (v->nodes[i].id == id) return &v->nodes[i];
    return NULL;
}

static const struct gate_node *view_self(const struct view *v)
{
    for (uint32_t i = 0; i < v->node_count; i++)
        if (v->nodes[i].is_self) return &v->nodes[i];
    return NULL;
}

static uint64_t view_epoch(const struct view *v, uint32_t leader) /* 0: of anyone */
{
    uint64_t epoch = 0;
    for (uint32_t i = 0; i < v->range_count; i++)
        if ((leader == 0 || v->ranges[i].leader == leader) && v->ranges[i].epoch > epoch) epoch = v->ranges[i].epoch;
    return epoch;
}

static bool view_leads(const struct view *v, uint32_t node)
{
    for (uint32_t i = 0; i < v->range_count; i++)
        if (v->ranges[i].leader == node) return true;
    return false;
}

/* Redis knows one master of a replica. One that leads nothing is called the replica of the leader of the first
 * range it holds; SLOTS and SHARDS tell the rest. */
static const struct gate_node *view_master(const struct view *v, uint32_t node)
{
    if (view_leads(v, node)) return NULL;
    for (uint32_t i = 0; i < v->range_count; i++) {
        const struct gate_range *r = &v->ranges[i];
        const struct gate_node *leader = r->leader != 0 ? view_node(v, r->leader) : NULL;
        for (uint32_t k = 0; leader != NULL && k < r->node_count; k++)
            if (r->nodes[k] == node) return leader;
    }
    return NULL;
}

/* ---- SLOTS ---- */

static void slots_node(const struct gate_node *n, struct kv_buf *out)
{
    resp_put_array(out, 4);
    resp_put_bulk(out, kv_str(n->host));
    resp_put_integer(out, n->cluster);
    resp_put_bulk(out, kv_str(n->name));
    resp_put_map(out, 0); /* other names of it */
}

/* A replica that is out of reach is left out, as in Redis. */
static const struct gate_node *slots_replica(const struct view *v, const struct gate_range *r, uint32_t i)
{
    const struct gate_node *n = r->nodes[i] == r->leader ? NULL : view_node(v, r->nodes[i]);
    return n != NULL && n->is_connected ? n : NULL;
}

static void slots(const struct view *v, struct kv_buf *out)
{
    size_t count = 0;
    for (uint32_t i = 0; i < v->range_count; i++) count += view_node(v, v->ranges[i].leader) != NULL;
    resp_put_array(out, count);
    for (uint32_t i = 0; i < v->range_count; i++) {
        const struct gate_range *r = &v->ranges[i];
        const struct gate_node *leader = view_node(v, r->leader);
        if (leader == NULL) continue;
        size_t replicas = 0;
        for (uint32_t k = 0; k < r->node_count; k++) replicas += slots_replica(v, r, k) != NULL;
        resp_put_array(out, 3 + replicas);
        resp_put_integer(out, r->first);
        resp_put_integer(out, r->last);
        slots_node(leader, out);
        for (uint32_t k = 0; k < r->node_count; k++)
            if (slots_replica(v, r, k) != NULL) slots_node(slots_replica(v, r, k), out);
    }
}

/* ---- SHARDS ---- */

static void shards_node(const struct gate_node *n, bool is_master, struct kv_buf *out)
{
    resp_put_map(out, 7);
    resp_put_bulk(out, kv_str("id"));
    resp_put_bulk(out, kv_str(n->name));
    resp_put_bulk(out, kv_str("port"));
    resp_put_integer(out, n->cluster);
    resp_put_bulk(out, kv_str("ip"));
    resp_put_bulk(out, kv_str(n->host));
    resp_put_bulk(out, kv_str("endpoint"));
    resp_put_bulk(out, kv_str(n->host));
    resp_put_bulk(out, kv_str("role"));
    resp_put_bulk(out, kv_str(is_master ? "master" : "replica"));
    resp_put_bulk(out, kv_str("replication-offset")); /* there is none of a node, only of each partition */
    resp_put_integer(out, 0);
    resp_put_bulk(out, kv_str("health"));
    resp_put_bulk(out, kv_str(n->is_connected ? "online" : "fail"));
}

static bool is_same_shard(const struct gate_range *a, const struct gate_range *b)
{
    if (a->leader != b->leader || a->node_count != b->node_count) return false;
    for (uint32_t i = 0; i < a->node_count; i++) {
        uint32_t k = 0;
        while (k < b->node_count && b->nodes[k] != a->nodes[i]) k++;
        if (k == b->node_count) return false;
    }
    return true;
}

static bool begins_shard(const struct view *v, uint32_t i)
{
    if (view_node(v, v->ranges[i].leader) == NULL) return false;
    for (uint32_t k = 0; k < i; k++)
        if (is_same_shard(&v->ranges[k], &v->ranges[i])) return false;
    return true;
}

/* All ranges of one leader with the same replicas. */
static void shard(const struct view *v, uint32_t first, struct kv_buf *out)
{
    const struct gate_range *r = &v->ranges[first];
    size_t ranges = 0, replicas = 0;
    for (uint32_t i = first; i < v->range_count; i++) ranges += is_same_shard(r, &v->ranges[i]);
    for (uint32_t k = 0; k < r->node_count; k++) replicas += r->nodes[k] != r->leader && view_node(v, r->nodes[k]) != NULL;
    resp_put_map(out, 2);
    resp_put_bulk(out, kv_str("slots"));
    resp_put_array(out, 2 * ranges);
    for (uint32_t i = first; i < v->range_count; i++)
        if (is_same_shard(r, &v->ranges[i])) {
            resp_put_integer(out, v->ranges[i].first);
            resp_put_integer(out, v->ranges[i].last);
        }
    resp_put_bulk(out, kv_str("nodes"));
    resp_put_array(out, 1 + replicas);
    shards_node(view_node(v, r->leader), true, out);
    for (uint32_t k = 0; k < r->node_count; k++)
        if (r->nodes[k] != r->leader && view_node(v, r->nodes[k]) != NULL) shards_node(view_node(v, r->nodes[k]), false, out);
}

static void shards(const struct view *v, struct kv_buf *out)
{
    size_t count = 0;
    for (uint32_t i = 0; i < v->range_count; i++) count += begins_shard(v, i);
    resp_put_array(out, count);
    for (uint32_t i = 0; i < v->range_count; i++)
        if (begins_shard(v, i)) shard(v, i, out);
}

/* ---- NODES and INFO ---- */

static void verbatim(struct kv_buf *text, struct kv_buf *out)
{
    kv_buf_printf(out, "=%zu\r\ntxt:", text->size + 4);
    kv_buf_append_slice(out, kv_buf_slice(text));
    kv_buf_append_text(out, "\r\n");
    out->failed = out->failed || text->failed;
    kv_buf_free(text);
}

/* What is led by one node in neighbouring ranges is one. */
static void nodes_slots(const struct view *v, uint32_t node, struct kv_buf *text)
{
    for (uint32_t i = 0; i < v->range_count; i++) {
        uint16_t first = v->ranges[i].first;
        if (v->ranges[i].leader != node) continue;
        while (i + 1 < v->range_count && v->ranges[i + 1].leader == node) i++;
        kv_buf_printf(text, first == v->ranges[i].last ? " %u" : " %u-%u", first, v->ranges[i].last);
    }
}

/* The port behind the @ is the one that nodes find each other by. */
static void nodes(const struct view *v, struct kv_buf *out)
{
    struct kv_buf text;
    kv_buf_init(&text, 0);
    for (uint32_t i = 0; i < v->node_count; i++) {
        const struct gate_node *n = &v->nodes[i], *master = view_master(v, n->id);
        kv_buf_printf(&text, "%s %s:%u@%u %s%s%s %s 0 0 %llu %s", n->name, n->host, n->cluster, n->native,
                      n->is_self ? "myself," : "", master != NULL ? "slave" : "master", n->is_connected ? "" : ",fail?",
                      master != NULL ? master->name : "-",
                      (unsigned long long)view_epoch(v, master != NULL ? master->id : n->id),
                      n->is_connected ? "connected" : "disconnected");
        nodes_slots(v, n->id, &text);
        kv_buf_append_u8(&text, '\n');
    }
    verbatim(&text, out);
}

static void info(const struct view *v, struct kv_buf *out)
{
    uint32_t assigned = 0, reachable = 0, size = 0;
    for (uint32_t i = 0; i < v->range_count; i++) {
        const struct gate_range *r = &v->ranges[i];
        const struct gate_node *leader = view_node(v, r->leader);
        uint32_t count = (uint32_t)(r->last - r->first + 1);
        if (leader != NULL) assigned += count;
        if (leader != NULL && leader->is_connected) reachable += count;
    }
    for (uint32_t i = 0; i < v->node_count; i++) size += view_leads(v, v->nodes[i].id);
    const struct gate_node *self = view_self(v);
    struct kv_buf text;
    kv_buf_init(&text, 0);
    kv_buf_printf(&text,
                  "cluster_state:%s\r\ncluster_slots_assigned:%u\r\ncluster_slots_ok:%u\r\ncluster_slots_pfail:%u\r\n"
                  "cluster_slots_fail:0\r\ncluster_known_nodes:%u\r\ncluster_size:%u\r\ncluster_current_epoch:%llu\r\n"
                  "cluster_my_epoch:%llu\r\ncluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n"
                  "total_cluster_links_buffer_limit_exceeded:0\r\n",
                  reachable == KV_SLOTS ? "ok" : "fail", assigned, reachable, assigned - reachable, v->node_count, size,
                  (unsigned long long)view_epoch(v, 0),
                  (unsigned long long)(self != NULL && view_leads(v, self->id) ? view_epoch(v, self->id) : 0));
    verbatim(&text, out);
}

static void my_id(const struct view *v, struct kv_buf *out)
{
    const struct gate_node *self = view_self(v);
    if (self != NULL) resp_put_bulk(out, kv_str(self->name));
    else resp_put_error(out, "ERR this node is not one of cluster.nodes");
}

static void from_view(struct gate *g, void (*tell)(const struct view *v, struct kv_buf *out), struct kv_buf *out)
{
    struct view v;
    if (view_open(g, &v)) tell(&v, out);
    else resp_put_error(out, "BUSY out of memory");
    view_close(&v);
}

/* ---- the keys of a slot ---- */

/* How many there are, or, with a limit, which: on the cluster face only where the slot is led, as in Redis. */
static enum resp_ran keys_in_slot(struct gate *g, int64_t slot, bool counts, uint32_t keys_max, struct kv_buf *out)
{
    if (!resp_user_may_select(resp_conn(g), KV_KEYSPACE_DEFAULT, out)) return RESP_RAN;
    bool is_empty = !counts && keys_max == 0;
    if (is_empty || (resp_conn(g)->is_face && !g->services->owner(g->services->node, (uint16_t)slot).is_led_here)) {
        if (counts) resp_put_integer(out, 0);
        else resp_put_array(out, 0);
        return RESP_RAN;
    }
    struct kv_slice all = kv_str("*");
    struct kv_request request = {.op = counts ? KV_OP_DBSIZE : KV_OP_KEYS,
                                 .args = &all,
                                 .arg_count = counts ? 0 : 1,
                                 .keyspace = KV_KEYSPACE_DEFAULT,
                                 .in_slot = (uint16_t)(slot + 1),
                                 .keys_max = keys_max};
    return resp_submit(g, kv_op_info(request.op), &request) == KV_OK ? RESP_LATER : RESP_WAITS;
}

static bool is_slot(int64_t slot)
{
    return slot >= 0 && slot < KV_SLOTS;
}

static enum resp_ran count_keys(struct gate *g, const struct kv_slice *a, struct kv_buf *out)
{
    int64_t slot;
    if (!resp_integer(a[0], &slot, out)) return RESP_RAN;
    if (is_slot(slot)) return keys_in_slot(g, slot, true, 0, out);
    resp_put_error(out, "ERR Invalid slot");
    return RESP_RAN;
}

static enum resp_ran get_keys(struct gate *g, const struct kv_slice *a, struct kv_buf *out)
{
    int64_t slot, count;
    if (!resp_integer(a[0], &slot, out) || !resp_integer(a[1], &count, out)) return RESP_RAN;
    if (is_slot(slot) && count >= 0)
        return keys_in_slot(g, slot, false, count < UINT32_MAX ? (uint32_t)count : UINT32_MAX, out);
    resp_put_error(out, "ERR Invalid slot or number of keys");
    return RESP_RAN;
}

/* ---- CLUSTER ---- */

/* What an operator does to a Redis Cluster by hand. */
static bool is_refused(struct kv_slice word, struct kv_buf *out)
{
    static const char *const words[] = {"ADDSLOTS", "ADDSLOTSRANGE", "BUMPEPOCH", "COUNT-FAILURE-REPORTS", "DELSLOTS",
                                        "DELSLOTSRANGE", "FAILOVER", "FLUSHSLOTS", "FORGET", "LINKS", "MEET", "REPLICAS",
                                        "REPLICATE", "RESET", "SAVECONFIG", "SET-CONFIG-EPOCH", "SETSLOT", "SLAVES"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (!resp_word(word, words[i])) continue;
        resp_put_error(out, "ERR CLUSTER %s is not there: kvd places slots and elects their leaders itself. Next: "
                            "CLUSTER SHARDS, or kvctl status",
                       words[i]);
        return true;
    }
    return false;
}

static const char *const help[] = {
    "COUNTKEYSINSLOT <slot>",
    "    Return the number of keys in <slot>.",
    "GETKEYSINSLOT <slot> <count>",
    "    Return key names stored by current node in a slot.",
    "INFO",
    "    Return information about the cluster.",
    "KEYSLOT <key>",
    "    Return the hash slot for <key>.",
    "MYID",
    "    Return the node id.",
    "NODES",
    "    Return cluster configuration seen by node. Output format:",
    "    <id> <ip:port> <flags> <master> <pings> <pongs> <epoch> <link> <slot> ...",
    "SHARDS",
    "    Return information about slot range mappings and the nodes associated with them.",
    "SLOTS",
    "    Return information about slots range mappings. Each range is made of:",
    "    start, end, master and replicas IP addresses, ports and ids",
    NULL};

enum resp_ran resp_run_cluster(struct gate *g, const struct kv_slice *a, uint32_t n, struct kv_buf *out)
{
    enum sub { COUNT,
               GET,
               HELP,
               INFO,
               KEYSLOT,
               MYID,
               NODES,
               SHARDS,
               SLOTS,
               SUBS };
    static const struct {
        const char *name;
        uint32_t arity; /* behind the subcommand */
    } subs[SUBS] = {
        [COUNT] = {"COUNTKEYSINSLOT", 1},
        [GET] = {"GETKEYSINSLOT", 2},
        [HELP] = {"HELP", 0},
        [INFO] = {"INFO", 0},
        [KEYSLOT] = {"KEYSLOT", 1},
        [MYID] = {"MYID", 0},
        [NODES] = {"NODES", 0},
        [SHARDS] = {"SHARDS", 0},
        [SLOTS] = {"SLOTS", 0},
    };
    unsigned sub = 0;
    while (sub < SUBS && !resp_word(a[0], subs[sub].name)) sub++;
    if (sub == SUBS) {
        if (!is_refused(a[0], out)) resp_bad_subcommand(out, "CLUSTER", a[0]);
        return RESP_RAN;
    }
    if (n - 1 != subs[sub].arity) {
        resp_bad_arity(out, "CLUSTER", subs[sub].name);
        return RESP_RAN;
    }
    switch ((enum sub)sub) {
    case COUNT: return count_keys(g, a + 1, out);
    case GET: return get_keys(g, a + 1, out);
    case HELP: resp_help(out, "CLUSTER", help); break;
    case INFO: from_view(g, info, out); break;
    case KEYSLOT: resp_put_integer(out, kv_slot(a[1])); break;
    case MYID: from_view(g, my_id, out); break;
    case NODES: from_view(g, nodes, out); break;
    case SHARDS: from_view(g, shards, out); break;
    case SLOTS: from_view(g, slots, out); break;
    case SUBS: break;
    }
    return RESP_RAN;
}

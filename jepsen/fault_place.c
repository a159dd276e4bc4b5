#include "jepsen/run.h"

/* What an administrator does while all else goes wrong, and the death of whoever coordinates it. The proof is the cluster's
 * answer, or what its map shows; where other faults delay that, it may come after the fault's end, and has to come before the
 * final reads (errands_are_done()). */
enum { JOINS_MAX = 2,
       REPLICAS = 3 };

static struct errand *send(struct nemesis *n, struct fault *f, enum errand_kind kind, uint32_t node)
{
    if (n->errand_count == ERRANDS_MAX) return NULL; /* more than there are faults: never */
    struct errand *e = &n->errands[n->errand_count++];
    errand_begin(e, n, f, kind, node);
    return e;
}

static bool errand_fault_begin(struct nemesis *n, struct fault *f, enum errand_kind kind, uint32_t node)
{
    snprintf(f->proof, sizeof f->proof, "not done yet");
    return send(n, f, kind, node) != NULL;
}

static bool errand_fault_end(struct nemesis *n, struct fault *f)
{
    (void)n;
    (void)f;
    return true; /* errands_are_done() */
}

static bool divide_begin(struct nemesis *n, struct fault *f)
{
    return errand_fault_begin(n, f, ERRAND_DIVIDE, 0);
}

static bool unite_begin(struct nemesis *n, struct fault *f)
{
    return errand_fault_begin(n, f, ERRAND_UNITE, 0);
}

static bool move_begin(struct nemesis *n, struct fault *f)
{
    if (n->run->nodes.count <= REPLICAS) {
        snprintf(f->detail, sizeof f->detail, "no replica");
        snprintf(f->proof, sizeof f->proof, "each node has one of each partition");
        return true;
    }
    return errand_fault_begin(n, f, ERRAND_MOVE, 0);
}

/* ---- nodes ---- */

static bool is_known(const struct nemesis *n, uint32_t id)
{
    const struct kv_map_info *map = kv_client_map(n->watch);
    for (uint32_t i = 0; map != NULL && i < map->node_count; i++)
        if (map->nodes[i].id == id) return true;
    return false;
}

static bool is_invited(const struct nemesis *n, uint32_t id)
{
    for (uint32_t i = 0; i < n->errand_count; i++)
        if (n->errands[i].kind == ERRAND_INVITE && n->errands[i].node == id) return true;
    return false;
}

/* One behind the other, so that the cluster gives them the ids that they have here. When none is left to join, or the last one is on its
 * way, it dies there and begins again. */
static bool join_begin(struct nemesis *n, struct fault *f)
{
    struct nodes *nodes = &n->run->nodes;
    uint32_t next = nodes->count + 1;
    bool may_join = next <= n->run->options.nodes + JOINS_MAX && next <= NODES_MAX && !is_invited(n, next) && is_known(n, nodes->count);
    if (may_join) {
        snprintf(f->detail, sizeof f->detail, "node %u", next);
        return errand_fault_begin(n, f, ERRAND_INVITE, next);
    }
    struct node *last = &nodes->node[nodes->count - 1];
    if (last->id > n->run->options.nodes && (nemesis_up(n) & 1u << (last->id - 1)) != 0 && node_kill(nodes, last)) f->nodes = 1u << (last->id - 1);
    snprintf(f->detail, sizeof f->detail, f->nodes == 0 ? "nobody" : "node %u dies", last->id);
    snprintf(f->proof, sizeof f->proof, f->nodes == 0 ? "the one before is on its way" : "ended by SIGKILL");
    return true;
}

/* Also of the coordinator. */
static bool dead_start(struct nemesis *n, struct fault *f)
{
    for (uint32_t i = 0; i < n->run->nodes.count; i++)
        if ((f->nodes & 1u << i) != 0 && !node_start(&n->run->nodes, &n->run->nodes.node[i], false)) return false;
    return true;
}

static uint32_t replicas_on(const struct nemesis *n, uint32_t id)
{
    const struct kv_map_info *map = kv_client_map(n->watch);
    uint32_t count = 0;
    for (uint32_t i = 0; map != NULL && i < map->partition_count; i++)
        for (uint32_t k = 0; k < map->partitions[i].node_count; k++) count += map->partitions[i].nodes[k] == id;
    return count;
}

/* At most as many nodes as are more than the replicas of a partition, or nothing could leave. */
static bool drain_begin(struct nemesis *n, struct fault *f)
{
    const struct kv_map_info *map = kv_client_map(n->watch);
    uint32_t up[NODES_MAX], count = 0;
    for (uint32_t i = 0; map != NULL && i < map->node_count && count < NODES_MAX; i++)
        if (map->nodes[i].state == KV_NODE_UP) up[count++] = map->nodes[i].id;
    if (count <= REPLICAS) {
        snprintf(f->detail, sizeof f->detail, "nobody");
        snprintf(f->proof, sizeof f->proof, "%u nodes are needed", count);
        return true;
    }
    f->before = up[nemesis_below(n, count)];
    snprintf(f->detail, sizeof f->detail, "node %u, of %u replicas", (uint32_t)f->before, replicas_on(n, (uint32_t)f->before));
    return errand_fault_begin(n, f, ERRAND_DRAIN, (uint32_t)f->before);
}

static struct errand *errand_of(struct nemesis *n, const struct fault *f)
{
    for (uint32_t i = 0; i < n->errand_count; i++)
        if (n->errands[i].fault == f) return &n->errands[i];
    return NULL;
}

/* Set up again; asked for only once nothing can drain it any more. */
static bool drain_end(struct nemesis *n, struct fault *f)
{
    struct errand *e = errand_of(n, f);
    if (e == NULL) return true;
    snprintf(f->detail + strlen(f->detail), sizeof f->detail - strlen(f->detail), " then %u", replicas_on(n, (uint32_t)f->before));
    if (!e->is_done) {
        e->gives_up = true;
        e->fault = NULL;
        snprintf(f->proof, sizeof f->proof, "given up: %.90s", e->answer);
        return true;
    }
    return send(n, NULL, ERRAND_SET_UP, (uint32_t)f->before) != NULL;
}

/* Right after something was asked that needs it. */
static bool coordinator_begin(struct nemesis *n, struct fault *f)
{
    const struct kv_map_info *map = kv_client_map(n->watch);
    net_nodes up = nemesis_up(n);
    uint32_t leader = 0;
    for (uint32_t i = 0; map != NULL && i < map->partition_count; i++)
        if (map->partitions[i].keyspace == KV_KEYSPACE_SYSTEM) leader = map->partitions[i].leader;
    if (send(n, NULL, nemesis_below(n, 2) == 0 ? ERRAND_DIVIDE : ERRAND_UNITE, 0) == NULL) return false;
    if (leader != 0 && (up & 1u << (leader - 1)) != 0 && node_kill(&n->run->nodes, &n->run->nodes.node[leader - 1])) f->nodes = 1u << (leader - 1);
    nodes_text(f->nodes, f->detail);
    snprintf(f->proof, sizeof f->proof, f->nodes == 0 ? "nobody led partition 0" : "ended by SIGKILL");
    return true;
}

const struct fault_kind fault_divide = {"divide", divide_begin, errand_fault_end, false};
const struct fault_kind fault_unite = {"unite", unite_begin, errand_fault_end, false};
const struct fault_kind fault_move = {"move", move_begin, errand_fault_end, false};
const struct fault_kind fault_join = {"join", join_begin, dead_start, true};
const struct fault_kind fault_drain = {"drain", drain_begin, drain_end, false};
const struct fault_kind fault_coordinator = {"coordinator", coordinator_begin, dead_start, true};

bool errands_are_done(struct run *r)
{
    for (uint32_t i = 0; i < r->nemesis.errand_count; i++)
        if (!r->nemesis.errands[i].is_done) return false;
    return true;
}

void errands_tell(struct run *r)
{
    for (uint32_t i = 0; i < r->nemesis.errand_count; i++) {
        const struct errand *e = &r->nemesis.errands[i];
        if (!e->is_done) run_fail(r, "not done after healing, %u attempts: %s: %s", e->tries, e->what, e->answer);
    }
}

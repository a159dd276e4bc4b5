#include "client/wire/join_token.h"
#include "server/group.h"
#include "server/map.h"
#include "server/nodes.h"
#include "server/peer.h"
#include "server/request.h"
#include "tests/sim/cluster_impl.h"
#include <stdio.h>

/* Nodes that come and go by their administrator's hand, asked for as kvctl would ask.
 *
 * Those that come late do so one behind the other, so that the cluster gives each the id that it has here: the next is
 * only let in once the one before is a node. A token's secret is the node's own, always the same: asked again after an
 * answer that was lost the cluster says that it is there already. */

static bool is_late(const struct cluster *c, uint32_t node)
{
    return node > c->o.nodes - c->o.late;
}

bool cluster_is_removed(const struct cluster *c, uint32_t node)
{
    return node_of(c, node)->is_removed;
}

bool cluster_is_member(const struct cluster *c, uint32_t node)
{
    return (!is_late(c, node) || node_of(c, node)->is_invited) && !cluster_is_removed(c, node);
}

bool cluster_runs(const struct cluster *c, uint32_t node)
{
    return face_of(c, node) != NULL || node_of(c, node)->join != NULL;
}

static void token_of(const struct node *n, struct join_token *out)
{
    *out = (struct join_token){.cluster = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, .secret = {(uint8_t)n->id}};
}

static void token_given(struct request *r, const struct kv_reply *reply)
{
    struct node *late = r->owner;
    struct join_token t;
    char text[JOIN_TOKEN_TEXT_BYTES];
    if (late->is_invited || (reply->err != KV_OK && reply->err != KV_CONFLICT)) return;
    token_of(late, &t);
    join_token_print(&t, text);
    cluster_invite(late->cluster, late->id, text);
    late->is_welcome = true; /* cluster_reap() starts it: not inside another node's turn */
}

static bool has_joined(const struct node *n)
{
    return n->is_joined && n->join_err == KV_OK;
}

bool cluster_join(struct cluster *c, uint32_t node)
{
    uint32_t next = c->o.nodes - c->o.late + 1;
    while (next <= c->o.nodes && node_of(c, next)->is_invited) next++;
    if (next > c->o.nodes || (is_late(c, next - 1) && !has_joined(node_of(c, next - 1)))) return false;
    struct request *r = request_make(face_of(c, node));
    if (r == NULL) return false;
    struct join_token t;
    uint8_t hash[JOIN_TOKEN_HASH_BYTES];
    token_of(node_of(c, next), &t);
    join_token_hash(t.secret, hash);
    struct kv_slice args[2] = {kv_slice(hash, sizeof hash), kv_str("86400000")};
    sim_note(c->o.sim, node_of(c, node)->host, "node %u is to join: a token for it", next);
    r->done = token_given;
    r->owner = node_of(c, next);
    r->body = (struct kv_request){.op = KV_OP_KSTOKEN, .args = args, .arg_count = 2, .keyspace = KV_KEYSPACE_DEFAULT};
    request_start(r);
    return true;
}

/* Nodes that may take replicas for which that role is needed. */
static uint32_t places(const struct worker *w, enum kv_node_role role)
{
    const struct nodes_entry *n;
    uint32_t up = 0;
    for (uint32_t i = 0; (n = nodes_at(w, i)) != NULL; i++) up += n->state == KV_NODE_UP && kv_node_has(n->roles, role);
    return up;
}

/* As many as each partition has, and more. */
static bool has_places(const struct cluster *c, const struct worker *w, enum kv_node_role role, uint32_t more)
{
    return places(w, role) >= cluster_replicas(c, role == KV_NODE_COORDINATOR ? KV_PARTITION_SYSTEM : 1) + more;
}

bool cluster_drain(struct cluster *c, uint32_t node, uint64_t drawn)
{
    const struct worker *w = face_of(c, node);
    const struct nodes_entry *chosen = NULL;
    uint32_t count = 0;
    while (nodes_at(w, count) != NULL) count++;
    if (count == 0) return false;
    chosen = nodes_at(w, (uint32_t)(drawn / 8 % count));
    enum kv_node_state to = chosen->state != KV_NODE_UP ? KV_NODE_UP : drawn % 8 < 6 ? KV_NODE_DRAINING
                                                                                     : KV_NODE_CORDONED;
    bool can = (!kv_node_has(chosen->roles, KV_NODE_STORAGE) || has_places(c, w, KV_NODE_STORAGE, 1)) &&
               (!kv_node_has(chosen->roles, KV_NODE_COORDINATOR) || has_places(c, w, KV_NODE_COORDINATOR, 1));
    if (chosen->state == KV_NODE_UP && !can) return false; /* its replicas would have no place */
    char id[16];
    snprintf(id, sizeof id, "%u", chosen->id);
    bool is_job = to == KV_NODE_DRAINING && drawn / 512 % 4 != 0;
    struct kv_slice args[3] = {kv_str(id), kv_str(kv_node_state_text(to)), kv_str("JOB")};
    sim_note(c->o.sim, node_of(c, node)->host, "node %s is to be %s", id, kv_node_state_text(to));
    node_ask(node_of(c, node), KV_OP_KSNODE, KV_KEYSPACE_DEFAULT, args, is_job ? 3 : 2);
    return true;
}

/* Whom a late node asks to be let in, also when it lost its disk since. */
static bool is_seed(const struct cluster *c, uint32_t node)
{
    uint32_t founders = c->o.nodes - c->o.late;
    for (uint32_t i = founders + 1; i <= c->o.nodes; i++)
        if (1 + i % founders == node) return true;
    return false;
}

static bool has_replica(const struct cluster *c, uint32_t group, uint32_t node)
{
    const struct descriptor *d = descriptor_newest(c, group);
    for (uint32_t i = 0; d != NULL && i < d->replica_count; i++)
        if (d->replicas[i].node == node) return true;
    return false;
}

/* Without it, and whoever else may be on the way out, as many nodes may take replicas as a partition has. */
static bool can_go(const struct cluster *c, const struct worker *w, const struct nodes_entry *node)
{
    static const enum kv_node_role roles[] = {KV_NODE_STORAGE, KV_NODE_COORDINATOR};
    const struct nodes_entry *n;
    for (uint32_t k = 0; k < 2; k++) {
        uint32_t up = 0;
        if (!kv_node_has(node->roles, roles[k])) continue;
        for (uint32_t i = 0; (n = nodes_at(w, i)) != NULL; i++)
            up += n->id != node->id && n->state == KV_NODE_UP && !node_of(c, n->id)->is_to_go && kv_node_has(n->roles, roles[k]);
        if (up < c->o.replicas) return false;
    }
    return c->o.replicas != 0 && !cluster_is_needed(c, node->id, KV_NODE_GATEWAY); /* by what they were started with, before the rows show it */
}

/* The checks ask node 1 what it knows. That all replicas are gone is what the cluster sees to; but two nodes that still have some, unknown to
 * who is asked, could cost a quorum, which is not what is tried here. */
static bool may_be_removed(const struct cluster *c, uint32_t node, const struct nodes_entry *chosen)
{
    const struct worker *w = face_of(c, node);
    bool is_idle = chosen->state == KV_NODE_DRAINING || (chosen->state != KV_NODE_REMOVED && !cluster_runs(c, chosen->id));
    if (!is_idle || chosen->id == 1 || chosen->id == node || is_seed(c, chosen->id) || nodes_replicas(w, chosen->id) > 0 || !can_go(c, w, chosen)) return false;
    for (uint32_t group = 0; group < GROUPS_MAX; group++)
        if (has_replica(c, group, chosen->id)) return false;
    return true;
}

bool cluster_remove(struct cluster *c, uint32_t node, uint64_t drawn)
{
    const struct worker *w = face_of(c, node);
    const struct nodes_entry *chosen = NULL;
    uint32_t count = 0;
    while (nodes_at(w, count) != NULL) count++;
    for (uint32_t i = 0; i < count && chosen == NULL; i++) {
        const struct nodes_entry *n = nodes_at(w, (uint32_t)((drawn + i) % count));
        if (may_be_removed(c, node, n)) chosen = n;
    }
    if (chosen == NULL) return false;
    char text[16];
    snprintf(text, sizeof text, "%u", chosen->id);
    struct kv_slice args[2] = {kv_str(text), kv_str(kv_node_state_text(KV_NODE_REMOVED))};
    sim_note(c->o.sim, node_of(c, node)->host, "node %s is to be removed", text);
    node_of(c, chosen->id)->is_to_go = true;
    node_ask(node_of(c, node), KV_OP_KSNODE, KV_KEYSPACE_DEFAULT, args, 2);
    return true;
}

void removals_see(struct cluster *c)
{
    const struct nodes_entry *n;
    for (uint32_t i = 1; i <= c->o.nodes; i++) {
        const struct worker *w = face_of(c, i);
        if (w == NULL || nodes_version(w) <= c->nodes_seen) continue;
        c->nodes_seen = nodes_version(w);
        for (uint32_t k = 0; (n = nodes_at(w, k)) != NULL; k++) {
            if (n->state != KV_NODE_REMOVED || node_of(c, n->id)->is_removed) continue;
            sim_note(c->o.sim, node_of(c, n->id)->host, "it was removed from the cluster");
            node_of(c, n->id)->is_removed = true;
            sim_cut_connections(c->o.sim, node_of(c, n->id)->host, NULL); /* whoever removes a node sends its Redis clients elsewhere */
        }
    }
}

bool removed_are_apart(const struct cluster *c, char *why, size_t why_size)
{
    for (uint32_t i = 1; i <= c->o.nodes; i++) {
        const struct worker *own = face_of(c, i);
        if (!cluster_is_removed(c, i)) continue;
        for (uint32_t group = 0; group < GROUPS_MAX; group++) {
            if (!has_replica(c, group, i)) continue;
            snprintf(why, why_size, "group %u counts on node %u, which was removed", group, i);
            return false;
        }
        for (uint32_t k = 1; k <= c->o.nodes; k++) {
            const struct worker *w = face_of(c, k);
            if (k == i || w == NULL || !cluster_is_member(c, k) || (!peer_connected(w->peers, i) && (own == NULL || !peer_connected(own->peers, k)))) continue;
            snprintf(why, why_size, "nodes %u and %u are connected, though node %u was removed", k, i, i);
            return false;
        }
        if (own == NULL || node_of(c, i)->is_told) continue;
        snprintf(why, why_size, "node %u was removed, and not told", i);
        return false;
    }
    return true;
}

uint32_t cluster_coordinator(const struct cluster *c)
{
    for (uint32_t i = 1; i <= c->o.nodes; i++) {
        const struct group *g = face_of(c, i) == NULL ? NULL : worker_group(face_of(c, i), KV_PARTITION_SYSTEM);
        if (g != NULL && !g->dead && group_leads(g)) return i;
    }
    return 0;
}

bool drains_can_end(const struct cluster *c)
{
    const struct worker *w = face_of(c, 1);
    return w != NULL && has_places(c, w, KV_NODE_STORAGE, 0) && has_places(c, w, KV_NODE_COORDINATOR, 0);
}

bool cluster_drained(const struct cluster *c, char *why, size_t why_size)
{
    const struct worker *w = face_of(c, 1);
    const struct nodes_entry *n;
    bool can = drains_can_end(c);
    for (uint32_t i = 0; can && (n = nodes_at(w, i)) != NULL; i++) {
        uint32_t replicas = n->state == KV_NODE_DRAINING ? nodes_replicas(w, n->id) : 0;
        if (replicas == 0) continue;
        snprintf(why, why_size, "node %u is to be drained and still has %u replicas", n->id, replicas);
        return false;
    }
    return true;
}

bool cluster_nodes_agree(const struct cluster *c, char *why, size_t why_size)
{
    uint64_t version = 0;
    for (uint32_t i = 1; i <= c->o.nodes; i++) {
        const struct worker *w = face_of(c, i);
        if (!cluster_is_member(c, i) || w == NULL) continue;
        if (version == 0) version = nodes_version(w);
        if (nodes_version(w) == version && nodes_find(w, i) != NULL) continue;
        snprintf(why, why_size, "node %u has the list of nodes as of %llu, node 1 as of %llu", i, (unsigned long long)nodes_version(w),
                 (unsigned long long)version);
        return false;
    }
    return true;
}

void cluster_coordinate(struct cluster *c, bool goes_on)
{
    for (uint32_t i = 1; i <= c->o.nodes; i++) node_of(c, i)->config.coordinator_enabled = goes_on;
}

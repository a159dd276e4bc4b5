#include "server/cluster_face.h"

#include "client/base/key.h"
#include "server/map.h"
#include "server/nodes.h"
#include "server/peer.h"

static bool has_address(const struct worker *w, uint32_t node)
{
    const struct nodes_entry *n = nodes_find(w, node);
    return n != NULL && n->state != KV_NODE_REMOVED && n->resp_cluster != 0;
}

/* Where clients find the partition: its leader; or, where that takes none, one of the nodes that do, always the same for
 * one partition and spread over them, so that all tell the same and each key is counted at one node. */
static uint32_t face_of(const struct worker *w, const struct partition *p)
{
    const struct nodes_entry *n;
    uint32_t leader = map_leader(p), faces = 0;
    if (leader == 0 || has_address(w, leader)) return leader;
    for (uint32_t i = 0; (n = nodes_at(w, i)) != NULL; i++) faces += has_address(w, n->id);
    if (faces == 0) return 0;
    uint32_t at = p->id % faces;
    for (uint32_t i = 0; (n = nodes_at(w, i)) != NULL; i++)
        if (has_address(w, n->id) && at-- == 0) return n->id;
    return 0;
}

/* A leader that this node has lost touch with is no address to send a client to: about to be replaced, it
 * would cost the client its patience. Such a request waits here for the next one, as on the other port. */
struct gate_owner cluster_face_owner(void *node, uint16_t slot)
{
    const struct worker *w = node;
    const struct partition *p = map_slot(w, slot);
    if (p == NULL) return (struct gate_owner){0};
    struct gate_owner owner = {.leader = map_leader(p),
                               .is_held_here = map_serves(p)};
    owner.is_led_here = face_of(w, p) == w->node_id;
    if (owner.leader != w->node_id && !peer_connected(w->peers, owner.leader)) owner.leader = 0;
    return owner;
}

bool cluster_face_leads(const struct worker *w, uint32_t slot)
{
    const struct partition *p = map_slot(w, slot);
    return p != NULL && face_of(w, p) == w->node_id;
}

bool cluster_face_range_next(void *node, uint32_t *slot, struct gate_range *out)
{
    const struct worker *w = node;
    if (*slot >= KV_SLOTS) return false;
    const struct partition *p = map_slot(w, *slot);
    *out = (struct gate_range){.first = (uint16_t)*slot};
    while (*slot < KV_SLOTS && map_slot(w, *slot) == p) out->last = (uint16_t)(*slot)++;
    if (p == NULL) return true;
    const struct descriptor *d = map_descriptor(p);
    out->leader = face_of(w, p);
    out->epoch = p->group != NULL ? raft_term_now(p->group->raft) : p->term;
    for (uint32_t i = 0; i < d->replica_count && out->node_count < KV_REPLICAS_MAX; i++)
        if (d->replicas[i].role == DESCRIPTOR_VOTER && has_address(w, d->replicas[i].node)) out->nodes[out->node_count++] = d->replicas[i].node;
    return true;
}

/* The first half of its public key: stable while the node is the same, and known to all others. */
static void name_of(const uint8_t *key, char name[41])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 20; i++) {
        name[2 * i] = digits[key[i] >> 4];
        name[2 * i + 1] = digits[key[i] & 15];
    }
    name[40] = '\0';
}

static bool is_wildcard(const char *host)
{
    return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

bool cluster_face_node_next(void *node, uint32_t *cursor, struct gate_node *out)
{
    const struct worker *w = node;
    const struct config *c = w->config;
    const struct nodes_entry *n;
    do n = nodes_at(w, (*cursor)++);
    while (n != NULL && (n->state == KV_NODE_REMOVED || (n->resp_cluster == 0 && n->id != w->node_id)));
    if (n == NULL) return false;
    *out = (struct gate_node){.id = n->id, .host = n->host, .native = n->native, .cluster = n->resp_cluster};
    if (nodes_are_one(w)) out->host = is_wildcard(c->resp_host) ? c->native_host : c->resp_host; /* nobody else was told another */
    name_of(n->key, out->name);
    out->is_self = out->id == w->node_id;
    out->is_connected = out->is_self || peer_connected(w->peers, out->id);
    return true;
}

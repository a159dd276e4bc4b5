#include "server/place.h"

#include "server/birth.h"
#include "server/exec_directory.h"
#include "server/keyspaces.h"
#include "server/map.h"
#include "server/nodes.h"
#include "server/peer.h"

enum { REPLICAS_DEFAULT = 3,
       LOOK_MS = 50,
       BIRTHS_MAX = 256 }; /* partitions of which nodes are told in one look */

/* ---- choosing ---- */

struct candidate {
    uint32_t node, replicas;
    uint64_t store;
    bool is_away;
};

/* Whether it is a better place: there, and with less on it. */
static bool is_before(const struct candidate *a, const struct candidate *b)
{
    return a->is_away != b->is_away ? b->is_away : a->replicas < b->replicas;
}

/* The best places first. One whose directory is not known cannot be told to begin there. */
static uint32_t candidates_find(struct worker *w, struct candidate out[KV_NODES_MAX])
{
    const struct nodes_entry *n;
    uint32_t count = 0;
    for (uint32_t i = 0; (n = nodes_at(w, i)) != NULL; i++) {
        struct candidate c = {.node = n->id, .store = peer_birthmark(w->peers, n->id)};
        if (n->state != KV_NODE_UP || c.store == 0 || !kv_node_has(n->roles, KV_NODE_STORAGE)) continue;
        c.replicas = nodes_replicas(w, n->id);
        c.is_away = n->id != w->node_id && !peer_connected(w->peers, n->id);
        uint32_t at = count++;
        for (; at > 0 && is_before(&c, &out[at - 1]); at--) out[at] = out[at - 1];
        out[at] = c;
    }
    return count;
}

/* Partition 0's own nodes will do. */
static bool is_at_home(const struct group *g, uint32_t replicas)
{
    uint32_t voters = 0;
    for (uint32_t i = 0; i < g->descriptor.replica_count; i++) {
        const struct descriptor_replica *r = &g->descriptor.replicas[i];
        const struct nodes_entry *n = nodes_find(g->w, r->node);
        if (n != NULL && !kv_node_has(n->roles, KV_NODE_STORAGE)) return false;
        voters += r->role == DESCRIPTOR_VOTER || r->role == DESCRIPTOR_VOTER_INCOMING;
    }
    return replicas <= voters;
}

bool place_choose(struct group *g, struct kv_slice wanted, struct kv_buf *out)
{
    struct kv_arena arena = {0};
    struct candidate found[KV_NODES_MAX];
    struct kv_keyspace k;
    bool can = true;
    if (kv_keyspace_decode(wanted, &arena, &k) == KV_OK) { /* else the entry says what is wrong with it */
        bool was_chosen = k.has_stores;                    /* by who asked, who has no say in it */
        k.has_stores = !is_at_home(g, k.replicas);
        k.node_count = 0;
        uint32_t count = k.has_stores ? candidates_find(g->w, found) : 0, needed = k.replicas == 0 ? REPLICAS_DEFAULT : k.replicas;
        for (uint32_t i = 0; i < count && k.node_count < KV_REPLICAS_MAX && (!found[i].is_away || k.node_count < needed); i++) {
            k.stores[k.node_count] = found[i].store;
            k.nodes[k.node_count++] = found[i].node;
        }
        can = !k.has_stores || k.node_count > 0;
        if (can && (k.has_stores || was_chosen)) kv_keyspace_encode(&k, out);
    }
    kv_arena_free(&arena);
    return can && !out->failed;
}

/* ---- beginning ---- */

static void tell(struct worker *w, const struct descriptor *d)
{
    struct kv_buf bytes = {0};
    descriptor_encode(d, &bytes);
    for (uint32_t i = 0; !bytes.failed && i < d->replica_count; i++) {
        const struct descriptor_replica *r = &d->replicas[i];
        if (r->node == w->node_id) birth_receive(w, kv_buf_slice(&bytes), r->id, true);
        else peer_send_birth(w->peers, r->node, kv_buf_slice(&bytes), r->id, true);
    }
    kv_buf_free(&bytes);
}

/* How many partitions of it have no leader as far as this node knows: a majority may not be born yet. Who is told again
 * knows what it has. What another partition holds by now, after a merge, is there. */
static uint32_t begin(struct worker *w, const struct kv_keyspace *k, uint32_t room)
{
    uint32_t missing = 0;
    for (uint32_t i = 0; k->has_stores && i < k->partitions && missing < room; i++) {
        struct descriptor d;
        struct kv_buf list = {0};
        exec_partition(k, i, &d);
        const struct partition *p = map_find(w, kv_key_slice(&d.from));
        if (p != NULL && map_leader(p) != 0) continue;
        missing++;
        if (exec_partition_list(k, i, &list)) {
            d.list = kv_buf_slice(&list);
            tell(w, &d);
        }
        kv_buf_free(&list);
    }
    return missing;
}

void place_tick(struct worker *w, uint64_t now_ns)
{
    const struct group *g = worker_group(w, KV_PARTITION_SYSTEM);
    uint32_t count, missing = 0;
    uint64_t directory;
    if (g == NULL || !group_leads(g) || g->lead_index == 0 || g->applied < g->lead_index) {
        w->placed = 0; /* whoever leads next looks at all */
        return;
    }
    const struct kv_keyspace *all = keyspaces_all(w, &count, &directory);
    if (w->placed == directory || now_ns < w->place_ns || w->poisoned) return;
    w->place_ns = now_ns + KV_MS(LOOK_MS);
    for (uint32_t i = 0; i < count && missing < BIRTHS_MAX; i++) missing += begin(w, &all[i], BIRTHS_MAX - missing);
    if (missing == 0) w->placed = directory;
}

#include "server/birth.h"
#include "server/group.h"
#include "server/keyspaces.h"
#include "server/leave.h"
#include "server/load.h"
#include "server/map.h"
#include "server/merge.h"
#include "server/peer_impl.h"
#include "server/scrub.h"
#include "server/seats.h"
#include "server/siblings.h"
#include "server/transfer.h"

/* Parts that came from another node, or from another worker of this one, and whose they are: of a node of several workers
 * its face (worker 0) passes them on. */

struct receiver {
    struct peers *p;
    uint32_t node;
    struct kv_buf *reply;
};

/* Where a part goes on to that is for a replica of another worker of this node. NULL: it is for here, or, `*lost`, for
 * nobody now. */
static struct kv_buf *passed_on(const struct receiver *v, uint32_t index, bool *lost)
{
    struct kv_buf *batch = index == 0 ? NULL : siblings_batch(v->p->w, index, v->node);
    *lost = index != 0 && batch == NULL;
    return batch;
}

static uint32_t worker_of(const struct receiver *v, uint32_t group, raft_id replica)
{
    return siblings_is_face(v->p->w) && v->p->w->siblings != NULL ? seats_of(v->p->w, group, replica) : 0;
}

static void got_beat(void *context, const struct peer_beat *beat)
{
    struct receiver *v = context;
    struct peer *peer = peer_find(v->p, v->node);
    if (peer == NULL || v->reply == NULL) return;
    peer->is_full = beat->full;
    peer->workers = beat->workers;
    peer->birthmark = beat->birthmark;
    struct peer_beat answer = {.answers = beat->sequence, .wall_ms = env_wall_ms(v->p->w->env)};
    kv_buf_append_u8(v->reply, KV_FRAME_PEER);
    peer_put_beat(v->reply, &answer);
}

static void got_lost(void *context, const struct peer_lost *l)
{
    struct receiver *v = context;
    struct group *g = worker_group(v->p->w, l->group);
    struct kv_buf *batch;
    bool lost;
    for (uint32_t k = 1; siblings_is_face(v->p->w) && k < siblings_count(v->p->w); k++) /* whose leader it means is not said */
        if (seats_is_live(v->p->w, k, l->group) && (batch = passed_on(v, k, &lost)) != NULL) peer_put_lost(batch, l);
    if (g != NULL && l->gone && g->replica == l->replica) leave_group(g);
    if (g == NULL || l->gone || group_node_of(g, l->replica) != v->node) return;
    if (l->owed != 0) member_rowless(g, l->replica, l->owed);
    else if (l->unborn && birth_is_due(g, l->replica, peer_birthmark(v->p, v->node))) birth_send(g, l->replica);
    else member_lost(g, l->replica);
}

static void got_birth(void *context, struct kv_slice descriptor, raft_id replica, bool founds)
{
    struct receiver *v = context;
    birth_receive(v->p->w, descriptor, replica, founds);
}

/* Its log is here, and its parent has still to apply its birth again; not for ever, as that may never come. */
static bool awaits_birth(const struct worker *w, uint32_t group, raft_id replica)
{
    struct store_group sg;
    return env_now_ns(w->env) - w->started_ns < KV_SECONDS(10) && store_group_get(w->store, group, &sg) && sg.unborn &&
           sg.replica == replica;
}

static void got_raft(void *context, uint32_t group, const struct raft_msg *m, const struct log_entry *entries)
{
    struct receiver *v = context;
    bool lost_on_the_way;
    struct kv_buf *batch = passed_on(v, worker_of(v, group, m->to), &lost_on_the_way);
    if (batch != NULL) peer_put_raft(batch, group, m, entries, m->entry_count);
    if (batch != NULL || lost_on_the_way) return;
    struct group *g = worker_group(v->p->w, group);
    bool wants = m->type == RAFT_APPEND || m->type == RAFT_HEARTBEAT;
    if (g != NULL && !g->installing && !g->rowless && leave_is_due(&g->descriptor, m->from) &&
        (leave_is_lasting(g) || !leave_waits(g->w, &g->descriptor))) {
        peer_send_lost(v->p, v->node, &(struct peer_lost){.group = group, .replica = m->from, .gone = true});
        return;
    }
    if (g != NULL && g->replica == m->to) {
        g->heard_replica = m->from;
        g->heard_node = v->node;
        if (wants && g->rowless && !g->installing)
            peer_send_lost(v->p, v->node,
                           &(struct peer_lost){.group = group, .replica = m->to, .owed = raft_owed_now(g->raft)});
        group_step(g, m, entries);
        return;
    }
    if (g == NULL && merge_tells_gone(v->p->w, v->node, group)) return;
    bool asks = m->type == RAFT_PREVOTE || m->type == RAFT_VOTE;
    if (g == NULL ? !(wants || asks) || awaits_birth(v->p->w, group, m->to) : !wants || m->to < g->replica) return;
    struct peer_lost lost = {.group = group, .replica = m->to, .unborn = g == NULL && birth_is_unknown(v->p->w, group)};
    if (wants || lost.unborn) peer_send_lost(v->p, v->node, &lost);
}

static void got_told(void *context, struct kv_slice descriptor, uint64_t term)
{
    struct receiver *v = context;
    struct descriptor d;
    peers_tell_damaged(v->p->w, v->node, descriptor, term);
    if (descriptor_decode(descriptor, &d) == KV_OK) map_learn(v->p->w, &d, v->node, term);
}

static void got_nodes(void *context, struct kv_slice map)
{
    nodes_told(((struct receiver *)context)->p->w, map);
}

static void got_directory(void *context, const struct peer_directory *d)
{
    struct receiver *v = context;
    keyspaces_learn(v->p->w, d);
}

static void got_scrub(void *context, const struct peer_scrub *s)
{
    struct receiver *v = context;
    bool lost;
    struct kv_buf *batch = passed_on(v, worker_of(v, s->group, s->to), &lost);
    if (batch != NULL) peer_put_scrub(batch, s);
    else if (!lost) scrub_receive(v->p->w, v->node, s);
}

static void got_merge(void *context, const struct peer_merge *m)
{
    struct receiver *v = context;
    bool lost = false;
    struct kv_buf *batch = m->kind != PEER_MERGE_ASK ? NULL : passed_on(v, worker_of(v, m->group, m->replica), &lost);
    if (batch != NULL) peer_put_merge(batch, m);
    if (batch != NULL || lost) return;
    for (uint32_t k = 1; m->kind == PEER_MERGE_GONE && siblings_is_face(v->p->w) && k < siblings_count(v->p->w); k++)
        if (seats_is_live(v->p->w, k, m->group) && (batch = passed_on(v, k, &lost)) != NULL) peer_put_merge(batch, m);
    merge_receive(v->p->w, v->node, m);
}

static void got_load(void *context, const struct peer_load *l)
{
    struct receiver *v = context;
    const struct partition *system = map_get(v->p->w, KV_PARTITION_SYSTEM);
    uint32_t node = system == NULL ? 0 : map_leader(system);
    bool goes_on = v->node == v->p->w->node_id && node != 0 && node != v->node; /* of another worker of this node, for who coordinates */
    if (goes_on) peer_send_load(v->p, node, l);
    else load_learn(v->p->w, l);
}

static void got_snapshot(void *context, const struct peer_snapshot *s)
{
    struct receiver *v = context;
    struct worker *w = v->p->w;
    bool lost;
    uint32_t index = worker_of(v, s->group, s->to);
    if (!s->answer && siblings_is_face(w) && w->siblings != NULL) index = seats_place(w, s->group, s->to, s->descriptor);
    if (index == UINT32_MAX) return;
    struct kv_buf *batch = passed_on(v, index, &lost);
    if (batch != NULL) peer_put_snapshot(batch, s);
    else if (!lost) transfer_receive(w, v->node, s);
}

enum kv_err peer_receive(struct peers *p, uint32_t node, struct kv_slice bytes, struct kv_buf *reply)
{
    struct receiver v = {p, node, reply};
    if (reply != NULL && peer_find(p, node) == NULL) return KV_AUTH;
    struct peer_reader reader = {.context = &v, .beat = got_beat, .lost = got_lost, .birth = got_birth, .raft = got_raft, .snapshot = got_snapshot, .told = got_told, .directory = got_directory, .scrub = got_scrub, .nodes = got_nodes, .merge = got_merge, .load = got_load};
    kv_arena_reset(&p->arena);
    return peer_batch_read(bytes, &p->arena, &reader);
}

#include "server/rest.h"

#include "server/peer.h"
#include "server/peer_codec.h"
#include "server/scrub.h"

/*
 * (1) A group that is not on the active list is quiet, and nothing of it waits here. group_touch() puts it there.
 * (2) A quiet replica has, both ways, a connection to each node that may need it: a leader to those of all members, a
 *     follower to that of its leader. When one ends it is woken.
 * (3) Every group is looked at within some seconds all the same, a few with each tick: for what has no other event
 *     (a scrub that is due, a preferred leader that is back), and as a second line for (2).
 */
enum { CAMPAIGNS_PER_TICK = 64,
       LOOK_TICKS = 100 /* in so many ticks all groups have been looked at */ };

void rest_activate(struct group *g)
{
    struct worker *w = g->w;
    if (g->active_link != NULL) return;
    g->active_next = w->active;
    g->active_link = &w->active;
    if (w->active != NULL) w->active->active_link = &g->active_next;
    w->active = g;
}

void rest_forget(struct group *g)
{
    if (g->active_link == NULL) return;
    *g->active_link = g->active_next;
    if (g->active_next != NULL) g->active_next->active_link = g->active_link;
    g->active_link = NULL;
}

/* Nothing here waits for this group, nor it for anything. */
static bool is_idle(const struct group *g)
{
    bool waits = g->waiting_head != NULL || g->reads_head != NULL || g->acks_head != NULL;
    bool works = g->stalled != NULL || g->fetching || g->appends_open > 0 || g->staged.count > 0 || g->applied < g->apply_to;
    bool merges = g->descriptor.frozen_merge != 0 || g->gone_ns != 0; /* merge_tick() looks after it */
    bool cares = merges || g->transfers != NULL || g->sends != NULL || g->scrub.asked_ns != 0 || g->clock_index != 0;
    return !waits && !works && !cares && !g->dead && !g->installing && !g->rowless;
}

bool rest_is_sound(const struct group *g)
{
    return g->active_link != NULL || (raft_is_quiet(g->raft) && is_idle(g));
}

/* What lasts only while something is done. */
static void shrink(struct group *g)
{
    staged_free(&g->staged);
    g->staged = (struct group_staged){0};
}

void rest_wake(struct group *g)
{
    if (!raft_is_quiet(g->raft)) return;
    raft_wake(g->raft, env_now_ns(g->w->env));
    group_touch(g);
}

void rest_offer(struct group *g, uint64_t now_ns)
{
    struct worker *w = g->w;
    if (g->was_read) g->read_ns = now_ns;
    g->was_read = false;
    if (w->stopping || w->config->raft_quiet == 0 || g->lead_index == 0 || g->applied < g->lead_index || !is_idle(g) ||
        now_ns - g->read_ns < w->config->raft_quiet || descriptor_is_joint(&g->descriptor) || member_wants(g))
        return;
    for (uint32_t i = 0; i < g->descriptor.replica_count; i++) {
        uint32_t node = g->descriptor.replicas[i].node;
        if (node != w->node_id && !peer_is_heard(w->peers, node)) return;
    }
    raft_rest(g->raft, now_ns);
}

bool rest_agrees(const struct group *g, uint32_t node)
{
    return is_idle(g) && peer_is_heard(g->w->peers, node);
}

/* A quiet group in its turn. */
static void look_at(struct group *g, uint64_t now_ns)
{
    if (g->dead || g->installing || !raft_is_quiet(g->raft)) return;
    uint32_t leader = group_leader_node(g);
    if (!group_leads(g)) {
        if (leader != 0 && !peer_is_heard(g->w->peers, leader)) group_peer_closed(g, leader, 0);
        return;
    }
    if (g->w->stopping || member_wants(g)) rest_wake(g);
    else scrub_tick(g, now_ns);
}

static void look(struct worker *w, uint64_t now_ns)
{
    uint64_t id;
    void *v;
    for (uint32_t left = 1 + w->groups.count / LOOK_TICKS; left > 0; left--) {
        if (!kv_map_next(&w->groups, &w->look_cursor, &id, &v)) {
            w->look_cursor = 0;
            return;
        }
        look_at(v, now_ns);
    }
}

void rest_tick(struct worker *w, uint64_t now_ns)
{
    for (struct group *g = w->active, *next; g != NULL; g = next) {
        next = g->active_next;
        group_tick(g, now_ns);
        if (g->is_dirty || !raft_is_quiet(g->raft) || !is_idle(g)) continue;
        rest_forget(g);
        shrink(g);
    }
    look(w, now_ns);
}

void rest_peer_closed(struct worker *w, uint32_t node)
{
    uint32_t cursor = 0, led = 0;
    uint64_t id;
    void *v;
    while (kv_map_next(&w->groups, &cursor, &id, &v)) {
        struct group *g = v;
        bool leads = group_leader_node(g) == node;
        group_peer_closed(g, node, led / CAMPAIGNS_PER_TICK * KV_MS(NODE_TICK_MS));
        led += leads;
    }
}

void rest_lost(struct group *g)
{
    uint32_t leader = group_leader_node(g);
    if (raft_is_quiet(g->raft) && !g->is_gone && leader != 0 && (leader != g->w->node_id || g->w->siblings != NULL))
        peer_send_lost(g->w->peers, leader, &(struct peer_lost){.group = g->id, .replica = g->replica});
}

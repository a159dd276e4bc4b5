#include "server/group_impl.h"

#include <stdlib.h>

#include "server/birth.h"
#include "server/keyspaces.h"
#include "server/map.h"
#include "server/merge.h"
#include "server/peer.h"
#include "server/request.h"
#include "server/rest.h"
#include "server/scrub.h"

/* What comes in and how a turn goes on: messages and ticks to the core, and its readies out. */

static void role_changed(struct group *g, const struct raft_ready *rd)
{
    struct worker *w = g->w;
    enum raft_role before = g->role;
    raft_id leader_before = g->leader;
    g->role = rd->role;
    g->leader = rd->leader;
    if (g->leader != 0) g->leaderless_ns = 0;
    else if (g->leaderless_ns == 0) g->leaderless_ns = env_now_ns(w->env);
    if (g->leader != leader_before || before != g->role)
        JOURNAL(w->journal, raft, INFO, "role", "group=%u replica=%u role=%s leader=%u node=%u term=%llu", g->id,
                g->replica, raft_role_text(g->role), g->leader, group_leader_node(g),
                (unsigned long long)raft_term_now(g->raft));
    if (before == RAFT_LEADER && g->role != RAFT_LEADER) {
        g->lead_index = 0;
        g->clock_index = 0;
        member_forget(g);
        reads_park(g);
        acks_park(g);
    }
    if (g->role == RAFT_LEADER && raft_term_now(g->raft) != g->lead_term) {
        g->lead_term = raft_term_now(g->raft);
        g->lead_index = 0;
        g->clock_index = 0;
        g->leader_since_ns = g->led_ns = env_now_ns(w->env);
        map_tell(g);
    }
    if (g->leader != 0) request_wake(w);
}

void group_pump(struct group *g)
{
    struct raft_ready rd;
    g->is_asked = false;
    g->due_ns = 0;
    if (g->stalled != NULL) append_offer(g, g->stalled);
    while (g->stalled == NULL && !g->dead && !g->installing && !g->w->poisoned && raft_ready(g->raft, &rd)) {
        if (rd.role_changed) role_changed(g, &rd);
        for (uint32_t i = 0; i < rd.send_count; i++)
            if (rd.send[i].type != RAFT_APPEND || rd.send[i].entry_count == 0) send_message(g, &rd.send[i]);
        if (rd.must_sync || rd.send_durable_count > 0 || rd.append_count > 0 || rd.hard_changed) persist(g, &rd);
        if (g->w->poisoned) return; /* what the core counts on is not in the log */
        /* Appends go out before our own sync returns, but their bytes are read back from the log. */
        for (uint32_t i = 0; i < rd.send_count; i++)
            if (rd.send[i].type == RAFT_APPEND && rd.send[i].entry_count > 0) send_message(g, &rd.send[i]);
        if (rd.apply_last != 0) g->apply_to = rd.apply_last;
        if (rd.read_count > 0) reads_confirm(g, rd.reads, rd.read_count);
        bool begin = g->role == RAFT_LEADER && g->lead_index == 0;
        if (g->incoming == NULL && rd.append_count > 0) staged_clear(&g->staged); /* taken or moved */
        raft_advance(g->raft);
        if (begin) lead_begin(g);
    }
}

/* What is applied may give the core something to say, and that may be that more is committed. */
static void apply_all(struct group *g)
{
    uint64_t apply_to;
    do {
        apply_pump(g);
        apply_to = g->apply_to;
        if (g->dead || g->installing || g->w->poisoned) return;
        group_pump(g);
    } while (g->apply_to != apply_to);
}

void group_settle(struct group *g)
{
    if (!g->dead && !g->installing && !g->w->poisoned) apply_all(g);
    if (g->dead || g->installing || g->w->poisoned) return;
    if (g->is_gone) {
        g->dead = true;
        group_touch(g);
        return;
    }
    if (g->clock_index != 0 && g->applied >= g->clock_index) g->clock_index = 0;
    if (g->reads_head != NULL) reads_serve(g);
    if (g->acks_head != NULL) acks_serve(g, env_now_ns(g->w->env));
    g->due_ns = raft_deadline(g->raft);
}

void group_corrupt(struct group *g, const char *what, uint64_t index)
{
    if (g->dead) return;
    JOURNAL(g->w->journal, store, ERROR, "replica-corrupt", "group=%u replica=%u what=\"%s\" index=%llu", g->id, g->replica,
            what, (unsigned long long)index);
    store_group_damage(g->w->store, g->id, what);
    g->dead = true;
    group_touch(g);
}

/* Of what the core still has to say only the farewell leaves: the rest stands for bytes that the
 * disk may not hold. */
void group_yield(struct group *g, uint64_t now_ns)
{
    struct raft_ready rd;
    raft_yield(g->raft, now_ns);
    while (raft_ready(g->raft, &rd)) {
        if (rd.role_changed) role_changed(g, &rd);
        for (uint32_t i = 0; i < rd.send_count; i++)
            if (rd.send[i].type == RAFT_TIMEOUT_NOW) send_message(g, &rd.send[i]);
        raft_advance(g->raft);
    }
}

/* ---- inputs ---- */

void group_step(struct group *g, const struct raft_msg *m, const struct log_entry *entries)
{
    if (g->installing || g->dead || g->stalled != NULL) return; /* a lost message: it comes again */
    uint64_t now = env_now_ns(g->w->env);
    if (g->staged.count > 0) group_pump(g); /* what we proposed goes first: the core may truncate it now */
    if (g->stalled != NULL) return;
    if (m->type == RAFT_APPEND && m->entry_count > 0) {
        struct log *l = store_log(g->w->store);
        if (g->w->poisoned || log_is_short(l) || store_pressure(g->w->store) > 400) return; /* the leader asks again */
        struct group_staged in = {0};
        bool ok = true;
        for (uint32_t i = 0; i < m->entry_count && ok; i++) {
            kv_buf_append_slice(&in.bytes, entries[i].bytes);
            ok = staged_add(&in, m->index + 1 + i, entries[i].term, entries[i].flags);
        }
        if (ok && raft_step(g->raft, m, now) == RAFT_OK) {
            g->incoming = &in;
            group_pump(g);
            g->incoming = NULL;
        }
        staged_free(&in);
    } else if (m->quiet && m->type == RAFT_HEARTBEAT && !rest_agrees(g, group_node_of(g, m->from))) {
        struct raft_msg plain = *m;
        plain.quiet = false;
        raft_step(g->raft, &plain, now);
    } else {
        raft_step(g->raft, m, now);
    }
    group_touch(g);
}

void group_peer_closed(struct group *g, uint32_t node, uint64_t after_ns)
{
    for (uint32_t i = 0; i < g->descriptor.replica_count; i++)
        if (g->descriptor.replicas[i].node == node)
            raft_peer_closed(g->raft, g->descriptor.replicas[i].id, after_ns, env_now_ns(g->w->env));
    group_touch(g);
}

/* Proposals from when it led, up to where the snapshot reaches: it may hold their effect, and does not say. */
static void waiting_overtaken(struct group *g, uint64_t index)
{
    while (g->waiting_head != NULL && g->waiting_head->index <= index) {
        struct request *r = g->waiting_head;
        g->waiting_head = r->queue_next;
        if (g->waiting_head == NULL) g->waiting_tail = NULL;
        r->queue_next = NULL;
        request_fail(r, KV_UNAVAILABLE, "a snapshot took the place of the log before it was known to be committed");
    }
}

void group_restored(struct group *g, uint64_t index, uint64_t term, uint64_t clock_ms, const struct descriptor *d)
{
    if (group_describe(g, d) != KV_OK) abort(); /* the snapshot was refused if it does not decode */
    g->rowless = false;
    conf_from_descriptor(d, &g->conf);
    g->applied = g->apply_to = index;
    g->applied_term = term;
    g->clock_ms = clock_ms;
    g->checkpointed = index;
    raft_restored(g->raft, index, term, &g->conf, env_now_ns(g->w->env));
    waiting_overtaken(g, index);
    map_settle(g->w);
    if (g->id == KV_PARTITION_SYSTEM) keyspaces_load(g->w);
    group_touch(g);
}

void group_release_log(struct group *g, uint64_t index)
{
    if (index > g->checkpointed) index = g->checkpointed;
    if (index < log_first(store_log(g->w->store), g->id)) return;
    log_release(store_log(g->w->store), g->id, index);
    raft_compacted(g->raft, index);
}

void group_tick(struct group *g, uint64_t now_ns)
{
    if (g->installing || g->dead) return;
    if (g->stalled != NULL || (g->applied < g->apply_to && !g->fetching)) group_touch(g); /* they waited for room in the log */
    birth_tick(g, now_ns);
    merge_tick(g, now_ns);
    if (g->dead) return;
    if (g->w->is_beat && g->role == RAFT_LEADER) {
        rest_offer(g, now_ns);
        if (raft_beat(g->raft, now_ns)) group_touch(g);
    }
    if (g->due_ns <= now_ns) {
        raft_tick(g->raft, now_ns);
        group_touch(g);
    }
    if (g->role == RAFT_LEADER && g->lead_index == 0 && !g->w->poisoned) lead_begin(g); /* it was refused before */
    if (g->role == RAFT_LEADER && g->w->is_beat && !raft_is_quiet(g->raft)) {
        struct raft_status s;
        raft_status(g->raft, now_ns, &s);
        member_tick(g, &s);
        scrub_tick(g, now_ns);
    }
    if (g->acks_head != NULL) acks_serve(g, now_ns);
    transfer_tick(g, now_ns);
    sends_expire(g, now_ns);
}

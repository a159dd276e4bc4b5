#include "server/worker.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/base/endian.h"
#include "client/base/text.h"
#include "server/auth.h"
#include "server/coordinator.h"
#include "server/founding.h"
#include "server/host.h"
#include "server/jobs.h"
#include "server/keyspaces.h"
#include "server/leave.h"
#include "server/map.h"
#include "server/merge.h"
#include "server/nodes.h"
#include "server/peer.h"
#include "server/place.h"
#include "server/request.h"
#include "server/rest.h"
#include "server/scrub.h"
#include "server/seats.h"
#include "server/siblings.h"
#include "server/transfer.h"

/* The turn. Whatever arrived is stepped at once; at the end of the turn every group that
 * changed is pumped, the store writes and syncs once for all of them, and each peer and
 * each client gets one write. */
enum { VALUE_FEATURE_BYTES_MAX = 8 << 20,
};

uint64_t worker_random(struct worker *w)
{
    return w->env->ops->random(w->env);
}

void worker_job_begin(struct worker *w, struct worker_job *j)
{
    j->next = w->jobs;
    j->link = &w->jobs;
    if (w->jobs != NULL) w->jobs->link = &j->next;
    w->jobs = j;
}

void worker_job_end(struct worker_job *j)
{
    *j->link = j->next;
    if (j->next != NULL) j->next->link = j->link;
}

struct group *worker_group(const struct worker *w, uint32_t partition)
{
    return kv_map_get(&w->groups, partition);
}

void worker_turn(struct worker *w)
{
    if (!w->in_turn) w->env->ops->post(w->env, &w->turn);
}

static void clock_look(struct worker *w)
{
    if (w->event_now_ns != 0) return;
    w->event_now_ns = env_now_ns(w->env);
    w->event_wall_ms = env_wall_ms(w->env);
    worker_turn(w); /* its end forgets them */
}

uint64_t worker_event_now_ns(struct worker *w)
{
    clock_look(w);
    return w->event_now_ns;
}

uint64_t worker_event_wall_ms(struct worker *w)
{
    clock_look(w);
    return w->event_wall_ms;
}

static void end_group(struct worker *w, struct group *g)
{
    rest_lost(g);
    group_yield(g, env_now_ns(w->env)); /* not intact, or no member: somebody else must lead */
    struct descriptor d = g->descriptor;
    bool leaves = g->is_gone;
    worker_remove_group(w, g);
    if (leaves) leave_begin(w, &d);
}

static struct group *take_dirty(struct worker *w)
{
    struct group *g = w->dirty;
    if (g == NULL) return NULL;
    w->dirty = g->dirty_next;
    g->is_dirty = false;
    group_prefetch(w, w->dirty); /* a turn meets each group once: on the way from memory while the one before it is pumped */
    return g;
}

static struct group *take_settling(struct worker *w)
{
    struct group *g = w->settling;
    if (g == NULL) return NULL;
    w->settling = g->settle_next;
    g->settles = false;
    group_prefetch(w, w->settling);
    return g;
}

/* All groups are pumped before any of them is settled: of many groups with little to do each, the code and the
 * tables of either are met at a stretch. */
static void pump(struct worker *w)
{
    while (w->dirty != NULL || w->settling != NULL) {
        for (struct group *g; (g = take_dirty(w)) != NULL;) {
            if (g->dead) {
                end_group(w, g);
                continue;
            }
            group_pump(g);
            if (g->settles) continue;
            g->settles = true;
            g->settle_next = w->settling;
            w->settling = g;
        }
        struct group *g = take_settling(w);
        if (g == NULL) continue;
        group_settle(g);
        if (!siblings_is_face(w)) seats_tell(g);
    }
}

/* R5: the loop may sync itself only where nobody else waits for it. */
static bool inline_ok(const struct worker *w)
{
    return nodes_are_one(w) && w->turns - w->read_turn > 16;
}

static void turn_end(struct env_task *t)
{
    struct worker *w = container_of(t, struct worker, turn);
    w->in_turn = true;
    w->turns++;
    worker_clock_forget(w);
    peers_hear_own(w->peers);
    if (w->map_is_stale) map_settle(w);
    if (w->woken) {
        w->woken = false;
        request_tick(w, env_now_ns(w->env));
    }
    pump(w);
    host_flush(w->host); /* feeds who waited, so that their requests join this turn's sync */
    pump(w);
    store_flush(w->store, inline_ok(w));
    pump(w); /* what an inline sync made durable */
    host_flush(w->host);
    peers_flush(w->peers);
    siblings_flush(w);
    w->in_turn = false;
    worker_clock_forget(w);
    if (w->dirty != NULL || w->woken || log_has_queued(store_log(w->store)) || peers_say_own(w->peers)) worker_turn(w);
}

void worker_add_group(struct worker *w, struct group *g)
{
    if (!kv_map_put(&w->groups, g->id, g)) abort(); /* out of memory at start: nothing to lose yet */
    map_add_group(w, g);
    if (g->id == KV_PARTITION_SYSTEM && !g->rowless) keyspaces_load(w);
    keyspaces_look_again(w);
    group_touch(g);
    seats_tell(g);
}

void worker_remove_group(struct worker *w, struct group *g)
{
    g->dead = true;
    for (struct group **link = &w->dirty; *link != NULL; link = &(*link)->dirty_next)
        if (*link == g) {
            *link = g->dirty_next;
            break;
        }
    for (struct group **link = &w->settling; *link != NULL; link = &(*link)->settle_next)
        if (*link == g) {
            *link = g->settle_next;
            break;
        }
    for (struct request *r = w->open_head, *next; r != NULL; r = next) {
        next = r->next;
        bool queued = r->state == REQUEST_PROPOSED || r->state == REQUEST_READING || r->state == REQUEST_AWAITING;
        if (queued && r->partition == g->id) r->deadline_ns = 0; /* the next tick answers it */
    }
    w->deadlines_ns = 0;
    for (struct request *r = g->waiting_head; r != NULL; r = r->queue_next) r->state = REQUEST_NEW;
    for (struct request *r = g->reads_head; r != NULL; r = r->queue_next) r->state = REQUEST_NEW;
    for (struct request *r = g->acks_head; r != NULL; r = r->queue_next) r->state = REQUEST_NEW;
    kv_map_remove(&w->groups, g->id);
    map_remove_group(w, g);
    uint32_t id = g->id;
    group_close(g);
    seats_tell_gone(w, id);
}

/* ---- replicas that begin ---- */

struct creation {
    struct log_append append;
    struct worker *w;
    uint32_t partition;
    bool is_first; /* ever: afterwards it has all of its log */
};

void worker_open_failed(struct worker *w, uint32_t partition, enum kv_err err)
{
    JOURNAL(w->journal, store, ERROR, "group-failed", "group=%u err=%s", partition, kv_err_name(err));
    w->poisoned = true;
    if (w->o.stop_wanted != NULL) w->o.stop_wanted(w->o.context);
}

static void created(struct log_append *a, enum kv_err err)
{
    struct creation *c = container_of(a, struct creation, append);
    struct worker *w = c->w;
    struct store_group sg;
    struct group *g = NULL;
    if (err == KV_OK && !store_group_get(w->store, c->partition, &sg)) err = KV_NOT_FOUND;
    if (err == KV_OK) err = group_open(w, &sg, c->is_first, &g);
    if (err == KV_OK) worker_add_group(w, g);
    else worker_open_failed(w, c->partition, err);
    free(c);
}

bool worker_create_replica(struct worker *w, const struct descriptor *d, uint32_t replica, uint64_t owed_index,
                           uint64_t owed_term)
{
    struct creation *c = calloc(1, sizeof *c);
    struct kv_buf bytes = {0};
    descriptor_encode(d, &bytes);
    enum kv_err err = KV_NO_SPACE;
    if (c != NULL && !bytes.failed) {
        *c = (struct creation){.append.done = created, .w = w, .partition = d->id, .is_first = owed_index == 0};
        err = store_group_create(w->store, d->id, replica, kv_buf_slice(&bytes), owed_index, owed_term, &c->append);
    }
    kv_buf_free(&bytes);
    if (err != KV_OK) free(c);
    else worker_turn(w);
    return err == KV_OK;
}

/* ---- life ---- */

static enum kv_err exec_get(struct exec_state *s, struct kv_slice key, struct kv_slice *row)
{
    struct worker *w = container_of(s, struct worker, exec_state);
    return store_get(w->store, STORE_DATA, key, kv_slice(NULL, 0), row);
}

static void store_poisoned(void *context, enum kv_err err)
{
    struct worker *w = context;
    JOURNAL(w->journal, store, ERROR, "poisoned", "err=%s action=\"stops acknowledging; restart after checking the disk\"",
            kv_err_name(err));
    if (w->poisoned) return;
    w->poisoned = true; /* R15: no vote, no ack, no lease from here on */
    if (w->o.stop_wanted != NULL) w->o.stop_wanted(w->o.context);
}

void worker_poison(struct worker *w)
{
    if (w->poisoned) return;
    JOURNAL(w->journal, store, ERROR, "poisoned-beside", "action=\"another worker's disk failed: all of the node stops acknowledging\"");
    w->poisoned = true;
    if (w->o.stop_wanted != NULL) w->o.stop_wanted(w->o.context);
}

enum kv_err worker_log_levels(struct worker *w, const char *levels, const char **why)
{
    enum kv_err err = journal_set(w->journal, levels, why);
    if (err == KV_OK) siblings_order_levels(w, levels);
    return err;
}

static uint64_t store_now(void *context)
{
    return env_now_ns(((struct worker *)context)->env);
}

/* Where a worker's store is, below the data directory of the node. */
struct folder {
    char text[24];
};
static struct folder folder_of(const struct worker *w)
{
    struct folder f = {""};
    if (!siblings_is_face(w)) snprintf(f.text, sizeof f.text, "worker-%u/", w->o.index);
    return f;
}

static enum kv_err open_groups(struct worker *w, char *why, size_t why_size)
{
    uint32_t cursor = 0, id;
    while (store_group_next(w->store, &cursor, &id)) {
        struct store_group sg;
        if (!store_group_get(w->store, id, &sg) || sg.state == CHECKPOINT_GROUP_TOMBSTONE) continue;
        if (sg.unborn) continue; /* until its parent has applied its birth again */
        if (sg.log.damaged) {
            /* Not proven intact: it stays away, says so, and gets a successor (R4). */
            JOURNAL(w->journal, store, WARN, "replica-not-intact", "group=%u replica=%u why=damaged", id, sg.replica);
            if (!nodes_are_one(w)) continue;
            snprintf(why, why_size, "%s/%s%s; no other node has a copy. Next: kvlog salvage %s, or restore a backup",
                     w->config->node_data, folder_of(w).text, store_damage(w->store), w->config->node_data);
            return KV_CORRUPT;
        }
        struct group *g = NULL;
        enum kv_err err = group_open(w, &sg, false, &g);
        if (err == KV_CORRUPT) continue; /* likewise */
        if (err != KV_OK) {
            snprintf(why, why_size, "partition %u cannot be opened: %s", id, kv_err_text(err));
            return err;
        }
        if (g->rowless)
            JOURNAL(w->journal, store, WARN, "replica-rowless", "group=%u replica=%u why=snapshot-interrupted", id,
                    g->replica);
        worker_add_group(w, g);
    }
    return KV_OK;
}

static void tick(struct env_timer *t);
enum kv_err worker_create(const struct worker_options *o, struct worker **out, char *why, size_t why_size)
{
    struct worker *w = calloc(1, sizeof *w);
    struct foresight *f = foresight_create();
    if (w == NULL || f == NULL) {
        free(w);
        free(f);
        return KV_NO_SPACE;
    }
    w->foresight = f;
    w->o = *o;
    w->config = o->config;
    w->env = o->env;
    w->journal = o->journal;
    w->node_id = (uint32_t)o->config->node_id;
    w->turn.run = turn_end;
    w->tick.fire = tick;
    pace_init(w);
    w->exec_state.get = exec_get;
    w->started_ns = env_now_ns(w->env);
    kv_arena_init(&w->arena, 64 << 20);
    kv_hex_decode(kv_str(o->config->cluster_id), w->cluster_id, sizeof w->cluster_id);
    for (size_t i = 0; i < sizeof w->client_id; i += 8) {
        uint64_t r = worker_random(w);
        memcpy(w->client_id + i, &r, 8);
    }
    uint64_t share = siblings_count(w); /* what is said of a node's memory and disk is for all of its workers */
    enum kv_err err = nodes_create(w, why, why_size);
    if (err != KV_OK) goto fail;
    struct store_options so = {.disk = o->disk,
                               .checkpoint = o->checkpoint,
                               .now_ns = store_now,
                               .poisoned = store_poisoned,
                               .context = w,
                               .memtable_bytes_max = o->config->storage_memtable / share,
                               .dedup_retention_ms = KV_DEDUP_MS,
                               .is_original = nodes_are_one(w) || o->config->bootstrap,
                               .reserve_bytes = o->config->storage_reserve / share,
                               .log = {.segment_bytes = o->config->storage_segment,
                                       .segment_bytes_max = o->config->storage_segment_max,
                                       .cache_bytes_max = o->config->storage_log_cache / share}};
    err = store_open(&so, worker_random(w), w->node_id, &w->store);
    if (err != KV_OK) {
        const char *what = w->store == NULL ? NULL : store_damage(w->store);
        snprintf(why, why_size, "cannot open the data in %s%s%s: %s%s%s%s", o->config->node_data, siblings_is_face(w) ? "" : "/", folder_of(w).text,
                 err == KV_CONFLICT ? "it belongs to another node" : kv_err_text(err), what != NULL ? " (" : "",
                 what != NULL ? what : "", what != NULL ? ")" : "");
        goto fail;
    }
    if (o->config->cluster_id[0] == '\0') { /* a single node: its own, as lasting as its data */
        le64_put(w->cluster_id, store_id(w->store));
        le64_put(w->cluster_id + 8, ~store_id(w->store));
    }
    if (!siblings_is_face(w)) memcpy(w->cluster_id, o->first->cluster_id, sizeof w->cluster_id);
    err = siblings_is_face(w) ? workers_check(w, why, why_size) : KV_OK;
    if (err != KV_OK) goto fail;
    if (store_damage(w->store) != NULL)
        JOURNAL(w->journal, store, ERROR, "damage", "what=\"%s%s\"", folder_of(w).text, store_damage(w->store));
    snprintf(why, why_size, "out of memory");
    err = KV_NO_SPACE;
    w->auth = auth_create(w);
    w->keyspaces = keyspaces_create(w);
    w->placements = jobs_create(w);
    if (w->auth == NULL || w->keyspaces == NULL || w->placements == NULL) goto fail;
    err = siblings_create(w);
    if (err == KV_OK) err = peers_create(w, &w->peers);
    if (err == KV_OK) err = host_create(w, &w->host);
    if (err == KV_OK) err = open_groups(w, why, why_size);
    if (err != KV_OK) goto fail;
    *out = w;
    return KV_OK;
fail:
    worker_destroy(w);
    return err;
}

enum kv_err worker_start(struct worker *w, char *why, size_t why_size)
{
    if (nodes_are_one(w) || (w->config->bootstrap && store_is_fresh(w->store))) founding_begin(w);
    siblings_receive(w); /* what is where, before anybody asks */
    enum kv_err err = siblings_is_face(w) ? host_listen(w->host, why, why_size) : KV_OK;
    if (err != KV_OK) return err;
    peers_start(w->peers);
    seats_tell_all(w);
    w->is_beat = true; /* how it is, at once */
    siblings_tick(w, env_now_ns(w->env));
    siblings_flush(w);
    w->env->ops->timer_start(w->env, &w->tick, KV_MS(NODE_TICK_MS));
    worker_turn(w);
    return KV_OK;
}

/* After a checkpoint the log may shrink; it keeps raft.log_keep for slow followers, where there are any. */
static void release_log(struct worker *w)
{
    struct store_stats st;
    store_stats(w->store, &st);
    if (st.checkpoints == w->checkpoints_seen) return;
    w->checkpoints_seen = st.checkpoints;
    uint32_t cursor = 0;
    uint64_t id;
    void *v;
    while (kv_map_next(&w->groups, &cursor, &id, &v)) {
        struct store_group sg;
        struct group *g = v;
        if (store_group_get(w->store, g->id, &sg)) g->checkpointed = sg.checkpointed;
        if (!siblings_is_face(w)) seats_tell(g);
    }
    struct log *l = store_log(w->store);
    uint64_t keep = !nodes_are_one(w) ? w->config->raft_log_keep / siblings_count(w) : 0, segment = 0;
    while (log_bytes_live(l) > keep && log_live_next(l, &segment))
        for (cursor = 0; kv_map_next(&w->groups, &cursor, &id, &v);) {
            struct group *g = v;
            uint64_t index = log_index_in(l, g->id, segment);
            if (index != 0 && index <= g->checkpointed) group_release_log(g, index);
        }
}

/* Gives away what it leads, again where that failed; false: it leads nothing any more. */
static bool hand_over(struct worker *w, uint64_t now_ns)
{
    uint32_t cursor = 0, led = 0;
    uint64_t id;
    void *v;
    while (kv_map_next(&w->groups, &cursor, &id, &v)) {
        struct group *g = v;
        struct raft_status s;
        if (!group_leads(g)) continue;
        led++;
        raft_status(g->raft, now_ns, &s);
        if (s.transferring) continue;
        raft_transfer(g->raft, 0, now_ns);
        group_touch(g);
    }
    return led > 0;
}

static void stop_step(struct worker *w, uint64_t now_ns)
{
    bool late = now_ns >= w->stop_deadline_ns || w->poisoned; /* poisoned: no answer is coming */
    bool others = !nodes_are_one(w) && !w->poisoned;
    bool hands_over = others && !late && now_ns + KV_SECONDS(2) < w->stop_deadline_ns;
    if (hands_over && (hand_over(w, now_ns) || siblings_lead(w))) return;
    if (!siblings_is_face(w)) return; /* until worker_end() */
    if (!w->host_stopped) {
        w->host_stopped = true;
        host_stop(w->host);
    }
    if (w->open_count > 0 && !late) return;
    if (w->closing) {
        if (!host_is_empty(w->host) && !late) return;
        w->env->ops->timer_stop(w->env, &w->tick);
        siblings_end(w);
        void (*stopped)(void *) = w->stopped;
        w->stopped = NULL;
        if (stopped != NULL) stopped(w->stopped_context);
        return;
    }
    w->closing = true;
    request_drop_all(w);
    host_flush(w->host);
    peers_stop(w->peers);
    host_close_all(w->host);
}

/* R15: leaderships go to whoever is most advanced, at once; nothing else leaves any more. */
static bool poison_step(struct worker *w, uint64_t now_ns)
{
    if (!w->poisoned || w->yielded) return false;
    w->yielded = true;
    uint32_t cursor = 0;
    uint64_t id;
    void *v;
    while (kv_map_next(&w->groups, &cursor, &id, &v)) group_yield(v, now_ns);
    return true;
}

static void tick(struct env_timer *t)
{
    struct worker *w = container_of(t, struct worker, tick);
    worker_clock_forget(w);
    uint64_t now = env_now_ns(w->env);
    w->env->ops->timer_start(w->env, &w->tick, KV_MS(NODE_TICK_MS));
    w->is_beat = now + KV_MS(NODE_TICK_MS) / 2 - w->beat_ns >= w->config->raft_heartbeat;
    if (w->is_beat) w->beat_ns = now;
    if (!w->poisoned) rest_tick(w, now);
    bool yields = poison_step(w, now);
    map_tick(w, now);
    jobs_tick(w, now);
    load_tick(w, now);
    coordinator_tick(w, now);
    place_tick(w, now);
    peers_tick(w->peers, now);
    host_tick(w->host, now);
    merge_tick_all(w, now);
    request_tick(w, now);
    transfer_expire_inbound(w, now);
    keyspaces_tick(w);
    nodes_tick(w);
    siblings_tick(w, now);
    release_log(w);
    worker_turn(w);
    if (w->stopping && !yields) stop_step(w, now); /* what was yielded leaves first */
}

void worker_mail(struct worker *w)
{
    siblings_receive(w);
}

void worker_end(struct worker *w)
{
    if (w->closing) return;
    w->closing = true;
    request_drop_all(w);
    w->env->ops->timer_stop(w->env, &w->tick);
    if (w->o.ended != NULL) w->o.ended(w->o.context);
}

void worker_recheck_clients(struct worker *w)
{
    host_recheck_clients(w->host);
    worker_turn(w);
}

void worker_stop(struct worker *w, void (*stopped)(void *context), void *context)
{
    w->stopped = stopped;
    w->stopped_context = context;
    if (w->stopping) return;
    w->stopping = true;
    pace_drain(w);
    uint64_t now = env_now_ns(w->env);
    w->stop_deadline_ns = now + KV_MS(3500);
    if (!nodes_are_one(w) && !w->poisoned) hand_over(w, now);
}

void worker_destroy(struct worker *w)
{
    if (w == NULL) return;
    uint32_t cursor = 0;
    uint64_t id;
    void *v;
    if (w->host != NULL && w->tick.heap_index != 0) w->env->ops->timer_stop(w->env, &w->tick);
    pace_close(w);
    host_destroy(w->host);
    for (struct request *r = w->open_head, *next; r != NULL; r = next) {
        next = r->next;
        free(r->memory);
        free(r);
    }
    w->open_head = NULL;
    if (w->store != NULL) { /* what is sent hangs on the store, and the disk may be at work for it */
        w->o.disk->ops->drain(w->o.disk);
        while (kv_map_next(&w->groups, &cursor, &id, &v)) transfer_close(v);
        cursor = 0;
        store_close(w->store);
    }
    transfer_drop_inbound(w); /* what is received too: an install reads from it until then */
    scrub_drop(w);
    leave_drop(w);
    merge_drop(w);
    while (kv_map_next(&w->groups, &cursor, &id, &v)) group_close(v);
    kv_map_free(&w->groups);
    map_free(w);
    while (w->jobs != NULL) {
        struct worker_job *j = w->jobs;
        worker_job_end(j);
        j->discard(j);
    }
    peers_destroy(w->peers);
    auth_destroy(w->auth);
    keyspaces_destroy(w->keyspaces);
    jobs_destroy(w->placements);
    nodes_destroy(w->nodes);
    siblings_destroy(w);
    fan_free_cursors(w);
    exec_free(&w->exec);
    kv_buf_free(&w->exec_reply);
    kv_buf_free(&w->exec_rows);
    kv_arena_free(&w->arena);
    free(w->foresight);
    request_free_spares(w);
    append_spares_free(w);
    free(w);
}

void worker_check(const struct worker *w)
{
    uint32_t cursor = 0;
    uint64_t id;
    void *v;
    while (kv_map_next(&w->groups, &cursor, &id, &v)) {
        const struct group *g = v;
        raft_check(g->raft);
        assert(w->poisoned || rest_is_sound(g)); /* a poisoned one does not tick; the node ends soon */
    }
}

bool worker_group_next(const struct worker *w, uint32_t *cursor, uint32_t *group, uint64_t *applied, uint64_t *hash,
                       bool *is_leader)
{
    uint64_t id;
    void *v;
    if (!kv_map_next(&w->groups, cursor, &id, &v)) return false;
    struct group *g = v;
    *group = g->id;
    *applied = g->applied;
    *hash = g->hash;
    *is_leader = group_leads(g);
    return true;
}

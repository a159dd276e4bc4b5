#include "server/transfer.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/group.h"
#include "server/keyspaces.h"
#include "server/siblings.h"

enum { CHUNK_BYTES = 512 << 10,
       BUSY_MS = 250 };

/* ---- sending ---- */

struct transfer {
    struct transfer *next;
    struct worker *w;
    struct group *g; /* NULL: given up, freed by the callback under way */
    raft_id to;
    uint32_t node;
    uint64_t id, offset;                 /* what the receiver is known to hold */
    uint64_t moved_ns, asked_ns, due_ns; /* last answer, last message, earliest next chunk */
    uint64_t over_ns;                    /* not 0: it has to wait over there, and here for as long before another is made */
    bool exported, busy, waiting;        /* busy: a disk call is under way; waiting: for an answer */
    struct store_export export;
    struct store_chunk chunk;
    uint8_t *bytes;
};

static void transfer_free(struct transfer *t)
{
    if (t->exported) store_export_free(t->w->store, &t->export);
    free(t->bytes);
    free(t);
}

static void transfer_end(struct transfer *t, bool ok)
{
    struct group *g = t->g;
    for (struct transfer **link = &g->transfers; *link != NULL; link = &(*link)->next)
        if (*link == t) {
            *link = t->next;
            break;
        }
    raft_snapshot_done(g->raft, t->to, ok);
    JOURNAL(g->w->journal, raft, INFO, "snapshot-sent", "group=%u to=%u node=%u bytes=%llu ok=%d", g->id, t->to, t->node,
            (unsigned long long)t->offset, ok);
    group_touch(g);
    t->g = NULL;
    if (!t->busy) transfer_free(t);
}

static void chunk_read_done(struct store_chunk *c, enum kv_err err)
{
    struct transfer *t = container_of(c, struct transfer, chunk);
    t->busy = false;
    if (t->g == NULL) {
        transfer_free(t);
        return;
    }
    /* A piece is proof of a leader to who takes it: once deposed, we would claim another's term. */
    if (err != KV_OK || raft_role_now(t->g->raft) != RAFT_LEADER) {
        transfer_end(t, false);
        return;
    }
    struct worker *w = t->w;
    const struct store_snapshot *s = &t->export.out;
    struct peer_snapshot m = {.group = t->g->id,
                              .from = t->g->replica,
                              .to = t->to,
                              .id = t->id,
                              .term = raft_term_now(t->g->raft),
                              .index = s->index,
                              .index_term = s->term,
                              .clock_ms = s->clock_ms,
                              .descriptor = s->descriptor,
                              .size = s->bytes,
                              .checksum = s->checksum,
                              .offset = t->offset,
                              .data = kv_slice(t->bytes, c->got)};
    peer_send_snapshot(w->peers, t->node, &m);
    t->waiting = true;
    t->asked_ns = env_now_ns(w->env);
    uint64_t start = w->snapshot_free_ns > t->asked_ns ? w->snapshot_free_ns : t->asked_ns;
    w->snapshot_free_ns = start + c->got * 1000000000u * siblings_senders(w) / w->config->snapshot_rate;
    t->due_ns = w->snapshot_free_ns;
}

static void send_chunk(struct transfer *t)
{
    t->chunk = (struct store_chunk){.done = chunk_read_done, .offset = t->offset, .bytes = t->bytes, .size = CHUNK_BYTES};
    memcpy(t->chunk.file, t->export.out.file, sizeof t->chunk.file);
    t->busy = true;
    t->waiting = false;
    store_chunk_read(t->w->store, &t->chunk);
}

/* Behind the end a chunk is empty: it asks whether the install is done, or must begin again. */
static void export_done(struct store_export *e, enum kv_err err)
{
    struct transfer *t = container_of(e, struct transfer, export);
    t->busy = false;
    t->exported = err == KV_OK;
    if (t->g == NULL) transfer_free(t);
    else if (err != KV_OK) {
        if (err == KV_CORRUPT) group_corrupt(t->g, "a row is not what was written", t->g->applied);
        transfer_end(t, false);
    } else {
        t->moved_ns = env_now_ns(t->w->env);
        send_chunk(t);
    }
}

bool transfer_sends(const struct worker *w)
{
    return w->snapshot_free_ns != 0 && env_now_ns(w->env) < w->snapshot_free_ns + KV_SECONDS(1);
}

bool transfer_active(const struct group *g, raft_id to)
{
    for (const struct transfer *t = g->transfers; t != NULL; t = t->next)
        if (t->to == to) return true;
    return false;
}

bool transfer_progress(const struct group *g, raft_id to, uint64_t *sent, uint64_t *total)
{
    for (const struct transfer *t = g->transfers; t != NULL; t = t->next) {
        if (t->to != to || !t->exported) continue;
        *sent = t->offset;
        *total = t->export.out.bytes;
        return true;
    }
    return false;
}

void transfer_send(struct group *g, raft_id to)
{
    uint32_t node = group_node_of(g, to);
    if (node == 0 || transfer_active(g, to)) return;
    struct raft_status s;
    raft_status(g->raft, env_now_ns(g->w->env), &s);
    /* Who has not the right side could not apply the merge behind it. And after many elections the core knows the terms of its
     * last entries only: a snapshot of before those would not lead to one that it can send. */
    if (g->checkpointed < g->descriptor.merge_index || g->checkpointed < s.compacted) {
        store_checkpoint(g->w->store, NULL);
        raft_snapshot_done(g->raft, to, false);
        return;
    }
    struct transfer *t = calloc(1, sizeof *t);
    if (t != NULL) t->bytes = malloc(CHUNK_BYTES);
    if (t == NULL || t->bytes == NULL || !peer_connected(g->w->peers, node)) {
        if (t != NULL) free(t->bytes);
        free(t);
        raft_snapshot_done(g->raft, to, false);
        return;
    }
    t->w = g->w;
    t->g = g;
    t->to = to;
    t->node = node;
    t->id = worker_random(g->w) >> 1;
    t->moved_ns = env_now_ns(g->w->env);
    t->next = g->transfers;
    g->transfers = t;
    t->export = (struct store_export){.done = export_done, .group = g->id};
    t->busy = true;
    store_export(g->w->store, &t->export);
}

void transfer_tick(struct group *g, uint64_t now_ns)
{
    for (struct transfer *t = g->transfers, *next; t != NULL; t = next) {
        next = t->next;
        bool leads = group_leads(g) && group_node_of(g, t->to) != 0; /* a learner that was dropped: the next one there has another id */
        bool is_over = t->over_ns != 0 && now_ns > t->over_ns;
        if (!leads || (!t->busy && (is_over || now_ns - t->moved_ns > KV_SECONDS(10)))) transfer_end(t, false);
        else if (t->over_ns != 0) continue;
        else if (!t->busy && !t->waiting && t->exported && now_ns >= t->due_ns) send_chunk(t);
        else if (!t->busy && t->waiting && now_ns - t->asked_ns > KV_SECONDS(1)) send_chunk(t); /* lost: again */
    }
}

void transfer_close(struct group *g)
{
    while (g->transfers != NULL) {
        struct transfer *t = g->transfers;
        g->transfers = t->next;
        t->g = NULL;
        if (!t->busy) transfer_free(t);
    }
}

static void got_answer(struct worker *w, const struct peer_snapshot *s)
{
    struct group *g = worker_group(w, s->group);
    struct transfer *t = g == NULL ? NULL : g->transfers;
    while (t != NULL && t->id != s->id) t = t->next;
    if (t == NULL || t->busy || t->over_ns != 0) return;
    t->moved_ns = env_now_ns(w->env);
    if (s->err != KV_OK || s->installed || s->offset > t->export.out.bytes) {
        if (s->err == KV_BUSY) {
            t->over_ns = t->moved_ns + KV_MS(BUSY_MS);
            return;
        }
        if (s->err == KV_CONFLICT) member_refused(g, t->to);
        transfer_end(t, s->err == KV_OK && s->installed);
        return;
    }
    t->offset = s->offset;
    t->waiting = false;
    if (t->offset < t->export.out.bytes && t->moved_ns >= t->due_ns) send_chunk(t);
    else if (t->offset == t->export.out.bytes) t->waiting = true; /* it installs now */
}

/* ---- receiving ---- */

struct inbound {
    struct inbound *next;
    struct worker *w;
    uint32_t group, node;
    raft_id from, to;
    uint64_t id, got, heard_ns;
    struct store_snapshot snapshot;
    struct descriptor descriptor;
    uint8_t *descriptor_bytes;
    bool busy;
    struct store_chunk chunk;
    struct store_destroy destroy;
    struct log_append create;
    struct store_install install;
};

static void inbound_remove(struct inbound *in)
{
    for (struct inbound **link = &in->w->inbound; *link != NULL; link = &(*link)->next)
        if (*link == in) {
            *link = in->next;
            break;
        }
    store_file_remove(in->w->store, in->snapshot.file);
    free(in->chunk.bytes);
    free(in->descriptor_bytes);
    free(in);
}

static void answer(struct inbound *in, bool installed, enum kv_err err)
{
    struct peer_snapshot m = {.group = in->group, .from = in->to, .to = in->from, .id = in->id, .offset = in->got, .answer = true, .installed = installed, .err = err};
    peer_send_snapshot(in->w->peers, in->node, &m);
}

/* Replicas whose range the snapshot takes over stand still until that is durable, or has failed. */
static void victims_hold(const struct inbound *in)
{
    uint32_t cursor = 0;
    uint64_t id;
    void *v;
    struct kv_range range = {kv_key_slice(&in->descriptor.from), kv_key_slice(&in->descriptor.to)};
    while (kv_map_next(&in->w->groups, &cursor, &id, &v)) {
        struct group *g = v;
        struct kv_range own = {kv_key_slice(&g->descriptor.from), kv_key_slice(&g->descriptor.to)};
        if (g->id == in->group || g->installing || !kv_range_meets(range, own)) continue;
        g->installing = g->evicting = true;
        g->evictor = in->group;
    }
}

static void victim_settle(struct group *g)
{
    struct worker *w = g->w;
    struct store_group sg;
    if (store_group_get(w->store, g->id, &sg) && sg.state == CHECKPOINT_GROUP_TOMBSTONE) {
        JOURNAL(w->journal, raft, INFO, "evicted", "group=%u replica=%u by=%u", g->id, g->replica, g->evictor);
        worker_remove_group(w, g);
        return;
    }
    g->installing = g->evicting = false;
    group_touch(g);
}

static void victims_settle(const struct inbound *in)
{
    uint32_t cursor = 0;
    uint64_t id;
    void *v;
    while (kv_map_next(&in->w->groups, &cursor, &id, &v)) {
        struct group *g = v;
        if (!g->evicting || g->evictor != in->group) continue;
        victim_settle(g);
        cursor = 0; /* the map may have moved */
    }
}

/* At once, in the step that the caller has just begun. */
static void victims_evict(const struct inbound *in)
{
    struct kv_range range = {kv_key_slice(&in->descriptor.from), kv_key_slice(&in->descriptor.to)};
    victims_hold(in);
    store_evict(in->w->store, range, in->descriptor.range_epoch, in->group);
    victims_settle(in);
}

/* What it brings is there already, or it is not enough. */
static void answer_needless(struct inbound *in, const struct group *g)
{
    if (g->rowless) answer(in, false, KV_BUSY); /* older than the one that was interrupted */
    else answer(in, true, KV_OK);
    inbound_remove(in);
}

static void give_up(struct inbound *in, enum kv_err err, const char *phase)
{
    JOURNAL(in->w->journal, raft, WARN, "snapshot-refused", "group=%u replica=%u phase=%s err=%s", in->group, in->to,
            phase, kv_err_name(err));
    struct group *g = worker_group(in->w, in->group);
    struct store_group sg;
    victims_settle(in);
    if (g != NULL) g->installing = false;
    /* Half installed it goes on as the next start would find it. */
    if (g != NULL && !in->w->poisoned && store_group_get(in->w->store, in->group, &sg) && sg.state == CHECKPOINT_GROUP_INSTALLING) {
        worker_remove_group(in->w, g);
        if (group_open(in->w, &sg, false, &g) == KV_OK) worker_add_group(in->w, g);
    }
    answer(in, false, err);
    inbound_remove(in);
}

static void install_done(struct store_install *i, enum kv_err err)
{
    struct inbound *in = container_of(i, struct inbound, install);
    struct worker *w = in->w;
    struct group *g = worker_group(w, in->group);
    if (err != KV_OK || g == NULL) {
        give_up(in, err == KV_OK ? KV_NOT_FOUND : err, "install");
        return;
    }
    g->installing = false;
    victims_settle(in);
    group_restored(g, in->snapshot.index, in->snapshot.term, in->snapshot.clock_ms, &in->descriptor);
    JOURNAL(w->journal, raft, INFO, "snapshot-installed", "group=%u replica=%u index=%llu bytes=%llu", in->group, in->to,
            (unsigned long long)in->snapshot.index, (unsigned long long)in->snapshot.bytes);
    answer(in, true, KV_OK);
    inbound_remove(in);
}

static void install_start(struct inbound *in)
{
    struct group *g = worker_group(in->w, in->group);
    g->installing = true;
    victims_hold(in);
    in->install = (struct store_install){
        .done = install_done,
        .group = in->group,
        .range = {kv_key_slice(&in->descriptor.from), kv_key_slice(&in->descriptor.to)},
        .range_epoch = in->descriptor.range_epoch,
        .keep_rows = g->descriptor.frozen_merge != 0 && g->descriptor.frozen_merge == in->descriptor.frozen_merge && !g->rowless,
        .snapshot = in->snapshot};
    store_install(in->w->store, &in->install);
}

static void create_done(struct log_append *a, enum kv_err err)
{
    struct inbound *in = container_of(a, struct inbound, create);
    struct worker *w = in->w;
    struct store_group sg;
    struct group *g = NULL;
    if (err == KV_OK && !store_group_get(w->store, in->group, &sg)) err = KV_NOT_FOUND;
    if (err == KV_OK) err = group_open(w, &sg, false, &g);
    if (err != KV_OK) {
        give_up(in, err, "create");
        return;
    }
    worker_add_group(w, g);
    install_start(in);
}

static void create_start(struct inbound *in)
{
    in->create = (struct log_append){.done = create_done};
    enum kv_err err = store_group_create(in->w->store, in->group, in->to, in->snapshot.descriptor, in->snapshot.index,
                                         in->snapshot.term, &in->create);
    if (err == KV_OK) victims_evict(in);
    else give_up(in, err, "create");
    worker_turn(in->w);
}

static void destroy_done(struct store_destroy *d, enum kv_err err)
{
    struct inbound *in = container_of(d, struct inbound, destroy);
    if (err != KV_OK) give_up(in, err, "destroy");
    else create_start(in);
}

/* Of a node of several workers: its successor belongs on another one, and it leaves when it is told (seats.c). */
static bool stays(const struct group *g, raft_id successor)
{
    return g->replica < successor && g->w->siblings != NULL;
}

/* KV_BUSY: another replica here still holds a part of that range: it has a split to apply, or to go. Until then its rows are its
 * own (R9). Those that it takes the place of go in the step that begins the install. KV_CONFLICT: it was given this worker before
 * the one that it is to succeed was born here; under another id it gets another one. */
static enum kv_err what_is_in_the_way(const struct inbound *in)
{
    struct kv_range range = {kv_key_slice(&in->descriptor.from), kv_key_slice(&in->descriptor.to)};
    uint32_t other = store_overlap(in->w->store, range, in->descriptor.range_epoch, in->group);
    const struct group *g = worker_group(in->w, in->group);
    if (g != NULL && (g->installing || stays(g, in->to))) other = in->group;
    if (other == UINT32_MAX) return KV_OK;
    JOURNAL(in->w->journal, raft, INFO, "snapshot-waits", "group=%u replica=%u for=%u", in->group, in->to, other);
    return g != NULL && stays(g, in->to) ? KV_CONFLICT : KV_BUSY;
}

/* As long as something is in the way nothing has begun. */
static bool is_refused(struct inbound *in)
{
    enum kv_err err = what_is_in_the_way(in);
    if (err == KV_OK) return false;
    answer(in, false, err);
    inbound_remove(in);
    return true;
}

static void received_whole(struct inbound *in)
{
    struct worker *w = in->w;
    JOURNAL(w->journal, raft, DEBUG, "snapshot-received", "group=%u replica=%u", in->group, in->to);
    if (is_refused(in)) return; /* by now */
    struct group *g = worker_group(w, in->group);
    if (g != NULL && g->replica == in->to) {
        if (raft_needs_snapshot(g->raft, in->snapshot.index, in->snapshot.term)) {
            if (g->rowless) JOURNAL(w->journal, raft, DEBUG, "install-resumed", "group=%u replica=%u", in->group, in->to);
            install_start(in);
        } else { /* the log was quicker than the last chunk's way to the disk */
            answer_needless(in, g);
        }
        return;
    }
    struct store_group sg;
    bool remains = store_group_get(w->store, in->group, &sg) && sg.state != CHECKPOINT_GROUP_TOMBSTONE;
    if (g == NULL && !remains) {
        create_start(in);
        return;
    }
    if (g == NULL && sg.replica == in->to) { /* it was not opened, being damaged; its successor gets another id */
        give_up(in, KV_CONFLICT, "damaged");
        return;
    }
    /* An older replica of ours stands in the way: its successor was agreed on, so it goes (R4). */
    in->destroy = (struct store_destroy){
        .done = destroy_done,
        .group = in->group,
        .range = {kv_key_slice(&in->descriptor.from), kv_key_slice(&in->descriptor.to)}};
    if (g != NULL) worker_remove_group(w, g);
    store_group_destroy(w->store, &in->destroy);
    victims_evict(in);
}

static void chunk_written(struct store_chunk *c, enum kv_err err)
{
    struct inbound *in = container_of(c, struct inbound, chunk);
    in->busy = false;
    free(c->bytes);
    c->bytes = NULL;
    if (err != KV_OK) {
        give_up(in, err, "write");
        return;
    }
    in->got += c->size;
    if (in->got < in->snapshot.bytes) {
        answer(in, false, KV_OK);
    } else {
        answer(in, false, KV_OK);
        in->busy = true; /* from here on it runs to its end */
        received_whole(in);
    }
}

static bool descriptor_is_whole(struct kv_slice bytes, struct descriptor *out)
{
    struct kv_arena arena = {0};
    struct kv_key_rule rule;
    bool ok = descriptor_decode(bytes, out) == KV_OK && descriptor_rule(out, &arena, &rule) == KV_OK;
    kv_arena_free(&arena);
    return ok;
}

static struct inbound *inbound_make(struct worker *w, uint32_t node, const struct peer_snapshot *s)
{
    struct inbound *in = calloc(1, sizeof *in);
    if (in == NULL) return NULL;
    in->descriptor_bytes = malloc(s->descriptor.size + 1);
    if (in->descriptor_bytes != NULL && s->descriptor.size > 0)
        memcpy(in->descriptor_bytes, s->descriptor.data, s->descriptor.size);
    if (in->descriptor_bytes == NULL || !descriptor_is_whole(kv_slice(in->descriptor_bytes, s->descriptor.size), &in->descriptor) ||
        in->descriptor.id != s->group || keyspaces_is_gone(w, in->descriptor.keyspace)) {
        free(in->descriptor_bytes);
        free(in);
        return NULL;
    }
    in->w = w;
    in->group = s->group;
    in->node = node;
    in->from = s->from;
    in->to = s->to;
    in->id = s->id;
    in->snapshot = (struct store_snapshot){.index = s->index,
                                           .term = s->index_term,
                                           .clock_ms = s->clock_ms,
                                           .descriptor = kv_slice(in->descriptor_bytes, s->descriptor.size),
                                           .bytes = s->size,
                                           .checksum = s->checksum};
    snprintf(in->snapshot.file, sizeof in->snapshot.file, "in-%u-%llx.snap", s->group, (unsigned long long)s->id);
    in->next = w->inbound;
    w->inbound = in;
    return in;
}

void transfer_receive(struct worker *w, uint32_t node, const struct peer_snapshot *s)
{
    if (s->answer) {
        got_answer(w, s);
        return;
    }
    struct group *g = worker_group(w, s->group);
    bool asks = s->offset == s->size; /* how it stands; there is nothing more to send */
    if (w->poisoned || s->size == 0 || (s->data.size == 0) != asks || s->data.size > CHUNK_BYTES ||
        (g != NULL && g->replica > s->to))
        return;
    struct inbound *in = w->inbound;
    while (in != NULL && in->group != s->group) in = in->next;
    if (in != NULL && in->busy) {
        if (in->id == s->id && asks) answer(in, false, KV_OK); /* still at it */
        return;
    }
    if (g != NULL && g->replica == s->to) {
        /* A message of the sender's term keeps our leader alive while we are behind. */
        struct raft_msg beat = {.type = RAFT_SNAPSHOT, .from = s->from, .to = s->to, .term = s->term, .index = s->index, .index_term = s->index_term};
        raft_step(g->raft, &beat, env_now_ns(w->env));
        group_touch(g);
    }
    if (in != NULL && in->id != s->id) {
        inbound_remove(in); /* a newer transfer replaces it */
        in = NULL;
    }
    if (in == NULL) in = inbound_make(w, node, s);
    if (in == NULL) return;
    if (is_refused(in)) return;
    in->heard_ns = env_now_ns(w->env);
    if (g != NULL && g->replica == s->to && !raft_needs_snapshot(g->raft, s->index, s->index_term)) {
        answer_needless(in, g); /* installed, and the answer was lost; or caught up meanwhile */
        return;
    }
    if (s->offset != in->got || s->data.size > s->size - in->got) {
        answer(in, false, KV_OK); /* says where to go on */
        return;
    }
    in->chunk = (struct store_chunk){.done = chunk_written, .offset = s->offset, .size = s->data.size};
    in->chunk.bytes = malloc(s->data.size + 1); /* a question has no bytes */
    if (in->chunk.bytes == NULL) return;
    if (s->data.size > 0) memcpy(in->chunk.bytes, s->data.data, s->data.size);
    memcpy(in->chunk.file, in->snapshot.file, sizeof in->chunk.file);
    in->busy = true;
    store_chunk_write(w->store, &in->chunk);
}

bool transfer_is_inbound(const struct worker *w, uint32_t group)
{
    for (const struct inbound *in = w->inbound; in != NULL; in = in->next)
        if (in->group == group) return true;
    return false;
}

/* A sender that gave up, or died, does not say so; what it sent may be as large as the disk. */
void transfer_expire_inbound(struct worker *w, uint64_t now_ns)
{
    for (struct inbound *in = w->inbound, *next; in != NULL; in = next) {
        next = in->next;
        if (!in->busy && now_ns - in->heard_ns > KV_SECONDS(60)) inbound_remove(in);
    }
}

void transfer_drop_inbound(struct worker *w)
{
    while (w->inbound != NULL) {
        struct inbound *in = w->inbound;
        w->inbound = in->next;
        free(in->chunk.bytes);
        free(in->descriptor_bytes);
        free(in);
    }
}

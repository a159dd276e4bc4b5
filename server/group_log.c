#include "server/group_impl.h"

#include <assert.h>
#include <stdlib.h>

#include "server/peer.h"
#include "server/request.h"

/* What the core hands out goes to the log and to peers, and comes back durable, or committed to be
 * applied. */
enum { SEND_ENTRIES_MAX = GROUP_SEND_ENTRIES_MAX };
static const size_t send_bytes_max = 1 << 20; /* entry bytes in one append message */

enum { SPARE_SENDS = 4,
       SPARES_MAX = 512 };

struct group_append {      /* one ready on its way to the disk */
    struct worker_job job; /* also the link of a spare one */
    struct log_append append;
    struct group *g;
    struct worker *w;
    uint32_t id;
    uint64_t life, sequence;
    struct group_staged entries; /* of a stalled append */
    uint32_t send_count;
    struct raft_msg send[];
};

static void append_discard(struct worker_job *j)
{
    struct group_append *ga = container_of(j, struct group_append, job);
    staged_free(&ga->entries);
    free(ga);
}

/* One that was used just now is still near the processor. */
static struct group_append *append_make(struct worker *w, uint32_t send_count)
{
    struct worker_job *spare = w->append_spares;
    if (spare == NULL || send_count > SPARE_SENDS) {
        uint32_t room = send_count > SPARE_SENDS ? send_count : SPARE_SENDS;
        struct group_append *ga = malloc(sizeof *ga + room * sizeof *ga->send);
        if (ga == NULL) abort();
        return ga;
    }
    w->append_spares = spare->next;
    w->append_spare_count--;
    return container_of(spare, struct group_append, job);
}

void append_free(struct group_append *ga)
{
    struct worker *w = ga->w;
    worker_job_end(&ga->job);
    if (w->append_spare_count == SPARES_MAX || ga->send_count > SPARE_SENDS) {
        append_discard(&ga->job);
        return;
    }
    staged_free(&ga->entries);
    ga->job.next = w->append_spares;
    w->append_spares = &ga->job;
    w->append_spare_count++;
}

void append_spares_free(struct worker *w)
{
    while (w->append_spares != NULL) {
        struct group_append *ga = container_of(w->append_spares, struct group_append, job);
        w->append_spares = ga->job.next;
        free(ga);
    }
}

/* The group that began the call is still here: its memory may hold a later life by now. */
static bool is_alive(const struct worker *w, uint32_t id, uint64_t life)
{
    const struct group *g = worker_group(w, id);
    return g != NULL && g->life == life;
}

static void append_done(struct log_append *a, enum kv_err err)
{
    struct group_append *ga = container_of(a, struct group_append, append);
    struct group *g = ga->g;
    if (is_alive(ga->w, ga->id, ga->life) && err == KV_OK) {
        g->appends_open--;
        raft_durable(g->raft, ga->sequence);
        for (uint32_t i = 0; i < ga->send_count; i++) send_message(g, &ga->send[i]);
        group_touch(g);
    }
    append_free(ga);
}

/* The core already counts on what it handed out, so it is kept until the log has claimed room.
 * Any other refusal means that this replica stops here (R15). */
void append_offer(struct group *g, struct group_append *ga)
{
    g->stalled = NULL;
    enum kv_err err = store_append(g->w->store, &ga->append);
    if (err == KV_OK) return;
    if (err == KV_BUSY || err == KV_NO_SPACE) {
        JOURNAL(g->w->journal, store, DEBUG, "append-stalled", "group=%u err=%s", g->id, kv_err_name(err));
        g->stalled = ga;
        return;
    }
    append_free(ga);
    g->appends_open--;
    if (g->w->poisoned) return;
    JOURNAL(g->w->journal, store, ERROR, "append-refused", "group=%u err=%s", g->id, kv_err_name(err));
    g->w->poisoned = true;
    if (g->w->o.stop_wanted != NULL) g->w->o.stop_wanted(g->w->o.context);
}

void persist(struct group *g, const struct raft_ready *rd)
{
    struct group_append *ga = append_make(g->w, rd->send_durable_count);
    *ga = (struct group_append){.g = g,
                                .w = g->w,
                                .id = g->id,
                                .life = g->life,
                                .sequence = rd->sequence,
                                .send_count = rd->send_durable_count};
    if (rd->send_durable_count > 0)
        memcpy(ga->send, rd->send_durable, rd->send_durable_count * sizeof *ga->send);
    ga->append = (struct log_append){.done = append_done,
                                     .group = g->id,
                                     .hard_changed = rd->hard_changed || rd->append_count > 0,
                                     .term = rd->hard.term,
                                     .vote = rd->hard.vote,
                                     .commit = rd->hard.commit,
                                     .truncate_from = rd->truncate_from};
    struct group_staged *from = g->incoming != NULL ? g->incoming : &g->staged;
    if (rd->append_count > 0) {
        assert(rd->append_first >= from->first && rd->append_first + rd->append_count <= from->first + from->count);
        staged_resolve(from);
        ga->append.first = rd->append_first;
        ga->append.entries = from->entries + (rd->append_first - from->first);
        ga->append.entry_count = rd->append_count;
    }
    g->appends_open++;
    ga->job.discard = append_discard;
    worker_job_begin(g->w, &ga->job);
    append_offer(g, ga);
    if (g->stalled != NULL && rd->append_count > 0) { /* the bytes move along, in place */
        ga->entries = *from;
        *from = (struct group_staged){0};
    }
}

struct group_fetch {          /* entries no longer in memory */
    struct group_fetch *next; /* one for a peer: in g->sends */
    struct worker_job job;    /* while the log is read */
    struct log_fetch fetch;
    struct worker *w;
    struct group *g;
    uint32_t id;
    uint64_t life;
    bool is_send, is_read; /* is_read: `fetch` holds what this message and the next ones to that peer need */
    uint64_t used_ns;
    uint64_t apply_to; /* committed when the read began: what lies behind may be truncated meanwhile */
    struct raft_msg message;
};

static struct group_fetch **sends_find(struct group *g, raft_id to)
{
    struct group_fetch **link = &g->sends;
    while (*link != NULL && (*link)->message.to != to) link = &(*link)->next;
    return link;
}

static void fetch_discard(struct worker_job *j)
{
    struct group_fetch *gf = container_of(j, struct group_fetch, job);
    log_fetch_free(&gf->fetch);
    free(gf);
}

static void sends_drop(struct group_fetch **link)
{
    struct group_fetch *gf = *link;
    *link = gf->next;
    fetch_discard(&gf->job);
}

/* Only within the term it was read in: a leader of another one may have truncated these entries meanwhile. */
static bool send_fetched(struct group *g, struct group_fetch **link, const struct raft_msg *m)
{
    struct group_fetch *gf = *link;
    uint64_t first = m->index + 1, end = gf->fetch.first + gf->fetch.entry_count;
    if (!gf->is_read || m->term != gf->message.term || first < gf->fetch.first || first >= end) return false;
    uint32_t count = m->entry_count < end - first ? m->entry_count : (uint32_t)(end - first);
    peer_send_raft(g->w->peers, group_node_of(g, m->to), g->id, m, gf->fetch.entries + (first - gf->fetch.first), count);
    if (count < m->entry_count) raft_sent(g->raft, m->to, first, count);
    gf->used_ns = env_now_ns(g->w->env);
    if (first + count == end) sends_drop(link);
    return true;
}

void sends_expire(struct group *g, uint64_t now_ns)
{
    for (struct group_fetch **link = &g->sends; *link != NULL;)
        if ((*link)->is_read && now_ns > (*link)->used_ns + KV_SECONDS(1)) sends_drop(link);
        else link = &(*link)->next;
}

void sends_close(struct group *g)
{
    for (struct group_fetch **link = &g->sends; *link != NULL;)
        if ((*link)->is_read) sends_drop(link);
        else link = &(*link)->next; /* freed when its read ends */
}

static void fetch_done(struct log_fetch *f, enum kv_err err)
{
    struct group_fetch *gf = container_of(f, struct group_fetch, fetch);
    struct group *g = gf->g;
    worker_job_end(&gf->job);
    if (is_alive(gf->w, gf->id, gf->life)) {
        group_touch(g);
        if (gf->is_send) {
            struct group_fetch **link = sends_find(g, gf->message.to);
            assert(*link == gf); /* the only one for its peer */
            /* A leader that lost its term meanwhile may have lost these entries too. */
            gf->is_read = err == KV_OK && g->role == RAFT_LEADER && raft_term_now(g->raft) == gf->message.term;
            if (gf->is_read && send_fetched(g, link, &gf->message)) return;
            raft_unreachable(g->raft, gf->message.to);
            *link = gf->next;
        } else {
            g->fetching = false;
            /* A snapshot that is being installed takes the place of all that is applied. */
            if (err == KV_OK && f->first == g->applied + 1 && !g->installing) {
                uint64_t left = gf->apply_to > g->applied ? gf->apply_to - g->applied : 0;
                apply_fetched(g, f->entries, f->entry_count < left ? f->entry_count : (uint32_t)left);
            }
        }
    }
    fetch_discard(&gf->job);
}

bool fetch_start(struct group *g, uint64_t first, const struct raft_msg *message)
{
    struct group_fetch *gf = calloc(1, sizeof *gf);
    if (gf == NULL) return false;
    gf->w = g->w;
    gf->g = g;
    gf->id = g->id;
    gf->life = g->life;
    gf->is_send = message != NULL;
    gf->apply_to = g->apply_to;
    if (message != NULL) {
        gf->message = *message;
        gf->message.runs = NULL;
        gf->next = g->sends;
        g->sends = gf;
    }
    gf->fetch = (struct log_fetch){.done = fetch_done,
                                   .group = g->id,
                                   .first = first,
                                   .bytes_max = message != NULL ? send_bytes_max : GROUP_FETCH_BYTES};
    gf->job.discard = fetch_discard;
    worker_job_begin(g->w, &gf->job);
    log_fetch(store_log(g->w->store), &gf->fetch);
    return true;
}

/* One read at a time for each peer, and what it brought serves the messages behind it. Meanwhile the core waits as
 * for the answer to a probe: it would take what is slow to be read for lost, and begin anew with reads that queue
 * behind all those before. */
static void send_cold(struct group *g, const struct raft_msg *m)
{
    struct group_fetch **link = sends_find(g, m->to);
    if (*link != NULL && send_fetched(g, link, m)) return;
    bool is_reading = *link != NULL && !(*link)->is_read;
    if (*link != NULL && !is_reading) sends_drop(link);
    if (!is_reading) fetch_start(g, m->index + 1, m);
    raft_unreachable(g->raft, m->to);
}

void send_message(struct group *g, const struct raft_msg *m)
{
    uint32_t node = group_node_of(g, m->to);
    if (node == 0) return;
    if (m->type == RAFT_SNAPSHOT) {
        transfer_send(g, m->to);
        return;
    }
    if (m->type != RAFT_APPEND || m->entry_count == 0) {
        peer_send_raft(g->w->peers, node, g->id, m, NULL, 0);
        return;
    }
    if (!peer_connected(g->w->peers, node)) {
        raft_unreachable(g->raft, m->to);
        return;
    }
    struct log_entry entries[SEND_ENTRIES_MAX];
    uint32_t count = 0;
    enum kv_err err = log_cached(store_log(g->w->store), g->id, m->index + 1,
                                 m->entry_count < SEND_ENTRIES_MAX ? m->entry_count : SEND_ENTRIES_MAX,
                                 send_bytes_max, entries, &count);
    if (err == KV_OK) {
        peer_send_raft(g->w->peers, node, g->id, m, entries, count);
        if (count < m->entry_count) raft_sent(g->raft, m->to, m->index + 1, count);
    } else if (err == KV_BUSY) {
        send_cold(g, m);
    } else {
        raft_unreachable(g->raft, m->to);
    }
}

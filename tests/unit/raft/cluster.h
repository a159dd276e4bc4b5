#ifndef TESTS_UNIT_RAFT_CLUSTER_H
#define TESTS_UNIT_RAFT_CLUSTER_H
#include "raft/raft.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The world of test_cluster.c: replicas with volatile and durable halves, a network, and
 * one queue of events in virtual time. The caller's side of raft.h is played here. */

enum {
    NODES = 7,
    ENTRIES_MAX = 6000,
    CONFS_MAX = 600,
    EVENTS_MAX = 20000,
    RUNS_MAX = 600,
    TERMS_MAX = 4000,
    BATCH = 16,
    READS_MAX = 4096
};
#define MS UINT64_C(1000000)

struct entry {
    uint32_t term, value, conf; /* conf: index into the table, 0 = none */
};
struct disk { /* what survives a crash */
    struct raft_hard hard;
    struct entry log[ENTRIES_MAX + 1]; /* by index */
    raft_index base, last, checkpoint;
};
struct write { /* a ready on its way to the disk */
    uint64_t sequence;
    bool hard_changed;
    struct raft_hard hard;
    raft_index truncate_from, append_first;
    uint32_t append_count;
    struct entry *entries;
    struct packet *waiting;
    uint32_t waiting_count;
};
struct packet {
    struct raft_msg msg;
    struct raft_run runs[8];
    struct entry entries[BATCH];
    raft_index snapshot_index; /* a snapshot's bytes, carried by the test */
};
struct node {
    raft_id id;
    void *memory;
    struct raft *raft;
    bool up;
    uint64_t paused_until;
    int64_t ppm;
    uint64_t life; /* events of an earlier life are void */
    struct disk disk;
    struct entry log[ENTRIES_MAX + 1];
    raft_index last, applied, apply_to;
    struct write writes[256];
    uint32_t write_count;
    bool sync_scheduled, apply_scheduled;
};
struct read {
    raft_index floor, index;
    raft_id node;
    bool open, known;
};
/* Each seed has a character of its own: what is rare in one world is common in another. */
struct knobs {
    uint32_t drop, duplicate, late;                            /* percent of messages */
    uint32_t slow_disk, slow_apply, quick_start;               /* percent of occasions */
    uint32_t cut, crash, pause, conf, transfer, hunt, compact; /* per mille of chaos steps */
    uint32_t drift_ppm;
    uint32_t quiet_ms, calm; /* percent of a second without clients: 0, or so that groups become quiet */
};
enum kind { EV_TICK, EV_PACKET, EV_SYNC, EV_APPLY, EV_CHAOS };
struct event {
    uint64_t at, order, life;
    enum kind kind;
    uint32_t node;
    struct packet *packet;
};
struct world {
    uint64_t seed, random, now, order;
    struct knobs knobs;
    struct node nodes[NODES + 1];
    struct event heap[EVENTS_MAX];
    uint32_t heap_count;
    struct entry chosen[ENTRIES_MAX + 1]; /* what any replica applied */
    raft_term chosen_in[ENTRIES_MAX + 1]; /* and the term it was in by then */
    raft_index chosen_last;
    raft_id leader_of[TERMS_MAX];
    struct raft_conf confs[CONFS_MAX];
    uint32_t conf_count, values;
    struct read reads[READS_MAX];
    uint32_t read_count;
    bool cut[NODES + 1][NODES + 1];
    bool healing;
    uint64_t stat_elections, stat_commits, stat_reads, stat_refused, stat_leases, stat_snapshots,
        stat_confs, stat_crashes, stat_packets, stat_quiet;
};

static uint64_t roll(struct world *w, uint64_t bound)
{
    uint64_t z = w->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % bound;
}

static bool happens(struct world *w, uint32_t per_mille)
{
    return roll(w, 1000) < per_mille;
}

static bool chance(struct world *w, uint32_t percent)
{
    return roll(w, 100) < percent;
}

static void draw_knobs(struct world *w)
{
    struct knobs *k = &w->knobs;
    k->drop = (uint32_t)roll(w, 8);
    k->duplicate = (uint32_t)roll(w, 5);
    k->late = chance(w, 50) ? 0 : (uint32_t)roll(w, 10);
    k->slow_disk = chance(w, 50) ? 3 : (uint32_t)roll(w, 60);
    k->slow_apply = chance(w, 50) ? 3 : (uint32_t)roll(w, 60);
    k->quick_start = (uint32_t)roll(w, 80);
    k->cut = chance(w, 50) ? 2 : (uint32_t)roll(w, 40);
    k->crash = chance(w, 50) ? 1 : (uint32_t)roll(w, 10);
    k->pause = (uint32_t)roll(w, 4);
    k->conf = chance(w, 40) ? 0 : (uint32_t)roll(w, 150);
    k->transfer = (uint32_t)roll(w, 8);
    k->hunt = (uint32_t)roll(w, 40);
    k->compact = (uint32_t)roll(w, 60);
    k->drift_ppm = chance(w, 30) ? 500 : chance(w, 50) ? 20000 : 100000;
    k->quiet_ms = chance(w, 40) ? 0 : 1 + (uint32_t)roll(w, 120);
    k->calm = k->quiet_ms == 0 ? 0 : (uint32_t)roll(w, 100);
}

/* A failure names its seed before it aborts. */
#define MUST(w, c)                                                                                 \
    do {                                                                                           \
        if (!(c)) {                                                                                \
            fprintf(stderr, "seed %llu at %llu ms: %s (line %d)\n", (unsigned long long)(w)->seed, \
                    (unsigned long long)((w)->now / MS), #c, __LINE__);                            \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static bool before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void schedule(struct world *w, uint64_t delay, enum kind kind, uint32_t node,
                     struct packet *p)
{
    MUST(w, w->heap_count < EVENTS_MAX);
    struct event e = {w->now + delay, w->order++, node > 0 ? w->nodes[node].life : 0,
                      kind,           node,       p};
    uint32_t i = w->heap_count++;
    for (; i > 0 && before(&e, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
}

static struct event pop(struct world *w)
{
    struct event top = w->heap[0], e = w->heap[--w->heap_count];
    uint32_t i = 0;
    for (;;) {
        uint32_t c = 2 * i + 1;
        if (c >= w->heap_count) break;
        if (c + 1 < w->heap_count && before(&w->heap[c + 1], &w->heap[c])) c++;
        if (!before(&w->heap[c], &e)) break;
        w->heap[i] = w->heap[c];
        i = c;
    }
    w->heap[i] = e;
    return top;
}

static uint64_t clock_of(const struct world *w, const struct node *n)
{
    return 1000 * MS + (uint64_t)((int64_t)w->now + (int64_t)(w->now / 1000000) * n->ppm);
}

static const struct raft_conf *conf_at(const struct world *w, raft_index index)
{
    for (raft_index i = index; i > 0; i--)
        if (w->chosen[i].conf != 0) return &w->confs[w->chosen[i].conf];
    return &w->confs[0];
}

static void start(struct world *w, struct node *n, bool fresh)
{
    static struct raft_run runs[ENTRIES_MAX];
    uint32_t count = 0;
    for (raft_index i = n->disk.base + 1; i <= n->disk.last; i++) {
        const struct entry *e = &n->disk.log[i];
        if (count > 0 && runs[count - 1].term == e->term &&
            runs[count - 1].is_conf == (e->conf != 0))
            runs[count - 1].count++;
        else
            runs[count++] = (struct raft_run){e->term, 1, e->conf != 0};
    }
    struct raft_options o = {
        .id = n->id,
        .election_ns = 300 * MS,
        .heartbeat_ns = 50 * MS,
        .lease_ns = 200 * MS,
        .stagger_ns = 20 * MS,
        .quiet_ns = w->knobs.quiet_ms * MS,
        .drift_ppm = w->knobs.drift_ppm,
        .window_entries = 64,
        .batch_entries = BATCH,
        .seed = w->seed * 31 + n->life,
        .prevote = true,
        .check_quorum = true,
    };
    struct raft_boot b = {
        .hard = n->disk.hard,
        .conf = *conf_at(w, n->disk.checkpoint),
        .snapshot_index = n->disk.base,
        .snapshot_term = n->disk.log[n->disk.base].term,
        .applied = n->disk.checkpoint,
        .runs = runs,
        .run_count = count,
        .fresh = fresh,
    };
    n->raft = raft_init(n->memory, &o, &b, clock_of(w, n));
    memcpy(n->log, n->disk.log, sizeof n->log);
    n->last = n->disk.last;
    n->applied = n->apply_to = n->disk.checkpoint;
    n->up = true;
    n->paused_until = 0;
    n->sync_scheduled = n->apply_scheduled = false;
    schedule(w, roll(w, 5 * MS), EV_TICK, n->id, NULL);
}

static void write_free(struct write *wr)
{
    free(wr->entries);
    free(wr->waiting);
}

static void write_land(struct node *n, const struct write *wr)
{
    struct disk *d = &n->disk;
    d->hard = wr->hard; /* the commit rides along */
    if (wr->truncate_from != 0) d->last = wr->truncate_from - 1;
    for (uint32_t i = 0; i < wr->append_count; i++)
        d->log[wr->append_first + i] = wr->entries[i];
    if (wr->append_count > 0) d->last = wr->append_first + wr->append_count - 1;
}

/* The connections of `n` break, and the others see it. */
static void hang_up(struct world *w, const struct node *n)
{
    for (uint32_t i = 1; i <= NODES; i++)
        if (w->nodes[i].up && i != n->id)
            raft_peer_closed(w->nodes[i].raft, n->id, 0, clock_of(w, &w->nodes[i]));
}

static void crash(struct world *w, struct node *n)
{
    uint64_t landed = roll(w, n->write_count + 1); /* some reached the disk unconfirmed */
    for (uint32_t i = 0; i < n->write_count; i++) {
        if (i < landed) write_land(n, &n->writes[i]);
        write_free(&n->writes[i]);
    }
    n->write_count = 0;
    n->up = false;
    n->life++;
    w->stat_crashes++;
    for (uint32_t i = 0; i < w->read_count; i++)
        if (w->reads[i].node == n->id) w->reads[i].open = false;
    bool seen = chance(w, 50);
    for (uint32_t i = 1; i <= NODES; i++)
        seen |= w->nodes[i].up && raft_is_quiet(w->nodes[i].raft); /* their nodes always see it, sooner or later */
    if (seen) hang_up(w, n);
    if (chance(w, w->knobs.quick_start)) start(w, n, false);
}

static void post(struct world *w, struct node *from, const struct packet *p)
{
    raft_id to = p->msg.to;
    w->stat_packets++;
    if (to == 0 || to > NODES) return;
    bool lost = !w->healing && (w->cut[from->id][to] || chance(w, w->knobs.drop));
    if (lost) {
        if (p->snapshot_index != 0)
            raft_snapshot_done(from->raft, to, false);
        else if (chance(w, 20))
            raft_unreachable(from->raft, to);
        return;
    }
    uint32_t copies = !w->healing && chance(w, w->knobs.duplicate) ? 2 : 1;
    for (uint32_t i = 0; i < copies; i++) {
        struct packet *copy = malloc(sizeof *copy);
        MUST(w, copy != NULL);
        *copy = *p;
        uint64_t delay = MS / 10 + roll(w, 2 * MS);
        if (!w->healing && chance(w, w->knobs.late))
            delay += roll(w, 400 * MS); /* late and out of order */
        schedule(w, delay, EV_PACKET, 0, copy);
    }
}

static struct packet pack(struct world *w, struct node *n, const struct raft_msg *m, bool may_cut)
{
    struct packet p = {.msg = *m};
    if (m->type != RAFT_APPEND) return p;
    MUST(w, m->run_count <= 8 && m->entry_count <= BATCH);
    uint32_t count = m->entry_count;
    if (may_cut && count > 1 && chance(w, 10)) {
        count = 1 + (uint32_t)roll(w, count - 1);
        raft_sent(n->raft, m->to, m->index + 1, count);
    }
    p.msg.entry_count = p.msg.run_count = 0;
    for (uint32_t i = 0; i < m->run_count && p.msg.entry_count < count; i++) {
        struct raft_run run = m->runs[i];
        if (run.count > count - p.msg.entry_count) run.count = count - p.msg.entry_count;
        p.runs[p.msg.run_count++] = run;
        p.msg.entry_count += run.count;
    }
    raft_index at = m->index + 1;
    for (uint32_t i = 0, k = 0; i < p.msg.run_count; i++)
        for (uint32_t j = 0; j < p.runs[i].count; j++, k++, at++) {
            p.entries[k] = n->log[at];
            MUST(w,
                 n->log[at].term == p.runs[i].term && (n->log[at].conf != 0) == p.runs[i].is_conf);
        }
    p.msg.runs = NULL;
    return p;
}

static void send_snapshot(struct world *w, struct node *n, const struct raft_msg *m)
{
    if (n->applied < m->index || (!w->healing && chance(w, 20))) {
        raft_snapshot_done(n->raft, m->to, false);
        return;
    }
    struct packet p = {.msg = *m, .snapshot_index = n->applied};
    post(w, n, &p);
}

static void note_read(struct world *w, struct node *n, const struct raft_read *q)
{
    struct read *d = &w->reads[q->context];
    MUST(w, d->open && !d->known && d->node == n->id);
    if (q->index == 0) {
        d->open = false;
        w->stat_refused++;
        return;
    }
    MUST(w, q->index >= d->floor); /* a stale ReadIndex */
    d->index = q->index;
    d->known = true;
}

static void drain(struct world *w, struct node *n, const struct packet *source)
{
    struct raft_ready o;
    while (raft_ready(n->raft, &o)) {
        if (o.must_sync || o.send_durable_count > 0) {
            MUST(w, o.must_sync && n->write_count < 256);
            struct write *wr = &n->writes[n->write_count++];
            *wr = (struct write){.sequence = o.sequence,
                                 .hard_changed = o.hard_changed,
                                 .hard = o.hard,
                                 .truncate_from = o.truncate_from,
                                 .append_first = o.append_first,
                                 .append_count = o.append_count};
            if (o.truncate_from != 0) n->last = o.truncate_from - 1;
            if (o.append_count > 0 && o.role != RAFT_LEADER) {
                MUST(w, source != NULL && source->msg.type == RAFT_APPEND);
                for (uint32_t i = 0; i < o.append_count; i++)
                    n->log[o.append_first + i] =
                        source->entries[o.append_first + i - source->msg.index - 1];
            }
            if (o.append_count > 0) {
                n->last = o.append_first + o.append_count - 1;
                wr->entries = malloc(o.append_count * sizeof *wr->entries);
                MUST(w, wr->entries != NULL);
                memcpy(wr->entries, &n->log[o.append_first], o.append_count * sizeof *wr->entries);
            }
            wr->waiting = malloc((o.send_durable_count + 1) * sizeof *wr->waiting);
            MUST(w, wr->waiting != NULL);
            for (uint32_t i = 0; i < o.send_durable_count; i++)
                wr->waiting[wr->waiting_count++] = pack(w, n, &o.send_durable[i], false);
            if (!n->sync_scheduled) {
                n->sync_scheduled = true;
                schedule(w, MS / 5 + roll(w, chance(w, w->knobs.slow_disk) ? 120 * MS : MS),
                         EV_SYNC, n->id, NULL);
            }
        }
        for (uint32_t i = 0; i < o.send_count; i++) {
            if (o.send[i].type == RAFT_SNAPSHOT) {
                send_snapshot(w, n, &o.send[i]);
                continue;
            }
            struct packet p = pack(w, n, &o.send[i], true);
            post(w, n, &p);
        }
        if (o.apply_first != 0) {
            MUST(w, o.apply_first == n->apply_to + 1 && o.apply_last <= n->last);
            n->apply_to = o.apply_last;
            if (!n->apply_scheduled) {
                n->apply_scheduled = true;
                schedule(w, roll(w, chance(w, w->knobs.slow_apply) ? 60 * MS : MS / 2), EV_APPLY,
                         n->id, NULL);
            }
        }
        for (uint32_t i = 0; i < o.read_count; i++)
            note_read(w, n, &o.reads[i]);
        bool elected = o.role_changed && o.role == RAFT_LEADER;
        raft_advance(n->raft);
        if (elected) {
            raft_term term = raft_term_now(n->raft);
            MUST(w, term < TERMS_MAX && (w->leader_of[term] == 0 || w->leader_of[term] == n->id));
            if (w->leader_of[term] == 0) w->stat_elections++;
            w->leader_of[term] = n->id; /* election safety */
            for (raft_index i = n->disk.base + 1; i <= w->chosen_last; i++)
                if (w->chosen_in[i] <
                    term) /* a slow disk may elect a leader that is already deposed */
                    MUST(w, i <= n->last && n->log[i].term == w->chosen[i].term &&
                                n->log[i].value == w->chosen[i].value); /* leader completeness */
            raft_index first;
            if (n->last + 1 < ENTRIES_MAX &&
                raft_propose(n->raft, 1, false, &first, clock_of(w, n)) == RAFT_OK)
                n->log[first] = (struct entry){(uint32_t)term, ++w->values, 0};
        }
    }
}

static void apply(struct world *w, struct node *n)
{
    while (n->applied < n->apply_to) {
        raft_index i = ++n->applied;
        struct entry *e = &n->log[i];
        if (i > w->chosen_last) {
            MUST(w, i == w->chosen_last + 1);
            w->chosen[i] = *e;
            w->chosen_in[i] = raft_term_now(n->raft);
            w->chosen_last = i;
            w->stat_commits++;
        }
        MUST(w, memcmp(e, &w->chosen[i], sizeof *e) == 0); /* state machine safety */
        if (e->conf != 0) {
            raft_conf_applied(n->raft, &w->confs[e->conf]);
            w->stat_confs++;
        }
        raft_applied(n->raft, i);
    }
    for (uint32_t k = 0; k < w->read_count; k++) {
        struct read *q = &w->reads[k];
        if (!q->open || !q->known || q->node != n->id || n->applied < q->index) continue;
        q->open = false;
        w->stat_reads++;
    }
}

static void deliver(struct world *w, struct packet *p)
{
    struct node *n = &w->nodes[p->msg.to];
    struct node *from = &w->nodes[p->msg.from];
    if (!n->up || (!w->healing && w->cut[p->msg.from][p->msg.to])) {
        if (from->up && p->snapshot_index != 0) raft_snapshot_done(from->raft, n->id, false);
        return;
    }
    if (n->paused_until > w->now) { /* waits in the socket */
        struct packet *copy = malloc(sizeof *copy);
        MUST(w, copy != NULL);
        *copy = *p;
        schedule(w, n->paused_until - w->now, EV_PACKET, 0, copy);
        return;
    }
    uint64_t now = clock_of(w, n);
    p->msg.runs = p->runs;
    raft_step(n->raft, &p->msg, now);
    drain(w, n, p);
    if (p->snapshot_index == 0) return;
    raft_term term = w->chosen[p->snapshot_index].term;
    bool install = raft_needs_snapshot(n->raft, p->snapshot_index, term) &&
                   raft_role_now(n->raft) != RAFT_LEADER && p->msg.term == raft_term_now(n->raft);
    if (install) {
        /* It is durable behind all earlier writes, whose news may come before or after. */
        uint64_t sequence = 0;
        bool early = chance(w, 50);
        for (uint32_t i = 0; i < n->write_count; i++) {
            write_land(n, &n->writes[i]);
            sequence = n->writes[i].sequence;
            write_free(&n->writes[i]);
        }
        n->write_count = 0;
        if (early && sequence != 0) raft_durable(n->raft, sequence);
        raft_index i = p->snapshot_index;
        n->log[i] = w->chosen[i];
        n->disk.log[i] = n->log[i];
        n->disk.base = n->disk.last = n->disk.checkpoint = n->last = n->applied = n->apply_to = i;
        raft_restored(n->raft, i, term, conf_at(w, i), now);
        if (!early && sequence != 0) raft_durable(n->raft, sequence);
        w->stat_snapshots++;
        drain(w, n, NULL);
    }
    if (from->up) {
        raft_snapshot_done(from->raft, n->id, install);
        drain(w, from, NULL);
    }
}

static void sync(struct world *w, struct node *n)
{
    uint32_t done = 1 + (uint32_t)roll(w, n->write_count); /* one flush covers several */
    for (uint32_t i = 0; i < done; i++)
        write_land(n, &n->writes[i]);
    struct write landed[256];
    memcpy(landed, n->writes, done * sizeof landed[0]);
    n->write_count -= done;
    memmove(n->writes, n->writes + done, n->write_count * sizeof n->writes[0]);
    if (chance(w, 50)) /* each told, or only the last */
        for (uint32_t i = 0; i + 1 < done; i++)
            raft_durable(n->raft, landed[i].sequence);
    raft_durable(n->raft, landed[done - 1].sequence);
    for (uint32_t i = 0; i < done; i++) {
        for (uint32_t k = 0; k < landed[i].waiting_count; k++)
            post(w, n, &landed[i].waiting[k]);
        write_free(&landed[i]);
    }
    if (n->write_count > 0) {
        n->sync_scheduled = true;
        schedule(w, MS / 5 + roll(w, MS), EV_SYNC, n->id, NULL);
    }
    drain(w, n, NULL);
}
#endif

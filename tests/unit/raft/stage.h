#ifndef TESTS_UNIT_RAFT_STAGE_H
#define TESTS_UNIT_RAFT_STAGE_H
#include "raft/raft.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The stage of test_script.c: replicas whose every step is told in words. Nothing moves by
 * itself: messages wait to be delivered, writes (disk=manual) to be synced, entries
 * (apply=manual) to be applied, and time to be passed. */
enum { ACTORS = 9, LOG_MAX = 400, MAIL_MAX = 2000, WRITES_MAX = 64, TEXT_MAX = 1 << 20 };
#define MS UINT64_C(1000000)

struct line {
    uint32_t term, value, conf; /* conf: index into stage.confs, 0 = none */
};
struct letter {
    struct raft_msg msg;
    struct raft_run runs[8];
    struct line entries[64];
};
struct unsynced_write {
    uint64_t sequence;
    struct raft_hard hard;
    raft_index truncate_from, append_first;
    uint32_t append_count, letter_count;
    struct line entries[64];
    struct letter letters[16];
};
struct actor {
    raft_id id;
    void *memory;
    struct raft *raft;
    bool exists, up;
    enum raft_role role;
    struct raft_hard disk_hard;
    struct line disk[LOG_MAX], log[LOG_MAX];
    raft_index owed_index; /* it waits for a snapshot of at least that */
    raft_term owed_term;
    raft_index disk_base, disk_last, disk_applied, last, applied, apply_to;
    struct unsynced_write writes[WRITES_MAX];
    uint32_t write_count;
};
struct stage {
    uint64_t now;
    struct raft_options options;
    bool disk_manual, apply_manual, noop_off, quiet, hide_beats;
    struct actor actors[ACTORS + 1];
    struct letter mail[MAIL_MAX];
    uint32_t mail_count;
    bool cut[ACTORS + 1][ACTORS + 1];
    struct raft_conf confs[64];
    uint32_t conf_count, values;
    struct line chosen[LOG_MAX];
    raft_index chosen_last;
    raft_id leader_of[1000];
    uint64_t reads;
    char *text;
    size_t text_length;
};

static void tell(struct stage *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell(struct stage *s, const char *format, ...)
{
    if (s->quiet) return;
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(s->text + s->text_length, TEXT_MAX - s->text_length, format, arguments);
    va_end(arguments);
    assert(n >= 0 && s->text_length + (size_t)n + 2 < TEXT_MAX);
    s->text_length += (size_t)n;
    s->text[s->text_length++] = '\n';
    s->text[s->text_length] = 0;
}

static const char *id_list(const raft_id *ids, uint32_t count, char out[64])
{
    size_t length = 0;
    out[0] = 0;
    for (uint32_t i = 0; i < count; i++)
        length += (size_t)snprintf(out + length, 64 - length, "%s%u", i > 0 ? "," : "", ids[i]);
    return out;
}

static const char *conf_text(const struct raft_conf *c, char out[256])
{
    char a[64], b[64], d[64];
    id_list(c->voters, c->voter_count, a);
    id_list(c->old, c->old_count, b);
    id_list(c->learners, c->learner_count, d);
    snprintf(out, 256, "voters %s%s%s%s%s", a, c->old_count > 0 ? " old " : "", b,
             c->learner_count > 0 ? " learners " : "", d);
    return out;
}

static const char *runs_text(const struct raft_run *runs, uint32_t count, char out[256])
{
    size_t length = 0;
    out[0] = 0;
    for (uint32_t i = 0; i < count && length < 230; i++)
        length +=
            (size_t)snprintf(out + length, 256 - length, "%s%ux%u%s", i > 0 ? "," : "",
                             runs[i].count, (unsigned)runs[i].term, runs[i].is_conf ? "c" : "");
    return out;
}

static void tell_letter(struct stage *s, const char *what, const struct letter *l)
{
    const struct raft_msg *m = &l->msg;
    if (s->hide_beats && (m->type == RAFT_HEARTBEAT || m->type == RAFT_HEARTBEAT_REPLY)) return;
    char detail[400] = "", runs[256];
    unsigned index = (unsigned)m->index, term = (unsigned)m->index_term,
             commit = (unsigned)m->commit;
    switch (m->type) {
    case RAFT_PREVOTE:
    case RAFT_VOTE:
        snprintf(detail, sizeof detail, " last=%u^%u%s", index, term,
                 m->transfer ? " transfer" : "");
        break;
    case RAFT_PREVOTE_REPLY:
    case RAFT_VOTE_REPLY:
        snprintf(detail, sizeof detail, m->reject ? " refused" : " granted");
        break;
    case RAFT_APPEND:
        snprintf(detail, sizeof detail, " prev=%u^%u commit=%u %s", index, term, commit,
                 m->entry_count > 0 ? runs_text(l->runs, m->run_count, runs) : "empty");
        break;
    case RAFT_APPEND_REPLY:
        if (m->reject)
            snprintf(detail, sizeof detail, " refused=%u hint=%u^%u", commit, index, term);
        else
            snprintf(detail, sizeof detail, " matched=%u", index);
        break;
    case RAFT_SNAPSHOT: snprintf(detail, sizeof detail, " from=%u^%u", index, term); break;
    case RAFT_SNAPSHOT_REPLY: snprintf(detail, sizeof detail, " matched=%u", index); break;
    case RAFT_HEARTBEAT: snprintf(detail, sizeof detail, " commit=%u%s", commit, m->quiet ? " quiet?" : ""); break;
    case RAFT_HEARTBEAT_REPLY:
        if (m->reject)
            snprintf(detail, sizeof detail, " refused");
        else
            snprintf(detail, sizeof detail, " matched=%u%s%s", index, m->quiet ? " quiet" : "", m->context == 0 ? " unasked" : "");
        break;
    case RAFT_TIMEOUT_NOW:
    case RAFT_READ: break;
    case RAFT_READ_REPLY:
        snprintf(detail, sizeof detail, m->reject ? " refused" : " index=%u", index);
        break;
    }
    tell(s, "%s%u -> %u %s term=%u%s", what, m->from, m->to, raft_msg_text(m->type),
         (unsigned)m->term, detail);
}

static void post(struct stage *s, const struct letter *l)
{
    if (l->msg.to > ACTORS || s->cut[l->msg.from][l->msg.to]) {
        tell_letter(s, "lost: ", l);
        return;
    }
    tell_letter(s, "", l);
    assert(s->mail_count < MAIL_MAX);
    s->mail[s->mail_count++] = *l;
}

static struct letter write_letter(const struct actor *a, const struct raft_msg *m)
{
    struct letter l = {.msg = *m};
    l.msg.runs = NULL;
    if (m->type != RAFT_APPEND) return l;
    assert(m->entry_count <= 64 && m->run_count <= 8);
    memcpy(l.runs, m->runs, m->run_count * sizeof l.runs[0]);
    for (uint32_t i = 0; i < m->entry_count; i++)
        l.entries[i] = a->log[m->index + 1 + i];
    return l;
}

static void sync_first(struct stage *s, struct actor *a)
{
    struct unsynced_write w = a->writes[0];
    memmove(a->writes, a->writes + 1, --a->write_count * sizeof w);
    a->disk_hard = w.hard;
    if (w.truncate_from != 0) a->disk_last = w.truncate_from - 1;
    for (uint32_t i = 0; i < w.append_count; i++)
        a->disk[w.append_first + i] = w.entries[i];
    if (w.append_count > 0) a->disk_last = w.append_first + w.append_count - 1;
    raft_durable(a->raft, w.sequence);
    for (uint32_t i = 0; i < w.letter_count; i++)
        post(s, &w.letters[i]);
}

static const struct raft_conf *conf_at(const struct stage *s, raft_index index)
{
    for (raft_index i = index; i > 0; i--)
        if (s->chosen[i].conf != 0) return &s->confs[s->chosen[i].conf];
    return &s->confs[0];
}

static void apply_one(struct stage *s, struct actor *a)
{
    raft_index i = ++a->applied;
    const struct line *e = &a->log[i];
    if (i > s->chosen_last) {
        s->chosen[i] = *e;
        s->chosen_last = i;
    }
    assert(memcmp(e, &s->chosen[i], sizeof *e) == 0); /* state machine safety */
    if (e->conf != 0) {
        char text[256];
        tell(s, "%u applies %u: %s", a->id, (unsigned)i, conf_text(&s->confs[e->conf], text));
        raft_conf_applied(a->raft, &s->confs[e->conf]);
    }
    raft_applied(a->raft, i);
}

static raft_index propose(struct stage *s, struct actor *a, uint32_t count, uint32_t conf,
                          enum raft_verdict *verdict)
{
    raft_index first = 0;
    *verdict = raft_propose(a->raft, count, conf != 0, &first, s->now);
    for (uint32_t i = 0; *verdict == RAFT_OK && i < count; i++)
        a->log[first + i] = (struct line){(uint32_t)raft_term_now(a->raft), ++s->values, conf};
    return first;
}

static void write_ready(struct stage *s, struct actor *a, const struct raft_ready *o,
                        const struct letter *source)
{
    assert(o->must_sync && a->write_count < WRITES_MAX && o->append_count <= 64 &&
           o->send_durable_count <= 16);
    struct unsynced_write *w = &a->writes[a->write_count++];
    *w = (struct unsynced_write){.sequence = o->sequence,
                                 .hard = o->hard,
                                 .truncate_from = o->truncate_from,
                                 .append_first = o->append_first,
                                 .append_count = o->append_count};
    if (o->truncate_from != 0) {
        tell(s, "%u truncates from %u", a->id, (unsigned)o->truncate_from);
        a->last = o->truncate_from - 1;
    }
    for (uint32_t i = 0; i < o->append_count; i++) {
        raft_index at = o->append_first + i;
        if (o->role != RAFT_LEADER) {
            assert(source != NULL && source->msg.type == RAFT_APPEND);
            a->log[at] = source->entries[at - source->msg.index - 1];
        }
        w->entries[i] = a->log[at];
        a->last = at;
    }
    if (o->append_count > 0)
        tell(s, "%u appends %u..%u", a->id, (unsigned)o->append_first, (unsigned)a->last);
    for (uint32_t i = 0; i < o->send_durable_count; i++)
        w->letters[w->letter_count++] = write_letter(a, &o->send_durable[i]);
}

/* Takes readies until there are none. */
static void settle(struct stage *s, struct actor *a, const struct letter *source)
{
    struct raft_ready o;
    while (raft_ready(a->raft, &o)) {
        if (o.role_changed) {
            if (o.role != a->role || o.role != RAFT_FOLLOWER)
                tell(s, "%u is %s in term %u", a->id, raft_role_text(o.role),
                     (unsigned)o.hard.term);
            else if (o.leader != 0)
                tell(s, "%u follows %u in term %u", a->id, o.leader, (unsigned)o.hard.term);
            a->role = o.role;
        }
        if (o.must_sync || o.send_durable_count > 0) write_ready(s, a, &o, source);
        for (uint32_t i = 0; i < o.send_count; i++) {
            struct letter l = write_letter(a, &o.send[i]);
            post(s, &l);
        }
        if (o.apply_first != 0) {
            tell(s, "%u commits %u", a->id, (unsigned)o.apply_last);
            a->apply_to = o.apply_last;
        }
        for (uint32_t i = 0; i < o.read_count; i++)
            if (o.reads[i].index == 0)
                tell(s, "%u refuses read %u", a->id, (unsigned)o.reads[i].context);
            else
                tell(s, "%u serves read %u at %u", a->id, (unsigned)o.reads[i].context,
                     (unsigned)o.reads[i].index);
        bool elected = o.role_changed && o.role == RAFT_LEADER;
        raft_term term = o.hard.term;
        raft_advance(a->raft);
        if (elected) {
            assert(term < 1000 &&
                   (s->leader_of[term] == 0 || s->leader_of[term] == a->id)); /* election safety */
            s->leader_of[term] = a->id;
            enum raft_verdict verdict;
            if (!s->noop_off) propose(s, a, 1, 0, &verdict);
        }
        while (!s->disk_manual && a->write_count > 0)
            sync_first(s, a);
        while (!s->apply_manual && a->applied < a->apply_to)
            apply_one(s, a);
    }
    raft_check(a->raft);
}

static void start(struct stage *s, struct actor *a, bool fresh)
{
    struct raft_run runs[LOG_MAX];
    uint32_t count = 0;
    for (raft_index i = a->disk_base + 1; i <= a->disk_last; i++)
        runs[count++] = (struct raft_run){a->disk[i].term, 1, a->disk[i].conf != 0};
    struct raft_options o = s->options;
    o.id = a->id;
    o.seed = 7 * a->id;
    struct raft_boot b = {
        .hard = a->disk_hard,
        .conf = *conf_at(s, a->disk_applied),
        .snapshot_index = a->disk_base,
        .snapshot_term = a->disk[a->disk_base].term,
        .applied = a->disk_applied,
        .runs = runs,
        .run_count = count,
        .fresh = fresh,
        .owed_index = a->owed_index,
        .owed_term = a->owed_term,
    };
    a->raft = raft_init(a->memory, &o, &b, s->now);
    memcpy(a->log, a->disk, sizeof a->log);
    a->last = a->disk_last;
    a->applied = a->apply_to = a->disk_applied;
    a->write_count = 0;
    a->role = RAFT_FOLLOWER;
    a->up = true;
    settle(s, a, NULL);
}

/* The snapshot that the last RAFT_SNAPSHOT letter asked for arrives and is installed. */
static void install(struct stage *s, struct actor *from, struct actor *to)
{
    raft_index i = from->applied;
    raft_term term = s->chosen[i].term;
    if (!raft_needs_snapshot(to->raft, i, term)) {
        tell(s, "%u needs no snapshot", to->id);
        raft_snapshot_done(from->raft, to->id, true);
        settle(s, from, NULL);
        return;
    }
    uint32_t behind = to->write_count; /* their news comes late */
    uint64_t sequence = behind > 0 ? to->writes[behind - 1].sequence : 0;
    to->write_count = 0;
    to->log[i] = to->disk[i] = s->chosen[i];
    to->owed_index = to->owed_term = 0;
    to->disk_base = to->disk_last = to->disk_applied = to->last = to->applied = to->apply_to = i;
    tell(s, "%u installs a snapshot of %u^%u", to->id, (unsigned)i, (unsigned)term);
    raft_restored(to->raft, i, term, conf_at(s, i), s->now);
    if (behind > 0) raft_durable(to->raft, sequence);
    raft_snapshot_done(from->raft, to->id, true);
    settle(s, to, NULL);
    settle(s, from, NULL);
}

static void deliver_one(struct stage *s, uint32_t at)
{
    struct letter l = s->mail[at];
    memmove(&s->mail[at], &s->mail[at + 1], (--s->mail_count - at) * sizeof l);
    struct actor *a = &s->actors[l.msg.to];
    if (!a->exists || !a->up) {
        tell_letter(s, "nobody hears: ", &l);
        return;
    }
    l.msg.runs = l.runs;
    enum raft_verdict verdict = raft_step(a->raft, &l.msg, s->now);
    if (verdict != RAFT_OK)
        tell(s, "%u drops %s of %u", a->id, raft_msg_text(l.msg.type), l.msg.from);
    settle(s, a, &l);
}
#endif

#include "server/jobs_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/base/text.h"
#include "client/wire/resp.h"
#include "server/group.h"
#include "server/keyspaces.h"
#include "server/map.h"
#include "server/peer.h"
#include "server/request.h"

/* Rows are read anew whenever they changed, and a few times a second while jobs are open: what they are about changes
 * elsewhere. Nothing is remembered but what this reign has asked for. */
enum { LOOK_MS = 200,
       STEP_MS = 1000 }; /* progress is written down this often at most */

struct jobs *jobs_create(struct worker *w)
{
    struct jobs *jobs = calloc(1, sizeof *jobs);
    if (jobs != NULL) jobs->w = w;
    return jobs;
}

void jobs_destroy(struct jobs *jobs)
{
    if (jobs == NULL) return;
    kv_arena_free(&jobs->arena);
    free(jobs);
}

void jobs_changed(struct worker *w)
{
    w->placements->is_changed = true;
}

/* ---- rows ---- */

static enum kv_err row_read(const struct worker *w, struct kv_slice row, struct value *v)
{
    struct kv_key key;
    struct kv_slice bytes;
    enum kv_err err = kv_key_encode(&kv_key_rule_system, row, &key);
    if (err == KV_OK) err = store_get(w->store, STORE_DATA, kv_key_slice(&key), kv_slice(NULL, 0), &bytes);
    return err == KV_OK ? value_read(kv_key_slice(&key), bytes, v) : err;
}

static enum kv_err job_read(const struct worker *w, uint64_t id, struct kv_arena *arena, struct kv_job *out)
{
    char row[EXEC_ROW_JOB_BYTES_MAX];
    struct value v;
    enum kv_err err = row_read(w, exec_job_row(id, row), &v);
    if (err != KV_OK) return err;
    struct kv_slice own = kv_arena_copy(arena, v.payload);
    return own.data == NULL ? KV_NO_SPACE : kv_job_decode(own, arena, out);
}

static enum kv_err rows_read(struct jobs *jobs)
{
    struct exec_board b;
    struct value v;
    kv_arena_reset(&jobs->arena);
    jobs->open_count = 0;
    enum kv_err err = row_read(jobs->w, kv_str(EXEC_ROW_JOBS), &v);
    if (err == KV_NOT_FOUND) return KV_OK;
    if (err != KV_OK) return err;
    if (!exec_board_decode(v.payload, &b)) return KV_CORRUPT;
    jobs->open = kv_arena_alloc(&jobs->arena, (b.open_count + 1) * sizeof *jobs->open);
    if (jobs->open == NULL) return KV_NO_SPACE;
    for (uint32_t i = 0; err == KV_OK && i < b.open_count; i++) {
        err = job_read(jobs->w, b.open[i], &jobs->arena, &jobs->open[i]);
        if (err == KV_OK) jobs->open_count++;
    }
    return err;
}

/* ---- asking ---- */

static struct run *run_find(struct jobs *jobs, uint64_t id)
{
    struct run *free_run = NULL;
    for (uint32_t i = 0; i < KV_JOBS_OPEN_MAX; i++) {
        if (jobs->runs[i].id == id) return &jobs->runs[i];
        if (jobs->runs[i].id == 0 && free_run == NULL) free_run = &jobs->runs[i];
    }
    return free_run;
}

static void note_take(struct run *run, const struct kv_reply *reply)
{
    struct kv_slice text = reply->detail, value = reply->value;
    struct resp_value v;
    if (text.size == 0 && resp_next(&value, SIZE_MAX, &v) == KV_OK && v.type == RESP_ERROR && v.text.size > 4)
        text = kv_slice(v.text.data + 4, v.text.size - 4); /* "ERR " */
    if (text.size == 0) text = kv_str(kv_err_text(reply->err));
    (void)snprintf(run->note, sizeof run->note, "%.*s", (int)text.size, (const char *)text.data);
}

/* How much of a move's copy is there, or what a drop has left on a node. */
static void numbers_take(struct run *run, enum kv_op op, struct kv_slice value)
{
    struct resp_value v;
    if (resp_next(&value, SIZE_MAX, &v) != KV_OK) return;
    run->has_listed = run->has_listed || op == KV_OP_KVLABELS;
    if (op == KV_OP_KVLEFT && v.type == RESP_BULK) {
        uint64_t left;
        if (!kv_parse_u64(v.text, &left)) return;
        run->sent += left;
        run->cursor++;
    } else if (op == KV_OP_KVMOVE && v.type == RESP_ARRAY && v.number == 2) {
        struct resp_value sent, total;
        if (resp_next(&value, SIZE_MAX, &sent) != KV_OK || resp_next(&value, SIZE_MAX, &total) != KV_OK) return;
        run->sent = (uint64_t)sent.number;
        run->total = (uint64_t)total.number;
    }
}

static void claim_take(struct jobs *jobs, struct run *run, struct kv_slice value)
{
    struct resp_value v;
    struct kv_arena arena = {0};
    struct kv_job j;
    if (resp_next(&value, SIZE_MAX, &v) == KV_OK && v.type == RESP_BULK && kv_job_decode(v.text, &arena, &j) == KV_OK && j.runner == jobs->w->node_id) {
        run->fence = j.fence;
        run->claimed_ns = env_now_ns(jobs->w->env);
        run->again_ns = 0;
        JOURNAL(jobs->w->journal, main, INFO, "job-claimed", "job=%" PRIu64 " kind=%s fence=%" PRIu64, j.id, kv_job_kind_text(j.kind), j.fence);
    }
    kv_arena_free(&arena);
}

static void answered(struct request *r, const struct kv_reply *reply)
{
    struct jobs *jobs = r->owner;
    struct run *run = run_find(jobs, r->owner_id);
    if (run == NULL || run->id != r->owner_id) return; /* of an earlier reign */
    run->asks = false;
    run->err = reply->err;
    run->note[0] = '\0';
    jobs->is_changed = true;
    if (reply->err != KV_OK) {
        note_take(run, reply);
        run->again_ns = env_now_ns(jobs->w->env) + KV_MS(JOBS_AGAIN_MS);
        JOURNAL(jobs->w->journal, main, DEBUG, "job-refused", "job=%" PRIu64 " op=%s err=%s why=\"%s\"", run->id, kv_op_info(r->body.op)->name,
                kv_err_name(reply->err), run->note);
    } else if (r->body.op == KV_OP_JOBCLAIM) claim_take(jobs, run, reply->value);
    else numbers_take(run, r->body.op, reply->value);
}

void jobs_ask(struct jobs *jobs, struct run *run, const struct jobs_ask *a)
{
    struct worker *w = jobs->w;
    struct request *r = request_make(w);
    if (r == NULL) return; /* with the next look */
    run->asks = true;
    r->done = answered;
    r->owner = jobs;
    r->owner_id = run->id;
    r->internal = true;
    r->body = (struct kv_request){.op = a->op,
                                  .args = a->args,
                                  .arg_count = a->arg_count,
                                  .keyspace = a->keyspace,
                                  .pinned = a->range_epoch != 0,
                                  .partition = a->partition,
                                  .range_epoch = a->range_epoch,
                                  .deadline_ms = JOBS_ASK_MS};
    if (a->node == 0 || a->node == w->node_id) {
        request_start(r);
        return;
    }
    r->phase = KV_PHASE_FORWARD;
    r->deadline_ns = env_now_ns(w->env) + KV_MS(JOBS_ASK_MS);
    if (request_own(r) && peer_forward(w->peers, a->node, r) != KV_OK) request_fail(r, KV_UNAVAILABLE, "that node is not connected");
}

static void claim(struct jobs *jobs, struct run *run, const struct kv_job *j)
{
    char text[3][24];
    (void)snprintf(text[0], sizeof text[0], "%" PRIu64, j->id);
    (void)snprintf(text[1], sizeof text[1], "%u", jobs->w->node_id);
    (void)snprintf(text[2], sizeof text[2], "%" PRIu64, j->fence);
    struct kv_slice args[3] = {kv_str(text[0]), kv_str(text[1]), kv_str(text[2])};
    jobs_ask(jobs, run, &(struct jobs_ask){.op = KV_OP_JOBCLAIM, .args = args, .arg_count = 3});
}

static void say(struct jobs *jobs, struct run *run, const struct kv_job *j)
{
    char id[24];
    struct kv_buf bytes = {0};
    (void)snprintf(id, sizeof id, "%" PRIu64, j->id);
    kv_job_encode(j, &bytes);
    struct kv_slice args[2] = {kv_str(id), kv_buf_slice(&bytes)};
    if (!bytes.failed) jobs_ask(jobs, run, &(struct jobs_ask){.op = KV_OP_JOBSTEP, .args = args, .arg_count = 2});
    kv_buf_free(&bytes);
}

void jobs_step(struct jobs *jobs, struct run *run, const struct kv_job *j, uint64_t done, uint64_t total, const char *unit, const char *note)
{
    uint64_t now = env_now_ns(jobs->w->env);
    bool is_new = done != j->done || total != j->total || !kv_slice_eq(j->unit, kv_str(unit)) || !kv_slice_eq(j->note, kv_str(note));
    if (!is_new || run->asks || now - run->stepped_ns < KV_MS(STEP_MS)) return;
    struct kv_job s = *j;
    run->stepped_ns = now;
    s.fence = run->fence;
    s.state = KV_JOB_RUNNING;
    s.done = done;
    s.total = total;
    s.unit = kv_str(unit);
    s.note = kv_str(note);
    say(jobs, run, &s);
}

void jobs_end(struct jobs *jobs, struct run *run, const struct kv_job *j, enum kv_job_state state, enum kv_err err, const char *note)
{
    struct kv_job s = *j;
    if (run->asks) return;
    s.fence = run->fence;
    s.state = state;
    s.error = err;
    s.note = kv_str(note);
    if (state == KV_JOB_DONE) s.done = s.total = j->total == 0 ? 1 : j->total;
    if (s.unit.size == 0) s.unit = kv_str("steps");
    JOURNAL(jobs->w->journal, main, INFO, "job-end", "job=%" PRIu64 " kind=%s state=%s fence=%" PRIu64 " note=\"%s\"", j->id, kv_job_kind_text(j->kind),
            kv_job_state_text(state), s.fence, note);
    say(jobs, run, &s);
}

/* ---- looking ---- */

/* One that nobody runs yet waits until fewer replicas are on the way; one that has begun goes on. */
static bool is_due(const struct jobs *jobs, const struct kv_job *j)
{
    bool begins = j->state == KV_JOB_QUEUED && j->kind == KV_JOB_MOVE;
    return !begins || jobs->moves < jobs->w->config->coordinator_moves;
}

static void look_at(struct jobs *jobs, struct run *run, const struct kv_job *j, uint64_t now_ns)
{
    bool is_claimed = run->fence != 0 && run->fence == j->fence && j->state != KV_JOB_QUEUED;
    if (run->state != j->state) run->again_ns = 0;
    run->state = j->state;
    if (run->asks || now_ns < run->again_ns) return;
    if (is_claimed) {
        jobs_drive(jobs, run, j, now_ns);
        return;
    }
    if ((j->state == KV_JOB_PAUSED && j->fence == 0) || !is_due(jobs, j)) return;
    jobs->moves += j->state == KV_JOB_QUEUED && j->kind == KV_JOB_MOVE;
    claim(jobs, run, j);
}

static void look(struct jobs *jobs, uint64_t now_ns)
{
    enum kv_err err = rows_read(jobs);
    if (err != KV_OK) {
        JOURNAL(jobs->w->journal, store, ERROR, "jobs-unread", "err=%s", kv_err_name(err));
        return;
    }
    jobs->moves = 0;
    for (uint32_t i = 0; i < KV_JOBS_OPEN_MAX; i++) jobs->runs[i].is_seen = false;
    for (uint32_t i = 0; i < jobs->open_count; i++) {
        struct run *run = run_find(jobs, jobs->open[i].id);
        if (run != NULL && run->id != 0) run->is_seen = true;
        jobs->moves += jobs->open[i].kind == KV_JOB_MOVE && jobs->open[i].state == KV_JOB_RUNNING;
    }
    for (uint32_t i = 0; i < KV_JOBS_OPEN_MAX; i++)
        if (!jobs->runs[i].is_seen && !jobs->runs[i].asks) jobs->runs[i].id = 0;
    for (uint32_t i = 0; i < jobs->open_count; i++) {
        struct run *run = run_find(jobs, jobs->open[i].id);
        if (run == NULL) return; /* as many as there may be still end */
        if (run->id == 0) *run = (struct run){.id = jobs->open[i].id};
        look_at(jobs, run, &jobs->open[i], now_ns);
    }
}

void jobs_tick(struct worker *w, uint64_t now_ns)
{
    struct jobs *jobs = w->placements;
    const struct group *g = worker_group(w, KV_PARTITION_SYSTEM);
    /* What it has applied is all there was before its term. */
    bool leads = g != NULL && group_leads(g) && g->lead_index != 0 && g->applied >= g->lead_index && !g->installing;
    if (!leads || w->stopping || w->poisoned) {
        jobs->term = 0;
        jobs->open_count = 0;
        return;
    }
    uint64_t term = raft_term_now(g->raft);
    if (jobs->term != term) {
        memset(jobs->runs, 0, sizeof jobs->runs);
        jobs->term = term;
        jobs->is_changed = true;
    }
    if (!jobs->is_changed && (jobs->open_count == 0 || now_ns < jobs->look_ns)) return;
    jobs->is_changed = false;
    jobs->look_ns = now_ns + KV_MS(LOOK_MS);
    look(jobs, now_ns);
}

/* ---- for others ---- */

static void opened(struct request *r, const struct kv_reply *reply)
{
    struct worker *w = r->owner;
    if (reply->err != KV_OK)
        JOURNAL(w->journal, main, DEBUG, "placement-refused", "err=%s why=\"%.*s\"", kv_err_name(reply->err),
                (int)(reply->detail.size < 80 ? reply->detail.size : 80), reply->detail.size == 0 ? "" : (const char *)reply->detail.data);
}

void jobs_open(struct worker *w, const struct kv_job *wanted)
{
    struct kv_buf bytes = {0};
    struct kv_job j = *wanted;
    struct request *r = request_make(w);
    if (r == NULL) return;
    j.automatic = true;
    kv_job_encode(&j, &bytes);
    struct kv_slice args[2] = {kv_str(kv_job_kind_text(j.kind)), kv_buf_slice(&bytes)};
    JOURNAL(w->journal, main, INFO, "placement", "kind=%s partition=%u reason=\"%.*s\" from=%u to=%u", kv_job_kind_text(j.kind), j.partition,
            (int)j.reason.size, j.reason.size == 0 ? "" : (const char *)j.reason.data, j.from, j.to);
    r->done = opened;
    r->owner = w;
    r->internal = true;
    r->body = (struct kv_request){.op = KV_OP_JOBOPEN, .args = args, .arg_count = 2, .keyspace = KV_KEYSPACE_SYSTEM};
    if (bytes.failed) request_fail(r, KV_BUSY, "out of memory");
    else request_start(r);
    kv_buf_free(&bytes);
}

bool jobs_are_on(const struct worker *w, uint32_t partition)
{
    const struct jobs *jobs = w->placements;
    for (uint32_t i = 0; i < jobs->open_count; i++) {
        const struct kv_job *j = &jobs->open[i];
        if (j->kind <= KV_JOB_MERGE && (j->partition == partition || (j->kind == KV_JOB_MERGE && j->other == partition))) return true;
    }
    return false;
}

bool jobs_is_paused(const struct worker *w, enum kv_job_kind kind, uint32_t number)
{
    const struct jobs *jobs = w->placements;
    for (uint32_t i = 0; i < jobs->open_count; i++) {
        const struct kv_job *j = &jobs->open[i];
        if (j->kind == kind && j->state == KV_JOB_PAUSED && (kind == KV_JOB_DRAIN ? j->from : j->keyspace) == number) return true;
    }
    return false;
}

/* Between the two configurations of a move there is no way back, and what one waits for is milliseconds. */
bool jobs_refuse(struct request *r)
{
    struct worker *w = r->w;
    const struct group *g = worker_group(w, KV_PARTITION_SYSTEM);
    uint64_t id;
    char text[160];
    if (jobs_refuse_drain(r)) return true;
    if (r->body.op != KV_OP_JOBSET || kv_slice_eq(r->body.args[1], kv_str("resume")) || g == NULL || !group_leads(g)) return false;
    if (!kv_parse_u64(r->body.args[0], &id)) return false;
    struct kv_arena arena = {0};
    struct kv_job j;
    bool is_move = job_read(w, id, &arena, &j) == KV_OK && j.kind == KV_JOB_MOVE && j.state == KV_JOB_RUNNING;
    const struct partition *p = is_move ? map_get(w, j.partition) : NULL;
    const struct descriptor *d = p == NULL ? NULL : map_descriptor(p);
    kv_arena_free(&arena);
    if (d == NULL || !descriptor_is_joint(d)) return false;
    (void)snprintf(text, sizeof text, "job %" PRIu64 " cannot be taken back: partition %u is changing to its new replicas; next: kvctl job wait %" PRIu64, id,
                   d->id, id);
    request_fail(r, KV_CONDITION, text);
    return true;
}

uint32_t jobs_left(const struct worker *w, uint32_t keyspace)
{
    uint32_t cursor = 0, id, count = 0;
    while (store_group_next(w->store, &cursor, &id)) {
        struct store_group sg;
        struct descriptor d;
        if (!store_group_get(w->store, id, &sg) || sg.state == CHECKPOINT_GROUP_TOMBSTONE) continue;
        count += descriptor_decode(sg.descriptor, &d) == KV_OK && d.keyspace == keyspace;
    }
    return count;
}

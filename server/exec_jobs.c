#include "server/exec_jobs.h"

#include <inttypes.h>
#include <stdio.h>

#include "client/base/endian.h"
#include "client/base/mutant.h"
#include "server/exec_directory.h"
#include "server/exec_impl.h"
#include "server/exec_nodes.h"

/* Jobs: JOBOPEN JOBCLAIM JOBSTEP JOBSET JOBLIST JOBSHOW, as pure functions of partition 0's rows like all commands (R7).
 * What the command says is checked before anything is read, so that exec_check() refuses it too. */
enum { JOB_BYTES_MAX = 8 << 10,
       BOARD_HEADER_BYTES = 16 };

struct kv_slice exec_job_row(uint64_t id, char out[EXEC_ROW_JOB_BYTES_MAX])
{
    return kv_slice(out, (size_t)snprintf(out, EXEC_ROW_JOB_BYTES_MAX, "j/%" PRIu64, id));
}

static struct kv_slice on_row(char what, uint32_t number, char out[EXEC_ROW_JOB_BYTES_MAX])
{
    return kv_slice(out, (size_t)snprintf(out, EXEC_ROW_JOB_BYTES_MAX, "j/on/%c%" PRIu32, what, number));
}

/* ---- the board ---- */

bool exec_board_decode(struct kv_slice row, struct exec_board *out)
{
    if (row.size < BOARD_HEADER_BYTES) return false;
    out->next = le64_get(row.data);
    out->open_count = le32_get(row.data + 8);
    out->ended_count = le32_get(row.data + 12);
    if (out->open_count > KV_JOBS_OPEN_MAX || out->ended_count > KV_JOBS_ENDED_MAX) return false;
    if (row.size != BOARD_HEADER_BYTES + 8 * (size_t)(out->open_count + out->ended_count)) return false;
    const uint8_t *at = row.data + BOARD_HEADER_BYTES;
    for (uint32_t i = 0; i < out->open_count; i++, at += 8) out->open[i] = le64_get(at);
    for (uint32_t i = 0; i < out->ended_count; i++, at += 8) out->ended[i] = le64_get(at);
    return true;
}

static bool damaged(struct exec *x)
{
    x->failed = KV_CORRUPT; /* the board and its jobs change in one entry */
    return false;
}

bool exec_board_load(struct exec *x, struct exec_board *b)
{
    struct exec_entry e;
    b->next = 1;
    b->open_count = b->ended_count = 0;
    if (!exec_load(x, kv_str(EXEC_ROW_JOBS), &e)) return false;
    if (x->place == NULL) return exec_deny(x, KV_BAD_ARGUMENT, "jobs are partition %d's", KV_PARTITION_SYSTEM);
    return !e.live || exec_board_decode(e.value.payload, b) || damaged(x);
}

bool exec_board_put(struct exec *x, const struct exec_board *b)
{
    uint8_t bytes[EXEC_BOARD_BYTES_MAX], *at = bytes + BOARD_HEADER_BYTES;
    struct kv_key key;
    le64_put(bytes, b->next);
    le32_put(bytes + 8, b->open_count);
    le32_put(bytes + 12, b->ended_count);
    for (uint32_t i = 0; i < b->open_count; i++, at += 8) le64_put(at, b->open[i]);
    for (uint32_t i = 0; i < b->ended_count; i++, at += 8) le64_put(at, b->ended[i]);
    return exec_key(x, kv_str(EXEC_ROW_JOBS), &key) && exec_put(x, &key, kv_slice(bytes, (size_t)(at - bytes)), 0, 0);
}

/* ---- rows ---- */

static bool load(struct exec *x, uint64_t id, struct kv_arena *arena, struct kv_job *out, bool *is_there)
{
    char row[EXEC_ROW_JOB_BYTES_MAX];
    struct exec_entry e;
    if (!exec_load(x, exec_job_row(id, row), &e)) return false;
    *is_there = e.live;
    if (!e.live) return true;
    return kv_job_decode(e.value.payload, arena, out) == KV_OK || damaged(x);
}

bool exec_job_load(struct exec *x, uint64_t id, struct kv_arena *arena, struct kv_job *out)
{
    bool is_there;
    return load(x, id, arena, out, &is_there) && (is_there || damaged(x));
}

static bool put(struct exec *x, struct kv_job *j)
{
    char row[EXEC_ROW_JOB_BYTES_MAX];
    struct kv_key key;
    struct kv_buf bytes = {0};
    j->updated_ms = x->clock_ms;
    kv_job_encode(j, &bytes);
    if (bytes.failed) x->failed = KV_IO;
    bool ok = !bytes.failed && exec_key(x, exec_job_row(j->id, row), &key) && exec_put(x, &key, kv_buf_slice(&bytes), 0, 0);
    kv_buf_free(&bytes);
    return ok;
}

static void reply(struct exec *x, const struct kv_job *j)
{
    struct kv_buf bytes = {0};
    kv_job_encode(j, &bytes);
    if (bytes.failed) x->failed = KV_IO;
    else resp_put_bulk(x->reply, kv_buf_slice(&bytes));
    kv_buf_free(&bytes);
}

static bool delete (struct exec *x, struct kv_slice row)
{
    struct kv_key key;
    return exec_key(x, row, &key) && exec_delete(x, &key);
}

/* What a job changes, of which no other one may change it meanwhile. */
struct target {
    char what;
    uint32_t number;
};
static uint32_t targets_of(const struct kv_job *j, struct target out[2])
{
    switch (j->kind) {
    case KV_JOB_MOVE:
    case KV_JOB_SPLIT: out[0] = (struct target){'p', j->partition}; return 1;
    case KV_JOB_MERGE:
        out[0] = (struct target){'p', j->partition};
        out[1] = (struct target){'p', j->other};
        return 2;
    case KV_JOB_DRAIN: out[0] = (struct target){'n', j->from}; return 1;
    case KV_JOB_DROP:
    case KV_JOB_ALTER: out[0] = (struct target){'k', j->keyspace}; return 1;
    }
    return 0;
}

bool exec_job_on(struct exec *x, char what, uint32_t number, uint64_t *id)
{
    char row[EXEC_ROW_JOB_BYTES_MAX];
    struct exec_entry e;
    *id = 0;
    if (!exec_load(x, on_row(what, number, row), &e)) return false;
    return !e.live || kv_parse_u64(e.value.payload, id) || damaged(x);
}

bool exec_job_open(struct exec *x, struct exec_board *b, struct kv_job *j)
{
    struct target targets[2];
    uint32_t limit = j->automatic ? KV_JOBS_OPEN_MAX / 2 : KV_JOBS_OPEN_MAX; /* people always find room beside the coordinator */
    if (b->open_count >= limit)
        return exec_deny(x, KV_CONDITION, "there are %u open jobs, the limit; next: kvctl job list, and wait for some or cancel them", b->open_count);
    j->id = b->next++;
    b->open[b->open_count++] = j->id;
    j->state = KV_JOB_QUEUED;
    j->fence = j->runner = 0;
    j->done = j->started_ms = j->ended_ms = 0;
    j->opened_ms = x->clock_ms;
    for (uint32_t i = 0, count = targets_of(j, targets); i < count; i++) {
        char row[EXEC_ROW_JOB_BYTES_MAX], digits[21];
        struct kv_key key;
        struct kv_slice text = kv_slice(digits, kv_format_i64((int64_t)j->id, digits));
        if (!exec_key(x, on_row(targets[i].what, targets[i].number, row), &key) || !exec_put(x, &key, text, 0, 0)) return false;
    }
    return put(x, j);
}

bool exec_job_end(struct exec *x, struct exec_board *b, struct kv_job *j, enum kv_job_state state)
{
    struct target targets[2];
    char row[EXEC_ROW_JOB_BYTES_MAX];
    uint32_t at = 0;
    while (at < b->open_count && b->open[at] != j->id) at++;
    if (at == b->open_count) return damaged(x);
    b->open_count--;
    memmove(&b->open[at], &b->open[at + 1], (b->open_count - at) * sizeof b->open[0]);
    if (b->ended_count == KV_JOBS_ENDED_MAX) {
        if (!delete (x, exec_job_row(b->ended[0], row))) return false;
        b->ended_count--;
        memmove(&b->ended[0], &b->ended[1], b->ended_count * sizeof b->ended[0]);
    }
    b->ended[b->ended_count++] = j->id;
    for (uint32_t i = 0, count = targets_of(j, targets); i < count; i++)
        if (!delete (x, on_row(targets[i].what, targets[i].number, row))) return false;
    j->state = state;
    j->ended_ms = x->clock_ms;
    return put(x, j);
}

/* ---- opening ---- */

static bool wanted(struct exec *x, const struct kv_slice *a, struct kv_arena *arena, struct kv_job *j)
{
    enum kv_job_kind kind;
    if (a[1].size > JOB_BYTES_MAX || kv_job_decode(a[1], arena, j) != KV_OK)
        return exec_deny(x, KV_BAD_ARGUMENT, "the job's description does not parse, or a text of it is over %d bytes", KV_JOB_TEXT_BYTES_MAX);
    if (!kv_job_kind_parse(a[0], &kind) || kind != j->kind) return exec_deny(x, KV_BAD_ARGUMENT, "it is no job of that kind");
    j->unit = j->note = j->before = j->after = kv_slice(NULL, 0);
    j->total = j->result = 0;
    j->error = KV_OK;
    switch (j->kind) {
    case KV_JOB_MOVE:
        if (j->from == j->to) return exec_deny(x, KV_BAD_ARGUMENT, "a move goes from one node to another one");
        return true;
    case KV_JOB_SPLIT:
        if (j->key.size == 0) return exec_deny(x, KV_BAD_ARGUMENT, "a split needs the key where the new partition begins");
        return true;
    case KV_JOB_MERGE:
        if (j->key.size == 0 || j->partition == j->other) return exec_deny(x, KV_BAD_ARGUMENT, "a merge needs two partitions, and the key between them");
        return true;
    case KV_JOB_DRAIN:
    case KV_JOB_DROP:
    case KV_JOB_ALTER: break; /* begin with what they are about: KSNODE, KSDROP, KSALTER */
    }
    return exec_deny(x, KV_BAD_ARGUMENT, "that kind of job begins by itself; next: kvctl node drain, kvctl keyspace drop or alter");
}

static bool same(const struct kv_job *a, const struct kv_job *b)
{
    return a->kind == b->kind && a->partition == b->partition && a->other == b->other && a->from == b->from && a->to == b->to &&
           kv_slice_eq(a->key, b->key);
}

/* No other job changes what it is about; *there: the same one, if somebody was first. */
static bool check_targets(struct exec *x, const struct kv_job *j, struct kv_arena *arena, bool *is_there, struct kv_job *there)
{
    struct target targets[2];
    *is_there = false;
    for (uint32_t i = 0, count = targets_of(j, targets); i < count; i++) {
        uint64_t id;
        if (!exec_job_on(x, targets[i].what, targets[i].number, &id)) return false;
        if (id == 0 || MUTANT(job_target_shared)) continue;
        if (!exec_job_load(x, id, arena, there)) return false;
        *is_there = same(j, there);
        if (*is_there) return true;
        return exec_deny(x, KV_CONDITION, "partition %u has job %" PRIu64 " already (%s, %s); next: kvctl job wait %" PRIu64 ", or cancel it",
                         targets[i].number, id, kv_job_kind_text(there->kind), kv_job_state_text(there->state), id);
    }
    return true;
}

static void open_job(struct exec *x, const struct kv_slice *a, struct kv_arena *arena)
{
    struct kv_job j, there;
    struct exec_board b;
    bool is_there;
    if (!wanted(x, a, arena, &j) || !exec_board_load(x, &b) || !check_targets(x, &j, arena, &is_there, &there)) return;
    if (is_there) reply(x, &there);
    else if (exec_job_open(x, &b, &j) && exec_board_put(x, &b)) reply(x, &j);
}

void exec_jobopen(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct kv_arena arena = {0};
    open_job(x, a, &arena);
    kv_arena_free(&arena);
}

/* ---- its runner ---- */

static bool find(struct exec *x, struct kv_slice text, struct kv_arena *arena, struct exec_board *b, struct kv_job *j)
{
    uint64_t id;
    bool is_there;
    if (!kv_parse_u64(text, &id) || id == 0) return exec_deny(x, KV_BAD_ARGUMENT, "not the number of a job");
    if (!exec_board_load(x, b) || !load(x, id, arena, j, &is_there)) return false;
    if (is_there) return true;
    if (id < b->next) return exec_deny(x, KV_NOT_FOUND, "job %" PRIu64 " has ended and is forgotten, the last %d are kept", id, KV_JOBS_ENDED_MAX);
    return exec_deny(x, KV_NOT_FOUND, "no job %" PRIu64 "; next: kvctl job list", id);
}

static bool check_fence(struct exec *x, const struct kv_job *j, uint64_t fence)
{
    if (j->fence == fence) return true;
    return exec_deny(x, KV_CONFLICT, "fence %" PRIu64 " of job %" PRIu64 " is over: node %u runs it under %" PRIu64, fence, j->id, j->runner, j->fence);
}

static void claim(struct exec *x, const struct kv_slice *a, struct kv_arena *arena)
{
    struct exec_board b;
    struct kv_job j = {.id = 0};
    uint64_t node, fence;
    if (!kv_parse_u64(a[1], &node) || node == 0 || node > UINT32_MAX || !kv_parse_u64(a[2], &fence)) {
        exec_deny(x, KV_BAD_ARGUMENT, "JOBCLAIM id node fence");
        return;
    }
    if (!find(x, a[0], arena, &b, &j) || !check_fence(x, &j, fence)) return;
    if (kv_job_has_ended(&j)) {
        exec_deny(x, KV_CONDITION, "job %" PRIu64 " is %s", j.id, kv_job_state_text(j.state));
        return;
    }
    j.fence++;
    j.runner = (uint32_t)node;
    if (j.state == KV_JOB_QUEUED) j.state = KV_JOB_RUNNING;
    if (j.started_ms == 0 && j.state == KV_JOB_RUNNING) j.started_ms = x->clock_ms;
    if (put(x, &j)) reply(x, &j);
}

void exec_jobclaim(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct kv_arena arena = {0};
    claim(x, a, &arena);
    kv_arena_free(&arena);
}

/* A step says how far it is, or how it ended; whether it runs, pauses or is to be cancelled is not its runner's to say. */
static void step(struct exec *x, const struct kv_slice *a, struct kv_arena *arena)
{
    struct exec_board b;
    struct kv_job j = {.id = 0}, s;
    if (a[1].size > JOB_BYTES_MAX || kv_job_decode(a[1], arena, &s) != KV_OK) {
        exec_deny(x, KV_BAD_ARGUMENT, "the step does not parse");
        return;
    }
    if (!find(x, a[0], arena, &b, &j) || !check_fence(x, &j, s.fence)) return;
    if (kv_job_has_ended(&j)) {
        if (j.state == s.state) reply(x, &j); /* said before */
        else exec_deny(x, KV_CONDITION, "job %" PRIu64 " is %s", j.id, kv_job_state_text(j.state));
        return;
    }
    bool commits = j.kind == KV_JOB_ALTER && j.after.size > 0 && j.result == 0 && s.result != 0;
    if (commits && !exec_keyspace_restore(x, j.name, j.after)) return;
    j.done = s.done;
    j.total = s.total;
    j.unit = s.unit;
    j.note = s.note;
    j.error = s.error;
    j.result = s.result;
    bool good = kv_job_has_ended(&s) ? exec_job_end(x, &b, &j, s.state) && exec_board_put(x, &b) : put(x, &j);
    if (good) reply(x, &j);
}

void exec_jobstep(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct kv_arena arena = {0};
    step(x, a, &arena);
    kv_arena_free(&arena);
}

/* ---- people ---- */

static bool check_open(struct exec *x, const struct kv_job *j)
{
    return !kv_job_has_ended(j) || exec_deny(x, KV_CONDITION, "job %" PRIu64 " is %s already", j->id, kv_job_state_text(j->state));
}

static bool pause_job(struct exec *x, struct kv_job *j)
{
    if (j->state == KV_JOB_CANCELLING) return exec_deny(x, KV_CONDITION, "job %" PRIu64 " is being cancelled", j->id);
    if (j->kind == KV_JOB_DROP)
        return exec_deny(x, KV_CONDITION, "a drop has taken effect, nodes give the space back by themselves; it cannot be paused");
    j->state = KV_JOB_PAUSED;
    return put(x, j);
}

static bool resume_job(struct exec *x, struct kv_job *j)
{
    if (j->state != KV_JOB_PAUSED) return exec_deny(x, KV_CONDITION, "job %" PRIu64 " is %s, not paused", j->id, kv_job_state_text(j->state));
    j->state = KV_JOB_QUEUED;
    return put(x, j);
}

/* What nobody began, and what is a row alone, is over at once. */
static bool cancel_job(struct exec *x, struct exec_board *b, struct kv_job *j)
{
    switch (j->kind) {
    case KV_JOB_DROP: return exec_deny(x, KV_CONDITION, "a drop has taken effect, its keys are gone; it cannot be cancelled");
    case KV_JOB_DRAIN:
        if (!exec_node_undrain(x, j->from)) return false;
        break;
    case KV_JOB_ALTER:
        if (j->result != 0) return exec_deny(x, KV_CONDITION, "the new labels are in use by now; it cannot be cancelled");
        if (!exec_keyspace_restore(x, j->name, j->before)) return false;
        break;
    case KV_JOB_MOVE:
    case KV_JOB_SPLIT:
    case KV_JOB_MERGE:
        if (j->fence == 0) break;
        j->state = KV_JOB_CANCELLING;
        return put(x, j);
    }
    j->note = kv_slice(NULL, 0);
    return exec_job_end(x, b, j, KV_JOB_CANCELLED) && exec_board_put(x, b);
}

static void set(struct exec *x, const struct kv_slice *a, struct kv_arena *arena)
{
    struct exec_board b;
    struct kv_job j;
    bool pauses = kv_slice_eq(a[1], kv_str("pause")), resumes = kv_slice_eq(a[1], kv_str("resume"));
    if (!pauses && !resumes && !kv_slice_eq(a[1], kv_str("cancel"))) {
        exec_deny(x, KV_BAD_ARGUMENT, "a job is told to pause, resume or cancel");
        return;
    }
    if (!find(x, a[0], arena, &b, &j) || !check_open(x, &j)) return;
    bool good = pauses ? pause_job(x, &j) : resumes ? resume_job(x, &j)
                                                    : cancel_job(x, &b, &j);
    if (good) reply(x, &j);
}

void exec_jobset(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct kv_arena arena = {0};
    set(x, a, &arena);
    kv_arena_free(&arena);
}

/* ---- looking ---- */

static void reply_row(struct exec *x, uint64_t id)
{
    char row[EXEC_ROW_JOB_BYTES_MAX];
    struct exec_entry e;
    if (!exec_load(x, exec_job_row(id, row), &e)) return;
    if (e.live) resp_put_bulk(x->reply, e.value.payload);
    else x->failed = KV_CORRUPT;
}

void exec_joblist(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)a;
    (void)n;
    struct exec_board b;
    if (!exec_board_load(x, &b)) return;
    resp_put_array(x->reply, b.open_count + b.ended_count);
    for (uint32_t i = 0; i < b.ended_count; i++) reply_row(x, b.ended[i]);
    for (uint32_t i = 0; i < b.open_count; i++) reply_row(x, b.open[i]);
}

void exec_jobshow(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct kv_arena arena = {0};
    struct exec_board b;
    struct kv_job j;
    if (find(x, a[0], &arena, &b, &j)) reply(x, &j);
    kv_arena_free(&arena);
}

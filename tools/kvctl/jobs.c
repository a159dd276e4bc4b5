#include "tools/kvctl/jobs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/base/text.h"
#include "client/wire/resp.h"
#include "tools/kvctl/nodes.h"
#include "tools/kvctl/output.h"

/* kvctl job list show pause resume cancel wait. */
enum { ASK_AGAIN_NS = 50000000 };

static uint64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000u;
}

static int decode(struct kvctl *k, struct kv_slice bytes, struct kv_arena *arena, struct kv_job *out)
{
    struct kv_slice own = kv_arena_copy(arena, bytes);
    if (own.data != NULL && kv_job_decode(own, arena, out) == KV_OK) return EXIT_OK;
    kvctl_say(k, "the node's answer does not parse");
    return EXIT_INTERNAL;
}

static int ask(struct kvctl *k, enum kv_op op, const struct kv_slice *args, uint32_t count, struct kv_arena *arena, struct kv_job *out)
{
    struct kv_result r;
    int code = kvctl_open(k);
    if (code != EXIT_OK) return code;
    if (kv_command(k->kv, op, args, count, &r) != KV_OK) return kvctl_fail(k, &r);
    return decode(k, r.value, arena, out);
}

static int show(struct kvctl *k, uint64_t id, struct kv_arena *arena, struct kv_job *out)
{
    char digits[21];
    struct kv_slice arg = kv_slice(digits, kv_format_i64((int64_t)id, digits));
    return ask(k, KV_OP_JOBSHOW, &arg, 1, arena, out);
}

int jobs_begin(struct kvctl *k, const struct kv_job *wanted, struct kv_arena *arena, struct kv_job *out)
{
    struct kv_buf bytes = {0};
    struct kv_job j = *wanted;
    if (j.reason.size == 0) j.reason = kv_str("asked for");
    kv_job_encode(&j, &bytes);
    struct kv_slice args[2] = {kv_str(kv_job_kind_text(j.kind)), kv_buf_slice(&bytes)};
    int code = bytes.failed ? EXIT_INTERNAL : ask(k, KV_OP_JOBOPEN, args, 2, arena, out);
    kv_buf_free(&bytes);
    return code;
}

static int ended_code(struct kvctl *k, const struct kv_job *j)
{
    if (j->state == KV_JOB_DONE) return EXIT_OK;
    kvctl_say(k, "job %" PRIu64 " %s%s%.*s", j->id, j->state == KV_JOB_FAILED ? "failed" : "was cancelled", j->note.size > 0 ? ": " : "", (int)j->note.size,
              j->note.size == 0 ? "" : (const char *)j->note.data);
    return j->state == KV_JOB_FAILED ? kvctl_exit(j->error, KV_APPLIED_NO) : EXIT_CONDITION;
}

int jobs_wait(struct kvctl *k, uint64_t id, struct kv_arena *arena, struct kv_job *out)
{
    uint64_t deadline_ms = now_ms() + k->timeout_ms;
    for (;;) {
        int code = show(k, id, arena, out);
        if (code != EXIT_OK) return code;
        if (kv_job_has_ended(out)) return ended_code(k, out);
        if (now_ms() >= deadline_ms) break;
        (void)nanosleep(&(struct timespec){.tv_nsec = ASK_AGAIN_NS}, NULL);
    }
    kvctl_say(k, "job %" PRIu64 " is %s and goes on by itself%s%.*s; next: kvctl job wait %" PRIu64 " --timeout 1m", id, kv_job_state_text(out->state),
              out->note.size > 0 ? ", " : "", (int)out->note.size, out->note.size == 0 ? "" : (const char *)out->note.data, id);
    return EXIT_TIMEOUT;
}

/* ---- how one looks ---- */

/* By the rate since it began; 0: nobody knows. */
static uint64_t eta_ms(const struct kv_job *j)
{
    if (kv_job_has_ended(j) || j->state == KV_JOB_PAUSED || j->done == 0 || j->done >= j->total || j->updated_ms <= j->started_ms || j->started_ms == 0) return 0;
    return (uint64_t)((double)(j->updated_ms - j->started_ms) * (double)(j->total - j->done) / (double)j->done) + 1;
}

static void about(const struct kv_job *j, struct kv_buf *out)
{
    switch (j->kind) {
    case KV_JOB_MOVE: kv_buf_printf(out, "partition %u: %u -> %u", j->partition, j->from, j->to); break;
    case KV_JOB_SPLIT: kv_buf_printf(out, "partition %u", j->partition); break;
    case KV_JOB_MERGE: kv_buf_printf(out, "partition %u into %u", j->partition, j->other); break;
    case KV_JOB_DRAIN: kv_buf_printf(out, "node %u", j->from); break;
    case KV_JOB_DROP:
    case KV_JOB_ALTER:
        kv_buf_append_text(out, "keyspace ");
        output_escaped(out, j->name);
        break;
    }
}

static void number(struct kv_buf *b, const char *name, uint64_t v)
{
    if (v == 0) kv_buf_printf(b, ",\"%s\":null", name);
    else kv_buf_printf(b, ",\"%s\":%" PRIu64, name, v);
}

static void text(struct kv_buf *b, const char *name, struct kv_slice s)
{
    kv_buf_printf(b, ",\"%s\":", name);
    output_json_bytes(b, s);
}

static void json_of(struct kv_buf *b, const struct kv_job *j)
{
    kv_buf_printf(b, "{\"id\":%" PRIu64 ",\"kind\":\"%s\",\"state\":\"%s\"", j->id, kv_job_kind_text(j->kind), kv_job_state_text(j->state));
    if (j->kind <= KV_JOB_MERGE) kv_buf_printf(b, ",\"partition\":%u", j->partition);
    if (j->kind == KV_JOB_MERGE) kv_buf_printf(b, ",\"into\":%u", j->other);
    if (j->kind == KV_JOB_MOVE) kv_buf_printf(b, ",\"from\":%u,\"to\":%u", j->from, j->to);
    if (j->kind == KV_JOB_DRAIN) kv_buf_printf(b, ",\"node\":%u", j->from);
    else kv_buf_printf(b, ",\"keyspace\":%u", j->keyspace);
    if (j->name.size > 0) text(b, "name", j->name);
    text(b, "reason", j->reason);
    kv_buf_printf(b, ",\"automatic\":%s,\"fence\":%" PRIu64, j->automatic ? "true" : "false", j->fence);
    number(b, "runner", j->runner);
    kv_buf_printf(b, ",\"done\":%" PRIu64 ",\"total\":%" PRIu64, j->done, j->total);
    text(b, "unit", j->unit);
    number(b, "eta_ms", eta_ms(j));
    number(b, "opened_ms", j->opened_ms);
    number(b, "started_ms", j->started_ms);
    number(b, "updated_ms", j->updated_ms);
    number(b, "ended_ms", j->ended_ms);
    if (j->kind == KV_JOB_SPLIT) number(b, "result", j->result);
    if (j->error != KV_OK) kv_buf_printf(b, ",\"error\":\"%s\"", kv_err_name(j->error));
    text(b, "note", j->note);
    kv_buf_append_text(b, "}\n");
}

static void table_begin(struct output_table *t)
{
    static const char *const heads[] = {"ID", "KIND", "STATE", "ABOUT", "PROGRESS", "ETA", "FENCE", "RUNNER", "REASON", "NOTE"};
    output_table_init(t, 10, "r....rrr..");
    for (uint32_t i = 0; i < 10; i++) output_table_cell(t, "%s", heads[i]);
}

static void line_of(struct output_table *t, const struct kv_job *j)
{
    struct kv_buf b = {0};
    uint64_t eta = eta_ms(j);
    output_table_cell(t, "%" PRIu64, j->id);
    output_table_cell(t, "%s", kv_job_kind_text(j->kind));
    output_table_cell(t, "%s", kv_job_state_text(j->state));
    about(j, &b);
    output_table_cell(t, "%.*s", (int)b.size, (const char *)kv_buf_slice(&b).data);
    kv_buf_free(&b);
    if (j->total == 0) output_table_cell(t, "-");
    else output_table_cell(t, "%" PRIu64 "/%" PRIu64 " %.*s", j->done, j->total, (int)j->unit.size, j->unit.size == 0 ? "" : (const char *)j->unit.data);
    if (eta == 0) output_table_cell(t, "-");
    else output_table_cell(t, "%" PRIu64 "s", eta / 1000 + 1);
    output_table_cell(t, "%" PRIu64, j->fence);
    if (j->runner == 0) output_table_cell(t, "-");
    else output_table_cell(t, "%u", j->runner);
    output_table_cell(t, "%.*s", (int)j->reason.size, j->reason.size == 0 ? "" : (const char *)j->reason.data);
    output_table_cell(t, "%.*s", (int)j->note.size, j->note.size == 0 ? "" : (const char *)j->note.data);
}

int jobs_print(struct kvctl *k, const struct kv_job *j)
{
    struct kv_buf out = {0};
    struct output_table t;
    switch (k->format) {
    case FORMAT_JSON: json_of(&out, j); break;
    case FORMAT_RAW: kv_buf_printf(&out, "%" PRIu64 "\n", j->id); break;
    case FORMAT_TABLE:
        table_begin(&t);
        line_of(&t, j);
        output_table_print(&t, &out);
        break;
    }
    return nodes_buf_print(k, &out);
}

/* ---- commands ---- */

static bool id_of(struct kvctl *k, const char *word, uint64_t *id)
{
    if (kv_parse_u64(kv_str(word), id) && *id > 0) return true;
    kvctl_say(k, "%s: not the number of a job; next: kvctl job list", word);
    return false;
}

/* Calls `each` with every job, as the cluster lists them. */
static int each_job(struct kvctl *k, struct kv_arena *arena, void (*each)(void *context, const struct kv_job *j), void *context)
{
    struct kv_result r;
    struct resp_value v;
    int code = kvctl_open(k);
    if (code != EXIT_OK) return code;
    if (kv_command(k->kv, KV_OP_JOBLIST, NULL, 0, &r) != KV_OK) return kvctl_fail(k, &r);
    struct kv_slice in = r.value;
    int64_t left = resp_next(&in, SIZE_MAX, &v) == KV_OK && v.type == RESP_ARRAY ? v.number : 0;
    for (; left > 0 && code == EXIT_OK; left--) {
        struct kv_job j;
        code = resp_next(&in, SIZE_MAX, &v) == KV_OK ? decode(k, v.text, arena, &j) : EXIT_INTERNAL;
        if (code == EXIT_OK) each(context, &j);
    }
    return code;
}

struct listing {
    struct kvctl *k;
    struct kv_buf out;
    struct output_table t;
};

static void list_one(void *context, const struct kv_job *j)
{
    struct listing *l = context;
    switch (l->k->format) {
    case FORMAT_JSON: json_of(&l->out, j); break;
    case FORMAT_RAW: kv_buf_printf(&l->out, "%" PRIu64 "\n", j->id); break;
    case FORMAT_TABLE: line_of(&l->t, j); break;
    }
}

int job_list_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)a;
    (void)words;
    (void)count;
    struct listing l = {.k = k};
    struct kv_arena arena = {0};
    if (k->format == FORMAT_TABLE) table_begin(&l.t);
    int code = each_job(k, &arena, list_one, &l);
    if (k->format == FORMAT_TABLE) output_table_print(&l.t, &l.out);
    kv_arena_free(&arena);
    if (code == EXIT_OK) return nodes_buf_print(k, &l.out);
    kv_buf_free(&l.out);
    return code;
}

struct search {
    enum kv_job_kind kind;
    uint32_t number;
    struct kv_job *out;
};

static void find_one(void *context, const struct kv_job *j)
{
    struct search *s = context;
    if (j->kind == s->kind && (j->kind == KV_JOB_DRAIN ? j->from : j->keyspace) == s->number) *s->out = *j;
}

int jobs_find(struct kvctl *k, enum kv_job_kind kind, uint32_t number_of, struct kv_arena *arena, struct kv_job *out)
{
    struct search s = {kind, number_of, out};
    out->id = 0;
    return each_job(k, arena, find_one, &s);
}

static int set(struct kvctl *k, uint64_t id, struct kv_arena *arena, struct kv_job *out)
{
    char digits[21];
    struct kv_slice args[2] = {kv_slice(digits, kv_format_i64((int64_t)id, digits)), kv_str(strchr(k->command, ' ') + 1)};
    return ask(k, KV_OP_JOBSET, args, 2, arena, out);
}

static int one(struct kvctl *k, const char *word, int (*question)(struct kvctl *k, uint64_t id, struct kv_arena *arena, struct kv_job *out))
{
    uint64_t id;
    struct kv_job j = {.id = 0};
    struct kv_arena arena = {0};
    if (!id_of(k, word, &id)) return EXIT_USAGE;
    int code = question(k, id, &arena, &j);
    if (code == EXIT_OK) code = jobs_print(k, &j);
    kv_arena_free(&arena);
    return code;
}

int job_show_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)a, (void)count;
    return one(k, words[0], show);
}

int job_set_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)a, (void)count;
    return one(k, words[0], set);
}

int job_wait_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)a, (void)count;
    return one(k, words[0], jobs_wait);
}

#include "jepsen/timeline.h"
#include "tools/check/check.h"
#include <stdlib.h>

/* Judges a finished run from its files alone: the history as any user would hand it to
 * `kvctl history check`, and what the run itself noted. */

struct summary {
    uint64_t ok, fail, info, ok_under_faults;
    uint64_t gap_ns; /* the longest time in which no operation on some lane succeeded */
    uint64_t gap_from_ns;
    uint32_t gap_lane;
    uint64_t p50_ns, p99_ns; /* of ok ones under faults */
};

static int number_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void gap_note(struct summary *s, uint32_t lane, uint64_t from_ns, uint64_t to_ns)
{
    if (to_ns < from_ns || to_ns - from_ns <= s->gap_ns) return;
    s->gap_ns = to_ns - from_ns;
    s->gap_from_ns = from_ns;
    s->gap_lane = lane;
}

static bool summarize(const struct run *r, const struct history *h, struct summary *s)
{
    uint64_t *latencies = calloc(2 * ((size_t)h->op_count + 1), sizeof *latencies), *completions = latencies;
    if (latencies == NULL) return false;
    completions += h->op_count + 1;
    for (uint32_t i = 0; i < h->op_count; i++) {
        const struct history_op *op = &h->ops[i];
        s->ok += op->outcome == HISTORY_OK;
        s->fail += op->outcome == HISTORY_FAIL;
        s->info += op->outcome == HISTORY_INFO;
        if (op->outcome == HISTORY_OK && op->call_ns < r->heal_ns)
            latencies[s->ok_under_faults++] = op->ret_ns - op->call_ns;
    }
    qsort(latencies, s->ok_under_faults, sizeof *latencies, number_order);
    if (s->ok_under_faults > 0) {
        s->p50_ns = latencies[s->ok_under_faults / 2];
        s->p99_ns = latencies[s->ok_under_faults * 99 / 100];
    }
    for (uint32_t lane = 0; lane < LANES; lane++) {
        size_t n = 0;
        for (uint32_t i = 0; i < h->op_count; i++)
            if (h->ops[i].outcome == HISTORY_OK && timeline_lane(r, h->keys[h->ops[i].key]) == lane)
                completions[n++] = h->ops[i].ret_ns;
        qsort(completions, n, sizeof *completions, number_order);
        /* Until the faults are over: then nobody asks before all nodes serve. */
        uint64_t last_ns = 0;
        for (size_t i = 0; i < n && completions[i] < r->heal_ns; i++) {
            gap_note(s, lane, last_ns, completions[i]);
            last_ns = completions[i];
        }
        gap_note(s, lane, last_ns, r->heal_ns);
    }
    free(latencies);
    return true;
}

/* The exit codes of `kvctl history check`; 1: something else was wrong. */
static int exit_code(enum check_verdict v, bool passed)
{
    switch (v) {
    case CHECK_VALID: return passed ? 0 : 1;
    case CHECK_VIOLATION: return 4;
    case CHECK_UNDECIDED: return 7;
    case CHECK_MALFORMED:
    case CHECK_UNSUPPORTED: return 1;
    }
    return 1;
}

static json_t *faults_json(const struct run *r)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < r->nemesis.fault_count; i++) {
        const struct fault *f = &r->nemesis.faults[i];
        json_array_append_new(list,
                              json_pack("{s:s,s:s,s:s,s:I,s:I}", "kind", f->kind->name, "detail", f->detail, "proof",
                                        f->proof, "from_ns", (json_int_t)f->from_ns, "to_ns", (json_int_t)f->to_ns));
    }
    return list;
}

static json_t *texts_json(const struct run *r)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < r->failure_count; i++) json_array_append_new(list, json_string(r->failures[i]));
    return list;
}

static json_t *errors_json(const struct run *r)
{
    json_t *map = json_object();
    for (uint32_t i = 0; i < r->recorder.error_count; i++)
        json_object_set_new(map, r->recorder.errors[i].text, json_integer((json_int_t)r->recorder.errors[i].count));
    return map;
}

static json_t *reads_json(const struct run *r)
{
    json_t *map = json_object();
    for (uint32_t i = 0; i < sizeof r->recorder.reads / sizeof r->recorder.reads[0]; i++)
        json_object_set_new(map, kv_level_text((enum kv_level)i), json_integer((json_int_t)r->recorder.reads[i]));
    return map;
}

static void replay_text(const struct run *r, char *out, size_t size)
{
    const struct run_options *o = &r->options;
    snprintf(out, size, "jepsen/run --workload %s --nemesis %s --doors %s --seed %llu --seconds %u --nodes %u",
             o->workload->name, o->nemesis->name, doors_text(o->doors), (unsigned long long)o->seed, o->seconds,
             o->nodes);
}

static bool result_write(const struct run *r, const struct summary *s, const char *verdict, bool passed)
{
    const struct run_options *o = &r->options;
    char path[NODES_PATH_BYTES + 32], replay[256];
    replay_text(r, replay, sizeof replay);
    snprintf(path, sizeof path, "%s/result.json", o->dir);
    json_t *j = json_pack("{s:s,s:s,s:s,s:I,s:i,s:i,s:b,s:s,s:o,s:s}", "workload", o->workload->name, "nemesis",
                          o->nemesis->name, "doors", doors_text(o->doors), "seed", (json_int_t)o->seed, "seconds",
                          (int)o->seconds, "nodes", (int)o->nodes, "passed", passed, "verdict", verdict, "failures",
                          texts_json(r), "replay", replay);
    json_t *numbers =
        json_pack("{s:I,s:I,s:I,s:f,s:I,s:I,s:i,s:I,s:I,s:I,s:I}", "ok", (json_int_t)s->ok, "fail", (json_int_t)s->fail,
                  "info", (json_int_t)s->info, "rate", (double)s->ok_under_faults * 1e9 / (double)(r->heal_ns + 1),
                  "gap_ns", (json_int_t)s->gap_ns, "gap_from_ns", (json_int_t)s->gap_from_ns, "gap_lane",
                  (int)s->gap_lane, "p50_ns", (json_int_t)s->p50_ns, "p99_ns", (json_int_t)s->p99_ns, "heal_ns",
                  (json_int_t)r->heal_ns, "end_ns", (json_int_t)r->end_ns);
    bool good = j != NULL && numbers != NULL && json_object_update(j, numbers) == 0 &&
                json_object_set_new(j, "faults", faults_json(r)) == 0 &&
                json_object_set_new(j, "errors", errors_json(r)) == 0 && json_object_set_new(j, "reads", reads_json(r)) == 0 &&
                json_dump_file(j, path, JSON_INDENT(1)) == 0;
    json_decref(numbers);
    json_decref(j);
    return good;
}

static void print_line(const struct run *r, const struct summary *s, const char *verdict, bool passed)
{
    const struct run_options *o = &r->options;
    printf("%-10s %-8s %-6s  ok %6llu  fail %5llu  info %4llu  %5.0f/s  gap %5llu ms  %-9s  %s\n", o->workload->name,
           o->nemesis->name, doors_text(o->doors), (unsigned long long)s->ok, (unsigned long long)s->fail,
           (unsigned long long)s->info, (double)s->ok_under_faults * 1e9 / (double)(r->heal_ns + 1),
           (unsigned long long)(s->gap_ns / 1000000), verdict, passed ? "passed" : "FAILED");
    for (uint32_t i = 0; i < r->failure_count; i++) printf("  %s\n", r->failures[i]);
}

static bool draw(const struct run *r, const struct history *h, const struct summary *s, const char *verdict,
                 bool passed)
{
    const struct run_options *o = &r->options;
    char path[NODES_PATH_BYTES + 32], headline[160], facts[240];
    snprintf(path, sizeof path, "%s/timeline.svg", o->dir);
    snprintf(headline, sizeof headline, "%s under %s, seed %llu: history %s, run %s", o->workload->name,
             o->nemesis->name, (unsigned long long)o->seed, verdict, passed ? "passed" : "FAILED");
    snprintf(facts, sizeof facts,
             "%u nodes, %s clients; %llu ok, %llu fail, %llu info; latency p50 %.1f ms, p99 %.1f ms; "
             "longest gap of a partition %.2f s; all read %.1f s after healing",
             o->nodes, doors_text(o->doors), (unsigned long long)s->ok, (unsigned long long)s->fail,
             (unsigned long long)s->info, (double)s->p50_ns / 1e6, (double)s->p99_ns / 1e6, (double)s->gap_ns / 1e9,
             (double)(r->end_ns - r->heal_ns) / 1e9);
    struct timeline_gap gap = {.lane = s->gap_lane, .from_ns = s->gap_from_ns, .ns = s->gap_ns};
    return timeline_write(r, h, &gap, headline, facts, path);
}

/* The same history for outside checkers. */
static bool history_edn(const struct run *r, const struct history *h)
{
    char path[NODES_PATH_BYTES + 32];
    snprintf(path, sizeof path, "%s/history.edn", r->options.dir);
    FILE *out = fopen(path, "we");
    if (out == NULL) return false;
    history_save(h, out, true);
    bool good = !ferror(out);
    return fclose(out) == 0 && good;
}

int run_judge(struct run *r)
{
    char path[NODES_PATH_BYTES + 32], why[512] = "out of memory", replay[256];
    struct summary s = {0};
    struct check_result result = {.verdict = CHECK_MALFORMED};
    snprintf(path, sizeof path, "%s/history.jsonl", r->options.dir);
    struct history *h = history_create();
    if (h == NULL || history_load(h, path, why, sizeof why) != KV_OK) {
        run_fail(r, "%s", why);
    } else {
        check_history(h, &(struct check_options){.model = CHECK_INFER}, &result);
        if (!summarize(r, h, &s)) run_fail(r, "out of memory");
        if (s.ok == 0) run_fail(r, "not one operation succeeded");
    }
    bool passed = result.verdict == CHECK_VALID && r->failure_count == 0;
    if (!result_write(r, &s, check_verdict_text(result.verdict), passed)) {
        fprintf(stderr, "kvjepsen: cannot write %s/result.json\n", r->options.dir);
        passed = false;
    }
    if (h != NULL && !history_edn(r, h)) {
        fprintf(stderr, "kvjepsen: cannot write %s/history.edn\n", r->options.dir);
        passed = false;
    }
    if (h != NULL && !draw(r, h, &s, check_verdict_text(result.verdict), passed)) {
        fprintf(stderr, "kvjepsen: cannot write %s/timeline.svg\n", r->options.dir);
        passed = false;
    }
    print_line(r, &s, check_verdict_text(result.verdict), passed);
    if (h != NULL && result.verdict != CHECK_VALID) check_print(h, &result, path, stdout);
    if (!passed) {
        replay_text(r, replay, sizeof replay);
        printf("  history: %s\n  again: %s\n", path, replay);
    }
    int code = exit_code(result.verdict, passed);
    check_result_free(&result);
    history_free(h);
    return code;
}

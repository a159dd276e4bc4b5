#include "jepsen/report.h"
#include "jepsen/run.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

/* A matrix to see at a glance, then a row a run, then what failed and the longest outages as pictures. */
enum { RUNS_MAX = 1024, PICTURES = 6 };

struct report {
    FILE *out;
    const char *dir;
    json_t *runs[RUNS_MAX];
    char *names[RUNS_MAX];
    uint32_t count;
};

static const char *text_of(const json_t *run, const char *field)
{
    const char *text = json_string_value(json_object_get(run, field));
    return text == NULL ? "?" : text;
}

static int64_t number_of(const json_t *run, const char *field)
{
    return json_integer_value(json_object_get(run, field));
}

static bool has_passed(const json_t *run)
{
    return json_is_true(json_object_get(run, "passed"));
}

static double gap_s(const json_t *run)
{
    return (double)number_of(run, "gap_ns") / 1e9;
}

/* ---- reading ---- */

static int not_hidden(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static bool load(struct report *p)
{
    struct dirent **entries;
    int n = scandir(p->dir, &entries, not_hidden, alphasort);
    for (int i = 0; i < n; i++) {
        char path[NODES_PATH_BYTES + 300];
        snprintf(path, sizeof path, "%s/%s/result.json", p->dir, entries[i]->d_name);
        json_t *run = p->count < RUNS_MAX ? json_load_file(path, 0, NULL) : NULL;
        if (run != NULL) {
            p->names[p->count] = strdup(entries[i]->d_name);
            p->runs[p->count++] = run;
        }
        free(entries[i]);
    }
    if (n >= 0) free(entries);
    return p->count > 0;
}

/* ---- writing ---- */

static const json_t *run_find(const struct report *p, const char *workload, const char *nemesis, uint32_t *count)
{
    const json_t *worst = NULL;
    *count = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const json_t *run = p->runs[i];
        if (strcmp(text_of(run, "workload"), workload) != 0 || strcmp(text_of(run, "nemesis"), nemesis) != 0) continue;
        ++*count;
        if (worst == NULL || (has_passed(worst) && !has_passed(run)) ||
            (has_passed(worst) == has_passed(run) && gap_s(run) > gap_s(worst)))
            worst = run;
    }
    return worst;
}

static void write_matrix(const struct report *p)
{
    const struct workload *w;
    const struct nemesis_kind *k;
    fprintf(p->out, "## Matrix\n\nIn each cell the longest time in which a partition answered nobody, in seconds; "
                    "**FAILED** where a run failed.\n\n| |");
    for (uint32_t i = 0; (w = workload_at(i)) != NULL; i++) fprintf(p->out, " %s |", w->name);
    fprintf(p->out, " longest |\n|---|");
    for (uint32_t i = 0; workload_at(i) != NULL; i++) fprintf(p->out, "---:|");
    fprintf(p->out, "---:|");
    for (uint32_t n = 0; (k = nemesis_at(n)) != NULL; n++) {
        double longest_s = 0;
        fprintf(p->out, "\n| %s |", k->name);
        for (uint32_t i = 0; (w = workload_at(i)) != NULL; i++) {
            uint32_t count;
            const json_t *run = run_find(p, w->name, k->name, &count);
            if (run == NULL) fprintf(p->out, " |");
            else if (!has_passed(run)) fprintf(p->out, " **FAILED** |");
            else fprintf(p->out, " %.2f |", gap_s(run));
            if (run != NULL && gap_s(run) > longest_s) longest_s = gap_s(run);
        }
        fprintf(p->out, " %.2f |", longest_s);
    }
    fprintf(p->out, "\n\n");
}

static void write_rows(const struct report *p)
{
    fprintf(p->out, "## Runs\n\n| workload | nemesis | clients | faults | ok | fail | info | ok/s | p50 ms | p99 ms | "
                    "longest gap s | verdict | |\n"
                    "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|---|\n");
    for (uint32_t i = 0; i < p->count; i++) {
        const json_t *run = p->runs[i];
        fprintf(p->out,
                "| %s | %s | %s | %zu | %lld | %lld | %lld | %.0f | %.1f | %.1f | %.2f | %s | "
                "%s[timeline](%s/timeline.svg) |\n",
                text_of(run, "workload"), text_of(run, "nemesis"), text_of(run, "doors"),
                json_array_size(json_object_get(run, "faults")), (long long)number_of(run, "ok"),
                (long long)number_of(run, "fail"), (long long)number_of(run, "info"),
                json_real_value(json_object_get(run, "rate")), (double)number_of(run, "p50_ns") / 1e6,
                (double)number_of(run, "p99_ns") / 1e6, gap_s(run), text_of(run, "verdict"),
                has_passed(run) ? "" : "**FAILED** ", p->names[i]);
    }
    fprintf(p->out, "\n");
}

static void write_failures(const struct report *p)
{
    bool any = false;
    for (uint32_t i = 0; i < p->count; i++) {
        const json_t *run = p->runs[i], *failures = json_object_get(run, "failures");
        if (has_passed(run)) continue;
        if (!any) fprintf(p->out, "## Failed\n\n");
        any = true;
        fprintf(p->out, "- %s under %s, history %s: `%s`\n", text_of(run, "workload"), text_of(run, "nemesis"),
                text_of(run, "verdict"), text_of(run, "replay"));
        for (size_t k = 0; k < json_array_size(failures); k++)
            fprintf(p->out, "  - %s\n", json_string_value(json_array_get(failures, k)));
        fprintf(p->out, "\n  ![timeline](%s/timeline.svg)\n\n", p->names[i]);
    }
}

static void write_errors(const struct report *p)
{
    json_t *sums = json_object();
    const char *words;
    json_t *count;
    for (uint32_t i = 0; i < p->count; i++) {
        json_t *errors = json_object_get(p->runs[i], "errors");
        json_object_foreach(errors, words, count)
        {
            int64_t before = json_integer_value(json_object_get(sums, words));
            json_object_set_new(sums, words, json_integer(before + json_integer_value(count)));
        }
    }
    if (json_object_size(sums) > 0) fprintf(p->out, "## What clients were told\n\n| error | times |\n|---|---:|\n");
    json_object_foreach(sums, words, count)
        fprintf(p->out, "| `%s` | %lld |\n", words, (long long)json_integer_value(count));
    if (json_object_size(sums) > 0) fprintf(p->out, "\n");
    json_decref(sums);
}

static void write_pictures(const struct report *p)
{
    bool shown[RUNS_MAX] = {false};
    fprintf(p->out, "## The longest outages\n\n");
    for (uint32_t k = 0; k < PICTURES && k < p->count; k++) {
        uint32_t worst = RUNS_MAX;
        for (uint32_t i = 0; i < p->count; i++)
            if (!shown[i] && (worst == RUNS_MAX || gap_s(p->runs[i]) > gap_s(p->runs[worst]))) worst = i;
        shown[worst] = true;
        fprintf(p->out, "![%s](%s/timeline.svg)\n\n", p->names[worst], p->names[worst]);
    }
}

int report_write(const char *dir)
{
    char path[NODES_PATH_BYTES + 32];
    int64_t ok = 0;
    uint32_t passed = 0;
    size_t faults = 0;
    struct report *p = calloc(1, sizeof *p);
    if (p == NULL) return 1;
    p->dir = dir;
    snprintf(path, sizeof path, "%s/REPORT.md", dir);
    bool good = load(p) && (p->out = fopen(path, "we")) != NULL;
    if (!good) {
        fprintf(stderr, "kvjepsen: %s: no results, or not to be written: %s\n", path, strerror(errno));
        goto end;
    }
    for (uint32_t i = 0; i < p->count; i++) {
        ok += number_of(p->runs[i], "ok");
        passed += has_passed(p->runs[i]);
        faults += json_array_size(json_object_get(p->runs[i], "faults"));
    }
    fprintf(p->out,
            "# Fault tests on real processes\n\n%u of %u runs passed; %lld operations succeeded under %zu faults. Each "
            "history was judged by the\n"
            "checkers of tools/check, each fault proved its effect, and every key was read again after healing.\n\n",
            passed, p->count, (long long)ok, faults);
    write_failures(p);
    write_matrix(p);
    write_pictures(p);
    write_rows(p);
    write_errors(p);
    good = !ferror(p->out);
end:
    if (p->out != NULL && fclose(p->out) != 0) good = false;
    for (uint32_t i = 0; i < p->count; i++) {
        json_decref(p->runs[i]);
        free(p->names[i]);
    }
    free(p);
    return good ? 0 : 1;
}

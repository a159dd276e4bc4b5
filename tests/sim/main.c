#include "client/base/text.h"
#include "tests/sim/runner.h"
#include "tests/sim/workload.h"
#include <sodium.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* kvsim: one seed, or a sweep over many. */
enum { JOBS_MAX = 64,
       EXIT_FAILED = 4,
       EXIT_USAGE = 2,
       MINIMIZE_RUNS = 2000 };

struct run {
    pid_t pid; /* 0: free */
    uint64_t seed;
    struct slot *slot;
};
struct totals {
    uint64_t seeds, ok, fail, info, events, sim_ns, undecided, recovery_max_ns, reads[4];
    uint64_t faults[SWARM_FAULT_COUNT], marks[SIM_MARK_COUNT], marked[SIM_MARK_COUNT];
    double start;
};
struct args {
    struct run_options run;
    uint64_t first, last;
    uint32_t jobs, trace;
    bool no_fork, minimize, verbose, keep_going;
};

static int usage(FILE *out)
{
    fputs("usage: kvsim --seed N | --seeds A..B [--jobs J] [options]\n"
          "  --seconds S     simulated seconds under faults (20)\n"
          "  --nodes N       1, 3 or 5 .. (drawn from the seed)\n"
          "  --workers N     of each node, up to 4 (drawn: one seed in three has 2 or 3)\n"
          "  --roles         no node need have all roles (else in some of the seeds)\n"
          "  --clients N     at most so many clients (8)\n"
          "  --faults A,B    only these kinds may happen; none: no faults\n"
          "  --skip-faults L leave out faults by their numbers, as in 3,5-9\n"
          "  --skip-ops L    leave out operations of clients likewise\n"
          "  --twice         run each seed twice and compare the hashes\n"
          "  --keep-going    a sweep goes on after failures and tells each in one line\n"
          "  --minimize      after a failure, look for fewer seconds, faults and operations that still fail\n"
          "  --trace N       events printed after a failure (60)\n"
          "  --log LEVELS    of the nodes' journals in the trace (info)\n"
          "  --history FILE  write the history (JSON lines); with --seed\n"
          "  --no-fork       in this process, for a debugger; with --seed\n"
          "  --verbose       the trace also if all is well\n"
          "fault kinds:\n",
          out);
#define X(name, text, help) fprintf(out, "  %-12s %s\n", text, help);
    SWARM_FAULTS(X)
#undef X
    fputs("exit: 0 all is well, 4 a seed failed, 2 usage\n", out);
    return EXIT_USAGE;
}

static bool faults_parse(const char *text, uint64_t *faults)
{
    *faults = 0;
    char copy[256];
    if (strlen(text) >= sizeof copy) return false;
    snprintf(copy, sizeof copy, "%s", text);
    if (strcmp(copy, "none") == 0) return true;
    char *rest = NULL;
    for (char *word = strtok_r(copy, ",", &rest); word != NULL; word = strtok_r(NULL, ",", &rest)) {
        enum swarm_fault f;
        if (!swarm_fault_find(word, &f)) return false;
        *faults |= (uint64_t)1 << f;
    }
    return true;
}

static bool number(const char *text, uint64_t *out)
{
    return text != NULL && kv_parse_u64(kv_str(text), out);
}

static bool range(const char *text, uint64_t *first, uint64_t *last)
{
    const char *dots = text == NULL ? NULL : strstr(text, "..");
    return dots != NULL && kv_parse_u64(kv_slice(text, (size_t)(dots - text)), first) && number(dots + 2, last) &&
           *first <= *last;
}

static bool args_parse(struct args *a, int argc, char **argv)
{
    *a = (struct args){.jobs = 1, .trace = 60, .run = {.seconds = 20}};
    a->run.swarm = (struct swarm_options){.faults = UINT64_MAX, .clients_max = 8};
    bool seeds = false;
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        uint64_t n = 0;
        bool good = true, takes = true;
        if (strcmp(name, "--seed") == 0) {
            good = number(value, &a->first);
            a->last = a->first;
            seeds = true;
        } else if (strcmp(name, "--seeds") == 0) {
            good = range(value, &a->first, &a->last);
            seeds = true;
        } else if (strcmp(name, "--jobs") == 0) {
            good = number(value, &n) && n >= 1 && n <= JOBS_MAX;
            a->jobs = (uint32_t)n;
        } else if (strcmp(name, "--seconds") == 0) {
            good = number(value, &a->run.seconds) && a->run.seconds >= 1 && a->run.seconds <= 86400;
        } else if (strcmp(name, "--nodes") == 0) {
            good = number(value, &n) && n >= 1 && n <= CLUSTER_NODES_MAX;
            a->run.swarm.nodes = (uint32_t)n;
        } else if (strcmp(name, "--workers") == 0) {
            good = number(value, &n) && n >= 1 && n <= CLUSTER_WORKERS_MAX;
            a->run.swarm.workers = (uint32_t)n;
        } else if (strcmp(name, "--clients") == 0) {
            good = number(value, &n) && n >= 1 && n <= WORKLOAD_CLIENTS_MAX;
            a->run.swarm.clients_max = (uint32_t)n;
        } else if (strcmp(name, "--faults") == 0) {
            good = value != NULL && faults_parse(value, &a->run.swarm.faults);
            a->run.only = value;
        } else if (strcmp(name, "--skip-faults") == 0) {
            good = value != NULL && skips_parse(value, a->run.skips.faults, SWARM_FAULTS_MAX);
        } else if (strcmp(name, "--skip-ops") == 0) {
            good = value != NULL && skips_parse(value, a->run.skips.ops, SWARM_OPS_MAX);
        } else if (strcmp(name, "--trace") == 0) {
            good = number(value, &n) && n <= SIM_TRACE_EVENTS;
            a->trace = (uint32_t)n;
        } else if (strcmp(name, "--log") == 0) {
            struct journal probe = {0};
            const char *why;
            good = value != NULL && journal_set(&probe, value, &why) == KV_OK;
            a->run.swarm.log_levels = value;
        } else if (strcmp(name, "--history") == 0) {
            good = value != NULL;
            a->run.swarm.history_path = value;
        } else {
            takes = false;
            if (strcmp(name, "--twice") == 0) a->run.twice = true;
            else if (strcmp(name, "--roles") == 0) a->run.swarm.roles = true;
            else if (strcmp(name, "--minimize") == 0) a->minimize = true;
            else if (strcmp(name, "--keep-going") == 0) a->keep_going = true;
            else if (strcmp(name, "--no-fork") == 0) a->no_fork = true;
            else if (strcmp(name, "--verbose") == 0) a->verbose = true;
            else good = false;
        }
        if (!good) {
            fprintf(stderr, "kvsim: %s %s: not understood\n", name, value == NULL ? "" : value);
            return false;
        }
        i += takes;
    }
    return seeds && (a->first == a->last || (!a->no_fork && a->run.swarm.history_path == NULL));
}

static void commit_print(FILE *out)
{
    char text[128] = "unknown";
    /* NOLINTNEXTLINE(cert-env33-c): a fixed text, for the reader of a failure */
    FILE *git = popen("git rev-parse --short HEAD 2>/dev/null && git diff --quiet HEAD 2>/dev/null || echo changed", "r");
    size_t size = git == NULL ? 0 : fread(text, 1, sizeof text - 1, git);
    if (size > 0) text[size - 1] = '\0';
    for (char *c = text; *c != '\0'; c++)
        if (*c == '\n') *c = '+';
    if (git != NULL) pclose(git);
    fprintf(out, "commit: %s\n", text);
}

static void failure_print(struct args *a, uint64_t seed, struct slot *slot)
{
    if (a->minimize && !a->no_fork) {
        printf("seed %llu failed: %.200s\nminimizing ..\n", (unsigned long long)seed, run_why(slot));
        minimize(&a->run, seed, slot, MINIMIZE_RUNS);
    }
    printf("last events:\n");
    swarm_trace_print(&slot->trace, a->trace, stdout);
    printf("seed %llu failed", (unsigned long long)seed);
    if (WIFSIGNALED(slot->status)) printf(" (signal %d)", WTERMSIG(slot->status));
    printf(": %s\n", run_why(slot));
    commit_print(stdout);
    replay_print(&a->run, seed, stdout);
}

static void totals_add(struct totals *t, const struct swarm_result *r)
{
    t->seeds++;
    t->ok += r->ok;
    t->fail += r->fail;
    t->info += r->info;
    t->events += r->events;
    t->sim_ns += r->sim_ns;
    t->undecided += r->undecided;
    for (int i = 0; i < 4; i++) t->reads[i] += r->reads[i];
    if (r->recovery_ns > t->recovery_max_ns) t->recovery_max_ns = r->recovery_ns;
    for (uint32_t f = 0; f < SWARM_FAULT_COUNT; f++) t->faults[f] += r->faults[f];
    for (uint32_t m = 0; m < SIM_MARK_COUNT; m++) {
        t->marks[m] += r->marks[m];
        t->marked[m] += r->marks[m] > 0;
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void totals_print(const struct totals *t)
{
    printf("%llu seeds passed: %llu simulated s, %llu events; operations: %llu ok, %llu fail, %llu info; "
           "histories undecided: %llu; slowest recovery %.1f s\n",
           (unsigned long long)t->seeds, (unsigned long long)(t->sim_ns / 1000000000), (unsigned long long)t->events,
           (unsigned long long)t->ok, (unsigned long long)t->fail, (unsigned long long)t->info,
           (unsigned long long)t->undecided, (double)t->recovery_max_ns / 1e9);
    printf("reads: %llu linearizable, %llu lease, %llu bounded, %llu any\n", (unsigned long long)t->reads[0], (unsigned long long)t->reads[1],
           (unsigned long long)t->reads[2], (unsigned long long)t->reads[3]);
    printf("faults:\n");
    for (uint32_t f = 0; f < SWARM_FAULT_COUNT; f++)
        printf("  %-12s %8llu%s", swarm_fault_text((enum swarm_fault)f), (unsigned long long)t->faults[f],
               f % 4 == 3 || f + 1 == SWARM_FAULT_COUNT ? "\n" : "");
    printf("marks (how often, in how many seeds):\n");
    for (uint32_t m = 0; m < SIM_MARK_COUNT; m++)
        printf("  %-20s %9llu %6llu%s", sim_mark_text((enum sim_mark)m), (unsigned long long)t->marks[m],
               (unsigned long long)t->marked[m], m % 3 == 2 || m + 1 == SIM_MARK_COUNT ? "\n" : "");
    double seconds = now() - t->start;
    printf("%.0f seeds a minute, %.0f simulated seconds a second\n", (double)t->seeds * 60 / seconds,
           (double)t->sim_ns / 1e9 / seconds);
}

static int one(struct args *a, struct slot *slot)
{
    struct totals t = {.start = now()};
    if (a->no_fork) {
        run_here(&a->run, a->first, slot);
    } else {
        int status = 0;
        pid_t pid = run_start(&a->run, a->first, slot);
        if (pid < 0 || waitpid(pid, &status, 0) != pid) {
            perror("kvsim");
            return 1;
        }
        run_ended(slot, status);
    }
    if (run_failed(slot)) {
        failure_print(a, a->first, slot);
        return EXIT_FAILED;
    }
    if (a->verbose) swarm_trace_print(&slot->trace, a->trace, stdout);
    totals_add(&t, &slot->result);
    printf("seed %llu: %u nodes of %u workers\n", (unsigned long long)a->first, slot->result.nodes, slot->result.workers);
    totals_print(&t);
    printf("hash: %016llx\n", (unsigned long long)slot->result.hash);
    return 0;
}

static bool run_done(struct args *a, struct run *r, int status, struct totals *totals)
{
    r->pid = 0;
    run_ended(r->slot, status);
    if (!run_failed(r->slot)) {
        totals_add(totals, &r->slot->result);
        if (isatty(STDERR_FILENO) || totals->seeds % 50 == 0)
            fprintf(stderr, "%llu of %llu seeds\n", (unsigned long long)totals->seeds,
                    (unsigned long long)(a->last - a->first + 1));
        return true;
    }
    if (a->keep_going) printf("seed %llu failed: %.200s\n", (unsigned long long)r->seed, run_why(r->slot));
    else failure_print(a, r->seed, r->slot);
    fflush(stdout);
    return false;
}

static int sweep(struct args *a, struct slot *slots)
{
    struct run runs[JOBS_MAX] = {{0}};
    struct totals totals = {.start = now()};
    uint64_t next = a->first;
    uint32_t running = 0;
    bool failed = false;
    while (running > 0 || ((!failed || a->keep_going) && next <= a->last)) {
        for (uint32_t i = 0; i < a->jobs && (!failed || a->keep_going) && next <= a->last; i++) {
            struct run *r = &runs[i];
            if (r->pid != 0) continue;
            r->seed = next++;
            r->slot = &slots[i];
            r->pid = run_start(&a->run, r->seed, r->slot);
            if (r->pid < 0) {
                perror("kvsim");
                return 1;
            }
            running++;
        }
        int status = 0;
        pid_t pid = wait(&status);
        for (uint32_t i = 0; i < a->jobs; i++) {
            if (runs[i].pid == 0 || runs[i].pid != pid) continue;
            running--;
            if (failed && !a->keep_going) runs[i].pid = 0; /* one story is enough */
            else failed = !run_done(a, &runs[i], status, &totals) || failed;
        }
    }
    if (!failed || a->keep_going) totals_print(&totals);
    return failed ? EXIT_FAILED : 0;
}

int main(int argc, char **argv)
{
    struct args a;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        usage(stdout);
        return 0;
    }
    if (!args_parse(&a, argc, argv)) return usage(stderr);
    if (sodium_init() < 0) return 1;
    struct slot *slots = slots_make(a.jobs);
    if (slots == NULL) {
        perror("kvsim");
        return 1;
    }
    return a.first == a.last ? one(&a, slots) : sweep(&a, slots);
}

#include "client/base/text.h"
#include "jepsen/ownership.h"
#include "jepsen/report.h"
#include "jepsen/run.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

/* kvjepsen: one run, inside a namespace that jepsen/run has made for it; as its first process, so
 * that whatever is left of the run ends with it. */
enum { WORKERS = 12,
       READY_S = 30,
       IDLE_S = 10,
       FINAL_S = 30,
       ERRANDS_S = 30,
       STOP_S = 20 };

void run_fail(struct run *r, const char *format, ...)
{
    va_list list;
    if (r->failure_count == RUN_FAILURES_MAX) return;
    va_start(list, format);
    vsnprintf(r->failures[r->failure_count++], RUN_TEXT_BYTES, format, list);
    va_end(list);
}

/* ---- the loop ---- */

struct alarm {
    struct env_timer timer;
    bool rang;
};

static void alarm_fire(struct env_timer *t)
{
    container_of(t, struct alarm, timer)->rang = true;
}

bool run_until(struct run *r, bool (*done)(struct run *r), uint64_t timeout_ns)
{
    struct alarm alarm = {.timer.fire = alarm_fire};
    r->env->ops->timer_start(r->env, &alarm.timer, timeout_ns);
    while (!done(r) && !alarm.rang && !r->interrupted) env_uv_run_once(r->uv);
    r->env->ops->timer_stop(r->env, &alarm.timer);
    return done(r);
}

bool run_never(struct run *r)
{
    (void)r;
    return false;
}

static void on_child(void *context, int signum)
{
    (void)signum;
    nodes_reaped(&((struct run *)context)->nodes);
}

static void on_interrupt(void *context, int signum)
{
    (void)signum;
    ((struct run *)context)->interrupted = true;
}

/* ---- programs ---- */

static void child_become(const char *const argv[], int in, int out)
{
    if (in < 0) in = open("/dev/null", O_RDONLY);
    if (in < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) _exit(126);
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

static void output_take(int from, char *out, size_t size)
{
    char rest[512];
    size_t used = 0;
    for (;;) {
        bool full = used + 1 >= size;
        ssize_t got = read(from, full ? rest : out + used, full ? sizeof rest : size - 1 - used);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        if (!full) used += (size_t)got;
    }
    if (size > 0) out[used] = '\0';
}

bool run_program(const char *const argv[], const char *input, char *out, size_t size)
{
    int in[2] = {-1, -1}, back[2] = {-1, -1}, status = -1;
    if (size > 0) snprintf(out, size, "%s: cannot be started", argv[0]);
    if (pipe2(back, O_CLOEXEC) != 0) return false;
    if (input != NULL && pipe2(in, O_CLOEXEC) != 0) goto close;
    pid_t pid = fork();
    if (pid == 0) child_become(argv, in[0], back[1]);
    close(back[1]);
    back[1] = -1;
    if (pid < 0) goto close;
    if (input != NULL) {
        /* At most a few KiB, which a pipe takes at once. */
        if (write(in[1], input, strlen(input)) < 0) status = -1;
        close(in[1]);
        in[1] = -1;
    }
    output_take(back[0], out, size);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
close:
    for (int i = 0; i < 2; i++) {
        if (in[i] >= 0) close(in[i]);
        if (back[i] >= 0) close(back[i]);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- the phases of a run ---- */

static bool ready_or_failed(struct run *r)
{
    return nodes_are_ready(r) || r->failure_count > 0;
}

static bool cluster_up(struct run *r)
{
    r->nodes.run = r;
    r->nodes.wants_disk_shim = r->options.nemesis->wants_disk_shim;
    r->nodes.wants_faketime = r->options.nemesis->moves_clocks;
    r->nodes.wants_tmpfs = r->options.nemesis->wants_tmpfs;
    if (!nodes_create(&r->nodes, r->options.nodes)) return false;
    for (uint32_t i = 0; i < r->nodes.count; i++)
        if (!node_start(&r->nodes, &r->nodes.node[i], true)) return false;
    nodes_ask_ready(&r->nodes);
    run_until(r, ready_or_failed, KV_SECONDS(READY_S));
    if (nodes_are_ready(r)) return true;
    run_fail(r, "the cluster does not serve %d s after its start", READY_S);
    return false;
}

static void work_under_faults(struct run *r)
{
    plan_init(&r->plan, r->options.workload, r->env, r->options.seed);
    if (!workers_open(r)) {
        run_fail(r, "out of memory");
        return;
    }
    r->start_ns = r->recorder.start_ns = env_now_ns(r->env);
    workers_begin(r);
    if (!ballast_open(&r->ballast, r)) run_fail(r, "no client for the ballast: out of memory");
    nemesis_begin(&r->nemesis);
    run_until(r, run_never, KV_SECONDS(r->options.seconds));
    if (r->options.sabotage.node && r->nodes.node[0].pid != 0) kill(r->nodes.node[0].pid, SIGSEGV);
    nemesis_end(&r->nemesis);
    r->heal_ns = run_now_ns(r);
    workers_stop(r);
    ballast_stop(&r->ballast);
    if (!run_until(r, workers_idle, KV_SECONDS(IDLE_S)))
        run_fail(r, "an operation has no end %d s after its deadline", IDLE_S);
}

/* The faults are over: from here on everything must work, within a bound. */
static void final_reads(struct run *r)
{
    nodes_ask_ready(&r->nodes);
    if (!run_until(r, nodes_are_ready, KV_SECONDS(READY_S))) {
        run_fail(r, "not every node serves every group %d s after healing", READY_S);
        return;
    }
    if (!run_until(r, errands_are_done, KV_SECONDS(ERRANDS_S))) {
        errands_tell(r);
        return;
    }
    r->finals = calloc(plan_keys(&r->plan) + 1u, sizeof *r->finals);
    if (r->finals == NULL) return;
    workers_read_final(r);
    if (run_until(r, workers_have_read, KV_SECONDS(FINAL_S))) ownership_judge(r);
    else if (!r->interrupted) run_fail(r, "not every key can be read %d s after healing", FINAL_S);
}

static void cluster_down(struct run *r)
{
    for (uint32_t i = 0; i < r->nodes.count; i++) node_terminate(&r->nodes, &r->nodes.node[i]);
    if (!run_until(r, nodes_are_down, KV_SECONDS(STOP_S)) && !r->interrupted)
        run_fail(r, "nodes run on %d s after SIGTERM", STOP_S);
    nodes_end(&r->nodes);
}

/* What the nodes leave on their disks must be whole, whatever has happened to it. */
static void disks_verify(struct run *r)
{
    char program[NODES_PATH_BYTES + 8], data[NODES_PATH_BYTES + 8], out[4096];
    snprintf(program, sizeof program, "%s/kvlog", r->options.build);
    for (uint32_t i = 0; i < r->nodes.count; i++) {
        snprintf(data, sizeof data, "%s/data", r->nodes.node[i].dir);
        if (!run_program((const char *const[]){program, "verify", data, NULL}, NULL, out, sizeof out))
            run_fail(r, "node %u, kvlog verify: %.240s", i + 1, out);
    }
}

static bool directory_make(const char *dir)
{
    char out[256];
    if (!run_program((const char *const[]){"rm", "-rf", "--", dir, NULL}, NULL, out, sizeof out)) return false;
    return run_program((const char *const[]){"mkdir", "-p", "--", dir, NULL}, NULL, out, sizeof out);
}

static int run_all(struct run *r)
{
    char path[NODES_PATH_BYTES + 32];
    /* Ours lists the processes of the namespace around us. Where it may not be mounted only leak
     * checkers, which look for themselves in it, miss it. */
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
        setenv("ASAN_OPTIONS", "detect_leaks=0", 0);
    snprintf(path, sizeof path, "%s/history.jsonl", r->options.dir);
    if (!directory_make(r->options.dir) || env_uv_create(&r->uv) != KV_OK) {
        fprintf(stderr, "kvjepsen: cannot make %s: %s\n", r->options.dir, strerror(errno));
        return 1;
    }
    r->env = env_uv_env(r->uv);
    if (!recorder_open(&r->recorder, path, r->env)) {
        fprintf(stderr, "kvjepsen: %s: %s\n", path, strerror(errno));
        return 1;
    }
    env_uv_signal(r->uv, SIGCHLD, on_child, r);
    env_uv_signal(r->uv, SIGINT, on_interrupt, r);
    env_uv_signal(r->uv, SIGTERM, on_interrupt, r);
    r->worker_count = WORKERS;
    r->workers = calloc(WORKERS, sizeof *r->workers);
    if (r->workers == NULL) return 1;
    if (nemesis_open(&r->nemesis, r) && cluster_up(r)) {
        work_under_faults(r);
        if (!r->interrupted) final_reads(r);
        r->end_ns = run_now_ns(r);
        nemesis_close(&r->nemesis);
        ballast_close(&r->ballast);
        workers_close(r);
        cluster_down(r);
        disks_verify(r);
    } else {
        nodes_end(&r->nodes);
    }
    if (!recorder_close(&r->recorder)) run_fail(r, "the history could not be written");
    if (r->interrupted) run_fail(r, "interrupted");
    env_uv_destroy(r->uv);
    free(r->workers);
    free(r->finals);
    return run_judge(r);
}

/* ---- the command line ---- */

static int usage(void)
{
    fputs("usage: kvjepsen --workload W --nemesis N [--doors resp|native|mixed] [--seed S] [--seconds T]\n"
          "                [--nodes N] [--sabotage cut|node|read|lost|stale]..  --dir D --build B   one run; call it through "
          "jepsen/run\n"
          "       kvjepsen --list workloads|nemeses\n"
          "       kvjepsen --report DIR                         DIR/REPORT.md from DIR/*/result.json\n",
          stderr);
    return 2;
}

static int list(const char *what)
{
    const struct workload *w;
    const struct nemesis_kind *k;
    if (strcmp(what, "workloads") == 0) {
        for (uint32_t i = 0; (w = workload_at(i)) != NULL; i++) printf("%s\t%s\n", w->name, w->help);
        return 0;
    }
    if (strcmp(what, "nemeses") != 0) return usage();
    for (uint32_t i = 0; (k = nemesis_at(i)) != NULL; i++) {
        const char *lack = k->lacks == NULL ? NULL : k->lacks();
        printf("%s\t%s%s%s\n", k->name, k->help, lack == NULL ? "" : "\tskipped: ", lack == NULL ? "" : lack);
    }
    return 0;
}

static bool option_set(struct run_options *o, const char *name, const char *value)
{
    uint64_t number = 0;
    bool is_number = kv_parse_u64(kv_str(value), &number);
    if (strcmp(name, "--workload") == 0) return (o->workload = workload_find(value)) != NULL;
    if (strcmp(name, "--nemesis") == 0) return (o->nemesis = nemesis_find(value)) != NULL;
    if (strcmp(name, "--doors") == 0) return doors_find(value, &o->doors);
    if (strcmp(name, "--dir") == 0) return strlen(o->dir = value) < NODES_PATH_BYTES - 32 && value[0] == '/';
    if (strcmp(name, "--build") == 0) return strlen(o->build = value) < NODES_PATH_BYTES && value[0] == '/';
    if (strcmp(name, "--sabotage") == 0) {
        bool *which = strcmp(value, "cut") == 0     ? &o->sabotage.cut
                      : strcmp(value, "node") == 0  ? &o->sabotage.node
                      : strcmp(value, "read") == 0  ? &o->sabotage.read
                      : strcmp(value, "lost") == 0  ? &o->sabotage.lost
                      : strcmp(value, "stale") == 0 ? &o->sabotage.stale
                                                    : NULL;
        if (which != NULL) *which = true;
        return which != NULL;
    }
    if (strcmp(name, "--seed") == 0) {
        o->seed = number;
        return is_number;
    }
    if (strcmp(name, "--seconds") == 0) {
        o->seconds = (uint32_t)number;
        return is_number && number >= 2 && number <= 3600;
    }
    if (strcmp(name, "--nodes") == 0) {
        o->nodes = (uint32_t)number;
        return is_number && number >= 3 && number <= NODES_MAX;
    }
    return false;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--list") == 0) return list(argv[2]);
    if (argc == 3 && strcmp(argv[1], "--report") == 0 && strlen(argv[2]) < NODES_PATH_BYTES)
        return report_write(argv[2]);
    struct run *r = calloc(1, sizeof *r);
    if (r == NULL) return 1;
    r->options = (struct run_options){.seed = 1, .seconds = 20, .nodes = 5, .doors = DOORS_MIXED};
    int code = 2;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && option_set(&r->options, argv[i], argv[i + 1])) continue;
        fprintf(stderr, "kvjepsen: %s %s: unknown or out of range\n", argv[i],
                i + 1 < argc ? argv[i + 1] : "(nothing)");
        goto out;
    }
    const struct run_options *o = &r->options;
    if (o->workload == NULL || o->nemesis == NULL || o->dir == NULL || o->build == NULL) {
        usage();
        goto out;
    }
    if (o->nodes < o->nemesis->nodes_min) {
        fprintf(stderr, "kvjepsen: nemesis %s needs %u nodes, so that a replica has somewhere to go\n", o->nemesis->name, o->nemesis->nodes_min);
        goto out;
    }
    const char *lack = o->nemesis->lacks == NULL ? NULL : o->nemesis->lacks();
    if (getpid() != 1) {
        fprintf(stderr, "kvjepsen: must be the first process of a namespace of its own, see jepsen/run\n");
    } else if (lack != NULL) {
        fprintf(stderr, "kvjepsen: nemesis %s: %s\n", o->nemesis->name, lack);
    } else {
        code = run_all(r);
    }
out:
    free(r);
    return code;
}

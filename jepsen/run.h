#ifndef JEPSEN_RUN_H
#define JEPSEN_RUN_H
#include "client/env/env_uv.h"
#include "jepsen/ballast.h"
#include "jepsen/nemesis.h"
#include "jepsen/nodes.h"
#include "jepsen/recorder.h"
#include "jepsen/worker.h"
#include "jepsen/workload.h"

/* One run: a cluster of real processes, clients that record what they see, and a nemesis; then
 * healing, final reads and a verdict. Everything hangs from this struct.
 *
 * A run passes if its history is valid AND nothing else went wrong: every fault showed its effect,
 * no node ended by itself, all came back, every key could be read in the end, all stopped in time
 * with whole disks. */
enum { RUN_FAILURES_MAX = 8,
       RUN_TEXT_BYTES = 320 };

/* The harness tests itself: with these a run must be reported as failed. */
struct sabotage {
    bool cut;   /* cuts drop nothing */
    bool node;  /* a node crashes that nobody told to */
    bool read;  /* one read is recorded with a value that nobody wrote */
    bool lost;  /* a key is deleted behind everybody's back, between the final reads and the scan */
    bool stale; /* reads of level bounded see every key as it was before anybody wrote it */
};

struct run_options {
    const struct workload *workload;
    const struct nemesis_kind *nemesis;
    enum doors doors;
    uint64_t seed;
    uint32_t seconds; /* of the phase with faults */
    uint32_t nodes;
    const char *dir;   /* emptied at the start */
    const char *build; /* where kvd and kvctl are */
    struct sabotage sabotage;
};

struct run {
    struct run_options options;
    struct env_uv *uv;
    struct env *env;
    uint64_t start_ns; /* of the workload; times in the history count from here */
    struct recorder recorder;
    struct nodes nodes;
    struct plan plan;
    struct worker *workers;
    uint32_t worker_count;
    bool workers_run;
    int64_t process_next;
    struct expiry *expiries;
    struct ballast ballast;
    struct nemesis nemesis;
    bool interrupted;
    enum final { FINAL_UNREAD,
                 FINAL_ABSENT,
                 FINAL_THERE } *
        finals;                                      /* of each key of the plan, what the final reads found */
    uint64_t heal_ns, end_ns;                        /* since start: faults over, final reads done */
    char failures[RUN_FAILURES_MAX][RUN_TEXT_BYTES]; /* all but the history's */
    uint32_t failure_count;
};

/* Notes why the run has failed and goes on: what follows may tell more. */
void run_fail(struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline uint64_t run_now_ns(const struct run *r)
{
    return env_now_ns(r->env) - r->start_ns;
}
/* Turns the loop until done() or the time is over; false: the time was over. */
bool run_until(struct run *r, bool (*done)(struct run *r), uint64_t timeout_ns);
bool run_never(struct run *r); /* for run_until(): only time passes */
/* Starts a program and waits for its end; its stdin is `input` (may be NULL), its output goes to
 * `out` (cut at size - 1, NUL-ended). Blocks the loop for the milliseconds it takes. True: exit 0. */
bool run_program(const char *const argv[], const char *input, char *out, size_t size);

/* verdict.c: judges DIR/history.jsonl, writes DIR/result.json, history.edn, timeline.svg and one
 * line to stdout. Returns the exit code: 0 passed, 4 violation, 7 undecided, 1 anything else. */
int run_judge(struct run *r);
#endif

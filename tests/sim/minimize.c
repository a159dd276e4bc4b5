#include "tests/sim/runner.h"
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input"),
 * over faults and over operations: leave out a half, a quarter .. down to one at a time, and
 * keep what fails in the same way. What is left out shifts everything behind it a little, so a
 * smaller story may exist that is not found; the one that is found fails. */
struct search {
    struct run_options *o;
    uint64_t seed;
    struct slot *slot;
    char kind[64]; /* of the failure: what its text begins with */
    uint32_t runs_left, kept, of;
};

static void kind_of(const struct slot *slot, char kind[64])
{
    snprintf(kind, 64, "%.*s", (int)strcspn(run_why(slot), ":0123456789"), run_why(slot));
}

static bool still_fails(struct search *s, const struct run_options *o)
{
    char kind[64];
    if (s->runs_left == 0) return false;
    s->runs_left--;
    pid_t pid = run_start(o, s->seed, s->slot);
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid) return false;
    run_ended(s->slot, status);
    if (!run_failed(s->slot)) return false;
    kind_of(s->slot, kind);
    return strcmp(kind, s->kind) == 0;
}

static bool bit(const uint64_t *bits, uint32_t i)
{
    return (bits[i / 64] >> i % 64 & 1) != 0;
}

/* Which of the two sets of a copy of the options. */
static uint64_t *bits_of(struct run_options *o, bool faults)
{
    return faults ? o->skips.faults : o->skips.ops;
}

static void leave_out(struct search *s, bool faults, uint32_t count)
{
    uint32_t most = faults ? SWARM_FAULTS_MAX : SWARM_OPS_MAX;
    if (count > most) count = most;
    for (uint32_t chunk = (count + 1) / 2; chunk > 0 && s->runs_left > 0; chunk = chunk == 1 ? 0 : (chunk + 1) / 2) {
        for (uint32_t at = 0; at < count && s->runs_left > 0; at += chunk) {
            struct run_options less = *s->o;
            uint32_t end = at + chunk < count ? at + chunk : count, added = 0;
            for (uint32_t i = at; i < end; i++) {
                if (bit(bits_of(&less, faults), i)) continue;
                bits_of(&less, faults)[i / 64] |= UINT64_C(1) << i % 64;
                added++;
            }
            if (added > 0 && still_fails(s, &less)) *s->o = less;
        }
        if (chunk == 1) break;
    }
    s->of = count;
    s->kept = 0;
    for (uint32_t i = 0; i < count; i++) s->kept += !bit(bits_of(s->o, faults), i);
}

void minimize(struct run_options *o, uint64_t seed, struct slot *slot, uint32_t runs_max)
{
    struct search s = {.o = o, .seed = seed, .slot = slot, .runs_left = runs_max};
    o->twice = false;
    kind_of(slot, s.kind);
    uint32_t faults = slot->result.fault_count, ops = slot->result.op_count;
    if (faults == 0) faults = SWARM_FAULTS_MAX / 4; /* it died before it could count them */
    if (ops == 0) ops = SWARM_OPS_MAX / 8;
    while (s.runs_left > 0 && o->seconds > 1) { /* fewer seconds first: every run after gets cheaper */
        struct run_options less = *o;
        less.seconds = o->seconds * 3 / 4;
        if (!still_fails(&s, &less)) break;
        *o = less;
    }
    s.runs_left = runs_max / 2;
    leave_out(&s, true, faults);
    printf("minimized: %u of %u faults", s.kept, s.of);
    s.runs_left = runs_max / 2;
    leave_out(&s, false, ops);
    printf(", %u of %u operations, %llu s under faults\n", s.kept, s.of, (unsigned long long)o->seconds);
    s.runs_left = 1;
    still_fails(&s, o); /* its trace */
}

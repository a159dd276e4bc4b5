#include "tests/sim/runner.h"
#include "client/base/text.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct slot *slots_make(uint32_t count)
{
    void *memory = mmap(NULL, count * sizeof(struct slot), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void run_here(const struct run_options *o, uint64_t seed, struct slot *slot)
{
    struct swarm_options s = o->swarm;
    s.seed = seed;
    s.safety_ns = KV_SECONDS(o->seconds);
    s.skips = &o->skips;
    s.trace = &slot->trace;
    slot->trace.count = 0;
    slot->result = (struct swarm_result){.done = false};
    swarm_run(&s, &slot->result);
    if (!o->twice || slot->result.failed) return;
    uint64_t hash = slot->result.hash;
    slot->trace.count = 0;
    swarm_run(&s, &slot->result);
    if (slot->result.hash == hash || slot->result.failed) return;
    slot->result.failed = true;
    snprintf(slot->result.why, sizeof slot->result.why, "two runs of one seed differ: hash %016llx, then %016llx",
             (unsigned long long)hash, (unsigned long long)slot->result.hash);
}

pid_t run_start(const struct run_options *o, uint64_t seed, struct slot *slot)
{
    slot->result = (struct swarm_result){.done = false};
    slot->last_words[0] = '\0';
    /* Assertions speak to stderr: the child's is a file that is read back. */
    if (slot->words <= 0) slot->words = memfd_create("kvsim", MFD_CLOEXEC);
    if (slot->words < 0 || ftruncate(slot->words, 0) != 0 || lseek(slot->words, 0, SEEK_SET) != 0) return -1;
    fflush(NULL);
    pid_t pid = fork();
    if (pid != 0) return pid;
    dup2(slot->words, STDERR_FILENO);
    run_here(o, seed, slot);
    _exit(0);
}

void run_ended(struct slot *slot, int status)
{
    char text[4096];
    slot->status = status;
    ssize_t size = pread(slot->words, text, sizeof text - 1, 0);
    if (size <= 0) return;
    text[size] = '\0';
    const char *line = strstr(text, ": Assertion"); /* "kvsim: file.c:12: name: Assertion ..", or a sanitizer's */
    while (line != NULL && line > text && line[-1] != '\n') line--;
    if (line == NULL) line = text;
    snprintf(slot->last_words, sizeof slot->last_words, "%.*s", (int)strcspn(line, "\n"), line);
}

bool run_failed(const struct slot *slot)
{
    return slot->result.failed || !slot->result.done || slot->status != 0;
}

const char *run_why(const struct slot *slot)
{
    if (slot->result.why[0] != '\0') return slot->result.why;
    return slot->last_words[0] != '\0' ? slot->last_words : "the simulator died without a word";
}

bool skips_parse(const char *text, uint64_t *bits, uint32_t bit_count)
{
    while (*text != '\0') {
        char *end;
        unsigned long first = strtoul(text, &end, 10), last = first;
        if (end == text) return false;
        if (*end == '-') {
            text = end + 1;
            last = strtoul(text, &end, 10);
            if (end == text) return false;
        }
        if (last < first || last >= bit_count) return false;
        for (unsigned long i = first; i <= last; i++) bits[i / 64] |= UINT64_C(1) << i % 64;
        if (*end == ',') end++;
        else if (*end != '\0') return false;
        text = end;
    }
    return true;
}

static void skips_print(const char *option, const uint64_t *bits, uint32_t bit_count, FILE *out)
{
    const char *before = option;
    for (uint32_t i = 0; i < bit_count; i++) {
        uint32_t last = i;
        while (last < bit_count && (bits[last / 64] >> last % 64 & 1) != 0) last++;
        if (last == i) continue;
        fprintf(out, last == i + 1 ? "%s%u" : "%s%u-%u", before, i, last - 1);
        before = ",";
        i = last;
    }
}

void replay_print(const struct run_options *o, uint64_t seed, FILE *out)
{
    const char *mutant = getenv("KVD_MUTANT");
    fprintf(out, "replay: %s%s%s --seed %llu --seconds %llu --clients %u", mutant == NULL ? "" : "KVD_MUTANT=",
            mutant == NULL ? "" : mutant, mutant == NULL ? "build/kvsim" : " build/mutants/kvsim",
            (unsigned long long)seed, (unsigned long long)o->seconds, o->swarm.clients_max);
    if (o->swarm.nodes != 0) fprintf(out, " --nodes %u", o->swarm.nodes);
    if (o->swarm.roles) fputs(" --roles", out);
    if (o->only != NULL) fprintf(out, " --faults %s", o->only);
    skips_print(" --skip-faults ", o->skips.faults, SWARM_FAULTS_MAX, out);
    skips_print(" --skip-ops ", o->skips.ops, SWARM_OPS_MAX, out);
    fputc('\n', out);
}

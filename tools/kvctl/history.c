#include <stdlib.h>
#include <time.h>

#include "client/base/text.h"
#include "tools/check/check.h"
#include "tools/kvctl/kvctl.h"

/* `history check FILE`: the checkers of tools/check/, with a deadline in seconds of this machine. */
enum { CHECK_SECONDS_DEFAULT = 60 };

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool deadline_passed(void *deadline_ns)
{
    return now_ns() >= *(const uint64_t *)deadline_ns;
}

/* A duration; a bare number counts seconds. */
static bool limit_parse(const char *text, uint64_t *ns)
{
    if (kv_parse_duration(text, ns)) return *ns > 0;
    return kv_parse_u64(kv_str(text), ns) && *ns > 0 && !__builtin_mul_overflow(*ns, UINT64_C(1000000000), ns);
}

static int verdict_exit(enum check_verdict v)
{
    switch (v) {
    case CHECK_VALID: return EXIT_OK;
    case CHECK_VIOLATION: return EXIT_CONDITION;
    case CHECK_UNDECIDED: return EXIT_TIMEOUT;
    case CHECK_MALFORMED:
    case CHECK_UNSUPPORTED:
        return EXIT_USAGE;
    }
    return EXIT_INTERNAL;
}

static int judge(struct kvctl *k, const struct history *h, const struct check_options *o, const char *path)
{
    struct check_result r;
    check_history(h, o, &r);
    if (k->format == FORMAT_JSON) check_print_json(h, &r, stdout);
    switch (r.verdict) {
    case CHECK_VALID:
    case CHECK_VIOLATION:
        if (k->format != FORMAT_JSON) check_print(h, &r, path, stdout);
        break;
    case CHECK_UNDECIDED:
        kvctl_say(k, "undecided: %s; next: a longer --limit, or a history with fewer operations at once on a key", r.why);
        break;
    case CHECK_MALFORMED: kvctl_say(k, "%s:%u: %s", path, r.line, r.why); break;
    case CHECK_UNSUPPORTED: kvctl_say(k, "%s:%u: unsupported: %s", path, r.line, r.why); break;
    }
    int code = verdict_exit(r.verdict);
    check_result_free(&r);
    return code;
}

int history_check_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)count;
    const char *model = args_get(a, "model"), *limit = args_get(a, "limit");
    uint64_t deadline_ns = (uint64_t)CHECK_SECONDS_DEFAULT * 1000000000u;
    struct check_options o = {.stop = deadline_passed, .stop_arg = &deadline_ns};
    if (model != NULL && !check_model_find(model, &o.model))
        return kvctl_usage(k, "--model %.40s: not register, counter, set or list", model);
    if (limit != NULL && !limit_parse(limit, &deadline_ns))
        return kvctl_usage(k, "--limit %.40s: not a duration, as 60s", limit);
    if (__builtin_add_overflow(deadline_ns, now_ns(), &deadline_ns)) deadline_ns = UINT64_MAX;
    char why[512];
    struct history *h = history_create();
    if (h == NULL) {
        kvctl_say(k, "out of memory");
        return EXIT_INTERNAL;
    }
    int code;
    switch (history_load(h, words[0], why, sizeof why)) {
    case KV_OK: code = judge(k, h, &o, words[0]); break;
    case KV_NO_SPACE:
        kvctl_say(k, "%s", why);
        code = EXIT_INTERNAL;
        break;
    default: code = kvctl_usage(k, "%s", why); break;
    }
    history_free(h);
    return code;
}

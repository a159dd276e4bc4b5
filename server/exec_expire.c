#include "server/exec_impl.h"

/* Deadlines. A relative time counts from the entry's stamp, never from when a client
 * sent it or a replica applies it (R14). */

static bool refuse_deadline(struct exec *x, const char *command)
{
    return exec_refuse(x, KV_BAD_ARGUMENT, "ERR invalid expire time in '%s' command", command);
}

/* For commands that set a value: only times above zero make sense there. */
bool exec_deadline(struct exec *x, const char *command, const struct exec_deadline *d,
                   uint64_t *out)
{
    int64_t ms;
    if (!exec_integer(x, d->text, &ms)) return false;
    if (ms <= 0 || __builtin_mul_overflow(ms, d->unit_ms, &ms)) return refuse_deadline(x, command);
    if (d->relative && __builtin_add_overflow(ms, (int64_t)x->clock_ms, &ms))
        return refuse_deadline(x, command);
    *out = (uint64_t)ms;
    return true;
}

enum { IF_NONE = 1, IF_SOME = 2, IF_LATER = 4, IF_EARLIER = 8 }; /* NX XX GT LT */

static bool conditions_parse(struct exec *x, const struct kv_slice *a, uint32_t n, unsigned *out)
{
    unsigned flags = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (exec_word(a[i], "NX"))
            flags |= IF_NONE;
        else if (exec_word(a[i], "XX"))
            flags |= IF_SOME;
        else if (exec_word(a[i], "GT"))
            flags |= IF_LATER;
        else if (exec_word(a[i], "LT"))
            flags |= IF_EARLIER;
        else {
            int size = a[i].size < 128 ? (int)a[i].size : 128;
            return exec_refuse(x, KV_BAD_ARGUMENT, "ERR Unsupported option %.*s", size,
                               (const char *)a[i].data);
        }
    }
    if ((flags & IF_NONE) != 0 && flags != IF_NONE)
        return exec_refuse(x, KV_BAD_ARGUMENT,
                           "ERR NX and XX, GT or LT options at the same time are not compatible");
    if ((flags & IF_LATER) != 0 && (flags & IF_EARLIER) != 0)
        return exec_refuse(x, KV_BAD_ARGUMENT,
                           "ERR GT and LT options at the same time are not compatible");
    *out = flags;
    return true;
}

/* A key without a deadline lives forever: nothing is later, everything earlier. */
static bool conditions_hold(unsigned flags, uint64_t old_ms, int64_t new_ms)
{
    bool has_old = old_ms != 0;
    if ((flags & IF_NONE) != 0 && has_old) return false;
    if ((flags & IF_SOME) != 0 && !has_old) return false;
    if ((flags & IF_LATER) != 0 && (!has_old || new_ms <= (int64_t)old_ms)) return false;
    if ((flags & IF_EARLIER) != 0 && has_old && new_ms >= (int64_t)old_ms) return false;
    return true;
}

struct expire_kind {
    const char *name;
    int64_t unit_ms;
    bool relative;
};

static void expire(struct exec *x, const struct kv_slice *a, uint32_t n, struct expire_kind kind)
{
    unsigned flags = 0;
    int64_t ms;
    struct exec_entry e;
    if (!conditions_parse(x, a + 2, n - 2, &flags) || !exec_integer(x, a[1], &ms)) return;
    if (__builtin_mul_overflow(ms, kind.unit_ms, &ms) ||
        (kind.relative && __builtin_add_overflow(ms, (int64_t)x->clock_ms, &ms))) {
        refuse_deadline(x, kind.name);
        return;
    }
    if (!exec_load(x, a[0], &e)) return;
    bool is_set = e.live && conditions_hold(flags, e.value.expire_ms, ms);
    if (is_set && ms <= (int64_t)x->clock_ms)
        is_set = exec_delete(x, &e.key);
    else if (is_set)
        is_set = exec_put(x, &e.key, e.value.payload, e.value.flags, (uint64_t)ms);
    resp_put_integer(x->reply, is_set);
}

void exec_expire(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    expire(x, a, n, (struct expire_kind){"expire", 1000, true});
}

void exec_pexpire(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    expire(x, a, n, (struct expire_kind){"pexpire", 1, true});
}

void exec_expireat(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    expire(x, a, n, (struct expire_kind){"expireat", 1000, false});
}

void exec_pexpireat(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    expire(x, a, n, (struct expire_kind){"pexpireat", 1, false});
}

void exec_persist(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct exec_entry e;
    if (!exec_load(x, a[0], &e)) return;
    bool had = e.live && e.value.expire_ms != 0;
    if (had && !exec_put(x, &e.key, e.value.payload, e.value.flags, 0)) return;
    resp_put_integer(x->reply, had);
}

/* -2: no key, -1: no deadline, else the deadline itself or the time left. */
static void time_left(struct exec *x, struct kv_slice key, bool in_seconds, bool is_absolute)
{
    struct exec_entry e;
    if (!exec_load(x, key, &e)) return;
    if (!e.live || e.value.expire_ms == 0) {
        resp_put_integer(x->reply, e.live ? -1 : -2);
        return;
    }
    int64_t ms = (int64_t)e.value.expire_ms;
    if (!is_absolute) ms -= (int64_t)exec_now(x);
    if (ms < 0) ms = 0; /* past by the wall clock, not yet by the group's */
    resp_put_integer(x->reply, in_seconds ? (int64_t)(((uint64_t)ms + 500) / 1000) : ms);
}

void exec_ttl(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    time_left(x, a[0], true, false);
}

void exec_pttl(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    time_left(x, a[0], false, false);
}

void exec_expiretime(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    time_left(x, a[0], true, true);
}

void exec_pexpiretime(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    time_left(x, a[0], false, true);
}

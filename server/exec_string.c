#include "server/exec_impl.h"

/* Commands on whole strings and ranges of them. */

enum { /* the options of SET and GETEX */
       OPTION_NX = 1,
       OPTION_XX = 2,
       OPTION_GET = 4,
       OPTION_KEEPTTL = 8,
       OPTION_PERSIST = 16,
       OPTION_EX = 32,
       OPTION_PX = 64,
       OPTION_EXAT = 128,
       OPTION_PXAT = 256,
       OPTIONS_DEADLINE = OPTION_EX | OPTION_PX | OPTION_EXAT | OPTION_PXAT
};
struct options {
    unsigned flags;
    struct exec_deadline deadline; /* legal if a deadline option is set */
};

/* One of EX, PX, EXAT, PXAT with its number. As in Redis the same one may be given twice. */
static bool option_deadline(struct options *o, struct kv_slice word, const struct kv_slice *next)
{
    static const struct {
        const char *name;
        unsigned flag;
        int64_t unit_ms;
        bool relative;
    } kinds[] = {{"EX", OPTION_EX, 1000, true},
                 {"PX", OPTION_PX, 1, true},
                 {"EXAT", OPTION_EXAT, 1000, false},
                 {"PXAT", OPTION_PXAT, 1, false}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (!exec_word(word, kinds[i].name)) continue;
        unsigned others = (OPTIONS_DEADLINE | OPTION_KEEPTTL | OPTION_PERSIST) & ~kinds[i].flag;
        if (next == NULL || (o->flags & others) != 0) return false;
        o->flags |= kinds[i].flag;
        o->deadline = (struct exec_deadline){*next, kinds[i].unit_ms, kinds[i].relative};
        return true;
    }
    return false;
}

static bool options_parse(struct exec *x, const struct kv_slice *a, uint32_t n, bool is_set,
                          struct options *o)
{
    *o = (struct options){0};
    for (uint32_t i = 0; i < n; i++) {
        const struct kv_slice *next = i + 1 < n ? &a[i + 1] : NULL;
        if (is_set && exec_word(a[i], "NX") && !(o->flags & OPTION_XX))
            o->flags |= OPTION_NX;
        else if (is_set && exec_word(a[i], "XX") && !(o->flags & OPTION_NX))
            o->flags |= OPTION_XX;
        else if (is_set && exec_word(a[i], "GET"))
            o->flags |= OPTION_GET;
        else if (is_set && exec_word(a[i], "KEEPTTL") && !(o->flags & OPTIONS_DEADLINE))
            o->flags |= OPTION_KEEPTTL;
        else if (!is_set && exec_word(a[i], "PERSIST") && !(o->flags & OPTIONS_DEADLINE))
            o->flags |= OPTION_PERSIST;
        else if (option_deadline(o, a[i], next))
            i++;
        else
            return exec_refuse_syntax(x);
    }
    return true;
}

static bool value_fits(struct exec *x, struct kv_slice value)
{
    return value.size <= x->value_bytes_max || exec_refuse_size(x);
}

void exec_get(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct exec_entry e;
    if (exec_load(x, a[0], &e)) exec_reply_value(x, &e);
}

/* SET without options reads nothing: most writes take this path. */
static void set_plain(struct exec *x, struct kv_slice key, struct kv_slice value,
                      uint64_t expire_ms)
{
    struct kv_key encoded;
    if (exec_key(x, key, &encoded) && exec_put(x, &encoded, value, 0, expire_ms)) exec_reply_ok(x);
}

void exec_set(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    struct options o = {0};
    uint64_t expire_ms = 0;
    if (n > 2 && !options_parse(x, a + 2, n - 2, true, &o)) return;
    if ((o.flags & OPTIONS_DEADLINE) != 0 && !exec_deadline(x, "set", &o.deadline, &expire_ms))
        return;
    if (!value_fits(x, a[1])) return;
    if ((o.flags & ~(unsigned)OPTIONS_DEADLINE) == 0) {
        set_plain(x, a[0], a[1], expire_ms);
        return;
    }
    struct exec_entry e;
    if (!exec_load(x, a[0], &e)) return;
    bool is_refused = e.live ? (o.flags & OPTION_NX) != 0 : (o.flags & OPTION_XX) != 0;
    if ((o.flags & OPTION_GET) != 0)
        exec_reply_value(x, &e);
    else if (is_refused)
        resp_put_null(x->reply);
    else
        exec_reply_ok(x);
    if (is_refused) return;
    if ((o.flags & OPTION_KEEPTTL) != 0) expire_ms = exec_expire_of(&e);
    exec_put(x, &e.key, a[1], 0, expire_ms);
}

void exec_setnx(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct exec_entry e;
    if (!value_fits(x, a[1])) return;
    if (!exec_load(x, a[0], &e)) return;
    if (!e.live && !exec_put(x, &e.key, a[1], 0, 0)) return;
    resp_put_integer(x->reply, !e.live);
}

void exec_setex(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    uint64_t expire_ms;
    if (!exec_deadline(x, "setex", &(struct exec_deadline){a[1], 1000, true}, &expire_ms)) return;
    set_plain(x, a[0], a[2], expire_ms);
}

void exec_psetex(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    uint64_t expire_ms;
    if (!exec_deadline(x, "psetex", &(struct exec_deadline){a[1], 1, true}, &expire_ms)) return;
    set_plain(x, a[0], a[2], expire_ms);
}

void exec_getset(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct exec_entry e;
    if (!value_fits(x, a[1])) return;
    if (!exec_load(x, a[0], &e)) return;
    exec_reply_value(x, &e);
    exec_put(x, &e.key, a[1], 0, 0);
}

void exec_getdel(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct exec_entry e;
    if (!exec_load(x, a[0], &e)) return;
    exec_reply_value(x, &e);
    if (e.stored) exec_delete(x, &e.key);
}

void exec_getex(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    struct options o;
    struct exec_entry e;
    uint64_t expire_ms = 0;
    if (!options_parse(x, a + 1, n - 1, false, &o)) return;
    if (!exec_load(x, a[0], &e)) return;
    bool has_deadline = (o.flags & OPTIONS_DEADLINE) != 0;
    /* Redis looks the number at only when the key is there. */
    if (e.live && has_deadline && !exec_deadline(x, "getex", &o.deadline, &expire_ms)) return;
    exec_reply_value(x, &e);
    if (!e.live) return;
    if (has_deadline && !o.deadline.relative && expire_ms <= x->clock_ms)
        exec_delete(x, &e.key);
    else if (has_deadline || ((o.flags & OPTION_PERSIST) != 0 && e.value.expire_ms != 0))
        exec_put(x, &e.key, e.value.payload, e.value.flags, expire_ms);
}

void exec_mget(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    resp_put_array(x->reply, n);
    for (uint32_t i = 0; i < n; i++) {
        struct exec_entry e;
        if (!exec_load(x, a[i], &e)) return;
        exec_reply_value(x, &e);
    }
}

static bool mset_check(struct exec *x, const char *name, const struct kv_slice *a, uint32_t n)
{
    if (n % 2 != 0)
        return exec_refuse(x, KV_BAD_ARGUMENT, "ERR wrong number of arguments for '%s' command",
                           name);
    for (uint32_t i = 0; i < n; i += 2) {
        struct kv_key key;
        if (!exec_key(x, a[i], &key)) return false;
        if (!value_fits(x, a[i + 1])) return false;
    }
    return true;
}

static bool mset_put(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += 2) {
        struct kv_key key;
        if (!exec_key(x, a[i], &key) || !exec_put(x, &key, a[i + 1], 0, 0)) return false;
    }
    return true;
}

void exec_mset(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    if (!mset_check(x, "mset", a, n) || x->probing) return;
    if (mset_put(x, a, n)) exec_reply_ok(x);
}

void exec_msetnx(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    if (!mset_check(x, "msetnx", a, n) || x->probing) return;
    for (uint32_t i = 0; i < n; i += 2) {
        struct exec_entry e;
        if (!exec_load(x, a[i], &e)) return;
        if (e.live) {
            resp_put_integer(x->reply, 0);
            return;
        }
    }
    if (mset_put(x, a, n)) resp_put_integer(x->reply, 1);
}

/* A row of `size` bytes that begins as the old value; what is behind it is zero. */
static uint8_t *put_grown(struct exec *x, const struct exec_entry *e, size_t size)
{
    uint8_t *payload = exec_put_begin(x, &e->key, size);
    if (payload == NULL) return NULL;
    size_t old = e->live ? e->value.payload.size : 0;
    if (old > 0) memcpy(payload, e->value.payload.data, old);
    memset(payload + old, 0, size - old);
    return payload;
}

void exec_append(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct exec_entry e;
    if (!value_fits(x, a[1])) return;
    if (!exec_load(x, a[0], &e)) return;
    size_t old = e.live ? e.value.payload.size : 0;
    uint8_t *payload = put_grown(x, &e, old + a[1].size);
    if (payload == NULL) return;
    if (a[1].size > 0) memcpy(payload + old, a[1].data, a[1].size);
    exec_put_end(x, &e.key, e.live ? VALUE_FLAG_RAW : 0, exec_expire_of(&e));
    resp_put_integer(x->reply, (int64_t)(old + a[1].size));
}

void exec_strlen(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct exec_entry e;
    if (exec_load(x, a[0], &e))
        resp_put_integer(x->reply, e.live ? (int64_t)e.value.payload.size : 0);
}

void exec_getrange(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    int64_t start, end;
    struct exec_entry e;
    if (!exec_integer(x, a[1], &start) || !exec_integer(x, a[2], &end)) return;
    if (!exec_load(x, a[0], &e)) return;
    int64_t size = e.live ? (int64_t)e.value.payload.size : 0;
    bool is_empty = size == 0 || (start < 0 && end < 0 && start > end);
    if (start < 0) start = start < -size ? 0 : size + start;
    if (end < 0) end = end < -size ? 0 : size + end;
    if (end >= size) end = size - 1;
    if (is_empty || start > end)
        resp_put_bulk(x->reply, kv_slice(NULL, 0));
    else
        resp_put_bulk(x->reply, kv_slice(e.value.payload.data + start, (size_t)(end - start) + 1));
}

void exec_setrange(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    int64_t offset;
    struct exec_entry e;
    if (!exec_integer(x, a[1], &offset)) return;
    if (offset < 0) {
        exec_refuse(x, KV_BAD_ARGUMENT, "ERR offset is out of range");
        return;
    }
    if (!exec_load(x, a[0], &e)) return;
    size_t old = e.live ? e.value.payload.size : 0;
    size_t size = old;
    if (a[2].size > 0) {
        if ((uint64_t)offset > x->value_bytes_max || a[2].size > x->value_bytes_max) {
            exec_refuse_size(x);
            return;
        }
        if ((size_t)offset + a[2].size > size) size = (size_t)offset + a[2].size;
        uint8_t *payload = put_grown(x, &e, size);
        if (payload == NULL) return;
        memcpy(payload + offset, a[2].data, a[2].size);
        exec_put_end(x, &e.key, VALUE_FLAG_RAW, exec_expire_of(&e));
    }
    resp_put_integer(x->reply, (int64_t)size);
}

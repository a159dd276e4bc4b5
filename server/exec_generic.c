#include "client/base/hash.h"
#include "client/base/map.h"
#include "server/exec_impl.h"

/* Commands on keys as such: count, delete, rename, copy, look inside. */

void exec_exists(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    int64_t count = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct exec_entry e;
        if (!exec_load(x, a[i], &e)) return;
        count += e.live;
    }
    resp_put_integer(x->reply, count);
}

/* Whether a[i] stands among a[0..i) too. Few keys are compared one by one; many through a
 * map of hashes, where two different keys of one hash fall back to comparing. */
static bool seen_before(struct exec *x, struct kv_map *hashes, const struct kv_slice *a, uint32_t i)
{
    enum { FEW = 16 };
    if (i >= FEW) {
        for (uint32_t j = hashes->count == 0 ? 0 : i - 1; j < i; j++) {
            uint64_t hash = kv_hash64(a[j], 0);
            if (kv_map_get(hashes, hash) == NULL &&
                !kv_map_put(hashes, hash, (void *)(uintptr_t)&a[j])) {
                x->failed = KV_IO;
                return false;
            }
        }
        const struct kv_slice *same = kv_map_get(hashes, kv_hash64(a[i], 0));
        if (same == NULL) return false;
        if (kv_slice_eq(*same, a[i])) return true;
    }
    for (uint32_t j = 0; j < i; j++)
        if (kv_slice_eq(a[j], a[i])) return true;
    return false;
}

void exec_del(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    int64_t count = 0;
    struct kv_map hashes;
    kv_map_init(&hashes);
    for (uint32_t i = 0; i < n; i++) {
        struct exec_entry e;
        if (!exec_load(x, a[i], &e)) break;
        if (seen_before(x, &hashes, a, i) || !e.stored) continue;
        if (!exec_delete(x, &e.key)) break;
        count += e.live;
    }
    kv_map_free(&hashes);
    resp_put_integer(x->reply, count);
}

void exec_type(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct exec_entry e;
    if (exec_load(x, a[0], &e)) resp_put_status(x->reply, e.live ? "string" : "none");
}

/* Value and deadline move; the version of the new key is that of this entry. */
static void rename_key(struct exec *x, const struct kv_slice *a, bool is_new_only)
{
    struct exec_entry from, to;
    struct kv_key target; /* checked first: an over-long name must not get into the log */
    if (!exec_key(x, a[1], &target) || !exec_load(x, a[0], &from)) return;
    if (!from.live) {
        exec_refuse(x, KV_NOT_FOUND, "ERR no such key");
        return;
    }
    bool is_same = kv_slice_eq(a[0], a[1]);
    if (is_new_only) {
        if (!exec_load(x, a[1], &to)) return;
        resp_put_integer(x->reply, !to.live);
        if (to.live) return;
    } else {
        exec_reply_ok(x);
        if (is_same) return;
    }
    if (exec_delete(x, &from.key))
        exec_put(x, &target, from.value.payload, from.value.flags, from.value.expire_ms);
}

void exec_rename(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    rename_key(x, a, false);
}

void exec_renamenx(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    rename_key(x, a, true);
}

void exec_copy(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    bool is_replacing = false;
    for (uint32_t i = 2; i < n; i++) {
        int64_t database;
        if (exec_word(a[i], "REPLACE")) {
            is_replacing = true;
        } else if (exec_word(a[i], "DB") && i + 1 < n) {
            if (!exec_integer(x, a[++i], &database)) return;
            if (database < INT32_MIN || database > INT32_MAX) {
                exec_refuse(x, KV_BAD_ARGUMENT,
                            "ERR value is out of range, value must between %d and %d", INT32_MIN,
                            INT32_MAX);
                return;
            }
            if (database != 0) { /* there is one database, as in a Redis Cluster */
                exec_refuse(x, KV_BAD_ARGUMENT, "ERR DB index is out of range");
                return;
            }
        } else {
            exec_refuse_syntax(x);
            return;
        }
    }
    if (kv_slice_eq(a[0], a[1])) {
        exec_refuse(x, KV_BAD_ARGUMENT, "ERR source and destination objects are the same");
        return;
    }
    struct exec_entry from, to;
    struct kv_key target;
    if (!exec_key(x, a[1], &target) || !exec_load(x, a[0], &from) || !exec_load(x, a[1], &to))
        return;
    bool is_copied = from.live && (is_replacing || !to.live);
    if (is_copied &&
        !exec_put(x, &to.key, from.value.payload, from.value.flags, from.value.expire_ms))
        return;
    resp_put_integer(x->reply, is_copied);
}

/* What Redis would say of a value with this history (the flags) and these bytes. */
static const char *encoding(const struct value *v)
{
    enum { EMBEDDED_BYTES_MAX = 44 };
    int64_t number;
    if ((v->flags & VALUE_FLAG_RAW) != 0) return "raw";
    if ((v->flags & EXEC_FLAG_TEXT) == 0 && v->payload.size <= 20 &&
        kv_parse_i64(v->payload, &number))
        return "int";
    return v->payload.size <= EMBEDDED_BYTES_MAX ? "embstr" : "raw";
}

/* OBJECT HELP has no key and is answered by the gate. */
void exec_object(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    static const char *const known[] = {"ENCODING", "REFCOUNT", "IDLETIME", "FREQ", "HELP"};
    enum { ENCODING, REFCOUNT, IDLETIME, FREQ, HELP, KNOWN };
    static const char *const lower[] = {"encoding", "refcount", "idletime", "freq", "help"};
    unsigned which = 0;
    while (which < KNOWN && !exec_word(a[0], known[which]))
        which++;
    if (which == KNOWN) {
        int size = a[0].size < 128 ? (int)a[0].size : 128;
        exec_refuse(x, KV_BAD_ARGUMENT, "ERR unknown subcommand '%.*s'. Try OBJECT HELP.", size,
                    (const char *)a[0].data);
        return;
    }
    if (which == HELP ? n != 1 : n != 2) {
        exec_refuse(x, KV_BAD_ARGUMENT, "ERR wrong number of arguments for 'object|%s' command",
                    lower[which]);
        return;
    }
    struct exec_entry e;
    if (which == HELP || !exec_load(x, a[1], &e)) return;
    if (!e.live)
        resp_put_null(x->reply);
    else if (which == ENCODING)
        resp_put_bulk(x->reply, kv_str(encoding(&e.value)));
    else if (which == REFCOUNT)
        resp_put_integer(x->reply, 1); /* no two keys share a value */
    else if (which == FREQ)
        exec_refuse(x, KV_BAD_ARGUMENT,
                    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. "
                    "Please note that when switching between policies at runtime LRU and LFU data "
                    "will take some time to adjust.");
    else
        exec_refuse(x, KV_BAD_ARGUMENT, "ERR idle times are not tracked");
}

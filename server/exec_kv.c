#include "server/exec_impl.h"

/* kvd's own operations. They differ from Redis' in that they know versions and give an
 * error code beside the reply, so that a caller need not read error texts. */

/* "epoch:index" as receipts show it; "0:0" is the version of an absent key. */
static bool version_parse(struct exec *x, struct kv_slice text, struct kv_version *out)
{
    const uint8_t *colon = text.size == 0 ? NULL : memchr(text.data, ':', text.size);
    uint64_t epoch, index;
    if (colon != NULL && kv_parse_u64(kv_slice(text.data, (size_t)(colon - text.data)), &epoch) &&
        kv_parse_u64(kv_slice(colon + 1, text.size - (size_t)(colon + 1 - text.data)), &index) &&
        epoch <= UINT32_MAX) {
        *out = (struct kv_version){(uint32_t)epoch, index};
        return true;
    }
    return exec_refuse(x, KV_BAD_ARGUMENT, "ERR version is not of the form epoch:index");
}

static struct kv_version version_of(const struct exec_entry *e)
{
    if (!e->live) return (struct kv_version){0};
    return (struct kv_version){e->value.version_epoch, e->value.version_index};
}

void exec_kvput(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    struct exec_entry e = {.live = false};
    uint64_t expire_ms;
    bool is_new_only = n == 4;
    if (!kv_parse_u64(a[2], &expire_ms) || expire_ms > INT64_MAX) {
        exec_refuse(x, KV_BAD_ARGUMENT, "ERR deadline is not a time in milliseconds");
    } else if (is_new_only && !exec_word(a[3], "NX")) {
        exec_refuse_syntax(x);
    } else if (a[1].size > x->value_bytes_max) {
        exec_refuse_size(x);
    } else if (is_new_only ? exec_load(x, a[0], &e) : exec_key(x, a[0], &e.key)) {
        if (e.live) {
            resp_put_null(x->reply);
            exec_outcome(x, KV_CONDITION);
        } else if (exec_put(x, &e.key, a[1], 0, expire_ms)) {
            exec_reply_ok(x);
        }
    }
    if (x->refused != KV_OK) exec_outcome(x, x->refused);
}

/* The deadline stays: a compare-and-set replaces what a key holds, not how long it lives. */
void exec_kvcas(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct kv_version expected = {0};
    struct exec_entry e;
    bool by_version = exec_word(a[2], "VERSION");
    if (!by_version && !exec_word(a[2], "OLD"))
        exec_refuse_syntax(x);
    else if (by_version)
        version_parse(x, a[3], &expected);
    if (a[1].size > x->value_bytes_max) exec_refuse_size(x);
    if (exec_load(x, a[0], &e)) {
        bool holds = by_version ? kv_version_cmp(version_of(&e), expected) == 0
                                : e.live && kv_slice_eq(e.value.payload, a[3]);
        if (!holds) {
            resp_put_null(x->reply);
            exec_outcome(x, e.live ? KV_CONDITION : KV_NOT_FOUND);
        } else if (exec_put(x, &e.key, a[1], 0, exec_expire_of(&e))) {
            exec_reply_ok(x);
        }
    }
    if (x->refused != KV_OK) exec_outcome(x, x->refused);
}

void exec_kvdel(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    struct kv_version expected = {0};
    struct exec_entry e;
    if (n == 2) version_parse(x, a[1], &expected);
    if (exec_load(x, a[0], &e)) {
        bool holds = n == 1 || kv_version_cmp(version_of(&e), expected) == 0;
        if (!holds)
            exec_outcome(x, KV_CONDITION);
        else if (e.stored)
            exec_delete(x, &e.key);
        resp_put_integer(x->reply, holds && e.live);
    }
    if (x->refused != KV_OK) exec_outcome(x, x->refused);
}

void exec_kvincr(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    exec_incrby(x, a, n);
    if (x->refused != KV_OK) exec_outcome(x, x->refused);
}

#include "server/gate_resp.h"

/* kvd's errors as Redis errors. The first word is what client libraries look at; every
 * word but UNCERTAIN means that nothing was applied, and a write says so in its text. */

static const char *word_of(const struct kv_reply *r)
{
    /* A node that hears no peer at all speaks for itself, not for a partition. */
    static const char alone[] = "no contact";
    bool is_alone =
        r->detail.size >= sizeof alone - 1 && memcmp(r->detail.data, alone, sizeof alone - 1) == 0;
    switch (r->err) {
    case KV_NOT_LEADER: return "NOLEADER";
    case KV_NO_LEADER: return is_alone ? "CLUSTERDOWN" : "NOLEADER";
    case KV_UNAVAILABLE: return is_alone ? "CLUSTERDOWN" : "NOQUORUM";
    case KV_TIMEOUT: return r->phase == KV_PHASE_WAIT_LEADER ? "NOLEADER" : "NOQUORUM";
    case KV_WRONG_SHARD: return "TRYAGAIN";
    case KV_LOADING: return "LOADING";
    case KV_NO_SPACE:
    case KV_POISONED: return "READONLY";
    case KV_BUSY:
    case KV_THROTTLED: return "BUSY";
    case KV_CROSS_SHARD: return "CROSSSLOT";
    case KV_DENIED: return "NOPERM";
    case KV_WRONG_TYPE: return "WRONGTYPE";
    case KV_OK:
    case KV_NOT_FOUND:
    case KV_CONFLICT:
    case KV_TOO_BIG:
    case KV_MALFORMED:
    case KV_CORRUPT:
    case KV_IO:
    case KV_AUTH:
    case KV_CLOSED:
    case KV_CONDITION:
    case KV_BAD_ARGUMENT:
    case KV_WRONG_CLUSTER:
    case KV_NO_KEYSPACE:
    case KV_VERSION: return "ERR";
    }
    return "ERR"; /* a later version's code, from another node */
}

static void append_line(struct kv_buf *out, struct kv_slice text)
{
    enum { DETAIL_BYTES_MAX = 256 };
    for (size_t i = 0; i < text.size && i < DETAIL_BYTES_MAX; i++)
        kv_buf_append_u8(out, text.data[i] < ' ' ? ' ' : text.data[i]);
}

void resp_error_of(const struct kv_reply *r, bool is_write, bool on_face, struct kv_buf *out)
{
    if (r->err == KV_OK) { /* a retry found it done, but not the reply: R10 keeps short ones only */
        kv_buf_append_text(
            out, "-ERR the reply was too long to be kept for this retry (applied: yes)\r\n");
        return;
    }
    bool is_maybe = is_write && r->applied != KV_APPLIED_NO;
    const char *word = is_maybe ? "UNCERTAIN" : word_of(r);
    if (on_face && (strcmp(word, "NOLEADER") == 0 || strcmp(word, "NOQUORUM") == 0)) word = "CLUSTERDOWN";
    kv_buf_printf(out, "-%s ", word);
    if (r->err == KV_CROSS_SHARD && r->detail.size > 0) { /* not of a hash keyspace */
        append_line(out, r->detail);
    } else if (r->err == KV_CROSS_SHARD) { /* the request itself is wrong, wherever it was noticed */
        kv_buf_append_text(out, "Keys in request live in different partitions; give them a common "
                                "{hashtag}, as in {user1}:name {user1}:mail");
    } else {
        if (is_maybe) kv_buf_append_text(out, "the write may yet take effect: ");
        kv_buf_append_text(out, kv_err_text(r->err));
        if (r->detail.size > 0) {
            kv_buf_append_text(out, ": ");
            append_line(out, r->detail);
        }
        if (r->phase != KV_PHASE_NONE) kv_buf_printf(out, ", phase %s", kv_phase_text(r->phase));
        if (r->partition != 0) kv_buf_printf(out, ", partition %u", r->partition);
        if (r->node != 0) kv_buf_printf(out, ", node %u", r->node);
        if (r->leader != 0) kv_buf_printf(out, ", leader %u", r->leader);
    }
    if (r->retry_after_ms != 0) kv_buf_printf(out, ", retry after %u ms", r->retry_after_ms);
    if (is_write) kv_buf_printf(out, " (applied: %s)", is_maybe ? "maybe" : "no");
    kv_buf_append_text(out, "\r\n");
}

#include "server/exec_impl.h"
#include <ctype.h>

/* Commands over the whole keyspace are carried out elsewhere, partition by partition. What
 * they refuse is said here, so that all of a command's syntax is in one place. */

/* A cursor as Redis reads it: what strtoul takes, without white space in front. */
static bool cursor_is_valid(struct kv_slice text)
{
    uint64_t value = 0;
    bool is_signed = text.size > 1 && (text.data[0] == '+' || text.data[0] == '-');
    if (is_signed) text = kv_slice(text.data + 1, text.size - 1);
    for (size_t i = 0; i < text.size; i++) {
        if (!isdigit(text.data[i])) return false;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(text.data[i] - '0'), &value))
            return false;
    }
    return true;
}

static void check_scan(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    int64_t count;
    if (!cursor_is_valid(a[0])) {
        exec_refuse(x, KV_BAD_ARGUMENT, "ERR invalid cursor");
        return;
    }
    for (uint32_t i = 1; i < n; i += 2) {
        bool has_value = i + 1 < n;
        if (has_value && exec_word(a[i], "COUNT")) {
            if (!exec_integer(x, a[i + 1], &count)) return;
            if (count < 1) exec_refuse_syntax(x);
        } else if (!has_value || (!exec_word(a[i], "MATCH") && !exec_word(a[i], "TYPE"))) {
            exec_refuse_syntax(x);
        }
        if (x->refused != KV_OK) return;
    }
}

void exec_check_keyspace(struct exec *x, enum kv_op op, const struct kv_slice *a, uint32_t n)
{
    if (op == KV_OP_SCAN) check_scan(x, a, n);
    bool is_flush = op == KV_OP_FLUSHALL || op == KV_OP_FLUSHDB;
    if (is_flush && n == 1 && !exec_word(a[0], "SYNC") && !exec_word(a[0], "ASYNC"))
        exec_refuse_syntax(x);
}

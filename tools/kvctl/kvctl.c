#include "tools/kvctl/kvctl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

enum { STDIN_BYTES_MAX = 8 << 20 };

int kvctl_exit(enum kv_err err, enum kv_applied applied)
{
    if (err != KV_OK && applied == KV_APPLIED_MAYBE) return EXIT_TIMEOUT;
    switch (err) {
    case KV_OK: return EXIT_OK;
    case KV_NOT_FOUND:
    case KV_NO_KEYSPACE:
        return EXIT_NOT_FOUND;
    case KV_CONDITION:
    case KV_CONFLICT:
    case KV_WRONG_TYPE:
        return EXIT_CONDITION;
    case KV_BAD_ARGUMENT:
    case KV_TOO_BIG:
    case KV_CROSS_SHARD:
        return EXIT_USAGE;
    case KV_AUTH:
    case KV_DENIED:
    case KV_WRONG_CLUSTER:
        return EXIT_AUTH;
    case KV_NOT_LEADER:
    case KV_WRONG_SHARD:
    case KV_UNAVAILABLE:
    case KV_CLOSED:
    case KV_NO_LEADER:
    case KV_LOADING:
        return EXIT_NO_QUORUM;
    case KV_TIMEOUT: return EXIT_TIMEOUT;
    case KV_BUSY:
    case KV_THROTTLED:
        return EXIT_THROTTLED;
    case KV_MALFORMED:
    case KV_CORRUPT:
    case KV_IO:
    case KV_NO_SPACE:
    case KV_VERSION:
    case KV_POISONED:
        break;
    }
    return EXIT_INTERNAL;
}

static void say(const struct kvctl *k, const char *format, va_list args)
{
    fflush(stdout);
    fprintf(stderr, "kvctl: %s%s", k->command != NULL ? k->command : "", k->command != NULL ? ": " : "");
    (void)vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

void kvctl_say(const struct kvctl *k, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(k, format, args);
    va_end(args);
}

int kvctl_usage(const struct kvctl *k, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(k, format, args);
    va_end(args);
    return EXIT_USAGE;
}

int kvctl_fail(const struct kvctl *k, const struct kv_result *r)
{
    return kvctl_fail_at(k, "", r);
}

int kvctl_fail_at(const struct kvctl *k, const char *place, const struct kv_result *r)
{
    /* Nobody answered at all: perhaps this is not the cluster that was meant. */
    bool lost = r->node == 0 && (r->err == KV_UNAVAILABLE || r->err == KV_TIMEOUT || r->err == KV_AUTH ||
                                 r->err == KV_WRONG_CLUSTER);
    if (lost)
        kvctl_say(k, "%s%s [addresses from %s; tried: %s]", place, r->text, k->target.source, k->target.tried);
    else
        kvctl_say(k, "%s%s", place, r->text);
    return kvctl_exit(r->err, r->applied);
}

int kvctl_open(struct kvctl *k)
{
    char why[KV_TEXT_BYTES];
    if (k->kv != NULL) return EXIT_OK;
    struct kv_options o = {.addresses = k->target.addresses,
                           .key_file = k->target.key_file,
                           .keyspace = k->keyspace[0] != 0 ? k->keyspace : NULL,
                           .timeout_ms = k->timeout_ms,
                           .level = k->level,
                           .bounded_ms = k->bounded_ms};
    enum kv_err err = kv_open(&o, &k->kv, why);
    if (err == KV_OK) return EXIT_OK;
    bool key = err == KV_NOT_FOUND || err == KV_DENIED || err == KV_MALFORMED;
    kvctl_say(k, "%s%s%s; tried: %s", why, key ? "; next: name the client's key with --key or KVD_KEY" : "",
              "", k->target.tried);
    return key ? EXIT_AUTH : err == KV_BAD_ARGUMENT ? EXIT_USAGE
                                                    : EXIT_INTERNAL;
}

void kvctl_close(struct kvctl *k)
{
    kv_close(k->kv);
    k->kv = NULL;
}

bool kvctl_value(const struct kvctl *k, const char *word, struct kv_buf *buf, struct kv_slice *out)
{
    if (strcmp(word, "-") != 0) {
        *out = kv_str(word);
        return true;
    }
    for (;;) {
        uint8_t *at = kv_buf_reserve(buf, 64 << 10);
        if (at == NULL) {
            kvctl_say(k, "out of memory");
            return false;
        }
        size_t got = fread(at, 1, 64 << 10, stdin);
        kv_buf_commit(buf, got);
        if (buf->size > STDIN_BYTES_MAX) {
            kvctl_say(k, "stdin holds more than %d bytes, the largest value there can be", STDIN_BYTES_MAX);
            return false;
        }
        if (got == 0) break;
    }
    if (ferror(stdin)) {
        kvctl_say(k, "stdin: %s", strerror(errno));
        return false;
    }
    *out = kv_buf_slice(buf);
    return true;
}

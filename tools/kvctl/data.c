#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "client/base/text.h"
#include "client/kv_client.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/output.h"

/* The commands on keys: put get del cas incr scan. */

static uint64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

/* Writes a buffer to stdout and frees it; false: said why. */
static bool emit(struct kvctl *k, struct kv_buf *b)
{
    struct kv_slice s = kv_buf_slice(b);
    bool good = !b->failed && (s.size == 0 || fwrite(s.data, 1, s.size, stdout) == s.size);
    if (good && fflush(stdout) != 0) good = false;
    if (!good) kvctl_say(k, b->failed ? "out of memory" : "stdout cannot be written");
    kv_buf_free(b);
    return good;
}

/* What a mutation did, as one record. */
static int emit_done(struct kvctl *k, struct kv_slice key, const struct kv_result *r, const char *number)
{
    struct kv_buf b;
    kv_buf_init(&b, 0);
    if (k->format == FORMAT_JSON) {
        kv_buf_append_text(&b, "{\"key\":");
        output_json_bytes(&b, key);
        if (number != NULL) kv_buf_printf(&b, ",\"%s\":%lld", number, (long long)r->number);
        kv_buf_printf(&b, ",\"version\":\"%u:%llu\",\"applied\":\"%s\",\"node\":%u,\"partition\":%u,\"tries\":%u}\n",
                      r->version.epoch, (unsigned long long)r->version.index, kv_applied_text(r->applied), r->node,
                      r->partition, r->tries);
    } else if (number != NULL) {
        kv_buf_printf(&b, "%lld\n", (long long)r->number);
    } else {
        kv_buf_printf(&b, "%s%u:%llu\n", k->format == FORMAT_RAW ? "" : "ok version ", r->version.epoch,
                      (unsigned long long)r->version.index);
    }
    return emit(k, &b) ? EXIT_OK : EXIT_INTERNAL;
}

static bool duration_ms(struct kvctl *k, const char *text, uint64_t *ms)
{
    uint64_t ns;
    *ms = 0;
    if (text == NULL) return true;
    if (!kv_parse_duration(text, &ns) || ns < 1000000u) {
        kvctl_usage(k, "--ttl %s: not a duration from 1ms on, as 90s or 7d", text);
        return false;
    }
    *ms = ns / 1000000u;
    return true;
}

int put_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)count;
    struct kv_put_options o = {.if_absent = args_get(a, "if-absent") != NULL};
    struct kv_buf in;
    struct kv_slice value;
    struct kv_result r;
    if (!duration_ms(k, args_get(a, "ttl"), &o.ttl_ms)) return EXIT_USAGE;
    kv_buf_init(&in, 0);
    int code = EXIT_USAGE;
    if (!kvctl_value(k, words[1], &in, &value)) goto done;
    code = kvctl_open(k);
    if (code != EXIT_OK) goto done;
    code = kv_put(k->kv, kv_str(words[0]), value, &o, &r) == KV_OK ? emit_done(k, kv_str(words[0]), &r, NULL)
                                                                   : kvctl_fail(k, &r);
done:
    kv_buf_free(&in);
    return code;
}

int get_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)a;
    struct kv_result r;
    struct kv_slice key = kv_str(words[0]);
    if (count == 2 && strcmp(words[1], "-") != 0)
        return kvctl_usage(k, "the second word can only be -, for the bytes as they are");
    int code = kvctl_open(k);
    if (code != EXIT_OK) return code;
    if (kv_get(k->kv, key, &r) != KV_OK) return kvctl_fail(k, &r);
    struct kv_buf b;
    kv_buf_init(&b, 0);
    if (k->format == FORMAT_JSON) {
        struct output_row row = {key, r.value, r.version, r.expire_ms};
        output_json_row(&b, &row, wall_ms());
        if (k->level != KV_LEVEL_LINEARIZABLE && !b.failed && b.size > 2) { /* the row, and what it is worth */
            b.size -= 2;
            kv_buf_printf(&b, ",\"level\":\"%s\",\"stale_ms\":", kv_level_text(r.level));
            if (r.level == KV_LEVEL_ANY) kv_buf_append_text(&b, "null");
            else kv_buf_printf(&b, "%u", r.stale_ms);
            kv_buf_printf(&b, ",\"node\":%u,\"partition\":%u,\"tries\":%u}\n", r.node, r.partition, r.tries);
        }
    } else {
        kv_buf_append_slice(&b, r.value);
        if (k->format == FORMAT_TABLE && count == 1) kv_buf_append_u8(&b, '\n');
    }
    return emit(k, &b) ? EXIT_OK : EXIT_INTERNAL;
}

int del_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)a;
    struct kv_result r;
    int64_t removed = 0;
    int code = kvctl_open(k);
    if (code != EXIT_OK) return code;
    for (uint32_t i = 0; i < count; i++) {
        if (kv_del(k->kv, kv_str(words[i]), NULL, &r) != KV_OK) {
            code = kvctl_fail(k, &r);
            if (i > 0) kvctl_say(k, "%lld of the first %u keys are deleted", (long long)removed, i);
            return code;
        }
        removed += r.number;
        if (k->format == FORMAT_JSON) code = emit_done(k, kv_str(words[i]), &r, "removed");
        if (code != EXIT_OK) return code;
    }
    if (k->format != FORMAT_JSON) printf("%lld\n", (long long)removed);
    if (removed > 0) return EXIT_OK;
    kvctl_say(k, "%s", count == 1 ? "no such key" : "none of these keys exists");
    return EXIT_NOT_FOUND;
}

int cas_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)count;
    const char *version = args_get(a, "version"), *old = args_get(a, "old");
    struct kv_slice key = kv_str(words[0]), value;
    struct kv_version expected = {0};
    struct kv_result r;
    if ((version == NULL) == (old == NULL)) return kvctl_usage(k, "needs one of --version and --old");
    if (version != NULL && !kv_version_parse(kv_str(version), &expected))
        return kvctl_usage(k, "--version %s: not EPOCH:INDEX as get -o json prints it", version);
    struct kv_buf in;
    kv_buf_init(&in, 0);
    int code = EXIT_USAGE;
    if (!kvctl_value(k, words[1], &in, &value)) goto done;
    code = kvctl_open(k);
    if (code != EXIT_OK) goto done;
    enum kv_err err = version != NULL ? kv_cas_version(k->kv, key, expected, value, &r)
                                      : kv_cas_value(k->kv, key, kv_str(old), value, &r);
    code = err == KV_OK ? emit_done(k, key, &r, NULL) : kvctl_fail(k, &r);
done:
    kv_buf_free(&in);
    return code;
}

int incr_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)a;
    int64_t delta = 1;
    struct kv_result r;
    if (count == 2 && !kv_parse_i64(kv_str(words[1]), &delta))
        return kvctl_usage(k, "%s: not a whole number of 64 bits", words[1]);
    int code = kvctl_open(k);
    if (code != EXIT_OK) return code;
    if (kv_incr(k->kv, kv_str(words[0]), delta, &r) != KV_OK) return kvctl_fail(k, &r);
    return emit_done(k, kv_str(words[0]), &r, "value");
}

/* ---- scan ---- */

/* For people: one line a row, columns wide enough for most, nothing that moves the cursor. */
static void table_row(struct kv_buf *b, const struct kv_row *row, bool cut)
{
    struct kv_buf cell;
    kv_buf_init(&cell, 0);
    output_escaped(&cell, row->key);
    struct kv_slice key = kv_buf_slice(&cell);
    kv_buf_printf(b, "%-32.*s  %12u:%-8llu  ", (int)key.size, (const char *)key.data, row->version.epoch,
                  (unsigned long long)row->version.index);
    kv_buf_clear(&cell);
    bool is_cut = cut && row->value.size > 60;
    output_escaped(&cell, is_cut ? kv_slice(row->value.data, 60) : row->value);
    kv_buf_append_slice(b, kv_buf_slice(&cell));
    if (is_cut) kv_buf_printf(b, ".. (%zu bytes)", row->value.size);
    kv_buf_append_u8(b, '\n');
    if (cell.failed) b->failed = true;
    kv_buf_free(&cell);
}

int scan_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)words;
    (void)count;
    static const char *const empty = "";
    const char *prefix = args_get(a, "prefix"), *from = args_get(a, "from"), *to = args_get(a, "to");
    const char *cursor = args_get(a, "cursor"), *limit_text = args_get(a, "limit");
    uint64_t limit = UINT64_MAX, rows = 0;
    if (prefix != NULL && (from != NULL || to != NULL))
        return kvctl_usage(k, "takes --prefix or --from and --to, not both");
    if (limit_text != NULL && (!kv_parse_u64(kv_str(limit_text), &limit) || limit == 0))
        return kvctl_usage(k, "--limit %s: not a number from 1 on", limit_text);
    int code = kvctl_open(k);
    if (code != EXIT_OK) return code;
    struct kv_scan_options o = {.prefix = kv_str(prefix != NULL ? prefix : empty),
                                .from = kv_str(from != NULL ? from : empty),
                                .to = kv_str(to != NULL ? to : empty),
                                .cursor = kv_str(cursor != NULL ? cursor : empty)};
    if (prefix == NULL && from == NULL && to == NULL && limit < 1000) o.page_rows = (uint32_t)limit;
    struct kv_scan *scan;
    enum kv_err err = kv_scan_open(k->kv, &o, &scan);
    if (err == KV_MALFORMED) return kvctl_usage(k, "--cursor %s: not one that scan printed", cursor);
    if (err != KV_OK) {
        kvctl_say(k, "%s", kv_err_text(err));
        return EXIT_INTERNAL;
    }
    struct kv_row row;
    struct kv_result r;
    struct kv_buf b;
    bool cut = k->format == FORMAT_TABLE && isatty(STDOUT_FILENO);
    kv_buf_init(&b, 0);
    if (k->format == FORMAT_TABLE) kv_buf_printf(&b, "%-32s  %12s:%-8s  %s\n", "KEY", "EPOCH", "INDEX", "VALUE");
    while (rows < limit && (err = kv_scan_next(scan, &row, &r)) == KV_OK) {
        struct output_row out = {row.key, row.value, row.version, row.expire_ms};
        if (k->format == FORMAT_JSON) output_json_row(&b, &out, wall_ms());
        else if (k->format == FORMAT_RAW) output_tsv_row(&b, &out, wall_ms());
        else table_row(&b, &row, cut);
        rows++;
        if (b.size < 64 << 10 && !b.failed) continue;
        if (!emit(k, &b)) {
            code = EXIT_INTERNAL;
            goto done;
        }
        kv_buf_init(&b, 0);
    }
    if (!emit(k, &b)) code = EXIT_INTERNAL;
    else if (err != KV_OK && err != KV_NOT_FOUND) code = kvctl_fail(k, &r);
    if (code != EXIT_OK || rows == limit) {
        const char *next = kv_scan_cursor(scan);
        if (next[0] != 0) fprintf(stderr, "more: --cursor %s\n", next);
    } else if (k->format == FORMAT_TABLE && !k->quiet && isatty(STDERR_FILENO)) {
        fprintf(stderr, "%llu rows\n", (unsigned long long)rows);
    }
done:
    kv_scan_close(scan);
    return code;
}

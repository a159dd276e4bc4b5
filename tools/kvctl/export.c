#include <errno.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/base/key.h"
#include "client/kv_client.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvctl/lines.h"
#include "tools/kvctl/output.h"
#include "tools/kvctl/progress.h"

/* Export: pages of rows to a file, in bounded memory. The file appears under its name only when it
 * is whole and synced; until then it is FILE.part. What exists and is no regular file (a pipe, a
 * device, a link) is written as it stands: a rename would put a file in its place. */
enum { EXPORT_CHUNK_BYTES = 256 << 10 };

struct export
{
    struct kvctl *k;
    const char *path;
    char part[1100]; /* "": written in place */
    FILE *out;
    enum lines_format format;
    uint64_t rows, bytes;
    double seconds;
};

static bool chunk_write(struct export *e, struct kv_buf *b)
{
    struct kv_slice s = kv_buf_slice(b);
    if (b->failed || (s.size > 0 && fwrite(s.data, 1, s.size, e->out) != s.size)) {
        kvctl_say(e->k, "%s: %s", e->path, b->failed ? "out of memory" : strerror(errno));
        return false;
    }
    e->bytes += s.size;
    kv_buf_clear(b);
    return true;
}

static int export_rows(struct export *e, struct kv_scan *scan)
{
    struct progress bar;
    struct kv_row row;
    struct kv_result r;
    struct kv_buf b;
    struct timespec t;
    enum kv_err err;
    int code = EXIT_OK;
    kv_buf_init(&b, 0);
    progress_start(&bar, e->k->progress && e->out != stdout, "export", 0);
    while ((err = kv_scan_next(scan, &row, &r)) == KV_OK) {
        struct output_row out = {row.key, row.value, row.version, row.expire_ms};
        clock_gettime(CLOCK_REALTIME, &t);
        uint64_t wall_ms = (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
        if (e->format == LINES_JSONL) output_json_row(&b, &out, wall_ms);
        else output_tsv_row(&b, &out, wall_ms);
        e->rows++;
        if ((b.size > EXPORT_CHUNK_BYTES || b.failed) && !chunk_write(e, &b)) {
            code = EXIT_INTERNAL;
            break;
        }
        /* In a hash keyspace rows come in the order of slots, and keys spread evenly over them. */
        const struct kv_key_rule *rule = kv_client_rule(kv_client_of(e->k->kv));
        bool is_hash = rule != NULL && rule->kind == KV_KEY_HASH;
        if (e->rows % 256 == 0) progress_show(&bar, is_hash ? (double)kv_slot(row.key) / KV_SLOTS : 0, e->rows);
    }
    progress_end(&bar);
    e->seconds = progress_seconds(&bar);
    if (code == EXIT_OK && !chunk_write(e, &b)) code = EXIT_INTERNAL;
    if (code == EXIT_OK && err != KV_NOT_FOUND) code = kvctl_fail(e->k, &r);
    kv_buf_free(&b);
    return code;
}

static bool export_open(struct export *e)
{
    if (strcmp(e->path, "-") == 0) {
        e->out = stdout;
        return true;
    }
    struct stat st;
    if (lstat(e->path, &st) == 0 && !S_ISREG(st.st_mode)) {
        e->out = fopen(e->path, "wbe");
        if (e->out == NULL) kvctl_say(e->k, "%s: %s", e->path, strerror(errno));
        return e->out != NULL;
    }
    int n = snprintf(e->part, sizeof e->part, "%s.part", e->path);
    if (n < 0 || (size_t)n >= sizeof e->part) {
        kvctl_say(e->k, "the file's name is too long");
        return false;
    }
    e->out = fopen(e->part, "wbe");
    if (e->out == NULL) kvctl_say(e->k, "%s: %s", e->part, strerror(errno));
    return e->out != NULL;
}

static int export_close(struct export *e, int code)
{
    bool good = fflush(e->out) == 0;
    if (e->out != stdout) {
        good = good && (fsync(fileno(e->out)) == 0 || e->part[0] == 0); /* a pipe cannot */
        good = fclose(e->out) == 0 && good;
        if (code == EXIT_OK && good && e->part[0] != 0) good = rename(e->part, e->path) == 0;
        int why = errno;
        if (e->part[0] != 0 && (code != EXIT_OK || !good)) (void)unlink(e->part);
        errno = why;
    }
    if (code != EXIT_OK) return code;
    if (!good) {
        kvctl_say(e->k, "%s: %s", e->path, strerror(errno));
        return EXIT_INTERNAL;
    }
    if (!e->k->quiet)
        fprintf(stderr, "exported %llu rows, %llu bytes in %.1f s\n", (unsigned long long)e->rows,
                (unsigned long long)e->bytes, e->seconds);
    return EXIT_OK;
}

int export_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)count;
    const char *format = args_get(a, "format"), *prefix = args_get(a, "prefix");
    const char *from = args_get(a, "from"), *to = args_get(a, "to");
    struct export e = {.k = k, .path = words[0], .format = lines_format_of(words[0])};
    if (format != NULL && strcmp(format, "tsv") == 0) e.format = LINES_TSV;
    else if (format != NULL && strcmp(format, "jsonl") == 0) e.format = LINES_JSONL;
    else if (format != NULL) return kvctl_usage(k, "--format %s: not tsv or jsonl", format);
    if (prefix != NULL && (from != NULL || to != NULL))
        return kvctl_usage(k, "takes --prefix or --from and --to, not both");
    int code = kvctl_open(k);
    if (code != EXIT_OK) return code;
    struct kv_scan_options o = {.prefix = kv_str(prefix != NULL ? prefix : ""),
                                .from = kv_str(from != NULL ? from : ""),
                                .to = kv_str(to != NULL ? to : "")};
    struct kv_scan *scan;
    if (!export_open(&e)) return EXIT_INTERNAL;
    enum kv_err err = kv_scan_open(k->kv, &o, &scan);
    if (err == KV_OK) {
        code = export_rows(&e, scan);
        kv_scan_close(scan);
    } else {
        kvctl_say(k, "%s", kv_err_text(err));
        code = EXIT_INTERNAL;
    }
    return export_close(&e, code);
}

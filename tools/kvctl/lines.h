#ifndef KVCTL_LINES_H
#define KVCTL_LINES_H
#include <stdio.h>

#include "client/base/buf.h"
#include "client/base/err.h"

/* Files of rows: TSV (key TAB value [TAB ttl_ms], with the escapes of output.h) and JSON lines
 * (the objects that `kvctl -o json` prints; other members are ignored). */
enum lines_format { LINES_TSV, LINES_JSONL };
enum { LINES_BYTES_MAX = 48 << 20, LINES_CHUNK_BYTES = 64 << 10, LINES_WHY_BYTES = 200 };

/* By the name's end: .jsonl, .ndjson, .json; everything else TSV. */
enum lines_format lines_format_of(const char *path);

/* Reads line by line in bounded memory. Zero it, set `file`. */
struct lines_reader {
    FILE *file;
    struct kv_buf buf; /* owned; free with kv_buf_free() */
    uint64_t offset;   /* of the byte behind the last line returned */
    uint64_t number;   /* of the last line returned, from 1 */
    size_t taken;      /* bytes of the line returned last, still in `buf` */
    bool at_end;
};
/* The next line without its end. KV_NOT_FOUND: the end; KV_TOO_BIG: over LINES_BYTES_MAX; KV_IO;
 * KV_NO_SPACE. Valid until the next call. A last line without newline counts. */
enum kv_err lines_next(struct lines_reader *r, struct kv_slice *line);

struct lines_row {
    struct kv_slice key, value; /* inside `storage` */
    uint64_t ttl_ms;            /* 0: none */
};
/* KV_MALFORMED: `why` says what is wrong; KV_NO_SPACE. `storage` is cleared first. */
enum kv_err lines_parse(enum lines_format format, struct kv_slice line, struct kv_buf *storage,
                        struct lines_row *out, char why[LINES_WHY_BYTES]);
#endif

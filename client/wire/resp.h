#ifndef KV_RESP_H
#define KV_RESP_H
#include "client/base/buf.h"
#include "client/base/err.h"

/* RESP3 values (Redis serialization protocol, version 3). Every reply inside kvd
 * is one RESP3 value; the native face passes it on as it is, the RESP face
 * rewrites the few types that RESP2 lacks.
 *
 * Reading: resp_next() steps over one value at a time, never recursing. */
enum resp_type {
    RESP_STATUS = '+', RESP_ERROR = '-', RESP_INTEGER = ':', RESP_BULK = '$', RESP_ARRAY = '*',
    RESP_NULL = '_', RESP_BOOL = '#', RESP_DOUBLE = ',', RESP_BIGNUM = '(', RESP_BULK_ERROR = '!',
    RESP_VERBATIM = '=', RESP_MAP = '%', RESP_SET = '~', RESP_PUSH = '>', RESP_ATTRIBUTE = '|'
};
enum { RESP_COUNT_MAX = INT32_MAX }; /* elements (pairs: half) of one aggregate */
struct resp_value {
    enum resp_type type;
    struct kv_slice text; /* the line or the bulk bytes */
    int64_t number;       /* INTEGER, BOOL; element count of ARRAY, SET, PUSH, pair count of MAP */
    bool is_null;         /* RESP_NULL, "$-1", "*-1" */
};
/* Reads the value (of an aggregate: its header) at the front of `*in` and moves `*in`
 * behind it. KV_BUSY: more bytes are needed, nothing consumed; KV_MALFORMED;
 * KV_TOO_BIG: a bulk over `bulk_bytes_max` (said as soon as its header is there), a line
 * over 64 KiB, or a count over RESP_COUNT_MAX. How many elements it will hold is for the
 * caller to decide before it allocates for them. Streamed types ("$?") are KV_MALFORMED. */
enum kv_err resp_next(struct kv_slice *in, size_t bulk_bytes_max, struct resp_value *out);

void resp_put_status(struct kv_buf *b, const char *text);
/* Cut at 511 bytes; line breaks become blanks. */
void resp_put_error(struct kv_buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void resp_put_integer(struct kv_buf *b, int64_t v);
void resp_put_bulk(struct kv_buf *b, struct kv_slice s);
void resp_put_null(struct kv_buf *b);              /* "_" */
void resp_put_array(struct kv_buf *b, size_t count); /* header; elements follow */
void resp_put_map(struct kv_buf *b, size_t pairs);
/* Appends RESP3 `value` (one or more whole values) to `out` as RESP2: null "$-1",
 * maps flat arrays, doubles and verbatim bulk, booleans integers; attributes are
 * dropped. A value that does not parse sets `failed`. */
void resp_to_resp2(struct kv_slice value, struct kv_buf *out);
#endif

#ifndef KV_TEXT_H
#define KV_TEXT_H
#include "client/base/buf.h"
#include "client/base/err.h"

/* Strict text to numbers and back: the whole slice must parse, no white space,
 * no leading zeros or '+', as Redis' string2ll. False leaves `out` untouched. */
bool kv_parse_i64(struct kv_slice text, int64_t *out);
bool kv_parse_u64(struct kv_slice text, uint64_t *out);
size_t kv_format_i64(int64_t value, char out[21]); /* bytes written, no NUL */

/* For configuration and command lines: "64MiB", "1GiB", "512" (bytes); "250ms",
 * "2s", "5m", "1h", "7d" (a bare number is refused). Limit: 2^63-1. */
bool kv_parse_size(const char *text, uint64_t *bytes);
bool kv_parse_duration(const char *text, uint64_t *ns);

bool kv_utf8_valid(struct kv_slice s);
void kv_json_string(struct kv_buf *out, struct kv_slice s); /* quoted; s must be valid UTF-8 */
void kv_base64_encode(struct kv_buf *out, struct kv_slice s); /* RFC 4648, padded */
bool kv_base64_decode(struct kv_buf *out, struct kv_slice text);
void kv_hex_encode(struct kv_buf *out, struct kv_slice s); /* lower case */
bool kv_hex_decode(struct kv_slice text, uint8_t *out, size_t size); /* exactly `size` bytes */

/* Redis' stringmatchlen: '*', '?', '[a-z]', '[^x]', '\'. Bounded: patterns that
 * backtrack too far count as no match. */
bool kv_glob_match(struct kv_slice pattern, struct kv_slice text, bool ignore_case);
#endif

/* A reader that never recurses: an aggregate is a header, its elements are the
 * next values, and whoever needs the nesting counts. Nothing is copied. */
#include "client/wire/resp.h"

#include "client/base/text.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

enum {
    LINE_BYTES_MAX = 64 << 10, /* statuses, errors, big numbers */
    NUMBER_BYTES_MAX = 21,     /* sign and 20 digits */
    ERROR_BYTES_MAX = 512
};

/* The line from `at` on, without its CRLF; *end is behind it. */
static enum kv_err resp_line(struct kv_slice in, size_t at, size_t bytes_max, struct kv_slice *line,
                             size_t *end)
{
    assert(at <= in.size);
    size_t left = in.size - at;
    size_t look = left < bytes_max + 1 ? left : bytes_max + 1;
    const uint8_t *from = in.data + at;
    const uint8_t *cr = look == 0 ? NULL : memchr(from, '\r', look);
    if (cr == NULL) {
        if (look > 0 && memchr(from, '\n', look) != NULL) return KV_MALFORMED;
        return left > bytes_max ? KV_TOO_BIG : KV_BUSY;
    }
    size_t size = (size_t)(cr - from);
    if (size > 0 && memchr(from, '\n', size) != NULL) return KV_MALFORMED;
    if (size + 1 == left) return KV_BUSY;
    if (cr[1] != '\n') return KV_MALFORMED;
    *line = kv_slice(from, size);
    *end = at + size + 2;
    return KV_OK;
}

/* The sizes and counts of every command: up to nine digits and CRLF. False: look closely. */
static bool resp_number_short(struct kv_slice in, int64_t *number, size_t *end)
{
    const uint8_t *p = in.data;
    size_t limit = in.size < 12 ? in.size : 12, at = 1;
    int64_t v = 0;
    for (; at < limit && p[at] >= '0' && p[at] <= '9'; at++) v = 10 * v + (p[at] - '0');
    if (at == 1 || at + 1 >= limit || p[at] != '\r' || p[at + 1] != '\n') return false;
    if (p[1] == '0' && at > 2) return false; /* leading zeros */
    *number = v;
    *end = at + 2;
    return true;
}

static enum kv_err resp_number(struct kv_slice in, int64_t *number, size_t *end)
{
    if (resp_number_short(in, number, end)) return KV_OK;
    struct kv_slice line;
    enum kv_err err = resp_line(in, 1, NUMBER_BYTES_MAX, &line, end);
    if (err != KV_OK) return err == KV_TOO_BIG ? KV_MALFORMED : err;
    if (line.size > 1 && line.data[0] == '+' && line.data[1] != '-') {
        line = kv_slice(line.data + 1, line.size - 1);
    }
    return kv_parse_i64(line, number) ? KV_OK : KV_MALFORMED;
}

/* "$<size>\r\n<bytes>\r\n" and its kin. */
static enum kv_err resp_bulk(struct kv_slice in, size_t bytes_max, struct resp_value *v,
                             size_t *end)
{
    int64_t size;
    enum kv_err err = resp_number(in, &size, end);
    if (err != KV_OK) return err;
    if (size == -1 && v->type == RESP_BULK) {
        v->is_null = true;
        return KV_OK;
    }
    if (size < 0) return KV_MALFORMED;
    if ((uint64_t)size > bytes_max) return KV_TOO_BIG;
    size_t left = in.size - *end;
    if (left < (size_t)size || left - (size_t)size < 2) return KV_BUSY;
    const uint8_t *bytes = in.data + *end;
    if (bytes[size] != '\r' || bytes[size + 1] != '\n') return KV_MALFORMED;
    /* Three letters name the format: "txt:", "mkd:". */
    if (v->type == RESP_VERBATIM && (size < 4 || bytes[3] != ':')) return KV_MALFORMED;
    v->text = kv_slice(bytes, (size_t)size);
    *end += (size_t)size + 2;
    return KV_OK;
}

static enum kv_err resp_count(struct kv_slice in, struct resp_value *v, size_t *end)
{
    enum kv_err err = resp_number(in, &v->number, end);
    if (err != KV_OK) return err;
    if (v->number == -1 && v->type == RESP_ARRAY) {
        v->is_null = true;
        v->number = 0;
        return KV_OK;
    }
    if (v->number < 0) return KV_MALFORMED;
    bool pairs = v->type == RESP_MAP || v->type == RESP_ATTRIBUTE;
    return v->number > (pairs ? RESP_COUNT_MAX / 2 : RESP_COUNT_MAX) ? KV_TOO_BIG : KV_OK;
}

static size_t resp_digits(struct kv_slice s, size_t at)
{
    size_t n = 0;
    while (at + n < s.size && s.data[at + n] >= '0' && s.data[at + n] <= '9') n++;
    return n;
}

static bool resp_is_bignum(struct kv_slice s)
{
    size_t sign = s.size > 0 && (s.data[0] == '-' || s.data[0] == '+');
    size_t digits = resp_digits(s, sign);
    return digits > 0 && sign + digits == s.size;
}

static bool resp_is_double(struct kv_slice s)
{
    if (kv_slice_eq(s, kv_str("inf")) || kv_slice_eq(s, kv_str("-inf"))) return true;
    if (kv_slice_eq(s, kv_str("nan"))) return true;
    size_t at = s.size > 0 && (s.data[0] == '-' || s.data[0] == '+');
    size_t digits = resp_digits(s, at);
    if (digits == 0) return false;
    at += digits;
    if (at < s.size && s.data[at] == '.') {
        digits = resp_digits(s, ++at);
        if (digits == 0) return false;
        at += digits;
    }
    if (at < s.size && (s.data[at] == 'e' || s.data[at] == 'E')) {
        at++;
        if (at < s.size && (s.data[at] == '-' || s.data[at] == '+')) at++;
        digits = resp_digits(s, at);
        if (digits == 0) return false;
        at += digits;
    }
    return at == s.size;
}

/* The types that are one line. */
static enum kv_err resp_simple(struct kv_slice in, struct resp_value *v, size_t *end)
{
    enum kv_err err = resp_line(in, 1, LINE_BYTES_MAX, &v->text, end);
    if (err != KV_OK) return err;
    bool legal = true;
    if (v->type == RESP_NULL) {
        legal = v->text.size == 0;
        v->is_null = true;
    } else if (v->type == RESP_BOOL) {
        legal = v->text.size == 1 && (v->text.data[0] == 't' || v->text.data[0] == 'f');
        v->number = legal && v->text.data[0] == 't';
    } else if (v->type == RESP_DOUBLE) {
        legal = resp_is_double(v->text);
    } else if (v->type == RESP_BIGNUM) {
        legal = resp_is_bignum(v->text);
    }
    return legal ? KV_OK : KV_MALFORMED;
}

enum kv_err resp_next(struct kv_slice *in, size_t bulk_bytes_max, struct resp_value *out)
{
    if (in->size == 0) return KV_BUSY;
    struct resp_value v = {.type = (enum resp_type)in->data[0]};
    size_t end = 0;
    enum kv_err err = KV_MALFORMED;
    switch (in->data[0]) {
    case RESP_BULK:
    case RESP_BULK_ERROR:
    case RESP_VERBATIM: err = resp_bulk(*in, bulk_bytes_max, &v, &end); break;
    case RESP_ARRAY:
    case RESP_MAP:
    case RESP_SET:
    case RESP_PUSH:
    case RESP_ATTRIBUTE: err = resp_count(*in, &v, &end); break;
    case RESP_INTEGER: err = resp_number(*in, &v.number, &end); break;
    case RESP_STATUS:
    case RESP_ERROR:
    case RESP_NULL:
    case RESP_BOOL:
    case RESP_DOUBLE:
    case RESP_BIGNUM: err = resp_simple(*in, &v, &end); break;
    default: break; /* a byte from outside, not an enum value */
    }
    if (err != KV_OK) return err;
    assert(end > 0 && end <= in->size);
    *in = kv_slice(in->data + end, in->size - end);
    *out = v;
    return KV_OK;
}

/* "<type><number>\r\n" into `p`, which has room for NUMBER_BYTES_MAX + 3. */
static size_t resp_header(uint8_t *p, enum resp_type type, int64_t number)
{
    char digits[21];
    size_t size = kv_format_i64(number, digits);
    p[0] = (uint8_t)type;
    memcpy(p + 1, digits, size);
    p[size + 1] = '\r';
    p[size + 2] = '\n';
    return size + 3;
}

static void resp_put_number(struct kv_buf *b, enum resp_type type, int64_t number)
{
    uint8_t *p = kv_buf_reserve(b, NUMBER_BYTES_MAX + 3);
    if (p != NULL) kv_buf_commit(b, resp_header(p, type, number));
}

void resp_put_status(struct kv_buf *b, const char *text)
{
    kv_buf_append_u8(b, RESP_STATUS);
    kv_buf_append_text(b, text);
    kv_buf_append(b, "\r\n", 2);
}

/* A line break inside would let a key or a value forge the next reply. */
static void resp_put_error_line(struct kv_buf *b, struct kv_slice text)
{
    uint8_t *p = kv_buf_reserve(b, text.size + 3);
    if (p == NULL) return;
    *p++ = RESP_ERROR;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        *p++ = c == '\r' || c == '\n' ? ' ' : c;
    }
    memcpy(p, "\r\n", 2);
    kv_buf_commit(b, text.size + 3);
}

void resp_put_error(struct kv_buf *b, const char *format, ...)
{
    char text[ERROR_BYTES_MAX];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (size < 0) {
        b->failed = true;
        return;
    }
    if ((size_t)size >= sizeof text) size = sizeof text - 1;
    resp_put_error_line(b, kv_slice(text, (size_t)size));
}

void resp_put_integer(struct kv_buf *b, int64_t v)
{
    resp_put_number(b, RESP_INTEGER, v);
}

void resp_put_bulk(struct kv_buf *b, struct kv_slice s)
{
    assert(s.size <= SIZE_MAX / 2);
    uint8_t *p = kv_buf_reserve(b, NUMBER_BYTES_MAX + 5 + s.size);
    if (p == NULL) return;
    size_t header = resp_header(p, RESP_BULK, (int64_t)s.size);
    if (s.size > 0) memcpy(p + header, s.data, s.size);
    memcpy(p + header + s.size, "\r\n", 2);
    kv_buf_commit(b, header + s.size + 2);
}

void resp_put_null(struct kv_buf *b)
{
    kv_buf_append(b, "_\r\n", 3);
}

void resp_put_array(struct kv_buf *b, size_t count)
{
    assert(count <= RESP_COUNT_MAX);
    resp_put_number(b, RESP_ARRAY, (int64_t)count);
}

void resp_put_map(struct kv_buf *b, size_t pairs)
{
    assert(pairs <= RESP_COUNT_MAX / 2);
    resp_put_number(b, RESP_MAP, (int64_t)pairs);
}

/* How many values follow as the aggregate's own. */
static uint64_t resp_children(const struct resp_value *v)
{
    switch (v->type) {
    case RESP_ARRAY:
    case RESP_SET:
    case RESP_PUSH: return (uint64_t)v->number;
    case RESP_MAP:
    case RESP_ATTRIBUTE: return 2 * (uint64_t)v->number;
    case RESP_STATUS:
    case RESP_ERROR:
    case RESP_INTEGER:
    case RESP_BULK:
    case RESP_NULL:
    case RESP_BOOL:
    case RESP_DOUBLE:
    case RESP_BIGNUM:
    case RESP_BULK_ERROR:
    case RESP_VERBATIM: return 0;
    }
    return 0;
}

/* `raw` is the value as it stood in the input. */
static void resp_put_as_resp2(struct kv_buf *b, const struct resp_value *v, struct kv_slice raw)
{
    switch (v->type) {
    case RESP_STATUS:
    case RESP_ERROR:
    case RESP_INTEGER:
    case RESP_BULK:
    case RESP_ARRAY: kv_buf_append_slice(b, raw); break;
    case RESP_NULL: kv_buf_append(b, "$-1\r\n", 5); break;
    case RESP_BOOL: resp_put_integer(b, v->number); break;
    case RESP_DOUBLE:
    case RESP_BIGNUM: resp_put_bulk(b, v->text); break;
    case RESP_BULK_ERROR: resp_put_error_line(b, v->text); break;
    case RESP_VERBATIM: resp_put_bulk(b, kv_slice(v->text.data + 4, v->text.size - 4)); break;
    case RESP_SET:
    case RESP_PUSH:
    case RESP_MAP: resp_put_number(b, RESP_ARRAY, (int64_t)resp_children(v)); break;
    case RESP_ATTRIBUTE: break; /* RESP2 has no place for it; the caller skips its pairs */
    }
}

void resp_to_resp2(struct kv_slice value, struct kv_buf *out)
{
    uint64_t skip = 0; /* values still to drop: they belong to an attribute */
    while (value.size > 0) {
        struct kv_slice before = value;
        struct resp_value v;
        if (resp_next(&value, SIZE_MAX, &v) != KV_OK) {
            out->failed = true; /* half a reply is out: only closing is left */
            return;
        }
        if (skip > 0 || v.type == RESP_ATTRIBUTE) {
            /* An attribute stands before an element and does not count as one itself. The sum
             * cannot overflow: at most 2^32 at a time, for at least 4 bytes of input each. */
            skip += resp_children(&v);
            if (v.type != RESP_ATTRIBUTE) skip--;
            continue;
        }
        resp_put_as_resp2(out, &v, kv_slice(before.data, before.size - value.size));
    }
}

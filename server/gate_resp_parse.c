#include "client/base/text.h"
#include "server/gate_resp.h"
#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

/* Bytes to arguments. Invariants:
 * (1) No byte of a command is looked at twice while it trickles in, however it is cut.
 * (2) Nothing is stored of an argument over its limit: it is counted down and dropped.
 * (3) An announced length allocates nothing; only arguments that came do. */

void resp_parser_reset(struct resp_parser *p)
{
    p->count = p->want = 0;
    p->at = 0;
    p->discarding = false;
    p->discard_bytes = 0;
}

void resp_parser_free(struct resp_parser *p)
{
    free(p->spans);
    free(p->args);
    kv_buf_free(&p->words);
    *p = (struct resp_parser){0};
}

static enum resp_parsed broken(struct resp_parser *p, const char *text)
{
    snprintf(p->error, sizeof p->error, "ERR Protocol error: %s", text);
    return RESP_BROKEN;
}

static bool span_add(struct resp_parser *p, size_t offset, size_t size)
{
    if (p->count == p->capacity) {
        uint32_t capacity = p->capacity == 0 ? 8 : p->capacity * 2;
        struct resp_span *spans = realloc(p->spans, capacity * sizeof *spans);
        if (spans != NULL) p->spans = spans;
        struct kv_slice *args = realloc(p->args, capacity * sizeof *args);
        if (args != NULL) p->args = args;
        if (spans == NULL || args == NULL) return false;
        p->capacity = capacity;
    }
    p->spans[p->count++] = (struct resp_span){offset, size};
    return true;
}

enum line { LINE_OK, LINE_MORE, LINE_LONG, LINE_BAD };

/* The number between in[at] and the line end; *at moves behind it. */
static enum line line_number(struct kv_slice in, size_t *at, int64_t *out)
{
    enum { NUMBER_BYTES_MAX = 20, LINE_BYTES_MAX = 64 };
    size_t i = *at;
    int64_t number = 0;
    /* Nearly all numbers are short and positive: no second pass over them. */
    while (i < in.size && i - *at < 10 && in.data[i] >= '0' && in.data[i] <= '9')
        number = number * 10 + (in.data[i++] - '0');
    if (i + 1 < in.size && i > *at && in.data[i] == '\r' && (in.data[*at] != '0' || i - *at == 1)) {
        if (in.data[i + 1] != '\n') return LINE_BAD;
        *at = i + 2;
        *out = number;
        return LINE_OK;
    }
    while (i < in.size && in.data[i] != '\r' && i - *at <= LINE_BYTES_MAX)
        i++;
    if (i < in.size && in.data[i] != '\r') return LINE_LONG;
    if (i + 1 >= in.size) return LINE_MORE;
    if (i - *at > NUMBER_BYTES_MAX || in.data[i + 1] != '\n' ||
        !kv_parse_i64(kv_slice(in.data + *at, i - *at), out))
        return LINE_BAD;
    *at = i + 2;
    return LINE_OK;
}

/* ---- refused commands ---- */

static enum resp_parsed discard_start(struct resp_parser *p, uint64_t bulk_bytes, size_t limit,
                                      const char *what, const char *setting)
{
    snprintf(p->error, sizeof p->error,
             "ERR %s exceeds the maximum of %zu bytes (%s) (applied: no)", what, limit, setting);
    p->discarding = true;
    p->discard_bytes = bulk_bytes + 2;
    return RESP_MORE;
}

/* Drops what has come of the command; only `want - count` and the bytes still owed stay. */
static enum resp_parsed discard(struct resp_parser *p, struct kv_slice in, size_t *consumed)
{
    for (;;) {
        uint64_t left = in.size - p->at;
        uint64_t skipped = p->discard_bytes < left ? p->discard_bytes : left;
        p->at += (size_t)skipped;
        p->discard_bytes -= skipped;
        *consumed += p->at;
        in = kv_slice(in.data + p->at, in.size - p->at);
        p->at = 0;
        if (p->discard_bytes > 0) return RESP_MORE;
        if (++p->count == p->want) return RESP_REFUSED;

        int64_t size;
        size_t at = 1;
        if (in.size == 0) {
            p->count--;
            return RESP_MORE;
        }
        if (in.data[0] != '$') return broken(p, "expected '$'");
        switch (line_number(in, &at, &size)) {
        case LINE_MORE: p->count--; return RESP_MORE;
        case LINE_LONG: return broken(p, "too big bulk count string");
        case LINE_BAD: return broken(p, "invalid bulk length");
        case LINE_OK: break;
        }
        if (size < 0 || size > RESP_BULK_BYTES_MAX) return broken(p, "invalid bulk length");
        p->at = at;
        p->discard_bytes = (uint64_t)size + 2;
    }
}

/* ---- "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" ---- */

static enum resp_parsed bulks(struct resp_parser *p, const struct resp_limits *limits,
                              struct kv_slice in, size_t *consumed)
{
    size_t bulk_max = (size_t)limits->value_bytes_max + RESP_BULK_SLACK_BYTES;
    while (p->count < p->want) {
        size_t at = p->at;
        int64_t size;
        if (at == in.size) return RESP_MORE;
        if (in.data[at] != '$') {
            char text[32];
            uint8_t got = in.data[at];
            snprintf(text, sizeof text, "expected '$', got '%c'",
                     got == '\r' || got == '\n' ? ' ' : got);
            return broken(p, text);
        }
        at++;
        switch (line_number(in, &at, &size)) {
        case LINE_MORE: return RESP_MORE;
        case LINE_LONG: return broken(p, "too big bulk count string");
        case LINE_BAD: return broken(p, "invalid bulk length");
        case LINE_OK: break;
        }
        if (size < 0 || size > RESP_BULK_BYTES_MAX) return broken(p, "invalid bulk length");
        if (limits->is_stranger && size > RESP_STRANGER_BYTES_MAX)
            return broken(p, "unauthenticated bulk length");
        bool is_large = (uint64_t)size > bulk_max;
        if (is_large || at + (uint64_t)size > RESP_COMMAND_BYTES_MAX) {
            p->at = at;
            if (is_large)
                discard_start(p, (uint64_t)size, limits->value_bytes_max, "argument",
                              "limit.value");
            else
                discard_start(p, (uint64_t)size, RESP_COMMAND_BYTES_MAX, "command", "fixed");
            return discard(p, in, consumed);
        }
        if (in.size - at < (size_t)size + 2) return RESP_MORE;
        if (in.data[at + (size_t)size] != '\r' || in.data[at + (size_t)size + 1] != '\n')
            return broken(p, "expected a line end behind a bulk");
        if (!span_add(p, at, (size_t)size)) return broken(p, "out of memory");
        p->at = at + (size_t)size + 2;
    }
    for (uint32_t i = 0; i < p->count; i++)
        p->args[i] = kv_slice(in.data + p->spans[i].offset, p->spans[i].size);
    return RESP_PARSED;
}

static enum resp_parsed header(struct resp_parser *p, const struct resp_limits *limits,
                               struct kv_slice in, size_t *consumed)
{
    int64_t count;
    size_t at = 1;
    switch (line_number(in, &at, &count)) {
    case LINE_MORE: return RESP_MORE;
    case LINE_LONG: return broken(p, "too big mbulk count string");
    case LINE_BAD: return broken(p, "invalid multibulk length");
    case LINE_OK: break;
    }
    if (count > KV_ARGS_MAX) return broken(p, "invalid multibulk length");
    if (limits->is_stranger && count > RESP_STRANGER_ARGS_MAX)
        return broken(p, "unauthenticated multibulk length");
    p->at = at;
    if (count <= 0) return RESP_NOTHING;
    p->want = (uint32_t)count;
    return bulks(p, limits, in, consumed);
}

/* ---- "GET k\r\n", typed by hand ---- */

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c = (uint8_t)tolower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static uint8_t unescape(uint8_t c)
{
    switch (c) {
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'b': return '\b';
    case 'a': return '\a';
    default: return c;
    }
}

/* One word at line[*i]; quotes may open anywhere, but a closing one must end the word. */
static bool inline_word(struct resp_parser *p, struct kv_slice line, size_t *i)
{
    size_t start = p->words.size;
    uint8_t quote = 0;
    for (; *i < line.size || quote != 0; (*i)++) {
        if (*i >= line.size) return false; /* the quote stays open */
        uint8_t c = line.data[*i];
        size_t left = line.size - *i;
        if (quote == 0) {
            if (isspace(c) || c == '\0') break;
            if (c == '"' || c == '\'')
                quote = c;
            else
                kv_buf_append_u8(&p->words, c);
        } else if (quote == '"' && c == '\\' && left >= 4 && line.data[*i + 1] == 'x' &&
                   hex_value(line.data[*i + 2]) >= 0 && hex_value(line.data[*i + 3]) >= 0) {
            kv_buf_append_u8(&p->words, (uint8_t)(hex_value(line.data[*i + 2]) * 16 +
                                                  hex_value(line.data[*i + 3])));
            *i += 3;
        } else if (c == '\\' && left >= 2 && (quote == '"' || line.data[*i + 1] == '\'')) {
            (*i)++;
            kv_buf_append_u8(&p->words, quote == '"' ? unescape(line.data[*i]) : '\'');
        } else if (c == quote) {
            quote = 0;
            if (left >= 2 && !isspace(line.data[*i + 1])) return false;
        } else {
            kv_buf_append_u8(&p->words, c);
        }
    }
    return span_add(p, start, p->words.size - start);
}

static enum resp_parsed inline_command(struct resp_parser *p, struct kv_slice in)
{
    const uint8_t *end = memchr(in.data + p->at, '\n', in.size - p->at);
    size_t limit = RESP_INLINE_BYTES_MAX;
    if (end == NULL ? in.size > limit : (size_t)(end - in.data) > limit)
        return broken(p, "too big inline request");
    if (end == NULL) {
        p->at = in.size;
        return RESP_MORE;
    }
    struct kv_slice line = kv_slice(in.data, (size_t)(end - in.data));
    p->at = line.size + 1;
    if (line.size > 0 && line.data[line.size - 1] == '\r') line.size--;
    kv_buf_clear(&p->words);
    p->count = 0;
    for (size_t i = 0;;) {
        while (i < line.size && isspace(line.data[i]))
            i++;
        if (i >= line.size || line.data[i] == '\0') break;
        if (!inline_word(p, line, &i)) return broken(p, "unbalanced quotes in request");
    }
    if (p->words.failed) return broken(p, "out of memory");
    if (p->count == 0) return RESP_NOTHING;
    for (uint32_t i = 0; i < p->count; i++)
        p->args[i] = kv_slice(kv_buf_slice(&p->words).data + p->spans[i].offset, p->spans[i].size);
    return RESP_PARSED;
}

enum resp_parsed resp_parse(struct resp_parser *p, const struct resp_limits *limits,
                            struct kv_slice in, size_t *consumed)
{
    assert(in.size > 0);
    *consumed = 0;
    if (p->discarding) return discard(p, in, consumed);
    if (p->want > 0) return bulks(p, limits, in, consumed);
    if (in.data[0] == '*') return header(p, limits, in, consumed);
    return inline_command(p, in);
}

#include "tools/check/history.h"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

/* EDN as Jepsen writes it, into JSON values: enough of the format, strictly. */
enum { EDN_DEPTH_MAX = 64, EDN_TOKEN_BYTES_MAX = 4096 };

struct edn {
    const char *at, *end;
    uint32_t *line;
    char *why;
    size_t why_size;
    uint32_t depth;
};

static json_t *edn_value(struct edn *p);

static json_t *edn_fail(struct edn *p, const char *reason)
{
    if (p->why[0] == '\0') snprintf(p->why, p->why_size, "%s", reason);
    return NULL;
}

static void edn_blank(struct edn *p)
{
    while (p->at < p->end) {
        if (*p->at == ';') {
            while (p->at < p->end && *p->at != '\n') p->at++;
        } else if (isspace((unsigned char)*p->at) || *p->at == ',') {
            *p->line += *p->at == '\n';
            p->at++;
        } else {
            break;
        }
    }
}

static json_t *edn_sequence(struct edn *p, char close)
{
    json_t *array = json_array();
    for (;;) {
        edn_blank(p);
        if (p->at >= p->end) {
            json_decref(array);
            return edn_fail(p, "a list is not closed");
        }
        if (*p->at == close) {
            p->at++;
            return array;
        }
        json_t *item = edn_value(p);
        if (item == NULL || json_array_append_new(array, item) != 0) {
            json_decref(array);
            return edn_fail(p, "out of memory");
        }
    }
}

static json_t *edn_map(struct edn *p)
{
    json_t *map = json_object();
    for (;;) {
        edn_blank(p);
        if (p->at < p->end && *p->at == '}') {
            p->at++;
            return map;
        }
        json_t *key = p->at < p->end ? edn_value(p) : edn_fail(p, "a map is not closed");
        if (key == NULL) break;
        edn_blank(p);
        json_t *value = p->at < p->end ? edn_value(p) : edn_fail(p, "a map is not closed");
        char *name = json_is_string(key) ? strdup(json_string_value(key))
                                         : json_dumps(key, JSON_ENCODE_ANY | JSON_COMPACT);
        json_decref(key);
        bool good = value != NULL && name != NULL && json_object_set_new(map, name, value) == 0;
        free(name);
        if (!good) break;
    }
    json_decref(map);
    return edn_fail(p, "a key or value of a map is not UTF-8");
}

static json_t *edn_string(struct edn *p)
{
    struct kv_buf text;
    kv_buf_init(&text, HISTORY_LINE_BYTES_MAX);
    json_t *out = NULL;
    while (p->at < p->end && *p->at != '"') {
        char c = *p->at++;
        *p->line += c == '\n';
        if (c == '\\') {
            if (p->at >= p->end) break;
            c = *p->at++;
            switch (c) {
            case 'n': c = '\n'; break;
            case 't': c = '\t'; break;
            case 'r': c = '\r'; break;
            case '"':
            case '\\': break;
            default:
                kv_buf_free(&text);
                return edn_fail(p, "an unknown escape in a string");
            }
        }
        kv_buf_append_u8(&text, (uint8_t)c);
    }
    if (p->at < p->end && !text.failed) {
        p->at++;
        out = json_stringn(text.size == 0 ? "" : (const char *)kv_buf_slice(&text).data, text.size);
    }
    kv_buf_free(&text);
    return out != NULL ? out : edn_fail(p, "a string is not closed or not UTF-8");
}

static bool token_char(char c)
{
    return isalnum((unsigned char)c) || strchr("*+!-_?$%&=<>.:/#'|", c) != NULL;
}

static json_t *edn_atom(struct edn *p)
{
    char token[EDN_TOKEN_BYTES_MAX];
    size_t size = 0;
    while (p->at < p->end && *p->at != '\0' && token_char(*p->at) && size + 1 < sizeof token)
        token[size++] = *p->at++;
    token[size] = '\0';
    if (size == 0 || size + 1 == sizeof token) return edn_fail(p, "not an EDN value");
    if (strcmp(token, "nil") == 0) return json_null();
    if (strcmp(token, "true") == 0) return json_true();
    if (strcmp(token, "false") == 0) return json_false();
    if (token[0] == ':') return json_string(token + 1);
    bool number = isdigit((unsigned char)token[0]) ||
                  ((token[0] == '-' || token[0] == '+') && isdigit((unsigned char)token[1]));
    if (!number) return json_string(token);
    char *rest;
    errno = 0;
    long long integer = strtoll(token, &rest, 10);
    if (*rest == 'N') rest++;
    if (*rest == '\0' && errno == 0) return json_integer(integer);
    errno = 0;
    double real = strtod(token, &rest);
    if (*rest == '\0' && errno == 0) return json_real(real);
    return edn_fail(p, "a number out of range");
}

static json_t *edn_value(struct edn *p)
{
    edn_blank(p);
    if (p->at >= p->end) return edn_fail(p, "a value is missing");
    if (++p->depth > EDN_DEPTH_MAX) return edn_fail(p, "nested too deeply");
    json_t *out;
    switch (*p->at) {
    case '{': p->at++; out = edn_map(p); break;
    case '[': p->at++; out = edn_sequence(p, ']'); break;
    case '(': p->at++; out = edn_sequence(p, ')'); break;
    case '"': p->at++; out = edn_string(p); break;
    case '#':
        p->at++;
        if (p->at < p->end && *p->at == '{') {
            p->at++;
            out = edn_sequence(p, '}');
        } else { /* a tag, as in #jepsen.history.Op{...}: only the value counts */
            while (p->at < p->end && *p->at != '\0' && token_char(*p->at)) p->at++;
            out = edn_value(p);
        }
        break;
    default: out = edn_atom(p); break;
    }
    p->depth--;
    return out;
}

json_t *edn_parse(const char **at, const char *end, uint32_t *line, char *why, size_t why_size)
{
    struct edn p = {.at = *at, .end = end, .line = line, .why = why, .why_size = why_size};
    json_t *out = edn_value(&p);
    *at = p.at;
    return out;
}

static void edn_write_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '"': fputs("\\\"", out); break;
        case '\\': fputs("\\\\", out); break;
        case '\n': fputs("\\n", out); break;
        case '\t': fputs("\\t", out); break;
        case '\r': fputs("\\r", out); break;
        default: fputc(*text, out);
        }
    }
    fputc('"', out);
}

void edn_write(FILE *out, const json_t *value)
{
    size_t index;
    const char *name;
    json_t *item;
    if (value == NULL || json_is_null(value)) {
        fputs("nil", out);
    } else if (json_is_string(value)) {
        edn_write_string(out, json_string_value(value));
    } else if (json_is_array(value)) {
        fputc('[', out);
        json_array_foreach(value, index, item)
        {
            if (index > 0) fputc(' ', out);
            edn_write(out, item);
        }
        fputc(']', out);
    } else if (json_is_object(value)) {
        fputc('{', out);
        json_object_foreach((json_t *)(uintptr_t)value, name, item)
        {
            edn_write_string(out, name);
            fputc(' ', out);
            edn_write(out, item);
            fputc(' ', out);
        }
        fputc('}', out);
    } else if (json_dumpf(value, out, JSON_ENCODE_ANY) != 0) {
        fputs("nil", out);
    }
}

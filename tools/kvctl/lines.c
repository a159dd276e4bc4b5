#include "tools/kvctl/lines.h"

#include <jansson.h>

#include "client/base/text.h"

enum lines_format lines_format_of(const char *path)
{
    static const char *const json[] = {".jsonl", ".ndjson", ".json"};
    size_t size = strlen(path);
    for (size_t i = 0; i < sizeof json / sizeof json[0]; i++)
        if (size > strlen(json[i]) && strcmp(path + size - strlen(json[i]), json[i]) == 0) return LINES_JSONL;
    return LINES_TSV;
}

enum kv_err lines_next(struct lines_reader *r, struct kv_slice *line)
{
    size_t searched = 0;
    kv_buf_consume(&r->buf, r->taken);
    r->taken = 0;
    for (;;) {
        struct kv_slice have = kv_buf_slice(&r->buf);
        const uint8_t *end = have.size > searched ? memchr(have.data + searched, '\n', have.size - searched) : NULL;
        size_t size = end != NULL ? (size_t)(end - have.data) : have.size;
        if (end != NULL || (r->at_end && have.size > 0)) {
            r->taken = size + (end != NULL);
            *line = kv_slice(have.data, size);
            if (size > 0 && have.data[size - 1] == '\r') line->size--;
            r->offset += r->taken;
            r->number++;
            return KV_OK;
        }
        if (r->at_end) return KV_NOT_FOUND;
        if (have.size > LINES_BYTES_MAX) return KV_TOO_BIG;
        searched = have.size;
        uint8_t *at = kv_buf_reserve(&r->buf, LINES_CHUNK_BYTES);
        if (at == NULL) return KV_NO_SPACE;
        size_t got = fread(at, 1, LINES_CHUNK_BYTES, r->file);
        kv_buf_commit(&r->buf, got);
        if (got == 0 && ferror(r->file)) return KV_IO;
        r->at_end = got == 0;
    }
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool unescape(struct kv_slice in, struct kv_buf *out)
{
    size_t plain = 0;
    for (size_t i = 0; i < in.size; i++) {
        if (in.data[i] != '\\') continue;
        kv_buf_append(out, in.data + plain, i - plain);
        if (++i == in.size) return false;
        switch (in.data[i]) {
        case 't': kv_buf_append_u8(out, '\t'); break;
        case 'n': kv_buf_append_u8(out, '\n'); break;
        case 'r': kv_buf_append_u8(out, '\r'); break;
        case '\\': kv_buf_append_u8(out, '\\'); break;
        case 'x': {
            int high = i + 2 < in.size ? hex_digit(in.data[i + 1]) : -1;
            int low = high < 0 ? -1 : hex_digit(in.data[i + 2]);
            if (low < 0) return false;
            kv_buf_append_u8(out, (uint8_t)(high * 16 + low));
            i += 2;
            break;
        }
        default: return false;
        }
        plain = i + 1;
    }
    if (in.size > plain) kv_buf_append(out, in.data + plain, in.size - plain);
    return true;
}

static struct kv_slice cut(struct kv_slice *rest, bool *more)
{
    const uint8_t *tab = rest->size == 0 ? NULL : memchr(rest->data, '\t', rest->size);
    struct kv_slice cell = kv_slice(rest->data, tab == NULL ? rest->size : (size_t)(tab - rest->data));
    *more = tab != NULL;
    *rest = tab == NULL ? kv_slice(NULL, 0) : kv_slice(tab + 1, rest->size - cell.size - 1);
    return cell;
}

static const char *tsv_parse(struct kv_slice line, struct kv_buf *storage, size_t *key_size, uint64_t *ttl_ms)
{
    bool more;
    struct kv_slice key = cut(&line, &more);
    if (!more) return "not KEY<TAB>VALUE[<TAB>TTL_MS]";
    struct kv_slice value = cut(&line, &more);
    if (!unescape(key, storage)) return "a bad escape in the key (know \\t \\n \\r \\\\ \\xHH)";
    *key_size = storage->size;
    if (!unescape(value, storage)) return "a bad escape in the value (know \\t \\n \\r \\\\ \\xHH)";
    if (!more) return NULL;
    struct kv_slice ttl = cut(&line, &more);
    if (more) return "more than three columns";
    if (ttl.size > 0 && (!kv_parse_u64(ttl, ttl_ms) || *ttl_ms > INT64_MAX)) return "the third column is no time in ms";
    return NULL;
}

static const char *json_bytes(json_t *v, struct kv_buf *storage)
{
    if (json_is_string(v)) {
        kv_buf_append(storage, json_string_value(v), json_string_length(v));
        return NULL;
    }
    json_t *base64 = json_object_get(v, "base64");
    if (!json_is_string(base64) || json_object_size(v) != 1) return "neither a string nor {\"base64\":..}";
    if (!kv_base64_decode(storage, kv_slice(json_string_value(base64), json_string_length(base64))))
        return "bad base64";
    return NULL;
}

static const char *json_parse(struct kv_slice line, struct kv_buf *storage, size_t *key_size, uint64_t *ttl_ms)
{
    json_error_t at;
    json_t *root = json_loadb((const char *)line.data, line.size, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &at);
    const char *why = NULL;
    json_t *key = json_object_get(root, "key"), *value = json_object_get(root, "value");
    json_t *ttl = json_object_get(root, "ttl_ms");
    if (!json_is_object(root)) why = "not a JSON object";
    else if (key == NULL || value == NULL) why = "lacks \"key\" or \"value\"";
    else why = json_bytes(key, storage);
    if (why == NULL) {
        *key_size = storage->size;
        why = json_bytes(value, storage);
    }
    if (why == NULL && ttl != NULL && !json_is_null(ttl)) {
        if (!json_is_integer(ttl) || json_integer_value(ttl) < 1) why = "\"ttl_ms\" is no time";
        else *ttl_ms = (uint64_t)json_integer_value(ttl);
    }
    json_decref(root);
    return why;
}

enum kv_err lines_parse(enum lines_format format, struct kv_slice line, struct kv_buf *storage,
                        struct lines_row *out, char why[LINES_WHY_BYTES])
{
    size_t key_size = 0;
    kv_buf_clear(storage);
    out->ttl_ms = 0;
    const char *wrong = format == LINES_TSV ? tsv_parse(line, storage, &key_size, &out->ttl_ms)
                                            : json_parse(line, storage, &key_size, &out->ttl_ms);
    snprintf(why, LINES_WHY_BYTES, "%s", wrong != NULL ? wrong : "");
    if (wrong != NULL) return KV_MALFORMED;
    if (storage->failed) return KV_NO_SPACE;
    struct kv_slice all = kv_buf_slice(storage);
    out->key = kv_slice(all.data, key_size);
    out->value = kv_slice(all.data == NULL ? NULL : all.data + key_size, all.size - key_size);
    return KV_OK;
}

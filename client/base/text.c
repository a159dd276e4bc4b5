#include "client/base/text.h"

#include <assert.h>

bool kv_parse_u64(struct kv_slice text, uint64_t *out)
{
    if (text.size == 0 || text.size > 20) return false;
    if (text.data[0] == '0' && text.size > 1) return false;
    uint64_t v = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
        uint64_t digit = (uint64_t)(text.data[i] - '0');
        if (__builtin_mul_overflow(v, UINT64_C(10), &v)) return false;
        if (__builtin_add_overflow(v, digit, &v)) return false;
    }
    *out = v;
    return true;
}

bool kv_parse_i64(struct kv_slice text, int64_t *out)
{
    bool negative = text.size > 0 && text.data[0] == '-';
    if (negative) text = kv_slice(text.data + 1, text.size - 1);
    uint64_t v;
    if (!kv_parse_u64(text, &v)) return false;
    if (negative) {
        if (v == 0 || v > (uint64_t)INT64_MAX + 1) return false;
        *out = v == (uint64_t)INT64_MAX + 1 ? INT64_MIN : -(int64_t)v;
        return true;
    }
    if (v > INT64_MAX) return false;
    *out = (int64_t)v;
    return true;
}

size_t kv_format_i64(int64_t value, char out[21])
{
    char digits[20];
    size_t n = 0, size = 0;
    uint64_t v = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        digits[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    if (value < 0) out[size++] = '-';
    while (n > 0) out[size++] = digits[--n];
    return size;
}

struct text_unit {
    const char *name;
    uint64_t factor;
};

/* "<digits><unit>": the unit is whatever follows the digits, and must be in the table. */
static bool text_parse_unit(const char *text, const struct text_unit *units, size_t count,
                            uint64_t *out)
{
    size_t digits = strspn(text, "0123456789");
    uint64_t v;
    if (!kv_parse_u64(kv_slice(text, digits), &v)) return false;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text + digits, units[i].name) != 0) continue;
        if (__builtin_mul_overflow(v, units[i].factor, &v) || v > INT64_MAX) return false;
        *out = v;
        return true;
    }
    return false;
}

bool kv_parse_size(const char *text, uint64_t *bytes)
{
    static const struct text_unit units[] = {
        {"", 1}, {"KiB", UINT64_C(1) << 10}, {"MiB", UINT64_C(1) << 20},
        {"GiB", UINT64_C(1) << 30}, {"TiB", UINT64_C(1) << 40},
    };
    return text_parse_unit(text, units, sizeof units / sizeof units[0], bytes);
}

bool kv_parse_duration(const char *text, uint64_t *ns)
{
    static const struct text_unit units[] = {
        {"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", UINT64_C(1000000000)},
        {"m", UINT64_C(60) * 1000000000}, {"h", UINT64_C(3600) * 1000000000},
        {"d", UINT64_C(86400) * 1000000000},
    };
    return text_parse_unit(text, units, sizeof units / sizeof units[0], ns);
}

/* The Unicode Standard, table 3-7: the second byte's range depends on the first. */
bool kv_utf8_valid(struct kv_slice s)
{
    size_t i = 0;
    while (i < s.size) {
        uint8_t c = s.data[i++];
        if (c < 0x80) continue;
        size_t more;
        uint8_t low = 0x80, high = 0xBF;
        if (c >= 0xC2 && c <= 0xDF) {
            more = 1;
        } else if (c >= 0xE0 && c <= 0xEF) {
            more = 2;
            if (c == 0xE0) low = 0xA0;  /* overlong below */
            if (c == 0xED) high = 0x9F; /* surrogates above */
        } else if (c >= 0xF0 && c <= 0xF4) {
            more = 3;
            if (c == 0xF0) low = 0x90;
            if (c == 0xF4) high = 0x8F; /* U+10FFFF is the last */
        } else {
            return false;
        }
        if (more > s.size - i) return false;
        if (s.data[i] < low || s.data[i] > high) return false;
        for (size_t k = 1; k < more; k++) {
            if (s.data[i + k] < 0x80 || s.data[i + k] > 0xBF) return false;
        }
        i += more;
    }
    return true;
}

void kv_json_string(struct kv_buf *out, struct kv_slice s)
{
    kv_buf_append_u8(out, '"');
    size_t plain = 0; /* start of the run not yet written */
    for (size_t i = 0; i < s.size; i++) {
        uint8_t c = s.data[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        if (i > plain) kv_buf_append(out, s.data + plain, i - plain);
        plain = i + 1;
        switch (c) {
        case '"': kv_buf_append_text(out, "\\\""); break;
        case '\\': kv_buf_append_text(out, "\\\\"); break;
        case '\n': kv_buf_append_text(out, "\\n"); break;
        case '\r': kv_buf_append_text(out, "\\r"); break;
        case '\t': kv_buf_append_text(out, "\\t"); break;
        default: kv_buf_printf(out, "\\u%04x", c); break;
        }
    }
    if (s.size > plain) kv_buf_append(out, s.data + plain, s.size - plain);
    kv_buf_append_u8(out, '"');
}

void kv_base64_encode(struct kv_buf *out, struct kv_slice s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < s.size; i += 3) {
        size_t n = s.size - i < 3 ? s.size - i : 3;
        uint32_t v = (uint32_t)s.data[i] << 16;
        if (n > 1) v |= (uint32_t)s.data[i + 1] << 8;
        if (n > 2) v |= s.data[i + 2];
        char text[4] = {digits[v >> 18], digits[v >> 12 & 63], n > 1 ? digits[v >> 6 & 63] : '=',
                        n > 2 ? digits[v & 63] : '='};
        kv_buf_append(out, text, sizeof text);
    }
}

static int base64_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+') return 62;
    return c == '/' ? 63 : -1;
}

bool kv_base64_decode(struct kv_buf *out, struct kv_slice text)
{
    if (text.size % 4 != 0) return false;
    if (text.size == 0) return true;
    uint8_t *to = kv_buf_reserve(out, text.size / 4 * 3);
    if (to == NULL) return false;
    size_t size = 0;
    for (size_t i = 0; i < text.size; i += 4) {
        const uint8_t *p = text.data + i;
        bool last = i + 4 == text.size;
        int padding = !last ? 0 : (p[3] == '=') + (p[3] == '=' && p[2] == '=');
        uint32_t v = 0;
        for (int k = 0; k < 4 - padding; k++) {
            int digit = base64_value(p[k]);
            if (digit < 0) return false;
            v |= (uint32_t)digit << (18 - 6 * k);
        }
        /* Bits beyond the last byte must be zero: one text for one value. */
        if ((padding == 1 && (v & 0xFF) != 0) || (padding == 2 && (v & 0xFFFF) != 0)) return false;
        to[size++] = (uint8_t)(v >> 16);
        if (padding < 2) to[size++] = (uint8_t)(v >> 8);
        if (padding < 1) to[size++] = (uint8_t)v;
    }
    kv_buf_commit(out, size);
    return true;
}

void kv_hex_encode(struct kv_buf *out, struct kv_slice s)
{
    static const char digits[] = "0123456789abcdef";
    if (s.size == 0) return;
    uint8_t *to = s.size > SIZE_MAX / 2 ? NULL : kv_buf_reserve(out, s.size * 2);
    if (to == NULL) return;
    for (size_t i = 0; i < s.size; i++) {
        to[2 * i] = (uint8_t)digits[s.data[i] >> 4];
        to[2 * i + 1] = (uint8_t)digits[s.data[i] & 15];
    }
    kv_buf_commit(out, s.size * 2);
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool kv_hex_decode(struct kv_slice text, uint8_t *out, size_t size)
{
    if (text.size / 2 != size || text.size % 2 != 0) return false;
    for (size_t i = 0; i < size; i++) {
        int high = hex_value(text.data[2 * i]), low = hex_value(text.data[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

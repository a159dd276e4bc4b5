#include "tools/kvctl/output.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "client/base/text.h"

void output_json_bytes(struct kv_buf *b, struct kv_slice bytes)
{
    if (kv_utf8_valid(bytes)) {
        kv_json_string(b, bytes);
        return;
    }
    kv_buf_append_text(b, "{\"base64\":\"");
    kv_base64_encode(b, bytes);
    kv_buf_append_text(b, "\"}");
}

uint64_t output_ttl_ms(uint64_t expire_ms, uint64_t wall_ms)
{
    if (expire_ms == 0) return 0;
    return expire_ms > wall_ms ? expire_ms - wall_ms : 1;
}

void output_json_row(struct kv_buf *b, const struct output_row *row, uint64_t wall_ms)
{
    kv_buf_append_text(b, "{\"key\":");
    output_json_bytes(b, row->key);
    kv_buf_append_text(b, ",\"value\":");
    output_json_bytes(b, row->value);
    kv_buf_printf(b, ",\"version\":\"%u:%llu\",\"ttl_ms\":", row->version.epoch,
                  (unsigned long long)row->version.index);
    if (row->expire_ms == 0)
        kv_buf_append_text(b, "null}\n");
    else
        kv_buf_printf(b, "%llu}\n", (unsigned long long)output_ttl_ms(row->expire_ms, wall_ms));
}

void output_escaped(struct kv_buf *b, struct kv_slice bytes)
{
    bool utf8 = kv_utf8_valid(bytes);
    size_t plain = 0; /* start of the bytes that go out as they are */
    for (size_t i = 0; i < bytes.size; i++) {
        uint8_t c = bytes.data[i];
        if (c >= 0x20 && c != 0x7F && c != '\\' && (c < 0x80 || utf8)) continue;
        kv_buf_append(b, bytes.data + plain, i - plain);
        plain = i + 1;
        if (c == '\t') kv_buf_append_text(b, "\\t");
        else if (c == '\n') kv_buf_append_text(b, "\\n");
        else if (c == '\r') kv_buf_append_text(b, "\\r");
        else if (c == '\\') kv_buf_append_text(b, "\\\\");
        else kv_buf_printf(b, "\\x%02x", c);
    }
    if (bytes.size > plain) kv_buf_append(b, bytes.data + plain, bytes.size - plain);
}

void output_tsv_row(struct kv_buf *b, const struct output_row *row, uint64_t wall_ms)
{
    output_escaped(b, row->key);
    kv_buf_append_u8(b, '\t');
    output_escaped(b, row->value);
    if (row->expire_ms != 0)
        kv_buf_printf(b, "\t%llu", (unsigned long long)output_ttl_ms(row->expire_ms, wall_ms));
    kv_buf_append_u8(b, '\n');
}

void output_table_init(struct output_table *t, uint32_t columns, const char *right)
{
    assert(columns <= sizeof t->right / sizeof t->right[0]);
    memset(t, 0, sizeof *t);
    kv_buf_init(&t->cells, 0);
    t->columns = columns;
    for (uint32_t i = 0; i < columns && right[i] != 0; i++) t->right[i] = right[i] == 'r';
}

void output_table_cell(struct output_table *t, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    kv_buf_append(&t->cells, text, strlen(text) + 1);
    t->count++;
}

static uint32_t width_of(const char *text)
{
    uint32_t width = 0;
    for (; *text != 0; text++) width += ((uint8_t)*text & 0xC0) != 0x80; /* UTF-8 continuation */
    return width;
}

void output_table_print(struct output_table *t, struct kv_buf *out)
{
    uint32_t widths[16] = {0};
    assert(t->count % t->columns == 0);
    if (t->cells.failed) out->failed = true;
    const char *cells = (const char *)kv_buf_slice(&t->cells).data, *at = cells;
    uint32_t count = t->cells.failed ? 0 : t->count;
    assert(at != NULL || count == 0);
    for (uint32_t i = 0; i < count; i++, at += strlen(at) + 1)
        if (width_of(at) > widths[i % t->columns]) widths[i % t->columns] = width_of(at);
    at = cells;
    for (uint32_t i = 0; i < count; i++, at += strlen(at) + 1) {
        uint32_t column = i % t->columns;
        bool last = column + 1 == t->columns;
        int pad = (int)(widths[column] - width_of(at));
        if (t->right[column]) kv_buf_printf(out, "%*s", pad, "");
        kv_buf_append_text(out, at);
        if (!t->right[column] && !last) kv_buf_printf(out, "%*s", pad, "");
        if (!last) kv_buf_append_text(out, "  ");
        if (!last) continue;
        struct kv_slice line = kv_buf_slice(out); /* no blanks before a line's end */
        while (line.size > 0 && line.data[line.size - 1] == ' ') line.size--;
        out->size = line.size;
        kv_buf_append_u8(out, '\n');
    }
    kv_buf_free(&t->cells);
}

#ifndef KVCTL_OUTPUT_H
#define KVCTL_OUTPUT_H
#include "client/base/buf.h"
#include "client/wire/message.h"

/* How rows look outside: JSON objects, TSV lines, table cells. All append to a buffer. */
struct output_row {
    struct kv_slice key, value;
    struct kv_version version;
    uint64_t expire_ms; /* absolute; 0: never */
};
/* A JSON string, or {"base64":".."} if the bytes are not UTF-8. */
void output_json_bytes(struct kv_buf *b, struct kv_slice bytes);
/* {"key":..,"value":..,"version":"E:I","ttl_ms":N|null} and a newline. */
void output_json_row(struct kv_buf *b, const struct output_row *row, uint64_t wall_ms);
/* Bytes with \t \n \r \\ and \xHH for all that would break a line or a terminal. */
void output_escaped(struct kv_buf *b, struct kv_slice bytes);
/* key TAB value [TAB ttl_ms] and a newline, escaped. */
void output_tsv_row(struct kv_buf *b, const struct output_row *row, uint64_t wall_ms);
uint64_t output_ttl_ms(uint64_t expire_ms, uint64_t wall_ms); /* at least 1 while there is a deadline */

/* A table: cells row by row, then printed with aligned columns and a header. */
struct output_table {
    struct kv_buf cells; /* NUL-terminated texts */
    uint32_t columns, count;
    bool right[16]; /* columns aligned to the right */
};
void output_table_init(struct output_table *t, uint32_t columns, const char *right); /* "..r.": r = right */
void output_table_cell(struct output_table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void output_table_print(struct output_table *t, struct kv_buf *out); /* and frees it */
#endif

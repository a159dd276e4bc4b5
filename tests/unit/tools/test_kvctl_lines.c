/* Rows outside: JSON and TSV written by kvctl, read back by it, and held against the schema that
 * tools/README.md prints. */
#include "tests/unit/unit.h"
#include "tools/kvctl/journey.c"
#include "tools/kvctl/lines.c"
#include "tools/kvctl/output.c"

#include <stdlib.h>

static struct kv_buf out, storage;

static void setup(void)
{
    kv_buf_init(&out, 0);
    kv_buf_init(&storage, 0);
}

static void teardown(void)
{
    kv_buf_free(&out);
    kv_buf_free(&storage);
}

static const struct kv_slice samples[] = {
    {(const uint8_t *)"", 0}, {(const uint8_t *)"plain", 5}, {(const uint8_t *)"tab\there\nand\rthere\\", 20}, {(const uint8_t *)"\0nul\0", 5}, {(const uint8_t *)"gr\xc3\xbc\xc3\x9f", 7}, {(const uint8_t *)"\xff\xfe\x80", 3}, {(const uint8_t *)"\"quoted\" {\"base64\":1}", 21}, {(const uint8_t *)"\x7f\x1b[2J", 5}, {(const uint8_t *)"\\x41", 4}};
enum { SAMPLES = sizeof samples / sizeof samples[0] };

static void round_trip(enum lines_format format)
{
    char why[LINES_WHY_BYTES];
    for (size_t k = 0; k < SAMPLES; k++)
        for (size_t v = 0; v < SAMPLES; v++) {
            struct output_row row = {samples[k], samples[v], {3, 77}, v % 2 == 0 ? 0 : 5000};
            struct lines_row back;
            kv_buf_clear(&out);
            if (format == LINES_JSONL) output_json_row(&out, &row, 4000);
            else output_tsv_row(&out, &row, 4000);
            struct kv_slice line = kv_buf_slice(&out);
            ck_assert_uint_eq(line.data[line.size - 1], '\n');
            line.size--;
            ck_assert_ptr_null(memchr(line.data, '\n', line.size));
            ck_assert_int_eq(lines_parse(format, line, &storage, &back, why), KV_OK);
            ck_assert(kv_slice_eq(back.key, samples[k]));
            ck_assert(kv_slice_eq(back.value, samples[v]));
            ck_assert_uint_eq(back.ttl_ms, v % 2 == 0 ? 0 : 1000);
        }
}

START_TEST(tsv_gives_back_every_byte)
{
    round_trip(LINES_TSV);
}
END_TEST

START_TEST(json_gives_back_every_byte)
{
    round_trip(LINES_JSONL);
}
END_TEST

START_TEST(malformed_lines_are_named)
{
    static const struct {
        enum lines_format format;
        const char *line, *why;
    } bad[] = {{LINES_TSV, "no tab", "KEY<TAB>VALUE"},
               {LINES_TSV, "k\\q\tv", "escape in the key"},
               {LINES_TSV, "k\tv\\", "escape in the value"},
               {LINES_TSV, "k\tv\\x4", "escape in the value"},
               {LINES_TSV, "k\tv\tsoon", "no time"},
               {LINES_TSV, "k\tv\t1\t2", "three columns"},
               {LINES_JSONL, "", "not a JSON object"},
               {LINES_JSONL, "[1]", "not a JSON object"},
               {LINES_JSONL, "{\"key\":\"k\"", "not a JSON object"},
               {LINES_JSONL, "{\"key\":\"k\"}", "lacks"},
               {LINES_JSONL, "{\"key\":\"k\",\"value\":1}", "neither a string"},
               {LINES_JSONL, "{\"key\":\"k\",\"value\":{\"base64\":\"?\"}}", "bad base64"},
               {LINES_JSONL, "{\"key\":\"k\",\"value\":{\"base64\":\"AA==\",\"x\":1}}", "neither a string"},
               {LINES_JSONL, "{\"key\":\"k\",\"key\":\"l\",\"value\":\"v\"}", "not a JSON object"},
               {LINES_JSONL, "{\"key\":\"k\",\"value\":\"v\",\"ttl_ms\":-1}", "no time"},
               {LINES_JSONL, "{\"key\":\"k\",\"value\":\"v\",\"ttl_ms\":\"1\"}", "no time"}};
    char why[LINES_WHY_BYTES];
    struct lines_row row;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(lines_parse(bad[i].format, kv_str(bad[i].line), &storage, &row, why), KV_MALFORMED);
        ck_assert_msg(strstr(why, bad[i].why) != NULL, "%s: %s", bad[i].line, why);
    }
}
END_TEST

START_TEST(lines_are_read_with_their_offsets)
{
    static const char text[] = "one\r\n\ntwo\nlast";
    static const struct {
        const char *line;
        uint64_t offset;
    } expected[] = {{"one", 5}, {"", 6}, {"two", 10}, {"last", 14}};
    char copy[sizeof text];
    memcpy(copy, text, sizeof text);
    struct lines_reader r = {.file = fmemopen(copy, sizeof text - 1, "r")};
    struct kv_slice line;
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(lines_next(&r, &line), KV_OK);
        ck_assert(kv_slice_eq(line, kv_str(expected[i].line)));
        ck_assert_uint_eq(r.offset, expected[i].offset);
        ck_assert_uint_eq(r.number, i + 1);
    }
    ck_assert_int_eq(lines_next(&r, &line), KV_NOT_FOUND);
    ck_assert_int_eq(lines_next(&r, &line), KV_NOT_FOUND);
    fclose(r.file);
    kv_buf_free(&r.buf);
}
END_TEST

START_TEST(a_long_file_is_read_in_bounded_memory)
{
    FILE *f = tmpfile();
    struct lines_reader r = {.file = f};
    struct kv_slice line;
    uint64_t lines = 0, bytes = 0;
    for (int i = 0; i < 200000; i++) fprintf(f, "%d\tvalue of a certain length\n", i);
    rewind(f);
    while (lines_next(&r, &line) == KV_OK) {
        lines++;
        bytes += line.size + 1;
    }
    ck_assert_uint_eq(lines, 200000);
    ck_assert_uint_eq(bytes, (uint64_t)ftell(f));
    ck_assert_uint_eq(r.offset, bytes);
    ck_assert_uint_lt(r.buf.capacity, 1 << 20);
    fclose(f);
    kv_buf_free(&r.buf);
}
END_TEST

START_TEST(formats_by_name)
{
    ck_assert_int_eq(lines_format_of("a.jsonl"), LINES_JSONL);
    ck_assert_int_eq(lines_format_of("dir.json/a.ndjson"), LINES_JSONL);
    ck_assert_int_eq(lines_format_of("dir.json/a.tsv"), LINES_TSV);
    ck_assert_int_eq(lines_format_of(".json"), LINES_TSV);
    ck_assert_int_eq(lines_format_of("-"), LINES_TSV);
}
END_TEST

START_TEST(a_table_is_aligned)
{
    struct output_table t;
    output_table_init(&t, 3, "r..");
    static const char *const cells[] = {"N", "NAME", "", "1", "\xc3\xbc", "x", "100", "longer", ""};
    for (int i = 0; i < 9; i++) output_table_cell(&t, "%s", cells[i]);
    output_table_print(&t, &out);
    kv_buf_append_u8(&out, 0);
    ck_assert_str_eq((const char *)kv_buf_slice(&out).data, "  N  NAME\n  1  \xc3\xbc       x\n100  longer\n");
}
END_TEST

/* ---- FILE.kvprogress ---- */

START_TEST(a_journey_is_kept_and_found_again)
{
    char path[64], why[JOURNEY_WHY_BYTES];
    unit_temporary(path, sizeof path, "kvctl-journey");
    struct journey j = {.offset = 1ull << 40, .sequence = 12345, .client = {1, 2}, .cluster = {3}, .head = 0xF00Du << 8, .head_bytes = 4096};
    struct journey back;
    memset(&back, 0, sizeof back);
    close(mkstemp(path));
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(journey_load(path, &back, why), KV_NOT_FOUND);
    ck_assert_int_eq(journey_save(path, &j, why), KV_OK);
    ck_assert_int_eq(journey_load(path, &back, why), KV_OK);
    ck_assert_uint_eq(back.offset, j.offset);
    ck_assert_uint_eq(back.sequence, j.sequence);
    ck_assert_uint_eq(back.head, j.head);
    ck_assert_uint_eq(back.head_bytes, j.head_bytes);
    ck_assert_mem_eq(back.client, j.client, 16);
    ck_assert_mem_eq(back.cluster, j.cluster, 16);
    ck_assert_int_eq(truncate(path, 20), 0); /* what a rename would never leave */
    ck_assert_int_eq(journey_load(path, &back, why), KV_MALFORMED);
    ck_assert_ptr_nonnull(strstr(why, path));
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(journey_save("/nowhere/at/all", &j, why), KV_IO);
}
END_TEST

/* ---- the schema ---- */

/* The part of JSON Schema that tools/README.md uses. Fails the test with the path of what is wrong. */
static bool valid(json_t *schema, json_t *v);

static bool type_is(const char *type, json_t *v)
{
    if (strcmp(type, "object") == 0) return json_is_object(v);
    if (strcmp(type, "string") == 0) return json_is_string(v);
    if (strcmp(type, "integer") == 0) return json_is_integer(v);
    if (strcmp(type, "null") == 0) return json_is_null(v);
    ck_abort_msg("the schema uses type %s, the test does not know it", type);
}

static bool type_valid(json_t *type, json_t *v)
{
    size_t i;
    json_t *t;
    if (type == NULL) return true;
    if (json_is_string(type)) return type_is(json_string_value(type), v);
    json_array_foreach(type, i, t) if (type_is(json_string_value(t), v)) return true;
    return false;
}

/* Only what the schema writes: digits, colon. */
static bool pattern_valid(const char *pattern, const char *text)
{
    unsigned epoch;
    unsigned long long index;
    char rest;
    ck_assert_str_eq(pattern, "^[0-9]+:[0-9]+$");
    return sscanf(text, "%u:%llu%c", &epoch, &index, &rest) == 2;
}

static bool valid(json_t *schema, json_t *v)
{
    const char *name;
    json_t *s, *choices = json_object_get(schema, "oneOf"), *required = json_object_get(schema, "required");
    json_t *properties = json_object_get(schema, "properties"), *pattern = json_object_get(schema, "pattern");
    json_t *minimum = json_object_get(schema, "minimum");
    size_t i, matches = 0;
    if (choices != NULL) {
        json_array_foreach(choices, i, s) matches += valid(s, v);
        return matches == 1;
    }
    if (!type_valid(json_object_get(schema, "type"), v)) return false;
    if (pattern != NULL && !pattern_valid(json_string_value(pattern), json_string_value(v))) return false;
    if (minimum != NULL && json_is_integer(v) && json_integer_value(v) < json_integer_value(minimum)) return false;
    json_array_foreach(required, i, s) if (json_object_get(v, json_string_value(s)) == NULL) return false;
    if (json_is_object(v) && json_is_false(json_object_get(schema, "additionalProperties"))) {
        json_t *member;
        json_object_foreach(v, name, member) if (json_object_get(properties, name) == NULL) return false;
    }
    json_object_foreach(properties, name, s)
    {
        json_t *member = json_object_get(v, name);
        if (member != NULL && !valid(s, member)) return false;
    }
    return true;
}

static json_t *schema_read(void)
{
    FILE *f = fopen("tools/README.md", "rb");
    ck_assert_msg(f != NULL, "run from the top of the repository");
    struct lines_reader r = {.file = f};
    struct kv_slice line;
    struct kv_buf text;
    bool inside = false;
    kv_buf_init(&text, 0);
    while (lines_next(&r, &line) == KV_OK) {
        if (kv_slice_eq(line, kv_str("```json schema"))) inside = true;
        else if (inside && kv_slice_eq(line, kv_str("```"))) break;
        else if (inside) kv_buf_append_slice(&text, line);
    }
    json_error_t at;
    struct kv_slice s = kv_buf_slice(&text);
    ck_assert_msg(s.size > 0, "tools/README.md holds no schema");
    json_t *schema = json_loadb((const char *)s.data, s.size, 0, &at);
    ck_assert_msg(schema != NULL, "the schema does not parse: %s", at.text);
    kv_buf_free(&text);
    kv_buf_free(&r.buf);
    fclose(f);
    return schema;
}

START_TEST(rows_follow_the_schema_of_the_readme)
{
    json_t *schema = schema_read();
    for (size_t k = 0; k < SAMPLES; k++) {
        json_error_t at;
        struct output_row row = {samples[k], samples[SAMPLES - 1 - k], {1, k}, k % 2 == 0 ? 0 : 10};
        kv_buf_clear(&out);
        output_json_row(&out, &row, 20); /* also past its deadline: never below 1 */
        struct kv_slice s = kv_buf_slice(&out);
        json_t *v = json_loadb((const char *)s.data, s.size, JSON_ALLOW_NUL, &at);
        ck_assert_ptr_nonnull(v);
        ck_assert_msg(valid(schema, v), "%.*s", (int)s.size, (const char *)s.data);
        json_decref(v);
    }
    static const char *const bad[] = {"{\"key\":\"k\",\"value\":\"v\",\"version\":\"1:1\"}",
                                      "{\"key\":1,\"value\":\"v\",\"version\":\"1:1\",\"ttl_ms\":null}",
                                      "{\"key\":\"k\",\"value\":\"v\",\"version\":\"1\",\"ttl_ms\":null}",
                                      "{\"key\":\"k\",\"value\":\"v\",\"version\":\"1:1\",\"ttl_ms\":0}",
                                      "{\"key\":\"k\",\"value\":\"v\",\"version\":\"1:1\",\"ttl_ms\":1,\"more\":1}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) { /* so that the check can fail */
        json_t *v = json_loads(bad[i], 0, NULL);
        ck_assert_msg(!valid(schema, v), "%s", bad[i]);
        json_decref(v);
    }
    json_decref(schema);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kvctl lines");
    TCase *t = tcase_create("lines");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, tsv_gives_back_every_byte);
    tcase_add_test(t, json_gives_back_every_byte);
    tcase_add_test(t, malformed_lines_are_named);
    tcase_add_test(t, lines_are_read_with_their_offsets);
    tcase_add_test(t, a_long_file_is_read_in_bounded_memory);
    tcase_add_test(t, formats_by_name);
    tcase_add_test(t, a_table_is_aligned);
    tcase_add_test(t, a_journey_is_kept_and_found_again);
    tcase_add_test(t, rows_follow_the_schema_of_the_readme);
    suite_add_tcase(suite, t);
    return unit_finish(suite);
}

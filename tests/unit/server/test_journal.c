#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "server/journal.h"
#include "tests/unit/unit.h"

static struct {
    uint64_t wall_ns;
    char text[65536];
    size_t size, lines;
} sink;
static struct journal journal;

static uint64_t wall(void *context)
{
    (void)context;
    return sink.wall_ns;
}

static void take(void *context, struct kv_slice line)
{
    (void)context;
    ck_assert_uint_lt(sink.size + line.size, sizeof sink.text);
    ck_assert_int_eq(line.data[line.size - 1], '\n');
    ck_assert_ptr_eq(memchr(line.data, '\n', line.size), line.data + line.size - 1);
    memcpy(sink.text + sink.size, line.data, line.size);
    sink.size += line.size;
    sink.text[sink.size] = '\0';
    sink.lines++;
}

static void setup(void)
{
    memset(&sink, 0, sizeof sink);
    sink.wall_ns = 1795478400u * UINT64_C(1000000000) + 7000000u; /* 2026-11-24 */
    journal = (struct journal){.node = 3, .wall_ns = wall, .write = take};
    const char *word;
    ck_assert_int_eq(journal_set(&journal, "info", &word), KV_OK);
}

START_TEST(text_is_one_readable_line)
{
    JOURNAL(&journal, raft, INFO, "leader-elected", "group=%u term=%u", 3u, 7u);
    ck_assert_str_eq(sink.text,
                     "2026-11-24T00:00:00.007Z info raft leader-elected group=3 term=7\n");
    sink.size = 0;
    JOURNAL(&journal, main, ERROR, "stopped", "%s", "");
    ck_assert_str_eq(sink.text, "2026-11-24T00:00:00.007Z error main stopped\n");
}
END_TEST

START_TEST(json_is_one_object_a_line)
{
    journal.json = true;
    JOURNAL(&journal, peer, WARN, "refused", "peer=%d cause=\"no \"%s\" here\" key=%s id=007", -2,
            "b\\c\n", "ab12");
    json_error_t error;
    json_t *o = json_loads(sink.text, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(o != NULL, "%s: %s", error.text, sink.text);
    ck_assert_str_eq(json_string_value(json_object_get(o, "time")), "2026-11-24T00:00:00.007Z");
    ck_assert_str_eq(json_string_value(json_object_get(o, "level")), "warn");
    ck_assert_str_eq(json_string_value(json_object_get(o, "module")), "peer");
    ck_assert_str_eq(json_string_value(json_object_get(o, "event")), "refused");
    ck_assert_int_eq(json_integer_value(json_object_get(o, "node")), 3);
    ck_assert_int_eq(json_integer_value(json_object_get(o, "peer")), -2);
    ck_assert_str_eq(json_string_value(json_object_get(o, "key")), "ab12");
    ck_assert_str_eq(json_string_value(json_object_get(o, "id")), "007");
    /* A quote before a space ends a value; the newline could not forge a line. */
    ck_assert_ptr_nonnull(strstr(sink.text, "\\\\x0a"));
    json_decref(o);
}
END_TEST

START_TEST(values_cannot_forge_lines)
{
    JOURNAL(&journal, client, INFO, "name", "name=%s", "a\n2026 error main fake\x7f\xff");
    ck_assert_uint_eq(sink.lines, 1);
    ck_assert_ptr_nonnull(strstr(sink.text, "name=a\\x0a2026 error main fake\\x7f\\xff\n"));
    sink.size = 0;
    JOURNAL(&journal, client, INFO, "name", "name=%s", "gr\xc3\xbc\xc3\x9f");
    ck_assert_ptr_nonnull(strstr(sink.text, "name=gr\xc3\xbc\xc3\x9f\n"));
}
END_TEST

START_TEST(long_lines_are_cut_in_both_formats)
{
    char fill[4096];
    static const char *const worst[] = {"\"", "\n", "x", "a ", "= ", "\" "};
    for (size_t w = 0; w < sizeof worst / sizeof worst[0]; w++) {
        for (size_t i = 0; i + 1 < sizeof fill; i++) fill[i] = worst[w][i % strlen(worst[w])];
        fill[sizeof fill - 1] = '\0';
        for (int json = 0; json < 2; json++) {
            struct journal_site site = {0};
            journal.json = json == 1;
            sink.size = 0;
            journal_line(&journal, &site, JOURNAL_main, JOURNAL_INFO, "long", "%s", fill);
            ck_assert_uint_gt(sink.size, 900);
            if (json == 0) continue;
            json_t *o = json_loads(sink.text, 0, NULL);
            ck_assert_ptr_nonnull(o);
            json_decref(o);
        }
    }
}
END_TEST

START_TEST(levels_by_module)
{
    const char *word;
    ck_assert_int_eq(journal_set(&journal, "warn,raft=debug", &word), KV_OK);
    ck_assert(journal_on(&journal, JOURNAL_raft, JOURNAL_DEBUG));
    ck_assert(!journal_on(&journal, JOURNAL_store, JOURNAL_INFO));
    ck_assert(journal_on(&journal, JOURNAL_store, JOURNAL_WARN));
    JOURNAL(&journal, store, INFO, "quiet", "%s", "");
    ck_assert_uint_eq(sink.lines, 0);

    char text[JOURNAL_TEXT_BYTES];
    journal_text(&journal, text);
    ck_assert_str_eq(text, "main=warn,raft=debug,store=warn,peer=warn,client=warn,admin=warn");
    ck_assert_int_eq(journal_set(&journal, text, &word), KV_OK);
    ck_assert(journal_on(&journal, JOURNAL_raft, JOURNAL_DEBUG));
    ck_assert_int_eq(journal_set(&journal, "error", &word), KV_OK);
    journal_text(&journal, text);
    ck_assert_str_eq(text, "error");

    static const char *const bad[] = {"", "loud", "raft=loud", "rift=debug", "raft=", "=debug",
                                      "info,", "debug,raft"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct journal before = journal;
        ck_assert_int_eq(journal_set(&journal, bad[i], &word), KV_BAD_ARGUMENT);
        ck_assert_mem_eq(before.levels, journal.levels, sizeof journal.levels);
    }
    ck_assert_int_eq(journal_set(&journal, "info,rift=debug", &word), KV_BAD_ARGUMENT);
    ck_assert_str_eq(word, "rift=debug");
}
END_TEST

static void shout(unsigned times)
{
    for (unsigned i = 0; i < times; i++) JOURNAL(&journal, peer, WARN, "again", "i=%u", i);
}

START_TEST(a_repeating_site_is_limited_and_says_so)
{
    shout(50);
    ck_assert_uint_eq(sink.lines, 20);
    JOURNAL(&journal, peer, WARN, "other-site", "%s", "");
    ck_assert_uint_eq(sink.lines, 21);
    sink.wall_ns += 1000000000u;
    sink.size = 0;
    shout(1);
    ck_assert_uint_eq(sink.lines, 23);
    ck_assert_ptr_nonnull(strstr(sink.text, "lines-left-out event=again count=30\n"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("journal");
    TCase *c = tcase_create("journal");
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_add_test(c, text_is_one_readable_line);
    tcase_add_test(c, json_is_one_object_a_line);
    tcase_add_test(c, values_cannot_forge_lines);
    tcase_add_test(c, long_lines_are_cut_in_both_formats);
    tcase_add_test(c, levels_by_module);
    tcase_add_test(c, a_repeating_site_is_limited_and_says_so);
    suite_add_tcase(suite, c);
    return unit_finish(suite);
}

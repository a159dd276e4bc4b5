/* The words and options of kvctl. The program is no library: its pure parts are compiled in here. */
#include "tools/kvctl/args.c"
#include "tests/unit/unit.h"

#include <stdlib.h>

static struct args args;
static char why[ARGS_WHY_BYTES];

static bool parse(int argc, const char *const *argv)
{
    why[0] = 0;
    return args_parse(&args, argc, argv, why);
}
#define PARSE(...) parse((int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), (const char *[]){__VA_ARGS__})

START_TEST(words_and_options_mix)
{
    ck_assert(PARSE("put", "k", "--ttl", "5s", "v", "--if-absent", "-ojson"));
    ck_assert_uint_eq(args.word_count, 3);
    ck_assert_str_eq(args.words[2], "v");
    ck_assert_str_eq(args_get(&args, "ttl"), "5s");
    ck_assert_str_eq(args_get(&args, "if-absent"), "");
    ck_assert_str_eq(args_get(&args, "output"), "json");
    ck_assert_ptr_null(args_get(&args, "prefix"));
}
END_TEST

START_TEST(values_may_be_glued_and_empty)
{
    ck_assert(PARSE("scan", "--prefix=", "--from=a=b", "-o", "raw"));
    ck_assert_str_eq(args_get(&args, "prefix"), "");
    ck_assert_str_eq(args_get(&args, "from"), "a=b");
    ck_assert_str_eq(args_get(&args, "output"), "raw");
}
END_TEST

START_TEST(dashes_that_are_words)
{
    ck_assert(PARSE("incr", "k", "-5"));
    ck_assert_str_eq(args.words[2], "-5");
    ck_assert(PARSE("put", "k", "-"));
    ck_assert_str_eq(args.words[2], "-");
    ck_assert(PARSE("get", "--", "--help"));
    ck_assert_str_eq(args.words[1], "--help");
    ck_assert_ptr_null(args_get(&args, "help"));
}
END_TEST

START_TEST(mistakes_are_named)
{
    ck_assert(!PARSE("get", "k", "--colour"));
    ck_assert_ptr_nonnull(strstr(why, "--colour"));
    ck_assert(!PARSE("put", "k", "v", "--ttl"));
    ck_assert_ptr_nonnull(strstr(why, "--ttl needs"));
    ck_assert(!PARSE("put", "--if-absent=yes"));
    ck_assert_ptr_nonnull(strstr(why, "takes no value"));
    ck_assert(!PARSE("scan", "--limit", "1", "--limit", "2"));
    ck_assert_ptr_nonnull(strstr(why, "twice"));
    ck_assert(!PARSE("get", "-x"));
    ck_assert(!PARSE("get", "--pre", "x")); /* no guessing */
}
END_TEST

START_TEST(too_many_words_are_refused)
{
    static const char *many[ARGS_WORDS_MAX + 1];
    for (int i = 0; i <= ARGS_WORDS_MAX; i++) many[i] = "w";
    ck_assert(parse(ARGS_WORDS_MAX, many));
    ck_assert(!parse(ARGS_WORDS_MAX + 1, many));
}
END_TEST

static char storage[256];
static const char *words[8];

static int split(const char *line)
{
    why[0] = 0;
    return args_split(line, storage, sizeof storage, words, 8, why);
}

START_TEST(a_line_is_cut_as_a_shell_would)
{
    ck_assert_int_eq(split("  put  a\tb \n"), 3);
    ck_assert_str_eq(words[0], "put");
    ck_assert_str_eq(words[2], "b");
    ck_assert_int_eq(split(""), 0);
    ck_assert_int_eq(split("   # all remark"), 0);
    ck_assert_int_eq(split("get k # remark"), 2);
    ck_assert_int_eq(split("put 'a b' \"c d\" e\\ f ''"), 5);
    ck_assert_str_eq(words[1], "a b");
    ck_assert_str_eq(words[2], "c d");
    ck_assert_str_eq(words[3], "e f");
    ck_assert_str_eq(words[4], "");
    ck_assert_int_eq(split("x'y'\"z\""), 1);
    ck_assert_str_eq(words[0], "xyz");
}
END_TEST

START_TEST(escapes_make_any_byte_but_nul)
{
    ck_assert_int_eq(split("\"a\\n\\t\\x7f\\xFF\\\"\" 'a\\n'"), 2);
    ck_assert_str_eq(words[0], "a\n\t\x7f\xff\"");
    ck_assert_str_eq(words[1], "a\\n"); /* '..' is literal */
    ck_assert_int_eq(split("\\x00"), -1);
    ck_assert_int_eq(split("\\x4"), -1);
    ck_assert_int_eq(split("\\q"), -1);
    ck_assert_int_eq(split("a\\"), -1);
}
END_TEST

START_TEST(a_line_that_cannot_be_cut_says_why)
{
    ck_assert_int_eq(split("get 'k"), -1);
    ck_assert_ptr_nonnull(strstr(why, "not closed"));
    ck_assert_int_eq(split("1 2 3 4 5 6 7 8 9"), -1);
    ck_assert_ptr_nonnull(strstr(why, "more than 8"));
    char line[400];
    memset(line, 'a', sizeof line);
    line[sizeof line - 1] = 0;
    ck_assert_int_eq(split(line), -1);
    ck_assert_ptr_nonnull(strstr(why, "longer"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kvctl args");
    TCase *t = tcase_create("args");
    tcase_add_test(t, words_and_options_mix);
    tcase_add_test(t, values_may_be_glued_and_empty);
    tcase_add_test(t, dashes_that_are_words);
    tcase_add_test(t, mistakes_are_named);
    tcase_add_test(t, too_many_words_are_refused);
    tcase_add_test(t, a_line_is_cut_as_a_shell_would);
    tcase_add_test(t, escapes_make_any_byte_but_nul);
    tcase_add_test(t, a_line_that_cannot_be_cut_says_why);
    suite_add_tcase(suite, t);
    return unit_finish(suite);
}

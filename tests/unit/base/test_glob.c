#include "client/base/hash.h"
#include "client/base/text.h"
#include "tests/unit/unit.h"

struct row {
    const char *pattern, *text;
    bool match;
};

START_TEST(patterns_mean_what_they_mean_to_redis)
{
    static const struct row rows[] = {
        {"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "anything", true},
        {"**", "x", true}, {"h?llo", "hello", true}, {"h?llo", "hllo", false},
        {"h*llo", "hllo", true}, {"h*llo", "heeeello", true}, {"h*llo", "heeeell", false},
        {"h[ae]llo", "hello", true}, {"h[ae]llo", "hillo", false}, {"h[^e]llo", "hallo", true},
        {"h[^e]llo", "hello", false}, {"h[a-b]llo", "hbllo", true}, {"h[a-b]llo", "hcllo", false},
        {"h[b-a]llo", "hallo", true}, {"\\*", "*", true}, {"\\*", "a", false},
        {"a\\", "a\\", true}, {"[\\]]", "]", true}, {"[\\]]", "\\", false}, {"[", "a", false},
        {"[a", "a", true}, {"[^", "a", true}, {"[]", "a", false}, {"[]", "]", false},
        {"a[", "a", false}, {"*.*.*", "a.b.c", true}, {"*.*.*", "a.b", false},
        {"a*b*c", "aXbXbXc", true}, {"a*b*c", "aXcXb", false}, {"*a", "aaab", false},
        {"*ab", "aab", true}, {"?", "", false}, {"*?", "", false}, {"*?", "x", true},
        {"x[abc]*z", "xbyyz", true},
        {"[a-]", "-", false}, {"[a-]", "^", true}, /* a range up to "]", and never closed */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ck_assert_msg(kv_glob_match(kv_str(rows[i].pattern), kv_str(rows[i].text), false) ==
                          rows[i].match,
                      "%s against %s", rows[i].pattern, rows[i].text);
    }
}
END_TEST

START_TEST(case_is_ignored_when_asked)
{
    ck_assert(!kv_glob_match(kv_str("ABC"), kv_str("abc"), false));
    ck_assert(kv_glob_match(kv_str("ABC"), kv_str("abc"), true));
    ck_assert(kv_glob_match(kv_str("a[B-D]*"), kv_str("AcX"), true));
    ck_assert(!kv_glob_match(kv_str("a[^B-D]*"), kv_str("AcX"), true));
}
END_TEST

/* The obvious definition, for patterns of letters, '?' and '*'. */
static bool slow_match(const char *p, const char *t)
{
    if (*p == 0) return *t == 0;
    if (*p == '*') return slow_match(p + 1, t) || (*t != 0 && slow_match(p, t + 1));
    return *t != 0 && (*p == '?' || *p == *t) && slow_match(p + 1, t + 1);
}

START_TEST(as_the_definition_says)
{
    uint64_t seed = 11;
    int matches = 0;
    for (int i = 0; i < 50000; i++) {
        char p[9] = {0}, t[9] = {0};
        size_t p_size = kv_random_next(&seed) % 8, t_size = kv_random_next(&seed) % 8;
        for (size_t k = 0; k < p_size; k++) p[k] = "ab*?*"[kv_random_next(&seed) % 5];
        for (size_t k = 0; k < t_size; k++) t[k] = "ab"[kv_random_next(&seed) % 2];
        bool expected = slow_match(p, t);
        matches += expected;
        bool match = kv_glob_match(kv_str(p), kv_str(t), false);
        ck_assert_msg(match == expected, "%s against %s", p, t);
    }
    ck_assert_int_gt(matches, 1000);
}
END_TEST

START_TEST(a_hostile_pattern_ends)
{
    enum { SIZE = 1 << 20 };
    char pattern[200];
    for (size_t i = 0; i + 1 < sizeof pattern; i += 2) memcpy(pattern + i, "*a", 2);
    char *text = malloc(SIZE);
    ck_assert_ptr_nonnull(text);
    memset(text, 'a', SIZE);
    text[SIZE - 1] = 'b';
    ck_assert(!kv_glob_match(kv_slice(pattern, sizeof pattern), kv_slice(text, SIZE), false));
    free(text);
}
END_TEST

UNIT_MAIN("glob", patterns_mean_what_they_mean_to_redis, case_is_ignored_when_asked,
          as_the_definition_says, a_hostile_pattern_ends)

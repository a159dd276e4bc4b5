#ifndef UNIT_H
#define UNIT_H
/* What is the same at the end of every test program: UNIT_MAIN("buf", grows, refuses_beyond_its_limit), or,
 * with fixtures, loops or a longer time, a suite of its own and `return unit_finish(suite);`. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* For mkstemp() or mkdtemp(): where the one who runs the tests wants such files. */
static inline void unit_temporary(char *out, size_t size, const char *name)
{
    const char *parent = getenv("TMPDIR");
    int n = snprintf(out, size, "%s/%s-XXXXXX", parent != NULL && parent[0] != '\0' ? parent : "/tmp", name);
    ck_assert_msg(n > 0 && (size_t)n < size, "TMPDIR is too long");
}

static inline int unit_finish(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV); /* CK_VERBOSITY says how much it tells */
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static inline int unit_run(const char *name, const TTest *const *tests, size_t count)
{
    Suite *suite = suite_create(name);
    TCase *tc = tcase_create(name);
    tcase_set_timeout(tc, 30);
    for (size_t i = 0; i < count; i++) tcase_add_test(tc, tests[i]);
    suite_add_tcase(suite, tc);
    return unit_finish(suite);
}

#define UNIT_MAIN(name, ...)                                          \
    int main(void)                                                    \
    {                                                                 \
        const TTest *const tests[] = {__VA_ARGS__};                   \
        return unit_run(name, tests, sizeof tests / sizeof tests[0]); \
    }
#endif

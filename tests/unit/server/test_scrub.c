#include <check.h>
#include <stdlib.h>

#include "server/scrub.h"

START_TEST(who_differs)
{
    bool majority;
    ck_assert_uint_eq(scrub_judge((uint64_t[]){7, 7, 7}, 3, 3, &majority), 0);
    ck_assert(majority);
    ck_assert_uint_eq(scrub_judge((uint64_t[]){7, 8, 7}, 3, 3, &majority), 2);
    ck_assert(majority);
    ck_assert_uint_eq(scrub_judge((uint64_t[]){8, 7, 7}, 3, 3, &majority), 1);
    ck_assert(majority);
    ck_assert_uint_eq(scrub_judge((uint64_t[]){1, 7, 2, 7, 7}, 5, 5, &majority), 1 | 4);
    ck_assert(majority);
}
END_TEST

START_TEST(nobody_is_touched_without_a_majority_of_all_voters)
{
    bool majority;
    ck_assert_uint_eq(scrub_judge((uint64_t[]){7, 8}, 2, 2, &majority), 0);
    ck_assert(!majority);
    ck_assert_uint_eq(scrub_judge((uint64_t[]){7, 8, 9}, 3, 3, &majority), 0);
    ck_assert(!majority);
    ck_assert_uint_eq(scrub_judge((uint64_t[]){7, 7, 8}, 3, 5, &majority), 0); /* two have not answered */
    ck_assert(!majority);
    ck_assert_uint_eq(scrub_judge(NULL, 0, 3, &majority), 0);
    ck_assert(!majority);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("scrub");
    TCase *t = tcase_create("judge");
    tcase_add_test(t, who_differs);
    tcase_add_test(t, nobody_is_touched_without_a_majority_of_all_voters);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}

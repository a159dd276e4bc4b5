#include "server/clock.h"
#include "tests/unit/unit.h"

/* Time is told as (monotonic ms, wall ms); the wall of the others runs along the monotonic clock. */
enum { HOUR = 3600 * 1000 };
static const uint64_t day = 1700000000000;

static uint64_t believed(struct clock *c, uint64_t now_ms, uint64_t wall_ms)
{
    return clock_believed_ms(c, now_ms * 1000000, wall_ms);
}

static bool judge(struct clock *c, uint64_t now_ms, uint64_t wall_ms, uint64_t other_ms, uint64_t third_ms)
{
    uint64_t others[2] = {other_ms, third_ms};
    return clock_judge(c, others, third_ms == 0 ? 1 : 2, now_ms * 1000000, wall_ms);
}

START_TEST(a_clock_among_its_voters_is_followed)
{
    struct clock c = {0};
    ck_assert_uint_eq(believed(&c, 5, day), day); /* not compared yet */
    ck_assert(!judge(&c, 10, day, day + 300, day - 400));
    ck_assert_uint_eq(believed(&c, 20, day + 12), day + 12);
    ck_assert_uint_eq(believed(&c, 30, day - 200), day - 200); /* a small step */
    ck_assert(!c.alarm);
}
END_TEST

START_TEST(a_monotonic_clock_that_goes_back_does_no_harm)
{
    struct clock c = {0};
    struct clock_stamp s = {0};
    judge(&c, 1000, day, day, day);
    ck_assert_uint_eq(believed(&c, 999, day), day);
    ck_assert_uint_eq(believed(&c, 999, day + HOUR), day);
    ck_assert_uint_eq(clock_stamp_now(&s, day, day - HOUR, 1000000000), day);
    ck_assert_uint_eq(clock_stamp_now(&s, day, day - HOUR, 999000000), day);
}
END_TEST

START_TEST(an_hour_back_is_an_alarm_and_time_goes_on)
{
    struct clock c = {0};
    judge(&c, 1000, day, day, day);
    ck_assert_uint_eq(believed(&c, 1100, day + 100 - HOUR), day + 100); /* before anyone compared */
    ck_assert(judge(&c, 1200, day + 200 - HOUR, day + 200, day + 200));
    ck_assert(c.alarm);
    ck_assert_int_eq((int)c.ahead_ms, -HOUR);
    ck_assert_uint_eq(believed(&c, 5000, day + 4000 - HOUR), day + 4000);
    ck_assert(judge(&c, 6000, day + 5000, day + 5000, day + 5000)); /* set right again */
    ck_assert(!c.alarm);
    ck_assert_uint_eq(believed(&c, 6001, day + 5001), day + 5001);
}
END_TEST

START_TEST(an_hour_ahead_likewise)
{
    struct clock c = {0};
    judge(&c, 1000, day, day, day);
    ck_assert_uint_eq(believed(&c, 1001, day + HOUR), day + 1);
    ck_assert(judge(&c, 1002, day + HOUR, day + 2, day + 2));
    ck_assert_uint_eq(believed(&c, 2000, day + HOUR + 1000), day + 1000);
}
END_TEST

START_TEST(wrong_from_the_start_the_median_is_taken)
{
    struct clock c = {0};
    ck_assert(judge(&c, 1, day - HOUR, day, day + 10));
    ck_assert_uint_eq(believed(&c, 101, day - HOUR + 100), day + 100);
}
END_TEST

START_TEST(of_two_who_disagree_neither_is_believed)
{
    struct clock c = {0};
    judge(&c, 1, day, day, 0);
    ck_assert(judge(&c, 101, day + 100, day + 100 + HOUR, 0));
    ck_assert_int_eq((int)c.ahead_ms, -HOUR / 2);
    ck_assert_uint_eq(believed(&c, 201, day + 200), day + 200);
}
END_TEST

START_TEST(one_of_the_others_is_no_alarm)
{
    struct clock c = {0};
    judge(&c, 1, day, day, day);
    ck_assert(!judge(&c, 101, day + 100, day + 100 - HOUR, day + 100));
    ck_assert(!c.alarm);
}
END_TEST

START_TEST(all_clocks_jump_and_are_followed)
{
    struct clock c = {0};
    clock_judge(&c, NULL, 0, 1000000, day); /* a single node is its own median */
    ck_assert_uint_eq(believed(&c, 2, day + HOUR), day + 1);
    clock_judge(&c, NULL, 0, 3000000, day + HOUR);
    ck_assert_uint_eq(believed(&c, 3, day + HOUR), day + HOUR);
}
END_TEST

START_TEST(stamps_never_go_back_nor_stand_still)
{
    struct clock_stamp s = {0};
    ck_assert_uint_eq(clock_stamp_now(&s, 0, day, 1000000), day);
    ck_assert_uint_eq(clock_stamp_now(&s, day + 50, day + 10, 11000000), day + 50); /* of another leader */
    /* set back an hour: 16 s later 15 s have passed, a read and a write in between change nothing */
    for (uint64_t ms = 12; ms <= 16011; ms++) {
        uint64_t before = s.ms;
        ck_assert_uint_ge(clock_stamp_now(&s, day + 50, day - HOUR + ms, ms * 1000000), before);
    }
    ck_assert_uint_eq(s.ms, day + 50 + 15000);
    ck_assert_uint_eq(clock_stamp_now(&s, day + 50, day + HOUR, UINT64_C(20000000000)), day + HOUR); /* met again */
}
END_TEST

UNIT_MAIN("clock", a_clock_among_its_voters_is_followed, an_hour_back_is_an_alarm_and_time_goes_on, an_hour_ahead_likewise,
          wrong_from_the_start_the_median_is_taken, of_two_who_disagree_neither_is_believed, one_of_the_others_is_no_alarm,
          all_clocks_jump_and_are_followed, stamps_never_go_back_nor_stand_still, a_monotonic_clock_that_goes_back_does_no_harm)

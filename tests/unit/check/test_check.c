#include "client/base/hash.h"
#include "tests/unit/unit.h"
#include "tools/check/check.h"
#include "tools/check/linear.h"
#include <stdlib.h>

/* The parts of the checkers; test_histories.c has the histories written by hand. */
#define DIRECTORY "tests/histories"

static enum check_verdict judge(const char *path, struct check_result *r, struct history **h)
{
    char why[512] = "";
    *h = history_create();
    enum kv_err err = history_load(*h, path, why, sizeof why);
    ck_assert_msg(err == KV_OK, "%s", why);
    check_history(*h, &(struct check_options){0}, r);
    return r->verdict;
}

static void load_text(const char *text, enum kv_err wanted, const char *reason)
{
    char path[64], why[512] = "";
    unit_temporary(path, sizeof path, "kvd-history");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    FILE *f = fdopen(fd, "w");
    fputs(text, f);
    fclose(f);
    struct history *h = history_create();
    enum kv_err err = history_load(h, path, why, sizeof why);
    remove(path);
    ck_assert_msg(err == wanted, "%s: %s", text, why);
    ck_assert_msg(strstr(why, reason) != NULL, "%s: said %s", text, why);
    history_free(h);
}

START_TEST(malformed_is_named_by_line)
{
    load_text("{\"process\":0,\"type\":\"invoke\",\"f\":\"write\",\"value\":1}\n{oops\n", KV_MALFORMED, ":2: ");
    load_text("{\"process\":0,\"type\":\"invoke\",\"f\":\"jump\",\"value\":1}\n", KV_MALFORMED, ":1: f: ");
    load_text("{\"process\":0,\"type\":\"ok\",\"f\":\"write\",\"value\":1}\n", KV_MALFORMED, "has not invoked");
    load_text("{\"process\":0,\"type\":\"invoke\",\"f\":\"cas\",\"value\":1}\n", KV_MALFORMED, "[old, new]");
    load_text("{\"process\":0,\"type\":\"invoke\",\"f\":\"read\"}\n{\"process\":0,\"type\":\"invoke\",\"f\":\"read\"}\n",
              KV_MALFORMED, ":2: process 0 invokes while");
    load_text("{\"process\":0,\"type\":\"invoke\",\"f\":\"write\",\"value\":1}\n"
              "{\"process\":0,\"type\":\"info\",\"f\":\"write\",\"value\":1}\n"
              "{\"process\":0,\"type\":\"invoke\",\"f\":\"read\"}\n",
              KV_MALFORMED, ":3: process 0 invokes while");
    load_text("{:process 0 :type :invoke :f :read}\n\n{:process 0 :type", KV_MALFORMED, ":3: ");
    load_text("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", KV_MALFORMED, "deeply");
    load_text("", KV_OK, "");
}
END_TEST

START_TEST(saved_and_loaded_is_the_same)
{
    struct check_result r, again;
    struct history *h, *copy;
    judge(DIRECTORY "/counter/good/concurrent-writes-one-order.jsonl", &r, &h);
    for (int edn = 0; edn <= 1; edn++) {
        char path[64];
        unit_temporary(path, sizeof path, "kvd-history");
        int fd = mkstemp(path);
        FILE *f = fdopen(fd, "w");
        history_save(h, f, edn == 1);
        fclose(f);
        ck_assert_int_eq(judge(path, &again, &copy), r.verdict);
        remove(path);
        ck_assert_uint_eq(copy->op_count, h->op_count);
        for (uint32_t i = 0; i < h->op_count; i++) {
            ck_assert_uint_eq(copy->ops[i].call, h->ops[i].call);
            ck_assert_uint_eq(copy->ops[i].ret, h->ops[i].ret);
            ck_assert_uint_eq(copy->ops[i].call_ns, h->ops[i].call_ns);
            ck_assert(json_equal(copy->ops[i].value, h->ops[i].value));
        }
        check_result_free(&again);
        history_free(copy);
    }
    check_result_free(&r);
    history_free(h);
}
END_TEST

static bool at_once(void *asked)
{
    ++*(uint32_t *)asked;
    return true;
}

START_TEST(the_limit_means_undecided)
{
    struct history *h;
    struct check_result r;
    judge(DIRECTORY "/register/good/sequential.jsonl", &r, &h);
    check_result_free(&r);
    check_history(h, &(struct check_options){.limit = 2}, &r);
    ck_assert_int_eq(r.verdict, CHECK_UNDECIDED);
    check_result_free(&r);
    uint32_t asked = 0;
    check_history(h, &(struct check_options){.stop = at_once, .stop_arg = &asked}, &r);
    ck_assert_int_eq(r.verdict, CHECK_UNDECIDED);
    ck_assert_uint_eq(asked, 1);
    check_result_free(&r);
    check_history(h, &(struct check_options){.model = CHECK_SET}, &r);
    ck_assert_int_eq(r.verdict, CHECK_UNSUPPORTED);
    history_free(h);
}
END_TEST

/* The definition itself, by trying every order: the judge of the search. */
static bool brute(const struct linear_op *ops, uint32_t n, uint32_t done, int64_t state)
{
    bool open = false;
    for (uint32_t i = 0; i < n; i++) open = open || (!(done >> i & 1) && ops[i].ret != HISTORY_NEVER);
    if (!open) return true;
    for (uint32_t i = 0; i < n; i++) {
        if (done >> i & 1) continue;
        bool first = true;
        for (uint32_t k = 0; k < n && first; k++)
            first = (done >> k & 1) || k == i || ops[k].ret == HISTORY_NEVER || ops[k].ret > ops[i].call;
        int64_t next = state;
        switch (ops[i].f) {
        case LINEAR_READ: first = first && state == ops[i].a; break;
        case LINEAR_WRITE: next = ops[i].a; break;
        case LINEAR_CAS:
            first = first && state == ops[i].a;
            next = ops[i].b;
            break;
        case LINEAR_INCR:
            next = state + ops[i].a;
            first = first && (ops[i].b == LINEAR_NONE || ops[i].b == next);
            break;
        }
        if (first && brute(ops, n, done | 1u << i, next)) return true;
    }
    return false;
}

static uint32_t random_ops(struct linear_op *ops, uint64_t *seed, bool counter)
{
    uint32_t n = 2 + (uint32_t)(kv_random_next(seed) % 7), place[16];
    for (uint32_t i = 0; i < 2 * n; i++) place[i] = i;
    for (uint32_t i = 2 * n; i-- > 1;) { /* calls and returns anywhere, but not too far apart */
        uint32_t k = i - (uint32_t)(kv_random_next(seed) % (i < 5 ? i + 1 : 5)), t = place[i];
        place[i] = place[k];
        place[k] = t;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t x = place[2 * i], y = place[2 * i + 1];
        uint64_t r = kv_random_next(seed);
        ops[i] = (struct linear_op){.call = x < y ? x : y, .ret = x < y ? y : x, .source = i, .b = LINEAR_NONE};
        ops[i].a = (int64_t)(r >> 8 & 3);
        if (counter) {
            ops[i].f = (r & 1) != 0 ? LINEAR_READ : LINEAR_INCR;
            if (ops[i].f == LINEAR_INCR && (r >> 4 & 3) == 0) ops[i].b = (int64_t)(r >> 12 & 3);
        } else {
            ops[i].f = (r & 7) < 4 ? LINEAR_READ : (r & 7) < 6 ? LINEAR_WRITE
                                                               : LINEAR_CAS;
            if (ops[i].f == LINEAR_CAS) ops[i].b = (int64_t)(r >> 10 & 3);
        }
        if (ops[i].f != LINEAR_READ && (r >> 16 & 3) == 0) ops[i].ret = HISTORY_NEVER;
    }
    for (uint32_t i = 1; i < n; i++) { /* in order of call */
        for (uint32_t k = i; k > 0 && ops[k].call < ops[k - 1].call; k--) {
            struct linear_op t = ops[k];
            ops[k] = ops[k - 1];
            ops[k - 1] = t;
        }
    }
    return n;
}

static const struct linear_limit no_limit = {.states = UINT64_MAX};

START_TEST(the_search_agrees_with_the_definition)
{
    uint64_t seed = (uint64_t)_i;
    uint32_t verdicts[2] = {0, 0};
    for (uint32_t round = 0; round < 3000; round++) {
        struct linear_op ops[16];
        uint32_t n = random_ops(ops, &seed, round % 2 == 0);
        uint64_t states = 0;
        bool truth = brute(ops, n, 0, 0);
        ck_assert_int_eq(linear_check(ops, n, 0, &no_limit, &states), truth ? LINEAR_YES : LINEAR_NO);
        verdicts[truth]++;
        if (truth) continue;
        int64_t initial = 0;
        uint32_t small = linear_shrink(ops, n, &initial, &no_limit, &states);
        ck_assert_uint_le(small, n);
        ck_assert_uint_gt(small, 0);
        ck_assert_int_eq(linear_check(ops, small, initial, &no_limit, &states), LINEAR_NO);
    }
    ck_assert_uint_gt(verdicts[0], 100);
    ck_assert_uint_gt(verdicts[1], 100);
}
END_TEST

/* A long, busy, legal register: the search must be quick; one stale read in it must be found
 * and shrunk to a handful of lines. */
START_TEST(a_long_history)
{
    uint64_t seed = 7;
    struct history *h = history_create();
    char why[256];
    enum { CLIENTS = 8,
           STEPS = 20000 };
    int64_t state = 0, next = 1, wrote[CLIENTS] = {0}, saw[CLIENTS];
    enum { IDLE,
           CALLED,
           DONE } phase[CLIENTS] = {0};
    bool reads[CLIENTS];
    for (uint32_t step = 0; step < STEPS; step++) {
        uint32_t c = (uint32_t)(kv_random_next(&seed) % CLIENTS);
        struct history_event e = {.process = c, .key = "k", .time_ns = step};
        if (phase[c] == IDLE) {
            reads[c] = kv_random_next(&seed) % 2 == 0;
            e.f = reads[c] ? HISTORY_READ : HISTORY_WRITE;
            if (!reads[c]) e.value = json_integer(wrote[c] = next++);
            phase[c] = CALLED;
        } else if (phase[c] == CALLED) {
            if (reads[c]) saw[c] = state;
            else state = wrote[c];
            phase[c] = DONE;
            continue;
        } else {
            e.type = HISTORY_OK;
            e.f = reads[c] ? HISTORY_READ : HISTORY_WRITE;
            if (reads[c]) e.value = saw[c] == 0 ? json_null() : json_integer(saw[c]);
            phase[c] = IDLE;
        }
        ck_assert_int_eq(history_add(h, &e, 0, why, sizeof why), KV_OK);
        json_decref(e.value);
    }
    struct check_result r;
    check_history(h, &(struct check_options){0}, &r);
    ck_assert_int_eq(r.verdict, CHECK_VALID);
    struct history_event bad = {.process = 100, .f = HISTORY_READ, .key = "k"};
    ck_assert_int_eq(history_add(h, &bad, 0, why, sizeof why), KV_OK);
    bad.type = HISTORY_OK;
    bad.value = json_integer(1);
    ck_assert_int_eq(history_add(h, &bad, 0, why, sizeof why), KV_OK);
    json_decref(bad.value);
    check_history(h, &(struct check_options){0}, &r);
    ck_assert_int_eq(r.verdict, CHECK_VIOLATION);
    ck_assert_uint_le(r.op_count, 6);
    check_result_free(&r);
    history_free(h);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("check");
    TCase *c = tcase_create("histories");
    tcase_add_test(c, malformed_is_named_by_line);
    tcase_add_test(c, saved_and_loaded_is_the_same);
    tcase_add_test(c, the_limit_means_undecided);
    tcase_add_loop_test(c, the_search_agrees_with_the_definition, 0, 4);
    tcase_add_test(c, a_long_history);
    tcase_set_timeout(c, 60);
    suite_add_tcase(suite, c);
    return unit_finish(suite);
}

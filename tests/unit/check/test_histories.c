#include "tests/unit/unit.h"
#include "tools/check/check.h"
#include <dirent.h>
#include <stdlib.h>

/* The histories written by hand, tests/histories/README.md; run from the top of the repository. */
#define DIRECTORY "tests/histories"
enum { FILES_MAX = 64,
       EACH_MIN = 10 };

struct files {
    char paths[FILES_MAX][256];
    uint32_t count;
};

static void files_read(struct files *f, const char *directory)
{
    f->count = 0;
    DIR *d = opendir(directory);
    ck_assert_msg(d != NULL, "no %s: run from the top of the repository", directory);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.') continue;
        ck_assert_uint_lt(f->count, FILES_MAX);
        int size = snprintf(f->paths[f->count++], sizeof f->paths[0], "%s/%s", directory, e->d_name);
        ck_assert_int_lt(size, (int)sizeof f->paths[0]);
    }
    closedir(d);
}

static struct history *load(const char *path)
{
    char why[512] = "";
    struct history *h = history_create();
    ck_assert_ptr_nonnull(h);
    ck_assert_msg(history_load(h, path, why, sizeof why) == KV_OK, "%s", why);
    return h;
}

/* As `path` says, with the model inferred and, for one model a directory, with it named. */
static void judge(const struct history *h, const char *path, enum check_model model, bool good)
{
    struct check_result r;
    check_history(h, &(struct check_options){.model = model}, &r);
    ck_assert_msg(r.verdict == (good ? CHECK_VALID : CHECK_VIOLATION), "%s: %s, %s", path,
                  check_verdict_text(r.verdict), r.why);
    ck_assert_msg(good || (r.op_count > 0 && r.op_count <= h->op_count), "%s: no failing sub-history", path);
    ck_assert_msg(good || model == CHECK_INFER || r.model == model, "%s: model %s", path, check_model_text(r.model));
    for (uint32_t i = 0; i < r.op_count; i++) ck_assert_uint_gt(h->ops[r.ops[i]].call_line, 0);
    check_result_free(&r);
}

/* The same events through the other format mean the same. */
static void judge_copy(const struct history *h, const char *path, bool edn, bool good)
{
    char copy[64];
    unit_temporary(copy, sizeof copy, "kvd-history");
    int fd = mkstemp(copy);
    ck_assert_int_ge(fd, 0);
    FILE *f = fdopen(fd, "w");
    ck_assert_ptr_nonnull(f);
    history_save(h, f, edn);
    ck_assert_int_eq(fclose(f), 0);
    struct history *again = load(copy);
    remove(copy);
    ck_assert_uint_eq(again->op_count, h->op_count);
    judge(again, path, CHECK_INFER, good);
    history_free(again);
}

static void judge_all(const char *directory, enum check_model model, bool good, uint32_t least)
{
    struct files files;
    files_read(&files, directory);
    ck_assert_msg(files.count >= least, "%s: %u histories", directory, files.count);
    for (uint32_t i = 0; i < files.count; i++) {
        struct history *h = load(files.paths[i]);
        judge(h, files.paths[i], CHECK_INFER, good);
        if (model != CHECK_INFER) judge(h, files.paths[i], model, good);
        judge_copy(h, files.paths[i], false, good);
        judge_copy(h, files.paths[i], true, good);
        history_free(h);
    }
}

static const enum check_model models[] = {CHECK_REGISTER, CHECK_COUNTER, CHECK_SET, CHECK_LIST};

START_TEST(good_and_bad)
{
    const char *model = check_model_text(models[_i]);
    char path[256];
    snprintf(path, sizeof path, DIRECTORY "/%s/good", model);
    judge_all(path, models[_i], true, EACH_MIN);
    snprintf(path, sizeof path, DIRECTORY "/%s/bad", model);
    judge_all(path, models[_i], false, EACH_MIN);
}
END_TEST

/* The anomalies with a name stand in every model's folder. */
START_TEST(named_ones_are_there)
{
    static const char *const wanted[] = {
        "bad/stale-read", "bad/lost-update", "bad/double-apply", "bad/future-read", "bad/non-monotonic-session",
        "good/info-took-effect-late", "good/concurrent-writes-one-order", "good/concurrent-writes-other-order"};
    for (uint32_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        char path[256];
        snprintf(path, sizeof path, DIRECTORY "/%s/%s.jsonl", check_model_text(models[_i]), wanted[i]);
        history_free(load(path));
    }
}
END_TEST

START_TEST(several_keys)
{
    judge_all(DIRECTORY "/several/good", CHECK_INFER, true, 1);
    judge_all(DIRECTORY "/several/bad", CHECK_INFER, false, 1);
}
END_TEST

/* NUMBER-what-is-wrong: NUMBER is the line that the message must name. */
static unsigned line_of(const char *path)
{
    return (unsigned)strtoul(strrchr(path, '/') + 1, NULL, 10);
}

START_TEST(malformed_names_the_line)
{
    struct files files;
    files_read(&files, DIRECTORY "/malformed");
    ck_assert_uint_ge(files.count, EACH_MIN);
    for (uint32_t i = 0; i < files.count; i++) {
        const char *path = files.paths[i];
        char why[512] = "", wanted[300];
        struct check_result r = {.verdict = CHECK_VALID};
        struct history *h = history_create();
        enum kv_err err = history_load(h, path, why, sizeof why);
        if (err == KV_OK) { /* well-formed events, but no such value in that model */
            check_history(h, &(struct check_options){0}, &r);
            ck_assert_msg(r.verdict == CHECK_MALFORMED, "%s: %s", path, check_verdict_text(r.verdict));
            ck_assert_msg(r.line == line_of(path), "%s: line %u", path, r.line);
        } else {
            snprintf(wanted, sizeof wanted, "%s:%u: ", path, line_of(path));
            ck_assert_msg(err == KV_MALFORMED && strncmp(why, wanted, strlen(wanted)) == 0, "%s: %s", path, why);
        }
        check_result_free(&r);
        history_free(h);
    }
}
END_TEST

START_TEST(unsupported_names_the_line)
{
    struct files files;
    files_read(&files, DIRECTORY "/unsupported");
    ck_assert_uint_ge(files.count, 1);
    for (uint32_t i = 0; i < files.count; i++) {
        const char *path = files.paths[i];
        struct check_result r;
        struct history *h = load(path);
        check_history(h, &(struct check_options){0}, &r);
        ck_assert_msg(r.verdict == CHECK_UNSUPPORTED, "%s: %s", path, check_verdict_text(r.verdict));
        ck_assert_msg(r.line == line_of(path), "%s: line %u", path, r.line);
        check_result_free(&r);
        history_free(h);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("histories");
    TCase *c = tcase_create("written by hand");
    tcase_add_loop_test(c, good_and_bad, 0, 4);
    tcase_add_loop_test(c, named_ones_are_there, 0, 4);
    tcase_add_test(c, several_keys);
    tcase_add_test(c, malformed_names_the_line);
    tcase_add_test(c, unsupported_names_the_line);
    tcase_set_timeout(c, 60);
    suite_add_tcase(suite, c);
    return unit_finish(suite);
}

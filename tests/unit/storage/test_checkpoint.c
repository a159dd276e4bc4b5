#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/checkpoint_lmdb.h"
#include "storage/checkpoint_mem.h"
#include "tests/unit/storage/model.h"
#include "tests/unit/unit.h"

/* One conformance test drives both implementations with the same operations, and each
 * against the model; then what only LMDB can show. */
enum { MEM,
       LMDB };

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif !defined(SANITIZED)
#define SANITIZED 0
#endif

struct fixture {
    char directory[64];
    struct checkpoint *c;
    int kind;
};

static void fixture_open(struct fixture *f, int kind, uint64_t map_bytes)
{
    f->kind = kind;
    if (kind == MEM) {
        if (f->c == NULL) f->c = checkpoint_mem_create();
        ck_assert_ptr_nonnull(f->c);
        return;
    }
    if (f->directory[0] == '\0') {
        unit_temporary(f->directory, sizeof f->directory, "kvd-checkpoint");
        ck_assert_ptr_nonnull(mkdtemp(f->directory));
    }
    ck_assert_int_eq(checkpoint_lmdb_create(&(struct checkpoint_lmdb_options){.directory = f->directory, .map_bytes = map_bytes}, &f->c, NULL, 0), KV_OK);
}

static void fixture_reopen(struct fixture *f)
{
    if (f->kind == MEM) {
        checkpoint_mem_crash(f->c);
        return;
    }
    f->c->ops->destroy(f->c);
    fixture_open(f, f->kind, 1 << 30);
}

static void fixture_free(struct fixture *f)
{
    if (f->c != NULL) f->c->ops->destroy(f->c);
    if (f->directory[0] == '\0') return;
    char path[128];
    snprintf(path, sizeof path, "%s/state/data.mdb", f->directory);
    unlink(path);
    snprintf(path, sizeof path, "%s/state/lock.mdb", f->directory);
    unlink(path);
    snprintf(path, sizeof path, "%s/state/suspect", f->directory);
    unlink(path);
    snprintf(path, sizeof path, "%s/state", f->directory);
    rmdir(path);
    rmdir(f->directory);
}

static void check_view(struct checkpoint *c, struct checkpoint_view *v, const struct model *m,
                       struct chance *chance)
{
    size_t at = 0;
    for (int k = 0; k < STORE_CLASSES; k++) {
        struct checkpoint_cursor *i;
        struct store_row row;
        ck_assert_int_eq(c->ops->seek(v, (enum store_class)k, kv_slice(NULL, 0), &i), KV_OK);
        while (c->ops->next(i, &row) == KV_OK) {
            ck_assert_uint_lt(at, m->count);
            struct store_row expect = model_view(&m->rows[at++]), copy = row;
            ck_assert_int_eq(row_order(&expect, &copy), 0);
            ck_assert(kv_slice_eq(expect.value, row.value));
        }
        ck_assert_int_eq(c->ops->next(i, &row), KV_NOT_FOUND); /* the end stays the end */
        c->ops->close(i);
    }
    ck_assert_uint_eq(at, m->count);
    for (int n = 0; n < 50; n++) {
        struct store_row want = chance_row(chance), row;
        struct kv_slice value;
        const struct model_row *expect = model_get(m, &want);
        enum kv_err err = c->ops->get(v, want.class, want.key, want.sub, &value);
        ck_assert_int_eq(err, expect == NULL ? KV_NOT_FOUND : KV_OK);
        if (expect != NULL)
            ck_assert(kv_slice_eq(value, kv_slice(expect->value, expect->value_size)));
        struct checkpoint_cursor *i;
        ck_assert_int_eq(c->ops->seek(v, want.class, want.key, &i), KV_OK);
        want.sub = kv_slice(NULL, 0);
        size_t next = model_find(m, &want);
        err = c->ops->next(i, &row);
        if (next == m->count || m->rows[next].class != want.class) {
            ck_assert_int_eq(err, KV_NOT_FOUND);
        } else {
            struct store_row r = model_view(&m->rows[next]);
            ck_assert_int_eq(err, KV_OK);
            ck_assert_int_eq(row_order(&r, &row), 0);
        }
        c->ops->close(i);
    }
}

static void random_transaction(struct checkpoint *c, struct model *m, struct chance *chance)
{
    ck_assert_int_eq(c->ops->begin(c), KV_OK);
    for (uint64_t n = chance_below(chance, 300); n > 0; n--) {
        uint64_t what = chance_below(chance, 100);
        if (what < 65) {
            struct store_row row = chance_row(chance);
            ck_assert_int_eq(c->ops->put(c, &row), KV_OK);
            model_put(m, &row);
        } else if (what < 98) {
            struct store_row row = chance_row(chance);
            ck_assert_int_eq(c->ops->del(c, &row), KV_OK);
            model_del(m, &row);
        } else {
            struct kv_range range = chance_range(chance);
            enum store_class class = (enum store_class)chance_below(chance, STORE_CLASSES);
            ck_assert_int_eq(c->ops->delete_range(c, class, range), KV_OK);
            model_delete_range(m, class, range);
        }
    }
}

/* Commits, aborts and reopenings in random order; a view holds what it saw. */
static void conformance(int kind, uint64_t seed)
{
    struct fixture f = {0};
    struct chance chance = {.seed = seed, .keys = 400};
    struct model now = {0}, old = {0}, draft = {0};
    struct checkpoint_view *view, *held;
    fixture_open(&f, kind, 1 << 30);
    ck_assert_int_eq(f.c->ops->view_open(f.c, &view), KV_OK);
    ck_assert_int_eq(f.c->ops->view_open(f.c, &held), KV_OK);
    for (int step = 0; step < 120; step++) {
        model_copy(&draft, &now);
        random_transaction(f.c, &draft, &chance);
        if (chance_below(&chance, 4) == 0) {
            f.c->ops->abort(f.c);
            f.c->ops->abort(f.c);
        } else {
            ck_assert_int_eq(f.c->ops->commit(f.c), KV_OK);
            model_copy(&now, &draft);
        }
        check_view(f.c, held, &old, &chance); /* not moved by any commit */
        ck_assert_int_eq(f.c->ops->view_renew(view), KV_OK);
        check_view(f.c, view, &now, &chance);
        if (chance_below(&chance, 5) == 0) {
            ck_assert_int_eq(f.c->ops->view_renew(held), KV_OK);
            model_copy(&old, &now);
        }
        if (chance_below(&chance, 20) == 0) {
            f.c->ops->view_close(view);
            f.c->ops->view_close(held);
            if (chance_below(&chance, 2) == 0)
                fixture_reopen(&f);
            else
                ck_assert_int_eq(f.c->ops->trim(f.c), KV_OK);
            ck_assert_int_eq(f.c->ops->view_open(f.c, &view), KV_OK);
            ck_assert_int_eq(f.c->ops->view_open(f.c, &held), KV_OK);
            model_copy(&old, &now);
        }
    }
    char why[128];
    ck_assert_int_eq(f.c->ops->verify(f.c, why, sizeof why), KV_OK);
    ck_assert_uint_gt(f.c->ops->bytes(f.c), 0);
    f.c->ops->view_close(view);
    f.c->ops->view_close(held);
    fixture_free(&f);
    model_free(&now);
    model_free(&old);
    model_free(&draft);
}

START_TEST(conformance_mem)
{
    conformance(MEM, (uint64_t)_i + 1);
}
END_TEST

START_TEST(conformance_lmdb)
{
    conformance(LMDB, (uint64_t)_i + 1);
}
END_TEST

struct seen {
    struct checkpoint_mark marks[8];
    char descriptors[8][16];
    size_t count;
};

static void see(void *context, const struct checkpoint_mark *m)
{
    struct seen *s = context;
    ck_assert_uint_lt(s->count, 8);
    s->marks[s->count] = *m;
    if (m->descriptor.size > 0)
        memcpy(s->descriptors[s->count], m->descriptor.data, m->descriptor.size);
    s->descriptors[s->count++][m->descriptor.size] = '\0';
}

START_TEST(marks)
{
    struct fixture f = {0};
    fixture_open(&f, _i, 1 << 30);
    struct checkpoint_mark m = {.group = 300,
                                .replica = 4,
                                .state = CHECKPOINT_GROUP_LIVE,
                                .index = 10,
                                .term = 2,
                                .clock_ms = 99,
                                .descriptor = kv_str("three")};
    ck_assert_int_eq(f.c->ops->begin(f.c), KV_OK);
    ck_assert_int_eq(f.c->ops->mark(f.c, &m), KV_OK);
    m.group = 2;
    m.state = CHECKPOINT_GROUP_TOMBSTONE;
    m.descriptor = kv_str("");
    ck_assert_int_eq(f.c->ops->mark(f.c, &m), KV_OK);
    ck_assert_int_eq(f.c->ops->commit(f.c), KV_OK);
    ck_assert_int_eq(f.c->ops->begin(f.c), KV_OK);
    m.group = 300;
    m.index = 77;
    m.state = CHECKPOINT_GROUP_INSTALLING;
    m.descriptor = kv_str("other");
    ck_assert_int_eq(f.c->ops->mark(f.c, &m), KV_OK);
    ck_assert_int_eq(f.c->ops->commit(f.c), KV_OK);
    fixture_reopen(&f);
    struct checkpoint_view *v;
    struct seen seen = {0};
    ck_assert_int_eq(f.c->ops->view_open(f.c, &v), KV_OK);
    ck_assert_int_eq(f.c->ops->marks(v, see, &seen), KV_OK);
    ck_assert_uint_eq(seen.count, 2);
    ck_assert_uint_eq(seen.marks[0].group, 2); /* in order of groups */
    ck_assert_int_eq(seen.marks[0].state, CHECKPOINT_GROUP_TOMBSTONE);
    ck_assert_uint_eq(seen.marks[1].group, 300);
    ck_assert_uint_eq(seen.marks[1].replica, 4);
    ck_assert_uint_eq(seen.marks[1].index, 77);
    ck_assert_uint_eq(seen.marks[1].term, 2);
    ck_assert_uint_eq(seen.marks[1].clock_ms, 99);
    ck_assert_str_eq(seen.descriptors[1], "other");
    f.c->ops->view_close(v);
    fixture_free(&f);
}
END_TEST

/* What a large transaction left behind goes back, and the rows stay. */
static long anonymous_kib(void)
{
    FILE *status = fopen("/proc/self/status", "r");
    ck_assert_ptr_nonnull(status);
    char line[256];
    long kib = -1;
    while (kib < 0 && fgets(line, sizeof line, status) != NULL)
        sscanf(line, "RssAnon: %ld", &kib);
    fclose(status);
    return kib;
}

START_TEST(lmdb_trim)
{
    struct fixture f = {0};
    fixture_open(&f, LMDB, 1 << 30);
    struct checkpoint *c = f.c;
    static uint8_t value[1000];
    long before = anonymous_kib();
    ck_assert_int_eq(c->ops->begin(c), KV_OK);
    for (uint32_t n = 0; n < 60000; n++) {
        struct store_row row = {
            .class = STORE_DATA, .key = kv_slice(&n, 4), .value = kv_slice(value, 1000)};
        ck_assert_int_eq(c->ops->put(c, &row), KV_OK);
    }
    ck_assert_int_eq(c->ops->commit(c), KV_OK);
    long after = anonymous_kib();
    ck_assert_int_gt(after, before + (40 << 10));
    ck_assert_int_eq(c->ops->trim(c), KV_OK);
    malloc_trim(0);
    ck_assert_int_lt(anonymous_kib(), before + (8 << 10));
    struct checkpoint_view *v;
    struct kv_slice got;
    uint32_t last = 59999;
    ck_assert_int_eq(c->ops->view_open(c, &v), KV_OK);
    ck_assert_int_eq(c->ops->get(v, STORE_DATA, kv_slice(&last, 4), kv_str(""), &got), KV_OK);
    c->ops->view_close(v);
    fixture_free(&f);
}
END_TEST

/* A full map refuses, keeps the old state, and takes smaller work again. */
START_TEST(lmdb_map_full)
{
    struct fixture f = {0};
    fixture_open(&f, LMDB, 1 << 20);
    struct checkpoint *c = f.c;
    static uint8_t value[4000];
    struct store_row row = {.class = STORE_DATA, .key = kv_str("kept"), .value = kv_str("v")};
    ck_assert_int_eq(c->ops->begin(c), KV_OK);
    ck_assert_int_eq(c->ops->put(c, &row), KV_OK);
    ck_assert_int_eq(c->ops->commit(c), KV_OK);
    ck_assert_int_eq(c->ops->begin(c), KV_OK);
    enum kv_err err = KV_OK;
    for (uint32_t n = 0; n < 1000 && err == KV_OK; n++) {
        row.key = kv_slice(&n, sizeof n);
        row.value = kv_slice(value, sizeof value);
        err = c->ops->put(c, &row);
    }
    if (err == KV_OK) err = c->ops->commit(c);
    ck_assert_int_eq(err, KV_NO_SPACE);
    c->ops->abort(c);
    struct checkpoint_view *v;
    struct kv_slice got;
    ck_assert_int_eq(c->ops->begin(c), KV_OK);
    row.key = kv_str("small");
    row.value = kv_str("w");
    ck_assert_int_eq(c->ops->put(c, &row), KV_OK);
    ck_assert_int_eq(c->ops->commit(c), KV_OK);
    ck_assert_int_eq(c->ops->view_open(c, &v), KV_OK);
    ck_assert_int_eq(c->ops->get(v, STORE_DATA, kv_str("kept"), kv_str(""), &got), KV_OK);
    ck_assert_int_eq(c->ops->get(v, STORE_DATA, kv_str("small"), kv_str(""), &got), KV_OK);
    uint32_t zero = 0;
    ck_assert_int_eq(c->ops->get(v, STORE_DATA, kv_slice(&zero, 4), kv_str(""), &got),
                     KV_NOT_FOUND);
    c->ops->view_close(v);
    fixture_free(&f);
}
END_TEST

/* A file system that becomes full in the middle of a write cuts it short: no damage, but no space. */
START_TEST(lmdb_write_cut_short)
{
    struct fixture f = {0};
    fixture_open(&f, LMDB, 1 << 24);
    struct checkpoint *c = f.c;
    static uint8_t value[4000];
    char path[128];
    struct stat st;
    struct rlimit before, limit;
    snprintf(path, sizeof path, "%s/state/data.mdb", f.directory);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    limit = before;
    limit.rlim_cur = (rlim_t)st.st_size + 10 * 4096 + 100;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    for (int tries = 0; tries < 2; tries++) {
        ck_assert_int_eq(c->ops->begin(c), KV_OK);
        for (uint32_t n = 0; n < 100; n++) {
            struct store_row row = {
                .class = STORE_DATA, .key = kv_slice(&n, 4), .value = kv_slice(value, sizeof value)};
            ck_assert_int_eq(c->ops->put(c, &row), KV_OK);
        }
        ck_assert_int_eq(c->ops->commit(c), tries == 0 ? KV_NO_SPACE : KV_OK);
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    }
    fixture_free(&f);
}
END_TEST

/* A child commits numbered transactions until it is killed; whatever was acknowledged
 * through the pipe must be there, and nothing by halves. */
static void commit_forever(const char *directory, int acknowledged)
{
    struct checkpoint *c;
    if (checkpoint_lmdb_create(&(struct checkpoint_lmdb_options){.directory = directory, .map_bytes = 1 << 30}, &c, NULL, 0) != KV_OK) _exit(1);
    for (uint32_t n = 1;; n++) {
        if (c->ops->begin(c) != KV_OK) _exit(1);
        for (uint32_t k = 0; k < 200; k++) {
            uint32_t id = k * 7919;
            struct store_row row = {
                .class = STORE_DATA, .key = kv_slice(&id, 4), .value = kv_slice(&n, 4)};
            if (c->ops->put(c, &row) != KV_OK) _exit(1);
        }
        if (c->ops->commit(c) != KV_OK) _exit(1);
        if (write(acknowledged, &n, sizeof n) != sizeof n) _exit(1);
    }
}

START_TEST(lmdb_killed)
{
    struct fixture f = {0};
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    unit_temporary(f.directory, sizeof f.directory, "kvd-checkpoint");
    ck_assert_ptr_nonnull(mkdtemp(f.directory));
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) commit_forever(f.directory, ends[1]);
    close(ends[1]);
    uint32_t last = 0, n;
    while (last < (uint32_t)_i * 3 + 1) {
        ck_assert_int_eq(read(ends[0], &n, sizeof n), sizeof n);
        last = n;
    }
    kill(child, SIGKILL);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    while (read(ends[0], &n, sizeof n) == sizeof n)
        last = n;
    close(ends[0]);
    fixture_open(&f, LMDB, 1 << 30);
    char why[128] = "";
    ck_assert_int_eq(f.c->ops->verify(f.c, why, sizeof why), KV_OK);
    struct checkpoint_view *v;
    ck_assert_int_eq(f.c->ops->view_open(f.c, &v), KV_OK);
    for (uint32_t k = 0; k < 200; k++) {
        uint32_t id = k * 7919, found;
        struct kv_slice value;
        ck_assert_int_eq(f.c->ops->get(v, STORE_DATA, kv_slice(&id, 4), kv_str(""), &value), KV_OK);
        ck_assert_uint_eq(value.size, 4);
        memcpy(&found, value.data, 4);
        if (k == 0) n = found;
        ck_assert_uint_eq(found, n);
        ck_assert_uint_ge(found, last);
    }
    f.c->ops->view_close(v);
    fixture_free(&f);
}
END_TEST

START_TEST(lmdb_refuses_strange_files)
{
    struct fixture f = {0};
    fixture_open(&f, LMDB, 1 << 24);
    struct checkpoint *c = f.c;
    static uint8_t value[4000];
    ck_assert_int_eq(c->ops->begin(c), KV_OK);
    for (uint32_t n = 0; n < 500; n++) {
        struct store_row row = {
            .class = STORE_DATA, .key = kv_slice(&n, 4), .value = kv_slice(value, 4000)};
        ck_assert_int_eq(c->ops->put(c, &row), KV_OK);
    }
    ck_assert_int_eq(c->ops->commit(c), KV_OK);
    c->ops->destroy(c);
    f.c = NULL;
    char path[128];
    snprintf(path, sizeof path, "%s/state/data.mdb", f.directory);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(truncate(path, st.st_size / 2), 0); /* would be SIGBUS later */
    ck_assert_int_eq(checkpoint_lmdb_create(&(struct checkpoint_lmdb_options){.directory = f.directory, .map_bytes = 1 << 24}, &c, NULL, 0), KV_CORRUPT);
    ck_assert_int_eq(truncate(path, 0), 0);
    int fd = open(path, O_WRONLY);
    memset(value, 'x', sizeof value);
    ck_assert_int_eq(write(fd, value, sizeof value), (ssize_t)sizeof value);
    ck_assert_int_eq(write(fd, value, sizeof value), (ssize_t)sizeof value);
    close(fd);
    ck_assert_int_eq(checkpoint_lmdb_create(&(struct checkpoint_lmdb_options){.directory = f.directory, .map_bytes = 1 << 24}, &c, NULL, 0), KV_CORRUPT);
    fixture_free(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checkpoint");
    TCase *tc = tcase_create("checkpoint");
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, conformance_mem, 0, 4);
    tcase_add_loop_test(tc, conformance_lmdb, 0, 4);
    tcase_add_loop_test(tc, marks, MEM, LMDB + 1);
    if (!SANITIZED) tcase_add_test(tc, lmdb_trim); /* its allocator gives nothing back */
    tcase_add_test(tc, lmdb_map_full);
    tcase_add_test(tc, lmdb_write_cut_short);
    tcase_add_loop_test(tc, lmdb_killed, 0, 4);
    tcase_add_test(tc, lmdb_refuses_strange_files);
    tcase_set_timeout(tc, 30);
    return unit_finish(suite);
}

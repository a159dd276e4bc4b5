#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/base/endian.h"
#include "client/base/hash.h"
#include "storage/checkpoint_lmdb.h"
#include "storage/lmdb_walk.h"
#include "storage/value.h"
#include "tests/unit/storage/model.h"
#include "tests/unit/unit.h"

/* The walk against LMDB itself: on a whole file both see the same rows; on a damaged one the walk
 * never crashes, and where neither it nor a row's checksum objects LMDB finds every key. */
enum { KEYS = 1200,
       SUBS = 300,
       PAGE = 4096 };

struct fixture {
    char directory[64], file[96];
    struct checkpoint *c;
};

static void fixture_open(struct fixture *f)
{
    if (f->directory[0] == '\0') {
        unit_temporary(f->directory, sizeof f->directory, "kvd-walk");
        ck_assert_ptr_nonnull(mkdtemp(f->directory));
        snprintf(f->file, sizeof f->file, "%s/state/data.mdb", f->directory);
    }
    ck_assert_int_eq(checkpoint_lmdb_create(&(struct checkpoint_lmdb_options){.directory = f->directory, .map_bytes = 1 << 30}, &f->c, NULL, 0), KV_OK);
}

static void fixture_free(struct fixture *f)
{
    char command[128];
    if (f->c != NULL) f->c->ops->destroy(f->c);
    snprintf(command, sizeof command, "rm -r %s", f->directory);
    ck_assert_int_eq(system(command), 0);
}

static uint32_t below(struct chance *c, uint32_t bound)
{
    return (uint32_t)chance_below(c, bound);
}

static void key_of(uint32_t n, char out[32])
{
    snprintf(out, 32, "key-%05u-of-some-length", n);
}

/* Commits that leave behind all there is: inner pages, values over several pages, duplicates in
 * nodes and in trees of their own, free pages. */
static void fill(struct fixture *f, uint64_t seed)
{
    struct chance chance = {.seed = seed};
    static uint8_t big[VALUE_HEADER_BYTES + 20000];
    const struct checkpoint_ops *ops = f->c->ops;
    for (int commit = 0; commit < 6; commit++) {
        ck_assert_int_eq(ops->begin(f->c), KV_OK);
        for (uint32_t n = 0; n < KEYS; n++) {
            char key[32];
            key_of(n, key);
            struct store_row row = {.class = STORE_DATA, .key = kv_str(key)};
            uint32_t what = below(&chance, 300);
            struct value v = {.type = VALUE_STRING, .payload = kv_slice(big + VALUE_HEADER_BYTES, what == 0 ? 20000 : below(&chance, 120))};
            value_header_write(row.key, &v, big);
            row.value = kv_slice(big, VALUE_HEADER_BYTES + v.payload.size);
            if (what < 180) ck_assert_int_eq(ops->put(f->c, &row), KV_OK);
            else if (what < 240) ck_assert_int_eq(ops->del(f->c, &row), KV_OK);
        }
        for (uint32_t n = 0; n < SUBS; n++) {
            char key[32];
            uint8_t sub[STORE_SUB_BYTES] = {0};
            key_of(below(&chance, 3) == 0 ? 7 : below(&chance, 60), key);
            le64_put(sub, below(&chance, 100000));
            struct store_row row = {.class = STORE_DEDUP, .key = kv_str(key), .sub = kv_slice(sub, sizeof sub), .value = kv_slice(big, 100)};
            ck_assert_int_eq(ops->put(f->c, &row), KV_OK);
        }
        struct kv_range some = {kv_str("key-00500"), kv_str("key-00550")};
        ck_assert_int_eq(ops->delete_range(f->c, STORE_DATA, some), KV_OK);
        struct checkpoint_mark m = {.group = 3, .replica = 1, .index = (uint64_t)commit + 1, .term = 1, .descriptor = kv_str("d")};
        ck_assert_int_eq(ops->mark(f->c, &m), KV_OK);
        ck_assert_int_eq(ops->commit(f->c), KV_OK);
    }
}

struct seen {
    uint64_t rows[STORE_CLASSES], hash[STORE_CLASSES], damages, rotten;
    char what[128];
};

static enum kv_err on_row(void *context, const char *database, struct kv_slice key, struct kv_slice value, uint64_t page)
{
    struct seen *seen = context;
    ck_assert_uint_ge(page, 2);
    int class = strcmp(database, "data") == 0 ? STORE_DATA : strcmp(database, "locks") == 0 ? STORE_LOCKS
                                                                                            : STORE_DEDUP;
    if (strcmp(database, "marks") == 0 || strcmp(database, "meta") == 0) return KV_OK;
    struct value v;
    if (class == STORE_DATA && value_read(key, value, &v) != KV_OK) seen->rotten++;
    seen->rows[class]++;
    seen->hash[class] = kv_hash64(value, kv_hash64(key, seen->hash[class]));
    return KV_OK;
}

static void on_damage(void *context, const struct lmdb_damage *d)
{
    struct seen *seen = context;
    seen->damages++;
    snprintf(seen->what, sizeof seen->what, "%s page %llu: %s", d->database, (unsigned long long)d->page, d->what);
}

static enum kv_err walk(const struct fixture *f, struct seen *seen, uint64_t pages_max, bool *inner_only)
{
    *seen = (struct seen){0};
    struct lmdb_walk w = {.context = seen, .row = on_row, .damage = on_damage, .pages_max = pages_max};
    enum kv_err err = lmdb_walk(f->file, &w);
    ck_assert_uint_eq(w.damages, seen->damages);
    if (inner_only != NULL) *inner_only = w.inner_only;
    return err;
}

static void see(struct checkpoint *c, struct seen *seen)
{
    struct checkpoint_view *v;
    *seen = (struct seen){0};
    ck_assert_int_eq(c->ops->view_open(c, &v), KV_OK);
    for (int k = 0; k < STORE_CLASSES; k++) {
        struct checkpoint_cursor *i;
        struct store_row row;
        ck_assert_int_eq(c->ops->seek(v, (enum store_class)k, kv_slice(NULL, 0), &i), KV_OK);
        while (c->ops->next(i, &row) == KV_OK) {
            /* a duplicate is its sub and its value, side by side in LMDB's memory */
            if (k == STORE_DEDUP) row.value = kv_slice(row.sub.data, row.sub.size + row.value.size);
            seen->rows[k]++;
            seen->hash[k] = kv_hash64(row.value, kv_hash64(row.key, seen->hash[k]));
        }
        c->ops->close(i);
    }
    c->ops->view_close(v);
}

START_TEST(a_whole_file)
{
    struct fixture f = {0};
    struct seen ours, theirs;
    bool inner_only;
    fixture_open(&f);
    ck_assert_int_eq(walk(&f, &ours, 0, NULL), KV_OK); /* empty */
    for (uint64_t seed = 1; seed <= 4; seed++) {
        fill(&f, seed);
        enum kv_err err = walk(&f, &ours, 0, &inner_only);
        ck_assert_msg(err == KV_OK, "seed %llu: %s", (unsigned long long)seed, ours.what);
        ck_assert(!inner_only);
        see(f.c, &theirs);
        for (int k = 0; k < STORE_CLASSES; k++) {
            ck_assert_uint_eq(ours.rows[k], theirs.rows[k]);
            ck_assert_uint_eq(ours.hash[k], theirs.hash[k]);
        }
        ck_assert_uint_gt(ours.rows[STORE_DATA], KEYS / 3);
        ck_assert_uint_gt(ours.rows[STORE_DEDUP], SUBS);
        ck_assert_int_eq(walk(&f, &ours, 10, &inner_only), KV_OK);
        ck_assert(inner_only);
        ck_assert_uint_eq(ours.rows[STORE_DATA], 0);
        ck_assert_uint_eq(ours.rotten, 0);
    }
    fixture_free(&f);
}
END_TEST

START_TEST(strange_files)
{
    struct fixture f = {0};
    struct seen seen;
    fixture_open(&f);
    fill(&f, 1);
    f.c->ops->destroy(f.c);
    f.c = NULL;
    struct stat st;
    ck_assert_int_eq(stat(f.file, &st), 0);
    ck_assert_int_eq(truncate(f.file, st.st_size / 2), 0);
    ck_assert_int_eq(walk(&f, &seen, 0, NULL), KV_CORRUPT);
    ck_assert_int_eq(truncate(f.file, 100), 0);
    ck_assert_int_eq(walk(&f, &seen, 0, NULL), KV_CORRUPT);
    ck_assert_int_eq(truncate(f.file, 0), 0);
    ck_assert_int_eq(walk(&f, &seen, 0, NULL), KV_CORRUPT);
    ck_assert_int_eq(unlink(f.file), 0);
    ck_assert_int_eq(walk(&f, &seen, 0, NULL), KV_NOT_FOUND);
    fixture_free(&f);
}
END_TEST

static void flip(const struct fixture *f, uint64_t offset, uint8_t mask)
{
    uint8_t byte;
    int fd = open(f->file, O_RDWR);
    ck_assert_int_eq(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= mask;
    ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

/* Whether LMDB still finds every key that was there, by itself and in order. */
static bool lmdb_finds_all(struct fixture *f, const bool *present)
{
    struct checkpoint_view *v;
    bool all = true;
    fixture_open(f);
    ck_assert_int_eq(f->c->ops->view_open(f->c, &v), KV_OK);
    for (uint32_t n = 0; n < KEYS && all; n++) {
        char key[32];
        struct kv_slice value;
        key_of(n, key);
        all = (f->c->ops->get(v, STORE_DATA, kv_str(key), kv_slice(NULL, 0), &value) == KV_OK) == present[n];
    }
    f->c->ops->view_close(v);
    f->c->ops->destroy(f->c);
    f->c = NULL;
    return all;
}

/* Any bit of any page: told, or without consequence for finding keys. */
START_TEST(flipped_bits)
{
    struct fixture f = {0};
    struct seen seen;
    static bool present[KEYS];
    struct checkpoint_view *v;
    fixture_open(&f);
    fill(&f, 9);
    ck_assert_int_eq(f.c->ops->view_open(f.c, &v), KV_OK);
    for (uint32_t n = 0; n < KEYS; n++) {
        char key[32];
        struct kv_slice value;
        key_of(n, key);
        present[n] = f.c->ops->get(v, STORE_DATA, kv_str(key), kv_slice(NULL, 0), &value) == KV_OK;
    }
    f.c->ops->view_close(v);
    f.c->ops->destroy(f.c);
    f.c = NULL;
    struct stat st;
    ck_assert_int_eq(stat(f.file, &st), 0);
    struct chance chance = {.seed = 77};
    uint32_t told = 0, passed = 0, inner = 0;
    for (uint64_t page = 2; page < (uint64_t)st.st_size / PAGE; page++) {
        uint8_t header[16];
        int fd = open(f.file, O_RDONLY);
        ck_assert_int_eq(pread(fd, header, 16, (off_t)(page * PAGE)), 16);
        close(fd);
        bool is_inner = le16_get(header + 10) == 1;
        uint32_t flips = is_inner ? 24 : page % 3 == 0;
        for (uint32_t i = 0; i < flips; i++) {
            /* headers and offsets as often as the rest */
            uint64_t at = page * PAGE + below(&chance, i % 2 == 0 ? 48 : PAGE);
            uint8_t mask = (uint8_t)(1u << below(&chance, 8));
            flip(&f, at, mask);
            if (walk(&f, &seen, 0, NULL) == KV_CORRUPT || seen.rotten > 0) {
                told++;
                inner += is_inner;
            } else if (passed++ % 4 == 0) {
                ck_assert_msg(lmdb_finds_all(&f, present), "byte %llu of page %llu, mask %u", (unsigned long long)(at % PAGE),
                              (unsigned long long)page, mask);
            }
            flip(&f, at, mask);
        }
    }
    ck_assert_uint_gt(inner, 30);
    ck_assert_uint_gt(told, 100);
    ck_assert_uint_gt(passed, 30); /* free pages and idempotency records: not the walk's affair */
    ck_assert_int_eq(walk(&f, &seen, 0, NULL), KV_OK);
    fixture_free(&f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lmdb_walk");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, a_whole_file);
    tcase_add_test(t, strange_files);
    tcase_add_test(t, flipped_bits);
    suite_add_tcase(s, t);
    return unit_finish(s);
}

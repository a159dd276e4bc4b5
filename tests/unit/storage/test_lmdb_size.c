#include "storage/lmdb_size.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/base/hash.h"
#include "storage/checkpoint_lmdb.h"
#include "tests/unit/unit.h"

/* Sizes beside exact ones: of files of one page, of some levels, with values of one size and of all, in ranges of any width. */
enum { RANGES = 8 };

struct fixture {
    char dir[64];
    struct checkpoint *c;
    uint64_t exact[RANGES];
    struct kv_key borders[RANGES + 1];
    struct checkpoint_size sizes[RANGES];
};

static struct kv_slice key_of(uint64_t n, char text[24])
{
    return kv_slice(text, (size_t)snprintf(text, 24, "key%09llu", (unsigned long long)n));
}

static void border_set(struct kv_key *k, struct kv_slice s)
{
    k->size = (uint16_t)s.size;
    if (s.size > 0) memcpy(k->bytes, s.data, s.size);
}

static uint32_t range_of(const struct fixture *f, struct kv_slice key)
{
    uint32_t r = 0;
    while (r + 1 < RANGES && kv_slice_cmp(kv_key_slice(&f->borders[r + 1]), key) <= 0) r++;
    return r;
}

/* Ranges: equal parts but the last three, which are small ones. */
static void borders_make(struct fixture *f, uint64_t rows)
{
    static const uint64_t percents[RANGES] = {0, 20, 40, 60, 80, 94, 97, 99};
    char text[24];
    for (uint32_t i = 0; i < RANGES; i++) border_set(&f->borders[i], key_of(rows * percents[i] / 100, text));
    f->borders[RANGES].size = 0;
    for (uint32_t i = 0; i < RANGES; i++) f->sizes[i].range = (struct kv_range){kv_key_slice(&f->borders[i]), kv_key_slice(&f->borders[i + 1])};
}

enum kind { SMALL,
            MIXED,
            SKEWED }; /* values: of 100 B; up to 200 B, 1 in 50 up to 9 KB; one range has the large ones */

static size_t value_size(enum kind kind, uint32_t range, uint64_t random)
{
    if (kind == SMALL) return 100;
    if (kind == MIXED) return random % 50 == 0 ? random / 64 % 9000 : random % 200;
    return range == 2 ? 3000 + random % 3000 : random % 200;
}

static void fill(struct fixture *f, uint64_t rows, enum kind kind)
{
    uint64_t random = 7, step = 611953; /* in no order, as rows come; prime */
    static uint8_t value[9000];
    for (uint64_t done = 0; done < rows;) {
        ck_assert_int_eq(f->c->ops->begin(f->c), KV_OK);
        for (uint64_t i = 0; i < 5000 && done < rows; i++, done++) {
            char text[24];
            struct kv_slice key = key_of(done * step % rows, text);
            uint32_t r = range_of(f, key);
            size_t size = value_size(kind, r, kv_random_next(&random) >> 8);
            f->exact[r] += key.size + size;
            ck_assert_int_eq(f->c->ops->put(f->c, &(struct store_row){.class = STORE_DATA, .key = key, .value = kv_slice(value, size)}), KV_OK);
        }
        ck_assert_int_eq(f->c->ops->commit(f->c), KV_OK);
    }
}

static void open_fixture(struct fixture *f)
{
    *f = (struct fixture){0};
    snprintf(f->dir, sizeof f->dir, "%s/kvd-size.XXXXXX", getenv("TMPDIR") == NULL ? "/tmp" : getenv("TMPDIR"));
    ck_assert_ptr_nonnull(mkdtemp(f->dir));
    char why[200] = "";
    ck_assert_int_eq(checkpoint_lmdb_create(&(struct checkpoint_lmdb_options){.directory = f->dir, .map_bytes = UINT64_C(1) << 32}, &f->c, why, sizeof why), KV_OK);
}

static void close_fixture(struct fixture *f)
{
    char path[128];
    f->c->ops->destroy(f->c);
    snprintf(path, sizeof path, "rm -rf %s", f->dir);
    ck_assert_int_eq(system(path), 0); /* NOLINT(cert-env33-c) */
}

static uint64_t sum(const struct fixture *f)
{
    uint64_t s = 0;
    for (uint32_t i = 0; i < RANGES; i++) s += f->exact[i];
    return s;
}

START_TEST(sizes_are_near)
{
    static const struct {
        uint64_t rows;
        enum kind kind;
        uint32_t percent; /* that a range may be off, with a per cent of everything */
    } cases[] = {{20, SMALL, 0}, {3000, SMALL, 0}, {3000, MIXED, 0}, {100000, SMALL, 20}, {100000, MIXED, 20}, {40000, SKEWED, 20}};
    struct fixture f;
    open_fixture(&f);
    borders_make(&f, cases[_i].rows);
    fill(&f, cases[_i].rows, cases[_i].kind);
    ck_assert_int_eq(f.c->ops->sizes(f.c, f.sizes, RANGES), KV_OK);
    for (uint32_t i = 0; i < RANGES; i++) {
        double exact = (double)f.exact[i], got = (double)f.sizes[i].bytes, slack = exact * cases[_i].percent / 100 + (cases[_i].percent != 0) * (double)sum(&f) / 100;
        ck_assert_msg(got >= exact - slack && got <= exact + slack, "case %d, range %u: %.0f of %.0f bytes", _i, i, got, exact);
        if (cases[_i].rows < 40000 || i > 4) continue;
        ck_assert(kv_range_has(f.sizes[i].range, kv_key_slice(&f.sizes[i].middle)));
        ck_assert_int_gt(kv_slice_cmp(kv_key_slice(&f.sizes[i].middle), f.sizes[i].range.from), 0);
    }
    close_fixture(&f);
}
END_TEST

/* Two ranges meet at the middle of what was one: they have half of it each. */
START_TEST(the_middle_halves_it)
{
    struct fixture f;
    open_fixture(&f);
    borders_make(&f, 60000);
    fill(&f, 60000, SMALL);
    f.sizes[0].range = (struct kv_range){kv_str("key"), kv_str("kez")};
    ck_assert_int_eq(f.c->ops->sizes(f.c, f.sizes, 1), KV_OK);
    struct kv_key middle = f.sizes[0].middle;
    f.sizes[0].range.to = kv_key_slice(&middle);
    f.sizes[1].range = (struct kv_range){kv_key_slice(&middle), kv_str("kez")};
    ck_assert_int_eq(f.c->ops->sizes(f.c, f.sizes, 2), KV_OK);
    double left = (double)f.sizes[0].bytes, right = (double)f.sizes[1].bytes;
    ck_assert_msg(left > right * 0.8 && right > left * 0.8, "%.0f and %.0f", left, right);
    close_fixture(&f);
}
END_TEST

START_TEST(nothing_there_is_nothing)
{
    struct fixture f;
    open_fixture(&f);
    borders_make(&f, 100);
    ck_assert_int_eq(f.c->ops->sizes(f.c, f.sizes, RANGES), KV_OK);
    for (uint32_t i = 0; i < RANGES; i++) ck_assert_uint_eq(f.sizes[i].bytes, 0);
    ck_assert_int_eq(lmdb_size("/nonexistent/data.mdb", "data", f.sizes, RANGES), KV_NOT_FOUND);
    close_fixture(&f);
}
END_TEST

/* Whatever the pages say, it ends. */
START_TEST(damaged_pages_end_it)
{
    struct fixture f;
    open_fixture(&f);
    borders_make(&f, 20000);
    fill(&f, 20000, MIXED);
    f.c->ops->destroy(f.c); /* nobody else is to meet them */
    char path[128];
    snprintf(path, sizeof path, "%s/state/data.mdb", f.dir);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint64_t random = 3;
    off_t size = lseek(fd, 0, SEEK_END);
    for (int round = 0; round < 300; round++) {
        for (int i = 0; i < 40; i++) {
            uint64_t r = kv_random_next(&random);
            uint64_t at = r % 3 == 0 ? (r >> 8) % (uint64_t)size : ((r >> 8) % ((uint64_t)size / 4096)) * 4096 + (r >> 40) % 64;
            uint8_t byte = (uint8_t)(r >> 16);
            ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
        }
        enum kv_err err = lmdb_size(path, "data", f.sizes, RANGES);
        ck_assert(err == KV_OK || err == KV_CORRUPT || err == KV_NOT_FOUND);
    }
    close(fd);
    snprintf(path, sizeof path, "rm -rf %s", f.dir);
    ck_assert_int_eq(system(path), 0); /* NOLINT(cert-env33-c) */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lmdb_size");
    TCase *tc = tcase_create("lmdb_size");
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, sizes_are_near, 0, 6);
    tcase_add_test(tc, the_middle_halves_it);
    tcase_add_test(tc, nothing_there_is_nothing);
    tcase_add_test(tc, damaged_pages_end_it);
    tcase_set_timeout(tc, 60);
    return unit_finish(suite);
}

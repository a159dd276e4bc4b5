#include "client/base/hash.h"
#include "tests/unit/storage/log_model.h"
#include <stdio.h>

/* What is an unsynced tail and what is corruption (R3), and who is hit by it (R4). */
enum { SEGMENT_BYTES = 16 << 10, ENTRIES = 100 };

struct mark { /* where a batch of interest stands */
    char file[64];
    uint64_t offset, batch, index;
};
struct found {
    struct mark marks[4 * ENTRIES];
    uint32_t count, damages, tails;
    struct log_damage first;
};

static void on_record(void *context, const struct log_record *r)
{
    struct found *x = context;
    if (r->kind != LOG_RECORD_ENTRY || x->count == 4 * ENTRIES) return;
    struct mark *m = &x->marks[x->count++];
    snprintf(m->file, sizeof m->file, "%s", r->file);
    m->offset = r->offset;
    m->batch = r->batch;
    m->index = r->index;
}

static void on_problem(void *context, const struct log_damage *d, bool is_tail)
{
    struct found *x = context;
    if (is_tail) {
        x->tails++;
        return;
    }
    if (x->damages++ == 0) x->first = *d;
}

static struct found *scan(struct fixture *f)
{
    struct found *x = calloc(1, sizeof *x);
    ck_assert_ptr_nonnull(x);
    ck_assert_int_eq(log_scan(disk_mem_disk(f->mem), on_record, on_problem, x), KV_OK);
    return x;
}

/* Two groups from the start, a third from the middle on; closed cleanly. */
static void make(struct fixture *f, uint64_t seed)
{
    char text[256];
    fixture_init(f, seed, SEGMENT_BYTES);
    f->options.segment_bytes_max = SEGMENT_BYTES;
    ck_assert_int_eq(fixture_open(f), KV_OK);
    ck_assert_int_eq(log_group_create(f->log, 1, 1, 0, 0), KV_OK);
    ck_assert_int_eq(log_group_create(f->log, 2, 1, 0, 0), KV_OK);
    for (int i = 1; i <= ENTRIES; i++) {
        if (i == ENTRIES / 2) ck_assert_int_eq(log_group_create(f->log, 3, 1, 0, 0), KV_OK);
        snprintf(text, sizeof text, "%0200d", i);
        put_now(f, i < ENTRIES / 2 ? 1 + (uint32_t)i % 2 : 1 + (uint32_t)i % 3, 1, text);
    }
    fixture_close(f);
}

static bool is_damaged(struct fixture *f, uint32_t group)
{
    struct log_group g;
    ck_assert(log_group_get(f->log, group, &g));
    return g.damaged;
}

START_TEST(test_a_flip_in_the_last_batch_is_a_tail)
{
    struct fixture f;
    make(&f, 1);
    struct found *x = scan(&f);
    struct mark last = x->marks[x->count - 1];
    ck_assert_uint_eq(x->damages + x->tails, 0);
    ck_assert_uint_eq(x->count, ENTRIES);
    free(x);
    ck_assert(disk_mem_flip(f.mem, last.file, last.offset + 40, 1));
    x = scan(&f);
    ck_assert_uint_eq(x->tails, 1);
    ck_assert_uint_eq(x->damages, 0);
    ck_assert_uint_eq(x->count, ENTRIES - 1);
    free(x);
    ck_assert_int_eq(fixture_open(&f), KV_OK);
    ck_assert_ptr_null(log_damage(f.log));
    put_now(&f, 1, 2, "goes on");
    ck_assert_int_eq(fixture_restart(&f, DISK_MEM_POWER_LOSS), KV_OK);
    fixture_free(&f);
}
END_TEST

/* Every batch but the last: corruption, told with its place; the groups that existed by then
 * are marked, one that began behind it is not. */
START_TEST(test_a_flip_below_is_corruption)
{
    static const uint64_t places[] = {0, 8, 24, 31, 33, 100}; /* in the record and its text */
    for (uint32_t at = 0; at + 1 < ENTRIES; at += 7) {
        struct fixture f;
        make(&f, at);
        struct found *x = scan(&f);
        struct mark m = x->marks[at];
        free(x);
        ck_assert(disk_mem_flip(f.mem, m.file, m.offset + places[at % 6], (uint8_t)(1u << at % 8)));
        x = scan(&f);
        ck_assert_uint_eq(x->damages, 1);
        ck_assert_str_eq(x->first.file, m.file);
        ck_assert_uint_lt(x->first.offset, m.offset);
        ck_assert_uint_ge(x->first.offset + 200, m.offset);
        free(x);
        ck_assert_int_eq(fixture_open(&f), KV_CORRUPT);
        ck_assert_ptr_nonnull(log_damage(f.log));
        ck_assert_str_eq(log_damage(f.log)->file, m.file);
        ck_assert(is_damaged(&f, 1) && is_damaged(&f, 2));
        ck_assert_int_eq(is_damaged(&f, 3), at + 1 >= ENTRIES / 2);
        struct waiter w;
        ck_assert_int_eq(put_text(&f, &w, 1, 9, "on sand"), KV_CORRUPT);
        if (!is_damaged(&f, 3)) put_now(&f, 3, 9, "goes on");
        /* New lives are clean, also after the next start, which finds the same damage unless
         * nothing in its segment was needed any more. */
        ck_assert_int_eq(log_group_create(f.log, 1, 2, 0, 0), KV_OK);
        put_now(&f, 1, 9, "a new life");
        enum kv_err err = fixture_restart(&f, DISK_MEM_POWER_LOSS);
        ck_assert(err == KV_CORRUPT || (err == KV_OK && at < 2));
        ck_assert(!is_damaged(&f, 1));
        ck_assert(is_damaged(&f, 2));
        expect_text(&f, 1, 1, "a new life");
        fixture_free(&f);
    }
}
END_TEST

/* The mark outlives the damaged segment. */
START_TEST(test_damage_is_not_forgotten_with_its_segment)
{
    struct fixture f;
    struct log_group g;
    char text[1000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    make(&f, 3);
    struct found *x = scan(&f);
    ck_assert(disk_mem_flip(f.mem, x->marks[2].file, x->marks[2].offset + 40, 4));
    free(x);
    ck_assert_int_eq(fixture_open(&f), KV_CORRUPT);
    ck_assert_int_eq(log_group_create(f.log, 1, 2, 0, 0), KV_OK);
    ck_assert(log_group_get(f.log, 2, &g) && g.damaged);
    log_release(f.log, 2, g.last);
    for (int i = 0; i < 300; i++) {
        put_now(&f, 1, 3, text);
        log_release(f.log, 1, log_last(f.log, 1) - 1);
        log_release(f.log, 3, log_last(f.log, 3));
    }
    ck_assert_int_eq(fixture_restart(&f, DISK_MEM_POWER_LOSS), KV_OK); /* the damaged file is gone */
    ck_assert(is_damaged(&f, 2));
    ck_assert(!is_damaged(&f, 1) && !is_damaged(&f, 3));
    fixture_free(&f);
}
END_TEST

START_TEST(test_a_missing_segment_is_corruption)
{
    struct fixture f;
    make(&f, 4);
    struct found *x = scan(&f);
    struct disk *d = disk_mem_disk(f.mem);
    const char *victim = x->marks[ENTRIES * 3 / 4].file;
    ck_assert_str_ne(victim, x->marks[0].file);
    ck_assert_str_ne(victim, x->marks[ENTRIES - 1].file);
    ck_assert_int_eq(d->ops->remove(d, victim), KV_OK);
    free(x);
    x = scan(&f);
    ck_assert_uint_eq(x->damages, 1);
    free(x);
    ck_assert_int_eq(fixture_open(&f), KV_CORRUPT);
    ck_assert(is_damaged(&f, 1) && is_damaged(&f, 2) && is_damaged(&f, 3));
    fixture_free(&f);
}
END_TEST

START_TEST(test_a_missing_beginning_is_corruption)
{
    struct fixture f;
    make(&f, 5);
    struct found *x = scan(&f);
    struct disk *d = disk_mem_disk(f.mem);
    ck_assert_int_eq(d->ops->remove(d, x->marks[0].file), KV_OK);
    free(x);
    ck_assert_int_eq(fixture_open(&f), KV_CORRUPT);
    ck_assert(is_damaged(&f, 1) && is_damaged(&f, 2));
    fixture_free(&f);
}
END_TEST

/* Batches name their own place, so a damaged file header costs nothing. */
START_TEST(test_a_header_alone_is_told_but_costs_nothing)
{
    struct fixture f;
    make(&f, 6);
    struct found *x = scan(&f);
    ck_assert(disk_mem_flip(f.mem, x->marks[0].file, 25, 2));
    free(x);
    x = scan(&f);
    ck_assert_uint_eq(x->damages, 1);
    ck_assert_uint_eq(x->count, ENTRIES);
    free(x);
    ck_assert_int_eq(fixture_open(&f), KV_OK);
    ck_assert(!is_damaged(&f, 1) && !is_damaged(&f, 2) && !is_damaged(&f, 3));
    fixture_free(&f);
}
END_TEST

START_TEST(test_a_later_format_is_refused)
{
    struct fixture f;
    struct disk_file file;
    uint8_t header[64];
    size_t got;
    make(&f, 7);
    struct found *x = scan(&f);
    struct disk *d = disk_mem_disk(f.mem);
    ck_assert_int_eq(d->ops->open(d, x->marks[0].file, false, &file), KV_OK);
    ck_assert_int_eq(d->ops->read(d, file, 0, header, sizeof header, &got), KV_OK);
    free(x);
    header[8] = 2; /* the version; then the checksum over bytes 0 to 55 */
    uint64_t checksum = kv_hash64(kv_slice(header, 56), 0);
    memcpy(header + 56, &checksum, sizeof checksum);
    ck_assert_int_eq(d->ops->write(d, file, 0, kv_slice(header, sizeof header)), KV_OK);
    ck_assert_int_eq(d->ops->close(d, file), KV_OK);
    ck_assert_int_eq(fixture_open(&f), KV_VERSION);
    fixture_free(&f);
}
END_TEST

/* Any single flip anywhere: never silence about a lost entry, never a wrong one. */
START_TEST(test_any_flip)
{
    uint64_t random = 99 + (uint64_t)_i;
    for (int round = 0; round < 150; round++) {
        struct fixture f;
        make(&f, (uint64_t)round);
        struct found *x = scan(&f);
        struct mark last = x->marks[x->count - 1], m = x->marks[kv_random_next(&random) % x->count];
        free(x);
        uint64_t offset = kv_random_next(&random) % SEGMENT_BYTES;
        uint8_t mask = (uint8_t)(1u << kv_random_next(&random) % 8);
        if (!disk_mem_flip(f.mem, m.file, offset, mask)) {
            fixture_free(&f);
            continue;
        }
        enum kv_err err = fixture_open(&f);
        uint64_t held = 0;
        for (uint32_t group = 1; group <= 3; group++) held += log_last(f.log, group);
        if (err == KV_OK) {
            bool is_tail = strcmp(m.file, last.file) == 0 && offset + 300 > last.offset;
            ck_assert_msg(held == ENTRIES || (is_tail && held == ENTRIES - 1),
                          "silently lost: %lu entries, flip at %s:%lu", (unsigned long)held, m.file, (unsigned long)offset);
        } else {
            ck_assert_int_eq(err, KV_CORRUPT);
            ck_assert(is_damaged(&f, 1) && is_damaged(&f, 2));
        }
        fixture_free(&f);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("log_damage");
    TCase *t = tcase_create("damage");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_a_flip_in_the_last_batch_is_a_tail);
    tcase_add_test(t, test_a_flip_below_is_corruption);
    tcase_add_test(t, test_damage_is_not_forgotten_with_its_segment);
    tcase_add_test(t, test_a_missing_segment_is_corruption);
    tcase_add_test(t, test_a_missing_beginning_is_corruption);
    tcase_add_test(t, test_a_header_alone_is_told_but_costs_nothing);
    tcase_add_test(t, test_a_later_format_is_refused);
    tcase_add_loop_test(t, test_any_flip, 0, 4);
    suite_add_tcase(s, t);
    return suite_run(s);
}

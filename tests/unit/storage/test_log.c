#include "tests/unit/storage/log_model.h"
#include <stdio.h>
#include <time.h>

/* The log as its owner sees it: appends, questions, lives, limits, poison. */

static void open_with_group(struct fixture *f, uint64_t seed, uint64_t segment_bytes)
{
    fixture_init(f, seed, segment_bytes);
    ck_assert_int_eq(fixture_open(f), KV_OK);
    ck_assert_int_eq(log_group_create(f->log, 5, 1, 0, 0), KV_OK);
}

START_TEST(test_append_and_read)
{
    struct fixture f;
    struct log_group g;
    struct log_entry e[4];
    uint32_t count;
    open_with_group(&f, 1, 64 << 10);
    put_now(&f, 5, 1, "one");
    put_now(&f, 5, 1, "two");
    put_now(&f, 5, 2, "three");
    ck_assert(log_group_get(f.log, 5, &g));
    ck_assert_uint_eq(g.last, 3);
    ck_assert_uint_eq(g.run_count, 2);
    ck_assert_uint_eq(g.runs[0].count, 2);
    ck_assert_uint_eq(g.runs[1].term, 2);
    ck_assert_uint_eq(log_first(f.log, 5), 1);
    ck_assert_uint_eq(log_term(f.log, 5, 3), 2);
    ck_assert_uint_eq(log_term(f.log, 5, 4), 0);
    ck_assert_int_eq(log_cached(f.log, 5, 1, 4, 6, e, &count), KV_OK);
    ck_assert_uint_eq(count, 2); /* "one" and "two" are six bytes */
    ck_assert_int_eq(log_cached(f.log, 5, 3, 4, 1, e, &count), KV_OK);
    ck_assert_uint_eq(count, 1); /* one at least, even over the budget */
    ck_assert(kv_slice_eq(e[0].bytes, kv_str("three")));
    ck_assert_uint_eq(e[0].term, 2);
    ck_assert_int_eq(log_cached(f.log, 5, 4, 4, 100, e, &count), KV_NOT_FOUND);
    ck_assert_int_eq(log_cached(f.log, 6, 1, 4, 100, e, &count), KV_NOT_FOUND);
    fixture_free(&f);
}
END_TEST

START_TEST(test_readable_before_durable)
{
    struct fixture f;
    struct waiter w;
    open_with_group(&f, 1, 64 << 10);
    ck_assert_int_eq(put_text(&f, &w, 5, 1, "soon"), KV_OK);
    ck_assert(log_has_queued(f.log));
    expect_text(&f, 5, 1, "soon");
    log_flush(f.log, false);
    ck_assert_uint_eq(w.done, 0);
    ck_assert_uint_gt(log_bytes_undurable(f.log), 0);
    fixture_settle(&f);
    ck_assert_uint_eq(w.done, 1);
    ck_assert_uint_eq(log_bytes_undurable(f.log), 0);
    ck_assert(!log_has_queued(f.log));
    fixture_free(&f);
}
END_TEST

START_TEST(test_truncate)
{
    struct fixture f;
    struct waiter w = {.append = {.done = waiter_done, .group = 5, .truncate_from = 2}};
    open_with_group(&f, 1, 64 << 10);
    put_now(&f, 5, 1, "one");
    put_now(&f, 5, 1, "two");
    put_now(&f, 5, 1, "three");
    ck_assert_int_eq(log_append(f.log, &w.append), KV_OK);
    ck_assert_uint_eq(log_last(f.log, 5), 1);
    put_now(&f, 5, 2, "zwei");
    for (int i = 0; i < 2; i++) {
        ck_assert_uint_eq(log_last(f.log, 5), 2);
        ck_assert_uint_eq(log_term(f.log, 5, 2), 2);
        expect_text(&f, 5, 1, "one");
        expect_text(&f, 5, 2, "zwei");
        ck_assert_int_eq(fixture_restart(&f, DISK_MEM_POWER_LOSS), KV_OK);
    }
    fixture_free(&f);
}
END_TEST

START_TEST(test_restart_keeps_everything)
{
    struct fixture f;
    struct log_group g;
    struct waiter w = {.append = {.done = waiter_done,
                                  .group = 9,
                                  .hard_changed = true,
                                  .term = 8,
                                  .vote = 4,
                                  .commit = 100}};
    fixture_init(&f, 2, 64 << 10);
    ck_assert_int_eq(fixture_open(&f), KV_OK);
    ck_assert_int_eq(log_group_create(f.log, 9, 4, 100, 7), KV_OK);
    ck_assert_int_eq(log_append(f.log, &w.append), KV_OK);
    put_now(&f, 9, 8, "a hundred and one");
    ck_assert_uint_eq(w.done, 1);
    for (int round = 0; round < 5; round++) {
        ck_assert_int_eq(fixture_restart(&f, round % 2 == 0 ? DISK_MEM_POWER_LOSS : DISK_MEM_KILL), KV_OK);
        ck_assert(log_group_get(f.log, 9, &g));
        ck_assert_uint_eq(g.replica, 4);
        ck_assert_uint_eq(g.term, 8);
        ck_assert_uint_eq(g.vote, 4);
        ck_assert_uint_eq(g.compacted_index, 100);
        ck_assert_uint_eq(g.compacted_term, 7);
        ck_assert_uint_eq(g.last, 101 + (uint64_t)round);
        expect_text(&f, 9, 101, "a hundred and one");
        put_now(&f, 9, 8, "more");
    }
    fixture_free(&f);
}
END_TEST

START_TEST(test_lives)
{
    struct fixture f;
    struct log_group g;
    uint32_t cursor = 0, group;
    open_with_group(&f, 1, 64 << 10);
    ck_assert_int_eq(log_group_create(f.log, 5, 1, 0, 0), KV_CONFLICT);
    put_now(&f, 5, 1, "of the first life");
    ck_assert_int_eq(log_group_create(f.log, 5, 2, 30, 3), KV_OK);
    ck_assert_int_eq(log_group_create(f.log, 2, 1, 0, 0), KV_OK);
    ck_assert_int_eq(log_group_create(f.log, 7, 1, 0, 0), KV_OK);
    log_group_destroy(f.log, 7);
    put_now(&f, 5, 4, "of the second");
    ck_assert_int_eq(fixture_restart(&f, DISK_MEM_KILL), KV_OK);
    ck_assert(log_group_get(f.log, 5, &g));
    ck_assert_uint_eq(g.replica, 2);
    ck_assert_uint_eq(g.last, 31);
    expect_text(&f, 5, 31, "of the second");
    ck_assert(log_group_next(f.log, &cursor, &group) && group == 2);
    ck_assert(log_group_next(f.log, &cursor, &group) && group == 5);
    ck_assert(!log_group_next(f.log, &cursor, &group));
    fixture_free(&f);
}
END_TEST

START_TEST(test_reset_behind_a_snapshot)
{
    struct fixture f;
    struct log_group g;
    struct waiter w = {.append = {.done = waiter_done, .group = 5, .hard_changed = true, .term = 3, .vote = 2, .commit = 50}};
    open_with_group(&f, 1, 64 << 10);
    put_now(&f, 5, 1, "gone");
    ck_assert_int_eq(log_reset(f.log, 5, 50, 3, &w.append), KV_OK);
    put_now(&f, 5, 3, "fifty-one");
    ck_assert_uint_eq(w.done, 1);
    for (int i = 0; i < 2; i++) {
        ck_assert(log_group_get(f.log, 5, &g));
        ck_assert_uint_eq(g.compacted_index, 50);
        ck_assert_uint_eq(g.compacted_term, 3);
        ck_assert_uint_eq(g.last, 51);
        ck_assert_uint_eq(g.term, 3);
        expect_text(&f, 5, 51, "fifty-one");
        ck_assert_int_eq(fixture_restart(&f, DISK_MEM_POWER_LOSS), KV_OK);
    }
    fixture_free(&f);
}
END_TEST

/* The node dies before it writes a hard state of the snapshot's term: the log must not hold
 * entries of a term that has not begun. A vote of that term or a later one stays. */
START_TEST(test_reset_begins_the_term)
{
    struct fixture f;
    struct log_group g;
    struct waiter w = {.append = {.done = waiter_done, .group = 5}};
    open_with_group(&f, 1, 64 << 10);
    ck_assert_int_eq(log_reset(f.log, 5, 50, 3, &w.append), KV_OK);
    put_now(&f, 5, 3, "fifty-one");
    for (int i = 0; i < 2; i++) {
        ck_assert(log_group_get(f.log, 5, &g));
        ck_assert_uint_eq(g.term, 3);
        ck_assert_uint_eq(g.vote, 0);
        ck_assert_uint_eq(g.commit, 50);
        ck_assert_int_eq(fixture_restart(&f, DISK_MEM_POWER_LOSS), KV_OK);
    }
    struct waiter voted = {.append = {.done = waiter_done, .group = 5, .hard_changed = true, .term = 7, .vote = 2, .commit = 51}};
    ck_assert_int_eq(log_append(f.log, &voted.append), KV_OK);
    struct waiter again = {.append = {.done = waiter_done, .group = 5}};
    ck_assert_int_eq(log_reset(f.log, 5, 90, 7, &again.append), KV_OK);
    put_now(&f, 5, 7, "ninety-one");
    ck_assert_int_eq(fixture_restart(&f, DISK_MEM_POWER_LOSS), KV_OK);
    ck_assert(log_group_get(f.log, 5, &g));
    ck_assert_uint_eq(g.term, 7);
    ck_assert_uint_eq(g.vote, 2);
    ck_assert_uint_eq(g.commit, 90);
    fixture_free(&f);
}
END_TEST

/* While a sync is under way appends collect: two operations on the disk per batch. */
START_TEST(test_group_commit)
{
    struct fixture f;
    struct waiter w[50];
    open_with_group(&f, 1, 64 << 10);
    put_now(&f, 5, 1, "first"); /* and the spares are claimed */
    uint64_t before = disk_mem_operations(f.mem);
    for (int i = 0; i < 50; i++) {
        ck_assert_int_eq(put_text(&f, &w[i], 5, 1, "x"), KV_OK);
        log_flush(f.log, false);
    }
    ck_assert_uint_eq(disk_mem_pending(f.mem), 1);
    ck_assert(disk_mem_step(f.mem));
    ck_assert_uint_eq(w[0].done, 1);
    ck_assert_uint_eq(w[1].done, 0);
    ck_assert(disk_mem_step(f.mem));
    ck_assert_uint_eq(disk_mem_pending(f.mem), 0);
    for (int i = 1; i < 50; i++) ck_assert_uint_eq(w[i].done, 1);
    /* write, its padding to the page, sync: twice */
    ck_assert_uint_le(disk_mem_operations(f.mem) - before, 6);
    fixture_free(&f);
}
END_TEST

START_TEST(test_inline_sync)
{
    struct fixture f;
    struct waiter w;
    open_with_group(&f, 1, 64 << 10);
    put_now(&f, 5, 1, "first");
    ck_assert_int_eq(put_text(&f, &w, 5, 1, "inline"), KV_OK);
    log_flush(f.log, true);
    ck_assert_uint_eq(w.done, 1);
    disk_mem_sync_ns_set(f.mem, 1500000);
    put_now(&f, 5, 1, "a slow sync");
    ck_assert_uint_eq(log_sync_ns_max(f.log), 1500000);
    disk_mem_sync_ns_set(f.mem, 100000);
    for (int i = 0; i < 16; i++) { /* for as long as it is among the last 16 */
        ck_assert_int_eq(put_text(&f, &w, 5, 1, "not inline"), KV_OK);
        log_flush(f.log, true);
        ck_assert_uint_eq(w.done, 0);
        fixture_settle(&f);
        ck_assert_uint_eq(w.done, 1);
    }
    ck_assert_int_eq(put_text(&f, &w, 5, 1, "inline again"), KV_OK);
    log_flush(f.log, true);
    ck_assert_uint_eq(w.done, 1);
    fixture_free(&f);
}
END_TEST

START_TEST(test_an_empty_append_waits_for_nothing)
{
    struct fixture f;
    struct waiter w = {.append = {.done = waiter_done, .group = 5}};
    open_with_group(&f, 1, 64 << 10);
    put_now(&f, 5, 1, "first");
    uint64_t before = disk_mem_operations(f.mem);
    ck_assert_int_eq(log_append(f.log, &w.append), KV_OK);
    ck_assert_uint_eq(w.done, 0);
    log_flush(f.log, false);
    ck_assert_uint_eq(w.done, 1);
    ck_assert_uint_eq(disk_mem_operations(f.mem), before);
    fixture_free(&f);
}
END_TEST

START_TEST(test_bytes_stay_until_memory_is_dropped)
{
    struct fixture f;
    struct log_entry e;
    uint32_t count, more = 0;
    open_with_group(&f, 1, 64 << 10);
    log_destroy(f.log);
    f.options.cache_bytes_max = 4096;
    ck_assert_int_eq(fixture_open(&f), KV_OK);
    ck_assert_int_eq(log_group_create(f.log, 5, 1, 0, 0), KV_OK);
    put_now(&f, 5, 1, "the first one");
    ck_assert_int_eq(log_cached(f.log, 5, 1, 1, 100, &e, &count), KV_OK);
    uint64_t dropped = log_dropped(f.log);
    for (; log_dropped(f.log) == dropped && more < 1000; more++) {
        ck_assert(kv_slice_eq(e.bytes, kv_str("the first one")));
        put_now(&f, 5, 1, "and one behind it");
    }
    ck_assert_uint_gt(more, 1);
    ck_assert_uint_lt(more, 1000);
    ck_assert_int_eq(log_cached(f.log, 5, 1, 1, 100, &e, &count), KV_BUSY);
    fixture_free(&f);
}
END_TEST

START_TEST(test_fetch)
{
    struct fixture f;
    struct fetched x;
    struct log_entry e;
    uint32_t count;
    char text[32];
    open_with_group(&f, 1, 64 << 10);
    log_destroy(f.log);
    f.options.cache_bytes_max = 4096;
    ck_assert_int_eq(fixture_open(&f), KV_OK);
    ck_assert_int_eq(log_group_create(f.log, 5, 1, 0, 0), KV_OK);
    for (int i = 1; i <= 300; i++) {
        snprintf(text, sizeof text, "entry number %d", i);
        put_now(&f, 5, 1 + (uint64_t)i / 100, text);
    }
    ck_assert_int_eq(log_cached(f.log, 5, 1, 1, 100, &e, &count), KV_BUSY);
    ck_assert_int_eq(fetch_now(&f, &x, 5, 1, 1 << 20), KV_OK);
    ck_assert_uint_eq(x.fetch.entry_count, 300); /* from the file and from memory */
    for (uint32_t i = 0; i < 300; i++) {
        snprintf(text, sizeof text, "entry number %u", i + 1);
        ck_assert(kv_slice_eq(x.fetch.entries[i].bytes, kv_str(text)));
        ck_assert_uint_eq(x.fetch.entries[i].term, 1 + (i + 1) / 100);
    }
    log_fetch_free(&x.fetch);
    ck_assert_int_eq(fetch_now(&f, &x, 5, 10, 40), KV_OK);
    ck_assert_uint_eq(x.fetch.entry_count, 2);
    log_fetch_free(&x.fetch);
    ck_assert_int_eq(fetch_now(&f, &x, 5, 301, 40), KV_NOT_FOUND);
    log_release(f.log, 5, 100);
    ck_assert_int_eq(fetch_now(&f, &x, 5, 100, 40), KV_NOT_FOUND);
    fixture_free(&f);
}
END_TEST

START_TEST(test_fetch_finds_rot)
{
    struct fixture f;
    struct fetched x;
    open_with_group(&f, 1, 64 << 10);
    put_now(&f, 5, 1, "the text that rots");
    ck_assert_int_eq(fixture_restart(&f, DISK_MEM_KILL), KV_OK); /* nothing is in memory now */
    log_flush(f.log, false);
    fixture_settle(&f); /* the first segment is gone, its batch copied */
    struct log_damage where = {.offset = 0};
    for (uint64_t id = 1; id < 9 && where.offset == 0; id++) {
        snprintf(where.file, sizeof where.file, "log-%016lx", (unsigned long)id);
        uint64_t offset = 4096 + 64 + 56 + 32 + 4; /* in the text, behind the GROUP record */
        if (disk_mem_flip(f.mem, where.file, offset, 0x10)) where.offset = offset;
    }
    ck_assert_uint_gt(where.offset, 0);
    ck_assert_int_eq(fetch_now(&f, &x, 5, 1, 100), KV_CORRUPT);
    ck_assert_ptr_null(x.fetch.memory);
    fixture_free(&f);
}
END_TEST

START_TEST(test_busy_takes_nothing)
{
    struct fixture f;
    struct waiter w[3];
    open_with_group(&f, 1, 64 << 10);
    log_destroy(f.log);
    f.options.append_bytes_max = 250;
    ck_assert_int_eq(fixture_open(&f), KV_OK);
    ck_assert_int_eq(log_group_create(f.log, 5, 1, 0, 0), KV_OK);
    log_flush(f.log, false);
    fixture_settle(&f);
    ck_assert_int_eq(put_text(&f, &w[0], 5, 1, "0123456789012345678901234567890123456789"), KV_OK);
    ck_assert_int_eq(put_text(&f, &w[1], 5, 1, "0123456789012345678901234567890123456789"), KV_OK);
    ck_assert_int_eq(put_text(&f, &w[2], 5, 1, "0123456789012345678901234567890123456789"), KV_BUSY);
    ck_assert_uint_eq(log_last(f.log, 5), 2);
    log_flush(f.log, false);
    fixture_settle(&f);
    ck_assert_uint_eq(w[1].done, 1);
    ck_assert_uint_eq(w[2].done, 0);
    ck_assert_int_eq(put_text(&f, &w[2], 5, 1, "now it fits"), KV_OK);
    fixture_free(&f);
}
END_TEST

static void expect_poisoned(struct fixture *f, const struct disk_mem_faults *faults, enum kv_err second)
{
    struct waiter w[3];
    open_with_group(f, 1, 64 << 10);
    put_now(f, 5, 1, "safe");
    disk_mem_faults_set(f->mem, faults);
    ck_assert_int_eq(put_text(f, &w[0], 5, 1, "fails"), KV_OK);
    log_flush(f->log, false);
    ck_assert_int_eq(put_text(f, &w[1], 5, 1, "behind it"), KV_OK);
    fixture_settle(f);
    ck_assert_uint_eq(w[0].done, 1);
    ck_assert_int_eq(w[0].err, second);
    ck_assert_uint_eq(w[1].done, 1);
    ck_assert_int_eq(w[1].err, KV_POISONED);
    ck_assert_uint_eq(f->poisoned, 1);
    ck_assert(log_is_poisoned(f->log));
    uint64_t before = disk_mem_operations(f->mem);
    ck_assert_int_eq(put_text(f, &w[2], 5, 1, "never again"), KV_POISONED);
    log_flush(f->log, true);
    fixture_settle(f);
    ck_assert_uint_eq(disk_mem_operations(f->mem), before);
    /* What failed may be there or not after a power loss; what was safe is. */
    ck_assert_int_eq(fixture_restart(f, DISK_MEM_POWER_LOSS), KV_OK);
    expect_text(f, 5, 1, "safe");
    fixture_free(f);
}

START_TEST(test_poison)
{
    struct fixture f;
    expect_poisoned(&f, &(struct disk_mem_faults){.fail_write_at = 1}, KV_POISONED);
    expect_poisoned(&f, &(struct disk_mem_faults){.fail_sync_at = 1}, KV_POISONED);
}
END_TEST

/* A full disk: what was claimed ahead is used up, log_is_full() says so in time, further appends wait
 * without an answer, nothing is poisoned, and it goes on by itself when space returns (R15). */
START_TEST(test_full)
{
    enum { APPENDS = 150 };
    static struct waiter w[APPENDS];
    struct fixture f;
    struct waiter more;
    char text[1024];
    memset(text, 'f', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    open_with_group(&f, 1, 16 << 10);
    fixture_close(&f);
    f.options.append_bytes_max = 64 << 10;
    ck_assert_int_eq(fixture_open(&f), KV_OK);
    ck_assert_int_eq(log_group_create(f.log, 5, 2, 0, 0), KV_OK);
    put_now(&f, 5, 1, "first");
    disk_mem_capacity_set(f.mem, log_bytes(f.log) + 8192);
    uint32_t accepted = 0, durable = 0, when_full = 0;
    enum kv_err err = KV_OK;
    while (err == KV_OK) {
        ck_assert_uint_lt(accepted, APPENDS);
        err = put_text(&f, &w[accepted], 5, 1, text);
        if (err == KV_OK) accepted++;
        log_flush(f.log, false);
        fixture_settle(&f);
        if (!log_is_full(f.log)) when_full = accepted;
    }
    ck_assert_int_eq(err, KV_NO_SPACE);
    ck_assert(log_is_full(f.log));
    ck_assert_uint_eq(log_last(f.log, 5), 1 + accepted);
    while (durable < accepted && w[durable].done > 0) durable++;
    ck_assert_uint_gt(durable, when_full + 10); /* there was time to refuse users, and room for raft */
    ck_assert_uint_gt(accepted, durable + 10);
    for (uint32_t i = durable; i < accepted; i++) ck_assert_uint_eq(w[i].done, 0);
    ck_assert_uint_eq(f.poisoned, 0);
    expect_text(&f, 5, 1 + accepted, text);
    disk_mem_capacity_set(f.mem, 0);
    for (int i = 0; i < 100 && log_is_full(f.log); i++) { /* it tries again by itself */
        log_flush(f.log, false);
        fixture_settle(&f);
    }
    ck_assert(!log_is_full(f.log));
    for (uint32_t i = 0; i < accepted; i++) ck_assert_int_eq(w[i].err, KV_OK);
    for (uint32_t i = 0; i < accepted; i++) ck_assert_uint_eq(w[i].done, 1);
    ck_assert_int_eq(put_text(&f, &more, 5, 1, "space again"), KV_OK);
    log_flush(f.log, false);
    fixture_settle(&f);
    ck_assert_uint_eq(more.done, 1);
    ck_assert_int_eq(fixture_restart(&f, DISK_MEM_POWER_LOSS), KV_OK);
    ck_assert_uint_eq(log_last(f.log, 5), accepted + 2);
    expect_text(&f, 5, accepted + 2, "space again");
    fixture_free(&f);
}
END_TEST

/* A restart with a promised segment: what waited for it was never acknowledged, and is gone. */
START_TEST(test_full_and_killed)
{
    struct fixture f;
    static struct waiter w[150];
    char text[1024];
    memset(text, 'k', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    open_with_group(&f, 1, 16 << 10);
    put_now(&f, 5, 1, "first");
    disk_mem_capacity_set(f.mem, log_bytes(f.log) + 8192);
    uint64_t durable = 1;
    for (int i = 0; i < 150; i++) {
        ck_assert_int_eq(put_text(&f, &w[i], 5, 1, text), KV_OK);
        log_flush(f.log, false);
        fixture_settle(&f);
    }
    for (int i = 0; i < 150; i++) durable += w[i].done;
    ck_assert_uint_lt(durable, 151);
    disk_mem_capacity_set(f.mem, 0);
    ck_assert_int_eq(fixture_restart(&f, DISK_MEM_KILL), KV_OK);
    ck_assert_uint_eq(log_last(f.log, 5), durable);
    fixture_free(&f);
}
END_TEST

/* An entry larger than any claimed segment waits for one that holds it. */
START_TEST(test_an_entry_larger_than_a_segment)
{
    struct fixture f;
    struct waiter w;
    size_t size = 300 << 10;
    char *text = malloc(size + 1);
    ck_assert_ptr_nonnull(text);
    memset(text, 'g', size);
    text[size] = '\0';
    open_with_group(&f, 1, 16 << 10);
    ck_assert_int_eq(put_text(&f, &w, 5, 1, text), KV_OK);
    expect_text(&f, 5, 1, text);
    log_flush(f.log, false);
    ck_assert(!log_has_queued(f.log));
    fixture_settle(&f);
    ck_assert_uint_eq(w.done, 1);
    put_now(&f, 5, 1, "small");
    for (int i = 0; i < 2; i++) {
        expect_text(&f, 5, 1, text);
        expect_text(&f, 5, 2, "small");
        ck_assert_int_eq(fixture_restart(&f, DISK_MEM_POWER_LOSS), KV_OK);
    }
    struct log_entry e = {.term = 1, .bytes = kv_slice(text, (size_t)LOG_ENTRY_BYTES_MAX + 1)};
    w.append.entries = &e;
    w.append.entry_count = 1;
    w.append.first = 3;
    ck_assert_int_eq(log_append(f.log, &w.append), KV_TOO_BIG);
    free(text);
    fixture_free(&f);
}
END_TEST

/* Released segments are used again, and nothing of their former life comes back. */
START_TEST(test_recycled_segments_do_not_resurrect)
{
    struct fixture f;
    struct log_group g;
    struct waiter hard = {.append = {.done = waiter_done, .group = 5, .hard_changed = true, .term = 4, .vote = 3}};
    char text[600];
    open_with_group(&f, 1, 16 << 10);
    ck_assert_int_eq(log_append(f.log, &hard.append), KV_OK); /* only in the first segment (R8) */
    for (int i = 0; i < 2000; i++) {
        memset(text, 'a' + i % 26, sizeof text - 1);
        text[sizeof text - 1] = '\0';
        put_now(&f, 5, 4, text);
        if (i % 10 == 9) log_release(f.log, 5, log_last(f.log, 5) - 3);
    }
    ck_assert_uint_lt(log_bytes(f.log), 10 * (64 << 10)); /* 1.2 MB went through it */
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(fixture_restart(&f, DISK_MEM_POWER_LOSS), KV_OK);
        ck_assert(log_group_get(f.log, 5, &g));
        ck_assert_uint_eq(g.last, 2000);
        ck_assert_uint_eq(g.term, 4);
        ck_assert_uint_eq(g.vote, 3);
        expect_text(&f, 5, 2000, text);
    }
    fixture_free(&f);
}
END_TEST

/* One group does not move while another fills the log: its entry is appended again. */
START_TEST(test_a_slow_group_does_not_pin_the_log)
{
    struct fixture f;
    uint64_t segment = 0;
    char text[600];
    memset(text, 'b', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    open_with_group(&f, 1, 16 << 10);
    ck_assert_int_eq(log_group_create(f.log, 6, 1, 0, 0), KV_OK);
    put_now(&f, 6, 1, "slow one");
    put_now(&f, 6, 2, "slow two");
    ck_assert(log_live_next(f.log, &segment));
    ck_assert_uint_eq(log_index_in(f.log, 6, segment), 2);
    ck_assert_uint_eq(log_index_in(f.log, 5, segment), 0);
    ck_assert_uint_eq(log_index_in(f.log, 6, segment - 1), 0);
    for (int i = 0; i < 2000; i++) {
        put_now(&f, 5, 4, text);
        if (i % 10 == 9) log_release(f.log, 5, log_last(f.log, 5));
    }
    ck_assert_uint_lt(log_bytes(f.log), 10 * (64 << 10));
    for (int i = 0; i < 2; i++) {
        expect_text(&f, 6, 1, "slow one");
        expect_text(&f, 6, 2, "slow two");
        ck_assert_uint_eq(log_last(f.log, 6), 2);
        ck_assert_int_eq(fixture_restart(&f, DISK_MEM_POWER_LOSS), KV_OK);
    }
    fixture_free(&f);
}
END_TEST

struct held { /* the append asked for last */
    struct disk_request *append;
};

static void on_schedule(void *context, struct disk_request *q, enum disk_mem_kind kind)
{
    if (kind == DISK_MEM_APPEND) ((struct held *)context)->append = q;
}

/* A restart copied the last batch; the old segment is not removed yet when the next batch is
 * written and the process dies. The copy counts, the original does not (rule 3 of log_walk.c). */
START_TEST(test_a_copied_tail_overrules_the_original)
{
    struct held held = {0};
    struct fixture f;
    struct waiter w;
    fixture_init(&f, 3, 64 << 10);
    disk_mem_destroy(f.mem);
    f.mem = disk_mem_create(&(struct disk_mem_options){.schedule = on_schedule, .context = &held});
    ck_assert_ptr_nonnull(f.mem);
    f.options.disk = disk_mem_disk(f.mem);
    ck_assert_int_eq(fixture_open(&f), KV_OK);
    ck_assert_int_eq(log_group_create(f.log, 5, 1, 0, 0), KV_OK);
    put_now(&f, 5, 1, "alone in its segment");
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(fixture_restart(&f, DISK_MEM_KILL), KV_OK);
        ck_assert_uint_eq(log_last(f.log, 5), 1 + (uint64_t)i);
        ck_assert_int_eq(put_text(&f, &w, 5, 1, "behind the copy"), KV_OK);
        log_flush(f.log, false);
        disk_mem_complete(f.mem, held.append); /* the removal still waits */
        ck_assert_uint_gt(disk_mem_pending(f.mem), 0);
        ck_assert_uint_eq(w.done, 1);
    }
    expect_text(&f, 5, 1, "alone in its segment");
    expect_text(&f, 5, 4, "behind the copy");
    fixture_free(&f);
}
END_TEST

START_TEST(test_another_store_is_refused)
{
    struct fixture f;
    open_with_group(&f, 1, 64 << 10);
    put_now(&f, 5, 1, "mine");
    fixture_close(&f);
    f.options.store_id++;
    ck_assert_int_eq(fixture_open(&f), KV_BAD_ARGUMENT);
    ck_assert_ptr_nonnull(log_damage(f.log));
    fixture_free(&f);
}
END_TEST

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* No threshold that a busy machine could miss: the rates are printed, an entry's cost in memory is checked. */
START_TEST(test_rates)
{
    enum { ENTRIES = 400000, AT_ONCE = 100 };
    struct fixture f;
    struct log_entry e[AT_ONCE];
    uint8_t value[100] = {1};
    for (int i = 0; i < AT_ONCE; i++) e[i] = (struct log_entry){.term = 1, .bytes = kv_slice(value, sizeof value)};
    open_with_group(&f, 1, 16 << 20);
    double start = seconds();
    for (int i = 0; i < ENTRIES / AT_ONCE; i++) {
        struct waiter w = {.append = {.done = waiter_done,
                                      .group = 5,
                                      .first = log_last(f.log, 5) + 1,
                                      .entries = e,
                                      .entry_count = AT_ONCE}};
        ck_assert_int_eq(log_append(f.log, &w.append), KV_OK);
        log_flush(f.log, false);
        fixture_settle(&f);
        ck_assert_uint_eq(w.done, 1);
    }
    double middle = seconds();
    ck_assert_int_eq(fixture_restart(&f, DISK_MEM_KILL), KV_OK);
    double end = seconds();
    ck_assert_uint_eq(log_last(f.log, 5), ENTRIES);
    printf("%d entries of 100 B: appended at %.0f/s, recovered at %.0f/s\n", ENTRIES, ENTRIES / (middle - start),
           ENTRIES / (end - middle));
    fixture_free(&f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("log");
    TCase *t = tcase_create("log");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_append_and_read);
    tcase_add_test(t, test_readable_before_durable);
    tcase_add_test(t, test_truncate);
    tcase_add_test(t, test_restart_keeps_everything);
    tcase_add_test(t, test_lives);
    tcase_add_test(t, test_reset_behind_a_snapshot);
    tcase_add_test(t, test_reset_begins_the_term);
    tcase_add_test(t, test_group_commit);
    tcase_add_test(t, test_inline_sync);
    tcase_add_test(t, test_an_empty_append_waits_for_nothing);
    tcase_add_test(t, test_bytes_stay_until_memory_is_dropped);
    tcase_add_test(t, test_fetch);
    tcase_add_test(t, test_fetch_finds_rot);
    tcase_add_test(t, test_busy_takes_nothing);
    tcase_add_test(t, test_poison);
    tcase_add_test(t, test_full);
    tcase_add_test(t, test_full_and_killed);
    tcase_add_test(t, test_an_entry_larger_than_a_segment);
    tcase_add_test(t, test_recycled_segments_do_not_resurrect);
    tcase_add_test(t, test_a_slow_group_does_not_pin_the_log);
    tcase_add_test(t, test_a_copied_tail_overrules_the_original);
    tcase_add_test(t, test_another_store_is_refused);
    tcase_add_test(t, test_rates);
    suite_add_tcase(s, t);
    return suite_run(s);
}

#ifndef TESTS_LOG_MODEL_H
#define TESTS_LOG_MODEL_H
#include "storage/disk_mem.h"
#include "storage/log.h"
#include <check.h>
#include <stdlib.h>

/* What the tests of the log share: a log on a disk in memory, and waiting. */
enum { FIXTURE_STORE_ID = 77 };

struct fixture {
    struct disk_mem *mem;
    struct log *log;
    struct log_options options;
    uint32_t poisoned;
};

static inline void fixture_poisoned(void *context, enum kv_err err)
{
    (void)err;
    ((struct fixture *)context)->poisoned++;
}

static inline enum kv_err fixture_open(struct fixture *f)
{
    ck_assert_int_eq(log_create(&f->options, &f->log), KV_OK);
    enum kv_err err = log_recover(f->log);
    if (err != KV_OK && err != KV_CORRUPT) return err;
    enum kv_err started = log_start(f->log);
    return started == KV_OK ? err : started;
}

static inline void fixture_init(struct fixture *f, uint64_t seed, uint64_t segment_bytes)
{
    *f = (struct fixture){.mem = disk_mem_create(&(struct disk_mem_options){.seed = seed})};
    f->options = (struct log_options){.disk = disk_mem_disk(f->mem),
                                      .store_id = FIXTURE_STORE_ID,
                                      .segment_bytes = segment_bytes,
                                      .segment_bytes_max = segment_bytes * 4,
                                      .poisoned = fixture_poisoned,
                                      .context = f};
}

static inline void fixture_settle(struct fixture *f)
{
    while (disk_mem_step(f->mem)) {
    }
}

static inline void fixture_close(struct fixture *f)
{
    log_destroy(f->log);
    f->log = NULL;
}

static inline void fixture_free(struct fixture *f)
{
    fixture_close(f);
    disk_mem_destroy(f->mem);
}

/* A crash of the machine or the process, and the next start. */
static inline enum kv_err fixture_restart(struct fixture *f, enum disk_mem_crash kind)
{
    disk_mem_crash(f->mem, kind);
    fixture_close(f);
    disk_mem_restart(f->mem);
    return fixture_open(f);
}

struct waiter {
    struct log_append append;
    enum kv_err err;
    uint32_t done;
};

static inline void waiter_done(struct log_append *a, enum kv_err err)
{
    struct waiter *w = container_of(a, struct waiter, append);
    w->done++;
    w->err = err;
}

/* Appends one entry of this text behind the last one. */
static inline enum kv_err put_text(struct fixture *f, struct waiter *w, uint32_t group, uint64_t term,
                                   const char *text)
{
    struct log_entry e = {.term = term, .bytes = kv_str(text)};
    *w = (struct waiter){.append = {.done = waiter_done,
                                    .group = group,
                                    .first = log_last(f->log, group) + 1,
                                    .entries = &e,
                                    .entry_count = 1}};
    enum kv_err err = log_append(f->log, &w->append);
    w->append.entries = NULL;
    return err;
}

/* The same, durable. */
static inline void put_now(struct fixture *f, uint32_t group, uint64_t term, const char *text)
{
    struct waiter w;
    ck_assert_int_eq(put_text(f, &w, group, term, text), KV_OK);
    log_flush(f->log, false);
    fixture_settle(f);
    ck_assert_uint_eq(w.done, 1);
    ck_assert_int_eq(w.err, KV_OK);
}

struct fetched {
    struct log_fetch fetch;
    enum kv_err err;
    uint32_t done;
};

static inline void fetched_done(struct log_fetch *f, enum kv_err err)
{
    struct fetched *x = container_of(f, struct fetched, fetch);
    x->done++;
    x->err = err;
}

static inline enum kv_err fetch_now(struct fixture *f, struct fetched *x, uint32_t group, uint64_t first,
                                    size_t bytes_max)
{
    *x = (struct fetched){
        .fetch = {.done = fetched_done, .group = group, .first = first, .bytes_max = bytes_max}};
    log_fetch(f->log, &x->fetch);
    fixture_settle(f);
    ck_assert_uint_eq(x->done, 1);
    return x->err;
}

/* Compares entry `index` with `text`, wherever it is kept. */
static inline void expect_text(struct fixture *f, uint32_t group, uint64_t index, const char *text)
{
    struct log_entry e;
    struct fetched x = {.done = 0};
    uint32_t count;
    enum kv_err err = log_cached(f->log, group, index, 1, SIZE_MAX, &e, &count);
    if (err == KV_BUSY) {
        ck_assert_int_eq(fetch_now(f, &x, group, index, 1), KV_OK);
        e = x.fetch.entries[0];
    } else {
        ck_assert_int_eq(err, KV_OK);
    }
    ck_assert_uint_eq(e.bytes.size, strlen(text));
    ck_assert_mem_eq(e.bytes.data, text, e.bytes.size);
    ck_assert_uint_eq(e.term, log_term(f->log, group, index));
    log_fetch_free(&x.fetch);
}

static inline int suite_run(Suite *s)
{
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
#endif

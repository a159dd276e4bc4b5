#include "storage/disk_mem.h"
#include "storage/disk_uv.h"
#include "tests/unit/unit.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Both disks do the same to whoever behaves; then what only each of them can do: threads and
 * locks here, losing things there. */

struct both { /* one of the two */
    struct disk *disk;
    struct disk_mem *mem;
    struct disk_uv *uv;
    int event;
    char directory[64];
};

static void on_wake(void *context)
{
    uint64_t one = 1;
    ck_assert_int_eq(write(((struct both *)context)->event, &one, sizeof one), sizeof one);
}

static void both_init(struct both *b, bool real)
{
    *b = (struct both){.event = -1};
    if (!real) {
        b->mem = disk_mem_create(&(struct disk_mem_options){.seed = 5});
        ck_assert_ptr_nonnull(b->mem);
        b->disk = disk_mem_disk(b->mem);
        return;
    }
    unit_temporary(b->directory, sizeof b->directory, "kvd-disk");
    ck_assert_ptr_nonnull(mkdtemp(b->directory));
    b->event = eventfd(0, EFD_CLOEXEC);
    ck_assert_int_ge(b->event, 0);
    ck_assert_int_eq(disk_uv_create(b->directory, on_wake, b, &b->uv), KV_OK);
    b->disk = disk_uv_disk(b->uv);
}

static void wait_a_little(struct both *b) /* until something is done, then calls back */
{
    uint64_t count;
    if (b->mem != NULL) {
        ck_assert(disk_mem_step(b->mem));
        return;
    }
    ck_assert_int_eq(poll(&(struct pollfd){.fd = b->event, .events = POLLIN}, 1, 10000), 1);
    ck_assert_int_eq(read(b->event, &count, sizeof count), sizeof count);
    disk_uv_poll(b->uv);
}

static void remove_each(void *context, const char *name, uint64_t size)
{
    struct both *b = context;
    (void)size;
    ck_assert_int_eq(b->disk->ops->remove(b->disk, name), KV_OK);
}

static void both_free(struct both *b)
{
    char lock[80];
    if (b->mem != NULL) {
        disk_mem_destroy(b->mem);
        return;
    }
    ck_assert_int_eq(b->disk->ops->list(b->disk, remove_each, b), KV_OK);
    disk_uv_destroy(b->uv);
    snprintf(lock, sizeof lock, "%s/LOCK", b->directory);
    unlink(lock);
    ck_assert_int_eq(rmdir(b->directory), 0);
    close(b->event);
}

static void list_each(void *context, const char *name, uint64_t size)
{
    char *text = context;
    snprintf(text + strlen(text), 100 - strlen(text), "%s:%lu ", name, (unsigned long)size);
}

START_TEST(test_files)
{
    struct both b;
    struct disk_file f, again;
    uint8_t bytes[16];
    char listing[100] = "";
    uint64_t size, space;
    size_t got;
    both_init(&b, _i == 1);
    const struct disk_ops *o = b.disk->ops;
    ck_assert_int_eq(o->open(b.disk, "b", false, &f), KV_NOT_FOUND);
    ck_assert_int_lt(f.handle, 0);
    ck_assert_int_eq(o->open(b.disk, "b", true, &f), KV_OK);
    ck_assert_int_eq(o->write(b.disk, f, 5000, kv_str("hello")), KV_OK);
    ck_assert_int_eq(o->size(b.disk, f, &size), KV_OK);
    ck_assert_uint_eq(size, 5005);
    ck_assert_int_eq(o->read(b.disk, f, 4998, bytes, sizeof bytes, &got), KV_OK);
    ck_assert_uint_eq(got, 7);
    ck_assert_mem_eq(bytes, "\0\0hello", 7);
    ck_assert_int_eq(o->read(b.disk, f, 6000, bytes, sizeof bytes, &got), KV_OK);
    ck_assert_uint_eq(got, 0);
    ck_assert_int_eq(o->sync(b.disk, f), KV_OK);
    ck_assert_int_eq(o->truncate(b.disk, f, 5002), KV_OK);
    ck_assert_int_eq(o->truncate(b.disk, f, 5004), KV_OK);
    ck_assert_int_eq(o->read(b.disk, f, 5000, bytes, sizeof bytes, &got), KV_OK);
    ck_assert_uint_eq(got, 4);
    ck_assert_mem_eq(bytes, "he\0\0", 4);
    ck_assert_int_eq(o->open(b.disk, "a", true, &again), KV_OK);
    ck_assert_int_eq(o->close(b.disk, again), KV_OK);
    ck_assert_int_eq(o->list(b.disk, list_each, listing), KV_OK);
    ck_assert_str_eq(listing, "a:0 b:5004 ");
    ck_assert_int_eq(o->rename(b.disk, "b", "a"), KV_OK);
    ck_assert_int_eq(o->rename(b.disk, "b", "c"), KV_NOT_FOUND);
    ck_assert_int_eq(o->sync_dir(b.disk), KV_OK);
    listing[0] = '\0';
    ck_assert_int_eq(o->list(b.disk, list_each, listing), KV_OK);
    ck_assert_str_eq(listing, "a:5004 ");
    ck_assert_int_eq(o->read(b.disk, f, 5000, bytes, 2, &got), KV_OK); /* a handle outlives names */
    ck_assert_mem_eq(bytes, "he", 2);
    ck_assert_int_eq(o->remove(b.disk, "a"), KV_OK);
    ck_assert_int_eq(o->remove(b.disk, "a"), KV_NOT_FOUND);
    ck_assert_int_eq(o->close(b.disk, f), KV_OK);
    ck_assert_int_eq(o->space(b.disk, &space), KV_OK);
    ck_assert_uint_gt(space, 0);
    ck_assert_int_eq(o->claim(b.disk, 1 << 20), KV_OK);
    ck_assert_int_eq(o->claim(b.disk, 1 << 19), KV_OK);
    listing[0] = '\0';
    ck_assert_int_eq(o->list(b.disk, list_each, listing), KV_OK); /* what is claimed is nobody's file */
    ck_assert_str_eq(listing, "");
    ck_assert_int_eq(o->claim(b.disk, 0), KV_OK);
    ck_assert_int_eq(o->claim(b.disk, 0), KV_OK);
    both_free(&b);
}
END_TEST

enum { REQUESTS = 64 };
struct request {
    struct disk_request io;
    struct both *b;
    struct kv_slice parts[12];
    int *order, *count, number;
    pthread_t *worked_on;
};

static void request_done(struct disk_request *q, enum kv_err err)
{
    struct request *r = container_of(q, struct request, io);
    ck_assert_int_eq(err, KV_OK);
    r->order[(*r->count)++] = r->number;
}

static void request_run(struct disk_request *q)
{
    *container_of(q, struct request, io)->worked_on = pthread_self();
}

START_TEST(test_appends_and_work_are_in_order)
{
    static struct request appends[REQUESTS], works[REQUESTS];
    static char text[12 * 8 + 1] = "-------1-------2-------3-------4-------5-------6-------7-------8-------9------10------11------12";
    int append_order[REQUESTS], work_order[REQUESTS], append_count = 0, work_count = 0;
    struct both b;
    struct disk_file f;
    uint8_t bytes[REQUESTS * 96];
    size_t got;
    pthread_t thread = pthread_self();
    both_init(&b, _i == 1);
    ck_assert_int_eq(b.disk->ops->open(b.disk, "log", true, &f), KV_OK);
    for (int i = 0; i < REQUESTS; i++) {
        struct request *r = &appends[i];
        *r = (struct request){.b = &b, .order = append_order, .count = &append_count, .number = i};
        for (int k = 0; k < 12; k++) r->parts[k] = kv_slice(text + k * 8, 8); /* more than one vector holds */
        r->io = (struct disk_request){.done = request_done,
                                      .file = f,
                                      .offset = (uint64_t)i * 96,
                                      .parts = r->parts,
                                      .part_count = 12,
                                      .sync = i % 8 == 0};
        b.disk->ops->append(b.disk, &r->io);
        works[i] = (struct request){.order = work_order, .count = &work_count, .number = i, .worked_on = &thread};
        works[i].io = (struct disk_request){.done = request_done, .run = request_run};
        b.disk->ops->work(b.disk, &works[i].io);
    }
    ck_assert_int_eq(append_count + work_count, 0); /* never inside the call */
    while (append_count + work_count < 2 * REQUESTS) wait_a_little(&b);
    for (int i = 0; i < REQUESTS; i++) {
        ck_assert_int_eq(append_order[i], i);
        ck_assert_int_eq(work_order[i], i);
    }
    if (_i == 1) ck_assert(!pthread_equal(thread, pthread_self()));
    ck_assert_int_eq(b.disk->ops->read(b.disk, f, 0, bytes, sizeof bytes, &got), KV_OK);
    ck_assert_uint_eq(got, sizeof bytes);
    for (int i = 0; i < REQUESTS; i++) ck_assert_mem_eq(bytes + i * 96, text, 96);
    appends[0].io.offset = sizeof bytes;
    ck_assert_int_eq(b.disk->ops->append_now(b.disk, &appends[0].io), KV_OK);
    ck_assert_int_eq(append_count, REQUESTS); /* append_now does not call back */
    if (_i == 1) ck_assert_uint_gt(appends[0].io.ns, 0);
    ck_assert_int_eq(b.disk->ops->close(b.disk, f), KV_OK);
    both_free(&b);
}
END_TEST

static void never_done(struct disk_request *q, enum kv_err err)
{
    (void)q;
    (void)err;
    ck_abort_msg("a drained request was answered");
}

static void idle_run(struct disk_request *q)
{
    (void)q;
}

START_TEST(test_drain)
{
    struct disk_request q[20];
    struct both b;
    both_init(&b, _i == 1);
    for (int i = 0; i < 20; i++) {
        q[i] = (struct disk_request){.done = never_done, .run = idle_run};
        b.disk->ops->work(b.disk, &q[i]);
    }
    b.disk->ops->drain(b.disk);
    memset(q, 0x55, sizeof q); /* nobody looks at them any more */
    if (b.uv != NULL) disk_uv_poll(b.uv);
    if (b.mem != NULL) ck_assert(!disk_mem_step(b.mem));
    both_free(&b);
}
END_TEST

START_TEST(test_uv_lock)
{
    struct both b;
    struct disk_uv *second;
    both_init(&b, true);
    ck_assert_int_eq(disk_uv_create(b.directory, on_wake, &b, &second), KV_BUSY);
    disk_uv_destroy(b.uv);
    ck_assert_int_eq(disk_uv_create(b.directory, on_wake, &b, &b.uv), KV_OK);
    b.disk = disk_uv_disk(b.uv);
    both_free(&b);
    ck_assert_int_eq(disk_uv_create("/proc/none/of/this", on_wake, &b, &second), KV_NOT_FOUND);
    ck_assert_int_eq(disk_uv_create("/dev/null", on_wake, &b, &second), KV_DENIED);
}
END_TEST

/* Unsynced pages go their own ways, synced ones stay; over many seeds every fate occurs. */
START_TEST(test_mem_power_loss)
{
    enum { PAGES = 8 };
    uint32_t kept = 0, lost = 0, torn = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct disk_mem *m = disk_mem_create(&(struct disk_mem_options){.seed = seed});
        struct disk *d = disk_mem_disk(m);
        struct disk_file f;
        uint8_t old[4096], new[4096], now[4096];
        size_t got;
        memset(old, 'o', sizeof old);
        memset(new, 'n', sizeof new);
        ck_assert_int_eq(d->ops->open(d, "f", true, &f), KV_OK);
        ck_assert_int_eq(d->ops->sync_dir(d), KV_OK);
        for (uint64_t i = 0; i < PAGES; i++)
            ck_assert_int_eq(d->ops->write(d, f, i * 4096, kv_slice(old, sizeof old)), KV_OK);
        ck_assert_int_eq(d->ops->sync(d, f), KV_OK);
        for (uint64_t i = 1; i < PAGES; i++)
            ck_assert_int_eq(d->ops->write(d, f, i * 4096, kv_slice(new, sizeof new)), KV_OK);
        disk_mem_crash(m, DISK_MEM_POWER_LOSS);
        ck_assert_int_eq(d->ops->read(d, f, 0, now, 1, &got), KV_CLOSED);
        disk_mem_restart(m);
        ck_assert_int_eq(d->ops->open(d, "f", false, &f), KV_OK);
        for (uint64_t i = 0; i < PAGES; i++) {
            ck_assert_int_eq(d->ops->read(d, f, i * 4096, now, sizeof now, &got), KV_OK);
            ck_assert_uint_eq(got, sizeof now);
            bool is_old = memcmp(now, old, sizeof now) == 0, is_new = memcmp(now, new, sizeof now) == 0;
            if (i == 0) {
                ck_assert(is_old);
                continue;
            }
            kept += is_new;
            lost += is_old;
            torn += !is_old && !is_new;
            for (size_t k = 0; k < sizeof now; k += 512) /* a sector is never torn */
                ck_assert(memcmp(now + k, old, 512) == 0 || memcmp(now + k, new, 512) == 0);
        }
        disk_mem_destroy(m);
    }
    ck_assert_uint_gt(kept, 50);
    ck_assert_uint_gt(lost, 50);
    ck_assert_uint_gt(torn, 50);
}
END_TEST

START_TEST(test_mem_kill_keeps_the_page_cache)
{
    struct disk_mem *m = disk_mem_create(&(struct disk_mem_options){.seed = 1});
    struct disk *d = disk_mem_disk(m);
    struct disk_file f;
    uint8_t byte = 0;
    size_t got;
    ck_assert_int_eq(d->ops->open(d, "f", true, &f), KV_OK);
    ck_assert_int_eq(d->ops->write(d, f, 0, kv_str("x")), KV_OK);
    disk_mem_crash(m, DISK_MEM_KILL);
    disk_mem_restart(m);
    ck_assert_int_eq(d->ops->open(d, "f", false, &f), KV_OK);
    ck_assert_int_eq(d->ops->read(d, f, 0, &byte, 1, &got), KV_OK);
    ck_assert_uint_eq(byte, 'x');
    disk_mem_destroy(m);
}
END_TEST

START_TEST(test_mem_names_need_sync_dir)
{
    uint32_t there = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct disk_mem *m = disk_mem_create(&(struct disk_mem_options){.seed = seed});
        struct disk *d = disk_mem_disk(m);
        struct disk_file f;
        ck_assert_int_eq(d->ops->open(d, "safe", true, &f), KV_OK);
        ck_assert_int_eq(d->ops->sync_dir(d), KV_OK);
        ck_assert_int_eq(d->ops->open(d, "maybe", true, &f), KV_OK);
        ck_assert_int_eq(d->ops->sync(d, f), KV_OK); /* its bytes, not its name */
        disk_mem_crash(m, DISK_MEM_POWER_LOSS);
        disk_mem_restart(m);
        ck_assert_int_eq(d->ops->open(d, "safe", false, &f), KV_OK);
        there += d->ops->open(d, "maybe", false, &f) == KV_OK;
        disk_mem_destroy(m);
    }
    ck_assert_uint_gt(there, 0);
    ck_assert_uint_lt(there, 40);
}
END_TEST

START_TEST(test_mem_faults)
{
    struct disk_mem *m = disk_mem_create(&(struct disk_mem_options){.seed = 1, .capacity = 8192});
    struct disk *d = disk_mem_disk(m);
    struct disk_file f;
    uint8_t bytes[4096] = {1};
    uint64_t space;
    ck_assert_int_eq(d->ops->open(d, "f", true, &f), KV_OK);
    ck_assert_int_eq(d->ops->write(d, f, 0, kv_slice(bytes, 4096)), KV_OK);
    ck_assert_int_eq(d->ops->space(d, &space), KV_OK);
    ck_assert_uint_eq(space, 4096);
    ck_assert_int_eq(d->ops->claim(d, 5000), KV_NO_SPACE);
    ck_assert_int_eq(d->ops->claim(d, 3000), KV_OK);
    ck_assert_int_eq(d->ops->space(d, &space), KV_OK);
    ck_assert_uint_eq(space, 1096);
    ck_assert_int_eq(d->ops->claim(d, 0), KV_OK);
    ck_assert_int_eq(d->ops->write(d, f, 8000, kv_slice(bytes, 4096)), KV_NO_SPACE);
    disk_mem_faults_set(m, &(struct disk_mem_faults){.fail_write_at = 2, .fail_sync_at = 1});
    ck_assert_int_eq(d->ops->write(d, f, 0, kv_slice(bytes, 1)), KV_OK);
    ck_assert_int_eq(d->ops->write(d, f, 0, kv_slice(bytes, 1)), KV_IO);
    ck_assert_int_eq(d->ops->sync(d, f), KV_IO);
    ck_assert_int_eq(d->ops->sync(d, f), KV_OK); /* which proves nothing: that is why nobody retries */
    disk_mem_faults_set(m, &(struct disk_mem_faults){.crash_at = 2});
    ck_assert_int_eq(d->ops->write(d, f, 0, kv_slice(bytes, 1)), KV_OK);
    ck_assert_int_eq(d->ops->write(d, f, 0, kv_slice(bytes, 1)), KV_CLOSED);
    ck_assert(disk_mem_is_crashed(m));
    ck_assert_int_eq(d->ops->sync_dir(d), KV_CLOSED);
    disk_mem_destroy(m);
}
END_TEST

struct order {
    struct disk_request *work, *append;
    uint32_t done;
};

static void on_schedule(void *context, struct disk_request *q, enum disk_mem_kind kind)
{
    struct order *o = context;
    if (kind == DISK_MEM_WORK) o->work = q;
    if (kind == DISK_MEM_APPEND) {
        o->append = q;
        q->ns = 42;
    }
}

static void on_done(struct disk_request *q, enum kv_err err)
{
    (void)q;
    ck_assert_int_eq(err, KV_OK);
}

START_TEST(test_mem_schedule)
{
    struct order o = {.done = 0};
    struct disk_mem *m = disk_mem_create(&(struct disk_mem_options){.schedule = on_schedule, .context = &o});
    struct disk *d = disk_mem_disk(m);
    struct disk_request work = {.done = on_done, .run = idle_run}, append = {.done = on_done};
    struct disk_file f;
    struct kv_slice part = kv_str("late");
    uint64_t size;
    ck_assert_int_eq(d->ops->open(d, "f", true, &f), KV_OK);
    append.file = f;
    append.parts = &part;
    append.part_count = 1;
    d->ops->work(d, &work);
    d->ops->append(d, &append);
    ck_assert_ptr_eq(o.work, &work);
    ck_assert_ptr_eq(o.append, &append);
    ck_assert_uint_eq(disk_mem_pending(m), 2);
    ck_assert_int_eq(d->ops->size(d, f, &size), KV_OK);
    ck_assert_uint_eq(size, 0); /* nothing happens before it is completed */
    disk_mem_complete(m, &append);
    ck_assert_int_eq(d->ops->size(d, f, &size), KV_OK);
    ck_assert_uint_eq(size, 4);
    ck_assert_uint_eq(append.ns, 42);
    disk_mem_complete(m, &work);
    ck_assert_uint_eq(disk_mem_pending(m), 0);
    disk_mem_destroy(m);
}
END_TEST

static uint64_t digest_of(uint64_t seed)
{
    struct disk_mem *m = disk_mem_create(&(struct disk_mem_options){.seed = seed});
    struct disk *d = disk_mem_disk(m);
    struct disk_file f;
    uint8_t bytes[20000];
    memset(bytes, 7, sizeof bytes);
    ck_assert_int_eq(d->ops->open(d, "f", true, &f), KV_OK);
    ck_assert_int_eq(d->ops->sync_dir(d), KV_OK);
    ck_assert_int_eq(d->ops->write(d, f, 100, kv_slice(bytes, sizeof bytes)), KV_OK);
    disk_mem_crash(m, DISK_MEM_POWER_LOSS);
    disk_mem_restart(m);
    uint64_t digest = disk_mem_digest(m);
    disk_mem_destroy(m);
    return digest;
}

START_TEST(test_mem_is_a_function_of_its_seed)
{
    bool differ = false;
    for (uint64_t seed = 1; seed < 20; seed++) {
        ck_assert_uint_eq(digest_of(seed), digest_of(seed));
        differ = differ || digest_of(seed) != digest_of(seed + 1);
    }
    ck_assert(differ);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("disk");
    TCase *t = tcase_create("disk");
    tcase_set_timeout(t, 30);
    tcase_add_loop_test(t, test_files, 0, 2);
    tcase_add_loop_test(t, test_appends_and_work_are_in_order, 0, 2);
    tcase_add_loop_test(t, test_drain, 0, 2);
    tcase_add_test(t, test_uv_lock);
    tcase_add_test(t, test_mem_power_loss);
    tcase_add_test(t, test_mem_kill_keeps_the_page_cache);
    tcase_add_test(t, test_mem_names_need_sync_dir);
    tcase_add_test(t, test_mem_faults);
    tcase_add_test(t, test_mem_schedule);
    tcase_add_test(t, test_mem_is_a_function_of_its_seed);
    suite_add_tcase(s, t);
    return unit_finish(s);
}

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/base/endian.h"
#include "client/base/hash.h"
#include "storage/checkpoint_lmdb.h"
#include "storage/disk_uv.h"
#include "storage/store.h"
#include "storage/value.h"
#include "tests/unit/unit.h"

/* The store on real files, real threads and LMDB. A child writes until it is killed; each
 * entry that it was told is durable goes through a pipe. The next child finds them. */
enum { KEYS = 2000,
       ROUNDS = 6 };

struct real {
    int wake[2];
    struct disk_uv *disk;
    struct checkpoint *checkpoint;
    struct store *store;
    uint64_t now_ns;
};

static void wake(void *context)
{
    struct real *r = context;
    ssize_t n = write(r->wake[1], "w", 1);
    (void)n; /* full: it will wake up anyway */
}
static uint64_t now(void *context)
{
    return ++((struct real *)context)->now_ns * 1000000;
}
static void poisoned(void *context, enum kv_err err)
{
    (void)context;
    fprintf(stderr, "poisoned: %s\n", kv_err_name(err));
    _exit(3);
}

/* One turn: what the disk finished, then what this turn asked for. */
static void turn(struct real *r, bool wait)
{
    store_flush(r->store, false);
    struct pollfd p = {.fd = r->wake[0], .events = POLLIN};
    char drained[64];
    if (poll(&p, 1, wait ? 1000 : 0) > 0) {
        ssize_t n = read(r->wake[0], drained, sizeof drained);
        (void)n;
    }
    disk_uv_poll(r->disk);
}

static void real_open(struct real *r, const char *directory)
{
    *r = (struct real){0};
    ck_assert_int_eq(pipe(r->wake), 0);
    ck_assert_int_eq(disk_uv_create(directory, wake, r, &r->disk), KV_OK);
    ck_assert_int_eq(checkpoint_lmdb_create(&(struct checkpoint_lmdb_options){.directory = directory, .map_bytes = 1 << 28}, &r->checkpoint, NULL, 0), KV_OK);
    struct store_options o = {
        .disk = disk_uv_disk(r->disk),
        .checkpoint = r->checkpoint,
        .now_ns = now,
        .poisoned = poisoned,
        .context = r,
        .memtable_bytes_max = 256 << 10,
        .log = {.segment_bytes = 256 << 10, .segment_bytes_max = 256 << 10},
    };
    enum kv_err err = store_open(&o, 1, 1, &r->store);
    ck_assert_msg(err == KV_OK && store_damage(r->store) == NULL, "%s: %s", kv_err_name(err),
                  store_damage(r->store));
}

static void real_close(struct real *r)
{
    store_close(r->store);
    r->checkpoint->ops->destroy(r->checkpoint);
    disk_uv_destroy(r->disk);
    close(r->wake[0]);
    close(r->wake[1]);
}

static struct kv_slice key_of(uint64_t index, uint8_t key[8])
{
    be32_put(key, 1);
    be32_put(key + 4, (uint32_t)(index * 7919 % KEYS));
    return kv_slice(key, 8);
}

/* Entry `index` writes its number into one key and counts in another. */
static void apply(struct real *r, uint64_t index)
{
    uint8_t key[8], counter[8], rows[2][VALUE_HEADER_BYTES + 300] = {{0}};
    struct kv_slice old;
    uint64_t count = 0;
    be32_put(counter, 1);
    be32_put(counter + 4, UINT32_MAX);
    if (store_get(r->store, STORE_DATA, kv_slice(counter, 8), kv_slice(NULL, 0), &old) == KV_OK)
        count = le64_get(old.data + VALUE_HEADER_BYTES);
    le64_put(rows[0] + VALUE_HEADER_BYTES, index);
    le64_put(rows[1] + VALUE_HEADER_BYTES, count + 1);
    struct value v = {.type = VALUE_STRING, .version_index = index};
    v.payload = kv_slice(rows[0] + VALUE_HEADER_BYTES, 300);
    value_header_write(key_of(index, key), &v, rows[0]);
    v.payload = kv_slice(rows[1] + VALUE_HEADER_BYTES, 8);
    value_header_write(kv_slice(counter, 8), &v, rows[1]);
    struct store_op ops[2] = {
        {.kind = STORE_PUT,
         .row = {.class = STORE_DATA,
                 .key = kv_slice(key, 8),
                 .value = kv_slice(rows[0], VALUE_HEADER_BYTES + 300)}},
        {.kind = STORE_PUT,
         .row = {.class = STORE_DATA,
                 .key = kv_slice(counter, 8),
                 .value = kv_slice(rows[1], VALUE_HEADER_BYTES + 8)}},
    };
    store_apply(r->store, 1, index, 1, 0, ops, 2);
}

struct waiting {
    union {
        struct log_append append;
        struct log_fetch fetch;
    } u;
    bool done;
};
static void appended(struct log_append *a, enum kv_err err)
{
    ck_assert_int_eq(err, KV_OK);
    container_of(a, struct waiting, u.append)->done = true;
}
static void fetched(struct log_fetch *f, enum kv_err err)
{
    ck_assert_int_eq(err, KV_OK);
    container_of(f, struct waiting, u.fetch)->done = true;
}

static uint64_t entry_read(struct real *r, uint64_t index)
{
    struct log_entry e;
    uint32_t count;
    enum kv_err err = log_cached(store_log(r->store), 1, index, 1, 1, &e, &count);
    if (err == KV_OK) return le64_get(e.bytes.data);
    ck_assert_int_eq(err, KV_BUSY);
    struct waiting w = {.u.fetch = {.done = fetched, .group = 1, .first = index, .bytes_max = 1}};
    log_fetch(store_log(r->store), &w.u.fetch);
    while (!w.done)
        turn(r, true);
    uint64_t number = le64_get(w.u.fetch.entries[0].bytes.data);
    log_fetch_free(&w.u.fetch);
    return number;
}

/* Brings the group to the end of its log and looks whether the state is what `last` entries
 * make: nothing missing, nothing applied twice. Returns `last`. */
static uint64_t recover(struct real *r)
{
    struct store_group g;
    if (!store_group_get(r->store, 1, &g)) {
        struct waiting w = {.u.append = {.done = appended}};
        ck_assert_int_eq(store_group_create(r->store, 1, 1, kv_str("d"), 0, 0, &w.u.append), KV_OK);
        while (!w.done)
            turn(r, true);
        return 0;
    }
    ck_assert(!g.log.damaged);
    ck_assert_uint_le(g.applied, g.log.last);
    for (uint64_t index = g.applied + 1; index <= g.log.last; index++) {
        ck_assert_uint_eq(entry_read(r, index), index);
        apply(r, index);
    }
    uint64_t last = g.log.last, expect[KEYS] = {0};
    uint8_t key[8];
    struct kv_slice row;
    struct value v;
    for (uint64_t index = 1; index <= last; index++)
        expect[index * 7919 % KEYS] = index;
    for (uint64_t k = 0; k < KEYS; k++) {
        if (expect[k] == 0) continue;
        enum kv_err err =
            store_get(r->store, STORE_DATA, key_of(expect[k], key), kv_slice(NULL, 0), &row);
        ck_assert_int_eq(err, KV_OK);
        ck_assert_int_eq(value_read(kv_slice(key, 8), row, &v), KV_OK);
        ck_assert_uint_eq(le64_get(v.payload.data), expect[k]);
    }
    be32_put(key + 4, UINT32_MAX);
    if (last > 0) {
        ck_assert_int_eq(store_get(r->store, STORE_DATA, kv_slice(key, 8), kv_slice(NULL, 0), &row),
                         KV_OK);
        ck_assert_uint_eq(le64_get(row.data + VALUE_HEADER_BYTES), last);
    }
    return last;
}

static void write_until_killed(const char *directory, int acknowledged)
{
    struct real r;
    real_open(&r, directory);
    uint64_t last = recover(&r), applied = last;
    for (;;) {
        struct log_entry entries[20];
        uint8_t bytes[20][8];
        for (uint64_t i = 0; i < 20; i++) {
            le64_put(bytes[i], last + 1 + i);
            entries[i] = (struct log_entry){.term = 1, .bytes = kv_slice(bytes[i], 8)};
        }
        struct waiting w = {.u.append = {.done = appended,
                                         .group = 1,
                                         .hard_changed = true,
                                         .term = 1,
                                         .commit = applied,
                                         .first = last + 1,
                                         .entries = entries,
                                         .entry_count = 20}};
        while (store_pressure(r.store) > 100 || store_append(r.store, &w.u.append) != KV_OK)
            turn(&r, true);
        last += 20;
        if (last % 3 == 0) /* a quorum of others was faster than this disk */
            while (applied < last)
                apply(&r, ++applied);
        while (!w.done)
            turn(&r, true);
        if (write(acknowledged, &last, sizeof last) != sizeof last) _exit(1);
        while (applied < last)
            apply(&r, ++applied);
        store_release(r.store, 1, applied);
    }
}

START_TEST(killed)
{
    char directory[64], command[96];
    unit_temporary(directory, sizeof directory, "kvd-store");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    uint64_t seed = (uint64_t)_i + 1, acked = 0;
    int checkpoints = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int ends[2];
        ck_assert_int_eq(pipe(ends), 0);
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            close(ends[0]);
            write_until_killed(directory, ends[1]);
        }
        close(ends[1]);
        uint64_t n;
        for (uint64_t left = 1 + kv_random_next(&seed) % 150; left > 0; left--) {
            ck_assert_int_eq(read(ends[0], &n, sizeof n), sizeof n);
            acked = n;
        }
        kill(child, SIGKILL);
        ck_assert_int_eq(waitpid(child, NULL, 0), child);
        while (read(ends[0], &n, sizeof n) == sizeof n)
            acked = n;
        close(ends[0]);
        struct real r;
        real_open(&r, directory);
        uint64_t last = recover(&r);
        ck_assert_uint_ge(last, acked);
        struct store_group g;
        ck_assert(store_group_get(r.store, 1, &g));
        checkpoints += g.checkpointed > 0;
        real_close(&r);
    }
    ck_assert_int_gt(checkpoints, 0);
    snprintf(command, sizeof command, "rm -r '%s'", directory);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_killed");
    TCase *tc = tcase_create("store_killed");
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, killed, 0, 3);
    tcase_set_timeout(tc, 60);
    return unit_finish(suite);
}

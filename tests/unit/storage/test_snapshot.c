#include <stdio.h>

#include "tests/unit/storage/node.h"
#include "tests/unit/unit.h"

/* A snapshot travels from one node to another: exported, read in chunks, written in chunks,
 * installed. */
struct exported {
    struct store_export export;
    int done;
    enum kv_err err;
};
static void on_exported(struct store_export *e, enum kv_err err)
{
    struct exported *x = container_of(e, struct exported, export);
    x->done++;
    x->err = err;
}

struct chunked {
    struct store_chunk chunk;
    int done;
    enum kv_err err;
};
static void on_chunk(struct store_chunk *c, enum kv_err err)
{
    struct chunked *x = container_of(c, struct chunked, chunk);
    x->done++;
    x->err = err;
}

struct installed {
    struct store_install install;
    int done;
    enum kv_err err;
};
static void on_installed(struct store_install *i, enum kv_err err)
{
    struct installed *x = container_of(i, struct installed, install);
    x->done++;
    x->err = err;
}

static void export(struct node *n, struct exported *x)
{
    *x = (struct exported){.export = {.done = on_exported, .group = 0}};
    store_export(n->store, &x->export);
    ck_assert_int_eq(x->done, 0);
}

static enum kv_err chunk_do(struct node *n, const char *file, uint64_t offset, uint8_t *bytes,
                            size_t size, size_t *got, bool write)
{
    struct chunked c = {
        .chunk = {.done = on_chunk, .offset = offset, .bytes = bytes, .size = size}};
    snprintf(c.chunk.file, sizeof c.chunk.file, "%s", file);
    (write ? store_chunk_write : store_chunk_read)(n->store, &c.chunk);
    while (c.done == 0)
        ck_assert(node_step(n));
    *got = c.chunk.got;
    return c.err;
}

static void transfer(struct node *from, const struct store_snapshot *s, struct node *to,
                     const char *file)
{
    static uint8_t bytes[70000];
    size_t got = 0, wrote = 0;
    for (uint64_t at = 0; at < s->bytes; at += got) {
        ck_assert_int_eq(
            chunk_do(from, s->file, at, bytes, 1 + (at * 7 + 40000) % sizeof bytes, &got, false),
            KV_OK);
        ck_assert_uint_gt(got, 0);
        ck_assert_int_eq(chunk_do(to, file, at, bytes, got, &wrote, true), KV_OK);
        ck_assert_uint_eq(wrote, got);
    }
    ck_assert_int_eq(chunk_do(from, s->file, s->bytes, bytes, 10, &got, false), KV_OK);
    ck_assert_uint_eq(got, 0);
}

static void install(struct node *n, struct installed *x, const struct store_snapshot *s,
                    const char *file, uint8_t bounds[8])
{
    *x = (struct installed){.install = {.done = on_installed, .group = 0, .snapshot = *s}};
    snprintf(x->install.snapshot.file, sizeof x->install.snapshot.file, "%s", file);
    node_range(0, bounds, &x->install.range);
    store_install(n->store, &x->install);
    ck_assert_int_eq(x->done, 0);
}

static void source_init(struct node *n, uint64_t seed, int turns)
{
    node_init(n, seed);
    ck_assert_int_eq(node_open(n), KV_OK);
    for (uint32_t g = 0; g < NODE_GROUPS; g++)
        ck_assert_int_eq(node_create_group(n, g, 1), KV_OK);
    node_settle(n);
    for (int turn = 0; turn < turns; turn++)
        node_turn(n);
    node_settle(n);
}

/* The receiver: its replica of group 0 has an older state of its own, in all layers. */
static void target_init(struct node *n, uint64_t seed, const struct node *like, uint64_t entries)
{
    node_init(n, seed);
    ck_assert_int_eq(node_open(n), KV_OK);
    ck_assert_int_eq(node_create_group(n, 0, 2), KV_OK);
    ck_assert_int_eq(node_create_group(n, 1, 1), KV_OK);
    node_settle(n);
    for (uint64_t i = 0; i < entries; i++) {
        node_append_seeds(n, 0, &like->groups[0].seeds[i], 1);
        node_apply(n, 0, i + 1);
        node_append(n, 1, 1);
        node_apply(n, 1, i + 1);
        if (i % 7 == 3) store_checkpoint(n->store, NULL);
        store_flush(n->store, false);
        if (i % 5 == 0) node_step(n);
    }
}

/* What the receiver must hold after the install. */
static void target_expect(struct node *n, const struct node *like, uint64_t index)
{
    struct node_group *g = &n->groups[0];
    memcpy(g->seeds, like->groups[0].seeds, sizeof g->seeds);
    g->last = g->acked = g->applied = index;
    model_free(&n->model);
    for (uint32_t i = 0; i < NODE_GROUPS; i++)
        for (uint64_t k = 1; k <= n->groups[i].applied; k++)
            model_entry(&n->model, i, k, n->groups[i].seeds[k - 1]);
}

START_TEST(round_trip)
{
    struct node a, b;
    struct exported x;
    struct installed y;
    struct store_group g;
    uint8_t bounds[8];
    source_init(&a, 20 + (uint64_t)_i, 60);
    export(&a, &x);
    for (int turn = 0; turn < 20; turn++)
        node_turn(&a); /* goes on meanwhile */
    node_settle(&a);
    ck_assert_int_eq(x.err, KV_OK);
    ck_assert_uint_gt(x.export.out.index, 0);
    ck_assert_uint_eq(x.export.out.clock_ms, x.export.out.index * 10);

    target_init(&b, 21, &a, (uint64_t)_i * 5);
    transfer(&a, &x.export.out, &b, "in-1.snap");
    install(&b, &y, &x.export.out, "in-1.snap", bounds);
    for (int turn = 0; y.done == 0 && turn < 1000; turn++) { /* its other group goes on */
        node_append(&b, 1, 1);
        if (b.groups[1].applied < b.groups[1].acked) node_apply(&b, 1, b.groups[1].applied + 1);
        store_flush(b.store, false);
        node_step(&b);
    }
    ck_assert_int_eq(y.done, 1);
    ck_assert_int_eq(y.err, KV_OK);
    target_expect(&b, &a, x.export.out.index);
    node_check(&b);
    ck_assert(store_group_get(b.store, 0, &g));
    ck_assert_int_eq(g.state, CHECKPOINT_GROUP_LIVE);
    ck_assert_uint_eq(g.replica, 2); /* the receiver's own */
    ck_assert_uint_eq(g.applied, x.export.out.index);
    ck_assert_uint_eq(g.log.compacted_index, x.export.out.index);
    ck_assert_uint_eq(g.log.compacted_term, x.export.out.term);
    ck_assert(kv_slice_eq(g.descriptor, x.export.out.descriptor));
    node_settle(&b);
    for (int turn = 0; turn < 20; turn++)
        node_turn(&b);
    node_settle(&b);
    node_check(&b);
    node_crash(&b, DISK_MEM_POWER_LOSS);
    node_stop(&b);
    disk_mem_restart(b.disk);
    ck_assert_int_eq(node_open(&b), KV_OK);
    b.groups[0].acked =
        b.groups[0].acked < x.export.out.index ? x.export.out.index : b.groups[0].acked;
    node_recover(&b);
    node_check(&b);
    store_export_free(a.store, &x.export);
    node_settle(&a);
    uint8_t byte;
    size_t got;
    ck_assert_int_eq(chunk_do(&a, "export-0-1.snap", 0, &byte, 1, &got, false), KV_NOT_FOUND);
    node_free(&a);
    node_free(&b);
}
END_TEST

/* Power is lost in every disk operation and between any two steps of the checkpoint thread
 * while a snapshot is installed. After each the replica has its old state, or the new one, or
 * none and says so; and a second install always brings the new one. */
START_TEST(interrupted_install)
{
    struct node a, b;
    struct exported x;
    uint8_t bounds[8];
    source_init(&a, 30, 60);
    export(&a, &x);
    node_settle(&a);
    int seen[3] = {0};
    bool finished = false;
    for (uint64_t stop = 1; !finished; stop++) {
        struct installed y;
        struct store_group g;
        target_init(&b, 1000 + stop, &a, 20);
        node_settle(&b);
        transfer(&a, &x.export.out, &b, "in-1.snap");
        if (_i == 0) disk_mem_faults_set(b.disk, &(struct disk_mem_faults){.crash_at = stop});
        install(&b, &y, &x.export.out, "in-1.snap", bounds);
        for (uint64_t step = 0; y.done == 0 && !disk_mem_is_crashed(b.disk); step++) {
            if (_i > 0 && step == stop) break;
            store_flush(b.store, false);
            node_step(&b);
        }
        finished = y.done > 0 && y.err == KV_OK;
        if (y.done > 0 && y.err != KV_OK) ck_assert(disk_mem_is_crashed(b.disk));
        node_crash(&b, DISK_MEM_POWER_LOSS);
        node_stop(&b);
        disk_mem_restart(b.disk);
        ck_assert_int_eq(node_open(&b), KV_OK);
        ck_assert_msg(store_damage(b.store) == NULL, "stop at %lu: %s", (unsigned long)stop,
                      store_damage(b.store));
        ck_assert(store_group_get(b.store, 0, &g));
        seen[g.state == CHECKPOINT_GROUP_INSTALLING ? 1
             : g.applied == x.export.out.index      ? 2
                                                    : 0]++;
        if (finished) ck_assert_uint_eq(g.applied, x.export.out.index);
        if (g.state == CHECKPOINT_GROUP_INSTALLING) {
            ck_assert_uint_eq(g.applied, 0);
            ck_assert_uint_eq(g.log.last, 0);
            ck_assert_uint_eq(g.log.term, 1);                    /* term and vote stay */
            ck_assert_uint_eq(g.owed_index, x.export.out.index); /* and what it votes by */
            ck_assert_uint_eq(g.owed_term, x.export.out.term);
            ck_assert(g.descriptor.size > 0);
            b.groups[0].applied = 0;
            struct model none = {0};
            struct kv_range range;
            node_range(0, bounds, &range);
            for (int k = 0; k < STORE_CLASSES; k++)
                node_check_scan(&b, &none, (enum store_class)k, range, 10, 1000);
        } else if (g.applied != x.export.out.index) {
            node_recover(&b);
            node_check(&b);
        }
        if (g.applied != x.export.out.index) { /* files do not outlive the process: sent again */
            size_t got;
            uint8_t byte;
            ck_assert_int_eq(chunk_do(&b, "in-1.snap", 0, &byte, 1, &got, false), KV_NOT_FOUND);
            transfer(&a, &x.export.out, &b, "in-2.snap");
            install(&b, &y, &x.export.out, "in-2.snap", bounds);
            node_settle(&b);
            ck_assert_int_eq(y.done, 1);
            ck_assert_int_eq(y.err, KV_OK);
        }
        if (b.groups[1].applied == 0) b.groups[1].acked = 0;
        ck_assert(store_group_get(b.store, 1, &g));
        b.groups[1].applied = g.applied;
        target_expect(&b, &a, x.export.out.index);
        node_check(&b);
        node_free(&b);
    }
    if (_i > 0) ck_assert_int_gt(seen[0], 0); /* the log writes only before and after */
    if (_i > 0) ck_assert_int_gt(seen[1], 0);
    ck_assert_int_gt(seen[2], 0);
    store_export_free(a.store, &x.export);
    node_free(&a);
}
END_TEST

static void power_loss(struct node *n)
{
    node_crash(n, DISK_MEM_POWER_LOSS);
    node_stop(n);
    disk_mem_restart(n->disk);
}

static void restart(struct node *n)
{
    power_loss(n);
    ck_assert_int_eq(node_open(n), KV_OK);
}

/* The power goes `steps` after the beginning of an install. The node is not yet started again. */
static void install_cut(struct node *from, const struct store_snapshot *s, struct node *to, int steps)
{
    struct installed y;
    uint8_t bounds[8];
    target_init(to, 1, from, 20);
    node_settle(to);
    transfer(from, s, to, "in.snap");
    install(to, &y, s, "in.snap", bounds);
    for (int step = 0; step < steps; step++) {
        ck_assert_int_eq(y.done, 0);
        store_flush(to->store, false);
        node_step(to);
    }
    power_loss(to);
}

/* Such a replica, called damaged over restarts, makes room for another. */
static void replaced(struct node *n)
{
    struct store_group g;
    node_settle(n);
    restart(n);
    ck_assert(store_group_get(n->store, 0, &g));
    ck_assert(g.log.damaged);
    node_destroy_group(n, 0);
    node_settle(n);
    ck_assert(!n->groups[0].destroying);
    ck_assert_int_eq(node_create_group(n, 0, 3), KV_OK);
    node_settle(n);
    restart(n);
    ck_assert(store_group_get(n->store, 0, &g));
    ck_assert(!g.log.damaged);
    ck_assert_uint_eq(g.replica, 3);
    ck_assert_int_eq(g.state, CHECKPOINT_GROUP_LIVE);
}

/* An install was cut short, and a bit of the log rotted: whichever it is, the node starts. */
START_TEST(interrupted_install_on_a_damaged_log)
{
    struct node a, b;
    struct exported x;
    struct store_group g = {.state = CHECKPOINT_GROUP_LIVE};
    int steps = 0, damaged = 0;
    source_init(&a, 35, 60);
    export(&a, &x);
    node_settle(&a);
    for (;; steps++) {
        install_cut(&a, &x.export.out, &b, steps);
        ck_assert_int_eq(node_open(&b), KV_OK);
        ck_assert(store_group_get(b.store, 0, &g));
        node_free(&b);
        if (g.state == CHECKPOINT_GROUP_INSTALLING) break;
    }
    for (uint64_t at = 4096 + 80, there = true; there; at += 64) {
        install_cut(&a, &x.export.out, &b, steps);
        there = disk_mem_flip(b.disk, "log-0000000000000001", at, 1);
        ck_assert_int_eq(node_open(&b), KV_OK);
        ck_assert(store_group_get(b.store, 0, &g));
        if (g.log.damaged) {
            damaged++;
            replaced(&b);
        }
        node_free(&b);
    }
    ck_assert_int_gt(damaged, 2);
    store_export_free(a.store, &x.export);
    node_free(&a);
}
END_TEST

/* Nothing that was changed on the way is let in, and a refusal changes nothing. */
START_TEST(damaged_files)
{
    struct node a, b;
    struct exported x;
    struct installed y;
    uint8_t bounds[8];
    source_init(&a, 40, 30);
    export(&a, &x);
    node_settle(&a);
    target_init(&b, 41, &a, 10);
    node_settle(&b);
    transfer(&a, &x.export.out, &b, "in-1.snap");
    for (uint64_t at = 0; at < x.export.out.bytes; at += 1 + at / 16) {
        ck_assert(disk_mem_flip(b.disk, "in-1.snap", at, (uint8_t)(1 + at % 255)));
        install(&b, &y, &x.export.out, "in-1.snap", bounds);
        node_settle(&b);
        ck_assert_int_eq(y.done, 1);
        ck_assert_msg(y.err == KV_CORRUPT || y.err == KV_VERSION, "at %lu: %s", (unsigned long)at,
                      kv_err_name(y.err));
        ck_assert(disk_mem_flip(b.disk, "in-1.snap", at, (uint8_t)(1 + at % 255)));
    }
    node_check(&b);

    struct store_snapshot lie = x.export.out;
    lie.checksum++;
    install(&b, &y, &lie, "in-1.snap", bounds);
    node_settle(&b);
    ck_assert_int_eq(y.err, KV_CORRUPT);
    lie = x.export.out;
    lie.index++;
    install(&b, &y, &lie, "in-1.snap", bounds);
    node_settle(&b);
    ck_assert_int_eq(y.err, KV_CORRUPT);
    lie.index = 3;
    install(&b, &y, &lie, "in-1.snap", bounds);
    node_settle(&b);
    ck_assert_int_eq(y.err, KV_CONFLICT); /* not ahead of what is applied */
    install(&b, &y, &x.export.out, "none.snap", bounds);
    node_settle(&b);
    ck_assert_int_eq(y.err, KV_NOT_FOUND);
    uint8_t byte = 0;
    size_t got;
    ck_assert_int_eq(chunk_do(&b, "identity", 0, &byte, 1, &got, true), KV_BAD_ARGUMENT);
    node_check(&b);
    store_export_free(a.store, &x.export);
    node_free(&a);
    node_free(&b);
}
END_TEST

/* Large enough for several steps and many blocks, with values of a MiB. */
START_TEST(many_megabytes)
{
    struct node a, b;
    struct exported x;
    struct installed y;
    struct store_group g;
    uint8_t bounds[8];
    source_init(&a, 50, 0);
    static uint8_t row[1 << 20];
    for (uint64_t i = 1; i <= 300; i++) {
        uint8_t key[8];
        be32_put(key, 1);
        be32_put(key + 4, (uint32_t)(i * 2654435761u));
        size_t size = i % 30 == 0 ? sizeof row : 20000 + i;
        memset(row, (int)i, sizeof row);
        struct value v = {.type = VALUE_STRING,
                          .version_index = i,
                          .payload = kv_slice(row + VALUE_HEADER_BYTES, size - VALUE_HEADER_BYTES)};
        value_header_write(kv_slice(key, 8), &v, row);
        struct store_op op = {
            .kind = STORE_PUT,
            .row = {.class = STORE_DATA, .key = kv_slice(key, 8), .value = kv_slice(row, size)}};
        store_apply(a.store, 0, i, 1, 0, &op, 1);
        if (i % 10 == 0) node_settle(&a);
    }
    export(&a, &x);
    node_settle(&a);
    ck_assert_int_eq(x.err, KV_OK);
    ck_assert_uint_gt(x.export.out.bytes, 12 << 20);
    target_init(&b, 51, &a, 0);
    transfer(&a, &x.export.out, &b, "in-1.snap");
    install(&b, &y, &x.export.out, "in-1.snap", bounds);
    node_settle(&b);
    ck_assert_int_eq(y.err, KV_OK);
    ck_assert(store_group_get(b.store, 0, &g));
    ck_assert_uint_eq(g.applied, x.export.out.index);
    for (uint64_t i = 1; i <= x.export.out.index; i++) {
        uint8_t key[8];
        struct kv_slice one, other;
        be32_put(key, 1);
        be32_put(key + 4, (uint32_t)(i * 2654435761u));
        ck_assert_int_eq(store_get(a.store, STORE_DATA, kv_slice(key, 8), kv_slice(NULL, 0), &one),
                         KV_OK);
        ck_assert_int_eq(
            store_get(b.store, STORE_DATA, kv_slice(key, 8), kv_slice(NULL, 0), &other), KV_OK);
        ck_assert(kv_slice_eq(one, other));
    }
    store_export_free(a.store, &x.export);
    node_free(&a);
    node_free(&b);
}
END_TEST

/* A store that closes with everything under way leaves nothing behind (asan looks). */
START_TEST(closed_in_the_middle)
{
    struct node a;
    struct exported x;
    source_init(&a, 60, 30);
    export(&a, &x);
    struct node_scan s = {.scan = {.done = node_scanned, .rows_max = 10, .bytes_max = 1000}};
    store_scan(a.store, &s.scan);
    store_checkpoint(a.store, NULL);
    store_flush(a.store, false);
    for (int i = 0; i < _i; i++)
        node_step(&a);
    node_stop(&a);
    if (x.done > 0) free((void *)(uintptr_t)x.export.out.descriptor.data);
    if (s.done) store_scan_free(&s.scan);
    ck_assert_int_eq(node_open(&a), KV_OK);
    node_recover(&a);
    node_check(&a);
    node_free(&a);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("snapshot");
    TCase *tc = tcase_create("snapshot");
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, round_trip, 0, 4);
    tcase_add_loop_test(tc, interrupted_install, 0, 2);
    tcase_add_test(tc, interrupted_install_on_a_damaged_log);
    tcase_add_test(tc, damaged_files);
    tcase_add_test(tc, many_megabytes);
    tcase_add_loop_test(tc, closed_in_the_middle, 0, 6);
    tcase_set_timeout(tc, 60);
    return unit_finish(suite);
}

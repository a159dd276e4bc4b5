#include <stdio.h>

#include "tests/unit/storage/stingy.h"
#include "tests/unit/unit.h"

/* No crash: the state is the model's at every moment, whatever is under way. */
START_TEST(random_operations)
{
    struct node n;
    node_init(&n, (uint64_t)_i + 1);
    ck_assert_int_eq(node_open(&n), KV_OK);
    for (uint32_t g = 0; g < NODE_GROUPS; g++)
        ck_assert_int_eq(node_create_group(&n, g, 1), KV_OK);
    node_settle(&n);
    for (int turn = 0; turn < 400; turn++) {
        node_turn(&n);
        node_check(&n);
    }
    node_settle(&n);
    node_check(&n);
    struct store_stats stats;
    store_stats(n.store, &stats);
    ck_assert_uint_gt(stats.checkpoints, 5);
    ck_assert_uint_gt(stats.rows_folded, 100);
    ck_assert_int_eq(n.poisoned, KV_OK);
    node_stop(&n);
    ck_assert_int_eq(node_open(&n), KV_OK);
    ck_assert_ptr_null(store_damage(n.store));
    node_recover(&n);
    node_check(&n);
    node_free(&n);
}
END_TEST

/* The script of one life; returns early when the machine has stopped. */
static void crash_script(struct node *n, int turns)
{
    for (uint32_t g = 0; g < NODE_GROUPS; g++) {
        uint32_t replica = n->groups[g].replica == 0 ? 1 : n->groups[g].replica;
        if (n->groups[g].created || node_create_group(n, g, replica) == KV_OK) continue;
        ck_assert(disk_mem_is_crashed(n->disk) || n->poisoned != KV_OK);
        return;
    }
    for (int turn = 0; turn < turns && !disk_mem_is_crashed(n->disk) && n->poisoned == KV_OK;
         turn++) {
        node_turn(n);
        if (turn % 5 == 0) node_check_points(n);
    }
}

/* Power is lost in the middle of every single disk operation, once each, and the node
 * comes back, does more work, and is stopped and started again. */
START_TEST(crash_everywhere)
{
    struct node n;
    node_init(&n, 100);
    ck_assert_int_eq(node_open(&n), KV_OK);
    crash_script(&n, 30);
    uint64_t operations = disk_mem_operations(n.disk);
    ck_assert_uint_gt(operations, 50);
    node_free(&n);
    for (uint64_t at = 1 + (uint64_t)_i; at <= operations; at += 4) {
        node_init(&n, 100 + at * 2);
        disk_mem_faults_set(n.disk, &(struct disk_mem_faults){.crash_at = at});
        if (node_open(&n) == KV_OK) crash_script(&n, 30);
        node_crash(&n, DISK_MEM_POWER_LOSS);
        for (int again = 0; again < 2; again++) {
            node_stop(&n);
            disk_mem_restart(n.disk);
            ck_assert_msg(node_open(&n) == KV_OK, "crash at %lu: %s", (unsigned long)at,
                          store_damage(n.store));
            ck_assert_msg(store_damage(n.store) == NULL, "crash at %lu: %s", (unsigned long)at,
                          store_damage(n.store));
            node_recover(&n);
            node_check(&n);
            crash_script(&n, 10);
            node_crash(&n, again == 0 ? DISK_MEM_POWER_LOSS : DISK_MEM_KILL);
        }
        node_free(&n);
    }
}
END_TEST

/* A checkpoint may not commit before its entries are in this node's own log (R8). */
START_TEST(checkpoint_waits_for_the_log)
{
    struct node n;
    struct store_group g;
    one_group(&n, 7);
    node_append(&n, 0, 5);
    while (n.groups[0].applied < 5)
        node_apply(&n, 0, n.groups[0].applied + 1);
    store_checkpoint(n.store, NULL);
    for (int turn = 0; turn < 10; turn++) { /* all but the log's writes is done */
        store_flush(n.store, false);
        while (node_complete(&n, DISK_MEM_WORK)) {
        }
    }
    node_crash(&n, DISK_MEM_KILL);
    node_stop(&n);
    disk_mem_restart(n.disk);
    ck_assert_int_eq(node_open(&n), KV_OK);
    ck_assert(store_group_get(n.store, 0, &g));
    ck_assert_uint_eq(g.applied, 0);
    node_recover(&n);
    node_append(&n, 0, 5);
    node_settle(&n);
    while (n.groups[0].applied < n.groups[0].last)
        node_apply(&n, 0, n.groups[0].applied + 1);
    store_checkpoint(n.store, NULL);
    node_settle(&n);
    ck_assert(store_group_get(n.store, 0, &g));
    ck_assert_uint_eq(g.checkpointed, n.groups[0].last);
    node_free(&n);
}
END_TEST

/* Entries leave the log only when they are both in a checkpoint and released by the server. */
START_TEST(release)
{
    struct node n;
    one_group(&n, 8);
    node_append(&n, 0, 8);
    node_settle(&n);
    while (n.groups[0].applied < 8)
        node_apply(&n, 0, n.groups[0].applied + 1);
    store_release(n.store, 0, 6);
    ck_assert_uint_eq(log_first(store_log(n.store), 0), 1); /* nothing is checkpointed yet */
    store_checkpoint(n.store, NULL);
    node_settle(&n);
    ck_assert_uint_eq(log_first(store_log(n.store), 0), 7);
    store_release(n.store, 0, 1000);
    ck_assert_uint_eq(log_first(store_log(n.store), 0), 9);
    node_append(&n, 0, 4);
    node_settle(&n);
    ck_assert_uint_eq(log_first(store_log(n.store), 0), 9);
    node_free(&n);
}
END_TEST

static void on_destroyed(struct store_destroy *d, enum kv_err err);
struct destroyed {
    struct store_destroy destroy;
    int done;
    enum kv_err err;
};
static void on_destroyed(struct store_destroy *d, enum kv_err err)
{
    struct destroyed *x = container_of(d, struct destroyed, destroy);
    x->done++;
    x->err = err;
}

START_TEST(groups_live_once)
{
    struct node n;
    struct store_group g;
    uint8_t bytes[8];
    struct destroyed d = {.destroy = {.done = on_destroyed, .group = 1}};
    node_range(1, bytes, &d.destroy.range);
    node_init(&n, 9);
    ck_assert_int_eq(node_open(&n), KV_OK);
    ck_assert_int_eq(node_create_group(&n, 1, 3), KV_OK);
    ck_assert(!store_group_get(n.store, 1, &g)); /* not before it is durable */
    ck_assert_int_eq(node_create_group(&n, 1, 3), KV_CONFLICT);
    node_settle(&n);
    ck_assert(n.groups[1].created);
    ck_assert(store_group_get(n.store, 1, &g));
    ck_assert_uint_eq(g.replica, 3);
    ck_assert_int_eq(node_create_group(&n, 1, 2), KV_CONFLICT);
    ck_assert_int_eq(node_create_group(&n, 1, 4), KV_BUSY); /* the earlier one is still here */
    node_append(&n, 1, 8);
    node_settle(&n);
    while (n.groups[1].applied < 8)
        node_apply(&n, 1, n.groups[1].applied + 1);
    store_checkpoint(n.store, NULL);
    node_settle(&n);

    store_group_destroy(n.store, &d.destroy);
    ck_assert_int_eq(d.done, 0);
    n.groups[1] = (struct node_group){0};
    model_free(&n.model);
    node_check(&n); /* the rows are gone at once */
    node_settle(&n);
    ck_assert_int_eq(d.done, 1);
    ck_assert_int_eq(d.err, KV_OK);
    store_group_destroy(n.store, &d.destroy);
    node_settle(&n);
    ck_assert_int_eq(d.done, 2);
    ck_assert_int_eq(d.err, KV_NOT_FOUND);
    for (int again = 0; again < 2; again++) {
        ck_assert(store_group_get(n.store, 1, &g));
        ck_assert_int_eq(g.state, CHECKPOINT_GROUP_TOMBSTONE);
        ck_assert_uint_eq(g.replica, 3);
        uint32_t cursor = 0, group;
        ck_assert(!store_group_next(n.store, &cursor, &group));
        ck_assert_int_eq(node_create_group(&n, 1, 3), KV_CONFLICT);
        node_check(&n);
        if (again == 0) {
            node_stop(&n);
            ck_assert_int_eq(node_open(&n), KV_OK);
        }
    }
    ck_assert_int_eq(node_create_group(&n, 1, 4), KV_OK);
    node_settle(&n);
    ck_assert(store_group_get(n.store, 1, &g));
    ck_assert_uint_eq(g.replica, 4);
    ck_assert_uint_eq(g.applied, 0);
    node_free(&n);
}
END_TEST

struct layer {
    const char *key;
    enum store_op_kind kind;
    const char *value; /* or the end of the range */
};

static void layer_apply(struct node *n, uint64_t index, const struct layer *l, uint32_t count)
{
    struct store_op ops[8];
    for (uint32_t i = 0; i < count; i++) {
        ops[i] = (struct store_op){.kind = l[i].kind, .row = {.class = STORE_LOCKS}};
        if (l[i].kind == STORE_DELETE_RANGE)
            ops[i].range = (struct kv_range){kv_str(l[i].key), kv_str(l[i].value)};
        else
            ops[i].row.key = kv_str(l[i].key);
        if (l[i].kind == STORE_PUT) ops[i].row.value = kv_str(l[i].value);
    }
    store_apply(n->store, 0, index, 1, 0, ops, count);
}

/* Checkpoint, frozen table and active table all have a say, and ranges are deleted in both tables. */
START_TEST(three_layers)
{
    static const struct layer below[] = {{"a", STORE_PUT, "below"}, {"b", STORE_PUT, "below"}, {"c", STORE_PUT, "below"}, {"m", STORE_PUT, "below"}, {"x", STORE_PUT, "below"}, {"y", STORE_PUT, "below"}};
    static const struct layer frozen[] = {
        {"b", STORE_PUT, "frozen"}, {"c", STORE_DELETE, NULL}, {"x", STORE_DELETE_RANGE, "z"}, {"y", STORE_PUT, "frozen"}, {"n", STORE_PUT, "frozen"}, {"o", STORE_PUT, "frozen"}};
    static const struct layer active[] = {{"m", STORE_DELETE_RANGE, "o"},
                                          {"c", STORE_PUT, "active"},
                                          {"n1", STORE_PUT, "active"},
                                          {"y", STORE_DELETE, NULL}};
    static const char *const expect[][2] = {
        {"a", "below"}, {"b", "frozen"}, {"c", "active"}, {"n1", "active"}, {"o", "frozen"}};
    struct node n;
    one_group(&n, 15);
    layer_apply(&n, 1, below, 6);
    store_checkpoint(n.store, NULL);
    node_settle(&n);
    layer_apply(&n, 2, frozen, 6);
    store_checkpoint(n.store, NULL);
    store_flush(n.store, false); /* cut, and no further */
    layer_apply(&n, 3, active, 4);
    struct store_stats stats;
    store_stats(n.store, &stats);
    ck_assert_uint_gt(stats.frozen_bytes, 0);
    for (int round = 0; round < 3; round++) { /* while it runs, after it, after the next */
        struct node_scan s = {
            .scan = {
                .done = node_scanned, .class = STORE_LOCKS, .rows_max = 100, .bytes_max = 10000}};
        store_scan(n.store, &s.scan);
        while (!s.done)
            ck_assert(node_step(&n));
        ck_assert_int_eq(s.err, KV_OK);
        ck_assert_uint_eq(s.scan.row_count, 5);
        for (uint32_t i = 0; i < 5; i++) {
            struct kv_slice value, key = kv_str(expect[i][0]);
            ck_assert(kv_slice_eq(s.scan.rows[i].key, key));
            ck_assert(kv_slice_eq(s.scan.rows[i].value, kv_str(expect[i][1])));
            ck_assert_int_eq(store_get(n.store, STORE_LOCKS, key, kv_slice(NULL, 0), &value),
                             KV_OK);
            ck_assert(kv_slice_eq(value, kv_str(expect[i][1])));
        }
        static const char *const absent[] = {"m", "n", "x", "y"};
        for (int i = 0; i < 4; i++) {
            struct kv_slice value;
            ck_assert_int_eq(
                store_get(n.store, STORE_LOCKS, kv_str(absent[i]), kv_slice(NULL, 0), &value),
                KV_NOT_FOUND);
        }
        store_scan_free(&s.scan);
        if (round == 1) store_checkpoint(n.store, NULL);
        node_settle(&n);
    }
    node_free(&n);
}
END_TEST

struct hashed {
    struct store_hash hash;
    bool done;
    enum kv_err err;
};
static void hashed(struct store_hash *h, enum kv_err err)
{
    struct hashed *d = container_of(h, struct hashed, hash);
    d->done = true;
    d->err = err;
}

/* One and the same history gives one hash, whatever was checkpointed in between, and every entry another.
 * Rows applied behind the call do not count. */
START_TEST(hash_at_one_index)
{
    uint64_t hashes[2][8];
    for (int k = 0; k < 2; k++) {
        struct node n;
        node_init(&n, 21);
        ck_assert_int_eq(node_open(&n), KV_OK);
        ck_assert_int_eq(node_create_group(&n, 0, 1), KV_OK);
        node_settle(&n);
        for (int i = 0; i < 8; i++) {
            struct hashed h = {.hash = {.done = hashed, .group = 0}};
            uint8_t bytes[8];
            node_range(0, bytes, &h.hash.range);
            n.seed = 1000 + (uint64_t)i; /* the same entries, whatever else drew from it */
            node_append(&n, 0, 4);
            node_settle(&n);
            node_apply(&n, 0, n.groups[0].applied + 1);
            node_apply(&n, 0, n.groups[0].applied + 1);
            ck_assert_int_eq(store_hash(n.store, &h.hash), KV_OK);
            struct hashed second = h;
            ck_assert_int_eq(store_hash(n.store, &second.hash), KV_BUSY); /* one checkpoint serves one */
            node_apply(&n, 0, n.groups[0].applied + 1);
            node_apply(&n, 0, n.groups[0].applied + 1);
            node_settle(&n);
            ck_assert(h.done);
            ck_assert_int_eq(h.err, KV_OK);
            ck_assert_uint_eq(h.hash.index, (uint64_t)i * 4 + 2);
            hashes[k][i] = h.hash.hash;
            ck_assert(i == 0 || hashes[k][i] != hashes[k][i - 1]);
            if (k == 1) {
                ck_assert_uint_eq(hashes[1][i], hashes[0][i]);
                store_checkpoint(n.store, NULL); /* and tables that end elsewhere */
                node_settle(&n);
            }
        }
        struct hashed none = {.hash = {.done = hashed, .group = 2}};
        ck_assert_int_eq(store_hash(n.store, &none.hash), KV_NOT_FOUND);
        node_free(&n);
    }
}
END_TEST

/* A row that rotted makes its group stay away, over restarts, until a new life begins. */
START_TEST(damaged_by_its_rows)
{
    struct node n;
    struct store_group g;
    node_init(&n, 22);
    ck_assert_int_eq(node_open(&n), KV_OK);
    for (uint32_t id = 0; id < 2; id++) ck_assert_int_eq(node_create_group(&n, id, 1), KV_OK);
    node_settle(&n);
    node_append(&n, 0, 3);
    node_append(&n, 1, 3);
    node_settle(&n);
    store_group_damage(n.store, 0, "a test says so");
    ck_assert_str_eq(store_damage(n.store), "group 0: a test says so");
    node_settle(&n);
    for (int k = 0; k < 2; k++) {
        ck_assert(store_group_get(n.store, 0, &g));
        ck_assert(g.log.damaged);
        ck_assert(store_group_get(n.store, 1, &g));
        ck_assert(!g.log.damaged);
        struct log_append a = {.group = 0, .hard_changed = true, .term = 9};
        ck_assert_int_eq(store_append(n.store, &a), KV_CORRUPT);
        node_crash(&n, DISK_MEM_POWER_LOSS);
        node_stop(&n);
        disk_mem_restart(n.disk);
        ck_assert_int_eq(node_open(&n), KV_OK);
        ck_assert_ptr_nonnull(store_damage(n.store));
    }
    node_free(&n);
}
END_TEST

static const struct checkpoint_ops *asked_ops;
static int asked;
static enum kv_err asked_get(struct checkpoint_view *v, enum store_class class, struct kv_slice key,
                             struct kv_slice sub, struct kv_slice *value)
{
    asked++;
    return asked_ops->get(v, class, key, sub, value);
}

static void put_one(struct node *n, uint64_t index, enum store_op_kind kind, const char *key, const char *value)
{
    struct store_op op = {.kind = kind, .row = {.class = STORE_DATA, .key = kv_str(key)}};
    if (value != NULL) op.row.value = kv_str(value);
    store_apply(n->store, 0, index, 1, 0, &op, 1);
}

static void expect_one(struct node *n, const char *key, const char *value, int asks)
{
    struct kv_slice found;
    asked = 0;
    enum kv_err err = store_get(n->store, STORE_DATA, kv_str(key), kv_slice(NULL, 0), &found);
    ck_assert_int_eq(err, value == NULL ? KV_NOT_FOUND : KV_OK);
    if (value != NULL) ck_assert(kv_slice_eq(found, kv_str(value)));
    ck_assert_int_eq(asked, asks);
}

static void checkpoint_one(struct node *n)
{
    store_checkpoint(n->store, NULL);
    node_settle(n);
}

/* What the checkpoint said of a key is kept, until a write or the next table takes its place. */
START_TEST(fetched_once)
{
    struct node n;
    struct stingy s;
    node_init(&n, 19);
    stingy_wrap(&s, &n);
    asked_ops = n.checkpoint->ops;
    s.ops.get = asked_get;
    s.commits_good = 1000;
    ck_assert_int_eq(node_open(&n), KV_OK);
    ck_assert_int_eq(node_create_group(&n, 0, 1), KV_OK);
    node_settle(&n);
    put_one(&n, 1, STORE_PUT, "k1", "one");
    checkpoint_one(&n);
    put_one(&n, 2, STORE_PUT, "k2", "two");
    checkpoint_one(&n);
    expect_one(&n, "k1", "one", 1);
    expect_one(&n, "k1", "one", 0);
    expect_one(&n, "k2", "two", 0);
    put_one(&n, 3, STORE_DELETE, "k1", NULL);
    expect_one(&n, "k1", NULL, 0);
    checkpoint_one(&n);
    expect_one(&n, "k1", NULL, 0);
    put_one(&n, 4, STORE_PUT, "k3", "three");
    checkpoint_one(&n); /* the table before is gone, and all that joined it */
    expect_one(&n, "k1", NULL, 1);
    expect_one(&n, "k2", "two", 1);
    node_free(&n);
}
END_TEST

START_TEST(pressure)
{
    struct node n;
    one_group(&n, 12);
    static uint8_t value[8000];
    uint32_t highest = 0;
    for (uint64_t i = 1; i <= 30; i++) { /* the disk does nothing meanwhile */
        uint8_t key[8];
        be32_put(key, 1);
        be32_put(key + 4, (uint32_t)i);
        struct store_op op = {.kind = STORE_PUT,
                              .row = {.class = STORE_LOCKS,
                                      .key = kv_slice(key, 8),
                                      .value = kv_slice(value, sizeof value)}};
        store_apply(n.store, 0, i, 1, 0, &op, 1);
        store_flush(n.store, false);
        if (store_pressure(n.store) > highest) highest = store_pressure(n.store);
    }
    ck_assert_uint_gt(highest, 100);
    node_settle(&n);
    node_settle(&n);
    ck_assert_uint_lt(store_pressure(n.store), 60);
    node_free(&n);
}
END_TEST

/* Records of retried requests come and go for as long as the node lives; their number
 * follows the retention, not the time. */
START_TEST(dedup_is_bounded)
{
    struct node n;
    one_group(&n, 13);
    uint64_t index = 0, highest = 0;
    for (uint64_t round = 0; round < 60; round++) {
        for (uint64_t i = 0; i < 300; i++) {
            uint64_t stamp = ++index; /* 1 ms each; 1000 ms are kept */
            uint8_t key[8], sub[STORE_SUB_BYTES] = {0}, value[20];
            be32_put(key, 1);
            be32_put(key + 4, (uint32_t)(kv_random_next(&n.seed) % 500));
            le64_put(sub, stamp);
            le64_put(value, stamp);
            struct store_op op = {.kind = STORE_PUT,
                                  .row = {.class = STORE_DEDUP,
                                          .key = kv_slice(key, 8),
                                          .sub = kv_slice(sub, sizeof sub),
                                          .value = kv_slice(value, 20)}};
            store_apply(n.store, 0, index, 1, stamp, &op, 1);
        }
        store_checkpoint(n.store, NULL);
        node_settle(&n);
        struct node_scan s = {.scan = {.done = node_scanned,
                                       .class = STORE_DEDUP,
                                       .rows_max = 1000000,
                                       .bytes_max = SIZE_MAX}};
        store_scan(n.store, &s.scan);
        while (!s.done)
            ck_assert(node_step(&n));
        uint64_t fresh = 0;
        for (uint32_t i = 0; i < s.scan.row_count; i++)
            fresh += le64_get(s.scan.rows[i].value.data) + 1000 >= index;
        ck_assert_uint_eq(fresh, index < 1001 ? index : 1001); /* none too early */
        if (s.scan.row_count > highest) highest = s.scan.row_count;
        store_scan_free(&s.scan);
    }
    ck_assert_uint_lt(highest, 2500);
    node_free(&n);
}
END_TEST

static void dedup_apply(struct node *n, uint32_t group, uint64_t index, uint64_t stamp_ms, struct store_row *row)
{
    static uint8_t key[8], sub[STORE_SUB_BYTES], value[20];
    be32_put(key, group + 1);
    le64_put(value, stamp_ms);
    *row = (struct store_row){.class = STORE_DEDUP,
                              .key = kv_slice(key, sizeof key),
                              .sub = kv_slice(sub, sizeof sub),
                              .value = kv_slice(value, sizeof value)};
    struct store_op op = {.kind = STORE_PUT, .row = *row};
    store_apply(n->store, group, index, 1, stamp_ms, &op, 1);
}

/* A large checkpoint takes several transactions. The power goes between two, so one group's mark is the old one,
 * and its entries are applied again from there: they must find the records they found the first time. */
START_TEST(dedup_outlives_a_checkpoint_cut_in_two)
{
    struct node n;
    struct stingy s;
    struct store_group g;
    struct store_row record;
    struct kv_slice value;
    node_init(&n, 23);
    n.options.memtable_bytes_max = 32 << 20;
    stingy_wrap(&s, &n);
    ck_assert_int_eq(node_open(&n), KV_OK);
    for (uint32_t id = 0; id < 2; id++) ck_assert_int_eq(node_create_group(&n, id, 1), KV_OK);
    node_settle(&n);
    dedup_apply(&n, 1, 1, 100, &record);
    store_checkpoint(n.store, NULL);
    node_settle(&n);

    for (uint32_t i = 1; i <= 10000; i++) { /* of group 0: a transaction of its own */
        uint8_t key[8];
        be32_put(key, 1);
        be32_put(key + 4, i);
        struct store_op op = {.kind = STORE_PUT, .row = {.class = STORE_LOCKS, .key = kv_slice(key, sizeof key)}};
        store_apply(n.store, 0, i, 1, 100, &op, 1);
    }
    store_apply(n.store, 1, 2, 1, 5000, NULL, 0); /* 1000 ms are kept */
    s.commits = 0;
    s.commits_good = 1;
    s.commit_err = KV_IO;
    store_checkpoint(n.store, NULL);
    store_flush(n.store, false);
    while (node_step(&n)) {
    }
    ck_assert_int_eq(s.commits, 2);
    node_crash(&n, DISK_MEM_POWER_LOSS);
    node_stop(&n);
    disk_mem_restart(n.disk);
    s.commit_err = KV_OK;
    ck_assert_int_eq(node_open(&n), KV_OK);
    ck_assert(store_group_get(n.store, 0, &g));
    ck_assert_uint_eq(g.applied, 10000);
    ck_assert(store_group_get(n.store, 1, &g));
    ck_assert_uint_eq(g.applied, 1);
    ck_assert_uint_eq(g.clock_ms, 100);
    ck_assert_int_eq(store_get(n.store, STORE_DEDUP, record.key, record.sub, &value), KV_OK);

    store_apply(n.store, 1, 2, 1, 5000, NULL, 0);
    for (int k = 0; k < 2; k++) { /* nothing asks for it any more once a mark says so, and the next one takes it along */
        store_checkpoint(n.store, NULL);
        node_settle(&n);
    }
    ck_assert_int_eq(store_get(n.store, STORE_DEDUP, record.key, record.sub, &value), KV_NOT_FOUND);
    node_free(&n);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *tc = tcase_create("store");
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, random_operations, 0, 4);
    tcase_add_loop_test(tc, crash_everywhere, 0, 4);
    tcase_add_test(tc, checkpoint_waits_for_the_log);
    tcase_add_test(tc, release);
    tcase_add_test(tc, groups_live_once);
    tcase_add_test(tc, three_layers);
    tcase_add_test(tc, hash_at_one_index);
    tcase_add_test(tc, damaged_by_its_rows);
    tcase_add_test(tc, fetched_once);
    tcase_add_test(tc, pressure);
    tcase_add_test(tc, dedup_is_bounded);
    tcase_add_test(tc, dedup_outlives_a_checkpoint_cut_in_two);
    tcase_set_timeout(tc, 60);
    return unit_finish(suite);
}

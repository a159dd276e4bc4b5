#include <stdio.h>

#include "tests/unit/storage/stingy.h"
#include "tests/unit/unit.h"

/* A disk without room: what is written waits or is refused, what is there stays, and room brings it back. */
/* The device runs full: writes are refused, what is there stays, and room brings it back. */
START_TEST(full_disk)
{
    struct node n;
    node_init(&n, 10);
    n.options.reserve_bytes = 256 << 10;
    ck_assert_int_eq(node_open(&n), KV_OK);
    ck_assert_int_eq(node_create_group(&n, 0, 1), KV_OK);
    node_settle(&n);
    ck_assert(!store_is_full(n.store));
    disk_mem_capacity_set(n.disk, 400 << 10);
    n.now_ns += 2000000000;
    node_settle(&n);
    ck_assert(store_is_full(n.store));
    node_append(&n, 0, 4); /* raft's own records still find the claimed room */
    node_settle(&n);
    ck_assert_uint_eq(n.groups[0].acked, 4);
    while (n.groups[0].applied < 4)
        node_apply(&n, 0, n.groups[0].applied + 1);
    store_checkpoint(n.store, NULL);
    node_settle(&n);
    node_check(&n);
    ck_assert_int_eq(n.poisoned, KV_OK);
    disk_mem_capacity_set(n.disk, 8 << 20);
    n.now_ns += 2000000000;
    node_settle(&n);
    ck_assert(!store_is_full(n.store));
    node_free(&n);
}
END_TEST

/* A checkpoint that finds no room is tried again; until then the tables hold the state. */
START_TEST(checkpoint_without_room)
{
    struct node n;
    struct stingy s;
    node_init(&n, 11);
    stingy_wrap(&s, &n);
    ck_assert_int_eq(node_open(&n), KV_OK);
    ck_assert_int_eq(node_create_group(&n, 0, 1), KV_OK);
    node_settle(&n);
    node_append(&n, 0, 8);
    node_settle(&n);
    while (n.groups[0].applied < 8)
        node_apply(&n, 0, n.groups[0].applied + 1);
    s.commit_err = KV_NO_SPACE;
    s.commits = 0;
    store_checkpoint(n.store, NULL);
    for (int i = 0; i < 5; i++) {
        store_flush(n.store, false);
        while (node_step(&n)) {
        }
    }
    ck_assert_int_eq(s.commits, 1); /* not in a circle */
    ck_assert(store_is_full(n.store));
    ck_assert_int_eq(n.poisoned, KV_OK);
    node_check(&n);
    n.now_ns += 1500000000;
    s.commit_err = KV_OK;
    node_settle(&n);
    ck_assert_int_eq(s.commits, 2);
    ck_assert(!store_is_full(n.store));
    node_check(&n);
    struct store_group g;
    ck_assert(store_group_get(n.store, 0, &g));
    ck_assert_uint_eq(g.checkpointed, 8);

    node_append(&n, 0, 1);
    node_settle(&n);
    node_apply(&n, 0, 9);
    s.commit_err = KV_IO; /* final (R15) */
    store_checkpoint(n.store, NULL);
    store_flush(n.store, false);
    while (node_step(&n)) {
    }
    ck_assert_int_eq(n.poisoned, KV_IO);
    struct log_append a = {.done = node_appended, .group = 0};
    ck_assert_int_eq(store_append(n.store, &a), KV_POISONED);
    node_free(&n);
}
END_TEST

UNIT_MAIN("store full", full_disk, checkpoint_without_room)

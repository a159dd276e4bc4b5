#include <stdio.h>

#include "tests/unit/storage/node.h"
#include "tests/unit/unit.h"

/* Whose directory it is, and whether it is whole. */
START_TEST(identity)
{
    struct node n;
    node_init(&n, 1);
    ck_assert_int_eq(node_open(&n), KV_OK);
    ck_assert(store_is_fresh(n.store));
    ck_assert_uint_eq(store_id(n.store), 77);
    node_stop(&n);
    ck_assert_int_eq(store_open(&n.options, 78, 5, &n.store), KV_OK);
    ck_assert(!store_is_fresh(n.store));
    ck_assert_uint_eq(store_id(n.store), 77); /* not the new seed */
    node_stop(&n);

    ck_assert_int_eq(store_open(&n.options, 78, 6, &n.store), KV_CONFLICT);
    ck_assert_ptr_nonnull(strstr(store_damage(n.store), "node 5"));
    node_stop(&n);
    ck_assert(disk_mem_flip(n.disk, "identity", 8, 2)); /* format 3 */
    ck_assert_int_eq(node_open(&n), KV_VERSION);
    node_stop(&n);
    ck_assert(disk_mem_flip(n.disk, "identity", 8, 2));
    ck_assert(disk_mem_flip(n.disk, "identity", 20, 1));
    ck_assert_int_eq(node_open(&n), KV_CORRUPT);
    node_stop(&n);
    struct disk *d = disk_mem_disk(n.disk);
    ck_assert_int_eq(d->ops->remove(d, "identity"), KV_OK);
    ck_assert_int_eq(node_open(&n), KV_CORRUPT); /* a log without an identity */
    ck_assert_ptr_nonnull(strstr(store_damage(n.store), "missing"));
    node_free(&n);
}
END_TEST

/* What a server would see if a directory lost its checkpoint, or a log its group. */
START_TEST(half_a_directory)
{
    struct node n;
    struct store_group g;
    one_group(&n, 14);
    node_append(&n, 0, 3);
    node_settle(&n);
    node_stop(&n);
    n.checkpoint->ops->destroy(n.checkpoint);
    n.options.checkpoint = n.checkpoint = checkpoint_mem_create();
    ck_assert_int_eq(node_open(&n), KV_OK);
    ck_assert_ptr_nonnull(store_damage(n.store));
    ck_assert(store_group_get(n.store, 0, &g));
    ck_assert(g.log.damaged);
    node_free(&n);
}
END_TEST

/* A directory vouches for each replica it was given under its birthmark; once it may have forgotten any, it gets another. */
START_TEST(birthmarks)
{
    struct node n;
    one_group(&n, 15);
    node_append(&n, 0, 3);
    node_settle(&n);
    uint64_t first = store_birthmark(n.store), second = 0;
    for (int k = 0; k < 2; k++) { /* as it loses its checkpoint twice */
        ck_assert_uint_ne(first, second);
        node_stop(&n);
        ck_assert_int_eq(node_open(&n), KV_OK);
        second = store_birthmark(n.store);
        ck_assert_uint_eq(second, first);
        node_stop(&n);
        n.checkpoint->ops->destroy(n.checkpoint);
        n.options.checkpoint = n.checkpoint = checkpoint_mem_create();
        ck_assert_int_eq(node_open(&n), KV_OK);
        first = store_birthmark(n.store);
        ck_assert_uint_ne(first, 0);
        ck_assert(node_create_group(&n, 1, 1) == KV_OK); /* what stands there is whole again */
        node_settle(&n);
    }
    node_free(&n);
}
END_TEST

/* Nothing was given to it yet, and nothing is forgotten: it is the same directory at each start. */
START_TEST(an_empty_one_keeps_its_birthmark)
{
    struct node n;
    node_init(&n, 16);
    ck_assert_int_eq(node_open(&n), KV_OK);
    uint64_t mark = store_birthmark(n.store);
    for (int k = 0; k < 4; k++) {
        node_stop(&n);
        if (k == 1) { /* its checkpoint is lost: once another */
            n.checkpoint->ops->destroy(n.checkpoint);
            n.options.checkpoint = n.checkpoint = checkpoint_mem_create();
        }
        ck_assert_int_eq(node_open(&n), KV_OK);
        ck_assert((store_birthmark(n.store) == mark) == (k != 1));
        mark = store_birthmark(n.store);
        uint32_t cursor = 0, group;
        ck_assert(!store_group_next_known(n.store, &cursor, &group));
    }
    node_free(&n);
}
END_TEST

UNIT_MAIN("store identity", identity, half_a_directory, birthmarks, an_empty_one_keeps_its_birthmark)

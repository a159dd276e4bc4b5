#include "server/nodes.h"

#include <string.h>

#include "storage/disk_mem.h"
#include "tests/unit/unit.h"

/* The file `membership`, and what it makes of a configuration. */
static struct disk_mem *mem;
static struct disk *d;
static struct membership m, back;
static struct config c;
static char why[512];

static void setup(void)
{
    mem = disk_mem_create(&(struct disk_mem_options){0});
    d = disk_mem_disk(mem);
    m = (struct membership){.node = 4, .cluster = {1, 2, 3}, .name = "green", .version = 9, .count = 2};
    m.list[0] = (struct nodes_entry){.id = 1, .host = "10.0.0.1", .native = 7401, .key = {1}};
    m.list[1] = (struct nodes_entry){.id = 4, .host = "::1", .native = 1, .resp = 2, .resp_cluster = 3, .key = {4}, .zone = "r", .roles = 3, .state = KV_NODE_DRAINING};
    config_defaults(&c);
}

static void teardown(void)
{
    disk_mem_destroy(mem);
}

START_TEST(it_survives_the_round_trip)
{
    ck_assert_int_eq(membership_read(d, &back, why, sizeof why), KV_NOT_FOUND);
    ck_assert_int_eq(membership_write(d, &m), KV_OK);
    ck_assert_int_eq(membership_read(d, &back, why, sizeof why), KV_OK);
    ck_assert(back.node == 4 && back.version == 9 && back.count == 2);
    ck_assert_str_eq(back.name, "green");
    ck_assert_mem_eq(back.cluster, m.cluster, sizeof m.cluster);
    ck_assert_mem_eq(back.list, m.list, 2 * sizeof m.list[0]);
    m.version = 10;
    ck_assert_int_eq(membership_write(d, &m), KV_OK);
    ck_assert_int_eq(membership_read(d, &back, why, sizeof why), KV_OK);
    ck_assert_uint_eq(back.version, 10);
}
END_TEST

START_TEST(damage_is_seen)
{
    struct disk_file f;
    uint64_t size;
    ck_assert_int_eq(membership_write(d, &m), KV_OK);
    ck_assert_int_eq(d->ops->open(d, "membership", false, &f), KV_OK);
    ck_assert_int_eq(d->ops->size(d, f, &size), KV_OK);
    for (uint64_t at = 0; at < size; at++) {
        uint8_t byte;
        size_t got;
        ck_assert_int_eq(d->ops->read(d, f, at, &byte, 1, &got), KV_OK);
        byte ^= 0x40;
        ck_assert_int_eq(d->ops->write(d, f, at, kv_slice(&byte, 1)), KV_OK);
        enum kv_err err = membership_read(d, &back, why, sizeof why);
        ck_assert_msg(err == KV_CORRUPT || (err == KV_VERSION && at >= 8 && at < 12), "byte %llu: %s", (unsigned long long)at, kv_err_name(err));
        byte ^= 0x40;
        ck_assert_int_eq(d->ops->write(d, f, at, kv_slice(&byte, 1)), KV_OK);
    }
    for (uint64_t at = size; at-- > 0;) {
        ck_assert_int_eq(d->ops->truncate(d, f, at), KV_OK);
        ck_assert_int_eq(membership_read(d, &back, why, sizeof why), KV_CORRUPT);
    }
    d->ops->close(d, f);
}
END_TEST

START_TEST(it_says_who_a_node_is)
{
    ck_assert_int_eq(membership_overlay(d, &c, why, sizeof why), KV_NOT_FOUND);
    ck_assert_uint_eq(c.node_id, 1);
    ck_assert_int_eq(membership_write(d, &m), KV_OK);
    ck_assert_int_eq(membership_overlay(d, &c, why, sizeof why), KV_OK);
    ck_assert_uint_eq(c.node_id, 4);
    ck_assert_str_eq(c.cluster_id, "01020300000000000000000000000000");
    ck_assert_str_eq(c.cluster_name, "green");
    ck_assert_int_eq(membership_overlay(d, &c, why, sizeof why), KV_OK);
}
END_TEST

START_TEST(a_configuration_that_says_otherwise_is_refused)
{
    ck_assert_int_eq(membership_write(d, &m), KV_OK);
    c.node_id = 3;
    config_place(&c, "node.id", CONFIG_PLACE_OPTION);
    ck_assert_int_eq(membership_overlay(d, &c, why, sizeof why), KV_CONFLICT);
    ck_assert_ptr_nonnull(strstr(why, "belongs to node 4"));
    config_defaults(&c);
    snprintf(c.cluster_id, sizeof c.cluster_id, "ff020300000000000000000000000000");
    ck_assert_int_eq(membership_overlay(d, &c, why, sizeof why), KV_CONFLICT);
    ck_assert_ptr_nonnull(strstr(why, "another cluster"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("nodes");
    TCase *tc = tcase_create("nodes");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, it_survives_the_round_trip);
    tcase_add_test(tc, damage_is_seen);
    tcase_add_test(tc, it_says_who_a_node_is);
    tcase_add_test(tc, a_configuration_that_says_otherwise_is_refused);
    suite_add_tcase(suite, tc);
    return unit_finish(suite);
}

#include "server/exec_directory.h"

#include "tools/kvctl/keyspace_spec.c" /* first: its parameters share a name with what the next one has */

#include "tests/unit/server/exec_system.h"

static void setup(void) /* a cluster of five nodes */
{
    system_setup(&(struct exec_place){.nodes = {11, 12, 13, 14, 15}, .node_count = 5, .dedup_retention_ms = 300000});
}

static enum kv_err create_of(const char *name, const struct kv_keyspace *wanted)
{
    struct kv_buf bytes = {0};
    kv_keyspace_encode(wanted, &bytes);
    struct kv_slice own = kv_arena_copy(&arena, kv_buf_slice(&bytes));
    kv_buf_free(&bytes);
    struct kv_slice args[2] = {kv_str(name), own};
    return system_run(KV_OP_KSCREATE, args, 2);
}

/* In the words of kvctl. */
static enum kv_err create(const char *name, const char *partition, const char *replicas, const char *default_group)
{
    struct spec_words w = {.name = name, .partition = partition, .replicas = replicas, .default_group = default_group};
    struct kv_keyspace k;
    char why[SPEC_WHY_BYTES];
    ck_assert_msg(spec_parse(&w, &arena, &k, why), "%s", why);
    return create_of(name, &k);
}

static enum kv_err on_name(enum kv_op op, const char *name)
{
    struct kv_slice arg = kv_str(name);
    return system_run(op, &arg, 1);
}

static struct kv_keyspace shown(const char *name)
{
    struct kv_keyspace k;
    ck_assert_int_eq(on_name(KV_OP_KSSHOW, name), KV_OK);
    struct kv_slice in = kv_buf_slice(&m.reply);
    struct resp_value v;
    ck_assert_int_eq(resp_next(&in, SIZE_MAX, &v), KV_OK);
    struct kv_slice own = kv_arena_copy(&arena, v.text);
    ck_assert_int_eq(kv_keyspace_decode(own, &arena, &k), KV_OK);
    return k;
}

/* What is born covers the keyspace without gap or overlap. */
static void covered(uint32_t count, enum kv_key_kind kind, uint32_t keyspace)
{
    struct kv_key at, end;
    kv_key_start(kind, keyspace, &at);
    kv_key_end(kind, keyspace, &end);
    ck_assert_uint_eq(m.exec.born_count, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct descriptor *d = &m.exec.born[i];
        ck_assert(kv_slice_eq(kv_key_slice(&d->from), kv_key_slice(&at)));
        ck_assert_int_lt(kv_slice_cmp(kv_key_slice(&d->from), kv_key_slice(&d->to)), 0);
        ck_assert_uint_eq(d->keyspace, keyspace);
        ck_assert_int_eq((int)d->kind, (int)kind);
        ck_assert_uint_eq(d->range_epoch, 1);
        ck_assert_uint_eq(d->conf_epoch, 1);
        ck_assert_uint_eq(d->replica_next, d->replica_count + 1);
        ck_assert_uint_eq(d->dedup_retention_ms, 300000);
        ck_assert_uint_eq(d->value_bytes_max, 1 << 20);
        at = d->to;
    }
    ck_assert(kv_slice_eq(kv_key_slice(&at), kv_key_slice(&end)));
}

START_TEST(each_kind_is_born_whole)
{
    ck_assert_int_eq(create("h", "hash", "3", NULL), KV_OK);
    covered(8, KV_KEY_HASH, 2);
    ck_assert_uint_eq(m.exec.born[0].id, 9);
    for (uint32_t i = 0; i < 8; i++) { /* replicas go round the nodes, whose first leads */
        const struct descriptor *d = &m.exec.born[i];
        ck_assert_uint_eq(d->replica_count, 3);
        for (uint32_t r = 0; r < 3; r++) {
            ck_assert_uint_eq(d->replicas[r].id, r + 1);
            ck_assert_uint_eq(d->replicas[r].node, 11 + (d->id + r) % 5);
        }
    }
    ck_assert_int_eq(create("odd", "hash:7", NULL, NULL), KV_OK);
    covered(7, KV_KEY_HASH, 3);
    ck_assert_uint_eq(m.exec.born[0].id, 17);
    ck_assert_int_eq(create("r", "range:b,k\\,1,k\\x01\\\\", "1", NULL), KV_BAD_ARGUMENT);
    ck_assert_int_eq(create("r", "range:b,k\\x01,k\\,1", "1", NULL), KV_OK);
    covered(4, KV_KEY_RANGE, 4);
    ck_assert_uint_eq(m.exec.born[0].id, 24);
    ck_assert_int_eq(create("one", "range", "5", NULL), KV_OK);
    covered(1, KV_KEY_RANGE, 5);
    ck_assert_int_eq(create("l", "list:eu=fr|de,none=,us=us", "2", "none"), KV_OK);
    covered(3, KV_KEY_LIST, 6);
    struct kv_key_rule rule;
    struct kv_key key;
    ck_assert_int_eq(descriptor_rule(&m.exec.born[0], &arena, &rule), KV_OK);
    ck_assert_int_eq(kv_key_encode(&rule, kv_str("de/1"), &key), KV_OK);
    ck_assert_int_eq(kv_key_encode(&rule, kv_str("us/1"), &key), KV_NOT_FOUND);
    ck_assert_int_eq(descriptor_rule(&m.exec.born[1], &arena, &rule), KV_OK);
    ck_assert_int_eq(kv_key_encode(&rule, kv_str("xx/1"), &key), KV_OK);
    static const char *const home[] = {"fr/1", "xx/1", "us"};
    struct descriptor born[3];
    memcpy(born, m.exec.born, sizeof born);
    struct kv_keyspace k = shown("l");
    for (int i = 0; i < 3; i++) { /* the keyspace's rule sends each key to the partition that owns it */
        ck_assert_int_eq(kv_key_encode(&k.rule, kv_str(home[i]), &key), KV_OK);
        ck_assert(kv_range_has((struct kv_range){kv_key_slice(&born[i].from), kv_key_slice(&born[i].to)}, kv_key_slice(&key)));
    }
    ck_assert_uint_eq(k.first_partition, 29);
    ck_assert_uint_eq(k.replicas, 2);
}
END_TEST

START_TEST(what_cannot_be_is_refused_with_the_reason)
{
    struct kv_label twice[] = {{kv_str("de"), 0}, {kv_str("de"), 0}};
    struct kv_label_group group = {kv_str("eu"), twice, 2};
    struct kv_keyspace k = {.name = kv_str("x"), .kind = KV_KEY_LIST, .groups = &group, .group_count = 1, .delimiter = '/'};
    ck_assert_int_eq(create("users", "hash:1", "1", NULL), KV_OK);
    refused(create("users", "range", "1", NULL), KV_CONDITION, "keyspace 'users' is there; next:");
    refused(create("default", "hash", "1", NULL), KV_CONDITION, "always there");
    refused(create("system", "hash", "1", NULL), KV_CONDITION, "always there");
    refused(create("x", "hash", "6", NULL), KV_CONDITION, "6 replicas need 6 nodes, the cluster has 5; next: --replicas 5");
    refused(create("x", "range:b,b", "1", NULL), KV_BAD_ARGUMENT, "'b' is given twice: the range between would be empty");
    refused(create("x", "range:b,a", "1", NULL), KV_BAD_ARGUMENT, "'b' and 'a' are not in order: their ranges would overlap");
    refused(create("x", "range:,a", "1", NULL), KV_BAD_ARGUMENT, "split key 1 is empty");
    refused(create("x", "list:a=x,b=x", "1", NULL), KV_BAD_ARGUMENT, "label 'x' is listed twice");
    refused(create_of("x", &k), KV_BAD_ARGUMENT, "label 'de' is listed twice");
    refused(create("x", "list:a=x,a=y", "1", NULL), KV_BAD_ARGUMENT, "group 'a' is given twice");
    refused(create("x", "list:a=x,b=", "1", "a"), KV_BAD_ARGUMENT, "group 'b' has no labels: its range would be empty");
    refused(create("x", "list:a=x", "1", "b"), KV_BAD_ARGUMENT, "default group 'b' is none of the groups");
    refused(create("x", "list:a=x/y", "1", NULL), KV_BAD_ARGUMENT, "holds the delimiter '/'");
    refused(create("x", "list:-=x", "1", NULL), KV_BAD_ARGUMENT, "group '-' is no name");
    k = (struct kv_keyspace){.name = kv_str("x"), .kind = KV_KEY_LIST};
    refused(create_of("x", &k), KV_BAD_ARGUMENT, "needs a group of labels");
    k.kind = KV_KEY_HASH;
    refused(create_of("1x", &k), KV_BAD_ARGUMENT, "keyspace '1x' is no name");
    k.default_group = kv_str("a");
    refused(create_of("x", &k), KV_BAD_ARGUMENT, "only a list keyspace has a default group");
    k = (struct kv_keyspace){.name = kv_str("x"), .kind = KV_KEY_HASH, .group_count = 1, .groups = &group};
    group.label_count = 1;
    refused(create_of("x", &k), KV_BAD_ARGUMENT, "a hash keyspace has a number of partitions");
    k.kind = KV_KEY_RANGE;
    refused(create_of("x", &k), KV_BAD_ARGUMENT, "a range keyspace has split keys");
    char label[KV_LABEL_BYTES_MAX + 1];
    memset(label, 'a', sizeof label);
    twice[0].text = kv_slice(label, sizeof label);
    k.kind = KV_KEY_LIST;
    refused(create_of("x", &k), KV_BAD_ARGUMENT, "over a limit: 2048 partitions, 1024 labels, 64 bytes a label");
    k = (struct kv_keyspace){.name = kv_str("x"), .kind = KV_KEY_HASH, .value_bytes_max = 2 << 20};
    refused(create_of("x", &k), KV_CONDITION, "over this cluster's limit of 1048576");
    struct kv_slice junk[2] = {kv_str("x"), kv_str("\xff\xff")};
    refused(system_run(KV_OP_KSCREATE, junk, 2), KV_BAD_ARGUMENT, "does not parse");
    refused(system_run(KV_OP_KSALTER, junk, 2), KV_BAD_ARGUMENT, "does not parse");
    refused(on_name(KV_OP_KSDROP, "default"), KV_CONDITION, "cannot be dropped");
    refused(on_name(KV_OP_KSDROP, "nope"), KV_NO_KEYSPACE, "'nope'");
    refused(on_name(KV_OP_KSSHOW, "nope"), KV_NO_KEYSPACE, "'nope'");
    m.exec.place = NULL; /* proposed in another partition */
    refused(create("x", "hash", "1", NULL), KV_BAD_ARGUMENT, "keyspaces are partition 0's");
    refused(on_name(KV_OP_KSDROP, "users"), KV_BAD_ARGUMENT, "keyspaces are partition 0's");
    m.exec.place = &place;
    ck_assert_int_eq(create("x", "hash:1", NULL, NULL), KV_OK); /* nothing of all that took an id */
    ck_assert_uint_eq(shown("x").id, 3);
    ck_assert_uint_eq(shown("x").first_partition, 10);
    ck_assert_uint_eq(shown("x").replicas, 3);
}
END_TEST

START_TEST(ids_are_never_given_again)
{
    ck_assert_int_eq(create("a", "hash:2", NULL, NULL), KV_OK);
    ck_assert_int_eq(create("b", "hash:2", NULL, NULL), KV_OK);
    ck_assert_int_eq(on_name(KV_OP_KSDROP, "a"), KV_OK);
    refused(on_name(KV_OP_KSDROP, "a"), KV_NO_KEYSPACE, "'a'");
    ck_assert_int_eq(create("a", "hash:2", NULL, NULL), KV_OK);
    struct kv_keyspace k = shown("a");
    ck_assert_uint_eq(k.id, 4);
    ck_assert_uint_eq(k.first_partition, 13);
    struct kv_slice in;
    struct resp_value v;
    ck_assert_int_eq(system_run(KV_OP_KSLIST, NULL, 0), KV_OK);
    in = kv_buf_slice(&m.reply);
    ck_assert_int_eq(resp_next(&in, SIZE_MAX, &v), KV_OK);
    ck_assert_int_eq(v.number, 3); /* default, b, a: by id */
    static const char *const names[] = {"default", "b", "a"};
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(resp_next(&in, SIZE_MAX, &v), KV_OK);
        ck_assert_int_eq(kv_keyspace_decode(kv_arena_copy(&arena, v.text), &arena, &k), KV_OK);
        ck_assert(kv_slice_eq(k.name, kv_str(names[i])));
    }
}
END_TEST

START_TEST(there_is_a_limit)
{
    char name[16];
    for (int i = 0; i < KV_KEYSPACES_MAX; i++) {
        snprintf(name, sizeof name, "k%d", i);
        ck_assert_int_eq(create(name, "hash:1", "1", NULL), KV_OK);
    }
    refused(create("more", "hash:1", "1", NULL), KV_CONDITION, "there are 256 keyspaces, the limit");
    ck_assert_int_eq(on_name(KV_OP_KSDROP, "k7"), KV_OK);
    ck_assert_int_eq(create("more", "hash:1", "1", NULL), KV_OK);
    ck_assert_int_eq(create("x", "hash:1", "1", NULL), KV_CONDITION);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exec_directory");
    TCase *tc = tcase_create("exec_directory");
    tcase_add_checked_fixture(tc, setup, system_teardown);
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, each_kind_is_born_whole);
    tcase_add_test(tc, what_cannot_be_is_refused_with_the_reason);
    tcase_add_test(tc, ids_are_never_given_again);
    tcase_add_test(tc, there_is_a_limit);
    tcase_set_timeout(tc, 30);
    return unit_finish(suite);
}

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/wire/message.h"
#include "server/config.h"
#include "tests/unit/unit.h"

static struct config config;
static char why[512];
static char path[64];

static void setup(void)
{
    config_defaults(&config);
    why[0] = '\0';
    unit_temporary(path, sizeof path, "kvd-config");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
}

static void teardown(void)
{
    unlink(path);
}

static enum kv_err load(const char *text)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
    return config_file(&config, path, why, sizeof why);
}

/* The file is refused, the reason is FILE:LINE: and `reason`, and nothing changed. */
static void refused(const char *text, int line, const char *reason)
{
    struct config before = config;
    ck_assert_int_ne(load(text), KV_OK);
    char want[640];
    snprintf(want, sizeof want, "%s:%d: ", path, line);
    ck_assert_msg(strncmp(why, want, strlen(want)) == 0, "%s, not %s", why, want);
    ck_assert_msg(strstr(why, reason) != NULL, "%s: no \"%s\"", why, reason);
    ck_assert_mem_eq(&before, &config, sizeof config);
}

START_TEST(defaults_pass_their_own_check)
{
    ck_assert_int_eq(config_check(&config, why, sizeof why), KV_OK);
    ck_assert_uint_eq(config.resp_port, 7400);
    ck_assert_uint_eq(config.raft_lease, 200000000);
    ck_assert_uint_eq(config.storage_memtable, 64u << 20);
    ck_assert_str_eq(config.node_data, "./kvd-data");
}
END_TEST

START_TEST(nested_and_dotted_keys_are_the_same)
{
    ck_assert_int_eq(load("log: {level: debug, format: json}\nraft.lease: 100ms\n"
                          "limit:\n  value: 2MiB\n  output_time: 5s\n"),
                     KV_OK);
    ck_assert_str_eq(config.log_level, "debug");
    ck_assert_str_eq(config.log_format, "json");
    ck_assert_uint_eq(config.raft_lease, 100000000);
    ck_assert_uint_eq(config.value_max, 2u << 20);
    ck_assert_uint_eq(config.output_seconds, 5000000000);
    ck_assert_int_eq(load(""), KV_OK);
    ck_assert_int_eq(load("# only a comment\n"), KV_OK);
}
END_TEST

START_TEST(errors_name_file_line_and_key)
{
    refused("log.level: info\nlog.colour: red\n", 2, "log.colour: unknown key");
    refused("log:\n  level: info\nlog.level: debug\n", 3, "log.level: given twice, first on line 2");
    refused("resp.port: 65536\n", 1, "out of range, allowed is 0 to 65535");
    refused("\nresp.port: many\n", 2, "\"many\" is not a number");
    refused("raft.lease: 200\n", 1, "is not a duration");
    refused("storage.memtable: 1KiB\n", 1, "allowed is 1MiB to 16GiB");
    refused("log.level: loud\n", 1, "is not a level");
    refused("log.format: xml!\n", 1, "neither text nor json");
    refused("native.host: localhost\n", 1, "not a literal");
    refused("cluster.id: abc\n", 1, "32 hex digits");
    refused("cluster.name: ''\n", 1, "is empty");
    refused("resp.password: hunter2\n", 1, "kvctl passwd");
    refused("log: [debug]\n", 1, "log: unknown key");
    refused("log.level: [debug]\n", 1, "log.level");
    refused("a: {b: {c: {d: {e: 1}}}}\n", 1, "nested too deep");
    refused("- 1\n", 1, "must be a mapping");
    refused("log.level: info\n---\nlog.level: warn\n", 3, "second document");
    refused("log.level: info\n\tx: [\n", 2, "not YAML");
    ck_assert_ptr_null(strstr(why, "hunter2"));
    ck_assert_int_eq(config_file(&config, "/nonexistent/kvd.yaml", why, sizeof why), KV_NOT_FOUND);
    ck_assert_int_ne(config_file(&config, "/tmp", why, sizeof why), KV_OK);
}
END_TEST

#define KEY1 "1111111111111111111111111111111111111111111111111111111111111111"
#define KEY2 "2222222222222222222222222222222222222222222222222222222222222222"
#define NODES(second)                                                           \
    "cluster:\n  id: 00112233445566778899aabbccddeeff\n  nodes:\n"              \
    "    - {id: 1, host: 127.0.0.1, native: 7401, resp: 7400, key: " KEY1 "}\n" \
    "    - {" second "}\n"

START_TEST(nodes_are_read_and_judged)
{
    ck_assert_int_eq(load(NODES("id: 2, host: 127.0.0.2, native: 8401, resp: 0, key: " KEY2)),
                     KV_OK);
    ck_assert_int_eq(config_check(&config, why, sizeof why), KV_OK);
    ck_assert_uint_eq(config.node_count, 2);
    const struct config_node *n = config_node(&config, 2);
    ck_assert_ptr_nonnull(n);
    ck_assert_str_eq(n->host, "127.0.0.2");
    ck_assert_uint_eq(n->native, 8401);
    ck_assert_uint_eq(n->resp, 0);
    ck_assert_uint_eq(n->key[31], 0x22);
    ck_assert_ptr_null(config_node(&config, 3));
    ck_assert_uint_eq(n->roles, 0);
    ck_assert_uint_eq(config_roles(&config), 0); /* not given: as cluster.nodes or the cluster says */
    ck_assert_int_eq(load(NODES("id: 2, host: 127.0.0.2, roles: [gateway, storage], key: " KEY2)), KV_OK);
    ck_assert_uint_eq(config_node(&config, 2)->roles, KV_NODE_GATEWAY | KV_NODE_STORAGE);
    ck_assert_int_eq(config_check(&config, why, sizeof why), KV_OK);
    config.nodes[0].roles = KV_NODE_GATEWAY;
    ck_assert_int_eq(config_check(&config, why, sizeof why), KV_BAD_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(why, "no node has the role coordinator"));
    config.nodes[0].roles = KV_NODE_COORDINATOR;
    config.nodes[1].roles = KV_NODE_GATEWAY;
    ck_assert_int_eq(config_check(&config, why, sizeof why), KV_BAD_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(why, "no node has the role storage"));
    ck_assert_int_eq(load(NODES("id: 2, host: 127.0.0.2, key: " KEY2)), KV_OK);
    config.node_id = 3;
    ck_assert_int_eq(config_check(&config, why, sizeof why), KV_BAD_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(why, "node 3 is not in cluster.nodes"));
    config.node_id = 1;

    static const struct {
        const char *second, *reason;
    } twins[] = {
        {NODES("id: 1, host: 127.0.0.2, key: " KEY2), "two nodes have id 1"},
        {NODES("id: 2, host: 127.0.0.1, key: " KEY2), "same address"},
        {NODES("id: 2, host: 127.0.0.2, key: " KEY1), "same key"},
    };
    for (size_t i = 0; i < sizeof twins / sizeof twins[0]; i++) {
        ck_assert_int_eq(load(twins[i].second), KV_OK);
        ck_assert_int_eq(config_check(&config, why, sizeof why), KV_BAD_ARGUMENT);
        ck_assert_msg(strstr(why, twins[i].reason) != NULL, "%s", why);
    }
    refused(NODES("id: 2, host: 127.0.0.2"), 5, "needs id, host and key");
    refused(NODES("id: 0, host: 127.0.0.2, key: " KEY2), 5, "not a number from 1");
    refused(NODES("id: 2, host: kv2, key: " KEY2), 5, "not a literal address");
    refused(NODES("id: 2, id: 3, host: 127.0.0.2, key: " KEY2), 5, "id is given twice");
    refused(NODES("id: 2, port: 7, host: 127.0.0.2, key: " KEY2), 5, "unknown field port");
    refused(NODES("id: 2, host: 127.0.0.2, key: 12"), 5, "64 hex digits");
    refused(NODES("id: 2, host: 127.0.0.2, roles: [gateway, gateway], key: " KEY2), 5, "roles \"gateway,gateway\" are not");
    refused(NODES("id: 2, host: 127.0.0.2, roles: [], key: " KEY2), 5, "roles \"\" are not");
    refused(NODES("id: 2, host: 127.0.0.2, roles: {a: b}, key: " KEY2), 5, "are not storage, coordinator or gateway");
    refused(NODES("id: 2, host: 127.0.0.2, roles: [storage, coordinator, gateway, storage, coordinator, gateway, storage, coordinator], key: " KEY2), 5,
            "are not storage, coordinator or gateway");
    ck_assert_int_eq(config_set(&config, "cluster.nodes", "x", why, sizeof why), KV_BAD_ARGUMENT);
}
END_TEST

START_TEST(the_cluster_face_is_two_above)
{
    ck_assert_uint_eq(config.resp_cluster_port, 7402);
    ck_assert_int_eq(load("resp.port: 6379\n"), KV_OK);
    ck_assert_uint_eq(config.resp_cluster_port, 6381);
    ck_assert_int_eq(load("resp.port: 0\n"), KV_OK);
    ck_assert_uint_eq(config.resp_cluster_port, 0);
    ck_assert_int_eq(load("resp.port: 65534\n"), KV_OK);
    ck_assert_uint_eq(config.resp_cluster_port, 0);
    ck_assert_int_eq(load("resp: {cluster_port: 8000, port: 6379}\n"), KV_OK);
    ck_assert_uint_eq(config.resp_cluster_port, 8000);
    ck_assert_int_eq(load("resp.cluster_port: 0\nresp.port: 6379\n"), KV_OK);
    ck_assert_uint_eq(config.resp_cluster_port, 0);

    config_defaults(&config);
    ck_assert_int_eq(load("resp.cluster_port: 7401\n"), KV_OK);
    ck_assert_int_eq(config_check(&config, why, sizeof why), KV_BAD_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(why, ":1: resp.cluster_port: the same as native.port"));
    config_defaults(&config);
    ck_assert_int_eq(load("resp.port: 7399\n"), KV_OK);
    ck_assert_int_eq(config_check(&config, why, sizeof why), KV_BAD_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(why, "resp.cluster_port: the same as native.port"));
    config_defaults(&config);
    ck_assert_int_eq(load("resp: {cluster_port: 7400}\n"), KV_OK);
    ck_assert_int_eq(config_check(&config, why, sizeof why), KV_BAD_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(why, ":1: resp.cluster_port: the same as resp.port"));
    config_defaults(&config); /* off beside one that is on, and the other way round: both need the password */
    ck_assert_int_eq(load("resp: {host: 10.0.0.1, port: 0, cluster_port: 7000}\n"), KV_OK);
    ck_assert_int_eq(config_check(&config, why, sizeof why), KV_BAD_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(why, "beyond loopback"));
    config_defaults(&config);
    ck_assert_int_eq(load("resp: {host: 10.0.0.1, users: /etc/kvd/users}\n"), KV_OK);
    ck_assert_int_eq(config_check(&config, why, sizeof why), KV_OK);

    config_defaults(&config);
    ck_assert_int_eq(load(NODES("id: 2, host: 127.0.0.2, resp: 8000, key: " KEY2)), KV_OK);
    ck_assert_uint_eq(config_node(&config, 1)->resp_cluster, 7402);
    ck_assert_uint_eq(config_node(&config, 2)->resp_cluster, 8002);
    ck_assert_int_eq(load(NODES("id: 2, host: 127.0.0.2, resp: 0, key: " KEY2)), KV_OK);
    ck_assert_uint_eq(config_node(&config, 2)->resp_cluster, 0);
    ck_assert_int_eq(load(NODES("id: 2, host: 127.0.0.2, resp_cluster: 9, key: " KEY2)), KV_OK);
    ck_assert_uint_eq(config_node(&config, 2)->resp_cluster, 9);
    refused(NODES("id: 2, host: 127.0.0.2, resp_cluster: 70000, key: " KEY2), 5, "not a number from 0 to 65535");
}
END_TEST

START_TEST(rules_between_keys)
{
    static const struct {
        const char *key, *value, *reason;
    } cases[] = {
        {"raft.heartbeat", "150ms", "raft.lease"},
        {"raft.lease", "400ms", "raft.election"},
        {"storage.segment_max", "1MiB", "storage.segment_max"},
        {"limit.value", "4MiB", "storage.segment"},
        {"limit.queue", "16", "limit.queue"},
        {"resp.port", "7401", "native.port"},
        {"resp.host", "0.0.0.0", "beyond loopback"},
        {"resp.host", "::", "beyond loopback"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        config_defaults(&config);
        ck_assert_int_eq(config_set(&config, cases[i].key, cases[i].value, why, sizeof why), KV_OK);
        ck_assert_int_eq(config_check(&config, why, sizeof why), KV_BAD_ARGUMENT);
        ck_assert_msg(strstr(why, cases[i].reason) != NULL, "%s", why);
    }
    config_defaults(&config);
    ck_assert_int_eq(config_set(&config, "resp.host", "127.9.9.9", why, sizeof why), KV_OK);
    ck_assert_int_eq(config_check(&config, why, sizeof why), KV_OK);
    ck_assert_int_eq(config_set(&config, "resp.host", "::1", why, sizeof why), KV_OK);
    ck_assert_int_eq(config_check(&config, why, sizeof why), KV_OK);
}
END_TEST

/* A rule between keys is found broken only when all is read; it still says where to look. */
START_TEST(rules_between_keys_name_the_place)
{
    char want[200];
    ck_assert_int_eq(load("raft:\n  lease: 400ms\n"), KV_OK);
    ck_assert_int_eq(config_check(&config, why, sizeof why), KV_BAD_ARGUMENT);
    snprintf(want, sizeof want, "%s:2: raft.election: at least raft.lease", path);
    ck_assert_str_eq(why, want); /* the default of one is too small for the other */

    ck_assert_int_eq(load("raft.lease: 400ms\n\nraft.election: 350ms\n"), KV_OK);
    ck_assert_int_eq(config_check(&config, why, sizeof why), KV_BAD_ARGUMENT);
    snprintf(want, sizeof want, "%s:3: raft.election: at least raft.lease", path);
    ck_assert_str_eq(why, want);

    char *variables[] = {"KVD_RAFT_ELECTION=360ms", NULL};
    ck_assert_int_eq(config_environment(&config, variables, why, sizeof why), KV_OK);
    ck_assert_int_eq(config_check(&config, why, sizeof why), KV_BAD_ARGUMENT);
    ck_assert_str_eq(why, "KVD_RAFT_ELECTION: raft.election: at least raft.lease");

    config_place(&config, "raft.election", CONFIG_PLACE_OPTION);
    ck_assert_int_eq(config_check(&config, why, sizeof why), KV_BAD_ARGUMENT);
    ck_assert_str_eq(why, "--raft-election: raft.election: at least raft.lease");

    config_defaults(&config);
    ck_assert_int_eq(load(NODES("id: 1, host: 127.0.0.2, key: " KEY2)), KV_OK);
    ck_assert_int_eq(config_check(&config, why, sizeof why), KV_BAD_ARGUMENT);
    snprintf(want, sizeof want, "%s:3: cluster.nodes: two nodes have id 1", path);
    ck_assert_str_eq(why, want);
}
END_TEST

START_TEST(environment_and_options_have_their_spelling)
{
    char *good[] = {"PATH=/bin", "KVD_LOG_LEVEL=warn", "KVD_RAFT_DRIFT_PPM=7", "KVD_CLUSTER=x",
                    "KVD_PORT=tcp://10.0.0.1:1", NULL};
    ck_assert_int_eq(config_environment(&config, good, why, sizeof why), KV_OK);
    ck_assert_str_eq(config.log_level, "warn");
    ck_assert_uint_eq(config.raft_drift, 7);
    char *unknown[] = {"KVD_RAFT_HARTBEAT=1s", NULL};
    ck_assert_int_eq(config_environment(&config, unknown, why, sizeof why), KV_BAD_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(why, "KVD_RAFT_HARTBEAT: unknown key"));
    char *bad[] = {"KVD_RESP_PORT=-1", NULL};
    ck_assert_int_eq(config_environment(&config, bad, why, sizeof why), KV_BAD_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(why, "KVD_RESP_PORT: resp.port"));

    ck_assert_str_eq(config_option("log-level"), "log.level");
    ck_assert_str_eq(config_option("raft-drift-ppm"), "raft.drift_ppm");
    ck_assert_ptr_null(config_option("log.level"));
    ck_assert_ptr_null(config_option("log-leve"));
    ck_assert_ptr_null(config_option(""));
}
END_TEST

START_TEST(every_key_reads_back_as_it_was_written)
{
    uint32_t cursor = 0, count = 0;
    const char *key;
    char text[CONFIG_TEXT_BYTES], again[CONFIG_TEXT_BYTES];
    struct kv_buf help;
    kv_buf_init(&help, 0);
    config_help(&help);
    kv_buf_append_u8(&help, 0);
    ck_assert(!help.failed);
    const char *manual = (const char *)kv_buf_slice(&help).data;
    while (config_next(&config, &cursor, &key, text)) {
        struct config copy = config;
        ck_assert_msg(config_set(&copy, key, text, why, sizeof why) == KV_OK, "%s", why);
        ck_assert_mem_eq(&copy, &config, sizeof copy);
        ck_assert_int_eq(config_get(&copy, key, again), KV_OK);
        ck_assert_str_eq(text, again);
        char heading[128];
        snprintf(heading, sizeof heading, "\n%s\n", key);
        ck_assert_msg(strstr(manual, heading) != NULL, "%s is not in the help", key);
        count++;
    }
    ck_assert_uint_gt(count, 30);
    ck_assert_int_eq(config_get(&config, "no.such", again), KV_NOT_FOUND);
    ck_assert_int_eq(config_get(&config, "raft.lease", again), KV_OK);
    ck_assert_str_eq(again, "200ms");
    ck_assert_int_eq(config_get(&config, "storage.map", again), KV_OK);
    ck_assert_str_eq(again, "1TiB");
    kv_buf_free(&help);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *c = tcase_create("config");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, defaults_pass_their_own_check);
    tcase_add_test(c, nested_and_dotted_keys_are_the_same);
    tcase_add_test(c, errors_name_file_line_and_key);
    tcase_add_test(c, nodes_are_read_and_judged);
    tcase_add_test(c, the_cluster_face_is_two_above);
    tcase_add_test(c, rules_between_keys);
    tcase_add_test(c, rules_between_keys_name_the_place);
    tcase_add_test(c, environment_and_options_have_their_spelling);
    tcase_add_test(c, every_key_reads_back_as_it_was_written);
    suite_add_tcase(suite, c);
    return unit_finish(suite);
}

/* How kvctl finds its cluster, in a directory of its own. */
#include "tests/unit/unit.h"
#include "tools/kvctl/target.c"

#include <stdlib.h>
#include <sys/stat.h>

static char dir[64];
static struct target target;
static char why[1024];

static void path_of(char out[256], const char *name)
{
    snprintf(out, 256, "%s/%s", dir, name);
}

static void file_write(const char *name, const char *bytes)
{
    char path[256];
    path_of(path, name);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(bytes, f), 0);
    fclose(f);
}

static void folder_make(const char *name)
{
    char path[256];
    path_of(path, name);
    ck_assert_int_eq(mkdir(path, 0700), 0);
}

static void setup(void)
{
    unit_temporary(dir, sizeof dir, "kvctl-target");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    static const char *const names[] = {"build/cluster/client.key", "build/cluster/cluster.json", "build/cluster",
                                        "build", "kvd-data", "other.json", "other.key"};
    char path[256];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        path_of(path, names[i]);
        (void)remove(path);
    }
    ck_assert_int_eq(rmdir(dir), 0);
}

static bool find(struct target_hints h)
{
    h.directory = dir;
    return target_find(&target, &h, why, sizeof why);
}

static const char cluster_json[] =
    "{\"version\":1,\"client_key\":\"client.key\",\"nodes\":["
    "{\"id\":1,\"pid\":12,\"host\":\"127.0.0.1\",\"resp\":7400,\"native\":7401,\"data\":\"d\",\"log\":\"l\",\"config\":\"c\"},"
    "{\"id\":2,\"pid\":13,\"host\":\"127.0.0.2\",\"resp\":7400,\"native\":7401,\"data\":\"d\",\"log\":\"l\",\"config\":\"c\"}]}";

static void cluster_make(void)
{
    folder_make("build");
    folder_make("build/cluster");
    file_write("build/cluster/cluster.json", cluster_json);
    file_write("build/cluster/client.key", "key");
}

static bool ends_with(const char *text, const char *end)
{
    return strlen(text) >= strlen(end) && strcmp(text + strlen(text) - strlen(end), end) == 0;
}

START_TEST(nothing_at_all_means_the_default_address)
{
    ck_assert(find((struct target_hints){0}));
    ck_assert_str_eq(target.addresses, "127.0.0.1:7401");
    ck_assert(ends_with(target.key_file, "kvd-data/client.key"));
    ck_assert_ptr_nonnull(strstr(target.tried, "cluster.json: no such file"));
    ck_assert_ptr_nonnull(strstr(target.tried, "kvd-data: no such directory"));
    ck_assert_ptr_nonnull(strstr(target.tried, "127.0.0.1:7401"));
}
END_TEST

START_TEST(the_cluster_in_the_build_folder_is_found)
{
    cluster_make();
    ck_assert(find((struct target_hints){0}));
    ck_assert_str_eq(target.addresses, "127.0.0.1:7401,127.0.0.2:7401");
    ck_assert(ends_with(target.key_file, "build/cluster/client.key"));
    ck_assert(ends_with(target.source, "build/cluster/cluster.json"));
}
END_TEST

START_TEST(a_single_node_s_folder_is_found)
{
    folder_make("kvd-data");
    ck_assert(find((struct target_hints){0}));
    ck_assert(ends_with(target.source, "kvd-data"));
    ck_assert(ends_with(target.key_file, "kvd-data/client.key"));
}
END_TEST

START_TEST(options_win_over_the_environment_and_that_over_files)
{
    cluster_make();
    ck_assert(find((struct target_hints){.env_addr = "127.0.0.7:1", .env_key = "/e"}));
    ck_assert_str_eq(target.addresses, "127.0.0.7:1");
    ck_assert_str_eq(target.key_file, "/e");
    ck_assert_str_eq(target.source, "KVD_ADDR");
    ck_assert(find((struct target_hints){.addr = "127.0.0.8:1", .env_addr = "127.0.0.7:1", .key = "/k", .env_key = "/e"}));
    ck_assert_str_eq(target.addresses, "127.0.0.8:1");
    ck_assert_str_eq(target.key_file, "/k");
}
END_TEST

START_TEST(an_address_alone_still_finds_a_key)
{
    cluster_make();
    ck_assert(find((struct target_hints){.addr = "127.0.0.1:7401"}));
    ck_assert(ends_with(target.key_file, "build/cluster/client.key"));
}
END_TEST

START_TEST(an_address_takes_the_key_of_the_named_cluster)
{
    char other[256];
    file_write("other.json", "{\"version\":1,\"client_key\":\"/o.key\",\"nodes\":[{\"host\":\"::1\",\"native\":9}]}");
    path_of(other, "other.json");
    ck_assert(find((struct target_hints){.cluster = other}));
    ck_assert_str_eq(target.key_file, "/o.key");
    ck_assert(find((struct target_hints){.cluster = other, .addr = "127.0.0.1:7401"}));
    ck_assert_str_eq(target.addresses, "127.0.0.1:7401");
    ck_assert_str_eq(target.key_file, "/o.key");
}
END_TEST

START_TEST(an_option_is_not_mixed_with_another_cluster_of_the_environment)
{
    char other[256];
    file_write("other.json", "{\"version\":1,\"client_key\":\"/o.key\",\"nodes\":[{\"host\":\"::1\",\"native\":9}]}");
    path_of(other, "other.json");
    ck_assert(find((struct target_hints){.cluster = other, .env_addr = "127.0.0.7:1", .env_key = "/e"}));
    ck_assert_str_eq(target.addresses, "::1:9");
    ck_assert_str_eq(target.key_file, "/o.key");
    ck_assert(find((struct target_hints){.addr = "127.0.0.8:1", .key = "/k", .env_cluster = "/nowhere.json"}));
    ck_assert_str_eq(target.addresses, "127.0.0.8:1");
    ck_assert_str_eq(target.tried, "--addr 127.0.0.8:1");
    ck_assert(!find((struct target_hints){.env_cluster = "/nowhere.json"}));
    ck_assert_str_eq(why, "KVD_CLUSTER /nowhere.json: no such file");
}
END_TEST

START_TEST(what_is_named_must_be_good)
{
    static const char *const bad[] = {"{", "{\"version\":2,\"client_key\":\"k\",\"nodes\":[]}",
                                      "{\"version\":1,\"nodes\":[]}", "{\"version\":1,\"client_key\":\"k\",\"nodes\":[]}",
                                      "{\"version\":1,\"client_key\":\"k\",\"nodes\":[{\"host\":\"h\",\"native\":\"7401\"}]}",
                                      "{\"version\":1,\"client_key\":\"k\",\"nodes\":[{\"host\":\"h\",\"native\":70000}]}"};
    char other[256];
    path_of(other, "other.json");
    ck_assert(!find((struct target_hints){.cluster = other}));
    ck_assert_ptr_nonnull(strstr(why, "no such file"));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        file_write("other.json", bad[i]);
        ck_assert(!find((struct target_hints){.env_cluster = other}));
        ck_assert_ptr_nonnull(strstr(why, "other.json"));
    }
}
END_TEST

START_TEST(a_broken_file_that_nobody_named_is_passed_by_and_told)
{
    folder_make("build");
    folder_make("build/cluster");
    file_write("build/cluster/cluster.json", "{");
    ck_assert(find((struct target_hints){0}));
    ck_assert_str_eq(target.addresses, "127.0.0.1:7401");
    ck_assert_ptr_nonnull(strstr(target.tried, "cluster.json:1:"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kvctl target");
    TCase *t = tcase_create("target");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, nothing_at_all_means_the_default_address);
    tcase_add_test(t, the_cluster_in_the_build_folder_is_found);
    tcase_add_test(t, a_single_node_s_folder_is_found);
    tcase_add_test(t, options_win_over_the_environment_and_that_over_files);
    tcase_add_test(t, an_address_alone_still_finds_a_key);
    tcase_add_test(t, an_address_takes_the_key_of_the_named_cluster);
    tcase_add_test(t, an_option_is_not_mixed_with_another_cluster_of_the_environment);
    tcase_add_test(t, what_is_named_must_be_good);
    tcase_add_test(t, a_broken_file_that_nobody_named_is_passed_by_and_told);
    suite_add_tcase(suite, t);
    return unit_finish(suite);
}

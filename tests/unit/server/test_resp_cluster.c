#include "client/base/key.h"
#include "tests/unit/server/gate_fake.h"
#include "tests/unit/unit.h"

/* The cluster face, and CLUSTER on either port. Node 1 leads the slots of `b` and more, node 2 others, node 3
 * nothing; nobody is known to lead the last range, and node 4, which leads one, has no such face. */
#define NAME1 "1111111111111111111111111111111111111111"
#define NAME2 "2222222222222222222222222222222222222222"
#define NAME3 "3333333333333333333333333333333333333333"
#define NAME4 "4444444444444444444444444444444444444444"
static const struct gate_node nodes[] = {
    {.id = 1, .host = "10.0.0.1", .native = 7401, .cluster = 7402, .name = NAME1, .is_connected = true},
    {.id = 2, .host = "10.0.0.2", .native = 7401, .cluster = 7402, .name = NAME2, .is_connected = true},
    {.id = 3, .host = "10.0.0.3", .native = 7401, .cluster = 7402, .name = NAME3},
    {.id = 4, .host = "10.0.0.4", .native = 7401, .name = NAME4, .is_connected = true}};
static const struct gate_range ranges[] = {
    {.first = 0, .last = 3999, .leader = 1, .epoch = 7, .nodes = {1, 2, 3}, .node_count = 3},    /* b: 3300 */
    {.first = 4000, .last = 7999, .leader = 1, .epoch = 9, .nodes = {3, 1, 2}, .node_count = 3}, /* c: 7365 */
    {.first = 8000, .last = 11999, .leader = 2, .epoch = 8, .nodes = {2, 3}, .node_count = 2},   /* d: 11298 */
    {.first = 12000, .last = 12000, .leader = 2, .epoch = 2, .nodes = {1, 2}, .node_count = 2},
    {.first = 12001, .last = 15400, .leader = 4, .epoch = 1, .nodes = {4}, .node_count = 1}, /* e: 15363 */
    {.first = 15401, .last = 16383, .nodes = {1, 2, 3}, .node_count = 3}};                   /* a: 15495 */

static uint64_t wall(struct env *e)
{
    (void)e;
    return UINT64_C(1795478400123456000);
}
static const struct env_ops env_ops = {.now_ns = fake_now, .wall_ns = wall};

static struct fake f;
static void setup_as(const struct gate_ops *gate)
{
    f = (struct fake){.answers_at_once = true, .nodes = nodes, .node_count = 4, .ranges = ranges, .range_count = 6, .self = 1};
    fake_open_as(&f, &env_ops, gate);
}
static void setup_face(void)
{
    setup_as(&gate_resp_cluster);
}
static void setup_plain(void)
{
    setup_as(&gate_resp);
}
static void teardown(void)
{
    fake_close(&f);
}

#define HEARD(text) ck_assert_str_eq(fake_heard(&f), text)
#define SAYS(command, text)           \
    do {                              \
        fake_say(&f, command "\r\n"); \
        HEARD(text);                  \
    } while (0)

/* ---- moved or not ---- */

START_TEST(foreign_keys_are_moved)
{
    SAYS("GET b", "$5\r\nGET b\r\n");
    SAYS("GET d", "-MOVED 11298 10.0.0.2:7402\r\n");
    SAYS("SET {d}x 1", "-MOVED 11298 10.0.0.2:7402\r\n");
    SAYS("DEL {d}x {d}y", "-MOVED 11298 10.0.0.2:7402\r\n");
    SAYS("OBJECT ENCODING d", "-MOVED 11298 10.0.0.2:7402\r\n");
    SAYS("BITOP AND {d}1 {d}2", "-MOVED 11298 10.0.0.2:7402\r\n");
    SAYS("GET e", "$5\r\nGET e\r\n"); /* its leader has no cluster face: fetched */
    SAYS("GET a", "$5\r\nGET a\r\n"); /* no leader is known: waits for one */
    SAYS("GET", "-ERR wrong number of arguments for 'get' command\r\n");
    SAYS("PING", "+PONG\r\n");
    ck_assert_uint_eq(f.count, 3);
    ck_assert_int_eq(f.requests[0].level, KV_LEVEL_LINEARIZABLE);
}
END_TEST

START_TEST(moved_stands_in_line)
{
    f.answers_at_once = false;
    fake_say(&f, "GET b\r\nGET d\r\nGET b\r\n");
    HEARD("");
    fake_answer(&f, 1);
    fake_answer(&f, 0);
    HEARD("$5\r\nGET b\r\n-MOVED 11298 10.0.0.2:7402\r\n$5\r\nGET b\r\n");
}
END_TEST

START_TEST(one_command_one_slot)
{
    static const char crossed[] = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";
    SAYS("MGET b c", crossed); /* one leader, two slots */
    SAYS("MSET d 1 b 2", crossed);
    SAYS("RENAME b d", crossed);
    SAYS("EXISTS d a", crossed);
    SAYS("MGET {b}1 {b}2", "$14\r\nMGET {b}1 {b}2\r\n");
    ck_assert_uint_eq(f.count, 1);
}
END_TEST

START_TEST(on_the_other_port_nothing_is_moved)
{
    SAYS("GET d", "$5\r\nGET d\r\n");
    SAYS("MGET b d", "$8\r\nMGET b d\r\n");
    SAYS("DBSIZE", "$6\r\nDBSIZE\r\n");
    ck_assert(!f.requests[2].led_only);
    SAYS("READONLY", "-ERR This instance has cluster support disabled\r\n");
    SAYS("READWRITE", "-ERR This instance has cluster support disabled\r\n");
    SAYS("ASKING", "-ERR This instance has cluster support disabled\r\n");
    SAYS("SELECT 1", "-ERR DB index is out of range\r\n");
    SAYS("CONFIG GET cluster-enabled", "*2\r\n$15\r\ncluster-enabled\r\n$2\r\nno\r\n");
    SAYS("INFO cluster", "$11\r\n# cluster\r\n\r\n");
}
END_TEST

START_TEST(readonly_reads_what_is_held_here)
{
    SAYS("READONLY", "+OK\r\n");
    SAYS("GET b", "$5\r\nGET b\r\n");
    SAYS("GET a", "$5\r\nGET a\r\n");
    ck_assert_int_eq(f.requests[0].level, KV_LEVEL_ANY);
    ck_assert_int_eq(f.requests[1].level, KV_LEVEL_ANY);
    SAYS("GET d", "-MOVED 11298 10.0.0.2:7402\r\n"); /* no replica here */
    SAYS("GET e", "$5\r\nGET e\r\n");                /* nor there a face to send it to: fetched, at that level */
    ck_assert_int_eq(f.requests[2].level, KV_LEVEL_ANY);
    SAYS("SET {d}x 1", "-MOVED 11298 10.0.0.2:7402\r\n");
    f.self = 2;
    SAYS("GET b", "$5\r\nGET b\r\n");
    SAYS("SET b 1", "-MOVED 3300 10.0.0.1:7402\r\n");
    SAYS("SET d 1", "$7\r\nSET d 1\r\n");
    ck_assert_int_eq(f.requests[4].level, KV_LEVEL_LINEARIZABLE);
    SAYS("READWRITE", "+OK\r\n");
    SAYS("GET b", "-MOVED 3300 10.0.0.1:7402\r\n");
    SAYS("READONLY", "+OK\r\n");
    SAYS("RESET", "+RESET\r\n");
    SAYS("GET b", "-MOVED 3300 10.0.0.1:7402\r\n");
    SAYS("READONLY now", "-ERR wrong number of arguments for 'readonly' command\r\n");
}
END_TEST

START_TEST(all_keys_are_those_led_here)
{
    fake_say(&f, "DBSIZE\r\nKEYS *\r\nSCAN 0\r\nRANDOMKEY\r\nFLUSHALL\r\nFLUSHDB\r\nGET b\r\n");
    ck_assert_uint_eq(f.count, 7);
    for (uint32_t i = 0; i < 7; i++) ck_assert(f.requests[i].led_only == (i < 6));
}
END_TEST

START_TEST(what_the_face_says_of_itself)
{
    SAYS("ASKING", "+OK\r\n");
    SAYS("SELECT 0", "+OK\r\n");
    SAYS("SELECT 1", "-ERR SELECT is not allowed in cluster mode\r\n");
    SAYS("CONFIG GET cluster-enabled", "*2\r\n$15\r\ncluster-enabled\r\n$3\r\nyes\r\n");
    SAYS("INFO cluster", "$19\r\ncluster # cluster\r\n\r\n");
    fake_say(&f, "HELLO\r\n");
    ck_assert_ptr_nonnull(strstr(fake_heard(&f), "mode\r\n$7\r\ncluster\r\n"));
}
END_TEST

START_TEST(without_a_leader_the_cluster_is_down)
{
    f.answers_at_once = false;
    fake_say(&f, "SET a 1\r\nGET a\r\nSET a 2\r\n");
    fake_fail(&f, 0, (struct kv_reply){.err = KV_NO_LEADER, .phase = KV_PHASE_WAIT_LEADER});
    fake_say(&f, "");
    fake_fail(&f, 1, (struct kv_reply){.err = KV_UNAVAILABLE});
    fake_say(&f, "");
    fake_fail(&f, 2, (struct kv_reply){.err = KV_UNAVAILABLE, .applied = KV_APPLIED_MAYBE});
    const char *heard = fake_heard(&f);
    ck_assert_ptr_eq(strstr(heard, "-CLUSTERDOWN "), heard);
    const char *second = strchr(heard, '\n') + 1;
    ck_assert_ptr_eq(strstr(second, "-CLUSTERDOWN "), second);
    const char *third = strchr(second, '\n') + 1;
    ck_assert_ptr_eq(strstr(third, "-UNCERTAIN "), third);
}
END_TEST

START_TEST(a_stranger_learns_nothing)
{
    fake_close(&f);
    f = (struct fake){.answers_at_once = true, .nodes = nodes, .node_count = 4, .ranges = ranges, .range_count = 6, .self = 1, .needs_password = true};
    fake_open_as(&f, &env_ops, &gate_resp_cluster);
    SAYS("GET d", "-NOAUTH Authentication required.\r\n");
    SAYS("CLUSTER SLOTS", "-NOAUTH Authentication required.\r\n");
    SAYS("READONLY", "-NOAUTH Authentication required.\r\n");
    SAYS("AUTH secret", "+OK\r\n");
    SAYS("GET d", "-MOVED 11298 10.0.0.2:7402\r\n");
}
END_TEST

START_TEST(users_of_other_keyspaces_are_sent_elsewhere)
{
    fake_close(&f);
    f = (struct fake){.answers_at_once = true, .nodes = nodes, .node_count = 4, .ranges = ranges, .range_count = 6, .self = 1, .needs_password = true};
    fake_open_as(&f, &env_ops, &gate_resp_cluster);
    SAYS("AUTH app app-secret",
         "-NOPERM user 'app' is bound to keyspace 'users', and this port is of cluster mode, which has keyspace 'default' alone; next: resp.port of any node\r\n");
    SAYS("GET d", "-NOAUTH Authentication required.\r\n");
    SAYS("AUTH plain plain-secret", "+OK\r\n");
    SAYS("GET d", "-MOVED 11298 10.0.0.2:7402\r\n");
    SAYS("SELECT default", "+OK\r\n");
    SAYS("SELECT users", "-ERR SELECT is not allowed in cluster mode\r\n");
    SAYS("CLUSTER COUNTKEYSINSLOT 15000", ":0\r\n"); /* its own keyspace; led elsewhere */
}
END_TEST

/* ---- CLUSTER ---- */

#define NODE(host, name, rest) "*4\r\n$8\r\n" host "\r\n:7402\r\n$40\r\n" name "\r\n" rest
#define SLOTS_AS(rest)                                                                                                         \
    "*5\r\n*4\r\n:0\r\n:3999\r\n" NODE("10.0.0.1", NAME1, rest) NODE("10.0.0.2", NAME2, rest) "*4\r\n:4000\r\n:7999\r\n" NODE( \
        "10.0.0.1", NAME1, rest) NODE("10.0.0.2", NAME2, rest) "*3\r\n:8000\r\n:11999\r\n" NODE("10.0.0.2", NAME2, rest) "*4\r\n:12000\r\n:12000\r\n" NODE("10.0.0.2", NAME2, rest) NODE("10.0.0.1", NAME1, rest) "*3\r\n:12001\r\n:15400\r\n*4\r\n$8\r\n10.0.0.4\r\n:0\r\n$40\r\n" NAME4 "\r\n" rest
START_TEST(slots)
{
    SAYS("CLUSTER SLOTS", SLOTS_AS("*0\r\n"));
    fake_say(&f, "HELLO 3\r\n");
    fake_heard(&f);
    SAYS("cluster slots", SLOTS_AS("%0\r\n"));
    SAYS("CLUSTER SLOTS x", "-ERR wrong number of arguments for 'cluster|slots' command\r\n");
}
END_TEST

#define SHARD_NODE(map, host, port, name, role_size, role, health_size, health)                                                 \
    map "$2\r\nid\r\n$40\r\n" name "\r\n$4\r\nport\r\n:" port "\r\n$2\r\nip\r\n$8\r\n" host "\r\n$8\r\nendpoint\r\n$8\r\n" host \
        "\r\n$4\r\nrole\r\n$" role_size "\r\n" role "\r\n$18\r\nreplication-offset\r\n:0\r\n$6\r\nhealth\r\n$" health_size "\r\n" health "\r\n"
#define SHARDS_AS(two, seven)                                                                                                                                             \
    "*4\r\n" two "$5\r\nslots\r\n*4\r\n:0\r\n:3999\r\n:4000\r\n:7999\r\n$5\r\nnodes\r\n*3\r\n" SHARD_NODE(seven, "10.0.0.1", "7402", NAME1, "6", "master", "6", "online") \
        SHARD_NODE(seven, "10.0.0.2", "7402", NAME2, "7", "replica", "6", "online")                                                                                       \
            SHARD_NODE(seven, "10.0.0.3", "7402", NAME3, "7", "replica", "4", "fail")                                                                                     \
                two "$5\r\nslots\r\n*2\r\n:8000\r\n:11999\r\n$5\r\nnodes\r\n*2\r\n" SHARD_NODE(seven, "10.0.0.2", "7402", NAME2, "6", "master", "6", "online")            \
                    SHARD_NODE(seven, "10.0.0.3", "7402", NAME3, "7", "replica", "4", "fail")                                                                             \
                        two "$5\r\nslots\r\n*2\r\n:12000\r\n:12000\r\n$5\r\nnodes\r\n*2\r\n" SHARD_NODE(seven, "10.0.0.2", "7402", NAME2, "6", "master", "6", "online")   \
                            SHARD_NODE(seven, "10.0.0.1", "7402", NAME1, "7", "replica", "6", "online")                                                                   \
                                two "$5\r\nslots\r\n*2\r\n:12001\r\n:15400\r\n$5\r\nnodes\r\n*1\r\n" SHARD_NODE(seven, "10.0.0.4", "0", NAME4, "6", "master", "6", "online")
START_TEST(shards)
{
    SAYS("CLUSTER SHARDS", SHARDS_AS("*4\r\n", "*14\r\n"));
    fake_say(&f, "HELLO 3\r\n");
    fake_heard(&f);
    SAYS("CLUSTER SHARDS", SHARDS_AS("%2\r\n", "%7\r\n"));
}
END_TEST

#define NODES_TEXT \
    NAME1 " 10.0.0.1:7402@7401 myself,master - 0 0 9 connected 0-7999\n" NAME2 " 10.0.0.2:7402@7401 master - 0 0 8 connected 8000-12000\n" NAME3 " 10.0.0.3:7402@7401 slave,fail? " NAME1 " 0 0 9 disconnected\n" NAME4 " 10.0.0.4:0@7401 master - 0 0 1 connected 12001-15400\n"
START_TEST(nodes_and_my_id)
{
    char want[1024];
    snprintf(want, sizeof want, "$%zu\r\n%s\r\n", strlen(NODES_TEXT), NODES_TEXT);
    SAYS("CLUSTER NODES", want);
    SAYS("CLUSTER MYID", "$40\r\n" NAME1 "\r\n");
    fake_say(&f, "HELLO 3\r\n");
    fake_heard(&f);
    snprintf(want, sizeof want, "=%zu\r\ntxt:%s\r\n", strlen(NODES_TEXT) + 4, NODES_TEXT);
    SAYS("CLUSTER NODES", want);
    f.self = 3;
    SAYS("CLUSTER MYID", "$40\r\n" NAME3 "\r\n");
}
END_TEST

START_TEST(info)
{
    fake_say(&f, "CLUSTER INFO\r\n");
    const char *heard = fake_heard(&f);
    ck_assert_ptr_nonnull(strstr(heard, "cluster_state:fail\r\ncluster_slots_assigned:15401\r\ncluster_slots_ok:15401\r\n"
                                        "cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:4\r\n"
                                        "cluster_size:3\r\ncluster_current_epoch:9\r\ncluster_my_epoch:9\r\n"));
    f.range_count = 1;
    fake_say(&f, "CLUSTER INFO\r\n");
    ck_assert_ptr_nonnull(strstr(fake_heard(&f), "cluster_slots_assigned:4000\r\n"));
    static const struct gate_range whole = {.last = 16383, .leader = 2, .epoch = 4, .nodes = {2}, .node_count = 1};
    f.ranges = &whole;
    fake_say(&f, "CLUSTER INFO\r\n");
    heard = fake_heard(&f);
    ck_assert_ptr_nonnull(strstr(heard, "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\n"));
    ck_assert_ptr_nonnull(strstr(heard, "cluster_size:1\r\ncluster_current_epoch:4\r\ncluster_my_epoch:0\r\n"));
}
END_TEST

START_TEST(keys_of_a_slot)
{
    SAYS("CLUSTER KEYSLOT {b}x", ":3300\r\n");
    SAYS("CLUSTER COUNTKEYSINSLOT 3300", "$6\r\nDBSIZE\r\n");
    ck_assert_uint_eq(f.requests[0].in_slot, 3301);
    SAYS("CLUSTER GETKEYSINSLOT 3300 5", "$6\r\nKEYS *\r\n");
    ck_assert_uint_eq(f.requests[1].in_slot, 3301);
    ck_assert_uint_eq(f.requests[1].keys_max, 5);
    SAYS("CLUSTER GETKEYSINSLOT 3300 0", "*0\r\n");
    SAYS("CLUSTER COUNTKEYSINSLOT 11298", ":0\r\n"); /* led elsewhere */
    SAYS("CLUSTER GETKEYSINSLOT 11298 5", "*0\r\n");
    SAYS("CLUSTER COUNTKEYSINSLOT 16384", "-ERR Invalid slot\r\n");
    SAYS("CLUSTER COUNTKEYSINSLOT -1", "-ERR Invalid slot\r\n");
    SAYS("CLUSTER COUNTKEYSINSLOT x", "-ERR value is not an integer or out of range\r\n");
    SAYS("CLUSTER GETKEYSINSLOT 1 -1", "-ERR Invalid slot or number of keys\r\n");
    SAYS("CLUSTER GETKEYSINSLOT 16384 1", "-ERR Invalid slot or number of keys\r\n");
    SAYS("CLUSTER GETKEYSINSLOT 1 x", "-ERR value is not an integer or out of range\r\n");
    SAYS("CLUSTER GETKEYSINSLOT 1", "-ERR wrong number of arguments for 'cluster|getkeysinslot' command\r\n");
    ck_assert_uint_eq(f.count, 2);
}
END_TEST

START_TEST(keys_of_a_slot_wait_for_writes)
{
    f.answers_at_once = false;
    ck_assert_int_eq(fake_say(&f, "SET b 1\r\nCLUSTER COUNTKEYSINSLOT 3300\r\nSET b 2\r\n"), KV_BUSY);
    ck_assert_uint_eq(f.count, 1);
    fake_answer(&f, 0);
    ck_assert_int_eq(fake_say(&f, ""), KV_BUSY); /* nor does a write overtake it */
    ck_assert_uint_eq(f.count, 2);
    fake_answer(&f, 1);
    ck_assert_int_eq(fake_say(&f, ""), KV_OK);
    ck_assert_uint_eq(f.count, 3);
}
END_TEST

START_TEST(on_the_other_port_any_slot_is_counted)
{
    SAYS("CLUSTER COUNTKEYSINSLOT 11298", "$6\r\nDBSIZE\r\n");
    SAYS("CLUSTER MYID", "$40\r\n" NAME1 "\r\n");
    SAYS("CLUSTER SLOTS", SLOTS_AS("*0\r\n"));
}
END_TEST

START_TEST(refusals_and_help)
{
    SAYS("CLUSTER", "-ERR wrong number of arguments for 'cluster' command\r\n");
    SAYS("CLUSTER nosuch", "-ERR unknown subcommand 'nosuch'. Try CLUSTER HELP.\r\n");
    fake_say(&f, "CLUSTER RESET HARD\r\n");
    const char *heard = fake_heard(&f);
    ck_assert_ptr_eq(strstr(heard, "-ERR CLUSTER RESET is not there"), heard);
    fake_say(&f, "CLUSTER HELP\r\n");
    heard = fake_heard(&f);
    ck_assert_ptr_nonnull(strstr(heard, "+KEYSLOT <key>\r\n"));
}
END_TEST

START_TEST(the_table_of_commands)
{
    SAYS("COMMAND INFO cluster", "*1\r\n*10\r\n$7\r\ncluster\r\n:-2\r\n*0\r\n:0\r\n:0\r\n:0\r\n*0\r\n*0\r\n*0\r\n*0\r\n");
    SAYS("COMMAND INFO readonly",
         "*1\r\n*10\r\n$8\r\nreadonly\r\n:1\r\n*3\r\n+loading\r\n+stale\r\n+fast\r\n:0\r\n:0\r\n:0\r\n*0\r\n*0\r\n*0\r\n*0\r\n");
    SAYS("COMMAND INFO readwrite",
         "*1\r\n*10\r\n$9\r\nreadwrite\r\n:1\r\n*3\r\n+loading\r\n+stale\r\n+fast\r\n:0\r\n:0\r\n:0\r\n*0\r\n*0\r\n*0\r\n*0\r\n");
    SAYS("COMMAND INFO asking", "*1\r\n*10\r\n$6\r\nasking\r\n:1\r\n*1\r\n+fast\r\n:0\r\n:0\r\n:0\r\n*0\r\n*0\r\n*0\r\n*0\r\n");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("resp_cluster");
    TCase *face = tcase_create("face"), *plain = tcase_create("plain");
    tcase_add_checked_fixture(face, setup_face, teardown);
    tcase_add_test(face, foreign_keys_are_moved);
    tcase_add_test(face, moved_stands_in_line);
    tcase_add_test(face, one_command_one_slot);
    tcase_add_test(face, readonly_reads_what_is_held_here);
    tcase_add_test(face, all_keys_are_those_led_here);
    tcase_add_test(face, what_the_face_says_of_itself);
    tcase_add_test(face, without_a_leader_the_cluster_is_down);
    tcase_add_test(face, a_stranger_learns_nothing);
    tcase_add_test(face, users_of_other_keyspaces_are_sent_elsewhere);
    tcase_add_test(face, slots);
    tcase_add_test(face, shards);
    tcase_add_test(face, nodes_and_my_id);
    tcase_add_test(face, info);
    tcase_add_test(face, keys_of_a_slot);
    tcase_add_test(face, keys_of_a_slot_wait_for_writes);
    tcase_add_test(face, refusals_and_help);
    tcase_add_test(face, the_table_of_commands);
    suite_add_tcase(suite, face);
    tcase_add_checked_fixture(plain, setup_plain, teardown);
    tcase_add_test(plain, on_the_other_port_nothing_is_moved);
    tcase_add_test(plain, on_the_other_port_any_slot_is_counted);
    suite_add_tcase(suite, plain);
    return unit_finish(suite);
}

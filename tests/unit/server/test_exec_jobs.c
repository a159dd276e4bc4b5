#include "server/exec_jobs.h"

#include "server/exec_nodes.h"
#include "tests/unit/server/exec_system.h"

static uint8_t keys[8][32];

static void setup(void)
{
    system_setup(&(struct exec_place){.nodes = {1, 2, 3}, .node_count = 3, .dedup_retention_ms = 300000});
    for (uint8_t i = 0; i < 8; i++) memset(keys[i], i + 1, sizeof keys[i]);
}

static struct kv_job told(void)
{
    struct kv_slice in = kv_buf_slice(&m.reply);
    struct resp_value v;
    struct kv_job j;
    ck_assert_msg(resp_next(&in, SIZE_MAX, &v) == KV_OK && v.type == RESP_BULK, "%s", reply());
    ck_assert_int_eq(kv_job_decode(kv_arena_copy(&arena, v.text), &arena, &j), KV_OK);
    return j;
}

static enum kv_err open_as(const char *kind, const struct kv_job *j)
{
    struct kv_buf bytes = {0};
    kv_job_encode(j, &bytes);
    struct kv_slice args[2] = {kv_str(kind), kv_buf_slice(&bytes)};
    enum kv_err err = system_run(KV_OP_JOBOPEN, args, 2);
    kv_buf_free(&bytes);
    return err;
}

static enum kv_err open_job(struct kv_job j)
{
    return open_as(kv_job_kind_text(j.kind), &j);
}

static struct kv_job move(uint32_t partition, uint32_t from, uint32_t to)
{
    return (struct kv_job){.kind = KV_JOB_MOVE, .partition = partition, .keyspace = 1, .from = from, .to = to, .reason = kv_str("test")};
}

static enum kv_err claim(const char *id, const char *node, const char *fence)
{
    struct kv_slice args[3] = {kv_str(id), kv_str(node), kv_str(fence)};
    return system_run(KV_OP_JOBCLAIM, args, 3);
}

static enum kv_err step(const char *id, uint64_t fence, enum kv_job_state state, uint64_t done)
{
    struct kv_job j = {.kind = KV_JOB_MOVE, .fence = fence, .state = state, .done = done, .total = 10, .unit = kv_str("steps"), .note = kv_str("so far")};
    struct kv_buf bytes = {0};
    kv_job_encode(&j, &bytes);
    struct kv_slice args[2] = {kv_str(id), kv_buf_slice(&bytes)};
    enum kv_err err = system_run(KV_OP_JOBSTEP, args, 2);
    kv_buf_free(&bytes);
    return err;
}

static enum kv_err set(const char *id, const char *verb)
{
    struct kv_slice args[2] = {kv_str(id), kv_str(verb)};
    return system_run(KV_OP_JOBSET, args, 2);
}

static enum kv_err show(const char *id)
{
    struct kv_slice arg = kv_str(id);
    return system_run(KV_OP_JOBSHOW, &arg, 1);
}

static int64_t listed(void)
{
    struct resp_value v;
    ck_assert_int_eq(system_run(KV_OP_JOBLIST, NULL, 0), KV_OK);
    struct kv_slice in = kv_buf_slice(&m.reply);
    ck_assert_int_eq(resp_next(&in, SIZE_MAX, &v), KV_OK);
    return v.number;
}

START_TEST(a_job_goes_from_open_to_done)
{
    ck_assert_int_eq(open_job(move(4, 1, 2)), KV_OK);
    struct kv_job j = told();
    ck_assert_uint_eq(j.id, 1);
    ck_assert_int_eq(j.state, KV_JOB_QUEUED);
    ck_assert_uint_eq(j.opened_ms, m.exec.clock_ms);
    ck_assert_int_eq(open_job(move(4, 1, 2)), KV_OK); /* asked for again: it is there */
    ck_assert_uint_eq(told().id, 1);
    refused(open_job(move(4, 1, 3)), KV_CONDITION, "partition 4 has job 1 already (move, queued); next: kvctl job wait 1");
    ck_assert_int_eq(open_job(move(5, 1, 2)), KV_OK);
    ck_assert_uint_eq(told().id, 2);

    m.exec.clock_ms += 1000;
    ck_assert_int_eq(claim("1", "7", "0"), KV_OK);
    j = told();
    ck_assert_uint_eq(j.fence, 1);
    ck_assert_uint_eq(j.runner, 7);
    ck_assert_int_eq(j.state, KV_JOB_RUNNING);
    ck_assert_uint_eq(j.started_ms, m.exec.clock_ms);
    ck_assert_int_eq(step("1", 1, KV_JOB_RUNNING, 3), KV_OK);
    ck_assert_uint_eq(told().done, 3);
    ck_assert_int_eq(step("1", 1, KV_JOB_DONE, 10), KV_OK);
    ck_assert_int_eq(told().state, KV_JOB_DONE);
    ck_assert_int_eq(step("1", 1, KV_JOB_DONE, 10), KV_OK); /* the answer was lost */
    refused(step("1", 1, KV_JOB_FAILED, 10), KV_CONDITION, "job 1 is done");
    refused(step("1", 1, KV_JOB_RUNNING, 4), KV_CONDITION, "job 1 is done");
    refused(claim("1", "8", "1"), KV_CONDITION, "job 1 is done");
    refused(set("1", "cancel"), KV_CONDITION, "job 1 is done already");
    ck_assert_int_eq(open_job(move(4, 1, 3)), KV_OK); /* the partition is free again */
    ck_assert_uint_eq(told().id, 3);
    ck_assert_int_eq(listed(), 3);
}
END_TEST

START_TEST(a_fence_shuts_earlier_runners_out)
{
    ck_assert_int_eq(open_job(move(4, 1, 2)), KV_OK);
    ck_assert_int_eq(claim("1", "7", "0"), KV_OK);
    refused(claim("1", "8", "0"), KV_CONFLICT, "fence 0 of job 1 is over: node 7 runs it under 1");
    ck_assert_int_eq(claim("1", "8", "1"), KV_OK);
    ck_assert_uint_eq(told().fence, 2);
    refused(step("1", 1, KV_JOB_DONE, 10), KV_CONFLICT, "fence 1 of job 1 is over: node 8 runs it under 2");
    ck_assert_int_eq(show("1"), KV_OK);
    ck_assert_int_eq(told().state, KV_JOB_RUNNING);
    ck_assert_int_eq(claim("1", "8", "2"), KV_OK); /* the same node after a restart */
    ck_assert_uint_eq(told().fence, 3);
    refused(step("1", 2, KV_JOB_RUNNING, 1), KV_CONFLICT, "is over");
    ck_assert_int_eq(step("1", 3, KV_JOB_DONE, 10), KV_OK);
}
END_TEST

START_TEST(people_pause_resume_and_cancel)
{
    ck_assert_int_eq(open_job(move(4, 1, 2)), KV_OK);
    ck_assert_int_eq(set("1", "cancel"), KV_OK); /* nobody began it */
    ck_assert_int_eq(told().state, KV_JOB_CANCELLED);
    ck_assert_int_eq(open_job(move(4, 1, 2)), KV_OK);
    refused(set("2", "resume"), KV_CONDITION, "job 2 is queued, not paused");
    ck_assert_int_eq(set("2", "pause"), KV_OK);
    ck_assert_int_eq(set("2", "resume"), KV_OK);
    ck_assert_int_eq(claim("2", "7", "0"), KV_OK);
    ck_assert_int_eq(set("2", "pause"), KV_OK);
    ck_assert_int_eq(step("2", 1, KV_JOB_RUNNING, 2), KV_OK); /* its runner did not know yet */
    ck_assert_int_eq(told().state, KV_JOB_PAUSED);
    ck_assert_int_eq(claim("2", "8", "1"), KV_OK);
    ck_assert_int_eq(told().state, KV_JOB_PAUSED);
    ck_assert_int_eq(set("2", "resume"), KV_OK);
    ck_assert_int_eq(claim("2", "8", "2"), KV_OK);
    ck_assert_int_eq(told().state, KV_JOB_RUNNING);
    ck_assert_int_eq(set("2", "cancel"), KV_OK);
    ck_assert_int_eq(told().state, KV_JOB_CANCELLING); /* what was begun is taken back first */
    refused(set("2", "pause"), KV_CONDITION, "is being cancelled");
    ck_assert_int_eq(set("2", "cancel"), KV_OK);
    ck_assert_int_eq(step("2", 3, KV_JOB_CANCELLED, 2), KV_OK);
    refused(set("2", "stop"), KV_BAD_ARGUMENT, "pause, resume or cancel");
    refused(set("9", "cancel"), KV_NOT_FOUND, "no job 9; next: kvctl job list");
    refused(show("x"), KV_BAD_ARGUMENT, "not the number of a job");
}
END_TEST

START_TEST(what_cannot_be_is_refused)
{
    struct kv_job merge = {.kind = KV_JOB_MERGE, .partition = 5, .other = 4, .key = kv_str("k")};
    struct kv_job j = move(4, 1, 2);
    struct kv_slice junk[2] = {kv_str("move"), kv_str("\xff\xff")};
    refused(system_run(KV_OP_JOBOPEN, junk, 2), KV_BAD_ARGUMENT, "does not parse");
    refused(open_as("split", &j), KV_BAD_ARGUMENT, "no job of that kind");
    refused(open_job(move(4, 2, 2)), KV_BAD_ARGUMENT, "from one node to another");
    refused(open_job((struct kv_job){.kind = KV_JOB_SPLIT, .partition = 4}), KV_BAD_ARGUMENT, "needs the key");
    refused(open_job((struct kv_job){.kind = KV_JOB_MERGE, .partition = 4, .other = 4, .key = kv_str("k")}), KV_BAD_ARGUMENT, "two partitions");
    refused(open_job((struct kv_job){.kind = KV_JOB_DRAIN, .from = 4}), KV_BAD_ARGUMENT, "begins by itself");
    ck_assert_int_eq(open_job(move(4, 1, 2)), KV_OK);
    refused(open_job(merge), KV_CONDITION, "partition 4 has job 1 already"); /* both of its sides are its own */
    ck_assert_int_eq(set("1", "cancel"), KV_OK);
    ck_assert_int_eq(open_job(merge), KV_OK);
    refused(open_job(move(4, 1, 2)), KV_CONDITION, "partition 4 has job 2 already (merge");
    refused(open_job(move(5, 1, 2)), KV_CONDITION, "partition 5 has job 2 already (merge");
    m.exec.place = NULL;
    refused(open_job(move(6, 1, 2)), KV_BAD_ARGUMENT, "jobs are partition 0's");
}
END_TEST

START_TEST(there_are_limits)
{
    char id[24];
    for (uint32_t i = 0; i < KV_JOBS_OPEN_MAX / 2; i++) {
        struct kv_job j = move(i, 1, 2);
        j.automatic = true;
        ck_assert_int_eq(open_job(j), KV_OK);
    }
    struct kv_job more = move(9999, 1, 2);
    more.automatic = true;
    refused(open_job(more), KV_CONDITION, "there are 128 open jobs, the limit"); /* half is people's */
    for (uint32_t i = KV_JOBS_OPEN_MAX / 2; i < KV_JOBS_OPEN_MAX; i++) ck_assert_int_eq(open_job(move(i, 1, 2)), KV_OK);
    refused(open_job(move(9999, 1, 2)), KV_CONDITION, "there are 256 open jobs, the limit; next: kvctl job list");
    for (uint32_t i = 1; i <= KV_JOBS_OPEN_MAX; i++) {
        snprintf(id, sizeof id, "%u", i);
        ck_assert_int_eq(set(id, "cancel"), KV_OK);
    }
    ck_assert_int_eq(listed(), KV_JOBS_ENDED_MAX);
    refused(show("56"), KV_NOT_FOUND, "job 56 has ended and is forgotten, the last 200 are kept");
    ck_assert_int_eq(show("57"), KV_OK);
    ck_assert_int_eq(open_job(move(9999, 1, 2)), KV_OK);
    ck_assert_uint_eq(told().id, KV_JOBS_OPEN_MAX + 1);
    ck_assert_int_eq(m.rows.count, 1 + KV_JOBS_ENDED_MAX + 1 + 1); /* the board, jobs, what the open one is on */
}
END_TEST

/* ---- what other commands begin and end ---- */

static enum kv_err node_state(const char *id, const char *state, bool is_job)
{
    struct kv_slice args[3] = {kv_str(id), kv_str(state), kv_str("JOB")};
    return system_run(KV_OP_KSNODE, args, is_job ? 3 : 2);
}

static void seed(void)
{
    struct kv_node_info list[3] = {{.id = 1, .host = kv_str("10.0.0.1"), .port = 7401, .key = kv_slice(keys[1], 32), .zone = kv_str("a")},
                                   {.id = 2, .host = kv_str("10.0.0.2"), .port = 7401, .key = kv_slice(keys[2], 32), .zone = kv_str("b")},
                                   {.id = 3, .host = kv_str("10.0.0.3"), .port = 7401, .key = kv_slice(keys[3], 32), .zone = kv_str("b")}};
    struct kv_buf bytes = {0};
    kv_map_encode(&(struct kv_map_info){.nodes = list, .node_count = 3}, &bytes);
    struct kv_slice arg = kv_buf_slice(&bytes);
    ck_assert_int_eq(system_run(KV_OP_KSSEED, &arg, 1), KV_OK);
    kv_buf_free(&bytes);
}

START_TEST(a_drain_is_a_job)
{
    seed();
    ck_assert_int_eq(node_state("3", "draining", false), KV_OK); /* as old logs have it */
    ck_assert_int_eq(listed(), 0);
    ck_assert_int_eq(node_state("3", "up", false), KV_OK);
    ck_assert_int_eq(node_state("3", "draining", true), KV_OK);
    ck_assert_int_eq(node_state("3", "draining", true), KV_OK);
    ck_assert_int_eq(listed(), 1);
    ck_assert_int_eq(node_state("3", "up", true), KV_OK); /* ends it */
    ck_assert_int_eq(show("1"), KV_OK);
    ck_assert_int_eq(told().state, KV_JOB_CANCELLED);
    ck_assert_int_eq(node_state("3", "draining", true), KV_OK);
    ck_assert_int_eq(claim("2", "1", "0"), KV_OK);
    ck_assert_int_eq(set("2", "cancel"), KV_OK); /* the node is up again, in the same entry */
    ck_assert_int_eq(told().state, KV_JOB_CANCELLED);
    ck_assert_int_eq(node_state("3", "up", false), KV_OK);
    ck_assert_str_eq(reply(), "$2\r\nup\r\n");
    ck_assert_int_eq(node_state("3", "draining", true), KV_OK);
    ck_assert_int_eq(node_state("3", "removed", false), KV_OK);
    ck_assert_int_eq(show("3"), KV_OK);
    ck_assert_int_eq(told().state, KV_JOB_DONE);
}
END_TEST

static enum kv_err with_keyspace(enum kv_op op, const struct kv_keyspace *k)
{
    struct kv_buf bytes = {0};
    kv_keyspace_encode(k, &bytes);
    struct kv_slice args[2] = {k->name, kv_buf_slice(&bytes)};
    enum kv_err err = system_run(op, args, 2);
    kv_buf_free(&bytes);
    return err;
}

static struct kv_keyspace keyspace_told(void)
{
    struct kv_slice in = kv_buf_slice(&m.reply);
    struct resp_value v;
    struct kv_keyspace k;
    ck_assert_int_eq(resp_next(&in, SIZE_MAX, &v), KV_OK);
    ck_assert_int_eq(kv_keyspace_decode(kv_arena_copy(&arena, v.text), &arena, &k), KV_OK);
    return k;
}

static struct kv_keyspace users(void)
{
    struct kv_slice name = kv_str("users");
    ck_assert_int_eq(system_run(KV_OP_KSSHOW, &name, 1), KV_OK);
    return keyspace_told();
}

START_TEST(an_alteration_is_a_job)
{
    seed();
    struct kv_keyspace k = {.name = kv_str("users"), .kind = KV_KEY_HASH, .partitions = 2, .replicas = 2};
    ck_assert_int_eq(with_keyspace(KV_OP_KSCREATE, &k), KV_OK);
    k = keyspace_told();
    k.replicas = 4;
    refused(with_keyspace(KV_OP_KSALTER, &k), KV_CONDITION, "4 replicas need 4 nodes, the cluster has 3; next: --replicas 3");
    k.replicas = 2;
    k.zones[0] = kv_str("a");
    k.zone_count = 1;
    refused(with_keyspace(KV_OP_KSALTER, &k), KV_CONDITION, "2 replicas need 2 nodes, these zones have 1");
    k.zones[k.zone_count++] = kv_str("a");
    refused(with_keyspace(KV_OP_KSALTER, &k), KV_BAD_ARGUMENT, "zone 'a' is given twice");
    k.zones[0] = kv_str("b");
    k.zone_count = 1;
    ck_assert_int_eq(with_keyspace(KV_OP_KSALTER, &k), KV_OK);
    ck_assert_uint_eq(users().zone_count, 1);
    k.kind = KV_KEY_RANGE;
    k.partitions = 0;
    refused(with_keyspace(KV_OP_KSALTER, &k), KV_BAD_ARGUMENT, "is a hash keyspace and cannot become a range one");
    k.kind = KV_KEY_HASH;
    k.zone_count = 0;
    k.replicas = 3;
    ck_assert_int_eq(with_keyspace(KV_OP_KSALTER, &k), KV_OK); /* takes the place of the one before */
    ck_assert_int_eq(show("1"), KV_OK);
    ck_assert_int_eq(told().state, KV_JOB_CANCELLED);
    ck_assert_uint_eq(users().replicas, 3);
    ck_assert_int_eq(set("2", "cancel"), KV_OK); /* back to what was before it */
    ck_assert_uint_eq(users().replicas, 2);
    ck_assert_uint_eq(users().zone_count, 1);
    k.name = kv_str("nope");
    refused(with_keyspace(KV_OP_KSALTER, &k), KV_NO_KEYSPACE, "nope");
}
END_TEST

/* It has no row until then. */
START_TEST(default_is_altered_like_any_other)
{
    seed();
    struct kv_slice name = kv_str("default");
    ck_assert_int_eq(system_run(KV_OP_KSSHOW, &name, 1), KV_OK);
    struct kv_keyspace k = keyspace_told();
    ck_assert_uint_eq(k.replicas, 0);
    k.zones[0] = kv_str("b");
    k.zone_count = 1;
    refused(with_keyspace(KV_OP_KSALTER, &k), KV_BAD_ARGUMENT, "at least one replica");
    k.replicas = 2;
    ck_assert_int_eq(with_keyspace(KV_OP_KSALTER, &k), KV_OK);
    ck_assert_int_eq(system_run(KV_OP_KSSHOW, &name, 1), KV_OK);
    ck_assert_uint_eq(keyspace_told().replicas, 2);
    ck_assert_uint_eq(keyspace_told().zone_count, 1);
    ck_assert_uint_eq(keyspace_told().id, KV_KEYSPACE_DEFAULT);
    ck_assert_uint_eq(keyspace_told().partitions, KV_PARTITIONS_DEFAULT);
    struct kv_slice in, list_args[1];
    struct resp_value v;
    ck_assert_int_eq(system_run(KV_OP_KSLIST, list_args, 0), KV_OK);
    in = kv_buf_slice(&m.reply);
    ck_assert_int_eq(resp_next(&in, SIZE_MAX, &v), KV_OK);
    ck_assert_int_eq(v.number, 1);
    ck_assert_int_eq(resp_next(&in, SIZE_MAX, &v), KV_OK);
    ck_assert_int_eq(kv_keyspace_decode(kv_arena_copy(&arena, v.text), &arena, &k), KV_OK);
    ck_assert_uint_eq(k.replicas, 2);
    ck_assert_int_eq(set("1", "cancel"), KV_OK); /* back to what nobody declared */
    ck_assert_int_eq(system_run(KV_OP_KSSHOW, &name, 1), KV_OK);
    ck_assert_uint_eq(keyspace_told().replicas, 0);
    ck_assert_uint_eq(keyspace_told().zone_count, 0);
}
END_TEST

START_TEST(labels_come_with_stable_numbers)
{
    struct kv_label eu[] = {{kv_str("de"), 0}, {kv_str("fr"), 0}}, us[] = {{kv_str("us"), 0}};
    struct kv_label_group groups[3] = {{kv_str("eu"), eu, 2}, {kv_str("us"), us, 1}};
    struct kv_keyspace k = {.name = kv_str("places"), .kind = KV_KEY_LIST, .groups = groups, .group_count = 2, .replicas = 1, .delimiter = '/'};
    ck_assert_int_eq(with_keyspace(KV_OP_KSCREATE, &k), KV_OK);
    k.id = keyspace_told().id;
    struct kv_label more[] = {{kv_str("it"), 9}, {kv_str("de"), 9}, {kv_str("fr"), 9}}, asia[] = {{kv_str("jp"), 9}};
    groups[0] = (struct kv_label_group){kv_str("eu"), more, 3};
    groups[2] = (struct kv_label_group){kv_str("asia"), asia, 1};
    k.group_count = 3;
    ck_assert_int_eq(with_keyspace(KV_OP_KSALTER, &k), KV_OK);
    struct kv_keyspace then = keyspace_told();
    static const uint16_t buckets[] = {3, 0, 1, 2, 4}; /* it, de, fr, us, jp */
    uint32_t at = 0;
    for (uint32_t i = 0; i < 3; i++)
        for (uint32_t n = 0; n < then.groups[i].label_count; n++) ck_assert_uint_eq(then.groups[i].labels[n].bucket, buckets[at++]);
    struct kv_slice name = kv_str("places");
    ck_assert_int_eq(system_run(KV_OP_KSSHOW, &name, 1), KV_OK);
    ck_assert_uint_eq(keyspace_told().rule.label_count, 3); /* not before their partition knows them */
    ck_assert_int_eq(claim("1", "7", "0"), KV_OK);
    struct kv_job j = {.kind = KV_JOB_ALTER, .fence = 1, .state = KV_JOB_RUNNING, .result = 1};
    struct kv_buf bytes = {0};
    kv_job_encode(&j, &bytes);
    struct kv_slice args[2] = {kv_str("1"), kv_buf_slice(&bytes)};
    ck_assert_int_eq(system_run(KV_OP_JOBSTEP, args, 2), KV_OK);
    kv_buf_free(&bytes);
    ck_assert_int_eq(system_run(KV_OP_KSSHOW, &name, 1), KV_OK);
    ck_assert_uint_eq(keyspace_told().rule.label_count, 5);
    refused(set("1", "cancel"), KV_CONDITION, "in use by now");
    groups[0].labels = more + 1; /* without `it` */
    groups[0].label_count = 2;
    refused(with_keyspace(KV_OP_KSALTER, &k), KV_BAD_ARGUMENT, "label 'it' cannot leave group 'eu'");
    k.group_count = 1;
    refused(with_keyspace(KV_OP_KSALTER, &k), KV_BAD_ARGUMENT, "label 'it' cannot leave");
    groups[0] = (struct kv_label_group){kv_str("eu"), more, 3};
    refused(with_keyspace(KV_OP_KSALTER, &k), KV_BAD_ARGUMENT, "group 'us' cannot be taken away");

    struct kv_label_group open_groups[2] = {{kv_str("eu"), eu, 1}, {kv_str("rest"), NULL, 0}};
    struct kv_keyspace o = {.name = kv_str("open"), .kind = KV_KEY_LIST, .groups = open_groups, .group_count = 2, .default_group = kv_str("rest"), .replicas = 1, .delimiter = '/'};
    ck_assert_int_eq(with_keyspace(KV_OP_KSCREATE, &o), KV_OK);
    o.id = keyspace_told().id;
    open_groups[0].label_count = 2;
    refused(with_keyspace(KV_OP_KSALTER, &o), KV_CONDITION, "live in group 'rest', and may have keys there");
}
END_TEST

START_TEST(a_drop_waits_for_jobs_that_people_asked_for)
{
    struct kv_keyspace k = {.name = kv_str("users"), .kind = KV_KEY_HASH, .partitions = 2, .replicas = 2};
    struct kv_slice args[2] = {kv_str("users"), kv_str("JOB")};
    ck_assert_int_eq(with_keyspace(KV_OP_KSCREATE, &k), KV_OK);
    uint32_t id = keyspace_told().id;
    struct kv_job j = move(9, 1, 2);
    j.keyspace = id;
    ck_assert_int_eq(open_job(j), KV_OK);
    j.partition = 10;
    j.automatic = true;
    ck_assert_int_eq(open_job(j), KV_OK);
    ck_assert_int_eq(open_job(move(1, 1, 2)), KV_OK); /* another keyspace's */
    refused(system_run(KV_OP_KSDROP, args, 2), KV_CONDITION, "job 1 of the keyspace (move) is queued; next: kvctl job wait 1, or drop with --force");
    refused(system_run(KV_OP_KSDROP, args, 1), KV_CONDITION, "job 1 of the keyspace");
    args[1] = kv_str("now");
    refused(system_run(KV_OP_KSDROP, args, 2), KV_BAD_ARGUMENT, "KSDROP name [JOB | FORCE]");
    args[1] = kv_str("FORCE");
    ck_assert_int_eq(system_run(KV_OP_KSDROP, args, 2), KV_OK);
    static const enum kv_job_state states[] = {KV_JOB_CANCELLED, KV_JOB_CANCELLED, KV_JOB_QUEUED, KV_JOB_QUEUED};
    for (uint32_t i = 0; i < 4; i++) {
        char text[2] = {(char)('1' + i), 0};
        ck_assert_int_eq(show(text), KV_OK);
        ck_assert_int_eq(told().state, states[i]);
    }
    ck_assert_int_eq(told().kind, KV_JOB_DROP);
    ck_assert_uint_eq(told().keyspace, id);
    refused(set("4", "cancel"), KV_CONDITION, "cannot be cancelled");
    refused(set("4", "pause"), KV_CONDITION, "cannot be paused");
}
END_TEST

START_TEST(a_job_is_the_same_behind_its_encoding)
{
    struct kv_job j = {.id = 7, .kind = KV_JOB_MERGE, .state = KV_JOB_FAILED, .partition = 5, .other = 4, .keyspace = 3, .from = 1, .to = 2, .key = kv_str("key"), .name = kv_str("users"), .reason = kv_str("why"), .unit = kv_str("steps"), .note = kv_str("note"), .before = kv_str("row"), .automatic = true, .fence = 9, .runner = 2, .done = 3, .total = 4, .opened_ms = 10, .started_ms = 11, .updated_ms = 12, .ended_ms = 13, .range_epoch = 14, .conf_epoch = 15, .error = KV_CONDITION, .result = 16};
    struct kv_buf a = {0}, b = {0};
    struct kv_job back;
    kv_job_encode(&j, &a);
    ck_assert_int_eq(kv_job_decode(kv_buf_slice(&a), &arena, &back), KV_OK);
    kv_job_encode(&back, &b);
    ck_assert(kv_slice_eq(kv_buf_slice(&a), kv_buf_slice(&b)));
    ck_assert_uint_eq(back.result, 16);
    ck_assert_uint_eq(back.conf_epoch, 15);
    ck_assert(kv_slice_eq(back.before, kv_str("row")));
    char lengthy[KV_JOB_TEXT_BYTES_MAX + 50];
    memset(lengthy, 'x', sizeof lengthy);
    j.note = kv_slice(lengthy, sizeof lengthy); /* cut, not refused */
    kv_buf_clear(&a);
    kv_job_encode(&j, &a);
    ck_assert_int_eq(kv_job_decode(kv_buf_slice(&a), &arena, &back), KV_OK);
    ck_assert_uint_eq(back.note.size, KV_JOB_TEXT_BYTES_MAX);
    ck_assert_int_eq(kv_job_decode(kv_str("\x10\x63"), &arena, &back), KV_MALFORMED); /* kind 99 */
    kv_buf_free(&a);
    kv_buf_free(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exec_jobs");
    TCase *tc = tcase_create("exec_jobs");
    tcase_add_checked_fixture(tc, setup, system_teardown);
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, a_job_goes_from_open_to_done);
    tcase_add_test(tc, a_fence_shuts_earlier_runners_out);
    tcase_add_test(tc, people_pause_resume_and_cancel);
    tcase_add_test(tc, what_cannot_be_is_refused);
    tcase_add_test(tc, there_are_limits);
    tcase_add_test(tc, a_drain_is_a_job);
    tcase_add_test(tc, an_alteration_is_a_job);
    tcase_add_test(tc, default_is_altered_like_any_other);
    tcase_add_test(tc, labels_come_with_stable_numbers);
    tcase_add_test(tc, a_drop_waits_for_jobs_that_people_asked_for);
    tcase_add_test(tc, a_job_is_the_same_behind_its_encoding);
    return unit_finish(suite);
}

#include "client/wire/message.h"

#include "client/base/hash.h"
#include "client/base/key.h"
#include "tests/unit/unit.h"

#include <stdio.h>

static struct kv_buf frame;
static struct kv_arena arena;

static void setup(void)
{
    kv_buf_free(&frame);
    kv_arena_free(&arena);
    frame = (struct kv_buf){0};
    arena = (struct kv_arena){0};
}

/* Behind the kind byte, in memory of its own exact size. */
static struct kv_slice body(int kind)
{
    ck_assert(!frame.failed && frame.size > 0);
    struct kv_slice s = kv_buf_slice(&frame);
    ck_assert_int_eq(s.data[0], kind);
    struct kv_slice copy = kv_arena_copy(&arena, kv_slice(s.data + 1, s.size - 1));
    ck_assert_ptr_nonnull(copy.data);
    return copy;
}

static void same_request(const struct kv_request *a, const struct kv_request *b)
{
    ck_assert(a->id == b->id && a->op == b->op && a->keyspace == b->keyspace);
    ck_assert(a->pinned == b->pinned && a->partition == b->partition);
    ck_assert(a->range_epoch == b->range_epoch && a->sequence == b->sequence);
    ck_assert(a->level == b->level && a->bounded_ms == b->bounded_ms);
    ck_assert(a->deadline_ms == b->deadline_ms && a->hops == b->hops);
    ck_assert(a->line == b->line && a->round == b->round);
    ck_assert_mem_eq(a->client, b->client, KV_CLIENT_BYTES);
    ck_assert_uint_eq(a->arg_count, b->arg_count);
    for (uint32_t i = 0; i < a->arg_count; i++) ck_assert(kv_slice_eq(a->args[i], b->args[i]));
}

static void request_round_trip(const struct kv_request *r)
{
    setup();
    kv_request_encode(r, &frame);
    struct kv_request back;
    ck_assert_int_eq(kv_request_decode(body(KV_FRAME_REQUEST), &arena, &back), KV_OK);
    same_request(r, &back);
}

START_TEST(requests_survive_the_round_trip)
{
    struct kv_slice few[] = {kv_str("key"), kv_slice("v\0v", 3), kv_slice(NULL, 0)};
    request_round_trip(&(struct kv_request){.op = KV_OP_DBSIZE});
    request_round_trip(&(struct kv_request){.id = 1, .op = KV_OP_SET, .args = few, .arg_count = 3});
    request_round_trip(&(struct kv_request){
        .id = UINT64_MAX,
        .op = KV_OP_KVPING,
        .args = few,
        .arg_count = 1,
        .keyspace = UINT32_MAX,
        .pinned = true,
        .partition = 0, /* the system partition is as good as any */
        .range_epoch = UINT32_MAX,
        .client = "0123456789abcde",
        .sequence = UINT64_MAX,
        .level = KV_LEVEL_ANY,
        .bounded_ms = 5,
        .deadline_ms = UINT32_MAX,
        .hops = 1,
        .line = 3,
        .round = UINT32_MAX,
    });
    request_round_trip(&(struct kv_request){.op = KV_OP_GET, .args = few, .arg_count = 1, .sequence = 7}); /* client all zero */
    enum { MANY = 5000 };
    struct kv_slice *many = calloc(MANY, sizeof *many);
    for (size_t i = 0; i < MANY; i++) many[i] = kv_slice("argument", i % 9);
    request_round_trip(&(struct kv_request){.op = KV_OP_MGET, .args = many, .arg_count = MANY});
    free(many);
}
END_TEST

START_TEST(replies_survive_the_round_trip)
{
    struct kv_reply rows[] = {
        {.id = 0},
        {.id = 9, .value = kv_str("$1\r\nx\r\n"), .version = {3, 4}, .expire_ms = 5},
        {.id = 1, .err = KV_WRONG_SHARD, .applied = KV_APPLIED_MAYBE, .partition = 6, .range_epoch = 7, .node = 8, .leader = 9, .phase = KV_PHASE_FORWARD, .level = KV_LEVEL_ANY, .stale_ms = 11, .retry_after_ms = 10, .detail = kv_str("why")},
        {.id = 2, .err = KV_CROSS_SHARD, .applied = KV_APPLIED_YES, .phase = KV_PHASE_PARSE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        setup();
        kv_reply_encode(&rows[i], &frame);
        struct kv_reply b, *a = &rows[i];
        ck_assert_int_eq(kv_reply_decode(body(KV_FRAME_REPLY), &arena, &b), KV_OK);
        ck_assert(a->id == b.id && a->err == b.err && a->applied == b.applied);
        ck_assert(kv_slice_eq(a->value, b.value) && kv_slice_eq(a->detail, b.detail));
        ck_assert_int_eq(kv_version_cmp(a->version, b.version), 0);
        ck_assert(a->expire_ms == b.expire_ms && a->partition == b.partition);
        ck_assert(a->range_epoch == b.range_epoch && a->node == b.node && a->leader == b.leader);
        ck_assert(a->phase == b.phase && a->level == b.level && a->stale_ms == b.stale_ms);
        ck_assert_uint_eq(a->retry_after_ms, b.retry_after_ms);
    }
}
END_TEST

START_TEST(maps_survive_the_round_trip)
{
    uint8_t key[32] = {1, 2, 3};
    struct kv_node_info nodes[] = {
        {.id = 1, .host = kv_str("127.0.0.1"), .port = 7001, .resp = 7002, .resp_cluster = 65535, .key = kv_slice(key, 32)},
        {.id = 2, .host = kv_str("::1"), .port = 65535, .zone = kv_str("rack-2"), .roles = 5, .state = KV_NODE_DRAINING},
    };
    struct kv_partition_info partitions[] = {
        {.id = 0, .range_epoch = 1, .conf_epoch = 1},
        {.id = 5, .keyspace = 1, .range_epoch = 2, .conf_epoch = 3, .leader = 2, .from = kv_str("a"), .to = kv_str("b"), .nodes = {1, 2, 77}, .node_count = 3},
    };
    struct kv_map_info m = {.nodes = nodes, .node_count = 2, .partitions = partitions, .partition_count = 2, .nodes_version = 77, .cluster = kv_str("0123456789abcdef")}, back;
    setup();
    kv_map_encode(&m, &frame);
    ck_assert(!frame.failed);
    ck_assert_int_eq(kv_map_decode(kv_buf_slice(&frame), &arena, &back), KV_OK);
    ck_assert(back.node_count == 2 && back.partition_count == 2);
    ck_assert(back.nodes_version == 77 && kv_slice_eq(back.cluster, m.cluster));
    for (int i = 0; i < 2; i++) {
        ck_assert(back.nodes[i].id == nodes[i].id && back.nodes[i].port == nodes[i].port);
        ck_assert(back.nodes[i].resp == nodes[i].resp);
        ck_assert(back.nodes[i].resp_cluster == nodes[i].resp_cluster);
        ck_assert(kv_slice_eq(back.nodes[i].host, nodes[i].host));
        ck_assert(kv_slice_eq(back.nodes[i].key, nodes[i].key));
        ck_assert(kv_slice_eq(back.nodes[i].zone, nodes[i].zone));
        ck_assert(back.nodes[i].roles == nodes[i].roles && back.nodes[i].state == nodes[i].state);
        const struct kv_partition_info *a = &partitions[i], *b = &back.partitions[i];
        ck_assert(a->id == b->id && a->keyspace == b->keyspace && a->leader == b->leader);
        ck_assert(a->range_epoch == b->range_epoch && a->conf_epoch == b->conf_epoch);
        ck_assert(kv_slice_eq(a->from, b->from) && kv_slice_eq(a->to, b->to));
        ck_assert_mem_eq(a->nodes, b->nodes, sizeof a->nodes);
        ck_assert_uint_eq(a->node_count, b->node_count);
    }
    ck_assert_int_eq(kv_map_decode(kv_slice(NULL, 0), &arena, &back), KV_OK);
    ck_assert(back.node_count == 0 && back.partition_count == 0);
}
END_TEST

START_TEST(the_bytes_are_those_documented)
{
    setup();
    struct kv_slice args[] = {kv_str("k"), kv_str("v")};
    kv_request_encode(&(struct kv_request){.id = 300, .op = KV_OP_SET, .args = args, .arg_count = 2, .keyspace = 1}, &frame);
    static const char request[] = "\x01\x08\xAC\x02\x10\x02\x1A\x01k\x1A\x01v\x20\x01";
    ck_assert(kv_slice_eq(kv_buf_slice(&frame), kv_slice(request, sizeof request - 1)));
    setup();
    kv_reply_encode(&(struct kv_reply){.id = 300, .value = kv_str("+OK\r\n"), .node = 2}, &frame);
    static const char reply[] = "\x02\x08\xAC\x02\x22\x05+OK\r\n\x50\x02";
    ck_assert(kv_slice_eq(kv_buf_slice(&frame), kv_slice(reply, sizeof reply - 1)));
}
END_TEST

static enum kv_err request_err(const char *bytes, size_t size)
{
    struct kv_request r;
    kv_arena_reset(&arena);
    return kv_request_decode(kv_slice(bytes, size), &arena, &r);
}
#define REQUEST_ERR(text) request_err(text, sizeof text - 1)

START_TEST(requests_are_checked)
{
    setup();
    ck_assert_int_eq(REQUEST_ERR("\x08\x01\x10\x01"), KV_OK);
    ck_assert_int_eq(REQUEST_ERR(""), KV_MALFORMED);
    ck_assert_int_eq(REQUEST_ERR("\x08\x01"), KV_MALFORMED);            /* no operation */
    ck_assert_int_eq(REQUEST_ERR("\x10\x01"), KV_MALFORMED);            /* no id */
    ck_assert_int_eq(REQUEST_ERR("\x08\x01\x10\x00"), KV_BAD_ARGUMENT); /* no such operation */
    ck_assert_int_eq(REQUEST_ERR("\x08\x01\x10\x7F"), KV_BAD_ARGUMENT);
    ck_assert_int_eq(REQUEST_ERR("\x08\x01\x10\xFF\xFF\xFF\xFF\x0F"), KV_BAD_ARGUMENT);
    ck_assert_int_eq(REQUEST_ERR("\x08\x01\x10\x01\x48\x04"), KV_BAD_ARGUMENT); /* level */
    ck_assert_int_eq(REQUEST_ERR("\x08\x01\x10\x01\x28\x04"), KV_MALFORMED);    /* partition alone */
    ck_assert_int_eq(REQUEST_ERR("\x08\x01\x10\x01\x30\x04"), KV_MALFORMED);    /* epoch alone */
    ck_assert_int_eq(REQUEST_ERR("\x08\x01\x10\x01\x28\x04\x30\x04"), KV_OK);
    ck_assert_int_eq(REQUEST_ERR("\x08\x01\x10\x01\x3A\x03"
                                 "abc"),
                     KV_MALFORMED); /* client: 3 B */
    ck_assert_int_eq(REQUEST_ERR("\x08\x01\x10\x01\x3A\x10"
                                 "0123456789abcdef"),
                     KV_OK);
    ck_assert_int_eq(REQUEST_ERR("\x08\x01\x10\x01\x40\x07"), KV_MALFORMED); /* whose sequence? */
    ck_assert_int_eq(REQUEST_ERR("\x08\x01\x10\x01\x1A\x05"
                                 "abc"),
                     KV_MALFORMED);                                        /* truncated */
    ck_assert_int_eq(REQUEST_ERR("\x08\x01\x10\x01\xF2\x07\x01x"), KV_OK); /* field 126: newer */
}
END_TEST

START_TEST(replies_are_checked)
{
    setup();
    static const struct {
        const char *bytes;
        size_t size;
        enum kv_err err;
    } rows[] = {
        {"\x08\x01", 2, KV_OK},
        {"", 0, KV_MALFORMED},
        {"\x08\x01\x10\x1A", 4, KV_OK}, /* NO_KEYSPACE, the last */
        {"\x08\x01\x10\x1B", 4, KV_BAD_ARGUMENT},
        {"\x08\x01\x18\x03", 4, KV_BAD_ARGUMENT}, /* applied */
        {"\x08\x01\x58\x09", 4, KV_BAD_ARGUMENT}, /* phase */
        {"\x08\x01\x70\x04", 4, KV_BAD_ARGUMENT}, /* level */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kv_reply r;
        enum kv_err err = kv_reply_decode(kv_slice(rows[i].bytes, rows[i].size), &arena, &r);
        ck_assert_msg(err == rows[i].err, "row %zu: %s", i, kv_err_name(err));
    }
}
END_TEST

static enum kv_err map_err(struct kv_map_info *m)
{
    setup();
    kv_map_encode(m, &frame);
    ck_assert(!frame.failed);
    struct kv_map_info back;
    return kv_map_decode(kv_buf_slice(&frame), &arena, &back);
}

START_TEST(maps_are_checked)
{
    char host[65];
    memset(host, '1', sizeof host);
    struct kv_node_info n = {.id = 1, .host = kv_str("h"), .port = 1};
    struct kv_partition_info p = {.id = 1, .from = kv_str("b"), .to = kv_str("a")};
    struct kv_map_info m = {.nodes = &n, .node_count = 1, .partitions = &p, .partition_count = 1};
    ck_assert_int_eq(map_err(&m), KV_MALFORMED); /* the range is empty */
    p.to = kv_slice(NULL, 0);
    ck_assert_int_eq(map_err(&m), KV_OK);
    n.host = kv_slice(host, 64);
    ck_assert_int_eq(map_err(&m), KV_MALFORMED);
    n.host = kv_slice("a\0b", 3);
    ck_assert_int_eq(map_err(&m), KV_MALFORMED);
    n.host = kv_str("h");
    n.key = kv_str("short");
    ck_assert_int_eq(map_err(&m), KV_MALFORMED);
    n.key = kv_slice(NULL, 0);
    n.id = 0;
    ck_assert_int_eq(map_err(&m), KV_MALFORMED);
    n.id = 1;
    uint8_t long_key[KV_KEY_BYTES_MAX + 1] = {0};
    p.from = kv_slice(long_key, sizeof long_key);
    ck_assert_int_eq(map_err(&m), KV_TOO_BIG);
    struct kv_map_info back; /* a port over 65,535, which the structs cannot say */
    struct kv_slice port = kv_slice("\x0A\x09\x08\x01\x12\x01h\x18\x80\x80\x04", 11);
    ck_assert_int_eq(kv_map_decode(port, &arena, &back), KV_BAD_ARGUMENT);
}
END_TEST

START_TEST(the_arena_bounds_what_a_peer_can_make_us_hold)
{
    setup();
    struct kv_arena small;
    kv_arena_init(&small, 4096);
    uint8_t value[8000] = {0};
    struct kv_slice args[] = {kv_str("k"), kv_slice(value, sizeof value)};
    kv_request_encode(&(struct kv_request){.op = KV_OP_SET, .args = args, .arg_count = 2}, &frame);
    struct kv_slice bytes = body(KV_FRAME_REQUEST);
    struct kv_request r;
    ck_assert_int_eq(kv_request_decode(bytes, &small, &r), KV_TOO_BIG);
    kv_arena_free(&small);
    kv_arena_init(&small, 16384);
    ck_assert_int_eq(kv_request_decode(bytes, &small, &r), KV_OK);
    kv_arena_free(&small);
}
END_TEST

START_TEST(too_many_arguments_are_refused_before_they_cost)
{
    enum { COUNT = KV_ARGS_MAX + 1,
           HEAD = 4 };
    size_t size = HEAD + 2 * (size_t)(COUNT + 100);
    uint8_t *bytes = malloc(size);
    memcpy(bytes, "\x08\x01\x10\x09", HEAD);
    for (size_t i = HEAD; i < size; i += 2) memcpy(bytes + i, "\x1A\x00", 2);
    struct kv_request r;
    setup();
    ck_assert_int_eq(kv_request_decode(kv_slice(bytes, size), &arena, &r), KV_TOO_BIG);
    ck_assert_uint_eq(arena.size, 0); /* counted, not collected */
    ck_assert_int_eq(kv_request_decode(kv_slice(bytes, HEAD + 2 * (size_t)COUNT), &arena, &r),
                     KV_TOO_BIG);
    kv_arena_reset(&arena);
    ck_assert_int_eq(kv_request_decode(kv_slice(bytes, HEAD + 2 * (size_t)KV_ARGS_MAX), &arena, &r),
                     KV_OK);
    ck_assert_uint_eq(r.arg_count, KV_ARGS_MAX);
    kv_arena_free(&arena);
    free(bytes);
}
END_TEST

START_TEST(an_encoder_out_of_room_says_so)
{
    setup();
    kv_buf_init(&frame, 5);
    struct kv_slice args[20];
    for (int i = 0; i < 20; i++) args[i] = kv_str("argument");
    struct kv_request r = {.op = KV_OP_MGET, .args = args, .arg_count = 20};
    kv_request_encode(&r, &frame);
    ck_assert(frame.failed && frame.size == 0);
}
END_TEST

START_TEST(phases_have_names)
{
    for (int p = KV_PHASE_NONE; p <= KV_PHASE_FORWARD; p++) {
        ck_assert_str_ne(kv_phase_text((enum kv_phase)p), "unknown");
    }
    ck_assert_str_eq(kv_phase_text((enum kv_phase)99), "unknown");
}
END_TEST

START_TEST(keyspaces_survive_the_round_trip)
{
    setup();
    struct kv_label east[] = {{kv_str("de"), 0}, {kv_str("at"), 1}}, west[] = {{kv_str("fr"), 2}};
    struct kv_label_group groups[] = {{kv_str("east"), east, 2}, {kv_str("west"), west, 1}};
    struct kv_slice splits[] = {kv_str("k"), kv_str("t")};
    struct kv_keyspace list = {.id = 4, .name = kv_str("users"), .kind = KV_KEY_LIST, .partitions = 2, .groups = groups, .group_count = 2, .default_group = kv_str("west"), .delimiter = '/', .rest = 3, .replicas = 3, .value_bytes_max = 1 << 20, .dedup_retention_ms = 300000, .first_partition = 12};
    struct kv_keyspace range = {.id = 5, .name = kv_str("log"), .kind = KV_KEY_RANGE, .splits = splits, .split_count = 2}, back;
    struct kv_buf bytes = {0};
    struct kv_key key;
    kv_keyspace_encode(&list, &bytes);
    ck_assert_int_eq(kv_keyspace_decode(kv_buf_slice(&bytes), &arena, &back), KV_OK);
    ck_assert_uint_eq(back.id, 4);
    ck_assert(kv_slice_eq(back.name, list.name));
    ck_assert_uint_eq(back.group_count, 2);
    ck_assert(kv_slice_eq(back.groups[1].labels[0].text, kv_str("fr")));
    ck_assert_uint_eq(back.first_partition, 12);
    ck_assert_uint_eq(back.rule.label_count, 3);
    ck_assert_int_eq(kv_key_encode(&back.rule, kv_str("at/1"), &key), KV_OK);
    ck_assert_uint_eq(kv_key_slot(kv_key_slice(&key)), 1);
    ck_assert_int_eq(kv_key_encode(&back.rule, kv_str("xx/1"), &key), KV_OK);
    ck_assert_uint_eq(kv_key_slot(kv_key_slice(&key)), 3);
    struct kv_keyspace copy;
    ck_assert(kv_keyspace_copy(&back, &arena, &copy));
    ck_assert(copy.name.data != back.name.data && kv_slice_eq(copy.name, back.name));
    for (size_t size = 0; size < bytes.size; size++)
        (void)kv_keyspace_decode(kv_slice(kv_buf_slice(&bytes).data, size), &arena, &back);
    west[0].text = kv_str("de"); /* a label twice */
    kv_buf_clear(&bytes);
    kv_keyspace_encode(&list, &bytes);
    ck_assert_int_eq(kv_keyspace_decode(kv_buf_slice(&bytes), &arena, &back), KV_CONFLICT);
    kv_buf_clear(&bytes);
    struct kv_node_info node = {.id = 1, .host = kv_str("::1"), .port = 1};
    struct kv_map_info map = {.nodes = &node, .node_count = 1, .keyspaces = &range, .keyspace_count = 1, .directory = 77}, read;
    kv_map_encode(&map, &bytes);
    ck_assert_int_eq(kv_map_decode(kv_buf_slice(&bytes), &arena, &read), KV_OK);
    ck_assert_uint_eq(read.directory, 77);
    ck_assert_uint_eq(read.keyspace_count, 1);
    ck_assert_uint_eq(read.keyspaces[0].split_count, 2);
    ck_assert(kv_slice_eq(read.keyspaces[0].splits[1], kv_str("t")));
    kv_buf_free(&bytes);
}
END_TEST

START_TEST(levels_by_their_names)
{
    static const struct {
        const char *text;
        enum kv_level level;
        uint32_t ms;
    } good[] = {{"linearizable", KV_LEVEL_LINEARIZABLE, 7}, {"lease", KV_LEVEL_LEASE, 7}, {"bounded:100", KV_LEVEL_BOUNDED, 100}, {"bounded=0", KV_LEVEL_BOUNDED, 0}, {"any", KV_LEVEL_ANY, 7}};
    static const char *const bad[] = {"", "bounded", "bounded:", "bounded:x", "bounded:4294967296", "bounded100", "anything", "lea"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        enum kv_level level = KV_LEVEL_LINEARIZABLE;
        uint32_t ms = 7;
        ck_assert(kv_level_parse(kv_str(good[i].text), &level, &ms));
        ck_assert(level == good[i].level && ms == good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        enum kv_level level;
        uint32_t ms;
        ck_assert_msg(!kv_level_parse(kv_str(bad[i]), &level, &ms), "%s", bad[i]);
    }
}
END_TEST

UNIT_MAIN("message", levels_by_their_names, keyspaces_survive_the_round_trip, requests_survive_the_round_trip, replies_survive_the_round_trip,
          maps_survive_the_round_trip, the_bytes_are_those_documented, requests_are_checked,
          replies_are_checked, maps_are_checked, the_arena_bounds_what_a_peer_can_make_us_hold,
          too_many_arguments_are_refused_before_they_cost, an_encoder_out_of_room_says_so,
          phases_have_names)

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "client/base/text.h"
#include "client/kv.h"
#include "tests/unit/client/fake_node.h"
#include "tests/unit/unit.h"

/* The blocking face. Its loop stands still between calls, so the node runs in a process of its own:
 * one partition, a sorted table of rows, the operations as op.h describes them. */

enum { ROWS_MAX = 64 };
struct stored {
    struct kv_key key; /* encoded */
    char value[64];
    uint64_t index, expire_ms;
};
static struct stored rows[ROWS_MAX];
static uint32_t row_count;
static uint64_t last_index;

static struct stored *row_of(struct kv_slice user_key, bool create)
{
    struct kv_key key;
    uint32_t at = 0;
    if (kv_key_hash(KV_KEYSPACE_DEFAULT, user_key, &key) != KV_OK) abort();
    while (at < row_count && kv_slice_cmp(kv_key_slice(&rows[at].key), kv_key_slice(&key)) < 0) at++;
    if (at < row_count && kv_slice_eq(kv_key_slice(&rows[at].key), kv_key_slice(&key))) return &rows[at];
    if (!create) return NULL;
    if (row_count == ROWS_MAX) abort();
    memmove(&rows[at + 1], &rows[at], (row_count++ - at) * sizeof rows[0]);
    rows[at] = (struct stored){.key = key};
    return &rows[at];
}

static void row_set(struct stored *row, struct kv_slice value)
{
    snprintf(row->value, sizeof row->value, "%.*s", (int)value.size, (const char *)value.data);
    row->index = ++last_index;
}

static void answer_map(struct fake *f, struct kv_buf *value)
{
    struct kv_key from, to;
    struct kv_buf bytes;
    kv_key_slot_start(KV_KEYSPACE_DEFAULT, 0, &from);
    kv_key_slot_start(KV_KEYSPACE_DEFAULT, KV_SLOTS, &to);
    struct kv_node_info n = {.id = 1, .host = kv_str(f->addr.host), .port = f->addr.port};
    struct kv_partition_info p = {.id = 1, .keyspace = KV_KEYSPACE_DEFAULT, .range_epoch = 1, .conf_epoch = 1, .leader = 1, .from = kv_key_slice(&from), .to = kv_key_slice(&to), .nodes = {1}, .node_count = 1};
    struct kv_map_info map = {.nodes = &n, .node_count = 1, .partitions = &p, .partition_count = 1};
    kv_buf_init(&bytes, 0);
    kv_map_encode(&map, &bytes);
    resp_put_bulk(value, kv_buf_slice(&bytes));
    kv_buf_free(&bytes);
}

static void answer_scan(const struct kv_request *q, struct kv_buf *value)
{
    struct kv_buf page;
    struct kv_key next = {0};
    uint64_t rows_max = 0, count = 0;
    kv_buf_init(&page, 0);
    (void)kv_parse_u64(q->args[2], &rows_max);
    for (uint32_t i = 0; i < row_count; i++) {
        char version[24];
        struct kv_slice key = kv_key_slice(&rows[i].key);
        if (!kv_range_has((struct kv_range){q->args[0], q->args[1]}, key)) continue;
        if (count == rows_max) {
            next = rows[i].key;
            break;
        }
        int size = snprintf(version, sizeof version, "1:%llu", (unsigned long long)rows[i].index);
        resp_put_bulk(&page, kv_key_user_hash(key));
        resp_put_bulk(&page, kv_str(rows[i].value));
        resp_put_bulk(&page, kv_slice(version, (size_t)size));
        resp_put_integer(&page, (int64_t)rows[i].expire_ms);
        count++;
    }
    resp_put_array(value, 1 + 4 * count);
    resp_put_bulk(value, kv_key_slice(&next));
    kv_buf_append_slice(value, kv_buf_slice(&page));
    kv_buf_free(&page);
}

static bool serve(struct fake *f, const struct kv_request *q, struct kv_reply *reply, struct kv_buf *value)
{
    struct stored *row = NULL;
    bool keyed = q->op >= KV_OP_KVGET && q->op <= KV_OP_KVINCR;
    int64_t number = 0, delta = 0;
    reply->partition = 1;
    reply->phase = KV_PHASE_APPLY;
    if (q->op == KV_OP_KVMAP) {
        answer_map(f, value);
        return true;
    }
    if (keyed) row = row_of(q->args[0], false);
    reply->applied = KV_APPLIED_YES;
    switch (q->op) {
    case KV_OP_KVGET:
        if (row != NULL) resp_put_bulk(value, kv_str(row->value));
        else resp_put_null(value);
        break;
    case KV_OP_KVPUT:
        if (q->arg_count == 4 && row != NULL) {
            reply->err = KV_CONDITION;
            break;
        }
        row = row_of(q->args[0], true);
        row_set(row, q->args[1]);
        row->expire_ms = 0;
        (void)kv_parse_u64(q->args[2], &row->expire_ms);
        resp_put_status(value, "OK");
        break;
    case KV_OP_KVCAS: {
        char version[24] = "";
        if (row != NULL) snprintf(version, sizeof version, "1:%llu", (unsigned long long)row->index);
        bool by_version = kv_slice_eq(q->args[2], kv_str("VERSION"));
        if (row == NULL) reply->err = KV_NOT_FOUND;
        else if (!kv_slice_eq(kv_str(by_version ? version : row->value), q->args[3])) reply->err = KV_CONDITION;
        else row_set(row, q->args[1]);
        if (reply->err == KV_OK) resp_put_status(value, "OK");
        break;
    }
    case KV_OP_KVDEL:
        resp_put_integer(value, row != NULL);
        if (row != NULL) memmove(row, row + 1, (size_t)(&rows[--row_count] - row) * sizeof *row);
        row = NULL;
        break;
    case KV_OP_KVINCR:
        if (row != NULL && !kv_parse_i64(kv_str(row->value), &number)) {
            reply->err = KV_BAD_ARGUMENT;
            resp_put_error(value, "ERR value is not an integer or out of range");
            break;
        }
        (void)kv_parse_i64(q->args[1], &delta);
        row = row_of(q->args[0], true);
        snprintf(row->value, sizeof row->value, "%lld", (long long)(number + delta));
        row->index = ++last_index;
        resp_put_integer(value, number + delta);
        break;
    case KV_OP_KVSCAN: answer_scan(q, value); break;
    default: reply->err = KV_BAD_ARGUMENT;
    }
    if (row != NULL) {
        reply->version = (struct kv_version){1, row->index};
        reply->expire_ms = row->expire_ms;
    }
    return true;
}

static pid_t node;
static uint16_t port;
static struct kv *kv;
static struct kv_result result;
static char key_path[64];

static void node_run(int out)
{
    struct env_uv *uv;
    struct fake f;
    if (env_uv_create(&uv) != KV_OK) _exit(1);
    fake_start(&f, env_uv_env(uv), 1);
    f.handle = serve;
    if (write(out, &f.addr.port, sizeof f.addr.port) != sizeof f.addr.port) _exit(1);
    env_uv_run(uv);
    _exit(0);
}

static void key_write(const char *text, mode_t mode)
{
    int fd = open(key_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    ck_assert_int_eq(fchmod(fd, mode), 0);
    close(fd);
}

static const char key_text[] = "0101010101010101010101010101010101010101010101010101010101010101\n";

static void setup(void)
{
    int pipes[2];
    char addresses[64], why[KV_TEXT_BYTES];
    (void)signal(SIGPIPE, SIG_IGN);
    unit_temporary(key_path, sizeof key_path, "kv-sync");
    int fd = mkstemp(key_path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    key_write(key_text, 0600);
    ck_assert_int_eq(pipe(pipes), 0);
    node = fork();
    ck_assert_int_ge(node, 0);
    if (node == 0) node_run(pipes[1]);
    ck_assert_int_eq(read(pipes[0], &port, sizeof port), sizeof port);
    close(pipes[0]);
    close(pipes[1]);
    snprintf(addresses, sizeof addresses, "127.0.0.1:%u", (unsigned)port);
    struct kv_options o = {.addresses = addresses, .key_file = key_path, .timeout_ms = 4000};
    ck_assert_msg(kv_open(&o, &kv, why) == KV_OK, "%s", why);
}

static void teardown(void)
{
    kv_close(kv);
    ck_assert_int_eq(kill(node, SIGKILL), 0);
    ck_assert_int_eq(waitpid(node, NULL, 0), node);
    ck_assert_int_eq(unlink(key_path), 0);
}

static void put(const char *key, const char *value)
{
    ck_assert_msg(kv_put(kv, kv_str(key), kv_str(value), NULL, &result) == KV_OK, "%s", result.text);
}

START_TEST(values_come_back)
{
    put("k", "v");
    ck_assert_int_eq(result.applied, KV_APPLIED_YES);
    ck_assert_int_eq(kv_get(kv, kv_str("k"), &result), KV_OK);
    ck_assert(kv_slice_eq(result.value, kv_str("v")));
    ck_assert_uint_eq(result.version.index, 1);
    ck_assert_uint_eq(result.node, 1);
    ck_assert_int_eq(kv_get(kv, kv_str("other"), &result), KV_NOT_FOUND);
    ck_assert_int_eq(kv_del(kv, kv_str("k"), NULL, &result), KV_OK);
    ck_assert_int_eq(result.number, 1);
    ck_assert_int_eq(kv_del(kv, kv_str("k"), NULL, &result), KV_OK);
    ck_assert_int_eq(result.number, 0);
}
END_TEST

START_TEST(deadlines_are_absolute_on_the_wire)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t now_ms = (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
    struct kv_put_options o = {.ttl_ms = 60000};
    ck_assert_int_eq(kv_put(kv, kv_str("k"), kv_str("v"), &o, &result), KV_OK);
    ck_assert_int_eq(kv_get(kv, kv_str("k"), &result), KV_OK);
    ck_assert_uint_ge(result.expire_ms, now_ms + 60000);
    ck_assert_uint_lt(result.expire_ms, now_ms + 70000);
    o.ttl_ms = UINT64_MAX; /* as far as there is */
    ck_assert_int_eq(kv_put(kv, kv_str("k"), kv_str("v"), &o, &result), KV_OK);
    ck_assert_uint_eq(result.expire_ms, INT64_MAX);
}
END_TEST

START_TEST(conditions_hold_or_say_so)
{
    struct kv_put_options absent = {.if_absent = true};
    ck_assert_int_eq(kv_put(kv, kv_str("k"), kv_str("a"), &absent, &result), KV_OK);
    ck_assert_int_eq(kv_put(kv, kv_str("k"), kv_str("b"), &absent, &result), KV_CONDITION);
    ck_assert_int_eq(result.applied, KV_APPLIED_NO);
    ck_assert_int_eq(kv_cas_value(kv, kv_str("k"), kv_str("x"), kv_str("c"), &result), KV_CONDITION);
    ck_assert_int_eq(kv_cas_value(kv, kv_str("k"), kv_str("a"), kv_str("c"), &result), KV_OK);
    struct kv_version seen = result.version;
    ck_assert_int_eq(kv_cas_version(kv, kv_str("k"), seen, kv_str("d"), &result), KV_OK);
    ck_assert_int_eq(kv_cas_version(kv, kv_str("k"), seen, kv_str("e"), &result), KV_CONDITION);
    ck_assert_int_eq(kv_cas_version(kv, kv_str("none"), seen, kv_str("e"), &result), KV_NOT_FOUND);
}
END_TEST

START_TEST(counters_count)
{
    ck_assert_int_eq(kv_incr(kv, kv_str("n"), 5, &result), KV_OK);
    ck_assert_int_eq(kv_incr(kv, kv_str("n"), -7, &result), KV_OK);
    ck_assert_int_eq(result.number, -2);
    put("text", "x");
    ck_assert_int_eq(kv_incr(kv, kv_str("text"), 1, &result), KV_BAD_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(result.text, "not an integer"));
    ck_assert_int_eq(result.applied, KV_APPLIED_NO);
}
END_TEST

/* Scans rows `limit` at a time, each time with a new scan and the cursor of the last. */
static uint32_t scan_in_steps(struct kv_scan_options o, uint32_t limit, char *names, size_t size)
{
    char cursor[2 * KV_KEY_BYTES_MAX + 1] = "";
    uint32_t total = 0;
    names[0] = 0;
    for (int steps = 0; steps < 100; steps++) {
        struct kv_scan *scan;
        struct kv_row row;
        enum kv_err err = KV_OK;
        o.cursor = kv_str(cursor);
        ck_assert_int_eq(kv_scan_open(kv, &o, &scan), KV_OK);
        for (uint32_t i = 0; i < limit && (err = kv_scan_next(scan, &row, &result)) == KV_OK; i++) {
            total++;
            snprintf(names + strlen(names), size - strlen(names), "%.*s ", (int)(row.key.size < 20 ? row.key.size : 20),
                     (const char *)row.key.data);
        }
        ck_assert(err == KV_OK || err == KV_NOT_FOUND);
        snprintf(cursor, sizeof cursor, "%s", kv_scan_cursor(scan));
        kv_scan_close(scan);
        if (cursor[0] == 0) return total;
    }
    ck_abort_msg("the scan does not end");
}

START_TEST(a_scan_gives_each_row_once_however_it_is_cut)
{
    char key[24], first[600], names[600];
    for (int i = 0; i < 25; i++) {
        snprintf(key, sizeof key, "%s:%d", i % 2 == 0 ? "even" : "odd", i);
        put(key, "v");
    }
    ck_assert_uint_eq(scan_in_steps((struct kv_scan_options){0}, 1000, first, sizeof first), 25);
    static const uint32_t cuts[] = {1, 2, 3, 7, 25}, pages[] = {1, 2, 3, 10, 1000};
    for (size_t c = 0; c < 5; c++)
        for (size_t p = 0; p < 5; p++) {
            struct kv_scan_options o = {.page_rows = pages[p]};
            ck_assert_uint_eq(scan_in_steps(o, cuts[c], names, sizeof names), 25);
            ck_assert_str_eq(names, first);
            o.prefix = kv_str("odd:");
            ck_assert_uint_eq(scan_in_steps(o, cuts[c], names, sizeof names), 12);
            ck_assert_ptr_null(strstr(names, "even"));
        }
    struct kv_scan_options o = {.from = kv_str("even:2"), .to = kv_str("odd:13")};
    ck_assert_uint_eq(scan_in_steps(o, 1000, names, sizeof names), 9); /* even:2 20 22 24 4 6 8, odd:1 11 */
}
END_TEST

START_TEST(the_longest_keys_scan_too)
{
    char key[KV_USER_KEY_BYTES_MAX + 1], names[600];
    memset(key, 'k', sizeof key);
    key[KV_USER_KEY_BYTES_MAX] = 0;
    memcpy(key, "{tag}", 5); /* all in one slot, next to each other */
    for (int i = 0; i < 3; i++) {
        key[KV_USER_KEY_BYTES_MAX - 1] = (char)('a' + i);
        put(key, "v");
    }
    key[KV_USER_KEY_BYTES_MAX - 1] = (char)0xFF;
    put(key, "v");
    ck_assert_uint_eq(scan_in_steps((struct kv_scan_options){.page_rows = 10}, 1, names, sizeof names), 4);
    ck_assert_uint_eq(scan_in_steps((struct kv_scan_options){.page_rows = 1}, 1, names, sizeof names), 4);
}
END_TEST

START_TEST(a_bad_cursor_is_refused)
{
    static const char *const bad[] = {"0", "zz", "0000", "0000000100000000000g"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct kv_scan *scan;
        struct kv_scan_options o = {.cursor = kv_str(bad[i])};
        ck_assert_int_eq(kv_scan_open(kv, &o, &scan), KV_MALFORMED);
    }
}
END_TEST

START_TEST(a_stopped_node_is_an_error_inside_the_deadline)
{
    put("k", "v");
    ck_assert_int_eq(kill(node, SIGSTOP), 0);
    kv_set_timeout(kv, 300);
    ck_assert_int_eq(kv_put(kv, kv_str("k"), kv_str("w"), NULL, &result), KV_TIMEOUT);
    ck_assert_int_eq(result.applied, KV_APPLIED_MAYBE);
    ck_assert_int_eq(kill(node, SIGCONT), 0);
    kv_set_timeout(kv, 4000);
    put("k", "x");
}
END_TEST

START_TEST(opening_says_what_is_wrong)
{
    char why[KV_TEXT_BYTES];
    struct kv *other;
    struct kv_options o = {.addresses = "example.org:1", .key_file = key_path};
    ck_assert_int_eq(kv_open(&o, &other, why), KV_BAD_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(why, "example.org:1"));
    o.addresses = "127.0.0.1:1";
    o.key_file = "/nowhere/key";
    ck_assert_int_eq(kv_open(&o, &other, why), KV_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(why, "/nowhere/key"));
    o.key_file = key_path;
    key_write(key_text, 0640);
    ck_assert_int_eq(kv_open(&o, &other, why), KV_DENIED);
    ck_assert_ptr_nonnull(strstr(why, "chmod"));
    key_write("0101", 0600);
    ck_assert_int_eq(kv_open(&o, &other, why), KV_MALFORMED);
    o.cluster_name = "a name of more than sixty-four bytes, which no cluster can have at all";
    ck_assert_int_eq(kv_open(&o, &other, why), KV_BAD_ARGUMENT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kv_sync");
    TCase *t = tcase_create("kv_sync");
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, values_come_back);
    tcase_add_test(t, deadlines_are_absolute_on_the_wire);
    tcase_add_test(t, conditions_hold_or_say_so);
    tcase_add_test(t, counters_count);
    tcase_add_test(t, a_scan_gives_each_row_once_however_it_is_cut);
    tcase_add_test(t, the_longest_keys_scan_too);
    tcase_add_test(t, a_bad_cursor_is_refused);
    tcase_add_test(t, a_stopped_node_is_an_error_inside_the_deadline);
    tcase_add_test(t, opening_says_what_is_wrong);
    suite_add_tcase(suite, t);
    return unit_finish(suite);
}

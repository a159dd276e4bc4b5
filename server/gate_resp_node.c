#include "client/base/key.h"
#include "client/base/text.h"
#include "server/gate_resp.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

/* Commands about the node: CONFIG, INFO, TIME, BGSAVE, WAIT. */

/* Redis settings that tools ask for, with what holds here. They cannot change, but setting
 * one to what it is succeeds, as start scripts do. `value` NULL: limit.value, or what holds on this port. */
static const char cluster_enabled[] = "cluster-enabled";
static const struct {
    const char *name, *value;
} facts[] = {
    {"appendfsync", "always"},
    {"appendonly", "yes"},
    {cluster_enabled, NULL},
    {"databases", "1"},
    {"maxmemory", "0"},
    {"maxmemory-policy", "noeviction"},
    {"proto-max-bulk-len", NULL},
    {"save", ""},
    {"timeout", "0"},
};
enum { FACTS = sizeof facts / sizeof facts[0] };

static void fact_value(struct gate *g, size_t i, char out[256])
{
    if (facts[i].value != NULL)
        snprintf(out, 256, "%s", facts[i].value);
    else if (facts[i].name == cluster_enabled)
        snprintf(out, 256, "%s", resp_conn(g)->is_face ? "yes" : "no");
    else
        snprintf(out, 256, "%u", g->services->value_bytes_max);
}

static bool is_glob(struct kv_slice pattern)
{
    for (size_t i = 0; i < pattern.size; i++)
        if (strchr("*?[", pattern.data[i]) != NULL) return true;
    return false;
}

/* A name that was asked for literally comes back as it was spelled, as in Redis. */
static bool any_matches(const struct kv_slice *patterns, uint32_t n, const char *name,
                        struct kv_slice *shown)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!kv_glob_match(patterns[i], kv_str(name), true)) continue;
        *shown = is_glob(patterns[i]) ? kv_str(name) : patterns[i];
        return true;
    }
    return false;
}

static void config_get_all(struct gate *g, const struct kv_slice *patterns, uint32_t n,
                           struct kv_buf *out)
{
    struct kv_buf pairs;
    kv_buf_init(&pairs, 0);
    size_t count = 0;
    char value[256];
    struct kv_slice shown;
    for (size_t i = 0; i < FACTS; i++) {
        if (!any_matches(patterns, n, facts[i].name, &shown)) continue;
        fact_value(g, i, value);
        resp_put_bulk(&pairs, shown);
        resp_put_bulk(&pairs, kv_str(value));
        count++;
    }
    uint32_t cursor = 0;
    const char *name;
    while (g->services->config_next(g->services->node, &cursor, &name, value)) {
        if (!any_matches(patterns, n, name, &shown)) continue;
        resp_put_bulk(&pairs, shown);
        resp_put_bulk(&pairs, kv_str(value));
        count++;
    }
    resp_put_map(out, count);
    kv_buf_append_slice(out, kv_buf_slice(&pairs));
    out->failed = out->failed || pairs.failed;
    kv_buf_free(&pairs);
}

/* The name as the node spells it, and what it is set to; NULL: nobody knows it. */
static const char *config_find(struct gate *g, struct kv_slice word, bool *is_fact, char value[256])
{
    for (size_t i = 0; i < FACTS; i++) {
        struct kv_slice name = kv_str(facts[i].name);
        if (word.size != name.size || !kv_glob_match(name, word, true)) continue;
        *is_fact = true;
        fact_value(g, i, value);
        return facts[i].name;
    }
    uint32_t cursor = 0;
    const char *name;
    *is_fact = false;
    while (g->services->config_next(g->services->node, &cursor, &name, value))
        if (word.size == strlen(name) && kv_glob_match(kv_str(name), word, true)) return name;
    return NULL;
}

static bool config_set_one(struct gate *g, struct kv_slice word, struct kv_slice wanted,
                           struct kv_buf *out)
{
    char value[256];
    bool is_fact;
    const char *why = "can't set immutable config";
    const char *name = config_find(g, word, &is_fact, value);
    if (name == NULL) {
        char text[129];
        size_t size = word.size < sizeof text - 1 ? word.size : sizeof text - 1;
        for (size_t i = 0; i < size; i++)
            text[i] = isprint(word.data[i]) ? (char)word.data[i] : ' ';
        text[size] = '\0';
        resp_put_error(out, "ERR Unknown option or number of arguments for CONFIG SET - '%s'",
                       text);
        return false;
    }
    if (kv_slice_eq(wanted, kv_str(value))) return true;
    if (!is_fact && g->services->config_set(g->services->node, kv_str(name), wanted, &why) == KV_OK)
        return true;
    resp_put_error(out, "ERR CONFIG SET failed (possibly related to argument '%s') - %s", name,
                   why);
    return false;
}

static const char *const config_help[] = {
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and "
    "their values.",
    "SET <directive> <value>", "    Set the configuration <directive> to <value>.", NULL};

enum resp_ran resp_run_config(struct gate *g, const struct kv_slice *a, uint32_t n,
                              struct kv_buf *out)
{
    if (resp_word(a[0], "GET")) {
        if (n < 2)
            resp_bad_arity(out, "CONFIG", "GET");
        else
            config_get_all(g, a + 1, n - 1, out);
    } else if (resp_word(a[0], "SET")) {
        if (n < 3 || n % 2 == 0) {
            resp_bad_arity(out, "CONFIG", "SET");
            return RESP_RAN;
        }
        for (uint32_t i = 1; i < n; i += 2)
            if (!config_set_one(g, a[i], a[i + 1], out)) return RESP_RAN;
        resp_put_status(out, "OK");
    } else if (resp_word(a[0], "HELP")) {
        if (n != 1)
            resp_bad_arity(out, "CONFIG", "HELP");
        else
            resp_help(out, "CONFIG", config_help);
    } else {
        resp_bad_subcommand(out, "CONFIG", a[0]);
    }
    return RESP_RAN;
}

enum resp_ran resp_run_info(struct gate *g, const struct kv_slice *a, uint32_t n,
                            struct kv_buf *out)
{
    struct kv_buf text;
    bool is_face = resp_conn(g)->is_face;
    kv_buf_init(&text, 0);
    if (n == 0) g->services->info(g->services->node, is_face, "default", &text);
    for (uint32_t i = 0; i < n; i++) {
        char section[32];
        if (a[i].size >= sizeof section) continue; /* no section has such a name */
        for (size_t j = 0; j < a[i].size; j++)
            section[j] = (char)tolower(a[i].data[j]);
        section[a[i].size] = '\0';
        g->services->info(g->services->node, is_face, section, &text);
    }
    kv_buf_printf(out, "=%zu\r\ntxt:", text.size + 4);
    kv_buf_append_slice(out, kv_buf_slice(&text));
    kv_buf_append_text(out, "\r\n");
    out->failed = out->failed || text.failed;
    kv_buf_free(&text);
    return RESP_RAN;
}

enum resp_ran resp_run_time(struct gate *g, const struct kv_slice *a, uint32_t n,
                            struct kv_buf *out)
{
    (void)a, (void)n;
    uint64_t now_us = g->services->env->ops->wall_ns(g->services->env) / 1000;
    char text[21];
    resp_put_array(out, 2);
    resp_put_bulk(out, kv_slice(text, kv_format_i64((int64_t)(now_us / 1000000), text)));
    resp_put_bulk(out, kv_slice(text, kv_format_i64((int64_t)(now_us % 1000000), text)));
    return RESP_RAN;
}

enum resp_ran resp_run_bgsave(struct gate *g, const struct kv_slice *a, uint32_t n, struct kv_buf *out)
{
    if (n > 0 && !resp_word(a[0], "SCHEDULE")) {
        resp_put_error(out, "ERR syntax error");
        return RESP_RAN;
    }
    g->services->checkpoint(g->services->node);
    resp_put_status(out, "Background saving started");
    return RESP_RAN;
}

/* How many followers hold what this connection has written, asked of the partitions' leaders once the
 * connection's own writes are answered. */
enum resp_ran resp_run_wait(struct gate *g, const struct kv_slice *a, uint32_t n,
                            struct kv_buf *out)
{
    (void)n;
    enum { ARGS = 2 + 2 * RESP_MARKS_MAX, DIGITS = 24 };
    struct resp_conn *c = resp_conn(g);
    struct kv_slice args[ARGS];
    char digits[ARGS][DIGITS];
    int64_t replicas, timeout;
    uint64_t id;
    if (!resp_integer(a[0], &replicas, out)) return RESP_RAN;
    if (!kv_parse_i64(a[1], &timeout))
        resp_put_error(out, "ERR timeout is not an integer or out of range");
    else if (timeout < 0)
        resp_put_error(out, "ERR timeout is negative");
    if (out->size > 0) return RESP_RAN;
    if (c->writes.total > 0) return RESP_WAITS;
    if (c->marks.count == 0 && !c->marks.all) {
        resp_put_integer(out, g->services->replicas_connected(g->services->node));
        return RESP_RAN;
    }
    if (timeout == 0 || timeout > RESP_WAIT_MS_MAX) timeout = RESP_WAIT_MS_MAX;
    uint64_t numbers[ARGS] = {replicas > 0 ? (uint64_t)replicas : 0, (uint64_t)timeout};
    uint32_t count = 2;
    for (uint32_t i = 0; i < c->marks.count && !c->marks.all; i++) {
        numbers[count++] = c->marks.partitions[i];
        numbers[count++] = c->marks.indexes[i];
    }
    for (uint32_t i = 0; i < count; i++)
        args[i] = kv_slice(digits[i], (size_t)snprintf(digits[i], DIGITS, "%llu", (unsigned long long)numbers[i]));
    if (resp_slot_open(c, false, &id) != KV_OK) return RESP_WAITS;
    struct kv_request request = {
        .id = id, .op = KV_OP_KVAWAIT, .args = args, .arg_count = count, .keyspace = KV_KEYSPACE_DEFAULT};
    if (g->services->submit(g, &request) == KV_OK) return RESP_LATER;
    resp_slot_cancel(c, id);
    return RESP_WAITS;
}

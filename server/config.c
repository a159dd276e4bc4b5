#include "server/config.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "client/base/text.h"
#include "client/pool.h"
#include "client/wire/join_token.h"
#include "client/wire/message.h"
#include "server/journal.h"
#include "server/passwd.h"

/* The configuration's rows as data (server/config.h is the table), and what each may hold.
 * (1) A field holds only values that its row's bounds and its own rule allow.
 * (2) A refused value changes nothing.
 * The YAML file is read in server/config_file.c. */

enum config_type { TYPE_TEXT,
                   TYPE_NUMBER,
                   TYPE_SIZE,
                   TYPE_DURATION,
                   TYPE_BOOL };
struct config_row {
    const char *key;
    enum config_type type;
    size_t offset; /* of the field in struct config */
    const char *fallback;
    uint64_t min, max; /* of the value; of the length for TEXT */
    const char *help;
};
static const struct config_row rows[] = {
#define X(field, key, type, def, min, max, help) \
    {key, TYPE_##type, offsetof(struct config, field), def, min, max, help},
    CONFIG_KEYS(X)
#undef X
};
enum { ROW_COUNT = sizeof rows / sizeof rows[0] };

static char *text_field(struct config *c, const struct config_row *row)
{
    return (char *)c + row->offset;
}

static const char *text_value(const struct config *c, const struct config_row *row)
{
    return (const char *)c + row->offset;
}

static uint64_t number_value(const struct config *c, const struct config_row *row)
{
    uint64_t value;
    memcpy(&value, (const char *)c + row->offset, sizeof value);
    return value;
}

static bool bool_value(const struct config *c, const struct config_row *row)
{
    bool value;
    memcpy(&value, (const char *)c + row->offset, sizeof value);
    return value;
}

static enum kv_err refuse(char *why, size_t why_size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static enum kv_err refuse(char *why, size_t why_size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, why_size, format, args);
    va_end(args);
    return KV_BAD_ARGUMENT;
}

static const struct config_row *row_find(const char *key)
{
    for (size_t i = 0; i < ROW_COUNT; i++)
        if (strcmp(rows[i].key, key) == 0) return &rows[i];
    return NULL;
}

void config_place(struct config *c, const char *key, int32_t place)
{
    const struct config_row *row = row_find(key);
    size_t index = row != NULL ? (size_t)(row - rows) : CONFIG_ROW_nodes;
    assert(row != NULL || strcmp(key, "cluster.nodes") == 0);
    c->places[index] = place;
}

/* "--raft-lease: " or "KVD_RAFT_LEASE: " for raft.lease. */
static void spell_place(const char *key, bool upper, char *out, size_t size)
{
    size_t used = (size_t)snprintf(out, size, "%s", upper ? "KVD_" : "--");
    for (; *key != '\0' && used + 3 < size; key++, used++) {
        bool blank = *key == '.' || *key == '_';
        out[used] = upper ? (char)toupper((unsigned char)*key) : *key;
        if (blank) out[used] = upper ? '_' : '-';
    }
    (void)snprintf(out + used, size - used, ": ");
}

/* A rule between keys is broken at `key`, or, where that has its default, at `other`. */
static enum kv_err refuse_at(const struct config *c, enum config_row_index key, enum config_row_index other, char *why,
                             size_t why_size, const char *format, ...) __attribute__((format(printf, 6, 7)));
static enum kv_err refuse_at(const struct config *c, enum config_row_index key, enum config_row_index other, char *why,
                             size_t why_size, const char *format, ...)
{
    char place[384] = "", reason[384];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    if (c->places[key] == CONFIG_PLACE_DEFAULT) key = other;
    int32_t at = c->places[key];
    if (at == CONFIG_PLACE_OPTION || at == CONFIG_PLACE_ENVIRONMENT)
        spell_place(rows[key].key, at == CONFIG_PLACE_ENVIRONMENT, place, sizeof place);
    else if (at != CONFIG_PLACE_DEFAULT)
        (void)snprintf(place, sizeof place, "%.300s:%" PRId32 ": ", c->file, at);
    return refuse(why, why_size, "%s%s", place, reason);
}

/* The largest unit that holds the value without rest, as kv_parse_size() reads it. */
static void format_size(uint64_t bytes, char text[CONFIG_TEXT_BYTES])
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < sizeof units / sizeof units[0]) {
        bytes /= 1024;
        unit++;
    }
    (void)snprintf(text, CONFIG_TEXT_BYTES, "%" PRIu64 "%s", bytes, units[unit]);
}

static void format_duration(uint64_t ns, char text[CONFIG_TEXT_BYTES])
{
    static const struct {
        uint64_t ns;
        const char *name;
    } units[] = {{3600000000000, "h"}, {60000000000, "m"}, {1000000000, "s"}, {1000000, "ms"}, {1000, "us"}, {1, "ns"}};
    size_t unit = ns == 0 ? 3 : 0;
    while (ns % units[unit].ns != 0) unit++; /* ends at 1 ns */
    (void)snprintf(text, CONFIG_TEXT_BYTES, "%" PRIu64 "%s", ns / units[unit].ns, units[unit].name);
}

static void format_row(const struct config_row *row, uint64_t value, char text[CONFIG_TEXT_BYTES])
{
    switch (row->type) {
    case TYPE_TEXT:
    case TYPE_NUMBER: (void)snprintf(text, CONFIG_TEXT_BYTES, "%" PRIu64, value); return;
    case TYPE_SIZE: format_size(value, text); return;
    case TYPE_DURATION: format_duration(value, text); return;
    case TYPE_BOOL: (void)snprintf(text, CONFIG_TEXT_BYTES, "%s", value != 0 ? "true" : "false");
    }
}

static bool is_address(const char *host)
{
    unsigned char parsed[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, host, parsed) == 1 || inet_pton(AF_INET6, host, parsed) == 1;
}

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    if (inet_pton(AF_INET, host, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    struct in6_addr v6;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

#define ROLES_FAULT "is not a list, by commas, of the roles storage, coordinator and gateway, each at most once"
/* What a text must be beyond its length; NULL: nothing wrong. */
static const char *text_fault(const char *key, const char *text)
{
    if (strcmp(key, "cluster.id") == 0) {
        uint8_t id[16];
        if (text[0] != '\0' && !kv_hex_decode(kv_str(text), id, sizeof id))
            return "is not 32 hex digits";
    } else if (strcmp(key, "native.host") == 0 || strcmp(key, "resp.host") == 0) {
        if (!is_address(text)) return "is not a literal IPv4 or IPv6 address";
    } else if (strcmp(key, "log.format") == 0) {
        if (strcmp(text, "text") != 0 && strcmp(text, "json") != 0)
            return "is neither text nor json";
    } else if (strcmp(key, "log.level") == 0) {
        struct journal scratch = {0};
        const char *word;
        if (journal_set(&scratch, text, &word) != KV_OK)
            return "is not a level (error, warn, info, debug) or a list of module=level; " JOURNAL_MODULES_TEXT;
    } else if (strcmp(key, "cluster.token") == 0) {
        if (text[0] != '\0' && !join_token_parse(text, &(struct join_token){0})) return "is not a token; make one with `kvctl node token`";
    } else if (strcmp(key, "cluster.join") == 0) {
        if (text[0] != '\0' && !pool_addr_parse(kv_str(text), &(struct env_addr){0})) return "is not HOST:PORT with a literal address";
    } else if (strcmp(key, "node.zone") == 0) {
        if (text[0] != '\0' && !kv_name_is_valid(kv_str(text))) return "is not a letter and then letters, digits, - _ .";
    } else if (strcmp(key, "node.roles") == 0) {
        if (!kv_node_roles_parse(kv_str(text), &(uint32_t){0}, &(struct kv_slice){0})) return ROLES_FAULT;
    } else if (strcmp(key, "resp.password") == 0) {
        if (text[0] != '\0' && !passwd_line_valid(text))
            return "is not an Argon2id line; make one with `kvctl passwd`";
    }
    return NULL;
}

static enum kv_err set_text(struct config *c, const struct config_row *row, const char *text,
                            char *why, size_t why_size)
{
    size_t size = strlen(text);
    if (size < row->min || size > row->max) {
        if (size == 0) return refuse(why, why_size, "%s: is empty", row->key);
        return refuse(why, why_size, "%s: has %zu characters, allowed are %" PRIu64 " to %" PRIu64,
                      row->key, size, row->min, row->max);
    }
    const char *fault = text_fault(row->key, text);
    /* A password line is no secret to its owner, yet has no business in logs. */
    bool hide = strcmp(row->key, "resp.password") == 0 || strcmp(row->key, "cluster.token") == 0;
    if (fault != NULL && hide) return refuse(why, why_size, "%s: %s", row->key, fault);
    if (fault != NULL) return refuse(why, why_size, "%s: \"%s\" %s", row->key, text, fault);
    memmove(text_field(c, row), text, size + 1);
    return KV_OK;
}

static enum kv_err set_number(struct config *c, const struct config_row *row, const char *text,
                              char *why, size_t why_size)
{
    uint64_t value = 0;
    bool parsed = false;
    const char *kind = "a number";
    switch (row->type) {
    case TYPE_TEXT: break;
    case TYPE_NUMBER: parsed = kv_parse_u64(kv_str(text), &value); break;
    case TYPE_SIZE:
        kind = "a size such as 512, 64KiB, 4MiB or 1GiB";
        parsed = kv_parse_size(text, &value);
        break;
    case TYPE_DURATION:
        kind = "a duration such as 250ms, 2s, 5m or 1h";
        parsed = kv_parse_duration(text, &value);
        break;
    case TYPE_BOOL:
        kind = "true or false";
        value = strcmp(text, "true") == 0;
        parsed = value == 1 || strcmp(text, "false") == 0;
        break;
    }
    if (!parsed) return refuse(why, why_size, "%s: \"%.64s\" is not %s", row->key, text, kind);
    if (value < row->min || value > row->max) {
        char low[CONFIG_TEXT_BYTES], high[CONFIG_TEXT_BYTES];
        format_row(row, row->min, low);
        format_row(row, row->max, high);
        return refuse(why, why_size, "%s: %.64s is out of range, allowed is %s to %s", row->key,
                      text, low, high);
    }
    if (row->type == TYPE_BOOL) {
        bool truth = value != 0;
        memcpy((char *)c + row->offset, &truth, sizeof truth);
    } else {
        memcpy((char *)c + row->offset, &value, sizeof value);
    }
    return KV_OK;
}

uint16_t config_cluster_port(uint64_t resp)
{
    return resp == 0 || resp + 2 > UINT16_MAX ? 0 : (uint16_t)(resp + 2);
}

enum kv_err config_set(struct config *c, const char *key, const char *text, char *why,
                       size_t why_size)
{
    const struct config_row *row = row_find(key);
    if (row == NULL && strcmp(key, "cluster.nodes") == 0)
        return refuse(why, why_size, "%s: a list, possible in the configuration file only", key);
    if (row == NULL)
        return refuse(why, why_size, "%.64s: unknown key, see kvd --help-config", key);
    if (row->type == TYPE_TEXT) return set_text(c, row, text, why, why_size);
    enum kv_err err = set_number(c, row, text, why, why_size);
    if (err == KV_OK && row == &rows[CONFIG_ROW_resp_port] &&
        c->places[CONFIG_ROW_resp_cluster_port] == CONFIG_PLACE_DEFAULT)
        c->resp_cluster_port = config_cluster_port(c->resp_port);
    return err;
}

void config_defaults(struct config *c)
{
    memset(c, 0, sizeof *c);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        char why[256];
        enum kv_err err = config_set(c, rows[i].key, rows[i].fallback, why, sizeof why);
        assert(err == KV_OK); /* a default outside its own bounds */
        (void)err;
    }
}

/* "log.level" as option (upper = false: "log-level") or variable ("LOG_LEVEL"). */
static bool spelled(const char *key, const char *name, size_t size, bool upper)
{
    if (strlen(key) != size) return false;
    for (size_t i = 0; i < size; i++) {
        char want = key[i];
        if (want == '.' || want == '_') want = upper ? '_' : '-';
        if (upper) want = (char)toupper((unsigned char)want);
        if (name[i] != want) return false;
    }
    return true;
}

const char *config_option(const char *option)
{
    for (size_t i = 0; i < ROW_COUNT; i++)
        if (spelled(rows[i].key, option, strlen(option), false)) return rows[i].key;
    return NULL;
}

/* Whether a variable's name starts as the keys of a section do: KVD_RAFT_.. must be a key,
 * KVD_CLUSTER (of kvctl) and KVD_SERVICE_HOST (set by container platforms) need not. */
static bool in_section(const char *name, size_t size)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        size_t section = strcspn(rows[i].key, ".");
        bool same = size > section && name[section] == '_';
        for (size_t k = 0; k < section && same; k++)
            same = name[k] == (char)toupper((unsigned char)rows[i].key[k]);
        if (same) return true;
    }
    return false;
}

enum kv_err config_environment(struct config *c, char *const *variables, char *why, size_t why_size)
{
    for (; *variables != NULL; variables++) {
        const char *name = *variables;
        if (strncmp(name, "KVD_", 4) != 0) continue;
        name += 4;
        size_t size = strcspn(name, "=");
        if (name[size] == '\0') continue;
        const char *key = NULL;
        for (size_t i = 0; i < ROW_COUNT && key == NULL; i++)
            if (spelled(rows[i].key, name, size, true)) key = rows[i].key;
        if (key == NULL && in_section(name, size))
            return refuse(why, why_size, "KVD_%.*s: unknown key, see kvd --help-config", (int)size,
                          name);
        if (key == NULL) continue;
        char reason[512];
        enum kv_err err = config_set(c, key, name + size + 1, reason, sizeof reason);
        if (err != KV_OK) {
            (void)snprintf(why, why_size, "KVD_%.*s: %s", (int)size, name, reason);
            return err;
        }
        config_place(c, key, CONFIG_PLACE_ENVIRONMENT);
    }
    return KV_OK;
}

static void row_text(const struct config *c, const struct config_row *row,
                     char text[CONFIG_TEXT_BYTES])
{
    switch (row->type) {
    case TYPE_TEXT: (void)snprintf(text, CONFIG_TEXT_BYTES, "%s", text_value(c, row)); return;
    case TYPE_NUMBER:
    case TYPE_SIZE:
    case TYPE_DURATION: format_row(row, number_value(c, row), text); return;
    case TYPE_BOOL: format_row(row, bool_value(c, row), text);
    }
}

enum kv_err config_get(const struct config *c, const char *key, char text[CONFIG_TEXT_BYTES])
{
    const struct config_row *row = row_find(key);
    if (row == NULL) return KV_NOT_FOUND;
    row_text(c, row, text);
    return KV_OK;
}

bool config_next(const struct config *c, uint32_t *cursor, const char **key,
                 char text[CONFIG_TEXT_BYTES])
{
    if (*cursor >= ROW_COUNT) return false;
    *key = rows[*cursor].key;
    row_text(c, &rows[*cursor], text);
    ++*cursor;
    return true;
}

const struct config_node *config_node(const struct config *c, uint32_t id)
{
    for (uint32_t i = 0; i < c->node_count; i++)
        if (c->nodes[i].id == id) return &c->nodes[i];
    return NULL;
}

uint32_t config_roles(const struct config *c)
{
    uint32_t roles = 0;
    struct kv_slice bad;
    if (c->places[CONFIG_ROW_node_roles] != CONFIG_PLACE_DEFAULT) (void)kv_node_roles_parse(kv_str(c->node_roles), &roles, &bad);
    return roles;
}

static enum kv_err check_join(const struct config *c, char *why, size_t why_size)
{
    if (c->cluster_join[0] == '\0' && c->cluster_token[0] == '\0') return KV_OK;
    if (c->cluster_join[0] == '\0')
        return refuse_at(c, CONFIG_ROW_cluster_token, CONFIG_ROW_cluster_token, why, why_size, "cluster.token: cluster.join is missing, whom to ask");
    if (c->cluster_token[0] == '\0')
        return refuse_at(c, CONFIG_ROW_cluster_join, CONFIG_ROW_cluster_join, why, why_size,
                         "cluster.join: cluster.token is missing; make one with `kvctl node token`");
    if (c->node_count > 0 || c->bootstrap)
        return refuse_at(c, CONFIG_ROW_cluster_join, CONFIG_ROW_nodes, why, why_size,
                         "cluster.join: a node either joins or is one of those that the cluster begins with (cluster.nodes, --bootstrap)");
    if (c->native_port == 0)
        return refuse_at(c, CONFIG_ROW_native_port, CONFIG_ROW_cluster_join, why, why_size,
                         "native.port: may not be 0 in a cluster, peers dial it");
    return KV_OK;
}

/* Who is to hold what a cluster begins with. */
static enum kv_err check_roles(const struct config *c, char *why, size_t why_size)
{
    static const struct {
        enum kv_node_role role;
        const char *name, *what;
    } needed[] = {{KV_NODE_COORDINATOR, "coordinator", "partition 0"}, {KV_NODE_STORAGE, "storage", "data"}};
    const enum config_row_index nodes = CONFIG_ROW_nodes;
    for (size_t k = 0; k < sizeof needed / sizeof needed[0]; k++) {
        uint32_t i = 0;
        while (i < c->node_count && !kv_node_has(c->nodes[i].roles, needed[k].role)) i++;
        if (i == c->node_count)
            return refuse_at(c, nodes, nodes, why, why_size,
                             "cluster.nodes: no node has the role %s, so none could hold %s; next: give it to one, better to three",
                             needed[k].name, needed[k].what);
    }
    const struct config_node *self = config_node(c, (uint32_t)c->node_id);
    uint32_t roles = config_roles(c);
    if (!c->bootstrap || self == NULL || roles == 0 || roles == (self->roles == 0 ? KV_NODE_ROLES_ALL : self->roles)) return KV_OK;
    return refuse_at(c, CONFIG_ROW_node_roles, nodes, why, why_size,
                     "node.roles: %s, but cluster.nodes gives node %" PRIu32 " others; all nodes begin with the same list", c->node_roles, self->id);
}

static enum kv_err check_nodes(const struct config *c, char *why, size_t why_size)
{
    const enum config_row_index nodes = CONFIG_ROW_nodes;
    for (uint32_t i = 0; i < c->node_count; i++) {
        const struct config_node *a = &c->nodes[i];
        for (uint32_t k = 0; k < i; k++) {
            const struct config_node *b = &c->nodes[k];
            if (a->id == b->id)
                return refuse_at(c, nodes, nodes, why, why_size, "cluster.nodes: two nodes have id %" PRIu32, a->id);
            if (strcmp(a->host, b->host) == 0 && a->native == b->native)
                return refuse_at(c, nodes, nodes, why, why_size,
                                 "cluster.nodes: nodes %" PRIu32 " and %" PRIu32 " have the same address %s:%u",
                                 b->id, a->id, a->host, a->native);
            if (memcmp(a->key, b->key, sizeof a->key) == 0)
                return refuse_at(c, nodes, nodes, why, why_size,
                                 "cluster.nodes: nodes %" PRIu32 " and %" PRIu32 " have the same key", b->id, a->id);
        }
    }
    if (c->node_count == 0) return KV_OK;
    enum kv_err err = check_roles(c, why, why_size);
    if (err != KV_OK) return err;
    if (config_node(c, (uint32_t)c->node_id) == NULL)
        return refuse_at(c, CONFIG_ROW_node_id, nodes, why, why_size,
                         "node.id: node %" PRIu64 " is not in cluster.nodes", c->node_id);
    if (c->cluster_id[0] == '\0')
        return refuse_at(c, CONFIG_ROW_cluster_id, nodes, why, why_size,
                         "cluster.id: needed as soon as there are cluster.nodes, the same on each");
    if (c->native_port == 0)
        return refuse_at(c, CONFIG_ROW_native_port, nodes, why, why_size,
                         "native.port: may not be 0 in a cluster, peers dial it");
    return KV_OK;
}

enum kv_err config_check(const struct config *c, char *why, size_t why_size)
{
    /* A lease must outlive some heartbeats, and no one may stand for election before the
     * promise to the old leader has run out (R2, R13). */
    if (c->raft_lease < 2 * c->raft_heartbeat)
        return refuse_at(c, CONFIG_ROW_raft_lease, CONFIG_ROW_raft_heartbeat, why, why_size,
                         "raft.lease: at least twice raft.heartbeat, or every lost message costs it");
    if (c->raft_election < c->raft_lease)
        return refuse_at(c, CONFIG_ROW_raft_election, CONFIG_ROW_raft_lease, why, why_size,
                         "raft.election: at least raft.lease");
    if (c->storage_segment_max < c->storage_segment)
        return refuse_at(c, CONFIG_ROW_storage_segment_max, CONFIG_ROW_storage_segment, why, why_size,
                         "storage.segment_max: at least storage.segment");
    if (c->storage_segment < 2 * c->value_max)
        return refuse_at(c, CONFIG_ROW_storage_segment, CONFIG_ROW_value_max, why, why_size,
                         "storage.segment: at least twice limit.value");
    if (c->output_max < 2 * c->value_max)
        return refuse_at(c, CONFIG_ROW_output_max, CONFIG_ROW_value_max, why, why_size,
                         "limit.output: at least twice limit.value");
    if (c->queue_max < c->requests_max)
        return refuse_at(c, CONFIG_ROW_queue_max, CONFIG_ROW_requests_max, why, why_size,
                         "limit.queue: at least limit.requests");
    if (c->resp_port != 0 && c->resp_port == c->native_port && strcmp(c->resp_host, c->native_host) == 0)
        return refuse_at(c, CONFIG_ROW_resp_port, CONFIG_ROW_native_port, why, why_size,
                         "resp.port: the same as native.port");
    if (c->resp_cluster_port != 0 && c->resp_cluster_port == c->resp_port)
        return refuse_at(c, CONFIG_ROW_resp_cluster_port, CONFIG_ROW_resp_port, why, why_size,
                         "resp.cluster_port: the same as resp.port");
    if (c->resp_cluster_port != 0 && c->resp_cluster_port == c->native_port && strcmp(c->resp_host, c->native_host) == 0)
        return refuse_at(c, CONFIG_ROW_resp_cluster_port, CONFIG_ROW_native_port, why, why_size,
                         "resp.cluster_port: the same as native.port; unless given it is resp.port + 2, 0 turns it off");
    if ((c->resp_port != 0 || c->resp_cluster_port != 0) && c->resp_password[0] == '\0' && c->resp_users[0] == '\0' &&
        !is_loopback(c->resp_host))
        return refuse_at(c, CONFIG_ROW_resp_host, CONFIG_ROW_resp_host, why, why_size,
                         "resp.host: %s is beyond loopback and neither resp.password nor resp.users is set; make a line of either with `kvctl passwd`",
                         c->resp_host);
    enum kv_err err = check_join(c, why, why_size);
    return err == KV_OK ? check_nodes(c, why, why_size) : err;
}

void config_help(struct kv_buf *out)
{
    kv_buf_append_text(
        out,
        "Keys of the configuration. `log.level` may stand in the YAML file as `log.level: debug`\n"
        "or `log: {level: debug}`, in the environment as KVD_LOG_LEVEL, on the command line as\n"
        "--log-level. The command line wins over the environment, that over the file.\n\n");
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const struct config_row *row = &rows[i];
        char low[CONFIG_TEXT_BYTES], high[CONFIG_TEXT_BYTES];
        format_row(row, row->min, low);
        format_row(row, row->max, high);
        const char *type = "";
        switch (row->type) {
        case TYPE_TEXT: type = "text"; break;
        case TYPE_NUMBER: type = "number"; break;
        case TYPE_SIZE: type = "size"; break;
        case TYPE_DURATION: type = "duration"; break;
        case TYPE_BOOL: type = "true or false"; break;
        }
        kv_buf_printf(out, "%s\n    %s, ", row->key, type);
        if (row->type == TYPE_TEXT && strcmp(low, high) == 0)
            kv_buf_printf(out, "%s characters", low);
        else if (row->type == TYPE_TEXT)
            kv_buf_printf(out, "%s to %s characters", low, high);
        else if (row->type != TYPE_BOOL)
            kv_buf_printf(out, "%s to %s", low, high);
        kv_buf_printf(out, "; default %s\n    %s\n",
                      row->fallback[0] == '\0' ? "empty" : row->fallback, row->help);
    }
    kv_buf_append_text(
        out, "cluster.nodes\n"
             "    list, in the file only; default empty: a single node\n"
             "    every node of the cluster, the same list on each, for example\n"
             "    - {id: 1, host: 10.0.0.1, native: 7401, resp: 7400, key: 64 hex digits}\n"
             "    where a node has not all roles, its own: roles: [storage, gateway]\n"
             "    where the Redis ports say otherwise than resp + 2, resp_cluster too\n");
}

#include "client/base/key.h"
#include "client/base/text.h"
#include "server/gate_resp.h"
#include <assert.h>
#include <ctype.h>
#include <stdio.h>

/* Commands about the connection itself. */

const struct resp_command resp_commands[] = {
#define X(name, function, amin, amax, flags, group, since, summary) \
    {name, resp_run_##function, amin, amax, flags, group, since, summary},
    RESP_LOCAL_COMMANDS(X)
#undef X
};
const uint32_t resp_command_count = sizeof resp_commands / sizeof resp_commands[0];

const struct resp_command *resp_command_find(struct kv_slice name)
{
    for (uint32_t i = 0; i < resp_command_count; i++)
        if (resp_word(name, resp_commands[i].name)) return &resp_commands[i];
    return NULL;
}

bool resp_word(struct kv_slice text, const char *upper)
{
    size_t i = 0;
    for (; i < text.size && upper[i] != '\0'; i++)
        if (toupper(text.data[i]) != upper[i]) return false;
    return i == text.size && upper[i] == '\0';
}

bool resp_integer(struct kv_slice text, int64_t *out, struct kv_buf *out_error)
{
    if (kv_parse_i64(text, out)) return true;
    resp_put_error(out_error, "ERR value is not an integer or out of range");
    return false;
}

static void lower(const char *text, char out[32])
{
    size_t i = 0;
    for (; text[i] != '\0' && i < 31; i++)
        out[i] = (char)tolower((unsigned char)text[i]);
    out[i] = '\0';
}

void resp_bad_arity(struct kv_buf *out, const char *command, const char *subcommand)
{
    char name[32], sub[32] = "";
    lower(command, name);
    if (subcommand != NULL) lower(subcommand, sub);
    resp_put_error(out, "ERR wrong number of arguments for '%s%s%s' command", name,
                   subcommand != NULL ? "|" : "", sub);
}

void resp_bad_subcommand(struct kv_buf *out, const char *command, struct kv_slice word)
{
    char text[129];
    size_t size = word.size < sizeof text - 1 ? word.size : sizeof text - 1;
    for (size_t i = 0; i < size; i++)
        text[i] = word.data[i] == '\r' || word.data[i] == '\n' ? ' ' : (char)word.data[i];
    text[size] = '\0';
    resp_put_error(out, "ERR unknown subcommand '%s'. Try %s HELP.", text, command);
}

void resp_help(struct kv_buf *out, const char *command, const char *const *lines)
{
    size_t count = 0;
    while (lines[count] != NULL)
        count++;
    resp_put_array(out, count + 3);
    kv_buf_printf(out, "+%s <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n", command);
    for (size_t i = 0; i < count; i++)
        resp_put_status(out, lines[i]);
    resp_put_status(out, "HELP");
    resp_put_status(out, "    Print this help.");
}

enum resp_ran resp_run_ping(struct gate *g, const struct kv_slice *a, uint32_t n,
                            struct kv_buf *out)
{
    (void)g;
    if (n == 1)
        resp_put_bulk(out, a[0]);
    else
        kv_buf_append(out, "+PONG\r\n", 7);
    return RESP_RAN;
}

enum resp_ran resp_run_echo(struct gate *g, const struct kv_slice *a, uint32_t n,
                            struct kv_buf *out)
{
    (void)g, (void)n;
    resp_put_bulk(out, a[0]);
    return RESP_RAN;
}

/* 0 is `default`, whose own id a client of Redis would take for another database. Else a keyspace's id or name. */
enum resp_ran resp_run_select(struct gate *g, const struct kv_slice *a, uint32_t n,
                              struct kv_buf *out)
{
    (void)n;
    struct resp_conn *c = resp_conn(g);
    int64_t index = -1;
    uint32_t id = 0;
    bool is_name = kv_name_is_valid(a[0]);
    if (!is_name && !resp_integer(a[0], &index, out)) return RESP_RAN;
    if (!is_name && (index < INT32_MIN || index > INT32_MAX)) {
        resp_put_error(out, "ERR value is out of range, value must between %d and %d", INT32_MIN,
                       INT32_MAX);
        return RESP_RAN;
    }
    if (is_name) id = g->services->keyspace(g->services->node, a[0]);
    else if (index == 0) id = KV_KEYSPACE_DEFAULT;
    else if (index > KV_KEYSPACE_DEFAULT && g->services->has_keyspace(g->services->node, (uint32_t)index)) id = (uint32_t)index;
    if (c->is_face && id != KV_KEYSPACE_DEFAULT) { /* that face is of `default` alone: its slots are what clients know */
        resp_put_error(out, "ERR SELECT is not allowed in cluster mode");
        return RESP_RAN;
    }
    /* Its own by name: it may have been dropped and made again since. */
    if (is_name && id != 0 && c->bound != 0 && kv_slice_eq(a[0], kv_str(c->bound_name))) c->bound = id;
    if (!resp_user_may_select(c, id, out)) return RESP_RAN;
    if (id == 0 && is_name) {
        resp_put_error(out, "ERR no such keyspace: '%.*s' is not known to this node; next: kvctl keyspace list",
                       (int)a[0].size, (const char *)a[0].data);
    } else if (id == 0) {
        resp_put_error(out, "ERR DB index is out of range");
    } else {
        c->keyspace = id;
        resp_put_status(out, "OK");
    }
    return RESP_RAN;
}

enum resp_ran resp_run_quit(struct gate *g, const struct kv_slice *a, uint32_t n,
                            struct kv_buf *out)
{
    (void)a, (void)n;
    resp_put_status(out, "OK");
    g->closing = true;
    return RESP_RAN;
}

enum resp_ran resp_run_reset(struct gate *g, const struct kv_slice *a, uint32_t n,
                             struct kv_buf *out)
{
    (void)a, (void)n;
    struct resp_conn *c = resp_conn(g);
    c->protocol = 2;
    resp_user_leave(g);
    c->mode = RESP_REPLY_ON;
    c->is_readonly = false;
    c->name[0] = '\0';
    resp_put_status(out, "RESET");
    return RESP_RAN;
}

/* ---- AUTH and HELLO ---- */

static void auth_error(enum kv_err err, struct kv_buf *out)
{
    if (err == KV_THROTTLED || err == KV_BUSY)
        resp_put_error(out, "BUSY too many attempts to authenticate, wait before the next");
    else
        resp_put_error(out, "WRONGPASS invalid username-password pair or user is disabled.");
}

static void hello_answer(struct gate *g, struct kv_buf *out)
{
    struct resp_conn *c = resp_conn(g);
    c->protocol = c->hello_protocol;
    if (c->hello_names) memcpy(c->name, c->hello_name, sizeof c->name);
    resp_put_map(out, 7);
    /* The interface spoken here, which is what clients choose their commands by. */
    resp_put_bulk(out, kv_str("server"));
    resp_put_bulk(out, kv_str("redis"));
    resp_put_bulk(out, kv_str("version"));
    resp_put_bulk(out, kv_str("7.0.15"));
    resp_put_bulk(out, kv_str("proto"));
    resp_put_integer(out, c->protocol);
    resp_put_bulk(out, kv_str("id"));
    resp_put_integer(out, (int64_t)g->id);
    resp_put_bulk(out, kv_str("mode"));
    resp_put_bulk(out, kv_str(c->is_face ? "cluster" : "standalone"));
    resp_put_bulk(out, kv_str("role"));
    resp_put_bulk(out, kv_str("master"));
    resp_put_bulk(out, kv_str("modules"));
    resp_put_array(out, 0);
}

static void auth_done(struct gate *g, enum kv_err err, const struct gate_user *who)
{
    struct resp_conn *c = resp_conn(g);
    assert(c->auth_pending);
    c->auth_pending = false;
    kv_buf_clear(&c->scratch);
    if (err != KV_OK) {
        auth_error(err, &c->scratch);
    } else if (resp_user_enter(g, who, &c->scratch)) {
        if (c->auth_is_hello) {
            hello_answer(g, &c->scratch);
            resp_slot(c, c->auth_id)->protocol = c->protocol;
        } else {
            resp_put_status(&c->scratch, "OK");
        }
    }
    resp_slot_answer(g, c->auth_id, kv_buf_slice(&c->scratch));
}

static enum resp_ran auth_begin(struct gate *g, struct kv_slice user, struct kv_slice password,
                                bool is_hello)
{
    struct resp_conn *c = resp_conn(g);
    if (resp_slot_open(c, false, &c->auth_id) != KV_OK) return RESP_WAITS;
    c->auth_pending = true;
    c->auth_is_hello = is_hello;
    g->services->auth(g, user, password, auth_done);
    return RESP_LATER;
}

/* Without a password set, the user `default` is let in with any, as in Redis. */
static enum kv_err auth_open_door(struct kv_slice user)
{
    return kv_slice_eq(user, kv_str("default")) ? KV_OK : KV_AUTH;
}

enum resp_ran resp_run_auth(struct gate *g, const struct kv_slice *a, uint32_t n,
                            struct kv_buf *out)
{
    bool is_required = g->services->auth_required(g->services->node);
    struct kv_slice user = n == 2 ? a[0] : kv_str("default");
    if (n > 2) {
        resp_put_error(out, "ERR syntax error");
    } else if (is_required) {
        return auth_begin(g, user, a[n - 1], false);
    } else if (n == 1) {
        resp_put_error(out,
                       "ERR AUTH <password> called without any password configured for the default "
                       "user. Are you sure your configuration is correct?");
    } else if (auth_open_door(user) == KV_OK) {
        resp_put_status(out, "OK");
    } else {
        auth_error(KV_AUTH, out);
    }
    return RESP_RAN;
}

static bool hello_options(struct resp_conn *c, const struct kv_slice *a, uint32_t n,
                          struct kv_slice *user, struct kv_slice *password, struct kv_buf *out)
{
    for (uint32_t i = 1; i < n; i++) {
        if (resp_word(a[i], "AUTH") && n - i > 2) {
            *user = a[i + 1];
            *password = a[i + 2];
            i += 2;
        } else if (resp_word(a[i], "SETNAME") && n - i > 1) {
            if (!resp_name_set(c->hello_name, a[++i])) {
                resp_put_error(
                    out, "ERR Client names cannot contain spaces, newlines or special characters.");
                return false;
            }
            c->hello_names = true;
        } else {
            int shown = (int)(a[i].size < 128 ? a[i].size : 128);
            char text[129];
            snprintf(text, sizeof text, "%.*s", shown, shown == 0 ? "" : (const char *)a[i].data);
            for (char *t = text; *t != '\0'; t++)
                if (*t == '\r' || *t == '\n') *t = ' ';
            resp_put_error(out, "ERR Syntax error in HELLO option '%s'", text);
            return false;
        }
    }
    return true;
}

enum resp_ran resp_run_hello(struct gate *g, const struct kv_slice *a, uint32_t n,
                             struct kv_buf *out)
{
    struct resp_conn *c = resp_conn(g);
    struct kv_slice user = {NULL, 0}, password = {NULL, 0};
    int64_t protocol = c->protocol;
    c->hello_names = false;
    if (n > 0 && !kv_parse_i64(a[0], &protocol)) {
        resp_put_error(out, "ERR Protocol version is not an integer or out of range");
        return RESP_RAN;
    }
    if (protocol < 2 || protocol > 3) {
        resp_put_error(out, "NOPROTO unsupported protocol version");
        return RESP_RAN;
    }
    if (!hello_options(c, a, n, &user, &password, out)) return RESP_RAN;
    c->hello_protocol = (uint8_t)protocol;
    if (user.data != NULL) {
        if (g->services->auth_required(g->services->node))
            return auth_begin(g, user, password, true);
        if (auth_open_door(user) != KV_OK) {
            auth_error(KV_AUTH, out);
            return RESP_RAN;
        }
    }
    if (!c->is_authenticated)
        resp_put_error(
            out, "NOAUTH HELLO must be called with the client already authenticated, otherwise the "
                 "HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client "
                 "and select the RESP protocol version at the same time");
    else
        hello_answer(g, out);
    return RESP_RAN;
}

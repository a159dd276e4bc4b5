#include "client/base/text.h"
#include "server/gate_resp.h"
#include <stdio.h>
#include <stdlib.h>

/* CLIENT: names, lists, kills. */

/* Printable and without spaces, so that CLIENT LIST stays one line of words; too long counts
 * as not allowed. */
bool resp_name_set(char name[RESP_NAME_BYTES], struct kv_slice text)
{
    if (text.size >= RESP_NAME_BYTES) return false;
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] < '!' || text.data[i] > '~') return false;
    if (text.size > 0) memcpy(name, text.data, text.size);
    name[text.size] = '\0';
    return true;
}

static void address(const struct env_addr *a, char out[80])
{
    bool is_v6 = strchr(a->host, ':') != NULL;
    snprintf(out, 80, is_v6 ? "[%s]:%u" : "%s:%u", a->host, a->port);
}

static void describe(struct gate *self, struct gate *g, struct kv_buf *out)
{
    const struct resp_conn *c = resp_conn(g);
    uint64_t now = env_now_ns(self->services->env);
    char peer[80], local[80], command[32] = "NULL";
    address(&g->peer, peer);
    address(&g->local, local);
    for (size_t i = 0; c->command != NULL && i < sizeof command - 1; i++) {
        char letter = c->command[i];
        command[i] = letter >= 'A' && letter <= 'Z' ? (char)(letter + ('a' - 'A')) : letter;
        if (letter == '\0') break;
    }
    kv_buf_printf(
        out,
        "id=%llu addr=%s laddr=%s name=%s age=%llu idle=%llu flags=%s db=%u sub=0 psub=0 ssub=0 "
        "multi=-1 omem=%zu pending=%u cmd=%s user=%s redir=-1 resp=%u lib-name=%s "
        "lib-ver=%s\n",
        (unsigned long long)g->id, peer, local, c->name,
        (unsigned long long)((now - g->opened_ns) / KV_SECONDS(1)),
        (unsigned long long)((now > c->active_ns ? now - c->active_ns : 0) / KV_SECONDS(1)),
        g->closing ? "c" : c->is_readonly ? "r"
                                          : "N",
        c->keyspace == KV_KEYSPACE_DEFAULT ? 0 : c->keyspace, g->out->size + c->held_bytes, g->pending, command, c->user, c->protocol,
        c->lib_name, c->lib_version);
}

/* ---- filters of LIST and KILL ---- */

struct filter {
    struct gate *self;
    bool has_id, skips_self, none; /* none: a filter nothing can match */
    const struct kv_slice *ids;    /* LIST: several */
    uint32_t id_count;
    int64_t id;
    struct kv_slice addr, laddr, user; /* size 0: any */
    struct kv_buf *out;
    int64_t matched;
    bool kills, found_self;
};

static bool filter_matches(const struct filter *f, struct gate *g)
{
    char text[80];
    bool is_listed = f->id_count == 0;
    for (uint32_t i = 0; i < f->id_count && !is_listed; i++) {
        int64_t id;
        is_listed = kv_parse_i64(f->ids[i], &id) && (uint64_t)id == g->id;
    }
    if (!is_listed || f->none || (f->has_id && (uint64_t)f->id != g->id)) return false;
    if (f->skips_self && g == f->self) return false;
    address(&g->peer, text);
    if (f->addr.size > 0 && !kv_slice_eq(f->addr, kv_str(text))) return false;
    address(&g->local, text);
    if (f->laddr.size > 0 && !kv_slice_eq(f->laddr, kv_str(text))) return false;
    return f->user.size == 0 || kv_slice_eq(f->user, kv_str(resp_conn(g)->user));
}

static bool filter_visit(void *context, struct gate *g)
{
    struct filter *f = context;
    if (g->closing || !filter_matches(f, g)) return true;
    f->matched++;
    if (!f->kills)
        describe(f->self, g, f->out);
    else if (g == f->self)
        f->found_self = true; /* after its reply */
    else
        f->self->services->kill(f->self->services->node, g);
    return true;
}

static void filter_run(struct filter *f)
{
    struct gate *g = f->self;
    g->services->connections(g->services->node, "resp", filter_visit, f);
    if (f->found_self) g->closing = true;
}

/* Normal is the only type there is here; the others are known and match nobody. */
static bool filter_type(struct filter *f, struct kv_slice word, struct kv_buf *out)
{
    if (resp_word(word, "NORMAL")) return true;
    f->none = true;
    if (resp_word(word, "MASTER") || resp_word(word, "REPLICA") || resp_word(word, "SLAVE") ||
        resp_word(word, "PUBSUB"))
        return true;
    int shown = (int)(word.size < 128 ? word.size : 128);
    char text[129];
    snprintf(text, sizeof text, "%.*s", shown, shown == 0 ? "" : (const char *)word.data);
    for (char *c = text; *c != '\0'; c++)
        if (*c == '\r' || *c == '\n') *c = ' ';
    resp_put_error(out, "ERR Unknown client type '%s'", text);
    return false;
}

static void client_list(struct gate *g, const struct kv_slice *a, uint32_t n, struct kv_buf *out)
{
    struct kv_buf text;
    kv_buf_init(&text, 0);
    struct filter f = {.self = g, .out = &text};
    int64_t id;
    bool is_ok = n == 0;
    if (n == 2 && resp_word(a[0], "TYPE")) {
        if (!filter_type(&f, a[1], out)) return;
        is_ok = true;
    } else if (n >= 2 && resp_word(a[0], "ID")) {
        for (uint32_t i = 1; i < n; i++)
            if (!kv_parse_i64(a[i], &id)) {
                resp_put_error(out, "ERR Invalid client ID");
                return;
            }
        f.ids = a + 1;
        f.id_count = n - 1;
        is_ok = true;
    }
    if (!is_ok) {
        resp_put_error(out, "ERR syntax error");
        return;
    }
    filter_run(&f);
    kv_buf_printf(out, "=%zu\r\ntxt:", text.size + 4);
    kv_buf_append_slice(out, kv_buf_slice(&text));
    kv_buf_append_text(out, "\r\n");
    out->failed = out->failed || text.failed;
    kv_buf_free(&text);
}

static bool kill_filters(struct filter *f, const struct kv_slice *a, uint32_t n, struct kv_buf *out)
{
    f->skips_self = true;
    for (uint32_t i = 0; i < n; i += 2) {
        if (i + 1 == n) {
            resp_put_error(out, "ERR syntax error");
            return false;
        }
        struct kv_slice value = a[i + 1];
        if (resp_word(a[i], "ID")) {
            if (!kv_parse_i64(value, &f->id) || f->id < 1) {
                resp_put_error(out, "ERR client-id should be greater than 0");
                return false;
            }
            f->has_id = true;
        } else if (resp_word(a[i], "TYPE")) {
            if (!filter_type(f, value, out)) return false;
        } else if (resp_word(a[i], "ADDR")) {
            f->addr = value;
        } else if (resp_word(a[i], "LADDR")) {
            f->laddr = value;
        } else if (resp_word(a[i], "USER")) {
            f->user = value;
        } else if (resp_word(a[i], "SKIPME") &&
                   (resp_word(value, "YES") || resp_word(value, "NO"))) {
            f->skips_self = resp_word(value, "YES");
        } else {
            resp_put_error(out, "ERR syntax error");
            return false;
        }
    }
    return true;
}

static void client_kill(struct gate *g, const struct kv_slice *a, uint32_t n, struct kv_buf *out)
{
    struct filter f = {.self = g, .kills = true};
    if (n == 1) { /* the old form: CLIENT KILL address */
        f.addr = a[0];
        f.none = a[0].size == 0;
        filter_run(&f);
        if (f.matched > 0)
            resp_put_status(out, "OK");
        else
            resp_put_error(out, "ERR No such client");
        return;
    }
    if (!kill_filters(&f, a, n, out)) return;
    filter_run(&f);
    resp_put_integer(out, f.matched);
}

/* ---- the rest ---- */

static void client_setinfo(struct resp_conn *c, const struct kv_slice *a, struct kv_buf *out)
{
    char *field = resp_word(a[0], "LIB-NAME")  ? c->lib_name
                  : resp_word(a[0], "LIB-VER") ? c->lib_version
                                               : NULL;
    if (field == NULL) {
        resp_put_error(out, "ERR Unrecognized option, use LIB-NAME or LIB-VER");
    } else if (!resp_name_set(field, a[1])) {
        resp_put_error(out, "ERR %s cannot contain spaces, newlines or special characters.",
                       field == c->lib_name ? "lib-name" : "lib-ver");
    } else {
        resp_put_status(out, "OK");
    }
}

static void client_reply(struct resp_conn *c, struct kv_slice word, struct kv_buf *out)
{
    if (resp_word(word, "ON"))
        c->mode = RESP_REPLY_ON;
    else if (resp_word(word, "OFF"))
        c->mode = RESP_REPLY_OFF;
    else if (resp_word(word, "SKIP"))
        c->mode = c->mode == RESP_REPLY_OFF ? RESP_REPLY_OFF : RESP_REPLY_SKIP;
    else {
        resp_put_error(out, "ERR syntax error");
        return;
    }
    resp_put_status(out, "OK"); /* heard only after ON */
}

static const char *const help[] = {
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options are: ADDR, LADDR, TYPE, USER, SKIPME, ID.",
    "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <client-id> [<client-id> ...]]",
    "    Return information about client connections.",
    "NO-EVICT (ON|OFF)",
    "    Accepted: connections are never evicted for memory.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETINFO (LIB-NAME|LIB-VER) <value>",
    "    Tell which library is at the other end.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    NULL};

enum resp_ran resp_run_client(struct gate *g, const struct kv_slice *a, uint32_t n,
                              struct kv_buf *out)
{
    enum sub { ID,
               SETNAME,
               GETNAME,
               SETINFO,
               INFO,
               LIST,
               KILL,
               REPLY,
               NO_EVICT,
               HELP,
               SUBS };
    static const struct {
        const char *name;
        int arity_min, arity_max; /* behind the subcommand */
    } subs[SUBS] = {[ID] = {"ID", 0, 0},
                    [SETNAME] = {"SETNAME", 1, 1},
                    [GETNAME] = {"GETNAME", 0, 0},
                    [SETINFO] = {"SETINFO", 2, 2},
                    [INFO] = {"INFO", 0, 0},
                    [LIST] = {"LIST", 0, -1},
                    [KILL] = {"KILL", 1, -1},
                    [REPLY] = {"REPLY", 1, 1},
                    [NO_EVICT] = {"NO-EVICT", 1, 1},
                    [HELP] = {"HELP", 0, 0}};
    struct resp_conn *c = resp_conn(g);
    unsigned sub = 0;
    while (sub < SUBS && !resp_word(a[0], subs[sub].name))
        sub++;
    if (sub == SUBS) {
        resp_bad_subcommand(out, "CLIENT", a[0]);
        return RESP_RAN;
    }
    int arity = (int)n - 1;
    if (arity < subs[sub].arity_min || (subs[sub].arity_max >= 0 && arity > subs[sub].arity_max)) {
        resp_bad_arity(out, "CLIENT", subs[sub].name);
        return RESP_RAN;
    }
    a++;
    switch ((enum sub)sub) {
    case ID: resp_put_integer(out, (int64_t)g->id); break;
    case SETNAME:
        if (resp_name_set(c->name, a[0]))
            resp_put_status(out, "OK");
        else
            resp_put_error(
                out, "ERR Client names cannot contain spaces, newlines or special characters.");
        break;
    case GETNAME:
        if (c->name[0] == '\0')
            resp_put_null(out);
        else
            resp_put_bulk(out, kv_str(c->name));
        break;
    case SETINFO: client_setinfo(c, a, out); break;
    case INFO: {
        struct kv_buf text;
        kv_buf_init(&text, 0);
        describe(g, g, &text);
        kv_buf_printf(out, "=%zu\r\ntxt:", text.size + 4);
        kv_buf_append_slice(out, kv_buf_slice(&text));
        kv_buf_append_text(out, "\r\n");
        kv_buf_free(&text);
        break;
    }
    case LIST: client_list(g, a, n - 1, out); break;
    case KILL: client_kill(g, a, n - 1, out); break;
    case REPLY: client_reply(c, a[0], out); break;
    case NO_EVICT:
        if (resp_word(a[0], "ON") || resp_word(a[0], "OFF"))
            resp_put_status(out, "OK");
        else
            resp_put_error(out, "ERR syntax error");
        break;
    case HELP: resp_help(out, "CLIENT", help); break;
    case SUBS: break;
    }
    return RESP_RAN;
}

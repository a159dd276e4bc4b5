#include "server/gate_resp.h"
#include <ctype.h>
#include <stdio.h>

/* COMMAND: what clients and redis-cli learn about the commands, from the two tables that
 * are in force: the operations of op.h and the commands answered by the gate. */

struct entry { /* either table's row in one shape */
    const char *name;
    int arity_min, arity_max, key_first, key_last, key_step;
    const char *kind; /* its flags, a blank between them: readonly, write, .. */
    const char *group, *since, *summary;
};

static bool entry_of_op(uint32_t code, struct entry *out)
{
    if (code == KV_OP_NONE || code >= KV_OP_KVGET) return false;
    const struct kv_op_info *info = kv_op_info(code);
    if (info == NULL) return false;
    bool is_write = info->kind == KV_OP_KIND_W;
    bool has_keys = info->key_first != 0;
    *out = (struct entry){.name = info->name,
                          .arity_min = info->arity_min,
                          .arity_max = info->arity_max,
                          .key_first = info->key_first,
                          .key_last = info->key_last,
                          .key_step = info->key_step,
                          .kind = is_write ? "write" : "readonly",
                          .group = has_keys ? "string" : "generic",
                          .since = "1.0.0",
                          .summary = is_write ? "Changes keys; arguments as in Redis 7.0"
                                              : "Reads keys; arguments as in Redis 7.0"};
    return true;
}

static struct entry entry_of_local(const struct resp_command *c)
{
    return (struct entry){.name = c->name,
                          .arity_min = c->arity_min,
                          .arity_max = c->arity_max,
                          .kind = c->flags,
                          .group = c->group,
                          .since = c->since,
                          .summary = c->summary};
}

/* *cursor from 0: all operations, then all local commands. */
static bool entry_next(uint32_t *cursor, struct entry *out)
{
    while (*cursor < KV_OP_KVGET)
        if (entry_of_op((*cursor)++, out)) return true;
    uint32_t local = *cursor - KV_OP_KVGET;
    if (local >= resp_command_count) return false;
    *out = entry_of_local(&resp_commands[local]);
    (*cursor)++;
    return true;
}

static bool entry_find(struct kv_slice name, struct entry *out)
{
    if (entry_of_op((uint32_t)kv_op_find(name), out)) return true;
    const struct resp_command *c = resp_command_find(name);
    if (c == NULL) return false;
    *out = entry_of_local(c);
    return true;
}

static uint32_t entry_count(void)
{
    struct entry e;
    uint32_t cursor = 0, count = 0;
    while (entry_next(&cursor, &e))
        count++;
    return count;
}

static void put_name(const char *upper, struct kv_buf *out)
{
    char text[32];
    size_t size = 0;
    for (; upper[size] != '\0' && size < sizeof text; size++)
        text[size] = (char)tolower((unsigned char)upper[size]);
    resp_put_bulk(out, kv_slice(text, size));
}

static void put_flags(const char *words, struct kv_buf *out)
{
    size_t count = words[0] != '\0';
    for (const char *c = words; *c != '\0'; c++) count += *c == ' ';
    resp_put_array(out, count);
    for (; count > 0; count--) {
        size_t size = strcspn(words, " ");
        kv_buf_printf(out, "+%.*s\r\n", (int)size, words);
        words += size + (count > 1);
    }
}

/* Name, arity (negative: at least), flags, keys; no ACL categories, tips or subcommands. */
static void put_info(const struct entry *e, struct kv_buf *out)
{
    bool is_fixed = e->arity_min == e->arity_max;
    resp_put_array(out, 10);
    put_name(e->name, out);
    resp_put_integer(out, is_fixed ? e->arity_min + 1 : -(e->arity_min + 1));
    put_flags(e->kind, out);
    resp_put_integer(out, e->key_first);
    resp_put_integer(out, e->key_last);
    resp_put_integer(out, e->key_step);
    for (int i = 0; i < 4; i++)
        resp_put_array(out, 0);
}

static void put_doc(const struct entry *e, struct kv_buf *out)
{
    put_name(e->name, out);
    resp_put_map(out, 3);
    resp_put_bulk(out, kv_str("summary"));
    resp_put_bulk(out, kv_str(e->summary));
    resp_put_bulk(out, kv_str("since"));
    resp_put_bulk(out, kv_str(e->since));
    resp_put_bulk(out, kv_str("group"));
    resp_put_bulk(out, kv_str(e->group));
}

static void info_all(struct kv_buf *out)
{
    struct entry e;
    uint32_t cursor = 0;
    resp_put_array(out, entry_count());
    while (entry_next(&cursor, &e))
        put_info(&e, out);
}

static void docs(const struct kv_slice *names, uint32_t n, struct kv_buf *out)
{
    struct entry e;
    uint32_t cursor = 0, found = 0;
    for (uint32_t i = 0; i < n; i++)
        found += entry_find(names[i], &e);
    resp_put_map(out, n == 0 ? entry_count() : found);
    for (uint32_t i = 0; i < n; i++)
        if (entry_find(names[i], &e)) put_doc(&e, out);
    while (n == 0 && entry_next(&cursor, &e))
        put_doc(&e, out);
}

static void get_keys(const struct kv_slice *a, uint32_t n, struct kv_buf *out)
{
    struct entry e;
    if (!entry_find(a[0], &e)) {
        resp_put_error(out, "ERR Invalid command specified");
        return;
    }
    enum kv_op op = kv_op_find(a[0]);
    uint32_t first = 0, step = 1;
    bool fits = (int)n - 1 >= e.arity_min && (e.arity_max < 0 || (int)n - 1 <= e.arity_max);
    uint32_t count = op == KV_OP_NONE ? 0 : kv_op_keys(kv_op_info(op), n - 1, &first, &step);
    if (e.key_first == 0)
        resp_put_error(out, "ERR The command has no key arguments");
    else if (!fits || count == 0)
        resp_put_error(out, "ERR Invalid number of arguments specified for command");
    else {
        resp_put_array(out, count);
        for (uint32_t i = 0; i < count; i++)
            resp_put_bulk(out, a[1 + first + i * step]);
    }
}

static const char *const help[] = {
    "(no subcommand)",
    "    Return details about all commands.",
    "COUNT",
    "    Return the total number of commands in this server.",
    "LIST",
    "    Return a list of all commands in this server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "GETKEYS <full-command>",
    "    Return the keys from a full command.",
    NULL};

enum resp_ran resp_run_command(struct gate *g, const struct kv_slice *a, uint32_t n,
                               struct kv_buf *out)
{
    (void)g;
    struct entry e;
    uint32_t cursor = 0;
    if (n == 0) {
        info_all(out);
    } else if (resp_word(a[0], "COUNT")) {
        if (n != 1)
            resp_bad_arity(out, "COMMAND", "COUNT");
        else
            resp_put_integer(out, entry_count());
    } else if (resp_word(a[0], "LIST")) {
        if (n != 1) {
            resp_put_error(out, "ERR syntax error");
            return RESP_RAN;
        }
        resp_put_array(out, entry_count());
        while (entry_next(&cursor, &e))
            put_name(e.name, out);
    } else if (resp_word(a[0], "INFO")) {
        if (n == 1)
            info_all(out);
        else
            resp_put_array(out, n - 1);
        for (uint32_t i = 1; i < n; i++) {
            if (entry_find(a[i], &e))
                put_info(&e, out);
            else
                resp_put_null(out);
        }
    } else if (resp_word(a[0], "DOCS")) {
        docs(a + 1, n - 1, out);
    } else if (resp_word(a[0], "GETKEYS")) {
        if (n < 3)
            resp_bad_arity(out, "COMMAND", "GETKEYS");
        else
            get_keys(a + 1, n - 1, out);
    } else if (resp_word(a[0], "HELP")) {
        if (n != 1)
            resp_bad_arity(out, "COMMAND", "HELP");
        else
            resp_help(out, "COMMAND", help);
    } else {
        resp_bad_subcommand(out, "COMMAND", a[0]);
    }
    return RESP_RAN;
}

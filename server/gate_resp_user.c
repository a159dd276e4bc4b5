#include "client/base/key.h"
#include "client/base/text.h"
#include "server/gate_resp.h"
#include "server/users.h"
#include <stdio.h>

/* Who a connection is, and which keyspace that binds it to. Invariants:
 * (1) A bound connection's commands are about keys of its user's keyspace and no other: whatever says which keyspace
 *     a command is about asks resp_user_may_select() first.
 * (2) Who could not be let into that keyspace is not let in at all, and stays what it was. */

static bool is_keyspace_default(const char *name)
{
    return strcmp(name, "default") == 0;
}

bool resp_user_enter(struct gate *g, const struct gate_user *who, struct kv_buf *out)
{
    struct resp_conn *c = resp_conn(g);
    uint32_t id = 0;
    if (who->keyspace[0] != '\0') {
        if (c->is_face && !is_keyspace_default(who->keyspace)) {
            resp_put_error(out, "NOPERM user '%s' is bound to keyspace '%s', and this port is of cluster mode, which has keyspace 'default' alone; next: resp.port of any node",
                           who->name, who->keyspace);
            return false;
        }
        id = g->services->keyspace(g->services->node, kv_str(who->keyspace));
        if (id == 0) {
            resp_put_error(out, "ERR no such keyspace: '%s', which user '%s' is bound to, is not known to this node; next: kvctl keyspace list, then AUTH again",
                           who->keyspace, who->name);
            return false;
        }
        c->keyspace = id;
    }
    c->bound = id;
    memcpy(c->user, who->name, strlen(who->name) + 1);
    memcpy(c->bound_name, who->keyspace, strlen(who->keyspace) + 1);
    c->user_mark = who->mark;
    c->is_authenticated = true;
    g->is_stranger = false; /* and stays so: RESET is no way to be closed */
    return true;
}

void resp_user_leave(struct gate *g)
{
    struct resp_conn *c = resp_conn(g);
    c->keyspace = KV_KEYSPACE_DEFAULT;
    c->bound = 0;
    c->bound_name[0] = '\0';
    memcpy(c->user, USER_DEFAULT, sizeof USER_DEFAULT);
    c->user_mark = 0;
    c->is_authenticated = !g->services->auth_required(g->services->node);
}

bool resp_user_may_select(const struct resp_conn *c, uint32_t keyspace, struct kv_buf *out)
{
    if (c->bound == 0 || c->bound == keyspace) return true;
    resp_put_error(out, "NOPERM user '%s' is bound to keyspace '%s'", c->user, c->bound_name);
    return false;
}

bool gate_resp_is_welcome(struct gate *g)
{
    const struct resp_conn *c = resp_conn(g);
    return !c->is_authenticated || g->services->user_is_current(g->services->node, kv_str(c->user), c->user_mark);
}

static const char *const help[] = {
    "WHOAMI",
    "    Return the user of the current connection.",
    NULL};

/* Users are made in a file of the node (resp.users), not here. */
enum resp_ran resp_run_acl(struct gate *g, const struct kv_slice *a, uint32_t n, struct kv_buf *out)
{
    bool is_whoami = resp_word(a[0], "WHOAMI"), is_help = resp_word(a[0], "HELP");
    if (!is_whoami && !is_help) resp_bad_subcommand(out, "ACL", a[0]);
    else if (n != 1) resp_bad_arity(out, "ACL", is_whoami ? "WHOAMI" : "HELP");
    else if (is_help) resp_help(out, "ACL", help);
    else resp_put_bulk(out, kv_str(resp_conn(g)->user));
    return RESP_RAN;
}

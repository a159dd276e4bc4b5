#include "server/exec_nodes.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>

#include "client/base/endian.h"
#include "client/base/mutant.h"
#include "server/exec_impl.h"
#include "server/exec_jobs.h"

/* Nodes and join tokens: KSSEED KSTOKEN KSJOIN KSWELCOME KSNODE, as pure functions of partition 0's rows like
 * all commands (R7). What the command says is checked before anything is read, so that exec_check() refuses
 * it too; what the rows say is checked behind that. */
enum { TOKEN_ROW_BYTES = 2 + 2 * EXEC_TOKEN_HASH_BYTES,
       NODES_ROW_BYTES = (KV_NODES_MAX + 1) * 11 };

struct roll { /* all rows of nodes; its slices lie in the arena */
    struct exec_entry entry;
    uint64_t version;
    uint32_t next, count, ids[KV_NODES_MAX];
    struct kv_node_info nodes[KV_NODES_MAX];
};

struct kv_slice exec_node_row(uint32_t id, char out[EXEC_ROW_NODE_BYTES_MAX])
{
    return kv_slice(out, (size_t)snprintf(out, EXEC_ROW_NODE_BYTES_MAX, "n/%" PRIu32, id));
}

bool exec_node_ids(struct kv_slice row, uint32_t *next, uint32_t ids[KV_NODES_MAX], uint32_t *count)
{
    *next = *count = 0;
    while (row.size > 0) {
        const uint8_t *blank = memchr(row.data, ' ', row.size);
        size_t size = blank == NULL ? row.size : (size_t)(blank - row.data);
        uint64_t v;
        if (!kv_parse_u64(kv_slice(row.data, size), &v) || v == 0 || v > UINT32_MAX || *count == KV_NODES_MAX) return false;
        if (*next == 0) *next = (uint32_t)v;
        else ids[(*count)++] = (uint32_t)v;
        size += blank != NULL;
        row = kv_slice(row.data + size, row.size - size);
    }
    return *next != 0;
}

const char *exec_host_fault(struct kv_slice host)
{
    char text[64];
    struct in_addr v4;
    struct in6_addr v6;
    if (host.size == 0 || host.size >= sizeof text) return "is not a literal IPv4 or IPv6 address";
    memcpy(text, host.data, host.size);
    text[host.size] = '\0';
    if (inet_pton(AF_INET, text, &v4) == 1) return v4.s_addr == 0 ? "stands for all addresses" : NULL;
    if (inet_pton(AF_INET6, text, &v6) == 1) return IN6_IS_ADDR_UNSPECIFIED(&v6) ? "stands for all addresses" : NULL;
    return "is not a literal IPv4 or IPv6 address";
}

/* ---- rows ---- */

static bool is_place(struct exec *x)
{
    return x->place != NULL || exec_deny(x, KV_BAD_ARGUMENT, "nodes are partition %d's", KV_PARTITION_SYSTEM);
}

static bool damaged(struct exec *x)
{
    x->failed = KV_CORRUPT; /* rows of one list change in one entry */
    return false;
}

static bool roll_load(struct exec *x, struct kv_arena *arena, struct roll *r)
{
    r->count = 0;
    r->next = 1;
    r->version = 0;

    if (!exec_load(x, kv_str(EXEC_ROW_NODES), &r->entry) || !is_place(x)) return false;
    if (!r->entry.live) return true;
    r->version = r->entry.value.version_index;
    if (!exec_node_ids(r->entry.value.payload, &r->next, r->ids, &r->count)) return damaged(x);
    for (uint32_t i = 0; i < r->count; i++) {
        char row[EXEC_ROW_NODE_BYTES_MAX];
        struct exec_entry e;
        if (!exec_load(x, exec_node_row(r->ids[i], row), &e)) return false;
        if (!e.live || kv_node_decode(e.value.payload, arena, &r->nodes[i]) != KV_OK) return damaged(x);
    }
    return true;
}

static struct kv_node_info *roll_find(struct roll *r, uint32_t id)
{
    for (uint32_t i = 0; i < r->count; i++)
        if (r->ids[i] == id) return &r->nodes[i];
    return NULL;
}

static bool put_node(struct exec *x, const struct kv_node_info *n)
{
    char row[EXEC_ROW_NODE_BYTES_MAX];
    struct kv_key key;
    struct kv_buf bytes = {0};
    kv_node_encode(n, &bytes);
    if (bytes.failed) x->failed = KV_IO;
    bool ok = !bytes.failed && exec_key(x, exec_node_row(n->id, row), &key) && exec_put(x, &key, kv_buf_slice(&bytes), 0, 0);
    kv_buf_free(&bytes);
    return ok;
}

/* Always with a change of any node: its version is theirs. */
static bool put_ids(struct exec *x, const struct roll *r)
{
    char text[NODES_ROW_BYTES];
    struct kv_key key;
    int size = snprintf(text, sizeof text, "%" PRIu32, r->next);
    for (uint32_t i = 0; i < r->count; i++) size += snprintf(text + size, sizeof text - (size_t)size, " %" PRIu32, r->ids[i]);
    return exec_key(x, kv_str(EXEC_ROW_NODES), &key) && exec_put(x, &key, kv_slice(text, (size_t)size), 0, 0);
}

static void reply_roll(struct exec *x, const struct roll *r, uint64_t version)
{
    struct kv_buf bytes = {0};
    kv_map_encode(&(struct kv_map_info){.nodes = (struct kv_node_info *)(uintptr_t)r->nodes, .node_count = r->count, .nodes_version = version}, &bytes);
    if (bytes.failed) x->failed = KV_IO;
    else resp_put_bulk(x->reply, kv_buf_slice(&bytes));
    kv_buf_free(&bytes);
}

/* ---- what a cluster begins with ---- */

/* Nodes in ascending order of their ids. */
static bool check_seed(struct exec *x, const struct kv_map_info *m)
{
    if (m->node_count == 0) return exec_deny(x, KV_BAD_ARGUMENT, "a cluster begins with at least one node");
    for (uint32_t i = 0; i < m->node_count; i++)
        if (m->nodes[i].key.size == 0 || (i > 0 && m->nodes[i].id <= m->nodes[i - 1].id))
            return exec_deny(x, KV_BAD_ARGUMENT, "node %u has no key, or stands in the wrong place", m->nodes[i].id);
    return true;
}

static void seed(struct exec *x, const struct kv_slice *a, struct kv_arena *arena, struct roll *r)
{
    struct kv_map_info m;
    if (kv_map_decode(a[0], arena, &m) != KV_OK) {
        exec_deny(x, KV_BAD_ARGUMENT, "the list of nodes does not parse");
        return;
    }
    if (!check_seed(x, &m) || !roll_load(x, arena, r)) return;
    exec_reply_ok(x);
    if (r->entry.live) return; /* by an earlier leader */
    for (uint32_t i = 0; i < m.node_count; i++) {
        r->ids[r->count++] = m.nodes[i].id;
        r->next = m.nodes[i].id + 1;
        if (!put_node(x, &m.nodes[i])) return;
    }
    put_ids(x, r);
}

void exec_ksseed(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct kv_arena arena = {0};
    struct roll r;
    seed(x, a, &arena, &r);
    kv_arena_free(&arena);
}

/* ---- tokens ---- */

struct token {
    struct exec_entry entry;
    uint64_t until_ms;
    uint32_t node;
    uint8_t key[32];
};

static bool token_load(struct exec *x, struct kv_slice hash, struct token *t)
{
    char row[TOKEN_ROW_BYTES + 1] = "t/";
    for (size_t i = 0; i < EXEC_TOKEN_HASH_BYTES; i++) (void)snprintf(row + 2 + 2 * i, 3, "%02x", hash.data[i]);
    if (!exec_load(x, kv_slice(row, TOKEN_ROW_BYTES), &t->entry)) return false;
    if (!t->entry.live) return true;
    struct kv_slice v = t->entry.value.payload;
    if (v.size < EXEC_TOKEN_BYTES) return damaged(x);
    t->until_ms = le64_get(v.data);
    t->node = le32_get(v.data + 8);
    memcpy(t->key, v.data + 12, sizeof t->key);
    return true;
}

static bool token_put(struct exec *x, const struct token *t)
{
    uint8_t bytes[EXEC_TOKEN_BYTES];
    le64_put(bytes, t->until_ms);
    le32_put(bytes + 8, t->node);
    memcpy(bytes + 12, t->key, sizeof t->key);
    return exec_put(x, &t->entry.key, kv_slice(bytes, sizeof bytes), 0, t->node == 0 ? t->until_ms + EXEC_TOKEN_KEPT_MS : 0);
}

static bool check_hash(struct exec *x, struct kv_slice hash)
{
    return hash.size == EXEC_TOKEN_HASH_BYTES || exec_deny(x, KV_BAD_ARGUMENT, "a token's hash has %d bytes", EXEC_TOKEN_HASH_BYTES);
}

void exec_kstoken(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct token t = {.node = 0};
    uint64_t ttl_ms, max_ms = EXEC_TOKEN_DAYS_MAX * UINT64_C(86400000);
    if (!check_hash(x, a[0])) return;
    if (!kv_parse_u64(a[1], &ttl_ms) || ttl_ms < 1000 || ttl_ms > max_ms) {
        exec_deny(x, KV_BAD_ARGUMENT, "a token is good for 1 s to %d days", EXEC_TOKEN_DAYS_MAX);
        return;
    }
    if (!token_load(x, a[0], &t) || !is_place(x)) return;
    if (t.entry.live) {
        exec_deny(x, KV_CONFLICT, "that token is there already; next: make another");
        return;
    }
    t.until_ms = x->clock_ms + ttl_ms;
    if (token_put(x, &t)) resp_put_integer(x->reply, (int64_t)t.until_ms);
}

/* ---- joining ---- */

/* `id` of the argument is of no consequence. */
static bool check_joiner(struct exec *x, struct kv_slice bytes, struct kv_arena *arena, struct kv_node_info *j)
{
    if (kv_node_decode(bytes, arena, j) != KV_OK || j->key.size == 0 || j->state != KV_NODE_UP)
        return exec_deny(x, KV_BAD_ARGUMENT, "what the node says of itself does not parse");
    const char *fault = exec_host_fault(j->host);
    if (fault != NULL)
        return exec_deny(x, KV_BAD_ARGUMENT, "address '%.*s' %s; next: set native.host to one that all nodes can reach",
                         (int)j->host.size, j->host.size == 0 ? "" : (const char *)j->host.data, fault);
    if (j->roles > KV_NODE_ROLES_ALL) return exec_deny(x, KV_BAD_ARGUMENT, "roles %u are not known to this cluster; next: a program of its version", j->roles);
    if (j->port == 0) return exec_deny(x, KV_BAD_ARGUMENT, "native port 0 cannot be dialled; next: set native.port");
    if (j->zone.size > 0 && !kv_name_is_valid(j->zone))
        return exec_deny(x, KV_BAD_ARGUMENT, "zone '%.*s' is no name: a letter, then letters, digits, - _ . up to %d bytes", (int)j->zone.size,
                         (const char *)j->zone.data, KV_NAME_BYTES_MAX);
    return true;
}

/* A token that this key has used is good for ever: the answer may have been lost, or the node's disk. */
static bool check_token(struct exec *x, const struct token *t, struct kv_slice key)
{
    if (!t->entry.live) return exec_deny(x, KV_AUTH, "the token is not known here; next: kvctl node token");
    if (t->node != 0)
        return kv_slice_eq(kv_slice(t->key, sizeof t->key), key) ||
               exec_deny(x, KV_AUTH, "the token was used by node %u; next: kvctl node token makes another", t->node);
    return exec_now(x) < t->until_ms || exec_deny(x, KV_AUTH, "the token has expired; next: kvctl node token makes another");
}

/* Neither key nor address are another node's. */
static bool check_place_of(struct exec *x, const struct roll *r, const struct kv_node_info *j, uint32_t self)
{
    for (uint32_t i = 0; i < r->count; i++) {
        const struct kv_node_info *o = &r->nodes[i];
        if (o->id == self) continue;
        if (kv_slice_eq(o->key, j->key))
            return exec_deny(x, KV_CONFLICT, "its key is that of node %u, which is %s; next: start with a fresh key (node.key)", o->id,
                             kv_node_state_text(o->state));
        if (o->state != KV_NODE_REMOVED && o->port == j->port && kv_slice_eq(o->host, j->host))
            return exec_deny(x, KV_CONFLICT, "its address %.*s:%u is that of node %u; next: another native.host or native.port",
                             (int)j->host.size, (const char *)j->host.data, j->port, o->id);
    }
    return true;
}

/* Room for one more: the oldest of the removed ones goes. */
static bool make_room(struct exec *x, struct roll *r)
{
    uint32_t at = 0;
    if (r->count < KV_NODES_MAX) return true;
    while (at < r->count && r->nodes[at].state != KV_NODE_REMOVED) at++;
    if (at == r->count) return exec_deny(x, KV_CONDITION, "there are %d nodes, the limit; next: remove one", KV_NODES_MAX);
    char row[EXEC_ROW_NODE_BYTES_MAX];
    struct kv_key key;
    if (!exec_key(x, exec_node_row(r->ids[at], row), &key) || !exec_delete(x, &key)) return false;
    r->count--;
    memmove(&r->ids[at], &r->ids[at + 1], (r->count - at) * sizeof r->ids[0]);
    memmove(&r->nodes[at], &r->nodes[at + 1], (r->count - at) * sizeof r->nodes[0]);
    return true;
}

static bool same_place(const struct kv_node_info *a, const struct kv_node_info *b)
{
    return kv_slice_eq(a->host, b->host) && a->port == b->port && a->resp == b->resp && a->resp_cluster == b->resp_cluster &&
           kv_slice_eq(a->zone, b->zone) && a->roles == b->roles;
}

/* One that this token has let in before: the same id, perhaps at a new address. */
static void join_again(struct exec *x, struct roll *r, const struct token *t, const struct kv_node_info *j)
{
    struct kv_node_info *known = roll_find(r, t->node);
    if (known == NULL || known->state == KV_NODE_REMOVED) {
        exec_deny(x, KV_AUTH, "node %u was removed from this cluster; next: a fresh key (node.key) and a new token", t->node);
        return;
    }
    if (!check_place_of(x, r, j, known->id)) return;
    uint64_t version = r->version;
    struct kv_node_info now = *j;
    if (now.roles == 0) now.roles = known->roles; /* not said: what it had */
    if (!kv_node_has(now.roles, KV_NODE_GATEWAY)) now.resp = now.resp_cluster = 0;
    if (!same_place(known, &now)) {
        enum kv_node_state state = known->state;
        *known = now;
        known->id = t->node;
        known->state = state;
        version = x->version.index;
        if (x->is_write && (!put_node(x, known) || !put_ids(x, r))) return;
    }
    reply_roll(x, r, version);
}

static void join_first(struct exec *x, struct roll *r, struct token *t, const struct kv_node_info *j)
{
    if (!check_place_of(x, r, j, 0)) return;
    if (!x->is_write) { /* asked whether: yes, as far as can be seen now */
        exec_reply_ok(x);
        return;
    }
    if (!make_room(x, r)) return;
    struct kv_node_info *n = &r->nodes[r->count];
    *n = *j;
    n->id = r->ids[r->count++] = t->node = r->next;
    r->next += !MUTANT(id_given_twice);
    memcpy(t->key, j->key.data, sizeof t->key);
    if (put_node(x, n) && token_put(x, t) && put_ids(x, r)) reply_roll(x, r, x->version.index);
}

static void join(struct exec *x, const struct kv_slice *a, struct kv_arena *arena, struct roll *r)
{
    struct kv_node_info j;
    struct token t;
    if (!check_hash(x, a[0]) || !check_joiner(x, a[1], arena, &j) || !token_load(x, a[0], &t) || !roll_load(x, arena, r)) return;
    if (!check_token(x, &t, j.key)) return;
    if (!r->entry.live) {
        exec_deny(x, KV_UNAVAILABLE, "the nodes that this cluster began with are not written down yet; next: again in a moment");
        return;
    }
    if (t.node != 0) join_again(x, r, &t, &j);
    else join_first(x, r, &t, &j);
}

void exec_ksjoin(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct kv_arena arena = {0};
    struct roll r;
    join(x, a, &arena, &r);
    kv_arena_free(&arena);
}

/* So that who has no token costs no entry of the log. */
void exec_kswelcome(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    exec_ksjoin(x, a, n);
}

/* ---- states ---- */

/* What would be left without the roles that a node has and is not to have any more; NULL: nothing is missing. */
static const char *missed(const struct roll *r, const struct kv_node_info *node, uint32_t keeps, enum kv_node_state worst)
{
    static const struct {
        enum kv_node_role role;
        const char *text;
    } needed[] = {{KV_NODE_STORAGE, "storage, to hold its partitions"},
                  {KV_NODE_COORDINATOR, "coordinator, to hold partition 0"},
                  {KV_NODE_GATEWAY, "gateway, to take clients"}};
    for (size_t k = 0; k < sizeof needed / sizeof needed[0]; k++) {
        uint32_t i = 0, at_worst = needed[k].role == KV_NODE_GATEWAY ? KV_NODE_DRAINING : (uint32_t)worst; /* who is drained still takes clients */
        if (!kv_node_has(node->roles, needed[k].role) || (keeps & (uint32_t)needed[k].role) != 0) continue;
        while (i < r->count && (r->nodes[i].id == node->id || (uint32_t)r->nodes[i].state > at_worst || !kv_node_has(r->nodes[i].roles, needed[k].role))) i++;
        if (i == r->count) return needed[k].text;
    }
    return NULL;
}

static bool check_state(struct exec *x, const struct roll *r, const struct kv_node_info *node, enum kv_node_state to)
{
    uint32_t up = 0, left = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        if (r->nodes[i].id == node->id) continue;
        up += r->nodes[i].state == KV_NODE_UP;
        left += r->nodes[i].state != KV_NODE_REMOVED;
    }
    if (node->state == KV_NODE_REMOVED)
        return exec_deny(x, KV_CONDITION, "node %u was removed, for good; next: kvctl node token, and join under a new id", node->id);
    if (to == KV_NODE_REMOVED && left == 0) return exec_deny(x, KV_CONDITION, "node %u is the last one of the cluster", node->id);
    if (to == KV_NODE_DRAINING && up == 0)
        return exec_deny(x, KV_CONDITION, "no other node may take the replicas of node %u; next: add one, or kvctl node uncordon", node->id);
    const char *role = to == KV_NODE_REMOVED    ? missed(r, node, 0, KV_NODE_DRAINING)
                       : to == KV_NODE_DRAINING ? missed(r, node, KV_NODE_GATEWAY, KV_NODE_UP)
                                                : NULL;
    return role == NULL || exec_deny(x, KV_CONDITION, "no node but %u has the role %s; next: add one with it, or start another with it (--role)", node->id, role);
}

/* What a node says of itself, started with other roles than it had. */
static bool set_self(struct exec *x, const struct roll *r, struct kv_node_info *node, const struct kv_node_info *said)
{
    if (node->state == KV_NODE_REMOVED) return exec_deny(x, KV_CONDITION, "node %u was removed, for good", node->id);
    if (said->roles == 0 || said->roles > KV_NODE_ROLES_ALL) return exec_deny(x, KV_BAD_ARGUMENT, "roles %u are not known to this cluster", said->roles);
    const char *role = missed(r, node, said->roles, KV_NODE_CORDONED);
    if (role != NULL)
        return exec_deny(x, KV_CONDITION, "no node but %u has the role %s, so it keeps that; next: give it to another first", node->id, role);
    node->roles = said->roles;
    node->resp = said->resp;
    node->resp_cluster = said->resp_cluster;
    return true;
}

/* A drain is a job from its first entry to the one that ends it; not if it was asked for without JOB, as before there were jobs. */
static bool drain_job(struct exec *x, uint32_t id, enum kv_node_state to, bool opens, struct kv_arena *arena)
{
    struct exec_board b;
    uint64_t open;
    struct kv_job j = {.kind = KV_JOB_DRAIN, .from = id, .unit = kv_str("replicas"), .reason = kv_str("asked for")};
    if (!exec_board_load(x, &b) || !exec_job_on(x, 'n', id, &open)) return false;
    if (to == KV_NODE_DRAINING) return open != 0 || !opens || (exec_job_open(x, &b, &j) && exec_board_put(x, &b));
    if (open == 0) return true;
    if (!exec_job_load(x, open, arena, &j)) return false;
    j.note = kv_slice(NULL, 0);
    return exec_job_end(x, &b, &j, to == KV_NODE_REMOVED ? KV_JOB_DONE : KV_JOB_CANCELLED) && exec_board_put(x, &b);
}

static void set_state(struct exec *x, const struct kv_slice *a, uint32_t n, struct kv_arena *arena, struct roll *r)
{
    uint64_t id;
    enum kv_node_state to = KV_NODE_UP;
    struct kv_node_info said;
    bool is_self = n == 3 && kv_slice_eq(a[1], kv_str(EXEC_NODE_SELF)) && kv_node_decode(a[2], arena, &said) == KV_OK;
    if (!kv_parse_u64(a[0], &id) || id == 0 || id > UINT32_MAX || (!is_self && !kv_node_state_parse(a[1], &to))) {
        exec_deny(x, KV_BAD_ARGUMENT, "not a node id and one of up, cordoned, draining, removed");
        return;
    }
    if (!is_self && n == 3 && !exec_word(a[2], "JOB") && !exec_word(a[2], "FORCE")) {
        exec_deny(x, KV_BAD_ARGUMENT, "KSNODE id state [JOB | FORCE]");
        return;
    }
    if (!roll_load(x, arena, r)) return;
    struct kv_node_info *node = roll_find(r, (uint32_t)id);
    if (node == NULL) {
        exec_deny(x, KV_NOT_FOUND, "the cluster has no node %u; next: kvctl node list", (uint32_t)id);
        return;
    }
    enum kv_node_state before = node->state;
    if (is_self) {
        if (!set_self(x, r, node, &said) || !put_node(x, node) || !put_ids(x, r)) return;
    } else if (before != to) {
        if (!check_state(x, r, node, to)) return;
        node->state = to;
        if (!put_node(x, node) || !put_ids(x, r) || !drain_job(x, node->id, to, n == 3, arena)) return;
    }
    resp_put_bulk(x->reply, kv_str(kv_node_state_text(before)));
}

void exec_ksnode(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    struct kv_arena arena = {0};
    struct roll r;
    set_state(x, a, n, &arena, &r);
    kv_arena_free(&arena);
}

bool exec_node_undrain(struct exec *x, uint32_t id)
{
    struct kv_arena arena = {0};
    struct roll r;
    bool good = roll_load(x, &arena, &r);
    struct kv_node_info *node = good ? roll_find(&r, id) : NULL;
    if (node != NULL && node->state == KV_NODE_DRAINING) {
        node->state = KV_NODE_UP;
        good = put_node(x, node) && put_ids(x, &r);
    }
    kv_arena_free(&arena);
    return good;
}

static bool is_in(const struct kv_slice *zones, uint32_t count, struct kv_slice zone)
{
    for (uint32_t i = 0; i < count; i++)
        if (kv_slice_eq(zones[i], zone)) return true;
    return count == 0;
}

bool exec_nodes_in(struct exec *x, const struct kv_slice *zones, uint32_t zone_count, uint32_t *count)
{
    struct kv_arena arena = {0};
    struct roll r;
    bool good = roll_load(x, &arena, &r);
    *count = good && !r.entry.live && zone_count == 0 ? x->place->node_count : 0; /* they are not written down yet */
    for (uint32_t i = 0; good && i < r.count; i++)
        *count += r.nodes[i].state != KV_NODE_REMOVED && kv_node_has(r.nodes[i].roles, KV_NODE_STORAGE) && is_in(zones, zone_count, r.nodes[i].zone);
    kv_arena_free(&arena);
    return good;
}

#include "server/nodes.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/base/endian.h"
#include "client/base/hash.h"
#include "client/base/text.h"
#include "client/wire/resp.h"
#include "server/exec_nodes.h"
#include "server/keyspaces.h"
#include "server/map.h"
#include "server/peer.h"
#include "server/request.h"
#include "server/siblings.h"

enum { SEED_RETRY_MS = 1000,
       ROLES_RETRY_S = 10 };

struct nodes {
    struct worker *w;
    struct membership m;
    uint64_t serial;
    uint64_t seed_ns; /* not asked for the first rows before this */
    bool seeding;
    uint32_t roles;  /* that this node was started with; 0: all */
    uint64_t say_ns; /* partition 0 is not asked to write them down before this */
    bool is_saying;
    /* What is being written to the disk. */
    struct disk_request save;
    struct membership saving;
    enum kv_err save_err;
    uint64_t saved; /* version on the disk */
    bool is_saving;
};

/* ---- reading it ---- */

const struct nodes_entry *nodes_at(const struct worker *w, uint32_t index)
{
    return index < w->nodes->m.count ? &w->nodes->m.list[index] : NULL;
}

const struct nodes_entry *nodes_find(const struct worker *w, uint32_t id)
{
    const struct nodes_entry *n;
    for (uint32_t i = 0; (n = nodes_at(w, i)) != NULL; i++)
        if (n->id == id) return n;
    return NULL;
}

bool nodes_may_hold(const struct worker *w, uint32_t id, uint32_t partition)
{
    const struct nodes_entry *n = nodes_find(w, id);
    return n == NULL || kv_node_has(n->roles, nodes_role_for(partition));
}

bool nodes_takes_clients(const struct worker *w)
{
    return kv_node_has(w->nodes->roles, KV_NODE_GATEWAY);
}

bool nodes_serves_clients(const struct worker *w)
{
    const struct nodes_entry *self = nodes_find(w, w->node_id);
    return nodes_takes_clients(w) || (self != NULL && kv_node_has(self->roles, KV_NODE_GATEWAY));
}

bool nodes_are_one(const struct worker *w)
{
    const struct nodes_entry *n;
    for (uint32_t i = 0; (n = nodes_at(w, i)) != NULL; i++)
        if (n->id != w->node_id && n->state != KV_NODE_REMOVED) return false;
    return true;
}

uint64_t nodes_serial(const struct worker *w)
{
    return w->nodes->serial;
}

uint64_t nodes_version(const struct worker *w)
{
    return w->nodes->m.version;
}

uint32_t nodes_replicas(const struct worker *w, uint32_t id)
{
    const struct partition *p;
    uint32_t count = 0;
    for (uint32_t i = 0; (p = map_at(w, i)) != NULL; i++) {
        const struct descriptor *d = map_descriptor(p);
        for (uint32_t r = 0; r < d->replica_count; r++) count += d->replicas[r].node == id;
    }
    return count;
}

static struct kv_node_info info_of(const struct nodes_entry *n)
{
    return (struct kv_node_info){.id = n->id,
                                 .host = kv_str(n->host),
                                 .port = n->native,
                                 .resp = n->resp,
                                 .resp_cluster = n->resp_cluster,
                                 .key = kv_slice(n->key, sizeof n->key),
                                 .zone = kv_str(n->zone),
                                 .roles = n->roles,
                                 .state = n->state};
}

static void encode(const struct membership *m, struct kv_buf *out)
{
    struct kv_node_info nodes[KV_NODES_MAX];
    for (uint32_t i = 0; i < m->count; i++) nodes[i] = info_of(&m->list[i]);
    kv_map_encode(&(struct kv_map_info){.nodes = nodes, .node_count = m->count, .nodes_version = m->version}, out);
}

void nodes_put(const struct worker *w, struct kv_buf *out)
{
    encode(&w->nodes->m, out);
}

/* ---- the file ---- */

static const char file_name[] = "membership", file_new[] = "membership.tmp";
static const char file_magic[8] = {'k', 'v', 'n', 'o', 'd', 'e', 's', '\n'};
enum { FILE_FORMAT = 1,
       FILE_HEADER_BYTES = 104,
       FILE_BYTES_MAX = 64 << 10 };

static bool entry_of(const struct kv_node_info *n, struct nodes_entry *out)
{
    if (n->host.size >= sizeof out->host || n->zone.size >= sizeof out->zone || n->key.size != sizeof out->key) return false;
    *out = (struct nodes_entry){
        .id = n->id, .native = n->port, .resp = n->resp, .resp_cluster = n->resp_cluster, .roles = n->roles, .state = n->state};
    if (n->host.size > 0) memcpy(out->host, n->host.data, n->host.size);
    if (n->zone.size > 0) memcpy(out->zone, n->zone.data, n->zone.size);
    memcpy(out->key, n->key.data, sizeof out->key);
    return true;
}

bool membership_decode(struct kv_slice map, struct membership *out)
{
    struct kv_arena arena;
    struct kv_map_info m;
    kv_arena_init(&arena, 1 << 20);
    bool ok = kv_map_decode(map, &arena, &m) == KV_OK && m.node_count > 0;
    out->count = 0;
    for (uint32_t i = 0; ok && i < m.node_count; i++) {
        ok = entry_of(&m.nodes[i], &out->list[i]) && (i == 0 || m.nodes[i].id > m.nodes[i - 1].id);
        out->count++;
    }
    out->version = m.nodes_version;
    kv_arena_free(&arena);
    return ok;
}

enum kv_err membership_write(struct disk *d, const struct membership *m)
{
    struct kv_buf b = {0}, list = {0};
    size_t name = strnlen(m->name, 64);
    encode(m, &list);
    uint8_t *head = kv_buf_reserve(&b, FILE_HEADER_BYTES);
    if (head != NULL) {
        memset(head, 0, FILE_HEADER_BYTES);
        memcpy(head, file_magic, sizeof file_magic);
        le32_put(head + 8, FILE_FORMAT);
        le32_put(head + 12, m->node);
        memcpy(head + 16, m->cluster, sizeof m->cluster);
        head[32] = (uint8_t)name;
        memcpy(head + 33, m->name, name);
        le32_put(head + 100, (uint32_t)list.size);
        kv_buf_commit(&b, FILE_HEADER_BYTES);
        kv_buf_append_slice(&b, kv_buf_slice(&list));
        uint8_t sum[8];
        le64_put(sum, kv_hash64(kv_buf_slice(&b), 0));
        kv_buf_append(&b, sum, sizeof sum);
    }
    enum kv_err err = list.failed || b.failed ? KV_NO_SPACE : disk_replace(d, file_name, file_new, kv_buf_slice(&b));
    kv_buf_free(&b);
    kv_buf_free(&list);
    return err;
}

static enum kv_err parse(const uint8_t *p, size_t size, struct membership *out, char *why, size_t why_size)
{
    if (size < 12 || memcmp(p, file_magic, sizeof file_magic) != 0) {
        (void)snprintf(why, why_size, "%s: not a list of nodes", file_name);
        return KV_CORRUPT;
    }
    if (le32_get(p + 8) > FILE_FORMAT) { /* the format stands before all that a later one may lay out otherwise */
        (void)snprintf(why, why_size, "%s: format %u, this program knows %d", file_name, le32_get(p + 8), FILE_FORMAT);
        return KV_VERSION;
    }
    bool intact = size >= FILE_HEADER_BYTES + 8 && le64_get(p + size - 8) == kv_hash64(kv_slice(p, size - 8), 0) &&
                  le32_get(p + 100) == size - FILE_HEADER_BYTES - 8 && p[32] <= 64;
    *out = (struct membership){.node = intact ? le32_get(p + 12) : 0};
    if (!intact || !membership_decode(kv_slice(p + FILE_HEADER_BYTES, size - FILE_HEADER_BYTES - 8), out)) {
        (void)snprintf(why, why_size, "%s: the checksum does not match", file_name);
        return KV_CORRUPT;
    }
    memcpy(out->cluster, p + 16, sizeof out->cluster);
    memcpy(out->name, p + 33, p[32]);
    return KV_OK;
}

enum kv_err membership_read(struct disk *d, struct membership *out, char *why, size_t why_size)
{
    struct disk_file f;
    uint64_t size = 0;
    size_t got = 0;
    enum kv_err err = d->ops->open(d, file_name, false, &f);
    if (err == KV_NOT_FOUND) return err;
    if (err == KV_OK) err = d->ops->size(d, f, &size);
    uint8_t *bytes = err == KV_OK && size <= FILE_BYTES_MAX ? malloc(size + 1) : NULL;
    if (bytes != NULL) err = d->ops->read(d, f, 0, bytes, size, &got);
    else if (err == KV_OK) err = KV_CORRUPT;
    if (err == KV_OK) err = parse(bytes, got, out, why, why_size);
    else (void)snprintf(why, why_size, "%s: %s", file_name, kv_err_text(err));
    free(bytes);
    (void)d->ops->close(d, f);
    return err;
}

enum kv_err membership_overlay(struct disk *d, struct config *c, char *why, size_t why_size)
{
    static const uint8_t none[16];
    uint8_t said[16] = {0};
    struct membership *m = malloc(sizeof *m);
    if (m == NULL) return KV_NO_SPACE;
    enum kv_err err = membership_read(d, m, why, why_size);
    if (err != KV_OK) goto done;
    bool is_said = c->node_count > 0 || c->places[CONFIG_ROW_node_id] != CONFIG_PLACE_DEFAULT;
    if (is_said && c->node_id != m->node) {
        (void)snprintf(why, why_size, "the directory belongs to node %u, the configuration says node.id %llu", m->node,
                       (unsigned long long)c->node_id);
        err = KV_CONFLICT;
        goto done;
    }
    if (c->cluster_id[0] != '\0') kv_hex_decode(kv_str(c->cluster_id), said, sizeof said);
    if (memcmp(said, none, sizeof said) != 0 && memcmp(said, m->cluster, sizeof said) != 0) {
        (void)snprintf(why, why_size, "the directory belongs to another cluster than cluster.id says");
        err = KV_CONFLICT;
        goto done;
    }
    c->node_id = m->node;
    for (size_t i = 0; i < sizeof m->cluster; i++) (void)snprintf(c->cluster_id + 2 * i, 3, "%02x", m->cluster[i]);
    if (c->places[CONFIG_ROW_cluster_name] == CONFIG_PLACE_DEFAULT && m->name[0] != '\0')
        memcpy(c->cluster_name, m->name, sizeof m->name);
done:
    free(m);
    return err;
}

/* ---- life ---- */

/* Who takes no clients opens no Redis ports. */
static void ports_set(struct nodes_entry *n, uint16_t resp, uint16_t resp_cluster)
{
    bool opens = kv_node_has(n->roles, KV_NODE_GATEWAY);
    n->resp = opens ? resp : 0;
    n->resp_cluster = opens ? resp_cluster : 0;
}

/* The list in the configuration, in order of the ids; or this node alone. */
static void from_config(struct worker *w, struct membership *m)
{
    const struct config *c = w->config;
    for (uint32_t i = 0; i < c->node_count; i++) {
        const struct config_node *x = &c->nodes[i];
        uint32_t at = m->count++;
        for (; at > 0 && m->list[at - 1].id > x->id; at--) m->list[at] = m->list[at - 1];
        m->list[at] = (struct nodes_entry){.id = x->id, .native = x->native, .roles = x->roles};
        ports_set(&m->list[at], x->resp, x->resp_cluster);
        memcpy(m->list[at].host, x->host, sizeof m->list[at].host);
        memcpy(m->list[at].key, x->key, sizeof m->list[at].key);
        if (x->id == w->node_id) memcpy(m->list[at].zone, c->node_zone, KV_NAME_BYTES_MAX);
    }
    if (m->count > 0) return;
    struct nodes_entry *self = &m->list[m->count++];
    *self = (struct nodes_entry){.id = w->node_id, .native = (uint16_t)c->native_port, .roles = config_roles(c)};
    ports_set(self, (uint16_t)c->resp_port, (uint16_t)c->resp_cluster_port);
    memcpy(self->host, c->native_host, sizeof self->host - 1);
    memcpy(self->zone, c->node_zone, KV_NAME_BYTES_MAX);
    memcpy(self->key, w->o.identity->public_key, sizeof self->key);
}

enum kv_err nodes_create(struct worker *w, char *why, size_t why_size)
{
    struct nodes *n = calloc(1, sizeof *n);
    if (n == NULL) return KV_NO_SPACE;
    n->w = w;
    n->serial = 1;
    w->nodes = n;
    if (!siblings_is_face(w)) { /* worker 0 keeps the file, and tells of changes */
        n->m = w->o.first->nodes->m;
        n->roles = w->o.first->nodes->roles;
        n->saved = UINT64_MAX;
        return KV_OK;
    }
    enum kv_err err = membership_read(w->o.disk, &n->m, why, why_size);
    if (err == KV_OK && n->m.node != w->node_id) {
        (void)snprintf(why, why_size, "%s: it is of node %u, this is node %u", file_name, n->m.node, w->node_id);
        return KV_CONFLICT;
    }
    n->saved = n->m.version;
    if (err != KV_NOT_FOUND && err != KV_OK) return err;
    bool is_new = err == KV_NOT_FOUND;
    if (is_new) {
        n->m = (struct membership){.node = w->node_id};
        from_config(w, &n->m);
    }
    const struct nodes_entry *self = nodes_find(w, w->node_id);
    n->roles = config_roles(w->config);
    if (n->roles == 0 && self != NULL) n->roles = self->roles;
    if (!is_new || n->m.count > 1 || (kv_node_has(n->roles, KV_NODE_STORAGE) && kv_node_has(n->roles, KV_NODE_COORDINATOR))) return KV_OK;
    (void)snprintf(why, why_size, "node.roles: %s, but a node that is alone holds everything, it needs storage and coordinator; next: cluster.join, or give it both",
                   w->config->node_roles);
    return KV_BAD_ARGUMENT;
}

void nodes_destroy(struct nodes *n)
{
    free(n);
}

/* ---- changes ---- */

static void changed(struct worker *w)
{
    const struct nodes_entry *self = nodes_find(w, w->node_id);
    char roles[KV_NODE_ROLES_TEXT_BYTES] = "";
    if (self != NULL) kv_node_roles_text(self->roles, roles);
    w->nodes->serial++;
    if (!siblings_is_face(w)) return; /* worker 0 says it, and tells others */
    JOURNAL(w->journal, peer, INFO, "nodes", "version=%llu count=%u roles=%s", (unsigned long long)w->nodes->m.version, w->nodes->m.count, roles);
    if (self != NULL && self->state == KV_NODE_REMOVED)
        JOURNAL(w->journal, peer, ERROR, "removed", "node=%u action=\"stop it; to come back it needs a fresh key and a new token\"",
                w->node_id);
    if (w->peers != NULL) peers_send_nodes(w->peers);
}

static void take(struct worker *w, const struct membership *fresh)
{
    struct membership *m = &w->nodes->m;
    if (fresh->version <= m->version) return;
    m->version = fresh->version;
    m->count = fresh->count;
    memcpy(m->list, fresh->list, sizeof m->list);
    changed(w);
}

void nodes_told(struct worker *w, struct kv_slice encoded)
{
    struct membership *fresh = calloc(1, sizeof *fresh);
    if (fresh != NULL && membership_decode(encoded, fresh)) take(w, fresh);
    free(fresh);
}

/* ---- rows of partition 0 ---- */

static enum kv_err row_read(struct worker *w, struct kv_slice row, struct value *v)
{
    struct kv_key key;
    struct kv_slice bytes;
    enum kv_err err = kv_key_encode(&kv_key_rule_system, row, &key);
    if (err == KV_OK) err = store_get(w->store, STORE_DATA, kv_key_slice(&key), kv_slice(NULL, 0), &bytes);
    return err == KV_OK ? value_read(kv_key_slice(&key), bytes, v) : err;
}

static enum kv_err rows_read(struct worker *w, struct membership *into)
{
    struct kv_arena arena = {0};
    struct value v;
    uint32_t next, ids[KV_NODES_MAX];
    enum kv_err err = row_read(w, kv_str(EXEC_ROW_NODES), &v);
    if (err != KV_OK) return err;
    into->version = v.version_index;
    if (!exec_node_ids(v.payload, &next, ids, &into->count)) return KV_CORRUPT;
    if (into->version <= w->nodes->m.version) return KV_OK;
    for (uint32_t i = 0; err == KV_OK && i < into->count; i++) {
        char row[EXEC_ROW_NODE_BYTES_MAX];
        struct kv_node_info n;
        err = row_read(w, exec_node_row(ids[i], row), &v);
        if (err == KV_OK) err = kv_node_decode(v.payload, &arena, &n);
        if (err == KV_OK && !entry_of(&n, &into->list[i])) err = KV_CORRUPT;
    }
    kv_arena_free(&arena);
    return err;
}

void nodes_load(struct worker *w)
{
    struct membership *fresh = calloc(1, sizeof *fresh);
    enum kv_err err = fresh == NULL ? KV_NO_SPACE : rows_read(w, fresh);
    if (err == KV_OK) {
        take(w, fresh);
    } else if (err != KV_NOT_FOUND) {
        struct group *g = worker_group(w, KV_PARTITION_SYSTEM);
        JOURNAL(w->journal, store, ERROR, "nodes-unread", "err=%s", kv_err_name(err));
        if (err == KV_NO_SPACE) abort(); /* out of memory: nothing would be right from here on */
        if (g != NULL && !w->poisoned) group_corrupt(g, "a row of a node is not what was written", g->applied);
    }
    free(fresh);
}

static void seeded(struct request *r, const struct kv_reply *reply)
{
    struct nodes *n = r->owner;
    n->seeding = false;
    if (reply->err != KV_OK)
        JOURNAL(n->w->journal, peer, DEBUG, "seed-failed", "err=%s", kv_err_name(reply->err));
}

/* Every leader of partition 0 asks for them until it sees some; the first entry counts. */
static void seed(struct worker *w, uint64_t now_ns)
{
    struct nodes *n = w->nodes;
    struct group *g = worker_group(w, KV_PARTITION_SYSTEM);
    if (n->m.version != 0 || n->seeding || now_ns < n->seed_ns || g == NULL || !group_leads(g)) return;
    n->seed_ns = now_ns + KV_MS(SEED_RETRY_MS);
    struct request *r = request_make(w);
    struct kv_buf bytes = {0};
    if (r == NULL) return;
    nodes_put(w, &bytes);
    struct kv_slice arg = kv_buf_slice(&bytes);
    r->done = seeded;
    r->owner = n;
    r->internal = true;
    r->body = (struct kv_request){.op = KV_OP_KSSEED, .args = &arg, .arg_count = 1, .keyspace = KV_KEYSPACE_SYSTEM};
    n->seeding = true;
    request_start(r); /* keeps what it needs of the argument */
    kv_buf_free(&bytes);
}

/* ---- the roles of this node ---- */

static void said(struct request *r, const struct kv_reply *reply)
{
    struct nodes *n = r->owner;
    struct kv_slice in = reply->value;
    struct resp_value v = {.type = RESP_NULL};
    n->is_saying = false;
    if (in.size > 0) (void)resp_next(&in, SIZE_MAX, &v);
    if (reply->err == KV_OK && v.type != RESP_ERROR) return;
    struct kv_slice why = v.type == RESP_ERROR ? v.text : reply->detail;
    n->say_ns = env_now_ns(n->w->env) + (v.type == RESP_ERROR ? KV_SECONDS(ROLES_RETRY_S) : KV_MS(SEED_RETRY_MS));
    JOURNAL(n->w->journal, peer, WARN, "roles-refused", "err=%s why=\"%.*s\"", kv_err_name(reply->err),
            (int)(why.size < 160 ? why.size : 160), why.size == 0 ? "" : (const char *)why.data);
}

static uint32_t all_of(uint32_t roles)
{
    return roles == 0 ? KV_NODE_ROLES_ALL : roles;
}

/* The node was started with others than the rows say. They are what counts for its replicas; it goes on asking. */
static void say_roles(struct worker *w, uint64_t now_ns)
{
    struct nodes *n = w->nodes;
    const struct nodes_entry *self = nodes_find(w, w->node_id);
    if (config_roles(w->config) == 0 || n->m.version == 0 || self == NULL || self->state == KV_NODE_REMOVED || all_of(self->roles) == all_of(n->roles) || n->is_saying ||
        now_ns < n->say_ns || w->stopping || w->poisoned)
        return;
    struct nodes_entry now = *self;
    struct kv_buf bytes = {0};
    char id[16];
    now.roles = all_of(n->roles);
    ports_set(&now, (uint16_t)w->config->resp_port, (uint16_t)w->config->resp_cluster_port);
    struct kv_node_info info = info_of(&now);
    kv_node_encode(&info, &bytes);
    n->say_ns = now_ns + KV_MS(SEED_RETRY_MS);
    struct request *r = bytes.failed ? NULL : request_make(w);
    (void)snprintf(id, sizeof id, "%u", w->node_id);
    struct kv_slice args[3] = {kv_str(id), kv_str(EXEC_NODE_SELF), kv_buf_slice(&bytes)};
    if (r != NULL) {
        r->done = said;
        r->owner = n;
        r->internal = true;
        r->body = (struct kv_request){.op = KV_OP_KSNODE, .args = args, .arg_count = 3, .keyspace = KV_KEYSPACE_SYSTEM};
        n->is_saying = true;
        request_start(r); /* keeps what it needs of the arguments */
    }
    kv_buf_free(&bytes);
}

/* ---- to the disk ---- */

static void save_run(struct disk_request *q)
{
    struct nodes *n = container_of(q, struct nodes, save);
    n->save_err = membership_write(n->w->o.disk, &n->saving);
}

static void save_done(struct disk_request *q, enum kv_err err)
{
    struct nodes *n = container_of(q, struct nodes, save);
    n->is_saving = false;
    if (err == KV_OK) err = n->save_err;
    if (err == KV_OK) n->saved = n->saving.version;
    else JOURNAL(n->w->journal, peer, WARN, "nodes-unsaved", "err=%s", kv_err_name(err));
}

static void save(struct worker *w)
{
    struct nodes *n = w->nodes;
    if (n->is_saving || n->saved >= n->m.version || w->poisoned) return;
    n->saving = n->m;
    n->saving.node = w->node_id;
    memcpy(n->saving.cluster, w->cluster_id, sizeof n->saving.cluster);
    (void)snprintf(n->saving.name, sizeof n->saving.name, "%.64s", w->config->cluster_name);
    n->is_saving = true;
    n->save = (struct disk_request){.done = save_done, .run = save_run};
    w->o.disk->ops->work(w->o.disk, &n->save);
}

void nodes_tick(struct worker *w)
{
    if (!siblings_is_face(w)) return;
    seed(w, env_now_ns(w->env));
    say_roles(w, env_now_ns(w->env));
    save(w);
}

#include "client/base/hash.h"
#include "client/wire/job.h"
#include "server/keyspaces.h"
#include "server/map.h"
#include "server/nodes.h"
#include "server/request.h"
#include "storage/checkpoint_mem.h"
#include "tests/sim/cluster_impl.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* (1) What outlives a process is in struct node: disk, checkpoint, key, configuration.
 * (2) A node's first start is a bootstrap; after a wipe it never is: it comes back as a
 *     stranger and gets new replica ids (R4). */

static void secret_make(uint64_t seed, uint8_t secret[CHANNEL_KEY_BYTES])
{
    for (uint32_t i = 0; i < CHANNEL_KEY_BYTES; i += 8) {
        uint64_t r = kv_random_next(&seed);
        memcpy(secret + i, &r, 8);
    }
}

static uint64_t journal_wall(void *context)
{
    struct node *n = context;
    struct env *e = sim_host_env(n->host);
    return e == NULL ? 0 : e->ops->wall_ns(e);
}

static void journal_write(void *context, struct kv_slice line)
{
    struct node *n = context;
    /* Time and node are in the trace already: "2026-.. info module event ..". */
    const uint8_t *space = line.size == 0 ? NULL : memchr(line.data, ' ', line.size);
    size_t skip = space == NULL ? 0 : (size_t)(space - line.data) + 1, size = line.size - skip;
    if (size > 0 && line.data[line.size - 1] == '\n') size--;
    sim_note(n->cluster->o.sim, n->host, "%.*s", (int)size, (const char *)line.data + skip);
}

static void stop_wanted(void *context)
{
    ((struct node *)context)->stop_wanted = true;
}

static void journal_event(void *context, enum journal_module module, const char *event)
{
    struct node *n = context;
    (void)module;
    if (strcmp(event, "removed") == 0 || (n->is_removed && strcmp(event, "link-refused") == 0)) n->is_told = true;
    if (n->cluster->o.event != NULL) n->cluster->o.event(n->cluster->o.event_context, n->id, event);
}

/* The media of a node; false: out of memory. */
static bool media_make(struct cluster *c, struct node *n, uint64_t seed)
{
    bool made = true;
    for (uint32_t k = 0; k < workers_of(c); k++) {
        struct desk *d = &n->desks[k];
        d->checkpoint = checkpoint_mem_create();
        d->disk = disk_sim_create(&(struct disk_sim_options){.sim = c->o.sim,
                                                             .host = n->host,
                                                             .seed = seed + k,
                                                             .sync_min_ns = c->o.sync_min_ns,
                                                             .sync_max_ns = c->o.sync_max_ns,
                                                             .work_max_ns = c->o.work_max_ns});
        made = made && d->checkpoint != NULL && d->disk != NULL;
    }
    return made;
}

static void media_end(struct cluster *c, struct node *n)
{
    for (uint32_t k = 0; k < workers_of(c); k++) {
        struct desk *d = &n->desks[k];
        disk_sim_destroy(d->disk);
        if (d->checkpoint != NULL) d->checkpoint->ops->destroy(d->checkpoint);
        d->disk = NULL;
        d->checkpoint = NULL;
    }
}

/* ---- mail between workers: it comes at a seeded moment, in its order ---- */

static void mail_comes(struct worker *w)
{
    if (w != NULL) worker_mail(w);
}

static void up_comes(struct sim_event *e)
{
    mail_comes(container_of(e, struct desk, up_wakes)->node->desks[0].worker);
}

static void down_comes(struct sim_event *e)
{
    mail_comes(container_of(e, struct desk, down_wakes)->worker);
}

static void wakes(struct desk *d, struct sim_event *e)
{
    struct sim *s = d->cluster->o.sim;
    uint64_t most = sim_chance(s, 20000) ? KV_MS(20) : 30000; /* now and then the other thread does not get to run */
    sim_after(s, d->host, e, 1000 + sim_below(s, most));
}

static void up_wakes(void *context)
{
    struct desk *d = context;
    wakes(d, &d->up_wakes);
}

static void down_wakes(void *context)
{
    struct desk *d = context;
    wakes(d, &d->down_wakes);
}

static void mail_end(struct node *n)
{
    for (uint32_t k = 1; k < workers_of(n->cluster); k++) {
        struct desk *d = &n->desks[k];
        sim_cancel(n->cluster->o.sim, &d->up_wakes);
        sim_cancel(n->cluster->o.sim, &d->down_wakes);
        mailbox_destroy(n->up[k]);
        mailbox_destroy(n->down[k]);
        n->up[k] = n->down[k] = NULL;
    }
}

static void mail_make(struct node *n)
{
    enum { MESSAGES = 32 }; /* few, so that they fill now and then */
    for (uint32_t k = 1; k < workers_of(n->cluster); k++) {
        struct desk *d = &n->desks[k];
        d->up_wakes.fire = up_comes;
        d->down_wakes.fire = down_comes;
        n->up[k] = mailbox_create(&(struct mailbox_options){.messages_max = MESSAGES, .wake = up_wakes, .context = d});
        n->down[k] = mailbox_create(&(struct mailbox_options){.messages_max = MESSAGES, .wake = down_wakes, .context = d});
        assert(n->up[k] != NULL && n->down[k] != NULL);
    }
}

static void roles_configure(struct node *n)
{
    struct config *k = &n->config;
    if (n->cluster->roles[n->id] == KV_NODE_ROLES_ALL && k->places[CONFIG_ROW_node_roles] == CONFIG_PLACE_DEFAULT) return;
    kv_node_roles_text(n->cluster->roles[n->id], k->node_roles);
    config_place(k, "node.roles", CONFIG_PLACE_OPTION);
}

static void node_configure(struct cluster *c, struct node *n)
{
    struct config *k = &n->config;
    config_defaults(k);
    snprintf(k->cluster_name, sizeof k->cluster_name, "sim");
    snprintf(k->cluster_id, sizeof k->cluster_id, "000102030405060708090a0b0c0d0e0f");
    k->node_id = n->id;
    k->workers = workers_of(c);
    roles_configure(n);
    snprintf(k->native_host, sizeof k->native_host, "10.0.0.%u", n->id);
    snprintf(k->resp_host, sizeof k->resp_host, "10.0.0.%u", n->id);
    k->native_port = CLUSTER_NATIVE_PORT;
    k->resp_port = CLUSTER_RESP_PORT;
    k->bootstrap = true;
    uint32_t founders = c->o.nodes - c->o.late;
    if (founders == 0) founders = 1;
    k->cluster_replicas = c->o.replicas == 0 ? founders : c->o.replicas;
    k->node_count = founders == 1 ? 0 : founders;
    for (uint32_t i = 0; i < k->node_count; i++) {
        struct config_node *x = &k->nodes[i];
        x->id = i + 1;
        snprintf(x->host, sizeof x->host, "10.0.0.%u", i + 1);
        x->native = CLUSTER_NATIVE_PORT;
        x->resp = CLUSTER_RESP_PORT;
        x->roles = c->roles[i + 1];
        memcpy(x->key, c->nodes[i].identity.public_key, sizeof x->key);
    }
    if (n->id > founders) { /* it has an address to ask, and gets a token by cluster_invite() */
        k->bootstrap = false;
        k->node_count = 0;
        k->node_id = 1;
        k->cluster_id[0] = '\0';
        snprintf(k->cluster_join, sizeof k->cluster_join, "10.0.0.%u:%u", 1 + n->id % founders, CLUSTER_NATIVE_PORT);
    }
    if (c->o.tune != NULL) c->o.tune(c->o.context, k);
}

struct cluster *cluster_create(const struct cluster_options *o)
{
    assert(o->nodes >= 1 && o->nodes <= CLUSTER_NODES_MAX && o->workers <= CLUSTER_WORKERS_MAX);
    struct cluster *c = calloc(1, sizeof *c);
    if (c == NULL) return NULL;
    c->o = *o;
    for (uint32_t i = 1; i <= o->nodes; i++) c->roles[i] = c->had[i] = o->roles_of == NULL || o->roles_of[i] == 0 ? KV_NODE_ROLES_ALL : o->roles_of[i];
    uint64_t seed = o->seed;
    uint8_t secret[CHANNEL_KEY_BYTES];
    secret_make(kv_random_next(&seed), secret);
    channel_identity_make(&c->client, secret);
    memcpy(c->allowed_keys[0], c->client.public_key, CHANNEL_KEY_BYTES);
    c->allowed = (struct keys_allowed){.keys = c->allowed_keys, .count = 1};
    for (uint32_t i = 0; i < o->nodes; i++) {
        secret_make(kv_random_next(&seed), secret);
        channel_identity_make(&c->nodes[i].identity, secret);
    }
    for (uint32_t i = 0; i < o->nodes; i++) {
        struct node *n = &c->nodes[i];
        char address[32];
        snprintf(address, sizeof address, "10.0.0.%u", i + 1);
        n->cluster = c;
        n->id = i + 1;
        n->host = sim_host_add(o->sim, address);
        for (uint32_t k = 0; k < workers_of(c); k++)
            n->desks[k] = (struct desk){.node = n, .cluster = c, .id = n->id, .index = k, .host = n->host};
        if (n->host == NULL || !media_make(c, n, kv_random_next(&seed))) {
            cluster_destroy(c);
            return NULL;
        }
        n->journal = (struct journal){.node = n->id, .wall_ns = journal_wall, .write = journal_write, .event = journal_event, .context = n};
        const char *why = "";
        enum kv_err err = journal_set(&n->journal, o->log_levels == NULL ? "info" : o->log_levels, &why);
        assert(err == KV_OK);
        node_configure(c, n);
    }
    return c;
}

static void joined(void *context, enum kv_err err)
{
    struct node *n = context;
    n->join_err = err;
    n->is_joined = true;
}

static bool join_begin(struct node *n)
{
    struct join_options o = {.config = &n->config,
                             .env = sim_host_env(n->host),
                             .disk = disk_sim_disk(n->desks[0].disk),
                             .identity = &n->identity,
                             .journal = &n->journal,
                             .done = joined,
                             .context = n};
    n->is_joined = false;
    return join_start(&o, &n->join) == KV_OK;
}

void cluster_invite(struct cluster *c, uint32_t node, const char *token)
{
    struct node *n = node_of(c, node);
    assert(node > c->o.nodes - c->o.late);
    snprintf(n->config.cluster_token, sizeof n->config.cluster_token, "%s", token);
    n->is_invited = true;
}

/* As server/lanes.c, on one loop. */
static enum kv_err workers_start(struct node *n)
{
    struct cluster *c = n->cluster;
    struct worker *workers[CLUSTER_WORKERS_MAX] = {NULL};
    enum kv_err err = KV_OK;
    mail_make(n);
    for (uint32_t k = 0; k < workers_of(c) && err == KV_OK; k++) {
        struct desk *d = &n->desks[k];
        struct worker_options w = {.config = &n->config,
                                   .env = sim_host_env(n->host),
                                   .disk = disk_sim_disk(d->disk),
                                   .checkpoint = d->checkpoint,
                                   .identity = &n->identity,
                                   .clients = &c->allowed,
                                   .journal = &n->journal,
                                   .stop_wanted = k == 0 ? stop_wanted : NULL,
                                   .context = n,
                                   .keeps_history = true,
                                   .index = k,
                                   .count = workers_of(c),
                                   .first = n->desks[0].worker,
                                   .in = k == 0 ? n->up : &n->down[k],
                                   .out = k == 0 ? n->down : &n->up[k]};
        err = worker_create(&w, &d->worker, n->why, sizeof n->why);
        workers[k] = d->worker;
    }
    if (err == KV_OK) err = worker_record(workers, workers_of(c), n->why, sizeof n->why);
    for (uint32_t k = workers_of(c); err == KV_OK && k-- > 0;) err = worker_start(workers[k], n->why, sizeof n->why);
    return err;
}

bool cluster_start(struct cluster *c, uint32_t node)
{
    struct node *n = node_of(c, node);
    assert(n->desks[0].worker == NULL);
    if (!sim_host_up(n->host)) sim_host_start(n->host);
    for (uint32_t k = 0; k < workers_of(c); k++)
        if (disk_mem_is_crashed(disk_sim_mem(n->desks[k].disk))) disk_sim_restart(n->desks[k].disk);
    n->stop_wanted = false;
    n->why[0] = '\0';
    if (n->id > c->o.nodes - c->o.late) {
        enum kv_err place = membership_overlay(disk_sim_disk(n->desks[0].disk), &n->config, n->why, sizeof n->why);
        if (place == KV_NOT_FOUND) return join_begin(n);
        assert(place == KV_OK);
    }
    if (workers_start(n) == KV_OK) return true;
    sim_note(c->o.sim, n->host, "does not start: %s", n->why);
    cluster_crash(c, node, SIM_KILL);
    return false;
}

void cluster_crash(struct cluster *c, uint32_t node, enum sim_death how)
{
    struct node *n = node_of(c, node);
    sim_host_kill(n->host, how);
    for (uint32_t k = 0; k < workers_of(c); k++) disk_sim_crash(n->desks[k].disk, how);
    join_destroy(n->join, true);
    n->join = NULL;
    for (uint32_t k = 0; k < workers_of(c); k++) {
        worker_destroy(n->desks[k].worker); /* closes its view, so before the views die */
        n->desks[k].worker = NULL;
        checkpoint_mem_crash(n->desks[k].checkpoint);
    }
    mail_end(n);
    n->stop_wanted = false;
}

void cluster_wipe(struct cluster *c, uint32_t node)
{
    struct node *n = node_of(c, node);
    assert(n->desks[0].worker == NULL);
    media_end(c, n);
    bool made = media_make(c, n, sim_random(c->o.sim));
    assert(made);
    n->config.bootstrap = false;
    sim_note(c->o.sim, n->host, "wiped");
}

void cluster_stop(struct cluster *c, uint32_t node)
{
    struct node *n = node_of(c, node);
    worker_stop(n->desks[0].worker, stop_wanted, n);
}

void cluster_transfer(struct cluster *c, uint32_t node)
{
    for (uint32_t k = 0; k < workers_of(c); k++) {
        struct worker *w = node_of(c, node)->desks[k].worker;
        uint32_t cursor = 0;
        uint64_t id;
        void *v;
        while (kv_map_next(&w->groups, &cursor, &id, &v)) {
            struct group *g = v;
            if (!group_leads(g)) continue;
            raft_transfer(g->raft, 0, env_now_ns(w->env));
            group_touch(g);
        }
    }
}

static void note_written(struct cluster *c, uint32_t keyspace, uint64_t number)
{
    struct written *w = &c->written[keyspace % KEYSPACES_KEPT];
    if (w->keyspace != keyspace) *w = (struct written){.keyspace = keyspace};
    w->keys |= (uint8_t)(1u << number);
}

static void asked(struct request *r, const struct kv_reply *reply)
{
    struct node *n = r->owner;
    if (r->body.op == KV_OP_SET && reply->err == KV_OK) note_written(n->cluster, r->body.keyspace, r->owner_id);
    sim_note(n->cluster->o.sim, n->host, "%s: %s %.*s", kv_op_info(r->body.op)->name, kv_err_name(reply->err),
             (int)(reply->detail.size < 60 ? reply->detail.size : 60), reply->detail.size == 0 ? "" : (const char *)reply->detail.data);
}

static void job_ask(struct node *n, const struct kv_job *j)
{
    struct kv_buf bytes = {0};
    struct request *r = request_make(n->desks[0].worker);
    if (r == NULL) return;
    kv_job_encode(j, &bytes);
    struct kv_slice args[2] = {kv_str(kv_job_kind_text(j->kind)), kv_buf_slice(&bytes)};
    sim_note(n->cluster->o.sim, n->host, "job: %s of partition %u from node %u to node %u", kv_job_kind_text(j->kind), j->partition, j->from, j->to);
    r->done = asked;
    r->owner = n;
    r->body = (struct kv_request){.op = KV_OP_JOBOPEN, .args = args, .arg_count = 2, .keyspace = KV_KEYSPACE_DEFAULT};
    request_start(r);
    kv_buf_free(&bytes);
}

static void job_cancel(struct cluster *c, struct node *n, uint64_t drawn)
{
    char id[24];
    struct request *r = request_make(n->desks[0].worker);
    if (r == NULL) return;
    snprintf(id, sizeof id, "%llu", (unsigned long long)cluster_job_open(c, n->id, drawn));
    struct kv_slice args[2] = {kv_str(id), kv_str("cancel")};
    sim_note(c->o.sim, n->host, "job: cancel %s", id);
    r->done = asked;
    r->owner = n;
    r->body = (struct kv_request){.op = KV_OP_JOBSET, .args = args, .arg_count = 2, .keyspace = KV_KEYSPACE_DEFAULT};
    request_start(r);
}

/* As a job, or asked of the partition itself: one in four. One in eight times some job is cancelled instead. */
void cluster_move(struct cluster *c, uint32_t node, uint64_t partition, uint64_t voter, uint64_t to)
{
    struct node *n = node_of(c, node);
    struct worker *face = n->desks[0].worker;
    uint32_t count = 0;
    while (map_at(face, count) != NULL) count++;
    if (count == 0) return;
    if (to / 64 % 8 == 0) {
        job_cancel(c, n, partition);
        return;
    }
    const struct descriptor *d = map_descriptor(map_at(face, (uint32_t)(partition % count)));
    uint32_t free_nodes[CLUSTER_NODES_MAX], free_count = 0;
    for (uint32_t i = 1; i <= c->o.nodes; i++) {
        bool has = false;
        for (uint32_t k = 0; k < d->replica_count; k++) has = has || d->replicas[k].node == i;
        if (!has && cluster_is_member(c, i)) free_nodes[free_count++] = i;
    }
    if (d->replica_count > 0 && workers_of(c) > 1 && d->id != KV_PARTITION_SYSTEM && to / CLUSTER_NODES_MAX % 2 == 0) {
        free_nodes[0] = d->replicas[voter % d->replica_count].node;
        free_count = 1;
    }
    if (free_count == 0 || d->replica_count == 0) return;
    struct kv_job j = {.kind = KV_JOB_MOVE,
                       .partition = d->id,
                       .keyspace = d->keyspace,
                       .from = d->replicas[voter % d->replica_count].node,
                       .to = free_nodes[to % free_count],
                       .range_epoch = d->range_epoch,
                       .conf_epoch = d->conf_epoch};
    if (to / 64 % 8 > 2) {
        job_ask(n, &j);
        return;
    }
    char text[3][24];
    snprintf(text[0], sizeof text[0], "%u", j.partition);
    snprintf(text[1], sizeof text[1], "%u", j.from);
    snprintf(text[2], sizeof text[2], "%u", j.to);
    struct kv_slice args[3] = {kv_str(text[0]), kv_str(text[1]), kv_str(text[2])};
    sim_note(c->o.sim, n->host, "move: partition %s from node %s to node %s", text[0], text[1], text[2]);
    node_ask(n, KV_OP_KVMOVE, KV_KEYSPACE_DEFAULT, args, 3);
}

static void numbered_ask(struct node *n, enum kv_op op, uint32_t keyspace, const struct kv_slice *args, uint32_t count, uint64_t number)
{
    struct request *r = request_make(n->desks[0].worker);
    if (r == NULL) return;
    r->done = asked;
    r->owner = n;
    r->owner_id = number;
    r->body = (struct kv_request){.op = op, .args = args, .arg_count = count, .keyspace = keyspace};
    request_start(r);
}

void node_ask(struct node *n, enum kv_op op, uint32_t keyspace, const struct kv_slice *args, uint32_t count)
{
    numbered_ask(n, op, keyspace, args, count, 0);
}

static void ask(struct node *n, enum kv_op op, uint16_t slot)
{
    struct kv_key key;
    kv_key_slot_start(KV_KEYSPACE_DEFAULT, slot, &key);
    struct kv_slice arg = kv_key_slice(&key);
    node_ask(n, op, KV_KEYSPACE_DEFAULT, &arg, 1);
}

/* The same as a job, where the node's map allows one; every other slot. */
static bool ask_job(struct node *n, enum kv_job_kind kind, uint16_t slot)
{
    struct kv_key key;
    kv_key_slot_start(KV_KEYSPACE_DEFAULT, slot, &key);
    const struct partition *p = map_find(n->desks[0].worker, kv_key_slice(&key)), *left = map_ending(n->desks[0].worker, kv_key_slice(&key));
    if (slot % 2 == 0 || p == NULL || (kind == KV_JOB_MERGE && (left == NULL || left == p))) return false;
    struct kv_job j = {.kind = kind, .partition = p->id, .keyspace = KV_KEYSPACE_DEFAULT, .key = kv_key_slice(&key), .range_epoch = map_descriptor(p)->range_epoch};
    if (kind == KV_JOB_MERGE) j.other = left->id;
    job_ask(n, &j);
    return true;
}

void cluster_keyspace(struct cluster *c, uint32_t node, uint32_t number, uint64_t drawn)
{
    enum { WRITES = 8 };
    struct node *n = node_of(c, node);
    char name[16], key[16];
    struct kv_slice splits[] = {kv_str("b"), kv_str("d")};
    struct kv_label labels[] = {{kv_str("a"), 0}, {kv_str("b"), 0}};
    struct kv_label_group groups[] = {{kv_str("listed"), labels, 2}, {kv_str("rest"), NULL, 0}};
    snprintf(name, sizeof name, "k%u", number);
    struct kv_keyspace k = {.name = kv_str(name), .kind = (enum kv_key_kind)(drawn / 8 % 3), .replicas = cluster_replicas(c, 1)};
    switch (k.kind) {
    case KV_KEY_HASH: k.partitions = 2; break;
    case KV_KEY_RANGE:
        k.splits = splits;
        k.split_count = 2;
        break;
    case KV_KEY_LIST:
        k.groups = groups;
        k.group_count = 2;
        k.default_group = kv_str("rest");
        k.delimiter = '/';
        break;
    }
    const struct kv_keyspace *there = keyspaces_named(n->desks[0].worker, k.name);
    if (drawn % 8 < 3 || (there == NULL && drawn % 8 < 6)) {
        struct kv_buf bytes = {0};
        kv_keyspace_encode(&k, &bytes);
        struct kv_slice args[2] = {k.name, kv_buf_slice(&bytes)};
        node_ask(n, KV_OP_KSCREATE, KV_KEYSPACE_DEFAULT, args, 2);
        kv_buf_free(&bytes);
    } else if (there == NULL || drawn % 8 == 3) {
        struct kv_slice args[2] = {k.name, kv_str(drawn / 64 % 2 == 0 ? "JOB" : "FORCE")};
        node_ask(n, KV_OP_KSDROP, KV_KEYSPACE_DEFAULT, args, 2);
    } else {
        uint32_t id = there->id; /* what it points to may change with the first write */
        for (uint32_t i = 0; i < WRITES; i++) {
            snprintf(key, sizeof key, "%c/%u", "abcdef"[i % 6], i);
            struct kv_slice args[2] = {kv_str(key), k.name};
            numbered_ask(n, KV_OP_SET, id, args, 2, i);
        }
    }
}

void cluster_divide(struct cluster *c, uint32_t node, uint16_t slot)
{
    struct node *n = node_of(c, node);
    if (!ask_job(n, KV_JOB_SPLIT, slot)) ask(n, KV_OP_KVSPLIT, slot);
}

void cluster_unite(struct cluster *c, uint32_t node, uint16_t slot, bool before)
{
    struct node *n = node_of(c, node);
    const struct partition *p = map_slot(n->desks[0].worker, slot);
    if (p != NULL) slot = kv_key_slot(kv_key_slice(before ? &map_descriptor(p)->from : &map_descriptor(p)->to));
    if (!ask_job(n, KV_JOB_MERGE, slot)) ask(n, KV_OP_KVMERGE, slot);
}

uint32_t cluster_reap(struct cluster *c)
{
    uint32_t count = 0;
    removals_see(c);
    for (uint32_t i = 1; i <= c->o.nodes; i++) {
        struct node *n = node_of(c, i);
        if (n->is_welcome) {
            n->is_welcome = false;
            (void)cluster_start(c, i);
        }
        if (n->join != NULL && n->is_joined) { /* as server/main.c: it goes on as a node, or ends */
            sim_note(c->o.sim, n->host, "join: %s %s", kv_err_name(n->join_err), join_why(n->join));
            join_destroy(n->join, false);
            n->join = NULL;
            if (n->join_err == KV_OK) (void)cluster_start(c, i);
            else n->stop_wanted = true;
        }
        if (!node_of(c, i)->stop_wanted) continue;
        sim_note(c->o.sim, node_of(c, i)->host, "stopped, or asked to be");
        cluster_crash(c, i, SIM_KILL);
        count++;
    }
    return count;
}

void cluster_destroy(struct cluster *c)
{
    if (c == NULL) return;
    for (uint32_t i = 0; i < c->o.nodes; i++) {
        struct node *n = &c->nodes[i];
        bool whole = n->host != NULL;
        for (uint32_t k = 0; k < workers_of(c); k++) whole = whole && n->desks[k].disk != NULL && n->desks[k].checkpoint != NULL;
        if (whole && sim_host_up(n->host)) cluster_crash(c, i + 1, SIM_KILL);
        media_end(c, n);
    }
    for (uint32_t g = 0; g < GROUPS_MAX; g++) free(c->annals[g]);
    free(c);
}

uint32_t cluster_size(const struct cluster *c)
{
    return c->o.nodes;
}

bool cluster_has_role(const struct cluster *c, uint32_t node, enum kv_node_role role)
{
    return (c->roles[node] & (uint32_t)role) != 0;
}

/* Nodes with the role that are there to stay. */
static uint32_t holders(const struct cluster *c, enum kv_node_role role)
{
    uint32_t count = 0;
    for (uint32_t i = 1; i <= c->o.nodes; i++) count += cluster_is_member(c, i) && !node_of(c, i)->is_to_go && cluster_has_role(c, i, role);
    return count;
}

bool cluster_is_needed(const struct cluster *c, uint32_t node, enum kv_node_role role)
{
    uint32_t needed = role == KV_NODE_GATEWAY || c->roles[node] == (uint32_t)role ? 1 : c->o.replicas;
    return cluster_has_role(c, node, role) && holders(c, role) < needed + 1;
}

bool cluster_change_role(struct cluster *c, uint32_t node, enum kv_node_role role)
{
    if (cluster_is_needed(c, node, role) || c->roles[node] == (uint32_t)role) return false;
    c->roles[node] ^= (uint32_t)role;
    c->had[node] |= c->roles[node];
    roles_configure(node_of(c, node));
    return true;
}

uint32_t cluster_replicas(const struct cluster *c, uint32_t partition)
{
    uint32_t places = 0;
    for (uint32_t i = 1; i <= c->o.nodes; i++) places += cluster_is_member(c, i) && cluster_has_role(c, i, nodes_role_for(partition));
    return c->o.replicas == 0 || c->o.replicas > places ? places : c->o.replicas;
}

const struct config *cluster_config(const struct cluster *c, uint32_t node)
{
    return &node_of(c, node)->config;
}

struct sim_host *cluster_host(struct cluster *c, uint32_t node)
{
    return node_of(c, node)->host;
}

uint32_t cluster_workers(const struct cluster *c)
{
    return workers_of(c);
}

struct disk_sim *cluster_disk_of(struct cluster *c, uint32_t node, uint32_t worker)
{
    return node_of(c, node)->desks[worker].disk;
}

struct disk_sim *cluster_disk(struct cluster *c, uint32_t node)
{
    return cluster_disk_of(c, node, node % workers_of(c));
}

struct worker *cluster_worker(struct cluster *c, uint32_t node)
{
    return node_of(c, node)->desks[0].worker;
}

struct worker *cluster_worker_struck(struct cluster *c, uint32_t node)
{
    return node_of(c, node)->desks[node % workers_of(c)].worker;
}

uint32_t cluster_busy_node(const struct cluster *c)
{
    return c->busy_node;
}

bool cluster_up(const struct cluster *c, uint32_t node)
{
    return node_of(c, node)->desks[0].worker != NULL;
}

const char *cluster_why(const struct cluster *c, uint32_t node)
{
    return node_of(c, node)->why;
}

void cluster_client_identity(const struct cluster *c, struct channel_identity *out)
{
    *out = c->client;
}

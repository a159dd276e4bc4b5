#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "client/base/text.h"
#include "server/host.h"
#include "server/keyspaces.h"
#include "server/map.h"
#include "server/nodes.h"
#include "server/peer.h"
#include "server/seats.h"
#include "server/siblings.h"

/* What the node says about itself: KVSTATUS (JSON), KVMAP, INFO. */

static int id_order(const void *a, const void *b)
{
    const struct group *x = *(struct group *const *)a, *y = *(struct group *const *)b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* All groups by their ids, to be freed, NULL behind the last; NULL: none, or no memory. */
static struct group **groups_sorted(const struct worker *w)
{
    struct group **groups = calloc(w->groups.count + 1, sizeof *groups);
    uint32_t cursor = 0, count = 0;
    uint64_t id;
    void *v;
    if (groups == NULL) return NULL;
    while (kv_map_next(&w->groups, &cursor, &id, &v)) groups[count++] = v;
    qsort(groups, count, sizeof *groups, id_order);
    return groups;
}

static void replica_json(const struct group *g, const struct raft_status *s, const struct descriptor_replica *r,
                         struct kv_buf *out)
{
    static const char *const roles[] = {"voter", "learner", "incoming", "outgoing"};
    uint64_t match = r->id == g->replica ? s->last : 0;
    bool active = r->id == g->replica || r->id == s->leader;
    for (uint8_t i = 0; i < s->peer_count; i++)
        if (s->peers[i].id == r->id) {
            match = s->peers[i].match;
            active = active || s->peers[i].active;
        }
    kv_buf_printf(out, "{\"id\":%u,\"node\":%u,\"role\":\"%s\",\"match\":%llu,\"active\":%s}", r->id, r->node,
                  roles[r->role], (unsigned long long)match, active ? "true" : "false");
}

/* Of all workers together. */
static void stats_sum(const struct worker *w, struct store_stats *st)
{
    store_stats(w->store, st);
    for (uint32_t k = 1; k < siblings_count(w); k++) {
        const struct store_stats *x = &siblings_state(w, k)->stats;
        st->log_bytes += x->log_bytes;
        st->checkpoint_bytes += x->checkpoint_bytes;
        st->memtable_bytes += x->memtable_bytes;
        st->frozen_bytes += x->frozen_bytes;
        st->checkpoints += x->checkpoints;
        st->syncs += x->syncs;
        st->appends += x->appends;
    }
}

struct reads {
    uint64_t of[KV_LEVEL_ANY + 1], rounds, served[2];
};
static struct reads reads_sum(const struct worker *w)
{
    struct reads r = {.rounds = w->read_rounds, .served = {w->loads.served[0], w->loads.served[1]}};
    memcpy(r.of, w->reads, sizeof r.of);
    for (uint32_t k = 1; k < siblings_count(w); k++) {
        r.rounds += siblings_state(w, k)->read_rounds;
        for (int kind = 0; kind < 2; kind++) r.served[kind] += siblings_state(w, k)->served[kind];
        for (int level = 0; level <= KV_LEVEL_ANY; level++) r.of[level] += siblings_state(w, k)->reads[level];
    }
    return r;
}

static bool is_full(const struct worker *w)
{
    return siblings_node_is_full(w);
}

static unsigned long line_id(struct kv_slice line)
{
    static const char before[] = "{\"id\":";
    return line.size < sizeof before ? 0 : strtoul((const char *)line.data + sizeof before - 1, NULL, 10);
}

static int line_order(const void *a, const void *b)
{
    unsigned long x = line_id(*(const struct kv_slice *)a), y = line_id(*(const struct kv_slice *)b);
    return x < y ? -1 : x > y;
}

struct kv_slice *status_lines(struct kv_slice text, uint32_t *count)
{
    uint32_t room = 0;
    *count = 0;
    for (size_t i = 0; i < text.size; i++) room += text.data[i] == '\n';
    struct kv_slice *lines = calloc(room + 1, sizeof *lines);
    for (size_t at = 0; lines != NULL && *count < room; at += lines[(*count)++].size + 1) {
        const uint8_t *end = memchr(text.data + at, '\n', text.size - at);
        lines[*count] = kv_slice(text.data + at, (size_t)(end - text.data) - at);
    }
    return lines;
}

/* Groups of all workers by their ids, as members of an array. */
static void groups_merge(struct worker *w, struct kv_slice others, struct kv_buf *out)
{
    struct kv_buf text = {0};
    uint32_t count;
    status_groups(w, &text);
    kv_buf_append_slice(&text, others);
    struct kv_slice *lines = status_lines(kv_buf_slice(&text), &count);
    if (lines != NULL) qsort(lines, count, sizeof *lines, line_order);
    for (uint32_t n = 0; lines != NULL && n < count; n++) {
        if (n > 0) kv_buf_append_u8(out, ',');
        kv_buf_append_slice(out, lines[n]);
    }
    free(lines);
    kv_buf_free(&text);
}

void status_json(struct worker *w, struct kv_buf *out, struct kv_slice others)
{
    struct store_stats st;
    struct reads reads = reads_sum(w);
    stats_sum(w, &st);
    uint64_t now = env_now_ns(w->env), id = store_id(w->store);
    uint8_t store[8];
    uint32_t keyspaces;
    uint64_t directory;
    (void)keyspaces_all(w, &keyspaces, &directory);
    for (int i = 0; i < 8; i++) store[i] = (uint8_t)(id >> (56 - 8 * i));
    const struct nodes_entry *self = nodes_find(w, w->node_id);
    char roles[KV_NODE_ROLES_TEXT_BYTES];
    kv_node_roles_text(self == NULL ? 0 : self->roles, roles);
    kv_buf_printf(out, "{\"node\":%u,\"roles\":\"%s\",\"store\":\"", w->node_id, roles);
    kv_hex_encode(out, kv_slice(store, sizeof store));
    kv_buf_append_text(out, "\",\"cluster\":");
    kv_json_string(out, kv_str(w->config->cluster_name));
    kv_buf_printf(out,
                  ",\"version\":\"%s\",\"uptime_ms\":%llu,\"full\":%s,\"clock_alarm\":%s,\"clock_ahead_ms\":%lld,\"log_bytes\":%llu,"
                  "\"disk_bytes\":%llu,\"memtable_bytes\":%llu,\"connections\":%u,\"peers\":%u,\"workers\":%u,\"directory\":%llu,\"served\":{\"reads\":%llu,\"writes\":%llu},"
                  "\"reads\":{\"linearizable\":%llu,\"lease\":%llu,\"bounded\":%llu,\"any\":%llu,\"rounds\":%llu,\"sent\":%llu},\"groups\":[",
                  KVD_VERSION, (unsigned long long)((now - w->started_ns) / 1000000u),
                  is_full(w) ? "true" : "false", w->clock.alarm ? "true" : "false",
                  (long long)w->clock.ahead_ms, (unsigned long long)st.log_bytes,
                  (unsigned long long)(st.log_bytes + st.checkpoint_bytes),
                  (unsigned long long)(st.memtable_bytes + st.frozen_bytes), host_connections(w->host),
                  peer_connected_count(w->peers), siblings_count(w), (unsigned long long)directory, (unsigned long long)reads.served[LOAD_READ],
                  (unsigned long long)reads.served[LOAD_WRITE], (unsigned long long)reads.of[KV_LEVEL_LINEARIZABLE],
                  (unsigned long long)reads.of[KV_LEVEL_LEASE], (unsigned long long)reads.of[KV_LEVEL_BOUNDED],
                  (unsigned long long)reads.of[KV_LEVEL_ANY], (unsigned long long)reads.rounds, (unsigned long long)w->reads_sent);
    groups_merge(w, others, out);
    kv_buf_append_text(out, "]}");
}

void status_groups(struct worker *w, struct kv_buf *out)
{
    uint64_t now = env_now_ns(w->env);
    struct group **groups = groups_sorted(w);
    for (uint32_t n = 0; groups != NULL && groups[n] != NULL; n++) {
        const struct group *g = groups[n];
        struct raft_status s;
        raft_status(g->raft, now, &s);
        kv_buf_printf(out,
                      "{\"id\":%u,\"worker\":%u,\"keyspace\":%u,\"role\":\"%s\",\"leader\":%u,\"term\":%llu,\"commit\":%llu,"
                      "\"applied\":%llu,\"last\":%llu,\"compacted\":%llu,\"range_epoch\":%u,\"conf_epoch\":%u,\"lease\":%s,\"quiet\":%s,"
                      "\"reads\":%.1f,\"writes\":%.1f,\"bytes\":",
                      g->id, w->o.index, g->descriptor.keyspace, raft_role_text(s.role), group_leader_node(g),
                      (unsigned long long)s.term, (unsigned long long)s.commit, (unsigned long long)g->applied,
                      (unsigned long long)s.last, (unsigned long long)s.compacted, g->descriptor.range_epoch, g->descriptor.conf_epoch,
                      s.lease_held ? "true" : "false", s.quiet ? "true" : "false", g->load.rates[LOAD_READ], g->load.rates[LOAD_WRITE]);
        if (load_is_sized(g)) kv_buf_printf(out, "%llu", (unsigned long long)load_bytes(g));
        else kv_buf_append_text(out, "null"); /* soon after it was split or merged */
        kv_buf_append_text(out, ",\"replicas\":[");
        for (uint32_t i = 0; i < g->descriptor.replica_count; i++) {
            if (i > 0) kv_buf_append_u8(out, ',');
            replica_json(g, &s, &g->descriptor.replicas[i], out);
        }
        kv_buf_append_text(out, "]}\n");
    }
    free(groups);
}

/* All partitions this node knows: its own, and those that others told of. */
static struct kv_partition_info *partitions_tell(struct worker *w, uint32_t *count)
{
    const struct partition *at;
    struct kv_partition_info *out = calloc(w->range_count + 1, sizeof *out);
    *count = 0;
    for (uint32_t i = 0; out != NULL && (at = map_at(w, i)) != NULL; i++) {
        const struct descriptor *d = map_descriptor(at);
        struct kv_partition_info *p = &out[(*count)++];
        *p = (struct kv_partition_info){.id = d->id,
                                        .keyspace = d->keyspace,
                                        .range_epoch = d->range_epoch,
                                        .conf_epoch = d->conf_epoch,
                                        .leader = map_leader(at),
                                        .from = kv_key_slice(&d->from),
                                        .to = kv_key_slice(&d->to)};
        for (uint32_t r = 0; r < d->replica_count && p->node_count < KV_REPLICAS_MAX; r++)
            if (d->replicas[r].role != DESCRIPTOR_LEARNER) p->nodes[p->node_count++] = d->replicas[r].node;
    }
    return out;
}

void status_map(struct worker *w, struct kv_buf *out)
{
    struct kv_node_info nodes[KV_NODES_MAX];
    struct kv_map_info map = {.nodes = nodes};
    const struct nodes_entry *n;
    for (uint32_t i = 0; (n = nodes_at(w, i)) != NULL; i++) {
        if (n->state == KV_NODE_REMOVED) continue;
        nodes[map.node_count++] = (struct kv_node_info){.id = n->id,
                                                        .host = kv_str(n->host),
                                                        .port = n->native,
                                                        .resp = n->resp,
                                                        .resp_cluster = n->resp_cluster,
                                                        .key = kv_slice(n->key, sizeof n->key),
                                                        .zone = kv_str(n->zone),
                                                        .roles = n->roles,
                                                        .state = n->state};
    }
    map.nodes_version = nodes_version(w);
    map.cluster = kv_slice(w->cluster_id, sizeof w->cluster_id);
    map.partitions = partitions_tell(w, &map.partition_count);
    if (map.partitions == NULL) return;
    uint32_t count;
    const struct kv_keyspace *all = keyspaces_all(w, &count, &map.directory);
    map.keyspaces = calloc(count + 1, sizeof *map.keyspaces);
    for (uint32_t i = 0; map.keyspaces != NULL && i < count; i++) {
        map.keyspaces[map.keyspace_count] = all[i];
        map.keyspaces[map.keyspace_count++].split_count = 0; /* where partitions are says the map itself */
    }
    kv_map_encode(&map, out);
    free(map.partitions);
    free(map.keyspaces);
}

static bool section_is(const char *asked, const char *name)
{
    return asked[0] == '\0' || strcmp(asked, name) == 0 || strcmp(asked, "all") == 0 ||
           strcmp(asked, "everything") == 0 || strcmp(asked, "default") == 0;
}

/* Memory of this process in bytes; zero where the system does not tell. */
static void memory_read(uint64_t *resident, uint64_t *own)
{
    char line[128] = "", *at = line; /* "size resident shared ...", in pages */
    FILE *f = fopen("/proc/self/statm", "re");
    if (f != NULL && fgets(line, sizeof line, f) == NULL) line[0] = '\0';
    if (f != NULL) fclose(f);
    (void)strtoull(line, &at, 10);
    uint64_t pages = strtoull(at, &at, 10), shared = strtoull(at, &at, 10);
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    *resident = pages * page;
    *own = (pages - shared) * page; /* the rest is the state's file, mapped */
}

/* What redis-cli --stat and monitors for Redis read, with Redis' names. */
static void info_process(const struct worker *w, const char *section, struct kv_buf *out)
{
    struct host_stats stats = host_stats(w->host);
    struct reads reads = reads_sum(w);
    if (section_is(section, "stats"))
        kv_buf_printf(out,
                      "# Stats\r\ntotal_connections_received:%llu\r\ntotal_commands_processed:%llu\r\n"
                      "kvd_reads_linearizable:%llu\r\nkvd_reads_lease:%llu\r\nkvd_reads_bounded:%llu\r\nkvd_reads_any:%llu\r\n"
                      "kvd_read_rounds:%llu\r\nkvd_reads_sent:%llu\r\n\r\n",
                      (unsigned long long)stats.connections, (unsigned long long)stats.commands,
                      (unsigned long long)reads.of[KV_LEVEL_LINEARIZABLE], (unsigned long long)reads.of[KV_LEVEL_LEASE],
                      (unsigned long long)reads.of[KV_LEVEL_BOUNDED], (unsigned long long)reads.of[KV_LEVEL_ANY],
                      (unsigned long long)reads.rounds, (unsigned long long)w->reads_sent);
    struct rusage used;
    if (section_is(section, "cpu") && getrusage(RUSAGE_SELF, &used) == 0)
        kv_buf_printf(out, "# CPU\r\nused_cpu_sys:%lld.%06ld\r\nused_cpu_user:%lld.%06ld\r\n\r\n",
                      (long long)used.ru_stime.tv_sec, (long)used.ru_stime.tv_usec, (long long)used.ru_utime.tv_sec,
                      (long)used.ru_utime.tv_usec);
}

void status_info(void *node, bool on_cluster_face, const char *section, struct kv_buf *out)
{
    struct worker *w = node;
    struct store_stats st;
    stats_sum(w, &st);
    uint64_t uptime = (env_now_ns(w->env) - w->started_ns) / 1000000000u;
    if (section_is(section, "server"))
        kv_buf_printf(out,
                      "# Server\r\nredis_version:7.0.15\r\nkvd_version:%s\r\nredis_mode:%s\r\ntcp_port:%llu\r\n"
                      "uptime_in_seconds:%llu\r\nuptime_in_days:%llu\r\nkvd_node:%u\r\nkvd_cluster:%s\r\n\r\n",
                      KVD_VERSION, on_cluster_face ? "cluster" : "standalone",
                      (unsigned long long)(on_cluster_face ? w->config->resp_cluster_port : w->config->resp_port),
                      (unsigned long long)uptime,
                      (unsigned long long)(uptime / 86400), w->node_id, w->config->cluster_name);
    if (section_is(section, "clients"))
        kv_buf_printf(out, "# Clients\r\nconnected_clients:%u\r\nmaxclients:%llu\r\nblocked_clients:%u\r\n\r\n",
                      host_connections(w->host), (unsigned long long)w->config->connections_max,
                      host_stats(w->host).waiting);
    if (section_is(section, "memory")) {
        uint64_t resident, own;
        memory_read(&resident, &own);
        kv_buf_printf(out,
                      "# Memory\r\nused_memory:%llu\r\nused_memory_rss:%llu\r\nkvd_memtable_bytes:%llu\r\n"
                      "kvd_memtable_bytes_max:%llu\r\n\r\n",
                      (unsigned long long)own, (unsigned long long)resident,
                      (unsigned long long)(st.memtable_bytes + st.frozen_bytes),
                      (unsigned long long)w->config->storage_memtable);
    }
    if (section_is(section, "persistence"))
        kv_buf_printf(out,
                      "# Persistence\r\nloading:0\r\nkvd_log_bytes:%llu\r\nkvd_checkpoint_bytes:%llu\r\n"
                      "kvd_checkpoints:%llu\r\nkvd_log_syncs:%llu\r\nkvd_log_appends:%llu\r\nkvd_disk_full:%d\r\n\r\n",
                      (unsigned long long)st.log_bytes, (unsigned long long)st.checkpoint_bytes,
                      (unsigned long long)st.checkpoints, (unsigned long long)st.syncs, (unsigned long long)st.appends,
                      is_full(w));
    if (section_is(section, "replication")) {
        uint32_t led = 0, led_by = 0, cursor = 0, count = w->groups.count;
        uint64_t id;
        void *v;
        while (kv_map_next(&w->groups, &cursor, &id, &v)) {
            const struct group *g = v;
            led += group_leads(g);
            led_by += g->leader != 0;
        }
        for (uint32_t k = 1; k < siblings_count(w); k++) {
            const struct seat_counts *there = seats_counts(w, k);
            led += there->leads;
            led_by += there->led_by;
            count += there->replicas;
        }
        kv_buf_printf(out,
                      "# Replication\r\nrole:master\r\nconnected_slaves:%u\r\nkvd_workers:%u\r\nkvd_groups:%u\r\nkvd_groups_led:%u\r\n"
                      "kvd_groups_with_leader:%u\r\nkvd_clock_alarm:%d\r\nkvd_clock_ahead_ms:%lld\r\n\r\n",
                      peer_connected_count(w->peers), siblings_count(w), count, led, led_by, w->clock.alarm,
                      (long long)w->clock.ahead_ms);
    }
    info_process(w, section, out);
    if (section_is(section, "cluster")) kv_buf_printf(out, "# Cluster\r\ncluster_enabled:%d\r\n\r\n", on_cluster_face);
}

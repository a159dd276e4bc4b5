/* With job.c the only file that sees the generated protobuf code. Packing goes straight into
 * the caller's buffer; unpacking takes its memory from the caller's arena, so
 * nothing here is freed message by message. What comes in is checked in full:
 * behind a decoder every enum is in range and every count within its limit. */
#include "client/wire/message.h"

#include "client/base/key.h"
#include "client/base/proto.h"
#include "client/base/text.h"
#include "kv.pb-c.h"

#include <assert.h>
#include <stdio.h>

static_assert(sizeof(uint32_t) == sizeof(((Kv__Wire__Request *)0)->op), "op travels as uint32");

enum { FIELD_BYTES_MIN = 2,
       HOST_BYTES_MAX = 63,
       PUBLIC_KEY_BYTES = 32,
       CLUSTER_ID_BYTES = 16,
       ARGS_ON_STACK = 16 };

const char *kv_level_text(enum kv_level level)
{
    static const char *const texts[] = {"linearizable", "lease", "bounded", "any"};
    return texts[level];
}

bool kv_level_parse(struct kv_slice text, enum kv_level *level, uint32_t *bounded_ms)
{
    enum { HEAD = sizeof "bounded" }; /* and what follows it */
    uint64_t ms;
    for (int i = KV_LEVEL_LINEARIZABLE; i <= KV_LEVEL_ANY; i++)
        if (i != KV_LEVEL_BOUNDED && kv_slice_eq(text, kv_str(kv_level_text((enum kv_level)i)))) {
            *level = (enum kv_level)i;
            return true;
        }
    if (text.size <= HEAD || memcmp(text.data, "bounded", HEAD - 1) != 0 || (text.data[HEAD - 1] != ':' && text.data[HEAD - 1] != '=') ||
        !kv_parse_u64(kv_slice(text.data + HEAD, text.size - HEAD), &ms) || ms > UINT32_MAX)
        return false;
    *level = KV_LEVEL_BOUNDED;
    *bounded_ms = (uint32_t)ms;
    return true;
}

const char *kv_phase_text(enum kv_phase phase)
{
    switch (phase) {
    case KV_PHASE_NONE: return "none";
    case KV_PHASE_PARSE: return "parse";
    case KV_PHASE_ROUTE: return "route";
    case KV_PHASE_WAIT_LEADER: return "wait-leader";
    case KV_PHASE_PROPOSE: return "propose";
    case KV_PHASE_REPLICATE: return "replicate";
    case KV_PHASE_READ: return "read";
    case KV_PHASE_APPLY: return "apply";
    case KV_PHASE_FORWARD: return "forward";
    }
    return "unknown";
}

/* Whether the message has at most `fields_max` fields at its top level. protobuf-c
 * notes every field down before it looks at one, some 40 B for 2 B of input; this
 * walk costs nothing and comes first. A frame too short to hold more is not walked.
 * Bytes that do not parse are left for unpack to refuse. */
static bool message_fields_fit(struct kv_slice bytes, size_t fields_max)
{
    if (bytes.size / FIELD_BYTES_MIN <= fields_max) return true;
    const uint8_t *p = bytes.data, *end = p + bytes.size;
    for (size_t fields = 0; p < end; fields++) {
        if (fields == fields_max) return false;
        uint8_t wire_type = *p & 7;
        while (p < end && *p >= 0x80) p++;
        if (p == end) return true;
        p++;
        uint64_t skip = 0;
        if (wire_type == 0) {
            while (p < end && *p >= 0x80) p++;
            skip = 1;
        } else if (wire_type == 1) {
            skip = 8;
        } else if (wire_type == 5) {
            skip = 4;
        } else if (wire_type == 2) {
            for (unsigned shift = 0; p < end && shift < 64; shift += 7) {
                skip |= (uint64_t)(*p & 0x7F) << shift;
                if (*p++ < 0x80) break;
            }
        } else {
            return true;
        }
        if (skip > (uint64_t)(end - p)) return true;
        p += skip;
    }
    return true;
}

static ProtobufCMessage *message_unpack(const ProtobufCMessageDescriptor *descriptor,
                                        struct kv_slice bytes, size_t fields_max,
                                        struct kv_arena *arena, enum kv_err *err)
{
    if (!message_fields_fit(bytes, fields_max)) {
        *err = KV_TOO_BIG;
        return NULL;
    }
    return kv_proto_unpack(descriptor, bytes, arena, err);
}

/* `kind`: the frame's first byte; -1: none. */
static void message_pack(const ProtobufCMessage *m, int kind, struct kv_buf *out)
{
    size_t size = protobuf_c_message_get_packed_size(m), prefix = kind >= 0;
    uint8_t *p = kv_buf_reserve(out, prefix + size);
    if (p == NULL) return;
    if (kind >= 0) p[0] = (uint8_t)kind;
    size_t packed = protobuf_c_message_pack(m, p + prefix);
    assert(packed == size);
    kv_buf_commit(out, prefix + packed);
}

static bool message_err_known(uint32_t code)
{
    switch (code) {
#define X(name, value, text) case value:
        KV_ERRORS(X)
#undef X
        return true;
    default: return false; /* a number from outside, not an enum value */
    }
}

void kv_request_encode(const struct kv_request *r, struct kv_buf *out)
{
    assert(kv_op_info(r->op) != NULL && r->arg_count <= KV_ARGS_MAX);
    static const uint8_t nobody[KV_CLIENT_BYTES];
    ProtobufCBinaryData few[ARGS_ON_STACK];
    struct kv_arena many = {0};
    ProtobufCBinaryData *args = few;
    if (r->arg_count > ARGS_ON_STACK) args = kv_arena_alloc(&many, r->arg_count * sizeof *args);
    if (args == NULL) {
        out->failed = true;
        return;
    }
    for (uint32_t i = 0; i < r->arg_count; i++) args[i] = kv_proto_bytes(r->args[i]);

    Kv__Wire__Request m = KV__WIRE__REQUEST__INIT;
    m.id = r->id;
    m.op = (uint32_t)r->op;
    m.n_args = r->arg_count;
    m.args = args;
    m.has_keyspace = r->keyspace != 0;
    m.keyspace = r->keyspace;
    m.has_partition = m.has_range_epoch = r->pinned;
    m.partition = r->partition;
    m.range_epoch = r->range_epoch;
    m.has_client = r->sequence != 0 || memcmp(r->client, nobody, sizeof nobody) != 0;
    m.client = kv_proto_bytes(kv_slice(r->client, sizeof r->client));
    m.has_sequence = r->sequence != 0;
    m.sequence = r->sequence;
    m.has_level = r->level != KV_LEVEL_LINEARIZABLE;
    m.level = (uint32_t)r->level;
    m.has_deadline_ms = r->deadline_ms != 0;
    m.deadline_ms = r->deadline_ms;
    m.has_hops = r->hops != 0;
    m.hops = r->hops;
    m.has_bounded_ms = r->bounded_ms != 0;
    m.bounded_ms = r->bounded_ms;
    m.has_line = m.has_round = r->round != 0;
    m.line = r->line;
    m.round = r->round;
    message_pack(&m.base, KV_FRAME_REQUEST, out);
    kv_arena_free(&many);
}

enum kv_err kv_request_decode(struct kv_slice bytes, struct kv_arena *arena, struct kv_request *out)
{
    enum { OTHER_FIELDS_MAX = 64 }; /* room for fields that a later version may add */
    enum kv_err err;
    const Kv__Wire__Request *m = (const Kv__Wire__Request *)message_unpack(
        &kv__wire__request__descriptor, bytes, KV_ARGS_MAX + OTHER_FIELDS_MAX, arena, &err);
    if (m == NULL) return err;
    if (m->n_args > KV_ARGS_MAX) return KV_TOO_BIG;
    if (kv_op_info(m->op) == NULL || m->level > KV_LEVEL_ANY) return KV_BAD_ARGUMENT;
    if (m->has_client ? m->client.len != KV_CLIENT_BYTES : m->sequence != 0) return KV_MALFORMED;
    if (m->has_partition != m->has_range_epoch) return KV_MALFORMED;
    struct kv_slice *args = kv_arena_alloc(arena, m->n_args * sizeof *args);
    if (args == NULL) return KV_TOO_BIG;
    for (size_t i = 0; i < m->n_args; i++) args[i] = kv_proto_slice(m->args[i]);

    *out = (struct kv_request){
        .id = m->id,
        .op = (enum kv_op)m->op,
        .args = args,
        .arg_count = (uint32_t)m->n_args,
        .keyspace = m->keyspace,
        .pinned = m->has_partition,
        .partition = m->partition,
        .range_epoch = m->range_epoch,
        .sequence = m->sequence,
        .level = (enum kv_level)m->level,
        .bounded_ms = m->bounded_ms,
        .deadline_ms = m->deadline_ms,
        .hops = m->hops,
        .line = m->round != 0 ? m->line : 0,
        .round = m->round,
    };
    if (m->has_client) memcpy(out->client, m->client.data, KV_CLIENT_BYTES);
    return KV_OK;
}

void kv_reply_encode(const struct kv_reply *r, struct kv_buf *out)
{
    Kv__Wire__Reply m = KV__WIRE__REPLY__INIT;
    m.id = r->id;
    m.has_err = r->err != KV_OK;
    m.err = (uint32_t)r->err;
    m.has_applied = r->applied != KV_APPLIED_NO;
    m.applied = (uint32_t)r->applied;
    m.has_value = r->value.size > 0;
    m.value = kv_proto_bytes(r->value);
    m.has_version_epoch = r->version.epoch != 0;
    m.version_epoch = r->version.epoch;
    m.has_version_index = r->version.index != 0;
    m.version_index = r->version.index;
    m.has_expire_ms = r->expire_ms != 0;
    m.expire_ms = r->expire_ms;
    m.has_partition = r->partition != 0;
    m.partition = r->partition;
    m.has_range_epoch = r->range_epoch != 0;
    m.range_epoch = r->range_epoch;
    m.has_node = r->node != 0;
    m.node = r->node;
    m.has_leader = r->leader != 0;
    m.leader = r->leader;
    m.has_phase = r->phase != KV_PHASE_NONE;
    m.phase = (uint32_t)r->phase;
    m.has_level = r->level != KV_LEVEL_LINEARIZABLE;
    m.level = (uint32_t)r->level;
    m.has_retry_after_ms = r->retry_after_ms != 0;
    m.retry_after_ms = r->retry_after_ms;
    m.has_index = r->index != 0;
    m.index = r->index;
    m.has_stale_ms = r->stale_ms != 0;
    m.stale_ms = r->stale_ms;
    m.has_detail = r->detail.size > 0;
    m.detail = kv_proto_bytes(r->detail);
    message_pack(&m.base, KV_FRAME_REPLY, out);
}

enum kv_err kv_reply_decode(struct kv_slice bytes, struct kv_arena *arena, struct kv_reply *out)
{
    enum { FIELDS_MAX = 128 };
    enum kv_err err;
    const Kv__Wire__Reply *m = (const Kv__Wire__Reply *)message_unpack(
        &kv__wire__reply__descriptor, bytes, FIELDS_MAX, arena, &err);
    if (m == NULL) return err;
    if (!message_err_known(m->err) || m->applied > KV_APPLIED_YES) return KV_BAD_ARGUMENT;
    if (m->phase > KV_PHASE_FORWARD || m->level > KV_LEVEL_ANY) return KV_BAD_ARGUMENT;
    *out = (struct kv_reply){
        .id = m->id,
        .err = (enum kv_err)m->err,
        .applied = (enum kv_applied)m->applied,
        .value = kv_proto_slice(m->value),
        .version = {.epoch = m->version_epoch, .index = m->version_index},
        .expire_ms = m->expire_ms,
        .partition = m->partition,
        .range_epoch = m->range_epoch,
        .node = m->node,
        .leader = m->leader,
        .phase = (enum kv_phase)m->phase,
        .level = (enum kv_level)m->level,
        .retry_after_ms = m->retry_after_ms,
        .index = m->index,
        .stale_ms = m->stale_ms,
        .detail = kv_proto_slice(m->detail),
    };
    return KV_OK;
}

static Kv__Wire__Node *map_node_message(const struct kv_node_info *n, struct kv_arena *arena)
{
    Kv__Wire__Node *m = kv_arena_alloc(arena, sizeof *m);
    if (m == NULL) return NULL;
    kv__wire__node__init(m);
    m->id = n->id;
    m->host = kv_proto_bytes(n->host);
    m->port = n->port;
    m->has_key = n->key.size > 0;
    m->key = kv_proto_bytes(n->key);
    m->has_resp = n->resp != 0;
    m->resp = n->resp;
    m->has_resp_cluster = n->resp_cluster != 0;
    m->resp_cluster = n->resp_cluster;
    m->has_zone = n->zone.size > 0;
    m->zone = kv_proto_bytes(n->zone);
    m->has_roles = n->roles != 0;
    m->roles = n->roles;
    m->has_state = n->state != KV_NODE_UP;
    m->state = (uint32_t)n->state;
    return m;
}

static Kv__Wire__Partition *map_partition_message(const struct kv_partition_info *p,
                                                  struct kv_arena *arena)
{
    assert(p->node_count <= KV_REPLICAS_MAX);
    Kv__Wire__Partition *m = kv_arena_alloc(arena, sizeof *m);
    if (m == NULL) return NULL;
    kv__wire__partition__init(m);
    m->id = p->id;
    m->keyspace = p->keyspace;
    m->range_epoch = p->range_epoch;
    m->conf_epoch = p->conf_epoch;
    m->has_from = p->from.size > 0;
    m->from = kv_proto_bytes(p->from);
    m->has_to = p->to.size > 0;
    m->to = kv_proto_bytes(p->to);
    m->has_leader = p->leader != 0;
    m->leader = p->leader;
    m->n_nodes = p->node_count;
    m->nodes = (uint32_t *)p->nodes; /* only read */
    return m;
}

/* ---- keyspaces ---- */

const char *kv_key_kind_text(enum kv_key_kind kind)
{
    switch (kind) {
    case KV_KEY_RANGE: return "range";
    case KV_KEY_HASH: return "hash";
    case KV_KEY_LIST: return "list";
    }
    return "unknown";
}

static bool group_message(const struct kv_label_group *g, struct kv_arena *arena, Kv__Wire__Group *m)
{
    kv__wire__group__init(m);
    m->name = kv_proto_bytes(g->name);
    m->labels = kv_arena_alloc(arena, (g->label_count + 1) * sizeof *m->labels);
    Kv__Wire__Label *labels = kv_arena_alloc(arena, (g->label_count + 1) * sizeof *labels);
    if (m->labels == NULL || labels == NULL) return false;
    for (uint32_t i = 0; i < g->label_count; i++) {
        kv__wire__label__init(&labels[i]);
        labels[i].text = kv_proto_bytes(g->labels[i].text);
        labels[i].has_bucket = true;
        labels[i].bucket = g->labels[i].bucket;
        m->labels[m->n_labels++] = &labels[i];
    }
    return true;
}

static Kv__Wire__Keyspace *keyspace_message(const struct kv_keyspace *k, struct kv_arena *arena)
{
    Kv__Wire__Keyspace *m = kv_arena_alloc(arena, sizeof *m);
    if (m == NULL) return NULL;
    kv__wire__keyspace__init(m);
    m->has_id = k->id != 0;
    m->id = k->id;
    m->name = kv_proto_bytes(k->name);
    m->kind = (uint32_t)k->kind;
    m->has_partitions = k->partitions != 0;
    m->partitions = k->partitions;
    m->has_default_group = k->default_group.size > 0;
    m->default_group = kv_proto_bytes(k->default_group);
    m->has_delimiter = m->has_rest = k->kind == KV_KEY_LIST;
    m->delimiter = k->delimiter;
    m->has_rest = m->has_rest && k->default_group.size > 0;
    m->rest = k->rest;
    m->has_replicas = k->replicas != 0;
    m->replicas = k->replicas;
    m->has_value_bytes_max = k->value_bytes_max != 0;
    m->value_bytes_max = k->value_bytes_max;
    m->has_dedup_retention_ms = k->dedup_retention_ms != 0;
    m->dedup_retention_ms = k->dedup_retention_ms;
    m->has_first_partition = k->first_partition != 0;
    m->first_partition = k->first_partition;
    m->n_nodes = k->node_count;
    m->nodes = (uint32_t *)k->nodes; /* only read */
    m->zones = kv_arena_alloc(arena, (k->zone_count + 1) * sizeof *m->zones);
    if (m->zones == NULL) return NULL;
    for (uint32_t i = 0; i < k->zone_count; i++) m->zones[m->n_zones++] = kv_proto_bytes(k->zones[i]);
    m->n_stores = k->has_stores ? k->node_count : 0;
    m->stores = (uint64_t *)k->stores; /* likewise */
    m->splits = kv_arena_alloc(arena, (k->split_count + 1) * sizeof *m->splits);
    m->groups = kv_arena_alloc(arena, (k->group_count + 1) * sizeof *m->groups);
    Kv__Wire__Group *groups = kv_arena_alloc(arena, (k->group_count + 1) * sizeof *groups);
    if (m->splits == NULL || m->groups == NULL || groups == NULL) return NULL;
    for (uint32_t i = 0; i < k->split_count; i++) m->splits[m->n_splits++] = kv_proto_bytes(k->splits[i]);
    for (uint32_t i = 0; i < k->group_count; i++) {
        if (!group_message(&k->groups[i], arena, &groups[i])) return NULL;
        m->groups[m->n_groups++] = &groups[i];
    }
    return m;
}

void kv_keyspace_encode(const struct kv_keyspace *k, struct kv_buf *out)
{
    struct kv_arena arena = {0};
    const Kv__Wire__Keyspace *m = keyspace_message(k, &arena);
    if (m != NULL) message_pack(&m->base, -1, out);
    else out->failed = true;
    kv_arena_free(&arena);
}

enum kv_err kv_keyspace_rule(struct kv_keyspace *k, struct kv_arena *arena)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < k->group_count; i++) count += k->groups[i].label_count;
    struct kv_label *labels = kv_arena_alloc(arena, (count + 1) * sizeof *labels);
    if (labels == NULL) return KV_TOO_BIG;
    count = 0;
    for (uint32_t i = 0; i < k->group_count; i++)
        for (uint32_t n = 0; n < k->groups[i].label_count; n++) labels[count++] = k->groups[i].labels[n];
    kv_labels_sort(labels, count);
    k->rule = (struct kv_key_rule){.keyspace = k->id,
                                   .kind = k->kind,
                                   .delimiter = k->delimiter,
                                   .has_rest = k->default_group.size > 0,
                                   .rest = k->rest,
                                   .labels = labels,
                                   .label_count = count};
    for (uint32_t i = 1; i < count; i++)
        if (kv_slice_eq(labels[i - 1].text, labels[i].text)) return KV_CONFLICT;
    return KV_OK;
}

static enum kv_err group_read(const Kv__Wire__Group *m, struct kv_arena *arena, struct kv_label_group *out)
{
    if (m->name.len > KV_NAME_BYTES_MAX || m->n_labels > KV_LABELS_MAX) return KV_TOO_BIG;
    *out = (struct kv_label_group){.name = kv_proto_slice(m->name), .label_count = (uint32_t)m->n_labels};
    out->labels = kv_arena_alloc(arena, (m->n_labels + 1) * sizeof *out->labels);
    if (out->labels == NULL) return KV_TOO_BIG;
    for (uint32_t i = 0; i < out->label_count; i++) {
        if (m->labels[i]->text.len > KV_LABEL_BYTES_MAX) return KV_TOO_BIG;
        if (m->labels[i]->bucket > UINT16_MAX) return KV_MALFORMED;
        out->labels[i] = (struct kv_label){kv_proto_slice(m->labels[i]->text), (uint16_t)m->labels[i]->bucket};
    }
    return KV_OK;
}

static enum kv_err keyspace_read(const Kv__Wire__Keyspace *m, struct kv_arena *arena, struct kv_keyspace *out)
{
    uint32_t labels = 0;
    if (m->kind > KV_KEY_LIST || m->delimiter > UINT8_MAX || m->rest > UINT16_MAX) return KV_MALFORMED;
    if (m->name.len > KV_NAME_BYTES_MAX || m->default_group.len > KV_NAME_BYTES_MAX ||
        m->partitions > KV_KEYSPACE_PARTITIONS_MAX || m->n_splits >= KV_KEYSPACE_PARTITIONS_MAX ||
        m->n_groups > KV_KEYSPACE_PARTITIONS_MAX || m->n_nodes > KV_REPLICAS_MAX || m->n_zones > KV_ZONES_MAX)
        return KV_TOO_BIG;
    *out = (struct kv_keyspace){.id = m->id,
                                .name = kv_proto_slice(m->name),
                                .kind = (enum kv_key_kind)m->kind,
                                .partitions = m->partitions,
                                .first_partition = m->first_partition,
                                .split_count = (uint32_t)m->n_splits,
                                .group_count = (uint32_t)m->n_groups,
                                .default_group = kv_proto_slice(m->default_group),
                                .delimiter = (uint8_t)m->delimiter,
                                .rest = (uint16_t)m->rest,
                                .replicas = m->replicas,
                                .value_bytes_max = m->value_bytes_max,
                                .dedup_retention_ms = m->dedup_retention_ms};
    out->splits = kv_arena_alloc(arena, (m->n_splits + 1) * sizeof *out->splits);
    out->groups = kv_arena_alloc(arena, (m->n_groups + 1) * sizeof *out->groups);
    if (out->splits == NULL || out->groups == NULL) return KV_TOO_BIG;
    for (; out->node_count < m->n_nodes; out->node_count++) out->nodes[out->node_count] = m->nodes[out->node_count];
    for (; out->zone_count < m->n_zones; out->zone_count++) {
        if (m->zones[out->zone_count].len > KV_NAME_BYTES_MAX) return KV_TOO_BIG;
        out->zones[out->zone_count] = kv_proto_slice(m->zones[out->zone_count]);
    }
    out->has_stores = m->n_stores > 0 && m->n_stores == m->n_nodes;
    for (uint32_t i = 0; out->has_stores && i < out->node_count; i++) out->stores[i] = m->stores[i];
    for (uint32_t i = 0; i < out->split_count; i++) {
        if (m->splits[i].len > KV_USER_KEY_BYTES_MAX) return KV_TOO_BIG;
        out->splits[i] = kv_proto_slice(m->splits[i]);
    }
    for (uint32_t i = 0; i < out->group_count; i++) {
        enum kv_err err = group_read(m->groups[i], arena, &out->groups[i]);
        if (err != KV_OK) return err;
        labels += out->groups[i].label_count;
        if (labels > KV_LABELS_MAX) return KV_TOO_BIG;
    }
    return kv_keyspace_rule(out, arena);
}

enum kv_err kv_keyspace_decode(struct kv_slice bytes, struct kv_arena *arena, struct kv_keyspace *out)
{
    enum { FIELDS_MAX = 2 * KV_KEYSPACE_PARTITIONS_MAX + 64 };
    enum kv_err err;
    const Kv__Wire__Keyspace *m =
        (const Kv__Wire__Keyspace *)message_unpack(&kv__wire__keyspace__descriptor, bytes, FIELDS_MAX, arena, &err);
    return m == NULL ? err : keyspace_read(m, arena, out);
}

bool kv_keyspace_copy(const struct kv_keyspace *from, struct kv_arena *arena, struct kv_keyspace *out)
{
    struct kv_buf bytes = {0};
    kv_keyspace_encode(from, &bytes);
    struct kv_slice own = bytes.failed ? kv_slice(NULL, 0) : kv_arena_copy(arena, kv_buf_slice(&bytes));
    kv_buf_free(&bytes);
    return own.data != NULL && kv_keyspace_decode(own, arena, out) == KV_OK;
}

void kv_map_encode(const struct kv_map_info *map, struct kv_buf *out)
{
    assert(map->node_count <= KV_NODES_MAX && map->partition_count <= KV_PARTITIONS_MAX);
    struct kv_arena arena = {0};
    Kv__Wire__Map m = KV__WIRE__MAP__INIT;
    m.n_nodes = map->node_count;
    m.n_partitions = map->partition_count;
    m.nodes = kv_arena_alloc(&arena, m.n_nodes * sizeof *m.nodes);
    m.partitions = kv_arena_alloc(&arena, m.n_partitions * sizeof *m.partitions);
    bool ok = m.nodes != NULL && m.partitions != NULL;
    for (uint32_t i = 0; ok && i < map->node_count; i++) {
        m.nodes[i] = map_node_message(&map->nodes[i], &arena);
        ok = m.nodes[i] != NULL;
    }
    for (uint32_t i = 0; ok && i < map->partition_count; i++) {
        m.partitions[i] = map_partition_message(&map->partitions[i], &arena);
        ok = m.partitions[i] != NULL;
    }
    m.keyspaces = ok ? kv_arena_alloc(&arena, (map->keyspace_count + 1) * sizeof *m.keyspaces) : NULL;
    ok = m.keyspaces != NULL;
    for (uint32_t i = 0; ok && i < map->keyspace_count; i++) {
        m.keyspaces[m.n_keyspaces++] = keyspace_message(&map->keyspaces[i], &arena);
        ok = m.keyspaces[i] != NULL;
    }
    m.has_directory = map->directory != 0;
    m.directory = map->directory;
    m.has_nodes_version = map->nodes_version != 0;
    m.nodes_version = map->nodes_version;
    m.has_cluster = map->cluster.size > 0;
    m.cluster = kv_proto_bytes(map->cluster);
    if (ok) {
        message_pack(&m.base, -1, out);
    } else {
        out->failed = true;
    }
    kv_arena_free(&arena);
}

static enum kv_err map_node_read(const Kv__Wire__Node *m, struct kv_node_info *out)
{
    if (m->id == 0 || m->host.len > HOST_BYTES_MAX) return KV_MALFORMED;
    if (m->host.len > 0 && memchr(m->host.data, 0, m->host.len) != NULL) return KV_MALFORMED;
    if (m->port > UINT16_MAX || m->resp > UINT16_MAX || m->resp_cluster > UINT16_MAX) return KV_BAD_ARGUMENT;
    if (m->has_key && m->key.len != PUBLIC_KEY_BYTES) return KV_MALFORMED;
    if (m->zone.len > KV_NAME_BYTES_MAX || m->state > KV_NODE_REMOVED) return KV_MALFORMED;
    *out = (struct kv_node_info){
        .id = m->id,
        .host = kv_proto_slice(m->host),
        .port = (uint16_t)m->port,
        .resp = (uint16_t)m->resp,
        .resp_cluster = (uint16_t)m->resp_cluster,
        .key = kv_proto_slice(m->key),
        .zone = kv_proto_slice(m->zone),
        .roles = m->roles,
        .state = (enum kv_node_state)m->state,
    };
    return KV_OK;
}

static const char *const node_states[] = {"up", "cordoned", "draining", "removed"};

const char *kv_node_state_text(enum kv_node_state state)
{
    return node_states[state];
}

bool kv_node_state_parse(struct kv_slice text, enum kv_node_state *out)
{
    for (int i = 0; i <= KV_NODE_REMOVED; i++)
        if (kv_slice_eq(text, kv_str(node_states[i]))) {
            *out = (enum kv_node_state)i;
            return true;
        }
    return false;
}

static const char *const node_roles[] = {"storage", "coordinator", "gateway"};
enum { NODE_ROLES = sizeof node_roles / sizeof node_roles[0] };
static_assert(KV_NODE_ROLES_ALL == (1 << NODE_ROLES) - 1, "a word for each bit");
static_assert(KV_NODE_ROLES_TEXT_BYTES >= sizeof "storage,coordinator,gateway", "all of them fit");

void kv_node_roles_text(uint32_t roles, char out[KV_NODE_ROLES_TEXT_BYTES])
{
    int size = 0;
    out[0] = 0;
    for (uint32_t i = 0; i < NODE_ROLES; i++)
        if (kv_node_has(roles, (enum kv_node_role)(1u << i)))
            size += snprintf(out + size, KV_NODE_ROLES_TEXT_BYTES - (size_t)size, "%s%s", size == 0 ? "" : ",", node_roles[i]);
}

bool kv_node_roles_parse(struct kv_slice text, uint32_t *out, struct kv_slice *bad)
{
    uint32_t roles = 0;
    for (bool more = true; more;) {
        const uint8_t *comma = text.size == 0 ? NULL : memchr(text.data, ',', text.size);
        size_t size = comma == NULL ? text.size : (size_t)(comma - text.data);
        uint32_t i = 0;
        *bad = kv_slice(text.data, size);
        while (i < NODE_ROLES && !kv_slice_eq(*bad, kv_str(node_roles[i]))) i++;
        if (i == NODE_ROLES || (roles & 1u << i) != 0) return false;
        roles |= 1u << i;
        more = comma != NULL;
        if (more) text = kv_slice(comma + 1, text.size - size - 1);
    }
    *out = roles;
    return true;
}

void kv_node_encode(const struct kv_node_info *n, struct kv_buf *out)
{
    struct kv_arena arena = {0};
    const Kv__Wire__Node *m = map_node_message(n, &arena);
    if (m != NULL) message_pack(&m->base, -1, out);
    else out->failed = true;
    kv_arena_free(&arena);
}

enum kv_err kv_node_decode(struct kv_slice bytes, struct kv_arena *arena, struct kv_node_info *out)
{
    enum { FIELDS_MAX = 64 };
    enum kv_err err;
    const Kv__Wire__Node *m = (const Kv__Wire__Node *)message_unpack(&kv__wire__node__descriptor, bytes, FIELDS_MAX, arena, &err);
    return m == NULL ? err : map_node_read(m, out);
}

static enum kv_err map_partition_read(const Kv__Wire__Partition *m, struct kv_partition_info *out)
{
    if (m->n_nodes > KV_REPLICAS_MAX) return KV_TOO_BIG;
    if (m->from.len > KV_KEY_BYTES_MAX || m->to.len > KV_KEY_BYTES_MAX) return KV_TOO_BIG;
    struct kv_slice from = kv_proto_slice(m->from), to = kv_proto_slice(m->to);
    if (to.size > 0 && kv_slice_cmp(from, to) >= 0) return KV_MALFORMED;
    *out = (struct kv_partition_info){
        .id = m->id,
        .keyspace = m->keyspace,
        .range_epoch = m->range_epoch,
        .conf_epoch = m->conf_epoch,
        .leader = m->leader,
        .from = from,
        .to = to,
        .node_count = (uint32_t)m->n_nodes,
    };
    for (size_t i = 0; i < m->n_nodes; i++) out->nodes[i] = m->nodes[i];
    return KV_OK;
}

enum kv_err kv_map_decode(struct kv_slice bytes, struct kv_arena *arena, struct kv_map_info *out)
{
    enum kv_err err;
    const Kv__Wire__Map *m = (const Kv__Wire__Map *)message_unpack(
        &kv__wire__map__descriptor, bytes, KV_NODES_MAX + KV_PARTITIONS_MAX + 2 * KV_KEYSPACES_MAX + 64, arena,
        &err);
    if (m == NULL) return err;
    if (m->n_nodes > KV_NODES_MAX || m->n_partitions > KV_PARTITIONS_MAX || m->n_keyspaces > 2 * KV_KEYSPACES_MAX)
        return KV_TOO_BIG;
    struct kv_map_info map = {.node_count = (uint32_t)m->n_nodes,
                              .partition_count = (uint32_t)m->n_partitions,
                              .keyspace_count = (uint32_t)m->n_keyspaces,
                              .directory = m->directory,
                              .nodes_version = m->nodes_version,
                              .cluster = kv_proto_slice(m->cluster)};
    if (m->has_cluster && m->cluster.len != CLUSTER_ID_BYTES) return KV_MALFORMED;
    map.keyspaces = kv_arena_alloc(arena, (m->n_keyspaces + 1) * sizeof *map.keyspaces);
    if (map.keyspaces == NULL) return KV_TOO_BIG;
    for (size_t i = 0; i < m->n_keyspaces; i++) {
        err = keyspace_read(m->keyspaces[i], arena, &map.keyspaces[i]);
        if (err != KV_OK) return err;
    }
    map.nodes = kv_arena_alloc(arena, m->n_nodes * sizeof *map.nodes);
    map.partitions = kv_arena_alloc(arena, m->n_partitions * sizeof *map.partitions);
    if (map.nodes == NULL || map.partitions == NULL) return KV_TOO_BIG;
    for (size_t i = 0; i < m->n_nodes; i++) {
        err = map_node_read(m->nodes[i], &map.nodes[i]);
        if (err != KV_OK) return err;
    }
    for (size_t i = 0; i < m->n_partitions; i++) {
        err = map_partition_read(m->partitions[i], &map.partitions[i]);
        if (err != KV_OK) return err;
    }
    *out = map;
    return KV_OK;
}

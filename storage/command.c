#include "storage/command.h"

#include <assert.h>

#include "client/base/proto.h"
#include "command.pb-c.h"

/* Descriptors. The only file that sees the generated code; for Command see command_wire.c. */

void descriptor_encode(const struct descriptor *d, struct kv_buf *out)
{
    assert(d->replica_count <= DESCRIPTOR_REPLICAS_MAX);
    Kv__Store__Replica replicas[DESCRIPTOR_REPLICAS_MAX], *pointers[DESCRIPTOR_REPLICAS_MAX];
    for (uint32_t i = 0; i < d->replica_count; i++) {
        const struct descriptor_replica *r = &d->replicas[i];
        replicas[i] = (Kv__Store__Replica)KV__STORE__REPLICA__INIT;
        replicas[i].id = r->id;
        replicas[i].node = r->node;
        replicas[i].has_role = r->role != DESCRIPTOR_VOTER;
        replicas[i].role = (uint32_t)r->role;
        replicas[i].has_store = r->store != STORE_ORIGINAL;
        replicas[i].store = r->store;
        replicas[i].has_succeeds = r->succeeds != 0;
        replicas[i].succeeds = r->succeeds;
        pointers[i] = &replicas[i];
    }
    Kv__Store__Descriptor m = KV__STORE__DESCRIPTOR__INIT;
    m.id = d->id;
    m.keyspace = d->keyspace;
    m.has_kind = d->kind != DESCRIPTOR_RANGE;
    m.kind = (uint32_t)d->kind;
    m.has_from = d->from.size > 0;
    m.from = kv_proto_bytes(kv_slice(d->from.bytes, d->from.size));
    m.has_to = d->to.size > 0;
    m.to = kv_proto_bytes(kv_slice(d->to.bytes, d->to.size));
    m.range_epoch = d->range_epoch;
    m.conf_epoch = d->conf_epoch;
    m.replica_next = d->replica_next;
    m.n_replicas = d->replica_count;
    m.replicas = pointers;
    m.has_value_bytes_max = d->value_bytes_max != 0;
    m.value_bytes_max = d->value_bytes_max;
    m.has_dedup_retention_ms = d->dedup_retention_ms != 0;
    m.dedup_retention_ms = d->dedup_retention_ms;
    m.has_list = d->list.size > 0;
    m.list = kv_proto_bytes(d->list);
    m.has_frozen_merge = m.has_frozen_index = m.has_frozen_ms = d->frozen_merge != 0;
    m.frozen_merge = d->frozen_merge;
    m.frozen_index = d->frozen_index;
    m.frozen_ms = d->frozen_ms;
    m.has_frozen_left = m.has_frozen_epoch = d->frozen_merge != 0;
    m.frozen_left = d->frozen_left;
    m.frozen_epoch = d->frozen_epoch;
    m.has_merge_void = d->merge_void != 0;
    m.merge_void = d->merge_void;
    m.has_merge_done = d->merge_done != 0;
    m.merge_done = d->merge_done;
    m.has_merge_index = d->merge_index != 0;
    m.merge_index = d->merge_index;
    m.has_to_epoch = d->to_epoch != 0;
    m.to_epoch = d->to_epoch;
    size_t size = kv__store__descriptor__get_packed_size(&m);
    uint8_t *into = kv_buf_reserve(out, size);
    if (into == NULL) return;
    size_t packed = kv__store__descriptor__pack(&m, into);
    assert(packed == size);
    kv_buf_commit(out, packed);
}

enum { LIST_FIELD = 12 }; /* of message Descriptor */

static enum kv_err key_from(ProtobufCBinaryData bytes, struct kv_key *out)
{
    if (bytes.len > KV_KEY_BYTES_MAX) return KV_TOO_BIG;
    out->size = (uint16_t)bytes.len;
    if (bytes.len > 0) memcpy(out->bytes, bytes.data, bytes.len);
    return KV_OK;
}

static enum kv_err descriptor_from(const Kv__Store__Descriptor *m, struct descriptor *out)
{
    if (m->n_replicas > DESCRIPTOR_REPLICAS_MAX) return KV_TOO_BIG;
    if (m->kind > DESCRIPTOR_LIST) return KV_MALFORMED;
    *out = (struct descriptor){
        .id = m->id,
        .keyspace = m->keyspace,
        .kind = (enum descriptor_kind)m->kind,
        .range_epoch = m->range_epoch,
        .conf_epoch = m->conf_epoch,
        .replica_next = m->replica_next,
        .replica_count = (uint32_t)m->n_replicas,
        .value_bytes_max = m->value_bytes_max,
        .dedup_retention_ms = m->dedup_retention_ms,
        .frozen_merge = m->frozen_merge,
        .frozen_index = m->frozen_index,
        .frozen_ms = m->frozen_ms,
        .frozen_left = m->frozen_left,
        .frozen_epoch = m->frozen_epoch,
        .merge_void = m->merge_void,
        .merge_done = m->merge_done,
        .merge_index = m->merge_index,
        .to_epoch = m->to_epoch,
    };
    for (uint32_t i = 0; i < out->replica_count; i++) {
        const Kv__Store__Replica *r = m->replicas[i];
        if (r->role > DESCRIPTOR_VOTER_OUTGOING || r->id == 0) return KV_MALFORMED;
        out->replicas[i] = (struct descriptor_replica){
            .id = r->id, .node = r->node, .role = (enum descriptor_role)r->role, .succeeds = r->succeeds, .store = r->store};
    }
    enum kv_err err = key_from(m->from, &out->from);
    return err != KV_OK ? err : key_from(m->to, &out->to);
}

enum kv_err descriptor_decode(struct kv_slice bytes, struct descriptor *out)
{
    struct kv_arena arena;
    kv_arena_init(&arena, 256 << 10); /* a legal descriptor takes a few KiB, and its labels up to 80 */
    enum kv_err err;
    const Kv__Store__Descriptor *m =
        (const Kv__Store__Descriptor *)kv_proto_unpack(&kv__store__descriptor__descriptor, bytes, &arena, &err);
    if (m != NULL) err = descriptor_from(m, out);
    if (m != NULL && err == KV_OK && m->has_list) out->list = command_field_bytes(bytes, LIST_FIELD); /* not the arena's copy */
    kv_arena_free(&arena);
    return err;
}

/* ---- lists of labels ---- */

void descriptor_list_encode(const struct kv_key_rule *rule, uint32_t first, uint32_t end, struct kv_buf *out)
{
    struct kv_arena arena = {0};
    Kv__Store__Label *labels = kv_arena_alloc(&arena, (rule->label_count + 1) * sizeof *labels);
    Kv__Store__Label **pointers = kv_arena_alloc(&arena, (rule->label_count + 1) * sizeof *pointers);
    Kv__Store__List m = KV__STORE__LIST__INIT;
    m.delimiter = rule->delimiter;
    m.labels = pointers;
    for (uint32_t i = 0; labels != NULL && pointers != NULL && i < rule->label_count; i++) {
        if (rule->labels[i].bucket < first || rule->labels[i].bucket >= end) continue;
        Kv__Store__Label *l = &labels[m.n_labels];
        *l = (Kv__Store__Label)KV__STORE__LABEL__INIT;
        l->text = kv_proto_bytes(rule->labels[i].text);
        l->bucket = rule->labels[i].bucket;
        pointers[m.n_labels++] = l;
    }
    m.has_rest = rule->has_rest && rule->rest >= first && rule->rest < end;
    m.rest = rule->rest;
    uint8_t *into = labels == NULL || pointers == NULL ? NULL : kv_buf_reserve(out, kv__store__list__get_packed_size(&m));
    if (into == NULL) out->failed = true;
    else kv_buf_commit(out, kv__store__list__pack(&m, into));
    kv_arena_free(&arena);
}

static enum kv_err labels_from(const Kv__Store__List *m, struct kv_arena *arena, struct kv_key_rule *out)
{
    if (m->n_labels > KV_LABELS_MAX) return KV_TOO_BIG;
    if (m->delimiter > UINT8_MAX || m->rest > UINT16_MAX) return KV_MALFORMED;
    struct kv_label *labels = kv_arena_alloc(arena, (m->n_labels + 1) * sizeof *labels);
    if (labels == NULL) return KV_TOO_BIG;
    for (uint32_t i = 0; i < m->n_labels; i++) {
        if (m->labels[i]->bucket > UINT16_MAX) return KV_MALFORMED;
        labels[i] = (struct kv_label){kv_proto_slice(m->labels[i]->text), (uint16_t)m->labels[i]->bucket};
        if (i > 0 && kv_slice_cmp(labels[i - 1].text, labels[i].text) >= 0) return KV_MALFORMED; /* lookups count on it */
    }
    out->delimiter = (uint8_t)m->delimiter;
    out->labels = labels;
    out->label_count = (uint32_t)m->n_labels;
    out->has_rest = m->has_rest;
    out->rest = (uint16_t)m->rest;
    return KV_OK;
}

enum kv_err descriptor_rule(const struct descriptor *d, struct kv_arena *arena, struct kv_key_rule *out)
{
    enum kv_err err = KV_OK;
    *out = (struct kv_key_rule){.keyspace = d->keyspace, .kind = (enum kv_key_kind)d->kind};
    if (d->kind != DESCRIPTOR_LIST || d->list.size == 0) return KV_OK;
    const Kv__Store__List *m =
        (const Kv__Store__List *)kv_proto_unpack(&kv__store__list__descriptor, d->list, arena, &err);
    return m == NULL ? err : labels_from(m, arena, out);
}

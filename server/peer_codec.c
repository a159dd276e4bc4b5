#include "server/peer_codec.h"

#include <stdlib.h>

#include "client/base/proto.h"
#include "peer.pb-c.h"
#include "server/scrub.h"

/* The one file that knows the generated code of peer.proto. */
enum { FIELD_RAFT = 1,
       FIELD_BEAT = 2,
       FIELD_LOST = 3,
       FIELD_SNAPSHOT = 4,
       FIELD_SCRUB = 5,
       FIELD_TOLD = 6,
       FIELD_BIRTH = 7,
       FIELD_DIRECTORY = 8,
       FIELD_MERGE = 9,
       FIELD_NODES = 12,
       FIELD_LOAD = 14 };

static void put_varint(struct kv_buf *b, uint64_t v)
{
    while (v >= 0x80) {
        kv_buf_append_u8(b, (uint8_t)(v | 0x80));
        v >>= 7;
    }
    kv_buf_append_u8(b, (uint8_t)v);
}

static void put_field(struct kv_buf *b, uint32_t field, const ProtobufCMessage *m)
{
    size_t size = protobuf_c_message_get_packed_size(m);
    put_varint(b, field << 3 | 2);
    put_varint(b, size);
    uint8_t *to = kv_buf_reserve(b, size);
    if (to == NULL) return;
    protobuf_c_message_pack(m, to);
    kv_buf_commit(b, size);
}

enum { RUNS_MAX = 1024,
       ENTRIES_MAX = 4096 };

void peer_put_raft(struct kv_buf *b, uint32_t group, const struct raft_msg *m, const struct log_entry *entries,
                   uint32_t entry_count)
{
    Kv__Peer__Raft p = KV__PEER__RAFT__INIT;
    Kv__Peer__Run runs[RUNS_MAX], *run_list[RUNS_MAX];
    ProtobufCBinaryData bytes[ENTRIES_MAX];
    p.group = group;
    p.type = (uint32_t)m->type;
    p.from = m->from;
    p.to = m->to;
#define SET(field, value)             \
    do {                              \
        p.has_##field = (value) != 0; \
        p.field = (value);            \
    } while (0)
    SET(term, m->term);
    SET(index, m->index);
    SET(index_term, m->index_term);
    SET(commit, m->commit);
    SET(context, m->context);
    SET(reject, m->reject);
    SET(transfer, m->transfer);
    SET(quiet, m->quiet);
#undef SET
    size_t run_count = 0;
    uint32_t count = 0;
    for (; count < entry_count && count < ENTRIES_MAX; count++) {
        const struct log_entry *e = &entries[count];
        bool conf = (e->flags & LOG_ENTRY_CONF) != 0;
        Kv__Peer__Run *last = run_count > 0 ? &runs[run_count - 1] : NULL;
        if (last == NULL || last->term != e->term || last->conf != conf) {
            if (run_count == RUNS_MAX) break;
            last = &runs[run_count];
            kv__peer__run__init(last);
            last->term = e->term;
            last->has_conf = conf;
            last->conf = conf;
            last->count = 0;
            run_list[run_count++] = last;
        }
        last->count++;
        bytes[count] = kv_proto_bytes(e->bytes);
    }
    p.n_runs = run_count;
    p.runs = run_list;
    p.n_entries = count;
    p.entries = bytes;
    put_field(b, FIELD_RAFT, &p.base);
}

void peer_put_beat(struct kv_buf *b, const struct peer_beat *beat)
{
    Kv__Peer__Beat p = KV__PEER__BEAT__INIT;
    p.sequence = beat->sequence;
    p.has_answers = beat->answers != 0;
    p.answers = beat->answers;
    p.has_full = p.full = beat->full;
    p.has_wall_ms = true;
    p.wall_ms = beat->wall_ms;
    p.has_birthmark = beat->birthmark != 0;
    p.birthmark = beat->birthmark;
    put_field(b, FIELD_BEAT, &p.base);
}

void peer_put_lost(struct kv_buf *b, const struct peer_lost *l)
{
    Kv__Peer__Lost p = KV__PEER__LOST__INIT;
    p.group = l->group;
    p.replica = l->replica;
    p.has_owed = l->owed != 0;
    p.owed = l->owed;
    p.has_unborn = p.unborn = l->unborn;
    p.has_gone = p.gone = l->gone;
    put_field(b, FIELD_LOST, &p.base);
}

void peer_put_birth(struct kv_buf *b, struct kv_slice descriptor, raft_id replica, bool founds)
{
    Kv__Peer__Birth p = KV__PEER__BIRTH__INIT;
    p.has_founds = p.founds = founds;
    p.descriptor = kv_proto_bytes(descriptor);
    p.replica = replica;
    put_field(b, FIELD_BIRTH, &p.base);
}

void peer_put_snapshot(struct kv_buf *b, const struct peer_snapshot *s)
{
    Kv__Peer__Snapshot p = KV__PEER__SNAPSHOT__INIT;
    p.group = s->group;
    p.from = s->from;
    p.to = s->to;
    p.id = s->id;
    p.has_term = p.has_index = p.has_index_term = p.has_clock_ms = p.has_size = p.has_checksum = p.has_offset = true;
    p.term = s->term;
    p.index = s->index;
    p.index_term = s->index_term;
    p.clock_ms = s->clock_ms;
    p.size = s->size;
    p.checksum = s->checksum;
    p.offset = s->offset;
    p.has_descriptor = s->descriptor.size > 0;
    p.descriptor = kv_proto_bytes(s->descriptor);
    p.has_data = s->data.size > 0;
    p.data = kv_proto_bytes(s->data);
    p.has_answer = p.answer = s->answer;
    p.has_installed = p.installed = s->installed;
    p.has_err = s->err != KV_OK;
    p.err = (uint32_t)s->err;
    put_field(b, FIELD_SNAPSHOT, &p.base);
}

void peer_put_scrub(struct kv_buf *b, const struct peer_scrub *s)
{
    Kv__Peer__Scrub p = KV__PEER__SCRUB__INIT;
    p.group = s->group;
    p.from = s->from;
    p.to = s->to;
    p.index = s->index;
    p.kind = (uint32_t)s->kind;
    p.has_hash = s->kind == PEER_SCRUB_ANSWER;
    p.hash = s->hash;
    put_field(b, FIELD_SCRUB, &p.base);
}

void peer_put_descriptor(struct kv_buf *b, struct kv_slice descriptor, uint64_t term)
{
    Kv__Peer__Told p = KV__PEER__TOLD__INIT;
    p.descriptor = kv_proto_bytes(descriptor);
    p.term = term;
    put_field(b, FIELD_TOLD, &p.base);
}

void peer_put_load(struct kv_buf *b, const struct peer_load *l)
{
    Kv__Peer__Load p = KV__PEER__LOAD__INIT;
    p.group = l->group;
    p.range_epoch = l->range_epoch;
    p.has_rate = l->rate != 0;
    p.rate = l->rate;
    p.has_bytes = l->has_bytes;
    p.bytes = l->bytes;
    p.has_median = l->median.size > 0;
    p.median = kv_proto_bytes(l->median);
    p.has_middle = l->middle.size > 0;
    p.middle = kv_proto_bytes(l->middle);
    p.has_lone = p.lone = l->is_lone;
    put_field(b, FIELD_LOAD, &p.base);
}

void peer_put_nodes(struct kv_buf *b, struct kv_slice map)
{
    put_varint(b, FIELD_NODES << 3 | 2);
    put_varint(b, map.size);
    kv_buf_append_slice(b, map);
}

/* Short of memory nobody is told; the next change, or link, tells again. */
void peer_put_directory(struct kv_buf *b, const struct peer_directory *d)
{
    Kv__Peer__Directory p = KV__PEER__DIRECTORY__INIT;
    p.keyspaces = calloc(d->count + 1, sizeof *p.keyspaces);
    if (p.keyspaces == NULL) return;
    p.version = d->version;
    p.next = d->next;
    p.n_keyspaces = d->count;
    for (uint32_t i = 0; i < d->count; i++) p.keyspaces[i] = kv_proto_bytes(d->keyspaces[i]);
    put_field(b, FIELD_DIRECTORY, &p.base);
    free(p.keyspaces);
}

static enum kv_err read_directory(const Kv__Peer__Directory *p, struct kv_arena *arena, const struct peer_reader *reader)
{
    struct kv_slice *keyspaces = kv_arena_alloc(arena, (p->n_keyspaces + 1) * sizeof *keyspaces);
    if (keyspaces == NULL) return KV_TOO_BIG;
    for (size_t i = 0; i < p->n_keyspaces; i++) keyspaces[i] = kv_proto_slice(p->keyspaces[i]);
    struct peer_directory d = {.version = p->version, .next = p->next, .count = (uint32_t)p->n_keyspaces, .keyspaces = keyspaces};
    reader->directory(reader->context, &d);
    return KV_OK;
}

void peer_put_merge(struct kv_buf *b, const struct peer_merge *m)
{
    Kv__Peer__Merge p = KV__PEER__MERGE__INIT;
    p.group = m->group;
    p.kind = (uint32_t)m->kind;
    p.has_replica = m->replica != 0;
    p.replica = m->replica;
    p.has_merge = m->merge != 0;
    p.merge = m->merge;
    p.has_index = m->index != 0;
    p.index = m->index;
    p.has_range_epoch = m->range_epoch != 0;
    p.range_epoch = m->range_epoch;
    put_field(b, FIELD_MERGE, &p.base);
}

static enum kv_err read_raft(const Kv__Peer__Raft *p, struct kv_arena *arena, const struct peer_reader *reader)
{
    if (p->type > RAFT_READ_REPLY || p->n_entries > ENTRIES_MAX || p->n_runs > p->n_entries) return KV_MALFORMED;
    struct raft_msg m = {.type = (enum raft_msg_type)p->type,
                         .from = p->from,
                         .to = p->to,
                         .term = p->term,
                         .index = p->index,
                         .index_term = p->index_term,
                         .commit = p->commit,
                         .context = p->context,
                         .reject = p->reject,
                         .transfer = p->transfer,
                         .quiet = p->quiet,
                         .entry_count = (uint32_t)p->n_entries,
                         .run_count = (uint32_t)p->n_runs};
    struct raft_run *runs = NULL;
    struct log_entry *entries = NULL;
    if (p->n_entries > 0) {
        runs = kv_arena_alloc(arena, p->n_runs * sizeof *runs);
        entries = kv_arena_alloc(arena, p->n_entries * sizeof *entries);
        if (runs == NULL || entries == NULL) return KV_TOO_BIG;
        size_t at = 0;
        for (size_t i = 0; i < p->n_runs; i++) {
            const Kv__Peer__Run *run = p->runs[i];
            if (run->count == 0 || run->count > p->n_entries - at || run->term == 0) return KV_MALFORMED;
            runs[i] = (struct raft_run){run->term, run->count, run->conf};
            for (uint32_t k = 0; k < run->count; k++, at++)
                entries[at] = (struct log_entry){run->term, run->conf ? LOG_ENTRY_CONF : 0,
                                                 kv_proto_slice(p->entries[at])};
        }
        if (at != p->n_entries) return KV_MALFORMED;
        m.runs = runs;
    }
    reader->raft(reader->context, p->group, &m, entries);
    return KV_OK;
}

enum kv_err peer_batch_read(struct kv_slice bytes, struct kv_arena *arena, const struct peer_reader *reader)
{
    enum kv_err unpacked;
    const Kv__Peer__Batch *batch =
        (const Kv__Peer__Batch *)kv_proto_unpack(&kv__peer__batch__descriptor, bytes, arena, &unpacked);
    if (batch == NULL) return unpacked;
    if (batch->beat != NULL) {
        struct peer_beat beat = {batch->beat->sequence, batch->beat->answers, batch->beat->wall_ms, batch->beat->birthmark,
                                 batch->beat->full};
        reader->beat(reader->context, &beat);
    }
    for (size_t i = 0; i < batch->n_lost; i++)
        reader->lost(reader->context, &(struct peer_lost){batch->lost[i]->group, batch->lost[i]->replica,
                                                          batch->lost[i]->owed, batch->lost[i]->unborn, batch->lost[i]->gone});
    for (size_t i = 0; i < batch->n_births && reader->birth != NULL; i++)
        reader->birth(reader->context, kv_proto_slice(batch->births[i]->descriptor), batch->births[i]->replica, batch->births[i]->founds);
    for (size_t i = 0; i < batch->n_scrubs; i++) {
        const Kv__Peer__Scrub *s = batch->scrubs[i];
        if (s->kind > PEER_SCRUB_DIFFERS) return KV_MALFORMED;
        struct peer_scrub scrub = {.group = s->group, .from = s->from, .to = s->to, .index = s->index, .hash = s->hash, .kind = (enum peer_scrub_kind)s->kind};
        if (reader->scrub != NULL) reader->scrub(reader->context, &scrub);
    }
    for (size_t i = 0; i < batch->n_merges; i++) {
        const Kv__Peer__Merge *m = batch->merges[i];
        if (m->kind > PEER_MERGE_GONE) return KV_MALFORMED;
        struct peer_merge merge = {.kind = (enum peer_merge_kind)m->kind, .group = m->group, .replica = m->replica, .merge = m->merge, .index = m->index, .range_epoch = m->range_epoch};
        if (reader->merge != NULL) reader->merge(reader->context, &merge);
    }
    for (size_t i = 0; i < batch->n_raft; i++) {
        enum kv_err err = read_raft(batch->raft[i], arena, reader);
        if (err != KV_OK) return err;
    }
    if (batch->directory != NULL && reader->directory != NULL) {
        enum kv_err err = read_directory(batch->directory, arena, reader);
        if (err != KV_OK) return err;
    }
    for (size_t i = 0; i < batch->n_told && reader->told != NULL; i++)
        reader->told(reader->context, kv_proto_slice(batch->told[i]->descriptor), batch->told[i]->term);
    for (size_t i = 0; i < batch->n_loads && reader->load != NULL; i++) {
        const Kv__Peer__Load *l = batch->loads[i];
        if (l->median.len > KV_KEY_BYTES_MAX || l->middle.len > KV_KEY_BYTES_MAX) return KV_MALFORMED;
        reader->load(reader->context, &(struct peer_load){.group = l->group, .range_epoch = l->range_epoch, .rate = l->rate, .has_bytes = l->has_bytes, .bytes = l->bytes, .median = kv_proto_slice(l->median), .middle = kv_proto_slice(l->middle), .is_lone = l->lone});
    }
    for (size_t i = 0; i < batch->n_snapshots; i++) {
        const Kv__Peer__Snapshot *s = batch->snapshots[i];
        struct peer_snapshot snapshot = {.group = s->group,
                                         .from = s->from,
                                         .to = s->to,
                                         .id = s->id,
                                         .term = s->term,
                                         .index = s->index,
                                         .index_term = s->index_term,
                                         .clock_ms = s->clock_ms,
                                         .size = s->size,
                                         .checksum = s->checksum,
                                         .offset = s->offset,
                                         .descriptor = kv_proto_slice(s->descriptor),
                                         .data = kv_proto_slice(s->data),
                                         .answer = s->answer,
                                         .installed = s->installed,
                                         .err = (enum kv_err)s->err};
        reader->snapshot(reader->context, &snapshot);
    }
    if (batch->has_nodes && reader->nodes != NULL) reader->nodes(reader->context, kv_proto_slice(batch->nodes));
    return KV_OK;
}

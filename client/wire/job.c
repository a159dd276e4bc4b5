/* Beside message.c the only file of this folder that sees generated code. */
#include "client/wire/job.h"

#include "client/base/proto.h"
#include "kv.pb-c.h"

#include <assert.h>

static const char *const kinds[] = {NULL, "move", "split", "merge", "drain", "drop", "alter"};
static const char *const states[] = {"queued", "running", "paused", "cancelling", "done", "failed", "cancelled"};
static_assert(sizeof kinds / sizeof kinds[0] == KV_JOB_ALTER + 1 && sizeof states / sizeof states[0] == KV_JOB_CANCELLED + 1, "all named");

const char *kv_job_kind_text(enum kv_job_kind kind)
{
    return kinds[kind];
}

bool kv_job_kind_parse(struct kv_slice text, enum kv_job_kind *out)
{
    for (int i = KV_JOB_MOVE; i <= KV_JOB_ALTER; i++)
        if (kv_slice_eq(text, kv_str(kinds[i]))) {
            *out = (enum kv_job_kind)i;
            return true;
        }
    return false;
}

const char *kv_job_state_text(enum kv_job_state state)
{
    return states[state];
}

static ProtobufCBinaryData text_of(struct kv_slice s)
{
    return kv_proto_bytes(kv_slice(s.data, s.size < KV_JOB_TEXT_BYTES_MAX ? s.size : KV_JOB_TEXT_BYTES_MAX));
}

void kv_job_encode(const struct kv_job *j, struct kv_buf *out)
{
    Kv__Wire__Job m = KV__WIRE__JOB__INIT;
#define NUMBER(field)       m.has_##field = j->field != 0, m.field = j->field
#define BYTES(field, value) m.has_##field = j->field.size > 0, m.field = (value)
    NUMBER(id);
    m.kind = (uint32_t)j->kind;
    m.has_state = j->state != KV_JOB_QUEUED;
    m.state = (uint32_t)j->state;
    NUMBER(partition), NUMBER(other), NUMBER(keyspace), NUMBER(from), NUMBER(to);
    BYTES(key, kv_proto_bytes(j->key)), BYTES(before, kv_proto_bytes(j->before)), BYTES(after, kv_proto_bytes(j->after));
    BYTES(name, text_of(j->name)), BYTES(reason, text_of(j->reason));
    BYTES(unit, text_of(j->unit)), BYTES(note, text_of(j->note));
    m.has_automatic = m.automatic = j->automatic;
    NUMBER(fence), NUMBER(runner), NUMBER(done), NUMBER(total);
    NUMBER(opened_ms), NUMBER(started_ms), NUMBER(updated_ms), NUMBER(ended_ms);
    NUMBER(range_epoch), NUMBER(conf_epoch), NUMBER(result);
    m.has_error = j->error != KV_OK;
    m.error = (uint32_t)j->error;
#undef NUMBER
#undef BYTES
    size_t size = protobuf_c_message_get_packed_size(&m.base);
    uint8_t *p = kv_buf_reserve(out, size);
    if (p != NULL) kv_buf_commit(out, protobuf_c_message_pack(&m.base, p));
}

enum kv_err kv_job_decode(struct kv_slice bytes, struct kv_arena *arena, struct kv_job *out)
{
    enum { BYTES_MAX = 1 << 20 };
    enum kv_err err;
    if (bytes.size > BYTES_MAX) return KV_TOO_BIG;
    const Kv__Wire__Job *m = (const Kv__Wire__Job *)kv_proto_unpack(&kv__wire__job__descriptor, bytes, arena, &err);
    if (m == NULL) return err;
    if (m->kind < KV_JOB_MOVE || m->kind > KV_JOB_ALTER || m->state > KV_JOB_CANCELLED || m->error > KV_NO_KEYSPACE) return KV_MALFORMED;
    if (m->key.len > KV_KEY_BYTES_MAX || m->name.len > KV_NAME_BYTES_MAX || m->reason.len > KV_JOB_TEXT_BYTES_MAX ||
        m->unit.len > KV_JOB_TEXT_BYTES_MAX || m->note.len > KV_JOB_TEXT_BYTES_MAX)
        return KV_TOO_BIG;
    *out = (struct kv_job){.id = m->id,
                           .kind = (enum kv_job_kind)m->kind,
                           .state = (enum kv_job_state)m->state,
                           .partition = m->partition,
                           .other = m->other,
                           .keyspace = m->keyspace,
                           .from = m->from,
                           .to = m->to,
                           .key = kv_proto_slice(m->key),
                           .name = kv_proto_slice(m->name),
                           .reason = kv_proto_slice(m->reason),
                           .unit = kv_proto_slice(m->unit),
                           .note = kv_proto_slice(m->note),
                           .before = kv_proto_slice(m->before),
                           .after = kv_proto_slice(m->after),
                           .automatic = m->automatic,
                           .fence = m->fence,
                           .runner = m->runner,
                           .done = m->done,
                           .total = m->total,
                           .opened_ms = m->opened_ms,
                           .started_ms = m->started_ms,
                           .updated_ms = m->updated_ms,
                           .ended_ms = m->ended_ms,
                           .range_epoch = m->range_epoch,
                           .conf_epoch = m->conf_epoch,
                           .error = (enum kv_err)m->error,
                           .result = m->result};
    return KV_OK;
}

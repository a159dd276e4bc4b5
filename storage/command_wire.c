#include <assert.h>

#include "client/base/endian.h"
#include "storage/command.h"

/* Message Command of command.proto, packed and unpacked by hand: it is done for every write on every
 * replica, and the generated code took a tenth of a pipelined SET. The bytes are those of the
 * generated code (Protocol Buffers, "Encoding"), which the unit test holds it to.
 *
 * Unpacking copies nothing: arguments stay where they are. Fields may come in any order, the last of
 * several counts, and unknown ones are skipped; all else that we would never write is malformed. */
enum field {
    FIELD_OP = 1,
    FIELD_ARGS = 2,
    FIELD_KEYSPACE = 3,
    FIELD_RANGE_EPOCH = 4,
    FIELD_STAMP_MS = 5,
    FIELD_SEED = 6,
    FIELD_FEATURE = 7,
    FIELD_CLIENT = 8,
    FIELD_SEQUENCE = 9
};
enum wire { WIRE_VARINT = 0,
            WIRE_FIXED64 = 1,
            WIRE_BYTES = 2,
            WIRE_FIXED32 = 5 };
enum { VARINT_BYTES_MAX = 10 };

/* ---- packing ---- */

static size_t varint_size(uint64_t v)
{
    return 1 + (size_t)(63 - __builtin_clzll(v | 1)) / 7;
}

static uint8_t *varint_put(uint8_t *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

static uint8_t *tag_put(uint8_t *p, enum field field, enum wire wire)
{
    *p++ = (uint8_t)((unsigned)field << 3 | (unsigned)wire);
    return p;
}

static size_t number_size(uint64_t v)
{
    return v == 0 ? 0 : 1 + varint_size(v);
}

static uint8_t *number_put(uint8_t *p, enum field field, uint64_t v)
{
    return v == 0 ? p : varint_put(tag_put(p, field, WIRE_VARINT), v);
}

static size_t fixed_size(uint64_t v)
{
    return v == 0 ? 0 : 1 + sizeof v;
}

static uint8_t *fixed_put(uint8_t *p, enum field field, uint64_t v)
{
    if (v == 0) return p;
    p = tag_put(p, field, WIRE_FIXED64);
    le64_put(p, v);
    return p + sizeof v;
}

static size_t bytes_size(size_t size)
{
    return 1 + varint_size(size) + size;
}

static uint8_t *bytes_put(uint8_t *p, enum field field, const void *data, size_t size)
{
    p = varint_put(tag_put(p, field, WIRE_BYTES), size);
    if (size > 0) memcpy(p, data, size);
    return p + size;
}

void command_sub(const struct command *c, uint8_t sub[COMMAND_SUB_BYTES])
{
    memcpy(sub, c->client, COMMAND_CLIENT_BYTES);
    be32_put(sub + COMMAND_CLIENT_BYTES, (uint32_t)(c->sequence >> 32));
    be32_put(sub + COMMAND_CLIENT_BYTES + 4, (uint32_t)c->sequence);
}

void command_encode(const struct command *c, struct kv_buf *out)
{
    bool has_key = c->sequence != 0; /* only together are they an idempotency key */
    size_t size = 1 + varint_size((uint64_t)c->op) + number_size(c->keyspace) + number_size(c->range_epoch) +
                  fixed_size(c->stamp_ms) + fixed_size(c->seed) + number_size(c->feature) +
                  number_size(c->sequence) + (has_key ? bytes_size(sizeof c->client) : 0);
    for (uint32_t i = 0; i < c->arg_count; i++) size += bytes_size(c->args[i].size);
    uint8_t *into = kv_buf_reserve(out, size);
    if (into == NULL) return;

    uint8_t *p = varint_put(tag_put(into, FIELD_OP, WIRE_VARINT), (uint64_t)c->op);
    for (uint32_t i = 0; i < c->arg_count; i++) p = bytes_put(p, FIELD_ARGS, c->args[i].data, c->args[i].size);
    p = number_put(p, FIELD_KEYSPACE, c->keyspace);
    p = number_put(p, FIELD_RANGE_EPOCH, c->range_epoch);
    p = fixed_put(p, FIELD_STAMP_MS, c->stamp_ms);
    p = fixed_put(p, FIELD_SEED, c->seed);
    p = number_put(p, FIELD_FEATURE, c->feature);
    if (has_key) p = bytes_put(p, FIELD_CLIENT, c->client, sizeof c->client);
    p = number_put(p, FIELD_SEQUENCE, c->sequence);
    assert(p == into + size);
    kv_buf_commit(out, size);
}

/* ---- unpacking ---- */

struct cursor {
    const uint8_t *at, *end;
    bool failed;
};
struct item { /* one field */
    uint64_t field, number;
    enum wire wire;
    struct kv_slice bytes;
};

static uint64_t varint_get_long(struct cursor *c)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < VARINT_BYTES_MAX && c->at < c->end; i++) {
        uint8_t b = *c->at++;
        if (i == VARINT_BYTES_MAX - 1 && b > 1) break; /* beyond 64 bits */
        v |= (uint64_t)(b & 0x7F) << (7 * i);
        if (b < 0x80) return v;
    }
    c->failed = true;
    return 0;
}

static inline uint64_t varint_get(struct cursor *c)
{
    /* Nearly all are of one byte: tags, sizes, small numbers. */
    return c->at < c->end && *c->at < 0x80 ? *c->at++ : varint_get_long(c);
}

static inline struct kv_slice bytes_get(struct cursor *c, uint64_t size)
{
    if (size > (uint64_t)(c->end - c->at)) {
        c->failed = true;
        return kv_slice(NULL, 0);
    }
    struct kv_slice s = kv_slice(c->at, (size_t)size);
    c->at += size;
    return s;
}

/* False at the end and on a failure. */
static inline bool item_next(struct cursor *c, struct item *out)
{
    if (c->at == c->end) return false;
    uint64_t tag = varint_get(c);
    *out = (struct item){.field = tag >> 3, .wire = (enum wire)(tag & 7)};
    switch (out->wire) {
    case WIRE_VARINT: out->number = varint_get(c); break;
    case WIRE_FIXED64:
        out->bytes = bytes_get(c, 8);
        if (!c->failed) out->number = le64_get(out->bytes.data);
        break;
    case WIRE_BYTES: out->bytes = bytes_get(c, varint_get(c)); break;
    case WIRE_FIXED32: out->bytes = bytes_get(c, 4); break;
    default: c->failed = true; break; /* groups, and what is not of this format */
    }
    if (out->field == 0) c->failed = true;
    return !c->failed;
}

struct kv_slice command_field_bytes(struct kv_slice message, uint32_t field)
{
    struct cursor c = {message.data, message.data + message.size, false};
    struct kv_slice found = {0};
    if (message.size == 0) return found;
    for (struct item i; item_next(&c, &i);)
        if (i.field == field && i.wire == WIRE_BYTES) found = i.bytes;
    return found;
}

struct args {
    struct kv_slice *at; /* in the arena */
    uint32_t count, room;
};
enum { ARGS_FEW = 4 }; /* most commands have no more, and need no second walk to count them */

static uint32_t args_left(struct cursor rest)
{
    uint32_t count = 0;
    for (struct item i; item_next(&rest, &i);) count += i.field == FIELD_ARGS;
    return count;
}

static bool args_add(struct args *a, struct kv_slice arg, const struct cursor *rest, struct kv_arena *arena)
{
    if (a->count == a->room) {
        uint32_t room = a->room == 0 ? ARGS_FEW : a->count + 1 + args_left(*rest);
        struct kv_slice *at = kv_arena_alloc(arena, room * sizeof *at);
        if (at == NULL) return false;
        if (a->count > 0) memcpy(at, a->at, a->count * sizeof *at);
        a->at = at;
        a->room = room;
    }
    a->at[a->count++] = arg;
    return true;
}

static bool number_is(const struct item *i, enum wire wire, uint64_t max)
{
    return i->wire == wire && i->number <= max;
}

enum kv_err command_decode(struct kv_slice bytes, struct kv_arena *arena, struct command *out)
{
    *out = (struct command){.arg_count = 0};
    if (bytes.size == 0) return KV_MALFORMED;
    struct args args = {0};
    struct cursor c = {bytes.data, bytes.data + bytes.size, false};
    struct kv_slice client = {0};
    uint64_t op = 0;
    bool has_op = false, fits = true;
    for (struct item i; item_next(&c, &i);) {
        switch (i.field) {
        case FIELD_OP:
            fits &= number_is(&i, WIRE_VARINT, UINT32_MAX);
            has_op = true;
            op = i.number;
            break;
        case FIELD_ARGS:
            fits &= i.wire == WIRE_BYTES;
            if (!args_add(&args, i.bytes, &c, arena)) return KV_TOO_BIG;
            break;
        case FIELD_KEYSPACE:
            fits &= number_is(&i, WIRE_VARINT, UINT32_MAX);
            out->keyspace = (uint32_t)i.number;
            break;
        case FIELD_RANGE_EPOCH:
            fits &= number_is(&i, WIRE_VARINT, UINT32_MAX);
            out->range_epoch = (uint32_t)i.number;
            break;
        case FIELD_STAMP_MS:
            fits &= number_is(&i, WIRE_FIXED64, UINT64_MAX);
            out->stamp_ms = i.number;
            break;
        case FIELD_SEED:
            fits &= number_is(&i, WIRE_FIXED64, UINT64_MAX);
            out->seed = i.number;
            break;
        case FIELD_FEATURE:
            fits &= number_is(&i, WIRE_VARINT, UINT32_MAX);
            out->feature = (uint32_t)i.number;
            break;
        case FIELD_CLIENT:
            fits &= i.wire == WIRE_BYTES;
            client = i.bytes;
            break;
        case FIELD_SEQUENCE:
            fits &= number_is(&i, WIRE_VARINT, UINT64_MAX);
            out->sequence = i.number;
            break;
        default: break; /* of a later version */
        }
    }
    if (c.failed || !fits || !has_op) return KV_MALFORMED;
    /* The level is judged first: behind a later one even an unknown op is legal. */
    if (out->feature > COMMAND_FEATURE) return KV_VERSION;
    if (kv_op_info((uint32_t)op) == NULL) return KV_MALFORMED;
    if (client.size != (out->sequence != 0 ? sizeof out->client : 0)) return KV_MALFORMED;
    out->op = (enum kv_op)op;
    out->args = args.at;
    out->arg_count = args.count;
    if (client.size > 0) memcpy(out->client, client.data, client.size);
    return KV_OK;
}

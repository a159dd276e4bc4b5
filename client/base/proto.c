#include "client/base/proto.h"

/* protobuf-c's allocator on an arena. A refusal is remembered, because unpack reports
 * everything as NULL and a peer should hear "too big" apart from "malformed". */
struct proto_memory {
    struct kv_arena *arena;
    bool refused;
};

static void *proto_alloc(void *context, size_t size)
{
    struct proto_memory *m = context;
    void *p = kv_arena_alloc(m->arena, size);
    if (p == NULL) m->refused = true;
    return p;
}

static void proto_free(void *context, void *p)
{
    (void)context; /* dies with the arena */
    (void)p;
}

ProtobufCMessage *kv_proto_unpack(const ProtobufCMessageDescriptor *d, struct kv_slice bytes, struct kv_arena *arena,
                                  enum kv_err *err)
{
    static const uint8_t nothing[1];
    struct proto_memory memory = {.arena = arena};
    ProtobufCAllocator allocator = {.alloc = proto_alloc, .free = proto_free, .allocator_data = &memory};
    ProtobufCMessage *m =
        protobuf_c_message_unpack(d, &allocator, bytes.size, bytes.size == 0 ? nothing : bytes.data);
    *err = m != NULL ? KV_OK : memory.refused ? KV_TOO_BIG : KV_MALFORMED;
    return m;
}

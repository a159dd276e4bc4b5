#ifndef KV_PROTO_H
#define KV_PROTO_H
#include "client/base/arena.h"
#include "client/base/err.h"
#include <protobuf-c/protobuf-c.h>

/* Between generated messages and our own memory. Only the few files that see generated code
 * include this; unpacking takes all from an arena and frees nothing. */

/* The message, valid as long as the arena and `bytes`. NULL: KV_TOO_BIG (the arena refused) or
 * KV_MALFORMED. Counts and enums inside are the caller's to check. */
ProtobufCMessage *kv_proto_unpack(const ProtobufCMessageDescriptor *d, struct kv_slice bytes, struct kv_arena *arena,
                                  enum kv_err *err);

/* protobuf-c only reads what it packs, but does not say so in its types. */
static inline ProtobufCBinaryData kv_proto_bytes(struct kv_slice s)
{
    return (ProtobufCBinaryData){.len = s.size, .data = (uint8_t *)(uintptr_t)s.data};
}

static inline struct kv_slice kv_proto_slice(ProtobufCBinaryData b)
{
    return kv_slice(b.data, b.len);
}
#endif

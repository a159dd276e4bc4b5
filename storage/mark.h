#ifndef STORAGE_MARK_H
#define STORAGE_MARK_H
#include "client/base/buf.h"
#include "storage/checkpoint.h"

/* A group's mark as bytes (storage/README.md): the key is the group, big-endian. */
enum { MARK_KEY_BYTES = 4, MARK_HEADER_BYTES = 40, MARK_DESCRIPTOR_BYTES_MAX = 64 << 10 };
/* Appends the value to `out`. KV_TOO_BIG: the descriptor; KV_BUSY: memory. */
enum kv_err mark_write(const struct checkpoint_mark *m, uint8_t key[MARK_KEY_BYTES], struct kv_buf *out);
/* False: size, checksum or state. The descriptor points into `value`. */
bool mark_read(struct kv_slice key, struct kv_slice value, struct checkpoint_mark *out);
#endif

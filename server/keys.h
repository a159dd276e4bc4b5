#ifndef SERVER_KEYS_H
#define SERVER_KEYS_H
#include "client/wire/channel.h"

/* Key files: 64 hex digits of the secret key and a newline, mode 0600; made on first start.
 * KV_NOT_FOUND; KV_DENIED: the file is readable by others; KV_MALFORMED; KV_IO. */
enum kv_err keys_load(const char *path, struct channel_identity *out, char *why, size_t why_size);
enum kv_err keys_make(const char *path, const uint8_t secret[CHANNEL_KEY_BYTES], char *why, size_t why_size); /* KV_CONFLICT: exists */
/* Public keys of clients that may connect: one of 64 hex digits a line, '#' comments. */
struct keys_allowed {
    uint8_t (*keys)[CHANNEL_KEY_BYTES];
    uint32_t count;
};
enum kv_err keys_allowed_make(const char *path, const uint8_t key[CHANNEL_KEY_BYTES], char *why, size_t why_size); /* with one; KV_CONFLICT: exists */
enum kv_err keys_allowed_load(const char *path, struct keys_allowed *out, char *why, size_t why_size);
bool keys_allowed_has(const struct keys_allowed *a, const uint8_t key[CHANNEL_KEY_BYTES]);
void keys_allowed_free(struct keys_allowed *a);
#endif

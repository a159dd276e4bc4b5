#ifndef SERVER_PASSWD_H
#define SERVER_PASSWD_H
#include "client/base/err.h"
#include "client/base/slice.h"

/* Argon2id password lines ("$argon2id$v=19$m=..", libsodium's format), 64 MiB and 3 passes.
 * Both calls take about 100 ms of CPU: never on the loop (R25). */
enum { PASSWD_LINE_BYTES = 128 };
enum kv_err passwd_make(struct kv_slice password, char line[PASSWD_LINE_BYTES]); /* KV_NO_SPACE: memory */
enum kv_err passwd_check(const char *line, struct kv_slice password);            /* KV_OK, KV_AUTH */
bool passwd_line_valid(const char *line);
#endif

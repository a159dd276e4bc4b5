#ifndef SERVER_USERS_H
#define SERVER_USERS_H
#include "client/base/err.h"
#include "client/base/key.h"
#include "server/passwd.h"

/* Users of the Redis ports beside `default`, whose password is resp.password. A file of mode 0600, one user a line:
 *
 *   NAME KEYSPACE ARGON2ID-LINE        as `kvctl passwd --user NAME --keyspace KEYSPACE` prints it
 *
 * KEYSPACE binds the user to that keyspace; `*` does not. Blanks separate, '#' begins a comment. */
enum { USERS_MAX = 1024,
       USERS_FILE_BYTES_MAX = 1 << 20 };
struct user {
    char name[KV_NAME_BYTES_MAX + 1];
    char keyspace[KV_NAME_BYTES_MAX + 1]; /* "": bound to none */
    char line[PASSWD_LINE_BYTES];
};
struct users {         /* zero: nobody */
    struct user *list; /* owned; by name */
    uint32_t count;
};
#define USER_DEFAULT "default"

/* Both name FILE:LINE and what to do; `out` is empty then. KV_NOT_FOUND; KV_DENIED: the file is readable by others;
 * KV_MALFORMED; KV_CONFLICT: a user stands there twice; KV_TOO_BIG: file or number of users; KV_NO_SPACE; KV_IO. */
enum kv_err users_load(const char *path, struct users *out, char *why, size_t why_size);
enum kv_err users_parse(const char *path, struct kv_slice text, struct users *out, char *why, size_t why_size);
const struct user *users_find(const struct users *u, struct kv_slice name); /* NULL: none; valid until users_free() */
void users_free(struct users *u);
#endif

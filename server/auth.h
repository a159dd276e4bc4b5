#ifndef SERVER_AUTH_H
#define SERVER_AUTH_H
#include "server/gate.h"

/* Passwords of the Redis ports: of user `default` (resp.password) and of those of resp.users. Argon2id runs off the
 * loop, at most two at once; an address that failed is made to wait; what was right once is recognised by its keyed
 * hash, of some thousand passwords at most (R25). */
struct auth;
struct worker;
struct auth *auth_create(struct worker *w); /* NULL: out of memory */
void auth_destroy(struct auth *a);
bool auth_is_required(const struct worker *w);
void auth_start(struct gate *g, struct kv_slice user, struct kv_slice password,
                gate_authenticated *done); /* g counts it as a pending request */
bool auth_is_current(const struct worker *w, struct kv_slice user, uint64_t mark);
#endif

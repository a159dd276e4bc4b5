#ifndef SERVER_AUTH_H
#define SERVER_AUTH_H
#include "server/gate.h"

/* Passwords of the Redis port. Argon2id runs off the loop, at most two at once; an address
 * that failed is made to wait; what was right once is recognised by its keyed hash (R25). */
struct auth;
struct worker;
struct auth *auth_create(struct worker *w); /* NULL: out of memory */
void auth_destroy(struct auth *a);
void auth_start(struct gate *g, struct kv_slice user, struct kv_slice password,
                void (*done)(struct gate *g, enum kv_err err)); /* g counts it as a pending request */
#endif

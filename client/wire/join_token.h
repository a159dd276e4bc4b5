#ifndef KV_JOIN_TOKEN_H
#define KV_JOIN_TOKEN_H
#include "client/base/err.h"
#include "client/base/slice.h"

/* What lets one new node into a cluster, as people pass it on: "kvd1-" CLUSTER "-" SECRET "-" CHECK, 32, 32 and 8 hex
 * digits. The cluster's id is in it, so that the node joins no other one; the cluster keeps only the secret's hash. */
enum { JOIN_TOKEN_SECRET_BYTES = 16,
       JOIN_TOKEN_HASH_BYTES = 32,
       JOIN_TOKEN_TEXT_BYTES = 5 + 32 + 1 + 32 + 1 + 8 + 1 };
struct join_token {
    uint8_t cluster[16];
    uint8_t secret[JOIN_TOKEN_SECRET_BYTES];
};
void join_token_print(const struct join_token *t, char out[JOIN_TOKEN_TEXT_BYTES]);
bool join_token_parse(const char *text, struct join_token *out); /* false: none, or mistyped */
void join_token_hash(const uint8_t secret[JOIN_TOKEN_SECRET_BYTES], uint8_t out[JOIN_TOKEN_HASH_BYTES]);
#endif

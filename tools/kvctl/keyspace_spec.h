#ifndef KVCTL_KEYSPACE_SPEC_H
#define KVCTL_KEYSPACE_SPEC_H
#include "client/wire/message.h"

/* A keyspace as it is asked for on a command line. Pure; what only the cluster can judge it judges. */
enum { SPEC_WHY_BYTES = 256 };
struct spec_words {
    const char *name;
    const char *partition;                            /* hash[:P] | range[:KEY,KEY,..] | list:GROUP=LABEL|LABEL,..  with \, \| \= \\ \xHH */
    const char *replicas, *delimiter, *default_group; /* NULL: not said */
};
/* The arena holds what comes out. False: `why` says what is wrong. */
bool spec_parse(const struct spec_words *w, struct kv_arena *arena, struct kv_keyspace *out, char why[SPEC_WHY_BYTES]);
#endif

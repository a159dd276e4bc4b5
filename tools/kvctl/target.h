#ifndef KVCTL_TARGET_H
#define KVCTL_TARGET_H
#include <stdbool.h>
#include <stddef.h>

/* Which cluster a command talks to, and what was looked at to find it. */
enum { TARGET_PATH_BYTES = 1024, TARGET_TEXT_BYTES = 2048 };
struct target {
    char addresses[TARGET_TEXT_BYTES]; /* "host:port,.." */
    char key_file[TARGET_PATH_BYTES];
    char source[TARGET_PATH_BYTES + 32]; /* where the addresses come from */
    char tried[TARGET_TEXT_BYTES];       /* "NAME (reason), NAME (reason)" of all that was looked at */
};
struct target_hints { /* options, then environment; NULL: not given */
    const char *cluster, *addr, *key;
    const char *env_cluster, *env_addr, *env_key;
    const char *directory; /* where "build/cluster" and "kvd-data" are looked for; NULL: "." */
};

/* Addresses: --addr, KVD_ADDR, --cluster, KVD_CLUSTER, build/cluster/cluster.json, ./kvd-data,
 * 127.0.0.1:7401. Key: --key, KVD_KEY, else the one beside the addresses, else the first there is
 * among build/cluster/cluster.json's and kvd-data/client.key. What is named explicitly must work:
 * false, and `why` is one line. */
bool target_find(struct target *t, const struct target_hints *h, char *why, size_t why_size);
/* Reads a cluster.json: fills addresses and key_file. */
bool target_cluster(struct target *t, const char *path, char *why, size_t why_size);
#endif

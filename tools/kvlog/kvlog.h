#ifndef TOOLS_KVLOG_H
#define TOOLS_KVLOG_H
#include <stdio.h>

#include "storage/checkpoint.h"
#include "storage/disk.h"
#include "storage/lmdb_walk.h"
#include "storage/log.h"

enum { KVLOG_OK = 0,
       KVLOG_FAILED = 1,
       KVLOG_USAGE = 2,
       KVLOG_DAMAGED = 4,
       KVLOG_STORES_MAX = 16,
       KVLOG_PATH_BYTES = 4096 };

struct kvlog { /* one worker's store, opened for looking */
    char directory[KVLOG_PATH_BYTES];
    char place[24]; /* in front of the names of its files: "", or "worker-1/" */
    struct disk_uv *uv;
    struct disk *disk;
    struct checkpoint *checkpoint; /* NULL: none was ever made */
    uint64_t store_id;             /* 0: the identity file does not say */
    uint32_t node_id;
};

/* Every record of the log and every mark of the checkpoint, one line each. group NULL: of all. */
int kvlog_dump(struct kvlog *k, const uint32_t *group);
/* One line for each thing that is wrong, and where; then a summary. */
int kvlog_verify(struct kvlog *k);

/* state.c: every page of state/data.mdb, one line each; damage among them. */
int kvlog_pages(struct kvlog *k);
/* One line for each thing wrong in state/data.mdb; how many there are in `*count`. */
enum kv_err kvlog_state(struct kvlog *k, uint64_t *count);
void kvlog_damage_print(FILE *to, const struct kvlog *k, const struct lmdb_damage *d); /* a line: where, what, which keys were there */
/* salvage.c: every row that can be read in any of the stores, the log behind the checkpoint included, as JSON lines to
 * stdout in the format of kvctl export; on stderr what is lost, and where. `keyspace`: name or id; NULL: default. */
int kvlog_salvage(struct kvlog *stores, uint32_t count, const char *keyspace);
/* Printable bytes as they are, others as \xNN, at most 64 of them; `size` 270 holds any. */
void kvlog_key_text(struct kv_slice key, char *out, size_t size);

/* describe.c: "SET user:1 (2 arguments)"; KV_MALFORMED or KV_VERSION if it cannot be read. */
enum kv_err kvlog_describe(struct kv_slice command, char *out, size_t size);
#endif

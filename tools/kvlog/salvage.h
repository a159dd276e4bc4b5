#ifndef TOOLS_KVLOG_SALVAGE_H
#define TOOLS_KVLOG_SALVAGE_H
#include "storage/command.h"
#include "storage/memtable.h"
#include "tools/kvlog/kvlog.h"

/* One group of a damaged directory: its mark in the state, and its log behind that mark. */
struct salvage_entry {
    uint64_t term;
    uint8_t *bytes; /* NULL: not found, or cut */
    uint32_t size;
};
struct salvage_group {
    uint32_t group;
    bool has_mark, installing;
    struct checkpoint_mark mark; /* without descriptor */
    struct descriptor descriptor;
    struct kv_key_rule rule; /* of the descriptor; both lie in memory */
    struct kv_arena memory;
    uint64_t commit; /* highest the log knows of */
    uint64_t first;  /* index of entries[0] */
    struct salvage_entry *entries;
    size_t count, capacity;
    uint64_t applied; /* how far the log was replayed */
};
struct salvage { /* of one store */
    struct kvlog *k;
    struct salvage_group **groups;
    size_t group_count;
    struct memtable *wanted; /* keys that the log touches */
    struct memtable *base;   /* what the state has of them */
    struct memtable *newer;  /* what the log makes of them: shadows the state */
    uint64_t lost, clock_ms; /* lost: things told to be */
    bool out_of_memory;
};

enum kv_err salvage_walk(const struct salvage *s, struct lmdb_walk *w); /* its state, if there is any */
/* Takes a descriptor, with a copy of it; false: it does not decode. */
bool salvage_describe(struct salvage_group *g, struct kv_slice bytes);

/* salvage_replay.c: executes the entries behind the marks, as the node would have (R7), up to the first
 * that is missing in each group. Notes the keys first, so that their rows can be read before. */
void salvage_keys(struct salvage *s);
void salvage_replay(struct salvage *s);

/* salvage_rows.c: what is there then goes to stdout. On an error `*at` is the store whose it is. */
struct salvage_rows {
    const char *wanted; /* the keyspace: name or id */
    uint32_t keyspace;  /* its id; 0: it was not met */
    uint64_t rows, rotten;
    uint64_t others;     /* rows of other keyspaces, */
    struct kv_buf names; /* and what those are called */
};
enum kv_err salvage_rows_out(const struct salvage *stores, uint32_t count, struct salvage_rows *rows, uint32_t *at);
/* Of two replicas of a partition, or of what was one: the first knows more. One without its rows knows nothing. */
bool salvage_is_ahead(const struct salvage_group *a, const struct salvage_group *b);
#endif

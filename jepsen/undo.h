#ifndef JEPSEN_UNDO_H
#define JEPSEN_UNDO_H
#include <stdbool.h>
#include <stdint.h>

/* What a loss of power does to the files of a node that has ended, from the journal of the preloaded
 * disk (shim/): changes that were not synced are taken back.
 *
 * By the seed either all of them, or a random choice of pages and a random tail of the creations,
 * renames and removals; a disk may write its pages in any order. */
enum { UNDO_PAGE_BYTES = 4096, UNDO_WHY_BYTES = 160 };
struct undo_result {
    uint64_t records;  /* in the journal */
    uint64_t unsynced; /* of them not durable */
    uint64_t bytes;    /* taken back */
    uint32_t names;    /* creations, renames, removals taken back */
};
/* `data` and `shim` are the node's directories. Afterwards the journal is empty. */
bool undo_unsynced(const char *data, const char *shim, uint64_t seed, struct undo_result *out,
                   char why[UNDO_WHY_BYTES]);
#endif

#ifndef STORAGE_LOG_WALK_H
#define STORAGE_LOG_WALK_H
#include "storage/log_format.h"

/* Reads every batch of a log in order and tells damage from an unsynced tail (R3). Used by
 * recovery and by log_scan(). Private to storage/log*.c. Blocking. */
enum log_problem {
    LOG_PROBLEM_TAIL,   /* not synced when it was written: nothing was promised */
    LOG_PROBLEM_HEADER, /* of a file whose batches are whole: nothing is lost */
    LOG_PROBLEM_DAMAGE
};
struct log_walk_file {
    uint64_t id, bytes;
    uint64_t used;           /* end of its last good batch; 0: none counts */
    uint64_t first_sequence; /* of the batch at its beginning; 0: none that is whole */
    struct disk_file file;   /* open; the caller's to close or keep */
    bool has_header;
    bool is_dead; /* half recycled, unused or superseded: nothing in it counts */
};
struct log_walk {
    struct disk *disk;
    uint64_t store_id; /* 0: take that of the first file */
    void *context;
    void (*segment)(void *context, const struct log_walk_file *f); /* before its first good batch */
    void (*batch)(void *context, const struct log_batch_header *h);
    /* Returns what is wrong with the record, or NULL. r->file is set. */
    const char *(*record)(void *context, const struct log_record *r, uint64_t hard_term,
                          const struct log_batch_header *h);
    void (*problem)(void *context, const struct log_damage *d, enum log_problem kind);
    /* out */
    struct log_walk_file *files; /* ascending; freed by log_walk_free() */
    size_t file_count;
    uint64_t sequence, checksum; /* of the last good batch; 0: none */
    /* private */
    uint8_t *buffer;
    size_t buffer_bytes, file_capacity;
    bool out_of_memory;
};
/* KV_OK: all was read, problems were told. KV_VERSION; KV_IO; KV_BAD_ARGUMENT: a file belongs
 * to another data directory (told as a problem too). */
enum kv_err log_walk(struct log_walk *w);
void log_walk_free(struct log_walk *w); /* does not close the files */
#endif

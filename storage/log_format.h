#ifndef STORAGE_LOG_FORMAT_H
#define STORAGE_LOG_FORMAT_H
#include "storage/log.h"

/* The bytes of a segment file, as storage/README.md shows them. Pure functions.
 * Private to storage/log*.c. */
enum {
    LOG_PAGE_BYTES = 4096,  /* batches begin here; writes end on a page */
    LOG_ALIGN_BYTES = 64,   /* batches begin at multiples of this */
    LOG_VERSION = 1,
    LOG_SEGMENT_HEADER_BYTES = 64,
    LOG_BATCH_HEADER_BYTES = 64,
    LOG_RECORD_HEADER_BYTES = 32,
    LOG_HARD_BYTES = 4,   /* body of LOG_RECORD_HARD */
    LOG_GROUP_BYTES = 24, /* body of LOG_RECORD_GROUP */
    LOG_NAME_BYTES = 32
};
struct log_segment_header {
    uint64_t store_id, id, bytes;
};
struct log_batch_header {
    uint32_t payload; /* bytes of records behind the header */
    uint32_t records;
    uint64_t sequence; /* of batches, from 1, without gaps over the whole log */
    uint64_t synced;   /* all batches up to this one were synced when it was written */
    uint64_t previous; /* checksum of the batch before: the chain */
    uint64_t offset, segment; /* where it stands: no copy elsewhere is valid */
    uint64_t checksum;
};

void log_segment_name(uint64_t id, char out[LOG_NAME_BYTES]); /* "log-%016x" */
bool log_segment_name_parse(const char *name, uint64_t *id);
void log_segment_header_put(uint8_t out[LOG_SEGMENT_HEADER_BYTES], const struct log_segment_header *h);
/* KV_CORRUPT: no header; KV_VERSION: a header of a later format. */
enum kv_err log_segment_header_get(const uint8_t *p, struct log_segment_header *out);

/* The header is in front of the payload; fills in and returns the checksum. */
uint64_t log_batch_seal(uint8_t *batch, const struct log_batch_header *h, uint64_t store_id);
/* True if `bytes` begin with a whole batch of this segment at this offset. */
bool log_batch_get(struct kv_slice bytes, uint64_t store_id, uint64_t segment, uint64_t offset,
                   struct log_batch_header *out);

static inline uint64_t log_align(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}
static inline uint64_t log_batch_bytes(const struct log_batch_header *h)
{
    return LOG_BATCH_HEADER_BYTES + (uint64_t)h->payload;
}

/* Writes header and body of `r` (kind, flags, group, replica, index, term, commit, vote,
 * bytes) to `out`, which has room for log_record_bytes(). For LOG_RECORD_GROUP index and
 * term mean the compaction point, and the hard state's term is `hard_term`. */
size_t log_record_bytes(enum log_record_kind kind, size_t entry_bytes);
void log_record_put(uint8_t *out, const struct log_record *r, uint64_t hard_term);
/* Decodes the record at *at and moves *at behind it; KV_MALFORMED. `bytes` of an entry
 * point into the payload. Does not look at the record's own checksum. */
enum kv_err log_record_get(struct kv_slice payload, size_t *at, struct log_record *out, uint64_t *hard_term);
/* For one entry read back by itself: false unless whole and exactly this entry. */
bool log_record_is_entry(struct kv_slice record, uint32_t group, uint64_t index, uint64_t term);
#endif

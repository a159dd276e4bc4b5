#include "storage/log_format.h"
#include "client/base/endian.h"
#include "client/base/hash.h"
#include "client/base/mutant.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

/* A record is {checksum 4, kind 1, flags 1, zero 2, group 4, size 4, index 8, term 8}
 * and `size` bytes; its checksum covers all of it behind the checksum. */
static const char segment_magic[8] = {'k', 'v', 'd', '-', 'l', 'o', 'g', '\n'};
#define BATCH_MAGIC UINT32_C(0x3142564B) /* "KVB1" */

void log_segment_name(uint64_t id, char out[LOG_NAME_BYTES])
{
    snprintf(out, LOG_NAME_BYTES, "log-%016" PRIx64, id);
}

bool log_segment_name_parse(const char *name, uint64_t *id)
{
    if (strncmp(name, "log-", 4) != 0 || strlen(name) != 20) return false;
    *id = 0;
    for (const char *p = name + 4; *p != '\0'; p++) {
        const char *digit = strchr("0123456789abcdef", *p);
        if (digit == NULL) return false;
        *id = *id << 4 | (uint64_t)(digit - "0123456789abcdef");
    }
    return *id != 0;
}

void log_segment_header_put(uint8_t out[LOG_SEGMENT_HEADER_BYTES], const struct log_segment_header *h)
{
    memset(out, 0, LOG_SEGMENT_HEADER_BYTES);
    memcpy(out, segment_magic, sizeof segment_magic);
    le32_put(out + 8, LOG_VERSION);
    le64_put(out + 16, h->store_id);
    le64_put(out + 24, h->id);
    le64_put(out + 32, h->bytes);
    le64_put(out + 56, kv_hash64(kv_slice(out, 56), 0));
}

enum kv_err log_segment_header_get(const uint8_t *p, struct log_segment_header *out)
{
    if (memcmp(p, segment_magic, sizeof segment_magic) != 0) return KV_CORRUPT;
    if (le64_get(p + 56) != kv_hash64(kv_slice(p, 56), 0)) return KV_CORRUPT;
    if (le32_get(p + 8) != LOG_VERSION) return KV_VERSION;
    out->store_id = le64_get(p + 16);
    out->id = le64_get(p + 24);
    out->bytes = le64_get(p + 32);
    return KV_OK;
}

/* The seed makes a batch of another store or of an earlier life of a recycled file invalid. */
static uint64_t batch_seed(uint64_t store_id, uint64_t segment)
{
    uint64_t state = store_id + segment * UINT64_C(0xD1342543DE82EF95);
    return kv_random_next(&state);
}

uint64_t log_batch_seal(uint8_t *batch, const struct log_batch_header *h, uint64_t store_id)
{
    le32_put(batch + 8, BATCH_MAGIC);
    le32_put(batch + 12, h->payload);
    le64_put(batch + 16, h->sequence);
    le64_put(batch + 24, h->synced);
    le64_put(batch + 32, h->previous);
    le64_put(batch + 40, h->offset);
    le64_put(batch + 48, h->segment);
    le32_put(batch + 56, h->records);
    le32_put(batch + 60, 0);
    uint64_t checksum =
        kv_hash64(kv_slice(batch + 8, log_batch_bytes(h) - 8), batch_seed(store_id, h->segment));
    le64_put(batch, checksum);
    return checksum;
}

bool log_batch_get(struct kv_slice bytes, uint64_t store_id, uint64_t segment, uint64_t offset,
                   struct log_batch_header *out)
{
    const uint8_t *p = bytes.data;
    if (bytes.size < LOG_BATCH_HEADER_BYTES || le32_get(p + 8) != BATCH_MAGIC) return false;
    *out = (struct log_batch_header){
        .payload = le32_get(p + 12),
        .sequence = le64_get(p + 16),
        .synced = le64_get(p + 24),
        .previous = le64_get(p + 32),
        .offset = le64_get(p + 40),
        .segment = le64_get(p + 48),
        .records = le32_get(p + 56),
        .checksum = le64_get(p),
    };
    if (out->offset != offset || out->segment != segment || log_batch_bytes(out) > bytes.size) return false;
    struct kv_slice covered = kv_slice(p + 8, (size_t)log_batch_bytes(out) - 8);
    return kv_hash64(covered, batch_seed(store_id, segment)) == out->checksum || MUTANT(checksum_skipped);
}

size_t log_record_bytes(enum log_record_kind kind, size_t entry_bytes)
{
    switch (kind) {
    case LOG_RECORD_ENTRY: return LOG_RECORD_HEADER_BYTES + entry_bytes;
    case LOG_RECORD_HARD: return LOG_RECORD_HEADER_BYTES + LOG_HARD_BYTES;
    case LOG_RECORD_GROUP: return LOG_RECORD_HEADER_BYTES + LOG_GROUP_BYTES;
    case LOG_RECORD_TRUNCATE:
    case LOG_RECORD_RESET:
    case LOG_RECORD_DESTROY: return LOG_RECORD_HEADER_BYTES;
    }
    return 0;
}

void log_record_put(uint8_t *out, const struct log_record *r, uint64_t hard_term)
{
    uint8_t *body = out + LOG_RECORD_HEADER_BYTES;
    size_t size = log_record_bytes(r->kind, r->bytes.size) - LOG_RECORD_HEADER_BYTES;
    uint64_t index = r->index;
    switch (r->kind) {
    case LOG_RECORD_ENTRY:
        if (size > 0) memcpy(body, r->bytes.data, size);
        break;
    case LOG_RECORD_HARD:
        index = r->commit;
        le32_put(body, r->vote);
        break;
    case LOG_RECORD_GROUP:
        le32_put(body, r->replica);
        le32_put(body + 4, r->vote);
        le64_put(body + 8, hard_term);
        le64_put(body + 16, r->commit);
        break;
    case LOG_RECORD_TRUNCATE:
    case LOG_RECORD_RESET:
    case LOG_RECORD_DESTROY: break;
    }
    out[4] = (uint8_t)r->kind;
    out[5] = r->flags;
    le16_put(out + 6, r->kind == LOG_RECORD_ENTRY ? r->behind : 0);
    le32_put(out + 8, r->group);
    le32_put(out + 12, (uint32_t)size);
    le64_put(out + 16, index);
    le64_put(out + 24, r->term);
    le32_put(out, kv_hash32(kv_slice(out + 4, LOG_RECORD_HEADER_BYTES - 4 + size), 0));
}

enum kv_err log_record_get(struct kv_slice payload, size_t *at, struct log_record *out, uint64_t *hard_term)
{
    if (payload.size - *at < LOG_RECORD_HEADER_BYTES) return KV_MALFORMED;
    const uint8_t *p = payload.data + *at, *body = p + LOG_RECORD_HEADER_BYTES;
    size_t size = le32_get(p + 12);
    if (payload.size - *at - LOG_RECORD_HEADER_BYTES < size) return KV_MALFORMED;
    if (p[4] < LOG_RECORD_ENTRY || p[4] > LOG_RECORD_DESTROY) return KV_MALFORMED;
    enum log_record_kind kind = (enum log_record_kind)p[4];
    if (log_record_bytes(kind, size) != LOG_RECORD_HEADER_BYTES + size) return KV_MALFORMED;
    *out = (struct log_record){
        .kind = kind, .flags = p[5], .group = le32_get(p + 8), .index = le64_get(p + 16), .term = le64_get(p + 24)};
    *hard_term = 0;
    /* Nobody counts that far: sums of an index and a length never overflow behind this. */
    if (out->index > INT64_MAX || out->group == UINT32_MAX) return KV_MALFORMED;
    switch (kind) {
    case LOG_RECORD_ENTRY:
        out->bytes = kv_slice(body, size);
        out->behind = le16_get(p + 6);
        if (out->behind > out->index) return KV_MALFORMED;
        if (out->behind > 0) out->commit = out->index - out->behind;
        break;
    case LOG_RECORD_HARD:
        out->commit = out->index;
        out->index = 0;
        out->vote = le32_get(body);
        break;
    case LOG_RECORD_GROUP:
        out->replica = le32_get(body);
        out->vote = le32_get(body + 4);
        *hard_term = le64_get(body + 8);
        out->commit = le64_get(body + 16);
        if (out->commit > INT64_MAX) return KV_MALFORMED;
        break;
    case LOG_RECORD_TRUNCATE:
    case LOG_RECORD_RESET:
    case LOG_RECORD_DESTROY: break;
    }
    *at += LOG_RECORD_HEADER_BYTES + size;
    return KV_OK;
}

bool log_record_is_entry(struct kv_slice record, uint32_t group, uint64_t index, uint64_t term)
{
    const uint8_t *p = record.data;
    return record.size >= LOG_RECORD_HEADER_BYTES && p[4] == LOG_RECORD_ENTRY && le32_get(p + 8) == group &&
           le64_get(p + 16) == index && le64_get(p + 24) == term &&
           le32_get(p + 12) == record.size - LOG_RECORD_HEADER_BYTES &&
           le32_get(p) == kv_hash32(kv_slice(p + 4, record.size - 4), 0);
}

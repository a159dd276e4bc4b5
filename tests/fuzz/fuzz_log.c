#include <stdlib.h>

#include "client/base/endian.h"
#include "client/base/hash.h"
#include "storage/disk_mem.h"
#include "storage/log_format.h"

/* A log whose batches are whole but hold any records at all, or files that hold anything. Recovery
 * must end, never crash, and what it says the log holds must be readable afterwards.
 *
 * Input: a first byte, even: pieces of [size 2 B][bytes] become the payloads of sealed batches, each
 * record's own checksum made right; odd: the rest becomes a file as it is, behind a valid header. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STORE_ID = 7, FILE_BYTES = 64 << 10 };

static void records_seal(uint8_t *payload, size_t size)
{
    for (size_t at = 0; size - at >= LOG_RECORD_HEADER_BYTES;) {
        size_t body = le32_get(payload + at + 12);
        if (body > size - at - LOG_RECORD_HEADER_BYTES) return;
        le32_put(payload + at, kv_hash32(kv_slice(payload + at + 4, LOG_RECORD_HEADER_BYTES - 4 + body), 0));
        at += LOG_RECORD_HEADER_BYTES + body;
    }
}

static uint32_t records_count(struct kv_slice payload)
{
    struct log_record r;
    uint64_t hard_term;
    uint32_t count = 0;
    for (size_t at = 0; at < payload.size && log_record_get(payload, &at, &r, &hard_term) == KV_OK; count++) {
    }
    return count;
}

static void batches_make(uint8_t *file, const uint8_t *data, size_t size)
{
    struct log_batch_header h = {.segment = 1, .offset = LOG_PAGE_BYTES};
    while (size >= 2) {
        size_t piece = le16_get(data);
        data += 2;
        size -= 2;
        if (piece > size) piece = size;
        if (h.offset + LOG_BATCH_HEADER_BYTES + piece > FILE_BYTES) return;
        uint8_t *payload = file + h.offset + LOG_BATCH_HEADER_BYTES;
        if (piece > 0) memcpy(payload, data, piece);
        records_seal(payload, piece);
        h.payload = (uint32_t)piece;
        h.records = records_count(kv_slice(payload, piece));
        h.synced = h.sequence++;
        h.previous = log_batch_seal(file + h.offset, &h, STORE_ID);
        h.offset = log_align(h.offset + log_batch_bytes(&h), LOG_ALIGN_BYTES);
        data += piece;
        size -= piece;
    }
}

static void fetched(struct log_fetch *f, enum kv_err err)
{
    /* Bodies may be anything here, but a whole batch holds whole records. */
    if (err != KV_OK) abort();
    log_fetch_free(f);
}

static void on_record(void *context, const struct log_record *r)
{
    (void)context;
    (void)r;
}

static void on_problem(void *context, const struct log_damage *d, bool is_tail)
{
    (void)context;
    (void)d;
    (void)is_tail;
}

static void look(struct disk_mem *m)
{
    struct log_options o = {.disk = disk_mem_disk(m), .store_id = STORE_ID, .segment_bytes = FILE_BYTES};
    struct log *l;
    uint32_t cursor = 0, group;
    if (log_scan(o.disk, on_record, on_problem, NULL) == KV_IO) abort();
    if (log_create(&o, &l) != KV_OK) abort();
    enum kv_err err = log_recover(l);
    if ((err == KV_OK || err == KV_CORRUPT) && log_start(l) != KV_OK) abort();
    if (err == KV_CORRUPT && log_damage(l) == NULL) abort();
    while ((err == KV_OK || err == KV_CORRUPT) && log_group_next(l, &cursor, &group)) {
        struct log_group g;
        if (!log_group_get(l, group, &g) || g.last < g.compacted_index) abort();
        struct log_fetch f = {.done = fetched, .group = group, .first = g.compacted_index + 1, .bytes_max = 1000};
        if (g.damaged || g.last == g.compacted_index) continue;
        log_fetch(l, &f);
        while (disk_mem_step(m)) {
        }
    }
    log_destroy(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t file[FILE_BYTES];
    struct disk_file f;
    if (size < 1 || size > FILE_BYTES - LOG_PAGE_BYTES) return 0;
    struct disk_mem *m = disk_mem_create(&(struct disk_mem_options){.seed = 1});
    if (m == NULL) abort();
    struct disk *d = disk_mem_disk(m);
    memset(file, 0, sizeof file);
    log_segment_header_put(file, &(struct log_segment_header){STORE_ID, 1, FILE_BYTES});
    if (data[0] % 2 == 0)
        batches_make(file, data + 1, size - 1);
    else
        memcpy(file + LOG_PAGE_BYTES, data + 1, size - 1);
    if (d->ops->open(d, "log-0000000000000001", true, &f) != KV_OK) abort();
    if (d->ops->write(d, f, 0, kv_slice(file, sizeof file)) != KV_OK) abort();
    d->ops->close(d, f);
    look(m);
    disk_mem_destroy(m);
    return 0;
}

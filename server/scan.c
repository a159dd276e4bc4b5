#include <stdio.h>
#include <stdlib.h>

#include "client/base/text.h"
#include "client/wire/resp.h"
#include "server/group.h"
#include "server/request.h"

/* KVSCAN and KVCOUNT: one page of one partition, as of one instant of the applied state (R6).
 * The page ends at the row or byte budget; the reply's first element is the encoded key to go
 * on from, the end of the partition where that lies before the end of what was asked, and else empty. */
enum { ROWS_MAX = 4096,
       PAGE_BYTES_MAX = 4 << 20 };

struct scan {
    struct store_scan io;
    struct worker *w;
    struct request *request; /* NULL: gave up waiting */
    uint32_t group;
    uint64_t clock_ms, deadline_ns;
    uint32_t range_epoch, stale_ms;
    bool count_only, is_cut; /* is_cut: the partition ends before the asked range does */
    enum kv_key_kind kind;
    struct kv_key from, to;
};

static void key_set(struct kv_key *k, struct kv_slice s)
{
    k->size = (uint16_t)(s.size < sizeof k->bytes ? s.size : sizeof k->bytes);
    if (k->size > 0) memcpy(k->bytes, s.data, k->size);
}

/* The least key behind it. No key is longer than the limit, so behind one of full length comes
 * whatever is larger in its last byte that can grow. */
static void key_advance(struct kv_key *k)
{
    if (k->size < sizeof k->bytes) {
        k->bytes[k->size++] = 0;
        return;
    }
    while (k->size > 0 && k->bytes[k->size - 1] == 0xFF) k->size--;
    if (k->size > 0) k->bytes[k->size - 1]++;
}

static void put_row(struct kv_buf *b, enum kv_key_kind kind, const struct store_row *row, const struct value *v)
{
    char version[48];
    int n = snprintf(version, sizeof version, "%u:%llu", v->version_epoch, (unsigned long long)v->version_index);
    resp_put_bulk(b, kv_key_user(kind, row->key));
    resp_put_bulk(b, v->payload);
    resp_put_bulk(b, kv_slice(version, (size_t)n));
    resp_put_integer(b, (int64_t)v->expire_ms);
}

static void scan_done(struct store_scan *io, enum kv_err err)
{
    struct scan *s = container_of(io, struct scan, io);
    struct request *r = s->request;
    struct kv_buf rows = {0}, out = {0};
    size_t live = 0;
    for (uint32_t i = 0; err == KV_OK && i < io->row_count; i++) {
        struct value v;
        if (io->keys_only) { /* no payload: the header alone cannot be checked against its sum */
            uint8_t header[VALUE_HEADER_BYTES];
            if (io->rows[i].value.size < sizeof header) continue;
            value_peek(io->rows[i].value, &v);
        } else {
            err = value_read(io->rows[i].key, io->rows[i].value, &v);
            struct group *g = err == KV_OK ? NULL : worker_group(s->w, s->group);
            if (g != NULL) group_corrupt(g, "a row is not what was written", g->applied);
            if (err != KV_OK) break;
        }
        if (v.expire_ms != 0 && v.expire_ms <= s->clock_ms) continue;
        live++;
        if (!s->count_only) put_row(&rows, s->kind, &io->rows[i], &v);
    }
    if (err == KV_OK) {
        struct kv_key next = {0};
        if (io->more && io->row_count > 0) {
            key_set(&next, io->rows[io->row_count - 1].key);
            key_advance(&next);
        } else if (s->is_cut) {
            next = s->to;
        }
        resp_put_array(&out, s->count_only ? 2 : 1 + 4 * live);
        resp_put_bulk(&out, kv_key_slice(&next));
        if (s->count_only) resp_put_integer(&out, (int64_t)live);
        kv_buf_append_slice(&out, kv_buf_slice(&rows));
        struct kv_reply reply = {.applied = KV_APPLIED_YES,
                                 .value = kv_buf_slice(&out),
                                 .partition = s->group,
                                 .range_epoch = s->range_epoch,
                                 .node = s->w->node_id,
                                 .phase = KV_PHASE_READ};
        read_account(r, s->stale_ms, &reply);
        if (out.failed || rows.failed) request_fail(r, KV_BUSY, "out of memory");
        else request_finish(r, &reply);
    } else if (err == KV_CORRUPT) { /* its successor, or another leader, answers */
        r->deadline_ns = s->deadline_ns;
        request_absent(r);
    } else {
        request_fail(r, err, "scan");
    }
    kv_buf_free(&rows);
    kv_buf_free(&out);
    store_scan_free(io);
    free(s);
}

void scan_start(struct group *g, struct request *r, uint32_t stale_ms)
{
    struct worker *w = g->w;
    int64_t rows_max = ROWS_MAX, bytes_max = PAGE_BYTES_MAX;
    bool count = r->body.op == KV_OP_KVCOUNT;
    if (!count && (!kv_parse_i64(r->body.args[2], &rows_max) || !kv_parse_i64(r->body.args[3], &bytes_max) ||
                   rows_max < 1 || bytes_max < 0)) {
        request_fail(r, KV_BAD_ARGUMENT, "rows and bytes are numbers: rows >= 1, bytes >= 0 (0: keys only)");
        return;
    }
    struct scan *s = calloc(1, sizeof *s);
    if (s == NULL) {
        request_fail(r, KV_BUSY, "out of memory");
        return;
    }
    struct kv_slice from = r->body.args[0], to = r->body.args[1];
    struct kv_slice first = kv_key_slice(&g->descriptor.from), end = kv_key_slice(&g->descriptor.to);
    key_set(&s->from, kv_slice_cmp(from, first) < 0 ? first : from);
    s->is_cut = to.size != 0 && end.size != 0 && kv_slice_cmp(end, to) < 0;
    key_set(&s->to, to.size == 0 || s->is_cut ? end : to);
    uint64_t wall = group_time_ms(g);
    s->w = w;
    s->request = r;
    s->group = g->id;
    s->range_epoch = g->descriptor.range_epoch;
    s->stale_ms = stale_ms;
    s->clock_ms = wall > g->clock_ms ? wall : g->clock_ms;
    s->count_only = count;
    s->kind = g->rule.kind;
    s->io = (struct store_scan){.done = scan_done,
                                .class = STORE_DATA,
                                .range = {kv_key_slice(&s->from), kv_key_slice(&s->to)},
                                .rows_max = rows_max < ROWS_MAX ? (uint32_t)rows_max : ROWS_MAX,
                                .bytes_max = bytes_max > 0 && bytes_max < PAGE_BYTES_MAX ? (size_t)bytes_max
                                                                                         : PAGE_BYTES_MAX,
                                .keys_only = count || bytes_max == 0};
    s->deadline_ns = r->deadline_ns;
    r->deadline_ns = UINT64_MAX; /* the page is bounded; it always answers */
    r->state = REQUEST_READING;
    r->partition = UINT32_MAX; /* in no queue */
    store_scan(w->store, &s->io);
}

#include "server/fan_impl.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/base/text.h"
#include "client/wire/resp.h"
#include "server/cluster_face.h"
#include "server/map.h"

/* Partitions in key order: KEYS DBSIZE FLUSHALL FLUSHDB ask all at once, SCAN and RANDOMKEY one after the other until their
 * page is full.
 *
 * SCAN cursors are u64 handles into a bounded table (R19); an evicted one is an error. */
enum { CURSORS = 4096,
       SCAN_COUNT_MAX = 1000 };

struct scan_cursors {
    struct scan_cursor {
        uint64_t handle;
        struct kv_key at;
    } slots[CURSORS];
    uint64_t next;
};

void fan_free_cursors(struct worker *w)
{
    free(w->cursors);
    w->cursors = NULL;
}

uint64_t fan_cursor_keep(struct worker *w, const struct kv_key *at)
{
    if (w->cursors == NULL) w->cursors = calloc(1, sizeof *w->cursors);
    if (w->cursors == NULL) return 0;
    /* Handles start at a random place, so that one from before a restart is unknown, not wrong. */
    if (w->cursors->next == 0) w->cursors->next = (worker_random(w) >> 16) + 1;
    uint64_t handle = w->cursors->next++;
    w->cursors->slots[handle % CURSORS] = (struct scan_cursor){handle, *at};
    return handle;
}

/* The first slot from `slot` on that is this node's on the cluster face, and all behind it in its partition; from.size 0: none. */
static void begin_led(struct fan_part *p, uint32_t slot)
{
    const struct worker *w = p->fan->w;
    p->from.size = 0;
    while (slot < KV_SLOTS && !cluster_face_leads(w, slot)) {
        const struct partition *other = map_slot(w, slot);
        do slot++;
        while (slot < KV_SLOTS && map_slot(w, slot) == other);
    }
    if (slot == KV_SLOTS) return;
    kv_key_slot_start(KV_KEYSPACE_DEFAULT, (uint16_t)slot, &p->from);
    p->to = map_descriptor(map_slot(w, slot))->to;
}

static bool is_end(enum kv_key_kind kind, uint32_t keyspace, struct kv_slice at)
{
    struct kv_key end;
    kv_key_end(kind, keyspace, &end);
    return at.size == 0 || kv_slice_cmp(at, kv_key_slice(&end)) >= 0;
}

/* The next partition in key order behind `from`; from.size 0 at the end of the keyspace. */
static void advance(struct fan *f, struct fan_part *p)
{
    struct kv_slice at = kv_key_slice(&p->to);
    bool is_over = is_end(f->kind, f->keyspace, at);
    if (f->led_only && !is_over) {
        begin_led(p, kv_key_slot(at));
        return;
    }
    const struct partition *next = is_over ? NULL : request_partition(f->w, at);
    p->from = p->to;
    if (next == NULL) p->from.size = 0;
    else p->to = map_descriptor(next)->to;
}

static bool row_matches(struct fan *f, struct kv_slice key)
{
    return !f->type_none && (!f->has_pattern || kv_glob_match(f->pattern, key, false));
}

static bool is_full(const struct fan *f)
{
    return f->keys_max != 0 && f->row_count >= f->keys_max;
}

/* A page of KVSCAN: collects keys; true: this partition has more. */
bool fan_page_take(struct fan_part *p, struct kv_slice value)
{
    struct fan *f = p->fan;
    struct resp_value v;
    struct kv_buf *rows = f->op == KV_OP_KEYS ? &p->rows : &f->rows;
    size_t before = rows->size;
    if (resp_next(&value, SIZE_MAX, &v) != KV_OK || v.type != RESP_ARRAY) goto malformed;
    int64_t rest = v.number - 1;
    if (resp_next(&value, SIZE_MAX, &v) != KV_OK) goto malformed;
    struct kv_key next = {0};
    next.size = (uint16_t)(v.text.size < sizeof next.bytes ? v.text.size : sizeof next.bytes);
    if (next.size > 0) memcpy(next.bytes, v.text.data, next.size);
    if (f->op == KV_OP_DBSIZE) {
        if (resp_next(&value, SIZE_MAX, &v) != KV_OK) goto malformed;
        f->sum += (uint64_t)v.number;
    } else {
        for (; rest >= 4 && !is_full(f); rest -= 4) {
            struct resp_value key;
            if (resp_next(&value, SIZE_MAX, &key) != KV_OK) goto malformed;
            for (int skip = 0; skip < 3; skip++)
                if (resp_next(&value, SIZE_MAX, &v) != KV_OK) goto malformed;
            if (!row_matches(f, key.text)) continue;
            resp_put_bulk(rows, key.text);
            f->row_count++;
        }
    }
    if (is_full(f)) next.size = 0;
    p->from = next;
    f->bytes += rows->size - before;
    if (f->bytes > f->w->config->output_max) {
        f->err = KV_TOO_BIG;
        snprintf(f->detail, sizeof f->detail, "the keys take more than limit.output; use SCAN");
    }
    return next.size > 0;
malformed:
    f->err = KV_MALFORMED;
    return false;
}

bool fan_scan_take(struct fan_part *p, struct kv_slice value)
{
    struct fan *f = p->fan;
    if (!fan_page_take(p, value) && f->err == KV_OK) advance(f, p);
    return p->from.size > 0 && f->row_count < f->want && f->wrapped++ < 64;
}

bool fan_random_take(struct fan_part *p, struct kv_slice value)
{
    struct fan *f = p->fan;
    if (!fan_page_take(p, value) && f->err == KV_OK && f->row_count == 0) {
        advance(f, p);
        if (p->from.size == 0 && f->wrapped == 0) { /* from the start once */
            f->wrapped = 1;
            kv_key_start(f->kind, f->keyspace, &p->from);
            const struct partition *first = request_partition(f->w, kv_key_slice(&p->from));
            if (f->led_only) begin_led(p, 0);
            else if (first == NULL) p->from.size = 0;
            else p->to = map_descriptor(first)->to;
        }
    }
    return f->row_count == 0 && p->from.size > 0;
}

/* What was flushed ends where the partition did; if that was split meanwhile, the rest is still to do. */
bool fan_flush_take(struct fan_part *p, struct kv_slice value)
{
    struct resp_value v;
    if (resp_next(&value, SIZE_MAX, &v) != KV_OK || v.type != RESP_BULK || v.text.size > sizeof p->from.bytes) {
        p->fan->err = KV_MALFORMED;
        return false;
    }
    if (v.text.size == 0 || kv_slice_cmp(v.text, kv_key_slice(&p->to)) >= 0) return false;
    p->from.size = (uint16_t)v.text.size;
    memcpy(p->from.bytes, v.text.data, v.text.size);
    return true;
}

/* The partition of `rule` behind *at, in key order, and *at its end; NULL and *at.size 0 at the end of the keyspace, NULL
 * alone: it is not here. */
static const struct descriptor *partition_next(struct worker *w, const struct kv_key_rule *rule, struct kv_key *at)
{
    if (is_end(rule->kind, rule->keyspace, kv_key_slice(at))) {
        at->size = 0;
        return NULL;
    }
    const struct partition *p = request_partition(w, kv_key_slice(at));
    if (p == NULL) return NULL;
    *at = map_descriptor(p)->to;
    return map_descriptor(p);
}

/* Does the partition count? On the cluster's face only if it is led here. */
static bool is_meant(const struct request *r, const struct descriptor *d)
{
    return !r->body.led_only || cluster_face_leads(r->w, kv_key_slot(kv_key_slice(&d->from)));
}

/* One part per partition of the keyspace, in key order. */
void fan_partitions(struct request *r, const struct kv_key_rule *rule)
{
    struct worker *w = r->w;
    uint32_t count = 0;
    struct kv_key at;
    kv_key_start(rule->kind, rule->keyspace, &at);
    for (const struct descriptor *d; (d = partition_next(w, rule, &at)) != NULL;) count += is_meant(r, d);
    if (at.size != 0) {
        request_absent(r);
        return;
    }
    struct fan *f = fan_make(r, rule, count);
    if (f == NULL) return;
    f->has_pattern = f->op == KV_OP_KEYS;
    if (f->has_pattern) f->pattern = r->body.args[0];
    kv_key_start(f->kind, f->keyspace, &at);
    for (uint32_t i = 0; i < count;) {
        const struct descriptor *d = partition_next(w, rule, &at);
        if (is_meant(r, d)) fan_part_set(&f->parts[i++], d);
    }
    fan_send(f);
}

/* The keys of one slot, counted or named. */
void fan_slot(struct request *r, const struct kv_key_rule *rule)
{
    uint16_t slot = (uint16_t)(r->body.in_slot - 1);
    if (map_slot(r->w, slot) == NULL) {
        request_absent(r);
        return;
    }
    struct fan *f = fan_make(r, rule, 1);
    if (f == NULL) return;
    kv_key_slot_start(KV_KEYSPACE_DEFAULT, slot, &f->parts[0].from);
    kv_key_slot_start(KV_KEYSPACE_DEFAULT, (uint16_t)(slot + 1), &f->parts[0].to);
    fan_send(f);
}

static void resp_refuse(struct request *r, const char *text)
{
    struct kv_buf b = {0};
    resp_put_error(&b, "%s", text);
    struct kv_reply reply = {.value = kv_buf_slice(&b), .phase = KV_PHASE_PARSE, .node = r->w->node_id};
    request_finish(r, &reply);
    kv_buf_free(&b);
}

static bool word_is(struct kv_slice s, const char *upper)
{
    size_t n = strlen(upper);
    if (s.size != n) return false;
    for (size_t i = 0; i < n; i++)
        if ((s.data[i] & 0xDF) != upper[i]) return false;
    return true;
}

void fan_scan(struct request *r, const struct kv_key_rule *rule)
{
    struct worker *w = r->w;
    uint64_t handle;
    if (!kv_parse_u64(r->body.args[0], &handle)) {
        resp_refuse(r, "ERR invalid cursor");
        return;
    }
    int64_t count = 10;
    struct kv_slice pattern = {0};
    bool none = false, has_pattern = false;
    if (!request_own(r)) return;
    for (uint32_t i = 1; i < r->body.arg_count; i += 2) {
        struct kv_slice name = r->body.args[i];
        if (i + 1 >= r->body.arg_count) {
            resp_refuse(r, "ERR syntax error");
            return;
        }
        struct kv_slice v = r->body.args[i + 1];
        if (word_is(name, "COUNT")) {
            if (!kv_parse_i64(v, &count)) {
                resp_refuse(r, "ERR value is not an integer or out of range");
                return;
            }
            if (count < 1) {
                resp_refuse(r, "ERR syntax error");
                return;
            }
        } else if (word_is(name, "MATCH")) {
            pattern = v;
            has_pattern = true;
        } else if (word_is(name, "TYPE")) {
            none = !word_is(v, "STRING");
        } else {
            resp_refuse(r, "ERR syntax error");
            return;
        }
    }
    struct kv_key from;
    if (handle == 0) {
        kv_key_start(rule->kind, rule->keyspace, &from);
    } else {
        struct scan_cursor *c = w->cursors == NULL ? NULL : &w->cursors->slots[handle % CURSORS];
        if (c == NULL || c->handle != handle || kv_key_keyspace(kv_key_slice(&c->at)) != rule->keyspace) {
            resp_refuse(r, "ERR invalid cursor: unknown to this node or evicted; start again from 0");
            return;
        }
        from = c->at;
    }
    const struct partition *p = request_partition(w, kv_key_slice(&from));
    bool begins_led = handle == 0 && r->body.led_only;
    if (p == NULL && !begins_led) {
        request_absent(r);
        return;
    }
    struct fan *f = fan_make(r, rule, 1);
    if (f == NULL) return;
    f->want = count < SCAN_COUNT_MAX ? (uint64_t)count : SCAN_COUNT_MAX;
    f->pattern = pattern;
    f->has_pattern = has_pattern;
    f->type_none = none;
    f->parts[0].from = from;
    if (begins_led) begin_led(&f->parts[0], 0);
    else if (p != NULL) f->parts[0].to = map_descriptor(p)->to;
    if (f->parts[0].from.size == 0) fan_finish(f); /* this node leads nothing */
    else fan_send(f);
}

/* The first key behind a point drawn at random; as even as the keys are over such points. */
void fan_random(struct request *r, const struct kv_key_rule *rule)
{
    struct worker *w = r->w;
    struct kv_key at;
    uint64_t drawn = worker_random(w);
    bool led_only = r->body.led_only;
    switch (rule->kind) {
    case KV_KEY_HASH: kv_key_slot_start(rule->keyspace, (uint16_t)(drawn % KV_SLOTS), &at); break;
    case KV_KEY_RANGE: (void)kv_key_range(rule->keyspace, kv_slice(&drawn, 4), &at); break;
    case KV_KEY_LIST: kv_key_bucket_start(rule->keyspace, (uint16_t)(drawn % (rule->label_count + 1)), &at); break;
    }
    const struct partition *there = request_partition(w, kv_key_slice(&at));
    if (there == NULL && !led_only) {
        request_absent(r);
        return;
    }
    struct fan *f = fan_make(r, rule, 1);
    if (f == NULL) return;
    struct fan_part *p = &f->parts[0];
    if (there != NULL && !led_only) {
        p->from = at;
        p->to = map_descriptor(there)->to;
    } else {
        begin_led(p, kv_key_slot(kv_key_slice(&at)));
        if (p->from.size == 0) begin_led(p, 0);
    }
    if (p->from.size == 0) fan_finish(f); /* this node leads nothing */
    else fan_send(f);
}

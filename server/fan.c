#include <stdio.h>
#include <stdlib.h>

#include "client/base/text.h"
#include "client/wire/resp.h"
#include "server/cluster_face.h"
#include "server/map.h"
#include "server/request.h"

/* Operations over several partitions, as one request a partition. Each key is linearizable,
 * together they are not atomic: a reader may see some of a DEL's keys gone and others not.
 *
 *   by key        MGET EXISTS TOUCH DEL UNLINK: the keys of each partition together
 *   by partition  KEYS DBSIZE FLUSHALL FLUSHDB: all at once, page after page
 *   by mark       KVAWAIT: every partition the asker has written to; the fewest followers count
 *   one by one    SCAN RANDOMKEY: partition after partition until the page is full
 *
 * A Redis client's deadline bounds the wait for a page, not the walk over any number of rows: it moves on
 * with each page that comes. What KEYS collects is bounded by limit.output.
 *
 * On the cluster face "all partitions" are those that this node leads (R19): led_only. One that was begun by a SCAN
 * is finished wherever it is led by then.
 *
 * SCAN cursors are u64 handles into a bounded table (R19); an evicted one is an error. */
enum { WAIT_GRACE_MS = 500,
       CURSORS = 4096,
       PAGE_ROWS = 1000,
       SCAN_COUNT_MAX = 1000 };

struct scan_cursors {
    struct scan_cursor {
        uint64_t handle;
        struct kv_key at;
    } slots[CURSORS];
    uint64_t next;
};

struct fan_part {
    struct fan *fan;
    struct kv_slice args_page[4];
    char rows_text[24];    /* SCAN: the budget of a page */
    struct kv_slice mark;  /* KVAWAIT: an index */
    struct kv_slice *args; /* by key: owned */
    uint32_t *positions;   /* by key: of each argument among the parent's */
    uint32_t count;
    uint32_t partition, range_epoch;
    struct kv_buf rows; /* KEYS: of this partition, so that they come in key order whoever answers first */
    struct kv_key from, to;
};

struct fan {
    struct worker *w;
    struct request *parent; /* NULL: abandoned */
    enum kv_op op;
    enum kv_key_kind kind;
    uint32_t keyspace;
    struct kv_buf rows; /* KEYS, SCAN: bulk strings */
    uint64_t row_count, sum;
    size_t bytes;          /* of rows, of all partitions */
    struct kv_buf *values; /* MGET: one a key */
    uint32_t value_count;
    enum kv_err err;
    enum kv_applied applied;
    bool any_done;
    enum kv_level level; /* of all parts, and the oldest of them */
    uint32_t stale_ms;
    char detail[128];
    struct kv_slice pattern;
    bool has_pattern;
    uint64_t patience_ns; /* for a page; 0: the asker's own deadline holds for all of it */
    uint64_t want;        /* SCAN: rows; KVAWAIT: ms */
    bool type_none;       /* SCAN TYPE of something else than string */
    bool led_only;        /* only partitions that this node leads */
    uint32_t keys_max;    /* KEYS: 0 for all */
    uint32_t wrapped;
    uint32_t part_count, open;
    struct fan_part parts[];
};

static void fan_free(struct fan *f)
{
    for (uint32_t i = 0; i < f->part_count; i++) {
        free(f->parts[i].args);
        free(f->parts[i].positions);
        kv_buf_free(&f->parts[i].rows);
    }
    for (uint32_t i = 0; i < f->value_count; i++) kv_buf_free(&f->values[i]);
    free(f->values);
    kv_buf_free(&f->rows);
    free(f);
}

static void abandon(struct request *r)
{
    struct fan *f = r->children;
    if (f != NULL) f->parent = NULL;
    r->children = NULL;
}

void fan_free_cursors(struct worker *w)
{
    free(w->cursors);
    w->cursors = NULL;
}

static uint64_t cursor_keep(struct worker *w, const struct kv_key *at)
{
    if (w->cursors == NULL) w->cursors = calloc(1, sizeof *w->cursors);
    if (w->cursors == NULL) return 0;
    /* Handles start at a random place, so that one from before a restart is unknown, not wrong. */
    if (w->cursors->next == 0) w->cursors->next = (worker_random(w) >> 16) + 1;
    uint64_t handle = w->cursors->next++;
    w->cursors->slots[handle % CURSORS] = (struct scan_cursor){handle, *at};
    return handle;
}

static void fan_finish(struct fan *f)
{
    struct request *r = f->parent;
    if (r != NULL) {
        struct kv_buf out = {0};
        r->children = NULL;
        if (f->err != KV_OK) {
            r->maybe = f->any_done || f->applied == KV_APPLIED_MAYBE;
            request_fail(r, f->err, f->detail[0] != '\0' ? f->detail : NULL);
            fan_free(f);
            return;
        }
        switch (f->op) {
        case KV_OP_MGET:
            resp_put_array(&out, f->value_count);
            for (uint32_t i = 0; i < f->value_count; i++) kv_buf_append_slice(&out, kv_buf_slice(&f->values[i]));
            break;
        case KV_OP_KEYS:
            resp_put_array(&out, f->row_count);
            for (uint32_t i = 0; i < f->part_count; i++) kv_buf_append_slice(&out, kv_buf_slice(&f->parts[i].rows));
            break;
        case KV_OP_SCAN: {
            char digits[24];
            struct kv_key at = f->parts[0].from;
            uint64_t handle = at.size == 0 ? 0 : cursor_keep(f->w, &at);
            int n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)handle);
            resp_put_array(&out, 2);
            resp_put_bulk(&out, kv_slice(digits, (size_t)n));
            resp_put_array(&out, f->row_count);
            kv_buf_append_slice(&out, kv_buf_slice(&f->rows));
            break;
        }
        case KV_OP_RANDOMKEY:
            if (f->row_count == 0) resp_put_null(&out);
            else kv_buf_append_slice(&out, kv_buf_slice(&f->rows));
            break;
        case KV_OP_FLUSHALL:
        case KV_OP_FLUSHDB: resp_put_status(&out, "OK"); break;
        default: resp_put_integer(&out, (int64_t)f->sum); break;
        }
        struct kv_reply reply = {.applied = KV_APPLIED_YES, .value = kv_buf_slice(&out), .node = f->w->node_id, .level = f->level, .stale_ms = f->stale_ms};
        if (out.failed) request_fail(r, KV_TOO_BIG, "the reply does not fit into memory");
        else request_finish(r, &reply);
        kv_buf_free(&out);
    }
    fan_free(f);
}

static void part_send(struct fan_part *p);

/* The first slot from `slot` on that is this node's on the cluster face, and all behind it in its partition; from.size 0: none. */
static void part_begin_led(struct fan_part *p, uint32_t slot)
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
static void cursor_advance(struct fan *f, struct fan_part *p)
{
    struct kv_slice at = kv_key_slice(&p->to);
    bool is_over = is_end(f->kind, f->keyspace, at);
    if (f->led_only && !is_over) {
        part_begin_led(p, kv_key_slot(at));
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
static bool page_take(struct fan_part *p, struct kv_slice value)
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

static void value_take(struct fan_part *p, struct kv_slice value)
{
    struct fan *f = p->fan;
    struct resp_value v;
    struct kv_slice at = value;
    if (f->op == KV_OP_MGET) {
        if (resp_next(&at, SIZE_MAX, &v) != KV_OK || v.type != RESP_ARRAY || v.number != (int64_t)p->count) {
            f->err = KV_MALFORMED;
            return;
        }
        for (uint32_t i = 0; i < p->count; i++) {
            const uint8_t *start = at.data;
            if (resp_next(&at, SIZE_MAX, &v) != KV_OK) {
                f->err = KV_MALFORMED;
                return;
            }
            kv_buf_append(&f->values[p->positions[i]], start, (size_t)(at.data - start));
        }
    } else if (resp_next(&at, SIZE_MAX, &v) == KV_OK && v.type == RESP_INTEGER) {
        f->sum += (uint64_t)v.number;
    }
}

/* What was flushed ends where the partition did; if that was split meanwhile, the rest is still to do. */
static bool flush_take(struct fan_part *p, struct kv_slice value)
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

/* No answer means that no follower is known to hold it. */
static void ack_take(struct fan *f, const struct kv_reply *reply)
{
    struct kv_slice at = reply->value;
    struct resp_value v;
    bool known = reply->err == KV_OK && resp_next(&at, SIZE_MAX, &v) == KV_OK && v.type == RESP_INTEGER && v.number >= 0;
    uint64_t count = known ? (uint64_t)v.number : 0;
    if (count < f->sum) f->sum = count;
}

static void part_done(struct request *r, const struct kv_reply *reply)
{
    struct fan_part *p = r->owner;
    struct fan *f = p->fan;
    bool again = false;
    if (f->op == KV_OP_KVAWAIT) {
        ack_take(f, reply);
    } else if (reply->err != KV_OK) {
        if (f->err == KV_OK) f->err = reply->err;
        if (reply->applied == KV_APPLIED_MAYBE) f->applied = KV_APPLIED_MAYBE;
        if (f->detail[0] == '\0' && reply->detail.size > 0)
            snprintf(f->detail, sizeof f->detail, "%.*s", (int)reply->detail.size, (const char *)reply->detail.data);
    } else {
        f->any_done = true;
        if (reply->level > f->level) f->level = reply->level;
        if (reply->stale_ms > f->stale_ms) f->stale_ms = reply->stale_ms;
        switch (f->op) {
        case KV_OP_KEYS:
        case KV_OP_DBSIZE: again = page_take(p, reply->value); break;
        case KV_OP_SCAN:
            if (!page_take(p, reply->value) && f->err == KV_OK) cursor_advance(f, p);
            again = p->from.size > 0 && f->row_count < f->want && f->wrapped++ < 64;
            break;
        case KV_OP_RANDOMKEY:
            if (!page_take(p, reply->value) && f->err == KV_OK && f->row_count == 0) {
                cursor_advance(f, p);
                if (p->from.size == 0 && f->wrapped == 0) { /* from the start once */
                    f->wrapped = 1;
                    kv_key_start(f->kind, f->keyspace, &p->from);
                    const struct partition *first = request_partition(f->w, kv_key_slice(&p->from));
                    if (f->led_only) part_begin_led(p, 0);
                    else if (first == NULL) p->from.size = 0;
                    else p->to = map_descriptor(first)->to;
                }
            }
            again = f->row_count == 0 && p->from.size > 0;
            break;
        case KV_OP_FLUSHALL:
        case KV_OP_FLUSHDB: again = flush_take(p, reply->value); break;
        default: value_take(p, reply->value); break;
        }
        if (f->err != KV_OK || f->parent == NULL) again = false;
    }
    if (again) {
        uint64_t until = f->patience_ns == 0 ? 0 : env_now_ns(f->w->env) + f->patience_ns;
        if (f->parent->deadline_ns < until) f->parent->deadline_ns = until;
        part_send(p);
        return;
    }
    if (--f->open == 0) fan_finish(f);
}

static void part_send(struct fan_part *p)
{
    struct fan *f = p->fan;
    struct request *r = request_make(f->w);
    if (r == NULL || f->parent == NULL) {
        if (f->err == KV_OK) f->err = KV_BUSY;
        if (r != NULL) {
            r->done = part_done;
            r->owner = p;
            request_fail(r, KV_BUSY, NULL);
        } else if (--f->open == 0) {
            fan_finish(f);
        }
        return;
    }
    r->done = part_done;
    r->owner = p;
    struct kv_request *b = &r->body;
    uint64_t now = env_now_ns(f->w->env), deadline = f->parent->deadline_ns;
    uint64_t left = deadline > now ? deadline - now : 1;
    *b = (struct kv_request){.keyspace = f->parent->body.keyspace,
                             .level = f->parent->body.level,
                             .bounded_ms = f->parent->body.bounded_ms,
                             .sequence = f->parent->body.sequence,
                             .roams = f->parent->body.roams,
                             .deadline_ms = (uint32_t)(left / 1000000u + 1)};
    memcpy(b->client, f->parent->body.client, sizeof b->client);
    if (p->args != NULL) {
        b->op = f->op;
        b->args = p->args;
        b->arg_count = p->count;
    } else if (f->op == KV_OP_KVAWAIT) {
        p->args_page[0] = p->mark;
        p->args_page[1] = f->parent->body.args[0];
        p->args_page[2] = f->parent->body.args[1];
        b->op = KV_OP_KVAWAIT;
        b->args = p->args_page;
        b->arg_count = 3;
        b->pinned = true;
        b->partition = p->partition;
        b->range_epoch = p->range_epoch;
        b->deadline_ms = (uint32_t)f->want + WAIT_GRACE_MS;
    } else if (f->op == KV_OP_FLUSHALL || f->op == KV_OP_FLUSHDB) {
        p->args_page[0] = kv_key_slice(&p->from);
        b->op = KV_OP_KVFLUSH;
        b->args = p->args_page;
        b->arg_count = 1;
    } else {
        static const char *const zero = "0", *const one = "1", *const page = "1000";
        p->args_page[0] = kv_key_slice(&p->from);
        p->args_page[1] = kv_key_slice(&p->to);
        p->args_page[2] = kv_str(f->op == KV_OP_RANDOMKEY ? one : page);
        p->args_page[3] = kv_str(zero);
        b->op = f->op == KV_OP_DBSIZE ? KV_OP_KVCOUNT : KV_OP_KVSCAN;
        b->args = p->args_page;
        b->arg_count = b->op == KV_OP_KVCOUNT ? 2 : 4;
        if (f->op == KV_OP_SCAN && f->want < PAGE_ROWS) {
            int n = snprintf(p->rows_text, sizeof p->rows_text, "%llu", (unsigned long long)f->want);
            p->args_page[2] = kv_slice(p->rows_text, (size_t)n);
        }
    }
    request_start(r);
}

static struct fan *fan_make(struct request *r, const struct kv_key_rule *rule, uint32_t parts)
{
    struct fan *f = calloc(1, sizeof *f + parts * sizeof f->parts[0]);
    if (f == NULL) {
        request_fail(r, KV_BUSY, "out of memory");
        return NULL;
    }
    if (!request_own(r)) {
        free(f);
        return NULL;
    }
    f->w = r->w;
    f->parent = r;
    f->op = r->body.op;
    f->kind = rule->kind;
    f->keyspace = rule->keyspace;
    f->part_count = parts;
    f->led_only = r->body.led_only;
    f->keys_max = r->body.keys_max;
    if (r->body.deadline_ms == 0) f->patience_ns = f->w->config->resp_deadline;
    for (uint32_t i = 0; i < parts; i++) f->parts[i].fan = f;
    r->children = f;
    r->abandon = abandon;
    r->state = REQUEST_FANNED;
    return f;
}

static void fan_send(struct fan *f)
{
    f->open = f->part_count;
    uint32_t count = f->part_count; /* the last part's answer may free f */
    if (count == 0) fan_finish(f);
    for (uint32_t i = 0; i < count; i++) part_send(&f->parts[i]);
}

/* Its parts always answer in time, so it has no deadline of its own. */
static void wait_prepare(struct fan *f)
{
    int64_t ms = 0;
    (void)kv_parse_i64(f->parent->body.args[1], &ms); /* checked before */
    f->want = (uint64_t)ms;
    f->sum = UINT64_MAX;
    f->parent->deadline_ns = UINT64_MAX;
}

static void part_set(struct fan_part *p, const struct descriptor *d)
{
    p->from = d->from;
    p->to = d->to;
    p->partition = d->id;
    p->range_epoch = d->range_epoch;
    p->mark = kv_str("0"); /* KVAWAIT: whatever is committed when it arrives */
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
static void fan_partitions(struct request *r, const struct kv_key_rule *rule)
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
        if (is_meant(r, d)) part_set(&f->parts[i++], d);
    }
    fan_send(f);
}

/* KVAWAIT of everything: one part per partition of users, of whatever keyspace. */
static void fan_await_all(struct request *r, const struct kv_key_rule *rule)
{
    struct worker *w = r->w;
    uint32_t count = 0, used = 0;
    const struct partition *p;
    for (uint32_t i = 0; (p = map_at(w, i)) != NULL; i++) count += p->id != KV_PARTITION_SYSTEM;
    if (count == 0) {
        request_absent(r);
        return;
    }
    struct fan *f = fan_make(r, rule, count);
    if (f == NULL) return;
    wait_prepare(f);
    for (uint32_t i = 0; (p = map_at(w, i)) != NULL; i++)
        if (p->id != KV_PARTITION_SYSTEM) part_set(&f->parts[used++], map_descriptor(p));
    fan_send(f);
}

/* The keys of one slot, counted or named. */
static void fan_slot(struct request *r, const struct kv_key_rule *rule)
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

/* The keys of each partition together; false: they all live in one, no fan is needed. */
static bool fan_keys(struct request *r, const struct kv_key_rule *rule)
{
    struct worker *w = r->w;
    uint32_t n = r->body.arg_count, parts = 0;
    const struct partition *first = NULL;
    bool same = true;
    for (uint32_t i = 0; i < n; i++) {
        struct partition *p = NULL;
        if (request_partition_of(w, rule, r->body.args[i], &p) != KV_OK) return false;
        if (i == 0) first = p;
        same = same && p == first;
    }
    if (same) return false;
    struct partition **of = calloc(n, sizeof(void *)), **distinct = calloc(w->partitions.count, sizeof(void *));
    uint32_t *counts = calloc(w->partitions.count, sizeof *counts);
    if (of == NULL || distinct == NULL || counts == NULL) goto no_memory;
    for (uint32_t i = 0; i < n; i++) {
        (void)request_partition_of(w, rule, r->body.args[i], &of[i]); /* as above */
        uint32_t at = 0;
        while (at < parts && distinct[at] != of[i]) at++;
        if (at == parts) distinct[parts++] = of[i];
        counts[at]++;
    }
    struct fan *f = fan_make(r, rule, parts);
    if (f == NULL) goto taken;
    if (f->op == KV_OP_MGET) {
        f->values = calloc(n, sizeof *f->values);
        if (f->values == NULL) goto no_fan;
        f->value_count = n;
    }
    for (uint32_t at = 0; at < parts; at++) {
        struct fan_part *p = &f->parts[at];
        p->args = calloc(counts[at], sizeof *p->args);
        p->positions = calloc(counts[at], sizeof *p->positions);
        if (p->args == NULL || p->positions == NULL) goto no_fan;
        for (uint32_t i = 0; i < n; i++)
            if (of[i] == distinct[at]) {
                p->args[p->count] = r->body.args[i];
                p->positions[p->count++] = i;
            }
    }
    free(of);
    free(distinct);
    free(counts);
    fan_send(f);
    return true;
no_fan:
    r->children = NULL;
    fan_free(f);
no_memory:
    request_fail(r, KV_BUSY, "out of memory");
taken:
    free(of);
    free(distinct);
    free(counts);
    return true;
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

static void scan_begin(struct request *r, const struct kv_key_rule *rule)
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
    if (begins_led) part_begin_led(&f->parts[0], 0);
    else if (p != NULL) f->parts[0].to = map_descriptor(p)->to;
    if (f->parts[0].from.size == 0) fan_finish(f); /* this node leads nothing */
    else fan_send(f);
}

static bool is_known(const struct worker *w, uint32_t id)
{
    const struct partition *p = map_get(w, id);
    return p != NULL && map_descriptor(p) != NULL;
}

static void fan_wait(struct request *r, const struct kv_key_rule *rule)
{
    struct worker *w = r->w;
    uint32_t n = r->body.arg_count, parts = (n - 2) / 2;
    int64_t number;
    for (uint32_t i = 0; i < n; i++)
        if (n % 2 != 0 || !kv_parse_i64(r->body.args[i], &number) || number < 0 || number > INT64_MAX / 2) {
            request_fail(r, KV_BAD_ARGUMENT, "KVAWAIT replicas ms [partition index]..");
            return;
        }
    (void)kv_parse_i64(r->body.args[1], &number);
    if (number > UINT32_MAX / 2) {
        request_fail(r, KV_BAD_ARGUMENT, "KVAWAIT: too long");
        return;
    }
    if (parts == 0) {
        fan_await_all(r, rule);
        return;
    }
    for (uint32_t i = 0; i < parts; i++) {
        (void)kv_parse_i64(r->body.args[2 + 2 * i], &number);
        if (number > UINT32_MAX || !is_known(w, (uint32_t)number)) {
            request_absent(r);
            return;
        }
    }
    struct fan *f = fan_make(r, rule, parts);
    if (f == NULL) return;
    wait_prepare(f);
    for (uint32_t i = 0; i < parts; i++) {
        (void)kv_parse_i64(r->body.args[2 + 2 * i], &number);
        f->parts[i].partition = (uint32_t)number;
        f->parts[i].range_epoch = map_descriptor(map_get(w, (uint32_t)number))->range_epoch;
        f->parts[i].mark = r->body.args[3 + 2 * i];
    }
    fan_send(f);
}

/* The first key behind a point drawn at random; as even as the keys are over such points. */
static void random_begin(struct request *r, const struct kv_key_rule *rule)
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
        part_begin_led(p, kv_key_slot(kv_key_slice(&at)));
        if (p->from.size == 0) part_begin_led(p, 0);
    }
    if (p->from.size == 0) fan_finish(f); /* this node leads nothing */
    else fan_send(f);
}

bool fan_start(struct request *r, const struct kv_key_rule *rule)
{
    switch (r->body.op) {
    case KV_OP_MGET:
    case KV_OP_EXISTS:
    case KV_OP_TOUCH:
    case KV_OP_DEL:
    case KV_OP_UNLINK: return fan_keys(r, rule);
    case KV_OP_KEYS:
    case KV_OP_DBSIZE:
        if (r->body.in_slot != 0) fan_slot(r, rule);
        else fan_partitions(r, rule);
        return true;
    case KV_OP_FLUSHALL:
    case KV_OP_FLUSHDB: fan_partitions(r, rule); return true;
    case KV_OP_KVAWAIT: fan_wait(r, rule); return true;
    case KV_OP_SCAN: scan_begin(r, rule); return true;
    case KV_OP_RANDOMKEY: random_begin(r, rule); return true;
    default: return false;
    }
}

#include "server/fan_impl.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/wire/resp.h"
#include "server/map.h"

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
 * is finished wherever it is led by then. */
enum { WAIT_GRACE_MS = 500, /* for the answer of a KVAWAIT to come back */
       PAGE_ROWS = 1000 };

void fan_free(struct fan *f)
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

void fan_finish(struct fan *f)
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
            uint64_t handle = at.size == 0 ? 0 : fan_cursor_keep(f->w, &at);
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

static void part_done(struct request *r, const struct kv_reply *reply)
{
    struct fan_part *p = r->owner;
    struct fan *f = p->fan;
    bool again = false;
    if (f->op == KV_OP_KVAWAIT) {
        fan_ack_take(f, reply);
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
        case KV_OP_DBSIZE: again = fan_page_take(p, reply->value); break;
        case KV_OP_SCAN: again = fan_scan_take(p, reply->value); break;
        case KV_OP_RANDOMKEY: again = fan_random_take(p, reply->value); break;
        case KV_OP_FLUSHALL:
        case KV_OP_FLUSHDB: again = fan_flush_take(p, reply->value); break;
        default: fan_value_take(p, reply->value); break;
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

struct fan *fan_make(struct request *r, const struct kv_key_rule *rule, uint32_t parts)
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

void fan_send(struct fan *f)
{
    f->open = f->part_count;
    uint32_t count = f->part_count; /* the last part's answer may free f */
    if (count == 0) fan_finish(f);
    for (uint32_t i = 0; i < count; i++) part_send(&f->parts[i]);
}

void fan_part_set(struct fan_part *p, const struct descriptor *d)
{
    p->from = d->from;
    p->to = d->to;
    p->partition = d->id;
    p->range_epoch = d->range_epoch;
    p->mark = kv_str("0"); /* KVAWAIT: whatever is committed when it arrives */
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
    case KV_OP_SCAN: fan_scan(r, rule); return true;
    case KV_OP_RANDOMKEY: fan_random(r, rule); return true;
    default: return false;
    }
}

#include "server/fan_impl.h"

#include <stdlib.h>

#include "client/wire/resp.h"
#include "server/map.h"

/* MGET EXISTS TOUCH DEL UNLINK: one part for the keys of each partition. */

/* The keys of each partition together; false: they all live in one, no fan is needed. */
bool fan_keys(struct request *r, const struct kv_key_rule *rule)
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

void fan_value_take(struct fan_part *p, struct kv_slice value)
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

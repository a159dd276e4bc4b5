#include "storage/store_sweep.h"

#include <stdlib.h>

#include "client/base/endian.h"

/* Twice what comes in, and a little more: the round through all records ends even while
 * they multiply. */
enum { SWEEP_ROWS_MIN = 4096 };

static int range_order(const void *a, const void *b)
{
    const struct sweep_range *x = a, *y = b;
    return kv_slice_cmp(kv_key_slice(&x->from), kv_key_slice(&y->from));
}

void sweep_prepare(struct sweep *w, struct store *s, uint64_t rows_added)
{
    *w = (struct sweep){.at = s->sweep};
    uint64_t budget = rows_added * 2 + SWEEP_ROWS_MIN;
    w->budget = budget > UINT32_MAX ? UINT32_MAX : (uint32_t)budget;
    if (s->group_count == 0) return;
    w->ranges = calloc(s->group_count, sizeof *w->ranges);
    if (w->ranges == NULL) return;
    for (uint32_t i = 0; i < s->group_count; i++) {
        const struct group *g = s->ordered[i];
        uint64_t retention = g->retention_ms != 0 ? g->retention_ms : s->o.dedup_retention_ms;
        if (g->state != CHECKPOINT_GROUP_LIVE || !g->has_range || g->damaged || retention == 0 ||
            g->checkpointed_clock_ms <= retention)
            continue;
        w->ranges[w->range_count++] = (struct sweep_range){
            .from = g->from, .to = g->to, .before_ms = g->checkpointed_clock_ms - retention};
    }
    qsort(w->ranges, w->range_count, sizeof *w->ranges, range_order);
    struct checkpoint *c = s->o.checkpoint;
    if (w->range_count > 0 && c->ops->view_open(c, &w->view) != KV_OK) w->view = NULL;
}

static bool sweep_is_stale(const struct sweep *w, const struct store_row *row)
{
    if (row->value.size < 8) return false;
    uint32_t low = 0, high = w->range_count; /* the last range that begins at or before the key */
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (kv_slice_cmp(kv_key_slice(&w->ranges[mid].from), row->key) <= 0)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == 0) return false;
    const struct sweep_range *r = &w->ranges[low - 1];
    if (r->to.size != 0 && kv_slice_cmp(row->key, kv_key_slice(&r->to)) >= 0) return false;
    return le64_get(row->value.data) < r->before_ms;
}

enum kv_err sweep_run(struct sweep *w, struct checkpoint *c)
{
    if (w->view == NULL) return KV_OK;
    struct checkpoint_cursor *i;
    enum kv_err err = c->ops->seek(w->view, STORE_DEDUP, kv_key_slice(&w->at), &i);
    if (err != KV_OK) return err;
    struct store_row row;
    uint32_t seen = 0;
    while ((err = c->ops->next(i, &row)) == KV_OK) {
        bool same_key = kv_slice_eq(row.key, kv_key_slice(&w->at));
        if (seen >= w->budget && !same_key) break;
        if (!same_key && row.key.size <= sizeof w->at.bytes) {
            w->at.size = (uint16_t)row.key.size;
            memcpy(w->at.bytes, row.key.data, row.key.size);
        }
        seen++;
        if (!sweep_is_stale(w, &row)) continue;
        err = c->ops->del(c, &row);
        if (err != KV_OK) break;
    }
    if (err == KV_NOT_FOUND) { /* round: from the beginning next time */
        w->at.size = 0;
        err = KV_OK;
    } else if (err == KV_OK) { /* on with the first key not looked at */
        w->at.size = (uint16_t)row.key.size;
        memcpy(w->at.bytes, row.key.data, row.key.size);
    }
    c->ops->close(i);
    return err;
}

void sweep_free(struct sweep *w, struct checkpoint *c)
{
    if (w->view != NULL) c->ops->view_close(w->view);
    w->view = NULL;
    free(w->ranges);
    w->ranges = NULL;
    w->range_count = 0;
}

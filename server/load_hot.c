#include <stdlib.h>

#include "client/base/text.h"
#include "server/group.h"

/* KVHOT: the sketches of this node's partitions, of all its workers, put together. Each key is led by one node, so those of all nodes make a
 * list of the cluster's, but for reads of level `any` at followers. */
struct hot_key {
    const struct group *g;
    const struct sketch_counter *counter;
    double rate;
};

static int rate_order(const void *a, const void *b)
{
    const struct hot_key *x = a, *y = b;
    if (x->rate != y->rate) return x->rate > y->rate ? -1 : 1;
    return kv_slice_cmp(x->counter->key, y->counter->key);
}

static double seconds_of(const struct load_hot *h, double since_tick)
{
    double seconds = h->seconds + since_tick;
    return seconds < 1 ? 1 : seconds;
}

/* Keys as hex digits: JSON has no bytes. */
static void key_json(const struct hot_key *k, double seconds, struct kv_buf *out)
{
    const struct sketch_counter *c = k->counter;
    double own = c->weight - c->error;
    kv_buf_append_text(out, "{\"key\":\"");
    kv_hex_encode(out, kv_key_user(k->g->rule.kind, c->key));
    kv_buf_printf(out, "\",\"keyspace\":%u,\"partition\":%u,\"leads\":%s,\"ops\":%.1f,\"reads\":%.1f,\"writes\":%.1f,\"error\":%.1f,\"share\":%.3f}", k->g->descriptor.keyspace,
                  k->g->id, k->g->load.leads ? "true" : "false", k->rate, c->reads / seconds, (own - c->reads) / seconds, c->error / seconds,
                  load_rate(&k->g->load) < k->rate ? 1.0 : k->rate / load_rate(&k->g->load));
}

void load_hot_lines(struct worker *w, uint32_t keyspace, uint32_t limit, struct kv_buf *out)
{
    double since_tick = (double)(env_now_ns(w->env) - w->loads.tick_ns) / 1e9;
    uint32_t count = 0, room = 0;
    for (const struct load *l = w->loads.active; l != NULL; l = l->next) room += l->hot == NULL ? 0 : l->hot->keys.count;
    struct hot_key *keys = calloc(room + 1, sizeof *keys);
    for (const struct load *l = w->loads.active; keys != NULL && l != NULL; l = l->next) {
        const struct group *g = container_of((struct load *)(uintptr_t)l, struct group, load);
        if (l->hot == NULL || g->id == KV_PARTITION_SYSTEM || (keyspace != UINT32_MAX && g->descriptor.keyspace != keyspace)) continue;
        for (uint32_t i = 0; i < l->hot->keys.count; i++) {
            const struct sketch_counter *c = &l->hot->keys.counters[i];
            keys[count++] = (struct hot_key){.g = g, .counter = c, .rate = c->weight / seconds_of(l->hot, since_tick)};
        }
    }
    if (keys != NULL) qsort(keys, count, sizeof *keys, rate_order);
    for (uint32_t i = 0; i < count && i < limit; i++) {
        key_json(&keys[i], seconds_of(keys[i].g->load.hot, since_tick), out);
        kv_buf_append_u8(out, '\n');
    }
    free(keys);
}

static double ops_of(struct kv_slice line)
{
    static const char name[] = "\"ops\":";
    const char *at = memmem(line.data, line.size, name, sizeof name - 1);
    return at == NULL ? 0 : strtod(at + sizeof name - 1, NULL); /* a comma follows */
}

static int ops_order(const void *a, const void *b)
{
    const struct kv_slice *x = a, *y = b;
    double of_x = ops_of(*x), of_y = ops_of(*y);
    if (of_x != of_y) return of_x > of_y ? -1 : 1;
    return kv_slice_cmp(*x, *y);
}

void load_hot_json(struct worker *w, uint32_t keyspace, uint32_t limit, struct kv_buf *out, struct kv_slice others)
{
    struct kv_buf text = {0};
    uint32_t count;
    load_hot_lines(w, keyspace, limit, &text);
    kv_buf_append_slice(&text, others);
    struct kv_slice *lines = status_lines(kv_buf_slice(&text), &count);
    if (lines != NULL) qsort(lines, count, sizeof *lines, ops_order);
    kv_buf_printf(out, "{\"node\":%u,\"hot\":[", w->node_id);
    for (uint32_t n = 0; lines != NULL && n < count && n < limit; n++) {
        if (n > 0) kv_buf_append_u8(out, ',');
        kv_buf_append_slice(out, lines[n]);
    }
    kv_buf_append_text(out, "]}");
    free(lines);
    kv_buf_free(&text);
}

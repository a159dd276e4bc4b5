#include "server/sketch.h"

#include <stdlib.h>

#include "client/base/hash.h"

static void key_free(struct kv_slice *key)
{
    free((void *)(uintptr_t)key->data);
    *key = kv_slice(NULL, 0);
}

/* In the room of the old one if it fits: most keys of a keyspace are of one size. */
static bool key_set(struct kv_slice *key, struct kv_slice to)
{
    uint8_t *bytes = (uint8_t *)(uintptr_t)key->data;
    if (bytes == NULL || to.size > key->size) {
        bytes = malloc(to.size == 0 ? 1 : to.size);
        if (bytes == NULL) return false;
        key_free(key);
    }
    if (to.size > 0) memcpy(bytes, to.data, to.size);
    *key = kv_slice(bytes, to.size);
    return true;
}

/* ---- the most frequent ---- */

static struct sketch_counter *counter_of(struct sketch *s, uint32_t hash, struct kv_slice key)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (s->hashes[i] == hash && kv_slice_eq(s->counters[i].key, key)) return &s->counters[i];
    return NULL;
}

static uint32_t lightest(const struct sketch *s)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < s->count; i++)
        if (s->counters[i].weight < s->counters[best].weight) best = i;
    return best;
}

void sketch_add(struct sketch *s, struct kv_slice key, double weight, bool is_read)
{
    uint32_t hash = kv_hash32(key, 0);
    struct sketch_counter *c = counter_of(s, hash, key);
    if (c == NULL) {
        uint32_t at = s->count < SKETCH_COUNTERS ? s->count : lightest(s);
        c = &s->counters[at];
        if (!key_set(&c->key, key)) return;
        if (at == s->count) s->count++;
        s->hashes[at] = hash;
        c->error = c->weight; /* of the one before; 0 in a new counter */
        c->reads = 0;
    }
    c->weight += weight;
    if (is_read) c->reads += weight;
}

void sketch_decay(struct sketch *s, double factor)
{
    for (uint32_t i = 0; i < s->count; i++) {
        s->counters[i].weight *= factor;
        s->counters[i].error *= factor;
        s->counters[i].reads *= factor;
    }
}

uint32_t sketch_order(const struct sketch *s, uint32_t at[SKETCH_COUNTERS])
{
    for (uint32_t i = 0; i < s->count; i++) {
        uint32_t k = i;
        for (; k > 0 && s->counters[at[k - 1]].weight < s->counters[i].weight; k--) at[k] = at[k - 1];
        at[k] = i;
    }
    return s->count;
}

void sketch_clear(struct sketch *s)
{
    for (uint32_t i = 0; i < s->count; i++) key_free(&s->counters[i].key);
    *s = (struct sketch){0};
}

/* ---- the median ---- */

void sample_add(struct sample *s, struct kv_slice key, double weight)
{
    struct sample_key *k = &s->keys[s->next];
    if (!key_set(&k->key, key)) return;
    k->weight = weight;
    s->next = (s->next + 1) % SAMPLE_KEYS;
    if (s->count < SAMPLE_KEYS) s->count++;
}

static int key_order(const void *a, const void *b)
{
    return kv_slice_cmp((*(const struct sample_key *const *)a)->key, (*(const struct sample_key *const *)b)->key);
}

static struct kv_slice border_of(struct kv_slice key, size_t bytes)
{
    return bytes == 0 || bytes > key.size ? key : kv_slice(key.data, bytes);
}

double sample_median(const struct sample *s, struct kv_range range, size_t border_bytes, struct kv_slice *out)
{
    const struct sample_key *in[SAMPLE_KEYS];
    uint32_t count = 0;
    double total = 0, left = 0, best = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        if (!kv_range_has(range, s->keys[i].key)) continue;
        in[count++] = &s->keys[i];
        total += s->keys[i].weight;
    }
    if (count == 0) return 0;
    qsort(in, count, sizeof in[0], key_order);
    struct kv_slice before = range.from;
    for (uint32_t i = 0; i < count; i++) {
        struct kv_slice border = border_of(in[i]->key, border_bytes);
        double share = (left < total - left ? left : total - left) / total;
        if (kv_slice_cmp(border, before) > 0 && share > best) {
            best = share;
            *out = border;
        }
        before = border;
        left += in[i]->weight;
    }
    return best;
}

void sample_clear(struct sample *s)
{
    for (uint32_t i = 0; i < s->count; i++) key_free(&s->keys[i].key);
    *s = (struct sample){0};
}

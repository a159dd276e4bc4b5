#include <math.h>
#include <stdlib.h>

#include "client/base/hash.h"
#include "tools/kvbench/kvbench.h"

/* What is done to which key. Keys are numbers 0..keys-1 (inserts go on from there), written as
 * PREFIX and 12 digits; the mix and the distributions are those of YCSB (Cooper et al., 2010).
 * Everything follows from the seed. */

double work_uniform(struct bench *b)
{
    return (double)(kv_random_next(&b->random) >> 11) * 0x1p-53;
}

/* Below n without modulo bias worth speaking of: n is far below 2^64. */
static uint64_t below(struct bench *b, uint64_t n)
{
    return kv_random_next(&b->random) % n;
}

/* Gray et al., "Quickly generating billion-record synthetic databases" (1994), as in YCSB. */
static void zipf_init(struct zipf *z, uint64_t n, double theta)
{
    double zeta = 0;
    for (uint64_t i = 1; i <= n; i++) zeta += pow((double)i, -theta);
    double zeta_2 = 1 + pow(0.5, theta);
    *z = (struct zipf){.n = n, .theta = theta, .alpha = 1 / (1 - theta), .zeta_n = zeta};
    z->eta = (1 - pow(2.0 / (double)n, 1 - theta)) / (1 - zeta_2 / zeta);
}

static uint64_t zipf_next(const struct zipf *z, double u)
{
    double uz = u * z->zeta_n;
    if (uz < 1 || z->n == 1) return 0;
    if (uz < 1 + pow(0.5, z->theta)) return 1;
    uint64_t rank = (uint64_t)((double)z->n * pow(z->eta * u - z->eta + 1, z->alpha));
    return rank < z->n ? rank : z->n - 1;
}

/* Four Feistel rounds over the next even power of two, walked until inside [0, n). */
uint64_t work_permute(uint64_t i, uint64_t n, uint64_t seed)
{
    unsigned half = 1;
    while (half < 31 && (UINT64_C(1) << (2 * half)) < n) half++;
    uint64_t mask = (UINT64_C(1) << half) - 1;
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint64_t state = seed ^ (round << 56) ^ right;
            uint64_t next = left ^ (kv_random_next(&state) & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

enum kv_err work_init(struct bench *b)
{
    const struct options *o = &b->options;
    b->random = o->seed;
    size_t size = POOL_BYTES + o->value_max;
    if ((b->pool = malloc(size)) == NULL) return KV_NO_SPACE;
    for (size_t i = 0; i < size; i++)
        b->pool[i] = (uint8_t)(' ' + kv_random_next(&b->random) % 95); /* printable */
    if (o->distribution != KEYS_UNIFORM) zipf_init(&b->zipf, o->keys, o->theta);
    return KV_OK;
}

void work_free(struct bench *b)
{
    free(b->pool);
}

static enum op_kind choose_kind(struct bench *b, const struct lane *l)
{
    const struct options *o = &b->options;
    if (o->fill) return OP_WRITE;
    if (o->split) return l->number < o->writers ? OP_WRITE : OP_READ;
    uint64_t dice = below(b, 1000);
    for (int kind = 0; kind < OP_KINDS; kind++) {
        if (dice < o->share[kind]) return (enum op_kind)kind;
        dice -= o->share[kind];
    }
    return OP_READ;
}

static uint64_t choose_key(struct bench *b)
{
    const struct options *o = &b->options;
    switch (o->distribution) {
    case KEYS_UNIFORM: return below(b, o->keys + b->inserted);
    case KEYS_ZIPF:
        /* Scattered, or the hot keys would be neighbours and share a partition or a page. */
        return work_permute(zipf_next(&b->zipf, work_uniform(b)), o->keys, o->seed);
    case KEYS_LATEST: {
        /* Behind the inserts that may still be open; one that lags even more counts as missing. */
        uint64_t open = (uint64_t)o->clients * o->depth;
        uint64_t known = o->keys + (b->inserted > open ? b->inserted - open : 0);
        return known - 1 - zipf_next(&b->zipf, work_uniform(b));
    }
    }
    return 0;
}

void work_choose(struct bench *b, struct op *op)
{
    const struct options *o = &b->options;
    op->kind = choose_kind(b, op->lane);
    op->writes = op->kind == OP_WRITE || op->kind == OP_INSERT;
    if (o->fill)
        op->key = work_permute(b->issued, o->keys, o->seed);
    else if (op->kind == OP_INSERT)
        op->key = o->keys + b->inserted++;
    else
        op->key = choose_key(b);
    if (op->kind == OP_SCAN)
        op->value_size = (uint32_t)(1 + below(b, o->scan_max));
    else
        op->value_size = o->value_min + (uint32_t)below(b, o->value_max - o->value_min + 1);
}

size_t work_key(const struct bench *b, uint64_t key, char out[KEY_BYTES_MAX])
{
    enum { DIGITS = 12 };
    size_t prefix = strlen(b->options.prefix);
    memcpy(out, b->options.prefix, prefix);
    for (size_t i = DIGITS; i-- > 0; key /= 10) out[prefix + i] = (char)('0' + key % 10);
    return prefix + DIGITS;
}

static void mark(uint64_t key, uint8_t out[MARK_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = MARK_BYTES; i-- > 0; key >>= 4) out[i] = (uint8_t)digits[key & 15];
}

void work_value(struct bench *b, const struct op *op, uint8_t *out)
{
    uint8_t marked[MARK_BYTES];
    mark(op->key, marked);
    size_t head = op->value_size < MARK_BYTES ? op->value_size : MARK_BYTES;
    memcpy(out, marked, head);
    memcpy(out + head, b->pool + below(b, POOL_BYTES), op->value_size - head);
}

bool work_check(uint64_t key, struct kv_slice value)
{
    uint8_t marked[MARK_BYTES];
    mark(key, marked);
    return memcmp(value.data, marked, value.size < MARK_BYTES ? value.size : MARK_BYTES) == 0;
}

uint64_t work_gap_ns(struct bench *b)
{
    double mean = 1e9 / b->options.rate;
    if (!b->options.poisson) return (uint64_t)mean;
    return (uint64_t)(-log(1 - work_uniform(b)) * mean);
}

#include "server/exec_impl.h"
#include <stdlib.h>

/* The longest common subsequence of two values, by the textbook table. It is quadratic, so
 * the table is bounded: this runs on the loop of a node that serves others too. */
enum { LCS_TABLE_BYTES_MAX = 64 << 20 };

struct lcs_options {
    bool is_length, is_index, with_length;
    int64_t match_min;
};
struct lcs {
    struct kv_slice a, b;
    uint32_t *table; /* (a.size + 1) x (b.size + 1) */
};

static uint32_t *cell(const struct lcs *l, size_t i, size_t j)
{
    return &l->table[j + i * (l->b.size + 1)];
}

static bool options_parse(struct exec *x, const struct kv_slice *a, uint32_t n,
                          struct lcs_options *o)
{
    *o = (struct lcs_options){0};
    for (uint32_t i = 0; i < n; i++) {
        if (exec_word(a[i], "IDX"))
            o->is_index = true;
        else if (exec_word(a[i], "LEN"))
            o->is_length = true;
        else if (exec_word(a[i], "WITHMATCHLEN"))
            o->with_length = true;
        else if (exec_word(a[i], "MINMATCHLEN") && i + 1 < n) {
            if (!exec_integer(x, a[++i], &o->match_min)) return false;
        } else
            return exec_refuse_syntax(x);
    }
    if (o->is_index && o->is_length)
        return exec_refuse(x, KV_BAD_ARGUMENT,
                           "ERR If you want both the length and indexes, please just use IDX.");
    return true;
}

static void table_fill(const struct lcs *l)
{
    for (size_t i = 0; i <= l->a.size; i++) {
        for (size_t j = 0; j <= l->b.size; j++) {
            uint32_t best;
            if (i == 0 || j == 0)
                best = 0;
            else if (l->a.data[i - 1] == l->b.data[j - 1])
                best = *cell(l, i - 1, j - 1) + 1;
            else {
                uint32_t up = *cell(l, i - 1, j), left = *cell(l, i, j - 1);
                best = up > left ? up : left;
            }
            *cell(l, i, j) = best;
        }
    }
}

struct run { /* a common substring being walked backwards; `size` 0: none */
    size_t a, b, size;
};

static uint32_t run_emit(struct kv_buf *matches, const struct run *r, const struct lcs_options *o)
{
    if (r->size == 0 || (int64_t)r->size < o->match_min) return 0;
    resp_put_array(matches, o->with_length ? 3 : 2);
    resp_put_array(matches, 2);
    resp_put_integer(matches, (int64_t)r->a);
    resp_put_integer(matches, (int64_t)(r->a + r->size - 1));
    resp_put_array(matches, 2);
    resp_put_integer(matches, (int64_t)r->b);
    resp_put_integer(matches, (int64_t)(r->b + r->size - 1));
    if (o->with_length) resp_put_integer(matches, (int64_t)r->size);
    return 1;
}

/* Walks the table from its end. Ties go to the second string, as in Redis: which of several
 * longest subsequences comes out depends on it. Fills `result` and the runs, last first. */
static uint32_t walk(const struct lcs *l, const struct lcs_options *o, uint8_t *result,
                     struct kv_buf *matches)
{
    size_t i = l->a.size, j = l->b.size, left = *cell(l, i, j);
    uint32_t match_count = 0;
    struct run r = {0};
    while (i > 0 && j > 0) {
        if (l->a.data[i - 1] == l->b.data[j - 1]) {
            result[--left] = l->a.data[i - 1];
            i--;
            j--;
            r = (struct run){i, j, r.size + 1};
            continue;
        }
        match_count += run_emit(matches, &r, o);
        r.size = 0;
        if (*cell(l, i - 1, j) > *cell(l, i, j - 1))
            i--;
        else
            j--;
    }
    return match_count + run_emit(matches, &r, o);
}

static void reply_walk(struct exec *x, const struct lcs *l, const struct lcs_options *o)
{
    uint32_t length = *cell(l, l->a.size, l->b.size);
    uint8_t *result = malloc((size_t)length + 1);
    struct kv_buf matches;
    kv_buf_init(&matches, 0);
    if (result != NULL) {
        uint32_t match_count = walk(l, o, result, &matches);
        if (o->is_index) {
            resp_put_map(x->reply, 2);
            resp_put_bulk(x->reply, kv_str("matches"));
            resp_put_array(x->reply, match_count);
            kv_buf_append_slice(x->reply, kv_buf_slice(&matches));
            resp_put_bulk(x->reply, kv_str("len"));
            resp_put_integer(x->reply, length);
        } else {
            resp_put_bulk(x->reply, kv_slice(result, length));
        }
    }
    if (result == NULL || matches.failed) x->failed = KV_IO;
    kv_buf_free(&matches);
    free(result);
}

void exec_lcs(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    struct lcs_options o;
    struct exec_entry first, second;
    struct kv_key checked; /* so that a check sees both names */
    if (!exec_key(x, a[1], &checked)) return;
    if (!options_parse(x, a + 2, n - 2, &o)) return;
    if (!exec_load(x, a[0], &first) || !exec_load(x, a[1], &second)) return;
    struct lcs l = {.a = first.live ? first.value.payload : kv_slice(NULL, 0),
                    .b = second.live ? second.value.payload : kv_slice(NULL, 0)};
    size_t cells = (l.a.size + 1) * (l.b.size + 1); /* both are below 2^32 */
    if (cells > LCS_TABLE_BYTES_MAX / sizeof *l.table) {
        exec_refuse(x, KV_TOO_BIG,
                    "ERR Insufficient memory, transient memory for LCS exceeds %d bytes",
                    LCS_TABLE_BYTES_MAX);
        return;
    }
    l.table = malloc(cells * sizeof *l.table);
    if (l.table == NULL) {
        x->failed = KV_IO;
        return;
    }
    table_fill(&l);
    if (o.is_length)
        resp_put_integer(x->reply, *cell(&l, l.a.size, l.b.size));
    else
        reply_walk(x, &l, &o);
    free(l.table);
}

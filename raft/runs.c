/* The log, known only as runs of entries of one term.
 * (1) spans are sorted by `first`, the first starts at base + 1, none is empty.
 * (2) terms never fall, and a span never has the term and kind of the one before.
 * (3) count == 0 exactly when last == base. */
#include "raft/internal.h"
#include <assert.h>
#include <string.h>

void runs_init(struct runs *l, raft_index base, raft_term base_term)
{
    l->base = base;
    l->base_term = base_term;
    l->base_conf = 0;
    l->last = base;
    l->count = 0;
}

uint32_t runs_room(const struct runs *l)
{
    return RAFT_RUNS_MAX - l->count;
}

static raft_index span_end(const struct runs *l, uint32_t i)
{
    return i + 1 < l->count ? l->spans[i + 1].first - 1 : l->last;
}

/* The span that holds `index`, base < index <= last. */
static uint32_t span_at(const struct runs *l, raft_index index)
{
    assert(index > l->base && index <= l->last);
    uint32_t low = 0, high = l->count - 1;
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (l->spans[middle].first <= index)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

bool runs_append(struct runs *l, const struct raft_run *run)
{
    assert(run->count > 0 && run->term >= runs_last_term(l));
    const struct span *tail = l->count > 0 ? &l->spans[l->count - 1] : NULL;
    if (tail == NULL || tail->term != run->term || tail->is_conf != run->is_conf) {
        if (l->count == RAFT_RUNS_MAX) return false;
        l->spans[l->count++] = (struct span){l->last + 1, run->term, run->is_conf};
    }
    l->last += run->count;
    return true;
}

void runs_truncate(struct runs *l, raft_index from)
{
    assert(from > l->base);
    if (from > l->last) return;
    uint32_t i = span_at(l, from);
    l->count = l->spans[i].first == from ? i : i + 1;
    l->last = from - 1;
}

void runs_compact(struct runs *l, raft_index index)
{
    assert(index >= l->base && index <= l->last);
    if (index == l->base) return;
    uint32_t i = span_at(l, index);
    raft_term term = l->spans[i].term;
    raft_index conf = runs_conf_last(l, l->base, index);
    if (conf != 0) l->base_conf = conf;
    if (span_end(l, i) == index)
        i++;
    else
        l->spans[i].first = index + 1;
    l->count -= i;
    memmove(l->spans, l->spans + i, l->count * sizeof l->spans[0]);
    l->base = index;
    l->base_term = term;
}

void runs_fold(struct runs *l, raft_index commit, uint32_t room)
{
    while (runs_room(l) < room && l->count > 0 && span_end(l, 0) <= commit)
        runs_compact(l, span_end(l, 0));
}

raft_term runs_term(const struct runs *l, raft_index index)
{
    if (index == l->base) return l->base_term;
    if (index < l->base || index > l->last) return 0;
    return l->spans[span_at(l, index)].term;
}

raft_term runs_last_term(const struct runs *l)
{
    return l->count > 0 ? l->spans[l->count - 1].term : l->base_term;
}

uint32_t runs_slice(const struct runs *l, raft_index first, uint32_t count, struct raft_run *out,
                    uint32_t out_max, uint32_t *out_count)
{
    uint32_t taken = 0, n = 0;
    for (uint32_t i = count > 0 ? span_at(l, first) : 0; taken < count && n < out_max; i++) {
        raft_index at = first + taken;
        raft_index left = span_end(l, i) + 1 - at;
        uint32_t part = left < count - taken ? (uint32_t)left : count - taken;
        out[n++] = (struct raft_run){l->spans[i].term, part, l->spans[i].is_conf};
        taken += part;
    }
    *out_count = n;
    return taken;
}

raft_index runs_differ(const struct runs *l, raft_index first, const struct raft_run *runs,
                       uint32_t run_count)
{
    raft_index at = first;
    for (uint32_t k = 0; k < run_count; k++) {
        raft_index end = at + runs[k].count;
        while (at < end) {
            if (at > l->last) return at;
            if (at < l->base) { /* compacted, so committed, so equal */
                at = l->base < end ? l->base : end;
                continue;
            }
            if (at == l->base) {
                if (l->base_term != runs[k].term) return at;
                at++;
                continue;
            }
            uint32_t i = span_at(l, at);
            if (l->spans[i].term != runs[k].term) return at;
            raft_index next = span_end(l, i) + 1;
            at = next < end ? next : end;
        }
    }
    return at;
}

raft_index runs_back_up(const struct runs *l, raft_index index, raft_term term)
{
    if (index > l->last) index = l->last;
    while (index > l->base) {
        uint32_t i = span_at(l, index);
        if (l->spans[i].term <= term) return index;
        index = l->spans[i].first - 1;
    }
    return index;
}

raft_index runs_conf_last(const struct runs *l, raft_index after, raft_index upto)
{
    for (uint32_t i = l->count; i-- > 0 && span_end(l, i) > after;) {
        raft_index end = span_end(l, i) < upto ? span_end(l, i) : upto;
        if (l->spans[i].is_conf && l->spans[i].first <= upto && end > after) return end;
    }
    return l->base_conf > after && l->base_conf <= upto ? l->base_conf : 0;
}

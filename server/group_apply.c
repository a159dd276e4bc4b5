#include "server/group_impl.h"

#include <assert.h>
#include <stdlib.h>

#include "server/birth.h"
#include "server/exec_directory.h"
#include "server/merge.h"
#include "server/request.h"
#include "server/scrub.h"

/* Committed entries, on their way to the state. They are decoded ahead, so that the rows of some are on the way from
 * memory while others execute. Where many groups have little to apply each, those that are settled next are looked at
 * together with the one whose turn it is. */
struct foreseen {
    uint64_t life, first; /* of which group, and index of the first */
    uint32_t from, count; /* where they lie below */
};
struct foresight {
    struct log_entry entries[APPLY_AHEAD_MAX];
    struct apply_ahead ahead[APPLY_AHEAD_MAX];
    uint32_t hints[2 * APPLY_AHEAD_MAX];
    uint32_t count, hint_count;
    struct foreseen runs[APPLY_AHEAD_MAX]; /* of groups, in the order they are settled in */
    uint32_t run_count, run_next;
    uint64_t dropped; /* log_dropped(), when they were taken from the log */
};

struct foresight *foresight_create(void)
{
    return calloc(1, sizeof(struct foresight));
}

/* ---- looking ahead ---- */

static bool first_key(struct group *g, struct apply_ahead *a)
{
    const struct command *c = &a->command;
    uint32_t first, step;
    uint32_t count = kv_op_keys(kv_op_info(c->op), c->arg_count, &first, &step);
    if (count == 0 || first >= c->arg_count) return false;
    a->user_key = c->args[first];
    return kv_key_encode(&g->rule, a->user_key, &a->key) == KV_OK;
}

static void forget(struct worker *w)
{
    struct foresight *f = w->foresight;
    f->count = f->hint_count = f->run_count = f->run_next = 0;
    kv_arena_reset(&w->arena);
}

/* Of one group, the next `count` behind those that are there already. */
static void decode(struct group *g, const struct log_entry *e, uint32_t count)
{
    struct worker *w = g->w;
    struct foresight *f = w->foresight;
    assert(f->count + count <= APPLY_AHEAD_MAX);
    for (uint32_t i = 0; i < count; i++) {
        struct apply_ahead *a = &f->ahead[f->count++];
        a->err = command_decode(e[i].bytes, &w->arena, &a->command);
        a->has_key = a->err == KV_OK && first_key(g, a);
        if (!a->has_key) continue;
        f->hints[f->hint_count++] = store_hint(w->store, STORE_DATA, kv_key_slice(&a->key), kv_slice(NULL, 0));
        if (a->command.sequence == 0) continue;
        command_sub(&a->command, a->sub);
        f->hints[f->hint_count++] = store_hint(w->store, STORE_DEDUP, kv_key_slice(&a->key), kv_slice(a->sub, sizeof a->sub));
    }
}

static void fetch_rows(const struct worker *w)
{
    const struct foresight *f = w->foresight;
    for (uint32_t i = 0; i < f->hint_count; i++) store_hint_row(w->store, f->hints[i]);
    for (uint32_t i = 0; i < f->hint_count; i++) store_hint_next(w->store, f->hints[i]);
}

static bool can_apply(const struct group *g)
{
    return g->applied < g->apply_to && !g->fetching && g->stalled == NULL && !g->dead && !g->installing;
}

/* Its next entries, as many as there is room for. Errors as log_cached(). */
static enum kv_err foresee_group(struct group *g)
{
    struct foresight *f = g->w->foresight;
    uint32_t room = APPLY_AHEAD_MAX - f->count, count = 0;
    uint64_t left = g->apply_to - g->applied;
    enum kv_err err = log_cached(store_log(g->w->store), g->id, g->applied + 1, left < room ? (uint32_t)left : room,
                                 GROUP_FETCH_BYTES, f->entries + f->count, &count);
    if (err != KV_OK) return err;
    f->runs[f->run_count++] = (struct foreseen){.life = g->life, .first = g->applied + 1, .from = f->count, .count = count};
    decode(g, f->entries + f->count, count);
    return KV_OK;
}

static enum kv_err foresee(struct group *g)
{
    struct worker *w = g->w;
    struct foresight *f = w->foresight;
    forget(w);
    f->dropped = log_dropped(store_log(w->store));
    enum kv_err err = foresee_group(g);
    for (struct group *next = w->settling; err == KV_OK && next != NULL && f->count < APPLY_AHEAD_MAX; next = next->settle_next) {
        group_prefetch(w, next->settle_next);
        if (can_apply(next) && foresee_group(next) != KV_OK) break;
    }
    fetch_rows(w);
    return err;
}

/* What was foreseen of it; NULL: nothing, or not any more. */
static const struct foreseen *foreseen(const struct group *g)
{
    struct foresight *f = g->w->foresight;
    if (f->run_next == f->run_count || f->dropped != log_dropped(store_log(g->w->store))) return NULL;
    const struct foreseen *r = &f->runs[f->run_next];
    if (r->life != g->life || r->first != g->applied + 1) return NULL;
    f->run_next++;
    return r;
}

/* ---- applying ---- */

/* Applies the next entry and answers whoever waits for its index. */
static bool apply_one(struct group *g, const struct log_entry *e, const struct apply_ahead *a)
{
    struct request *waiting = NULL;
    uint64_t index = g->applied + 1;
    while (g->waiting_head != NULL && g->waiting_head->index <= index) {
        struct request *r = g->waiting_head;
        g->waiting_head = r->queue_next;
        if (g->waiting_head == NULL) g->waiting_tail = NULL;
        r->queue_next = NULL;
        if (g->waiting_head != NULL && g->waiting_head->queue_next != NULL) /* the next itself is on its way */
            request_prefetch(g->waiting_head->queue_next);
        assert(r->index == index); /* what a snapshot went past was answered then: group_restored() */
        if (r->term == e->term) {
            waiting = r;
        } else { /* another leader's entry stands at its index: this one never took effect */
            r->maybe = r->doubted;
            request_fail(r, KV_NOT_LEADER, "another leader took over before it was committed");
        }
    }
    if (!apply_entry(g, index, e, a, waiting)) return false;
    if (g->scrub.index == index) scrub_applied(g);
    return true;
}

static bool births_fit(const struct group *g, const struct apply_ahead *a)
{
    const struct command *c = &a->command;
    if (a->err != KV_OK || (c->op != KV_OP_SPLIT && c->op != KV_OP_KSCREATE)) return true;
    return birth_has_room(g, c->op == KV_OP_SPLIT ? 1 : exec_births_max(c->op, c->args, c->arg_count));
}

/* False: not all could be applied; the group is dead, or the node poisoned, or the log has no room for a birth, or
 * the right side of a merge is not far enough. */
static bool apply_run(struct group *g, const struct log_entry *e, const struct apply_ahead *ahead, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!births_fit(g, &ahead[i])) return false;
        if (ahead[i].err == KV_OK && ahead[i].command.op == KV_OP_ABSORB && merge_must_wait(g, &ahead[i].command)) return false;
        if (!apply_one(g, &e[i], &ahead[i])) return false;
    }
    raft_applied(g->raft, g->applied);
    return true;
}

void apply_fetched(struct group *g, const struct log_entry *e, uint32_t count)
{
    struct foresight *f = g->w->foresight;
    for (uint32_t done = 0, n; done < count; done += n) {
        n = count - done < APPLY_AHEAD_MAX ? count - done : APPLY_AHEAD_MAX;
        forget(g->w);
        decode(g, e + done, n);
        fetch_rows(g->w);
        if (!apply_run(g, e + done, f->ahead, n)) return;
    }
}

void apply_pump(struct group *g)
{
    const struct foresight *f = g->w->foresight;
    while (can_apply(g)) {
        const struct foreseen *r = foreseen(g);
        enum kv_err err = r == NULL ? foresee(g) : KV_OK;
        if (err == KV_BUSY) {
            g->fetching = fetch_start(g, g->applied + 1, NULL);
            break;
        }
        if (g->w->poisoned) return;
        if (r == NULL) r = foreseen(g);
        assert(err == KV_OK && r != NULL); /* a committed entry is in the log */
        if (!apply_run(g, f->entries + r->from, f->ahead + r->from, r->count)) return;
    }
}

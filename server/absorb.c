#include <stdlib.h>

#include "client/base/text.h"
#include "client/wire/resp.h"
#include "server/birth.h"
#include "server/group_impl.h"
#include "server/keyspaces.h"
#include "server/map.h"
#include "server/merge.h"
#include "server/request.h"

/* What the entries of a merge do. All of them may come twice: whoever proposed one and heard nothing proposes it again.
 *
 * ABSORB names who may apply it, as of which range epoch: once that one was split, merged or absorbed, it does nothing. Whether it
 * took effect is asked of the partition that ends where the right side begins, whichever it is by then. With the merge that
 * border is gone; if it is there again, a split made it, at a higher range epoch than the right side had. */

bool merge_voids(const struct group *g, enum kv_op op)
{
    return g->descriptor.frozen_merge != 0 && op != KV_OP_FREEZE && op != KV_OP_UNFREEZE && op != KV_OP_VOID &&
           op != KV_OP_KVAWAIT;
}

void merge_keeps(const struct descriptor *now, struct descriptor *next)
{
    next->frozen_merge = now->frozen_merge;
    next->frozen_index = now->frozen_index;
    next->frozen_ms = now->frozen_ms;
    next->frozen_left = now->frozen_left;
    next->frozen_epoch = now->frozen_epoch;
    next->merge_void = now->merge_void;
    next->merge_done = now->merge_done;
    next->merge_index = now->merge_index;
    next->to_epoch = now->to_epoch;
}

static bool has_voter_at(const struct descriptor *d, uint32_t node)
{
    for (uint32_t i = 0; i < d->replica_count; i++)
        if (d->replicas[i].node == node && d->replicas[i].role == DESCRIPTOR_VOTER) return true;
    return false;
}

bool merge_has_same_nodes(const struct descriptor *a, const struct descriptor *b)
{
    if (a->replica_count != b->replica_count) return false;
    for (uint32_t i = 0; i < a->replica_count; i++) /* a node has one replica of a partition, or a learner to succeed it */
        if (a->replicas[i].role != DESCRIPTOR_VOTER || !has_voter_at(b, a->replicas[i].node)) return false;
    return true;
}

enum kv_err absorb_of(const struct descriptor *left, const struct descriptor *right, uint32_t conf_epoch, uint64_t index,
                      struct descriptor *out, const char **why)
{
    uint64_t merge = right->frozen_merge;
    if (merge != 0 && left->id == right->frozen_left && left->merge_done == merge) return KV_CONFLICT;
    if (merge == 0 || merge <= left->merge_void) {
        *why = "the merge was given up meanwhile";
        return KV_CONDITION;
    }
    if (left->id != right->frozen_left || left->range_epoch != right->frozen_epoch || left->keyspace != right->keyspace || left->kind != right->kind ||
        !kv_slice_eq(kv_key_slice(&left->to), kv_key_slice(&right->from))) {
        *why = "they are no neighbours any more";
        return KV_CONDITION;
    }
    if (!kv_slice_eq(left->list, right->list)) {
        *why = "they list different labels";
        return KV_CONDITION;
    }
    /* A replica of ours that came since the others were asked may stand where none of the right is. */
    if (left->conf_epoch != conf_epoch || !merge_has_same_nodes(left, right)) {
        *why = "its replicas changed, or are not on the same nodes; try again in a moment";
        return KV_CONDITION;
    }
    *out = *left;
    out->to = right->to;
    out->range_epoch = (left->range_epoch > right->range_epoch || MUTANT(absorb_own_epoch) ? left->range_epoch : right->range_epoch) + 1;
    out->to_epoch = right->to_epoch;
    out->merge_done = merge;
    out->merge_index = index;
    return KV_OK;
}

/* Also where it is frozen itself: should it be absorbed, nobody is named by that merge any more. */
enum merge_outcome void_of(const struct descriptor *d, const struct merge_name *merge, struct descriptor *out)
{
    *out = *d;
    if (d->to_epoch > merge->right_epoch) return MERGE_DONE;
    if (d->id == merge->left && d->range_epoch == merge->epoch && merge->id > d->merge_void) out->merge_void = merge->id;
    return MERGE_VOIDED;
}

/* ---- as part of applying ---- */

static void describe(struct group *g, const struct descriptor *d)
{
    struct kv_buf bytes = {0};
    descriptor_encode(d, &bytes);
    if (bytes.failed) abort();                  /* mid-apply: the log replays it exactly */
    if (group_describe(g, d) != KV_OK) abort(); /* its list is what it was */
    store_describe(g->w->store, g->id, kv_buf_slice(&bytes));
    kv_buf_free(&bytes);
}

static void refuse(struct exec *x, struct kv_reply *reply, enum kv_err err, const char *why)
{
    resp_put_error(x->reply, "ERR %s", why);
    reply->err = err;
    reply->applied = KV_APPLIED_NO;
    reply->value = kv_buf_slice(x->reply);
    reply->detail = kv_str(why);
}

static const char *freeze_refusal(const struct descriptor *d, struct kv_slice key)
{
    if (!kv_slice_eq(kv_key_slice(&d->from), key)) return "no partition begins there any more";
    if (d->frozen_merge != 0) return "another merge of the partition behind it is under way";
    for (uint32_t i = 0; i < d->replica_count; i++)
        if (d->replicas[i].role != DESCRIPTOR_VOTER) return "the replicas of the partition behind it are being changed; try again in a moment";
    return NULL;
}

static void freeze(struct group *g, uint64_t index, struct kv_slice key, const struct merge_name *merge, struct exec *x, struct kv_reply *reply)
{
    struct descriptor d = g->descriptor;
    if (d.frozen_merge != merge->id) {
        const char *why = freeze_refusal(&d, key);
        if (why != NULL) {
            refuse(x, reply, KV_CONDITION, why);
            return;
        }
        d.frozen_merge = merge->id;
        d.frozen_left = merge->left;
        d.frozen_epoch = merge->epoch;
        d.frozen_index = index;
        d.frozen_ms = g->clock_ms;
        describe(g, &d);
        g->frozen_ns = env_now_ns(g->w->env);
        JOURNAL(g->w->journal, raft, INFO, "frozen", "group=%u merge=%llu index=%llu", g->id,
                (unsigned long long)merge->id, (unsigned long long)index);
    }
    store_checkpoint(g->w->store, NULL); /* it is what the merge waits for */
    struct kv_buf bytes = {0};
    descriptor_encode(&d, &bytes);
    if (bytes.failed) abort();
    resp_put_bulk(x->reply, kv_buf_slice(&bytes));
    kv_buf_free(&bytes);
    reply->value = kv_buf_slice(x->reply);
}

static void unfreeze(struct group *g, uint64_t merge, struct exec *x, struct kv_reply *reply)
{
    struct descriptor d = g->descriptor;
    if (d.frozen_merge == merge) {
        d.frozen_merge = d.frozen_index = d.frozen_ms = 0;
        d.frozen_left = d.frozen_epoch = 0;
        describe(g, &d);
        store_checkpoint(g->w->store, NULL); /* who is frozen takes no snapshot that is */
        JOURNAL(g->w->journal, raft, INFO, "unfrozen", "group=%u merge=%llu", g->id, (unsigned long long)merge);
    }
    resp_put_status(x->reply, "OK");
    reply->value = kv_buf_slice(x->reply);
}

static void void_(struct group *g, const struct merge_name *merge, struct exec *x, struct kv_reply *reply)
{
    struct descriptor d;
    enum merge_outcome outcome = void_of(&g->descriptor, merge, &d);
    if (d.merge_void != g->descriptor.merge_void) describe(g, &d);
    JOURNAL(g->w->journal, raft, INFO, "merge-void", "group=%u merge=%llu outcome=%d", g->id, (unsigned long long)merge->id, (int)outcome);
    resp_put_integer(x->reply, (int64_t)outcome);
    reply->value = kv_buf_slice(x->reply);
}

static bool absorb_parse(const struct command *c, struct descriptor *right, uint32_t *conf_epoch)
{
    uint64_t epoch;
    if (c->arg_count != 3 || descriptor_decode(c->args[1], right) != KV_OK || !kv_parse_u64(c->args[2], &epoch) || epoch > UINT32_MAX)
        return false;
    *conf_epoch = (uint32_t)epoch;
    return true;
}

static bool is_far_enough(const struct group *g, const struct descriptor *right)
{
    return g->descriptor.frozen_merge == right->frozen_merge && g->applied >= right->frozen_index && !g->installing && !g->rowless;
}

bool merge_must_wait(const struct group *g, const struct command *c)
{
    struct descriptor right, after;
    uint32_t conf_epoch;
    const char *why;
    if (merge_voids(g, c->op) || c->range_epoch != g->descriptor.range_epoch || !absorb_parse(c, &right, &conf_epoch)) return false;
    if (absorb_of(&g->descriptor, &right, conf_epoch, 0, &after, &why) != KV_OK) return false;
    const struct group *r = worker_group(g->w, right.id);
    /* Of a keyspace that is being dropped either side may have been destroyed first; the other one follows. */
    if (r == NULL) return keyspaces_is_gone(g->w, right.keyspace) || !keyspaces_are_known(g->w);
    return !r->dead && !is_far_enough(r, &right);
}

/* What was sent to the right side, or waits for it, goes to the left in its order. What was proposed there behind the FREEZE
 * never takes effect. */
static void requests_move(struct group *left, struct group *right)
{
    for (struct request *r = right->waiting_head; r != NULL; r = r->queue_next) r->maybe = r->doubted;
    reads_park(right);
    acks_park(right);
    map_join_line(left->at, right->at);
}

/* False: its rows are not here, so that this replica is not what the others are. */
static bool right_ends(struct group *g, const struct descriptor *right, uint32_t range_epoch)
{
    struct worker *w = g->w;
    struct group *r = worker_group(w, right->id);
    if (r == NULL || r->dead || !is_far_enough(r, right)) return false;
    requests_move(g, r);
    worker_remove_group(w, r);
    return store_group_absorb(w->store, right->id, range_epoch) == KV_OK;
}

static void absorb(struct group *g, uint64_t index, const struct command *c, struct exec *x, struct kv_reply *reply)
{
    struct descriptor right, after;
    uint32_t conf_epoch;
    const char *why = "ABSORB key descriptor conf_epoch";
    enum kv_err err = absorb_parse(c, &right, &conf_epoch) ? absorb_of(&g->descriptor, &right, conf_epoch, index, &after, &why)
                                                           : KV_BAD_ARGUMENT;
    if (err != KV_OK && err != KV_CONFLICT) {
        refuse(x, reply, err, why);
        return;
    }
    if (err == KV_OK) {
        if (!right_ends(g, &right, after.range_epoch)) {
            group_corrupt(g, "the right side of a merge is not here", index);
            return;
        }
        describe(g, &after);
        if (right.frozen_ms > g->clock_ms) g->clock_ms = right.frozen_ms; /* what was gone there stays gone (R14) */
        map_settle(g->w);
        map_tell(g);
        JOURNAL(g->w->journal, raft, INFO, "absorbed", "group=%u range_epoch=%u right=%u merge=%llu", g->id, after.range_epoch,
                right.id, (unsigned long long)right.frozen_merge);
    }
    resp_put_integer(x->reply, (int64_t)g->id);
    reply->value = kv_buf_slice(x->reply);
}

static bool name_parse(const struct command *c, struct merge_name *out)
{
    uint64_t left = 0, epoch = 0, right_epoch = 0;
    *out = (struct merge_name){.id = 0};
    if (c->arg_count < 2 || !kv_parse_u64(c->args[1], &out->id) || out->id == 0) return false;
    if (c->op == KV_OP_UNFREEZE) return c->arg_count == 2;
    if (c->arg_count < 4 || !kv_parse_u64(c->args[2], &left) || !kv_parse_u64(c->args[3], &epoch)) return false;
    if (c->op == KV_OP_VOID && (c->arg_count != 5 || !kv_parse_u64(c->args[4], &right_epoch))) return false;
    out->left = (uint32_t)left;
    out->epoch = (uint32_t)epoch;
    out->right_epoch = (uint32_t)right_epoch;
    return left <= UINT32_MAX && epoch <= UINT32_MAX && right_epoch <= UINT32_MAX;
}

void merge_apply(struct group *g, uint64_t index, const struct command *c, struct exec *x, struct kv_reply *reply)
{
    struct merge_name merge;
    if (c->op == KV_OP_ABSORB) {
        absorb(g, index, c, x, reply);
    } else if (!name_parse(c, &merge)) {
        refuse(x, reply, KV_BAD_ARGUMENT, "key, merge id, left id, left range_epoch");
    } else if (c->op == KV_OP_FREEZE) {
        freeze(g, index, c->args[0], &merge, x, reply);
    } else if (c->op == KV_OP_UNFREEZE) {
        unfreeze(g, merge.id, x, reply);
    } else if (!kv_slice_eq(kv_key_slice(&g->descriptor.to), c->args[0])) {
        refuse(x, reply, KV_CONDITION, "the partition does not end there any more");
    } else {
        void_(g, &merge, x, reply);
    }
}

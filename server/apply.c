#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/base/endian.h"
#include "client/base/hash.h"
#include "client/base/text.h"
#include "client/wire/resp.h"
#include "server/birth.h"
#include "server/exec_directory.h"
#include "server/group.h"
#include "server/jobs.h"
#include "server/keyspaces.h"
#include "server/leave.h"
#include "server/map.h"
#include "server/merge.h"
#include "server/request.h"

/* Executing committed entries (R7): a pure function of (state, entry). The idempotency
 * record of a write stands at its first key and commits in the same entry (R10):
 *
 *   sub    16 B client id, 8 B sequence (big-endian: command_sub)
 *   value  8 B stamp (little-endian), 1 B err, 1 B flags, 4 B and 8 B version, 8 B expire_ms, reply
 */
enum { MEMBERS_TEXT_BYTES = 32 * DESCRIPTOR_REPLICAS_MAX,
       DEDUP_HEADER = 8 + 2 + 4 + 8 + 8,
       DEDUP_REPLY_CUT = 1,
       DIRECTORY_OPS = 3 }; /* a step's row and its idempotency record; more: it changed a keyspace's row, or ended */
static_assert((int)DEDUP_HEADER < (int)STORE_DEDUP_VALUE_BYTES_MAX, "a reply follows the header");
static_assert((int)COMMAND_SUB_BYTES == (int)STORE_SUB_BYTES, "as the store keeps them");

static bool dedup_find(struct group *g, const struct apply_ahead *a, struct kv_reply *reply)
{
    struct kv_slice v, key = kv_key_slice(&a->key), sub = kv_slice(a->sub, sizeof a->sub);
    if (MUTANT(dedup_not_asked)) return false;
    if (store_get(g->w->store, STORE_DEDUP, key, sub, &v) != KV_OK || v.size < DEDUP_HEADER) return false;
    uint64_t stamp = le64_get(v.data);
    if (stamp + g->descriptor.dedup_retention_ms < g->clock_ms) return false;
    reply->err = (enum kv_err)v.data[8];
    reply->version = (struct kv_version){le32_get(v.data + 10), le64_get(v.data + 14)};
    reply->expire_ms = le64_get(v.data + 22);
    reply->value = kv_slice(v.data + DEDUP_HEADER, v.size - DEDUP_HEADER);
    if (v.data[9] & DEDUP_REPLY_CUT) reply->detail = kv_str("done before; the reply was too long to keep");
    return true;
}

static size_t dedup_value(uint64_t stamp_ms, const struct kv_reply *reply, uint8_t out[STORE_DEDUP_VALUE_BYTES_MAX])
{
    le64_put(out, stamp_ms);
    out[8] = (uint8_t)reply->err;
    out[9] = 0;
    le32_put(out + 10, reply->version.epoch);
    le64_put(out + 14, reply->version.index);
    le64_put(out + 22, reply->expire_ms);
    if (reply->value.size > STORE_DEDUP_VALUE_BYTES_MAX - DEDUP_HEADER) {
        out[9] = DEDUP_REPLY_CUT;
        return DEDUP_HEADER;
    }
    if (reply->value.size > 0) memcpy(out + DEDUP_HEADER, reply->value.data, reply->value.size);
    return DEDUP_HEADER + reply->value.size;
}

static struct exec *exec_prepare(struct group *g, uint64_t clock_ms)
{
    struct worker *w = g->w;
    struct exec *x = &w->exec;
    kv_buf_clear(&w->exec_reply);
    kv_buf_clear(&w->exec_rows);
    x->state = &w->exec_state;
    x->rule = &g->rule;
    x->clock_ms = clock_ms;
    x->wall_ms = 0;
    x->value_bytes_max = g->descriptor.value_bytes_max;
    x->place = g->id == KV_PARTITION_SYSTEM ? exec_place_read(&g->descriptor, &w->place) : NULL;
    x->reply = &w->exec_reply;
    x->rows = &w->exec_rows;
    x->known_key = NULL;
    x->op_count = x->born_count = 0;
    x->read_version = (struct kv_version){0};
    x->expire_ms = 0;
    x->needs_clock = false;
    x->err = KV_OK;
    return x;
}

/* A row that rotted is this replica's affair. All else, and what the store itself stumbled over, is
 * the node's: it stops. */
static void corrupt(struct group *g, const char *what, uint64_t index, enum kv_err err)
{
    struct worker *w = g->w;
    if (w->poisoned) return;
    if (err == KV_CORRUPT) {
        group_corrupt(g, "a row is not what was written", index);
        return;
    }
    JOURNAL(w->journal, store, ERROR, what, "group=%u index=%llu err=%s", g->id, (unsigned long long)index, kv_err_name(err));
    w->poisoned = true;
    if (w->o.stop_wanted != NULL) w->o.stop_wanted(w->o.context);
}

/* Who is in it, for the journal: `replica@node`, and what it is, if no voter of both configurations. */
static void members_text(const struct descriptor *d, char out[MEMBERS_TEXT_BYTES])
{
    static const char *const roles[] = {"", ":learner", ":incoming", ":outgoing"};
    size_t used = 0;
    for (uint32_t i = 0; i < d->replica_count; i++) {
        const struct descriptor_replica *r = &d->replicas[i];
        used += (size_t)snprintf(out + used, MEMBERS_TEXT_BYTES - used, "%s%u@%u%s", i > 0 ? " " : "", r->id, r->node, roles[r->role]);
        assert(used < MEMBERS_TEXT_BYTES);
    }
}

static void describe(struct group *g, const struct command *c, uint64_t index)
{
    struct descriptor d;
    if (c->arg_count != 1 || descriptor_decode(c->args[0], &d) != KV_OK || d.id != g->id ||
        d.conf_epoch <= g->descriptor.conf_epoch || d.range_epoch != g->descriptor.range_epoch ||
        g->descriptor.frozen_merge != 0) {
        raft_conf_applied(g->raft, &g->conf); /* refused alike everywhere: the old one stays; it may be of before a split */
        return;
    }
    merge_keeps(&g->descriptor, &d); /* it may be of before a FREEZE or VOID */
    if (group_describe(g, &d) != KV_OK) {
        raft_conf_applied(g->raft, &g->conf);
        return;
    }
    if (!MUTANT(conf_half_applied)) conf_from_descriptor(&d, &g->conf);
    member_forget(g);
    struct kv_buf bytes = {0};
    descriptor_encode(&d, &bytes);
    if (bytes.failed) abort(); /* mid-apply: the log replays it exactly */
    store_describe(g->w->store, g->id, kv_buf_slice(&bytes));
    kv_buf_free(&bytes);
    /* Applied is not remembered, checkpointed is: after a restart a replica would vote by the members
     * of before, of which one may be gone for good. */
    store_checkpoint(g->w->store, NULL);
    raft_conf_applied(g->raft, &g->conf);
    map_tell(g);
    g->described = index;
    leave_described(g, &d);
    char members[MEMBERS_TEXT_BYTES];
    members_text(&d, members);
    JOURNAL(g->w->journal, raft, INFO, "descriptor", "group=%u conf_epoch=%u replicas=%u joint=%d members=\"%s\"", g->id,
            d.conf_epoch, d.replica_count, descriptor_is_joint(&d), members);
}

static void refuse(struct exec *x, struct kv_reply *reply, enum kv_err err, const char *why)
{
    resp_put_error(x->reply, "ERR %s", why);
    reply->err = err;
    reply->applied = KV_APPLIED_NO;
    reply->value = kv_buf_slice(x->reply);
    reply->detail = kv_str(why);
}

/* Effects on rows that no command of the table has. */
struct apply_own {
    struct store_op ops[STORE_CLASSES];
    struct kv_key from, to;
    uint32_t count;
};

/* A learner keeps no rows of a side that it is no member of. */
static void drop_rows(const struct descriptor *d, struct apply_own *own)
{
    own->from = d->from;
    own->to = d->to;
    struct kv_range range = {kv_key_slice(&own->from), kv_key_slice(&own->to)};
    for (int k = 0; k < STORE_CLASSES; k++)
        own->ops[own->count++] = (struct store_op){.kind = STORE_DELETE_RANGE, .row = {.class = (enum store_class)k}, .range = range};
}

static void split(struct group *g, const struct command *c, struct exec *x, struct kv_reply *reply, struct apply_own *own)
{
    struct descriptor left, right;
    const char *why = "SPLIT key id";
    uint64_t id;
    bool parsed = c->arg_count == 2 && kv_parse_u64(c->args[1], &id) && id <= INT32_MAX;
    enum kv_err err = parsed ? split_of(&g->descriptor, c->args[0], (uint32_t)id, &left, &right, &why) : KV_BAD_ARGUMENT;
    if (err != KV_OK) {
        refuse(x, reply, err, why);
        return;
    }
    struct kv_buf bytes = {0};
    descriptor_encode(&left, &bytes);
    if (bytes.failed) abort(); /* mid-apply: the log replays it exactly */
    if (MUTANT(split_keeps_right)) left.to = g->descriptor.to;
    g->descriptor = left;
    store_describe(g->w->store, g->id, kv_buf_slice(&bytes));
    kv_buf_free(&bytes);
    if (!birth_apply(g, &right)) drop_rows(&right, own);
    map_settle(g->w);
    map_tell(g);
    JOURNAL(g->w->journal, raft, INFO, "split", "group=%u range_epoch=%u right=%u", g->id, left.range_epoch, right.id);
    resp_put_integer(x->reply, (int64_t)id);
    reply->value = kv_buf_slice(x->reply);
}

/* All rows of the partition; the reply of one who named a key says where it ended. */
static void flush_all(const struct group *g, const struct command *c, struct exec *x, struct kv_reply *reply, struct apply_own *own)
{
    struct kv_range range = {kv_key_slice(&g->descriptor.from), kv_key_slice(&g->descriptor.to)};
    if (c->arg_count == 0) resp_put_status(x->reply, "OK");
    else resp_put_bulk(x->reply, range.to);
    reply->value = kv_buf_slice(x->reply);
    own->ops[own->count++] = (struct store_op){.kind = STORE_DELETE_RANGE, .row = {.class = STORE_DATA}, .range = range};
}

/* Effects of one command; the reply goes into *reply, the rows into x->ops. */
static void execute(struct group *g, uint64_t index, const struct command *c, struct exec *x, struct kv_reply *reply)
{
    if (c->op == KV_OP_NOOP || c->op == KV_OP_CLOCK) return;
    x->version = (struct kv_version){g->descriptor.range_epoch, index};
    enum kv_err err = exec_run(x, c->op, c->args, c->arg_count);
    if (err != KV_OK) {
        corrupt(g, "apply-failed", index, err);
        reply->err = err;
        return;
    }
    reply->err = x->err;
    reply->version = x->read_version;
    reply->expire_ms = x->expire_ms;
    reply->value = kv_buf_slice(x->reply);
}

bool apply_entry(struct group *g, uint64_t index, const struct log_entry *e, const struct apply_ahead *a,
                 struct request *waiting)
{
    struct worker *w = g->w;
    const struct command c = a->command;
    if (a->err != KV_OK) { /* written by a newer feature level, or a bug: never guess */
        corrupt(g, "undecodable-entry", index, a->err == KV_CORRUPT ? KV_VERSION : a->err);
        if (waiting != NULL) request_fail(waiting, a->err, "a log entry does not decode");
        return false;
    }
    if (c.stamp_ms > g->clock_ms) g->clock_ms = c.stamp_ms;
    if (w->o.keeps_history) g->hash = kv_hash64(e->bytes, g->hash ^ index);

    struct kv_reply reply = {.applied = KV_APPLIED_YES, .phase = KV_PHASE_APPLY};
    uint64_t clock_ms = g->clock_ms;
    if (MUTANT(ttl_by_local_clock) && env_wall_ms(w->env) > clock_ms + 1000) clock_ms = env_wall_ms(w->env);
    struct exec *x = exec_prepare(g, clock_ms);
    struct apply_own own;
    own.count = 0; /* not all of it: this is the path of every write */
    struct store_op *with_dedup = NULL;
    const struct store_op *ops = NULL;
    uint32_t op_count = 0;
    uint8_t value[STORE_DEDUP_VALUE_BYTES_MAX];
    if (a->has_key) {
        x->known = a->user_key;
        x->known_key = &a->key;
    }

    bool has_dedup = c.sequence != 0 && a->has_key;
    /* R12: what was proposed behind a split does nothing, and is asked before the records that went with their keys. */
    bool is_astray = c.op != KV_OP_NOOP && c.op != KV_OP_CLOCK && c.op != KV_OP_DESCRIBE &&
                     ((c.range_epoch != g->descriptor.range_epoch && !MUTANT(write_across_split)) || merge_voids(g, c.op));
    uint32_t epoch_before = g->descriptor.range_epoch;
    uint64_t frozen_before = g->descriptor.frozen_merge;
    if (is_astray) {
        reply.err = KV_WRONG_SHARD;
        reply.applied = KV_APPLIED_NO;
    } else if (has_dedup && dedup_find(g, a, &reply)) {
        /* done before: the original reply, no effect */
        JOURNAL(w->journal, raft, DEBUG, "dedup-hit", "group=%u index=%llu", g->id, (unsigned long long)index);
    } else if (merge_is_op(c.op)) {
        merge_apply(g, index, &c, x, &reply);
    } else if (c.op == KV_OP_KVFLUSH || c.op == KV_OP_DESCRIBE || c.op == KV_OP_SPLIT) {
        if (c.op == KV_OP_KVFLUSH) flush_all(g, &c, x, &reply, &own);
        else if (c.op == KV_OP_SPLIT) split(g, &c, x, &reply, &own);
        else describe(g, &c, index);
        ops = own.ops;
        op_count = own.count;
    } else {
        execute(g, index, &c, x, &reply);
        ops = x->ops;
        op_count = x->op_count;
        if (has_dedup) {
            with_dedup = malloc((op_count + 1) * sizeof *with_dedup);
            if (with_dedup == NULL) abort(); /* mid-apply: the log replays it exactly */
            if (op_count > 0) memcpy(with_dedup, ops, op_count * sizeof *ops);
            size_t size = dedup_value(c.stamp_ms, &reply, value);
            with_dedup[op_count++] = (struct store_op){.kind = STORE_PUT,
                                                       .row = {.class = STORE_DEDUP,
                                                               .key = kv_key_slice(&a->key),
                                                               .sub = kv_slice(a->sub, sizeof a->sub),
                                                               .value = kv_slice(value, size)}};
            ops = with_dedup;
        }
    }
    /* The reply may point into rows that applying frees: an old dedup record. */
    if (waiting != NULL && reply.value.size > 0 && reply.value.data != kv_buf_slice(x->reply).data) {
        kv_buf_clear(x->reply);
        kv_buf_append_slice(x->reply, reply.value);
        reply.value = kv_buf_slice(x->reply);
    }
    bool applies = !w->poisoned && !g->dead; /* else the state could not be read: it stays as it is */
    bool is_directory = applies && g->id == KV_PARTITION_SYSTEM && kv_op_is_directory(c.op) && op_count > 0;
    for (uint32_t i = 0; is_directory && i < x->born_count; i++) birth_apply(g, &x->born[i]);
    for (uint32_t i = 0; i < op_count; i++)
        if (ops[i].kind == STORE_PUT && ops[i].row.class == STORE_DATA) g->load.written += ops[i].row.key.size + ops[i].row.value.size;
    if (applies) store_apply(w->store, g->id, index, e->term, g->clock_ms, ops, op_count);
    free(with_dedup);
    bool steps = c.op == KV_OP_JOBOPEN || c.op == KV_OP_JOBCLAIM || (c.op == KV_OP_JOBSTEP && op_count < DIRECTORY_OPS); /* of jobs alone */
    if (is_directory && !steps) keyspaces_load(w);
    if (is_directory) jobs_changed(w);
    if (!applies) {
        if (waiting != NULL) request_fail(waiting, KV_CORRUPT, "this replica cannot apply it; it is committed");
        return false;
    }
    g->applied = index;
    g->applied_term = e->term;
    if (waiting != NULL && is_astray) { /* its own entry did nothing, an earlier sending may have */
        waiting->maybe = waiting->doubted;
        if (waiting->memory == NULL) waiting->body.args = c.args; /* whoever lent them has gone on; the entry kept them */
        if (request_own(waiting)) request_redirect(waiting);
        return true;
    }
    if (waiting != NULL) {
        if (a->has_key && load_count(&w->loads, &g->load, LOAD_WRITE)) load_sample(g, LOAD_WRITE, kv_key_slice(&a->key));
        reply.partition = g->id;
        reply.index = index;
        reply.range_epoch = g->descriptor.range_epoch;
        reply.node = w->node_id;
        request_finish(waiting, &reply);
    }
    if (g->descriptor.range_epoch != epoch_before || g->descriptor.frozen_merge != frozen_before) birth_settle(g);
    return true;
}

bool apply_read(struct group *g, struct request *r, struct kv_reply *reply)
{
    uint64_t wall_ms = group_time_ms(g);
    bool any = r->body.level == KV_LEVEL_ANY;
    struct exec *x = exec_prepare(g, any && wall_ms > g->clock_ms ? wall_ms : g->clock_ms);
    x->wall_ms = wall_ms;
    enum kv_err err = exec_run(x, r->body.op, r->body.args, r->body.arg_count);
    if (err != KV_OK) {
        corrupt(g, "read-failed", g->applied, err);
        *reply = (struct kv_reply){.err = err, .phase = KV_PHASE_READ};
        return true;
    }
    if (x->needs_clock && !any) return false;
    *reply = (struct kv_reply){.err = x->err,
                               .value = kv_buf_slice(x->reply),
                               .version = x->read_version,
                               .expire_ms = x->expire_ms,
                               .phase = KV_PHASE_READ};
    return true;
}

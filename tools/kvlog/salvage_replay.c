#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/base/endian.h"
#include "server/exec.h"
#include "server/exec_directory.h"
#include "tools/kvlog/salvage.h"

enum { ARENA_BYTES = 64 << 20 };

struct replay {
    struct exec_state state;
    struct salvage *s;
    struct exec exec;
    struct exec_place place;
    struct kv_buf reply, rows;
    struct kv_arena arena;
};

static enum kv_err row_get(struct salvage *s, enum store_class class, struct kv_slice key, struct kv_slice sub,
                           struct kv_slice *row)
{
    switch (memtable_get(s->newer, class, key, sub, row)) {
    case MEMTABLE_VALUE: return KV_OK;
    case MEMTABLE_DELETED: return KV_NOT_FOUND;
    case MEMTABLE_NOTHING: break;
    }
    return memtable_get(s->base, class, key, sub, row) == MEMTABLE_VALUE ? KV_OK : KV_NOT_FOUND;
}

static enum kv_err state_get(struct exec_state *state, struct kv_slice key, struct kv_slice *row)
{
    return row_get(container_of(state, struct replay, state)->s, STORE_DATA, key, kv_slice(NULL, 0), row);
}

static uint32_t keys_of(const struct command *c, uint32_t *first, uint32_t *step)
{
    const struct kv_op_info *info = kv_op_info((uint32_t)c->op);
    return info == NULL ? 0 : kv_op_keys(info, c->arg_count, first, step);
}

static void want(struct salvage *s, const struct kv_key_rule *rule, struct kv_slice user_key)
{
    struct kv_key key;
    if (kv_key_encode(rule, user_key, &key) != KV_OK) return;
    struct store_row row = {.class = STORE_DATA, .key = kv_key_slice(&key)};
    if (!memtable_put(s->wanted, &row)) s->out_of_memory = true;
}

/* Rows that a command on keyspaces looks at, beside the one of its argument. */
static void want_directory(struct salvage *s, const struct command *c)
{
    uint8_t row[EXEC_ROW_NAME_BYTES_MAX];
    if (!kv_op_is_of_keyspaces(c->op) || c->arg_count == 0) return;
    want(s, &kv_key_rule_system, exec_keyspace_row(c->args[0], row));
    want(s, &kv_key_rule_system, kv_str(EXEC_ROW_KEYSPACE));
    want(s, &kv_key_rule_system, kv_str(EXEC_ROW_PARTITION));
    want(s, &kv_key_rule_system, kv_str(EXEC_ROW_NAMES));
}

void salvage_keys(struct salvage *s)
{
    struct kv_arena arena;
    struct command c;
    kv_arena_init(&arena, ARENA_BYTES);
    for (size_t g = 0; g < s->group_count; g++)
        for (size_t i = 0; i < s->groups[g]->count; i++) {
            const struct salvage_entry *e = &s->groups[g]->entries[i];
            kv_arena_reset(&arena);
            if (e->bytes == NULL || command_decode(kv_slice(e->bytes, e->size), &arena, &c) != KV_OK) continue;
            uint32_t first, step, count = keys_of(&c, &first, &step);
            for (uint32_t n = 0; n < count; n++) want(s, &s->groups[g]->rule, c.args[first + n * step]);
            want_directory(s, &c);
        }
    kv_arena_free(&arena);
}

/* Idempotency records, as server/apply.c keeps them: a repeat has no effect. Here only that they exist counts. */
static bool done_before(struct replay *r, const struct salvage_group *g, const struct command *c, struct kv_key *key)
{
    uint8_t sub[STORE_SUB_BYTES], stamp[8];
    struct kv_slice old;
    uint32_t first, step;
    if (c->sequence == 0 || keys_of(c, &first, &step) == 0 || kv_key_encode(&g->rule, c->args[first], key) != KV_OK)
        return false;
    command_sub(c, sub);
    if (row_get(r->s, STORE_DEDUP, kv_key_slice(key), kv_slice(sub, sizeof sub), &old) == KV_OK && old.size >= 8 &&
        le64_get(old.data) + g->descriptor.dedup_retention_ms >= g->mark.clock_ms)
        return true;
    le64_put(stamp, c->stamp_ms);
    struct store_row row = {.class = STORE_DEDUP,
                            .key = kv_key_slice(key),
                            .sub = kv_slice(sub, sizeof sub),
                            .value = kv_slice(stamp, sizeof stamp)};
    if (!memtable_put(r->s->newer, &row)) r->s->out_of_memory = true;
    return false;
}

static bool ops_apply(struct salvage *s, const struct store_op *ops, uint32_t count)
{
    bool ok = true;
    for (uint32_t i = 0; i < count && ok; i++) switch (ops[i].kind) {
        case STORE_PUT: ok = memtable_put(s->newer, &ops[i].row); break;
        case STORE_DELETE: ok = memtable_delete(s->newer, &ops[i].row); break;
        case STORE_DELETE_RANGE: ok = memtable_delete_range(s->newer, ops[i].row.class, ops[i].range); break;
        }
    return ok;
}

static bool command_run(struct replay *r, struct salvage_group *g, uint64_t index, const struct command *c)
{
    struct descriptor d;
    struct kv_key key;
    if (c->stamp_ms > g->mark.clock_ms) g->mark.clock_ms = c->stamp_ms;
    if (c->op == KV_OP_DESCRIBE) {
        if (c->arg_count == 1 && descriptor_decode(c->args[0], &d) == KV_OK && d.conf_epoch > g->descriptor.conf_epoch)
            return salvage_describe(g, c->args[0]);
        return true;
    }
    if (c->range_epoch != g->descriptor.range_epoch || done_before(r, g, c, &key)) return true;
    if (c->op == KV_OP_KVFLUSH) {
        struct kv_range all = {kv_key_slice(&g->descriptor.from), kv_key_slice(&g->descriptor.to)};
        return memtable_delete_range(r->s->newer, STORE_DATA, all);
    }
    bool is_of_nodes = kv_op_is_directory(c->op) && !kv_op_is_of_keyspaces(c->op); /* of a cluster that is no more */
    if (!exec_runs(c->op) || is_of_nodes) return true;
    struct exec *x = &r->exec;
    kv_buf_clear(&r->reply);
    kv_buf_clear(&r->rows);
    x->state = &r->state;
    x->rule = &g->rule;
    x->place = g->group == KV_PARTITION_SYSTEM ? exec_place_read(&g->descriptor, &r->place) : NULL;
    x->clock_ms = g->mark.clock_ms;
    x->wall_ms = 0;
    x->value_bytes_max = g->descriptor.value_bytes_max;
    x->reply = &r->reply;
    x->rows = &r->rows;
    x->version = (struct kv_version){g->descriptor.range_epoch, index};
    return exec_run(x, c->op, c->args, c->arg_count) == KV_OK && ops_apply(r->s, x->ops, x->op_count);
}

static void group_replay(struct replay *r, struct salvage_group *g)
{
    g->applied = g->mark.index;
    for (size_t i = 0; i < g->count; i++) {
        const struct salvage_entry *e = &g->entries[i];
        struct command c;
        kv_arena_reset(&r->arena);
        if (e->bytes == NULL || command_decode(kv_slice(e->bytes, e->size), &r->arena, &c) != KV_OK) return;
        if (!command_run(r, g, g->first + i, &c)) return;
        g->applied = g->first + i;
    }
}

void salvage_replay(struct salvage *s)
{
    struct replay r = {.state.get = state_get, .s = s};
    kv_arena_init(&r.arena, ARENA_BYTES);
    for (size_t g = 0; g < s->group_count; g++)
        if (s->groups[g]->has_mark && !s->groups[g]->installing) group_replay(&r, s->groups[g]);
    exec_free(&r.exec);
    kv_buf_free(&r.reply);
    kv_buf_free(&r.rows);
    kv_arena_free(&r.arena);
}

#include "client/base/hash.h"
#include "tests/unit/storage/log_model.h"

/* Random work on a log whose machine stops in the middle of every single disk operation in
 * turn, again while it recovers, and after that. What is found afterwards must be the work up to
 * some record: all that was acknowledged, nothing that was not asked for, no gap. */
enum { GROUPS = 4,
       ENTRIES_MAX = 600,
       PENDING_MAX = 4096,
       SEGMENT_BYTES = 16 << 10 };

struct entry {
    uint64_t term, nonce;
    size_t size;
};
struct group { /* what a group must hold; released entries stay for comparison */
    bool exists;
    uint32_t replica, vote;
    uint64_t term, commit;
    uint64_t base, base_term; /* entries[0] is base+1 */
    uint64_t last;
    struct entry entries[ENTRIES_MAX];
};
struct state {
    struct group groups[GROUPS];
};
struct op { /* one record */
    enum log_record_kind kind;
    uint32_t group, replica, vote;
    uint64_t index, term, commit;
    struct entry entry;
};
struct world {
    struct fixture f;
    struct state acked, now; /* now = acked and all pending */
    struct op pending[PENDING_MAX];
    uint32_t first, count; /* pending, by absolute number: pending[first % PENDING_MAX] .. */
    uint64_t released[GROUPS];
    uint64_t random;
    struct work *works;
    bool heavy;  /* entries of kilobytes: claiming segments falls behind */
    bool skewed; /* some groups hardly ever move, and pin the log */
};
struct work { /* an append that waits */
    struct log_append append;
    struct world *world;
    uint32_t until; /* ops before this one are acknowledged with it */
    struct work *next;
};

static uint64_t dice(struct world *w, uint64_t sides)
{
    return kv_random_next(&w->random) % sides;
}

static void state_apply(struct state *s, const struct op *o)
{
    struct group *g = &s->groups[o->group];
    switch (o->kind) {
    case LOG_RECORD_GROUP:
        g->exists = true;
        g->replica = o->replica;
        g->term = o->term;
        g->vote = 0;
        g->commit = g->base = g->last = o->index;
        g->base_term = o->term;
        break;
    case LOG_RECORD_DESTROY: g->exists = false; break;
    case LOG_RECORD_HARD:
        g->term = o->term;
        g->commit = o->commit;
        g->vote = o->vote;
        break;
    case LOG_RECORD_TRUNCATE: g->last = o->index - 1; break;
    case LOG_RECORD_RESET:
        g->base = g->last = o->index;
        g->base_term = o->term;
        if (g->commit < o->index) g->commit = o->index;
        if (g->term < o->term) {
            g->term = o->term;
            g->vote = 0;
        }
        break;
    case LOG_RECORD_ENTRY:
        ck_assert_uint_eq(o->index, g->last + 1);
        ck_assert_uint_lt(g->last - g->base, ENTRIES_MAX);
        g->entries[g->last++ - g->base] = o->entry;
        break;
    }
}

static void note(struct world *w, const struct op *o)
{
    ck_assert_uint_lt(w->count - w->first, PENDING_MAX);
    w->pending[w->count++ % PENDING_MAX] = *o;
    state_apply(&w->now, o);
}

static void acknowledge(struct world *w, uint32_t until)
{
    for (; w->first < until; w->first++) state_apply(&w->acked, &w->pending[w->first % PENDING_MAX]);
}

static void work_done(struct log_append *a, enum kv_err err)
{
    struct work *k = container_of(a, struct work, append);
    if (err == KV_OK) acknowledge(k->world, k->until);
}

static void entry_fill(const struct entry *e, uint8_t *out)
{
    uint64_t state = e->nonce;
    for (size_t i = 0; i < e->size; i++) out[i] = (uint8_t)(kv_random_next(&state) >> 56);
}

static struct work *work_new(struct world *w, uint32_t group)
{
    struct work *k = calloc(1, sizeof *k);
    ck_assert_ptr_nonnull(k);
    k->world = w;
    k->append = (struct log_append){.done = work_done, .group = group};
    k->next = w->works;
    w->works = k;
    return k;
}

static void submit(struct world *w, struct work *k, const struct op *ops, uint32_t count, enum kv_err err)
{
    if (err != KV_OK) return;
    for (uint32_t i = 0; i < count; i++) note(w, &ops[i]);
    k->until = w->count;
}

/* Hard state, truncation and entries, each with its own chance. */
static void act_append(struct world *w, uint32_t id)
{
    static uint8_t bytes[8][8192];
    struct group *g = &w->now.groups[id];
    struct log_entry entries[8];
    struct op ops[16];
    uint32_t count = 0;
    if (g->last - g->base > ENTRIES_MAX - 40) return;
    struct work *k = work_new(w, id);
    uint64_t term = g->term == 0 ? 1 : g->term;
    bool is_commit_alone = g->term != 0 && dice(w, 3) == 0;
    if (g->term == 0 || is_commit_alone || dice(w, 6) == 0) {
        if (!is_commit_alone) term = g->term + dice(w, 2) + (g->term == 0);
        k->append.hard_changed = true;
        k->append.term = term;
        k->append.vote = is_commit_alone ? g->vote : (uint32_t)dice(w, 5);
        k->append.commit = g->commit + dice(w, g->last - g->commit + 1);
        ops[count++] = (struct op){
            .kind = LOG_RECORD_HARD, .group = id, .term = term, .vote = k->append.vote, .commit = k->append.commit};
    }
    uint64_t last = g->last, floor = g->commit > w->released[id] ? g->commit : w->released[id];
    if (floor < g->base) floor = g->base;
    if (ops[0].kind == LOG_RECORD_HARD && count > 0 && ops[0].commit > floor) floor = ops[0].commit;
    if (last > floor && dice(w, 5) == 0) {
        k->append.truncate_from = floor + 1 + dice(w, last - floor);
        last = k->append.truncate_from - 1;
        ops[count++] = (struct op){.kind = LOG_RECORD_TRUNCATE, .group = id, .index = k->append.truncate_from};
    }
    k->append.first = last + 1;
    k->append.entries = entries;
    k->append.entry_count = (uint32_t)dice(w, 5);
    bool rides = term == g->term && k->append.vote == g->vote && k->append.entry_count > 0; /* a commit, on the first entry */
    if (count == 2 && rides) {
        struct op hard = ops[0];
        ops[0] = ops[1];
        ops[1] = hard;
    }
    for (uint32_t i = 0; i < k->append.entry_count; i++) {
        struct entry e = {.term = term, .nonce = kv_random_next(&w->random), .size = (size_t)dice(w, 200)};
        if (dice(w, w->heavy ? 2 : 20) == 0) e.size = (size_t)dice(w, 8000);
        entry_fill(&e, bytes[i]);
        entries[i] = (struct log_entry){.term = term, .bytes = kv_slice(bytes[i], e.size)};
        ops[count++] = (struct op){.kind = LOG_RECORD_ENTRY, .group = id, .index = ++last, .entry = e};
    }
    submit(w, k, ops, count, log_append(w->f.log, &k->append));
}

static void act_create(struct world *w, uint32_t id)
{
    struct op o = {.kind = LOG_RECORD_GROUP,
                   .group = id,
                   .replica = w->now.groups[id].replica + 1,
                   .index = dice(w, 3) * 10};
    o.term = o.index == 0 ? 0 : 1 + dice(w, 3);
    if (log_group_create(w->f.log, id, o.replica, o.index, o.term) != KV_OK) return;
    w->released[id] = 0;
    note(w, &o);
}

static void act_reset(struct world *w, uint32_t id)
{
    struct group *g = &w->now.groups[id];
    struct work *k = work_new(w, id);
    struct op o = {.kind = LOG_RECORD_RESET, .group = id, .index = g->last + dice(w, 20), .term = g->term + 1};
    enum kv_err err = log_reset(w->f.log, id, o.index, o.term, &k->append);
    submit(w, k, &o, 1, err);
    if (err == KV_OK) w->released[id] = o.index;
}

static void act(struct world *w)
{
    uint32_t id = (uint32_t)dice(w, GROUPS);
    if (w->skewed && dice(w, 8) != 0) id = 0;
    struct group *g = &w->now.groups[id];
    uint64_t what = dice(w, 100);
    if (w->heavy && dice(w, 100) == 0) /* the disk is full for a while */
        disk_mem_capacity_set(w->f.mem, dice(w, 2) == 0 ? 0 : log_bytes(w->f.log) + dice(w, 40000));
    if (!g->exists) {
        act_create(w, id);
    } else if (what < 55) {
        act_append(w, id);
    } else if (what < 75) {
        log_flush(w->f.log, dice(w, 2) == 0);
    } else if (what < 88) {
        disk_mem_step(w->f.mem);
    } else if (what < 97) { /* a checkpoint covers what is durable */
        uint64_t durable = w->acked.groups[id].last < g->last ? w->acked.groups[id].last : g->last;
        if (w->acked.groups[id].replica != g->replica || !w->acked.groups[id].exists) return;
        if (durable <= w->released[id] || durable <= g->base) return;
        w->released[id] = durable - dice(w, 3) * (durable > g->base + 3);
        if (w->released[id] > g->commit) w->released[id] = g->commit;
        log_release(w->f.log, id, w->released[id]);
    } else if (what == 97) {
        act_reset(w, id);
    } else if (what == 98 && g->replica < 50) {
        act_create(w, id);
    } else {
        log_group_destroy(w->f.log, id);
        note(w, &(struct op){.kind = LOG_RECORD_DESTROY, .group = id});
    }
}

static bool entries_match(struct world *w, uint32_t id, const struct group *g, uint64_t from)
{
    static uint8_t bytes[8192];
    for (uint64_t i = from; i <= g->last;) {
        struct fetched x;
        if (fetch_now(&w->f, &x, id, i, 20000) != KV_OK) return false;
        for (uint32_t k = 0; k < x.fetch.entry_count; k++, i++) {
            const struct entry *e = &g->entries[i - g->base - 1];
            const struct log_entry *got = &x.fetch.entries[k];
            entry_fill(e, bytes);
            if (got->term != e->term || !kv_slice_eq(got->bytes, kv_slice(bytes, e->size))) {
                log_fetch_free(&x.fetch);
                return false;
            }
        }
        log_fetch_free(&x.fetch);
    }
    return true;
}

static bool group_matches(struct world *w, uint32_t id, const struct group *g)
{
    struct log_group got;
    bool exists = log_group_get(w->f.log, id, &got);
    if (!exists || !g->exists) return exists == g->exists;
    if (got.damaged || got.replica != g->replica || got.term != g->term || got.vote != g->vote) return false;
    uint64_t commit = g->commit < g->last ? g->commit : g->last;
    if (commit < got.compacted_index) commit = got.compacted_index;
    if (got.commit != commit || got.last != g->last) return false;
    if (got.compacted_index < g->base || got.compacted_index > g->last) return false;
    uint64_t term = got.compacted_index == g->base ? g->base_term : g->entries[got.compacted_index - g->base - 1].term;
    if (got.compacted_term != term) return false;
    for (uint64_t i = got.compacted_index + 1; i <= g->last; i++)
        if (log_term(w->f.log, id, i) != g->entries[i - g->base - 1].term) return false;
    return entries_match(w, id, g, got.compacted_index + 1);
}

static bool state_matches(struct world *w, const struct state *s)
{
    for (uint32_t id = 0; id < GROUPS; id++)
        if (!group_matches(w, id, &s->groups[id])) return false;
    return true;
}

/* Finds how much of the pending work survived; the rest never happened. */
static void check(struct world *w)
{
    for (;;) {
        if (state_matches(w, &w->acked)) break;
        ck_assert_msg(w->first < w->count, "the log holds what no prefix of the work explains");
        state_apply(&w->acked, &w->pending[w->first++ % PENDING_MAX]);
    }
    w->first = w->count = 0;
    w->now = w->acked;
    for (uint32_t id = 0; id < GROUPS; id++) {
        struct log_group got;
        w->released[id] = log_group_get(w->f.log, id, &got) ? got.compacted_index : 0;
    }
}

static void works_free(struct world *w) /* once no log knows them */
{
    while (w->works != NULL) {
        struct work *k = w->works;
        w->works = k->next;
        free(k);
    }
}

/* Kill or power loss, then starts that may themselves be cut short. */
static void crash_and_recover(struct world *w)
{
    disk_mem_capacity_set(w->f.mem, 0);
    disk_mem_crash(w->f.mem, dice(w, 3) == 0 ? DISK_MEM_KILL : DISK_MEM_POWER_LOSS);
    for (uint32_t tries = 0;; tries++) {
        fixture_close(&w->f);
        works_free(w);
        disk_mem_restart(w->f.mem);
        if (tries < 3 && dice(w, 2) == 0)
            disk_mem_faults_set(w->f.mem, &(struct disk_mem_faults){.crash_at = 1 + dice(w, 30)});
        enum kv_err err = fixture_open(&w->f);
        if (err == KV_CLOSED && tries < 3) continue;
        disk_mem_faults_set(w->f.mem, &(struct disk_mem_faults){0});
        ck_assert_msg(err == KV_OK, "recovery: %s, %s", kv_err_name(err),
                      log_damage(w->f.log) == NULL ? "" : log_damage(w->f.log)->what);
        break;
    }
    check(w);
}

static uint64_t run(uint64_t seed, uint64_t crash_at, uint32_t steps)
{
    static struct world world;
    struct world *w = &world;
    memset(w, 0, sizeof *w);
    w->random = seed;
    w->heavy = dice(w, 3) == 0;
    w->skewed = dice(w, 2) == 0;
    fixture_init(&w->f, seed + crash_at, SEGMENT_BYTES);
    w->f.options.cache_bytes_max = 8 << 10; /* most reads come from the files */
    ck_assert_int_eq(fixture_open(&w->f), KV_OK);
    uint64_t before = disk_mem_operations(w->f.mem);
    disk_mem_faults_set(w->f.mem, &(struct disk_mem_faults){.crash_at = crash_at});
    for (uint32_t i = 0; i < steps && !disk_mem_is_crashed(w->f.mem); i++) act(w);
    uint64_t operations = disk_mem_operations(w->f.mem) - before;
    if (!disk_mem_is_crashed(w->f.mem)) ck_assert_msg(!log_is_poisoned(w->f.log), "poisoned without a fault");
    /* What the log thread still has in hand when the crash came is lost or not. */
    while (disk_mem_is_crashed(w->f.mem) && disk_mem_step(w->f.mem)) {
    }
    crash_and_recover(w);
    for (uint32_t i = 0; i < steps / 4; i++) act(w);
    crash_and_recover(w);
    fixture_free(&w->f);
    return operations;
}

START_TEST(test_every_operation)
{
    uint64_t seed = 1000 + (uint64_t)_i;
    uint64_t operations = run(seed, 0, 300);
    ck_assert_uint_gt(operations, 50);
    for (uint64_t k = 1; k <= operations; k++) run(seed, k, 300);
}
END_TEST

START_TEST(test_long_runs)
{
    for (uint64_t seed = 1; seed <= 30; seed++) run(seed * 7919 + (uint64_t)_i, 200 + seed * 17, 3000);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("log_crash");
    TCase *t = tcase_create("crash");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_every_operation, 0, 6);
    tcase_add_loop_test(t, test_long_runs, 0, 6);
    suite_add_tcase(s, t);
    return suite_run(s);
}

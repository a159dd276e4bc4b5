#include <stdio.h>

#include "tests/unit/storage/node.h"
#include "tests/unit/unit.h"

/* Keyspace 1 in two groups: 0 up to "m", 1 behind it. The right one is frozen by an entry; once that is in a checkpoint the left
 * absorbs it. Whenever the machine stops, both are there or the right one is the left's, and no row is missing. */
enum { FREEZE_AT = 4,
       ABSORB_AT = 5,
       LEFT_ENTRIES = 8,
       EPOCH = 3 };

struct side {
    uint64_t acked, applied;
    struct log_append append;
    bool open;
};
struct pair {
    struct node n;
    struct side left, right;
    struct log_append create[2];
    uint32_t created;
};

static void described(uint32_t group, const char *from, const char *to, uint32_t epoch, struct kv_buf *out)
{
    struct descriptor d = {.id = group, .keyspace = 1, .range_epoch = epoch, .conf_epoch = 1, .replica_next = 2};
    kv_key_range(1, kv_str(from), &d.from);
    kv_key_range(1, kv_str(to), &d.to);
    descriptor_encode(&d, out);
}

static void appended(struct log_append *a, enum kv_err err)
{
    struct side *s = container_of(a, struct side, append);
    s->open = false;
    if (err == KV_OK) s->acked = a->first + a->entry_count - 1;
}

static void append(struct pair *f, struct side *s, uint32_t group)
{
    static const uint8_t byte = 'e';
    struct log_entry e = {.term = 1, .bytes = kv_slice(&byte, 1)};
    if (s->open) return;
    uint64_t next = log_last(store_log(f->n.store), group) + 1;
    s->append = (struct log_append){.done = appended, .group = group, .hard_changed = true, .term = 1, .first = next, .entries = &e, .entry_count = 1};
    s->open = store_append(f->n.store, &s->append) == KV_OK;
}

static bool is_absorbed(const struct pair *f)
{
    return f->left.applied >= ABSORB_AT;
}

static void apply(struct pair *f, struct side *s, uint32_t group)
{
    uint64_t index = s->applied + 1;
    if (group == 0 && index == ABSORB_AT) {
        struct kv_buf whole = {0};
        described(0, "a", "z", EPOCH, &whole);
        ck_assert_int_eq(store_group_absorb(f->n.store, 1, EPOCH), KV_OK);
        store_describe(f->n.store, 0, kv_buf_slice(&whole));
        kv_buf_free(&whole);
    }
    node_put(&f->n, group, index, group == 1 ? "q" : index > ABSORB_AT ? "x"
                                                                       : "b");
    s->applied = index;
    if (group == 1 && index == FREEZE_AT) store_checkpoint(f->n.store, NULL);
}

static bool is_frozen_durably(const struct pair *f)
{
    struct store_group r;
    return store_group_get(f->n.store, 1, &r) && (r.state == CHECKPOINT_GROUP_TOMBSTONE || r.checkpointed >= FREEZE_AT);
}

static void turn(struct pair *f)
{
    struct node *n = &f->n;
    bool waits = f->left.acked >= ABSORB_AT - 1 && !is_frozen_durably(f);
    if (f->left.acked < LEFT_ENTRIES && !waits) append(f, &f->left, 0);
    if (!is_absorbed(f) && f->right.acked < FREEZE_AT) append(f, &f->right, 1);
    if (!is_absorbed(f) && f->right.applied < f->right.acked) apply(f, &f->right, 1);
    if (f->left.applied < f->left.acked) apply(f, &f->left, 0);
    if (kv_random_next(&n->seed) % 4 == 0) store_checkpoint(n->store, NULL);
    store_flush(n->store, false);
    for (uint64_t steps = kv_random_next(&n->seed) % 4; steps > 0; steps--) node_step(n);
}

static void script(struct pair *f)
{
    for (int i = 0; i < 90 && !disk_mem_is_crashed(f->n.disk) && f->n.poisoned == KV_OK; i++) turn(f);
}

static void created(struct log_append *a, enum kv_err err)
{
    struct pair *f = a->group == 0 ? container_of(a, struct pair, create[0]) : container_of(a, struct pair, create[1]);
    f->created += err == KV_OK;
}

static bool begin(struct pair *f)
{
    if (node_open(&f->n) != KV_OK) return false;
    for (uint32_t i = 0; i < 2; i++) {
        struct kv_buf d = {0};
        described(i, i == 0 ? "a" : "m", i == 0 ? "m" : "z", 1 + i, &d);
        f->create[i] = (struct log_append){.done = created, .group = i};
        ck_assert_int_eq(store_group_create(f->n.store, i, 1, kv_buf_slice(&d), 0, 0, &f->create[i]), KV_OK);
        kv_buf_free(&d);
    }
    node_settle(&f->n);
    return f->created == 2;
}

static void value_is(const struct pair *f, const char *user_key, uint64_t index)
{
    struct kv_key key;
    struct kv_slice value;
    kv_key_range(1, kv_str(user_key), &key);
    enum kv_err err = store_get(f->n.store, STORE_DATA, kv_key_slice(&key), kv_slice(NULL, 0), &value);
    ck_assert_int_eq(err, index == 0 ? KV_NOT_FOUND : KV_OK);
    if (index != 0) ck_assert_uint_eq(le64_get(value.data + VALUE_HEADER_BYTES), index);
}

static void recover(struct pair *f, uint64_t at)
{
    struct store_group l, r;
    struct log_group log;
    ck_assert(store_group_get(f->n.store, 0, &l) && store_group_get(f->n.store, 1, &r));
    bool ended = r.state == CHECKPOINT_GROUP_TOMBSTONE;
    ck_assert_msg(ended == (l.applied >= ABSORB_AT), "crash at %lu: one half of the merge", (unsigned long)at);
    if (ended) ck_assert_uint_eq(r.absorbed, EPOCH);
    if (ended) ck_assert(!log_group_get(store_log(f->n.store), 1, &log));
    if (!ended && l.log.last >= ABSORB_AT)
        ck_assert_msg(r.applied >= FREEZE_AT, "crash at %lu: the left may absorb what the right has not", (unsigned long)at);
    if (!ended) ck_assert_uint_ge(r.log.last, f->right.acked);
    ck_assert_uint_ge(l.log.last, f->left.acked);
    f->left = (struct side){.acked = l.log.last, .applied = l.applied};
    f->right = (struct side){.acked = ended ? FREEZE_AT : r.log.last, .applied = ended ? FREEZE_AT : r.applied};
    while (!ended && f->right.applied < f->right.acked) apply(f, &f->right, 1);
    while (f->left.applied < f->left.acked) apply(f, &f->left, 0);
    value_is(f, "q", f->right.applied);
    value_is(f, "b", f->left.applied < ABSORB_AT ? f->left.applied : ABSORB_AT);
    value_is(f, "x", f->left.applied > ABSORB_AT ? f->left.applied : 0);
}

static void restart(struct pair *f, uint64_t at, enum disk_mem_crash how)
{
    node_crash(&f->n, how);
    node_stop(&f->n);
    disk_mem_restart(f->n.disk);
    ck_assert_int_eq(node_open(&f->n), KV_OK);
    ck_assert_msg(store_damage(f->n.store) == NULL, "crash at %lu: %s", (unsigned long)at, store_damage(f->n.store));
}

START_TEST(power_is_lost_everywhere)
{
    struct pair f = {.created = 0};
    node_init(&f.n, 400);
    ck_assert(begin(&f));
    script(&f);
    ck_assert_uint_eq(f.left.applied, LEFT_ENTRIES);
    uint64_t operations = disk_mem_operations(f.n.disk);
    node_free(&f.n);
    for (uint64_t at = 1 + (uint64_t)_i; at <= operations; at += 4) {
        f = (struct pair){.created = 0};
        node_init(&f.n, 400 + at);
        disk_mem_faults_set(f.n.disk, &(struct disk_mem_faults){.crash_at = at});
        bool begun = begin(&f);
        if (begun) script(&f);
        for (int again = 0; begun && again < 2; again++) {
            restart(&f, at, again == 0 ? DISK_MEM_POWER_LOSS : DISK_MEM_KILL);
            recover(&f, at);
            script(&f);
        }
        node_free(&f.n);
    }
}
END_TEST

/* ---- a snapshot takes the place of both ---- */

static void heir_made(struct log_append *a, enum kv_err err)
{
    (void)a;
    (void)err;
}

static void take_over(struct pair *f, struct log_append *heir)
{
    struct kv_buf d = {0};
    struct kv_key from, to;
    described(2, "a", "z", 5, &d);
    kv_key_range(1, kv_str("a"), &from);
    kv_key_range(1, kv_str("z"), &to);
    struct kv_range range = {kv_key_slice(&from), kv_key_slice(&to)};
    ck_assert_uint_eq(store_overlap(f->n.store, range, 5, 2), UINT32_MAX);
    *heir = (struct log_append){.done = heir_made, .group = 2};
    ck_assert_int_eq(store_group_create(f->n.store, 2, 1, kv_buf_slice(&d), 7, 1, heir), KV_OK);
    store_evict(f->n.store, range, 5, 2);
    kv_buf_free(&d);
}

static void heir_check(const struct pair *f, uint64_t at)
{
    struct store_group g[3];
    bool there = store_group_get(f->n.store, 2, &g[2]);
    for (uint32_t i = 0; i < 2; i++) {
        ck_assert(store_group_get(f->n.store, i, &g[i]));
        ck_assert_msg((g[i].state == CHECKPOINT_GROUP_TOMBSTONE) == there, "crash at %lu: group %u", (unsigned long)at, i);
    }
    if (there) ck_assert_int_eq(g[2].state, CHECKPOINT_GROUP_INSTALLING);
    value_is(f, "q", there ? 0 : f->right.applied);
}

START_TEST(power_is_lost_while_evicted)
{
    for (uint64_t at = 1; at < 60; at++) {
        struct pair f = {.created = 0};
        struct log_append heir;
        node_init(&f.n, 500 + at);
        ck_assert(begin(&f));
        for (int i = 0; i < 30 && f.right.applied < FREEZE_AT; i++) turn(&f);
        node_settle(&f.n);
        if (is_absorbed(&f)) {
            node_free(&f.n);
            continue;
        }
        while (f.right.applied < f.right.acked) apply(&f, &f.right, 1);
        disk_mem_faults_set(f.n.disk, &(struct disk_mem_faults){.crash_at = at});
        take_over(&f, &heir);
        node_settle(&f.n);
        restart(&f, at, DISK_MEM_POWER_LOSS);
        struct store_group r;
        if (store_group_get(f.n.store, 1, &r) && r.state == CHECKPOINT_GROUP_LIVE) { /* applied again */
            f.right.acked = r.log.last;
            f.right.applied = r.applied;
            while (f.right.applied < f.right.acked) node_put(&f.n, 1, ++f.right.applied, "q");
        }
        heir_check(&f, at);
        node_free(&f.n);
    }
}
END_TEST

START_TEST(who_may_be_evicted)
{
    struct pair f = {.created = 0};
    struct kv_key from, to;
    node_init(&f.n, 402);
    ck_assert(begin(&f));
    kv_key_range(1, kv_str("n"), &from);
    kv_key_range(1, kv_str("zz"), &to);
    struct kv_range part = {kv_key_slice(&from), kv_key_slice(&to)};
    ck_assert_uint_eq(store_overlap(f.n.store, part, 9, 7), 1); /* not all of it */
    store_group_gone(f.n.store, 1);
    ck_assert_uint_eq(store_overlap(f.n.store, part, 9, 7), UINT32_MAX);
    ck_assert_uint_eq(store_overlap(f.n.store, part, 2, 7), 1); /* nor an owner as late as it */
    node_free(&f.n);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("merge");
    TCase *tc = tcase_create("merge");
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, power_is_lost_everywhere, 0, 4);
    tcase_add_test(tc, power_is_lost_while_evicted);
    tcase_add_test(tc, who_may_be_evicted);
    tcase_set_timeout(tc, 60);
    return unit_finish(suite);
}

#include <stdio.h>

#include "tests/unit/storage/node.h"
#include "tests/unit/unit.h"

/* A group that is born by an entry of another one: keyspace 1 (group 0) is split at one key, and group 1 takes what
 * lies behind it. Whenever the machine stops, both sides are there or neither is, and what the child's log had
 * acknowledged is in it. */
enum { BORN_AT = 5,
       PARENT_ENTRIES = 9,
       CHILD_ENTRIES = 5 }; /* the child's first is its birth */

struct side {
    uint64_t acked, applied, voted;
    struct log_append append;
    bool open;
};
struct family {
    struct node n;
    struct side parent, child;
    struct log_append create;
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
    if (err != KV_OK) return;
    s->acked = a->first + a->entry_count - 1;
    s->voted = a->vote;
}

static void append(struct family *f, struct side *s, uint32_t group)
{
    static const uint8_t byte = 'e';
    struct log_entry e = {.term = 1, .bytes = kv_slice(&byte, 1)};
    uint64_t next = log_last(store_log(f->n.store), group) + 1;
    if (s->open) return;
    s->append = (struct log_append){.done = appended, .group = group, .hard_changed = true, .term = 1, .vote = 7, .first = next, .entries = &e, .entry_count = 1};
    s->open = store_append(f->n.store, &s->append) == KV_OK;
}

static void birth(struct family *f)
{
    struct kv_buf left = {0}, right = {0};
    described(0, "a", "m", 2, &left);
    described(1, "m", "z", 2, &right);
    store_describe(f->n.store, 0, kv_buf_slice(&left));
    ck_assert(store_has_room(f->n.store, 1));
    ck_assert_int_eq(store_group_birth(f->n.store, 1, 1, kv_buf_slice(&right), 50), KV_OK);
    ck_assert_int_eq(store_group_birth(f->n.store, 1, 1, kv_buf_slice(&right), 50), KV_CONFLICT); /* once */
    kv_buf_free(&left);
    kv_buf_free(&right);
}

static void apply(struct family *f, struct side *s, uint32_t group)
{
    uint64_t index = s->applied + 1;
    if (group == 0 && index == BORN_AT) {
        birth(f);
        if (f->child.acked == 0) f->child.acked = STORE_BIRTH_INDEX;
        f->child.applied = STORE_BIRTH_INDEX;
    }
    node_put(&f->n, group, index, group == 1 ? "q" : index < BORN_AT && index % 2 == 0 ? "p"
                                                                                       : "b");
    s->applied = index;
}

static bool is_born(const struct family *f)
{
    return f->parent.applied >= BORN_AT;
}

static void turn(struct family *f)
{
    struct node *n = &f->n;
    if (f->parent.acked < PARENT_ENTRIES) append(f, &f->parent, 0);
    if (f->parent.applied < f->parent.acked) apply(f, &f->parent, 0);
    if (is_born(f) && f->child.acked < CHILD_ENTRIES) append(f, &f->child, 1);
    if (is_born(f) && f->child.applied < f->child.acked) apply(f, &f->child, 1);
    if (kv_random_next(&n->seed) % 4 == 0) store_checkpoint(n->store, NULL);
    store_flush(n->store, false);
    for (uint64_t steps = kv_random_next(&n->seed) % 4; steps > 0; steps--) node_step(n);
}

static void script(struct family *f)
{
    for (int i = 0; i < 60 && !disk_mem_is_crashed(f->n.disk) && f->n.poisoned == KV_OK; i++) turn(f);
}

static void created(struct log_append *a, enum kv_err err)
{
    struct family *f = container_of(a, struct family, create);
    if (err == KV_OK) f->parent.voted = 1;
}

static bool begin(struct family *f)
{
    struct kv_buf whole = {0};
    if (node_open(&f->n) != KV_OK) return false;
    described(0, "a", "z", 1, &whole);
    f->create = (struct log_append){.done = created, .group = 0};
    ck_assert_int_eq(store_group_create(f->n.store, 0, 1, kv_buf_slice(&whole), 0, 0, &f->create), KV_OK);
    kv_buf_free(&whole);
    node_settle(&f->n);
    return f->parent.voted == 1;
}

static void value_is(const struct family *f, const char *user_key, uint64_t index)
{
    struct kv_key key;
    struct kv_slice value;
    kv_key_range(1, kv_str(user_key), &key);
    enum kv_err err = store_get(f->n.store, STORE_DATA, kv_key_slice(&key), kv_slice(NULL, 0), &value);
    ck_assert_int_eq(err, index == 0 ? KV_NOT_FOUND : KV_OK);
    if (index != 0) ck_assert_uint_eq(le64_get(value.data + VALUE_HEADER_BYTES), index);
}

/* What recovery found, and then everything applied again. */
static void recover(struct family *f, uint64_t at)
{
    struct store_group p, c;
    ck_assert(store_group_get(f->n.store, 0, &p));
    bool known = store_group_get(f->n.store, 1, &c);
    bool durable = f->child.acked > STORE_BIRTH_INDEX;
    ck_assert_msg(!durable || known, "crash at %lu: the child is gone", (unsigned long)at);
    if (p.applied >= BORN_AT) ck_assert_msg(known && !c.unborn, "crash at %lu: the parent was split, the child is not", (unsigned long)at);
    else ck_assert_msg(!known || c.unborn, "crash at %lu: a child before its birth", (unsigned long)at);
    if (known) {
        if (durable) ck_assert_uint_ge(c.log.last, f->child.acked);
        if (durable) ck_assert_uint_eq(c.log.vote, f->child.voted);
    }
    f->parent = (struct side){.acked = p.log.last, .applied = p.applied, .voted = 1};
    f->child = (struct side){.acked = known ? c.log.last : 0, .applied = known && !c.unborn ? c.applied : 0, .voted = known ? c.log.vote : 0};
    while (f->parent.applied < f->parent.acked) apply(f, &f->parent, 0);
    while (is_born(f) && f->child.applied < f->child.acked) apply(f, &f->child, 1);
    ck_assert_uint_eq(store_group_get(f->n.store, 1, &c) && !c.unborn, is_born(f));
    value_is(f, "p", f->parent.applied < 2 ? 0 : f->parent.applied < 4 ? 2
                                                                       : 4);
    value_is(f, "q", is_born(f) && f->child.applied > STORE_BIRTH_INDEX ? f->child.applied : 0);
}

START_TEST(power_is_lost_everywhere)
{
    struct family f = {.parent.acked = 0};
    node_init(&f.n, 300);
    ck_assert(begin(&f));
    script(&f);
    ck_assert_uint_eq(f.child.applied, CHILD_ENTRIES);
    uint64_t operations = disk_mem_operations(f.n.disk);
    node_free(&f.n);
    for (uint64_t at = 1 + (uint64_t)_i; at <= operations; at += 4) {
        f = (struct family){.parent.acked = 0};
        node_init(&f.n, 300 + at);
        disk_mem_faults_set(f.n.disk, &(struct disk_mem_faults){.crash_at = at});
        bool begun = begin(&f);
        if (begun) script(&f);
        for (int again = 0; begun && again < 2; again++) {
            node_crash(&f.n, again == 0 ? DISK_MEM_POWER_LOSS : DISK_MEM_KILL);
            node_stop(&f.n);
            disk_mem_restart(f.n.disk);
            ck_assert_int_eq(node_open(&f.n), KV_OK);
            ck_assert_msg(store_damage(f.n.store) == NULL, "crash at %lu: %s", (unsigned long)at, store_damage(f.n.store));
            recover(&f, at);
            script(&f);
        }
        node_free(&f.n);
    }
}
END_TEST

START_TEST(who_is_in_the_way)
{
    struct family f = {.parent.acked = 0};
    struct kv_key from, to;
    node_init(&f.n, 301);
    ck_assert(begin(&f));
    kv_key_range(1, kv_str("n"), &from);
    kv_key_range(1, kv_str("y"), &to);
    struct kv_range range = {kv_key_slice(&from), kv_key_slice(&to)};
    ck_assert_uint_eq(store_overlap(f.n.store, range, 1, 1), 0);
    ck_assert_uint_eq(store_overlap(f.n.store, range, 1, 0), UINT32_MAX);
    script(&f);
    ck_assert(is_born(&f));
    ck_assert_uint_eq(store_overlap(f.n.store, range, 1, 0), 1);
    ck_assert_uint_eq(store_overlap(f.n.store, range, 1, 1), UINT32_MAX);
    node_free(&f.n);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("birth");
    TCase *tc = tcase_create("birth");
    suite_add_tcase(suite, tc);
    tcase_add_loop_test(tc, power_is_lost_everywhere, 0, 4);
    tcase_add_test(tc, who_is_in_the_way);
    tcase_set_timeout(tc, 60);
    return unit_finish(suite);
}

#ifndef TESTS_STORAGE_NODE_H
#define TESTS_STORAGE_NODE_H
#include "client/base/endian.h"
#include "storage/checkpoint_mem.h"
#include "storage/command.h"
#include "storage/disk_mem.h"
#include "storage/store.h"
#include "storage/value.h"
#include "tests/unit/storage/model.h"

/* A node around a store, as the server is one: it appends entries, applies them, and after a
 * crash applies again what the log still has. An entry is the seed of its operations, so
 * the model can be rebuilt for any index. Group g owns the keys of keyspace g. */
enum { NODE_GROUPS = 3,
       NODE_ENTRIES_MAX = 4000,
       NODE_KEYS = 60,
       NODE_QUEUE = 64 };

struct node_group {
    uint32_t replica;         /* the next to create, or the one that is here */
    bool created, destroying; /* created: acknowledged */
    uint64_t last, acked, applied;
    uint64_t seeds[NODE_ENTRIES_MAX]; /* of entries 1..last */
    struct log_append create;
    struct store_destroy destroy;
    uint8_t bounds[8];
};
/* What the disk has still to do, in order for each kind; between the kinds any order is legal. */
struct node_queue {
    struct disk_request *requests[NODE_QUEUE];
    uint32_t count;
};
struct node_append;
struct node {
    struct disk_mem *disk;
    struct node_queue queues[2]; /* DISK_MEM_APPEND, DISK_MEM_WORK */
    struct model model;          /* of everything applied */
    struct checkpoint *checkpoint;
    struct store *store;
    struct store_options options;
    struct node_group groups[NODE_GROUPS];
    uint64_t now_ns, seed;
    enum kv_err poisoned;
    struct node_append *appends;
};

static inline uint64_t node_now(void *context)
{
    return ((struct node *)context)->now_ns;
}
static inline void node_poisoned(void *context, enum kv_err err)
{
    ((struct node *)context)->poisoned = err;
}

static inline void node_schedule(void *context, struct disk_request *q, enum disk_mem_kind kind)
{
    struct node_queue *queue = &((struct node *)context)->queues[kind];
    ck_assert_uint_lt(queue->count, NODE_QUEUE);
    queue->requests[queue->count++] = q;
}
static inline bool node_complete(struct node *n, enum disk_mem_kind kind)
{
    struct node_queue *queue = &n->queues[kind];
    if (disk_mem_is_crashed(n->disk)) queue->count = 0; /* forgotten */
    if (queue->count == 0) return false;
    struct disk_request *q = queue->requests[0];
    queue->count--;
    memmove(queue->requests, queue->requests + 1, queue->count * sizeof *queue->requests);
    disk_mem_complete(n->disk, q);
    return true;
}
static inline bool node_step(struct node *n)
{
    enum disk_mem_kind first = kv_random_next(&n->seed) % 2 == 0 ? DISK_MEM_APPEND : DISK_MEM_WORK;
    return node_complete(n, first) ||
           node_complete(n, first == DISK_MEM_APPEND ? DISK_MEM_WORK : DISK_MEM_APPEND);
}
static inline void node_crash(struct node *n, enum disk_mem_crash kind)
{
    if (!disk_mem_is_crashed(n->disk)) disk_mem_crash(n->disk, kind);
    n->queues[0].count = n->queues[1].count = 0;
}

static inline void node_range(uint32_t group, uint8_t bytes[8], struct kv_range *out)
{
    be32_put(bytes, group + 1);
    be32_put(bytes + 4, group + 2);
    *out = (struct kv_range){kv_slice(bytes, 4), kv_slice(bytes + 4, 4)};
}

static inline void node_descriptor(uint32_t group, uint32_t version, struct kv_buf *out)
{
    struct descriptor d = {.id = group,
                           .keyspace = group + 1,
                           .range_epoch = 1,
                           .conf_epoch = version,
                           .replica_next = 2,
                           .dedup_retention_ms = 1000};
    be32_put(d.from.bytes, group + 1);
    be32_put(d.to.bytes, group + 2);
    d.from.size = d.to.size = 4;
    descriptor_encode(&d, out);
}

/* The operations of one entry, handed one by one to `each`. Values of DATA rows are
 * whole rows with header and checksum; dedup records begin with the stamp. */
struct entry_memory {
    uint8_t key[32], sub[STORE_SUB_BYTES], value[MODEL_VALUE_MAX], bounds[2][16];
};

static inline struct kv_slice entry_key(uint64_t *seed, uint32_t group, uint8_t *into)
{
    be32_put(into, group + 1);
    int size =
        snprintf((char *)into + 4, 12, "k%02lu", (unsigned long)(kv_random_next(seed) % NODE_KEYS));
    return kv_slice(into, 4 + (size_t)size);
}

static inline struct store_op entry_op(uint64_t *seed, uint32_t group, uint64_t index,
                                       struct entry_memory *m)
{
    struct store_op op = {.kind = STORE_PUT};
    uint64_t what = kv_random_next(seed) % 100;
    op.row.class = (enum store_class)(kv_random_next(seed) % STORE_CLASSES);
    if (what >= 97) {
        op.kind = STORE_DELETE_RANGE;
        op.range.from = entry_key(seed, group, m->bounds[0]);
        op.range.to = entry_key(seed, group, m->bounds[1]);
        if (kv_slice_cmp(op.range.from, op.range.to) > 0) {
            struct kv_slice from = op.range.from;
            op.range.from = op.range.to;
            op.range.to = from;
        }
        return op;
    }
    if (what >= 75) op.kind = STORE_DELETE;
    op.row.key = entry_key(seed, group, m->key);
    if (op.row.class == STORE_DEDUP) {
        memset(m->sub, 0, sizeof m->sub);
        m->sub[0] = (uint8_t)(kv_random_next(seed) % 3);
        op.row.sub = kv_slice(m->sub, sizeof m->sub);
    }
    size_t payload = kv_random_next(seed) % (MODEL_VALUE_MAX - VALUE_HEADER_BYTES);
    struct value v = {.type = VALUE_STRING, .version_index = index};
    v.payload = kv_slice(m->value + VALUE_HEADER_BYTES, payload);
    for (size_t i = 0; i < payload; i++)
        m->value[VALUE_HEADER_BYTES + i] = (uint8_t)(index + i);
    value_header_write(op.row.key, &v, m->value);
    if (op.row.class == STORE_DEDUP) le64_put(m->value, UINT64_C(1) << 60); /* never stale here */
    op.row.value = kv_slice(m->value, VALUE_HEADER_BYTES + payload);
    return op;
}

static inline uint32_t entry_count(uint64_t *seed)
{
    return (uint32_t)(kv_random_next(seed) % 6);
}

static inline void model_entry(struct model *m, uint32_t group, uint64_t index, uint64_t seed)
{
    struct entry_memory memory;
    for (uint32_t n = entry_count(&seed); n > 0; n--) {
        struct store_op op = entry_op(&seed, group, index, &memory);
        switch (op.kind) {
        case STORE_PUT: model_put(m, &op.row); break;
        case STORE_DELETE: model_del(m, &op.row); break;
        case STORE_DELETE_RANGE: model_delete_range(m, op.row.class, op.range); break;
        }
    }
}

static inline void node_apply(struct node *n, uint32_t group, uint64_t index)
{
    struct node_group *g = &n->groups[group];
    ck_assert_uint_eq(index, g->applied + 1);
    uint64_t seed = g->seeds[index - 1];
    struct entry_memory memory[6];
    struct store_op ops[6];
    uint32_t count = entry_count(&seed);
    for (uint32_t i = 0; i < count; i++)
        ops[i] = entry_op(&seed, group, index, &memory[i]);
    if (index % 10 == 0) {
        struct kv_buf d = {0};
        node_descriptor(group, (uint32_t)index, &d);
        store_describe(n->store, group, kv_buf_slice(&d));
        kv_buf_free(&d);
    }
    store_apply(n->store, group, index, 1, index * 10, ops, count);
    g->applied = index;
    model_entry(&n->model, group, index, g->seeds[index - 1]);
}

struct node_append { /* one append under way; freed when done or when the node stops */
    struct log_append append;
    struct node *node;
    struct node_append *next;
    uint64_t last;
};

static inline void node_append_free(struct node_append *na)
{
    struct node_append **at = &na->node->appends;
    while (*at != na)
        at = &(*at)->next;
    *at = na->next;
    free(na);
}

static inline void node_appended(struct log_append *a, enum kv_err err)
{
    struct node_append *na = container_of(a, struct node_append, append);
    struct node_group *g = &na->node->groups[a->group];
    if (err == KV_OK && na->last > g->acked) g->acked = na->last;
    node_append_free(na);
}

static inline void node_append_seeds(struct node *n, uint32_t group, const uint64_t *seeds,
                                     uint32_t count)
{
    struct node_group *g = &n->groups[group];
    struct log_entry entries[8];
    uint8_t bytes[8][8];
    ck_assert_uint_le(count, 8);
    if (g->last + count > NODE_ENTRIES_MAX) return;
    for (uint32_t i = 0; i < count; i++) {
        le64_put(bytes[i], seeds[i]);
        g->seeds[g->last + i] = seeds[i];
        entries[i] = (struct log_entry){.term = 1, .bytes = kv_slice(bytes[i], 8)};
    }
    struct node_append *na = calloc(1, sizeof *na);
    ck_assert_ptr_nonnull(na);
    na->node = n;
    na->next = n->appends;
    n->appends = na;
    na->last = g->last + count;
    na->append = (struct log_append){.done = node_appended,
                                     .group = group,
                                     .hard_changed = true,
                                     .term = 1,
                                     .commit = g->acked,
                                     .first = g->last + 1,
                                     .entries = entries,
                                     .entry_count = count};
    enum kv_err err = store_append(n->store, &na->append);
    if (err == KV_OK)
        g->last += count;
    else
        node_append_free(na);
}

static inline void node_append(struct node *n, uint32_t group, uint32_t count)
{
    uint64_t seeds[8];
    ck_assert_uint_le(count, 8);
    for (uint32_t i = 0; i < count; i++)
        seeds[i] = kv_random_next(&n->seed);
    node_append_seeds(n, group, seeds, count);
}

static inline void node_created(struct log_append *a, enum kv_err err)
{
    if (err == KV_OK) container_of(a, struct node_group, create)->created = true;
}

static inline enum kv_err node_create_group(struct node *n, uint32_t group, uint32_t replica)
{
    struct node_group *g = &n->groups[group];
    struct kv_buf d = {0};
    node_descriptor(group, 0, &d);
    g->create = (struct log_append){.done = node_created, .group = group};
    enum kv_err err = store_group_create(n->store, group, replica, kv_buf_slice(&d), 0, 0, &g->create);
    kv_buf_free(&d);
    if (err == KV_OK) g->replica = replica;
    return err;
}

static inline void node_group_reset(struct node_group *g, uint32_t replica)
{
    *g = (struct node_group){.replica = replica};
}
static inline void node_destroyed(struct store_destroy *d, enum kv_err err)
{
    struct node_group *g = container_of(d, struct node_group, destroy);
    if (err == KV_OK) node_group_reset(g, g->replica + 1);
}
static inline void node_destroy_group(struct node *n, uint32_t group)
{
    struct node_group *g = &n->groups[group];
    g->created = false;
    g->destroying = true;
    g->destroy = (struct store_destroy){.done = node_destroyed, .group = group};
    node_range(group, g->bounds, &g->destroy.range);
    for (int k = 0; k < STORE_CLASSES; k++)
        model_delete_range(&n->model, (enum store_class)k, g->destroy.range);
    store_group_destroy(n->store, &g->destroy);
}

/* Turns until nothing is under way any more. */
static inline void node_settle(struct node *n)
{
    for (int turn = 0; turn < 10000; turn++) {
        store_flush(n->store, false);
        while (node_step(n)) {
        }
        if (disk_mem_is_crashed(n->disk) || store_is_idle(n->store)) return;
    }
    ck_abort_msg("the store never comes to rest");
}

static inline void node_init(struct node *n, uint64_t seed)
{
    *n = (struct node){.seed = seed};
    n->disk = disk_mem_create(
        &(struct disk_mem_options){.seed = seed, .schedule = node_schedule, .context = n});
    n->checkpoint = checkpoint_mem_create();
    ck_assert_ptr_nonnull(n->disk);
    ck_assert_ptr_nonnull(n->checkpoint);
    n->options = (struct store_options){
        .disk = disk_mem_disk(n->disk),
        .checkpoint = n->checkpoint,
        .now_ns = node_now,
        .poisoned = node_poisoned,
        .context = n,
        .memtable_bytes_max = 64 << 10,
        .log = {.segment_bytes = 64 << 10, .segment_bytes_max = 64 << 10},
    };
}

static inline enum kv_err node_open(struct node *n)
{
    n->poisoned = KV_OK;
    return store_open(&n->options, 77, 5, &n->store);
}

static inline void node_stop(struct node *n)
{
    store_close(n->store);
    n->store = NULL;
    while (n->appends != NULL)
        node_append_free(n->appends);
    n->queues[0].count = n->queues[1].count = 0;
    checkpoint_mem_crash(n->checkpoint);
}

static inline void node_free(struct node *n)
{
    if (n->store != NULL) node_stop(n);
    n->checkpoint->ops->destroy(n->checkpoint);
    disk_mem_destroy(n->disk);
    model_free(&n->model);
}

struct node_fetch {
    struct log_fetch fetch;
    bool done;
};
static inline void node_fetched(struct log_fetch *f, enum kv_err err)
{
    ck_assert_int_eq(err, KV_OK);
    container_of(f, struct node_fetch, fetch)->done = true;
}

/* The entry at `index`, from memory or disk. */
static inline uint64_t node_entry(struct node *n, uint32_t group, uint64_t index)
{
    struct log_entry e;
    uint32_t count;
    struct log *l = store_log(n->store);
    enum kv_err err = log_cached(l, group, index, 1, 1, &e, &count);
    if (err == KV_OK) return le64_get(e.bytes.data);
    ck_assert_int_eq(err, KV_BUSY);
    struct node_fetch f = {
        .fetch = {.done = node_fetched, .group = group, .first = index, .bytes_max = 1}};
    log_fetch(l, &f.fetch);
    while (!f.done)
        ck_assert(node_step(n));
    ck_assert_uint_ge(f.fetch.entry_count, 1);
    uint64_t seed = le64_get(f.fetch.entries[0].bytes.data);
    log_fetch_free(&f.fetch);
    return seed;
}

/* After a restart: what was acknowledged is there, the log holds only what was written, and
 * replay from the checkpoint brings every group to its last entry. */
static inline void node_recover(struct node *n)
{
    model_free(&n->model);
    for (uint32_t i = 0; i < NODE_GROUPS; i++) {
        struct node_group *g = &n->groups[i];
        struct store_group sg;
        bool known = store_group_get(n->store, i, &sg);
        bool there = known && sg.state == CHECKPOINT_GROUP_LIVE;
        if (g->created) ck_assert(there);
        if (!there) {
            ck_assert(!log_group_get(store_log(n->store), i, &sg.log));
            if (g->destroying && known) {
                ck_assert_uint_eq(sg.replica, g->replica);
                node_group_reset(g, g->replica + 1);
            } else {
                node_group_reset(g, g->replica); /* never created: the same id may try again */
            }
            continue;
        }
        ck_assert(!sg.log.damaged);
        ck_assert_uint_eq(sg.replica, g->replica);
        g->created = true;
        g->destroying = false;
        ck_assert_uint_ge(sg.log.last, g->acked);
        ck_assert_uint_le(sg.log.last, g->last);
        ck_assert_uint_le(sg.applied, sg.log.last); /* R8 */
        ck_assert_uint_ge(sg.applied, sg.log.compacted_index);
        ck_assert_uint_le(sg.log.compacted_index, g->acked); /* never released, never made up */
        ck_assert_uint_eq(sg.clock_ms, sg.applied * 10);
        g->last = g->acked = sg.log.last;
        g->applied = sg.applied;
        for (uint64_t index = 1; index <= g->applied; index++)
            model_entry(&n->model, i, index, g->seeds[index - 1]);
        for (uint64_t index = g->applied + 1; index <= g->last; index++) {
            ck_assert_uint_eq(node_entry(n, i, index), g->seeds[index - 1]);
            node_apply(n, i, index);
        }
    }
}

struct node_scan {
    struct store_scan scan;
    bool done;
    enum kv_err err;
};
static inline void node_scanned(struct store_scan *s, enum kv_err err)
{
    struct node_scan *ns = container_of(s, struct node_scan, scan);
    ns->done = true;
    ns->err = err;
}

/* Every row of one class and range, page by page, against the model's rows. */
static inline void node_check_scan(struct node *n, const struct model *m, enum store_class class,
                                   struct kv_range range, uint32_t rows_max, size_t bytes_max)
{
    uint8_t from[64];
    struct kv_slice at = range.from;
    size_t i = 0;
    for (bool more = true; more;) {
        struct node_scan s = {.scan = {.done = node_scanned,
                                       .class = class,
                                       .range = {at, range.to},
                                       .rows_max = rows_max,
                                       .bytes_max = bytes_max}};
        store_scan(n->store, &s.scan);
        while (!s.done)
            ck_assert(node_step(n));
        ck_assert_int_eq(s.err, KV_OK);
        size_t bytes = 0;
        for (uint32_t k = 0; k < s.scan.row_count; k++, i++) {
            while (i < m->count &&
                   (m->rows[i].class != class ||
                    !kv_range_has(range, kv_slice(m->rows[i].key, m->rows[i].key_size))))
                i++;
            ck_assert_uint_lt(i, m->count);
            struct store_row expect = model_view(&m->rows[i]), *got = &s.scan.rows[k];
            ck_assert_int_eq(row_order(&expect, got), 0);
            ck_assert(kv_slice_eq(expect.value, got->value));
            bytes += got->key.size + got->sub.size + got->value.size;
        }
        ck_assert_uint_le(s.scan.row_count, rows_max);
        if (s.scan.row_count > 1) ck_assert_uint_le(bytes, bytes_max);
        more = s.scan.more;
        if (more) {
            ck_assert_uint_gt(s.scan.row_count, 0);
            struct kv_slice last = s.scan.rows[s.scan.row_count - 1].key;
            if (class ==
                STORE_DEDUP) { /* pages by key: begin again at the last one, skip it in the model */
                while (i > 0 &&
                       kv_slice_eq(kv_slice(m->rows[i - 1].key, m->rows[i - 1].key_size), last))
                    i--;
                more = s.scan.row_count > 3;
            }
            memcpy(from, last.data, last.size);
            at = kv_slice(from, last.size);
            if (class != STORE_DEDUP) {
                from[at.size++] = 0;
            }
        } else {
            while (i < m->count &&
                   (m->rows[i].class != class ||
                    !kv_range_has(range, kv_slice(m->rows[i].key, m->rows[i].key_size))))
                i++;
            ck_assert_uint_eq(i, m->count);
        }
        store_scan_free(&s.scan);
    }
}

/* The store as of now against the model. */
static inline void node_check_points(struct node *n)
{
    const struct model *m = &n->model;
    for (size_t i = 0; i < m->count; i++) {
        struct store_row row = model_view(&m->rows[i]);
        struct kv_slice value;
        ck_assert_int_eq(store_get(n->store, row.class, row.key, row.sub, &value), KV_OK);
        ck_assert(kv_slice_eq(value, row.value));
    }
    for (int i = 0; i < 100; i++) {
        struct entry_memory memory;
        uint64_t seed = (uint64_t)i * 31;
        struct store_op op = entry_op(&seed, (uint32_t)i % NODE_GROUPS, 1, &memory);
        struct kv_slice value;
        if (op.kind == STORE_DELETE_RANGE || model_get(m, &op.row) != NULL) continue;
        ck_assert_int_eq(store_get(n->store, op.row.class, op.row.key, op.row.sub, &value),
                         KV_NOT_FOUND);
    }
}

static inline void node_check(struct node *n)
{
    const struct model *m = &n->model;
    uint8_t bytes[8];
    struct kv_range range, all = {kv_slice(NULL, 0), kv_slice(NULL, 0)};
    node_check_points(n);
    node_range(1, bytes, &range);
    for (int k = 0; k < STORE_CLASSES; k++) {
        node_check_scan(n, m, (enum store_class)k, all, 100000, SIZE_MAX);
        node_check_scan(n, m, (enum store_class)k, range, k == STORE_DEDUP ? 100000 : 7, 100000);
        node_check_scan(n, m, (enum store_class)k, range, 100000,
                        k == STORE_DEDUP ? SIZE_MAX : 300);
    }
}

/* One turn of a busy node: appends, applies (also before this node has the entries on disk,
 * as a leader may whose followers were faster), some of what the disk has to do. */
static inline void node_turn(struct node *n)
{
    for (uint32_t i = 0; i < NODE_GROUPS; i++) {
        struct node_group *g = &n->groups[i];
        if (!g->created) continue;
        if (kv_random_next(&n->seed) % 3 != 0)
            node_append(n, i, 1 + (uint32_t)(kv_random_next(&n->seed) % 8));
        uint64_t until = kv_random_next(&n->seed) % 2 == 0 ? g->acked : g->last;
        while (g->applied < until)
            node_apply(n, i, g->applied + 1);
        store_release(n->store, i, g->applied);
    }
    struct node_group *mortal = &n->groups[NODE_GROUPS - 1];
    if (mortal->created && kv_random_next(&n->seed) % 25 == 0)
        node_destroy_group(n, NODE_GROUPS - 1);
    bool gone = !mortal->created && !mortal->destroying && mortal->create.done == NULL &&
                mortal->replica > 1;
    if (gone && kv_random_next(&n->seed) % 3 == 0)
        node_create_group(n, NODE_GROUPS - 1, mortal->replica);
    if (kv_random_next(&n->seed) % 12 == 0) store_checkpoint(n->store, NULL);
    store_flush(n->store, false);
    for (uint64_t steps = kv_random_next(&n->seed) % 6; steps > 0; steps--)
        if (!node_step(n)) break;
    n->now_ns += 20000000;
}
/* The entry at `index` of that group puts one row of keyspace 1, kept by ranges, whose value is the index. */
static inline void node_put(struct node *n, uint32_t group, uint64_t index, const char *user_key)
{
    struct kv_key key;
    uint8_t value[VALUE_HEADER_BYTES + 8];
    struct value v = {.type = VALUE_STRING, .version_index = index, .payload = kv_slice(value + VALUE_HEADER_BYTES, 8)};
    kv_key_range(1, kv_str(user_key), &key);
    le64_put(value + VALUE_HEADER_BYTES, index);
    value_header_write(kv_key_slice(&key), &v, value);
    struct store_op op = {.kind = STORE_PUT,
                          .row = {.class = STORE_DATA, .key = kv_key_slice(&key), .value = kv_slice(value, sizeof value)}};
    store_apply(n->store, group, index, 1, index * 10, &op, 1);
}
/* A node that runs, with group 0 as its only one, and nothing open. */
static inline void one_group(struct node *n, uint64_t seed)
{
    node_init(n, seed);
    ck_assert_int_eq(node_open(n), KV_OK);
    ck_assert_int_eq(node_create_group(n, 0, 1), KV_OK);
    node_settle(n);
}
#endif

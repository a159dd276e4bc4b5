#include "server/exec_directory_impl.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "server/exec_jobs.h"
#include "server/exec_nodes.h"

/* Keyspaces: KSCREATE KSDROP KSLIST KSSHOW, as pure functions of partition 0's rows and its
 * descriptor like all commands (R7, R12). A creation is one entry: its rows, and the partitions that are
 * born by it. What the command says is checked before anything is read, so that exec_check() refuses
 * it too; what the rows say is checked behind that. */
enum { REPLICAS_DEFAULT = 3 };

static_assert((int)KV_REPLICAS_MAX == (int)DESCRIPTOR_REPLICAS_MAX, "a place fits a row");

const struct kv_keyspace exec_keyspace_default = {
    .id = KV_KEYSPACE_DEFAULT,
    .name = {(const uint8_t *)"default", 7},
    .kind = KV_KEY_HASH,
    .partitions = KV_PARTITIONS_DEFAULT,
    .first_partition = 1,
    .rule = {.keyspace = KV_KEYSPACE_DEFAULT, .kind = KV_KEY_HASH},
};

struct kv_slice exec_keyspace_row(struct kv_slice name, uint8_t out[EXEC_ROW_NAME_BYTES_MAX])
{
    size_t size = name.size < KV_NAME_BYTES_MAX ? name.size : KV_NAME_BYTES_MAX;
    out[0] = 'k';
    out[1] = '/';
    if (size > 0) memcpy(out + 2, name.data, size);
    return kv_slice(out, size + 2);
}

bool exec_names_next(struct kv_slice *names, struct kv_slice *name)
{
    const uint8_t *end = names->size == 0 ? NULL : memchr(names->data, '\n', names->size);
    if (end == NULL) return false;
    *name = kv_slice(names->data, (size_t)(end - names->data));
    *names = kv_slice(end + 1, names->size - name->size - 1);
    return true;
}

/* ---- what is wanted ---- */

bool directory_check_name(struct exec *x, const char *what, struct kv_slice name)
{
    if (kv_name_is_valid(name)) return true;
    return exec_deny(x, KV_BAD_ARGUMENT, "%s '%.*s' is no name: a letter, then letters, digits, - _ . up to %d bytes", what,
                     SHOWN(name), KV_NAME_BYTES_MAX);
}

static bool check_hash(struct exec *x, struct kv_keyspace *k)
{
    if (k->partitions == 0) k->partitions = KV_PARTITIONS_DEFAULT;
    if (k->split_count + k->group_count > 0)
        return exec_deny(x, KV_BAD_ARGUMENT, "a hash keyspace has a number of partitions, no keys and no groups");
    if (k->partitions > KV_KEYSPACE_PARTITIONS_MAX)
        return exec_deny(x, KV_BAD_ARGUMENT, "%u partitions are over the limit of %d", k->partitions, KV_KEYSPACE_PARTITIONS_MAX);
    return true;
}

static bool check_range(struct exec *x, struct kv_keyspace *k)
{
    if (k->group_count > 0) return exec_deny(x, KV_BAD_ARGUMENT, "a range keyspace has split keys, no groups");
    for (uint32_t i = 0; i < k->split_count; i++) {
        struct kv_slice s = k->splits[i];
        if (s.size == 0) return exec_deny(x, KV_BAD_ARGUMENT, "split key %u is empty, and so the range before it; next: leave it out", i + 1);
        if (i == 0) continue;
        int order = kv_slice_cmp(k->splits[i - 1], s);
        if (order == 0)
            return exec_deny(x, KV_BAD_ARGUMENT, "split key '%.*s' is given twice: the range between would be empty; next: leave one out",
                             SHOWN(s));
        if (order > 0)
            return exec_deny(x, KV_BAD_ARGUMENT,
                             "split keys '%.*s' and '%.*s' are not in order: their ranges would overlap; next: sort them by bytes",
                             SHOWN(k->splits[i - 1]), SHOWN(s));
    }
    k->partitions = k->split_count + 1;
    return true;
}

static bool check_group(struct exec *x, const struct kv_keyspace *k, uint32_t at)
{
    const struct kv_label_group *g = &k->groups[at];
    if (!directory_check_name(x, "group", g->name)) return false;
    for (uint32_t i = 0; i < at; i++)
        if (kv_slice_eq(k->groups[i].name, g->name))
            return exec_deny(x, KV_BAD_ARGUMENT, "group '%.*s' is given twice; next: one list of all its labels", SHOWN(g->name));
    if (g->label_count == 0 && !kv_slice_eq(g->name, k->default_group))
        return exec_deny(x, KV_BAD_ARGUMENT, "group '%.*s' has no labels: its range would be empty; next: list some, or make it --default",
                         SHOWN(g->name));
    for (uint32_t i = 0; i < g->label_count; i++) {
        struct kv_slice label = g->labels[i].text;
        if (label.size > 0 && memchr(label.data, k->delimiter, label.size) != NULL)
            return exec_deny(x, KV_BAD_ARGUMENT, "label '%.*s' holds the delimiter '%c': no key could have it", SHOWN(label), k->delimiter);
    }
    return true;
}

bool directory_check_list(struct exec *x, struct kv_keyspace *k)
{
    bool has_default = k->default_group.size == 0;
    if (k->split_count > 0) return exec_deny(x, KV_BAD_ARGUMENT, "a list keyspace has groups of labels, no split keys");
    if (k->group_count == 0) return exec_deny(x, KV_BAD_ARGUMENT, "a list keyspace needs a group of labels: list:group=label|label,..");
    if (k->delimiter == 0) k->delimiter = '/';
    for (uint32_t i = 0; i < k->group_count; i++) {
        if (!check_group(x, k, i)) return false;
        has_default = has_default || kv_slice_eq(k->groups[i].name, k->default_group);
    }
    if (!has_default)
        return exec_deny(x, KV_BAD_ARGUMENT, "the default group '%.*s' is none of the groups; next: give it a list, perhaps an empty one",
                         SHOWN(k->default_group));
    k->partitions = k->group_count;
    return true;
}

/* A label that is listed twice: the rule's are sorted. */
bool directory_refuse_twice(struct exec *x, const struct kv_keyspace *k)
{
    for (uint32_t i = 1; i < k->rule.label_count; i++)
        if (kv_slice_eq(k->rule.labels[i - 1].text, k->rule.labels[i].text))
            return exec_deny(x, KV_BAD_ARGUMENT, "label '%.*s' is listed twice; next: leave one out", SHOWN(k->rule.labels[i].text));
    return exec_deny(x, KV_BAD_ARGUMENT, "a label is listed twice");
}

static bool wanted(struct exec *x, const struct kv_slice *a, struct kv_arena *arena, struct kv_keyspace *k)
{
    if (!directory_check_name(x, "keyspace", a[0])) return false;
    enum kv_err err = a[1].size > DIRECTORY_WANTED_BYTES_MAX ? KV_TOO_BIG : kv_keyspace_decode(a[1], arena, k);
    if (err == KV_CONFLICT) return directory_refuse_twice(x, k);
    if (err == KV_TOO_BIG)
        return exec_deny(x, KV_BAD_ARGUMENT, "over a limit: %d partitions, %d labels, %d bytes a label, %d a name, %d a split key",
                         KV_KEYSPACE_PARTITIONS_MAX, KV_LABELS_MAX, KV_LABEL_BYTES_MAX, KV_NAME_BYTES_MAX, KV_USER_KEY_BYTES_MAX);
    if (err != KV_OK) return exec_deny(x, KV_BAD_ARGUMENT, "the keyspace's description does not parse");
    k->name = a[0];
    if (kv_slice_eq(k->name, exec_keyspace_default.name) || kv_slice_eq(k->name, kv_str("system")))
        return exec_deny(x, KV_CONDITION, "keyspace '%.*s' is always there; next: choose another name", SHOWN(k->name));
    if (k->default_group.size > 0 && k->kind != KV_KEY_LIST)
        return exec_deny(x, KV_BAD_ARGUMENT, "only a list keyspace has a default group");
    switch (k->kind) {
    case KV_KEY_HASH: return check_hash(x, k);
    case KV_KEY_RANGE: return check_range(x, k);
    case KV_KEY_LIST: return directory_check_list(x, k);
    }
    return exec_deny(x, KV_BAD_ARGUMENT, "unknown kind");
}

/* ---- rows ---- */

static bool load_number(struct exec *x, const char *row, uint32_t otherwise, uint32_t *out)
{
    struct exec_entry e;
    uint64_t v = otherwise;
    if (!exec_load(x, kv_str(row), &e)) return false;
    if (e.live && (!kv_parse_u64(e.value.payload, &v) || v > UINT32_MAX / 2)) {
        x->failed = KV_CORRUPT;
        return false;
    }
    *out = (uint32_t)v;
    return true;
}

static bool put_row(struct exec *x, const char *row, struct kv_slice payload)
{
    struct kv_key key;
    return exec_key(x, kv_str(row), &key) && exec_put(x, &key, payload, 0, 0);
}

static bool put_number(struct exec *x, const char *row, uint32_t v)
{
    char digits[21];
    return put_row(x, row, kv_slice(digits, kv_format_i64(v, digits)));
}

/* The names without `leave` and, at the end, with `add`; either may be empty. */
bool directory_put_names(struct exec *x, struct kv_slice names, struct kv_slice leave, struct kv_slice add)
{
    struct kv_buf text = {0};
    struct kv_slice name = {0};
    while (exec_names_next(&names, &name)) {
        if (kv_slice_eq(name, leave)) continue;
        kv_buf_append_slice(&text, name);
        kv_buf_append_u8(&text, '\n');
    }
    if (add.size > 0) {
        kv_buf_append_slice(&text, add);
        kv_buf_append_u8(&text, '\n');
    }
    if (text.failed) x->failed = KV_IO;
    bool ok = !text.failed && put_row(x, EXEC_ROW_NAMES, kv_buf_slice(&text));
    kv_buf_free(&text);
    return ok;
}

void directory_reply(struct exec *x, const struct kv_keyspace *k)
{
    struct kv_buf bytes = {0};
    kv_keyspace_encode(k, &bytes);
    if (bytes.failed) x->failed = KV_IO;
    else resp_put_bulk(x->reply, kv_buf_slice(&bytes));
    kv_buf_free(&bytes);
}

static bool is_place(struct exec *x)
{
    return x->place != NULL || exec_deny(x, KV_BAD_ARGUMENT, "keyspaces are partition %d's", KV_PARTITION_SYSTEM);
}

/* ---- creation ---- */

/* Each label its number, and the unlisted ones theirs behind those of the default group, so that every group is
 * one run of buckets. */
static bool number_buckets(struct exec *x, struct kv_keyspace *k, struct kv_arena *arena)
{
    uint16_t next = 0;
    for (uint32_t i = 0; i < k->group_count; i++) {
        struct kv_label_group *g = &k->groups[i];
        for (uint32_t n = 0; n < g->label_count; n++) g->labels[n].bucket = next++;
        if (kv_slice_eq(g->name, k->default_group)) k->rest = next++;
    }
    if (kv_keyspace_rule(k, arena) == KV_OK) return true;
    x->failed = KV_IO; /* duplicates were refused before: memory */
    return false;
}

/* Buckets [*first, *end) of a group; numbered in order (number_buckets). */
static void bucket_range(const struct kv_keyspace *k, uint32_t group, uint32_t *first, uint32_t *end)
{
    *first = *end = 0;
    for (uint32_t i = 0; i <= group; i++) {
        *first = *end;
        *end += k->groups[i].label_count + kv_slice_eq(k->groups[i].name, k->default_group);
    }
}

static void range_start(const struct kv_keyspace *k, uint32_t at, uint32_t bucket, struct kv_key *out)
{
    if (at == k->partitions) {
        kv_key_end(k->kind, k->id, out);
        return;
    }
    switch (k->kind) {
    case KV_KEY_HASH: kv_key_slot_start(k->id, (uint16_t)(at * KV_SLOTS / k->partitions), out); break;
    case KV_KEY_RANGE: (void)kv_key_range(k->id, at == 0 ? kv_slice(NULL, 0) : k->splits[at - 1], out); break;
    case KV_KEY_LIST: kv_key_bucket_start(k->id, (uint16_t)bucket, out); break;
    }
}

void exec_partition(const struct kv_keyspace *k, uint32_t at, struct descriptor *out)
{
    uint32_t first = 0, end = 0;
    if (k->kind == KV_KEY_LIST) bucket_range(k, at, &first, &end);
    *out = (struct descriptor){.id = k->first_partition + at,
                               .keyspace = k->id,
                               .kind = (enum descriptor_kind)k->kind,
                               .range_epoch = 1,
                               .conf_epoch = 1,
                               .replica_next = k->replicas + 1,
                               .value_bytes_max = k->value_bytes_max,
                               .dedup_retention_ms = k->dedup_retention_ms};
    range_start(k, at, first, &out->from);
    range_start(k, at + 1, end, &out->to);
    /* The first replica leads by preference; they go round the nodes by partition. */
    for (uint32_t i = 0; i < k->replicas && k->node_count > 0; i++)
        out->replicas[out->replica_count++] = (struct descriptor_replica){
            .id = i + 1,
            .node = k->nodes[(out->id + i) % k->node_count],
            .role = DESCRIPTOR_VOTER,
            .store = k->has_stores ? k->stores[(out->id + i) % k->node_count] : 0};
}

bool exec_partition_list(const struct kv_keyspace *k, uint32_t at, struct kv_buf *out)
{
    uint32_t first, end;
    if (k->kind != KV_KEY_LIST) return true;
    bucket_range(k, at, &first, &end);
    descriptor_list_encode(&k->rule, first, end, out);
    return !out->failed;
}

static bool bear(struct exec *x, const struct kv_keyspace *k)
{
    x->born = kv_arena_alloc(&x->born_memory, k->partitions * sizeof *x->born);
    for (uint32_t i = 0; x->born != NULL && i < k->partitions; i++) {
        struct descriptor *d = &x->born[x->born_count++];
        exec_partition(k, i, d);
        for (uint32_t r = 0; r < d->replica_count; r++) d->replicas[r].store = x->place->stores[(d->id + r) % k->node_count];
        if (k->kind == KV_KEY_LIST) {
            struct kv_buf list = {0};
            d->list = !exec_partition_list(k, i, &list) ? kv_slice(NULL, 0) : kv_arena_copy(&x->born_memory, kv_buf_slice(&list));
            kv_buf_free(&list);
            if (d->list.data == NULL) break;
        }
        if (i + 1 == k->partitions) return true;
    }
    x->failed = KV_IO;
    return false;
}

static bool refuse_places(struct exec *x, const struct kv_keyspace *k)
{
    char list[KV_REPLICAS_MAX * 12] = "";
    int size = 0;
    for (uint32_t i = 0; i < k->node_count; i++) size += snprintf(list + size, sizeof list - (size_t)size, "%s%u", i == 0 ? "" : ", ", k->nodes[i]);
    return exec_deny(x, KV_CONDITION, "%u replicas need %u nodes with the role storage, %u can take some: %s; next: --replicas %u, or add nodes",
                     k->replicas, k->replicas, k->node_count, list, k->node_count);
}

static bool check_place(struct exec *x, struct kv_keyspace *k)
{
    uint32_t nodes = k->has_stores ? k->node_count : x->place->node_count;
    if (k->replicas == 0) k->replicas = nodes < REPLICAS_DEFAULT ? nodes : REPLICAS_DEFAULT;
    if (k->replicas > nodes && k->has_stores) return refuse_places(x, k);
    if (k->replicas > nodes)
        return exec_deny(x, KV_CONDITION, "%u replicas need %u nodes, the cluster has %u; next: --replicas %u, or add nodes", k->replicas,
                         k->replicas, nodes, nodes);
    if (k->value_bytes_max == 0) k->value_bytes_max = x->value_bytes_max;
    if (k->value_bytes_max > x->value_bytes_max)
        return exec_deny(x, KV_CONDITION, "values of %u bytes are over this cluster's limit of %u (limit.value)", k->value_bytes_max,
                         x->value_bytes_max);
    if (k->dedup_retention_ms == 0) k->dedup_retention_ms = x->place->dedup_retention_ms;
    if (!k->has_stores) memcpy(k->nodes, x->place->nodes, nodes * sizeof k->nodes[0]);
    k->node_count = nodes;
    return true;
}

static void create(struct exec *x, const struct kv_slice *a, struct kv_arena *arena)
{
    struct kv_keyspace k = {0};
    struct exec_entry e, names;
    uint8_t row[EXEC_ROW_NAME_BYTES_MAX];
    uint32_t count = 0, given;
    if (!wanted(x, a, arena, &k) || !exec_load(x, exec_keyspace_row(k.name, row), &e)) return;
    if (!is_place(x) || !check_place(x, &k)) return;
    if (e.live) {
        exec_deny(x, KV_CONDITION, "keyspace '%.*s' is there; next: kvctl keyspace show %.*s, or choose another name", SHOWN(k.name),
                  SHOWN(k.name));
        return;
    }
    if (!load_number(x, EXEC_ROW_KEYSPACE, EXEC_KEYSPACE_FIRST, &k.id) ||
        !load_number(x, EXEC_ROW_PARTITION, 0, &given) ||
        !exec_load(x, kv_str(EXEC_ROW_NAMES), &names))
        return;
    struct kv_slice rest = names.live ? names.value.payload : kv_slice(NULL, 0), text = rest, name = {0};
    while (exec_names_next(&rest, &name)) count++;
    if (count >= KV_KEYSPACES_MAX) {
        exec_deny(x, KV_CONDITION, "there are %u keyspaces, the limit; next: kvctl keyspace drop one", count);
        return;
    }
    k.first_partition = given + KV_PARTITIONS_DEFAULT + 1;
    if (!number_buckets(x, &k, arena) || (!k.has_stores && !bear(x, &k))) return; /* place.c */
    struct kv_buf bytes = {0};
    kv_keyspace_encode(&k, &bytes);
    if (bytes.failed) x->failed = KV_IO;
    else exec_put(x, &e.key, kv_buf_slice(&bytes), 0, 0);
    put_number(x, EXEC_ROW_KEYSPACE, k.id + 1);
    put_number(x, EXEC_ROW_PARTITION, given + k.partitions);
    directory_put_names(x, text, kv_slice(NULL, 0), k.name);
    kv_buf_free(&bytes);
    directory_reply(x, &k);
}

void exec_kscreate(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct kv_arena arena = {0};
    create(x, a, &arena);
    kv_arena_free(&arena);
}

uint32_t exec_births_max(enum kv_op op, const struct kv_slice *args, uint32_t arg_count)
{
    struct kv_arena arena = {0};
    struct kv_keyspace k = {0};
    uint32_t count = 0;
    if (op != KV_OP_KSCREATE || arg_count != 2) return 0;
    if (kv_keyspace_decode(args[1], &arena, &k) == KV_OK) {
        if (k.kind == KV_KEY_HASH) count = k.partitions == 0 ? KV_PARTITIONS_DEFAULT : k.partitions;
        else count = k.kind == KV_KEY_RANGE ? k.split_count + 1 : k.group_count;
    }
    kv_arena_free(&arena);
    return count;
}

const struct exec_place *exec_place_read(const struct descriptor *d, struct exec_place *out)
{
    out->node_count = 0;
    out->dedup_retention_ms = d->dedup_retention_ms;
    for (uint32_t i = 0; i < d->replica_count; i++)
        if (d->replicas[i].role == DESCRIPTOR_VOTER || d->replicas[i].role == DESCRIPTOR_VOTER_INCOMING) {
            out->stores[out->node_count] = d->replicas[i].store;
            out->nodes[out->node_count++] = d->replicas[i].node;
        }
    return out;
}

/* ---- the others ---- */

/* The live row of a keyspace; of `default` perhaps none. */
bool directory_load(struct exec *x, struct kv_slice name, struct exec_entry *e)
{
    uint8_t row[EXEC_ROW_NAME_BYTES_MAX];
    if (!directory_check_name(x, "keyspace", name) || !exec_load(x, exec_keyspace_row(name, row), e) || !is_place(x)) return false;
    return e->live || kv_slice_eq(name, exec_keyspace_default.name) || exec_deny(x, KV_NO_KEYSPACE, "'%.*s'", SHOWN(name));
}

/* Jobs of the keyspace: the coordinator's end with it; those that somebody asked for forbid it, unless `force`. */
static bool end_jobs(struct exec *x, struct exec_board *b, uint32_t keyspace, bool force, struct kv_arena *arena)
{
    for (uint32_t i = 0; i < b->open_count;) {
        struct kv_job j;
        if (!exec_job_load(x, b->open[i], arena, &j)) return false;
        if (j.keyspace != keyspace || j.kind == KV_JOB_DRAIN) {
            i++;
            continue;
        }
        if (!j.automatic && !force)
            return exec_deny(x, KV_CONDITION, "job %" PRIu64 " of the keyspace (%s) is %s; next: kvctl job wait %" PRIu64 ", or drop with --force", j.id,
                             kv_job_kind_text(j.kind), kv_job_state_text(j.state), j.id);
        j.note = kv_str("the keyspace was dropped");
        if (!exec_job_end(x, b, &j, KV_JOB_CANCELLED)) return false;
    }
    return true;
}

/* All in one entry: whoever applies it knows that the partitions are to go, and an id below the next
 * that has no row is never heard of again. Without JOB it is as it was before there were jobs: so stand entries in old logs. */
static void drop(struct exec *x, const struct kv_slice *a, uint32_t n, struct kv_arena *arena)
{
    struct exec_entry e, names;
    struct exec_board b;
    struct kv_keyspace k;
    if (kv_slice_eq(a[0], exec_keyspace_default.name) || kv_slice_eq(a[0], kv_str("system"))) {
        exec_deny(x, KV_CONDITION, "keyspace '%.*s' cannot be dropped; next: FLUSHALL deletes all keys of `default`", SHOWN(a[0]));
        return;
    }
    bool force = n == 2 && exec_word(a[1], "FORCE");
    if (n == 2 && !force && !exec_word(a[1], "JOB")) {
        exec_deny(x, KV_BAD_ARGUMENT, "KSDROP name [JOB | FORCE]");
        return;
    }
    if (!directory_load(x, a[0], &e) || !exec_load(x, kv_str(EXEC_ROW_NAMES), &names)) return;
    if (kv_keyspace_decode(e.value.payload, arena, &k) != KV_OK) {
        x->failed = KV_CORRUPT;
        return;
    }
    struct kv_job j = {.kind = KV_JOB_DROP, .keyspace = k.id, .name = k.name, .unit = kv_str("replicas"), .reason = kv_str("asked for")};
    uint32_t open_before;
    if (!exec_board_load(x, &b)) return;
    open_before = b.open_count;
    if (!end_jobs(x, &b, k.id, force, arena) || (n == 2 && !exec_job_open(x, &b, &j))) return;
    if ((n == 2 || b.open_count != open_before) && !exec_board_put(x, &b)) return;
    exec_delete(x, &e.key);
    directory_put_names(x, names.live ? names.value.payload : kv_slice(NULL, 0), a[0], kv_slice(NULL, 0));
    resp_put_bulk(x->reply, e.value.payload);
}

void exec_ksdrop(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    struct kv_arena arena = {0};
    drop(x, a, n, &arena);
    kv_arena_free(&arena);
}

static void show(struct exec *x, const struct exec_entry *e)
{
    if (e->live) resp_put_bulk(x->reply, e->value.payload);
    else directory_reply(x, &exec_keyspace_default);
}

void exec_kslist(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)a;
    (void)n;
    struct exec_entry names, e;
    struct kv_slice rest = {0}, name = {0}, all;
    size_t count = 1;
    if (!exec_load(x, kv_str(EXEC_ROW_NAMES), &names) || !directory_load(x, exec_keyspace_default.name, &e)) return;
    if (names.live) rest = names.value.payload;
    all = rest;
    while (exec_names_next(&rest, &name)) count++;
    resp_put_array(x->reply, count);
    show(x, &e);
    while (exec_names_next(&all, &name)) {
        uint8_t row[EXEC_ROW_NAME_BYTES_MAX];
        if (!exec_load(x, exec_keyspace_row(name, row), &e)) return;
        if (!e.live) {
            x->failed = KV_CORRUPT; /* both rows change in one entry */
            return;
        }
        resp_put_bulk(x->reply, e.value.payload);
    }
}

void exec_ksshow(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct exec_entry e;
    if (directory_load(x, a[0], &e)) show(x, &e);
}

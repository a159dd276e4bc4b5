#include "server/exec_directory_impl.h"
#include "server/exec_jobs.h"
#include "server/exec_nodes.h"

/* KSALTER: what a keyspace is to be, replicas, zones and more labels, in one entry that opens a job. */

/* The list is the same, and as of this entry: all nodes read its rows again. */
static bool touch_names(struct exec *x)
{
    struct exec_entry names;
    return exec_load(x, kv_str(EXEC_ROW_NAMES), &names) &&
           directory_put_names(x, names.live ? names.value.payload : kv_slice(NULL, 0), kv_slice(NULL, 0), kv_slice(NULL, 0));
}

bool exec_keyspace_restore(struct exec *x, struct kv_slice name, struct kv_slice row)
{
    struct exec_entry e;
    uint8_t key[EXEC_ROW_NAME_BYTES_MAX];
    if (!exec_load(x, exec_keyspace_row(name, key), &e)) return false;
    return !e.live || (exec_put(x, &e.key, row, 0, 0) && touch_names(x));
}

static bool check_zones(struct exec *x, const struct kv_keyspace *k)
{
    for (uint32_t i = 0; i < k->zone_count; i++) {
        if (!directory_check_name(x, "zone", k->zones[i])) return false;
        for (uint32_t n = 0; n < i; n++)
            if (kv_slice_eq(k->zones[n], k->zones[i])) return exec_deny(x, KV_BAD_ARGUMENT, "zone '%.*s' is given twice", SHOWN(k->zones[i]));
    }
    return true;
}

static const struct kv_label *label_of(const struct kv_label_group *g, struct kv_slice text)
{
    for (uint32_t i = 0; i < g->label_count; i++)
        if (kv_slice_eq(g->labels[i].text, text)) return &g->labels[i];
    return NULL;
}

static const struct kv_label_group *group_of(const struct kv_keyspace *k, struct kv_slice name)
{
    for (uint32_t i = 0; i < k->group_count; i++)
        if (kv_slice_eq(k->groups[i].name, name)) return &k->groups[i];
    return NULL;
}

/* No label leaves its group: its keys would have no place. */
static bool keeps_labels(struct exec *x, const struct kv_keyspace *old, const struct kv_keyspace *k)
{
    for (uint32_t i = 0; i < old->group_count; i++) {
        const struct kv_label_group *g = &old->groups[i], *same = group_of(k, g->name);
        if (same == NULL) return exec_deny(x, KV_BAD_ARGUMENT, "group '%.*s' cannot be taken away; next: keep it", SHOWN(g->name));
        for (uint32_t n = 0; n < g->label_count; n++)
            if (label_of(same, g->labels[n].text) == NULL)
                return exec_deny(x, KV_BAD_ARGUMENT, "label '%.*s' cannot leave group '%.*s': its keys would have no place; next: keep it",
                                 SHOWN(g->labels[n].text), SHOWN(g->name));
    }
    return true;
}

/* Old labels keep their numbers, new ones get those behind: so they lie in the last partition, group by group. */
static bool number_new(struct exec *x, const struct kv_keyspace *old, struct kv_keyspace *k, struct kv_arena *arena, bool *grows)
{
    uint32_t next = old->rule.label_count + old->rule.has_rest;
    *grows = false;
    for (uint32_t i = 0; i < k->group_count; i++) {
        const struct kv_label_group *g = &k->groups[i], *before = group_of(old, g->name);
        for (uint32_t n = 0; n < g->label_count; n++) {
            const struct kv_label *was = before == NULL ? NULL : label_of(before, g->labels[n].text);
            *grows = *grows || was == NULL;
            g->labels[n].bucket = was != NULL ? was->bucket : (uint16_t)next++;
        }
    }
    if (*grows && old->rule.has_rest)
        return exec_deny(x, KV_CONDITION, "labels that nobody listed live in group '%.*s', and may have keys there; next: create another keyspace, export and import",
                         SHOWN(old->default_group));
    k->rest = old->rest;
    if (kv_keyspace_rule(k, arena) == KV_OK) return true;
    x->failed = KV_IO; /* duplicates were refused before: memory */
    return false;
}

static bool check_groups(struct exec *x, const struct kv_keyspace *old, struct kv_keyspace *k, struct kv_arena *arena, bool *grows)
{
    *grows = false;
    if (old->kind != KV_KEY_LIST) return true;
    uint32_t partitions = k->partitions; /* as they were at creation */
    if (k->delimiter != old->delimiter || !kv_slice_eq(k->default_group, old->default_group))
        return exec_deny(x, KV_BAD_ARGUMENT, "neither delimiter nor default group can change; next: create another keyspace, export and import");
    if (!directory_check_list(x, k) || !keeps_labels(x, old, k)) return false;
    k->partitions = partitions;
    return number_new(x, old, k, arena, grows);
}

/* What of it cannot change is refused by name. */
static bool check_alter(struct exec *x, const struct kv_keyspace *old, const struct kv_keyspace *k)
{
    uint32_t nodes;
    if (old->kind != k->kind)
        return exec_deny(x, KV_BAD_ARGUMENT, "'%.*s' is a %s keyspace and cannot become a %s one; next: create another, export and import",
                         SHOWN(old->name), kv_key_kind_text(old->kind), kv_key_kind_text(k->kind));
    if (old->id != k->id) return exec_deny(x, KV_CONDITION, "'%.*s' is another keyspace by now; next: kvctl keyspace show it", SHOWN(old->name));
    if (k->replicas == 0) return exec_deny(x, KV_BAD_ARGUMENT, "a keyspace has at least one replica");
    if (!exec_nodes_in(x, k->zones, k->zone_count, &nodes)) return false;
    if (k->replicas > nodes && k->zone_count == 0)
        return exec_deny(x, KV_CONDITION, "%u replicas need %u nodes, the cluster has %u; next: --replicas %u, or add nodes", k->replicas, k->replicas, nodes,
                         nodes);
    if (k->replicas > nodes)
        return exec_deny(x, KV_CONDITION, "%u replicas need %u nodes, these zones have %u; next: fewer --replicas, or more --zones", k->replicas, k->replicas,
                         nodes);
    return true;
}

/* The job that an earlier alteration left ends here: what is wanted now is what the row says. */
static bool supersede(struct exec *x, struct exec_board *b, uint32_t keyspace, struct kv_arena *arena)
{
    uint64_t id;
    struct kv_job j;
    if (!exec_job_on(x, 'k', keyspace, &id)) return false;
    if (id == 0) return true;
    if (!exec_job_load(x, id, arena, &j)) return false;
    j.note = kv_str("altered again");
    return exec_job_end(x, b, &j, KV_JOB_CANCELLED);
}

/* The row as it is; `default` has one from its first alteration on. */
static bool load_row(struct exec *x, struct kv_slice name, struct kv_arena *arena, struct exec_entry *e, struct kv_slice *row)
{
    struct kv_buf bytes = {0};
    if (!directory_load(x, name, e)) return false;
    *row = e->value.payload;
    if (e->live) return true;
    kv_keyspace_encode(&exec_keyspace_default, &bytes);
    *row = kv_arena_copy(arena, kv_buf_slice(&bytes));
    if (bytes.failed || row->data == NULL) x->failed = KV_IO;
    kv_buf_free(&bytes);
    return x->failed == KV_OK;
}

static void alter(struct exec *x, const struct kv_slice *a, struct kv_arena *arena)
{
    struct exec_entry e;
    struct kv_keyspace old, k;
    struct exec_board b;
    struct kv_slice row;
    if (!directory_check_name(x, "keyspace", a[0])) return;
    enum kv_err err = a[1].size > DIRECTORY_WANTED_BYTES_MAX ? KV_TOO_BIG : kv_keyspace_decode(a[1], arena, &k);
    if (err != KV_OK) {
        if (err == KV_CONFLICT) directory_refuse_twice(x, &k);
        else exec_deny(x, KV_BAD_ARGUMENT, "the keyspace's description does not parse, or is over a limit: %d labels, %d bytes a label", KV_LABELS_MAX, KV_LABEL_BYTES_MAX);
        return;
    }
    if (!check_zones(x, &k) || !load_row(x, a[0], arena, &e, &row)) return;
    if (kv_keyspace_decode(row, arena, &old) != KV_OK) {
        x->failed = KV_CORRUPT;
        return;
    }
    struct kv_job j = {.kind = KV_JOB_ALTER, .keyspace = old.id, .name = old.name, .before = row, .unit = kv_str("partitions"), .reason = kv_str("asked for")};
    struct kv_buf now = {0}, then = {0};
    bool grows;
    if (!check_alter(x, &old, &k) || !check_groups(x, &old, &k, arena, &grows) || !exec_board_load(x, &b) || !supersede(x, &b, old.id, arena)) return;
    struct kv_keyspace next = old;
    next.replicas = k.replicas;
    next.zone_count = k.zone_count;
    memcpy(next.zones, k.zones, sizeof next.zones);
    kv_keyspace_encode(&next, &now);
    next.groups = k.groups;
    next.group_count = k.group_count;
    kv_keyspace_encode(&next, &then);
    if (grows) j.after = kv_buf_slice(&then); /* whoever knew the labels before their partition does would be refused there */
    if (now.failed || then.failed) x->failed = KV_IO;
    else if (exec_job_open(x, &b, &j) && exec_board_put(x, &b) && exec_put(x, &e.key, kv_buf_slice(&now), 0, 0) && touch_names(x)) directory_reply(x, &next);
    kv_buf_free(&now);
    kv_buf_free(&then);
}

void exec_ksalter(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    struct kv_arena arena = {0};
    alter(x, a, &arena);
    kv_arena_free(&arena);
}

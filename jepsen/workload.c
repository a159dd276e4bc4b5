#include "jepsen/workload.h"
#include "client/base/hash.h"
#include "client/base/key.h"
#include "client/base/text.h"
#include <stdio.h>

enum { TTL_MS_MIN = 300,
       TTL_MS_SPAN = 900,
       TTL_WATCH_MS = 1500,
       ID_BLOCK = 10 };

static uint64_t below(struct chooser *ch, uint64_t n)
{
    return kv_random_next(&ch->random) % n;
}

static void key_make(const struct plan *p, uint32_t lane, uint32_t generation, const char *part, char key[KEY_BYTES])
{
    snprintf(key, KEY_BYTES, "{t%u}%s-%u%s", p->lanes[lane].tag, p->workload->name, generation, part);
}

/* ---- choosing ---- */

/* A lane, with a fresh key if its last one has had enough. */
static uint32_t lane_choose(struct plan *p, struct chooser *ch)
{
    uint32_t i = (uint32_t)below(ch, LANES);
    struct lane *l = &p->lanes[i];
    if (l->generation == 0 || l->chosen >= p->workload->ops_per_key) {
        l->generation++;
        l->chosen = 0;
        l->next_value = 1;
    }
    l->chosen++;
    if (ch->known[i].generation != l->generation) ch->known[i] = (struct known){.generation = l->generation};
    return i;
}

static struct op *script_add(struct plan *p, struct chooser *ch, enum history_f f, uint32_t lane)
{
    struct op *op = &ch->script[ch->script_count++];
    *op = (struct op){.f = f};
    key_make(p, lane, p->lanes[lane].generation, "", op->key);
    return op;
}

/* A client of libkv may ask any replica: half of its reads at one of the other levels. */
static void read_add(struct plan *p, struct chooser *ch, uint32_t lane)
{
    struct op *op = script_add(p, ch, HISTORY_READ, lane);
    if (!ch->native || below(ch, 2) == 0) return;
    op->level = KV_LEVEL_LEASE + (enum kv_level)below(ch, 3);
    if (op->level == KV_LEVEL_BOUNDED) op->bounded_ms = UINT32_C(50) << below(ch, 4);
}

static void choose_register(struct plan *p, struct chooser *ch)
{
    uint32_t lane = lane_choose(p, ch);
    if (below(ch, 2) == 0) read_add(p, ch, lane);
    else script_add(p, ch, HISTORY_WRITE, lane)->value = p->lanes[lane].next_value++;
}

/* Redis has no compare-and-set but SET NX; the native door compares a value or a version, and
 * deletes by version, which makes room for the next SET NX. */
static void choose_cas(struct plan *p, struct chooser *ch)
{
    uint32_t lane = lane_choose(p, ch);
    const struct known *known = &ch->known[lane];
    uint64_t dice = below(ch, 10);
    if (dice < 3 || (!known->is_seen && dice < 6)) {
        script_add(p, ch, HISTORY_READ, lane);
        return;
    }
    if (dice < 4) {
        script_add(p, ch, HISTORY_WRITE, lane)->value = p->lanes[lane].next_value++;
        return;
    }
    struct op *op = script_add(p, ch, HISTORY_CAS, lane);
    op->value = p->lanes[lane].next_value++;
    op->old_is_null = true;
    if (!ch->native || !known->is_seen || known->is_null) return;
    op->old_is_null = false;
    op->old = known->value;
    if (dice >= 7) op->version = known->version;
    op->new_is_null = dice == 9 && known->version.index != 0;
}

static void choose_set(struct plan *p, struct chooser *ch)
{
    uint32_t lane = lane_choose(p, ch);
    if (below(ch, 4) == 0) read_add(p, ch, lane);
    else script_add(p, ch, HISTORY_ADD, lane)->value = p->lanes[lane].next_value++;
}

static void choose_counter(struct plan *p, struct chooser *ch)
{
    uint32_t lane = lane_choose(p, ch);
    if (below(ch, 3) == 0) script_add(p, ch, HISTORY_READ, lane);
    else script_add(p, ch, HISTORY_INCR, lane)->value = 1 + (int64_t)below(ch, 5);
}

static void choose_append(struct plan *p, struct chooser *ch)
{
    uint32_t lane = lane_choose(p, ch);
    if (below(ch, 3) == 0) script_add(p, ch, HISTORY_READ, lane);
    else script_add(p, ch, HISTORY_APPEND, lane)->value = p->lanes[lane].next_value++;
}

/* Two keys in two partitions: written a then b, read b then a. Who has seen b's value must see
 * an a at least as new; since linearizability is local, each key's verdict says so. */
static void choose_sequential(struct plan *p, struct chooser *ch)
{
    uint32_t lane = lane_choose(p, ch), other = (lane + 1) % LANES;
    bool reads = below(ch, 2) == 0;
    struct op *first = script_add(p, ch, reads ? HISTORY_READ : HISTORY_WRITE, lane);
    struct op *second = script_add(p, ch, first->f, lane);
    uint32_t generation = p->lanes[lane].generation;
    first->ends_script = !reads;
    first->value = second->value = reads ? 0 : p->lanes[lane].next_value++;
    key_make(p, lane, generation, "a", reads ? second->key : first->key);
    key_make(p, other, generation, "b", reads ? first->key : second->key);
}

/* Each key is written once, with a deadline; the worker that writes it also tells the history when
 * it may be gone and when it must be (worker.c). */
static void choose_ttl(struct plan *p, struct chooser *ch)
{
    uint32_t lane = (uint32_t)below(ch, LANES);
    struct lane *l = &p->lanes[lane];
    uint64_t now_ns = env_now_ns(p->env);
    if (l->generation != 0 && now_ns < l->busy_until_ns) {
        script_add(p, ch, HISTORY_READ, lane);
        return;
    }
    l->generation++;
    struct op *op = script_add(p, ch, HISTORY_WRITE, lane);
    op->value = l->generation;
    op->ttl_ms = TTL_MS_MIN + (uint32_t)below(ch, TTL_MS_SPAN);
    l->busy_until_ns = now_ns + KV_MS(op->ttl_ms + TTL_WATCH_MS);
}

/* Ids handed out in blocks: the result of an increment is the end of a block that nobody else may get. */
static void choose_ids(struct plan *p, struct chooser *ch)
{
    struct op *op = script_add(p, ch, HISTORY_INCR, lane_choose(p, ch));
    op->value = ID_BLOCK;
    op->wants_result = true;
}

static const struct workload workloads[] = {
    {"register", "reads, of libkv at all levels, and writes", SHAPE_NUMBER, 400, choose_register},
    {"cas", "reads, writes, compare-and-set, put if absent, delete by version", SHAPE_NUMBER, 120, choose_cas},
    {"set", "SETBIT of elements, each once; reads of the whole, of libkv at all levels", SHAPE_BITS, 300, choose_set},
    {"counter", "increments and reads", SHAPE_NUMBER, 250, choose_counter},
    {"append", "appends to a list, reads of the whole", SHAPE_LIST, 250, choose_append},
    {"sequential", "pairs over two partitions, written in order and read in reverse", SHAPE_NUMBER, 200,
     choose_sequential},
    {"ttl", "keys that expire: not early, not late, never back", SHAPE_NUMBER, 0, choose_ttl},
    {"ids", "blocks of unique ids by increments", SHAPE_NUMBER, 250, choose_ids},
};
enum { WORKLOADS = sizeof workloads / sizeof workloads[0] };

const struct workload *workload_at(uint32_t i)
{
    return i < WORKLOADS ? &workloads[i] : NULL;
}

const struct workload *workload_find(const char *name)
{
    for (uint32_t i = 0; i < WORKLOADS; i++)
        if (strcmp(workloads[i].name, name) == 0) return &workloads[i];
    return NULL;
}

/* ---- the plan ---- */

/* Lanes in partitions of their own: the nodes cut the slots into equal runs. */
void plan_init(struct plan *p, const struct workload *w, struct env *env, uint64_t seed)
{
    *p = (struct plan){.workload = w, .env = env};
    bool taken[KV_PARTITIONS_DEFAULT] = {false};
    for (uint32_t i = 0; i < LANES; i++)
        for (;;) {
            char tag[24];
            p->lanes[i].tag = (uint32_t)(kv_random_next(&seed) % 1000);
            snprintf(tag, sizeof tag, "t%u", p->lanes[i].tag);
            uint32_t partition = kv_slot(kv_str(tag)) / (KV_SLOTS / KV_PARTITIONS_DEFAULT);
            if (taken[partition]) continue;
            taken[partition] = true;
            break;
        }
}

const struct op *plan_next(struct plan *p, struct chooser *ch)
{
    if (ch->script_next == ch->script_count) {
        ch->script_next = ch->script_count = 0;
        p->workload->choose(p, ch);
    }
    return &ch->script[ch->script_next++];
}

void plan_saw(struct plan *p, struct chooser *ch, const struct op *op, bool is_null, int64_t value,
              struct kv_version version)
{
    for (uint32_t i = 0; i < LANES; i++) {
        char key[KEY_BYTES];
        key_make(p, i, p->lanes[i].generation, "", key);
        if (strcmp(key, op->key) != 0) continue;
        ch->known[i] = (struct known){.generation = p->lanes[i].generation,
                                      .is_seen = true,
                                      .is_null = is_null,
                                      .value = value,
                                      .version = version};
    }
}

static bool has_pairs(const struct plan *p)
{
    return p->workload->choose == choose_sequential;
}

uint32_t plan_keys(const struct plan *p)
{
    uint32_t keys = 0;
    for (uint32_t i = 0; i < LANES; i++) keys += p->lanes[i].generation;
    return has_pairs(p) ? 2 * keys : keys;
}

void plan_key(const struct plan *p, uint32_t i, char key[KEY_BYTES])
{
    bool is_b = has_pairs(p) && i % 2 == 1;
    if (has_pairs(p)) i /= 2;
    uint32_t lane = 0;
    while (i >= p->lanes[lane].generation) i -= p->lanes[lane++].generation;
    key_make(p, is_b ? (lane + 1) % LANES : lane, i + 1, !has_pairs(p) ? "" : is_b ? "b"
                                                                                   : "a",
             key);
}

/* ---- values ---- */

json_t *op_value(const struct op *op)
{
    switch (op->f) {
    case HISTORY_READ:
    case HISTORY_TXN: return json_null();
    case HISTORY_CAS:
        return json_pack("[o,o]", op->old_is_null ? json_null() : json_integer(op->old),
                         op->new_is_null ? json_null() : json_integer(op->value));
    case HISTORY_WRITE:
    case HISTORY_ADD:
    case HISTORY_INCR:
    case HISTORY_APPEND: return json_integer(op->value);
    }
    return NULL;
}

/* SETBIT counts from the highest bit of the first byte. */
static json_t *bits_value(struct kv_slice bytes)
{
    json_t *list = json_array();
    for (size_t i = 0; i < 8 * bytes.size; i++)
        if ((bytes.data[i / 8] & (0x80u >> (i % 8))) != 0) json_array_append_new(list, json_integer((json_int_t)i));
    return list;
}

static json_t *list_value(struct kv_slice bytes)
{
    json_t *list = json_array();
    for (size_t from = 0, to; from < bytes.size; from = to + 1) {
        for (to = from; to < bytes.size && bytes.data[to] != ','; to++) {
        }
        int64_t number;
        if (to == bytes.size || !kv_parse_i64(kv_slice(bytes.data + from, to - from), &number)) {
            json_decref(list);
            return NULL;
        }
        json_array_append_new(list, json_integer(number));
    }
    return list;
}

json_t *shape_value(enum shape shape, struct kv_slice bytes, bool is_null)
{
    int64_t number;
    switch (shape) {
    case SHAPE_NUMBER:
        if (is_null) return json_null();
        return kv_parse_i64(bytes, &number) ? json_integer(number) : NULL;
    case SHAPE_BITS: return bits_value(is_null ? kv_slice(NULL, 0) : bytes);
    case SHAPE_LIST: return list_value(is_null ? kv_slice(NULL, 0) : bytes);
    }
    return NULL;
}

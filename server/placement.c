#include "server/placement.h"

#include <stdlib.h>
#include <string.h>

/* Nodes that may take something stand in buckets by how much they have, so that the one with the least is found at once and
 * changes its place in constant time. */
#define NONE UINT32_MAX
enum { TRIES = 64 };

struct place {                 /* of a node */
    uint32_t load, next, prev; /* in its bucket */
    double weight;             /* of what it leads, by load */
    bool listed;
};
struct plan {
    const struct placement_node *nodes;
    struct placement_partition *parts; /* as they will be */
    uint32_t node_count, part_count;
    struct known {
        uint32_t id, at;
    } * by_id; /* positions of nodes */
    struct place *places;
    uint32_t *heads, load_max; /* buckets */
    uint32_t least;            /* no lower bucket holds a node */
    bool *touched;             /* by partition: it has its step */
    enum placement_role role;  /* whose partitions are looked at, and whose nodes stand in buckets */
    struct placement_step *steps;
    uint32_t step_count, steps_max;
};

static int known_order(const void *a, const void *b)
{
    const struct known *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static uint32_t position(const struct plan *p, uint32_t id)
{
    uint32_t low = 0, high = p->node_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (p->by_id[middle].id < id) low = middle + 1;
        else high = middle;
    }
    return low < p->node_count && p->by_id[low].id == id ? p->by_id[low].at : NONE;
}

/* ---- buckets ---- */

static void list_in(struct plan *p, uint32_t n)
{
    struct place *at = &p->places[n];
    at->prev = NONE;
    at->next = p->heads[at->load];
    if (at->next != NONE) p->places[at->next].prev = n;
    p->heads[at->load] = n;
    at->listed = true;
    if (at->load < p->least) p->least = at->load;
}

static void list_out(struct plan *p, uint32_t n)
{
    struct place *at = &p->places[n];
    if (at->prev != NONE) p->places[at->prev].next = at->next;
    else p->heads[at->load] = at->next;
    if (at->next != NONE) p->places[at->next].prev = at->prev;
    at->listed = false;
}

static void load_change(struct plan *p, uint32_t n, int by)
{
    if (n == NONE) return;
    bool listed = p->places[n].listed;
    if (listed) list_out(p, n);
    p->places[n].load = by > 0 ? p->places[n].load + 1 : p->places[n].load - 1;
    if (listed) list_in(p, n);
}

static void loads_begin(struct plan *p)
{
    p->least = 0;
    for (uint32_t i = 0; i <= p->load_max; i++) p->heads[i] = NONE;
    for (uint32_t n = 0; n < p->node_count; n++) {
        p->places[n].listed = false;
        if (p->nodes[n].may_take && !p->nodes[n].must_leave && (p->nodes[n].lacks >> p->role & 1) == 0) list_in(p, n);
    }
}

static uint32_t least_load(struct plan *p)
{
    while (p->least <= p->load_max && p->heads[p->least] == NONE) p->least++;
    return p->least;
}

/* ---- where a replica may go ---- */

static bool holds(const struct placement_partition *part, uint32_t node)
{
    for (uint32_t i = 0; i < part->count; i++)
        if (part->nodes[i] == node) return true;
    return false;
}

static uint32_t zone_of(const struct plan *p, uint32_t node)
{
    uint32_t n = position(p, node);
    return n == NONE ? NONE : p->nodes[n].zone;
}

static bool is_in_zones(const struct placement_partition *part, uint32_t zone)
{
    return !part->is_zoned || (zone < 64 && (part->zones >> zone & 1) != 0);
}

/* Replicas in that zone, of those that will be there when `leaves` has gone. */
static uint32_t in_zone(const struct plan *p, const struct placement_partition *part, uint32_t zone, uint32_t leaves)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < part->count; i++) count += part->nodes[i] != leaves && zone_of(p, part->nodes[i]) == zone;
    return count;
}

/* The node with the least in the zone with the fewest of them, among the first that come to mind; below `load`. */
static uint32_t taker(struct plan *p, const struct placement_partition *part, uint32_t leaves, uint32_t load)
{
    uint32_t best = NONE, best_zone = NONE, tries = 0;
    for (uint32_t l = least_load(p); l < load && l <= p->load_max && tries < TRIES; l++)
        for (uint32_t n = p->heads[l]; n != NONE && tries < TRIES; n = p->places[n].next) {
            if (holds(part, p->nodes[n].id) || !is_in_zones(part, p->nodes[n].zone)) continue;
            tries++;
            uint32_t zone = in_zone(p, part, p->nodes[n].zone, leaves);
            if (zone >= best_zone) continue;
            best = n;
            best_zone = zone;
            if (zone == 0) return best;
        }
    return best;
}

static bool is_full(const struct plan *p)
{
    return p->step_count == p->steps_max;
}

static void step_add(struct plan *p, enum placement_reason reason, uint32_t part, uint32_t from, uint32_t to)
{
    p->touched[part] = true;
    p->steps[p->step_count++] =
        (struct placement_step){.reason = reason, .partition = p->parts[part].id, .from = from, .to = to};
}

/* `at`: of the replica that goes; `count`: none goes. It comes behind the others: it is not preferred as a leader. */
static void take(struct plan *p, enum placement_reason reason, uint32_t part, uint32_t at, uint32_t taker_at)
{
    struct placement_partition *x = &p->parts[part];
    uint32_t from = at < x->count ? x->nodes[at] : 0;
    step_add(p, reason, part, from, p->nodes[taker_at].id);
    if (from != 0) {
        load_change(p, position(p, from), -1);
        memmove(x->nodes + at, x->nodes + at + 1, (x->count - at - 1) * sizeof *x->nodes);
        x->count--;
    }
    x->nodes[x->count++] = p->nodes[taker_at].id;
    load_change(p, taker_at, 1);
}

/* ---- the steps ---- */

static bool must_leave(const struct plan *p, uint32_t node)
{
    uint32_t n = position(p, node);
    return n == NONE || p->nodes[n].must_leave || (p->nodes[n].lacks >> p->role & 1) != 0;
}

static bool is_to_leave(const struct plan *p, const struct placement_partition *x, uint32_t node)
{
    return must_leave(p, node) || !is_in_zones(x, zone_of(p, node));
}

/* Nodes with a replica that are there, but for `leaves`. */
static uint32_t present(const struct plan *p, const struct placement_partition *x, uint32_t leaves)
{
    uint32_t count = 0;
    for (uint32_t at = 0; at < x->count; at++) {
        uint32_t n = position(p, x->nodes[at]);
        count += n != NONE && !p->nodes[n].is_away && x->nodes[at] != leaves;
    }
    return count;
}

/* Is `a` to go rather than `b`, places of two replicas? */
static bool goes_rather(const struct plan *p, const struct placement_partition *x, uint32_t a, uint32_t b)
{
    bool leaves = is_to_leave(p, x, x->nodes[a]);
    if (leaves != is_to_leave(p, x, x->nodes[b])) return leaves;
    if (b == 0) return true;
    uint32_t a_zone = in_zone(p, x, zone_of(p, x->nodes[a]), 0), b_zone = in_zone(p, x, zone_of(p, x->nodes[b]), 0);
    if (a_zone != b_zone) return a_zone > b_zone;
    uint32_t n = position(p, x->nodes[a]), m = position(p, x->nodes[b]);
    return n != NONE && m != NONE && p->places[n].load > p->places[m].load;
}

/* One more than wanted ends, no more at a time. Whoever must leave and has another place goes there as it is. */
static void shrink(struct plan *p)
{
    for (uint32_t i = 0; i < p->part_count && !is_full(p); i++) {
        struct placement_partition *x = &p->parts[i];
        uint32_t best = 0;
        if (x->is_busy || p->touched[i] || x->role != p->role || x->count <= x->wanted || x->count < 2) continue;
        for (uint32_t at = 1; at < x->count; at++)
            if (goes_rather(p, x, at, best)) best = at;
        if (present(p, x, x->nodes[best]) < x->wanted / 2 + 1) continue;
        step_add(p, PLACEMENT_SHRINK, i, x->nodes[best], 0);
        load_change(p, position(p, x->nodes[best]), -1);
        memmove(x->nodes + best, x->nodes + best + 1, (x->count - best - 1) * sizeof *x->nodes);
        x->count--;
    }
}

static void leave_and_complete(struct plan *p)
{
    for (uint32_t i = 0; i < p->part_count && !is_full(p); i++) {
        struct placement_partition *x = &p->parts[i];
        if (x->is_busy || x->role != p->role) continue;
        uint32_t at = 0;
        while (at < x->count && !is_to_leave(p, x, x->nodes[at])) at++;
        if (at == x->count && x->count >= x->wanted) continue;
        if (at == x->count && x->count == PLACEMENT_REPLICAS_MAX) continue;
        uint32_t to = taker(p, x, at < x->count ? x->nodes[at] : 0, NONE);
        if (to != NONE) take(p, at < x->count ? PLACEMENT_LEAVE : PLACEMENT_COMPLETE, i, at, to);
    }
}

static void spread(struct plan *p)
{
    for (uint32_t i = 0; i < p->part_count && !is_full(p); i++) {
        struct placement_partition *x = &p->parts[i];
        if (x->is_busy || p->touched[i] || x->role != p->role) continue;
        uint32_t at = 0;
        while (at < x->count && in_zone(p, x, zone_of(p, x->nodes[at]), 0) < 2) at++;
        if (at == x->count) continue;
        uint32_t to = taker(p, x, x->nodes[at], NONE);
        if (to != NONE && in_zone(p, x, p->nodes[to].zone, x->nodes[at]) == 0) take(p, PLACEMENT_SPREAD, i, at, to);
    }
}

static bool is_apart(struct plan *p, uint32_t slack)
{
    uint32_t most = 0, least = least_load(p);
    for (uint32_t n = 0; n < p->node_count; n++)
        if (p->places[n].listed && p->places[n].load > most) most = p->places[n].load;
    return least <= p->load_max && most > least + slack;
}

/* Down to what nodes have when all have the same, or one more. */
static uint32_t fair_share(const struct plan *p)
{
    uint64_t sum = 0;
    uint32_t count = 0;
    for (uint32_t n = 0; n < p->node_count; n++)
        if (p->places[n].listed) sum += p->places[n].load, count++;
    return count == 0 ? 0 : (uint32_t)((sum + count - 1) / count);
}

/* From who has more than a fair share to who has less; then from who has just that to who lacks more than one. */
static void balance(struct plan *p, uint32_t slack)
{
    if (!is_apart(p, slack)) return;
    uint32_t share = fair_share(p);
    for (uint32_t over = 0; over < 2; over++)
        for (uint32_t i = 0; i < p->part_count && !is_full(p); i++) {
            struct placement_partition *x = &p->parts[i];
            if (x->is_busy || p->touched[i] || x->role != p->role) continue;
            for (uint32_t at = x->count; at-- > 0;) { /* the preferred leader last */
                uint32_t n = position(p, x->nodes[at]);
                if (n == NONE || !p->places[n].listed || p->places[n].load + over <= share) continue;
                uint32_t to = taker(p, x, x->nodes[at], p->places[n].load - 1);
                bool worse = to == NONE || in_zone(p, x, p->nodes[to].zone, x->nodes[at]) >
                                               in_zone(p, x, p->nodes[n].zone, x->nodes[at]);
                if (worse) continue;
                take(p, PLACEMENT_BALANCE, i, at, to);
                break;
            }
        }
}

static void lead_counts(struct plan *p)
{
    for (uint32_t n = 0; n < p->node_count; n++) p->places[n].load = 0;
    for (uint32_t i = 0; i < p->part_count; i++) {
        uint32_t n = p->parts[i].count == 0 ? NONE : position(p, p->parts[i].nodes[0]);
        if (n != NONE) p->places[n].load++;
    }
}

/* The voter with the least, of those that may take something. */
static uint32_t lead_taker(const struct plan *p, const struct placement_partition *x)
{
    uint32_t best = NONE;
    for (uint32_t at = 1; at < x->count; at++) {
        uint32_t n = position(p, x->nodes[at]);
        if (n == NONE || !p->places[n].listed) continue;
        const struct place *a = &p->places[n], *b = best == NONE ? NULL : &p->places[best];
        if (b == NULL || a->weight < b->weight || (a->weight == b->weight && a->load < b->load)) best = n;
    }
    return best;
}

static void lead_by_count(struct plan *p, uint32_t slack)
{
    if (!is_apart(p, slack)) return;
    for (uint32_t i = 0; i < p->part_count && !is_full(p); i++) {
        const struct placement_partition *x = &p->parts[i];
        if (x->is_busy || x->keeps_lead || p->touched[i] || x->role != p->role || x->count < 2) continue;
        uint32_t first = position(p, x->nodes[0]);
        if (first == NONE) continue;
        uint32_t best = lead_taker(p, x);
        if (best == NONE || p->places[best].load + 1 >= p->places[first].load) continue;
        step_add(p, PLACEMENT_LEAD, i, x->nodes[0], p->nodes[best].id);
        load_change(p, first, -1);
        load_change(p, best, 1);
    }
}

/* ---- leaders by load ---- */

struct weighed {
    double weight;
    uint32_t at;
};

static int weight_order(const void *a, const void *b)
{
    const struct weighed *x = a, *y = b;
    if (x->weight != y->weight) return x->weight > y->weight ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* A tenth of all load counts as if it were every partition's alike, so that those without any are spread too. */
static double weigh(struct plan *p, struct weighed *order, uint64_t load_all)
{
    double each = (double)load_all / 10 / p->part_count, sum = 0;
    uint32_t nodes = 0;
    for (uint32_t n = 0; n < p->node_count; n++) p->places[n].weight = 0;
    for (uint32_t i = 0; i < p->part_count; i++) {
        const struct placement_partition *x = &p->parts[i];
        uint32_t n = x->count == 0 ? NONE : position(p, x->nodes[0]);
        order[i] = (struct weighed){(double)x->load + each, i};
        if (n != NONE) p->places[n].weight += order[i].weight;
    }
    for (uint32_t n = 0; n < p->node_count; n++)
        if (p->places[n].listed) sum += p->places[n].weight, nodes++;
    qsort(order, p->part_count, sizeof *order, weight_order);
    return nodes == 0 ? 0 : sum / nodes;
}

/* The heaviest first, as long as they fit; then whatever leaves the two nodes more alike. Either makes the sum of the squares of
 * all weights less, so it comes to an end. */
static bool lead_by_load(struct plan *p, uint64_t load_all)
{
    struct weighed *order = calloc(p->part_count + 1, sizeof *order);
    if (order == NULL) return false;
    double fair = weigh(p, order, load_all), most = 0;
    for (uint32_t n = 0; n < p->node_count; n++)
        if (p->places[n].listed && p->places[n].weight > most) most = p->places[n].weight;
    bool is_uneven = most * 100 > fair * (100 + PLACEMENT_LOAD_SLACK_PERCENT);
    for (int fits = 1; is_uneven && fits >= 0; fits--)
        for (uint32_t k = 0; k < p->part_count && !is_full(p); k++) {
            const struct placement_partition *x = &p->parts[order[k].at];
            double w = order[k].weight;
            if (x->is_busy || x->keeps_lead || p->touched[order[k].at] || x->role != p->role || x->count < 2) continue;
            uint32_t from = position(p, x->nodes[0]), to = from == NONE ? NONE : lead_taker(p, x);
            if (to == NONE || p->places[from].weight <= fair * 1.02) continue;
            double after = p->places[to].weight + w;
            if (fits ? after > fair * 1.02 : after > p->places[from].weight * 0.97) continue;
            step_add(p, PLACEMENT_LEAD, order[k].at, x->nodes[0], p->nodes[to].id);
            p->places[from].weight -= w;
            p->places[to].weight = after;
        }
    free(order);
    return true;
}

static bool lead(struct plan *p, uint32_t slack)
{
    uint64_t load_all = 0;
    for (uint32_t i = 0; i < p->part_count; i++) load_all += p->parts[i].load;
    if (load_all > 0) return lead_by_load(p, load_all);
    lead_by_count(p, slack);
    return true;
}

static bool prepare(struct plan *p, const struct placement_partition *parts)
{
    uint64_t replicas = 0;
    for (uint32_t i = 0; i < p->part_count; i++) replicas += parts[i].count + parts[i].wanted;
    p->load_max = (uint32_t)replicas + 1;
    p->by_id = calloc(p->node_count + 1, sizeof *p->by_id);
    p->places = calloc(p->node_count + 1, sizeof *p->places);
    p->heads = calloc((size_t)p->load_max + 1, sizeof *p->heads);
    p->touched = calloc(p->part_count + 1, sizeof *p->touched);
    p->parts = calloc(p->part_count + 1, sizeof *p->parts);
    if (p->by_id == NULL || p->places == NULL || p->heads == NULL || p->touched == NULL || p->parts == NULL) return false;
    memcpy(p->parts, parts, p->part_count * sizeof *parts);
    for (uint32_t n = 0; n < p->node_count; n++) p->by_id[n] = (struct known){p->nodes[n].id, n};
    qsort(p->by_id, p->node_count, sizeof *p->by_id, known_order);
    for (uint32_t i = 0; i < p->part_count; i++)
        for (uint32_t k = 0; k < parts[i].count; k++) {
            uint32_t n = position(p, parts[i].nodes[k]);
            if (n != NONE) p->places[n].load++;
        }
    return true;
}

/* Each kind of step for the partitions of all roles before the next kind: the most urgent come first. */
static bool plan_make(struct plan *p, uint32_t slack)
{
    enum kind { LEAVE,
                SHRINK,
                SPREAD,
                BALANCE,
                LEAD,
                KINDS };
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        if (kind == LEAD) lead_counts(p);
        for (uint32_t role = PLACEMENT_ROLES; role-- > 0;) {
            p->role = (enum placement_role)role;
            loads_begin(p);
            switch ((enum kind)kind) {
            case LEAVE: leave_and_complete(p); break;
            case SHRINK: shrink(p); break;
            case SPREAD: spread(p); break;
            case BALANCE: balance(p, slack); break;
            case LEAD:
                if (!lead(p, slack)) return false;
                break;
            case KINDS: break;
            }
        }
    }
    return true;
}

uint32_t placement_plan(const struct placement_node *nodes, uint32_t node_count,
                        const struct placement_partition *partitions, uint32_t partition_count, uint32_t slack,
                        struct placement_step *steps, uint32_t steps_max)
{
    struct plan p = {.nodes = nodes, .node_count = node_count, .part_count = partition_count, .steps = steps, .steps_max = steps_max};
    uint32_t count = UINT32_MAX;
    if (prepare(&p, partitions) && plan_make(&p, slack)) count = p.step_count;
    free(p.by_id);
    free(p.places);
    free(p.heads);
    free(p.touched);
    free(p.parts);
    return count;
}

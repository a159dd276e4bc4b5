#include "client/base/hash.h"
#include "jepsen/run.h"

/* Faults of the network. The proof is the counter of the rules: under a cut Raft's heartbeats alone
 * see to it that packets are dropped. */

static bool cut(struct nemesis *n, struct fault *f, const net_nodes to[NODES_MAX])
{
    static const net_nodes nobody[NODES_MAX] = {0};
    char why[NET_WHY_BYTES];
    if (net_cut(f->number, n->run->options.sabotage.cut ? nobody : to, n->run->nodes.count, why)) return true;
    snprintf(f->detail, sizeof f->detail, "%.110s", why);
    return false;
}

static bool net_end(struct nemesis *n, struct fault *f)
{
    char why[NET_WHY_BYTES];
    (void)n;
    uint64_t dropped = net_dropped(f->number, why);
    if (dropped == UINT64_MAX) {
        snprintf(f->proof, sizeof f->proof, "%.110s", why);
        return false;
    }
    snprintf(f->proof, sizeof f->proof, "%llu packets dropped", (unsigned long long)dropped);
    if (!net_heal(f->number, why)) {
        snprintf(f->proof, sizeof f->proof, "cannot be healed: %.90s", why);
        return false;
    }
    return dropped > 0;
}

static net_nodes all(const struct nemesis *n)
{
    return (1u << n->run->nodes.count) - 1;
}

static void apart(const struct nemesis *n, net_nodes side, net_nodes to[NODES_MAX])
{
    for (uint32_t i = 0; i < n->run->nodes.count; i++) to[i] = (side & (1u << i)) != 0 ? all(n) & ~side : side;
}

static bool split_begin(struct nemesis *n, struct fault *f)
{
    net_nodes to[NODES_MAX];
    char left[FAULT_TEXT_BYTES], right[FAULT_TEXT_BYTES];
    f->nodes = nemesis_some(n, 1 + (uint32_t)nemesis_below(n, (n->run->nodes.count - 1) / 2));
    nodes_text(f->nodes, left);
    nodes_text(all(n) & ~f->nodes, right);
    snprintf(f->detail, sizeof f->detail, "%.50s | %.50s", left, right);
    apart(n, f->nodes, to);
    return cut(n, f, to);
}

static bool leader_begin(struct nemesis *n, struct fault *f)
{
    net_nodes to[NODES_MAX];
    uint32_t leader = nemesis_leader(n);
    f->nodes = 1u << leader;
    snprintf(f->detail, sizeof f->detail, "%u alone", leader + 1);
    apart(n, f->nodes, to);
    return cut(n, f, to);
}

/* Either the minority hears and cannot be heard, or it is heard and cannot hear. */
static bool oneway_begin(struct nemesis *n, struct fault *f)
{
    net_nodes to[NODES_MAX];
    char side[FAULT_TEXT_BYTES];
    f->nodes = nemesis_some(n, 1 + (uint32_t)nemesis_below(n, (n->run->nodes.count - 1) / 2));
    bool deaf = nemesis_below(n, 2) == 0;
    nodes_text(f->nodes, side);
    snprintf(f->detail, sizeof f->detail, "%.50s %s", side, deaf ? "hear nobody" : "are heard by nobody");
    for (uint32_t i = 0; i < n->run->nodes.count; i++) {
        bool inside = (f->nodes & (1u << i)) != 0;
        to[i] = deaf ? (inside ? 0 : f->nodes) : (inside ? all(n) & ~f->nodes : 0);
    }
    return cut(n, f, to);
}

static bool bridge_begin(struct nemesis *n, struct fault *f)
{
    net_nodes to[NODES_MAX];
    char left[FAULT_TEXT_BYTES], right[FAULT_TEXT_BYTES];
    net_nodes side = nemesis_some(n, (n->run->nodes.count - 1) / 2), rest = all(n) & ~side, bridge = rest & -rest;
    f->nodes = side;
    rest &= ~bridge;
    for (uint32_t i = 0; i < n->run->nodes.count; i++)
        to[i] = (side & (1u << i)) != 0 ? rest : (rest & (1u << i)) != 0 ? side : 0;
    nodes_text(side, left);
    nodes_text(rest, right);
    snprintf(f->detail, sizeof f->detail, "%.40s - %d - %.40s", left, __builtin_ctz(bridge) + 1, right);
    return cut(n, f, to);
}

/* In a random circle of the nodes each hears only as many neighbours as make it a majority; of three
 * nodes one link is cut. */
static bool ring_begin(struct nemesis *n, struct fault *f)
{
    uint32_t count = n->run->nodes.count, reach = count / 4 + (count < 4), circle[NODES_MAX];
    net_nodes to[NODES_MAX];
    size_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t k = (uint32_t)nemesis_below(n, i + 1);
        circle[i] = circle[k];
        circle[k] = i;
    }
    for (uint32_t i = 0; i < count; i++) {
        net_nodes near = 0;
        for (uint32_t step = 0; step <= reach; step++)
            near |= 1u << circle[(i + step) % count] | 1u << circle[(i + count - step) % count];
        to[circle[i]] = all(n) & ~near;
        used += (size_t)snprintf(f->detail + used, sizeof f->detail - used, "%s%u", i == 0 ? "" : " - ", circle[i] + 1);
    }
    if (count == 3) {
        to[circle[0]] = 1u << circle[1];
        to[circle[1]] = 1u << circle[0];
    }
    f->nodes = all(n);
    return cut(n, f, to);
}

static bool loss_begin(struct nemesis *n, struct fault *f)
{
    char why[NET_WHY_BYTES];
    uint32_t percent = 5 + (uint32_t)nemesis_below(n, 36);
    f->nodes = all(n);
    snprintf(f->detail, sizeof f->detail, "%u %% of packets", percent);
    if (net_lose(f->number, percent, n->run->nodes.count, why)) return true;
    snprintf(f->detail, sizeof f->detail, "%.110s", why);
    return false;
}

static bool delay_begin(struct nemesis *n, struct fault *f)
{
    char why[NET_WHY_BYTES];
    uint32_t ms_min = (uint32_t)nemesis_below(n, 10), ms_max = ms_min + 5 + (uint32_t)nemesis_below(n, 60);
    uint32_t twice = (uint32_t)nemesis_below(n, 10);
    f->nodes = all(n);
    n->delay = delay_open(n->run->nodes.count, kv_random_next(&n->random), ms_min, ms_max, twice, why);
    if (n->delay == NULL) {
        snprintf(f->detail, sizeof f->detail, "%.110s", why);
        return false;
    }
    snprintf(f->detail, sizeof f->detail, "%u to %u ms, %u %% twice", ms_min, ms_max, twice);
    return true;
}

static bool delay_end(struct nemesis *n, struct fault *f)
{
    char why[NET_WHY_BYTES];
    uint64_t held = delay_held(n->delay), overtaken = delay_overtaken(n->delay);
    snprintf(f->proof, sizeof f->proof, "%llu packets held, %llu overtaken", (unsigned long long)held,
             (unsigned long long)overtaken);
    bool good = delay_close(n->delay, why);
    n->delay = NULL;
    if (!good) snprintf(f->proof, sizeof f->proof, "cannot be healed: %.90s", why);
    return good && overtaken > 0;
}

const struct fault_kind fault_split = {"split", split_begin, net_end, false};
const struct fault_kind fault_leader = {"leader", leader_begin, net_end, false};
const struct fault_kind fault_oneway = {"oneway", oneway_begin, net_end, false};
const struct fault_kind fault_bridge = {"bridge", bridge_begin, net_end, false};
const struct fault_kind fault_ring = {"ring", ring_begin, net_end, false};
const struct fault_kind fault_loss = {"loss", loss_begin, net_end, false};
const struct fault_kind fault_delay = {"delay", delay_begin, delay_end, false};

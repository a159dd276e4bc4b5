#include "jepsen/run.h"

/* Faults of processes. The proof is what wait() says of them. */

static void each_node(struct nemesis *n, struct fault *f, bool (*act)(struct nodes *nodes, struct node *node))
{
    net_nodes done = 0;
    for (uint32_t i = 0; i < n->run->nodes.count; i++)
        if ((f->nodes & (1u << i)) != 0 && act(&n->run->nodes, &n->run->nodes.node[i])) done |= 1u << i;
    f->nodes = done;
    nodes_text(done, f->detail);
}

static bool kill_begin(struct nemesis *n, struct fault *f)
{
    f->nodes = nemesis_victims(n, nemesis_up(n));
    each_node(n, f, node_kill);
    snprintf(f->proof, sizeof f->proof, "%d ended by SIGKILL", __builtin_popcount(f->nodes));
    return f->nodes != 0;
}

static bool start(struct nodes *nodes, struct node *node)
{
    return node_start(nodes, node, false);
}

static bool kill_end(struct nemesis *n, struct fault *f)
{
    each_node(n, f, start);
    return f->nodes != 0;
}

static bool pause_begin(struct nemesis *n, struct fault *f)
{
    f->nodes = nemesis_victims(n, nemesis_up(n));
    each_node(n, f, node_pause);
    snprintf(f->proof, sizeof f->proof, "%d stopped", __builtin_popcount(f->nodes));
    return f->nodes != 0;
}

static bool resume(struct nodes *nodes, struct node *node)
{
    (void)nodes;
    node_resume(node);
    return true;
}

static bool pause_end(struct nemesis *n, struct fault *f)
{
    each_node(n, f, resume);
    return true;
}

static bool terminate(struct nodes *nodes, struct node *node)
{
    node_terminate(nodes, node);
    return true;
}

static bool restart_begin(struct nemesis *n, struct fault *f)
{
    f->nodes = nemesis_victims(n, nemesis_up(n));
    each_node(n, f, terminate);
    return f->nodes != 0;
}

static bool start_when_down(struct nodes *nodes, struct node *node)
{
    if (node->pid == 0) return node_start(nodes, node, false);
    node->starts_again = true;
    return true;
}

/* A stop that is not clean, or takes too long, is told by nodes.c when it ends. */
static bool restart_end(struct nemesis *n, struct fault *f)
{
    uint32_t down = 0;
    for (uint32_t i = 0; i < n->run->nodes.count; i++)
        down += (f->nodes & (1u << i)) != 0 && n->run->nodes.node[i].pid == 0;
    snprintf(f->proof, sizeof f->proof, "%u stopped cleanly", down);
    each_node(n, f, start_when_down);
    return f->nodes != 0;
}

const struct fault_kind fault_kill = {"kill", kill_begin, kill_end, true};
const struct fault_kind fault_pause = {"pause", pause_begin, pause_end, true};
const struct fault_kind fault_restart = {"restart", restart_begin, restart_end, true};

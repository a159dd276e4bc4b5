#include "client/base/hash.h"
#include "jepsen/run.h"
#include "jepsen/undo.h"
#include <errno.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

/* Faults of disks. Slow and losing ones are the preloaded disk's (shim/); a full one is a tmpfs of
 * the node's own that shrinks. */
enum { SLOW_MS_MIN = 20, SLOW_MS_SPAN = 300, LEFT_BYTES_MAX = 48 << 20, SHRINK_TRIES = 100 };

static void data_path(const struct node *node, const char *name, char out[NODES_PATH_BYTES + 32])
{
    snprintf(out, NODES_PATH_BYTES + 32, "%s/%s", node->dir, name);
}

/* ---- power ---- */

static bool power_begin(struct nemesis *n, struct fault *f)
{
    net_nodes done = 0;
    /* Often a whole room goes dark: only then nobody else has what was acknowledged. */
    bool whole = n->kind->at_once == 1 && nemesis_below(n, 2) == 0;
    f->nodes = whole ? nemesis_up(n) : nemesis_victims(n, nemesis_up(n));
    for (uint32_t i = 0; i < n->run->nodes.count; i++) {
        struct node *node = &n->run->nodes.node[i];
        if ((f->nodes & (1u << i)) == 0) continue;
        f->before += atomic_load(&node->shim->syncs); /* it is in force if it counts */
        if (node_kill(&n->run->nodes, node)) done |= 1u << i;
    }
    f->nodes = done;
    nodes_text(done, f->detail);
    return done != 0;
}

static bool power_end(struct nemesis *n, struct fault *f)
{
    struct undo_result sum = {0}, one;
    char data[NODES_PATH_BYTES + 32], shim[NODES_PATH_BYTES + 32], why[UNDO_WHY_BYTES];
    bool good = f->before > 0;
    for (uint32_t i = 0; i < n->run->nodes.count; i++) {
        struct node *node = &n->run->nodes.node[i];
        if ((f->nodes & (1u << i)) == 0) continue;
        data_path(node, "data", data);
        data_path(node, "shim", shim);
        if (!undo_unsynced(data, shim, kv_random_next(&n->random), &one, why)) {
            run_fail(n->run, "node %u: what was not synced cannot be undone: %s", node->id, why);
            good = false;
        }
        sum.records += one.records;
        sum.unsynced += one.unsynced;
        sum.bytes += one.bytes;
        sum.names += one.names;
        good = node_start(&n->run->nodes, node, false) && good;
    }
    snprintf(f->proof, sizeof f->proof, "of %llu changes %llu unsynced, %llu bytes and %u names undone",
             (unsigned long long)sum.records, (unsigned long long)sum.unsynced, (unsigned long long)sum.bytes,
             sum.names);
    return good && sum.records > 0;
}

/* ---- slow ---- */

static uint64_t delayed(const struct nemesis *n, net_nodes nodes)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n->run->nodes.count; i++)
        if ((nodes & (1u << i)) != 0) sum += atomic_load(&n->run->nodes.node[i].shim->delayed);
    return sum;
}

static void slow_set(struct nemesis *n, net_nodes nodes, uint64_t us)
{
    for (uint32_t i = 0; i < n->run->nodes.count; i++)
        if ((nodes & (1u << i)) != 0) atomic_store(&n->run->nodes.node[i].shim->sync_delay_us, us);
}

static bool slow_begin(struct nemesis *n, struct fault *f)
{
    char who[FAULT_TEXT_BYTES];
    uint64_t ms = SLOW_MS_MIN + nemesis_below(n, SLOW_MS_SPAN);
    f->nodes = nemesis_victims(n, nemesis_up(n));
    nodes_text(f->nodes, who);
    snprintf(f->detail, sizeof f->detail, "%.60s: a sync takes %llu ms", who, (unsigned long long)ms);
    f->before = delayed(n, f->nodes);
    slow_set(n, f->nodes, ms * 1000);
    return f->nodes != 0;
}

static bool slow_end(struct nemesis *n, struct fault *f)
{
    uint64_t count = delayed(n, f->nodes) - f->before;
    slow_set(n, f->nodes, NODES_SYNC_DELAY_US);
    snprintf(f->proof, sizeof f->proof, "%llu syncs delayed", (unsigned long long)count);
    return count > 0 || n->kind->at_once > 1; /* behind a cut there may be nothing to sync */
}

/* ---- full ---- */

/* A file system that shrinks is full at once, without a byte written: filling it took seconds on a busy
 * machine, in which nobody recorded what clients saw. */
static bool resize(const struct node *node, uint64_t bytes)
{
    char path[NODES_PATH_BYTES + 32], options[48];
    data_path(node, "data", path);
    snprintf(options, sizeof options, "mode=700,size=%llu", (unsigned long long)bytes);
    return mount("none", path, NULL, MS_REMOUNT, options) == 0;
}

/* EINVAL: the node has just written beyond what was used a moment ago. */
static bool shrink(const struct node *node, uint64_t left, char why[FAULT_TEXT_BYTES])
{
    char path[NODES_PATH_BYTES + 32];
    struct statvfs v;
    data_path(node, "data", path);
    errno = EINVAL;
    for (int tries = 0; errno == EINVAL && tries < SHRINK_TRIES; tries++) {
        if (statvfs(path, &v) != 0) break;
        uint64_t bytes = (uint64_t)(v.f_blocks - v.f_bfree) * v.f_frsize + left;
        if (resize(node, bytes < NODES_TMPFS_BYTES ? bytes : NODES_TMPFS_BYTES)) return true;
    }
    snprintf(why, FAULT_TEXT_BYTES, "%.80s: %s", path, strerror(errno));
    return false;
}

static bool full_begin(struct nemesis *n, struct fault *f)
{
    char who[FAULT_TEXT_BYTES];
    uint64_t left = nemesis_below(n, 4) == 0 ? 0 : nemesis_below(n, LEFT_BYTES_MAX);
    f->nodes = nemesis_victims(n, (1u << n->run->nodes.count) - 1);
    nodes_text(f->nodes, who);
    for (uint32_t i = 0; i < n->run->nodes.count; i++)
        if ((f->nodes & (1u << i)) != 0 && !shrink(&n->run->nodes.node[i], left, f->detail)) return false;
    snprintf(f->detail, sizeof f->detail, "%.60s: %llu KiB left", who, (unsigned long long)(left / 1024));
    return true;
}

/* The proof is the size that the file system had. What a node then freed by itself, its reserve, shows
 * that it noticed. */
static bool full_end(struct nemesis *n, struct fault *f)
{
    char path[NODES_PATH_BYTES + 32];
    uint64_t least_taken = UINT64_MAX, most_free = 0;
    for (uint32_t i = 0; i < n->run->nodes.count; i++) {
        struct statvfs v;
        if ((f->nodes & (1u << i)) == 0) continue;
        data_path(&n->run->nodes.node[i], "data", path);
        if (statvfs(path, &v) != 0 || !resize(&n->run->nodes.node[i], NODES_TMPFS_BYTES)) {
            snprintf(f->proof, sizeof f->proof, "%.80s: %s", path, strerror(errno));
            return false;
        }
        uint64_t taken = NODES_TMPFS_BYTES - (uint64_t)v.f_blocks * v.f_frsize;
        uint64_t free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
        if (taken < least_taken) least_taken = taken;
        if (free_bytes > most_free) most_free = free_bytes;
    }
    snprintf(f->proof, sizeof f->proof, "%llu MiB of %d taken away, at the end %llu MiB free",
             (unsigned long long)(least_taken >> 20), NODES_TMPFS_BYTES >> 20, (unsigned long long)(most_free >> 20));
    return least_taken > NODES_TMPFS_BYTES / 8;
}

const struct fault_kind fault_power = {"power", power_begin, power_end, true};
const struct fault_kind fault_slow = {"slow", slow_begin, slow_end, true};
const struct fault_kind fault_full = {"full", full_begin, full_end, true};

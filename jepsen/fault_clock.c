#include "client/base/text.h"
#include "client/wire/resp.h"
#include "jepsen/run.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Wall clocks that jump: libfaketime reads a node's offset from a file; the monotonic clocks stay as
 * they are. Never a majority at once, since then theirs is the time. The proof is what the node answers to TIME. */
enum { ASK_MS = 200, ROUND_MS = 50, JUMP_S_MAX = 3600 };

static bool offset_write(const struct node *node, double seconds)
{
    char path[NODES_PATH_BYTES + 16], fresh[NODES_PATH_BYTES + 24];
    snprintf(path, sizeof path, "%s/faketime", node->dir);
    snprintf(fresh, sizeof fresh, "%s.new", path);
    FILE *out = fopen(fresh, "we");
    if (out == NULL) return false;
    fprintf(out, "%+.3fs\n", seconds);
    return fclose(out) == 0 && rename(fresh, path) == 0;
}

static bool clock_begin(struct nemesis *n, struct fault *f)
{
    char who[FAULT_TEXT_BYTES];
    uint32_t minority = (n->run->nodes.count - 1) / 2;
    uint32_t victims = 1 + (uint32_t)nemesis_below(n, minority);
    /* Two of the three that another fault leaves up are a majority, and theirs is the time. */
    f->nodes = nemesis_some(n, n->kind->at_once > 1 ? 1 : victims);
    uint64_t ms = nemesis_below(n, 2) == 0 ? 100 + nemesis_below(n, 3000) : 1000 * (1 + nemesis_below(n, JUMP_S_MAX));
    bool back = nemesis_below(n, 2) == 0;
    f->before = back ? -ms : ms; /* as int64_t */
    nodes_text(f->nodes, who);
    snprintf(f->detail, sizeof f->detail, "%.60s: %s%.3f s", who, back ? "-" : "+", (double)ms / 1000);
    for (uint32_t i = 0; i < n->run->nodes.count; i++)
        if ((f->nodes & (1u << i)) != 0 &&
            !offset_write(&n->run->nodes.node[i], (back ? -1.0 : 1.0) * (double)ms / 1000)) {
            snprintf(f->detail, sizeof f->detail, "%.100s", strerror(errno));
            return false;
        }
    return true;
}

static int64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* How far the node's wall clock is ahead of ours, in ms: at least and at most, since it was read at some
 * moment between question and answer. False: it does not answer at once. */
static bool clock_ask(const struct node *node, int64_t *least, int64_t *most)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(NODES_RESP_PORT)};
    struct timeval patience = {.tv_usec = ASK_MS * 1000};
    char reply[128];
    size_t used = 0;
    bool good = false;
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0) return false;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + node->id);
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    int64_t asked_ms = wall_ms();
    if (connect(s, (struct sockaddr *)&to, sizeof to) != 0 || send(s, "TIME\r\n", 6, MSG_NOSIGNAL) != 6) goto close;
    while (!good && used + 1 < sizeof reply) {
        ssize_t got = recv(s, reply + used, sizeof reply - 1 - used, 0);
        if (got <= 0) goto close;
        used += (size_t)got;
        struct kv_slice in = kv_slice(reply, used);
        struct resp_value head, seconds, micros;
        int64_t sec, us;
        if (resp_next(&in, 64, &head) != KV_OK || resp_next(&in, 64, &seconds) != KV_OK ||
            resp_next(&in, 64, &micros) != KV_OK)
            continue;
        if (!kv_parse_i64(seconds.text, &sec) || !kv_parse_i64(micros.text, &us)) goto close;
        int64_t told_ms = sec * 1000 + us / 1000;
        *least = told_ms - wall_ms();
        *most = told_ms - asked_ms;
        good = true;
    }
close:
    close(s);
    return good;
}

static bool clock_end(struct nemesis *n, struct fault *f)
{
    bool proved = false, answered = false;
    int64_t jump_ms = (int64_t)f->before, least = 0, most = 0;
    for (uint32_t i = 0; i < n->run->nodes.count; i++) {
        const struct node *node = &n->run->nodes.node[i];
        if ((f->nodes & (1u << i)) == 0) continue;
        if (node->pid != 0 && !node->is_paused && clock_ask(node, &least, &most)) {
            answered = true;
            proved = proved || (least - ROUND_MS <= jump_ms && jump_ms <= most + ROUND_MS);
        }
        if (!offset_write(node, 0)) {
            snprintf(f->proof, sizeof f->proof, "cannot be set back: %s", strerror(errno));
            return false;
        }
    }
    if (answered)
        snprintf(f->proof, sizeof f->proof, "TIME was %+.3f to %+.3f s off", (double)least / 1000, (double)most / 1000);
    else snprintf(f->proof, sizeof f->proof, "no node was there to be asked");
    return proved || !answered;
}

const struct fault_kind fault_clock = {"clock", clock_begin, clock_end, false};

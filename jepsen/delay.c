#include "jepsen/delay.h"
#include "client/base/hash.h"
#include "jepsen/run.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* nft marks the packets, a routing rule in front of the local table sends marked ones to the
 * device; what is written to the device arrives as if from outside, so it must be allowed to come
 * from and go to 127/8. */
enum { PACKET_BYTES = 65536, HELD_MAX = 16384, TUN_MTU = 65535 };
#define TUN_NAME "jepsen0"

struct packet {
    uint64_t due_ns, number;
    size_t size;
    uint8_t *bytes;
};

struct line { /* shared by the run and the process that carries */
    _Atomic uint64_t held, overtaken;
};

struct delay_line {
    pid_t pid;
    struct line *line;
    int tun;
};

const char *delay_lacks(void)
{
    if (access("/dev/net/tun", R_OK | W_OK) != 0) return "no access to /dev/net/tun";
    char out[NET_WHY_BYTES];
    return run_program((const char *const[]){"ip", "-V", NULL}, NULL, out, sizeof out) ? NULL : "no program ip";
}

/* ---- the process that carries ---- */

struct carrier {
    struct line *line;
    int tun;
    uint64_t random, numbers, sent_number;
    uint32_t ms_min, ms_max, twice_percent;
    struct packet heap[HELD_MAX]; /* the earliest first */
    uint32_t count;
};

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void heap_swap(struct carrier *c, uint32_t a, uint32_t b)
{
    struct packet kept = c->heap[a];
    c->heap[a] = c->heap[b];
    c->heap[b] = kept;
}

static void heap_put(struct carrier *c, struct packet p)
{
    uint32_t i = c->count++;
    c->heap[i] = p;
    for (; i > 0 && c->heap[i].due_ns < c->heap[(i - 1) / 2].due_ns; i = (i - 1) / 2) heap_swap(c, i, (i - 1) / 2);
}

static struct packet heap_take(struct carrier *c)
{
    struct packet first = c->heap[0];
    c->heap[0] = c->heap[--c->count];
    for (uint32_t i = 0, least;; i = least) {
        least = i;
        for (uint32_t child = 2 * i + 1; child <= 2 * i + 2; child++)
            if (child < c->count && c->heap[child].due_ns < c->heap[least].due_ns) least = child;
        if (least == i) return first;
        heap_swap(c, i, least);
    }
}

static void hold(struct carrier *c, const uint8_t *bytes, size_t size)
{
    if (c->count == HELD_MAX) return; /* as a full queue of a router */
    struct packet p = {.size = size, .bytes = malloc(size), .number = ++c->numbers};
    if (p.bytes == NULL) return;
    memcpy(p.bytes, bytes, size);
    uint64_t span_ns = KV_MS(c->ms_max - c->ms_min) + 1;
    p.due_ns = clock_ns() + KV_MS(c->ms_min) + kv_random_next(&c->random) % span_ns;
    heap_put(c, p);
    c->line->held++;
}

static void carry(struct carrier *c)
{
    static const int any_time = -1;
    uint8_t *bytes = malloc(PACKET_BYTES);
    if (bytes == NULL) _exit(1);
    for (;;) {
        int wait_ms = any_time;
        uint64_t now_ns = clock_ns();
        while (c->count > 0 && c->heap[0].due_ns <= now_ns) {
            struct packet p = heap_take(c);
            if (p.number < c->sent_number) c->line->overtaken++;
            else c->sent_number = p.number;
            if (write(c->tun, p.bytes, p.size) < 0 && errno == EBADF) _exit(1); /* a lost packet is no error */
            free(p.bytes);
        }
        if (c->count > 0) wait_ms = (int)((c->heap[0].due_ns - now_ns) / 1000000) + 1;
        struct pollfd readable = {.fd = c->tun, .events = POLLIN};
        if (poll(&readable, 1, wait_ms) <= 0) continue;
        ssize_t size;
        while ((size = read(c->tun, bytes, PACKET_BYTES)) > 0) {
            hold(c, bytes, (size_t)size);
            if (kv_random_next(&c->random) % 100 < c->twice_percent) hold(c, bytes, (size_t)size);
        }
    }
}

/* ---- the device and the way to it ---- */

static int tun_open(void)
{
    struct ifreq q = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    memcpy(q.ifr_name, TUN_NAME, sizeof TUN_NAME);
    int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (tun < 0) return -1;
    if (ioctl(tun, TUNSETIFF, &q) == 0) return tun;
    close(tun);
    return -1;
}

static bool shell(const char *script, char why[NET_WHY_BYTES])
{
    return run_program((const char *const[]){"sh", "-ec", script, NULL}, NULL, why, NET_WHY_BYTES);
}

static bool way_open(uint32_t nodes, char why[NET_WHY_BYTES])
{
    char script[1200];
    snprintf(
        script, sizeof script,
        "conf=/proc/sys/net/ipv4/conf\n"
        "ip link set " TUN_NAME " mtu %d up\n"
        "echo 1 >$conf/" TUN_NAME "/route_localnet; echo 1 >$conf/" TUN_NAME "/accept_local\n"
        "echo 0 >$conf/" TUN_NAME "/rp_filter; echo 0 >$conf/all/rp_filter\n"
        "ip route add 127.0.0.0/8 dev " TUN_NAME " table 100\n"
        "ip rule add pref 1 fwmark 1 lookup 100; ip rule add pref 10 lookup local; ip rule del pref 0 lookup local\n"
        "nft 'add chain ip jepsen delay { type route hook output priority 0; policy accept; }'\n"
        "nft add rule ip jepsen delay ip saddr 127.0.0.1-127.0.0.%u ip daddr 127.0.0.1-127.0.0.%u meta mark set 1\n",
        TUN_MTU, nodes, nodes);
    return shell(script, why);
}

static bool way_close(char why[NET_WHY_BYTES])
{
    return shell("nft flush chain ip jepsen delay; nft delete chain ip jepsen delay\n"
                 "ip rule add pref 0 lookup local; ip rule del pref 1; ip rule del pref 10\n"
                 "ip route flush table 100\n",
                 why);
}

struct delay_line *delay_open(uint32_t nodes, uint64_t seed, uint32_t ms_min, uint32_t ms_max, uint32_t twice_percent,
                              char why[NET_WHY_BYTES])
{
    struct delay_line *d = calloc(1, sizeof *d);
    void *page = mmap(NULL, sizeof *d->line, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct carrier *c = calloc(1, sizeof *c);
    snprintf(why, NET_WHY_BYTES, "memory or /dev/net/tun: %s", strerror(errno));
    if (d == NULL || page == MAP_FAILED || c == NULL) goto fail;
    d->line = page;
    if ((d->tun = tun_open()) < 0) goto fail;
    *c = (struct carrier){.line = d->line,
                          .tun = d->tun,
                          .random = seed,
                          .ms_min = ms_min,
                          .ms_max = ms_max,
                          .twice_percent = twice_percent};
    d->pid = fork();
    if (d->pid == 0) carry(c);
    if (d->pid > 0 && way_open(nodes, why)) {
        free(c);
        return d;
    }
    if (d->pid > 0) {
        kill(d->pid, SIGKILL);
        waitpid(d->pid, NULL, 0);
    }
    close(d->tun);
fail:
    if (page != MAP_FAILED) munmap(page, sizeof *d->line);
    free(c);
    free(d);
    return NULL;
}

uint64_t delay_held(const struct delay_line *d)
{
    return d->line->held;
}

uint64_t delay_overtaken(const struct delay_line *d)
{
    return d->line->overtaken;
}

bool delay_close(struct delay_line *d, char why[NET_WHY_BYTES])
{
    bool good = way_close(why);
    int status;
    if (kill(d->pid, SIGKILL) != 0 || waitpid(d->pid, &status, 0) != d->pid || !WIFSIGNALED(status)) {
        if (good) snprintf(why, NET_WHY_BYTES, "the process that carries packets had ended");
        good = false;
    }
    close(d->tun);
    munmap(d->line, sizeof *d->line);
    free(d);
    return good;
}

#include "jepsen/net.h"
#include "jepsen/run.h"
#include <net/if.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static bool nft(const char *script, char *out, size_t size)
{
    return run_program((const char *const[]){"nft", "-f", "-", NULL}, script, out, size);
}

static bool loopback_up(void)
{
    struct ifreq q = {.ifr_name = "lo"};
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s < 0) return false;
    bool good = ioctl(s, SIOCGIFFLAGS, &q) == 0;
    q.ifr_flags |= IFF_UP;
    good = good && ioctl(s, SIOCSIFFLAGS, &q) == 0;
    close(s);
    return good;
}

bool net_open(char why[NET_WHY_BYTES])
{
    snprintf(why, NET_WHY_BYTES, "loopback cannot be brought up");
    return loopback_up() && nft("add table ip jepsen\n", why, NET_WHY_BYTES);
}

/* At the input hook: an output hook would tell the sender. */
static void put_chain(struct kv_buf *b, uint32_t fault)
{
    kv_buf_printf(b, "add chain ip jepsen fault%u { type filter hook input priority 0; policy accept; }\n", fault);
}

static bool apply(struct kv_buf *b, char why[NET_WHY_BYTES])
{
    kv_buf_append_u8(b, '\0');
    snprintf(why, NET_WHY_BYTES, "out of memory");
    bool good = !b->failed && nft((const char *)kv_buf_slice(b).data, why, NET_WHY_BYTES);
    kv_buf_free(b);
    return good;
}

bool net_cut(uint32_t fault, const net_nodes to[], uint32_t nodes, char why[NET_WHY_BYTES])
{
    struct kv_buf b;
    kv_buf_init(&b, 0);
    put_chain(&b, fault);
    for (uint32_t i = 0; i < nodes; i++)
        for (uint32_t k = 0; k < nodes; k++)
            if (i != k && (to[i] & (1u << k)) != 0)
                kv_buf_printf(&b, "add rule ip jepsen fault%u ip saddr 127.0.0.%u ip daddr 127.0.0.%u counter drop\n",
                              fault, i + 1, k + 1);
    return apply(&b, why);
}

bool net_lose(uint32_t fault, uint32_t percent, uint32_t nodes, char why[NET_WHY_BYTES])
{
    struct kv_buf b;
    kv_buf_init(&b, 0);
    put_chain(&b, fault);
    kv_buf_printf(&b,
                  "add rule ip jepsen fault%u ip saddr 127.0.0.1-127.0.0.%u ip daddr 127.0.0.1-127.0.0.%u "
                  "numgen random mod 100 < %u counter drop\n",
                  fault, nodes, nodes, percent);
    return apply(&b, why);
}

uint64_t net_dropped(uint32_t fault, char why[NET_WHY_BYTES])
{
    char name[24], out[16384];
    snprintf(name, sizeof name, "fault%u", fault);
    if (!run_program((const char *const[]){"nft", "list", "chain", "ip", "jepsen", name, NULL}, NULL, out,
                     sizeof out)) {
        snprintf(why, NET_WHY_BYTES, "%.190s", out);
        return UINT64_MAX;
    }
    uint64_t dropped = 0;
    for (const char *at = out; (at = strstr(at, "packets ")) != NULL;) dropped += strtoull(at += 8, NULL, 10);
    return dropped;
}

bool net_heal(uint32_t fault, char why[NET_WHY_BYTES])
{
    char script[96];
    snprintf(script, sizeof script, "flush chain ip jepsen fault%u\ndelete chain ip jepsen fault%u\n", fault, fault);
    return nft(script, why, NET_WHY_BYTES);
}

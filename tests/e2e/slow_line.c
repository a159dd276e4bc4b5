/* A line that is fast or slow: slow_line LISTEN_HOST PORT TO_HOST TO_PORT FROM_HOST MS. Carries each connection to
 * TO_HOST:TO_PORT, dialled from FROM_HOST; after SIGUSR1 what comes from there waits MS on the way back, after SIGUSR2 no more. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LINES_MAX = 64,
       HELD_MAX = 4096,
       CHUNK_BYTES = 16384 };

struct chunk {
    uint64_t due_ns;
    size_t size;
    uint8_t bytes[];
};

struct line { /* client 0, node 1 */
    int fd[2];
    struct chunk *held[HELD_MAX]; /* from the node, oldest first: a ring */
    uint32_t first, count;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int fail(const char *what)
{
    fprintf(stderr, "slow_line: %s: %s\n", what, strerror(errno));
    return 1;
}

static struct sockaddr_in address(const char *host, const char *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
    (void)inet_pton(AF_INET, host, &a.sin_addr);
    return a;
}

static bool write_all(int fd, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);
        if (n <= 0) return false;
        bytes += n;
        size -= (size_t)n;
    }
    return true;
}

static void line_close(struct line *l)
{
    for (; l->count > 0; l->count--) free(l->held[l->first++ % HELD_MAX]);
    close(l->fd[0]);
    close(l->fd[1]);
    l->fd[0] = l->fd[1] = -1;
}

/* What is due goes to the client; when the next is, -1: nothing waits. */
static int64_t line_release(struct line *l)
{
    uint64_t now = now_ns();
    while (l->count > 0 && l->held[l->first % HELD_MAX]->due_ns <= now) {
        struct chunk *c = l->held[l->first++ % HELD_MAX];
        l->count--;
        bool good = write_all(l->fd[0], c->bytes, c->size);
        free(c);
        if (!good) line_close(l);
    }
    return l->count == 0 ? -1 : (int64_t)(l->held[l->first % HELD_MAX]->due_ns - now);
}

static bool line_carry(struct line *l, int from, uint64_t delay_ns)
{
    struct chunk *c = malloc(sizeof *c + CHUNK_BYTES);
    if (c == NULL || l->count == HELD_MAX) abort();
    ssize_t n = recv(l->fd[from], c->bytes, CHUNK_BYTES, 0);
    if (n > 0 && from == 1) {
        c->size = (size_t)n;
        c->due_ns = now_ns() + delay_ns;
        l->held[(l->first + l->count++) % HELD_MAX] = c;
        return true;
    }
    bool good = n > 0 && write_all(l->fd[1], c->bytes, (size_t)n);
    free(c);
    return good;
}

static void line_open(struct line *lines, int client, const struct sockaddr_in *to, const struct sockaddr_in *from)
{
    int node = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool good = node >= 0 && bind(node, (const struct sockaddr *)from, sizeof *from) == 0 &&
                connect(node, (const struct sockaddr *)to, sizeof *to) == 0;
    int on = 1; /* no waiting for acknowledgements: the line is as slow as was asked */
    good = good && setsockopt(node, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 &&
           setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0;
    for (uint32_t i = 0; good && i < LINES_MAX; i++) {
        if (lines[i].fd[0] >= 0) continue;
        lines[i] = (struct line){.fd = {client, node}};
        return;
    }
    if (node >= 0) close(node);
    close(client);
}

int main(int argc, char **argv)
{
    static struct line lines[LINES_MAX];
    uint64_t delay_ns = 0;
    sigset_t set;
    if (argc != 7) return fail("takes LISTEN_HOST PORT TO_HOST TO_PORT FROM_HOST MS");
    struct sockaddr_in here = address(argv[1], argv[2]), to = address(argv[3], argv[4]), from = address(argv[5], "0");
    uint64_t slow_ns = strtoull(argv[6], NULL, 10) * 1000000u;
    int on = 1, door = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(door, (struct sockaddr *)&here, sizeof here) != 0 || listen(door, 64) != 0) return fail(argv[1]);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int signals = signalfd(-1, &set, SFD_CLOEXEC);
    if (signals < 0) return fail("signalfd");
    for (uint32_t i = 0; i < LINES_MAX; i++) lines[i].fd[0] = lines[i].fd[1] = -1;
    for (;;) {
        struct pollfd p[2 + 2 * LINES_MAX] = {{.fd = door, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
        int64_t next_ns = INT64_MAX;
        for (uint32_t i = 0; i < LINES_MAX; i++) {
            int64_t ns = lines[i].fd[0] < 0 ? -1 : line_release(&lines[i]);
            if (ns >= 0 && ns < next_ns) next_ns = ns;
            for (int side = 0; side < 2; side++) p[2 + 2 * i + (uint32_t)side] = (struct pollfd){.fd = lines[i].fd[side], .events = POLLIN};
        }
        struct timespec wait = {.tv_sec = next_ns / 1000000000, .tv_nsec = next_ns % 1000000000};
        if (ppoll(p, 2 + 2 * LINES_MAX, next_ns == INT64_MAX ? NULL : &wait, NULL) < 0 && errno != EINTR) return fail("ppoll");
        for (uint32_t i = 0; i < LINES_MAX; i++)
            for (int side = 0; side < 2 && lines[i].fd[0] >= 0; side++)
                if (p[2 + 2 * i + (uint32_t)side].revents != 0 && !line_carry(&lines[i], side, delay_ns)) line_close(&lines[i]);
        struct signalfd_siginfo told;
        if (p[1].revents != 0 && read(signals, &told, sizeof told) == (ssize_t)sizeof told) delay_ns = told.ssi_signo == SIGUSR1 ? slow_ns : 0;
        int client = p[0].revents != 0 ? accept4(door, NULL, NULL, SOCK_CLOEXEC) : -1;
        if (client >= 0) line_open(lines, client, &to, &from);
    }
}

/* A client that does not behave, for tests/e2e/hostile.sh and half_open.sh.
 *
 *   hostile send HOST PORT MS         standard input to the node, its answers to standard output
 *   hostile gulp HOST PORT MS KEY N   asks N times for KEY and reads nothing
 *   hostile swill HOST PORT MS KEY N SECRET   the same over the native port
 *   hostile idle HOST PORT MS FROM    sends standard input from address FROM, prints "sent", reads nothing
 *
 * The last line on standard error says whether the node closed the connection and after how long; exit
 * code 0: it did, 3: still open after MS, 1: could not even connect. */
#include <assert.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <sys/random.h>
#include <unistd.h>

#include "client/base/text.h"
#include "client/wire/channel.h"
#include "client/wire/hello.h"
#include "client/wire/message.h"

static long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int dial(const char *host, const char *port, const char *from)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(int)strtol(port, NULL, 10))};
    struct sockaddr_in at = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int small = 4096; /* what the node sends shall pile up there, not here */
    if (fd < 0 || inet_pton(AF_INET, host, &to.sin_addr) != 1) return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (from != NULL && (inet_pton(AF_INET, from, &at.sin_addr) != 1 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0))
        return -1;
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0) return -1;
    return fd;
}

/* All of standard input, at most a few MB. */
static char *slurp(size_t *size)
{
    size_t room = 1 << 16;
    char *bytes = malloc(room);
    *size = 0;
    for (;;) {
        if (bytes == NULL) exit(1);
        ssize_t n = read(0, bytes + *size, room - *size);
        if (n <= 0) return bytes;
        *size += (size_t)n;
        if (*size == room) bytes = realloc(bytes, room *= 2);
    }
}

static char *many_gets(const char *key, long count, size_t *size)
{
    char one[600];
    int n = snprintf(one, sizeof one, "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n", strlen(key), key);
    if (n < 0 || (size_t)n >= sizeof one) exit(1);
    char *bytes = malloc((size_t)n * (size_t)count);
    if (bytes == NULL) exit(1);
    for (long i = 0; i < count; i++) memcpy(bytes + i * n, one, (size_t)n);
    *size = (size_t)n * (size_t)count;
    return bytes;
}

/* ---- the native port: a proper handshake, then only requests ---- */

static enum kv_err anyone(void *context, const uint8_t key[CHANNEL_KEY_BYTES], struct kv_slice payload, const char **why)
{
    (void)context, (void)key, (void)payload, (void)why;
    return KV_OK;
}

static void say_all(int fd, struct kv_buf *out)
{
    struct kv_slice s = kv_buf_slice(out);
    if (send(fd, s.data, s.size, MSG_NOSIGNAL) != (ssize_t)s.size) exit(1);
    kv_buf_clear(out);
}

static char *native_gets(int fd, const char *secret_path, const char *key, long count, size_t *size)
{
    struct channel_identity self;
    uint8_t secret[CHANNEL_KEY_BYTES], hello_bytes[HELLO_BYTES_MAX], in[4096];
    char hex[2 * CHANNEL_KEY_BYTES + 1] = "";
    FILE *f = fopen(secret_path, "r");
    if (f == NULL || fgets(hex, sizeof hex, f) == NULL || !kv_hex_decode(kv_str(hex), secret, sizeof secret)) exit(1);
    fclose(f);
    channel_identity_make(&self, secret);
    struct hello h = {.role = HELLO_CLIENT};
    struct kv_buf hello = {0}, out = {0}, frame = {0};
    hello_encode(&h, &hello);
    assert(!hello.failed && hello.size > 0 && hello.size <= sizeof hello_bytes);
    memcpy(hello_bytes, kv_buf_slice(&hello).data, hello.size);
    struct channel_options o = {.role = CHANNEL_DIAL,
                                .self = &self,
                                .prologue = kv_str(HELLO_PROLOGUE),
                                .payload = kv_slice(hello_bytes, hello.size),
                                .judge = anyone};
    if (getrandom(o.ephemeral_seed, sizeof o.ephemeral_seed, 0) != (ssize_t)sizeof o.ephemeral_seed) exit(1);
    struct channel *c = channel_init(calloc(1, channel_memory()), &o);
    channel_start(c, &out);
    say_all(fd, &out);
    while (!channel_established(c)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 5000) != 1) exit(1);
        ssize_t n = read(fd, in, sizeof in);
        if (n <= 0 || channel_feed(c, kv_slice(in, (size_t)n), &out) != KV_OK) exit(1);
        say_all(fd, &out);
    }
    struct kv_slice arg = kv_str(key);
    for (long i = 0; i < count; i++) {
        struct kv_request r = {.id = (uint64_t)i + 1, .op = KV_OP_KVGET, .args = &arg, .arg_count = 1};
        kv_buf_clear(&frame);
        kv_request_encode(&r, &frame);
        struct kv_slice part = kv_buf_slice(&frame);
        if (channel_send(c, &part, 1) != KV_OK) exit(1);
    }
    channel_flush(c, &out);
    *size = out.size;
    char *bytes = malloc(out.size);
    if (bytes == NULL) exit(1);
    memcpy(bytes, kv_buf_slice(&out).data, out.size);
    return bytes;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 4 ? argv[1] : "";
    bool swills = strcmp(verb, "swill") == 0 && argc == 8;
    bool gulps = strcmp(verb, "gulp") == 0 && argc == 7, idles = strcmp(verb, "idle") == 0 && argc == 6;
    if (!gulps && !swills && !idles && (strcmp(verb, "send") != 0 || argc != 5)) {
        fprintf(stderr, "usage: hostile send HOST PORT MS | gulp HOST PORT MS KEY COUNT | swill .. SECRET | idle HOST PORT MS FROM\n");
        return 2;
    }
    int fd = dial(argv[2], argv[3], idles ? argv[5] : NULL);
    if (fd < 0) {
        fprintf(stderr, "cannot connect: %s\n", strerror(errno));
        return 1;
    }
    size_t size, sent = 0;
    char *bytes = swills  ? native_gets(fd, argv[7], argv[5], strtol(argv[6], NULL, 10), &size)
                  : gulps ? many_gets(argv[5], strtol(argv[6], NULL, 10), &size) : slurp(&size);
    char in[65536];
    long began = now_ms(), end = began + strtol(argv[4], NULL, 10);
    bool closed = false, told = false, reads = !gulps && !swills && !idles;
    while (!closed && (now_ms() < end || (idles && sent < size))) { /* who idles has said what it has to say */
        /* Without POLLIN a reset or a full close still shows as POLLHUP or POLLERR. */
        struct pollfd p = {.fd = fd, .events = (short)((reads ? POLLIN : 0) | POLLRDHUP | (sent < size ? POLLOUT : 0))};
        if (poll(&p, 1, (int)(end > now_ms() ? end - now_ms() : 0) + 1) < 0 && errno != EINTR) break;
        if (p.revents & (POLLERR | POLLHUP)) closed = true;
        if (reads && p.revents & (POLLIN | POLLRDHUP | POLLHUP)) {
            ssize_t n = read(fd, in, sizeof in);
            if (n > 0) {
                fwrite(in, 1, (size_t)n, stdout);
                closed = false; /* there may be more */
            } else if (n == 0 || errno != EAGAIN) {
                closed = true;
            }
        } else if (p.revents & POLLRDHUP) {
            closed = true;
        }
        if (!closed && p.revents & POLLOUT) {
            ssize_t n = send(fd, bytes + sent, size - sent, MSG_NOSIGNAL);
            if (n > 0) sent += (size_t)n;
            else if (errno != EAGAIN) closed = true;
        }
        if (idles && sent == size && !told) {
            told = true;
            puts("sent");
            fflush(stdout);
        }
    }
    fflush(stdout);
    fprintf(stderr, "%s after %ld ms, %zu of %zu bytes sent\n", closed ? "closed" : "open", now_ms() - began, sent, size);
    free(bytes);
    close(fd);
    return closed ? 0 : 3;
}

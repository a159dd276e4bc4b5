/* Clients of libkv that count, each its own key by one, until SIGTERM: every answer must be the next number. What is sent
 * again goes under its idempotency key, so an increment that took effect twice, or not at all, shows at once.
 * usage: counts HOST:PORT,.. KEYFILE CLIENTS. Keys are count0000 .. ; prints how many increments were answered.
 * Exit code 1: an increment failed or was not the next; the first such is told. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/kv_client.h"

enum { CLIENTS_MAX = 1000,
       TIMEOUT_MS = 20000 };

struct client {
    struct kv_call call;
    struct kv_client *of;
    struct kv_slice args[2];
    char key[16];
    int64_t count;
    bool open, failed;
};

static volatile sig_atomic_t is_over;

static void over(int signum)
{
    (void)signum;
    is_over = 1;
}

static void count(struct client *c)
{
    c->open = true;
    kv_client_call(c->of, &c->call);
}

static void counted(struct kv_call *call)
{
    struct client *c = call->context;
    const struct kv_result *r = &call->result;
    c->open = false;
    if (r->err != KV_OK || r->number != c->count + 1) {
        fprintf(stderr, "%s: the next is %" PRId64 ", was told %" PRId64 " (%s, applied: %s) %s\n", c->key, c->count + 1,
                r->err == KV_OK ? r->number : 0, kv_err_name(r->err), kv_applied_text(r->applied), r->text);
        c->failed = true;
        is_over = 1;
        return;
    }
    c->count++;
    if (!is_over) count(c);
}

int main(int argc, char **argv)
{
    static struct client clients[CLIENTS_MAX];
    char why[KV_TEXT_BYTES];
    struct kv *kv;
    int64_t answered = 0;
    long many = argc == 4 ? strtol(argv[3], NULL, 10) : 0;
    if (many < 1 || many > CLIENTS_MAX) {
        fprintf(stderr, "usage: counts HOST:PORT,.. KEYFILE CLIENTS (at most %d)\n", CLIENTS_MAX);
        return 2;
    }
    if (kv_open(&(struct kv_options){.addresses = argv[1], .key_file = argv[2], .timeout_ms = TIMEOUT_MS}, &kv, why) != KV_OK) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    signal(SIGTERM, over);
    for (long i = 0; i < many; i++) {
        struct client *c = &clients[i];
        snprintf(c->key, sizeof c->key, "count%04ld", i);
        c->of = kv_client_of(kv);
        c->args[0] = kv_str(c->key);
        c->args[1] = kv_str("1");
        c->call = (struct kv_call){.op = KV_OP_KVINCR, .args = c->args, .arg_count = 2, .done = counted, .context = c};
        count(c);
    }
    int code = 0;
    for (bool open = true; open;) {
        kv_turn(kv);
        open = false;
        for (long i = 0; i < many; i++) open |= clients[i].open;
    }
    for (long i = 0; i < many; i++) {
        answered += clients[i].count;
        if (clients[i].failed) code = 1;
    }
    printf("%" PRId64 "\n", answered);
    kv_close(kv);
    return code;
}

#include "server/auth.h"

#include <sodium.h>
#include <stdlib.h>

#include "client/base/hash.h"
#include "server/host.h"
#include "server/passwd.h"

enum { RUNNING_MAX = 2, WAITING_MAX = 64, PENALTIES = 256, PASSWORD_BYTES_MAX = 512 };

struct attempt {
    struct env_work work;
    struct auth *a; /* NULL: the node has stopped meanwhile */
    struct attempt *next;
    struct gate *g; /* there as long as it is pending, though perhaps nobody is at its other end any more */
    void (*done)(struct gate *g, enum kv_err err);
    char line[CONFIG_TEXT_BYTES];
    uint8_t password[PASSWORD_BYTES_MAX];
    size_t size;
    enum kv_err result;
};

struct auth {
    struct worker *w;
    struct attempt *waiting, *running;
    uint32_t waiting_count, running_count;
    uint8_t key[crypto_generichash_KEYBYTES], known[crypto_generichash_BYTES];
    bool has_known;
    struct penalty {
        char host[64];
        uint64_t until_ns;
        uint32_t failures;
    } penalties[PENALTIES];
};

struct auth *auth_create(struct worker *w)
{
    struct auth *a = calloc(1, sizeof *a);
    if (a == NULL) return NULL;
    a->w = w;
    for (size_t i = 0; i < sizeof a->key; i += 8) {
        uint64_t r = worker_random(w);
        memcpy(a->key + i, &r, 8);
    }
    return a;
}

static void attempt_free(struct attempt *t)
{
    sodium_memzero(t->password, sizeof t->password);
    free(t);
}

void auth_destroy(struct auth *a)
{
    if (a == NULL) return;
    for (struct attempt *t = a->waiting, *next; t != NULL; t = next) {
        next = t->next;
        attempt_free(t);
    }
    for (struct attempt *t = a->running; t != NULL; t = t->next) t->a = NULL; /* a thread reads them: done() frees */
    sodium_memzero(a, sizeof *a);
    free(a);
}

static struct penalty *penalty_of(struct auth *a, const char *host)
{
    uint32_t at = (uint32_t)kv_hash64(kv_str(host), 1) % PENALTIES;
    struct penalty *p = &a->penalties[at];
    if (strncmp(p->host, host, sizeof p->host) != 0) {
        *p = (struct penalty){0};
        memcpy(p->host, host, strnlen(host, sizeof p->host - 1));
    }
    return p;
}

static void digest(const struct auth *a, struct kv_slice password, uint8_t out[crypto_generichash_BYTES])
{
    crypto_generichash(out, crypto_generichash_BYTES, password.data, password.size, a->key, sizeof a->key);
}

static void run(struct env_work *work)
{
    struct attempt *t = container_of(work, struct attempt, work);
    t->result = passwd_check(t->line, kv_slice(t->password, t->size));
}

static void start_next(struct auth *a);

static void done(struct env_work *work)
{
    struct attempt *t = container_of(work, struct attempt, work);
    struct auth *a = t->a;
    if (a == NULL) {
        attempt_free(t);
        return;
    }
    for (struct attempt **link = &a->running; *link != NULL; link = &(*link)->next)
        if (*link == t) {
            *link = t->next;
            break;
        }
    a->running_count--;
    if (t->result == KV_OK) {
        digest(a, kv_slice(t->password, t->size), a->known);
        a->has_known = true;
    }
    struct penalty *p = penalty_of(a, t->g->peer.host); /* also of one who has left: leaving is no way around it */
    if (t->result == KV_OK) {
        *p = (struct penalty){0};
    } else { /* 100 ms, doubling up to 10 s */
        uint32_t shift = p->failures < 7 ? p->failures++ : 7;
        uint64_t wait = KV_MS(100) << shift;
        p->until_ns = env_now_ns(a->w->env) + (wait < KV_SECONDS(10) ? wait : KV_SECONDS(10));
    }
    if (host_answered(t->g)) t->done(t->g, t->result);
    attempt_free(t);
    start_next(a);
}

static void start_next(struct auth *a)
{
    while (a->waiting != NULL && a->running_count < RUNNING_MAX) {
        struct attempt *t = a->waiting;
        a->waiting = t->next;
        a->waiting_count--;
        t->next = a->running;
        a->running = t;
        a->running_count++;
        t->work = (struct env_work){.run = run, .done = done};
        a->w->env->ops->work(a->w->env, &t->work);
    }
}

void auth_start(struct gate *g, struct kv_slice user, struct kv_slice password,
                void (*call)(struct gate *g, enum kv_err err))
{
    struct worker *w = host_worker(g);
    struct auth *a = w->auth;
    bool is_default = user.size == 0 || kv_slice_eq(user, kv_str("default"));
    uint8_t d[crypto_generichash_BYTES];
    digest(a, password, d);
    if (is_default && a->has_known && sodium_memcmp(d, a->known, sizeof d) == 0) {
        call(g, KV_OK);
        return;
    }
    struct penalty *p = penalty_of(a, g->peer.host);
    if (!is_default || password.size > PASSWORD_BYTES_MAX || w->config->resp_password[0] == '\0') {
        call(g, KV_AUTH);
        return;
    }
    struct attempt *t = NULL;
    if (env_now_ns(w->env) >= p->until_ns && a->waiting_count < WAITING_MAX) t = calloc(1, sizeof *t);
    if (t == NULL) {
        call(g, KV_THROTTLED);
        return;
    }
    t->a = a;
    t->g = g;
    t->done = call;
    t->size = password.size;
    if (password.size > 0) memcpy(t->password, password.data, password.size);
    memcpy(t->line, w->config->resp_password, sizeof t->line);
    struct attempt **last = &a->waiting;
    while (*last != NULL) last = &(*last)->next;
    *last = t;
    a->waiting_count++;
    g->pending++; /* keeps the connection's memory */
    start_next(a);
}

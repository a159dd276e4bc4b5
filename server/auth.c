#include "server/auth.h"

#include <sodium.h>
#include <stdlib.h>

#include "client/base/hash.h"
#include "server/host.h"
#include "server/users.h"

/* Two things depend on nothing but what is shown: whether somebody is let in, and how long that takes. So a user that is
 * not there costs a check like any other, against the line of somebody else. */
enum { RUNNING_MAX = 2,
       WAITING_MAX = 64,
       PENALTIES = 256,
       PASSWORD_BYTES_MAX = 512,
       KNOWN_SETS = 256, /* by the first byte of the hash */
       KNOWN_WAYS = 4 };

struct attempt {
    struct env_work work;
    struct auth *a; /* NULL: the node has stopped meanwhile */
    struct attempt *next;
    struct gate *g; /* there as long as it is pending, though perhaps nobody is at its other end any more */
    gate_authenticated *done;
    bool is_decoy;                    /* nobody has this name: the line is another's, and right is wrong */
    char user[KV_NAME_BYTES_MAX + 1]; /* unless it is a decoy */
    char line[CONFIG_TEXT_BYTES];
    uint8_t password[PASSWORD_BYTES_MAX];
    size_t size;
    enum kv_err result;
};

struct auth {
    struct worker *w;
    struct attempt *waiting, *running;
    uint32_t waiting_count, running_count;
    uint8_t key[crypto_generichash_KEYBYTES];
    uint8_t known[KNOWN_SETS][KNOWN_WAYS][crypto_generichash_BYTES]; /* of what was right, newest first; zero: none */
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

/* Of all that has to be right: a line of the file that changes is another one. */
static void digest(const struct auth *a, const char *line, const char *user, struct kv_slice password, uint8_t out[crypto_generichash_BYTES])
{
    crypto_generichash_state s;
    crypto_generichash_init(&s, a->key, sizeof a->key, crypto_generichash_BYTES);
    crypto_generichash_update(&s, (const uint8_t *)line, strlen(line) + 1);
    crypto_generichash_update(&s, (const uint8_t *)user, strlen(user) + 1);
    crypto_generichash_update(&s, password.data, password.size);
    crypto_generichash_final(&s, out, crypto_generichash_BYTES);
}

static bool is_known(const struct auth *a, const uint8_t d[crypto_generichash_BYTES])
{
    bool found = false;
    for (uint32_t i = 0; i < KNOWN_WAYS; i++) found |= sodium_memcmp(a->known[d[0]][i], d, crypto_generichash_BYTES) == 0;
    return found;
}

static void remember(struct auth *a, const uint8_t d[crypto_generichash_BYTES])
{
    uint8_t(*set)[crypto_generichash_BYTES] = a->known[d[0]];
    if (is_known(a, d)) return;
    memmove(set[1], set[0], (KNOWN_WAYS - 1) * sizeof set[0]);
    memcpy(set[0], d, sizeof set[0]);
}

/* ---- who there is ---- */

bool auth_is_required(const struct worker *w)
{
    /* Also with an empty file: taking the last user out opens no door. */
    return w->config->resp_password[0] != '\0' || w->config->resp_users[0] != '\0';
}

static const struct user *user_named(const struct worker *w, struct kv_slice name)
{
    return w->o.users == NULL ? NULL : users_find(w->o.users, name);
}

static bool is_default(struct kv_slice name)
{
    return name.size == 0 || kv_slice_eq(name, kv_str(USER_DEFAULT));
}

static uint64_t mark_of(const struct user *u)
{
    return kv_hash64(kv_slice(u, sizeof *u), 1);
}

bool auth_is_current(const struct worker *w, struct kv_slice name, uint64_t mark)
{
    if (is_default(name)) return true; /* resp.password is read at start */
    const struct user *u = user_named(w, name);
    return u != NULL && mark_of(u) == mark;
}

/* The line that has to be met, and whose it is: NULL if there is no such user. */
static const char *line_of(const struct worker *w, struct kv_slice name, struct gate_user *who)
{
    const struct user *u = is_default(name) ? NULL : user_named(w, name);
    *who = u != NULL ? (struct gate_user){u->name, u->keyspace, mark_of(u)} : (struct gate_user){USER_DEFAULT, "", 0};
    if (u != NULL) return u->line;
    return is_default(name) && w->config->resp_password[0] != '\0' ? w->config->resp_password : NULL;
}

/* Any line, for somebody who is not there; NULL: nobody is. */
static const char *decoy_of(const struct worker *w)
{
    if (w->config->resp_password[0] != '\0') return w->config->resp_password;
    return w->o.users != NULL && w->o.users->count > 0 ? w->o.users->list[0].line : NULL;
}

/* ---- checking ---- */

static void run(struct env_work *work)
{
    struct attempt *t = container_of(work, struct attempt, work);
    t->result = passwd_check(t->line, kv_slice(t->password, t->size));
}

static void start_next(struct auth *a);

/* Who has shown the right password, if that is still the right one: the file may have been read meanwhile. */
static bool is_right(const struct attempt *t, struct gate_user *who)
{
    const char *line = t->is_decoy ? NULL : line_of(t->a->w, kv_str(t->user), who);
    return t->result == KV_OK && line != NULL && strcmp(line, t->line) == 0;
}

static void done(struct env_work *work)
{
    struct attempt *t = container_of(work, struct attempt, work);
    struct auth *a = t->a;
    struct gate_user who;
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
    struct penalty *p = penalty_of(a, t->g->peer.host); /* also of one who has left: leaving is no way around it */
    bool right = is_right(t, &who);
    if (right) {
        uint8_t d[crypto_generichash_BYTES];
        digest(a, t->line, t->user, kv_slice(t->password, t->size), d);
        remember(a, d);
        *p = (struct penalty){0};
    } else { /* 100 ms, doubling up to 10 s */
        uint32_t shift = p->failures < 7 ? p->failures++ : 7;
        uint64_t wait = KV_MS(100) << shift;
        p->until_ns = env_now_ns(a->w->env) + (wait < KV_SECONDS(10) ? wait : KV_SECONDS(10));
    }
    if (host_answered(t->g)) t->done(t->g, right ? KV_OK : KV_AUTH, right ? &who : NULL);
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

void auth_start(struct gate *g, struct kv_slice user, struct kv_slice password, gate_authenticated *call)
{
    struct worker *w = host_worker(g);
    struct auth *a = w->auth;
    struct gate_user who;
    uint8_t d[crypto_generichash_BYTES];
    const char *line = line_of(w, user, &who);
    bool is_decoy = line == NULL;
    if (is_decoy) line = decoy_of(w);
    if (line == NULL || password.size > PASSWORD_BYTES_MAX) {
        call(g, KV_AUTH, NULL);
        return;
    }
    if (!is_decoy) {
        digest(a, line, who.name, password, d);
        if (is_known(a, d)) {
            call(g, KV_OK, &who);
            return;
        }
    }
    struct penalty *p = penalty_of(a, g->peer.host);
    struct attempt *t = NULL;
    if (env_now_ns(w->env) >= p->until_ns && a->waiting_count < WAITING_MAX) t = calloc(1, sizeof *t);
    if (t == NULL) {
        call(g, KV_THROTTLED, NULL);
        return;
    }
    t->a = a;
    t->g = g;
    t->done = call;
    t->is_decoy = is_decoy;
    if (!is_decoy) memcpy(t->user, who.name, strlen(who.name) + 1);
    t->size = password.size;
    if (password.size > 0) memcpy(t->password, password.data, password.size);
    memcpy(t->line, line, strlen(line) + 1);
    struct attempt **last = &a->waiting;
    while (*last != NULL) last = &(*last)->next;
    *last = t;
    a->waiting_count++;
    g->pending++; /* keeps the connection's memory */
    start_next(a);
}

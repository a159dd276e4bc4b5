#include <errno.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/base/text.h"
#include "client/env/env_uv.h"
#include "server/crash.h"
#include "server/join.h"
#include "server/node.h"
#include "server/nodes.h"
#include "server/worker.h"
#include "storage/checkpoint_lmdb.h"
#include "storage/disk_uv.h"
#include "storage/value.h"

/* kvd, the node: configuration, keys, one worker on libuv. */
extern char **environ;

/* Somewhat more than a put has to wait for at once: a sync of a good disk, a neighbour's answer. */
static const uint64_t linger_ns = 250000;

struct process {
    struct config config;
    struct env_uv *uv;
    struct disk_uv *disk;
    struct checkpoint *checkpoint;
    struct channel_identity identity;
    struct keys_allowed clients;
    struct users users;
    char clients_path[300];
    struct journal journal;
    struct worker *worker;
    bool has_others; /* the directory knows of other nodes */
    struct join *join;
    enum kv_err join_err;
    bool stopping, failed, was_refused;
};

static uint64_t wall_ns(void *context)
{
    (void)context;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void write_line(void *context, struct kv_slice line)
{
    (void)context;
    ssize_t written = write(STDERR_FILENO, line.data, line.size);
    (void)written; /* nowhere else to say it */
}

static int fail(const char *what)
{
    fprintf(stderr, "kvd: %s\n", what);
    return 1;
}

static int usage(void)
{
    return fputs("usage: kvd [--config FILE] [--bootstrap] [--KEY VALUE ...]\n"
                 "       kvd --check-config [--config FILE] ...\n"
                 "       kvd --help | --help-config | --make-key FILE | --version\n"
                 "\n"
                 "Without a configuration kvd is a single durable node: Redis protocol on 127.0.0.1:7400,\n"
                 "native on 127.0.0.1:7401, data and keys in ./kvd-data. Key log.level of the file is also\n"
                 "--log-level and KVD_LOG_LEVEL. --bootstrap: the first start of a new cluster.\n"
                 "--join HOST:PORT --token TOKEN: become one more node of a cluster (`kvctl node token`);\n"
                 "needed once. Exit code 5: it was refused, and asking again would not help.\n"
                 "--role storage,coordinator,gateway: what the node is for, any of these (all): to hold data, to\n"
                 "hold the cluster's own partition 0, to take clients.\n"
                 "\n"
                 "example: kvd --node-data /var/lib/kvd --resp-port 6379\n",
                 stdout) < 0;
}

static int usage_error(const char *word, const char *what)
{
    fprintf(stderr, "kvd: %s: %s; next: kvd --help\n", word, what);
    return 2;
}

/* The value of the option argv[*i]: behind its "=", or the next word, to which *i moves. NULL: none. */
static const char *option_value(int argc, char **argv, int *i)
{
    const char *equals = strchr(argv[*i], '=');
    if (equals != NULL) return equals + 1;
    return *i + 1 < argc ? argv[++*i] : NULL;
}

static bool option_is(const char *option, const char *name)
{
    size_t size = strlen(name);
    return strncmp(option, name, size) == 0 && (option[size] == '\0' || option[size] == '=');
}

static bool option_is_flag(const char *option)
{
    return strcmp(option, "--bootstrap") == 0 || strcmp(option, "--check-config") == 0;
}

/* "--log-level debug" or "--log-level=debug": one key of the configuration. */
static enum kv_err option_set(struct config *c, const char *option, const char *text, char *why, size_t why_size)
{
    char name[64];
    size_t size = strcspn(option, "=");
    const char *key = option_is(option, "--join")    ? "cluster.join"
                      : option_is(option, "--token") ? "cluster.token"
                      : option_is(option, "--role")  ? "node.roles"
                                                     : NULL;
    if (key == NULL && size < sizeof name) {
        memcpy(name, option, size);
        name[size] = '\0';
        key = config_option(name + 2);
    }
    if (key != NULL) {
        enum kv_err err = config_set(c, key, text, why, why_size);
        if (err == KV_OK) config_place(c, key, CONFIG_PLACE_OPTION);
        return err;
    }
    snprintf(why, why_size, "unknown option %.100s; next: kvd --help-config lists the keys", option);
    return KV_BAD_ARGUMENT;
}

static int make_key(const char *path)
{
    uint8_t secret[CHANNEL_KEY_BYTES];
    char why[256];
    struct channel_identity id;
    randombytes_buf(secret, sizeof secret);
    if (keys_make(path, secret, why, sizeof why) != KV_OK) return fail(why);
    channel_identity_make(&id, secret);
    struct kv_buf hex = {0};
    kv_hex_encode(&hex, kv_slice(id.public_key, sizeof id.public_key));
    printf("%.*s\n", (int)hex.size, (const char *)kv_buf_slice(&hex).data);
    kv_buf_free(&hex);
    sodium_memzero(secret, sizeof secret);
    return 0;
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* The file's key, made on first start. */
static enum kv_err key_of(const char *path, struct channel_identity *out, char *why, size_t why_size)
{
    if (!exists(path)) {
        uint8_t secret[CHANNEL_KEY_BYTES];
        randombytes_buf(secret, sizeof secret);
        enum kv_err err = keys_make(path, secret, why, why_size);
        sodium_memzero(secret, sizeof secret);
        if (err != KV_OK) return err;
    }
    return keys_load(path, out, why, why_size);
}

static enum kv_err load_keys(struct process *p, char *why, size_t why_size)
{
    char node_path[300], client_path[300], *allowed_path = p->clients_path;
    const struct config *c = &p->config;
    snprintf(node_path, sizeof node_path, "%s/node.key", c->node_data);
    if (c->node_key[0] != '\0') snprintf(node_path, sizeof node_path, "%s", c->node_key);
    snprintf(client_path, sizeof client_path, "%s/client.key", c->node_data);
    snprintf(allowed_path, sizeof p->clients_path, "%s/clients.keys", c->node_data);
    if (c->client_keys[0] != '\0') snprintf(allowed_path, sizeof p->clients_path, "%s", c->client_keys);
    enum kv_err err = key_of(node_path, &p->identity, why, why_size);
    if (err != KV_OK) return err;
    if (!exists(allowed_path) && c->client_keys[0] == '\0') {
        struct channel_identity client;
        err = key_of(client_path, &client, why, why_size);
        if (err != KV_OK) return err;
        err = keys_allowed_make(allowed_path, client.public_key, why, why_size);
        if (err != KV_OK) return err;
    }
    if (c->resp_users[0] != '\0') err = users_load(c->resp_users, &p->users, why, why_size);
    return err == KV_OK ? keys_allowed_load(allowed_path, &p->clients, why, why_size) : err;
}

static void wake(void *context)
{
    struct env *e = context;
    e->ops->wake(e);
}

static void on_wake(struct env *e)
{
    struct process *p = e->owner;
    disk_uv_poll(p->disk);
}

static void stopped(void *context)
{
    struct process *p = context;
    env_uv_stop(p->uv);
}

static void stop(struct process *p)
{
    if (p->stopping) return;
    p->stopping = true;
    worker_stop(p->worker, stopped, p);
}

static void on_signal(void *context, int signum)
{
    struct process *p = context;
    JOURNAL(&p->journal, main, INFO, "signal", "number=%d", signum);
    stop(p);
}

/* SIGHUP: clients and users come and go without a restart. A file that does not parse changes nothing. */
static void clients_read(struct process *p)
{
    struct keys_allowed next;
    char why[512];
    if (keys_allowed_load(p->clients_path, &next, why, sizeof why) != KV_OK) {
        JOURNAL(&p->journal, main, ERROR, "clients-kept", "why=\"%s\"", why);
        return;
    }
    keys_allowed_free(&p->clients);
    p->clients = next;
    JOURNAL(&p->journal, main, INFO, "clients-read", "file=\"%s\" keys=%u", p->clients_path, p->clients.count);
}

static void users_read(struct process *p)
{
    struct users next;
    char why[512];
    if (p->config.resp_users[0] == '\0') return;
    if (users_load(p->config.resp_users, &next, why, sizeof why) != KV_OK) {
        JOURNAL(&p->journal, main, ERROR, "users-kept", "why=\"%s\"", why);
        return;
    }
    users_free(&p->users);
    p->users = next;
    JOURNAL(&p->journal, main, INFO, "users-read", "file=\"%s\" users=%u", p->config.resp_users, p->users.count);
}

static void on_hangup(void *context, int signum)
{
    struct process *p = context;
    (void)signum;
    clients_read(p);
    users_read(p);
    worker_recheck_clients(p->worker);
}

static void stop_wanted(void *context)
{
    struct process *p = context;
    p->failed = true;
    if (p->worker != NULL) stop(p); /* a supervisor's restart reads back what the disk really holds (R15) */
}

static bool row_is_intact(enum store_class class, struct kv_slice key, struct kv_slice row)
{
    struct value v;
    return class != STORE_DATA || value_read(key, row, &v) == KV_OK;
}

/* A damaged environment is no loss while others hold the same rows: this node begins with an empty
 * one, and its replicas, of which only the log knows now, get successors (R4, R21). */
static enum kv_err open_state(struct process *p, char *why, size_t why_size)
{
    const struct config *c = &p->config;
    char what[256] = "";
    struct checkpoint_lmdb_options o = {.directory = c->node_data, .map_bytes = c->storage_map, .is_intact = row_is_intact};
    enum kv_err err = checkpoint_lmdb_create(&o, &p->checkpoint, what, sizeof what);
    if (err == KV_CORRUPT && (c->node_count > 1 || p->has_others)) {
        JOURNAL(&p->journal, store, ERROR, "state-damaged",
                "what=\"%s\" action=\"all replicas are rebuilt from other nodes; the files are kept in %s/state.damaged\"", what,
                c->node_data);
        err = checkpoint_lmdb_set_aside(c->node_data);
        if (err == KV_OK) err = checkpoint_lmdb_create(&o, &p->checkpoint, what, sizeof what);
    }
    if (err == KV_CORRUPT)
        snprintf(why, why_size, "%s/%s; no other node has a copy. Next: kvlog salvage %s, or restore a backup", c->node_data,
                 what[0] != '\0' ? what : "state: damaged", c->node_data);
    else if (err != KV_OK)
        snprintf(why, why_size, "%s/state: %s", c->node_data, what[0] != '\0' ? what : kv_err_text(err));
    return err;
}

static void joined(void *context, enum kv_err err)
{
    struct process *p = context;
    p->join_err = err;
    env_uv_stop(p->uv);
}

/* Who this node is: what its directory says, or the cluster that it asks to join. */
static enum kv_err find_place(struct process *p, char *why, size_t why_size)
{
    struct config *c = &p->config;
    struct disk *d = disk_uv_disk(p->disk);
    struct membership *m;
    enum kv_err err = membership_overlay(d, c, why, why_size);
    if (err == KV_NOT_FOUND && c->cluster_join[0] != '\0') {
        char identity[300];
        snprintf(identity, sizeof identity, "%s/identity", c->node_data);
        if (exists(identity)) {
            snprintf(why, why_size, "%s: a node with data of its own joins no other cluster; next: an empty directory", c->node_data);
            return KV_CONFLICT;
        }
        struct join_options o = {.config = c,
                                 .env = env_uv_env(p->uv),
                                 .disk = d,
                                 .identity = &p->identity,
                                 .journal = &p->journal,
                                 .done = joined,
                                 .context = p};
        err = join_start(&o, &p->join);
        if (err != KV_OK) return err;
        env_uv_run(p->uv);
        err = p->join_err;
        p->was_refused = err != KV_OK && err != KV_TIMEOUT;
        snprintf(why, why_size, "%s", join_why(p->join));
        join_destroy(p->join, false);
        if (err == KV_OK) err = membership_overlay(d, c, why, why_size);
    }
    if (err == KV_NOT_FOUND) return KV_OK; /* as the configuration says */
    if (err != KV_OK) return err;
    p->journal.node = (uint32_t)c->node_id;
    m = malloc(sizeof *m);
    if (m == NULL) return KV_NO_SPACE;
    p->has_others = membership_read(d, m, why, why_size) == KV_OK && m->count > 1;
    free(m);
    why[0] = '\0';
    return KV_OK;
}

static int run(struct process *p)
{
    char why[1024] = "";
    struct config *c = &p->config;
    enum kv_err err;
    int code = 1;
    p->journal = (struct journal){.node = (uint32_t)c->node_id,
                                  .json = strcmp(c->log_format, "json") == 0,
                                  .wall_ns = wall_ns,
                                  .write = write_line};
    const char *bad = NULL;
    if (journal_set(&p->journal, c->log_level, &bad) != KV_OK) {
        snprintf(why, sizeof why, "log.level: %s", bad != NULL ? bad : "does not parse");
        return fail(why);
    }
    if (env_uv_create(&p->uv) != KV_OK) return fail("cannot make an event loop");
    struct env *env = env_uv_env(p->uv);
    env->owner = p;
    env->on_wake = on_wake;
    env_uv_linger(p->uv, linger_ns);
    err = disk_uv_create(c->node_data, wake, env, &p->disk);
    if (err != KV_OK) {
        snprintf(why, sizeof why, "data directory %s: %s", c->node_data,
                 err == KV_BUSY ? "in use by another process" : strerror(errno));
        goto close_env;
    }
    err = load_keys(p, why, sizeof why);
    if (err != KV_OK) goto close_disk;
    err = find_place(p, why, sizeof why);
    if (err != KV_OK) {
        if (p->was_refused) code = 5;
        goto close_disk;
    }
    err = open_state(p, why, sizeof why);
    if (err != KV_OK) goto close_disk;
    crash_watch(checkpoint_lmdb_suspect_fd(p->checkpoint));
    struct worker_options o = {.config = c,
                               .env = env,
                               .disk = disk_uv_disk(p->disk),
                               .checkpoint = p->checkpoint,
                               .identity = &p->identity,
                               .clients = &p->clients,
                               .users = &p->users,
                               .journal = &p->journal,
                               .stop_wanted = stop_wanted,
                               .context = p};
    err = worker_create(&o, &p->worker, why, sizeof why);
    if (err != KV_OK) goto close_checkpoint;
    env_uv_signal(p->uv, SIGTERM, on_signal, p);
    env_uv_signal(p->uv, SIGINT, on_signal, p);
    env_uv_signal(p->uv, SIGHUP, on_hangup, p);
    err = worker_start(p->worker, why, sizeof why);
    if (err == KV_OK) {
        JOURNAL(&p->journal, main, INFO, "serving", "version=%s node=%llu native=%s:%llu resp=%s:%llu cluster=%llu data=\"%s\"",
                KVD_VERSION, (unsigned long long)c->node_id, c->native_host, (unsigned long long)c->native_port,
                c->resp_host, (unsigned long long)c->resp_port,
                (unsigned long long)c->resp_cluster_port, c->node_data);
        if (p->failed) stop(p);
        env_uv_run(p->uv);
        JOURNAL(&p->journal, main, INFO, "stopped", "clean=%d", !p->failed);
        code = p->failed ? 1 : 0;
        why[0] = '\0';
    }
    worker_destroy(p->worker);
close_checkpoint:
    crash_watch(-1);
    disk_uv_destroy(p->disk); /* its threads may still use the checkpoint */
    p->checkpoint->ops->destroy(p->checkpoint);
    p->disk = NULL;
close_disk:
    if (p->disk != NULL) disk_uv_destroy(p->disk);
    keys_allowed_free(&p->clients);
    users_free(&p->users);
close_env:
    env_uv_destroy(p->uv);
    if (why[0] != '\0') fail(why);
    return code;
}

int main(int argc, char **argv)
{
    static struct process p;
    struct config *c = &p.config;
    char why[512] = "";
    const char *file = NULL;
    bool check_only = false;
    signal(SIGPIPE, SIG_IGN);
    if (sodium_init() < 0) return fail("libsodium does not start");
    config_defaults(c);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help-config") == 0) {
            struct kv_buf text = {0};
            config_help(&text);
            fwrite(kv_buf_slice(&text).data, 1, text.size, stdout);
            kv_buf_free(&text);
            return 0;
        }
        if (strcmp(argv[i], "--version") == 0) return puts("kvd " KVD_VERSION) < 0;
        if (strcmp(argv[i], "--help") == 0) return usage();
        const char *option = argv[i];
        if (strncmp(option, "--", 2) != 0) return usage_error(option, "not an option");
        if (strcmp(option, "--bootstrap") == 0) c->bootstrap = true;
        if (strcmp(option, "--check-config") == 0) check_only = true;
        if (option_is_flag(option)) continue;
        const char *value = option_value(argc, argv, &i);
        if (value == NULL) return usage_error(option, "needs a value");
        if (option_is(option, "--make-key")) return make_key(value);
        if (option_is(option, "--config")) file = value;
    }
    enum kv_err err = file != NULL ? config_file(c, file, why, sizeof why) : KV_OK;
    if (err == KV_OK) err = config_environment(c, environ, why, sizeof why);
    for (int i = 1; i < argc && err == KV_OK; i++) {
        const char *option = argv[i];
        if (option_is_flag(option)) continue;
        const char *value = option_value(argc, argv, &i);
        if (!option_is(option, "--config")) err = option_set(c, option, value, why, sizeof why);
    }
    if (err == KV_OK) err = config_check(c, why, sizeof why);
    if (err != KV_OK) {
        fail(why);
        return 2;
    }
    if (check_only) return puts("configuration ok") < 0;
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    return run(&p);
}

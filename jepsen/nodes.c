#include "jepsen/nodes.h"
#include "client/base/text.h"
#include "jepsen/run.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Where Debian has it, for whatever machine. */
bool nodes_faketime(char path[NODES_PATH_BYTES])
{
    glob_t found;
    bool good = glob("/usr/lib/*/faketime/libfaketimeMT.so.1", 0, NULL, &found) == 0 &&
                strlen(found.gl_pathv[0]) < NODES_PATH_BYTES;
    if (good) snprintf(path, NODES_PATH_BYTES, "%s", found.gl_pathv[0]);
    globfree(&found);
    return good;
}

static struct env_addr address(const struct node *node, uint16_t port)
{
    struct env_addr a = {.port = port};
    snprintf(a.host, sizeof a.host, "127.0.0.%u", node->id);
    return a;
}

struct env_addr nodes_resp(const struct node *node)
{
    return address(node, NODES_RESP_PORT);
}

struct env_addr nodes_native(const struct node *node)
{
    return address(node, NODES_NATIVE_PORT);
}

/* ---- making them ---- */

static bool make_key(const struct run *r, const char *path, char key[65])
{
    char program[NODES_PATH_BYTES + 8], out[256];
    snprintf(program, sizeof program, "%s/kvd", r->options.build);
    bool good = run_program((const char *const[]){program, "--make-key", path, NULL}, NULL, out, sizeof out);
    out[strcspn(out, "\n")] = '\0';
    if (!good || strlen(out) != 64) return false;
    memcpy(key, out, 65);
    return true;
}

/* `keys`: those of all nodes that the cluster begins with; NULL: it joins them by the token. */
static void write_config(FILE *out, const struct nodes *n, const struct node *node, char keys[][65], const char *token)
{
    const struct run *r = n->run;
    if (keys == NULL) {
        fprintf(out, "cluster: {join: \"127.0.0.%u:%d\", token: %s, join_time: 10m}\n", 1 + node->id % r->options.nodes, NODES_NATIVE_PORT, token);
        fprintf(out, "node: {data: %s/data, key: %s/node.key}\n", node->dir, node->dir);
    } else {
        fprintf(out, "cluster:\n  name: jepsen\n  id: %032llx\n  nodes:\n", (unsigned long long)r->options.seed | 1u);
        for (uint32_t i = 0; i < n->count; i++)
            fprintf(out, "    - {id: %u, host: 127.0.0.%u, native: %d, resp: %d, key: %s}\n", i + 1, i + 1, NODES_NATIVE_PORT,
                    NODES_RESP_PORT, keys[i]);
        fprintf(out, "node: {id: %u, data: %s/data, key: %s/node.key}\n", node->id, node->dir, node->dir);
    }
    fprintf(out, "native: {host: 127.0.0.%u, port: %d}\nresp: {host: 127.0.0.%u, port: %d}\n", node->id,
            NODES_NATIVE_PORT, node->id, NODES_RESP_PORT);
    fprintf(out, "client.keys: %s/clients.keys\n", r->options.dir);
    fprintf(out, "storage: {segment: 256KiB, segment_max: 1MiB, memtable: 1MiB, map: 1GiB}\nraft.log_keep: "
                 "1MiB\nlimit.value: 64KiB\n");
}

static bool config_make(const struct nodes *n, const struct node *node, char keys[][65], const char *token)
{
    char path[NODES_PATH_BYTES + 32];
    snprintf(path, sizeof path, "%s/kvd.yaml", node->dir);
    FILE *out = fopen(path, "we");
    if (out == NULL) return false;
    write_config(out, n, node, keys, token);
    return fclose(out) == 0;
}

/* The page through which a preloaded disk is told what to do, and counts. */
static bool shim_make(struct node *node)
{
    char path[NODES_PATH_BYTES + 32];
    snprintf(path, sizeof path, "%s/shim", node->dir);
    if (mkdir(path, 0700) != 0) return false;
    snprintf(path, sizeof path, "%s/shim/control", node->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return false;
    void *page = ftruncate(fd, SHIM_CONTROL_BYTES) == 0
                     ? mmap(NULL, SHIM_CONTROL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                     : MAP_FAILED;
    close(fd);
    if (page == MAP_FAILED) return false;
    node->shim = page;
    node->shim->sync_delay_us = NODES_SYNC_DELAY_US;
    return true;
}

static bool tmpfs_make(const struct node *node)
{
    char path[NODES_PATH_BYTES + 32], options[32];
    snprintf(path, sizeof path, "%s/data", node->dir);
    snprintf(options, sizeof options, "mode=700,size=%d", NODES_TMPFS_BYTES);
    return mkdir(path, 0700) == 0 && mount("none", path, "tmpfs", 0, options) == 0;
}

static bool extras_make(const struct nodes *n, struct node *node)
{
    char path[NODES_PATH_BYTES + 32];
    if (n->wants_disk_shim && !shim_make(node)) return false;
    if (n->wants_tmpfs && !tmpfs_make(node)) return false;
    if (!n->wants_faketime) return true;
    /* libfaketime names its shared memory by pid, which is not unique across namespaces. */
    if (node->id == 1 && mount("none", "/dev/shm", "tmpfs", 0, "size=16m") != 0) return false;
    snprintf(path, sizeof path, "%s/faketime", node->dir);
    FILE *out = fopen(path, "we");
    if (out == NULL) return false;
    fputs("+0s\n", out);
    return fclose(out) == 0;
}

static bool node_make(struct nodes *n, uint32_t id, char key[65])
{
    char path[NODES_PATH_BYTES + 32];
    struct node *node = &n->node[id - 1];
    *node = (struct node){.id = id};
    snprintf(node->dir, sizeof node->dir, "%s/node-%u", n->run->options.dir, id);
    snprintf(path, sizeof path, "%s/node.key", node->dir);
    return mkdir(node->dir, 0700) == 0 && make_key(n->run, path, key) && extras_make(n, node);
}

bool nodes_create(struct nodes *n, uint32_t count)
{
    struct run *r = n->run;
    char path[NODES_PATH_BYTES + 32], keys[NODES_MAX][65], client[65], why[KV_TEXT_BYTES];
    assert(count <= NODES_MAX);
    n->count = count;
    snprintf(path, sizeof path, "%s/client.key", r->options.dir);
    bool good = make_key(r, path, client) && kv_key_file(path, n->client_key, why) == KV_OK;
    for (uint32_t i = 0; i < count && good; i++) good = node_make(n, i + 1, keys[i]);
    snprintf(path, sizeof path, "%s/clients.keys", r->options.dir);
    FILE *out = good ? fopen(path, "we") : NULL;
    if (out != NULL) fprintf(out, "%s\n", client);
    good = out != NULL && fclose(out) == 0;
    for (uint32_t i = 0; i < count && good; i++) good = config_make(n, &n->node[i], keys, NULL);
    if (!good) run_fail(r, "cannot make the cluster in %s: %s", r->options.dir, strerror(errno));
    return good;
}

bool node_join(struct nodes *n, const char *token)
{
    char key[65];
    assert(n->count < NODES_MAX);
    if (!node_make(n, n->count + 1, key) || !config_make(n, &n->node[n->count], NULL, token)) {
        run_fail(n->run, "cannot make node %u: %s", n->count + 1, strerror(errno));
        return false;
    }
    return node_start(n, &n->node[n->count++], false);
}

/* ---- starting and stopping ---- */

static void preload(const struct nodes *n, const struct node *node)
{
    char list[2 * NODES_PATH_BYTES] = "", text[NODES_PATH_BYTES + 32];
    if (n->wants_disk_shim) {
        snprintf(list, sizeof list, "%s/libkvjepsen_disk.so", n->run->options.build);
        snprintf(text, sizeof text, "%s/data", node->dir);
        setenv("KVJEPSEN_DATA", text, 1);
        snprintf(text, sizeof text, "%s/shim", node->dir);
        setenv("KVJEPSEN_SHIM", text, 1);
    }
    if (n->wants_faketime && nodes_faketime(text)) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used > 0 ? ":" : "", text);
        snprintf(text, sizeof text, "%s/faketime", node->dir);
        setenv("FAKETIME_TIMESTAMP_FILE", text, 1);
        setenv("FAKETIME_NO_CACHE", "1", 1); /* a cached offset would outlast a short fault */
        setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1", 1);
        setenv("DONT_FAKE_MONOTONIC", "1", 1);
    }
    if (list[0] == '\0') return;
    setenv("LD_PRELOAD", list, 1);
    setenv("ASAN_OPTIONS", "verify_asan_link_order=0", 0);
}

bool node_start(struct nodes *n, struct node *node, bool bootstrap)
{
    char program[NODES_PATH_BYTES + 8], config[NODES_PATH_BYTES + 16], log[NODES_PATH_BYTES + 16];
    assert(node->pid == 0);
    snprintf(program, sizeof program, "%s/kvd", n->run->options.build);
    snprintf(config, sizeof config, "%s/kvd.yaml", node->dir);
    snprintf(log, sizeof log, "%s/log", node->dir);
    struct stat st;
    int64_t log_bytes = stat(log, &st) == 0 ? st.st_size : 0;
    pid_t pid = fork();
    if (pid < 0) {
        run_fail(n->run, "fork: %s", strerror(errno));
        return false;
    }
    if (pid == 0) {
        int in = open("/dev/null", O_RDONLY), out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) _exit(126);
        preload(n, node);
        execl(program, program, "--config", config, bootstrap ? "--bootstrap" : (char *)NULL, (char *)NULL);
        _exit(127);
    }
    node->pid = pid;
    node->log_bytes = log_bytes;
    node->is_wanted = true;
    node->is_paused = false;
    return true;
}

bool node_kill(struct nodes *n, struct node *node)
{
    int status = 0;
    if (node->pid == 0) return false;
    node->is_wanted = false;
    kill(node->pid, SIGKILL);
    while (waitpid(node->pid, &status, 0) < 0 && errno == EINTR) {
    }
    node->pid = 0;
    node->is_paused = false;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return true;
    run_fail(n->run, "node %u had ended before it was killed, status %d", node->id, status);
    return false;
}

bool node_pause(struct nodes *n, struct node *node)
{
    int status = 0;
    if (node->pid == 0) return false;
    kill(node->pid, SIGSTOP);
    pid_t got;
    while ((got = waitpid(node->pid, &status, WUNTRACED)) < 0 && errno == EINTR) {
    }
    if (got == node->pid && WIFSTOPPED(status)) {
        node->is_paused = true;
        return true;
    }
    node->pid = 0;
    run_fail(n->run, "node %u ended before it was paused, status %d", node->id, status);
    return false;
}

void node_resume(struct node *node)
{
    if (node->pid != 0) kill(node->pid, SIGCONT);
    node->is_paused = false;
}

void node_terminate(struct nodes *n, struct node *node)
{
    if (node->pid == 0) return;
    node->is_wanted = false;
    node->told_ns = env_now_ns(n->run->env);
    kill(node->pid, SIGTERM);
    node_resume(node);
}

static void last_words(const struct node *node, char *out, size_t size)
{
    char path[NODES_PATH_BYTES + 16], tail[1024];
    snprintf(path, sizeof path, "%s/log", node->dir);
    snprintf(out, size, "nothing logged");
    FILE *f = fopen(path, "re");
    if (f == NULL) return;
    fseek(f, 0, SEEK_END);
    long end = ftell(f);
    fseek(f, end > (long)sizeof tail - 1 ? end - (long)sizeof tail + 1 : 0, SEEK_SET);
    size_t got = fread(tail, 1, sizeof tail - 1, f);
    fclose(f);
    while (got > 0 && tail[got - 1] == '\n') got--;
    tail[got] = '\0';
    char *line = strrchr(tail, '\n');
    snprintf(out, size, "%.200s", line == NULL ? tail : line + 1);
}

/* Told to stop while it still recovers a node has nothing to end in order, and ends as any program does. */
static bool ended_before_it_served(const struct node *node, int status)
{
    char path[NODES_PATH_BYTES + 16], line[512];
    bool served = false;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGTERM) return false;
    snprintf(path, sizeof path, "%s/log", node->dir);
    FILE *f = fopen(path, "re");
    if (f == NULL || fseek(f, (long)node->log_bytes, SEEK_SET) != 0) served = true;
    while (!served && fgets(line, sizeof line, f) != NULL) served = strstr(line, " main serving ") != NULL;
    if (f != NULL) fclose(f);
    return !served;
}

static void node_ended(struct nodes *n, struct node *node, int status)
{
    char words[208];
    uint64_t took_ns = env_now_ns(n->run->env) - node->told_ns; /* if it was told */
    node->pid = 0;
    last_words(node, words, sizeof words);
    if (node->is_wanted)
        run_fail(n->run, "node %u ended by itself, %s %d: %s", node->id, WIFSIGNALED(status) ? "signal" : "exit",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), words);
    else if (took_ns > (n->run->options.nemesis->at_once > 1 ? NODES_STOP_FAULTS_NS : NODES_STOP_NS))
        run_fail(n->run, "node %u took %.1f s to stop: %s", node->id, (double)took_ns / 1e9, words);
    else if ((!WIFEXITED(status) || WEXITSTATUS(status) != 0) && !ended_before_it_served(node, status))
        run_fail(n->run, "node %u did not stop cleanly, status %d: %s", node->id, status, words);
    bool revives = node->is_wanted && !node->was_revived;
    node->was_revived = node->was_revived || revives;
    node->is_wanted = false;
    if (node->starts_again || revives) node_start(n, node, false);
    node->starts_again = false;
}

/* ---- ready ---- */

static void ask_ready(struct nodes *n, struct node *node)
{
    char program[NODES_PATH_BYTES + 8], address_text[32], key[NODES_PATH_BYTES + 16], log[NODES_PATH_BYTES + 16];
    snprintf(program, sizeof program, "%s/kvctl", n->run->options.build);
    snprintf(address_text, sizeof address_text, "127.0.0.%u:%d", node->id, NODES_NATIVE_PORT);
    snprintf(key, sizeof key, "%s/client.key", n->run->options.dir);
    snprintf(log, sizeof log, "%s/ready", node->dir);
    pid_t pid = fork();
    if (pid == 0) {
        int in = open("/dev/null", O_RDONLY), out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) _exit(126);
        execl(program, program, "--addr", address_text, "--key", key, "ready", "--timeout", "5s", (char *)NULL);
        _exit(127);
    }
    node->asked = pid > 0 ? pid : 0;
}

void nodes_ask_ready(struct nodes *n)
{
    for (uint32_t i = 0; i < n->count; i++) {
        n->node[i].is_ready = false;
        ask_ready(n, &n->node[i]);
    }
}

bool nodes_are_ready(struct run *r)
{
    for (uint32_t i = 0; i < r->nodes.count; i++)
        if (!r->nodes.node[i].is_ready) return false;
    return true;
}

bool nodes_are_down(struct run *r)
{
    for (uint32_t i = 0; i < r->nodes.count; i++)
        if (r->nodes.node[i].pid != 0) return false;
    return true;
}

void nodes_reaped(struct nodes *n)
{
    for (uint32_t i = 0; i < n->count; i++) {
        struct node *node = &n->node[i];
        int status;
        if (node->pid != 0 && waitpid(node->pid, &status, WNOHANG) == node->pid) node_ended(n, node, status);
        if (node->asked == 0 || waitpid(node->asked, &status, WNOHANG) != node->asked) continue;
        node->asked = 0;
        node->is_ready = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (!node->is_ready && node->is_wanted) ask_ready(n, node);
    }
}

void nodes_end(struct nodes *n)
{
    for (uint32_t i = 0; i < n->count; i++) {
        struct node *node = &n->node[i];
        node->is_wanted = false;
        if (node->asked != 0) kill(node->asked, SIGKILL);
        if (node->pid == 0) continue;
        kill(node->pid, SIGKILL);
        waitpid(node->pid, NULL, 0);
        node->pid = 0;
    }
}

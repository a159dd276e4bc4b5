#include "tools/kvctl/target.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

__attribute__((format(printf, 2, 3))) static void tried(struct target *t, const char *format, ...)
{
    size_t used = strlen(t->tried);
    va_list args;
    if (used > 0 && used + 2 < sizeof t->tried) {
        memcpy(t->tried + used, ", ", 3);
        used += 2;
    }
    va_start(args, format);
    (void)vsnprintf(t->tried + used, sizeof t->tried - used, format, args);
    va_end(args);
}

static bool text_set(char *out, size_t size, const char *text)
{
    size_t length = strlen(text);
    if (length >= size) return false;
    memcpy(out, text, length + 1);
    return true;
}

/* client_key is taken as it stands, or from the folder of the file. */
static bool key_path(struct target *t, const char *path, const char *key)
{
    const char *slash = strrchr(path, '/');
    if (key[0] == '/' || slash == NULL || access(key, F_OK) == 0)
        return text_set(t->key_file, sizeof t->key_file, key);
    int n = snprintf(t->key_file, sizeof t->key_file, "%.*s/%s", (int)(slash - path), path, key);
    return n > 0 && (size_t)n < sizeof t->key_file;
}

bool target_cluster(struct target *t, const char *path, char *why, size_t why_size)
{
    json_error_t at;
    bool good = false;
    size_t used = 0, index;
    json_t *root = json_load_file(path, 0, &at), *node;
    if (root == NULL) {
        if (at.line < 0)
            snprintf(why, why_size, "%s: %s", path, access(path, F_OK) != 0 ? "no such file" : "cannot be read");
        else
            snprintf(why, why_size, "%s:%d: %s", path, at.line, at.text);
        return false;
    }
    const char *key = json_string_value(json_object_get(root, "client_key"));
    json_t *nodes = json_object_get(root, "nodes");
    if (json_integer_value(json_object_get(root, "version")) != 1) {
        snprintf(why, why_size, "%s: \"version\" is not 1", path);
        goto done;
    }
    if (key == NULL || !key_path(t, path, key)) {
        snprintf(why, why_size, "%s: \"client_key\" is not a path", path);
        goto done;
    }
    t->addresses[0] = 0;
    json_array_foreach(nodes, index, node) {
        const char *host = json_string_value(json_object_get(node, "host"));
        json_int_t port = json_integer_value(json_object_get(node, "native"));
        if (host == NULL || port <= 0 || port > 65535) {
            snprintf(why, why_size, "%s: node %zu lacks \"host\" or \"native\"", path, index + 1);
            goto done;
        }
        int n = snprintf(t->addresses + used, sizeof t->addresses - used, "%s%s:%d", used > 0 ? "," : "", host,
                         (int)port);
        if (n < 0 || (size_t)n >= sizeof t->addresses - used) break; /* some are enough */
        used += (size_t)n;
        if (index + 1 == 16) break; /* KV_ADDRESSES_MAX */
    }
    good = used > 0;
    if (!good) snprintf(why, why_size, "%s: no \"nodes\"", path);
done:
    json_decref(root);
    return good;
}

static bool named_cluster(struct target *t, const char *path, const char *name, char *why, size_t why_size)
{
    char reason[512];
    if (!target_cluster(t, path, reason, sizeof reason)) {
        snprintf(why, why_size, "%s %s", name, reason);
        return false;
    }
    snprintf(t->source, sizeof t->source, "%s %s", name, path);
    tried(t, "%s", t->source);
    return true;
}

/* The first key file there is. Its path is set even then, so that errors can name it. */
static void key_guess(struct target *t, const char *directory)
{
    struct target from = {.tried = ""};
    char path[TARGET_PATH_BYTES], why[256];
    if (t->key_file[0] != 0) return;
    snprintf(path, sizeof path, "%s/build/cluster/cluster.json", directory);
    if (target_cluster(&from, path, why, sizeof why) && access(from.key_file, F_OK) == 0) {
        (void)text_set(t->key_file, sizeof t->key_file, from.key_file);
        return;
    }
    snprintf(t->key_file, sizeof t->key_file, "%s/kvd-data/client.key", directory);
}

bool target_find(struct target *t, const struct target_hints *h, char *why, size_t why_size)
{
    const char *directory = h->directory != NULL ? h->directory : ".";
    /* An option speaks for itself: what the environment says about another cluster is not mixed in. */
    bool whole = h->addr != NULL && h->key != NULL;
    const char *addr = h->addr != NULL || h->cluster != NULL ? h->addr : h->env_addr;
    const char *cluster = h->cluster != NULL || whole ? h->cluster : h->env_cluster;
    const char *key = h->key != NULL || h->cluster != NULL ? h->key : h->env_key;
    char path[TARGET_PATH_BYTES];
    memset(t, 0, sizeof *t);
    why[0] = 0;
    if (cluster != NULL &&
        !named_cluster(t, cluster, h->cluster != NULL ? "--cluster" : "KVD_CLUSTER", why, why_size))
        return false;
    if (addr != NULL) {
        snprintf(t->source, sizeof t->source, "%s", h->addr != NULL ? "--addr" : "KVD_ADDR");
        tried(t, "%s %s", t->source, addr);
        if (!text_set(t->addresses, sizeof t->addresses, addr)) {
            snprintf(why, why_size, "%s: too long", t->source);
            return false;
        }
    }
    if (t->addresses[0] == 0) {
        char missing[512];
        snprintf(path, sizeof path, "%s/build/cluster/cluster.json", directory);
        if (target_cluster(t, path, missing, sizeof missing)) {
            snprintf(t->source, sizeof t->source, "%s", path);
            tried(t, "%s", path);
        } else {
            memset(t->addresses, 0, sizeof t->addresses);
            t->key_file[0] = 0;
            tried(t, "%s", missing);
            snprintf(path, sizeof path, "%s/kvd-data", directory);
            bool found = access(path, F_OK) == 0;
            tried(t, "%s%s", path, found ? "" : ": no such directory");
            snprintf(t->source, sizeof t->source, "%s", found ? path : "the default address");
            (void)text_set(t->addresses, sizeof t->addresses, "127.0.0.1:7401");
            tried(t, "127.0.0.1:7401");
        }
    }
    if (key != NULL && !text_set(t->key_file, sizeof t->key_file, key)) {
        snprintf(why, why_size, "%s: too long", h->key != NULL ? "--key" : "KVD_KEY");
        return false;
    }
    key_guess(t, directory);
    return true;
}

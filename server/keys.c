#include "server/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/base/text.h"

enum { HEX_BYTES = 2 * CHANNEL_KEY_BYTES, ALLOWED_MAX = 65536, LINE_BYTES = 1024 };

static enum kv_err system_fault(const char *path, char *why, size_t why_size)
{
    int code = errno;
    (void)snprintf(why, why_size, "%s: %s", path, strerror(code));
    if (code == ENOENT) return KV_NOT_FOUND;
    if (code == EEXIST) return KV_CONFLICT;
    if (code == EACCES || code == EPERM) return KV_DENIED;
    return code == ENOSPC ? KV_NO_SPACE : KV_IO;
}

enum kv_err keys_load(const char *path, struct channel_identity *out, char *why, size_t why_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return system_fault(path, why, why_size);
    enum kv_err err = KV_IO;
    char text[HEX_BYTES + 2]; /* one byte more than a good file has */
    uint8_t secret[CHANNEL_KEY_BYTES];
    struct stat st;
    if (fstat(fd, &st) != 0) {
        err = system_fault(path, why, why_size);
        goto close;
    }
    if ((st.st_mode & 077) != 0) {
        (void)snprintf(why, why_size, "%s: mode %03o lets others read the secret key; chmod 600 it",
                       path, (unsigned)st.st_mode & 0777u);
        err = KV_DENIED;
        goto close;
    }
    ssize_t got = read(fd, text, sizeof text);
    if (got < 0) {
        err = system_fault(path, why, why_size);
        goto close;
    }
    size_t size = (size_t)got;
    if (size == HEX_BYTES + 1 && text[HEX_BYTES] == '\n') size--;
    if (!kv_hex_decode(kv_slice(text, size), secret, sizeof secret)) {
        (void)snprintf(why, why_size, "%s: not a key file (64 hex digits and a newline)", path);
        err = KV_MALFORMED;
        goto close;
    }
    channel_identity_make(out, secret);
    err = KV_OK;
close:
    explicit_bzero(text, sizeof text);
    explicit_bzero(secret, sizeof secret);
    close(fd);
    return err;
}

static enum kv_err sync_directory_of(const char *path, char *why, size_t why_size)
{
    char copy[PATH_MAX];
    (void)snprintf(copy, sizeof copy, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return system_fault(path, why, why_size);
    enum kv_err err = fsync(fd) == 0 ? KV_OK : system_fault(path, why, why_size);
    close(fd);
    return err;
}

/* Written aside and linked into place: whoever sees the name sees a whole key, and a name
 * that exists is never replaced. */
static enum kv_err key_write(const char *path, const uint8_t key[CHANNEL_KEY_BYTES], char *why, size_t why_size)
{
    char aside[PATH_MAX], text[HEX_BYTES + 2];
    int size = snprintf(aside, sizeof aside, "%s.%ld.new", path, (long)getpid());
    if (size < 0 || (size_t)size >= sizeof aside) {
        (void)snprintf(why, why_size, "%.128s..: the path is too long", path);
        return KV_BAD_ARGUMENT;
    }
    for (size_t i = 0; i < CHANNEL_KEY_BYTES; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", key[i]);
    text[HEX_BYTES] = '\n';

    enum kv_err err = KV_IO;
    int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        err = system_fault(aside, why, why_size);
        goto wipe;
    }
    if (write(fd, text, HEX_BYTES + 1) != HEX_BYTES + 1 || fsync(fd) != 0)
        err = system_fault(aside, why, why_size);
    else
        err = link(aside, path) == 0 ? KV_OK : system_fault(path, why, why_size);
    close(fd);
    (void)unlink(aside);
    if (err == KV_OK) err = sync_directory_of(path, why, why_size);
wipe:
    explicit_bzero(text, sizeof text);
    return err;
}

enum kv_err keys_make(const char *path, const uint8_t secret[CHANNEL_KEY_BYTES], char *why,
                      size_t why_size)
{
    return key_write(path, secret, why, why_size);
}

enum kv_err keys_allowed_make(const char *path, const uint8_t key[CHANNEL_KEY_BYTES], char *why, size_t why_size)
{
    return key_write(path, key, why, why_size);
}

static int key_order(const void *a, const void *b)
{
    return memcmp(a, b, CHANNEL_KEY_BYTES);
}

/* One line without its newline: empty, a comment, or a key and perhaps a comment. */
static bool read_line(char *line, bool *has_key, uint8_t key[CHANNEL_KEY_BYTES])
{
    line[strcspn(line, "#\r\n")] = '\0';
    char *start = line + strspn(line, " \t");
    size_t size = strcspn(start, " \t");
    *has_key = size > 0;
    if (start[size + strspn(start + size, " \t")] != '\0') return false; /* a second word */
    return !*has_key || kv_hex_decode(kv_slice(start, size), key, CHANNEL_KEY_BYTES);
}

enum kv_err keys_allowed_load(const char *path, struct keys_allowed *out, char *why,
                              size_t why_size)
{
    *out = (struct keys_allowed){0};
    FILE *file = fopen(path, "re");
    if (file == NULL) return system_fault(path, why, why_size);
    enum kv_err err = KV_MALFORMED;
    struct keys_allowed loaded = {0};
    uint32_t capacity = 0, number = 0;
    char line[LINE_BYTES];
    while (fgets(line, sizeof line, file) != NULL) {
        number++;
        uint8_t key[CHANNEL_KEY_BYTES];
        bool has_key;
        bool whole = strlen(line) + 1 < sizeof line;
        if (!whole || !read_line(line, &has_key, key)) {
            (void)snprintf(why, why_size, "%s:%u: not a public key (64 hex digits)", path, number);
            goto done;
        }
        if (!has_key) continue;
        if (loaded.count == ALLOWED_MAX) {
            (void)snprintf(why, why_size, "%s:%u: more than %d keys", path, number, ALLOWED_MAX);
            err = KV_TOO_BIG;
            goto done;
        }
        if (loaded.count == capacity) {
            capacity = capacity == 0 ? 16 : 2 * capacity;
            void *grown = realloc(loaded.keys, capacity * sizeof *loaded.keys);
            if (grown == NULL) {
                (void)snprintf(why, why_size, "%s: out of memory", path);
                err = KV_NO_SPACE;
                goto done;
            }
            loaded.keys = grown;
        }
        memcpy(loaded.keys[loaded.count++], key, sizeof key);
    }
    if (ferror(file)) {
        err = system_fault(path, why, why_size);
        goto done;
    }
    if (loaded.count > 0) qsort(loaded.keys, loaded.count, sizeof *loaded.keys, key_order);
    *out = loaded;
    loaded = (struct keys_allowed){0};
    err = KV_OK;
done:
    keys_allowed_free(&loaded);
    fclose(file);
    return err;
}

bool keys_allowed_has(const struct keys_allowed *a, const uint8_t key[CHANNEL_KEY_BYTES])
{
    return a->count > 0 && bsearch(key, a->keys, a->count, sizeof *a->keys, key_order) != NULL;
}

void keys_allowed_free(struct keys_allowed *a)
{
    free(a->keys);
    *a = (struct keys_allowed){0};
}

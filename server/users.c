#include "server/users.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The file is read whole, then line by line. A line's text is never in an error: it may be a password somebody typed
 * where its hash belongs. */

static enum kv_err system_fault(const char *path, char *why, size_t why_size)
{
    int code = errno;
    (void)snprintf(why, why_size, "%s: %s", path, strerror(code));
    if (code == ENOENT) return KV_NOT_FOUND;
    return code == EACCES || code == EPERM ? KV_DENIED : KV_IO;
}

/* The next word, ended by blanks; empty: none is left. */
static struct kv_slice word_next(struct kv_slice *rest)
{
    size_t from = 0, to;
    while (from < rest->size && (rest->data[from] == ' ' || rest->data[from] == '\t' || rest->data[from] == '\r')) from++;
    for (to = from; to < rest->size; to++)
        if (rest->data[to] == ' ' || rest->data[to] == '\t' || rest->data[to] == '\r') break;
    struct kv_slice word = kv_slice(rest->data + from, to - from);
    *rest = kv_slice(rest->data + to, rest->size - to);
    return word;
}

static struct kv_slice line_next(struct kv_slice *rest)
{
    const uint8_t *end = memchr(rest->data, '\n', rest->size);
    size_t size = end == NULL ? rest->size : (size_t)(end - rest->data);
    size_t used = end == NULL ? size : size + 1;
    struct kv_slice line = kv_slice(rest->data, size);
    const uint8_t *comment = size == 0 ? NULL : memchr(line.data, '#', size);
    if (comment != NULL) line.size = (size_t)(comment - line.data);
    *rest = kv_slice(rest->data + used, rest->size - used);
    return line;
}

static void text_copy(char *to, struct kv_slice from)
{
    memcpy(to, from.data, from.size);
    to[from.size] = '\0';
}

/* NULL: it is a user; else what is wrong with the line. */
static const char *user_read(struct kv_slice line, struct user *u)
{
    struct kv_slice name = word_next(&line), keyspace = word_next(&line), hash = word_next(&line);
    *u = (struct user){.name = ""};
    if (hash.size == 0 || word_next(&line).size > 0) return "not NAME KEYSPACE ARGON2ID-LINE; make the line with `kvctl passwd --user NAME`";
    if (!kv_name_is_valid(name)) return "the user's name is not a letter, then letters, digits, - _ . up to 64 bytes";
    if (kv_slice_eq(name, kv_str(USER_DEFAULT))) return "user default is the one of resp.password; give this one another name";
    bool is_bound = !kv_slice_eq(keyspace, kv_str("*"));
    if (is_bound && !kv_name_is_valid(keyspace)) return "the keyspace is neither * nor the name of one";
    if (hash.size >= sizeof u->line || memchr(hash.data, 0, hash.size) != NULL) return "the third word is no Argon2id line; make it with `kvctl passwd`";
    text_copy(u->name, name);
    if (is_bound) text_copy(u->keyspace, keyspace);
    text_copy(u->line, hash);
    return passwd_line_valid(u->line) ? NULL : "the third word is no Argon2id line; make it with `kvctl passwd`";
}

static int user_order(const void *a, const void *b)
{
    const struct user *x = a, *y = b;
    return strcmp(x->name, y->name);
}

enum kv_err users_parse(const char *path, struct kv_slice text, struct users *out, char *why, size_t why_size)
{
    struct users u = {0};
    uint32_t number = 0, capacity = 0;
    enum kv_err err = KV_OK;
    *out = (struct users){0};
    while (text.size > 0 && err == KV_OK) {
        struct kv_slice line = line_next(&text), rest = line;
        number++;
        if (word_next(&rest).size == 0) continue;
        if (u.count == capacity) {
            capacity = capacity == 0 ? 16 : 2 * capacity;
            void *grown = capacity > USERS_MAX ? NULL : realloc(u.list, capacity * sizeof *u.list);
            if (grown == NULL) {
                err = capacity > USERS_MAX ? KV_TOO_BIG : KV_NO_SPACE;
                if (err == KV_TOO_BIG) (void)snprintf(why, why_size, "%s:%u: more than %d users", path, number, USERS_MAX);
                else (void)snprintf(why, why_size, "%s: out of memory", path);
                break;
            }
            u.list = grown;
        }
        const char *fault = user_read(line, &u.list[u.count]);
        if (fault != NULL) {
            err = KV_MALFORMED;
            (void)snprintf(why, why_size, "%s:%u: %s", path, number, fault);
            break;
        }
        for (uint32_t i = 0; i < u.count && err == KV_OK; i++)
            if (user_order(&u.list[i], &u.list[u.count]) == 0) {
                err = KV_CONFLICT;
                (void)snprintf(why, why_size, "%s:%u: user %s stands in the file twice", path, number, u.list[i].name);
            }
        u.count++;
    }
    if (err != KV_OK) {
        users_free(&u);
        return err;
    }
    if (u.count > 0) qsort(u.list, u.count, sizeof *u.list, user_order);
    *out = u;
    return KV_OK;
}

/* All of the file, or so much that it is too big. */
static enum kv_err file_read(int fd, const char *path, uint8_t *text, size_t *size, char *why, size_t why_size)
{
    *size = 0;
    while (*size <= USERS_FILE_BYTES_MAX) {
        ssize_t got = read(fd, text + *size, USERS_FILE_BYTES_MAX + 1 - *size);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return system_fault(path, why, why_size);
        if (got == 0) return KV_OK;
        *size += (size_t)got;
    }
    (void)snprintf(why, why_size, "%s: over %d bytes", path, USERS_FILE_BYTES_MAX);
    return KV_TOO_BIG;
}

enum kv_err users_load(const char *path, struct users *out, char *why, size_t why_size)
{
    struct stat st;
    *out = (struct users){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo would stop the node */
    if (fd < 0) return system_fault(path, why, why_size);
    enum kv_err err = KV_OK;
    size_t size = 0;
    uint8_t *text = malloc(USERS_FILE_BYTES_MAX + 1);
    if (fstat(fd, &st) != 0) {
        err = system_fault(path, why, why_size);
    } else if (!S_ISREG(st.st_mode)) {
        (void)snprintf(why, why_size, "%s: not a file", path);
        err = KV_MALFORMED;
    } else if ((st.st_mode & 077) != 0) {
        (void)snprintf(why, why_size, "%s: mode %03o lets others read what passwords can be guessed from; chmod 600 it", path,
                       (unsigned)st.st_mode & 0777u);
        err = KV_DENIED;
    } else if (text == NULL) {
        (void)snprintf(why, why_size, "%s: out of memory", path);
        err = KV_NO_SPACE;
    } else {
        err = file_read(fd, path, text, &size, why, why_size);
    }
    if (err == KV_OK) err = users_parse(path, kv_slice(text, size), out, why, why_size);
    if (text != NULL) explicit_bzero(text, size);
    free(text);
    close(fd);
    return err;
}

const struct user *users_find(const struct users *u, struct kv_slice name)
{
    struct user key = {.name = ""};
    if (u->count == 0 || name.size >= sizeof key.name || (name.size > 0 && memchr(name.data, 0, name.size) != NULL)) return NULL;
    if (name.size > 0) memcpy(key.name, name.data, name.size);
    return bsearch(&key, u->list, u->count, sizeof *u->list, user_order);
}

void users_free(struct users *u)
{
    if (u->list != NULL) explicit_bzero(u->list, u->count * sizeof *u->list);
    free(u->list);
    *u = (struct users){0};
}

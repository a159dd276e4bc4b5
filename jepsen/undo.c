#include "jepsen/undo.h"
#include "client/base/hash.h"
#include "jepsen/shim/shim.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Changes of bytes are undone first, by inode number, newest first; then names, newest first. An
 * inode lives as long as a name or a stash holds it, so its number is not reused in between. */
enum { SYNCED_MAX = 512, PATH_BYTES = SHIM_NAME_BYTES + 64 };

struct entry {
    struct shim_record r;
    const char *name, *other;
    const uint8_t *image;
};

struct undo {
    const char *data, *shim;
    uint64_t seed;
    bool loses_all;
    struct entry *entries;
    uint32_t count;
    struct synced {
        uint64_t ino, until; /* ino 0: the directory `name` */
        const char *name;
        uint16_t name_bytes;
    } synced[SYNCED_MAX];
    uint32_t synced_count;
    struct undo_result *out;
    char *why;
};

static bool fail(struct undo *u, const char *what)
{
    snprintf(u->why, UNDO_WHY_BYTES, "%.100s: %s", what, strerror(errno));
    return false;
}

/* ---- reading the journal ---- */

static uint8_t *journal_read(struct undo *u, size_t *size)
{
    char path[PATH_BYTES];
    struct stat st;
    snprintf(path, sizeof path, "%s/journal", u->shim);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *bytes = NULL;
    *size = 0;
    if (fd < 0 || fstat(fd, &st) != 0 || (bytes = malloc((size_t)st.st_size + 1)) == NULL) goto close;
    while (*size < (size_t)st.st_size) {
        ssize_t n = read(fd, bytes + *size, (size_t)st.st_size - *size);
        if (n <= 0) break;
        *size += (size_t)n;
    }
close:
    if (fd >= 0) close(fd);
    if (bytes == NULL) fail(u, path);
    return bytes;
}

/* A torn last record belongs to a change that was not made any more. */
static bool journal_parse(struct undo *u, const uint8_t *bytes, size_t size)
{
    uint32_t capacity = 0;
    for (size_t at = 0; size - at >= sizeof(struct shim_record);) {
        struct shim_record r;
        memcpy(&r, bytes + at, sizeof r);
        size_t whole = sizeof r + r.name_bytes + r.other_bytes + r.image_bytes;
        if (r.magic != SHIM_MAGIC || r.kind >= SHIM_KINDS) {
            snprintf(u->why, UNDO_WHY_BYTES, "the journal is damaged at byte %zu", at);
            return false;
        }
        if (size - at < whole) break;
        if (u->count == capacity) {
            capacity = capacity == 0 ? 1024 : 2 * capacity;
            struct entry *grown = realloc(u->entries, capacity * sizeof *grown);
            if (grown == NULL) return fail(u, "memory");
            u->entries = grown;
        }
        const char *name = (const char *)bytes + at + sizeof r;
        u->entries[u->count++] = (struct entry){.r = r,
                                                .name = name,
                                                .other = name + r.name_bytes,
                                                .image = (const uint8_t *)name + r.name_bytes + r.other_bytes};
        at += whole;
    }
    return true;
}

/* ---- what is durable ---- */

static struct synced *synced_find(struct undo *u, uint64_t ino, const char *name, uint16_t name_bytes)
{
    for (uint32_t i = 0; i < u->synced_count; i++) {
        struct synced *s = &u->synced[i];
        if (s->ino == ino && s->name_bytes == name_bytes && memcmp(s->name, name, name_bytes) == 0) return s;
    }
    return NULL;
}

static bool synced_collect(struct undo *u)
{
    for (uint32_t i = 0; i < u->count; i++) {
        const struct shim_record *r = &u->entries[i].r;
        if (r->kind != SHIM_SYNC && r->kind != SHIM_SYNC_DIR) continue;
        uint64_t ino = r->kind == SHIM_SYNC ? r->ino : 0;
        struct synced *s = synced_find(u, ino, u->entries[i].name, r->name_bytes);
        if (s == NULL) {
            if (u->synced_count == SYNCED_MAX) {
                snprintf(u->why, UNDO_WHY_BYTES, "more than %d files were synced", SYNCED_MAX);
                return false;
            }
            s = &u->synced[u->synced_count++];
            *s = (struct synced){.ino = ino, .name = u->entries[i].name, .name_bytes = r->name_bytes};
        }
        if (r->until > s->until) s->until = r->until;
    }
    return true;
}

static bool is_of_bytes(const struct entry *e)
{
    return e->r.kind == SHIM_WRITE || e->r.kind == SHIM_RESIZE;
}

static bool is_of_names(const struct entry *e)
{
    return e->r.kind == SHIM_CREATE || e->r.kind == SHIM_RENAME || e->r.kind == SHIM_REMOVE;
}

static bool is_durable(struct undo *u, const struct entry *e)
{
    const struct synced *s;
    if (is_of_bytes(e)) {
        s = synced_find(u, e->r.ino, "", 0);
    } else {
        uint16_t end = e->r.name_bytes;
        while (end > 0 && e->name[end - 1] != '/') end--;
        s = synced_find(u, 0, e->name, end > 0 ? end - 1 : 0);
    }
    return s != NULL && e->r.sequence <= s->until;
}

/* ---- bytes ---- */

static bool path_with_ino(const char *dir, uint64_t ino, char out[PATH_BYTES], bool deeper)
{
    DIR *d = opendir(dir);
    if (d == NULL) return false;
    bool found = false;
    struct dirent *e;
    while (!found && (e = readdir(d)) != NULL) {
        char path[PATH_BYTES];
        if (e->d_name[0] == '.' || snprintf(path, sizeof path, "%s/%s", dir, e->d_name) >= (int)sizeof path) continue;
        if (e->d_type == DT_DIR && deeper) found = path_with_ino(path, ino, out, false);
        if (e->d_type != DT_REG || (uint64_t)e->d_ino != ino) continue;
        memcpy(out, path, sizeof path);
        found = true;
    }
    closedir(d);
    return found;
}

static bool page_is_lost(const struct undo *u, uint64_t ino, uint64_t page)
{
    uint64_t state = u->seed ^ ino * 0x9E3779B97F4A7C15u ^ page * 0xD1342543DE82EF95u;
    return u->loses_all || kv_random_next(&state) % 2 == 0;
}

/* What stood there before; where the file was shorter, nothing: zeros. */
static bool page_restore(struct undo *u, int fd, const struct entry *e, uint64_t from, uint64_t to)
{
    uint8_t bytes[UNDO_PAGE_BYTES] = {0};
    uint64_t had_end = e->r.offset + e->r.image_bytes;
    for (uint64_t at = from; at < to; at++)
        if (at < had_end) bytes[at - from] = e->image[at - e->r.offset];
    if (pwrite(fd, bytes, to - from, (off_t)from) != (ssize_t)(to - from)) return fail(u, "pwrite");
    u->out->bytes += to - from;
    return true;
}

static bool bytes_undo(struct undo *u, const struct entry *e)
{
    char path[PATH_BYTES];
    if (!path_with_ino(u->data, e->r.ino, path, true) && !path_with_ino(u->shim, e->r.ino, path, false))
        return true; /* gone for good */
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return fail(u, path);
    uint64_t end = e->r.kind == SHIM_WRITE ? e->r.offset + e->r.size : e->r.offset + e->r.image_bytes;
    bool good = true;
    for (uint64_t from = e->r.offset, to; from < end && good; from = to) {
        to = (from / UNDO_PAGE_BYTES + 1) * UNDO_PAGE_BYTES;
        if (to > end) to = end;
        if (page_is_lost(u, e->r.ino, from / UNDO_PAGE_BYTES)) good = page_restore(u, fd, e, from, to);
    }
    /* The length is lost with everything else, or as if it were page 2^63. */
    if (good && page_is_lost(u, e->r.ino, UINT64_C(1) << 63) && ftruncate(fd, (off_t)e->r.size_before) != 0)
        good = fail(u, path);
    close(fd);
    return good;
}

/* ---- names ---- */

static bool name_undo(struct undo *u, const struct entry *e)
{
    char name[PATH_BYTES], other[PATH_BYTES], kept[PATH_BYTES];
    snprintf(name, sizeof name, "%.*s", (int)e->r.name_bytes, e->name);
    snprintf(other, sizeof other, "%.*s", (int)e->r.other_bytes, e->other);
    snprintf(kept, sizeof kept, "%s/stash-%llu", u->shim, (unsigned long long)e->r.stash);
    int rc = 0;
    switch ((enum shim_kind)e->r.kind) {
    case SHIM_CREATE: rc = unlink(name); break;
    case SHIM_RENAME:
        rc = rename(other, name);
        if (rc == 0 && e->r.stash != 0) rc = link(kept, other);
        break;
    case SHIM_REMOVE:
        if (e->r.stash != 0) rc = link(kept, name);
        break;
    case SHIM_WRITE:
    case SHIM_RESIZE:
    case SHIM_SYNC:
    case SHIM_SYNC_DIR:
    case SHIM_KINDS: break;
    }
    u->out->names++;
    /* The change itself may not have come about: it failed, or the crash came first. */
    return rc == 0 || errno == ENOENT || errno == EEXIST ? true : fail(u, name);
}

static bool undo_all(struct undo *u)
{
    uint32_t names = 0;
    for (uint32_t i = u->count; i-- > 0;) {
        const struct entry *e = &u->entries[i];
        if ((!is_of_bytes(e) && !is_of_names(e)) || is_durable(u, e)) continue;
        u->out->unsynced++;
        names += is_of_names(e);
        if (is_of_bytes(e) && !bytes_undo(u, e)) return false;
    }
    uint64_t state = u->seed ^ 0x6E616D6573u;
    uint32_t lost = u->loses_all ? names : (uint32_t)(kv_random_next(&state) % (names + 1));
    for (uint32_t i = u->count; i-- > 0 && lost > 0;) {
        const struct entry *e = &u->entries[i];
        if (!is_of_names(e) || is_durable(u, e)) continue;
        if (!name_undo(u, e)) return false;
        lost--;
    }
    return true;
}

static bool shim_clear(struct undo *u)
{
    char path[PATH_BYTES];
    DIR *d = opendir(u->shim);
    struct dirent *e;
    if (d == NULL) return fail(u, u->shim);
    while ((e = readdir(d)) != NULL) {
        if (strncmp(e->d_name, "stash-", 6) != 0) continue;
        snprintf(path, sizeof path, "%s/%.32s", u->shim, e->d_name);
        unlink(path);
    }
    closedir(d);
    snprintf(path, sizeof path, "%s/journal", u->shim);
    return truncate(path, 0) == 0 ? true : fail(u, path);
}

bool undo_unsynced(const char *data, const char *shim, uint64_t seed, struct undo_result *out, char why[UNDO_WHY_BYTES])
{
    size_t size;
    *out = (struct undo_result){0};
    why[0] = '\0';
    struct undo *u = calloc(1, sizeof *u);
    if (u == NULL) return false;
    *u = (struct undo){.data = data, .shim = shim, .seed = seed, .loses_all = seed % 2 == 0, .out = out, .why = why};
    uint8_t *bytes = journal_read(u, &size);
    bool good = bytes != NULL && journal_parse(u, bytes, size) && synced_collect(u);
    out->records = u->count;
    good = good && undo_all(u) && shim_clear(u);
    free(bytes);
    free(u->entries);
    free(u);
    return good;
}

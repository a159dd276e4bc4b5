#include "jepsen/shim/shim.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* A disk that can lose what was not synced, under any program: LD_PRELOAD=libkvjepsen_disk.so with
 * KVJEPSEN_DATA (the directory it watches) and KVJEPSEN_SHIM (its own). Everything is written
 * through; before each change its undoing goes to the journal, after each sync a line that says so.
 * It can also be slow: sync_delay_us of the control page.
 *
 * (1) A change and its record are made under one lock, so the journal has them in true order.
 * (2) A sync covers the records that were there before it began.
 * (3) Writes through an O_DSYNC descriptor are durable at once and leave no record.
 *
 * A preloaded library has nobody who could hand it its state: this is the one place with a global. */
enum { FDS_MAX = 4096 };

struct opened {
    char *path; /* NULL: not watched */
    uint64_t ino;
    bool is_durable;
};

static struct disk {
    bool on;
    char data[SHIM_NAME_BYTES], own[SHIM_NAME_BYTES];
    int journal;
    struct shim_control *control;
    struct opened fds[FDS_MAX];
    pthread_mutex_t lock;
    int (*openat)(int, const char *, int, ...);
    int (*close)(int);
    ssize_t (*write)(int, const void *, size_t);
    ssize_t (*writev)(int, const struct iovec *, int);
    ssize_t (*pwrite)(int, const void *, size_t, off_t);
    ssize_t (*pwritev)(int, const struct iovec *, int, off_t);
    int (*ftruncate)(int, off_t);
    int (*fsync)(int);
    int (*fdatasync)(int);
    int (*renameat)(int, const char *, int, const char *);
    int (*unlinkat)(int, const char *, int);
} disk = {.journal = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

static void die(const char *what)
{
    fprintf(stderr, "kvjepsen disk: %s: %s\n", what, strerror(errno));
    abort();
}

static void *next(const char *name)
{
    void *f = dlsym(RTLD_NEXT, name);
    if (f == NULL) die(name);
    return f;
}

/* ISO C has no conversion from void * to a function; POSIX guarantees the representation. */
#define RESOLVE(name)                                                                                                  \
    do {                                                                                                               \
        void *f_ = next(#name);                                                                                        \
        memcpy(&disk.name, &f_, sizeof disk.name);                                                                     \
    } while (0)

/* Also from the first call, since other preloaded libraries open files in their constructors. */
__attribute__((constructor)) static void disk_init(void)
{
    if (disk.unlinkat != NULL) return;
    RESOLVE(openat);
    RESOLVE(close);
    RESOLVE(write);
    RESOLVE(writev);
    RESOLVE(pwrite);
    RESOLVE(pwritev);
    RESOLVE(ftruncate);
    RESOLVE(fsync);
    RESOLVE(fdatasync);
    RESOLVE(renameat);
    RESOLVE(unlinkat);
    const char *data = getenv("KVJEPSEN_DATA"), *own = getenv("KVJEPSEN_SHIM");
    char path[SHIM_NAME_BYTES + 16];
    if (data == NULL || own == NULL) return;
    snprintf(disk.data, sizeof disk.data, "%s", data);
    snprintf(disk.own, sizeof disk.own, "%s", own);
    snprintf(path, sizeof path, "%s/journal", own);
    disk.journal = disk.openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    snprintf(path, sizeof path, "%s/control", own);
    int control = disk.openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (disk.journal < 0 || control < 0) die(path);
    void *page = mmap(NULL, SHIM_CONTROL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, control, 0);
    if (page == MAP_FAILED) die("mmap");
    disk.close(control);
    disk.control = page;
    disk.on = true;
}

/* ---- the journal ---- */

static void record_put(struct shim_record *r, const char *name, const char *other, const void *image)
{
    r->magic = SHIM_MAGIC;
    r->sequence = ++disk.control->sequence;
    r->name_bytes = (uint16_t)strlen(name);
    r->other_bytes = (uint16_t)strlen(other);
    struct iovec parts[] = {{.iov_base = r, .iov_len = sizeof *r},
                            {.iov_base = (void *)(uintptr_t)name, .iov_len = r->name_bytes},
                            {.iov_base = (void *)(uintptr_t)other, .iov_len = r->other_bytes},
                            {.iov_base = (void *)(uintptr_t)image, .iov_len = r->image_bytes}};
    size_t size = sizeof *r + r->name_bytes + r->other_bytes + r->image_bytes;
    if (disk.writev(disk.journal, parts, 4) != (ssize_t)size) die("journal");
}

/* The bytes at offset that exist; through a descriptor of its own, since fd may be write-only. */
static uint32_t image_take(int fd, uint64_t offset, uint64_t size, uint64_t file_size, uint8_t **image)
{
    char path[32];
    uint64_t had = offset >= file_size ? 0 : file_size - offset < size ? file_size - offset : size, got = 0;
    *image = NULL;
    if (had == 0) return 0;
    if (had > UINT32_MAX || (*image = malloc(had)) == NULL) die("pre-image");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int in = disk.openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (in < 0) die(path);
    while (got < had) {
        ssize_t n = pread(in, *image + got, had - got, (off_t)(offset + got));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) die("pre-image");
        got += (uint64_t)n;
    }
    disk.close(in);
    return (uint32_t)had;
}

static struct opened *watched(int fd)
{
    disk_init();
    if (!disk.on || fd < 0 || fd >= FDS_MAX || disk.fds[fd].path == NULL) return NULL;
    return &disk.fds[fd];
}

static void note_change(const struct opened *o, int fd, enum shim_kind kind, uint64_t offset, uint64_t size)
{
    struct stat st;
    uint8_t *image;
    if (o->is_durable) return;
    if (fstat(fd, &st) != 0) die("fstat");
    struct shim_record r = {
        .kind = kind, .ino = o->ino, .offset = offset, .size = size, .size_before = (uint64_t)st.st_size};
    r.image_bytes = image_take(fd, offset, size, r.size_before, &image);
    record_put(&r, "", "", image);
    free(image);
    if (kind == SHIM_WRITE) disk.control->writes++;
}

static uint64_t stash(int dir, const char *name)
{
    char path[SHIM_NAME_BYTES + 32];
    uint64_t id = disk.control->sequence + 1;
    snprintf(path, sizeof path, "%s/stash-%llu", disk.own, (unsigned long long)id);
    if (linkat(dir, name, AT_FDCWD, path, 0) == 0) return id;
    if (errno != ENOENT) die(path);
    return 0;
}

/* ---- names ---- */

/* The whole path if it lies in the watched directory. */
static bool path_of(int dir, const char *name, char out[SHIM_NAME_BYTES])
{
    disk_init();
    if (!disk.on) return false;
    if (strcmp(name, ".") == 0) name = "";
    const struct opened *o = name[0] == '/' ? NULL : watched(dir);
    if (name[0] != '/' && o == NULL) return false;
    int n = snprintf(out, SHIM_NAME_BYTES, "%s%s%s", o == NULL ? "" : o->path, o == NULL || name[0] == '\0' ? "" : "/",
                     name);
    size_t prefix = strlen(disk.data);
    return n < SHIM_NAME_BYTES && strncmp(out, disk.data, prefix) == 0 && (out[prefix] == '/' || out[prefix] == '\0') &&
           strstr(out, "..") == NULL;
}

/* Files of locks hold no state. */
static bool is_lock(const char *path)
{
    const char *last = strrchr(path, '/');
    return strcmp(last, "/LOCK") == 0 || strcmp(last, "/lock.mdb") == 0;
}

static int do_open(int dir, const char *name, int flags, mode_t mode)
{
    char path[SHIM_NAME_BYTES];
    struct stat st;
    if (!path_of(dir, name, path) || is_lock(path)) return disk.openat(dir, name, flags, mode);
    pthread_mutex_lock(&disk.lock);
    bool creates = (flags & O_CREAT) != 0 && faccessat(dir, name, F_OK, 0) != 0;
    if (creates) record_put(&(struct shim_record){.kind = SHIM_CREATE}, path, "", NULL);
    int fd = disk.openat(dir, name, flags & ~O_TRUNC, mode);
    if (fd >= FDS_MAX) die("too many descriptors");
    if (fd >= 0 && fstat(fd, &st) == 0) {
        struct opened *o = &disk.fds[fd];
        free(o->path);
        *o = (struct opened){.path = strdup(path), .ino = (uint64_t)st.st_ino, .is_durable = (flags & O_DSYNC) != 0};
        if (o->path == NULL) die("memory");
        if ((flags & O_TRUNC) != 0 && st.st_size > 0) {
            note_change(o, fd, SHIM_RESIZE, 0, (uint64_t)st.st_size);
            if (disk.ftruncate(fd, 0) != 0) die("O_TRUNC");
        }
    }
    pthread_mutex_unlock(&disk.lock);
    return fd;
}

/* ---- what the program calls ---- */

int open(const char *name, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(list, mode_t) : 0;
    va_end(list);
    return do_open(AT_FDCWD, name, flags, mode);
}

int openat(int dir, const char *name, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(list, mode_t) : 0;
    va_end(list);
    return do_open(dir, name, flags, mode);
}

int close(int fd)
{
    if (watched(fd) == NULL) return disk.close(fd);
    pthread_mutex_lock(&disk.lock);
    free(disk.fds[fd].path);
    disk.fds[fd].path = NULL;
    int rc = disk.close(fd);
    pthread_mutex_unlock(&disk.lock);
    return rc;
}

static size_t size_of(const struct iovec *v, int count)
{
    size_t size = 0;
    for (int i = 0; i < count; i++) size += v[i].iov_len;
    return size;
}

ssize_t pwritev(int fd, const struct iovec *v, int count, off_t offset)
{
    const struct opened *o = watched(fd);
    if (o == NULL) return disk.pwritev(fd, v, count, offset);
    pthread_mutex_lock(&disk.lock);
    note_change(o, fd, SHIM_WRITE, (uint64_t)offset, size_of(v, count));
    ssize_t rc = disk.pwritev(fd, v, count, offset);
    pthread_mutex_unlock(&disk.lock);
    return rc;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    const struct iovec v = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    return watched(fd) == NULL ? disk.pwrite(fd, data, size, offset) : pwritev(fd, &v, 1, offset);
}

ssize_t writev(int fd, const struct iovec *v, int count)
{
    const struct opened *o = watched(fd);
    if (o == NULL) return disk.writev(fd, v, count);
    pthread_mutex_lock(&disk.lock);
    note_change(o, fd, SHIM_WRITE, (uint64_t)lseek(fd, 0, SEEK_CUR), size_of(v, count));
    ssize_t rc = disk.writev(fd, v, count);
    pthread_mutex_unlock(&disk.lock);
    return rc;
}

ssize_t write(int fd, const void *data, size_t size)
{
    const struct iovec v = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    return watched(fd) == NULL ? disk.write(fd, data, size) : writev(fd, &v, 1);
}

int ftruncate(int fd, off_t size)
{
    const struct opened *o = watched(fd);
    if (o == NULL) return disk.ftruncate(fd, size);
    pthread_mutex_lock(&disk.lock);
    note_change(o, fd, SHIM_RESIZE, (uint64_t)size, UINT32_MAX);
    int rc = disk.ftruncate(fd, size);
    pthread_mutex_unlock(&disk.lock);
    return rc;
}

static int do_sync(int fd, int (*sync)(int))
{
    struct stat st;
    const struct opened *o = watched(fd);
    if (o == NULL) return sync(fd);
    uint64_t delay_us = disk.control->sync_delay_us;
    if (delay_us > 0) {
        struct timespec t = {.tv_sec = (time_t)(delay_us / 1000000), .tv_nsec = (long)(delay_us % 1000000) * 1000};
        while (nanosleep(&t, &t) != 0 && errno == EINTR) {
        }
        disk.control->delayed++;
    }
    pthread_mutex_lock(&disk.lock);
    uint64_t until = disk.control->sequence;
    pthread_mutex_unlock(&disk.lock);
    int rc = sync(fd);
    if (rc != 0 || fstat(fd, &st) != 0) return rc;
    pthread_mutex_lock(&disk.lock);
    bool is_dir = S_ISDIR(st.st_mode);
    record_put(&(struct shim_record){.kind = is_dir ? SHIM_SYNC_DIR : SHIM_SYNC, .ino = o->ino, .until = until},
               is_dir ? o->path : "", "", NULL);
    disk.control->syncs++;
    pthread_mutex_unlock(&disk.lock);
    return 0;
}

int fsync(int fd)
{
    return do_sync(fd, disk.fsync);
}

int fdatasync(int fd)
{
    return do_sync(fd, disk.fdatasync);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    char old[SHIM_NAME_BYTES], new[SHIM_NAME_BYTES];
    if (!path_of(from_dir, from, old) || !path_of(to_dir, to, new)) return disk.renameat(from_dir, from, to_dir, to);
    pthread_mutex_lock(&disk.lock);
    struct shim_record r = {.kind = SHIM_RENAME, .stash = stash(to_dir, to)};
    record_put(&r, old, new, NULL);
    int rc = disk.renameat(from_dir, from, to_dir, to);
    pthread_mutex_unlock(&disk.lock);
    return rc;
}

int rename(const char *from, const char *to)
{
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int unlinkat(int dir, const char *name, int flags)
{
    char path[SHIM_NAME_BYTES];
    if ((flags & AT_REMOVEDIR) != 0 || !path_of(dir, name, path)) return disk.unlinkat(dir, name, flags);
    pthread_mutex_lock(&disk.lock);
    struct shim_record r = {.kind = SHIM_REMOVE, .stash = stash(dir, name)};
    record_put(&r, path, "", NULL);
    int rc = disk.unlinkat(dir, name, flags);
    pthread_mutex_unlock(&disk.lock);
    return rc;
}

int unlink(const char *name)
{
    return unlinkat(AT_FDCWD, name, 0);
}

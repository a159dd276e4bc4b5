#include "storage/disk_uv.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Real files. A handle is a file descriptor.
 * (1) One thread writes and syncs appends, one runs work(); each takes its requests in
 *     the order they were given and never looks at the other's (R5).
 * (2) `done` callbacks run only inside disk_uv_poll(), on the owner's loop.
 * (3) A drained disk has no running and no waiting request. */
enum { NAME_BYTES_MAX = 63,
       LIST_GROW = 64 };
static const char lock_name[] = "LOCK", reserve_name[] = "RESERVE";

struct queue {
    struct disk_request *first, **last;
};

struct lane { /* a thread and what it is asked to do */
    struct disk_uv *owner;
    pthread_t thread;
    sem_t wanted; /* a count for each request put, and one to stop */
    pthread_cond_t idle;
    struct queue waiting;
    bool running, started;
    void (*act)(struct disk_request *q);
};

struct disk_uv {
    struct disk disk;
    int directory, lock;
    void (*wake)(void *context);
    void *context;
    pthread_mutex_t mutex; /* guards everything below */
    struct lane log, checkpoint;
    struct queue finished;
    bool stop;
    struct queue polled; /* finished ones a poll is calling back; the owner's alone */
};

static void queue_init(struct queue *q)
{
    q->first = NULL;
    q->last = &q->first;
}

static void queue_put(struct queue *q, struct disk_request *r)
{
    r->next = NULL;
    *q->last = r;
    q->last = &r->next;
}

static struct disk_request *queue_take(struct queue *q)
{
    struct disk_request *r = q->first;
    if (r == NULL) return NULL;
    q->first = r->next;
    if (q->first == NULL) q->last = &q->first;
    return r;
}

static struct disk_uv *from_disk(struct disk *d)
{
    return container_of(d, struct disk_uv, disk);
}

static enum kv_err err_from_errno(int e)
{
    switch (e) {
    case ENOENT: return KV_NOT_FOUND;
    case ENOSPC:
    case EDQUOT: return KV_NO_SPACE;
    case EACCES:
    case EPERM:
    case EROFS: return KV_DENIED;
    default: return KV_IO;
    }
}

static bool name_is_legal(const char *name)
{
    size_t size = strlen(name);
    return size > 0 && size <= NAME_BYTES_MAX && strchr(name, '/') == NULL && name[0] != '.';
}

static enum kv_err uv_open(struct disk *d, const char *name, bool create, struct disk_file *out)
{
    assert(name_is_legal(name));
    out->handle = -1;
    int fd = openat(from_disk(d)->directory, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0),
                    0600);
    if (fd < 0) return err_from_errno(errno);
    out->handle = fd;
    return KV_OK;
}

static enum kv_err uv_close(struct disk *d, struct disk_file f)
{
    (void)d;
    assert(f.handle >= 0);
    return close(f.handle) == 0 || errno == EINTR ? KV_OK : KV_IO;
}

static enum kv_err uv_size(struct disk *d, struct disk_file f, uint64_t *bytes)
{
    struct stat st;
    (void)d;
    if (fstat(f.handle, &st) != 0) return err_from_errno(errno);
    *bytes = (uint64_t)st.st_size;
    return KV_OK;
}

static enum kv_err uv_read(struct disk *d, struct disk_file f, uint64_t offset, uint8_t *into, size_t size,
                           size_t *got)
{
    (void)d;
    *got = 0;
    while (*got < size) {
        ssize_t n = pread(f.handle, into + *got, size - *got, (off_t)(offset + *got));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_from_errno(errno);
        if (n == 0) break;
        *got += (size_t)n;
    }
    return KV_OK;
}

static enum kv_err uv_write(struct disk *d, struct disk_file f, uint64_t offset, struct kv_slice bytes)
{
    (void)d;
    while (bytes.size > 0) {
        ssize_t n = pwrite(f.handle, bytes.data, bytes.size, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_from_errno(errno);
        if (n == 0) return KV_IO;
        bytes = kv_slice(bytes.data + n, bytes.size - (size_t)n);
        offset += (uint64_t)n;
    }
    return KV_OK;
}

static enum kv_err uv_sync(struct disk *d, struct disk_file f)
{
    (void)d;
    /* Never retried, not even after EINTR: the kernel may already have dropped the pages. */
    return fdatasync(f.handle) == 0 ? KV_OK : err_from_errno(errno);
}

static enum kv_err uv_truncate(struct disk *d, struct disk_file f, uint64_t size)
{
    (void)d;
    return ftruncate(f.handle, (off_t)size) == 0 ? KV_OK : err_from_errno(errno);
}

static enum kv_err uv_rename(struct disk *d, const char *from, const char *to)
{
    struct disk_uv *u = from_disk(d);
    assert(name_is_legal(from) && name_is_legal(to));
    return renameat(u->directory, from, u->directory, to) == 0 ? KV_OK : err_from_errno(errno);
}

static enum kv_err uv_remove(struct disk *d, const char *name)
{
    assert(name_is_legal(name));
    return unlinkat(from_disk(d)->directory, name, 0) == 0 ? KV_OK : err_from_errno(errno);
}

static enum kv_err uv_sync_dir(struct disk *d)
{
    return fsync(from_disk(d)->directory) == 0 ? KV_OK : err_from_errno(errno);
}

struct listed {
    char name[NAME_BYTES_MAX + 1];
    uint64_t size;
};

static int listed_order(const void *a, const void *b)
{
    return strcmp(((const struct listed *)a)->name, ((const struct listed *)b)->name);
}

/* Regular files with legal names; directories, the lock and the reserve are not the caller's. */
static enum kv_err list_read(int directory, DIR *dir, struct listed **out, size_t *count)
{
    size_t capacity = 0;
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(dir);
        if (e == NULL) return errno == 0 ? KV_OK : err_from_errno(errno);
        struct stat st;
        if (!name_is_legal(e->d_name) || strcmp(e->d_name, lock_name) == 0 ||
            strcmp(e->d_name, reserve_name) == 0)
            continue;
        if (fstatat(directory, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) return err_from_errno(errno);
        if (!S_ISREG(st.st_mode)) continue;
        if (*count == capacity) {
            struct listed *grown = realloc(*out, (capacity + LIST_GROW) * sizeof **out);
            if (grown == NULL) return KV_IO;
            *out = grown;
            capacity += LIST_GROW;
        }
        strcpy((*out)[*count].name, e->d_name);
        (*out)[(*count)++].size = (uint64_t)st.st_size;
    }
}

static enum kv_err uv_list(struct disk *d, void (*each)(void *context, const char *name, uint64_t size),
                           void *context)
{
    struct disk_uv *u = from_disk(d);
    struct listed *files = NULL;
    size_t count = 0;
    int fd = openat(u->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return err_from_errno(errno);
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        close(fd);
        return KV_IO;
    }
    enum kv_err err = list_read(u->directory, dir, &files, &count);
    closedir(dir);
    if (err == KV_OK && count > 0) {
        qsort(files, count, sizeof *files, listed_order);
        for (size_t i = 0; i < count; i++) each(context, files[i].name, files[i].size);
    }
    free(files);
    return err;
}

static enum kv_err uv_space(struct disk *d, uint64_t *free_bytes)
{
    struct statvfs v;
    if (fstatvfs(from_disk(d)->directory, &v) != 0) return err_from_errno(errno);
    *free_bytes = (uint64_t)v.f_bavail * (uint64_t)v.f_frsize;
    return KV_OK;
}

static enum kv_err uv_claim(struct disk *d, uint64_t bytes)
{
    int directory = from_disk(d)->directory;
    if (bytes == 0) return unlinkat(directory, reserve_name, 0) == 0 || errno == ENOENT ? KV_OK : err_from_errno(errno);
    int fd = openat(directory, reserve_name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return err_from_errno(errno);
    int e = ftruncate(fd, (off_t)bytes) == 0 ? 0 : errno; /* shortens an earlier, larger one */
    if (e == 0) e = posix_fallocate(fd, 0, (off_t)bytes);
    close(fd);
    if (e != 0) unlinkat(directory, reserve_name, 0);
    return e == 0 ? KV_OK : err_from_errno(e);
}

/* One gathered write for the common few parts; what it left goes part by part. */
static enum kv_err write_parts(const struct disk_request *q)
{
    enum { PARTS_AT_ONCE = 8 };
    struct iovec v[PARTS_AT_ONCE];
    uint64_t offset = q->offset;
    for (uint32_t i = 0; i < q->part_count;) {
        int n = 0;
        for (; n < PARTS_AT_ONCE && i + (uint32_t)n < q->part_count; n++)
            v[n] = (struct iovec){.iov_base = (void *)(uintptr_t)q->parts[i + (uint32_t)n].data,
                                  .iov_len = q->parts[i + (uint32_t)n].size};
        ssize_t wrote;
        do wrote = pwritev(q->file.handle, v, n, (off_t)offset);
        while (wrote < 0 && errno == EINTR);
        if (wrote < 0) return err_from_errno(errno);
        size_t rest = (size_t)wrote;
        for (int k = 0; k < n; k++, i++) {
            size_t whole = q->parts[i].size, had = rest < whole ? rest : whole;
            if (had < whole) {
                struct kv_slice missing = kv_slice(q->parts[i].data + had, whole - had);
                enum kv_err err = uv_write(NULL, q->file, offset + had, missing);
                if (err != KV_OK) return err;
            }
            rest -= had;
            offset += whole;
        }
    }
    return KV_OK;
}

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void act_append(struct disk_request *q)
{
    uint64_t start = clock_ns();
    q->err = write_parts(q);
    if (q->err == KV_OK && q->sync) q->err = uv_sync(NULL, q->file);
    q->ns = clock_ns() - start;
}

static void act_work(struct disk_request *q)
{
    q->run(q);
    q->err = KV_OK;
}

static void *lane_main(void *argument)
{
    struct lane *a = argument;
    struct disk_uv *u = a->owner;
    for (;;) {
        while (sem_wait(&a->wanted) != 0) {} /* EINTR */
        pthread_mutex_lock(&u->mutex);
        struct disk_request *q = queue_take(&a->waiting); /* NULL: it was drained, or this is the end */
        bool stop = q == NULL && u->stop;
        a->running = q != NULL;
        pthread_mutex_unlock(&u->mutex);
        if (stop) return NULL;
        if (q == NULL) continue;
        a->act(q);
        pthread_mutex_lock(&u->mutex);
        a->running = false;
        bool was_empty = u->finished.first == NULL;
        queue_put(&u->finished, q);
        pthread_cond_broadcast(&a->idle);
        pthread_mutex_unlock(&u->mutex);
        if (was_empty) u->wake(u->context); /* a poll that is due anyway takes the rest too */
    }
}

static void lane_put(struct disk_uv *u, struct lane *a, struct disk_request *q)
{
    pthread_mutex_lock(&u->mutex);
    queue_put(&a->waiting, q);
    pthread_mutex_unlock(&u->mutex);
    sem_post(&a->wanted); /* not a condition: who wakes up from one takes the mutex the slow way */
}

static void uv_append(struct disk *d, struct disk_request *q)
{
    lane_put(from_disk(d), &from_disk(d)->log, q);
}

static enum kv_err uv_append_now(struct disk *d, struct disk_request *q)
{
    (void)d;
    act_append(q);
    return q->err;
}

static void uv_work(struct disk *d, struct disk_request *q)
{
    lane_put(from_disk(d), &from_disk(d)->checkpoint, q);
}

static void uv_drain(struct disk *d)
{
    struct disk_uv *u = from_disk(d);
    pthread_mutex_lock(&u->mutex);
    queue_init(&u->log.waiting);
    queue_init(&u->checkpoint.waiting);
    while (u->log.running) pthread_cond_wait(&u->log.idle, &u->mutex);
    while (u->checkpoint.running) pthread_cond_wait(&u->checkpoint.idle, &u->mutex);
    queue_init(&u->finished);
    queue_init(&u->polled);
    pthread_mutex_unlock(&u->mutex);
}

static const struct disk_ops ops = {
    .open = uv_open,
    .close = uv_close,
    .size = uv_size,
    .read = uv_read,
    .write = uv_write,
    .sync = uv_sync,
    .truncate = uv_truncate,
    .rename = uv_rename,
    .remove = uv_remove,
    .sync_dir = uv_sync_dir,
    .list = uv_list,
    .space = uv_space,
    .claim = uv_claim,
    .append = uv_append,
    .append_now = uv_append_now,
    .work = uv_work,
    .drain = uv_drain,
};

static bool lane_start(struct disk_uv *u, struct lane *a, void (*act)(struct disk_request *q))
{
    a->owner = u;
    a->act = act;
    queue_init(&a->waiting);
    sem_init(&a->wanted, 0, 0);
    pthread_cond_init(&a->idle, NULL);
    errno = pthread_create(&a->thread, NULL, lane_main, a);
    a->started = errno == 0;
    return a->started;
}

static void lane_stop(struct lane *a)
{
    if (!a->started) return;
    sem_post(&a->wanted);
    pthread_join(a->thread, NULL);
    sem_destroy(&a->wanted);
    pthread_cond_destroy(&a->idle);
}

/* Creates the directory if it is missing, and makes its name durable in its parent. */
static enum kv_err directory_open(const char *path, int *out)
{
    bool created = mkdir(path, 0700) == 0;
    if (!created && errno != EEXIST) return err_from_errno(errno);
    *out = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*out < 0) return errno == ENOTDIR ? KV_DENIED : err_from_errno(errno);
    if (!created) return KV_OK;
    int parent = openat(*out, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0) return err_from_errno(errno);
    enum kv_err err = fsync(parent) == 0 ? KV_OK : err_from_errno(errno);
    close(parent);
    return err;
}

/* An OFD lock dies with the last descriptor, so a killed process never leaves one behind. */
static enum kv_err lock_take(struct disk_uv *u)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    u->lock = openat(u->directory, lock_name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (u->lock < 0) return err_from_errno(errno);
    if (fcntl(u->lock, F_OFD_SETLK, &whole) == 0) return KV_OK;
    return errno == EAGAIN || errno == EACCES ? KV_BUSY : KV_IO;
}

enum kv_err disk_uv_create(const char *directory, void (*wake)(void *context), void *context,
                           struct disk_uv **out)
{
    struct disk_uv *u = calloc(1, sizeof *u);
    if (u == NULL) return KV_IO;
    *u = (struct disk_uv){
        .disk = {.ops = &ops}, .directory = -1, .lock = -1, .wake = wake, .context = context};
    queue_init(&u->finished);
    queue_init(&u->polled);
    pthread_mutex_init(&u->mutex, NULL);
    enum kv_err err = directory_open(directory, &u->directory);
    if (err == KV_OK) err = lock_take(u);
    if (err == KV_OK && !(lane_start(u, &u->log, act_append) && lane_start(u, &u->checkpoint, act_work)))
        err = KV_IO;
    if (err != KV_OK) {
        int code = errno; /* the caller's to print */
        disk_uv_destroy(u);
        errno = code;
        return err;
    }
    *out = u;
    return KV_OK;
}

struct disk *disk_uv_disk(struct disk_uv *u)
{
    return &u->disk;
}

void disk_uv_poll(struct disk_uv *u)
{
    if (u->polled.first != NULL) return; /* called from a callback */
    pthread_mutex_lock(&u->mutex);
    if (u->finished.first != NULL) {
        u->polled.first = u->finished.first;
        u->polled.last = u->finished.last;
        queue_init(&u->finished);
    }
    pthread_mutex_unlock(&u->mutex);
    /* What the callbacks ask for finishes into `finished`, with its own wake; a callback
     * may drain the disk, which ends this loop. */
    struct disk_request *q;
    while ((q = queue_take(&u->polled)) != NULL) q->done(q, q->err);
}

void disk_uv_destroy(struct disk_uv *u)
{
    pthread_mutex_lock(&u->mutex);
    u->stop = true;
    if (u->log.started) queue_init(&u->log.waiting);
    if (u->checkpoint.started) queue_init(&u->checkpoint.waiting);
    pthread_mutex_unlock(&u->mutex);
    lane_stop(&u->log);
    lane_stop(&u->checkpoint);
    if (u->lock >= 0) close(u->lock);
    if (u->directory >= 0) close(u->directory);
    pthread_mutex_destroy(&u->mutex);
    free(u);
}

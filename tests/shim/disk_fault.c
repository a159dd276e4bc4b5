#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* A disk that fails on command, under a program that knows nothing of it:
 *
 *   LD_PRELOAD=build/disk_fault.so DISK_FAULT_DIR=/path/to/data DISK_FAULT_FILE=/path/to/faults kvd ..
 *
 * Calls on files whose path begins with DISK_FAULT_DIR meet the faults that DISK_FAULT_FILE lists
 * at that moment, one a line; without that file all is well. Elsewhere nothing ever happens.
 *
 *   sync ERROR [NAME]    fdatasync and fsync fail; what was written stays in the page cache
 *   write ERROR [NAME]   pwrite, pwritev and write fail; nothing is written
 *   slow MS [NAME]       writes and syncs take so much longer
 *
 * ERROR is eio or enospc; NAME a part of the file's path below the directory ("log-": only the log).
 * The system calls are made directly: no state, hence nothing to initialise and no lock. */
enum { RULES_BYTES_MAX = 4096 };

struct fault {
    int error; /* 0: none */
    long slow_ms;
};

static void rule_apply(char *line, const char *kind, const char *name, struct fault *f)
{
    char *rest = line;
    const char *what = strtok_r(rest, " \t", &rest), *value = strtok_r(NULL, " \t", &rest);
    const char *only = strtok_r(NULL, " \t", &rest);
    if (what == NULL || value == NULL || (only != NULL && strstr(name, only) == NULL)) return;
    if (strcmp(what, "slow") == 0) f->slow_ms = strtol(value, NULL, 10);
    else if (strcmp(what, kind) == 0) f->error = strcmp(value, "enospc") == 0 ? ENOSPC : EIO;
}

static struct fault fault_of(int fd, const char *kind)
{
    struct fault f = {0};
    const char *directory = getenv("DISK_FAULT_DIR"), *file = getenv("DISK_FAULT_FILE");
    char link[64], path[PATH_MAX], rules[RULES_BYTES_MAX];
    if (directory == NULL || file == NULL || access(file, R_OK) != 0) return f;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    size_t prefix = strlen(directory);
    if (size < 0 || (size_t)size < prefix || strncmp(path, directory, prefix) != 0) return f;
    path[size] = '\0';
    int in = open(file, O_RDONLY | O_CLOEXEC);
    if (in < 0) return f;
    size = read(in, rules, sizeof rules - 1);
    close(in);
    rules[size > 0 ? size : 0] = '\0';
    char *rest = rules;
    for (char *line = strtok_r(rest, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        rule_apply(line, kind, path + prefix, &f);
    if (f.slow_ms > 0) {
        struct timespec t = {f.slow_ms / 1000, f.slow_ms % 1000 * 1000000};
        nanosleep(&t, NULL);
    }
    return f;
}

static bool fails(int fd, const char *kind)
{
    int before = errno;
    struct fault f = fault_of(fd, kind);
    errno = f.error != 0 ? f.error : before;
    return f.error != 0;
}

int fdatasync(int fd)
{
    return fails(fd, "sync") ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return fails(fd, "sync") ? -1 : (int)syscall(SYS_fsync, fd);
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    return fails(fd, "write") ? -1 : syscall(SYS_write, fd, bytes, size);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    return fails(fd, "write") ? -1 : syscall(SYS_pwrite64, fd, bytes, size, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset)
{
    return pwrite(fd, bytes, size, (off_t)offset);
}

/* The kernel takes the offset in two halves; on a 64-bit machine the first holds all of it. */
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return fails(fd, "write") ? -1 : syscall(SYS_pwritev, fd, parts, (long)count, offset, 0L);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    return pwritev(fd, parts, count, (off_t)offset);
}

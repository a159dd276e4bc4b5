#include "jepsen/shim/shim.h"
#include "jepsen/undo.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* The preloaded disk of the fault tests: `work DATA` runs under it and ends without warning;
 * `check DATA SHIM all|some` undoes what was not synced and says what is left. See jepsen_disk.sh. */
enum { PAGE = UNDO_PAGE_BYTES };

#define must(condition)                                                                     \
    do {                                                                                    \
        if (condition) break;                                                               \
        fprintf(stderr, "FAILED: %s:%d: %s\n", __FILE__, __LINE__, #condition);             \
        exit(1);                                                                            \
    } while (0)

static int dir;

static int make(const char *name)
{
    int fd = openat(dir, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    must(fd >= 0);
    return fd;
}

static void fill(int fd, uint64_t offset, size_t size, int byte)
{
    char bytes[4 * PAGE];
    must(size <= sizeof bytes);
    memset(bytes, byte, size);
    must(pwrite(fd, bytes, size, (off_t)offset) == (ssize_t)size);
}

static void work(const char *data)
{
    char path[256], two[2][8] = {"vector1", "vector2"};
    struct iovec v[2] = {{.iov_base = two[0], .iov_len = 7}, {.iov_base = two[1], .iov_len = 7}};
    must((dir = open(data, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0);
    int kept = make("kept"), grown = make("grown"), cut = make("cut"), old = make("old"), gone = make("gone");
    fill(kept, 0, 2 * PAGE, 'a');
    fill(grown, 0, 100, 'a');
    fill(cut, 0, 3 * PAGE, 'a');
    fill(old, 0, 10, 'o');
    fill(gone, 0, 10, 'g');
    must(fdatasync(kept) == 0 && fdatasync(grown) == 0 && fsync(cut) == 0 && fdatasync(old) == 0 && fdatasync(gone) == 0);
    must(fsync(dir) == 0);
    /* From here on nothing but what says so is durable. */
    fill(kept, PAGE - 50, 100, 'b');  /* over a page boundary, twice */
    fill(kept, PAGE - 10, 20, 'c');
    must(pwritev(grown, v, 2, 50) == 14);
    fill(grown, 100, 2 * PAGE, 'b');
    must(ftruncate(cut, 10) == 0);
    int fresh = make("fresh");
    fill(fresh, 0, 100, 'f');
    must(fdatasync(fresh) == 0); /* but its name is not */
    must(renameat(dir, "fresh", dir, "old") == 0);
    must(unlinkat(dir, "gone", 0) == 0);
    snprintf(path, sizeof path, "%s/direct", data);
    int direct = open(path, O_RDWR | O_CREAT | O_DSYNC | O_CLOEXEC, 0600);
    must(direct >= 0);
    fill(direct, 0, 10, 'd');
    must(write(grown, "w", 1) == 1); /* at offset 0 */
    _exit(0); /* as a kill would */
}

static size_t slurp(const char *name, char bytes[4 * PAGE])
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return SIZE_MAX;
    ssize_t got = read(fd, bytes, 4 * PAGE);
    must(got >= 0);
    close(fd);
    return (size_t)got;
}

static bool is_all(const char *bytes, size_t from, size_t to, char byte)
{
    for (size_t i = from; i < to; i++)
        if (bytes[i] != byte) return false;
    return true;
}

static void check_all(const struct undo_result *r)
{
    char b[4 * PAGE];
    must(r->names == 4); /* fresh, its rename, gone, direct */
    must(slurp("kept", b) == 2 * PAGE && is_all(b, 0, 2 * PAGE, 'a'));
    must(slurp("grown", b) == 100 && is_all(b, 0, 100, 'a'));
    must(slurp("cut", b) == 3 * PAGE && is_all(b, 0, 3 * PAGE, 'a'));
    must(slurp("old", b) == 10 && is_all(b, 0, 10, 'o'));
    must(slurp("gone", b) == 10 && is_all(b, 0, 10, 'g'));
    must(slurp("fresh", b) == SIZE_MAX && slurp("direct", b) == SIZE_MAX);
}

/* Each page is as before or as after; what was synced stays. */
static void check_some(void)
{
    char b[4 * PAGE];
    must(slurp("kept", b) == 2 * PAGE && is_all(b, 0, PAGE - 50, 'a') && is_all(b, PAGE + 50, 2 * PAGE, 'a'));
    bool first_old = is_all(b, PAGE - 50, PAGE, 'a'), second_old = is_all(b, PAGE, PAGE + 50, 'a');
    must(first_old || (is_all(b, PAGE - 50, PAGE - 10, 'b') && is_all(b, PAGE - 10, PAGE, 'c')));
    must(second_old || (is_all(b, PAGE, PAGE + 10, 'c') && is_all(b, PAGE + 10, PAGE + 50, 'b')));
    size_t size = slurp("grown", b);
    must(size == 100 || size == 100 + 2 * PAGE);
    must(b[0] == 'a' ? is_all(b, 1, 100, 'a') : b[0] == 'w' && memcmp(b + 50, "vector1vector2", 14) == 0);
    must(slurp("cut", b) >= 10 && is_all(b, 0, 10, 'a'));
    size = slurp("old", b);
    must(size == 10 || (size == 100 && is_all(b, 0, 100, 'f')) || size == SIZE_MAX);
}

int main(int argc, char **argv)
{
    struct undo_result r;
    char why[UNDO_WHY_BYTES];
    if (argc == 3 && strcmp(argv[1], "work") == 0) work(argv[2]);
    must(argc == 5 && strcmp(argv[1], "check") == 0);
    uint64_t seed = strtoull(argv[4], NULL, 10);
    must((dir = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0);
    bool undone = undo_unsynced(argv[2], argv[3], seed, &r, why);
    if (!undone) fprintf(stderr, "%s\n", why);
    must(undone && r.unsynced > 0);
    if (seed % 2 == 0) check_all(&r);
    else check_some();
    must(undo_unsynced(argv[2], argv[3], seed, &r, why) && r.records == 0); /* once is enough */
    return 0;
}

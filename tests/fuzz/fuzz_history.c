/* Histories of any bytes, JSON lines and EDN: nothing may crash, a message names its line, and what is
 * taken in can be saved in either form and read again. */
#include "tools/check/check.h"
#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct history *load(int fd, bool must)
{
    char path[64], why[512] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct history *h = history_create();
    if (h == NULL) abort();
    enum kv_err err = history_load(h, path, why, sizeof why);
    assert(err == KV_OK || (why[0] != '\0' && !must));
    if (err == KV_OK) return h;
    history_free(h);
    return NULL;
}

static void again(const struct history *h, bool edn)
{
    int fd = memfd_create("saved", 0);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (f == NULL) abort();
    history_save(h, f, edn);
    fflush(f);
    struct history *copy = load(fd, true);
    assert(copy->op_count == h->op_count && copy->key_count == h->key_count);
    history_free(copy);
    fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("history", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    struct history *h = load(fd, false);
    if (h != NULL) {
        struct check_result r;
        check_history(h, &(struct check_options){.limit = 2000}, &r);
        assert(r.verdict != CHECK_VIOLATION || r.op_count > 0);
        check_result_free(&r);
        again(h, false);
        again(h, true);
    }
    history_free(h);
    close(fd);
    return 0;
}

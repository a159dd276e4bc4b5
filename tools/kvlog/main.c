#include "client/base/endian.h"
#include "client/base/hash.h"
#include "client/base/text.h"
#include "storage/checkpoint_lmdb.h"
#include "storage/disk_uv.h"
#include "tools/kvlog/kvlog.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Looks into the data directory of a node that does not run. Changes nothing in it. */
static const char usage[] =
    "usage: kvlog dump DIR [GROUP]   every log record and checkpoint mark, one line each\n"
    "       kvlog verify DIR         what is wrong, and in which file at which offset\n"
    "       kvlog pages DIR          every page of the state, one line each\n"
    "       kvlog salvage DIR [KEYSPACE]   what can be read, as JSON lines for kvctl import; on stderr what is\n"
    "                                lost, and which other keyspaces there are\n"
    "\n"
    "DIR is the data directory (node.data) of a stopped node, with those of its workers, or one of those. Nothing in it is changed.\n"
    "exit codes: 0 ok, 1 cannot look, 2 usage, 4 damaged\n";

enum { IDENTITY_BYTES = 40,
       WORKERS_HEAD_BYTES = 16 };
enum what { DUMP,
            VERIFY,
            PAGES,
            SALVAGE,
            NOTHING };
#define MAP_BYTES_MIN (UINT64_C(64) << 30)

static void on_wake(void *context)
{
    (void)context; /* everything here is blocking */
}

static bool exists(const char *directory, const char *name, uint64_t *bytes)
{
    char path[KVLOG_PATH_BYTES + 32];
    struct stat st;
    int size = snprintf(path, sizeof path, "%s%s%s", directory, name[0] != '\0' ? "/" : "", name);
    if (size <= 0 || (size_t)size >= sizeof path || stat(path, &st) != 0) return false;
    *bytes = (uint64_t)st.st_size;
    return true;
}

/* Up to `room` bytes of a file; 0: it cannot be read. */
static size_t file_read(struct kvlog *k, const char *name, uint8_t *bytes, size_t room)
{
    struct disk_file f;
    size_t got = 0;
    if (k->disk->ops->open(k->disk, name, false, &f) != KV_OK) return 0;
    enum kv_err err = k->disk->ops->read(k->disk, f, 0, bytes, room, &got);
    k->disk->ops->close(k->disk, f);
    return err == KV_OK ? got : 0;
}

/* As the store writes it: magic, format, node, store id, checksum. */
static void identity_read(struct kvlog *k)
{
    uint8_t b[IDENTITY_BYTES];
    if (file_read(k, "identity", b, sizeof b) != sizeof b || memcmp(b, "kvstore\n", 8) != 0) return;
    if (le64_get(b + 32) != kv_hash64(kv_slice(b, 32), 0)) return;
    k->node_id = le32_get(b + 12);
    k->store_id = le64_get(b + 16);
}

/* Of how many workers the directory is, as server/workers.c writes it; 0: the file is damaged. */
static uint32_t workers_read(struct kvlog *k)
{
    uint8_t b[WORKERS_HEAD_BYTES + 8 * KVLOG_STORES_MAX + 8];
    uint64_t there;
    if (!exists(k->directory, "workers", &there)) return 1;
    size_t size = file_read(k, "workers", b, sizeof b);
    if (size < WORKERS_HEAD_BYTES + 8 || memcmp(b, "kvworks\n", 8) != 0) return 0;
    uint32_t count = le32_get(b + 12);
    if (count == 0 || size != WORKERS_HEAD_BYTES + 8 * (size_t)count + 8) return 0;
    return le64_get(b + size - 8) == kv_hash64(kv_slice(b, size - 8), 0) ? count : 0;
}

/* A damaged state is not opened: what can be said of it comes from its pages. The address space claimed is
 * what a replay of the log can fill, not kvd's 1 TiB, for which a limit (ulimit -v) may leave no room. */
static enum kv_err state_open(struct kvlog *k)
{
    uint64_t bytes;
    if (!exists(k->directory, "state/data.mdb", &bytes)) return KV_OK;
    struct checkpoint_lmdb_options o = {.directory = k->directory, .map_bytes = MAP_BYTES_MIN + 4 * bytes};
    enum kv_err err = checkpoint_lmdb_create(&o, &k->checkpoint, NULL, 0);
    if (err != KV_OK) k->checkpoint = NULL;
    return err == KV_CORRUPT ? KV_OK : err;
}

static enum kv_err store_open(struct kvlog *k)
{
    enum kv_err err = disk_uv_create(k->directory, on_wake, NULL, &k->uv);
    if (err != KV_OK) {
        fprintf(stderr, "kvlog: %s: %s\n", k->directory,
                err == KV_BUSY ? "in use by a running kvd; stop it first" : kv_err_text(err));
        return err;
    }
    k->disk = disk_uv_disk(k->uv);
    identity_read(k);
    return KV_OK;
}

/* The stores of all workers: that of worker 0 is the directory itself. KVLOG_DAMAGED: some are not there. */
static int stores_open(const char *directory, struct kvlog *stores, uint32_t *count)
{
    uint64_t bytes;
    int code = KVLOG_OK;
    int length = snprintf(stores[0].directory, sizeof stores[0].directory, "%s", directory);
    if (length <= 0 || (size_t)length >= sizeof stores[0].directory || !exists(directory, "", &bytes)) {
        fprintf(stderr, "kvlog: %s: no such directory\n", directory);
        return KVLOG_FAILED;
    }
    if (store_open(&stores[0]) != KV_OK) return KVLOG_FAILED;
    *count = 1;
    uint32_t workers = workers_read(&stores[0]);
    if (workers == 0) {
        fprintf(stderr, "workers: damaged: whether the directories of all workers are here is not known\n");
        code = KVLOG_DAMAGED;
    }
    for (uint32_t i = 1; i < (workers == 0 ? KVLOG_STORES_MAX : workers); i++) {
        struct kvlog *k = &stores[*count];
        int size = snprintf(k->directory, sizeof k->directory, "%s/worker-%" PRIu32, directory, i);
        snprintf(k->place, sizeof k->place, "worker-%" PRIu32 "/", i);
        if (size > 0 && (size_t)size < sizeof k->directory && exists(k->directory, "", &bytes)) {
            if (store_open(k) != KV_OK) return KVLOG_FAILED;
            ++*count;
        } else if (workers != 0) {
            fprintf(stderr, "%s: no such directory, though the node was of %" PRIu32 " workers: what they held is lost\n", k->place, workers);
            code = KVLOG_DAMAGED;
        }
    }
    return code;
}

static int look(struct kvlog *k, enum what what, const uint32_t *group)
{
    if (what == PAGES) return kvlog_pages(k); /* by pages alone: LMDB is not asked */
    enum kv_err err = state_open(k);
    if (err == KV_OK) return what == DUMP ? kvlog_dump(k, group) : kvlog_verify(k);
    fprintf(stderr, "kvlog: %s/state: %s\n", k->directory, kv_err_text(err));
    return KVLOG_FAILED;
}

/* Damage is worse than nothing, and not to know worse than that. */
static int worse(int a, int b)
{
    if (a == KVLOG_FAILED || b == KVLOG_FAILED) return KVLOG_FAILED;
    return a > b ? a : b;
}

static int run(const char *directory, struct kvlog *stores, enum what what, const uint32_t *group, const char *keyspace)
{
    uint32_t count = 0;
    int code = stores_open(directory, stores, &count);
    if (code != KVLOG_FAILED && what == SALVAGE) code = worse(code, kvlog_salvage(stores, count, keyspace));
    else if (code != KVLOG_FAILED)
        for (uint32_t i = 0; i < count; i++) code = worse(code, look(&stores[i], what, group));
    for (uint32_t i = 0; i < KVLOG_STORES_MAX; i++) {
        if (stores[i].checkpoint != NULL) stores[i].checkpoint->ops->destroy(stores[i].checkpoint);
        if (stores[i].uv != NULL) disk_uv_destroy(stores[i].uv);
    }
    return code;
}

int main(int argc, char **argv)
{
    uint64_t group = 0;
    static const char *const verbs[] = {"dump", "verify", "pages", "salvage"};
    enum what what = DUMP;
    while (what < NOTHING && (argc < 2 || strcmp(argv[1], verbs[what]) != 0)) what++;
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(usage, stdout);
        return KVLOG_OK;
    }
    bool has_group = what == DUMP && argc == 4, has_keyspace = what == SALVAGE && argc == 4;
    if (has_group && (!kv_parse_u64(kv_str(argv[3]), &group) || group > UINT32_MAX)) what = NOTHING;
    if (what == NOTHING || (argc != 3 && !has_group && !has_keyspace)) {
        fputs(usage, stderr);
        return KVLOG_USAGE;
    }
    uint32_t only = (uint32_t)group;
    struct kvlog *stores = calloc(KVLOG_STORES_MAX, sizeof *stores);
    if (stores == NULL) {
        fprintf(stderr, "kvlog: out of memory\n");
        return KVLOG_FAILED;
    }
    int code = run(argv[2], stores, what, has_group ? &only : NULL, has_keyspace ? argv[3] : NULL);
    free(stores);
    return code;
}

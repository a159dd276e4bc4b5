#include "client/base/endian.h"
#include "client/base/hash.h"
#include "client/base/text.h"
#include "storage/checkpoint_lmdb.h"
#include "storage/disk_uv.h"
#include "tools/kvlog/kvlog.h"
#include <stdio.h>
#include <sys/stat.h>

/* Looks into the data directory of a node that does not run. Changes nothing in it. */
static const char usage[] =
    "usage: kvlog dump DIR [GROUP]   every log record and checkpoint mark, one line each\n"
    "       kvlog verify DIR         what is wrong, and in which file at which offset\n"
    "       kvlog pages DIR          every page of the state, one line each\n"
    "       kvlog salvage DIR [KEYSPACE]   what can be read, as JSON lines for kvctl import; on stderr what is\n"
    "                                lost, and which other keyspaces there are\n"
    "\n"
    "DIR is the data directory (node.data) of a stopped node. Nothing in it is changed.\n"
    "exit codes: 0 ok, 1 cannot look, 2 usage, 4 damaged\n";

enum { IDENTITY_BYTES = 40 };
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
    char path[4096];
    struct stat st;
    int size = snprintf(path, sizeof path, "%s%s%s", directory, name[0] != '\0' ? "/" : "", name);
    if (size <= 0 || (size_t)size >= sizeof path || stat(path, &st) != 0) return false;
    *bytes = (uint64_t)st.st_size;
    return true;
}

/* As the store writes it: magic, format, node, store id, checksum. */
static void identity_read(struct kvlog *k)
{
    struct disk_file f;
    uint8_t b[IDENTITY_BYTES];
    size_t got = 0;
    if (k->disk->ops->open(k->disk, "identity", false, &f) != KV_OK) return;
    enum kv_err err = k->disk->ops->read(k->disk, f, 0, b, sizeof b, &got);
    k->disk->ops->close(k->disk, f);
    if (err != KV_OK || got != sizeof b || memcmp(b, "kvstore\n", 8) != 0) return;
    if (le64_get(b + 32) != kv_hash64(kv_slice(b, 32), 0)) return;
    k->node_id = le32_get(b + 12);
    k->store_id = le64_get(b + 16);
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

static int run(struct kvlog *k, enum what what, const uint32_t *group, const char *keyspace)
{
    struct disk_uv *uv;
    int code = KVLOG_FAILED;
    uint64_t bytes;
    if (!exists(k->directory, "", &bytes)) {
        fprintf(stderr, "kvlog: %s: no such directory\n", k->directory);
        return code;
    }
    enum kv_err err = disk_uv_create(k->directory, on_wake, NULL, &uv);
    if (err != KV_OK) {
        fprintf(stderr, "kvlog: %s: %s\n", k->directory,
                err == KV_BUSY ? "in use by a running kvd; stop it first" : kv_err_text(err));
        return code;
    }
    k->disk = disk_uv_disk(uv);
    identity_read(k);
    if (what == PAGES || what == SALVAGE) { /* by pages alone: LMDB is not asked */
        code = what == PAGES ? kvlog_pages(k) : kvlog_salvage(k, keyspace);
    } else {
        err = state_open(k);
        if (err == KV_OK) code = what == DUMP ? kvlog_dump(k, group) : kvlog_verify(k);
        else fprintf(stderr, "kvlog: %s/state: %s\n", k->directory, kv_err_text(err));
    }
    if (k->checkpoint != NULL) k->checkpoint->ops->destroy(k->checkpoint);
    disk_uv_destroy(uv);
    return code;
}

int main(int argc, char **argv)
{
    struct kvlog k = {.directory = argc > 2 ? argv[2] : NULL};
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
    return run(&k, what, has_group ? &only : NULL, has_keyspace ? argv[3] : NULL);
}

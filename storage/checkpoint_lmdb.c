#include "storage/checkpoint_lmdb.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/base/buf.h"
#include "client/base/endian.h"
#include "storage/lmdb_check.h"
#include "storage/lmdb_size.h"
#include "storage/mark.h"

/* One LMDB environment:
 * (1) data, locks, dedup are keyed by exactly the encoded key (R10). A dedup datum is
 *     {sub 24 B, value}, sorted, so that at most one begins with a given sub.
 * (2) marks: group (4 B, big-endian) -> mark, laid out below, with its checksum.
 * (3) meta: "format" -> u32. A later format is refused before anything else is read.
 * (4) Never MDB_NOSYNC: a commit is on disk when it returns.
 * (5) Nothing asks LMDB before the file was walked: it believes what it reads. Small files
 *     are walked whole at each start, large ones down to their leaves only, unless the file
 *     `suspect` has a byte: something was wrong, or the process crashed, and all is read (R21).
 * One write transaction, on one thread from begin to commit; views are
 * read transactions that are reset and renewed. */
enum {
    FORMAT = 1,
    READERS_MAX = 512,
    PATH_BYTES_MAX = 4096,
    TRIM_WRITES_MIN = 4096 /* each may have left a page behind */
};
#define MAP_BYTES_DEFAULT (UINT64_C(1) << 40)
#define CHECK_PAGES_MAX   (UINT64_C(1) << 16) /* 256 MiB, a fraction of a second */

struct checkpoint_lmdb {
    struct checkpoint base;
    MDB_env *env;
    MDB_dbi classes[STORE_CLASSES], marks, meta;
    MDB_txn *write;                     /* NULL: none */
    MDB_cursor *cursors[STORE_CLASSES]; /* of `write`; sorted puts stay on their page */
    uint64_t map_bytes, writes;         /* writes: since the environment was opened */
    char path[PATH_BYTES_MAX];
    bool (*is_intact)(enum store_class class, struct kv_slice key, struct kv_slice value);
    int suspect;             /* file descriptor of `suspect`; -1: none */
    struct lmdb_check check; /* what the start found */
};
struct checkpoint_view {
    struct checkpoint_lmdb *owner;
    MDB_txn *txn;
    MDB_cursor *dedup; /* for point reads; NULL until the first */
};
struct checkpoint_cursor {
    struct checkpoint_view *view;
    MDB_cursor *cursor;
    enum store_class class;
    MDB_cursor_op op; /* what the next step is */
    MDB_val key, value;
};

static struct checkpoint_lmdb *lmdb(const struct checkpoint *c)
{
    return container_of((struct checkpoint *)(uintptr_t)c, struct checkpoint_lmdb, base);
}

static enum kv_err err_from(int rc)
{
    switch (rc) {
    case MDB_SUCCESS: return KV_OK;
    case MDB_NOTFOUND: return KV_NOT_FOUND;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return KV_NO_SPACE;
    case MDB_TXN_FULL: return KV_TOO_BIG;
    case MDB_READERS_FULL:
    case EAGAIN:
    case ENOMEM: return KV_BUSY;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_PANIC:
    case MDB_CURSOR_FULL:
    case MDB_PAGE_FULL:
    case MDB_INVALID: return KV_CORRUPT;
    case MDB_VERSION_MISMATCH: return KV_VERSION;
    case EACCES: return KV_DENIED;
    default: return KV_IO;
    }
}

/* Whatever is wrong with it was met inside LMDB: the next start must not trust it (R21). */
static void suspect(const struct checkpoint_lmdb *l)
{
    if (l->suspect < 0 || pwrite(l->suspect, "!", 1, 0) != 1) return;
    fsync(l->suspect);
}

static enum kv_err err_of(const struct checkpoint_lmdb *l, int rc)
{
    enum kv_err err = err_from(rc);
    if (err == KV_CORRUPT) suspect(l);
    return err;
}

static bool file_name(const struct checkpoint_lmdb *l, const char *name, char out[PATH_BYTES_MAX])
{
    int n = snprintf(out, PATH_BYTES_MAX, "%s/%s", l->path, name);
    return n > 0 && n < PATH_BYTES_MAX;
}

static MDB_val to_val(struct kv_slice s)
{
    return (MDB_val){.mv_size = s.size, .mv_data = (void *)(uintptr_t)s.data};
}

static struct kv_slice to_slice(MDB_val v)
{
    return kv_slice(v.mv_data, v.mv_size);
}

/* Write transactions */

static void lmdb_abort(struct checkpoint *c)
{
    struct checkpoint_lmdb *l = lmdb(c);
    if (l->write == NULL) return;
    for (int k = 0; k < STORE_CLASSES; k++)
        mdb_cursor_close(l->cursors[k]);
    mdb_txn_abort(l->write);
    l->write = NULL;
}

static enum kv_err lmdb_begin(struct checkpoint *c)
{
    struct checkpoint_lmdb *l = lmdb(c);
    assert(l->write == NULL);
    MDB_txn *txn;
    int rc = mdb_txn_begin(l->env, NULL, 0, &txn);
    if (rc != 0) return err_of(l, rc);
    for (int k = 0; k < STORE_CLASSES; k++) {
        rc = mdb_cursor_open(txn, l->classes[k], &l->cursors[k]);
        if (rc == 0) continue;
        while (k-- > 0)
            mdb_cursor_close(l->cursors[k]);
        mdb_txn_abort(txn);
        return err_of(l, rc);
    }
    l->write = txn;
    return KV_OK;
}

/* Moves to the dedup row (key, sub). MDB_NOTFOUND: there is none. */
static int dedup_find(MDB_cursor *cursor, struct kv_slice key, struct kv_slice sub, MDB_val *datum)
{
    MDB_val k = to_val(key);
    *datum = to_val(sub);
    int rc = mdb_cursor_get(cursor, &k, datum, MDB_GET_BOTH_RANGE);
    if (rc != 0) return rc;
    if (datum->mv_size < STORE_SUB_BYTES) return MDB_CORRUPTED;
    return memcmp(datum->mv_data, sub.data, STORE_SUB_BYTES) == 0 ? 0 : MDB_NOTFOUND;
}

static int dedup_put(MDB_cursor *cursor, const struct store_row *row)
{
    uint8_t joined[STORE_SUB_BYTES + STORE_DEDUP_VALUE_BYTES_MAX];
    assert(row->value.size <= STORE_DEDUP_VALUE_BYTES_MAX);
    memcpy(joined, row->sub.data, STORE_SUB_BYTES);
    if (row->value.size > 0) memcpy(joined + STORE_SUB_BYTES, row->value.data, row->value.size);
    MDB_val datum;
    int rc = dedup_find(cursor, row->key, row->sub, &datum);
    if (rc == 0) rc = mdb_cursor_del(cursor, 0);
    if (rc != 0 && rc != MDB_NOTFOUND) return rc;
    MDB_val key = to_val(row->key),
            value = to_val(kv_slice(joined, STORE_SUB_BYTES + row->value.size));
    return mdb_cursor_put(cursor, &key, &value, 0);
}

static enum kv_err lmdb_put(struct checkpoint *c, const struct store_row *row)
{
    struct checkpoint_lmdb *l = lmdb(c);
    assert(l->write != NULL && row->key.size > 0);
    assert(row->sub.size == (row->class == STORE_DEDUP ? STORE_SUB_BYTES : 0u));
    MDB_cursor *cursor = l->cursors[row->class];
    l->writes++;
    if (row->class == STORE_DEDUP) return err_of(l, dedup_put(cursor, row));
    MDB_val key = to_val(row->key), value = to_val(row->value);
    return err_of(l, mdb_cursor_put(cursor, &key, &value, 0));
}

static enum kv_err lmdb_del(struct checkpoint *c, const struct store_row *row)
{
    struct checkpoint_lmdb *l = lmdb(c);
    assert(l->write != NULL && row->key.size > 0);
    MDB_cursor *cursor = l->cursors[row->class];
    l->writes++;
    MDB_val key = to_val(row->key), value;
    int rc = row->class == STORE_DEDUP ? dedup_find(cursor, row->key, row->sub, &value)
                                       : mdb_cursor_get(cursor, &key, &value, MDB_SET);
    if (rc == 0) rc = mdb_cursor_del(cursor, 0);
    return rc == MDB_NOTFOUND ? KV_OK : err_of(l, rc);
}

static enum kv_err lmdb_delete_range(struct checkpoint *c, enum store_class class,
                                     struct kv_range range)
{
    struct checkpoint_lmdb *l = lmdb(c);
    assert(l->write != NULL);
    for (;;) {
        /* Sought anew each time: it stays on its page, and depends on nothing that the
         * deletion may have done to the cursor. */
        MDB_val key = to_val(range.from), value;
        int rc = mdb_cursor_get(l->cursors[class], &key, &value,
                                range.from.size == 0 ? MDB_FIRST : MDB_SET_RANGE);
        if (rc == MDB_NOTFOUND) return KV_OK;
        if (rc != 0) return err_of(l, rc);
        if (!kv_range_has(range, to_slice(key))) return KV_OK;
        l->writes++;
        rc = mdb_cursor_del(l->cursors[class], class == STORE_DEDUP ? MDB_NODUPDATA : 0);
        if (rc != 0) return err_of(l, rc);
    }
}

static enum kv_err lmdb_mark(struct checkpoint *c, const struct checkpoint_mark *m)
{
    struct checkpoint_lmdb *l = lmdb(c);
    assert(l->write != NULL);
    uint8_t group[MARK_KEY_BYTES];
    struct kv_buf bytes = {0};
    enum kv_err err = mark_write(m, group, &bytes);
    if (err == KV_OK) {
        MDB_val key = {sizeof group, group}, value = to_val(kv_buf_slice(&bytes));
        err = err_of(l, mdb_put(l->write, l->marks, &key, &value, 0));
    }
    kv_buf_free(&bytes);
    return err;
}

static enum kv_err lmdb_commit(struct checkpoint *c)
{
    struct checkpoint_lmdb *l = lmdb(c);
    assert(l->write != NULL);
    for (int k = 0; k < STORE_CLASSES; k++)
        mdb_cursor_close(l->cursors[k]);
    MDB_txn *txn = l->write;
    l->write = NULL;
    /* LMDB says EIO, too, of a write that a full file system cut short, though no call failed with it. The
     * pages it was about to write belong to nobody yet. */
    errno = 0;
    int rc = mdb_txn_commit(txn); /* the transaction is gone either way */
    return err_of(l, rc == EIO && errno != EIO ? ENOSPC : rc);
}

/* Views */

static enum kv_err lmdb_view_open(struct checkpoint *c, struct checkpoint_view **out)
{
    struct checkpoint_view *v = calloc(1, sizeof *v);
    if (v == NULL) return KV_BUSY;
    v->owner = lmdb(c);
    int rc = mdb_txn_begin(v->owner->env, NULL, MDB_RDONLY, &v->txn);
    if (rc != 0) {
        free(v);
        return err_of(lmdb(c), rc);
    }
    *out = v;
    return KV_OK;
}

static enum kv_err lmdb_view_renew(struct checkpoint_view *v)
{
    mdb_txn_reset(v->txn);
    int rc = mdb_txn_renew(v->txn);
    if (rc == 0 && v->dedup != NULL) rc = mdb_cursor_renew(v->txn, v->dedup);
    return err_of(v->owner, rc);
}

static void lmdb_view_close(struct checkpoint_view *v)
{
    if (v == NULL) return;
    mdb_cursor_close(v->dedup);
    mdb_txn_abort(v->txn);
    free(v);
}

static enum kv_err lmdb_get(struct checkpoint_view *v, enum store_class class, struct kv_slice key,
                            struct kv_slice sub, struct kv_slice *value)
{
    MDB_val k = to_val(key), found;
    int rc;
    if (class == STORE_DEDUP) {
        assert(sub.size == STORE_SUB_BYTES);
        if (v->dedup == NULL) {
            rc = mdb_cursor_open(v->txn, v->owner->classes[class], &v->dedup);
            if (rc != 0) return err_of(v->owner, rc);
        }
        rc = dedup_find(v->dedup, key, sub, &found);
    } else {
        rc = mdb_get(v->txn, v->owner->classes[class], &k, &found);
    }
    if (rc != 0) return err_of(v->owner, rc);
    size_t skip = class == STORE_DEDUP ? STORE_SUB_BYTES : 0;
    *value = kv_slice((uint8_t *)found.mv_data + skip, found.mv_size - skip);
    return KV_OK;
}

static enum kv_err lmdb_seek(struct checkpoint_view *v, enum store_class class,
                             struct kv_slice from, struct checkpoint_cursor **out)
{
    struct checkpoint_cursor *i = calloc(1, sizeof *i);
    if (i == NULL) return KV_BUSY;
    i->view = v;
    i->class = class;
    int rc = mdb_cursor_open(v->txn, v->owner->classes[class], &i->cursor);
    if (rc != 0) {
        free(i);
        return err_of(v->owner, rc);
    }
    i->op = MDB_FIRST;
    if (from.size > 0) { /* positioned here, so that `from` is needed no longer */
        i->key = to_val(from);
        rc = mdb_cursor_get(i->cursor, &i->key, &i->value, MDB_SET_RANGE);
        i->op = MDB_GET_CURRENT;
        if (rc == MDB_NOTFOUND) {
            i->op = MDB_LAST; /* the end: MDB_NEXT behind the last stays there */
            rc = 0;
        }
    }
    if (rc != 0) {
        mdb_cursor_close(i->cursor);
        free(i);
        return err_of(v->owner, rc);
    }
    *out = i;
    return KV_OK;
}

static enum kv_err lmdb_next(struct checkpoint_cursor *i, struct store_row *row)
{
    int rc;
    switch (i->op) {
    case MDB_LAST: return KV_NOT_FOUND;
    case MDB_GET_CURRENT: rc = 0; break; /* already read by seek */
    default: rc = mdb_cursor_get(i->cursor, &i->key, &i->value, i->op); break;
    }
    if (rc == MDB_NOTFOUND) i->op = MDB_LAST;
    if (rc != 0) return err_of(i->view->owner, rc);
    i->op = MDB_NEXT;
    *row =
        (struct store_row){.class = i->class, .key = to_slice(i->key), .value = to_slice(i->value)};
    if (i->class == STORE_DEDUP) {
        if (i->value.mv_size < STORE_SUB_BYTES) return err_of(i->view->owner, MDB_CORRUPTED);
        row->sub = kv_slice(row->value.data, STORE_SUB_BYTES);
        row->value = kv_slice(row->value.data + STORE_SUB_BYTES, row->value.size - STORE_SUB_BYTES);
    }
    return KV_OK;
}

static void lmdb_close(struct checkpoint_cursor *i)
{
    if (i == NULL) return;
    mdb_cursor_close(i->cursor);
    free(i);
}

static enum kv_err lmdb_marks(struct checkpoint_view *v,
                              void (*each)(void *context, const struct checkpoint_mark *m),
                              void *context)
{
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(v->txn, v->owner->marks, &cursor);
    if (rc != 0) return err_of(v->owner, rc);
    enum kv_err err = KV_OK;
    MDB_val key, value;
    while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        struct checkpoint_mark m;
        if (!mark_read(to_slice(key), to_slice(value), &m)) {
            err = err_of(v->owner, MDB_CORRUPTED);
            break;
        }
        each(context, &m);
    }
    if (err == KV_OK && rc != MDB_NOTFOUND) err = err_of(v->owner, rc);
    mdb_cursor_close(cursor);
    return err;
}

/* Between two commits of the same thread the file stands still. */
static enum kv_err lmdb_verify(struct checkpoint *c, char *why, size_t why_size)
{
    struct checkpoint_lmdb *l = lmdb(c);
    char file[PATH_BYTES_MAX];
    struct lmdb_check check;
    assert(l->write == NULL);
    if (!file_name(l, "data.mdb", file)) return KV_BAD_ARGUMENT;
    enum kv_err err = lmdb_check(file, 0, l->is_intact, &check);
    if (err == KV_OK && check.rotten_count > 0) err = KV_CORRUPT;
    if (err != KV_OK) snprintf(why, why_size, "%s", check.why[0] != '\0' ? check.why : kv_err_text(err));
    return err;
}

static void lmdb_rotten(const struct checkpoint *c, void (*each)(void *context, struct kv_slice key, const char *where), void *context)
{
    const struct checkpoint_lmdb *l = lmdb(c);
    for (uint32_t i = 0; i < l->check.rotten_count; i++)
        each(context, kv_key_slice(&l->check.rotten[i]), l->check.why);
}

/* On the thread that commits, so that the file stands still. */
static enum kv_err lmdb_sizes(struct checkpoint *c, struct checkpoint_size *of, uint32_t count)
{
    char file[PATH_BYTES_MAX];
    if (!file_name(lmdb(c), "data.mdb", file)) return KV_BAD_ARGUMENT;
    return lmdb_size(file, "data", of, count);
}

static uint64_t lmdb_bytes(const struct checkpoint *c)
{
    MDB_envinfo info;
    MDB_stat stat;
    if (mdb_env_info(lmdb(c)->env, &info) != 0 || mdb_env_stat(lmdb(c)->env, &stat) != 0) return 0;
    return ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
}

static void lmdb_destroy(struct checkpoint *c)
{
    struct checkpoint_lmdb *l = lmdb(c);
    lmdb_abort(c);
    if (l->env != NULL) mdb_env_close(l->env);
    if (l->suspect >= 0) close(l->suspect);
    free(l);
}

/* Opening */

static enum kv_err directory_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return KV_IO;
    enum kv_err err = fsync(fd) == 0 ? KV_OK : KV_IO;
    close(fd);
    return err;
}

static int format_check(struct checkpoint_lmdb *l, MDB_txn *txn, bool is_new)
{
    uint8_t format[4];
    MDB_val key = {6, (void *)(uintptr_t) "format"}, value;
    int rc = mdb_get(txn, l->meta, &key, &value);
    if (rc == 0) {
        if (value.mv_size != sizeof format) return MDB_CORRUPTED;
        return le32_get(value.mv_data) == FORMAT ? 0 : MDB_VERSION_MISMATCH;
    }
    if (rc != MDB_NOTFOUND) return rc;
    if (!is_new) return MDB_CORRUPTED; /* somebody else's environment */
    le32_put(format, FORMAT);
    value = (MDB_val){sizeof format, format};
    return mdb_put(txn, l->meta, &key, &value, 0);
}

static enum kv_err databases_open(struct checkpoint_lmdb *l)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(l->env, NULL, 0, &txn);
    if (rc != 0) return err_of(l, rc);
    MDB_stat stat;
    rc = mdb_env_stat(l->env, &stat);
    bool is_new = rc == 0 && stat.ms_entries == 0;
    if (rc == 0) rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &l->meta);
    if (rc == 0) rc = format_check(l, txn, is_new);
    if (rc == 0) rc = mdb_dbi_open(txn, "data", MDB_CREATE, &l->classes[STORE_DATA]);
    if (rc == 0) rc = mdb_dbi_open(txn, "locks", MDB_CREATE, &l->classes[STORE_LOCKS]);
    if (rc == 0)
        rc = mdb_dbi_open(txn, "dedup", MDB_CREATE | MDB_DUPSORT, &l->classes[STORE_DEDUP]);
    if (rc == 0) rc = mdb_dbi_open(txn, "marks", MDB_CREATE, &l->marks);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return err_of(l, rc);
    }
    return err_of(l, mdb_txn_commit(txn));
}

static enum kv_err environment_open(struct checkpoint_lmdb *l)
{
    int rc = mdb_env_create(&l->env);
    if (rc == 0) rc = mdb_env_set_mapsize(l->env, l->map_bytes);
    if (rc == 0) rc = mdb_env_set_maxdbs(l->env, 8);
    if (rc == 0) rc = mdb_env_set_maxreaders(l->env, READERS_MAX);
    if (rc == 0)
        rc = mdb_env_open(l->env, l->path, MDB_NOTLS | MDB_NORDAHEAD | MDB_NOMEMINIT, 0600);
    if (rc != 0) return err_of(l, rc);
    return databases_open(l);
}

static enum kv_err file_check(struct checkpoint_lmdb *l, char *why, size_t why_size)
{
    char file[PATH_BYTES_MAX];
    struct stat st;
    if (!file_name(l, "suspect", file)) return KV_BAD_ARGUMENT;
    l->suspect = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (l->suspect < 0 || fstat(l->suspect, &st) != 0) return err_from(errno);
    if (!file_name(l, "data.mdb", file)) return KV_BAD_ARGUMENT;
    enum kv_err err = lmdb_check(file, st.st_size > 0 ? 0 : CHECK_PAGES_MAX, l->is_intact, &l->check);
    if (err == KV_NOT_FOUND) return KV_OK;
    if (err != KV_OK && why != NULL) snprintf(why, why_size, "%s", l->check.why[0] != '\0' ? l->check.why : kv_err_text(err));
    return err;
}

static enum kv_err directories_open(struct checkpoint_lmdb *l, const char *directory, char *why, size_t why_size)
{
    int n = snprintf(l->path, sizeof l->path, "%s/state", directory);
    if (n < 0 || (size_t)n >= sizeof l->path) return KV_BAD_ARGUMENT;
    if (mkdir(directory, 0700) != 0 && errno != EEXIST) return err_from(errno);
    if (mkdir(l->path, 0700) != 0 && errno != EEXIST) return err_from(errno);
    enum kv_err err = file_check(l, why, why_size);
    if (err == KV_OK) err = environment_open(l);
    if (err == KV_OK) err = directory_sync(l->path);
    if (err == KV_OK) err = directory_sync(directory);
    if (err == KV_OK && ftruncate(l->suspect, 0) != 0) err = err_from(errno); /* walked, and opened */
    return err;
}

enum kv_err checkpoint_lmdb_set_aside(const char *directory)
{
    static const char *const files[] = {"data.mdb", "lock.mdb", "suspect"};
    char from[PATH_BYTES_MAX], to[PATH_BYTES_MAX], file[PATH_BYTES_MAX + 16];
    int n = snprintf(from, sizeof from, "%s/state", directory);
    int m = snprintf(to, sizeof to, "%s/state.damaged", directory);
    if (n < 0 || m < 0 || (size_t)n >= sizeof from || (size_t)m >= sizeof to) return KV_BAD_ARGUMENT;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) { /* of an earlier time */
        snprintf(file, sizeof file, "%s/%s", to, files[i]);
        if (unlink(file) != 0 && errno != ENOENT) return err_from(errno);
    }
    if (rmdir(to) != 0 && errno != ENOENT) return err_from(errno);
    if (rename(from, to) != 0) return err_from(errno);
    return directory_sync(directory);
}

int checkpoint_lmdb_suspect_fd(const struct checkpoint *c)
{
    return lmdb(c)->suspect;
}

/* LMDB keeps every page it ever had dirty, up to 512 MiB of them, until the environment
 * is closed; and so does the kernel keep mapped what was read. */
static enum kv_err lmdb_trim(struct checkpoint *c)
{
    struct checkpoint_lmdb *l = lmdb(c);
    assert(l->write == NULL);
    if (l->writes < TRIM_WRITES_MIN) return KV_OK;
    mdb_env_close(l->env);
    l->env = NULL;
    l->writes = 0;
    return environment_open(l);
}

enum kv_err checkpoint_lmdb_create(const struct checkpoint_lmdb_options *o, struct checkpoint **out, char *why,
                                   size_t why_size)
{
    static const struct checkpoint_ops ops = {
        .begin = lmdb_begin,
        .put = lmdb_put,
        .del = lmdb_del,
        .delete_range = lmdb_delete_range,
        .mark = lmdb_mark,
        .commit = lmdb_commit,
        .abort = lmdb_abort,
        .view_open = lmdb_view_open,
        .view_renew = lmdb_view_renew,
        .view_close = lmdb_view_close,
        .get = lmdb_get,
        .seek = lmdb_seek,
        .next = lmdb_next,
        .close = lmdb_close,
        .marks = lmdb_marks,
        .verify = lmdb_verify,
        .rotten = lmdb_rotten,
        .bytes = lmdb_bytes,
        .sizes = lmdb_sizes,
        .trim = lmdb_trim,
        .destroy = lmdb_destroy,
    };
    struct checkpoint_lmdb *l = calloc(1, sizeof *l);
    if (l == NULL) return KV_BUSY;
    l->base.ops = &ops;
    l->map_bytes = o->map_bytes == 0 ? MAP_BYTES_DEFAULT : o->map_bytes;
    l->is_intact = o->is_intact;
    l->suspect = -1;
    enum kv_err err = directories_open(l, o->directory, why, why_size);
    if (err != KV_OK) {
        lmdb_destroy(&l->base);
        return err;
    }
    *out = &l->base;
    return KV_OK;
}

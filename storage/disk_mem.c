#include "storage/disk_mem.h"
#include "client/base/hash.h"
#include "storage/disk_mem_medium.h"
#include <assert.h>
#include <stdlib.h>

/* The disk of tests and of the simulator: requests, faults and crashes over the medium of disk_mem_medium.h. */

struct disk_mem {
    struct disk disk;
    struct disk_mem_options options;
    struct disk_mem_faults faults;
    uint64_t random, operations, fault_base, writes, syncs, appends, since_misdirected;
    uint64_t claimed; /* counts as used */
    struct medium medium;
    struct mem_file **handles; /* NULL: free */
    size_t handle_count;
    struct disk_request *first, **last;
    uint32_t pending;
    bool crashed;
};

static struct disk_mem *from_disk(struct disk *d)
{
    return container_of(d, struct disk_mem, disk);
}

static bool chance(struct disk_mem *d, uint64_t of)
{
    return kv_random_next(&d->random) % of == 0;
}

static void requests_forget(struct disk_mem *d)
{
    d->first = NULL;
    d->last = &d->first;
    d->pending = 0;
}

static struct mem_file *handle_file(struct disk_mem *d, struct disk_file f)
{
    if (d->crashed) return NULL; /* a handle from before the crash may be long dead */
    assert(f.handle >= 0 && (size_t)f.handle < d->handle_count && d->handles[f.handle] != NULL);
    return d->handles[f.handle];
}

void disk_mem_crash(struct disk_mem *d, enum disk_mem_crash kind)
{
    if (d->crashed) return;
    for (struct disk_request *q = d->first; q != NULL; q = q->next) {
        if (q->run != NULL || chance(d, 2)) continue;
        uint64_t offset = q->offset; /* the log thread was somewhere in the middle of this */
        for (uint32_t i = 0; i < q->part_count; i++) {
            bool whole = chance(d, 2); /* and only its sync is missing */
            size_t size = whole ? q->parts[i].size : (size_t)(kv_random_next(&d->random) % (q->parts[i].size + 1));
            mem_file_write(handle_file(d, q->file), offset, kv_slice(q->parts[i].data, size));
            if (size < q->parts[i].size) break;
            offset += size;
        }
    }
    requests_forget(d);
    if (kind == DISK_MEM_POWER_LOSS) {
        medium_settle(&d->medium, (size_t)(kv_random_next(&d->random) % (d->medium.journal_count + 1)));
        mem_names_clear(&d->medium.now);
        for (size_t i = 0; i < d->medium.durable.count; i++) {
            mem_file_lose(&d->random, d->medium.durable.names[i].file);
            mem_names_set(&d->medium.now, d->medium.durable.names[i].name, d->medium.durable.names[i].file);
        }
    }
    for (size_t i = 0; i < d->handle_count; i++) {
        mem_file_unref(d->handles[i]);
        d->handles[i] = NULL;
    }
    d->crashed = true;
}

bool disk_mem_is_crashed(const struct disk_mem *d)
{
    return d->crashed;
}

void disk_mem_restart(struct disk_mem *d)
{
    d->crashed = false;
    d->since_misdirected = 0;
    d->faults = (struct disk_mem_faults){.lies = d->faults.lies};
}

/* Counts one operation; true: the machine is to stop in the middle of it. */
static bool operation_crashes(struct disk_mem *d)
{
    d->operations++;
    return d->faults.crash_at != 0 && d->operations - d->fault_base == d->faults.crash_at;
}

static uint64_t bytes_used(const struct disk_mem *d)
{
    uint64_t bytes = d->claimed;
    for (size_t i = 0; i < d->medium.now.count; i++) bytes += d->medium.now.names[i].file->size;
    return bytes;
}

static enum kv_err mem_open(struct disk *base, const char *name, bool create, struct disk_file *out)
{
    struct disk_mem *d = from_disk(base);
    out->handle = -1;
    if (d->crashed) return KV_CLOSED;
    struct mem_file *f = mem_names_get(&d->medium.now, name);
    if (f == NULL) {
        if (!create) return KV_NOT_FOUND;
        bool crash = operation_crashes(d);
        f = mem_file_create();
        medium_change(&d->medium, name, "", f);
        mem_file_unref(f);
        if (crash) {
            disk_mem_crash(d, DISK_MEM_POWER_LOSS);
            return KV_CLOSED;
        }
    }
    size_t handle = 0;
    while (handle < d->handle_count && d->handles[handle] != NULL) handle++;
    if (handle == d->handle_count) {
        d->handles = mem_must(realloc(d->handles, (handle + 1) * sizeof(struct mem_file *)));
        d->handle_count++;
    }
    d->handles[handle] = mem_file_ref(f);
    out->handle = (int32_t)handle;
    return KV_OK;
}

static enum kv_err mem_close(struct disk *base, struct disk_file h)
{
    struct disk_mem *d = from_disk(base);
    if (handle_file(d, h) == NULL) return KV_CLOSED;
    mem_file_unref(d->handles[h.handle]);
    d->handles[h.handle] = NULL;
    return KV_OK;
}

static enum kv_err mem_size(struct disk *base, struct disk_file h, uint64_t *bytes)
{
    struct mem_file *f = handle_file(from_disk(base), h);
    if (f == NULL) return KV_CLOSED;
    *bytes = f->size;
    return KV_OK;
}

static enum kv_err mem_read(struct disk *base, struct disk_file h, uint64_t offset, uint8_t *into,
                            size_t size, size_t *got)
{
    struct mem_file *f = handle_file(from_disk(base), h);
    *got = 0;
    if (f == NULL) return KV_CLOSED;
    if (offset >= f->size) return KV_OK;
    *got = f->size - offset < size ? (size_t)(f->size - offset) : size;
    mem_file_read(f, offset, into, *got);
    return KV_OK;
}

static enum kv_err mem_write(struct disk *base, struct disk_file h, uint64_t offset, struct kv_slice bytes)
{
    struct disk_mem *d = from_disk(base);
    struct mem_file *f = handle_file(d, h);
    if (f == NULL) return KV_CLOSED;
    d->writes++;
    bool fails = d->faults.fail_write_at != 0 && d->writes == d->faults.fail_write_at;
    bool crash = operation_crashes(d);
    if (fails || crash) {
        mem_file_write(f, offset, kv_slice(bytes.data, (size_t)(kv_random_next(&d->random) % (bytes.size + 1))));
        if (crash) disk_mem_crash(d, DISK_MEM_POWER_LOSS);
        return crash ? KV_CLOSED : KV_IO;
    }
    uint64_t end = offset + bytes.size;
    if (d->options.capacity != 0 && end > f->size &&
        bytes_used(d) + (end - f->size) > d->options.capacity)
        return KV_NO_SPACE;
    mem_file_write(f, offset, bytes);
    return KV_OK;
}

static enum kv_err mem_sync(struct disk *base, struct disk_file h)
{
    struct disk_mem *d = from_disk(base);
    struct mem_file *f = handle_file(d, h);
    if (f == NULL) return KV_CLOSED;
    d->syncs++;
    if (operation_crashes(d)) {
        disk_mem_crash(d, DISK_MEM_POWER_LOSS);
        return KV_CLOSED;
    }
    if (d->faults.fail_sync_at != 0 && d->syncs == d->faults.fail_sync_at) {
        mem_file_lose_quietly(&d->random, f);
        return KV_IO;
    }
    if (!d->faults.lies) mem_file_settle(f);
    return KV_OK;
}

static enum kv_err mem_truncate(struct disk *base, struct disk_file h, uint64_t size)
{
    struct disk_mem *d = from_disk(base);
    struct mem_file *f = handle_file(d, h);
    if (f == NULL) return KV_CLOSED;
    bool crash = operation_crashes(d);
    if (!crash || chance(d, 2)) mem_file_resize(f, size);
    if (crash) disk_mem_crash(d, DISK_MEM_POWER_LOSS);
    return crash ? KV_CLOSED : KV_OK;
}

static enum kv_err name_change(struct disk_mem *d, const char *name, const char *from, struct mem_file *f)
{
    bool crash = operation_crashes(d);
    medium_change(&d->medium, name, from, f);
    if (crash) disk_mem_crash(d, DISK_MEM_POWER_LOSS);
    return crash ? KV_CLOSED : KV_OK;
}

static enum kv_err mem_rename(struct disk *base, const char *from, const char *to)
{
    struct disk_mem *d = from_disk(base);
    if (d->crashed) return KV_CLOSED;
    struct mem_file *f = mem_names_get(&d->medium.now, from);
    return f == NULL ? KV_NOT_FOUND : name_change(d, to, from, f);
}

static enum kv_err mem_remove(struct disk *base, const char *name)
{
    struct disk_mem *d = from_disk(base);
    if (d->crashed) return KV_CLOSED;
    return mem_names_get(&d->medium.now, name) == NULL ? KV_NOT_FOUND : name_change(d, name, "", NULL);
}

static enum kv_err mem_sync_dir(struct disk *base)
{
    struct disk_mem *d = from_disk(base);
    if (d->crashed) return KV_CLOSED;
    if (operation_crashes(d)) {
        disk_mem_crash(d, DISK_MEM_POWER_LOSS);
        return KV_CLOSED;
    }
    if (!d->faults.lies) medium_settle(&d->medium, d->medium.journal_count);
    return KV_OK;
}

static enum kv_err mem_list(struct disk *base, void (*each)(void *context, const char *name, uint64_t size),
                            void *context)
{
    struct disk_mem *d = from_disk(base);
    if (d->crashed) return KV_CLOSED;
    for (size_t i = 0; i < d->medium.now.count; i++) each(context, d->medium.now.names[i].name, d->medium.now.names[i].file->size);
    return KV_OK;
}

static enum kv_err mem_space(struct disk *base, uint64_t *free_bytes)
{
    struct disk_mem *d = from_disk(base);
    if (d->crashed) return KV_CLOSED;
    uint64_t used = bytes_used(d), capacity = d->options.capacity;
    *free_bytes = capacity == 0 ? UINT64_C(1) << 50 : capacity > used ? capacity - used : 0;
    return KV_OK;
}

/* Where an append lands that the device writes to the wrong place of the right file. */
static uint64_t misdirected(struct disk_mem *d, const struct disk_request *q, uint64_t offset)
{
    d->appends++;
    if (d->since_misdirected > 0) d->since_misdirected++;
    const struct mem_file *f = handle_file(d, q->file);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < q->part_count; i++) bytes += q->parts[i].size;
    if (d->faults.misdirect_append_at == 0 || d->appends != d->faults.misdirect_append_at || f == NULL ||
        f->size < bytes + MEM_PAGE)
        return offset;
    d->since_misdirected = 1;
    return kv_random_next(&d->random) % ((f->size - bytes) / MEM_PAGE) * MEM_PAGE;
}

static enum kv_err mem_claim(struct disk *base, uint64_t bytes)
{
    struct disk_mem *d = from_disk(base);
    if (d->crashed) return KV_CLOSED;
    d->claimed = 0;
    if (d->options.capacity != 0 && bytes_used(d) + bytes > d->options.capacity) return KV_NO_SPACE;
    d->claimed = bytes;
    return KV_OK;
}

static enum kv_err append_perform(struct disk *base, const struct disk_request *q)
{
    uint64_t offset = misdirected(from_disk(base), q, q->offset);
    enum kv_err err = KV_OK;
    for (uint32_t i = 0; i < q->part_count && err == KV_OK; i++) {
        err = mem_write(base, q->file, offset, q->parts[i]);
        offset += q->parts[i].size;
    }
    if (err == KV_OK && q->sync) err = mem_sync(base, q->file);
    return err;
}

static enum kv_err mem_append_now(struct disk *base, struct disk_request *q)
{
    q->ns = from_disk(base)->options.sync_ns;
    return append_perform(base, q);
}

static void request_put(struct disk_mem *d, struct disk_request *q, enum disk_mem_kind kind)
{
    q->next = NULL;
    *d->last = q;
    d->last = &q->next;
    d->pending++;
    if (d->options.schedule != NULL) d->options.schedule(d->options.context, q, kind);
}

static void mem_append(struct disk *base, struct disk_request *q)
{
    q->run = NULL; /* tells the kinds apart */
    q->ns = from_disk(base)->options.sync_ns;
    request_put(from_disk(base), q, DISK_MEM_APPEND);
}

static void mem_work(struct disk *base, struct disk_request *q)
{
    assert(q->run != NULL);
    request_put(from_disk(base), q, DISK_MEM_WORK);
}

static void mem_drain(struct disk *base)
{
    requests_forget(from_disk(base));
}

void disk_mem_complete(struct disk_mem *d, struct disk_request *q)
{
    struct disk_request **at = &d->first;
    while (*at != q) {
        assert(*at != NULL && ((*at)->run == NULL) != (q->run == NULL)); /* each kind in order */
        at = &(*at)->next;
    }
    *at = q->next;
    if (q->next == NULL) d->last = at;
    d->pending--;
    enum kv_err err = KV_CLOSED;
    if (q->run == NULL) {
        err = append_perform(&d->disk, q);
    } else if (!d->crashed) {
        q->run(q);
        err = KV_OK;
    }
    q->done(q, err);
}

bool disk_mem_step(struct disk_mem *d)
{
    if (d->first == NULL) return false;
    disk_mem_complete(d, d->first);
    return true;
}

uint32_t disk_mem_pending(const struct disk_mem *d)
{
    return d->pending;
}

bool disk_mem_flip(struct disk_mem *d, const char *name, uint64_t offset, uint8_t mask)
{
    struct mem_file *f = mem_names_get(&d->medium.now, name);
    if (f == NULL || offset >= f->size) return false;
    mem_file_flip(f, offset, mask);
    return true;
}

uint64_t disk_mem_digest(const struct disk_mem *d)
{
    return medium_digest(&d->medium);
}

void disk_mem_faults_set(struct disk_mem *d, const struct disk_mem_faults *f)
{
    d->faults = *f;
    d->fault_base = d->operations;
    d->writes = d->syncs = d->appends = 0;
}

void disk_mem_settle(struct disk_mem *d)
{
    if (d->crashed) return;
    medium_settle(&d->medium, d->medium.journal_count);
    for (size_t i = 0; i < d->medium.now.count; i++) mem_file_settle(d->medium.now.names[i].file);
}

uint64_t disk_mem_bytes(const struct disk_mem *d)
{
    return bytes_used(d);
}

uint64_t disk_mem_since_misdirected(const struct disk_mem *d)
{
    return d->since_misdirected;
}

void disk_mem_capacity_set(struct disk_mem *d, uint64_t bytes)
{
    d->options.capacity = bytes;
}

void disk_mem_sync_ns_set(struct disk_mem *d, uint64_t ns)
{
    d->options.sync_ns = ns;
}

uint64_t disk_mem_operations(const struct disk_mem *d)
{
    return d->operations;
}

static const struct disk_ops ops = {
    .open = mem_open,
    .close = mem_close,
    .size = mem_size,
    .read = mem_read,
    .write = mem_write,
    .sync = mem_sync,
    .truncate = mem_truncate,
    .rename = mem_rename,
    .remove = mem_remove,
    .sync_dir = mem_sync_dir,
    .list = mem_list,
    .space = mem_space,
    .claim = mem_claim,
    .append = mem_append,
    .append_now = mem_append_now,
    .work = mem_work,
    .drain = mem_drain,
};

struct disk_mem *disk_mem_create(const struct disk_mem_options *o)
{
    struct disk_mem *d = calloc(1, sizeof *d);
    if (d == NULL) return NULL;
    d->disk.ops = &ops;
    d->options = *o;
    d->random = o->seed;
    requests_forget(d);
    return d;
}

struct disk *disk_mem_disk(struct disk_mem *d)
{
    return &d->disk;
}

void disk_mem_destroy(struct disk_mem *d)
{
    requests_forget(d);
    medium_free(&d->medium);
    for (size_t i = 0; i < d->handle_count; i++) mem_file_unref(d->handles[i]);
    free(d->handles);
    free(d);
}

#include "storage/disk.h"

enum kv_err disk_replace(struct disk *d, const char *name, const char *temporary, struct kv_slice bytes)
{
    struct disk_file f;
    enum kv_err err = d->ops->open(d, temporary, true, &f);
    if (err != KV_OK) return err;
    err = d->ops->truncate(d, f, 0);
    if (err == KV_OK) err = d->ops->write(d, f, 0, bytes);
    if (err == KV_OK) err = d->ops->sync(d, f);
    enum kv_err closed = d->ops->close(d, f);
    if (err == KV_OK) err = closed;
    if (err == KV_OK) err = d->ops->rename(d, temporary, name);
    if (err == KV_OK) err = d->ops->sync_dir(d);
    return err;
}

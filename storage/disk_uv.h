#ifndef STORAGE_DISK_UV_H
#define STORAGE_DISK_UV_H
#include "storage/disk.h"

/* The disk on real files: a directory (created 0700 if missing, locked against a
 * second process with an OFD lock on `LOCK`), a log thread and a checkpoint
 * thread (R5). Completions are queued; `wake` is called from those threads, and
 * the owner then calls disk_uv_poll() on its loop, which runs the done callbacks.
 * KV_BUSY: another process has it; otherwise errno says why it failed. */
struct disk_uv;
enum kv_err disk_uv_create(const char *directory, void (*wake)(void *context), void *context,
                           struct disk_uv **out);
struct disk *disk_uv_disk(struct disk_uv *d);
void disk_uv_poll(struct disk_uv *d);
void disk_uv_destroy(struct disk_uv *d); /* waits for what runs, drops what waits */
#endif

#ifndef JEPSEN_SHIM_H
#define JEPSEN_SHIM_H
#include <stdint.h>

/* What the preloaded disk (disk.c) and the run (undo.c, fault_disk.c) share: a control page and a
 * journal, in the node's shim directory. Both sides are built together and run on one machine, so
 * the bytes are the structs'.
 *
 * Each record is in the journal before its operation is carried out. After a crash, what has not
 * been synced since is undone from its pre-images. */
enum shim_kind {
    SHIM_WRITE,    /* ino, offset, size; pre-image of what was there, up to the old end of the file */
    SHIM_RESIZE,   /* ino, offset = new size; pre-image of what was cut off */
    SHIM_SYNC,     /* ino: records up to `until` are durable */
    SHIM_CREATE,   /* name */
    SHIM_RENAME,   /* name, other; stash: what `other` was before, 0 = nothing */
    SHIM_REMOVE,   /* name; stash */
    SHIM_SYNC_DIR, /* name of the directory: creations, renames and removals up to `until` are durable */
    SHIM_KINDS
};
enum { SHIM_MAGIC = 0x4B564A53, SHIM_NAME_BYTES = 256, SHIM_CONTROL_BYTES = 4096 };

struct shim_record { /* followed by name, other, pre-image */
    uint32_t magic;
    uint16_t name_bytes, other_bytes;
    uint32_t kind, image_bytes;
    uint64_t sequence, ino, offset, size, size_before, until, stash;
};

struct shim_control {
    _Atomic uint64_t sync_delay_us;          /* set by the run */
    _Atomic uint64_t sequence;               /* of the last record */
    _Atomic uint64_t writes, syncs, delayed; /* counted by the disk */
};
#endif

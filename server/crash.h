#ifndef SERVER_CRASH_H
#define SERVER_CRASH_H

/* A crash may have happened inside LMDB, on a damaged page (R21). From now on, if the process crashes, a byte
 * is written to `fd` too and synced, so that the next start reads everything before it trusts anything;
 * then the crash goes on as it would have. At most 16, one a worker. -1: to none any more. */
void crash_watch(int fd);
#endif

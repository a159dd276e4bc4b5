#ifndef JEPSEN_BALLAST_H
#define JEPSEN_BALLAST_H
#include "client/kv_client.h"

/* Writes that nobody judges, so that the disks have something to do: segments roll, memtables
 * are checkpointed, and a node that was away for seconds needs a snapshot. */
enum { BALLAST_VALUE_BYTES = 6000, BALLAST_KEYS = 400, BALLAST_EVERY_MS = 12 };
struct run;
struct ballast {
    struct run *run;
    struct kv_client *client;
    struct kv_call call;
    struct env_timer timer;
    uint64_t written;
    bool is_asking, is_closed, is_over;
    char key[24];
    uint8_t value[BALLAST_VALUE_BYTES];
    struct kv_slice args[3];
};
bool ballast_open(struct ballast *b, struct run *r);
void ballast_stop(struct ballast *b);
void ballast_close(struct ballast *b);
#endif

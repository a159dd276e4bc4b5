#ifndef KV_MAILBOX_H
#define KV_MAILBOX_H
#include "client/base/buf.h"

/* A bounded way from one thread to one other, in order, without locks: the only thing that two workers of a process
 * share. A message is a buffer whose memory goes over with it. The receiver is woken once for all that was sent since it
 * last began to look; `wake` runs on the sender's thread, so it does no more than env_ops.wake, or, in the simulator, note
 * an event. */
struct mailbox;
struct mailbox_options {
    uint32_t messages_max; /* a power of two: so many that nobody has taken yet */
    void (*wake)(void *context);
    void *context;
};
struct mailbox *mailbox_create(const struct mailbox_options *o); /* NULL: out of memory */
void mailbox_destroy(struct mailbox *m);                         /* frees what nobody took; both threads are through with it */

/* The sender's. False: it holds messages_max already, and the buffer is still the caller's; else that is empty now. */
bool mailbox_send(struct mailbox *m, struct kv_buf *message);
/* Bytes sent and not yet done with, as last heard of. */
size_t mailbox_bytes(const struct mailbox *m);

/* The receiver's: first mailbox_look(), else what comes meanwhile might wake nobody; then until there is none. */
void mailbox_look(struct mailbox *m);
bool mailbox_take(struct mailbox *m, struct kv_buf *message); /* `message` is the caller's to free */
void mailbox_done(struct mailbox *m, size_t bytes);           /* of a message that was taken: gives the sender room */
#endif

#include "client/env/mailbox.h"

#include <stdatomic.h>
#include <stdlib.h>

/* (1) Slots from `taken` to `sent` are the receiver's, all others the sender's: each side moves its own counter alone,
 *     behind what it did to the slot (release), and reads the other's before it touches one (acquire).
 * (2) `is_told` is set before the receiver is woken and cleared before it looks. So what was sent after it was cleared
 *     wakes again, and what was sent before is seen: no message waits without a wake on its way. Both are sequentially
 *     consistent, with `sent`: none of the four accesses may pass another. */
enum { LINE_BYTES = 64 };

struct mailbox {
    struct mailbox_options o;
    struct kv_buf *slots;
    /* On lines of the processor's cache of their own: each thread would wait for the other's writes. */
    _Alignas(LINE_BYTES) _Atomic uint64_t sent;
    _Alignas(LINE_BYTES) _Atomic uint64_t taken;
    _Alignas(LINE_BYTES) _Atomic bool is_told;
    _Alignas(LINE_BYTES) _Atomic size_t bytes;
};

struct mailbox *mailbox_create(const struct mailbox_options *o)
{
    assert(o->messages_max > 0 && (o->messages_max & (o->messages_max - 1)) == 0);
    struct mailbox *m = aligned_alloc(LINE_BYTES, sizeof *m);
    struct kv_buf *slots = calloc(o->messages_max, sizeof *slots);
    if (m == NULL || slots == NULL) {
        free(m);
        free(slots);
        return NULL;
    }
    m->o = *o;
    m->slots = slots;
    atomic_init(&m->sent, 0);
    atomic_init(&m->taken, 0);
    atomic_init(&m->is_told, false);
    atomic_init(&m->bytes, 0);
    return m;
}

void mailbox_destroy(struct mailbox *m)
{
    if (m == NULL) return;
    struct kv_buf message;
    while (mailbox_take(m, &message)) kv_buf_free(&message);
    free(m->slots);
    free(m);
}

bool mailbox_send(struct mailbox *m, struct kv_buf *message)
{
    uint64_t at = atomic_load_explicit(&m->sent, memory_order_relaxed);
    if (at - atomic_load_explicit(&m->taken, memory_order_acquire) == m->o.messages_max) return false;
    atomic_fetch_add_explicit(&m->bytes, message->size, memory_order_relaxed);
    m->slots[at & (m->o.messages_max - 1)] = *message;
    kv_buf_init(message, message->size_max);
    atomic_store(&m->sent, at + 1);
    if (!atomic_exchange(&m->is_told, true)) m->o.wake(m->o.context);
    return true;
}

size_t mailbox_bytes(const struct mailbox *m)
{
    return atomic_load_explicit(&m->bytes, memory_order_relaxed);
}

void mailbox_look(struct mailbox *m)
{
    atomic_store(&m->is_told, false);
}

bool mailbox_take(struct mailbox *m, struct kv_buf *message)
{
    uint64_t at = atomic_load_explicit(&m->taken, memory_order_relaxed);
    if (at == atomic_load(&m->sent)) return false;
    *message = m->slots[at & (m->o.messages_max - 1)];
    atomic_store_explicit(&m->taken, at + 1, memory_order_release);
    return true;
}

void mailbox_done(struct mailbox *m, size_t bytes)
{
    atomic_fetch_sub_explicit(&m->bytes, bytes, memory_order_relaxed);
}

#ifndef STORAGE_STORE_SWEEP_H
#define STORAGE_STORE_SWEEP_H
#include "storage/store_impl.h"

/* The dedup sweep: with every checkpoint a bounded number of idempotency records is
 * looked at, round robin by key, and those older than their group's retention are
 * deleted. Whether a record is too old is a matter of the group clock alone (R7, R14), so apply
 * already treats as absent what a sweep deletes, on every replica alike. That clock is the last
 * committed mark's: the mark of the checkpoint itself may come in a later transaction, and entries
 * applied again from the one before, or by who gets a snapshot of it, must find what they found.
 *
 * A record's value begins with the stamp of its entry, u64, little-endian. */
struct sweep {
    struct checkpoint_view *view; /* NULL: nothing to do */
    struct sweep_range {
        struct kv_key from, to;
        uint64_t before_ms; /* records with an earlier stamp go */
    } *ranges;              /* in order, disjoint */
    uint32_t range_count;
    uint32_t budget; /* records to look at; a key's are never split */
    struct kv_key at; /* in: where to begin; out: where the next goes on */
};
/* On the loop, at the cut; less or nothing is swept if memory is short. */
void sweep_prepare(struct sweep *w, struct store *s, uint64_t rows_added);
enum kv_err sweep_run(struct sweep *w, struct checkpoint *c); /* inside the transaction, before its rows */
void sweep_free(struct sweep *w, struct checkpoint *c);       /* on the loop; idempotent */
#endif

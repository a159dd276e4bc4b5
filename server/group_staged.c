#include "server/group_impl.h"

#include <assert.h>
#include <stdlib.h>

/* Entries between the core and the log: what the core was asked to take in one turn, or what one
 * message brought, side by side as the log wants them. */

bool staged_add(struct group_staged *s, uint64_t index, uint64_t term, uint8_t flags)
{
    if (s->bytes.failed) return false;
    if (s->count == s->capacity) {
        uint32_t capacity = s->capacity == 0 ? 64 : s->capacity * 2;
        struct log_entry *entries = realloc(s->entries, capacity * sizeof *entries);
        if (entries == NULL) return false;
        s->entries = entries;
        s->capacity = capacity;
    }
    if (s->count == 0) s->first = index;
    assert(index == s->first + s->count);
    s->entries[s->count++] =
        (struct log_entry){.term = term, .flags = flags, .bytes = {.size = s->bytes.size - s->used}};
    s->used = s->bytes.size;
    return true;
}

void staged_undo(struct group_staged *s)
{
    s->bytes.size = s->used;
    s->bytes.failed = false;
}

void staged_resolve(struct group_staged *s)
{
    const uint8_t *base = kv_buf_slice(&s->bytes).data;
    for (uint32_t i = 0; i < s->count; base += s->entries[i++].bytes.size) s->entries[i].bytes.data = base;
}

void staged_clear(struct group_staged *s)
{
    s->count = 0;
    s->used = 0;
    kv_buf_clear(&s->bytes);
}

void staged_free(struct group_staged *s)
{
    free(s->entries);
    kv_buf_free(&s->bytes);
}

#include "storage/disk_mem_medium.h"
#include "client/base/hash.h"
#include <assert.h>
#include <stdlib.h>

enum { SECTOR = 512 };

void *mem_must(void *memory)
{
    if (memory == NULL) abort();
    return memory;
}

static void mem_file_free_pages(struct mem_file *f, size_t from)
{
    for (size_t i = from; i < f->page_count; i++) {
        free(f->pages[i].now);
        free(f->pages[i].old);
    }
}

struct mem_file *mem_file_create(void)
{
    struct mem_file *f = mem_must(calloc(1, sizeof *f));
    f->references = 1;
    return f;
}

void mem_file_unref(struct mem_file *f)
{
    if (f == NULL || --f->references > 0) return;
    mem_file_free_pages(f, 0);
    free(f->pages);
    free(f->dirty);
    free(f);
}

struct mem_file *mem_file_ref(struct mem_file *f)
{
    f->references++;
    return f;
}

static struct mem_page *mem_file_page(struct mem_file *f, size_t number)
{
    if (number >= f->page_count) {
        size_t count = number + 1 > f->page_count * 2 ? number + 1 : f->page_count * 2;
        f->pages = mem_must(realloc(f->pages, count * sizeof *f->pages));
        memset(f->pages + f->page_count, 0, (count - f->page_count) * sizeof *f->pages);
        f->page_count = count;
    }
    return &f->pages[number];
}

/* Before the first change since the last sync: remembers what the medium holds. */
static struct mem_page *page_dirty(struct mem_file *f, size_t number)
{
    struct mem_page *p = mem_file_page(f, number);
    p->lost = false;
    if (p->dirty) return p;
    if (f->dirty_count == f->dirty_capacity) {
        f->dirty_capacity = f->dirty_capacity * 2 + 16;
        f->dirty = mem_must(realloc(f->dirty, f->dirty_capacity * sizeof *f->dirty));
    }
    f->dirty[f->dirty_count++] = (uint32_t)number;
    p->dirty = true;
    assert(p->old == NULL);
    if (p->now != NULL) p->old = memcpy(mem_must(malloc(MEM_PAGE)), p->now, MEM_PAGE);
    return p;
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

static void page_write(struct mem_file *f, size_t number, size_t at, const uint8_t *bytes, size_t size)
{
    struct mem_page *p = page_dirty(f, number);
    if (p->now == NULL) {
        if (is_zero(bytes, size)) return;
        p->now = mem_must(calloc(1, MEM_PAGE));
    }
    memcpy(p->now + at, bytes, size);
}

void mem_file_write(struct mem_file *f, uint64_t offset, struct kv_slice bytes)
{
    if (offset + bytes.size > f->size) f->size = offset + bytes.size;
    while (bytes.size > 0) {
        size_t at = (size_t)(offset % MEM_PAGE), size = MEM_PAGE - at < bytes.size ? MEM_PAGE - at : bytes.size;
        page_write(f, (size_t)(offset / MEM_PAGE), at, bytes.data, size);
        offset += size;
        bytes = kv_slice(bytes.data + size, bytes.size - size);
    }
}

void mem_file_read(const struct mem_file *f, uint64_t offset, uint8_t *into, size_t size)
{
    while (size > 0) {
        size_t at = (size_t)(offset % MEM_PAGE), n = MEM_PAGE - at < size ? MEM_PAGE - at : size;
        size_t number = (size_t)(offset / MEM_PAGE);
        const uint8_t *page = number < f->page_count ? f->pages[number].now : NULL;
        if (page != NULL)
            memcpy(into, page + at, n);
        else
            memset(into, 0, n);
        into += n;
        offset += n;
        size -= n;
    }
}

static void page_settle(struct mem_page *p) /* memory is the truth now */
{
    free(p->old);
    p->old = NULL;
    p->dirty = p->lost = false;
}

void mem_file_settle(struct mem_file *f)
{
    size_t kept = 0;
    for (size_t i = 0; i < f->dirty_count; i++) {
        if (f->pages[f->dirty[i]].lost)
            f->dirty[kept++] = f->dirty[i];
        else
            page_settle(&f->pages[f->dirty[i]]);
    }
    f->dirty_count = kept;
    f->size_durable = f->size;
}

/* What is cut off reads as zeros if the file grows again. */
void mem_file_resize(struct mem_file *f, uint64_t size)
{
    static const uint8_t zeros[MEM_PAGE];
    for (size_t i = (size_t)(size / MEM_PAGE); i < f->page_count && size < f->size; i++) {
        size_t from = i == (size_t)(size / MEM_PAGE) ? (size_t)(size % MEM_PAGE) : 0;
        if (f->pages[i].now != NULL) page_write(f, i, from, zeros, MEM_PAGE - from);
    }
    f->size = size;
}

/* Power loss: each unsynced page for itself; the size as it was or as it was to be. */
void mem_file_lose(uint64_t *random, struct mem_file *f)
{
    for (size_t i = 0; i < f->dirty_count; i++) {
        struct mem_page *p = &f->pages[f->dirty[i]];
        uint64_t fate = kv_random_next(random) % 3;
        if (fate == 0) { /* never reached the medium */
            free(p->now);
            p->now = p->old;
            p->old = NULL;
        } else if (fate == 1 && p->now != NULL) { /* torn */
            for (size_t s = 0; s < MEM_PAGE; s += SECTOR)
                if (kv_random_next(random) % 2 == 0) {
                    if (p->old != NULL)
                        memcpy(p->now + s, p->old + s, SECTOR);
                    else
                        memset(p->now + s, 0, SECTOR);
                }
        }
        page_settle(p);
    }
    f->dirty_count = 0;
    if (kv_random_next(random) % 2 == 0) mem_file_resize(f, f->size_durable);
    for (size_t i = 0; i < f->dirty_count; i++) page_settle(&f->pages[f->dirty[i]]);
    f->dirty_count = 0;
    f->size_durable = f->size;
}

/* As Linux after a failed fdatasync: every page counts as clean from now on, though only
 * some reached the medium; memory shows what a power loss will take away. */
void mem_file_lose_quietly(uint64_t *random, struct mem_file *f)
{
    for (size_t i = 0; i < f->dirty_count; i++) f->pages[f->dirty[i]].lost = kv_random_next(random) % 2 == 0;
    mem_file_settle(f);
}

void mem_file_flip(struct mem_file *f, uint64_t offset, uint8_t mask)
{
    struct mem_page *p = mem_file_page(f, (size_t)(offset / MEM_PAGE));
    if (p->now == NULL) p->now = mem_must(calloc(1, MEM_PAGE));
    p->now[offset % MEM_PAGE] ^= mask;
    if (p->dirty) {
        if (p->old == NULL) p->old = mem_must(calloc(1, MEM_PAGE));
        p->old[offset % MEM_PAGE] ^= mask;
    }
}

static size_t mem_names_at(const struct mem_names *n, const char *name, bool *found)
{
    size_t low = 0, high = n->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(n->names[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *found = low < n->count && strcmp(n->names[low].name, name) == 0;
    return low;
}

void mem_names_set(struct mem_names *n, const char *name, struct mem_file *file)
{
    bool found;
    size_t at = mem_names_at(n, name, &found);
    if (file != NULL) mem_file_ref(file);
    if (found) {
        mem_file_unref(n->names[at].file);
        if (file != NULL) {
            n->names[at].file = file;
            return;
        }
        memmove(n->names + at, n->names + at + 1, (n->count - at - 1) * sizeof *n->names);
        n->count--;
        return;
    }
    if (file == NULL) return;
    if (n->count == n->capacity) {
        n->capacity = n->capacity * 2 + 8;
        n->names = mem_must(realloc(n->names, n->capacity * sizeof *n->names));
    }
    memmove(n->names + at + 1, n->names + at, (n->count - at) * sizeof *n->names);
    n->count++;
    strcpy(n->names[at].name, name);
    n->names[at].file = file;
}

void mem_names_clear(struct mem_names *n)
{
    for (size_t i = 0; i < n->count; i++) mem_file_unref(n->names[i].file);
    n->count = 0;
}

struct mem_file *mem_names_get(const struct mem_names *n, const char *name)
{
    bool found;
    size_t at = mem_names_at(n, name, &found);
    return found ? n->names[at].file : NULL;
}

static void change_apply(struct mem_names *n, const struct mem_change *c)
{
    if (c->from[0] != '\0') mem_names_set(n, c->from, NULL);
    mem_names_set(n, c->name, c->file);
}

void medium_change(struct medium *m, const char *name, const char *from, struct mem_file *file)
{
    assert(strlen(name) < MEM_NAME_BYTES && strlen(from) < MEM_NAME_BYTES && strchr(name, '/') == NULL);
    if (m->journal_count == m->journal_capacity) {
        m->journal_capacity = m->journal_capacity * 2 + 8;
        m->journal = mem_must(realloc(m->journal, m->journal_capacity * sizeof *m->journal));
    }
    struct mem_change *c = &m->journal[m->journal_count++];
    strcpy(c->name, name);
    strcpy(c->from, from);
    c->file = file == NULL ? NULL : mem_file_ref(file);
    change_apply(&m->now, c);
}

/* The first `count` changes reach the medium; the rest is forgotten. */
void medium_settle(struct medium *m, size_t count)
{
    for (size_t i = 0; i < m->journal_count; i++) {
        if (i < count) change_apply(&m->durable, &m->journal[i]);
        mem_file_unref(m->journal[i].file);
    }
    m->journal_count = 0;
}

static uint64_t names_digest(const struct mem_names *n, bool durable, uint64_t hash)
{
    for (size_t i = 0; i < n->count; i++) {
        const struct mem_file *f = n->names[i].file;
        hash = kv_hash64(kv_str(n->names[i].name), hash);
        hash = kv_hash64(kv_slice(&f->size, sizeof f->size), hash);
        for (size_t k = 0; k < f->page_count; k++) {
            const struct mem_page *p = &f->pages[k];
            const uint8_t *bytes = durable && p->dirty ? p->old : p->now;
            if (bytes != NULL && !is_zero(bytes, MEM_PAGE)) hash = kv_hash64(kv_slice(bytes, MEM_PAGE), hash + k);
        }
    }
    return hash;
}

uint64_t medium_digest(const struct medium *m)
{
    return names_digest(&m->durable, true, names_digest(&m->now, false, 1));
}

void medium_free(struct medium *m)
{
    medium_settle(m, 0);
    mem_names_clear(&m->now);
    mem_names_clear(&m->durable);
    free(m->now.names);
    free(m->durable.names);
    free(m->journal);
}

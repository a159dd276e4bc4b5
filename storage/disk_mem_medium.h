#ifndef STORAGE_DISK_MEM_MEDIUM_H
#define STORAGE_DISK_MEM_MEDIUM_H
#include "client/base/slice.h"

/* Private to disk_mem: files in memory that know what a power loss would leave.
 * (1) A page whose `dirty` is false is the same in memory and on the medium.
 * (2) `old` of a dirty page is what the medium holds; NULL stands for zeros.
 * (3) `durable` names are what the directory on the medium holds; `journal` are the
 *     changes since, in order; replaying a prefix of them gives a legal directory.
 * Tests run with plenty of memory: a model that fails to allocate is of no use and aborts. */
enum { MEM_PAGE = 4096, MEM_NAME_BYTES = 64 };

struct mem_page {
    uint8_t *now, *old; /* NULL: zeros */
    bool dirty;
    bool lost; /* dirty, but the kernel forgot it: no sync writes it, only a new write does */
};

struct mem_file {
    uint32_t references; /* names in either directory, journal entries and handles */
    struct mem_page *pages;
    size_t page_count;
    uint32_t *dirty; /* numbers of dirty pages */
    size_t dirty_count, dirty_capacity;
    uint64_t size, size_durable;
};

struct mem_name {
    char name[MEM_NAME_BYTES];
    struct mem_file *file;
};
struct mem_names { /* sorted */
    struct mem_name *names;
    size_t count, capacity;
};

struct mem_change { /* file != NULL: name now means file; NULL: the name is gone */
    char name[MEM_NAME_BYTES], from[MEM_NAME_BYTES]; /* from: the name a rename took away, or "" */
    struct mem_file *file;
};

struct medium { /* zeroed: empty */
    struct mem_names now, durable;
    struct mem_change *journal;
    size_t journal_count, journal_capacity;
};

void *mem_must(void *memory); /* aborts on NULL */

struct mem_file *mem_file_create(void); /* with one reference */
struct mem_file *mem_file_ref(struct mem_file *f);
void mem_file_unref(struct mem_file *f); /* NULL: nothing */
void mem_file_write(struct mem_file *f, uint64_t offset, struct kv_slice bytes);
void mem_file_read(const struct mem_file *f, uint64_t offset, uint8_t *into, size_t size);
void mem_file_resize(struct mem_file *f, uint64_t size);
void mem_file_settle(struct mem_file *f); /* a sync: all of it reaches the medium */
void mem_file_flip(struct mem_file *f, uint64_t offset, uint8_t mask); /* in memory and on the medium */
/* Power loss: each unsynced page for itself; the size as it was or as it was to be. */
void mem_file_lose(uint64_t *random, struct mem_file *f);
/* As Linux after a failed fdatasync: every page counts as clean, though only some reached the medium. */
void mem_file_lose_quietly(uint64_t *random, struct mem_file *f);

struct mem_file *mem_names_get(const struct mem_names *n, const char *name); /* borrowed; NULL: none */
void mem_names_set(struct mem_names *n, const char *name, struct mem_file *file); /* NULL: removes */
void mem_names_clear(struct mem_names *n);

/* `name` now means `file` (NULL: nothing), and what `from` named is gone ("": nothing). */
void medium_change(struct medium *m, const char *name, const char *from, struct mem_file *file);
/* The first `count` changes of the journal reach the medium; the rest is forgotten. */
void medium_settle(struct medium *m, size_t count);
uint64_t medium_digest(const struct medium *m);
void medium_free(struct medium *m);
#endif

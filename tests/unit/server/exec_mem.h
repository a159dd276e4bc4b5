#ifndef TESTS_EXEC_MEM_H
#define TESTS_EXEC_MEM_H
#include "client/base/hash.h"
#include "client/base/map.h"
#include "client/wire/resp.h"
#include "server/exec.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* A partition in memory: rows in a map, a clock and a log index that tests move. */
struct mem_row {
    uint8_t *key, *value;
    size_t key_size, value_size;
};
struct mem {
    struct exec_state state;
    struct exec exec;
    struct kv_map rows;
    struct kv_buf reply, new_rows;
    uint64_t index;
    enum kv_err fails; /* what the state answers instead of a row */
};

static inline struct mem_row *mem_find(const struct mem *m, struct kv_slice key)
{
    struct mem_row *row = kv_map_get(&m->rows, kv_hash64(key, 0) | 1);
    assert(row == NULL || kv_slice_eq(kv_slice(row->key, row->key_size), key));
    return row;
}

static inline enum kv_err mem_get(struct exec_state *s, struct kv_slice key, struct kv_slice *row)
{
    const struct mem *m = container_of(s, struct mem, state);
    if (m->fails != KV_OK) return m->fails;
    const struct mem_row *found = mem_find(m, key);
    if (found == NULL) return KV_NOT_FOUND;
    *row = kv_slice(found->value, found->value_size);
    return KV_OK;
}

static inline void mem_init(struct mem *m)
{
    *m = (struct mem){.state.get = mem_get};
    kv_map_init(&m->rows);
    kv_buf_init(&m->reply, 0);
    kv_buf_init(&m->new_rows, 0);
    m->exec.state = &m->state;
    m->exec.rule = &kv_key_rule_default;
    m->exec.clock_ms = 1000000;
    m->exec.value_bytes_max = 1 << 20;
    m->exec.reply = &m->reply;
    m->exec.rows = &m->new_rows;
}

static inline void mem_drop(struct mem *m, struct kv_slice key)
{
    struct mem_row *row = kv_map_remove(&m->rows, kv_hash64(key, 0) | 1);
    if (row == NULL) return;
    free(row->key);
    free(row->value);
    free(row);
}

static inline void mem_clear(struct mem *m)
{
    uint32_t cursor = 0;
    uint64_t hash;
    void *value;
    while (kv_map_next(&m->rows, &cursor, &hash, &value)) {
        struct mem_row *row = value;
        free(row->key);
        free(row->value);
        free(row);
    }
    kv_map_free(&m->rows);
    kv_map_init(&m->rows);
}

static inline void mem_free(struct mem *m)
{
    mem_clear(m);
    kv_map_free(&m->rows);
    kv_buf_free(&m->reply);
    kv_buf_free(&m->new_rows);
    exec_free(&m->exec);
}

static inline uint8_t *mem_copy(struct kv_slice s)
{
    uint8_t *copy = malloc(s.size + 1);
    assert(copy != NULL);
    if (s.size > 0) memcpy(copy, s.data, s.size);
    return copy;
}

static inline void mem_apply(struct mem *m)
{
    for (uint32_t i = 0; i < m->exec.op_count; i++) {
        const struct store_op *op = &m->exec.ops[i];
        mem_drop(m, op->row.key);
        if (op->kind != STORE_PUT) continue;
        struct mem_row *row = malloc(sizeof *row);
        assert(row != NULL);
        *row = (struct mem_row){mem_copy(op->row.key), mem_copy(op->row.value), op->row.key.size,
                                op->row.value.size};
        bool is_put = kv_map_put(&m->rows, kv_hash64(op->row.key, 0) | 1, row);
        assert(is_put);
    }
}

/* Runs one command as a leader would: checked, then executed and applied. The reply is in
 * m->reply; the return value is what exec_check() or exec_run() said. */
static inline enum kv_err mem_run(struct mem *m, enum kv_op op, const struct kv_slice *args,
                                  uint32_t n)
{
    kv_buf_clear(&m->reply);
    kv_buf_clear(&m->new_rows);
    m->exec.err = KV_OK;
    enum kv_err err = exec_check(op, args, n, m->exec.value_bytes_max, &m->reply);
    if (err != KV_OK) return err;
    assert(m->reply.size == 0);
    m->exec.version = (struct kv_version){1, ++m->index};
    err = exec_run(&m->exec, op, args, n);
    if (err == KV_OK) mem_apply(m);
    return err;
}

/* "SET k v": words between single spaces; "" is written as ''. Returns the reply as text. */
static inline const char *mem_line(struct mem *m, const char *line)
{
    struct kv_slice words[64];
    uint32_t count = 0;
    for (const char *at = line; *at != '\0';) {
        size_t size = strcspn(at, " ");
        assert(count < 64);
        words[count++] =
            size == 2 && memcmp(at, "''", 2) == 0 ? kv_slice(at, 0) : kv_slice(at, size);
        at += size;
        if (*at == ' ') at++;
    }
    enum kv_op op = kv_op_find(words[0]);
    assert(op != KV_OP_NONE);
    mem_run(m, op, words + 1, count - 1);
    kv_buf_append_u8(&m->reply, '\0');
    return (const char *)kv_buf_slice(&m->reply).data;
}
#endif

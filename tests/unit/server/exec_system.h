#ifndef TESTS_SERVER_EXEC_SYSTEM_H
#define TESTS_SERVER_EXEC_SYSTEM_H
#include "tests/unit/server/exec_mem.h"
#include "tests/unit/unit.h"

/* Partition 0 in memory, one of it in each test program: what a story of commands leaves there. */
static struct mem m;
static struct exec_place place;
static struct kv_arena arena;

static inline void system_setup(const struct exec_place *at)
{
    mem_init(&m);
    place = *at;
    m.exec.rule = &kv_key_rule_system;
    m.exec.place = &place;
    arena = (struct kv_arena){0};
}
static inline void system_teardown(void)
{
    mem_free(&m);
    kv_arena_free(&arena);
}
/* As a leader would: checked, executed, applied. Returns the error code, KV_OK for done. */
static inline enum kv_err system_run(enum kv_op op, const struct kv_slice *args, uint32_t n)
{
    enum kv_err err = mem_run(&m, op, args, n);
    kv_buf_append_u8(&m.reply, 0);
    return err != KV_OK ? err : m.exec.err;
}
static inline const char *reply(void)
{
    return (const char *)kv_buf_slice(&m.reply).data;
}
static inline void refused(enum kv_err got, enum kv_err want, const char *text)
{
    ck_assert_msg(got == want, "%s instead of %s: %s", kv_err_name(got), kv_err_name(want), reply());
    ck_assert_msg(reply()[0] == '-' && strstr(reply(), text) != NULL, "'%s' is not in: %s", text, reply());
    ck_assert_uint_eq(m.exec.born_count, 0); /* nothing came of it */
}
#endif

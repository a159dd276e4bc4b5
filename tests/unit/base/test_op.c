#include "client/base/op.h"

#include "client/base/hash.h"
#include "client/base/op_table.h"
#include "tests/unit/unit.h"

#include <ctype.h>
#include <stdio.h>

struct row {
    const char *name;
    enum kv_op op;
};
static const struct row rows[] = {
#define X(name, code, kind, amin, amax, first, last, step) {#name, KV_OP_##name},
    KV_OPS(X)
#undef X
};
enum { ROWS = sizeof rows / sizeof rows[0] };

/* Prints what op.c and op_table.h need when a name was added. */
static void print_new_table(void)
{
    uint64_t seed = 1;
    for (;;) {
        uint64_t multiplier = kv_random_next(&seed) | 1;
        const char *slots[OP_SLOTS] = {0};
        size_t placed = 0;
        for (; placed < ROWS; placed++) {
            uint8_t padded[OP_NAME_BYTES_MAX] = {0};
            memcpy(padded, rows[placed].name, strlen(rows[placed].name));
            const char **slot = &slots[op_name_slot(padded, multiplier)];
            if (*slot != NULL) break;
            *slot = rows[placed].name;
        }
        if (placed < ROWS) continue;
        printf("OP_MULTIPLIER UINT64_C(0x%016llX)\n", (unsigned long long)multiplier);
        for (int i = 0; i < OP_SLOTS; i++) {
            if (slots[i] != NULL) printf("[%d] = KV_OP_%s, ", i, slots[i]);
        }
        printf("\n");
        return;
    }
}

START_TEST(every_name_is_found_in_any_case)
{
    bool complete = true;
    for (size_t i = 0; i < ROWS; i++) {
        complete = complete && kv_op_find(kv_str(rows[i].name)) == rows[i].op;
    }
    if (!complete) print_new_table();
    ck_assert_msg(complete, "put the table printed above into op.c and op_table.h");
    for (size_t i = 0; i < ROWS; i++) {
        char name[OP_NAME_BYTES_MAX + 2] = {0};
        size_t size = strlen(rows[i].name);
        for (size_t k = 0; k < size; k++) {
            int c = rows[i].name[k];
            name[k] = (char)(k % 2 == 0 ? tolower(c) : c);
        }
        ck_assert_int_eq(kv_op_find(kv_str(name)), rows[i].op);
        ck_assert_int_eq(kv_op_find(kv_slice(name, size + 1)), KV_OP_NONE); /* NUL behind */
        name[size] = 'x';
        ck_assert_int_eq(kv_op_find(kv_slice(name, size + 1)), KV_OP_NONE);
        name[size - 1] = (char)(name[size - 1] ^ 0x80);
        ck_assert_int_eq(kv_op_find(kv_slice(name, size)), KV_OP_NONE);
    }
}
END_TEST

START_TEST(other_names_are_unknown)
{
    const char *names[] = {"", "G", "GE", "GETT", "NOPE", "SET ", "get\n", "BITFIELD\x7FRO",
                           "AVERYLONGCOMMANDNAMETHATNOBODYHAS"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        ck_assert_int_eq(kv_op_find(kv_str(names[i])), KV_OP_NONE);
    }
    ck_assert_int_eq(kv_op_find(kv_slice(NULL, 0)), KV_OP_NONE);
    ck_assert_int_eq(kv_op_find(kv_slice("\0\0\0", 3)), KV_OP_NONE);
    uint64_t seed = 5;
    for (int i = 0; i < 100000; i++) {
        uint64_t noise[3] = {kv_random_next(&seed), kv_random_next(&seed), kv_random_next(&seed)};
        struct kv_slice s = kv_slice(noise, noise[2] % 18);
        enum kv_op op = kv_op_find(s);
        if (op == KV_OP_NONE) continue;
        ck_assert_uint_eq(strlen(kv_op_info(op)->name), s.size);
    }
}
END_TEST

START_TEST(info_follows_the_code)
{
    for (size_t i = 0; i < ROWS; i++) {
        const struct kv_op_info *info = kv_op_info(rows[i].op);
        ck_assert_ptr_nonnull(info);
        ck_assert_str_eq(info->name, rows[i].name);
        ck_assert_int_ne(info->kind, KV_OP_KIND_NONE);
        ck_assert(info->arity_max == -1 || info->arity_max >= info->arity_min);
    }
    ck_assert_int_eq(kv_op_info(KV_OP_GET)->kind, KV_OP_KIND_R);
    ck_assert_int_eq(kv_op_info(KV_OP_SET)->kind, KV_OP_KIND_W);
    ck_assert_int_eq(kv_op_info(KV_OP_KVMAP)->kind, KV_OP_KIND_A);
    ck_assert_ptr_null(kv_op_info(0));
    ck_assert_ptr_null(kv_op_info(63));
    ck_assert_ptr_null(kv_op_info(KV_OP_CODE_MAX + 1));
    ck_assert_ptr_null(kv_op_info(UINT32_MAX));
}
END_TEST

static void keys_are(enum kv_op op, uint32_t args, uint32_t count, uint32_t first, uint32_t step)
{
    uint32_t f, s;
    ck_assert_uint_eq(kv_op_keys(kv_op_info(op), args, &f, &s), count);
    if (count == 0) return;
    ck_assert_uint_eq(f, first);
    if (count > 1) ck_assert_uint_eq(s, step);
    ck_assert_uint_lt(f + (count - 1) * s, args);
}

START_TEST(keys_are_found_among_the_arguments)
{
    keys_are(KV_OP_GET, 1, 1, 0, 1);
    keys_are(KV_OP_SET, 5, 1, 0, 1);
    keys_are(KV_OP_MGET, 4, 4, 0, 1);
    keys_are(KV_OP_MSET, 6, 3, 0, 2);
    keys_are(KV_OP_MSET, 5, 3, 0, 2); /* refused elsewhere; never beyond the arguments */
    keys_are(KV_OP_RENAME, 2, 2, 0, 1);
    keys_are(KV_OP_COPY, 4, 2, 0, 1);
    keys_are(KV_OP_BITOP, 4, 3, 1, 1); /* operation, destination, sources */
    keys_are(KV_OP_OBJECT, 2, 1, 1, 1);
    keys_are(KV_OP_OBJECT, 1, 0, 0, 0); /* OBJECT HELP */
    keys_are(KV_OP_DBSIZE, 0, 0, 0, 0);
    keys_are(KV_OP_GET, 0, 0, 0, 0);
    keys_are(KV_OP_MSET, 0, 0, 0, 0);
    for (size_t i = 0; i < ROWS; i++) {
        for (uint32_t args = 0; args < 20; args++) {
            uint32_t f, s, n = kv_op_keys(kv_op_info(rows[i].op), args, &f, &s);
            if (n > 0) ck_assert_uint_lt(f + (n - 1) * s, args);
            ck_assert_uint_ge(s, 1);
        }
    }
}
END_TEST

UNIT_MAIN("op", every_name_is_found_in_any_case, other_names_are_unknown, info_follows_the_code,
          keys_are_found_among_the_arguments)

#include "server/exec_impl.h"
#include <assert.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Counters. The text of a sum is part of the state, so every replica must make the same
 * one: integers are 64-bit, floats the x87 80-bit format everywhere (R7). */
static_assert(LDBL_MANT_DIG == 64, "INCRBYFLOAT must give the same digits on every replica");

static void add(struct exec *x, struct kv_slice key, int64_t delta)
{
    struct exec_entry e;
    int64_t value = 0;
    if (!exec_load(x, key, &e)) return;
    if (e.live && !exec_integer(x, e.value.payload, &value)) return;
    if (__builtin_add_overflow(value, delta, &value)) {
        exec_refuse(x, KV_BAD_ARGUMENT, "ERR increment or decrement would overflow");
        return;
    }
    char text[21];
    if (exec_put(x, &e.key, kv_slice(text, kv_format_i64(value, text)), 0, exec_expire_of(&e)))
        resp_put_integer(x->reply, value);
}

void exec_incr(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    add(x, a[0], 1);
}

void exec_decr(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    add(x, a[0], -1);
}

void exec_incrby(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    int64_t delta;
    if (exec_integer(x, a[1], &delta)) add(x, a[0], delta);
}

void exec_decrby(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    int64_t delta;
    if (!exec_integer(x, a[1], &delta)) return;
    if (delta == INT64_MIN)
        exec_refuse(x, KV_BAD_ARGUMENT, "ERR decrement would overflow");
    else
        add(x, a[0], -delta);
}

enum { FLOAT_TEXT_BYTES = 5 * 1024 }; /* LDBL_MAX has 4933 digits before the point, 17 follow */

/* The whole text must be one number; "inf" is one, "nan" is not. */
static bool float_parse(struct kv_slice text, long double *out)
{
    char buffer[FLOAT_TEXT_BYTES], *end;
    if (text.size == 0 || text.size >= sizeof buffer) return false;
    memcpy(buffer, text.data, text.size);
    buffer[text.size] = '\0';
    if (strchr(" \t\n\v\f\r", buffer[0]) != NULL) return false;
    errno = 0;
    long double value = strtold(buffer, &end);
    if ((size_t)(end - buffer) != text.size || isnan(value)) return false;
    if (errno == ERANGE && (isinf(value) || value == 0)) return false;
    *out = value;
    return true;
}

/* 17 digits behind the point without trailing zeros, never "-0". */
static size_t float_format(long double value, char out[FLOAT_TEXT_BYTES])
{
    int printed = snprintf(out, FLOAT_TEXT_BYTES, "%.17Lf", value);
    assert(printed > 0 && printed < FLOAT_TEXT_BYTES);
    size_t size = (size_t)printed;
    while (out[size - 1] == '0')
        size--;
    if (out[size - 1] == '.') size--;
    if (size == 2 && out[0] == '-' && out[1] == '0') {
        out[0] = '0';
        size = 1;
    }
    return size;
}

void exec_incrbyfloat(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    long double delta, value = 0;
    struct exec_entry e;
    bool is_number = float_parse(a[1], &delta);
    if (is_number && !exec_load(x, a[0], &e)) return;
    if (!is_number || (e.live && !float_parse(e.value.payload, &value))) {
        exec_refuse(x, KV_BAD_ARGUMENT, "ERR value is not a valid float");
        return;
    }
    value += delta;
    if (!isfinite(value)) {
        exec_refuse(x, KV_BAD_ARGUMENT, "ERR increment would produce NaN or Infinity");
        return;
    }
    char text[FLOAT_TEXT_BYTES];
    struct kv_slice sum = kv_slice(text, float_format(value, text));
    if (exec_put(x, &e.key, sum, EXEC_FLAG_TEXT, exec_expire_of(&e))) resp_put_bulk(x->reply, sum);
}

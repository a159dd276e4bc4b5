#include "server/exec_bits.h"
#include <assert.h>

/* BITFIELD: integers of 1 to 64 bits at any bit offset. A command is parsed whole before
 * anything is read, so that a bad word changes nothing. */

__extension__ typedef __int128 wide; /* holds every sum of two 64-bit numbers */

enum field_op { FIELD_GET, FIELD_SET, FIELD_INCRBY };
enum field_overflow { FIELD_WRAP, FIELD_SAT, FIELD_FAIL };
struct field {
    enum field_op op;
    enum field_overflow overflow;
    bool is_signed;
    unsigned bits;
    uint64_t offset; /* in bits */
    int64_t number;  /* of SET and INCRBY */
};

static bool type_parse(struct exec *x, struct kv_slice text, struct field *f)
{
    int64_t bits;
    if (text.size >= 2 && (text.data[0] == 'i' || text.data[0] == 'u') &&
        kv_parse_i64(kv_slice(text.data + 1, text.size - 1), &bits) && bits >= 1 &&
        bits <= (text.data[0] == 'i' ? 64 : 63)) {
        f->is_signed = text.data[0] == 'i';
        f->bits = (unsigned)bits;
        return true;
    }
    return exec_refuse(x, KV_BAD_ARGUMENT,
                       "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not "
                       "supported but i64 is.");
}

static bool overflow_parse(struct exec *x, struct kv_slice word, enum field_overflow *out)
{
    if (exec_word(word, "WRAP"))
        *out = FIELD_WRAP;
    else if (exec_word(word, "SAT"))
        *out = FIELD_SAT;
    else if (exec_word(word, "FAIL"))
        *out = FIELD_FAIL;
    else
        return exec_refuse(x, KV_BAD_ARGUMENT, "ERR Invalid OVERFLOW type specified");
    return true;
}

/* One operation, or an OVERFLOW for those behind it; *used: arguments taken. */
static bool field_parse(struct exec *x, const struct kv_slice *a, uint32_t n, struct field *f,
                        uint32_t *used)
{
    if (exec_word(a[0], "OVERFLOW") && n >= 2) {
        *used = 2;
        return overflow_parse(x, a[1], &f->overflow);
    }
    if (exec_word(a[0], "GET") && n >= 3)
        f->op = FIELD_GET;
    else if (exec_word(a[0], "SET") && n >= 4)
        f->op = FIELD_SET;
    else if (exec_word(a[0], "INCRBY") && n >= 4)
        f->op = FIELD_INCRBY;
    else
        return exec_refuse_syntax(x);
    *used = f->op == FIELD_GET ? 3 : 4;
    return type_parse(x, a[1], f) && exec_bit_offset(x, a[2], f->bits, &f->offset) &&
           (f->op == FIELD_GET || exec_integer(x, a[3], &f->number));
}

static uint64_t bits_read(const uint8_t *bytes, size_t size, uint64_t offset, unsigned bits)
{
    uint64_t value = 0;
    for (uint64_t i = offset; i < offset + bits; i++) {
        bool is_set = i >> 3 < size && (bytes[i >> 3] & (0x80u >> (i & 7))) != 0;
        value = value << 1 | is_set;
    }
    return value;
}

static void bits_write(uint8_t *bytes, uint64_t offset, unsigned bits, uint64_t value)
{
    assert(bytes != NULL); /* a field that writes made room */
    for (unsigned i = 0; i < bits; i++) {
        uint8_t mask = (uint8_t)(0x80u >> ((offset + i) & 7));
        uint8_t *byte = &bytes[(offset + i) >> 3];
        *byte = (uint8_t)(value >> (bits - 1 - i) & 1 ? *byte | mask : *byte & ~mask);
    }
}

static int64_t sign_extend(uint64_t raw, unsigned bits)
{
    return (int64_t)(raw << (64 - bits)) >> (64 - bits);
}

/* base + delta within the field; false: it does not fit, and *out wrapped or saturated. Both
 * are exact in 128 bits. */
static bool field_add(const struct field *f, wide base, int64_t delta, uint64_t *out)
{
    wide sum = base + delta;
    wide one = 1;
    wide max = (one << (f->is_signed ? f->bits - 1 : f->bits)) - 1;
    wide min = f->is_signed ? -max - 1 : 0;
    *out = (uint64_t)sum;
    if (sum >= min && sum <= max) return true;
    if (f->overflow == FIELD_SAT) *out = (uint64_t)(sum > max ? max : min);
    return false;
}

/* SET of an unsigned field reads its number as unsigned, so -1 is too large, not too small. */
static wide field_set_base(const struct field *f)
{
    return f->is_signed ? (wide)f->number : (wide)(uint64_t)f->number;
}

static void field_run(struct exec *x, const struct field *f, uint8_t *bytes, size_t size)
{
    uint64_t raw = bits_read(bytes, size, f->offset, f->bits);
    int64_t old = f->is_signed ? sign_extend(raw, f->bits) : (int64_t)raw;
    if (f->op == FIELD_GET) {
        resp_put_integer(x->reply, old);
        return;
    }
    uint64_t updated;
    bool fits = f->op == FIELD_SET ? field_add(f, field_set_base(f), 0, &updated)
                                   : field_add(f, old, f->number, &updated);
    if (!fits && f->overflow == FIELD_FAIL) {
        resp_put_null(x->reply);
        return;
    }
    bits_write(bytes, f->offset, f->bits, updated);
    updated = bits_read(bytes, size, f->offset, f->bits);
    int64_t now = f->is_signed ? sign_extend(updated, f->bits) : (int64_t)updated;
    resp_put_integer(x->reply, f->op == FIELD_SET ? old : now);
}

static void bitfield(struct exec *x, const struct kv_slice *a, uint32_t n, bool is_read_only)
{
    struct field f = {.overflow = FIELD_WRAP};
    uint32_t count = 0, used = 0;
    bool is_writing = false;
    uint64_t last_bit = 0;
    for (uint32_t i = 1; i < n; i += used) { /* first all syntax .. */
        f.op = FIELD_GET;
        if (!field_parse(x, a + i, n - i, &f, &used)) return;
        if (used == 2) continue;
        count++;
        if (f.op == FIELD_GET) continue;
        is_writing = true;
        if (f.offset + f.bits - 1 > last_bit) last_bit = f.offset + f.bits - 1;
    }
    if (is_writing && is_read_only) {
        exec_refuse(x, KV_BAD_ARGUMENT, "ERR BITFIELD_RO only supports the GET subcommand");
        return;
    }
    if (is_writing && last_bit >> 3 >= x->value_bytes_max) {
        exec_refuse_size(x);
        return;
    }
    struct exec_entry e;
    if (!exec_load(x, a[0], &e)) return;
    size_t size = e.live ? e.value.payload.size : 0;
    uint8_t *bytes = NULL;
    if (is_writing) {
        bytes = exec_bits_grow(x, &e, last_bit);
        if (bytes == NULL) return;
        if ((last_bit >> 3) + 1 > size) size = (size_t)(last_bit >> 3) + 1;
    } else if (e.live) {
        bytes = (uint8_t *)(uintptr_t)e.value.payload.data; /* GET writes nothing */
    }
    resp_put_array(x->reply, count);
    f.overflow = FIELD_WRAP;
    for (uint32_t i = 1; i < n; i += used) { /* .. then the work */
        if (!field_parse(x, a + i, n - i, &f, &used)) return;
        if (used != 2) field_run(x, &f, bytes, size);
    }
    if (is_writing) exec_put_end(x, &e.key, VALUE_FLAG_RAW, exec_expire_of(&e));
}

void exec_bitfield(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    bitfield(x, a, n, false);
}

void exec_bitfield_ro(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    bitfield(x, a, n, true);
}

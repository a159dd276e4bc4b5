#include "server/exec_bits.h"
#include "client/base/endian.h"

/* Strings as arrays of bits, the highest bit of a byte first. */

bool exec_bit_offset(struct exec *x, struct kv_slice text, unsigned scale, uint64_t *out)
{
    bool is_scaled = scale > 0 && text.size > 0 && text.data[0] == '#';
    if (is_scaled) text = kv_slice(text.data + 1, text.size - 1);
    int64_t offset;
    if (!kv_parse_i64(text, &offset) ||
        (is_scaled && __builtin_mul_overflow(offset, (int64_t)scale, &offset)) || offset < 0 ||
        offset >> 3 >= x->value_bytes_max)
        return exec_refuse(x, KV_BAD_ARGUMENT, "ERR bit offset is not an integer or out of range");
    *out = (uint64_t)offset;
    return true;
}

uint8_t *exec_bits_grow(struct exec *x, const struct exec_entry *e, uint64_t last_bit)
{
    size_t old = e->live ? e->value.payload.size : 0;
    size_t size = (size_t)(last_bit >> 3) + 1;
    if (size < old) size = old;
    uint8_t *payload = exec_put_begin(x, &e->key, size);
    if (payload == NULL) return NULL;
    if (old > 0) memcpy(payload, e->value.payload.data, old);
    memset(payload + old, 0, size - old);
    return payload;
}

void exec_setbit(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    uint64_t offset = 0;
    int64_t bit;
    struct exec_entry e;
    if (!exec_bit_offset(x, a[1], 0, &offset)) return;
    if (!kv_parse_i64(a[2], &bit) || (bit != 0 && bit != 1)) {
        exec_refuse(x, KV_BAD_ARGUMENT, "ERR bit is not an integer or out of range");
        return;
    }
    if (!exec_load(x, a[0], &e)) return;
    uint8_t *payload = exec_bits_grow(x, &e, offset);
    if (payload == NULL) return;
    uint8_t mask = (uint8_t)(0x80u >> (offset & 7));
    uint8_t *byte = &payload[offset >> 3];
    bool was_set = (*byte & mask) != 0;
    *byte = (uint8_t)(bit == 1 ? *byte | mask : *byte & ~mask);
    exec_put_end(x, &e.key, VALUE_FLAG_RAW, exec_expire_of(&e));
    resp_put_integer(x->reply, was_set);
}

void exec_getbit(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    (void)n;
    uint64_t offset = 0;
    struct exec_entry e;
    if (!exec_bit_offset(x, a[1], 0, &offset) || !exec_load(x, a[0], &e)) return;
    bool is_set = e.live && offset >> 3 < e.value.payload.size &&
                  (e.value.payload.data[offset >> 3] & (0x80u >> (offset & 7))) != 0;
    resp_put_integer(x->reply, is_set);
}

struct span { /* bits [first, last] of a string; empty if first > last */
    int64_t first, last;
};

/* `[start [end [BYTE|BIT]]]`, negative from the end. */
static bool span_parse(struct exec *x, const struct kv_slice *a, uint32_t n, size_t size,
                       struct span *out)
{
    int64_t start = 0, end = -1, unit = 8;
    if (n >= 1 && !exec_integer(x, a[0], &start)) return false;
    if (n == 3) { /* Redis looks at the unit first, then at `end` */
        if (exec_word(a[2], "BIT"))
            unit = 1;
        else if (!exec_word(a[2], "BYTE"))
            return exec_refuse_syntax(x);
    }
    if (n >= 2 && !exec_integer(x, a[1], &end)) return false;
    int64_t total = (int64_t)size * 8 / unit;
    if (start < 0) start = start < -total ? 0 : start + total;
    if (end < 0) end = end < -total ? 0 : end + total;
    if (end >= total) end = total - 1;
    *out = start > end ? (struct span){0, -1} : (struct span){start * unit, end * unit + unit - 1};
    return true;
}

static int64_t bits_count(const uint8_t *bytes, struct span s)
{
    int64_t count = 0;
    if (s.first > s.last) return 0;
    int64_t first = s.first >> 3, last = s.last >> 3, i = first;
    for (; i + 8 <= last + 1; i += 8)
        count += __builtin_popcountll(le64_get(bytes + i));
    for (; i <= last; i++)
        count += __builtin_popcount(bytes[i]);
    count -= __builtin_popcount(bytes[first] & ~(0xFFu >> (s.first & 7)) & 0xFF);
    count -= __builtin_popcount(bytes[last] & (0x7Fu >> (s.last & 7)));
    return count;
}

/* In the order of Redis: the key, how many arguments, both numbers, whether they are crossed
 * (empty, even where clamping would leave one byte), and only then the unit. */
void exec_bitcount(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    struct exec_entry e;
    struct span s = {0, -1};
    int64_t start = 0, end = 0;
    if (!exec_load(x, a[0], &e)) return;
    if (!e.live) {
        resp_put_integer(x->reply, 0);
        return;
    }
    if (n == 2 || n > 4) {
        exec_refuse_syntax(x);
        return;
    }
    if (n > 2 && (!exec_integer(x, a[1], &start) || !exec_integer(x, a[2], &end))) return;
    if (start < 0 && end < 0 && start > end) {
        resp_put_integer(x->reply, 0);
        return;
    }
    if (span_parse(x, a + 1, n - 1, e.value.payload.size, &s))
        resp_put_integer(x->reply, bits_count(e.value.payload.data, s));
}

/* The first bit of that value in the span, or -1. */
static int64_t bits_find(const uint8_t *bytes, struct span s, bool wanted)
{
    const uint8_t skipped = wanted ? 0x00 : 0xFF; /* a byte without the wanted bit */
    for (int64_t i = s.first; i <= s.last;) {
        if ((i & 7) == 0 && i + 7 <= s.last && bytes[i >> 3] == skipped)
            i += 8;
        else if (((bytes[i >> 3] & (0x80u >> (i & 7))) != 0) == wanted)
            return i;
        else
            i++;
    }
    return -1;
}

void exec_bitpos(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    int64_t bit;
    struct exec_entry e;
    struct span s = {0, -1};
    if (!exec_integer(x, a[1], &bit)) return;
    if (bit != 0 && bit != 1) {
        exec_refuse(x, KV_BAD_ARGUMENT, "ERR The bit argument must be 1 or 0.");
        return;
    }
    if (!exec_load(x, a[0], &e)) return;
    if (!e.live) { /* an endless run of zeros */
        resp_put_integer(x->reply, bit == 1 ? -1 : 0);
        return;
    }
    if (n > 5) {
        exec_refuse_syntax(x);
        return;
    }
    if (!span_parse(x, a + 2, n - 2, e.value.payload.size, &s)) return;
    int64_t found = bits_find(e.value.payload.data, s, bit == 1);
    /* Without an end the string counts as followed by zeros. */
    if (found < 0 && bit == 0 && n < 4 && s.first <= s.last) found = s.last + 1;
    resp_put_integer(x->reply, found);
}

enum bitop { BITOP_AND, BITOP_OR, BITOP_XOR, BITOP_NOT };

static void bits_combine(uint8_t *into, const struct kv_slice *s, enum bitop op, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = i < s->size ? s->data[i] : 0;
        switch (op) {
        case BITOP_AND: into[i] &= byte; break;
        case BITOP_OR: into[i] |= byte; break;
        case BITOP_XOR: into[i] ^= byte; break;
        case BITOP_NOT: into[i] = (uint8_t)~byte; break;
        }
    }
}

void exec_bitop(struct exec *x, const struct kv_slice *a, uint32_t n)
{
    static const char *const names[] = {"AND", "OR", "XOR", "NOT"};
    unsigned op = 0;
    while (op < 4 && !exec_word(a[0], names[op]))
        op++;
    if (op == 4) {
        exec_refuse_syntax(x);
        return;
    }
    if (op == BITOP_NOT && n != 3) {
        exec_refuse(x, KV_BAD_ARGUMENT, "ERR BITOP NOT must be called with a single source key.");
        return;
    }
    struct kv_key target;
    struct exec_entry e;
    if (!exec_key(x, a[1], &target)) return;
    size_t size = 0;
    for (uint32_t i = 2; i < n; i++) {
        if (!exec_load(x, a[i], &e)) return;
        if (e.live && e.value.payload.size > size) size = e.value.payload.size;
    }
    if (size == 0) {
        if (!exec_load(x, a[1], &e)) return;
        if (e.stored && !exec_delete(x, &e.key)) return;
        resp_put_integer(x->reply, 0);
        return;
    }
    uint8_t *payload = exec_put_begin(x, &target, size);
    if (payload == NULL) return;
    for (uint32_t i = 2; i < n; i++) {
        if (!exec_load(x, a[i], &e)) return;
        struct kv_slice source = e.live ? e.value.payload : kv_slice(NULL, 0);
        if (i == 2 && op != BITOP_NOT) memset(payload, 0, size);
        bits_combine(payload, &source, i == 2 && op != BITOP_NOT ? BITOP_OR : (enum bitop)op, size);
    }
    exec_put_end(x, &target, VALUE_FLAG_RAW, 0);
    resp_put_integer(x->reply, (int64_t)size);
}

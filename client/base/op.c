/* Names are found by a perfect hash: one multiplication, one load, one 16-byte
 * comparison. The table below is right only for this multiplier and this set of
 * names; test_op prints a new pair when a name is added that collides or is missing. */
#include "client/base/op.h"

#include "client/base/endian.h"
#include "client/base/op_table.h"

#include <assert.h>

static const struct kv_op_info infos[KV_OP_CODE_MAX + 1] = {
#define X(name, code, kind, amin, amax, first, last, step)                                         \
    [code] = {#name, KV_OP_KIND_##kind, amin, amax, first, last, step},
    KV_OPS(X)
#undef X
};

/* Zero-padded, so that a comparison has a fixed size. */
static const uint8_t padded[KV_OP_CODE_MAX + 1][OP_NAME_BYTES_MAX] = {
#define X(name, code, kind, amin, amax, first, last, step) [code] = #name,
    KV_OPS(X)
#undef X
};
#define X(name, code, kind, amin, amax, first, last, step)                                         \
    static_assert(sizeof #name <= OP_NAME_BYTES_MAX && (code) <= KV_OP_CODE_MAX, "table bounds");
KV_OPS(X)
#undef X

static const uint8_t slots[OP_SLOTS] = {
    [0] = KV_OP_SETNX, [8] = KV_OP_GETEX, [9] = KV_OP_SET, [10] = KV_OP_DECRBY,
    [15] = KV_OP_KVPUT, [17] = KV_OP_DBSIZE, [22] = KV_OP_INCRBY, [23] = KV_OP_RANDOMKEY,
    [24] = KV_OP_INCRBYFLOAT, [30] = KV_OP_GETBIT, [31] = KV_OP_DESCRIBE, [39] = KV_OP_TOUCH,
    [40] = KV_OP_LCS, [42] = KV_OP_PEXPIRETIME, [45] = KV_OP_KVSTATUS, [48] = KV_OP_EXPIRETIME,
    [50] = KV_OP_GETSET, [54] = KV_OP_KVREPLACE, [62] = KV_OP_RENAME, [68] = KV_OP_RENAMENX,
    [70] = KV_OP_KVDEL, [74] = KV_OP_KVCAS, [75] = KV_OP_FLUSHDB, [76] = KV_OP_KVFLUSH,
    [83] = KV_OP_DECR, [84] = KV_OP_CLOCK, [88] = KV_OP_KVMAP, [90] = KV_OP_PERSIST,
    [91] = KV_OP_KVPING, [93] = KV_OP_SETRANGE, [94] = KV_OP_INCR, [96] = KV_OP_MGET,
    [98] = KV_OP_NOOP, [100] = KV_OP_BITPOS, [101] = KV_OP_PTTL, [104] = KV_OP_APPEND,
    [106] = KV_OP_KVSCAN, [110] = KV_OP_SETEX, [113] = KV_OP_KEYS, [114] = KV_OP_DEL,
    [116] = KV_OP_TYPE, [128] = KV_OP_EXPIRE, [131] = KV_OP_SETBIT, [145] = KV_OP_MSETNX,
    [147] = KV_OP_PEXPIREAT, [150] = KV_OP_BITOP, [152] = KV_OP_KVCOUNT, [153] = KV_OP_PEXPIRE,
    [164] = KV_OP_GET, [165] = KV_OP_EXPIREAT, [170] = KV_OP_PSETEX, [176] = KV_OP_BITFIELD_RO,
    [182] = KV_OP_BITFIELD, [183] = KV_OP_KVGET, [188] = KV_OP_UNLINK, [189] = KV_OP_BITCOUNT,
    [194] = KV_OP_KVLOGLEVEL, [199] = KV_OP_EXISTS, [211] = KV_OP_COPY, [218] = KV_OP_STRLEN,
    [219] = KV_OP_TTL, [226] = KV_OP_MSET, [227] = KV_OP_OBJECT, [239] = KV_OP_SCAN,
    [243] = KV_OP_KVINCR, [244] = KV_OP_GETDEL, [245] = KV_OP_KVAWAIT, [246] = KV_OP_SUBSTR,
    [248] = KV_OP_GETRANGE, [249] = KV_OP_FLUSHALL,
};

const struct kv_op_info *kv_op_info(uint32_t code)
{
    return code <= KV_OP_CODE_MAX && infos[code].name != NULL ? &infos[code] : NULL;
}

enum kv_op kv_op_find(struct kv_slice name)
{
    if (name.size == 0 || name.size >= OP_NAME_BYTES_MAX) return KV_OP_NONE;
    uint8_t upper[OP_NAME_BYTES_MAX] = {0};
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i];
        if (c == 0) return KV_OP_NONE; /* would look like padding */
        upper[i] = c >= 'a' && c <= 'z' ? (uint8_t)(c - 32) : c;
    }
    uint8_t code = slots[op_name_slot(upper, OP_MULTIPLIER)];
    return memcmp(upper, padded[code], sizeof upper) == 0 ? (enum kv_op)code : KV_OP_NONE;
}

uint32_t kv_op_keys(const struct kv_op_info *info, uint32_t arg_count, uint32_t *first,
                    uint32_t *step)
{
    *first = 0;
    *step = 1;
    if (info->key_first == 0) return 0;
    assert(info->key_first > 0 && info->key_step > 0 && info->key_last != 0);
    int64_t last = info->key_last > 0 ? info->key_last : (int64_t)arg_count + info->key_last + 1;
    if (last > arg_count) last = arg_count;
    if (last < info->key_first) return 0;
    *first = (uint32_t)info->key_first - 1;
    *step = (uint32_t)info->key_step;
    return (uint32_t)(last - info->key_first) / *step + 1;
}

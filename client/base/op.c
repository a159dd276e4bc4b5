/* Names are found by a perfect hash: one multiplication, one load, one 16-byte
 * comparison. The table below is right only for this multiplier and this set of
 * names; test_op prints a new pair when a name is added that collides or is missing. */
#include "client/base/op.h"

#include "client/base/endian.h"
#include "client/base/op_table.h"

#include <assert.h>

static const struct kv_op_info infos[KV_OP_CODE_MAX + 1] = {
#define X(name, code, kind, amin, amax, first, last, step) \
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
#define X(name, code, kind, amin, amax, first, last, step) \
    static_assert(sizeof #name <= OP_NAME_BYTES_MAX && (code) <= KV_OP_CODE_MAX, "table bounds");
KV_OPS(X)
#undef X

static const uint8_t slots[OP_SLOTS] = {
    [0] = KV_OP_SETNX,
    [2] = KV_OP_OBJECT,
    [7] = KV_OP_INCRBY,
    [9] = KV_OP_KVGET,
    [14] = KV_OP_SETRANGE,
    [15] = KV_OP_SET,
    [21] = KV_OP_KVINCR,
    [25] = KV_OP_KEYS,
    [35] = KV_OP_SETEX,
    [38] = KV_OP_MSET,
    [53] = KV_OP_LCS,
    [57] = KV_OP_KVMOVE,
    [58] = KV_OP_GETDEL,
    [60] = KV_OP_KVLOGLEVEL,
    [62] = KV_OP_PEXPIREAT,
    [66] = KV_OP_KVSCAN,
    [68] = KV_OP_KVAWAIT,
    [71] = KV_OP_APPEND,
    [73] = KV_OP_INCR,
    [76] = KV_OP_GETSET,
    [78] = KV_OP_KVLEAD,
    [82] = KV_OP_RENAME,
    [83] = KV_OP_CLOCK,
    [84] = KV_OP_EXPIREAT,
    [87] = KV_OP_BITFIELD_RO,
    [92] = KV_OP_BITFIELD,
    [99] = KV_OP_PSETEX,
    [101] = KV_OP_KVPING,
    [102] = KV_OP_GETBIT,
    [104] = KV_OP_BITOP,
    [107] = KV_OP_SUBSTR,
    [108] = KV_OP_KVREPLACE,
    [110] = KV_OP_KVDEL,
    [111] = KV_OP_EXISTS,
    [112] = KV_OP_PEXPIRE,
    [118] = KV_OP_GETRANGE,
    [120] = KV_OP_GET,
    [122] = KV_OP_SPLIT,
    [125] = KV_OP_PERSIST,
    [126] = KV_OP_KVCOUNT,
    [130] = KV_OP_DECRBY,
    [131] = KV_OP_COPY,
    [132] = KV_OP_UNLINK,
    [133] = KV_OP_KSLIST,
    [138] = KV_OP_RANDOMKEY,
    [139] = KV_OP_GETEX,
    [140] = KV_OP_EXPIRETIME,
    [144] = KV_OP_MGET,
    [146] = KV_OP_KSDROP,
    [148] = KV_OP_TTL,
    [155] = KV_OP_KSCREATE,
    [157] = KV_OP_PTTL,
    [160] = KV_OP_SCAN,
    [164] = KV_OP_DEL,
    [169] = KV_OP_KVPUT,
    [170] = KV_OP_FLUSHALL,
    [171] = KV_OP_TYPE,
    [179] = KV_OP_KVSPLIT,
    [190] = KV_OP_KSSHOW,
    [193] = KV_OP_KVCAS,
    [194] = KV_OP_KSALTER,
    [196] = KV_OP_DECR,
    [197] = KV_OP_PEXPIRETIME,
    [200] = KV_OP_NOOP,
    [203] = KV_OP_TOUCH,
    [209] = KV_OP_KVSTATUS,
    [212] = KV_OP_STRLEN,
    [214] = KV_OP_BITPOS,
    [215] = KV_OP_BITCOUNT,
    [219] = KV_OP_EXPIRE,
    [221] = KV_OP_FLUSHDB,
    [222] = KV_OP_KVMAP,
    [227] = KV_OP_MSETNX,
    [229] = KV_OP_KVFLUSH,
    [235] = KV_OP_DBSIZE,
    [237] = KV_OP_INCRBYFLOAT,
    [240] = KV_OP_RENAMENX,
    [249] = KV_OP_DESCRIBE,
    [253] = KV_OP_SETBIT,
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

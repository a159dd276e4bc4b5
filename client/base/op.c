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
    [1] = KV_OP_UNLINK,
    [4] = KV_OP_DECR,
    [5] = KV_OP_FLUSHALL,
    [7] = KV_OP_EXPIREAT,
    [14] = KV_OP_PEXPIRETIME,
    [15] = KV_OP_MSET,
    [21] = KV_OP_VOID,
    [23] = KV_OP_KVCAS,
    [31] = KV_OP_SPLIT,
    [33] = KV_OP_SETEX,
    [34] = KV_OP_GETEX,
    [37] = KV_OP_SETNX,
    [40] = KV_OP_KVINCR,
    [44] = KV_OP_BITFIELD,
    [45] = KV_OP_DEL,
    [46] = KV_OP_KVMAP,
    [47] = KV_OP_KVSTATUS,
    [50] = KV_OP_KSCREATE,
    [56] = KV_OP_EXPIRETIME,
    [57] = KV_OP_BITPOS,
    [64] = KV_OP_KVPUT,
    [69] = KV_OP_KVSCAN,
    [74] = KV_OP_TOUCH,
    [81] = KV_OP_FREEZE,
    [86] = KV_OP_SUBSTR,
    [88] = KV_OP_SETRANGE,
    [89] = KV_OP_GETRANGE,
    [90] = KV_OP_KVDEL,
    [92] = KV_OP_EXPIRE,
    [95] = KV_OP_MGET,
    [99] = KV_OP_KVREPLACE,
    [104] = KV_OP_UNFREEZE,
    [105] = KV_OP_PSETEX,
    [107] = KV_OP_PTTL,
    [108] = KV_OP_PEXPIREAT,
    [109] = KV_OP_GETSET,
    [110] = KV_OP_RENAMENX,
    [111] = KV_OP_KVFLUSH,
    [113] = KV_OP_KSALTER,
    [114] = KV_OP_KSLIST,
    [116] = KV_OP_DBSIZE,
    [118] = KV_OP_SETBIT,
    [119] = KV_OP_GETBIT,
    [123] = KV_OP_EXISTS,
    [125] = KV_OP_BITOP,
    [129] = KV_OP_KVPING,
    [136] = KV_OP_TTL,
    [137] = KV_OP_KVMOVE,
    [139] = KV_OP_TYPE,
    [141] = KV_OP_INCRBY,
    [142] = KV_OP_LCS,
    [146] = KV_OP_KVSPLIT,
    [148] = KV_OP_MSETNX,
    [155] = KV_OP_SET,
    [156] = KV_OP_GET,
    [157] = KV_OP_KVMERGE,
    [158] = KV_OP_GETDEL,
    [169] = KV_OP_KEYS,
    [170] = KV_OP_STRLEN,
    [175] = KV_OP_APPEND,
    [181] = KV_OP_COPY,
    [185] = KV_OP_PEXPIRE,
    [191] = KV_OP_PERSIST,
    [194] = KV_OP_KVCOUNT,
    [195] = KV_OP_ABSORB,
    [199] = KV_OP_RENAME,
    [200] = KV_OP_INCR,
    [201] = KV_OP_DECRBY,
    [202] = KV_OP_KVGET,
    [204] = KV_OP_FLUSHDB,
    [213] = KV_OP_KVLEAD,
    [220] = KV_OP_INCRBYFLOAT,
    [222] = KV_OP_SCAN,
    [223] = KV_OP_KSDROP,
    [224] = KV_OP_CLOCK,
    [226] = KV_OP_RANDOMKEY,
    [227] = KV_OP_KVAWAIT,
    [232] = KV_OP_DESCRIBE,
    [233] = KV_OP_KVLOGLEVEL,
    [234] = KV_OP_NOOP,
    [241] = KV_OP_BITFIELD_RO,
    [243] = KV_OP_KSSHOW,
    [245] = KV_OP_OBJECT,
    [252] = KV_OP_BITCOUNT,
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

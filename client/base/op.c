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
    [0] = KV_OP_KSSEED,
    [7] = KV_OP_SETNX,
    [8] = KV_OP_GETBIT,
    [12] = KV_OP_INCR,
    [15] = KV_OP_SET,
    [20] = KV_OP_SUBSTR,
    [22] = KV_OP_MSETNX,
    [28] = KV_OP_BITPOS,
    [31] = KV_OP_KVSCAN,
    [34] = KV_OP_DBSIZE,
    [36] = KV_OP_KVLEAD,
    [41] = KV_OP_FLUSHALL,
    [49] = KV_OP_PEXPIRE,
    [55] = KV_OP_VOID,
    [61] = KV_OP_KVGET,
    [62] = KV_OP_PTTL,
    [67] = KV_OP_PSETEX,
    [69] = KV_OP_TOUCH,
    [70] = KV_OP_KSLIST,
    [73] = KV_OP_KSCREATE,
    [74] = KV_OP_KVMERGE,
    [81] = KV_OP_PEXPIRETIME,
    [82] = KV_OP_KVCAS,
    [83] = KV_OP_BITFIELD_RO,
    [84] = KV_OP_KVSPLIT,
    [86] = KV_OP_SETEX,
    [87] = KV_OP_UNLINK,
    [88] = KV_OP_RENAME,
    [94] = KV_OP_KVFLUSH,
    [97] = KV_OP_KVPUT,
    [98] = KV_OP_PEXPIREAT,
    [99] = KV_OP_TTL,
    [101] = KV_OP_STRLEN,
    [102] = KV_OP_SETRANGE,
    [104] = KV_OP_KVHOT,
    [108] = KV_OP_KSDROP,
    [110] = KV_OP_KSSHOW,
    [116] = KV_OP_FREEZE,
    [120] = KV_OP_CLOCK,
    [121] = KV_OP_FLUSHDB,
    [123] = KV_OP_OBJECT,
    [127] = KV_OP_KSNODE,
    [128] = KV_OP_KSWELCOME,
    [130] = KV_OP_EXISTS,
    [131] = KV_OP_KVMOVE,
    [132] = KV_OP_EXPIRE,
    [133] = KV_OP_EXPIRETIME,
    [134] = KV_OP_SPLIT,
    [137] = KV_OP_KVPING,
    [138] = KV_OP_SETBIT,
    [140] = KV_OP_GET,
    [142] = KV_OP_COPY,
    [148] = KV_OP_PERSIST,
    [150] = KV_OP_KSALTER,
    [153] = KV_OP_RENAMENX,
    [160] = KV_OP_MSET,
    [165] = KV_OP_DECRBY,
    [168] = KV_OP_DEL,
    [169] = KV_OP_LCS,
    [176] = KV_OP_BITOP,
    [184] = KV_OP_DECR,
    [185] = KV_OP_SCAN,
    [186] = KV_OP_DESCRIBE,
    [189] = KV_OP_UNFREEZE,
    [190] = KV_OP_APPEND,
    [191] = KV_OP_TYPE,
    [193] = KV_OP_KEYS,
    [196] = KV_OP_EXPIREAT,
    [197] = KV_OP_KVCOUNT,
    [204] = KV_OP_BITCOUNT,
    [205] = KV_OP_KVAWAIT,
    [207] = KV_OP_BITFIELD,
    [210] = KV_OP_KSTOKEN,
    [211] = KV_OP_GETEX,
    [213] = KV_OP_ABSORB,
    [217] = KV_OP_NOOP,
    [222] = KV_OP_KVDEL,
    [225] = KV_OP_GETDEL,
    [227] = KV_OP_GETRANGE,
    [228] = KV_OP_RANDOMKEY,
    [229] = KV_OP_KVMAP,
    [232] = KV_OP_KVSTATUS,
    [233] = KV_OP_INCRBYFLOAT,
    [234] = KV_OP_GETSET,
    [235] = KV_OP_MGET,
    [239] = KV_OP_KVREPLACE,
    [241] = KV_OP_KVLOGLEVEL,
    [248] = KV_OP_KSJOIN,
    [249] = KV_OP_INCRBY,
    [251] = KV_OP_KVINCR,
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

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
    [0] = KV_OP_KSWELCOME,
    [2] = KV_OP_LCS,
    [5] = KV_OP_KVSPLIT,
    [11] = KV_OP_SET,
    [12] = KV_OP_RENAME,
    [14] = KV_OP_PEXPIREAT,
    [15] = KV_OP_PEXPIRE,
    [17] = KV_OP_INCRBY,
    [18] = KV_OP_KVAWAIT,
    [22] = KV_OP_KSCREATE,
    [25] = KV_OP_DECRBY,
    [29] = KV_OP_KVMAP,
    [36] = KV_OP_SETRANGE,
    [39] = KV_OP_KVLEAD,
    [41] = KV_OP_KVMOVE,
    [44] = KV_OP_KVSCAN,
    [54] = KV_OP_BITCOUNT,
    [58] = KV_OP_OBJECT,
    [64] = KV_OP_KSLIST,
    [67] = KV_OP_PERSIST,
    [70] = KV_OP_NOOP,
    [73] = KV_OP_FLUSHDB,
    [84] = KV_OP_KSALTER,
    [85] = KV_OP_KVREPLACE,
    [89] = KV_OP_KSSEED,
    [94] = KV_OP_MSET,
    [99] = KV_OP_KSDROP,
    [102] = KV_OP_PSETEX,
    [105] = KV_OP_DBSIZE,
    [107] = KV_OP_KVSTATUS,
    [113] = KV_OP_SPLIT,
    [116] = KV_OP_GETBIT,
    [122] = KV_OP_FLUSHALL,
    [124] = KV_OP_TTL,
    [128] = KV_OP_PEXPIRETIME,
    [130] = KV_OP_SCAN,
    [131] = KV_OP_KVCAS,
    [136] = KV_OP_KVINCR,
    [137] = KV_OP_EXPIRETIME,
    [140] = KV_OP_SUBSTR,
    [141] = KV_OP_TYPE,
    [142] = KV_OP_GETDEL,
    [146] = KV_OP_KVGET,
    [152] = KV_OP_KVFLUSH,
    [157] = KV_OP_STRLEN,
    [159] = KV_OP_TOUCH,
    [161] = KV_OP_KVCOUNT,
    [164] = KV_OP_RENAMENX,
    [165] = KV_OP_INCR,
    [168] = KV_OP_GETEX,
    [174] = KV_OP_DECR,
    [175] = KV_OP_KVPUT,
    [176] = KV_OP_KSJOIN,
    [177] = KV_OP_GETSET,
    [178] = KV_OP_MGET,
    [179] = KV_OP_EXPIREAT,
    [183] = KV_OP_COPY,
    [187] = KV_OP_GET,
    [191] = KV_OP_KSNODE,
    [194] = KV_OP_PTTL,
    [195] = KV_OP_SETBIT,
    [201] = KV_OP_KEYS,
    [203] = KV_OP_BITFIELD_RO,
    [207] = KV_OP_BITPOS,
    [208] = KV_OP_DEL,
    [209] = KV_OP_KVPING,
    [212] = KV_OP_GETRANGE,
    [213] = KV_OP_BITFIELD,
    [215] = KV_OP_KSSHOW,
    [216] = KV_OP_BITOP,
    [220] = KV_OP_INCRBYFLOAT,
    [221] = KV_OP_KSTOKEN,
    [223] = KV_OP_CLOCK,
    [228] = KV_OP_EXISTS,
    [230] = KV_OP_KVDEL,
    [233] = KV_OP_UNLINK,
    [234] = KV_OP_EXPIRE,
    [242] = KV_OP_APPEND,
    [244] = KV_OP_SETNX,
    [247] = KV_OP_SETEX,
    [252] = KV_OP_MSETNX,
    [253] = KV_OP_KVLOGLEVEL,
    [254] = KV_OP_RANDOMKEY,
    [255] = KV_OP_DESCRIBE,
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

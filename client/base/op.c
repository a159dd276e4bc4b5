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
    [2] = KV_OP_GETDEL,
    [3] = KV_OP_RANDOMKEY,
    [4] = KV_OP_PEXPIRE,
    [6] = KV_OP_TYPE,
    [8] = KV_OP_BITCOUNT,
    [18] = KV_OP_RENAME,
    [20] = KV_OP_COPY,
    [26] = KV_OP_SPLIT,
    [31] = KV_OP_KVFLUSH,
    [34] = KV_OP_DBSIZE,
    [35] = KV_OP_PERSIST,
    [45] = KV_OP_SETEX,
    [49] = KV_OP_UNLINK,
    [51] = KV_OP_FLUSHALL,
    [54] = KV_OP_KVMAP,
    [55] = KV_OP_TTL,
    [56] = KV_OP_KVGET,
    [63] = KV_OP_MSETNX,
    [66] = KV_OP_INCRBYFLOAT,
    [75] = KV_OP_GETEX,
    [76] = KV_OP_KVCAS,
    [78] = KV_OP_PEXPIRETIME,
    [87] = KV_OP_APPEND,
    [88] = KV_OP_OBJECT,
    [91] = KV_OP_DECRBY,
    [94] = KV_OP_KVMOVE,
    [97] = KV_OP_KVREPLACE,
    [99] = KV_OP_BITFIELD_RO,
    [102] = KV_OP_KEYS,
    [105] = KV_OP_STRLEN,
    [111] = KV_OP_BITFIELD,
    [118] = KV_OP_EXPIRETIME,
    [123] = KV_OP_SET,
    [124] = KV_OP_SETRANGE,
    [126] = KV_OP_DECR,
    [127] = KV_OP_KVPUT,
    [138] = KV_OP_FLUSHDB,
    [140] = KV_OP_INCRBY,
    [141] = KV_OP_PEXPIREAT,
    [152] = KV_OP_EXPIRE,
    [153] = KV_OP_GET,
    [154] = KV_OP_GETRANGE,
    [158] = KV_OP_LCS,
    [160] = KV_OP_PSETEX,
    [161] = KV_OP_BITPOS,
    [167] = KV_OP_KVSTATUS,
    [170] = KV_OP_SETBIT,
    [175] = KV_OP_INCR,
    [177] = KV_OP_CLOCK,
    [180] = KV_OP_SCAN,
    [181] = KV_OP_BITOP,
    [183] = KV_OP_RENAMENX,
    [187] = KV_OP_PTTL,
    [198] = KV_OP_MSET,
    [200] = KV_OP_GETBIT,
    [201] = KV_OP_KVAWAIT,
    [202] = KV_OP_MGET,
    [205] = KV_OP_KVPING,
    [207] = KV_OP_SUBSTR,
    [214] = KV_OP_EXPIREAT,
    [218] = KV_OP_NOOP,
    [219] = KV_OP_KVSPLIT,
    [220] = KV_OP_SETNX,
    [228] = KV_OP_DEL,
    [229] = KV_OP_KVSCAN,
    [235] = KV_OP_GETSET,
    [237] = KV_OP_EXISTS,
    [241] = KV_OP_TOUCH,
    [247] = KV_OP_KVDEL,
    [249] = KV_OP_DESCRIBE,
    [251] = KV_OP_KVLOGLEVEL,
    [253] = KV_OP_KVCOUNT,
    [255] = KV_OP_KVINCR,
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

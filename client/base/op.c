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
    [6] = KV_OP_JOBSTEP,
    [9] = KV_OP_INCRBY,
    [14] = KV_OP_BITCOUNT,
    [15] = KV_OP_RENAME,
    [26] = KV_OP_BITPOS,
    [28] = KV_OP_KVAWAIT,
    [29] = KV_OP_GET,
    [35] = KV_OP_JOBSET,
    [51] = KV_OP_EXPIRETIME,
    [61] = KV_OP_RENAMENX,
    [68] = KV_OP_KSCREATE,
    [69] = KV_OP_UNFREEZE,
    [74] = KV_OP_JOBCLAIM,
    [78] = KV_OP_KVPUT,
    [85] = KV_OP_UNLINK,
    [88] = KV_OP_SETBIT,
    [104] = KV_OP_DBSIZE,
    [105] = KV_OP_DEL,
    [107] = KV_OP_KVINCR,
    [115] = KV_OP_PTTL,
    [123] = KV_OP_EXPIREAT,
    [125] = KV_OP_GETDEL,
    [128] = KV_OP_INCRBYFLOAT,
    [133] = KV_OP_KVFLUSH,
    [134] = KV_OP_KVLOGLEVEL,
    [137] = KV_OP_KVMAP,
    [144] = KV_OP_COPY,
    [145] = KV_OP_DESCRIBE,
    [149] = KV_OP_DECRBY,
    [150] = KV_OP_JOBLIST,
    [151] = KV_OP_KVLABELS,
    [152] = KV_OP_GETBIT,
    [156] = KV_OP_KVLEFT,
    [166] = KV_OP_KVCAS,
    [171] = KV_OP_FLUSHDB,
    [182] = KV_OP_SUBSTR,
    [187] = KV_OP_SPLIT,
    [191] = KV_OP_SETEX,
    [194] = KV_OP_JOBSHOW,
    [200] = KV_OP_KEYS,
    [201] = KV_OP_KSALTER,
    [206] = KV_OP_VOID,
    [218] = KV_OP_MGET,
    [221] = KV_OP_KVSCAN,
    [225] = KV_OP_KSSEED,
    [231] = KV_OP_LCS,
    [239] = KV_OP_KSDROP,
    [248] = KV_OP_STRLEN,
    [255] = KV_OP_GETEX,
    [263] = KV_OP_SETNX,
    [271] = KV_OP_BITFIELD,
    [273] = KV_OP_PSETEX,
    [278] = KV_OP_MSETNX,
    [286] = KV_OP_TTL,
    [292] = KV_OP_APPEND,
    [294] = KV_OP_ABSORB,
    [295] = KV_OP_MSET,
    [305] = KV_OP_KVCOUNT,
    [307] = KV_OP_KSJOIN,
    [309] = KV_OP_KVGET,
    [321] = KV_OP_KSNODE,
    [322] = KV_OP_KVSPLIT,
    [324] = KV_OP_OBJECT,
    [325] = KV_OP_SETRANGE,
    [332] = KV_OP_JOBOPEN,
    [335] = KV_OP_CLOCK,
    [342] = KV_OP_KVREPLACE,
    [350] = KV_OP_TOUCH,
    [351] = KV_OP_KVMERGE,
    [353] = KV_OP_PEXPIRETIME,
    [354] = KV_OP_INCR,
    [362] = KV_OP_RANDOMKEY,
    [368] = KV_OP_FREEZE,
    [379] = KV_OP_KSTOKEN,
    [382] = KV_OP_KSLIST,
    [388] = KV_OP_GETRANGE,
    [391] = KV_OP_KVMOVE,
    [399] = KV_OP_SCAN,
    [405] = KV_OP_EXPIRE,
    [406] = KV_OP_GETSET,
    [413] = KV_OP_TYPE,
    [414] = KV_OP_KVSTATUS,
    [419] = KV_OP_PEXPIREAT,
    [420] = KV_OP_KVPING,
    [423] = KV_OP_BITFIELD_RO,
    [425] = KV_OP_PEXPIRE,
    [427] = KV_OP_NOOP,
    [431] = KV_OP_KVHOT,
    [445] = KV_OP_PERSIST,
    [452] = KV_OP_BITOP,
    [456] = KV_OP_EXISTS,
    [464] = KV_OP_KVLEAD,
    [465] = KV_OP_KSWELCOME,
    [476] = KV_OP_KVDEL,
    [477] = KV_OP_SET,
    [493] = KV_OP_FLUSHALL,
    [494] = KV_OP_DECR,
    [500] = KV_OP_KSSHOW,
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

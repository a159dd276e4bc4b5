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
    [3] = KV_OP_BITFIELD_RO,
    [6] = KV_OP_GET,
    [9] = KV_OP_KVPING,
    [10] = KV_OP_BITFIELD,
    [11] = KV_OP_APPEND,
    [12] = KV_OP_TOUCH,
    [13] = KV_OP_SPLIT,
    [18] = KV_OP_DECRBY,
    [21] = KV_OP_MSET,
    [25] = KV_OP_DESCRIBE,
    [26] = KV_OP_GETEX,
    [28] = KV_OP_COPY,
    [30] = KV_OP_KEYS,
    [33] = KV_OP_RENAME,
    [38] = KV_OP_KVAWAIT,
    [41] = KV_OP_UNLINK,
    [44] = KV_OP_PEXPIREAT,
    [45] = KV_OP_KVPUT,
    [49] = KV_OP_GETBIT,
    [50] = KV_OP_BITOP,
    [52] = KV_OP_SCAN,
    [67] = KV_OP_GETDEL,
    [69] = KV_OP_RENAMENX,
    [71] = KV_OP_SUBSTR,
    [84] = KV_OP_KVGET,
    [93] = KV_OP_DEL,
    [94] = KV_OP_PTTL,
    [97] = KV_OP_FLUSHALL,
    [100] = KV_OP_CLOCK,
    [101] = KV_OP_KVLOGLEVEL,
    [104] = KV_OP_MGET,
    [106] = KV_OP_BITCOUNT,
    [111] = KV_OP_EXPIRE,
    [113] = KV_OP_KVSCAN,
    [117] = KV_OP_GETSET,
    [119] = KV_OP_SETRANGE,
    [121] = KV_OP_INCRBY,
    [124] = KV_OP_KVSTATUS,
    [125] = KV_OP_DBSIZE,
    [137] = KV_OP_OBJECT,
    [138] = KV_OP_KVFLUSH,
    [145] = KV_OP_SET,
    [146] = KV_OP_KVCOUNT,
    [147] = KV_OP_MSETNX,
    [148] = KV_OP_DECR,
    [151] = KV_OP_EXPIREAT,
    [153] = KV_OP_TYPE,
    [154] = KV_OP_PEXPIRE,
    [163] = KV_OP_FLUSHDB,
    [165] = KV_OP_SETEX,
    [170] = KV_OP_NOOP,
    [174] = KV_OP_KVINCR,
    [179] = KV_OP_KVSPLIT,
    [185] = KV_OP_EXPIRETIME,
    [188] = KV_OP_SETBIT,
    [196] = KV_OP_TTL,
    [202] = KV_OP_EXISTS,
    [207] = KV_OP_PSETEX,
    [210] = KV_OP_KVDEL,
    [221] = KV_OP_BITPOS,
    [224] = KV_OP_PERSIST,
    [226] = KV_OP_LCS,
    [228] = KV_OP_KVCAS,
    [231] = KV_OP_RANDOMKEY,
    [232] = KV_OP_KVREPLACE,
    [234] = KV_OP_STRLEN,
    [237] = KV_OP_GETRANGE,
    [244] = KV_OP_KVMAP,
    [245] = KV_OP_INCRBYFLOAT,
    [247] = KV_OP_PEXPIRETIME,
    [251] = KV_OP_INCR,
    [255] = KV_OP_SETNX,
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

#include "server/passwd.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>

enum {
    OPS = 3,
    MEMORY_BYTES = 64 << 20,
    /* What a line may ask of the node that checks it: a line is configuration, yet a slip of
     * the pen in it must not cost gigabytes or minutes (R25). */
    LINE_MEMORY_KIB_MAX = 256 << 10,
    LINE_OPS_MAX = 16
};
static_assert(PASSWD_LINE_BYTES == crypto_pwhash_STRBYTES, "libsodium's line fits");

enum kv_err passwd_make(struct kv_slice password, char line[PASSWD_LINE_BYTES])
{
    if (sodium_init() < 0) return KV_NO_SPACE;
    if (password.size > crypto_pwhash_PASSWD_MAX) return KV_TOO_BIG;
    const char *text = password.size == 0 ? "" : (const char *)password.data;
    int failed = crypto_pwhash_str_alg(line, text, password.size, OPS, MEMORY_BYTES,
                                       crypto_pwhash_ALG_ARGON2ID13);
    return failed == 0 ? KV_OK : KV_NO_SPACE;
}

bool passwd_line_valid(const char *line)
{
    unsigned memory = 0, ops = 0, lanes = 0;
    int end = 0;
    if (strlen(line) >= PASSWD_LINE_BYTES) return false;
    /* NOLINTNEXTLINE(cert-err34-c): nine digits cannot overflow, and end tells whether all matched */
    int fields = sscanf(line, "$argon2id$v=19$m=%9u,t=%9u,p=%9u$%n", &memory, &ops, &lanes, &end);
    if (fields != 3 || end == 0 || lanes != 1) return false;
    if (memory > LINE_MEMORY_KIB_MAX || ops > LINE_OPS_MAX) return false;
    /* -1: does not decode. 0 and 1 tell whether our own costs are met, which is the user's choice. */
    return sodium_init() >= 0 && crypto_pwhash_str_needs_rehash(line, OPS, MEMORY_BYTES) >= 0;
}

enum kv_err passwd_check(const char *line, struct kv_slice password)
{
    if (!passwd_line_valid(line) || password.size > crypto_pwhash_PASSWD_MAX) return KV_AUTH;
    const char *text = password.size == 0 ? "" : (const char *)password.data;
    char padded[PASSWD_LINE_BYTES] = {0}; /* libsodium may read all of it */
    memcpy(padded, line, strlen(line));
    return crypto_pwhash_str_verify(padded, text, password.size) == 0 ? KV_OK : KV_AUTH;
}
